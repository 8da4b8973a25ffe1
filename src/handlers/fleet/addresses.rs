//! Index from an address to the hosts with an id behind it. Plain hosts need no entry: their
//! address is their name.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;

/// Hosts of one address that are searched one by one. An address with more has an index.
const FEW_MAX: usize = 64;

/// Slots of online hosts, by their address and UDP port (0 for a host without one). All hosts of a
/// fleet may be behind one address, so entering and removing one does not examine the others.
#[derive(Debug, Default)]
pub struct Addresses {
    slots: HashMap<IpAddr, Hosts>,
}

/// The hosts of one address, in order of ports.
#[derive(Debug)]
enum Hosts {
    Few(Vec<(u16, u32)>),
    Many {
        slots: BTreeSet<(u16, u32)>,
        /// Port of each slot.
        ports: HashMap<u32, u16>,
    },
}

impl Hosts {
    fn insert(&mut self, port: u16, slot: u32) {
        self.remove(slot);
        if let Self::Few(few) = self {
            if few.len() < FEW_MAX {
                let place = few.partition_point(|held| *held < (port, slot));
                few.insert(place, (port, slot));
                return;
            }
            *self = Self::Many {
                slots: few.iter().copied().collect(),
                ports: few.iter().map(|(port, slot)| (*slot, *port)).collect(),
            };
        }
        if let Self::Many { slots, ports } = self {
            slots.insert((port, slot));
            ports.insert(slot, port);
        }
    }

    fn remove(&mut self, slot: u32) {
        match self {
            Self::Few(few) => few.retain(|held| held.1 != slot),
            Self::Many { slots, ports } => {
                if let Some(port) = ports.remove(&slot) {
                    slots.remove(&(port, slot));
                }
            }
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::Few(few) => few.len(),
            Self::Many { slots, .. } => slots.len(),
        }
    }

    /// The hosts with ports of `from` to `to`.
    fn between(&self, from: u16, to: u16) -> impl Iterator<Item = u32> {
        let (few, many) = match self {
            Self::Few(few) => {
                let first = few.partition_point(|held| held.0 < from);
                let end = few.partition_point(|held| held.0 <= to);
                (Some(few[first..end].iter()), None)
            }
            Self::Many { slots, .. } => {
                (None, Some(slots.range((from, u32::MIN)..=(to, u32::MAX))))
            }
        };
        let (few, many) = (few.into_iter().flatten(), many.into_iter().flatten());
        few.chain(many).map(|held| held.1)
    }
}

impl Addresses {
    /// Enters the host in `slot` at `ip` with this port only.
    pub fn insert(&mut self, ip: IpAddr, port: u16, slot: u32) {
        let hosts = self.slots.entry(ip);
        let hosts = hosts.or_insert_with(|| Hosts::Few(Vec::new()));
        hosts.insert(port, slot);
    }

    /// Removes the host in `slot` from `ip`.
    pub fn remove(&mut self, ip: IpAddr, slot: u32) {
        let Some(hosts) = self.slots.get_mut(&ip) else {
            return;
        };
        hosts.remove(slot);
        if hosts.len() == 0 {
            self.slots.remove(&ip);
        }
    }

    /// Returns whether the index is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Returns whether any host with an id is behind `ip`.
    #[must_use]
    pub fn has(&self, ip: IpAddr) -> bool {
        self.slots.contains_key(&ip)
    }

    /// Number of hosts at `ip`.
    #[must_use]
    pub fn count(&self, ip: IpAddr) -> usize {
        self.slots.get(&ip).map_or(0, Hosts::len)
    }

    /// All hosts at `ip`.
    pub fn behind(&self, ip: IpAddr) -> impl Iterator<Item = u32> {
        let hosts = self.slots.get(&ip).into_iter();
        hosts.flat_map(|hosts| hosts.between(u16::MIN, u16::MAX))
    }

    /// The hosts at `ip` with this port.
    pub fn at(&self, ip: IpAddr, port: u16) -> impl Iterator<Item = u32> {
        let hosts = self.slots.get(&ip).into_iter();
        hosts.flat_map(move |hosts| hosts.between(port, port))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_without_hosts_takes_no_memory() {
        let mut addresses = Addresses::default();
        let ip: IpAddr = "10.0.0.1".parse().unwrap();
        addresses.insert(ip, 7, 3);
        addresses.insert(ip, 7, 3);
        addresses.insert(ip, 5, 4);
        assert_eq!(addresses.behind(ip).collect::<Vec<_>>(), [4, 3]);
        addresses.insert(ip, 7, 4);
        assert_eq!(addresses.at(ip, 7).collect::<Vec<_>>(), [3, 4]);
        assert_eq!(addresses.at(ip, 5).count() + addresses.at(ip, 6).count(), 0);
        addresses.remove(ip, 3);
        addresses.remove(ip, 4);
        assert!(addresses.count(ip) == 0 && addresses.slots.is_empty());
    }

    #[test]
    fn an_address_of_many_hosts_is_indexed() {
        let mut addresses = Addresses::default();
        let ip: IpAddr = "10.0.0.1".parse().unwrap();
        let count = 2 * FEW_MAX as u32;
        for slot in 0..count {
            addresses.insert(ip, 7, slot);
        }
        assert!(matches!(addresses.slots[&ip], Hosts::Many { .. }));
        addresses.insert(ip, 5, 9);
        addresses.remove(ip, 8);
        assert_eq!(addresses.at(ip, 5).collect::<Vec<_>>(), [9]);
        assert_eq!(addresses.at(ip, 7).count(), addresses.count(ip) - 1);
        assert_eq!(addresses.behind(ip).count() as u32, count - 1);
        (0..count).for_each(|slot| addresses.remove(ip, slot));
        assert!(addresses.is_empty());
    }
}
