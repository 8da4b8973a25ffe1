//! The commands of a dispatch, from flags or from a file.
//!
//! The highest priority runs first. Commands without a priority run in the given order, before the
//! others: they get whole numbers above the highest given priority, or above 0.

use std::collections::HashSet;
use std::fmt;
use std::path::Path;

use crate::files::{Guard, read_text};
use crate::limits::TASKS_FILE_BYTES_MAX;
use crate::syntax::json_fault;
use serde::Deserialize;
use serde::de::{Deserializer, Error, MapAccess, Visitor};
use serde_json::{Map, Value};

use super::Failure;

/// A command, and its priority if it has one.
type Entry = (String, Option<f64>);

/// Converts flags to the server's JSON.
///
/// # Errors
/// An invalid command or priority, status 2.
pub fn of_flags(tasks: &[String]) -> Result<Value, Failure> {
    let entries = tasks.iter().map(|task| split(task));
    numbered(entries.collect::<Result<_, _>>()?).map_err(|why| wrong("--task", &why))
}

/// Converts a file to the server's JSON.
///
/// # Errors
/// An unreadable file or an invalid command in it, status 2.
pub fn of_file(file: &Path) -> Result<Value, Failure> {
    let source = format!("--tasks is '{}'", file.display());
    let text = read_text(file, TASKS_FILE_BYTES_MAX, Guard::None)
        .map_err(|error| wrong(&source, &format!("it {error}")))?
        .text;
    read(&text)
        .and_then(numbered)
        .map_err(|why| wrong(&source, &why))
}

/// Summarizes a book for a question: its first command and the number of others.
pub fn in_words(book: &Value) -> String {
    let commands = book.as_object().into_iter().flat_map(Map::keys);
    let commands: Vec<&String> = commands.collect();
    match commands.as_slice() {
        [] => String::new(),
        [only] => (*only).clone(),
        [first, rest @ ..] => format!("{first} and {} more", rest.len()),
    }
}

fn wrong(source: &str, why: &str) -> Failure {
    Failure::usage(format!("{source}: {why}"))
}

/// Splits at the last `=` if a number follows.
fn split(task: &str) -> Result<Entry, Failure> {
    let Some((command, priority)) = task.rsplit_once('=').filter(|(_, text)| is_number(text))
    else {
        return Ok((task.to_owned(), None));
    };
    match priority.parse::<f64>() {
        Ok(number) if number.is_finite() => Ok((command.to_owned(), Some(number))),
        _ => Err(Failure::usage(format!(
            "--task is '{task}': its priority may be a finite number"
        ))),
    }
}

/// Returns whether the text is a decimal number. `inf` and `nan` are words of a command, not
/// numbers.
fn is_number(text: &str) -> bool {
    text.bytes()
        .all(|byte| byte.is_ascii_digit() || matches!(byte, b'+' | b'-' | b'.' | b'e' | b'E'))
        && text.parse::<f64>().is_ok()
}

/// Returns whether `c` cannot be in a tasks file: a control character except the tab, or a second
/// byte order mark.
fn is_stray(c: char) -> bool {
    (c.is_control() && c != '\t') || c == '\u{feff}'
}

/// Parses a tasks file. A text that begins like JSON is JSON.
fn read(text: &str) -> Result<Vec<Entry>, String> {
    let json = |error: serde_json::Error| {
        let fault = json_fault(text, &error);
        format!(
            "it begins as JSON, and is no object COMMAND -> PRIORITY or list of commands: {fault}"
        )
    };
    match text.trim_start().bytes().next() {
        Some(b'{') => serde_json::from_str::<Object>(text)
            .map(|object| object.0)
            .map_err(json),
        Some(b'[') => serde_json::from_str::<Vec<Value>>(text)
            .map_err(json)?
            .into_iter()
            .zip(1..)
            .map(|(entry, number)| match entry {
                Value::String(command) => Ok((command, None)),
                other => Err(format!(
                    "entry {number} of its list is {other}, and must be a command in quotes"
                )),
            })
            .collect(),
        _ => text
            .lines()
            .zip(1..)
            .filter(|(line, _)| !line.trim().is_empty())
            .map(|(line, number)| match line.chars().find(|c| is_stray(*c)) {
                None => Ok((line.to_owned(), None)),
                Some(c) => Err(format!(
                    "line {number} has the character {}, which no command can have: the file must be UTF-8 \
                     with line ends of Unix or Windows",
                    c.escape_unicode()
                )),
            })
            .collect(),
    }
}

/// JSON object with all its entries, repeated ones included.
struct Object(Vec<Entry>);

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = Object;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object, A::Error> {
                let mut entries = Vec::new();
                while let Some((command, value)) = map.next_entry::<String, Value>()? {
                    let priority = value.as_f64().ok_or_else(|| {
                        let was = format!("the priority of '{command}' is {value}");
                        A::Error::custom(format!("{was}, and must be a number"))
                    })?;
                    entries.push((command, Some(priority)));
                }
                Ok(Object(entries))
            }
        }
        deserializer.deserialize_map(Entries)
    }
}

