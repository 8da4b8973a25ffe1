//! `anthill task KEY`: one task, its hosts and their results.
//!
//! All pages are fetched before anything is shown. The document is kept unchanged, so that the JSON
//! has unknown members, too.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};
use std::fmt::Write as _;
use std::time::SystemTime;

use crate::agent::output::whole_size;
use crate::escape;
use crate::ids::HostId;
use crate::limits::{API_TASK_HOSTS, API_TASK_PAGES_MAX};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::api::{Api, ApiError};
use super::args::TaskArgs;
use super::order::Rank;
use super::pages::{self, percent_encoded};
use super::{
    Failure, color, did_you_mean, groups, output, print, print_json, print_note, rollout, table,
    terminal,
};

/// Limit of the lines shown of one output.
const OUTPUT_LINES_MAX: usize = 10;
/// Limit of the cut outputs of a task whose size is requested.
const SIZES_LEARNT_MAX: usize = 16;
/// Limit of the characters shown of a line.
const OUTPUT_LINE_CHARS_MAX: usize = 1000;

/// States in the order in which a host passes through them.
const STATES: [&str; 13] = [
    "held",
    "queued",
    "sent",
    "answered",
    "working",
    "done",
    "failed",
    "unanswered",
    "no-book",
    "lost",
    "expired",
    "cancelled",
    "offline",
];
/// States that are not terminal.
const AWAITED: [&str; 5] = ["held", "queued", "sent", "answered", "working"];

/// Shows the task.
///
/// # Errors
/// Wrong usage, an unknown task or host, or no valid answer of a server.
pub fn run(args: &TaskArgs) -> Result<(), Failure> {
    let api = Api::new(&args.api)?;
    let mut task = Task::fetch(&api, &args.key)?;
    if !args.host.is_empty() {
        task.check_hosts(&args.key, &args.host)?;
        task.retain(|id, _| args.host.iter().any(|named| names(named, id)));
    }
    if args.failed {
        task.retain(|_, host| host.has_failed());
    }
    if args.json {
        return print_json(&task.json());
    }
    if args.form.is_wanted() {
        if !args.form.lines && (args.failed || !args.host.is_empty()) {
            return Err(Failure::usage(
                "-b and --diff are of all hosts: leave out --failed and --host",
            ));
        }
        return groups::show(&api, &args.key, &task, &args.form);
    }
    task.learn_sizes(&api, &args.key);
    task.show(&args.key)
}

/// Prints the task of this key.
///
/// # Errors
/// An unknown task, or no valid answer of the server.
pub fn print_one(api: &Api, key: &str) -> Result<(), Failure> {
    let mut task = Task::fetch(api, key)?;
    task.learn_sizes(api, key);
    task.show(key)
}

/// Returns whether `named` is the host `id`, in any spelling of an address.
fn names(named: &str, id: &str) -> bool {
    named == id || HostId::named(named).is_ok_and(|host| host.as_str() == id)
}

/// A task as the server shows it.
pub struct Task {
    document: Map<String, Value>,
    created: Option<String>,
    commands: Vec<(String, f64)>,
    /// Its hosts, in order.
    pub hosts: Vec<(String, HostTask)>,
}

/// Progress of a host.
#[derive(Debug, Deserialize)]
pub struct HostTask {
    /// State in the task.
    pub state: String,
    /// The running command.
    #[serde(default)]
    pub working: Option<String>,
    /// Finished commands.
    #[serde(default)]
    pub complete: Vec<String>,
    #[serde(default)]
    results: BTreeMap<String, Outcome>,
}

impl HostTask {
    /// Returns whether it has ended without success.
    pub fn has_failed(&self) -> bool {
        self.state != "done" && !AWAITED.contains(&self.state.as_str())
    }

    /// The first command that failed, and how.
    fn failure(&self) -> Option<String> {
        let mut failed = self.results.iter().filter(|(_, outcome)| outcome.exit != 0);
        let (command, outcome) = failed.next()?;
        Some(format!(
            "{}: exit {}",
            escape::escape(command),
            outcome.exit
        ))
    }
}

