//! The stream of events as Server-Sent Events: one answer without an end.

use crate::escape;
use crate::handlers::effect;

use super::json::Event;

/// Head of the response. It has no length and ends with the connection. The comment line makes
/// proxies pass the head on.
pub const HEAD: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\
    X-Content-Type-Options: nosniff\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n: events\n\n";

/// A comment, so that a connection without events is not taken for a dead one.
pub const COMMENT: &str = ":\n\n";

/// Formats `event` as a message of `node`. JSON has no line breaks, so it is one line of data. It has no event name, so a listener for messages receives all of them.
///
/// # Errors
/// When it cannot be written as JSON.
pub fn message(event: &effect::Event, node: &str) -> serde_json::Result<String> {
    let told = Event::of(event, node);
    let data = serde_json::to_string(&told)?;
    let data = escape::escape_json(&data);
    Ok(format!("id: {}\ndata: {data}\n\n", told.seq))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handlers::effect::EventKind;
    use crate::ids::HostId;
    use crate::store::op::Stamp;
    use crate::time::UnixMs;

    #[test]
    fn a_message_is_two_lines_whatever_it_says() {
        let kind = EventKind::Quarantine {
            host: HostId::checked("h").unwrap(),
            reason: "a\n\ndata: b\r\n\u{202e}\u{9b}".into(),
        };
        let stamp = Stamp {
            at: UnixMs(1),
            seq: 2,
        };
        assert_eq!(
            message(&effect::Event { stamp, kind }, "n").unwrap(),
            "id: 2\ndata: {\"event\":\"quarantine\",\"host\":\"h\",\"at\":1,\
             \"node\":\"n\",\"seq\":2,\"reason\":\"a\\n\\ndata: b\\r\\n\\u202e\\u009b\"}\n\n"
        );
    }
}
