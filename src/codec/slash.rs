//! The older slash text: `ADH27II/keepGotIt/AC132/echo two/['echo one']/['echo two']`.
//!
//! A code, a word, and the data of the code. Lists and dicts are Python literals. A command may contain
//! a `/` and is written in front of the lists without quotes, so its end is found by trying each place
//! at which a list could begin.

use std::borrow::Cow;

use super::error::{Abnormal, DecodeError, excerpt};
use super::literal::{self, Literal};
use super::message::{Inventory, Message, Phase, Progress};
use super::reader::Reader;
use crate::limits::{NESTING_DEPTH_MAX, SLASH_SPLITS_MAX, SLASH_TRIED_BYTES_MAX};

/// Kinds of data that follow a code.
#[derive(Clone, Copy)]
enum Kind {
    Heartbeat,
    Progress(Phase),
    Inventory,
}

/// Reads a whole slash text.
///
/// # Errors
/// When it is abnormal data; offsets count from its first byte.
pub(super) fn parse(text: &str) -> Result<Message<'_>, DecodeError> {
    let mut reader = Reader::new(text);
    match head(&mut reader)? {
        Kind::Heartbeat => Ok(Message::Heartbeat),
        Kind::Progress(phase) => progress(&mut reader, phase).map(Message::Progress),
        Kind::Inventory => inventory(&mut reader).map(Message::Inventory),
    }
}

/// Checks code and word only. Later bytes cannot correct an error there, so it is reported before
/// the whole text has arrived.
///
/// # Errors
/// When code or word are abnormal data.
pub(super) fn check_head(text: &str) -> Result<(), DecodeError> {
    head(&mut Reader::new(text)).map(|_| ())
}

fn head(reader: &mut Reader<'_>) -> Result<Kind, DecodeError> {
    let kind = code(reader.take_until(|c| c == '/'))?;
    separator(reader)?;
    let at = reader.at();
    let word = reader.take_until(|c| c == '/');
    let good = match kind {
        Kind::Heartbeat => word == "keepAlive",
        Kind::Progress(_) => word.eq_ignore_ascii_case("keepGotIt"),
        Kind::Inventory => word.eq_ignore_ascii_case("keepRogerThat"),
    };
    if !good {
        let what = format!("{:?} is not the word of this code", excerpt(word));
        return Err(DecodeError::new(Abnormal::Field(what), at));
    }
    match kind {
        Kind::Heartbeat if !reader.is_at_end() => reader.syntax("more than a heartbeat"),
        Kind::Heartbeat => Ok(kind),
        Kind::Progress(_) | Kind::Inventory => separator(reader).map(|()| kind),
    }
}

fn code(code: &str) -> Result<Kind, DecodeError> {
    let abnormal = match code {
        "ADH18" => return Ok(Kind::Heartbeat),
        "ADH27I" => return Ok(Kind::Progress(Phase::Received)),
        "ADH27II" => return Ok(Kind::Progress(Phase::Began)),
        "ADH27III" => return Ok(Kind::Progress(Phase::Ended)),
        "ADH56" => return Ok(Kind::Inventory),
        "ADH33" | "ADH40" => Abnormal::Syntax(format!("{code} has no slash form")),
        _ if code.starts_with("ADH") => Abnormal::Flag(excerpt(code)),
        _ => Abnormal::Syntax("neither a JSON object nor slash text".into()),
    };
    Err(DecodeError::new(abnormal, 0))
}

fn separator(reader: &mut Reader<'_>) -> Result<(), DecodeError> {
    if reader.eat("/") {
        return Ok(());
    }
    reader.syntax("expected `/`")
}

