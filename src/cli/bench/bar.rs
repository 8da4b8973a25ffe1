//! What a run is at, on stderr: a bar where that is a terminal, else a line now and then.

use std::io::{self, IsTerminal, Write};

use anthill::bench::{Progress, Watch};

use super::ending::Ending;
use super::words::grouped;
use crate::cli::remark;

/// Characters of a bar.
const BAR: u64 = 30;
/// Where stderr is no terminal, a line each so many tenths of a second.
const PLAIN_EVERY: u32 = 50;

/// See the [room](self).
pub struct Bar {
    terminal: bool,
    drawn: bool,
    told: u32,
    ending: Ending,
}

impl Bar {
    /// Nothing drawn yet.
    pub fn new(ending: Ending) -> Self {
        Self {
            terminal: io::stderr().is_terminal(),
            drawn: false,
            told: 0,
            ending,
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

fn write(text: &str) {
    // Where stderr is gone nobody looks at the progress.
    let _ = io::stderr().write_all(text.as_bytes());
}

impl Watch for Bar {
    fn progress(&mut self, progress: &Progress) {
        let line = progress_line(progress);
        if self.terminal {
            let full = match progress.of {
                0 => 0,
                of => (progress.done * BAR / of).min(BAR),
            };
            let bar: String = (0..BAR)
                .map(|at| if at < full { '#' } else { '.' })
                .collect();
            write(&format!("\r[{bar}] {line}\x1b[K"));
            self.drawn = true;
            return;
        }
        self.told += 1;
        if self.told.is_multiple_of(PLAIN_EVERY) {
            remark(&line);
        }
    }

    fn wants_end(&self) -> Option<String> {
        self.ending
            .asked_by()
            .map(|signal| format!("{signal} asked for the end"))
    }

    fn note(&mut self, line: &str) {
        self.clear();
        remark(line);
    }
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
