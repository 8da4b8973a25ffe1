//! A heartbeat allocates nothing: neither when it is read, nor when it is answered, nor when the
//! answer is read.
//!
//! The allocator counts what the thread of the test asks of it.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use anthill::codec::message::{Flag, FromServer, Message, Reply, Word};
use anthill::codec::{ByteOrder, Framing, Order, ServerStep, Step};
use anthill::codec::{decode, decode_from_server, emit};

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

/// The system's allocator, with a counter before it.
struct Counting;

fn count() {
    ALLOCATIONS.with(|allocations| allocations.set(allocations.get() + 1));
}

// SAFETY: every call goes to the system's allocator as it came; the counter is a plain number of
// the thread, which needs neither an allocation nor a destructor.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller keeps to the contract of this very method.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above; `pointer` came from the system's allocator.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: as above; `pointer` came from the system's allocator.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn allocations_of(work: impl FnOnce()) -> usize {
    let before = ALLOCATIONS.with(Cell::get);
    work();
    ALLOCATIONS.with(Cell::get) - before
}

#[test]
fn the_counter_counts() {
    assert_eq!(allocations_of(|| drop(std::hint::black_box(vec![1_u8]))), 1);
}

#[test]
fn a_heartbeat_is_read_and_answered_without_an_allocation() {
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
            let Ok(ServerStep::Got { said, used }) =
                decode_from_server(framing, &mut Order::Unknown, &out)
            else {
                panic!("a whole answer to {body}");
            };
            assert_eq!((said, used), (FromServer::Reply(reply), out.len()));
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
