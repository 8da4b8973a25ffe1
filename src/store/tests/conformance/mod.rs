//! The conformance suite of the stores: one suite, run over each of them.
//!
//! A store's tests implement [`RawKeys`] for it, write a function that runs a [`Case`] over an empty
//! database, and name it to [`conformance_tests!`], which makes a test of each case. A case opens
//! the store as often as it likes, over the same data, one at a time.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::codec::message::Phase;
use crate::ids::{HostId, HostRef, TaskKey};
use crate::time::{Span, UnixMs};

use crate::store::op::{
    Answer, HeldHost, Inventory, Offline, Online, Op, Outcome, Progress, Reason, Settled, Stamp,
    TaskState,
};
use crate::store::{Backend, Dump, HeldCursor, Settings, StoreError};

/// Access to single keys without operations, for what a crash, a script or the old server left.
pub trait RawKeys {
    /// Replaces the value of `key`. An empty set, list, hash or sorted set is no key.
    fn seed(&mut self, key: &str, value: Dump);

    /// Reads the value of `key`.
    fn dump(&mut self, key: &str) -> Result<Option<Dump>, StoreError>;
}

/// A store under test.
pub trait Subject: Backend + RawKeys {}
impl<T: Backend + RawKeys> Subject for T {}

/// Opens the store over the case's data. Only one may be open at a time.
pub type Factory<'a> = dyn FnMut(Settings) -> Box<dyn Subject> + 'a;

