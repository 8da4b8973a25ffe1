//! Commands that an agent may run: the allow file.
//!
//! ```text
//!  ["uptime", "systemctl restart web.service", "systemctl status *",
//!   {"run": "backup --full", "timeout_s": 3600}, {"run": "ls *", "options": true},
//!   {"shell": "df -h | tail -1"},
//!   {"run": "make test", "user": "build", "cwd": "/srv/app", "env": {"CI": "1"}}]
//!
//!  command ─▶ words ─▶ first entry that matches ─▶ run directly, within its time
//!    └──── as it is ─▶ a shell entry            ─▶ /bin/sh -c
//!                      no match                 ─▶ refused
//! ```
//!
//! The owner of a host writes this file; a dispatch cannot exceed it. The command line is split
//! like a shell does, and the words are compared. The program gets the words unchanged: nothing in
//! them is expanded.
//!
//! A `*` matches no word that begins with `-`, unless its entry has `"options": true`: an option
//! such as `--host=…` would turn an allowed program into another one.

use serde_json::Value;

use crate::limits::{AGENT_ALLOW_ENTRIES_MAX, AGENT_ALLOW_ENV_MAX, AGENT_RUN_S, AGENT_RUN_S_MAX};
use crate::syntax::{self, json_fault};
use crate::time::Span;

/// Matches any one word. A word that begins with `-` needs an entry with `options`.
const ANY: &str = "*";

/// Parsed allow file. The default allows nothing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Allow {
    entries: Vec<Entry>,
}

#[derive(Clone, Debug, PartialEq)]
struct Entry {
    what: What,
    time: Span,
    /// A wildcard also matches words that begin with `-`.
    options: bool,
    place: Place,
}

/// User, directory and environment of a command.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Place {
    /// The user: a name or a number of `/etc/passwd`. None: that of the agent.
    pub user: Option<String>,
    /// The directory, an absolute path. None: that of the agent.
    pub cwd: Option<String>,
    /// Variables beside `PATH` and `LANG`, which they may replace.
    pub env: Vec<(String, String)>,
}

#[derive(Clone, Debug, PartialEq)]
enum What {
    /// Words, of which some may be wildcards.
    Words(Vec<String>),
    /// A line for the shell.
    Shell(String),
}

/// An allowed command, ready to run.
#[derive(Clone, Debug, PartialEq)]
pub struct Job {
    /// The program and its arguments: at least one word. A program without a slash is looked up in
    /// a fixed path.
    pub words: Vec<String>,
    /// Time limit.
    pub time: Span,
    /// User, directory and environment.
    pub place: Place,
}

/// Error of an allow file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AllowError {
    /// It is not JSON.
    #[error("it is not JSON: {0}")]
    Syntax(String),
    /// It has no text.
    #[error("it {0}, and must be a list of entries: [] allows nothing")]
    Blank(&'static str),
    /// It is not a list.
    #[error("it must be a list of entries")]
    NoList,
    /// It has too many entries.
    #[error("it has more than {AGENT_ALLOW_ENTRIES_MAX} entries")]
    TooMany,
    /// One of its entries is wrong.
    #[error("entry {number} {why}")]
    Entry {
        /// Number of the entry, from 1.
        number: usize,
        /// The allowed form.
        why: String,
    },
}

impl Allow {
    /// Reads the text of an allow file.
    ///
    /// # Errors
    /// The text is not a valid allow file. The error names the entry.
    pub fn parse(text: &str) -> Result<Self, AllowError> {
        if let Some(blank) = syntax::blank(text) {
            return Err(AllowError::Blank(blank));
        }
        let value: Value = serde_json::from_str(text)
            .map_err(|error| AllowError::Syntax(json_fault(text, &error).to_string()))?;
        let Value::Array(values) = value else {
            return Err(AllowError::NoList);
        };
        if values.len() > AGENT_ALLOW_ENTRIES_MAX {
            return Err(AllowError::TooMany);
        }
        let entries = (1..)
            .zip(&values)
            .map(|(number, value)| entry(value).map_err(|why| AllowError::Entry { number, why }));
        let entries = entries.collect::<Result<_, _>>()?;
        Ok(Self { entries })
    }

