//! Escaping of untrusted text for display. Names of hosts, commands and their output may come from
//! strangers. A control character may clear a terminal or forge a line of the log. A bidirectional
//! override changes the reading order of a line. An invisible character, or
//! a blank other than U+0020, makes two names look the same. Tables, logs and events show all of
//! these as `\u{…}`.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::net::Ipv6Addr;
use std::str::FromStr;

/// Characters that may not be shown as they are, ascending. They are those of Unicode's categories
/// control (Cc), format (Cf), separator (Zs except the blank, Zl, Zp), and those with the property
/// Default_Ignorable_Code_Point: fillers, joiners, variation selectors and tags, assigned or not.
/// Further those that fonts show as blank without such a property (U+2800, U+13441, U+16FE4,
/// U+1D159), the place holder of an object, and U+FDD0 to U+FDEF, which are no characters.
const UNSAFE: [(char, char); 34] = [
    ('\0', '\u{1f}'),
    ('\u{7f}', '\u{a0}'),
    ('\u{ad}', '\u{ad}'),
    ('\u{34f}', '\u{34f}'),
    ('\u{600}', '\u{605}'),
    ('\u{61c}', '\u{61c}'),
    ('\u{6dd}', '\u{6dd}'),
    ('\u{70f}', '\u{70f}'),
    ('\u{890}', '\u{891}'),
    ('\u{8e2}', '\u{8e2}'),
    ('\u{115f}', '\u{1160}'),
    ('\u{1680}', '\u{1680}'),
    ('\u{17b4}', '\u{17b5}'),
    ('\u{180b}', '\u{180f}'),
    ('\u{2000}', '\u{200f}'),
    ('\u{2028}', '\u{202f}'),
    ('\u{205f}', '\u{206f}'),
    ('\u{2800}', '\u{2800}'),
    ('\u{3000}', '\u{3000}'),
    ('\u{3164}', '\u{3164}'),
    ('\u{fdd0}', '\u{fdef}'),
    ('\u{fe00}', '\u{fe0f}'),
    ('\u{feff}', '\u{feff}'),
    ('\u{ffa0}', '\u{ffa0}'),
    ('\u{fff0}', '\u{fffc}'),
    ('\u{110bd}', '\u{110bd}'),
    ('\u{110cd}', '\u{110cd}'),
    ('\u{13430}', '\u{1343f}'),
    ('\u{13441}', '\u{13442}'),
    ('\u{16fe4}', '\u{16fe4}'),
    ('\u{1bca0}', '\u{1bca3}'),
    ('\u{1d159}', '\u{1d159}'),
    ('\u{1d173}', '\u{1d17a}'),
    ('\u{e0000}', '\u{e0fff}'),
];

/// Returns whether `c` must not be shown: a control character (line breaks and tabs included), a
/// mark that changes the direction of writing, white space other than the blank, an invisible
/// character, or none at all (the last two of each plane).
#[must_use]
pub const fn is_unsafe(c: char) -> bool {
    if c.is_ascii() {
        return c.is_ascii_control();
    }
    if c as u32 & 0xfffe == 0xfffe {
        return true;
    }
    let mut at = 0;
    while at < UNSAFE.len() && UNSAFE[at].0 <= c {
        if c <= UNSAFE[at].1 {
            return true;
        }
        at += 1;
    }
    false
}

/// Escapes every character of `text` that [must not be shown](is_unsafe) as `\u{…}`, so that it
/// fits one line. Borrowed if it has none.
#[must_use]
pub fn escape(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_unsafe) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if is_unsafe(c) {
            // Writing to a string cannot fail.
            let _ = write!(out, "{}", c.escape_unicode());
        } else {
            out.push(c);
        }
    }
    Cow::Owned(out)
}

/// Host and port of `HOST`, `HOST:PORT` or `[IPV6]:PORT`. Without a colon there is no port. Text
/// after a colon is a port, 1 to 65535, or an error: it is never replaced by the default port.
///
/// # Errors
/// The mistake, to follow the name of the text's source.
pub fn host_and_port(text: &str) -> Result<(String, Option<u16>), &'static str> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']').ok_or("has a [ without its ]")?;
            let address: Ipv6Addr = host.parse().map_err(|_| "has no IPv6 address in its [ ]")?;
            (address.to_string(), port)
        }
        None => {
            let (host, port) = text.split_at(text.find(':').unwrap_or(text.len()));
            let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
            if host.is_empty() || !host.chars().all(allowed) {
                return Err("has no good host: a name, an IPv4 address, or an IPv6 address in [ ]");
            }
            (host.to_owned(), port)
        }
    };
    if port.is_empty() {
        return Ok((host, None));
    }
    let port = port
        .strip_prefix(':')
        .and_then(whole_number)
        .filter(|&port| port > 0)
        .ok_or("has a port that is not a number from 1 to 65535")?;
    Ok((host, Some(port)))
}