/// One case. Its data are empty when it begins.
pub type Case = fn(&mut Factory<'_>);

/// Makes a test of every case. `$fresh` is a `fn(Case)` that runs one over an empty database.
macro_rules! conformance_tests {
    ($fresh:path) => {
        $crate::store::tests::conformance::conformance_tests!($fresh:
            coming_online_claims_the_host
            going_offline_gives_the_claim_up
            a_late_offline_does_nothing
            a_host_of_another_node_is_left_alone
            a_host_the_old_server_left_can_go_offline
            a_host_whose_claim_was_lost_can_go_offline
            an_offline_that_broke_off_is_finished_when_repeated
            an_inventory_replaces_the_one_before
            an_inventory_of_another_nodes_host_leaves_its_claim_alone
            last_seen_never_goes_back
            a_host_offline_is_forgotten_and_one_online_is_not
            an_audit_adds_what_is_missing
            a_notice_is_an_event
            devices_and_targets_are_fields_of_hashes
            a_task_ends_with_only_its_book_when_cleared
            a_task_of_two_hosts_keeps_them_apart
            a_task_that_is_kept_keeps_what_is_done
            what_led_to_a_state_that_was_given_again_is_written_again
            progress_told_twice_or_late_changes_nothing
            progress_without_a_list_sets_it
            an_end_with_nothing_drops_what_is_listed
            no_more_is_done_than_the_book_has
            commands_that_were_never_listed_are_taken_once
            an_answer_takes_the_host_off_the_awaited
            a_stale_message_after_a_newer_changes_nothing
            whatever_is_said_twice_is_said_once
            a_spoilt_key_refuses_its_own_record_only
            a_restart_finds_what_was_there
            everyone_is_found_in_pages
            a_cut_short_offline_is_finished
            a_cut_short_online_is_taken_back_or_adopted
            a_host_another_node_took_leaves_our_set
            an_orphan_that_was_heard_of_comes_once_and_adopted
            a_spoilt_key_hides_nobody_else
            names_that_are_no_hosts_are_skipped
            what_is_over_expires
            a_task_that_was_never_stored_expires
            old_last_seen_times_are_swept
            the_lease_is_taken_renewed_and_given_up
            what_a_node_left_is_taken_over
            a_node_that_comes_back_is_no_more_gone
            a_task_of_any_node_is_found_whole
            a_task_is_stored_whole_and_told_of
            a_task_of_many_hosts_and_commands_is_stored
            a_key_somebody_uses_is_left_as_it_is
            a_book_written_meanwhile_is_left_to_its_owner
            a_dispatch_cut_anywhere_is_finished_when_repeated
            a_dispatch_cut_anywhere_is_given_up_whole
            a_dispatch_cut_anywhere_is_undone_at_the_start
            two_nodes_cannot_both_take_a_key
            dispatches_of_one_batch_settle_each_for_itself
            a_dispatch_the_store_will_not_have_leaves_nothing
            tasks_are_found_again_after_a_restart
            a_task_that_is_gone_is_written_again
            states_change_for_named_hosts_until_they_have_ended
            a_state_is_never_taken_back
            a_task_expires_after_a_host_has_ended
            a_task_of_which_a_host_may_still_change_does_not_expire
            a_result_is_stored_and_replaces_itself
            a_question_is_answered_from_lists_and_results
            a_console_command_has_only_results
            a_question_about_a_spoilt_key_finds_nothing
            a_question_about_many_hosts_keeps_their_order
        );
    };
    ($fresh:path: $($case:ident)*) => {
        $(#[test]
        fn $case() {
            $fresh($crate::store::tests::conformance::$case);
        })*
    };
}
pub(crate) use conformance_tests;

mod dispatch;
mod presence;
mod properties;
mod reports;
mod results;
mod whole;

pub use dispatch::*;
pub use presence::*;
pub use properties::*;
pub use reports::*;
pub use results::*;
pub use whole::*;

// --- what the cases are written in ---------------------------------------------------------------

const NODE: &str = "n1";
const TICKET: HostRef = HostRef {
    slot: 3,
    generation: 7,
};

fn settings() -> Settings {
    Settings {
        node: NODE.into(),
        delete_fields: vec!["systemInfo".into(), "systemInfoIPV4".into()],
        clear_on_done: false,
        keep: Span::from_secs(7 * 24 * 3600),
        timeout: Span::from_secs(5),
    }
}

fn clearing() -> Settings {
    Settings {
        clear_on_done: true,
        ..settings()
    }
}

fn host(name: &str) -> HostId {
    HostId::checked(name).unwrap()
}

fn stamp(seq: u64) -> Stamp {
    Stamp {
        at: UnixMs(1_700_000_000_000 + seq),
        seq,
    }
}

fn online(name: &str, event: Option<u64>) -> Op {
    Op::Online(Box::new(Online {
        ticket: TICKET,
        host: host(name),
        peer: "10.0.0.1:4711".parse().unwrap(),
        keyed: false,
        since: UnixMs(1_700_000_000_000),
        event: event.map(stamp),
    }))
}

/// A host that has proved a key is online.
fn proved(name: &str, event: Option<u64>) -> Op {
    match online(name, event) {
        Op::Online(online) => Op::Online(Box::new(Online {
            keyed: true,
            ..*online
        })),
        other => other,
    }
}

fn offline(name: &str, epoch: u64, event: Option<u64>) -> Op {
    Op::Offline(Box::new(Offline {
        ticket: TICKET,
        host: host(name),
        epoch,
        reason: Reason::Timeout,
        since: UnixMs(1_700_000_000_500),
        event: event.map(stamp),
    }))
}

fn inventory(name: &str, values: &[&str], addresses: &[&str]) -> Op {
    Op::Inventory(Box::new(Inventory {
        origins: Vec::new(),
        ticket: TICKET,
        host: host(name),
        hostname: values.first().map(|v| (*v).to_owned()),
        mac: values.get(1).map(|v| (*v).to_owned()),
        values: owned(values),
        addresses: owned(addresses),
    }))
}

fn progress(name: &str, phase: u8, working: Option<&str>, complete: &[&str], left: &[&str]) -> Op {
    let phases = [Phase::Received, Phase::Began, Phase::Ended];
    Op::Progress(Box::new(Progress {
        origin: None,
        host: host(name),
        key: TaskKey::parse("AC1", "AC").unwrap(),
        phase: phases[usize::from(phase) - 1],
        working: working.map(str::to_owned),
        complete: owned(complete),
        oncall: owned(left),
        unknown: false,
        told: None,
        lifetime: Default::default(),
        state: None,
        stamp: stamp(u64::from(phase)),
    }))
}

/// The same of a task that the core does not know.
fn unknown(op: Op) -> Op {
    match op {
        Op::Progress(progress) => Op::Progress(Box::new(Progress {
            unknown: true,
            ..*progress
        })),
        other => other,
    }
}

fn answer(name: &str, rcc: u8) -> Op {
    Op::Answer(Box::new(Answer {
        origin: None,
        host: host(name),
        key: TaskKey::parse("AC1", "AC").unwrap(),
        rcc,
        state: None,
        again: false,
        stamp: stamp(u64::from(rcc)),
    }))
}

fn owned(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|t| (*t).to_owned()).collect()
}

