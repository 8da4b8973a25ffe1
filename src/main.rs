//! The program `anthill`: everything it does is in the library's command line.

fn main() -> std::process::ExitCode {
    anthill::cli::main()
}
