//! `anthill dispatch`: sends a task, and with `--wait` follows it until every host has ended.
//!
//! ```text
//!  flags or file ──▶ book ──▶ POST /v1/tasks ──▶ host and state
//!                                  │ --wait
//!                                  └──▶ GET /v1/tasks/KEY, again and again ──▶ progress ──▶ who did what
//! ```

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use anthill::text;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::api::{Api, ApiError};
use super::args::DispatchArgs;
use super::order::Rank;
use super::progress::Progress;
use super::task::{Tally, Task};
use super::{Failure, book, complain, print, remark, table, terminal};

/// Between two looks at a task, at first; it grows by a tenth each time.
const PAUSE: Duration = Duration::from_millis(300);
/// Between two looks at most, where a look itself is quick.
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// How many times as long as a look took the next one waits: a large task is no burden.
const PAUSE_LOOKS: u32 = 4;
/// How long a server may be away while a task of it is waited for.
const AWAY_MAX: Duration = Duration::from_secs(60);

/// Sends the task.
///
/// # Errors
/// Wrong usage; a server that does not take it; with `--wait` a host that did not end `done`.
pub fn run(args: &DispatchArgs) -> Result<(), Failure> {
    let commands = match &args.tasks {
        Some(file) => book::of_file(file)?,
        None => book::of_flags(&args.task)?,
    };
    let api = Api::new(&args.api)?;
    let request = json!({
        "key": args.key,
        "commands": commands,
        "hosts": (!args.host.is_empty()).then_some(&args.host),
        "queue": args.queue,
    });
    let answer: Map<String, Value> = api.post("/v1/tasks", &request)?;
    match args.wait {
        None => show(&api, answer, args.json),
        Some(limit) => {
            let deadline = limit.and_then(|limit| Instant::now().checked_add(limit));
            let task = follow(&api, &args.key, deadline)?;
            conclude(&args.key, &task, args.json)
        }
    }
}

/// Prints what each host is in the task just sent.
fn show(api: &Api, answer: Map<String, Value>, json: bool) -> Result<(), Failure> {
    if json {
        return print(&format!(
            "{}\n",
            text::escape_json(&Value::Object(answer).to_string())
        ));
    }
    let hosts = answer.get("hosts").unwrap_or(&Value::Null);
    let hosts =
        BTreeMap::<String, String>::deserialize(hosts).map_err(|error| api.foreign(error))?;
    let mut hosts: Vec<_> = hosts.iter().collect();
    hosts.sort_by_cached_key(|(id, _)| Rank::of(id));
    let rows = hosts
        .iter()
        .map(|(id, state)| [text::escape(id), text::escape(state)]);
    let width = terminal::size().map(|size| size.columns);
    let lines = table::columns(&["HOST", "STATE"], rows, width);
    print(&format!("{}\n", lines.join("\n")))?;
    remark(&Tally::of(hosts.iter().map(|(_, state)| state.as_str())).in_words());
    Ok(())
}

/// Looks at the task until every host has ended, or time is up.
fn follow(api: &Api, key: &str, deadline: Option<Instant>) -> Result<Task, Failure> {
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
                    complain("the server answers again");
                }
                let tally = task.tally();
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
                    complain(&format!("{error}; trying again"));
                    begun
                });
                give_up(since.elapsed() > AWAY_MAX, error)?;
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
                    "{key}: time is up, and the server has not told how it stands"
                ))
            });
        }
        let wait = pause.max(begun.elapsed() * PAUSE_LOOKS);
        thread::sleep(left.map_or(wait, |left| wait.min(left)));
        pause = (pause * 11 / 10).min(PAUSE_MAX);
    }
}

fn give_up(late: bool, error: ApiError) -> Result<(), ApiError> {
    if late { Err(error) } else { Ok(()) }
}

/// Prints how the task stands, and whether that is what was wanted.
fn conclude(key: &str, task: &Task, json: bool) -> Result<(), Failure> {
    if json {
        print(&task.json())?;
    } else {
        let width = terminal::size().map(|size| size.columns);
        print(&format!("{}\n", task.table(width).join("\n")))?;
    }
    let tally = task.tally();
    let words = format!("{key}: {}", tally.in_words());
    if tally.ended() < tally.all() {
        return Err(Failure::failed(format!("{words} when time was up")));
    }
    if tally.count("done") < tally.all() {
        return Err(Failure::failed(words));
    }
    remark(&words);
    Ok(())
}
