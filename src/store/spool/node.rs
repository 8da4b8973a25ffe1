//! Name of the node that used the spool last. Under another name a server does not find the hosts
//! and tasks of the last one, which the start reports.

use super::Spool;
use super::segment::{replace_file, small_file};

impl Spool {
    /// Notes the name of the node, and returns the earlier name if it differs.
    #[must_use]
    pub fn note_node(&self, name: &str) -> Option<String> {
        let before = small_file(&self.dir, "node");
        let before = before.map(|text| text.trim_end_matches('\n').to_owned());
        if before.as_deref() == Some(name) {
            return None;
        }
        if let Err(error) = replace_file(&self.dir, "node", &format!("{name}\n"), None) {
            log::warn!(error:% = error; "spool: the name of the node cannot be noted: {error}");
        }
        before.filter(|before| !before.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_name_is_reported_once() {
        let dir = tempfile::tempdir().unwrap();
        let note = |name| Spool::open(dir.path(), 1 << 20).unwrap().note_node(name);
        assert_eq!(note("a"), None);
        assert_eq!(note("a"), None);
        assert_eq!(note("b").as_deref(), Some("a"));
        assert_eq!(note("b"), None);
    }
}
