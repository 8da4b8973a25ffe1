//! Hosts behind a load balancer, which gives their addresses by the PROXY protocol, version 2.

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::json;

use super::support::process::Process;
use super::support::{BEAT_ASKING, Home, Host, Server, little, until_so};

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// The address from which the balancer of these tests connects.
const BALANCER: &str = "127.0.8.200";

/// A header with this command and family.
fn header(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
    let length = (body.len() as u16).to_be_bytes();
    [SIGNATURE, &[command, family], &length, body].concat()
}

/// The header of a connection from this address.
fn from(client: &str) -> Vec<u8> {
    let client: Ipv4Addr = client.parse().unwrap();
    let ports = [0x12, 0x34, 0x2c, 0xbb];
    header(
        0x21,
        0x11,
        &[&client.octets()[..], &[10, 9, 9, 9], &ports].concat(),
    )
}

fn home() -> Home {
    let mut home = Home::embedded();
    home.set("server.proxy_from", json!([BALANCER]));
    home
}

/// A connection through the balancer that has sent these bytes.
fn through(server: &Server, bytes: &[u8]) -> Host {
    let mut host = Host::connect(server.tcp, BALANCER);
    host.send(bytes);
    host
}

#[test]
fn header_gives_the_hosts_address() {
    let mut home = home();
    // Counted for the hosts, not for the balancer.
    home.set("limits.connections_per_ip", 1);
    let server = home.start();
    let mut one = through(&server, &from("10.1.2.3"));
    assert_eq!(one.ask(BEAT_ASKING)["ACK"], "keepAlive");
    // The first frame in one piece with the header.
    let glued = [from("10.1.2.4"), little(BEAT_ASKING)].concat();
    let mut other = through(&server, &glued);
    assert_eq!(other.reply()["ACK"], "keepAlive");
    // Byte by byte, with an extension.
    let mut cut = from("10.1.2.5");
    cut[15] += 5;
    cut.extend([4, 0, 2, 7, 7]);
    let mut slow = Host::connect(server.tcp, BALANCER);
    for byte in cut {
        slow.send(&[byte]);
    }
    assert_eq!(slow.ask(BEAT_ASKING)["ACK"], "keepAlive");
    // The balancer's own connection, and a host that comes directly.
    let mut own = through(&server, &header(0x20, 0, &[]));
    assert_eq!(own.ask(BEAT_ASKING)["ACK"], "keepAlive");
    let _direct = Host::online(server.tcp, "127.0.8.1");
    for (address, ip) in [
        ("10.1.2.3", "10.1.2.3"),
        ("10.1.2.4", "10.1.2.4"),
        ("10.1.2.5", "10.1.2.5"),
        (BALANCER, BALANCER),
        ("127.0.8.1", "127.0.8.1"),
    ] {
        let host = server.host(address).expect("it is known");
        assert_eq!(
            (&host["state"], &host["ip"]),
            (&json!("online"), &json!(ip))
        );
    }
    assert_eq!(server.metric("anthill_proxied_total"), 4);
    // Its one place is taken.
    assert_eq!(through(&server, &from("10.1.2.3")).until_closed(), b"");
    drop(one);
    server.until_offline("10.1.2.3");
    server.stop();
}

#[test]
fn bad_header_closes_its_connection_only() {
    let mut home = home();
    home.set("heartbeat.first_message_s", 0.5);
    let server = home.start();
    let mut good = through(&server, &from("10.1.2.3"));
    good.ask(BEAT_ASKING);
    let refused =
        |kind: &str| server.metric(&format!("anthill_proxy_refused_total{{kind=\"{kind}\"}}"));
    let mut broken = from("10.1.2.9");
    broken[11] ^= 1;
    for (kind, bytes) in [
        ("signature", broken),
        ("signature", little(BEAT_ASKING)),
        (
            "signature",
            b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03".to_vec(),
        ),
        (
            "text",
            b"PROXY TCP4 10.1.2.9 10.9.9.9 4660 11451\r\n".to_vec(),
        ),
        ("version", header(0x31, 0x11, &[1; 12])),
        ("command", header(0x2f, 0x11, &[1; 12])),
        ("family", header(0x21, 0x00, &[])),
        ("family", header(0x21, 0x12, &[1; 12])),
        ("family", header(0x21, 0x31, &[1; 216])),
        ("short", header(0x21, 0x21, &[1; 12])),
        ("long", header(0x21, 0x11, &[1; 60_000])),
        ("address", header(0x21, 0x11, &[0; 12])),
        // What is missing never comes.
        ("late", from("10.1.2.9")[..20].to_vec()),
        ("late", Vec::new()),
    ] {
        let before = refused(kind);
        let mut connection = from_balancer(server.tcp);
        let _ = connection.write_all(&bytes);
        until_so(&format!("{kind} is refused"), || {
            refused(kind) == before + 1
        });
    }
    let mut connection = from_balancer(server.tcp);
    connection.write_all(&from("10.1.2.9")[..20]).unwrap();
    drop(connection);
    until_so("the end within a header", || refused("truncated") == 1);
    server.logged(&["WARN", "proxy", BALANCER, "PROXY header"]);
    assert_eq!(server.host("10.1.2.9"), None);
    assert_eq!(good.ask(BEAT_ASKING)["ACK"], "keepAlive");
    server.stop();
}

