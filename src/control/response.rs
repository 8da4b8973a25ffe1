//! Replies to requests, responses and their bytes.

use std::borrow::Cow;

use serde::Serialize;

use super::json::{Command, Commanded, Dispatched, Forgotten, Task, Tasks};
use crate::escape;
use crate::handlers::ask::{Answer, Ask, ErrorKind};

/// Media type of every body except metrics, outputs and events.
const JSON: &str = "application/json";

/// The way in which a request is answered, from its route to its socket.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    /// With this response, at once.
    Now(Response),
    /// With the core's answer to this request.
    Ask(Ask),
    /// With events, until the peer disconnects.
    Follow,
}

/// A response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// The body's media type.
    pub content_type: &'static str,
    /// The header line that belongs to this status alone.
    pub note: Note,
    /// The body.
    pub body: Vec<u8>,
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
}

/// Form of a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sending {
    /// Without the body, as HEAD wants it. The length stays.
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

/// A document as it is sent: it may end up on a terminal as it is.
fn shown(json: String) -> Vec<u8> {
    match escape::escape_json(&json) {
        Cow::Borrowed(_) => json.into_bytes(),
        Cow::Owned(json) => json.into_bytes(),
    }
}

#[derive(Serialize)]
struct ErrorBody<'a> {
    error: &'a str,
}

impl Response {
    /// 200 with `value` as JSON.
    #[must_use]
    pub fn json(value: &impl Serialize) -> Self {
        Self::json_with(200, value)
    }

    /// `status` with `value` as JSON.
    #[must_use]
    pub fn json_with(status: u16, value: &impl Serialize) -> Self {
        match serde_json::to_string(value) {
            Ok(body) => Self::with_body(status, JSON, shown(body)),
            Err(error) => Self::error(500, &error.to_string()),
        }
    }

