//! Memory: a heartbeat allocates nothing, and a fleet that is online and sends only heartbeats takes little
//! of the core, so that a million hosts fit.
//!
//! The allocator counts the calls and the live bytes of each thread, so the tests do not disturb each other.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::net::{Ipv4Addr, SocketAddr};

use anthill::codec::message::{Flag, FromServer, Incoming, Message, Reply, ReplyRequest, Word};
use anthill::codec::{ByteOrder, Framing, Order, ServerStep, Step};
use anthill::codec::{decode, decode_from_server, emit};
use anthill::handlers::effect::Effects;
use anthill::handlers::{Core, Flow, Input, Moment, Rules};
use anthill::ids::ConnId;
use anthill::store::op::{Op, Outcome, Settled};
use anthill::time::{Instant, Span, UnixMs};

const HOSTS: u32 = 100_000;
/// Bytes of the core for each host, everything counted, once all of it is written.
const BYTES_MAX: usize = 150;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
    static HELD: Cell<isize> = const { Cell::new(0) };
}

/// The system's allocator, with counters before it.
struct Counting;

fn count(allocations: usize, bytes: isize) {
    ALLOCATIONS.set(ALLOCATIONS.get() + allocations);
    HELD.set(HELD.get() + bytes);
}

// SAFETY: every call goes to the system's allocator as it came; the counters are plain numbers of
// the thread, which need neither an allocation nor a destructor.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(1, layout.size() as isize);
        // SAFETY: the caller keeps to the contract of this very method.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(0, -(layout.size() as isize));
        // SAFETY: as above; `pointer` came from the system's allocator.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(1, size as isize - layout.size() as isize);
        // SAFETY: as above; `pointer` came from the system's allocator.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn at(seconds: u64) -> Moment {
    Moment {
        now: Instant::ZERO + Span::from_secs(seconds),
        wall: UnixMs(1_800_000_000_000 + seconds * 1_000),
    }
}

fn core() -> Core {
    let rules = Rules {
        hosts_max: HOSTS as usize,
        ..Rules::default()
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
            ask: ReplyRequest::default(),
        };
        let generation = 0;
        let conn = ConnId { slot, generation };
        let flow = core.handle(at, Input::Message { conn, incoming }, fx);
        assert_eq!(flow, Flow::Taken);
        fx.list.clear();
    }
}

/// Simulates the store until no writes are left.
fn write_down(core: &mut Core, at: Moment, fx: &mut Effects) {
    while core.has_work() {
        let batch = core.pull(at, 2_048);
        for op in batch.into_iter().flat_map(|batch| batch.ops) {
            match op {
                Op::Online(op) => {
                    let (ticket, settled) = (op.ticket, Settled::claimed(1));
                    tell(core, Outcome::Presence { ticket, settled }, fx);
                }
                Op::Seen(_) => tell(core, Outcome::Seen, fx),
                Op::Audit(_) => tell(core, Outcome::Audited, fx),
                // So many new hosts are reported as a sum. Neither write has an outcome.
                Op::Notice(_) | Op::History(_) => {}
                other => panic!("nothing else happens here: {other:?}"),
            }
        }
    }
}

#[test]
fn an_idle_host_takes_150_bytes_at_most() {
    let mut fx = Effects::default();
    let before = HELD.get();
    let mut core = core();
    tell(&mut core, Outcome::Held(Vec::new()), &mut fx);
    let (session, lease_clear, lost_data) = (1, true, false);
    tell(
        &mut core,
        Outcome::Available {
            session,
            lease_clear,
            lost_data,
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
    let held = usize::try_from(HELD.get() - before).expect("it holds something");
    let each = held / HOSTS as usize;
    println!("{each} bytes a host, {held} in all");
    assert!(each <= BYTES_MAX, "{each} bytes a host");
    assert_eq!(core.stats().hosts_online, u64::from(HOSTS));
}

fn allocations_of(work: impl FnOnce()) -> usize {
    let before = ALLOCATIONS.get();
    work();
    ALLOCATIONS.get() - before
}

#[test]
fn the_counter_counts() {
    assert_eq!(allocations_of(|| drop(std::hint::black_box(vec![1_u8]))), 1);
}

#[test]
fn a_heartbeat_allocates_nothing() {
    let framing = Framing {
        order: ByteOrder::Auto,
        limit: 65_535,
    };
    let mut out = Vec::with_capacity(256);
    for body in [
        r#"{"flag": "ADH18", "phase": 1, "ACK": "keepAlive"}"#,
        r#"{"flag":"ADH18","phase":1,"ACK":"keepAlive","reply":true,"seq":9007199254740991}"#,
        r#" { "seq" : 7 , "ACK":"keepAlive","reply" : true, "phase":1, "flag" : "ADH18" } "#.trim(),
        r#"{"identifier":"ADH18","kp":"keepAlive","flag":"ADH18","ACK":"keepAlive"}"#,
        "ADH18/keepAlive",
    ] {
        let mut frame = (body.len() as i32).to_be_bytes().to_vec();
        frame.extend_from_slice(body.as_bytes());
        let allocations = allocations_of(|| {
            let mut order = Order::Unknown;
            out.clear();
            let Ok(Step::Need(_)) = decode(framing, &mut order, &frame[..9]) else {
                panic!("half a heartbeat: {body}");
            };
            let Ok(Step::Got { incoming, used }) = decode(framing, &mut order, &frame) else {
                panic!("a whole heartbeat: {body}");
            };
            assert_eq!(
                (&incoming.message, used),
                (&Message::Heartbeat, frame.len())
            );
            let reply = Reply {
                flag: Flag::Heartbeat,
                seq: incoming.ask.seq,
                word: Word::Alive,
            };
            emit(&reply, order, &mut out);
            let Ok(ServerStep::Got { content, used }) =
                decode_from_server(framing, &mut Order::Unknown, &out)
            else {
                panic!("a whole answer to {body}");
            };
            assert_eq!((content, used), (FromServer::Reply(reply), out.len()));
        });
        assert_eq!(allocations, 0, "{body}");
        assert_eq!(
            out[..3],
            [0, 0, 0],
            "the answer is in the order of the question"
        );
        assert_eq!(out.len(), 4 + usize::from(out[3]));
    }
}
