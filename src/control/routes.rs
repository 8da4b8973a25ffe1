//! Requests → answers, or what has to be asked first.
//!
//! In two steps, because a request may be refused before its body has come: [`find`] looks at the
//! head alone, [`act`] makes the answer or the question to the core.

use serde::Serialize;

use crate::handlers::ask::Ask;
use crate::handlers::view::{Filter, StoreView};
use crate::ids::HostId;
use crate::limits::{
    AK_DATA_SHOWN_BYTES_MAX, EVENTS_RECENT_MAX, PAGE_HOSTS_MAX, PAGE_TASK_HOSTS_MAX, PAGE_TASKS_MAX,
};

use super::body::{self, Begun, Reading};
use super::guard::HttpRules;
use super::http::Head;
use super::json::{Device, Devices, Host, Hosts, Target, Targets};
use super::place::Place;
use super::query::{self, Page};
use super::recent::Recent;
use super::response::{Note, Response};
use super::target::decode;
use super::{HttpContext, metrics};

/// The resources.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    /// State of the loop.
    Health,
    /// State of the store.
    Ready,
    /// Counters and gauges.
    Metrics,
    /// Some hosts.
    Hosts(Filter, Page),
    /// The host of this name, if it is one.
    Host(Option<HostId>),
    /// The host of this name, if it is one, is to be forgotten.
    Forget(Option<HostId>),
    /// Some tasks.
    Tasks(Page),
    /// One task, with some of its hosts.
    Task {
        /// The key.
        key: String,
        /// The page of its hosts.
        hosts: Page,
    },
    /// All that a command put out.
    Output {
        /// In which task.
        key: String,
        /// On which host.
        host: HostId,
        /// The command.
        command: String,
    },
    /// The task in the body is to be sent.
    NewTask,
    /// The console command in the body is to be sent.
    NewCommand,
    /// Answers of a console command.
    Command(String),
    /// All devices.
    Devices,
    /// The device of this name.
    Device(String),
    /// All targets.
    Reach,
    /// Events from now on.
    Events,
    /// The last events: so many at most.
    RecentEvents(usize),
}

/// Result of a request.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// It is answered.
    Answer(Response),
    /// The core is asked; its answer is the answer.
    Ask(Ask),
    /// It is answered with the events, for as long as the peer listens.
    Follow,
}

/// Finds the route of a request.
///
/// # Errors
/// The response if there is no route: 404, 405, 415, or 400 for its parameters.
pub fn find(head: &Head<'_>) -> Result<Route, Response> {
    let place = Place::of(head.path);
    if let Some(place) = place.filter(|place| !place.takes(head.method)) {
        let methods = place.methods();
        let why = format!("{} takes {methods} only", head.path);
        return Err(Response::error(405, &why).noting(Note::Allow(methods)));
    }
    if head.method == "POST" && !is_json(head.content_type) {
        return Err(Response::error(
            415,
            "a POST must have the header Content-Type: application/json",
        ));
    }
    let place = place.ok_or_else(|| Response::error(404, &format!("there is no {}", head.path)))?;
    let query = head.query;
    let plain = |route| query::take(query, []).map(|[]| route);
    match place {
        // Supervisors and scrapers may append what they like.
        Place::Health => Ok(Route::Health),
        Place::Ready => Ok(Route::Ready),
        Place::Metrics => Ok(Route::Metrics),
        Place::Hosts => {
            let [state, limit, cursor] = query::take(query, ["state", "limit", "cursor"])?;
            let filter = query::filter(state.as_deref())?;
            let part = Page::of(limit.as_deref(), cursor.as_deref(), PAGE_HOSTS_MAX)?;
            Ok(Route::Hosts(filter, part))
        }
        Place::Host(name) if head.method == "DELETE" => {
            plain(Route::Forget(HostId::named(&text(name)?).ok()))
        }
        Place::Host(name) => plain(Route::Host(HostId::named(&text(name)?).ok())),
        Place::Tasks if head.method == "POST" => plain(Route::NewTask),
        Place::Tasks => part(query, PAGE_TASKS_MAX).map(Route::Tasks),
        Place::Task(key) => {
            let hosts = part(query, PAGE_TASK_HOSTS_MAX)?;
            Ok(Route::Task {
                key: text(key)?,
                hosts,
            })
        }
        Place::Output { key, host } => output(key, host, query),
        Place::Commands => plain(Route::NewCommand),
        Place::Command(cid) => plain(Route::Command(text(cid)?)),
        Place::Devices => plain(Route::Devices),
        Place::Device(name) => plain(Route::Device(text(name)?)),
        Place::Reach => plain(Route::Reach),
        Place::Events => plain(Route::Events),
        Place::RecentEvents => {
            let [limit] = query::take(query, ["limit"])?;
            let part = Page::of(limit.as_deref(), None, EVENTS_RECENT_MAX)?;
            Ok(Route::RecentEvents(part.limit))
        }
    }
}

