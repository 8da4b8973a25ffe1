//! Limit of repeated lines: they are written a few times, then only counted. A host that sends
//! invalid data a thousand times a second must neither fill the disk nor hide other lines.
//!
//! Lines repeat if they have one target and one host. The core's targets are single words
//! (`online`, `abnormal`), and its messages begin with the host and `": "`; lines of any other
//! target repeat if they begin with the same characters. The decision is made before the message is
//! formatted: only a hash of its beginning is used.
//!
//! The caller of [`Limiter::close_window`] divides time into windows. At the end of a window the
//! number of suppressed lines is logged, and counting starts again.

use std::fmt;
use std::hash::{BuildHasher, RandomState};

use log::Level;

use crate::ids::Numbered;
use crate::limits::{LOG_AUDIT_LINES_MAX, LOG_LINES_ALIKE_MAX, LOG_PAIRS_MAX};

/// Target of the lines about requests that change something.
const AUDIT: &str = "audit";

/// Length of the examined beginning of a message, in bytes.
const BEGINNING_BYTES: usize = 128;

/// Counts of repeated lines, at most [`LOG_PAIRS_MAX`].
#[derive(Debug)]
pub(super) struct Limiter {
    /// Keyed, so that an attacker cannot choose names with equal hashes.
    hasher: RandomState,
    /// Hasher for keys that are hashes already.
    counts: Numbered<u64, Count>,
}

#[derive(Debug)]
struct Count {
    written: u32,
    more: Option<Box<More>>,
}

/// Suppressed lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct More {
    /// Level of the first of them.
    pub(super) level: Level,
    /// Their target.
    pub(super) target: String,
    /// Their host; empty if several hosts share the count.
    pub(super) who: String,
    /// Number of lines.
    pub(super) lines: u64,
}

impl Limiter {
    pub(super) fn new() -> Self {
        Self {
            hasher: RandomState::new(),
            counts: Numbered::default(),
        }
    }

    /// Returns whether a line of this target about the host `who` may be written; otherwise counts
    /// it.
    pub(super) fn admit(&mut self, level: Level, target: &str, mut who: &str) -> bool {
        // What has been changed is shown line by line; refusals are limited as anything else.
        let is_change = target == AUDIT && level == Level::Info;
        let most = match is_change {
            true => LOG_AUDIT_LINES_MAX,
            false => LOG_LINES_ALIKE_MAX,
        };
        let mut key = self.hasher.hash_one((target, who, is_change));
        if self.counts.len() >= LOG_PAIRS_MAX && !self.counts.contains_key(&key) {
            // The table is full: other hosts of this target share a count. There are few targets,
            // all constants.
            who = "";
            key = self.hasher.hash_one((target, who, is_change));
        }
        let count = self.counts.entry(key).or_insert(Count {
            written: 0,
            more: None,
        });
        if count.written < most {
            count.written += 1;
            return true;
        }
        let more = count.more.get_or_insert_with(|| {
            Box::new(More {
                level,
                target: target.to_owned(),
                who: who.to_owned(),
                lines: 0,
            })
        });
        more.lines += 1;
        false
    }

    /// Returns whether no line has been counted since the window began.
    pub(super) fn is_empty(&self) -> bool {
        self.counts.is_empty()
    }

    /// Ends the window. Returns the suppressed lines and starts a new window.
    pub(super) fn close_window(&mut self) -> Vec<More> {
        let counts = std::mem::take(&mut self.counts);
        let held_back = counts.into_values().filter_map(|count| count.more);
        held_back.map(|more| *more).collect()
    }
}

impl fmt::Display for More {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.who.is_empty() {
            write!(f, "{}: ", self.who)?;
        }
        write!(f, "… {} more like this", self.lines)
    }
}

/// The beginning of a message without allocation: up to the first `": "` for a target of the core.
pub(super) struct Beginning {
    bytes: [u8; BEGINNING_BYTES],
    used: usize,
    until_colon: bool,
}

impl Beginning {
    pub(super) fn of(target: &str, args: fmt::Arguments<'_>) -> Self {
        let mut beginning = Self {
            bytes: [0; BEGINNING_BYTES],
            used: 0,
            until_colon: !target.contains("::") && target != env!("CARGO_PKG_NAME"),
        };
        // An error only ends the formatting early.
        let _ = fmt::write(&mut beginning, args);
        beginning
    }

    /// Host in the line, if it is recognized.
    pub(super) fn who(&self) -> &str {
        let taken = &self.bytes[..self.used];
        let taken = std::str::from_utf8(taken).unwrap_or_default();
        match taken.find(": ") {
            Some(colon) if self.until_colon => &taken[..colon],
            _ => taken,
        }
    }
}

