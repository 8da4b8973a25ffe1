//! Cases of the store as a whole: spoilt keys, restarts, reading everyone, expiry, the lease.

use super::*;
use crate::limits::HOSTS_PER_OP_MAX;
use crate::store::Lease;

pub fn a_key_of_another_type_refuses_one_operation(open: &mut Factory<'_>) {
    let mut s = open(settings());
    let spoilt = || Dump::Text("spoilt".into());
    s.seed("anthill:host:bad", spoilt());
    s.seed("AC1_bad_oncall", spoilt());
    let batch = [
        online("a", Some(1)),
        online("bad", Some(2)),
        progress("h", 1, None, &[], &["x"]),
        progress("bad", 1, None, &[], &["x"]),
        offline("bad", 0, Some(3)),
        online("b", Some(4)),
    ];
    let outcomes = run(&mut s, &batch);
    let refused: Vec<bool> = outcomes.iter().map(|o| refusal(o).is_some()).collect();
    assert_eq!(refused, [false, true, false, true, true, false]);
    assert_eq!(key(&mut s, "anthill:host:bad"), Some(spoilt()));
    assert_eq!(key(&mut s, "AC1_bad_oncall"), Some(spoilt()));
    assert_eq!(key(&mut s, "AC1_h_oncall"), list(&["x"]));
    assert_eq!(fields(&mut s, "anthill:host:b")["node"], NODE);

    s.seed("AC1_response", spoilt());
    let outcomes = run(&mut s, &[answer("h", 1), answer("h", 1), online("c", None)]);
    let refused: Vec<bool> = outcomes.iter().map(|o| refusal(o).is_some()).collect();
    assert_eq!(refused, [true, true, false]);
    assert_eq!(fields(&mut s, "anthill:host:c")["epoch"], "1");
}

pub fn a_restart_finds_the_hosts(open: &mut Factory<'_>) {
    let mut s = open(settings());
    let seen = Op::Seen(vec![(host("a"), UnixMs(1_800_000_000_000))]);
    run(
        &mut s,
        &[
            online("a", Some(1)),
            online("b", Some(2)),
            proved("gone", Some(3)),
            offline("gone", 1, Some(4)),
            inventory("a", &["ant-1", "00:11"], &["10.0.0.1"]),
            seen,
        ],
    );
    drop(s);

    let mut s = open(settings());
    let hosts = held(&mut s, true);
    assert_eq!(hosts.len(), 3);
    let a = HeldHost {
        host: host("a"),
        ours: true,
        epoch: 1,
        peer: Some("10.0.0.1:4711".parse().unwrap()),
        keyed: false,
        since: UnixMs(1_700_000_000_000),
        seen: UnixMs(1_800_000_000_000),
        reason: None,
        hostname: Some("ant-1".into()),
        mac: Some("00:11".into()),
        addresses: owned(&["10.0.0.1"]),
        admin_labels: None,
        host_labels: None,
    };
    assert_eq!(hosts["a"], a);
    assert!(hosts["b"].ours && !hosts["gone"].ours);
    assert!(hosts["gone"].keyed, "it has proved a key");
    assert_eq!(hosts["gone"].reason, Some(Reason::Timeout));
    assert_eq!(hosts["gone"].since, UnixMs(1_700_000_000_500));

    let ours: Vec<String> = held(&mut s, false).into_keys().collect();
    assert_eq!(ours, ["a", "b"], "only the node's own set");
    // The claims of before the restart can be ended, and taken anew.
    assert_eq!(settle(&mut s, offline("a", 1, Some(5))), Settled::Released);
    assert_eq!(settle(&mut s, online("b", None)), Settled::claimed(2));
    assert_eq!(events(&mut s).len(), 5);
}

