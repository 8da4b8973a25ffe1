//! Reports of hosts on tasks, and their consequences.

use super::*;

#[test]
fn a_finished_host_changes_no_more() {
    let mut world = World::new();
    let conn = world.plain("10.0.0.1");
    world.dispatch("AC1", &[]).unwrap();
    world.report(conn, "AC1", Phase::Received, &["a", "b"]);
    assert_eq!(world.state("AC1", "10.0.0.1"), "working");
    world.rcc(conn, ResultCode::Received, Some("AC1"));
    assert_eq!(
        world.state("AC1", "10.0.0.1"),
        "working",
        "not back to answered"
    );
    world.report(conn, "AC1", Phase::Began, &["a", "b"]);
    world.report(conn, "AC1", Phase::Ended, &["b"]);
    assert_eq!(world.state("AC1", "10.0.0.1"), "working");
    world.report(conn, "AC1", Phase::Ended, &[]);
    assert_eq!(world.state("AC1", "10.0.0.1"), "done");
    let stored = world.store.reports;
    assert_eq!(
        world.progress(conn, Phase::Received, &["a"], 9),
        Flow::Taken
    );
    assert_eq!(world.words(conn), [Word::GotIt]);
    assert_eq!(world.store.reports, stored, "and nothing is written");
    assert_eq!(world.state("AC1", "10.0.0.1"), "done");
    assert_eq!(world.core.stats().hosts_at_work, 1, "it runs once more");
    world.report(conn, "AC1", Phase::Ended, &[]);
    assert_eq!(world.core.stats().hosts_at_work, 0);
    assert!(
        world
            .told
            .contains(&"progress 10.0.0.1 AC1 done".to_owned())
    );
}

#[test]
fn repeats_are_acknowledged_with_the_original() {
    let mut world = World::new();
    let conn = world.plain("10.0.0.1");
    world.dispatch("AC1", &[]).unwrap();
    world.up = false;
    for seq in 1..=3 {
        assert_eq!(world.progress(conn, Phase::Ended, &[], seq), Flow::Taken);
    }
    assert!(world.words(conn).is_empty());
    world.up = true;
    world.settle();
    assert_eq!(world.words(conn), [Word::GotIt, Word::GotIt, Word::GotIt]);
    assert_eq!(world.store.reports, 1);
}

#[test]
fn a_foreign_task_allows_no_silence() {
    let mut world = World::new();
    let named = world.plain("10.0.0.1");
    let other = world.plain("10.0.0.2");
    world.dispatch("AC1", &["10.0.0.1"]).unwrap();
    world.report(named, "AC1", Phase::Received, &["x"]);
    world.report(other, "AC1", Phase::Received, &["x"]);
    world.pass(2 * TIMEOUT);
    assert_eq!(world.online(), ["10.0.0.1"]);
    assert_eq!(world.store.reports, 2, "it is recorded all the same");
}

#[test]
fn state_offline_is_kept_by_a_busy_host() {
    let mut world = World::new();
    world.dispatch("AC1", &["10.0.0.1"]).unwrap();
    let conn = world.plain("10.0.0.1");
    world.report(conn, "AC1", Phase::Received, &["x"]);
    assert_eq!(world.state("AC1", "10.0.0.1"), "offline");
    assert_eq!(world.store.reports, 1, "the report is stored");
    world.pass(5 * TIMEOUT);
    assert_eq!(world.online(), ["10.0.0.1"]);
    world.report(conn, "AC1", Phase::Ended, &[]);
    assert_eq!(world.state("AC1", "10.0.0.1"), "offline");
    assert_eq!(world.core.stats().hosts_at_work, 0);
}

#[test]
fn long_work_is_lost_and_late_reports_count() {
    let mut world = World::new();
    let conn = world.plain("10.0.0.1");
    world.dispatch("AC1", &[]).unwrap();
    world.rcc(conn, ResultCode::Received, Some("AC1"));
    world.pass_beating(3_000_000, &[conn]);
    world.report(conn, "AC1", Phase::Received, &["x"]);
    world.pass_beating(3_599_000, &[conn]);
    assert_eq!(world.state("AC1", "10.0.0.1"), "working");
    world.pass_beating(2_000, &[conn]);
    assert_eq!(world.state("AC1", "10.0.0.1"), "lost");
    world.report(conn, "AC1", Phase::Ended, &["x"]);
    assert_eq!(world.state("AC1", "10.0.0.1"), "working");
    assert_eq!(world.core.stats().late_answers, 1);
}

#[test]
fn a_connection_that_ends_at_work_loses_nothing() {
    let mut world = World::new();
    let conn = world.plain("10.0.0.1");
    world.dispatch("AC1", &[]).unwrap();
    world.report(conn, "AC1", Phase::Received, &["x"]);
    world.end(conn, End::Reset);
    assert_eq!(world.state("AC1", "10.0.0.1"), "working");
    let conn = world.plain("10.0.0.1");
    world.pass(10 * TIMEOUT);
    assert_eq!(world.online(), ["10.0.0.1"], "it is still at work");
    world.report(conn, "AC1", Phase::Ended, &[]);
    assert_eq!(world.state("AC1", "10.0.0.1"), "done");
}

