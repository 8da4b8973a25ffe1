//! Ownership of the lease.

use super::super::machine::Phase;
use super::*;

#[test]
fn a_dead_servers_lease_is_watched_and_then_taken() {
    let mut bench = Bench::new(ROOM);
    let end = bench.worker.now() + ms(14_000);
    bench.world.get().foreign = Some(end);
    bench.pass(1);
    let unclear = |o: &Outcome| {
        matches!(
            o,
            Outcome::Up {
                session: 1,
                lease_clear: false,
                emptied: false,
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
fn a_lease_that_lapses_is_taken_without_more_ado() {
    let mut bench = Bench::new(ROOM);
    let end = bench.worker.now() + ms(700);
    bench.world.get().foreign = Some(end);
    bench.pass(1_100);
    assert_eq!(bench.count(|o| matches!(o, Outcome::LeaseClear)), 1);
    assert_eq!(bench.session, 1);
}

#[test]
fn a_living_servers_lease_ends_the_work_but_keeps_the_reports() {
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
fn whoever_serves_goes_on_when_a_foreign_lease_appears() {
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
fn a_store_that_lost_everything_is_a_new_coming_up() {
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
fn what_was_confirmed_before_a_long_standstill_in_which_the_store_was_emptied_is_written_again() {
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
fn a_store_that_was_emptied_when_a_foreign_lease_ran_out_is_a_new_coming_up() {
    let mut bench = Bench::new(ROOM);
    let end = bench.worker.now() + ms(14_000);
    bench.world.get().foreign = Some(end);
    bench.pass(1);
    bench.give([report(1)]);
    bench.pass(50);
    // This process stands still, and afterwards no process has the lease: as if nothing had
    // happened. The own set exists, since a host has connected meanwhile.
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
fn so_is_one_that_was_emptied_and_went_away_while_a_foreign_lease_ran_out() {
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
    let emptied = |o: &Outcome| {
        matches!(
            o,
            Outcome::Up {
                session: 2,
                emptied: true,
                ..
            }
        )
    };
    assert_eq!(bench.count(emptied), 1);
}

#[test]
fn one_that_is_emptied_while_it_is_read_for_the_first_time_is_read_again() {
    let mut bench = Bench::new(ROOM);
    while !matches!(bench.worker.phase(), Phase::Tasks(_)) {
        bench.turn();
    }
    bench.world.get().forgot_node = true;
    bench.pass(1);
    let emptied = |o: &Outcome| {
        matches!(
            o,
            Outcome::Up {
                session: 1,
                emptied: true,
                ..
            }
        )
    };
    assert_eq!(bench.count(emptied), 1);
    assert_eq!(bench.world.get().held, [true, true]);
}