    /// Returns the job for `command`, by the first entry that matches it.
    #[must_use]
    pub fn job(&self, command: &str) -> Option<Job> {
        let words = shlex::split(command).unwrap_or_default();
        let entry = self.entries.iter().find(|entry| match &entry.what {
            What::Words(pattern) => matches(pattern, &words, entry.options),
            What::Shell(line) => line == command,
        })?;
        let words = match &entry.what {
            What::Words(_) => words,
            What::Shell(line) => vec!["/bin/sh".to_owned(), "-c".to_owned(), line.clone()],
        };
        Some(Job {
            words,
            time: entry.time,
            place: entry.place.clone(),
        })
    }

    /// Reason why `command` has no [`job`](Self::job).
    #[must_use]
    pub fn refusal(&self, command: &str) -> &'static str {
        let words = shlex::split(command).unwrap_or_default();
        let with_options = |entry: &Entry| match &entry.what {
            What::Words(pattern) => matches(pattern, &words, true),
            What::Shell(_) => false,
        };
        match self.entries.iter().any(with_options) {
            true => {
                "refused: a word begins with -, which the * of this host's allow file takes only \
                 with \"options\": true"
            }
            false => "refused: this host's allow file does not name it",
        }
    }

    /// Number of entries.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Returns whether it allows nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Entries that never match, each with the earlier entry that covers it, both counted from 1.
    /// Their time limits have no effect.
    #[must_use]
    pub fn covered(&self) -> Vec<(usize, usize)> {
        let mut covered = Vec::new();
        for (at, later) in self.entries.iter().enumerate() {
            // A wildcard as a word is matched by wildcards only.
            let words = match &later.what {
                What::Words(words) => words.clone(),
                What::Shell(line) => shlex::split(line).unwrap_or_default(),
            };
            // Options that only the later entry's wildcards match are not covered.
            let reaches_options = later.options && later.has_wildcard();
            let covers = |earlier: &Entry| match &earlier.what {
                What::Words(pattern) => {
                    (earlier.options || !reaches_options)
                        && matches(pattern, &words, earlier.options)
                }
                What::Shell(_) => earlier.what == later.what,
            };
            if let Some(by) = self.entries[..at].iter().position(covers) {
                covered.push((at + 1, by + 1));
            }
        }
        covered
    }

    /// Returns whether an entry leaves a word to the dispatch.
    #[must_use]
    pub fn has_wildcard(&self) -> bool {
        self.entries.iter().any(Entry::has_wildcard)
    }
}

impl Entry {
    fn has_wildcard(&self) -> bool {
        match &self.what {
            What::Words(words) => words.iter().any(|word| word == ANY),
            What::Shell(_) => false,
        }
    }
}

/// Returns whether `words` match `pattern`. With `options`, wildcards match options too.
fn matches(pattern: &[String], words: &[String], options: bool) -> bool {
    let Some(program) = words.first() else {
        return false;
    };
    // A wildcard in place of the program matches only names in the fixed path. A program given by
    // its path must be named in the entry.
    if pattern.first().is_some_and(|word| word == ANY) && program.contains('/') {
        return false;
    }
    let same = |(pattern, word): (&String, &String)| {
        pattern == word || pattern == ANY && (options || !word.starts_with('-'))
    };
    pattern.len() == words.len() && pattern.iter().zip(words).all(same)
}

