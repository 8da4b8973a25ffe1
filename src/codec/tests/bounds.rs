//! Bounds of a body: lengths, members, depth, and bodies that are slow to parse.

use super::super::fuzzing::read_in_pieces;
use super::super::message::{Answer, Incoming, Message, ReplyRequest, ResultCode};
use super::super::*;
use super::{AUTO, frame, step};
use crate::limits::{FRAME_BYTES_MAX, FRAME_HEADER_BYTES, NESTING_DEPTH_MAX};

#[test]
fn a_length_is_judged_from_the_header_alone() {
    let of = |order, limit, header: [u8; 4]| {
        let mut found = Order::Unknown;
        let needed = match decode(Framing { order, limit }, &mut found, &header) {
            Ok(Step::Need(bytes)) => Ok(bytes),
            Ok(step) => panic!("{step:?} from a header alone"),
            Err(error) => Err(error),
        };
        (needed, found)
    };
    let refused = |length, limit| Err(DecodeError::new(Abnormal::Length(length, limit), 0));
    let (auto, little, big) = (ByteOrder::Auto, ByteOrder::Little, ByteOrder::Big);
    for (order, limit, header, wanted, found) in [
        (auto, 65_535, [0xFF, 0xFF, 0, 0], Ok(65_539), Order::Little),
        (auto, 65_535, [0, 0, 0xFF, 0xFF], Ok(65_539), Order::Big),
        (auto, 65_535, [0, 0, 1, 0], Ok(260), Order::Big),
        (
            auto,
            65_535,
            [0, 0, 0, 0],
            refused(0, 65_535),
            Order::Little,
        ),
        (auto, 65_535, [0, 0, 1, 1], Ok(261), Order::Big),
        (
            auto,
            65_535,
            [0, 1, 1, 0],
            refused(0x1_0100, 65_535),
            Order::Little,
        ),
        (
            auto,
            65_535,
            [0xFE, 0xFF, 0xFF, 0xFF],
            refused(-2, 65_535),
            Order::Little,
        ),
        // The limit applies to the selected byte order; it does not select it.
        (auto, 100, [0, 0, 0, 101], refused(101, 100), Order::Big),
        (auto, 100, [101, 0, 0, 0], refused(101, 100), Order::Little),
        (auto, 1 << 20, [0, 0, 1, 0], Ok(260), Order::Big),
        (
            little,
            1 << 20,
            [0, 0, 1, 0],
            refused(0x1_0000, 65_535),
            Order::Little,
        ),
        (
            little,
            65_535,
            [0, 0, 0, 1],
            refused(0x0100_0000, 65_535),
            Order::Little,
        ),
        (
            big,
            65_535,
            [1, 0, 0, 0],
            refused(0x0100_0000, 65_535),
            Order::Big,
        ),
        (big, 65_535, [0, 0, 0, 1], Ok(5), Order::Big),
    ] {
        assert_eq!(of(order, limit, header), (wanted, found), "{header:?}");
    }
    assert_eq!(step(&[1, 0, 0]), Ok(Step::Need(4)));
}

#[test]
fn the_largest_frame_is_read_and_emitted() {
    let of = |padding: usize| Incoming {
        message: Message::Answer(Answer {
            code: ResultCode::Received,
            task: Some("x".repeat(padding).into()),
        }),
        ask: ReplyRequest::default(),
    };
    let around = r#"{"flag":"ADH33","RCC":1,"taskId":""}"#.len();
    let mut frame = Vec::new();
    encode(&of(FRAME_BYTES_MAX - around), Order::Big, &mut frame).unwrap();
    assert_eq!(frame.len(), FRAME_HEADER_BYTES + FRAME_BYTES_MAX);
    assert!(matches!(step(&frame), Ok(Step::Got { .. })));
    let too_long = encode(&of(FRAME_BYTES_MAX - around + 1), Order::Big, &mut frame);
    assert_eq!(too_long, Err(FrameTooLong(FRAME_BYTES_MAX + 1)));
    assert_eq!(frame.len(), FRAME_HEADER_BYTES + FRAME_BYTES_MAX);
}

#[test]
fn counted_characters_respect_the_frame_limit() {
    let head = "ADH27I/keepGotIt/";
    let of = |ants: usize| format!("{head}{}/None/[]/[]", "蚁".repeat(ants));
    // The longest possible frame: 21,839 characters of three bytes beside the others.
    let ants = (FRAME_BYTES_MAX - of(0).len()) / 3;
    let fits = of(ants);
    let characters = fits.chars().count();
    assert!(matches!(
        step(&frame(characters, fits.as_bytes())),
        Ok(Step::Got { .. })
    ));
    let above = of(ants + 1);
    let characters = above.chars().count();
    let error = step(&frame(characters, above.as_bytes())).unwrap_err();
    assert_eq!(error.kind.label(), "length");
    // The error is reported as soon as it is certain, before the last byte.
    let outcome = read_in_pieces(AUTO, &frame(60_000, above.as_bytes()), &[1000]);
    assert_eq!(outcome.error.unwrap().kind.label(), "length");
}

