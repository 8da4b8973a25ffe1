//! Parser for requests: the head, the target and its query.
//!
//! Framing is decided without ambiguity: two lengths that differ, a length beside a transfer
//! coding, or an unknown coding are refused.

use std::borrow::Cow;

use super::response::HttpResponse;
use crate::escape::whole_number;
use crate::handlers::survey::{Grouping, NODE_LABEL};
use crate::handlers::view::{Filter, PageStart};
use crate::limits::{HTTP_BODY_BYTES_MAX, HTTP_HEAD_BYTES_MAX, HTTP_HEADERS_MAX, LABEL_BYTES_MAX};
use crate::time::UnixMs;

/// Path of the requests whose method is POST and that change nothing.
const PLAN_PATH: &str = "/v1/plan";

/// The used parts of a request's head. Texts are trimmed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head<'a> {
    /// The method, in its original case.
    pub method: &'a str,
    /// The target's path, with its escapes.
    pub path: &'a str,
    /// The query, behind the `?`.
    pub query: Option<&'a str>,
    /// Host of the request: from the target if it is a whole URL, else from `Host`. Only a request
    /// of HTTP/1.0 may have none.
    pub host: Option<&'a str>,
    /// `Origin`.
    pub origin: Option<&'a str>,
    /// A browser marks the request as made by another site.
    pub cross_site: bool,
    /// `Authorization`.
    pub authorization: Option<&'a str>,
    /// `Content-Type`.
    pub content_type: Option<&'a str>,
    /// `If-None-Match`.
    pub if_none_match: Option<&'a str>,
    /// Bytes of the body that follows the head.
    pub body_len: usize,
    /// The connection ends after this request.
    pub close: bool,
    /// The peer waits for `100 Continue` before it sends the body.
    pub expects_continue: bool,
    /// `Accept-Encoding` names gzip.
    pub accepts_gzip: bool,
}

impl Head<'_> {
    /// Returns whether the response is sent without its body.
    #[must_use]
    pub fn is_head(&self) -> bool {
        self.method == "HEAD"
    }

    /// Returns whether the request changes nothing: by its method, or as a plan.
    #[must_use]
    pub fn is_read(&self) -> bool {
        matches!(self.method, "GET" | "HEAD") || self.path == PLAN_PATH
    }
}

/// The head at the beginning of `bytes` and its length in bytes, or `None` if it is not whole yet.
///
/// # Errors
/// The response to bytes that are no request, or a request that is too large. The connection cannot be used
/// afterwards: the beginning of the next request is not known.
pub fn parse(bytes: &[u8]) -> Result<Option<(Head<'_>, usize)>, HttpResponse> {
    // Bytes beyond the bound are ignored, so the response does not depend on how many have arrived.
    let window = &bytes[..bytes.len().min(HTTP_HEAD_BYTES_MAX)];
    let mut lines = [httparse::EMPTY_HEADER; HTTP_HEADERS_MAX];
    let mut request = httparse::Request::new(&mut lines);
    match request.parse(window) {
        Ok(httparse::Status::Complete(len)) => Ok(Some((read(&request)?, len))),
        Ok(httparse::Status::Partial) if window.len() < HTTP_HEAD_BYTES_MAX => Ok(None),
        Ok(httparse::Status::Partial) => Err(HttpResponse::error(
            431,
            &format!("the head of a request has at most {HTTP_HEAD_BYTES_MAX} bytes"),
        )),
        Err(httparse::Error::TooManyHeaders) => Err(HttpResponse::error(
            431,
            &format!("a request has at most {HTTP_HEADERS_MAX} header lines"),
        )),
        Err(httparse::Error::Version) => Err(HttpResponse::error(
            505,
            "only HTTP/1.0 and HTTP/1.1 are spoken here",
        )),
        Err(error) => Err(bad(&format!("not an HTTP request: {error}"))),
    }
}

/// Header lines about the length of the body.
#[derive(Default)]
struct Framing<'a> {
    length: Option<u64>,
    coding: Option<&'a str>,
}

