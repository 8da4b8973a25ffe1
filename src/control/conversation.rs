//! One HTTP connection: bytes arrive in any pieces, and whole requests are answered one at a time.
//!
//! ```text
//!  take(bytes) ──▶ input ──▶ step ──▶ More        read on
//!                                 ├─▶ Working     step again: a long body is read in several
//!                                 ├─▶ Continue    100 Continue, for a peer that waits before its body
//!                                 ├─▶ Answered    write this out first, then step again
//!                                 ├─▶ Asked       the core's answer goes to `answer`
//!                                 └─▶ Follow      events, and nothing else any more
//! ```
//!
//! The memory is bounded by a head, a body and one read: the caller reads only after [`Step::More`].

use super::HttpContext;
use super::body::{Begun, Reading};
use super::guard::RequestGuard;
use super::http::{self, Head};
use super::response::{Note, Response, Sending};
use super::routes::{self, Outcome, Route};
use crate::handlers::ask::Ask;
use crate::limits::{BODY_BYTES_AT_ONCE_MAX, HOSTS_SHOWN_PER_STEP_MAX};

/// The bytes of one connection that have not been answered yet.
#[derive(Debug, Default)]
pub struct Conversation {
    input: Vec<u8>,
    /// Bytes of the request under way, head and body, once its head has been let in.
    total: Option<usize>,
    /// The connection ends with the next response.
    is_last: bool,
    /// Form of the response that the core will give.
    asked: Option<Sending>,
    /// A long body that is being read, and how its answer is to be sent.
    reading: Option<(Reading, Sending)>,
}

/// Result of a step.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Nothing was written. More of the request has to come.
    More,
    /// Nothing was written. The request is long: it takes another step, which needs nothing from the peer.
    Working,
    /// The peer was asked to send its body.
    Continue,
    /// A request was answered.
    Answered {
        /// With this status.
        status: u16,
        /// The connection ends with it.
        close: bool,
        /// The request had a wrong token.
        wrong_token: bool,
    },
    /// This is to be asked of the core; [`Conversation::answer`] takes the answer. Nothing is to be
    /// stepped before.
    Asked(Ask),
    /// The peer wants the events. It says nothing more that counts.
    Follow,
}

impl Conversation {
    /// A connection that has said nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns whether no byte of a request has arrived.
    #[must_use]
    pub fn is_silent(&self) -> bool {
        self.input.is_empty() && self.reading.is_none()
    }

    /// The connection ends with the next answer, whatever the peer wants.
    pub fn end_after_next(&mut self) {
        self.is_last = true;
    }

    /// Takes what was read.
    pub fn take(&mut self, bytes: &[u8]) {
        self.input.extend_from_slice(bytes);
    }

    /// Answers the next request if it is whole, appending the answer to `out`. `number` is random, in
    /// every step another.
    pub fn step(
        &mut self,
        guard: &RequestGuard<'_>,
        context: &HttpContext<'_>,
        number: u128,
        out: &mut Vec<u8>,
    ) -> Step {
        if let Some((reading, sending)) = self.reading.take() {
            return self.go_on(reading, sending, out);
        }
        if self.total.is_some_and(|total| self.input.len() < total) {
            return Step::More;
        }
        let (head, head_len) = match http::parse(&self.input) {
            Ok(Some(parsed)) => parsed,
            Ok(None) => return Step::More,
            Err(refusal) => {
                self.refuse(&refusal, out);
                return Step::Answered {
                    status: refusal.status,
                    close: true,
                    wrong_token: false,
                };
            }
        };
        let total = head_len + head.body_len;
        let mut sending = Sending {
            head_only: head.is_head(),
            close: head.close || self.is_last,
        };
        let response = match admit(&head, guard) {
            Ok(_) if self.input.len() < total => {
                let waits = head.expects_continue && self.input.len() == head_len;
                return self.wait_for(total, waits, out);
            }
            Ok(route) => {
                let body = &self.input[head_len..total];
                if body.len() > BODY_BYTES_AT_ONCE_MAX
                    && let Some(begun) = routes::begin(&route, body, guard.rules, number)
                {
                    self.forget(total);
                    return self.begun(begun, sending, out);
                }
                match routes::act(route, body, context, guard.rules, number) {
                    Outcome::Answer(response) => response,
                    Outcome::Ask(ask) => {
                        self.asked = Some(sending);
                        self.forget(total);
                        return Step::Asked(ask);
                    }
                    Outcome::Follow => {
                        self.forget(usize::MAX);
                        return Step::Follow;
                    }
                }
            }
            Err(refusal) => {
                // Its body is not waited for, so where the next request begins is never reached.
                sending.close |= head.body_len > 0;
                refusal
            }
        };
        response.write(sending, out);
        self.forget(total);
        Step::Answered {
            status: response.status,
            close: sending.close,
            wrong_token: response.note == Note::WrongToken,
        }
    }

    /// The beginning of a long body has been read.
    fn begun(
        &mut self,
        begun: Result<Begun, Response>,
        sending: Sending,
        out: &mut Vec<u8>,
    ) -> Step {
        match begun {
            Ok(Begun::Partly(reading)) => {
                self.reading = Some((reading, sending));
                Step::Working
            }
            Ok(Begun::Whole(ask)) => {
                self.asked = Some(sending);
                Step::Asked(ask)
            }
            Err(refusal) => {
                refusal.write(sending, out);
                Step::Answered {
                    status: refusal.status,
                    close: sending.close,
                    wrong_token: false,
                }
            }
        }
    }

    /// Reads some more of a long body.
    fn go_on(&mut self, mut reading: Reading, sending: Sending, out: &mut Vec<u8>) -> Step {
        let begun = match reading.step(HOSTS_SHOWN_PER_STEP_MAX) {
            Ok(None) => Ok(Begun::Partly(reading)),
            Ok(Some(ask)) => Ok(Begun::Whole(ask)),
            Err(refusal) => Err(refusal),
        };
        self.begun(begun, sending, out)
    }

