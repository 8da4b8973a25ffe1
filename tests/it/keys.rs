//! Keyed sessions from outside: a handmade handshake, byte by byte, without code of the server.

use std::net::{SocketAddr, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use hmac::{Hmac, KeyInit, Mac};
use rustix::process::Signal;
use serde_json::{Value, json};
use sha2::Sha256;

use super::support::agent::Agent;
use super::support::server::run;
use super::support::{BEAT, BEAT_ASKING, Home, Host, Inbox, Server, little, until, until_so};

type Bytes = [u8; 32];

/// The key of `fleet`.
const K: Bytes = [7; 32];
/// The key of `web`, for `web-*` only.
const WEB: Bytes = [8; 32];
/// The key of `master`, from which hosts' own are derived.
const MASTER: Bytes = [9; 32];

fn mac(key: &Bytes, parts: &[&[u8]]) -> Bytes {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
    parts.iter().for_each(|part| mac.update(part));
    mac.finalize().into_bytes().into()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Configuration of a server with three keys.
fn home(plain_from: &[&str]) -> Home {
    let mut home = Home::embedded();
    write_keys(&home, &all());
    home.auth(json!({"keys_file": "keys.json", "plain_from": plain_from}));
    // Tests command hosts without a token.
    home.set("server.http_write", "open");
    home
}

fn all() -> Value {
    json!({
        "fleet": hex(&K),
        "web": {"key": hex(&WEB), "ids": ["web-*"]},
        "master": {"key": hex(&MASTER), "derive": true},
    })
}

fn write_keys(home: &Home, keys: &Value) {
    let path = home.path().join("keys.json");
    std::fs::write(&path, keys.to_string()).unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
}

/// Identity of a host, and its proof.
#[derive(Clone, Copy)]
struct Who<'a> {
    id: &'a str,
    name: &'a str,
    key: Bytes,
    udp: Option<u16>,
    push: bool,
    nonce: &'a str,
}

const WEB_1: Who<'_> = Who {
    id: "web-1",
    name: "fleet",
    key: K,
    udp: None,
    push: false,
    nonce: "ffeeddccbbaa99887766554433221100",
};

impl Who<'_> {
    fn hello(&self) -> String {
        let mut hello = json!({
            "flag": "ADH40", "id": self.id, "key": self.name, "nonce": self.nonce, "push": self.push,
        });
        if let Some(udp) = self.udp {
            hello["udp"] = udp.into();
        }
        hello.to_string()
    }

    fn under(&self, label: &str, server: &str) -> Bytes {
        let udp = self.udp.unwrap_or(0).to_string();
        let push = if self.push { "1" } else { "0" };
        let all = [label, server, self.nonce, self.id, self.name, &udp, push];
        mac(&self.key, &[all.join("\0").as_bytes()])
    }

    fn proof(&self, server: &str) -> String {
        let proof = hex(&self.under("ADH40 client", server));
        json!({"flag": "ADH40", "proof": proof}).to_string()
    }
}

/// A session, from the host's side.
struct Session {
    host: Host,
    up: Bytes,
    down: Bytes,
    said: u64,
    heard: u64,
}

impl Session {
    fn open(server: SocketAddr, source: &str, who: Who<'_>) -> Self {
        let mut host = Host::connect(server, source);
        let nonce = challenged(&mut host, who);
        let reply = host.ask(who.proof(&nonce).as_bytes());
        assert_eq!(reply["ACK"], "keepGotIt", "{reply}");
        assert_eq!(reply["interval_s"], 20);
        let proof = hex(&who.under("ADH40 server", &nonce));
        assert_eq!(reply["proof"], proof, "the server has the key, too");
        Self::of(host, who, &nonce)
    }

    fn of(host: Host, who: Who<'_>, nonce: &str) -> Self {
        Self {
            host,
            up: who.under("ADH40 to server", nonce),
            down: who.under("ADH40 to client", nonce),
            said: 0,
            heard: 0,
        }
    }

    /// A frame with its tag.
    fn frame(&mut self, body: &[u8]) -> Vec<u8> {
        self.said += 1;
        let tag = mac(&self.up, &[&self.said.to_be_bytes(), body]);
        little(&[body, &tag].concat())
    }

    fn say(&mut self, body: &[u8]) {
        let frame = self.frame(body);
        self.host.send(&frame);
    }

    /// Reads a frame and checks its tag.
    #[track_caller]
    fn hear(&mut self) -> Value {
        let tagged = self.host.frame();
        let (body, tag) = tagged.split_at(tagged.len() - 32);
        self.heard += 1;
        assert_eq!(tag, mac(&self.down, &[&self.heard.to_be_bytes(), body]));
        serde_json::from_slice(body).unwrap()
    }

    #[track_caller]
    fn ask(&mut self, body: &[u8]) -> Value {
        self.say(body);
        self.hear()
    }
}

