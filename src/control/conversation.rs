//! One HTTP connection: bytes arrive in any pieces, and whole requests are answered one at a time.
//!
//! ```text
//!  take(bytes) ──▶ input ──▶ step ──▶ More        read on
//!                                 ├─▶ Working     step again: a long body is read in several steps
//!                                 ├─▶ Continue    send [`CONTINUE`]: the peer waits before its body
//!                                 └─▶ Reply       a response goes to `respond`, then step again;
//!                                                 after `Follow` nothing more is stepped
//! ```
//!
//! The memory is bounded by a head, a body and one read: the caller reads only after
//! [`Step::More`].

use super::HttpContext;
use super::audit::{Audited, Draft};
use super::body::BodyReader;
use super::guard::{Caller, HttpRules, RequestGuard};
use super::request;
use super::response::{HttpResponse, Reply, Sending};
use super::routes::{self, Route};
use crate::limits::HTTP_BODY_STEP_BYTES;

/// The interim response that asks a peer for its body.
pub const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// The bytes of one connection that have not been answered yet.
#[derive(Debug, Default)]
pub struct Conversation {
    input: Vec<u8>,
    /// The connection ends with the next response.
    is_last: bool,
    /// Form of the response that is awaited.
    sending: Option<Sending>,
    /// The rest of the current request, once its head has been admitted.
    body: Option<Body>,
    /// The peer of the last request takes a compressed body.
    accepts_gzip: bool,
    /// Sender of the last admitted request.
    caller: Caller,
    /// Record of the request, if it changes something.
    draft: Option<Draft>,
    /// Records of answered requests that change something: at most one between two steps.
    audited: Option<Audited>,
}

/// The body of an admitted request.
#[derive(Debug)]
struct Body {
    route: Route,
    /// Bytes that have not been read.
    left: usize,
    /// Reader of a body that makes a request. Another body is dropped.
    reader: Result<Option<BodyReader>, HttpResponse>,
}

/// Result of a step.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// More of the request has to arrive.
    More,
    /// The request is long: it takes another step, which needs nothing from the peer.
    Working,
    /// The peer waits for [`CONTINUE`] before it sends the body.
    Continue,
    /// A request is answered so. No step follows before [`Conversation::respond`].
    Reply(Reply),
}

impl Conversation {
    /// Returns whether no byte of a request has arrived.
    #[must_use]
    pub fn is_silent(&self) -> bool {
        self.input.is_empty() && self.body.is_none()
    }

    /// The connection ends with the next response, whatever the peer wants.
    pub fn end_after_next(&mut self) {
        self.is_last = true;
    }

    /// Sender of the last admitted request.
    #[must_use]
    pub fn caller(&self) -> &Caller {
        &self.caller
    }

    /// The peer of the last request takes a compressed body.
    #[must_use]
    pub fn accepts_gzip(&self) -> bool {
        self.accepts_gzip
    }

    /// Takes bytes that were read.
    pub fn take(&mut self, bytes: &[u8]) {
        self.input.extend_from_slice(bytes);
    }

    /// Answers the next request if it is whole. `number` is random, in every step another.
    pub fn step(
        &mut self,
        guard: &RequestGuard<'_>,
        context: &HttpContext<'_>,
        number: u128,
    ) -> Step {
        if self.body.is_some() {
            return self.read_body(context, guard.rules);
        }
        let (head, head_len) = match request::parse(&self.input) {
            Ok(Some(parsed)) => parsed,
            Ok(None) => return Step::More,
            Err(refusal) => {
                self.forget(usize::MAX);
                return Step::Reply(Reply::Now(refusal));
            }
        };
        let total = head_len + head.body_len;
        let mut sending = Sending {
            head_only: head.is_head(),
            close: head.close || self.is_last,
        };
        self.accepts_gzip = head.accepts_gzip;
        let draft = &mut self.draft;
        *draft = Draft::of(&head);
        let admitted = guard.judge(&head).and_then(|caller| {
            let found = routes::find(&head);
            if let Some(draft) = draft {
                draft.admitted(&caller, head.method, found.as_ref().ok());
            }
            let route = found?;
            caller.check(route.role())?;
            self.caller = caller;
            Ok(route)
        });
        let route = match admitted {
            Ok(route) => route,
            Err(refusal) => {
                // Its body is not waited for, so the beginning of the next request is not known.
                sending.close |= head.body_len > 0;
                self.sending = Some(sending);
                self.forget(total);
                return Step::Reply(Reply::Now(refusal));
            }
        };
        self.sending = Some(sending);
        let waits = head.expects_continue && self.input.len() == head_len && head.body_len > 0;
        self.body = Some(Body {
            left: head.body_len,
            reader: route.reader(number),
            route,
        });
        self.forget_bytes(head_len);
        match waits {
            true => Step::Continue,
            false => self.read_body(context, guard.rules),
        }
    }

