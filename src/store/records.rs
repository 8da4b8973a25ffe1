//! Records stored as JSON: the claim of a task and the result of a command.
//!
//! The members of a result have a fixed order with `output` last, so that a reader that needs only
//! the beginning of the output can cut the text there.

use std::borrow::Cow;
use std::sync::LazyLock;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Serialize};

use super::op::{Dispatch, FoundResult, HeldTask, TaskResult, TaskState};
use crate::ids::{HostId, TaskKey};
use crate::limits::OUTPUT_SHOWN_BYTES_MAX;
use crate::time::UnixMs;

/// Reason for undoing a dispatch that could not be finished in time.
pub const GIVEN_UP: &str = "the store was unavailable for too long";
/// Characters of an output in base64 that hold its shown part.
pub const SHOWN_CHARS: usize = OUTPUT_SHOWN_BYTES_MAX.div_ceil(3) * 4;

/// The claim of a task key. The node that set it owns the key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// Random number of the request, as text: JSON readers lose digits of large numbers.
    pub request: String,
    /// Creation time, unix ms.
    pub created: u64,
    /// The node that dispatches it.
    pub node: String,
    /// Hosts that are offline receive the task when they come online.
    pub queue: bool,
    /// Keeper epoch: number of times that another node has taken the task over.
    #[serde(default)]
    pub epoch: u64,
}

impl Claim {
    /// The claim for a dispatch through `node`.
    #[must_use]
    pub fn of(dispatch: &Dispatch, node: &str) -> Self {
        Self {
            request: dispatch.request.to_string(),
            created: dispatch.created.0,
            node: node.to_owned(),
            queue: dispatch.queue,
            epoch: dispatch.epoch,
        }
    }

    /// The claim of a node that deletes the remains of a task. No request has this number.
    #[must_use]
    pub fn for_clearing(node: &str) -> Self {
        Self {
            request: "clearing".to_owned(),
            created: 0,
            node: node.to_owned(),
            queue: false,
            epoch: 0,
        }
    }

    /// The claim of `node`, which takes the task over from the present keeper.
    #[must_use]
    pub fn taken_over(&self, node: &str) -> Self {
        Self {
            node: node.to_owned(),
            epoch: self.epoch + 1,
            ..self.clone()
        }
    }

    /// The stored text.
    #[must_use]
    pub fn text(&self) -> String {
        let (node, request) = (quoted(&self.node), quoted(&self.request));
        let (created, queue) = (self.created, self.queue);
        // As before the first takeover.
        let epoch = match self.epoch {
            0 => String::new(),
            epoch => format!(r#","epoch":{epoch}"#),
        };
        format!(
            r#"{{"request":{request},"created":{created},"node":{node},"queue":{queue}{epoch}}}"#
        )
    }

    /// Parses a stored claim; `None` if the text is not one.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }

    /// The task that it claims.
    #[must_use]
    pub fn task(
        &self,
        key: &TaskKey,
        commands: Vec<(String, f64)>,
        mut hosts: Vec<(HostId, TaskState, bool)>,
        expires: bool,
    ) -> HeldTask {
        hosts.sort_by(|one, other| one.0.cmp(&other.0));
        HeldTask {
            key: key.clone(),
            created: UnixMs(self.created),
            queue: self.queue,
            request: self.request.parse().unwrap_or_default(),
            commands,
            hosts,
            expires,
            rollout: None,
            epoch: self.epoch,
        }
    }

    /// Returns whether it was set for `dispatch`.
    #[must_use]
    pub fn is_for(&self, dispatch: &Dispatch) -> bool {
        self.request == dispatch.request.to_string()
    }
}

/// Owner of the claim of a task key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    /// There is no claim.
    Nobody,
    /// It is the dispatch's own.
    Us,
    /// It is another's, or no claim at all.
    Another,
}

impl Owner {
    /// The owner of the stored `claim`, for this dispatch.
    pub(super) fn of(claim: Option<&str>, dispatch: &Dispatch) -> Self {
        match claim.map(Claim::parse) {
            None => Self::Nobody,
            Some(Some(claim)) if claim.is_for(dispatch) => Self::Us,
            Some(_) => Self::Another,
        }
    }
}

fn quoted(text: &str) -> serde_json::Value {
    serde_json::Value::from(text)
}

/// Reason for a dispatch that can never be stored.
#[must_use]
pub fn unfit(dispatch: &Dispatch) -> Option<&'static str> {
    if dispatch.commands.is_empty() {
        Some("a task without commands")
    } else if dispatch.hosts.is_empty() {
        Some("a task without hosts")
    } else if dispatch.commands.iter().any(|(_, p)| !p.is_finite()) {
        Some("a priority that is no finite number")
    } else {
        None
    }
}

