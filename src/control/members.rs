//! The members of a JSON object that arrives in pieces: names and values are checked and kept as soon
//! as they end.

use std::collections::HashSet;

use serde_json::value::RawValue;

use super::response::HttpResponse;
use super::scan::{Event, Position, Scanner, SyntaxError};
use crate::handlers::tasks_options::Amount;
use crate::limits::{BOOK_BYTES_MAX, HTTP_MEMBER_BYTES_MAX, ROLLOUT_STEPS_MAX};

/// Characters of a name or a number that an error repeats.
const QUOTED_CHARS_MAX: usize = 64;

/// A member that a body may have, and what is kept of it.
pub(super) type Known = (&'static str, Kept);

/// The part of a member that is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kept {
    /// Its JSON.
    Json,
    /// A list of names of hosts.
    Names,
    /// An object of commands, each with its priority.
    Commands,
    /// Nothing: it has no effect.
    Nothing,
}

/// The members of a body, as far as it has been read.
#[derive(Debug)]
pub(super) struct Members {
    known: &'static [Known],
    scanner: Scanner,
    /// Bytes taken so far.
    taken: usize,
    /// Name of the member whose value is read.
    current: Option<String>,
    /// The name or value that is kept for now.
    token: Option<Token>,
    /// Its text.
    text: Vec<u8>,
    /// The members that have begun.
    begun: Vec<&'static str>,
    values: Vec<Member>,
    pub(super) names: Option<Vec<String>>,
    pub(super) commands: Option<Commands>,
    /// The first mistake so far that is not against the syntax of JSON.
    mistake: Option<HttpResponse>,
    /// The body is no JSON. The rest of it is not looked at.
    invalid: Option<HttpResponse>,
}

/// A name or a value that is read.
#[derive(Clone, Copy, Debug)]
struct Token {
    /// Number of containers around it.
    level: usize,
    at: Position,
    /// Bytes of the body before it.
    before: usize,
}

/// Commands and their priorities, in the order of the body.
#[derive(Debug, Default)]
pub(super) struct Commands {
    pub(super) list: Vec<(String, f64)>,
    seen: HashSet<String>,
    bytes: usize,
    /// The command whose priority is awaited.
    next: Option<(String, Position)>,
}

impl Members {
    pub(super) fn new(known: &'static [Known]) -> Self {
        Self {
            known,
            scanner: Scanner::new(),
            taken: 0,
            current: None,
            token: None,
            text: Vec::new(),
            begun: Vec::new(),
            values: Vec::new(),
            names: None,
            commands: None,
            mistake: None,
            invalid: None,
        }
    }

    pub(super) fn take(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while let (Some(byte), None) = (rest.first().copied(), &self.invalid) {
            let plain = self.scanner.plain_len(rest);
            if plain > 0 {
                self.scanner.pass(&rest[..plain]);
                self.keep(&rest[..plain]);
                rest = &rest[plain..];
                continue;
            }
            let at = self.scanner.position();
            let event = match self.scanner.push(byte) {
                Ok(Event::Began { level: 0, .. }) if byte != b'{' => Err(not_an_object()),
                Ok(event) => Ok(event),
                Err(_) if self.scanner.is_blank() => Err(not_an_object()),
                Err(error) => Err(not_json(error)),
            };
            let event = match event {
                Ok(event) => event,
                Err(refusal) => {
                    self.invalid = Some(refusal);
                    return;
                }
            };
            if let Event::NumberEnded { level } = event {
                self.ended(level, false);
                continue;
            }
            if let Event::Began { level, is_name } = event {
                self.began(level, is_name, at, byte);
            }
            self.keep(&rest[..1]);
            rest = &rest[1..];
            if let Event::Ended { level, is_name } = event {
                self.ended(level, is_name);
            }
        }
    }

