//! `anthill events`: the latest events, and with `--follow` new events.

use std::io::BufRead;
use std::thread;
use std::time::{Duration, UNIX_EPOCH};

use crossbeam_channel::{Receiver, RecvTimeoutError, bounded};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::api::{Api, ApiError};
use super::args::EventsArgs;
use super::{Failure, print, print_error, terminal};
use crate::escape;
use crate::limits::{API_EVENT_BYTES_MAX, EVENTS_RECENT_MAX, HTTP_FOLLOWER_COMMENT_S};

/// Interval between two attempts after the end of the stream.
const PAUSE: Duration = Duration::from_secs(1);

/// Silence after which a stream counts as broken. A server without events sends comments.
const SILENCE_S_MAX: u64 = 3 * HTTP_FOLLOWER_COMMENT_S;
/// Capacity of the channel between reader and printer.
const LINES_AHEAD: usize = 64;

/// Shows the events.
///
/// # Errors
/// Wrong usage, or no good answer from a server.
pub fn run(args: &EventsArgs) -> Result<(), Failure> {
    let api = Api::new(&args.api)?;
    if args.follow {
        return follow(&api, args);
    }
    let mut page: Page = api.get(&format!("/v1/events/recent?limit={EVENTS_RECENT_MAX}"))?;
    page.events.retain(|event| is_wanted(event, &args.event));
    if args.json {
        let document = serde_json::json!({ "events": page.events }).to_string();
        return print(&format!("{}\n", escape::escape_json(&document)));
    }
    let lines: String = page.events.iter().map(|event| line(event) + "\n").collect();
    print(&lines)
}

/// The last events of a server.
#[derive(Deserialize)]
struct Page {
    events: Vec<Map<String, Value>>,
}

/// Prints each event as it arrives, until the reader of stdout closes. If the server ends the
/// stream (a restart, or a slow reader), the stream is requested again.
fn follow(api: &Api, args: &EventsArgs) -> Result<(), Failure> {
    let mut was_there = false;
    let mut away = false;
    loop {
        match listen(api, args, &mut was_there, &mut away) {
            Ok(why) => print_error(&format!("{why}: events may be missing; trying again")),
            Err(Ended::Failure(failure)) => return Err(failure),
            Err(Ended::Api(error)) if was_there && error.may_pass() => {
                if !std::mem::replace(&mut away, true) {
                    print_error(&format!("{error}; trying again"));
                }
            }
            Err(Ended::Api(error)) => return Err(error.into()),
        }
        if !terminal::wait(PAUSE) {
            return Err(Failure::reader_gone());
        }
    }
}

enum Ended {
    Api(ApiError),
    Failure(Failure),
}

/// Prints the events of one stream, to its end. Returns why it has ended.
fn listen(
    api: &Api,
    args: &EventsArgs,
    was_there: &mut bool,
    away: &mut bool,
) -> Result<String, Ended> {
    let stream = api.stream("/v1/events").map_err(Ended::Api)?;
    *was_there = true;
    if std::mem::take(away) {
        print_error("the server answers again");
    }
    let lines = lines_of(stream).map_err(Ended::Failure)?;
    loop {
        let bytes = match next(&lines, Duration::from_secs(SILENCE_S_MAX)) {
            Ok(bytes) => bytes,
            Err(why) => return Ok(why),
        };
        let text = String::from_utf8_lossy(&bytes);
        let Some(data) = text.strip_prefix("data:") else {
            continue;
        };
        let event: Map<String, Value> =
            serde_json::from_str(data).map_err(|error| Ended::Api(api.misread(&error)))?;
        if is_wanted(&event, &args.event) {
            let shown = match args.json {
                true => escape::escape_json(data.trim()).into_owned(),
                false => line(&event),
            };
            print(&format!("{shown}\n")).map_err(Ended::Failure)?;
        }
    }
}

/// Receives the next line, or returns the reason why the stream has ended.
fn next(lines: &Receiver<Vec<u8>>, silence: Duration) -> Result<Vec<u8>, String> {
    lines.recv_timeout(silence).map_err(|error| match error {
        RecvTimeoutError::Disconnected => "the server has ended the stream".to_owned(),
        RecvTimeoutError::Timeout => {
            format!("the server has sent nothing for {} s", silence.as_secs())
        }
    })
}

/// Reads the lines of a stream on a separate thread, since a read of the stream has no timeout.
fn lines_of(mut stream: impl BufRead + Send + 'static) -> Result<Receiver<Vec<u8>>, Failure> {
    let (sender, lines) = bounded(LINES_AHEAD);
    let read = move || {
        loop {
            let mut bytes = Vec::new();
            let read =
                std::io::Read::take(&mut stream, API_EVENT_BYTES_MAX).read_until(b'\n', &mut bytes);
            if !matches!(read, Ok(1..)) || sender.send(bytes).is_err() {
                return;
            }
        }
    };
    match thread::Builder::new().name("stream".to_owned()).spawn(read) {
        Ok(_) => Ok(lines),
        Err(error) => Err(Failure::failed(format!("cannot start a thread: {error}"))),
    }
}

fn is_wanted(event: &Map<String, Value>, names: &[String]) -> bool {
    let name = event.get("event").and_then(Value::as_str);
    names.is_empty() || names.iter().any(|wanted| Some(wanted.as_str()) == name)
}

/// Formats an event: time, name, host, other members.
pub fn line(event: &Map<String, Value>) -> String {
    let at = event.get("at").and_then(Value::as_u64).unwrap_or_default();
    // RFC 3339 ends with the year 9999.
    let at = Duration::from_millis(at.min(253_402_300_799_999));
    let at = humantime::format_rfc3339_millis(UNIX_EPOCH + at);
    let word = |name: &str| event.get(name).and_then(Value::as_str).unwrap_or_default();
    let mut line = format!(
        "{at}  {:<12}  {}",
        escape::escape(word("event")),
        escape::escape(word("host"))
    );
    for (name, value) in event {
        if matches!(name.as_str(), "event" | "host" | "at" | "node" | "seq") {
            continue;
        }
        let value = match value {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        line.push_str(&escape::escape(&format!("  {name}={value}")));
    }
    line.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silent_stream_ends_as_one_that_is_closed() {
        use std::io::{BufReader, Write, pipe};
        let (reader, mut writer) = pipe().unwrap();
        let lines = lines_of(BufReader::new(reader)).unwrap();
        let next = |millis| next(&lines, Duration::from_millis(millis));
        writer.write_all(b"data: 1\n").unwrap();
        assert_eq!(next(20_000), Ok(b"data: 1\n".to_vec()));
        assert!(next(1).unwrap_err().contains("sent nothing"));
        drop(writer);
        assert!(next(20_000).unwrap_err().contains("has ended the stream"));
    }

    #[test]
    fn an_event_is_one_escaped_line() {
        let event = r#"{"event":"offline","host":"web-1","at":1000,"node":"n","seq":7,"reason":"a\u001b[2J"}"#;
        let event: Map<String, Value> = serde_json::from_str(event).unwrap();
        assert_eq!(
            line(&event),
            r"1970-01-01T00:00:01.000Z  offline       web-1  reason=a\u{1b}[2J"
        );
        assert!(is_wanted(&event, &[]));
        assert!(is_wanted(&event, &["online".into(), "offline".into()]));
        assert!(!is_wanted(&event, &["online".into()]));
        let odd: Map<String, Value> =
            serde_json::from_str(r#"{"at":18446744073709551615}"#).unwrap();
        assert!(line(&odd).starts_with("9999-12-31"), "{}", line(&odd));
    }
}
