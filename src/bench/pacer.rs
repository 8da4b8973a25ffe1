//! Heartbeats of all hosts, each at its due time.

use super::fleet::Fleet;
use super::hold::Hold;
use super::plan::Plan;
use super::schedule::{Schedule, shuffled};
use crate::limits::BENCH_SENDS_PER_TURN_MAX;
use crate::time::{Instant, Span};

/// Extra time for a load that cannot be sent in its own time; after it, late heartbeats are
/// dropped.
pub const GRACE: Span = Span::from_millis(500);

/// Sender of paced heartbeats.
#[derive(Debug)]
pub struct Pacer {
    schedule: Schedule,
    order: Vec<usize>,
    replies: bool,
    turn: u64,
    hold: Option<Hold>,
}

impl Pacer {
    /// Creates the plan's heartbeats from `start` for `seconds`. With `hold` the server is stopped
    /// while those that fall together are sent.
    pub fn new(plan: &Plan, start: Instant, seconds: f64, hold: Option<Hold>) -> Self {
        let schedule = Schedule::new(start, plan.asked.rate_per_s, seconds, plan.asked.seed);
        Self {
            schedule: schedule.together(if plan.asked.together {
                plan.asked.hosts as u64
            } else {
                1
            }),
            order: shuffled(plan.asked.hosts, plan.asked.seed),
            replies: plan.asked.replies,
            turn: 0,
            hold,
        }
    }

    /// Number of heartbeats that are too late to be sent.
    pub fn given_up(&self, now: Instant) -> u64 {
        self.schedule.due_by(now - GRACE).saturating_sub(self.turn)
    }

    /// Returns whether all have been sent.
    pub const fn is_over(&self) -> bool {
        self.turn >= self.schedule.turns()
    }

    /// Sends due heartbeats, within a budget. Returns the time of the next call, which may be now,
    /// and is `latest` at the latest.
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
