//! Records of requests that change something, or were to, for the event stream and the log.

use super::guard::Caller;
use super::request::Head;
use super::response::HttpResponse;
use super::routes::Route;
use crate::handlers::effect::AuditRecord;
use crate::handlers::request::Request;
use crate::limits::AUDIT_TEXT_CHARS_MAX;

/// Result of a request that was served.
pub const OK: &str = "ok";

/// Record of a request that is not answered yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Draft {
    /// Name of its token.
    by: Option<String>,
    what: String,
    /// The key of a task, or the id of a command.
    pub(super) key: Option<String>,
    /// The host, or the target.
    pub(super) target: Option<String>,
}

/// Record of an answered request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Audited {
    /// The record. Without a token its name is still empty: the caller sets the peer's address.
    pub record: AuditRecord,
    /// The request was refused.
    pub is_refused: bool,
    /// It was refused, and its sender has no token: the sender may be anyone.
    pub is_stranger: bool,
}

impl Draft {
    /// Begins the record of a request by its head; none for one that only reads.
    pub(super) fn of(head: &Head<'_>) -> Option<Self> {
        (!head.is_read()).then(|| Self {
            what: shortened(&format!("{} {}", head.method, head.path)),
            ..Self::default()
        })
    }

    /// Its sender is admitted. The names in the path are known, if there is such an endpoint.
    pub(super) fn admitted(&mut self, caller: &Caller, method: &str, route: Option<&Route>) {
        self.by = caller.name().map(str::to_owned);
        if let Some(route) = route {
            self.what = format!("{method} {}", route.pattern());
            self.key = route.named("KEY").map(str::to_owned);
            self.target = route.named("HOST").map(str::to_owned);
        }
    }

    /// Records the key of a request to the core.
    pub(super) fn on_request(&mut self, request: &Request) {
        match request {
            Request::Dispatch(task) => {
                self.key = Some(task.key.clone());
                self.target.clone_from(&task.rollout.target);
            }
            Request::Command { cid, target, .. } => {
                self.key = Some(cid.clone());
                self.target.clone_from(target);
            }
            _ => {}
        }
    }

    /// Ends the record with the response.
    pub(super) fn ended(self, response: &HttpResponse) -> Audited {
        let is_refused = response.status >= 400;
        let result = match is_refused {
            false => OK.to_owned(),
            true => shortened(&format!("{} {}", response.status, response.error_text())),
        };
        let short = |text: Option<String>| text.map(|text| shortened(&text));
        Audited {
            is_refused,
            is_stranger: self.by.is_none() && is_refused,
            record: AuditRecord {
                by: self.by.unwrap_or_default(),
                what: self.what,
                key: short(self.key),
                target: short(self.target),
                count: response.hosts,
                result,
            },
        }
    }
}

/// Cuts a text from anyone.
fn shortened(text: &str) -> String {
    match text.char_indices().nth(AUDIT_TEXT_CHARS_MAX) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}
