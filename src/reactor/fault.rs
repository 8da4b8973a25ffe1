//! A fault put in on purpose, to see that it ends one connection and no other. Debug builds only:
//! with `ANTHILL_FAULT=panic-on:TEXT` in the environment, handling a frame whose bytes contain TEXT
//! panics. A release build has no trace of it.

/// Panics if this is a frame that was asked to fail.
#[cfg(debug_assertions)]
pub fn trip(frame: &[u8]) {
    use std::sync::OnceLock;
    static TRIGGER: OnceLock<Option<Vec<u8>>> = OnceLock::new();

    let trigger = TRIGGER.get_or_init(|| {
        let asked = std::env::var("ANTHILL_FAULT").ok();
        // The tests of this room share one process, so theirs is fixed.
        let asked = asked.or(cfg!(test).then(|| "panic-on:fail-here".to_owned()));
        parse(&asked?)
    });
    if let Some(text) = trigger
        && frame.windows(text.len()).any(|window| window == text)
    {
        panic!("a fault was asked for with ANTHILL_FAULT");
    }
}

/// A release build never fails on purpose.
#[cfg(not(debug_assertions))]
pub fn trip(_frame: &[u8]) {}

#[cfg(debug_assertions)]
fn parse(fault: &str) -> Option<Vec<u8>> {
    let text = fault.strip_prefix("panic-on:")?;
    (!text.is_empty()).then(|| text.as_bytes().to_vec())
}

#[cfg(all(test, debug_assertions))]
mod tests {
    use super::*;

    #[test]
    fn only_a_named_text_is_a_fault() {
        assert_eq!(parse("panic-on:web-7"), Some(b"web-7".to_vec()));
        assert_eq!(parse("panic-on:"), None);
        assert_eq!(parse("sleep"), None);
    }
}
