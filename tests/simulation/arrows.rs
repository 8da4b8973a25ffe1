//! Checks that the state of a host in a task changes only by the transitions of PROTOCOL section 5.

use std::collections::BTreeMap;

use anthill::ids::TaskKey;
use anthill::store::op::TaskState;

/// The last state of each host in each task.
#[derive(Debug, Default)]
pub struct Arrows {
    states: BTreeMap<(String, String), TaskState>,
    /// The first move that there is no arrow for. It is not a panic, since the store thread survives those.
    pub wrong: Option<String>,
}

impl Arrows {
    /// Records the current states of a task's hosts in the store.
    pub fn stored(&mut self, key: &TaskKey, states: &[(String, String)]) {
        for (host, word) in states {
            let state = TaskState::parse(word);
            let state = state.unwrap_or_else(|| panic!("{host} is {word:?} in {key}: no state"));
            self.became(key.as_str(), host, state);
        }
    }

    /// Records a new state of a host. Intermediate states may be missing.
    pub fn became(&mut self, key: &str, host: &str, state: TaskState) {
        let pair = (key.to_owned(), host.to_owned());
        let before = self.states.insert(pair, state).unwrap_or(state);
        if !before.may_reach(state) {
            self.wrong.get_or_insert_with(|| {
                format!("{host} in {key}: from {before:?} to {state:?} there is no arrow")
            });
        }
    }

    /// Resets the states: the store has lost some or all of its data.
    pub fn forget_stored(&mut self) {
        self.states.clear();
    }
}
