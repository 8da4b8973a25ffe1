//! The command line: one module per subcommand, and their common rules.
//!
//! ```text
//!  argv ──▶ args ──▶ serve · agent · bench · ak-sim · check · keygen · complete   (here, in this process)
//!            │       hosts · run · dispatch · tasks · console · … ──▶ api ──▶ a running server's HTTP ──▶ table or JSON
//!            ▼
//!          program: signals, exit status, what was wrong in one line
//! ```
//!
//! Results go to stdout, everything else to stderr. Exit status 0: success; 1: failure; 2: wrong
//! usage or configuration, reported in one line.

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
mod table;
mod task;
mod tasks;
mod terminal;
mod token;
mod top;
mod watch;
mod why;

use std::ffi::OsString;
use std::process::ExitCode;

use crate::escape;
use crate::program::signals::{self, Caught};
use crate::program::{Failure, agent, print, print_error, print_note, signal_mask};
use args::{Command, Parsed};

/// Runs the program with its arguments.
pub fn main() -> ExitCode {
    crate::program::main(run)
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
