//! Header of the PROXY protocol, version 2: the address of a peer behind a load balancer.
//!
//! ```text
//!  signature (12)  0x2 | command   family | transport   length (2)   addresses and TLVs (length)
//! ```
//!
//! Numbers are big-endian. `LOCAL` is a connection of the balancer's own, such as a health check.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::limits::PROXY_HEADER_BYTES_MAX;

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// Beginning of the header of version 1, a line of text.
const TEXT: &[u8] = b"PROXY ";
/// Bytes before the addresses.
const FIXED_BYTES: usize = 16;
const TCP_OVER_IPV4: u8 = 0x11;
const TCP_OVER_IPV6: u8 = 0x21;

/// Peer of a connection, according to its header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyPeer {
    /// A client of the balancer, with this address.
    Client(SocketAddr),
    /// The balancer itself.
    Balancer,
}

impl ProxyPeer {
    /// The peer's address, of a header that came from `balancer`. A loopback address is one of the
    /// balancer's machine, which is known here only if that machine is this one.
    ///
    /// # Errors
    /// When a host here cannot have the address.
    pub fn address(self, balancer: SocketAddr) -> Result<SocketAddr, ProxyError> {
        let is_local = |address: SocketAddr| address.ip().to_canonical().is_loopback();
        match self {
            Self::Balancer => Ok(balancer),
            Self::Client(client) if is_local(client) && !is_local(balancer) => {
                Err(ProxyError::Address(client.ip()))
            }
            Self::Client(client) => Ok(client),
        }
    }
}

/// Progress of reading a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyStep {
    /// More is needed: at least this number of bytes in all.
    Need(usize),
    /// The header is complete.
    Whole(ProxyPeer),
}

/// Error of a refused header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProxyError {
    #[error("it begins with other bytes than a PROXY header of version 2")]
    Signature,
    #[error("its PROXY header has version 1, and must have version 2 (haproxy: send-proxy-v2)")]
    Text,
    #[error("its PROXY header has version {0}, and must have version 2")]
    Version(u8),
    #[error("its PROXY header has the unknown command {0}")]
    Command(u8),
    #[error(
        "its PROXY header has family and transport {0:#04x}, and must have TCP over IPv4 or IPv6"
    )]
    Family(u8),
    #[error("its PROXY header has {0} bytes, too few for its addresses")]
    Short(usize),
    #[error("its PROXY header has {0} bytes, more than {PROXY_HEADER_BYTES_MAX}")]
    Long(usize),
    #[error("its PROXY header names {0}, which is no address of a host")]
    Address(IpAddr),
    #[error("it ended within its PROXY header")]
    Truncated,
    #[error("its PROXY header did not come in time")]
    Late,
    #[error("too many connections wait for their PROXY header")]
    NoRoom,
}

impl ProxyError {
    /// Labels of the kinds in metrics, in the order of [`kind`](Self::kind).
    pub const LABELS: [&'static str; 11] = [
        "signature",
        "text",
        "version",
        "command",
        "family",
        "short",
        "long",
        "address",
        "truncated",
        "late",
        "no_room",
    ];

    /// Index of its label.
    #[must_use]
    pub const fn kind(self) -> usize {
        match self {
            Self::Signature => 0,
            Self::Text => 1,
            Self::Version(_) => 2,
            Self::Command(_) => 3,
            Self::Family(_) => 4,
            Self::Short(_) => 5,
            Self::Long(_) => 6,
            Self::Address(_) => 7,
            Self::Truncated => 8,
            Self::Late => 9,
            Self::NoRoom => 10,
        }
    }
}

