//! `anthill check-config`: reads the configuration as the server would, prints what is in force, with every default
//! filled in and passwords hidden, and tries what a start would need: directories, ports, the file of the log.

use crate::config::{Config, Overrides};
use crate::server;

use super::args::ConfigArgs;
use super::{Failure, print, print_error};

/// Checks and prints.
///
/// # Errors
/// What is wrong with the configuration, status 2; what a start would not get now, status 1.
pub fn run(args: &ConfigArgs) -> Result<(), Failure> {
    let config =
        Config::load(args.config.as_deref(), &Overrides::default()).map_err(Failure::usage)?;
    for warning in &config.warnings {
        print_error(&format!("warning: {warning}"));
    }
    print(&format!("{:#}\n", config.to_json()))?;
    let mut problems = server::preflight(&config);
    let Some(last) = problems.pop() else {
        return Ok(());
    };
    problems.iter().for_each(|problem| print_error(problem));
    Err(Failure::failed(last))
}
