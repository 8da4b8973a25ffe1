//! Validation of options against the load. Options that scripts give to every load cause a note,
//! others an error.

use crate::bench::Mode::{self, Churn, Dispatch, Flood, Steady, Storm};

use crate::cli::Failure;
use crate::cli::args::BenchArgs;

/// Loads for which an option is valid. All other options are valid for every load.
const VALID_FOR: [(&str, &[Mode]); 16] = [
    ("--rate", &[Steady, Dispatch]),
    ("--together", &[Steady, Dispatch]),
    ("--hold", &[Steady]),
    ("--leave", &[Steady]),
    ("--pipeline", &[Flood]),
    ("--idle", &[Steady, Flood, Dispatch]),
    ("--seconds", &[Steady, Flood, Churn, Storm]),
    ("--connect-rate", &[Steady, Flood, Churn, Dispatch]),
    // A floor has no dispatch.
    ("--floor", &[Steady, Flood, Churn, Storm]),
    ("--commands", &[Dispatch]),
    ("--key", &[Dispatch]),
    ("--datagrams", &[Dispatch]),
    ("--agent-port", &[Dispatch]),
    ("--apart", &[Dispatch]),
    ("--api", &[Dispatch]),
    ("--token-file", &[Dispatch]),
];

/// Options that scripts may give to every load.
const COMMON: [&str; 5] = [
    "--rate",
    "--seconds",
    "--connect-rate",
    "--api",
    "--token-file",
];

/// Checks that each given option is valid for the load.
///
/// # Errors
/// An option that is not: wrong usage.
pub fn check(args: &BenchArgs, mode: Mode) -> Result<(), Failure> {
    let given = |flag: &str| args.given.iter().any(|typed| typed == flag);
    for (flag, loads) in VALID_FOR {
        if given(flag) && !loads.contains(&mode) {
            let loads: Vec<&str> = loads.iter().map(|load| load.as_str()).collect();
            let text = format!(
                "{flag} has no meaning for {}: it is for {}",
                mode.as_str(),
                loads.join(", ")
            );
            if !COMMON.contains(&flag) {
                return Err(Failure::usage(text));
            }
            eprintln!("anthill: {text}");
        }
    }
    for (flag, needed, there) in [
        ("--pairs", "--floor", args.floor),
        ("--hold", "--together", args.together),
        ("--agent-port", "--datagrams", args.datagrams),
        ("--agent-port", "--plain", args.plain),
    ] {
        if given(flag) && !there {
            return Err(Failure::usage(format!("{flag} needs {needed}")));
        }
    }
    for (flag, other, there, why) in [
        (
            "--pipeline",
            "--no-replies",
            args.no_replies,
            "no reply is awaited",
        ),
        (
            "--together",
            "--rate 0",
            args.rate == Some(0.0),
            "no host sends heartbeats",
        ),
    ] {
        if given(flag) && there {
            return Err(Failure::usage(format!(
                "{flag} cannot be used with {other}: {why}"
            )));
        }
    }
    Ok(())
}
