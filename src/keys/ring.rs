//! Keys, the ids that may use them, and the networks that need none.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use super::{KEY_BYTES, hmac, sum};

/// A key shared with a host. `Debug` does not show it.
#[derive(Clone)]
pub struct Key([u8; KEY_BYTES]);

impl Key {
    /// Creates a key from its bytes.
    #[must_use]
    pub const fn new(bytes: [u8; KEY_BYTES]) -> Self {
        Self(bytes)
    }

    /// The bytes.
    #[must_use]
    pub const fn bytes(&self) -> &[u8; KEY_BYTES] {
        &self.0
    }

    /// The host's own key: HMAC-SHA256(key, `ADH40 host` ‖ 0 ‖ ID).
    #[must_use]
    pub fn derive(&self, id: &str) -> Self {
        Self(sum(hmac(&self.0, &[b"ADH40 host\0", id.as_bytes()])))
    }

    /// Compares two keys in constant time.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        let pairs = self.0.iter().zip(&other.0);
        pairs.fold(0, |differs, (one, other)| differs | (one ^ other)) == 0
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(…)")
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.is(other)
    }
}

impl Eq for Key {}

/// The server's keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ring {
    entries: HashMap<String, Entry>,
    /// Names of the keys whose `ids` list an id as it is, by that id.
    owners: HashMap<String, String>,
    /// Patterns of ids and the names of their keys.
    patterns: Vec<(String, String)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    key: Key,
    /// Patterns of the ids that may use it; `None`: all ids.
    ids: Option<Vec<String>>,
    derive: bool,
}

/// Reason for a refused key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyFault {
    /// Another name has the same key.
    #[error("is the same key as {0}")]
    Same(String),
}

impl Ring {
    /// Adds a key under a new name, for the ids that one of the patterns matches (`None`: all), either as it is or as a base for each host's own key.
    ///
    /// # Errors
    /// When another name has the same key: the server could not tell which of them a host meant.
    pub fn insert(
        &mut self,
        name: String,
        key: Key,
        ids: Option<Vec<String>>,
        derive: bool,
    ) -> Result<(), KeyFault> {
        if let Some((other, _)) = self.entries.iter().find(|(_, e)| e.key.is(&key)) {
            return Err(KeyFault::Same(other.clone()));
        }
        for pattern in ids.iter().flatten() {
            match pattern.bytes().any(|b| b == b'*') {
                false => drop(self.owners.insert(pattern.clone(), name.clone())),
                // A pattern of stars alone names every id, as no `ids` at all does: it reserves none.
                true if pattern.bytes().all(|b| b == b'*') => {}
                true => self.patterns.push((pattern.clone(), name.clone())),
            }
        }
        self.entries.insert(name, Entry { key, ids, derive });
        Ok(())
    }

    /// Name of a key whose `ids` name `id`. A pattern of stars alone names no id in particular.
    #[must_use]
    pub fn owner(&self, id: &str) -> Option<&str> {
        let listed = self.owners.get(id);
        let matching = || {
            self.patterns
                .iter()
                .find(|(pattern, _)| matches(pattern, id))
        };
        listed
            .or_else(|| matching().map(|(_, name)| name))
            .map(String::as_str)
    }

    /// The host's own keys under every name that derives keys.
    #[must_use]
    pub fn derived(&self, id: &str) -> Vec<(String, Key)> {
        let entries = self.entries.iter();
        let entries = entries.filter(|(_, entry)| entry.derive && entry.is_for(id));
        entries
            .map(|(name, entry)| (name.clone(), entry.key.derive(id)))
            .collect()
    }

    /// Number of keys.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Returns whether the ring is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Names of the keys that `new` lacks or changes, and the number of keys that it adds.
    #[must_use]
    pub fn changes(&self, new: &Self) -> (Vec<&str>, usize) {
        let same = |name: &String, entry: &Entry| new.entries.get(name) == Some(entry);
        let old: HashSet<&String> = self.entries.keys().collect();
        let changed = self.entries.iter().filter(|(n, e)| !same(n, e));
        let mut changed: Vec<&str> = changed.map(|(name, _)| name.as_str()).collect();
        changed.sort_unstable();
        let more = new.entries.keys().filter(|name| !old.contains(name));
        (changed, more.count())
    }

