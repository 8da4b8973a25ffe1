//! `anthill completions SHELL`: the completion script of a shell.

use super::args::{self, CompletionsArgs};
use super::{Failure, print};

/// Prints the completions.
///
/// # Errors
/// When they cannot be written.
pub fn run(args: &CompletionsArgs) -> Result<(), Failure> {
    // Into memory first: the generator panics if its writer fails.
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut args::command(), "anthill", &mut script);
    print(&String::from_utf8_lossy(&script))
}
