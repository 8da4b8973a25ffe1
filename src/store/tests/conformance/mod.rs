//! The conformance suite of the stores: one suite, run over each of them.
//!
//! The tests of a store implement [`RawKeys`], write a function that runs a [`Case`] over an empty
//! database, and pass it to [`conformance_tests!`], which makes a test of each case. A case may
//! open the store several times over the same data, one at a time.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::codec::message::Phase;
use crate::ids::{HostId, HostRef, TaskKey};
use crate::time::{Span, UnixMs};

use crate::store::op::{
    Answer, HeldHost, Hold, Inventory, LabelPlace, Labels, Offline, Online, Op, Outcome, Progress,
    Reason, Settled, Stamp, TaskState,
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

/// Passes the names of all cases to the macro `$then` of this module, behind `$before` and a colon.
macro_rules! conformance_cases {
    ($then:ident $($before:tt)*) => {
        $crate::store::tests::conformance::$then!($($before)*:
            coming_online_claims_the_host
            going_offline_gives_up_the_claim
            a_late_offline_does_nothing
            a_host_of_another_node_is_not_changed
            a_renewal_takes_only_what_is_this_nodes
            a_claim_says_what_it_found
            a_host_the_old_server_left_can_go_offline
            a_host_whose_claim_was_lost_can_go_offline
            an_interrupted_offline_is_finished_when_repeated
            an_inventory_replaces_the_one_before
            an_inventory_does_not_change_a_foreign_claim
            last_seen_never_goes_back
            only_offline_hosts_are_forgotten
            labels_are_found_and_forgotten_with_their_host
            an_audit_adds_missing_hosts
            a_notice_is_an_event
            an_audit_has_its_fields
            transitions_are_added_once
            counts_by_minute_are_merged
            devices_and_targets_are_fields_of_hashes
            a_task_ends_with_only_its_book_when_cleared
            a_task_of_two_hosts_keeps_them_apart
            a_kept_task_keeps_its_finished_commands
            reports_before_a_restored_state_are_written
            repeated_or_late_progress_changes_nothing
            progress_without_a_list_sets_it
            an_empty_end_drops_the_list
            the_book_bounds_the_finished_list
            the_finished_list_is_no_longer_than_a_message
            unlisted_commands_are_taken_once
            an_answer_ends_the_wait_for_a_host
            a_stale_message_after_a_newer_changes_nothing
            every_operation_can_be_repeated
            a_key_of_another_type_refuses_one_operation
            a_restart_finds_the_hosts
            all_hosts_are_found_in_pages
            a_start_finishes_an_interrupted_offline
            a_start_undoes_or_adopts_an_interrupted_online
            a_host_another_node_took_leaves_our_set
            a_seen_orphan_is_adopted_once
            a_key_of_another_type_hides_no_other_host
            invalid_host_names_are_skipped
            finished_records_expire
            a_task_that_was_never_stored_expires
            old_last_seen_times_are_swept
            the_lease_is_taken_renewed_and_given_up
            hosts_and_tasks_of_a_gone_node_are_taken_over
            a_node_that_returns_is_not_gone
            a_task_of_any_node_can_be_read
            a_task_is_stored_with_its_event
            a_task_of_many_hosts_and_commands_is_stored
            a_used_key_is_not_changed
            a_foreign_book_is_not_changed
            a_cut_dispatch_is_finished_when_repeated
            a_cut_dispatch_can_be_given_up
            a_cut_dispatch_is_undone_at_the_start
            two_nodes_cannot_both_take_a_key
            dispatches_of_one_batch_settle_separately
            a_refused_dispatch_leaves_nothing
            tasks_are_found_again_after_a_restart
            a_lost_task_is_restored
            states_change_for_named_hosts_until_they_have_ended
            a_state_never_goes_back
            a_task_expires_after_a_host_has_ended
            a_task_with_open_hosts_does_not_expire
            a_result_is_stored_and_replaces_itself
            a_question_is_answered_from_lists_and_results
            a_console_command_has_only_results
            a_question_about_a_key_of_another_type_fails
            a_question_keeps_the_order_of_its_hosts
        );
    };
}
pub(crate) use conformance_cases;

/// Makes a test of every case. `$fresh` is a `fn(Case)` that runs one over an empty database.
macro_rules! conformance_tests {
    ($fresh:path) => {
        $crate::store::tests::conformance::conformance_cases!(conformance_tests $fresh);
    };
    ($fresh:path: $($case:ident)*) => {
        $(#[test]
        fn $case() {
            $fresh($crate::store::tests::conformance::$case);
        })*
    };
}
pub(crate) use conformance_tests;

/// Makes a function of the given name that returns all cases with their names, for a store whose
/// start takes long.
macro_rules! conformance_list {
    ($name:ident) => {
        $crate::store::tests::conformance::conformance_cases!(conformance_list $name);
    };
    ($name:ident: $($case:ident)*) => {
        fn $name() -> Vec<(&'static str, Case)> {
            vec![$((stringify!($case), $crate::store::tests::conformance::$case)),*]
        }
    };
}
pub(crate) use conformance_list;

mod dispatch;
mod history;
mod presence;
mod properties;
mod reports;
mod results;
mod whole;

pub use dispatch::*;
pub use history::*;
pub use presence::*;
pub use properties::*;
pub use reports::*;
pub use results::*;
pub use whole::*;

// --- helpers of the cases ---------------------------------------------------------------

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
        wait_replicas: 0,
        info: crate::store::NodeInfo::default(),
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
        history: Vec::new(),
        ticket: TICKET,
        host: host(name),
        peer: "10.0.0.1:4711".parse().unwrap(),
        keyed: false,
        since: UnixMs(1_700_000_000_000),
        hold: Hold::Claim {
            boot: None,
            silent_ms: 0,
        },
        event: event.map(stamp),
    }))
}

/// A host that has proved a key is online.
fn proved(name: &str, event: Option<u64>) -> Op {
    match online(name, event) {
        Op::Online(online) => Op::Online(Box::new(Online {
            history: Vec::new(),
            keyed: true,
            ..*online
        })),
        other => other,
    }
}

fn offline(name: &str, epoch: u64, event: Option<u64>) -> Op {
    Op::Offline(Box::new(Offline {
        history: Vec::new(),
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
        silent: false,
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
        | Outcome::Labels {
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

/// The events so far, by field.
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
    let last = events.last().expect("an event was written");
    let field = |name: &&str| last.get(*name).cloned().unwrap_or_else(|| "-".into());
    names.iter().map(field).collect()
}

/// All hosts the store names, by name.
fn held(store: &mut Box<dyn Subject>, all_hosts: bool) -> BTreeMap<String, HeldHost> {
    let hosts = held_in_order(store, all_hosts).into_iter();
    hosts.map(|held| (held.host.to_string(), held)).collect()
}

/// All hosts the store names, as it names them.
fn held_in_order(store: &mut Box<dyn Subject>, all_hosts: bool) -> Vec<HeldHost> {
    let (mut cursor, mut hosts) = (HeldCursor::Start, Vec::new());
    for _ in 0..100 {
        if cursor == HeldCursor::End {
            break;
        }
        store.held(all_hosts, &mut cursor, &mut hosts).unwrap();
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