    /// Reads a part of the body, and answers the request with the last one.
    fn read_body(&mut self, context: &HttpContext<'_>, rules: &HttpRules) -> Step {
        let Some(body) = &mut self.body else {
            return Step::More;
        };
        let len = self.input.len().min(body.left).min(HTTP_BODY_STEP_BYTES);
        if let Ok(Some(reader)) = &mut body.reader {
            reader.take(&self.input[..len]);
        }
        body.left -= len;
        let (left, is_all) = (body.left, len == self.input.len());
        self.forget_bytes(len);
        match self.body.take_if(|_| left == 0) {
            None if is_all => Step::More,
            None => Step::Working,
            Some(Body { route, reader, .. }) => self.reply(match reader {
                Ok(None) => route.handle(context, rules),
                Ok(Some(reader)) => {
                    let request = reader.finish(&rules.instructions);
                    request.map_or_else(Reply::Now, Reply::Ask)
                }
                Err(refusal) => Reply::Now(refusal),
            }),
        }
    }

    fn reply(&mut self, reply: Reply) -> Step {
        if let Reply::Follow = reply {
            self.forget(usize::MAX);
        }
        Step::Reply(match (reply, &mut self.draft) {
            (Reply::Ask(request), Some(draft)) => {
                // One that changes something.
                draft.on_request(&request);
                self.caller.ask(request)
            }
            (reply, _) => reply,
        })
    }

    /// Appends the awaited response to `out`. Returns whether the connection ends with it.
    pub fn respond(&mut self, response: &HttpResponse, out: &mut Vec<u8>) -> bool {
        let sending = self.sending.take().unwrap_or(Sending::LAST);
        response.write(sending, out);
        self.note_audit(response);
        sending.close
    }

    /// Takes the record of a request that has been answered since the last call, if it changes
    /// something.
    pub fn take_audited(&mut self) -> Option<Audited> {
        self.audited.take()
    }

    /// Ends without a response. The request may have changed something all the same.
    pub fn abandon(&mut self) {
        if self.sending.is_some() {
            let response = HttpResponse::error(500, "the connection ended before the answer");
            self.note_audit(&response);
        }
    }

    fn note_audit(&mut self, response: &HttpResponse) {
        let draft = self.draft.take();
        let ended = draft.map(|draft| draft.ended(response));
        self.audited = ended.or(self.audited.take());
    }

    /// Appends a response to `out` after which no further request is read.
    pub fn refuse(&mut self, refusal: &HttpResponse, out: &mut Vec<u8>) {
        let sending = self.sending.take().unwrap_or(Sending::LAST);
        refusal.write(
            Sending {
                close: true,
                ..sending
            },
            out,
        );
        self.note_audit(refusal);
        self.forget(usize::MAX);
    }

    /// Ends the current request, and drops the first `len` bytes.
    fn forget(&mut self, len: usize) {
        self.body = None;
        self.forget_bytes(len);
    }

