//! The program `anthill`: picks the subcommand and hands over. What it does stands in [`cli`].

mod cli;

fn main() -> std::process::ExitCode {
    cli::main()
}
