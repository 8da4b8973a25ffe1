//! Address of a server's API, as `--api` and `ANTHILL_API` give it.
//!
//! The address is parsed only here and then rebuilt, so that the HTTP client cannot read another
//! host or port in it. The token goes to that address only.

use crate::escape;
use ureq::http::Uri;

use super::super::Failure;

/// The address used where none is given.
pub const DEFAULT_BASE: &str = "http://127.0.0.1:11480";

/// Address of a server's API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Base {
    /// `SCHEME://HOST[:PORT][/PATH]`, without a slash at its end.
    pub text: String,
    /// The scheme is `https`.
    pub is_tls: bool,
}

/// Reads `url`, which `source` (a flag or a variable) gave.
///
/// # Errors
/// Wrong usage: the error names `source` and the address. A password is not repeated.
pub fn parse(source: &str, url: &str) -> Result<Base, Failure> {
    read(url).map_err(|why| {
        Failure::usage(format!(
            "{source} is '{}': it {why}; it may be http://HOST:PORT, such as {DEFAULT_BASE}, or https://HOST:PORT",
            shown(url)
        ))
    })
}

fn read(url: &str) -> Result<Base, &'static str> {
    let (scheme, rest) = url.split_once("://").ok_or("has no http:// in front")?;
    let scheme = scheme.to_ascii_lowercase();
    let is_tls = match scheme.as_str() {
        "http" => false,
        "https" => true,
        _ => return Err("has another scheme"),
    };
    if rest.contains('@') {
        return Err("has an @: a user is given by --token-file");
    }
    let (place, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let (host, port) = escape::host_and_port(place)?;
    let path = path.trim_end_matches('/');
    let fits = |c: char| c.is_ascii_alphanumeric() || "/-._~!$&'()*+,;=:%".contains(c);
    if !path.chars().all(fits) || path.split('/').any(|part| part == "." || part == "..") {
        return Err("has something behind its port that is no plain path");
    }
    let host = match host.contains(':') {
        true => format!("[{host}]"),
        false => host,
    };
    let port_text = port.map_or(String::new(), |port| format!(":{port}"));
    let text = format!("{scheme}://{host}{port_text}{path}");
    // The client parses the text again, and must get the same result.
    let uri: Uri = text.parse().map_err(|_| "is no address")?;
    let agrees = uri.scheme_str() == Some(scheme.as_str())
        && uri.host() == Some(host.as_str())
        && uri.port_u16() == port;
    match agrees {
        true => Ok(Base { text, is_tls }),
        false => Err("is no address"),
    }
}

/// Returns the address as an error may show it: without anything that could be a password.
fn shown(url: &str) -> String {
    match url.split_once("://") {
        Some((scheme, rest)) if rest.contains('@') => format!("{scheme}://…"),
        None if url.contains('@') => "…".to_owned(),
        _ => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_address_loses_only_its_last_slash() {
        for (url, base, is_tls) in [
            ("http://127.0.0.1:11480", "http://127.0.0.1:11480", false),
            ("http://127.0.0.1:11480/", "http://127.0.0.1:11480", false),
            ("http://[::1]:80/fleet/", "http://[::1]:80/fleet", false),
            ("http://[0:0::1]:80", "http://[::1]:80", false),
            ("http://ants.example", "http://ants.example", false),
            ("HTTP://Ants.example:1", "http://Ants.example:1", false),
            ("HTTPS://ants:443//a", "https://ants:443//a", true),
            ("http://ants:065535", "http://ants:65535", false),
        ] {
            let text = base.to_owned();
            assert_eq!(parse("--api", url).unwrap(), Base { text, is_tls });
        }
    }

    #[test]
    fn an_address_with_a_damaged_part_is_refused() {
        for url in [
            "",
            "localhost",
            "127.0.0.1:11480",
            "ftp://ants",
            "http:/ants",
            "http://",
            "http:///v1",
            "http://a/?b",
            "http://a/#b",
            "http://a?b",
            "http://a b",
            " http://a",
            "http://a\n",
            "http://a/\u{e4}",
            "http://a:99999",
            "http://a:65536",
            "http://a:-1",
            "http://a:+1",
            "http://a:0",
            "http://a:",
            "http://a:/v1",
            "http://a:11480x",
            "http://a:0x50",
            "http://a: 80",
            "http://a:80:80",
            "http://[::1]:99999",
            "http://[::1]:",
            "http://[::1]80",
            "http://[::1",
            "http://::1",
            "http://[a]:80",
            "http://[fe80::1%eth0]:80",
            "http://user@a:80",
            "http://user:word@a:80",
            "http://a:80@b:80",
            "http://a:80/@b",
            "http://a\\@b:80",
            "http://a/../b",
            "http://a/./",
        ] {
            let failure = parse("--api", url).unwrap_err();
            let why = failure.why().unwrap();
            assert_eq!(failure.status(), 2, "{url}");
            assert!(
                why.contains("--api") && !why.contains("word"),
                "{url}: {why}"
            );
        }
    }

    proptest! {
        /// For each accepted text, the client uses the host and the port that are written in it.
        #[test]
        fn the_client_reads_what_is_written(
            host in "[a-z0-9.:@\\[\\]%_-]{0,6}", port in "[0-9:@x+-]{0,6}", path in "[/a.?#@:%-]{0,5}"
        ) {
            let url = format!("http://{host}:{port}{path}");
            if let Ok(base) = parse("--api", &url) {
                let uri: Uri = base.text.parse().unwrap();
                let digits = uri.port_u16().unwrap().to_string();
                prop_assert_eq!(port.trim_start_matches('0'), digits);
                prop_assert!(!base.text.contains('@'));
            }
        }
    }
}
