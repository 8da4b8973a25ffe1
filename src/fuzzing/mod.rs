//! Bodies of the fuzz targets that need more than the [`codec`](crate::codec).
//!
//! They are library functions, so that ordinary tests run them over their corpus as well as a fuzzer
//! does over what it makes up. A broken rule is a panic.

mod config;
mod http;
mod proxy;
mod session;
mod spool;
mod target;

pub use self::config::config;
pub use self::http::http;
pub use self::proxy::proxy;
pub use self::session::session;
pub use self::spool::spool;
pub use self::target::target;

use crate::codec::fuzzing;

/// A fuzz target: its name, which is that of its corpus, and its body.
pub type Target = (&'static str, fn(&[u8]));

/// Every fuzz target.
pub const TARGETS: &[Target] = &[
    ("frame", fuzzing::frames),
    ("body", fuzzing::body),
    ("slash", fuzzing::slash),
    ("datagram", fuzzing::datagram),
    ("from_server", fuzzing::from_server),
    ("session", session),
    ("http", http),
    ("config", config),
    ("spool", spool),
    ("ak", fuzzing::ak),
    ("target", target),
    ("proxy", proxy),
];

/// Data taken apart piece by piece, as instructions for a target that does several things.
struct Script<'a>(&'a [u8]);

impl<'a> Script<'a> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    /// The next bytes: as many as two bytes in front of them say, or as there are.
    fn bytes(&mut self) -> &'a [u8] {
        let length = u16::from_le_bytes([
            self.byte().unwrap_or_default(),
            self.byte().unwrap_or_default(),
        ]);
        let (bytes, rest) = self.0.split_at(self.0.len().min(usize::from(length)));
        self.0 = rest;
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::TARGETS;
    use std::fs;
    use std::path::Path;

    #[test]
    fn what_the_fuzzer_kept_still_holds() {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
        for (name, body) in TARGETS {
            let dir = corpus.join(name);
            let entries = fs::read_dir(&dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
            let mut count = 0;
            for entry in entries {
                let path = entry.expect("a directory is listed").path();
                let data = fs::read(&path).expect("a corpus can be read");
                // A panic is to name what led to it.
                let held = std::panic::catch_unwind(|| body(&data));
                assert!(held.is_ok(), "{name}: {}", path.display());
                count += 1;
            }
            assert!(count > 0, "{} is empty", dir.display());
        }
    }
}
