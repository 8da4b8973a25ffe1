//! Outages with data losses, in which the process is killed.

use super::*;

/// Path of the replay buffer.
fn kept(bench: &Bench) -> std::path::PathBuf {
    bench.dir.path().join("recent")
}

fn is_back(bench: &mut Bench) {
    bench.world.get().error = None;
    bench.pass(1_001);
}

#[test]
fn the_copy_outlives_the_process_in_an_outage() {
    let mut bench = Bench::up(ROOM);
    bench.give([report(1)]);
    // Until a check of the lease shows that the store still has it ten seconds later.
    bench.pass(16_000);
    bench.give([report(2), report(3)]);
    bench.pass(1_000);
    assert_eq!(bench.acknowledged().0, [1, 2, 3]);
    assert!(!kept(&bench).exists(), "in memory, while it is up");
    bench.world.get().error = away();
    bench.pass(1_001);
    bench.give([report(4)]);
    bench.pass(10);
    assert_eq!(bench.acknowledged().0, [1, 2, 3, 4]);

    // The store has lost its data, and so has the process.
    bench.world.get().stored.clear();
    bench.world.get().log.clear();
    let mut bench = bench.killed(ROOM);
    bench.pass(5_000);
    assert_eq!(bench.world.get().log, [0; 0]);
    // And once more.
    let mut bench = bench.killed(ROOM);
    is_back(&mut bench);
    assert_eq!(bench.world.get().log, [2, 3, 4], "in order, and once");
    assert!(!kept(&bench).exists());
    assert!(bench.worker.spool().is_empty());
    let mut bench = bench.killed(ROOM);
    bench.pass(1_001);
    assert_eq!(bench.world.get().log, [2, 3, 4], "safe with the store");
}

#[test]
fn the_copy_has_dispatches() {
    let mut bench = Bench::up(ROOM);
    bench.give([dispatch::dispatch(7), report(1)]);
    bench.pass(100);
    bench.world.get().error = away();
    bench.pass(1_001);
    bench.world.get().dispatched.clear();
    let mut bench = bench.killed(ROOM);
    is_back(&mut bench);
    assert_eq!(bench.world.get().dispatched, [7]);
    assert_eq!(bench.world.get().log, [1, 1]);
}

#[test]
fn repeated_outages_do_not_grow_the_copy() {
    let mut bench = Bench::up(ROOM);
    bench.give((0..100).map(report));
    bench.pass(100);
    bench.world.get().error = away();
    bench.pass(1_001);
    let first = bench.worker.spool().bytes();
    for _ in 0..20 {
        is_back(&mut bench);
        bench.world.get().error = away();
        bench.pass(1_001);
        assert_eq!(bench.worker.spool().bytes(), first);
    }
    assert!(fs::metadata(kept(&bench)).unwrap().len() == first);
    assert_eq!(bench.worker.spool().records(), 0, "no part of the queue");
    // In one outage it is written once.
    let written = fs::metadata(kept(&bench)).unwrap().modified().unwrap();
    bench.pass(10_000);
    let now = fs::metadata(kept(&bench)).unwrap().modified().unwrap();
    assert_eq!(written, now);
}

#[test]
fn the_copy_is_deleted_before_newer_writes() {
    let mut bench = Bench::up(ROOM);
    bench.give([report(1)]);
    bench.pass(100);
    bench.world.get().error = away();
    bench.pass(1_001);
    bench.give([report(2), report(3)]);
    bench.pass(10);
    assert!(kept(&bench).exists());
    // Available, and unavailable again in the middle of the spool.
    bench.world.get().error = None;
    bench.world.get().cut = vec![1, usize::MAX];
    while bench.world.get().log.last() != Some(&2) {
        if let Next::At(moment) = bench.turn() {
            bench.world.get().now = moment;
        }
        let log = bench.world.get().log.clone();
        assert!(log != [1, 1, 2] || bench.world.get().cut.is_empty());
    }
    bench.world.get().error = away();
    bench.pass(2_000);
    bench.world.get().log.clear();
    // The replayed operations and those of the spool are in the copy, in order.
    let mut bench = bench.killed(ROOM);
    is_back(&mut bench);
    assert_eq!(bench.world.get().log, [1, 2, 2, 3]);
}

#[test]
fn a_refused_replay_goes_to_rejected_once() {
    let mut bench = Bench::up(ROOM);
    bench.give([report(1), report(2), report(3)]);
    bench.pass(100);
    bench.world.get().error = away();
    bench.pass(1_001);
    bench.world.get().poison = [2].into();
    bench.world.get().log.clear();
    let mut bench = bench.killed(ROOM);
    is_back(&mut bench);
    assert_eq!(bench.world.get().log, [1, 3]);
    assert_eq!(bench.rejected(), [2]);
    bench.world.get().error = away();
    bench.pass(1_001);
    let mut bench = bench.killed(ROOM);
    is_back(&mut bench);
    assert_eq!(bench.rejected(), [2]);
}

#[test]
fn a_full_spool_keeps_the_copy() {
    let mut bench = Bench::up(4_000);
    bench.give((0..5).map(report));
    bench.pass(100);
    bench.world.get().error = away();
    bench.pass(1_001);
    let mut given = 5;
    while bench.worker.has_room() {
        bench.give([report(given)]);
        bench.pass(1);
        given += 1;
    }
    let acknowledged = bench.acknowledged().0;
    assert!(acknowledged.len() > 10, "{acknowledged:?}");
    assert!(bench.worker.spool().bytes() <= 4_000);
    bench.world.get().stored.clear();
    bench.world.get().log.clear();
    // The last, which had no room, was not acknowledged.
    let mut bench = bench.killed(4_000);
    is_back(&mut bench);
    assert_eq!(bench.world.get().log, acknowledged);
}