/// Begins to read a long `body`, if `route` is one that takes names of hosts.
#[must_use]
pub fn begin(
    route: &Route,
    body: &[u8],
    rules: &HttpRules,
    number: u128,
) -> Option<Result<Begun, Response>> {
    match route {
        Route::NewTask => Some(Reading::task(body, number as u64)),
        Route::NewCommand => {
            let cid = format!("{number:032x}");
            Some(Reading::command(body, &rules.instructions, cid))
        }
        _ => None,
    }
}

/// Executes a request for `route` with this `body`. `number` is random, and identifies its task.
#[must_use]
pub fn act(
    route: Route,
    body: &[u8],
    context: &HttpContext<'_>,
    rules: &HttpRules,
    number: u128,
) -> Outcome {
    let asked = match route {
        Route::NewTask => body::task(body, number as u64),
        Route::NewCommand => body::command(body, &rules.instructions, format!("{number:032x}")),
        Route::Tasks(Page { limit, cursor }) => Ok(Ask::Tasks { cursor, limit }),
        Route::Task { key, hosts } => Ok(Ask::Task {
            key,
            cursor: hosts.cursor,
            limit: hosts.limit,
        }),
        Route::Output { key, host, command } => Ok(Ask::Output { key, host, command }),
        Route::Command(cid) => Ok(Ask::CommandStatus { cid }),
        Route::Forget(Some(host)) => Ok(Ask::Forget { host }),
        Route::Forget(None) => Err(host(None, context)),
        Route::Events => return Outcome::Follow,
        Route::RecentEvents(limit) => {
            let none = Recent::default();
            let recent = context.recent.unwrap_or(&none);
            Err(Response::json(&recent.last(limit, &rules.node)))
        }
        Route::Health => Err(health(context)),
        Route::Ready => Err(ready(context)),
        Route::Metrics => Err(Response::text(
            metrics::CONTENT_TYPE,
            metrics::page(context),
        )),
        Route::Hosts(filter, Page { limit, cursor }) => {
            let page = context.fleet.page(filter, limit, cursor);
            Err(Response::json(&Hosts::of(&page)))
        }
        Route::Host(name) => Err(host(name.as_ref(), context)),
        Route::Devices => Err(Response::json(&Devices {
            devices: context
                .devices
                .iter()
                .map(|view| Device::of(&view, AK_DATA_SHOWN_BYTES_MAX))
                .collect(),
        })),
        Route::Device(name) => Err(match context.devices.get(&name) {
            Some(view) => Response::json(&Device::of(&view, usize::MAX)),
            None => Response::error(404, "no device has this name"),
        }),
        Route::Reach => Err(Response::json(&Targets {
            targets: context
                .targets
                .iter()
                .map(|view| Target::of(&view))
                .collect(),
        })),
    };
    // What needs not be asked is answered here.
    asked.map_or_else(Outcome::Answer, Outcome::Ask)
}

fn host(name: Option<&HostId>, context: &HttpContext<'_>) -> Response {
    match name.and_then(|id| context.fleet.host(id)) {
        Some(view) => Response::json(&Host::of(&view)),
        None => Response::error(404, "no host of this name is known"),
    }
}

