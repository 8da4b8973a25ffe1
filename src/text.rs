//! Text from outside, made fit to be shown. Names of hosts, commands and their output are written
//! by strangers: a control character may clear a terminal or forge a line of the log, and a
//! bidirectional override makes a line read as what it is not. Tables, logs and events show all of
//! these as `\u{…}`.

use std::borrow::Cow;
use std::fmt::Write as _;

/// Whether `c` may not be shown as it is: a control character (line breaks and tabs included), a
/// mark that changes the direction of writing, or one of the two line breaks of Unicode.
#[must_use]
pub const fn is_unsafe(c: char) -> bool {
    matches!(
        c,
        '\0'..='\u{1f}'
            | '\u{7f}'..='\u{9f}'
            | '\u{61c}'
            | '\u{200e}'
            | '\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2066}'..='\u{2069}'
    )
}

/// `text` on one line, with every character that [may not be shown](is_unsafe) written as `\u{…}`.
/// Borrowed where there is none.
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

/// JSON in which every character that [may not be shown](is_unsafe) is spelled as JSON's own escape. Such
/// characters stand only in strings, so it means the same. Borrowed where there is none.
#[must_use]
pub fn escape_json(json: &str) -> Cow<'_, str> {
    // ASCII but DEL, which most documents are, is looked at byte by byte.
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
                // Writing to a string cannot fail. All of them have four digits at most.
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_could_deceive_is_spelled_out() {
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

    #[test]
    fn what_is_harmless_is_not_copied() {
        for text in ["", "web-1", "größe 木 \\ \" '", "e\u{301}"] {
            assert!(matches!(escape(text), Cow::Borrowed(same) if same == text));
        }
    }

    proptest! {
        #[test]
        fn json_without_anything_unsafe_means_the_same(text in any::<String>()) {
            let text = text + "\u{202e}\u{9b}\u{7f}";
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
}
