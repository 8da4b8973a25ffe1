//! JSON documents of responses, the same as `--json` shows on the command line.
//!
//! A document is written member by member, in the order of the calls, with all text escaped: it may
//! end up on a terminal.

use std::borrow::Cow;
use std::io::Write as _;
use std::ops::Range;
use std::time::{Duration, UNIX_EPOCH};

use serde::Serialize;

use crate::codec::target::fold;
use crate::escape;
use crate::handlers::ak::{self, DeviceView};
use crate::handlers::reach::TargetView;
use crate::handlers::request::{
    GroupsView, HistoryView, PlanView, RolloutView, TaskSummary, TaskView,
};
use crate::handlers::survey::{
    Columns, GroupCount, Grouping, NODE_LABEL, STATES, Summary, state_name,
};
use crate::handlers::view::{HostView, LabelSource, Reason};
use crate::ids::HostId;
use crate::store::op::history::{MINUTE_MS, Run};
use crate::store::op::{FoundHost, NodeFacts, TaskState, Was};
use crate::time::UnixMs;

/// The last millisecond of the year 9999: RFC 3339 has no year beyond.
const TIME_MAX: u64 = 253_402_300_799_999;

/// A document under construction.
#[derive(Debug, Default)]
pub struct Json(Vec<u8>);

impl Json {
    /// Returns the document of one object.
    #[must_use]
    pub fn object(write: impl FnOnce(&mut Self)) -> String {
        let mut json = Self::default();
        json.braces(write);
        json.finish()
    }

    /// Takes the document.
    #[must_use]
    pub fn finish(&mut self) -> String {
        String::from_utf8(std::mem::take(&mut self.0)).unwrap_or_default()
    }

    /// Writes a member.
    pub fn member(&mut self, name: &str, value: impl Serialize) {
        self.name(name);
        self.push(value);
    }

    /// Writes a member that is left out if it is absent.
    pub fn optional(&mut self, name: &str, value: Option<impl Serialize>) {
        if let Some(value) = value {
            self.member(name, value);
        }
    }

    /// Writes a member that is an object.
    pub fn nested(&mut self, name: &str, write: impl FnOnce(&mut Self)) {
        self.name(name);
        self.braces(write);
    }

    /// Writes a member that is a list of objects.
    pub fn list<T>(
        &mut self,
        name: &str,
        items: impl IntoIterator<Item = T>,
        write: impl Fn(&mut Self, T),
    ) {
        self.name(name);
        self.open(b'[');
        for item in items {
            self.comma();
            self.braces(|json| write(json, item));
        }
        self.close(b']');
    }

    /// Writes the cursor of the next page, or null.
    pub fn next(&mut self, cursor: Option<impl ToString>) {
        self.member("next", cursor.map(|cursor| cursor.to_string()));
    }

    /// Writes a time as RFC 3339 in UTC with milliseconds, or null if it is unknown (zero) or has
    /// no such form.
    pub fn time(&mut self, name: &str, UnixMs(millis): UnixMs) {
        let known = Some(millis).filter(|millis| (1..=TIME_MAX).contains(millis));
        let moment = known.map(|millis| UNIX_EPOCH + Duration::from_millis(millis));
        let text = moment.map(|moment| humantime::format_rfc3339_millis(moment).to_string());
        self.member(name, text);
    }

    /// Writes the name of a member whose value follows.
    pub fn name(&mut self, name: &str) {
        self.comma();
        self.push(name);
        self.0.push(b':');
    }

    /// Writes an element of a list.
    pub fn element(&mut self, value: impl Serialize) {
        self.comma();
        self.push(value);
    }

    /// Writes an element of a list that is a number, faster than any other.
    fn number(&mut self, value: u32) {
        self.comma();
        // Writing to memory cannot fail.
        let _ = write!(self.0, "{value}");
    }

    /// Begins an object or a list.
    pub fn open(&mut self, bracket: u8) {
        self.0.push(bracket);
    }

    /// Ends an object or a list.
    pub fn close(&mut self, bracket: u8) {
        self.0.push(bracket);
    }

    fn braces(&mut self, write: impl FnOnce(&mut Self)) {
        self.open(b'{');
        write(self);
        self.close(b'}');
    }

    fn comma(&mut self) {
        if !matches!(self.0.last(), Some(b'{' | b'[')) {
            self.0.push(b',');
        }
    }

