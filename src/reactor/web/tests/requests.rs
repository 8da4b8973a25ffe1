//! Requests that the core answers later, and the event stream.

use super::*;
use crate::handlers::effect::EventKind;
use crate::handlers::request::{ErrorKind, NewTask};
use crate::ids::{HostId, TaskKey};
use crate::limits::{
    HTTP_ASK_S_MAX, HTTP_BODY_BYTES_MAX, HTTP_FOLLOWER_BYTES_MAX, HTTP_FOLLOWER_COMMENT_S,
};
use crate::store::op::{Stamp, TaskState};

impl Loop {
    /// Runs turns until a request arrives.
    fn asked(&mut self) -> (u64, Request) {
        let mut asks = Vec::new();
        self.until("asked", |lp| {
            asks = lp.web.take_requests();
            !asks.is_empty()
        });
        assert_eq!(asks.len(), 1);
        asks.remove(0)
    }

    /// Checks that no request follows from what has been sent.
    fn nothing_asked(&mut self) {
        for _ in 0..4 {
            self.turn();
        }
        assert_eq!(self.web.take_requests(), []);
    }

    fn follower(&mut self) -> Client {
        let followers = self.web.stats.followers;
        let mut client = self.client();
        client.ask("/v1/events");
        self.until("followed", |lp| lp.web.stats.followers > followers);
        client
    }

    /// Returns all data for the client, once `done` accepts it.
    fn heard(&mut self, client: &mut Client, mut done: impl FnMut(&str) -> bool) -> String {
        let mut text = String::new();
        self.until("told", |_| {
            client.listen();
            text = String::from_utf8(client.heard.clone()).unwrap();
            done(&text)
        });
        text
    }
}

impl Client {
    fn post(&mut self, path: &str, headers: &str, body: &str) {
        self.say(&format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\n{headers}Content-Length: {}\r\n\r\n{body}",
            body.len()
        ));
    }
}

const JSON: &str = "Content-Type: application/json\r\n";
const TASK: &str = r#"{"key":"AC1","commands":{"uptime":1}}"#;

fn error(kind: ErrorKind, text: &str) -> Response {
    let text = text.to_owned();
    Response::Error { kind, text }
}

fn online(seq: u64) -> Event {
    let host = HostId::checked("h-1").unwrap();
    Event {
        stamp: Stamp { at: UnixMs(1), seq },
        kind: EventKind::Online {
            host,
            from: ([10, 0, 0, 1], 1).into(),
        },
        passing: false,
    }
}

#[test]
fn a_task_waits_for_the_answer_of_the_core() {
    let mut lp = Loop::new();
    let mut client = lp.client();
    client.post("/v1/tasks", JSON, TASK);
    // The next request has to wait.
    client.ask("/readyz");
    let (requester, ask) = lp.asked();
    assert_eq!(requester >> 63, 1);
    let Request::Dispatch(NewTask { request, .. }) = ask else {
        panic!("{ask:?}");
    };
    for _ in 0..3 {
        lp.turn();
        client.listen();
    }
    assert_eq!((client.heard.len(), lp.web.stats.answers[0]), (0, 0));
    let host = HostId::checked("h-1").unwrap();
    let answer = Response::Dispatched {
        key: TaskKey::parse("AC1", "AC").unwrap(),
        hosts: vec![(host, TaskState::Sent)].into(),
        unknown: Vec::new(),
    };
    lp.web.respond(requester, answer);
    let answers = lp.answers(&mut client, 2);
    let body = r#"{"key":"AC1","hosts":{"h-1":"sent"}}"#;
    assert_eq!(answers[0], (201, body.to_owned()));
    assert_eq!(answers[1].0, 200);
    // A second request has another number, also from the same connection.
    client.post("/v1/tasks", JSON, TASK);
    let (_, Request::Dispatch(second)) = lp.asked() else {
        panic!("no dispatch");
    };
    assert_ne!(second.request, request);
}

