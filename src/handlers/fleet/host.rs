//! The row of a host. It is small, since there may be a million hosts that only send heartbeats.
//!
//! The address of a plain IPv4 host is its id, so four bytes hold both. Other data (an id of its
//! own, an IPv6 address, reported data) are behind one pointer.
//!
//! ```text
//!   Host, 56 bytes ──▶ Extra, 56 bytes: id, connection ──▶ More: other address ──▶ Rest: inventory
//!      every host         hosts that name themselves         IPv6, or Rest         hosts that report
//! ```

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use compact_str::CompactString;

use crate::ids::{ConnId, HostId, TaskKey};
use crate::store::op::{Origin, Reason};
use crate::time::{Instant, UnixMs};

/// One host.
#[derive(Debug)]
pub struct Host {
    /// Time of the last change.
    pub since: UnixMs,
    /// Time of the last message, as of the last flush.
    pub seen: UnixMs,
    /// Time at which it went offline, if it did so since the start and is not back; while it is
    /// online, time of its last datagram. Zero: never.
    moved: Instant,
    /// Epoch of its claim in the lower bits, and above it [`NEEDS_CLAIM`] and [`UNREPORTED`].
    claim: u64,
    extra: Option<Box<Extra>>,
    /// The name of a plain IPv4 host; the IPv4 address of another host with [`Marks::LOCATED`].
    address: Ipv4Addr,
    /// Generation of the slot.
    pub(crate) generation: u32,
    /// Its connections.
    pub sessions: u32,
    /// The port of its peer, if that is known.
    port: u16,
    /// Its presence.
    pub presence: Presence,
    marks: Marks,
}

#[cfg(target_pointer_width = "64")]
const _: () = assert!(size_of::<Option<Host>>() <= 56, "there may be a million");

/// The host has connected since the last claim of this node.
const NEEDS_CLAIM: u64 = 1 << 63;
/// Its offline event is reported after the store has confirmed that its claim was this node's.
const UNREPORTED: u64 = 1 << 62;
/// Mask of the epoch, below the flags.
const EPOCH: u64 = UNREPORTED - 1;

/// Properties of a host: bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Marks(u8);

impl Marks {
    /// The event stream, as far as it is written, has the host online.
    pub const TOLD_ONLINE: Self = Self(1);
    /// An `Online` or `Offline` operation of the host is with the store.
    pub const IN_FLIGHT: Self = Self(1 << 1);
    /// A dropped store connection may still execute an `Online` of the host. An offline host is
    /// therefore written offline, until the second sweep after the reconnection.
    pub const IN_DOUBT: Self = Self(1 << 2);
    /// It wants dispatches over its connection.
    pub const PUSH: Self = Self(1 << 3);
    /// The row has the address of its peer.
    const LOCATED: Self = Self(1 << 4);
    /// It was sent a task and has not answered yet.
    pub const ASKED: Self = Self(1 << 5);
    /// The host has proved a key, in this run of the server or an earlier one.
    pub const KEYED: Self = Self(1 << 6);
    /// The host has stayed online for at least one timeout.
    pub const LASTING: Self = Self(1 << 7);
}

/// Presence of a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// A connection is open.
    Online,
    /// Online before a restart, and not judged yet.
    Inherited,
    /// Offline, with the reason if it is known.
    Offline(Option<Reason>),
}

impl Presence {
    /// Returns whether it is shown as online.
    #[must_use]
    pub const fn is_online(self) -> bool {
        matches!(self, Self::Online | Self::Inherited)
    }
}

/// An address and a port, packed: an IPv4 address is held mapped into IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    ip: [u8; 16],
    port: u16,
}

impl Peer {
    /// An unknown address.
    pub const UNKNOWN: Self = Self {
        ip: [0; 16],
        port: 0,
    };

    /// `address`, packed.
    #[must_use]
    pub fn new(address: SocketAddr) -> Self {
        let ip = match address.ip() {
            IpAddr::V4(ip) => ip.to_ipv6_mapped(),
            IpAddr::V6(ip) => ip,
        };
        Self {
            ip: ip.octets(),
            port: address.port(),
        }
    }

    /// The IP address, a mapped one as IPv4.
    #[must_use]
    pub fn ip(self) -> IpAddr {
        IpAddr::V6(Ipv6Addr::from(self.ip)).to_canonical()
    }

    /// Address and port.
    #[must_use]
    pub fn address(self) -> SocketAddr {
        SocketAddr::new(self.ip(), self.port)
    }
}

