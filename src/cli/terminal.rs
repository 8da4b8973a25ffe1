//! Properties of stdout and stderr: terminal or not, size, reader closed or not; and lines redrawn
//! in place.

use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::thread;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::getpgrp;
use rustix::termios::{OptionalActions, tcgetattr, tcgetpgrp, tcsetattr};
use signal_hook::consts::{SIGHUP, SIGQUIT, SIGTERM};
use signal_hook::iterator::Signals;

use super::signal_mask;

/// Ends a line, and the mode in which a terminal marks pasted text.
const LEAVE: &str = "\x1b[?2004l\n";

/// A terminal's size, in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Characters in a line.
    pub columns: u16,
    /// Lines.
    pub rows: u16,
}

/// Size of the terminal at stdout.
pub fn size() -> Option<Size> {
    size_of(io::stdout())
}

/// Characters in a line of the terminal at stdout.
pub fn width() -> Option<u16> {
    size().map(|size| size.columns)
}

/// Size of the terminal at `out`; `None` if it is no terminal or does not report a size.
pub fn size_of(out: impl IsTerminal + AsFd) -> Option<Size> {
    if !out.is_terminal() {
        return None;
    }
    let size = rustix::termios::tcgetwinsize(&out).ok()?;
    (size.ws_col > 0 && size.ws_row > 0).then_some(Size {
        columns: size.ws_col,
        rows: size.ws_row,
    })
}

/// Sets the modes of the terminal at stdin as they are now when a signal ends the program: an editor
/// of lines changes them, and a signal gives it no chance to restore them.
///
/// # Errors
/// The signals cannot be caught.
pub fn restore_at_signals() -> io::Result<()> {
    let Ok(modes) = tcgetattr(io::stdin()) else {
        return Ok(());
    };
    let ends = [SIGTERM, SIGHUP, SIGQUIT];
    let mut signals = signal_mask::held_while(&ends, || Signals::new(ends))?;
    let watch = move || {
        for signal in signals.forever() {
            // In the background this would stop the program instead, and the modes are the shell's.
            if tcgetpgrp(io::stdin()) == Ok(getpgrp()) {
                let _ = tcsetattr(io::stdin(), OptionalActions::Now, &modes);
                if io::stdout().is_terminal() {
                    let _ = rustix::io::write(io::stdout(), LEAVE.as_bytes());
                }
            }
            let _ = signal_hook::low_level::emulate_default_handler(signal);
        }
    };
    let thread = thread::Builder::new().name("terminal".to_owned());
    thread.spawn(watch).map(drop)
}

/// Characters of a bar.
const BAR: u64 = 30;

/// A bar of which `done` of `all` is filled.
pub fn bar(done: u64, all: u64) -> String {
    let full = (done * BAR).checked_div(all).unwrap_or(0);
    (0..BAR)
        .map(|at| if at < full { '#' } else { '.' })
        .collect()
}

/// Writes to stderr. Without a reader there, progress is not needed.
pub fn draw(text: &str) {
    let _ = io::stderr().write_all(text.as_bytes());
}

/// A line on stderr that is redrawn in place, where stderr is a terminal.
pub struct StatusLine {
    /// The line is drawn at all.
    pub is_shown: bool,
    is_drawn: bool,
}

impl StatusLine {
    /// A line that is drawn if `wanted` and stderr is a terminal that can redraw it; a dumb one
    /// cannot.
    pub fn new(wanted: bool) -> Self {
        let is_dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        Self {
            is_shown: wanted && io::stderr().is_terminal() && !is_dumb,
            is_drawn: false,
        }
    }

    /// Draws the line.
    pub fn draw(&mut self, line: &str) {
        if self.is_shown {
            self.is_drawn = true;
            draw(&format!("\r{line}\x1b[K"));
        }
    }

    /// Removes what is drawn.
    pub fn clear(&mut self) {
        if std::mem::take(&mut self.is_drawn) {
            draw("\r\x1b[K");
        }
    }
}

/// Waits for `pause`, or until the reader of stdout closes. Returns whether the reader is still
/// there.
pub fn wait(pause: Duration) -> bool {
    // No events are requested: a closed end is always reported.
    wait_for(PollFlags::empty(), pause)
}

/// Waits for `pause`, or until the terminal at stdout has input or is closed. Returns whether it is
/// still there.
pub fn wait_for_input(pause: Duration) -> bool {
    wait_for(PollFlags::IN, pause)
}

fn wait_for(events: PollFlags, pause: Duration) -> bool {
    let out = io::stdout();
    let mut ends = [PollFd::new(&out, events)];
    let pause = Timespec {
        tv_sec: i64::try_from(pause.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(pause.subsec_nanos()),
    };
    match poll(&mut ends, Some(&pause)) {
        Ok(_) => !ends[0]
            .revents()
            .intersects(PollFlags::ERR | PollFlags::HUP),
        // A signal cut the wait short.
        Err(_) => true,
    }
}
