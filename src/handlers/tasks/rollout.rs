//! Rollouts: a task goes to its hosts in waves. A pure state machine.
//!
//! ```text
//!   running ── all hosts of the wave have ended ──▶ next wave … all hosts have ended ──▶ done
//!      │ ▲ too many failures, a wave over its time, a pause that was asked for
//!      ▼ │ resume
//!   paused                                          cancel ──▶ cancelled
//! ```
//!
//! The waves are parts of the frozen list of hosts, in the order of their names. A host beyond the
//! present wave is `held`.

use serde::{Deserialize, Serialize};

use crate::limits::WAVE_TIMEOUT_S;
use crate::time::{Instant, Span};

/// A number of hosts, or a share of all.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Amount {
    /// So many.
    Hosts(u64),
    /// So many per cent.
    Percent(f64),
}

impl Amount {
    /// Reads `10` or `10%`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let is_number =
            |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
        match text.strip_suffix('%') {
            Some(share) => {
                let share: f64 = share.parse().ok().filter(|_| is_number(share))?;
                (0.0..=100.0)
                    .contains(&share)
                    .then_some(Self::Percent(share))
            }
            None => text
                .parse()
                .ok()
                .filter(|_| is_number(text))
                .map(Self::Hosts),
        }
    }

    /// Returns whether it is 0.
    #[must_use]
    pub fn is_none(self) -> bool {
        matches!(self, Self::Hosts(0)) || self == Self::Percent(0.0)
    }

    /// Returns whether it is more than `other`, which has the same unit.
    fn is_above(self, other: Self) -> bool {
        match (self, other) {
            (Self::Hosts(own), Self::Hosts(other)) => own > other,
            (Self::Percent(own), Self::Percent(other)) => own > other,
            (Self::Hosts(_), Self::Percent(_)) | (Self::Percent(_), Self::Hosts(_)) => true,
        }
    }

    /// Number of hosts among `total`. A share is rounded up.
    fn of(self, total: u64) -> u64 {
        match self {
            Self::Hosts(count) => count,
            Self::Percent(share) => (total as f64 * share / 100.0).ceil() as u64,
        }
    }
}

impl std::fmt::Display for Amount {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Hosts(count) => write!(f, "{count}"),
            Self::Percent(share) => write!(f, "{share}%"),
        }
    }
}

/// Time between two waves.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pause {
    /// So long.
    For(Span),
    /// Until an operator resumes the rollout.
    Ask,
}

/// Treatment of hosts of a wave that are offline when it begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OfflineRule {
    /// They are left out.
    #[default]
    Skip,
    /// They count as failures.
    Fail,
    /// They get the task when they come online.
    Queue,
}

/// Target and rollout of a request.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RolloutOptions {
    /// Text of the target.
    pub target: Option<String>,
    /// Cumulative steps, or one step that repeats.
    pub batch: Vec<Amount>,
    /// Hosts of the first wave.
    pub canary: Option<u64>,
    /// Failures over the whole rollout above which it pauses.
    pub max_fail: Option<Amount>,
    /// Time between two waves.
    pub pause: Option<Pause>,
    /// Longest time of a wave, after which the rollout pauses.
    pub wave_timeout: Option<Span>,
    /// Hosts that are offline.
    pub offline: Option<OfflineRule>,
    /// Number of hosts; with any other the request is refused.
    pub expect: Option<u64>,
}

/// State of a rollout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RolloutState {
    /// Waves begin as the earlier ones end.
    Running,
    /// No wave begins.
    Paused,
    /// All hosts have ended.
    Done,
    /// It was cancelled.
    Cancelled,
}

impl RolloutState {
    /// The word that is shown.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Done => "done",
            Self::Cancelled => "cancelled",
        }
    }
}

/// Reason for a pause.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum PausedBy {
    Failures,
    Timeout,
    Ask,
    Operator,
}

