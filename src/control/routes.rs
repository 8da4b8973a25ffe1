//! Paths → answers.
//!
//! In two steps, because a request may be refused before its body has come: [`find`] looks at the
//! head alone, [`answer`] makes the answer.

use serde::Serialize;

use crate::handlers::view::{Filter, StoreView};
use crate::ids::HostId;
use crate::limits::PAGE_HOSTS_MAX;

use super::http::Head;
use super::json::{Host, Hosts};
use super::response::{Note, Response};
use super::target::{decode, parameters};
use super::{Site, metrics};

/// What every path so far may be asked with.
const READ: &str = "GET, HEAD";
/// What the path of one host begins with.
const HOST_PREFIX: &str = "/v1/hosts/";

/// What can be asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    /// Whether the loop turns.
    Health,
    /// Whether the store answers.
    Ready,
    /// Counters and gauges.
    Metrics,
    /// Some hosts.
    Hosts(Selection),
    /// The host of this name, if it is one.
    Host(Option<HostId>),
}

/// Which hosts, and how many of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Selection {
    /// In which state.
    pub filter: Filter,
    /// How many at most.
    pub limit: usize,
    /// Where to go on.
    pub cursor: u64,
}

impl Default for Selection {
    fn default() -> Self {
        Self {
            filter: Filter::All,
            limit: PAGE_HOSTS_MAX,
            cursor: 0,
        }
    }
}

/// The route that a request's head asks for.
///
/// # Errors
/// The answer where there is none: 404, 405, 415, or 400 for its parameters.
pub fn find(head: &Head<'_>) -> Result<Route, Response> {
    let known = matches!(head.path, "/healthz" | "/readyz" | "/metrics" | "/v1/hosts")
        || head.path.starts_with(HOST_PREFIX);
    if known && !matches!(head.method, "GET" | "HEAD") {
        let answer = Response::error(405, &format!("{} cannot be asked so", head.path));
        return Err(answer.noting(Note::Allow(READ)));
    }
    if head.method == "POST" && !is_json(head.content_type) {
        return Err(Response::error(415, "a POST is application/json"));
    }
    match head.path {
        "/healthz" => Ok(Route::Health),
        "/readyz" => Ok(Route::Ready),
        "/metrics" => Ok(Route::Metrics),
        "/v1/hosts" => selection(head.query.unwrap_or("")).map(Route::Hosts),
        path => match path.strip_prefix(HOST_PREFIX) {
            Some(name) => host(name, head.query.unwrap_or("")).map(Route::Host),
            None => Err(Response::error(404, &format!("there is no {path}"))),
        },
    }
}

/// The answer to a request for `route`.
#[must_use]
pub fn answer(route: &Route, site: &Site<'_>) -> Response {
    match route {
        Route::Health => health(site),
        Route::Ready => ready(site),
        Route::Metrics => Response::text(metrics::CONTENT_TYPE, metrics::page(site)),
        Route::Hosts(selection) => {
            let Selection {
                filter,
                limit,
                cursor,
            } = *selection;
            let page = site.fleet.page(filter, limit, cursor);
            Response::json(&Hosts::of(&page))
        }
        Route::Host(name) => {
            let host = name.as_ref().and_then(|id| site.fleet.host(id));
            match host {
                Some(view) => Response::json(&Host::of(&view)),
                None => Response::error(404, "no host of this name is known"),
            }
        }
    }
}

#[derive(Serialize)]
struct Health {
    status: &'static str,
    store: &'static str,
    hosts_online: u64,
    uptime_s: f64,
    version: &'static str,
}

fn health(site: &Site<'_>) -> Response {
    let (status, store) = match site.fleet.store() {
        StoreView::Up => ("ok", "up"),
        StoreView::Starting => ("degraded", "starting"),
        StoreView::Away(_) => ("degraded", "away"),
    };
    Response::json(&Health {
        status,
        store,
        hosts_online: site.fleet.stats().hosts_online,
        uptime_s: site.at.now.since(site.started).as_millis() as f64 / 1e3,
        version: env!("CARGO_PKG_VERSION"),
    })
}

