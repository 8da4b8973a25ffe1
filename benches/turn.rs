//! Cost of a turn in the core: a heartbeat, and a tick with nothing due, in a small fleet and in a
//! very large one. Apart from the caches of the machine, neither should depend on the number of
//! hosts.

use std::hint::black_box;
use std::net::{Ipv4Addr, SocketAddr};

use anthill::codec::message::{Incoming, Message, ReplyRequest};
use anthill::handlers::effect::Effects;
use anthill::handlers::view::Filter;
use anthill::handlers::{Core, Flow, Input, Moment, Rules};
use anthill::ids::ConnId;
use anthill::store::op::{Op, Outcome, Settled};
use anthill::time::{Instant, UnixMs};
use criterion::{Criterion, criterion_group, criterion_main};

const AT: Moment = Moment {
    now: Instant::from_nanos(1_000_000_000),
    wall: UnixMs(1_800_000_000_000),
};

/// A prime far from any power of two, so that neighbours in time are not neighbours in memory.
const STRIDE: u32 = 611_953;

/// The sizes to measure. A mere test of the benches makes do with the small one.
fn sizes() -> &'static [u32] {
    let measuring = std::env::args().any(|argument| argument == "--bench");
    if measuring {
        &[1_000, 1_000_000]
    } else {
        &[1_000]
    }
}

fn connection(host: u32) -> ConnId {
    ConnId {
        slot: host,
        generation: 1,
    }
}

fn beat(core: &mut Core, host: u32, fx: &mut Effects) {
    let incoming = Incoming {
        message: Message::Heartbeat,
        ask: ReplyRequest::default(),
    };
    let conn = connection(host);
    let flow = core.handle(AT, Input::Message { conn, incoming }, fx);
    assert_eq!(flow, Flow::Taken);
    fx.list.clear();
}

/// A core with so many hosts online, all of it written down.
fn fleet(hosts: u32) -> Core {
    let rules = Rules {
        hosts_max: hosts as usize,
        ..Rules::default()
    };
    let mut core = Core::new(rules, 1);
    let mut fx = Effects::default();
    let up = Outcome::Available {
        session: 1,
        lease_clear: true,
        lost_data: false,
    };
    for outcome in [Outcome::Held(Vec::new()), up] {
        let _ = core.handle(AT, Input::Outcome(outcome), &mut fx);
    }
    for host in 0..hosts {
        let conn = connection(host);
        let peer = SocketAddr::from((Ipv4Addr::from_bits(0x0a00_0001 + host), 40_000));
        let _ = core.handle(AT, Input::Opened { conn, peer }, &mut fx);
        beat(&mut core, host, &mut fx);
    }
    // A pull may find nothing to write and still have looked at a part of the table only.
    while core.has_work() {
        let batch = core.pull(AT, 4_096);
        for op in batch.into_iter().flat_map(|batch| batch.ops) {
            if let Op::Online(op) = op {
                let settled = Settled::claimed(1);
                let ticket = op.ticket;
                let outcome = Outcome::Presence { ticket, settled };
                let _ = core.handle(AT, Input::Outcome(outcome), &mut fx);
                fx.list.clear();
            }
        }
    }
    assert!(core.settled());
    assert_eq!(core.page(Filter::Online, 10, 0).hosts.len(), 10);
    core
}

fn turn(c: &mut Criterion) {
    let mut group = c.benchmark_group("turn");
    for &hosts in sizes() {
        let mut core = fleet(hosts);
        let mut fx = Effects::default();
        let mut host = 0;
        group.bench_function(format!("heartbeat, {hosts} hosts"), |b| {
            b.iter(|| {
                host = (host + STRIDE) % hosts;
                beat(&mut core, host, &mut fx);
            });
        });
        group.bench_function(format!("nothing due, {hosts} hosts"), |b| {
            b.iter(|| core.tick(black_box(AT.now), AT, &mut fx));
        });
        assert!(fx.list.is_empty());
    }
    group.finish();
}

criterion_group!(benches, turn);
criterion_main!(benches);