/// A rollout, as it is stored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rollout {
    /// Text of the target.
    #[serde(default)]
    pub target: Option<String>,
    /// SHA-256 of the frozen list: its names in order, each with a line feed behind it.
    pub digest: String,
    /// Number of hosts up to the end of each wave.
    ends: Vec<u64>,
    max_fail: u64,
    offline: OfflineRule,
    /// Milliseconds between two waves.
    #[serde(default)]
    pause_ms: Option<u64>,
    #[serde(default)]
    asks: bool,
    #[serde(default)]
    timeout_ms: Option<u64>,
    state: RolloutState,
    /// Index of the present wave.
    wave: usize,
    #[serde(default)]
    why: Option<String>,
    #[serde(default)]
    paused_by: Option<PausedBy>,
    /// Time at which the present wave began, and at which it ended.
    #[serde(skip)]
    began: Option<Instant>,
    #[serde(skip)]
    ended: Option<Instant>,
    /// The next wave begins whatever the present one does.
    #[serde(default)]
    goes_on: bool,
    /// Its task's time came before all hosts had it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    has_run_out: bool,
    /// Hosts of the present wave are still to be sent to.
    #[serde(skip)]
    is_entering: bool,
}

/// Counts of a task's hosts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Hosts beyond the present wave.
    pub held: u64,
    /// Hosts that have not ended.
    pub busy: u64,
    /// Hosts that ended without success.
    pub failed: u64,
    /// Hosts that were offline.
    pub offline: u64,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Nothing before the next change.
    Wait,
    /// Nothing before this time.
    Until(Instant),
    /// The next wave begins.
    Begin,
    /// The rollout pauses; the reason.
    Paused(String),
    /// All hosts have ended.
    Finished,
}

impl RolloutOptions {
    /// Returns whether the request has waves.
    #[must_use]
    pub fn has_waves(&self) -> bool {
        !self.batch.is_empty() || self.canary.is_some()
    }

    /// Checks the steps: of numbers, and of shares, each is above the one before.
    ///
    /// # Errors
    /// A step that adds no host.
    pub fn check_steps(&self) -> Result<(), String> {
        let (mut hosts, mut share) = (None, None);
        for (place, step) in self.batch.iter().enumerate() {
            if place > 0 && self.batch[place - 1] == Amount::Percent(100.0) {
                return Err(format!(
                    "the step {step} follows 100%: no host is left for it"
                ));
            }
            let before = match step {
                Amount::Hosts(_) => hosts.replace(*step),
                Amount::Percent(_) => share.replace(*step),
            };
            if let Some(before) = before.filter(|before| !step.is_above(*before)) {
                return Err(format!(
                    "the step {step} is not above {before}: steps are cumulative"
                ));
            }
        }
        match (self.canary, &self.batch[..]) {
            (Some(canary), [Amount::Hosts(first), _, ..]) if *first < canary => Err(format!(
                "the step {first} is below the canary, {canary}: steps are cumulative"
            )),
            _ => Ok(()),
        }
    }

    /// Number of hosts up to the end of each wave, of `total` hosts.
    #[must_use]
    pub fn ends(&self, total: u64) -> Vec<u64> {
        let mut ends: Vec<u64> = Vec::new();
        let mut reach = |end: u64| {
            let end = end.min(total);
            if end > ends.last().copied().unwrap_or(0) {
                ends.push(end);
            }
            end
        };
        let mut last = self.canary.map_or(0, &mut reach);
        match self.batch[..] {
            [] => {}
            [step] => {
                let size = step.of(total).max(1);
                while last < total {
                    last = reach(last + size);
                }
            }
            _ => {
                for step in &self.batch {
                    reach(step.of(total));
                }
            }
        }
        reach(total);
        ends
    }

    /// The rollout of a task with `total` hosts and this digest; `None` for a task without a target
    /// and waves.
    #[must_use]
    pub fn rollout(&self, total: u64, digest: String) -> Option<Rollout> {
        if self.target.is_none() && !self.has_waves() {
            return None;
        }
        let default = if self.has_waves() { 0 } else { total };
        Some(Rollout {
            target: self.target.clone(),
            digest,
            ends: match self.has_waves() {
                true => self.ends(total),
                false => vec![total],
            },
            max_fail: self.max_fail.map_or(default, |most| most.of(total)),
            offline: self.offline.unwrap_or_default(),
            pause_ms: match self.pause {
                Some(Pause::For(span)) => Some(span.as_millis()),
                Some(Pause::Ask) | None => None,
            },
            asks: self.pause == Some(Pause::Ask),
            timeout_ms: match self.wave_timeout {
                None if self.has_waves() => Some(WAVE_TIMEOUT_S * 1000),
                timeout => timeout.map(Span::as_millis),
            },
            state: RolloutState::Running,
            wave: 0,
            why: None,
            paused_by: None,
            began: None,
            ended: None,
            goes_on: false,
            has_run_out: false,
            is_entering: true,
        })
    }
}