pub fn all_hosts_are_found_in_pages(open: &mut Factory<'_>) {
    let mut s = open(settings());
    let many = HOSTS_PER_OP_MAX + 7;
    let name = |prefix: &str, n: usize| format!("{prefix}{n:05}");
    let ours: Vec<Op> = (0..many).map(|n| online(&name("o", n), None)).collect();
    run(&mut s, &ours);
    let seen = (0..many).map(|n| (host(&name("s", n)), UnixMs(5 + n as u64)));
    run(&mut s, &[Op::Seen(seen.collect())]);
    run(
        &mut s,
        &[Op::Audit((0..many).map(|n| host(&name("x", n))).collect())],
    );

    let hosts = held(&mut s, true);
    assert_eq!(hosts.len(), 3 * many);
    let last = many - 1;
    assert!(hosts[&name("o", last)].ours && hosts[&name("o", last)].epoch == 1);
    assert!(!hosts[&name("s", last)].ours);
    assert_eq!(hosts[&name("s", last)].seen, UnixMs(5 + last as u64));
    assert!(hosts[&name("x", last)].ours && hosts[&name("x", last)].epoch == 0);
    assert_eq!(held(&mut s, false).len(), many);
}

pub fn a_start_finishes_an_interrupted_offline(open: &mut Factory<'_>) {
    let mut s = open(settings());
    settle(&mut s, online("whole", Some(1)));
    // The claim is given up, and everything after that did not happen any more.
    s.seed(
        "anthill:host:cut",
        hash(&[
            ("epoch", "3"),
            ("node", ""),
            ("reason", "reset"),
            ("since", "1700000000900"),
        ])
        .unwrap(),
    );
    s.seed("anthill:node:n1:hosts", Dump::Set(owned(&["cut", "whole"])));
    s.seed("exists", Dump::Set(owned(&["cut", "whole"])));
    s.seed("cut_systemInfo", Dump::Set(owned(&["name"])));
    let told = events(&mut s).len();

    let hosts = held(&mut s, true);
    assert!(hosts["whole"].ours);
    assert!(hosts.get("cut").is_none_or(|cut| !cut.ours));
    assert_eq!(key(&mut s, "exists"), set(&["whole"]));
    assert_eq!(key(&mut s, "anthill:node:n1:hosts"), set(&["whole"]));
    assert_eq!(key(&mut s, "cut_systemInfo"), None);
    assert_eq!(events(&mut s).len(), told + 1);
    assert_eq!(
        last_event(&mut s, &["event", "host", "reason", "node"]),
        ["offline", "cut", "reset", NODE]
    );
    // Once and for all.
    held(&mut s, true);
    assert_eq!(events(&mut s).len(), told + 1);
}

pub fn a_start_undoes_or_adopts_an_interrupted_online(open: &mut Factory<'_>) {
    let mut s = open(settings());
    s.seed("anthill:node:n1:hosts", Dump::Set(owned(&["cut", "old"])));
    s.seed("exists", Dump::Set(owned(&["old"])));
    let hosts = held_in_order(&mut s, true);
    let names: Vec<_> = hosts
        .iter()
        .map(|h| (h.host.as_str(), h.ours, h.epoch))
        .collect();
    assert_eq!(names, [("old", true, 0)]);
    assert_eq!(key(&mut s, "anthill:node:n1:hosts"), set(&["old"]));
    assert_eq!(
        settle(&mut s, offline("old", 0, Some(1))),
        Settled::Released
    );
    assert_eq!(key(&mut s, "exists"), None);
    assert_eq!(key(&mut s, "anthill:node:n1:hosts"), None);
}

pub fn a_host_another_node_took_leaves_our_set(open: &mut Factory<'_>) {
    let mut s = open(settings());
    settle(&mut s, online("a", Some(1)));
    drop(s);
    let mut s = open(Settings {
        node: "n2".into(),
        ..settings()
    });
    settle(&mut s, online("a", Some(1)));
    drop(s);
    let mut s = open(settings());
    assert!(held(&mut s, false).is_empty(), "it is none of ours");
    assert_eq!(key(&mut s, "anthill:node:n1:hosts"), None);
    assert_eq!(key(&mut s, "exists"), set(&["a"]));
    let hosts = held_in_order(&mut s, true);
    assert_eq!((hosts.len(), hosts[0].ours, hosts[0].epoch), (1, false, 2));
}

