//! Dispatch of a task: checked, stored, and only then sent.
//!
//! ```text
//!   NewTask ─▶ checked, its hosts named ─▶ pending, Op::Dispatch ─▶ Outcome::Dispatched ─▶ tables, sends, answer
//!                                             └ after ten seconds its requester is answered "outcome unknown";
//!                                               a task that turns out stored is sent all the same
//! ```
//!
//! Work on many hosts is done in steps: see [`jobs`](crate::handlers::tasks::jobs).

use std::collections::{BTreeMap, HashSet, VecDeque};

use crate::ids::TaskKey;
use crate::limits::{BOOK_BYTES_MAX, DISPATCH_WAIT_S_MAX, DISPATCHES_WAITING_MAX};
use crate::store::op::{self, Op, Stamp, Stored, TaskState};
use crate::time::{Instant, Span, UnixMs};

use crate::handlers::context::Ctx;
use crate::handlers::directory::Directory;
use crate::handlers::effect::EventKind;
use crate::handlers::request::{ErrorKind, NewTask, Response, Within};
use crate::handlers::tasks::Tasks;
use crate::handlers::tasks::delivery::Cause;
use crate::handlers::tasks::jobs::{Job, Named, Purpose, Whom};
use crate::handlers::tasks::rollout::{OfflineRule, Rollout, RolloutOptions};
use crate::handlers::tasks::table::{Draft, Room, Task, sort_book};
use crate::handlers::tasks::waves::{check_expected, plan_rollout};

/// Longest wait of a requester for the store.
pub(crate) const WAIT: Span = Span::from_secs(DISPATCH_WAIT_S_MAX);

/// Kind and text of a refusal.
pub(crate) type Refusal = (ErrorKind, String);

/// A task that is being stored.
#[derive(Debug)]
struct Pending {
    requester: Option<u64>,
    deadline: Instant,
    key: TaskKey,
    created: UnixMs,
    queue: bool,
    commands: Vec<(String, f64)>,
    named: Named,
    /// An offline host is queued for.
    waits: bool,
    stamp: Stamp,
    rollout: Option<Box<Rollout>>,
}

/// A task whose key and commands have been checked, but not its hosts.
#[derive(Debug)]
pub(crate) struct CheckedTask {
    key: TaskKey,
    /// In the order in which they are run.
    commands: Vec<(String, f64)>,
    /// Hosts that are offline receive it when they come online.
    pub(crate) queue: bool,
    request: u64,
    /// Deadline of its requester.
    deadline: Instant,
    /// Its target, and how it goes out.
    pub(crate) options: Box<RolloutOptions>,
}

impl CheckedTask {
    /// Deadline of its requester.
    pub(super) fn deadline(&self) -> Instant {
        self.deadline
    }
}

/// A task that is stored, on its way into the tables.
#[derive(Debug)]
pub(crate) struct Entering {
    requester: Option<u64>,
    key: TaskKey,
    /// Its slot in the tables.
    task: u32,
    named: Named,
}

/// The tasks that are being stored.
#[derive(Debug, Default)]
pub(crate) struct Dispatches {
    pending: BTreeMap<u64, Pending>,
    /// Requests that the store has not received yet, in order.
    turn: VecDeque<u64>,
}

impl Dispatches {
    pub(crate) fn len(&self) -> usize {
        self.pending.len()
    }

    /// Returns whether operations are ready.
    pub(crate) fn has_ops(&self) -> bool {
        !self.turn.is_empty()
    }

