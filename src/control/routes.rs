//! Endpoints of the HTTP API: one table, from which requests are routed, 404 and 405 are answered,
//! and the table in `docs/http.md` is made.
//!
//! A request is routed in two steps, because it may be refused before its body has arrived:
//! [`find`] judges the head alone, [`Route::handle`] answers the whole request.

use crate::handlers::request::{HistoryRequest, Request};
use crate::handlers::survey::{Grouping, Survey};
use crate::handlers::view::{Filter, HostView, PageStart, StoreView};
use crate::ids::HostId;
use crate::limits::{
    EVENTS_RECENT_MAX, FLEET_HOSTS_MAX, FLEET_LEVELS_MAX, HISTORY_MINUTES_MAX, PAGE_HOSTS_MAX,
    PAGE_TASK_HOSTS_MAX, PAGE_TASKS_MAX,
};

use super::HttpContext;
use super::body::BodyReader;
use super::events;
use super::guard::HttpRules;
use super::json;
use super::outside;
use super::page;
use super::request::{Head, Parameter, Parameters, decode};
use super::response::{HttpResponse, Note, Reply, UNKNOWN_HOST};
use crate::keys::Role;
use crate::metrics::{self, Measured, Metric, Source};

/// A row of the table.
#[derive(Debug)]
#[cfg_attr(
    not(test),
    expect(dead_code, reason = "the documentation is made of some columns")
)]
struct Endpoint {
    /// The methods, as `Allow` lists them.
    methods: &'static str,
    /// The path. A segment in capitals stands for any name.
    path: &'static str,
    query: Query,
    access: Access,
    cost: Cost,
    handler: Handler,
    /// The answer, as the documentation describes it.
    answer: &'static str,
}

/// Parameters of an endpoint.
#[derive(Debug)]
enum Query {
    /// Any, without effect: supervisors and scrapers may append what they like.
    Any,
    /// Only these.
    Of(&'static [Parameter]),
}

/// Effect of an endpoint, and the role that it needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Access {
    /// It reads, and needs no token.
    Open,
    /// It changes nothing.
    Reads,
    /// It sends to hosts, or changes what was sent.
    Sends,
    /// It changes something else.
    Writes,
}

impl Access {
    const fn role(self) -> Role {
        match self {
            Self::Open | Self::Reads => Role::Read,
            Self::Sends => Role::Dispatch,
            Self::Writes => Role::Admin,
        }
    }
}

/// Work that a request causes.
#[derive(Clone, Copy, Debug)]
enum Cost {
    /// A few look-ups in memory.
    Memory,
    /// As many entries as are shown, in memory.
    Page,
    /// A look at every host, in slices of a turn.
    Walk,
    /// A read of the store, for which the response waits.
    StoreRead,
    /// A write to the store, for which the response waits.
    StoreWrite,
    /// A connection, and a message for each event.
    Stream,
}

