//! Admission of requests. Those that a browser sends for another site are refused, and those
//! without a token that is required.
//!
//! `Host` is checked because another site's name may be made to point at this machine (DNS
//! rebinding); `Origin` and `Sec-Fetch-Site` because any page may make a browser send requests
//! here.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use super::request::Head;
use super::response::{HttpResponse, Note, Reply};
use super::routes;
use crate::handlers::request::{Request, Within};
use crate::keys::{Role, Token, Tokens};

/// Error for a request that changes something, where that needs a token and none is configured.
const NO_TOKEN_SET: &str = "a request that changes something needs a token, and this server has none: \
     server.http_tokens or server.http_token_file names the file with one, or server.http_write \"open\" lets every process of its machine in";
/// Ports that a URL leaves out, without and with TLS.
const HTTP_PORT: u16 = 80;
const HTTPS_PORT: u16 = 443;

/// Configuration of HTTP.
#[derive(Clone, Debug, Default)]
pub struct HttpRules {
    /// Names of this server besides the bound address and `localhost`, with or without a port.
    pub names: Vec<String>,
    /// The tokens, of which every request must have one. None if no token is needed.
    pub tokens: Option<Arc<Tokens>>,
    /// Requests that change something are refused while no token is configured.
    pub write_needs_token: bool,
    /// Texts of console commands by name.
    pub instructions: BTreeMap<String, String>,
    /// Name of this node, which its events carry.
    pub node: String,
    /// Connections have TLS.
    pub is_tls: bool,
}

/// Sender of an admitted request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Caller {
    /// Its token. None if no token was needed.
    token: Option<Token>,
}

