//! `anthill check-config`: reads the configuration like the server, prints the values in force
//! without passwords, and checks what a start needs: directories, ports, the log file.

use crate::config::Config;
use crate::server;

use super::args::ConfigArgs;
use super::{Failure, print, print_error};

///
/// # Errors
/// A wrong configuration, status 2; a start that would fail now, status 1.
pub fn run(args: &ConfigArgs) -> Result<(), Failure> {
    let config = Config::load_or_errors(args.config.as_deref()).map_err(|mut errors| {
        let last = errors.pop();
        errors
            .iter()
            .for_each(|error| print_error(&error.to_string()));
        last.map_or_else(|| Failure::usage("no configuration"), Failure::usage)
    })?;
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
