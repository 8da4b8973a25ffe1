//! Test double of the core, for tests of the loop alone. It gets each input first; the core never
//! sees an input that the double answers.

use std::cell::RefCell;

use crate::handlers::effect::Effects;
use crate::handlers::{Flow, Input};
use crate::ids::ConnId;

type Answers = dyn FnMut(&Input<'_>, &mut Effects) -> Option<Flow>;

thread_local! {
    static CURRENT: RefCell<Option<Box<Answers>>> = const { RefCell::new(None) };
}

/// Guard of a test double: while it lives, the double answers inputs on this thread.
#[must_use]
pub struct TestDouble;

/// Makes `answers` answer in place of the core.
pub fn test_double(
    answers: impl FnMut(&Input<'_>, &mut Effects) -> Option<Flow> + 'static,
) -> TestDouble {
    CURRENT.set(Some(Box::new(answers)));
    TestDouble
}

impl Drop for TestDouble {
    fn drop(&mut self) {
        CURRENT.set(None);
    }
}

/// Response of the test double, if there is one and it has a response.
pub fn answers(input: &Input<'_>, fx: &mut Effects) -> Option<Flow> {
    CURRENT.with_borrow_mut(|answers| answers.as_mut()?(input, fx))
}

/// First connection in a slot.
pub fn conn(slot: u32) -> ConnId {
    ConnId {
        slot,
        generation: 0,
    }
}
