//! Parser for the body of a POST: a request for the core.
//!
//! It is stricter than JSON. An unknown or repeated member is refused, because its author expects
//! an effect that it would not have. The names of hosts are read some at a time, so a long list is
//! spread over several turns. Errors name the member, the expected value, and the line and column.

use std::collections::{BTreeMap, HashSet};
use std::fmt;

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::error::Category;
use serde_json::value::RawValue;

use super::response::{HttpResponse, Reply};
use crate::handlers::request::{NewTask, Request};
use crate::handlers::tasks_options::{Amount, OfflineRule, Pause, RolloutOptions};
use crate::ids::HostId;
use crate::limits::{BOOK_BYTES_MAX, LABEL_BODY_BYTES_MAX, LABEL_CHANGES_MAX, ROLLOUT_STEPS_MAX};
use crate::time::Span;

/// Members that are kept of a body. No request has more, so an unknown or a repeated one is among
/// the first of a longer body.
const MEMBERS_KEPT: usize = 16;
/// Characters of a name or a number that an error repeats.
const QUOTED_CHARS_MAX: usize = 64;
/// Longest pause or wave, in seconds: 30 days.
const PAUSE_S_MAX: f64 = 2_592_000.0;

/// A body whose names of hosts are still to be read.
#[derive(Debug)]
pub struct BodyReader {
    /// The request without its hosts.
    ask: Request,
    /// The names so far. None if the request names no hosts.
    names: Option<Vec<String>>,
    /// JSON of the list of names.
    list: Box<str>,
    /// Position of the list in the body.
    start: Position,
    /// Bytes of the list that have been read, its bracket included.
    read: usize,
}

/// Progress of a request.
#[derive(Debug)]
pub enum Progress {
    /// It is answered.
    Done(Reply),
    /// More names are to be read.
    Reading(BodyReader),
}

/// Begins to read a task, which the number `request` identifies.
///
/// # Errors
/// 400 with the first mistake.
pub fn task(body: &[u8], request: u64) -> Result<BodyReader, HttpResponse> {
    let names = ["key", "commands", "hosts", "queue"];
    let (found, options) = with_options(body, names)?;
    let [key, commands, hosts, queue] = found;
    let task = NewTask {
        key: required(key, "key")?.string()?,
        commands: required(commands, "commands")?.priorities()?,
        hosts: None,
        queue: queue.map_or(Ok(false), Member::flag)?,
        request,
        rollout: Box::new(options),
    };
    BodyReader::new(Request::Dispatch(task), hosts)
}

/// Begins to read a plan: the members of a task, of which key, commands and `queue` have no effect.
///
/// # Errors
/// 400 with the first mistake.
pub fn plan(body: &[u8]) -> Result<BodyReader, HttpResponse> {
    let names = ["key", "commands", "hosts", "queue"];
    let ([_, _, hosts, _], options) = with_options(body, names)?;
    let request = Request::Plan {
        hosts: None,
        options: Box::new(options),
    };
    BodyReader::new(request, hosts)
}

/// Members of a target and a rollout.
const OPTIONS: [&str; 8] = [
    "target",
    "batch",
    "canary",
    "max_fail",
    "pause_s",
    "wave_timeout_s",
    "offline",
    "expect",
];