/// Result of a command.
#[derive(Debug, Deserialize)]
pub struct Outcome {
    /// Its exit status.
    pub exit: i64,
    #[serde(default)]
    seconds: f64,
    #[serde(default)]
    size: u64,
    #[serde(default)]
    truncated: bool,
    #[serde(default)]
    output: String,
    /// Size of the whole output, if the host cut it and states the number of missing bytes.
    #[serde(skip)]
    whole: Option<u64>,
}

/// Members that all pages of a task share.
#[derive(Deserialize)]
struct Head {
    #[serde(default)]
    created: Option<String>,
    commands: Vec<(String, f64)>,
}

/// Number of hosts in each state.
#[derive(Debug, Default, PartialEq)]
pub struct Tally(BTreeMap<String, u64>);

impl Task {
    /// Requests all pages.
    ///
    /// # Errors
    /// The first page that cannot be fetched, or pages without an end.
    pub fn fetch(api: &Api, key: &str) -> Result<Self, ApiError> {
        let first = format!("/v1/tasks/{}?limit={API_TASK_HOSTS}", percent_encoded(key));
        let mut hosts = Map::new();
        let mut last = Map::new();
        let take = |mut document: Map<String, Value>| {
            match document.remove("hosts") {
                Some(Value::Object(more)) => hosts.extend(more),
                _ => return Err(api.foreign("a task without its hosts")),
            }
            let next = document.insert("next".to_owned(), Value::Null);
            last = document;
            let next = serde_json::from_value(next.unwrap_or_default());
            next.map_err(|error| api.misread(&error))
        };
        if !pages::fetch(api, &first, API_TASK_PAGES_MAX, take)? {
            return Err(pages::endless(api));
        }
        last.insert("hosts".to_owned(), Value::Object(hosts));
        Self::of(last).map_err(|error| api.misread(&error))
    }

    /// Parses the document of a task with all its hosts.
    ///
    /// # Errors
    /// An invalid document.
    pub fn of(document: Map<String, Value>) -> Result<Self, serde_json::Error> {
        let head = Head::deserialize(&Value::Object(
            document
                .iter()
                .filter(|(name, _)| *name != "hosts")
                .map(|(name, value)| (name.clone(), value.clone()))
                .collect(),
        ))?;
        let hosts = document.get("hosts").unwrap_or(&Value::Null);
        let hosts = BTreeMap::<String, HostTask>::deserialize(hosts)?;
        let mut hosts: Vec<_> = hosts.into_iter().collect();
        // Failed hosts come first.
        hosts.sort_by_cached_key(|(id, host)| (!host.has_failed(), Rank::of(id)));
        Ok(Self {
            document,
            created: head.created,
            commands: head.commands,
            hosts,
        })
    }

    /// Returns the whole list as one page, on one line.
    pub fn json(&self) -> String {
        serde_json::to_string(&self.document).unwrap_or_default()
    }

    /// State of its rollout, if it has one.
    pub fn rollout(&self) -> Option<rollout::State> {
        rollout::State::of(&self.document)
    }

    /// Counts the hosts by state.
    pub fn tally(&self) -> Tally {
        Tally::of(self.hosts.iter().map(|(_, host)| host.state.as_str()))
    }

    /// The commands, in their order.
    pub fn command_names(&self) -> impl Iterator<Item = &str> {
        self.commands.iter().map(|(command, _)| command.as_str())
    }

    /// The commands with their priorities, as the server takes them.
    pub fn book(&self) -> Value {
        let entries = self.commands.iter();
        let entries = entries.map(|(command, priority)| (command.clone(), Value::from(*priority)));
        Value::Object(entries.collect())
    }

