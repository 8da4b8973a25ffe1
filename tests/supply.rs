//! Dependencies: no async runtime, no copyleft, nothing that is not in the lock file.
//!
//! All packages in the lock file are checked for runtimes, even those of unused features; licences are
//! checked for everything that is built on this machine with all features, tests and benches.

use std::process::Command;

use serde_json::Value;

/// Crates that bring an async runtime, or are one.
const RUNTIMES: [&str; 6] = [
    "async-io",
    "async-std",
    "futures-util",
    "hyper",
    "smol",
    "tokio",
];

/// Licences whose terms we can keep by naming their owners.
const LICENCES: [&str; 10] = [
    "Apache-2.0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "ISC",
    "MIT",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

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
    for runtime in RUNTIMES {
        assert!(
            !names.contains(&runtime),
            "{runtime} came in: see cargo tree -i {runtime}"
        );
    }
}

#[test]
fn every_licence_is_one_we_can_keep() {
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
            allowed(licence),
            "{} {} is under {licence}",
            package["name"],
            package["version"]
        );
    }
}

/// Returns whether an SPDX expression is acceptable: of an `OR` one side, of an `AND` both. A `/`
/// is an older way to write `OR`; an exception (`WITH`) only ever allows more.
fn allowed(expression: &str) -> bool {
    let spaced = expression
        .replace('/', " OR ")
        .replace('(', " ( ")
        .replace(')', " ) ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut rest = words.as_slice();
    let allowed = any(&mut rest);
    allowed == Some(true) && rest.is_empty()
}

/// Sides of an `OR`, as far as they go; nothing where the expression does not parse.
fn any(words: &mut &[&str]) -> Option<bool> {
    let mut allowed = all(words)?;
    while take(words, "OR") {
        allowed |= all(words)?;
    }
    Some(allowed)
}

/// Sides of an `AND`.
fn all(words: &mut &[&str]) -> Option<bool> {
    let mut allowed = one(words)?;
    while take(words, "AND") {
        allowed &= one(words)?;
    }
    Some(allowed)
}

/// A licence, or an expression in parentheses.
fn one(words: &mut &[&str]) -> Option<bool> {
    if take(words, "(") {
        let allowed = any(words)?;
        return take(words, ")").then_some(allowed);
    }
    let (licence, rest) = words.split_first()?;
    *words = rest;
    if take(words, "WITH") {
        *words = words.split_first()?.1;
    }
    Some(LICENCES.contains(licence))
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
fn an_expression_is_read_as_it_is_meant() {
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
        assert_eq!(allowed(expression), expected, "{expression}");
    }
}
