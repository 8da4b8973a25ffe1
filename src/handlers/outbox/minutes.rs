//! Number of hosts online by minute: the rows of the last hours, until the store has them.

use std::collections::VecDeque;

use crate::limits::{HISTORY_HOURS_WAITING_MAX, HISTORY_WRITE_S};
use crate::store::op::history::{HOUR_MINUTES, Run, hour_at, minute_of};
use crate::store::op::{HistoryRow, Op};
use crate::time::{Instant, Span, UnixMs};

/// A row, and whether the store has not received it yet.
#[derive(Debug)]
struct Waiting {
    row: HistoryRow,
    is_ready: bool,
}

/// Rows of the last hours, the oldest first.
#[derive(Debug, Default)]
pub(crate) struct Minutes {
    rows: VecDeque<Waiting>,
    /// Start of this run: the first time at which the hosts were known.
    from: UnixMs,
    /// Time of the next count.
    pub(super) due: Option<Instant>,
}

impl Minutes {
    /// Handles a new store connection: every row is written again, since the store may have lost
    /// some.
    pub(super) fn begin(&mut self, now: Instant) {
        self.due.get_or_insert(now);
        self.rows.iter_mut().for_each(|one| one.is_ready = true);
    }

    /// Counts the hosts online, for the minute of this time. A count that is already in its row
    /// needs no write; the time of the run is then written with the next.
    pub(crate) fn count(&mut self, now: Instant, wall: UnixMs, online: u64) {
        self.due = Some(now + Span::from_secs(HISTORY_WRITE_S));
        if self.from.0 == 0 {
            self.from = wall;
        }
        let hour = hour_at(wall);
        if self.rows.back().is_none_or(|last| last.row.hour != hour) {
            if self.rows.len() == HISTORY_HOURS_WAITING_MAX {
                self.rows.pop_front();
            }
            let run = Run {
                from: self.from,
                to: wall,
            };
            self.rows.push_back(Waiting {
                row: HistoryRow {
                    hour,
                    counts: Box::new([None; HOUR_MINUTES]),
                    run,
                },
                is_ready: true,
            });
        }
        if let Some(last) = self.rows.back_mut() {
            let minute = minute_of(wall) as usize % HOUR_MINUTES;
            let count = Some(online.try_into().unwrap_or(u32::MAX));
            last.is_ready |= last.row.counts[minute] != count;
            last.row.counts[minute] = count;
            last.row.run.to = wall;
        }
    }

    /// Counts the hosts online at the end of the run, which is written in any case.
    pub(crate) fn end(&mut self, now: Instant, wall: UnixMs, online: u64) {
        self.count(now, wall, online);
        if let Some(last) = self.rows.back_mut() {
            last.is_ready = true;
        }
    }

    /// Returns whether a row is ready.
    pub(super) fn is_ready(&self) -> bool {
        self.rows.iter().any(|one| one.is_ready)
    }

    /// Moves ready rows into a batch.
    pub(super) fn take(&mut self, max: usize, ops: &mut Vec<Op>) {
        for one in self.rows.iter_mut().filter(|one| one.is_ready) {
            if ops.len() >= max {
                return;
            }
            one.is_ready = false;
            ops.push(Op::History(Box::new(one.row.clone())));
        }
    }

    /// The rows in memory, the oldest first.
    pub(crate) fn rows(&self) -> impl Iterator<Item = &HistoryRow> {
        self.rows.iter().map(|one| &one.row)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR_MS: u64 = 3_600_000;

    fn taken(minutes: &mut Minutes) -> Vec<HistoryRow> {
        let mut ops = Vec::new();
        minutes.take(usize::MAX, &mut ops);
        let row = |op| match op {
            Op::History(row) => *row,
            other => panic!("{other:?}"),
        };
        ops.into_iter().map(row).collect()
    }

    #[test]
    fn a_minute_has_its_last_count() {
        let mut minutes = Minutes::default();
        let now = Instant::ZERO;
        for (ms, online) in [(1_000, 3), (31_000, 4), (61_000, 5)] {
            minutes.count(now, UnixMs(7 * HOUR_MS + ms), online);
        }
        let rows = taken(&mut minutes);
        assert_eq!(rows.len(), 1);
        assert_eq!(
            (rows[0].hour, rows[0].counts[..3].to_vec()),
            (7, vec![Some(4), Some(5), None])
        );
        let run = rows[0].run;
        assert_eq!(
            (run.from.0, run.to.0),
            (7 * HOUR_MS + 1_000, 7 * HOUR_MS + 61_000)
        );
        assert!(!minutes.is_ready() && taken(&mut minutes).is_empty());
    }

    #[test]
    fn an_unchanged_count_is_written_once_a_minute() {
        let mut minutes = Minutes::default();
        let mut count = |ms, online| {
            minutes.count(Instant::ZERO, UnixMs(7 * HOUR_MS + ms), online);
            taken(&mut minutes).iter().map(|row| row.run.to.0).max()
        };
        let at = |ms| Some(7 * HOUR_MS + ms);
        assert_eq!(count(1_000, 3), at(1_000));
        assert_eq!(count(11_000, 3), None);
        assert_eq!(count(21_000, 4), at(21_000));
        assert_eq!(count(31_000, 4), None);
        assert_eq!(count(61_000, 4), at(61_000));
        minutes.end(Instant::ZERO, UnixMs(7 * HOUR_MS + 65_000), 4);
        let last = taken(&mut minutes).pop().expect("the end is written");
        assert_eq!(last.run.to.0, 7 * HOUR_MS + 65_000);
    }

    #[test]
    fn rows_are_written_again_after_an_outage() {
        let mut minutes = Minutes::default();
        for hour in 0..=HISTORY_HOURS_WAITING_MAX as u64 {
            minutes.count(Instant::ZERO, UnixMs(hour * HOUR_MS + 1), hour);
        }
        assert_eq!(taken(&mut minutes).len(), HISTORY_HOURS_WAITING_MAX);
        minutes.begin(Instant::ZERO);
        let again = taken(&mut minutes);
        assert_eq!((again.len(), again[0].hour), (HISTORY_HOURS_WAITING_MAX, 1));
    }
}
