//! What one connection may take of a turn: much when few have something to say, little when many do. A turn so stays short in
//! a crowd, and with it the wait of whoever has a single heartbeat to send.

use crate::limits::{
    FRAMES_PER_TURN_ALL, FRAMES_PER_TURN_MAX, FRAMES_PER_TURN_MIN, READ_BYTES_PER_TURN_ALL,
    READ_BYTES_PER_TURN_MAX, READ_BYTES_PER_TURN_MIN,
};

/// What is left of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// Bytes to be read.
    pub bytes: usize,
    /// Frames to be handled.
    pub frames: usize,
}

impl Share {
    /// The share of each of `ready` connections.
    #[must_use]
    pub fn among(ready: usize) -> Self {
        let ready = ready.max(1);
        let bytes = READ_BYTES_PER_TURN_ALL / ready;
        let frames = FRAMES_PER_TURN_ALL / ready;
        Self {
            bytes: bytes.clamp(READ_BYTES_PER_TURN_MIN, READ_BYTES_PER_TURN_MAX),
            frames: frames.clamp(FRAMES_PER_TURN_MIN, FRAMES_PER_TURN_MAX),
        }
    }
}

impl Default for Share {
    fn default() -> Self {
        Self::among(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_get_much_and_many_get_little() {
        let alone = Share::among(1);
        assert_eq!(alone.frames, FRAMES_PER_TURN_MAX);
        assert_eq!(alone.bytes, READ_BYTES_PER_TURN_MAX);
        assert_eq!(Share::among(0), alone);
        let crowd = Share::among(1_000_000);
        assert_eq!(crowd.frames, FRAMES_PER_TURN_MIN);
        assert_eq!(crowd.bytes, READ_BYTES_PER_TURN_MIN);
    }

    #[test]
    fn a_crowd_together_takes_no_more_than_a_turn_has() {
        for ready in 1..=FRAMES_PER_TURN_ALL / FRAMES_PER_TURN_MIN {
            assert!(ready * Share::among(ready).frames <= FRAMES_PER_TURN_ALL);
            assert!(ready * Share::among(ready).bytes <= READ_BYTES_PER_TURN_ALL);
        }
    }
}
