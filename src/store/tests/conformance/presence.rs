//! Cases of presence: claims, inventories, last-seen times, notices.

use std::net::SocketAddr;

use super::*;
use crate::store::op::{AuditRecord, Hold, Notice, Online, Outside, Place};

pub fn coming_online_claims_the_host(open: &mut Factory<'_>) {
    let mut s = open(settings());
    assert_eq!(settle(&mut s, online("a", Some(5))), Settled::claimed(1));
    let claim = fields(&mut s, "anthill:host:a");
    for (field, value) in [
        ("epoch", "1"),
        ("node", NODE),
        ("id", "a"),
        ("ip", "10.0.0.1"),
        ("port", "4711"),
        ("since", "1700000000000"),
    ] {
        assert_eq!(claim.get(field).map(String::as_str), Some(value), "{field}");
    }
    assert_eq!(key(&mut s, "exists"), set(&["a"]));
    assert_eq!(key(&mut s, "anthill:node:n1:hosts"), set(&["a"]));
    assert!(matches!(key(&mut s, "anthill:seen"), Some(Dump::Sorted(e)) if e[0].0 == "a"));
    assert_eq!(
        last_event(
            &mut s,
            &["event", "host", "at", "node", "seq", "reason", "key"]
        ),
        ["online", "a", "1700000000005", NODE, "5", "-", "-"]
    );

    // Written again: a higher epoch, and nothing to tell.
    assert_eq!(settle(&mut s, online("a", None)), Settled::claimed(2));
    assert_eq!(key(&mut s, "exists"), set(&["a"]));
    assert_eq!(events(&mut s).len(), 1);
}

pub fn going_offline_gives_up_the_claim(open: &mut Factory<'_>) {
    let mut s = open(settings());
    let mapped: SocketAddr = "[::ffff:10.0.0.9]:1".parse().unwrap();
    let Op::Online(mut op) = online("a", Some(1)) else {
        unreachable!()
    };
    op.peer = mapped;
    run(&mut s, &[Op::Online(op), online("b", Some(2))]);
    assert_eq!(fields(&mut s, "anthill:host:a")["ip"], "10.0.0.9");
    store_all(&mut s, &[inventory("a", &["name", "mac"], &["10.0.0.9"])]);

    assert_eq!(settle(&mut s, offline("a", 1, Some(3))), Settled::Released);
    let left = fields(&mut s, "anthill:host:a");
    for (field, value) in [
        ("node", ""),
        ("reason", "timeout"),
        ("since", "1700000000500"),
        ("epoch", "1"),
    ] {
        assert_eq!(left.get(field).map(String::as_str), Some(value), "{field}");
    }
    assert_eq!(key(&mut s, "exists"), set(&["b"]));
    assert_eq!(key(&mut s, "anthill:node:n1:hosts"), set(&["b"]));
    assert_eq!(key(&mut s, "a_systemInfo"), None);
    assert_eq!(key(&mut s, "a_systemInfoIPV4"), None);
    assert_eq!(
        last_event(&mut s, &["event", "host", "reason", "node", "seq"]),
        ["offline", "a", "timeout", NODE, "3"]
    );

    // Again: the claim is no longer ours, and no event is repeated.
    assert_eq!(settle(&mut s, offline("a", 1, Some(4))), Settled::NotOurs);
    assert_eq!(events(&mut s).len(), 3);

    // It comes back under a new epoch and no reason.
    assert_eq!(settle(&mut s, online("a", Some(5))), Settled::claimed(2));
    let back = fields(&mut s, "anthill:host:a");
    assert_eq!(back.get("reason").map_or("", String::as_str), "");
    assert_eq!(key(&mut s, "exists"), set(&["a", "b"]));
}

pub fn a_late_offline_does_nothing(open: &mut Factory<'_>) {
    let mut s = open(settings());
    run(&mut s, &[online("a", Some(1)), online("a", None)]);
    assert_eq!(settle(&mut s, offline("a", 1, Some(2))), Settled::NotOurs);
    assert_eq!(key(&mut s, "exists"), set(&["a"]));
    assert_eq!(
        key(&mut s, "anthill:node:n1:hosts"),
        set(&["a"]),
        "still ours"
    );
    assert_eq!(fields(&mut s, "anthill:host:a")["node"], NODE);
    assert_eq!(events(&mut s).len(), 1);
    // Epoch 0 ends any claim of ours.
    assert_eq!(settle(&mut s, offline("a", 0, Some(3))), Settled::Released);
    assert_eq!(key(&mut s, "exists"), None);
}

