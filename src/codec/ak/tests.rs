//! Golden bytes, and properties for all bytes.

use super::*;
use crate::codec::fuzzing::ak_in_pieces;
use proptest::prelude::*;

fn code(text: &str) -> Code {
    Code::parse(text).unwrap()
}

/// The replies in `stream`, which is parsed in one piece.
fn replies(stream: &[u8]) -> Vec<(String, u8, String)> {
    let mut parser = Parser::default();
    let mut found = Vec::new();
    let mut input = stream;
    while let Some(frame) = parser.next(&mut input).unwrap() {
        let reply = frame.reply().unwrap();
        let code = String::from_utf8_lossy(&reply.code).into_owned();
        let status = reply.status.unwrap();
        found.push((code, status, reply.text().into_owned()));
    }
    found
}

fn reply(code: &str, status: u8, data: &str) -> (String, u8, String) {
    (code.to_owned(), status, data.to_owned())
}

#[test]
fn the_request_for_astz_on_channel_0_is_these_bytes() {
    let mut out = Vec::new();
    emit_request(b' ', code("ASTZ"), 0, &mut out);
    let golden = [0x02, 0x20, 0x41, 0x53, 0x54, 0x5A, 0x20, 0x4B, 0x30, 0x03];
    assert_eq!(out, golden);
    out.clear();
    emit_request(b'0', code("AVFI"), 12, &mut out);
    assert_eq!(out, b"\x020AVFI K12\x03");
}

#[test]
fn replies_are_read_from_golden_bytes() {
    let golden = [
        0x02, 0x20, 0x41, 0x53, 0x54, 0x5A, 0x20, 0x30, 0x20, 0x53, 0x52, 0x45, 0x4D, 0x20, 0x53,
        0x54, 0x42, 0x59, 0x03,
    ];
    assert_eq!(replies(&golden), [reply("ASTZ", 0, "SREM STBY")]);
    let mut out = Vec::new();
    emit_reply(b' ', *b"ASTZ", 0, b"SREM STBY", &mut out);
    assert_eq!(out, golden);
}

#[test]
fn noise_is_dropped_and_every_stx_begins_anew() {
    let stream = b"\r\nxx\x03\x02 ASTZ 0 half\x02\x02 AKON 1 2.5\r\n3.5\x03\r\x020ASTF 9\x03\r\n";
    assert_eq!(
        replies(stream),
        [reply("AKON", 1, "2.5\r\n3.5"), reply("ASTF", 9, "")]
    );
}

#[test]
fn the_filler_may_be_any_byte_but_stx() {
    for filler in (0..=255_u8).filter(|filler| *filler != STX) {
        let mut out = Vec::new();
        emit_reply(filler, UNKNOWN, 3, b"", &mut out);
        assert_eq!(replies(&out), [reply("????", 3, "")], "{filler:#x}");
    }
}

#[test]
fn invalid_replies_are_errors() {
    for frame in [
        "", " ", " ASTZ", " ASTZ ", " ASTZ x", " ASTZ10", " ASTZ 0x", " AST 0 1", "ASTZ 0",
    ] {
        let frame = Frame {
            bytes: frame.as_bytes(),
            begun: 1,
        };
        assert_eq!(frame.reply(), Err(AkError::Malformed), "{frame:?}");
    }
}

#[test]
fn endless_replies_and_noise_are_errors() {
    let mut parser = Parser::default();
    let long = [&[STX][..], &vec![b'a'; AK_REPLY_BYTES_MAX + 1]].concat();
    assert_eq!(parser.next(&mut &long[..]), Err(AkError::TooLong));
    let mut parser = Parser::default();
    let noise = vec![b'a'; AK_NOISE_BYTES_MAX];
    assert_eq!(parser.next(&mut &noise[..]), Ok(None));
    assert_eq!(parser.next(&mut &b"a"[..]), Err(AkError::Noise));
    let begun = vec![STX; AK_NOISE_BYTES_MAX + 2];
    assert_eq!(Parser::default().next(&mut &begun[..]), Err(AkError::Noise));
}

