//! Bounded output of a command. A longer output keeps both ends, with a line between them that
//! counts the missing bytes.

use std::collections::VecDeque;

use crate::limits::AGENT_OUTPUT_BYTES_MAX;

/// Size of the kept beginning.
const HEAD_BYTES: usize = AGENT_OUTPUT_BYTES_MAX / 2;
const TAIL_BYTES: usize = AGENT_OUTPUT_BYTES_MAX - HEAD_BYTES;

const MARK_BEGIN: &str = "[anthill: ";
const MARK_END: &str = " bytes are missing here]";

/// Collector of the output.
#[derive(Default)]
pub struct Output {
    head: Vec<u8>,
    /// The last bytes behind the head.
    tail: VecDeque<u8>,
    /// Number of dropped bytes between the two.
    missing: u64,
}

impl Output {
    /// Adds output of a command.
    pub fn push(&mut self, more: &[u8]) {
        let room = HEAD_BYTES - self.head.len();
        let (first, more) = more.split_at(more.len().min(room));
        self.head.extend_from_slice(first);
        // Bytes that would be dropped at once are not copied.
        let (dropped, kept) = more.split_at(more.len().saturating_sub(TAIL_BYTES));
        let excess = (self.tail.len() + kept.len()).saturating_sub(TAIL_BYTES);
        self.tail.drain(..excess);
        self.tail.extend(kept);
        self.missing += (dropped.len() + excess) as u64;
    }

    /// Adds a line of the agent, which starts on a new line and is always kept.
    pub fn say(&mut self, why: &str) {
        let last = self.tail.back().or(self.head.last());
        if last.is_some_and(|last| *last != b'\n') {
            self.push(b"\n");
        }
        self.push(format!("anthill: {why}\n").as_bytes());
    }

    /// Returns the output, at most `AGENT_OUTPUT_BYTES_MAX` bytes, and whether bytes are missing.
    pub fn finish(self) -> (Vec<u8>, bool) {
        let Self {
            head: mut bytes,
            mut tail,
            mut missing,
        } = self;
        let is_cut = missing > 0;
        if is_cut {
            // The line replaces some more bytes, which must be counted, too.
            let longest = mark(u64::MAX).len();
            missing += longest as u64;
            tail.drain(..longest);
            if bytes.pop_if(|last| *last == b'\n').is_some() {
                // The line begins with a line feed, so that the sizes always add up in the same
                // way.
                missing += 1;
            }
            bytes.extend_from_slice(mark(missing).as_bytes());
        }
        bytes.extend(tail);
        (bytes, is_cut)
    }
}

fn mark(missing: u64) -> String {
    format!("\n{MARK_BEGIN}{missing}{MARK_END}\n")
}

/// Reads the number of missing bytes from the line between both ends. A command may print such
/// lines itself, but not at that position.
fn missing_in(output: &[u8]) -> Option<u64> {
    // The line replaces a line feed at the end of the head, if there was one.
    let at = |place| {
        let line = output.get(place..)?.strip_prefix(b"\n")?;
        let line = line.split(|byte| *byte == b'\n').next()?;
        let line = std::str::from_utf8(line).ok()?;
        let digits = line.strip_prefix(MARK_BEGIN)?.strip_suffix(MARK_END)?;
        digits.parse().ok()
    };
    at(HEAD_BYTES - 1).or_else(|| at(HEAD_BYTES))
}

/// Size of the whole output of which `kept` is left, by the line between both ends.
#[must_use]
pub fn whole_size(kept: &[u8]) -> Option<u64> {
    let missing = missing_in(kept)?;
    let own = (kept.len() as u64).saturating_sub(mark(missing).len() as u64);
    Some(own.saturating_add(missing))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(pieces: &[&[u8]]) -> (Vec<u8>, bool) {
        let mut output = Output::default();
        for piece in pieces {
            output.push(piece);
        }
        output.finish()
    }

    #[test]
    fn output_within_the_bound_is_kept_whole() {
        assert_eq!(of(&[]), (vec![], false));
        assert_eq!(of(&[b"a", b"b\n"]), (b"ab\n".to_vec(), false));
        let whole: Vec<u8> = (0..AGENT_OUTPUT_BYTES_MAX).map(|n| n as u8).collect();
        assert_eq!(of(&[&whole]), (whole.clone(), false));
        let pieces: Vec<&[u8]> = whole.chunks(7_777).collect();
        assert_eq!(of(&pieces), (whole, false));
    }

    #[test]
    fn a_long_output_keeps_both_ends() {
        let lines: Vec<u8> = (0..300_000)
            .flat_map(|n| format!("{n}\n").into_bytes())
            .collect();
        for size in [1, 16_384, 2_000_000, lines.len()] {
            let pieces: Vec<&[u8]> = lines.chunks(size.max(1_000)).collect();
            let (bytes, is_cut) = of(&pieces);
            assert!(is_cut && bytes.len() <= AGENT_OUTPUT_BYTES_MAX);
            assert!(bytes.len() > AGENT_OUTPUT_BYTES_MAX - 100);
            assert!(bytes.starts_with(&lines[..HEAD_BYTES - 1]));
            assert!(bytes.ends_with(b"\n299998\n299999\n"));
            assert_eq!(whole_size(&bytes), Some(lines.len() as u64));
        }
        let just = vec![b'a'; AGENT_OUTPUT_BYTES_MAX + 1];
        let (bytes, is_cut) = of(&[&just]);
        assert!(is_cut && bytes.len() <= AGENT_OUTPUT_BYTES_MAX);
        assert_eq!(whole_size(&bytes), Some(just.len() as u64));
        let mut ended = vec![b'a'; HEAD_BYTES - 1];
        ended.push(b'\n');
        let (bytes, _) = of(&[&ended, &just]);
        assert_eq!(whole_size(&bytes), Some((HEAD_BYTES + just.len()) as u64));
    }

    #[test]
    fn a_forged_line_of_missing_bytes_does_not_count() {
        let forged = format!("\n{MARK_BEGIN}{}{MARK_END}", u64::MAX).repeat(30_000);
        assert_eq!(whole_size(forged.as_bytes()), None);
        // Each place of the cut within the line.
        for shift in 0..60 {
            let all = [&b"x".repeat(shift)[..], forged.as_bytes()].concat();
            let (bytes, is_cut) = of(&[&all]);
            assert!(is_cut);
            assert_eq!(whole_size(&bytes), Some(all.len() as u64), "{shift}");
        }
    }

    #[test]
    fn a_line_of_the_agents_own_is_always_kept() {
        let mut output = Output::default();
        output.say("refused");
        assert_eq!(output.finish(), (b"anthill: refused\n".to_vec(), false));
        for size in [1, AGENT_OUTPUT_BYTES_MAX, 3 * AGENT_OUTPUT_BYTES_MAX] {
            let mut output = Output::default();
            output.push(&vec![b'a'; size]);
            output.say("killed");
            let (bytes, _) = output.finish();
            assert!(bytes.ends_with(b"a\nanthill: killed\n"), "{size}");
            assert!(bytes.len() <= AGENT_OUTPUT_BYTES_MAX);
        }
    }
}
