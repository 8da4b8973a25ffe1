//! Replies to requests, responses and their bytes.

use std::ops::Range;

use super::json::{self, Json};
use super::page;
use crate::handlers::request::{ErrorKind, Request, Response};
use crate::ids::HostId;

/// Media type of every body except metrics, outputs and events.
const JSON: &str = "application/json";

/// Error of a request for a host that no node knows.
pub(super) const UNKNOWN_HOST: &str = "no host of this name is known";

/// The way in which a request is answered, from its route to its socket.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    /// With this response, at once.
    Now(HttpResponse),
    /// With the core's answer to this request.
    Ask(Request),
    /// With events, until the peer disconnects.
    Follow,
}

/// A response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpResponse {
    /// The status code.
    pub status: u16,
    /// The body's media type.
    pub content_type: &'static str,
    /// Header line of this status.
    pub note: Note,
    /// The body.
    pub body: Vec<u8>,
    /// Number of hosts that the request concerned, if it is known.
    pub hosts: Option<u64>,
}

/// A header line that some statuses must have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// None.
    None,
    /// `Allow`, with 405: the methods of the path.
    Allow(String),
    /// `WWW-Authenticate`, with 401.
    Authenticate,
    /// The same, where the request had a wrong token.
    WrongToken,
    /// `Content-Encoding`: the body is compressed.
    Gzip,
    /// Lines of a file of the page: its tag, how long it may be kept, and the policy.
    Page {
        /// The value of `ETag`.
        tag: &'static str,
        /// The value of `Cache-Control`.
        caching: &'static str,
    },
}

/// Form of a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sending {
    /// Without the body, for HEAD. The length stays.
    pub head_only: bool,
    /// The connection ends with this response.
    pub close: bool,
}

impl Sending {
    /// A whole response that ends the connection.
    pub const LAST: Self = Self {
        head_only: false,
        close: true,
    };
}

impl HttpResponse {
    /// 200 with a JSON object.
    #[must_use]
    pub fn object(write: impl FnOnce(&mut Json)) -> Self {
        Self::json(200, Json::object(write))
    }

    /// 200 with a complete JSON document.
    #[must_use]
    pub fn document(document: String) -> Self {
        Self::json(200, document)
    }

    fn json(status: u16, document: String) -> Self {
        Self::with_body(status, JSON, document.into_bytes())
    }

    /// 200 with `body` as it is.
    #[must_use]
    pub fn bytes(body: Vec<u8>) -> Self {
        Self::with_body(200, "application/octet-stream", body)
    }

    /// 200 with `body`, of `content_type`.
    #[must_use]
    pub fn text(content_type: &'static str, body: String) -> Self {
        Self::with_body(200, content_type, body.into_bytes())
    }

    /// 304: the peer has this body, of `content_type`.
    #[must_use]
    pub(crate) fn not_modified(content_type: &'static str) -> Self {
        Self::with_body(304, content_type, Vec::new())
    }

    /// `status` with `{"error": text}`.
    #[must_use]
    pub fn error(status: u16, text: &str) -> Self {
        Self::json(status, Json::object(|json| json.member("error", text)))
    }

    /// Returns the response with a header line.
    #[must_use]
    pub fn noting(mut self, note: Note) -> Self {
        self.note = note;
        self
    }

    /// Returns the response with the number of hosts that the request concerned.
    #[must_use]
    pub fn concerning(mut self, hosts: u64) -> Self {
        self.hosts = Some(hosts);
        self
    }

    fn with_body(status: u16, content_type: &'static str, body: Vec<u8>) -> Self {
        Self {
            status,
            content_type,
            note: Note::None,
            body,
            hosts: None,
        }
    }

    /// The text of an error.
    #[must_use]
    pub fn error_text(&self) -> String {
        #[derive(serde::Deserialize)]
        struct Said {
            error: String,
        }
        let said = serde_json::from_slice::<Said>(&self.body);
        said.map_or_else(|_| String::new(), |said| said.error)
    }