impl Caller {
    /// Name of its token.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.token.as_ref().map(|token| &*token.name)
    }

    /// Hands a request that changes something to the core. That of a token with a target goes with
    /// it, so that the core compares its hosts; one that sends to no hosts is refused.
    #[must_use]
    pub fn ask(&self, request: Request) -> Reply {
        let token = self.token.as_ref();
        let Some((token, target)) = token.and_then(|token| Some((token, token.target.as_ref()?)))
        else {
            return Reply::Ask(request);
        };
        let (token, target) = (token.name.to_string(), target.to_string());
        match request {
            Request::Dispatch(_)
            | Request::Command { .. }
            | Request::Cancel { .. }
            | Request::Pause { .. }
            | Request::Resume { .. } => {
                Reply::Ask(Request::Within(Within { token, target }, Box::new(request)))
            }
            _ => {
                let why = format!("the token {token} sends to hosts of {target} only");
                Reply::Now(HttpResponse::error(403, &why))
            }
        }
    }

    /// Returns whether it is still admitted under these rules.
    #[must_use]
    pub fn is_admitted(&self, rules: &HttpRules) -> bool {
        match (&self.token, &rules.tokens) {
            (_, None) => true,
            (Some(token), Some(tokens)) => tokens.has(token),
            (None, Some(_)) => false,
        }
    }

    /// Checks its role.
    ///
    /// # Errors
    /// 403 if it has not the rights of `role`.
    pub fn check(&self, role: Role) -> Result<(), HttpResponse> {
        let Some(token) = self.token.as_ref().filter(|token| token.role < role) else {
            return Ok(());
        };
        let (name, own) = (&token.name, token.role.as_str());
        let why = format!(
            "the token {name} has the role {own}, and this request needs {}",
            role.as_str()
        );
        Err(HttpResponse::error(403, &why))
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
    /// Judges a request by its head. Returns its sender.
    ///
    /// # Errors
    /// The response to a refused request: 421, 403 or 401.
    pub fn judge(&self, head: &Head<'_>) -> Result<Caller, HttpResponse> {
        if head.host.is_some_and(|host| !self.is_ours(host)) {
            return Err(HttpResponse::error(
                421,
                "Host is not the bound address, localhost or one of server.http_names; \
                 a name at another port, such as a proxy's, is listed there as NAME:PORT",
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
        if routes::is_open(head.path) {
            return Ok(Caller::default());
        }
        let Some(tokens) = &self.rules.tokens else {
            if self.rules.write_needs_token && !head.is_read() {
                return Err(HttpResponse::error(401, NO_TOKEN_SET).noting(Note::Authenticate));
            }
            return Ok(Caller::default());
        };
        let Some(text) = head.authorization else {
            let answer = HttpResponse::error(401, "a token is needed: Authorization: Bearer TOKEN");
            return Err(answer.noting(Note::Authenticate));
        };
        let token = given_token(text).and_then(|given| tokens.find(given));
        match token.cloned() {
            Some(token) => Ok(Caller { token: Some(token) }),
            None => Err(HttpResponse::error(401, "the token is wrong").noting(Note::WrongToken)),
        }
    }

    fn is_ours(&self, authority: &str) -> bool {
        self.is_address(authority) || self.is_name(authority)
    }

    /// Checks an origin: a scheme and an authority. A name may have `https`, from a TLS proxy
    /// before this server.
    fn is_our_origin(&self, origin: &str) -> bool {
        if let Some(authority) = origin.strip_prefix("http://") {
            return !self.rules.is_tls && self.is_ours(authority);
        }
        let secure = origin.strip_prefix("https://");
        secure.is_some_and(|authority| match self.rules.is_tls {
            true => self.is_ours(authority),
            false => self.is_name(authority),
        })
    }

    fn is_address(&self, authority: &str) -> bool {
        let (ip, port) = match authority.parse::<SocketAddr>() {
            Ok(address) => (address.ip(), address.port()),
            Err(_) => match parse_ip(authority) {
                Some(ip) if self.rules.is_tls => (ip, HTTPS_PORT),
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

/// The token in a header.
fn given_token(authorization: &str) -> Option<&str> {
    let (scheme, given) = authorization.split_once(' ')?;
    let is_bearer = scheme.eq_ignore_ascii_case("Bearer");
    is_bearer.then(|| given.trim())
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::request::parse;
    use crate::control::testing::admin;
    use crate::keys::digest_of;

    /// Judges `line` with the header `lines` at the address `bound`, asked at `local`.
    fn judge(
        rules: &HttpRules,
        (bound, local): (&str, &str),
        line: &str,
        lines: &str,
    ) -> Result<Caller, HttpResponse> {
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
        judged.map_or_else(|refusal| refusal.status, |_| 200)
    }

    fn rules(token: Option<&str>) -> HttpRules {
        HttpRules {
            names: vec!["ants.example".into(), "proxy:8443".into()],
            tokens: token.map(admin),
            ..HttpRules::default()
        }
    }

    #[test]
    fn with_tls_the_origin_is_https() {
        let rules = HttpRules {
            is_tls: true,
            ..rules(None)
        };
        let status = |lines: &str| {
            let judged = judge(&rules, ("10.0.0.5:443", "10.0.0.5:443"), "GET /", lines);
            judged.map_or_else(|refusal| refusal.status, |_| 200)
        };
        for (lines, expected) in [
            ("Host: 10.0.0.5", 200),
            ("Host: 10.0.0.5:80", 421),
            ("Host: 10.0.0.5\r\nOrigin: https://10.0.0.5", 200),
            ("Host: 10.0.0.5\r\nOrigin: https://ants.example", 200),
            ("Host: 10.0.0.5\r\nOrigin: http://10.0.0.5", 403),
            ("Host: 10.0.0.5\r\nOrigin: http://ants.example", 403),
        ] {
            assert_eq!(status(lines), expected, "{lines}");
        }
    }

    fn table(bound: &str, local: &str, cases: &[(&str, u16)]) {
        for (lines, expected) in cases {
            let judged = judge(&rules(None), (bound, local), "GET /v1/hosts", lines);
            let status = judged.map_or_else(|refusal| refusal.status, |_| 200);
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
    fn a_caller_has_the_rights_of_its_token() {
        let mut tokens = Tokens::default();
        for role in Role::ALL {
            let digest = digest_of(&format!("the {}", role.as_str()));
            tokens.insert(role.as_str(), digest, role, None).unwrap();
        }
        let rules = HttpRules {
            tokens: Some(Arc::new(tokens)),
            ..HttpRules::default()
        };
        let local = ("127.0.0.1:1", "127.0.0.1:1");
        for role in Role::ALL {
            let lines = format!("Authorization: Bearer the {}", role.as_str());
            let lines = format!("Host: localhost\r\n{lines}");
            let caller = judge(&rules, local, "GET /v1/hosts", &lines).unwrap();
            assert_eq!(caller.name(), Some(role.as_str()));
            for needed in Role::ALL {
                let status = caller.check(needed).map_or_else(|no| no.status, |()| 200);
                let expected = if role >= needed { 200 } else { 403 };
                assert_eq!(status, expected, "{role:?} {needed:?}");
            }
            assert!(caller.is_admitted(&rules));
            let none = HttpRules {
                tokens: Some(Arc::default()),
                ..HttpRules::default()
            };
            assert!(!caller.is_admitted(&none));
        }
        assert_eq!(Caller::default().check(Role::Admin), Ok(()));
    }

    #[test]
    fn the_token_is_never_shown() {
        let shown = format!("{:?}", rules(Some("sesame")));
        let digest = crate::keys::Hex(&digest_of("sesame")).to_string();
        assert!(
            !shown.contains("sesame") && !shown.contains(&digest),
            "{shown}"
        );
    }
}