    /// The hosts in one of these states, in order.
    ///
    /// # Errors
    /// Status 2 for a state that does not exist, or that a host may still leave.
    pub fn hosts_in(&self, states: &[String]) -> Result<Vec<String>, Failure> {
        let ended = || STATES.into_iter().filter(|state| !AWAITED.contains(state));
        if let Some(wrong) = states
            .iter()
            .find(|state| !ended().any(|one| one == *state))
        {
            let known = ended().collect::<Vec<_>>().join(", ");
            return Err(Failure::usage(format!(
                "--states names '{wrong}', which is none of {known}"
            )));
        }
        let hosts = self.hosts.iter();
        let hosts = hosts.filter(|(_, host)| states.contains(&host.state));
        Ok(hosts.map(|(id, _)| id.clone()).collect())
    }

    /// Number of commands.
    pub fn commands(&self) -> usize {
        self.commands.len()
    }

    /// Keeps the hosts for which `keep` returns true, also in the document.
    fn retain(&mut self, keep: impl Fn(&str, &HostTask) -> bool) {
        self.hosts.retain(|(id, host)| keep(id, host));
        if let Some(Value::Object(hosts)) = self.document.get_mut("hosts") {
            let kept: HashSet<&str> = self.hosts.iter().map(|(id, _)| id.as_str()).collect();
            hosts.retain(|id, _| kept.contains(id.as_str()));
        }
    }

    /// Checks that each of `named` is a host of the task.
    ///
    /// # Errors
    /// The first one that is missing, with the nearest name.
    fn check_hosts(&self, key: &str, named: &[String]) -> Result<(), Failure> {
        let is_here = |name: &&String| self.host(name).is_some();
        match named.iter().find(|name| !is_here(name)) {
            Some(name) => Err(self.no_host(key, name)),
            None => Ok(()),
        }
    }

    /// The error of a host that the task does not name.
    pub fn no_host(&self, key: &str, name: &str) -> Failure {
        let known = self.hosts.iter().map(|(id, _)| id.as_str());
        let hint = did_you_mean(name, known);
        Failure::failed(format!("the task {key} has no host '{name}'{hint}"))
    }

    /// The host of this name, with its id.
    pub fn host(&self, name: &str) -> Option<&(String, HostTask)> {
        self.hosts.iter().find(|(id, _)| names(name, id))
    }

    /// Table of its hosts, with a column for failed commands if there are any.
    pub fn table(&self, width: Option<u16>) -> Vec<String> {
        let failed = self.hosts.iter().any(|(_, host)| host.failure().is_some());
        let rows = self.hosts.iter().map(|(id, host)| {
            let cells = [
                escape::escape(id),
                escape::escape(&host.state),
                escape::escape(host.working.as_deref().unwrap_or("-")),
                Cow::Owned(format!("{}/{}", host.complete.len(), self.commands())),
            ];
            (cells, host)
        });
        if !failed {
            let rows = rows.map(|(cells, _)| cells);
            return table::columns(&["HOST", "STATE", "WORKING", "DONE"], rows, width);
        }
        let rows = rows.map(|([id, state, working, done], host)| {
            let failure = host.failure().unwrap_or_else(|| "-".to_owned());
            [id, state, working, done, Cow::Owned(failure)]
        });
        let header = ["HOST", "STATE", "WORKING", "DONE", "FAILED"];
        table::columns(&header, rows, width)
    }

    /// Fetches the first outputs that hosts have cut, to read their whole size. If that fails, the
    /// size of the kept part is shown.
    pub fn learn_sizes(&mut self, api: &Api, key: &str) {
        let mut learnt = 0;
        for (id, host) in &mut self.hosts {
            let results = host.results.iter_mut();
            for (command, outcome) in results.filter(|(_, outcome)| outcome.truncated) {
                if learnt == SIZES_LEARNT_MAX {
                    return;
                }
                learnt += 1;
                if let Ok(bytes) = output::fetch(api, key, id, command) {
                    outcome.whole = whole_size(&bytes);
                }
            }
        }
    }

    fn show(&self, key: &str) -> Result<(), Failure> {
        print(&self.text(key, terminal::width()))?;
        print_note(&self.tally().in_words());
        Ok(())
    }

