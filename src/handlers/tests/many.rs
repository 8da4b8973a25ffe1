//! Requests with many hosts, of which a step handles a part.

use super::*;
use crate::handlers::tasks::table::Room;
use crate::limits::{HOSTS_PER_OP_MAX, HOSTS_PER_STEP_MAX};

const MANY: usize = 3 * HOSTS_PER_STEP_MAX;
const STEP: usize = 50;

/// Names in reverse order, with the first repeated at the end.
fn names() -> Vec<String> {
    let mut names: Vec<String> = (0..MANY).rev().map(|n| format!("h-{n:04}")).collect();
    names.push(names[0].clone());
    names
}

impl World {
    /// Sends a request with many hosts, and runs its first step only.
    fn ask_much(&mut self, ask: request::Request) -> u64 {
        self.next += 1;
        let requester = u64::from(self.next);
        let _ = self.input(Input::Request {
            requester,
            request: ask,
        });
        assert!(self.core.has_jobs(), "a step is not enough");
        requester
    }

    fn step(&mut self) -> bool {
        let mut fx = Effects::default();
        let more = self.core.go_on(self.at(), STEP, &mut fx);
        self.take(fx);
        more
    }

    /// Number of steps to the end.
    fn steps(&mut self) -> usize {
        let mut steps = 1;
        while self.step() {
            steps += 1;
        }
        steps
    }

    /// Passes operations to the store, and returns its answers.
    fn store_all(&mut self) {
        while let Some(batch) = self.core.pull(self.at(), 64) {
            for op in batch.ops {
                if let Some(outcome) = self.store.run(op) {
                    let _ = self.input(Input::Outcome(outcome));
                }
            }
        }
    }

    fn many(&mut self, queue: bool) -> request::Request {
        let hosts = Some(names());
        let task = self.task("AC1", &[]);
        request::Request::Dispatch(NewTask {
            hosts,
            queue,
            ..task
        })
    }
}

#[test]
fn a_step_handles_no_more_hosts_of_a_task_than_it_may() {
    let mut world = World::new();
    let ask = world.many(true);
    let requester = world.ask_much(ask);
    // One more name than hosts, and the end of the names is found by a step as well.
    let names_left = MANY + 1 - HOSTS_PER_STEP_MAX;
    assert_eq!(world.steps(), names_left / STEP + 1);
    assert_eq!(world.core.stats().deliveries_open, 0, "nothing is stored");

    world.store_all();
    let mut open = world.core.stats().deliveries_open;
    assert_eq!(open, HOSTS_PER_STEP_MAX as u64);
    while world.core.has_jobs() {
        assert!(
            world.answer_to(requester).is_none(),
            "not before all is done"
        );
        world.step();
        let now = world.core.stats().deliveries_open;
        assert!(now > open && now - open <= STEP as u64, "{open} to {now}");
        open = now;
    }
    assert_eq!(open, MANY as u64);
    let Some(request::Response::Dispatched { hosts, unknown, .. }) = world.answer_to(requester)
    else {
        panic!("it is stored");
    };
    let named: Vec<&str> = hosts.iter().map(|(host, _)| host.as_str()).collect();
    assert_eq!(named, names()[..MANY], "each once, as they were named");
    assert!(hosts.iter().all(|host| host.1 == TaskState::Queued));
    assert_eq!(unknown.len(), MANY);
}

