//! JSON documents of responses, the same as `--json` shows on the command line.
//!
//! The core answers with lists of pairs in a meaningful order; a [`Map`] is such a list as an object.

use std::borrow::Cow;
use std::net::IpAddr;
use std::time::{Duration, UNIX_EPOCH};

use serde::{Serialize, Serializer};

use crate::handlers::ak::{self, DeviceView, FieldValues};
use crate::handlers::ask;
use crate::handlers::ask::{CommandView, TaskView};
use crate::handlers::reach::TargetView;
use crate::handlers::view::{HostView, Page};
use crate::ids::{HostId, TaskKey};
use crate::store::op::{FoundHost, FoundResult, TaskState};
use crate::time::UnixMs;

/// The last millisecond of the year 9999: RFC 3339 has no year beyond.
const TIME_MAX: u64 = 253_402_300_799_999;

/// A host.
#[derive(Debug, Serialize)]
pub struct Host<'a> {
    /// Its name.
    pub id: HostId,
    /// Peer address, current or last.
    pub ip: Option<IpAddr>,
    /// `online` or `offline`.
    pub state: &'static str,
    /// Reason for being offline.
    pub reason: Option<&'static str>,
    /// Time of the last change.
    pub since: Time,
    /// Time of the last message.
    pub last_seen: Time,
    /// Its host name.
    pub hostname: Option<&'a str>,
    /// Its MAC address.
    pub mac: Option<&'a str>,
    /// Its IPv4 addresses.
    pub ipv4: &'a [String],
}

impl<'a> Host<'a> {
    /// `view` as it is shown.
    #[must_use]
    pub fn of(view: &HostView<'a>) -> Self {
        Self {
            id: view.id.clone(),
            ip: view.ip,
            state: if view.online { "online" } else { "offline" },
            reason: view.reason.map(|reason| reason.as_str()),
            since: Time(view.since),
            last_seen: Time(view.last_seen),
            hostname: view.hostname,
            mac: view.mac,
            ipv4: view.ipv4,
        }
    }
}

/// A host that was forgotten.
#[derive(Debug, Serialize)]
pub struct Forgotten<'a> {
    /// Its name.
    pub id: &'a str,
    /// Always `forgotten`.
    pub state: &'static str,
}

impl<'a> Forgotten<'a> {
    /// `host` as it is shown when it is forgotten.
    #[must_use]
    pub fn of(host: &'a HostId) -> Self {
        Self {
            id: host.as_str(),
            state: "forgotten",
        }
    }
}

/// Some hosts, and where to go on.
#[derive(Debug, Serialize)]
pub struct Hosts<'a> {
    /// The hosts.
    pub hosts: Vec<Host<'a>>,
    /// The cursor of the next page: a word without meaning to others. None at the end.
    pub next: Option<String>,
}

impl<'a> Hosts<'a> {
    /// `page` as it is shown.
    #[must_use]
    pub fn of(page: &Page<'a>) -> Self {
        Self {
            hosts: page.hosts.iter().map(Host::of).collect(),
            next: page.next.map(|cursor| cursor.to_string()),
        }
    }
}

/// A moment as RFC 3339 in UTC with milliseconds; null where it is not known (zero) or has no
/// such form.
#[derive(Clone, Copy, Debug)]
pub struct Time(pub UnixMs);

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let UnixMs(millis) = self.0;
        if millis == 0 || millis > TIME_MAX {
            return serializer.serialize_none();
        }
        let moment = UNIX_EPOCH + Duration::from_millis(millis);
        serializer.collect_str(&humantime::format_rfc3339_millis(moment))
    }
}

/// A device.
#[derive(Debug, Serialize)]
pub struct Device<'a> {
    /// Its name.
    pub name: &'a str,
    /// Address of the device.
    pub addr: String,
    /// `up`, `down` or `stale`.
    pub state: &'static str,
    /// Reason for not being up.
    pub reason: Option<&'a str>,
    /// Time of the last change.
    pub since: Time,
    /// The error status of its last reply, 0 to 9.
    pub error_status: u8,
    /// Time of the last good reply.
    pub last_good: Time,
    /// Command → last answer, in the order they are asked.
    pub values: Map<String, Value<'a>>,
}

