//! Outputs of a task, grouped by digest.

use std::fs;

use serde_json::json;
use testkit::server::run;

use super::support::agent::Agent;
use super::support::{Home, on_both_stores, until_so};

on_both_stores! { equal_outputs_are_shown_once }

fn equal_outputs_are_shown_once(home: Home) {
    let server = home.start();
    server.until_ready(true);
    let agents: Vec<Agent> = (1..=4)
        .map(|number| {
            let dir = home.path().join(format!("agent-{number}"));
            fs::create_dir(&dir).unwrap();
            let output = if number == 4 {
                "one\nother\n"
            } else {
                "one\nsame\n"
            };
            fs::write(dir.join("out"), output).unwrap();
            fs::write(dir.join("allow.json"), json!(["cat out"]).to_string()).unwrap();
            let id = format!("web-{number}");
            let args = ["--id", &id, "--push", "--state", "state"];
            Agent::start(&dir, &server.tcp.to_string(), &args)
        })
        .collect();
    until_so("all are online", || {
        server.metric("anthill_hosts_online") == 4
    });
    let api = format!("http://{}", server.http);
    let args = [
        "dispatch",
        "AC1",
        "--task",
        "cat out",
        "--wait=60",
        "-b",
        "--api",
        &api,
    ];
    let sent = run(home.path(), &args);
    assert_eq!(sent.status, Some(0), "{sent:?}");
    assert_eq!(
        sent.stdout,
        "3 agree, 1 differ\nweb-[1-3] (3 hosts): exit 0\n    one\n    same\n\
         web-4 (1 host): exit 0\n    one\n    other\n"
    );
    let diff = run(home.path(), &["task", "AC1", "--diff", "--api", &api]);
    assert!(
        diff.stdout
            .ends_with("exit 0\n      one\n    - same\n    + other\n"),
        "{diff:?}"
    );
    let lines = run(home.path(), &["task", "AC1", "-L", "--api", &api]);
    assert_eq!(lines.stdout.lines().next(), Some("web-1: one"), "{lines:?}");
    assert_eq!(
        lines.stdout.lines().last(),
        Some("web-4: other"),
        "{lines:?}"
    );

    let groups = server.json("/v1/tasks/AC1/groups?command=cat+out");
    assert_eq!(
        groups,
        server.json("/v1/tasks/AC1/groups"),
        "it is the only command"
    );
    let [first, second] = groups["groups"].as_array().expect("groups").as_slice() else {
        panic!("{groups}");
    };
    assert_eq!(
        (&first["hosts"], &first["folded"]),
        (&3.into(), &"web-[1-3]".into())
    );
    assert_eq!(
        (&first["exit"], &first["output"]),
        (&0.into(), &"one\nsame\n".into())
    );
    assert_eq!(
        (&second["hosts"], &second["folded"]),
        (&1.into(), &"web-4".into())
    );
    assert_eq!(groups["without"], json!([]));
    assert_eq!(server.get("/v1/tasks/AC1/groups?command=id").0, 404);
    assert_eq!(server.get("/v1/tasks/AC9/groups").0, 404);
    drop(agents);
}