fn read<'a>(request: &httparse::Request<'_, 'a>) -> Result<Head<'a>, HttpResponse> {
    let minor = request.version.unwrap_or(1);
    let target = request.path.and_then(Target::parse);
    let target = target.ok_or_else(|| bad("the target of a request is a path"))?;
    let mut head = Head {
        method: request.method.unwrap_or_default(),
        path: target.path,
        query: target.query,
        host: None,
        origin: None,
        cross_site: false,
        authorization: None,
        content_type: None,
        if_none_match: None,
        body_len: 0,
        close: minor == 0,
        expects_continue: false,
        accepts_gzip: false,
    };
    let mut framing = Framing::default();
    for line in request.headers.iter() {
        read_line(&mut head, &mut framing, minor, line)?;
    }
    if head.host.is_none() && minor == 1 {
        return Err(bad("a request of HTTP/1.1 needs a Host"));
    }
    head.host = target.authority.or(head.host);
    head.body_len = framing.body_len()?;
    Ok(head)
}

/// Returns whether an item of `Accept-Encoding` admits gzip: a weight of 0 excludes it.
fn is_gzip(item: &str) -> bool {
    let mut parts = item.split(';').map(str::trim);
    let name = parts.next().unwrap_or_default();
    let weight = parts.find_map(|part| part.strip_prefix("q="));
    name.eq_ignore_ascii_case("gzip")
        && weight.is_none_or(|q| q.bytes().any(|b| matches!(b, b'1'..=b'9')))
}

fn read_line<'a>(
    head: &mut Head<'a>,
    framing: &mut Framing<'a>,
    minor: u8,
    line: &httparse::Header<'a>,
) -> Result<(), HttpResponse> {
    let text = || text_of(line);
    match line.name.to_ascii_lowercase().as_str() {
        "host" => once(&mut head.host, line)?,
        "origin" => once(&mut head.origin, line)?,
        "authorization" => once(&mut head.authorization, line)?,
        "content-type" => once(&mut head.content_type, line)?,
        "if-none-match" => once(&mut head.if_none_match, line)?,
        "accept-encoding" => head.accepts_gzip |= text()?.split(',').any(is_gzip),
        "transfer-encoding" => framing.coding = Some(text()?),
        "content-length" => framing.take_length(text()?)?,
        "sec-fetch-site" => head.cross_site |= text()?.eq_ignore_ascii_case("cross-site"),
        "connection" => {
            for word in text()?.split(',').map(str::trim) {
                if word.eq_ignore_ascii_case("close") {
                    head.close = true;
                } else if word.eq_ignore_ascii_case("keep-alive") && minor == 0 {
                    head.close = false;
                }
            }
        }
        "expect" if minor == 1 => {
            if !text()?.eq_ignore_ascii_case("100-continue") {
                return Err(HttpResponse::error(
                    417,
                    "only 100-continue can be expected",
                ));
            }
            head.expects_continue = true;
        }
        _ => {}
    }
    Ok(())
}

impl<'a> Framing<'a> {
    /// Takes a `Content-Length`, which may be a list of equal numbers.
    fn take_length(&mut self, text: &'a str) -> Result<(), HttpResponse> {
        for item in text.split(',').map(str::trim) {
            if item.is_empty() || !item.bytes().all(|byte| byte.is_ascii_digit()) {
                return Err(bad("Content-Length is not a number"));
            }
            // A number that does not fit is too large, and is refused below.
            let length = item.parse().unwrap_or(u64::MAX);
            if self.length.is_some_and(|other| other != length) {
                return Err(bad("two values of Content-Length differ"));
            }
            self.length = Some(length);
        }
        Ok(())
    }

    fn body_len(&self) -> Result<usize, HttpResponse> {
        let length = usize::try_from(self.length.unwrap_or(0)).unwrap_or(usize::MAX);
        let (status, why) = match self.coding {
            None if length <= HTTP_BODY_BYTES_MAX => return Ok(length),
            None => {
                let why = format!("a body has at most {HTTP_BODY_BYTES_MAX} bytes");
                return Err(HttpResponse::error(413, &why));
            }
            Some(_) if self.length.is_some() => (
                400,
                "Content-Length and Transfer-Encoding exclude each other",
            ),
            Some(coding) if coding.eq_ignore_ascii_case("chunked") => {
                (411, "a body needs a Content-Length here")
            }
            Some(_) => (501, "no transfer coding is understood here"),
        };
        Err(HttpResponse::error(status, why))
    }
}