pub fn a_host_of_another_node_is_not_changed(open: &mut Factory<'_>) {
    let mut s = open(settings());
    settle(&mut s, online("a", Some(1)));
    drop(s);
    let mut s = open(Settings {
        node: "n2".into(),
        ..settings()
    });
    assert_eq!(
        settle(&mut s, online("a", Some(1))),
        Settled::Claimed {
            epoch: 2,
            moved: true,
            restarted: false,
            keyed: false,
        }
    );
    drop(s);

    let mut s = open(settings());
    for epoch in [1, 2, 0] {
        assert_eq!(
            settle(&mut s, offline("a", epoch, Some(2))),
            Settled::Foreign { is_free: false }
        );
    }
    assert_eq!(key(&mut s, "exists"), set(&["a"]));
    assert_eq!(fields(&mut s, "anthill:host:a")["node"], "n2");
    assert_eq!(key(&mut s, "anthill:node:n1:hosts"), None);
    assert_eq!(key(&mut s, "anthill:node:n2:hosts"), set(&["a"]));
    let hosts = held(&mut s, true);
    assert!(
        !hosts["a"].ours && hosts.len() == 1,
        "known, but another's: {hosts:?}"
    );
}

/// A node's host, held under `hold`.
fn held_as(name: &str, hold: Hold, event: Option<u64>) -> Op {
    match online(name, event) {
        Op::Online(op) => Op::Online(Box::new(Online { hold, ..*op })),
        other => other,
    }
}

pub fn a_renewal_takes_only_what_is_this_nodes(open: &mut Factory<'_>) {
    let mut s = open(settings());
    // What is stored (node and epoch), what is renewed, and what comes of it.
    let renew = |epoch| Hold::Renew { epoch };
    let keep = |epoch| Hold::Keep { epoch };
    let mine = |epoch| Settled::Renewed { epoch };
    let (taken, free) = (
        Settled::Foreign { is_free: false },
        Settled::Foreign { is_free: true },
    );
    let cases = [
        (None, renew(4), mine(4)),
        (Some(("n9", 3)), renew(4), mine(4)),
        (Some((NODE, 4)), renew(4), mine(4)),
        // Its answer was lost.
        (Some((NODE, 5)), renew(4), mine(5)),
        (Some(("n9", 4)), renew(4), taken.clone()),
        (Some(("n9", 5)), renew(4), taken.clone()),
        (Some(("", 4)), renew(4), Settled::Returned { epoch: 5 }),
        (Some(("", 5)), renew(4), free.clone()),
        // It is not connected: nothing is taken back.
        (Some((NODE, 4)), keep(4), mine(4)),
        (Some(("", 4)), keep(4), free),
        (Some(("n9", 4)), keep(4), taken.clone()),
        // Adopted.
        (None, keep(0), mine(1)),
        (Some(("", 4)), keep(0), mine(5)),
        (Some(("n9", 4)), keep(0), taken),
    ];
    for (number, (stored, hold, expected)) in cases.into_iter().enumerate() {
        let name = format!("h{number}");
        if let Some((node, epoch)) = stored {
            let fields = [("node", node), ("epoch", &*epoch.to_string())];
            s.seed(&format!("anthill:host:{name}"), hash(&fields).unwrap());
        }
        let result = settle(&mut s, held_as(&name, hold.clone(), None));
        assert_eq!(result, expected, "{stored:?}, {hold:?}");
        let is_ours = !matches!(result, Settled::Foreign { .. });
        for set in ["exists", "anthill:node:n1:hosts"] {
            let members = match key(&mut s, set) {
                Some(Dump::Set(members)) => members,
                _ => Vec::new(),
            };
            assert_eq!(members.contains(&name), is_ours, "{set}: {name}");
        }
        let node = fields(&mut s, &format!("anthill:host:{name}"))["node"].clone();
        assert_eq!(node == NODE, is_ours, "{name}");
    }
    assert_eq!(events(&mut s).len(), 0);
    // With an event it is told here, and nothing is left to be told.
    let again = [("node", ""), ("epoch", "4")];
    s.seed("anthill:host:x", hash(&again).unwrap());
    let result = settle(&mut s, held_as("x", Hold::Renew { epoch: 4 }, Some(7)));
    assert_eq!(result, Settled::Renewed { epoch: 5 });
    assert_eq!(
        last_event(&mut s, &["event", "host", "seq"]),
        ["online", "x", "7"]
    );
}