fn set(members: &[&str]) -> Option<Dump> {
    Some(Dump::Set(owned(members)))
}

fn list(entries: &[&str]) -> Option<Dump> {
    Some(Dump::List(owned(entries)))
}

fn hash(fields: &[(&str, &str)]) -> Option<Dump> {
    let own = |(f, v): &(&str, &str)| ((*f).to_owned(), (*v).to_owned());
    Some(Dump::Hash(fields.iter().map(own).collect()))
}

fn sorted(entries: &[(&str, f64)]) -> Option<Dump> {
    let own = |(m, s): &(&str, f64)| ((*m).to_owned(), *s);
    Some(Dump::Sorted(entries.iter().map(own).collect()))
}

/// Runs `ops` as one batch, all of which must be settled.
fn run(store: &mut Box<dyn Subject>, ops: &[Op]) -> Vec<Outcome> {
    let mut outcomes = Vec::new();
    let ran = store.run(ops, &mut outcomes);
    assert_eq!((ran.done, ran.error), (ops.len(), None));
    outcomes
}

/// Runs one `Online` or `Offline`.
fn settle(store: &mut Box<dyn Subject>, op: Op) -> Settled {
    match run(store, &[op]).pop() {
        Some(Outcome::Presence { ticket, settled }) if ticket == TICKET => settled,
        other => panic!("not settled: {other:?}"),
    }
}

/// Runs operations none of which may be refused.
fn store_all(store: &mut Box<dyn Subject>, ops: &[Op]) {
    for outcome in run(store, ops) {
        assert_eq!(refusal(&outcome), None);
    }
}

fn refusal(outcome: &Outcome) -> Option<&str> {
    match outcome {
        Outcome::Presence {
            settled: Settled::Refused(why),
            ..
        }
        | Outcome::Inventory {
            result: Err(why), ..
        }
        | Outcome::Report {
            result: Err(why), ..
        } => Some(why),
        _ => None,
    }
}

fn key(store: &mut Box<dyn Subject>, name: &str) -> Option<Dump> {
    store.dump(name).unwrap()
}

/// The hash `name` by field; empty if it does not exist.
fn fields(store: &mut Box<dyn Subject>, name: &str) -> BTreeMap<String, String> {
    match key(store, name) {
        Some(Dump::Hash(fields)) => fields.into_iter().collect(),
        None => BTreeMap::new(),
        other => panic!("{name} is no hash: {other:?}"),
    }
}

/// The events told so far, each by field.
fn events(store: &mut Box<dyn Subject>) -> Vec<BTreeMap<String, String>> {
    match key(store, "anthill:events") {
        Some(Dump::Stream(entries)) => entries
            .into_iter()
            .map(|entry| entry.into_iter().collect())
            .collect(),
        None => Vec::new(),
        other => panic!("no stream: {other:?}"),
    }
}

/// The named fields of the last event, `-` for missing ones.
fn last_event(store: &mut Box<dyn Subject>, names: &[&str]) -> Vec<String> {
    let events = events(store);
    let last = events.last().expect("an event was told");
    let field = |name: &&str| last.get(*name).cloned().unwrap_or_else(|| "-".into());
    names.iter().map(field).collect()
}

/// All hosts the store names, by name.
fn held(store: &mut Box<dyn Subject>, everyone: bool) -> BTreeMap<String, HeldHost> {
    let hosts = held_in_order(store, everyone).into_iter();
    hosts.map(|held| (held.host.to_string(), held)).collect()
}

/// All hosts the store names, as it names them.
fn held_in_order(store: &mut Box<dyn Subject>, everyone: bool) -> Vec<HeldHost> {
    let (mut cursor, mut hosts) = (HeldCursor::Start, Vec::new());
    for _ in 0..100 {
        if cursor == HeldCursor::End {
            break;
        }
        store.held(everyone, &mut cursor, &mut hosts).unwrap();
    }
    assert_eq!(cursor, HeldCursor::End, "the reading does not end");
    hosts
}

/// Waits until `key` is gone.
fn until_gone(store: &mut Box<dyn Subject>, name: &str) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while key(store, name).is_some() {
        assert!(Instant::now() < deadline, "{name} does not expire");
        std::thread::sleep(Duration::from_millis(1));
    }
}
