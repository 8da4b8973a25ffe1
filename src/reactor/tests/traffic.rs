//! Raw bytes, datagrams, pushes and requests over real sockets, with a test double of the core.

use std::cell::RefCell;
use std::net::UdpSocket;
use std::rc::Rc;

use super::super::test_double::{TestDouble, test_double};
use super::*;
use crate::codec::message::{Flag, Message, Push, Reply, Word};
use crate::handlers::Flow;
use crate::handlers::request::{ErrorKind, Request, Response};
use crate::limits::{DATAGRAM_IN_BYTES_MAX, READ_BYTES_PER_TURN_MAX, UNREAD_REPLY_BYTES_MAX};

const CONN: ConnId = ConnId {
    slot: 0,
    generation: 0,
};

fn header(size: usize) -> Vec<u8> {
    let digest = "00".repeat(32);
    frame(&format!(
        r#"{{"flag":"ADH43","code":"AC1","task":"a","exit":0,"seconds":1,"total_size":{size},"sha256":"{digest}"}}"#
    ))
}

/// Bytes that begin like frames and are not frames.
fn payload(size: usize) -> Vec<u8> {
    frame(BEAT_ASKING).into_iter().cycle().take(size).collect()
}

/// Inputs that a test double saw.
#[derive(Default)]
struct Seen {
    raw: Vec<u8>,
    largest: usize,
    /// The piece refused last.
    waiting: Option<Vec<u8>>,
    waits: usize,
}

/// Accepts results: each header requests its bytes, which are collected. Pieces for which `waits`
/// holds are refused once.
fn take_results(mut waits: impl FnMut(usize) -> bool + 'static) -> (TestDouble, Rc<RefCell<Seen>>) {
    let seen = Rc::new(RefCell::new(Seen::default()));
    let shown = Rc::clone(&seen);
    let (mut left, mut pieces) = (0, 0);
    let test_double = test_double(move |input, _| {
        let mut seen = seen.borrow_mut();
        match input {
            Input::Message { incoming, .. } => match &incoming.message {
                Message::Result(result) => {
                    assert_eq!(left, 0, "no frame is read while raw bytes are to come");
                    left = result.size as usize;
                    Some(Flow::Raw(result.size))
                }
                _ => None,
            },
            Input::Raw { conn, bytes } => {
                assert!(conn.slot <= 1);
                assert!(!bytes.is_empty() && bytes.len() <= left);
                if let Some(waiting) = seen.waiting.take() {
                    assert_eq!(waiting, *bytes, "the same bytes come again");
                } else {
                    pieces += 1;
                    if waits(pieces) {
                        seen.waiting = Some(bytes.to_vec());
                        seen.waits += 1;
                        return Some(Flow::Wait);
                    }
                }
                left -= bytes.len();
                seen.largest = seen.largest.max(bytes.len());
                seen.raw.extend_from_slice(bytes);
                Some(Flow::Taken)
            }
            _ => None,
        }
    });
    (test_double, shown)
}

impl Rig {
    /// Number of input bytes kept by the first connection.
    fn kept(&mut self) -> usize {
        let pool = &mut self.reactor.connections.pool;
        let entry = self.reactor.connections.table.get_mut(CONN).unwrap();
        let (kept, need) = entry.take_input();
        let bytes = kept.len();
        entry.keep_input(kept, need, pool);
        bytes
    }
}

#[test]
fn any_cut_keeps_raw_bytes() {
    let (_stand_in, seen) = take_results(|_| false);
    let mut stream = frame(BEAT_ASKING);
    let mut sent = Vec::new();
    for size in [0, 1, 3, 70] {
        stream.extend(header(size));
        stream.extend(payload(size));
        sent.extend(payload(size));
        stream.extend(frame(BEAT_ASKING));
    }
    for piece in [1, 7, 64, stream.len()] {
        let mut rig = Rig::new();
        let mut peer = rig.connect();
        for bytes in stream.chunks(piece) {
            let before = rig.reactor.stats.bytes_in;
            peer.send(bytes);
            rig.until(|rig| rig.reactor.stats.bytes_in == before + bytes.len() as u64);
        }
        rig.until(|_| peer.take().is_none() && peer.replies() == 5);
        assert_eq!(std::mem::take(&mut seen.borrow_mut().raw), sent);
        assert_eq!(rig.reactor.stats.raw_bytes, sent.len() as u64);
        assert_eq!(rig.reactor.stats.frames, 9);
        let entry = rig.reactor.connections.table.get_mut(CONN).unwrap();
        assert!(!entry.has_buffer(), "it is idle, and small again");
    }
}

