//! A line of the log and its formats. The caller only collects the line; the log thread renders it.
//!
//! ```text
//!  text   2026-11-21T02:03:04.567Z INFO  online 10.0.0.7: from port 51234
//!  json   {"at":"2026-11-21T02:03:04.567Z","level":"info","target":"presence","host":"10.0.0.7","reason":"closed","message":"10.0.0.7: offline: closed"}
//! ```

use std::fmt;
use std::io::Write as _;
use std::time::SystemTime;

use compact_str::CompactString;
use log::Level;
use log::kv::{Error, Key, Value, VisitSource};

use crate::config::Format;
use crate::escape::escape;
use crate::limits::{LOG_FIELDS_MAX, LOG_MESSAGE_BYTES_MAX};

/// A line on its way to the log thread.
#[derive(Clone, Debug)]
pub(super) struct Line {
    pub(super) at: SystemTime,
    pub(super) level: Level,
    /// Stored inline for the targets of this crate.
    pub(super) target: CompactString,
    /// Message, cut to its limit.
    pub(super) message: String,
    /// The caller's fields beside the message, for lines of JSON.
    pub(super) fields: Vec<(CompactString, serde_json::Value)>,
}

impl Line {
    /// A line about the log itself.
    pub(super) fn own(level: Level, message: String) -> Self {
        Self {
            at: SystemTime::now(),
            level,
            target: CompactString::const_new("log"),
            message,
            fields: Vec::new(),
        }
    }

    /// The line with another field.
    pub(super) fn with(mut self, name: &'static str, value: impl Into<serde_json::Value>) -> Self {
        self.fields
            .push((CompactString::const_new(name), value.into()));
        self
    }

    /// Formats a caller's message and cuts it to its limit; with its fields if lines are written as
    /// JSON.
    pub(super) fn of(record: &log::Record<'_>, format: Format) -> Self {
        let mut fields = Fields(Vec::new());
        if format == Format::Json {
            // An error only ends the formatting early.
            let _ = record.key_values().visit(&mut fields);
        }
        Self {
            at: SystemTime::now(),
            level: record.level(),
            target: record.target().into(),
            message: Bounded::format(*record.args()),
            fields: fields.0,
        }
    }

    /// Appends the line with its line feed.
    pub(super) fn render(&self, format: Format, out: &mut Vec<u8>) {
        let at = humantime::format_rfc3339_millis(self.at);
        let (target, message) = (escape(&self.target), escape(&self.message));
        // Neither can fail: a vector accepts every write, and every text has a JSON form.
        let _ = match format {
            Format::Text => writeln!(out, "{at} {:<5} {target} {message}", self.level),
            Format::Json => {
                let level = level_word(self.level);
                let target = serde_json::Value::from(target);
                let _ = write!(out, r#"{{"at":"{at}","level":"{level}","target":{target}"#);
                for (name, value) in &self.fields {
                    let name = serde_json::Value::from(name.as_str());
                    let _ = write!(out, ",{name}:{value}");
                }
                writeln!(out, r#","message":{}}}"#, serde_json::Value::from(message))
            }
        };
    }
}

/// Collector of a record's fields: numbers stay numbers, other values become escaped text, cut to
/// the limit of a message.
struct Fields(Vec<(CompactString, serde_json::Value)>);

impl<'kvs> VisitSource<'kvs> for Fields {
    fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), Error> {
        if self.0.len() == LOG_FIELDS_MAX {
            return Err(Error::msg("more fields than a line may have"));
        }
        let number = value.to_i64().map(serde_json::Value::from);
        let value = number.unwrap_or_else(|| {
            let text = Bounded::format(format_args!("{value}"));
            serde_json::Value::from(escape(&text))
        });
        self.0.push((key.as_str().into(), value));
        Ok(())
    }
}

fn level_word(level: Level) -> &'static str {
    match level {
        Level::Error => "error",
        Level::Warn => "warn",
        Level::Info => "info",
        Level::Debug => "debug",
        Level::Trace => "trace",
    }
}

