//! Slots of a Redis Cluster: the slot of a key, the key of a command, and the primaries of the
//! slots. Pure.

use redis::{ServerError, Value};

use super::errors::Fault;
use super::step::{int, list, text};

/// Number of slots of every Cluster.
pub(super) const SLOTS: usize = 16_384;

/// Remainders of CRC-16/XMODEM.
const CRC: [u16; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = (byte as u16) << 8;
        let mut bit = 0;
        while bit < 8 {
            crc = match crc & 0x8000 {
                0 => crc << 1,
                _ => (crc << 1) ^ 0x1021,
            };
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
};

fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc: u16, &byte| {
        (crc << 8) ^ CRC[usize::from((crc >> 8) as u8 ^ byte)]
    })
}

/// The slot of a key. If the key has a hash tag, `{…}` with content, only that counts.
pub(super) fn slot(key: &[u8]) -> usize {
    let tag = key.iter().position(|&byte| byte == b'{').and_then(|open| {
        let rest = &key[open + 1..];
        let length = rest.iter().position(|&byte| byte == b'}')?;
        (length > 0).then(|| &rest[..length])
    });
    usize::from(crc16(tag.unwrap_or(key))) % SLOTS
}

/// The first key of an encoded command, if it has one.
pub(super) fn key_of(packed: &[u8]) -> Option<&[u8]> {
    let mut words = Words(packed.get(position(packed, b'\n')? + 1..)?);
    let name = words.next()?;
    let is = |other: &str| name.eq_ignore_ascii_case(other.as_bytes());
    if is("EVALSHA") || is("EVAL") {
        // The script, and the number of keys.
        return words.nth(2);
    }
    if is("XREAD") || is("XREADGROUP") {
        words.find(|word| word.eq_ignore_ascii_case(b"STREAMS"))?;
    }
    words.next()
}

fn position(bytes: &[u8], wanted: u8) -> Option<usize> {
    bytes.iter().position(|&byte| byte == wanted)
}

/// The words of an encoded command.
struct Words<'a>(&'a [u8]);

impl<'a> Iterator for Words<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let end = position(self.0, b'\r')?;
        let length: usize = std::str::from_utf8(self.0.get(1..end)?)
            .ok()?
            .parse()
            .ok()?;
        let word = self.0.get(end + 2..end + 2 + length)?;
        self.0 = self.0.get(end + 2 + length + 2..).unwrap_or_default();
        Some(word)
    }
}

/// Answer of a server that does not serve the slot of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Redirect {
    /// The slot is being moved: only this command goes to the other server.
    pub(super) is_ask: bool,
    /// Host of the other server; empty if it is the same as that of the answering one.
    pub(super) host: String,
    pub(super) port: u16,
}

impl Redirect {
    /// The redirect in an error, if it is one.
    pub(super) fn of(error: &ServerError) -> Option<Self> {
        let is_ask = match error.code() {
            "MOVED" => false,
            "ASK" => true,
            _ => return None,
        };
        let (_, place) = error.details()?.split_once(' ')?;
        // An address of IPv6 has no brackets here.
        let (host, port) = place.trim().rsplit_once(':')?;
        let host = if host == "?" { "" } else { host };
        Some(Self {
            is_ask,
            host: host.to_owned(),
            port: port.parse().ok()?,
        })
    }
}

/// Slots of one primary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SlotRange {
    pub(super) first: usize,
    pub(super) last: usize,
    pub(super) host: String,
    pub(super) port: u16,
}

/// Reads the reply to `CLUSTER SLOTS`, which came from `asked`. Other servers' hosts may be left out
/// there, and are then that of `asked`.
///
/// # Errors
/// When it is no such reply, or some slot has no primary.
pub(super) fn topology(reply: Value, asked: &str) -> Result<Vec<SlotRange>, Fault> {
    let mut ranges = Vec::new();
    let mut served = 0;
    for entry in list(reply)? {
        let mut entry = list(entry)?.into_iter();
        let mut next = || entry.next().ok_or_else(incomplete);
        let (first, last) = (int(next()?)?, int(next()?)?);
        let mut primary = list(next()?)?.into_iter();
        let host = text(primary.next().ok_or_else(incomplete)?)?.unwrap_or_default();
        let port = int(primary.next().ok_or_else(incomplete)?)?;
        let (Ok(first), Ok(last), Ok(port)) = (
            usize::try_from(first),
            usize::try_from(last),
            u16::try_from(port),
        ) else {
            return Err(incomplete());
        };
        if last >= SLOTS || first > last {
            return Err(incomplete());
        }
        served += last + 1 - first;
        ranges.push(SlotRange {
            first,
            last,
            host: match &*host {
                "" | "?" => asked.to_owned(),
                _ => host,
            },
            port,
        });
    }
    if served == SLOTS {
        return Ok(ranges);
    }
    Err(Fault::Unavailable(format!(
        "the Cluster serves {served} of {SLOTS} slots"
    )))
}

