//! Ids that belong to a key, and plain hosts that claim them.

use super::*;
use crate::codec::message::KeyedHello;
use crate::keys::{Access, Key, Nonce, Ring, Transcript};

const KEY: [u8; 32] = [7; 32];
const CLIENT: [u8; 16] = [1; 16];
const SERVER: [u8; 16] = [2; 16];

/// Keys `fleet`, for every id, and `web`, for `web-*`; hosts of 10.0.0.0/8 may be plain.
fn access() -> Access {
    let mut ring = Ring::default();
    let web = Some(vec!["web-*".to_owned()]);
    ring.insert("fleet".into(), Key::new(KEY), None, false)
        .unwrap();
    ring.insert("web".into(), Key::new([8; 32]), web, false)
        .unwrap();
    let plain_from = vec!["10.0.0.0/8".parse().unwrap()];
    Access::Keys { ring, plain_from }
}

fn keyed(mut world: World) -> World {
    world.core = world.core.with_keys(access(), Box::new(|| Some(SERVER)));
    world
}

/// A server with keys and an available store.
fn world() -> World {
    let mut world = keyed(World::starting(Model::default()));
    world.come_up(true);
    world
}

/// The same server after a restart.
fn restarted(world: World) -> World {
    keyed(World::starting(world.store))
}

impl World {
    /// A session of `id` under the key `fleet`.
    fn prove(&mut self, peer: &str, id: &str) -> ConnId {
        let conn = self.open(peer);
        let hello = KeyedHello {
            hello: Hello {
                id: id.into(),
                udp: None,
                push: true,
                boot: None,
                ..Hello::default()
            },
            key: "fleet".into(),
            nonce: Nonce::of(CLIENT),
        };
        let _ = self.send(conn, Message::KeyedHello(hello), None);
        let said = Transcript {
            server: Nonce::of(SERVER),
            client: Nonce::of(CLIENT),
            id,
            key_id: "fleet",
            udp: None,
            push: true,
        };
        let proof: String = said
            .client_proof(&Key::new(KEY))
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let _ = self.send(conn, Message::Proof(proof.into()), None);
        assert!(!self.closed(conn), "{id} has proved its key");
        conn
    }

    /// Returns whether a plain hello with `id` is refused.
    fn refuses_plain(&mut self, id: &str) -> bool {
        let conn = self.open("10.0.0.9:5000");
        self.hello(conn, id, None);
        let refused = matches!(self.words(conn)[..], [Word::Refused(_)]);
        assert_eq!(refused, self.closed(conn));
        if !refused {
            self.end(conn, End::Closed);
        }
        refused
    }
}

#[test]
fn a_plain_hello_for_an_id_that_a_key_names_is_refused() {
    let mut world = world();
    assert!(world.refuses_plain("web-1"));
    assert_eq!(world.core.stats().hosts_known, 0, "and enters nothing");
    assert!(!world.refuses_plain("db-1"), "no key names this one");
}

#[test]
fn an_offline_id_with_a_proved_key_stays_keyed() {
    let mut world = world();
    assert!(!world.refuses_plain("db-1"));
    let conn = world.prove("10.0.0.1:4000", "db-1");
    world.end(conn, End::Closed);
    assert!(world.refuses_plain("db-1"));
    world.prove("10.0.0.1:4001", "db-1");
}

#[test]
fn a_keyed_id_is_kept_while_a_task_names_it() {
    let mut world = world();
    world.core.env.rules.keep = Span::from_secs(60);
    for id in ["db-1", "db-2"] {
        let conn = world.prove("10.0.0.1:4000", id);
        world.end(conn, End::Closed);
    }
    world.pass(50_000);
    let mut task = world.task("AC1", &["db-1"]);
    task.queue = true;
    let _ = world.asked(request::Request::Dispatch(task));
    world.pass(40_000);
    assert_eq!(world.state("AC1", "db-1"), "queued");
    assert!(world.refuses_plain("db-1"));
    assert!(!world.refuses_plain("db-2"), "this record is gone");
}

#[test]
fn a_proved_id_stays_keyed_over_a_restart() {
    let mut world = world();
    world.prove("10.0.0.1:4000", "inherited");
    let gone = world.prove("10.0.0.1:4001", "gone");
    world.end(gone, End::Closed);
    let mut world = restarted(world);
    world.come_up(true);
    assert!(world.refuses_plain("inherited") && world.refuses_plain("gone"));
    world.prove("10.0.0.1:4002", "inherited");
}

#[test]
fn an_id_keyed_at_a_dead_node_stays_keyed() {
    let mut gone = world();
    gone.prove("10.0.0.1:4000", "db-1");
    gone.prove("10.0.0.1:4001", "db-2");
    let mut world = world();
    let plain = world.open("10.0.0.9:5000");
    world.hello(plain, "db-2", None);
    world.store.claims.extend(gone.store.claims.clone());
    let held = Input::Outcome(Outcome::Ended(gone.store.held()));
    let _ = world.input(held);
    world.settle();
    assert!(world.refuses_plain("db-1"));
    assert!(world.closed(plain) && world.online().is_empty());
}

#[test]
fn an_early_plain_host_of_a_keyed_id_is_ended() {
    let mut world = world();
    world.prove("10.0.0.1:4000", "db-1");
    let mut world = restarted(world);
    let conn = world.open("10.0.0.9:5000");
    world.hello(conn, "db-1", None);
    let progress = Message::Progress(progress_of("AC1", Phase::Received, &["a"]));
    assert_eq!(world.send(conn, progress, None), Flow::Wait, "not recorded");
    world.come_up(true);
    assert!(world.closed(conn));
    assert_eq!(world.store.reports, 0);
}

#[test]
fn a_keyed_address_takes_no_plain_message() {
    let mut world = world();
    let conn = world.prove("10.0.0.1:4000", "10.0.0.1");
    world.end(conn, End::Closed);
    let plain = world.open("10.0.0.1:4001");
    let _ = world.send(plain, Message::Heartbeat, None);
    assert!(world.closed(plain));
    let mapped = world.open("[::ffff:10.0.0.1]:4002");
    let _ = world.send(mapped, Message::Heartbeat, None);
    assert!(world.closed(mapped));
}

#[test]
fn an_inherited_keyed_host_gets_no_bare_datagram() {
    let mut world = world();
    world.prove("10.0.0.1:4000", "db-1");
    let mut world = restarted(world);
    world.come_up(true);
    let before = world.core.stats().datagrams_refused;
    let _ = world.input(Input::Datagram {
        from: "10.0.0.1:6655".parse().unwrap(),
        incoming: Incoming {
            message: Message::Heartbeat,
            ask: ReplyRequest::default(),
        },
    });
    assert_eq!(world.core.stats().datagrams_refused, before + 1);
}

#[test]
fn new_keys_end_plain_hosts_of_their_ids() {
    let mut world = World::new();
    let conns = ["web-1", "db-1"].map(|id| {
        let conn = world.open("10.0.0.9:5000");
        world.hello(conn, id, None);
        conn
    });
    let mut fx = Effects::default();
    world.core.set_access(access(), world.at(), &mut fx);
    world.take(fx);
    assert_eq!(conns.map(|conn| world.closed(conn)), [true, false]);
}
