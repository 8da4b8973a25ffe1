//! The send queue: tasks and console commands on their way to hosts. Pulled with a budget per turn,
//! so that ten thousand hosts do not stop the loop.

use compact_str::CompactString;

use crate::handlers::context::Ctx;
use crate::handlers::tasks::Tasks;
use crate::ids::HostId;
use crate::store::op::TaskState;
use crate::time::Instant;

/// An entry of the send queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outgoing {
    /// A task to a host.
    Delivery(u32),
    /// A console command to a host of it.
    Command {
        /// The number of the command.
        number: u64,
        /// Index of the recipient.
        index: usize,
    },
}

/// One try of a delivery.
#[derive(Debug)]
pub(crate) struct Try {
    pub(crate) host: HostId,
    slot: u32,
    /// Number of this try, from 1.
    number: u32,
    /// Time of the next one.
    due: Instant,
    /// Time of this one.
    at: Instant,
}

impl Tasks {
    pub(crate) fn next_send(&mut self) -> Option<Outgoing> {
        self.sends.pop_front()
    }

    pub(crate) fn clear_sends(&mut self) {
        self.sends.clear();
    }

    pub(crate) fn has_sends(&self) -> bool {
        !self.sends.is_empty()
    }

    /// Begins the next try of a delivery, unless it waits for its host.
    pub(crate) fn begin_try(&mut self, cx: &Ctx<'_>, slot: u32) -> Option<Try> {
        let delivery = self.table.delivery_mut(slot)?;
        if !std::mem::take(&mut delivery.to_send) || delivery.state != TaskState::Sent {
            return None;
        }
        let (before, recipient) = (delivery.tries, delivery.recipient);
        let at_once = std::mem::take(&mut delivery.at_once);
        if before > 0 && !at_once && self.waits_for_host(cx, slot, recipient) {
            return None;
        }
        let number = before + 1;
        let due = cx.at.now + self.interval(cx, number);
        self.arm_delivery(slot, due);
        let (host, _) = self.table.names_of(slot)?;
        Some(Try {
            host: host.clone(),
            slot,
            number,
            due,
            at: cx.at.now,
        })
    }

    /// Counts a try, whether or not its host can be reached now.
    pub(crate) fn count_try(&mut self, attempt: &Try) {
        if let Some(delivery) = self.table.delivery_mut(attempt.slot) {
            delivery.tries = attempt.number;
            delivery.note_sent(attempt.at);
        }
    }

    /// Text of a try that is sent: the key of its task.
    pub(crate) fn text_of(&self, cx: &mut Ctx<'_>, attempt: &Try) -> Option<CompactString> {
        cx.stats.sends += 1;
        cx.stats.resends += u64::from(attempt.number > 1);
        let (_, key) = self.table.names_of(attempt.slot)?;
        Some(key.to_text())
    }

    /// Counts a try for the other hosts that are reached at the same address: they get the same
    /// datagram.
    pub(crate) fn share_try(&mut self, attempt: &Try, hosts: impl Iterator<Item = HostId>) {
        let Some((_, key)) = self.table.names_of(attempt.slot) else {
            return;
        };
        let key = key.clone();
        for host in hosts {
            let Some(mate) = self.table.delivery_of(&key, &host) else {
                continue;
            };
            let Some(delivery) = self.table.delivery_mut(mate) else {
                continue;
            };
            if delivery.state == TaskState::Sent && delivery.tries < attempt.number {
                delivery.tries = attempt.number;
                delivery.note_sent(attempt.at);
                delivery.to_send = false;
                self.arm_delivery(mate, attempt.due);
            }
        }
    }
}