    fn push(&mut self, value: impl Serialize) {
        let start = self.0.len();
        // Only maps with names that are no strings have no form, and there is no such map.
        if serde_json::to_writer(&mut self.0, &value).is_err() {
            self.0.truncate(start);
            self.0.extend_from_slice(b"null");
        }
        let text = String::from_utf8_lossy(&self.0[start..]);
        if let Cow::Owned(escaped) = escape::escape_json(&text) {
            self.0.truncate(start);
            self.0.extend_from_slice(escaped.as_bytes());
        }
    }
}

/// Writes a host.
pub fn host(json: &mut Json, view: &HostView<'_>) {
    json.member("id", &view.id);
    json.member("ip", view.ip);
    json.member("state", if view.online { "online" } else { "offline" });
    json.member("node", view.node.as_deref());
    json.member("reason", view.reason.map(|reason| reason.as_str()));
    json.time("since", view.since);
    json.time("last_seen", view.last_seen);
    json.member("hostname", view.hostname.as_deref());
    json.member("mac", view.mac.as_deref());
    json.member("ipv4", &*view.ipv4);
    let all = view.labels.iter();
    labels(
        json,
        all.map(|(key, value, source)| (&**key, &**value, *source)),
    );
}

/// Writes the labels of a host, and the source of each.
pub fn labels<'a>(
    json: &mut Json,
    labels: impl Iterator<Item = (&'a str, &'a str, LabelSource)> + Clone,
) {
    json.nested("labels", |json| {
        for (key, value, _) in labels.clone() {
            json.member(key, value);
        }
    });
    json.nested("label_sources", |json| {
        for (key, _, source) in labels {
            json.member(key, source.as_str());
        }
    });
}

/// Writes a node of the store.
pub fn node(json: &mut Json, facts: &NodeFacts) {
    json.member("name", &facts.name);
    json.member("state", facts.state.as_str());
    json.member("hosts", facts.hosts);
    json.member("inbox", facts.inbox);
    json.member("version", &facts.version);
    json.member("http", &facts.http);
    json.time("since", facts.since);
}

/// Writes an AK device, with at most `shown` bytes of each value.
pub fn device(json: &mut Json, view: &DeviceView<'_>, shown: usize) {
    json.member("name", view.name());
    json.member("addr", view.addr());
    json.member("state", view.state().as_str());
    json.member("reason", view.reason());
    json.time("since", view.since());
    json.member("error_status", view.error_status());
    json.time("last_good", view.last_good());
    json.nested("values", |json| {
        for (code, value) in view.values() {
            json.nested(&code.to_string(), |json| device_value(json, value, shown));
        }
    });
}

fn device_value(json: &mut Json, value: &ak::Value, shown: usize) {
    let data = &value.data[..value.data.floor_char_boundary(shown)];
    let is_whole = data.len() == value.data.len();
    json.member("data", data);
    json.member("refused", value.refused.map(|refused| refused.as_str()));
    json.time("at", value.at);
    json.optional("fields", value.fields.as_ref().filter(|_| is_whole));
}

/// Writes a target of `reach`.
pub fn target(json: &mut Json, view: &TargetView<'_>) {
    json.member("target", view.target);
    json.member("state", view.state.as_str());
    json.member("rtt_ms", view.rtt.map(|rtt| rtt.as_nanos() as f64 / 1e6));
    json.time("since", view.since);
    json.time("at", view.at);
}

/// Writes a task of a list: its hosts are counted by state.
pub fn task_summary(json: &mut Json, task: &TaskSummary) {
    json.member("key", &task.key);
    json.time("created", task.created);
    json.nested("hosts", |json| {
        for (state, count) in &task.hosts {
            json.member(state.as_str(), count);
        }
    });
    if let Some(view) = &task.rollout {
        json.nested("rollout", |json| rollout_state(json, view));
    }
}

/// Name of a grouping, as a request has it.
fn grouping(by: &Grouping) -> String {
    match by {
        Grouping::Network => "net24".to_owned(),
        Grouping::Label(key) if key == NODE_LABEL => "node".to_owned(),
        Grouping::Label(key) => format!("label:{key}"),
    }
}

