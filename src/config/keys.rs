//! The keys file: a JSON object KEY_ID → 64 hexadecimal digits, or → an object that also names the
//! ids for the key. Also the agent's key file, which has one key. Keys are never shown, and a file
//! that others can read is refused.

use std::path::Path;

use super::error::{ConfigError, Place, shown_path};
use super::json;
use super::tree::Node;
use super::value::Value;
use crate::files::{Guard, read_text};
use crate::ids::HostId;
use crate::keys::{Key, Ring, bytes_of, is_pattern};
use crate::limits::{CONFIG_ENTRIES_MAX, KEYS_FILE_BYTES_MAX};

/// Reads the keys in `path`, which the value at `place` names.
///
/// # Errors
/// When it cannot be read, others can read it, or something in it is wrong.
pub(super) fn read(path: &Path, place: Place) -> Result<Ring, ConfigError> {
    let name = shown_path(path);
    let text = contents(path, Guard::Secret).map_err(|why| ConfigError::Value {
        place,
        why: format!("{name} {why}"),
    })?;
    parse(&name, &text)
}

/// The keys in the text of a file called `name`.
pub(super) fn parse(name: &str, text: &str) -> Result<Ring, ConfigError> {
    let root = json(name, text)?;
    let root = Value {
        file: name,
        path: String::new(),
        node: &root,
    };
    let mut ring = Ring::default();
    for (id, node) in root.members()? {
        if bytes_of(id).is_some() {
            // Not shown: it is the key itself.
            let why = "a name is 64 hexadecimal digits: name and key are the wrong way round";
            return Err(root.error(why.to_owned()));
        }
        let entry = root.member(id, node);
        if HostId::checked(id).is_err() {
            return Err(entry.error(
                "is no name of a key: it may be 1 to 64 of A-Z a-z 0-9 . _ : -".to_owned(),
            ));
        }
        let (key, ids, derive) = entry_of(&entry)?;
        ring.insert(id.clone(), key, ids, derive)
            .map_err(|fault| entry.error(fault.to_string()))?;
    }
    Ok(ring)
}

/// One key, the ids that may use it, and whether each host has a key derived from it.
type Entry = (Key, Option<Vec<String>>, bool);

fn entry_of(entry: &Value<'_>) -> Result<Entry, ConfigError> {
    if matches!(entry.node, Node::Text(_)) {
        return Ok((key(entry)?, None, false));
    }
    if !matches!(entry.node, Node::Object(_)) {
        return Err(entry.error("is neither a key nor an object".to_owned()));
    }
    let of = entry.clone().section(&["key", "ids", "derive"])?;
    let Some(given) = of.get("key") else {
        return Err(entry.error("has no \"key\"".to_owned()));
    };
    let key = key(&given)?;
    let mut ids = None;
    of.set_or_null("ids", &mut ids, |v| {
        v.list(CONFIG_ENTRIES_MAX)?.iter().map(pattern).collect()
    })?;
    let derive = match of.get("derive") {
        None => false,
        Some(v) => match v.node {
            Node::Bool(derive) => *derive,
            _ => return Err(v.wrong("is not true or false")),
        },
    };
    Ok((key, ids, derive))
}

/// An error of a key, which never shows the key.
fn key(v: &Value<'_>) -> Result<Key, ConfigError> {
    let bytes = match v.node {
        Node::Text(text) => bytes_of(text),
        _ => None,
    };
    let bytes = bytes.ok_or_else(|| v.error("is not 64 hexadecimal digits".to_owned()))?;
    Ok(Key::new(bytes))
}

fn pattern(v: &Value<'_>) -> Result<String, ConfigError> {
    match v.node {
        Node::Text(text) if is_pattern(text) => Ok(text.clone()),
        _ => Err(v.wrong("is not a pattern of ids: 1 to 64 of A-Z a-z 0-9 . _ : - and *")),
    }
}

/// Reads a keys file by itself.
///
/// # Errors
/// As the server's configuration.
pub fn read_keys(path: &Path) -> Result<Ring, ConfigError> {
    read(path, Place::Flag("--key-file"))
}

