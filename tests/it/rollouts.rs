//! Rollouts, watched from the hosts' side.

use serde_json::{Value, json};
use testkit::server::run;

use super::support::words::{phase, rcc};
use super::support::{Home, Host, Server, on_both_stores, until_so};

on_both_stores!(
    waves_follow_each_other_over_a_kill,
    a_failure_pauses_and_cancel_ends,
    a_change_is_stored_when_it_is_answered,
);

fn start(home: &mut Home) -> (Server, Vec<Host>) {
    home.set("heartbeat.timeout_s", 30);
    let server = home.start();
    let hosts = connect(&server);
    (server, hosts)
}

fn connect(server: &Server) -> Vec<Host> {
    let one = |n: u32| Host::named(server.tcp, &format!("127.0.61.{n}"), &format!("web-{n}"));
    (1..=4).map(one).collect()
}

fn states(server: &Server, key: &str) -> Vec<String> {
    let task = server.json(&format!("/v1/tasks/{key}"));
    let hosts = task["hosts"].as_object().expect("hosts");
    hosts
        .values()
        .map(|host| host["state"].as_str().unwrap().to_owned())
        .collect()
}

fn rollout(server: &Server, key: &str) -> Value {
    server.json(&format!("/v1/tasks/{key}"))["rollout"].clone()
}