    /// The answer to what was [`Asked`](Step::Asked). Whether the connection ends with it.
    pub fn answer(&mut self, response: &Response, out: &mut Vec<u8>) -> bool {
        let sending = self.asked.take().unwrap_or(Sending {
            head_only: false,
            close: true,
        });
        response.write(sending, out);
        sending.close
    }

    /// An answer after which nothing the peer says is read any more.
    pub fn refuse(&mut self, refusal: &Response, out: &mut Vec<u8>) {
        let asked = self.asked.take();
        let sending = Sending {
            head_only: asked.is_some_and(|asked| asked.head_only),
            close: true,
        };
        refusal.write(sending, out);
        self.forget(usize::MAX);
    }

    fn wait_for(&mut self, total: usize, waits: bool, out: &mut Vec<u8>) -> Step {
        self.total = Some(total);
        if !waits {
            return Step::More;
        }
        out.extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
        Step::Continue
    }

    /// Drops the first `len` bytes, and with the last of them the memory.
    fn forget(&mut self, len: usize) {
        self.total = None;
        if len >= self.input.len() {
            self.input = Vec::new();
        } else {
            self.input.drain(..len);
        }
    }
}

/// Everything that can be said from the head alone.
fn admit(head: &Head<'_>, guard: &RequestGuard<'_>) -> Result<Route, Response> {
    guard.judge(head)?;
    routes::find(head)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::HttpRules;
    use crate::control::testing::{Ants, context};
    use crate::limits::{HTTP_BODY_BYTES_MAX, HTTP_HEAD_BYTES_MAX};
    use proptest::prelude::*;

    /// Feeds `pieces` to a fresh conversation as a connection would, until it is closed.
    fn talk<'p>(pieces: impl IntoIterator<Item = &'p [u8]>) -> (Vec<Step>, String) {
        let ants = Ants::with_hosts(3);
        let rules = HttpRules::default();
        let bound = "127.0.0.1:11480".parse().unwrap();
        let guard = RequestGuard {
            rules: &rules,
            bound,
            local: bound,
        };
        let (mut out, mut steps) = (Vec::new(), Vec::new());
        let mut conversation = Conversation::new();
        for piece in pieces {
            conversation.take(piece);
            loop {
                match conversation.step(&guard, &context(&ants), 1, &mut out) {
                    Step::More => break,
                    Step::Working => {}
                    Step::Asked(_) => {
                        let answer = Response::error(409, "taken");
                        let close = conversation.answer(&answer, &mut out);
                        steps.push(answered(409, close));
                    }
                    step => steps.push(step),
                }
                if matches!(steps.last(), Some(Step::Answered { close: true, .. })) {
                    return (steps, String::from_utf8(out).unwrap());
                }
            }
        }
        (steps, String::from_utf8(out).unwrap())
    }

    fn answered(status: u16, close: bool) -> Step {
        Step::Answered {
            status,
            close,
            wrong_token: false,
        }
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
    fn requests_are_answered_in_order_and_a_close_ends_it() {
        let steps: Vec<_> = CONVERSATIONS.iter().map(|text| talk([*text]).0).collect();
        assert_eq!(steps[0], [answered(200, false)]);
        assert_eq!(steps[1], [answered(200, false), answered(200, true)]);
        assert_eq!(steps[2], [answered(200, false), answered(404, true)]);
        assert_eq!(steps[3], [answered(421, false), answered(200, false)]);
        assert_eq!(steps[4], [answered(400, false)]);
        assert_eq!(steps[5], [answered(411, true)]);
        assert_eq!(steps[6], [answered(400, true)]);
    }

    #[test]
    fn however_the_bytes_are_cut_the_answers_are_the_same() {
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
    fn who_waits_before_its_body_is_told_to_go_on() {
        let head = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\
            Expect: 100-continue\r\n\r\n";
        let (steps, text) = talk([head.as_slice(), b"{", b"}"]);
        assert_eq!(steps, [Step::Continue, answered(200, false)]);
        assert!(text.starts_with("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n"));
        // A peer that did not wait needs no `100 Continue`.
        let all = [head.as_slice(), b"{}"].concat();
        assert_eq!(talk([all.as_slice()]).0, [answered(200, false)]);
    }

    #[test]
    fn what_is_refused_by_its_head_is_not_waited_for() {
        let cases = [
            (format!("Content-Length: {}", HTTP_BODY_BYTES_MAX + 1), 413),
            ("Content-Length: 9\r\nOrigin: http://evil".into(), 403),
            ("Content-Length: 9\r\nExpect: 100-continue".into(), 405),
            (format!("X: {}", "x".repeat(HTTP_HEAD_BYTES_MAX)), 431),
        ];
        for (lines, status) in cases {
            let text = format!("PUT /healthz HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n\r\n");
            assert_eq!(
                talk([text.as_bytes()]).0,
                [answered(status, true)],
                "{lines}"
            );
        }
    }

    #[test]
    fn a_body_that_is_allowed_is_taken_and_nothing_of_it_kept() {
        let head = format!(
            "GET /healthz HTTP/1.1\r\nHost: localhost\r\nContent-Length: {HTTP_BODY_BYTES_MAX}\r\n\r\n"
        );
        let body = vec![b'\n'; HTTP_BODY_BYTES_MAX];
        let next = b"GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n";
        let pieces = std::iter::once(head.as_bytes()).chain(body.chunks(16 * 1024));
        let (steps, _) = talk(pieces.chain([next.as_slice()]));
        assert_eq!(steps, [answered(200, false), answered(200, false)]);
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