/// Reads a header from the first bytes of a connection. A caller that has no more than the bytes
/// needed so far never reads beyond the header.
///
/// # Errors
/// They are no header that gives the address of a host.
pub fn proxy_header(bytes: &[u8]) -> Result<ProxyStep, ProxyError> {
    let begun = bytes.len().min(SIGNATURE.len());
    if bytes[..begun] != SIGNATURE[..begun] {
        let is_text = bytes.len() >= TEXT.len() && bytes.starts_with(TEXT);
        let may_be_text = !bytes.is_empty() && TEXT.starts_with(bytes);
        return match (is_text, may_be_text) {
            (true, _) => Err(ProxyError::Text),
            (_, true) => Ok(ProxyStep::Need(FIXED_BYTES)),
            _ => Err(ProxyError::Signature),
        };
    }
    let Some((fixed, rest)) = bytes.split_first_chunk::<FIXED_BYTES>() else {
        return Ok(ProxyStep::Need(FIXED_BYTES));
    };
    let [.., command, family, high, low] = *fixed;
    let length = FIXED_BYTES + usize::from(u16::from_be_bytes([high, low]));
    if command >> 4 != 2 {
        return Err(ProxyError::Version(command >> 4));
    }
    if length > PROXY_HEADER_BYTES_MAX {
        return Err(ProxyError::Long(length));
    }
    let is_local = match command & 0xf {
        0 => true,
        1 => false,
        other => return Err(ProxyError::Command(other)),
    };
    let peer_bytes = match family {
        _ if is_local => 0,
        TCP_OVER_IPV4 => 12,
        TCP_OVER_IPV6 => 36,
        other => return Err(ProxyError::Family(other)),
    };
    if length < FIXED_BYTES + peer_bytes {
        return Err(ProxyError::Short(length));
    }
    if bytes.len() < length {
        return Ok(ProxyStep::Need(length));
    }
    let peer = match (is_local, family) {
        (true, _) => ProxyPeer::Balancer,
        (false, TCP_OVER_IPV4) => client(Ipv4Addr::from(part::<4>(rest, 0)).into(), rest, 8)?,
        (false, _) => client(Ipv6Addr::from(part::<16>(rest, 0)).into(), rest, 32)?,
    };
    Ok(ProxyStep::Whole(peer))
}

/// The source address, whose port is at `port_at`.
fn client(ip: IpAddr, rest: &[u8], port_at: usize) -> Result<ProxyPeer, ProxyError> {
    let ip = ip.to_canonical();
    // `0.0.0.0/8` is this network, and `240.0.0.0/4` is reserved.
    let is_of_none = matches!(ip, IpAddr::V4(ip) if matches!(ip.octets()[0], 0 | 240..));
    if ip.is_unspecified() || ip.is_multicast() || is_of_none {
        return Err(ProxyError::Address(ip));
    }
    let port = u16::from_be_bytes(part(rest, port_at));
    Ok(ProxyPeer::Client(SocketAddr::new(ip, port)))
}