    /// Drops the first `len` bytes, and with the last of them the memory.
    fn forget_bytes(&mut self, len: usize) {
        if len >= self.input.len() {
            self.input = Vec::new();
        } else {
            self.input.drain(..len);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::HttpRules;
    use crate::control::testing::{Ants, context};
    use crate::limits::{HTTP_BODY_BYTES_MAX, HTTP_HEAD_BYTES_MAX};
    use proptest::prelude::*;

    /// Feeds `pieces` to a fresh conversation as a connection would, until it is closed. Returns
    /// the status of each response and whether the connection ends with it (100 for `Continue`).
    fn talk<'p>(pieces: impl IntoIterator<Item = &'p [u8]>) -> (Vec<(u16, bool)>, String) {
        let ants = Ants::with_hosts(3);
        let rules = HttpRules::default();
        let bound = "127.0.0.1:11480".parse().unwrap();
        let guard = RequestGuard {
            rules: &rules,
            bound,
            local: bound,
        };
        let (mut out, mut answers) = (Vec::new(), Vec::new());
        let mut conversation = Conversation::default();
        for piece in pieces {
            conversation.take(piece);
            loop {
                let response = match conversation.step(&guard, &context(&ants), 1) {
                    Step::More => break,
                    Step::Working => continue,
                    Step::Continue => {
                        out.extend_from_slice(CONTINUE);
                        answers.push((100, false));
                        continue;
                    }
                    Step::Reply(Reply::Now(response)) => response,
                    Step::Reply(Reply::Ask(_)) => HttpResponse::error(409, "taken"),
                    Step::Reply(Reply::Follow) => HttpResponse::error(503, "too many"),
                };
                let close = conversation.respond(&response, &mut out);
                answers.push((response.status, close));
                if close {
                    return (answers, String::from_utf8(out).unwrap());
                }
            }
        }
        (answers, String::from_utf8(out).unwrap())
    }

    const CONVERSATIONS: [&[u8]; 7] = [
        b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n\r\nHEAD /v1/hosts HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\nGET / HTTP/1.1",
        b"GET /v1/hosts HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nabcdeGET /nothing HTTP/1.0\r\n\r\n",
        b"GET /v1/hosts HTTP/1.1\r\nHost: elsewhere\r\n\r\nGET /readyz HTTP/1.1\nHost: localhost\n\n",
        b"POST /v1/tasks HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}",
        b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"\x16\x03\x01 this is no HTTP at all\r\n\r\n",
    ];

    #[test]
    fn requests_are_answered_in_order_until_a_close() {
        let steps: Vec<_> = CONVERSATIONS.iter().map(|text| talk([*text]).0).collect();
        assert_eq!(steps[0], [(200, false)]);
        assert_eq!(steps[1], [(200, false), (200, true)]);
        assert_eq!(steps[2], [(200, false), (404, true)]);
        assert_eq!(steps[3], [(421, false), (200, false)]);
        assert_eq!(steps[4], [(400, false)]);
        assert_eq!(steps[5], [(411, true)]);
        assert_eq!(steps[6], [(400, true)]);
    }

    #[test]
    fn any_cut_of_the_bytes_gets_the_same_answers() {
        for text in CONVERSATIONS {
            let whole = talk([text]);
            assert_eq!(talk(text.chunks(1)), whole);
            for at in 0..text.len() {
                let (head, tail) = text.split_at(at);
                assert_eq!(talk([head, tail]), whole, "cut at {at}");
            }
        }
    }

    #[test]
    fn head_has_the_length_and_not_the_body() {
        let body = |method: &str| {
            let text = format!("{method} /v1/hosts/h-1 HTTP/1.1\r\nHost: localhost\r\n\r\n");
            talk([text.as_bytes()]).1
        };
        let get = body("GET");
        let (head, json) = get.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("Content-Length: {}", json.len())));
        assert_eq!(body("HEAD"), format!("{head}\r\n\r\n"));
        assert!(!get.contains("Access-Control"));
    }

    #[test]
    fn a_peer_that_waits_is_asked_for_its_body() {
        let head = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\
            Expect: 100-continue\r\n\r\n";
        let (steps, text) = talk([head.as_slice(), b"{", b"}"]);
        assert_eq!(steps, [(100, false), (200, false)]);
        assert!(text.starts_with("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n"));
        // A peer that did not wait needs no `100 Continue`.
        let all = [head.as_slice(), b"{}"].concat();
        assert_eq!(talk([all.as_slice()]).0, [(200, false)]);
    }

    #[test]
    fn a_refused_head_has_no_body_read() {
        let cases = [
            (format!("Content-Length: {}", HTTP_BODY_BYTES_MAX + 1), 413),
            ("Content-Length: 9\r\nOrigin: http://evil".into(), 403),
            ("Content-Length: 9\r\nExpect: 100-continue".into(), 405),
            (format!("X: {}", "x".repeat(HTTP_HEAD_BYTES_MAX)), 431),
        ];
        for (lines, status) in cases {
            let text = format!("PUT /healthz HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n\r\n");
            assert_eq!(talk([text.as_bytes()]).0, [(status, true)], "{lines}");
        }
    }

    #[test]
    fn an_allowed_body_is_dropped_after_its_request() {
        let head = format!(
            "GET /healthz HTTP/1.1\r\nHost: localhost\r\nContent-Length: {HTTP_BODY_BYTES_MAX}\r\n\r\n"
        );
        let body = vec![b'\n'; HTTP_BODY_BYTES_MAX];
        let next = b"GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n";
        let pieces = std::iter::once(head.as_bytes()).chain(body.chunks(16 * 1024));
        let (steps, _) = talk(pieces.chain([next.as_slice()]));
        assert_eq!(steps, [(200, false), (200, false)]);
    }

    /// A task for as many hosts as a body names, and its parts with spaces between them.
    fn long_task() -> String {
        let mut body = r#"{"key":"AC1","commands":{"x":1},"hosts":["#.to_owned();
        while body.len() < HTTP_BODY_BYTES_MAX / 2 {
            body.push_str("\"host-1\",  ");
        }
        body.push_str("\"host-1\"");
        body.push_str(&" ".repeat(HTTP_BODY_BYTES_MAX - body.len() - 2));
        body + "]}"
    }

    /// Bytes of `body` that the largest step reads, with the bytes in memory after it, if the body
    /// arrives in pieces of `max` bytes.
    fn largest_step(body: &str, max: usize) -> (usize, usize) {
        let ants = Ants::with_hosts(1);
        let rules = HttpRules::default();
        let bound = "127.0.0.1:11480".parse().unwrap();
        let guard = RequestGuard {
            rules: &rules,
            bound,
            local: bound,
        };
        let mut conversation = Conversation::default();
        let head = format!(
            "POST /v1/tasks HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n",
            body.len()
        );
        conversation.take(head.as_bytes());
        assert_eq!(conversation.step(&guard, &context(&ants), 1), Step::More);
        let (mut read, mut held) = (0, 0);
        let mut pieces = body.as_bytes().chunks(max);
        loop {
            let left = |c: &Conversation| c.body.as_ref().map_or(0, |body| body.left);
            let before = left(&conversation);
            let step = conversation.step(&guard, &context(&ants), 1);
            read = read.max(before - left(&conversation));
            match step {
                Step::More => {
                    held = held.max(conversation.input.len());
                    conversation.take(pieces.next().unwrap());
                }
                Step::Working => {}
                Step::Reply(Reply::Ask(_)) => return (read, held),
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn a_long_body_is_read_as_it_arrives() {
        let body = long_task();
        assert_eq!(body.len(), HTTP_BODY_BYTES_MAX);
        assert_eq!(largest_step(&body, 16 * 1024), (16 * 1024, 0));
        assert_eq!(largest_step(&body, usize::MAX), (HTTP_BODY_STEP_BYTES, 0));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn damaged_bytes_cut_anywhere_never_panic(
            which in 0..CONVERSATIONS.len(),
            damage in proptest::collection::vec((0usize..400, any::<u8>()), 0..4),
            cut in 0usize..400,
        ) {
            let mut text = CONVERSATIONS[which].to_vec();
            for (at, byte) in damage {
                let at = at % text.len();
                text[at] = byte;
            }
            let (head, tail) = text.split_at(cut % text.len());
            prop_assert_eq!(talk([head, tail]), talk([text.as_slice()]));
        }
    }
}