fn from_balancer(server: SocketAddr) -> TcpStream {
    use socket2::{Domain, Socket, Type};
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let source: SocketAddr = format!("{BALANCER}:0").parse().unwrap();
    socket.bind(&source.into()).unwrap();
    socket.connect(&server.into()).unwrap();
    socket.into()
}

#[test]
fn connections_without_a_header_count_as_connections() {
    let mut home = home();
    home.set("limits.connections", 8);
    let server = home.start();
    let _host = Host::online(server.tcp, "127.0.8.1");
    let refused = || server.metric("anthill_proxy_refused_total{kind=\"no_room\"}");
    let silent: Vec<_> = (0..10).map(|_| from_balancer(server.tcp)).collect();
    until_so("the oldest made room", || refused() == 3);
    // One that comes directly takes the place of one of them.
    let _direct = Host::online(server.tcp, "127.0.8.2");
    until_so("another made room", || refused() == 4);
    let mut good = through(&server, &from("10.1.2.3"));
    assert_eq!(good.ask(BEAT_ASKING)["ACK"], "keepAlive");
    drop(silent);
    server.stop();
}

#[test]
fn header_from_elsewhere_is_abnormal() {
    let server = home().start();
    let mut host = Host::connect(server.tcp, "127.0.8.1");
    host.send(&from("10.1.2.3"));
    assert_eq!(host.until_closed(), b"");
    server.logged(&["abnormal", "127.0.8.1", "length"]);
    assert_eq!(server.host("10.1.2.3"), None);
    assert_eq!(server.metric("anthill_proxied_total"), 0);
    server.stop();
}

#[test]
fn reload_changes_the_balancers() {
    let mut home = home();
    let server = home.start();
    home.set("server.proxy_from", json!(["127.0.8.0/24"]))
        .write_config();
    server.signal(rustix::process::Signal::HUP);
    server.logged(&["read again"]);
    let mut host = Host::connect(server.tcp, "127.0.8.1");
    host.send(&from("10.1.2.3"));
    assert_eq!(host.ask(BEAT_ASKING)["ACK"], "keepAlive");
    assert!(server.is_online("10.1.2.3"));
    server.stop();
}

/// The header comes before TLS.
#[cfg(feature = "tls")]
#[test]
fn header_comes_before_tls() {
    use super::support::tls::{Authority, TlsHost};
    let mut home = home();
    let authority = Authority::new();
    let (cert, key) = authority
        .signs(&["localhost"], None, false)
        .files(home.path(), "server");
    home.set("tls.cert", cert.to_str())
        .set("tls.key", key.to_str());
    let server = home.start();
    let mut host = TlsHost::connect(server.tcp, BALANCER, &authority, None);
    host.stream.sock.write_all(&from("10.1.2.3")).unwrap();
    assert_eq!(host.ask(BEAT_ASKING)["ACK"], "keepAlive");
    assert!(server.is_online("10.1.2.3"));
    server.stop();
}

/// haproxy between hosts and the server.
#[test]
fn hosts_behind_haproxy_keep_their_addresses() {
    let mut home = Home::embedded();
    home.set("server.proxy_from", json!(["127.0.0.1"]));
    let server = home.start();
    let front = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = front.local_addr().unwrap();
    drop(front);
    let config = home.path().join("haproxy.cfg");
    let text = format!(
        "defaults\n  mode tcp\n  timeout connect 5s\n  timeout client 60s\n  timeout server 60s\n\
         listen hosts\n  bind {address}\n  server anthill {} send-proxy-v2 check inter 100ms check-send-proxy\n",
        server.tcp
    );
    std::fs::write(&config, text).unwrap();
    let mut command = Command::new("haproxy");
    command.args(["-db", "-f"]).arg(&config);
    let _haproxy = Process::start(command.stdout(Stdio::null()).stderr(Stdio::null()));
    until_so("that haproxy listens", || {
        TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_ok()
    });
    let mut hosts: Vec<Host> = Vec::new();
    for number in 1..=3 {
        let mut host = Host::connect(address, &format!("127.0.8.{number}"));
        assert_eq!(host.ask(BEAT_ASKING)["ACK"], "keepAlive");
        hosts.push(host);
    }
    for number in 1..=3 {
        assert!(server.is_online(&format!("127.0.8.{number}")));
    }
    // Health checks are no hosts.
    let before = server.metric("anthill_proxied_total");
    until_so("two more health checks", || {
        server.metric("anthill_proxied_total") >= before + 2
    });
    assert_eq!(server.host("127.0.0.1"), None);
    hosts.remove(0);
    server.until_offline("127.0.8.1");
    assert!(server.is_online("127.0.8.2"));
    server.stop();
}
