//! Notifications: their content, and a hanging receiver that delays nothing else.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};

use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;

use super::support::{Home, Host, accepted, until};

const KEY: &str = "a key of the receiver";

/// A request of the server: its head in lower case, and its body.
fn request(stream: &TcpStream) -> (String, Vec<u8>) {
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        if line.trim().is_empty() {
            break;
        }
        head += &line.to_lowercase();
    }
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "));
    let mut body = vec![0; length.expect("a length").trim().parse().unwrap()];
    reader.read_exact(&mut body).unwrap();
    (head, body)
}

fn answer(mut stream: &TcpStream, status: &str) {
    let response = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    stream.write_all(response.as_bytes()).unwrap();
}

#[test]
fn a_webhook_is_signed_and_tried_again() {
    let mut home = Home::embedded();
    let key = home.path().join("hook.key");
    std::fs::write(&key, format!("{KEY}\n")).unwrap();
    std::fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    home.set_section(
        "notify",
        json!([{"webhook": url, "key_file": key, "events": ["offline"], "group_s": 0.3}]),
    );
    let server = home.start();
    let hosts = ["127.0.8.1", "127.0.8.2"].map(|ip| Host::online(server.tcp, ip));
    drop(hosts);
    let refused = accepted(&listener);
    let (head, first) = request(&refused);
    answer(&refused, "503 Service Unavailable");
    assert!(head.starts_with("post /hook http/1.1"), "{head}");
    let mut mac = Hmac::<Sha256>::new_from_slice(KEY.as_bytes()).unwrap();
    mac.update(&first);
    let digest = mac.finalize().into_bytes();
    let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    assert!(
        head.contains(&format!("x-anthill-signature: sha256={digest}")),
        "{head}"
    );
    // The server sends the same message again.
    let stream = accepted(&listener);
    let (_, body) = request(&stream);
    answer(&stream, "204 No Content");
    assert_eq!(body, first);
    let message: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(message["node"], "n1");
    assert_eq!(message["count"], 2, "{message}");
    let hosts = message["events"].as_array().unwrap().iter();
    let mut hosts: Vec<_> = hosts.map(|event| event["host"].as_str().unwrap()).collect();
    hosts.sort_unstable();
    assert_eq!(hosts, ["127.0.8.1", "127.0.8.2"]);
    server.stop();
}

#[test]
fn a_hanging_receiver_delays_nothing_else() {
    let mut home = Home::embedded();
    // The kernel's queue accepts the connection, and no answer is sent.
    let hanging = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", hanging.local_addr().unwrap());
    let file = home.path().join("told");
    home.set_section(
        "notify",
        json!([
            {"webhook": url, "group_s": 0},
            {"command": ["/usr/bin/tee", file], "events": ["offline"], "group_s": 0},
        ]),
    );
    let server = home.start();
    drop(Host::online(server.tcp, "127.0.8.1"));
    let told = until("the command", || {
        std::fs::read_to_string(&file)
            .ok()
            .filter(|text| text.ends_with('}'))
    });
    let message: Value = serde_json::from_str(&told).unwrap();
    assert_eq!(message["events"][0]["reason"], "closed");
    // The loop still serves hosts. The stop waits for the receiver, but not for long.
    drop(Host::online(server.tcp, "127.0.8.2"));
    server.until_offline("127.0.8.2");
    server.stop();
}

#[test]
fn a_stop_sends_what_waits_once_more() {
    let mut home = Home::embedded();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let file = home.path().join("told");
    home.set_section(
        "notify",
        json!([
            {"webhook": url, "events": ["offline"], "group_s": 0},
            {"command": ["/usr/bin/tee", file], "events": ["offline"], "group_s": 3600},
        ]),
    );
    let server = home.start();
    drop(Host::online(server.tcp, "127.0.8.1"));
    let first = accepted(&listener);
    let (_, tried) = request(&first);
    answer(&first, "503 Service Unavailable");
    drop(first);
    // Its second try is refused, too: a pause of five seconds begins, in which the server stops.
    let second = accepted(&listener);
    assert_eq!(request(&second).1, tried);
    answer(&second, "503 Service Unavailable");
    drop(second);
    server.until_offline("127.0.8.1");
    let receiver = std::thread::spawn(move || {
        let last = accepted(&listener);
        let (_, body) = request(&last);
        answer(&last, "204 No Content");
        body
    });
    server.stop();
    assert_eq!(receiver.join().unwrap(), tried);
    // The group of the other one was to be gathered for an hour.
    let told = std::fs::read_to_string(&file).unwrap();
    assert!(told.contains("127.0.8.1"), "{told}");
}

#[test]
fn a_receiver_hears_of_its_target_only() {
    let mut home = Home::embedded();
    let file = home.path().join("told");
    home.set_section(
        "labels",
        json!([{"match": "127.0.8.[2-3]", "set": {"role": "db"}}]),
    );
    home.set_section(
        "notify",
        json!([{"command": ["/usr/bin/tee", "-a", file], "target": "role=db", "group_s": 0}]),
    );
    let server = home.start();
    for ip in ["127.0.8.1", "127.0.8.2", "127.0.8.4", "127.0.8.3"] {
        drop(Host::online(server.tcp, ip));
        server.until_offline(ip);
    }
    let told = until("the last host", || {
        let text = std::fs::read_to_string(&file).ok()?;
        text.contains("127.0.8.3").then_some(text)
    });
    assert!(told.contains("127.0.8.2"), "{told}");
    assert!(
        !told.contains("127.0.8.1") && !told.contains("127.0.8.4"),
        "{told}"
    );
    server.stop();
}