#[test]
fn each_answer_reaches_its_requester() {
    let mut lp = Loop::new();
    let mut clients: Vec<_> = (0..4).map(|_| lp.client()).collect();
    let mut requesters = Vec::new();
    for (number, client) in clients.iter_mut().enumerate() {
        client.ask(&format!("/v1/tasks/AC{number}"));
        requesters.push(lp.asked());
    }
    for (requester, ask) in requesters.into_iter().rev() {
        let Request::Task { key, .. } = ask else {
            panic!("{ask:?}");
        };
        lp.web.respond(requester, error(ErrorKind::Unknown, &key));
    }
    for (number, client) in clients.iter_mut().enumerate() {
        let body = format!("{{\"error\":\"AC{number}\"}}");
        assert_eq!(lp.answer(client), (404, body));
    }
}

#[test]
fn head_is_handled_as_get_without_a_body() {
    let mut lp = Loop::new();
    let mut client = lp.client();
    client.say("HEAD /v1/tasks/AC1/hosts/h/output?command=a HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let (requester, _) = lp.asked();
    lp.web
        .respond(requester, Response::Output(b"\0\xff\n".to_vec()));
    let text = lp.heard(&mut client, |text| text.ends_with("\r\n\r\n"));
    assert!(text.starts_with("HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\n"));
    assert!(text.contains("\r\nContent-Length: 3\r\n"), "{text}");
}

#[test]
fn a_missing_answer_ends_in_503() {
    let mut lp = Loop::new();
    let mut client = lp.client();
    client.post("/v1/tasks", JSON, TASK);
    let (requester, _) = lp.asked();
    lp.pass(HTTP_ASK_S_MAX - 1);
    lp.turn();
    assert_eq!(lp.web.stats.answers, [0; 4]);
    lp.pass(1);
    let (status, body) = lp.answer(&mut client);
    assert_eq!((status, body.contains("unknown")), (503, true), "{body}");
    // The late answer is dropped.
    lp.web.respond(requester, error(ErrorKind::Taken, "late"));
    lp.ended(&mut client);
    assert_eq!(lp.web.stats.answers, [0, 0, 0, 1]);
}

#[test]
fn an_answer_to_a_closed_connection_is_dropped() {
    let mut lp = Loop::new();
    let mut client = lp.client();
    client.ask("/v1/tasks");
    let (requester, _) = lp.asked();
    lp.web.close(0);
    let mut next = lp.client();
    next.ask("/v1/commands/c1");
    let (other, _) = lp.asked();
    assert_ne!(
        requester, other,
        "the slot is the same, the requester is not"
    );
    for stale in [requester, other & !WEB, u64::MAX, 0] {
        lp.web.respond(stale, error(ErrorKind::Taken, "stale"));
        assert!(!lp.web.has_ready(), "{stale:x}");
    }
    // A second answer to the same request is dropped, before and after the first is sent.
    lp.web.respond(other, error(ErrorKind::Unknown, "none"));
    lp.web.respond(other, error(ErrorKind::Taken, "again"));
    assert_eq!(lp.answer(&mut next).0, 404);
    lp.web.respond(other, error(ErrorKind::Taken, "again"));
    next.ask("/readyz");
    assert_eq!(lp.answer(&mut next).0, 200);
}

#[test]
fn a_post_passes_all_checks() {
    let mut lp = Loop::new();
    let too_long = format!("{JSON}Content-Length: {}\r\n", HTTP_BODY_BYTES_MAX + 1);
    let cases = [
        ("Host: evil\r\n", "Content-Type: application/json\r\n", 421),
        (
            "Host: localhost\r\n",
            "Content-Type: application/json\r\nOrigin: http://evil\r\n",
            403,
        ),
        (
            "Host: localhost\r\n",
            "Content-Type: application/json\r\nSec-Fetch-Site: cross-site\r\n",
            403,
        ),
        ("Host: localhost\r\n", "Content-Type: text/plain\r\n", 415),
        ("Host: localhost\r\n", "", 415),
        ("Host: localhost\r\n", &too_long, 413),
    ];
    for path in ["/v1/tasks", "/v1/commands"] {
        for (host, lines, status) in cases {
            let mut client = lp.client();
            client.say(&format!("POST {path} HTTP/1.1\r\n{host}{lines}\r\n"));
            assert_eq!(lp.answer(&mut client).0, status, "{path} {host}{lines}");
            lp.nothing_asked();
        }
    }
    lp.web.set_rules(HttpRules {
        tokens: Some(admin("sesame")),
        ..HttpRules::default()
    });
    let mut client = lp.client();
    client.post("/v1/tasks", JSON, TASK);
    assert_eq!(lp.answer(&mut client).0, 401);
    lp.nothing_asked();
    let mut client = lp.client();
    let headers = format!("{JSON}Authorization: Bearer sesame\r\nOrigin: http://localhost\r\n");
    client.post("/v1/tasks", &headers, TASK);
    assert!(matches!(lp.asked(), (_, Request::Dispatch(_))));
}

#[test]
fn an_instruction_stands_for_its_text() {
    let mut lp = Loop::new();
    lp.web.set_rules(HttpRules {
        instructions: [("up".to_owned(), "uptime -p".to_owned())].into(),
        ..HttpRules::default()
    });
    let mut client = lp.client();
    client.post("/v1/commands", JSON, r#"{"command":"up","hosts":["h-1"]}"#);
    let (requester, ask) = lp.asked();
    let Request::Command {
        text, hosts, cid, ..
    } = ask
    else {
        panic!("{ask:?}");
    };
    assert_eq!(
        (text.as_str(), hosts),
        ("uptime -p", Some(vec!["h-1".to_owned()]))
    );
    assert!(
        cid.len() == 32 && cid.bytes().all(|b| b.is_ascii_hexdigit()),
        "{cid}"
    );
    let hosts = vec![(HostId::checked("h-1").unwrap(), false)];
    let cid_again = cid.clone();
    let unknown = Vec::new();
    let answer = Response::Commanded {
        cid,
        hosts,
        unknown,
    };
    lp.web.respond(requester, answer);
    let body = format!("{{\"id\":\"{cid_again}\",\"hosts\":{{\"h-1\":\"offline\"}}}}");
    assert_eq!(lp.answer(&mut client), (202, body));
}

#[test]
fn a_stop_waits_for_awaited_answers() {
    let mut lp = Loop::new();
    let mut client = lp.client();
    client.post("/v1/tasks", JSON, TASK);
    let (requester, _) = lp.asked();
    let mut follower = lp.follower();
    lp.heard(&mut follower, |text| text.ends_with(": events\n\n"));
    lp.web.stop(lp.poll.registry());
    assert_eq!(lp.web.connections(), 1);
    lp.until("the follower is ended", |_| {
        follower.listen();
        follower.ended
    });
    lp.web.respond(requester, error(ErrorKind::Taken, "taken"));
    assert_eq!(lp.answer(&mut client).0, 409);
    lp.until("gone", |lp| lp.web.connections() == 0);
}

#[test]
fn a_follower_receives_events() {
    let mut lp = Loop::new();
    lp.web.set_rules(HttpRules {
        node: "n-1".into(),
        ..HttpRules::default()
    });
    lp.web.publish(&online(6), lp.now);
    let mut client = lp.follower();
    for seq in 7..9 {
        lp.web.publish(&online(seq), lp.now);
    }
    let text = lp.heard(&mut client, |text| text.contains("\"seq\":8}\n\n"));
    let (head, stream) = text.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"));
    assert!(!head.contains("Content-Length"), "{head}");
    assert!(head.contains("X-Accel-Buffering: no\r\n"), "{head}");
    let event = |seq| {
        format!(
            "id: {seq}\ndata: {{\"event\":\"online\",\"host\":\"h-1\",\"at\":1,\"node\":\"n-1\",\
             \"seq\":{seq}}}\n\n"
        )
    };
    assert_eq!(stream, format!(": events\n\n{}{}", event(7), event(8)));
    // Data from a follower is ignored.
    client.ask("/healthz");
    lp.nothing_asked();
    assert_eq!(lp.web.stats.answers, [1, 0, 0, 0]);
    drop(client);
    lp.until("gone", |lp| lp.web.connections() == 0);
    assert_eq!((lp.web.stats.followers, lp.web.followers.len()), (0, 0));
}

#[test]
fn comments_keep_a_follower_alive() {
    let mut lp = Loop::new();
    let mut client = lp.follower();
    lp.heard(&mut client, |text| text.ends_with(": events\n\n"));
    for comments in 1..4 {
        lp.pass(HTTP_FOLLOWER_COMMENT_S);
        let end = format!(": events\n\n{}", ":\n\n".repeat(comments));
        lp.heard(&mut client, |text| text.ends_with(&end));
    }
    assert_eq!(lp.web.stats.timeouts, 0);
}

#[test]
fn many_events_in_one_turn_reach_a_reader() {
    let mut lp = Loop::new();
    let mut client = lp.follower();
    let count = 4 * HTTP_FOLLOWER_BYTES_MAX / 100;
    for seq in 1..=count {
        lp.web.publish(&online(seq as u64), lp.now);
        if seq % 512 == 0 {
            lp.turn();
            client.listen();
        }
    }
    let last = format!("\"seq\":{count}}}\n\n");
    let text = lp.heard(&mut client, |text| text.ends_with(&last));
    assert_eq!(text.matches("data: ").count(), count);
    assert_eq!(lp.web.stats.followers_dropped, 0);
}

#[test]
fn only_a_slow_follower_is_dropped() {
    let mut lp = Loop::new();
    let mut slow = lp.follower();
    let mut quick = lp.follower();
    let mut seq = 0;
    lp.until("dropped", |lp| {
        for _ in 0..512 {
            seq += 1;
            lp.web.publish(&online(seq), lp.now);
        }
        quick.listen();
        quick.heard.clear();
        let held = lp.web.connections.iter().map(|(_, c)| c.held());
        assert!(held.max() <= Some(3 * HTTP_FOLLOWER_BYTES_MAX));
        lp.web.stats.followers_dropped == 1
    });
    assert_eq!((lp.web.stats.followers, lp.web.connections()), (1, 1));
    lp.until("ended", |_| {
        slow.listen();
        slow.ended
    });
    lp.web.publish(&online(seq + 1), lp.now);
    let last = format!("\"seq\":{}}}\n\n", seq + 1);
    lp.heard(&mut quick, |text| text.ends_with(&last));
}

#[test]
fn followers_have_a_bound() {
    let mut lp = Loop::new();
    let mut followers: Vec<_> = (0..HTTP_FOLLOWERS_MAX).map(|_| lp.follower()).collect();
    let mut one_more = lp.client();
    one_more.ask("/v1/events");
    assert_eq!(lp.answer(&mut one_more).0, 503);
    lp.ended(&mut one_more);
    followers.pop();
    lp.until("room", |lp| {
        lp.web.stats.followers < HTTP_FOLLOWERS_MAX as u64
    });
    followers.push(lp.follower());
    // Followers are not idle connections, which may be closed to make room.
    lp.pass(1);
    assert!(!lp.web.connections.iter().any(|(_, c)| c.is_idle()));
}

#[test]
fn a_long_read_ends_with_its_connection() {
    for path in [
        "/v1/summary",
        "/v1/fleet",
        "/v1/hosts?target=all",
        "/v1/tasks/AC1/groups",
    ] {
        let mut lp = Loop::new();
        let mut client = lp.client();
        client.ask(path);
        let (requester, _) = lp.asked();
        assert!(lp.web.take_withdrawn().is_empty(), "{path}");
        drop(client);
        lp.until(path, |lp| lp.web.connections() == 0);
        assert_eq!(lp.web.take_withdrawn(), [requester], "{path}");
    }
}

#[test]
fn an_order_goes_on_without_its_connection() {
    let mut lp = Loop::new();
    let mut client = lp.client();
    client.post("/v1/tasks", JSON, TASK);
    let _ = lp.asked();
    drop(client);
    for _ in 0..4 {
        lp.turn();
    }
    assert!(lp.web.take_withdrawn().is_empty());
    assert_eq!(lp.web.connections(), 1);
}

#[test]
fn a_long_read_past_its_deadline_is_withdrawn() {
    let mut lp = Loop::new();
    let mut client = lp.client();
    client.ask("/v1/summary");
    let (requester, _) = lp.asked();
    lp.pass(HTTP_ASK_S_MAX);
    assert_eq!(lp.answer(&mut client).0, 503);
    assert_eq!(lp.web.take_withdrawn(), [requester]);
}

#[test]
fn a_half_closed_peer_gets_a_short_survey() {
    let mut lp = Loop::new();
    let mut client = lp.client();
    client.ask("/v1/hosts?target=all");
    client.stream.shutdown(std::net::Shutdown::Write).unwrap();
    // The core answers at once where a step is enough.
    let (requester, _) = lp.asked();
    let none = Response::Hosts {
        hosts: Vec::new(),
        next: None,
    };
    lp.web.respond(requester, none);
    assert_eq!(lp.answer(&mut client).0, 200);
    assert!(lp.web.take_withdrawn().is_empty());
}
