//! The body of a POST, parsed to a request for the core.
//!
//! It is stricter than JSON: an unknown or repeated member is refused, because its author means
//! something that would otherwise not happen.

use std::collections::{BTreeMap, HashSet};
use std::fmt;

use serde::de::{DeserializeOwned, Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use serde_json::value::RawValue;

use super::response::Response;
use crate::handlers::ask::{Ask, NewTask};
use crate::limits::BOOK_BYTES_MAX;

/// A task to be sent.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct TaskBody<H> {
    key: String,
    commands: Commands,
    hosts: Option<H>,
    #[serde(default)]
    queue: bool,
}

/// A console command to be sent.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct CommandBody<H> {
    command: String,
    hosts: Option<H>,
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
        let mut bytes = 0;
        while let Some((command, value)) = map.next_entry::<String, Value>()? {
            let priority = value.as_f64().filter(|priority| priority.is_finite());
            let Some(priority) = priority else {
                let was = format!("the priority of {command:?} is {value}");
                return Err(A::Error::custom(format!(
                    "{was}, and must be a finite number"
                )));
            };
            bytes += command.len();
            if bytes > BOOK_BYTES_MAX {
                let error = format!("the commands are longer than {BOOK_BYTES_MAX} bytes");
                return Err(A::Error::custom(error));
            }
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
    let body: TaskBody<Vec<String>> = read(body)?;
    Ok(task_of(
        body.key,
        body.commands,
        body.queue,
        request,
        body.hosts,
    ))
}

fn task_of(
    key: String,
    commands: Commands,
    queue: bool,
    request: u64,
    hosts: Option<Vec<String>>,
) -> Ask {
    Ask::Dispatch(NewTask {
        key,
        commands: commands.0,
        hosts,
        queue,
        request,
    })
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
    let CommandBody { command, hosts } = read::<CommandBody<Vec<String>>>(body)?;
    let text = instructions.get(&command).cloned().unwrap_or(command);
    Ok(Ask::Command { text, hosts, cid })
}

/// A long body that is being read: all but the names of its hosts, which follow some at a time.
#[derive(Debug)]
pub struct Reading {
    ask: Ask,
    /// The names as in the body: JSON, but not yet known to be a list of strings.
    list: Box<RawValue>,
    /// Bytes of it that have been read.
    at: usize,
    names: Vec<String>,
}

impl Reading {
    /// Begins to read the [`task`] in `body`. What it is asked, if it names no hosts.
    ///
    /// # Errors
    /// 400 with what is wrong with it.
    pub fn task(body: &[u8], request: u64) -> Result<Begun, Response> {
        let body: TaskBody<Box<RawValue>> = read(body)?;
        let ask = task_of(body.key, body.commands, body.queue, request, None);
        Ok(Self::begin(ask, body.hosts))
    }

    /// Begins to read the [`command`] in `body`.
    ///
    /// # Errors
    /// 400 with what is wrong with it.
    pub fn command(
        body: &[u8],
        instructions: &BTreeMap<String, String>,
        cid: String,
    ) -> Result<Begun, Response> {
        let CommandBody { command, hosts } = read::<CommandBody<Box<RawValue>>>(body)?;
        let text = instructions.get(&command).cloned().unwrap_or(command);
        let ask = Ask::Command {
            text,
            hosts: None,
            cid,
        };
        Ok(Self::begin(ask, hosts))
    }

    fn begin(ask: Ask, list: Option<Box<RawValue>>) -> Begun {
        match list {
            None => Begun::Whole(ask),
            Some(list) => Begun::Partly(Self {
                ask,
                list,
                at: 0,
                names: Vec::new(),
            }),
        }
    }

