//! Any split of the same bytes gives the same messages. They are answered in their own byte order,
//! and only on request.

use std::net::Shutdown;

use super::support::{BEAT, Home, Host, big, little, on_both_stores};

on_both_stores! {
    frames_cut_at_every_byte_are_read,
    frames_cut_at_random_are_read,
    frames_sent_together_are_read,
    big_endian_frames_are_read,
    slash_text_beyond_ascii_is_read,
    messages_without_reply_get_none,
}

/// Number of messages in a stream.
const MESSAGES: u64 = 200;

/// A message of each kind in turn, in JSON, with a number to be answered.
fn asking(seq: u64) -> Vec<u8> {
    let body = match seq % 4 {
        0 => format!(r#""flag":"ADH18","phase":1,"ACK":"keepAlive","reply":true,"seq":{seq}"#),
        1 => format!(r#""seq":{seq},"identifier":"ADH18","phase":1,"kp":"keepAlive","reply":true"#),
        2 => format!(
            r#""flag":"ADH27","code":"AC{seq}","phase":1,"working":null,"complete":[],
               "oncall":["grüße"],"reply":true,"seq":{seq}"#
        ),
        _ => format!(
            r#""flag":"ADH33","RCC":1,"taskId":"AC{seq}","answerTime":1.5,"reply":true,"seq":{seq}"#
        ),
    };
    format!("{{{body}}}").into_bytes()
}

/// Reads the answers to `MESSAGES` such messages. Those to heartbeats wait for no report, but
/// among themselves they are in order; so are the others.
fn all_answered(host: &mut Host) {
    let (mut beats, mut reports) = (Vec::new(), Vec::new());
    for _ in 0..MESSAGES {
        let reply = host.reply();
        let seq = reply["seq"].as_u64().expect("a seq");
        let (word, into) = match reply["flag"].as_str() {
            Some("ADH18") => ("keepAlive", &mut beats),
            _ => ("keepGotIt", &mut reports),
        };
        assert_eq!(reply["ACK"], word, "{reply}");
        into.push(seq);
    }
    let wanted = |of_beats| (0..MESSAGES).filter(move |seq| (seq % 4 < 2) == of_beats);
    assert!(beats.iter().copied().eq(wanted(true)), "{beats:?}");
    assert!(reports.iter().copied().eq(wanted(false)), "{reports:?}");
}

fn frames_cut_at_every_byte_are_read(home: Home) {
    let server = home.start();
    let mut host = Host::connect(server.tcp, "127.0.1.1");
    for seq in 0..MESSAGES {
        for byte in little(&asking(seq)) {
            host.send(&[byte]);
        }
    }
    all_answered(&mut host);
}

fn frames_cut_at_random_are_read(home: Home) {
    let server = home.start();
    for seed in 0..5 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut host = Host::connect(server.tcp, &format!("127.0.1.{}", seed + 1));
        let stream: Vec<u8> = (0..MESSAGES).flat_map(|seq| little(&asking(seq))).collect();
        let mut rest = stream.as_slice();
        while !rest.is_empty() {
            let (piece, behind) = rest.split_at(random.usize(1..=rest.len().min(200)));
            host.send(piece);
            rest = behind;
        }
        all_answered(&mut host);
    }
    assert_eq!(server.metric("anthill_messages_total{code=\"ADH18\"}"), 500);
    assert_eq!(server.metric("anthill_messages_total{code=\"ADH27\"}"), 250);
    assert_eq!(server.metric("anthill_messages_total{code=\"ADH33\"}"), 250);
}

fn frames_sent_together_are_read(home: Home) {
    let server = home.start();
    let mut host = Host::connect(server.tcp, "127.0.1.1");
    let stream: Vec<u8> = (0..MESSAGES).flat_map(|seq| little(&asking(seq))).collect();
    host.send(&stream);
    all_answered(&mut host);
}

fn big_endian_frames_are_read(home: Home) {
    let server = home.start();
    let mut host = Host::connect(server.tcp, "127.0.1.1");
    for seq in [0, 2, 3] {
        // Cut inside the length, too.
        let frame = big(&asking(seq));
        host.send(&frame[..2]);
        host.send(&frame[2..]);
        assert_eq!(host.big_reply()["seq"], seq);
    }
    // A neighbour's order is its own.
    let mut neighbour = Host::online(server.tcp, "127.0.1.2");
    // The first length has decided: read the other way, this one is above the limit.
    host.send(&little(BEAT));
    assert_eq!(host.until_closed(), b"");
    assert_eq!(server.until_offline("127.0.1.1")["reason"], "abnormal");
    assert_eq!(neighbour.ask(&asking(0))["ACK"], "keepAlive");
}

fn slash_text_beyond_ascii_is_read(home: Home) {
    let server = home.start();
    for (source, count) in [
        ("127.0.1.1", str::len as fn(&str) -> usize),
        ("127.0.1.2", |text| text.chars().count()),
    ] {
        let mut host = Host::connect(server.tcp, source);
        let text = "ADH27II/keepGotIt/AC7/echo grün ✓ a/b/[]/['echo grün ✓ a/b', 'naïve']";
        let length = i32::try_from(count(text)).unwrap();
        let frame = [&length.to_le_bytes(), text.as_bytes()].concat();
        // Alone, then joined to the next frame, then cut inside a character.
        host.send(&frame);
        host.send(&[&frame[..], &little(&asking(0))].concat());
        assert_eq!(host.reply()["seq"], 0);
        let cut = 4 + text.find('ü').unwrap() + 1;
        host.send(&frame[..cut]);
        host.send(
            &[
                &frame[cut..],
                &little(b"ADH18/keepAlive"),
                &little(&asking(3)),
            ]
            .concat(),
        );
        assert_eq!(host.reply()["seq"], 3);
        assert!(server.is_online(source));
        if home.has_redis() {
            let working: String = home.store().say(&["HGET", "AC7_working", source]);
            assert_eq!(working, "echo grün ✓ a/b");
            let list = format!("AC7_{source}_oncall");
            let oncall: Vec<String> = home.store().say(&["LRANGE", &list, "0", "-1"]);
            assert_eq!(oncall, ["naïve", "echo grün ✓ a/b"]);
        }
    }
    assert_eq!(server.metric("anthill_messages_total{code=\"ADH27\"}"), 6);
}

fn messages_without_reply_get_none(home: Home) {
    let server = home.start();
    let mut host = Host::connect(server.tcp, "127.0.1.1");
    let all: [&[u8]; 9] = [
        BEAT,
        b"ADH18/keepAlive",
        br#"{"flag":"ADH18","phase":1,"ACK":"keepAlive","reply":false,"seq":1}"#,
        br#"{"flag":"ADH27","code":"AC1","phase":1,"working":null,"complete":[],"oncall":["a"]}"#,
        br#"{"flag":"ADH27","code":"no key","phase":2,"working":"a","complete":[],"oncall":["a"]}"#,
        b"ADH27III/keepGotIt/AC1/a/['a']/[]",
        br#"{"flag":"ADH33","RCC":1,"taskId":"AC1","answerTime":1}"#,
        br#"{"flag":"ADH33","RCC":2,"taskId":"a console line","answerTime":1}"#,
        br#"{"flag":"ADH56","ACK":"keepRogerThat","systemInfoTask":
            {"hostname":"h","MACAddress":"00:00","localAddrsIPV4":["10.0.0.1"]}}"#,
    ];
    all.iter().for_each(|body| host.say(body));
    // Reports are answered in order, so after this one an answer to an earlier would have come.
    assert_eq!(host.ask(&asking(3))["seq"], 3);
    assert_eq!(host.ask(&asking(0))["seq"], 0);
    host.stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(host.until_closed(), b"");
}
