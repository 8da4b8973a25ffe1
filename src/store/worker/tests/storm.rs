//! Faults of all kinds in random order. The seed is printed.

use super::*;

/// With any mixture of faults no report is lost, none is acknowledged before it is stored or
/// spooled, and reports are first written in order.
fn storm(seed: u64) {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut bench = Bench::new(if rng.bool() { ROOM } else { 20_000 });
    let mut given = 0;
    for _ in 0..300 {
        match rng.u8(..12) {
            0 => bench.world.get().error = away(),
            1..=3 => bench.world.get().error = None,
            4 => bench.world.get().cut.push(rng.usize(..5)),
            5 if rng.u8(..4) == 0 => bench.world.get().panics = rng.u32(1..3),
            6 if rng.u8(..4) == 0 => bench.world.get().ours = false,
            7 if rng.u8(..4) == 0 => bench.world.get().held_panics = 1,
            _ if bench.worker.has_room() => {
                let more = rng.u64(1..20);
                let mut ops: Vec<Op> = (given..given + more).map(report).collect();
                ops.push(audit());
                given += more;
                bench.give(ops);
            }
            _ => {}
        }
        bench.pass(rng.u64(1..700));
        let kept = bench.world.get().stored.len() as u64;
        let waiting = bench.worker.spool().records();
        let rejected = bench.rejected();
        let (good, bad) = bench.acknowledged();
        // Only an operation that panicked alone, after others did, is refused.
        assert!(bad.iter().all(|n| rejected.contains(n)), "seed {seed}");
        assert!(
            good.len() as u64 <= kept + waiting + rejected.len() as u64,
            "seed {seed}: acknowledged {}, stored {kept}, spooled {waiting}",
            good.len()
        );
    }
    let mut world = bench.world.get();
    world.error = None;
    world.cut.clear();
    world.panics = 0;
    drop(world);
    bench.pass(120_000);
    let (good, bad) = bench.acknowledged();
    assert!(good.is_sorted(), "seed {seed}: answered out of order");
    let mut answered = [good, bad].concat();
    answered.sort_unstable();
    let all: Vec<u64> = (0..given).collect();
    assert_eq!(answered, all, "seed {seed}: each is answered once");
    let world = bench.world.get();
    // Without repetitions: only a number above all earlier ones is a first write.
    let mut settled: Vec<u64> = Vec::new();
    for &n in &world.log {
        if settled.last().is_none_or(|&last| n > last) {
            settled.push(n);
        }
    }
    let stored: Vec<u64> = world.stored.iter().copied().collect();
    assert_eq!(settled, stored, "seed {seed}: stored out of order");
    drop(world);
    settled.extend(bench.rejected());
    settled.sort_unstable();
    settled.dedup();
    assert_eq!(settled, all, "seed {seed}: each is stored or written down");
    assert!(bench.worker.spool().is_empty());
}

#[test]
fn no_report_is_lost_or_acknowledged_too_early() {
    let fresh = fastrand::u64(..);
    for seed in (0..40).chain([fresh]) {
        storm(seed);
    }
}