    fn text(&self, key: &str, width: Option<u16>) -> String {
        let rows = self.commands.iter().map(|(command, priority)| {
            [
                Cow::Owned(priority_text(*priority)),
                escape::escape(command),
            ]
        });
        let mut lines = vec![format!(
            "CREATED  {}",
            table::age(&self.created, SystemTime::now())
        )];
        if let Some(target) = self.document.get("target").and_then(Value::as_str) {
            lines.push(format!("TARGET   {}", shown(target)));
        }
        if let Some(rollout) = self.rollout() {
            lines.push(format!("ROLLOUT  {}", escape::escape(&rollout.to_string())));
            if let Some(next) = rollout.next(key) {
                lines.push(format!("         {}", escape::escape(&next)));
            }
        }
        lines.push(String::new());
        lines.extend(table::columns(&["PRIORITY", "COMMAND"], rows, width));
        lines.push(String::new());
        lines.extend(color::states(self.table(width)));
        let mut cut = None;
        for (id, host) in &self.hosts {
            for (command, outcome) in self.in_order(&host.results) {
                lines.push(String::new());
                lines.extend(outcome.lines(id, command));
                if outcome.is_cut() {
                    cut.get_or_insert((id, command));
                }
            }
        }
        lines.push(String::new());
        if let Some((id, command)) = cut {
            let words = ["anthill", "output", key, id, command];
            let words = shlex::try_join(words).unwrap_or_else(|_| words.join(" "));
            lines.push(format!("All of an output: {}", escape::escape(&words)));
            lines.push(String::new());
        }
        lines.join("\n")
    }

    /// The results of a host, failed ones first, then in the order of the commands.
    pub fn results<'a>(&'a self, host: &'a HostTask) -> Vec<(&'a String, &'a Outcome)> {
        self.in_order(&host.results).collect()
    }

    /// Failed results first, then in the order of the commands; results without a command of the
    /// task come last.
    fn in_order<'a>(
        &'a self,
        results: &'a BTreeMap<String, Outcome>,
    ) -> impl Iterator<Item = (&'a String, &'a Outcome)> {
        let known = self
            .commands
            .iter()
            .filter_map(|(command, _)| results.get_key_value(command));
        let others = results
            .iter()
            .filter(|(command, _)| !self.commands.iter().any(|(known, _)| known == *command));
        let mut all: Vec<_> = known.chain(others).collect();
        all.sort_by_key(|(_, outcome)| outcome.exit == 0);
        all.into_iter()
    }
}

impl Outcome {
    /// Returns whether the output is longer than the part in the task, or than
    /// [`lines`](Self::lines) shows.
    fn is_cut(&self) -> bool {
        self.is_partial() || self.output.lines().count() > OUTPUT_LINES_MAX
    }

    /// Returns whether the server has more of the output than the part in the task.
    pub fn is_partial(&self) -> bool {
        // Invalid UTF-8 becomes longer here, so a cut may be missed, but never wrongly reported.
        self.size > self.output.len() as u64
    }

    /// The part of the output in the task.
    pub fn output(&self) -> &str {
        &self.output
    }

    /// Line with the result of the command.
    pub fn head(&self, host: &str, command: &str) -> String {
        let mut head = format!(
            "{}: {}: exit {}, {:.1} s",
            escape::escape(host),
            escape::escape(command),
            self.exit,
            self.seconds
        );
        // Writing into a string cannot fail.
        let _ = match (self.truncated, self.whole) {
            (false, _) => Ok(()),
            (true, None) => write!(head, ", output cut to {} bytes by the host", self.size),
            (true, Some(whole)) => {
                let size = self.size;
                write!(head, ", output of {whole} bytes cut to {size} by the host")
            }
        };
        color::outcome(head, self.exit != 0)
    }

    /// The head, and the first lines of the output, indented.
    pub fn lines(&self, host: &str, command: &str) -> Vec<String> {
        let mut lines = vec![self.head(host, command)];
        let output = self.output.lines().take(OUTPUT_LINES_MAX);
        lines.extend(output.map(|line| format!("    {}", shown(line))));
        if self.is_cut() {
            let all = self.whole.unwrap_or(self.size);
            lines.push(format!("    … ({all} bytes in all)"));
        }
        lines
    }
}