/// The parts of a request's target, undecoded.
struct Target<'a> {
    /// The authority of a whole URL, which a proxy receives.
    authority: Option<&'a str>,
    path: &'a str,
    query: Option<&'a str>,
}

impl<'a> Target<'a> {
    /// Parses a path or an `http` URL.
    fn parse(text: &'a str) -> Option<Self> {
        let (authority, rest) = if text.starts_with('/') {
            (None, text)
        } else {
            let rest = strip_scheme(text)?;
            let end = rest.find(['/', '?']).unwrap_or(rest.len());
            (Some(&rest[..end]), &rest[end..])
        };
        let (path, query) = match rest.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (rest, None),
        };
        Some(Self {
            authority,
            path: if path.is_empty() { "/" } else { path },
            query,
        })
    }
}

fn strip_scheme(text: &str) -> Option<&str> {
    const SCHEME: &str = "http://";
    let scheme = text.get(..SCHEME.len())?;
    scheme
        .eq_ignore_ascii_case(SCHEME)
        .then(|| &text[SCHEME.len()..])
}

fn once<'a>(place: &mut Option<&'a str>, line: &httparse::Header<'a>) -> Result<(), HttpResponse> {
    if place.replace(text_of(line)?).is_some() {
        return Err(bad(&format!("{} is given twice", line.name)));
    }
    Ok(())
}

fn text_of<'a>(line: &httparse::Header<'a>) -> Result<&'a str, HttpResponse> {
    std::str::from_utf8(line.value.trim_ascii())
        .map_err(|_| bad(&format!("{} is not UTF-8", line.name)))
}

fn bad(text: &str) -> HttpResponse {
    HttpResponse::error(400, text)
}

/// A parameter that an endpoint has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parameter {
    /// Selects hosts by their state.
    State,
    /// Maximum number of entries on a page, with its bound. A larger one is lowered to the bound.
    Limit(usize),
    /// Start of a page.
    Cursor,
    /// Start of a page of hosts.
    Start,
    /// Selects hosts by their node.
    Node,
    /// The command of an output; required.
    Command,
    /// The command of a result.
    OfCommand,
    /// Number of minutes up to now, with its bound. A larger one is lowered to the bound.
    Minutes(u64),
    /// A time, as RFC 3339 or in milliseconds from 1970; required.
    At,
    /// Properties by which hosts are grouped: at most so many.
    By(usize),
    /// Selects hosts by a target.
    Target,
}

impl Parameter {
    const fn name(self) -> &'static str {
        match self {
            Self::State => "state",
            Self::Limit(_) => "limit",
            Self::Cursor | Self::Start => "cursor",
            Self::Node => "node",
            Self::Command | Self::OfCommand => "command",
            Self::Minutes(_) => "minutes",
            Self::At => "at",
            Self::By(_) => "by",
            Self::Target => "target",
        }
    }
}

/// The parameters of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parameters {
    /// Selection of hosts.
    pub filter: Filter,
    /// Maximum number of entries.
    pub limit: usize,
    /// Start of the page; 0 is the beginning.
    pub cursor: u64,
    /// Start of a page of hosts.
    pub start: PageStart,
    /// Name of a node.
    pub node: Option<String>,
    /// The command of an output.
    pub command: String,
    /// Number of minutes.
    pub minutes: u64,
    /// A time.
    pub at: UnixMs,
    /// Properties by which hosts are grouped: networks, unless the request says otherwise.
    pub by: Vec<Grouping>,
    /// Text of a target.
    pub target: Option<String>,
}