/// One entry of the file.
fn entry(value: &Value) -> Result<Entry, String> {
    let members = match value {
        Value::String(line) => {
            let what = What::Words(pattern(line)?);
            let time = Span::from_secs(AGENT_RUN_S);
            let options = false;
            return Ok(Entry {
                what,
                time,
                options,
                place: Place::default(),
            });
        }
        Value::Object(members) => members,
        _ => return Err("must be a text or an object".to_owned()),
    };
    let mut what = None;
    let mut time = Span::from_secs(AGENT_RUN_S);
    let mut options = None;
    let mut place = Place::default();
    for (name, value) in members {
        let is_command = matches!(name.as_str(), "run" | "shell");
        match (name.as_str(), value) {
            ("run" | "shell", _) if what.is_some() => {
                return Err("must have either `run` or `shell`".to_owned());
            }
            ("run", Value::String(line)) => what = Some(What::Words(pattern(line)?)),
            ("shell", Value::String(line)) if !line.trim().is_empty() => {
                what = Some(What::Shell(line.clone()));
            }
            ("timeout_s", value) => time = seconds(value)?,
            ("user", value) => place.user = Some(user(value)?),
            ("cwd", value) => place.cwd = Some(directory(value)?),
            ("env", value) => place.env = variables(value)?,
            ("options", Value::Bool(yes)) => options = Some(*yes),
            ("options", value) => {
                return Err(format!("has `options` {value}: it may be true or false"));
            }
            _ if is_command => return Err(format!("must have a command for `{name}`")),
            _ => {
                return Err(format!(
                    "has {name:?}: it may have run, shell, timeout_s, options, user, cwd and env"
                ));
            }
        }
    }
    let what = what.ok_or("must have `run` or `shell`")?;
    if options.is_some() && matches!(what, What::Shell(_)) {
        return Err("has `options`, which belongs to `run`: a `shell` line is exact".to_owned());
    }
    Ok(Entry {
        what,
        time,
        options: options.unwrap_or(false),
        place,
    })
}

fn user(value: &Value) -> Result<String, String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '$');
    let fits = |name: &&str| (1..=32).contains(&name.len()) && name.chars().all(allowed);
    let name = value.as_str().filter(fits);
    let wrong = || format!("has `user` {value}: it may be the name or number of a local user");
    name.map(str::to_owned).ok_or_else(wrong)
}

fn directory(value: &Value) -> Result<String, String> {
    let fits = |path: &&str| path.starts_with('/') && !path.contains('\0');
    let path = value.as_str().filter(fits);
    let wrong = || format!("has `cwd` {value}: it may be an absolute path");
    path.map(str::to_owned).ok_or_else(wrong)
}

/// Variables of the environment. No error shows a value, which may be a secret.
fn variables(value: &Value) -> Result<Vec<(String, String)>, String> {
    let Value::Object(members) = value else {
        return Err("has `env`, which must be an object NAME -> TEXT".to_owned());
    };
    if members.len() > AGENT_ALLOW_ENV_MAX {
        return Err(format!(
            "has more than {AGENT_ALLOW_ENV_MAX} variables in `env`"
        ));
    }
    let variable = |(name, value): (&String, &Value)| {
        let allowed = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let is_name = !name.is_empty()
            && !name.starts_with(|c: char| c.is_ascii_digit())
            && name.chars().all(allowed);
        match value.as_str() {
            Some(text) if is_name && !text.contains('\0') => Ok((name.clone(), text.to_owned())),
            _ => Err(format!(
                "has {name:?} in `env`: a name may be letters, digits and _, and its value a text"
            )),
        }
    };
    members.iter().map(variable).collect()
}

/// The words of a pattern, of which the first names a program.
fn pattern(line: &str) -> Result<Vec<String>, String> {
    let words = shlex::split(line).ok_or("has a quote that is not closed")?;
    match words.first() {
        None => Err("must have a command".to_owned()),
        Some(program) if program.is_empty() => Err("must have a command".to_owned()),
        Some(program) if program.contains('/') && !program.starts_with('/') => Err(format!(
            "has {program:?}: a program is a bare name or an absolute path"
        )),
        Some(_) => Ok(words),
    }
}

