//! A server that hangs, dies, refuses or loses its data, and operations that are refused.

use std::time::Instant;

use super::*;
use crate::store::redis::tests::server::PATIENCE;
use crate::store::{Ran, Settings, StoreError};
use crate::time::Span;

/// Settings of a node with a time limit in milliseconds.
pub(super) fn impatient(timeout_ms: u64) -> Settings {
    Settings {
        timeout: Span::from_millis(timeout_ms),
        ..settings("n1")
    }
}

fn assert_away(ran: &Ran) {
    let away = matches!(
        ran.error,
        Some(StoreError::Unavailable(_) | StoreError::Broken(_))
    );
    assert!(away, "{ran:?}");
}

pub(super) fn reopen(store: &mut RedisStore) {
    let deadline = Instant::now() + PATIENCE;
    while let Err(error) = store.open() {
        assert!(Instant::now() < deadline, "{error}");
    }
}

#[test]
fn a_hung_server_is_unavailable_in_bounded_time() {
    let server = RedisServer::start(&[]);
    let mut store = server.store(impatient(300));
    claim(&mut store, "a", 1);
    server.stop();
    let ops: Vec<_> = (0..2_000).map(|n| online(&format!("h{n}"), n)).collect();
    let mut outcomes = Vec::new();
    let begun = Instant::now();
    let ran = store.run(&ops, &mut outcomes);
    assert_away(&ran);
    assert_eq!((ran.done, outcomes.len()), (0, 0));
    // One timeout, and not one for each of thousands of replies.
    assert!(begun.elapsed() < PATIENCE, "{:?}", begun.elapsed());
    assert!(matches!(store.open(), Err(StoreError::Unavailable(_))));
    server.go_on();
    reopen(&mut store);
    run(&mut store, &ops);
    assert_eq!(set(&mut store, schema::EXISTS).len(), 2_001);
}

#[test]
fn a_hung_unix_socket_blocks_for_a_bounded_time() {
    let server = RedisServer::start(&["--tcp-backlog", "1"]);
    server.stop();
    let mut store = RedisStore::new(server.unix_address(), impatient(50));
    let begun = Instant::now();
    for _ in 0..8 {
        assert!(matches!(store.open(), Err(StoreError::Unavailable(_))));
    }
    assert!(begun.elapsed() < PATIENCE);
    server.go_on();
    let mut store = RedisStore::new(server.unix_address(), settings("n1"));
    reopen(&mut store);
    claim(&mut store, "a", 1);
}

#[test]
fn a_late_offline_cannot_undo_a_newer_claim() {
    let server = RedisServer::start(&[]);
    let mut store = server.store(impatient(300));
    let old = claim(&mut store, "a", 1);
    server.stop();
    let mut outcomes = Vec::new();
    assert_away(&store.run(&[offline("a", old, 2)], &mut outcomes));
    server.go_on();
    reopen(&mut store);
    let new = claim(&mut store, "a", 3);
    // Repeated, as a dropped connection would still deliver it.
    assert_eq!(settle(&mut store, offline("a", old, 2)), Settled::NotOurs);
    assert_eq!(set(&mut store, schema::EXISTS), ["a"]);
    assert_eq!(settle(&mut store, offline("a", new, 4)), Settled::Released);
}

#[test]
fn a_restarted_server_is_found_again() {
    let mut server = RedisServer::start(&[]);
    let mut store = server.store(settings("n1"));
    claim(&mut store, "a", 1);
    server.kill();
    let mut outcomes = Vec::new();
    assert_away(&store.run(&[online("b", 2)], &mut outcomes));
    assert_eq!(store.run(&[online("b", 2)], &mut outcomes).done, 0);
    assert!(matches!(store.open(), Err(StoreError::Unavailable(_))));
    server.restart();
    reopen(&mut store);
    assert_eq!(claim(&mut store, "b", 2), 1);
    assert_eq!(set(&mut store, schema::EXISTS), ["b"]);
}