/// Writes counts of the fleet.
pub fn summary(json: &mut Json, view: &Summary) {
    let hosts: u64 = view.states.iter().sum();
    json.time("at", view.at);
    json.member("hosts", hosts);
    json.member("online", view.states[0]);
    json.nested("offline", |json| {
        for (number, count) in view.states.iter().enumerate().skip(1) {
            let name = if number == 1 {
                "unknown"
            } else {
                state_name(number)
            };
            json.member(name, count);
        }
    });
    json.member("lost_1h", view.lost_lately);
    json.member("timeout_s", view.timeout.as_secs_f64());
    json.nested("offlines_total", |json| {
        for (reason, count) in Reason::ALL.iter().zip(view.offlines) {
            json.member(reason.as_str(), count);
        }
    });
    json.optional("complete", view.is_partial.then_some(false));
    json.member("by", grouping(&view.by));
    json.list("groups", &view.groups, |json, group| {
        json.member("name", &group.name);
        group_counts(json, group);
    });
    if let Some((count, group)) = &view.rest {
        json.nested("rest", |json| {
            json.member("groups", count);
            group_counts(json, group);
        });
    }
    json.list("silent", &view.silent, |json, (host, seconds)| {
        json.member("id", host);
        json.member("silence_s", seconds);
    });
}

fn group_counts(json: &mut Json, group: &GroupCount) {
    json.member("online", group.online);
    json.member("offline", group.offline);
}

/// Writes those cells of a page of the fleet whose numbers are in `range`: column by column, each of
/// as many cells as there are hosts. Returns whether the document is complete.
pub fn columns(json: &mut Json, range: &Range<usize>, columns: &Columns) -> bool {
    let rows = columns.ids.len();
    if range.start == 0 {
        json.open(b'{');
        json.time("at", columns.at);
        json.name("states");
        json.open(b'[');
        (0..STATES).for_each(|number| json.element(state_name(number)));
        json.close(b']');
        json.member("next", columns.next.map(|next| next.to_string()));
        json.optional("complete", columns.is_partial.then_some(false));
        json.name("groups");
        json.open(b'[');
        for level in &columns.levels {
            json.element(&level.names);
        }
        json.close(b']');
    }
    let last = 3 + columns.levels.len();
    // Each column has an end of its own, so that an empty one is written too.
    let width = rows + 1;
    let mut cell = range.start;
    while cell < range.end && cell < last * width {
        let (column, row) = (cell / width, cell % width);
        if row == 0 {
            match column {
                0 => json.name("id"),
                1 => json.name("state"),
                2 => json.name("silence_s"),
                3 => {
                    json.name("group");
                    json.open(b'[');
                }
                _ => json.comma(),
            }
            json.open(b'[');
        }
        if row < rows {
            match column {
                0 => json.element(&columns.ids[row]),
                1 => json.number(u32::from(columns.states[row])),
                2 => match columns.silences[row] {
                    Some(seconds) => json.number(seconds),
                    None => json.element(()),
                },
                level => json.number(columns.levels[level - 3].places[row]),
            }
        } else {
            json.close(b']');
        }
        cell += 1;
    }
    let is_whole = range.end >= last * width;
    if is_whole {
        json.close(b']');
        json.close(b'}');
    }
    is_whole
}

/// Writes a task with some of its hosts.
pub fn task(json: &mut Json, view: &TaskView) {
    json.member("key", &view.key);
    json.time("created", view.created);
    json.member("commands", &view.commands);
    json.nested("hosts", |json| {
        for (host, state, found) in &view.hosts {
            json.nested(host.as_str(), |json| task_host(json, *state, found));
        }
    });
    if let Some(view) = &view.rollout {
        rollout(json, view);
    }
    json.next(view.next);
}

/// Writes the target and the rollout of a task.
pub fn rollout(json: &mut Json, view: &RolloutView) {
    json.optional("target", view.target.as_ref());
    json.member("digest", &view.digest);
    json.nested("rollout", |json| rollout_state(json, view));
}

fn rollout_state(json: &mut Json, view: &RolloutView) {
    json.member("state", view.state.as_str());
    json.member("wave", view.wave);
    json.member("waves", view.waves);
    json.member("why", &view.why);
}

/// Writes a plan.
pub fn plan(json: &mut Json, view: &PlanView) {
    json.optional("target", view.target.as_ref());
    json.member("hosts", view.hosts);
    json.member("offline", view.offline);
    json.member("digest", &view.digest);
    json.list("waves", &view.waves, |json, wave| {
        json.member("hosts", wave.hosts);
        json.member("offline", wave.offline);
        json.member("folded", &wave.folded);
    });
}

fn task_host(json: &mut Json, state: TaskState, found: &FoundHost) {
    json.member("state", state.as_str());
    json.member("working", &found.working);
    json.member("complete", &found.complete);
    json.member("oncall", &found.oncall);
    json.nested("results", |json| results(json, found));
}

