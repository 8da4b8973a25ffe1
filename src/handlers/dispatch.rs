//! A task comes in: checked, stored, and only then sent.
//!
//! ```text
//!   NewTask ─▶ checked ─▶ pending, Op::Dispatch ─▶ Outcome::Dispatched ─▶ tables, sends, answer
//!                            └ after ten seconds its asker is told "outcome unknown"; what turns
//!                              out stored is sent all the same
//! ```

use std::collections::{BTreeMap, HashSet, VecDeque};

use crate::ids::{HostId, TaskKey};
use crate::limits::{BOOK_BYTES_MAX, DISPATCH_WAIT_S_MAX, DISPATCHES_WAITING_MAX};
use crate::store::op::{self, Op, Stamp, Stored, TaskState};
use crate::time::{Instant, Span, UnixMs};

use super::Moment;
use super::ask::{Answer, ErrorKind, NewTask};
use super::core::{Core, StoreState};
use super::effect::{Effect, Effects, EventKind, Note};
use super::tasks::{Draft, Room, Task, sort_book};

/// How long an asker waits for the store.
pub(super) const WAIT: Span = Span::from_secs(DISPATCH_WAIT_S_MAX);

/// Why something cannot be done, and in words.
pub(super) type Refusal = (ErrorKind, String);

/// A task that is being stored.
#[derive(Debug)]
struct Pending {
    asker: Option<u64>,
    deadline: Instant,
    key: TaskKey,
    created: UnixMs,
    queue: bool,
    commands: Vec<(String, f64)>,
    hosts: Vec<(HostId, TaskState)>,
    /// Hosts among them that were never seen when the task was handed in.
    unknown: Vec<HostId>,
    stamp: Stamp,
}

/// The tasks that are being stored.
#[derive(Debug, Default)]
pub(super) struct Dispatches {
    pending: BTreeMap<u64, Pending>,
    /// Those still to be handed to the store, in order.
    turn: VecDeque<u64>,
}

impl Dispatches {
    pub(super) fn len(&self) -> usize {
        self.pending.len()
    }

    /// Whether some are still to be handed over.
    pub(super) fn has_ops(&self) -> bool {
        !self.turn.is_empty()
    }

    /// When the next asker has waited long enough.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let asked = self.pending.values().filter(|p| p.asker.is_some());
        asked.map(|pending| pending.deadline).min()
    }

    /// What those take that are being stored: all of them, or those with hosts that are offline and queued for.
    fn reserved(&self, queued: bool) -> Room {
        let is_queued = |pending: &&Pending| {
            let mut hosts = pending.hosts.iter();
            hosts.any(|(_, state)| *state == TaskState::Queued)
        };
        let counted = self.pending.values().filter(|p| !queued || is_queued(p));
        counted.fold(Room::default(), |sum, pending| {
            sum.and(Room::of(&pending.commands, pending.hosts.len()))
        })
    }

    /// Moves up to `max` of them into a batch.
    pub(super) fn take_ops(&mut self, max: usize, ops: &mut Vec<Op>) {
        while ops.len() < max {
            let Some(request) = self.turn.pop_front() else {
                return;
            };
            let Some(pending) = self.pending.get(&request) else {
                continue;
            };
            ops.push(Op::Dispatch(Box::new(op::Dispatch {
                request,
                key: pending.key.clone(),
                created: pending.created,
                queue: pending.queue,
                commands: pending.commands.clone(),
                hosts: pending.hosts.clone(),
                stamp: pending.stamp,
            })));
        }
    }
}

/// Why the sending of a task begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Begin {
    /// It is new: the first copy goes out at once.
    First,
    /// After a restart. Another process has sent a copy already: nothing more goes to a host that is busy.
    Again,
}

impl Core {
    /// Somebody wants a task sent.
    pub(super) fn dispatch(&mut self, at: Moment, asker: u64, task: NewTask, fx: &mut Effects) {
        if let Err((kind, text)) = self.begin_dispatch(at, asker, task) {
            respond(asker, Answer::Error { kind, text }, fx);
        }
    }