impl fmt::Write for Beginning {
    fn write_str(&mut self, piece: &str) -> fmt::Result {
        let fits = piece.floor_char_boundary(BEGINNING_BYTES - self.used);
        self.bytes[self.used..self.used + fits].copy_from_slice(&piece.as_bytes()[..fits]);
        // The colon may end one piece and the blank begin the next.
        let from = self.used.saturating_sub(1);
        self.used += fits;
        let colon = self.bytes[from..self.used]
            .windows(2)
            .any(|two| two == b": ");
        if fits < piece.len() || (self.until_colon && colon) {
            return Err(fmt::Error);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admit(limiter: &mut Limiter, target: &str, args: fmt::Arguments<'_>) -> bool {
        limiter.admit(Level::Warn, target, Beginning::of(target, args).who())
    }

    fn admitted(limiter: &mut Limiter, times: u32, target: &str, message: &str) -> u32 {
        (0..times)
            .map(|_| u32::from(admit(limiter, target, format_args!("{message}"))))
            .sum()
    }

    #[test]
    fn changes_in_the_audit_are_not_gathered_at_once() {
        let mut limiter = Limiter::new();
        let mut written = |level, lines: u32| {
            let taken = (0..lines).filter(|_| limiter.admit(level, AUDIT, "ops"));
            taken.count() as u32
        };
        assert_eq!(written(Level::Warn, 100), LOG_LINES_ALIKE_MAX);
        assert_eq!(written(Level::Info, 500), 500);
        assert_eq!(written(Level::Info, 600), LOG_AUDIT_LINES_MAX - 500);
    }

    #[test]
    fn one_host_is_limited_and_the_others_are_not() {
        let mut limiter = Limiter::new();
        let mut written = 0;
        for i in 0..1_000 {
            let args = format_args!("{}: body does not parse at byte {i}", "10.0.0.7");
            written += u32::from(admit(&mut limiter, "abnormal", args));
        }
        assert_eq!(written, LOG_LINES_ALIKE_MAX);
        assert_eq!(admitted(&mut limiter, 3, "abnormal", "10.0.0.8: x"), 3);
        assert_eq!(admitted(&mut limiter, 3, "offline", "10.0.0.7: x"), 3);

        let more = limiter.close_window();
        assert_eq!(more.len(), 1);
        assert_eq!(more[0].lines, u64::from(1_000 - LOG_LINES_ALIKE_MAX));
        assert_eq!(more[0].target, "abnormal");
        assert_eq!(more[0].to_string(), "10.0.0.7: … 980 more like this");
        assert_eq!(limiter.close_window(), []);
        assert_eq!(admitted(&mut limiter, 1, "abnormal", "10.0.0.7: again"), 1);
    }

    #[test]
    fn an_address_with_colons_is_one_name() {
        let mut limiter = Limiter::new();
        for last in 0..LOG_LINES_ALIKE_MAX * 2 {
            let args = format_args!("2001:db8::{last:x}: gone");
            assert!(admit(&mut limiter, "offline", args), "{last}");
        }
    }

    #[test]
    fn other_targets_are_limited_by_what_they_say() {
        let mut limiter = Limiter::new();
        for i in 0..LOG_LINES_ALIKE_MAX * 2 {
            let args = format_args!("config.json: warning {i}");
            assert!(admit(&mut limiter, "anthill::server", args));
        }
        let written = admitted(
            &mut limiter,
            100,
            "anthill::server",
            "the same: over and over",
        );
        assert_eq!(written, LOG_LINES_ALIKE_MAX);
        let long = "ö".repeat(500);
        assert_eq!(
            admitted(&mut limiter, 100, "anthill", &long),
            LOG_LINES_ALIKE_MAX
        );
    }

    #[test]
    fn a_colon_cut_in_two_is_found() {
        let mut limiter = Limiter::new();
        for i in 0..100 {
            admit(
                &mut limiter,
                "abnormal",
                format_args!("a{}{}x{i}", ":", " "),
            );
        }
        assert_eq!(limiter.close_window()[0].who, "a");
    }

    #[test]
    fn a_storm_of_hosts_stays_within_its_memory() {
        let mut limiter = Limiter::new();
        let (mut written, hosts) = (0, 3 * LOG_PAIRS_MAX);
        for host in 0..hosts {
            written += usize::from(admit(
                &mut limiter,
                "online",
                format_args!("host-{host}: here"),
            ));
        }
        assert!(limiter.counts.len() <= LOG_PAIRS_MAX + 1);
        assert_eq!(written, LOG_PAIRS_MAX + LOG_LINES_ALIKE_MAX as usize);
        let more = limiter.close_window();
        assert_eq!(more[0].lines as usize, hosts - written);
        assert_eq!(
            more[0].to_string(),
            format!("… {} more like this", hosts - written)
        );
    }
}
