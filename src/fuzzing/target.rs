//! Fuzz target `target`: any text as a target, and the lines behind it as hosts.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::codec::target::{Facts, Groups, Selection, Target, fold};
use crate::ids::HostId;

/// A host with its name for address, and one label.
struct Host<'a>(&'a str);

impl Facts for Host<'_> {
    fn id(&self) -> &str {
        self.0
    }

    fn ip(&self) -> Option<IpAddr> {
        self.0.parse().ok()
    }

    fn label(&self, key: &str, with: &mut dyn FnMut(&str)) {
        if key == "k" {
            with("v");
        }
    }

    fn labels(&self, with: &mut dyn FnMut(&str, &str)) {
        with("k", "v");
    }
}

fn select<'h>(target: &Target, hosts: &[Host<'h>]) -> Result<BTreeSet<&'h str>, String> {
    let groups = [(
        "g".to_owned(),
        Target::parse("k=v").expect("a label").into(),
    )];
    let selection = Selection::new(target, &Groups::from(groups));
    let places = selection.and_then(|selection| selection.select(hosts));
    let places = places.map_err(|error| error.to_string())?;
    Ok(places.into_iter().map(|at| hosts[at].0).collect())
}

/// The first line is a target, the others are hosts. A label or a `!` never adds a host, the order
/// of the terms does not matter, and the hosts folded are a target of the same hosts.
///
/// # Panics
/// When that does not hold.
pub fn target(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let mut lines = text.split('\n');
    let first = lines.next().unwrap_or_default();
    let ids: BTreeSet<HostId> = lines.filter_map(|id| HostId::named(id).ok()).collect();
    let ids: Vec<&HostId> = ids
        .iter()
        .filter(|id| id.as_str() != "all")
        .take(64)
        .collect();
    let hosts: Vec<Host<'_>> = ids.iter().map(|id| Host(id.as_str())).collect();
    let folded = fold(hosts.iter().map(|host| host.0));
    // Shapes beyond the bound on patterns cannot come from so few hosts.
    if !hosts.is_empty() {
        let again = Target::parse(&folded).expect("folded hosts are a target");
        let all: BTreeSet<&str> = hosts.iter().map(|host| host.0).collect();
        assert_eq!(select(&again, &hosts), Ok(all), "{folded}");
    }
    let Ok(target) = Target::parse(first) else {
        return;
    };
    let again = Target::parse(target.as_str()).expect("its text is a target");
    assert_eq!(again, target);
    let Ok(before) = select(&target, &hosts) else {
        return;
    };
    // The target may be as large as one can be.
    let Ok(narrowed) = Target::parse(&format!("{first},k=v")) else {
        return;
    };
    assert_eq!(
        select(&narrowed, &hosts),
        Ok(before.clone()),
        "all hosts have it"
    );
    let turned = Target::parse(&format!("k=v,{first}")).expect("one more label");
    assert_eq!(select(&turned, &hosts), Ok(before));
    let none = Target::parse(&format!("{first},!k=v")).expect("one more label");
    assert_eq!(select(&none, &hosts), Ok(BTreeSet::new()));
}
