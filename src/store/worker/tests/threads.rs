//! The thread itself, in real time, with deadlines.

use super::*;
use std::sync::atomic::{AtomicUsize, Ordering};

const LONG: Duration = Duration::from_secs(20);

fn begin(world: &Shared, dir: &std::path::Path) -> (StoreThread, Arc<AtomicUsize>) {
    let wakes = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&wakes);
    let maker = world.clone();
    let plan = Plan {
        spool_dir: dir.to_path_buf(),
        spool_bytes: ROOM,
        flush: ms(1),
        retry: ms(10),
        grace: Span::from_secs(60),
        seed: 7,
    };
    let make: Make = Box::new(move || maker.backend());
    let wake = move || {
        counted.fetch_add(1, Ordering::SeqCst);
    };
    let spool = Spool::open(dir, ROOM).unwrap();
    (start(make, plan, spool, wake).unwrap(), wakes)
}

fn until_up(thread: &StoreThread) {
    loop {
        let told = thread.outcomes.recv_timeout(LONG).unwrap();
        if told.iter().any(|o| matches!(o, Outcome::Available { .. })) {
            return;
        }
    }
}

fn batch(numbers: std::ops::Range<u64>) -> Batch {
    Batch {
        session: 1,
        ops: numbers.map(report).collect(),
    }
}

#[test]
fn queued_batches_are_settled_before_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let world = Shared::default();
    let (thread, wakes) = begin(&world, dir.path());
    until_up(&thread);
    assert!(wakes.load(Ordering::SeqCst) >= 1);
    for n in 0..BATCHES_WAITING_MAX as u64 {
        thread
            .batches
            .send_timeout(batch(n * 10..n * 10 + 10), LONG)
            .unwrap();
    }
    let before = thread.outcomes.len();
    let stopped = thread.stop(LONG);
    assert!(stopped.ended && before <= OUTCOMES_WAITING_MAX);
    assert_eq!(world.get().log, (0..80).collect::<Vec<_>>());
    let settled: usize = stopped
        .outcomes
        .iter()
        .filter(|o| matches!(o, Outcome::Report { .. }))
        .count();
    assert_eq!(settled, 80);
    assert!(!world.get().ours);
}

#[test]
fn many_outcomes_make_one_wake() {
    let dir = tempfile::tempdir().unwrap();
    let world = Shared::default();
    let (thread, wakes) = begin(&world, dir.path());
    // The outcomes are not taken, so one wake must suffice.
    thread.batches.send_timeout(batch(0..1), LONG).unwrap();
    thread.batches.send_timeout(batch(1..2), LONG).unwrap();
    while thread.outcomes.len() < 3 {
        assert!(
            thread.batches.send_timeout(batch(2..3), LONG).is_ok(),
            "the thread is gone"
        );
    }
    assert_eq!(wakes.load(Ordering::SeqCst), 1);
    assert!(thread.stop(LONG).ended);
}

#[test]
fn a_dropped_thread_ends_and_frees_the_spool() {
    let dir = tempfile::tempdir().unwrap();
    let world = Shared::default();
    let (thread, _) = begin(&world, dir.path());
    until_up(&thread);
    let StoreThread {
        batches,
        outcomes,
        stop,
        thread,
        ..
    } = thread;
    drop((batches, outcomes, stop));
    thread.join().unwrap();
    assert!(Spool::open(dir.path(), ROOM).is_ok());
}
