//! `anthill output KEY HOST [COMMAND]`: the whole output of a command on a host.
//!
//! A file or a pipe gets the bytes unchanged. On a terminal each line is escaped.

use std::io::{self, IsTerminal, Write};

use crate::escape;

use super::api::{Api, ApiError};
use super::args::OutputArgs;
use super::pages::percent_encoded;
use super::task::Task;
use super::{Failure, print_note};

/// Prints the output.
///
/// # Errors
/// Wrong usage; an unknown task, host or output; no valid answer of a server.
pub fn run(args: &OutputArgs) -> Result<(), Failure> {
    let api = Api::new(&args.api)?;
    print_one(&api, &args.key, &args.host, args.command.as_deref())
}

/// Prints the output of one command, or of all commands, each below a head on stderr.
///
/// # Errors
/// An unknown task, host or output; no valid answer of the server.
pub fn print_one(api: &Api, key: &str, host: &str, command: Option<&str>) -> Result<(), Failure> {
    if let Some(command) = command {
        return match fetch(api, key, host, command) {
            Ok(bytes) => write(&bytes),
            Err(error) if error.is_unknown() => Err(missing(api, key, host, command)?),
            Err(error) => Err(error.into()),
        };
    }
    let task = Task::fetch(api, key)?;
    let (id, found) = task.host(host).ok_or_else(|| task.no_host(key, host))?;
    let results = task.results(found);
    if results.is_empty() {
        let state = &found.state;
        let why = format!("{key}: '{id}' has no output yet: it is {state}");
        return Err(Failure::failed(why));
    }
    let several = results.len() > 1;
    for (command, outcome) in results {
        if several {
            print_note(&outcome.head(id, command));
        }
        write(&fetch(api, key, id, command)?)?;
    }
    Ok(())
}

/// Requests the bytes of an output.
///
/// # Errors
/// See [`ApiError`].
pub fn fetch(api: &Api, key: &str, host: &str, command: &str) -> Result<Vec<u8>, ApiError> {
    api.get_bytes(&format!(
        "/v1/tasks/{}/hosts/{}/output?command={}",
        percent_encoded(key),
        percent_encoded(host),
        percent_encoded(command)
    ))
}

/// The error of a missing output: names the missing task, host, command or result.
fn missing(api: &Api, key: &str, host: &str, command: &str) -> Result<Failure, Failure> {
    let task = Task::fetch(api, key)?;
    let Some((id, found)) = task.host(host) else {
        return Ok(task.no_host(key, host));
    };
    let results = task.results(found);
    let ended: Vec<String> = results
        .iter()
        .map(|(command, _)| format!("'{command}'"))
        .collect();
    let but = match ended.as_slice() {
        [] => format!("it is {}", found.state),
        ended => format!("there is output of {}", ended.join(", ")),
    };
    let why = format!("{key}: '{id}' has no output of '{command}': {but}");
    Ok(Failure::failed(why))
}

/// Writes bytes to stdout.
///
/// # Errors
/// Stdout cannot be written.
fn write(bytes: &[u8]) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    let written = match out.is_terminal() {
        true => out.write_all(harmless(bytes).as_bytes()),
        false => out.write_all(bytes),
    };
    match written.and_then(|()| out.flush()) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(Failure::reader_gone()),
        Err(error) => Err(Failure::failed(format!("cannot write to stdout: {error}"))),
    }
}

/// Escapes text for a terminal. Lines and tabs stay; a final line feed is added.
fn harmless(bytes: &[u8]) -> String {
    let whole = String::from_utf8_lossy(bytes);
    let mut out = String::with_capacity(whole.len() + 1);
    for line in whole.lines() {
        out.push_str(&line_shown(line));
        out.push('\n');
    }
    out
}

/// Escapes a line of output. Tabs stay, since many programs separate columns with them.
pub fn line_shown(line: &str) -> String {
    let cells: Vec<_> = line.split('\t').map(escape::escape).collect();
    cells.join("\t")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_is_not_steered_by_output() {
        assert_eq!(
            harmless(b"a\tb\x1b[2J\r\n\xffc"),
            "a\tb\\u{1b}[2J\n\u{fffd}c\n"
        );
        assert_eq!(harmless(b""), "");
    }
}