/// Capacity that suffices for most messages.
const MESSAGE_BYTES: usize = 80;

/// Formatter that stops at a limit, so that a long message is never formatted completely.
struct Bounded {
    text: String,
}

impl Bounded {
    fn format(args: fmt::Arguments<'_>) -> String {
        let mut bounded = Self {
            text: String::with_capacity(MESSAGE_BYTES),
        };
        if fmt::write(&mut bounded, args).is_err() {
            bounded.text.push('…');
        }
        bounded.text
    }
}

impl fmt::Write for Bounded {
    fn write_str(&mut self, piece: &str) -> fmt::Result {
        let room = LOG_MESSAGE_BYTES_MAX - self.text.len();
        let fits = piece.floor_char_boundary(room);
        self.text.push_str(&piece[..fits]);
        if fits < piece.len() {
            return Err(fmt::Error);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn rendered(line: &Line, format: Format) -> String {
        let mut out = Vec::new();
        line.render(format, &mut out);
        String::from_utf8(out).expect("lines are UTF-8")
    }

    fn line(message: &str) -> Line {
        Line {
            at: SystemTime::UNIX_EPOCH + Duration::from_millis(1_795_226_584_567),
            level: Level::Info,
            target: "online".into(),
            message: message.to_owned(),
            fields: Vec::new(),
        }
    }

    #[test]
    fn a_line_for_people() {
        assert_eq!(
            rendered(&line("10.0.0.7: from port 51234"), Format::Text),
            "2026-11-21T02:03:04.567Z INFO  online 10.0.0.7: from port 51234\n"
        );
    }

    #[test]
    fn a_line_for_programs() {
        assert_eq!(
            rendered(&line("a \"b\" \\ \n c"), Format::Json),
            "{\"at\":\"2026-11-21T02:03:04.567Z\",\"level\":\"info\",\"target\":\"online\",\
             \"message\":\"a \\\"b\\\" \\\\ \\\\u{a} c\"}\n"
        );
    }

    #[test]
    fn fields_are_members_of_a_json_line() {
        let fields = [
            ("host", Value::from("a\nb")),
            ("exit", Value::from(-2_i64)),
            ("reason", Value::from("closed")),
        ];
        let record = log::Record::builder()
            .args(format_args!("prose"))
            .key_values(&fields)
            .build();
        let line = Line::of(&record, Format::Json);
        let json: serde_json::Value = serde_json::from_str(&rendered(&line, Format::Json)).unwrap();
        assert_eq!(json["host"], "a\\u{a}b");
        assert_eq!(json["exit"], -2);
        assert_eq!(json["reason"], "closed");
        assert_eq!(json["message"], "prose");
        assert!(rendered(&line, Format::Text).ends_with(" prose\n"));
        assert!(Line::of(&record, Format::Text).fields.is_empty());
    }

    #[test]
    fn a_long_message_is_cut_between_characters() {
        let long = "ö".repeat(LOG_MESSAGE_BYTES_MAX);
        let line = Line::of(
            &log::Record::builder().args(format_args!("x{long}")).build(),
            Format::Text,
        );
        assert_eq!(
            line.message.len(),
            LOG_MESSAGE_BYTES_MAX - 1 + '…'.len_utf8()
        );
        assert!(line.message.starts_with("xöö") && line.message.ends_with("ö…"));
    }

    proptest! {
        #[test]
        fn every_message_is_one_line(message in any::<String>()) {
            let text = rendered(&line(&message), Format::Text);
            prop_assert_eq!(text.matches('\n').count(), 1);
            let json = rendered(&line(&message), Format::Json);
            prop_assert_eq!(json.matches('\n').count(), 1);
            let read: serde_json::Value = serde_json::from_str(&json).unwrap();
            prop_assert_eq!(read["message"].as_str(), Some(&*escape(&message)));
        }
    }
}
