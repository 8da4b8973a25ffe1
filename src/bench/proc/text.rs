//! Parsers for the files of `/proc`, pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::time::Span;

/// State of a listening socket.
const LISTENING: &str = "0A";

/// Inode of the socket in a table of `/proc/net` that accepts connections to `server`.
#[must_use]
pub fn listener(table: &str, server: SocketAddr) -> Option<u64> {
    let mut wildcard = None;
    for line in table.lines().skip(1) {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let (Some(local), Some(&LISTENING), Some(inode)) =
            (words.get(1), words.get(3), words.get(9))
        else {
            continue;
        };
        let (Some((address, port)), Ok(inode)) = (local_address(local), inode.parse()) else {
            continue;
        };
        if port != server.port() {
            continue;
        }
        if address.to_canonical() == server.ip().to_canonical() {
            return Some(inode);
        }
        if address.is_unspecified() {
            wildcard = wildcard.or(Some(inode));
        }
    }
    wildcard
}

/// Parses an address as the kernel prints it: 32-bit words in memory order, and a port.
fn local_address(text: &str) -> Option<(IpAddr, u16)> {
    let (address, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let words: Option<Vec<[u8; 4]>> = address
        .as_bytes()
        .chunks(8)
        .map(|word| {
            let word = str::from_utf8(word).ok()?;
            Some(u32::from_str_radix(word, 16).ok()?.to_ne_bytes())
        })
        .collect();
    let bytes = words?.concat();
    let address = match <[u8; 4]>::try_from(bytes.as_slice()) {
        Ok(octets) => Ipv4Addr::from(octets).into(),
        Err(_) => Ipv6Addr::from(<[u8; 16]>::try_from(bytes.as_slice()).ok()?).into(),
    };
    Some((address, port))
}

/// CPU time of a thread, from its `schedstat`: exact, except for a thread that runs just now.
#[must_use]
pub fn run_time(schedstat: &str) -> Option<Span> {
    let nanos = schedstat.split_ascii_whitespace().next()?.parse().ok()?;
    Some(Span::from_nanos(nanos))
}

/// CPU time of a thread, from its `stat`: user and system time together, in kernel ticks.
#[must_use]
pub fn ticks(stat: &str) -> Option<u64> {
    // The name is in parentheses and may contain any character.
    let rest = stat.rsplit_once(')')?.1;
    let mut fields = rest.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

/// Resident memory in bytes, from a `smaps_rollup`.
#[must_use]
pub fn resident(rollup: &str) -> Option<u64> {
    let line = rollup.lines().find_map(|line| line.strip_prefix("Rss:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024)
}

/// Resident memory in pages, from a `statm`.
#[must_use]
pub fn resident_pages(statm: &str) -> Option<u64> {
    statm.split_ascii_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TCP: &str = "\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000:2CBB 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 100 1 0 100 0 0 10 0
   1: 0100007F:2CBB 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 200 1 0 100 0 0 10 0
   2: 0200007F:2CBC 0100007F:A000 01 00000000:00000000 00:00000000 00000000     0        0 300 1 0 100 0 0 10 0
";

    #[test]
    #[cfg(target_endian = "little")]
    fn an_exact_listener_is_preferred() {
        let find = |addr: &str| listener(TCP, addr.parse().unwrap());
        assert_eq!(find("127.0.0.1:11451"), Some(200));
        assert_eq!(find("127.0.0.9:11451"), Some(100));
        assert_eq!(find("127.0.0.2:11452"), None, "no listener");
        assert_eq!(listener("nonsense\nof: all kinds", find_any()), None);
    }

    fn find_any() -> SocketAddr {
        "127.0.0.1:1".parse().unwrap()
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn addresses_of_both_kinds_are_read() {
        let six = "0000000000000000FFFF00000100007F:0050";
        let (address, port) = local_address(six).unwrap();
        assert_eq!(address.to_canonical().to_string(), "127.0.0.1");
        assert_eq!(port, 80);
        let (address, _) = local_address("00000000000000000000000001000000:0050").unwrap();
        assert_eq!(address.to_string(), "::1");
    }

    #[test]
    fn proc_files_are_parsed() {
        assert_eq!(run_time("123 4 5\n"), Some(Span::from_nanos(123)));
        let stat = "7 (a) b) (c) S 1 2 3 4 5 6 7 8 9 10 70 30 0 0";
        assert_eq!(ticks(stat), Some(100));
        assert_eq!(
            resident("00-11 ---p 0 [rollup]\nRss:      1764 kB\n"),
            Some(1_806_336)
        );
        assert_eq!(resident_pages("9 5 1 0"), Some(5));
        for text in ["", "x", "1", "(x)", "Rss: many kB"] {
            assert_eq!(ticks(text), None, "{text}");
            assert_eq!(resident(text), None, "{text}");
            assert_eq!(resident_pages(text), None, "{text}");
        }
    }
}
