//! Throughput of the store thread per batch: presence changes and reports, in the embedded store
//! and, if `redis-server` is installed, in a Redis of the bench's own.

mod support;

use std::net::Ipv4Addr;

use anthill::codec::message::Phase;
use anthill::ids::{HostId, HostRef, TaskKey};
use anthill::limits::BATCH_OPS_MAX;
use anthill::store::Backend;
#[cfg(feature = "embedded")]
use anthill::store::embedded::EmbeddedStore;
use anthill::store::op::{Offline, Online, Op, Outcome, Progress, Reason, Settled, Stamp};
use anthill::time::UnixMs;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use support::connect;
#[cfg(feature = "embedded")]
use support::settings;
use testkit::Redis;

const AT: UnixMs = UnixMs(1_800_000_000_000);

/// Operations in a batch. A mere test of the benches makes do with few.
fn batch() -> u32 {
    let measuring = std::env::args().any(|argument| argument == "--bench");
    if measuring { BATCH_OPS_MAX as u32 } else { 16 }
}

fn host(number: u32) -> HostId {
    HostId::of_address(Ipv4Addr::from_bits(0x0a00_0001 + number).into())
}

const fn ticket(number: u32) -> HostRef {
    HostRef {
        slot: number,
        generation: 1,
    }
}

fn stamp(seq: u64) -> Stamp {
    Stamp { at: AT, seq }
}

fn run(store: &mut dyn Backend, ops: &[Op]) -> Vec<Outcome> {
    let mut outcomes = Vec::with_capacity(ops.len());
    let ran = store.run(ops, &mut outcomes);
    assert!(ran.done == ops.len() && ran.error.is_none(), "{ran:?}");
    outcomes
}

fn epoch(outcome: &Outcome) -> u64 {
    match outcome {
        Outcome::Presence {
            settled: Settled::Claimed { epoch, .. },
            ..
        } => *epoch,
        other => panic!("no claim: {other:?}"),
    }
}

/// All hosts come online and go offline again.
fn come_and_go(store: &mut dyn Backend, hosts: u32) {
    let online = |number| {
        Op::Online(Box::new(Online {
            history: Vec::new(),
            ticket: ticket(number),
            host: host(number),
            peer: (Ipv4Addr::LOCALHOST, 40_000).into(),
            keyed: false,
            hold: anthill::store::op::Hold::Claim {
                boot: None,
                silent_ms: 0,
            },
            since: AT,
            event: Some(stamp(1)),
        }))
    };
    let come: Vec<Op> = (0..hosts).map(online).collect();
    let epochs: Vec<u64> = run(store, &come).iter().map(epoch).collect();
    let offline = |(number, epoch)| {
        Op::Offline(Box::new(Offline {
            history: Vec::new(),
            ticket: ticket(number),
            host: host(number),
            epoch,
            reason: Reason::Closed,
            since: AT,
            event: Some(stamp(2)),
        }))
    };
    let go: Vec<Op> = (0..hosts).zip(epochs).map(offline).collect();
    run(store, &go);
}

/// All hosts report progress.
fn report(store: &mut dyn Backend, hosts: u32) {
    let key = TaskKey::parse("AC1", "AC").expect("a key");
    let progress = |number| {
        Op::Progress(Box::new(Progress {
            origin: None,
            host: host(number),
            key: key.clone(),
            phase: Phase::Began,
            working: Some("uptime".to_owned()),
            complete: Vec::new(),
            oncall: vec!["uptime".to_owned()],
            state: None,
            unknown: false,
            silent: false,
            told: None,
            lifetime: Default::default(),
            stamp: stamp(3),
        }))
    };
    let ops: Vec<Op> = (0..hosts).map(progress).collect();
    run(store, &ops);
}

fn measure(c: &mut Criterion, name: &str, store: &mut dyn Backend) {
    store.open().expect("it is there");
    store.lease(true).expect("nobody else has it");
    let hosts = batch();
    let mut group = c.benchmark_group(format!("store, {name}"));
    group.throughput(Throughput::Elements(2 * u64::from(hosts)));
    group.bench_function(format!("{hosts} hosts come and go"), |b| {
        b.iter(|| come_and_go(store, hosts));
    });
    group.throughput(Throughput::Elements(u64::from(hosts)));
    group.bench_function(format!("{hosts} hosts report progress"), |b| {
        b.iter(|| report(store, hosts));
    });
    group.finish();
}

fn stores(c: &mut Criterion) {
    #[cfg(feature = "embedded")]
    {
        let directory = tempfile::tempdir().expect("a directory");
        let mut store = EmbeddedStore::open(directory.path(), settings()).expect("a new store");
        measure(c, "embedded", &mut store);
    }
    if Redis::is_installed() {
        let redis = Redis::start(&[]);
        measure(c, "Redis", &mut connect(&redis));
    } else {
        eprintln!("no redis-server is installed: its part is left out");
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(10);
    targets = stores
}
criterion_main!(benches);