/// The way in which an endpoint answers.
#[derive(Clone, Copy, Debug)]
enum Handler {
    /// At once.
    Now(fn(&Route, &HttpContext<'_>, &HttpRules) -> HttpResponse),
    /// From the core.
    Ask(fn(&Route) -> Result<Request, HttpResponse>),
    /// From the core, after the body has been read. The number is random.
    Body(fn(&Route, u128) -> Result<BodyReader, HttpResponse>),
    /// At once, or from the core.
    Either(fn(&Route, &HttpContext<'_>) -> Reply),
    /// With events.
    Follow,
}

use Access::{Open, Reads, Sends, Writes};
use Cost::{Memory, Page, StoreRead, StoreWrite, Stream, Walk};
use Handler::{Body, Follow, Now};
use Parameter::{At, By, Command, Cursor, Limit, Minutes, Node, OfCommand, Start, State};

const NONE: Query = Query::Of(&[]);

#[rustfmt::skip] // A table.
const ENDPOINTS: &[Endpoint] = &[
    Endpoint { methods: "GET, HEAD", path: "/", query: Query::Any, access: Open, cost: Memory, handler: Now(document),
        answer: "[the page](page.md)" },
    Endpoint { methods: "GET, HEAD", path: "/page/DIGEST/FILE", query: Query::Any, access: Open, cost: Memory, handler: Now(file),
        answer: "a file of the page, which a browser may keep" },
    Endpoint { methods: "GET, HEAD", path: "/healthz", query: Query::Any, access: Open, cost: Memory, handler: Now(health),
        answer: "200 while the loop turns: `{\"status\":\"ok\" or \"degraded\",…}`" },
    Endpoint { methods: "GET, HEAD", path: "/readyz", query: Query::Any, access: Reads, cost: Memory, handler: Now(ready),
        answer: "503 while the store is unavailable; hosts are served all the same" },
    Endpoint { methods: "GET, HEAD", path: "/metrics", query: Query::Any, access: Reads, cost: Memory, handler: Now(metrics),
        answer: "[metrics](metrics.md) for Prometheus" },
    Endpoint { methods: "GET, HEAD", path: "/v1/hosts", query: Query::Of(&[Parameter::Target, State, Node, Limit(PAGE_HOSTS_MAX), Start]), access: Reads, cost: Page, handler: Handler::Either(hosts),
        answer: "hosts of all [nodes](scale.md#several-nodes) or of one (`self`: from the memory of this one), all or those of a [target](targets.md): `{\"hosts\":[…],\"next\":CURSOR or null}`" },
    Endpoint { methods: "GET, HEAD", path: "/v1/hosts/HOST", query: NONE, access: Reads, cost: Memory, handler: Handler::Either(host),
        answer: "one host, of any node" },
    Endpoint { methods: "DELETE", path: "/v1/hosts/HOST", query: NONE, access: Writes, cost: Memory, handler: Handler::Ask(forget),
        answer: "forgets an offline host; 409 while it is online" },
    Endpoint { methods: "GET, HEAD", path: "/v1/summary", query: Query::Of(&[Parameter::Target, By(1)]), access: Reads, cost: Walk, handler: Handler::Ask(summary),
        answer: "counts of hosts: by state, by group, lost within an hour, and the longest silences" },
    Endpoint { methods: "GET, HEAD", path: "/v1/fleet", query: Query::Of(&[Parameter::Target, By(FLEET_LEVELS_MAX), Limit(FLEET_HOSTS_MAX), Cursor]), access: Reads, cost: Walk, handler: Handler::Ask(fleet),
        answer: "hosts as columns: id, state, seconds of silence, group; at most 100,000 and 4 MB on a page" },
    Endpoint { methods: "GET, HEAD", path: "/v1/nodes", query: NONE, access: Reads, cost: StoreRead, handler: Handler::Ask(|_| Ok(Request::Nodes)),
        answer: "the nodes that share the store: `{\"nodes\":[{\"name\",\"state\":\"up\" or \"silent\" or \"dead\",\"hosts\":N,\"inbox\":N,\"version\",\"http\",\"since\"}…]}`" },
    Endpoint { methods: "PATCH", path: "/v1/hosts/HOST/labels", query: NONE, access: Writes, cost: StoreWrite, handler: Body(label),
        answer: "sets and removes labels: `{\"dc\":\"fra\",\"role\":null}`; all labels of the host, with their sources" },
    Endpoint { methods: "GET, HEAD", path: "/v1/hosts/HOST/history", query: NONE, access: Reads, cost: StoreRead, handler: Handler::Ask(host_history),
        answer: "the last 32 transitions of a host, the oldest first, and when no server ran: `{\"transitions\":[{\"at\",\"state\",\"reason\"}…],\"away\":[{\"from\",\"to\"}…],…}`" },
    Endpoint { methods: "GET, HEAD", path: "/v1/history", query: Query::Of(&[Minutes(HISTORY_MINUTES_MAX)]), access: Reads, cost: StoreRead, handler: Handler::Ask(fleet_history),
        answer: "hosts online by minute, the last one now: `{\"from\":TIME,\"step_s\":60,\"online\":[N or null…],\"away\":[…],…}`" },
    Endpoint { methods: "GET, HEAD", path: "/v1/history/hosts", query: Query::Of(&[At, Limit(PAGE_HOSTS_MAX), Cursor]), access: Reads, cost: StoreRead, handler: Handler::Ask(hosts_at),
        answer: "the state of each host at a time, `unknown` where nothing is known of it; 400 for a time in the future" },
    Endpoint { methods: "GET, HEAD", path: "/v1/tasks", query: Query::Of(&[Limit(PAGE_TASKS_MAX), Cursor]), access: Reads, cost: Page, handler: Handler::Ask(tasks),
        answer: "open and recently ended tasks, the newest first, each with its number of hosts by state: `{\"tasks\":[…],\"next\":CURSOR or null}`" },
    Endpoint { methods: "POST", path: "/v1/tasks", query: NONE, access: Sends, cost: StoreWrite, handler: Body(new_task),
        answer: "sends a task: 201 with the state of each host; named hosts that were never seen are listed under `unknown`" },
    Endpoint { methods: "POST", path: "/v1/plan", query: NONE, access: Reads, cost: Walk, handler: Body(plan),
        answer: "hosts and waves of a task that is not sent: the members of `POST /v1/tasks`, without key and commands" },
    Endpoint { methods: "POST", path: "/v1/tasks/KEY/cancel", query: NONE, access: Sends, cost: Page, handler: Handler::Ask(cancel),
        answer: "cancels a task: hosts that are not sent to again are `cancelled`; `cannot` lists those that cannot be stopped" },
    Endpoint { methods: "POST", path: "/v1/tasks/KEY/pause", query: NONE, access: Sends, cost: Memory, handler: Handler::Ask(pause),
        answer: "no further wave of the rollout begins; 409 unless it runs" },
    Endpoint { methods: "POST", path: "/v1/tasks/KEY/resume", query: NONE, access: Sends, cost: Memory, handler: Handler::Ask(resume),
        answer: "the rollout goes on; 409 unless it is paused" },
    Endpoint { methods: "GET, HEAD", path: "/v1/tasks/KEY", query: Query::Of(&[Limit(PAGE_TASK_HOSTS_MAX), Cursor]), access: Reads, cost: StoreRead, handler: Handler::Ask(task),
        answer: "any stored task, with the state and the results of each host" },
    Endpoint { methods: "GET, HEAD", path: "/v1/tasks/KEY/groups", query: Query::Of(&[OfCommand]), access: Reads, cost: StoreRead, handler: Handler::Ask(groups),
        answer: "hosts with the same exit status and output, the largest group first: `{\"groups\":[{\"exit\",\"sha256\",\"hosts\":N,\"folded\",\"output\"}…],\"without\":[…]}`" },
    Endpoint { methods: "GET, HEAD", path: "/v1/tasks/KEY/hosts/HOST/output", query: Query::Of(&[Command]), access: Reads, cost: StoreRead, handler: Handler::Ask(output),
        answer: "all bytes of an output" },
    Endpoint { methods: "POST", path: "/v1/commands", query: NONE, access: Sends, cost: Memory, handler: Body(new_command),
        answer: "sends a console command: 202 with its `id`" },
    Endpoint { methods: "GET, HEAD", path: "/v1/commands/ID", query: NONE, access: Reads, cost: StoreRead, handler: Handler::Ask(command),
        answer: "the answers to a console command" },
    Endpoint { methods: "GET, HEAD", path: "/v1/ak", query: NONE, access: Reads, cost: Page, handler: Handler::Either(outside::devices),
        answer: "AK devices, each with its last replies (the first 256 bytes of each)" },
    Endpoint { methods: "GET, HEAD", path: "/v1/ak/DEVICE", query: NONE, access: Reads, cost: Memory, handler: Handler::Either(outside::device),
        answer: "one AK device, with its whole replies" },
    Endpoint { methods: "GET, HEAD", path: "/v1/reach", query: NONE, access: Reads, cost: Page, handler: Handler::Either(outside::targets),
        answer: "targets, each with its state and round-trip time" },
    Endpoint { methods: "GET, HEAD", path: "/v1/events/recent", query: Query::Of(&[Limit(EVENTS_RECENT_MAX)]), access: Reads, cost: Page, handler: Now(recent_events),
        answer: "the last events since the start, the oldest first: `{\"events\":[…]}`" },
    // HEAD would have to know the length of the stream.
    Endpoint { methods: "GET", path: "/v1/events", query: NONE, access: Reads, cost: Stream, handler: Follow,
        answer: "events, as Server-Sent Events" },
];

impl Endpoint {
    /// The names in `path`, still escaped, if it is the path of this endpoint.
    fn names<'p>(&self, path: &'p str) -> Option<Vec<&'p str>> {
        let mut names = Vec::new();
        let mut segments = path.split('/');
        for pattern in self.path.split('/') {
            let segment = segments.next()?;
            if pattern.starts_with(|c: char| c.is_ascii_uppercase()) && !segment.is_empty() {
                names.push(segment);
            } else if pattern != segment {
                return None;
            }
        }
        segments.next().is_none().then_some(names)
    }

    fn allows(&self, method: &str) -> bool {
        self.methods.split(", ").any(|allowed| allowed == method)
    }
}

/// Returns whether `path` needs no token.
#[must_use]
pub fn is_open(path: &str) -> bool {
    let mut open = ENDPOINTS.iter().filter(|row| row.access == Open);
    open.any(|row| row.names(path).is_some())
}

/// The paths of all endpoints.
pub(crate) fn paths() -> impl Iterator<Item = &'static str> {
    ENDPOINTS.iter().map(|row| row.path)
}

/// A request with its endpoint.
#[derive(Clone, Debug)]
pub struct Route {
    endpoint: &'static Endpoint,
    /// The names in the path, in order.
    names: Vec<String>,
    parameters: Parameters,
    /// The tag of a file that the peer has.
    known_tag: Option<String>,
}

/// Finds the route of a request.
///
/// # Errors
/// The response if there is no route: 404, 405, 415, or 400 for its parameters.
pub fn find(head: &Head<'_>) -> Result<Route, HttpResponse> {
    let path = head.path;
    let matching = ENDPOINTS
        .iter()
        .filter_map(|row| Some((row, row.names(path)?)));
    let matching: Vec<_> = matching.collect();
    let found = matching.iter().find(|(row, _)| row.allows(head.method));
    if found.is_none() && !matching.is_empty() {
        let methods: Vec<_> = matching.iter().map(|(row, _)| row.methods).collect();
        let methods = methods.join(", ");
        let why = format!("{path} takes {methods} only");
        return Err(HttpResponse::error(405, &why).noting(Note::Allow(methods)));
    }
    if matches!(head.method, "POST" | "PATCH") && !is_json(head.content_type) {
        let method = head.method;
        return Err(HttpResponse::error(
            415,
            &format!("a {method} must have the header Content-Type: application/json"),
        ));
    }
    let Some((endpoint, names)) = found else {
        return Err(HttpResponse::error(404, &format!("there is no {path}")));
    };
    let parameters = match endpoint.query {
        Query::Any => Parameters::default(),
        Query::Of(allowed) => Parameters::parse(head.query, allowed)?,
    };
    let names: Option<_> = names
        .iter()
        .map(|name| Some(decode(name)?.into_owned()))
        .collect();
    Ok(Route {
        endpoint,
        names: names.ok_or_else(|| HttpResponse::error(400, "the path has a broken % escape"))?,
        parameters,
        known_tag: head.if_none_match.map(str::to_owned),
    })
}

impl Route {
    /// The role that the request needs.
    #[must_use]
    pub fn role(&self) -> Role {
        self.endpoint.access.role()
    }

