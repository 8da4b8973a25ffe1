//! Labels of hosts: requests of an administrator, and their way to the store and back.

use crate::handlers::fleet::labels::{
    LabelChanges, LabelRules, LabelSource, VERSION, label_op, stored_labels,
};
use crate::handlers::request::{ErrorKind, Response};
use crate::handlers::step::Step;
use crate::handlers::tasks::dispatch::{Refusal, not_now, wrong};
use crate::ids::{HostId, HostRef};
use crate::store::op::{HeldHost, LabelPlace, Op};

/// The answer to a requester when the store went away before the labels were written.
const LATER: &str = "the store is unavailable; the labels are set, and written when it is back";

impl Step<'_> {
    /// Takes the labels and groups of a configuration.
    pub(crate) fn set_labels(&mut self, rules: LabelRules) {
        self.fleet.labels_mut().set_rules(rules);
    }

    /// Takes the stored labels of a host.
    pub(super) fn recall_labels(&mut self, slot: u32, found: &HeldHost) {
        let labels = self.fleet.labels_mut();
        if let Some(text) = &found.admin_labels {
            let own = stored_labels(text);
            labels.recall(slot, own.iter().map(|(key, value)| (&**key, &**value)));
        }
        // The current claim of a connected host is newer.
        let has_own = !labels.of_source(slot, LabelSource::Host).is_empty();
        if let Some(text) = found.host_labels.as_ref().filter(|_| !has_own) {
            let own = stored_labels(text);
            labels.claim(slot, own.iter().map(|(key, value)| (&**key, &**value)));
        }
    }

    /// Handles a request to change the labels of a host. It is answered when they are written.
    pub(super) fn ask_label(&mut self, requester: u64, id: &HostId, changes: &LabelChanges) {
        if let Err((kind, text)) = self.try_label(requester, id, changes) {
            self.cx.respond(requester, Response::Error { kind, text });
        }
    }

    fn try_label(
        &mut self,
        requester: u64,
        id: &HostId,
        changes: &LabelChanges,
    ) -> Result<(), Refusal> {
        if !self.cx.is_store_up() {
            return Err(not_now("the store is unavailable"));
        }
        let slot = self.fleet.find(id);
        let Some((slot, host)) = slot.and_then(|slot| Some((slot, self.fleet.reference(slot)?)))
        else {
            let text = "no host of this name is known".to_owned();
            return Err((ErrorKind::Unknown, text));
        };
        let labels = self.fleet.labels_mut();
        labels.change(slot, changes).map_err(wrong)?;
        labels.write(slot, LabelPlace::Admin);
        match labels.wait(requester, host) {
            true => Ok(()),
            false => Err(not_now("too many changes of labels are under way")),
        }
    }

    /// Moves labels that are to be written into a batch.
    pub(super) fn take_labels(&mut self, max: usize, ops: &mut Vec<Op>) {
        while ops.len() < max
            && let Some((slot, place, text)) = self.fleet.labels_mut().take_unwritten()
        {
            let host = self.fleet.reference(slot).zip(self.fleet.id(slot));
            ops.extend(host.map(|(ticket, id)| label_op(ticket, id, place, text)));
        }
    }

    /// Labels of a host are written, or the store refuses them.
    pub(super) fn labels_written(
        &mut self,
        ticket: HostRef,
        place: LabelPlace,
        result: Result<(), String>,
    ) {
        let Some(slot) = self.fleet.resolve(ticket) else {
            return;
        };
        let waited = self.fleet.labels_mut().written(ticket, place);
        let Some(host) = self.fleet.id(slot) else {
            return;
        };
        if let Err(why) = &result {
            let text = format!("its labels are not written: {why}");
            self.cx.log(log::Level::Error, "store", &host, text);
        }
        for requester in waited {
            let answer = match &result {
                Ok(()) => Response::Labels {
                    host: host.clone(),
                    labels: self.labels_of(slot),
                },
                Err(why) => Response::Error {
                    kind: ErrorKind::NotNow,
                    text: format!("the labels are not written: {why}"),
                },
            };
            self.cx.respond(requester, answer);
        }
    }

    fn labels_of(&self, slot: u32) -> Vec<(String, String, LabelSource)> {
        let all = self.fleet.labels().of(slot);
        let all = all.map(|(key, value, source)| (key.to_owned(), value.to_owned(), source));
        let mut all: Vec<_> = all.filter(|(key, ..)| key != VERSION).collect();
        all.sort();
        all
    }

    /// The store is unavailable: waiting requesters are answered.
    pub(super) fn interrupt_labels(&mut self) {
        for requester in self.fleet.labels_mut().interrupt() {
            self.cx.respond(requester, not_now(LATER).into());
        }
    }
}
