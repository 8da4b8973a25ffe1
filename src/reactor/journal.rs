//! Lines of the log that the core asks for, and those of its events.
//!
//! Hosts come and go by the hundred thousand in one turn, so their lines are made here, of the
//! event, if lines of their level are written at all. Each line has fields beside its words: with
//! `log.format` `json` they are members.

use std::net::SocketAddr;

use crate::handlers::effect::{Event, EventKind, Note};
use crate::limits::LOG_TRACE_BYTES_MAX;

/// Target of the lines on hosts that go online or offline.
const PRESENCE: &str = "presence";
/// Target of the lines on tasks.
const TASK: &str = "task";
/// Target of the lines on what peers send.
const RECEIVED: &str = "received";

/// Writes a line that the core asked for.
pub fn note(note: &Note) {
    let Note {
        level,
        what,
        who,
        text,
    } = note;
    // A line names what it is about in front; only some of that are hosts or their addresses.
    match *what {
        "dispatch" => {
            log::log!(target: what, *level, key:% = who, reason:% = text; "{who}: {text}");
        }
        "device" => {
            log::log!(target: what, *level, device:% = who, reason:% = text; "{who}: {text}");
        }
        "reach" => {
            log::log!(target: what, *level, address:% = who, reason:% = text; "{who}: {text}");
        }
        "mass-offline" | "new-ids" | "unknown-keys" => {
            log::log!(target: what, *level, reason:% = text; "{who}: {text}")
        }
        "store" if who == "store" => {
            log::log!(target: what, *level, reason:% = text; "{who}: {text}");
        }
        _ => log::log!(target: what, *level, host:% = who, reason:% = text; "{who}: {text}"),
    }
}

/// Writes the line of an event. Of some the core has a line of its own.
pub fn event(event: &Event) {
    match &event.kind {
        EventKind::Online { host, from } => {
            log::info!(target: PRESENCE, host:% = host, from:% = from; "{host}: online, from {from}");
        }
        EventKind::Offline { host, reason } => {
            let reason = reason.as_str();
            log::info!(target: PRESENCE, host:% = host, reason = reason; "{host}: offline: {reason}");
        }
        EventKind::Dispatch { key, count } => {
            log::debug!(target: TASK, key:% = key, count = count; "{key}: sent to {count} hosts");
        }
        EventKind::Answer { host, key, state } => {
            log::debug!(
                target: TASK, host:% = host, key:% = key, state = state;
                "{host}: answers {key}: {state}"
            );
        }
        EventKind::Progress {
            host, key, state, ..
        } => {
            let state = state.as_str();
            log::debug!(
                target: TASK, host:% = host, key:% = key, state = state;
                "{host}: {key}: {state}"
            );
        }
        EventKind::Result {
            host, code, exit, ..
        } => {
            log::debug!(
                target: TASK, host:% = host, key:% = code, exit = exit;
                "{host}: {code}: a result, exit {exit}"
            );
        }
        EventKind::MassOffline { .. }
        | EventKind::Quarantine { .. }
        | EventKind::Duplicate { .. }
        | EventKind::NewIds { .. }
        | EventKind::UnknownKeys { .. }
        | EventKind::Outside(_) => {}
    }
}

/// Returns whether received messages are logged: one comparison, inexpensive enough for a
/// heartbeat.
#[inline]
pub fn is_tracing() -> bool {
    log::log_enabled!(target: RECEIVED, log::Level::Trace)
}

/// Writes what `peer` has sent, as text and as far as it fits a line.
#[cold]
pub fn received(peer: SocketAddr, how: &str, bytes: &[u8]) {
    let shown = &bytes[..bytes.len().min(LOG_TRACE_BYTES_MAX)];
    let data = String::from_utf8_lossy(shown);
    let (ip, all) = (peer.ip(), bytes.len());
    let more = if shown.len() < all { "…" } else { "" };
    log::trace!(
        target: RECEIVED, host:% = ip, port = peer.port(), bytes = all, data:% = data;
        "{ip}: {how} of {all} bytes: {data}{more}"
    );
}
