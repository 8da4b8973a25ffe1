//! Errors of usage in one line: the wrong value and the valid ones.
//!
//! clap's errors have several lines. The command line of a server is mostly written in units and
//! scripts, whose logs need one line.

use std::error::Error as _;
use std::ffi::OsString;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Command, Error};

use super::Failure;

/// Limit of the flags listed in an error; `--help` lists all.
const FLAGS_MAX: usize = 10;

/// Returns the help or the version if that is what clap ended with for `args`.
///
/// # Errors
/// Else wrong usage, in one line.
pub fn shown(error: &Error, known: &Command, args: &[OsString]) -> Result<String, Failure> {
    match error.kind() {
        ErrorKind::DisplayVersion => Ok(format!("anthill {}\n", env!("CARGO_PKG_VERSION"))),
        ErrorKind::DisplayHelp => Ok(error.render().to_string()),
        _ => Err(Failure::usage(one_line(error, known, args))),
    }
}

/// Explains the error that clap found in `args`, in one line.
fn one_line(error: &Error, known: &Command, args: &[OsString]) -> String {
    // Flags before a subcommand are refused, so a subcommand can only come first.
    let subcommand = args
        .get(1)
        .and_then(|first| known.find_subcommand(first))
        .unwrap_or(known);
    let found = Found(error);
    found
        .in_words(subcommand)
        .unwrap_or_else(|| first_line(error))
}

/// clap's error, with access to its details.
struct Found<'a>(&'a Error);

impl Found<'_> {
    fn in_words(&self, command: &Command) -> Option<String> {
        let flag = self.text(ContextKind::InvalidArg);
        let flag = flag.map(|flag| named(&flag));
        let value = self.text(ContextKind::InvalidValue);
        Some(match self.0.kind() {
            ErrorKind::UnknownArgument => {
                self.unknown(&self.text(ContextKind::InvalidArg)?, command)
            }
            ErrorKind::InvalidSubcommand => {
                let word = self.text(ContextKind::InvalidSubcommand)?;
                format!(
                    "'{word}' is no subcommand{}: see 'anthill --help'",
                    nearest(&word, subcommands(command))
                )
            }
            ErrorKind::InvalidValue => {
                let known = self.texts(ContextKind::ValidValue);
                let wanted = match known.is_empty() {
                    true => String::new(),
                    false => format!(": it may be {}", known.join(", ")),
                };
                match value? {
                    none if none.is_empty() => {
                        format!("{} is given no value, and takes one{wanted}", flag?)
                    }
                    value => {
                        let nearest = nearest(&value, known.iter().map(String::as_str));
                        format!("{} is '{value}'{nearest}{wanted}", flag?)
                    }
                }
            }
            ErrorKind::ValueValidation => {
                let why = self.0.source()?.to_string();
                format!("{} is '{}': {why}", flag?, value?)
            }
            ErrorKind::TooManyValues => {
                format!("{} takes no value, and is given '{}'", flag?, value?)
            }
            ErrorKind::MissingRequiredArgument => self.missing(command)?,
            ErrorKind::ArgumentConflict => self.conflict()?,
            ErrorKind::InvalidUtf8 => "an argument is not UTF-8".to_owned(),
            _ => return None,
        })
    }

    /// Missing required arguments, positional ones first, as they are typed.
    fn missing(&self, command: &Command) -> Option<String> {
        let missing = self.texts(ContextKind::InvalidArg);
        let (groups, single): (Vec<_>, Vec<_>) = missing
            .iter()
            .partition(|name| name.starts_with("<-") || name.contains('|'));
        let group = |group: &&String| {
            let names: Vec<String> = alternatives(group).iter().map(|name| named(name)).collect();
            format!("one of {}", names.join(", "))
        };
        let (flags, values): (Vec<_>, Vec<_>) =
            single.into_iter().partition(|name| name.starts_with('-'));
        let names = values.into_iter().chain(flags).map(|name| named(name));
        let names: Vec<String> = names.chain(groups.iter().map(group)).collect();
        let help = format!("see '{} --help'", called(command));
        Some(match names.as_slice() {
            [] => return None,
            [one] => {
                let values = match one.starts_with('-') || one.contains(' ') {
                    true => String::new(),
                    false => positionals(command),
                };
                match values.is_empty() {
                    true => format!("{one} is missing: {help}"),
                    false => format!("{one} is missing{values}"),
                }
            }
            [first @ .., last] => format!("{} and {last} are missing: {help}", first.join(", ")),
        })
    }

    fn unknown(&self, word: &str, command: &Command) -> String {
        let name = called(command);
        let positional = command.get_positionals().last();
        if let Some(positional) = positional.filter(|_| !word.starts_with('-')) {
            let value = positional.get_id().as_str();
            let value = positional
                .get_value_names()
                .and_then(|names| names.first())
                .map_or(value, |name| name.as_str());
            return format!("'{word}' is one {value} too many for '{name}'");
        }
        let what = if word.starts_with('-') {
            "flag"
        } else {
            "argument"
        };
        let flags = flags(command);
        let nearest = nearest(word, flags.iter().map(String::as_str));
        if flags.len() > FLAGS_MAX {
            return format!("'{word}' is no {what} of '{name}'{nearest}: see '{name} --help'");
        }
        format!(
            "'{word}' is no {what} of '{name}'{nearest}: it may be {}",
            flags.join(", ")
        )
    }

    fn conflict(&self) -> Option<String> {
        let prior = named(&self.text(ContextKind::PriorArg)?);
        if let Some(word) = self.text(ContextKind::InvalidSubcommand) {
            return Some(format!(
                "{prior} is before the subcommand '{word}': flags go after it"
            ));
        }
        let flag = named(&self.text(ContextKind::InvalidArg)?);
        Some(if prior == flag {
            format!("{flag} is given more than once: it may be given once")
        } else {
            format!("{flag} cannot be used with {prior}: it may be one of the two")
        })
    }

    /// Text of a detail, joined if there are several.
    fn text(&self, kind: ContextKind) -> Option<String> {
        let texts = self.texts(kind);
        let given = self.0.get(kind).is_some() && !texts.is_empty();
        given.then(|| texts.join(", "))
    }

    fn texts(&self, kind: ContextKind) -> Vec<String> {
        match self.0.get(kind) {
            Some(ContextValue::String(text)) => vec![text.clone()],
            Some(ContextValue::Strings(texts)) => texts.clone(),
            _ => Vec::new(),
        }
    }
}