/// The last answer to a command.
#[derive(Debug, Serialize)]
pub struct Value<'a> {
    /// Its data, or their beginning.
    pub data: &'a str,
    /// The word by which it refuses.
    pub refused: Option<&'static str>,
    /// Time of the value.
    pub at: Time,
    /// Its words by name, where they have names and all of the data is shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fields: Option<&'a FieldValues>,
}

impl<'a> Device<'a> {
    /// `view` as it is shown, with at most `shown` bytes of each value's data.
    #[must_use]
    pub fn of(view: &DeviceView<'a>, shown: usize) -> Self {
        let values = view.values();
        Self {
            name: view.name().as_str(),
            addr: view.addr().to_string(),
            state: view.state().as_str(),
            reason: view.reason(),
            since: Time(view.since()),
            error_status: view.error_status(),
            last_good: Time(view.last_good()),
            values: Map(values
                .map(|(code, value)| (code.to_string(), Value::of(value, shown)))
                .collect()),
        }
    }
}

impl<'a> Value<'a> {
    fn of(value: &'a ak::Value, shown: usize) -> Self {
        let data = &value.data[..value.data.floor_char_boundary(shown)];
        let is_whole = data.len() == value.data.len();
        Self {
            data,
            refused: value.refused.map(|refused| refused.as_str()),
            at: Time(value.at),
            fields: value.fields.as_ref().filter(|_| is_whole),
        }
    }
}

/// All devices.
#[derive(Debug, Serialize)]
pub struct Devices<'a> {
    /// In the order of the configuration.
    pub devices: Vec<Device<'a>>,
}

/// A target.
#[derive(Debug, Serialize)]
pub struct Target<'a> {
    /// As it is written in the configuration.
    pub target: &'a str,
    /// `up`, `refused` or `down`.
    pub state: &'static str,
    /// Round-trip time of the last answer in milliseconds, if there was one.
    pub rtt_ms: Option<f64>,
    /// Time of the last change.
    pub since: Time,
    /// End of the last try.
    pub at: Time,
}

impl<'a> Target<'a> {
    /// `view` as it is shown.
    #[must_use]
    pub fn of(view: &TargetView<'a>) -> Self {
        Self {
            target: view.target,
            state: view.state.as_str(),
            rtt_ms: view.rtt.map(|rtt| rtt.as_nanos() as f64 / 1e6),
            since: Time(view.since),
            at: Time(view.at),
        }
    }
}

/// All targets.
#[derive(Debug, Serialize)]
pub struct Targets<'a> {
    /// In the order of the configuration.
    pub targets: Vec<Target<'a>>,
}

/// Pairs as an object whose members keep this order.
#[derive(Debug)]
pub struct Map<K, V>(pub Vec<(K, V)>);

impl<K: Serialize, V: Serialize> Serialize for Map<K, V> {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(key, value)| (key, value)))
    }
}

impl<K: Serialize, V: Serialize> Map<K, V> {
    /// Its members as JSON, without the braces around them.
    ///
    /// # Errors
    /// When one of them has no form.
    pub fn members(&self) -> serde_json::Result<String> {
        let mut text = serde_json::to_string(self)?;
        text.pop();
        text.remove(0);
        Ok(text)
    }
}

/// A task that was just stored.
#[derive(Debug, Serialize)]
pub struct Dispatched<'a> {
    /// Its key.
    pub key: &'a str,
    /// Host → state.
    pub hosts: Map<&'a str, &'static str>,
    /// Hosts that were never seen; left out if empty.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    pub unknown: &'a [HostId],
}

impl<'a> Dispatched<'a> {
    /// The task `key`, in which `hosts` are what they are, some of them `unknown`.
    #[must_use]
    pub fn of(key: &'a TaskKey, hosts: &'a [(HostId, TaskState)], unknown: &'a [HostId]) -> Self {
        let key = key.as_str();
        let hosts = Self::states(hosts);
        Self {
            key,
            hosts,
            unknown,
        }
    }