/// Sends a hello and returns the server's nonce.
#[track_caller]
fn challenged(host: &mut Host, who: Who<'_>) -> String {
    let reply = host.ask(who.hello().as_bytes());
    assert_eq!(reply["ACK"], "keepChallenge", "{reply}");
    let nonce = reply["nonce"].as_str().unwrap().to_owned();
    assert!(
        nonce.len() == 32
            && nonce
                .bytes()
                .all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    );
    nonce
}

#[track_caller]
fn refused(server: &Server, who: Who<'_>) {
    let mut host = Host::connect(server.tcp, "127.0.9.1");
    let nonce = challenged(&mut host, who);
    let reply = host.ask(who.proof(&nonce).as_bytes());
    let wanted = json!({"flag": "ADH40", "ACK": "keepRefused", "error": "not accepted"});
    assert_eq!(reply, wanted, "{} {}", who.name, who.id);
    assert_eq!(host.until_closed(), b"");
}

fn messages(server: &Server) -> u64 {
    let (_, page) = server.get("/metrics");
    let counts = page
        .lines()
        .filter(|l| l.starts_with("anthill_messages_total{"));
    let count = |line: &str| line.rsplit_once(' ').unwrap().1.parse::<u64>().unwrap();
    counts.map(count).sum()
}

#[test]
fn a_proved_session_tags_every_frame() {
    let server = home(&[]).start();
    let mut web = Session::open(server.tcp, "127.0.9.1", WEB_1);
    assert!(server.is_online("web-1"));
    for _ in 0..3 {
        assert_eq!(web.ask(BEAT_ASKING)["ACK"], "keepAlive");
    }
    assert_eq!(server.metric("anthill_keyed_sessions"), 1);
    // Each host's own key, where keys are derived; and a key for some ids.
    let own = mac(&MASTER, &[b"ADH40 host\0db"]);
    let db = Who {
        id: "db",
        name: "master",
        key: own,
        ..WEB_1
    };
    Session::open(server.tcp, "127.0.9.2", db);
    let two = Who {
        id: "web-2",
        name: "web",
        key: WEB,
        ..WEB_1
    };
    Session::open(server.tcp, "127.0.9.3", two);
    server.stop();
}

#[test]
fn all_refusals_use_the_same_words() {
    let server = home(&[]).start();
    let master = Who {
        name: "master",
        ..WEB_1
    };
    for who in [
        Who {
            key: [1; 32],
            ..WEB_1
        },
        Who {
            name: "nobody",
            ..WEB_1
        },
        Who {
            id: "db",
            name: "web",
            key: WEB,
            ..WEB_1
        },
        Who {
            key: MASTER,
            ..master
        },
        Who {
            key: mac(&MASTER, &[b"ADH40 host\0web-2"]),
            ..master
        },
    ] {
        refused(&server, who);
    }
    assert_eq!(server.metric("anthill_proofs_refused_total"), 5);

    // Proofs of a wrong length, without hexadecimal text, and of the right length but wrong.
    for proof in [
        "",
        "00",
        "zz",
        &"0".repeat(63),
        &"0".repeat(64),
        &"0".repeat(65),
    ] {
        let mut host = Host::connect(server.tcp, "127.0.9.1");
        challenged(&mut host, WEB_1);
        let reply = host.ask(
            json!({"flag": "ADH40", "proof": proof})
                .to_string()
                .as_bytes(),
        );
        assert_eq!(reply["error"], "not accepted");
        assert_eq!(host.until_closed(), b"");
    }
    // A proof is valid on one connection only, and the server's own proof is refused.
    let mut one = Host::connect(server.tcp, "127.0.9.1");
    let mut other = Host::connect(server.tcp, "127.0.9.1");
    let nonce = challenged(&mut one, WEB_1);
    challenged(&mut other, WEB_1);
    let reply = other.ask(WEB_1.proof(&nonce).as_bytes());
    assert_eq!(reply["error"], "not accepted");
    let mirrored = hex(&WEB_1.under("ADH40 server", &nonce));
    let reply = one.ask(
        json!({"flag": "ADH40", "proof": mirrored})
            .to_string()
            .as_bytes(),
    );
    assert_eq!(reply["error"], "not accepted");
    // A hello without a key.
    let mut plain = Host::connect(server.tcp, "127.0.9.1");
    assert_eq!(plain.hello("web-1")["ACK"], "keepRefused");
    assert_eq!(plain.until_closed(), b"");
    assert_eq!(messages(&server), 0);
    assert!(server.host("web-1").is_none() && server.host("127.0.9.1").is_none());
    server.stop();
}

