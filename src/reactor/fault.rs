//! Fault injection in debug builds, for tests that a panic ends one connection only. With
//! `ANTHILL_FAULT=panic-on:TEXT` in the environment, handling a frame that contains TEXT panics.

/// Panics if the frame contains the text of the fault.
#[cfg(debug_assertions)]
pub fn trip(frame: &[u8]) {
    use std::sync::OnceLock;
    static TRIGGER: OnceLock<Option<Vec<u8>>> = OnceLock::new();

    let trigger = TRIGGER.get_or_init(|| {
        let setting = std::env::var("ANTHILL_FAULT").ok();
        // Unit tests share one process, so their text is fixed.
        let setting = setting.or(cfg!(test).then(|| "panic-on:fail-here".to_owned()));
        parse(&setting?)
    });
    if let Some(text) = trigger
        && frame.windows(text.len()).any(|window| window == text)
    {
        panic!("a fault was requested with ANTHILL_FAULT");
    }
}

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