    /// Passes bytes, which belong to the token if there is one.
    fn keep(&mut self, bytes: &[u8]) {
        self.taken += bytes.len();
        let Some(token) = self.token else {
            return;
        };
        if self.text.len() + bytes.len() > HTTP_MEMBER_BYTES_MAX {
            let at = token.at;
            let why = format!("a part of more than {HTTP_MEMBER_BYTES_MAX} bytes, at {at}");
            self.mistake = Some(wrong(&why));
            self.token = None;
        } else {
            self.text.extend_from_slice(bytes);
        }
    }

    /// Bytes that are kept of the present member.
    fn kept(&self) -> Kept {
        let name = self.current.as_deref().unwrap_or_default();
        let known = self.known.iter().find(|(known, _)| *known == name);
        known.map_or(Kept::Nothing, |(_, kept)| *kept)
    }

    /// A name or a value begins with `byte`.
    fn began(&mut self, level: usize, is_name: bool, at: Position, byte: u8) {
        if self.token.is_some() || self.mistake.is_some() {
            return;
        }
        let is_kept = match (level, is_name) {
            (1, true) => Ok(true),
            (1, false) => self.member_began(at, byte),
            (2, _) => self.part_began(is_name, at, byte),
            _ => Ok(false),
        };
        match is_kept {
            Err(mistake) => self.mistake = Some(mistake),
            Ok(false) => {}
            Ok(true) => {
                self.text.clear();
                let before = self.taken;
                self.token = Some(Token { level, at, before });
            }
        }
    }

    /// The value of a member begins. Returns whether all of it is kept.
    fn member_began(&mut self, at: Position, byte: u8) -> Result<bool, HttpResponse> {
        let name = self.current.as_deref().unwrap_or_default();
        let Some((known, kept)) = self.known.iter().find(|(known, _)| *known == name) else {
            let known: Vec<_> = self.known.iter().map(|(name, _)| *name).collect();
            let (name, known) = (quoted(name), known.join(", "));
            return Err(wrong(&format!(
                "unknown member {name} (known: {known}), at {at}"
            )));
        };
        if self.begun.contains(known) {
            return Err(wrong(&format!("{known} is given twice, at {at}")));
        }
        self.begun.push(known);
        match (kept, byte) {
            (Kept::Nothing, _) => return Ok(false),
            (Kept::Names, b'[') => self.names = Some(Vec::new()),
            (Kept::Commands, b'{') => self.commands = Some(Commands::default()),
            (Kept::Names, b'{') => return Err(mismatch(known, NAMES, "an object", at)),
            (Kept::Commands, b'[') => return Err(mismatch(known, COMMANDS, "a list", at)),
            _ => return Ok(true),
        }
        Ok(false)
    }

    /// A name of a host, or a command or its priority, begins. Returns whether it is kept.
    fn part_began(&self, is_name: bool, at: Position, byte: u8) -> Result<bool, HttpResponse> {
        let is_container = matches!(byte, b'[' | b'{');
        let found = if byte == b'[' { "a list" } else { "an object" };
        match (self.kept(), &self.names, &self.commands) {
            (Kept::Names, Some(names), _) if is_container => {
                let path = format!("hosts[{}]", names.len());
                Err(mismatch(&path, "a string", found, at))
            }
            (Kept::Commands, _, Some(commands)) if is_container && !is_name => {
                Err(mismatch(&commands.path(), "a finite number", found, at))
            }
            (Kept::Names | Kept::Commands, _, _) => Ok(true),
            _ => Ok(false),
        }
    }

    /// A name or a value has ended.
    fn ended(&mut self, level: usize, is_name: bool) {
        let Some(token) = self.token.take_if(|token| token.level == level) else {
            return;
        };
        let text = std::mem::take(&mut self.text);
        let result = match text_of(&text, token.before) {
            Err(refusal) => {
                self.invalid = Some(refusal);
                Ok(())
            }
            Ok(json) => self.take_token(json, token, is_name),
        };
        self.text = text;
        if let Err(mistake) = result {
            self.mistake = Some(mistake);
        }
    }

