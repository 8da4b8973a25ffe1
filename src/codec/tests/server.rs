//! Messages of a server as bytes, and bytes that are refused.

use super::super::message::{Flag, FromServer, Push, Reply, Word};
use super::super::*;
use super::{AUTO, frame};
use crate::limits::FRAME_BYTES_MAX;

/// The message in a server's body, or the label of the error and the text it points at.
fn content(body: &str) -> Result<FromServer<'static>, (&'static str, String)> {
    let frame = frame(body.len(), body.as_bytes());
    match decode_from_server(AUTO, &mut Order::Unknown, &frame) {
        Ok(ServerStep::Got { content, used }) => {
            assert_eq!(used, frame.len(), "{body}");
            Ok(match content {
                FromServer::Reply(reply) => FromServer::Reply(reply),
                FromServer::Push(Push::Task(task)) => push_task(&task),
                FromServer::Push(Push::Cancel(task)) => {
                    FromServer::Push(Push::Cancel(task.into_owned().into()))
                }
                FromServer::Push(Push::Command { text, cid }) => push_command(&text, &cid),
            })
        }
        Ok(ServerStep::Need(bytes)) => panic!("needs {bytes}: {body}"),
        Err(error) => Err((error.kind.label(), body[error.offset - 4..].to_owned())),
    }
}

fn push_task(task: &str) -> FromServer<'static> {
    FromServer::Push(Push::Task(task.to_owned().into()))
}

fn push_command(text: &str, cid: &str) -> FromServer<'static> {
    let (text, cid) = (text.to_owned().into(), cid.to_owned().into());
    FromServer::Push(Push::Command { text, cid })
}

const CID: &str = "00112233445566778899aabbccddeeff";