/// `TASK/WORKING/COMPLETE/ONCALL`.
fn progress<'a>(reader: &mut Reader<'a>, phase: Phase) -> Result<Progress<'a>, DecodeError> {
    let code = reader.take_until(|c| c == '/');
    separator(reader)?;
    let start = reader.at();
    let mut furthest = DecodeError::new(Abnormal::Syntax("no two lists".into()), start);
    let mut allowance = SLASH_TRIED_BYTES_MAX;
    for (place, _) in reader.rest().match_indices("/[").take(SLASH_SPLITS_MAX) {
        let mut lists = *reader;
        let working = lists.take(place);
        match two_lists(&mut lists) {
            Ok((complete, oncall)) => {
                return Ok(Progress {
                    code: Cow::Borrowed(code),
                    phase,
                    working: (working != "None").then_some(Cow::Borrowed(working)),
                    complete,
                    oncall,
                    lost: false,
                    cancelled: false,
                });
            }
            // The attempt with the longest valid part is the intended one, and gives the error.
            Err(error) if error.offset > furthest.offset => furthest = error,
            Err(_) => {}
        }
        match allowance.checked_sub(lists.at() - start - place) {
            Some(left) => allowance = left,
            None => break,
        }
    }
    Err(furthest)
}

type Texts<'a> = Vec<Cow<'a, str>>;

/// `/[…]/[…]` to the end of the text.
fn two_lists<'a>(reader: &mut Reader<'a>) -> Result<(Texts<'a>, Texts<'a>), DecodeError> {
    separator(reader)?;
    let first = literal::texts(reader)?;
    separator(reader)?;
    let second = literal::texts(reader)?;
    end(reader)?;
    Ok((first, second))
}

/// `{…}`: scalars are values, elements of lists are addresses.
fn inventory<'a>(reader: &mut Reader<'a>) -> Result<Inventory<'a>, DecodeError> {
    let start = reader.at();
    let members = literal::dict(reader, NESTING_DEPTH_MAX)?;
    end(reader)?;
    let nested = || {
        let what = "a value of the host's information nests".into();
        DecodeError::new(Abnormal::Field(what), start)
    };
    let mut inventory = Inventory::default();
    for (name, value) in members {
        match value {
            Literal::None => {}
            Literal::Plain(text) => inventory.push(scalar_name(&name), Cow::Borrowed(text)),
            Literal::Text(text) => inventory.push(scalar_name(&name), text),
            Literal::List(elements) => {
                for element in elements {
                    inventory
                        .addresses
                        .push(address(element).ok_or_else(nested)?);
                }
            }
            Literal::Dict(_) => return Err(nested()),
        }
    }
    Ok(inventory)
}

fn scalar_name<'n>(name: &'n Literal<'_>) -> &'n str {
    match name {
        Literal::Text(name) => name,
        _ => "",
    }
}