/// Bytes of a complete header.
fn part<const N: usize>(rest: &[u8], at: usize) -> [u8; N] {
    let found = rest.get(at..).and_then(|rest| rest.first_chunk());
    found.copied().unwrap_or([0; N])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A header of these parts.
    fn header(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
        let mut bytes = SIGNATURE.to_vec();
        bytes.extend([command, family]);
        bytes.extend((body.len() as u16).to_be_bytes());
        bytes.extend(body);
        bytes
    }

    /// 10.1.2.3:4660 to 10.9.9.9:11451.
    const IPV4: [u8; 12] = [10, 1, 2, 3, 10, 9, 9, 9, 0x12, 0x34, 0x2c, 0xbb];

    fn ipv6(source: &str) -> Vec<u8> {
        let source: Ipv6Addr = source.parse().unwrap();
        let mut body = source.octets().to_vec();
        body.extend([0; 16]);
        body.extend([0x12, 0x34, 0, 1]);
        body
    }

    fn whole(address: &str) -> Result<ProxyStep, ProxyError> {
        let address = address.parse().unwrap();
        Ok(ProxyStep::Whole(ProxyPeer::Client(address)))
    }

    #[test]
    fn loopback_is_a_client_of_a_balancer_here_only() {
        let (here, elsewhere) = (
            "127.0.0.5:1".parse().unwrap(),
            "10.0.0.5:1".parse().unwrap(),
        );
        for client in [
            "127.0.0.1:7",
            "127.9.9.9:7",
            "[::1]:7",
            "[::ffff:127.0.0.1]:7",
        ] {
            let client: SocketAddr = client.parse().unwrap();
            let peer = ProxyPeer::Client(client);
            assert_eq!(peer.address(here), Ok(client));
            let refused = Err(ProxyError::Address(client.ip()));
            assert_eq!(peer.address(elsewhere), refused);
        }
        assert_eq!(ProxyPeer::Balancer.address(elsewhere), Ok(elsewhere));
        let client = ProxyPeer::Client(elsewhere);
        assert_eq!(client.address(here), Ok(elsewhere));
    }

    #[test]
    fn addresses_of_no_host_are_refused() {
        for ip in [
            "0.0.0.0",
            "0.1.2.3",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
        ] {
            let ip: Ipv4Addr = ip.parse().unwrap();
            let mut body = IPV4;
            body[..4].copy_from_slice(&ip.octets());
            let refused = Err(ProxyError::Address(ip.into()));
            assert_eq!(proxy_header(&header(0x21, 0x11, &body)), refused);
            let mapped = header(0x21, 0x21, &ipv6(&format!("::ffff:{ip}")));
            assert_eq!(proxy_header(&mapped), refused);
        }
    }

    #[test]
    fn header_gives_the_client_or_the_balancer() {
        let with_tlvs = [&IPV4[..], &[4, 0, 3, 1, 2, 3]].concat();
        let local = Ok(ProxyStep::Whole(ProxyPeer::Balancer));
        for (bytes, wanted) in [
            (header(0x21, 0x11, &IPV4), whole("10.1.2.3:4660")),
            (header(0x21, 0x11, &with_tlvs), whole("10.1.2.3:4660")),
            (
                header(0x21, 0x21, &ipv6("2001:db8::7")),
                whole("[2001:db8::7]:4660"),
            ),
            (
                header(0x21, 0x21, &ipv6("::ffff:10.1.2.3")),
                whole("10.1.2.3:4660"),
            ),
            (header(0x20, 0, &[]), local),
            (header(0x20, 0x11, &IPV4), local),
            (header(0x20, 0x31, &[1; 216]), local),
        ] {
            assert_eq!(proxy_header(&bytes), wanted, "{bytes:?}");
            // Whatever has arrived of it, never more than the header is asked for.
            for end in 0..bytes.len() {
                let Ok(ProxyStep::Need(need)) = proxy_header(&bytes[..end]) else {
                    panic!("{end} of {bytes:?}");
                };
                assert!(need > end && need <= bytes.len());
            }
        }
    }

    #[test]
    fn every_bad_header_is_refused() {
        let mut broken = header(0x21, 0x11, &IPV4);
        broken[11] ^= 1;
        let nowhere = ipv6("::");
        for (bytes, wanted) in [
            (broken, ProxyError::Signature),
            (b"\r\n\r\n\0\r\nX".to_vec(), ProxyError::Signature),
            (b"2\0\0\0{\"flag\"".to_vec(), ProxyError::Signature),
            (b"\x16\x03\x01\x02".to_vec(), ProxyError::Signature),
            (b"PRINT".to_vec(), ProxyError::Signature),
            (
                b"PROXY TCP4 10.1.2.3 10.9.9.9 1 2\r\n".to_vec(),
                ProxyError::Text,
            ),
            (b"PROXY UNKNOWN\r\n".to_vec(), ProxyError::Text),
            (header(0x11, 0x11, &IPV4), ProxyError::Version(1)),
            (header(0x31, 0x11, &IPV4), ProxyError::Version(3)),
            (header(0x22, 0x11, &IPV4), ProxyError::Command(2)),
            (header(0x21, 0, &[]), ProxyError::Family(0)),
            (header(0x21, 0x12, &IPV4), ProxyError::Family(0x12)),
            (header(0x21, 0x31, &[1; 216]), ProxyError::Family(0x31)),
            (header(0x21, 0x41, &IPV4), ProxyError::Family(0x41)),
            (header(0x21, 0x11, &IPV4[..11]), ProxyError::Short(27)),
            (header(0x21, 0x21, &IPV4), ProxyError::Short(28)),
            (header(0x21, 0x11, &[0; 60_000]), ProxyError::Long(60_016)),
            (header(0x20, 0, &[0; 60_000]), ProxyError::Long(60_016)),
            (
                header(0x21, 0x11, &[0; 12]),
                ProxyError::Address([0, 0, 0, 0].into()),
            ),
            (
                header(0x21, 0x11, &[255; 12]),
                ProxyError::Address([255; 4].into()),
            ),
            (
                header(0x21, 0x21, &nowhere),
                ProxyError::Address(Ipv6Addr::UNSPECIFIED.into()),
            ),
        ] {
            assert_eq!(proxy_header(&bytes), Err(wanted), "{bytes:?}");
            assert!(wanted.kind() < ProxyError::LABELS.len());
        }
    }
}
