//! Files of the page at `/`: embedded in the program, and served as they are.
//!
//! The document names its other files by a path with the digest of all of them. Such a file never
//! changes, so a browser keeps it; the document itself is compared by its `ETag`. No file holds
//! data of the fleet, so none needs a token.

use std::sync::LazyLock;

use sha2::{Digest, Sha256};

use super::response::{HttpResponse, Note};
use super::routes;

/// Policy of the page: scripts, styles, images and connections of this server only, and no markup
/// from text.
pub(crate) const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; \
    style-src 'self'; connect-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'; \
    frame-ancestors 'none'; require-trusted-types-for 'script'";

const DOCUMENT: &str = include_str!("index.html");
const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";

#[rustfmt::skip] // A table: name, media type, content.
const FILES: &[(&str, &str, &str)] = &[
    ("app.js", SCRIPT, include_str!("app.js")),
    ("devices.js", SCRIPT, include_str!("devices.js")),
    ("dispatch.js", SCRIPT, include_str!("dispatch.js")),
    ("dom.js", SCRIPT, include_str!("dom.js")),
    ("hosts.js", SCRIPT, include_str!("hosts.js")),
    ("icon.svg", "image/svg+xml", include_str!("icon.svg")),
    ("live.js", SCRIPT, include_str!("live.js")),
    ("map.js", SCRIPT, include_str!("map.js")),
    ("overview.js", SCRIPT, include_str!("overview.js")),
    ("page.css", "text/css; charset=utf-8", include_str!("page.css")),
    ("tasks.js", SCRIPT, include_str!("tasks.js")),
];

/// Digest of all files, in hexadecimal digits: a part of their paths.
static DIGEST: LazyLock<String> = LazyLock::new(|| {
    let names = FILES.iter().map(|(name, _, _)| *name);
    let contents = FILES.iter().map(|(_, _, content)| *content);
    digest(names.chain(contents))
});

/// The document with its placeholders filled in, and its tag: for a server that is open, and for one
/// that demands a token.
static INDEX: LazyLock<[(String, String); 2]> = LazyLock::new(|| {
    let paths: Vec<_> = routes::paths().collect();
    ["open", "needed"].map(|token| {
        let text = DOCUMENT.replace("@DIGEST@", &DIGEST);
        let text = text.replace("@PATHS@", &paths.join(" "));
        let text = text.replace("@TOKEN@", token);
        let tag = tag(&digest([text.as_str()].into_iter()));
        (text, tag)
    })
});

static FILE_TAG: LazyLock<String> = LazyLock::new(|| tag(&DIGEST));

fn digest<'a>(parts: impl Iterator<Item = &'a str>) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    let bytes = hash.finalize();
    bytes[..8]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

fn tag(digest: &str) -> String {
    format!("\"{digest}\"")
}

/// The document, or 304 if `known` has its tag. It says whether requests need a token, so that the page
/// asks for it first.
pub(crate) fn document(needs_token: bool, known: Option<&str>) -> HttpResponse {
    let (text, tag) = &INDEX[usize::from(needs_token)];
    respond(HTML, text, tag, "no-cache", known)
}

/// A file of the page by the digest and the name in its path.
pub(crate) fn file(digest: &str, name: &str, known: Option<&str>) -> HttpResponse {
    let found = FILES.iter().find(|(file, _, _)| *file == name);
    match found {
        Some((_, kind, content)) if digest == *DIGEST => {
            let caching = "public, max-age=31536000, immutable";
            respond(kind, content, &FILE_TAG, caching, known)
        }
        _ => HttpResponse::error(404, "the page has no such file"),
    }
}

fn respond(
    kind: &'static str,
    text: &str,
    tag: &'static str,
    caching: &'static str,
    known: Option<&str>,
) -> HttpResponse {
    let is_known = known.is_some_and(|known| has_tag(known, tag));
    let response = match is_known {
        true => HttpResponse::not_modified(kind),
        false => HttpResponse::text(kind, text.to_owned()),
    };
    response.noting(Note::Page { tag, caching })
}

