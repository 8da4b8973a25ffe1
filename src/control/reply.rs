//! HTTP responses for the core's answers.

use super::json::{Command, Commanded, Dispatched, Task, Tasks};
use super::response::Response;
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
        Answer::Command(view) => Response::json(&Command::of(&view)),
        Answer::Error { kind, text } => Response::error(status(kind), &text),
    }
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
    use crate::ids::TaskKey;

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
    fn an_output_is_its_bytes() {
        let response = of(Answer::Output(b"\0\xff".to_vec()));
        assert_eq!(
            (response.status, response.body.as_slice()),
            (200, &b"\0\xff"[..])
        );
        assert_eq!(response.content_type, "application/octet-stream");
    }
}
