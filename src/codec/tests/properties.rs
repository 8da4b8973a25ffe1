//! Properties for any bytes, and for any message.

use proptest::prelude::*;

use super::super::fuzzing::{self, Outcome, read_in_pieces};
use super::super::message::*;
use super::super::*;
use super::{AUTO, frame};
use crate::limits::{FRAME_HEADER_BYTES, SEQ_MAX};

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z0-9 ./-]{0,12}",
        any::<String>(),
        "[\\x00-\\x1f\"'\\\\{}蚁🐜\\[\\]/]{0,12}",
    ]
}

fn incoming() -> impl Strategy<Value = Incoming<'static>> {
    let list = || prop::collection::vec(text(), 0..4);
    let owned = |list: Vec<String>| list.into_iter().map(Into::into).collect::<Vec<_>>();
    let working = prop::option::of(text());
    let ends = any::<(bool, bool)>();
    let progress = (text(), 0..3_usize, working, list(), list(), ends);
    let progress = progress.prop_map(move |(code, phase, working, complete, oncall, ends)| {
        let (lost, cancelled) = ends;
        Message::Progress(Progress {
            code: code.into(),
            phase: [Phase::Received, Phase::Began, Phase::Ended][phase],
            working: working.map(Into::into),
            complete: owned(complete),
            oncall: owned(oncall),
            lost,
            cancelled,
        })
    });
    let codes = [
        ResultCode::Unanswered,
        ResultCode::Received,
        ResultCode::NoBook,
        ResultCode::Damaged,
    ];
    let answer = (
        prop::sample::select(codes.to_vec()),
        prop::option::of(text()),
    );
    let answer = answer.prop_map(|(code, task)| {
        let task = task.map(Into::into);
        Message::Answer(Answer { code, task })
    });
    let named = || prop::option::of(text());
    let inventory = (named(), named(), list(), list());
    let inventory = inventory.prop_map(move |(hostname, mac, others, addresses)| {
        let mut inventory = Inventory {
            addresses: owned(addresses),
            ..Inventory::default()
        };
        for (name, value) in [("hostname", hostname), ("MACAddress", mac)] {
            if let Some(value) = value {
                inventory.push(name, value.into());
            }
        }
        inventory.values.extend(owned(others));
        Message::Inventory(inventory)
    });
    let boot = prop::option::of("[0-9a-fA-F]{1,64}");
    let port = prop::option::of(1..=u16::MAX);
    let word = || "[A-Za-z0-9._-]{1,63}";
    let labels = prop::collection::btree_map(word(), word(), 0..4);
    let more = (labels, prop::option::of(word()), any::<bool>());
    let hello = (text(), port, any::<bool>(), boot, any::<bool>(), more);
    let hello = hello.prop_map(|(id, udp, push, boot, resumes, more)| {
        let (labels, version, cancel) = more;
        let boot = boot.map(Into::into);
        let labels = labels.into_iter();
        Message::Hello(Hello {
            id: id.into(),
            udp,
            push,
            boot,
            resumes,
            labels: labels
                .map(|(key, value)| (key.into(), value.into()))
                .collect(),
            version: version.map(Into::into),
            cancel,
        })
    });
    let book = text().prop_map(|task| Message::Book(Book { task: task.into() }));
    let digest = any::<[u8; 32]>();
    let result = (text(), text(), any::<i32>(), amount(), 0..=SEQ_MAX, digest);
    let result = (result, any::<bool>());
    let result = result.prop_map(
        |((code, command, exit, seconds, size, sha256), truncated)| {
            Message::Result(ResultHeader {
                code: code.into(),
                command: command.into(),
                exit,
                seconds: seconds.abs(),
                size,
                sha256,
                truncated,
            })
        },
    );
    let beat = Just(Message::Heartbeat);
    let message = prop_oneof![beat, progress, answer, inventory, hello, book, result];
    let ask = (any::<bool>(), prop::option::of(0..=SEQ_MAX));
    (message, ask).prop_map(|(message, (reply, seq))| Incoming {
        message,
        ask: ReplyRequest { reply, seq },
    })
}

/// A finite number, round or not.
fn amount() -> impl Strategy<Value = f64> {
    let any = prop::num::f64::NORMAL | prop::num::f64::SUBNORMAL | prop::num::f64::ZERO;
    prop_oneof![(-20..20_i32).prop_map(f64::from), any]
}

