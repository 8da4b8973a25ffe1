//! Number of connections of each network, if `limits.connections_per_ip` is set. Otherwise nothing
//! is stored.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};

use crate::ids::ConnId;

/// Bits of an IPv6 address that name the network of one customer.
const NETWORK_BITS: u32 = 64;

/// The unit that counts as one peer: an IPv4 address (also one mapped into IPv6), or the /64
/// network of an IPv6 address, since one machine can use all of its addresses.
#[must_use]
pub fn network(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(peer) => {
            let mask = u128::MAX << (128 - NETWORK_BITS);
            IpAddr::V6(Ipv6Addr::from_bits(peer.to_bits() & mask))
        }
        peer => peer,
    }
}

/// Counts connections by [`network`].
#[derive(Debug)]
pub struct PerIp {
    limit: usize,
    counts: HashMap<IpAddr, usize>,
    /// The network of each slot. The peer of a broken connection can no longer be asked of the kernel.
    by_slot: Vec<Option<IpAddr>>,
}

impl PerIp {
    /// Lets each network have `limit` connections; `None` counts nothing.
    #[must_use]
    pub fn new(limit: Option<usize>) -> Option<Self> {
        limit.map(|limit| Self {
            limit,
            counts: HashMap::new(),
            by_slot: Vec::new(),
        })
    }

    /// Returns whether `peer` may have one more connection.
    #[must_use]
    pub fn has_room(&self, peer: IpAddr) -> bool {
        self.counts.get(&network(peer)).copied().unwrap_or(0) < self.limit
    }

    /// `conn` is `peer`'s.
    pub fn add(&mut self, conn: ConnId, peer: IpAddr) {
        let (peer, slot) = (network(peer), conn.slot as usize);
        *self.counts.entry(peer).or_insert(0) += 1;
        if self.by_slot.len() <= slot {
            self.by_slot.resize(slot + 1, None);
        }
        self.by_slot[slot] = Some(peer);
    }

    /// `conn` is gone.
    pub fn remove(&mut self, conn: ConnId) {
        let owner = self.by_slot.get_mut(conn.slot as usize);
        let Some(peer) = owner.and_then(Option::take) else {
            return;
        };
        if let Some(count) = self.counts.get_mut(&peer) {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(&peer);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conn(slot: u32) -> ConnId {
        ConnId {
            slot,
            generation: 0,
        }
    }

    #[test]
    fn an_address_has_its_share_and_gets_it_back() {
        let mut per_ip = PerIp::new(Some(2)).unwrap();
        let peer: IpAddr = "10.0.0.7".parse().unwrap();
        let mapped: IpAddr = "::ffff:10.0.0.7".parse().unwrap();
        per_ip.add(conn(3), peer);
        assert!(per_ip.has_room(peer));
        per_ip.add(conn(0), mapped);
        assert!(!per_ip.has_room(peer) && !per_ip.has_room(mapped));
        assert!(per_ip.has_room("10.0.0.8".parse().unwrap()));
        per_ip.remove(conn(3));
        per_ip.remove(conn(3));
        assert!(per_ip.has_room(peer));
        per_ip.remove(conn(0));
        assert!(per_ip.counts.is_empty(), "nobody is remembered for ever");
    }

    #[test]
    fn a_64_is_one_network() {
        let mut per_ip = PerIp::new(Some(1)).unwrap();
        per_ip.add(conn(0), "2001:db8::1".parse().unwrap());
        assert!(!per_ip.has_room("2001:db8::2".parse().unwrap()));
        assert!(!per_ip.has_room("2001:db8:0:0:ffff::2".parse().unwrap()));
        assert!(per_ip.has_room("2001:db8:0:1::1".parse().unwrap()));
        per_ip.remove(conn(0));
        assert!(per_ip.has_room("2001:db8::2".parse().unwrap()));
    }

    #[test]
    fn no_bound_counts_nothing() {
        assert!(PerIp::new(None).is_none());
    }
}
