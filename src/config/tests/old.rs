//! The old server's file: accepted values, warnings, errors.

use super::super::*;
use super::{address, error, good};
use crate::store::address::{RedisAddress, RedisPlace};

#[test]
fn a_file_of_the_old_server_is_taken_as_it_is() {
    let config = good(
        r#"{"redisConfig": {"host": "10.0.0.2", "password": "secret", "port": 6379},
            "localConfig": {"ip": "10.0.0.1"},
            "offlineDelFields": {"system": ["systemInfo", "response", "cpu"], "other": []},
            "mail": {"to": "me"}}"#,
    );
    let StoreUrl::Redis(redis) = &config.store.url else {
        panic!("{:?}", config.store.url);
    };
    let wanted = RedisAddress {
        place: RedisPlace::Tcp {
            host: "10.0.0.2".to_owned(),
            port: 6_379,
        },
        user: None,
        password: Some("secret".to_owned()),
        db: 0,
    };
    assert_eq!(*redis, wanted);
    assert_eq!(config.server.tcp, address("10.0.0.1:11451"));
    assert_eq!(config.server.udp, address("10.0.0.1:11452"));
    assert_eq!(config.server.http, address("127.0.0.1:11480"));
    assert_eq!(config.offline.delete_fields, ["systemInfo", "cpu"]);
    assert_eq!(config.auth, Auth::None);
    assert_eq!(config.dispatch.on_done, OnDone::Clear);
    assert_eq!(
        config.warnings,
        [
            "config.json: a configuration of the old server, which served every host: \
             auth counts as \"none\"",
            "config.json: redisConfig.port is not known, and ignored",
            "config.json: offlineDelFields.system[1]: \"response\" belongs to tasks, and is left out",
            "config.json: offlineDelFields.other is not known, and ignored",
            "config.json: mail is not known, and ignored",
        ]
    );
    assert!(!format!("{config:?}").contains("secret"));

    for password in ["null", "\"\""] {
        let text = format!(r#"{{"redisConfig": {{"host": "::1", "password": {password}}}}}"#);
        let config = good(&text);
        assert_eq!(config.store.url.to_string(), "redis://[::1]:6379/0");
        assert_eq!(config.server.tcp, Server::default().tcp);
    }
    let config = good(r#"{"localConfig": {"ip": ""}}"#);
    assert_eq!(config.server.tcp, address("0.0.0.0:11451"));
    assert_eq!(
        config.warnings[1],
        "config.json: redisConfig is missing: the store is embedded:anthill-data"
    );
    let flags = Overrides {
        store: Some("embedded:x".to_owned()),
        ..Overrides::default()
    };
    let text = r#"{"redisConfig": {"host": "h"}}"#;
    let config = Config::parse("config.json", text, &flags).unwrap();
    assert_eq!(config.store.url.to_string(), "embedded:x");
}

#[test]
fn sections_of_ours_stand_beside_the_old_ones() {
    let config = good(
        r#"{"redisConfig": {"host": "10.0.0.2"}, "localConfig": {"ip": "127.0.0.1"},
            "offlineDelFields": {"system": ["cpu"]},
            "dispatch": {"on_done": "keep", "tries": 3}, "log": {"level": "debug"},
            "instructions": {"reboot": "shutdown -r now"}}"#,
    );
    assert_eq!(config.dispatch.on_done, OnDone::Keep);
    assert_eq!(config.dispatch.tries, 3);
    assert_eq!(config.log.level, log::LevelFilter::Debug);
    assert_eq!(config.instructions["reboot"], "shutdown -r now");
    assert_eq!(config.store.url.to_string(), "redis://10.0.0.2:6379/0");
    assert_eq!(config.offline.delete_fields, ["cpu"]);
    assert_eq!((config.auth, config.warnings.len()), (Auth::None, 1));

    // A section without the key leaves what the old server did.
    let config = good(r#"{"localConfig": {}, "dispatch": {"tries": 3}, "auth": null}"#);
    assert_eq!(config.dispatch.on_done, OnDone::Clear);
    assert_eq!(config.auth, Auth::None);
}

#[test]
fn new_sections_override_old_ones() {
    let config = good(
        r#"{"server": {"tcp": "127.0.0.9:5"}, "store": {"url": "redis://db:7"},
            "offline": {"delete_fields": []}, "auth": "none",
            "redisConfig": {"host": "10.0.0.2"}, "localConfig": {"ip": "10.0.0.1"},
            "offlineDelFields": {"system": ["cpu"]}}"#,
    );
    assert_eq!(config.server.tcp, address("127.0.0.9:5"));
    assert_eq!(config.server.udp, address("127.0.0.9:11452"));
    assert_eq!(config.store.url.to_string(), "redis://db:7/0");
    assert!(config.offline.delete_fields.is_empty());
    assert_eq!(
        config.warnings,
        [
            "config.json: store.url takes precedence over redisConfig.host",
            "config.json: server.tcp takes precedence over localConfig.ip",
            "config.json: offline.delete_fields takes precedence over offlineDelFields.system",
        ]
    );
    assert_eq!(
        error(r#"{"localConfig": {}, "dispatch": {"on_dome": "keep"}}"#),
        "config.json: unknown key dispatch.on_dome (did you mean on_done?)"
    );
}

#[test]
fn errors_of_old_files_hide_the_password() {
    let cases = [
        (
            r#"{"redisConfig": {}}"#,
            "redisConfig: has no host: it must be where Redis is",
        ),
        (
            r#"{"redisConfig": {"host": "a b"}}"#,
            "redisConfig.host: \"a b\" is not a host name or an IP address",
        ),
        (
            r#"{"redisConfig": {"host": "h", "password": 12345}}"#,
            "redisConfig.password: is not null or a text in quotes",
        ),
        (
            r#"{"redisConfig": "secret"}"#,
            "redisConfig: is a text, and must be an object",
        ),
        (
            r#"{"localConfig": {"ip": "ants.example"}}"#,
            "localConfig.ip: \"ants.example\" is not an IP address such as 10.0.0.1",
        ),
        (
            r#"{"localConfig": {}, "offlineDelFields": {"system": "x"}}"#,
            "offlineDelFields.system: is a text, and must be a list",
        ),
        (
            r#"{"localConfig": {}, "offlineDelFields": {"system": ["a b"]}}"#,
            "offlineDelFields.system[0]: \"a b\" is not 1 to 64 of A-Z a-z 0-9 _",
        ),
        (
            r#"{"localConfig": {}, "localConfig": {}}"#,
            "localConfig: is given twice",
        ),
    ];
    for (text, wanted) in cases {
        assert_eq!(error(text), format!("config.json: {wanted}"), "{text}");
    }
}