/// Reads the agent's key file: `KEY_ID HEX`, one line.
///
/// # Errors
/// Why not, in words that follow the file's name.
pub fn read_key_file(path: &Path) -> Result<(String, Key), String> {
    let text = contents(path, Guard::Secret)?;
    let mut words = text.split_whitespace();
    let (Some(id), Some(hex), None) = (words.next(), words.next(), words.next()) else {
        return Err("is not one line KEY_ID HEX".to_owned());
    };
    if HostId::checked(id).is_err() {
        return Err("has a KEY_ID that is not 1 to 64 of A-Z a-z 0-9 . _ : -".to_owned());
    }
    let key = bytes_of(hex).ok_or("has a key that is not 64 hexadecimal digits")?;
    Ok((id.to_owned(), Key::new(key)))
}

/// The file's text, unless others than its owner and group can read it, or another user could
/// change it.
fn contents(path: &Path, guard: Guard) -> Result<String, String> {
    match read_text(path, KEYS_FILE_BYTES_MAX, guard) {
        Ok(read) => Ok(read.text),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    const HEX: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

    fn why(text: &str) -> String {
        parse("keys.json", text).unwrap_err().to_string()
    }

    #[test]
    fn a_key_is_digits_or_an_object() {
        let other = HEX.to_uppercase().replace("00", "FF");
        let text = format!(
            r#"{{"a": "{HEX}", "b": {{"key": "{other}", "ids": ["web-*"], "derive": true}}}}"#
        );
        let ring = parse("keys.json", &text).unwrap();
        assert_eq!(ring.len(), 2);
        let dummy = Key::new([0; 32]);
        assert!(ring.find("a", "x", &dummy).1 && ring.find("b", "web-1", &dummy).1);
        assert!(!ring.find("b", "db", &dummy).1);
        assert!(parse("keys.json", "{}").unwrap().is_empty());
    }

    #[test]
    fn errors_of_keys_files_hide_the_keys() {
        for (text, said) in [
            (
                "[]".to_owned(),
                "keys.json: is a list, and must be an object",
            ),
            (
                format!(r#"{{"a": "{}"}}"#, &HEX[1..]),
                "keys.json: a: is not 64 hexadecimal digits",
            ),
            (
                format!(r#"{{"a": "{HEX}", "a": "{HEX}"}}"#),
                "keys.json: a: is given twice",
            ),
            (
                format!(r#"{{"a": "{HEX}", "b": "{HEX}"}}"#),
                "keys.json: b: is the same key as a",
            ),
            (
                format!(r#"{{"a/b": "{HEX}"}}"#),
                "keys.json: a/b: is no name of a key: it may be 1 to 64 of A-Z a-z 0-9 . _ : -",
            ),
            (
                format!(r#"{{"{HEX}": "a"}}"#),
                "keys.json: a name is 64 hexadecimal digits: name and key are the wrong way round",
            ),
            (r#"{"a": {}}"#.to_owned(), "keys.json: a: has no \"key\""),
            (
                r#"{"a": 7}"#.to_owned(),
                "keys.json: a: is neither a key nor an object",
            ),
            (
                format!(r#"{{"a": {{"key": "{HEX}", "ids": ["w b"]}}}}"#),
                "keys.json: a.ids[0]: \"w b\" is not a pattern of ids: 1 to 64 of A-Z a-z 0-9 . _ : - and *",
            ),
            (
                format!(r#"{{"a": {{"key": "{HEX}", "derive": 1}}}}"#),
                "keys.json: a.derive: 1 is not true or false",
            ),
        ] {
            assert_eq!(why(&text), said);
        }
        let unknown = why(&format!(r#"{{"a": {{"key": "{HEX}", "id": []}}}}"#));
        assert!(
            unknown.starts_with("keys.json: unknown key a.id ("),
            "{unknown}"
        );
        assert!(!unknown.contains(HEX));
    }

    #[test]
    fn a_file_that_others_can_read_is_not_read() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("key");
        std::fs::write(&file, format!("fleet {HEX}\n")).unwrap();
        for (mode, good) in [(0o600, true), (0o640, true), (0o644, false), (0o602, false)] {
            std::fs::set_permissions(&file, PermissionsExt::from_mode(mode)).unwrap();
            assert_eq!(read_key_file(&file).is_ok(), good, "{mode:o}");
        }
        std::fs::set_permissions(&file, PermissionsExt::from_mode(0o600)).unwrap();
        let (id, key) = read_key_file(&file).unwrap();
        assert!(id == "fleet" && key.is(&Key::new(bytes_of(HEX).unwrap())));
        for wrong in ["", "fleet", "a/b 00", &format!("fleet {HEX} x"), "fleet 00"] {
            std::fs::write(&file, wrong).unwrap();
            assert!(read_key_file(&file).is_err(), "{wrong}");
        }
    }
}