/// Writes the groups of a task: the one with this number, and with the last of them the rest.
/// Returns whether the document is complete.
pub(super) fn groups(json: &mut Json, view: &GroupsView, number: usize) -> bool {
    if number == 0 {
        json.open(b'{');
        json.member("key", &view.key);
        json.member("command", &view.command);
        json.name("groups");
        json.open(b'[');
    }
    if let Some(group) = view.groups.get(number) {
        json.comma();
        json.braces(|json| {
            json.member("exit", group.exit);
            json.member("sha256", &group.sha256);
            json.member("hosts", group.hosts.len());
            json.member("folded", fold(group.hosts.iter().map(HostId::as_str)));
            json.member("size", group.size);
            let output = group.output.as_deref().map(String::from_utf8_lossy);
            json.member("output", output);
        });
    }
    let is_whole = number + 1 >= view.groups.len();
    if is_whole {
        json.close(b']');
        json.list("without", &view.without, |json, (state, hosts)| {
            json.member("state", state.as_str());
            json.member("hosts", hosts.len());
            json.member("folded", fold(hosts.iter().map(HostId::as_str)));
        });
        json.close(b'}');
    }
    is_whole
}

/// Writes the part of a history whose entries have numbers in `range`. Returns whether the document
/// is complete.
pub(super) fn history(json: &mut Json, view: &HistoryView, range: &Range<usize>) -> bool {
    match view {
        HistoryView::Host {
            host,
            connections,
            keyed,
            push,
            transitions,
            away,
            complete,
        } => {
            json.braces(|json| {
                json.member("id", host);
                json.member("connections", connections);
                json.member("keyed", keyed);
                json.member("push", push);
                json.list("transitions", transitions, |json, one| {
                    json.time("at", one.at());
                    was(json, Some(one.to()));
                });
                json.list("away", away, run);
                json.member("complete", complete);
            });
            true
        }
        HistoryView::At {
            at,
            away,
            hosts,
            next,
            complete,
        } => {
            json.braces(|json| {
                json.time("at", *at);
                match away {
                    Some(gap) => json.nested("away", |json| run(json, gap)),
                    None => json.member("away", ()),
                }
                json.list("hosts", hosts, |json, (host, state)| {
                    json.member("id", host);
                    was(json, *state);
                });
                json.member("complete", complete);
                json.next(*next);
            });
            true
        }
        HistoryView::Fleet {
            from,
            online,
            away,
            complete,
        } => {
            if range.start == 0 {
                json.open(b'{');
                json.time("from", UnixMs(from * MINUTE_MS));
                json.member("step_s", MINUTE_MS / 1_000);
                json.list("away", away, run);
                json.member("complete", complete);
                json.name("online");
                json.open(b'[');
            }
            let within = |at: usize| at.min(online.len());
            for count in &online[within(range.start)..within(range.end)] {
                json.element(count);
            }
            let is_whole = range.end >= online.len();
            if is_whole {
                json.close(b']');
                json.close(b'}');
            }
            is_whole
        }
    }
}

fn run(json: &mut Json, gap: &Run) {
    json.time("from", gap.from);
    json.time("to", gap.to);
}

/// Writes the state of a host at a time, which may be unknown.
fn was(json: &mut Json, was: Option<Was>) {
    let (state, reason) = match was {
        None => ("unknown", None),
        Some(Was::Online) => ("online", None),
        Some(Was::Offline(reason)) => ("offline", reason),
    };
    json.member("state", state);
    json.member("reason", reason.map(|reason| reason.as_str()));
}

/// Writes a host of a console command. An answer counts, however the command reached the host.
pub fn command_host(
    json: &mut Json,
    (host, sent, answered, found): &(HostId, bool, bool, FoundHost),
) {
    json.nested(host.as_str(), |json| {
        json.member(
            "state",
            if *answered {
                "answered"
            } else {
                sent_or_offline(*sent)
            },
        );
        json.nested("results", |json| results(json, found));
    });
}

/// State of a host to which a console command was sent or not.
#[must_use]
pub const fn sent_or_offline(sent: bool) -> &'static str {
    if sent { "sent" } else { "offline" }
}