/// Data of hosts with an id, an IPv6 address, or reports.
#[derive(Debug, Default)]
struct Extra {
    /// Its name; none for a plain IPv4 host.
    id: Option<HostId>,
    /// The connection of its hello, if it is still open.
    identified: Packed,
    /// Its UDP port, where it gave one.
    udp: u16,
    /// The hello on that connection asked for a reply.
    asks: bool,
    /// It takes orders to end a task.
    cancels: bool,
    /// Identifies the host's process.
    boot: Option<Box<CompactString>>,
    more: Option<Box<More>>,
}

#[cfg(target_pointer_width = "64")]
const _: () = assert!(size_of::<Extra>() <= 56, "glibc takes 64 bytes for 56");

/// An optional connection in eight bytes: a generation never has all bits set.
#[derive(Clone, Copy, Debug)]
struct Packed(ConnId);

impl Default for Packed {
    fn default() -> Self {
        Self::of(None)
    }
}

impl Packed {
    const NONE: ConnId = ConnId {
        slot: u32::MAX,
        generation: u32::MAX,
    };

    fn of(conn: Option<ConnId>) -> Self {
        Self(conn.unwrap_or(Self::NONE))
    }

    fn get(self) -> Option<ConnId> {
        (self.0 != Self::NONE).then_some(self.0)
    }
}

const _: () = assert!(ConnId::GENERATION_MAX < u32::MAX);

/// Data of hosts with an address that the row does not have, or with reports.
#[derive(Debug, Default)]
struct More {
    /// Address of the peer, current or last, unless the row has it.
    ip: [u8; 16],
    rest: Option<Box<Rest>>,
}

/// Data of hosts that have sent an inventory or an answer.
#[derive(Debug, Default)]
pub struct Rest {
    /// The last key that the host answered with "received".
    pub answered: Option<TaskKey>,
    /// Host name from its report.
    pub hostname: Option<String>,
    /// Its MAC address.
    pub mac: Option<String>,
    /// Its IPv4 addresses.
    pub addresses: Vec<String>,
    /// The values that are stored for it.
    pub values: Vec<String>,
    /// Connection of its inventory, while that is waiting to be stored or is stored.
    pub inventory_from: Option<ConnId>,
    /// The inventory is not written yet.
    pub inventory_behind: bool,
    /// Reports that wait for the inventory to be written.
    pub inventory_asks: Vec<Origin>,
}

/// Key of the index of names: four bytes, or a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Key<'a> {
    Address(Ipv4Addr),
    Text(&'a str),
}

impl<'a> Key<'a> {
    /// The key of `id`. Text that is an IPv4 address becomes the address; each address has one text
    /// only.
    pub(crate) fn of(id: &'a HostId) -> Self {
        let text = id.as_str();
        match text.parse() {
            Ok(address) => Self::Address(address),
            Err(_) => Self::Text(text),
        }
    }
}

impl Host {
    /// A host that is offline and not yet written.
    #[must_use]
    pub(crate) fn new(id: HostId, generation: u32) -> Self {
        let address = match Key::of(&id) {
            Key::Address(address) => Some(address),
            Key::Text(_) => None,
        };
        let named = || {
            let id = Some(id);
            Box::new(Extra {
                id,
                ..Extra::default()
            })
        };
        Self {
            extra: address.is_none().then(named),
            address: address.unwrap_or(Ipv4Addr::UNSPECIFIED),
            generation,
            sessions: 0,
            presence: Presence::Offline(None),
            marks: Marks::default(),
            port: 0,
            since: UnixMs(0),
            seen: UnixMs(0),
            moved: Instant::ZERO,
            claim: 0,
        }
    }

    /// Its name.
    #[must_use]
    pub fn id(&self) -> HostId {
        let id = self.extra.as_deref().and_then(|extra| extra.id.clone());
        id.unwrap_or_else(|| HostId::of_address(self.address.into()))
    }