/// Gives each command a priority, and refuses repeated commands.
fn numbered(entries: Vec<Entry>) -> Result<Value, String> {
    let mut seen = HashSet::new();
    for (command, _) in &entries {
        if command.trim().is_empty() {
            return Err("a command is empty".to_owned());
        }
        if !seen.insert(command.as_str()) {
            return Err(format!("the command '{command}' is there twice"));
        }
    }
    if entries.is_empty() {
        return Err("there is no command".to_owned());
    }
    let floor = entries.iter().filter_map(|(_, priority)| *priority);
    let floor = floor.reduce(f64::max).unwrap_or(0.0);
    let mut left = entries
        .iter()
        .filter(|(_, priority)| priority.is_none())
        .count();
    let mut before = f64::INFINITY;
    let mut book = Map::with_capacity(entries.len());
    for (command, priority) in entries {
        let priority = match priority {
            Some(priority) => priority,
            None => {
                // A command line has far fewer than 2^32 commands: the count is exact.
                let next = floor + left as f64;
                left -= 1;
                // Above 2^53 consecutive whole numbers are not exact.
                if next >= before || next <= floor {
                    return Err(format!("{floor} is too high for others to run before it"));
                }
                before = next;
                next
            }
        };
        book.insert(command, Value::from(priority));
    }
    Ok(Value::Object(book))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_task_splits_at_its_priority() {
        for (task, command, priority) in [
            ("uptime", "uptime", None),
            ("uptime=2", "uptime", Some(2.0)),
            ("uptime=-2.5", "uptime", Some(-2.5)),
            ("uptime=1e3", "uptime", Some(1000.0)),
            ("A=1=2", "A=1", Some(2.0)),
            ("A=b", "A=b", None),
            ("A=1 b", "A=1 b", None),
            ("A=", "A=", None),
            ("A= 2", "A= 2", None),
            ("A=inf", "A=inf", None),
            ("A=nan", "A=nan", None),
            ("A=0x10", "A=0x10", None),
            ("A=1.2.3", "A=1.2.3", None),
            ("=2", "", Some(2.0)),
        ] {
            let found = split(task).unwrap();
            assert_eq!(found, (command.to_owned(), priority), "{task}");
        }
        assert_eq!(split("A=1e999").unwrap_err().status(), 2);
    }

    #[test]
    fn a_file_may_begin_with_a_byte_order_mark() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("tasks.json");
        std::fs::write(&file, "\u{feff}{\"uptime\": 2, \"df -h\": 1}\r\n").unwrap();
        assert_eq!(
            of_file(&file).unwrap(),
            json!({"uptime": 2.0, "df -h": 1.0})
        );
        for stray in ["u\0p\0\n\0", "uptime\rdf\r", "\u{feff}\u{feff}{}"] {
            std::fs::write(&file, stray).unwrap();
            let why = of_file(&file).unwrap_err().why().unwrap().to_owned();
            assert!(why.contains("line 1 has the character"), "{why}");
        }
        std::fs::write(&file, b"{\"caf\xe9\": 1}").unwrap();
        let why = of_file(&file).unwrap_err().why().unwrap().to_owned();
        assert!(
            why.contains("tasks.json") && why.contains("at byte 5"),
            "{why}"
        );
    }

    #[test]
    fn without_priorities_the_order_given_counts() {
        let flags = ["a", "b", "c"].map(str::to_owned);
        assert_eq!(
            of_flags(&flags).unwrap(),
            json!({"a": 3.0, "b": 2.0, "c": 1.0})
        );
        let flags = ["b=7", "a", "c=9.5", "d"].map(str::to_owned);
        assert_eq!(
            of_flags(&flags).unwrap(),
            json!({"a": 11.5, "b": 7.0, "c": 9.5, "d": 10.5})
        );
        let flags = ["a=-3", "b"].map(str::to_owned);
        assert_eq!(of_flags(&flags).unwrap(), json!({"a": -3.0, "b": -2.0}));
    }

    #[test]
    fn priorities_that_cannot_be_topped_are_refused() {
        for task in ["a=1e16", "a=1e308"] {
            let flags = [task, "b", "c"].map(str::to_owned);
            let why = of_flags(&flags).unwrap_err().why().unwrap().to_owned();
            assert!(why.contains("too high"), "{why}");
        }
    }

    #[test]
    fn a_file_is_an_object_a_list_or_lines() {
        let book = |text: &str| read(text).and_then(numbered);
        assert_eq!(
            book(r#" {"a":2,"b":0.5}"#).unwrap(),
            json!({"a":2.0,"b":0.5})
        );
        assert_eq!(book(r#"["a","b=1"]"#).unwrap(), json!({"a":2.0,"b=1":1.0}));
        assert_eq!(book("a\r\n\nb=1\n").unwrap(), json!({"a":2.0,"b=1":1.0}));
        for (text, why) in [
            ("", "no command"),
            ("[]", "no command"),
            ("{}", "no command"),
            ("{\"a\":1,\"a\":2}", "'a' is there twice"),
            ("a\nb\na\n", "'a' is there twice"),
            ("[\"\"]", "empty"),
            ("[\"a\",1]", "entry 2 of its list is 1, and must be"),
            ("{\"a\":1", "its } is missing, at line 1 column 6"),
            (
                "{\"a\":\"x\"}",
                "the priority of 'a' is \"x\", and must be a number",
            ),
            ("{\"a\":null}", "the priority of 'a' is null"),
            ("[ -f x ] && y", "begins as JSON"),
        ] {
            let said = book(text).unwrap_err();
            assert!(said.contains(why), "{text}: {said}");
        }
    }
}
