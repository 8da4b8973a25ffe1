//! Memory and time of the core with a million hosts, in absolute figures: memory, a heartbeat beside that
//! of a thousand hosts, a tick in which nothing is due, and one in which a hundred thousand hosts are lost. No
//! sockets and no store: other benches measure theirs.
//!
//!     cargo bench --bench million

use std::alloc::{GlobalAlloc, Layout, System};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant as Clock};

use anthill::codec::message::{Incoming, Message, ReplyRequest};
use anthill::handlers::effect::Effects;
use anthill::handlers::{Core, Flow, Input, Moment, Rules};
use anthill::ids::ConnId;
use anthill::store::op::{Op, Outcome, Settled};
use anthill::time::{Instant, Span, UnixMs};

/// A prime far from any power of two, so that neighbours in time are not neighbours in memory.
const STRIDE: u32 = 611_953;
const TIMEOUT_S: u64 = 60;
/// Number of groups in which hosts fall silent, a second apart.
const GROUPS: u32 = 10;

static HELD: AtomicUsize = AtomicUsize::new(0);

/// The system's allocator, with a balance before it.
struct Weighing;

// SAFETY: every call goes to the system's allocator as it came; the balance is a plain number.
unsafe impl GlobalAlloc for Weighing {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        HELD.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller keeps to the contract of this very method.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as above; `pointer` came from the system's allocator.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        HELD.fetch_add(size, Ordering::Relaxed);
        HELD.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as above; `pointer` came from the system's allocator.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Weighing = Weighing;

fn at(second: u64) -> Moment {
    Moment {
        now: Instant::ZERO + Span::from_secs(second),
        wall: UnixMs(1_800_000_000_000 + second * 1_000),
    }
}

fn connection(host: u32) -> ConnId {
    ConnId {
        slot: host,
        generation: 1,
    }
}

fn beat(core: &mut Core, host: u32, at: Moment, fx: &mut Effects) {
    let incoming = Incoming {
        message: Message::Heartbeat,
        ask: ReplyRequest::default(),
    };
    let conn = connection(host);
    let flow = core.handle(at, Input::Message { conn, incoming }, fx);
    assert_eq!(flow, Flow::Taken);
    fx.list.clear();
}

/// Simulates the store until no writes are left.
fn write_down(core: &mut Core, at: Moment, fx: &mut Effects) {
    while core.has_work() {
        let batch = core.pull(at, 4_096);
        for op in batch.into_iter().flat_map(|batch| batch.ops) {
            let outcome = match op {
                Op::Online(op) => Outcome::Presence {
                    ticket: op.ticket,
                    settled: Settled::claimed(1),
                },
                Op::Seen(_) => Outcome::Seen,
                Op::Audit(_) => Outcome::Audited,
                // It has no outcome.
                Op::History(_) => continue,
                other => panic!("nothing else happens here: {other:?}"),
            };
            let _ = core.handle(at, Input::Outcome(outcome), fx);
            fx.list.clear();
        }
    }
}

/// A core with so many hosts online since the first second, all of it written down.
fn fleet(hosts: u32, fx: &mut Effects) -> Core {
    let rules = Rules {
        timeout: Span::from_secs(TIMEOUT_S),
        hosts_max: hosts as usize,
        ..Rules::default()
    };
    let mut core = Core::new(rules, 1);
    let up = Outcome::Available {
        session: 1,
        lease_clear: true,
        lost_data: false,
    };
    for outcome in [Outcome::Held(Vec::new()), up] {
        let _ = core.handle(at(1), Input::Outcome(outcome), fx);
    }
    for host in 0..hosts {
        let conn = connection(host);
        let peer = SocketAddr::from((Ipv4Addr::from_bits(0x0a00_0001 + host), 40_000));
        let _ = core.handle(at(1), Input::Opened { conn, peer }, fx);
        beat(&mut core, host, at(1), fx);
    }
    write_down(&mut core, at(1), fx);
    assert!(core.settled());
    core.tidy();
    core
}

/// The shortest of some runs, each of so many times, in nanoseconds a time.
fn each(times: u32, mut work: impl FnMut()) -> f64 {
    let run = |_| {
        let start = Clock::now();
        (0..times).for_each(|_| work());
        start.elapsed()
    };
    let shortest = (0..5).map(run).min().unwrap_or_default();
    shortest.as_secs_f64() * 1e9 / f64::from(times)
}

fn heartbeats(core: &mut Core, hosts: u32, times: u32, fx: &mut Effects) -> f64 {
    let mut host = 0;
    each(times, || {
        host = (host + STRIDE) % hosts;
        beat(core, host, at(2), fx);
    })
}

/// All hosts fall silent, one group a second; returns the times of the ticks in which a group is
/// lost.
fn lost(core: &mut Core, hosts: u32, fx: &mut Effects) -> Vec<Duration> {
    for group in 0..GROUPS {
        for host in (0..hosts).filter(|host| host % GROUPS == group) {
            beat(core, host, at(10 + u64::from(group)), fx);
        }
    }
    // What was armed when they connected is looked at again, and armed anew.
    for second in 20..10 + TIMEOUT_S {
        core.tick(at(second).now, at(second), fx);
        write_down(core, at(second), fx);
    }
    let mut ticks = Vec::new();
    for group in 0..u64::from(GROUPS) {
        let moment = at(10 + TIMEOUT_S + group);
        let moment = Moment {
            now: moment.now + Span::from_millis(500),
            ..moment
        };
        let before = core.stats().hosts_online;
        let start = Clock::now();
        core.tick(moment.now, moment, fx);
        ticks.push(start.elapsed());
        fx.list.clear();
        let gone = before - core.stats().hosts_online;
        assert_eq!(gone, u64::from(hosts / GROUPS), "at {moment:?}");
    }
    ticks.sort();
    ticks
}

fn main() {
    // A mere test of the benches makes do with a small fleet.
    let measuring = std::env::args().any(|argument| argument == "--bench");
    let (many, times) = if measuring {
        (1_000_000, 1_000_000)
    } else {
        (1_000, 1_000)
    };
    let mut fx = Effects::default();
    let few = heartbeats(&mut fleet(1_000, &mut fx), 1_000, times, &mut fx);
    fx.list.shrink_to_fit();
    let before = HELD.load(Ordering::Relaxed);
    let mut core = fleet(many, &mut fx);
    fx.list.shrink_to_fit();
    let held = HELD.load(Ordering::Relaxed) - before;
    println!("memory of {many} hosts: {:.1} MB", held as f64 / 1e6);
    let large = heartbeats(&mut core, many, times, &mut fx);
    println!(
        "heartbeat: {large:.1} ns, {:.2} times that of 1000 hosts ({few:.1} ns)",
        large / few
    );
    let nothing = each(times, || {
        core.tick(at(2).now, at(2), &mut fx);
    });
    println!("tick, nothing due: {nothing:.0} ns");
    let ticks = lost(&mut core, many, &mut fx);
    let ms = |tick: &Duration| tick.as_secs_f64() * 1e3;
    let (middle, longest) = (&ticks[ticks.len() / 2], &ticks[ticks.len() - 1]);
    println!(
        "tick, {} hosts lost: {:.1} ms, {:.1} ms at most",
        many / GROUPS,
        ms(middle),
        ms(longest)
    );
}
