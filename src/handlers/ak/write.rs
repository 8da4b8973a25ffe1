//! Store updates of devices: changes, gathered for a moment; everything after a reconnection.
//!
//! Fields of `anthill:ak:<device>`: each command by its code holds the data of its last reply. All other
//! names cannot be codes, which are four capitals or digits: `ASTZ.refused` and `ASTZ.fields` belong to a
//! command, and lower-case words to the device.

use std::collections::{HashSet, VecDeque};
use std::mem;

use crate::handlers::Moment;
use crate::ids::HostId;
use crate::limits::{
    AK_DEVICES_MAX, OUTSIDE_AGAIN_S, OUTSIDE_ALL_S, OUTSIDE_OPS_MAX, OUTSIDE_PACE_MS,
    OUTSIDE_WRITE_MS,
};
use crate::store::op::{Op, Outside, Place, device as field};
use crate::time::{Instant, Span};

use super::device::Device;
use super::{Devices, Value};

const GATHER: Span = Span::from_millis(OUTSIDE_WRITE_MS);
const PACE: Span = Span::from_millis(OUTSIDE_PACE_MS);
const ALL: Span = Span::from_secs(OUTSIDE_ALL_S);
const AGAIN: Span = Span::from_secs(OUTSIDE_AGAIN_S);

/// Devices to be written, and the times of their writes.
#[derive(Debug, Default)]
pub(super) struct Pen {
    /// In the order of their changes, each with the time of its write.
    queue: VecDeque<(u32, Instant)>,
    queued: HashSet<u32>,
    /// Names whose keys are deleted first.
    gone: Vec<HostId>,
    /// Earliest time of the next write: the store must first handle the last one.
    paced: Instant,
    /// The store connection on which these were written.
    session: Option<u32>,
    again: Option<Instant>,
}

impl Pen {
    pub(super) fn changed(&mut self, slot: u32, now: Instant) {
        if self.queued.insert(slot) {
            self.queue.push_back((slot, now + GATHER));
        }
    }

    /// Queues all devices now.
    fn all(&mut self, slots: &[u32], now: Instant) {
        self.queue = slots.iter().map(|slot| (*slot, now)).collect();
        self.queued = slots.iter().copied().collect();
        self.paced = now;
    }

    /// Queues the deletion of a device's key. With `again` another device has its name, and writes
    /// its own fields.
    pub(super) fn gone(&mut self, name: HostId, again: bool) {
        // While the store is unavailable there may be many reloads; a name is stored once.
        if !self.gone.contains(&name) && (again || self.gone.len() < AK_DEVICES_MAX) {
            self.gone.push(name);
        }
    }

    fn next(&self) -> Option<Instant> {
        let gone = self.gone.first().map(|_| self.paced);
        let changed = self.queue.front().map(|(_, due)| *due);
        let next = gone.or(changed).filter(|_| self.session.is_some())?;
        Some(next.max(self.paced))
    }

    /// Time of the next write, if the store is available. Due writes wait for the store's room,
    /// which it reports itself.
    fn due(&self, now: Instant) -> Option<Instant> {
        let both = [self.next(), self.again].into_iter().flatten();
        both.filter(|due| *due > now).min()
    }
}