fn incomplete() -> Fault {
    Fault::Unavailable("unexpected reply to CLUSTER SLOTS".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_those_of_redis() {
        // CRC-16/XMODEM's own check value, and slots that a real Cluster gave.
        assert_eq!(crc16(b"123456789"), 0x31c3);
        for (key, wanted) in [
            ("foo", 12_182),
            ("bar", 5_061),
            ("", 0),
            ("{user1000}.following", slot(b"user1000")),
            ("{user1000}.followers", slot(b"user1000")),
            ("foo{}{bar}", usize::from(crc16(b"foo{}{bar}")) % SLOTS),
            ("foo{{bar}}zap", slot(b"{bar")),
            ("foo{bar}{zap}", slot(b"bar")),
            ("foo{bar", usize::from(crc16(b"foo{bar")) % SLOTS),
        ] {
            assert_eq!(slot(key.as_bytes()), wanted, "{key}");
        }
    }

    #[test]
    fn the_key_of_a_command_is_found() {
        let packed = |command: redis::Cmd| command.get_packed_command();
        for (command, wanted) in [
            (cmd!("SADD", "exists", "a\r\n$3"), Some("exists")),
            (cmd!("EVALSHA", "abc", 1, "k", "x"), Some("k")),
            (cmd!("XREAD", "COUNT", 3, "STREAMS", "s", "0"), Some("s")),
            (cmd!("GET", ""), Some("")),
            (cmd!("PING"), None),
        ] {
            let packed = packed(command);
            assert_eq!(key_of(&packed), wanted.map(str::as_bytes));
        }
        for cut in 0..20 {
            let whole = packed(cmd!("SADD", "exists", "a"));
            let _ = key_of(&whole[..cut]);
        }
    }

    #[test]
    fn redirects_are_recognized() {
        let redirect =
            |line: &str| match redis::parse_redis_value(format!("-{line}\r\n").as_bytes()) {
                Ok(Value::ServerError(error)) => Redirect::of(&error),
                other => panic!("{other:?}"),
            };
        let wanted = |is_ask, host: &str, port| {
            Some(Redirect {
                is_ask,
                host: host.to_owned(),
                port,
            })
        };
        assert_eq!(
            redirect("MOVED 3999 10.0.0.1:6381"),
            wanted(false, "10.0.0.1", 6381)
        );
        assert_eq!(redirect("ASK 3999 ::1:6381"), wanted(true, "::1", 6381));
        assert_eq!(redirect("MOVED 3999 :6381"), wanted(false, "", 6381));
        assert_eq!(redirect("MOVED 3999 ?:6381"), wanted(false, "", 6381));
        for other in ["MOVED", "MOVED 1", "MOVED 1 a", "MOVED 1 a:b", "ERR 1 a:7"] {
            assert_eq!(redirect(other), None, "{other}");
        }
    }

    #[test]
    fn a_topology_covers_all_slots() {
        let server = |host: &str, port: i64| {
            Value::Array(vec![
                Value::BulkString(host.as_bytes().to_vec()),
                Value::Int(port),
                Value::BulkString(b"id".to_vec()),
            ])
        };
        let entry = |first, last, host: &str| {
            let ends = vec![Value::Int(first), Value::Int(last)];
            let servers = [server(host, 7_000), server("10.0.0.9", 7_009)];
            Value::Array(ends.into_iter().chain(servers).collect())
        };
        let both = Value::Array(vec![entry(0, 99, "10.0.0.1"), entry(100, 16_383, "")]);
        let ranges = topology(both, "10.0.0.7").unwrap();
        let shown: Vec<_> = ranges.iter().map(|r| (r.first, r.last, &*r.host)).collect();
        assert_eq!(shown, [(0, 99, "10.0.0.1"), (100, 16_383, "10.0.0.7")]);
        let error = topology(Value::Array(vec![entry(0, 99, "a")]), "b").unwrap_err();
        assert_eq!(
            error,
            Fault::Unavailable("the Cluster serves 100 of 16384 slots".to_owned())
        );
        for wrong in [
            Value::Int(1),
            Value::Array(vec![Value::Int(1)]),
            Value::Array(vec![Value::Array(vec![Value::Int(1)])]),
            Value::Array(vec![entry(5, 16_384, "a")]),
            Value::Array(vec![entry(-1, 7, "a")]),
        ] {
            assert!(topology(wrong.clone(), "b").is_err(), "{wrong:?}");
        }
    }
}
