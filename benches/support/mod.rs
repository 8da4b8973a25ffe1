//! Support for the benches of the stores.

use anthill::store::address::StoreUrl;
use anthill::store::redis::RedisStore;
use anthill::store::{Backend, Settings};
use anthill::time::Span;
use testkit::Redis;

/// Settings of a node, as they are when nothing is configured.
pub fn settings() -> Settings {
    Settings {
        node: "bench".to_owned(),
        delete_fields: vec!["systemInfo".to_owned(), "systemInfoIPV4".to_owned()],
        clear_on_done: false,
        keep: Span::from_secs(604_800),
        timeout: Span::from_secs(10),
        wait_replicas: 0,
        info: anthill::store::NodeInfo::default(),
    }
}

/// A connected store in front of `redis`.
pub fn connect(redis: &Redis) -> RedisStore {
    let Ok(StoreUrl::Redis(address)) = redis.url().parse() else {
        panic!("no address of a Redis: {}", redis.url());
    };
    let mut store = RedisStore::new(address, settings());
    store.open().expect("a Redis that answers");
    store
}
