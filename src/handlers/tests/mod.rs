//! Conversations of the core with hosts, with times, against a model of the store.

mod console;
mod dispatch;
mod keyed;
mod many;
mod model;
mod outage;
mod presence;
mod random;
mod reports;
mod restart;
mod results;
mod rollouts;
mod room;
mod sequence;
mod storm;
mod survey;
mod tries;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use self::model::Model;
use super::{Core, End, Flow, Input, Moment, Rules};
use crate::codec::message::{
    Answer, Hello, Incoming, Inventory, Message, Phase, Progress, Push, ReplyRequest, ResultCode,
    Word,
};
use crate::codec::{Abnormal, DecodeError};
use crate::handlers::effect::{Effect, Effects, EventKind};
use crate::handlers::request::{self, Datagram, ErrorKind, NewTask};
use crate::handlers::view::{Filter, StoreView};
use crate::ids::{ConnId, HostId, TaskKey};
use crate::limits::{
    REPLICATED_RECENT_S, REPORT_BYTES_WAITING_MAX, REPORTS_WAITING_MAX, TRANSITIONS_WAITING_MAX,
};
use crate::store::op::{
    Found, FoundHost, FoundResult, HeldHost, HeldTask, Hold, Lifetime, Op, Outcome, Question,
    Reason, Settled, Stored, TaskResult, TaskState,
};
use crate::time::{Instant, Span, UnixMs};

const TIMEOUT: u64 = 60_000;
const WALL: u64 = 1_800_000_000_000;
/// Time until the second sweep is over.
const SWEEPS_MS: u64 = 5_100;
/// Time until an audit is over.
const AUDITS_MS: u64 = 10_100;

/// A server without sockets: the core, the model store, and the time.
struct World {
    core: Core,
    store: Model,
    ms: u64,
    told: Vec<String>,
    effects: Vec<Effect>,
    /// Sends to hosts, with their times: `ms`, `address or connection`, `text`.
    sent: Vec<(u64, String, String)>,
    sessions: u32,
    up: bool,
    next: u32,
    inputs: u64,
}

impl World {
    /// A server whose store has not been available yet.
    fn starting(store: Model) -> Self {
        let rules = Rules {
            timeout: Span::from_millis(TIMEOUT),
            seed: 7,
            ..Rules::default()
        };
        Self {
            core: Core::new(rules, 1),
            store,
            ms: 1_000,
            told: Vec::new(),
            effects: Vec::new(),
            sent: Vec::new(),
            sessions: 0,
            up: false,
            next: 0,
            inputs: 0,
        }
    }

    /// A server with an empty store that answers at once.
    fn new() -> Self {
        let mut world = Self::starting(Model::default());
        world.come_up(true);
        world
    }

    fn come_up(&mut self, lease_clear: bool) {
        self.come_up_as(lease_clear, false);
    }

    /// A new store connection; the store may have lost its data.
    fn come_up_as(&mut self, lease_clear: bool, lost_data: bool) {
        self.up = true;
        let held = self.store.held();
        let _ = self.input(Input::Outcome(Outcome::Held(held)));
        if self.sessions == 0 {
            let tasks = self.store.held_tasks();
            let _ = self.input(Input::Outcome(Outcome::Tasks(tasks)));
        }
        self.sessions += 1;
        let _ = self.input(Input::Outcome(Outcome::Available {
            session: self.sessions,
            lease_clear,
            lost_data,
        }));
        self.settle();
    }

    fn go_away(&mut self) {
        self.up = false;
        let _ = self.input(Input::Outcome(Outcome::Unavailable("gone".to_owned())));
    }

    fn at(&self) -> Moment {
        let now = Instant::ZERO + Span::from_millis(self.ms);
        Moment {
            now,
            wall: UnixMs(WALL + self.ms),
        }
    }

    fn input(&mut self, input: Input<'_>) -> Flow {
        let mut fx = Effects::default();
        let flow = self.core.handle(self.at(), input, &mut fx);
        self.take(fx);
        self.inputs += 1;
        // The sweep examines every host: a large world is swept now and then.
        if self
            .inputs
            .is_multiple_of(1 + self.core.stats().sessions / 16)
        {
            self.core.assert_invariants();
        }
        flow
    }