#[test]
fn characters_are_requested_in_few_steps() {
    let text = "ADH56/keepRogerThat/{'hostname': '蚂蚁'}";
    let whole = frame(text.chars().count(), text.as_bytes());
    let counted = text.chars().count();
    // Four bytes before the end: the second ant has all of its bytes, two more are missing.
    assert_eq!(step(&whole[..4 + counted - 1]), Ok(Step::Need(4 + counted)));
    assert_eq!(step(&whole[..4 + counted]), Ok(Step::Need(whole.len())));
    assert!(matches!(step(&whole), Ok(Step::Got { used, .. }) if used == whole.len()));
}

#[test]
fn datagram_offsets_count_from_its_first_byte() {
    let beat = decode_body(br#" {"flag":"ADH18","ACK":"keepAlive"} "#).unwrap();
    assert_eq!(beat.message, Message::Heartbeat);
    for (body, label, offset) in [
        (&b"ADH18/keepAlive"[..], "syntax", 0),
        (b"", "syntax", 0),
        (b"\"text\"", "syntax", 5),
        (b"{\"flag\":\"\xff\"}", "utf8", 9),
        (b"{\n\n\"flag\":x}", "syntax", 10),
        (b"{\n\"flag\n\":1}", "syntax", 7),
    ] {
        let error = decode_body(body).unwrap_err();
        assert_eq!(
            (error.kind.label(), error.offset),
            (label, offset),
            "{error}"
        );
    }
}

/// Bodies that are wrong in one member, each with the text its error points at.
#[test]
fn a_wrong_member_is_pointed_at() {
    let progress = |rest: &str| format!(r#"{{"flag":"ADH27","code":"A",{rest}}}"#);
    let digits = "0123456789abcdef".repeat(4);
    let result = |exit: &str, seconds: &str, size: &str, sha256: &str, rest: &str| {
        format!(
            r#"{{"flag":"ADH43","code":"A","task":"a","exit":{exit},"seconds":{seconds},"total_size":{size},"sha256":"{sha256}"{rest}}}"#
        )
    };
    for (body, label, at) in [
        (
            r#"{"flag":"ADH18","ACK":"keepalive"}"#.into(),
            "field",
            "\"keepalive\"",
        ),
        (r#"{"flag":"ADH18","ACK":null}"#.into(), "field", "null"),
        (
            r#"{"flag":"ADH18","ACK":"keepAlive","kp":"keepalive"}"#.into(),
            "field",
            "\"keepalive\"",
        ),
        (
            r#"{"flag":"ADH18","ACK":"keepAlive","reply":1}"#.into(),
            "field",
            "1}",
        ),
        (
            r#"{"flag":"ADH18","ACK":"keepAlive","seq":-1}"#.into(),
            "field",
            "-1",
        ),
        (
            r#"{"flag":"ADH18","ACK":"keepAlive","seq":1.0}"#.into(),
            "field",
            "1.0",
        ),
        (
            r#"{"flag":"ADH18","ACK":"keepAlive","seq":"1"}"#.into(),
            "field",
            "\"1\"",
        ),
        (
            r#"{"flag":"ADH18","ACK":"keepAlive","seq":9007199254740992}"#.into(),
            "field",
            "9007",
        ),
        (
            progress(r#""phase":4,"complete":[],"oncall":[]"#),
            "field",
            "4",
        ),
        (
            progress(r#""phase":1.0,"complete":[],"oncall":[]"#),
            "field",
            "1.0",
        ),
        (
            progress(r#""phase":"1","complete":[],"oncall":[]"#),
            "field",
            "\"1\"",
        ),
        (
            progress(r#""phase":1,"complete":[7],"oncall":[]"#),
            "field",
            "[7]",
        ),
        (
            progress(r#""phase":1,"complete":null,"oncall":[]"#),
            "field",
            "null",
        ),
        (progress(r#""phase":1,"complete":[]"#), "field", "{"),
        (
            progress(r#""phase":1,"working":5,"complete":[],"oncall":[]"#),
            "field",
            "5",
        ),
        (
            r#"{"flag":"ADH27","code":5,"phase":1,"complete":[],"oncall":[]}"#.into(),
            "field",
            "5",
        ),
        (r#"{"flag":"ADH33","RCC":4}"#.into(), "field", "4"),
        (r#"{"flag":"ADH33","RCC":true}"#.into(), "field", "true"),
        (r#"{"flag":"ADH33"}"#.into(), "field", "{"),
        (
            r#"{"flag":"ADH33","RCC":1,"taskId":5}"#.into(),
            "field",
            "5",
        ),
        (
            r#"{"flag":"ADH33","RCC":1,"answerTime":"5"}"#.into(),
            "field",
            "\"5\"",
        ),
        (
            r#"{"flag":"ADH33","RCC":1,"answerTime":1e999}"#.into(),
            "syntax",
            "9}",
        ),
        (
            r#"{"flag":"ADH33","RCC":1,"taskId":"\ud800"}"#.into(),
            "syntax",
            "\"}",
        ),
        (r#"{"flag":"ADH56"}"#.into(), "field", "{"),
        (
            r#"{"flag":"ADH56","systemInfoTask":[]}"#.into(),
            "field",
            "[]",
        ),
        (
            r#"{"flag":"ADH56","systemInfoTask":{"a":{}}}"#.into(),
            "field",
            "{}",
        ),
        (
            r#"{"flag":"ADH56","systemInfoTask":{"a":[[]]}}"#.into(),
            "field",
            "[[]]",
        ),
        (
            r#"{"flag":"ADH56","systemInfoTask":{"a":[true]}}"#.into(),
            "field",
            "[true]",
        ),
        (
            r#"{"flag":"ADH56","ACK":"keepAlive","systemInfoTask":{}}"#.into(),
            "field",
            "\"keepAlive",
        ),
        (
            r#"{"flag":"ADH56","systemInfoTask":{"a":1,"\u0061":2}}"#.into(),
            "twice",
            "{\"a",
        ),
        (
            progress(r#""phase":3,"complete":[],"oncall":[],"lost":1"#),
            "field",
            "1}",
        ),
        (r#"{"flag":"ADH41"}"#.into(), "field", "{"),
        (r#"{"flag":"ADH41","taskId":null}"#.into(), "field", "null"),
        (result("0.0", "0", "0", &digits, ""), "field", "0.0"),
        (result("2147483648", "0", "0", &digits, ""), "field", "2147"),
        (result("null", "0", "0", &digits, ""), "field", "null"),
        (result("0", "-0.1", "0", &digits, ""), "field", "-0.1"),
        (result("0", "\"1\"", "0", &digits, ""), "field", "\"1\""),
        (result("0", "1e999", "0", &digits, ""), "syntax", "9,"),
        (result("0", "0", "-1", &digits, ""), "field", "-1"),
        (result("0", "0", "1.0", &digits, ""), "field", "1.0"),
        (result("0", "0", "0", &digits[1..], ""), "field", "\"1234"),
        (
            result("0", "0", "0", &format!("{digits}00"), ""),
            "field",
            "\"0123",
        ),
        (
            result("0", "0", "0", &digits.replace('a', "é"), ""),
            "field",
            "\"0123",
        ),
        (
            result("0", "0", "0", &digits, r#","truncated":0"#),
            "field",
            "0}",
        ),
        (r#"{"flag":"ADH44","taskId":"A"}"#.into(), "flag", "\"ADH44"),
        (r#"{"flag":"ADH40"}"#.into(), "field", "{"),
        (r#"{"flag":"ADH40","proof":0}"#.into(), "field", "0}"),
        (
            r#"{"flag":"ADH40","id":"a","proof":"00"}"#.into(),
            "field",
            r#""00""#,
        ),
        (
            r#"{"flag":"ADH40","id":"a","key":"b"}"#.into(),
            "field",
            "{",
        ),
        (
            r#"{"flag":"ADH40","id":"a","key":"b","nonce":"0"}"#.into(),
            "field",
            r#""0""#,
        ),
        (
            r#"{"flag":"ADH40","id":"a","key":"b c","nonce":"0"}"#.into(),
            "field",
            r#""b c""#,
        ),
        (r#"{"flag":"ADH40","id":1}"#.into(), "field", "1"),
        (
            r#"{"flag":"ADH40","id":"a","udp":65536}"#.into(),
            "field",
            "65536",
        ),
        (
            r#"{"flag":"ADH40","id":"a","udp":-1}"#.into(),
            "field",
            "-1",
        ),
        (
            r#"{"flag":"ADH40","id":"a","udp":"1"}"#.into(),
            "field",
            "\"1\"",
        ),
        (r#"{"flag":"ADH40","id":"a","push":1}"#.into(), "field", "1"),
        (
            r#"{"flag":"ADH40","id":"a","boot":""}"#.into(),
            "field",
            "\"\"",
        ),
        (
            r#"{"flag":"ADH40","id":"a","boot":"xyz"}"#.into(),
            "field",
            "\"xyz",
        ),
        (
            r#"{"flag":"ADH18","fl\u0061g":"ADH18","ACK":"keepAlive"}"#.into(),
            "twice",
            "\"ADH18\",\"ACK",
        ),
        (
            r#"{"flag":"ADH18","x":1,"ACK":"keepAlive","x":2}"#.into(),
            "twice",
            "x\":2",
        ),
    ] {
        let body: String = body;
        let error = decode_body(body.as_bytes()).expect_err(&body);
        let found = (error.kind.label(), body.get(error.offset..));
        let pointed = found.1.is_some_and(|rest| rest.starts_with(at));
        assert!(
            found.0 == label && pointed,
            "{body}: {error}, at {:?}",
            found.1
        );
    }
}

#[test]
fn members_are_accepted_in_every_allowed_form() {
    for body in [
        r#"{"identifier":"ADH18","kp":"keepAlive"}"#,
        r#"{"flag":"ADH18","identifier":"\u0041DH18","ACK":"keepAlive","kp":"keepAlive"}"#,
        r#"{"flag":"ADH18","ACK":"keepAlive","phase":[{"a":{}}],"code":7,"reply":false}"#,
        r#"{"flag":"ADH18","ACK":"keepAlive","x":"\\\"{[","y":{"a":1,"b":{"a":1}}}"#,
    ] {
        let beat = Incoming {
            message: Message::Heartbeat,
            ask: ReplyRequest::default(),
        };
        assert_eq!(decode_body(body.as_bytes()), Ok(beat), "{body}");
    }
    let deepest = |depth: usize| {
        let nested = format!("{}{}", "[".repeat(depth - 1), "]".repeat(depth - 1));
        format!(r#"{{"flag":"ADH18","ACK":"keepAlive","x":{nested}}}"#)
    };
    assert!(decode_body(deepest(NESTING_DEPTH_MAX).as_bytes()).is_ok());
    let error = decode_body(deepest(NESTING_DEPTH_MAX + 1).as_bytes()).unwrap_err();
    assert_eq!(error.kind, Abnormal::Depth);
}

#[test]
fn quotes_in_errors_are_short() {
    let long = "x".repeat(60_000);
    for body in [
        format!(r#"{{"flag":"{long}"}}"#),
        format!(r#"{{"{long}":1,"{long}":2}}"#),
        format!("ADH{long}/x"),
        format!("ADH18/{long}"),
        format!("\"{long}\""),
        format!(r#"{{"flag":"ADH18","ACK":"{long}"}}"#),
    ] {
        let error = step(&frame(body.len(), body.as_bytes())).unwrap_err();
        assert!(error.to_string().len() < 200, "{error}");
    }
}

/// The largest bodies, made so that a parser which reads bytes repeatedly would take minutes.
#[test]
fn hostile_frames_are_read_in_one_pass() {
    let fill = |head: &str, piece: &str, tail: &str| {
        let times = (FRAME_BYTES_MAX - head.len() - tail.len()) / piece.len();
        format!("{head}{}{tail}", piece.repeat(times))
    };
    let unknown = r#"{"flag":"ADH18","ACK":"keepAlive","x":"#;
    let names: String = (0..7000).map(|n| format!("\"{n:04x}\":1,")).collect();
    let keys: String = (0..7000).map(|n| format!("{n}:1,")).collect();
    for (body, label) in [
        (fill(unknown, "[", ""), "syntax"),
        (fill(unknown, "{\"a\":", ""), "syntax"),
        (fill(&format!("{unknown}[0"), ",[]", "]}"), ""),
        (fill(unknown, "\\\"", ""), "syntax"),
        (format!("{unknown}{{{names}\"0\":1}}}}"), ""),
        (format!("{unknown}1,{names}\"0\":1}}"), ""),
        (fill("{", "\n", "x"), "syntax"),
        (fill("ADH27I/keepGotIt/A/", "/[", ""), "syntax"),
        (fill("ADH27I/keepGotIt/A/", "/['", ""), "syntax"),
        (fill("ADH27I/keepGotIt/A/x/[", "'/[',", "]/["), "syntax"),
        (fill("ADH27I/keepGotIt/A/x", "/['a','a']", ""), "syntax"),
        (fill("ADH56/keepRogerThat/{1:[", "(),", "]}"), "field"),
        (fill("ADH56/keepRogerThat/{1:", "{1:", ""), "depth"),
        (fill("ADH56/keepRogerThat/{1:'", "\\x41", "'}"), ""),
        (format!("ADH56/keepRogerThat/{{{keys}}}"), ""),
    ] {
        let outcome = read_in_pieces(AUTO, &frame(body.len(), body.as_bytes()), &[1]);
        let found = outcome
            .error
            .as_ref()
            .map_or("", |error| error.kind.label());
        assert_eq!(found, label, "{}: {:?}", &body[..60], outcome.error);
    }
}