/// Escapes a line of output and cuts it. Tabs stay: many programs separate columns with them, and
/// they only move the cursor to the right.
fn shown(line: &str) -> String {
    let end = line
        .char_indices()
        .nth(OUTPUT_LINE_CHARS_MAX)
        .map(|(at, _)| at);
    let begin = end.map_or(line, |end| &line[..end]);
    let cells: Vec<_> = begin.split('\t').map(escape::escape).collect();
    let rest = if end.is_some() { "…" } else { "" };
    format!("{}{rest}", cells.join("\t"))
}

impl Tally {
    /// Of these states.
    pub fn of<'a>(states: impl Iterator<Item = &'a str>) -> Self {
        let mut tally = Self::default();
        for state in states {
            *tally.0.entry(state.to_owned()).or_default() += 1;
        }
        tally
    }

    /// Of these counts.
    pub fn counted(counts: BTreeMap<String, u64>) -> Self {
        Self(counts)
    }

    /// Number of hosts.
    pub fn all(&self) -> u64 {
        self.0.values().sum()
    }

    /// Number of hosts in this state.
    pub fn count(&self, state: &str) -> u64 {
        self.0.get(state).copied().unwrap_or(0)
    }

    /// Number of hosts in a terminal state.
    pub fn ended(&self) -> u64 {
        let awaited: u64 = AWAITED.iter().map(|state| self.count(state)).sum();
        self.all() - awaited
    }

    /// `2 done, 1 failed`, in the order hosts go through the states.
    pub fn in_words(&self) -> String {
        let known = STATES.iter().copied();
        let others = self.0.keys().map(String::as_str);
        let others = others.filter(|state| !STATES.contains(state));
        let words: Vec<String> = known
            .chain(others)
            .map(|state| (state, self.count(state)))
            .filter(|(_, count)| *count > 0)
            .map(|(state, count)| format!("{count} {state}"))
            .collect();
        match words.as_slice() {
            [] => "no hosts".to_owned(),
            words => words.join(", "),
        }
    }
}

