//! Results of commands.

use sha2::{Digest as _, Sha256};

use super::*;
use crate::codec::message::ResultHeader;
use crate::limits::{
    COMMAND_RESULTS_MAX, RESULT_BYTES_ADDRESS_MAX, RESULT_BYTES_HELD_MAX, RESULT_STALLED_S,
    RESULT_WAIT_S_MAX, UNLISTED_RESULTS_MAX,
};

pub(super) fn header<'a>(
    code: &'a str,
    command: &'a str,
    output: &[u8],
    exit: i32,
) -> ResultHeader<'a> {
    ResultHeader {
        code: code.into(),
        command: command.into(),
        exit,
        seconds: 0.5,
        size: output.len() as u64,
        sha256: Sha256::digest(output).into(),
        truncated: false,
    }
}

/// Sends a complete result.
pub(super) fn send(
    world: &mut World,
    conn: ConnId,
    code: &str,
    command: &str,
    output: &[u8],
    exit: i32,
) {
    let header = header(code, command, output, exit);
    let flow = world.send(conn, Message::Result(header), Some(7));
    assert_eq!(flow, Flow::Raw(output.len() as u64));
    for bytes in output.chunks(5_000) {
        assert_eq!(world.input(Input::Raw { conn, bytes }), Flow::Taken);
    }
    world.settle();
}

#[test]
fn a_result_is_collected_checked_stored_and_acknowledged() {
    let mut world = World::new();
    let conn = world.plain("10.0.0.1");
    world.dispatch("AC1", &[]).unwrap();
    let output: Vec<u8> = (0..100_000_u32).map(|i| (i % 251) as u8).collect();
    send(&mut world, conn, "AC1", "uptime", &output, 0);
    assert_eq!(world.words(conn), [Word::GotIt]);
    let stored = &world.store.results[0];
    assert_eq!((stored.size, stored.output.len()), (100_000, 133_336));
    assert_eq!(stored.sha256.len(), 64);
    assert!(
        world
            .told
            .contains(&"result 10.0.0.1 AC1 uptime 0".to_owned())
    );
    let ask = request::Request::Output {
        key: "AC1".to_owned(),
        host: HostId::checked("10.0.0.1").unwrap(),
        command: "uptime".to_owned(),
    };
    assert!(matches!(world.asked(ask), request::Response::Output(bytes) if bytes.len() == 133_336));
    assert_eq!(world.core.stats().result_bytes_held, 0);
    world.report(conn, "AC1", Phase::Ended, &[]);
    assert_eq!(world.state("AC1", "10.0.0.1"), "done");
}

#[test]
fn an_empty_output_needs_no_bytes() {
    let mut world = World::new();
    let conn = world.plain("10.0.0.1");
    world.dispatch("AC1", &[]).unwrap();
    let header = header("AC1", "true", b"", 126);
    assert_eq!(
        world.send(conn, Message::Result(header), Some(7)),
        Flow::Taken
    );
    assert_eq!(world.words(conn), [Word::GotIt]);
    world.report(conn, "AC1", Phase::Ended, &[]);
    assert_eq!(world.state("AC1", "10.0.0.1"), "failed", "126 counts, too");
}

/// A host named in a task, or sent a console command, could fill the store with results.
#[test]
fn results_of_invented_commands_are_bounded() {
    let mut world = World::new();
    let conn = world.plain("10.0.0.1");
    world.dispatch("AC1", &[]).unwrap();
    let ask = request::Request::Command {
        text: "ls".to_owned(),
        hosts: None,
        target: None,
        cid: "0123456789abcdef0123456789abcdef".to_owned(),
    };
    let request::Response::Commanded { cid, .. } = world.asked(ask) else {
        panic!("it is sent");
    };
    let refused = Word::Refused("no such task for this host".to_owned());
    for (code, max) in [("AC1", UNLISTED_RESULTS_MAX), (&cid, COMMAND_RESULTS_MAX)] {
        let before = world.words(conn).len();
        for number in 0..=max {
            let made_up = format!("made up {number}");
            send(&mut world, conn, code, &made_up, b"x", 0);
        }
        let words = world.words(conn).split_off(before);
        let mut wanted = vec![Word::GotIt; usize::from(max)];
        wanted.push(refused.clone());
        assert_eq!(words, wanted, "{code}");
    }
    send(&mut world, conn, "AC1", "uptime", b"x", 0);
    assert_eq!(world.words(conn).last(), Some(&Word::GotIt));
}

