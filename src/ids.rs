//! Names: [`HostId`], [`TaskKey`], [`ConnId`], [`HostRef`]. Modules exchange names only as one of
//! these types, never as a bare string or integer. A checked name therefore needs no second check,
//! and a stale one is recognized.

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use compact_str::{CompactString, ToCompactString};
use rustc_hash::FxBuildHasher;
use serde::{Deserialize, Serialize};

use crate::limits::{HOST_ID_BYTES_MAX, TASK_KEY_BYTES_MAX};

/// The network by which hosts are counted: an IPv4 address, or the first 64 bits of an IPv6
/// address, as a number.
#[must_use]
pub fn network_of(address: IpAddr) -> u128 {
    match address.to_canonical() {
        IpAddr::V4(ip) => ip.to_ipv6_mapped().to_bits(),
        IpAddr::V6(ip) => ip.to_bits() & !u128::from(u64::MAX),
    }
}

/// A map keyed by numbers that this program assigns. An attacker cannot make them collide, so the
/// hash is inexpensive.
pub type Numbered<K, V> = HashMap<K, V, FxBuildHasher>;

/// Prefix of the store's own keys.
pub const RESERVED_PREFIX: &str = "anthill:";
/// Key of the hosts online.
pub const EXISTS: &str = "exists";

/// Suffixes of a task's keys: `<task>_response`, `<task>_<host>_oncall` and so on.
pub const TASK_FIELDS: [&str; 4] = ["response", "working", "oncall", "complete"];
/// Suffixes of a host's keys that the server writes: `<host>_systemInfo` and so on.
const HOST_FIELDS: [&str; 2] = ["systemInfo", "systemInfoIPV4"];

/// The suffix with which the key `<host>_<field>` of one host could be a key of another host or of
/// a task. `fields` are all fields that are deleted when a host goes offline. For example, with
/// `net_info` and `info`, `a_net_info` would be a key of the hosts `a` and `a_net`.
#[must_use]
pub fn meets_another<'f>(field: &str, fields: &'f [String]) -> Option<&'f str> {
    let own = TASK_FIELDS.into_iter().chain(HOST_FIELDS);
    let mut all = own.chain(fields.iter().map(String::as_str));
    all.find(|other| {
        let before = field.strip_suffix(other);
        before.is_some_and(|before| before.ends_with('_'))
    })
}

/// Name of a host: its IP address as text, or the id that it gave.
///
/// Up to 24 bytes are stored in place: every IPv4 address and most ids need no allocation.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct HostId(CompactString);

/// Error of a [`HostId`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HostIdError {
    /// It is empty or longer than 64 bytes.
    #[error("an id has 1 to 64 characters")]
    Length,
    /// It has a character outside the alphabet.
    #[error("an id is made of A-Z a-z 0-9 . _ : - only")]
    Alphabet,
    /// It begins like the keys of the store itself.
    #[error("an id does not begin with anthill: (the store's own keys do)")]
    Reserved,
    /// It has the form of an IP address, but is not the peer's own in canonical text.
    #[error("an id that reads as an IP address must be the peer's own")]
    ForeignAddress,
}

impl HostId {
    /// The host that is known by its address only. An IPv4 address mapped into IPv6 is the IPv4
    /// host.
    #[must_use]
    pub fn of_address(address: IpAddr) -> Self {
        match address.to_canonical() {
            // Storms create names by the thousand: this takes a tenth of the time of formatting.
            IpAddr::V4(ip) => Self(dotted(ip)),
            ip => Self(ip.to_compact_string()),
        }
    }

    /// The id that a host at `peer` gave.
    ///
    /// # Errors
    /// When it is not 1 to 64 of `A-Z a-z 0-9 . _ : -`, or reads as an address that is not `peer`'s.
    pub fn given(id: &str, peer: IpAddr) -> Result<Self, HostIdError> {
        let host = Self::checked(id)?;
        let peer = peer.to_canonical();
        match id.parse::<IpAddr>() {
            Ok(_) if Self::of_address(peer) != host => Err(HostIdError::ForeignAddress),
            _ => Ok(host),
        }
    }