impl Parameters {
    /// Parses `query`, which may have the parameters `allowed`.
    ///
    /// # Errors
    /// 400 for a parameter that is unknown, repeated, wrong or missing, or that has a broken escape.
    pub fn parse(query: Option<&str>, allowed: &[Parameter]) -> Result<Self, HttpResponse> {
        let mut given: Vec<(Parameter, Option<String>)> = Vec::new();
        given.extend(allowed.iter().map(|parameter| (*parameter, None)));
        for pair in pairs(query.unwrap_or_default()) {
            let Some((name, value)) = pair else {
                return Err(bad("the query has a broken % escape"));
            };
            let Some((_, place)) = given.iter_mut().find(|(known, _)| known.name() == name) else {
                return Err(bad(&format!("unknown parameter {name:?}")));
            };
            if place.replace(value.into_owned()).is_some() {
                return Err(bad(&format!("{name} is given twice")));
            }
        }
        let mut parsed = Self::default();
        for (parameter, text) in given {
            match (parameter, text) {
                (Parameter::Limit(max), None) => parsed.limit = max,
                (Parameter::Limit(max), Some(text)) => parsed.limit = limit(&text, max)?,
                (Parameter::State, Some(text)) => parsed.filter = filter(&text)?,
                (Parameter::Cursor, Some(text)) => parsed.cursor = cursor(&text)?,
                (Parameter::Start, Some(text)) => parsed.start = start(&text)?,
                (Parameter::Node, Some(text)) => parsed.node = Some(node(text)?),
                (Parameter::Command | Parameter::OfCommand, Some(text)) => parsed.command = text,
                (Parameter::By(_), None) => parsed.by = vec![Grouping::Network],
                (Parameter::By(max), Some(text)) => parsed.by = groupings(&text, max)?,
                (Parameter::Minutes(max), text) => parsed.minutes = minutes(text.as_deref(), max)?,
                (Parameter::At, Some(text)) => parsed.at = time(&text)?,
                (Parameter::At, None) => return Err(bad("the parameter at is missing")),
                (Parameter::Command, None) => return Err(bad("the parameter command is missing")),
                (Parameter::Target, Some(text)) => parsed.target = Some(text),
                (
                    Parameter::State
                    | Parameter::Cursor
                    | Parameter::Start
                    | Parameter::Node
                    | Parameter::OfCommand
                    | Parameter::Target,
                    None,
                ) => {}
            }
        }
        Ok(parsed)
    }
}

fn limit(text: &str, max: usize) -> Result<usize, HttpResponse> {
    match whole_number::<u64>(text) {
        Some(limit @ 1..) => Ok(usize::try_from(limit).map_or(max, |limit| limit.min(max))),
        _ => Err(bad(&format!("limit is {text:?}, and may be 1 to {max}"))),
    }
}

fn minutes(text: Option<&str>, max: u64) -> Result<u64, HttpResponse> {
    match text.map(whole_number::<u64>) {
        None => Ok(60),
        Some(Some(minutes @ 1..)) => Ok(minutes.min(max)),
        Some(_) => Err(bad(&format!("minutes may be 1 to {max}"))),
    }
}

fn time(text: &str) -> Result<UnixMs, HttpResponse> {
    let millis = || {
        let time = humantime::parse_rfc3339_weak(text).ok()?;
        let since = time.duration_since(std::time::UNIX_EPOCH).ok()?;
        u64::try_from(since.as_millis()).ok()
    };
    let time = whole_number::<u64>(text).or_else(millis);
    time.map(UnixMs).ok_or_else(|| {
        bad(&format!(
            "at is {text:?}, and may be a time such as 2026-11-21T10:00:00Z"
        ))
    })
}

fn cursor(text: &str) -> Result<u64, HttpResponse> {
    whole_number(text).ok_or_else(|| bad(&format!("cursor is {text:?}, which no page has given")))
}

fn start(text: &str) -> Result<PageStart, HttpResponse> {
    PageStart::parse(text)
        .ok_or_else(|| bad(&format!("cursor is {text:?}, which no page has given")))
}

fn node(text: String) -> Result<String, HttpResponse> {
    match text.is_empty() {
        true => Err(bad("node is empty, and may be the name of a node, or self")),
        false => Ok(text),
    }
}

fn filter(text: &str) -> Result<Filter, HttpResponse> {
    match text {
        "online" => Ok(Filter::Online),
        "offline" => Ok(Filter::Offline),
        other => Err(bad(&format!(
            "state is {other:?}, and may be online or offline"
        ))),
    }
}

fn groupings(text: &str, max: usize) -> Result<Vec<Grouping>, HttpResponse> {
    let parts: Vec<&str> = text.split(',').collect();
    if parts.len() > max {
        return Err(bad(&format!("by is {text:?}, and may have {max} parts")));
    }
    let parse = |part: &str| match part {
        "net24" => Ok(Grouping::Network),
        "node" => Ok(Grouping::Label(NODE_LABEL.to_owned())),
        other => match other.strip_prefix("label:") {
            Some(key) if is_label_key(key) => Ok(Grouping::Label(key.to_owned())),
            _ => Err(bad(&format!(
                "by is {other:?}, and may be net24, node or label:KEY"
            ))),
        },
    };
    parts.into_iter().map(parse).collect()
}

