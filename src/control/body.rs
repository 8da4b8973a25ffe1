//! The body of a POST, parsed to a request for the core.
//!
//! It is stricter than JSON: an unknown or repeated member is refused, because its author means
//! something that would otherwise not happen.

use std::collections::{BTreeMap, HashSet};
use std::fmt;

use serde::de::{DeserializeOwned, Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::response::Response;
use crate::handlers::ask::{Ask, NewTask};

/// A task to be sent.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct TaskBody {
    key: String,
    commands: Commands,
    #[serde(default)]
    hosts: Option<Vec<String>>,
    #[serde(default)]
    queue: bool,
}

/// A console command to be sent.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct CommandBody {
    command: String,
    #[serde(default)]
    hosts: Option<Vec<String>>,
}

/// Command → priority, in the order they stand.
#[derive(Debug)]
struct Commands(Vec<(String, f64)>);

impl<'de> Deserialize<'de> for Commands {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(CommandsVisitor)
    }
}

struct CommandsVisitor;

impl<'de> Visitor<'de> for CommandsVisitor {
    type Value = Commands;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of commands, each with its priority")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Commands, A::Error> {
        let mut commands = Vec::new();
        let mut seen = HashSet::new();
        while let Some((command, value)) = map.next_entry::<String, Value>()? {
            let priority = value.as_f64().filter(|priority| priority.is_finite());
            let Some(priority) = priority else {
                let was = format!("the priority of {command:?} is {value}");
                return Err(A::Error::custom(format!(
                    "{was}, and must be a finite number"
                )));
            };
            if !seen.insert(command.clone()) {
                let error = format!("the command {command:?} stands twice");
                return Err(A::Error::custom(error));
            }
            commands.push((command, priority));
        }
        Ok(Commands(commands))
    }
}

/// The task in `body`, as the request of this number.
///
/// # Errors
/// 400 with what is wrong with it.
pub fn task(body: &[u8], request: u64) -> Result<Ask, Response> {
    let TaskBody {
        key,
        commands,
        hosts,
        queue,
    } = read(body)?;
    Ok(Ask::Dispatch(NewTask {
        key,
        commands: commands.0,
        hosts,
        queue,
        request,
    }))
}

