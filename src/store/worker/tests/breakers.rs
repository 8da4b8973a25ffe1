//! Operations that break every connection.

use super::*;

fn breaks(reports: impl IntoIterator<Item = u64>) -> Bench {
    let bench = Bench::up(ROOM);
    bench.world.get().breakers = reports.into_iter().collect();
    bench
}

#[test]
fn a_report_that_breaks_three_connections_goes_to_rejected() {
    let mut bench = breaks([2]);
    bench.give([report(1), report(2), report(3), audit()]);
    bench.pass(20_000);
    assert_eq!(bench.rejected(), [2]);
    assert_eq!(bench.world.get().stored, [1, 3].into());
    let session = bench.session;
    assert_eq!(session, 2, "the store is up again");
    bench.give([report(4), audit()]);
    bench.pass(1_000);
    assert_eq!(bench.world.get().stored, [1, 3, 4].into());
    assert_eq!(bench.session, session);
}

#[test]
fn a_single_breaker_breaks_three_connections() {
    let mut bench = breaks([2]);
    bench.world.get().opens = 0;
    bench.give([report(2)]);
    bench.pass(20_000);
    assert_eq!(bench.rejected(), [2]);
    let text = fs::read_to_string(bench.dir.path().join("rejected")).unwrap();
    assert!(text.contains("it broke 3 connections"), "{text}");
    assert_eq!(
        bench.count(|outcome| matches!(outcome, Outcome::Unavailable(_))),
        1
    );
}

#[test]
fn several_breakers_in_a_large_batch_are_found() {
    let mut bench = breaks([7, 90, 91]);
    bench.give((1..=200).map(report));
    bench.pass(60_000);
    assert_eq!(bench.rejected(), [7, 90, 91]);
    assert_eq!(bench.world.get().stored.len(), 197);
    assert_eq!(bench.session, 2);
}

#[test]
fn a_breaker_in_the_spool_is_found_after_a_restart() {
    let mut bench = breaks([2]);
    bench.give([report(1), report(2), report(3)]);
    bench.pass(100);
    let mut bench = bench.killed(ROOM);
    bench.pass(20_000);
    assert_eq!(bench.rejected(), [2]);
    assert_eq!(bench.world.get().stored, [1, 3].into());
    assert_eq!(bench.session, 1);
}

#[test]
fn a_breaker_in_the_replay_buffer_is_found() {
    let mut bench = Bench::up(ROOM);
    bench.give([report(1), report(2), report(3)]);
    bench.pass(100);
    bench.world.get().breakers = [2].into();
    bench.world.get().error = away();
    bench.give([report(4)]);
    bench.pass(100);
    bench.world.get().error = None;
    bench.pass(20_000);
    assert_eq!(bench.rejected(), [2]);
    assert_eq!(bench.world.get().stored, [1, 2, 3, 4].into());
    assert_eq!(bench.session, 2);
}

#[test]
fn state_that_breaks_connections_is_refused() {
    let mut bench = breaks([0]);
    for _ in 0..3 {
        let session = bench.session;
        bench.give([audit()]);
        bench.pass(5_000);
        assert_eq!(bench.session, session + 1);
    }
    bench.give([audit(), report(1)]);
    bench.pass(1_000);
    assert_eq!(bench.session, 4);
    assert_eq!(bench.world.get().stored, [1].into());
    assert_eq!(
        bench.count(|outcome| matches!(outcome, Outcome::Audited)),
        1,
        "refused, not run"
    );
}

#[test]
fn a_dispatch_that_breaks_connections_is_refused() {
    let mut bench = breaks([77]);
    bench.give([super::dispatch::dispatch(77), report(1)]);
    bench.pass(20_000);
    assert_eq!(bench.session, 2);
    assert_eq!(bench.world.get().stored, [1].into());
    let refused = |outcome: &Outcome| {
        matches!(
            outcome,
            Outcome::Dispatched {
                request: 77,
                stored: crate::store::op::Stored::Refused(_)
            }
        )
    };
    assert_eq!(bench.count(refused), 1);
}

#[test]
fn a_store_that_takes_no_write_refuses_nothing() {
    let mut bench = Bench::up(ROOM);
    bench.world.get().breaks_always = true;
    bench.give([report(1)]);
    bench.pass(30_000);
    assert!(bench.world.get().probes > 5);
    assert_eq!(bench.rejected(), [0; 0]);
    bench.world.get().breaks_always = false;
    bench.pass(5_000);
    assert_eq!(bench.world.get().stored, [1].into());
}
