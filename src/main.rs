//! The program `anthill`: selects the subcommand. [`cli`] holds the subcommands.

mod cli;

fn main() -> std::process::ExitCode {
    cli::main()
}
