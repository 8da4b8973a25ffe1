//! Queue of outgoing datagrams, and the handling of send errors. Sending is a function that takes
//! datagrams and returns the number that it sent, so the queue needs no socket.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};

use crate::handlers::request::Datagram;
use crate::limits::SENDS_PER_TURN_MAX;

/// First in, first out. It holds as many datagrams as one turn sends.
#[derive(Debug, Default)]
pub struct DatagramQueue {
    queue: VecDeque<Datagram>,
    /// The socket was full at the last flush.
    blocked: bool,
}

/// Result of a flush.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flushed {
    pub sent: u64,
    /// Datagrams that could not be sent and were dropped.
    pub failed: u64,
    /// The socket is full.
    pub blocked: bool,
    /// The socket was full at the flush before.
    pub was_blocked: bool,
}

impl DatagramQueue {
    /// Returns whether the queue is empty.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Number of further datagrams that fit.
    pub fn room(&self) -> usize {
        SENDS_PER_TURN_MAX.saturating_sub(self.queue.len())
    }

    /// Appends a datagram, if it fits.
    pub fn push(&mut self, datagram: Datagram) {
        debug_assert!(self.room() > 0, "there was room");
        if self.room() > 0 {
            self.queue.push_back(datagram);
        }
    }

    /// Sends datagrams with `send`, as many as it takes. An error concerns the first of them, or
    /// one sent earlier (an ICMP error stays on the socket for the next call). The first is
    /// therefore tried again, and a second error in a row is its own.
    pub fn flush(&mut self, mut send: impl FnMut(&[Datagram]) -> io::Result<usize>) -> Flushed {
        let mut flushed = Flushed {
            was_blocked: std::mem::take(&mut self.blocked),
            ..Flushed::default()
        };
        let mut suspected = false;
        while !self.queue.is_empty() && !flushed.blocked {
            match send(self.queue.as_slices().0) {
                Ok(sent) => {
                    self.queue.drain(..sent);
                    flushed.sent += sent as u64;
                    suspected = false;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => flushed.blocked = true,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) if !suspected => suspected = true,
                Err(error) => {
                    suspected = false;
                    flushed.failed += 1;
                    if let Some(datagram) = self.queue.pop_front() {
                        let to = datagram.to;
                        log::warn!(target: "send", "{}: not sent to {to}: {error}", to.ip());
                    }
                }
            }
        }
        self.blocked = flushed.blocked;
        flushed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(datagrams: usize) -> DatagramQueue {
        let mut queue = DatagramQueue::default();
        for number in 0..datagrams {
            queue.push(Datagram {
                to: "127.0.0.1:6655".parse().unwrap(),
                text: number.to_string().into(),
            });
        }
        queue
    }

    fn error(errno: i32) -> io::Result<usize> {
        Err(io::Error::from_raw_os_error(errno))
    }

    /// Sends one datagram at a time unless `trouble` returns an error. Returns the sent datagrams
    /// and the result of the flush.
    fn flush(
        queue: &mut DatagramQueue,
        mut trouble: impl FnMut(&str) -> Option<io::Result<usize>>,
    ) -> (Vec<String>, Flushed) {
        let mut out = Vec::new();
        let flushed = queue.flush(|datagrams| {
            let first = &datagrams[0].text;
            trouble(first).unwrap_or_else(|| {
                out.push(first.to_string());
                Ok(1)
            })
        });
        (out, flushed)
    }

    #[test]
    fn a_full_socket_keeps_the_rest_in_order() {
        let mut queue = queue(5);
        let (out, flushed) = flush(&mut queue, |text| {
            (text == "2").then(|| error(libc::EAGAIN))
        });
        assert_eq!((out.len(), flushed.blocked, flushed.failed), (2, true, 0));
        let (out, flushed) = flush(&mut queue, |_| None);
        assert_eq!(out, ["2", "3", "4"]);
        assert!(flushed.was_blocked && !flushed.blocked && queue.is_empty());
        assert!(!flush(&mut queue, |_| None).1.was_blocked);
    }

    #[test]
    fn a_pending_error_costs_no_datagram() {
        let mut queue = queue(4);
        let mut errors = 3;
        let (out, flushed) = flush(&mut queue, |_| {
            errors -= 1;
            (errors % 2 == 0 && errors >= 0).then(|| error(libc::ECONNREFUSED))
        });
        assert_eq!(out, ["0", "1", "2", "3"]);
        assert_eq!((flushed.sent, flushed.failed), (4, 0));
    }

    #[test]
    fn a_bad_datagram_is_dropped_alone() {
        let mut queue = queue(4);
        let mut interrupted = false;
        let (out, flushed) = flush(&mut queue, |text| match text {
            "1" => Some(error(libc::ENETUNREACH)),
            "3" if !std::mem::replace(&mut interrupted, true) => Some(error(libc::EINTR)),
            _ => None,
        });
        assert_eq!(out, ["0", "2", "3"]);
        assert_eq!((flushed.sent, flushed.failed), (3, 1));
    }

    #[test]
    fn the_queue_is_bounded_by_a_turn() {
        let queue = queue(SENDS_PER_TURN_MAX);
        assert_eq!(queue.room(), 0);
    }
}