    fn take(&mut self, fx: Effects) {
        for effect in &fx.list {
            if let Effect::Push { conn, push } = effect {
                let text = match push {
                    Push::Task(key) => key.to_string(),
                    Push::Cancel(key) => format!("cancel {key}"),
                    Push::Command { text, cid } => format!("{text} {cid}"),
                };
                let to = format!("push {}", conn.slot);
                self.sent.push((self.ms, to, text));
            }
            if let Effect::Tell(event) = effect {
                self.told.push(match &event.kind {
                    EventKind::Online { host, .. } => format!("online {host}"),
                    EventKind::Offline { host, reason } => {
                        format!("offline {host} {}", reason.as_str())
                    }
                    EventKind::MassOffline { count } => format!("mass-offline {count}"),
                    EventKind::Quarantine { host, .. } => format!("quarantine {host}"),
                    EventKind::Duplicate { host, .. } => format!("duplicate-id {host}"),
                    EventKind::NewIds { count } => format!("new-ids {count}"),
                    EventKind::UnknownKeys { count } => format!("unknown-keys {count}"),
                    EventKind::Dispatch { key, count } => format!("dispatch {key} {count}"),
                    EventKind::Answer { host, key, state } => {
                        format!("answer {host} {key} {state}")
                    }
                    EventKind::Progress {
                        host, key, state, ..
                    } => format!("progress {host} {key} {}", state.as_str()),
                    EventKind::Result {
                        host,
                        code,
                        command,
                        exit,
                    } => format!("result {host} {code} {command} {exit}"),
                    EventKind::Outside(news) => format!("{news:?}"),
                    EventKind::Audit(record) => format!("{record:?}"),
                });
            }
        }
        self.effects.extend(fx.list);
    }

    /// Runs all operations for the store, and handles their outcomes.
    fn settle(&mut self) {
        loop {
            self.finish_jobs();
            if !self.up || !self.core.has_work() {
                break;
            }
            let Some(batch) = self.core.pull(self.at(), 64) else {
                break;
            };
            for op in batch.ops {
                if let Some(outcome) = self.store.run(op) {
                    let _ = self.input(Input::Outcome(outcome));
                }
            }
        }
        self.send_out();
    }

    /// Runs all remaining steps of requests with many hosts.
    fn finish_jobs(&mut self) {
        while self.core.has_jobs() {
            let mut fx = Effects::default();
            self.core.go_on(self.at(), 100, &mut fx);
            self.take(fx);
        }
    }

    /// Takes all datagrams and pushes to hosts.
    fn send_out(&mut self) {
        let mut more = true;
        while more {
            let (mut fx, mut datagrams) = (Effects::default(), Vec::new());
            more = self.core.take_sends(self.at(), 7, &mut datagrams, &mut fx);
            self.take(fx);
            for Datagram { to, text } in datagrams {
                self.sent.push((self.ms, to.to_string(), text.into()));
            }
        }
    }

    /// Lets time pass, deadline by deadline.
    fn pass(&mut self, ms: u64) {
        let end = self.ms + ms;
        loop {
            let mut fx = Effects::default();
            let at = self.at();
            let next = self.core.tick(at.now, at, &mut fx);
            self.take(fx);
            self.settle();
            assert!(
                next.is_none_or(|next| next > at.now),
                "a deadline later than now"
            );
            let next = next.map_or(end, |next| next.as_nanos().div_ceil(1_000_000));
            if next > end {
                self.ms = end;
                return;
            }
            self.ms = next.max(self.ms + 1).min(end);
        }
    }

    fn open(&mut self, peer: &str) -> ConnId {
        self.next += 1;
        let conn = ConnId {
            slot: self.next,
            generation: self.next,
        };
        let peer: SocketAddr = peer.parse().unwrap();
        let _ = self.input(Input::Opened { conn, peer });
        conn
    }

    fn send(&mut self, conn: ConnId, message: Message<'_>, seq: Option<u64>) -> Flow {
        let ask = ReplyRequest {
            reply: seq.is_some(),
            seq,
        };
        let flow = self.input(Input::Message {
            conn,
            incoming: Incoming { message, ask },
        });
        self.settle();
        flow
    }

    fn beat(&mut self, conn: ConnId) {
        assert_eq!(self.send(conn, Message::Heartbeat, None), Flow::Taken);
    }

    fn end(&mut self, conn: ConnId, end: End) {
        let _ = self.input(Input::Ended { conn, end });
        self.settle();
    }

    fn hello(&mut self, conn: ConnId, id: &str, boot: Option<&str>) {
        self.hello_with(conn, id, boot, None, false);
    }

    fn hello_with(
        &mut self,
        conn: ConnId,
        id: &str,
        boot: Option<&str>,
        udp: Option<u16>,
        push: bool,
    ) {
        let hello = Hello {
            id: id.into(),
            udp,
            push,
            boot: boot.map(std::borrow::Cow::from),
            ..Hello::default()
        };
        assert_eq!(self.send(conn, Message::Hello(hello), Some(1)), Flow::Taken);
    }

    fn progress(&mut self, conn: ConnId, phase: Phase, left: &[&'static str], seq: u64) -> Flow {
        let progress = progress_of("AC1", phase, left);
        self.send(conn, Message::Progress(progress), Some(seq))
    }

    /// A report of progress, which must be accepted.
    fn report(&mut self, conn: ConnId, key: &'static str, phase: Phase, left: &[&'static str]) {
        let progress = Message::Progress(progress_of(key, phase, left));
        assert_eq!(self.send(conn, progress, None), Flow::Taken);
    }

    /// An answer to a dispatch.
    fn rcc(&mut self, conn: ConnId, code: ResultCode, task: Option<&'static str>) {
        let task = task.map(std::borrow::Cow::from);
        let answer = Message::Answer(Answer { code, task });
        assert_eq!(self.send(conn, answer, None), Flow::Taken);
    }

