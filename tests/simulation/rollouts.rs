//! Rollouts, as their requests, sends and answers show them: which waves may begin, and what may be sent.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use anthill::handlers::request::{ErrorKind, Request, Response, TaskSummary};
use anthill::handlers::tasks_options::{OfflineRule, Pause, RolloutOptions, RolloutState};
use anthill::ids::HostId;
use anthill::store::op::TaskState;
use anthill::time::Instant;
use sha2::{Digest as _, Sha256};

use crate::dice::Dice;

/// Checker of all rollouts of a run.
#[derive(Debug, Default)]
pub struct Rollouts {
    watched: BTreeMap<String, Watched>,
    controls: BTreeMap<u64, Control>,
    /// Hosts by the address of their datagrams.
    pub addresses: BTreeMap<SocketAddr, String>,
}

/// A rollout, and what an operator was told of it.
#[derive(Debug)]
struct Watched {
    options: RolloutOptions,
    /// The frozen list by name, once the server has stored it.
    hosts: Vec<String>,
    /// Number of hosts up to the end of each wave.
    ends: Vec<usize>,
    /// Index of the last wave that has begun.
    wave: usize,
    /// Number of failures with which a wave may begin.
    allowed: u64,
    /// Reason for the last pause, as it was logged.
    why: Option<String>,
    /// Resumed since the last wave began.
    is_resumed: bool,
    /// Resumed after a wave that took too long.
    is_late_accepted: bool,
    /// An operator was told that it is paused, or cancelled.
    is_paused: bool,
    is_cancelled: bool,
    /// The server that began the last wave may have died before the store knew.
    may_repeat: bool,
    /// The store has lost data that no server had: what was told is worth nothing.
    is_unsure: bool,
    counts: Counts,
    /// Time since which no host of the waves so far is busy.
    quiet: Option<Instant>,
}

/// Numbers of hosts.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    held: u64,
    busy: u64,
    failed: u64,
}

#[derive(Debug)]
struct Control {
    key: String,
    kind: Kind,
    /// To be taken back if it is refused.
    before: (u64, bool, bool, bool),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Pause,
    Resume,
    Cancel,
}

/// Options at random.
pub fn options(dice: &mut Dice) -> RolloutOptions {
    use anthill::handlers::tasks_options::Amount;
    use anthill::time::Span;
    let amount = |dice: &mut Dice, most: u64| match dice.one_in(2) {
        true => Amount::Hosts(dice.below(most)),
        false => Amount::Percent(dice.below(101) as f64),
    };
    let mut batch = Vec::new();
    for _ in 0..dice.below(4) {
        batch.push(amount(dice, 6));
    }
    let canary = dice.one_in(3).then(|| 1 + dice.below(3));
    if batch.is_empty() && canary.is_none() {
        batch.push(Amount::Hosts(1 + dice.below(3)));
    }
    let rules = [OfflineRule::Skip, OfflineRule::Fail, OfflineRule::Queue];
    RolloutOptions {
        target: None,
        batch,
        canary,
        max_fail: dice.one_in(2).then(|| amount(dice, 4)),
        pause: match dice.below(3) {
            0 => None,
            1 => Some(Pause::For(dice.ms(1, 15_000))),
            _ => Some(Pause::Ask),
        },
        wave_timeout: Some(Span::from_secs(15 + dice.below(120))),
        offline: (!dice.one_in(3)).then(|| rules[dice.place(3)]),
        expect: None,
    }
}

/// Number of hosts up to the end of each wave, as FLEET section 3 has it.
fn ends(options: &RolloutOptions, total: usize) -> Vec<usize> {
    use anthill::handlers::tasks_options::Amount;
    let of = |amount: &Amount| match amount {
        Amount::Hosts(count) => usize::try_from(*count).unwrap_or(usize::MAX),
        Amount::Percent(share) => (0..=total)
            .find(|count| *count as f64 * 100.0 >= total as f64 * share)
            .unwrap_or(total),
    };
    let mut steps: Vec<usize> = Vec::new();
    let first = options.canary.map_or(0, |canary| canary as usize);
    steps.push(first);
    match &options.batch[..] {
        [one] => {
            let size = of(one).max(1);
            steps.extend((1..=total).map(|times| first.saturating_add(size.saturating_mul(times))));
        }
        many => steps.extend(many.iter().map(of)),
    }
    steps.push(total);
    let mut ends = Vec::new();
    for step in steps {
        let step = step.min(total);
        if step > ends.last().copied().unwrap_or(0) {
            ends.push(step);
        }
    }
    ends
}

