//! Memory of the core for a fleet that is online and sends only heartbeats: so little that a million hosts fit where others hold some ten thousand.
//!
//! The allocator counts live bytes, not requested ones.

use std::alloc::{GlobalAlloc, Layout, System};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};

use anthill::codec::message::{Ask, Incoming, Message};
use anthill::handlers::effect::Effects;
use anthill::handlers::{Core, Flow, Input, Moment, Rules};
use anthill::ids::ConnId;
use anthill::store::op::{Op, Outcome, Settled};
use anthill::time::{Instant, Span, UnixMs};

const HOSTS: u32 = 100_000;
/// Bytes a host may take of the core, everything counted, once all of it is written.
const BYTES_MAX: usize = 150;

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

fn at(seconds: u64) -> Moment {
    Moment {
        now: Instant::ZERO + Span::from_secs(seconds),
        wall: UnixMs(1_800_000_000_000 + seconds * 1_000),
    }
}

fn core() -> Core {
    let rules = Rules {
        timeout: Span::from_secs(60),
        first_message: Span::from_secs(10),
        working_timeout: Span::from_secs(3_600),
        key_prefix: "AC".to_owned(),
        keep: Span::from_secs(604_800),
        hosts_max: HOSTS as usize,
        agent_port: 6655,
        rto: Span::from_secs(3),
        tries: 5,
        result_bytes: 1 << 20,
        seed: 1,
        certificates: false,
    };
    Core::new(rules, 1)
}

fn tell(core: &mut Core, outcome: Outcome, fx: &mut Effects) {
    let _ = core.handle(at(1), Input::Outcome(outcome), fx);
    fx.list.clear();
}

/// A heartbeat of every host.
fn beat(core: &mut Core, at: Moment, fx: &mut Effects) {
    for slot in 0..HOSTS {
        let incoming = Incoming {
            message: Message::Heartbeat,
            ask: Ask::default(),
        };
        let generation = 0;
        let conn = ConnId { slot, generation };
        let flow = core.handle(at, Input::Message { conn, incoming }, fx);
        assert_eq!(flow, Flow::Taken);
        fx.list.clear();
    }
}

/// Plays the store until nothing is left to write.
fn write_down(core: &mut Core, at: Moment, fx: &mut Effects) {
    while core.has_work() {
        let batch = core.pull(at, 2_048);
        for op in batch.into_iter().flat_map(|batch| batch.ops) {
            match op {
                Op::Online(op) => {
                    let (ticket, settled) = (op.ticket, Settled::Claimed { epoch: 1 });
                    tell(core, Outcome::Presence { ticket, settled }, fx);
                }
                Op::Seen(_) => tell(core, Outcome::Seen, fx),
                Op::Audit(_) => tell(core, Outcome::Audited, fx),
                // So many new hosts are told of in sum.
                Op::Notice(_) => {}
                other => panic!("nothing else happens here: {other:?}"),
            }
        }
    }
}

#[test]
fn a_host_that_only_says_it_is_alive_takes_less_than_150_bytes_of_the_core() {
    let mut fx = Effects::default();
    let before = HELD.load(Ordering::Relaxed);
    let mut core = core();
    tell(&mut core, Outcome::Held(Vec::new()), &mut fx);
    let (session, lease_clear, emptied) = (1, true, false);
    tell(
        &mut core,
        Outcome::Up {
            session,
            lease_clear,
            emptied,
        },
        &mut fx,
    );
    for slot in 0..HOSTS {
        let generation = 0;
        let conn = ConnId { slot, generation };
        let peer = SocketAddr::from((Ipv4Addr::from_bits(0x0a00_0001 + slot), 40_000));
        let _ = core.handle(at(1), Input::Opened { conn, peer }, &mut fx);
    }
    for second in [1, 2, 3, 30, 59] {
        beat(&mut core, at(second), &mut fx);
        core.tick(at(second).now, at(second), &mut fx);
        write_down(&mut core, at(second), &mut fx);
    }
    assert!(core.settled());
    core.tidy();
    fx.list.shrink_to_fit();
    let held = HELD.load(Ordering::Relaxed) - before;
    let each = held / HOSTS as usize;
    println!("{each} bytes a host, {held} in all");
    assert!(each <= BYTES_MAX, "{each} bytes a host");
    assert_eq!(core.stats().hosts_online, u64::from(HOSTS));
}
