//! `anthill hosts --at TIME`: the states of hosts at a time.

use std::collections::HashSet;
use std::time::SystemTime;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::super::order::Rank;
use super::super::why::Gap;
use super::super::{Failure, color, print_json, print_lines, print_note, table, terminal};
use super::{Api, Filter, Fleet, HostsArgs, PAGE_HOSTS_MAX, Target};
use crate::cli::pages;
use crate::escape;

/// State of a host at a time.
#[derive(Debug, Deserialize)]
struct Past {
    id: String,
    state: String,
    #[serde(default)]
    reason: Option<String>,
}

/// The first page, for what all pages share.
#[derive(Debug, Deserialize)]
struct Head {
    away: Option<Gap>,
    complete: bool,
}

/// Shows the states.
///
/// # Errors
/// A term that matches no host, or no valid answer of the server.
pub fn run(
    api: &Api,
    args: &HostsArgs,
    at: SystemTime,
    target: Option<&Target>,
) -> Result<(), Failure> {
    let text = humantime::format_rfc3339_millis(at).to_string();
    let path = format!("/v1/history/hosts?at={text}&limit={PAGE_HOSTS_MAX}");
    let head: Head = api.get(&path)?;
    let raw = pages::items(api, "hosts", &path)?;
    let mut entries = sorted(raw).map_err(|error| api.misread(&error))?;
    if let Some(target) = target {
        // Names, networks and labels as they are now.
        let fleet = Fleet::fetch(api, Filter::All)?;
        let fleet = fleet
            .narrowed(target, Filter::All)
            .map_err(Failure::usage)?;
        let chosen: HashSet<&str> = fleet.hosts.iter().map(|host| host.id.as_str()).collect();
        entries.retain(|(host, _)| chosen.contains(host.id.as_str()));
    }
    let filter = Filter::of(args);
    entries.retain(|(host, _)| match filter {
        Filter::All => true,
        Filter::Online => host.state == "online",
        Filter::Offline => host.state == "offline",
    });
    if args.json {
        let raw: Vec<_> = entries.into_iter().map(|(_, raw)| raw).collect();
        return print_json(&pages::json("hosts", &raw));
    }
    let rows = entries.iter().map(|(host, _)| {
        [
            escape::escape(&host.id),
            escape::escape(&host.state),
            table::known(&host.reason),
        ]
    });
    let header = ["ID", "STATE", "REASON"];
    print_lines(&color::states(table::columns(
        &header,
        rows,
        terminal::width(),
    )))?;
    if let Some(gap) = head.away {
        let words = [gap.from, gap.to].map(|time| time.unwrap_or_default());
        let [from, to] = words;
        print_note(&format!(
            "no server ran from {from} to {to}: the states at {text} are unknown"
        ));
    }
    if !head.complete {
        print_note("the store is away: only what is in the server's memory is shown");
    }
    let online = entries.iter().filter(|(host, _)| host.state == "online");
    let unknown = entries.iter().filter(|(host, _)| host.state == "unknown");
    let (online, unknown) = (online.count(), unknown.count());
    let offline = entries.len() - online - unknown;
    print_note(&format!(
        "at {text}: {online} online, {offline} offline, {unknown} unknown"
    ));
    Ok(())
}

fn sorted(raw: Vec<Box<RawValue>>) -> Result<Vec<(Past, Box<RawValue>)>, serde_json::Error> {
    let mut entries = Vec::with_capacity(raw.len());
    for raw in raw {
        let host: Past = serde_json::from_str(raw.get())?;
        entries.push((host, raw));
    }
    entries.sort_by_cached_key(|(host, _)| Rank::of(&host.id));
    entries.dedup_by(|later, earlier| later.0.id == earlier.0.id);
    Ok(entries)
}