#[test]
fn users_and_passwords_are_checked() {
    let server = RedisServer::start(&["--requirepass", "secret"]);
    let open = |user: Option<&str>, password: Option<&str>| {
        let mut address = server.address();
        address.user = user.map(str::to_owned);
        address.password = password.map(str::to_owned);
        RedisStore::new(address, settings("n1")).open()
    };
    for (user, password) in [
        (None, None),
        (None, Some("wrong")),
        (Some("nobody"), Some("x")),
    ] {
        match open(user, password) {
            Err(StoreError::Refused(why)) => assert!(!why.contains("secret"), "{why}"),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(open(None, Some("secret")), Ok(()));
    assert_eq!(open(Some("default"), Some("secret")), Ok(()));
}

#[test]
fn a_forbidden_command_makes_the_store_unavailable() {
    let server = RedisServer::start(&[]);
    let open = |user: &str, rights: &[&str]| {
        let words = ["ACL", "SETUSER", user, "on", ">pw"];
        server.say(&[&words, rights].concat());
        let mut address = server.address();
        address.user = Some(user.to_owned());
        address.password = Some("pw".to_owned());
        let mut store = RedisStore::new(address, settings("n1"));
        let opened = store.open();
        (store, opened)
    };
    for (rights, command) in [
        (["~*", "+@all", "-@write"], "DEL"),
        (["~*", "+@all", "-hset"], "HSET"),
        (["~*", "+@all", "-zscan"], "ZSCAN"),
    ] {
        match open("limited", &rights).1 {
            Err(StoreError::Unavailable(why)) => assert!(why.contains(command), "{why}"),
            other => panic!("{command}: {other:?}"),
        }
    }
    let (mut store, opened) = open("keyless", &["resetkeys", "~anthill:*", "+@all"]);
    opened.unwrap();
    let ran = store.run(&[online("a", 1)], &mut Vec::new());
    assert_away(&ran);
    assert_eq!(ran.done, 0);
}

#[test]
fn a_renamed_command_makes_the_store_unavailable() {
    for (command, ours) in [("HSET", "HSET"), ("XADD", "XADD"), ("EVALSHA", "evalsha")] {
        let server = RedisServer::start(&["--rename-command", command, "OTHER"]);
        let mut store = RedisStore::new(server.address(), settings("n1"));
        match store.open() {
            Err(StoreError::Unavailable(why)) => {
                assert!(why.to_lowercase().contains(&ours.to_lowercase()), "{why}");
            }
            other => panic!("{command}: {other:?}"),
        }
    }
}

#[test]
fn a_read_only_replica_is_unavailable() {
    let server = RedisServer::start(&["--replicaof", "127.0.0.1 1"]);
    let mut store = RedisStore::new(server.address(), settings("n1"));
    match store.open() {
        Err(StoreError::Unavailable(why)) => assert!(why.contains("READONLY"), "{why}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_full_server_is_unavailable() {
    let server = RedisServer::start(&["--maxclients", "1"]);
    let mut first = RedisStore::new(server.address(), settings("n1"));
    reopen(&mut first);
    let mut second = RedisStore::new(server.address(), settings("n1"));
    for _ in 0..20 {
        match second.open() {
            Err(StoreError::Unavailable(why)) => {
                assert!(why.contains("max number of clients"), "{why}")
            }
            other => panic!("{other:?}"),
        }
    }
}

/// Answers one connection with `bytes`, and closes it.
fn answering(bytes: &'static [u8]) -> (std::thread::JoinHandle<()>, RedisStore) {
    use std::io::{Read, Write};
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = crate::store::address::RedisAddress {
        place: crate::store::address::RedisPlace::Tcp {
            host: "127.0.0.1".to_owned(),
            port: listener.local_addr().unwrap().port(),
        },
        user: None,
        password: None,
        db: 0,
    };
    let answer = std::thread::spawn(move || {
        let (mut peer, _) = listener.accept().unwrap();
        let mut some = [0; 64];
        assert!(peer.read(&mut some).unwrap() > 0);
        peer.write_all(bytes).unwrap();
        // Waits for the end: a close with unread data would discard the written bytes.
        while peer.read(&mut [0; 65_536]).is_ok_and(|count| count > 0) {}
    });
    (answer, RedisStore::new(address, impatient(1_000)))
}

#[test]
fn another_protocol_is_named() {
    for (bytes, words) in [
        (
            &b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n"[..],
            "HTTP",
        ),
        (&b"\x15\x03\x01\x00\x02\x02\x46"[..], "rediss://"),
        (&b"220 mail.example ESMTP\r\n"[..], "no Redis"),
    ] {
        let (answer, mut store) = answering(bytes);
        match store.open() {
            Err(StoreError::Unavailable(why)) => assert!(why.contains(words), "{why}"),
            other => panic!("{other:?}"),
        }
        drop(store);
        answer.join().unwrap();
    }
}

#[test]
fn a_value_above_the_servers_limit_breaks_the_connection() {
    let server = RedisServer::start(&["--proto-max-bulk-len", "1048576"]);
    let mut store = server.store(settings("n1"));
    let ran = store.run(&[large_result(1_100_000)], &mut Vec::new());
    match ran.error {
        Some(StoreError::Broken(why)) => assert!(why.contains("invalid bulk length"), "{why}"),
        other => panic!("{other:?}"),
    }
    reopen(&mut store);
    run(&mut store, &[large_result(900_000)]);
}

fn large_result(bytes: usize) -> Op {
    Op::Result(Box::new(op::TaskResult {
        origin: None,
        host: host("h"),
        code: "AC1".to_owned(),
        command: "c".to_owned(),
        exit: 0,
        seconds: 1.0,
        sha256: "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855".to_owned(),
        truncated: false,
        output: "A".repeat(bytes / 4 * 4),
        size: bytes as u64 / 4 * 3,
        lifetime: Default::default(),
        stamp: stamp(1),
    }))
}

#[test]
fn a_missing_database_is_refused() {
    let server = RedisServer::start(&[]);
    let mut address = server.address();
    address.db = 99;
    let mut store = RedisStore::new(address.clone(), settings("n1"));
    match store.open() {
        Err(StoreError::Refused(why)) => assert!(why.contains("database number"), "{why}"),
        other => panic!("{other:?}"),
    }
    address.db = 3;
    let mut store = RedisStore::new(address, settings("n1"));
    store.open().unwrap();
    claim(&mut store, "a", 1);
    assert_eq!(server.say(&["DBSIZE"]), redis::Value::Int(0));
}

#[test]
fn a_key_of_another_type_refuses_the_operation() {
    let server = RedisServer::start(&[]);
    let mut store = server.store(settings("n1"));
    server.say(&["SET", "anthill:host:bad", "what"]);
    server.say(&["SET", "AC9_h_complete", "what"]);
    server.say(&["SADD", "AC8", "what"]);
    let ops = [
        online("good", 1),
        online("bad", 2),
        offline("bad", 1, 3),
        Part("h", "AC9", 4).ended(&["x"], &["y"]),
        Part("i", "AC8", 5).ended(&["x"], &["y"]),
        Part("j", "AC7", 6).ended(&["x"], &["y"]),
    ];
    let outcomes = run(&mut store, &ops);
    let refused: Vec<_> = outcomes
        .iter()
        .map(|outcome| match outcome {
            Outcome::Presence {
                settled: Settled::Refused(why),
                ..
            } => why.contains("WRONGTYPE"),
            Outcome::Report {
                result: Err(why), ..
            } => why.contains("WRONGTYPE"),
            _ => false,
        })
        .collect();
    assert_eq!(
        refused,
        [false, true, true, true, true, false],
        "{outcomes:?}"
    );
    assert_eq!(list(&mut store, "AC7_j_complete"), ["x"]);

    // A shared set of another type refuses every operation, and none waits.
    server.say(&["SET", "exists", "what"]);
    let outcomes = run(&mut store, &[online("c", 7), Op::Audit(vec![host("c")])]);
    assert!(matches!(
        outcomes[..],
        [
            Outcome::Presence {
                settled: Settled::Refused(_),
                ..
            },
            Outcome::Audited
        ]
    ));
}

#[test]
fn a_cluster_of_one_server_gets_one_key_a_command() {
    let server = RedisServer::start(&["--cluster-enabled", "yes"]);
    let mut store = RedisStore::new(server.address(), settings("n1"));
    let ops = [online("a", 1), online("b", 2), online("c", 3)];
    // No slot is served yet.
    assert!(matches!(
        store.open(),
        Err(StoreError::Unavailable(why)) if why.starts_with("CLUSTERDOWN")
    ));
    server.say(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]);
    reopen(&mut store);
    let error = store.run(&ops, &mut Vec::new()).error;
    assert!(
        matches!(&error, Some(StoreError::Unavailable(why)) if why.starts_with("CROSSSLOT")),
        "{error:?}"
    );
    store.open().unwrap();
    run(&mut store, &ops);
    assert_eq!(set(&mut store, "exists"), ["a", "b", "c"]);
    run(&mut store, &[offline("a", 0, 4), offline("c", 0, 5)]);
    assert_eq!(set(&mut store, "exists"), ["b"]);
}

#[test]
fn operations_wait_for_a_loading_server() {
    let server = RedisServer::start(&[]);
    let mut store = server.store(settings("n1"));
    let work = || [online("a", 1), Part("h", "AC1", 1).received(&["x"])];
    let ways: [(&[&str], &[&str]); 3] = [
        (
            &["CONFIG", "SET", "min-replicas-to-write", "1"],
            &["CONFIG", "SET", "min-replicas-to-write", "0"],
        ),
        (
            &["CONFIG", "SET", "maxmemory", "1"],
            &["CONFIG", "SET", "maxmemory", "0"],
        ),
        (
            &["REPLICAOF", "127.0.0.1", "1"],
            &["REPLICAOF", "NO", "ONE"],
        ),
    ];
    for (ill, well) in ways {
        server.say(ill);
        let mut outcomes = Vec::new();
        let ran = store.run(&work(), &mut outcomes);
        assert_away(&ran);
        assert_eq!((ran.done, outcomes.len()), (0, 0), "{ill:?}");
        server.say(well);
        reopen(&mut store);
        assert_eq!(run(&mut store, &work()).len(), 2);
    }
}

#[test]
fn operations_wait_for_a_server_busy_with_a_script() {
    let server = RedisServer::start(&["--lua-time-limit", "1"]);
    let mut store = server.store(settings("n1"));
    std::thread::scope(|scope| {
        // It ends with an error when it is killed.
        scope.spawn(|| {
            let loops = ["EVAL", "while true do end", "0"];
            assert!(server.try_say::<redis::Value>(&loops).is_err());
        });
        let deadline = Instant::now() + PATIENCE;
        let why = loop {
            let ran = store.run(&[online("a", 1)], &mut Vec::new());
            match ran.error {
                Some(StoreError::Unavailable(why)) => break why,
                other => assert!(Instant::now() < deadline, "{other:?}"),
            }
        };
        server.say(&["SCRIPT", "KILL"]);
        assert!(why.starts_with("BUSY"), "{why}");
    });
    reopen(&mut store);
    claim(&mut store, "a", 1);
}

#[test]
fn a_password_in_a_server_error_is_hidden() {
    let server = RedisServer::start(&["--rename-command", "AUTH", "KNOCK"]);
    let mut address = server.address();
    address.password = Some("s3cret".to_owned());
    match RedisStore::new(address, settings("n1")).open() {
        Err(StoreError::Refused(why)) => assert!(!why.contains("s3cret"), "{why}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn settled_operations_are_counted_from_the_first() {
    let server = RedisServer::start(&[]);
    let mut store = server.store_as_default(settings("n1"));
    claim(&mut store, "b", 1);
    server.say(&["ACL", "SETUSER", "default", "-hget"]);
    let mut outcomes = Vec::new();
    // The offline of `b` cannot run. Others can, but only those before it count.
    let ops = [online("a", 2), offline("b", 1, 3), online("c", 4)];
    let ran = store.run(&ops, &mut outcomes);
    assert_away(&ran);
    assert_eq!(ran.done, 1);
    assert!(matches!(
        outcomes[..],
        [Outcome::Presence {
            settled: Settled::Claimed { epoch: 1, .. },
            ..
        }]
    ));
}

#[test]
fn forgotten_scripts_are_loaded_again() {
    let server = RedisServer::start(&[]);
    let mut store = server.store(settings("n1"));
    for seq in 1..4 {
        server.say(&["SCRIPT", "FLUSH"]);
        assert_eq!(claim(&mut store, "a", seq), seq);
        server.say(&["SCRIPT", "FLUSH"]);
        let mut part = Part("h", "AC1", 10 * seq);
        run(
            &mut store,
            &[part.received(&["x", "y"]), part.ended(&["x"], &["y"])],
        );
    }
    assert_eq!(list(&mut store, "AC1_h_complete"), ["x"]);
    let onlines = events(&mut store)
        .iter()
        .filter(|told| *told == "online a")
        .count();
    assert_eq!(onlines, 3);
}

#[test]
fn an_interrupted_report_writes_its_event_when_repeated() {
    let server = RedisServer::start(&[]);
    let mut store = server.store_as_default(settings("n1"));
    let report = Part("h", "AC1", 0).ended(&["x"], &["y"]);
    // Its lists can be written, its event cannot.
    server.say(&["ACL", "SETUSER", "default", "-xadd"]);
    assert_away(&store.run(std::slice::from_ref(&report), &mut Vec::new()));
    assert_eq!(
        server.say(&["LLEN", "AC1_h_complete"]),
        redis::Value::Int(1)
    );
    server.say(&["ACL", "SETUSER", "default", "+xadd"]);
    reopen(&mut store);
    for _ in 0..2 {
        run(&mut store, std::slice::from_ref(&report));
    }
    assert_eq!(events(&mut store), ["progress h working"]);
}

#[test]
fn a_batch_of_large_values_passes() {
    let server = RedisServer::start(&[]);
    let mut store = server.store(settings("n1"));
    let long = "x".repeat(60_000);
    let ops: Vec<_> = (0..60)
        .map(|n| Part("h", "AC1", n).report(Phase::Received, None, &[], &[&long, &n.to_string()]))
        .collect();
    run(&mut store, &ops);
    assert_eq!(list(&mut store, "AC1_h_oncall"), ["59", &long]);
}

#[test]
fn an_unopened_store_is_unavailable_and_hides_the_password() {
    let mut address = RedisServer::start(&[]).address();
    address.password = Some("secret".to_owned());
    let mut store = RedisStore::new(address, settings("n1"));
    assert_away(&store.run(&[online("a", 1)], &mut Vec::new()));
    assert!(store.lease(false).is_err());
    match store.open() {
        Err(StoreError::Unavailable(why)) => assert!(!why.contains("secret"), "{why}"),
        other => panic!("{other:?}"),
    }
    assert!(!store.address.to_string().contains("secret"));
    assert!(!format!("{store:?}").contains("secret"));
}
