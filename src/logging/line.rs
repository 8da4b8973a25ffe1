//! One line of the log, and how it looks. The caller only gathers it; the log thread renders it.
//!
//! ```text
//!  text   2026-11-21T02:03:04.567Z INFO  online 10.0.0.7: from port 51234
//!  json   {"at":"2026-11-21T02:03:04.567Z","level":"info","target":"online","message":"10.0.0.7: from port 51234"}
//! ```

use std::fmt;
use std::io::Write as _;
use std::time::SystemTime;

use compact_str::CompactString;
use log::Level;

use crate::config::Format;
use crate::limits::LOG_MESSAGE_BYTES_MAX;
use crate::text::escape;

/// A line on its way to the log thread.
#[derive(Clone, Debug)]
pub(super) struct Line {
    pub(super) at: SystemTime,
    pub(super) level: Level,
    /// Short enough to be held in place, where it is one of ours.
    pub(super) target: CompactString,
    /// As it was given, but not longer than it may be.
    pub(super) message: String,
}

impl Line {
    /// A line of the log's own.
    pub(super) fn own(level: Level, message: String) -> Self {
        Self {
            at: SystemTime::now(),
            level,
            target: CompactString::const_new("log"),
            message,
        }
    }

    /// What a caller says, formatted and cut to its limit.
    pub(super) fn of(record: &log::Record<'_>) -> Self {
        Self {
            at: SystemTime::now(),
            level: record.level(),
            target: record.target().into(),
            message: Bounded::format(*record.args()),
        }
    }

    /// Appends the line, its end included.
    pub(super) fn render(&self, format: Format, out: &mut Vec<u8>) {
        let at = humantime::format_rfc3339_millis(self.at);
        let (target, message) = (escape(&self.target), escape(&self.message));
        // Neither can fail: a vector takes whatever is written, and texts can always be JSON.
        let _ = match format {
            Format::Text => writeln!(out, "{at} {:<5} {target} {message}", self.level),
            Format::Json => writeln!(
                out,
                r#"{{"at":"{at}","level":"{}","target":{},"message":{}}}"#,
                level_word(self.level),
                serde_json::Value::from(target),
                serde_json::Value::from(message),
            ),
        };
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

/// Room for what most lines say, so that it is asked for once.
const MESSAGE_BYTES: usize = 80;

/// Takes text up to a limit and stops there, so that a long message is never made in full.
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
    fn a_message_that_is_too_long_is_cut_between_characters() {
        let long = "ö".repeat(LOG_MESSAGE_BYTES_MAX);
        let line = Line::of(&log::Record::builder().args(format_args!("x{long}")).build());
        assert_eq!(
            line.message.len(),
            LOG_MESSAGE_BYTES_MAX - 1 + '…'.len_utf8()
        );
        assert!(line.message.starts_with("xöö") && line.message.ends_with("ö…"));
    }

    proptest! {
        #[test]
        fn whatever_is_logged_is_one_line_and_reads_back(message in any::<String>()) {
            let text = rendered(&line(&message), Format::Text);
            prop_assert_eq!(text.matches('\n').count(), 1);
            let json = rendered(&line(&message), Format::Json);
            prop_assert_eq!(json.matches('\n').count(), 1);
            let read: serde_json::Value = serde_json::from_str(&json).unwrap();
            prop_assert_eq!(read["message"].as_str(), Some(&*escape(&message)));
        }
    }
}