#[test]
fn frames_are_numbered_by_their_stx() {
    let mut parser = Parser::default();
    assert_eq!(parser.next(&mut &b"\x02 AST"[..]), Ok(None));
    let before = parser.begun();
    let frame = parser.next(&mut &b"Z 0\x03"[..]).unwrap().unwrap();
    assert!(frame.begun <= before);
    assert_eq!(parser.next(&mut &b"\x02 AST"[..]), Ok(None));
    let before = parser.begun();
    let frame = parser.next(&mut &b"\x02 ASTZ 0\x03"[..]).unwrap().unwrap();
    assert!(frame.begun > before, "a new STX is a new beginning");
}

#[test]
fn a_leading_word_refuses_but_na_does_not() {
    let refusal = |code: [u8; 4], data: &str| {
        Refusal::of(&Reply {
            filler: b' ',
            code,
            status: Some(0),
            data: data.as_bytes(),
        })
        .map(Refusal::as_str)
    };
    for word in ["BS", "SE", "DF", "OF", "NA"] {
        assert_eq!(refusal(*b"ASTZ", word), Some(word));
        for channel in ["K1\r\n", "K0 ", "K0", "K12", "K00099", " K7"] {
            let data = format!("{channel}{word} ");
            assert_eq!(refusal(*b"ASTZ", &data), Some(word), "{data}");
        }
    }
    for (data, wanted) in [
        ("NA NA", "NA"),
        ("K0NA NA", "NA"),
        ("K1 NA K2 NA", "NA"),
        ("K1NA K2 OF", "NA"),
        ("K0 OF K1 NA", "OF"),
        ("K0BS device busy", "BS"),
        ("K0BSK1NA", "BS"),
        ("K0NAK1NA", "NA"),
    ] {
        assert_eq!(refusal(*b"ASTZ", data), Some(wanted), "{data}");
    }
    assert_eq!(refusal(UNKNOWN, ""), Some("????"));
    for data in [
        "",
        "1.5 NA",
        "NA 1.5",
        "BSE",
        "na",
        "K0",
        "K0BSE",
        "KBS",
        "K 0BS",
        "K0SREM STBY",
        "K0NA 1.5",
        "K0NAK1 1.5",
        "BSK",
        "BSBS",
        "K0 1.5 NA",
        "SREM STBY",
        "# BS",
    ] {
        assert_eq!(refusal(*b"ASTZ", data), None, "{data}");
    }
}

/// The bytes between the marks, as a reply.
fn telegram(bytes: &[u8]) -> Option<Reply<'_>> {
    Frame { bytes, begun: 1 }.reply().ok()
}

#[test]
fn a_refusal_needs_no_blank_before_it() {
    for (bytes, status) in [
        (" ASTZ 0BS", Some(0)),
        (" ASTZ 3K0BS", Some(3)),
        (" ASTZ 0K0 BS", Some(0)),
        (" ASTZ K0BS", None),
        (" ASTZ K0 BS", None),
        (" ASTZ BS", None),
        (" ASTZBS", None),
        (" ASTZ0BS", Some(0)),
        (" ASTZ0 BS", Some(0)),
        (" ASTZK0BS", None),
        (" ASTZ  0 BS", Some(0)),
        (" ASTZ\r\nBS\r\n", None),
    ] {
        let reply = telegram(bytes.as_bytes()).unwrap();
        assert_eq!(Refusal::of(&reply), Some(Refusal::Busy), "{bytes:?}");
        assert_eq!((reply.code, reply.status), (*b"ASTZ", status), "{bytes:?}");
    }
    for bytes in [" ????", " ????0", " ???? K0", " ???? 0x", " ????0BS"] {
        let reply = telegram(bytes.as_bytes()).unwrap();
        assert_eq!(Refusal::of(&reply), Some(Refusal::Unknown), "{bytes:?}");
    }
    for bytes in [
        " ASTZ 01.5",
        " ASTZ 0SREM",
        " ASTZ 0BSE",
        " ASTZ 0NA 1.5",
        " ASTZ 00BS",
        " ASTZ xBS",
    ] {
        assert_eq!(telegram(bytes.as_bytes()), None, "{bytes:?}");
    }
}

