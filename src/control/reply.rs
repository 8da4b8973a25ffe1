//! HTTP responses for the core's answers.

use serde::Serialize;

use super::json::{Command, Commanded, Dispatched, Forgotten, Task, Tasks};
use super::response::Response;
use crate::escape;
use crate::handlers::ask::{Answer, ErrorKind};

/// `answer` over HTTP.
#[must_use]
pub fn of(answer: Answer) -> Response {
    match answer {
        Answer::Dispatched {
            key,
            hosts,
            unknown,
        } => Response::json_with(201, &Dispatched::of(&key, &hosts, &unknown)),
        Answer::Tasks { tasks, next } => Response::json(&Tasks::of(&tasks, next)),
        Answer::Task(view) => Response::json(&Task::of(&view)),
        Answer::Output(bytes) => Response::bytes(bytes),
        Answer::Commanded {
            cid,
            hosts,
            unknown,
        } => Response::json_with(202, &Commanded::of(&cid, &hosts, &unknown)),
        Answer::Forgotten { host } => Response::json(&Forgotten::of(&host)),
        Answer::Command(view) => Response::json(&Command::of(&view)),
        Answer::Error { kind, text } => Response::error(status(kind), &text),
    }
}

/// An answer on its way into bytes: what names many hosts takes more than one step.
#[derive(Debug)]
pub struct Composing {
    /// None once it has been written.
    answer: Option<Answer>,
    /// Hosts that have been written.
    hosts: usize,
    /// Hosts never seen that have been written.
    unknown: usize,
    /// The written part of the body.
    body: String,
}

impl Composing {
    /// One of which nothing has been written.
    #[must_use]
    pub fn new(answer: Answer) -> Self {
        Self {
            answer: Some(answer),
            hosts: 0,
            unknown: 0,
            body: String::new(),
        }
    }

    /// Writes at most `max` more hosts. The answer over HTTP, if these were the last.
    pub fn step(&mut self, max: usize) -> Option<Response> {
        let is_long = match self.answer.as_ref()? {
            Answer::Dispatched { hosts, .. } => hosts.len() > max,
            Answer::Commanded { hosts, .. } => hosts.len() > max,
            Answer::Command(view) => view.hosts.len() > max,
            _ => false,
        };
        if !is_long {
            return self.answer.take().map(of);
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

    /// Writes the beginning, some hosts, or the end. The status of the whole, once it is that.
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

/// Begins a body with that of the same answer without hosts, of which only the end is missing.
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
            let response = of(answer);
            assert_eq!(response.status, status);
            assert_eq!(response.content_type, "application/json");
            assert_eq!(String::from_utf8(response.body).unwrap(), body);
        }
    }

    #[test]
    fn many_hosts_are_written_in_steps_to_the_same_answer() {
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
            let whole = of(answer.clone());
            for max in 1..9 {
                let mut composing = Composing::new(answer.clone());
                let mut steps = 1;
                let response = loop {
                    match composing.step(max) {
                        Some(response) => break response,
                        None => steps += 1,
                    }
                };
                assert_eq!(response, whole);
                assert!(max >= 7 || steps > 7 / max, "{steps} steps of {max}");
                assert_eq!(composing.step(max), None);
            }
        }
    }

    #[test]
    fn an_output_is_its_bytes() {
        let response = of(Answer::Output(b"\0\xff".to_vec()));
        assert_eq!(
            (response.status, response.body.as_slice()),
            (200, &b"\0\xff"[..])
        );
        assert_eq!(response.content_type, "application/octet-stream");
    }
}