#[test]
fn unrequested_and_damaged_results_are_refused() {
    let mut world = World::new();
    let conn = world.plain("10.0.0.1");
    let other = world.plain("10.0.0.2");
    world.dispatch("AC1", &["10.0.0.1"]).unwrap();
    let cid = "0123456789abcdef0123456789abcdef";
    for code in ["AC1", "AC9", "no key", cid] {
        send(&mut world, other, code, "uptime", b"something", 0);
    }
    let no_such = Word::Refused("no such task for this host".to_owned());
    assert_eq!(world.words(other), vec![no_such; 4]);
    let wrong = ResultHeader {
        sha256: [0; 32],
        ..header("AC1", "uptime", b"something", 1)
    };
    let _ = world.send(conn, Message::Result(wrong), Some(1));
    let bytes = b"something";
    let _ = world.input(Input::Raw { conn, bytes });
    assert_eq!(
        world.words(conn),
        [Word::Refused("wrong digest".to_owned())]
    );
    world.report(conn, "AC1", Phase::Ended, &[]);
    assert_eq!(world.state("AC1", "10.0.0.1"), "done", "it marks nothing");
    assert!(world.store.results.is_empty());
    assert_eq!(world.core.stats().results_refused, 5);
}

#[test]
fn an_oversized_result_closes_its_connection() {
    let mut world = World::new();
    let conn = world.plain("10.0.0.1");
    world.dispatch("AC1", &[]).unwrap();
    let header = ResultHeader {
        size: (1 << 20) + 1,
        ..header("AC1", "uptime", b"", 0)
    };
    let _ = world.send(conn, Message::Result(header), Some(1));
    assert!(world.closed(conn));
    assert_eq!(world.events()[1], "offline 10.0.0.1 abnormal");
}

#[test]
fn progress_counts_as_life_and_a_trickle_does_not() {
    let mut world = World::new();
    let conn = world.plain("10.0.0.1");
    world.dispatch("AC1", &["10.0.0.1"]).unwrap();
    let output = vec![b'x'; 1 << 20];
    let _ = world.send(conn, Message::Result(header("AC1", "x", &output, 0)), None);
    for _ in 0..4 {
        world.pass(TIMEOUT - 100);
        let bytes = &output[..20_000];
        assert_eq!(world.input(Input::Raw { conn, bytes }), Flow::Taken);
    }
    assert!(!world.closed(conn));
    for _ in 0..4 {
        world.pass(TIMEOUT / 3);
        let bytes = &output[..100];
        let _ = world.input(Input::Raw { conn, bytes });
    }
    assert!(world.closed(conn));
    assert_eq!(
        world.core.stats().result_bytes_held,
        0,
        "and what came is dropped"
    );
}

#[test]
fn one_payload_at_a_time_for_a_host() {
    let mut world = World::new();
    let first = world.plain("10.0.0.1");
    let second = world.open("10.0.0.1:4001");
    world.beat(second);
    world.dispatch("AC1", &[]).unwrap();
    let output = b"0123456789";
    let message = || Message::Result(header("AC1", "x", output, 0));
    assert_eq!(world.send(first, message(), None), Flow::Raw(10));
    assert_eq!(world.send(second, message(), None), Flow::Wait);
    let bytes = output;
    let _ = world.input(Input::Raw { conn: first, bytes });
    assert!(world.effects.contains(&Effect::Resume { conn: second }));
    assert_eq!(world.send(second, message(), None), Flow::Raw(10));
    world.end(second, End::Reset);
    assert_eq!(
        world.send(first, message(), None),
        Flow::Raw(10),
        "its end makes room"
    );
}

/// Number of complete results for which there is room.
const ROOM: usize = RESULT_BYTES_HELD_MAX >> 20;