    /// Returns the key of the host `id` under this name, and whether it is valid. A missing or
    /// wrong key costs as much time as a valid one: `dummy` takes its place.
    #[must_use]
    pub fn find(&self, name: &str, id: &str, dummy: &Key) -> (Key, bool) {
        let found = self.entries.get(name).filter(|entry| entry.is_for(id));
        let key = found.map_or(dummy, |entry| &entry.key);
        let derived = key.derive(id);
        match found {
            Some(entry) if !entry.derive => (key.clone(), true),
            found => (derived, found.is_some()),
        }
    }
}

impl Entry {
    fn is_for(&self, id: &str) -> bool {
        let ids = self.ids.as_ref();
        ids.is_none_or(|ids| ids.iter().any(|pattern| matches(pattern, id)))
    }
}

/// Returns whether a text is a pattern of ids: 1 to 64 of an id's alphabet and `*`.
#[must_use]
pub fn is_pattern(text: &str) -> bool {
    let allowed =
        |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b':' | b'-' | b'*');
    (1..=crate::limits::HOST_ID_BYTES_MAX).contains(&text.len()) && text.bytes().all(allowed)
}

/// Returns whether `id` matches `pattern`, in which `*` stands for any characters, or none.
fn matches(pattern: &str, id: &str) -> bool {
    let Some((head, rest)) = pattern.split_once('*') else {
        return pattern == id;
    };
    let Some(mut id) = id.strip_prefix(head) else {
        return false;
    };
    let mut pieces = rest.split('*');
    let tail = pieces.next_back().unwrap_or_default();
    for piece in pieces {
        // The first match leaves most characters for the pieces behind it.
        let Some(at) = id.find(piece) else {
            return false;
        };
        id = &id[at + piece.len()..];
    }
    id.ends_with(tail)
}

/// A network: an address, and the number of its significant bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    /// The address; IPv4 is mapped into IPv6.
    bits: u128,
    length: u32,
    is_v4: bool,
}

impl Network {
    /// Returns whether `address` belongs to the network. An IPv4-mapped IPv6 address counts as
    /// IPv4.
    #[must_use]
    pub fn has(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        address.is_ipv4() == self.is_v4 && mask(bits(address), self.length) == self.bits
    }
}

/// `10.0.0.0/8`, `fd00::/8`, or an address alone.
impl FromStr for Network {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (address, length) = match text.split_once('/') {
            Some((address, length)) => (address, Some(length)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| ())?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let length = match length {
            None => most,
            Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => {
                digits.parse().map_err(|_| ())?
            }
            Some(_) => return Err(()),
        };
        if length > most {
            return Err(());
        }
        let length = length + 128 - most;
        let bits = bits(address);
        let is_v4 = address.is_ipv4();
        if mask(bits, length) != bits {
            // Bits beyond the prefix length make the network ambiguous.
            return Err(());
        }
        Ok(Self {
            bits,
            length,
            is_v4,
        })
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let address = IpAddr::V6(Ipv6Addr::from_bits(self.bits));
        match self.is_v4 {
            true => write!(f, "{}/{}", address.to_canonical(), self.length - 96),
            false => write!(f, "{address}/{}", self.length),
        }
    }
}

fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().to_bits(),
        IpAddr::V6(address) => address.to_bits(),
    }
}

fn mask(bits: u128, length: u32) -> u128 {
    match length {
        0 => 0,
        length => bits & u128::MAX << (128 - length),
    }
}

/// Admission rules.
#[derive(Clone, Debug, Default)]
pub enum Access {
    /// All hosts are admitted without a key.
    #[default]
    Open,
    /// Hosts need a key, except plain hosts from these networks.
    Keys {
        /// The keys.
        ring: Ring,
        /// Networks whose hosts need no key.
        plain_from: Vec<Network>,
    },
}

impl Access {
    /// Returns whether a host at this address needs no key.
    #[must_use]
    pub fn may_be_plain(&self, address: IpAddr) -> bool {
        match self {
            Self::Open => true,
            Self::Keys { plain_from, .. } => plain_from.iter().any(|n| n.has(address)),
        }
    }

