//! Paging, common to all lists of a server: pages are fetched, and merged into one JSON document.

use std::collections::HashMap;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use super::api::{Api, ApiError};
use crate::limits::API_PAGES_MAX;

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
    /// Parameter for a query that has others before it.
    fn query(&self) -> String {
        let text = match self {
            Self::Number(number) => number.to_string(),
            Self::Text(text) => percent_encoded(text),
        };
        format!("&cursor={text}")
    }
}

/// Fetches the pages that begin with `first`, at most `max`. `take` returns the start of the next
/// page. Returns whether the last page was reached.
///
/// # Errors
/// The first page that cannot be fetched or taken.
pub fn fetch<P: DeserializeOwned>(
    api: &Api,
    first: &str,
    max: usize,
    mut take: impl FnMut(P) -> Result<Option<Cursor>, ApiError>,
) -> Result<bool, ApiError> {
    let mut cursor: Option<Cursor> = None;
    for _ in 0..max {
        let from = cursor.as_ref().map(Cursor::query).unwrap_or_default();
        let next = take(api.get(&format!("{first}{from}"))?)?;
        if next.is_none() || next == cursor {
            return Ok(next.is_none());
        }
        cursor = next;
    }
    Ok(false)
}

/// The error of a list whose last page was not reached.
pub fn endless(api: &Api) -> ApiError {
    api.foreign("its pages have no end")
}

/// Fetches the items of the list `name`, of at most `max` pages; with them whether these are all.
///
/// # Errors
/// The first page that cannot be fetched, or lacks the list.
pub fn some_items(
    api: &Api,
    name: &str,
    first: &str,
    max: usize,
) -> Result<(Vec<Box<RawValue>>, bool), ApiError> {
    let mut items = Vec::new();
    let wrong = |_| api.foreign("a member of it is of another kind");
    let take = |mut page: HashMap<String, Box<RawValue>>| {
        let list = page.remove(name);
        let list = list.ok_or_else(|| api.foreign(format!("it has no member {name:?}")))?;
        items.append(&mut serde_json::from_str(list.get()).map_err(wrong)?);
        let next = page.remove("next");
        let next = next.map(|next| serde_json::from_str(next.get()).map_err(wrong));
        Ok(next.transpose()?.flatten())
    };
    let is_whole = fetch(api, first, max, take)?;
    Ok((items, is_whole))
}

/// Fetches all items of the list `name`.
///
/// # Errors
/// As [`some_items`], or pages without an end.
pub fn items(api: &Api, name: &str, first: &str) -> Result<Vec<Box<RawValue>>, ApiError> {
    match some_items(api, name, first, API_PAGES_MAX)? {
        (items, true) => Ok(items),
        (_, false) => Err(endless(api)),
    }
}

/// All items of the list `name` as one page of the server's.
pub fn json(name: &str, items: &[Box<RawValue>]) -> String {
    let items: Vec<&str> = items.iter().map(|item| item.get()).collect();
    format!("{{\"{name}\":[{}],\"next\":null}}", items.join(","))
}

/// Encodes `text` as a segment of a path or a value of a query.
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
