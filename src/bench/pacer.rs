//! Heartbeats of everybody, each when it is due.

use super::fleet::Fleet;
use super::hold::Hold;
use super::plan::Plan;
use super::schedule::{Schedule, shuffled};
use crate::limits::BENCH_SENDS_PER_TURN_MAX;
use crate::time::{Instant, Span};

/// A load that cannot be sent in its time is given so much more, and then given up: what little is late at its
/// end is still sent.
pub const GRACE: Span = Span::from_millis(500);

/// See the [room](self).
#[derive(Debug)]
pub struct Pacer {
    schedule: Schedule,
    order: Vec<usize>,
    replies: bool,
    turn: u64,
    hold: Option<Hold>,
}

impl Pacer {
    /// The plan's heartbeats from `start`, for `seconds`. With `hold` the other end is stopped while those that
    /// fall together are sent.
    pub fn new(plan: &Plan, start: Instant, seconds: f64, hold: Option<Hold>) -> Self {
        let schedule = Schedule::new(start, plan.rate, seconds, plan.seed);
        Self {
            schedule: schedule.together(if plan.together { plan.hosts as u64 } else { 1 }),
            order: shuffled(plan.hosts, plan.seed),
            replies: plan.replies,
            turn: 0,
            hold,
        }
    }

    /// How many were due so long ago that they will not be sent any more.
    pub fn given_up(&self, now: Instant) -> u64 {
        self.schedule.due_by(now - GRACE).saturating_sub(self.turn)
    }

    /// Whether all have been sent.
    pub const fn is_over(&self) -> bool {
        self.turn >= self.schedule.turns()
    }

    /// Sends what is due, but not too much in one go: when to go on, which may be at once, and `latest` at
    /// the latest.
    pub fn send(&mut self, fleet: &mut Fleet, latest: Instant) -> Instant {
        for _ in 0..BENCH_SENDS_PER_TURN_MAX {
            let Some(due) = self.schedule.due(self.turn) else {
                return latest;
            };
            if due > fleet.now() {
                return due.min(latest);
            }
            let place = self.turn % self.order.len() as u64;
            if place == 0 {
                self.hold.iter_mut().for_each(Hold::stop);
            }
            fleet.beat(self.order[place as usize], due, self.replies);
            self.turn += 1;
            if self.turn.is_multiple_of(self.order.len() as u64) || self.is_over() {
                self.hold.iter_mut().for_each(Hold::go_on);
            }
        }
        Instant::ZERO
    }
}