/// Any message of a server.
fn said() -> impl Strategy<Value = FromServer<'static>> {
    let book = (text(), prop::collection::vec((text(), amount()), 0..5));
    let book = book.prop_map(|(task, commands)| (Flag::Book, Word::Book { task, commands }));
    let welcome = amount().prop_map(|interval| {
        let interval_s = interval.abs();
        (Flag::Hello, Word::Welcome { interval_s })
    });
    let refused = (0..Flag::ALL.len() - 2, text());
    let refused = refused.prop_map(|(flag, why)| (Flag::ALL[flag], Word::Refused(why)));
    let plain = prop::sample::select(vec![
        (Flag::Heartbeat, Word::Alive),
        (Flag::Inventory, Word::RogerThat),
        (Flag::Progress, Word::GotIt),
        (Flag::Answer, Word::GotIt),
        (Flag::Result, Word::GotIt),
    ]);
    let reply = (
        prop_oneof![plain, welcome, book, refused],
        prop::option::of(0..=SEQ_MAX),
    );
    let reply = reply.prop_map(|((flag, word), seq)| FromServer::Reply(Reply { flag, seq, word }));
    let task = text().prop_map(|task| FromServer::Push(Push::Task(task.into())));
    let command = (text(), "[0-9a-fA-F]{32}").prop_map(|(text, cid)| {
        let (text, cid) = (text.into(), cid.into());
        FromServer::Push(Push::Command { text, cid })
    });
    prop_oneof![reply, task, command]
}

/// A string as Python's `repr` writes it.
fn repr(text: &str) -> String {
    let escaped = text
        .replace('\\', "\\\\")
        .replace('\'', "\\'")
        .replace('\n', "\\n");
    format!("'{escaped}'")
}

/// The slash text of a progress whose texts leave no doubt where the lists begin.
fn slash_progress() -> impl Strategy<Value = (Progress<'static>, String)> {
    let list = || prop::collection::vec("[a-z蚁'\"\\\\/ \n\\]]{0,8}", 0..4);
    (
        "[A-Z0-9蚁]{0,8}",
        1..4_usize,
        "[a-z蚁/ ]{0,12}",
        list(),
        list(),
    )
        .prop_map(|(code, phase, working, complete, oncall)| {
            let written = |list: &[String]| {
                let texts: Vec<_> = list.iter().map(|text| repr(text)).collect();
                format!("[{}]", texts.join(", "))
            };
            let (done, left) = (written(&complete), written(&oncall));
            let digits = "I".repeat(phase);
            let text = format!("ADH27{digits}/keepGotIt/{code}/{working}/{done}/{left}");
            let progress = Progress {
                code: code.into(),
                phase: [Phase::Received, Phase::Began, Phase::Ended][phase - 1],
                working: Some(working.into()),
                complete: complete.into_iter().map(Into::into).collect(),
                oncall: oncall.into_iter().map(Into::into).collect(),
                lost: false,
                cancelled: false,
            };
            (progress, text)
        })
}

