//! `anthill token NAME`: a new token of the HTTP API, and its line for the file of tokens.

use serde_json::json;

use crate::keys::{Hex, KEY_BYTES, digest_of, is_token_name};

use super::args::TokenArgs;
use super::{Failure, print, print_note};

/// Prints the token, which nothing keeps, and then its line in the file of `server.http_tokens`.
///
/// # Errors
/// A wrong name, status 2; a system without random numbers, status 1.
pub fn run(args: &TokenArgs) -> Result<(), Failure> {
    let name = &args.name;
    if !is_token_name(name) {
        return Err(Failure::usage(format!(
            "NAME is '{name}': it may be 1 to 64 of A-Z a-z 0-9 . _ -, and no IP address"
        )));
    }
    let mut random = [0; KEY_BYTES];
    getrandom::fill(&mut random)
        .map_err(|error| Failure::failed(format!("the system gives no random numbers: {error}")))?;
    let token = Hex(&random).to_string();
    print(&format!(
        "{token}\n{}\n",
        line(name, &token, args.role.as_str())
    ))?;
    print_note(
        "The first line is the token: only its holder needs it. The second belongs into the file \
         that server.http_tokens names, between { and }.",
    );
    Ok(())
}

/// The line of a token in the file.
fn line(name: &str, token: &str, role: &str) -> String {
    let digest = Hex(&digest_of(token)).to_string();
    format!(
        "{}: {}",
        json!(name),
        json!({"sha256": digest, "role": role})
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_has_the_digest_and_not_the_token() {
        let line = line("ops", "sesame", "dispatch");
        let digest = "d0c04f4b1951e4aeaaec8223ed2039e542f3aae805a6fa7f6d794e5afff5d272";
        let entries: serde_json::Value = serde_json::from_str(&format!("{{{line}}}")).unwrap();
        assert_eq!(
            entries,
            json!({"ops": {"sha256": digest, "role": "dispatch"}})
        );
    }
}
