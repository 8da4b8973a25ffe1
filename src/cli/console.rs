//! `anthill console`: a prompt that sends commands to hosts and shows their answers.
//!
//! ```text
//!  prompt ──▶ line ──▶ hosts · host · tasks · task · output · help · exit
//!               └────▶ @TARGET command ──▶ many hosts? confirmed ──▶ POST /v1/commands
//!                                                 └──▶ GET /v1/commands/CID, for a while ──▶ answers
//! ```
//!
//! A line that is neither a built-in nor addressed to hosts is an error. After an error the next
//! line is read: only the end of input, `exit` or `quit` ends the console. The exit status of a
//! script tells whether every line succeeded.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::escape;
use serde::Deserialize;
use serde_json::json;
use signal_hook::consts::SIGINT;

use super::api::Api;
use super::args::ConsoleArgs;
use super::hosts::{Filter, chosen, print_table};
use super::order::Rank;
use super::pages::percent_encoded;
use super::prompt::{Prompt, WORDS};
use super::recipients::{self, Health};
use super::task::{self, Outcome};
use super::terminal::StatusLine;
use super::{
    Failure, confirm, did_you_mean, host, output, print, print_error, print_note, signal_mask,
    tasks, terminal,
};

/// Interval between two requests for the answers.
const PAUSE: Duration = Duration::from_millis(200);
/// Hosts above which a command has to be confirmed.
const UNCONFIRMED_MAX: usize = 10;

const HELP: &str = "\
@TARGET COMMAND          send a command, or the name of an instruction, to hosts: @web-1, @web-*,
                         @web-[1-9,12], several (@a @b or @a,b), without some (@all,!db-*)
@all COMMAND             send it to all hosts online
hosts [TARGET]           list hosts
host NAME                show one host
tasks                    list tasks
task KEY                 show one task
output KEY HOST [COMMAND]  print the whole output of a task on a host
help, ?                  show this help
exit, quit               leave, as at the end of input
Ctrl-C stops waiting for answers. A host that gets commands by datagram only confirms them: output
comes from hosts with a push connection.
";

/// Reads lines and executes them.
///
/// # Errors
/// Wrong usage, a script with a failed line, or a closed stdout.
pub fn run(args: &ConsoleArgs) -> Result<(), Failure> {
    let api = Api::new(&args.api)?;
    let mut prompt = Prompt::new(&api)?;
    let interrupted = Arc::new(AtomicBool::new(false));
    let interactive = prompt.is_interactive();
    if interactive {
        let flag = Arc::clone(&interrupted);
        signal_mask::held_while(&[SIGINT], || signal_hook::flag::register(SIGINT, flag))
            .and_then(|_| terminal::restore_at_signals())
            .map_err(|error| Failure::failed(format!("cannot catch signals: {error}")))?;
    }
    let console = Console {
        api: &api,
        interrupted,
        interactive,
        wait: args.wait,
        yes: args.yes,
    };
    let mut failed = false;
    while let Some(line) = prompt.next()? {
        let done = match Line::parse(&line) {
            Line::Leave => break,
            line => console.carry_out(line),
        };
        match done {
            Ok(()) => {}
            Err(failure) => match failure.why() {
                Some(why) => {
                    print_error(why);
                    failed = true;
                }
                // The reader is gone, or nothing can be written: the console ends.
                None => return Err(Failure::reader_gone()),
            },
        }
    }
    match failed && !interactive {
        true => Err(Failure::already_reported()),
        false => Ok(()),
    }
}