/// The command as typed.
fn called(command: &Command) -> String {
    match command.get_name() {
        "anthill" => "anthill".to_owned(),
        name => format!("anthill {name}"),
    }
}

/// The name of an argument as typed, without clap's marks: `--tcp` of `--tcp <ADDR>`, `KEY` of
/// `<KEY>`.
fn named(shown: &str) -> String {
    let bare = shown.trim_start_matches(['<', '[']);
    let end = match bare.starts_with('-') {
        true => bare.find([' ', '[', '=', '<']),
        false => bare.find(['>', ']']),
    };
    bare[..end.unwrap_or(bare.len())].to_owned()
}

/// The arguments in a group that clap shows as `<--task <COMMAND[=PRIORITY]>|--tasks <FILE>>`.
fn alternatives(group: &str) -> Vec<&str> {
    let inner = group.strip_prefix('<').unwrap_or(group);
    inner.split('|').collect()
}

/// `(did you mean …?)` for the nearest of `known`, if one is near.
fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    let typed = word.trim_start_matches('-');
    let distance = |name: &'a str| {
        let bare = name.trim_start_matches('-');
        let distance = strsim::damerau_levenshtein(typed, bare);
        (distance <= (bare.len() / 3).max(1)).then_some((distance, name))
    };
    match known.into_iter().filter_map(distance).min() {
        // A single letter is near to every name.
        Some((_, name)) if typed.chars().count() > 1 => format!(" (did you mean '{name}'?)"),
        _ => String::new(),
    }
}

fn flags(command: &Command) -> Vec<String> {
    let mut names: Vec<String> = command
        .get_arguments()
        .filter_map(|argument| argument.get_long())
        .map(|long| format!("--{long}"))
        .collect();
    names.extend(["--help".to_owned(), "--version".to_owned()]);
    names
}

/// Allowed values of the positional arguments, if they are a closed set.
fn positionals(command: &Command) -> String {
    let names: Vec<String> = command
        .get_positionals()
        .flat_map(|argument| argument.get_possible_values())
        .map(|value| value.get_name().to_owned())
        .collect();
    match names.as_slice() {
        [] => String::new(),
        names => format!(": it may be {}", names.join(", ")),
    }
}

fn subcommands(command: &Command) -> impl Iterator<Item = &str> {
    let shown = command
        .get_subcommands()
        .filter(|known| !known.is_hide_set());
    shown.map(Command::get_name)
}

/// First line of clap's own text.
fn first_line(error: &Error) -> String {
    let text = error.render().to_string();
    let line = text.lines().next().unwrap_or("wrong usage");
    line.strip_prefix("error: ").unwrap_or(line).to_owned()
}