/// Reads the members `names`, and those of a target and a rollout.
fn with_options<'a>(
    body: &'a [u8],
    names: [&'static str; 4],
) -> Result<([Option<Member<'a>>; 4], RolloutOptions), HttpResponse> {
    let mut all = [""; 12];
    all[..4].copy_from_slice(&names);
    all[4..].copy_from_slice(&OPTIONS);
    let found = members(body, all)?;
    let not_null = |place: usize| found[place].filter(|member| member.json != "null");
    let whole = |member: Member<'_>| {
        let count = member.json.parse::<u64>();
        count.map_err(|_| member.wrong("a whole number"))
    };
    let amount = |member: Member<'_>| {
        let text = member.text();
        Amount::parse(&text).ok_or_else(|| member.wrong("a number of hosts, or \"P%\""))
    };
    let span = |member: Member<'_>| {
        let seconds = member.json.parse::<f64>().ok();
        let seconds = seconds.filter(|seconds| (0.0..=PAUSE_S_MAX).contains(seconds));
        let seconds = seconds.ok_or_else(|| member.wrong("a number of seconds, 0 to 2592000"))?;
        Ok::<_, HttpResponse>(Span::from_secs_f64(seconds))
    };
    let options = RolloutOptions {
        target: not_null(4).map(Member::string).transpose()?,
        batch: match not_null(5)
            .map(|member| Ok((member, member.amounts()?)))
            .transpose()?
        {
            Some((member, steps)) if steps.iter().any(|step| step.is_none()) => {
                return Err(member.wrong("steps above 0"));
            }
            steps => steps.map(|(_, steps)| steps).unwrap_or_default(),
        },
        canary: match not_null(6)
            .map(|member| Ok((member, whole(member)?)))
            .transpose()?
        {
            Some((member, 0)) => return Err(member.wrong("a whole number above 0")),
            canary => canary.map(|(_, count)| count),
        },
        max_fail: not_null(7).map(amount).transpose()?,
        pause: not_null(8)
            .map(|member| match member.json {
                "\"ask\"" => Ok(Pause::Ask),
                _ => span(member).map(Pause::For),
            })
            .transpose()?,
        wave_timeout: match not_null(9)
            .map(|member| Ok((member, span(member)?)))
            .transpose()?
        {
            Some((member, Span::ZERO)) => {
                return Err(member.wrong("a number of seconds above 0, to 2592000"));
            }
            timeout => timeout.map(|(_, time)| time),
        },
        offline: not_null(10)
            .map(|member| match member.json {
                "\"skip\"" => Ok(OfflineRule::Skip),
                "\"fail\"" => Ok(OfflineRule::Fail),
                "\"queue\"" => Ok(OfflineRule::Queue),
                _ => Err(member.wrong("\"skip\", \"fail\" or \"queue\"")),
            })
            .transpose()?,
        expect: not_null(11).map(whole).transpose()?,
    };
    let mut own = [None; 4];
    own.copy_from_slice(&found[..4]);
    Ok((own, options))
}

/// Begins to read a console command with the id `cid`. The name of an instruction stands for its
/// text.
///
/// # Errors
/// 400 with the first mistake.
pub fn command(
    body: &[u8],
    instructions: &BTreeMap<String, String>,
    cid: String,
) -> Result<BodyReader, HttpResponse> {
    let [command, hosts, target] = members(body, ["command", "hosts", "target"])?;
    let command = required(command, "command")?.string()?;
    let text = instructions.get(&command).cloned().unwrap_or(command);
    let ask = Request::Command {
        text,
        hosts: None,
        target: target.map(Member::string).transpose()?,
        cid,
    };
    BodyReader::new(ask, hosts)
}

/// Reads changes of a host's labels: an object of texts, or null for a label to be removed.
///
/// # Errors
/// 400 with the first mistake.
pub fn labels(body: &[u8], host: HostId) -> Result<BodyReader, HttpResponse> {
    if body.len() > LABEL_BODY_BYTES_MAX {
        return Err(wrong(&format!(
            "more than {LABEL_BODY_BYTES_MAX} bytes of labels"
        )));
    }
    let body = text_of(body)?;
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
    BodyReader::new(Request::Label { host, changes }, None)
}

/// The body as text.
fn text_of(body: &[u8]) -> Result<&str, HttpResponse> {
    std::str::from_utf8(body)
        .map_err(|error| wrong(&format!("byte {} is not UTF-8", error.valid_up_to() + 1)))
}

impl BodyReader {
    fn new(ask: Request, hosts: Option<Member<'_>>) -> Result<Self, HttpResponse> {
        let list = hosts.filter(|hosts| hosts.json != "null");
        if let Some(list) = list.filter(|list| !list.json.starts_with('[')) {
            return Err(list.wrong("a list of names or null"));
        }
        Ok(Self {
            ask,
            names: list.map(|_| Vec::new()),
            list: list.map_or_else(Box::default, |list| list.json.into()),
            start: list.map_or(Position::START, |list| list.position()),
            read: 1,
        })
    }

