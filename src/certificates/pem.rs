//! Explanations of faulty PEM files.

use rustls::pki_types::pem::Error;

use crate::escape::escape;
use crate::limits::EXCERPT_CHARS_MAX;

/// The error of a file that is no whole PEM.
pub(super) fn explain(error: &Error) -> String {
    match error {
        Error::MissingSectionEnd { end_marker } => {
            let label = excerpt(end_marker);
            format!("is cut off: the line -----END {label}----- is missing")
        }
        Error::IllegalSectionStart { line } => {
            format!("is no PEM: {} begins no section", excerpt(line))
        }
        Error::Base64Decode(_) => "is no PEM: a line of it is damaged (no base64)".to_owned(),
        Error::NoItemsFound => "holds nothing that is looked for".to_owned(),
        Error::SectionTooLarge => "is no PEM: a section is too long".to_owned(),
        Error::Io(error) => format!("cannot be read: {error}"),
        error => format!("is no PEM: {error}"),
    }
}

/// Returns whether the file has an encrypted private key, in either form.
pub(super) fn is_encrypted(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    let mut lines = text.lines().map(str::trim);
    lines.any(|line| {
        line == "-----BEGIN ENCRYPTED PRIVATE KEY-----"
            || line.starts_with("Proc-Type:") && line.ends_with("ENCRYPTED")
    })
}

/// Labels of the file's sections.
pub(super) fn labels(bytes: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(bytes);
    let labels = text.lines().filter_map(|line| {
        let label = line.trim().strip_prefix("-----BEGIN ")?;
        Some(excerpt(label.strip_suffix("-----")?.as_bytes()))
    });
    labels.collect()
}

/// The beginning of a line, harmless to show.
fn excerpt(line: &[u8]) -> String {
    let line = String::from_utf8_lossy(line);
    let some: String = line.trim().chars().take(EXCERPT_CHARS_MAX).collect();
    escape(&some).into_owned()
}
