//! Read budget of one connection in a turn: large when few are ready, small when many are. A turn
//! thus stays short in a crowd, and with it the wait of a host with a single heartbeat.

use crate::limits::{
    FRAMES_PER_TURN_ALL, FRAMES_PER_TURN_MAX, FRAMES_PER_TURN_MIN, READ_BYTES_PER_TURN_ALL,
    READ_BYTES_PER_TURN_MAX, READ_BYTES_PER_TURN_MIN, SENDS_PER_TURN_MAX, TURN_SLICE_FEW,
};
use crate::time::{Instant, Span};

/// Usual time of a datagram or push, from the core to the kernel, in nanoseconds.
const SEND_NS: u64 = 4_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadBudget {
    /// Bytes to be read.
    pub bytes: usize,
    /// Frames to be handled.
    pub frames: usize,
    /// TLS records to be decrypted, with or without data in them.
    pub records: usize,
}

impl ReadBudget {
    /// Budget of each of `ready` connections.
    pub fn among(ready: usize) -> Self {
        // The usual case needs no divisions.
        if ready <= 1 {
            return Self {
                bytes: READ_BYTES_PER_TURN_MAX,
                frames: FRAMES_PER_TURN_MAX,
                records: FRAMES_PER_TURN_MAX,
            };
        }
        let bytes = READ_BYTES_PER_TURN_ALL / ready;
        let frames = FRAMES_PER_TURN_ALL / ready;
        let frames = frames.clamp(FRAMES_PER_TURN_MIN, FRAMES_PER_TURN_MAX);
        Self {
            bytes: bytes.clamp(READ_BYTES_PER_TURN_MIN, READ_BYTES_PER_TURN_MAX),
            frames,
            records: frames,
        }
    }

    /// Counts `bytes` read from the socket.
    pub fn spend_bytes(&mut self, bytes: usize) {
        self.bytes = self.bytes.saturating_sub(bytes);
    }
}

/// Slice of a turn: it ends with its time, but not before a few items are served, so that a slow
/// machine makes progress.
#[derive(Debug)]
pub struct Slice {
    end: Instant,
    few: u32,
}

impl Slice {
    /// Begins a slice of `us` microseconds at `now`.
    fn of(us: u64, now: Instant) -> Self {
        Self {
            end: now + Span::from_micros(us),
            few: TURN_SLICE_FEW,
        }
    }

    /// Sets the number of items that are served in any case.
    pub const fn at_least(mut self, few: u32) -> Self {
        self.few = few;
        self
    }

    /// Counts a served item. Returns whether the slice is over.
    pub fn is_over(&mut self, now: impl FnOnce() -> Instant) -> bool {
        self.few = self.few.saturating_sub(1);
        self.few == 0 && now() >= self.end
    }
}

/// Time that a turn may take after its wait. Without a limit each part of the turn has its usual
/// slice; with one, the slices end with the limit, and only a few items of each part follow.
#[derive(Clone, Copy, Debug)]
pub struct TurnBudget {
    limit: Option<Span>,
    reading_end: Option<Instant>,
    end: Option<Instant>,
}

impl TurnBudget {
    pub fn new(limit: Option<Span>) -> Self {
        Self {
            limit,
            reading_end: None,
            end: None,
        }
    }

    /// Begins a turn at `now`. Reported connections have half of it: the other parts need theirs.
    pub fn begin(&mut self, now: Instant) {
        if let Some(limit) = self.limit {
            self.reading_end = Some(now + Span::from_nanos(limit.as_nanos() / 2));
            self.end = Some(now + limit);
        }
    }

    /// Returns whether no more of the reported connections are read in this turn.
    pub fn stops_reading(&self, now: impl FnOnce() -> Instant) -> bool {
        self.reading_end.is_some_and(|end| now() >= end)
    }

    /// Returns whether the turn's time is over.
    pub fn is_over(&self, now: impl FnOnce() -> Instant) -> bool {
        self.end.is_some_and(|end| now() >= end)
    }

