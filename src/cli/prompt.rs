//! Input of the console: a prompt with history and completion on a terminal, plain lines elsewhere.

use std::cell::RefCell;
use std::fs::DirBuilder;
use std::io::{self, BufRead, BufReader, IsTerminal, Read, Stdin};
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::escape;
use crate::files::{decode, text_of};
use crate::limits::{CONSOLE_HISTORY_LINES_MAX, CONSOLE_LINE_BYTES_MAX};
use rustyline::completion::Completer;
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::FileHistory;
use rustyline::validate::Validator;
use rustyline::{CompletionType, Config, Context, Editor, Helper};

use super::api::Api;
use super::hosts::Fleet;
use super::{Failure, print_error};

const PROMPT: &str = "anthill> ";
/// Built-ins of the console.
pub const WORDS: [&str; 8] = [
    "exit", "help", "host", "hosts", "output", "quit", "task", "tasks",
];
/// Lifetime of the cached host names.
const NAMES_HELD: Duration = Duration::from_secs(10);

/// Source of input lines.
pub enum Prompt<'a> {
    /// From a terminal.
    Terminal {
        /// Edits the line.
        editor: Box<Editor<Words<'a>, FileHistory>>,
        /// File of the history, if there is one.
        history: Option<PathBuf>,
    },
    /// From a script.
    Script(Script<BufReader<Stdin>>),
}

impl<'a> Prompt<'a> {
    /// Opens stdin.
    ///
    /// # Errors
    /// A terminal that cannot be used.
    pub fn new(api: &'a Api) -> Result<Self, Failure> {
        if !io::stdin().is_terminal() {
            return Ok(Self::Script(Script::new(BufReader::new(io::stdin()))));
        }
        let config = Config::builder()
            .max_history_size(CONSOLE_HISTORY_LINES_MAX)
            .map_err(unusable)?
            .completion_type(CompletionType::List)
            .build();
        let mut editor = Editor::with_config(config).map_err(unusable)?;
        editor.set_helper(Some(Words {
            api,
            names: RefCell::new(None),
        }));
        let history = history_file();
        if let Some(file) = &history {
            // The file does not exist the first time.
            let _ = editor.load_history(file);
        }
        let editor = Box::new(editor);
        Ok(Self::Terminal { editor, history })
    }

    /// Returns whether input comes from a terminal.
    pub const fn is_interactive(&self) -> bool {
        matches!(self, Self::Terminal { .. })
    }

    /// The next line; none at the end of input.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn next(&mut self) -> Result<Option<String>, Failure> {
        match self {
            Self::Script(script) => script.line(),
            Self::Terminal { editor, history } => match editor.readline(PROMPT) {
                Ok(line) => {
                    remember(editor, history, &line);
                    Ok(Some(line))
                }
                Err(ReadlineError::Interrupted) => Ok(Some(String::new())),
                Err(ReadlineError::Eof) => Ok(None),
                Err(error) => Err(unusable(error)),
            },
        }
    }
}

fn unusable(error: ReadlineError) -> Failure {
    Failure::failed(format!("cannot read from the terminal: {error}"))
}

/// Adds a line to the history. A history that cannot be written causes one warning.
fn remember(
    editor: &mut Editor<Words<'_>, FileHistory>,
    history: &mut Option<PathBuf>,
    line: &str,
) {
    let new = editor.add_history_entry(line).unwrap_or(false);
    let Some(file) = history.as_deref().filter(|_| new) else {
        return;
    };
    if let Err(error) = editor.append_history(file) {
        print_error(&format!("no history in '{}': {error}", file.display()));
        *history = None;
    }
}

/// Path of the history, whose directory is created; `None` without a home directory.
fn history_file() -> Option<PathBuf> {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    let home = PathBuf::from(set("HOME")?);
    let state = set("XDG_STATE_HOME").map(PathBuf::from);
    let state = state.filter(|path| path.is_absolute());
    let directory = state.unwrap_or_else(|| home.join(".local/state"));
    let directory = directory.join("anthill");
    // Commands may be confidential.
    let made = DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&directory);
    made.ok()?;
    Some(directory.join("history"))
}

/// Plain lines of a script, without a byte order mark in front.
pub struct Script<R> {
    input: R,
    /// Bytes read so far.
    offset: usize,
}

impl<R: BufRead> Script<R> {
    fn new(input: R) -> Self {
        Self { input, offset: 0 }
    }

