//! Name of the node that used the spool last. Under another name a server does not find the hosts
//! and tasks of the last one, which the start reports.

use std::fs;

use super::Spool;
use super::segment::write_file;
use crate::files;

impl Spool {
    /// Notes the name of the node, and returns the earlier name if it differs.
    #[must_use]
    pub fn note_node(&self, name: &str) -> Option<String> {
        let path = self.dir.join("node");
        let before = files::read_own(&path).ok();
        let before = before.and_then(|bytes| files::text_of(bytes).ok());
        let before = before.map(|text| text.trim_end_matches('\n').to_owned());
        if before.as_deref() == Some(name) {
            return None;
        }
        let fresh = self.dir.join("node.new");
        // An existing file was left by a crash.
        let _ = fs::remove_file(&fresh);
        let noted = write_file(&fresh, format!("{name}\n").as_bytes());
        if let Err(error) = noted.and_then(|()| fs::rename(&fresh, &path)) {
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