#[test]
fn large_results_are_not_copied() {
    let (_stand_in, seen) = take_results(|_| false);
    let mut rig = Rig::new();
    let mut peer = rig.connect();
    let size = 4 * 1024 * 1024;
    let stream = [header(size), payload(size), frame(BEAT_ASKING)].concat();
    let mut rest = stream.as_slice();
    let mut before = 0;
    rig.until(|rig| {
        while let Ok(wrote @ 1..) = peer.stream.write(rest) {
            rest = &rest[wrote..];
        }
        let read = rig.reactor.stats.bytes_in - before;
        assert!(read <= READ_BYTES_PER_TURN_MAX as u64);
        before += read;
        let raw = rig.reactor.stats.raw_bytes;
        if raw > 0 && raw < size as u64 {
            assert_eq!(rig.kept(), 0);
        }
        peer.take().is_none() && peer.replies() == 1
    });
    let seen = seen.borrow();
    assert!(seen.raw == payload(size));
    assert!(seen.largest > 16 * 1024, "pieces of {} bytes", seen.largest);
}

#[test]
fn a_raw_piece_without_room_is_retried() {
    let (_stand_in, seen) = take_results(|piece| piece % 2 == 1);
    let mut rig = Rig::new();
    let mut peer = rig.connect();
    let size = 300_000;
    let stream = [header(size), payload(size), frame(BEAT_ASKING)].concat();
    let mut rest = stream.as_slice();
    let mut resumed = 0;
    rig.until(|rig| {
        while let Ok(wrote @ 1..) = peer.stream.write(rest) {
            rest = &rest[wrote..];
        }
        let waits = seen.borrow().waits;
        if waits > resumed {
            let taken = rig.reactor.stats.raw_bytes;
            rig.turn();
            rig.turn();
            assert_eq!(
                rig.reactor.stats.raw_bytes, taken,
                "it is not read meanwhile"
            );
            resumed = waits;
            rig.reactor.driver.push(Effect::Resume { conn: CONN });
            let at = rig.reactor.poller.clock().moment();
            rig.reactor.apply(at);
        }
        peer.take().is_none() && peer.replies() == 1
    });
    assert!(resumed > 1 && seen.borrow().raw == payload(size));
    assert_eq!(rig.reactor.stats.read_waited, resumed as u64);
}

#[test]
fn a_panic_on_raw_bytes_ends_one_connection() {
    let _stand_in = take_results(|_| false);
    let mut rig = Rig::new();
    let (mut good, mut bad) = (rig.connect(), rig.connect());
    good.send(&frame(BEAT));
    bad.send(&frame(BEAT));
    bad.send(&header(1_000));
    bad.send(b"no frame, and fail-here");
    rig.until(|_| bad.take().is_some());
    assert_eq!(rig.reactor.driver.panics(), 1);
    assert_eq!(rig.abnormal(&Abnormal::Internal), 1);
    good.send(&frame(BEAT_ASKING));
    rig.until(|_| good.take().is_none() && good.replies() == 1);
}

#[test]
fn an_end_among_raw_bytes_is_an_end() {
    let _stand_in = take_results(|_| false);
    let mut rig = Rig::new();
    let mut gone = rig.connect();
    gone.send(&[frame(BEAT), header(1_000), payload(999)].concat());
    gone.stream.shutdown(Shutdown::Write).unwrap();
    rig.until(|rig| rig.offlines(Reason::Closed) == 1);
    assert_eq!(rig.reactor.stats.raw_bytes, 999);
    // The next in its slot begins with a frame.
    let mut next = rig.connect();
    next.send(&frame(BEAT_ASKING));
    rig.until(|_| next.take().is_none() && next.replies() == 1);
}

