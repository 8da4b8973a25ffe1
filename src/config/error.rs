//! Configuration errors: always one line that names the key or the flag, its value and its range,
//! and never a password.

use std::fmt;
use std::path::Path;

use crate::escape::escape;

/// An error of the configuration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The file that is read where none is named cannot be.
    #[error("{file}: cannot be read: {why}")]
    Unreadable {
        /// Its path.
        file: String,
        /// The system's error.
        why: String,
    },
    /// The file is not JSON.
    #[error("{file}:{line}:{column}: {why}")]
    Syntax {
        /// The file.
        file: String,
        /// Line, from 1.
        line: usize,
        /// Column, from 1.
        column: usize,
        /// The reason.
        why: String,
    },
    /// An unknown key.
    #[error("{file}: unknown key {key} ({hint})")]
    UnknownKey {
        /// The file.
        file: String,
        /// The key's path.
        key: String,
        /// The nearest known key.
        hint: String,
    },
    /// A value that it may not have; `why` says what it was and what it may be.
    #[error("{place}: {why}")]
    Value {
        /// Position of the value.
        place: Place,
        /// One sentence.
        why: String,
    },
}

/// Origin of a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A flag: `--tcp`.
    Flag(&'static str),
    /// A key of the file: `config.json: server.tcp`.
    Key {
        /// The file.
        file: String,
        /// The key's path; empty for the whole file.
        path: String,
    },
    /// The default of this key.
    Default(&'static str),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(flag) => f.write_str(flag),
            Self::Key { file, path } if path.is_empty() => f.write_str(file),
            Self::Key { file, path } => write!(f, "{file}: {path}"),
            Self::Default(path) => f.write_str(path),
        }
    }
}

/// A file's path as it is shown: one line, whatever it is made of. `./` in front is left out.
pub(super) fn shown_path(path: &Path) -> String {
    let text = path.to_string_lossy();
    escape(text.strip_prefix("./").unwrap_or(&text)).into_owned()
}
