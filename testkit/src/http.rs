//! HTTP written out by hand, so that it can also be wrong.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};

use crate::PATIENCE;

/// An answer.
#[derive(Debug)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// Its header lines, names in lower case.
    pub headers: Vec<(String, String)>,
    /// Its body.
    pub body: String,
}

impl Answer {
    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }
}

/// Asks for `path`.
#[track_caller]
pub fn get(server: SocketAddr, path: &str) -> Answer {
    request(
        server,
        &format!("GET {path} HTTP/1.1\r\nHost: {server}\r\n"),
    )
}

/// Sends `body` as JSON to `path`.
#[track_caller]
pub fn post(server: SocketAddr, path: &str, body: &str) -> Answer {
    exchange(server, &post_head(server, path, body), body)
}

/// Sends `body` as JSON to `path` with the method PATCH.
#[track_caller]
pub fn patch(server: SocketAddr, path: &str, body: &str) -> Answer {
    let head = post_head(server, path, body).replacen("POST", "PATCH", 1);
    exchange(server, &head, body)
}

fn post_head(server: SocketAddr, path: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "POST {path} HTTP/1.1\r\nHost: {server}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n"
    )
}

/// Sends `head`, closes behind it, and reads the answer.
#[track_caller]
pub fn request(server: SocketAddr, head: &str) -> Answer {
    exchange(server, head, "")
}

/// Sends `body` as JSON under the request line `line`, with the header lines `headers`.
#[track_caller]
pub fn send(server: SocketAddr, line: &str, headers: &str, body: &str) -> Answer {
    let length = body.len();
    let head = format!(
        "{line} HTTP/1.1\r\nHost: {server}\r\nContent-Type: application/json\r\n\
         Content-Length: {length}\r\n{headers}"
    );
    exchange(server, &head, body)
}

/// The same where the server may die under it: the status.
pub fn try_post(server: SocketAddr, path: &str, body: &str) -> Option<u16> {
    let bytes = try_exchange(server, &post_head(server, path, body), body).ok()?;
    let line = bytes.split(|byte| *byte == b'\r').next()?;
    let status = std::str::from_utf8(line).ok()?.split(' ').nth(1)?;
    status.parse().ok()
}

/// The body at `path`, which may be any bytes.
#[track_caller]
pub fn get_bytes(server: SocketAddr, path: &str) -> Vec<u8> {
    let head = format!("GET {path} HTTP/1.1\r\nHost: {server}\r\n");
    let bytes = try_exchange(server, &head, "").expect("an answer over HTTP");
    assert!(bytes.starts_with(b"HTTP/1.1 200 "), "no 200");
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n");
    bytes[end.expect("a head") + 4..].to_vec()
}

fn try_exchange(server: SocketAddr, head: &str, body: &str) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(server)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let head = format!("{head}Connection: close\r\n\r\n{body}");
    stream.write_all(head.as_bytes())?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[track_caller]
fn exchange(server: SocketAddr, head: &str, body: &str) -> Answer {
    let bytes = try_exchange(server, head, body).expect("an answer over HTTP");
    let text = String::from_utf8(bytes).expect("text");
    let (head, body) = text.split_once("\r\n\r\n").expect("a head");
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1));
    let headers = lines.map(|line| {
        let (name, value) = line.split_once(": ").expect("a header");
        (name.to_lowercase(), value.to_owned())
    });
    Answer {
        status: status.expect("a status").parse().expect("a status"),
        headers: headers.collect(),
        body: body.to_owned(),
    }
}