    /// Begins a slice of `us` microseconds at `now`.
    pub fn slice(&self, us: u64, now: Instant) -> Slice {
        let mut slice = Slice::of(us, now);
        slice.end = self.end.map_or(slice.end, |end| slice.end.min(end));
        slice
    }

    /// Budget of each of `ready` connections.
    pub fn of_each(&self, ready: usize) -> ReadBudget {
        ReadBudget::among(match self.limit {
            None => ready,
            Some(_) => usize::MAX,
        })
    }

    /// Datagrams and pushes to be sent in this turn.
    pub fn sends(&self) -> usize {
        let within = |limit: Span| limit.as_nanos() / SEND_NS;
        let sends = self.limit.map_or(SENDS_PER_TURN_MAX as u64, within);
        (sends as usize).clamp(FRAMES_PER_TURN_MIN, SENDS_PER_TURN_MAX)
    }
}

impl Default for ReadBudget {
    fn default() -> Self {
        Self::among(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::TURN_SLICE_US;

    #[test]
    fn few_get_much_and_many_get_little() {
        let alone = ReadBudget::among(1);
        assert_eq!(alone.frames, FRAMES_PER_TURN_MAX);
        assert_eq!(alone.bytes, READ_BYTES_PER_TURN_MAX);
        assert_eq!(ReadBudget::among(0), alone);
        let crowd = ReadBudget::among(1_000_000);
        assert_eq!(crowd.frames, FRAMES_PER_TURN_MIN);
        assert_eq!(crowd.bytes, READ_BYTES_PER_TURN_MIN);
    }

    #[test]
    fn a_slice_serves_a_few_at_least() {
        let begin = Instant::ZERO + Span::from_secs(1);
        let late = begin + Span::from_micros(TURN_SLICE_US);
        let mut slice = TurnBudget::new(None).slice(TURN_SLICE_US, begin);
        for _ in 1..TURN_SLICE_FEW {
            assert!(!slice.is_over(|| late));
        }
        assert!(slice.is_over(|| late));
        let mut slice = TurnBudget::new(None).slice(TURN_SLICE_US, begin);
        for _ in 0..10 * TURN_SLICE_FEW {
            assert!(!slice.is_over(|| begin));
        }
        assert!(slice.is_over(|| late));
    }

    #[test]
    fn a_limit_ends_every_slice() {
        let begin = Instant::ZERO + Span::from_secs(1);
        let limit = Span::from_micros(200);
        let mut budget = TurnBudget::new(Some(limit));
        budget.begin(begin);
        let half = begin + Span::from_micros(100);
        assert!(!budget.stops_reading(|| begin));
        assert!(budget.stops_reading(|| half));
        assert!(!budget.is_over(|| half));
        assert!(budget.is_over(|| begin + limit));
        let mut slice = budget.slice(TURN_SLICE_US, half);
        for _ in 1..TURN_SLICE_FEW {
            assert!(!slice.is_over(|| begin + limit));
        }
        assert!(!slice.is_over(|| half));
        assert!(slice.is_over(|| begin + limit));
        assert_eq!(budget.sends(), 50);
        assert_eq!(budget.of_each(1).frames, FRAMES_PER_TURN_MIN);
        let unlimited = TurnBudget::new(None);
        assert!(!unlimited.is_over(|| begin + Span::from_secs(9)));
        assert_eq!(unlimited.sends(), SENDS_PER_TURN_MAX);
    }

    #[test]
    fn a_crowd_together_takes_no_more_than_a_turn_has() {
        for ready in 1..=FRAMES_PER_TURN_ALL / FRAMES_PER_TURN_MIN {
            assert!(ready * ReadBudget::among(ready).frames <= FRAMES_PER_TURN_ALL);
            assert!(ready * ReadBudget::among(ready).bytes <= READ_BYTES_PER_TURN_ALL);
        }
    }
}