    /// Returns whether every host is admitted without a key.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        matches!(self, Self::Open)
    }

    /// Name of a key whose `ids` name `id`; see [`Ring::owner`].
    #[must_use]
    pub fn owner(&self, id: &str) -> Option<&str> {
        match self {
            Self::Open => None,
            Self::Keys { ring, .. } => ring.owner(id),
        }
    }

    /// Returns the key of the host `id` under this name, and whether it is valid; see
    /// [`Ring::find`].
    #[must_use]
    pub fn find(&self, name: &str, id: &str, dummy: &Key) -> (Key, bool) {
        match self {
            Self::Open => (dummy.derive(id), false),
            Self::Keys { ring, .. } => ring.find(name, id, dummy),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DUMMY: Key = Key::new([0; 32]);

    fn ring() -> Ring {
        let mut ring = Ring::default();
        let web = Some(vec!["web-*".to_owned(), "db".to_owned()]);
        ring.insert("a".into(), Key::new([1; 32]), None, false)
            .unwrap();
        ring.insert("b".into(), Key::new([2; 32]), web, false)
            .unwrap();
        ring.insert("c".into(), Key::new([3; 32]), None, true)
            .unwrap();
        ring
    }

    #[test]
    fn a_key_serves_the_ids_it_is_for() {
        let ring = ring();
        for (name, id, good) in [
            ("a", "anyone", true),
            ("b", "web-1", true),
            ("b", "db", true),
            ("b", "db2", false),
            ("b", "mail", false),
            ("c", "mail", true),
            ("d", "web-1", false),
        ] {
            assert_eq!(ring.find(name, id, &DUMMY).1, good, "{name} {id}");
        }
        let (one, other) = (ring.find("c", "x", &DUMMY).0, ring.find("c", "y", &DUMMY).0);
        assert!(!one.is(&other), "each host has its own");
        assert!(one.is(&Key::new([3; 32]).derive("x")));
    }

    #[test]
    fn an_id_belongs_to_the_key_that_names_it() {
        let mut ring = ring();
        let stars = Some(vec!["**".to_owned()]);
        ring.insert("s".into(), Key::new([4; 32]), stars, false)
            .unwrap();
        for (id, owner) in [
            ("web-1", Some("b")),
            ("db", Some("b")),
            ("db2", None),
            ("mail", None),
        ] {
            assert_eq!(ring.owner(id), owner, "{id}");
        }
    }

    #[test]
    fn the_same_key_under_two_names_is_refused() {
        let mut ring = ring();
        let again = ring.insert("d".into(), Key::new([2; 32]), None, false);
        assert_eq!(again, Err(KeyFault::Same("b".into())));
    }

    #[test]
    fn what_changed_is_told() {
        let (before, mut after) = (ring(), Ring::default());
        after
            .insert("a".into(), Key::new([1; 32]), None, false)
            .unwrap();
        after
            .insert("b".into(), Key::new([9; 32]), None, false)
            .unwrap();
        after
            .insert("z".into(), Key::new([8; 32]), None, false)
            .unwrap();
        assert_eq!(before.changes(&after), (vec!["b", "c"], 1));
        assert_eq!(before.changes(&before.clone()), (vec![], 0));
    }

    #[test]
    fn a_star_stands_for_any_characters() {
        for (pattern, id, good) in [
            ("*", "", true),
            ("*", "x", true),
            ("a*c", "abc", true),
            ("a*c", "ac", true),
            ("a*c", "acd", false),
            ("a*b*c", "aXbYc", true),
            ("a*b*c", "acb", false),
            ("a*a", "a", false),
            ("*.example", "a.example", true),
            ("web", "web-1", false),
        ] {
            assert_eq!(matches(pattern, id), good, "{pattern} {id}");
        }
    }

    #[test]
    fn a_network_is_an_address_and_a_length() {
        let network = |text: &str| text.parse::<Network>();
        let ten = network("10.0.0.0/8").unwrap();
        for (address, inside) in [
            ("10.255.0.1", true),
            ("::ffff:10.0.0.1", true),
            ("11.0.0.1", false),
            ("a00::1", false),
        ] {
            assert_eq!(ten.has(address.parse().unwrap()), inside, "{address}");
        }
        assert!(
            network("0.0.0.0/0")
                .unwrap()
                .has("1.2.3.4".parse().unwrap())
        );
        assert!(!network("::/0").unwrap().has("1.2.3.4".parse().unwrap()));
        assert!(network("fd00::/8").unwrap().has("fd12::1".parse().unwrap()));
        for text in ["10.0.0.0/8", "127.0.0.3/32", "fd00::/8", "::/0"] {
            assert_eq!(network(text).unwrap().to_string(), text);
        }
        for wrong in [
            "",
            "10.0.0.0/33",
            "10.0.0.1/8",
            "10.0.0.0/",
            "10.0.0.0/+8",
            "x",
            "::/129",
        ] {
            assert!(network(wrong).is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn a_pattern_matches_what_it_is_made_of(pieces in proptest::collection::vec("[a-c]{0,3}", 1..5), fill in "[a-c]{0,3}") {
            prop_assert!(matches(&pieces.join("*"), &pieces.join(&fill)));
        }
    }
}