    /// Begins to read the body, if the request is made of it. `number` is random, and identifies
    /// its task.
    ///
    /// # Errors
    /// The response, whatever the body is.
    pub fn reader(&self, number: u128) -> Result<Option<BodyReader>, HttpResponse> {
        match self.endpoint.handler {
            Body(reader) => reader(self, number).map(Some),
            _ => Ok(None),
        }
    }

    /// Answers the request without a body.
    #[must_use]
    pub fn handle(&self, context: &HttpContext<'_>, rules: &HttpRules) -> Reply {
        match self.endpoint.handler {
            Now(respond) => Reply::Now(respond(self, context, rules)),
            Handler::Ask(ask) => ask(self).map_or_else(Reply::Now, Reply::Ask),
            Follow => Reply::Follow,
            Handler::Either(respond) => respond(self, context),
            Body(_) => Reply::Now(HttpResponse::error(400, "the body is missing")),
        }
    }

    /// The path, with its names in capitals.
    #[must_use]
    pub fn pattern(&self) -> &'static str {
        self.endpoint.path
    }

    /// The name in the path that stands for `pattern`.
    #[must_use]
    pub fn named(&self, pattern: &str) -> Option<&str> {
        let capitals = |segment: &&str| segment.starts_with(|c: char| c.is_ascii_uppercase());
        let mut patterns = self.endpoint.path.split('/').filter(capitals);
        let index = patterns.position(|segment| segment == pattern)?;
        self.names.get(index).map(String::as_str)
    }

