//! Read budget of one connection in a turn: large when few are ready, small when many are. A turn
//! thus stays short in a crowd, and with it the wait of a host with a single heartbeat.

use crate::limits::{
    FRAMES_PER_TURN_ALL, FRAMES_PER_TURN_MAX, FRAMES_PER_TURN_MIN, READ_BYTES_PER_TURN_ALL,
    READ_BYTES_PER_TURN_MAX, READ_BYTES_PER_TURN_MIN, TURN_SLICE_FEW, TURN_SLICE_US,
};
use crate::time::{Instant, Span};

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
    /// Begins a slice of usual length at `now`.
    pub fn begin(now: Instant) -> Self {
        Self::of(TURN_SLICE_US, now)
    }

    /// Begins a slice of `us` microseconds at `now`.
    pub fn of(us: u64, now: Instant) -> Self {
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

impl Default for ReadBudget {
    fn default() -> Self {
        Self::among(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let mut slice = Slice::begin(begin);
        for _ in 1..TURN_SLICE_FEW {
            assert!(!slice.is_over(|| late));
        }
        assert!(slice.is_over(|| late));
        let mut slice = Slice::begin(begin);
        for _ in 0..10 * TURN_SLICE_FEW {
            assert!(!slice.is_over(|| begin));
        }
        assert!(slice.is_over(|| late));
    }

    #[test]
    fn a_crowd_together_takes_no_more_than_a_turn_has() {
        for ready in 1..=FRAMES_PER_TURN_ALL / FRAMES_PER_TURN_MIN {
            assert!(ready * ReadBudget::among(ready).frames <= FRAMES_PER_TURN_ALL);
            assert!(ready * ReadBudget::among(ready).bytes <= READ_BYTES_PER_TURN_ALL);
        }
    }
}
