//! `anthill hosts --watch`: refreshes every second until interrupted.
//!
//! On a terminal the screen is redrawn each time. Elsewhere output is written only when a host was
//! added, removed or changed; a heartbeat is no change. As JSON that is first one line per host,
//! then one line per change: the new state of the host, or the state `forgotten`. While the server
//! is unavailable, the requests continue.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::{self, IsTerminal};
use std::time::{Duration, SystemTime};

use crate::codec::target::Target;
use crate::escape;
use serde_json::json;

use super::api::{Api, ApiError};
use super::hosts::{Filter, Fleet, print_table};
use super::terminal::{self, Size};
use super::{Failure, color, print, print_error, table};

const PAUSE: Duration = Duration::from_secs(1);

const CURSOR_HOME: &str = "\x1b[H";
const CLEAR_LINE_END: &str = "\x1b[K";
const CLEAR_BELOW: &str = "\x1b[J";

/// Watches until the reader of stdout closes or the server gives no valid answer.
///
/// # Errors
/// See [`ApiError`]; an unreachable server is not an error.
pub fn run(
    api: &Api,
    filter: Filter,
    node: Option<&str>,
    target: Option<Target>,
    json: bool,
) -> Result<(), Failure> {
    // If each change is printed, a host that leaves the selected state is a change too.
    let fetched = if json { Filter::All } else { filter };
    let mut view = View {
        filter,
        json,
        screen: !json && io::stdout().is_terminal(),
        last: None,
        away: false,
    };
    loop {
        let found = match &target {
            None => Fleet::try_fetch(api, fetched, node, None),
            Some(target) => match Fleet::try_fetch(api, fetched, node, Some(target.as_str())) {
                // Terms must match hosts the first time; later they may match none.
                Err(error) if error.is_wrong() && view.last.is_some() => Ok(Fleet::empty()),
                Err(error) if error.is_wrong() => return Err(error.of_target()),
                found => found,
            },
        };
        match found {
            Ok(fleet) => view.show(fleet)?,
            Err(error) if error.may_pass() => view.miss(&error)?,
            Err(error) => return Err(error.into()),
        }
        if !terminal::wait(PAUSE) {
            return Err(Failure::reader_gone());
        }
    }
}

/// The selection, and the last output.
struct View {
    filter: Filter,
    json: bool,
    screen: bool,
    last: Option<Fleet>,
    away: bool,
}

impl View {
    fn show(&mut self, fleet: Fleet) -> Result<(), Failure> {
        let back = std::mem::take(&mut self.away);
        if self.screen {
            self.last = Some(fleet);
            return self.draw(None);
        }
        if back {
            print_error("the server answers again");
        }
        let changed = self.last.as_ref().is_none_or(|last| !fleet.stands_as(last));
        if changed {
            self.append(&fleet)?;
        }
        self.last = Some(fleet);
        Ok(())
    }

    fn miss(&mut self, error: &ApiError) -> Result<(), Failure> {
        let first = !std::mem::replace(&mut self.away, true);
        if self.screen {
            return self.draw(Some(error));
        }
        if first {
            print_error(&format!("{error}; trying again"));
        }
        Ok(())
    }

    /// Appends the new state to the output.
    fn append(&self, fleet: &Fleet) -> Result<(), Failure> {
        if self.json {
            return print(&changes(self.last.as_ref(), fleet, self.filter));
        }
        if self.last.is_some() {
            print("\n")?;
        }
        print_table(fleet, self.filter, None)
    }

    /// Redraws the screen: a status line above the last known hosts.
    fn draw(&self, error: Option<&ApiError>) -> Result<(), Failure> {
        let size = terminal::size();
        let head = match (error, &self.last) {
            (Some(error), _) => format!("{error}; trying again"),
            (None, Some(fleet)) => fleet.counts(self.filter),
            (None, None) => String::new(),
        };
        let body = match &self.last {
            Some(fleet) => {
                let width = size.map(|size| size.columns);
                color::states(table::lines(&fleet.hosts, SystemTime::now(), width))
            }
            None => Vec::new(),
        };
        print(&screen(&escape::escape(&head), body, size))
    }
}