#[test]
fn a_task_is_listed_when_all_its_hosts_are_there() {
    let mut world = World::new();
    let ask = world.many(true);
    world.ask_much(ask);
    world.steps();
    world.store_all();
    assert!(world.core.has_jobs());
    let tasks = |world: &mut World| {
        let requester = u64::MAX - world.inputs;
        let (cursor, limit) = (0, 9);
        let ask = request::Request::Tasks { cursor, limit };
        let _ = world.input(Input::Request {
            requester,
            request: ask,
        });
        match world.answer_to(requester) {
            Some(request::Response::Tasks { tasks, .. }) => tasks.len(),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(tasks(&mut world), 0);
    let again = world.task("AC1", &["x"]);
    let requester = u64::MAX;
    let ask = request::Request::Dispatch(again);
    let _ = world.input(Input::Request {
        requester,
        request: ask,
    });
    let refused = error(world.answer_to(requester).unwrap());
    assert_eq!(refused.0, ErrorKind::Taken, "its key is used already");
    world.steps();
    assert_eq!(tasks(&mut world), 1);
}

#[test]
fn a_host_online_during_entry_gets_the_task_once() {
    let mut world = World::new();
    let ask = world.many(true);
    world.ask_much(ask);
    world.steps();
    world.store_all();
    // The first host is entered already, the last is not.
    let last = format!("h-{:04}", MANY - 1);
    for host in ["h-0000", &last] {
        let conn = world.open("10.0.0.7:4000");
        let hello = Hello {
            id: host.into(),
            udp: None,
            push: true,
            boot: None,
            ..Hello::default()
        };
        let message = Message::Hello(hello);
        let ask = ReplyRequest {
            reply: false,
            seq: None,
        };
        let incoming = Incoming { message, ask };
        let _ = world.input(Input::Message { conn, incoming });
    }
    assert!(world.core.has_jobs());
    world.steps();
    world.settle();
    assert_eq!(world.sent_to().len(), 2);
    assert_eq!(world.state("AC1", "h-0000"), "sent");
    assert_eq!(world.core.stats().tasks_open, 1);
}

#[test]
fn lost_tasks_are_rewritten_with_all_hosts() {
    let mut world = World::new();
    let ask = world.many(true);
    world.ask_much(ask);
    world.steps();
    world.store_all();
    assert!(world.core.has_jobs());
    world.go_away();
    world.store = Model::default();
    let (session, lease_clear, lost_data) = (2, true, true);
    for outcome in [
        Outcome::Held(Vec::new()),
        Outcome::Available {
            session,
            lease_clear,
            lost_data,
        },
    ] {
        let _ = world.input(Input::Outcome(outcome));
    }
    world.up = true;
    world.store_all();
    assert!(world.store.tasks.is_empty(), "not without its last hosts");
    world.steps();
    world.settle();
    assert_eq!(world.store.tasks["AC1"].states.len(), MANY);
}

#[test]
fn a_lost_task_is_listed_in_steps_with_its_last_states() {
    let mut world = World::new();
    let conn = world.plain("10.0.0.1");
    let task = world.task("AC1", &[]);
    let hosts = Some([names(), vec!["10.0.0.1".to_owned()]].concat());
    world.ask_much(request::Request::Dispatch(NewTask {
        hosts,
        queue: true,
        ..task
    }));
    world.settle();
    world.go_away();
    world.store = Model::default();
    let available = |session| Outcome::Available {
        session,
        lease_clear: true,
        lost_data: true,
    };
    // The store goes away once more under a listing, which is then of no use.
    for session in [2, 3] {
        let _ = world.input(Input::Outcome(available(session)));
        world.up = true;
        world.store_all();
        assert!(world.store.tasks.is_empty(), "its hosts are not listed yet");
        if session == 2 {
            world.step();
            world.go_away();
        }
    }
    world.step();
    // Its state has been listed: the host is the first by name.
    let answer = Message::Answer(Answer {
        code: ResultCode::Received,
        task: Some("AC1".into()),
    });
    let message = Input::Message {
        conn,
        incoming: Incoming {
            message: answer,
            ask: ReplyRequest::default(),
        },
    };
    assert_eq!(world.input(message), Flow::Taken);
    world.store_all();
    let steps = world.steps();
    assert!(steps >= MANY / STEP - 1, "{steps} steps");
    world.store_all();
    let states = &world.store.tasks["AC1"].states;
    assert_eq!(states.len(), MANY + 1);
    assert_eq!(
        states[&HostId::named("10.0.0.1").unwrap()],
        TaskState::Answered
    );
    world.settle();
    assert_eq!(world.store.restored, 1);
}

#[test]
fn many_tasks_that_are_due_at_once_take_several_turns() {
    let mut world = World::new();
    let many = 2 * HOSTS_PER_STEP_MAX as u64;
    for key in 0..many {
        let task = world.task(&format!("AC{key}"), &["10.0.0.9"]);
        world.ask(request::Request::Dispatch(NewTask {
            queue: true,
            ..task
        }));
    }
    world.settle();
    assert_eq!(world.core.stats().deliveries_open, many);
    world.ms += world.core.env.rules.keep.as_nanos() / 1_000_000 + 1;
    for left in [many / 2, 0] {
        world.ms += 1;
        let (at, mut fx) = (world.at(), Effects::default());
        let next = world.core.tick(at.now, at, &mut fx);
        world.take(fx);
        assert_eq!(world.core.stats().deliveries_open, left);
        let is_due = next.is_some_and(|next| next <= at.now + Span::from_millis(1));
        assert_eq!(is_due, left > 0);
    }
}

#[test]
fn a_late_wrong_name_is_an_error() {
    let mut world = World::new();
    let mut hosts = names();
    hosts.push("a b".to_owned());
    let task = world.task("AC1", &[]);
    let hosts = Some(hosts);
    let requester = world.ask_much(request::Request::Dispatch(NewTask { hosts, ..task }));
    world.steps();
    let (kind, text) = error(world.answer_to(requester).unwrap());
    assert_eq!(kind, ErrorKind::Wrong);
    assert!(text.contains("a b"), "{text}");
    assert!(world.core.settled());
}

#[test]
fn all_that_are_online_are_found_in_steps() {
    let mut world = World::new();
    let count = HOSTS_PER_STEP_MAX + 2 * STEP;
    for n in 0..count {
        world.plain(&format!("10.0.{}.{}", n / 250, n % 250));
    }
    let task = world.task("AC1", &[]);
    let requester = world.ask_much(request::Request::Dispatch(task));
    assert!(world.steps() >= 3);
    world.settle();
    world.steps();
    let answer = world.answer_to(requester);
    let Some(request::Response::Dispatched { hosts, unknown, .. }) = answer else {
        panic!("{answer:?}");
    };
    assert_eq!((hosts.len(), unknown.len()), (count, 0));
    world.settle();
    assert_eq!(world.sent_to().len(), count);
}

#[test]
fn a_command_to_many_hosts_takes_steps_as_well() {
    let mut world = World::new();
    let hosts = Some(names());
    let (text, cid) = ("uptime".to_owned(), "c".repeat(32));
    let requester = world.ask_much(request::Request::Command {
        text,
        hosts,
        target: None,
        cid,
    });
    let both = 2 * (MANY - HOSTS_PER_STEP_MAX) / STEP;
    let steps = world.steps();
    assert!((both..=both + 2).contains(&steps), "{steps} of {both}");
    let Some(request::Response::Commanded { hosts, unknown, .. }) = world.answer_to(requester)
    else {
        panic!("it went out");
    };
    assert!(hosts.is_sorted_by_key(|host| &host.0) && unknown.is_sorted());
    assert_eq!((hosts.len(), unknown.len()), (MANY, MANY));
    let cid = "c".repeat(32);
    let requester = world.ask_much(request::Request::CommandStatus { cid });
    assert_eq!(world.steps(), (MANY - HOSTS_PER_STEP_MAX).div_ceil(STEP));
    let Some(request::Response::Command(view)) = world.answer_to(requester) else {
        panic!("it is shown");
    };
    let shown: Vec<&HostId> = view.hosts.iter().map(|host| &host.0).collect();
    assert_eq!(shown, hosts.iter().map(|host| &host.0).collect::<Vec<_>>());
}

#[test]
fn requests_take_turns() {
    let mut world = World::new();
    let ask = world.many(false);
    let long = world.ask_much(ask);
    let hosts = Some(names()[..HOSTS_PER_STEP_MAX + 1].to_vec());
    let (text, cid) = ("uptime".to_owned(), "c".repeat(32));
    let short = world.ask_much(request::Request::Command {
        text,
        hosts,
        target: None,
        cid,
    });
    while world.answer_to(short).is_none() {
        assert!(world.step() && world.answer_to(long).is_none());
    }
}

#[test]
fn a_stop_refuses_unsent_and_enters_stored_tasks() {
    let mut world = World::new();
    let ask = world.many(false);
    let stored = world.ask_much(ask);
    world.steps();
    world.store_all();
    let hosts = Some(names());
    let (text, cid) = ("uptime".to_owned(), "c".repeat(32));
    let named = world.ask_much(request::Request::Command {
        text,
        hosts,
        target: None,
        cid,
    });
    let mut fx = Effects::default();
    world.core.shutdown(world.at(), false, &mut fx);
    world.take(fx);
    assert_eq!(error(world.answer_to(named).unwrap()).0, ErrorKind::NotNow);
    assert!(!world.core.settled());
    world.steps();
    let answer = world.answer_to(stored);
    assert!(matches!(answer, Some(request::Response::Dispatched { .. })));
    world.store_all();
    assert!(world.core.settled());
}

#[test]
fn a_task_of_many_hosts_expires_and_goes_in_steps() {
    let mut world = World::new();
    let ask = world.many(true);
    world.ask_much(ask);
    world.settle();
    assert_eq!(world.core.stats().deliveries_open, MANY as u64);

    world.ms += world.core.env.rules.keep.as_millis();
    let (mut fx, at) = (Effects::default(), world.at());
    world.core.tick(at.now, at, &mut fx);
    let mut open = world.core.stats().deliveries_open;
    assert!(open >= (MANY - HOSTS_PER_STEP_MAX) as u64, "{open}");
    while world.core.has_jobs() {
        world.step();
        let now = world.core.stats().deliveries_open;
        assert!(open - now <= STEP as u64, "{open} to {now}");
        open = now;
    }
    assert_eq!(open, 0);
    world.settle();
    let states = &world.store.tasks["AC1"].states;
    assert!(states.values().all(|state| *state == TaskState::Expired));

    world.ms += world.core.env.rules.keep.as_millis();
    let (mut fx, at) = (Effects::default(), world.at());
    world.core.tick(at.now, at, &mut fx);
    while world.core.tasks.is_expiring() {
        world.step();
    }
    let left = |world: &mut World| world.core.tasks.table().held_deliveries();
    let mut held = left(&mut world);
    assert_eq!(held, MANY - HOSTS_PER_STEP_MAX);
    assert_eq!(world.core.tasks.table().taken(), Room::default());
    while world.core.has_jobs() {
        world.step();
        assert!(held - left(&mut world) <= STEP);
        held = left(&mut world);
    }
    assert_eq!(held, 0);
}

/// A start once entered and resumed a task of 400,000 hosts in one turn.
#[test]
fn a_large_stored_task_is_resumed_in_steps() {
    let mut before = World::new();
    let ask = before.many(true);
    before.ask_much(ask);
    before.settle();
    let mut world = World::starting(before.store);
    world.ms = before.ms + 500;
    let _ = world.input(Input::Outcome(Outcome::Held(world.store.held())));
    let tasks = world.store.held_tasks();
    let _ = world.input(Input::Outcome(Outcome::Tasks(tasks)));
    let entered = |world: &mut World| world.core.tasks.table().held_deliveries();
    let mut held = entered(&mut world);
    assert_eq!(held, HOSTS_PER_STEP_MAX);
    while world.core.has_jobs() {
        assert!(!world.core.takes_outcomes(), "the next one has to wait");
        world.step();
        assert!(entered(&mut world) - held <= STEP);
        held = entered(&mut world);
    }
    assert_eq!(held, MANY);
    assert!(world.core.takes_outcomes());

    // One host is back already, and another connects while the task is resumed.
    let early = world.open("10.0.0.1:1");
    world.hello_with(early, "h-0700", None, None, true);
    world.up = true;
    let _ = world.input(Input::Outcome(Outcome::Available {
        session: 1,
        lease_clear: true,
        lost_data: false,
    }));
    for _ in 0..(MANY - HOSTS_PER_STEP_MAX) / STEP {
        assert!(!world.core.takes_outcomes(), "not before all are resumed");
        world.step();
    }
    let late = world.open("10.0.0.2:1");
    world.hello_with(late, "h-0701", None, None, true);
    world.settle();
    let mut sent = world.sent_to();
    sent.sort();
    let push = |conn: ConnId| format!("push {} AC1", conn.slot);
    assert_eq!(sent, [push(early), push(late)], "once each");
    assert_eq!(world.state("AC1", "h-0000"), "queued");
}

#[test]
fn states_of_a_finished_task_are_written_by_the_piece() {
    let mut world = World::new();
    let ask = world.many(false);
    world.ask_much(ask);
    world.steps();
    world.store_all();
    world.steps();
    let batch = world.core.pull(world.at(), 1).expect("states");
    let Op::TaskStates(states) = &batch.ops[0] else {
        panic!("{:?}", batch.ops);
    };
    assert!(states.states.len() <= HOSTS_PER_OP_MAX && states.over);
}