    /// Reads at most `max` more names.
    #[must_use]
    pub fn step(self, max: usize) -> Progress {
        self.read(max)
            .unwrap_or_else(|refusal| Progress::Done(Reply::Now(refusal)))
    }

    fn read(mut self, max: usize) -> Result<Progress, HttpResponse> {
        let mut elements = Elements(self.list.get(self.read..).unwrap_or_default());
        for json in elements.by_ref().take(max) {
            let names = self.names.get_or_insert_default();
            let name = string(json).map_err(|found| {
                let path = format!("hosts[{}]", names.len());
                let before = &self.list[..offset(&self.list, json)];
                mismatch(&path, "a string", &found, self.start.after(before))
            })?;
            names.push(name);
        }
        if elements.clone().next().is_some() {
            self.read = offset(&self.list, elements.0);
            return Ok(Progress::Reading(self));
        }
        if let Request::Dispatch(NewTask { hosts, .. })
        | Request::Plan { hosts, .. }
        | Request::Command { hosts, .. } = &mut self.ask
        {
            *hosts = self.names;
        }
        Ok(Progress::Done(Reply::Ask(self.ask)))
    }
}

/// The value of a member.
#[derive(Clone, Copy)]
struct Member<'a> {
    name: &'static str,
    /// The value, a part of the body.
    json: &'a str,
    body: &'a str,
}

impl Member<'_> {
    fn string(self) -> Result<String, HttpResponse> {
        string(self.json).map_err(|found| mismatch(self.name, "a string", &found, self.position()))
    }

    /// The string, or else the JSON itself.
    fn text(self) -> String {
        string(self.json).unwrap_or_else(|_| self.json.to_owned())
    }

    /// Steps of a rollout: `10`, `"10%"`, `"1,10%,100%"` or a list of these.
    fn amounts(self) -> Result<Vec<Amount>, HttpResponse> {
        let texts: Vec<String> = match self.json.starts_with('[') {
            true => {
                let elements = Elements(&self.json[1..]);
                elements
                    .map(|json| string(json).unwrap_or_else(|_| json.to_owned()))
                    .collect()
            }
            false => vec![self.text()],
        };
        let all = texts.iter().flat_map(|text| text.split(','));
        let amounts: Option<Vec<Amount>> = all.map(Amount::parse).collect();
        let amounts = amounts.filter(|all| (1..=ROLLOUT_STEPS_MAX).contains(&all.len()));
        amounts.ok_or_else(|| self.wrong("numbers of hosts or shares, such as \"1,10%,100%\""))
    }

    fn flag(self) -> Result<bool, HttpResponse> {
        self.json.parse().map_err(|_| self.wrong("true or false"))
    }

    /// Commands and their priorities, in the order of the body.
    fn priorities(self) -> Result<Vec<(String, f64)>, HttpResponse> {
        if !self.json.starts_with('{') {
            return Err(self.wrong("an object of commands, each with its priority"));
        }
        let mut commands = Vec::new();
        let mut seen = HashSet::new();
        let mut bytes = 0;
        let mut elements = Elements(&self.json[1..]);
        while let (Some(name), Some(value)) = (elements.next(), elements.next()) {
            let at = |json| Position::START.after(&self.body[..offset(self.body, json)]);
            let command = string(name)
                .map_err(|found| mismatch("a name in commands", "a string", &found, at(name)))?;
            let path = || format!("commands[{}]", quoted(&command));
            let priority = value
                .parse()
                .ok()
                .filter(|priority: &f64| priority.is_finite());
            let Some(priority) = priority else {
                return Err(mismatch(
                    &path(),
                    "a finite number",
                    &found(value),
                    at(value),
                ));
            };
            bytes += command.len();
            if bytes > BOOK_BYTES_MAX {
                return Err(wrong(&format!(
                    "commands: longer than {BOOK_BYTES_MAX} bytes"
                )));
            }
            if !seen.insert(command.clone()) {
                return Err(wrong(&format!(
                    "{} is given twice, at {}",
                    path(),
                    at(name)
                )));
            }
            commands.push((command, priority));
        }
        Ok(commands)
    }

    fn position(self) -> Position {
        Position::START.after(&self.body[..offset(self.body, self.json)])
    }

    fn wrong(self, expected: &str) -> HttpResponse {
        mismatch(self.name, expected, &found(self.json), self.position())
    }
}

