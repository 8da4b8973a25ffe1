//! Parser for the body of a POST: a request for the core.
//!
//! It is stricter than JSON. An unknown or repeated member is refused, because it would have no
//! effect. A body is read while it arrives, so a long one is spread over several turns, and is
//! never in memory whole. Errors name the member, the expected value, and the line and column.

use std::collections::BTreeMap;

use super::members::{Kept, Known, Member, Members, missing, text_of, wrong};
use super::response::HttpResponse;
use crate::handlers::request::{NewTask, Request};
use crate::handlers::tasks_options::{Amount, OfflineRule, Pause, RolloutOptions};
use crate::ids::HostId;
use crate::limits::{LABEL_BODY_BYTES_MAX, LABEL_CHANGES_MAX};
use crate::time::Span;

/// Longest pause or wave, in seconds: 30 days.
const PAUSE_S_MAX: f64 = 2_592_000.0;

/// Members of a task, the last eight of them those of a target and a rollout.
const TASK: &[Known] = &[
    ("key", Kept::Json),
    ("commands", Kept::Commands),
    ("hosts", Kept::Names),
    ("queue", Kept::Json),
    ("target", Kept::Json),
    ("batch", Kept::Json),
    ("canary", Kept::Json),
    ("max_fail", Kept::Json),
    ("pause_s", Kept::Json),
    ("wave_timeout_s", Kept::Json),
    ("offline", Kept::Json),
    ("expect", Kept::Json),
];
/// Members of a plan: those of a task, of which three have no effect.
const PLAN: &[Known] = &[
    ("key", Kept::Nothing),
    ("commands", Kept::Nothing),
    ("hosts", Kept::Names),
    ("queue", Kept::Nothing),
    TASK[4],
    TASK[5],
    TASK[6],
    TASK[7],
    TASK[8],
    TASK[9],
    TASK[10],
    TASK[11],
];
/// Members of a console command.
const COMMAND: &[Known] = &[
    ("command", Kept::Json),
    ("hosts", Kept::Names),
    ("target", Kept::Json),
];

/// A body under way: [`take`](Self::take) its bytes in any pieces, then [`finish`](Self::finish).
#[derive(Debug)]
pub struct BodyReader(Form);

/// The request that a body makes.
#[derive(Debug)]
enum Form {
    /// A task, which the number identifies.
    Task(u64, Members),
    Plan(Members),
    /// A console command with this id.
    Command(String, Members),
    /// Changes of a host's labels. The body is short, and kept whole.
    Labels(HostId, Vec<u8>),
}

impl BodyReader {
    /// Begins to read a task, which the number `request` identifies.
    #[must_use]
    pub fn task(request: u64) -> Self {
        Self(Form::Task(request, Members::new(TASK)))
    }

    /// Begins to read a plan.
    #[must_use]
    pub fn plan() -> Self {
        Self(Form::Plan(Members::new(PLAN)))
    }

    /// Begins to read a console command with the id `cid`.
    #[must_use]
    pub fn command(cid: String) -> Self {
        Self(Form::Command(cid, Members::new(COMMAND)))
    }

    /// Begins to read changes of a host's labels: an object of texts, or null for a label to be
    /// removed.
    #[must_use]
    pub fn labels(host: HostId) -> Self {
        Self(Form::Labels(host, Vec::new()))
    }

    /// Takes the next bytes.
    pub fn take(&mut self, bytes: &[u8]) {
        match &mut self.0 {
            Form::Task(_, members) | Form::Plan(members) | Form::Command(_, members) => {
                members.take(bytes);
            }
            // One byte above the bound shows that the body is too long.
            Form::Labels(_, text) => {
                let room = LABEL_BODY_BYTES_MAX + 1 - text.len();
                text.extend_from_slice(&bytes[..bytes.len().min(room)]);
            }
        }
    }

