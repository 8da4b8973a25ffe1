//! `anthill hosts`: the hosts of a running server.
//!
//! All pages are fetched before anything is shown, so that the list has one order: addresses by
//! their number, then names with their digits read as numbers, `web-2` before `web-10`.

use std::collections::BTreeMap;
use std::net::IpAddr;
mod past;

use std::time::SystemTime;

use crate::codec::target::{Facts, NoMatch, Target};
use crate::limits::{CONSOLE_COMPLETION_PAGES_MAX, PAGE_HOSTS_MAX};

/// Encoded target that still fits a request line.
const TARGET_IN_URL_BYTES_MAX: usize = 12_000;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::api::{Api, ApiError};
use super::args::HostsArgs;
use super::order::Rank;
use super::pages::percent_encoded;
use super::{
    Failure, color, nodes, pages, print_json, print_lines, print_note, recipients, table, terminal,
    watch,
};

/// Shows the hosts, once or until interrupted.
///
/// # Errors
/// Wrong usage, or no good answer from a server.
pub fn run(args: &HostsArgs) -> Result<(), Failure> {
    let target = Some(args.targets.join(",")).filter(|_| !args.targets.is_empty());
    let target = recipients::parse("TARGET", target.as_deref())?;
    let api = Api::new(&args.api)?;
    let filter = Filter::of(args);
    if let Some(at) = args.at {
        return past::run(&api, args, at, target.as_ref());
    }
    if args.watch {
        let node = args.node.as_deref();
        return watch::run(&api, filter, node, target, args.json);
    }
    let fleet = match &args.node {
        None => chosen(&api, filter, target.as_ref())?,
        Some(node) => {
            let target = target.as_ref().map(Target::as_str);
            let found = Fleet::try_fetch(&api, filter, Some(node), target);
            let found = found.map_err(ApiError::of_target)?;
            if found.hosts.is_empty() {
                nodes::check(&api, node)?;
            }
            found
        }
    };
    if args.json {
        return print_json(&fleet.json());
    }
    print_table(&fleet, filter, terminal::width())
}

/// Hosts of the target, or all hosts, in the selected state. Each term must match a known host in
/// any state.
///
/// # Errors
/// Status 2 for a term that matches no host; no valid answer of the server.
pub fn chosen(api: &Api, filter: Filter, target: Option<&Target>) -> Result<Fleet, Failure> {
    match target {
        None => Ok(Fleet::fetch(api, filter)?),
        Some(target) => Fleet::fetch_target(api, filter, target.as_str()),
    }
}

/// Prints the table, and the counts on stderr.
///
/// # Errors
/// Stdout cannot be written.
pub fn print_table(fleet: &Fleet, filter: Filter, width: Option<u16>) -> Result<(), Failure> {
    let lines = color::states(table::lines(&fleet.hosts, SystemTime::now(), width));
    print_lines(&lines)?;
    print_note(&fleet.counts(filter));
    Ok(())
}

/// Selection of hosts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filter {
    /// All.
    All,
    /// Those online.
    Online,
    /// Those offline.
    Offline,
}

impl Filter {
    fn of(args: &HostsArgs) -> Self {
        match (args.online, args.offline) {
            (true, _) => Self::Online,
            (_, true) => Self::Offline,
            _ => Self::All,
        }
    }

    /// Returns whether the host is in the selected state.
    pub fn takes(self, host: &Host) -> bool {
        match self {
            Self::All => true,
            Self::Online => host.state == "online",
            Self::Offline => host.state == "offline",
        }
    }

    const fn query(self) -> &'static str {
        match self {
            Self::All => "",
            Self::Online => "&state=online",
            Self::Offline => "&state=offline",
        }
    }
}

/// A host as the server shows it. Omitted members are unknown.
#[derive(Clone, Debug, Deserialize, PartialEq)]
pub struct Host {
    /// Its name.
    pub id: String,
    /// `online` or `offline`.
    pub state: String,
    /// The node that holds it.
    #[serde(default)]
    pub node: Option<String>,
    /// Reason for being offline.
    #[serde(default)]
    pub reason: Option<String>,
    /// Time of the last change, RFC 3339.
    #[serde(default)]
    pub since: Option<String>,
    /// Time of the last message, RFC 3339.
    #[serde(default)]
    pub last_seen: Option<String>,
    /// Peer address.
    #[serde(default)]
    pub ip: Option<String>,
    /// Its host name.
    #[serde(default)]
    pub hostname: Option<String>,
    /// Its MAC address.
    #[serde(default)]
    pub mac: Option<String>,
    /// Its IPv4 addresses.
    #[serde(default)]
    pub ipv4: Vec<String>,
    /// Its labels.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// The source of each label.
    #[serde(default)]
    pub label_sources: BTreeMap<String, String>,
}