    /// The next line.
    fn line(&mut self) -> Result<Option<String>, Failure> {
        let unreadable = |why: String| Failure::failed(format!("cannot read from stdin: {why}"));
        let mut line = Vec::new();
        let limit = CONSOLE_LINE_BYTES_MAX as u64 + 1;
        let read = (&mut self.input).take(limit).read_until(b'\n', &mut line);
        read.map_err(|error| unreadable(error.to_string()))?;
        if line.is_empty() {
            return Ok(None);
        }
        if line.len() > CONSOLE_LINE_BYTES_MAX {
            let why = format!("a line may hold {CONSOLE_LINE_BYTES_MAX} bytes at most");
            return Err(unreadable(why));
        }
        let begin = self.offset;
        self.offset += line.len();
        let decoded = match begin {
            0 => text_of(line),
            _ => decode(line),
        };
        decoded.map(Some).map_err(|error| {
            let error = error.behind(begin);
            unreadable(format!("it {error}"))
        })
    }
}

/// Completes the words of the console, and names of hosts behind an `@`.
pub struct Words<'a> {
    api: &'a Api,
    names: RefCell<Option<(Instant, Vec<String>)>>,
}

impl Helper for Words<'_> {}
impl Highlighter for Words<'_> {}
impl Validator for Words<'_> {}
impl Hinter for Words<'_> {
    type Hint = String;
}

impl Completer for Words<'_> {
    type Candidate = String;

    fn complete(
        &self,
        line: &str,
        at: usize,
        _: &Context<'_>,
    ) -> rustyline::Result<(usize, Vec<String>)> {
        let (start, word) = word_at(line, at);
        let found = match word.strip_prefix('@') {
            // A host may follow hosts only.
            Some(begun) if only_hosts(&line[..start]) => self.hosts(begun),
            None if line[..start].trim().is_empty() => WORDS
                .iter()
                .filter(|known| known.starts_with(word))
                .map(|known| (*known).to_owned())
                .collect(),
            _ => Vec::new(),
        };
        Ok((start, found))
    }
}

impl Words<'_> {
    /// Completions for the prefix of a host name. A server that does not answer has none.
    fn hosts(&self, begun: &str) -> Vec<String> {
        let mut held = self.names.borrow_mut();
        let fresh = |(at, _): &&(Instant, Vec<String>)| at.elapsed() < NAMES_HELD;
        if held.as_ref().filter(fresh).is_none() {
            let names = Fleet::online_names(self.api).unwrap_or_default();
            *held = Some((Instant::now(), names));
        }
        let names = held.iter().flat_map(|(_, names)| names);
        let names = names.map(String::as_str);
        std::iter::once("all")
            .chain(names)
            .filter(|name| name.starts_with(begun) && !name.chars().any(escape::is_unsafe))
            .map(|name| format!("@{name} "))
            .collect()
    }
}

/// Returns the word that ends at the cursor, and its start.
fn word_at(line: &str, at: usize) -> (usize, &str) {
    let before = line.get(..at).unwrap_or(line);
    let start = before
        .char_indices()
        .rfind(|(_, c)| c.is_whitespace())
        .map_or(0, |(at, c)| at + c.len_utf8());
    (start, &before[start..])
}

fn only_hosts(words: &str) -> bool {
    words.split_whitespace().all(|word| word.starts_with('@'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_word_at_the_cursor_is_completed() {
        for (line, at, word) in [
            ("", 0, (0, "")),
            ("ho", 2, (0, "ho")),
            ("@a @b", 5, (3, "@b")),
            ("@a @b", 2, (0, "@a")),
            ("ä\u{2003}@b", 7, (5, "@b")),
            ("a ", 2, (2, "")),
        ] {
            assert_eq!(word_at(line, at), word, "{line:?} at {at}");
        }
        assert!(only_hosts("@a @b "));
        assert!(!only_hosts("@a reboot "));
    }

    #[test]
    fn lines_of_a_script_are_bounded() {
        let mut script = Script::new(&b"\xef\xbb\xbfone\n\ntwo"[..]);
        let mut next = || script.line().unwrap();
        assert_eq!(next().as_deref(), Some("one\n"));
        assert_eq!(next().as_deref(), Some("\n"));
        assert_eq!(next().as_deref(), Some("two"));
        assert_eq!(next(), None);
        let long = vec![b'x'; CONSOLE_LINE_BYTES_MAX + 1];
        for wrong in [&long[..], b"\xff\n"] {
            assert_eq!(Script::new(wrong).line().unwrap_err().status(), 1);
        }
        let mut script = Script::new(&b"one\ntw\xff\n"[..]);
        script.line().unwrap();
        let why = script.line().unwrap_err().why().unwrap().to_owned();
        assert!(why.contains("at byte 6"), "{why}");
    }
}
