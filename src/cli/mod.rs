//! The command line: one module per subcommand, and their common rules.
//!
//! ```text
//!  argv ──▶ args ──▶ serve · agent · bench · ak-sim · check · keygen · complete   (here, in this process)
//!            │       hosts · run · dispatch · tasks · console · … ──▶ api ──▶ a running server's HTTP ──▶ table or JSON
//!            ▼
//!          usage: what was wrong, in one line
//! ```
//!
//! Results go to stdout, everything else to stderr. Exit status 0: success; 1: failure; 2: wrong
//! usage or configuration, reported in one line.

mod agent;
mod ak;
mod ak_sim;
mod api;
mod args;
mod bench;
mod book;
mod check;
mod color;
mod complete;
mod confirm;
mod console;
mod dispatch;
mod doctor;
mod events;
mod forget;
mod groups;
mod health;
mod host;
mod hosts;
mod keygen;
mod label;
mod man;
mod nodes;
mod notify;
mod order;
mod output;
mod pages;
mod progress;
mod prompt;
mod reach;
mod recipients;
mod rollout;
mod run;
mod serve;
mod service;
mod signal_mask;
mod signals;
mod table;
mod task;
mod tasks;
mod terminal;
mod token;
mod top;
mod usage;
mod watch;
mod why;

use std::ffi::OsString;
use std::io::{self, Write};
use std::process::ExitCode;

use crate::escape;
use args::{Command, Parsed};
use signals::Caught;

/// Runs the program with its arguments.
pub fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().collect();
    // Before anything else: until then a signal has its default action.
    let ran = match Caught::early(&args) {
        Ok(caught) => run(&args, caught),
        Err(error) => Err(Failure::failed(format!("cannot catch signals: {error}"))),
    };
    match ran {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

fn run(args: &[OsString], caught: Option<Caught>) -> Result<(), Failure> {
    match args::parse(args)? {
        Parsed::Show(text) => print(&text),
        Parsed::Run(Command::Serve(args)) => serve::run(&args, caught),
        Parsed::Run(Command::Agent(args)) => agent::run(&args, caught),
        Parsed::Run(Command::Hosts(args)) => hosts::run(&args),
        Parsed::Run(Command::Host(args)) => host::run(&args),
        Parsed::Run(Command::Label(args)) => label::run(&args),
        Parsed::Run(Command::Why(args)) => why::run(&args),
        Parsed::Run(Command::Forget(args)) => forget::run(&args),
        Parsed::Run(Command::Run(args)) => run::run(&args),
        Parsed::Run(Command::Dispatch(args)) => dispatch::run(&args),
        Parsed::Run(Command::Plan(args)) => rollout::plan(&args),
        Parsed::Run(Command::Cancel(args)) => rollout::cancel(&args),
        Parsed::Run(Command::Pause(args)) => rollout::control(&args, "pause"),
        Parsed::Run(Command::Resume(args)) => rollout::control(&args, "resume"),
        Parsed::Run(Command::Tasks(args)) => tasks::run(&args),
        Parsed::Run(Command::Task(args)) => task::run(&args),
        Parsed::Run(Command::Output(args)) => output::run(&args),
        Parsed::Run(Command::Events(args)) => events::run(&args),
        Parsed::Run(Command::Nodes(args)) => nodes::run(&args),
        Parsed::Run(Command::Top(args)) => top::run(&args),
        Parsed::Run(Command::Console(args)) => console::run(&args),
        Parsed::Run(Command::Bench(args)) => bench::run(&args),
        Parsed::Run(Command::BenchFloor(args)) => bench::floor(&args),
        Parsed::Run(Command::Ak(args)) => ak::run(&args),
        Parsed::Run(Command::AkSim(args)) => ak_sim::run(&args),
        Parsed::Run(Command::Reach(args)) => reach::run(&args),
        Parsed::Run(Command::Doctor(args)) => doctor::run(&args),
        Parsed::Run(Command::Health(args)) => health::run(&args),
        Parsed::Run(Command::CheckConfig(args)) => check::run(&args),
        Parsed::Run(Command::Keygen(args)) => keygen::run(&args),
        Parsed::Run(Command::Man(args)) => man::run(&args),
        Parsed::Run(Command::Token(args)) => token::run(&args),
        Parsed::Run(Command::Completions(args)) => complete::run(&args),
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
    fn failed(why: impl ToString) -> Self {
        Self::ended(1, why)
    }

    /// Wrong usage or configuration: status 2.
    fn usage(why: impl ToString) -> Self {
        Self::ended(2, why)
    }

    /// An end with another status.
    fn ended(status: u8, why: impl ToString) -> Self {
        Self {
            status,
            why: Some(why.to_string()),
        }
    }

    /// The reader of stdout has closed it, like `head`: no error.
    fn reader_gone() -> Self {
        Self {
            status: 0,
            why: None,
        }
    }

    /// Failure whose reason has been printed.
    fn already_reported() -> Self {
        Self {
            status: 1,
            why: None,
        }
    }

    fn report(self) -> ExitCode {
        if let Some(why) = &self.why {
            print_error(why);
        }
        ExitCode::from(self.status)
    }
}

/// Writes a result to stdout and flushes it.
fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    match written {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(Failure::reader_gone()),
        Err(error) => Err(Failure::failed(format!("cannot write to stdout: {error}"))),
    }
}

/// Writes lines to stdout.
fn print_lines(lines: &[String]) -> Result<(), Failure> {
    print(&format!("{}\n", lines.join("\n")))
}

/// Writes a JSON document to stdout on one line, escaped.
fn print_json(document: &str) -> Result<(), Failure> {
    print(&json_line(document))
}

fn json_line(document: &str) -> String {
    format!("{}\n", escape::escape_json(document))
}

/// ` (did you mean '…'?)` for the nearest of `known` names, if one is near.
fn did_you_mean<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    match escape::nearest(name, known.into_iter()) {
        Some(near) => format!(" (did you mean '{near}'?)"),
        None => String::new(),
    }
}

/// Prints an error on stderr.
fn print_error(line: &str) {
    print_note(&format!("anthill: {line}"));
}

/// Prints a note on stderr as one line, escaped.
fn print_note(line: &str) {
    // An error of stderr cannot be reported anywhere.
    let _ = writeln!(io::stderr(), "{}", escape::escape(line));
}