#[test]
fn a_code_is_four_capitals_or_digits() {
    for good in ["ASTZ", "AK01", "SREM", "EAKA"] {
        assert_eq!(code(good).as_str(), good);
    }
    assert!(code("SREM").is_control() && code("EAKA").is_control());
    assert!(!code("ASTZ").is_control());
    for bad in ["", "AST", "ASTZZ", "astz", "1STZ", "AS Z", "ÄST", "????"] {
        assert_eq!(Code::parse(bad), None, "{bad}");
    }
}

proptest! {
    #[test]
    fn what_is_emitted_is_read(
        filler in any::<u8>(), code in "[A-Z][A-Z0-9]{3}", status in 0_u8..10, data in "[ -~\r\n]{0,200}",
        channel in any::<u32>(),
    ) {
        prop_assume!(filler != STX);
        let code = Code::parse(&code).unwrap();
        let mut out = Vec::new();
        emit_reply(filler, code.bytes(), status, data.as_bytes(), &mut out);
        prop_assert_eq!(replies(&out), [reply(code.as_str(), status, &data)]);
        out.clear();
        emit_request(filler, code, channel, &mut out);
        let request = Request::parse(&out[1..out.len() - 1]).unwrap();
        prop_assert_eq!(request.code, code.bytes());
        let digits = channel.to_string();
        prop_assert_eq!(request.channel, digits.as_bytes());
        prop_assert!(request.data.is_empty() && out.len() >= 10);
    }

    #[test]
    fn every_telegram_with_a_refusal_refuses(
        filler in prop_oneof![Just(b' '), Just(b'0'), Just(b'K'), 4_u8..], code in "[A-Z][A-Z0-9]{3}",
        status in prop::option::of(0_u8..10), channels in prop::collection::vec(prop::option::of(0_u32..100), 1..4),
        word in prop::sample::select(vec!["BS", "SE", "DF", "OF", "NA"]),
        gaps in prop::collection::vec(prop::sample::select(vec!["", " ", "  ", "\r\n"]), 10), tail in "( |\r|\n){0,3}",
    ) {
        let mut gap = gaps.iter().cycle();
        let mut text = format!("{code}{}", gap.next().unwrap());
        text += &status.map(|status| status.to_string()).unwrap_or_default();
        for (nth, channel) in channels.iter().enumerate() {
            let between = gap.next().unwrap();
            // Without a channel before it a second word is one word with the first.
            text += if nth > 0 && channel.is_none() && between.is_empty() { " " } else { between };
            let channel = channel.map(|channel| format!("K{channel}{}", gap.next().unwrap()));
            text += &(channel.unwrap_or_default() + word);
        }
        let bytes = [&[filler][..], text.as_bytes(), tail.as_bytes()].concat();
        let reply = telegram(&bytes);
        prop_assert_eq!(reply.and_then(|reply| Refusal::of(&reply)).map(Refusal::as_str), Some(word), "{:?}", text);
        prop_assert_eq!(reply.map(|reply| (reply.code, reply.status)), Some((*code.as_bytes().first_chunk().unwrap(), status)));
    }

    #[test]
    fn where_a_stream_is_cut_changes_nothing(
        stream in prop::collection::vec(prop_oneof![Just(STX), Just(ETX), Just(b' '), Just(b'0'), Just(b'A'), any::<u8>()], 0..400),
        sizes in prop::collection::vec(0_usize..20, 0..8),
    ) {
        prop_assert_eq!(ak_in_pieces(&stream, &sizes), ak_in_pieces(&stream, &[]));
    }

    #[test]
    fn flipped_bits_do_no_harm(at in 0_usize..19, bit in 0_u8..8) {
        let mut out = Vec::new();
        emit_reply(b' ', *b"ASTZ", 0, b"SREM STBY", &mut out);
        out[at] ^= 1 << bit;
        let damaged = ak_in_pieces(&out, &[]);
        prop_assert!(damaged.len() <= 1);
        emit_reply(b' ', *b"AKON", 0, b"1", &mut out);
        let again = ak_in_pieces(&out, &[3]);
        prop_assert!(again.last().is_some_and(|reply| reply.contains("[65, 75, 79, 78]")));
    }
}
