//! Real sockets on loopback, a real poll, and a clock that the test moves.

mod requests;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant as WallInstant};

use mio::{Events, Poll};

use super::*;
use crate::control::testing::{Ants, admin, context};
use crate::handlers::Moment;
use crate::limits::{
    HTTP_ANSWER_S_MAX, HTTP_FRESH_MS, HTTP_LINGER_S_MAX, HTTP_PROGRESS_BYTES, HTTP_REQUEST_S_MAX,
    HTTP_STALLED_S,
};
use crate::time::UnixMs;

/// Time limit of every condition.
const PATIENCE: Duration = Duration::from_secs(20);

struct Loop {
    poll: Poll,
    events: Events,
    web: Web,
    ants: Ants,
    now: Instant,
}

impl Loop {
    fn new() -> Self {
        let addr = "127.0.0.1:0".parse().unwrap();
        let poll = Poll::new().unwrap();
        let mut web = Web::bind(addr, HttpRules::default(), None).unwrap();
        web.register(poll.registry()).unwrap();
        Self {
            poll,
            events: Events::with_capacity(64),
            web,
            ants: Ants::with_hosts(2),
            now: Instant::from_nanos(50_000_000_000),
        }
    }

    /// A page of all hosts is 16 MB, more than the kernel takes at once.
    fn with_large_page() -> Self {
        let mut ants = Ants::with_hosts(1_000);
        for ant in &mut ants.hosts {
            ant.hostname = "x".repeat(16 * 1024);
        }
        Self {
            ants,
            ..Self::new()
        }
    }

    /// One turn: wait, note, work, tick.
    fn turn(&mut self) {
        let wait = match self.web.has_ready() {
            true => Duration::ZERO,
            false => Duration::from_millis(2),
        };
        self.poll.poll(&mut self.events, Some(wait)).unwrap();
        for event in &self.events {
            assert!(self.web.owns(event.token()));
            self.web.ready(event);
        }
        let context = HttpContext {
            at: Moment {
                now: self.now,
                wall: UnixMs(1),
            },
            ..context(&self.ants)
        };
        self.web.run_ready(self.poll.registry(), &context, || true);
        if let Some(next) = self.web.tick(self.now) {
            assert!(next > self.now, "the next deadline is still to come");
        }
    }

    fn until(&mut self, what: &str, mut done: impl FnMut(&mut Self) -> bool) {
        let end = WallInstant::now() + PATIENCE;
        while !done(self) {
            assert!(WallInstant::now() < end, "waited in vain: {what}");
            self.turn();
        }
    }

    fn pass(&mut self, seconds: u64) {
        self.now = self.now + Span::from_secs(seconds);
    }

    fn client(&mut self) -> Client {
        let accepted = self.web.stats.accepted;
        let stream = TcpStream::connect(self.web.local_addr()).unwrap();
        stream.set_nonblocking(true).unwrap();
        self.until("accepted", |lp| {
            lp.web.stats.accepted > accepted && !lp.web.has_ready()
        });
        Client {
            stream,
            heard: Vec::new(),
            ended: false,
        }
    }

    /// Takes every place, with clients that say `text`.
    fn full_of(&mut self, text: &str) -> Vec<Client> {
        let mut clients: Vec<_> = (0..HTTP_CONNECTIONS_MAX).map(|_| self.client()).collect();
        clients.iter_mut().for_each(|client| client.say(text));
        self.until("all heard", |lp| {
            lp.web.connections.iter().all(|(_, c)| !c.is_idle()) && !lp.web.has_ready()
        });
        clients
    }

    /// All responses for the client, until there are `count`.
    fn answers(&mut self, client: &mut Client, count: usize) -> Vec<(u16, String)> {
        let mut answers = Vec::new();
        self.until("answered", |_| {
            client.listen();
            answers.extend(client.next_answer());
            answers.len() == count
        });
        answers
    }

    fn answer(&mut self, client: &mut Client) -> (u16, String) {
        self.answers(client, 1).remove(0)
    }

    fn ended(&mut self, client: &mut Client) {
        self.until("ended", |_| {
            client.listen();
            client.ended
        });
        assert!(client.heard.is_empty(), "nothing unexpected was said");
    }
}