/// SHA-256 of a list of hosts.
pub fn digest(hosts: &[String]) -> String {
    let mut hash = Sha256::new();
    for host in hosts {
        hash.update(format!("{host}\n"));
    }
    let bytes = hash.finalize();
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Returns whether a host does no more by itself.
pub fn has_ended(state: TaskState) -> bool {
    use TaskState as T;
    match state {
        T::Held | T::Queued | T::Sent | T::Answered | T::Working => false,
        T::Done | T::Failed | T::NoBook | T::Lost | T::Unanswered => true,
        T::Offline | T::Expired | T::Cancelled => true,
    }
}

impl Watched {
    fn count(&self, states: &[(TaskState, u64)]) -> Counts {
        use TaskState as T;
        let mut counts = Counts::default();
        for (state, count) in states {
            match state {
                T::Held => counts.held += count,
                T::Failed | T::NoBook | T::Lost | T::Unanswered => counts.failed += count,
                T::Offline if self.options.offline == Some(OfflineRule::Fail) => {
                    counts.failed += count;
                }
                state if !has_ended(*state) => counts.busy += count,
                _ => {}
            }
        }
        counts
    }

    /// Number of failures that the options allow.
    fn max_fail(&self) -> u64 {
        use anthill::handlers::tasks_options::Amount;
        match self.options.max_fail {
            None => 0,
            Some(Amount::Hosts(count)) => count,
            Some(Amount::Percent(share)) => (self.hosts.len() as f64 * share / 100.0).ceil() as u64,
        }
    }
}

impl Rollouts {
    /// A task is to be sent in waves.
    pub fn asked(&mut self, key: &str, options: &RolloutOptions) {
        let watched = Watched {
            options: options.clone(),
            hosts: Vec::new(),
            ends: Vec::new(),
            wave: 0,
            allowed: 0,
            why: None,
            is_resumed: false,
            is_late_accepted: false,
            is_paused: false,
            is_cancelled: false,
            may_repeat: false,
            is_unsure: false,
            counts: Counts::default(),
            quiet: None,
        };
        self.watched.insert(key.to_owned(), watched);
    }

    /// The server gives a task to the store.
    pub fn stored(&mut self, key: &str, states: &[(HostId, TaskState)]) {
        let Some(watched) = self.watched.get_mut(key) else {
            return;
        };
        let mut hosts: Vec<(String, TaskState)> = states
            .iter()
            .map(|(host, state)| (host.to_string(), *state))
            .collect();
        hosts.sort_by(|a, b| a.0.cmp(&b.0));
        watched.ends = ends(&watched.options, hosts.len());
        let first = watched.ends.first().copied().unwrap_or(0);
        for (place, (host, state)) in hosts.iter().enumerate() {
            let is_held = *state == TaskState::Held;
            assert_eq!(is_held, place >= first, "{host} in {key} is {state:?}");
        }
        watched.hosts = hosts.into_iter().map(|(host, _)| host).collect();
        watched.allowed = watched.max_fail();
    }

    /// The tasks of the server, as it lists them before it does anything.
    pub fn listed(&mut self, tasks: &[TaskSummary], now: Instant) {
        for task in tasks {
            let Some(watched) = self.watched.get_mut(task.key.as_str()) else {
                continue;
            };
            let counts = watched.count(&task.hosts);
            watched.counts = counts;
            watched.quiet = match counts.busy {
                0 => watched.quiet.or(Some(now)),
                _ => None,
            };
        }
    }

    /// A line of the log about a rollout.
    pub fn noted(&mut self, key: &str, text: &str, now: Instant) {
        let Some(watched) = self.watched.get_mut(key) else {
            return;
        };
        if let Some((_, why)) = text.split_once("is paused in wave") {
            watched.why = Some(why.to_owned());
        }
        let number = text
            .strip_prefix("wave ")
            .and_then(|rest| rest.strip_suffix(" begins"))
            .and_then(|rest| rest.split_once(" of "));
        let Some((wave, waves)) = number else { return };
        let wave = wave.parse::<usize>().expect("a number") - 1;
        assert_eq!(waves, watched.ends.len().to_string(), "the waves of {key}");
        watched.begins(key, wave, now);
    }

    /// A task is sent to a host, or sent again.
    pub fn sent(&mut self, key: &str, host: &str) {
        let Some(watched) = self.watched.get(key) else {
            return;
        };
        let place = watched
            .hosts
            .binary_search_by(|name| name.as_str().cmp(host));
        let place = place.unwrap_or_else(|_| panic!("{key} is sent to {host}, which it lacks"));
        let reach = watched.ends[watched.wave];
        assert!(
            place < reach,
            "{host} gets {key} before its wave: {place} of {reach} in wave {}",
            watched.wave
        );
        assert!(
            !watched.is_cancelled,
            "{key} was cancelled and is sent to {host}"
        );
    }

    /// A request to change a rollout at random.
    pub fn control(&mut self, requester: u64, dice: &mut Dice) -> Option<Request> {
        let place = (!self.watched.is_empty()).then(|| dice.place(self.watched.len()))?;
        let key = self.watched.keys().nth(place)?.clone();
        Some(match dice.below(8) {
            0 => self.ask(requester, key, Kind::Cancel),
            1..4 => self.ask(requester, key, Kind::Pause),
            _ => self.resume(requester, key),
        })
    }

    /// The request to resume a rollout.
    pub fn resume(&mut self, requester: u64, key: String) -> Request {
        self.ask(requester, key, Kind::Resume)
    }

    fn ask(&mut self, requester: u64, key: String, kind: Kind) -> Request {
        let watched = self.watched.get_mut(&key).expect("a rollout");
        let before = (
            watched.allowed,
            watched.is_resumed,
            watched.is_late_accepted,
            watched.is_paused,
        );
        if kind == Kind::Resume {
            // It goes on before the answer.
            watched.allowed = u64::MAX;
            watched.is_resumed = true;
            let why = watched.why.as_deref();
            watched.is_late_accepted |= why.is_some_and(|why| why.contains("wave_timeout"));
            watched.is_paused = false;
            // Whatever was asked before is without force.
            for control in self.controls.values_mut().filter(|c| c.key == key) {
                if control.kind == Kind::Pause {
                    control.key.clear();
                }
            }
        }
        let control = Control {
            key: key.clone(),
            kind,
            before,
        };
        self.controls.insert(requester, control);
        match kind {
            Kind::Pause => Request::Pause { key },
            Kind::Resume => Request::Resume { key },
            Kind::Cancel => Request::Cancel { key },
        }
    }

    /// An answer. Returns whether it is to one of these requests; `is_connected` tells whether a
    /// host that takes cancels has a connection.
    pub fn answered(
        &mut self,
        requester: u64,
        answer: &Response,
        is_connected: impl Fn(&str) -> bool,
    ) -> bool {
        let Some(control) = self.controls.remove(&requester) else {
            return false;
        };
        let Some(watched) = self.watched.get_mut(&control.key) else {
            return true;
        };
        match (control.kind, answer) {
            (Kind::Pause, Response::Rollout { rollout, .. }) => {
                assert_eq!(rollout.state, RolloutState::Paused);
                assert!(rollout.why.is_some(), "paused, and no reason");
                watched.is_paused = true;
            }
            (Kind::Resume, Response::Rollout { rollout, .. }) => {
                assert_eq!(rollout.state, RolloutState::Running);
            }
            (Kind::Cancel, Response::Cancelled(cancelled)) => {
                watched.is_cancelled = true;
                for host in &cancelled.cannot {
                    assert!(!is_connected(host.as_str()), "{host} could be asked");
                }
            }
            (Kind::Resume, Response::Error { kind, .. }) if *kind != ErrorKind::NotNow => {
                (
                    watched.allowed,
                    watched.is_resumed,
                    watched.is_late_accepted,
                    watched.is_paused,
                ) = control.before;
            }
            (_, Response::Error { .. }) => {}
            (kind, other) => panic!("{kind:?} is answered {other:?}"),
        }
        true
    }

    /// The server is gone, and what it had not stored.
    pub fn server_died(&mut self) {
        self.controls.clear();
        for watched in self.watched.values_mut() {
            watched.may_repeat = true;
            watched.quiet = None;
        }
    }

    /// The store has lost data that no server has.
    pub fn lost(&mut self) {
        for watched in self.watched.values_mut() {
            watched.is_unsure = true;
            watched.is_cancelled = false;
        }
    }

    /// Checks a rollout at rest, as it is shown: states of its hosts, state, digest and reason.
    /// Returns whether it waits for an operator.
    pub fn assert_rest(
        &self,
        key: &str,
        states: &[(String, TaskState)],
        (state, digest_shown, why): (RolloutState, &str, Option<&str>),
    ) -> bool {
        let watched = &self.watched[key];
        let names: Vec<&String> = states.iter().map(|(host, _)| host).collect();
        assert_eq!(names, watched.hosts.iter().collect::<Vec<_>>(), "{key}");
        assert_eq!(digest_shown, digest(&watched.hosts), "{key}");
        let held = states.iter().filter(|(_, state)| *state == TaskState::Held);
        let held = held.count();
        assert!(
            !watched.is_cancelled || state == RolloutState::Cancelled || held == 0,
            "{key} was cancelled and is {state:?}"
        );
        match state {
            RolloutState::Paused => assert!(why.is_some(), "{key} is paused without a reason"),
            RolloutState::Running => panic!("{key} runs and nothing happens: {states:?}"),
            RolloutState::Done | RolloutState::Cancelled => {
                assert_eq!(held, 0, "{key} is {state:?}: {states:?}");
            }
        }
        state == RolloutState::Paused
    }
}

impl Watched {
    /// A wave begins.
    fn begins(&mut self, key: &str, wave: usize, now: Instant) {
        if wave <= self.wave {
            assert!(self.may_repeat, "wave {wave} of {key} begins again");
            return;
        }
        assert_eq!(wave, self.wave + 1, "the next wave of {key}");
        assert!(!self.is_cancelled, "{key} was cancelled, and a wave begins");
        if !self.is_unsure {
            self.assert_may_begin(key, now);
        }
        self.wave = wave;
        self.may_repeat = false;
        self.is_resumed = false;
        self.is_late_accepted = false;
        self.quiet = None;
        if self.allowed == u64::MAX {
            // What had failed by then was accepted.
            self.allowed = self.max_fail().max(self.counts.failed);
        }
    }

    fn assert_may_begin(&self, key: &str, now: Instant) {
        let Counts { busy, failed, .. } = self.counts;
        assert!(!self.is_paused, "{key} was paused, and a wave begins");
        assert!(
            busy == 0 || self.is_late_accepted,
            "a wave of {key} begins, and {busy} hosts are busy"
        );
        assert!(
            failed <= self.allowed,
            "a wave of {key} begins, and {failed} hosts have failed: {}",
            self.allowed
        );
        match self.options.pause {
            Some(Pause::Ask) => assert!(self.is_resumed, "nobody resumed {key}"),
            Some(Pause::For(span)) if !self.is_resumed => {
                let quiet = self.quiet.expect("a wave has ended");
                assert!(
                    now >= quiet + span,
                    "a wave of {key} begins {:?} after the last",
                    now.since(quiet)
                );
            }
            _ => {}
        }
    }
}