impl Devices {
    /// Takes the due operations. `session` is the number of the store connection, while there is
    /// one.
    pub fn pull(&mut self, at: Moment, session: Option<u32>, ops: &mut Vec<Op>) {
        if session != self.pen.session {
            self.pen.session = session;
            self.pen.again = session.map(|_| at.now + AGAIN);
            self.write_all(at.now);
        }
        if self.pen.again.is_some_and(|again| again <= at.now) {
            self.pen.again = None;
            self.write_all(at.now);
        }
        if self.pen.next().is_none_or(|next| next > at.now) {
            return;
        }
        for name in self.pen.gone.drain(..) {
            ops.push(Op::Outside(Box::new(Outside::gone(Place::Device(name)))));
        }
        for _ in 0..OUTSIDE_OPS_MAX {
            let is_due = |next: &mut (u32, Instant)| next.1 <= at.now;
            let Some((slot, _)) = self.pen.queue.pop_front_if(is_due) else {
                break;
            };
            self.pen.queued.remove(&slot);
            let is_leased = self.is_leased;
            // Behind a takeover the state is written with the first result: until then that of the
            // last node is shown.
            let is_known =
                |device: &&mut Device| !is_leased || (device.is_polled() && device.is_tried());
            if let Some(Some(device)) = self.slots.get_mut(slot as usize)
                && let Some(device) = Some(device).filter(is_known)
            {
                ops.push(Op::Outside(Box::new(written(device, is_leased, at.now))));
            }
        }
        self.pen.paced = at.now + PACE;
    }

    /// Time of the next write, except one that is due already.
    #[must_use]
    pub fn write_due(&self, now: Instant) -> Option<Instant> {
        self.pen.due(now)
    }

    fn write_all(&mut self, now: Instant) {
        for device in self.slots.iter_mut().flatten() {
            all_of(device, now);
            device.written_whole = false;
        }
        self.pen.all(&self.order, now);
    }
}

fn all_of(device: &mut Device, now: Instant) {
    device.facts_changed = true;
    device.good_changed = true;
    device.values_changed = u32::MAX;
    device.marks_changed = u32::MAX;
    device.all_written = now;
}

/// Changes of a device since its last write. All fields are written from time to time, since
/// another program may have deleted some.
fn written(device: &mut Device, is_leased: bool, now: Instant) -> Outside {
    if now.since(device.all_written) >= ALL {
        all_of(device, now);
    }
    let mut op = Outside::of(Place::Device(device.rules.name.clone()));
    // An earlier process may have left fields of commands that are no longer configured.
    op.whole = !mem::replace(&mut device.written_whole, true);
    let changed = mem::take(&mut device.values_changed);
    let marked = mem::take(&mut device.marks_changed);
    for (index, value) in device.values.iter().enumerate() {
        let code = device.rules.commands[index].code.as_str();
        if let Some(value) = value {
            if changed & (1 << index) != 0 {
                data_into(&mut op, code, value);
            }
            if marked & (1 << index) != 0 {
                marks_into(&mut op, code, value);
            }
        }
    }
    if mem::take(&mut device.good_changed) {
        let good = (device.last_good.0 > 0).then(|| device.last_good.0.to_string());
        op.set_or_remove(field::LAST_GOOD, good);
    }
    if mem::take(&mut device.facts_changed) {
        op.set(field::STATE, device.state().as_str());
        op.set(field::SINCE, device.since.0.to_string());
        op.set(field::ERROR_STATUS, device.status.to_string());
        op.set_or_remove(field::REASON, device.reason.clone());
        // Other nodes show it.
        if is_leased {
            op.set(field::ADDR, device.rules.addr.to_string());
        }
    }
    op
}

/// The data of a reply, and their words by name.
fn data_into(op: &mut Outside, code: &str, value: &Value) {
    // Data that the device could not determine are absent: the marks in their place are stored.
    let data = match value.refused {
        Some(word) if value.data.is_empty() => word.as_str().to_owned(),
        _ => value.data.clone(),
    };
    op.set(code, data);
    if let Some(fields) = &value.fields
        && let Ok(fields) = serde_json::to_string(fields)
    {
        op.set(&format!("{code}{}", field::FIELDS), fields);
    }
}

/// Sets the refusal of a reply, and removes its named fields if it has none.
fn marks_into(op: &mut Outside, code: &str, value: &Value) {
    let name = |field: &str| format!("{code}{field}");
    let refused = value.refused.map(|refused| refused.as_str().to_owned());
    op.set_or_remove(&name(field::REFUSED), refused);
    if value.fields.is_none() {
        op.set_or_remove(&name(field::FIELDS), None);
    }
}