/// The console command in `body`, under the id `cid`. The name of an instruction stands for its text.
///
/// # Errors
/// 400 with what is wrong with it.
pub fn command(
    body: &[u8],
    instructions: &BTreeMap<String, String>,
    cid: String,
) -> Result<Ask, Response> {
    let CommandBody { command, hosts } = read(body)?;
    let text = instructions.get(&command).cloned().unwrap_or(command);
    Ok(Ask::Command { text, hosts, cid })
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Response> {
    // An array would do for serde, its elements taken for the members in their order.
    if body.trim_ascii_start().first() != Some(&b'{') {
        return Err(Response::error(400, "the body is no JSON object"));
    }
    serde_json::from_slice(body)
        .map_err(|error| Response::error(400, &format!("the body is wrong: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn why(response: &Response) -> String {
        assert_eq!(response.status, 400);
        String::from_utf8(response.body.clone()).unwrap()
    }

    #[test]
    fn a_task_is_read_in_the_order_it_is_written() {
        let text = r#" {"commands":{"z":2,"a":-1.5e2},"key":"AC1"}"#;
        let expected = NewTask {
            key: "AC1".into(),
            commands: vec![("z".into(), 2.0), ("a".into(), -150.0)],
            hosts: None,
            queue: false,
            request: 7,
        };
        assert_eq!(
            task(text.as_bytes(), 7),
            Ok(Ask::Dispatch(expected.clone()))
        );
        let text = r#"{"key":"AC1","commands":{"z":2,"a":-150},"hosts":["b","a"],"queue":true}"#;
        let hosts = Some(vec!["b".to_owned(), "a".to_owned()]);
        let expected = NewTask {
            hosts,
            queue: true,
            ..expected
        };
        assert_eq!(task(text.as_bytes(), 7), Ok(Ask::Dispatch(expected)));
        let null = task(br#"{"key":"","commands":{},"hosts":null}"#, 1).unwrap();
        assert!(matches!(null, Ask::Dispatch(NewTask { hosts: None, .. })));
    }

    #[test]
    fn what_is_wrong_with_a_task_is_named() {
        let cases = [
            ("", "object"),
            ("null", "object"),
            (r#"["AC1",{"a":1}]"#, "object"),
            (r#""AC1""#, "object"),
            ("{", "EOF"),
            (r#"{"key":"AC1"}"#, "commands"),
            (r#"{"commands":{"a":1}}"#, "key"),
            (r#"{"key":1,"commands":{"a":1}}"#, "string"),
            (r#"{"key":"AC1","commands":["a"]}"#, "commands"),
            (r#"{"key":"AC1","commands":null}"#, "commands"),
            (r#"{"key":"AC1","commands":{"a":1,"a":2}}"#, "twice"),
            (r#"{"key":"AC1","commands":{"a":1,"\u0061":2}}"#, "twice"),
            (
                r#"{"key":"AC1","commands":{"a":"1"}}"#,
                "must be a finite number",
            ),
            (
                r#"{"key":"AC1","commands":{"a":true}}"#,
                "must be a finite number",
            ),
            (
                r#"{"key":"AC1","commands":{"a":null}}"#,
                "must be a finite number",
            ),
            (r#"{"key":"AC1","commands":{"a":1e999}}"#, "range"),
            (r#"{"key":"AC1","commands":{"a":NaN}}"#, "expected"),
            (r#"{"key":"AC1","commands":{"a":Infinity}}"#, "expected"),
            (
                r#"{"key":"AC1","key":"AC2","commands":{"a":1}}"#,
                "duplicate",
            ),
            (r#"{"key":"AC1","commands":{"a":1},"prio":1}"#, "prio"),
            (r#"{"key":"AC1","commands":{"a":1},"hosts":"b"}"#, "string"),
            (r#"{"key":"AC1","commands":{"a":1},"hosts":[1]}"#, "string"),
            (r#"{"key":"AC1","commands":{"a":1},"queue":1}"#, "bool"),
            (r#"{"key":"AC1","commands":{"a":1},"queue":null}"#, "bool"),
            (r#"{"key":"AC1","commands":{"a":1}} {}"#, "trailing"),
        ];
        for (text, word) in cases {
            let why = why(&task(text.as_bytes(), 1).unwrap_err());
            assert!(why.contains(word), "{text}: {why}");
        }
        let deep = format!(r#"{{"key":{}"#, "[".repeat(100_000));
        why(&task(deep.as_bytes(), 1).unwrap_err());
        why(&task(b"{\"key\":\"\xff\",\"commands\":{}}", 1).unwrap_err());
    }

    #[test]
    fn a_command_may_be_the_name_of_an_instruction() {
        let instructions = BTreeMap::from([("up".to_owned(), "uptime -p".to_owned())]);
        let text = |body: &str| match command(body.as_bytes(), &instructions, "c1".into()) {
            Ok(Ask::Command { text, hosts, cid }) => {
                assert_eq!(cid, "c1");
                (text, hosts)
            }
            other => panic!("{other:?}"),
        };
        assert_eq!(text(r#"{"command":"up"}"#), ("uptime -p".into(), None));
        let hosts = Some(vec!["a".to_owned()]);
        assert_eq!(
            text(r#"{"hosts":["a"],"command":"up x"}"#),
            ("up x".into(), hosts)
        );
        for bad in [
            "{}",
            r#"{"command":1}"#,
            r#"{"command":"a","cid":"b"}"#,
            r#"["a"]"#,
        ] {
            why(&command(bad.as_bytes(), &instructions, String::new()).unwrap_err());
        }
    }

    proptest! {
        #[test]
        fn nothing_panics(body in proptest::collection::vec(any::<u8>(), 0..64)) {
            let braced = [b"{", body.as_slice(), b"}"].concat();
            for body in [&body, &braced] {
                if let Err(response) = task(body, 1) {
                    prop_assert_eq!(response.status, 400);
                }
                if let Err(response) = command(body, &BTreeMap::new(), String::new()) {
                    prop_assert_eq!(response.status, 400);
                }
            }
        }

        #[test]
        fn what_was_written_is_read(
            key in ".{0,8}",
            commands in proptest::collection::btree_map(".{0,8}", -1e300f64..1e300, 0..5),
            hosts in proptest::option::of(proptest::collection::vec(".{0,8}", 0..4)),
            queue in any::<bool>(),
            request in any::<u64>(),
        ) {
            let body = serde_json::json!(
                {"key": key, "commands": commands, "hosts": hosts, "queue": queue}
            );
            let task = task(body.to_string().as_bytes(), request);
            let Ok(Ask::Dispatch(task)) = task else {
                return Err(TestCaseError::fail(format!("{task:?}")));
            };
            let read: BTreeMap<String, f64> = task.commands.iter().cloned().collect();
            prop_assert_eq!(task.commands.len(), commands.len());
            prop_assert!(read.keys().eq(commands.keys()));
            for (one, other) in read.values().zip(commands.values()) {
                prop_assert!((one - other).abs() <= other.abs() * 1e-12);
            }
            prop_assert_eq!((task.key, task.hosts, task.queue), (key, hosts, queue));
            prop_assert_eq!(task.request, request);
        }
    }
}