#[test]
fn a_new_boot_or_a_report_ends_work_as_lost() {
    let mut world = World::new();
    let conn = world.open("10.0.0.1:1");
    world.hello(conn, "web-1", Some("aa"));
    world.dispatch("AC1", &["web-1"]).unwrap();
    world.dispatch("AC2", &["web-1"]).unwrap();
    world.dispatch("AC3", &["web-1"]).unwrap();
    world.report(conn, "AC1", Phase::Began, &["x"]);
    world.rcc(conn, ResultCode::Received, Some("AC2"));
    let again = world.open("10.0.0.1:2");
    world.hello(again, "web-1", Some("aa"));
    assert_eq!(world.state("AC1", "web-1"), "working");
    let again = world.open("10.0.0.1:3");
    world.hello(again, "web-1", Some("bb"));
    assert_eq!(world.state("AC1", "web-1"), "lost");
    assert_eq!(world.state("AC2", "web-1"), "lost");
    assert_eq!(world.state("AC3", "web-1"), "sent");
    world.report(again, "AC3", Phase::Began, &["x"]);
    let progress = Progress {
        lost: true,
        ..progress_of("AC3", Phase::Ended, &["x"])
    };
    let _ = world.send(again, Message::Progress(progress), None);
    assert_eq!(world.state("AC3", "web-1"), "lost");
}

#[test]
fn unfinished_deliveries_expire() {
    let mut world = World::new();
    let conn = world.plain("10.0.0.1");
    let lost = world.plain("10.0.0.2");
    world.dispatch("AC1", &[]).unwrap();
    world.report(lost, "AC1", Phase::Received, &["x"]);
    world.end(conn, End::Closed);
    world.end(lost, End::Closed);
    let renewed = world.store.renewed;
    world.pass(7 * 86_400_000 - 1_000);
    assert_eq!(world.state("AC1", "10.0.0.1"), "unanswered");
    assert_eq!(world.state("AC1", "10.0.0.2"), "lost");
    world.pass(2_000);
    assert_eq!(world.state("AC1", "10.0.0.1"), "expired");
    assert_eq!(world.state("AC1", "10.0.0.2"), "expired");
    assert!(
        world.store.renewed > renewed,
        "each end begins its lifetime anew"
    );
}

#[test]
fn a_state_never_overtakes_the_report_before_it() {
    let mut world = World::new();
    let conn = world.open("10.0.0.1:1");
    world.hello(conn, "web-1", Some("aa"));
    world.dispatch("AC1", &["web-1"]).unwrap();
    world.up = false;
    world.report(conn, "AC1", Phase::Began, &["x"]);
    let again = world.open("10.0.0.1:2");
    world.hello(again, "web-1", Some("bb"));
    world.up = true;
    world.settle();
    assert_eq!(world.state("AC1", "web-1"), "lost");
}

#[test]
fn a_book_is_for_the_hosts_of_its_task() {
    let mut world = World::new();
    let conn = world.plain("10.0.0.1");
    let other = world.plain("10.0.0.2");
    let mut task = world.task("AC1", &["10.0.0.1"]);
    let pairs = [("df", 1.0), ("uptime", 2.0), ("ls", 1.0)];
    task.commands = pairs.map(|(text, p)| (text.to_owned(), p)).into();
    let _ = world.ask(request::Request::Dispatch(task));
    let book =
        |task: &'static str| Message::Book(crate::codec::message::Book { task: task.into() });
    let _ = world.send(conn, book("AC1"), None);
    let order = [("uptime", 2.0), ("ls", 1.0), ("df", 1.0)];
    let expected = Word::Book {
        task: "AC1".to_owned(),
        commands: order.map(|(text, p)| (text.to_owned(), p)).into(),
    };
    assert_eq!(world.words(conn), [expected]);
    for key in ["AC1", "AC9", "no key"] {
        let _ = world.send(other, book(key), None);
    }
    let words = world.words(other);
    let no_such = Word::Refused("no such task for this host".to_owned());
    assert_eq!(words, vec![no_such; 3]);
}

