//! Colour of states and exit statuses on stdout, by terminal, `NO_COLOR` and `--color`. The text
//! has been escaped before, so every escape sequence comes from here.

use std::io::{self, IsTerminal};
use std::sync::OnceLock;

use super::args::Color;

const RESET: &str = "\x1b[0m";
const GREEN: &str = "\x1b[32m";
const YELLOW: &str = "\x1b[33m";
const RED: &str = "\x1b[31m";

static ON: OnceLock<bool> = OnceLock::new();

/// Decides whether stdout is coloured. Only the first call has an effect.
pub fn choose(when: Color) {
    ON.get_or_init(|| match when {
        Color::Always => true,
        Color::Never => false,
        Color::Auto => is_wanted(
            io::stdout().is_terminal(),
            std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty()),
            std::env::var_os("TERM").is_some_and(|value| value == "dumb"),
        ),
    });
}

const fn is_wanted(terminal: bool, no_color: bool, dumb: bool) -> bool {
    terminal && !no_color && !dumb
}

/// Returns whether stdout is coloured.
pub fn is_on() -> bool {
    ON.get().copied().unwrap_or(false)
}

/// Colour of a state: green for success, red for failure, yellow for work in progress.
fn of_state(state: &str) -> Option<&'static str> {
    Some(match state {
        "online" | "done" => GREEN,
        "failed" | "no-book" | "lost" | "unanswered" | "expired" | "offline" | "cancelled" => RED,
        "queued" | "held" | "sent" | "answered" | "working" => YELLOW,
        _ => return None,
    })
}

/// Colours a state.
pub fn state(state: &str) -> String {
    match of_state(state).filter(|_| is_on()) {
        Some(color) => format!("{color}{state}{RESET}"),
        None => state.to_owned(),
    }
}

/// Colours the column `STATE` of a table.
pub fn states(lines: Vec<String>) -> Vec<String> {
    match is_on() {
        true => painted(lines),
        false => lines,
    }
}

/// Colours the line of a failed command red.
pub fn outcome(line: String, failed: bool) -> String {
    match is_on() && failed {
        true => format!("{RED}{line}{RESET}"),
        false => line,
    }
}

fn painted(mut lines: Vec<String>) -> Vec<String> {
    let header = lines.first().and_then(|header| header.find("STATE"));
    let Some(column) = header else {
        return lines;
    };
    // Only the header is known to be ASCII up to that column.
    for line in lines.iter_mut().skip(1) {
        let Some((start, _)) = line.char_indices().nth(column) else {
            continue;
        };
        let word = line[start..].split(' ').next().unwrap_or_default();
        if let Some(color) = of_state(word) {
            let end = start + word.len();
            *line = format!("{}{color}{word}{RESET}{}", &line[..start], &line[end..]);
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_under_state_are_coloured_and_no_others() {
        let lines = [
            "ID      STATE    REASON",
            "online  offline  done",
            "ä       online   -",
        ];
        let painted = painted(lines.map(str::to_owned).to_vec());
        assert_eq!(
            painted,
            [
                "ID      STATE    REASON",
                "online  \x1b[31moffline\x1b[0m  done",
                "ä       \x1b[32monline\x1b[0m   -"
            ]
        );
        let other = vec!["KEY  HOSTS".to_owned(), "a    done".to_owned()];
        assert_eq!(super::painted(other.clone()), other);
    }

    #[test]
    fn colour_follows_terminal_and_flags() {
        assert!(is_wanted(true, false, false));
        assert!(!is_wanted(false, false, false));
        assert!(!is_wanted(true, true, false) && !is_wanted(true, false, true));
    }
}