    /// Makes the request of the whole body. The name of an instruction stands for its text.
    ///
    /// # Errors
    /// 400 with the first mistake. One against the syntax of JSON comes before all others.
    pub fn finish(self, instructions: &BTreeMap<String, String>) -> Result<Request, HttpResponse> {
        match self.0 {
            Form::Labels(host, text) => labels(&text, host),
            Form::Task(request, mut members) => {
                members.end()?;
                let commands = members.commands.take();
                let queue = members.value("queue").map(Member::flag).transpose()?;
                Ok(Request::Dispatch(NewTask {
                    key: members.required("key")?.string()?,
                    commands: commands.ok_or_else(|| missing("commands"))?.list,
                    hosts: members.names.take(),
                    queue: queue.unwrap_or_default(),
                    request,
                    rollout: Box::new(options(&members)?),
                }))
            }
            Form::Plan(mut members) => {
                members.end()?;
                Ok(Request::Plan {
                    hosts: members.names.take(),
                    options: Box::new(options(&members)?),
                })
            }
            Form::Command(cid, mut members) => {
                members.end()?;
                let command = members.required("command")?.string()?;
                Ok(Request::Command {
                    text: instructions.get(&command).cloned().unwrap_or(command),
                    hosts: members.names.take(),
                    target: members.value("target").map(Member::string).transpose()?,
                    cid,
                })
            }
        }
    }
}

/// Reads the members of a target and a rollout.
fn options(members: &Members) -> Result<RolloutOptions, HttpResponse> {
    let not_null = |name: &str| members.value(name).filter(|member| member.json != "null");
    let whole = |member: &Member| {
        let count = member.json.parse::<u64>();
        count.map_err(|_| member.wrong("a whole number"))
    };
    let amount = |member: &Member| {
        let text = member.text();
        Amount::parse(&text).ok_or_else(|| member.wrong("a number of hosts, or \"P%\""))
    };
    let span = |member: &Member| {
        let seconds = member.json.parse::<f64>().ok();
        let seconds = seconds.filter(|seconds| (0.0..=PAUSE_S_MAX).contains(seconds));
        let seconds = seconds.ok_or_else(|| member.wrong("a number of seconds, 0 to 2592000"))?;
        Ok::<_, HttpResponse>(Span::from_secs_f64(seconds))
    };
    let options = RolloutOptions {
        target: not_null("target").map(Member::string).transpose()?,
        batch: match not_null("batch")
            .map(|member| Ok((member, member.amounts()?)))
            .transpose()?
        {
            Some((member, steps)) if steps.iter().any(|step| step.is_none()) => {
                return Err(member.wrong("steps above 0"));
            }
            steps => steps.map(|(_, steps)| steps).unwrap_or_default(),
        },
        canary: match not_null("canary")
            .map(|member| Ok((member, whole(member)?)))
            .transpose()?
        {
            Some((member, 0)) => return Err(member.wrong("a whole number above 0")),
            canary => canary.map(|(_, count)| count),
        },
        max_fail: not_null("max_fail").map(amount).transpose()?,
        pause: not_null("pause_s")
            .map(|member| match member.json.as_str() {
                "\"ask\"" => Ok(Pause::Ask),
                _ => span(member).map(Pause::For),
            })
            .transpose()?,
        wave_timeout: match not_null("wave_timeout_s")
            .map(|member| Ok((member, span(member)?)))
            .transpose()?
        {
            Some((member, Span::ZERO)) => {
                return Err(member.wrong("a number of seconds above 0, to 2592000"));
            }
            timeout => timeout.map(|(_, time)| time),
        },
        offline: not_null("offline")
            .map(|member| match member.json.as_str() {
                "\"skip\"" => Ok(OfflineRule::Skip),
                "\"fail\"" => Ok(OfflineRule::Fail),
                "\"queue\"" => Ok(OfflineRule::Queue),
                _ => Err(member.wrong("\"skip\", \"fail\" or \"queue\"")),
            })
            .transpose()?,
        expect: not_null("expect").map(whole).transpose()?,
    };
    options
        .check_steps()
        .map_err(|why| wrong(&format!("\"batch\": {why}")))?;
    Ok(options)
}

