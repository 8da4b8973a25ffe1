//! Which hosts that named themselves are behind an address. Plain hosts need no entry: their address
//! is their name.

use std::collections::HashMap;
use std::net::IpAddr;

/// Slots of hosts online, by the address they connect from.
#[derive(Debug, Default)]
pub struct Addresses {
    slots: HashMap<IpAddr, Vec<u32>>,
}

impl Addresses {
    /// The host in `slot` is behind `ip`. Twice is once.
    pub fn insert(&mut self, ip: IpAddr, slot: u32) {
        let slots = self.slots.entry(ip).or_default();
        if !slots.contains(&slot) {
            slots.push(slot);
        }
    }

    /// It no longer is.
    pub fn remove(&mut self, ip: IpAddr, slot: u32) {
        let Some(slots) = self.slots.get_mut(&ip) else {
            return;
        };
        slots.retain(|held| *held != slot);
        if slots.is_empty() {
            self.slots.remove(&ip);
        }
    }

    /// All behind `ip`.
    #[must_use]
    pub fn behind(&self, ip: IpAddr) -> &[u32] {
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
        addresses.insert(ip, 3);
        addresses.insert(ip, 3);
        addresses.insert(ip, 4);
        assert_eq!(addresses.behind(ip), [3, 4]);
        addresses.remove(ip, 3);
        addresses.remove(ip, 4);
        assert!(addresses.behind(ip).is_empty() && addresses.slots.is_empty());
    }
}