#[test]
fn without_room_the_oldest_stay_in_memory() {
    let mut bench = Bench::up(4_000);
    bench.give((0..50).map(report));
    bench.pass(100);
    bench.world.get().error = away();
    bench.pass(1_001);
    bench.give([report(50)]);
    bench.pass(10);
    assert_eq!(bench.acknowledged().0, (0..51).collect::<Vec<_>>());
    bench.world.get().stored.clear();
    bench.world.get().log.clear();
    is_back(&mut bench);
    assert_eq!(bench.world.get().log, (0..51).collect::<Vec<_>>());
    bench.world.get().error = away();
    bench.pass(1_001);
    bench.world.get().log.clear();
    let mut bench = bench.killed(4_000);
    is_back(&mut bench);
    let log = bench.world.get().log.clone();
    assert!(log.len() >= 5 && log.len() < 51, "{log:?}");
    assert_eq!(log, (51 - log.len() as u64..51).collect::<Vec<_>>());
}

#[test]
fn a_failed_disk_delays_nothing() {
    let mut bench = Bench::up(ROOM);
    bench.give([report(1)]);
    bench.pass(100);
    // Nothing can be written under this name.
    fs::create_dir(bench.dir.path().join("recent.new")).unwrap();
    bench.world.get().error = away();
    bench.pass(1_001);
    bench.give([report(2)]);
    bench.pass(10);
    assert_eq!(bench.acknowledged().0, [1, 2]);
    bench.world.get().stored.clear();
    is_back(&mut bench);
    assert_eq!(bench.world.get().stored, [1, 2].into());
}

#[test]
fn a_durable_store_needs_no_copy() {
    let mut bench = Bench::up(ROOM);
    bench.world.get().is_durable = true;
    bench.give([report(1)]);
    bench.pass(100);
    bench.world.get().error = away();
    bench.pass(1_001);
    assert!(!kept(&bench).exists());
}

#[test]
fn the_end_in_an_outage_keeps_the_copy() {
    for noticed in [true, false] {
        let mut bench = Bench::up(ROOM);
        bench.give([report(1)]);
        bench.pass(100);
        bench.world.get().error = away();
        if noticed {
            bench.pass(1_001);
        }
        bench.worker.end(ms(1_000));
        bench.worker.channel_is_empty();
        bench.pass(1);
        assert_eq!(bench.turn(), Next::Over);
        bench.world.get().log.clear();
        let mut bench = bench.killed(ROOM);
        is_back(&mut bench);
        assert_eq!(bench.world.get().log, [1], "noticed: {noticed}");
    }
}

#[test]
fn the_connection_is_watched_while_data_may_be_lost() {
    let mut bench = Bench::up(ROOM);
    bench.world.get().looks = Some(0);
    bench.pass(5_000);
    assert_eq!(bench.world.get().looks, Some(0));
    bench.give([report(1)]);
    bench.pass(100);
    bench.world.get().error = away();
    bench.pass(STORE_LOOK_MS);
    assert!(kept(&bench).exists(), "noticed at a look");
    is_back(&mut bench);
    bench.pass(20_000);
    let looks = bench.world.get().looks.unwrap();
    assert!((100..1_000).contains(&looks), "{looks} looks");
    bench.pass(20_000);
    assert_eq!(bench.world.get().looks, Some(looks), "not for ever");
}

/// The store fails, cuts batches and loses its last ten seconds, and the process is killed: all
/// acknowledged reports are stored in the end.
fn storm(seed: u64) {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut bench = Bench::up(ROOM);
    let mut acknowledged: Vec<u64> = Vec::new();
    let mut given = 0;
    for _ in 0..300 {
        match rng.u8(..12) {
            0 | 1 => {
                let died = bench.worker.now();
                bench.world.get().error = away();
                bench.pass(1_100);
                if rng.bool() {
                    bench.world.get().forget_since(died - ms(9_900));
                }
            }
            2..=4 => bench.world.get().error = None,
            5 => bench.world.get().cut.push(rng.usize(..5)),
            6 if rng.bool() && matches!(bench.worker.phase(), machine::Phase::Down { .. }) => {
                acknowledged.extend(bench.acknowledged().0);
                bench = bench.killed(ROOM);
            }
            _ if bench.worker.has_room() => {
                let more = rng.u64(1..20);
                bench.give((given..given + more).map(report));
                given += more;
            }
            _ => {}
        }
        bench.pass(rng.u64(1..700));
    }
    bench.world.get().error = None;
    bench.world.get().cut.clear();
    bench.pass(120_000);
    acknowledged.extend(bench.acknowledged().0);
    let world = bench.world.get();
    let lost = |n: &&u64| !world.stored.contains(n);
    let lost: Vec<&u64> = acknowledged.iter().filter(lost).collect();
    assert!(lost.is_empty(), "seed {seed}: {lost:?}");
    assert!(acknowledged.len() > 100, "seed {seed}");
    drop(world);
    assert!(bench.worker.spool().is_empty() && bench.worker.spool().bytes() == 0);
}

#[test]
fn no_acknowledged_report_is_lost_in_any_outage() {
    let fresh = fastrand::u64(..);
    for seed in (0..12).chain([fresh]) {
        storm(seed);
    }
}
