//! Parser for the query: parameters by name, each at most once, and only known ones.

use super::response::Response;
use super::target::parameters;
use crate::handlers::view::Filter;

/// The values of the parameters `names` in `query`.
///
/// # Errors
/// 400 for a parameter that is not among them, stands twice, or has a broken escape.
pub fn take<const N: usize>(
    query: Option<&str>,
    names: [&str; N],
) -> Result<[Option<String>; N], Response> {
    let mut values = [const { None }; N];
    for parameter in parameters(query.unwrap_or("")) {
        let Some((name, value)) = parameter else {
            return Err(wrong("the query has a broken % escape"));
        };
        let place = names.iter().position(|known| *known == name);
        let Some(place) = place else {
            return Err(wrong(&format!("unknown parameter {name:?}")));
        };
        if values[place].replace(value.into_owned()).is_some() {
            return Err(wrong(&format!("{name} is given twice")));
        }
    }
    Ok(values)
}

/// A part of a list that has many pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page {
    /// Maximum number of entries.
    pub limit: usize,
    /// Start of the page; 0 is the beginning.
    pub cursor: u64,
}

impl Page {
    /// The part that `limit` and `cursor` ask for, of at most `most`. What is above that is taken for
    /// it: the cursor leads on.
    ///
    /// # Errors
    /// 400 for what is no number.
    pub fn of(limit: Option<&str>, cursor: Option<&str>, most: usize) -> Result<Self, Response> {
        let limit = match limit {
            None => most,
            Some(text) => number(text)
                .filter(|limit| *limit > 0)
                .map(|limit| usize::try_from(limit).map_or(most, |limit| limit.min(most)))
                .ok_or_else(|| wrong(&format!("limit is {text:?}, and may be 1 to {most}")))?,
        };
        let cursor = match cursor {
            None => 0,
            Some(text) => number(text)
                .ok_or_else(|| wrong(&format!("cursor is {text:?}, which no page has given")))?,
        };
        Ok(Self { limit, cursor })
    }
}

/// Parses the state filter.
///
/// # Errors
/// 400 for an unknown word.
pub fn filter(text: Option<&str>) -> Result<Filter, Response> {
    match text {
        None => Ok(Filter::All),
        Some("online") => Ok(Filter::Online),
        Some("offline") => Ok(Filter::Offline),
        Some(other) => Err(wrong(&format!(
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_taken_by_name_in_any_order() {
        let taken = take(Some("b=2&a=1"), ["a", "b", "c"]).unwrap();
        assert_eq!(taken, [Some("1".into()), Some("2".into()), None]);
        assert_eq!(take(None, []), Ok([]));
        for bad in ["a=1&a=1", "d=1", "a=%", "a=1&b"] {
            assert_eq!(take(Some(bad), ["a"]).unwrap_err().status, 400, "{bad}");
        }
    }

    #[test]
    fn a_part_is_within_its_bound() {
        let part =
            |limit, cursor| Page::of(limit, cursor, 10).map(|part| (part.limit, part.cursor));
        assert_eq!(part(None, None), Ok((10, 0)));
        assert_eq!(
            part(Some("3"), Some("18446744073709551615")),
            Ok((3, u64::MAX))
        );
        assert_eq!(part(Some("11"), None), Ok((10, 0)));
        for bad in ["", "+1", " 1", "x", "99999999999999999999999"] {
            assert!(part(Some(bad), None).is_err() && part(None, Some(bad)).is_err());
        }
        assert!(part(Some("0"), None).is_err());
    }
}