impl Host {
    /// Compares two states of a host without the time of the last message: a heartbeat is no
    /// change.
    pub fn stands_as(&self, other: &Self) -> bool {
        let last_seen = other.last_seen.clone();
        Self {
            last_seen,
            ..self.clone()
        } == *other
    }
}

impl Facts for Host {
    fn id(&self) -> &str {
        &self.id
    }

    fn ip(&self) -> Option<IpAddr> {
        self.ip.as_deref()?.parse().ok()
    }

    fn label(&self, key: &str, with: &mut dyn FnMut(&str)) {
        match (self.labels.get(key), key) {
            (_, "sys.state") => with(&self.state),
            (_, "sys.node") => self.node.iter().for_each(|node| with(node)),
            (Some(value), _) => with(value),
            _ => {}
        }
    }

    fn labels(&self, with: &mut dyn FnMut(&str, &str)) {
        self.labels.iter().for_each(|(key, value)| with(key, value));
    }
}

/// All hosts in order, with their JSON.
#[derive(Debug)]
pub struct Fleet {
    /// The hosts.
    pub hosts: Vec<Host>,
    /// JSON of each host, in the same order.
    pub raw: Vec<Box<RawValue>>,
}

impl Fleet {
    /// Requests all pages.
    ///
    /// # Errors
    /// The first page that cannot be fetched, or pages without an end.
    pub fn fetch(api: &Api, filter: Filter) -> Result<Self, ApiError> {
        let raw = pages::items(api, "hosts", &first_page(filter))?;
        Self::sorted(raw).map_err(|error| api.misread(&error))
    }

    /// Requests the hosts of a target in the selected state. A target that does not fit a request
    /// line, such as a long list of ids, is resolved here.
    ///
    /// # Errors
    /// Status 2 for a term without a match; no valid answer.
    pub fn fetch_target(api: &Api, filter: Filter, target: &str) -> Result<Self, Failure> {
        if percent_encoded(target).len() > TARGET_IN_URL_BYTES_MAX {
            let target = Target::parse(target).map_err(Failure::usage)?;
            let fleet = Self::fetch(api, Filter::All)?;
            return fleet.narrowed(&target, filter).map_err(Failure::usage);
        }
        Self::try_fetch(api, filter, None, Some(target)).map_err(ApiError::of_target)
    }

    /// Requests the hosts in the selected state: those of a node, and of a target, if there are any.
    ///
    /// # Errors
    /// A term without a match; no valid answer.
    pub fn try_fetch(
        api: &Api,
        filter: Filter,
        node: Option<&str>,
        target: Option<&str>,
    ) -> Result<Self, ApiError> {
        let mut first = first_page(filter);
        for (name, value) in [("node", node), ("target", target)] {
            if let Some(value) = value {
                first += &format!("&{name}={}", percent_encoded(value));
            }
        }
        let raw = pages::items(api, "hosts", &first)?;
        Self::sorted(raw).map_err(|error| api.misread(&error))
    }

    /// Names of hosts online, in order; of a large fleet only a part, for the prompt.
    ///
    /// # Errors
    /// The first page that cannot be fetched.
    pub fn online_names(api: &Api) -> Result<Vec<String>, ApiError> {
        let first = first_page(Filter::Online);
        let (raw, _) = pages::some_items(api, "hosts", &first, CONSOLE_COMPLETION_PAGES_MAX)?;
        let fleet = Self::sorted(raw).map_err(|error| api.misread(&error))?;
        Ok(fleet.hosts.into_iter().map(|host| host.id).collect())
    }

    /// No hosts.
    pub const fn empty() -> Self {
        Self {
            hosts: Vec::new(),
            raw: Vec::new(),
        }
    }

    fn sorted(raw: Vec<Box<RawValue>>) -> Result<Self, serde_json::Error> {
        let mut entries = Vec::with_capacity(raw.len());
        for raw in raw {
            let host: Host = serde_json::from_str(raw.get())?;
            entries.push((host, raw));
        }
        entries.sort_by_cached_key(|(host, _)| Rank::of(&host.id));
        // A host that came back while the pages were read may be on two of them.
        entries.dedup_by(|later, earlier| later.0.id == earlier.0.id);
        let (hosts, raw) = entries.into_iter().unzip();
        Ok(Self { hosts, raw })
    }

    /// Keeps the hosts of the target in the selected state.
    ///
    /// # Errors
    /// A term that matches no host.
    pub fn narrowed(self, target: &Target, filter: Filter) -> Result<Self, NoMatch> {
        let places = target.select(&self.hosts)?;
        let mut next = places.into_iter().peekable();
        let entries = self.hosts.into_iter().zip(self.raw).enumerate();
        let entries = entries.filter_map(|(at, entry)| next.next_if_eq(&at).map(|_| entry));
        let (hosts, raw) = entries.filter(|(host, _)| filter.takes(host)).unzip();
        Ok(Self { hosts, raw })
    }

