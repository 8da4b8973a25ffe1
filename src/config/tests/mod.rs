//! Tests of the configuration: every default, every key, files and flags, allowed addresses, and
//! the printed configuration, which reads back. Errors are in `errors`, the old server's file is in
//! `old`.

mod docs;
mod errors;
mod old;
mod outside;

use std::fs;
use std::os::unix::fs::PermissionsExt;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn parse(text: &str) -> Result<Config, ConfigError> {
    Config::parse("config.json", text, &Overrides::default())
}

fn good(text: &str) -> Config {
    parse(text).unwrap_or_else(|e| panic!("{text}: {e}"))
}

fn error(text: &str) -> String {
    match parse(text) {
        Ok(config) => panic!("{text} was taken: {config:?}"),
        Err(error) => error.to_string(),
    }
}

fn flags(overrides: &Overrides) -> Result<Config, ConfigError> {
    Config::parse("config.json", "{}", overrides)
}

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

#[test]
fn defaults_match_the_shipped_file() {
    let shipped = include_str!("../../../config.json");
    let config = good(shipped);
    assert_eq!(config, Config::default());
    assert_eq!(config, good("{}"));
    assert!(config.warnings.is_empty());

    let mut shown = config.to_json();
    // Values that are determined at the start are shown as determined.
    shown["server"]["name"] = Value::Null;
    assert_eq!(shown["server"]["udp"], "127.0.0.1:11452");
    shown["server"]["udp"] = Value::Null;
    assert_eq!(shown["server"]["http_write"], "open");
    shown["server"]["http_write"] = Value::Null;
    assert_eq!(shown, serde_json::from_str::<Value>(shipped).unwrap());
}

#[test]
fn each_default_is_the_documented_one() {
    let config = Config::default();
    assert!((1..=64).contains(&config.server.name.len()));
    assert_eq!(config.server.tcp, address("127.0.0.1:11451"));
    assert_eq!(config.server.udp, address("127.0.0.1:11452"));
    assert_eq!(config.server.http, address("127.0.0.1:11480"));
    assert_eq!(config.heartbeat.timeout, Span::from_secs(60));
    assert_eq!(config.heartbeat.first_message, Span::from_secs(10));
    assert_eq!(config.heartbeat.working_timeout, Span::from_secs(3_600));
    assert_eq!(config.heartbeat.tcp_keepalive, Span::from_secs(30));
    assert_eq!(config.limits.frame_bytes, 65_535);
    assert_eq!(config.limits.result_bytes, 1_048_576);
    assert_eq!(config.dispatch.rto, Span::from_millis(3_000));
    assert_eq!(config.dispatch.keep, Span::from_secs(604_800));
    assert_eq!(config.store.spool_bytes, 1 << 30);
    assert_eq!(config.store.wait_replicas, 0);
    assert_eq!(config.auth, Auth::Unset);
}