/// A priority in few characters: as a plain number, or with an exponent beyond 15 digits.
fn priority_text(priority: f64) -> String {
    if priority.abs() < 1e15 {
        return priority.to_string();
    }
    format!("{priority:e}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_huge_priority_takes_few_characters() {
        for (priority, text) in [
            (2.0, "2"),
            (0.5, "0.5"),
            (-3.0, "-3"),
            (f64::MAX, "1.7976931348623157e308"),
        ] {
            assert_eq!(priority_text(priority), text);
        }
    }

    #[test]
    fn a_line_of_output_keeps_tabs_and_is_bounded() {
        assert_eq!(shown("4\t./a\x1b[2J\t"), "4\t./a\\u{1b}[2J\t");
        let most = "ä".repeat(OUTPUT_LINE_CHARS_MAX);
        assert_eq!(shown(&most), most);
        assert_eq!(shown(&format!("{most}b")), format!("{most}…"));
    }

    fn task(hosts: Value) -> Task {
        let Value::Object(document) = json!({
            "key": "AC1", "created": "2026-11-20T10:00:00Z",
            "commands": [["uptime", 2.0], ["df -h", 1.5]], "hosts": hosts, "next": null, "new": 1
        }) else {
            unreachable!("an object is written above")
        };
        Task::of(document).unwrap()
    }

    #[test]
    fn a_task_is_shown_escaped() {
        let text = task(json!({
            "web-10": {"state": "sent"},
            "web-20": {"state": "failed", "working": null, "complete": ["uptime", "df -h"], "results": {
                "df -h": {"exit": 1, "seconds": 0.04, "size": 9999, "truncated": true, "output": "a\u{1b}[2J\nb\u{202e}\n"},
                "uptime": {"exit": 0, "seconds": 12.0, "size": 3, "output": "up\n"}}}
        }))
        .text("AC1", None);
        let lines: Vec<&str> = text.lines().skip(2).collect();
        assert_eq!(
            lines,
            [
                "PRIORITY  COMMAND",
                "2         uptime",
                "1.5       df -h",
                "",
                "HOST    STATE   WORKING  DONE  FAILED",
                "web-20  failed  -        2/2   df -h: exit 1",
                "web-10  sent    -        0/2   -",
                "",
                "web-20: df -h: exit 1, 0.0 s, output cut to 9999 bytes by the host",
                r"    a\u{1b}[2J",
                r"    b\u{202e}",
                "    … (9999 bytes in all)",
                "",
                "web-20: uptime: exit 0, 12.0 s",
                "    up",
                "",
                "All of an output: anthill output AC1 web-20 'df -h'",
            ]
        );
    }

    #[test]
    fn a_paused_rollout_shows_its_reason_and_what_to_type() {
        let mut task = task(json!({"a": {"state": "failed"}, "b": {"state": "held"}}));
        let rollout = json!({"state": "paused", "wave": 1, "waves": 2, "why": "1 host failed"});
        task.document.insert("target".to_owned(), json!("web-*"));
        task.document.insert("rollout".to_owned(), rollout);
        let text = task.text("AC1", None);
        let lines: Vec<&str> = text.lines().skip(1).take(3).collect();
        assert_eq!(
            lines,
            [
                "TARGET   web-*",
                "ROLLOUT  paused, wave 1 of 2: 1 host failed",
                "         anthill resume AC1 goes on, anthill cancel AC1 ends it",
            ]
        );
    }

    #[test]
    fn long_outputs_are_cut() {
        let output: String = (0..50).map(|line| format!("{line}\n")).collect();
        let outcome = Outcome {
            exit: 0,
            seconds: 0.0,
            size: output.len() as u64,
            truncated: false,
            output,
            whole: None,
        };
        let lines = outcome.lines("a", "seq");
        assert_eq!(lines.len(), 1 + OUTPUT_LINES_MAX + 1);
        assert_eq!(lines[11], "    … (140 bytes in all)");
    }

    #[test]
    fn hosts_can_be_narrowed_to_those_that_failed() {
        let mut task = task(json!({
            "a": {"state": "done"}, "b": {"state": "lost"}, "c": {"state": "working"},
            "d": {"state": "offline"}, "10.0.0.7": {"state": "sent"}
        }));
        let order: Vec<&str> = task.hosts.iter().map(|(id, _)| id.as_str()).collect();
        assert_eq!(order, ["b", "d", "10.0.0.7", "a", "c"]);
        assert!(task.host("::ffff:10.0.0.7").is_some());
        let named = ["a".to_owned(), "bb".to_owned()];
        let why = task
            .check_hosts("AC1", &named)
            .unwrap_err()
            .why()
            .unwrap()
            .to_owned();
        assert!(why.contains("'bb'") && why.contains("AC1"), "{why}");
        task.retain(|_, host| host.has_failed());
        let value: Value = serde_json::from_str(&task.json()).unwrap();
        let left: Vec<&String> = value["hosts"].as_object().unwrap().keys().collect();
        assert_eq!(left, ["b", "d"]);
    }

    #[test]
    fn json_keeps_what_is_not_known_here() {
        let task = task(json!({"a": {"state": "odd", "x": "\u{9b}"}}));
        let json = crate::cli::json_line(&task.json());
        assert!(json.contains(r"\u009b") && json.ends_with("}\n"), "{json}");
        let value: Value = serde_json::from_str(&json).unwrap();
        assert_eq!(value["new"], 1);
        assert_eq!(value["hosts"]["a"]["x"], "\u{9b}");
        assert_eq!(task.tally().in_words(), "1 odd");
    }

    #[test]
    fn a_tally_counts_ended_hosts() {
        let tally = Tally::of(["done", "sent", "queued", "lost", "done"].into_iter());
        assert_eq!(tally.in_words(), "1 queued, 1 sent, 2 done, 1 lost");
        assert_eq!((tally.all(), tally.ended(), tally.count("done")), (5, 3, 2));
        assert_eq!(Tally::default().in_words(), "no hosts");
    }
}
