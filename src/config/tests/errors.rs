//! Errors of our own file, word for word.

#[cfg(feature = "cli")]
use super::super::Config;
use super::error;
#[cfg(feature = "cli")]
use crate::limits::CONFIG_ERRORS_MAX;

#[test]
fn a_wrong_value_is_named_with_what_it_may_be() {
    let address = "is not an address such as 127.0.0.1:11451 or [::1]:11451";
    let connections = "is not a whole number from 1 to 16777216";
    let cases = [
        (r#"{"server": 5}"#, "server: is a number, and must be an object".to_owned()),
        (r#"{"store": null}"#, "store: is null, and must be an object".to_owned()),
        (
            r#"{"store": "redis://:secret@h"}"#,
            "store: is a text, and must be an object".to_owned(),
        ),
        (
            r#"{"server": {"name": "a b"}}"#,
            "server.name: \"a b\" is not null or 1 to 64 of A-Z a-z 0-9 . _ -".to_owned(),
        ),
        (r#"{"server": {"tcp": 11451}}"#, format!("server.tcp: 11451 {address}")),
        (r#"{"server": {"tcp": ":11451"}}"#, format!("server.tcp: \":11451\" {address}")),
        (r#"{"server": {"http": null}}"#, format!("server.http: null {address}")),
        (
            r#"{"server": {"udp": "localhost:5"}}"#,
            format!(
                "server.udp: \"localhost:5\" {address} (host names are not looked up: give the IP address)"
            ),
        ),
        (
            r#"{"server": {"proxy_from": ["10.0.0.0/8", "x"]}}"#,
            "server.proxy_from[1]: \"x\" is not a network such as 10.0.0.0/8, or an address".to_owned(),
        ),
        (
            r#"{"server": {"http_names": "x"}}"#,
            "server.http_names: is a text, and must be a list".to_owned(),
        ),
        (
            r#"{"server": {"http_names": ["ok", "a/b"]}}"#,
            "server.http_names[1]: \"a/b\" is not a host name or an address".to_owned(),
        ),
        (
            r#"{"server": {"http_token_file": ""}}"#,
            "server.http_token_file: \"\" is not a path".to_owned(),
        ),
        (
            r#"{"server": {"turn_budget_us": 99}}"#,
            "server.turn_budget_us: 99 is not a whole number from 100 to 100000".to_owned(),
        ),
        (
            r#"{"server": {"coalesce_us": 10001}}"#,
            "server.coalesce_us: 10001 is not a whole number from 0 to 10000".to_owned(),
        ),
        (
            r#"{"heartbeat": {"timeout_s": "sixty"}}"#,
            "heartbeat.timeout_s: \"sixty\" is not a number of seconds from 0.1 to 86400".to_owned(),
        ),
        (
            r#"{"heartbeat": {"timeout_s": 0}}"#,
            "heartbeat.timeout_s: 0 is not a number of seconds from 0.1 to 86400".to_owned(),
        ),
        (
            r#"{"heartbeat": {"timeout_s": -1.5}}"#,
            "heartbeat.timeout_s: -1.5 is not a number of seconds from 0.1 to 86400".to_owned(),
        ),
        (
            r#"{"heartbeat": {"timeout_s": null}}"#,
            "heartbeat.timeout_s: null is not a number of seconds from 0.1 to 86400".to_owned(),
        ),
        (
            r#"{"heartbeat": {"first_message_s": 3601}}"#,
            "heartbeat.first_message_s: 3601 is not a number of seconds from 0.1 to 3600".to_owned(),
        ),
        (
            r#"{"heartbeat": {"working_timeout_s": 0.5}}"#,
            "heartbeat.working_timeout_s: 0.5 is not a number of seconds from 1 to 2592000".to_owned(),
        ),
        (
            r#"{"heartbeat": {"tcp_keepalive_s": 40000}}"#,
            "heartbeat.tcp_keepalive_s: 40000 is not a number of seconds from 1 to 32767".to_owned(),
        ),
        (
            r#"{"heartbeat": {"byte_order": "middle"}}"#,
            r#"heartbeat.byte_order: "middle" is not one of "auto", "little" or "big""#.to_owned(),
        ),
        (
            r#"{"heartbeat": {"on_shutdown": true}}"#,
            r#"heartbeat.on_shutdown: true is not one of "keep" or "offline""#.to_owned(),
        ),
        (r#"{"limits": {"connections": 0}}"#, format!("limits.connections: 0 {connections}")),
        (
            r#"{"limits": {"connections_per_ip": 1.5}}"#,
            format!("limits.connections_per_ip: 1.5 {connections}"),
        ),
        (
            r#"{"limits": {"frame_bytes": 65536}}"#,
            "limits.frame_bytes: 65536 is not a whole number from 64 to 65535".to_owned(),
        ),
        (
            r#"{"limits": {"result_bytes": 16777217}}"#,
            "limits.result_bytes: 16777217 is not a whole number from 1 to 16777216".to_owned(),
        ),
        (
            r#"{"dispatch": {"agent_port": 0}}"#,
            "dispatch.agent_port: 0 is not a whole number from 1 to 65535".to_owned(),
        ),
        (
            r#"{"dispatch": {"key_prefix": "A_"}}"#,
            "dispatch.key_prefix: \"A_\" is not 1 to 16 letters and digits".to_owned(),
        ),
        (
            r#"{"dispatch": {"rto_ms": 9}}"#,
            "dispatch.rto_ms: 9 is not a whole number of milliseconds from 10 to 3600000".to_owned(),
        ),
        (
            r#"{"dispatch": {"tries": "5"}}"#,
            "dispatch.tries: \"5\" is not a whole number from 1 to 100".to_owned(),
        ),
        (
            r#"{"dispatch": {"on_done": ""}}"#,
            r#"dispatch.on_done: "" is not one of "keep" or "clear""#.to_owned(),
        ),
        (
            r#"{"dispatch": {"keep_s": 1e300}}"#,
            "dispatch.keep_s: 1e+300 is not a number of seconds from 60 to 315360000".to_owned(),
        ),
        (
            r#"{"offline": {"delete_fields": ["systemInfo", "oncall"]}}"#,
            "offline.delete_fields[1]: \"oncall\" belongs to tasks, whose records a host that goes \
             offline must not take along; leave it out"
                .to_owned(),
        ),
        (
            r#"{"offline": {"delete_fields": ["info", "net_info"]}}"#,
            "offline.delete_fields[1]: \"net_info\" ends in _info, so that it could name a key of another \
             host or of a task"
                .to_owned(),
        ),
        (
            r#"{"offline": {"delete_fields": ["web_oncall"]}}"#,
            "offline.delete_fields[0]: \"web_oncall\" ends in _oncall, so that it could name a key of \
             another host or of a task"
                .to_owned(),
        ),
        (
            r#"{"offline": {"delete_fields": ["a:b"]}}"#,
            "offline.delete_fields[0]: \"a:b\" is not 1 to 64 of A-Z a-z 0-9 _".to_owned(),
        ),
        (r#"{"store": {"url": 5}}"#, "store.url: 5 is not a URL in quotes".to_owned()),
        (
            r#"{"store": {"url": "redis://:secret@h:x"}}"#,
            "store.url: \"redis://…\" has a port that is not a number from 1 to 65535".to_owned(),
        ),
        (r#"{"store": {"spool": 1}}"#, "store.spool: 1 is not a path".to_owned()),
        (
            r#"{"store": {"spool_mb": 0}}"#,
            "store.spool_mb: 0 is not a whole number from 1 to 1048576".to_owned(),
        ),
        (
            r#"{"store": {"flush_ms": -1}}"#,
            "store.flush_ms: -1 is not a whole number of milliseconds from 0 to 10000".to_owned(),
        ),
        (
            r#"{"store": {"timeout_ms": 60001}}"#,
            "store.timeout_ms: 60001 is not a whole number of milliseconds from 10 to 60000".to_owned(),
        ),
        (r#"{"auth": "open"}"#, "auth: \"open\" is not null, \"none\" or an object with a keys_file".to_owned()),
        (
            r#"{"auth": {"keys_file": "/nonexistent"}}"#,
            "auth.keys_file: /nonexistent cannot be read: No such file or directory (os error 2)"
                .to_owned(),
        ),
        (r#"{"auth": {}}"#, "auth: has no \"keys_file\"".to_owned()),
        (
            r#"{"auth": {"keys_file": "k", "plain_from": ["10.0.0.1/8"]}}"#,
            "auth.plain_from[0]: \"10.0.0.1/8\" is not a network such as 10.0.0.0/8, or an address"
                .to_owned(),
        ),
        (
            r#"{"tls": {"cert": "a", "key": "b"}}"#,
            "tls.cert: a cannot be read: No such file or directory (os error 2)".to_owned(),
        ),
        (
            r#"{"reach": {"period_s": 0}}"#,
            "reach.period_s: 0 is not a number of seconds from 0.1 to 86400".to_owned(),
        ),
        (
            r#"{"instructions": {"x": "a\nb"}}"#,
            "instructions.x: \"a\\u{a}b\" is not a command in quotes, without control characters".to_owned(),
        ),
        (
            r#"{"log": {"level": "loud"}}"#,
            r#"log.level: "loud" is not one of "off", "error", "warn", "info", "debug" or "trace""#.to_owned(),
        ),
        (
            r#"{"log": {"format": "xml"}}"#,
            r#"log.format: "xml" is not one of "text" or "json""#.to_owned(),
        ),
        (
            r#"{"log": {"keep": 1001}}"#,
            "log.keep: 1001 is not a whole number from 0 to 1000".to_owned(),
        ),
        (
            r#"{"log": {"rotate_mb": 1048577}}"#,
            "log.rotate_mb: 1048577 is not a whole number from 0 to 1048576".to_owned(),
        ),
        (r#"{"log": {"file": "a\u0000"}}"#, "log.file: \"a\\u{0}\" is not a path".to_owned()),
    ];
    for (text, wanted) in cases {
        assert_eq!(error(text), format!("config.json: {wanted}"), "{text}");
    }
}

#[test]
fn an_unknown_key_gets_the_nearest_name() {
    let cases = [
        (
            r#"{"heartbeet": {}}"#,
            "heartbeet (did you mean heartbeat?)",
        ),
        (
            r#"{"heartbeat": {"timout_s": 60}}"#,
            "heartbeat.timout_s (did you mean timeout_s?)",
        ),
        (
            r#"{"server": {"timeout_s": 60}}"#,
            "server.timeout_s (did you mean heartbeat.timeout_s?)",
        ),
        (
            r#"{"tcp": "127.0.0.1:1"}"#,
            "tcp (did you mean server.tcp?)",
        ),
        (
            r#"{"log": {"colour": 1}}"#,
            "log.colour (it may be one of level, file, format, rotate_mb, keep)",
        ),
        (
            r#"{"log": {"ke\nep": 1}}"#,
            "log.ke\\u{a}ep (it may be one of level, file, format, rotate_mb, keep)",
        ),
    ];
    for (text, wanted) in cases {
        assert_eq!(error(text), format!("config.json: unknown key {wanted}"));
    }
}

#[test]
fn a_key_given_twice_is_refused_at_every_level() {
    assert_eq!(
        error(r#"{"log": {}, "log": {}}"#),
        "config.json: log: is given twice"
    );
    assert_eq!(
        error(r#"{"log": {"keep": 1, "keep": 1}}"#),
        "config.json: log.keep: is given twice"
    );
    assert_eq!(
        error(r#"{"instructions": {"x": "a", "x": "b"}}"#),
        "config.json: instructions.x: is given twice"
    );
}

#[test]
fn json_errors_name_line_and_column() {
    for (text, why) in [
        ("", ": is empty, and must hold a JSON object, such as {}"),
        (
            "\n \n",
            ": holds only white space, and must hold a JSON object, such as {}",
        ),
        (
            "{\n  \"log\": {,}\n}",
            ":2:11: a name in quotes belongs here",
        ),
        (
            "{\"log\": {",
            ":1:9: the text ends inside an object: its } is missing",
        ),
        ("{} x", ":1:4: text follows the end of the value"),
    ] {
        assert_eq!(error(text), format!("config.json{why}"));
    }
    assert!(error(&"[".repeat(1_000)).contains("nested too deep"));
    assert_eq!(error("[]"), "config.json: is a list, and must be an object");
}

#[cfg(feature = "cli")]
#[test]
fn every_wrong_value_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("config.json");
    let of = |text: &str| {
        std::fs::write(&file, text).unwrap();
        let errors = Config::load_or_errors(Some(&file))
            .err()
            .unwrap_or_default();
        let name = format!("{}: ", file.display());
        let texts = errors.iter().map(ToString::to_string);
        texts
            .map(|text| text.strip_prefix(&name).unwrap_or(&text).to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(of("{}"), Vec::<String>::new());
    let found = of(
        r#"{"server": {"tcp": "x", "http": "127.0.0.1:70000", "nope": 1}, "stor": {}, "log": 5,
            "ak": {"devices": [{"name": ""}]}, "notify": [{}], "auth": {"plain_from": ["a"]}}"#,
    );
    for key in [
        "server.tcp",
        "server.http",
        "unknown key server.nope",
        "unknown key stor",
        "log: ",
        "ak.",
        "notify[0]",
        "auth",
    ] {
        let named = found.iter().filter(|text| text.starts_with(key));
        assert_eq!(named.count(), 1, "{key} in {found:#?}");
    }
    assert_eq!(found.len(), 8, "{found:#?}");
    // Without the wrong name, `tls` would lack one.
    let found = of(r#"{"tls": {"cert": "none.pem", "key": "none.pem"}, "log": 5}"#);
    assert_eq!(found.len(), 2, "{found:#?}");
    // A rule between two values has no more errors behind it, and neither has a damaged text.
    let meeting = r#"{"server": {"tcp": "127.0.0.1:5", "http": "127.0.0.1:5"}}"#;
    assert_eq!(of(meeting).len(), 1);
    assert_eq!(of("{").len(), 1);
    let many: Vec<String> = (0..100).map(|n| format!("\"k{n}\": 1")).collect();
    assert_eq!(
        of(&format!("{{{}}}", many.join(", "))).len(),
        CONFIG_ERRORS_MAX
    );
}

#[test]
fn receivers_of_notifications_are_checked() {
    for (entry, why) in [
        (
            r#"{}"#,
            "notify[0]: needs either \"command\" or \"webhook\"",
        ),
        (
            r#"{"command": ["tell"]}"#,
            "notify[0].command: begins with no absolute path",
        ),
        (
            r#"{"command": ["/bin/tell"], "key_file": "k"}"#,
            "notify[0].key_file: signs a webhook",
        ),
        (
            r#"{"webhook": "ftp://x"}"#,
            "notify[0].webhook: \"ftp://x\" is not http://",
        ),
        (r#"{"webhook": "http://me:pw@x/"}"#, "is not http://"),
        (
            r#"{"webhook": "http://x/", "events": ["off"]}"#,
            "notify[0].events[0]",
        ),
        (
            r#"{"webhook": "http://x/", "for_s": -1}"#,
            "notify[0].for_s",
        ),
        (
            r#"{"webhook": "http://x/", "key_file": "/nowhere"}"#,
            "notify[0].key_file: /nowhere",
        ),
    ] {
        let said = error(&format!(r#"{{"notify": [{entry}]}}"#));
        assert!(said.contains(why), "{said}");
    }
}
