//! `anthill tasks`: the tasks of a running server, the newest first.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::SystemTime;

use crate::escape;
use crate::limits::PAGE_TASKS_MAX;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::api::{Api, ApiError};
use super::args::TasksArgs;
use super::task::Tally;
use super::{Failure, pages, print_json, print_lines, rollout, table, terminal};

/// Shows the tasks.
///
/// # Errors
/// Wrong usage, or no good answer from a server.
pub fn run(args: &TasksArgs) -> Result<(), Failure> {
    let api = Api::new(&args.api)?;
    let raw = fetch(&api)?;
    match args.json {
        true => print_json(&pages::json("tasks", &raw)),
        false => show(&api, &raw),
    }
}

/// Prints the table of all tasks.
///
/// # Errors
/// No good answer from the server, or a closed stdout.
pub fn print_all(api: &Api) -> Result<(), Failure> {
    show(api, &fetch(api)?)
}

#[derive(Deserialize)]
struct Summary {
    key: String,
    #[serde(default)]
    created: Option<String>,
    #[serde(default)]
    hosts: BTreeMap<String, u64>,
    #[serde(default)]
    rollout: Option<rollout::State>,
}

fn fetch(api: &Api) -> Result<Vec<Box<RawValue>>, ApiError> {
    pages::items(api, "tasks", &format!("/v1/tasks?limit={PAGE_TASKS_MAX}"))
}

fn show(api: &Api, raw: &[Box<RawValue>]) -> Result<(), Failure> {
    let tasks: Result<Vec<Summary>, _> = raw
        .iter()
        .map(|raw| serde_json::from_str(raw.get()))
        .collect();
    let tasks = tasks.map_err(|error| api.misread(&error))?;
    let now = SystemTime::now();
    let has_rollouts = tasks.iter().any(|task| task.rollout.is_some());
    let rows = tasks.iter().map(|task| {
        let tally = Tally::counted(task.hosts.clone()).in_words();
        let rollout = task.rollout.as_ref().map(rollout::State::to_string);
        let rollout = rollout.as_deref().unwrap_or("-");
        let mut cells = vec![
            escape::escape(&task.key),
            table::age(&task.created, now),
            Cow::Owned(escape::escape(&tally).into_owned()),
        ];
        if has_rollouts {
            cells.push(Cow::Owned(escape::escape(rollout).into_owned()));
        }
        cells
    });
    let header = &["KEY", "CREATED", "HOSTS", "ROLLOUT"][..if has_rollouts { 4 } else { 3 }];
    print_lines(&table::columns(header, rows, terminal::width()))
}
