//! Many hosts disconnect at once while the others continue.

use std::time::{SystemTime, UNIX_EPOCH};

use super::fleet::Fleet;
use super::plan::Plan;
use super::report::Disconnected;
use super::tally::{Meanwhile, Times};
use crate::limits::BENCH_CLOSES_PER_TURN_MAX;
use crate::time::{Instant, Span};

/// Interval after the disconnects in which the other hosts' replies are counted separately.
const AFTER: Span = Span::from_millis(500);

/// The disconnects of one steady load.
#[derive(Debug)]
pub struct Leaving {
    /// Time at which they begin.
    due: Instant,
    /// Hosts from this index on have disconnected.
    rest: usize,
    stay: usize,
    hosts: usize,
    began: Option<(Instant, UnixMillis)>,
    ended: Option<Instant>,
}

/// Milliseconds of the wall clock, with their fraction.
type UnixMillis = f64;

impl Leaving {
    /// Creates the plan's disconnects: in the middle of its time.
    pub fn new(plan: &Plan, start: Instant) -> Option<Self> {
        let leave = plan.asked.leave.min(plan.asked.hosts);
        (leave > 0).then(|| Self {
            due: start + Span::from_secs_f64(plan.asked.seconds / 2.0),
            rest: plan.asked.hosts,
            stay: plan.asked.hosts - leave,
            hosts: leave,
            began: None,
            ended: None,
        })
    }

    /// Disconnects some hosts when it is time. Returns the time of the next call, which may be now.
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

    /// Returns whether all of them have disconnected.
    pub const fn is_over(&self) -> bool {
        self.ended.is_some()
    }

    /// Returns the result after the disconnects.
    pub fn result(self) -> Option<Disconnected> {
        let (began, wall) = self.began?;
        Some(Disconnected {
            hosts: self.hosts,
            began_unix_ms: wall,
            closing_ms: self.ended?.since(began).as_secs_f64() * 1e3,
            replies: None,
            late: None,
        })
    }
}
