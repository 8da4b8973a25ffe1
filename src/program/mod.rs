//! What every build of the program has: its start, signals, exit status and errors of usage, and
//! the subcommand `agent`. Without the feature `cli` that subcommand is the only one.

pub mod agent;
#[cfg(not(feature = "cli"))]
pub mod agent_only;
mod args;
pub mod parse;
pub mod signal_mask;
pub mod signals;
pub mod usage;

use std::ffi::OsString;
use std::io::{self, Write};
use std::process::ExitCode;

use crate::escape;
pub use args::AgentArgs;
use signals::Caught;

/// Runs `work` with the arguments of the process and the signals caught since its start.
pub fn main(work: impl FnOnce(&[OsString], Option<Caught>) -> Result<(), Failure>) -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().collect();
    // Before anything else: until then a signal has its default action.
    let ran = match Caught::early(&args) {
        Ok(caught) => work(&args, caught),
        Err(error) => Err(Failure::failed(format!("cannot catch signals: {error}"))),
    };
    match ran {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

/// Unsuccessful end of a subcommand: exit status and message.
#[derive(Debug)]
pub struct Failure {
    status: u8,
    why: Option<String>,
}

impl Failure {
    /// Failure: status 1.
    pub fn failed(why: impl ToString) -> Self {
        Self::ended(1, why)
    }

    /// Wrong usage or configuration: status 2.
    pub fn usage(why: impl ToString) -> Self {
        Self::ended(2, why)
    }

    /// An end with another status.
    pub fn ended(status: u8, why: impl ToString) -> Self {
        Self {
            status,
            why: Some(why.to_string()),
        }
    }

    /// The reader of stdout has closed it, like `head`: no error.
    pub fn reader_gone() -> Self {
        Self {
            status: 0,
            why: None,
        }
    }

    /// Failure whose reason has been printed.
    pub fn already_reported() -> Self {
        Self {
            status: 1,
            why: None,
        }
    }

    /// Exit status.
    #[cfg(test)]
    pub fn status(&self) -> u8 {
        self.status
    }

    /// Reason, if there is one to report.
    pub fn why(&self) -> Option<&str> {
        self.why.as_deref()
    }

    fn report(self) -> ExitCode {
        if let Some(why) = &self.why {
            print_error(why);
        }
        ExitCode::from(self.status)
    }
}

/// Writes a result to stdout and flushes it.
pub fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    match written {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(Failure::reader_gone()),
        Err(error) => Err(Failure::failed(format!("cannot write to stdout: {error}"))),
    }
}

/// Prints an error on stderr.
pub fn print_error(line: &str) {
    print_note(&format!("anthill: {line}"));
}

/// Prints a note on stderr as one line, escaped.
pub fn print_note(line: &str) {
    // An error of stderr cannot be reported anywhere.
    let _ = writeln!(io::stderr(), "{}", escape::escape(line));
}