/// Priority of a command in a book that another program wrote. A sorted set takes infinities, JSON
/// and hosts do not. The order stays the same.
#[must_use]
pub const fn finite_priority(score: f64) -> f64 {
    if score.is_nan() {
        return 0.0;
    }
    score.clamp(f64::MIN, f64::MAX)
}

/// Returns whether a host in this state has still to answer.
#[must_use]
pub const fn is_awaited(state: TaskState) -> bool {
    use TaskState as T;
    matches!(
        state,
        T::Offline | T::Queued | T::Sent | T::Unanswered | T::Expired
    )
}

/// Returns whether a host in this state has just been sent to, or would have been.
#[must_use]
pub const fn has_entered(state: TaskState) -> bool {
    matches!(
        state,
        TaskState::Sent | TaskState::Queued | TaskState::Offline
    )
}

/// The words of the states that `next` may follow in the store, each between blanks.
///
/// A report may be replayed after a reconnection, so an older one must not undo a newer one. Any
/// report may follow `offline` and `expired`, which come from the server. A state that comes from
/// the server itself follows a terminal state only where [`TaskState::may_become`] says so: another
/// node may have ended the host since this one last read the store.
#[must_use]
pub fn followed_by(next: TaskState) -> &'static str {
    static WORDS: LazyLock<Vec<String>> = LazyLock::new(|| {
        let may_follow = |state: TaskState, next: TaskState| match is_reported(next) {
            true => {
                matches!(state, TaskState::Offline | TaskState::Expired) || state.may_reach(next)
            }
            false if state.has_ended() => state.may_become(next),
            false => state.may_reach(next),
        };
        let before = |next: TaskState| {
            let all = TaskState::ALL.into_iter();
            let some = all.filter(|state| may_follow(*state, next));
            some.fold(" ".to_owned(), |text, state| text + state.as_str() + " ")
        };
        TaskState::ALL.into_iter().map(before).collect()
    });
    &WORDS[next as usize]
}

/// Returns whether a state comes from a report of the host.
const fn is_reported(state: TaskState) -> bool {
    use TaskState as T;
    matches!(
        state,
        T::Answered | T::Working | T::NoBook | T::Done | T::Failed
    )
}

/// Returns whether a stored state never changes again.
#[must_use]
pub const fn is_final(state: TaskState) -> bool {
    matches!(state, TaskState::Done | TaskState::Failed)
}

/// A stored result.
#[derive(Serialize, Deserialize)]
struct StoredResult<'a> {
    exit: i32,
    seconds: f64,
    size: u64,
    #[serde(borrow)]
    sha256: Cow<'a, str>,
    truncated: bool,
    #[serde(borrow)]
    output: Cow<'a, str>,
}

/// The stored text of a result.
///
/// # Panics
/// Never: numbers and texts are always JSON.
#[must_use]
pub fn result_text(result: &TaskResult) -> String {
    let stored = StoredResult {
        exit: result.exit,
        seconds: result.seconds,
        size: result.size,
        sha256: Cow::Borrowed(&result.sha256),
        truncated: result.truncated,
        output: Cow::Borrowed(&result.output),
    };
    serde_json::to_string(&stored).expect("numbers and texts are JSON")
}

/// Logs that a task which a crash left half stored is removed.
pub(super) fn undone_task(key: &TaskKey) {
    log::info!(key:% = key; "store: task {key} was not stored completely, and is removed");
}

/// Logs that a stored text is no result.
pub(super) fn skipped_result(code: &str) {
    log::warn!(key = code; "store: a result of task {code} is damaged and left out");
}

/// Parses a stored result, with at most `chars` characters of its output in base64 and
/// `OUTPUT_SHOWN_BYTES_MAX` bytes; `None` if the text is not one.
#[must_use]
pub fn found_result(command: &str, text: &str, chars: usize) -> Option<FoundResult> {
    let stored: StoredResult<'_> = serde_json::from_str(text).ok()?;
    let shown = stored.output.len().min(chars / 4 * 4);
    let mut output = BASE64.decode(stored.output.get(..shown)?).ok()?;
    output.truncate(OUTPUT_SHOWN_BYTES_MAX);
    Some(FoundResult {
        command: command.to_owned(),
        exit: stored.exit,
        seconds: stored.seconds,
        size: stored.size,
        sha256: stored.sha256.into_owned(),
        truncated: stored.truncated,
        output,
    })
}

/// The whole output of a stored result; `None` if the text is not one.
#[must_use]
pub fn whole_output(text: &str) -> Option<Vec<u8>> {
    let stored: StoredResult<'_> = serde_json::from_str(text).ok()?;
    BASE64.decode(&*stored.output).ok()
}

