//! The lease, and data losses that it shows.

use super::super::machine::Phase;
use super::*;

#[test]
fn the_lease_of_a_dead_server_is_watched_and_taken() {
    let mut bench = Bench::new(ROOM);
    let end = bench.worker.now() + ms(14_000);
    bench.world.get().foreign = Some(end);
    bench.pass(1);
    let unclear = |o: &Outcome| {
        matches!(
            o,
            Outcome::Available {
                session: 1,
                lease_clear: false,
                lost_data: false,
            }
        )
    };
    assert_eq!(bench.count(unclear), 1, "it serves at once");
    bench.pass(5_500);
    let clear = |o: &Outcome| matches!(o, Outcome::LeaseClear);
    assert_eq!(bench.count(clear), 0);
    bench.pass(1_500);
    assert_eq!(bench.count(clear), 1);
    assert!(bench.world.get().ours);
    bench.pass(20_000);
    assert_eq!((bench.count(clear), bench.session), (1, 1));
}

#[test]
fn a_lapsed_lease_is_taken_at_once() {
    let mut bench = Bench::new(ROOM);
    let end = bench.worker.now() + ms(700);
    bench.world.get().foreign = Some(end);
    bench.pass(1_100);
    assert_eq!(bench.count(|o| matches!(o, Outcome::LeaseClear)), 1);
    assert_eq!(bench.session, 1);
}

#[test]
fn a_living_owner_ends_the_work_but_keeps_reports() {
    let mut bench = Bench::new(ROOM);
    let now = bench.worker.now();
    bench.world.get().foreign = Some(now + ms(12_000));
    bench.pass(3_000);
    bench.world.get().foreign = Some(now + ms(18_000));
    bench.pass(501);
    let taken = |o: &Outcome| matches!(o, Outcome::NameTaken);
    assert_eq!(bench.count(taken), 1);
    bench.give([report(1), audit()]);
    bench.pass(30_000);
    assert_eq!(bench.count(taken), 1);
    assert_eq!(bench.acknowledged().0, [1]);
    assert!(bench.world.get().log.is_empty());
    assert!(!bench.world.get().ours);
}

#[test]
fn a_serving_server_survives_a_foreign_lease() {
    let mut bench = Bench::up(ROOM);
    for _ in 0..4 {
        let end = bench.worker.now() + ms(15_000);
        bench.world.get().foreign = Some(end);
        bench.world.get().ours = false;
        bench.pass(5_000);
    }
    assert_eq!(bench.count(|o| matches!(o, Outcome::NameTaken)), 0);
    bench.give([report(1), audit()]);
    bench.pass(50);
    assert_eq!(bench.world.get().state, 1);
    bench.pass(7_000);
    assert!(bench.world.get().ours, "not renewed any more, so taken");
    assert_eq!(bench.session, 1);
}

#[test]
fn a_data_loss_is_a_new_connection() {
    let mut bench = Bench::up(ROOM);
    bench.give([report(1)]);
    bench.pass(50);
    let mut world = bench.world.get();
    world.ours = false;
    world.stored.clear();
    drop(world);
    bench.pass(5_001);
    assert_eq!(bench.session, 2);
    let world = bench.world.get();
    assert_eq!(world.held, [true, false]);
    assert!(world.stored.contains(&1));
}

#[test]
fn reports_are_replayed_after_a_data_loss_during_a_stall() {
    let mut bench = Bench::up(ROOM);
    bench.pass(4_000);
    bench.give([report(1)]);
    bench.pass(50);
    let mut world = bench.world.get();
    assert!(world.stored.contains(&1));
    world.ours = false;
    world.stored.clear();
    world.now = world.now + ms(60_000);
    drop(world);
    bench.pass(5_001);
    assert_eq!(bench.session, 2);
    assert!(bench.world.get().stored.contains(&1));
}

#[test]
fn a_data_loss_as_a_foreign_lease_lapses_is_noticed() {
    let mut bench = Bench::new(ROOM);
    let end = bench.worker.now() + ms(14_000);
    bench.world.get().foreign = Some(end);
    bench.pass(1);
    bench.give([report(1)]);
    bench.pass(50);
    // This process stands still, and afterwards no process has the lease. The own set exists, since
    // a host has connected meanwhile.
    let mut world = bench.world.get();
    (world.foreign, world.forgot_node) = (None, true);
    world.stored.clear();
    world.now = world.now + ms(20_000);
    drop(world);
    bench.pass(2_000);
    assert_eq!(bench.count(|o| matches!(o, Outcome::LeaseClear)), 1);
    assert_eq!(bench.session, 2);
    assert!(bench.world.get().stored.contains(&1));
}

#[test]
fn a_data_loss_in_an_outage_with_a_foreign_lease_is_noticed() {
    let mut bench = Bench::new(ROOM);
    let end = bench.worker.now() + ms(14_000);
    bench.world.get().foreign = Some(end);
    bench.pass(1);
    bench.world.get().error = away();
    bench.pass(2_000);
    let mut world = bench.world.get();
    (world.foreign, world.forgot_node) = (None, true);
    (world.now, world.error) = (end, None);
    drop(world);
    bench.pass(2_000);
    let lost_data = |o: &Outcome| {
        matches!(
            o,
            Outcome::Available {
                session: 2,
                lost_data: true,
                ..
            }
        )
    };
    assert_eq!(bench.count(lost_data), 1);
}

#[test]
fn a_data_loss_during_the_first_reading_is_noticed() {
    let mut bench = Bench::new(ROOM);
    while !matches!(bench.worker.phase(), Phase::Tasks(_)) {
        bench.turn();
    }
    bench.world.get().forgot_node = true;
    bench.pass(1);
    let lost_data = |o: &Outcome| {
        matches!(
            o,
            Outcome::Available {
                session: 1,
                lost_data: true,
                ..
            }
        )
    };
    assert_eq!(bench.count(lost_data), 1);
    assert_eq!(bench.world.get().held, [true, true]);
}
