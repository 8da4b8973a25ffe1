//! Effects of reports on tasks and console commands.

use crate::codec::message::{Answer, ResultCode};
use crate::handlers::context::Ctx;
use crate::handlers::tasks::Tasks;
use crate::ids::{HostId, HostRef, TaskKey};
use crate::limits::UNLISTED_RESULTS_MAX;
use crate::store::op::{Lifetime, TaskState};

impl Tasks {
    /// State of a host in a task that names it, and whether a result of it has an exit other than 0.
    pub(crate) fn state_of(&self, key: &TaskKey, host: &HostId) -> Option<(TaskState, bool)> {
        let delivery = self.table.delivery(self.table.delivery_of(key, host)?)?;
        Some((delivery.state, delivery.failed))
    }

    /// Returns whether a host has finished a task, with or without success.
    pub(crate) fn has_finished(&self, host: &HostId, key: &TaskKey) -> bool {
        let state = self.state_of(key, host);
        state.is_some_and(|(state, _)| matches!(state, TaskState::Done | TaskState::Failed))
    }

    /// Returns whether writes on a task expire now.
    pub(crate) fn lifetime(&self, key: &TaskKey) -> Lifetime {
        self.table.lifetime(key)
    }

    /// The commands of a task that names the host.
    pub(crate) fn book(&self, key: &TaskKey, host: &HostId) -> Option<Vec<(String, f64)>> {
        let delivery = self.table.delivery(self.table.delivery_of(key, host)?)?;
        Some(self.table.task(delivery.task)?.commands.clone())
    }

    /// The key of the newest task in which the host has this state.
    fn newest_key(&self, host: &HostId, state: TaskState) -> Option<TaskKey> {
        let slot = self.newest_in(host, state)?;
        Some(self.table.names_of(slot)?.1.clone())
    }

    /// The key of an answer. "No book" without a key refers to the key `last` answered with
    /// "received". "Damaged" refers to the key that is to be sent again, since an old client names
    /// the previous one.
    pub(crate) fn answered_key(
        &self,
        cx: &Ctx<'_>,
        host: &HostId,
        last: Option<&TaskKey>,
        answer: &Answer<'_>,
    ) -> Option<TaskKey> {
        let named = answer.task.as_deref();
        let named = named.and_then(|text| TaskKey::parse(text, &cx.rules.key_prefix));
        match answer.code {
            ResultCode::Unanswered | ResultCode::Damaged => {
                self.newest_key(host, TaskState::Sent).or(named)
            }
            // After a restart of ours only the tables know.
            ResultCode::NoBook if answer.task.is_none() => last
                .cloned()
                .or_else(|| self.newest_key(host, TaskState::Answered)),
            ResultCode::NoBook | ResultCode::Received => named,
        }
    }

    /// Records the answer of a host to a console command: its id, or its text.
    pub(crate) fn command_answered(&mut self, text: &str, host: &HostId) {
        let command = self.commands.answered(text, host);
        let shared = command.filter(|command| command.is_shared);
        if let Some(cid) = shared.map(|command| command.cid.clone()) {
            self.record_answer(cid, host);
        }
    }

    /// Returns whether a result is accepted: it belongs to a task that names the host, or to a
    /// console command that was sent to it. Results of commands that are not in the book are
    /// bounded, since the host could otherwise fill the store.
    pub(crate) fn is_result_wanted(
        &self,
        cx: &Ctx<'_>,
        host: &HostId,
        code: &str,
        command: &str,
    ) -> bool {
        let key = TaskKey::parse(code, &cx.rules.key_prefix);
        let delivery = key.and_then(|key| self.table.delivery_of(&key, host));
        let Some(slot) = delivery else {
            return self.commands.takes_result(code, host);
        };
        let unlisted = self.table.delivery(slot).map_or(0, |found| found.unlisted);
        unlisted < UNLISTED_RESULTS_MAX || self.lists(slot, command)
    }

    /// Returns whether the book of a delivery's task has a command.
    fn lists(&self, delivery: u32, command: &str) -> bool {
        let task = self.table.delivery(delivery).map(|found| found.task);
        let task = task.and_then(|slot| self.table.task(slot));
        task.is_some_and(|task| task.commands.iter().any(|(text, _)| text == command))
    }

    /// Takes a result of a host. Returns whether its task expires now.
    pub(crate) fn take_result(
        &mut self,
        cx: &Ctx<'_>,
        host: &HostId,
        code: &str,
        command: &str,
        failed: bool,
    ) -> Lifetime {
        let key = TaskKey::parse(code, &cx.rules.key_prefix);
        let delivery = key
            .as_ref()
            .and_then(|key| self.table.delivery_of(key, host));
        if let Some(slot) = delivery {
            self.touch_delivery(cx, slot);
            let unlisted = !self.lists(slot, command);
            if let Some(delivery) = self.table.delivery_mut(slot) {
                delivery.failed |= failed;
                delivery.unlisted = delivery.unlisted.saturating_add(u8::from(unlisted));
            }
        } else {
            let command = self.commands.has_result(code, host);
            let shared = command.filter(|command| command.is_shared);
            if let Some(cid) = shared.map(|command| command.cid.clone()) {
                self.record_answer(cid, host);
            }
        }
        key.map_or(Lifetime::Foreign, |key| self.lifetime(&key))
    }

    /// Returns whether a host may report on a key that this server never stored; the report is
    /// counted if so.
    pub(crate) fn admit_stray(
        &mut self,
        cx: &Ctx<'_>,
        host: HostRef,
        key: &TaskKey,
        bytes: usize,
    ) -> bool {
        self.strays.admit(host, key, bytes, cx.at.now)
    }

    /// Returns whether an admitted report on such a key has an event of its own.
    pub(crate) fn may_tell_stray(&mut self, host: HostRef) -> bool {
        self.strays.may_tell(host)
    }

    /// Number of reports on such keys without an event of their own since the last call.
    pub(crate) fn take_untold_strays(&mut self) -> Option<u64> {
        self.strays.take_untold()
    }
}
