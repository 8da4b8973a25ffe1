//! Many hosts go at once, while the others go on beating.

use std::time::{SystemTime, UNIX_EPOCH};

use super::fleet::Fleet;
use super::plan::Plan;
use super::report::Left;
use super::tally::{Meanwhile, Times};
use crate::limits::BENCH_CLOSES_PER_TURN_MAX;
use crate::time::{Instant, Span};

/// For so long after they have gone the others' replies are looked at by themselves.
const AFTER: Span = Span::from_millis(500);

/// See the [room](self).
#[derive(Debug)]
pub struct Leaving {
    /// When they begin to go.
    due: Instant,
    /// Those that go are the last ones: from here on they are gone.
    rest: usize,
    stay: usize,
    hosts: usize,
    began: Option<(Instant, UnixMillis)>,
    ended: Option<Instant>,
}

/// Milliseconds of the wall clock, with their fraction.
type UnixMillis = f64;

impl Leaving {
    /// As the plan says: in the middle of its time.
    pub fn new(plan: &Plan, start: Instant) -> Option<Self> {
        let leave = plan.leave.min(plan.hosts);
        (leave > 0).then(|| Self {
            due: start + Span::from_secs_f64(plan.seconds / 2.0),
            rest: plan.hosts,
            stay: plan.hosts - leave,
            hosts: leave,
            began: None,
            ended: None,
        })
    }

    /// Lets some of them go, when it is time: when to go on, which may be at once.
    pub fn go(&mut self, fleet: &mut Fleet, now: Instant) -> Option<Instant> {
        if now < self.due {
            return Some(self.due);
        }
        if self.ended.is_some() {
            return None;
        }
        if self.began.is_none() {
            let wall = SystemTime::now().duration_since(UNIX_EPOCH);
            let wall = wall.unwrap_or_default().as_secs_f64() * 1e3;
            self.began = Some((now, wall));
            fleet.tally.meanwhile = Some(Meanwhile {
                from: now,
                to: Instant::from_nanos(u64::MAX),
                replies: Times::default(),
                late: Times::default(),
            });
        }
        let next = self.rest.saturating_sub(BENCH_CLOSES_PER_TURN_MAX);
        for index in (next.max(self.stay)..self.rest).rev() {
            fleet.leave(index);
        }
        self.rest = next.max(self.stay);
        if self.rest > self.stay {
            return Some(Instant::ZERO);
        }
        let ended = fleet.now();
        self.ended = Some(ended);
        if let Some(meanwhile) = &mut fleet.tally.meanwhile {
            meanwhile.to = ended + AFTER;
        }
        None
    }

    /// Whether all of them have gone.
    pub const fn is_over(&self) -> bool {
        self.ended.is_some()
    }

    /// What is to be told of it, once it has happened.
    pub fn told(self) -> Option<Left> {
        let (began, wall) = self.began?;
        Some(Left {
            hosts: self.hosts,
            began_unix_ms: wall,
            closing_ms: self.ended?.since(began).as_secs_f64() * 1e3,
            replies: None,
            late: None,
        })
    }
}
