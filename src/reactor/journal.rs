//! Log lines of the core and of its events.
//!
//! A turn may bring a hundred thousand events, so a line is only made if its level is logged. Lines
//! have fields beside their text, which are members with `log.format` `json`.

use std::net::SocketAddr;

use crate::control::audit::OK as AUDIT_OK;
use crate::handlers::effect::{AuditRecord, Event, EventKind, Note};
use crate::limits::LOG_TRACE_BYTES_MAX;

/// Target of the lines on hosts that go online or offline.
const PRESENCE: &str = "presence";
/// Target of the lines on requests over HTTP that change something.
const AUDIT: &str = "audit";
/// Target of the lines on tasks.
const TASK: &str = "task";
/// Target of the lines on what peers send.
const RECEIVED: &str = "received";

/// Writes a line of the core.
pub fn note(note: &Note) {
    let Note {
        level,
        what,
        who,
        text,
    } = note;
    // The subject in front of a line is a host or its address for some targets only.
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

/// Writes the line of an event. For some events the core writes a line itself.
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
        EventKind::Audit(record) => audit(record),
        EventKind::MassOffline { .. }
        | EventKind::Quarantine { .. }
        | EventKind::Duplicate { .. }
        | EventKind::NewIds { .. }
        | EventKind::UnknownKeys { .. }
        | EventKind::Outside(_) => {}
    }
}

/// Writes the line of a request that has changed something, or was refused.
fn audit(record: &AuditRecord) {
    let AuditRecord {
        by,
        what,
        key,
        target,
        count,
        result,
    } = record;
    let about = key.as_deref().or(target.as_deref()).unwrap_or_default();
    let level = match result.as_str() {
        AUDIT_OK => log::Level::Info,
        _ => log::Level::Warn,
    };
    let blank = if about.is_empty() { "" } else { " " };
    let hosts = count.map_or(String::new(), |count| format!(", {count} hosts"));
    log::log!(
        target: AUDIT, level, by:% = by, what:% = what, about:% = about, result:% = result;
        "{by}: {what}{blank}{about}{hosts}: {result}"
    );
}

/// Returns whether received messages are logged. It costs one comparison.
#[inline]
pub fn is_tracing() -> bool {
    log::log_enabled!(target: RECEIVED, log::Level::Trace)
}

/// Writes bytes received from `peer`, as text and cut to the length of a line.
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
