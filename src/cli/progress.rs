//! Progress of a task on stderr, if that is a terminal: one line per host for few hosts, else a
//! bar. It is redrawn in place and removed at the end.

use std::io::{self, IsTerminal};

use crate::escape;

use super::task::Task;
use super::terminal::{self, Size};

/// Number of hosts up to which each has a line.
const HOSTS_MAX: usize = 20;

const CLEAR_LINE_END: &str = "\x1b[K";
const CLEAR_BELOW: &str = "\x1b[J";

/// The last drawing.
pub struct Progress {
    shown: bool,
    lines: usize,
}

impl Progress {
    /// Nothing is drawn if stderr is no terminal.
    pub fn new() -> Self {
        Self {
            shown: io::stderr().is_terminal(),
            lines: 0,
        }
    }

    /// Draws the state of the task.
    pub fn draw(&mut self, task: &Task) {
        if !self.shown {
            return;
        }
        let size = terminal::size_of(io::stderr());
        let lines = lines(task, size);
        let mut text = self.back();
        for line in &lines {
            text.push_str(line);
            text.push_str(CLEAR_LINE_END);
            text.push('\n');
        }
        text.push_str(CLEAR_BELOW);
        self.lines = lines.len();
        terminal::draw(&text);
    }

    /// Removes what is drawn.
    pub fn clear(&mut self) {
        if self.lines > 0 {
            terminal::draw(&format!("{}{CLEAR_BELOW}", self.back()));
            self.lines = 0;
        }
    }

    /// Escape sequence that moves the cursor to the start of the drawing.
    fn back(&self) -> String {
        match self.lines {
            0 => String::new(),
            lines => format!("\x1b[{lines}A\r"),
        }
    }
}

fn lines(task: &Task, size: Option<Size>) -> Vec<String> {
    let tally = task.tally();
    let rows = size.map_or(usize::MAX, |size| usize::from(size.rows));
    let mut lines = if task.hosts.len() <= HOSTS_MAX && task.hosts.len() < rows {
        task.table(None).split_off(1)
    } else {
        let (ended, all) = (tally.ended(), tally.all());
        let bar = terminal::bar(ended, all);
        let words = format!("[{bar}] {ended}/{all}  {}", tally.in_words());
        vec![escape::escape(&words).into_owned()]
    };
    if let Some(size) = size {
        for line in &mut lines {
            *line = line.chars().take(usize::from(size.columns)).collect();
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Map, Value, json};

    /// A task of so many hosts, of which the first is done.
    fn task(hosts: usize) -> Task {
        let mut all = Map::new();
        for host in 0..hosts {
            let state = if host == 0 { "done" } else { "working" };
            let shown = json!({"state": state, "working": "a\u{1b}[2J"});
            all.insert(format!("h{host}"), shown);
        }
        let mut document = Map::new();
        document.insert("commands".to_owned(), json!([["a", 1]]));
        document.insert("hosts".to_owned(), Value::Object(all));
        Task::of(document).unwrap()
    }

    #[test]
    fn few_hosts_have_a_line_each_and_many_a_bar() {
        let few = lines(&task(2), None);
        assert_eq!(
            few,
            [
                r"h0    done     a\u{1b}[2J  0/1",
                r"h1    working  a\u{1b}[2J  0/1"
            ]
        );
        assert_eq!(lines(&task(20), None).len(), 20);
        assert_eq!(
            lines(&task(30), None),
            ["[#.............................] 1/30  29 working, 1 done"]
        );
    }

    #[test]
    fn it_stays_within_the_terminal() {
        let size = Size {
            columns: 10,
            rows: 5,
        };
        for hosts in 0..30 {
            let lines = lines(&task(hosts), Some(size));
            assert!(lines.len() < 5, "{hosts}: {lines:?}");
            assert!(lines.iter().all(|line| line.chars().count() <= 10));
        }
    }
}