/// Each emitted body, with its meaning.
fn golden() -> Vec<(String, FromServer<'static>)> {
    let reply = |flag, seq, word| FromServer::Reply(Reply { flag, seq, word });
    let book = Word::Book {
        task: "AC131".into(),
        commands: vec![
            ("uptime".into(), 2.0),
            ("echo 蚂蚁".into(), 0.5),
            ("\"".into(), -1e20),
        ],
    };
    let refused = Word::Refused("no such task for this host".into());
    [
        (
            r#"{"flag":"ADH18","ACK":"keepAlive","seq":7}"#,
            reply(Flag::Heartbeat, Some(7), Word::Alive),
        ),
        (
            r#"{"flag":"ADH43","ACK":"keepGotIt"}"#,
            reply(Flag::Result, None, Word::GotIt),
        ),
        (
            r#"{"flag":"ADH56","ACK":"keepRogerThat"}"#,
            reply(Flag::Inventory, None, Word::RogerThat),
        ),
        (
            r#"{"flag":"ADH40","ACK":"keepGotIt","interval_s":20,"seq":0}"#,
            reply(Flag::Hello, Some(0), Word::Welcome { interval_s: 20.0 }),
        ),
        (
            r#"{"flag":"ADH41","ACK":"keepGotIt","taskId":"AC131","tasks":[["uptime",2],["echo 蚂蚁",0.5],["\"",-1e20]]}"#,
            reply(Flag::Book, None, book),
        ),
        (
            r#"{"flag":"ADH41","ACK":"keepRefused","error":"no such task for this host","seq":9007199254740991}"#,
            reply(Flag::Book, Some((1 << 53) - 1), refused),
        ),
        (r#"{"flag":"ADH44","taskId":"AC131"}"#, push_task("AC131")),
        (
            r#"{"flag":"ADH44","command":"echo \"ä\"","cid":"00112233445566778899aabbccddeeff"}"#,
            push_command("echo \"ä\"", CID),
        ),
    ]
    .map(|(body, content)| (body.to_owned(), content))
    .into()
}

#[test]
fn golden_bytes_are_parsed_and_emitted() {
    for (body, wanted) in golden() {
        assert_eq!(content(&body).as_ref(), Ok(&wanted), "{body}");
        for (order, header) in [
            (Order::Little, (body.len() as i32).to_le_bytes()),
            (Order::Unknown, (body.len() as i32).to_le_bytes()),
            (Order::Big, (body.len() as i32).to_be_bytes()),
        ] {
            let mut out = Vec::new();
            match &wanted {
                FromServer::Reply(reply) => emit(reply, order, &mut out),
                FromServer::Push(push) => emit_push(push, order, &mut out).unwrap(),
            }
            assert_eq!(out, [&header[..], body.as_bytes()].concat());
        }
    }
}

#[test]
fn cut_or_damaged_server_frames_are_handled() {
    let frames = golden()
        .into_iter()
        .map(|(body, _)| frame(body.len(), body.as_bytes()));
    let stream: Vec<u8> = frames.flatten().collect();
    fuzzing::from_server(&stream);
    for bit in 0..stream.len() * 8 {
        let mut flipped = stream.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        fuzzing::from_server(&flipped);
    }
    for end in 0..stream.len() {
        fuzzing::from_server(&stream[..end]);
    }
}

#[test]
fn unknown_members_are_skipped() {
    let body = r#"{"tasks":7,"x":[{}],"flag":"ADH33","ACK":"keepGotIt","n":1,"mac":"00"}"#;
    let got_it = FromServer::Reply(Reply {
        flag: Flag::Answer,
        seq: None,
        word: Word::GotIt,
    });
    assert_eq!(content(body), Ok(got_it));
}

#[test]
fn a_wrong_member_of_a_server_is_pointed_at() {
    for (body, label, at) in [
        ("ADH18/keepAlive", "syntax", "ADH18"),
        (r#"{"ACK":"keepAlive"}"#, "flag", "{"),
        (r#"{"flag":"ADH99","ACK":"keepAlive"}"#, "flag", "\"ADH99"),
        (r#"{"flag":"ADH18"}"#, "field", "{"),
        (
            r#"{"flag":"ADH18","ACK":"keepGotIt"}"#,
            "field",
            "\"keepGotIt",
        ),
        (
            r#"{"flag":"ADH27","ACK":"keepAlive"}"#,
            "field",
            "\"keepAlive",
        ),
        (
            r#"{"flag":"ADH33","ACK":"keepgotit"}"#,
            "field",
            "\"keepgotit",
        ),
        (
            r#"{"flag":"ADH33","ACK":"keepGotIt","seq":1.5}"#,
            "field",
            "1.5",
        ),
        (r#"{"flag":"ADH33","ACK":"keepRefused"}"#, "field", "{"),
        (r#"{"flag":"ADH40","ACK":"keepGotIt"}"#, "field", "{"),
        (
            r#"{"flag":"ADH40","ACK":"keepGotIt","interval_s":"1"}"#,
            "field",
            "\"1\"",
        ),
        (
            r#"{"flag":"ADH40","ACK":"keepGotIt","interval_s":-1}"#,
            "field",
            "-1",
        ),
        (
            r#"{"flag":"ADH41","ACK":"keepGotIt","tasks":[]}"#,
            "field",
            "{",
        ),
        (
            r#"{"flag":"ADH41","ACK":"keepGotIt","taskId":"A"}"#,
            "field",
            "{",
        ),
        (
            r#"{"flag":"ADH41","ACK":"keepGotIt","taskId":"A","tasks":[["a"]]}"#,
            "field",
            "[[",
        ),
        (
            r#"{"flag":"ADH41","ACK":"keepGotIt","taskId":"A","tasks":[["a",1,2]]}"#,
            "field",
            "[[",
        ),
        (
            r#"{"flag":"ADH41","ACK":"keepGotIt","taskId":"A","tasks":[["a","1"]]}"#,
            "field",
            "[[",
        ),
        (
            r#"{"flag":"ADH41","ACK":"keepGotIt","taskId":"A","tasks":{"a":1}}"#,
            "field",
            "{\"a",
        ),
        (
            r#"{"flag":"ADH41","ACK":"keepGotIt","taskId":"A","tasks":[["a",1e999]]}"#,
            "syntax",
            "9]",
        ),
        (r#"{"flag":"ADH44"}"#, "field", "{"),
        (r#"{"flag":"ADH44","taskId":7}"#, "field", "7"),
        (r#"{"flag":"ADH44","command":"a"}"#, "field", "{"),
        (
            r#"{"flag":"ADH44","command":"a","cid":"0011"}"#,
            "field",
            "\"0011",
        ),
        (
            r#"{"flag":"ADH44","command":"a","cid":"zz112233445566778899aabbccddeeff"}"#,
            "field",
            "\"zz",
        ),
        (
            r#"{"flag":"ADH44","command":"a","cid":"00112233445566778899aabbccddeeff","taskId":"A"}"#,
            "field",
            "\"A\"}",
        ),
        (
            r#"{"flag":"ADH44","taskId":"A","x":1,"x":1}"#,
            "twice",
            "x\":1}",
        ),
    ] {
        let (found, rest) = content(body).expect_err(body);
        assert!(
            found == label && rest.starts_with(at),
            "{body}: {found} at {rest}"
        );
    }
}

#[test]
fn oversized_messages_are_refused_or_removed() {
    let mut out = b"before".to_vec();
    let commands: Vec<_> = (0..9_000).map(|n| (format!("{n:04}"), 1.0)).collect();
    let word = Word::Book {
        task: "AC1".into(),
        commands,
    };
    let (flag, seq) = (Flag::Book, Some(5));
    emit(&Reply { flag, seq, word }, Order::Big, &mut out);
    let frame = out.split_off(6);
    let Ok(ServerStep::Got { content, used }) =
        decode_from_server(AUTO, &mut Order::Unknown, &frame)
    else {
        panic!("a whole frame");
    };
    assert_eq!(used, frame.len());
    let FromServer::Reply(Reply {
        seq: Some(5),
        word: Word::Refused(why),
        ..
    }) = content
    else {
        panic!("{content:?}");
    };
    assert!(why.contains("65535"), "{why}");

    let text = "x".repeat(FRAME_BYTES_MAX);
    let too_long = Push::Command {
        text: text.into(),
        cid: CID.into(),
    };
    assert!(emit_push(&too_long, Order::Big, &mut out).is_err());
    assert_eq!(out, b"before");
}
