//! `anthill doctor`: checks what a server needs of this machine, of its configuration and of its
//! store, and shows for each finding the command that mends it. It changes nothing.

mod files;
mod kernel;
mod running;
mod store;

use serde::Serialize;

use super::api::Api;
use super::args::DoctorArgs;
use super::{Failure, print_json, print_lines};
use crate::config::{Config, Overrides};
use crate::escape;
use crate::server;

/// Result of one check.
#[derive(Debug, Serialize)]
struct Finding {
    check: &'static str,
    state: State,
    text: String,
    /// Command, or setting, that mends it.
    fix: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    Ok,
    /// Worth knowing; not wrong.
    Note,
    Wrong,
}

impl Finding {
    fn ok(check: &'static str, text: impl Into<String>) -> Self {
        Self::of(check, State::Ok, text, None)
    }

    fn note(check: &'static str, text: impl Into<String>, fix: impl Into<String>) -> Self {
        Self::of(check, State::Note, text, Some(fix.into()))
    }

    fn wrong(check: &'static str, text: impl Into<String>, fix: impl Into<String>) -> Self {
        Self::of(check, State::Wrong, text, Some(fix.into()))
    }

    fn of(check: &'static str, state: State, text: impl Into<String>, fix: Option<String>) -> Self {
        let text = text.into();
        Self {
            check,
            state,
            text,
            fix,
        }
    }
}

/// Checks everything and shows the findings.
///
/// # Errors
/// Wrong usage, status 2; status 1 if something is wrong.
pub fn run(args: &DoctorArgs) -> Result<(), Failure> {
    let api = Api::new(&args.api)?;
    let mut findings = kernel::check();
    let flags = Overrides {
        store: args.store.clone(),
        ..Overrides::default()
    };
    match Config::load(args.config.config.as_deref(), &flags) {
        Ok(config) => {
            findings.push(Finding::ok("configuration", "it can be read"));
            findings.extend(server::preflight(&config).into_iter().map(|problem| {
                let fix = remedy(&problem, "mend it, then: anthill check-config");
                Finding::wrong("start", problem, fix)
            }));
            findings.extend(files::check(&config, args.config.config.as_deref()));
            findings.extend(store::check(&config));
        }
        Err(error) => {
            let text = error.to_string();
            let fix = remedy(&text, "correct the file, then: anthill check-config");
            findings.push(Finding::wrong("configuration", text, fix));
        }
    }
    findings.extend(running::check(&api));
    show(&findings, args.json)
}

fn show(findings: &[Finding], json: bool) -> Result<(), Failure> {
    let wrong = findings
        .iter()
        .filter(|it| it.state == State::Wrong)
        .count();
    if json {
        let document = serde_json::json!({ "findings": findings, "wrong": wrong });
        print_json(&document.to_string())?;
    } else {
        let lines: Vec<String> = findings.iter().flat_map(lines).collect();
        print_lines(&lines)?;
    }
    match wrong {
        0 => Ok(()),
        _ if json => Err(Failure::already_reported()),
        1 => Err(Failure::failed("1 finding is wrong")),
        _ => Err(Failure::failed(format!("{wrong} findings are wrong"))),
    }
}

/// Command that mends a problem; many texts end with it.
fn remedy(problem: &str, otherwise: &str) -> String {
    let named = ["chmod ", "chown ", "rm "].iter().find_map(|command| {
        let at = problem.rfind(&format!(": {command}"))?;
        Some(problem[at + 2..].to_owned())
    });
    if let Some(named) = named {
        return named;
    }
    if let Some((_, dir)) = problem.split_once("there is no directory ") {
        return format!("mkdir -p {}", quoted(dir));
    }
    match problem.split_once(": Address already in use") {
        Some((place, _)) => {
            let port = place.rsplit(':').next().unwrap_or_default();
            format!("ss -lntup 'sport = :{port}'")
        }
        None => otherwise.to_owned(),
    }
}

/// A word as the shell takes it.
fn quoted(word: &str) -> String {
    match shlex::try_quote(word) {
        Ok(word) => word.into_owned(),
        Err(_) => word.to_owned(),
    }
}

fn lines(finding: &Finding) -> Vec<String> {
    let state = match finding.state {
        State::Ok => "ok   ",
        State::Note => "note ",
        State::Wrong => "WRONG",
    };
    let text = format!("{state}  {}: {}", finding.check, finding.text);
    let fix = finding.fix.as_ref().map(|fix| format!("         {fix}"));
    let lines = std::iter::once(text).chain(fix);
    lines
        .map(|line| escape::escape(&line).into_owned())
        .collect()
}

/// `4.2 GiB`.
fn size(bytes: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1_024.0 && unit + 1 < units.len() {
        value /= 1_024.0;
        unit += 1;
    }
    format!("{value:.1} {}", units[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn problems_have_a_command_as_remedy() {
        for (problem, fix) in [
            (
                "store.spool: d can be replaced: chmod go-w d",
                "chmod go-w d",
            ),
            (
                "log.file: a b/c: there is no directory a b",
                "mkdir -p 'a b'",
            ),
            (
                "server.tcp [::1]:70: Address already in use (os error 98)",
                "ss -lntup 'sport = :70'",
            ),
            ("server.tcp: 1 is no address", "otherwise"),
        ] {
            assert_eq!(remedy(problem, "otherwise"), fix);
        }
    }

    #[test]
    fn a_finding_shows_its_remedy_below() {
        let finding = Finding::wrong("disk", "full\n", "df -h .");
        assert_eq!(
            lines(&finding),
            ["WRONG  disk: full\\u{a}", "         df -h ."]
        );
        assert_eq!(lines(&Finding::ok("disk", "x")), ["ok     disk: x"]);
        assert_eq!(
            (size(1_023), size(3 << 29)),
            ("1023.0 B".into(), "1.5 GiB".into())
        );
    }
}
