use crate::config::{Config, Overrides};

/// Fuzz target `config`: any text is a configuration or an error of one line that names the file.
///
/// # Panics
/// When that is not so.
pub fn config(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    if let Err(error) = Config::parse("fuzzed.json", text, &Overrides::default()) {
        let shown = error.to_string();
        assert!(!shown.is_empty());
        let is_tame = |c: char| !c.is_control();
        assert!(shown.chars().all(is_tame), "raw text in {shown:?}");
    }
}
