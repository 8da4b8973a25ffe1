//! `anthill dispatch`: sends a task. With `--wait` it follows the task until every host has
//! finished.
//!
//! ```text
//!  flags or file ──▶ book ──▶ POST /v1/tasks ──▶ host and state
//!                                  │ --wait
//!                                  └──▶ GET /v1/tasks/KEY, polled ──▶ progress ──▶ results
//! ```

use std::collections::BTreeMap;
use std::io;
use std::thread;
use std::time::{Duration, Instant};

use crate::escape;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use signal_hook::consts::SIGINT;
use signal_hook::iterator::Signals;

use super::api::{Api, ApiError};
use super::args::DispatchArgs;
use super::order::Rank;
use super::progress::Progress;
use super::recipients::{self, Health};
use super::task::{Tally, Task};
use super::{
    Failure, book, color, confirm, groups, print_error, print_json, print_lines, print_note,
    rollout, table, terminal,
};

/// First interval between two requests for a task. It grows by a tenth each time.
const PAUSE: Duration = Duration::from_millis(300);
/// Longest interval, if requests are fast.
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// Pause between two requests, as a multiple of the time that the last one took. A large task is
/// then no burden.
const PAUSE_LOOKS: u32 = 4;
/// Longest outage of the server during a wait.
const AWAY_MAX: Duration = Duration::from_secs(60);

/// Number of generated keys that are tried, if each was used before.
const KEYS_MADE_MAX: usize = 3;

/// States whose hosts get another try.
const RETRIED: [&str; 3] = ["failed", "lost", "unanswered"];

/// Sends the task.
///
/// # Errors
/// Wrong usage; a server that refuses the task; a task for no host; with `--wait` a host that is
/// not `done` at the end.
pub fn run(args: &DispatchArgs) -> Result<(), Failure> {
    if args.form.is_wanted() && args.wait.is_none() {
        return Err(Failure::usage(
            "-b, --diff and -L are of --wait: without it there is no output",
        ));
    }
    if args.dry_run && args.target.is_none() {
        return Err(Failure::usage("--dry-run shows the plan of a --target"));
    }
    if !args.states.is_empty() && args.retry.is_none() {
        return Err(Failure::usage("--states is of --retry"));
    }
    let api = Api::new(&args.api)?;
    let (commands, named) = match (&args.retry, &args.tasks) {
        (Some(key), _) => of_task(&api, key, &args.states)?,
        (None, Some(file)) => (book::of_file(file)?, args.host.clone()),
        (None, None) => (book::of_flags(&args.task)?, args.host.clone()),
    };
    let target = recipients::parse("--target", args.target.as_deref())?;
    let pass = (!args.queue && !args.allow_unknown)
        .then_some(" (--queue sends it when it comes, --allow-unknown sends it all the same)");
    let mut options = Map::new();
    let several = target.is_some() && rollout::has_other_nodes(&api);
    let hosts = match &target {
        Some(target) if several && !args.rollout.has_waves() && !args.dry_run => {
            let target = (Some(target), &*named);
            let is_confirmed = args.yes || args.rollout.expect.is_some();
            let what = book::in_words(&commands);
            args.rollout.add_to(&mut options)?;
            recipients::chosen(&api, target, &what, is_confirmed, pass)?
        }
        Some(target) => {
            let (plan, document) = rollout::fetch(&api, target.as_str(), &args.rollout)?;
            if args.dry_run {
                return rollout::show(&plan, &document, args.json);
            }
            if plan.hosts() == 0 {
                return Err(Failure::usage("the target leaves no host"));
            }
            let is_confirmed = args.yes || args.rollout.expect.is_some();
            if (target.names_all() || plan.is_large()) && !is_confirmed {
                let what = confirm::sending(&book::in_words(&commands), &plan.counted());
                confirm::ask(&what, false)?;
            }
            options.insert("target".to_owned(), json!(target.as_str()));
            // The set that was planned is the set that gets it.
            args.rollout.add_to(&mut options)?;
            options.insert("expect".to_owned(), json!(plan.hosts()));
            None
        }
        None => {
            args.rollout.add_to(&mut options)?;
            let hosts = (None, &*named);
            recipients::chosen(&api, hosts, &book::in_words(&commands), args.yes, pass)?
        }
    };
    if let Some(expected) = args.rollout.expect {
        options.insert("expect".to_owned(), json!(expected));
    }
    let order = Order {
        key: args.key.clone(),
        commands,
        hosts,
        queue: args.queue,
        options,
    };
    let is_rollout = !order.options.is_empty();
    if let (Some(expected), Some(hosts)) = (args.rollout.expect, &order.hosts)
        && hosts.len() as u64 != expected
    {
        let count = hosts.len();
        return Err(Failure::usage(format!(
            "{expected} hosts were expected, and there are {count}: nothing is sent"
        )));
    }
    let (key, answer) = order.send(&api).map_err(|error| match is_rollout {
        true => error.of_target(),
        false => error.into(),
    })?;
    match args.wait {
        None => show(&api, &key, answer, args),
        Some(limit) => {
            let deadline = limit.and_then(|limit| Instant::now().checked_add(limit));
            say_on_interrupt(&key)?;
            let task = follow(&api, &key, deadline)?;
            conclude(&api, &key, &task, args)
        }
    }
}