/// A parsed line.
#[derive(Debug, PartialEq)]
enum Line<'a> {
    Nothing,
    Leave,
    Help,
    Hosts {
        target: Option<String>,
    },
    Host(&'a str),
    Tasks,
    Task(&'a str),
    Output {
        key: &'a str,
        host: &'a str,
        command: Option<&'a str>,
    },
    Send {
        target: String,
        command: &'a str,
    },
    Wrong(String),
}

impl<'a> Line<'a> {
    fn parse(line: &'a str) -> Self {
        let line = line.trim();
        if line.starts_with('@') {
            return Self::addressed(line);
        }
        let (word, rest) = cut_word(line);
        let words: Vec<&str> = rest.split_whitespace().collect();
        match (word, words.as_slice()) {
            ("", _) => Self::Nothing,
            ("exit" | "exit()" | "quit" | "quit()" | "q", []) => Self::Leave,
            ("help" | "?", _) => Self::Help,
            ("hosts", []) => Self::Hosts { target: None },
            ("hosts", terms) => Self::Hosts {
                target: Some(terms.join(",")),
            },
            ("host", [name]) => Self::Host(name),
            ("host", _) => Self::wrong("host takes one name: it may be host NAME"),
            ("tasks", []) => Self::Tasks,
            ("tasks", _) => Self::wrong("tasks takes no argument; task KEY shows one task"),
            ("task", [key]) => Self::Task(key),
            ("task", _) => Self::wrong("task takes one key: it may be task KEY"),
            ("output", [key, host, ..]) => {
                let (_, command) = cut_word(cut_word(rest).1);
                Self::Output {
                    key,
                    host,
                    command: (!command.is_empty()).then_some(command),
                }
            }
            ("output", _) => Self::wrong("it may be output KEY HOST [COMMAND]"),
            _ => Self::unaddressed(line, word),
        }
    }

    /// Parses a line that begins with targets.
    fn addressed(line: &'a str) -> Self {
        let mut rest = line;
        let mut terms = Vec::new();
        while let Some(named) = rest.strip_prefix('@') {
            let (term, behind) = cut_word(named);
            if term.is_empty() {
                return Self::wrong("'@' names no host: it may be @HOST COMMAND");
            }
            terms.push(term);
            rest = behind;
        }
        if rest.is_empty() {
            return Self::wrong("there is no command: it may be @HOST COMMAND");
        }
        Self::Send {
            target: terms.join(","),
            command: rest,
        }
    }

    /// The error of a line without a target.
    fn unaddressed(line: &str, word: &str) -> Self {
        let hint = did_you_mean(word, WORDS);
        Self::Wrong(format!(
            "'{word}' is no word of the console{hint}; nothing is sent: to send it to all hosts type \
             '@all {line}', to some '@HOST {line}'"
        ))
    }

    fn wrong(why: &str) -> Self {
        Self::Wrong(why.to_owned())
    }
}

/// Splits off the first word.
fn cut_word(text: &str) -> (&str, &str) {
    let (word, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    (word, rest.trim_start())
}

/// The server's response to a command.
#[derive(Deserialize)]
struct Sent {
    id: String,
    hosts: BTreeMap<String, String>,
}

/// State of a command.
#[derive(Deserialize)]
struct Status {
    hosts: BTreeMap<String, HostStatus>,
}

#[derive(Deserialize)]
struct HostStatus {
    state: String,
    #[serde(default)]
    results: BTreeMap<String, Outcome>,
}

struct Console<'a> {
    api: &'a Api,
    interrupted: Arc<AtomicBool>,
    interactive: bool,
    wait: Duration,
    yes: bool,
}

/// Number of hosts at which a command failed.
#[derive(Default)]
struct Trouble {
    offline: usize,
    silent: usize,
    failed: usize,
}

impl Console<'_> {
    fn carry_out(&self, line: Line<'_>) -> Result<(), Failure> {
        match line {
            Line::Nothing | Line::Leave => Ok(()),
            Line::Help => print(HELP),
            Line::Hosts { target } => self.hosts(target.as_deref()),
            Line::Host(name) => host::show(self.api, name, false),
            Line::Tasks => tasks::print_all(self.api),
            Line::Task(key) => task::print_one(self.api, key),
            Line::Output { key, host, command } => output::print_one(self.api, key, host, command),
            Line::Send { target, command } => self.send(&target, command),
            Line::Wrong(why) => Err(Failure::failed(why)),
        }
    }

    fn hosts(&self, target: Option<&str>) -> Result<(), Failure> {
        let target = recipients::parse("TARGET", target)?;
        let fleet = chosen(self.api, Filter::All, target.as_ref())?;
        print_table(&fleet, Filter::All, terminal::width())
    }

    /// Resolves a target; `None` means all hosts online.
    fn recipients(&self, text: &str, command: &str) -> Result<Option<Vec<String>>, Failure> {
        if text == "all" {
            let online = Health::fetch(self.api)?.hosts_online;
            let many = online > UNCONFIRMED_MAX as u64;
            self.confirm(many, command, || format!("all {online} hosts online"))?;
            return Ok(None);
        }
        let Some(target) = recipients::parse("@TARGET", Some(text))? else {
            return Ok(None);
        };
        let hosts = match target.plain_ids() {
            Some(ids) => {
                recipients::check_known(self.api, &ids, "")?;
                ids.into_iter().map(str::to_owned).collect()
            }
            None => recipients::resolve(self.api, target.as_str())?,
        };
        self.confirm(hosts.len() > UNCONFIRMED_MAX, command, || {
            confirm::counted(hosts.iter().map(String::as_str))
        })?;
        Ok(Some(hosts))
    }

    fn confirm(
        &self,
        many: bool,
        command: &str,
        hosts: impl FnOnce() -> String,
    ) -> Result<(), Failure> {
        if !many || self.yes {
            return Ok(());
        }
        confirm::ask(&confirm::sending(command, &hosts()), false)
    }

    fn send(&self, target: &str, command: &str) -> Result<(), Failure> {
        let hosts = self.recipients(target, command)?;
        let request = json!({"command": command, "hosts": hosts});
        let sent: Sent = self.api.post("/v1/commands", &request)?;
        let offline = Vec::from_iter(ids(&sent.hosts, |state| state != "sent"));
        let online = Vec::from_iter(ids(&sent.hosts, |state| state == "sent"));
        if !online.is_empty() {
            print(&list(&format!("sent to {}", online.len()), &online))?;
        }
        if !offline.is_empty() {
            print(&list("offline", &offline))?;
        }
        let mut trouble = Trouble {
            offline: offline.len(),
            ..Trouble::default()
        };
        if !online.is_empty() {
            self.follow(&sent.id, online.into_iter().collect(), &mut trouble)?;
        }
        trouble.judge(command, sent.hosts.len())
    }

    /// Shows answers and results as they arrive, until all hosts have sent a result, the time
    /// limit, or Ctrl-C.
    fn follow(
        &self,
        id: &str,
        mut awaited: BTreeSet<&str>,
        trouble: &mut Trouble,
    ) -> Result<(), Failure> {
        self.interrupted.store(false, Ordering::Relaxed);
        let path = format!("/v1/commands/{}", percent_encoded(id));
        let begun = Instant::now();
        let all = awaited.len();
        let mut silent = awaited.clone();
        let mut progress = StatusLine::new(self.interactive);
        loop {
            let status: Status = self.api.get(&path)?;
            let mut hosts: Vec<_> = status.hosts.iter().collect();
            hosts.sort_by_cached_key(|(id, _)| Rank::of(id));
            for (host, status) in hosts {
                if !awaited.contains(host.as_str()) {
                    continue;
                }
                if let Some((command, outcome)) = status.results.first_key_value() {
                    awaited.remove(host.as_str());
                    silent.remove(host.as_str());
                    trouble.failed += usize::from(outcome.exit != 0);
                    progress.clear();
                    print(&format!("{}\n", outcome.lines(host, command).join("\n")))?;
                } else if status.state == "answered" && silent.remove(host.as_str()) {
                    progress.clear();
                    print(&format!("{}: has it\n", escape::escape(host)))?;
                }
            }
            let stopped = self.interrupted.load(Ordering::Relaxed);
            let left = self.wait.saturating_sub(begun.elapsed());
            if awaited.is_empty() || stopped || left.is_zero() {
                progress.clear();
                self.say_why(stopped, all, &silent, awaited.len())?;
                trouble.silent = silent.len();
                return Ok(());
            }
            progress.draw(&format!(
                "{} of {all} answered, waiting {} s more (Ctrl-C stops)",
                all - silent.len(),
                left.as_secs() + 1
            ));
            // Ctrl-C cuts the wait short.
            if !terminal::wait(PAUSE.min(left)) {
                return Err(Failure::reader_gone());
            }
        }
    }

    /// Prints the reason for the end of the wait, unless all answers have arrived.
    fn say_why(
        &self,
        stopped: bool,
        all: usize,
        silent: &BTreeSet<&str>,
        open: usize,
    ) -> Result<(), Failure> {
        if open == 0 {
            return Ok(());
        }
        let mut ids = Vec::from_iter(silent.iter().copied());
        ids.sort_by_cached_key(|id| Rank::of(id));
        if !ids.is_empty() {
            print(&list("no answer yet", &ids))?;
        }
        let when = match stopped {
            true => "stopped waiting".to_owned(),
            false => format!("stopped waiting after {} s", self.wait.as_secs_f64()),
        };
        let output = match open - ids.len() {
            0 => String::new(),
            count => format!(", {count} without output"),
        };
        print_note(&format!(
            "{when}: {} of {all} answered{output}",
            all - ids.len()
        ));
        Ok(())
    }
}

