//! A number of heartbeats, from their bytes to the bytes of their replies: the program whose instructions `scripts/callgrind` counts.
//!
//!     cargo run --release --example heartbeats -- 100000

use std::hint::black_box;
use std::net::{Ipv4Addr, SocketAddr};

use anthill::codec::message::{Incoming, Message, ReplyRequest};
use anthill::codec::{ByteOrder, Framing, Order, Step, decode, emit, encode};
use anthill::handlers::effect::{Effect, Effects};
use anthill::handlers::{Core, Flow, Input, Moment, Rules};
use anthill::ids::ConnId;
use anthill::time::{Instant, UnixMs};

/// Hosts that beat, in turn.
const HOSTS: u32 = 1_000;
const FRAMING: Framing = Framing {
    order: ByteOrder::Auto,
    limit: 65_535,
};

fn rules() -> Rules {
    Rules {
        hosts_max: HOSTS as usize,
        ..Rules::default()
    }
}

fn main() {
    let wanted = std::env::args().nth(1).and_then(|word| word.parse().ok());
    let beats: u32 = wanted.expect("how many heartbeats");
    let at = Moment {
        now: Instant::from_nanos(1_000_000_000),
        wall: UnixMs(1_800_000_000_000),
    };
    let (mut core, mut fx) = (Core::new(rules(), 1), Effects::default());
    let connection = |slot| ConnId {
        slot,
        generation: 1,
    };
    for host in 0..HOSTS {
        let peer = SocketAddr::from((Ipv4Addr::from_bits(0x0a00_0001 + host), 40_000));
        let conn = connection(host);
        let _ = core.handle(at, Input::Opened { conn, peer }, &mut fx);
    }
    let mut frame = Vec::new();
    let incoming = Incoming {
        message: Message::Heartbeat,
        ask: ReplyRequest {
            reply: true,
            seq: Some(123_456),
        },
    };
    encode(&incoming, Order::Little, &mut frame).expect("it fits a frame");

    let mut out = Vec::with_capacity(256);
    let mut replies = 0_u32;
    for beat in 0..beats {
        let mut order = Order::Little;
        let step = decode(FRAMING, &mut order, black_box(&frame)).expect("a heartbeat");
        let Step::Got { incoming, .. } = step else {
            panic!("a whole frame");
        };
        let conn = connection(beat % HOSTS);
        let flow = core.handle(at, Input::Message { conn, incoming }, &mut fx);
        assert_eq!(flow, Flow::Taken);
        for effect in fx.list.drain(..) {
            if let Effect::Reply { reply, .. } = effect {
                out.clear();
                emit(&reply, order, &mut out);
                replies += 1;
                black_box(&out);
            }
        }
    }
    assert_eq!(replies, beats, "each is answered");
    println!("{replies}");
}