#[test]
fn http_writes_need_a_token_with_keys() {
    let dir = tempfile::tempdir().unwrap();
    let (keys, token) = (dir.path().join("keys"), dir.path().join("token"));
    fs::write(&keys, "{}").unwrap();
    fs::write(&token, "x".repeat(16)).unwrap();
    for file in [&keys, &token] {
        fs::set_permissions(file, fs::Permissions::from_mode(0o600)).unwrap();
    }
    let guarded = json!({"keys_file": keys});
    for (auth, write, token_file, expected, said) in [
        (json!(null), json!(null), None, HttpWrite::Open, false),
        (json!("none"), json!(null), None, HttpWrite::Open, false),
        (json!("none"), json!("token"), None, HttpWrite::Token, false),
        (guarded.clone(), json!(null), None, HttpWrite::Token, true),
        (guarded.clone(), json!("open"), None, HttpWrite::Open, true),
        (guarded, json!(null), Some(&token), HttpWrite::Token, false),
    ] {
        let server = json!({"http_write": write, "http_token_file": token_file});
        let text = json!({"auth": auth, "server": server}).to_string();
        let config = good(&text);
        assert_eq!(config.server.http_write, expected, "{text}");
        let warned = config
            .warnings
            .iter()
            .any(|line| line.contains("server.http_write"));
        assert_eq!(warned, said, "{text}: {:?}", config.warnings);
    }
    assert!(error(r#"{"server": {"http_write": "no"}}"#).contains("server.http_write"));
}

#[test]
fn every_key_is_read() {
    let text = json!({
        "server": {"name": "node-1", "tcp": "127.0.0.1:0", "udp": "[::1]:5", "http": "127.0.0.2:0",
                   "http_names": ["ants.example", "[::1]:80"], "http_token_file": null,
                   "http_tls": null, "http_tokens": null, "http_write": "token",
                   "proxy_from": ["10.0.0.0/8", "fd00::1"], "coalesce_us": 0, "turn_budget_us": 500},
        "heartbeat": {"timeout_s": 2, "first_message_s": 0.5, "working_timeout_s": 90.25,
                      "tcp_keepalive_s": 1, "byte_order": "big", "on_shutdown": "offline"},
        "limits": {"connections": 10, "connections_per_ip": 3, "frame_bytes": 64, "result_bytes": 1},
        "dispatch": {"agent_port": 1, "key_prefix": "T9", "rto_ms": 10, "tries": 100,
                     "on_done": "clear", "keep_s": 60},
        "offline": {"delete_fields": []},
        "store": {"url": "redis://:secret@db:1/2", "spool": "/var/spool", "spool_mb": 1,
                  "flush_ms": 0, "timeout_ms": 10, "wait_replicas": 8},
        "auth": "none",
        "tls": null,
        "instructions": {"restart": "systemctl restart ants"},
        "ak": {"devices": []},
        "reach": {"period_s": 0.25, "targets": []},
        "notify": [{"command": ["/bin/tell"], "events": ["reach"], "for_s": 1.5, "group_s": 0}],
        "log": {"level": "off", "file": "a.log", "format": "json", "rotate_mb": 0, "keep": 0}
    });
    let config = good(&text.to_string());
    assert_eq!(config.server.name, "node-1");
    assert_eq!(config.server.tcp, address("127.0.0.1:0"));
    assert_eq!(config.server.udp, address("[::1]:5"));
    assert_eq!(config.server.http, address("127.0.0.2:0"));
    assert_eq!(config.server.http_names, ["ants.example", "[::1]:80"]);
    let balancers = config.server.proxy_from.iter().map(ToString::to_string);
    assert_eq!(balancers.collect::<Vec<_>>(), ["10.0.0.0/8", "fd00::1/128"]);
    assert_eq!(config.server.http_write, HttpWrite::Token);
    assert_eq!(config.server.coalesce_us, 0);
    assert_eq!(config.server.turn_budget_us, Some(500));
    assert_eq!(config.heartbeat.timeout, Span::from_secs(2));
    assert_eq!(config.heartbeat.first_message, Span::from_millis(500));
    assert_eq!(config.heartbeat.working_timeout, Span::from_millis(90_250));
    assert_eq!(config.heartbeat.tcp_keepalive, Span::from_secs(1));
    assert_eq!(config.heartbeat.byte_order, ByteOrder::Big);
    assert_eq!(config.heartbeat.on_shutdown, OnShutdown::Offline);
    assert_eq!(config.limits.connections, Some(10));
    assert_eq!(config.limits.connections_per_ip, Some(3));
    assert_eq!(
        (config.limits.frame_bytes, config.limits.result_bytes),
        (64, 1)
    );
    assert_eq!(config.dispatch.agent_port, 1);
    assert_eq!(config.dispatch.key_prefix, "T9");
    assert_eq!(config.dispatch.rto, Span::from_millis(10));
    assert_eq!(config.dispatch.tries, 100);
    assert_eq!(config.dispatch.on_done, OnDone::Clear);
    assert_eq!(config.dispatch.keep, Span::from_secs(60));
    assert!(config.offline.delete_fields.is_empty());
    assert_eq!(config.store.url, "redis://:secret@db:1/2".parse().unwrap());
    assert_eq!(config.store.spool, Path::new("/var/spool"));
    assert_eq!(config.store.spool_bytes, MIB);
    assert_eq!(config.store.wait_replicas, 8);
    assert_eq!(config.store.flush, Span::ZERO);
    assert_eq!(config.store.timeout, Span::from_millis(10));
    assert_eq!(config.auth, Auth::None);
    assert_eq!(config.instructions["restart"], "systemctl restart ants");
    assert_eq!(config.reach.period, Span::from_millis(250));
    assert_eq!(config.log.level, log::LevelFilter::Off);
    assert_eq!(config.log.file.as_deref(), Some(Path::new("a.log")));
    assert_eq!(config.log.format, Format::Json);
    assert_eq!((config.log.rotate_mb, config.log.keep), (0, 0));

    // No key is shown that is not read, and none is read that is not shown.
    let shown = config.to_json();
    for section in table::sections() {
        let given = &text[section];
        let keys = |value: &Value| -> Vec<String> {
            value
                .as_object()
                .map(|o| o.keys().cloned().collect())
                .unwrap_or_default()
        };
        assert_eq!(keys(&shown[section]), keys(given), "{section}");
        if !["instructions", "auth"].contains(&section) {
            let mut known = table::keys_of(section);
            known.sort_unstable();
            assert_eq!(known, keys(given), "{section}");
        }
    }
    let printed = format!("{config:?} {shown}");
    assert!(!printed.contains("secret"), "{printed}");
}

#[test]
fn an_unreadable_key_file_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ants.json");
    let shown = path.display().to_string();
    let load = || Config::load(Some(&path), &Overrides::default());
    let missing = load().unwrap_err().to_string();
    assert_eq!(
        missing,
        format!("--config: {shown} cannot be read: No such file or directory (os error 2)")
    );
    fs::write(&path, b"{\"log\": \"\xff\"}").unwrap();
    assert_eq!(
        load().unwrap_err().to_string(),
        format!("--config: {shown} cannot be read: it is not UTF-8 (at byte 9)")
    );
    fs::write(&path, "\u{feff}{\"log\": {\"keep\": 3}}").unwrap();
    assert_eq!(load().unwrap().log.keep, 3);
    fs::write(&path, "{\"log\": {\"keep\": -3}}").unwrap();
    assert!(
        load()
            .unwrap_err()
            .to_string()
            .starts_with(&format!("{shown}: log.keep: -3 is"))
    );
    let too_long = format!("{{}}{}", " ".repeat(CONFIG_FILE_BYTES_MAX as usize));
    fs::write(&path, too_long).unwrap();
    assert!(
        load()
            .unwrap_err()
            .to_string()
            .contains("has more than 16777216 bytes")
    );
}

#[test]
fn a_flag_beats_the_file() {
    let text =
        r#"{"server": {"tcp": "127.0.0.1:1", "http": "127.0.0.1:3"}, "log": {"level": "warn"}}"#;
    let overrides = Overrides {
        store: Some("redis://db".to_owned()),
        tcp: Some("127.0.0.2:5".to_owned()),
        udp: None,
        http: Some("127.0.0.3:0".to_owned()),
        auth: Some("none".to_owned()),
        log_level: Some("debug".to_owned()),
    };
    let config = Config::parse("config.json", text, &overrides).unwrap();
    assert_eq!(config.store.url.to_string(), "redis://db:6379/0");
    assert_eq!(config.server.tcp, address("127.0.0.2:5"));
    assert_eq!(config.server.udp, address("127.0.0.2:11452"));
    assert_eq!(config.server.http, address("127.0.0.3:0"));
    assert_eq!(config.auth, Auth::None);
    assert_eq!(config.log.level, log::LevelFilter::Debug);

    let udp = Overrides {
        udp: Some("[::1]:7".to_owned()),
        ..overrides.clone()
    };
    let config = Config::parse("config.json", text, &udp).unwrap();
    assert_eq!(config.server.udp, address("[::1]:7"));
    let given = r#"{"server": {"udp": "127.0.0.9:9"}}"#;
    let config = Config::parse("config.json", given, &overrides).unwrap();
    assert_eq!(config.server.udp, address("127.0.0.9:9"));
}

#[test]
fn a_wrong_flag_is_named() {
    let some = |text: &str| Some(text.to_owned());
    let none = Overrides::default();
    let cases = [
        (
            Overrides {
                tcp: some("ants:1"),
                ..none.clone()
            },
            "--tcp: \"ants:1\" is not an address such as 127.0.0.1:11451 or [::1]:11451 \
             (host names are not looked up: give the IP address)",
        ),
        (
            Overrides {
                udp: some("127.0.0.1"),
                ..none.clone()
            },
            "--udp: \"127.0.0.1\" is not an address such as 127.0.0.1:11451 or [::1]:11451",
        ),
        (
            Overrides {
                http: some("127.0.0.1:99999"),
                ..none.clone()
            },
            "--http: \"127.0.0.1:99999\" is not an address such as 127.0.0.1:11451 or [::1]:11451",
        ),
        (
            Overrides {
                store: some("redis://:secret@"),
                ..none.clone()
            },
            "--store: \"redis://…\" has no good host: a name, an IPv4 address, or an IPv6 address in [ ]",
        ),
        (
            Overrides {
                auth: some("all"),
                ..none.clone()
            },
            "--auth: \"all\" is not \"none\"",
        ),
        (
            Overrides {
                log_level: some("INFO"),
                ..none.clone()
            },
            r#"--log-level: "INFO" is not one of "off", "error", "warn", "info", "debug" or "trace""#,
        ),
        (
            Overrides {
                tcp: some("0.0.0.0:1"),
                ..none.clone()
            },
            "--tcp: 0.0.0.0:1 is not a loopback address while auth is null; \
             it may be one only with tls.client_ca, a keys file in auth, or auth \"none\" (--auth none), which lets everybody in",
        ),
    ];
    for (overrides, wanted) in cases {
        assert_eq!(flags(&overrides).unwrap_err().to_string(), wanted);
        assert!(!format!("{overrides:?}").contains("secret"));
    }
}

#[test]
fn a_server_is_open_only_in_so_many_words() {
    let refused = "is not a loopback address while auth is null; \
                   it may be one only with tls.client_ca, a keys file in auth, or auth \"none\" (--auth none), which lets everybody in";
    for (key, value) in [
        ("tcp", "0.0.0.0:11451"),
        ("tcp", "[::]:0"),
        ("udp", "10.0.0.7:11452"),
        ("http", "[::ffff:10.0.0.7]:80"),
    ] {
        let text = json!({"server": {key: value}}).to_string();
        let shown = address(value);
        assert_eq!(
            error(&text),
            format!("config.json: server.{key}: {shown} {refused}")
        );
    }
    for value in ["127.255.0.1:1", "[::1]:1", "[::ffff:127.0.0.1]:1"] {
        good(&json!({"server": {"tcp": value}}).to_string());
    }
    let open = good(r#"{"server": {"tcp": "0.0.0.0:11451"}, "auth": "none"}"#);
    assert_eq!(open.server.udp, address("0.0.0.0:11452"));
    assert_eq!(
        error(r#"{"server": {"http": "0.0.0.0:80"}, "auth": "none"}"#),
        "config.json: server.http: 0.0.0.0:80 is not a loopback address while \
         server.http_token_file is null; it may be one only with a token (or several, server.http_tokens)"
    );
}

#[test]
fn the_token_is_never_shown() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("token");
    let shown = path.display();
    let text = json!({
        "server": {"http": "0.0.0.0:80", "http_token_file": path},
        "auth": "none"
    })
    .to_string();
    assert_eq!(
        error(&text),
        format!(
            "config.json: server.http_token_file: {shown} cannot be read: \
             No such file or directory (os error 2)"
        )
    );
    for bad in ["short", "with a blank in it ", "sixteen-but-ö-not"] {
        fs::write(&path, bad).unwrap();
        assert_eq!(
            error(&text),
            format!(
                "config.json: server.http_token_file: {shown} holds no token of \
                 16 to 1024 visible ASCII characters"
            )
        );
    }
    fs::write(&path, "0123456789abcdef\n").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    let config = good(&text);
    assert_eq!(
        config.server.http_token.as_deref(),
        Some("0123456789abcdef")
    );
    assert_eq!(config.warnings, Vec::<String>::new());
    let printed = format!("{config:?} {}", config.to_json());
    assert!(!printed.contains("0123456789abcdef"), "{printed}");

    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    assert_eq!(
        good(&text).warnings,
        [format!(
            "config.json: server.http_token_file: every user of this machine may read {shown}: \
             chmod o= would end that"
        )]
    );
}

#[test]
fn changes_are_listed_by_key() {
    let old = good(r#"{"store": {"url": "redis://:one@db"}}"#);
    assert_eq!(old.describe_changes(&old), (Vec::new(), Vec::new()));
    let new = good(
        r#"{"heartbeat": {"timeout_s": 2.5}, "log": {"level": "debug"}, "instructions": {"x": "y"},
            "server": {"tcp": "127.0.0.1:5"}, "store": {"url": "redis://:two@db"}}"#,
    );
    let (applied, restart) = old.describe_changes(&new);
    assert_eq!(
        applied,
        [
            "heartbeat.timeout_s: 60 → 2.5",
            "instructions: {} → {\"x\":\"y\"}",
            "log.level: \"info\" → \"debug\"",
        ]
    );
    assert_eq!(
        restart,
        [
            "server.tcp: \"127.0.0.1:11451\" → \"127.0.0.1:5\"",
            "store.url: another password",
        ]
    );
}

#[test]
fn a_token_reload_applies_at_once() {
    let with = |file: &str, token: &str| {
        let mut config = Config::default();
        config.server.http_token_file = Some(file.into());
        config.server.http_token = Some(token.to_owned());
        config
    };
    let (none, old) = (Config::default(), with("a", "one"));
    let told = |before: &Config, after: &Config| before.describe_changes(after);
    let line = |text: &str| vec![format!("server.http_token_file: {text}")];
    assert_eq!(told(&none, &old), (line("null → \"a\""), vec![]));
    assert_eq!(
        told(&old, &with("b", "two")),
        (line("\"a\" → \"b\""), vec![])
    );
    assert_eq!(
        told(&old, &with("a", "two")),
        (line("another token"), vec![])
    );
    assert_eq!(told(&old, &none), (vec![], line("\"a\" → null")));
}

proptest! {
    #[test]
    fn the_shown_configuration_reads_back(
        timeout in 0.1f64..86_400.0, keep in 60.0f64..315_360_000.0, rto in 10u64..=3_600_000,
        connections in proptest::option::of(1usize..=1 << 24), port in any::<u16>(),
        name in "[A-Za-z0-9._-]{1,64}", file in proptest::option::of("[^\0]{1,20}"),
        byte_order in prop_oneof![Just("auto"), Just("little"), Just("big")],
        level in prop_oneof![Just("off"), Just("error"), Just("trace")],
        commands in proptest::collection::btree_map(".{1,8}", "[a-zö ]{1,8}", 0..4),
    ) {
        let text = json!({
            "server": {"name": name, "tcp": format!("[::1]:{port}")},
            "heartbeat": {"timeout_s": timeout, "byte_order": byte_order},
            "limits": {"connections": connections},
            "dispatch": {"keep_s": keep, "rto_ms": rto},
            "log": {"file": file, "level": level},
            "instructions": commands,
        });
        let config = good(&text.to_string());
        prop_assert_eq!(good(&config.to_json().to_string()), config);
    }

    #[test]
    fn an_error_is_one_line_and_shows_no_password(
        secret in "[Q-Z]{8,16}", key in "[a-z_]{1,12}", odd in any::<String>(),
    ) {
        let url = format!("redis://u:{secret}@h/{odd}x");
        for text in [
            json!({"store": {"url": url}}),
            json!({"store": url}),
            json!({"store": {"timeout_ms": url}}),
            json!({"log": {"level": format!("{odd}{url}")}}),
            json!({&key: {&odd: url}}),
            json!({"log": {&odd: odd}}),
            json!({"redisConfig": {"host": url, "password": [secret]}}),
        ] {
            if let Err(error) = parse(&text.to_string()) {
                let shown = error.to_string();
                prop_assert!(!shown.contains(&secret), "{}", shown);
                prop_assert!(!shown.chars().any(crate::escape::is_unsafe), "{}", shown);
            }
        }
    }
}

#[test]
fn two_listeners_cannot_have_one_address() {
    for (tcp, http) in [
        ("127.0.0.1:5", "127.0.0.1:5"),
        ("0.0.0.0:5", "127.0.0.1:5"),
        ("127.0.0.1:5", "[::ffff:127.0.0.1]:5"),
        ("[::]:5", "127.0.0.1:5"),
    ] {
        let text = format!(r#"{{"server":{{"tcp":"{tcp}","http":"{http}"}},"auth":"none"}}"#);
        let error = error(&text);
        assert!(error.contains("server.http: "), "{error}");
        assert!(error.contains("is taken by server.tcp"), "{error}");
    }
    for (tcp, http) in [
        ("127.0.0.1:0", "127.0.0.1:0"),
        ("127.0.0.1:5", "127.0.0.2:5"),
        ("0.0.0.0:5", "[::1]:5"),
    ] {
        good(&format!(
            r#"{{"server":{{"tcp":"{tcp}","http":"{http}"}},"auth":"none"}}"#
        ));
    }
}
