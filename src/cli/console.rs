//! `anthill console`: a prompt whose lines go to hosts as commands, and what comes back.
//!
//! ```text
//!  prompt ──▶ line ──▶ hosts · tasks · help · exit
//!               └────▶ [@host …] command ──▶ POST /v1/commands ──▶ to whom
//!                                                 └──▶ GET /v1/commands/CID, for a while ──▶ who says what
//! ```
//!
//! What goes wrong with a line is said, and the next one is read: only the end of input, or the
//! wish to leave, ends it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anthill::text;
use serde::Deserialize;
use serde_json::json;
use signal_hook::consts::SIGINT;

use super::api::Api;
use super::args::ApiArgs;
use super::hosts::{Filter, Fleet, print_table};
use super::order::Rank;
use super::pages::percent_encoded;
use super::prompt::Prompt;
use super::task::Outcome;
use super::{Failure, complain, print, tasks, terminal};

/// For how long answers are waited for.
const WAIT: Duration = Duration::from_secs(5);
/// Between two looks at them.
const PAUSE: Duration = Duration::from_millis(200);

const HELP: &str = "\
COMMAND                    an instruction's name, or a command as it is: goes to all hosts online
@HOST [@HOST …] COMMAND    goes to these hosts only
hosts                      the hosts
tasks                      the tasks
help                       this
exit, exit()               leave; so does the end of input
Ctrl-C stops waiting for answers. A host that takes datagrams says that it has a command, and no
more: output comes from hosts that are pushed to.
";

/// Reads lines and does what they say.
///
/// # Errors
/// Wrong usage, or nobody who takes what is shown.
pub fn run(args: &ApiArgs) -> Result<(), Failure> {
    let api = Api::new(args)?;
    let mut prompt = Prompt::new(&api)?;
    let interrupted = Arc::new(AtomicBool::new(false));
    if prompt.is_interactive() {
        signal_hook::flag::register(SIGINT, Arc::clone(&interrupted))
            .map_err(|error| Failure::failed(format!("cannot catch signals: {error}")))?;
    }
    let console = Console {
        api: &api,
        interrupted,
    };
    while let Some(line) = prompt.next()? {
        let done = match Line::parse(&line) {
            Line::Nothing => Ok(()),
            Line::Leave => break,
            Line::Help => print(HELP),
            Line::Hosts => console.hosts(),
            Line::Tasks => tasks::print_all(&api),
            Line::Send { hosts, command } => console.send(&hosts, command),
            Line::Wrong(why) => Err(Failure::failed(why)),
        };
        match done {
            Ok(()) => {}
            // Nobody reads any more, or nothing can be written: there is no use in going on.
            Err(Failure { why: None, .. }) => return Err(Failure::reader_gone()),
            Err(Failure { why: Some(why), .. }) => complain(&why),
        }
    }
    Ok(())
}

/// What a line asks for.
#[derive(Debug, PartialEq)]
enum Line<'a> {
    Nothing,
    Leave,
    Help,
    Hosts,
    Tasks,
    Send {
        /// All that are online if there are none.
        hosts: Vec<&'a str>,
        command: &'a str,
    },
    Wrong(&'static str),
}

impl<'a> Line<'a> {
    fn parse(line: &'a str) -> Self {
        let mut rest = line.trim();
        match rest {
            "" => return Self::Nothing,
            "exit" | "exit()" => return Self::Leave,
            "help" => return Self::Help,
            "hosts" => return Self::Hosts,
            "tasks" => return Self::Tasks,
            _ => {}
        }
        let mut hosts = Vec::new();
        while let Some(named) = rest.strip_prefix('@') {
            let (host, behind) = named.split_once(char::is_whitespace).unwrap_or((named, ""));
            if host.is_empty() {
                return Self::Wrong("'@' is given no host: it may be @HOST COMMAND");
            }
            hosts.push(host);
            rest = behind.trim_start();
        }
        if rest.is_empty() {
            return Self::Wrong("there is no command: it may be @HOST COMMAND");
        }
        Self::Send {
            hosts,
            command: rest,
        }
    }
}

/// What the server says of a command just sent.
#[derive(Deserialize)]
struct Sent {
    id: String,
    hosts: BTreeMap<String, String>,
}

/// What has become of it.
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
}

impl Console<'_> {
    fn hosts(&self) -> Result<(), Failure> {
        let fleet = Fleet::fetch(self.api, Filter::All)?;
        let width = terminal::size().map(|size| size.columns);
        print_table(&fleet, Filter::All, width)
    }

    fn send(&self, hosts: &[&str], command: &str) -> Result<(), Failure> {
        let hosts = (!hosts.is_empty()).then_some(hosts);
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
        if online.is_empty() {
            return Ok(());
        }
        self.follow(&sent.id, online.into_iter().collect())
    }

    /// Shows answers and results as they come: until all have sent a result, time is up, or
    /// Ctrl-C is pressed.
    fn follow(&self, id: &str, mut awaited: BTreeSet<&str>) -> Result<(), Failure> {
        self.interrupted.store(false, Ordering::Relaxed);
        let path = format!("/v1/commands/{}", percent_encoded(id));
        let until = Instant::now() + WAIT;
        let mut silent = awaited.clone();
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
                    print(&format!("{}\n", outcome.lines(host, command).join("\n")))?;
                } else if status.state == "answered" && silent.remove(host.as_str()) {
                    print(&format!("{}: has it\n", text::escape(host)))?;
                }
            }
            let stopped = self.interrupted.load(Ordering::Relaxed);
            if awaited.is_empty() || stopped || Instant::now() >= until {
                break;
            }
            thread::sleep(PAUSE);
        }
        let mut silent = Vec::from_iter(silent);
        if silent.is_empty() {
            return Ok(());
        }
        silent.sort_by_cached_key(|id| Rank::of(id));
        print(&list("no answer yet", &silent))
    }
}

/// The hosts in such a state, in order.
fn ids(hosts: &BTreeMap<String, String>, state: impl Fn(&str) -> bool) -> Vec<&str> {
    let chosen = hosts.iter().filter(|(_, word)| state(word));
    let mut chosen: Vec<&str> = chosen.map(|(id, _)| id.as_str()).collect();
    chosen.sort_by_cached_key(|id| Rank::of(id));
    chosen
}

/// One line: what they are, and who.
fn list(what: &str, ids: &[&str]) -> String {
    format!("{what}: {}\n", text::escape(&ids.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_word_of_ours_or_a_command() {
        let send = |hosts: &[&'static str], command| Line::Send {
            hosts: hosts.to_vec(),
            command,
        };
        for (line, meaning) in [
            ("", Line::Nothing),
            (" \t", Line::Nothing),
            ("exit", Line::Leave),
            (" exit() ", Line::Leave),
            ("hosts", Line::Hosts),
            ("tasks", Line::Tasks),
            ("help", Line::Help),
            ("reboot", send(&[], "reboot")),
            ("  df  -h ", send(&[], "df  -h")),
            ("exit now", send(&[], "exit now")),
            ("mail a@b", send(&[], "mail a@b")),
            ("@web-1 reboot", send(&["web-1"], "reboot")),
            ("@a  @b\tdf -h", send(&["a", "b"], "df -h")),
            ("@a hosts", send(&["a"], "hosts")),
        ] {
            assert_eq!(Line::parse(line), meaning, "{line:?}");
        }
        for line in ["@", "@ reboot", "@a", "@a @ b", "@a @b "] {
            assert!(matches!(Line::parse(line), Line::Wrong(_)), "{line:?}");
        }
    }
}