pub fn a_seen_orphan_is_adopted_once(open: &mut Factory<'_>) {
    let mut s = open(settings());
    // One that was offline for us, and that an older server has seen since.
    run(&mut s, &[online("a", Some(1)), offline("a", 1, Some(2))]);
    s.seed("exists", Dump::Set(owned(&["a", "b"])));
    // One that we hold, while all else that says so is lost.
    s.seed(
        "anthill:host:b",
        hash(&[("epoch", "4"), ("node", NODE), ("ip", "10.0.0.2")]).unwrap(),
    );
    let mut hosts = held_in_order(&mut s, true);
    hosts.sort_by(|x, y| x.host.cmp(&y.host));
    let told: Vec<_> = hosts
        .iter()
        .map(|h| (h.host.as_str(), h.ours, h.epoch, h.reason))
        .collect();
    assert_eq!(told, [("a", true, 0, None), ("b", true, 4, None)]);
    assert_eq!(hosts[1].peer, "10.0.0.2:0".parse().ok());
}

pub fn a_key_of_another_type_hides_no_other_host(open: &mut Factory<'_>) {
    let mut s = open(settings());
    let spoilt = || Dump::Text("spoilt".into());
    run(&mut s, &[online("a", None), online("b", None)]);
    s.seed("anthill:host:b", spoilt());
    s.seed("a_systemInfoIPV4", spoilt());
    let hosts = held(&mut s, true);
    assert!(hosts["a"].ours && hosts["a"].epoch == 1);
    assert!(
        hosts["b"].ours && hosts["b"].epoch == 0,
        "online for all to see, and nobody's"
    );
    for shared in ["anthill:seen", "exists"] {
        s.seed(shared, spoilt());
        assert!(held(&mut s, true)["a"].ours, "{shared}");
        s.sweep(UnixMs(1)).unwrap();
    }
    s.seed("anthill:node:n1:hosts", spoilt());
    assert!(held(&mut s, true).is_empty(), "nothing names anybody");
}

pub fn invalid_host_names_are_skipped(open: &mut Factory<'_>) {
    let mut s = open(settings());
    let long = "x".repeat(65);
    s.seed("exists", Dump::Set(owned(&["", "a b", "a", "ä", &long])));
    s.seed("anthill:seen", sorted(&[("b", 1.0), ("{b}", 2.0)]).unwrap());
    s.seed("anthill:node:n1:hosts", Dump::Set(owned(&["c/d"])));
    let names: Vec<String> = held(&mut s, true).into_keys().collect();
    assert_eq!(names, ["a", "b"]);
}

pub fn finished_records_expire(open: &mut Factory<'_>) {
    let mut s = open(Settings {
        keep: Span::from_millis(50),
        ..settings()
    });
    s.seed("AC1", sorted(&[("a", 1.0)]).unwrap());
    s.seed("AC1_response", Dump::Set(owned(&["h"])));
    s.seed("anthill:task:AC1", Dump::Text("{}".into()));
    s.seed("anthill:task:AC1:hosts", hash(&[("h", "sent")]).unwrap());
    s.seed("AC1_working", hash(&[("other", "a")]).unwrap());
    run(&mut s, &[online("a", None), online("b", None)]);
    settle(&mut s, offline("a", 1, None));
    store_all(&mut s, &[progress("h", 3, None, &["a"], &[])]);
    for name in [
        "anthill:host:a",
        "AC1",
        "AC1_response",
        "AC1_working",
        "AC1_complete",
        "AC1_h_complete",
        "anthill:task:AC1",
        "anthill:task:AC1:hosts",
    ] {
        until_gone(&mut s, name);
    }
    assert_eq!(fields(&mut s, "anthill:host:b")["node"], NODE);
    // What is over counts for nothing: the list begins anew, the host at its first epoch.
    store_all(&mut s, &[progress("h", 3, None, &["z"], &["y"])]);
    assert_eq!(key(&mut s, "AC1_h_complete"), list(&["z"]));
    assert_eq!(settle(&mut s, online("a", None)), Settled::claimed(1));
    drop(s);

    // A claim takes the end off the key it had been given while offline.
    let mut s = open(Settings {
        keep: Span::from_secs(3600),
        ..settings()
    });
    settle(&mut s, offline("a", 1, None));
    settle(&mut s, online("a", None));
    s.sweep(UnixMs(u64::MAX / 4)).unwrap();
    assert_eq!(fields(&mut s, "anthill:host:a")["epoch"], "2");
}

