//! Index from an address to the hosts with an id behind it. Plain hosts need no entry: their
//! address is their name.

use std::collections::HashMap;
use std::net::IpAddr;

/// Slots of online hosts, by their address and UDP port (0 for a host without one). An address may
/// have thousands of hosts, so the hosts of one port are found without examining the others.
#[derive(Debug, Default)]
pub struct Addresses {
    /// In order of ports.
    slots: HashMap<IpAddr, Vec<(u16, u32)>>,
}

impl Addresses {
    /// Enters the host in `slot` at `ip` with this port only.
    pub fn insert(&mut self, ip: IpAddr, port: u16, slot: u32) {
        let slots = self.slots.entry(ip).or_default();
        if slots.binary_search(&(port, slot)).is_ok() {
            return;
        }
        slots.retain(|held| held.1 != slot);
        let place = slots.partition_point(|held| *held < (port, slot));
        slots.insert(place, (port, slot));
    }

    /// Removes the host in `slot` from `ip`.
    pub fn remove(&mut self, ip: IpAddr, slot: u32) {
        let Some(slots) = self.slots.get_mut(&ip) else {
            return;
        };
        slots.retain(|held| held.1 != slot);
        if slots.is_empty() {
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

    /// All hosts at `ip`.
    pub fn behind(&self, ip: IpAddr) -> impl ExactSizeIterator<Item = u32> {
        self.all(ip).iter().map(|held| held.1)
    }

    /// The hosts at `ip` with this port.
    pub fn at(&self, ip: IpAddr, port: u16) -> impl Iterator<Item = u32> {
        let all = self.all(ip);
        let first = all.partition_point(|held| held.0 < port);
        let here = all[first..].iter().take_while(move |held| held.0 == port);
        here.map(|held| held.1)
    }

    fn all(&self, ip: IpAddr) -> &[(u16, u32)] {
        self.slots.get(&ip).map_or(&[], Vec::as_slice)
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
        assert!(addresses.behind(ip).len() == 0 && addresses.slots.is_empty());
    }
}
