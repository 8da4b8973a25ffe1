//! History of hosts and of the fleet, over a restart.

use std::time::{Duration, SystemTime};

use serde_json::Value;
use testkit::server::run;

use super::support::{Home, Host, Server, on_both_stores, until, until_so};

on_both_stores! { history_survives_a_restart }

/// States of a host, the oldest first.
fn states(server: &Server, host: &str) -> Vec<String> {
    let history = server.json(&format!("/v1/hosts/{host}/history"));
    let transitions = history["transitions"]
        .as_array()
        .expect("transitions")
        .iter();
    let word = |one: &Value| one["state"].as_str().expect("a state").to_owned();
    transitions.map(word).collect()
}

fn text(time: SystemTime) -> String {
    humantime::format_rfc3339_millis(time).to_string()
}

fn history_survives_a_restart(mut home: Home) {
    let before = SystemTime::now();
    let server = home.start();
    server.until_ready(true);
    let host = Host::named(server.tcp, "127.0.0.1", "web-1");
    until_so("the host is online", || server.is_online("web-1"));
    assert_eq!(states(&server, "web-1"), ["online"]);
    drop(host);
    server.until_offline("web-1");
    let host = Host::named(server.tcp, "127.0.0.1", "web-1");
    until_so("the host is back", || server.is_online("web-1"));
    assert_eq!(states(&server, "web-1"), ["online", "offline", "online"]);
    let while_online = until("a moment after it came back", || {
        let since = server.host("web-1")?["since"].as_str()?.to_owned();
        let since = humantime::parse_rfc3339(&since).ok()?;
        let now = SystemTime::now();
        (now > since + Duration::from_millis(1)).then_some(now)
    });
    let soon = text(SystemTime::now() + Duration::from_secs(3_600));
    let (status, said) = server.get(&format!("/v1/history/hosts?at={soon}"));
    assert_eq!(status, 400);
    assert!(said.contains("at is in the future"), "{said}");
    // The count is written every ten seconds, and at the stop.
    let counted = server.json("/v1/history?minutes=2");
    assert_eq!(counted["online"].as_array().expect("counts").len(), 2);
    server.stop();
    drop(host);
    // The stop and the next start are apart by more than a millisecond.
    let away = SystemTime::now();

    // Only now: the host sends no heartbeats, and is online until the stop.
    home.set("heartbeat.timeout_s", 1);
    let server = home.start();
    server.until_ready(true);
    let offline = server.until_offline("web-1");
    assert_eq!(offline["reason"], "lost");
    let wanted = ["online", "offline", "online", "offline"];
    until_so("all transitions are there", || {
        states(&server, "web-1") == wanted
    });
    let history = server.json("/v1/hosts/web-1/history");
    assert_eq!(history["complete"], true);
    let gaps = until("the time without a server", || {
        let history = server.json("/v1/hosts/web-1/history");
        history["away"]
            .as_array()
            .filter(|gaps| !gaps.is_empty())
            .cloned()
    });
    assert_eq!(gaps.len(), 1, "{gaps:?}");

    let at = |time: SystemTime| server.json(&format!("/v1/history/hosts?at={}", text(time)));
    assert_eq!(at(while_online)["hosts"][0]["state"], "online");
    assert_eq!(at(before)["hosts"][0]["state"], "unknown");
    let during = at(away);
    assert_eq!(
        (&during["hosts"][0]["state"], during["away"].is_object()),
        (&"unknown".into(), true)
    );
    assert_eq!(server.get("/v1/history/hosts").0, 400);
    assert_eq!(server.get("/v1/history?minutes=0").0, 400);
    assert_eq!(server.get("/v1/hosts/nobody/history").0, 404);

    let api = format!("http://{}", server.http);
    let why = run(home.path(), &["why", "web-1", "--api", &api]);
    assert_eq!(why.status, Some(0), "{why:?}");
    assert!(
        why.stdout.contains("lost") && why.stdout.contains("no server ran until"),
        "{why:?}"
    );
    let time = text(while_online);
    let hosts = run(home.path(), &["hosts", "--at", &time, "--api", &api]);
    assert!(hosts.stdout.contains("web-1  online"), "{hosts:?}");
    assert!(
        hosts.stderr.contains("1 online, 0 offline, 0 unknown"),
        "{hosts:?}"
    );
    if home.has_redis() {
        // Eight bytes each: the present state is in the host's record.
        let stored = home
            .store()
            .say::<u64>(&["STRLEN", "anthill:history:web-1"]);
        assert_eq!(stored, 24);
    }
}