pub fn a_claim_says_what_it_found(open: &mut Factory<'_>) {
    let mut s = open(settings());
    let claim = |boot: Option<&str>| Hold::Claim {
        boot: boot.map(Into::into),
        silent_ms: 0,
    };
    let found = |epoch, moved, restarted| Settled::Claimed {
        epoch,
        moved,
        restarted,
        keyed: false,
    };
    let mut connects = |hold| settle(&mut s, held_as("a", hold, None));
    assert_eq!(connects(claim(Some("aa"))), found(1, false, false));
    assert_eq!(connects(claim(Some("aa"))), found(2, false, false));
    assert_eq!(connects(claim(None)), found(3, false, false));
    assert_eq!(connects(claim(Some("bb"))), found(4, false, true));
    let theirs = [
        ("node", "n9"),
        ("epoch", "6"),
        ("boot", "cc"),
        ("keyed", "1"),
    ];
    s.seed("anthill:host:a", hash(&theirs).unwrap());
    let result = settle(&mut s, held_as("a", claim(Some("dd")), None));
    let expected = Settled::Claimed {
        epoch: 7,
        moved: true,
        restarted: true,
        keyed: true,
    };
    assert_eq!(result, expected);
    assert_eq!(fields(&mut s, "anthill:host:a")["boot"], "dd");
}

pub fn a_host_the_old_server_left_can_go_offline(open: &mut Factory<'_>) {
    let mut s = open(settings());
    s.seed("exists", Dump::Set(owned(&["a", "b"])));
    s.seed("a_systemInfo", Dump::Set(owned(&["name"])));
    let hosts = held(&mut s, true);
    assert!(hosts["a"].ours && hosts["a"].epoch == 0);
    assert_eq!(settle(&mut s, offline("a", 0, Some(1))), Settled::Released);
    assert_eq!(key(&mut s, "exists"), set(&["b"]));
    assert_eq!(key(&mut s, "a_systemInfo"), None);
    assert_eq!(key(&mut s, "anthill:node:n1:hosts"), None);
    let left = fields(&mut s, "anthill:host:a");
    assert_eq!((&*left["node"], &*left["reason"]), ("", "timeout"));
    assert_eq!(settle(&mut s, offline("a", 0, Some(2))), Settled::NotOurs);
    assert_eq!(events(&mut s).len(), 1);
    // Only a host that is online can be ended without a claim.
    assert_eq!(settle(&mut s, offline("c", 0, Some(3))), Settled::NotOurs);
    assert_eq!(settle(&mut s, offline("c", 1, Some(3))), Settled::NotOurs);
    assert_eq!(key(&mut s, "exists"), set(&["b"]));
    assert_eq!(key(&mut s, "anthill:host:c"), None);
    // Online with its claim given up long ago, as an older server leaves it that runs beside us.
    s.seed("exists", Dump::Set(owned(&["a"])));
    assert_eq!(settle(&mut s, offline("a", 1, Some(4))), Settled::NotOurs);
    assert_eq!(settle(&mut s, offline("a", 0, Some(4))), Settled::Released);
    assert_eq!(key(&mut s, "exists"), None);
}