#[derive(Serialize)]
struct Ready {
    status: &'static str,
}

fn ready(site: &Site<'_>) -> Response {
    match site.fleet.store() {
        StoreView::Up => Response::json(&Ready { status: "ready" }),
        StoreView::Starting => Response::error(503, "the store has not been reached yet"),
        StoreView::Away(why) => Response::error(503, &format!("the store is away: {why}")),
    }
}

/// A host's name as it stands in a path. One outside the alphabet of names is nobody's.
fn host(name: &str, query: &str) -> Result<Option<HostId>, Response> {
    if let Some(parameter) = parameters(query).next() {
        let name = parameter.map_or_else(|| query.into(), |(name, _)| name);
        return Err(unknown(&name));
    }
    match decode(name) {
        Some(name) => Ok(HostId::checked(&name).ok()),
        None => Err(Response::error(400, "the path has a broken % escape")),
    }
}

fn selection(query: &str) -> Result<Selection, Response> {
    let (mut state, mut limit, mut cursor) = (None, None, None);
    for parameter in parameters(query) {
        let Some((name, value)) = parameter else {
            return Err(Response::error(400, "the query has a broken % escape"));
        };
        let place = match name.as_ref() {
            "state" => &mut state,
            "limit" => &mut limit,
            "cursor" => &mut cursor,
            other => return Err(unknown(other)),
        };
        if place.replace(value).is_some() {
            return Err(Response::error(400, &format!("{name} is given twice")));
        }
    }
    let mut selection = Selection::default();
    if let Some(text) = state {
        selection.filter = filter(&text)?;
    }
    if let Some(text) = limit {
        selection.limit = page_length(&text)?;
    }
    if let Some(text) = cursor {
        selection.cursor = number(&text).ok_or_else(|| {
            let error = format!("cursor is {text:?}, which no page has given");
            Response::error(400, &error)
        })?;
    }
    Ok(selection)
}

fn filter(text: &str) -> Result<Filter, Response> {
    match text {
        "online" => Ok(Filter::Online),
        "offline" => Ok(Filter::Offline),
        _ => Err(Response::error(
            400,
            &format!("state is {text:?}, and may be online or offline"),
        )),
    }
}

/// What is above the bound is taken for the bound: the cursor leads on.
fn page_length(text: &str) -> Result<usize, Response> {
    let limit = number(text).filter(|limit| *limit > 0);
    let limit = limit.ok_or_else(|| {
        let error = format!("limit is {text:?}, and may be 1 to {PAGE_HOSTS_MAX}");
        Response::error(400, &error)
    })?;
    Ok(usize::try_from(limit).map_or(PAGE_HOSTS_MAX, |limit| limit.min(PAGE_HOSTS_MAX)))
}

/// Digits only: no sign, no blank.
fn number(text: &str) -> Option<u64> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

fn unknown(parameter: &str) -> Response {
    Response::error(400, &format!("unknown parameter {parameter:?}"))
}

fn is_json(content_type: Option<&str>) -> bool {
    let media = content_type.and_then(|text| text.split(';').next());
    media.is_some_and(|media| media.trim().eq_ignore_ascii_case("application/json"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::http::parse;
    use crate::control::testing::{Ants, site};
    use serde_json::{Value, json};

    fn ask(ants: &Ants, line: &str, headers: &str) -> Response {
        let request = format!("{line} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n");
        let (head, _) = parse(request.as_bytes()).unwrap().unwrap();
        match find(&head) {
            Ok(route) => answer(&route, &site(ants)),
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
                   "version": env!("CARGO_PKG_VERSION")})
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
            ("POST /v1/hosts", json, 405),
            ("POST /v1/hosts", "", 405),
            ("DELETE /v1/hosts/h-0", "", 405),
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
    }
}
