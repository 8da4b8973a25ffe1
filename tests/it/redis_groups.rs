//! Groups of Redis servers as the store: a master under Sentinels, or a Cluster. Servers die, are
//! replaced and move slots; afterwards all acknowledged reports must be stored.

use std::collections::BTreeSet;
use std::ops::Range;

use serde_json::json;

use super::support::reports::{Report, acknowledged, dispatch_for_results, missing};
use super::support::{Cluster, Home, Host, Keys, Redis, Sentinels, Server, until, until_so};

/// Some hosts, and the reports acknowledged to each.
struct Fleet {
    hosts: Vec<Host>,
    names: Vec<String>,
    stored: BTreeSet<Report>,
}

impl Fleet {
    /// Connects hosts, and dispatches a task for their results.
    fn connect(server: &Server, count: usize) -> Self {
        let names: Vec<String> = (0..count).map(|n| format!("host-{n}")).collect();
        let connect = |name: &String| Host::named(server.tcp, "127.0.0.1", name);
        let hosts = names.iter().map(connect).collect();
        dispatch_for_results(server, &names);
        Self {
            hosts,
            names,
            stored: BTreeSet::new(),
        }
    }

    /// Each host sends the reports of these numbers, and takes their acknowledgements.
    fn report(&mut self, numbers: Range<u64>) {
        for host in &mut self.hosts {
            numbers
                .clone()
                .for_each(|number| host.send(&Report(number).bytes()));
        }
        for host in &mut self.hosts {
            let count = numbers.clone().count();
            self.stored.extend(acknowledged(host, count));
        }
    }

    /// Waits until all acknowledged reports are stored.
    fn until_stored(&self, store: &impl Keys) {
        for name in &self.names {
            until(&format!("all reports of {name}"), || {
                let missing = missing(store, name, &self.stored);
                missing.is_empty().then_some(())
            });
        }
    }
}

/// Hosts online, as other programs read them.
fn exists(store: &impl Keys) -> BTreeSet<String> {
    store.on_key(&["SMEMBERS", "exists"])
}

/// Returns whether the book of the task with the results is stored.
fn has_book(store: &impl Keys) -> bool {
    let priority: Option<u64> = store.on_key(&["ZSCORE", "ACresults", "a"]);
    priority == Some(1)
}

fn home(url: &str) -> Home {
    let mut home = Home::at(url);
    home.set("store.timeout_ms", 1_000);
    home
}

#[test]
fn a_killed_master_loses_no_acknowledged_report() {
    let mut sentinels = Sentinels::start();
    let home = home(&sentinels.url());
    let server = home.start();
    let mut fleet = Fleet::connect(&server, 3);
    fleet.report(0..40);
    let before = sentinels.master().port();
    sentinels.master_mut().kill();
    fleet.report(40..80);
    server.until_ready(false);
    server.until_ready(true);
    fleet.report(80..100);
    fleet.until_stored(&sentinels);
    assert_ne!(sentinels.master().port(), before);
    let names: BTreeSet<String> = fleet.names.iter().cloned().collect();
    until_so("presence in the new master", || exists(&sentinels) == names);
    assert!(has_book(&sentinels));
    fleet.hosts.pop();
    until_so("a host offline in the new master", || {
        exists(&sentinels).len() == 2
    });
    assert_eq!(server.metric("anthill_store_rejected_total"), 0);
}

#[test]
fn a_failover_by_hand_loses_no_acknowledged_report() {
    let sentinels = Sentinels::start();
    let home = home(&sentinels.url());
    let server = home.start();
    let mut fleet = Fleet::connect(&server, 3);
    fleet.report(0..30);
    sentinels.fail_over();
    fleet.report(30..60);
    until_so("another connection", || {
        server.metric("anthill_store_reconnects_total") > 0
    });
    server.until_ready(true);
    fleet.report(60..90);
    fleet.until_stored(&sentinels);
}

/// Redis refuses the Sentinels' order to the replaced master, as if it were cut off from them.
#[test]
fn a_replaced_master_that_takes_writes_is_left() {
    let sentinels = Sentinels::start();
    let home = home(&sentinels.url());
    let server = home.start();
    let mut fleet = Fleet::connect(&server, 3);
    fleet.report(0..30);
    let refuse = ["ACL", "SETUSER", "default", "-slaveof", "-replicaof"];
    sentinels.master().say::<()>(&refuse);
    let before = sentinels.master().port();
    sentinels.fail_over();
    fleet.report(30..60);
    until_so("another connection", || {
        server.metric("anthill_store_reconnects_total") > 0
    });
    fleet.report(60..90);
    fleet.until_stored(&sentinels);
    assert_ne!(sentinels.master().port(), before);
}