fn is_label_key(key: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    (1..=LABEL_BYTES_MAX).contains(&key.len()) && key.bytes().all(allowed)
}

/// Parameters of a query, in order, decoded. `None` stands for a broken escape.
fn pairs(query: &str) -> impl Iterator<Item = Option<(Cow<'_, str>, Cow<'_, str>)>> {
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    pairs.map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        Some((decode_form(name)?, decode_form(value)?))
    })
}

/// Decodes `text` like [`decode`], with `+` as a blank.
fn decode_form(text: &str) -> Option<Cow<'_, str>> {
    if !text.contains('+') {
        return decode(text);
    }
    decode(&text.replace('+', " ")).map(|plain| Cow::Owned(plain.into_owned()))
}

/// Replaces each `%XX` with its byte. Returns `None` if an escape is broken or the bytes are not
/// UTF-8.
#[must_use]
pub fn decode(text: &str) -> Option<Cow<'_, str>> {
    if !text.contains('%') {
        return Some(Cow::Borrowed(text));
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => hex_digit(rest.next()?)? << 4 | hex_digit(rest.next()?)?,
            plain => plain,
        });
    }
    String::from_utf8(bytes).ok().map(Cow::Owned)
}

fn hex_digit(byte: u8) -> Option<u8> {
    let digit = char::from(byte).to_digit(16)?;
    u8::try_from(digit).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn status(request: &[u8]) -> Option<u16> {
        match parse(request) {
            Ok(Some(_)) => Some(200),
            Ok(None) => None,
            Err(response) => Some(response.status),
        }
    }

    fn head(text: &str) -> Head<'_> {
        let (head, len) = parse(text.as_bytes()).unwrap().unwrap();
        assert_eq!(len, text.len());
        head
    }

    #[test]
    fn gzip_is_accepted_by_name_and_weight() {
        for (value, accepted) in [
            ("gzip", true),
            ("deflate, GZIP;q=0.5, br", true),
            ("gzip;q=0", false),
            ("gzip; q=0.000", false),
            ("br", false),
            ("x-gzip-not", false),
        ] {
            let bytes = format!("GET / HTTP/1.1\r\nHost: a\r\nAccept-Encoding: {value}\r\n\r\n");
            let (head, _) = parse(bytes.as_bytes()).unwrap().unwrap();
            assert_eq!(head.accepts_gzip, accepted, "{value}");
        }
    }

    #[test]
    fn a_head_is_read_whole() {
        let head = head(
            "POST /v1/x?a=b HTTP/1.1\r\nHOST: h:1 \r\nOrigin:http://h\r\nauthorization: Bearer t\r\n\
             Content-Type: application/json\r\nContent-Length: 7\r\nExpect: 100-Continue\r\n\
             If-None-Match: \"a\"\r\n\
             Connection: x, close\r\nSec-Fetch-Site: same-origin\r\n\r\n",
        );
        let expected = Head {
            method: "POST",
            path: "/v1/x",
            query: Some("a=b"),
            host: Some("h:1"),
            origin: Some("http://h"),
            cross_site: false,
            authorization: Some("Bearer t"),
            content_type: Some("application/json"),
            if_none_match: Some("\"a\""),
            body_len: 7,
            close: true,
            expects_continue: true,
            accepts_gzip: false,
        };
        assert_eq!(head, expected);
    }

    #[test]
    fn only_http_1_1_keeps_connections_by_default() {
        assert!(!head("GET / HTTP/1.1\r\nHost: h\r\n\r\n").close);
        assert!(head("GET / HTTP/1.0\r\n\r\n").close);
        assert!(!head("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n").close);
        assert!(head("GET / HTTP/1.1\r\nHost: h\r\nConnection: close, keep-alive\r\n\r\n").close);
    }

    #[test]
    fn the_host_of_a_whole_url_is_used() {
        let head = head("GET http://other/p HTTP/1.1\r\nHost: h\r\n\r\n");
        assert_eq!((head.host, head.path), (Some("other"), "/p"));
    }

    #[test]
    fn a_target_is_a_path_or_a_url() {
        let parts = |text| Target::parse(text).map(|t| (t.authority, t.path, t.query));
        assert_eq!(parts("/"), Some((None, "/", None)));
        assert_eq!(parts("/a?b=c?d"), Some((None, "/a", Some("b=c?d"))));
        assert_eq!(
            parts("HTTP://h:1/a?b"),
            Some((Some("h:1"), "/a", Some("b")))
        );
        assert_eq!(parts("http://h?b"), Some((Some("h"), "/", Some("b"))));
        assert_eq!(parts("http://h"), Some((Some("h"), "/", None)));
        for bad in ["*", "h:1", "a", "", "httpé://x", "https://h/"] {
            assert_eq!(parts(bad), None, "{bad}");
        }
    }

    #[test]
    fn ambiguous_framing_is_refused() {
        let cases = [
            ("Content-Length: 5\r\n", 200),
            ("Content-Length: 5\r\nContent-Length: 5\r\n", 200),
            ("Content-Length: 5, 5\r\n", 200),
            ("Content-Length: 5\r\nContent-Length: 6\r\n", 400),
            ("Content-Length: 5, 6\r\n", 400),
            ("Content-Length: +5\r\n", 400),
            ("Content-Length: -5\r\n", 400),
            ("Content-Length: 0x5\r\n", 400),
            ("Content-Length: \r\n", 400),
            ("Content-Length: 4194304\r\n", 200),
            ("Content-Length: 4194305\r\n", 413),
            ("Content-Length: 99999999999999999999999999\r\n", 413),
            ("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", 400),
            ("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", 400),
            ("Transfer-Encoding: chunked\r\n", 411),
            ("Transfer-Encoding: gzip, chunked\r\n", 501),
            ("Transfer-Encoding: identity\r\n", 501),
            ("Host: again\r\n", 400),
            ("Origin: a\r\nOrigin: b\r\n", 400),
            ("Authorization: a\r\nAuthorization: b\r\n", 400),
            ("Expect: wonders\r\n", 417),
            ("Folded: a\r\n b\r\n", 400),
            ("Space : a\r\n", 400),
            ("Nul: a\0b\r\n", 400),
            ("no colon\r\n", 400),
        ];
        for (lines, expected) in cases {
            let request = format!("POST / HTTP/1.1\r\nHost: h\r\n{lines}\r\n");
            assert_eq!(status(request.as_bytes()), Some(expected), "{lines:?}");
        }
    }

    #[test]
    fn bytes_of_another_protocol_are_refused_at_once() {
        let cases: [(&[u8], u16); 8] = [
            (b"\x16\x03\x01\x02\x00\x01\x00", 400),
            (b"GET / HTTP/2.0\r\n\r\n", 505),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
            (b"GET / HTTP/1.1\r\n\r\n", 400),
            (b"GET * HTTP/1.1\r\nHost: h\r\n\r\n", 400),
            (b"CONNECT h:1 HTTP/1.1\r\nHost: h\r\n\r\n", 400),
            (b"GET /\0 HTTP/1.1\r\n\r\n", 400),
            (b"\0\0\0\x20{\"flag\"", 400),
        ];
        for (request, expected) in cases {
            assert_eq!(status(request), Some(expected), "{request:?}");
        }
    }

    #[test]
    fn a_bare_line_feed_ends_a_line() {
        assert_eq!(status(b"GET / HTTP/1.1\nHost: h\n\n"), Some(200));
    }

    #[test]
    fn heads_have_a_bound_in_bytes_and_in_lines() {
        let padded = |len: usize| {
            let start = "GET / HTTP/1.1\r\nHost: h\r\nX: ";
            format!("{start}{}\r\n\r\n", "x".repeat(len - start.len() - 4))
        };
        assert_eq!(status(padded(HTTP_HEAD_BYTES_MAX).as_bytes()), Some(200));
        let above = padded(HTTP_HEAD_BYTES_MAX + 1);
        assert_eq!(status(above.as_bytes()), Some(431));
        assert_eq!(status(&above.as_bytes()[..HTTP_HEAD_BYTES_MAX]), Some(431));
        assert_eq!(status(&above.as_bytes()[..HTTP_HEAD_BYTES_MAX - 1]), None);

        let lines = |count: usize| {
            format!(
                "GET / HTTP/1.1\r\nHost: h\r\n{}\r\n",
                "a: b\r\n".repeat(count - 1)
            )
        };
        assert_eq!(status(lines(HTTP_HEADERS_MAX).as_bytes()), Some(200));
        assert_eq!(status(lines(HTTP_HEADERS_MAX + 1).as_bytes()), Some(431));
    }

    proptest! {
        #[test]
        fn any_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            if let Ok(Some((_, len))) = parse(&bytes) {
                prop_assert!(len <= bytes.len());
            }
        }

        #[test]
        fn a_damaged_request_never_panics(at in 0usize..200, byte: u8, cut in 0usize..200) {
            let mut bytes = b"POST /v1/hosts?x=%41 HTTP/1.1\r\nHost: localhost\r\nOrigin: http://a\r\n\
                Content-Length: 12\r\nConnection: close\r\nExpect: 100-continue\r\n\r\n".to_vec();
            let at = at % bytes.len();
            bytes[at] = byte;
            bytes.truncate(bytes.len() - cut % bytes.len());
            if let Ok(Some((head, len))) = parse(&bytes) {
                prop_assert!(len <= bytes.len() && head.body_len <= HTTP_BODY_BYTES_MAX);
            }
        }
    }

    #[test]
    fn parameters_have_any_order_and_stand_once() {
        let all = [Parameter::State, Parameter::Limit(10), Parameter::Cursor];
        let expected = Parameters {
            filter: Filter::Online,
            limit: 3,
            cursor: u64::MAX,
            command: String::new(),
            by: Vec::new(),
            ..Parameters::default()
        };
        let query = "cursor=18446744073709551615&state=online&limit=3";
        assert_eq!(Parameters::parse(Some(query), &all), Ok(expected));
        assert_eq!(Parameters::parse(None, &[]), Ok(Parameters::default()));
        for bad in [
            "limit=1&limit=1",
            "d=1",
            "limit=%",
            "limit=1&b",
            "command=a",
        ] {
            assert_eq!(
                Parameters::parse(Some(bad), &all).unwrap_err().status,
                400,
                "{bad}"
            );
        }
        assert!(Parameters::parse(None, &[Parameter::Command]).is_err());
    }

    #[test]
    fn a_page_is_within_its_bound() {
        let all = [Parameter::Limit(10), Parameter::Cursor];
        let page = |query: &str| {
            Parameters::parse(Some(query), &all).map(|page| (page.limit, page.cursor))
        };
        assert_eq!(page(""), Ok((10, 0)));
        assert_eq!(page("limit=11"), Ok((10, 0)));
        for bad in ["", "%2B1", "+1", "x", "99999999999999999999999"] {
            assert!(page(&format!("limit={bad}")).is_err(), "{bad}");
            assert!(page(&format!("cursor={bad}")).is_err(), "{bad}");
        }
        assert!(page("limit=0").is_err());
    }

    #[test]
    fn escapes_are_bytes_of_utf8() {
        assert_eq!(decode("a%2Fb%c3%a4").as_deref(), Some("a/bä"));
        for bad in ["%", "%2", "%zz", "%ff", "%+1"] {
            assert_eq!(decode(bad), None, "{bad}");
        }
    }

    #[test]
    fn pairs_come_in_order() {
        let all: Vec<_> = pairs("a=1&&b&c=%3d=&d=%&e=df+-h%2B").collect();
        assert_eq!(
            all,
            [
                Some(("a".into(), "1".into())),
                Some(("b".into(), "".into())),
                Some(("c".into(), "==".into())),
                None,
                Some(("e".into(), "df -h+".into()))
            ]
        );
    }

    proptest! {
        #[test]
        fn an_escaped_text_is_decoded(text in ".*") {
            let escaped: String = text.bytes().map(|byte| format!("%{byte:02X}")).collect();
            let decoded = decode(&escaped);
            prop_assert_eq!(decoded.as_deref(), Some(text.as_str()));
        }

        #[test]
        fn any_escapes_never_panic(text in "[a%?&=/:ä0-9]{0,40}") {
            prop_assert!(pairs(&text).count() <= text.len());
            let decoded = decode(&text).map_or(0, |plain| plain.len());
            prop_assert!(decoded <= text.len());
        }
    }
}