#[test]
fn datagrams_count_only_for_online_hosts() {
    let mut world = World::new();
    let conn = world.plain("10.0.0.1");
    world.dispatch("AC1", &[]).unwrap();
    let datagram = |world: &mut World, from: &str, message: Message<'_>| {
        let from: SocketAddr = from.parse().unwrap();
        let ask = ReplyRequest {
            reply: true,
            seq: Some(1),
        };
        let incoming = Incoming { message, ask };
        let _ = world.input(Input::Datagram { from, incoming });
        world.settle();
    };
    let received = || {
        Message::Answer(Answer {
            code: ResultCode::Received,
            task: Some("AC1".into()),
        })
    };
    datagram(&mut world, "10.0.0.2:6655", received());
    datagram(&mut world, "10.0.0.2:6655", Message::Heartbeat);
    let progress = Message::Progress(progress_of("AC1", Phase::Ended, &[]));
    datagram(&mut world, "10.0.0.1:6655", progress);
    assert_eq!(world.core.stats().datagrams_refused, 3);
    assert_eq!(world.online(), ["10.0.0.1"]);
    assert_eq!(world.state("AC1", "10.0.0.1"), "sent");
    datagram(&mut world, "10.0.0.1:9", received());
    assert_eq!(world.state("AC1", "10.0.0.1"), "answered");
    assert!(world.words(conn).is_empty(), "never answered");
    assert!(world.core.settled(), "and its room is given back");

    for (port, name, udp) in [(1, "a", 7001), (2, "b", 7002)] {
        let conn = world.open(&format!("10.0.0.3:{port}"));
        world.hello_with(conn, name, None, Some(udp), false);
    }
    world.dispatch("AC2", &["a", "b"]).unwrap();
    let of = || {
        Message::Answer(Answer {
            code: ResultCode::Received,
            task: Some("AC2".into()),
        })
    };
    datagram(&mut world, "10.0.0.3:7002", of());
    datagram(&mut world, "10.0.0.3:9", of());
    assert_eq!(world.state("AC2", "a"), "sent");
    assert_eq!(world.state("AC2", "b"), "answered");
}

#[test]
fn a_heartbeat_by_datagram_extends_the_deadline() {
    let mut world = World::new();
    world.plain("10.0.0.1");
    for _ in 0..5 {
        world.pass(TIMEOUT - 10);
        let incoming = Incoming {
            message: Message::Heartbeat,
            ask: ReplyRequest::default(),
        };
        let from = "10.0.0.1:6655".parse().unwrap();
        let _ = world.input(Input::Datagram { from, incoming });
    }
    assert_eq!(world.online(), ["10.0.0.1"]);
    world.pass(TIMEOUT + 10);
    assert!(world.online().is_empty());
}

#[test]
fn a_task_expires_when_all_hosts_have_ended() {
    let mut world = World::new();
    let conns = ["10.0.0.1", "10.0.0.2", "10.0.0.3"].map(|ip| world.plain(ip));
    let named = ["10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.9"];
    world.dispatch("AC1", &named).unwrap();
    // The walk writes all states, that of the host that was offline, too.
    world.pass(SWEEPS_MS);
    assert_eq!(world.store.renewed, 0, "one is offline, others have it");
    world.report(conns[0], "AC1", Phase::Ended, &[]);
    world.rcc(conns[1], ResultCode::NoBook, Some("AC1"));
    world.core.env.rules.tries = 1;
    world.pass_beating(60_000, &conns);
    assert_eq!(world.state("AC1", "10.0.0.3"), "unanswered");
    world.go_away();
    world.come_up(true);
    world.pass_beating(20_000, &conns);
    assert_eq!(world.store.renewed, 0, "it may still answer");
    world.report(conns[2], "AC1", Phase::Ended, &[]);
    world.report(conns[1], "AC1", Phase::Received, &["x"]);
    assert_eq!(world.store.renewed, 0, "one had no book, and works now");
    world.report(conns[1], "AC1", Phase::Ended, &[]);
    assert!(world.store.renewed > 0);
}

#[test]
fn a_host_without_a_book_keeps_a_task_open() {
    let mut world = World::new();
    world.core.env.rules.keep = Span::from_secs(1_000);
    let conn = world.plain("10.0.0.1");
    world.dispatch("AC1", &[]).unwrap();
    world.rcc(conn, ResultCode::NoBook, Some("AC1"));
    world.pass_beating(990_000, &[conn]);
    assert_eq!(world.store.renewed, 0);
    world.pass_beating(70_000, &[conn]);
    assert_eq!(world.store.renewed, 1);
    world.pass_beating(900_000, &[conn]);
    assert_eq!(world.store.renewed, 1);
}

#[test]
fn a_task_that_makes_room_expires() {
    let mut world = World::new();
    world.core.env.rules.tries = 1;
    let conn = world.plain("10.0.0.1");
    world.dispatch("AC1", &[]).unwrap();
    world.pass_beating(60_000, &[conn]);
    assert_eq!(world.state("AC1", "10.0.0.1"), "unanswered");
    let room = crate::limits::DELIVERIES_MAX;
    let more = crate::handlers::tasks::table::Room {
        deliveries: room,
        ..Default::default()
    };
    assert_eq!(world.core.tasks.table().make_room(more), Some(1));
    world.core.cache.invalidate();
    world.settle();
    assert_eq!(world.store.renewed, 1);
}