fn finish(host: &mut Host, key: &str) {
    host.ask(rcc(1, key).as_bytes());
    host.ask(phase(3, key, "null", r#"["a"]"#, "[]").as_bytes());
}

fn waves_follow_each_other_over_a_kill(mut home: Home) {
    let (server, mut hosts) = start(&mut home);
    let (status, plan) = server.post("/v1/plan", &json!({"target": "web-*", "batch": "1,75%"}));
    assert_eq!((status, &plan["hosts"]), (200, &json!(4)), "{plan}");
    let waves: Vec<&str> = plan["waves"]
        .as_array()
        .unwrap()
        .iter()
        .map(|wave| wave["folded"].as_str().unwrap())
        .collect();
    assert_eq!(waves, ["web-1", "web-[2-3]", "web-4"]);
    let task = json!({"key": "AC1", "commands": {"a": 1}, "target": "web-*", "batch": "1,75%"});
    let (status, refused) = server.post("/v1/tasks", &{
        let mut task = task.clone();
        task["expect"] = json!(5);
        task
    });
    assert_eq!(status, 400, "{refused}");
    let (status, said) = server.post("/v1/tasks", &task);
    assert_eq!(status, 201, "{said}");
    assert_eq!(states(&server, "AC1"), ["sent", "held", "held", "held"]);
    if home.has_redis() {
        let awaited: Vec<String> = home.store().say(&["SMEMBERS", "AC1_response"]);
        assert_eq!(awaited, ["web-1"]);
    }
    finish(&mut hosts[0], "AC1");
    until_so("the second wave", || {
        states(&server, "AC1") == ["done", "sent", "sent", "held"]
    });
    assert_eq!(server.json("/v1/tasks/AC1")["digest"], plan["digest"]);
    if home.has_redis() {
        until_so("its hosts are awaited", || {
            let mut awaited: Vec<String> = home.store().say(&["SMEMBERS", "AC1_response"]);
            awaited.sort();
            awaited == ["web-2", "web-3"]
        });
    }
    finish(&mut hosts[1], "AC1");
    server.until_task("AC1", "web-2", "done");
    server.kill();
    let server = home.start();
    server.until_ready(true);
    let mut hosts = connect(&server);
    assert_eq!(states(&server, "AC1")[2..], ["sent", "held"]);
    assert_eq!(rollout(&server, "AC1")["wave"], 2);
    finish(&mut hosts[2], "AC1");
    until_so("the third wave", || states(&server, "AC1")[3] == "sent");
    finish(&mut hosts[3], "AC1");
    until_so("the end", || rollout(&server, "AC1")["state"] == "done");
}

fn a_failure_pauses_and_cancel_ends(mut home: Home) {
    let (server, mut hosts) = start(&mut home);
    let task = json!({"key": "AC1", "commands": {"a": 1}, "target": "web-*", "batch": 1});
    assert_eq!(server.post("/v1/tasks", &task).0, 201);
    hosts[0].ask(rcc(2, "AC1").as_bytes());
    until_so("it pauses", || rollout(&server, "AC1")["state"] == "paused");
    let shown = rollout(&server, "AC1");
    assert!(
        shown["why"].as_str().unwrap().contains("1 host failed"),
        "{shown}"
    );
    assert_eq!(states(&server, "AC1"), ["no-book", "held", "held", "held"]);
    let (status, said) = server.post("/v1/tasks/AC1/resume", &json!({}));
    assert_eq!(
        (status, &said["rollout"]["state"]),
        (200, &json!("running")),
        "{said}"
    );
    until_so("the second wave", || states(&server, "AC1")[1] == "sent");
    assert_eq!(server.post("/v1/tasks/AC1/resume", &json!({})).0, 409);
    hosts[1].ask(rcc(1, "AC1").as_bytes());
    server.until_task("AC1", "web-2", "answered");
    let (status, said) = server.post("/v1/tasks/AC1/cancel", &json!({}));
    assert_eq!((status, &said["cancelled"]), (200, &json!(2)), "{said}");
    assert_eq!(said["cannot"], json!(["web-2"]));
    assert_eq!(
        states(&server, "AC1"),
        ["no-book", "answered", "cancelled", "cancelled"]
    );
    assert_eq!(rollout(&server, "AC1")["state"], "cancelled");
    finish(&mut hosts[1], "AC1");
    server.until_task("AC1", "web-2", "done");
    assert_eq!(server.post("/v1/tasks/AC9/cancel", &json!({})).0, 404);
}

fn a_change_is_stored_when_it_is_answered(mut home: Home) {
    let (server, mut hosts) = start(&mut home);
    let task = json!({"key": "AC1", "commands": {"a": 1}, "target": "web-*", "batch": 1});
    assert_eq!(server.post("/v1/tasks", &task).0, 201);
    let (status, said) = server.post("/v1/tasks/AC1/pause", &json!({}));
    assert_eq!((status, &said["rollout"]["state"]), (200, &json!("paused")));
    server.kill();
    let server = home.start();
    server.until_ready(true);
    assert_eq!(rollout(&server, "AC1")["state"], "paused");
    let listed = server.json("/v1/tasks")["tasks"][0]["rollout"].clone();
    assert_eq!(listed, rollout(&server, "AC1"));

    // A failure beyond the budget pauses it again, as the next look at it shows.
    drop(hosts);
    hosts = connect(&server);
    hosts[0].ask(rcc(2, "AC1").as_bytes());
    server.until_task("AC1", "web-1", "no-book");
    assert_eq!(server.post("/v1/tasks/AC1/resume", &json!({})).0, 200);
    let shown = rollout(&server, "AC1");
    assert_eq!(shown["state"], "paused", "{shown}");
    assert!(shown["why"].as_str().unwrap().contains("1 host failed"));
    assert_eq!(server.post("/v1/tasks/AC1/resume", &json!({})).0, 200);
    let shown = rollout(&server, "AC1");
    let next = (&shown["state"], &shown["wave"]);
    assert_eq!(next, (&json!("running"), &json!(2)), "{shown}");

    let (status, said) = server.post("/v1/tasks/AC1/cancel", &json!({}));
    assert_eq!((status, &said["cancelled"]), (200, &json!(3)), "{said}");
    server.kill();
    let server = home.start();
    server.until_ready(true);
    assert_eq!(
        states(&server, "AC1"),
        ["no-book", "cancelled", "cancelled", "cancelled"]
    );
    let (status, said) = server.post("/v1/tasks/AC1/cancel", &json!({}));
    assert_eq!((status, &said["cancelled"]), (200, &json!(0)), "{said}");
}

#[test]
fn the_command_line_names_options_and_shows_pauses() {
    let mut home = Home::embedded();
    let (server, mut hosts) = start(&mut home);
    let api = format!("http://{}", server.http);
    let say = |words: &[&str]| run(home.path(), &[words, &["--api", &api]].concat());
    let waves = ["--task", "a", "--target", "web-*", "--batch"];
    for (more, words) in [
        (
            &["10,5"][..],
            "--batch is '10,5': the step 5 is not above 10",
        ),
        (&["1,x"], "--batch is '1,x'"),
        (&["1", "--max-fail", "many"], "--max-fail is 'many'"),
        (&["1", "--canary", "0"], "--canary is '0'"),
        (&["1", "--pause", "soon"], "--pause is 'soon'"),
        (&["1", "--expect", "5"], "5 hosts were expected"),
    ] {
        for first in [
            &["plan", "web-*", "--batch"][..],
            &[&["dispatch", "AC1"][..], &waves].concat(),
        ] {
            let refused = say(&[first, more].concat());
            assert_eq!(refused.status, Some(2), "{more:?}: {}", refused.stderr);
            assert!(refused.stderr.contains(words), "{}", refused.stderr);
        }
    }
    for target in [&["--host", "web-1"][..], &[]] {
        let words = [
            &["dispatch", "AC1", "--task", "a", "--expect", "9"][..],
            target,
        ]
        .concat();
        let refused = say(&words);
        assert_eq!(refused.status, Some(2), "{}", refused.stderr);
    }

    let sent = say(&[&["dispatch", "AC1"][..], &waves, &["1"]].concat());
    assert_eq!(sent.status, Some(0), "{}", sent.stderr);
    hosts[0].ask(rcc(2, "AC1").as_bytes());
    until_so("it pauses", || rollout(&server, "AC1")["state"] == "paused");
    let shown = say(&["task", "AC1"]);
    assert!(
        shown
            .stdout
            .contains("ROLLOUT  paused, wave 1 of 4: 1 host failed")
            && shown.stdout.contains("anthill resume AC1"),
        "{}",
        shown.stdout
    );
    let listed = say(&["tasks"]);
    assert!(
        listed.stdout.contains("paused, wave 1 of 4"),
        "{}",
        listed.stdout
    );
    let resumed = say(&["resume", "AC1"]);
    assert_eq!(resumed.status, Some(0), "{}", resumed.stderr);
    assert!(
        resumed.stderr.contains("AC1: running, wave 2 of 4"),
        "{}",
        resumed.stderr
    );
    let cancelled = say(&["cancel", "AC1"]);
    assert!(
        cancelled.stderr.contains("3 cancelled"),
        "{}",
        cancelled.stderr
    );
    let again = say(&["cancel", "AC1"]);
    assert!(
        again.stderr.contains("nothing is cancelled"),
        "{}",
        again.stderr
    );
    assert_eq!(again.status, Some(0));

    // A wait ends at a pause, with status 3 and the task on stdout.
    let words = [
        "dispatch", "AC2", "--task", "a", "--target", "web-*", "--batch", "1", "--json",
    ];
    let waited = std::thread::scope(|scope| {
        let waited = scope.spawn(|| say(&[&words[..], &["--wait"]].concat()));
        until_so("the task", || {
            let tasks = server.json("/v1/tasks");
            tasks["tasks"][0]["key"] == "AC2"
        });
        hosts[0].ask(rcc(2, "AC2").as_bytes());
        waited.join().unwrap()
    });
    assert_eq!(waited.status, Some(3), "{}", waited.stderr);
    let printed: Value = serde_json::from_str(&waited.stdout).unwrap();
    assert_eq!(printed["rollout"]["state"], "paused");
    assert!(
        waited.stderr.contains("anthill resume AC2"),
        "{}",
        waited.stderr
    );

    // Labels of all hosts are confirmed, and a label that is not there is none to remove.
    let unconfirmed = say(&["label", "all", "dc=fra"]);
    assert_eq!(unconfirmed.status, Some(2), "{}", unconfirmed.stderr);
    let same = say(&["label", "web-1", "dc-"]);
    assert!(
        same.stderr.contains("nothing changed: 1 host"),
        "{}",
        same.stderr
    );
    let nowhere = say(&["hosts", "--node", "nope"]);
    assert_eq!(nowhere.status, Some(2), "{}", nowhere.stderr);
    assert!(
        nowhere.stderr.contains("--node is 'nope'"),
        "{}",
        nowhere.stderr
    );
}

#[test]
fn a_retry_goes_to_the_hosts_that_failed() {
    let mut home = Home::embedded();
    let (server, mut hosts) = start(&mut home);
    let api = format!("http://{}", server.http);
    let dispatch = |words: &[&str]| {
        run(
            home.path(),
            &[&["dispatch"], words, &["--api", &api]].concat(),
        )
    };
    let first = dispatch(&["AC1", "--task", "a=2", "--task", "b=1", "--target", "web-*"]);
    assert_eq!(first.status, Some(0), "{}", first.stderr);
    let refused = dispatch(&["AC2", "--retry", "AC1"]);
    assert_eq!(refused.status, Some(1), "{}", refused.stderr);
    for (number, host) in hosts.iter_mut().enumerate() {
        // Two of four have no book.
        host.ask(rcc(if number < 2 { 1 } else { 2 }, "AC1").as_bytes());
    }
    until_so("two without a book", || {
        states(&server, "AC1")
            .iter()
            .filter(|state| *state == "no-book")
            .count()
            == 2
    });
    for unsafe_words in [
        &["AC2", "--retry", "AC1", "--dry-run"][..],
        &["AC2", "--task", "a", "--states", "failed"],
        &["AC2", "--task", "a", "--target", "web-*", "--batch", "0"],
        &[
            "AC2",
            "--task",
            "a",
            "--target",
            "web-*",
            "--batch",
            "1",
            "--wave-timeout",
            "0",
        ],
        &[
            "AC2", "--task", "a", "--target", "web-*", "--batch", "1", "--pause", "nan",
        ],
    ] {
        let refused = dispatch(unsafe_words);
        assert_eq!(
            refused.status,
            Some(2),
            "{unsafe_words:?}: {}",
            refused.stderr
        );
    }
    let wrong = dispatch(&["AC2", "--retry", "AC1", "--states", "sent"]);
    assert_eq!(wrong.status, Some(2), "{}", wrong.stderr);
    let retried = dispatch(&["AC2", "--retry", "AC1", "--states", "no-book"]);
    assert_eq!(retried.status, Some(0), "{}", retried.stderr);
    let task = server.json("/v1/tasks/AC2");
    let names: Vec<&String> = task["hosts"].as_object().unwrap().keys().collect();
    assert_eq!(names, ["web-3", "web-4"]);
    assert_eq!(task["commands"], server.json("/v1/tasks/AC1")["commands"]);
}
