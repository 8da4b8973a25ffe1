//! A request's target taken apart: authority, path, and the parameters behind the `?`.

use std::borrow::Cow;

/// The parts of a target, still as they came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target<'a> {
    /// The authority, where the target is a whole URL (as it is towards a proxy).
    pub authority: Option<&'a str>,
    /// The path, with its `%` escapes.
    pub path: &'a str,
    /// The query, behind the first `?`.
    pub query: Option<&'a str>,
}

impl<'a> Target<'a> {
    /// The parts of `text`, if it is a path or an `http` URL.
    #[must_use]
    pub fn parse(text: &'a str) -> Option<Self> {
        let (authority, rest) = if text.starts_with('/') {
            (None, text)
        } else {
            let rest = strip_scheme(text)?;
            let end = rest.find(['/', '?']).unwrap_or(rest.len());
            (Some(&rest[..end]), &rest[end..])
        };
        let (path, query) = match rest.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (rest, None),
        };
        Some(Self {
            authority,
            path: if path.is_empty() { "/" } else { path },
            query,
        })
    }
}

fn strip_scheme(text: &str) -> Option<&str> {
    const SCHEME: &str = "http://";
    let scheme = text.get(..SCHEME.len())?;
    scheme
        .eq_ignore_ascii_case(SCHEME)
        .then(|| &text[SCHEME.len()..])
}

/// The parameters of a query, in order, decoded. `None` stands for one whose escapes are broken.
pub fn parameters(query: &str) -> impl Iterator<Item = Option<(Cow<'_, str>, Cow<'_, str>)>> {
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
    fn a_target_is_a_path_or_a_url() {
        let parts = |text| Target::parse(text).map(|t| (t.authority, t.path, t.query));
        assert_eq!(parts("/"), Some((None, "/", None)));
        assert_eq!(parts("/a?b=c?d"), Some((None, "/a", Some("b=c?d"))));
        assert_eq!(
            parts("HTTP://h:1/a?b"),
            Some((Some("h:1"), "/a", Some("b")))
        );
        assert_eq!(parts("http://h?b"), Some((Some("h"), "/", Some("b"))));
        assert_eq!(parts("http://h"), Some((Some("h"), "/", None)));
        for bad in ["*", "h:1", "a", "", "httpé://x", "https://h/"] {
            assert_eq!(parts(bad), None, "{bad}");
        }
    }

    #[test]
    fn escapes_are_bytes_of_utf8() {
        assert_eq!(decode("a%2Fb%c3%a4").as_deref(), Some("a/bä"));
        for bad in ["%", "%2", "%zz", "%ff", "%+1"] {
            assert_eq!(decode(bad), None, "{bad}");
        }
    }

    #[test]
    fn parameters_come_in_order() {
        let all: Vec<_> = parameters("a=1&&b&c=%3d=&d=%&e=df+-h%2B").collect();
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
        fn whatever_is_escaped_comes_back(text in ".*") {
            let escaped: String = text.bytes().map(|byte| format!("%{byte:02X}")).collect();
            let decoded = decode(&escaped);
            prop_assert_eq!(decoded.as_deref(), Some(text.as_str()));
        }

        #[test]
        fn nothing_panics(text in "[a%?&=/:ä0-9]{0,40}") {
            if let Some(Target { query: Some(query), .. }) = Target::parse(&text) {
                prop_assert!(parameters(query).count() <= query.len());
            }
            let decoded = decode(&text).map_or(0, |plain| plain.len());
            prop_assert!(decoded <= text.len());
        }
    }
}