/// Returns whether the command of a stored result failed.
#[must_use]
#[cfg(any(test, feature = "embedded"))]
pub fn has_failed(text: &str) -> bool {
    serde_json::from_str::<StoredResult<'_>>(text).is_ok_and(|stored| stored.exit != 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::op::Stamp;

    #[test]
    fn a_terminal_state_is_kept_from_the_server() {
        use TaskState as T;
        for (next, state, follows) in [
            (T::Cancelled, T::Sent, true),
            (T::Cancelled, T::Working, true),
            (T::Cancelled, T::Held, true),
            (T::Cancelled, T::Offline, false),
            (T::Cancelled, T::Done, false),
            (T::Cancelled, T::Lost, false),
            (T::Cancelled, T::Unanswered, false),
            (T::Sent, T::Offline, false),
            (T::Lost, T::Expired, false),
            (T::Lost, T::Unanswered, true),
            (T::Expired, T::Lost, true),
            (T::Lost, T::Sent, true),
            (T::Working, T::Cancelled, true),
            (T::Working, T::Offline, true),
            (T::Done, T::Expired, true),
        ] {
            let word = format!(" {} ", state.as_str());
            assert_eq!(
                followed_by(next).contains(&word),
                follows,
                "{state:?} {next:?}"
            );
        }
    }

    const STAMP: Stamp = Stamp {
        at: UnixMs(1),
        seq: 1,
    };

    fn result(output: &[u8]) -> TaskResult {
        TaskResult {
            origin: None,
            host: HostId::checked("h").unwrap(),
            code: "AC1".to_owned(),
            command: "df -h".to_owned(),
            exit: -3,
            seconds: 0.25,
            sha256: "ab".repeat(32),
            truncated: true,
            output: BASE64.encode(output),
            size: output.len() as u64,
            lifetime: Default::default(),
            stamp: STAMP,
        }
    }

    #[test]
    fn a_claim_is_parsed_and_matches_its_request() {
        let dispatch = Dispatch {
            request: u64::MAX,
            rollout: None,
            key: TaskKey::parse("AC1", "AC").unwrap(),
            created: UnixMs(17),
            queue: true,
            commands: vec![("a".to_owned(), 1.0)],
            hosts: vec![(HostId::checked("h").unwrap(), TaskState::Sent)].into(),
            rings: Vec::new(),
            stamp: STAMP,
            epoch: 0,
        };
        let claim = Claim::of(&dispatch, "n\"1");
        assert_eq!(
            claim.text(),
            r#"{"request":"18446744073709551615","created":17,"node":"n\"1","queue":true}"#
        );
        assert_eq!(Claim::parse(&claim.text()), Some(claim.clone()));
        let later = claim.taken_over("n2");
        assert_eq!((&*later.node, later.epoch), ("n2", 1));
        assert_eq!(Claim::parse(&later.text()), Some(later));
        assert!(claim.is_for(&dispatch) && unfit(&dispatch).is_none());
        assert!(!Claim::for_clearing("n1").is_for(&dispatch));
        for spoilt in ["", "{}", "17", r#"{"request":1}"#] {
            assert_eq!(Claim::parse(spoilt), None);
        }
        let nothing = Dispatch {
            commands: Vec::new(),
            ..dispatch.clone()
        };
        let nan = Dispatch {
            commands: vec![("a".to_owned(), f64::NAN)],
            ..dispatch
        };
        assert!(unfit(&nothing).is_some() && unfit(&nan).is_some());
    }

    #[test]
    fn a_result_is_parsed_in_part_or_whole() {
        let bytes: Vec<u8> = (0..10_000_u32).map(|n| n as u8).collect();
        let text = result_text(&result(&bytes));
        assert_eq!(whole_output(&text).as_deref(), Some(&bytes[..]));
        let found = found_result("df -h", &text, usize::MAX).unwrap();
        assert_eq!(found.output, bytes[..OUTPUT_SHOWN_BYTES_MAX]);
        assert_eq!(
            (found.exit, found.size, found.truncated),
            (-3, 10_000, true)
        );
        assert!(has_failed(&text));
        let little = found_result("df -h", &text, 9).unwrap();
        assert_eq!(little.output, bytes[..6]);
        assert!(text.ends_with("\"}") && text.contains(r#""truncated":true,"output":""#));
    }

    #[test]
    fn damaged_results_are_not_parsed() {
        for text in ["", "{}", r#"{"exit":0}"#] {
            assert!(found_result("a", text, 100).is_none() && !has_failed(text));
        }
        let mut bad = result(b"x");
        bad.output = "%%%%".to_owned();
        let text = result_text(&bad);
        assert!(found_result("a", &text, 100).is_none() && whole_output(&text).is_none());
    }
}