/// The store is lost_data, and before we have seen that an audit puts all in sight whom we hold. One
/// that goes then must not be shown online for ever: no claim leads back to it.
pub fn a_host_whose_claim_was_lost_can_go_offline(open: &mut Factory<'_>) {
    let mut s = open(settings());
    let hosts = [HostId::checked("a").unwrap(), HostId::checked("b").unwrap()];
    run(&mut s, &[Op::Audit(hosts.to_vec())]);
    assert_eq!(settle(&mut s, offline("a", 7, Some(1))), Settled::Released);
    assert_eq!(key(&mut s, "exists"), set(&["b"]));
    assert_eq!(key(&mut s, "anthill:node:n1:hosts"), None);
    assert_eq!(
        last_event(&mut s, &["event", "host", "seq"]),
        ["offline", "a", "1"]
    );
    assert_eq!(settle(&mut s, offline("a", 7, Some(2))), Settled::NotOurs);
}

pub fn an_interrupted_offline_is_finished_when_repeated(open: &mut Factory<'_>) {
    let mut s = open(settings());
    run(&mut s, &[online("a", Some(1)), online("b", Some(2))]);
    // The claim is given up, and nothing behind it is written.
    let claim = [("epoch", "1"), ("node", ""), ("reason", "reset")];
    s.seed("anthill:host:a", hash(&claim).unwrap());
    assert_eq!(settle(&mut s, offline("a", 1, Some(3))), Settled::Released);
    assert_eq!(key(&mut s, "exists"), set(&["b"]));
    assert_eq!(key(&mut s, "anthill:node:n1:hosts"), set(&["b"]));
    assert_eq!(
        last_event(&mut s, &["event", "host", "seq"]),
        ["offline", "a", "3"]
    );
    assert_eq!(settle(&mut s, offline("a", 1, Some(4))), Settled::NotOurs);
    assert_eq!(events(&mut s).len(), 3);
}

pub fn an_inventory_replaces_the_one_before(open: &mut Factory<'_>) {
    let mut s = open(settings());
    settle(&mut s, online("a", None));
    let first = inventory(
        "a",
        &["ant-1", "00:11", "more"],
        &["10.0.0.1", "10.0.0.2", "10.0.0.1"],
    );
    for _ in 0..2 {
        store_all(&mut s, std::slice::from_ref(&first));
        assert_eq!(
            key(&mut s, "a_systemInfo"),
            set(&["00:11", "ant-1", "more"])
        );
        assert_eq!(
            key(&mut s, "a_systemInfoIPV4"),
            list(&["10.0.0.1", "10.0.0.2", "10.0.0.1"])
        );
    }
    store_all(
        &mut s,
        &[inventory(
            "a",
            &["ant-2", "00:22"],
            &["10.0.0.3", "10.0.0.4"],
        )],
    );
    assert_eq!(key(&mut s, "a_systemInfo"), set(&["00:22", "ant-2"]));
    assert_eq!(
        key(&mut s, "a_systemInfoIPV4"),
        list(&["10.0.0.4", "10.0.0.3"]),
        "last first, as pushed to the left"
    );
    let claim = fields(&mut s, "anthill:host:a");
    assert_eq!(
        (&*claim["hostname"], &*claim["mac"], &*claim["node"]),
        ("ant-2", "00:22", NODE)
    );
    let found = held(&mut s, false).remove("a").unwrap();
    assert_eq!(found.addresses, owned(&["10.0.0.3", "10.0.0.4"]));
    assert_eq!(found.hostname.as_deref(), Some("ant-2"));
    assert_eq!(found.mac.as_deref(), Some("00:22"));

    store_all(&mut s, &[inventory("a", &[], &[])]);
    assert_eq!(key(&mut s, "a_systemInfo"), None);
    assert_eq!(key(&mut s, "a_systemInfoIPV4"), None);
}

pub fn an_inventory_does_not_change_a_foreign_claim(open: &mut Factory<'_>) {
    let mut s = open(settings());
    s.seed(
        "anthill:host:a",
        hash(&[("epoch", "4"), ("node", "n2")]).unwrap(),
    );
    store_all(&mut s, &[inventory("a", &["ant-1", "00:11"], &[])]);
    assert_eq!(
        key(&mut s, "anthill:host:a"),
        hash(&[("epoch", "4"), ("node", "n2")])
    );
    store_all(&mut s, &[inventory("b", &["ant-1", "00:11"], &[])]);
    assert_eq!(
        key(&mut s, "anthill:host:b"),
        None,
        "and makes none where there is none"
    );
}