/// An element of a list as an address: a string or a number.
fn address(element: Literal<'_>) -> Option<Cow<'_, str>> {
    match element {
        Literal::Text(text) => Some(text),
        Literal::Plain(text) if !text.starts_with(['T', 'F']) => Some(Cow::Borrowed(text)),
        _ => None,
    }
}

fn end(reader: &Reader<'_>) -> Result<(), DecodeError> {
    if reader.is_at_end() {
        return Ok(());
    }
    reader.syntax("more behind the end")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn progress_of(text: &str) -> Progress<'_> {
        match parse(text) {
            Ok(Message::Progress(progress)) => progress,
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn a_command_may_hold_slashes_and_brackets() {
        for (text, working, oncall) in [
            (
                "ADH27I/keepGotIt/AC1/None/[]/['ls /tmp']",
                None,
                vec!["ls /tmp"],
            ),
            (
                "ADH27II/KEEPGOTIT/AC1/ls /tmp/[]/[]",
                Some("ls /tmp"),
                vec![],
            ),
            (
                "ADH27II/keepGotIt/AC1/ls /[a]/[]/['ls /[a]']",
                Some("ls /[a]"),
                vec!["ls /[a]"],
            ),
            ("ADH27II/keepGotIt/AC1//[]/['/[]']", Some(""), vec!["/[]"]),
        ] {
            let progress = progress_of(text);
            assert_eq!(progress.working.as_deref(), working, "{text}");
            assert_eq!(progress.oncall, oncall, "{text}");
        }
    }

    #[test]
    fn split_positions_are_bounded() {
        let text = |places: usize| format!("ADH27I/keepGotIt/A/{}x/[]/[]", "/[".repeat(places));
        assert!(parse(&text(SLASH_SPLITS_MAX - 1)).is_ok());
        assert!(parse(&text(SLASH_SPLITS_MAX)).is_err());
    }

    #[test]
    fn failed_attempts_read_a_bounded_number_of_bytes() {
        // Two lists seem to begin within the command, with strings that never end.
        let text = |long| format!("ADH27I/keepGotIt/A/x/['x/[\"y{}/[]/[]", "z".repeat(long));
        assert!(parse(&text(SLASH_TRIED_BYTES_MAX / 4)).is_ok());
        assert!(parse(&text(SLASH_TRIED_BYTES_MAX * 3 / 4)).is_err());
    }

    #[test]
    fn information_is_flattened() {
        let text = "ADH56/keeprogerthat/{'hostname': 'ant', 'n': 4, 'up': True, 'no': None, \
                    'MACAddress': u'02', 'localAddrsIPV4': ['10.0.0.5', 7], 3: ('::1',)}";
        let inventory = Inventory {
            hostname: Some("ant".into()),
            mac: Some("02".into()),
            values: vec!["ant".into(), "4".into(), "True".into(), "02".into()],
            addresses: vec!["10.0.0.5".into(), "7".into(), "::1".into()],
        };
        assert_eq!(parse(text), Ok(Message::Inventory(inventory)));
    }

    #[test]
    fn errors_have_kind_and_position() {
        for (text, label, offset) in [
            ("ADH99/keepAlive", "flag", 0),
            ("ADH27/keepGotIt/AC1/None/[]/[]", "flag", 0),
            ("ADH33/1/AC132", "syntax", 0),
            ("hello", "syntax", 0),
            ("", "syntax", 0),
            ("ADH18", "syntax", 5),
            ("ADH18/keepGotIt", "field", 6),
            ("ADH18/keepalive", "field", 6),
            ("ADH18/keepAlive/", "syntax", 15),
            ("ADH27III/keepGotIt", "syntax", 18),
            ("ADH27I/keepAlive/AC1/None/[]/[]", "field", 7),
            ("ADH27I/keepGotIt/AC1/None", "syntax", 21),
            ("ADH27I/keepGotIt/AC1/None/[]/['a'", "syntax", 33),
            ("ADH27I/keepGotIt/AC1/None/[]/[1]", "syntax", 30),
            ("ADH27I/keepGotIt/AC1/None/[]/[]x", "syntax", 31),
            ("ADH56/keepRogerThat/{'a': 'b'", "syntax", 29),
            ("ADH56/keepRogerThat/{'a': 'b'}x", "syntax", 30),
            ("ADH56/keepRogerThat/['a']", "syntax", 20),
            ("ADH56/keepRogerThat/{'a': 1, 'a': 2}", "twice", 29),
            ("ADH56/keepRogerThat/{'a': {}}", "field", 20),
            ("ADH56/keepRogerThat/{'a': [[]]}", "field", 20),
            ("ADH56/keepRogerThat/{'a': [None]}", "field", 20),
            ("ADH56/keepRogerThat/{'a': [True]}", "field", 20),
        ] {
            let error = parse(text).expect_err(text);
            assert_eq!(
                (error.kind.label(), error.offset),
                (label, offset),
                "{text}: {error}"
            );
        }
        let deep = format!("ADH56/keepRogerThat/{{'a': {}", "[".repeat(60_000));
        assert_eq!(
            parse(&deep),
            Err(DecodeError::new(Abnormal::Depth, 26 + 31))
        );
    }
}