    /// A plain host that sends heartbeats.
    fn plain(&mut self, ip: &str) -> ConnId {
        let conn = self.open(&format!("{ip}:4000"));
        self.beat(conn);
        conn
    }

    /// Sends a request. Returns the number of the requester.
    fn ask(&mut self, ask: request::Request) -> u64 {
        self.next += 1;
        let requester = u64::from(self.next);
        let _ = self.input(Input::Request {
            requester,
            request: ask,
        });
        self.settle();
        requester
    }

    /// Answer to a requester, if it was answered.
    fn answer_to(&self, requester: u64) -> Option<request::Response> {
        let answers = self.effects.iter().filter_map(|effect| match effect {
            Effect::Respond {
                requester: to,
                answer,
            } if *to == requester => Some(answer.clone()),
            _ => None,
        });
        let answers: Vec<request::Response> = answers.collect();
        assert!(
            answers.len() <= 1,
            "an requester is answered once: {answers:?}"
        );
        answers.into_iter().next()
    }

    fn asked(&mut self, ask: request::Request) -> request::Response {
        let requester = self.ask(ask);
        self.answer_to(requester).expect("it is answered at once")
    }

    /// Sends a task with one command. Returns the state of each host, or the refusal.
    fn dispatch(&mut self, key: &str, hosts: &[&str]) -> Result<Vec<String>, ErrorKind> {
        let task = self.task(key, hosts);
        match self.asked(request::Request::Dispatch(task)) {
            request::Response::Dispatched { hosts, .. } => {
                let text =
                    |(host, state): (HostId, TaskState)| format!("{host} {}", state.as_str());
                Ok(hosts.iter().cloned().map(text).collect())
            }
            request::Response::Error { kind, .. } => Err(kind),
            other => panic!("{other:?}"),
        }
    }

    /// A task with one command for these hosts, or for all.
    fn task(&mut self, key: &str, hosts: &[&str]) -> NewTask {
        self.next += 1;
        let hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
        NewTask {
            key: key.to_owned(),
            commands: vec![("uptime".to_owned(), 1.0)],
            hosts: (!hosts.is_empty()).then_some(hosts),
            queue: false,
            request: u64::from(self.next),
            rollout: Default::default(),
        }
    }

    /// State of a host in a task, in the core and, if it is written, in the store.
    fn state(&mut self, key: &str, host: &str) -> &'static str {
        let ask = request::Request::Task {
            key: key.to_owned(),
            cursor: 0,
            limit: 1_000,
        };
        let request::Response::Task(view) = self.asked(ask) else {
            panic!("{key} is shown");
        };
        let found = view.hosts.iter().find(|(id, ..)| id.as_str() == host);
        let state = found.expect("a host that is named").1;
        let id = HostId::checked(host).unwrap();
        assert_eq!(self.store.tasks[key].states[&id], state, "as it is stored");
        state.as_str()
    }

    /// Sends since the last call: time, recipient and text.
    fn sent(&mut self) -> Vec<(u64, String, String)> {
        std::mem::take(&mut self.sent)
    }

    /// The same without the times.
    fn sent_to(&mut self) -> Vec<String> {
        let sent = self.sent().into_iter();
        sent.map(|(_, to, text)| format!("{to} {text}")).collect()
    }

    /// Sends heartbeats of these hosts while time passes.
    fn pass_beating(&mut self, ms: u64, conns: &[ConnId]) {
        let mut left = ms;
        while left > 0 {
            let step = left.min(TIMEOUT / 2);
            self.pass(step);
            left -= step;
            for conn in conns {
                self.beat(*conn);
            }
        }
    }

    /// Events in the store, which must equal those of the followers.
    fn events(&self) -> &[String] {
        &self.store.events
    }

    fn closed(&self, conn: ConnId) -> bool {
        self.effects.contains(&Effect::Close { conn })
    }

    fn words(&self, conn: ConnId) -> Vec<Word> {
        let word = |effect: &Effect| match effect {
            Effect::Reply { conn: to, reply } if *to == conn => Some(reply.word.clone()),
            _ => None,
        };
        self.effects.iter().filter_map(word).collect()
    }

    fn online(&self) -> Vec<String> {
        let page = self.core.page(Filter::Online, 1_000, 0);
        assert!(page.next.is_none());
        let mut names: Vec<String> = page.hosts.iter().map(|host| host.id.to_string()).collect();
        names.sort();
        names
    }
}

fn progress_of(key: &'static str, phase: Phase, left: &[&'static str]) -> Progress<'static> {
    Progress {
        code: key.into(),
        phase,
        working: None,
        complete: Vec::new(),
        oncall: left.iter().map(|text| (*text).into()).collect(),
        lost: false,
        cancelled: false,
    }
}

fn error(answer: request::Response) -> (ErrorKind, String) {
    match answer {
        request::Response::Error { kind, text } => (kind, text),
        other => panic!("{other:?}"),
    }
}
