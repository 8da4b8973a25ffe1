//! Surveys of the fleet: counts, columns, and their slices.

use super::*;
use crate::handlers::survey::{Columns, GroupCount, Grouping, Summary, Survey, state_name};
use crate::handlers::view::{Filter, PageStart};
use crate::limits::{FLEET_HOSTS_MAX, HOSTS_PER_STEP_MAX, LISTINGS_MAX, SURVEYS_MAX, WALK_S_MAX};

const NETWORK: Survey = Survey::Summary {
    by: Grouping::Network,
    target: None,
};

fn columns(cursor: u64) -> Survey {
    Survey::Columns {
        by: vec![Grouping::Network],
        target: None,
        cursor,
        limit: FLEET_HOSTS_MAX,
    }
}

impl World {
    fn summary(&mut self) -> Summary {
        match self.asked(request::Request::Survey(NETWORK)) {
            request::Response::Summary(summary) => *summary,
            other => panic!("{other:?}"),
        }
    }

    fn columns(&mut self, cursor: u64) -> Columns {
        match self.asked(request::Request::Survey(columns(cursor))) {
            request::Response::Columns(columns) => *columns,
            other => panic!("{other:?}"),
        }
    }
}

fn group(name: &str, online: u64, offline: u64) -> GroupCount {
    GroupCount {
        name: name.to_owned(),
        online,
        offline,
    }
}

#[test]
fn a_summary_counts_states_groups_and_losses() {
    let mut world = World::new();
    assert_eq!(world.summary().groups, []);
    let quiet = world.plain("10.0.1.1");
    world.pass(20_000);
    let leaves = world.plain("10.0.1.2");
    world.plain("10.0.2.1");
    world.plain("[2001:db8::7]");
    world.end(leaves, End::Closed);
    world.pass(2_000);
    let summary = world.summary();
    assert_eq!(summary.states.iter().sum::<u64>(), 4);
    assert_eq!(summary.states[0], 3);
    let closed = summary.states.iter().rposition(|count| *count == 1);
    assert_eq!(closed.map(state_name), Some("closed"));
    assert_eq!(summary.offlines.iter().sum::<u64>(), 1);
    assert_eq!(summary.lost_lately, 1);
    assert_eq!(
        summary.groups,
        [
            group("10.0.1.0/24", 1, 1),
            group("10.0.2.0/24", 1, 0),
            group("2001:db8::/64", 1, 0)
        ]
    );
    assert_eq!(summary.rest, None);
    let silent: Vec<_> = summary
        .silent
        .iter()
        .map(|(host, s)| (host.as_str(), *s))
        .collect();
    assert_eq!(silent[0], ("10.0.1.1", 22));
    assert_eq!(silent.len(), 3);
    world.beat(quiet);
    world.pass(3_600_000);
    assert_eq!(world.summary().states[0], 0);
}

#[test]
fn columns_have_every_host_once() {
    let mut world = World::new();
    for ip in ["10.0.2.1", "10.0.1.1", "10.0.2.2"] {
        world.plain(ip);
    }
    let gone = world.plain("10.0.3.1");
    world.end(gone, End::Reset);
    world.pass(5_000);
    let page = world.columns(0);
    let rows: Vec<_> = (0..page.ids.len())
        .map(|row| {
            let level = &page.levels[0];
            let name = level.names[level.places[row] as usize].as_str();
            let state = state_name(page.states[row] as usize);
            (page.ids[row].as_str(), state, page.silences[row], name)
        })
        .collect();
    assert_eq!(
        rows,
        [
            ("10.0.2.1", "online", Some(5), "10.0.2.0/24"),
            ("10.0.1.1", "online", Some(5), "10.0.1.0/24"),
            ("10.0.2.2", "online", Some(5), "10.0.2.0/24"),
            ("10.0.3.1", "reset", Some(5), "10.0.3.0/24"),
        ]
    );
    assert_eq!(page.next, None);
    assert_eq!(world.columns(2).ids.len(), 2);
    assert_eq!(world.columns(u64::MAX).ids.len(), 0);
    let some = Survey::Columns {
        by: Vec::new(),
        target: None,
        cursor: 1,
        limit: 2,
    };
    let request::Response::Columns(some) = world.asked(request::Request::Survey(some)) else {
        panic!("it is answered");
    };
    assert_eq!((some.ids.len(), some.next), (2, Some(3)));
}