    /// Deadline of the next requester.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let asked = self.pending.values().filter(|p| p.requester.is_some());
        asked.map(|pending| pending.deadline).min()
    }

    /// Room reserved for all dispatches in progress, or for those with queued hosts.
    fn reserved(&self, queued: bool) -> Room {
        let counted = self.pending.values().filter(|p| !queued || p.waits);
        counted.fold(Room::default(), |sum, pending| {
            sum.and(Room::of(&pending.commands, pending.named.hosts.len()))
        })
    }

    /// Moves up to `max` dispatches into a batch.
    pub(crate) fn take_ops(&mut self, max: usize, ops: &mut Vec<Op>) {
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
                hosts: pending.named.hosts.clone(),
                rings: pending.named.rings.clone().into_iter().collect(),
                stamp: pending.stamp,
                epoch: 0,
                rollout: pending
                    .rollout
                    .as_deref()
                    .and_then(|rollout| serde_json::to_string(rollout).ok()),
            })));
        }
    }
}

/// Reason to begin sending a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Begin {
    /// It is new: the first copy goes out at once.
    First,
    /// A restart. An earlier process has sent a copy already: a busy host is sent no other.
    Again,
}

impl Tasks {
    /// Queues a task for the store after its hosts have been looked up, if there is room for it.
    pub(super) fn store_task(
        &mut self,
        cx: &mut Ctx<'_>,
        requester: u64,
        task: CheckedTask,
        mut named: Named,
    ) -> Result<(), Refusal> {
        let CheckedTask {
            key,
            commands,
            queue,
            request,
            deadline,
            options,
        } = task;
        check_expected(&options, &named)?;
        let rollout = plan_rollout(&options, &mut named);
        if !cx.is_store_up() {
            return Err(not_now("the store is unavailable"));
        }
        if self.dispatches.len() >= DISPATCHES_WAITING_MAX
            || self.dispatches.pending.contains_key(&request)
        {
            return Err(not_now("too many dispatches are under way"));
        }
        if self.table.find(&key).is_some() {
            return Err((ErrorKind::Taken, taken(&key)));
        }
        let hosts = named.hosts.len();
        // Later waves may queue for hosts, too.
        let waits = named.queued > 0 || (queue && rollout.is_some());
        let queued = self.dispatches.reserved(true);
        let queued = queued.and(Room::of(&commands, hosts));
        if waits && !self.table.has_room_to_queue(queued) {
            return Err(not_now(
                "too many tasks wait for hosts that are offline; without `queue` there is room",
            ));
        }
        let room = self.dispatches.reserved(false);
        let room = room.and(Room::of(&commands, hosts));
        let Some(gone) = self.table.make_room(room) else {
            return Err(not_now("the tables are full of tasks that have not ended"));
        };
        cx.stats.tasks_let_go += gone;
        let pending = Pending {
            requester: Some(requester),
            deadline,
            key,
            created: cx.at.wall,
            queue,
            commands,
            named,
            waits,
            stamp: cx.stamp(),
            rollout,
        };
        self.dispatches.pending.insert(request, pending);
        self.dispatches.turn.push_back(request);
        Ok(())
    }

    /// Handles the entry of the last host of a task.
    pub(crate) fn entered(&mut self, cx: &mut Ctx<'_>, entering: Entering) {
        let Entering {
            requester,
            key,
            task,
            named,
        } = entering;
        self.table.set_look(task, cx.at.now + cx.rules.keep);
        self.first_wave_entered(cx, task);
        if self.table.task(task).is_some_and(Task::is_over) {
            self.table.write_over(task, cx.stats.store_sessions);
        }
        answer_stored(cx, requester, key, named);
    }

    /// Answers the requesters whose deadline has passed with an unknown outcome.
    pub(crate) fn hurry_dispatches(&mut self, cx: &mut Ctx<'_>, judge: Instant) {
        for pending in self.dispatches.pending.values_mut() {
            if pending.deadline <= judge
                && let Some(requester) = pending.requester.take()
            {
                let why = not_now(
                    "outcome unknown: the store has not answered; the task will be sent if it turns out stored",
                );
                cx.respond(requester, why.into());
            }
        }
    }

