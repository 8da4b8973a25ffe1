//! `anthill label`: sets and removes labels of hosts.

use serde_json::{Map, Value};

use super::api::{Api, ApiError};
use super::args::LabelArgs;
use super::pages::percent_encoded;
use super::{Failure, confirm, print_note, recipients};
use crate::escape::escape;

/// Number of hosts above which the action is confirmed.
const UNCONFIRMED_MAX: usize = 100;

/// Changes the labels.
///
/// # Errors
/// Wrong usage, or no good answer from a server.
pub fn run(args: &LabelArgs) -> Result<(), Failure> {
    let changes = changes(&args.changes)?;
    recipients::parse("TARGET", Some(&args.target))?;
    let api = Api::new(&args.api)?;
    let hosts = recipients::resolve(&api, &args.target)?;
    if hosts.len() > UNCONFIRMED_MAX {
        let counted = confirm::counted(hosts.iter().map(String::as_str));
        confirm::ask(&format!("change labels of {counted}"), args.yes)?;
    }
    let body = Value::Object(changes);
    for (done, host) in hosts.iter().enumerate() {
        let path = format!("/v1/hosts/{}/labels", percent_encoded(host));
        let answer: Result<Value, ApiError> = api.patch(&path, &body);
        answer.map_err(|error| {
            let failure = match error.is_wrong() {
                true => Failure::usage,
                false => Failure::failed,
            };
            failure(format!(
                "{}: {error} ({done} hosts are changed)",
                escape(host)
            ))
        })?;
    }
    let word = if hosts.len() == 1 { "host" } else { "hosts" };
    print_note(&format!("labels of {} {word} changed", hosts.len()));
    Ok(())
}

/// Reads the changes: a value, or null for a label to be removed.
fn changes(texts: &[String]) -> Result<Map<String, Value>, Failure> {
    let mut changes = Map::new();
    for text in texts {
        let (key, value) = match (text.split_once('='), text.strip_suffix('-')) {
            (Some((key, value)), _) => (key, Value::from(value)),
            (None, Some(key)) => (key, Value::Null),
            (None, None) => {
                let shown = escape(text);
                let why =
                    format!("'{shown}' is no label: it may be KEY=VALUE, or KEY- to remove it");
                return Err(Failure::usage(why));
            }
        };
        if changes.insert(key.to_owned(), value).is_some() {
            let key = escape(key);
            return Err(Failure::usage(format!("the label '{key}' is given twice")));
        }
    }
    Ok(changes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(texts: &[&str]) -> Result<Value, Failure> {
        let texts: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
        changes(&texts).map(Value::Object)
    }

    #[test]
    fn a_change_sets_or_removes() {
        let wanted = json!({"dc": "fra", "role": null, "a": "b-"});
        assert_eq!(read(&["dc=fra", "role-", "a=b-"]).unwrap(), wanted);
        for wrong in [&["dc"][..], &["dc=a", "dc-"]] {
            assert_eq!(read(wrong).unwrap_err().status(), 2, "{wrong:?}");
        }
    }
}
