//! Lines of the log that the core asks for, and those that its events are worth.
//!
//! Hosts come and go by the hundred thousand in one turn, so their lines are made here, of the event, if lines of their
//! level are written at all.

use crate::handlers::effect::{Event, EventKind, Note};

/// What kind of line a host's coming or going is.
const PRESENCE: &str = "presence";

/// Writes a line that the core asked for.
pub fn note(note: &Note) {
    log::log!(target: note.what, note.level, "{}: {}", note.who, note.text);
}

/// Writes what there is to be said of an event. Of most the core says more itself.
pub fn event(event: &Event) {
    match &event.kind {
        EventKind::Online { host, from } => {
            log::info!(target: PRESENCE, "{host}: online, from {from}");
        }
        EventKind::Offline { host, reason } => {
            log::info!(target: PRESENCE, "{host}: offline: {}", reason.as_str());
        }
        _ => {}
    }
}