/// The values of the members `names` of the object `body`.
fn members<'a, const N: usize>(
    body: &'a [u8],
    names: [&'static str; N],
) -> Result<[Option<Member<'a>>; N], HttpResponse> {
    let body = text_of(body)?;
    if !body.trim_ascii_start().starts_with('{') {
        return Err(wrong("expected a JSON object"));
    }
    let Members(found) = serde_json::from_str(body).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        let what = match error.classify() {
            Category::Eof => "the JSON is not complete",
            _ => "not valid JSON",
        };
        wrong(&format!("{what}, at line {line} column {column}"))
    })?;
    let mut values = [None; N];
    for (name, value) in found {
        let json = value.get();
        let place = names.iter().position(|known| *known == name);
        let member = Member {
            name: place.map_or("", |place| names[place]),
            json,
            body,
        };
        let problem = match place.map(|place| values[place].replace(member)) {
            Some(None) => continue,
            Some(Some(_)) => format!("{name} is given twice"),
            None => format!(
                "unknown member {} (known: {})",
                quoted(&name),
                names.join(", ")
            ),
        };
        return Err(wrong(&format!("{problem}, at {}", member.position())));
    }
    Ok(values)
}

fn required<'a>(member: Option<Member<'a>>, name: &str) -> Result<Member<'a>, HttpResponse> {
    member.ok_or_else(|| wrong(&format!("{name} is missing")))
}

/// The first members of an object, in order.
struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(MembersVisitor)
    }
}

struct MembersVisitor;

impl<'de> Visitor<'de> for MembersVisitor {
    type Value = Members<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = Vec::new();
        while let Some(member) = map.next_entry()? {
            if members.len() < MEMBERS_KEPT {
                members.push(member);
            }
        }
        Ok(Members(members))
    }
}

/// The elements of a list, or names and values of an object in turn, behind the bracket. The JSON
/// is known to be valid.
#[derive(Clone)]
struct Elements<'a>(&'a str);

impl<'a> Iterator for Elements<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        let opening = |c: char| matches!(c, ',' | ':') || c.is_ascii_whitespace();
        let rest = self.0.trim_start_matches(opening);
        let mut values = serde_json::Deserializer::from_str(rest).into_iter::<&RawValue>();
        let value = values.next()?.ok()?;
        self.0 = &rest[values.byte_offset()..];
        Some(value.get())
    }
}

/// Line and column, from 1, the column in characters.
#[derive(Clone, Copy, Debug)]
struct Position {
    line: usize,
    column: usize,
}

impl Position {
    const START: Self = Self { line: 1, column: 1 };

    /// The position behind `text` that begins here.
    fn after(self, text: &str) -> Self {
        let last = text.rsplit('\n').next().unwrap_or_default();
        let lines = text.matches('\n').count();
        let column = if lines == 0 { self.column } else { 1 };
        Self {
            line: self.line + lines,
            column: column + last.chars().count(),
        }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {} column {}", self.line, self.column)
    }
}

/// Bytes of `text` before its slice `part`.
fn offset(text: &str, part: &str) -> usize {
    part.as_ptr().addr() - text.as_ptr().addr()
}

/// The string `json`, else what it is instead.
fn string(json: &str) -> Result<String, String> {
    serde_json::from_str(json).map_err(|_| {
        let broken = json.starts_with('"').then_some(" with a broken escape");
        found(json) + broken.unwrap_or_default()
    })
}