impl Rollout {
    /// State of the rollout.
    #[must_use]
    pub fn state(&self) -> RolloutState {
        self.state
    }

    /// Number of the present wave, from 1.
    #[must_use]
    pub fn wave(&self) -> u64 {
        self.wave as u64 + 1
    }

    /// Number of waves.
    #[must_use]
    pub fn waves(&self) -> u64 {
        self.ends.len() as u64
    }

    /// Reason for the pause.
    #[must_use]
    pub fn why(&self) -> Option<&str> {
        self.why.as_deref()
    }

    /// Places of the hosts of the present wave.
    #[must_use]
    pub fn places(&self) -> std::ops::Range<usize> {
        let before = self
            .wave
            .checked_sub(1)
            .and_then(|wave| self.ends.get(wave));
        before.map_or(0, |end| *end as usize)..self.reach()
    }

    /// Number of hosts up to the end of the present wave.
    #[must_use]
    pub fn reach(&self) -> usize {
        self.ends.get(self.wave).map_or(0, |end| *end as usize)
    }

    /// Treatment of hosts that are offline.
    #[must_use]
    pub fn offline(&self) -> OfflineRule {
        self.offline
    }

    /// All hosts of the present wave have been sent to.
    pub fn entered(&mut self, now: Instant) {
        self.is_entering = false;
        self.began = Some(now);
        self.ended = None;
    }

    /// The process has restarted: the hosts of the present wave may not all be sent to.
    pub fn restarted(&mut self) {
        self.is_entering = true;
    }

    /// Returns whether hosts of the present wave are still to be sent to.
    #[must_use]
    pub fn is_entering(&self) -> bool {
        self.is_entering
    }

    /// Decides what is to be done at `now`, and does it.
    pub fn step(&mut self, counts: Counts, now: Instant) -> Action {
        if self.is_entering || matches!(self.state, RolloutState::Done | RolloutState::Cancelled) {
            return Action::Wait;
        }
        if counts.held == 0 && counts.busy == 0 {
            self.state = RolloutState::Done;
            self.why = None;
            return Action::Finished;
        }
        if self.state == RolloutState::Paused {
            return Action::Wait;
        }
        let is_last = counts.held == 0;
        let failures = self.failures(counts);
        if failures > self.max_fail && !is_last {
            let most = self.max_fail;
            let hosts = if failures == 1 { "host" } else { "hosts" };
            let why = format!("{failures} {hosts} failed, and {most} may fail (max_fail)");
            return self.pause_by(PausedBy::Failures, why);
        }
        if self.goes_on && !is_last {
            return self.begin();
        }
        if counts.busy > 0 {
            self.ended = None;
            let Some((began, timeout)) = self.began.zip(self.timeout_ms) else {
                return Action::Wait;
            };
            let until = began + Span::from_millis(timeout);
            if now < until {
                return Action::Until(until);
            }
            let (wave, busy) = (self.wave(), counts.busy);
            let why = format!("{busy} of wave {wave} have not ended in time (wave_timeout_s)");
            return self.pause_by(PausedBy::Timeout, why);
        }
        if self.asks {
            let why = format!("wave {} has ended", self.wave());
            return self.pause_by(PausedBy::Ask, why);
        }
        let ended = *self.ended.get_or_insert(now);
        let until = ended + Span::from_millis(self.pause_ms.unwrap_or(0));
        match now < until {
            true => Action::Until(until),
            false => self.begin(),
        }
    }

    fn failures(&self, counts: Counts) -> u64 {
        match self.offline {
            OfflineRule::Fail => counts.failed + counts.offline,
            OfflineRule::Skip | OfflineRule::Queue => counts.failed,
        }
    }

    fn begin(&mut self) -> Action {
        self.goes_on = false;
        self.wave += 1;
        self.is_entering = true;
        Action::Begin
    }