#[test]
fn before_the_proof_other_messages_are_refused() {
    let mut home = home(&[]);
    home.set("heartbeat.first_message_s", 1.0);
    let server = home.start();
    let hello = little(WEB_1.hello().as_bytes());
    let long = format!(
        r#"{{"flag":"ADH40","id":"web-1","x":"{}"}}"#,
        "x".repeat(512)
    );
    for (before, bytes) in [
        (false, little(BEAT)),
        (true, little(BEAT)),
        (true, hello.clone()),
        (false, little(WEB_1.proof("0").as_bytes())),
        // Refused from the length alone.
        (false, little(long.as_bytes())[..4].to_vec()),
        (true, 513_i32.to_le_bytes().to_vec()),
    ] {
        let mut host = Host::connect(server.tcp, "127.0.9.1");
        if before {
            challenged(&mut host, WEB_1);
        }
        host.send(&bytes);
        assert_eq!(host.until_closed(), b"");
    }
    // A challenge extends no deadline.
    let mut slow = Host::connect(server.tcp, "127.0.9.1");
    challenged(&mut slow, WEB_1);
    assert_eq!(slow.until_closed(), b"");
    server.logged(&["no valid message in time"]);
    assert_eq!(messages(&server), 0);
    assert_eq!(server.json("/v1/hosts")["hosts"], json!([]));
    assert_eq!(server.metric("anthill_challenges"), 0);
    server.stop();
}

#[test]
fn a_frame_directly_after_the_proof_is_handled() {
    let server = home(&[]).start();
    let mut host = Host::connect(server.tcp, "127.0.9.1");
    let nonce = challenged(&mut host, WEB_1);
    let mut web = Session::of(host, WEB_1, &nonce);
    let mut glued = little(WEB_1.proof(&nonce).as_bytes());
    for _ in 0..2 {
        let frame = web.frame(BEAT_ASKING);
        glued.extend(frame);
    }
    // One that is longer than is taken before the proof.
    let long = format!(
        r#"{{"flag":"ADH18","ACK":"keepAlive","reply":true,"x":"{}"}}"#,
        "x".repeat(2_000)
    );
    let frame = web.frame(long.as_bytes());
    glued.extend(frame);
    web.host.send(&glued);
    assert_eq!(web.host.reply()["ACK"], "keepGotIt");
    for _ in 0..3 {
        assert_eq!(web.hear()["ACK"], "keepAlive");
    }
    server.stop();
}

