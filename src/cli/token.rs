//! `anthill token NAME`: a new token of the HTTP API, and its line for the file of tokens.

use serde_json::json;

use crate::codec::target::Target;
use crate::keys::{Hex, KEY_BYTES, digest_of, is_token_name};

use super::args::{TokenArgs, TokenRole};
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
    let target = args
        .target
        .as_deref()
        .map(|text| scope(text, args.role))
        .transpose()?;
    let mut random = [0; KEY_BYTES];
    getrandom::fill(&mut random)
        .map_err(|error| Failure::failed(format!("the system gives no random numbers: {error}")))?;
    let token = Hex(&random).to_string();
    print(&format!(
        "{token}\n{}\n",
        line(name, &token, args.role.as_str(), target.as_deref())
    ))?;
    print_note(
        "The first line is the token: only its holder needs it. The second belongs into the file \
         that server.http_tokens names, between { and }.",
    );
    Ok(())
}

/// The checked text of a target.
fn scope(text: &str, role: TokenRole) -> Result<String, Failure> {
    if role != TokenRole::Dispatch {
        return Err(Failure::usage("--target is of --role dispatch alone"));
    }
    let target = Target::parse(text).and_then(Target::without_labels);
    let target = target.map_err(|error| Failure::usage(format!("--target: {error}")))?;
    Ok(target.as_str().to_owned())
}

/// The line of a token in the file.
fn line(name: &str, token: &str, role: &str, target: Option<&str>) -> String {
    let digest = Hex(&digest_of(token)).to_string();
    if let Some(target) = target {
        let entry = json!({"sha256": digest, "role": role, "target": target});
        return format!("{}: {entry}", json!(name));
    }
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
        let line = line("ops", "sesame", "dispatch", None);
        let digest = "d0c04f4b1951e4aeaaec8223ed2039e542f3aae805a6fa7f6d794e5afff5d272";
        let entries: serde_json::Value = serde_json::from_str(&format!("{{{line}}}")).unwrap();
        assert_eq!(
            entries,
            json!({"ops": {"sha256": digest, "role": "dispatch"}})
        );
    }
}
