//! `anthill reach`: the targets of a running server.

use std::borrow::Cow;
use std::time::SystemTime;

use crate::escape;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::api::Api;
use super::args::ReachArgs;
use super::{Failure, print_json, print_lines, table, terminal};

/// Shows the targets.
///
/// # Errors
/// Wrong usage, or no good answer from a server.
pub fn run(args: &ReachArgs) -> Result<(), Failure> {
    let api = Api::new(&args.api)?;
    let raw: Box<RawValue> = api.get("/v1/reach")?;
    if args.json {
        return print_json(raw.get());
    }
    let read: Result<Targets, _> = serde_json::from_str(raw.get());
    let targets = read.map_err(|error| api.misread(&error))?.targets;
    let now = SystemTime::now();
    let rows = targets.iter().map(|target| {
        let rtt = target.rtt_ms.map(|rtt| format!("{rtt:.3} ms"));
        [
            escape::escape(&target.target),
            escape::escape(&target.state),
            Cow::Owned(rtt.unwrap_or_else(|| "-".to_owned())),
            table::age(&target.since, now),
        ]
    });
    let header = ["TARGET", "STATE", "RTT", "SINCE"];
    print_lines(&table::columns(&header, rows, terminal::width()))
}

#[derive(Deserialize)]
struct Targets {
    targets: Vec<Target>,
}

#[derive(Deserialize)]
struct Target {
    target: String,
    state: String,
    rtt_ms: Option<f64>,
    since: Option<String>,
}
