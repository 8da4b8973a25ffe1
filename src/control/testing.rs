//! A made-up fleet, for tests only.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use crate::handlers::Moment;
use crate::handlers::ak::Devices;
use crate::handlers::reach::Targets;
use crate::handlers::stats::Stats;
use crate::handlers::view::{Filter, HostView, Page, StoreView};
use crate::ids::HostId;
use crate::keys::{Role, Tokens, digest_of};
use crate::time::{Instant, UnixMs};

use super::{Fleet, HttpContext};

/// A host of the made-up fleet.
pub(crate) struct Ant {
    pub(crate) id: HostId,
    pub(crate) ip: IpAddr,
    pub(crate) online: bool,
    pub(crate) hostname: String,
}

/// A made-up fleet.
pub(crate) struct Ants {
    pub(crate) hosts: Vec<Ant>,
    pub(crate) store: StoreView<'static>,
    pub(crate) stats: Stats,
    /// The store has hosts of other nodes.
    pub(crate) has_foreign: bool,
    /// A request for one host panics.
    pub(crate) broken: bool,
    pub(crate) devices: Devices,
    pub(crate) targets: Targets,
}

impl Ants {
    /// `count` hosts, all online, named h-0 and so on, and a store that is up.
    pub(crate) fn with_hosts(count: usize) -> Self {
        let ant = |number: usize| Ant {
            id: HostId::checked(&format!("h-{number}")).expect("of the alphabet"),
            ip: Ipv4Addr::from(0x0a00_0000 + number as u32).into(),
            online: true,
            hostname: "ant".into(),
        };
        Self {
            hosts: (0..count).map(ant).collect(),
            store: StoreView::Available,
            stats: Stats {
                hosts_online: count as u64,
                ..Stats::default()
            },
            has_foreign: false,
            broken: false,
            devices: Devices::default(),
            targets: Targets::default(),
        }
    }
}

fn view(ant: &Ant) -> HostView<'_> {
    HostView {
        id: ant.id.clone(),
        ip: Some(ant.ip),
        online: ant.online,
        node: ant.online.then(|| "n1".into()),
        reason: None,
        since: UnixMs(2_000),
        last_seen: UnixMs(3_500),
        hostname: Some(ant.hostname.as_str().into()),
        mac: None,
        ipv4: (&[][..]).into(),
        labels: Vec::new(),
    }
}

impl Fleet for Ants {
    fn host(&self, host: &HostId) -> Option<HostView<'_>> {
        assert!(!self.broken, "the fleet is broken, as this test wants it");
        self.hosts.iter().find(|ant| ant.id == *host).map(view)
    }

    fn page(&self, filter: Filter, limit: usize, cursor: u64) -> Page<'_> {
        let wanted = |ant: &&Ant| match filter {
            Filter::All => true,
            Filter::Online => ant.online,
            Filter::Offline => !ant.online,
        };
        let from = usize::try_from(cursor).unwrap_or(usize::MAX);
        let rest = self.hosts.get(from..).unwrap_or_default();
        let hosts: Vec<_> = rest.iter().take(limit).filter(wanted).map(view).collect();
        let next = (rest.len() > limit).then(|| (from + limit) as u64);
        Page { hosts, next }
    }

    fn store(&self) -> StoreView<'_> {
        self.store
    }

    fn stats(&self) -> Stats {
        self.stats.clone()
    }

    fn key_prefix(&self) -> &str {
        "AC"
    }

    fn node(&self) -> &str {
        "n1"
    }

    fn has_foreign_hosts(&self) -> bool {
        self.has_foreign
    }
}

/// One administrator's token.
pub(crate) fn admin(token: &str) -> Arc<Tokens> {
    let mut tokens = Tokens::default();
    let added = tokens.insert("ops", digest_of(token), Role::Admin, None);
    added.expect("the first token");
    Arc::new(tokens)
}

/// Context of `ants`, 90.5 s after the start and without other metrics.
pub(crate) fn context(ants: &Ants) -> HttpContext<'_> {
    HttpContext {
        fleet: ants,
        devices: &ants.devices,
        targets: &ants.targets,
        recent: None,
        at: Moment {
            now: Instant::from_nanos(100_500_000_000),
            wall: UnixMs(1_000_000),
        },
        started: Instant::from_nanos(10_000_000_000),
        metrics: &(),
    }
}