/// Hosts of which each has announced a result, each at an address of its own; and one more,
/// whose result waits.
fn full(world: &mut World, output: &[u8]) -> (Vec<ConnId>, ConnId) {
    let mut conns: Vec<ConnId> = (0..=ROOM)
        .map(|i| world.plain(&format!("10.0.0.{i}")))
        .collect();
    world.dispatch("AC1", &[]).unwrap();
    let last = conns.remove(ROOM);
    let message = || Message::Result(header("AC1", "x", output, 0));
    for conn in &conns {
        assert_eq!(world.send(*conn, message(), Some(1)), Flow::Raw(1 << 20));
    }
    assert_eq!(world.send(last, message(), Some(1)), Flow::Wait);
    (conns, last)
}

/// Sends a result of a mebibyte that has room.
fn send_all(world: &mut World, conn: ConnId, output: &[u8]) {
    let message = Message::Result(header("AC1", "x", output, 0));
    assert_eq!(world.send(conn, message, Some(1)), Flow::Raw(1 << 20));
    let bytes = output;
    assert_eq!(world.input(Input::Raw { conn, bytes }), Flow::Taken);
    world.settle();
    assert_eq!(world.words(conn).last(), Some(&Word::GotIt));
}

#[test]
fn freed_room_goes_to_a_waiting_result() {
    let mut world = World::new();
    let output = vec![b'x'; 1 << 20];
    let (conns, last) = full(&mut world, &output);
    let (conn, bytes) = (conns[1], &output[..]);
    assert_eq!(world.input(Input::Raw { conn, bytes }), Flow::Taken);
    assert!(world.effects.contains(&Effect::Resume { conn: last }));
    send_all(&mut world, last, &output);
}

#[test]
fn stalled_results_are_refused_if_others_wait() {
    let mut world = World::new();
    let output = vec![b'x'; 1 << 20];
    let (conns, last) = full(&mut world, &output);
    let mut waited = 0;
    while !world.effects.contains(&Effect::Resume { conn: last }) {
        world.pass(500);
        waited += 1;
        assert!(waited <= 2 * RESULT_STALLED_S + 2, "it waits for long");
    }
    send_all(&mut world, last, &output);
    // Connections of stalled results stay open: later bytes are dropped, and the results refused at
    // their end.
    let (conn, bytes) = (conns[3], &output[..]);
    assert_eq!(world.input(Input::Raw { conn, bytes }), Flow::Taken);
    let refused = Word::Refused("too slow while others waited for room".to_owned());
    assert_eq!(world.words(conn), [refused]);
    assert!(conns.iter().all(|conn| !world.closed(*conn)));
    assert_eq!(world.core.stats().result_bytes_held, 0);
}

#[test]
fn a_result_that_stalls_where_none_waits_is_taken() {
    let mut world = World::new();
    let conn = world.plain("10.0.0.1");
    world.dispatch("AC1", &[]).unwrap();
    let output = b"0123456789";
    let message = Message::Result(header("AC1", "x", output, 0));
    assert_eq!(world.send(conn, message, Some(1)), Flow::Raw(10));
    for _ in 0..3 * RESULT_STALLED_S {
        world.pass(1_000);
    }
    let bytes = output;
    let _ = world.input(Input::Raw { conn, bytes });
    world.settle();
    assert_eq!(world.words(conn), [Word::GotIt]);
}

#[test]
fn one_address_has_its_share_of_the_room() {
    let mut world = World::new();
    let output = vec![b'x'; 1 << 20];
    let share = RESULT_BYTES_ADDRESS_MAX >> 20;
    let named = |world: &mut World, id: &str, peer: &str| {
        let conn = world.open(peer);
        world.hello(conn, id, None);
        conn
    };
    let hoard: Vec<ConnId> = (0..=share)
        .map(|i| {
            named(
                &mut world,
                &format!("h{i}"),
                &format!("10.0.0.1:{}", 5_000 + i),
            )
        })
        .collect();
    let honest = named(&mut world, "honest", "10.0.0.2:5000");
    world.dispatch("AC1", &[]).unwrap();
    let message = || Message::Result(header("AC1", "x", &output, 0));
    for conn in &hoard[..share] {
        assert_eq!(world.send(*conn, message(), Some(1)), Flow::Raw(1 << 20));
    }
    assert_eq!(world.send(hoard[share], message(), Some(1)), Flow::Wait);
    send_all(&mut world, honest, &output);
}