    /// `status` with JSON that may be shown as it is.
    #[must_use]
    pub fn json_text(status: u16, body: String) -> Self {
        Self::with_body(status, JSON, body.into_bytes())
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

    /// `status` with `{"error": text}`.
    #[must_use]
    pub fn error(status: u16, text: &str) -> Self {
        let body = serde_json::to_string(&ErrorBody { error: text }).unwrap_or_default();
        Self::with_body(status, JSON, shown(body))
    }

    /// The same answer with another header line.
    #[must_use]
    pub fn noting(mut self, note: Note) -> Self {
        self.note = note;
        self
    }

    fn with_body(status: u16, content_type: &'static str, body: Vec<u8>) -> Self {
        Self {
            status,
            content_type,
            note: Note::None,
            body,
        }
    }

    /// Appends the answer's bytes to `out`.
    pub fn write(&self, sending: Sending, out: &mut Vec<u8>) {
        let head = format!(
            "HTTP/1.1 {} {}\r\nContent-Type: {}\r\nContent-Length: {}\r\n\
             X-Content-Type-Options: nosniff\r\nCache-Control: no-store\r\n",
            self.status,
            reason_phrase(self.status),
            self.content_type,
            self.body.len(),
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
        }
        // Sent in both cases: a client of HTTP/1.0 that asked for keep-alive must see it confirmed.
        let connection = if sending.close { "close" } else { "keep-alive" };
        out.extend_from_slice(format!("Connection: {connection}\r\n\r\n").as_bytes());
        if !sending.head_only {
            out.extend_from_slice(&self.body);
        }
    }
}

/// The words behind a status code. A client needs only the number, so an unlisted one has none.
fn reason_phrase(status: u16) -> &'static str {
    match status {
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
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

impl From<Answer> for Response {
    fn from(answer: Answer) -> Self {
        match answer {
            Answer::Dispatched {
                key,
                hosts,
                unknown,
            } => Self::json_with(201, &Dispatched::of(&key, &hosts, &unknown)),
            Answer::Tasks { tasks, next } => Self::json(&Tasks::of(&tasks, next)),
            Answer::Task(view) => Self::json(&Task::of(&view)),
            Answer::Output(bytes) => Self::bytes(bytes),
            Answer::Commanded {
                cid,
                hosts,
                unknown,
            } => Self::json_with(202, &Commanded::of(&cid, &hosts, &unknown)),
            Answer::Forgotten { host } => Self::json(&Forgotten::of(&host)),
            Answer::Command(view) => Self::json(&Command::of(&view)),
            Answer::Error { kind, text } => Self::error(status(kind), &text),
        }
    }
}

/// A response under construction from the core's answer. One that names many hosts takes several steps.
#[derive(Debug)]
pub struct ResponseBuilder {
    /// None once the response is complete.
    answer: Option<Answer>,
    /// Hosts in the body.
    hosts: usize,
    /// Unknown hosts in the body.
    unknown: usize,
    /// The body so far.
    body: String,
}

impl ResponseBuilder {
    /// Begins a response.
    #[must_use]
    pub fn new(answer: Answer) -> Self {
        Self {
            answer: Some(answer),
            hosts: 0,
            unknown: 0,
            body: String::new(),
        }
    }

    /// Writes at most `max` more hosts. Returns the response if these were the last.
    pub fn step(&mut self, max: usize) -> Option<Response> {
        let is_long = match self.answer.as_ref()? {
            Answer::Dispatched { hosts, .. } => hosts.len() > max,
            Answer::Commanded { hosts, .. } => hosts.len() > max,
            Answer::Command(view) => view.hosts.len() > max,
            _ => false,
        };
        if !is_long {
            return self.answer.take().map(Response::from);
        }
        match self.write_some(max) {
            Ok(None) => None,
            Ok(Some(status)) => {
                self.answer = None;
                Some(Response::json_text(status, std::mem::take(&mut self.body)))
            }
            Err(error) => {
                self.answer = None;
                Some(Response::error(500, &error.to_string()))
            }
        }
    }

    /// Writes the beginning, some hosts, or the end. Returns the status once the body is complete.
    fn write_some(&mut self, max: usize) -> serde_json::Result<Option<u16>> {
        let body = &mut self.body;
        let next = |from: usize, len: usize| from..len.min(from + max);
        let (status, members, count, unknown) = match &self.answer {
            Some(Answer::Dispatched {
                key,
                hosts,
                unknown,
            }) => {
                begin(body, &Dispatched::of(key, &[], &[]))?;
                let some = &hosts[next(self.hosts, hosts.len())];
                let members = Dispatched::states(some).members()?;
                (201, members, some.len(), unknown.as_slice())
            }
            Some(Answer::Commanded {
                cid,
                hosts,
                unknown,
            }) => {
                begin(body, &Commanded::of(cid, &[], &[]))?;
                let some = &hosts[next(self.hosts, hosts.len())];
                let members = Commanded::states(some).members()?;
                (202, members, some.len(), unknown.as_slice())
            }
            Some(Answer::Command(view)) => {
                begin(body, &Command::with(view, &[]))?;
                let some = &view.hosts[next(self.hosts, view.hosts.len())];
                let members = Command::hosts(some).members()?;
                (200, members, some.len(), [].as_slice())
            }
            _ => return Ok(Some(500)),
        };
        if count > 0 {
            body.push_str(if self.hosts == 0 { "" } else { "," });
            body.push_str(&escape::escape_json(&members));
            self.hosts += count;
            return Ok(None);
        }
        let some = &unknown[next(self.unknown, unknown.len())];
        if !some.is_empty() {
            let text = serde_json::to_string(some)?;
            body.push_str(if self.unknown == 0 {
                "},\"unknown\":["
            } else {
                ","
            });
            body.push_str(&text[1..text.len() - 1]);
            self.unknown += some.len();
            return Ok(None);
        }
        body.push_str(if unknown.is_empty() { "}}" } else { "]}" });
        Ok(Some(status))
    }
}

/// Begins a body with the document `empty`, which has no hosts, without its end.
fn begin(body: &mut String, empty: &impl Serialize) -> serde_json::Result<()> {
    if body.is_empty() {
        *body = escape::escape_json(&serde_json::to_string(empty)?).into_owned();
        body.truncate(body.len() - "}}".len());
    }
    Ok(())
}

const fn status(kind: ErrorKind) -> u16 {
    match kind {
        ErrorKind::Wrong => 400,
        ErrorKind::Unknown => 404,
        ErrorKind::Taken => 409,
        ErrorKind::NotNow => 503,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handlers::ask::CommandView;
    use crate::ids::{HostId, TaskKey};
    use crate::store::op::{FoundHost, TaskState};
    use crate::time::UnixMs;

    fn bytes(response: &Response, head_only: bool, close: bool) -> String {
        let mut out = Vec::new();
        response.write(Sending { head_only, close }, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_response_has_its_length_and_no_cors_header() {
        let response = Response::error(404, "no such \"path\"");
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
        let response = Response::error(401, "a token is needed").noting(Note::Authenticate);
        let text = bytes(&response, true, true);
        assert!(text.contains("Content-Length: 29\r\n"), "{text}");
        assert!(text.contains("WWW-Authenticate: Bearer\r\n"));
        assert!(text.ends_with("Connection: close\r\n\r\n"));
    }

    #[test]
    fn a_405_names_the_allowed_methods() {
        let response = Response::error(405, "no").noting(Note::Allow("GET, HEAD".into()));
        assert!(bytes(&response, false, false).contains("\r\nAllow: GET, HEAD\r\n"));
    }

    #[test]
    fn every_answer_has_its_status() {
        let key = TaskKey::parse("AC1", "AC").unwrap();
        let error = |kind| {
            let text = "why".to_owned();
            Answer::Error { kind, text }
        };
        let cases = [
            (
                Answer::Dispatched {
                    key,
                    hosts: vec![],
                    unknown: vec![],
                },
                201,
                r#"{"key":"AC1","hosts":{}}"#,
            ),
            (
                Answer::Tasks {
                    tasks: vec![],
                    next: Some(3),
                },
                200,
                r#"{"tasks":[],"next":"3"}"#,
            ),
            (
                Answer::Commanded {
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
        ];
        for (answer, status, body) in cases {
            let response = Response::from(answer);
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
        let mut answers = vec![Answer::Command(Box::new(view))];
        for unknown in [0, 1, 5] {
            answers.push(Answer::Dispatched {
                key: key.clone(),
                hosts: hosts.clone(),
                unknown: ids(unknown),
            });
            answers.push(Answer::Commanded {
                cid: "c1".into(),
                hosts: sent.clone(),
                unknown: ids(unknown),
            });
        }
        for answer in answers {
            let whole = Response::from(answer.clone());
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
                assert!(max >= 7 || steps > 7 / max, "{steps} steps of {max}");
                assert_eq!(builder.step(max), None);
            }
        }
    }

    #[test]
    fn an_output_is_its_bytes() {
        let response = Response::from(Answer::Output(b"\0\xff".to_vec()));
        assert_eq!(
            (response.status, response.body.as_slice()),
            (200, &b"\0\xff"[..])
        );
        assert_eq!(response.content_type, "application/octet-stream");
    }
}
