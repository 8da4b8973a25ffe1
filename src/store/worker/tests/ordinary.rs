//! Ordinary operation, outages, a full spool and the end.

use super::*;
use crate::limits::STORE_RUN_OPS_MAX;

#[test]
fn a_connection_reports_hosts_and_then_its_number() {
    let mut bench = Bench::new(ROOM);
    bench.pass(1);
    assert!(matches!(
        bench.seen[..],
        [
            Outcome::Held(_),
            Outcome::Held(_),
            Outcome::Available {
                session: 1,
                lease_clear: true,
                lost_data: false,
            }
        ]
    ));
    assert_eq!(bench.world.get().held, [true]);
}

#[test]
fn operations_gather_for_at_most_the_flush_time() {
    let mut bench = Bench::up(ROOM);
    bench.give([report(1), audit()]);
    bench.pass(30);
    bench.give([report(2), report(3)]);
    assert!(bench.world.get().runs.is_empty());
    bench.pass(20);
    assert_eq!(bench.world.get().runs, [4]);
    assert_eq!(bench.acknowledged().0, [1, 2, 3]);
    assert_eq!(bench.count(|o| matches!(o, Outcome::Audited)), 1);
}

#[test]
fn a_full_batch_does_not_wait() {
    let mut bench = Bench::up(ROOM);
    bench.give((0..2_500).map(report));
    assert!(!bench.worker.has_room());
    bench.turn();
    bench.turn();
    assert_eq!(bench.world.get().runs, [STORE_RUN_OPS_MAX; 2]);
    assert!(bench.worker.has_room());
}

#[test]
fn an_idle_worker_tests_renews_and_sweeps() {
    let mut bench = Bench::up(ROOM);
    let opens = bench.world.get().opens;
    bench.pass(10_000);
    assert!(bench.world.get().opens >= opens + 8);
    bench.world.get().error = away();
    bench.pass(1_001);
    assert_eq!(bench.aways(), ["gone"]);
    bench.world.get().error = None;
    bench.pass(60_000);
    assert_eq!(bench.world.get().sweeps, 1);
    assert_eq!(bench.session, 2);
}

#[test]
fn an_outage_spools_reports_and_drops_state() {
    let mut bench = Bench::up(ROOM);
    bench.give([report(1), audit(), report(2)]);
    bench.world.get().error = away();
    bench.pass(60);
    assert_eq!(bench.acknowledged().0, [1, 2]);
    bench.give([report(3), audit()]);
    bench.pass(5_000);
    assert_eq!(bench.acknowledged().0, [1, 2, 3]);
    assert_eq!(bench.aways(), ["gone"]);
    assert_eq!(bench.worker.stats().spool_records_waiting.get(), 3);
    assert_eq!(bench.world.get().stored.len(), 0);
    bench.world.get().error = None;
    bench.pass(1_001);
    let world = bench.world.get();
    assert_eq!(world.log, [1, 2, 3]);
    assert_eq!(
        (world.state, world.held.as_slice()),
        (0, &[true, false][..])
    );
    drop(world);
    assert_eq!(bench.session, 2);
    assert_eq!(bench.acknowledged().0, [1, 2, 3], "told once");
    assert_eq!(bench.worker.stats().replayed.get(), 3);
}

#[test]
fn attempts_are_at_most_a_second_apart() {
    let mut bench = Bench::new(ROOM);
    bench.world.get().error = away();
    bench.world.get().hang = ms(200);
    bench.pass(1);
    for _ in 0..20 {
        let Next::At(moment) = bench.turn() else {
            panic!("it does not wait");
        };
        let now = bench.worker.now();
        assert!(moment > now && moment.since(now) <= ms(1_000));
        bench.world.get().now = moment;
    }
}

#[test]
fn state_for_an_old_connection_is_dropped() {
    let mut bench = Bench::up(ROOM);
    bench.worker.take(Batch {
        session: 0,
        ops: vec![audit(), report(1), audit()],
    });
    bench.pass(50);
    assert_eq!(bench.world.get().state, 0);
    assert_eq!(bench.acknowledged().0, [1]);
}

#[test]
fn a_cut_batch_is_settled_up_to_the_cut() {
    let mut bench = Bench::up(ROOM);
    let notice = Op::Notice(Box::new(Notice {
        event: "mass-offline",
        about: None,
        state: None,
        reason: None,
        count: None,
        audit: None,
        stamp: Stamp {
            at: UnixMs(0),
            seq: 0,
        },
    }));
    bench.give([report(1), notice, report(2), audit(), report(3), report(4)]);
    bench.world.get().cut = vec![3];
    bench.pass(50);
    assert_eq!(bench.acknowledged().0, [1, 2, 3, 4]);
    bench.pass(2_000);
    // The replay buffer is replayed first.
    assert_eq!(bench.world.get().log, [1, 2, 1, 2, 3, 4]);
}

