//! The store over a Redis Cluster of real servers.

use std::time::{Duration, Instant};

use testkit::cluster::Role;
use testkit::{Cluster, Redis, until, until_so};

use super::*;
use crate::store::address::{RedisAddress, StoreUrl};
use crate::store::redis::slots::slot;
use crate::store::tests::conformance::conformance_list;
use crate::store::{Redirects, Settings};
use crate::time::Span;

conformance_list!(all_cases);

pub(super) fn address(url: &str) -> RedisAddress {
    match url.parse() {
        Ok(StoreUrl::Redis(address)) => address,
        other => panic!("{url}: {other:?}"),
    }
}

fn store(cluster: &Cluster, settings: Settings) -> RedisStore {
    let mut store = RedisStore::new(address(&cluster.url()), settings);
    store.open().unwrap();
    store
}

#[test]
fn the_conformance_suite_passes_on_a_cluster() {
    let cluster = Cluster::start(3, 0);
    for server in cluster.servers() {
        server.say::<redis::Value>(&server::user_of_the_docs());
    }
    let login = "redis+cluster://anthill:CHANGE-ME@";
    let url = cluster.url().replace("redis+cluster://", login);
    for (name, case) in all_cases() {
        cluster.clear();
        eprintln!("{name}");
        case(&mut |settings| -> Box<dyn Subject> {
            let mut store = RedisStore::new(address(&url), settings);
            store.open().unwrap();
            Box::new(store)
        });
    }
}

fn id(server: &Redis) -> String {
    server.say(&["CLUSTER", "MYID"])
}

fn take(store: &mut RedisStore, all: &mut Redirects) {
    *all += store.take_redirects();
}

#[test]
fn a_slot_moves_under_the_writes_to_it() {
    let cluster = Cluster::start(3, 0);
    let mut store = store(&cluster, settings("n1"));
    let mut redirects = Redirects::default();
    claim(&mut store, "a", 1);
    let slot = slot(b"exists").to_string();
    let from = cluster.owner_of("exists");
    let to = (from + 1) % 3;
    let (from, to) = (&cluster.servers()[from], &cluster.servers()[to]);
    let set = |server: &Redis, words: &[&str]| {
        let words = [&["CLUSTER", "SETSLOT", &slot], words].concat();
        server.say::<redis::Value>(&words);
    };
    set(to, &["IMPORTING", &id(from)]);
    set(from, &["MIGRATING", &id(to)]);
    claim(&mut store, "b", 2);
    take(&mut store, &mut redirects);
    assert_eq!(redirects, Redirects::default(), "the key is where it was");

    let port = to.port().to_string();
    from.say::<redis::Value>(&["MIGRATE", "127.0.0.1", &port, "exists", "0", "5000"]);
    let ops: Vec<_> = (0..200).map(|n| online(&format!("h{n}"), n)).collect();
    run(&mut store, &ops);
    take(&mut store, &mut redirects);
    assert!(redirects.asked > 0 && redirects.moved == 0, "{redirects:?}");

    for server in [to, from] {
        set(server, &["NODE", &id(to)]);
    }
    // The scripts are loaded where they are missing, as part of the same step.
    to.say::<redis::Value>(&["SCRIPT", "FLUSH"]);
    claim(&mut store, "c", 3);
    take(&mut store, &mut redirects);
    assert!(redirects.moved > 0, "{redirects:?}");
    until_so("the map is read again", || {
        store.open().unwrap();
        take(&mut store, &mut redirects);
        redirects.refreshes > 0
    });
    let moved = redirects.moved;
    claim(&mut store, "d", 4);
    take(&mut store, &mut redirects);
    assert_eq!(redirects.moved, moved, "the map is right");
    assert_eq!(cluster.exists().len(), 204);
    assert_eq!(settle(&mut store, offline("a", 1, 9)), Settled::Released);
    assert_eq!(cluster.exists().len(), 203);
}

#[test]
fn a_replaced_primary_ends_the_connection() {
    let cluster = Cluster::start(3, 1);
    let mut store = store(&cluster, settings("n1"));
    claim(&mut store, "a", 1);
    let roles = cluster.roles();
    let place = roles
        .iter()
        .position(|role| *role == Role::Replica)
        .unwrap();
    cluster.promote(place);
    let why = until("the end of the connection", || {
        store.run(&[online("b", 2)], &mut Vec::new()).error
    });
    assert!(matches!(why, StoreError::Unavailable(_)), "{why:?}");
    failures::reopen(&mut store);
    claim(&mut store, "c", 3);
    let online = cluster.exists();
    assert!(online.contains("a") && online.contains("c"), "{online:?}");

    // All of them silent cost one timeout, and so does one.
    let mut store = {
        let mut settings = settings("n2");
        settings.timeout = Span::from_millis(1_000);
        self::store(&cluster, settings)
    };
    cluster.servers().iter().for_each(Redis::stop);
    let begun = Instant::now();
    let ran = store.run(
        &[online_of("d"), online_of("e"), online_of("f")],
        &mut Vec::new(),
    );
    assert!(matches!(ran.error, Some(StoreError::Broken(_))), "{ran:?}");
    let took = begun.elapsed();
    assert!(took < Duration::from_millis(2_000), "{took:?}");
    assert!(store.open().is_err());
    let both = begun.elapsed() - took;
    assert!(both < Duration::from_millis(2_000), "{both:?}");
    cluster.servers().iter().for_each(Redis::go_on);
    failures::reopen(&mut store);
    assert_eq!(claim(&mut store, "d", 4), 1);
}

fn online_of(name: &str) -> Op {
    online(name, 7)
}

#[test]
fn a_single_server_is_no_cluster() {
    let server = RedisServer::start(&[]);
    let url = format!("redis+cluster://127.0.0.1:{}", server.port());
    let mut store = RedisStore::new(address(&url), settings("n1"));
    match store.open() {
        Err(StoreError::Unavailable(why)) => {
            assert!(why.contains("cluster support disabled"), "{why}");
            assert!(why.contains(&server.port().to_string()), "{why}");
        }
        other => panic!("{other:?}"),
    }
}