    /// Appends the bytes of the response to `out`.
    pub fn write(&self, sending: Sending, out: &mut Vec<u8>) {
        let head = format!(
            "HTTP/1.1 {} {}\r\nContent-Type: {}\r\nContent-Length: {}\r\n\
             X-Content-Type-Options: nosniff\r\nCache-Control: {}\r\n",
            self.status,
            reason_phrase(self.status),
            self.content_type,
            self.body.len(),
            match self.note {
                Note::Page { caching, .. } => caching,
                _ => "no-store",
            },
        );
        out.extend_from_slice(head.as_bytes());
        match &self.note {
            Note::None => {}
            Note::Allow(methods) => {
                out.extend_from_slice(format!("Allow: {methods}\r\n").as_bytes());
            }
            Note::Authenticate | Note::WrongToken => {
                out.extend_from_slice(b"WWW-Authenticate: Bearer\r\n")
            }
            Note::Gzip => {
                out.extend_from_slice(b"Content-Encoding: gzip\r\nVary: Accept-Encoding\r\n");
            }
            Note::Page { tag, .. } => {
                let lines = format!(
                    "ETag: {tag}\r\nContent-Security-Policy: {}\r\nReferrer-Policy: no-referrer\r\n",
                    page::CONTENT_SECURITY_POLICY
                );
                out.extend_from_slice(lines.as_bytes());
            }
        }
        // A client of HTTP/1.0 that asks for keep-alive must see it confirmed.
        let connection = if sending.close { "close" } else { "keep-alive" };
        out.extend_from_slice(format!("Connection: {connection}\r\n\r\n").as_bytes());
        if !sending.head_only {
            out.extend_from_slice(&self.body);
        }
    }
}

/// Reason phrase of a status. Clients need only the number, so an unlisted status has none.
fn reason_phrase(status: u16) -> &'static str {
    match status {
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        304 => "Not Modified",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        409 => "Conflict",
        411 => "Length Required",
        413 => "Content Too Large",
        415 => "Unsupported Media Type",
        417 => "Expectation Failed",
        421 => "Misdirected Request",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        503 => "Service Unavailable",
        505 => "HTTP Version Not Supported",
        _ => "",
    }
}

/// A response under construction from the core's answer. One that names many hosts takes several
/// steps.
#[derive(Debug)]
pub struct ResponseBuilder {
    answer: Response,
    /// The body so far.
    json: Json,
    /// Hosts in the body, unknown ones included.
    written: usize,
}

impl ResponseBuilder {
    /// Begins a response.
    #[must_use]
    pub fn new(answer: Response) -> Self {
        Self {
            answer,
            json: Json::default(),
            written: 0,
        }
    }

    /// Writes at most `max` more hosts. Returns the response if these were the last.
    pub fn step(&mut self, max: usize) -> Option<HttpResponse> {
        let range = self.written..self.written.saturating_add(max);
        self.written = range.end;
        let json = &mut self.json;
        let (status, is_whole) = match &mut self.answer {
            Response::Dispatched {
                key,
                hosts,
                unknown,
            } => {
                begin(json, &range, |json| json.member("key", &*key));
                let whole = append(json, &range, hosts, unknown, |json, (host, state)| {
                    json.member(host.as_str(), state.as_str());
                });
                (201, whole)
            }
            Response::Commanded {
                cid,
                hosts,
                unknown,
            } => {
                begin(json, &range, |json| json.member("id", &*cid));
                let whole = append(json, &range, hosts, unknown, |json, (host, sent)| {
                    json.member(host.as_str(), json::sent_or_offline(*sent));
                });
                (202, whole)
            }
            Response::Command(view) => {
                begin(json, &range, |json| {
                    json.member("id", &view.cid);
                    json.member("command", &view.text);
                    json.time("created", view.created);
                });
                (
                    200,
                    append(json, &range, &view.hosts, &[], json::command_host),
                )
            }
            Response::Tasks { tasks, next } => {
                return Some(HttpResponse::object(|json| {
                    json.list("tasks", &*tasks, json::task_summary);
                    json.next(*next);
                }));
            }
            Response::Summary(view) => {
                return Some(HttpResponse::object(|json| json::summary(json, view)));
            }
            Response::Columns(columns) => (200, json::columns(json, &range, columns)),
            Response::Task(view) => {
                return Some(HttpResponse::object(|json| json::task(json, view)));
            }
            Response::Groups(view) => (200, json::groups(json, view, range.start / max.max(1))),
            Response::History(view) => {
                let whole = json::history(json, view, &range);
                (200, whole)
            }
            Response::Output(bytes) => return Some(HttpResponse::bytes(std::mem::take(bytes))),
            Response::Labels { host, labels } => {
                return Some(HttpResponse::object(|json| {
                    json.member("id", &*host);
                    let all = labels.iter();
                    json::labels(
                        json,
                        all.map(|(key, value, source)| (&**key, &**value, *source)),
                    );
                }));
            }
            Response::Hosts { hosts, next } => {
                return Some(HttpResponse::object(|json| {
                    json.list("hosts", &*hosts, json::host);
                    json.next(*next);
                }));
            }
            Response::Outside(request, found) => {
                return Some(super::outside::merged(request, found));
            }
            Response::Nodes(nodes) => {
                return Some(HttpResponse::object(|json| {
                    json.list("nodes", &*nodes, json::node);
                }));
            }
            Response::Named(hosts) => {
                let host = hosts.first().and_then(Option::as_ref);
                return Some(match host {
                    Some(view) => HttpResponse::object(|json| json::host(json, view)),
                    None => HttpResponse::error(404, UNKNOWN_HOST),
                });
            }
            Response::Planned(plan) => {
                return Some(HttpResponse::object(|json| json::plan(json, plan)));
            }
            Response::Rollout { key, rollout } => {
                return Some(HttpResponse::object(|json| {
                    json.member("key", &*key);
                    json::rollout(json, rollout);
                }));
            }
            Response::Cancelled(cancelled) => {
                return Some(HttpResponse::object(|json| {
                    json.member("key", &cancelled.key);
                    json.member("cancelled", cancelled.cancelled);
                    json.member("asked", cancelled.asked);
                    json.member("cannot", &cancelled.cannot);
                }));
            }
            Response::Forgotten { host } => {
                return Some(
                    HttpResponse::object(|json| {
                        json.member("id", &*host);
                        json.member("state", "forgotten");
                    })
                    .concerning(1),
                );
            }
            Response::Error { kind, text } => {
                return Some(HttpResponse::error(status(*kind), text));
            }
        };
        let count = self.answer.hosts();
        is_whole.then(|| HttpResponse {
            hosts: count,
            ..HttpResponse::json(status, self.json.finish())
        })
    }
}

