//! `anthill check-config`: reads the configuration as the server would, binds nothing, and prints
//! what is in force, with every default filled in and passwords hidden.

use anthill::config::{Config, Overrides};

use super::args::ConfigArgs;
use super::{Failure, complain, print};

/// Checks and prints.
///
/// # Errors
/// What is wrong with the configuration, status 2.
pub fn run(args: &ConfigArgs) -> Result<(), Failure> {
    let config =
        Config::load(args.config.as_deref(), &Overrides::default()).map_err(Failure::usage)?;
    for warning in &config.warnings {
        complain(&format!("warning: {warning}"));
    }
    print(&format!("{:#}\n", config.to_json()))
}
