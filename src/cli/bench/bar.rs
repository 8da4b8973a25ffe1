//! Progress of a run on stderr: a bar on a terminal, otherwise an occasional line.

use std::io::{self, IsTerminal, Write};

use crate::bench::{Progress, Watch};

use super::signals::EndSignals;
use super::text::grouped;
use crate::cli::{print_note, terminal};

/// Characters of a bar.
const BAR: u64 = 30;
/// Interval between lines if stderr is not a terminal, in tenths of a second.
const PLAIN_EVERY: u32 = 50;

/// Printer of the progress.
pub struct Bar {
    terminal: bool,
    drawn: bool,
    reports: u32,
    signals: EndSignals,
}

impl Bar {
    /// Nothing drawn yet.
    pub fn new(signals: EndSignals) -> Self {
        Self {
            terminal: is_drawn_on(),
            drawn: false,
            reports: 0,
            signals,
        }
    }

    /// Takes away what is drawn.
    pub fn clear(&mut self) {
        if self.drawn {
            write("\r\x1b[K");
            self.drawn = false;
        }
    }
}

/// Returns whether stderr is a terminal that can redraw a line; a dumb one cannot.
fn is_drawn_on() -> bool {
    io::stderr().is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

fn write(text: &str) {
    // Without a reader of stderr the progress is not needed.
    let _ = io::stderr().write_all(text.as_bytes());
}

impl Watch for Bar {
    fn progress(&mut self, progress: &Progress) {
        let line = progress_line(progress);
        if self.terminal {
            let size = terminal::size_of(io::stderr());
            let columns = size.map_or(usize::MAX, |size| usize::from(size.columns));
            write(&format!("\r{}\x1b[K", drawn(progress, &line, columns)));
            self.drawn = true;
            return;
        }
        self.reports += 1;
        if self.reports.is_multiple_of(PLAIN_EVERY) {
            print_note(&line);
        }
    }

    fn wants_end(&self) -> Option<String> {
        self.signals
            .received()
            .map(|signal| format!("{signal} asked for the end"))
    }

    fn note(&mut self, line: &str) {
        self.clear();
        print_note(line);
    }
}

/// The bar and the line, as far as they fit. The last column stays free: what is written there makes some
/// terminals go on with the next line.
fn drawn(progress: &Progress, line: &str, columns: usize) -> String {
    let full = match progress.of {
        0 => 0,
        of => (progress.done * BAR / of).min(BAR),
    };
    let bar = (0..BAR).map(|at| if at < full { '#' } else { '.' });
    let bar: String = bar.collect();
    // Where there is no room for both, the words say more.
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
