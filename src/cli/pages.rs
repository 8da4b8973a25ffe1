//! Paging, common to all lists of a server: pages are fetched, and merged into one JSON document.

use serde::Deserialize;

/// Start of the next page: opaque, and sent back unchanged.
#[derive(Deserialize, PartialEq)]
#[serde(untagged)]
pub enum Cursor {
    /// A number.
    Number(u64),
    /// Anything else.
    Text(String),
}

impl Cursor {
    /// The parameter for a query that is not empty.
    pub fn query(&self) -> String {
        let text = match self {
            Self::Number(number) => number.to_string(),
            Self::Text(text) => percent_encoded(text),
        };
        format!("&cursor={text}")
    }
}

/// `text` as one part of a path, or a value of a query.
pub fn percent_encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                out.push(char::from(byte));
            }
            byte => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_goes_back_as_it_came() {
        assert_eq!(Cursor::Number(17).query(), "&cursor=17");
        assert_eq!(
            Cursor::Text("a b/ä".into()).query(),
            "&cursor=a%20b%2F%C3%A4"
        );
    }
}
