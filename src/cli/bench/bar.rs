//! Progress of a run on stderr: a bar on a terminal, otherwise an occasional line.

use std::io;

use crate::bench::{Progress, Watch};

use super::signals::EndSignals;
use super::text::grouped;
use crate::cli::print_note;
use crate::cli::terminal::{self, StatusLine};

/// Interval between lines if stderr is not a terminal, in tenths of a second.
const PLAIN_EVERY: u32 = 50;

/// Printer of the progress.
pub struct Bar {
    line: StatusLine,
    reports: u32,
    signals: EndSignals,
}

impl Bar {
    /// Nothing drawn yet.
    pub fn new(signals: EndSignals) -> Self {
        Self {
            line: StatusLine::new(true),
            reports: 0,
            signals,
        }
    }

    /// Removes what is drawn.
    pub fn clear(&mut self) {
        self.line.clear();
    }
}

impl Watch for Bar {
    fn progress(&mut self, progress: &Progress) {
        let line = progress_line(progress);
        if self.line.is_shown {
            let size = terminal::size_of(io::stderr());
            let columns = size.map_or(usize::MAX, |size| usize::from(size.columns));
            return self.line.draw(&drawn(progress, &line, columns));
        }
        self.reports += 1;
        if self.reports.is_multiple_of(PLAIN_EVERY) {
            print_note(&line);
        }
    }

    fn wants_end(&self) -> Option<String> {
        self.signals.received().map(|signal| signal.to_string())
    }

    fn note(&mut self, line: &str) {
        self.clear();
        print_note(line);
    }
}

/// Returns the bar and the line, cut to the width. The last column stays free, since some terminals
/// wrap after it.
fn drawn(progress: &Progress, line: &str, columns: usize) -> String {
    let bar = terminal::bar(progress.done, progress.of);
    // Without room for both the text is more useful.
    let all = match columns < bar.len() + 3 + line.chars().count() {
        true => line.to_owned(),
        false => format!("[{bar}] {line}"),
    };
    all.chars().take(columns.saturating_sub(1)).collect()
}

fn progress_line(progress: &Progress) -> String {
    format!(
        "{} {:.1} s: {} connected, {} sent, {} answered, {} errors",
        progress.doing,
        progress.elapsed.as_secs_f64(),
        grouped(progress.connected),
        grouped(progress.sent),
        grouped(progress.answered),
        grouped(progress.errors)
    )
}

#[cfg(test)]
mod tests {
    use crate::time::Span;

    use super::*;

    #[test]
    fn it_stays_within_one_line() {
        let progress = Progress {
            doing: "beating",
            done: 5,
            of: 10,
            connected: 1_000,
            sent: 5_000,
            answered: 4_999,
            errors: 0,
            elapsed: Span::from_millis(5_000),
        };
        let line = progress_line(&progress);
        assert!(drawn(&progress, &line, 200).starts_with("[###############....."));
        assert_eq!(drawn(&progress, &line, 30), line[..29]);
        assert_eq!(drawn(&progress, &line, 80), line);
        assert_eq!(drawn(&progress, &line, 0), "");
    }
}