/// Reads changes of a host's labels.
fn labels(body: &[u8], host: HostId) -> Result<Request, HttpResponse> {
    if body.len() > LABEL_BODY_BYTES_MAX {
        return Err(wrong(&format!(
            "more than {LABEL_BODY_BYTES_MAX} bytes of labels"
        )));
    }
    let body = text_of(body, 0)?;
    let changes: BTreeMap<String, Option<String>> =
        serde_json::from_str(body).map_err(|error| {
            let (line, column) = (error.line(), error.column());
            let what = "expected a JSON object of labels, each a string or null";
            wrong(&format!("{what}, at line {line} column {column}"))
        })?;
    if changes.is_empty() {
        return Err(wrong("there is no label to change"));
    }
    if changes.len() > LABEL_CHANGES_MAX {
        return Err(wrong(&format!(
            "more than {LABEL_CHANGES_MAX} labels to change"
        )));
    }
    let changes = changes.into_iter().collect();
    Ok(Request::Label { host, changes })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::BOOK_BYTES_MAX;
    use proptest::prelude::*;

    #[test]
    fn changes_of_labels_are_bounded() {
        let host = || HostId::checked("web-1").expect("a host id");
        let body = |count: usize| {
            let pairs: Vec<String> = (0..count).map(|n| format!("\"k{n}\":null")).collect();
            format!("{{{}}}", pairs.join(","))
        };
        let read = |body: &[u8]| {
            let reader = BodyReader::labels(host());
            in_pieces(reader, body, 1_000, &BTreeMap::new())
        };
        assert!(read(body(LABEL_CHANGES_MAX).as_bytes()).is_ok());
        assert!(read(body(LABEL_CHANGES_MAX + 1).as_bytes()).is_err());
        assert!(read(&[b' '; LABEL_BODY_BYTES_MAX + 1]).is_err());
    }

    fn why(response: &HttpResponse) -> String {
        assert_eq!(response.status, 400);
        let body: serde_json::Value = serde_json::from_slice(&response.body).unwrap();
        let text = body["error"].as_str().unwrap();
        text.strip_prefix("the body is wrong: ").unwrap().to_owned()
    }

    /// Reads `body` in pieces of `max` bytes.
    fn in_pieces(
        mut reader: BodyReader,
        body: &[u8],
        max: usize,
        instructions: &BTreeMap<String, String>,
    ) -> Result<Request, HttpResponse> {
        body.chunks(max).for_each(|piece| reader.take(piece));
        reader.finish(instructions)
    }

    fn read_task(body: &[u8], request: u64) -> Result<Request, HttpResponse> {
        in_pieces(BodyReader::task(request), body, 1 << 16, &BTreeMap::new())
    }

    fn read_command(
        body: &[u8],
        instructions: &BTreeMap<String, String>,
    ) -> Result<Request, HttpResponse> {
        in_pieces(
            BodyReader::command("c1".into()),
            body,
            1 << 16,
            instructions,
        )
    }

    #[test]
    fn a_task_keeps_the_order_of_its_members() {
        let text = r#" {"commands":{"z":2,"a":-1.5e2},"key":"AC1"}"#;
        let expected = NewTask {
            key: "AC1".into(),
            commands: vec![("z".into(), 2.0), ("a".into(), -150.0)],
            hosts: None,
            queue: false,
            request: 7,
            ..NewTask::default()
        };
        let read = read_task(text.as_bytes(), 7);
        assert_eq!(read, Ok(Request::Dispatch(expected.clone())));
        let text = r#"{"key":"AC1","commands":{"z":2,"a":-150},"hosts":["b","a"],"queue":true}"#;
        let expected = NewTask {
            hosts: Some(vec!["b".to_owned(), "a".to_owned()]),
            queue: true,
            ..expected
        };
        let read = read_task(text.as_bytes(), 7);
        assert_eq!(read, Ok(Request::Dispatch(expected)));
        let null = read_task(br#"{"key":"","commands":{},"hosts":null}"#, 1).unwrap();
        assert!(matches!(
            null,
            Request::Dispatch(NewTask { hosts: None, .. })
        ));
    }

    #[test]
    fn an_error_names_member_expectation_and_position() {
        let cases = [
            ("", "expected a JSON object"),
            ("null", "expected a JSON object"),
            (r#"["AC1",{"a":1}]"#, "expected a JSON object"),
            (r#""AC1""#, "expected a JSON object"),
            ("{", "the JSON is not complete, at line 1 column 1"),
            (r#"{"key":"AC1"}"#, "commands is missing"),
            (r#"{"commands":{"a":1}}"#, "key is missing"),
            (
                "{\n \"\u{e4}\":1, \"key\":2}",
                "unknown member \"\u{e4}\" (known: key, commands, hosts, queue, target, batch, canary, max_fail, pause_s, wave_timeout_s, offline, expect), at line 2 column 6",
            ),
            (
                "{\"commands\":{},\n\n \"key\": 1}",
                "key: expected a string, found 1, at line 3 column 9",
            ),
            (
                r#"{"key":"\ud800","commands":{}}"#,
                "key: expected a string, found a string with a broken escape, at line 1 column 8",
            ),
            (
                r#"{"key":"AC1","commands":["a"]}"#,
                "commands: expected an object of commands, each with its priority, \
                 found a list, at line 1 column 25",
            ),
            (
                r#"{"key":"AC1","commands":null}"#,
                "commands: expected an object of commands, each with its priority, \
                 found null, at line 1 column 25",
            ),
            (
                r#"{"key":"AC1","commands":{"a":1,"a":2}}"#,
                "commands[\"a\"] is given twice, at line 1 column 32",
            ),
            (
                r#"{"key":"AC1","commands":{"a":1,"\u0061":2}}"#,
                "commands[\"a\"] is given twice, at line 1 column 32",
            ),
            (
                r#"{"key":"AC1","commands":{"a" : "1"}}"#,
                "commands[\"a\"]: expected a finite number, found a string, at line 1 column 32",
            ),
            (
                r#"{"key":"AC1","commands":{"b":1,"a":true}}"#,
                "commands[\"a\"]: expected a finite number, found true, at line 1 column 36",
            ),
            (
                r#"{"key":"AC1","commands":{"a":null}}"#,
                "commands[\"a\"]: expected a finite number, found null, at line 1 column 30",
            ),
            (
                r#"{"key":"AC1","commands":{"a":1e999}}"#,
                "commands[\"a\"]: expected a finite number, found 1e999, at line 1 column 30",
            ),
            (
                r#"{"key":"AC1","commands":{"a":NaN}}"#,
                "not valid JSON, at line 1 column 30",
            ),
            (
                r#"{"key":"AC1","commands":{"a":Infinity}}"#,
                "not valid JSON, at line 1 column 30",
            ),
            (
                r#"{"key":"AC1","key":"AC2","commands":{"a":1}}"#,
                "key is given twice, at line 1 column 20",
            ),
            (
                r#"{"key":"AC1","commands":{"a":1},"hosts":"b"}"#,
                "hosts: expected a list of names or null, found a string, at line 1 column 41",
            ),
            (
                r#"{"key":"AC1","commands":{"a":1},"hosts":["a", 1]}"#,
                "hosts[1]: expected a string, found 1, at line 1 column 47",
            ),
            (
                r#"{"key":"AC1","commands":{"a":1},"queue":1}"#,
                "queue: expected true or false, found 1, at line 1 column 41",
            ),
            (
                r#"{"key":"AC1","commands":{"a":1},"queue":null}"#,
                "queue: expected true or false, found null, at line 1 column 41",
            ),
            (
                r#"{"key":"AC1","commands":{"a":1}} {}"#,
                "not valid JSON, at line 1 column 34",
            ),
        ];
        for (text, expected) in cases {
            let why = why(&read_task(text.as_bytes(), 1).unwrap_err());
            assert_eq!(why, expected, "{text}");
        }
        let deep = format!(r#"{{"key":{}"#, "[".repeat(100_000));
        let error = why(&read_task(deep.as_bytes(), 1).unwrap_err());
        assert_eq!(error, "the JSON is not complete, at line 1 column 100007");
        let error = why(&read_task(b"{\"key\":\"\xff\",\"commands\":{}}", 1).unwrap_err());
        assert_eq!(error, "byte 9 is not UTF-8");
    }

    #[test]
    fn a_command_may_be_the_name_of_an_instruction() {
        let instructions = BTreeMap::from([("up".to_owned(), "uptime -p".to_owned())]);
        let text = |body: &str| match read_command(body.as_bytes(), &instructions) {
            Ok(Request::Command {
                text, hosts, cid, ..
            }) => {
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
        for (body, expected) in [
            ("{}", "command is missing"),
            (
                r#"{"command":1}"#,
                "command: expected a string, found 1, at line 1 column 12",
            ),
            (
                r#"{"command":"a","cid":"b"}"#,
                "unknown member \"cid\" (known: command, hosts, target), at line 1 column 22",
            ),
            (r#"["a"]"#, "expected a JSON object"),
        ] {
            let error = read_command(body.as_bytes(), &instructions).unwrap_err();
            assert_eq!(why(&error), expected);
        }
    }

    #[test]
    fn any_cut_of_a_body_makes_the_same_request() {
        let names = r#"[ "a" ,"b","c\n\u0041]\"," , "", "[","e"]"#;
        for hosts in [names, "[]", " [ ] ", "null", r#"["a"]"#] {
            let text = format!(r#"{{"key":"AC1","hosts":{hosts},"commands":{{"x":1}}}}"#);
            let whole = read_task(text.as_bytes(), 7);
            assert!(whole.is_ok());
            for max in 1..8 {
                let task = BodyReader::task(7);
                let read = in_pieces(task, text.as_bytes(), max, &BTreeMap::new());
                assert_eq!(read, whole, "{text}");
            }
            let text = format!(r#"{{"command":"x","hosts":{hosts}}}"#);
            let none = BTreeMap::new();
            let whole = read_command(text.as_bytes(), &none);
            let command = BodyReader::command("c1".into());
            assert_eq!(in_pieces(command, text.as_bytes(), 2, &none), whole);
        }
        for (hosts, expected) in [
            (
                "7",
                "hosts: expected a list of names or null, found 7, at line 1 column 24",
            ),
            (
                r#"{"a":1}"#,
                "hosts: expected a list of names or null, found an object, at line 1 column 24",
            ),
            (
                "[\"a\",\"b\",\"c\",\n  7]",
                "hosts[3]: expected a string, found 7, at line 2 column 3",
            ),
            (
                r#"[["a"]]"#,
                "hosts[0]: expected a string, found a list, at line 1 column 25",
            ),
            (
                r#"["a",null]"#,
                "hosts[1]: expected a string, found null, at line 1 column 29",
            ),
            (
                r#"["a","b"#,
                "the JSON is not complete, at line 1 column 31",
            ),
            (r#"["a" "b"]"#, "not valid JSON, at line 1 column 29"),
        ] {
            let text = format!(r#"{{"command":"x","hosts":{hosts}}}"#);
            let command = BodyReader::command("c".into());
            let read = in_pieces(command, text.as_bytes(), 3, &BTreeMap::new());
            let why = why(&read.unwrap_err());
            assert_eq!(why, expected, "{text}");
        }
    }

    #[test]
    fn commands_beyond_a_book_are_not_read_to_their_end() {
        let long: Vec<String> = (0..BOOK_BYTES_MAX / 8).map(|n| format!("{n:09}")).collect();
        let commands: BTreeMap<&str, u32> = long.iter().map(|text| (text.as_str(), 1)).collect();
        let body = serde_json::json!({"key": "AC1", "commands": commands}).to_string();
        let why = why(&read_task(body.as_bytes(), 1).unwrap_err());
        assert_eq!(why, "commands: longer than 60000 bytes");
    }

    proptest! {
        #[test]
        fn nothing_panics(body in proptest::collection::vec(any::<u8>(), 0..64)) {
            let braced = [b"{", body.as_slice(), b"}"].concat();
            for body in [&body, &braced] {
                if let Err(response) = read_task(body, 1) {
                    prop_assert_eq!(response.status, 400);
                }
                if let Err(response) = read_command(body, &BTreeMap::new()) {
                    prop_assert_eq!(response.status, 400);
                }
            }
        }

        #[test]
        fn json_of_any_shape_never_panics(
            hosts in r#"[\[\]{}",:a0\\ue. \n-]{0,40}"#,
            commands in r#"[\[\]{}",:a0\\ue. \n-]{0,40}"#,
            max in 1usize..4,
        ) {
            let inside = (format!("[{hosts}]"), format!("{{{commands}}}"));
            for (hosts, commands) in [(hosts, commands), inside] {
                let body = format!(r#"{{"key":"AC1","hosts":{hosts},"commands":{commands}}}"#);
                let none = BTreeMap::new();
                let read = in_pieces(BodyReader::task(1), body.as_bytes(), max, &none);
                let valid = serde_json::from_str::<serde_json::Value>(&body);
                prop_assert!(valid.is_ok() || read.is_err(), "{body}");
            }
        }

        #[test]
        fn a_written_task_is_read_back(
            key in ".{0,8}",
            commands in proptest::collection::btree_map(".{0,8}", -1e300f64..1e300, 0..5),
            hosts in proptest::option::of(proptest::collection::vec(".{0,8}", 0..4)),
            queue in any::<bool>(),
            request in any::<u64>(),
        ) {
            let body = serde_json::json!(
                {"key": key, "commands": commands, "hosts": hosts, "queue": queue}
            );
            let task = read_task(body.to_string().as_bytes(), request);
            let Ok(Request::Dispatch(task)) = task else {
                return Err(TestCaseError::fail(format!("{task:?}")));
            };
            let read: BTreeMap<String, f64> = task.commands.iter().cloned().collect();
            prop_assert_eq!(task.commands.len(), commands.len());
            prop_assert_eq!(read, commands);
            prop_assert_eq!((task.key, task.hosts, task.queue), (key, hosts, queue));
            prop_assert_eq!(task.request, request);
        }
    }
}
