//! `anthill label`: sets and removes labels of hosts.

use serde_json::{Map, Value};

use super::api::{Api, ApiError};
use super::args::LabelArgs;
use super::groups::counted;
use super::pages::percent_encoded;
use super::{Failure, confirm, print_note, recipients};
use crate::escape::escape;

/// Number of hosts above which the action is confirmed.
const UNCONFIRMED_MAX: usize = 100;
/// Number of hosts up to which each is looked at, to count those that are changed.
const LOOKED_AT_MAX: usize = 1_000;

/// Changes the labels.
///
/// # Errors
/// Wrong usage, or no good answer from a server.
pub fn run(args: &LabelArgs) -> Result<(), Failure> {
    let changes = changes(&args.changes)?;
    let target = recipients::parse("TARGET", Some(&args.target))?;
    let api = Api::new(&args.api)?;
    let hosts = recipients::resolve(&api, &args.target)?;
    let names_all = target.is_some_and(|target| target.names_all());
    if names_all || hosts.len() > UNCONFIRMED_MAX {
        let counted = confirm::counted(hosts.iter().map(String::as_str));
        confirm::ask(&format!("change labels of {counted}"), args.yes)?;
    }
    let body = Value::Object(changes.clone());
    let mut changed = 0;
    for host in &hosts {
        let before: Value = match hosts.len() <= LOOKED_AT_MAX {
            true => api.get(&format!("/v1/hosts/{}", percent_encoded(host)))?,
            false => Value::Null,
        };
        let path = format!("/v1/hosts/{}/labels", percent_encoded(host));
        let answer: Result<Value, ApiError> = api.patch(&path, &body);
        answer.map_err(|error| {
            let failure = match error.is_wrong() {
                true => Failure::usage,
                false => Failure::failed,
            };
            failure(format!(
                "{}: {error} ({} changed before it)",
                escape(host),
                counted(changed)
            ))
        })?;
        changed += u64::from(!has_already(&before, &changes));
    }
    let same = hosts.len() as u64 - changed;
    print_note(&match (changed, same) {
        (0, same) => format!("nothing changed: {} had it so", counted(same)),
        (changed, 0) => format!("labels of {} changed", counted(changed)),
        (changed, same) => format!(
            "labels of {} changed; {} had it so",
            counted(changed),
            counted(same)
        ),
    });
    Ok(())
}

/// Returns whether an administrator's labels of a host are already as the changes have them.
fn has_already(host: &Value, changes: &Map<String, Value>) -> bool {
    let Some(sources) = host.get("label_sources") else {
        return false;
    };
    changes.iter().all(|(key, value)| {
        let is_set = sources.get(key).and_then(Value::as_str) == Some("admin");
        match value {
            Value::Null => !is_set && sources.get(key).is_none_or(|source| source != "config"),
            value => is_set && host.get("labels").and_then(|all| all.get(key)) == Some(value),
        }
    })
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
    fn a_change_that_is_there_already_changes_nothing() {
        let host = json!({"labels": {"dc": "fra", "os": "debian", "role": "web"},
            "label_sources": {"dc": "admin", "os": "host", "role": "config"}});
        for (texts, is_there) in [
            (&["dc=fra"][..], true),
            (&["x-"], true),
            (&["os-"], true),
            (&["dc=fra", "x-"], true),
            (&["dc=ams"], false),
            (&["dc-"], false),
            (&["os=debian"], false),
            (&["role-"], false),
        ] {
            let all = read(texts).unwrap();
            let found = has_already(&host, all.as_object().unwrap());
            assert_eq!(found, is_there, "{texts:?}");
        }
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
