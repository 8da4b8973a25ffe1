//! Dependencies: no async runtime, no copyleft, nothing that is not in the lock file.
//!
//! `deny.toml` holds the rules, also for `cargo deny check`. This test needs no tool besides cargo.
//! All packages in the lock file are checked for runtimes, even those of unused features; licences are
//! checked for everything that is built on this machine with all features, tests and benches.

use std::process::Command;

use serde_json::Value;

/// Entries of a list of strings in `deny.toml`.
fn rules(name: &str) -> Vec<&'static str> {
    let rules = include_str!("../deny.toml");
    let start = format!("\n{name} = [\n");
    let (_, list) = rules.split_once(&start).expect("the list is there");
    let (list, _) = list.split_once("\n]").expect("the list ends");
    let entries = list.lines().map(|line| line.trim().trim_end_matches(','));
    entries.map(|entry| entry.trim_matches('"')).collect()
}

fn output_of(program: &str, args: &[&str]) -> String {
    let output = Command::new(program)
        .args(args)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap_or_else(|error| panic!("{program}: {error}"));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {args:?}: {errors}");
    String::from_utf8(output.stdout).expect("text")
}

#[test]
fn no_async_runtime_is_in_the_lock_file() {
    let lock = include_str!("../Cargo.lock");
    let names: Vec<&str> = lock
        .lines()
        .filter_map(|line| line.strip_prefix("name = "))
        .map(|name| name.trim_matches('"'))
        .collect();
    assert!(
        names.contains(&"mio"),
        "the lock file is read as it is written"
    );
    let runtimes = rules("deny");
    assert!(runtimes.contains(&"tokio"), "{runtimes:?}");
    for runtime in runtimes {
        assert!(
            !names.contains(&runtime),
            "{runtime} came in: see cargo tree -i {runtime}"
        );
    }
}

#[test]
fn every_licence_is_allowed() {
    let cargo = env!("CARGO");
    let version = output_of("rustc", &["-vV"]);
    let host = version
        .lines()
        .find_map(|line| line.strip_prefix("host: "))
        .expect("rustc names its host");
    let metadata = output_of(
        cargo,
        &[
            "metadata",
            "--locked",
            "--format-version=1",
            "--all-features",
            "--filter-platform",
            host,
        ],
    );
    let metadata: Value = serde_json::from_str(&metadata).expect("JSON");
    let licences = rules("allow");
    let used = metadata["resolve"]["nodes"].as_array().expect("the graph");
    let packages = metadata["packages"].as_array().expect("the packages");
    assert!(used.len() > 50, "the graph is whole: {}", used.len());
    for node in used {
        let package = packages
            .iter()
            .find(|package| package["id"] == node["id"])
            .expect("every node is a package");
        let licence = package["license"].as_str().unwrap_or("none at all");
        assert!(
            allowed(&licences, licence),
            "{} {} is under {licence}",
            package["name"],
            package["version"]
        );
    }
}

/// Returns whether an SPDX expression is acceptable: of an `OR` one side, of an `AND` both. A `/`
/// is an older way to write `OR`; an exception (`WITH`) only ever allows more.
fn allowed(licences: &[&str], expression: &str) -> bool {
    let spaced = expression
        .replace('/', " OR ")
        .replace('(', " ( ")
        .replace(')', " ) ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut rest = words.as_slice();
    let allowed = any(licences, &mut rest);
    allowed == Some(true) && rest.is_empty()
}

/// Sides of an `OR`, as far as they go; nothing where the expression does not parse.
fn any(licences: &[&str], words: &mut &[&str]) -> Option<bool> {
    let mut allowed = all(licences, words)?;
    while take(words, "OR") {
        allowed |= all(licences, words)?;
    }
    Some(allowed)
}

/// Sides of an `AND`.
fn all(licences: &[&str], words: &mut &[&str]) -> Option<bool> {
    let mut allowed = one(licences, words)?;
    while take(words, "AND") {
        allowed &= one(licences, words)?;
    }
    Some(allowed)
}

/// A licence, or an expression in parentheses.
fn one(licences: &[&str], words: &mut &[&str]) -> Option<bool> {
    if take(words, "(") {
        let allowed = any(licences, words)?;
        return take(words, ")").then_some(allowed);
    }
    let (licence, rest) = words.split_first()?;
    *words = rest;
    if take(words, "WITH") {
        *words = words.split_first()?.1;
    }
    Some(licences.contains(licence))
}

fn take(words: &mut &[&str], word: &str) -> bool {
    match words.split_first() {
        Some((first, rest)) if *first == word => {
            *words = rest;
            true
        }
        _ => false,
    }
}

#[test]
fn licence_expressions_are_evaluated() {
    let licences = ["Apache-2.0", "ISC", "MIT", "Unicode-3.0"];
    for (expression, expected) in [
        ("MIT", true),
        ("MIT OR Apache-2.0", true),
        ("MIT/Apache-2.0", true),
        ("MIT OR GPL-3.0", true),
        ("GPL-3.0 OR MIT", true),
        ("MIT AND GPL-3.0", false),
        ("(MIT OR Apache-2.0) AND Unicode-3.0", true),
        ("(MIT OR Apache-2.0) AND GPL-2.0", false),
        ("GPL-2.0 AND MIT OR ISC", true),
        ("Apache-2.0 WITH LLVM-exception OR GPL-2.0", true),
        ("MPL-2.0", false),
        ("none at all", false),
        ("", false),
        ("(MIT", false),
        ("MIT )", false),
        ("MIT OR", false),
    ] {
        assert_eq!(allowed(&licences, expression), expected, "{expression}");
    }
}