pub fn old_last_seen_times_are_swept(open: &mut Factory<'_>) {
    let mut s = open(Settings {
        keep: Span::from_secs(10),
        ..settings()
    });
    let now = 1_700_000_000_000;
    let seen = [("old", now - 10_001), ("kept", now - 9_999), ("new", now)];
    run(
        &mut s,
        &[Op::Seen(seen.map(|(h, at)| (host(h), UnixMs(at))).to_vec())],
    );
    s.sweep(UnixMs(now)).unwrap();
    assert_eq!(
        key(&mut s, "anthill:seen"),
        sorted(&[("kept", (now - 9_999) as f64), ("new", now as f64)])
    );
}

pub fn the_lease_is_taken_renewed_and_given_up(open: &mut Factory<'_>) {
    let mut s = open(settings());
    let name = "anthill:node:n1";
    assert_eq!(s.has_node(), Ok(false));
    assert_eq!(s.lease(false), Ok(Lease::Taken));
    assert_eq!(s.has_node(), Ok(true));
    assert_eq!(s.lease(false), Ok(Lease::Ours));
    assert_eq!(key(&mut s, "anthill:nodes"), set(&[NODE]));
    let ours = key(&mut s, name);
    assert!(matches!(&ours, Some(Dump::Text(number)) if !number.is_empty()));

    s.release_lease().unwrap();
    assert_eq!(key(&mut s, name), None);
    s.release_lease().unwrap();
    assert_eq!(s.lease(false), Ok(Lease::Taken));
    // Another's is not given up by us, but taken from it by force.
    s.seed(name, Dump::Text("another".into()));
    s.release_lease().unwrap();
    assert_eq!(key(&mut s, name), Some(Dump::Text("another".into())));
    assert_eq!(s.lease(true), Ok(Lease::Taken));
    assert_eq!(key(&mut s, name), ours);
}

pub fn a_task_that_was_never_stored_expires(open: &mut Factory<'_>) {
    let mut s = open(Settings {
        keep: Span::from_millis(50),
        ..settings()
    });
    let report = || unknown(progress("h", 3, None, &["a"], &["b"]));
    let began = || unknown(progress("h", 2, Some("b"), &["a"], &["b"]));
    store_all(&mut s, &[report(), began()]);
    let told = events(&mut s).len();
    let Op::Progress(op) = unknown(progress("i", 1, None, &[], &["b"])) else {
        panic!("a report");
    };
    let silent = Progress {
        silent: true,
        ..*op
    };
    store_all(&mut s, &[Op::Progress(Box::new(silent))]);
    assert_eq!(events(&mut s).len(), told, "without an event of its own");
    let own = ["AC1_h_oncall", "AC1_h_complete"];
    let shared = ["AC1_working", "AC1_oncall", "AC1_complete"];
    for name in own.into_iter().chain(shared) {
        until_gone(&mut s, name);
    }
    // The task of another host is left alone by one that has no part in it.
    s.seed("anthill:task:AC1", Dump::Text("{}".into()));
    s.seed(
        "anthill:task:AC1:hosts",
        hash(&[("other", "working")]).unwrap(),
    );
    s.seed("AC1_working", hash(&[("other", "a")]).unwrap());
    store_all(&mut s, &[report(), began()]);
    for name in own {
        until_gone(&mut s, name);
    }
    assert_eq!(fields(&mut s, "AC1_working")["other"], "a");
    // A host that is named is not unknown to the store, whatever the core says.
    s.seed("anthill:task:AC1:hosts", hash(&[("h", "working")]).unwrap());
    store_all(
        &mut s,
        &[report(), unknown(progress("g", 3, None, &["a"], &["b"]))],
    );
    until_gone(&mut s, "AC1_g_complete");
    assert_eq!(key(&mut s, "AC1_h_complete"), list(&["a"]));
}