#[test]
fn a_survey_of_many_hosts_takes_steps() {
    let mut world = World::new();
    let many = HOSTS_PER_STEP_MAX + 200;
    for n in 0..many {
        world.plain(&format!("10.{}.{}.1", n / 250, n % 250));
    }
    let begin = |world: &mut World, requester: u64| {
        let request = request::Request::Survey(NETWORK);
        let _ = world.input(Input::Request { requester, request });
    };
    begin(&mut world, 900_001);
    assert!(world.core.has_jobs(), "a step is not enough");
    assert_eq!(world.answer_to(900_001), None);
    world.finish_jobs();
    let Some(request::Response::Summary(summary)) = world.answer_to(900_001) else {
        panic!("it is answered");
    };
    assert_eq!(summary.states[0], many as u64);
    let (count, rest) = summary.rest.clone().unwrap();
    assert_eq!(count as usize + summary.groups.len(), many);
    assert_eq!(rest.online as usize + summary.groups.len(), many);
    for requester in 0..=SURVEYS_MAX as u64 {
        begin(&mut world, 910_000 + requester);
    }
    let refused = error(world.answer_to(910_000 + SURVEYS_MAX as u64).unwrap());
    assert_eq!(refused.0, ErrorKind::NotNow);
    let (at, mut fx) = (world.at(), Effects::default());
    world.core.shutdown(at, false, &mut fx);
    world.take(fx);
    for requester in 0..SURVEYS_MAX as u64 {
        let answer = world.answer_to(910_000 + requester).unwrap();
        assert_eq!(error(answer).0, ErrorKind::NotNow, "{requester}");
    }
}

#[test]
fn a_survey_of_a_target_has_its_hosts_alone() {
    let mut world = World::new();
    for ip in ["10.0.1.1", "10.0.1.2", "10.0.2.1"] {
        world.plain(ip);
    }
    let ask = |world: &mut World, target: &str, cursor: u64| {
        world.asked(request::Request::Survey(Survey::Columns {
            by: vec![Grouping::Label("sys.state".into()), Grouping::Network],
            target: Some(target.into()),
            cursor,
            limit: FLEET_HOSTS_MAX,
        }))
    };
    let request::Response::Columns(page) = ask(&mut world, "10.0.1.0/24,sys.state=online", 0)
    else {
        panic!("it is answered");
    };
    let ids: Vec<_> = page.ids.iter().map(HostId::as_str).collect();
    assert_eq!(ids, ["10.0.1.1", "10.0.1.2"]);
    assert_eq!(page.levels[0].names, ["online"]);
    assert_eq!(page.levels[1].names, ["10.0.1.0/24"]);
    let request::Response::Columns(page) = ask(&mut world, "10.0.*", 1) else {
        panic!("it is answered");
    };
    assert_eq!(page.ids.len(), 2, "from the cursor on");
    for (target, part) in [
        ("10.0.1.9", "'10.0.1.9'"),
        ("@x", "'@x'"),
        ("a,,b", "empty term"),
    ] {
        let (kind, text) = error(ask(&mut world, target, 0));
        assert_eq!(kind, ErrorKind::Wrong, "{target}");
        assert!(text.contains(part), "{text}");
    }
    let summary = Survey::Summary {
        by: Grouping::Label("role".into()),
        target: Some("10.0.2.*".into()),
    };
    let request::Response::Summary(summary) = world.asked(request::Request::Survey(summary)) else {
        panic!("it is answered");
    };
    assert_eq!(summary.states[0], 1);
    assert_eq!(summary.groups, [group("", 1, 0)]);
}

#[test]
fn withdrawn_surveys_make_room_for_others() {
    let mut world = World::new();
    for n in 0..HOSTS_PER_STEP_MAX + 1 {
        world.plain(&format!("10.{}.{}.1", n / 250, n % 250));
    }
    let listing = request::Request::Hosts {
        target: Some("all".into()),
        node: None,
        filter: Filter::default(),
        start: PageStart::Slot(0),
        limit: 1_000,
    };
    let reads = [
        (request::Request::Survey(NETWORK), SURVEYS_MAX),
        (listing, LISTINGS_MAX),
    ];
    for (base, (read, max)) in [910_000, 920_000].into_iter().zip(reads) {
        let end = base + max as u64;
        let begin = |world: &mut World, requester: u64| {
            let request = read.clone();
            let _ = world.input(Input::Request { requester, request });
        };
        (base..=end).for_each(|requester| begin(&mut world, requester));
        let refused = world.answer_to(end).expect("there is no room");
        assert_eq!(error(refused).0, ErrorKind::NotNow);
        for requester in base..end {
            world.core.withdraw(world.at(), requester);
        }
        assert!(!world.core.has_jobs(), "nothing goes on: {read:?}");
        begin(&mut world, end + 1);
        world.finish_jobs();
        let answer = world.answer_to(end + 1).expect("it is answered");
        assert!(!matches!(answer, request::Response::Error { .. }));
        assert_eq!(world.answer_to(base), None);
    }
}

#[test]
fn a_survey_has_a_deadline() {
    let mut world = World::new();
    for n in 0..2 * HOSTS_PER_STEP_MAX + 1 {
        world.plain(&format!("10.{}.{}.1", n / 250, n % 250));
    }
    let request = request::Request::Survey(NETWORK);
    let _ = world.input(Input::Request {
        requester: 5,
        request,
    });
    // No turn has come for as long.
    world.ms += WALK_S_MAX * 1_000;
    world.finish_jobs();
    let answer = world.answer_to(5).expect("it is answered");
    assert_eq!(error(answer).0, ErrorKind::NotNow);
}
