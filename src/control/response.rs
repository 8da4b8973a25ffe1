//! An answer: its status, its body, and how it is put into bytes.

use std::borrow::Cow;

use serde::Serialize;

use crate::escape;

/// The type of everything but the metrics, outputs and events.
const JSON: &str = "application/json";

/// An answer over HTTP.
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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Note {
    /// None.
    None,
    /// With 405: the methods that would do.
    Allow(&'static str),
    /// With 401: how to authenticate.
    Authenticate,
    /// The same where a token was given, and is not the one.
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
        match self.note {
            Note::None => {}
            Note::Allow(methods) => {
                out.extend_from_slice(format!("Allow: {methods}\r\n").as_bytes());
            }
            Note::Authenticate | Note::WrongToken => {
                out.extend_from_slice(b"WWW-Authenticate: Bearer\r\n")
            }
        }
        // Sent in both cases: a client of HTTP/1.0 that asked for keep-alive must see it confirmed.
        out.extend_from_slice(match sending.close {
            true => b"Connection: close\r\n\r\n",
            false => b"Connection: keep-alive\r\n\r\n",
        });
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

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(response: &Response, head_only: bool, close: bool) -> String {
        let mut out = Vec::new();
        response.write(Sending { head_only, close }, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn an_answer_has_its_length_and_never_a_cors_header() {
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
    fn methods_that_would_do_are_named() {
        let response = Response::error(405, "no").noting(Note::Allow("GET, HEAD"));
        assert!(bytes(&response, false, false).contains("\r\nAllow: GET, HEAD\r\n"));
    }
}
