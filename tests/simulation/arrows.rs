//! The arrows of PROTOCOL section 5, watched: a host in a task moves along them and no other way.

use std::collections::BTreeMap;

use anthill::ids::TaskKey;
use anthill::store::op::TaskState;

/// The last state of each host in each task.
#[derive(Debug, Default)]
pub struct Arrows {
    states: BTreeMap<(String, String), TaskState>,
    /// How many moves were looked at.
    pub seen: usize,
}

impl Arrows {
    /// What a task's hosts are in the store now.
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
        if let Some(before) = self.states.insert(pair, state) {
            self.seen += usize::from(before != state);
            assert!(
                is_within_reach(before, state),
                "{host} in {key}: from {before:?} to {state:?} there is no arrow"
            );
        }
    }

    /// The store has gone back, or lost everything: it begins anew.
    pub fn forget_stored(&mut self) {
        self.states.clear();
    }
}

/// Whether `state` can become `next` in any number of steps.
fn is_within_reach(state: TaskState, next: TaskState) -> bool {
    let mut reached = vec![state];
    let mut looked_at = 0;
    while let Some(state) = reached.get(looked_at).copied() {
        looked_at += 1;
        let new = |other: &TaskState| state.may_become(*other) && !reached.contains(other);
        let new: Vec<TaskState> = TaskState::ALL.into_iter().filter(new).collect();
        reached.extend(new);
    }
    reached.contains(&next)
}
