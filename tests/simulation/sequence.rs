//! Old clients work strictly in sequence. What a server may therefore not send them, seen from outside; and how often
//! each of their commands ran.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use anthill::codec::message::{Message, Phase, ResultCode};
use anthill::limits::REST_S;
use anthill::time::{Instant, Span};

use crate::server::WORKING_TIMEOUT;

/// UDP port of old clients.
pub const PORT: u16 = 6_655;

/// State of old clients by their reports, each with an address of its own.
#[derive(Debug, Default)]
pub struct Sequences {
    clients: BTreeMap<String, Client>,
    /// Copies of a key that were sent to an address, by whichever server.
    sent: BTreeMap<(SocketAddr, String), u64>,
    /// Number of runs of a command on a host.
    pub ran: BTreeMap<(String, String), u64>,
}

#[derive(Debug, Default)]
struct Client {
    /// The task it runs, and its last message about it.
    runs: Option<(String, Instant)>,
    rests_until: Instant,
}

impl Sequences {
    /// A host has a connection more, or one less: reports may be lost, and nothing is certain any more.
    pub fn unsure(&mut self, host: &str) {
        self.clients.remove(host);
    }

    /// The server is gone, and what it knew with it.
    pub fn server_died(&mut self) {
        self.clients.clear();
    }

    /// A message of a plain host was taken.
    pub fn said(&mut self, host: &str, said: &Said, now: Instant) {
        let client = self.clients.entry(host.to_owned()).or_default();
        match said {
            Said::Runs(key) => client.runs = Some((key.clone(), now)),
            Said::Ends(key) => {
                client.runs.take_if(|(runs, _)| runs == key);
                client.rests_until = now + Span::from_secs(REST_S);
            }
            Said::HasNoBook(key) => {
                client.runs.take_if(|(runs, _)| runs == key);
            }
        }
    }

    /// A datagram is sent. Why it must not be, if so.
    pub fn sends(&mut self, to: SocketAddr, key: &str, now: Instant) -> Option<String> {
        if to.port() != PORT {
            return None;
        }
        let copies = self.sent.entry((to, key.to_owned())).or_default();
        *copies += 1;
        let client = self.clients.get(&to.ip().to_string())?;
        let runs = client.runs.as_ref();
        let runs = runs.filter(|(runs, at)| runs != key && *at + WORKING_TIMEOUT > now);
        let is_busy = runs.is_some() || client.rests_until > now;
        (is_busy && *copies > 1)
            .then(|| format!("{key} is sent to {to} for the {copies}th time: {client:?}"))
    }
}

/// Place of a report in the sequence.
#[derive(Clone, Debug)]
pub enum Said {
    Runs(String),
    Ends(String),
    HasNoBook(String),
}

impl Said {
    pub fn of(message: &Message<'_>) -> Option<Self> {
        match message {
            Message::Progress(progress) => {
                let key = progress.code.to_string();
                let is_left = !progress.oncall.is_empty() || progress.phase == Phase::Began;
                Some(match is_left {
                    true => Self::Runs(key),
                    false => Self::Ends(key),
                })
            }
            Message::Answer(answer) => {
                let key = answer.task.as_ref()?.to_string();
                match answer.code {
                    ResultCode::Received => Some(Self::Runs(key)),
                    ResultCode::NoBook => Some(Self::HasNoBook(key)),
                    _ => None,
                }
            }
            _ => None,
        }
    }
}