fn seconds(value: &Value) -> Result<Span, String> {
    let within = |seconds: &f64| *seconds > 0.0 && *seconds <= AGENT_RUN_S_MAX as f64;
    let seconds = value.as_f64().filter(within);
    seconds.map(Span::from_secs_f64).ok_or_else(|| {
        format!("has `timeout_s` {value}: it may be above 0, up to {AGENT_RUN_S_MAX}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"[
        "uptime", "systemctl restart *", "cp * /srv/*",
        {"run": "backup --full", "timeout_s": 3600}, {"run": "backup *", "timeout_s": 0.5},
        {"shell": "df -h | tail -1"}, "/opt/bin/tool 'two words'", "echo *"
    ]"#;

    fn words(allow: &Allow, command: &str) -> Option<Vec<String>> {
        allow.job(command).map(|job| job.words)
    }

    #[test]
    fn commands_are_matched_word_by_word() {
        let allow = Allow::parse(FILE).unwrap();
        for (command, wanted) in [
            ("uptime", &["uptime"][..]),
            ("  uptime\t", &["uptime"]),
            ("'uptime'", &["uptime"]),
            ("systemctl restart web", &["systemctl", "restart", "web"]),
            (
                "systemctl  restart 'a b; rm -rf /'",
                &["systemctl", "restart", "a b; rm -rf /"],
            ),
            ("cp x /srv/*", &["cp", "x", "/srv/*"]),
            (
                "/opt/bin/tool \"two words\"",
                &["/opt/bin/tool", "two words"],
            ),
            ("echo $(id)", &["echo", "$(id)"]),
            ("df -h | tail -1", &["/bin/sh", "-c", "df -h | tail -1"]),
        ] {
            let got = words(&allow, command);
            assert_eq!(got.as_deref(), Some(owned(wanted)).as_deref(), "{command}");
        }
    }

    fn owned(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn commands_without_an_entry_are_refused() {
        let allow = Allow::parse(FILE).unwrap();
        for command in [
            "",
            "uptime -p",
            "uptime; id",
            "/usr/bin/uptime",
            "systemctl restart",
            "systemctl restart a b",
            "systemctl stop a",
            "cp x /srv/y",
            "df -h | tail -1 ",
            "df  -h | tail -1",
            "df -h",
            "/opt/bin/tool two words",
            "echo 'open",
            "# uptime",
        ] {
            assert_eq!(allow.job(command), None, "{command}");
        }
        assert_eq!(Allow::default().job("uptime"), None);
    }

    #[test]
    fn the_first_entry_that_matches_gives_the_time() {
        let allow = Allow::parse(FILE).unwrap();
        let time = |command| allow.job(command).unwrap().time;
        assert_eq!(time("backup --full"), Span::from_secs(3600));
        assert_eq!(time("backup some"), Span::from_millis(500));
        assert_eq!(time("uptime"), Span::from_secs(AGENT_RUN_S));
    }

    #[test]
    fn an_entry_may_name_user_directory_and_environment() {
        let text =
            r#"["id", {"run": "make *", "user": "build", "cwd": "/srv/app", "env": {"CI": "1"}}]"#;
        let allow = Allow::parse(text).unwrap();
        assert_eq!(allow.job("id").unwrap().place, Place::default());
        let place = Place {
            user: Some("build".to_owned()),
            cwd: Some("/srv/app".to_owned()),
            env: vec![("CI".to_owned(), "1".to_owned())],
        };
        assert_eq!(allow.job("make test").unwrap().place, place);
    }

    #[test]
    fn an_entry_that_never_counts_is_found() {
        let covered = |text| Allow::parse(text).unwrap().covered();
        assert_eq!(covered(FILE), []);
        let text = r#"["sleep *", "ls", {"run":"sleep 9","timeout_s":1}, {"shell":"sleep 5"},
            {"shell":"sleep 5 | cat"}, {"shell":"sleep 5 | cat","timeout_s":2}, "ls", "ls *", "sleep '*'"]"#;
        assert_eq!(covered(text), [(3, 1), (4, 1), (6, 5), (7, 2), (9, 1)]);
        // A literal covers no wildcard, and a wildcard for the program no path.
        assert_eq!(covered(r#"["sleep 9", "sleep *", "* a", "/bin/x a"]"#), []);
    }

    #[test]
    fn a_wildcard_matches_options_on_request() {
        let text = r#"["systemctl restart *", {"run": "ls * *", "options": true},
            {"run": "cat *", "options": false}, "df -h"]"#;
        let allow = Allow::parse(text).unwrap();
        for (command, wanted) in [
            ("systemctl restart web.service", true),
            ("systemctl restart --host=root@10.9.9.9", false),
            ("systemctl restart '--host=root@10.9.9.9'", false),
            (r"systemctl restart \-H", false),
            ("systemctl restart \"-\"H", false),
            ("systemctl restart -", false),
            ("systemctl restart ''", true),
            ("ls -l /tmp", true),
            ("cat -n", false),
            ("cat a-b", true),
            ("df -h", true),
        ] {
            assert_eq!(allow.job(command).is_some(), wanted, "{command}");
        }
        let says = |command| allow.refusal(command).contains("options");
        let named = ["cat -n", "systemctl restart -"];
        assert_eq!(named.map(says), [true; 2]);
        assert_eq!(["cat a b", "rm -rf /", ""].map(says), [false; 3]);
    }

    #[test]
    fn entries_with_options_cover_each_other() {
        let covered = |text: &str| Allow::parse(text).unwrap().covered();
        let with = r#"{"run": "ls *", "options": true}"#;
        assert_eq!(covered(&format!(r#"["ls *", {with}, "ls -l"]"#)), [(3, 2)]);
        assert_eq!(covered(&format!(r#"[{with}, "ls *"]"#)), [(2, 1)]);
        assert_eq!(covered(r#"["ls *", "ls -l"]"#), []);
    }

    #[test]
    fn a_program_wildcard_matches_bare_names() {
        let allow = Allow::parse(r#"["* --version"]"#).unwrap();
        assert!(allow.job("ls --version").is_some());
        assert!(allow.job("/tmp/ls --version").is_none());
        assert!(allow.job("../ls --version").is_none());
        assert!(allow.has_wildcard());
        assert!(
            !Allow::parse(r#"["ls", {"shell":"ls *"}]"#)
                .unwrap()
                .has_wildcard()
        );
    }

    #[test]
    fn a_wrong_file_says_which_entry_is_wrong() {
        for (text, wanted) in [
            ("[", "not JSON: the text ends inside a list"),
            ("", "it is empty, and must be a list"),
            ("\n", "it holds only white space, and must be a list"),
            (r#"{"run":"ls"}"#, "must be a list"),
            (r#"["ls", 5]"#, "entry 2 must be a text or an object"),
            (r#"[" "]"#, "entry 1 must have a command"),
            (r#"["''"]"#, "entry 1 must have a command"),
            (r#"["ls 'x"]"#, "entry 1 has a quote"),
            (r#"["bin/ls"]"#, "bare name or an absolute path"),
            (r#"[{}]"#, "must have `run` or `shell`"),
            (r#"[{"timeout_s":5}]"#, "must have `run` or `shell`"),
            (r#"[{"run":"a","shell":"b"}]"#, "either `run` or `shell`"),
            (r#"[{"run":5}]"#, "a command for `run`"),
            (r#"[{"shell":" "}]"#, "a command for `shell`"),
            (r#"[{"run":"a","timeout":5}]"#, "has \"timeout\""),
            (r#"[{"run":"a *","options":1}]"#, "`options` 1"),
            (r#"[{"shell":"a","options":true}]"#, "belongs to `run`"),
            (r#"[{"run":"a","timeout_s":0}]"#, "`timeout_s` 0"),
            (r#"[{"run":"a","user":"a b"}]"#, "`user` \"a b\""),
            (r#"[{"run":"a","user":0}]"#, "`user` 0"),
            (r#"[{"run":"a","cwd":"srv"}]"#, "`cwd` \"srv\""),
            (r#"[{"run":"a","env":[]}]"#, "`env`, which must"),
            (r#"[{"run":"a","env":{"A":1}}]"#, "\"A\" in `env`"),
            (r#"[{"run":"a","env":{"1":""}}]"#, "\"1\" in `env`"),
            (r#"[{"run":"a","timeout_s":"5"}]"#, "`timeout_s` \"5\""),
            (r#"[{"run":"a","timeout_s":1e300}]"#, "`timeout_s` 1e+300"),
        ] {
            let error = Allow::parse(text).unwrap_err().to_string();
            assert!(error.contains(wanted), "{text}: {error}");
        }
    }
}
