//! Old clients that work strictly in sequence: consequences for dispatches and for allowed silence.

use std::collections::VecDeque;

use super::*;
use crate::limits::REST_S;

const S: u64 = 1_000;
/// Sleep of an old client after every command.
const SLEEP: u64 = 5 * S;

/// A client of the older fleet: one thread for datagrams, and a send lock that is held while a command runs.
struct Old {
    conn: ConnId,
    address: String,
    waiting: VecDeque<String>,
    /// The task in progress, and the end of its command; none while it sleeps or waits.
    runs: Option<(String, u64)>,
    sleeps_until: u64,
    next_beat: u64,
    ran: Vec<String>,
}

impl Old {
    fn new(world: &mut World, ip: &str) -> Self {
        Self {
            conn: world.plain(ip),
            address: format!("{ip}:6655"),
            waiting: VecDeque::new(),
            runs: None,
            sleeps_until: 0,
            next_beat: world.ms + 5 * S,
            ran: Vec::new(),
        }
    }

    /// Runs due actions. Commands take `takes`.
    fn step(&mut self, world: &mut World, takes: u64) {
        let now = world.ms;
        if let Some((key, _)) = self.runs.take_if(|(_, end)| *end <= now) {
            say(world, self.conn, &key, Phase::Began, &["uptime"]);
            world.beat(self.conn);
            say(world, self.conn, &key, Phase::Ended, &[]);
            self.ran.push(key);
            (self.sleeps_until, self.next_beat) = (now + SLEEP, now + 5 * S);
        }
        if self.runs.is_some() {
            return;
        }
        if self.next_beat <= now {
            world.beat(self.conn);
            self.next_beat = now + 5 * S;
        }
        if self.sleeps_until <= now
            && let Some(key) = self.waiting.pop_front()
        {
            let answer = Answer {
                code: ResultCode::Received,
                task: Some(key.clone().into()),
            };
            assert_eq!(
                world.send(self.conn, Message::Answer(answer), None),
                Flow::Taken
            );
            say(world, self.conn, &key, Phase::Received, &["uptime"]);
            self.runs = Some((key, now + takes));
        }
    }
}

