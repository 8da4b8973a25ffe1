//! What is to be done.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use serde::Serialize;

/// The kinds of load.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Heartbeats evenly spread over time.
    Steady,
    /// Heartbeats as fast as they are taken.
    Flood,
    /// Connections that come and go.
    Churn,
    /// Everybody at once, again and again.
    Storm,
    /// A task to everybody, worked through.
    Dispatch,
}

impl Mode {
    /// Whether everybody is connected before the load is on; else connections are the load.
    #[must_use]
    pub const fn connects_first(self) -> bool {
        matches!(self, Self::Steady | Self::Flood | Self::Dispatch)
    }

    /// Its name, as it is typed.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Steady => "steady",
            Self::Flood => "flood",
            Self::Churn => "churn",
            Self::Storm => "storm",
            Self::Dispatch => "dispatch",
        }
    }
}

/// A run, as it was asked for.
#[derive(Clone)]
pub struct Plan {
    /// The kind of load.
    pub mode: Mode,
    /// Where the server listens for hosts.
    pub server: SocketAddr,
    /// Hosts, each with a connection of its own.
    pub hosts: usize,
    /// Heartbeats a second, of all hosts together. Zero: they connect and then only stay.
    pub rate: f64,
    /// Whether all hosts beat at the same moment, once a period, instead of spread over it.
    pub together: bool,
    /// Whether the server is stopped while they do, so that it finds them all at once.
    pub hold: bool,
    /// For how long, in seconds, once all are connected.
    pub seconds: f64,
    /// For how long they say nothing before that, and after it, in seconds.
    pub idle: f64,
    /// Connections begun a second.
    pub connect_rate: f64,
    /// Connections under way at once, at most.
    pub connecting: usize,
    /// Whether heartbeats ask for a reply.
    pub replies: bool,
    /// Heartbeats under way on one connection in a flood, where they ask for replies.
    pub pipeline: usize,
    /// Whether hosts give themselves an id; if not they are known by their addresses.
    pub identified: bool,
    /// The port at which tasks come by datagram, 0 for any; none: they come over the connections.
    pub datagrams: Option<u16>,
    /// How many of them a task does not name: they only beat.
    pub apart: usize,
    /// How many of them go at once, in the middle of a steady load.
    pub leave: usize,
    /// The addresses they connect from; none: whichever the system takes.
    pub sources: Option<Sources>,
    /// These as they were given, to be told.
    pub source: Option<String>,
    /// The CPU this program stays on, to be told.
    pub cpu: Option<usize>,
    /// The key of the task, in the mode of that name.
    pub key: String,
    /// Its commands.
    pub commands: Vec<String>,
    /// Posts it.
    pub post: Option<super::dispatch::Post>,
    /// How often to run it against the server and the floor, turn about; 0: against the server, once.
    pub pairs: u32,
    /// Whether there is a processor to spare for being punctual.
    pub spins: bool,
    /// Where chance begins.
    pub seed: u64,
}

/// Addresses to connect from: a network, counted from its first address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sources {
    first: Ipv4Addr,
    count: u32,
}

impl Sources {
    /// The usable addresses of an IPv4 network, or one address: `127.0.0.0/8`, `10.0.0.5`.
    ///
    /// # Errors
    /// What it may be.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = || "it may be an IPv4 address or network, such as 127.0.0.0/8".to_owned();
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, bits.parse::<u32>().map_err(|_| wrong())?),
            None => (text, 32),
        };
        let address: Ipv4Addr = address.parse().map_err(|_| wrong())?;
        let size = match bits {
            32 => 1,
            8..32 => 1_u32 << (32 - bits),
            _ => return Err(wrong()),
        };
        let network = address.to_bits() & !(size - 1);
        Ok(match size {
            1 | 2 => Self {
                first: Ipv4Addr::from_bits(network),
                count: size,
            },
            // Without the network's own address and the broadcast address.
            _ => Self {
                first: Ipv4Addr::from_bits(network + 1),
                count: size - 2,
            },
        })
    }

    /// The loopback addresses.
    #[must_use]
    pub const fn loopback() -> Self {
        Self {
            first: Ipv4Addr::LOCALHOST,
            count: (1 << 24) - 2,
        }
    }

    /// How many there are.
    #[must_use]
    pub const fn count(self) -> u32 {
        self.count
    }

    /// At most so many of them.
    #[must_use]
    pub fn take(self, count: u32) -> Self {
        Self {
            first: self.first,
            count: self.count.min(count).max(1),
        }
    }

    /// Which of them an address is, if it is one.
    #[must_use]
    pub fn number(self, address: Ipv4Addr) -> Option<usize> {
        let offset = address.to_bits().checked_sub(self.first.to_bits())?;
        (offset < self.count).then_some(offset as usize)
    }

    /// The address number `number`, counted round.
    #[must_use]
    pub fn at(self, number: u64) -> IpAddr {
        let offset = u32::try_from(number % u64::from(self.count)).unwrap_or_default();
        Ipv4Addr::from_bits(self.first.to_bits() + offset).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_is_counted_round_without_its_ends() {
        let net = Sources::parse("127.0.0.0/8").unwrap();
        assert_eq!(net, Sources::loopback());
        assert_eq!(net.at(0).to_string(), "127.0.0.1");
        assert_eq!(net.at(255).to_string(), "127.0.1.0");
        let small = Sources::parse("10.0.0.7/30").unwrap();
        assert_eq!(small.count(), 2);
        assert_eq!(small.at(0).to_string(), "10.0.0.5");
        assert_eq!(small.at(3).to_string(), "10.0.0.6");
        assert_eq!(
            Sources::parse("10.0.0.7").unwrap().at(9).to_string(),
            "10.0.0.7"
        );
        assert_eq!(net.take(2).at(2).to_string(), "127.0.0.1");
        for (address, number) in [
            ("10.0.0.5", Some(0)),
            ("10.0.0.6", Some(1)),
            ("10.0.0.7", None),
        ] {
            assert_eq!(small.number(address.parse().unwrap()), number);
        }
        assert_eq!(
            small.number(Ipv4Addr::LOCALHOST),
            net.number(Ipv4Addr::UNSPECIFIED)
        );
    }

    #[test]
    fn what_is_no_network_is_refused() {
        for text in ["", "::1", "10.0.0.0/33", "10.0.0.0/0", "10.0.0.0/x", "web"] {
            assert!(Sources::parse(text).is_err(), "{text}");
        }
    }
}
