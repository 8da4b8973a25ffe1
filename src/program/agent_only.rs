//! Command line of a build with the feature `agent` alone.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

use super::signals::Caught;
use super::{AgentArgs, Failure, agent, print, usage};

/// Agent of a host whose presence is tracked by an Anthill server.
#[derive(Parser)]
#[command(name = "anthill", version, propagate_version = true)]
struct Line {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the agent of a host: send heartbeats, and run commands that the allow file names
    Agent(Box<AgentArgs>),
}

/// Runs the program with its arguments.
pub fn main() -> ExitCode {
    super::main(run)
}

fn run(args: &[OsString], caught: Option<Caught>) -> Result<(), Failure> {
    match Line::try_parse_from(args) {
        Ok(Line {
            command: Command::Agent(args),
        }) => agent::run(&args, caught),
        Err(error) => print(&usage::shown(&error, &Line::command(), args)?),
    }
}