pub fn last_seen_never_goes_back(open: &mut Factory<'_>) {
    let mut s = open(settings());
    let seen = |list: &[(&str, u64)]| {
        Op::Seen(list.iter().map(|(h, at)| (host(h), UnixMs(*at))).collect())
    };
    run(
        &mut s,
        &[seen(&[("a", 5), ("b", 7)]), seen(&[("a", 4), ("b", 9)])],
    );
    run(&mut s, &[seen(&[("b", 9)]), seen(&[])]);
    assert_eq!(
        key(&mut s, "anthill:seen"),
        sorted(&[("a", 5.0), ("b", 9.0)])
    );
}

pub fn an_audit_adds_missing_hosts(open: &mut Factory<'_>) {
    let mut s = open(settings());
    run(&mut s, &[online("a", None), online("b", None)]);
    s.seed("exists", Dump::Set(owned(&["b", "z"])));
    let audit = [Op::Audit(vec![host("a"), host("b")])];
    for _ in 0..2 {
        assert!(matches!(run(&mut s, &audit)[..], [Outcome::Audited]));
        assert_eq!(key(&mut s, "exists"), set(&["a", "b", "z"]));
    }
}

pub fn a_notice_is_an_event(open: &mut Factory<'_>) {
    let mut s = open(settings());
    let notice = |event, host: Option<&str>, reason: Option<&str>, count| {
        Op::Notice(Box::new(Notice {
            event,
            about: host.map(str::to_owned),
            state: None,
            reason: reason.map(str::to_owned),
            count,
            audit: None,
            stamp: stamp(8),
        }))
    };
    let ops = [
        notice("quarantine", Some("a"), Some("x and y"), None),
        notice("mass-offline", None, None, Some(21)),
    ];
    assert!(run(&mut s, &ops).is_empty(), "a notice has no outcome");
    let told = events(&mut s);
    assert_eq!(
        (&*told[0]["event"], &*told[0]["host"], &*told[0]["reason"]),
        ("quarantine", "a", "x and y")
    );
    assert_eq!(
        (&*told[1]["event"], &*told[1]["count"], &*told[1]["node"]),
        ("mass-offline", "21", NODE)
    );
    assert_eq!(told[1].get("reason"), None);
    assert_eq!(told[1]["host"], "", "it is about no host");
}

pub fn an_audit_has_its_fields(open: &mut Factory<'_>) {
    let mut s = open(settings());
    let record = AuditRecord {
        by: "ops".to_owned(),
        what: "POST /v1/tasks".to_owned(),
        key: Some("AC1".to_owned()),
        target: None,
        count: Some(3),
        result: "ok".to_owned(),
    };
    let op = Op::Notice(Box::new(Notice {
        event: "audit",
        about: None,
        state: None,
        reason: None,
        count: record.count,
        audit: Some(Box::new(record)),
        stamp: stamp(8),
    }));
    run(&mut s, &[op]);
    let told = events(&mut s).remove(0);
    for (field, expected) in [
        ("event", "audit"),
        ("host", ""),
        ("key", "AC1"),
        ("count", "3"),
        ("by", "ops"),
        ("what", "POST /v1/tasks"),
        ("result", "ok"),
    ] {
        assert_eq!(told[field], expected, "{field}");
    }
    assert_eq!(told.get("target"), None);
}

