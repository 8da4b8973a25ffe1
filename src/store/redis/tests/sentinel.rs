//! The store over a master that real Sentinels watch.

use testkit::sentinel::Sentinel;
use testkit::{Sentinels, until};

use super::cluster::address;
use super::*;
use crate::time::Span;

#[test]
fn each_attempt_begins_with_another_sentinel() {
    let cut_off = RedisServer::start(&["--min-replicas-to-write", "1"]);
    let server = RedisServer::start(&[]);
    let sentinels = [&cut_off, &server].map(|server| Sentinel::start(server.port()));
    let [first, second] = sentinels.each_ref().map(Sentinel::port);
    let url = format!("redis+sentinel://127.0.0.1:{first},127.0.0.1:{second}/ants");
    let mut store = RedisStore::new(address(&url), settings("n1"));
    match store.open() {
        Err(StoreError::Unavailable(why)) => assert!(why.contains("NOREPLICAS"), "{why}"),
        other => panic!("{other:?}"),
    }
    store.open().unwrap();
    claim(&mut store, "a", 1);
    assert!(server.exists().contains("a"));
}

#[test]
fn the_master_is_found_again_after_a_failover() {
    let sentinels = Sentinels::start();
    let mut settings = settings("n1");
    settings.timeout = Span::from_millis(1_000);
    let mut store = RedisStore::new(address(&sentinels.url()), settings);
    store.open().unwrap();
    claim(&mut store, "a", 1);
    let before = sentinels.master().port();
    // One that does not answer costs a share of the timeout.
    sentinels.stop_sentinel(1);
    sentinels.fail_over();
    let why = until("the end of the connection", || {
        let ran = store.run(&[online("b", 2)], &mut Vec::new());
        ran.error
    });
    let is_away = matches!(why, StoreError::Unavailable(_) | StoreError::Broken(_));
    assert!(is_away, "{why:?}");
    failures::reopen(&mut store);
    claim(&mut store, "c", 3);
    let master = sentinels.master();
    assert_ne!(master.port(), before);
    assert!(master.exists().contains("c"));
    errors_name_what_is_wrong(&sentinels);
}

fn errors_name_what_is_wrong(sentinels: &Sentinels) {
    let url = sentinels.url().replace("/ants", "/bees");
    let mut store = RedisStore::new(address(&url), settings("n1"));
    match store.open() {
        Err(StoreError::Unavailable(why)) => {
            assert!(why.contains("watches no master of the name bees"), "{why}");
        }
        other => panic!("{other:?}"),
    }
    // A Redis is no Sentinel.
    let url = format!(
        "redis+sentinel://127.0.0.1:{}/ants",
        sentinels.master().port()
    );
    let mut store = RedisStore::new(address(&url), settings("n1"));
    match store.open() {
        Err(StoreError::Unavailable(why)) => assert!(why.contains("the Sentinel 127"), "{why}"),
        other => panic!("{other:?}"),
    }
}