    fn take_token(&mut self, json: &str, token: Token, is_name: bool) -> Result<(), HttpResponse> {
        let at = token.at;
        if token.level == 1 && is_name {
            let name = string(json);
            self.current = Some(name.map_err(|_| not_json(SyntaxError::Invalid(at)))?);
            return Ok(());
        }
        match (
            self.kept(),
            token.level,
            &mut self.names,
            &mut self.commands,
        ) {
            (Kept::Json, 1, _, _) => self.values.push(Member {
                name: self.begun.last().copied().unwrap_or_default(),
                json: json.to_owned(),
                at,
            }),
            (Kept::Names, 1, _, _) if json != "null" => {
                return Err(mismatch("hosts", NAMES, &found(json), at));
            }
            (Kept::Commands, 1, _, _) => {
                return Err(mismatch("commands", COMMANDS, &found(json), at));
            }
            (Kept::Names, 2, Some(names), _) => {
                let name = string(json);
                let path = || format!("hosts[{}]", names.len());
                let name = name.map_err(|found| mismatch(&path(), "a string", &found, at))?;
                names.push(name);
            }
            (Kept::Commands, 2, _, Some(commands)) if is_name => {
                let name = string(json)
                    .map_err(|found| mismatch("a name in commands", "a string", &found, at))?;
                commands.next = Some((name, at));
            }
            (Kept::Commands, 2, _, Some(commands)) => commands.push(json, at)?,
            _ => {}
        }
        Ok(())
    }

    /// Checks the whole body.
    pub(super) fn end(&mut self) -> Result<(), HttpResponse> {
        if self.invalid.is_none() && self.scanner.is_blank() {
            self.invalid = Some(not_an_object());
        }
        match (self.invalid.take(), self.scanner.finish()) {
            (Some(refusal), _) => Err(refusal),
            (None, Err(error)) => Err(not_json(error)),
            (None, Ok(())) => self.mistake.take().map_or(Ok(()), Err),
        }
    }

    pub(super) fn value(&self, name: &str) -> Option<&Member> {
        self.values.iter().find(|member| member.name == name)
    }

    pub(super) fn required(&self, name: &str) -> Result<&Member, HttpResponse> {
        self.value(name).ok_or_else(|| missing(name))
    }
}

impl Commands {
    /// Name of the next command in errors.
    fn path(&self) -> String {
        let name = self.next.as_ref().map_or("", |(name, _)| name);
        format!("commands[{}]", quoted(name))
    }

    /// Takes the priority of the next command.
    fn push(&mut self, json: &str, at: Position) -> Result<(), HttpResponse> {
        let priority = json.parse().ok();
        let Some(priority) = priority.filter(|priority: &f64| priority.is_finite()) else {
            return Err(mismatch(&self.path(), "a finite number", &found(json), at));
        };
        let path = self.path();
        let Some((command, at)) = self.next.take() else {
            return Ok(());
        };
        self.bytes += command.len();
        if self.bytes > BOOK_BYTES_MAX {
            let why = format!("commands: longer than {BOOK_BYTES_MAX} bytes");
            return Err(wrong(&why));
        }
        if !self.seen.insert(command.clone()) {
            return Err(wrong(&format!("{path} is given twice, at {at}")));
        }
        self.list.push((command, priority));
        Ok(())
    }
}

/// The value of a member.
#[derive(Debug)]
pub(super) struct Member {
    name: &'static str,
    pub(super) json: String,
    at: Position,
}

impl Member {
    pub(super) fn string(&self) -> Result<String, HttpResponse> {
        string(&self.json).map_err(|found| mismatch(self.name, "a string", &found, self.at))
    }

    /// The string, or else the JSON itself.
    pub(super) fn text(&self) -> String {
        string(&self.json).unwrap_or_else(|_| self.json.clone())
    }

