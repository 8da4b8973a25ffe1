//! The table of docs/configuration.md is the one that the keys give.

use std::fs;

use crate::config::table;

#[test]
fn documentation_lists_every_key() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/configuration.md");
    let page = fs::read_to_string(path).unwrap();
    let start = page.find("| key |").unwrap();
    let end = start + page[start..].find("\n\n").unwrap() + 1;
    let table = table::documentation();
    if std::env::var_os("ANTHILL_WRITE_DOCS").is_some() {
        fs::write(path, format!("{}{table}{}", &page[..start], &page[end..])).unwrap();
    } else {
        assert!(
            page[start..end] == table,
            "docs/configuration.md: ANTHILL_WRITE_DOCS=1 cargo test documentation_lists_every_key \
             writes this table:\n{table}"
        );
    }
}
