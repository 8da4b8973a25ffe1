//! Progress of a host in a task: the arithmetic of its lists.
//!
//! The messages of a task arrive once or many times, late, and in any order. In every order the
//! lists end the same and never go back: a finished command stays finished, and never counts as
//! remaining or running again.
//!
//! ```text
//!  before                            message                              after
//!  complete [a]     oncall [c, b]    + 3: complete [a, b], oncall [c]  =  complete [a, b]  oncall [c]
//! ```
//!
//! The `oncall` list is stored last command first, as the old server did.

use std::collections::HashSet;

use crate::codec::message::Phase;
use crate::limits::COMPLETE_BYTES_MAX;
use crate::store::op::Progress;

/// State of one host in the keys of one task.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Before {
    /// Finished commands, in order; empty if the list does not exist.
    pub complete: Vec<String>,
    /// Remaining commands, last first; empty if the list does not exist.
    pub oncall: Vec<String>,
    /// The command that it runs.
    pub working: Option<String>,
    /// The task's hash names its `complete` list.
    pub complete_named: bool,
    /// The task's hash names its `oncall` list.
    pub oncall_named: bool,
}

/// The state to be written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct After {
    /// Finished commands, in order. An empty list is no key.
    pub complete: Vec<String>,
    /// Remaining commands, last first. An empty list is no key.
    pub oncall: Vec<String>,
    /// The command that it runs.
    pub working: Option<String>,
    /// The task's hash names its `complete` list.
    pub complete_named: bool,
    /// The task's hash names its `oncall` list.
    pub oncall_named: bool,
    /// The message ended the task for this host: its keys expire from now on.
    pub done: bool,
}

impl After {
    /// The same without the finished commands of a host that is done, as the last version of the
    /// old server left it.
    #[must_use]
    pub fn cleared(mut self) -> Self {
        if self.done {
            self.complete.clear();
            self.complete_named = false;
        }
        self
    }

    /// Returns whether anything differs from `before`.
    #[must_use]
    pub fn changes(&self, before: &Before) -> bool {
        self.complete != before.complete
            || self.oncall != before.oncall
            || self.working != before.working
            || self.complete_named != before.complete_named
            || self.oncall_named != before.oncall_named
    }
}

/// Applies `op` to `before`. `bound` is the number of commands in the book, and the greatest length
/// of `complete`.
#[must_use]
pub fn merge(before: &Before, op: &Progress, bound: usize) -> After {
    let complete = completed(&before.complete, &op.complete, bound);
    // A command that the message calls finished is finished, also if the list had no room for it.
    let done: HashSet<&str> = complete.iter().chain(&op.complete).map(|c| &**c).collect();
    let oncall = left(&before.oncall, op, &done);
    let working = match (op.phase, &op.working) {
        (Phase::Began, Some(command)) if !done.contains(&**command) => Some(command),
        _ => before.working.as_ref(),
    };
    let working = working.filter(|command| !done.contains(&***command));
    let ended = op.phase == Phase::Ended;
    let over = ended && op.oncall.is_empty() && oncall.is_empty();
    After {
        working: working.filter(|_| !over).cloned(),
        complete_named: before.complete_named || (ended && !complete.is_empty()),
        oncall_named: !over && (before.oncall_named || (ended && !oncall.is_empty())),
        done: over,
        complete,
        oncall,
    }
}

/// `list`, followed by the commands that only `message` has, each once, up to `bound` and to
/// [`COMPLETE_BYTES_MAX`].
fn completed(list: &[String], message: &[String], bound: usize) -> Vec<String> {
    let mut all = list.to_vec();
    let mut had: HashSet<&str> = list.iter().map(|c| &**c).collect();
    let mut bytes: usize = list.iter().map(String::len).sum();
    for command in message {
        if all.len() >= bound {
            break;
        }
        if bytes + command.len() <= COMPLETE_BYTES_MAX && had.insert(command) {
            bytes += command.len();
            all.push(command.clone());
        }
    }
    all
}

