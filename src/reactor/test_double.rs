//! A stand-in for the core, for tests of the loop alone: what is handed in is shown to it first,
//! and what it answers the core never sees.

use std::cell::RefCell;

use crate::handlers::effect::Effects;
use crate::handlers::{Flow, Input};

type Answers = dyn FnMut(&Input<'_>, &mut Effects) -> Option<Flow>;

thread_local! {
    static CURRENT: RefCell<Option<Box<Answers>>> = const { RefCell::new(None) };
}

/// While it lives, on this thread, its answers are asked for before the core's.
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
