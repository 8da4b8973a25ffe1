//! Heartbeats in their usual spelling, parsed in one pass: they are most of the traffic.
//!
//! ```text
//! {"flag": "ADH18", "phase": 1, "ACK": "keepAlive"}          members in any order behind the flag,
//! {"flag":"ADH18","ACK":"keepAlive","reply":true,"seq":7}    a blank or none behind each mark
//! ```
//!
//! This parser rejects nothing. Any other spelling, valid or not, is left to the full parser.

use super::message::ReplyRequest;

/// Digits of a number that is surely within its range.
const DIGITS_MAX: usize = 15;

/// Returns the requested reply, if `body` is a heartbeat in its usual spelling.
pub(super) fn read(body: &[u8]) -> Option<ReplyRequest> {
    let mut rest = value(body.strip_prefix(b"{")?, b"\"flag\":")?;
    rest = rest.strip_prefix(b"\"ADH18\"")?;
    let (mut phase, mut alive, mut reply, mut seq) = (false, false, false, None);
    while let Some(more) = rest.strip_prefix(b",") {
        let more = blank(more);
        rest = if let Some(at) = value(more, b"\"ACK\":") {
            at.strip_prefix(b"\"keepAlive\"").filter(|_| !alive)?
        } else if let Some(at) = value(more, b"\"phase\":") {
            at.strip_prefix(b"1").filter(|_| !phase)?
        } else if let Some(at) = value(more, b"\"reply\":") {
            at.strip_prefix(b"true").filter(|_| !reply)?
        } else {
            let (number, behind) = number(value(more, b"\"seq\":")?)?;
            if seq.replace(number).is_some() {
                return None;
            }
            behind
        };
        match more.get(1)? {
            b'A' => alive = true,
            b'p' => phase = true,
            b'r' => reply = true,
            _ => {}
        }
    }
    (alive && rest == b"}").then_some(ReplyRequest { reply, seq })
}

/// Returns the bytes behind `name`.
fn value<'a>(bytes: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    bytes.strip_prefix(name).map(blank)
}

fn blank(bytes: &[u8]) -> &[u8] {
    bytes.strip_prefix(b" ").unwrap_or(bytes)
}

/// Parses an integer without sign or leading zero, and returns the bytes behind it.
fn number(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let digits = bytes.iter().take_while(|b| b.is_ascii_digit()).count();
    let (number, behind) = bytes.split_at_checked(digits)?;
    if digits > DIGITS_MAX || number.first().is_none_or(|first| *first == b'0') {
        return None;
    }
    let add = |sum, digit: &u8| sum * 10 + u64::from(digit - b'0');
    Some((number.iter().fold(0, add), behind))
}

#[cfg(test)]
mod tests {
    use super::super::json;
    use super::super::message::{Incoming, Message};
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn usual_heartbeats_are_recognized() {
        for (body, reply, seq) in [
            (
                r#"{"flag": "ADH18", "phase": 1, "ACK": "keepAlive"}"#,
                false,
                None,
            ),
            (
                r#"{"flag":"ADH18","phase":1,"ACK":"keepAlive"}"#,
                false,
                None,
            ),
            (
                r#"{"flag":"ADH18","ACK":"keepAlive","seq":17,"reply":true}"#,
                true,
                Some(17),
            ),
            (
                r#"{"flag":"ADH18","seq":999999999999999,"ACK":"keepAlive"}"#,
                false,
                Some(999_999_999_999_999),
            ),
        ] {
            assert_eq!(
                read(body.as_bytes()),
                Some(ReplyRequest { reply, seq }),
                "{body}"
            );
        }
    }

    #[test]
    fn other_spellings_are_left_to_the_parser() {
        for body in [
            "",
            "{",
            r#"{"flag":"ADH18"}"#,
            r#"{"flag":"ADH18","ACK":"keepAlive""#,
            r#"{"flag":"ADH18","ACK":"keepAlive"} "#,
            r#"{"flag":"ADH18","ACK":"keepAlive","ACK":"keepAlive"}"#,
            r#"{"flag":"ADH18","ACK":"keepAlive","seq":1,"seq":1}"#,
            r#"{"flag":"ADH18","ACK":"keepAlive","seq":}"#,
            r#"{"flag":"ADH18","ACK":"keepAlive","seq":01}"#,
            r#"{"flag":"ADH18","ACK":"keepAlive","seq":1.5}"#,
            r#"{"flag":"ADH18","ACK":"keepAlive","seq":9007199254740992}"#,
            r#"{"flag":"ADH18","ACK":"keepAlive","reply":false}"#,
            r#"{"flag":"ADH18","ACK":"keepAlive","phase":12}"#,
            r#"{"flag":"ADH18","ACK":"hello"}"#,
            r#"{"flag":"ADH27","ACK":"keepAlive"}"#,
        ] {
            assert_eq!(read(body.as_bytes()), None, "{body}");
        }
    }

    proptest! {
        #[test]
        fn the_fast_path_agrees_with_the_parser(
            members in prop::collection::vec((0_usize..9, any::<bool>(), any::<bool>()), 0..6),
            end in prop::sample::select(vec!["}", "", "}}", " }", "}\n"]),
        ) {
            const MEMBERS: [(&str, &str); 9] = [
                ("ACK", "\"keepAlive\""), ("phase", "1"), ("reply", "true"), ("seq", "17"), ("seq", "0"),
                ("reply", "false"), ("ACK", "\"other\""), ("kp", "\"keepAlive\""), ("phase", "12"),
            ];
            let mut body = "{\"flag\": \"ADH18\"".to_owned();
            for (which, before, behind) in members {
                let (name, value) = MEMBERS[which];
                let gap = |wide| if wide { " " } else { "" };
                body += &format!(",{}\"{name}\":{}{value}", gap(before), gap(behind));
            }
            body += end;
            if let Some(ask) = read(body.as_bytes()) {
                let message = Message::Heartbeat;
                prop_assert_eq!(json::parse(&body), Ok(Incoming { message, ask }));
            }
        }
    }
}