#[test]
fn long_answers_wait_until_the_peer_reads() {
    let book = || Word::Book {
        task: "AC1".to_owned(),
        commands: vec![("x".repeat(50_000), 1.0)],
    };
    let _stand_in = test_double(move |input, fx| match input {
        Input::Message { conn, incoming } if incoming.message.flag() == Flag::Book => {
            let (conn, flag, seq, word) = (*conn, Flag::Book, None, book());
            let reply = Reply { flag, seq, word };
            fx.push(Effect::Reply { conn, reply });
            Some(Flow::Taken)
        }
        _ => None,
    });
    let mut rig = Rig::new();
    let mut peer = rig.connect();
    let question = frame(r#"{"flag":"ADH41","taskId":"AC1"}"#);
    let questions = FRAMES_PER_TURN_MAX;
    peer.send(&question.repeat(questions));
    rig.until(|rig| {
        let entry = rig.reactor.connections.table.get(CONN);
        assert!(entry.map_or(0, |c| c.unsent()) < UNREAD_REPLY_BYTES_MAX + FRAME_BYTES_MAX);
        rig.reactor.stats.read_paused > 0
    });
    assert!(rig.reactor.stats.frames < questions as u64);
    let before = rig.reactor.stats.frames;
    rig.turn();
    assert_eq!(
        rig.reactor.stats.frames, before,
        "nothing is taken meanwhile"
    );
    let mut one = Vec::new();
    let (flag, seq, word) = (Flag::Book, None, book());
    crate::codec::emit(
        &Reply { flag, seq, word },
        crate::codec::Order::Little,
        &mut one,
    );
    rig.until(|_| peer.take().is_none() && peer.got.len() == questions * one.len());
}

#[test]
fn datagrams_are_handled_or_counted() {
    let seen = Rc::new(RefCell::new(Vec::new()));
    let shown = Rc::clone(&seen);
    let _stand_in = test_double(move |input, _| match input {
        Input::Datagram { from, incoming } => {
            if let Message::Answer(answer) = &incoming.message {
                assert_ne!(answer.task.as_deref(), Some("panic"));
            }
            seen.borrow_mut().push((*from, incoming.message.flag()));
            Some(Flow::Taken)
        }
        _ => None,
    });
    let mut rig = Rig::new();
    let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
    let long = |bytes: usize| {
        let around = BEAT.len() + r#","x":"""#.len();
        let padding = "x".repeat(bytes - around);
        format!(r#"{},"x":"{padding}"}}"#, &BEAT[..BEAT.len() - 1])
    };
    for body in [
        BEAT,
        r#"{"flag":"ADH33","RCC":1,"taskId":"panic"}"#,
        r#"{"flag":"ADH33","RCC":1,"taskId":"AC1"}"#,
        "",
        r#"{"flag":"ADH99"}"#,
        r#"{"flag":"ADH44","taskId":"AC1"}"#,
        &long(DATAGRAM_IN_BYTES_MAX),
        &long(DATAGRAM_IN_BYTES_MAX + 1),
    ] {
        peer.send_to(body.as_bytes(), rig.bound.udp).unwrap();
    }
    rig.until(|rig| rig.reactor.stats.datagrams == 8);
    let from = peer.local_addr().unwrap();
    let flags = shown.borrow();
    let flags: Vec<_> = flags
        .iter()
        .map(|(at, flag)| (*at == from, flag.as_str()))
        .collect();
    assert_eq!(flags, [(true, "ADH18"), (true, "ADH33"), (true, "ADH18")]);
    let stats = &rig.reactor.stats;
    assert_eq!(
        (stats.datagrams_too_long, rig.reactor.driver.panics()),
        (1, 1)
    );
    let of = |label| Abnormal::LABELS.iter().position(|l| *l == label).unwrap();
    assert_eq!(stats.datagrams_abnormal[of("flag")], 2);
    assert_eq!(stats.datagrams_abnormal[of("syntax")], 1);
}

#[test]
fn datagrams_that_wait_leave_with_the_turn() {
    let mut rig = Rig::new();
    let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
    peer.set_read_timeout(Some(TIMEOUT)).unwrap();
    for text in ["AC1", "AC2", "AC3"] {
        let (to, text) = (peer.local_addr().unwrap(), text.into());
        rig.reactor.udp.push(Datagram { to, text });
    }
    assert_eq!(
        rig.reactor.poll_timeout(rig.reactor.poller.now(), None),
        Some(Span::ZERO)
    );
    rig.turn();
    for text in ["AC1", "AC2", "AC3"] {
        let mut bytes = [0; 16];
        let (length, from) = peer.recv_from(&mut bytes).unwrap();
        assert_eq!((&bytes[..length], from), (text.as_bytes(), rig.bound.udp));
    }
    assert_eq!(rig.reactor.stats.datagrams_sent, 3);
    assert!(!rig.reactor.udp.has_ready());
}

#[test]
fn pushes_use_the_byte_order_of_the_connection() {
    let mut rig = Rig::new();
    let mut peer = rig.connect();
    let mut beat = frame(BEAT);
    beat[..4].reverse();
    peer.send(&beat);
    rig.until(|rig| rig.online() == 1);
    let push = |text: String| Effect::Push {
        conn: CONN,
        push: Push::Task(text.into()),
    };
    rig.reactor.driver.push(push("AC1".to_owned()));
    let at = rig.reactor.poller.clock().moment();
    rig.reactor.apply(at);
    let mut wanted = frame(r#"{"flag":"ADH44","taskId":"AC1"}"#);
    wanted[..4].reverse();
    rig.until(|_| peer.take().is_none() && peer.got == wanted);
    assert_eq!(rig.reactor.stats.pushes, 1);

    // A push that is too long for a frame is not sent. A peer that does not read is sent no more.
    rig.reactor.driver.push(push("x".repeat(FRAME_BYTES_MAX)));
    rig.reactor.apply(at);
    assert_eq!(rig.reactor.stats.pushes_dropped, 1);
    for _ in 0..1_000 {
        rig.reactor.driver.push(push("x".repeat(1_000)));
    }
    rig.reactor.apply(at);
    let entry = rig.reactor.connections.table.get(CONN).unwrap();
    assert!(entry.unsent() < UNREAD_REPLY_BYTES_MAX + 2_000);
    let sent = rig.reactor.stats.pushes;
    assert_eq!(sent - 1 + rig.reactor.stats.pushes_dropped - 1, 1_000);
    let length = wanted.len() + (sent as usize - 1) * (wanted.len() + 997);
    rig.until(|_| peer.take().is_none() && peer.got.len() == length);
}

#[test]
fn every_requester_is_answered() {
    let asked = Rc::new(RefCell::new(Vec::new()));
    let shown = Rc::clone(&asked);
    let _stand_in = test_double(move |input, fx| match input {
        Input::Request {
            requester,
            request: ask,
        } => {
            match ask {
                Request::Tasks { .. } => {
                    let answer = Response::Output(vec![7]);
                    fx.push(Effect::Respond {
                        requester: *requester,
                        answer,
                    });
                }
                Request::CommandStatus { cid } => {
                    asked.borrow_mut().push((*requester, cid.clone()))
                }
                _ => panic!("asked for what nobody knows"),
            }
            Some(Flow::Taken)
        }
        _ => None,
    });
    let mut rig = Rig::new();
    let ask = |rig: &mut Rig, ask: Request| {
        let (reply, answer) = bounded(1);
        let ask = Box::new(ask);
        rig.request(HandleRequest::Core {
            request: ask,
            reply,
        });
        rig.turn();
        answer
    };
    let tasks = || Request::Tasks {
        cursor: 0,
        limit: 1,
    };
    let late = ["a", "b"].map(|cid| {
        let cid = cid.to_owned();
        ask(&mut rig, Request::CommandStatus { cid })
    });
    assert_eq!(ask(&mut rig, tasks()).recv(), Ok(Response::Output(vec![7])));
    assert_eq!(rig.reactor.stats().requesters, 2);
    for (requester, cid) in shown.borrow().iter().rev() {
        let answer = Response::Output(cid.as_bytes().to_vec());
        let requester = *requester;
        rig.reactor
            .driver
            .push(Effect::Respond { requester, answer });
    }
    let at = rig.reactor.poller.clock().moment();
    rig.reactor.apply(at);
    for (end, cid) in late.iter().zip([b"a", b"b"]) {
        assert_eq!(end.try_recv(), Ok(Response::Output(cid.to_vec())));
    }

    let not_now = |answer: &Receiver<Response>| {
        let kind = ErrorKind::NotNow;
        matches!(answer.try_recv(), Ok(Response::Error { kind: found, .. }) if found == kind)
    };
    let cid = String::new();
    let nonsense = Request::Command {
        text: String::new(),
        hosts: None,
        target: None,
        cid,
    };
    assert!(not_now(&ask(&mut rig, nonsense)));
    assert_eq!(
        (rig.reactor.driver.panics(), rig.reactor.requesters.len()),
        (1, 0)
    );
    rig.reactor.begin_stop(at);
    assert!(not_now(&ask(&mut rig, tasks())));
}