    /// Handles an unavailable store: dispatches that it has not received are refused.
    pub(crate) fn undo_dispatches(&mut self, cx: &mut Ctx<'_>) {
        for request in std::mem::take(&mut self.dispatches.turn) {
            let pending = self.dispatches.pending.remove(&request);
            if let Some(requester) = pending.and_then(|pending| pending.requester) {
                cx.respond(requester, not_now("the store is unavailable").into());
            }
        }
    }
}

impl Tasks {
    /// Handles a request to send a task.
    ///
    /// # Errors
    /// When it is refused at once.
    pub(crate) fn dispatch(
        &mut self,
        cx: &mut Ctx<'_>,
        hosts: Directory<'_>,
        requester: u64,
        task: NewTask,
        within: Option<Within>,
    ) -> Result<(), Refusal> {
        let prefix = &cx.rules.key_prefix;
        let key = TaskKey::parse(&task.key, prefix).ok_or_else(|| {
            wrong(format!(
                "the key must be {prefix}, then letters, digits, `.` and `-`, at most 64 characters in all"
            ))
        })?;
        let mut commands = task.commands;
        check_book(&commands)?;
        sort_book(&mut commands);
        let mut options = task.rollout;
        if task.queue && *options.offline.get_or_insert(OfflineRule::Queue) != OfflineRule::Queue {
            return Err(wrong(
                "`queue` and this value of `offline` exclude each other".to_owned(),
            ));
        }
        let whom = Whom {
            names: task.hosts,
            target: options.target.clone(),
            within,
        };
        let checked = CheckedTask {
            key,
            commands,
            queue: options.offline == Some(OfflineRule::Queue),
            request: task.request,
            deadline: cx.at.now + WAIT,
            options,
        };
        self.name_hosts(cx, hosts, requester, Purpose::Task(checked), whom)
    }

    /// Handles a request for a plan.
    ///
    /// # Errors
    /// When it is refused at once.
    pub(crate) fn plan(
        &mut self,
        cx: &mut Ctx<'_>,
        hosts: Directory<'_>,
        requester: u64,
        (names, options): (Option<Vec<String>>, Box<RolloutOptions>),
    ) -> Result<(), Refusal> {
        let whom = Whom {
            names,
            target: options.target.clone(),
            within: None,
        };
        self.name_hosts(cx, hosts, requester, Purpose::Plan(options), whom)
    }

    /// Settles a dispatch with the answer of the store.
    pub(crate) fn dispatched(
        &mut self,
        cx: &mut Ctx<'_>,
        hosts: Directory<'_>,
        request: u64,
        stored: Stored,
    ) {
        let Some(pending) = self.dispatches.pending.remove(&request) else {
            return;
        };
        let requester = pending.requester;
        let (kind, text) = match stored {
            Stored::Whole => return self.send_task(cx, hosts, request, pending),
            Stored::Taken => (ErrorKind::Taken, taken(&pending.key)),
            Stored::Undone(why) => (ErrorKind::NotNow, why),
            Stored::Refused(why) => {
                let key = &pending.key;
                let text = format!("the store does not take the task {key}: {why}");
                (ErrorKind::Wrong, text)
            }
        };
        if let Some(requester) = requester {
            cx.respond(requester, (kind, text).into());
        }
    }

    /// Enters a stored task into the tables, and begins to send it.
    fn send_task(
        &mut self,
        cx: &mut Ctx<'_>,
        hosts: Directory<'_>,
        request: u64,
        pending: Pending,
    ) {
        let Pending {
            requester,
            key,
            created,
            queue,
            commands,
            named,
            stamp,
            rollout,
            ..
        } = pending;
        if self.table.find(&key).is_some() {
            return answer_stored(cx, requester, key, named);
        }
        let count = named.hosts.len();
        let sent = named.sent;
        cx.log(
            log::Level::Info,
            "dispatch",
            key.to_string(),
            format!("stored; to be sent to {sent} of {count} hosts"),
        );
        // As in the stream of the store: all named hosts.
        let kind = EventKind::Dispatch {
            key: key.clone(),
            count: count as u64,
        };
        cx.publish(stamp, kind);
        let draft = Draft {
            key: key.clone(),
            created,
            request,
            queue,
            commands,
            rollout,
            epoch: 0,
        };
        let entering = Entering {
            requester,
            key,
            task: self.table.begin(draft, count, cx.at.now),
            named,
        };
        self.begin_job(cx, hosts, Job::Entering(Box::new(entering)));
    }