    /// A name in the path, by its number from 0.
    pub(super) fn name(&self, index: usize) -> &str {
        self.names.get(index).map_or("", String::as_str)
    }
}

fn document(route: &Route, _: &HttpContext<'_>, rules: &HttpRules) -> HttpResponse {
    page::document(rules.tokens.is_some(), route.known_tag.as_deref())
}

fn file(route: &Route, _: &HttpContext<'_>, _: &HttpRules) -> HttpResponse {
    page::file(route.name(0), route.name(1), route.known_tag.as_deref())
}

fn health(_: &Route, context: &HttpContext<'_>, _: &HttpRules) -> HttpResponse {
    let (status, store) = match context.fleet.store() {
        StoreView::Available => ("ok", "up"),
        StoreView::Starting => ("degraded", "starting"),
        StoreView::Unavailable(_) => ("degraded", "away"),
    };
    HttpResponse::object(|json| {
        json.member("status", status);
        json.member("store", store);
        json.member("hosts_online", context.fleet.stats().hosts_online);
        let uptime = context.at.now.since(context.started);
        json.member("uptime_s", uptime.as_millis() as f64 / 1e3);
        json.member("version", env!("CARGO_PKG_VERSION"));
        json.member("key_prefix", context.fleet.key_prefix());
    })
}

fn ready(_: &Route, context: &HttpContext<'_>, _: &HttpRules) -> HttpResponse {
    match context.fleet.store() {
        StoreView::Available => HttpResponse::object(|json| json.member("status", "ready")),
        StoreView::Starting => HttpResponse::error(503, "the store has not been reached yet"),
        StoreView::Unavailable(why) => {
            HttpResponse::error(503, &format!("the store is unavailable: {why}"))
        }
    }
}

struct Instance {
    uptime_s: f64,
    store_up: bool,
}

#[rustfmt::skip] // A table: name, meaning, value.
impl Measured for Instance {
    const METRICS: &'static [Metric<Self>] = &[
        Metric::by("version", "anthill_build_info", "Version of this server.", |_| vec![(env!("CARGO_PKG_VERSION"), 1)]),
        Metric::seconds("anthill_uptime_seconds", "Seconds since the server started.", |s| s.uptime_s),
        Metric::new("anthill_store_up", "1 while the store answers.", |s| u64::from(s.store_up)),
    ];
}

fn metrics(_: &Route, context: &HttpContext<'_>, _: &HttpRules) -> HttpResponse {
    let instance = Instance {
        uptime_s: context.at.now.since(context.started).as_secs_f64(),
        store_up: context.fleet.store() == StoreView::Available,
    };
    let (fleet, devices) = (context.fleet.stats(), context.devices.stats());
    let targets = context.targets.stats();
    let sources: [&dyn Source; 5] = [&instance, &fleet, context.metrics, &devices, &targets];
    let mut page = String::new();
    sources.collect(&mut page);
    HttpResponse::text(metrics::CONTENT_TYPE, page)
}

fn hosts(route: &Route, context: &HttpContext<'_>) -> Reply {
    let Parameters {
        filter,
        limit,
        start,
        ref node,
        ref target,
        ..
    } = route.parameters;
    let fleet = context.fleet;
    let is_away = fleet.store() != StoreView::Available;
    let is_complete = !fleet.has_foreign_hosts();
    let (filter, is_local) = match node.as_deref() {
        Some("self") => (Some(filter), true),
        // All hosts online are this node's, and those offline have none.
        Some(node) if is_complete => (online_at(fleet.node() == node, filter), true),
        Some(_) => (Some(filter), false),
        None => (Some(filter), is_complete || is_away),
    };
    let Some(filter) = filter else {
        return Reply::Now(page_of(&[], None, true));
    };
    if target.is_some() || !is_local {
        return Reply::Ask(Request::Hosts {
            target: target.clone(),
            node: node.clone(),
            filter,
            start,
            limit,
        });
    }
    let PageStart::Slot(cursor) = start else {
        let why = "the cursor is of a list of all nodes; begin again";
        return Reply::Now(HttpResponse::error(400, why));
    };
    let page = fleet.page(filter, limit, cursor);
    let is_whole = is_complete || node.is_some();
    Reply::Now(page_of(&page.hosts, page.next, is_whole))
}

/// The states of a node's hosts, of those asked for: only online hosts have a node.
fn online_at(is_own: bool, filter: Filter) -> Option<Filter> {
    (is_own && filter != Filter::Offline).then_some(Filter::Online)
}

