//! Parser for the query: parameters by name, each at most once, and only those of the endpoint.

use std::borrow::Cow;

use super::response::Response;
use crate::handlers::view::Filter;

/// A parameter that an endpoint has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parameter {
    /// Selects hosts by their state.
    State,
    /// Maximum number of entries on a page, with its bound. A larger one is lowered to the bound.
    Limit(usize),
    /// Start of a page.
    Cursor,
    /// The command of an output; required.
    Command,
}

impl Parameter {
    const fn name(self) -> &'static str {
        match self {
            Self::State => "state",
            Self::Limit(_) => "limit",
            Self::Cursor => "cursor",
            Self::Command => "command",
        }
    }
}

/// The parameters of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parameters {
    /// Selection of hosts.
    pub filter: Filter,
    /// Maximum number of entries.
    pub limit: usize,
    /// Start of the page; 0 is the beginning.
    pub cursor: u64,
    /// The command of an output.
    pub command: String,
}

/// Parses `query`, which may have the parameters `allowed`.
///
/// # Errors
/// 400 for a parameter that is unknown, repeated, wrong or missing, or that has a broken escape.
pub fn parse(query: Option<&str>, allowed: &[Parameter]) -> Result<Parameters, Response> {
    let mut given: Vec<(Parameter, Option<String>)> = Vec::new();
    given.extend(allowed.iter().map(|parameter| (*parameter, None)));
    for pair in pairs(query.unwrap_or_default()) {
        let Some((name, value)) = pair else {
            return Err(wrong("the query has a broken % escape"));
        };
        let Some((_, place)) = given.iter_mut().find(|(known, _)| known.name() == name) else {
            return Err(wrong(&format!("unknown parameter {name:?}")));
        };
        if place.replace(value.into_owned()).is_some() {
            return Err(wrong(&format!("{name} is given twice")));
        }
    }
    let mut parsed = Parameters::default();
    for (parameter, text) in given {
        match (parameter, text) {
            (Parameter::Limit(max), None) => parsed.limit = max,
            (Parameter::Limit(max), Some(text)) => parsed.limit = limit(&text, max)?,
            (Parameter::State, Some(text)) => parsed.filter = filter(&text)?,
            (Parameter::Cursor, Some(text)) => parsed.cursor = cursor(&text)?,
            (Parameter::Command, Some(text)) => parsed.command = text,
            (Parameter::Command, None) => return Err(wrong("the parameter command is missing")),
            (Parameter::State | Parameter::Cursor, None) => {}
        }
    }
    Ok(parsed)
}

fn limit(text: &str, max: usize) -> Result<usize, Response> {
    match number(text) {
        Some(limit @ 1..) => Ok(usize::try_from(limit).map_or(max, |limit| limit.min(max))),
        _ => Err(wrong(&format!("limit is {text:?}, and may be 1 to {max}"))),
    }
}

fn cursor(text: &str) -> Result<u64, Response> {
    number(text).ok_or_else(|| wrong(&format!("cursor is {text:?}, which no page has given")))
}

fn filter(text: &str) -> Result<Filter, Response> {
    match text {
        "online" => Ok(Filter::Online),
        "offline" => Ok(Filter::Offline),
        other => Err(wrong(&format!(
            "state is {other:?}, and may be online or offline"
        ))),
    }
}

/// Digits only: no sign, no blank.
fn number(text: &str) -> Option<u64> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

fn wrong(text: &str) -> Response {
    Response::error(400, text)
}

/// The parameters of a query, in order, decoded. `None` stands for one whose escapes are broken.
fn pairs(query: &str) -> impl Iterator<Item = Option<(Cow<'_, str>, Cow<'_, str>)>> {
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    pairs.map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        Some((decode_form(name)?, decode_form(value)?))
    })
}

/// The same as [`decode`], where `+` stands for a blank, as forms write it.
fn decode_form(text: &str) -> Option<Cow<'_, str>> {
    if !text.contains('+') {
        return decode(text);
    }
    decode(&text.replace('+', " ")).map(|plain| Cow::Owned(plain.into_owned()))
}

/// `text` with each `%XX` as the byte it stands for. `None` if an escape is broken or the bytes
/// are not UTF-8.
#[must_use]
pub fn decode(text: &str) -> Option<Cow<'_, str>> {
    if !text.contains('%') {
        return Some(Cow::Borrowed(text));
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => hex_digit(rest.next()?)? << 4 | hex_digit(rest.next()?)?,
            plain => plain,
        });
    }
    String::from_utf8(bytes).ok().map(Cow::Owned)
}

fn hex_digit(byte: u8) -> Option<u8> {
    let digit = char::from(byte).to_digit(16)?;
    u8::try_from(digit).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn parameters_have_any_order_and_stand_once() {
        let all = [Parameter::State, Parameter::Limit(10), Parameter::Cursor];
        let expected = Parameters {
            filter: Filter::Online,
            limit: 3,
            cursor: u64::MAX,
            command: String::new(),
        };
        let query = "cursor=18446744073709551615&state=online&limit=3";
        assert_eq!(parse(Some(query), &all), Ok(expected));
        assert_eq!(parse(None, &[]), Ok(Parameters::default()));
        for bad in [
            "limit=1&limit=1",
            "d=1",
            "limit=%",
            "limit=1&b",
            "command=a",
        ] {
            assert_eq!(parse(Some(bad), &all).unwrap_err().status, 400, "{bad}");
        }
        assert!(parse(None, &[Parameter::Command]).is_err());
    }

    #[test]
    fn a_page_is_within_its_bound() {
        let all = [Parameter::Limit(10), Parameter::Cursor];
        let page = |query: &str| parse(Some(query), &all).map(|page| (page.limit, page.cursor));
        assert_eq!(page(""), Ok((10, 0)));
        assert_eq!(page("limit=11"), Ok((10, 0)));
        for bad in ["", "%2B1", "+1", "x", "99999999999999999999999"] {
            assert!(page(&format!("limit={bad}")).is_err(), "{bad}");
            assert!(page(&format!("cursor={bad}")).is_err(), "{bad}");
        }
        assert!(page("limit=0").is_err());
    }

    #[test]
    fn escapes_are_bytes_of_utf8() {
        assert_eq!(decode("a%2Fb%c3%a4").as_deref(), Some("a/bä"));
        for bad in ["%", "%2", "%zz", "%ff", "%+1"] {
            assert_eq!(decode(bad), None, "{bad}");
        }
    }

    #[test]
    fn pairs_come_in_order() {
        let all: Vec<_> = pairs("a=1&&b&c=%3d=&d=%&e=df+-h%2B").collect();
        assert_eq!(
            all,
            [
                Some(("a".into(), "1".into())),
                Some(("b".into(), "".into())),
                Some(("c".into(), "==".into())),
                None,
                Some(("e".into(), "df -h+".into()))
            ]
        );
    }

    proptest! {
        #[test]
        fn an_escaped_text_is_decoded(text in ".*") {
            let escaped: String = text.bytes().map(|byte| format!("%{byte:02X}")).collect();
            let decoded = decode(&escaped);
            prop_assert_eq!(decoded.as_deref(), Some(text.as_str()));
        }

        #[test]
        fn nothing_panics(text in "[a%?&=/:ä0-9]{0,40}") {
            prop_assert!(pairs(&text).count() <= text.len());
            let decoded = decode(&text).map_or(0, |plain| plain.len());
            prop_assert!(decoded <= text.len());
        }
    }
}