/// Remaining commands, last first, each once.
///
/// A list that shares no open command with the message counts as missing, and is set from the
/// message. The open commands of each message are an end of the book, so of two messages one always
/// contains the other. The rule therefore applies only to a missing list, and to a host that
/// reports commands which it never listed. Without the rule such a message would empty the list the
/// first time and set it the second time.
fn left(list: &[String], op: &Progress, done: &HashSet<&str>) -> Vec<String> {
    let mut said = HashSet::new();
    let open = op.oncall.iter().rev();
    let open: Vec<&String> = open
        .filter(|c| !done.contains(&***c) && said.insert(&***c))
        .collect();
    let kept: Vec<String> = list
        .iter()
        .filter(|c| said.contains(&***c))
        .cloned()
        .collect();
    if op.phase == Phase::Received || kept.is_empty() {
        return open.into_iter().cloned().collect();
    }
    kept
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ids::{HostId, TaskKey};
    use crate::store::op::Stamp;
    use crate::time::UnixMs;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    fn message(phase: Phase, working: Option<&str>, complete: &str, oncall: &str) -> Progress {
        Progress {
            origin: None,
            host: HostId::checked("h").unwrap(),
            key: TaskKey::parse("AC1", "AC").unwrap(),
            phase,
            working: working.map(str::to_owned),
            complete: words(complete),
            oncall: words(oncall),
            state: None,
            unknown: false,
            silent: false,
            told: None,
            lifetime: Default::default(),
            stamp: Stamp {
                at: UnixMs(1),
                seq: 1,
            },
        }
    }

    fn as_before(after: &After) -> Before {
        Before {
            complete: after.complete.clone(),
            oncall: after.oncall.clone(),
            working: after.working.clone(),
            complete_named: after.complete_named,
            oncall_named: after.oncall_named,
        }
    }

    /// Every message of a book of `commands` commands, in the order a host sends them.
    fn whole_task(commands: usize) -> Vec<Progress> {
        let names: Vec<String> = (0..commands).map(|i| format!("c{i}")).collect();
        let mut all = vec![message(Phase::Received, None, "", &names.join(" "))];
        for at in 0..commands {
            let (done, open) = names.split_at(at);
            let working = Some(open[0].as_str());
            all.push(message(
                Phase::Began,
                working,
                &done.join(" "),
                &open.join(" "),
            ));
            let (done, open) = names.split_at(at + 1);
            all.push(message(
                Phase::Ended,
                None,
                &done.join(" "),
                &open.join(" "),
            ));
        }
        all
    }

    #[test]
    fn messages_in_order_move_commands_through_the_lists() {
        let told: Vec<After> = whole_task(2)
            .iter()
            .scan(Before::default(), |before, message| {
                let after = merge(before, message, 2);
                *before = as_before(&after);
                Some(after)
            })
            .collect();
        let lists: Vec<_> = told
            .iter()
            .map(|a| (a.complete.join(" "), a.oncall.join(" "), a.working.clone()))
            .collect();
        let row = |c: &str, o: &str, w: Option<&str>| (c.into(), o.into(), w.map(str::to_owned));
        assert_eq!(
            lists,
            [
                row("", "c1 c0", None),
                row("", "c1 c0", Some("c0")),
                row("c0", "c1", None),
                row("c0", "c1", Some("c1")),
                row("c0 c1", "", None),
            ]
        );
        let named: Vec<_> = told
            .iter()
            .map(|a| (a.complete_named, a.oncall_named, a.done))
            .collect();
        let (no, yes) = (false, true);
        assert_eq!(
            named,
            [
                (no, no, no),
                (no, no, no),
                (yes, yes, no),
                (yes, yes, no),
                (yes, no, yes)
            ]
        );
        assert!(told[4].clone().cleared().complete.is_empty());
        assert!(!told[4].clone().cleared().complete_named);
        assert_eq!(
            told[3].clone().cleared(),
            told[3],
            "not done: nothing is cleared"
        );
    }

    #[test]
    fn a_missing_list_is_set_from_the_message() {
        let began = message(Phase::Began, Some("b"), "a", "b c");
        let after = merge(&Before::default(), &began, 4);
        assert_eq!(after.oncall, words("c b"));
        assert_eq!(after.complete, words("a"));
        assert_eq!(after.working.as_deref(), Some("b"));
        assert!(!after.complete_named, "only the end of a command names it");
    }

    #[test]
    fn an_empty_end_drops_the_listed_commands() {
        let before = Before {
            oncall: words("a"),
            working: Some("a".into()),
            oncall_named: true,
            ..Before::default()
        };
        let after = merge(&before, &message(Phase::Ended, None, "", ""), 1);
        assert!(after.done && after.changes(&before));
        assert_eq!(
            after,
            After {
                done: true,
                ..After::default()
            }
        );
    }

    #[test]
    fn a_running_command_stays_until_it_is_finished() {
        let before = Before {
            oncall: words("b a"),
            working: Some("b".into()),
            ..Before::default()
        };
        let other = merge(&before, &message(Phase::Ended, None, "a", "b"), 2);
        assert_eq!(other.working.as_deref(), Some("b"));
        let late = merge(
            &as_before(&other),
            &message(Phase::Began, Some("a"), "", "a b"),
            2,
        );
        assert_eq!(
            late.working.as_deref(),
            Some("b"),
            "a is done and never under way again"
        );
        assert_eq!(late.oncall, words("b"));
    }

    #[test]
    fn the_book_bounds_the_finished_commands() {
        let many = message(Phase::Ended, None, "a b c d", "e");
        let after = merge(&Before::default(), &many, 2);
        assert_eq!(after.complete, words("a b"));
        let again = merge(&as_before(&after), &many, 2);
        assert!(!again.changes(&as_before(&after)));
    }

    #[test]
    fn a_command_finished_twice_is_listed_once() {
        let after = merge(
            &Before::default(),
            &message(Phase::Ended, None, "a a", "b"),
            9,
        );
        assert_eq!(after.complete, words("a"));
    }

    proptest! {
        #[test]
        fn any_order_and_repetition_ends_the_same(
            commands in 1usize..5,
            order in proptest::collection::vec(any::<prop::sample::Index>(), 0..24),
            at in any::<prop::sample::Index>(),
        ) {
            let task = whole_task(commands);
            let mut told: Vec<&Progress> = order.iter().map(|i| &task[i.index(task.len())]).collect();
            // The last message comes at some point, or the task has not ended.
            told.insert(at.index(told.len() + 1), &task[task.len() - 1]);
            let mut before = Before::default();
            for message in told {
                let after = merge(&before, message, commands);
                prop_assert!(after.complete.starts_with(&before.complete), "nothing done is undone");
                prop_assert!(after.oncall.iter().all(|c| !after.complete.contains(c)));
                prop_assert!(after.working.iter().all(|c| !after.complete.contains(c)));
                prop_assert!(after.complete.len() <= commands);
                let settled = as_before(&after);
                prop_assert!(!merge(&settled, message, commands).changes(&settled), "twice is once");
                before = settled;
            }
            let all: Vec<String> = (0..commands).map(|i| format!("c{i}")).collect();
            let end = Before { complete: all, complete_named: true, ..Before::default() };
            prop_assert_eq!(before, end);
        }

        #[test]
        fn arbitrary_messages_keep_the_bounds(
            messages in proptest::collection::vec(
                (0u8..3, proptest::option::of("[a-d]"), proptest::collection::vec("[a-d]", 0..5),
                 proptest::collection::vec("[a-d]", 0..5)), 1..12),
            bound in 0usize..4,
        ) {
            let mut before = Before::default();
            for (phase, working, complete, oncall) in messages {
                let phase = [Phase::Received, Phase::Began, Phase::Ended][usize::from(phase)];
                let message = message(phase, working.as_deref(), &complete.join(" "), &oncall.join(" "));
                let after = merge(&before, &message, bound);
                prop_assert!(after.complete.starts_with(&before.complete));
                prop_assert!(after.complete.len() <= bound);
                prop_assert!(after.oncall.iter().all(|c| !after.complete.contains(c)));
                prop_assert!(after.working.iter().all(|c| !after.complete.contains(c)));
                let settled = as_before(&after);
                prop_assert!(!merge(&settled, &message, bound).changes(&settled), "twice is once");
                before = settled;
            }
        }
    }
}
