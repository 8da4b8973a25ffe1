//! HTTP written out by hand, so that it can also be wrong.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use super::PATIENCE;

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
    let length = body.len();
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: {server}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n"
    );
    exchange(server, &head, body)
}

/// Sends `head`, closes behind it, and reads the answer.
#[track_caller]
pub fn request(server: SocketAddr, head: &str) -> Answer {
    exchange(server, head, "")
}

#[track_caller]
fn exchange(server: SocketAddr, head: &str, body: &str) -> Answer {
    let mut stream = TcpStream::connect(server).expect("HTTP");
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let head = format!("{head}Connection: close\r\n\r\n{body}");
    stream.write_all(head.as_bytes()).expect("HTTP");
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).expect("an answer over HTTP");
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