    /// Some of its hosts.
    #[must_use]
    pub fn states(hosts: &'a [(HostId, TaskState)]) -> Map<&'a str, &'static str> {
        let hosts = hosts.iter();
        Map(hosts
            .map(|(host, state)| (host.as_str(), state.as_str()))
            .collect())
    }
}

/// Some tasks, and where to go on.
#[derive(Debug, Serialize)]
pub struct Tasks<'a> {
    /// The newest first.
    pub tasks: Vec<TaskSummary<'a>>,
    /// The cursor of the next page: a word without meaning to others. None at the end.
    pub next: Option<String>,
}

/// A task among others.
#[derive(Debug, Serialize)]
pub struct TaskSummary<'a> {
    /// Its key.
    pub key: &'a str,
    /// Creation time.
    pub created: Time,
    /// State → how many hosts are in it.
    pub hosts: Map<&'static str, u64>,
}

impl<'a> Tasks<'a> {
    /// `tasks` as they are shown, `next` being where to go on.
    #[must_use]
    pub fn of(tasks: &'a [ask::TaskSummary], next: Option<u64>) -> Self {
        let shown = tasks.iter().map(|task| TaskSummary {
            key: task.key.as_str(),
            created: Time(task.created),
            hosts: Map(task
                .hosts
                .iter()
                .map(|(state, count)| (state.as_str(), *count))
                .collect()),
        });
        Self {
            tasks: shown.collect(),
            next: next.map(|cursor| cursor.to_string()),
        }
    }
}

/// One task.
#[derive(Debug, Serialize)]
pub struct Task<'a> {
    /// Its key.
    pub key: &'a str,
    /// Creation time.
    pub created: Time,
    /// Command and priority, highest first.
    pub commands: &'a [(String, f64)],
    /// Its hosts, or some of them.
    pub hosts: Map<&'a str, TaskHost<'a>>,
    /// The cursor of the next hosts: a word without meaning to others. None at the end.
    pub next: Option<String>,
}

/// One host in a task.
#[derive(Debug, Serialize)]
pub struct TaskHost<'a> {
    /// State in the task.
    pub state: &'static str,
    /// The command it runs.
    pub working: Option<&'a str>,
    /// Finished commands, in order.
    pub complete: &'a [String],
    /// Remaining commands, the next first.
    pub oncall: &'a [String],
    /// Command → what it came to.
    pub results: Map<&'a str, CommandResult<'a>>,
}

impl<'a> Task<'a> {
    /// `view` as it is shown.
    #[must_use]
    pub fn of(view: &'a TaskView) -> Self {
        let host = |(host, state, found): &'a (HostId, TaskState, FoundHost)| {
            let shown = TaskHost {
                state: state.as_str(),
                working: found.working.as_deref(),
                complete: &found.complete,
                oncall: &found.oncall,
                results: results(found),
            };
            (host.as_str(), shown)
        };
        Self {
            key: view.key.as_str(),
            created: Time(view.created),
            commands: &view.commands,
            hosts: Map(view.hosts.iter().map(host).collect()),
            next: view.next.map(|cursor| cursor.to_string()),
        }
    }
}

/// Result of one command on one host.
#[derive(Debug, Serialize)]
pub struct CommandResult<'a> {
    /// Its exit status.
    pub exit: i32,
    /// Run time.
    pub seconds: f64,
    /// Bytes of its output.
    pub size: u64,
    /// Their SHA-256 in hex.
    pub sha256: &'a str,
    /// The output was cut.
    pub truncated: bool,
    /// The beginning of the output, with U+FFFD for what is no UTF-8.
    pub output: Cow<'a, str>,
}

impl<'a> CommandResult<'a> {
    /// `found` as it is shown.
    #[must_use]
    pub fn of(found: &'a FoundResult) -> Self {
        Self {
            exit: found.exit,
            seconds: found.seconds,
            size: found.size,
            sha256: &found.sha256,
            truncated: found.truncated,
            output: String::from_utf8_lossy(&found.output),
        }
    }
}

