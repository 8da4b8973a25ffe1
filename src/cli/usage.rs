//! Wrong usage, said in one line: what it was, and what it may be.
//!
//! clap explains itself over several lines. A server's command line is mostly typed by units and
//! scripts, whose logs want one line; so its findings are put into words here.

use std::ffi::OsString;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Command, Error};

use super::args;

/// So many flags fit a line that is read; of more `--help` tells.
const FLAGS_MAX: usize = 16;

/// What is wrong with `args`, as clap found it.
pub fn one_line(error: &Error, args: &[OsString]) -> String {
    let known = args::command();
    // Flags before a subcommand are refused, so a subcommand can only come first.
    let subcommand = args
        .get(1)
        .and_then(|first| known.find_subcommand(first))
        .unwrap_or(&known);
    let found = Found(error);
    found
        .in_words(subcommand)
        .unwrap_or_else(|| first_line(error))
}

/// clap's finding, with its details by name.
struct Found<'a>(&'a Error);

impl Found<'_> {
    fn in_words(&self, command: &Command) -> Option<String> {
        let flag = self.text(ContextKind::InvalidArg);
        let value = self.text(ContextKind::InvalidValue);
        Some(match self.0.kind() {
            ErrorKind::UnknownArgument => self.unknown(&flag?, command),
            ErrorKind::InvalidSubcommand => {
                let word = self.text(ContextKind::InvalidSubcommand)?;
                format!(
                    "'{word}' is no subcommand{}: it may be {}",
                    self.nearest(ContextKind::SuggestedSubcommand),
                    subcommands(command)
                )
            }
            ErrorKind::InvalidValue => {
                let wanted = self
                    .text(ContextKind::ValidValue)
                    .map(|values| format!(": it may be {values}"))
                    .unwrap_or_default();
                match value? {
                    none if none.is_empty() => {
                        format!("{} is given no value, and takes one{wanted}", flag?)
                    }
                    value => format!(
                        "{} is '{value}'{}{wanted}",
                        flag?,
                        self.nearest(ContextKind::SuggestedValue)
                    ),
                }
            }
            ErrorKind::TooManyValues => {
                format!("{} takes no value, and is given '{}'", flag?, value?)
            }
            ErrorKind::MissingRequiredArgument => {
                let flag = flag?;
                let values = match flag.starts_with('-') {
                    true => String::new(),
                    false => positionals(command),
                };
                format!("{flag} is missing{values}")
            }
            ErrorKind::ArgumentConflict => self.conflict()?,
            ErrorKind::InvalidUtf8 => "an argument is not UTF-8".to_owned(),
            _ => return None,
        })
    }

    fn unknown(&self, word: &str, command: &Command) -> String {
        let name = match command.get_name() {
            "anthill" => "anthill".to_owned(),
            name => format!("anthill {name}"),
        };
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
        let nearest = self.nearest(ContextKind::SuggestedArg);
        let flags = flags(command);
        if flags.len() > FLAGS_MAX {
            return format!("'{word}' is no {what} of '{name}'{nearest}: see '{name} --help'");
        }
        format!(
            "'{word}' is no {what} of '{name}'{nearest}: it may be {}",
            flags.join(", ")
        )
    }

    fn conflict(&self) -> Option<String> {
        let prior = self.text(ContextKind::PriorArg)?;
        if let Some(word) = self.text(ContextKind::InvalidSubcommand) {
            return Some(format!(
                "{prior} stands before the subcommand '{word}': flags go behind it"
            ));
        }
        let flag = self.text(ContextKind::InvalidArg)?;
        Some(if prior == flag {
            format!("{flag} is given more than once: it may be given once")
        } else {
            format!("{flag} cannot be used with {prior}: it may be one of the two")
        })
    }

    /// One detail as text; of several, all; of none, nothing.
    fn text(&self, kind: ContextKind) -> Option<String> {
        match self.0.get(kind)? {
            ContextValue::String(text) => Some(text.clone()),
            ContextValue::Strings(texts) if !texts.is_empty() => Some(texts.join(", ")),
            _ => None,
        }
    }

    /// ` (did you mean …?)` where clap has an idea; of several its first.
    fn nearest(&self, kind: ContextKind) -> String {
        let known = match self.0.get(kind) {
            Some(ContextValue::String(known)) => Some(known),
            Some(ContextValue::Strings(known)) => known.first(),
            _ => None,
        };
        match known {
            Some(known) => format!(" (did you mean '{known}'?)"),
            None => String::new(),
        }
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

/// What the arguments without a flag may be, where that is a closed set.
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

fn subcommands(command: &Command) -> String {
    let shown = command
        .get_subcommands()
        .filter(|known| !known.is_hide_set());
    let names: Vec<&str> = shown.map(Command::get_name).collect();
    names.join(", ")
}

/// clap's own words, as far as they fit one line.
fn first_line(error: &Error) -> String {
    let text = error.render().to_string();
    let line = text.lines().next().unwrap_or("wrong usage");
    line.strip_prefix("error: ").unwrap_or(line).to_owned()
}
