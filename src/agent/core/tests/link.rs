//! The connection: greeted, kept alive, lost, tried again.

use super::*;

#[test]
fn hello_and_heartbeats_follow_the_server() {
    let mut talk = agent();
    talk.is_welcome();
    assert_eq!(talk.messages(), ["hello web-1", "inventory"]);
    let mut beats = 0;
    for _ in 0..200 {
        talk.wait(Span::from_secs(1));
        for (said, seq) in talk.sent() {
            assert_eq!(said, "beat");
            beats += 1;
            talk.replies(Flag::Heartbeat, seq.unwrap(), Word::Alive);
        }
    }
    assert!((10..=13).contains(&beats), "{beats}");
    assert!(talk.core.is_live());
}

#[test]
fn without_an_id_it_is_known_by_its_address() {
    let mut talk = start(
        Settings {
            id: None,
            ..settings()
        },
        Vec::new(),
    );
    talk.connects();
    assert_eq!(talk.messages(), ["hello 127.0.0.1"]);
}

#[test]
fn a_silent_server_is_retried_forever() {
    let mut talk = agent().live();
    let mut silent = 0;
    while talk.core.is_live() {
        talk.wait(Span::from_secs(1));
        silent += 1;
    }
    assert_eq!(silent, 60, "three intervals");
    assert!(talk.did().contains(&"disconnect".to_owned()));
    let mut waits = Vec::new();
    for _ in 0..20 {
        let before = talk.at.now;
        talk.fx.clear();
        while !talk.did().contains(&"connect".to_owned()) {
            let due = talk.core.deadline().since(talk.at.now);
            talk.wait(due);
        }
        waits.push(talk.at.now.since(before).as_millis());
        talk.with(|core, at, fx| core.disconnected(at, "refused", fx));
    }
    assert!((500..=1_000).contains(&waits[0]), "{waits:?}");
    assert!(
        waits[10..].iter().all(|ms| (7_500..=15_000).contains(ms)),
        "{waits:?}"
    );
    assert!(
        waits[10..].windows(2).any(|two| two[0] != two[1]),
        "jittered: {waits:?}"
    );
    talk.is_welcome();
    assert!(talk.core.is_live());
}

#[test]
fn a_failed_hello_is_retried() {
    let mut talk = agent();
    talk.connects();
    talk.replies(Flag::Hello, 0, Word::Refused("in use".into()));
    assert!(talk.did().contains(&"disconnect".to_owned()));
    talk.connects();
    talk.wait(Span::from_secs(10));
    assert!(talk.did().contains(&"disconnect".to_owned()));
    talk.is_welcome();
    assert!(talk.core.is_live());
}

#[test]
fn invalid_server_data_ends_the_connection() {
    let mut talk = agent().live();
    talk.with(|core, at, fx| core.bytes(at, b"\x05\0\0\0hello", fx));
    assert!(talk.did().contains(&"disconnect".to_owned()));
}

#[test]
fn changed_facts_are_sent_again() {
    let mut talk = agent().live();
    let facts = Facts {
        hostname: Some("web".into()),
        ..Facts::default()
    };
    for wanted in [1, 0] {
        talk.with(|core, _, fx| core.facts(facts.clone(), fx));
        assert_eq!(talk.messages().len(), wanted);
    }
}

/// Notes since last looked.
fn notes(talk: &mut Talk) -> Vec<(Level, String)> {
    let fx = std::mem::take(&mut talk.fx);
    let notes = fx.into_iter().filter_map(|effect| match effect {
        Effect::Log(note) => Some((note.level, note.text)),
        _ => None,
    });
    notes.collect()
}

#[test]
fn a_replaced_agent_says_so_and_slows_down() {
    let mut talk = agent();
    let mut waits = Vec::new();
    for _ in 0..8 {
        talk.is_welcome();
        talk.replies(Flag::Heartbeat, 1, Word::Alive);
        let before = talk.at.now;
        talk.fx.clear();
        let why = "replaced by another connection with this id";
        talk.replies(Flag::Hello, 0, Word::Refused(why.into()));
        let told = notes(&mut talk);
        assert!(
            told.iter()
                .any(|(level, text)| *level == Level::Warn && text.contains(why))
        );
        waits.push(talk.core.deadline().since(before).as_millis());
    }
    assert!((2_500..=5_000).contains(&waits[0]), "{waits:?}");
    assert!(
        waits[6..].iter().all(|ms| (30_000..=60_000).contains(ms)),
        "{waits:?}"
    );
}

#[test]
fn another_protocol_at_the_port_is_named() {
    for (answer, wanted) in [
        (&b"\x15\x03\x03\0\x02\x02\x28"[..], "speaks TLS"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "speaks HTTP"),
        (b"SSH-2.0-OpenSSH_9.6\r\n", "\"SSH-2.0-OpenSSH"),
    ] {
        let mut talk = agent();
        talk.connects();
        talk.with(|core, at, fx| core.bytes(at, answer, fx));
        let told = notes(&mut talk);
        assert!(
            told.iter().any(|(_, text)| text.contains(wanted)),
            "{told:?}"
        );
    }
    let mut talk = agent();
    talk.connects();
    talk.with(|core, at, fx| core.disconnected(at, "it has closed the connection", fx));
    let told = notes(&mut talk);
    assert!(
        told.iter().any(|(_, text)| text.contains("port for hosts")),
        "{told:?}"
    );
}
