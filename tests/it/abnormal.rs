//! Invalid data ends its connection, takes its host offline, and is logged, counted and reported;
//! other connections are not affected.

use super::support::{BEAT_ASKING, Home, Host, little, on_both_stores, until_so};

on_both_stores! {
    invalid_bodies_and_lengths_close,
    an_invalid_first_message_is_counted,
    invalid_data_ends_only_its_connection,
    hostile_text_is_escaped_in_the_log,
}

/// Invalid messages, the kind under which each is counted, and its text in the log.
fn abnormal() -> Vec<(Vec<u8>, &'static str, &'static str)> {
    let deep = format!(
        r#"{{"flag":"ADH18","x":{}{}}}"#,
        "[".repeat(40),
        "]".repeat(40)
    );
    let bodies: [(&[u8], _, _); 12] = [
        (br#"{"ACK":"keepAlive"}"#, "flag", "at byte"),
        (br#"{"flag":"ADH99"}"#, "flag", "ADH99"),
        (br#"{"flag":"ADH18","#, "syntax", "does not parse"),
        (b"{\"flag\":\"\xff\"}", "utf8", "at byte 13"),
        (
            br#"{"flag":"ADH18","phase":1,"ACK":"keepAlive","x":1,"x":2}"#,
            "twice",
            "\"x\"",
        ),
        (deep.as_bytes(), "depth", "deeper than 32"),
        (
            br#"{"flag":"ADH18","phase":1,"ACK":"keep"}"#,
            "field",
            "ACK",
        ),
        (
            br#"{"flag":"ADH27","code":"AC1","phase":4,"working":null,"complete":[],"oncall":[]}"#,
            "field",
            "phase",
        ),
        (
            br#"{"flag":"ADH33","RCC":7,"taskId":null,"answerTime":1}"#,
            "field",
            "RCC",
        ),
        (b"ADH99/keepAlive", "flag", "ADH99"),
        (b"ADH27I/keepGotIt/AC1/None/['a'", "syntax", "at byte"),
        (br#"{"flag":"ADH40","id":"late"}"#, "place", "hello"),
    ];
    let lengths = [0_i32, -1, 65_536, i32::MAX].map(|length| {
        // Refused from the header alone.
        (length.to_le_bytes().to_vec(), "length", "at byte 0")
    });
    let bodies = bodies.map(|(body, kind, words)| (little(body), kind, words));
    bodies.into_iter().chain(lengths).collect()
}

fn invalid_bodies_and_lengths_close(home: Home) {
    let server = home.start();
    let mut neighbour = Host::online(server.tcp, "127.0.2.250");
    for (number, (bytes, kind, words)) in abnormal().into_iter().enumerate() {
        let source = format!("127.0.2.{}", number + 1);
        let counter = format!("anthill_abnormal_total{{kind=\"{kind}\"}}");
        let before = server.metric(&counter);
        let mut host = Host::online(server.tcp, &source);
        host.send(&bytes);
        assert_eq!(host.until_closed(), b"", "{source}");
        assert_eq!(server.until_offline(&source)["reason"], "abnormal");
        assert_eq!(server.metric(&counter), before + 1, "{kind}");
        let line = server.logged(&["abnormal", &format!(" {source}: "), words]);
        assert!(line.contains(&format!("({kind})")), "{line}");
        assert_eq!(neighbour.ask(BEAT_ASKING)["ACK"], "keepAlive");
        if home.has_redis() {
            let redis = home.store();
            until_so("the event", || redis.story(&source).len() == 2);
            assert_eq!(redis.story(&source), ["online", "offline abnormal"]);
            assert!(!redis.exists().contains(&source));
        }
    }
    let offlines = server.metric("anthill_offlines_total{reason=\"abnormal\"}");
    assert_eq!(offlines, abnormal().len() as u64);
}

fn an_invalid_first_message_is_counted(home: Home) {
    let server = home.start();
    let sent: [&[u8]; 4] = [
        &[0; 4],
        &[0xff; 4],
        &70_000_i32.to_le_bytes(),
        &little(b"GET / HTTP/1.1\r\n\r\n"),
    ];
    for bytes in sent {
        let mut host = Host::connect(server.tcp, "127.0.2.1");
        host.send(bytes);
        assert_eq!(host.until_closed(), b"");
    }
    // A browser at the wrong port: its first four letters are no valid length.
    let mut browser = Host::connect(server.tcp, "127.0.2.1");
    browser.send(b"GET / HTTP/1.1\r\n\r\n");
    assert_eq!(browser.until_closed(), b"");
    until_so("five in the count", || {
        let kinds = ["length", "syntax", "flag"];
        let count = |kind| server.metric(&format!("anthill_abnormal_total{{kind=\"{kind}\"}}"));
        kinds.into_iter().map(count).sum::<u64>() == 5
    });
    assert_eq!(server.host("127.0.2.1"), None, "it never was a host");
    assert_eq!(server.metric("anthill_onlines_total"), 0);
}

fn invalid_data_ends_only_its_connection(home: Home) {
    let server = home.start();
    let mut good = Host::online(server.tcp, "127.0.2.1");
    let mut bad = Host::online(server.tcp, "127.0.2.1");
    bad.send(&[0; 4]);
    assert_eq!(bad.until_closed(), b"");
    assert_eq!(good.ask(BEAT_ASKING)["ACK"], "keepAlive");
    assert!(server.is_online("127.0.2.1"));
    good.send(&[0; 4]);
    assert_eq!(server.until_offline("127.0.2.1")["reason"], "abnormal");
    // The host reconnects.
    Host::online(server.tcp, "127.0.2.1");
}

fn hostile_text_is_escaped_in_the_log(home: Home) {
    let server = home.start();
    let mut host = Host::connect(server.tcp, "127.0.2.1");
    host.say("{\"flag\":\"\\u001b[31m\\nforged\\u202e\"}".as_bytes());
    assert_eq!(host.until_closed(), b"");
    let mut raw = Host::connect(server.tcp, "127.0.2.2");
    raw.say(b"\x1b]0;title\x07\n2026 ERROR forged/x");
    assert_eq!(raw.until_closed(), b"");
    server.logged(&["abnormal", " 127.0.2.2: "]);
    let line = server.logged(&["abnormal", " 127.0.2.1: "]);
    assert!(line.contains("1b") && line.contains("202e"), "{line}");
    for line in server.log() {
        assert!(
            !line.starts_with("forged") && !line.starts_with("2026 ERROR"),
            "{line}"
        );
        assert!(
            !line.chars().any(|c| c.is_control() || c == '\u{202e}'),
            "{line:?}"
        );
    }
}