/// Begins a document that has the object `hosts` behind the members that `write` writes.
fn begin(json: &mut Json, range: &Range<usize>, write: impl FnOnce(&mut Json)) {
    if range.start == 0 {
        json.open(b'{');
        write(json);
        json.name("hosts");
        json.open(b'{');
    }
}

/// Appends those of `hosts`, and then of `unknown`, whose numbers are in `range`. Returns whether
/// the document is complete.
fn append<T>(
    json: &mut Json,
    range: &Range<usize>,
    hosts: &[T],
    unknown: &[HostId],
    write: impl Fn(&mut Json, &T),
) -> bool {
    let known = hosts.len();
    let within = |at: usize, len: usize| at.min(len);
    for host in &hosts[within(range.start, known)..within(range.end, known)] {
        write(json, host);
    }
    if range.contains(&known) {
        json.close(b'}');
        if !unknown.is_empty() {
            json.name("unknown");
            json.open(b'[');
        }
    }
    let [start, end] = [range.start, range.end].map(|at| at.saturating_sub(known));
    for host in &unknown[within(start, unknown.len())..within(end, unknown.len())] {
        json.element(host);
    }
    let is_whole = range.end > known + unknown.len();
    if is_whole {
        if !unknown.is_empty() {
            json.close(b']');
        }
        json.close(b'}');
    }
    is_whole
}

