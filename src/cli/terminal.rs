//! Properties of stdout and stderr: whether it is a terminal, its size, and whether its reader is
//! still there.

use std::io::{self, IsTerminal};
use std::os::fd::AsFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// A terminal's size, in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Characters in a line.
    pub columns: u16,
    /// Lines.
    pub rows: u16,
}

/// The size of the terminal that stdout is, if it is one and says so.
pub fn size() -> Option<Size> {
    size_of(io::stdout())
}

/// The size of the terminal that `out` is, if it is one and says so.
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

/// Waits for `pause`, or until the reader of stdout is gone; returns whether it is still there.
pub fn wait(pause: Duration) -> bool {
    let out = io::stdout();
    // Nothing is asked for: a closed end is reported all the same.
    let mut ends = [PollFd::new(&out, PollFlags::empty())];
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