#[test]
fn only_the_overdue_result_is_refused() {
    let mut world = World::new();
    let output = b"0123456789";
    let first = world.plain("10.0.0.1");
    let more = world.open("10.0.0.1:4001");
    world.beat(more);
    world.dispatch("AC1", &[]).unwrap();
    world.dispatch("AC2", &[]).unwrap();
    let message = |key| Message::Result(header(key, "x", output, 0));
    assert_eq!(world.send(first, message("AC2"), Some(1)), Flow::Raw(10));
    assert_eq!(world.send(more, message("AC1"), Some(1)), Flow::Wait);
    world.core.tasks.payloads().mark(more);
    // Its task expires meanwhile.
    let key = TaskKey::parse("AC1", "AC").unwrap();
    let slot = world.core.tasks.table().find(&key).unwrap();
    world.core.tasks.table().remove(slot);
    assert_eq!(world.send(more, message("AC1"), Some(1)), Flow::Raw(10));
    let bytes = &output[..];
    let _ = world.input(Input::Raw { conn: more, bytes });
    assert_eq!(world.send(more, message("AC2"), Some(2)), Flow::Wait);
}

#[test]
fn an_overdue_result_is_refused_and_its_host_stays() {
    let mut world = World::new();
    let output = b"0123456789";
    // One result of a host at a time: the second waits while the last bytes of the first wait for the store.
    let first = world.plain("10.0.0.1");
    let more = world.open("10.0.0.1:4001");
    world.beat(more);
    world.dispatch("AC1", &[]).unwrap();
    let message = || Message::Result(header("AC1", "x", output, 0));
    assert_eq!(world.send(first, message(), Some(1)), Flow::Raw(10));
    assert_eq!(world.send(more, message(), Some(1)), Flow::Wait);
    let other = world.plain("10.0.0.2");
    world.up = false;
    let mut seq = 0;
    while world.progress(other, Phase::Received, &["x"], seq) == Flow::Taken {
        seq += 1;
    }
    let (conn, bytes) = (first, &output[..]);
    assert_eq!(world.input(Input::Raw { conn, bytes }), Flow::Wait);
    let mut waited = 0;
    while !world.effects.contains(&Effect::Resume { conn: more }) {
        world.pass(1_000);
        waited += 1;
        assert!(waited <= RESULT_WAIT_S_MAX + 1);
    }
    assert!(waited >= RESULT_WAIT_S_MAX - 1, "{waited} s");
    assert_eq!(world.send(more, message(), Some(1)), Flow::Raw(10));
    let (conn, bytes) = (more, &output[..]);
    assert_eq!(world.input(Input::Raw { conn, bytes }), Flow::Taken);
    assert_eq!(
        world.words(more),
        [Word::Refused("no room for it in time".to_owned())]
    );
    assert!(!world.closed(more));
}

#[test]
fn the_last_bytes_wait_for_room_among_the_reports() {
    let mut world = World::new();
    let conn = world.plain("10.0.0.1");
    world.dispatch("AC1", &[]).unwrap();
    let _ = world.send(
        conn,
        Message::Result(header("AC1", "x", b"0123456789", 0)),
        Some(1),
    );
    let other = world.plain("10.0.0.2");
    world.up = false;
    let mut seq = 0;
    while world.progress(other, Phase::Received, &["x"], seq) == Flow::Taken {
        seq += 1;
    }
    let bytes = b"01234";
    assert_eq!(world.input(Input::Raw { conn, bytes }), Flow::Taken);
    let bytes = b"56789";
    assert_eq!(world.input(Input::Raw { conn, bytes }), Flow::Wait);
    world.up = true;
    world.settle();
    assert!(world.effects.contains(&Effect::Resume { conn }));
    assert_eq!(world.input(Input::Raw { conn, bytes }), Flow::Taken);
    world.settle();
    assert_eq!(world.words(conn), [Word::GotIt]);
    assert_eq!(world.store.results[0].size, 10);
}
