//! A stand-in for the core, for tests of the loop alone: what is handed in is shown to it first, and
//! what it answers the core never sees.

use std::cell::RefCell;

use crate::handlers::effect::Effects;
use crate::handlers::{Flow, Input};

type Answers = dyn FnMut(&Input<'_>, &mut Effects) -> Option<Flow>;

thread_local! {
    static STANDING_IN: RefCell<Option<Box<Answers>>> = const { RefCell::new(None) };
}

/// While it lives, on this thread, its answers are asked for before the core's.
#[must_use]
pub struct StandIn;

/// Makes `answers` answer in place of the core.
pub fn stand_in(
    answers: impl FnMut(&Input<'_>, &mut Effects) -> Option<Flow> + 'static,
) -> StandIn {
    STANDING_IN.set(Some(Box::new(answers)));
    StandIn
}

impl Drop for StandIn {
    fn drop(&mut self) {
        STANDING_IN.set(None);
    }
}

/// Response of the test double, if there is one and it has a response.
pub fn answers(input: &Input<'_>, fx: &mut Effects) -> Option<Flow> {
    STANDING_IN.with_borrow_mut(|answers| answers.as_mut()?(input, fx))
}