/// A page of hosts from memory. If hosts of other nodes are missing in it, that is said.
fn page_of(hosts: &[HostView<'_>], next: Option<u64>, is_whole: bool) -> HttpResponse {
    HttpResponse::object(|json| {
        json.list("hosts", hosts, json::host);
        json.next(next);
        json.optional("complete", (!is_whole).then_some(false));
    })
}

fn label(route: &Route, _: u128) -> Result<BodyReader, HttpResponse> {
    let host = HostId::named(route.name(0)).map_err(|_| unknown_host())?;
    Ok(BodyReader::labels(host))
}

fn host(route: &Route, context: &HttpContext<'_>) -> Reply {
    let Ok(id) = HostId::named(route.name(0)) else {
        return Reply::Now(unknown_host());
    };
    let (fleet, view) = (context.fleet, context.fleet.host(&id));
    let is_away = fleet.store() != StoreView::Available;
    let is_newest = view.as_ref().is_some_and(|view| view.online) || is_away;
    Reply::Now(match view {
        _ if fleet.has_foreign_hosts() && !is_newest => {
            return Reply::Ask(Request::Named { hosts: vec![id] });
        }
        Some(view) => HttpResponse::object(|json| json::host(json, &view)),
        None => unknown_host(),
    })
}

fn forget(route: &Route) -> Result<Request, HttpResponse> {
    let host = HostId::named(route.name(0)).map_err(|_| unknown_host())?;
    Ok(Request::Forget { host })
}

fn host_history(route: &Route) -> Result<Request, HttpResponse> {
    let host = HostId::named(route.name(0)).map_err(|_| unknown_host())?;
    Ok(Request::History(HistoryRequest::Host { host }))
}

fn fleet_history(route: &Route) -> Result<Request, HttpResponse> {
    let minutes = route.parameters.minutes;
    Ok(Request::History(HistoryRequest::Fleet { minutes }))
}

fn hosts_at(route: &Route) -> Result<Request, HttpResponse> {
    let Parameters {
        at, cursor, limit, ..
    } = route.parameters;
    Ok(Request::History(HistoryRequest::At { at, cursor, limit }))
}

fn unknown_host() -> HttpResponse {
    HttpResponse::error(404, UNKNOWN_HOST)
}

fn tasks(route: &Route) -> Result<Request, HttpResponse> {
    let Parameters { limit, cursor, .. } = route.parameters;
    Ok(Request::Tasks { cursor, limit })
}

fn summary(route: &Route) -> Result<Request, HttpResponse> {
    let Parameters { by, target, .. } = &route.parameters;
    Ok(Request::Survey(Survey::Summary {
        by: by.first().cloned().unwrap_or(Grouping::Network),
        target: target.clone(),
    }))
}

fn fleet(route: &Route) -> Result<Request, HttpResponse> {
    let Parameters {
        by,
        cursor,
        limit,
        target,
        ..
    } = &route.parameters;
    Ok(Request::Survey(Survey::Columns {
        by: by.clone(),
        target: target.clone(),
        cursor: *cursor,
        limit: *limit,
    }))
}

fn new_task(_: &Route, number: u128) -> Result<BodyReader, HttpResponse> {
    Ok(BodyReader::task(number as u64))
}

fn plan(_: &Route, _: u128) -> Result<BodyReader, HttpResponse> {
    Ok(BodyReader::plan())
}

fn cancel(route: &Route) -> Result<Request, HttpResponse> {
    let key = route.name(0).to_owned();
    Ok(Request::Cancel { key })
}

fn pause(route: &Route) -> Result<Request, HttpResponse> {
    let key = route.name(0).to_owned();
    Ok(Request::Pause { key })
}

fn resume(route: &Route) -> Result<Request, HttpResponse> {
    let key = route.name(0).to_owned();
    Ok(Request::Resume { key })
}

fn task(route: &Route) -> Result<Request, HttpResponse> {
    Ok(Request::Task {
        key: route.name(0).to_owned(),
        cursor: route.parameters.cursor,
        limit: route.parameters.limit,
    })
}

fn groups(route: &Route) -> Result<Request, HttpResponse> {
    let command = route.parameters.command.clone();
    Ok(Request::Groups {
        key: route.name(0).to_owned(),
        command: Some(command).filter(|command| !command.is_empty()),
    })
}

fn output(route: &Route) -> Result<Request, HttpResponse> {
    let host = HostId::named(route.name(1));
    Ok(Request::Output {
        key: route.name(0).to_owned(),
        host: host.map_err(|_| HttpResponse::error(404, "no host can have this name"))?,
        command: route.parameters.command.clone(),
    })
}

fn new_command(_: &Route, number: u128) -> Result<BodyReader, HttpResponse> {
    Ok(BodyReader::command(format!("{number:032x}")))
}

fn command(route: &Route) -> Result<Request, HttpResponse> {
    let cid = route.name(0).to_owned();
    Ok(Request::CommandStatus { cid })
}

fn recent_events(route: &Route, context: &HttpContext<'_>, rules: &HttpRules) -> HttpResponse {
    let recent = context.recent.into_iter();
    let events = recent.flat_map(|recent| recent.last(route.parameters.limit));
    HttpResponse::object(|json| {
        json.list("events", events, |json, event| {
            events::write(json, event, &rules.node);
        });
    })
}

fn is_json(content_type: Option<&str>) -> bool {
    let media = content_type.and_then(|text| text.split(';').next());
    media.is_some_and(|media| media.trim().eq_ignore_ascii_case("application/json"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::request::parse;
    use crate::control::testing::{Ants, context};
    use crate::metrics::testing::metrics_of;
    use serde_json::{Value, json};

    fn ask(ants: &Ants, line: &str, headers: &str) -> HttpResponse {
        let request = format!("{line} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n");
        let (head, _) = parse(request.as_bytes()).unwrap().unwrap();
        match find(&head) {
            Ok(route) => match route.handle(&context(ants), &HttpRules::default()) {
                Reply::Now(response) => response,
                other => panic!("{line} is not answered at once: {other:?}"),
            },
            Err(response) => response,
        }
    }

    fn get(ants: &Ants, target: &str) -> (u16, Value) {
        let response = ask(ants, &format!("GET {target}"), "");
        let body = serde_json::from_slice(&response.body).unwrap();
        (response.status, body)
    }

    fn ids(page: &Value) -> Vec<&str> {
        let hosts = page["hosts"].as_array().unwrap();
        hosts.iter().map(|h| h["id"].as_str().unwrap()).collect()
    }

    #[test]
    fn health_shows_no_reason_to_strangers() {
        let mut ants = Ants::with_hosts(4);
        let (status, body) = get(&ants, "/healthz");
        assert_eq!(status, 200);
        assert_eq!(
            body,
            json!({"status": "ok", "store": "up", "hosts_online": 4, "uptime_s": 90.5,
                   "version": env!("CARGO_PKG_VERSION"), "key_prefix": "AC"})
        );
        ants.store = StoreView::Unavailable("connection refused");
        let (status, body) = get(&ants, "/healthz?from=probe");
        assert_eq!((status, &body["status"]), (200, &json!("degraded")));
        assert_eq!(body["store"], "away");
        ants.store = StoreView::Starting;
        assert_eq!(get(&ants, "/healthz").1["store"], "starting");
    }

    #[test]
    fn ready_follows_the_store() {
        let mut ants = Ants::with_hosts(0);
        assert_eq!(get(&ants, "/readyz"), (200, json!({"status": "ready"})));
        ants.store = StoreView::Unavailable("connection refused");
        let error = json!({"error": "the store is unavailable: connection refused"});
        assert_eq!(get(&ants, "/readyz"), (503, error));
        ants.store = StoreView::Starting;
        assert_eq!(get(&ants, "/readyz").0, 503);
    }

    #[test]
    fn metrics_have_their_own_type() {
        let response = ask(&Ants::with_hosts(1), "GET /metrics", "");
        assert_eq!(
            response.content_type,
            "text/plain; version=0.0.4; charset=utf-8"
        );
        assert!(response.body.starts_with(b"# HELP anthill_build_info "));
    }

    #[test]
    fn the_page_is_what_a_scraper_reads() {
        let mut ants = Ants::with_hosts(3);
        ants.stats.messages = [1, 2, 3, 4, 5, 6, 7, 8, 9];
        ants.stats.offlines[2] = 7;
        let response = ask(&ants, "GET /metrics", "");
        let families = metrics_of(std::str::from_utf8(&response.body).unwrap());
        let value = |name: &str, sample: &str| families[name].samples[sample].clone();
        assert_eq!(value("anthill_hosts_online", ""), "3");
        assert_eq!(value("anthill_store_up", ""), "1");
        assert_eq!(value("anthill_uptime_seconds", ""), "90.5");
        assert_eq!(value("anthill_messages_total", "code=\"ADH33\""), "3");
        assert_eq!(value("anthill_offlines_total", "reason=\"timeout\""), "7");
        let kinds = ants.stats.abnormal.len();
        assert_eq!(families["anthill_abnormal_total"].samples.len(), kinds);
        for (name, family) in &families {
            assert_eq!(family.kind == "counter", name.ends_with("_total"), "{name}");
        }
    }

    #[test]
    fn a_host_is_found_by_its_name() {
        let ants = Ants::with_hosts(2);
        let (status, body) = get(&ants, "/v1/hosts/h%2D1");
        assert_eq!(status, 200);
        assert_eq!(
            body,
            json!({"id": "h-1", "ip": "10.0.0.1", "state": "online", "node": "n1", "reason": null,
                   "since": "1970-01-01T00:00:02.000Z", "last_seen": "1970-01-01T00:00:03.500Z",
                   "hostname": "ant", "mac": null, "ipv4": [], "labels": {}, "label_sources": {}})
        );
        for unknown in ["h-9", "", "a/b", "h%2f1", "%C3%A4", "h-1/"] {
            let (status, body) = get(&ants, &format!("/v1/hosts/{unknown}"));
            assert_eq!(status, 404, "{unknown}");
            assert!(body["error"].is_string());
        }
        assert_eq!(get(&ants, "/v1/hosts/h%2").0, 400);
        let error = json!({"error": "unknown parameter \"a\""});
        assert_eq!(get(&ants, "/v1/hosts/h-1?a=b"), (400, error));
    }

    #[test]
    fn pages_lead_from_one_to_the_next() {
        let ants = Ants::with_hosts(5);
        let (_, first) = get(&ants, "/v1/hosts?limit=2");
        assert_eq!(ids(&first), ["h-0", "h-1"]);
        let next = first["next"].as_str().unwrap();
        let (_, second) = get(&ants, &format!("/v1/hosts?cursor={next}&limit=99999"));
        assert_eq!(ids(&second), ["h-2", "h-3", "h-4"]);
        assert_eq!(second["next"], Value::Null);
    }

    #[test]
    fn pages_can_be_of_one_state() {
        let mut ants = Ants::with_hosts(4);
        ants.hosts[2].online = false;
        assert_eq!(ids(&get(&ants, "/v1/hosts?state=offline").1), ["h-2"]);
        let online = get(&ants, "/v1/hosts?state=online").1;
        assert_eq!(ids(&online), ["h-0", "h-1", "h-3"]);
        assert_eq!(ids(&get(&ants, "/v1/hosts?").1).len(), 4);
    }

    #[test]
    fn a_page_is_never_longer_than_its_bound() {
        let ants = Ants::with_hosts(PAGE_HOSTS_MAX + 1);
        for query in ["", "?limit=1001", "?limit=18446744073709551615"] {
            let (_, page) = get(&ants, &format!("/v1/hosts{query}"));
            assert_eq!(ids(&page).len(), PAGE_HOSTS_MAX, "{query}");
            assert_eq!(page["next"], json!("1000"));
        }
    }

    #[test]
    fn wrong_parameters_are_named() {
        let ants = Ants::with_hosts(1);
        let cases = [
            ("state=up", "state"),
            ("state=", "state"),
            ("state=Online", "state"),
            ("limit=0", "limit"),
            ("limit=-1", "limit"),
            ("limit=+1", "limit"),
            ("limit=many", "limit"),
            ("limit=", "limit"),
            ("limit=1&limit=2", "limit"),
            ("cursor=x", "cursor"),
            ("cursor=", "cursor"),
            ("cursor=99999999999999999999999", "cursor"),
            ("sort=id", "sort"),
            ("%zz=1", "escape"),
        ];
        for (query, name) in cases {
            let (status, body) = get(&ants, &format!("/v1/hosts?{query}"));
            assert_eq!(status, 400, "{query}");
            assert!(body["error"].as_str().unwrap().contains(name), "{body}");
        }
    }

    #[test]
    fn paths_and_methods_are_checked_by_the_head() {
        let ants = Ants::with_hosts(1);
        let json = "Content-Type: Application/JSON; charset=utf-8\r\n";
        let cases = [
            ("GET /", "", 200),
            ("GET /page", "", 404),
            ("GET /page/0/app.js", "", 404),
            ("POST /", json, 405),
            ("GET /v1", "", 404),
            ("GET /v1/host", "", 404),
            ("GET /V1/hosts", "", 404),
            ("GET /healthz/", "", 404),
            ("DELETE /nothing", "", 404),
            ("DELETE /v1/hosts", "", 405),
            ("DELETE /v1/hosts/a%20b", "", 404),
            ("POST /v1/hosts", json, 405),
            ("POST /v1/hosts", "", 405),
            ("OPTIONS /healthz", "", 405),
            ("get /metrics", "", 405),
            ("PUT /readyz", "", 405),
            ("POST /v1/nothing", "", 415),
            ("POST /v1/nothing", "Content-Type: text/plain\r\n", 415),
            (
                "POST /v1/nothing",
                "Content-Type: application/jsonp\r\n",
                415,
            ),
            ("POST /v1/nothing", json, 404),
            ("HEAD /v1/hosts", "", 200),
        ];
        for (line, headers, expected) in cases {
            let response = ask(&ants, line, headers);
            assert_eq!(response.status, expected, "{line} {headers}");
            let allow = Note::Allow("GET, HEAD".into());
            assert_eq!(response.note == allow, expected == 405, "{line}");
        }
        let response = ask(&ants, "PUT /v1/hosts/h-0", "");
        let allow = Note::Allow("GET, HEAD, DELETE".into());
        assert_eq!((response.status, response.note), (405, allow));
    }

    /// Reply to the request `line` with `body`.
    fn reply(line: &str, body: &str) -> Reply {
        let request =
            format!("{line} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\r\n");
        let (head, _) = parse(request.as_bytes()).unwrap().unwrap();
        let rules = HttpRules {
            instructions: [("up".to_owned(), "uptime".to_owned())].into(),
            ..HttpRules::default()
        };
        let (ants, number) = (Ants::with_hosts(1), 0xab << 64 | 7);
        let handle = |route: Route| match route.reader(number)? {
            None => Ok(route.handle(&context(&ants), &rules)),
            Some(mut reader) => {
                reader.take(body.as_bytes());
                reader.finish(&rules.instructions).map(Reply::Ask)
            }
        };
        find(&head).and_then(handle).unwrap_or_else(Reply::Now)
    }

    #[test]
    fn tasks_are_read_from_the_core() {
        let key = "AC 1".to_owned();
        let command = "df -h".to_owned();
        let cases = [
            (
                "GET /v1/tasks?limit=5&cursor=9",
                Request::Tasks {
                    cursor: 9,
                    limit: 5,
                },
            ),
            (
                "HEAD /v1/tasks",
                Request::Tasks {
                    cursor: 0,
                    limit: PAGE_TASKS_MAX,
                },
            ),
            (
                "GET /v1/tasks/AC%201?cursor=3",
                Request::Task {
                    key: key.clone(),
                    cursor: 3,
                    limit: PAGE_TASK_HOSTS_MAX,
                },
            ),
            (
                "GET /v1/tasks/AC%201/hosts/h%2D1/output?command=df+-h",
                Request::Output {
                    key,
                    host: HostId::checked("h-1").unwrap(),
                    command,
                },
            ),
            (
                "GET /v1/summary",
                Request::Survey(Survey::Summary {
                    by: Grouping::Network,
                    target: None,
                }),
            ),
            (
                "GET /v1/fleet?cursor=7&by=label:dc,net24&target=web-*",
                Request::Survey(Survey::Columns {
                    by: vec![Grouping::Label("dc".into()), Grouping::Network],
                    target: Some("web-*".into()),
                    cursor: 7,
                    limit: FLEET_HOSTS_MAX,
                }),
            ),
            (
                "GET /v1/commands/0f",
                Request::CommandStatus { cid: "0f".into() },
            ),
        ];
        for (line, ask) in cases {
            assert_eq!(reply(line, ""), Reply::Ask(ask), "{line}");
        }
        assert_eq!(reply("GET /v1/events", ""), Reply::Follow);
    }

    #[test]
    fn an_order_has_a_number_of_its_own() {
        let task = reply("POST /v1/tasks", r#"{"key":"AC1","commands":{"a":1}}"#);
        assert!(matches!(task, Reply::Ask(Request::Dispatch(task)) if task.request == 7));
        let command = Request::Command {
            text: "uptime".into(),
            hosts: None,
            target: None,
            cid: "00000000000000ab0000000000000007".into(),
        };
        let asked = reply("POST /v1/commands", r#"{"command":"up"}"#);
        assert_eq!(asked, Reply::Ask(command));
    }

    #[test]
    fn a_wrong_request_never_reaches_the_core() {
        let cases = [
            ("POST /v1/tasks", "[]", 400),
            ("POST /v1/tasks?queue=1", "{}", 400),
            ("POST /v1/commands", "{}", 400),
            ("GET /v1/tasks?state=done", "", 400),
            ("GET /v1/tasks?limit=0", "", 400),
            ("GET /v1/tasks/AC1?limit=x", "", 400),
            ("GET /v1/tasks/AC%zz", "", 400),
            ("GET /v1/tasks/AC1/hosts/h/output", "", 400),
            (
                "GET /v1/tasks/AC1/hosts/h/output?command=a&command=b",
                "",
                400,
            ),
            ("GET /v1/tasks/AC1/hosts/a%20b/output?command=a", "", 404),
            ("GET /v1/tasks/AC1/hosts/h", "", 404),
            ("GET /v1/events?since=1", "", 400),
            ("GET /v1/summary?by=rack", "", 400),
            ("GET /v1/summary?by=net24,net24", "", 400),
            ("GET /v1/fleet?by=", "", 400),
            ("GET /v1/fleet?by=label:", "", 400),
            ("GET /v1/fleet?by=label:a%20b", "", 400),
            ("GET /v1/fleet?cursor=x", "", 400),
            ("HEAD /v1/events", "", 405),
            ("GET /v1/commands", "", 405),
            ("DELETE /v1/tasks", "", 405),
            ("POST /v1/tasks/AC1", "{}", 405),
            ("POST /v1/commands/0f", "{}", 405),
        ];
        for (line, body, status) in cases {
            let Reply::Now(response) = reply(line, body) else {
                panic!("{line} {body} is let through");
            };
            assert_eq!(response.status, status, "{line} {body}");
        }
    }

    #[test]
    fn a_path_has_one_endpoint_for_each_method() {
        fn found(path: &str) -> Vec<(&str, Vec<&str>)> {
            let rows = ENDPOINTS.iter();
            rows.filter_map(|row| Some((row.path, row.names(path)?)))
                .collect()
        }
        let output = "/v1/tasks/KEY/hosts/HOST/output";
        for (path, expected) in [
            ("/v1/tasks/AC1", ("/v1/tasks/KEY", vec!["AC1"])),
            (
                "/v1/tasks/AC%31/hosts/h/output",
                (output, vec!["AC%31", "h"]),
            ),
            ("/v1/commands", ("/v1/commands", vec![])),
            ("/v1/commands/0f", ("/v1/commands/ID", vec!["0f"])),
            ("/v1/events", ("/v1/events", vec![])),
            ("/v1/events/recent", ("/v1/events/recent", vec![])),
            ("/v1/ak/d", ("/v1/ak/DEVICE", vec!["d"])),
            ("/v1/reach", ("/v1/reach", vec![])),
        ] {
            assert_eq!(found(path), [expected], "{path}");
        }
        for path in [
            "/v1/ak/",
            "/v1/ak/d/x",
            "/v1/reach/x",
            "/v1/hosts/",
            "/v1/tasks/",
            "/v1/tasks/AC1/",
            "/v1/tasks/AC1/hosts",
            "/v1/tasks/AC1/hosts/h",
            "/v1/tasks/AC1/hosts/h/output/",
            "/v1/events/",
            "/v1/events/1",
            "/v1",
            "/v1/",
            "/page/0",
        ] {
            assert_eq!(found(path), [], "{path}");
        }
        for (number, row) in ENDPOINTS.iter().enumerate() {
            for other in &ENDPOINTS[..number] {
                let both = row.methods.split(", ").any(|method| other.allows(method));
                assert!(row.path != other.path || !both, "{row:?}");
            }
        }
    }

    #[test]
    fn only_get_and_head_change_nothing() {
        for row in ENDPOINTS {
            let reads = row.methods.starts_with("GET") || row.path == "/v1/plan";
            assert_eq!(row.access.role() > Role::Read, !reads, "{row:?}");
            assert!(reads || row.methods.split(", ").count() == 1, "{row:?}");
        }
        for (path, open) in [
            ("/", true),
            ("/page/0/app.js", true),
            ("/healthz", true),
            ("/readyz", false),
            ("/v1/hosts", false),
            ("/nothing", false),
        ] {
            assert_eq!(is_open(path), open, "{path}");
        }
    }

    /// The table of `docs/http.md`.
    fn documented() -> String {
        let mut table = "| Request | Role | Cost | Answer |\n|---|---|---|---|\n".to_owned();
        for row in ENDPOINTS {
            let method = row.methods.split(", ").next().unwrap();
            let parameters = match row.query {
                Query::Any => &[],
                Query::Of(parameters) => parameters,
            };
            let examples = parameters.iter().map(|parameter| match parameter {
                State => "state=online".to_owned(),
                Limit(max) => format!("limit={max}"),
                Cursor | Start => "cursor=…".to_owned(),
                Node => "node=NAME".to_owned(),
                Command | OfCommand => "command=CMD".to_owned(),
                Minutes(_) => "minutes=60".to_owned(),
                At => "at=TIME".to_owned(),
                By(_) => "by=net24".to_owned(),
                Parameter::Target => "target=TARGET".to_owned(),
            });
            let query = examples.collect::<Vec<_>>().join("&");
            let mark = if query.is_empty() { "" } else { "?" };
            let access = match row.access {
                Open => "read, without a token",
                Reads | Sends | Writes => row.access.role().as_str(),
            };
            let cost = match row.cost {
                Memory => "memory",
                Page => "memory, for each entry",
                Walk => "memory, for each host",
                StoreRead => "a read of the store",
                StoreWrite => "a write to the store",
                Stream => "a connection",
            };
            let Endpoint { path, answer, .. } = row;
            table +=
                &format!("| `{method} {path}{mark}{query}` | {access} | {cost} | {answer} |\n");
        }
        table
    }

    #[test]
    fn the_documentation_has_the_table_of_endpoints() {
        let page = include_str!("../../docs/http.md");
        let table = documented();
        assert!(
            page.contains(&table),
            "docs/http.md is to have this:\n{table}"
        );
    }
}