/// Commands of a task, and its hosts in `states`, for another try.
fn of_task(api: &Api, key: &str, states: &[String]) -> Result<(Value, Vec<String>), Failure> {
    let task = Task::fetch(api, key)?;
    let states = match states {
        [] => &RETRIED.map(str::to_owned),
        states => states,
    };
    let hosts = task.hosts_in(states)?;
    if hosts.is_empty() {
        let states = states.join(", ");
        let words = task.tally().in_words();
        return Err(Failure::failed(format!(
            "no host of {key} is {states} ({words}): nothing is sent"
        )));
    }
    Ok((task.book(), hosts))
}

/// A task to be sent.
pub struct Order {
    /// Key; `None`: a new key is generated.
    pub key: Option<String>,
    /// Command to priority.
    pub commands: Value,
    /// Hosts; `None`: all that are online.
    pub hosts: Option<Vec<String>>,
    /// Offline hosts receive it when they come online.
    pub queue: bool,
    /// Target and rollout.
    pub options: Map<String, Value>,
}

impl Order {
    /// Posts the task. Returns its key and the server's answer.
    ///
    /// # Errors
    /// A server that refuses the task.
    pub fn send(&self, api: &Api) -> Result<(String, Map<String, Value>), ApiError> {
        if let Some(key) = &self.key {
            return Ok((key.clone(), self.post(api, key)?));
        }
        let health = Health::fetch(api)?;
        let mut tries = 0;
        loop {
            let key = health.new_key();
            tries += 1;
            match self.post(api, &key) {
                Ok(answer) => return Ok((key, answer)),
                Err(error) if error.is_conflict() && tries < KEYS_MADE_MAX => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn post(&self, api: &Api, key: &str) -> Result<Map<String, Value>, ApiError> {
        let mut request = self.options.clone();
        request.insert("key".to_owned(), json!(key));
        request.insert("commands".to_owned(), self.commands.clone());
        if !request.contains_key("target") {
            request.insert("hosts".to_owned(), json!(self.hosts));
        }
        request.insert("queue".to_owned(), json!(self.queue));
        api.post("/v1/tasks", &Value::Object(request))
    }
}

/// From now on an interrupt ends the wait with a note that the task goes on.
fn say_on_interrupt(key: &str) -> Result<(), Failure> {
    let refused = |error: io::Error| Failure::failed(format!("cannot catch signals: {error}"));
    let mut signals = Signals::new([SIGINT]).map_err(refused)?;
    let note = format!(
        "{key} goes on without this command: anthill task {key} shows it, anthill cancel {key} ends it"
    );
    let wait = move || {
        if let Some(signal) = signals.forever().next() {
            eprintln!();
            print_note(&note);
            std::process::exit(128 + signal);
        }
    };
    let thread = thread::Builder::new().name("interrupt".to_owned());
    thread.spawn(wait).map_err(refused)?;
    Ok(())
}

/// Prints the state of each host in the new task.
fn show(
    api: &Api,
    key: &str,
    answer: Map<String, Value>,
    args: &DispatchArgs,
) -> Result<(), Failure> {
    let hosts = answer.get("hosts").unwrap_or(&Value::Null);
    let hosts =
        BTreeMap::<String, String>::deserialize(hosts).map_err(|error| api.misread(&error))?;
    let tally = Tally::of(hosts.values().map(String::as_str));
    if args.json {
        print_json(&Value::Object(answer).to_string())?;
    } else {
        let mut hosts: Vec<_> = hosts.iter().collect();
        hosts.sort_by_cached_key(|(id, _)| Rank::of(id));
        let rows = hosts
            .iter()
            .map(|(id, state)| [escape::escape(id), escape::escape(state)]);
        let lines = table::columns(&["HOST", "STATE"], rows, terminal::width());
        print_lines(&color::states(lines))?;
    }
    if tally.count("sent") + tally.count("queued") == 0 {
        let words = tally.in_words();
        return Err(Failure::failed(format!(
            "{key} was sent to no host: {words}"
        )));
    }
    match (args.json, &args.key) {
        (true, _) => {}
        (false, Some(_)) => print_note(&tally.in_words()),
        (false, None) => print_note(&format!("{key}: {}", tally.in_words())),
    }
    Ok(())
}

/// Polls the task until every host has finished, or until `deadline`.
///
/// # Errors
/// A server that is unavailable for too long, or gives no valid answer.
pub fn follow(api: &Api, key: &str, deadline: Option<Instant>) -> Result<Task, Failure> {
    let mut progress = Progress::new();
    let mut pause = PAUSE;
    let mut away: Option<Instant> = None;
    let mut last = None;
    loop {
        let begun = Instant::now();
        match Task::fetch(api, key) {
            Ok(task) => {
                if away.take().is_some() {
                    progress.clear();
                    print_error("the server answers again");
                }
                let tally = task.tally();
                let is_paused = task.rollout().is_some_and(|rollout| rollout.is_paused());
                if is_paused {
                    progress.clear();
                    return Ok(task);
                }
                if tally.ended() == tally.all() {
                    progress.clear();
                    return Ok(task);
                }
                progress.draw(&task);
                last = Some(task);
            }
            Err(error) if error.may_pass() => {
                let since = *away.get_or_insert_with(|| {
                    progress.clear();
                    print_error(&format!("{error}; trying again"));
                    begun
                });
                if since.elapsed() > AWAY_MAX {
                    return Err(error.into());
                }
            }
            Err(error) => {
                progress.clear();
                return Err(error.into());
            }
        }
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        if left.is_some_and(|left| left.is_zero()) {
            progress.clear();
            return last.ok_or_else(|| {
                Failure::failed(format!(
                    "{key}: time is up, and the state of the task is unknown"
                ))
            });
        }
        let wait = pause.max(begun.elapsed() * PAUSE_LOOKS);
        thread::sleep(left.map_or(wait, |left| wait.min(left)));
        pause = (pause * 11 / 10).min(PAUSE_MAX);
    }
}

/// Prints the final task and checks its states.
fn conclude(api: &Api, key: &str, task: &Task, args: &DispatchArgs) -> Result<(), Failure> {
    if args.json {
        print_json(&task.json())?;
    } else if args.form.is_wanted() {
        groups::show(api, key, task, &args.form)?;
    } else {
        print_lines(&color::states(task.table(terminal::width())))?;
    }
    check_ended(key, task)?;
    print_note(&format!("{key}: {}", task.tally().in_words()));
    Ok(())
}

/// Checks that every host is `done`.
///
/// # Errors
/// The counts, if a host is not; status 3 if its rollout is paused.
pub fn check_ended(key: &str, task: &Task) -> Result<(), Failure> {
    let tally = task.tally();
    let words = format!("{key}: {}", tally.in_words());
    if let Some(rollout) = task.rollout().filter(rollout::State::is_paused) {
        let next = rollout.next(key).unwrap_or_default();
        return Err(Failure::ended(
            3,
            format!("{words}; the rollout is {rollout} ({next})"),
        ));
    }
    if tally.ended() < tally.all() {
        return Err(Failure::failed(format!("{words} when time was up")));
    }
    if tally.count("done") < tally.all() {
        return Err(Failure::failed(words));
    }
    Ok(())
}
