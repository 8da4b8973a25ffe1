//! Picks the subcommand and hands over.
fn main() {}