/// A number of decimal digits and nothing else: `parse` alone would take a plus sign as well.
#[must_use]
pub fn whole_number<T: FromStr>(digits: &str) -> Option<T> {
    let all = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    digits.parse().ok().filter(|_| all)
}

/// Escapes every character of a JSON text that [must not be shown](is_unsafe) in JSON's own way.
/// Such characters occur only in strings, so its meaning stays the same. Borrowed if it has none.
#[must_use]
pub fn escape_json(json: &str) -> Cow<'_, str> {
    // ASCII without DEL, as in most documents, is checked byte by byte.
    let is_plain = |b: u8| matches!(b, b' '..=b'~');
    if json.bytes().all(is_plain) || !json.chars().any(is_unsafe) {
        return Cow::Borrowed(json);
    }
    let mut out = String::with_capacity(json.len() + 16);
    for c in json.chars() {
        match c {
            // Between values only, where a blank does as well, and the document stays one line.
            '\n' | '\r' | '\t' => out.push(' '),
            c if is_unsafe(c) => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    // Writing to a string cannot fail.
                    let _ = write!(out, "\\u{unit:04x}");
                }
            }
            c => out.push(c),
        }
    }
    Cow::Owned(out)
}

/// The candidate most like `word`, if one differs in at most two characters, or half of its length.
/// The first of several.
#[must_use]
pub fn nearest<'a>(word: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let most = (word.chars().count() / 2).max(2);
    let far = candidates.map(|known| (strsim::osa_distance(word, known), known));
    let best = far.reduce(|best, next| if next.0 < best.0 { next } else { best });
    best.filter(|(distance, _)| *distance <= most)
        .map(|(_, known)| known)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_port_is_a_port_or_an_error() {
        let parsed = |host: &str, port| Ok((host.to_owned(), port));
        assert_eq!(host_and_port("a"), parsed("a", None));
        assert_eq!(host_and_port("10.0.0.1:5"), parsed("10.0.0.1", Some(5)));
        assert_eq!(host_and_port("[0::1]:65535"), parsed("::1", Some(65_535)));
        assert_eq!(host_and_port("[::1]"), parsed("::1", None));
        for wrong in [
            "", ":1", "a:", "a:0", "a:65536", "a:99999", "a:-1", "a:+1", "a:1x", "a:1:1", "::1",
            "[::1", "[::1]1", "[::1]:", "[a]:1", "[]:1", "a b", "u@a", "a/b",
        ] {
            assert!(host_and_port(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn deceptive_characters_are_escaped() {
        assert_eq!(escape("a\nb\x1b[2J"), "a\\u{a}b\\u{1b}[2J");
        assert_eq!(
            escape("\u{202e}gpj.exe\u{2066}"),
            "\\u{202e}gpj.exe\\u{2066}"
        );
        assert_eq!(
            escape("\u{200e}\u{200f}\u{61c}"),
            "\\u{200e}\\u{200f}\\u{61c}"
        );
        assert_eq!(
            escape("\0\t\u{7f}\u{85}\u{2028}"),
            "\\u{0}\\u{9}\\u{7f}\\u{85}\\u{2028}"
        );
    }

    /// Each kind with its first and last characters, and one that a font shows as nothing.
    const INVISIBLE: &[(&str, &[char])] = &[
        (
            "controls",
            &['\0', '\t', '\n', '\u{1f}', '\u{7f}', '\u{85}', '\u{9f}'],
        ),
        (
            "white space",
            &[
                '\u{a0}', '\u{1680}', '\u{2000}', '\u{2003}', '\u{2009}', '\u{200a}', '\u{2028}',
                '\u{2029}', '\u{202f}', '\u{205f}', '\u{3000}',
            ],
        ),
        (
            "format",
            &[
                '\u{ad}',
                '\u{600}',
                '\u{605}',
                '\u{61c}',
                '\u{6dd}',
                '\u{70f}',
                '\u{890}',
                '\u{8e2}',
                '\u{180e}',
                '\u{200b}',
                '\u{200d}',
                '\u{200f}',
                '\u{202a}',
                '\u{202e}',
                '\u{2060}',
                '\u{2064}',
                '\u{2066}',
                '\u{206a}',
                '\u{feff}',
                '\u{fff9}',
                '\u{fffb}',
                '\u{110bd}',
                '\u{110cd}',
                '\u{13430}',
                '\u{1bca0}',
                '\u{1d173}',
                '\u{e0001}',
            ],
        ),
        (
            "default ignorable",
            &[
                '\u{34f}',
                '\u{115f}',
                '\u{1160}',
                '\u{17b4}',
                '\u{180b}',
                '\u{2065}',
                '\u{3164}',
                '\u{fe00}',
                '\u{fe0f}',
                '\u{ffa0}',
                '\u{fff0}',
                '\u{fff8}',
                '\u{e0041}',
                '\u{e0100}',
                '\u{e01ef}',
                '\u{e0fff}',
            ],
        ),
        (
            "no characters",
            &[
                '\u{fdd0}',
                '\u{fdef}',
                '\u{fffe}',
                '\u{ffff}',
                '\u{1fffe}',
                '\u{8ffff}',
                '\u{10fffe}',
                '\u{10ffff}',
            ],
        ),
        (
            "blank in fonts",
            &[
                '\u{2800}',
                '\u{fffc}',
                '\u{13441}',
                '\u{13442}',
                '\u{16fe4}',
                '\u{1d159}',
            ],
        ),
    ];

    #[test]
    fn invisible_characters_are_escaped() {
        for (kind, chars) in INVISIBLE {
            for c in *chars {
                let text = format!("web{c}1");
                let shown = format!("web\\u{{{:x}}}1", u32::from(*c));
                assert_eq!(escape(&text), shown, "{kind}");
                let json = serde_json::to_string(&text).unwrap();
                let json = escape_json(&json);
                assert!(json.is_ascii(), "{kind}: {c:?}");
                assert_eq!(serde_json::from_str::<String>(&json).unwrap(), text);
            }
        }
        assert_eq!(escape_json("\"\u{e0041}\""), r#""\udb40\udc41""#);
        assert!(UNSAFE.is_sorted() && UNSAFE.iter().all(|(first, last)| first <= last));
    }

    #[test]
    fn every_white_space_but_the_blank_is_unsafe() {
        for c in '\0'..=char::MAX {
            let is_odd = (c.is_whitespace() || c.is_control()) && c != ' ';
            assert!(is_unsafe(c) || !is_odd, "{c:?}");
            assert!(
                !is_unsafe(c) || !c.is_alphanumeric() || UNBOUND.contains(&c),
                "{c:?}"
            );
        }
    }

    /// Letters that have no shape.
    const UNBOUND: [char; 6] = [
        '\u{115f}',
        '\u{1160}',
        '\u{3164}',
        '\u{ffa0}',
        '\u{13441}',
        '\u{13442}',
    ];

    /// The page shows texts of its own accord.
    #[test]
    fn the_page_escapes_the_same_characters() {
        let of = |c: char| match u32::from(c) {
            0 => "\\0".to_owned(),
            n @ 0..=0xff => format!("\\x{n:02x}"),
            n @ 0x100..=0xffff => format!("\\u{n:04x}"),
            n => format!("\\u{{{n:x}}}"),
        };
        let mut class = String::new();
        for (first, last) in UNSAFE {
            class.push_str(&of(first));
            if last > first {
                class.push_str(if u32::from(last) - u32::from(first) > 1 {
                    "-"
                } else {
                    ""
                });
                class.push_str(&of(last));
            }
        }
        let line = format!(r"const UNSAFE = /[{class}\p{{NChar}}\p{{Cs}}]/gu;");
        let page = include_str!("control/page/dom.js");
        assert!(page.contains(&line), "dom.js must have\n{line}");
    }

    #[test]
    fn harmless_text_is_not_copied() {
        for text in ["", "web-1", "größe 木 \\ \" '", "e\u{301}", "\u{1f41c}한글"] {
            assert!(matches!(escape(text), Cow::Borrowed(same) if same == text));
        }
    }

    proptest! {
        #[test]
        fn json_without_anything_unsafe_means_the_same(text in any::<String>()) {
            let text = text + "\u{202e}\u{9b}\u{7f}\u{e0041}\u{ad}";
            let json = serde_json::to_string(&text).unwrap();
            let shown = escape_json(&json);
            prop_assert!(!shown.chars().any(is_unsafe));
            prop_assert_eq!(serde_json::from_str::<String>(&shown).unwrap(), text);
        }

        #[test]
        fn nothing_unsafe_is_left_and_the_rest_is_untouched(text in any::<String>()) {
            let escaped = escape(&text);
            prop_assert!(!escaped.chars().any(is_unsafe));
            let safe: String = text.chars().filter(|&c| !is_unsafe(c)).collect();
            if safe == text {
                prop_assert_eq!(&*escaped, &text);
            } else {
                // Every escape put in is a "\u{…}"; taking them out again leaves the rest.
                let mut rest = escaped.into_owned();
                for c in text.chars().filter(|&c| is_unsafe(c)) {
                    rest = rest.replacen(&c.escape_unicode().to_string(), "", 1);
                }
                prop_assert_eq!(rest, safe);
            }
        }
    }

    #[test]
    fn the_nearest_similar_name_is_found() {
        let known = ["web-1", "web-2", "db-1"];
        for (word, found) in [
            ("wbe-2", Some("web-2")),
            ("web-11", Some("web-1")),
            ("db", Some("db-1")),
            ("router", None),
            ("", None),
        ] {
            assert_eq!(nearest(word, known.into_iter()), found, "{word}");
        }
        assert_eq!(nearest("a", std::iter::empty()), None);
    }
}