/// Results by command. An output is text, with U+FFFD for bytes that are not UTF-8.
fn results(json: &mut Json, found: &FoundHost) {
    for result in &found.results {
        json.nested(&result.command, |json| {
            json.member("exit", result.exit);
            json.member("seconds", result.seconds);
            json.member("size", result.size);
            json.member("sha256", &result.sha256);
            json.member("truncated", result.truncated);
            json.member("output", String::from_utf8_lossy(&result.output));
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handlers::survey::Level;
    use crate::ids::TaskKey;
    use crate::store::op::FoundResult;
    use crate::time::Span;

    #[test]
    fn times_are_rfc_3339_or_null() {
        for (millis, expected) in [
            (1_234, "\"1970-01-01T00:00:01.234Z\""),
            (1_792_713_600_000, "\"2026-10-23T00:00:00.000Z\""),
            (TIME_MAX, "\"9999-12-31T23:59:59.999Z\""),
            (0, "null"),
            (TIME_MAX + 1, "null"),
            (u64::MAX, "null"),
        ] {
            let json = Json::object(|json| json.time("t", UnixMs(millis)));
            assert_eq!(json, format!("{{\"t\":{expected}}}"));
        }
    }

    #[test]
    fn a_host_has_all_members() {
        let id = HostId::checked("web-1").unwrap();
        let view = HostView {
            id,
            ip: None,
            online: false,
            node: None,
            reason: Some(Reason::Timeout),
            since: UnixMs(1_000),
            last_seen: UnixMs(0),
            hostname: Some("a\u{1}\"b".into()),
            mac: None,
            ipv4: (&[][..]).into(),
            labels: vec![("dc".into(), "fra".into(), LabelSource::Admin)],
        };
        assert_eq!(
            Json::object(|json| host(json, &view)),
            r#"{"id":"web-1","ip":null,"state":"offline","node":null,"reason":"timeout","since":"1970-01-01T00:00:01.000Z","last_seen":null,"hostname":"a\u0001\"b","mac":null,"ipv4":[],"labels":{"dc":"fra"},"label_sources":{"dc":"admin"}}"#
        );
    }

    fn id(name: &str) -> HostId {
        HostId::checked(name).unwrap()
    }

    fn found() -> FoundHost {
        FoundHost {
            working: Some("df -h".into()),
            complete: vec!["uptime".into()],
            oncall: vec!["df -h".into()],
            results: vec![FoundResult {
                command: "uptime".into(),
                exit: -1,
                seconds: 0.5,
                size: 3,
                sha256: "ab".into(),
                truncated: true,
                output: b"a\xffb".to_vec(),
            }],
        }
    }

    const RESULTS: &str = "{\"uptime\":{\"exit\":-1,\"seconds\":0.5,\"size\":3,\"sha256\":\"ab\",\
        \"truncated\":true,\"output\":\"a\u{fffd}b\"}}";

    #[test]
    fn a_task_has_all_members_in_order() {
        let view = TaskView {
            key: TaskKey::parse("AC1", "AC").unwrap(),
            created: UnixMs(1_000),
            commands: vec![("z".into(), 2.0), ("a\"".into(), -0.5)],
            hosts: vec![
                (id("h-2"), TaskState::Working, found()),
                (id("h-1"), TaskState::NoBook, FoundHost::default()),
            ],
            next: Some(7),
            rollout: None,
        };
        let expected = format!(
            "{{\"key\":\"AC1\",\"created\":\"1970-01-01T00:00:01.000Z\",\
             \"commands\":[[\"z\",2.0],[\"a\\\"\",-0.5]],\"hosts\":{{\
             \"h-2\":{{\"state\":\"working\",\"working\":\"df -h\",\"complete\":[\"uptime\"],\
             \"oncall\":[\"df -h\"],\"results\":{RESULTS}}},\
             \"h-1\":{{\"state\":\"no-book\",\"working\":null,\"complete\":[],\"oncall\":[],\
             \"results\":{{}}}}}},\"next\":\"7\"}}"
        );
        assert_eq!(Json::object(|json| task(json, &view)), expected);
    }

    #[test]
    fn tasks_count_their_hosts_by_state() {
        let task = TaskSummary {
            key: TaskKey::parse("AC1", "AC").unwrap(),
            created: UnixMs(1_000),
            hosts: vec![(TaskState::Sent, 2), (TaskState::Done, 1)],
            rollout: None,
        };
        assert_eq!(
            Json::object(|json| task_summary(json, &task)),
            "{\"key\":\"AC1\",\"created\":\"1970-01-01T00:00:01.000Z\",\
             \"hosts\":{\"sent\":2,\"done\":1}}"
        );
    }

    fn fleet(count: usize) -> Columns {
        let level = |names: &[&str]| Level {
            names: names.iter().map(|name| (*name).to_owned()).collect(),
            places: (0..count as u32).map(|n| n % 2).collect(),
        };
        Columns {
            is_partial: false,
            at: UnixMs(1_000),
            ids: (0..count).map(|n| id(&format!("h-{n}"))).collect(),
            states: (0..count).map(|n| n as u8 % 3).collect(),
            silences: (0..count).map(|n| (n > 0).then_some(n as u32)).collect(),
            levels: vec![level(&["10.0.0.0/24", ""]), level(&["a", "b"])],
            next: None,
        }
    }

    #[test]
    fn a_fleet_is_written_column_by_column() {
        let mut json = Json::default();
        assert!(columns(&mut json, &(0..usize::MAX), &fleet(2)));
        assert_eq!(
            json.finish(),
            "{\"at\":\"1970-01-01T00:00:01.000Z\",\"states\":[\"online\",\"offline\",\"closed\",\
             \"reset\",\"timeout\",\"abnormal\",\"lost\"],\"next\":null,\
             \"groups\":[[\"10.0.0.0/24\",\"\"],[\"a\",\"b\"]],\"id\":[\"h-0\",\"h-1\"],\"state\":[0,1],\
             \"silence_s\":[null,1],\"group\":[[0,1],[0,1]]}"
        );
        for count in 0..5 {
            let fleet = fleet(count);
            let mut whole = Json::default();
            assert!(columns(&mut whole, &(0..usize::MAX), &fleet));
            let whole = whole.finish();
            assert!(
                serde_json::from_str::<serde_json::Value>(&whole).is_ok(),
                "{whole}"
            );
            for max in 1..30 {
                let (mut json, mut start) = (Json::default(), 0);
                while !columns(&mut json, &(start..start + max), &fleet) {
                    start += max;
                }
                assert_eq!(json.finish(), whole, "{count} hosts, {max} at a time");
            }
        }
    }

    #[test]
    fn a_host_takes_at_most_40_bytes_of_a_fleet() {
        let count = 100_000;
        let mut fleet = fleet(count);
        fleet.levels.truncate(1);
        fleet.ids = (0..count).map(|n| id(&format!("bench-{n:06}"))).collect();
        fleet.silences = (0..count).map(|n| Some(n as u32)).collect();
        let mut json = Json::default();
        assert!(columns(&mut json, &(0..usize::MAX), &fleet));
        let bytes = json.finish().len();
        assert!(bytes <= 40 * count && bytes <= 4_000_000, "{bytes}");
    }

    #[test]
    fn a_summary_has_all_members() {
        let group = |name: &str, online| GroupCount {
            name: name.to_owned(),
            online,
            offline: 1,
        };
        let view = Summary {
            is_partial: false,
            at: UnixMs(1_000),
            states: [5, 0, 1, 0, 0, 0, 1],
            lost_lately: 2,
            timeout: Span::from_millis(1_500),
            offlines: [3, 0, 0, 0, 1],
            by: Grouping::Network,
            groups: vec![group("10.0.0.0/24", 4)],
            rest: Some((1, group("", 1))),
            silent: vec![(id("h-1"), 9)],
        };
        assert_eq!(
            Json::object(|json| summary(json, &view)),
            "{\"at\":\"1970-01-01T00:00:01.000Z\",\"hosts\":7,\"online\":5,\"offline\":{\"unknown\":0,\
             \"closed\":1,\"reset\":0,\"timeout\":0,\"abnormal\":0,\"lost\":1},\"lost_1h\":2,\
             \"timeout_s\":1.5,\"offlines_total\":{\"closed\":3,\"reset\":0,\"timeout\":0,\
             \"abnormal\":0,\"lost\":1},\"by\":\"net24\",\
             \"groups\":[{\"name\":\"10.0.0.0/24\",\"online\":4,\"offline\":1}],\
             \"rest\":{\"groups\":1,\"online\":1,\"offline\":1},\
             \"silent\":[{\"id\":\"h-1\",\"silence_s\":9}]}"
        );
    }

    #[test]
    fn hostile_text_is_escaped_in_names_and_values() {
        let json = Json::object(|json| json.member("a\u{202e}", "\u{9b}\n"));
        assert_eq!(json, r#"{"a\u202e":"\u009b\n"}"#);
    }
}
