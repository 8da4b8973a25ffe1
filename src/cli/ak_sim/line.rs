//! One connection of the simulator. A request is read after all steps of the one before, as in a
//! device that does one thing at a time.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::time::Instant;

use crate::codec::ak::Parser;

use super::device::{Device, Habits, Step};

const READ_BYTES: usize = 1_024;
/// Limit of steps in a row, before other connections have their turn.
const STEPS_MAX: usize = 64;

/// Remaining work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    /// Wait for the socket.
    Nothing,
    /// Wait until this time.
    Pause(Instant),
    /// Continue in the next turn.
    More,
    /// The connection is over.
    End,
}

/// One connection of the simulator.
#[derive(Debug)]
pub struct Line<S> {
    stream: S,
    device: Device,
    parser: Parser,
    /// Bytes read and not yet parsed.
    unread: VecDeque<u8>,
    /// Remaining steps of the last request.
    steps: VecDeque<Step>,
    /// Unsent bytes.
    unsent: VecDeque<u8>,
    /// End of a pause.
    until: Option<Instant>,
}

impl<S: Read + Write> Line<S> {
    pub fn new(stream: S, device: Device) -> Self {
        Self {
            stream,
            device,
            parser: Parser::default(),
            unread: VecDeque::new(),
            steps: VecDeque::new(),
            unsent: VecDeque::new(),
            until: None,
        }
    }

    /// Runs all steps that are due.
    ///
    /// # Errors
    /// The connection broke, or the input is not AK.
    pub fn serve(&mut self, now: Instant, mut habits: Option<&mut Habits>) -> io::Result<Left> {
        for _ in 0..STEPS_MAX {
            if self.until.is_some_and(|until| until > now) {
                // The habit that pauses also schedules the next look.
                return Ok(Left::Nothing);
            }
            self.until = None;
            if !self.flush()? {
                return Ok(Left::Nothing);
            }
            match self.steps.pop_front() {
                Some(Step::Say(bytes)) => self.unsent.extend(bytes),
                Some(Step::Wait(span)) => {
                    self.until = Some(now + span);
                    return Ok(Left::Pause(now + span));
                }
                Some(Step::Close) => return Ok(Left::End),
                None => match self.next(habits.as_deref_mut())? {
                    Left::More => {}
                    left => return Ok(left),
                },
            }
        }
        Ok(Left::More)
    }

    /// Parses the next request, or reads more.
    fn next(&mut self, habits: Option<&mut Habits>) -> io::Result<Left> {
        if self.unread.is_empty() {
            let mut buffer = [0; READ_BYTES];
            return match self.stream.read(&mut buffer) {
                Ok(0) => Ok(Left::End),
                Ok(read) => {
                    self.unread.extend(&buffer[..read]);
                    Ok(Left::More)
                }
                Err(error) => later(error).map(|interrupted| match interrupted {
                    true => Left::More,
                    false => Left::Nothing,
                }),
            };
        }
        let had = self.unread.len();
        let mut input: &[u8] = self.unread.make_contiguous();
        let frame = self.parser.next(&mut input).map_err(io::Error::other)?;
        if let Some(frame) = frame {
            let habit = habits.and_then(Habits::next);
            self.steps.extend(self.device.answer(frame.bytes, habit));
        }
        let taken = had - input.len();
        self.unread.drain(..taken);
        Ok(Left::More)
    }

    /// Sends as much as the socket takes. Returns whether nothing is left.
    fn flush(&mut self) -> io::Result<bool> {
        while !self.unsent.is_empty() {
            match self.stream.write(self.unsent.as_slices().0) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(sent) => drop(self.unsent.drain(..sent)),
                Err(error) => {
                    if !later(error)? {
                        return Ok(false);
                    }
                }
            }
        }
        Ok(true)
    }
}

/// Returns whether an error means only an interruption; false if the call would block.
fn later(error: io::Error) -> io::Result<bool> {
    match error.kind() {
        ErrorKind::Interrupted => Ok(true),
        ErrorKind::WouldBlock => Ok(false),
        _ => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    /// A peer that sends no more, and reads a few bytes at a time.
    #[derive(Default)]
    struct Peer {
        says: VecDeque<u8>,
        heard: Vec<u8>,
        room: usize,
    }

    impl Read for Peer {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            match self.says.read(buffer)? {
                0 => Err(ErrorKind::WouldBlock.into()),
                read => Ok(read),
            }
        }
    }

    impl Write for Peer {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let taken = bytes.len().min(self.room);
            if taken == 0 {
                return Err(ErrorKind::WouldBlock.into());
            }
            self.room -= taken;
            self.heard.extend(&bytes[..taken]);
            Ok(taken)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn line(says: &[u8], room: usize) -> Line<Peer> {
        let says = says.to_vec().into();
        let peer = Peer {
            says,
            room,
            ..Peer::default()
        };
        Line::new(peer, Device::default())
    }

    #[test]
    fn simulated_answers_wait_for_room() {
        let now = Instant::now();
        let mut line = line(b"\x02 AVFI K0\x03x\x02 ADRU K0\x03\x02 AV", 5);
        assert_eq!(line.serve(now, None).unwrap(), Left::Nothing);
        assert_eq!(line.stream.heard, b"\x02 AVF");
        line.stream.room = 1_000;
        assert_eq!(line.serve(now, None).unwrap(), Left::Nothing);
        assert_eq!(
            line.stream.heard,
            b"\x02 AVFI 0 0.8\x03\x02 ADRU 0 1013.2\x03"
        );
    }

    #[test]
    fn nothing_else_is_done_in_a_pause() {
        let now = Instant::now();
        let mut line = line(b"\x02 AVFI K0\x03\x02 ADRU K0\x03", 1_000);
        let pause = Duration::from_secs(1);
        line.steps
            .extend([Step::Wait(pause), Step::Say(b"late".to_vec())]);
        assert_eq!(line.serve(now, None).unwrap(), Left::Pause(now + pause));
        assert_eq!(line.serve(now, None).unwrap(), Left::Nothing);
        assert!(line.stream.heard.is_empty());
        line.serve(now + pause, None).unwrap();
        assert_eq!(
            line.stream.heard,
            b"late\x02 AVFI 0 0.8\x03\x02 ADRU 0 1013.2\x03"
        );
    }

    #[test]
    fn one_that_asks_much_gives_others_their_turn() {
        let many = b"\x02 AVFI K0\x03".repeat(2 * STEPS_MAX);
        let mut line = line(&many, usize::MAX);
        let now = Instant::now();
        assert_eq!(line.serve(now, None).unwrap(), Left::More);
        let mut turns = 1;
        while line.serve(now, None).unwrap() == Left::More {
            turns += 1;
        }
        assert!(turns > 3, "{turns}");
        let answers = line.stream.heard.iter().filter(|byte| **byte == 3);
        assert_eq!(answers.count(), 2 * STEPS_MAX);
    }
}
