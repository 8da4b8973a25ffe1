//! The API's tokens: read from their files at the start and at a reload, never shown.

use std::path::Path;

use super::error::{ConfigError, Place, shown_path};
use super::json;
use super::value::Value;
use crate::codec::target::Target;
use crate::files::{Guard, Text, read_text};
use crate::keys::{Role, TokenFault, Tokens, bytes_of, digest_of, is_token_name};
use crate::limits::{TOKEN_FILE_BYTES_MAX, TOKENS_FILE_BYTES_MAX};

/// Name of the token in `server.http_token_file`.
const SINGLE: &str = "token";

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
    let warning = readable(path, mode, &place);
    Ok((token.to_owned(), warning))
}

/// Reads the tokens in `path`: a JSON object NAME → `{"sha256": HEX, "role": ROLE}`. The second
/// result is a warning if every user of the machine can read the file.
pub(super) fn read_tokens(
    path: &Path,
    place: Place,
) -> Result<(Tokens, Option<String>), ConfigError> {
    let name = shown_path(path);
    match read_text(path, TOKENS_FILE_BYTES_MAX, Guard::Trusted) {
        Ok(Text { text, mode }) => Ok((parse_tokens(&name, &text)?, readable(path, mode, &place))),
        Err(error) => {
            let why = format!("{name} {error}");
            Err(ConfigError::Value { place, why })
        }
    }
}

/// Parses the text of a file of tokens called `name`. No error shows a digest.
fn parse_tokens(name: &str, text: &str) -> Result<Tokens, ConfigError> {
    let root = json(name, text)?;
    let root = Value {
        file: name,
        path: String::new(),
        node: &root,
    };
    let mut tokens = Tokens::default();
    for (token, node) in root.members()? {
        let entry = root.member(token, node);
        if !is_token_name(token) {
            return Err(entry.error(TokenFault::Name.to_string()));
        }
        let of = entry.clone().section(&["sha256", "role", "target"])?;
        let missing = |what: &str| entry.error(format!("has no \"{what}\""));
        let digest = of.get("sha256").ok_or_else(|| missing("sha256"))?;
        let Some(bytes) = bytes_of(digest.text()) else {
            let why = "is not 64 hexadecimal digits, the SHA-256 of a token (anthill token NAME)";
            return Err(digest.error(why.to_owned()));
        };
        let role = of.get("role").ok_or_else(|| missing("role"))?;
        let Some(rights) = Role::parse(role.text()) else {
            return Err(role.wrong("is no role: it may be read, dispatch or admin"));
        };
        let target = of.get("target").and_then(Value::unless_null);
        let target = target.map(|target| scope(&target, rights)).transpose()?;
        tokens
            .insert(token, bytes, rights, target.as_deref())
            .map_err(|fault| entry.error(fault.to_string()))?;
    }
    Ok(tokens)
}

/// Text of the target of a token, which selects the hosts that it may send to. It has no labels: a
/// host may claim these itself.
fn scope(target: &Value<'_>, rights: Role) -> Result<String, ConfigError> {
    if rights != Role::Dispatch {
        let why = "is of the role dispatch: read sees all hosts, and admin does everything";
        return Err(target.error(why.to_owned()));
    }
    let parsed = Target::parse(target.text()).and_then(Target::without_labels);
    match parsed {
        Ok(parsed) => Ok(parsed.as_str().to_owned()),
        Err(error) => Err(target.error(error.to_string())),
    }
}

/// Warning for a file that every user of this machine may read.
fn readable(path: &Path, mode: u32, place: &Place) -> Option<String> {
    (mode & 0o007 != 0).then(|| {
        format!(
            "{place}: every user of this machine may read {}: chmod o= would end that",
            shown_path(path)
        )
    })
}

/// Adds the token of `server.http_token_file`, an administrator's.
pub(super) fn add_single(tokens: &mut Tokens, token: &str) -> Result<(), String> {
    let added = tokens.insert(SINGLE, digest_of(token), Role::Admin, None);
    added.map_err(|fault| match fault {
        TokenFault::Twice => {
            format!("its token is called \"{SINGLE}\", and so is one of server.http_tokens")
        }
        other => format!("its token {other}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

    #[test]
    fn each_token_has_a_digest_and_a_role() {
        let token = "sesame";
        let digest = crate::keys::Hex(&digest_of(token)).to_string();
        let text = format!(
            r#"{{"ops": {{"sha256": "{digest}", "role": "admin"}},
                "board": {{"sha256": "{HEX}", "role": "read", "target": null}}}}"#
        );
        let tokens = parse_tokens("tokens.json", &text).unwrap();
        assert_eq!(tokens.names().collect::<Vec<_>>(), ["ops", "board"]);
        assert_eq!(tokens.find(token).unwrap().role, Role::Admin);
        assert!(parse_tokens("tokens.json", "{}").unwrap().is_empty());
    }

    #[test]
    fn errors_of_tokens_files_hide_the_digests() {
        let entry = |more: &str| format!(r#"{{"a": {{"sha256": "{HEX}"{more}}}}}"#);
        for (text, said) in [
            (
                "[]".to_owned(),
                "tokens.json: is a list, and must be an object",
            ),
            (
                r#"{"10.0.0.1": {}}"#.to_owned(),
                "tokens.json: 10.0.0.1: is no name of a token: it may be 1 to 64 of A-Z a-z 0-9 . _ -, and no IP address",
            ),
            (
                r#"{"a": {}}"#.to_owned(),
                "tokens.json: a: has no \"sha256\"",
            ),
            (entry(""), "tokens.json: a: has no \"role\""),
            (
                entry(r#", "role": "root""#),
                "tokens.json: a.role: \"root\" is no role: it may be read, dispatch or admin",
            ),
            (
                format!(r#"{{"a": {{"sha256": "{}", "role": "read"}}}}"#, &HEX[1..]),
                "tokens.json: a.sha256: is not 64 hexadecimal digits, the SHA-256 of a token (anthill token NAME)",
            ),
            (
                format!(
                    r#"{{"a": {{"sha256": "{HEX}", "role": "read"}}, "b": {{"sha256": "{HEX}", "role": "read"}}}}"#
                ),
                "tokens.json: b: is the same token as a",
            ),
        ] {
            let why = parse_tokens("tokens.json", &text).unwrap_err().to_string();
            assert_eq!(why, said);
        }
        let unknown = parse_tokens("tokens.json", &entry(r#", "roles": "read""#));
        let unknown = unknown.unwrap_err().to_string();
        assert!(
            unknown.starts_with("tokens.json: unknown key a.roles ("),
            "{unknown}"
        );
        for (more, said) in [
            (
                r#", "role": "read", "target": "web-*""#,
                "is of the role dispatch",
            ),
            (
                r#", "role": "dispatch", "target": """#,
                "the target is empty",
            ),
            (r#", "role": "dispatch", "target": "role=web""#, "no labels"),
        ] {
            let why = parse_tokens("tokens.json", &entry(more))
                .unwrap_err()
                .to_string();
            assert!(
                why.starts_with("tokens.json: a.target: ") && why.contains(said),
                "{why}"
            );
        }
    }

    #[test]
    fn the_single_token_is_an_administrators() {
        let mut tokens = Tokens::default();
        add_single(&mut tokens, "sesame").unwrap();
        let found = tokens.find("sesame").unwrap();
        assert_eq!((&*found.name, found.role), (SINGLE, Role::Admin));
        let twice = add_single(&mut tokens, "another").unwrap_err();
        assert!(twice.contains("server.http_tokens"), "{twice}");
    }
}