    /// Returns the whole list as one page, on one line.
    pub fn json(&self) -> String {
        pages::json("hosts", &self.raw)
    }

    /// Counts of the selected hosts, as text.
    pub fn counts(&self, filter: Filter) -> String {
        let online = self.hosts.iter().filter(|host| host.state == "online");
        let online = online.count();
        let offline = self.hosts.len() - online;
        match filter {
            Filter::All => format!("{online} online, {offline} offline"),
            Filter::Online => format!("{online} online"),
            Filter::Offline => format!("{offline} offline"),
        }
    }

    /// The hosts of these documents.
    #[cfg(test)]
    pub fn of(json: Vec<String>) -> Result<Self, serde_json::Error> {
        let raw = json.into_iter().map(RawValue::from_string);
        Self::sorted(raw.collect::<Result<_, _>>()?)
    }

    /// Returns whether the two differ by heartbeats only.
    pub fn stands_as(&self, other: &Self) -> bool {
        let alike = |(one, two): (&Host, &Host)| one.stands_as(two);
        self.hosts.len() == other.hosts.len() && self.hosts.iter().zip(&other.hosts).all(alike)
    }
}

fn first_page(filter: Filter) -> String {
    format!("/v1/hosts?limit={PAGE_HOSTS_MAX}{}", filter.query())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::json_line;

    fn fleet(json: &[&str]) -> Fleet {
        let raw = json
            .iter()
            .map(|json| RawValue::from_string((*json).to_owned()).unwrap())
            .collect();
        Fleet::sorted(raw).unwrap()
    }

    #[test]
    fn hosts_stand_by_number_where_there_is_one() {
        let ids = [
            "web-10",
            "10.0.0.10",
            "web-2",
            "::1",
            "10.0.0.9",
            "web",
            "a7",
            "web-02",
            "9.9.9.9",
        ];
        let json: Vec<String> = ids
            .iter()
            .map(|id| format!(r#"{{"id":"{id}","state":"online"}}"#))
            .collect();
        let json: Vec<&str> = json.iter().map(String::as_str).collect();
        let sorted: Vec<String> = fleet(&json).hosts.into_iter().map(|host| host.id).collect();
        assert_eq!(
            sorted,
            [
                "9.9.9.9",
                "10.0.0.9",
                "10.0.0.10",
                "::1",
                "a7",
                "web",
                "web-02",
                "web-2",
                "web-10"
            ]
        );
    }

    #[test]
    fn a_host_on_two_pages_is_one_host() {
        let twice = fleet(&[
            r#"{"id":"a","state":"online"}"#,
            r#"{"id":"b","state":"online"}"#,
            r#"{"id":"a","state":"online"}"#,
        ]);
        assert_eq!(twice.counts(Filter::All), "2 online, 0 offline");
        assert_eq!(twice.raw.len(), 2);
    }

    #[test]
    fn json_keeps_unknown_members_and_is_escaped() {
        let fleet = fleet(&[
            "{\"id\":\"a\",\"state\":\"online\",\n\"new\":[1],\"hostname\":\"\u{9b}2J\u{202e}\"}",
        ]);
        let json = json_line(&fleet.json());
        assert_eq!(
            json,
            "{\"hosts\":[{\"id\":\"a\",\"state\":\"online\", \"new\":[1],\
             \"hostname\":\"\\u009b2J\\u202e\"}],\"next\":null}\n"
        );
        let value: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(value["hosts"][0]["hostname"], "\u{9b}2J\u{202e}");
    }

    #[test]
    fn target_and_state_filter_the_list() {
        let fleet = fleet(&[
            r#"{"id":"web-1","state":"online"}"#,
            r#"{"id":"web-2","state":"offline"}"#,
            r#"{"id":"db-1","state":"online"}"#,
        ]);
        let target = Target::parse("web-*").unwrap();
        let online = fleet.narrowed(&target, Filter::Online).unwrap();
        assert_eq!(online.counts(Filter::Online), "1 online");
        assert_eq!(
            online.json(),
            "{\"hosts\":[{\"id\":\"web-1\",\"state\":\"online\"}],\"next\":null}"
        );
        let none = Target::parse("lb").unwrap();
        assert!(online.narrowed(&none, Filter::All).is_err());
    }

    #[test]
    fn only_a_heartbeat_is_no_change() {
        let before = fleet(&[r#"{"id":"a","state":"online","last_seen":"1"}"#]);
        let beat = fleet(&[r#"{"id":"a","state":"online","last_seen":"2"}"#]);
        let gone = fleet(&[r#"{"id":"a","state":"offline","reason":"reset"}"#]);
        assert!(before.stands_as(&beat));
        assert!(!before.stands_as(&gone));
        assert!(!before.stands_as(&fleet(&[])));
    }
}