const fn status(kind: ErrorKind) -> u16 {
    match kind {
        ErrorKind::Wrong => 400,
        ErrorKind::Unknown => 404,
        ErrorKind::Taken => 409,
        ErrorKind::NotNow => 503,
        ErrorKind::Forbidden => 403,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handlers::request::CommandView;
    use crate::ids::{HostId, TaskKey};
    use crate::store::op::{FoundHost, TaskState};
    use crate::time::UnixMs;

    fn whole(answer: Response) -> HttpResponse {
        ResponseBuilder::new(answer).step(usize::MAX).unwrap()
    }

    fn bytes(response: &HttpResponse, head_only: bool, close: bool) -> String {
        let mut out = Vec::new();
        response.write(Sending { head_only, close }, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_response_has_its_length_and_no_cors_header() {
        let response = HttpResponse::error(404, "no such \"path\"");
        let text = bytes(&response, false, false);
        assert_eq!(
            text,
            "HTTP/1.1 404 Not Found\r\nContent-Type: application/json\r\nContent-Length: 28\r\n\
             X-Content-Type-Options: nosniff\r\nCache-Control: no-store\r\n\
             Connection: keep-alive\r\n\r\n{\"error\":\"no such \\\"path\\\"\"}"
        );
    }

    #[test]
    fn head_keeps_the_length_and_drops_the_body() {
        let response = HttpResponse::error(401, "a token is needed").noting(Note::Authenticate);
        let text = bytes(&response, true, true);
        assert!(text.contains("Content-Length: 29\r\n"), "{text}");
        assert!(text.contains("WWW-Authenticate: Bearer\r\n"));
        assert!(text.ends_with("Connection: close\r\n\r\n"));
    }

    #[test]
    fn a_405_names_the_allowed_methods() {
        let response = HttpResponse::error(405, "no").noting(Note::Allow("GET, HEAD".into()));
        assert!(bytes(&response, false, false).contains("\r\nAllow: GET, HEAD\r\n"));
    }

    #[test]
    fn every_answer_has_its_status() {
        let key = TaskKey::parse("AC1", "AC").unwrap();
        let error = |kind| {
            let text = "why".to_owned();
            Response::Error { kind, text }
        };
        let cases = [
            (
                Response::Dispatched {
                    key,
                    hosts: vec![].into(),
                    unknown: vec![],
                },
                201,
                r#"{"key":"AC1","hosts":{}}"#,
            ),
            (
                Response::Tasks {
                    tasks: vec![],
                    next: Some(3),
                },
                200,
                r#"{"tasks":[],"next":"3"}"#,
            ),
            (
                Response::Commanded {
                    cid: "c1".into(),
                    hosts: vec![],
                    unknown: vec![],
                },
                202,
                r#"{"id":"c1","hosts":{}}"#,
            ),
            (error(ErrorKind::Wrong), 400, r#"{"error":"why"}"#),
            (error(ErrorKind::Unknown), 404, r#"{"error":"why"}"#),
            (error(ErrorKind::Taken), 409, r#"{"error":"why"}"#),
            (error(ErrorKind::NotNow), 503, r#"{"error":"why"}"#),
            (error(ErrorKind::Forbidden), 403, r#"{"error":"why"}"#),
        ];
        for (answer, status, body) in cases {
            let response = whole(answer);
            assert_eq!(response.status, status);
            assert_eq!(response.content_type, "application/json");
            assert_eq!(String::from_utf8(response.body).unwrap(), body);
        }
    }

    #[test]
    fn many_hosts_are_written_in_steps() {
        let host = |n: usize| HostId::checked(&format!("h{n}")).unwrap();
        let ids = |count| (0..count).map(host).collect::<Vec<_>>();
        let key = TaskKey::parse("AC1", "AC").unwrap();
        let hosts: Vec<_> = (0..7).map(|n| (host(n), TaskState::Sent)).collect();
        let sent: Vec<_> = (0..7).map(|n| (host(n), n % 2 == 0)).collect();
        let found = |n| FoundHost {
            working: (n == 3).then(|| "\u{202e}".to_owned()),
            ..FoundHost::default()
        };
        let shown = (0..7).map(|n| (host(n), true, n == 1, found(n)));
        let view = CommandView {
            cid: "c1".into(),
            text: "a\u{202e}b".into(),
            created: UnixMs(5),
            hosts: shown.collect(),
        };
        let mut answers = vec![Response::Command(Box::new(view))];
        for unknown in [0, 1, 5] {
            answers.push(Response::Dispatched {
                key: key.clone(),
                hosts: hosts.clone().into(),
                unknown: ids(unknown),
            });
            answers.push(Response::Commanded {
                cid: "c1".into(),
                hosts: sent.clone(),
                unknown: ids(unknown),
            });
        }
        for answer in answers {
            let whole = whole(answer.clone());
            for max in 1..9 {
                let mut builder = ResponseBuilder::new(answer.clone());
                let mut steps = 1;
                let response = loop {
                    match builder.step(max) {
                        Some(response) => break response,
                        None => steps += 1,
                    }
                };
                assert_eq!(response, whole);
                assert!(steps > 7 / max, "{steps} steps of {max}");
            }
        }
    }

    #[test]
    fn an_output_is_its_bytes() {
        let response = whole(Response::Output(b"\0\xff".to_vec()));
        assert_eq!(
            (response.status, response.body.as_slice()),
            (200, &b"\0\xff"[..])
        );
        assert_eq!(response.content_type, "application/octet-stream");
    }
}
