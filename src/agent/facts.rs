//! Facts about this machine: its name, its hardware address, its IPv4 addresses.

use std::fs;
use std::net::IpAddr;

use if_addrs::Interface;

use super::core::Facts;

/// Reads the facts. `local` is the local address of the connection: its interface gives the
/// hardware address. Unknown facts are left out.
#[must_use]
pub fn look(local: Option<IpAddr>) -> Facts {
    let name = rustix::system::uname();
    let hostname = name
        .nodename()
        .to_str()
        .ok()
        .filter(|name| !name.is_empty());
    let interfaces = if_addrs::get_if_addrs().unwrap_or_default();
    let mac = |interface: &&Interface| mac_of(&interface.name);
    let own = interfaces
        .iter()
        .find(|interface| Some(interface.ip()) == local);
    Facts {
        hostname: hostname.map(str::to_owned),
        mac: own
            .as_ref()
            .and_then(mac)
            .or_else(|| interfaces.iter().find_map(|interface| mac(&interface))),
        ipv4: ipv4(interfaces.iter().map(Interface::ip)),
    }
}

/// Sorted IPv4 addresses without duplicates. Loopback addresses only if there are no others.
fn ipv4(addresses: impl Iterator<Item = IpAddr>) -> Vec<String> {
    let mut own: Vec<_> = addresses
        .filter_map(|address| match address {
            IpAddr::V4(address) => Some(address),
            IpAddr::V6(_) => None,
        })
        .collect();
    if own.iter().any(|address| !address.is_loopback()) {
        own.retain(|address| !address.is_loopback());
    }
    own.sort_unstable();
    own.dedup();
    own.iter().map(ToString::to_string).collect()
}

/// Hardware address of an interface; `None` for zeros, as the loopback has.
fn mac_of(interface: &str) -> Option<String> {
    // An alias, `eth0:1`, has the address of its interface.
    let name = interface.split(':').next()?;
    let address = fs::read_to_string(format!("/sys/class/net/{name}/address")).ok()?;
    let address = address.trim();
    let is_one = address.bytes().any(|byte| !matches!(byte, b'0' | b':'));
    is_one.then(|| address.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_the_last_resort() {
        let list = |texts: &[&str]| ipv4(texts.iter().map(|text| text.parse().unwrap()));
        assert_eq!(list(&["127.0.0.1", "::1"]), ["127.0.0.1"]);
        assert_eq!(
            list(&["127.0.0.1", "10.0.0.9", "fe80::1", "10.0.0.10", "10.0.0.9"]),
            ["10.0.0.9", "10.0.0.10"]
        );
    }

    #[test]
    fn this_host_has_a_name_and_an_address() {
        let facts = look(None);
        assert!(facts.hostname.is_some_and(|name| !name.is_empty()));
        assert!(!facts.ipv4.is_empty());
        assert_eq!(mac_of("no-such-interface"), None);
        assert_eq!(mac_of("lo"), None);
    }
}