pub fn devices_and_targets_are_fields_of_hashes(open: &mut Factory<'_>) {
    let mut s = open(settings());
    let device = || Place::Device(host("bench-1"));
    let write = |place: Place, set: &[(&str, &str)], removed: &[&str]| {
        let mut op = Outside::of(place);
        set.iter().for_each(|(field, text)| op.set(field, *text));
        op.removed = owned(removed);
        Op::Outside(Box::new(op))
    };
    let ops = [
        write(
            device(),
            &[
                ("ASTZ", "SREM \r\n#1"),
                ("ASTZ.refused", "BS"),
                ("state", "up"),
            ],
            &["reason"],
        ),
        write(device(), &[("ASTZ", "STBY")], &["ASTZ.refused"]),
        write(Place::Reach, &[("10.0.0.1:22", "{}"), ("b", "{}")], &[]),
        write(Place::Reach, &[], &["b"]),
    ];
    for _ in 0..2 {
        assert!(run(&mut s, &ops).is_empty(), "they have no outcome");
        let fields = fields(&mut s, "anthill:ak:bench-1");
        let seen: Vec<_> = fields
            .iter()
            .map(|(f, v)| (f.as_str(), v.as_str()))
            .collect();
        assert_eq!(seen, [("ASTZ", "STBY"), ("state", "up")]);
        let reach = Dump::Hash(vec![("10.0.0.1:22".into(), "{}".into())]);
        assert_eq!(key(&mut s, "anthill:reach"), Some(reach));
    }
    let gone = Op::Outside(Box::new(Outside::gone(device())));
    assert!(run(&mut s, &[gone, write(device(), &[("AKON", "1")], &[])]).is_empty());
    assert_eq!(
        fields(&mut s, "anthill:ak:bench-1").len(),
        1,
        "it begins anew"
    );
    // A key of another kind is this operation's own trouble.
    s.seed("anthill:reach", Dump::Text("x".into()));
    let odd = [
        write(Place::Reach, &[("a", "{}")], &[]),
        write(device(), &[("AKON", "2")], &[]),
    ];
    assert!(run(&mut s, &odd).is_empty());
    assert_eq!(fields(&mut s, "anthill:ak:bench-1")["AKON"], "2");
}

pub fn only_offline_hosts_are_forgotten(open: &mut Factory<'_>) {
    let mut s = open(settings());
    let forget = |name| Op::Forget(host(name));
    let batch = [
        online("gone", Some(1)),
        offline("gone", 1, Some(2)),
        forget("gone"),
        online("back", Some(3)),
        offline("back", 1, Some(4)),
        online("back", Some(5)),
        forget("back"),
        forget("never"),
        online("after", Some(6)),
        offline("after", 1, Some(7)),
        forget("after"),
        online("after", Some(8)),
    ];
    run(&mut s, &batch);
    for (name, epoch) in [("gone", None), ("back", Some("2")), ("after", Some("1"))] {
        let key = key(&mut s, &format!("anthill:host:{name}"));
        assert_eq!(key.is_some(), epoch.is_some(), "{name}");
        if let Some(epoch) = epoch {
            assert_eq!(
                fields(&mut s, &format!("anthill:host:{name}"))["epoch"],
                epoch
            );
        }
    }
    let known: Vec<String> = held(&mut s, true).into_keys().collect();
    assert_eq!(known, ["after", "back"]);
}

pub fn labels_are_found_and_forgotten_with_their_host(open: &mut Factory<'_>) {
    let labels = |name: &str, place, text: Option<&str>| {
        Op::Labels(Box::new(Labels {
            ticket: TICKET,
            host: host(name),
            place,
            text: text.map(str::to_owned),
        }))
    };
    let (admin, own) = (r#"{"dc":"fra"}"#, r#"{"os":"x"}"#);
    let mut s = open(settings());
    run(
        &mut s,
        &[
            online("a", None),
            labels("a", LabelPlace::Admin, Some(admin)),
            labels("a", LabelPlace::Host, Some(own)),
            online("b", None),
            labels("b", LabelPlace::Admin, Some(admin)),
            labels("b", LabelPlace::Admin, None),
        ],
    );
    let hosts = held(&mut s, true);
    assert_eq!(hosts["a"].admin_labels.as_deref(), Some(admin));
    assert_eq!(hosts["a"].host_labels.as_deref(), Some(own));
    assert_eq!(
        (&hosts["b"].admin_labels, &hosts["b"].host_labels),
        (&None, &None)
    );
    assert_eq!(fields(&mut s, "anthill:labels")["a"], admin);
    run(&mut s, &[offline("a", 1, None), Op::Forget(host("a"))]);
    assert_eq!(key(&mut s, "anthill:labels"), None);
    s.seed("anthill:labels", Dump::Text("spoilt".to_owned()));
    let refused = run(
        &mut s,
        &[
            labels("b", LabelPlace::Admin, Some(admin)),
            online("c", None),
        ],
    );
    assert!(refusal(&refused[0]).is_some());
    assert!(held(&mut s, true).contains_key("c"));
}
