//! `anthill why HOST`: everything that the server knows of one host's presence.
//!
//! ```text
//!  /v1/hosts/HOST ─▶ facts ┐
//!  /v1/hosts/HOST/history ─┼─▶ one page
//!  /v1/events/recent ──────┘
//! ```

use std::time::SystemTime;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::api::Api;
use super::args::HostArgs;
use super::events;
use super::host;
use super::pages::percent_encoded;
use super::{Failure, color, print_json, print_lines, table};
use crate::escape;
use crate::limits::EVENTS_RECENT_MAX;

/// Events of the host that are shown.
const EVENTS_SHOWN: usize = 10;

/// History of a host as the server shows it.
#[derive(Debug, Deserialize)]
struct History {
    connections: u64,
    keyed: bool,
    push: bool,
    transitions: Vec<Transition>,
    away: Vec<Gap>,
    complete: bool,
}

#[derive(Debug, Deserialize)]
struct Transition {
    at: Option<String>,
    state: String,
    reason: Option<String>,
}

/// Time in which no server ran.
#[derive(Debug, Deserialize)]
pub struct Gap {
    /// Its start, RFC 3339.
    pub from: Option<String>,
    /// Its end.
    pub to: Option<String>,
}

/// Shows the host.
///
/// # Errors
/// Wrong usage, an unknown host, or no valid answer of a server.
pub fn run(args: &HostArgs) -> Result<(), Failure> {
    let api = Api::new(&args.api)?;
    let facts = host::fetch(&api, &args.name)?;
    let path = format!("/v1/hosts/{}/history", percent_encoded(&args.name));
    let history: Value = api.get(&path)?;
    let recent: Value = api.get(&format!("/v1/events/recent?limit={EVENTS_RECENT_MAX}"))?;
    let events = of_host(&recent, &args.name);
    if args.json {
        let facts: Value =
            serde_json::from_str(facts.get()).map_err(|error| api.misread(&error))?;
        let document = serde_json::json!({"host": facts, "history": history, "events": events});
        return print_json(&document.to_string());
    }
    let history = History::deserialize(history).map_err(|error| api.misread(&error))?;
    let mut lines = host::lines_of(&api, &facts)?;
    lines.extend(history.lines(SystemTime::now()));
    lines.push(String::new());
    lines.push("LAST EVENTS".to_owned());
    match events.as_slice() {
        [] => lines.push("none since the start of the server, or among the last".to_owned()),
        some => lines.extend(some.iter().map(events::line)),
    }
    print_lines(&lines)
}

/// The last events of this host.
fn of_host(recent: &Value, name: &str) -> Vec<Map<String, Value>> {
    let events = recent["events"].as_array().into_iter().flatten();
    let own = events.filter_map(Value::as_object).filter(|event| {
        let is = |member: &str| event.get(member).and_then(Value::as_str) == Some(name);
        is("host") || is("target")
    });
    let own: Vec<_> = own.cloned().collect();
    own[own.len().saturating_sub(EVENTS_SHOWN)..].to_vec()
}

impl History {
    fn lines(&self, now: SystemTime) -> Vec<String> {
        let key = match self.keyed {
            true => "has proved a key; it needs one from now on",
            false => "none",
        };
        let way = match (self.push, self.connections) {
            (true, _) => "over its connection",
            (false, 0) => "not known: it has no connection to the asked node",
            (false, _) => "by datagram",
        };
        let mut lines = vec![
            format!("{:<9}  {}", "SESSIONS", self.connections),
            format!("{:<9}  {key}", "KEY"),
            format!("{:<9}  {way}", "TASKS"),
            String::new(),
        ];
        if !self.complete {
            lines.push(
                "The store is away: only what is in the server's memory is shown.".to_owned(),
            );
        }
        let mut rows: Vec<(&Option<String>, [String; 3])> = Vec::new();
        for one in &self.transitions {
            let reason = table::known(&one.reason).into_owned();
            rows.push((&one.at, [when(&one.at, now), one.state.clone(), reason]));
        }
        for gap in &self.away {
            let until = format!("no server ran until {}", time(&gap.to));
            rows.push((
                &gap.from,
                [when(&gap.from, now), "unknown".to_owned(), until],
            ));
        }
        for gap in &self.away {
            rows.extend(self.after(gap, now));
        }
        // All times have one form, so that their texts are ordered as they are.
        rows.sort_by(|one, other| other.0.cmp(one.0));
        let rows = rows
            .into_iter()
            .map(|(_, cells)| cells.map(|cell| escape::escape(&cell).into_owned().into()));
        let header = ["SINCE", "STATE", "REASON"];
        lines.extend(color::states(table::columns(&header, rows, None)));
        lines
    }
}

impl History {
    /// State at the end of a time without a server: the last one before it, unless the end has a
    /// transition of its own.
    fn after<'a>(
        &self,
        gap: &'a Gap,
        now: SystemTime,
    ) -> Option<(&'a Option<String>, [String; 3])> {
        gap.to.as_ref()?;
        let known = self.transitions.iter();
        let last = known
            .filter(|one| one.at <= gap.to)
            .max_by(|one, other| one.at.cmp(&other.at))?;
        let text = "as before";
        (last.at < gap.from).then(|| {
            (
                &gap.to,
                [when(&gap.to, now), last.state.clone(), text.to_owned()],
            )
        })
    }
}

fn time(text: &Option<String>) -> &str {
    text.as_deref().unwrap_or("-")
}

fn when(at: &Option<String>, now: SystemTime) -> String {
    format!("{} ({})", time(at), table::age(at, now))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_transition_comes_first() {
        let history = serde_json::json!({
            "id": "web-1", "connections": 0, "keyed": true, "push": false, "complete": true,
            "transitions": [
                {"at": "2026-11-21T10:00:00.000Z", "state": "online", "reason": null},
                {"at": "2026-11-21T10:01:00.000Z", "state": "offline", "reason": "timeout"},
            ],
            "away": [{"from": "2026-11-21T10:00:30.000Z", "to": "2026-11-21T10:00:40.000Z"},
                     {"from": "2026-11-21T10:02:30.000Z", "to": "2026-11-21T10:02:40.000Z"}],
        });
        let history = History::deserialize(history).unwrap();
        let now = humantime::parse_rfc3339("2026-11-21T10:03:00Z").unwrap();
        let lines = history.lines(now);
        assert_eq!(
            lines[4..],
            [
                "SINCE                               STATE    REASON",
                "2026-11-21T10:02:40.000Z (20s ago)  offline  as before",
                "2026-11-21T10:02:30.000Z (30s ago)  unknown  no server ran until 2026-11-21T10:02:40.000Z",
                "2026-11-21T10:01:00.000Z (2m ago)   offline  timeout",
                "2026-11-21T10:00:40.000Z (2m ago)   online   as before",
                "2026-11-21T10:00:30.000Z (2m ago)   unknown  no server ran until 2026-11-21T10:00:40.000Z",
                "2026-11-21T10:00:00.000Z (3m ago)   online   -",
            ]
        );
    }

    #[test]
    fn only_events_of_the_host_are_shown() {
        let events: Vec<_> = (0..30)
            .map(
                |seq| serde_json::json!({"host": if seq % 2 == 0 { "a" } else { "b" }, "seq": seq}),
            )
            .collect();
        let shown = of_host(&serde_json::json!({ "events": events }), "a");
        let seqs: Vec<_> = shown
            .iter()
            .map(|event| event["seq"].as_u64().unwrap())
            .collect();
        assert_eq!(seqs, [10, 12, 14, 16, 18, 20, 22, 24, 26, 28]);
    }
}
