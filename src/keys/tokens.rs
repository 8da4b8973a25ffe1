//! Tokens of the HTTP API: names, digests and roles. The tokens themselves are not kept.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::{KEY_BYTES, Key};
use crate::limits::HTTP_TOKENS_MAX;

/// Characters of a token's name.
const NAME_CHARS_MAX: usize = 64;

/// Requests that a token may make. Each role may do what the one before it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Requests that change nothing.
    Read,
    /// Also tasks and commands to hosts.
    Dispatch,
    /// All requests.
    Admin,
}

impl Role {
    /// All roles, in the order of their rights.
    pub const ALL: [Self; 3] = [Self::Read, Self::Dispatch, Self::Admin];

    /// The word of this role.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Dispatch => "dispatch",
            Self::Admin => "admin",
        }
    }

    /// The role of a word.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.as_str() == word)
    }
}

/// An accepted token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// Its name, which stands for it in events and in the log.
    pub name: Arc<str>,
    /// Its rights.
    pub role: Role,
    /// Text of the target to whose hosts it may send. None: all hosts.
    pub target: Option<Arc<str>>,
    /// SHA-256 of the token. `Debug` does not show it.
    digest: Key,
}

/// The accepted tokens.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Tokens {
    list: Vec<Token>,
}

/// Reason for a refused token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenFault {
    /// Another name has the same digest.
    #[error("is the same token as {0}")]
    Same(Arc<str>),
    /// Two tokens have one name.
    #[error("is given twice")]
    Twice,
    /// The name is invalid.
    #[error(
        "is no name of a token: it may be 1 to {NAME_CHARS_MAX} of A-Z a-z 0-9 . _ -, and no IP address"
    )]
    Name,
    /// There are too many.
    #[error("is one too many: there may be {HTTP_TOKENS_MAX}")]
    TooMany,
}

/// SHA-256 of a token.
#[must_use]
pub fn digest_of(token: &str) -> [u8; KEY_BYTES] {
    Sha256::digest(token.as_bytes()).into()
}

/// Returns whether a token may have this name. An IP address stands for a peer without a token.
#[must_use]
pub fn is_token_name(name: &str) -> bool {
    let allowed = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'_' | b'-');
    (1..=NAME_CHARS_MAX).contains(&name.len())
        && name.bytes().all(allowed)
        && name.parse::<IpAddr>().is_err()
}

impl Tokens {
    /// Adds a token by its digest.
    ///
    /// # Errors
    /// When the name is invalid, or the name or the digest is there already.
    pub fn insert(
        &mut self,
        name: &str,
        digest: [u8; KEY_BYTES],
        role: Role,
        target: Option<&str>,
    ) -> Result<(), TokenFault> {
        let digest = Key::new(digest);
        if !is_token_name(name) {
            return Err(TokenFault::Name);
        }
        if self.list.len() == HTTP_TOKENS_MAX {
            return Err(TokenFault::TooMany);
        }
        for token in &self.list {
            if &*token.name == name {
                return Err(TokenFault::Twice);
            }
            if token.digest.is(&digest) {
                return Err(TokenFault::Same(Arc::clone(&token.name)));
            }
        }
        self.list.push(Token {
            name: name.into(),
            role,
            target: target.map(Arc::from),
            digest,
        });
        Ok(())
    }

    /// Finds a token. The time depends on the length of `given` and on the number of tokens only:
    /// its digest is compared with all of them, each in constant time.
    #[must_use]
    pub fn find(&self, given: &str) -> Option<&Token> {
        let digest = Key::new(digest_of(given));
        let mut found = None;
        for token in &self.list {
            if token.digest.is(&digest) {
                found = Some(token);
            }
        }
        found
    }

    /// Returns whether `token` is among these, unchanged.
    #[must_use]
    pub fn has(&self, token: &Token) -> bool {
        self.list.contains(token)
    }

    /// Names, in the order of the file.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.list.iter().map(|token| &*token.name)
    }

    /// Returns whether there are no tokens.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Names that are gone or have changed in `new`, and those that are new or have changed.
    #[must_use]
    pub fn changes<'a>(&'a self, new: &'a Self) -> (Vec<&'a str>, Vec<&'a str>) {
        let names = |of: &'a Self, other: &Self| {
            let changed = of.list.iter().filter(|token| !other.has(token));
            changed.map(|token| &*token.name).collect()
        };
        (names(self, new), names(new, self))
    }
}

/// Shows names and roles, never a digest.
impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let entries = self.list.iter().map(|token| (&token.name, token.role));
        f.debug_map().entries(entries).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(list: &[(&str, &str, Role)]) -> Tokens {
        let mut tokens = Tokens::default();
        for (name, token, role) in list {
            tokens.insert(name, digest_of(token), *role, None).unwrap();
        }
        tokens
    }

    #[test]
    fn a_token_is_found_by_its_digest() {
        let tokens = tokens(&[("ops", "one", Role::Admin), ("board", "two", Role::Read)]);
        let found = |given| tokens.find(given).map(|token| (&*token.name, token.role));
        assert_eq!(found("one"), Some(("ops", Role::Admin)));
        assert_eq!(found("two"), Some(("board", Role::Read)));
        for wrong in ["", "o", "onee", "One", "ops"] {
            assert_eq!(found(wrong), None, "{wrong}");
        }
        assert_eq!(Tokens::default().find(""), None);
    }

    #[test]
    fn names_and_tokens_are_there_once() {
        let mut tokens = tokens(&[("ops", "one", Role::Admin)]);
        let same = tokens.insert("other", digest_of("one"), Role::Read, None);
        assert_eq!(same, Err(TokenFault::Same("ops".into())));
        let twice = tokens.insert("ops", digest_of("two"), Role::Read, None);
        assert_eq!(twice, Err(TokenFault::Twice));
        for name in ["", "a b", "10.0.0.1", "::1", "ä", &"x".repeat(65)] {
            let fault = tokens.insert(name, digest_of("two"), Role::Read, None);
            assert_eq!(fault, Err(TokenFault::Name), "{name}");
        }
    }

    #[test]
    fn each_role_has_the_rights_of_those_before_it() {
        assert!(Role::ALL.is_sorted());
        for role in Role::ALL {
            assert_eq!(Role::parse(role.as_str()), Some(role));
        }
        assert_eq!(Role::parse("root"), None);
    }

    #[test]
    fn a_changed_token_is_gone_and_new() {
        let old = tokens(&[
            ("a", "1", Role::Read),
            ("b", "2", Role::Read),
            ("c", "3", Role::Read),
        ]);
        let new = tokens(&[
            ("a", "1", Role::Read),
            ("b", "2", Role::Admin),
            ("d", "4", Role::Read),
        ]);
        assert_eq!(old.changes(&new), (vec!["b", "c"], vec!["b", "d"]));
        assert_eq!(old.changes(&old), (vec![], vec![]));
    }

    #[test]
    fn debug_shows_no_digest() {
        let shown = format!("{:?}", tokens(&[("ops", "one", Role::Admin)]));
        assert_eq!(shown, "{\"ops\": Admin}");
    }
}