    /// Steps of a rollout: `10`, `"10%"`, `"1,10%,100%"` or a list of these.
    pub(super) fn amounts(&self) -> Result<Vec<Amount>, HttpResponse> {
        let texts: Vec<String> = match self.json.starts_with('[') {
            true => {
                let elements = Elements(&self.json[1..]);
                elements
                    .map(|json| string(json).unwrap_or_else(|_| json.to_owned()))
                    .collect()
            }
            false => vec![self.text()],
        };
        let all = texts.iter().flat_map(|text| text.split(','));
        let amounts: Option<Vec<Amount>> = all.map(Amount::parse).collect();
        let amounts = amounts.filter(|all| (1..=ROLLOUT_STEPS_MAX).contains(&all.len()));
        amounts.ok_or_else(|| self.wrong("numbers of hosts or shares, such as \"1,10%,100%\""))
    }

    pub(super) fn flag(&self) -> Result<bool, HttpResponse> {
        self.json.parse().map_err(|_| self.wrong("true or false"))
    }

    pub(super) fn wrong(&self, expected: &str) -> HttpResponse {
        mismatch(self.name, expected, &found(&self.json), self.at)
    }
}

/// The elements of a list, or names and values of an object in turn, behind the bracket. The JSON
/// is known to be valid.
#[derive(Clone)]
struct Elements<'a>(&'a str);

impl<'a> Iterator for Elements<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        let opening = |c: char| matches!(c, ',' | ':') || c.is_ascii_whitespace();
        let rest = self.0.trim_start_matches(opening);
        let mut values = serde_json::Deserializer::from_str(rest).into_iter::<&RawValue>();
        let value = values.next()?.ok()?;
        self.0 = &rest[values.byte_offset()..];
        Some(value.get())
    }
}

/// Value that `hosts` may have.
const NAMES: &str = "a list of names or null";
/// Value that `commands` may have.
const COMMANDS: &str = "an object of commands, each with its priority";

pub(super) fn missing(name: &str) -> HttpResponse {
    wrong(&format!("{name} is missing"))
}

fn not_an_object() -> HttpResponse {
    wrong("expected a JSON object")
}

fn not_json(error: SyntaxError) -> HttpResponse {
    wrong(&match error {
        SyntaxError::Invalid(at) => format!("not valid JSON, at {at}"),
        SyntaxError::Incomplete(at) => format!("the JSON is not complete, at {at}"),
    })
}

/// Decodes a JSON string. The error names the type of another value.
fn string(json: &str) -> Result<String, String> {
    serde_json::from_str(json).map_err(|_| {
        let broken = json.starts_with('"').then_some(" with a broken escape");
        found(json) + broken.unwrap_or_default()
    })
}

/// How an error shows the value `json`.
fn found(json: &str) -> String {
    match json.as_bytes().first() {
        Some(b'"') => "a string".to_owned(),
        Some(b'[') => "a list".to_owned(),
        Some(b'{') => "an object".to_owned(),
        _ => json.chars().take(QUOTED_CHARS_MAX).collect(),
    }
}

fn quoted(name: &str) -> String {
    let shown: String = name.chars().take(QUOTED_CHARS_MAX).collect();
    format!("{shown:?}")
}

fn mismatch(path: &str, expected: &str, found: &str, at: Position) -> HttpResponse {
    wrong(&format!(
        "{path}: expected {expected}, found {found}, at {at}"
    ))
}

pub(super) fn wrong(text: &str) -> HttpResponse {
    HttpResponse::error(400, &format!("the body is wrong: {text}"))
}

/// Decodes UTF-8. `before` is the offset of `bytes` in the body, for the error.
pub(super) fn text_of(bytes: &[u8], before: usize) -> Result<&str, HttpResponse> {
    std::str::from_utf8(bytes).map_err(|error| {
        let byte = before + error.valid_up_to() + 1;
        wrong(&format!("byte {byte} is not UTF-8"))
    })
}
