//! How many connections each address has, where `limits.connections_per_ip` sets a bound. Where it
//! does not, nothing is kept.

use std::collections::HashMap;
use std::net::IpAddr;

use crate::ids::ConnId;

/// Counts connections by address. An IPv4 address that comes mapped into IPv6 is the IPv4 one.
#[derive(Debug)]
pub struct PerIp {
    limit: usize,
    counts: HashMap<IpAddr, usize>,
    /// Whose each slot is. The peer of a broken connection can no longer be asked of the kernel.
    by_slot: Vec<Option<IpAddr>>,
}

impl PerIp {
    /// Lets each address have `limit` connections; `None` counts nothing.
    #[must_use]
    pub fn new(limit: Option<usize>) -> Option<Self> {
        limit.map(|limit| Self {
            limit,
            counts: HashMap::new(),
            by_slot: Vec::new(),
        })
    }

    /// Whether `peer` may have one more.
    #[must_use]
    pub fn has_room(&self, peer: IpAddr) -> bool {
        self.counts.get(&peer.to_canonical()).copied().unwrap_or(0) < self.limit
    }

    /// `conn` is `peer`'s.
    pub fn add(&mut self, conn: ConnId, peer: IpAddr) {
        let (peer, slot) = (peer.to_canonical(), conn.slot as usize);
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
    fn no_bound_counts_nothing() {
        assert!(PerIp::new(None).is_none());
    }
}