    /// Enters at most `max` more hosts of a task, and queues their deliveries. Returns whether
    /// these were the last.
    pub(super) fn enter_some(
        &mut self,
        cx: &mut Ctx<'_>,
        hosts: Directory<'_>,
        entering: &mut Entering,
        max: usize,
    ) -> bool {
        let Entering { task, named, .. } = entering;
        for _ in 0..max {
            let Some((host, place)) = named.places.pop_first() else {
                break;
            };
            let state = named.hosts[place as usize].1;
            let is_away = named.is_elsewhere(&host);
            let delivery = self.table.enter(*task, host, state, false);
            if is_away && self.is_elsewhere(hosts, delivery) {
                self.find_again(cx);
                self.leave_to_others(delivery);
            } else {
                self.begin_delivery(cx, hosts, delivery, Begin::First);
            }
        }
        named.places.is_empty()
    }

    /// Queues a delivery to be sent, or sets its deadline.
    pub(super) fn begin_delivery(
        &mut self,
        cx: &mut Ctx<'_>,
        hosts: Directory<'_>,
        slot: u32,
        begin: Begin,
    ) {
        let Some(delivery) = self.table.delivery(slot) else {
            return;
        };
        let (state, recipient) = (delivery.state, delivery.recipient);
        if begin == Begin::Again && cx.has_other_nodes() && self.is_elsewhere(hosts, slot) {
            self.find_again(cx);
            return self.leave_to_others(slot);
        }
        match state {
            TaskState::Sent
                if begin == Begin::Again && self.waits_for_host(cx, slot, recipient) => {}
            TaskState::Sent => self.queue_delivery(slot),
            TaskState::Queued => {
                // It may have come while the task was being stored.
                let host = self.table.names_of(slot).map(|names| names.0);
                let is_online = host.is_some_and(|host| hosts.is_online(host));
                if is_online && self.turn_delivery(cx, slot, TaskState::Sent, Cause::Ourselves) {
                    // An earlier process may have sent it, and died before the store had `sent`.
                    if begin == Begin::First || !self.waits_for_host(cx, slot, recipient) {
                        self.queue_delivery(slot);
                    }
                }
            }
            TaskState::Answered | TaskState::Working => {
                self.touch_delivery(cx, slot);
                if let Some(delivery) = self.table.delivery_mut(slot) {
                    // A host must connect before it can report on it.
                    delivery.cut = true;
                }
            }
            _ => {}
        }
    }
}

/// Answers the requester of a stored task, if it still waits.
fn answer_stored(cx: &mut Ctx<'_>, requester: Option<u64>, key: TaskKey, named: Named) {
    let Named { hosts, unknown, .. } = named;
    let answer = Response::Dispatched {
        key,
        hosts,
        unknown,
    };
    if let Some(requester) = requester {
        cx.respond(requester, answer);
    }
}

pub(crate) fn wrong(text: String) -> Refusal {
    (ErrorKind::Wrong, text)
}

pub(crate) fn not_now(text: &str) -> Refusal {
    (ErrorKind::NotNow, text.to_owned())
}

fn taken(key: &TaskKey) -> String {
    format!("the key {key} was used before")
}

/// Checks a book: it has commands, each once, with finite priorities, and fits every message that
/// carries it.
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
                "the priority of {text:?} is not a finite number"
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

/// Length of `text` as a JSON string of ASCII characters only, including its quotes.
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
