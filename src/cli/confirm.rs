//! Confirmation of actions on many hosts.

use std::io::{self, BufRead, IsTerminal, Write};

use crate::codec::target::fold;
use crate::escape;

use super::Failure;

/// Characters of a folded list that are shown in a question.
const FOLDED_CHARS_MAX: usize = 200;

/// Asks on the terminal for a confirmation of `action`, such as `send 'uptime' to 12 hosts
/// (web-[1-12])`. Without a terminal `--yes` is required.
///
/// # Errors
/// Status 2 without a terminal, 1 if the answer is no.
pub fn ask(action: &str, yes: bool) -> Result<(), Failure> {
    if yes {
        return Ok(());
    }
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        return Err(Failure::usage(format!(
            "not confirmed: to {action} without a terminal give --yes"
        )));
    }
    match is_confirmed(action)? {
        true => Ok(()),
        false => Err(Failure::failed("not confirmed: nothing is done")),
    }
}

/// Describes the action of sending a command.
pub fn sending(command: &str, hosts: &str) -> String {
    format!("send '{command}' to {hosts}")
}

/// The answer typed on the terminal.
///
/// # Errors
/// When the terminal cannot be used.
fn is_confirmed(action: &str) -> Result<bool, Failure> {
    let broken = |error: io::Error| Failure::failed(format!("cannot ask on the terminal: {error}"));
    let question = format!("To {action}? [y/N] ");
    let mut out = io::stderr().lock();
    out.write_all(escape::escape(&question).as_bytes())
        .and_then(|()| out.flush())
        .map_err(broken)?;
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line).map_err(broken)?;
    Ok(is_yes(&line))
}

fn is_yes(line: &str) -> bool {
    matches!(line.trim().to_ascii_lowercase().as_str(), "y" | "yes")
}

/// Describes hosts within the limit of a question: `37 hosts (web-[1-37])`.
pub fn counted<'a>(hosts: impl ExactSizeIterator<Item = &'a str>) -> String {
    let count = hosts.len();
    let folded = fold(hosts);
    let mut shown: String = folded.chars().take(FOLDED_CHARS_MAX).collect();
    if shown.len() < folded.len() {
        shown.push('…');
    }
    let word = if count == 1 { "host" } else { "hosts" };
    format!("{count} {word} ({shown})")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_yes_is_yes() {
        for (line, yes) in [
            ("y\n", true),
            ("YES\n", true),
            ("\n", false),
            ("", false),
            ("no\n", false),
            ("yess\n", false),
        ] {
            assert_eq!(is_yes(line), yes, "{line:?}");
        }
    }

    #[test]
    fn hosts_are_counted_and_folded() {
        let hosts = ["web-1", "web-2"];
        assert_eq!(counted(hosts.into_iter()), "2 hosts (web-[1-2])");
        assert_eq!(counted(["a"].into_iter()), "1 host (a)");
        let many: Vec<String> = (0..100).map(|n| format!("{n}-{}", "x".repeat(9))).collect();
        let text = counted(many.iter().map(String::as_str));
        assert!(text.chars().count() < FOLDED_CHARS_MAX + 20 && text.contains('…'));
    }
}
