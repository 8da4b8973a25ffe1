//! Order of hosts in lists: addresses by number, then names with digits compared as numbers,
//! `web-2` before `web-10`.

use std::net::IpAddr;

/// Position of a host in the list: addresses first, by number, then names.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
pub enum Rank {
    /// An address.
    Address(IpAddr),
    /// A name: its parts, then the whole name to order names with equal parts.
    Name(Vec<Part>, String),
}

/// A piece of a name. Digits compare as the number they are: fewer digits first, leading zeros
/// left out.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// Number of digits, and the digits.
    Number(usize, String),
    /// Anything between numbers.
    Text(String),
}

impl Rank {
    /// Rank of a host.
    pub fn of(id: &str) -> Self {
        match id.parse() {
            Ok(address) => Self::Address(address),
            Err(_) => Self::Name(parts(id), id.to_owned()),
        }
    }
}

fn parts(mut name: &str) -> Vec<Part> {
    let mut parts = Vec::new();
    while let Some(first) = name.chars().next() {
        let digits = first.is_ascii_digit();
        let end = name
            .find(|c: char| c.is_ascii_digit() != digits)
            .unwrap_or(name.len());
        let (part, rest) = name.split_at(end);
        parts.push(if digits {
            let number = part.trim_start_matches('0');
            Part::Number(number.len(), number.to_owned())
        } else {
            Part::Text(part.to_owned())
        });
        name = rest;
    }
    parts
}