/// How an error shows the value `json`.
fn found(json: &str) -> String {
    match json.as_bytes().first() {
        Some(b'"') => "a string".to_owned(),
        Some(b'[') => "a list".to_owned(),
        Some(b'{') => "an object".to_owned(),
        _ => json.chars().take(QUOTED_CHARS_MAX).collect(),
    }
}

fn quoted(name: &str) -> String {
    let shown: String = name.chars().take(QUOTED_CHARS_MAX).collect();
    format!("{shown:?}")
}

fn mismatch(path: &str, expected: &str, found: &str, at: Position) -> HttpResponse {
    wrong(&format!(
        "{path}: expected {expected}, found {found}, at {at}"
    ))
}

fn wrong(text: &str) -> HttpResponse {
    HttpResponse::error(400, &format!("the body is wrong: {text}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn changes_of_labels_are_bounded() {
        let host = || HostId::checked("web-1").expect("a host id");
        let body = |count: usize| {
            let pairs: Vec<String> = (0..count).map(|n| format!("\"k{n}\":null")).collect();
            format!("{{{}}}", pairs.join(","))
        };
        assert!(labels(body(LABEL_CHANGES_MAX).as_bytes(), host()).is_ok());
        assert!(labels(body(LABEL_CHANGES_MAX + 1).as_bytes(), host()).is_err());
        assert!(labels(&[b' '; LABEL_BODY_BYTES_MAX + 1], host()).is_err());
    }

    fn why(response: &HttpResponse) -> String {
        assert_eq!(response.status, 400);
        let body: serde_json::Value = serde_json::from_slice(&response.body).unwrap();
        let text = body["error"].as_str().unwrap();
        text.strip_prefix("the body is wrong: ").unwrap().to_owned()
    }

    /// Reads in steps of `max` names. Returns the number of steps, too.
    fn in_steps(
        reader: Result<BodyReader, HttpResponse>,
        max: usize,
    ) -> (Result<Request, HttpResponse>, usize) {
        let mut reader = match reader {
            Ok(reader) => reader,
            Err(response) => return (Err(response), 0),
        };
        for steps in 1.. {
            match reader.step(max) {
                Progress::Reading(rest) => reader = rest,
                Progress::Done(Reply::Ask(ask)) => return (Ok(ask), steps),
                Progress::Done(Reply::Now(response)) => return (Err(response), steps),
                Progress::Done(Reply::Follow) => panic!("a body asks for no events"),
            }
        }
        unreachable!()
    }

    fn read_task(body: &[u8], request: u64) -> Result<Request, HttpResponse> {
        in_steps(task(body, request), usize::MAX).0
    }

    fn read_command(
        body: &[u8],
        instructions: &BTreeMap<String, String>,
    ) -> Result<Request, HttpResponse> {
        in_steps(command(body, instructions, "c1".into()), usize::MAX).0
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
    fn many_names_are_read_in_steps_to_the_same_request() {
        let names = r#"[ "a" ,"b","c\n\u0041]\"," , "", "[","e"]"#;
        for hosts in [names, "[]", " [ ] ", "null", r#"["a"]"#] {
            let text = format!(r#"{{"key":"AC1","hosts":{hosts},"commands":{{"x":1}}}}"#);
            let whole = read_task(text.as_bytes(), 7);
            assert!(whole.is_ok());
            for max in 1..8 {
                let (read, steps) = in_steps(task(text.as_bytes(), 7), max);
                assert_eq!(read, whole, "{text}");
                assert!(hosts != names || steps >= 6 / max, "{steps} steps of {max}");
            }
            let text = format!(r#"{{"command":"x","hosts":{hosts}}}"#);
            let none = BTreeMap::new();
            let begun = command(text.as_bytes(), &none, "c1".into());
            let whole = read_command(text.as_bytes(), &none);
            assert_eq!(in_steps(begun, 2).0, whole);
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
            let begun = command(text.as_bytes(), &BTreeMap::new(), "c".into());
            let why = why(&in_steps(begun, 3).0.unwrap_err());
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
                let (read, _) = in_steps(task(body.as_bytes(), 1), max);
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