#[test]
fn a_wrong_tag_ends_the_session() {
    let server = home(&[]).start();
    for way in 0..5 {
        let mut web = Session::open(server.tcp, "127.0.9.1", WEB_1);
        web.ask(BEAT_ASKING);
        let mut frame = web.frame(BEAT);
        match way {
            0 => *frame.last_mut().unwrap() ^= 1,
            1 => frame[10] ^= 1,
            // The same once more.
            2 => frame.extend(frame.clone()),
            // One left out.
            3 => frame = web.frame(BEAT),
            // None at all.
            _ => frame = little(BEAT),
        }
        web.host.send(&frame);
        assert_eq!(web.host.until_closed(), b"");
        assert_eq!(server.until_offline("web-1")["reason"], "abnormal");
    }
    assert_eq!(server.metric(r#"anthill_abnormal_total{kind="tag"}"#), 5);
    server.stop();
}

#[test]
fn only_a_proof_replaces_a_session() {
    let server = home(&["127.0.9.0/24"]).start();
    let mut web = Session::open(server.tcp, "127.0.9.1", WEB_1);
    let mut plain = Host::connect(server.tcp, "127.0.9.2");
    assert_eq!(plain.hello("web-1")["ACK"], "keepRefused");
    refused(
        &server,
        Who {
            key: [1; 32],
            ..WEB_1
        },
    );
    assert_eq!(web.ask(BEAT_ASKING)["ACK"], "keepAlive", "still there");
    // Half a handshake replaces no connection either.
    let mut half = Host::connect(server.tcp, "127.0.9.3");
    challenged(&mut half, WEB_1);
    assert_eq!(web.ask(BEAT_ASKING)["ACK"], "keepAlive", "still there");
    let mut newer = Session::open(server.tcp, "127.0.9.4", WEB_1);
    assert_eq!(web.host.until_closed(), b"");
    assert_eq!(newer.ask(BEAT_ASKING)["ACK"], "keepAlive");
    server.stop();
}

#[test]
fn plain_hosts_cannot_block_a_keyed_id() {
    let server = home(&["127.0.9.0/24"]).start();
    let mut holders = Vec::new();
    loop {
        let mut plain = Host::connect(server.tcp, "127.0.9.2");
        if plain.hello("db-1")["ACK"] == "keepRefused" {
            break;
        }
        // Kept: only one that is still there is replaced.
        holders.push(plain);
    }
    let owner = Who {
        id: "db-1",
        ..WEB_1
    };
    let mut first = Session::open(server.tcp, "127.0.9.1", owner);
    assert_eq!(first.ask(BEAT_ASKING)["ACK"], "keepAlive");
    let mut newer = Session::open(server.tcp, "127.0.9.1", owner);
    assert_eq!(newer.ask(BEAT_ASKING)["ACK"], "keepAlive");
    assert_eq!(server.metric("anthill_keyed_sessions"), 1);
    server.stop();
}

#[test]
fn networks_may_stay_plain() {
    let server = home(&["127.0.9.0/25", "127.0.9.200"]).start();
    let mut old = Host::online(server.tcp, "127.0.9.1");
    let mut named = Host::named(server.tcp, "127.0.9.200", "named");
    for host in [&mut old, &mut named] {
        assert_eq!(host.ask(BEAT_ASKING)["ACK"], "keepAlive");
    }
    let mut foreign = Host::connect(server.tcp, "127.0.9.129");
    foreign.beat();
    assert_eq!(foreign.until_closed(), b"");
    Session::open(server.tcp, "127.0.9.1", WEB_1);
    // No plain connection speaks for a host that has proved itself.
    let own = Who {
        id: "127.0.9.3",
        ..WEB_1
    };
    let mut own = Session::open(server.tcp, "127.0.9.3", own);
    let mut plain = Host::connect(server.tcp, "127.0.9.3");
    plain.beat();
    assert_eq!(plain.until_closed(), b"");
    assert_eq!(own.ask(BEAT_ASKING)["ACK"], "keepAlive");
    server.stop();
}

#[test]
fn removing_a_key_ends_its_sessions() {
    let home = home(&["127.0.9.77"]);
    let server = home.start();
    let mut web = Session::open(server.tcp, "127.0.9.1", WEB_1);
    let two = Who {
        id: "web-2",
        name: "web",
        key: WEB,
        ..WEB_1
    };
    let mut web_2 = Session::open(server.tcp, "127.0.9.2", two);
    let mut plain = Host::online(server.tcp, "127.0.9.77");
    // A file that is wrong changes nothing.
    write_keys(&home, &json!({"fleet": "short"}));
    server.signal(Signal::HUP);
    server.logged(&["ERROR", "nothing changed", "fleet", "64 hexadecimal digits"]);
    let mut keys = all();
    keys["new"] = hex(&[3; 32]).into();
    write_keys(&home, &keys);
    std::fs::set_permissions(
        home.path().join("keys.json"),
        PermissionsExt::from_mode(0o644),
    )
    .unwrap();
    server.signal(Signal::HUP);
    server.logged(&["ERROR", "nothing changed", "by every user"]);
    assert_eq!(web.ask(BEAT_ASKING)["ACK"], "keepAlive");
    refused(
        &server,
        Who {
            id: "x",
            name: "new",
            key: [3; 32],
            ..WEB_1
        },
    );

    // Another key of that name, one that is gone, one that stays, one that is new.
    keys["web"] = json!({"key": hex(&[4; 32]), "ids": ["web-*"]});
    keys.as_object_mut().unwrap().remove("master");
    write_keys(&home, &keys);
    server.signal(Signal::HUP);
    assert_eq!(web_2.host.until_closed(), b"");
    server.until_offline("web-2");
    server.logged(&["in force now", "master", "web", "1 new"]);
    assert_eq!(web.ask(BEAT_ASKING)["ACK"], "keepAlive");
    assert_eq!(plain.ask(BEAT_ASKING)["ACK"], "keepAlive");
    Session::open(
        server.tcp,
        "127.0.9.4",
        Who {
            id: "x",
            name: "new",
            key: [3; 32],
            ..WEB_1
        },
    );
    keys.as_object_mut().unwrap().remove("fleet");
    write_keys(&home, &keys);
    server.signal(Signal::HUP);
    assert_eq!(web.host.until_closed(), b"");
    refused(&server, WEB_1);
    server.stop();
}

#[test]
fn no_nonce_comes_twice() {
    let server = home(&[]).start();
    let nonces = (0..50).map(|_| challenged(&mut Host::connect(server.tcp, "127.0.9.1"), WEB_1));
    let nonces: std::collections::HashSet<String> = nonces.collect();
    assert_eq!(nonces.len(), 50);
    server.stop();
}

#[test]
fn half_open_handshakes_do_not_block_hosts() {
    let mut home = home(&[]);
    home.set("heartbeat.first_message_s", 600);
    let server = home.start();
    let mut web = Session::open(server.tcp, "127.0.9.1", WEB_1);
    let mut half = Vec::new();
    for number in 0..400 {
        let mut host = Host::connect(server.tcp, "127.0.9.2");
        if number % 2 == 0 {
            challenged(&mut host, WEB_1);
        }
        half.push(host);
        if number % 50 == 0 {
            assert_eq!(web.ask(BEAT_ASKING)["ACK"], "keepAlive");
        }
    }
    assert_eq!(server.metric("anthill_challenges"), 200);
    let two = Who {
        id: "web-2",
        ..WEB_1
    };
    assert_eq!(
        Session::open(server.tcp, "127.0.9.3", two).ask(BEAT_ASKING)["ACK"],
        "keepAlive"
    );
    drop(half);
    until_so("all are forgotten", || {
        server.metric("anthill_challenges") == 0
    });
    server.stop();
}

#[test]
fn strangers_cannot_fill_the_table() {
    const ROOM: usize = 40;
    let mut home = home(&[]);
    home.set("heartbeat.first_message_s", 600)
        .set("limits.connections", ROOM);
    let server = home.start();
    let mut first = Session::open(server.tcp, "127.0.9.1", WEB_1);
    // Silent ones, ones that have a challenge, and ones with half a frame, from the same address and from others.
    let mut strangers = Vec::new();
    for number in 0..4 * ROOM {
        let source = format!("127.0.9.{}", 1 + number % 6);
        let mut stranger = Host::connect(server.tcp, &source);
        match number % 3 {
            0 => stranger.say(WEB_1.hello().as_bytes()),
            1 => stranger.send(&[40]),
            _ => {}
        }
        strangers.push(stranger);
    }
    until_so("the table is full", || {
        server.metric("anthill_connections") == ROOM as u64
    });
    // Time after which a connection with an open challenge may be closed.
    std::thread::sleep(Duration::from_secs(2));
    let ids: Vec<String> = (2..ROOM).map(|number| format!("web-{number}")).collect();
    let mut sessions: Vec<Session> = ids
        .iter()
        .map(|id| Session::open(server.tcp, "127.0.9.1", Who { id, ..WEB_1 }))
        .collect();
    for session in sessions.iter_mut().chain([&mut first]) {
        assert_eq!(session.ask(BEAT_ASKING)["ACK"], "keepAlive");
    }
    let evicted = server.metric("anthill_connections_shed_total{cause=\"unproven\"}");
    assert!(evicted >= 3 * ROOM as u64, "{evicted}");
    server.stop();
}

/// The signed datagram that a server sends, checked.
fn signed(text: &str, down: &Bytes) -> Value {
    let said: Value = serde_json::from_str(text).unwrap();
    let n = said["n"].as_u64().unwrap().to_string();
    let (field, value) = match said["taskId"].as_str() {
        Some(key) => ("taskId", key),
        None => ("command", said["command"].as_str().unwrap()),
    };
    let mut all = vec!["ADH44", &n, field, value];
    all.extend(said["cid"].as_str());
    assert_eq!(said["mac"], hex(&mac(down, &[all.join("\0").as_bytes()])));
    said
}

fn answer(up: &Bytes, n: u64, key: &str) -> Value {
    let over = format!("ADH33\0{n}\0taskId\0{key}\x001");
    let mac = hex(&mac(up, &[over.as_bytes()]));
    json!({"flag": "ADH33", "RCC": 1, "taskId": key, "answerTime": 1, "id": "web-1", "n": n, "mac": mac})
}

#[test]
fn datagrams_are_signed_both_ways() {
    let mut home = home(&[]);
    home.set("dispatch.rto_ms", 300).set("dispatch.tries", 50);
    let server = home.start();
    let inbox = Inbox::at("127.0.9.1");
    let who = Who {
        udp: Some(inbox.port()),
        ..WEB_1
    };
    let mut web = Session::open(server.tcp, "127.0.9.1", who);
    server.dispatch(&json!({"key": "AC1", "commands": {"uptime": 1}}));
    let first = signed(&inbox.next(), &web.down);
    let again = signed(&inbox.next(), &web.down);
    assert_eq!(
        (&first["taskId"], &again["taskId"]),
        (&json!("AC1"), &json!("AC1"))
    );
    assert_eq!(
        again["n"].as_u64(),
        first["n"].as_u64().map(|n| n + 1),
        "each copy has its own"
    );

    let udp: SocketAddr = server
        .ready
        .split(' ')
        .find_map(|w| w.strip_prefix("udp="))
        .unwrap()
        .parse()
        .unwrap();
    let socket = UdpSocket::bind("127.0.9.1:0").unwrap();
    let send = |datagram: &Value| {
        socket
            .send_to(datagram.to_string().as_bytes(), udp)
            .unwrap();
    };
    let count = |name: &str, wanted: u64| {
        let sample = format!("anthill_datagrams_{name}_total");
        until_so(&sample, || server.metric(&sample) == wanted);
    };
    // Forged: a wrong key, another number, another task, another host, an unknown host, another
    // address; and a bare one.
    let good = answer(&web.up, 70, "AC1");
    let mut forged = [
        answer(&web.down, 70, "AC1"),
        good.clone(),
        good.clone(),
        good.clone(),
        good.clone(),
    ];
    forged[1]["n"] = 71.into();
    forged[2]["taskId"] = "AC2".into();
    forged[3]["id"] = "web-2".into();
    forged[4].as_object_mut().unwrap().remove("id");
    forged.iter().for_each(&send);
    let elsewhere = UdpSocket::bind("127.0.9.2:0").unwrap();
    elsewhere.send_to(good.to_string().as_bytes(), udp).unwrap();
    count("forged", 6);
    let bare = json!({"flag": "ADH33", "RCC": 1, "taskId": "AC1", "answerTime": 1});
    send(&bare);
    send(&json!({"flag": "ADH18", "phase": 1, "ACK": "keepAlive"}));
    count("refused", 2);
    assert_eq!(server.task_state("AC1", "web-1"), "sent");

    // A heartbeat has neither field nor value.
    let beat = hex(&mac(&web.up, &[b"ADH18\x001\0\0"]));
    send(
        &json!({"flag": "ADH18", "phase": 1, "ACK": "keepAlive", "id": "web-1", "n": 1, "mac": beat}),
    );
    send(&good);
    server.until_task("AC1", "web-1", "answered");
    send(&good);
    count("replayed", 1);
    send(&answer(&web.up, 6, "AC1"));
    count("stale", 1);

    // A console command, and what another session's keys are worth.
    let (_, told) = server.post("/v1/commands", &json!({"command": "uptime", "hosts": null}));
    let command = until("the command", || {
        let said = signed(&inbox.next(), &web.down);
        said["command"].is_string().then_some(said)
    });
    assert_eq!(
        (&command["command"], &command["cid"]),
        (&json!("uptime"), &told["id"])
    );
    let cid = told["id"].as_str().unwrap();
    let over = format!("ADH33\x0090\0command\0uptime\x001\0{cid}");
    let proof = hex(&mac(&web.up, &[over.as_bytes()]));
    send(
        &json!({"flag": "ADH33", "RCC": 1, "command": "uptime", "cid": cid, "id": "web-1", "n": 90, "mac": proof}),
    );
    until_so("the command is answered", || {
        let told = server.json(&format!("/v1/commands/{cid}"));
        told.to_string().contains("answered")
    });
    let quoted = "\"".repeat(1_000);
    let (status, why) = server.post("/v1/commands", &json!({"command": quoted, "hosts": null}));
    assert_eq!(status, 400, "{why}");
    let old = web.up;
    web = Session::open(server.tcp, "127.0.9.1", who);
    send(&answer(&old, 100, "AC1"));
    count("forged", 7);
    assert_eq!(web.ask(BEAT_ASKING)["ACK"], "keepAlive");
    server.stop();
}

#[test]
fn a_keyed_host_reports_on_its_own_tasks() {
    let server = home(&["127.0.9.9"]).start();
    let mut web = Session::open(
        server.tcp,
        "127.0.9.1",
        Who {
            push: true,
            ..WEB_1
        },
    );
    let mut plain = Host::online(server.tcp, "127.0.9.9");
    server.dispatch(&json!({"key": "AC1", "commands": {"uptime": 1}, "hosts": ["web-1"]}));
    assert_eq!(web.hear()["taskId"], "AC1", "pushed, with a tag");
    let report = |key: &str| {
        json!({"flag": "ADH27", "code": key, "phase": 1, "working": null, "complete": [], "oncall": ["uptime"], "reply": true})
            .to_string()
    };
    assert_eq!(web.ask(report("AC9").as_bytes())["ACK"], "keepRefused");
    assert_eq!(web.ask(report("AC1").as_bytes())["ACK"], "keepGotIt");
    let answer =
        json!({"flag": "ADH33", "RCC": 1, "taskId": "AC9", "answerTime": 1, "reply": true});
    assert_eq!(web.ask(answer.to_string().as_bytes())["ACK"], "keepRefused");
    assert_eq!(plain.ask(report("AC9").as_bytes())["ACK"], "keepGotIt");
    server.stop();
}

#[test]
fn an_inherited_host_gets_its_task() {
    let mut home = home(&[]);
    home.set("dispatch.rto_ms", 50).set("dispatch.tries", 3);
    let server = home.start();
    let inbox = Inbox::at("127.0.9.1");
    let who = Who {
        udp: Some(inbox.port()),
        ..WEB_1
    };
    let web = Session::open(server.tcp, "127.0.9.1", who);
    // Its presence is kept over a planned stop.
    server.stop();
    drop(web);
    let server = home.start();
    until_so("it is held", || server.is_online("web-1"));
    server.dispatch(&json!({"key": "AC1", "commands": {"uptime": 1}, "hosts": ["web-1"]}));
    assert_eq!(
        inbox.within(Duration::from_millis(600)),
        None,
        "nothing unsigned"
    );
    assert_eq!(server.task_state("AC1", "web-1"), "sent");
    let web = Session::open(server.tcp, "127.0.9.1", who);
    assert_eq!(signed(&inbox.next(), &web.down)["taskId"], "AC1");
    server.stop();
}

#[test]
fn bad_key_files_are_found_by_check_config() {
    let home = home(&[]);
    home.write_config();
    let check = |words: &[&str]| {
        let ended = run(home.path(), &["check-config"]);
        assert_eq!(ended.status, Some(2), "{}", ended.stdout);
        for word in words {
            assert!(ended.stderr.contains(word), "{}", ended.stderr);
        }
        assert!(!ended.stderr.contains(&hex(&K)));
    };
    let shown = run(home.path(), &["check-config"]);
    assert_eq!(shown.status, Some(0), "{}", shown.stderr);
    assert!(shown.stdout.contains("keys.json") && !shown.stdout.contains(&hex(&K)));
    write_keys(&home, &json!({"a": hex(&K), "b": hex(&K)}));
    check(&["keys.json", "b", "the same key as a"]);
    write_keys(&home, &json!({"a": {"key": hex(&K), "idz": []}}));
    check(&["keys.json", "a.idz", "ids"]);
    write_keys(&home, &all());
    std::fs::set_permissions(
        home.path().join("keys.json"),
        PermissionsExt::from_mode(0o604),
    )
    .unwrap();
    check(&["auth.keys_file", "keys.json", "by every user"]);
}

#[test]
fn http_changes_need_a_token_with_keys() {
    let mut home = home(&[]);
    home.set("server.http_write", Value::Null);
    home.write_config();
    let checked = run(home.path(), &["check-config"]);
    assert!(
        checked.stderr.contains("server.http_token_file is null"),
        "{}",
        checked.stderr
    );
    let shown: Value = serde_json::from_str(&checked.stdout).unwrap();
    assert_eq!(shown["server"]["http_write"], "token");
    let server = home.start();
    let task = json!({"key": "AC1", "commands": {"uptime": 1}, "hosts": null});
    let command = json!({"command": "uptime", "hosts": null});
    for (path, body) in [("/v1/tasks", &task), ("/v1/commands", &command)] {
        let (status, why) = server.post(path, body);
        assert_eq!(status, 401, "{why}");
        assert!(
            why["error"]
                .as_str()
                .unwrap()
                .contains("server.http_token_file"),
            "{why}"
        );
    }
    assert_eq!(server.get("/v1/hosts").0, 200);
    assert!(server.get("/v1/tasks").1.contains("\"tasks\":[]"));
    let api = format!("http://{}", server.http);
    let words = ["dispatch", "AC1", "--task", "uptime", "--api", &api];
    let ended = run(home.path(), &words);
    assert_eq!(ended.status, Some(1));
    for word in [
        "--token-file",
        "server.http_token_file",
        "server.http_write",
    ] {
        assert!(ended.stderr.contains(word), "{}", ended.stderr);
    }
    drop(server);

    // With a token file, changes need the token; with `open` they need none.
    let token = home.path().join("token");
    std::fs::write(&token, "a token of many letters".replace(' ', "-")).unwrap();
    std::fs::set_permissions(&token, PermissionsExt::from_mode(0o600)).unwrap();
    home.set("server.http_token_file", "token");
    home.write_config();
    assert_eq!(run(home.path(), &["check-config"]).stderr, "");
    let server = home.start();
    assert_eq!(server.post("/v1/tasks", &task).0, 401);
    let api = format!("http://{}", server.http);
    let words = ["dispatch", "AC1", "--task", "uptime", "--api", &api];
    let why = |words: &[&str]| run(home.path(), words).stderr;
    assert!(why(&words).contains("wants a token"));
    let with = why(&[&words[..], &["--token-file", "token"]].concat());
    assert!(with.contains("no host is online"), "{with}");
    drop(server);
    home.set("server.http_token_file", Value::Null);
    home.set("server.http_write", "open");
    home.write_config();
    let checked = run(home.path(), &["check-config"]);
    assert!(checked.stderr.contains("\"open\""), "{}", checked.stderr);
    let server = home.start();
    // It is let in; there is no host.
    assert_eq!(server.post("/v1/commands", &command).0, 400);
}

#[test]
fn keygen_prints_a_key_or_the_own_key_of_a_host() {
    let home = home(&[]);
    let keygen = |args: &[&str]| {
        let ended = run(home.path(), &[&["keygen"], args].concat());
        assert_eq!(ended.status, Some(0), "{}", ended.stderr);
        let words: Vec<String> = ended.stdout.split_whitespace().map(str::to_owned).collect();
        assert!(words.len() == 2 && words[1].len() == 64, "{words:?}");
        words
    };
    assert_ne!(keygen(&[]), keygen(&[]));
    let own = hex(&mac(&MASTER, &[b"ADH40 host\0db"]));
    assert_eq!(
        keygen(&["--for", "db", "--key-file", "keys.json"]),
        ["master", &own]
    );
    let file = home.path().join("one");
    std::fs::write(&file, format!("m {}\n", hex(&MASTER))).unwrap();
    std::fs::set_permissions(&file, PermissionsExt::from_mode(0o600)).unwrap();
    assert_eq!(keygen(&["--for", "db", "--key-file", "one"]), ["m", &own]);
    assert_eq!(
        run(
            home.path(),
            &["keygen", "--for", "a b", "--key-file", "one"]
        )
        .status,
        Some(2)
    );
}

/// Starts an agent with a key.
fn agent(home: &Home, server: SocketAddr, key: &Bytes, more: &[&str]) -> Agent {
    let dir = home.path();
    let file = dir.join("agent.key");
    std::fs::write(&file, format!("fleet {}\n", hex(key))).unwrap();
    std::fs::set_permissions(&file, PermissionsExt::from_mode(0o600)).unwrap();
    std::fs::write(dir.join("allow.json"), r#"["echo *"]"#).unwrap();
    let args = ["--id", "web-1", "--source", "127.0.9.1"];
    let files = ["--key-file", "agent.key", "--interval", "0.2"];
    Agent::start(
        dir,
        &server.to_string(),
        &[&args[..], &files, more].concat(),
    )
}

#[test]
fn an_agent_with_a_key_works() {
    for (number, more) in [(1, &["--push"][..]), (2, &["--udp", "0"])] {
        let home = home(&[]);
        let server = home.start();
        let _agent = agent(&home, server.tcp, &K, more);
        until_so("the agent", || server.is_online("web-1"));
        let key = format!("AC{number}");
        server.dispatch(&json!({"key": key, "commands": {"echo hello": 1}, "hosts": ["web-1"]}));
        server.until_task(&key, "web-1", "done");
        let (_, told) = server.post(
            "/v1/commands",
            &json!({"command": "echo now", "hosts": null}),
        );
        let place = format!("/v1/commands/{}", told["id"].as_str().unwrap());
        until_so("what it put out", || {
            server.get(&place).1.contains("now\\n")
        });
        assert_eq!(server.metric("anthill_keyed_sessions"), 1);
        assert_eq!(server.metric(r#"anthill_abnormal_total{kind="tag"}"#), 0);
        server.stop();
    }
}

#[test]
fn an_agent_distrusts_a_server_without_its_key() {
    let home = home(&[]);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let _agent = agent(&home, listener.local_addr().unwrap(), &K, &["--push"]);
    let accept = || {
        let stream = super::support::accepted(&listener);
        stream
            .set_read_timeout(Some(super::support::PATIENCE))
            .unwrap();
        let mut host = Host { stream };
        let hello = host.reply();
        assert_eq!(
            (&hello["id"], &hello["key"]),
            (&json!("web-1"), &json!("fleet"))
        );
        (host, hello)
    };
    // A false server skips the challenge, sends an order too early, or sends a wrong proof.
    let order = r#"{"flag":"ADH44","taskId":"AC1"}"#;
    let welcome = r#"{"flag":"ADH40","ACK":"keepGotIt","interval_s":20}"#;
    let challenge = format!(
        r#"{{"flag":"ADH40","ACK":"keepChallenge","nonce":"{}"}}"#,
        "0a".repeat(16)
    );
    let mirrored = format!(
        r#"{{"flag":"ADH40","ACK":"keepGotIt","proof":"{}","interval_s":20}}"#,
        "00".repeat(32)
    );
    let mut nonces = std::collections::HashSet::new();
    for said in [
        &[welcome][..],
        &[order],
        &[&challenge, order],
        &[&challenge, &mirrored],
        &[&mirrored],
    ] {
        let (mut server, hello) = accept();
        nonces.insert(hello["nonce"].to_string());
        for body in said {
            server.say(body.as_bytes());
        }
        let sent = server.until_closed();
        assert!(
            !String::from_utf8_lossy(&sent).contains("ADH33"),
            "nothing is taken"
        );
    }
    assert_eq!(nonces.len(), 5);
}

#[test]
fn a_key_file_that_others_can_read_is_refused() {
    let home = home(&[]);
    let file = home.path().join("agent.key");
    std::fs::write(&file, format!("fleet {}", hex(&K))).unwrap();
    std::fs::set_permissions(&file, PermissionsExt::from_mode(0o644)).unwrap();
    let args = [
        "agent",
        "--server",
        "127.0.0.1:1",
        "--key-file",
        "agent.key",
    ];
    let ended = run(home.path(), &args);
    assert_eq!(ended.status, Some(2));
    assert!(
        ended.stderr.contains("--key-file") && ended.stderr.contains("every user"),
        "{}",
        ended.stderr
    );
}