struct Client {
    stream: TcpStream,
    heard: Vec<u8>,
    ended: bool,
}

impl Client {
    /// Small enough for the kernel to take at once.
    fn say(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).unwrap();
    }

    fn ask(&mut self, target: &str) {
        self.say(&format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n"));
    }

    fn listen(&mut self) {
        let mut buffer = [0; 64 * 1024];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => self.ended = true,
                Ok(count) => {
                    self.heard.extend_from_slice(&buffer[..count]);
                    continue;
                }
                Err(error) => {
                    assert_eq!(error.kind(), io::ErrorKind::WouldBlock, "no reset");
                }
            }
            return;
        }
    }

    /// Takes the first whole answer off what was heard.
    fn next_answer(&mut self) -> Option<(u16, String)> {
        let end = self.heard.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
        let head = String::from_utf8(self.heard[..end].to_vec()).unwrap();
        let status = head[9..12].parse().unwrap();
        let length = head.split("Content-Length: ").nth(1);
        let length = length.map_or(0, |rest| {
            rest.split("\r\n").next().unwrap().parse().unwrap()
        });
        if self.heard.len() < end + length {
            return None;
        }
        let answer: Vec<u8> = self.heard.drain(..end + length).collect();
        Some((status, String::from_utf8(answer[end..].to_vec()).unwrap()))
    }
}

#[test]
fn a_connection_is_kept_for_further_requests() {
    let mut lp = Loop::new();
    let mut client = lp.client();
    for _ in 0..3 {
        client.ask("/v1/hosts/h-1");
        let (status, body) = lp.answer(&mut client);
        assert_eq!(status, 200);
        assert!(body.contains("\"id\":\"h-1\""), "{body}");
        lp.pass(HTTP_REQUEST_S_MAX - 1);
    }
    assert_eq!(lp.web.stats.answers, [3, 0, 0, 0]);
    assert_eq!((lp.web.stats.accepted, lp.web.connections()), (1, 1));
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let mut lp = Loop::new();
    let mut client = lp.client();
    for number in 0..40 {
        client.ask(&format!("/v1/hosts/h-{}", number % 3));
    }
    let statuses: Vec<u16> = lp.answers(&mut client, 40).iter().map(|a| a.0).collect();
    let expected: Vec<u16> = (0..40)
        .map(|n| if n % 3 == 2 { 404 } else { 200 })
        .collect();
    assert_eq!(statuses, expected);
}

#[test]
fn a_turn_answers_each_connection_once() {
    let mut lp = Loop::new();
    let mut clients: Vec<_> = (0..12).map(|_| lp.client()).collect();
    for client in &mut clients {
        client.ask("/healthz");
        client.ask("/healthz");
    }
    lp.until("all of it answered", |lp| {
        let before = lp.web.stats.answers[0];
        lp.turn();
        let answered = lp.web.stats.answers[0] - before;
        assert!(answered <= HTTP_ANSWERS_PER_TURN_MAX as u64);
        lp.web.stats.answers[0] == 24
    });
    for client in &mut clients {
        assert_eq!(lp.answers(client, 2).len(), 2);
    }
}

#[test]
fn a_turn_reads_much_of_few_connections() {
    const CLIENTS: usize = 2 * HTTP_ANSWERS_PER_TURN_MAX;
    let mut lp = Loop::new();
    let mut clients: Vec<_> = (0..CLIENTS).map(|_| lp.client()).collect();
    for client in &mut clients {
        // Half a body: there is no response yet.
        client.say("POST /v1/tasks HTTP/1.1\r\nHost: localhost\r\n");
        client.say("Content-Type: application/json\r\nContent-Length: 1000000\r\n\r\n");
        client.say(&"x".repeat(2 * HTTP_READ_BYTES));
    }
    let end = WallInstant::now() + PATIENCE;
    while lp.web.queue.len() < CLIENTS {
        assert!(WallInstant::now() < end, "told of all of them");
        let wait = Some(Duration::from_millis(2));
        lp.poll.poll(&mut lp.events, wait).unwrap();
        lp.events.iter().for_each(|event| lp.web.ready(event));
    }
    lp.turn();
    assert!(lp.web.queue.len() >= CLIENTS - HTTP_ANSWERS_PER_TURN_MAX);
    lp.until("all is read", |lp| !lp.web.has_ready());
}

