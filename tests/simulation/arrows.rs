//! The arrows of PROTOCOL section 5, watched: a host in a task moves along them and no other way.

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
    /// Records the present states of a task's hosts in the store.
    pub fn stored(&mut self, key: &TaskKey, states: &[(String, String)]) {
        for (host, word) in states {
            let state = TaskState::parse(word);
            let state = state.unwrap_or_else(|| panic!("{host} is {word:?} in {key}: no state"));
            self.became(key.as_str(), host, state);
        }
    }

    /// A host has become this. States passed in between may have been left out.
    pub fn became(&mut self, key: &str, host: &str, state: TaskState) {
        let pair = (key.to_owned(), host.to_owned());
        let before = self.states.insert(pair, state).unwrap_or(state);
        if !before.may_reach(state) {
            self.wrong.get_or_insert_with(|| {
                format!("{host} in {key}: from {before:?} to {state:?} there is no arrow")
            });
        }
    }

    /// The store has gone back, or lost everything: it begins anew.
    pub fn forget_stored(&mut self) {
        self.states.clear();
    }
}