    fn pause_by(&mut self, by: PausedBy, why: String) -> Action {
        self.state = RolloutState::Paused;
        self.paused_by = Some(by);
        self.why = Some(why.clone());
        Action::Paused(why)
    }

    /// Pauses the rollout: no wave begins.
    ///
    /// # Errors
    /// It does not run.
    pub fn pause(&mut self) -> Result<(), String> {
        match self.state {
            RolloutState::Running => {
                self.pause_by(PausedBy::Operator, "paused by an operator".to_owned());
                Ok(())
            }
            state => Err(format!("the rollout is {}", state.as_str())),
        }
    }

    /// Resumes the rollout. After a pause by failures, those so far are accepted. After a wave that
    /// took too long, or that ended before a pause that was asked for, the next wave begins; a last
    /// wave has its time anew.
    ///
    /// # Errors
    /// It is not paused.
    pub fn resume(&mut self, counts: Counts, now: Instant) -> Result<(), String> {
        if self.state != RolloutState::Paused {
            return Err(format!("the rollout is {}", self.state.as_str()));
        }
        self.state = RolloutState::Running;
        self.why = None;
        match self.paused_by.take() {
            Some(PausedBy::Failures) => {
                self.max_fail = self.failures(counts);
                // It is the answer to the end of the wave, too.
                self.goes_on |= self.asks && counts.busy == 0;
            }
            Some(PausedBy::Timeout) if counts.held == 0 => self.began = Some(now),
            Some(PausedBy::Timeout | PausedBy::Ask) => self.goes_on = true,
            Some(PausedBy::Operator) => self.goes_on |= self.asks && counts.busy == 0,
            None => {}
        }
        Ok(())
    }

    /// Ends the rollout before `held` hosts had the task. Returns the reason, unless it has ended
    /// already.
    pub fn run_out(&mut self, held: u64) -> Option<String> {
        if matches!(self.state, RolloutState::Done | RolloutState::Cancelled) {
            return None;
        }
        let hosts = if held == 1 { "host" } else { "hosts" };
        let why = format!("{held} {hosts} never had it: its time is over (dispatch.keep_s)");
        self.state = RolloutState::Cancelled;
        self.has_run_out = true;
        self.why = Some(why.clone());
        Some(why)
    }

    /// Returns whether it ended because its task's time came.
    #[must_use]
    pub fn has_run_out(&self) -> bool {
        self.has_run_out
    }