#[test]
fn the_replay_buffer_is_replayed_first() {
    let mut bench = Bench::up(ROOM);
    bench.give([report(1)]);
    bench.pass(11_000);
    bench.give([report(2)]);
    bench.pass(3_000);
    bench.give([report(3)]);
    bench.pass(1_000);
    bench.world.get().error = away();
    bench.pass(60_000);
    bench.give([report(4)]);
    bench.pass(10);
    bench.world.get().stored.clear();
    bench.world.get().log.clear();
    bench.world.get().error = None;
    bench.pass(1_001);
    assert_eq!(bench.world.get().log, [2, 3, 4]);
}

#[test]
fn a_refused_report_goes_to_rejected() {
    let mut bench = Bench::up(ROOM);
    bench.world.get().poison = [2, 4].into();
    bench.give([report(1), report(2), report(3)]);
    bench.pass(50);
    assert_eq!(bench.acknowledged(), (vec![1, 3], vec![2]));
    bench.world.get().error = away();
    bench.pass(1_001);
    bench.give([report(4), report(5)]);
    bench.pass(10);
    bench.world.get().error = None;
    bench.pass(1_001);
    assert_eq!(bench.world.get().log.last(), Some(&5));
    assert_eq!(bench.rejected(), [2, 4]);
    assert_eq!(bench.worker.stats().rejected.get(), 2);
    assert_eq!(bench.session, 2);
}

#[test]
fn a_refused_password_is_reported_once() {
    let mut bench = Bench::new(ROOM);
    bench.world.get().error = Some(StoreError::Refused("WRONGPASS".to_owned()));
    bench.pass(10_000);
    let refused = |o: &Outcome| matches!(o, Outcome::Refused(text) if text == "WRONGPASS");
    assert_eq!(bench.count(refused), 1);
    bench.world.get().error = None;
    bench.pass(1_001);
    assert_eq!(bench.session, 1);
}

#[test]
fn a_full_spool_stops_the_intake() {
    let mut bench = Bench::up(2_000);
    bench.world.get().error = away();
    bench.pass(1_001);
    let mut given = 0;
    while bench.worker.has_room() {
        given += 1;
        assert!(given < 100, "its bound does not hold");
        bench.give([report(given)]);
        bench.pass(1);
    }
    let acknowledged = bench.acknowledged().0;
    assert_eq!(acknowledged, (1..given).collect::<Vec<_>>());
    bench.pass(5_000);
    assert_eq!(bench.acknowledged().0, acknowledged);
    let aways = bench.aways();
    assert_eq!(aways.len(), 2);
    assert!(aways[1].contains("the spool is full"), "{}", aways[1]);
    bench.world.get().error = None;
    bench.pass(1_001);
    assert_eq!(bench.acknowledged().0, (1..=given).collect::<Vec<_>>());
    assert_eq!(bench.world.get().log, (1..=given).collect::<Vec<_>>());
    assert!(bench.worker.has_room());
}

#[test]
fn a_long_replay_takes_new_reports_and_ends() {
    let mut bench = Bench::new(ROOM);
    bench.world.get().error = away();
    bench.pass(1);
    for batch in 0..5 {
        bench.give((batch * 2_000..(batch + 1) * 2_000).map(report));
        bench.pass(1);
    }
    bench.world.get().error = None;
    bench.world.get().now = bench.worker.now() + ms(1_000);
    // One new report after every step for which there is room.
    let mut next = 10_000;
    for _ in 0..100 {
        bench.turn();
        if bench.worker.has_room() && bench.session == 0 {
            bench.give([report(next)]);
            next += 1;
        }
    }
    assert_eq!(bench.session, 1);
    bench.pass(100);
    assert!(next > 10_002, "some came meanwhile");
    assert_eq!(bench.world.get().log, (0..next).collect::<Vec<_>>());
    assert_eq!(bench.acknowledged().0, (0..next).collect::<Vec<_>>());
}

#[test]
fn the_end_settles_all_and_gives_up_the_lease() {
    let mut bench = Bench::up(ROOM);
    bench.give([report(1), audit()]);
    bench.worker.end(ms(1_000));
    bench.worker.channel_is_empty();
    bench.pass(1);
    assert_eq!(bench.acknowledged().0, [1]);
    let world = bench.world.get();
    assert_eq!((world.state, world.ours), (1, false));
    drop(world);
    assert_eq!(bench.turn(), Next::Over);
}

#[test]
fn the_end_in_an_outage_spools_reports() {
    let mut bench = Bench::new(ROOM);
    bench.world.get().error = away();
    bench.pass(1);
    bench.give([report(1)]);
    bench.worker.end(ms(1_000));
    bench.worker.channel_is_empty();
    bench.pass(2_000);
    assert_eq!(bench.acknowledged().0, [1]);
    assert_eq!(bench.turn(), Next::Over);
    let Bench {
        world, worker, dir, ..
    } = bench;
    drop(worker);
    world.get().error = None;
    let mut bench = Bench {
        worker: Bench::worker(&world, dir.path(), ROOM),
        world,
        dir,
        seen: Vec::new(),
        session: 0,
    };
    bench.pass(1);
    assert_eq!(bench.world.get().log, [1]);
}
