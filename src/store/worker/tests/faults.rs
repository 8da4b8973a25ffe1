//! Panics: operations that are repeated, and operations that are set aside.

use super::*;

#[test]
fn after_a_panic_the_same_reports_run_again() {
    let mut bench = Bench::up(ROOM);
    bench.world.get().panics = 2;
    bench.give([report(1), audit(), report(2)]);
    bench.pass(200);
    assert_eq!(bench.acknowledged(), (vec![1, 2], vec![]));
    let world = bench.world.get();
    assert_eq!(world.log, [1, 2]);
    assert_eq!((world.made, world.state), (3, 0));
    drop(world);
    assert_eq!(bench.worker.stats().restarts.get(), 2);
    assert_eq!(bench.worker.stats().spooled.get(), 0);
    assert_eq!(bench.session, 3);
}

#[test]
fn a_report_that_always_panics_is_set_aside() {
    let mut bench = Bench::up(ROOM);
    bench.world.get().mines = BTreeMap::from([(2, u32::MAX)]);
    bench.give([report(1), report(2), report(3)]);
    bench.pass(5_000);
    assert_eq!(bench.acknowledged(), (vec![1, 3], vec![2]));
    assert_eq!(bench.rejected(), [2]);
    assert_eq!(bench.worker.stats().restarts.get(), 4);
    let session = bench.session;
    // When it is careful, one more panic costs only its own operation, state included.
    bench.world.get().mines = BTreeMap::from([(5, u32::MAX)]);
    bench.give([report(4), report(5), audit()]);
    bench.pass(1_000);
    assert_eq!(bench.acknowledged(), (vec![1, 3, 4], vec![2, 5]));
    assert_eq!(bench.world.get().state, 1);
    assert_eq!(bench.session, session);
    // After a quiet minute it is no longer careful.
    bench.pass(61_000);
    bench.world.get().runs.clear();
    bench.give([report(6), report(7)]);
    bench.pass(50);
    assert_eq!(bench.world.get().runs, [2]);
}

#[test]
fn a_spooled_record_that_panics_does_not_stop_the_others() {
    let mut bench = Bench::new(ROOM);
    bench.world.get().error = away();
    bench.world.get().mines = BTreeMap::from([(2, u32::MAX)]);
    bench.pass(1);
    bench.give((1..=4).map(report));
    bench.pass(1);
    bench.world.get().error = None;
    bench.pass(10_000);
    assert_eq!(bench.session, 1);
    let world = bench.world.get();
    assert_eq!(world.stored, [1, 3, 4].into());
    drop(world);
    assert_eq!(bench.rejected(), [2]);
}

#[test]
fn panics_outside_a_run_do_not_delay_reports() {
    let mut bench = Bench::new(ROOM);
    bench.world.get().held_panics = 6;
    bench.give([report(1)]);
    bench.pass(500);
    assert_eq!(bench.acknowledged().0, [1], "spooled meanwhile");
    bench.pass(10_000);
    assert_eq!(bench.session, 1);
    assert_eq!(bench.world.get().stored, [1].into());
    assert_eq!(bench.acknowledged(), (vec![1], vec![]));
}
