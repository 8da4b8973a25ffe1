//! Connections that have more to read although the kernel will not report it again. Readiness is
//! reported once, so a connection that stopped at its budget is queued here.

use std::collections::VecDeque;

use super::connection::{Connection, Flags};
use crate::ids::ConnId;

/// The queues, in the order of service: each has a slice of the turn, after the connections that
/// the kernel has just reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadQueue {
    /// Connections that used their budget and have more.
    OverBudget,
    /// Connections of hosts that were sent a task. All of them answer at once; no other host
    /// depends on it.
    Dispatched,
    /// Connections that arrive or leave.
    Transient,
}

impl ReadQueue {
    /// All of them, in their order.
    pub const ALL: [Self; 3] = [Self::OverBudget, Self::Dispatched, Self::Transient];
}

/// The queues of connections to be read. Each connection is in one of them once at most.
#[derive(Debug, Default)]
pub struct ReadQueues([Queue; ReadQueue::ALL.len()]);

/// First in, first out.
#[derive(Debug, Default)]
struct Queue {
    queue: VecDeque<ConnId>,
    /// Remaining connections of this turn; later ones wait for the next.
    round: usize,
}

impl ReadQueues {
    /// Puts a connection at the end of a queue, unless it is in one.
    pub fn enqueue(&mut self, entry: &mut Connection, conn: ConnId, queue: ReadQueue) {
        if !entry.flags.set(Flags::QUEUED) {
            self.0[queue as usize].queue.push_back(conn);
        }
    }

    /// Puts a connection that has more to read at the end of its queue, unless it is in one.
    pub fn requeue(&mut self, entry: &mut Connection, conn: ConnId) {
        match entry.flags.has(Flags::LOW_PRIORITY) {
            true => self.enqueue(entry, conn, ReadQueue::Transient),
            false => self.enqueue(entry, conn, ReadQueue::OverBudget),
        }
    }

    /// Begins a turn of one queue: each connection in it gets one go.
    pub fn begin(&mut self, queue: ReadQueue) {
        let queue = &mut self.0[queue as usize];
        queue.round = queue.queue.len();
    }

    /// Next connection of one queue in this turn. It may be closed.
    pub fn pop(&mut self, queue: ReadQueue) -> Option<ConnId> {
        let queue = &mut self.0[queue as usize];
        queue.round = queue.round.checked_sub(1)?;
        queue.queue.pop_front()
    }

    /// Number of connections in one queue.
    pub fn len(&self, queue: ReadQueue) -> usize {
        self.0[queue as usize].queue.len()
    }

    /// Returns whether all queues are empty.
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|queue| queue.queue.is_empty())
    }

    pub fn clear(&mut self) {
        self.0.iter_mut().for_each(|queue| queue.queue.clear());
    }

    pub fn trim(&mut self) {
        self.0
            .iter_mut()
            .for_each(|queue| queue.queue.shrink_to_fit());
    }
}

#[cfg(test)]
mod tests {
    use super::super::test_double::conn;
    use super::*;
    use mio::net::TcpStream;
    use std::net::TcpListener;

    #[test]
    fn requeued_connections_wait_for_the_next_turn() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let connect = || TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let mut entries: Vec<_> = (0..2).map(|_| Connection::new(connect())).collect();
        let mut queues = ReadQueues::default();
        for _ in 0..2 {
            for (slot, entry) in (0..).zip(&mut entries) {
                queues.enqueue(entry, conn(slot), ReadQueue::OverBudget);
            }
        }
        assert_eq!(queues.len(ReadQueue::OverBudget), 2, "each once");
        queues.begin(ReadQueue::OverBudget);
        assert_eq!(queues.pop(ReadQueue::OverBudget), Some(conn(0)));
        entries[0].flags = Flags::default();
        queues.requeue(&mut entries[0], conn(0));
        assert_eq!(queues.pop(ReadQueue::OverBudget), Some(conn(1)));
        assert_eq!(queues.pop(ReadQueue::OverBudget), None);
        queues.begin(ReadQueue::OverBudget);
        assert_eq!(queues.pop(ReadQueue::OverBudget), Some(conn(0)));
        assert_eq!(queues.pop(ReadQueue::OverBudget), None);
        assert!(queues.is_empty());
    }
}
