//! Cost of deadlines: one inserted and one collected, none due, and very many due at once.

use std::hint::black_box;

use anthill::time::{Instant, Span};
use anthill::wheel::Wheel;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};

const TIMEOUT: Span = Span::from_secs(60);
const MANY: u32 = 100_000;
/// Between two of them.
const STEP: Span = TIMEOUT.part(MANY as u64);

/// A wheel with `MANY` deadlines, spread over the timeout after `now`.
fn full(now: Instant) -> Wheel {
    let mut wheel = Wheel::new();
    wheel.expire(now, &mut Vec::new());
    for key in 0..MANY {
        wheel.insert(now + STEP.times(u64::from(key) + 1), key);
    }
    wheel
}

/// Hosts that fall silent one after the other, each with a deadline a timeout ahead.
fn steady(c: &mut Criterion) {
    let mut now = Instant::ZERO + TIMEOUT;
    let mut wheel = full(now);
    let mut due = Vec::new();
    c.bench_function("wheel/one in, one out", |b| {
        b.iter(|| {
            now = now + STEP;
            due.clear();
            wheel.expire(now, &mut due);
            for key in &due {
                wheel.insert(now + TIMEOUT, *key);
            }
        });
    });
    assert_eq!(wheel.len(), MANY as usize);
}

fn idle(c: &mut Criterion) {
    let now = Instant::ZERO + TIMEOUT;
    let mut wheel = full(now);
    let mut due = Vec::new();
    c.bench_function("wheel/nothing due", |b| {
        b.iter(|| wheel.expire(black_box(now), &mut due));
    });
    assert!(due.is_empty());
}

fn storm(c: &mut Criterion) {
    let now = Instant::ZERO + TIMEOUT;
    let wheel = full(now);
    let mut group = c.benchmark_group("wheel");
    group.throughput(Throughput::Elements(u64::from(MANY)));
    group.bench_function("100,000 due", |b| {
        b.iter_batched(
            || (wheel.clone(), Vec::with_capacity(MANY as usize)),
            |(mut wheel, mut due)| {
                wheel.expire(now + TIMEOUT + TIMEOUT, &mut due);
                assert_eq!(due.len(), MANY as usize);
                (wheel, due)
            },
            BatchSize::LargeInput,
        );
    });
    group.finish();
}

criterion_group!(benches, steady, idle, storm);
criterion_main!(benches);