    fn begin_dispatch(&mut self, at: Moment, asker: u64, task: NewTask) -> Result<(), Refusal> {
        let prefix = &self.rules.key_prefix;
        let key = TaskKey::parse(&task.key, prefix).ok_or_else(|| {
            wrong(format!(
                "the key must be {prefix}, then letters, digits, `.` and `-`, at most 64 characters in all"
            ))
        })?;
        let mut commands = task.commands;
        check_book(&commands)?;
        sort_book(&mut commands);
        let hosts = self.named_hosts(task.hosts.as_deref())?;
        let unknown = match task.hosts {
            Some(_) => self.never_seen(&hosts),
            None => Vec::new(),
        };
        let state = |host: &HostId| match (self.is_online(host), task.queue) {
            (true, _) => TaskState::Sent,
            (false, true) => TaskState::Queued,
            (false, false) => TaskState::Offline,
        };
        let hosts: Vec<(HostId, TaskState)> = hosts
            .into_iter()
            .map(|host| {
                let state = state(&host);
                (host, state)
            })
            .collect();
        if !matches!(self.store, StoreState::Up) {
            return Err(not_now("the store is away"));
        }
        if self.dispatches.len() >= DISPATCHES_WAITING_MAX
            || self.dispatches.pending.contains_key(&task.request)
        {
            return Err(not_now("too many dispatches are under way"));
        }
        if self.tasks.find(&key).is_some() {
            return Err((ErrorKind::Taken, taken(&key)));
        }
        let waits = hosts.iter().any(|(_, state)| *state == TaskState::Queued);
        let queued = self
            .dispatches
            .reserved(true)
            .and(Room::of(&commands, hosts.len()));
        if waits && !self.tasks.has_room_to_queue(queued) {
            return Err(not_now(
                "too many tasks wait for hosts that are offline; without `queue` there is room",
            ));
        }
        let room = self.dispatches.reserved(false);
        let room = room.and(Room::of(&commands, hosts.len()));
        let Some(gone) = self.tasks.make_room(room) else {
            return Err(not_now("the tables are full of tasks that have not ended"));
        };
        self.stats.tasks_let_go += gone;
        let pending = Pending {
            asker: Some(asker),
            deadline: at.now + WAIT,
            key,
            created: at.wall,
            queue: task.queue,
            commands,
            hosts,
            unknown,
            stamp: self.stamp(at),
        };
        self.dispatches.pending.insert(task.request, pending);
        self.dispatches.turn.push_back(task.request);
        Ok(())
    }

    /// The hosts that a request names, each once; all that are online if it names none.
    pub(super) fn named_hosts(&self, names: Option<&[String]>) -> Result<Vec<HostId>, Refusal> {
        let Some(names) = names else {
            let slots = 0..self.hosts.slots() as u32;
            let online = slots.filter_map(|slot| self.hosts.get(slot));
            let online = online.filter(|host| host.presence.is_online());
            let all: Vec<HostId> = online.map(|host| host.id()).collect();
            return match all.is_empty() {
                true => Err(wrong("no host is online".to_owned())),
                false => Ok(all),
            };
        };
        if names.is_empty() {
            return Err(wrong(
                "`hosts` names no host; leave it out for all that are online".to_owned(),
            ));
        }
        let mut seen = HashSet::new();
        let mut hosts = Vec::new();
        for name in names {
            let host = HostId::named(name)
                .map_err(|error| wrong(format!("{name:?} is no host: {error}")))?;
            if seen.insert(host.clone()) {
                hosts.push(host);
            }
        }
        Ok(hosts)
    }

    /// Hosts that neither the store nor this server has ever seen: the table holds all that the store knew
    /// at the start, and each that has come since.
    pub(super) fn never_seen(&self, hosts: &[HostId]) -> Vec<HostId> {
        let unknown = hosts.iter().filter(|host| self.hosts.find(host).is_none());
        unknown.cloned().collect()
    }

