//! Retransmissions: their times, and hosts without any.

use super::*;

/// Times between the sends, in milliseconds.
fn gaps(sent: &[(u64, String, String)]) -> Vec<u64> {
    let times: Vec<u64> = sent.iter().map(|sent| sent.0).collect();
    times.windows(2).map(|pair| pair[1] - pair[0]).collect()
}

#[test]
fn tries_double_give_or_take_a_quarter_and_end() {
    let mut world = World::new();
    let conn = world.plain("10.0.0.1");
    world.dispatch("AC1", &[]).unwrap();
    world.pass_beating(200_000, &[conn]);
    let sent = world.sent();
    assert_eq!(sent.len(), 5, "{sent:?}");
    for (gap, about) in gaps(&sent).into_iter().zip([3_000, 6_000, 12_000, 24_000]) {
        assert!(gap >= about * 3 / 4 && gap <= about * 5 / 4 + 5, "{gap}");
    }
    assert_eq!(world.state("AC1", "10.0.0.1"), "unanswered");
    assert_eq!(world.core.stats().resends, 4);
    assert!(
        world.core.tasks.deadlines_len() < 3,
        "no deadlines are left behind"
    );
}

#[test]
fn the_last_interval_ends_before_unanswered() {
    let mut world = World::new();
    world.core.env.rules.tries = 1;
    let conn = world.plain("10.0.0.1");
    world.dispatch("AC1", &[]).unwrap();
    world.pass_beating(2_200, &[conn]);
    assert_eq!(world.state("AC1", "10.0.0.1"), "sent");
    world.pass(1_600);
    assert_eq!(world.state("AC1", "10.0.0.1"), "unanswered");
    assert_eq!(world.sent().len(), 1);
}

#[test]
fn an_answer_ends_the_tries_and_a_late_one_counts() {
    let mut world = World::new();
    let conn = world.plain("10.0.0.1");
    let late = world.plain("10.0.0.2");
    world.dispatch("AC1", &[]).unwrap();
    world.rcc(conn, ResultCode::Received, Some("AC1"));
    world.sent();
    world.pass_beating(200_000, &[conn, late]);
    assert!(world.sent().iter().all(|sent| sent.1 == "10.0.0.2:6655"));
    assert_eq!(world.state("AC1", "10.0.0.1"), "answered");
    assert_eq!(world.state("AC1", "10.0.0.2"), "unanswered");
    world.rcc(late, ResultCode::Received, Some("AC1"));
    assert_eq!(world.state("AC1", "10.0.0.2"), "answered");
    assert_eq!(world.core.stats().late_answers, 1);
}

#[test]
fn tries_of_an_offline_host_are_skipped_but_counted() {
    let mut world = World::new();
    let conn = world.plain("10.0.0.1");
    world.dispatch("AC1", &[]).unwrap();
    world.end(conn, End::Closed);
    world.pass(15_000);
    let conn = world.plain("10.0.0.1");
    world.pass_beating(200_000, &[conn]);
    let sent = world.sent().len();
    assert!((2..=4).contains(&sent), "{sent} of five were sent");
    assert_eq!(world.state("AC1", "10.0.0.1"), "unanswered");
}

#[test]
fn busy_hosts_get_no_second_copy() {
    for foreign in [false, true] {
        let mut world = World::new();
        let conn = world.plain("10.0.0.1");
        if !foreign {
            world.dispatch("AC1", &[]).unwrap();
        }
        world.report(conn, "AC1", Phase::Received, &["sleep 600"]);
        world.dispatch("AC2", &[]).unwrap();
        let first = world.sent_to();
        assert_eq!(
            first.last().unwrap(),
            "10.0.0.1:6655 AC2",
            "the first goes at once"
        );
        world.pass(600_000);
        assert!(world.sent().is_empty(), "foreign {foreign}");
        assert_eq!(world.state("AC2", "10.0.0.1"), "sent");
        world.report(conn, "AC1", Phase::Ended, &[]);
        let over = world.ms;
        world.pass_beating(200_000, &[conn]);
        let sent = world.sent();
        assert_eq!(sent.len(), 4, "and no try was lost: {sent:?}");
        let wait = sent[0].0 - over;
        assert!((9_000..=9_755).contains(&wait), "{wait}");
    }
}

#[test]
fn a_damaged_datagram_is_repeated_at_once() {
    for code in [ResultCode::Unanswered, ResultCode::Damaged] {
        let mut world = World::new();
        let conn = world.plain("10.0.0.1");
        world.dispatch("AC1", &[]).unwrap();
        world.rcc(conn, ResultCode::Received, Some("AC1"));
        world.pass(10);
        world.dispatch("AC2", &[]).unwrap();
        world.pass(10);
        world.dispatch("AC3", &[]).unwrap();
        world.sent();
        // The text is that of the datagram before: not to be trusted.
        for _ in 0..10 {
            world.rcc(conn, code, Some("AC1"));
        }
        assert_eq!(world.sent_to(), ["10.0.0.1:6655 AC3"; 4]);
        world.rcc(conn, ResultCode::Received, Some("AC3"));
        world.rcc(conn, code, None);
        assert_eq!(world.sent_to(), ["10.0.0.1:6655 AC2"]);
        world.rcc(conn, ResultCode::Received, Some("AC2"));
        world.rcc(conn, code, Some("AC2"));
        assert!(
            world.sent().is_empty(),
            "an answered key is never sent again"
        );
    }
}

#[test]
fn no_book_ends_only_with_phase_1() {
    let mut world = World::new();
    let conn = world.plain("10.0.0.1");
    world.dispatch("AC1", &[]).unwrap();
    world.rcc(conn, ResultCode::Received, Some("AC1"));
    world.rcc(conn, ResultCode::NoBook, None);
    assert_eq!(world.state("AC1", "10.0.0.1"), "no-book");
    world.sent();
    world.report(conn, "AC1", Phase::Began, &["x"]);
    assert_eq!(world.state("AC1", "10.0.0.1"), "no-book");
    world.report(conn, "AC1", Phase::Received, &["x"]);
    assert_eq!(world.state("AC1", "10.0.0.1"), "working");
    world.pass_beating(100_000, &[conn]);
    assert!(world.sent().is_empty());
}
