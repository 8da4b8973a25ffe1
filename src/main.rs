//! The program `anthill`: everything it does is in the library's command line.

fn main() -> std::process::ExitCode {
    #[cfg(feature = "cli")]
    return anthill::cli::main();
    #[cfg(not(feature = "cli"))]
    anthill::program::agent_only::main()
}
