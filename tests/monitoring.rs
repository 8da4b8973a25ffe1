//! Rules and board of the monitoring: checked by `promtool`, and against the metrics of a server.
#![cfg(all(feature = "cli", feature = "embedded"))]

use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use testkit::Home;

fn packaging(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("packaging")
        .join(file)
}

/// Runs `promtool` with `input`; fails unless it succeeds.
#[track_caller]
fn promtool(args: &[&str], input: &str) {
    let mut command = Command::new("promtool");
    let command = command
        .args(args)
        .current_dir(packaging("prometheus"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().expect("promtool: see scripts/test");
    let mut pipe = child.stdin.take().unwrap();
    pipe.write_all(input.as_bytes()).unwrap();
    drop(pipe);
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr) + String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{args:?}: {said}");
}

#[test]
fn the_rules_are_valid_and_fire_when_they_should() {
    promtool(&["check", "rules", "rules.yml"], "");
    promtool(&["test", "rules", "tests.yml"], "");
}

/// Names of metrics in a text.
fn names(text: &str) -> BTreeSet<&str> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let words = text.split(|c| !is_part(c));
    words.filter(|word| word.starts_with("anthill_")).collect()
}

#[test]
fn every_metric_of_rules_and_board_exists() {
    let server = Home::embedded().start();
    let (status, page) = server.get("/metrics");
    assert_eq!(status, 200);
    promtool(&["check", "metrics"], &page);
    let known: BTreeSet<&str> = page
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split(['{', ' ']).next())
        .collect();
    let known: BTreeSet<&str> = known.into_iter().chain(names(&page)).collect();
    for file in [
        "prometheus/rules.yml",
        "prometheus/tests.yml",
        "grafana/anthill.json",
    ] {
        let text = std::fs::read_to_string(packaging(file)).unwrap();
        let used = names(&text);
        assert!(used.len() > 10, "{file}");
        let unknown: Vec<_> = used.difference(&known).collect();
        assert!(unknown.is_empty(), "{file}: {unknown:?}");
    }
}

#[test]
fn the_board_is_portable() {
    let text = std::fs::read_to_string(packaging("grafana/anthill.json")).unwrap();
    let board: serde_json::Value = serde_json::from_str(&text).unwrap();
    let variables = board["templating"]["list"].as_array().unwrap();
    let variables: Vec<_> = variables.iter().map(|it| it["name"].as_str()).collect();
    let wanted = ["datasource", "job", "instance"].map(Some);
    assert_eq!(variables, wanted);
    let panels = board["panels"].as_array().unwrap();
    let rows = panels.iter().filter(|panel| panel["type"] == "row");
    let rows: Vec<_> = rows.filter_map(|row| row["title"].as_str()).collect();
    assert_eq!(
        rows,
        [
            "Overview",
            "Presence",
            "Dispatch",
            "Store",
            "Loop",
            "Devices",
            "Several nodes"
        ]
    );
    // Grafana takes panels of the same number for one.
    let numbers: BTreeSet<_> = panels.iter().map(|panel| panel["id"].as_u64()).collect();
    assert_eq!(numbers.len(), panels.len());
    for panel in panels.iter().filter(|panel| panel["type"] != "row") {
        assert_eq!(panel["datasource"]["uid"], "${datasource}");
        for target in panel["targets"].as_array().unwrap() {
            let query = target["expr"].as_str().unwrap();
            assert!(query.contains("instance=~\"$instance\""), "{query}");
        }
    }
}