/// A stream of whole frames of all kinds, in one byte order, with its messages.
fn stream() -> impl Strategy<Value = (Vec<u8>, Vec<String>)> {
    let json = incoming().prop_map(|incoming| {
        let mut frame = Vec::new();
        encode(&incoming, Order::Little, &mut frame).expect("some short texts fit");
        (frame, format!("{incoming:?}"))
    });
    let slash = (slash_progress(), any::<bool>()).prop_map(|((progress, text), counts_bytes)| {
        let length = if counts_bytes {
            text.len()
        } else {
            text.chars().count()
        };
        let message = Message::Progress(progress);
        let incoming = Incoming {
            message,
            ask: ReplyRequest::default(),
        };
        (frame(length, text.as_bytes()), format!("{incoming:?}"))
    });
    let frames = prop::collection::vec(prop_oneof![json, slash], 1..6);
    (frames, any::<bool>()).prop_map(|(frames, is_big)| {
        let (mut stream, mut messages) = (Vec::new(), Vec::new());
        for (mut frame, message) in frames {
            if is_big {
                frame[..FRAME_HEADER_BYTES].reverse();
            }
            stream.extend(frame);
            messages.push(message);
        }
        (stream, messages)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn emit_then_parse_is_identity(incoming in incoming(), is_big in any::<bool>()) {
        fuzzing::emit_and_parse(&incoming, if is_big { Order::Big } else { Order::Unknown });
    }

    #[test]
    fn what_a_server_says_is_read_as_it_was_meant(said in said(), is_big in any::<bool>()) {
        fuzzing::say_and_read(&said, if is_big { Order::Big } else { Order::Little });
    }

    #[test]
    fn a_damaged_frame_of_a_server_is_read_or_refused(
        said in prop::collection::vec(said(), 1..4),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
    ) {
        let mut stream = Vec::new();
        for said in &said {
            match said {
                FromServer::Reply(reply) => emit(reply, Order::Little, &mut stream),
                FromServer::Push(push) => emit_push(push, Order::Little, &mut stream).unwrap(),
            }
        }
        for (index, byte) in damage {
            let at = index.index(stream.len());
            stream[at] = byte;
        }
        fuzzing::from_server(&stream);
    }

    #[test]
    fn a_stream_cut_anywhere_yields_its_messages(
        (stream, messages) in stream(),
        sizes in prop::collection::vec(1..40_usize, 0..8),
    ) {
        let wanted = Outcome { messages, ..Outcome::default() };
        prop_assert_eq!(read_in_pieces(AUTO, &stream, &sizes), wanted);
    }

    #[test]
    fn a_damaged_stream_cut_anywhere_comes_to_the_same(
        (mut stream, _) in stream(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        how in any::<u8>(),
        cut in any::<u8>(),
    ) {
        for (index, byte) in damage {
            let at = index.index(stream.len());
            stream[at] = byte;
        }
        stream.splice(0..0, [how, cut]);
        fuzzing::frames(&stream);
    }

    #[test]
    fn any_bytes_are_read_or_refused(data in prop::collection::vec(any::<u8>(), 0..300)) {
        fuzzing::frames(&data);
        fuzzing::from_server(&data);
        let mut framed = vec![2, 5];
        framed.extend(frame(data.len(), &data));
        fuzzing::frames(&framed);
        fuzzing::from_server(&framed[2..]);
        fuzzing::body(&data);
    }

    #[test]
    fn slash_like_text_is_read_or_refused(
        head in prop::sample::select(vec!["ADH27I/keepGotIt/A/", "ADH56/keepRogerThat/", "ADH18/", ""]),
        tokens in prop::collection::vec(prop::sample::select(vec![
            "[", "]", "{", "}", "(", ")", ",", ":", "'", "\"", "\\", "/", "/[", "]/[", "'a'", "1", "-",
            ".5", "None", "True", "\\x4", "\\u8682", "\\0", "u'", "蚁", " ", "\n", "'k': ", "e",
        ]), 0..24),
        extra in 0..6_usize,
    ) {
        let text = format!("{head}{}", tokens.concat());
        let mut data = vec![2, 3];
        data.extend(frame(text.len().saturating_sub(extra), text.as_bytes()));
        fuzzing::frames(&data);
    }

    /// Every accepted body is JSON; and JSON with one valid message in it is refused only by rules
    /// that JSON itself does not have.
    #[test]
    fn json_is_taken_as_serde_json_takes_it(
        tokens in prop::collection::vec(prop::sample::select(vec![
            "[", "]", "{", "}", ",", ":", "\"a\"", "\"b\":", "\"\\u0061\":", "\"", "\\", "1", "-", "0", ".5",
            "e9", "1e400", "null", "true", "NaN", "\"\\ud800\"", "\"\\ud83d\\udc1c\"", " ", "\n", "蚁",
        ]), 0..16),
    ) {
        let body = format!(r#"{{"flag":"ADH18","ACK":"keepAlive","x":{}}}"#, tokens.concat());
        let is_json = serde_json::from_str::<serde_json::Value>(&body).is_ok();
        match decode_body(body.as_bytes()) {
            Ok(incoming) => prop_assert!(is_json && incoming.message == Message::Heartbeat, "{}", body),
            Err(error) if is_json => prop_assert_eq!(error.kind.label(), "twice", "{}", body),
            Err(error) => prop_assert!(error.offset <= body.len(), "{}", error),
        }
    }
}
