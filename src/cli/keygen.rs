//! `anthill keygen`: a new key, or the key derived for a host.

use std::path::Path;

use crate::config::{read_key_file, read_keys};
use crate::ids::HostId;
use crate::keys::{Hex, KEY_BYTES, Key};

use super::args::KeygenArgs;
use super::{Failure, print};

/// Prints `KEY_ID HEX`: the content of an agent's key file, and both parts of an entry in the keys
/// file.
///
/// # Errors
/// A wrong id or key file, status 2; a system without random numbers, status 1.
pub fn run(args: &KeygenArgs) -> Result<(), Failure> {
    let (name, key) = match (&args.host, &args.key_file) {
        (Some(host), Some(file)) => derived(host, file)?,
        _ => fresh()?,
    };
    print(&format!("{name} {}\n", Hex(key.bytes())))
}

fn fresh() -> Result<(String, Key), Failure> {
    let (mut name, mut key) = ([0; 4], [0; KEY_BYTES]);
    for bytes in [&mut name[..], &mut key[..]] {
        getrandom::fill(bytes).map_err(|error| {
            Failure::failed(format!("the system gives no random numbers: {error}"))
        })?;
    }
    Ok((format!("key-{}", Hex(&name)), Key::new(key)))
}

/// Derives the key of `host` from `file`: a key file, or a keys file with exactly one deriving key.
fn derived(host: &str, file: &Path) -> Result<(String, Key), Failure> {
    let id = HostId::checked(host)
        .map_err(|error| Failure::usage(format!("--for is '{host}': {error}")))?;
    let wrong =
        |why: String| Failure::usage(format!("--key-file is '{}': it {why}", file.display()));
    match read_key_file(file) {
        Ok((name, key)) => Ok((name, key.derive(id.as_str()))),
        Err(why) => {
            let Ok(ring) = read_keys(file) else {
                return Err(wrong(why));
            };
            let mut keys = ring.derived(id.as_str());
            match (keys.pop(), keys.len()) {
                (Some(key), 0) => Ok(key),
                (_, others) => Err(wrong(format!(
                    "has {} keys to derive one for '{host}' from, and must have one",
                    if others == 0 { 0 } else { others + 1 }
                ))),
            }
        }
    }
}
