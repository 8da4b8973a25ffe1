//! Admission of requests. Those that a browser sends for another site are refused, and those
//! without a token that is required.
//!
//! `Host` is checked because another site's name may be made to point at this machine (DNS
//! rebinding); `Origin` and `Sec-Fetch-Site` because any page may make a browser send requests
//! here.

use std::collections::BTreeMap;
use std::fmt;
use std::hint::black_box;
use std::net::{IpAddr, SocketAddr};

use super::request::Head;
use super::response::{HttpResponse, Note};
use super::routes;

/// Error for a request that changes something, where that needs a token and none is configured.
const NO_TOKEN_SET: &str = "a request that changes something needs a token, and this server has none: \
     server.http_token_file names the file with one, or server.http_write \"open\" lets every process of its machine in";
/// Port that a URL leaves out.
const HTTP_PORT: u16 = 80;

/// Configuration of HTTP.
#[derive(Clone, Default)]
pub struct HttpRules {
    /// Names of this server besides the bound address and `localhost`, with or without a port.
    pub names: Vec<String>,
    /// The token that every request must have.
    pub token: Option<String>,
    /// Requests that change something are refused while no token is configured.
    pub write_needs_token: bool,
    /// Texts of console commands by name.
    pub instructions: BTreeMap<String, String>,
    /// Name of this node, which its events carry.
    pub node: String,
}

/// Shows that there is a token, never the token.
impl fmt::Debug for HttpRules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let token = self.token.as_ref().map(|_| "…");
        f.debug_struct("HttpRules")
            .field("names", &self.names)
            .field("token", &token)
            .field("write_needs_token", &self.write_needs_token)
            .field("instructions", &self.instructions)
            .field("node", &self.node)
            .finish()
    }
}

/// Checks of the requests of one connection.
#[derive(Clone, Copy, Debug)]
pub struct RequestGuard<'a> {
    /// The rules.
    pub rules: &'a HttpRules,
    /// Bound address.
    pub bound: SocketAddr,
    /// Local address of the connection, which differs from a bound wildcard address.
    pub local: SocketAddr,
}

impl RequestGuard<'_> {
    /// Judges a request by its head.
    ///
    /// # Errors
    /// The response to a refused request: 421, 403 or 401.
    pub fn judge(&self, head: &Head<'_>) -> Result<(), HttpResponse> {
        if head.host.is_some_and(|host| !self.is_ours(host)) {
            return Err(HttpResponse::error(
                421,
                "Host is not the bound address, localhost or one of server.http_names",
            ));
        }
        if head
            .origin
            .is_some_and(|origin| !self.is_our_origin(origin))
        {
            return Err(HttpResponse::error(403, "Origin is another site"));
        }
        // A link on another site may lead to the page, which holds no data and cannot be framed.
        if head.cross_site && head.path != "/" {
            return Err(HttpResponse::error(403, "another site makes this request"));
        }
        let is_open = routes::is_open(head.path);
        let Some(token) = &self.rules.token else {
            if self.rules.write_needs_token && !is_open && !is_read(head.method) {
                return Err(HttpResponse::error(401, NO_TOKEN_SET).noting(Note::Authenticate));
            }
            return Ok(());
        };
        if is_open {
            return Ok(());
        }
        match head.authorization {
            Some(text) if is_token(text, token) => Ok(()),
            Some(_) => Err(HttpResponse::error(401, "the token is wrong").noting(Note::WrongToken)),
            None => {
                let answer =
                    HttpResponse::error(401, "a token is needed: Authorization: Bearer TOKEN");
                Err(answer.noting(Note::Authenticate))
            }
        }
    }

    fn is_ours(&self, authority: &str) -> bool {
        self.is_address(authority) || self.is_name(authority)
    }

    /// Checks an origin: a scheme and an authority. A name may have `https`, from a TLS proxy
    /// before this server.
    fn is_our_origin(&self, origin: &str) -> bool {
        if let Some(authority) = origin.strip_prefix("http://") {
            return self.is_ours(authority);
        }
        let secure = origin.strip_prefix("https://");
        secure.is_some_and(|authority| self.is_name(authority))
    }

    fn is_address(&self, authority: &str) -> bool {
        let (ip, port) = match authority.parse::<SocketAddr>() {
            Ok(address) => (address.ip(), address.port()),
            Err(_) => match parse_ip(authority) {
                Some(ip) => (ip, HTTP_PORT),
                None => return false,
            },
        };
        let ip = ip.to_canonical();
        let ours = [self.bound.ip(), self.local.ip()];
        port == self.bound.port() && ours.iter().any(|our| our.to_canonical() == ip)
    }

    fn is_name(&self, authority: &str) -> bool {
        let bare = match authority.rsplit_once(':') {
            Some((name, port)) if port.parse() == Ok(self.bound.port()) => name,
            _ => authority,
        };
        let names = self.rules.names.iter().map(String::as_str);
        names
            .chain(["localhost"])
            .any(|name| name.eq_ignore_ascii_case(authority) || name.eq_ignore_ascii_case(bare))
    }
}

