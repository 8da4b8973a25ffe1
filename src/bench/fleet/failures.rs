//! Failed connection attempts: their kinds for the tally, and their reasons for the messages.

use std::io::{self, ErrorKind};

use crate::bench::tally::Tally;

/// A failed connection attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Reason as text.
    pub why: String,
    /// The peer had accepted the connection: it is a server that refuses, or another service.
    pub reached: bool,
}

/// Failed connection attempts of a fleet.
#[derive(Debug, Default)]
pub struct Failures {
    /// Failed attempts since the last success.
    pub in_a_row: u64,
    /// First failed attempt.
    pub first: Option<Failure>,
    /// Last failed attempt.
    pub last: Option<Failure>,
}

impl Failures {
    /// Records a failed attempt; `reached`: the peer had accepted it.
    pub(super) fn record(&mut self, tally: &mut Tally, error: &io::Error, reached: bool) {
        tally.failed += 1;
        self.in_a_row += 1;
        let kind = match error.kind() {
            ErrorKind::ConnectionRefused => "connect_refused",
            ErrorKind::ConnectionReset => "connect_reset",
            ErrorKind::TimedOut => "connect_timeout",
            ErrorKind::AddrNotAvailable | ErrorKind::AddrInUse => "connect_no_free_port",
            ErrorKind::UnexpectedEof => "connect_closed",
            _ => "connect_other",
        };
        tally.error(kind);
        let why = match error.kind() {
            ErrorKind::UnexpectedEof => "it closes the connection".to_owned(),
            ErrorKind::TimedOut => "no answer in time".to_owned(),
            ErrorKind::InvalidData => "its answer is not a message for a host".to_owned(),
            _ => error.to_string(),
        };
        let failure = Failure {
            why,
            reached: reached && error.kind() != ErrorKind::TimedOut,
        };
        self.first.get_or_insert_with(|| failure.clone());
        self.last = Some(failure);
    }

    /// Records the reason for which the server refuses a host.
    pub(super) fn refused(&mut self, why: &str) {
        self.first.get_or_insert(Failure {
            why: format!("it refuses: {why}"),
            reached: true,
        });
    }
}