fn say(world: &mut World, conn: ConnId, key: &str, phase: Phase, left: &[&'static str]) {
    let progress = Progress {
        code: key.to_owned().into(),
        // Also named in phase 3, as some clients do.
        working: (phase != Phase::Received).then(|| "uptime".into()),
        ..progress_of("AC1", phase, left)
    };
    assert_eq!(
        world.send(conn, Message::Progress(progress), None),
        Flow::Taken
    );
}

/// Lets old clients work for some time.
fn work(world: &mut World, clients: &mut [Old], ms: u64, takes: u64) {
    let end = world.ms + ms;
    while world.ms < end {
        world.pass(50);
        for (_, to, key) in world.sent() {
            let client = clients.iter_mut().find(|client| client.address == to);
            client.expect("one of them").waiting.push_back(key);
        }
        for client in &mut *clients {
            client.step(world, takes);
        }
    }
}

#[test]
fn ten_old_clients_run_each_task_once() {
    for takes in [100, 2 * S, 9 * S, 70 * S] {
        let mut world = World::new();
        let mut clients: Vec<Old> = (1..=10)
            .map(|i| Old::new(&mut world, &format!("10.0.0.{i}")))
            .collect();
        world.dispatch("AC1", &[]).unwrap();
        work(&mut world, &mut clients, takes / 2, takes);
        // While the first task runs, and two at once.
        world.dispatch("AC2", &[]).unwrap();
        world.dispatch("AC3", &[]).unwrap();
        work(&mut world, &mut clients, 3 * (takes + 6 * S), takes);
        // Right after the last: at each moment of the sleep behind it.
        let mut keys = vec!["AC1".to_owned(), "AC2".to_owned(), "AC3".to_owned()];
        for late in 0..10 {
            let key = format!("AC4{late}");
            world.dispatch(&key, &[]).unwrap();
            work(&mut world, &mut clients, takes + 5 * S + 600 * late, takes);
            keys.push(key);
        }
        work(&mut world, &mut clients, 60 * S, takes);
        for client in &clients {
            assert_eq!(client.ran, keys, "{takes}");
        }
        assert_eq!(world.core.stats().resends, 0, "{takes}");
        let offline = world.told.iter().find(|told| told.starts_with("offline"));
        assert_eq!(offline, None, "{takes}");
    }
}

#[test]
fn paused_tries_follow_an_interval_after_the_rest() {
    for tries in [1, 3] {
        let mut world = World::new();
        let conn = world.plain("10.0.0.1");
        world.dispatch("AC2", &[]).unwrap();
        // Some tries are over before the other task begins.
        world.pass(if tries == 1 { 0 } else { 12 * S });
        world.report(conn, "AC1", Phase::Received, &["x"]);
        world.pass(60 * S);
        assert_eq!(world.sent().len(), tries);
        world.report(conn, "AC1", Phase::Ended, &[]);
        let over = world.ms;
        world.pass(20 * S);
        let again = world.sent();
        let wait = again[0].0 - over;
        assert!((9_000..=9_755).contains(&wait), "{wait}");
    }
}

#[test]
fn a_command_that_begins_shows_that_nothing_older_runs() {
    for (phase, named, is_lost) in [
        (Phase::Received, true, false),
        (Phase::Began, true, true),
        (Phase::Ended, true, false),
        (Phase::Began, false, true),
    ] {
        let mut world = World::new();
        let conn = world.plain("10.0.0.1");
        let named_host = world.open("10.0.0.2:1");
        world.hello(named_host, "web-1", None);
        for key in ["AC1", "AC2"] {
            world.dispatch(key, &[]).unwrap();
        }
        world.rcc(conn, ResultCode::Received, Some("AC1"));
        world.rcc(named_host, ResultCode::Received, Some("AC1"));
        world.report(conn, "AC8", Phase::Received, &["x"]);
        let other = if named { "AC2" } else { "AC9" };
        world.report(conn, other, phase, &["x"]);
        world.report(named_host, other, phase, &["x"]);
        let state = if is_lost { "lost" } else { "answered" };
        assert_eq!(world.state("AC1", "10.0.0.1"), state, "{phase:?} {named}");
        assert_eq!(
            world.state("AC1", "web-1"),
            "answered",
            "it works otherwise"
        );
        world.report(conn, other, Phase::Ended, &[]);
        if is_lost {
            world.pass_beating(9 * S, &[conn, named_host]);
            let busy = world.core.stats().hosts_at_work;
            assert_eq!(busy, if named { 1 } else { 2 }, "only the other host");
        }
        // Later reports on it still count.
        world.report(conn, "AC1", Phase::Ended, &[]);
        assert_eq!(world.state("AC1", "10.0.0.1"), "done");
    }
}

#[test]
fn a_repeated_finished_task_is_work_without_event() {
    for phase in [None, Some(Phase::Received), Some(Phase::Began)] {
        let mut world = World::new();
        let conn = world.plain("10.0.0.1");
        world.dispatch("AC1", &[]).unwrap();
        world.rcc(conn, ResultCode::Received, Some("AC1"));
        world.report(conn, "AC1", Phase::Ended, &[]);
        world.told.clear();
        match phase {
            None => world.rcc(conn, ResultCode::Received, Some("AC1")),
            Some(phase) => world.report(conn, "AC1", phase, &["sleep 70"]),
        }
        assert_eq!(world.told, [""; 0], "no event");
        assert_eq!(world.state("AC1", "10.0.0.1"), "done");
        world.pass(10 * TIMEOUT);
        assert_eq!(world.online(), ["10.0.0.1"], "it holds its send lock");
        // It gets no second copy either.
        world.dispatch("AC2", &[]).unwrap();
        world.sent();
        world.pass(TIMEOUT);
        assert!(world.sent().is_empty());
        world.report(conn, "AC1", Phase::Ended, &[]);
        assert_eq!((&world.told[1..], world.online().len()), (&[][..], 1));
        world.pass(TIMEOUT - 10);
        assert_eq!(world.online(), ["10.0.0.1"]);
        assert!(!world.sent().is_empty(), "the tries go on");
        world.pass(20);
        assert!(world.online().is_empty(), "nothing is left");
        assert_eq!(world.state("AC1", "10.0.0.1"), "done");
    }
}

#[test]
fn a_late_first_answer_reaches_the_store() {
    let mut world = World::new();
    let conn = world.plain("10.0.0.1");
    world.dispatch("AC1", &[]).unwrap();
    world.report(conn, "AC1", Phase::Ended, &[]);
    let before = world.store.reports;
    let answer = Message::Answer(Answer {
        code: ResultCode::Received,
        task: Some("AC1".into()),
    });
    let _ = world.send(conn, answer, Some(5));
    assert_eq!(world.store.reports, before + 1, "it is awaited no longer");
    assert_eq!(world.words(conn), [Word::GotIt]);
}

/// A host in the middle of AC1 that has reconnected, with AC2 waiting for it.
fn reconnected() -> (World, ConnId) {
    let mut world = World::new();
    let conn = world.plain("10.0.0.1");
    world.dispatch("AC1", &[]).unwrap();
    world.report(conn, "AC1", Phase::Received, &["x"]);
    world.dispatch("AC2", &[]).unwrap();
    world.end(conn, End::Reset);
    world.pass(S);
    let conn = world.plain("10.0.0.1");
    world.sent();
    (world, conn)
}

/// Sends heartbeats, a number of times at an interval.
fn beats(world: &mut World, conn: ConnId, times: usize, ms: u64) {
    for _ in 0..times {
        world.pass(ms);
        world.beat(conn);
    }
}

#[test]
fn heartbeats_show_work_lost_by_a_reconnect() {
    let (mut world, conn) = reconnected();
    // Its first heartbeat brought it online.
    beats(&mut world, conn, 5, 5 * S);
    assert_eq!(world.state("AC1", "10.0.0.1"), "working");
    beats(&mut world, conn, 1, 5 * S);
    assert_eq!(world.state("AC1", "10.0.0.1"), "lost");
    assert!(world.sent().is_empty());
    let over = world.ms;
    beats(&mut world, conn, 40, 5 * S);
    let sent = world.sent();
    assert_eq!(sent.len(), 4, "all other tries: {sent:?}");
    assert!((3_000..=3_755).contains(&(sent[0].0 - over)));
    assert!(world.core.fleet.is_unwatched(conn));
}

#[test]
fn few_heartbeats_or_a_report_lose_nothing() {
    let (mut world, conn) = reconnected();
    beats(&mut world, conn, 5, 5 * S);
    world.report(conn, "AC1", Phase::Began, &["x"]);
    world.beat(conn);
    beats(&mut world, conn, 40, 5 * S);
    assert_eq!(world.state("AC1", "10.0.0.1"), "working", "reported since");
    let (mut world, conn) = reconnected();
    beats(&mut world, conn, 2, 40 * S);
    assert_eq!(world.state("AC1", "10.0.0.1"), "working", "three beats");
    beats(&mut world, conn, 1, S);
    assert_eq!(world.state("AC1", "10.0.0.1"), "lost");
}

#[test]
fn heartbeats_end_the_exemption_from_silence() {
    for beaten in [false, true] {
        let mut world = World::new();
        let conn = world.plain("10.0.0.1");
        world.dispatch("AC1", &[]).unwrap();
        world.report(conn, "AC1", Phase::Received, &["x"]);
        if beaten {
            beats(&mut world, conn, 8, 5 * S);
        }
        world.pass(TIMEOUT + 10);
        assert_eq!(world.online().is_empty(), beaten);
        assert_eq!(world.state("AC1", "10.0.0.1"), "working", "it may report");
        if beaten {
            continue;
        }
        beats(&mut world, conn, 8, 5 * S);
        world.report(conn, "AC1", Phase::Began, &["x"]);
        world.pass(5 * TIMEOUT);
        assert_eq!(world.online(), ["10.0.0.1"], "the next command runs");
    }
}

#[test]
fn work_on_foreign_keys_ends_by_heartbeats_too() {
    let mut world = World::new();
    let first = world.plain("10.0.0.1");
    world.report(first, "AC9", Phase::Received, &["x"]);
    // The old connection hangs while the host has a new one.
    let second = world.open("10.0.0.1:4001");
    world.beat(second);
    beats(&mut world, second, 7, 5 * S);
    assert_eq!(world.core.stats().hosts_at_work, 0);
}

#[test]
fn heartbeats_of_busy_plain_hosts_are_counted() {
    let mut world = World::new();
    let idle = world.plain("10.0.0.1");
    let busy = world.plain("10.0.0.2");
    let named = world.open("10.0.0.3:1");
    world.hello(named, "web-1", None);
    world.dispatch("AC1", &[]).unwrap();
    world.report(busy, "AC1", Phase::Received, &["x"]);
    world.report(named, "AC1", Phase::Received, &["x"]);
    let unwatched = |world: &World| [idle, busy, named].map(|c| world.core.fleet.is_unwatched(c));
    assert_eq!(unwatched(&world), [true, false, true]);
    world.report(busy, "AC1", Phase::Ended, &[]);
    world.beat(busy);
    assert_eq!(unwatched(&world), [true; 3]);
}

#[test]
fn a_busy_plain_host_has_ten_timeouts_to_come_back() {
    let mut world = World::new();
    for i in 1..=3 {
        let conn = world.plain(&format!("10.0.0.{i}"));
        world.dispatch(["AC1", "AC2", "AC3"][i - 1], &[]).unwrap();
        world.rcc(conn, ResultCode::Received, Some("AC1"));
    }
    let named = world.open("10.0.0.9:1");
    world.hello(named, "web-1", None);
    let idle = world.plain("10.0.0.4");
    world.dispatch("AC4", &["web-1"]).unwrap();
    world.rcc(named, ResultCode::Received, Some("AC4"));
    world.beat(idle);
    let mut store = world.store;
    store.events.clear();
    let mut world = World::starting(store);
    world.come_up(true);
    world.pass(TIMEOUT + 10);
    assert_eq!(world.online(), ["10.0.0.1"], "the others run nothing");
    let late = world.plain("10.0.0.2");
    world.pass_beating(9 * TIMEOUT - 30, &[late]);
    assert_eq!(world.online(), ["10.0.0.1", "10.0.0.2"]);
    world.pass(20);
    assert_eq!(world.online(), ["10.0.0.2"]);
    assert_eq!(world.core.stats().hosts_inherited, 0);
}

#[test]
fn after_a_restart_a_busy_host_gets_no_copy() {
    let mut world = World::new();
    let busy = world.plain("10.0.0.1");
    world.plain("10.0.0.2");
    world.dispatch("AC1", &["10.0.0.1"]).unwrap();
    world.report(busy, "AC1", Phase::Received, &["x"]);
    world.dispatch("AC2", &[]).unwrap();
    let mut store = world.store;
    store.events.clear();
    let mut world = World::starting(store);
    world.come_up(true);
    let busy = world.plain("10.0.0.1");
    assert_eq!(world.sent_to(), ["10.0.0.2:6655 AC2"]);
    world.pass(50 * S);
    assert!(world.sent().iter().all(|sent| sent.1 == "10.0.0.2:6655"));
    // Its reports are lost with the connection: it has forgotten what it did.
    beats(&mut world, busy, 9, 5 * S);
    assert_eq!(world.state("AC1", "10.0.0.1"), "lost");
    assert!(!world.sent().is_empty(), "the tries begin anew");
}

#[test]
fn after_a_restart_a_queued_task_waits_for_a_rest() {
    let mut world = World::new();
    let mut task = world.task("AC1", &["10.0.0.1"]);
    task.queue = true;
    let _ = world.ask(request::Request::Dispatch(task));
    let mut world = World::starting(world.store);
    // The last process may have sent it without a trace: the host comes while its store is away.
    let host = world.plain("10.0.0.1");
    world.report(host, "AC9", Phase::Ended, &[]);
    let over = world.ms;
    world.come_up(true);
    assert_eq!(world.state("AC1", "10.0.0.1"), "sent");
    world.pass(20 * S);
    let first = world.sent()[0].0 - over;
    assert!(first >= 1_000 * REST_S, "{first}");
}
