//! The API's token: read from its file at the start, never shown.

use std::path::Path;

use super::error::{ConfigError, Place, shown_path};
use crate::files::{Guard, Text, read_text};
use crate::limits::TOKEN_FILE_BYTES_MAX;

/// Shorter tokens could be guessed.
const TOKEN_CHARS_MIN: usize = 16;
const TOKEN_CHARS_MAX: usize = 1_024;

/// Reads the token in `path`, with a warning if every user of the machine can read it.
pub(super) fn read(path: &Path, place: Place) -> Result<(String, Option<String>), ConfigError> {
    let Text { text, mode } = match read_text(path, TOKEN_FILE_BYTES_MAX, Guard::Trusted) {
        Ok(read) => read,
        Err(error) => {
            let why = format!("{} {error}", shown_path(path));
            return Err(ConfigError::Value { place, why });
        }
    };
    let token = text.trim();
    let fits = (TOKEN_CHARS_MIN..=TOKEN_CHARS_MAX).contains(&token.len());
    if !fits || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        let why = format!(
            "{} holds no token of {TOKEN_CHARS_MIN} to {TOKEN_CHARS_MAX} visible ASCII characters",
            shown_path(path)
        );
        return Err(ConfigError::Value { place, why });
    }
    let warning = (mode & 0o007 != 0).then(|| {
        format!(
            "{place}: every user of this machine may read {}: chmod o= would end that",
            shown_path(path)
        )
    });
    Ok((token.to_owned(), warning))
}
