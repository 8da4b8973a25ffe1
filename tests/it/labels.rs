//! Labels of hosts, and targets that select by them.

use rustix::process::Signal;
use serde_json::{Value, json};

use super::support::http::patch;
use super::support::server::run;
use super::support::{Home, Host, Server, on_both_stores, until_so};

on_both_stores!(
    labels_come_from_three_sources,
    a_reload_changes_labels_and_groups,
    targets_are_resolved_by_the_server,
);

fn labels_of(server: &Server, host: &str) -> (Value, Value) {
    let host = server.host(host).expect("known");
    (host["labels"].clone(), host["label_sources"].clone())
}

fn configured(home: &mut Home) {
    let labels = json!([
        {"match": "web-*,!web-3", "set": {"role": "web"}},
        {"match": "127.0.41.0/24", "set": {"net": "lab"}},
    ]);
    home.set_section("labels", labels);
    home.set_section("groups", json!({"front": "role=web,dc=fra"}));
}

/// Connects a host that claims labels.
fn claiming(server: &Server, source: &str, id: &str, labels: &str) -> Host {
    let mut host = Host::connect(server.tcp, source);
    let hello = format!(r#"{{"flag":"ADH40","id":"{id}","labels":{labels},"version":"9.1"}}"#);
    assert_eq!(host.ask(hello.as_bytes())["ACK"], "keepGotIt");
    host
}

fn ids(server: &Server, target: &str) -> Vec<String> {
    let page = server.json(&format!("/v1/hosts?target={target}"));
    let hosts = page["hosts"].as_array().expect("a list").iter();
    let mut ids: Vec<String> = hosts
        .map(|host| host["id"].as_str().unwrap().to_owned())
        .collect();
    ids.sort();
    ids
}

fn labels_come_from_three_sources(mut home: Home) {
    configured(&mut home);
    let server = home.start();
    let _web_1 = Host::named(server.tcp, "127.0.41.1", "web-1");
    let web_2 = claiming(
        &server,
        "127.0.42.2",
        "web-2",
        r#"{"role":"own","rack":"7","os":"x"}"#,
    );
    let set = patch(
        server.http,
        "/v1/hosts/web-2/labels",
        r#"{"dc":"fra","rack":"9"}"#,
    );
    assert_eq!(set.status, 200, "{set:?}");
    let wanted = json!({"dc": "fra", "os": "x", "rack": "9", "role": "web"});
    let sources = json!({"dc": "admin", "os": "host", "rack": "admin", "role": "config"});
    let said: Value = serde_json::from_str(&set.body).unwrap();
    assert_eq!(
        (&said["labels"], &said["label_sources"]),
        (&wanted, &sources)
    );
    assert_eq!(
        labels_of(&server, "web-2"),
        (wanted.clone(), sources.clone())
    );
    assert_eq!(
        labels_of(&server, "web-1").0,
        json!({"role": "web", "net": "lab"})
    );
    assert_eq!(ids(&server, "@front"), ["web-2"]);
    assert_eq!(ids(&server, "sys.version=9.1"), ["web-2"]);
    if home.has_redis() {
        let redis = home.store();
        until_so("the claim is stored", || {
            let text: Option<String> = redis.say(&["HGET", "anthill:host:web-2", "labels"]);
            text.is_some_and(|text| text.contains("own"))
        });
    }
    drop(web_2);
    server.until_offline("web-2");

    // They survive the host's and the server's absence.
    server.stop();
    home.start().kill();
    let server = home.start();
    server.until_ready(true);
    assert_eq!(labels_of(&server, "web-2"), (wanted, sources));
    let unset = patch(
        server.http,
        "/v1/hosts/web-2/labels",
        r#"{"dc":null,"rack":null}"#,
    );
    assert_eq!(unset.status, 200, "{unset:?}");
    assert_eq!(
        labels_of(&server, "web-2").0,
        json!({"os": "x", "rack": "7", "role": "web"})
    );
    // What a host does not claim any more is gone.
    let _web_2 = claiming(&server, "127.0.42.2", "web-2", "{}");
    assert_eq!(labels_of(&server, "web-2").0, json!({"role": "web"}));

    for (path, body, status, word) in [
        ("web-9", r#"{"a":"b"}"#, 404, "known"),
        ("web-1", r#"{"sys.node":"b"}"#, 400, "built in"),
        ("web-1", r#"{"a":"b c"}"#, 400, "the value of the label 'a'"),
        ("web-1", r#"{"a":7}"#, 400, "string or null"),
        ("web-1", "{}", 400, "no label"),
    ] {
        let answer = patch(server.http, &format!("/v1/hosts/{path}/labels"), body);
        assert_eq!(answer.status, status, "{body}: {answer:?}");
        assert!(answer.body.contains(word), "{body}: {answer:?}");
    }
}

fn a_reload_changes_labels_and_groups(mut home: Home) {
    configured(&mut home);
    let server = home.start();
    let _hosts = ["web-1", "web-3"].map(|id| Host::named(server.tcp, "127.0.41.1", id));
    assert_eq!(ids(&server, "role=web"), ["web-1"]);
    home.set_section(
        "labels",
        json!([{"match": "web-3", "set": {"role": "api"}}]),
    );
    home.set_section("groups", json!({"back": "role=api"}));
    home.write_config();
    server.signal(Signal::HUP);
    until_so("the new labels are in force", || {
        labels_of(&server, "web-3").0 == json!({"role": "api"})
    });
    until_so("the old ones are gone", || {
        labels_of(&server, "web-1").0 == json!({})
    });
    assert_eq!(ids(&server, "@back"), ["web-3"]);
    let (status, body) = server.get("/v1/hosts?target=@front");
    assert_eq!(status, 400);
    assert!(body.contains("'@front' is no known group"), "{body}");
}

fn targets_are_resolved_by_the_server(mut home: Home) {
    configured(&mut home);
    let server = home.start();
    let _hosts =
        ["web-1", "web-2", "web-3", "db-001"].map(|id| Host::named(server.tcp, "127.0.41.1", id));
    let api = format!("http://{}", server.http);
    let cli = |args: &[&str]| run(home.path(), &[args, &["--api", &api]].concat());
    let done = cli(&["label", "web-[1-2],db-*", "dc=fra", "tier=1"]);
    assert_eq!(done.status, Some(0), "{done:?}");
    assert!(
        done.stderr.contains("labels of 3 hosts changed"),
        "{done:?}"
    );
    for (target, wanted) in [
        (&["@front"][..], "web-1\nweb-2\n"),
        (&["dc=fra", "!db-*,!web-1"], "web-2\n"),
        (&["127.0.41.0/24,tier notin (1)"], "web-3\n"),
        (&["sys.state=online,sys.node=n1,db-[001-009]"], "db-001\n"),
    ] {
        let shown = cli(&[&["hosts", "--json"][..], target].concat());
        assert_eq!(shown.status, Some(0), "{shown:?}");
        let page: Value = serde_json::from_str(&shown.stdout).unwrap();
        let hosts = page["hosts"].as_array().unwrap().iter();
        let ids: String = hosts
            .map(|host| format!("{}\n", host["id"].as_str().unwrap()))
            .collect();
        assert_eq!(ids, wanted, "{target:?}");
    }
    for (target, said) in [
        (
            "role=wbe",
            "'role=wbe': no known host has role=wbe (did you mean 'role=web'?)",
        ),
        (
            "web-*,!wbe-1",
            "'!wbe-1' matches no known host (did you mean 'web-1'?)",
        ),
        (
            "@frnt",
            "'@frnt' is no known group (did you mean '@front'?)",
        ),
        (
            "rloe=web",
            "no known host has the label rloe (did you mean 'role'?)",
        ),
        ("", "the target is empty"),
    ] {
        let refused = cli(&["hosts", target]);
        assert_eq!(refused.status, Some(2), "{target}: {refused:?}");
        assert!(refused.stderr.contains(said), "{target}: {refused:?}");
    }
    // A page shows each host once, whatever its length.
    let (mut seen, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = server.json(&format!("/v1/hosts?target=all,!web-2&limit=1{cursor}"));
        let hosts = page["hosts"].as_array().unwrap();
        assert!(hosts.len() <= 1);
        seen.extend(
            hosts
                .iter()
                .map(|host| host["id"].as_str().unwrap().to_owned()),
        );
        match page["next"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    seen.sort();
    assert_eq!(seen, ["db-001", "web-1", "web-3"]);
}
