use crate::control::response::Reply;
use crate::control::{Conversation, HttpContext, HttpResponse, HttpRules, RequestGuard, Step};
use crate::handlers::ak::Devices;
use crate::handlers::reach::Targets;
use crate::handlers::{Core, Moment};
use crate::time::{Instant, UnixMs};

use super::session::rules;

/// Requests answered of one connection at most.
const STEPS_MAX: usize = 64;

/// Fuzz target `http`: any cut of a connection's bytes gets the same answers, each a whole one.
///
/// The first byte of `data` says where to cut.
///
/// # Panics
/// When that is not so.
pub fn http(data: &[u8]) {
    let [cut, stream @ ..] = data else {
        return;
    };
    let whole = talk(stream, stream.len().max(1));
    assert_eq!(talk(stream, 1 + usize::from(*cut)), whole);
    for said in &whole {
        assert!(said.starts_with("HTTP/1.1 "), "{said:?}");
        assert!(said.contains("\r\n\r\n"), "{said:?}");
    }
}

/// Returns the responses to `stream` when it arrives in pieces of `size` bytes, with the requests
/// to the core.
fn talk(stream: &[u8], size: usize) -> Vec<String> {
    let core = Core::new(rules(), 1);
    let http = HttpRules::default();
    let bound = std::net::SocketAddr::from(([127, 0, 0, 1], 11480));
    let guard = RequestGuard {
        rules: &http,
        bound,
        local: bound,
    };
    let context = HttpContext {
        fleet: &core,
        devices: &Devices::default(),
        targets: &Targets::default(),
        recent: None,
        at: Moment {
            now: Instant::ZERO,
            wall: UnixMs(1),
        },
        started: Instant::ZERO,
        metrics: &(),
    };
    let mut conversation = Conversation::default();
    let mut said = Vec::new();
    for piece in stream.chunks(size) {
        conversation.take(piece);
        loop {
            let response = match conversation.step(&guard, &context, 7) {
                // Whether it continues depends on whether the body comes along.
                Step::More | Step::Continue => break,
                Step::Working => continue,
                Step::Reply(Reply::Now(response)) => response,
                Step::Reply(Reply::Ask(ask)) => HttpResponse::error(404, &format!("{ask:?}")),
                Step::Reply(Reply::Follow) => return said,
            };
            let mut out = Vec::new();
            let is_over = conversation.respond(&response, &mut out);
            said.push(String::from_utf8_lossy(&out).into_owned());
            if is_over || said.len() >= STEPS_MAX {
                return said;
            }
        }
    }
    said
}