    pub(crate) fn key(&self) -> Key<'_> {
        let id = self.extra.as_deref().and_then(|extra| extra.id.as_ref());
        id.map_or(Key::Address(self.address), |id| Key::Text(id.as_str()))
    }

    /// Returns whether `ip` is its name.
    #[must_use]
    pub fn is_named_by(&self, ip: IpAddr) -> bool {
        match self.key() {
            Key::Address(own) => ip.to_canonical() == own,
            Key::Text(text) => HostId::of_address(ip).as_str() == text,
        }
    }

    /// Peer address, current or last.
    #[must_use]
    pub fn peer(&self) -> Peer {
        if self.has(Marks::LOCATED) {
            return Peer::new(SocketAddr::new(self.address.into(), self.port));
        }
        let ip = self.more().map_or(Peer::UNKNOWN.ip, |more| more.ip);
        let port = self.port;
        Peer { ip, port }
    }

    /// Sets the address from which it connects.
    pub fn set_peer(&mut self, peer: Peer) {
        let v4 = match peer.ip() {
            IpAddr::V4(ip) => Some(ip),
            IpAddr::V6(_) => None,
        };
        let in_row = v4.filter(|ip| match self.key() {
            Key::Address(own) => own == *ip,
            Key::Text(_) => true,
        });
        self.set(Marks::LOCATED, in_row.is_some());
        self.port = peer.port;
        let ip = match in_row {
            Some(ip) => {
                self.address = ip;
                Peer::UNKNOWN.ip
            }
            None => peer.ip,
        };
        if ip != Peer::UNKNOWN.ip || self.more().is_some() {
            self.more_mut().ip = ip;
        }
    }

    /// Time at which it went offline, if it did so since the start and is not back.
    #[must_use]
    pub fn gone(&self) -> Option<Instant> {
        (!self.presence.is_online() && self.moved > Instant::ZERO).then_some(self.moved)
    }

    /// Sets its presence; `gone` is the time at which it went offline.
    pub fn set_presence(&mut self, presence: Presence, gone: Option<Instant>) {
        if !(self.presence.is_online() && presence.is_online()) {
            self.moved = gone.unwrap_or(Instant::ZERO);
        }
        self.presence = presence;
    }

    /// Time of the last datagram while it has been online.
    #[must_use]
    pub fn datagram(&self) -> Instant {
        match self.presence.is_online() {
            true => self.moved,
            false => Instant::ZERO,
        }
    }

    /// Records a datagram. One for an offline host is ignored.
    pub fn set_datagram(&mut self, at: Instant) {
        if self.presence.is_online() {
            self.moved = at;
        }
    }

    /// The connection of its hello, if it is still open.
    #[must_use]
    pub fn identified(&self) -> Option<ConnId> {
        self.extra.as_deref()?.identified.get()
    }

    /// Sets the connection of its hello, or none. Returns the previous one.
    pub fn set_identified(&mut self, conn: Option<ConnId>) -> Option<ConnId> {
        if conn.is_none() && self.extra.is_none() {
            return None;
        }
        let identified = &mut self.extra_mut().identified;
        std::mem::replace(identified, Packed::of(conn)).get()
    }

    /// Returns whether its last hello asked for a reply.
    #[must_use]
    pub fn asks(&self) -> bool {
        self.extra.as_deref().is_some_and(|extra| extra.asks)
    }

    /// Sets whether its hello asked for a reply.
    pub fn set_asks(&mut self, asks: bool) {
        if asks != self.asks() {
            self.extra_mut().asks = asks;
        }
    }

    /// Its UDP port, where it gave one; else 0.
    #[must_use]
    pub fn udp(&self) -> u16 {
        self.extra.as_deref().map_or(0, |extra| extra.udp)
    }

    /// Sets its UDP port; 0 is none.
    pub fn set_udp(&mut self, port: u16) {
        if port != self.udp() {
            self.extra_mut().udp = port;
        }
    }

    /// Epoch of this node's last claim; 0 if there is none, or its epoch is not known.
    #[must_use]
    pub const fn epoch(&self) -> u64 {
        self.claim & EPOCH
    }

    /// Sets the epoch that the store has returned.
    pub const fn set_epoch(&mut self, epoch: u64) {
        self.claim = (self.claim & !EPOCH) | (epoch & EPOCH);
    }

    /// Returns whether it has connected since this node claimed it last.
    #[must_use]
    pub const fn needs_claim(&self) -> bool {
        self.claim & NEEDS_CLAIM != 0
    }

    /// Sets whether it has connected since the last claim.
    pub const fn set_needs_claim(&mut self, to: bool) {
        self.claim = (self.claim & !NEEDS_CLAIM) | if to { NEEDS_CLAIM } else { 0 };
    }

    /// Returns whether its going offline is still to be reported.
    #[must_use]
    pub const fn is_unreported(&self) -> bool {
        self.claim & UNREPORTED != 0
    }

    /// Sets whether its offline event is still to be reported.
    pub const fn set_unreported(&mut self, to: bool) {
        self.claim = (self.claim & !UNREPORTED) | if to { UNREPORTED } else { 0 };
    }

    /// Returns whether the mark is set.
    #[must_use]
    pub const fn has(&self, mark: Marks) -> bool {
        self.marks.0 & mark.0 != 0
    }

    /// Sets the mark.
    pub const fn set(&mut self, mark: Marks, to: bool) {
        match to {
            true => self.marks.0 |= mark.0,
            false => self.marks.0 &= !mark.0,
        }
    }

    /// Clears the mark. Returns whether it was set.
    pub const fn take(&mut self, mark: Marks) -> bool {
        let was = self.has(mark);
        self.set(mark, false);
        was
    }

    /// Returns whether it takes orders to end a task.
    #[must_use]
    pub fn cancels(&self) -> bool {
        self.extra.as_deref().is_some_and(|extra| extra.cancels)
    }

    /// It takes orders to end a task, or does not.
    pub fn set_cancels(&mut self, cancels: bool) {
        if cancels != self.cancels() {
            self.extra_mut().cancels = cancels;
        }
    }

    /// Identifier of its process.
    #[must_use]
    pub fn boot(&self) -> Option<&str> {
        Some(self.extra.as_deref()?.boot.as_ref()?.as_str())
    }

    /// Sets the identifier of its process.
    pub fn set_boot(&mut self, boot: &str) {
        self.extra_mut().boot = Some(Box::new(boot.into()));
    }

    /// Its reported data, if there are any.
    #[must_use]
    pub fn rest(&self) -> Option<&Rest> {
        self.more()?.rest.as_deref()
    }

    /// Its reported data, if there are any.
    pub fn rest_mut(&mut self) -> Option<&mut Rest> {
        self.extra
            .as_deref_mut()?
            .more
            .as_mut()?
            .rest
            .as_deref_mut()
    }

    /// Its reported data, created if necessary.
    pub fn rest_or_new(&mut self) -> &mut Rest {
        self.more_mut().rest.get_or_insert_default()
    }

    fn more(&self) -> Option<&More> {
        self.extra.as_deref()?.more.as_deref()
    }

    fn more_mut(&mut self) -> &mut More {
        self.extra_mut().more.get_or_insert_default()
    }

    fn extra_mut(&mut self) -> &mut Extra {
        self.extra.get_or_insert_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(id: &str) -> Host {
        Host::new(HostId::checked(id).unwrap(), 1)
    }

    fn peer(text: &str) -> Peer {
        Peer::new(text.parse().unwrap())
    }

    #[test]
    fn packed_peers_unpack_unchanged() {
        for text in ["10.0.0.7:51234", "[fe80::1]:7"] {
            let address: SocketAddr = text.parse().unwrap();
            assert_eq!(Peer::new(address).address(), address);
        }
        assert_eq!(peer("[::ffff:10.0.0.7]:1").ip().to_string(), "10.0.0.7");
    }

    #[test]
    fn a_plain_ipv4_host_needs_only_its_row() {
        let mut host = host("10.0.0.7");
        assert_eq!(host.peer(), Peer::UNKNOWN);
        host.set_peer(peer("10.0.0.7:0"));
        assert_eq!(host.peer(), peer("10.0.0.7:0"));
        assert_eq!(host.id().as_str(), "10.0.0.7");
        assert!(host.set_identified(None).is_none() && host.extra.is_none());
    }

    #[test]
    fn the_last_peer_of_every_kind_of_host_is_kept() {
        for id in ["10.0.0.7", "web-1", "fe80::1", "10.0.0.07", "1.2.3"] {
            let mut host = host(id);
            assert_eq!(host.id().as_str(), id);
            for text in ["10.0.0.7:1", "[fe80::1]:2", "10.0.0.8:3", "10.0.0.7:4"] {
                host.set_peer(peer(text));
                assert_eq!(host.peer(), peer(text), "{id}");
            }
            host.set_peer(Peer::UNKNOWN);
            assert_eq!((host.peer(), host.id().as_str()), (Peer::UNKNOWN, id));
        }
    }

    #[test]
    fn datagram_and_offline_times_share_a_field() {
        let (early, late) = (Instant::from_nanos(5), Instant::from_nanos(9));
        let mut host = host("a");
        host.set_datagram(early);
        assert_eq!((host.gone(), host.datagram()), (None, Instant::ZERO));
        host.set_presence(Presence::Inherited, None);
        host.set_datagram(late);
        host.set_presence(Presence::Online, None);
        assert_eq!((host.gone(), host.datagram()), (None, late));
        host.set_presence(Presence::Offline(None), Some(early));
        assert_eq!((host.gone(), host.datagram()), (Some(early), Instant::ZERO));
    }
}
