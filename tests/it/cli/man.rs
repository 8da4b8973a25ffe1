//! The manual pages, checked by the programs that render them.

use std::process::Command;

use super::{run, stdout};

/// Warnings of a renderer about a page.
fn warnings(program: &str, args: &[&str], page: &std::path::Path) -> String {
    let output = Command::new(program).args(args).arg(page).output();
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}: see scripts/test"));
    let all = [output.stdout, output.stderr].concat();
    String::from_utf8_lossy(&all).into_owned()
}

#[test]
fn each_subcommand_has_a_page_and_no_page_has_warnings() {
    let dir = tempfile::tempdir().unwrap();
    let written = run(&["man", dir.path().to_str().unwrap()]);
    assert_eq!(written.status.code(), Some(0));
    let help = stdout(&run(&["--help"]));
    let commands = help
        .split("Commands:\n")
        .nth(1)
        .unwrap()
        .split("\n\n")
        .next();
    let commands = commands.unwrap().lines().filter_map(|line| {
        let name = line.strip_prefix("  ")?.split(' ').next()?;
        Some(name).filter(|name| !name.is_empty() && *name != "help")
    });
    let mut wanted: Vec<String> = commands.map(|name| format!("anthill-{name}.1")).collect();
    assert!(wanted.len() > 20, "{help}");
    wanted.extend(["anthill.1", "anthill.json.5", "anthill-protocol.7"].map(str::to_owned));
    for name in wanted {
        let page = dir.path().join(&name);
        assert!(page.exists(), "{name}");
        assert_eq!(
            warnings("mandoc", &["-T", "lint", "-W", "warning"], &page),
            ""
        );
        let groff = ["-man", "-Tutf8", "-ww", "-z"];
        assert_eq!(warnings("groff", &groff, &page), "", "{name}");
    }
    let why = std::fs::read_to_string(dir.path().join("anthill-why.1")).unwrap();
    assert!(
        why.contains("\\fBanthill why\\fR [OPTIONS] <NAME>\n"),
        "{why}"
    );
    let keys = std::fs::read_to_string(dir.path().join("anthill.json.5")).unwrap();
    assert!(keys.contains(".TP\n\\fBserver.tcp\\fR\n"), "{keys}");
}