#[test]
fn a_cluster_survives_a_killed_primary() {
    let mut cluster = Cluster::start(3, 1);
    let home = home(&cluster.url());
    let server = home.start();
    let mut fleet = Fleet::connect(&server, 6);
    let names: BTreeSet<String> = fleet.names.iter().cloned().collect();
    until_so("all hosts online", || exists(&cluster) == names);
    until_so("the book", || has_book(&cluster));
    fleet.report(0..30);
    let owner = cluster.owner_of("exists");
    cluster.server_mut(owner).kill();
    fleet.report(30..60);
    server.until_ready(false);
    server.until_ready(true);
    fleet.report(60..70);
    fleet.until_stored(&cluster);
    until_so("presence is right again", || exists(&cluster) == names);
    server.dispatch(&json!({"key": "AClater", "commands": {"a": 1}, "hosts": fleet.names}));
    fleet.hosts.pop();
    until_so("a host offline", || exists(&cluster).len() == 5);
    assert_eq!(server.metric("anthill_store_rejected_total"), 0);
}

#[test]
fn a_cluster_is_resharded_under_reports() {
    let cluster = Cluster::start(3, 0);
    let home = home(&cluster.url());
    let server = home.start();
    let mut fleet = Fleet::connect(&server, 4);
    fleet.report(0..10);
    let id = |number: usize| cluster.servers()[number].say::<String>(&["CLUSTER", "MYID"]);
    let (from, to) = (id(0), id(1));
    let place = &cluster.places()[0];
    let mut reshard = cluster.manage(&[
        "reshard",
        place,
        "--cluster-from",
        &from,
        "--cluster-to",
        &to,
        "--cluster-slots",
        "2000",
        "--cluster-yes",
    ]);
    let mut next = 10;
    while !reshard.has_ended() && next < 1_500 {
        fleet.report(next..next + 10);
        next += 10;
    }
    let made = reshard.output();
    assert!(
        made.status.success(),
        "{}",
        String::from_utf8_lossy(&made.stdout)
    );
    fleet.report(next..next + 20);
    fleet.until_stored(&cluster);
    assert!(server.metric("anthill_store_moved_total") > 0);
    assert!(server.metric("anthill_store_topology_refreshes_total") > 0);
    assert_eq!(server.metric("anthill_store_reconnects_total"), 0);
    assert_eq!(server.get("/readyz").0, 200);
}

/// The lease, the node and its hosts are elsewhere: only a mark shows the loss.
#[test]
fn a_primary_that_lost_its_data_is_noticed() {
    let cluster = Cluster::start(3, 0);
    let home = home(&cluster.url());
    let server = home.start();
    let mut fleet = Fleet::connect(&server, 2);
    fleet.report(0..9);
    fleet.until_stored(&cluster);
    let lost = cluster.owner_of("exists");
    for key in ["anthill:node:n1", "anthill:node:n1:hosts", "anthill:nodes"] {
        assert_ne!(cluster.owner_of(key), lost, "{key} is elsewhere");
    }
    cluster.servers()[lost].say::<()>(&["FLUSHALL"]);
    fleet.until_stored(&cluster);
    until_so("the book", || has_book(&cluster));
    until_so("presence", || exists(&cluster).len() == 2);
    until_so("the claims", || {
        let is_held = |name: &String| {
            let key = format!("anthill:host:{name}");
            cluster
                .on_key::<Option<String>>(&["HGET", &key, "node"])
                .as_deref()
                == Some("n1")
        };
        fleet.names.iter().all(is_held)
    });
}

#[test]
fn reports_wait_for_a_replica_if_configured() {
    let master = Redis::start(&[]);
    let port = master.port().to_string();
    let replica = Redis::start(&["--replicaof", "127.0.0.1", &port]);
    until_so("a replica that follows", || {
        let info: String = replica.say(&["INFO", "replication"]);
        info.contains("master_link_status:up")
    });
    let mut home = home(&master.url());
    home.set("store.wait_replicas", 1);
    let server = home.start();
    let mut fleet = Fleet::connect(&server, 1);
    for number in 0..20 {
        fleet.report(number..number + 1);
        assert_eq!(
            missing(&replica, "host-0", &fleet.stored),
            [],
            "in the replica at once"
        );
    }
    replica.stop();
    // Acknowledged by the spool.
    fleet.report(20..30);
    assert!(server.metric("anthill_spool_written_total") >= 10);
    let why = server.logged(&["wait_replicas"]);
    assert!(why.contains("0 of 1 replicas"), "{why}");
    replica.go_on();
    server.until_ready(true);
    fleet.until_stored(&replica);
}
