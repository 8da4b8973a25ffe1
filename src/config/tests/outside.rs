//! `ak.devices` and `reach.targets`.

use super::*;
use serde_json::{Value, json};

fn device(change: Value) -> Value {
    let mut device = json!({
        "name": "bench-1", "addr": "10.0.0.9:9883", "channel": 0, "allowed_cmd": ["ASTZ", "AKON"],
        "period_s": 1.0, "timeout_ms": 1000, "stale_s": 10, "filler": " ", "control": false,
    });
    for (key, value) in change.as_object().unwrap() {
        match value {
            Value::Null => drop(device.as_object_mut().unwrap().remove(key)),
            value => device[key] = value.clone(),
        }
    }
    device
}

fn parsed(devices: &[Value]) -> Result<Config, String> {
    let text = json!({"ak": {"devices": devices}}).to_string();
    Config::parse("c", &text, &Overrides::default()).map_err(|error| error.to_string())
}

fn reaching(targets: Value) -> Result<Config, String> {
    let text = json!({"reach": {"targets": targets}}).to_string();
    Config::parse("c", &text, &Overrides::default()).map_err(|error| error.to_string())
}

#[test]
fn a_device_reads_back_as_shown() {
    let fields = json!({"AKON": [{"name": "co", "unit": "ppm"}, {"name": "mode", "type": "text"}]});
    let full = device(json!({
        "name": "b:2", "channel": 3, "allowed_cmd": ["ASTZ", "AKON", "SREM"], "period_s": 0.1,
        "filler": "0", "control": true, "fields": fields,
    }));
    let sparse = json!({"name": "b", "addr": "[::1]:1", "allowed_cmd": ["A001"]});
    let config = parsed(&[full, sparse]).unwrap();
    let [full, sparse] = &config.ak.devices[..] else {
        panic!("two devices");
    };
    assert_eq!((full.channel, full.filler, full.control), (3, b'0', true));
    assert_eq!(full.fields[0].1[0].unit.as_deref(), Some("ppm"));
    assert!(full.fields[0].1[1].is_text);
    assert_eq!(sparse.period, Span::from_secs(1));
    assert_eq!(
        (sparse.filler, sparse.channel, sparse.control),
        (b' ', 0, false)
    );
    let shown = config.to_json().to_string();
    let again = Config::parse("c", &shown, &Overrides::default()).unwrap();
    assert_eq!(again.ak, config.ak);
}

#[test]
fn errors_of_devices_name_the_member() {
    let cases = [
        (json!({"name": null}), "name: is missing"),
        (json!({"addr": null}), "addr: is missing"),
        (json!({"allowed_cmd": null}), "allowed_cmd: is missing"),
        (json!({"name": "a b"}), "name: \"a b\" is not 1 to 64"),
        (
            json!({"addr": "10.0.0.9"}),
            "addr: \"10.0.0.9\" is not an address",
        ),
        (json!({"addr": "10.0.0.9:0"}), "no standard port"),
        (json!({"addr": "bench:9883"}), "not looked up"),
        (json!({"channel": -1}), "channel: -1 is not a whole number"),
        (json!({"allowed_cmd": []}), "allowed_cmd: names no command"),
        (
            json!({"allowed_cmd": ["ASTZ", "astz"]}),
            "allowed_cmd[1]: \"astz\" is not a code",
        ),
        (
            json!({"allowed_cmd": ["ASTZ", "ASTZ"]}),
            "allowed_cmd[1]: \"ASTZ\" is there twice",
        ),
        (
            json!({"allowed_cmd": ["SREM"]}),
            "allowed_cmd[0]: \"SREM\" begins with S or E, and so changes the device; it may be there only with \"control\": true",
        ),
        (json!({"allowed_cmd": ["EAKA"]}), "\"control\": true"),
        (
            json!({"period_s": 0}),
            "period_s: 0 is not a number of seconds",
        ),
        (
            json!({"timeout_ms": 0}),
            "timeout_ms: 0 is not a whole number of milliseconds",
        ),
        (
            json!({"stale_s": "x"}),
            "stale_s: \"x\" is not a number of seconds",
        ),
        (
            json!({"filler": "ab"}),
            "filler: \"ab\" is not one ASCII character",
        ),
        (json!({"filler": "\u{2}"}), "filler: "),
        (json!({"filler": "ä"}), "filler: "),
        (json!({"control": 1}), "control: 1 is not true or false"),
        (
            json!({"fields": {"AVFI": []}}),
            "fields.AVFI: is not in allowed_cmd",
        ),
        (
            json!({"fields": {"AKON": [{}]}}),
            "fields.AKON[0].name: is missing",
        ),
        (
            json!({"fields": {"AKON": [{"name": "a"}, {"name": "a"}]}}),
            "fields.AKON[1].name: is there twice",
        ),
        (
            json!({"fields": {"AKON": [{"name": "a", "type": "float"}]}}),
            "type: \"float\" is not one of",
        ),
        (json!({"port": 1}), "unknown key ak.devices[0].port"),
    ];
    for (change, said) in cases {
        let error = parsed(&[device(change.clone())]).unwrap_err();
        assert!(error.contains(said), "{change}: {error}");
        assert!(error.contains("ak.devices[0]"), "{change}: {error}");
    }
    let twice = [device(json!({})), device(json!({}))];
    let error = parsed(&twice).unwrap_err();
    assert!(
        error.contains("ak.devices[1].name: \"bench-1\" is another device's name too"),
        "{error}"
    );
    let many = vec![device(json!({})); 1_025];
    assert!(parsed(&many).unwrap_err().contains("may have 1024"));
}

#[test]
fn targets_are_read_in_all_their_forms() {
    let all = json!([
        "10.0.0.1:22",
        "[::1]:22",
        "udp://10.0.0.1:53",
        "udp://[::1]:53?answer",
        "tcp://10.0.0.2:1",
    ]);
    let config = reaching(all.clone()).unwrap();
    let seen = config.reach.targets.iter();
    let seen: Vec<_> = seen
        .map(|t| (t.addr.port(), t.is_udp, t.wants_answer))
        .collect();
    let wanted = [
        (22, false, false),
        (22, false, false),
        (53, true, false),
        (53, true, true),
        (1, false, false),
    ];
    assert_eq!(seen, wanted);
    assert_eq!(config.to_json()["reach"]["targets"], all);
    for wrong in [
        "",
        "10.0.0.1",
        "10.0.0.1:0",
        "10.0.0.1:22?answer",
        "http://10.0.0.1:1",
        "udp://10.0.0.1:5?x",
        "0.0.0.0:1",
    ] {
        let error = reaching(json!([wrong])).unwrap_err();
        assert!(
            error.contains("c: reach.targets[0]: ") && error.contains("is not a target"),
            "{wrong}: {error}"
        );
    }
    let error = reaching(json!(["web:22"])).unwrap_err();
    assert!(error.contains("not looked up"), "{error}");
    let error = reaching(json!(["10.0.0.1:1", "10.0.0.1:1"])).unwrap_err();
    assert!(
        error.contains("reach.targets[1]: \"10.0.0.1:1\" is there twice"),
        "{error}"
    );
}