/// Returns whether an `If-None-Match` lists `tag`. A proxy that compresses makes the tag weak.
fn has_tag(known: &str, tag: &str) -> bool {
    let mut known = known.split(',').map(str::trim);
    known.any(|known| known == "*" || known.strip_prefix("W/").unwrap_or(known) == tag)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All files together, uncompressed.
    const PAGE_BYTES_MAX: usize = 150 * 1024;

    #[test]
    fn all_files_are_small_and_served() {
        let document = document(false, None);
        let text = String::from_utf8(document.body).unwrap();
        let mut bytes = text.len();
        for (name, _, content) in FILES {
            bytes += content.len();
            let path = format!("page/{}/{name}", *DIGEST);
            let by_import = format!("from './{name}'");
            let imported = FILES.iter().any(|(_, _, other)| other.contains(&by_import));
            assert!(text.contains(&path) || imported, "{name} is not used");
            assert_eq!(file(&DIGEST, name, None).body, content.as_bytes());
            assert_eq!(file("0", name, None).status, 404);
        }
        assert!(bytes <= PAGE_BYTES_MAX, "{bytes}");
        assert_eq!(file(&DIGEST, "mod.rs", None).status, 404);
    }

    #[test]
    fn the_document_lists_the_paths_of_the_server() {
        let text = String::from_utf8(document(false, None).body).unwrap();
        assert!(!text.contains('@'), "{text}");
        let names = text.split_once("data-paths=\"").unwrap().1;
        let names: Vec<_> = names.split('"').next().unwrap().split(' ').collect();
        assert!(names.contains(&"/v1/hosts/HOST"), "{names:?}");
        let needed = String::from_utf8(document(true, None).body).unwrap();
        assert!(text.contains("data-token=\"open\""));
        assert!(needed.contains("data-token=\"needed\""));
    }

    #[test]
    fn a_known_file_is_not_sent_again() {
        let Note::Page { tag, caching } = document(false, None).note else {
            panic!("the document has no tag");
        };
        assert_eq!(caching, "no-cache");
        for known in [tag, "*", &format!("\"a\", W/{tag}")] {
            let answer = document(false, Some(known));
            assert_eq!((answer.status, answer.body.len()), (304, 0), "{known}");
        }
        assert_eq!(document(false, Some("\"a\"")).status, 200);
        assert_eq!(file(&DIGEST, "app.js", Some(&FILE_TAG)).status, 304);
    }

    #[test]
    fn scripts_make_no_markup_of_text() {
        let sinks = [
            "innerHTML",
            "outerHTML",
            "insertAdjacent",
            "document.write",
            "eval(",
            "Function(",
            "createContextualFragment",
            "setAttribute('style'",
            "srcdoc",
            "javascript:",
        ];
        for (name, _, content) in FILES {
            for sink in sinks {
                assert!(!content.contains(sink), "{name} has {sink}");
            }
        }
        for inline in ["<script>", "<style", " style=", " onclick"] {
            assert!(!DOCUMENT.contains(inline), "{inline}");
        }
    }

    /// Relative luminance of `#rgb` or `#rrggbb`, as WCAG 2 defines it.
    fn luminance(colour: &str) -> f64 {
        let digits: Vec<u32> = colour[1..]
            .chars()
            .map(|c| c.to_digit(16).unwrap())
            .collect();
        let parts: Vec<f64> = match digits.len() {
            3 => digits.iter().map(|d| f64::from(d * 17)).collect(),
            _ => digits
                .chunks(2)
                .map(|d| f64::from(d[0] * 16 + d[1]))
                .collect(),
        };
        let linear = |part: f64| match part / 255.0 {
            low if low <= 0.04045 => low / 12.92,
            high => ((high + 0.055) / 1.055).powf(2.4),
        };
        0.2126 * linear(parts[0]) + 0.7152 * linear(parts[1]) + 0.0722 * linear(parts[2])
    }

    #[test]
    fn text_has_the_contrast_of_wcag_aa() {
        let (_, _, css) = FILES
            .iter()
            .find(|(name, _, _)| *name == "page.css")
            .unwrap();
        let themes: Vec<&str> = css.split(":root {").skip(1).collect();
        assert_eq!(themes.len(), 2, "light and dark");
        for theme in themes {
            let value = |name: &str| {
                let (_, rest) = theme.split_once(&format!("--{name}: ")).unwrap();
                luminance(rest.split(';').next().unwrap())
            };
            let contrast = |a: &str, b: &str| {
                let (a, b) = (value(a), value(b));
                (a.max(b) + 0.05) / (a.min(b) + 0.05)
            };
            for ground in ["bg", "surface", "raised"] {
                for text in ["text", "muted", "accent", "ok", "warn", "bad", "gone"] {
                    // Marks are graphics, and need less than text.
                    let least = if text == "gone" { 3.0 } else { 4.5 };
                    let found = contrast(text, ground);
                    assert!(found >= least, "{text} on {ground}: {found:.2}");
                }
            }
            for (text, ground) in [("on-accent", "accent"), ("surface", "bad")] {
                assert!(contrast(text, ground) >= 4.5, "{text} on {ground}");
            }
            for fill in ["ok-fill", "warn-fill", "bad-fill"] {
                assert!(contrast(fill, "surface") >= 2.0, "{fill}");
            }
        }
    }
}
