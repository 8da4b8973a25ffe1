//! Frames of the hosts.

use crate::codec::message::{Hello, Incoming, KeyedHello, Message, ReplyRequest};
use crate::codec::{ByteOrder, Framing};
use crate::keys::Nonce;
use crate::limits::{FRAME_BYTES_MAX, FRAME_HEADER_BYTES};

/// Framing of the server's replies.
pub(super) const FRAMING: Framing = Framing {
    order: ByteOrder::Auto,
    limit: FRAME_BYTES_MAX,
};

pub(super) fn heartbeat(seq: Option<u64>) -> Incoming<'static> {
    let reply = seq.is_some();
    Incoming {
        message: Message::Heartbeat,
        ask: ReplyRequest { reply, seq },
    }
}

pub(super) fn hello(id: &str, udp: Option<u16>, push: bool) -> Incoming<'_> {
    let hello = Hello {
        id: id.into(),
        udp,
        push,
        boot: None,
        ..Hello::default()
    };
    Incoming {
        message: Message::Hello(hello),
        ask: ReplyRequest::default(),
    }
}

pub(super) fn keyed_hello<'a>(id: &'a str, key: &'a str, nonce: Nonce, push: bool) -> Incoming<'a> {
    let hello = Hello {
        id: id.into(),
        push,
        ..Hello::default()
    };
    let key = key.into();
    Incoming {
        message: Message::KeyedHello(KeyedHello { hello, key, nonce }),
        ask: ReplyRequest::default(),
    }
}

pub(super) fn proof(proof: String) -> Incoming<'static> {
    Incoming {
        message: Message::Proof(proof.into()),
        ask: ReplyRequest::default(),
    }
}

/// Length of the first frame in echoed bytes of a floor.
pub(super) fn echoed(bytes: &[u8]) -> usize {
    let header = bytes.first_chunk::<FRAME_HEADER_BYTES>().copied();
    let length = header.map_or(0, u32::from_le_bytes) as usize;
    (FRAME_HEADER_BYTES + length).min(bytes.len())
}