    /// The store has settled a dispatch.
    pub(super) fn dispatched(
        &mut self,
        at: Moment,
        request: u64,
        stored: Stored,
        fx: &mut Effects,
    ) {
        let Some(pending) = self.dispatches.pending.remove(&request) else {
            return;
        };
        let asker = pending.asker;
        let (kind, text) = match stored {
            Stored::Whole => {
                let answer = Answer::Dispatched {
                    key: pending.key.clone(),
                    hosts: pending.hosts.clone(),
                    unknown: pending.unknown.clone(),
                };
                self.send_task(at, request, pending, fx);
                if let Some(asker) = asker {
                    respond(asker, answer, fx);
                }
                return;
            }
            Stored::Taken => (ErrorKind::Taken, taken(&pending.key)),
            Stored::Undone(why) => (ErrorKind::NotNow, why),
            Stored::Refused(why) => {
                let key = &pending.key;
                let text = format!("the store does not take the task {key}: {why}");
                (ErrorKind::Wrong, text)
            }
        };
        if let Some(asker) = asker {
            respond(asker, Answer::Error { kind, text }, fx);
        }
    }

    /// A task is stored: it goes into the tables, and out to its hosts.
    fn send_task(&mut self, at: Moment, request: u64, pending: Pending, fx: &mut Effects) {
        let Pending {
            key,
            created,
            queue,
            commands,
            hosts,
            stamp,
            ..
        } = pending;
        if self.tasks.find(&key).is_some() {
            return;
        }
        let sent = hosts.iter().filter(|host| host.1 == TaskState::Sent);
        let count = sent.count() as u64;
        fx.push(Effect::Log(Note {
            level: log::Level::Info,
            what: "dispatch",
            who: key.to_string(),
            text: format!("stored; to be sent to {count} of {} hosts", hosts.len()),
        }));
        // As the store's stream has it: all that are named.
        let kind = EventKind::Dispatch {
            key: key.clone(),
            count: hosts.len() as u64,
        };
        self.tell(stamp, kind, fx);
        let hosts = hosts.into_iter().map(|(host, state)| (host, state, false));
        let draft = Draft {
            key,
            created,
            request,
            queue,
            commands,
            hosts: hosts.collect(),
        };
        let task = self.tasks.insert(draft, at.now);
        self.begin_task(task, at.now + self.rules.keep, Begin::First, at);
        if self.tasks.task(task).is_some_and(Task::is_over) {
            self.tasks.write_over(task, self.stats.store_sessions);
        }
    }

    /// Sends what of a task is to be sent, and sets when its time is over.
    pub(super) fn begin_task(&mut self, task: u32, over: Instant, begin: Begin, at: Moment) {
        self.tasks.set_look(task, over);
        let deliveries = self.tasks.task(task).map(|task| task.deliveries.clone());
        for slot in deliveries.unwrap_or_default() {
            let Some(delivery) = self.tasks.delivery(slot) else {
                continue;
            };
            let (state, recipient) = (delivery.state, delivery.recipient);
            match state {
                TaskState::Sent
                    if begin == Begin::Again && self.waits_for_host(slot, recipient, at) => {}
                TaskState::Sent => self.queue_delivery(slot),
                TaskState::Queued => {
                    // It may have come while the task was being stored.
                    let host = self.tasks.names_of(slot).map(|names| names.0.clone());
                    if let Some(host) = host.filter(|host| self.is_online(host)) {
                        self.send_queued(&host, at);
                    }
                }
                TaskState::Answered | TaskState::Working => {
                    self.touch_delivery(slot, at);
                    if let Some(delivery) = self.tasks.delivery_mut(slot) {
                        // Whoever reports on it has to connect first.
                        delivery.cut = true;
                    }
                }
                _ => {}
            }
        }
    }

    /// Askers that have waited long enough are told that nobody knows yet.
    pub(super) fn hurry_dispatches(&mut self, judge: Instant, fx: &mut Effects) {
        for pending in self.dispatches.pending.values_mut() {
            if pending.deadline <= judge
                && let Some(asker) = pending.asker.take()
            {
                let (kind, text) = not_now(
                    "outcome unknown: the store has not answered; the task will be sent if it turns out stored",
                );
                respond(asker, Answer::Error { kind, text }, fx);
            }
        }
    }

    /// The store is away: what it has not been handed is not stored.
    pub(super) fn undo_dispatches(&mut self, fx: &mut Effects) {
        for request in std::mem::take(&mut self.dispatches.turn) {
            let pending = self.dispatches.pending.remove(&request);
            if let Some(asker) = pending.and_then(|pending| pending.asker) {
                let (kind, text) = not_now("the store is away");
                respond(asker, Answer::Error { kind, text }, fx);
            }
        }
    }
}

