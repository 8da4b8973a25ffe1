//! Rollouts, and requests of tokens with a target.

use super::*;
use crate::handlers::request::{ErrorKind, Request, Response, Within};
use crate::handlers::tasks_options::{Amount, RolloutOptions};

const HOSTS: [&str; 4] = ["10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.1.1"];

fn fleet() -> World {
    let mut world = World::new();
    for host in HOSTS {
        world.plain(host);
    }
    world
}

impl World {
    /// A request of a token for the hosts of 10.0.0.0/24.
    fn asked_within(&mut self, request: Request) -> Response {
        let within = Within {
            token: "ops".to_owned(),
            target: "10.0.0.0/24".to_owned(),
        };
        self.asked(Request::Within(within, Box::new(request)))
    }

    fn task_for(&mut self, key: &str, target: &str) -> NewTask {
        let mut task = self.task(key, &[]);
        *task.rollout = RolloutOptions {
            target: Some(target.to_owned()),
            batch: vec![Amount::Hosts(1)],
            ..RolloutOptions::default()
        };
        task
    }
}

fn kind(response: &Response) -> Option<ErrorKind> {
    match response {
        Response::Error { kind, .. } => Some(*kind),
        _ => None,
    }
}

#[test]
fn a_token_with_a_target_is_refused_hosts_outside() {
    let mut world = fleet();
    let forbidden = Some(ErrorKind::Forbidden);
    let named = |world: &mut World, key: &str, hosts: &[&str]| {
        let task = world.task(key, hosts);
        kind(&world.asked_within(Request::Dispatch(task)))
    };
    assert_eq!(named(&mut world, "AC1", &HOSTS[..2]), None);
    assert_eq!(named(&mut world, "AC2", &HOSTS), forbidden);
    assert_eq!(named(&mut world, "AC2", &["web-9"]), forbidden);
    assert_eq!(named(&mut world, "AC2", &[]), forbidden, "all are named");
    for (target, expected) in [
        ("10.0.0.0/24", None),
        ("10.0.0.1,10.0.0.3", None),
        ("all", forbidden),
        ("10.0.0.0/16,!10.0.0.2", forbidden),
        ("10.0.9.0/24", Some(ErrorKind::Wrong)),
    ] {
        let task = world.task_for(&format!("AC{}", 10 + target.len()), target);
        let answer = world.asked_within(Request::Dispatch(task));
        assert_eq!(kind(&answer), expected, "{target}: {answer:?}");
        let command = Request::Command {
            text: "uptime".to_owned(),
            hosts: None,
            target: Some(target.to_owned()),
            cid: format!("{:032}", target.len()),
        };
        assert_eq!(kind(&world.asked_within(command)), expected, "{target}");
    }
}

#[test]
fn a_token_with_a_target_changes_tasks_of_its_hosts_only() {
    let mut world = fleet();
    for (key, target, expected) in [
        ("AC1", "10.0.0.0/24", None),
        ("AC2", "all", Some(ErrorKind::Forbidden)),
    ] {
        let task = world.task_for(key, target);
        assert_eq!(kind(&world.asked(Request::Dispatch(task))), None);
        let key = key.to_owned();
        for request in [
            Request::Pause { key: key.clone() },
            Request::Resume { key: key.clone() },
            Request::Cancel { key },
        ] {
            let answer = world.asked_within(request);
            assert_eq!(kind(&answer), expected, "{answer:?}");
        }
    }
    let none = Request::Cancel {
        key: "AC3".to_owned(),
    };
    assert_eq!(kind(&world.asked_within(none)), Some(ErrorKind::Unknown));
}

#[test]
fn a_resumed_wave_waits_for_a_rest() {
    let mut world = fleet();
    let task = world.task_for("AC1", "10.0.0.1,10.0.0.2");
    let _ = world.asked(Request::Dispatch(task));
    assert_eq!(world.sent_to(), ["10.0.0.1:6655 AC1"]);
    // The process dies before the store has `sent`.
    let id = HostId::checked("10.0.0.1").unwrap();
    let mut store = world.store;
    let task = store.tasks.get_mut("AC1").unwrap();
    task.states.insert(id, TaskState::Held);
    store.events.clear();
    let mut world = World::starting(store);
    let host = world.plain("10.0.0.1");
    world.report(host, "AC9", Phase::Ended, &[]);
    let over = world.ms;
    world.come_up(true);
    assert_eq!(world.state("AC1", "10.0.0.1"), "sent");
    world.pass(20_000);
    let first = world.sent()[0].0 - over;
    assert!(first >= 1_000 * crate::limits::REST_S, "{first}");
}