#[test]
fn metrics_count_their_own_connection() {
    let mut lp = Loop::new();
    let mut client = lp.client();
    client.ask("/metrics");
    let (_, page) = lp.answer(&mut client);
    let families = crate::metrics::testing::metrics_of(&page);
    assert_eq!(families["anthill_http_connections"].samples[""], "1");
    assert_eq!(families["anthill_http_answers_total"].samples.len(), 4);
}

#[test]
fn nothing_is_answered_after_a_close() {
    let mut lp = Loop::new();
    let mut client = lp.client();
    client.say("GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    client.ask("/healthz");
    assert_eq!(lp.answer(&mut client).0, 200);
    lp.ended(&mut client);
    drop(client);
    lp.until("forgotten", |lp| lp.web.connections() == 0);
    assert_eq!(lp.web.stats.answers, [1, 0, 0, 0]);
}

#[test]
fn a_half_closed_peer_gets_its_answers() {
    let mut lp = Loop::new();
    let mut client = lp.client();
    client.ask("/readyz");
    client.ask("/readyz");
    client.stream.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(lp.answers(&mut client, 2).len(), 2);
    lp.ended(&mut client);
    lp.until("forgotten", |lp| lp.web.connections() == 0);
}

#[test]
fn a_dripping_request_ends_at_its_deadline() {
    let mut lp = Loop::new();
    let mut client = lp.client();
    // The first byte starts the time of the request, not those after it.
    lp.pass(HTTP_REQUEST_S_MAX - 1);
    for (second, byte) in "GET /healt".chars().enumerate() {
        client.say(&byte.to_string());
        let mut turns = 0;
        lp.until("read", |_| {
            turns += 1;
            turns > 3
        });
        assert_eq!(lp.web.connections(), 1, "second {second}");
        lp.pass(1);
    }
    let (status, body) = lp.answer(&mut client);
    assert_eq!((status, body.contains("too long")), (408, true));
    lp.ended(&mut client);
    assert_eq!(lp.web.stats.timeouts, 1);
    // Its own end never comes: we do not wait for it for ever.
    lp.pass(HTTP_LINGER_S_MAX);
    lp.until("forgotten", |lp| lp.web.connections() == 0);
    assert_eq!(lp.web.stats.timeouts, 1);
}

#[test]
fn an_idle_connection_is_closed_silently() {
    let mut lp = Loop::new();
    let mut silent = lp.client();
    let mut kept = lp.client();
    kept.ask("/readyz");
    assert_eq!(lp.answer(&mut kept).0, 200);
    lp.pass(HTTP_REQUEST_S_MAX - 1);
    lp.turn();
    assert_eq!(lp.web.connections(), 2);
    lp.pass(1);
    lp.ended(&mut silent);
    lp.ended(&mut kept);
    assert_eq!((lp.web.connections(), lp.web.stats.timeouts), (0, 2));
}

#[test]
fn a_peer_that_does_not_read_is_dropped() {
    let mut lp = Loop::with_large_page();
    let mut client = lp.client();
    client.ask("/v1/hosts");
    client.ask("/healthz");
    lp.until("the kernel is full", |lp| {
        lp.web.stats.answers[0] == 1 && !lp.web.has_ready()
    });
    assert_eq!(lp.web.connections.iter().count(), 1);
    let waiting = lp.web.tick(lp.now);
    assert_eq!(waiting, Some(lp.now + Span::from_secs(HTTP_ANSWER_S_MAX)));
    lp.pass(HTTP_ANSWER_S_MAX);
    lp.until("dropped", |lp| lp.web.connections() == 0);
    assert_eq!((lp.web.stats.answers[0], lp.web.stats.timeouts), (1, 1));
}

#[test]
fn a_large_page_arrives_whole() {
    let mut lp = Loop::with_large_page();
    let mut client = lp.client();
    client.ask("/v1/hosts");
    client.ask("/readyz");
    let answers = lp.answers(&mut client, 2);
    assert!(answers[0].1.len() > 16 * 1024 * 1_000);
    assert_eq!(answers[1].1, "{\"status\":\"ready\"}");
}

#[test]
fn the_connection_idle_longest_makes_room() {
    let mut lp = Loop::new();
    let mut clients = Vec::new();
    for number in 0..HTTP_CONNECTIONS_MAX {
        clients.push(lp.client());
        if number == 0 {
            lp.pass(1);
        }
    }
    // The first has waited for longest, but it has spoken.
    let mut first = clients.remove(0);
    first.say("GET /healthz HT");
    lp.until("heard", |lp| {
        !lp.web.connections[0].is_idle() && !lp.web.has_ready()
    });
    lp.pass(1);
    let mut one_more = lp.client();
    one_more.ask("/healthz");
    assert_eq!(lp.answer(&mut one_more).0, 200);
    assert_eq!(lp.web.connections(), HTTP_CONNECTIONS_MAX);
    assert_eq!((lp.web.stats.evicted, lp.web.stats.refused), (1, 0));
    let ended = clients.iter_mut().filter_map(|client| {
        client.listen();
        client.ended.then_some(())
    });
    assert_eq!(ended.count(), 1);
    first.say("TP/1.1\r\nHost: localhost\r\n\r\n");
    assert_eq!(lp.answer(&mut first).0, 200);
}

#[test]
fn a_spare_place_answers_one_request() {
    let mut lp = Loop::new();
    let mut busy = lp.full_of("GET /healthz HTTP/1.1\r\n");
    // More than there are: the oldest make room, whatever they do.
    let mut spare = Vec::new();
    for number in 0..2 * HTTP_SPARE_MAX {
        if number % (HTTP_SPARE_MAX / 2) == 0 {
            lp.now = lp.now + Span::from_millis(HTTP_FRESH_MS);
        }
        let mut silent = lp.client();
        if number % 2 == 0 {
            silent.say("GET /readyz HTTP/1.1\r\n");
        }
        let mut client = lp.client();
        client.ask("/healthz");
        client.ask("/healthz");
        assert_eq!(lp.answer(&mut client).0, 200);
        lp.ended(&mut client);
        spare.push(silent);
    }
    assert_eq!(lp.web.connections(), HTTP_CONNECTIONS_MAX + HTTP_SPARE_MAX);
    assert_eq!(lp.web.stats.refused, 0);
    for client in &mut busy {
        client.say("Host: localhost\r\n\r\n");
    }
    for client in &mut busy {
        assert_eq!(lp.answer(client).0, 200);
    }
}

#[test]
fn a_new_connection_has_time_for_its_request() {
    let mut lp = Loop::new();
    let _busy = lp.full_of("GET /healthz HTTP/1.1\r\n");
    let mut slow = lp.client();
    let mut others: Vec<_> = (0..HTTP_SPARE_MAX).map(|_| lp.client()).collect();
    assert_eq!(lp.web.stats.evicted, 0, "the last one waits for a place");
    slow.ask("/healthz");
    assert_eq!(lp.answer(&mut slow).0, 200);
    // It has left its place to the last one. A further one takes that of the oldest.
    lp.now = lp.now + Span::from_millis(HTTP_FRESH_MS);
    let mut late = lp.client();
    late.ask("/healthz");
    assert_eq!(lp.answer(&mut late).0, 200);
    lp.ended(&mut others[0]);
}

#[test]
fn a_stalled_reader_makes_room_after_a_second() {
    let mut lp = Loop::with_large_page();
    let mut deaf = lp.client();
    deaf.ask("/v1/hosts");
    deaf.ask("/v1/hosts");
    // All the others wait for the core, and so stay.
    let mut asking: Vec<_> = (1..HTTP_CONNECTIONS_MAX).map(|_| lp.client()).collect();
    for client in &mut asking {
        client.ask("/v1/tasks");
    }
    let mut asked = 0;
    lp.until("the kernel is full, and all have asked", |lp| {
        asked += lp.web.take_requests().len();
        asked == asking.len() && !lp.web.has_ready()
    });
    // Even before that a probe is answered.
    let mut probe = lp.client();
    probe.ask("/readyz");
    assert_eq!(lp.answer(&mut probe).0, 200);
    assert_eq!(lp.web.stats.evicted, 0);
    lp.pass(HTTP_STALLED_S);
    let mut good = lp.client();
    for _ in 0..3 {
        good.ask("/readyz");
        assert_eq!(lp.answer(&mut good).0, 200, "it has a place of its own");
    }
    assert_eq!((lp.web.stats.evicted, lp.web.stats.refused), (1, 0));
    let deaf = lp
        .web
        .connections
        .iter()
        .filter(|(_, c)| matches!(c.token, t if t == token_of(1, 0)));
    assert_eq!(deaf.count(), 0);
}

#[test]
fn only_a_dripping_body_is_evicted() {
    let mut lp = Loop::new();
    let head = "POST /v1/tasks HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 4000000\r\n\r\n";
    let mut clients = lp.full_of(head);
    lp.pass(HTTP_STALLED_S);
    for (number, client) in clients.iter_mut().enumerate() {
        let bytes = if number == 7 { 1 } else { HTTP_PROGRESS_BYTES };
        client.say(&"x".repeat(bytes));
        let mut turns = 0;
        lp.until("read", |lp| {
            turns += 1;
            turns > 3 && !lp.web.has_ready()
        });
    }
    let before = lp.web.stats.evicted;
    let _one_more = lp.client();
    assert_eq!(lp.web.stats.evicted, before + 1);
    let _none_more = lp.client();
    assert_eq!(lp.web.stats.evicted, before + 1, "the others go on");
    lp.until("the one that drips is gone", |_| {
        clients[7].listen();
        clients[7].ended
    });
}

#[test]
fn half_requests_make_room_when_stalled() {
    let mut lp = Loop::new();
    let _slow = lp.full_of("GET /healthz HTTP/1.1\r\n");
    lp.pass(HTTP_STALLED_S);
    let mut good = lp.client();
    good.ask("/healthz");
    assert_eq!(lp.answer(&mut good).0, 200);
    assert_eq!((lp.web.stats.evicted, lp.web.stats.refused), (1, 0));
    assert_eq!(lp.web.connections(), HTTP_CONNECTIONS_MAX);
}

#[test]
fn a_refusal_survives_the_unread_body() {
    let mut lp = Loop::new();
    let mut client = lp.client();
    client.say("POST /v1/hosts HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5000000\r\n\r\n");
    let mut left = 5_000_000;
    let chunk = [b'x'; 16 * 1024];
    lp.until("all of it sent", |_| {
        if left > 0 {
            let piece = &chunk[..chunk.len().min(left)];
            left -= client.stream.write(piece).unwrap_or(0);
        }
        left == 0
    });
    assert_eq!(lp.answer(&mut client).0, 413);
    lp.ended(&mut client);
}

#[test]
fn a_failed_accept_is_retried_later() {
    let mut lp = Loop::new();
    lp.web.accept_failed(lp.now);
    let retry = lp.web.tick(lp.now).unwrap();
    assert_eq!(retry, lp.now + Span::from_millis(HTTP_ACCEPT_RETRY_MS));
    assert!(!lp.web.has_ready());
    assert_eq!(lp.web.tick(retry), None);
    assert!(lp.web.has_ready());
}

#[test]
fn a_stop_ends_others_after_their_answer() {
    let mut lp = Loop::with_large_page();
    let mut idle = lp.client();
    let mut reading = lp.client();
    reading.ask("/v1/hosts");
    lp.until("the kernel is full", |lp| {
        lp.web.stats.answers[0] == 1 && !lp.web.has_ready()
    });
    let addr = lp.web.local_addr();
    lp.web.stop(lp.poll.registry());
    lp.ended(&mut idle);
    assert_eq!(lp.web.connections(), 1);
    assert!(TcpStream::connect(addr).is_err());
    assert_eq!(lp.answer(&mut reading).0, 200);
    lp.until("gone", |lp| lp.web.connections() == 0);
}

#[test]
fn a_stale_token_names_no_connection() {
    let mut lp = Loop::new();
    drop(lp.client());
    lp.until("gone", |lp| lp.web.connections() == 0);
    let stale = token_of(lp.web.generation, 0);
    let mut client = lp.client();
    lp.web.enqueue(stale);
    assert!(!lp.web.has_ready());
    client.ask("/readyz");
    assert_eq!(lp.answer(&mut client).0, 200);
}

#[test]
fn a_panic_ends_one_connection_only() {
    let mut lp = Loop::new();
    let (mut unlucky, mut other) = (lp.client(), lp.client());
    lp.ants.broken = true;
    unlucky.ask("/v1/hosts/h-1");
    lp.ended(&mut unlucky);
    assert_eq!((lp.web.stats.panics, lp.web.connections()), (1, 1));
    lp.ants.broken = false;
    other.ask("/v1/hosts/h-1");
    assert_eq!(lp.answer(&mut other).0, 200);
}

#[test]
fn new_rules_apply_from_the_next_request() {
    let mut lp = Loop::new();
    let mut client = lp.client();
    client.ask("/readyz");
    assert_eq!(lp.answer(&mut client).0, 200);
    lp.web.set_rules(HttpRules {
        tokens: Some(admin("sesame")),
        ..HttpRules::default()
    });
    client.ask("/readyz");
    assert_eq!(lp.answer(&mut client).0, 401);
    client.ask("/healthz");
    assert_eq!(lp.answer(&mut client).0, 200);
    lp.web.set_rules(HttpRules::default());
    client.ask("/readyz");
    assert_eq!(lp.answer(&mut client).0, 401, "a token is never given up");
}

#[test]
fn a_wrong_token_is_counted_and_delayed() {
    let mut lp = Loop::new();
    lp.web.set_rules(HttpRules {
        tokens: Some(admin("sesame")),
        ..HttpRules::default()
    });
    let mut guesser = lp.client();
    let mut good = lp.client();
    for word in ["sesam", "sesamf"] {
        let line = format!(
            "GET /readyz HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {word}\r\n\r\n"
        );
        guesser.say(&line);
    }
    lp.until("the first is judged", |lp| lp.web.stats.wrong_tokens == 1);
    good.say("GET /readyz HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer sesame\r\n\r\n");
    assert_eq!(lp.answer(&mut good).0, 200, "others do not wait");
    guesser.listen();
    assert!(guesser.heard.is_empty() && lp.web.stats.wrong_tokens == 1);
    lp.pass(1);
    assert_eq!(lp.answer(&mut guesser).0, 401);
    lp.until("the second is judged", |lp| lp.web.stats.wrong_tokens == 2);
    guesser.listen();
    assert!(guesser.heard.is_empty());
    lp.pass(1);
    assert_eq!(lp.answer(&mut guesser).0, 401);
    // A request without any is no guess.
    guesser.ask("/readyz");
    assert_eq!(lp.answer(&mut guesser).0, 401);
    assert_eq!(lp.web.stats.wrong_tokens, 2);
}

#[test]
fn a_stop_sends_delayed_answers_at_once() {
    let mut lp = Loop::new();
    lp.web.set_rules(HttpRules {
        tokens: Some(admin("sesame")),
        ..HttpRules::default()
    });
    let mut guesser = lp.client();
    guesser.say("GET /readyz HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer x\r\n\r\n");
    lp.until("it is judged", |lp| lp.web.stats.wrong_tokens == 1);
    lp.web.stop(lp.poll.registry());
    // The clock of this test stands still: no deadline passes.
    assert_eq!(lp.answer(&mut guesser).0, 401);
    lp.until("gone", |lp| lp.web.connections() == 0);
}

#[test]
fn tokens_of_others_are_not_ours() {
    let web = Web::bind("127.0.0.1:0".parse().unwrap(), HttpRules::default(), None).unwrap();
    assert!(web.owns(LISTENER) && web.owns(token_of(u32::MAX, 79)) && web.owns(token_of(0, 0)));
    for other in [0, 1, 2, 4, 1 << 32, 1 << 61, 1 << 63, usize::MAX] {
        assert!(!web.owns(Token(other)), "{other}");
    }
}