#[derive(Serialize)]
struct Health<'a> {
    status: &'static str,
    store: &'static str,
    hosts_online: u64,
    uptime_s: f64,
    version: &'static str,
    key_prefix: &'a str,
}

fn health(context: &HttpContext<'_>) -> Response {
    let (status, store) = match context.fleet.store() {
        StoreView::Up => ("ok", "up"),
        StoreView::Starting => ("degraded", "starting"),
        StoreView::Away(_) => ("degraded", "away"),
    };
    Response::json(&Health {
        status,
        store,
        hosts_online: context.fleet.stats().hosts_online,
        uptime_s: context.at.now.since(context.started).as_millis() as f64 / 1e3,
        version: env!("CARGO_PKG_VERSION"),
        key_prefix: context.fleet.key_prefix(),
    })
}

#[derive(Serialize)]
struct Ready {
    status: &'static str,
}

fn ready(context: &HttpContext<'_>) -> Response {
    match context.fleet.store() {
        StoreView::Up => Response::json(&Ready { status: "ready" }),
        StoreView::Starting => Response::error(503, "the store has not been reached yet"),
        StoreView::Away(why) => Response::error(503, &format!("the store is away: {why}")),
    }
}

/// Some of a list.
fn part(query: Option<&str>, most: usize) -> Result<Page, Response> {
    let [limit, cursor] = query::take(query, ["limit", "cursor"])?;
    Page::of(limit.as_deref(), cursor.as_deref(), most)
}

fn output(key: &str, host: &str, query: Option<&str>) -> Result<Route, Response> {
    let [command] = query::take(query, ["command"])?;
    let command =
        command.ok_or_else(|| Response::error(400, "the parameter command is missing"))?;
    let host = HostId::named(&text(host)?);
    Ok(Route::Output {
        key: text(key)?,
        host: host.map_err(|_| Response::error(404, "no host can have this name"))?,
        command,
    })
}

/// A part of a path without its escapes.
fn text(part: &str) -> Result<String, Response> {
    match decode(part) {
        Some(text) => Ok(text.into_owned()),
        None => Err(Response::error(400, "the path has a broken % escape")),
    }
}