fn results(found: &FoundHost) -> Map<&str, CommandResult<'_>> {
    let results = found.results.iter();
    Map(results
        .map(|result| (result.command.as_str(), CommandResult::of(result)))
        .collect())
}

/// A console command that just went out.
#[derive(Debug, Serialize)]
pub struct Commanded<'a> {
    /// Its id.
    pub id: &'a str,
    /// Host → `sent` or `offline`.
    pub hosts: Map<&'a str, &'static str>,
    /// Hosts that were never seen; left out if empty.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    pub unknown: &'a [HostId],
}

impl<'a> Commanded<'a> {
    /// The command `cid`, and whether it was sent to each of `hosts`, some of them `unknown`.
    #[must_use]
    pub fn of(cid: &'a str, hosts: &'a [(HostId, bool)], unknown: &'a [HostId]) -> Self {
        Self {
            id: cid,
            hosts: Self::states(hosts),
            unknown,
        }
    }

    /// Some of its hosts.
    #[must_use]
    pub fn states(hosts: &'a [(HostId, bool)]) -> Map<&'a str, &'static str> {
        let hosts = hosts.iter();
        Map(hosts
            .map(|(host, sent)| (host.as_str(), word(*sent, false)))
            .collect())
    }
}

/// A console command.
#[derive(Debug, Serialize)]
pub struct Command<'a> {
    /// Its id.
    pub id: &'a str,
    /// Its text.
    pub command: &'a str,
    /// Creation time.
    pub created: Time,
    /// Its hosts.
    pub hosts: Map<&'a str, CommandHost<'a>>,
}

/// One host that was to get a console command.
#[derive(Debug, Serialize)]
pub struct CommandHost<'a> {
    /// `offline`, `sent` or `answered`.
    pub state: &'static str,
    /// Command → what it came to.
    pub results: Map<&'a str, CommandResult<'a>>,
}

impl<'a> Command<'a> {
    /// `view` as it is shown.
    #[must_use]
    pub fn of(view: &'a CommandView) -> Self {
        Self::with(view, &view.hosts)
    }

    /// The same with these hosts.
    #[must_use]
    pub fn with(view: &'a CommandView, hosts: &'a [(HostId, bool, bool, FoundHost)]) -> Self {
        Self {
            id: &view.cid,
            command: &view.text,
            created: Time(view.created),
            hosts: Self::hosts(hosts),
        }
    }

    /// Some of its hosts.
    #[must_use]
    pub fn hosts(hosts: &'a [(HostId, bool, bool, FoundHost)]) -> Map<&'a str, CommandHost<'a>> {
        let hosts = hosts.iter().map(|(host, sent, answered, found)| {
            let shown = CommandHost {
                state: word(*sent, *answered),
                results: results(found),
            };
            (host.as_str(), shown)
        });
        Map(hosts.collect())
    }
}