    /// Cancels the rollout.
    pub fn cancel(&mut self) {
        if !matches!(self.state, RolloutState::Done | RolloutState::Cancelled) {
            self.state = RolloutState::Cancelled;
            self.why = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn amounts(text: &str) -> Vec<Amount> {
        text.split(',')
            .map(|one| Amount::parse(one).unwrap())
            .collect()
    }

    fn ends(batch: &str, canary: Option<u64>, total: u64) -> Vec<u64> {
        let batch = if batch.is_empty() {
            Vec::new()
        } else {
            amounts(batch)
        };
        let options = RolloutOptions {
            batch,
            canary,
            ..RolloutOptions::default()
        };
        options.ends(total)
    }

    fn at(seconds: u64) -> Instant {
        Instant::ZERO + Span::from_secs(seconds)
    }

    #[test]
    fn a_step_that_adds_no_host_is_an_error() {
        let checked = |batch: &str, canary| {
            let options = RolloutOptions {
                batch: amounts(batch),
                canary,
                ..RolloutOptions::default()
            };
            options.check_steps()
        };
        for (batch, canary) in [
            ("1,10%,100%", None),
            ("1,10%,100%", Some(1)),
            ("5", Some(10)),
            ("50,10%", None),
            ("50%,60,70%", None),
        ] {
            assert_eq!(checked(batch, canary), Ok(()), "{batch}");
        }
        for (batch, canary, words) in [
            ("10,5", None, "the step 5 is not above 10"),
            ("1,50%,10%", None, "the step 10% is not above 50%"),
            ("5,5", None, "the step 5 is not above 5"),
            ("100%,200", None, "the step 200 follows 100%"),
            ("5,100%", Some(10), "the step 5 is below the canary, 10"),
        ] {
            let said = checked(batch, canary).unwrap_err();
            assert!(said.starts_with(words), "{said}");
        }
    }

    #[test]
    fn a_rollout_whose_time_is_over_is_not_done() {
        let options = RolloutOptions {
            batch: amounts("1"),
            ..RolloutOptions::default()
        };
        let mut rollout = running(&options, 3);
        let why = rollout.run_out(2).unwrap();
        assert!(why.starts_with("2 hosts never had it"), "{why}");
        assert_eq!(rollout.step(Counts::default(), at(9)), Action::Wait);
        assert_eq!(rollout.state(), RolloutState::Cancelled);
        assert_eq!(rollout.why(), Some(&*why));
        assert_eq!(rollout.run_out(2), None);
        let stored = serde_json::to_string(&rollout).unwrap();
        let again: Rollout = serde_json::from_str(&stored).unwrap();
        assert!(again.has_run_out());
    }

    fn running(options: &RolloutOptions, total: u64) -> Rollout {
        let mut rollout = options.rollout(total, "d".to_owned()).unwrap();
        rollout.entered(at(0));
        rollout
    }

    #[test]
    fn steps_are_cumulative_and_a_single_one_repeats() {
        for (batch, canary, total, wanted) in [
            ("1,10%,100%", None, 100, &[1, 10, 100][..]),
            ("1,10%", None, 100, &[1, 10, 100]),
            ("40", None, 100, &[40, 80, 100]),
            ("33%", None, 10, &[4, 8, 10]),
            ("1,10%,100%", None, 5, &[1, 5]),
            ("", Some(3), 10, &[3, 10]),
            ("4", Some(1), 10, &[1, 5, 9, 10]),
            ("2,50%", Some(3), 10, &[3, 5, 10]),
            ("500", None, 10, &[10]),
            ("0%", None, 2, &[1, 2]),
            ("", Some(99), 10, &[10]),
        ] {
            assert_eq!(
                ends(batch, canary, total),
                wanted,
                "{batch} {canary:?} {total}"
            );
        }
        for wrong in ["", "x", "-1", "101%", "1.5", "%", "+1", "1e3%"] {
            assert_eq!(Amount::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_wave_begins_when_the_one_before_has_ended() {
        let options = RolloutOptions {
            batch: amounts("1,3"),
            pause: Some(Pause::For(Span::from_secs(5))),
            wave_timeout: Some(Span::from_secs(60)),
            ..RolloutOptions::default()
        };
        let mut rollout = running(&options, 5);
        assert_eq!(rollout.places(), 0..1);
        let busy = |held, busy| Counts {
            held,
            busy,
            ..Counts::default()
        };
        assert_eq!(rollout.step(busy(4, 1), at(1)), Action::Until(at(60)));
        assert_eq!(rollout.step(busy(4, 0), at(2)), Action::Until(at(7)));
        assert_eq!(rollout.step(busy(4, 0), at(7)), Action::Begin);
        assert_eq!(rollout.places(), 1..3);
        assert_eq!(rollout.step(busy(4, 0), at(7)), Action::Wait, "it enters");
        rollout.entered(at(8));
        assert!(
            matches!(rollout.step(busy(2, 1), at(68)), Action::Paused(why) if why.contains("wave 2"))
        );
        assert_eq!(rollout.step(busy(2, 0), at(99)), Action::Wait);
        rollout.resume(busy(2, 1), at(99)).unwrap();
        assert_eq!(rollout.step(busy(2, 1), at(99)), Action::Begin);
        rollout.entered(at(99));
        assert!(
            matches!(rollout.step(busy(0, 3), at(159)), Action::Paused(why) if why.contains("wave 3"))
        );
        rollout.resume(busy(0, 3), at(200)).unwrap();
        assert_eq!(rollout.step(busy(0, 3), at(201)), Action::Until(at(260)));
        assert_eq!(rollout.step(busy(0, 0), at(999)), Action::Finished);
        assert_eq!(rollout.state(), RolloutState::Done);
    }

    #[test]
    fn failures_beyond_the_budget_pause_once() {
        let options = RolloutOptions {
            batch: amounts("1"),
            offline: Some(OfflineRule::Fail),
            max_fail: Some(Amount::Percent(10.0)),
            ..RolloutOptions::default()
        };
        let mut rollout = running(&options, 10);
        let mut counts = Counts {
            held: 8,
            failed: 1,
            ..Counts::default()
        };
        assert_eq!(rollout.step(counts, at(1)), Action::Begin);
        rollout.entered(at(1));
        counts.offline = 1;
        assert!(
            matches!(rollout.step(counts, at(1)), Action::Paused(why) if why.contains("2 hosts failed"))
        );
        assert!(rollout.pause().is_err());
        rollout.resume(counts, at(2)).unwrap();
        assert_eq!(rollout.step(counts, at(2)), Action::Begin);
        assert!(rollout.resume(counts, at(2)).is_err());
        rollout.cancel();
        rollout.entered(at(2));
        assert_eq!(rollout.step(counts, at(3)), Action::Wait);
    }

    fn asking(max_fail: u64) -> Rollout {
        let options = RolloutOptions {
            batch: amounts("2"),
            max_fail: Some(Amount::Hosts(max_fail)),
            pause: Some(Pause::Ask),
            ..RolloutOptions::default()
        };
        running(&options, 6)
    }

    #[test]
    fn one_resume_accepts_failures_and_begins() {
        let mut rollout = asking(0);
        let mut counts = Counts {
            held: 4,
            failed: 1,
            ..Counts::default()
        };
        let paused_by = |action, words: &str| {
            assert!(
                matches!(&action, Action::Paused(why) if why.contains(words)),
                "{action:?}"
            );
        };
        paused_by(rollout.step(counts, at(1)), "max_fail");
        rollout.resume(counts, at(2)).unwrap();
        assert_eq!(rollout.step(counts, at(2)), Action::Begin);
        rollout.entered(at(2));
        // In the middle of a wave it accepts the failures only: the end of the wave asks again.
        counts = Counts {
            held: 2,
            busy: 1,
            failed: 2,
            ..counts
        };
        paused_by(rollout.step(counts, at(3)), "max_fail");
        rollout.resume(counts, at(4)).unwrap();
        assert!(matches!(rollout.step(counts, at(4)), Action::Until(_)));
        counts.busy = 0;
        paused_by(rollout.step(counts, at(5)), "wave 2 has ended");
        rollout.resume(counts, at(6)).unwrap();
        assert_eq!(rollout.step(counts, at(6)), Action::Begin);
    }

    #[test]
    fn a_resume_never_passes_over_new_failures() {
        let mut rollout = asking(1);
        let mut counts = Counts {
            held: 4,
            busy: 1,
            ..Counts::default()
        };
        rollout.pause().unwrap();
        counts = Counts {
            busy: 0,
            failed: 2,
            ..counts
        };
        rollout.resume(counts, at(1)).unwrap();
        assert!(
            matches!(rollout.step(counts, at(1)), Action::Paused(why) if why.contains("2 hosts"))
        );
        rollout.resume(counts, at(2)).unwrap();
        assert_eq!(rollout.step(counts, at(2)), Action::Begin);
        let mut rollout = asking(1);
        rollout.pause().unwrap();
        counts.failed = 1;
        rollout.resume(counts, at(1)).unwrap();
        assert_eq!(rollout.step(counts, at(1)), Action::Begin, "one is enough");
    }

    proptest! {
        #[test]
        fn waves_cover_all_hosts_once(
            batch in "([1-9][0-9]?%?,){0,3}[1-9][0-9]?%?",
            canary in proptest::option::of(1_u64..50),
            total in 1_u64..200,
        ) {
            let ends = ends(&batch, canary, total);
            prop_assert!(ends.windows(2).all(|pair| pair[0] < pair[1]));
            prop_assert_eq!(ends.last(), Some(&total));
            prop_assert!(ends[0] > 0);
        }

        #[test]
        fn it_is_stored_and_read_back(asks in any::<bool>(), wave in 0_usize..3) {
            let options = RolloutOptions {
                target: Some("web-*".to_owned()),
                batch: amounts("1,2,3"),
                pause: asks.then_some(Pause::Ask),
                ..RolloutOptions::default()
            };
            let mut rollout = options.rollout(9, "d".to_owned()).unwrap();
            rollout.wave = wave;
            let text = serde_json::to_string(&rollout).unwrap();
            let mut again: Rollout = serde_json::from_str(&text).unwrap();
            again.restarted();
            prop_assert_eq!(again, rollout);
        }
    }
}
