//! Handles that wait for an answer of the core, by number. HTTP connections have numbers with the
//! highest bit set.

use std::collections::HashMap;

use crossbeam_channel::Sender;

use crate::handlers::request::Response;
use crate::limits::{ASKER_S_MAX, ASKERS_MAX};
use crate::time::{Instant, Span};

/// Bit in the numbers of HTTP requesters.
pub const WEB: u64 = 1 << 63;

#[derive(Debug)]
struct Requester {
    reply: Sender<Response>,
    since: Instant,
}

#[derive(Debug, Default)]
pub struct Requesters {
    waiting: HashMap<u64, Requester>,
    last: u64,
}

impl Requesters {
    /// Adds a requester. Returns its number, or `None` if there are too many.
    pub fn add(&mut self, reply: Sender<Response>, now: Instant) -> Option<u64> {
        if self.waiting.len() >= ASKERS_MAX {
            // Older requesters have given up.
            let oldest = Span::from_secs(ASKER_S_MAX);
            self.waiting
                .retain(|_, requester| requester.since + oldest > now);
        }
        if self.waiting.len() >= ASKERS_MAX {
            return None;
        }
        self.last += 1;
        let since = now;
        self.waiting.insert(self.last, Requester { reply, since });
        Some(self.last)
    }

    /// Answers a requester. If it has stopped waiting, the answer is dropped.
    pub fn respond(&mut self, requester: u64, answer: Response) {
        if let Some(requester) = self.waiting.remove(&requester) {
            // The channel has room for one answer; only a dropped receiver refuses it.
            let _ = requester.reply.try_send(answer);
        }
    }

    /// Number of waiting handles.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crossbeam_channel::bounded;

    fn output(byte: u8) -> Response {
        Response::Output(vec![byte])
    }

    #[test]
    fn each_gets_its_own_answer_once() {
        let mut requesters = Requesters::default();
        let ends: Vec<_> = (0..3)
            .map(|_| {
                let (reply, end) = bounded(1);
                (requesters.add(reply, Instant::ZERO).unwrap(), end)
            })
            .collect();
        for (requester, _) in ends.iter().rev() {
            requesters.respond(*requester, output(*requester as u8));
            requesters.respond(*requester, output(0));
        }
        for (requester, end) in &ends {
            assert_eq!(requester & WEB, 0);
            assert_eq!(end.try_recv(), Ok(output(*requester as u8)));
            assert!(end.try_recv().is_err());
        }
        assert_eq!(requesters.len(), 0);
    }

    #[test]
    fn expired_requesters_make_room() {
        let mut requesters = Requesters::default();
        let (reply, _end) = bounded(1);
        for _ in 0..ASKERS_MAX {
            assert!(requesters.add(reply.clone(), Instant::ZERO).is_some());
        }
        assert_eq!(requesters.add(reply.clone(), Instant::ZERO), None);
        let later = Instant::ZERO + Span::from_secs(ASKER_S_MAX);
        assert!(requesters.add(reply, later).is_some());
        assert_eq!(requesters.len(), 1);
    }
}