impl Trouble {
    /// Returns whether the command succeeded on all hosts.
    fn judge(&self, command: &str, all: usize) -> Result<(), Failure> {
        let counts = [
            (self.offline, "offline"),
            (self.silent, "without an answer"),
            (self.failed, "failed"),
        ];
        let words: Vec<String> = counts
            .iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, what)| format!("{count} {what}"))
            .collect();
        match words.as_slice() {
            [] => Ok(()),
            words => Err(Failure::failed(format!(
                "'{command}': of {all} hosts {}",
                words.join(", ")
            ))),
        }
    }
}

/// Sorted ids of the hosts whose state matches.
fn ids(hosts: &BTreeMap<String, String>, state: impl Fn(&str) -> bool) -> Vec<&str> {
    let chosen = hosts.iter().filter(|(_, word)| state(word));
    let mut chosen: Vec<&str> = chosen.map(|(id, _)| id.as_str()).collect();
    chosen.sort_by_cached_key(|id| Rank::of(id));
    chosen
}

fn list(what: &str, ids: &[&str]) -> String {
    format!("{what}: {}\n", escape::escape(&ids.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn console_lines_are_parsed() {
        let send = |target: &str, command| Line::Send {
            target: target.to_owned(),
            command,
        };
        let output = |command| Line::Output {
            key: "AC1",
            host: "web-1",
            command,
        };
        for (line, meaning) in [
            ("", Line::Nothing),
            (" \t", Line::Nothing),
            ("exit", Line::Leave),
            (" exit() ", Line::Leave),
            ("quit", Line::Leave),
            ("hosts", Line::Hosts { target: None }),
            (
                "hosts web-* !web-1",
                Line::Hosts {
                    target: Some("web-*,!web-1".to_owned()),
                },
            ),
            ("host web-1", Line::Host("web-1")),
            ("tasks", Line::Tasks),
            ("task AC1", Line::Task("AC1")),
            ("output AC1 web-1", output(None)),
            ("output  AC1 web-1 df  -h", output(Some("df  -h"))),
            ("help", Line::Help),
            ("?", Line::Help),
            ("@all reboot", send("all", "reboot")),
            ("@web-1 reboot", send("web-1", "reboot")),
            ("@a  @b\tdf  -h", send("a,b", "df  -h")),
            ("@a,b uptime", send("a,b", "uptime")),
            ("@a hosts", send("a", "hosts")),
            ("@a quit", send("a", "quit")),
        ] {
            assert_eq!(Line::parse(line), meaning, "{line:?}");
        }
        for line in [
            "@",
            "@ reboot",
            "@a",
            "@a @ b",
            "@a @b ",
            "reboot",
            "df -h",
            "quti",
            "exit now",
            "mail a@b",
            "task",
            "task AC1 AC2",
            "host",
            "output AC1",
        ] {
            assert!(matches!(Line::parse(line), Line::Wrong(_)), "{line:?}");
        }
        let Line::Wrong(why) = Line::parse("quti") else {
            panic!("it goes nowhere");
        };
        assert!(why.contains("'quit'") && why.contains("@all quti"), "{why}");
    }
}
