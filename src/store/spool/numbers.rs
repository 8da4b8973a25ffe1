//! Number of the first event of a process: above all numbers of earlier processes of this node.
//!
//! The wall clock alone would suffice, unless it is set back between two processes. Each process
//! therefore notes its first number beside the spool, and the next one begins at least
//! [`EVENTS_OF_A_LIFE_MAX`] higher.

use std::path::Path;

use super::Spool;
use super::segment::{replace_file, small_file};
use crate::limits::EVENTS_OF_A_LIFE_MAX;

impl Spool {
    /// Number of the first event of this process: `by_clock`, or more if an earlier process may
    /// have used it. A failure to note it is logged, and the next process relies on the clock.
    #[must_use]
    pub fn first_seq(&self, by_clock: u64) -> u64 {
        let earlier = load(&self.dir).map(|first| first.saturating_add(EVENTS_OF_A_LIFE_MAX));
        let first = earlier.map_or(by_clock, |earlier| earlier.max(by_clock));
        let text = format!("{first}\n");
        if let Err(error) = replace_file(&self.dir, FILE, &text, Some(&self.dir_file)) {
            log::warn!(
                error:% = error;
                "spool: the first event number cannot be noted: {error}; if the clock is set back before \
                 the next start, numbers may be used twice"
            );
        }
        first
    }
}

const FILE: &str = "first-seq";

/// First number of the last process; none if its note is missing or damaged.
fn load(dir: &Path) -> Option<u64> {
    let text = small_file(dir, FILE)?;
    text.strip_suffix('\n')?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_clock_set_back_repeats_no_number() {
        let dir = tempfile::tempdir().unwrap();
        let life = |by_clock| {
            let spool = Spool::open(dir.path(), 1 << 20).unwrap();
            spool.first_seq(by_clock)
        };
        assert_eq!(life(5_000), 5_000, "the first process uses the clock");
        let second = life(4_000);
        assert_eq!(second, 5_000 + EVENTS_OF_A_LIFE_MAX);
        assert_eq!(life(4_000), second + EVENTS_OF_A_LIFE_MAX);
        let far = 1_000 * EVENTS_OF_A_LIFE_MAX;
        assert_eq!(life(far), far, "a clock that is ahead is followed");
    }

    #[test]
    fn a_torn_note_is_ignored() {
        let dir = tempfile::tempdir().unwrap();
        let spool = Spool::open(dir.path(), 1 << 20).unwrap();
        for text in ["", "12", "12x\n", "-1\n", "99999999999999999999999\n"] {
            fs::write(dir.path().join(FILE), text).unwrap();
            assert_eq!(spool.first_seq(7), 7, "{text:?}");
        }
        assert_eq!(load(dir.path()), Some(7));
    }

    #[test]
    fn a_failed_note_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let spool = Spool::open(dir.path(), 1 << 20).unwrap();
        fs::create_dir(dir.path().join("first-seq.new")).unwrap();
        assert_eq!(spool.first_seq(7), 7);
    }
}