/// One line of JSON for each changed host that is or was in the selected state.
fn changes(before: Option<&Fleet>, now: &Fleet, filter: Filter) -> String {
    let hosts = before.iter().flat_map(|fleet| &fleet.hosts);
    let mut known: HashMap<&str, _> = hosts.map(|host| (host.id.as_str(), host)).collect();
    let mut lines = String::new();
    for (host, raw) in now.hosts.iter().zip(&now.raw) {
        let old = known.remove(host.id.as_str());
        let wanted = filter.takes(host) || old.is_some_and(|old| filter.takes(old));
        if wanted && !old.is_some_and(|old| old.stands_as(host)) {
            let _ = writeln!(lines, "{}", escape::escape_json(raw.get()));
        }
    }
    let mut gone: Vec<&str> = known
        .into_values()
        .filter(|host| filter.takes(host))
        .map(|host| host.id.as_str())
        .collect();
    gone.sort_unstable();
    for id in gone {
        let line = json!({"id": id, "state": "forgotten"}).to_string();
        let _ = writeln!(lines, "{}", escape::escape_json(&line));
    }
    lines
}

/// Builds a screen: the head cut to one line, and as much of the body as fits.
fn screen(head: &str, mut body: Vec<String>, size: Option<Size>) -> String {
    let mut head = head.to_owned();
    if let Some(size) = size {
        head = head.chars().take(usize::from(size.columns)).collect();
        // The head, the line about hidden lines, and the line of the cursor.
        let room = usize::from(size.rows).saturating_sub(3);
        if body.len() > room + 1 {
            let missing = body.len() - room;
            body.truncate(room);
            body.push(format!("… {missing} more lines"));
        }
    }
    let mut text = CURSOR_HOME.to_owned();
    for line in std::iter::once(head).chain(body) {
        // Writing into a string cannot fail.
        let _ = write!(text, "{line}{CLEAR_LINE_END}\r\n");
    }
    text.push_str(CLEAR_BELOW);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(text: &str) -> Vec<&str> {
        text.split("\r\n").collect()
    }

    fn fleet(hosts: &[(&str, &str)]) -> Fleet {
        let json = |(id, state): &(&str, &str)| {
            format!(
                r#"{{"id":"{id}","state":"{state}","last_seen":"{}"}}"#,
                hosts.len()
            )
        };
        Fleet::of(hosts.iter().map(json).collect()).unwrap()
    }

    #[test]
    fn each_change_is_one_line() {
        let line = |id: &str, state: &str, seen| {
            format!("{{\"id\":\"{id}\",\"state\":\"{state}\",\"last_seen\":\"{seen}\"}}\n")
        };
        let first = fleet(&[("a", "online"), ("b", "offline")]);
        assert_eq!(
            changes(None, &first, Filter::All),
            line("a", "online", 2) + &line("b", "offline", 2)
        );
        assert_eq!(
            changes(None, &first, Filter::Online),
            line("a", "online", 2)
        );
        let second = fleet(&[("a", "offline"), ("b", "offline"), ("c", "online")]);
        let shown = changes(Some(&first), &second, Filter::All);
        assert_eq!(shown, line("a", "offline", 3) + &line("c", "online", 3));
        assert_eq!(changes(Some(&first), &second, Filter::Online), shown);
        let third = fleet(&[("a", "offline"), ("c", "online")]);
        assert_eq!(
            changes(Some(&second), &third, Filter::All),
            "{\"id\":\"b\",\"state\":\"forgotten\"}\n"
        );
        assert_eq!(changes(Some(&second), &third, Filter::Online), "");
    }

    #[test]
    fn a_screen_replaces_the_last_one() {
        let text = screen("2 online", vec!["ID".into(), "a".into()], None);
        assert_eq!(
            rows(&text),
            ["\x1b[H2 online\x1b[K", "ID\x1b[K", "a\x1b[K", "\x1b[J"]
        );
    }

    #[test]
    fn a_screen_never_scrolls() {
        let size = Size {
            columns: 8,
            rows: 6,
        };
        for lines in 0..20 {
            let body = (0..lines).map(|line| line.to_string()).collect();
            let text = screen("longer than the terminal", body, Some(size));
            assert!(rows(&text).len() <= 6, "{lines}: {text:?}");
        }
        let body = (0..5).map(|line| line.to_string()).collect();
        let text = screen("head", body, Some(size));
        assert_eq!(rows(&text)[4], "… 2 more lines\x1b[K");
    }
}
