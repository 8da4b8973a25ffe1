//! The plan of a run.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use serde::Serialize;

use super::fleet::FleetKey;
use super::report::Options;

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
    /// All hosts at once, in rounds.
    Storm,
    /// A task for every host, worked through.
    Dispatch,
}

impl Mode {
    /// Returns whether all hosts connect before the load begins; else connections are the load.
    #[must_use]
    pub const fn connects_first(self) -> bool {
        matches!(self, Self::Steady | Self::Flood | Self::Dispatch)
    }

    /// Its name on the command line.
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

/// A run, as requested.
#[derive(Clone)]
pub struct Plan {
    /// The kind of load.
    pub mode: Mode,
    /// Address of the server's port for hosts.
    pub server: SocketAddr,
    /// The run's options, as the report shows them.
    pub asked: Options,
    /// Port on which tasks arrive by datagram, 0 for a free one; `None`: they arrive over the
    /// connections.
    pub datagrams: Option<u16>,
    /// Source addresses; `None`: the system's choice.
    pub sources: Option<Sources>,
    /// Key from which each host has its own.
    pub fleet_key: Option<FleetKey>,
    /// TLS of the hosts.
    pub tls: Option<super::secure::TlsSettings>,
    /// Task key, in a dispatch.
    pub key: String,
    /// Commands of the task.
    pub commands: Vec<String>,
    /// Posts the task.
    pub post: Option<super::dispatch::Post>,
    /// Reads the metrics of the server.
    pub metrics: super::turns::ReadMetrics,
    /// Pairs of server and floor; 0: the server only, once.
    pub pairs: u32,
    /// Polls the clock instead of sleeping, for exact timing: a processor is free for it.
    pub spins: bool,
}

/// Source addresses: a network, counted from its first address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sources {
    first: Ipv4Addr,
    count: u32,
}

impl Sources {
    /// Parses the usable addresses of an IPv4 network, or one address: `127.0.0.0/8`, `10.0.0.5`.
    ///
    /// # Errors
    /// The allowed forms.
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

    /// Number of addresses.
    #[must_use]
    pub const fn count(self) -> u32 {
        self.count
    }

    /// Index of an address, if it belongs to the network.
    #[must_use]
    pub fn number(self, address: Ipv4Addr) -> Option<usize> {
        let offset = address.to_bits().checked_sub(self.first.to_bits())?;
        (offset < self.count).then_some(offset as usize)
    }

    /// Address number `number`, modulo the count.
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
    fn addresses_of_a_network_are_used_in_turn() {
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
    fn an_invalid_network_is_refused() {
        for text in ["", "::1", "10.0.0.0/33", "10.0.0.0/0", "10.0.0.0/x", "web"] {
            assert!(Sources::parse(text).is_err(), "{text}");
        }
    }
}