/// Answers an asker.
pub(super) fn respond(asker: u64, answer: Answer, fx: &mut Effects) {
    fx.push(Effect::Respond { asker, answer });
}

pub(super) fn wrong(text: String) -> Refusal {
    (ErrorKind::Wrong, text)
}

pub(super) fn not_now(text: &str) -> Refusal {
    (ErrorKind::NotNow, text.to_owned())
}

fn taken(key: &TaskKey) -> String {
    format!("the key {key} was used before")
}

/// A book: not empty, every command once, every priority a finite number, and all of it short enough
/// for every message that it travels in.
fn check_book(commands: &[(String, f64)]) -> Result<(), Refusal> {
    if commands.is_empty() {
        return Err(wrong("there is no command".to_owned()));
    }
    let mut seen = HashSet::new();
    let mut bytes = 2;
    let mut longest = 0;
    for (text, priority) in commands {
        if text.trim().is_empty() {
            return Err(wrong("a command is empty".to_owned()));
        }
        if !seen.insert(text.as_str()) {
            return Err(wrong(format!("the command {text:?} comes twice")));
        }
        if !priority.is_finite() {
            return Err(wrong(format!(
                "the priority of {text:?} is no finite number"
            )));
        }
        let length = escaped_bytes(text);
        longest = longest.max(length);
        bytes += length + ": , ".len() + number_bytes(*priority);
    }
    if bytes + longest > BOOK_BYTES_MAX {
        return Err(wrong(format!(
            "the commands are {} bytes as JSON with the longest once more; at most {BOOK_BYTES_MAX} are possible",
            bytes + longest
        )));
    }
    Ok(())
}

/// What `text` takes as a JSON string of ASCII characters only, its quotes included.
fn escaped_bytes(text: &str) -> usize {
    let of = |c: char| match c {
        '"' | '\\' | '\n' | '\r' | '\t' | '\u{8}' | '\u{c}' => 2,
        ' '..='~' => 1,
        _ => 6 * c.len_utf16(),
    };
    2 + text.chars().map(of).sum::<usize>()
}

fn number_bytes(number: f64) -> usize {
    // The shortest text that reads as the same number, with an exponent where that is shorter.
    format!("{number}").len().min(format!("{number:e}").len()) + 2
}

#[cfg(test)]
mod tests {
    use super::*;

    fn book(pairs: &[(&str, f64)]) -> Vec<(String, f64)> {
        pairs.iter().map(|(t, p)| ((*t).to_owned(), *p)).collect()
    }

    #[test]
    fn escapes_are_counted_as_they_travel() {
        for (text, bytes) in [
            ("ls", 4),
            ("a\"b", 6),
            ("ä", 8),
            ("\u{1}", 8),
            ("😀", 14),
            ("\n", 4),
        ] {
            assert_eq!(escaped_bytes(text), bytes, "{text:?}");
        }
    }

    #[test]
    fn a_book_is_refused_for_what_it_holds() {
        for bad in [
            book(&[]),
            book(&[("x", 1.0), ("x", 2.0)]),
            book(&[("x", f64::NAN)]),
            book(&[("x", f64::INFINITY)]),
            book(&[(" ", 1.0)]),
        ] {
            assert_eq!(check_book(&bad).unwrap_err().0, ErrorKind::Wrong);
        }
        assert!(check_book(&book(&[("x", -0.5), ("y", 1e300)])).is_ok());
    }

    #[test]
    fn the_longest_command_counts_twice() {
        let half = |bytes: usize| book(&[(&"a".repeat(bytes), 1.0)]);
        assert!(check_book(&half(BOOK_BYTES_MAX / 2 - 20)).is_ok());
        assert!(check_book(&half(BOOK_BYTES_MAX / 2 + 20)).is_err());
        let escaped = "\u{1}".repeat(BOOK_BYTES_MAX / 12 + 20);
        assert!(check_book(&book(&[(&escaped, 1.0)])).is_err());
    }
}