    /// Checks a name from the store or a request against the alphabet.
    ///
    /// # Errors
    /// When it is not 1 to 64 of the alphabet, or begins with `anthill:`: the keys `<host>_<field>`
    /// of such an id could be keys of the store itself, such as the claim `anthill:host:<other>`.
    pub fn checked(id: &str) -> Result<Self, HostIdError> {
        if id.is_empty() || id.len() > HOST_ID_BYTES_MAX {
            return Err(HostIdError::Length);
        }
        let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b':' | b'-');
        if !id.bytes().all(allowed) {
            return Err(HostIdError::Alphabet);
        }
        if id.starts_with(RESERVED_PREFIX) {
            return Err(HostIdError::Reserved);
        }
        Ok(Self(CompactString::new(id)))
    }

    /// The host that a request names: an address in any spelling, else an id.
    ///
    /// # Errors
    /// When it is neither an address nor 1 to 64 of the alphabet.
    pub fn named(text: &str) -> Result<Self, HostIdError> {
        match text.parse::<IpAddr>() {
            Ok(address) => Ok(Self::of_address(address)),
            Err(_) => Self::checked(text),
        }
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Each byte as text followed by a point, and its length.
const DOTTED: [([u8; 4], usize); 256] = {
    let mut all = [([b'.'; 4], 0); 256];
    let mut byte = 0;
    while byte < 256 {
        let (text, length) = &mut all[byte];
        let mut unit = 100;
        while unit > 0 {
            if byte >= unit || unit == 1 {
                text[*length] = b'0' + (byte / unit % 10) as u8;
                *length += 1;
            }
            unit /= 10;
        }
        *length += 1;
        byte += 1;
    }
    all
};

/// An IPv4 address as text.
fn dotted(ip: Ipv4Addr) -> CompactString {
    let (mut text, mut length) = ([0; 16], 0);
    for byte in ip.octets() {
        let (digits, own) = DOTTED[usize::from(byte)];
        text[length..length + 4].copy_from_slice(&digits);
        length += own;
    }
    // Always valid: the table has nothing else.
    CompactString::from_utf8(&text[..length - 1]).unwrap_or_default()
}

impl fmt::Display for HostId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for HostId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// The key of a task book: a prefix, then letters, digits, `.` and `-`, at most 64 in all. It has
/// no `_`, `:` or brace, so that no two names of the store's keys can collide. For the same reason
/// it is neither [`EXISTS`] nor has the form of a console command's id (32 lower-case hexadecimal
/// digits).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TaskKey(CompactString);

impl TaskKey {
    /// Parses `text` as a key under `prefix`.
    #[must_use]
    pub fn parse(text: &str, prefix: &str) -> Option<Self> {
        let rest = text.strip_prefix(prefix)?;
        let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-');
        let good =
            text.len() <= TASK_KEY_BYTES_MAX && !rest.is_empty() && rest.bytes().all(allowed);
        let good = good && text != EXISTS && !is_command_id(text);
        good.then(|| Self(CompactString::new(text)))
    }

    /// The key as a text to be sent.
    #[must_use]
    pub fn to_text(&self) -> CompactString {
        self.0.clone()
    }

    /// The key as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Returns whether `text` has the form of a console command's id.
fn is_command_id(text: &str) -> bool {
    let digit = |b: u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
    text.len() == 32 && text.bytes().all(digit)
}

impl fmt::Display for TaskKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for TaskKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// A connection: its slot, and the number of the connection in that slot. An event or an answer for
/// a closed connection finds another generation there, and is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnId {
    /// Index into the table of connections.
    pub slot: u32,
    /// Generation of the slot.
    pub generation: u32,
}

impl ConnId {
    /// The highest generation, followed by the first. Two bits are free for packing.
    pub const GENERATION_MAX: u32 = u32::MAX >> 2;
}

/// One entry of the table of hosts, likewise with the generation of its slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostRef {
    /// Index into the table of hosts.
    pub slot: u32,
    /// Generation of the slot.
    pub generation: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mapped_address_is_the_ipv4_host() {
        let mapped: IpAddr = "::ffff:10.0.0.7".parse().unwrap();
        assert_eq!(HostId::of_address(mapped).as_str(), "10.0.0.7");
    }

    #[test]
    fn an_ipv4_address_is_written_as_everywhere() {
        for bits in (0..=u32::MAX).step_by(65_521).chain([0, u32::MAX]) {
            let ip = Ipv4Addr::from_bits(bits);
            assert_eq!(HostId::of_address(ip.into()).as_str(), ip.to_string());
        }
    }

    #[test]
    fn an_address_as_id_must_be_the_peers_own() {
        let peer: IpAddr = "fe80::1".parse().unwrap();
        assert!(HostId::given("fe80::1", peer).is_ok());
        assert_eq!(
            HostId::given("fe80:0::1", peer),
            Err(HostIdError::ForeignAddress)
        );
        assert_eq!(
            HostId::given("10.0.0.8", peer),
            Err(HostIdError::ForeignAddress)
        );
        assert!(HostId::given("web-1.example:22", peer).is_ok());
    }

    #[test]
    fn ids_keep_to_their_alphabet_and_length() {
        let peer: IpAddr = "10.0.0.1".parse().unwrap();
        assert_eq!(HostId::given("", peer), Err(HostIdError::Length));
        assert_eq!(
            HostId::given(&"a".repeat(65), peer),
            Err(HostIdError::Length)
        );
        assert_eq!(HostId::given("a b", peer), Err(HostIdError::Alphabet));
        assert_eq!(HostId::given("ä", peer), Err(HostIdError::Alphabet));
        for bad in ["anthill:", "anthill:host:x", "anthill:node:n"] {
            assert_eq!(HostId::given(bad, peer), Err(HostIdError::Reserved));
        }
        for good in [
            "anthill",
            "anthill-1",
            "Anthill:x",
            "AC1_response",
            "exists",
        ] {
            assert!(HostId::given(good, peer).is_ok(), "{good}");
        }
    }

    #[test]
    fn task_keys_cannot_collide_with_store_names() {
        assert!(TaskKey::parse("AC132", "AC").is_some());
        assert!(TaskKey::parse("AC-1.b", "AC").is_some());
        for bad in [
            "AC", "ac132", "AC_1", "AC:1", "AC{1}", "AC 1", "echo AC1", "ACä",
        ] {
            assert!(TaskKey::parse(bad, "AC").is_none(), "{bad}");
        }
        assert!(TaskKey::parse("exists", "ex").is_none());
        assert!(TaskKey::parse(&"a1".repeat(16), "a1").is_none(), "a cid");
        assert!(TaskKey::parse(&"A1".repeat(16), "A1").is_some());
        assert!(TaskKey::parse(&format!("AC{}", "1".repeat(62)), "AC").is_some());
        assert!(TaskKey::parse(&format!("AC{}", "1".repeat(63)), "AC").is_none());
    }
}