/// Returns whether requests with this method change nothing.
fn is_read(method: &str) -> bool {
    matches!(method, "GET" | "HEAD")
}

/// Returns whether the header has this token.
fn is_token(authorization: &str, token: &str) -> bool {
    let Some((scheme, given)) = authorization.split_once(' ') else {
        return false;
    };
    scheme.eq_ignore_ascii_case("Bearer") && equal(given.trim().as_bytes(), token.as_bytes())
}

/// Parses an address without a port, in the form of an authority.
fn parse_ip(text: &str) -> Option<IpAddr> {
    match text
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
    {
        Some(inner) => inner.parse().ok().map(IpAddr::V6),
        None => text.parse().ok().map(IpAddr::V4),
    }
}

/// Compares two secrets in a time that depends only on their lengths.
fn equal(given: &[u8], secret: &[u8]) -> bool {
    let mut difference = u8::from(given.len() != secret.len());
    for (a, b) in given.iter().zip(secret) {
        difference |= black_box(a ^ b);
    }
    black_box(difference) == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::request::parse;

    /// Judges `line` with the header `lines` at the address `bound`, asked at `local`.
    fn judge(
        rules: &HttpRules,
        (bound, local): (&str, &str),
        line: &str,
        lines: &str,
    ) -> Result<(), HttpResponse> {
        let guard = RequestGuard {
            rules,
            bound: bound.parse().unwrap(),
            local: local.parse().unwrap(),
        };
        let request = format!("{line} HTTP/1.1\r\n{lines}\r\n\r\n");
        let (head, _) = parse(request.as_bytes()).unwrap().unwrap();
        guard.judge(&head)
    }

    fn status(rules: &HttpRules, line: &str, lines: &str) -> u16 {
        let local = ("127.0.0.1:1", "127.0.0.1:1");
        let judged = judge(rules, local, line, &format!("Host: localhost\r\n{lines}"));
        judged.map_or_else(|refusal| refusal.status, |()| 200)
    }

    fn rules(token: Option<&str>) -> HttpRules {
        HttpRules {
            names: vec!["ants.example".into(), "proxy:8443".into()],
            token: token.map(String::from),
            ..HttpRules::default()
        }
    }

    fn table(bound: &str, local: &str, cases: &[(&str, u16)]) {
        for (lines, expected) in cases {
            let judged = judge(&rules(None), (bound, local), "GET /v1/hosts", lines);
            let status = judged.map_or_else(|refusal| refusal.status, |()| 200);
            assert_eq!(status, *expected, "{lines}");
        }
    }

    #[test]
    fn host_is_the_bound_address_localhost_or_a_name() {
        table(
            "127.0.0.1:11480",
            "127.0.0.1:11480",
            &[
                ("Host: 127.0.0.1:11480", 200),
                ("Host: localhost", 200),
                ("Host: LocalHost:11480", 200),
                ("Host: ants.example", 200),
                ("Host: Ants.Example:11480", 200),
                ("Host: proxy:8443", 200),
                ("Host: 127.0.0.1", 421),
                ("Host: 127.0.0.1:80", 421),
                ("Host: 127.0.0.2:11480", 421),
                ("Host: localhost:80", 421),
                ("Host: localhost:", 421),
                ("Host: ants.example:80", 421),
                ("Host: proxy", 421),
                ("Host: evil.example", 421),
                ("Host: ants.example.evil.example", 421),
                ("Host: user@localhost", 421),
                ("Host:", 421),
            ],
        );
    }

    #[test]
    fn port_80_may_be_left_out() {
        table(
            "[::1]:80",
            "[::1]:80",
            &[
                ("Host: [::1]", 200),
                ("Host: [::1]:80", 200),
                ("Host: ::1", 421),
                ("Host: [::2]", 421),
            ],
        );
    }

    #[test]
    fn with_a_wildcard_the_local_address_counts() {
        table(
            "[::]:11480",
            "[::ffff:10.0.0.5]:11480",
            &[
                ("Host: 10.0.0.5:11480", 200),
                ("Host: [::]:11480", 200),
                ("Host: 10.0.0.6:11480", 421),
            ],
        );
    }

    #[test]
    fn requests_of_other_sites_are_refused() {
        table(
            "127.0.0.1:11480",
            "127.0.0.1:11480",
            &[
                ("Host: localhost\r\nOrigin: http://localhost:11480", 200),
                ("Host: localhost\r\nOrigin: http://127.0.0.1:11480", 200),
                ("Host: localhost\r\nOrigin: https://ants.example", 200),
                ("Host: localhost\r\nOrigin: https://127.0.0.1:11480", 403),
                ("Host: localhost\r\nOrigin: http://evil.example", 403),
                ("Host: localhost\r\nOrigin: null", 403),
                ("Host: localhost\r\nOrigin:", 403),
                ("Host: localhost\r\nSec-Fetch-Site: cross-site", 403),
                ("Host: localhost\r\nSec-Fetch-Site: Cross-Site", 403),
                ("Host: localhost\r\nSec-Fetch-Site: same-origin", 200),
                ("Host: localhost\r\nSec-Fetch-Site: none", 200),
            ],
        );
    }

    #[test]
    fn every_path_but_healthz_needs_the_token() {
        let rules = rules(Some("sesame"));
        let cases = [
            ("Authorization: Bearer sesame", 200),
            ("Authorization: bearer  sesame", 200),
            ("Authorization: Bearer sesam", 401),
            ("Authorization: Bearer sesamee", 401),
            ("Authorization: Bearer Sesame", 401),
            ("Authorization: Bearer", 401),
            ("Authorization: Basic sesame", 401),
            ("Authorization: sesame", 401),
            ("X: y", 401),
        ];
        for (line, expected) in cases {
            assert_eq!(status(&rules, "GET /v1/hosts", line), expected, "{line}");
        }
        assert_eq!(status(&rules, "GET /healthz?x", "X: y"), 200);
    }

    #[test]
    fn writes_without_a_configured_token_are_refused() {
        let mut rules = rules(None);
        rules.write_needs_token = true;
        for (method, expected) in [
            ("GET", 200),
            ("HEAD", 200),
            ("POST", 401),
            ("DELETE", 401),
            ("PATCH", 401),
            ("PUT", 401),
            ("get", 401),
        ] {
            for path in ["/v1/tasks", "/v1/commands", "/anything"] {
                let line = format!("{method} {path}");
                assert_eq!(status(&rules, &line, "X: y"), expected, "{line}");
            }
        }
    }

    #[test]
    fn a_wrong_token_differs_from_none() {
        let rules = rules(Some("sesame"));
        let local = ("127.0.0.1:1", "127.0.0.1:1");
        for (line, note) in [
            ("X: y", Note::Authenticate),
            ("Authorization: Bearer sesam", Note::WrongToken),
            ("Authorization: Basic sesame", Note::WrongToken),
        ] {
            let lines = format!("Host: localhost\r\n{line}");
            let refusal = judge(&rules, local, "GET /v1/hosts", &lines).unwrap_err();
            assert_eq!(refusal.note, note, "{line}");
        }
    }

    #[test]
    fn the_token_is_never_shown() {
        assert!(!format!("{:?}", rules(Some("sesame"))).contains("sesame"));
    }
}
