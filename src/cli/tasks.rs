//! `anthill tasks`: the tasks a running server knows, the newest first as it gives them.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::SystemTime;

use crate::escape;
use crate::limits::{API_PAGES_MAX, PAGE_TASKS_MAX};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::api::{Api, ApiError};
use super::args::TasksArgs;
use super::pages::Cursor;
use super::task::Tally;
use super::{Failure, print, table, terminal};

/// Shows the tasks.
///
/// # Errors
/// Wrong usage, or no good answer from a server.
pub fn run(args: &TasksArgs) -> Result<(), Failure> {
    let api = Api::new(&args.api)?;
    let raw = fetch(&api)?;
    if args.json {
        let tasks: Vec<&str> = raw.iter().map(|raw| raw.get()).collect();
        let tasks = tasks.join(",");
        let tasks = escape::escape_json(&tasks);
        return print(&format!("{{\"tasks\":[{tasks}],\"next\":null}}\n"));
    }
    show(&api, &raw)
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
}

#[derive(Deserialize)]
struct Page {
    tasks: Vec<Box<RawValue>>,
    next: Option<Cursor>,
}

fn fetch(api: &Api) -> Result<Vec<Box<RawValue>>, ApiError> {
    let mut raw = Vec::new();
    let mut cursor: Option<Cursor> = None;
    for _ in 0..API_PAGES_MAX {
        let from = cursor.as_ref().map(Cursor::query).unwrap_or_default();
        let page: Page = api.get(&format!("/v1/tasks?limit={PAGE_TASKS_MAX}{from}"))?;
        raw.extend(page.tasks);
        if page.next.is_none() {
            return Ok(raw);
        }
        if page.next == cursor {
            break;
        }
        cursor = page.next;
    }
    Err(api.foreign("its pages have no end"))
}

fn show(api: &Api, raw: &[Box<RawValue>]) -> Result<(), Failure> {
    let tasks: Result<Vec<Summary>, _> = raw
        .iter()
        .map(|raw| serde_json::from_str(raw.get()))
        .collect();
    let tasks = tasks.map_err(|error| api.foreign(error))?;
    let now = SystemTime::now();
    let width = terminal::size().map(|size| size.columns);
    let rows = tasks.iter().map(|task| {
        let tally = Tally::counted(task.hosts.clone()).in_words();
        [
            escape::escape(&task.key),
            table::age(&task.created, now),
            Cow::Owned(escape::escape(&tally).into_owned()),
        ]
    });
    let lines = table::columns(&["KEY", "CREATED", "HOSTS"], rows, width);
    print(&format!("{}\n", lines.join("\n")))
}