fn is_json(content_type: Option<&str>) -> bool {
    let media = content_type.and_then(|text| text.split(';').next());
    media.is_some_and(|media| media.trim().eq_ignore_ascii_case("application/json"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::http::parse;
    use crate::control::testing::{Ants, context};
    use serde_json::{Value, json};

    fn ask(ants: &Ants, line: &str, headers: &str) -> Response {
        let request = format!("{line} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n");
        let (head, _) = parse(request.as_bytes()).unwrap().unwrap();
        match find(&head) {
            Ok(route) => match act(route, b"", &context(ants), &HttpRules::default(), 1) {
                Outcome::Answer(response) => response,
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
    fn health_says_how_things_are_and_why_not_is_for_those_with_a_token() {
        let mut ants = Ants::with_hosts(4);
        let (status, body) = get(&ants, "/healthz");
        assert_eq!(status, 200);
        assert_eq!(
            body,
            json!({"status": "ok", "store": "up", "hosts_online": 4, "uptime_s": 90.5,
                   "version": env!("CARGO_PKG_VERSION"), "key_prefix": "AC"})
        );
        ants.store = StoreView::Away("connection refused");
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
        ants.store = StoreView::Away("connection refused");
        let error = json!({"error": "the store is away: connection refused"});
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
    fn one_host_is_found_by_its_name() {
        let ants = Ants::with_hosts(2);
        let (status, body) = get(&ants, "/v1/hosts/h%2D1");
        assert_eq!(status, 200);
        assert_eq!(
            body,
            json!({"id": "h-1", "ip": "10.0.0.1", "state": "online", "reason": null,
                   "since": "1970-01-01T00:00:02.000Z", "last_seen": "1970-01-01T00:00:03.500Z",
                   "hostname": "ant", "mac": null, "ipv4": []})
        );
        for nobody in ["h-9", "", "a/b", "h%2f1", "%C3%A4", "h-1/"] {
            let (status, body) = get(&ants, &format!("/v1/hosts/{nobody}"));
            assert_eq!(status, 404, "{nobody}");
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
    fn paths_and_methods_are_checked_before_anything_is_read() {
        let ants = Ants::with_hosts(1);
        let json = "Content-Type: Application/JSON; charset=utf-8\r\n";
        let cases = [
            ("GET /", "", 404),
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
            let allow = Note::Allow("GET, HEAD");
            assert_eq!(response.note == allow, expected == 405, "{line}");
        }
        let response = ask(&ants, "PUT /v1/hosts/h-0", "");
        let allow = Note::Allow("GET, HEAD, DELETE");
        assert_eq!((response.status, response.note), (405, allow));
    }

    /// Result of the request `line` with `body`.
    fn outcome(line: &str, body: &str) -> Outcome {
        let request =
            format!("{line} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\r\n");
        let (head, _) = parse(request.as_bytes()).unwrap().unwrap();
        let rules = HttpRules {
            instructions: [("up".to_owned(), "uptime".to_owned())].into(),
            ..HttpRules::default()
        };
        let ants = Ants::with_hosts(1);
        match find(&head) {
            Ok(route) => act(
                route,
                body.as_bytes(),
                &context(&ants),
                &rules,
                0xab << 64 | 7,
            ),
            Err(response) => Outcome::Answer(response),
        }
    }

    #[test]
    fn tasks_are_asked_for_in_the_core() {
        let key = "AC 1".to_owned();
        let command = "df -h".to_owned();
        let cases = [
            (
                "GET /v1/tasks?limit=5&cursor=9",
                Ask::Tasks {
                    cursor: 9,
                    limit: 5,
                },
            ),
            (
                "HEAD /v1/tasks",
                Ask::Tasks {
                    cursor: 0,
                    limit: PAGE_TASKS_MAX,
                },
            ),
            (
                "GET /v1/tasks/AC%201?cursor=3",
                Ask::Task {
                    key: key.clone(),
                    cursor: 3,
                    limit: PAGE_TASK_HOSTS_MAX,
                },
            ),
            (
                "GET /v1/tasks/AC%201/hosts/h%2D1/output?command=df+-h",
                Ask::Output {
                    key,
                    host: HostId::checked("h-1").unwrap(),
                    command,
                },
            ),
            (
                "GET /v1/commands/0f",
                Ask::CommandStatus { cid: "0f".into() },
            ),
        ];
        for (line, ask) in cases {
            assert_eq!(outcome(line, ""), Outcome::Ask(ask), "{line}");
        }
        assert_eq!(outcome("GET /v1/events", ""), Outcome::Follow);
    }

    #[test]
    fn what_is_ordered_has_a_number_of_its_own() {
        let task = outcome("POST /v1/tasks", r#"{"key":"AC1","commands":{"a":1}}"#);
        assert!(matches!(task, Outcome::Ask(Ask::Dispatch(task)) if task.request == 7));
        let command = Ask::Command {
            text: "uptime".into(),
            hosts: None,
            cid: "00000000000000ab0000000000000007".into(),
        };
        let asked = outcome("POST /v1/commands", r#"{"command":"up"}"#);
        assert_eq!(asked, Outcome::Ask(command));
    }

    #[test]
    fn what_is_wrong_never_reaches_the_core() {
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
            ("HEAD /v1/events", "", 405),
            ("GET /v1/commands", "", 405),
            ("DELETE /v1/tasks", "", 405),
            ("POST /v1/tasks/AC1", "{}", 405),
            ("POST /v1/commands/0f", "{}", 405),
        ];
        for (line, body, status) in cases {
            let Outcome::Answer(response) = outcome(line, body) else {
                panic!("{line} {body} is let through");
            };
            assert_eq!(response.status, status, "{line} {body}");
        }
    }
}
