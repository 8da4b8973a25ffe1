//! A Redis over TLS: a real one, with a certificate of its own authority.

use super::support::server::run;
use super::support::tls::Authority;
use super::support::{BEAT_ASKING, Home, Host, Redis, until_so};

/// A Redis that speaks TLS as `localhost`, and the authority that says so.
fn redis(dir: &std::path::Path) -> (Redis, Authority) {
    let authority = Authority::new();
    let own = authority.signs(&["localhost"], None, false);
    let (cert, key) = own.files(dir, "redis");
    authority.file(dir, "ca.pem");
    (Redis::start_with_tls(&cert, &key), authority)
}

fn url(redis: &Redis, ca: &str) -> String {
    format!("rediss://localhost:{}/0?ca={ca}", redis.tls_port())
}

#[test]
fn a_store_over_tls_outlives_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let (mut redis, _authority) = redis(dir.path());
    let ca = dir.path().join("ca.pem");
    let home = Home::at(&url(&redis, ca.to_str().unwrap()));
    let server = home.start();
    server.until_ready(true);
    let mut host = Host::connect(server.tcp, "127.0.9.1");
    host.ask(BEAT_ASKING);
    until_so("the host in Redis", || redis.exists().contains("127.0.9.1"));

    redis.kill();
    server.until_ready(false);
    let mut late = Host::connect(server.tcp, "127.0.9.2");
    late.ask(BEAT_ASKING);
    redis.restart();
    server.until_ready(true);
    until_so("both in Redis", || redis.exists().len() == 2);

    // One that hangs is away after its time to answer, as over TCP.
    redis.stop();
    server.until_ready(false);
    redis.go_on();
    server.until_ready(true);
    server.stop();
}

#[test]
fn a_wrong_redis_certificate_is_retried() {
    let dir = tempfile::tempdir().unwrap();
    let (redis, authority) = redis(dir.path());
    let other = Authority::new().file(dir.path(), "other.pem");
    let home = Home::at(&url(&redis, other.to_str().unwrap()));
    let server = home.start();
    server.until_ready(false);
    server.logged(&["invalid peer certificate"]);
    let mut host = Host::connect(server.tcp, "127.0.9.1");
    host.ask(BEAT_ASKING);
    assert!(redis.exists().is_empty());
    // It is read again at each attempt.
    authority.file(dir.path(), "other.pem");
    server.until_ready(true);
    until_so("the host in Redis", || redis.exists().contains("127.0.9.1"));
    server.stop();

    let ca = dir.path().join("ca.pem");
    let by_address = url(&redis, ca.to_str().unwrap()).replace("localhost", "127.0.0.1");
    let server = Home::at(&by_address).start();
    server.until_ready(false);
    server.logged(&["it is for another name"]);
}

#[test]
fn a_port_that_speaks_no_tls_is_away() {
    let dir = tempfile::tempdir().unwrap();
    let plain = Redis::start(&[]);
    let ca = Authority::new().file(dir.path(), "ca.pem");
    let url = format!("rediss://localhost:{}/0?ca={}", plain.port(), ca.display());
    let server = Home::at(&url).start();
    server.until_ready(false);
    server.stop();
}

#[test]
fn a_wrong_authority_file_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("empty.pem"), "").unwrap();
    for file in ["nowhere.pem", "empty.pem"] {
        let url = format!("rediss://u:secret@localhost/0?ca={file}");
        let ended = run(dir.path(), &["serve", "--store", &url]);
        assert_eq!(ended.status, Some(2), "{}", ended.stderr);
        assert!(ended.stderr.contains("--store") && ended.stderr.contains(file));
        assert!(!ended.stderr.contains("secret"), "{}", ended.stderr);
    }
}