    /// Reads at most `max` more names. What is asked, if these were the last.
    ///
    /// # Errors
    /// 400 with what is wrong with it.
    pub fn step(&mut self, max: usize) -> Result<Option<Ask>, Response> {
        let text = self.list.get();
        for _ in 0..max {
            // That it is JSON is known: between two values stand a comma and blanks.
            let rest = text[self.at..].trim_start();
            let rest = match (self.at, rest.strip_prefix([',', '['])) {
                (0, _) if !rest.starts_with('[') => return Err(no_list("`hosts` is no list")),
                (_, Some(rest)) => rest.trim_start(),
                (_, None) => rest,
            };
            if rest.starts_with(']') {
                return Ok(Some(self.done()));
            }
            let mut values = serde_json::Deserializer::from_str(rest).into_iter::<String>();
            let Some(Ok(name)) = values.next() else {
                let place = self.names.len();
                return Err(no_list(&format!("`hosts[{place}]` is no string")));
            };
            self.at = text.len() - rest.len() + values.byte_offset();
            self.names.push(name);
        }
        Ok(None)
    }

    fn done(&mut self) -> Ask {
        let names = Some(std::mem::take(&mut self.names));
        match self.ask.clone() {
            Ask::Dispatch(task) => Ask::Dispatch(NewTask {
                hosts: names,
                ..task
            }),
            Ask::Command { text, cid, .. } => Ask::Command {
                text,
                hosts: names,
                cid,
            },
            other => other,
        }
    }
}

/// Result of the beginning of a long body.
#[derive(Debug)]
pub enum Begun {
    /// The request is complete.
    Whole(Ask),
    /// The names of hosts are still to be read.
    Partly(Reading),
}

fn no_list(what: &str) -> Response {
    Response::error(400, &format!("the body is wrong: {what}"))
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

    fn in_steps(begun: Result<Begun, Response>, max: usize) -> (Result<Ask, Response>, usize) {
        let mut reading = match begun {
            Ok(Begun::Partly(reading)) => reading,
            Ok(Begun::Whole(ask)) => return (Ok(ask), 0),
            Err(response) => return (Err(response), 0),
        };
        for steps in 1.. {
            match reading.step(max) {
                Ok(None) => {}
                Ok(Some(ask)) => return (Ok(ask), steps),
                Err(response) => return (Err(response), steps),
            }
        }
        unreachable!()
    }

    #[test]
    fn many_names_are_read_in_steps_to_the_same_request() {
        let names = r#"[ "a" ,"b","c\n\u0041]\"," , "", "[","e"]"#;
        for hosts in [names, "[]", " [ ] ", "null", r#"["a"]"#] {
            let text = format!(r#"{{"key":"AC1","hosts":{hosts},"commands":{{"x":1}}}}"#);
            let whole = task(text.as_bytes(), 7);
            for max in 1..8 {
                let (read, steps) = in_steps(Reading::task(text.as_bytes(), 7), max);
                assert_eq!(read, whole, "{text}");
                assert!(hosts != names || steps > 6 / max, "{steps} steps of {max}");
            }
            let text = format!(r#"{{"command":"x","hosts":{hosts}}}"#);
            let none = BTreeMap::new();
            let begun = Reading::command(text.as_bytes(), &none, "c".into());
            let whole = command(text.as_bytes(), &none, "c".into());
            assert_eq!(in_steps(begun, 2).0, whole);
        }
        for (hosts, what) in [
            ("7", "list"),
            (r#"{"a":1}"#, "list"),
            (r#""a""#, "list"),
            (r#"["a",7]"#, "hosts[1]"),
            (r#"[["a"]]"#, "hosts[0]"),
            (r#"["a",null]"#, "hosts[1]"),
            (r#"["a","b"#, "EOF"),
            (r#"["a" "b"]"#, "expected"),
        ] {
            let text = format!(r#"{{"command":"x","hosts":{hosts}}}"#);
            let begun = Reading::command(text.as_bytes(), &BTreeMap::new(), "c".into());
            let why = why(&in_steps(begun, 3).0.unwrap_err());
            assert!(why.contains(what), "{text}: {why}");
        }
    }

    #[test]
    fn commands_that_no_book_holds_are_not_read_to_their_end() {
        let long: Vec<String> = (0..BOOK_BYTES_MAX / 8).map(|n| format!("{n:09}")).collect();
        let commands: BTreeMap<&str, u32> = long.iter().map(|text| (text.as_str(), 1)).collect();
        let body = serde_json::json!({"key": "AC1", "commands": commands}).to_string();
        let why = why(&task(body.as_bytes(), 1).unwrap_err());
        assert!(why.contains("longer than 60000 bytes"), "{why}");
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