/// An answer is one, however the command came to the host.
const fn word(sent: bool, answered: bool) -> &'static str {
    match (sent, answered) {
        (_, true) => "answered",
        (true, false) => "sent",
        (false, false) => "offline",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handlers::view::Reason;

    #[test]
    fn times_are_rfc_3339_or_null() {
        let text = |millis| serde_json::to_string(&Time(UnixMs(millis))).unwrap();
        assert_eq!(text(1_234), "\"1970-01-01T00:00:01.234Z\"");
        assert_eq!(text(1_792_713_600_000), "\"2026-10-23T00:00:00.000Z\"");
        assert_eq!(text(TIME_MAX), "\"9999-12-31T23:59:59.999Z\"");
        assert_eq!(text(0), "null");
        assert_eq!(text(TIME_MAX + 1), "null");
        assert_eq!(text(u64::MAX), "null");
    }

    #[test]
    fn a_host_has_all_members() {
        let id = HostId::checked("web-1").unwrap();
        let view = HostView {
            id,
            ip: None,
            online: false,
            reason: Some(Reason::Timeout),
            since: UnixMs(1_000),
            last_seen: UnixMs(0),
            hostname: Some("a\u{1}\"b"),
            mac: None,
            ipv4: &[],
        };
        assert_eq!(
            serde_json::to_string(&Host::of(&view)).unwrap(),
            r#"{"id":"web-1","ip":null,"state":"offline","reason":"timeout","since":"1970-01-01T00:00:01.000Z","last_seen":null,"hostname":"a\u0001\"b","mac":null,"ipv4":[]}"#
        );
    }

    fn host(name: &str) -> HostId {
        HostId::checked(name).unwrap()
    }

    fn text(value: &impl Serialize) -> String {
        serde_json::to_string(value).unwrap()
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
                (host("h-2"), TaskState::Working, found()),
                (host("h-1"), TaskState::NoBook, FoundHost::default()),
            ],
            next: Some(7),
        };
        let expected = format!(
            "{{\"key\":\"AC1\",\"created\":\"1970-01-01T00:00:01.000Z\",\
             \"commands\":[[\"z\",2.0],[\"a\\\"\",-0.5]],\"hosts\":{{\
             \"h-2\":{{\"state\":\"working\",\"working\":\"df -h\",\"complete\":[\"uptime\"],\
             \"oncall\":[\"df -h\"],\"results\":{RESULTS}}},\
             \"h-1\":{{\"state\":\"no-book\",\"working\":null,\"complete\":[],\"oncall\":[],\
             \"results\":{{}}}}}},\"next\":\"7\"}}"
        );
        assert_eq!(text(&Task::of(&view)), expected);
    }

    #[test]
    fn tasks_count_their_hosts_by_state() {
        let tasks = [ask::TaskSummary {
            key: TaskKey::parse("AC1", "AC").unwrap(),
            created: UnixMs(1_000),
            hosts: vec![(TaskState::Sent, 2), (TaskState::Done, 1)],
        }];
        assert_eq!(
            text(&Tasks::of(&tasks, None)),
            "{\"tasks\":[{\"key\":\"AC1\",\"created\":\"1970-01-01T00:00:01.000Z\",\
             \"hosts\":{\"sent\":2,\"done\":1}}],\"next\":null}"
        );
        let hosts = [
            (host("b"), TaskState::Queued),
            (host("a"), TaskState::Offline),
        ];
        assert_eq!(
            text(&Dispatched::of(&tasks[0].key, &hosts, &[])),
            "{\"key\":\"AC1\",\"hosts\":{\"b\":\"queued\",\"a\":\"offline\"}}"
        );
        assert_eq!(
            text(&Dispatched::of(&tasks[0].key, &hosts, &[host("a")])),
            "{\"key\":\"AC1\",\"hosts\":{\"b\":\"queued\",\"a\":\"offline\"},\"unknown\":[\"a\"]}"
        );
    }

    #[test]
    fn a_command_shows_the_result_of_each_host() {
        let hosts = [(host("b"), true), (host("a"), false)];
        assert_eq!(
            text(&Commanded::of("c1", &hosts, &[])),
            "{\"id\":\"c1\",\"hosts\":{\"b\":\"sent\",\"a\":\"offline\"}}"
        );
        assert_eq!(
            text(&Commanded::of("c1", &hosts, &[host("a")])),
            "{\"id\":\"c1\",\"hosts\":{\"b\":\"sent\",\"a\":\"offline\"},\"unknown\":[\"a\"]}"
        );
        let view = CommandView {
            cid: "c1".into(),
            text: "uptime".into(),
            created: UnixMs(1_000),
            hosts: vec![
                (host("a"), true, false, FoundHost::default()),
                (host("b"), false, false, FoundHost::default()),
                (host("c"), true, true, found()),
            ],
        };
        let expected = format!(
            "{{\"id\":\"c1\",\"command\":\"uptime\",\"created\":\"1970-01-01T00:00:01.000Z\",\
             \"hosts\":{{\"a\":{{\"state\":\"sent\",\"results\":{{}}}},\
             \"b\":{{\"state\":\"offline\",\"results\":{{}}}},\
             \"c\":{{\"state\":\"answered\",\"results\":{RESULTS}}}}}}}"
        );
        assert_eq!(text(&Command::of(&view)), expected);
    }
}
