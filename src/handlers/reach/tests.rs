//! Conversations with simulated targets, with their times.

use super::*;
use crate::limits::OUTSIDE_OPS_MAX;
use crate::store::op::Op;

fn rules(text: &str, way: Way, wants_answer: bool) -> TargetRules {
    TargetRules {
        text: text.to_owned(),
        way,
        addr: "127.0.0.1:22".parse().unwrap(),
        wants_answer,
    }
}

fn tcp(text: &str) -> TargetRules {
    rules(text, Way::Tcp, false)
}

fn at(ms: u64) -> Moment {
    Moment {
        now: Instant::ZERO + Span::from_millis(ms),
        wall: UnixMs(1_000_000 + ms),
    }
}

const PERIOD: Span = Span::from_secs(10);

fn targets(rules: Vec<TargetRules>) -> (Targets, Wishes) {
    let (mut targets, mut out) = (Targets::default(), Wishes::default());
    targets.set(at(0), PERIOD, rules, &mut out);
    (targets, out)
}

/// Ticks every millisecond up to `until`, with the horizon at the clock, and returns the dials.
fn pass(targets: &mut Targets, out: &mut Wishes, from: u64, until: u64) -> Vec<(u64, Link)> {
    let mut dials = Vec::new();
    for ms in from..=until {
        targets.tick(at(ms).now, at(ms), out);
        dials.extend(out.acts.drain(..).filter_map(|act| match act {
            Act::Dial { link, .. } => Some((ms, link)),
            _ => None,
        }));
    }
    dials
}

fn told(out: &mut Wishes) -> Vec<&'static str> {
    let news = out.news.drain(..).map(|news| match news {
        News::Target { state, .. } => state,
        News::Device { .. } => panic!("there is no device"),
    });
    news.collect()
}

const TOOK: Span = Span::from_micros(1_500);

#[test]
fn a_target_is_probed_every_period() {
    let (mut targets, mut out) = targets(vec![tcp("a")]);
    let dials = pass(&mut targets, &mut out, 1, 5);
    let [(_, first)] = dials[..] else {
        panic!("{dials:?}")
    };
    targets.fate(at(5), first, Fate::Connected { took: TOOK }, &mut out);
    assert!(
        matches!(out.acts[..], [Act::Hang { .. }]),
        "it is only a look"
    );
    let view = targets.get("a").unwrap();
    assert_eq!(
        (view.state, view.rtt, view.since),
        (State::Up, Some(TOOK), UnixMs(1_000_005))
    );
    let dials = pass(&mut targets, &mut out, 6, 10_100);
    let [(when, second)] = dials[..] else {
        panic!("{dials:?}")
    };
    assert!((10_000..10_010).contains(&when), "{when}");
    targets.fate(at(10_100), second, Fate::Connected { took: TOOK }, &mut out);
    assert_eq!(told(&mut out), ["up"]);
    let [(_, third)] = pass(&mut targets, &mut out, 10_101, 20_100)[..] else {
        panic!("a third time")
    };
    let failure = Failure::Refused;
    let took = TOOK;
    targets.fate(at(20_100), second, Fate::Connected { took }, &mut out);
    targets.fate(at(20_100), third, Fate::Ended { failure, took }, &mut out);
    assert_eq!(told(&mut out), ["refused"]);
    assert_eq!(targets.get("a").unwrap().rtt, Some(TOOK));
}

#[test]
fn silence_is_down_except_for_plain_datagrams() {
    let udp = |text, answer| rules(text, Way::Udp, answer);
    let (mut targets, mut out) = targets(vec![
        tcp("a"),
        udp("b", false),
        udp("c", true),
        udp("d", true),
    ]);
    let dials = pass(&mut targets, &mut out, 1, 2_900);
    assert_eq!(dials.len(), 4);
    assert!(told(&mut out).is_empty());
    let bytes = &b"x"[..];
    let last = dials.iter().find(|(_, link)| link.slot == 3).unwrap().1;
    targets.fate(at(2_900), last, Fate::Bytes { bytes, took: TOOK }, &mut out);
    pass(&mut targets, &mut out, 2_901, 3_100);
    let mut news = told(&mut out);
    news.sort_unstable();
    assert_eq!(news, ["down", "down", "up", "up"]);
    let states: Vec<_> = targets.iter().map(|view| (view.state, view.rtt)).collect();
    let silent = |state| (state, None);
    assert_eq!(
        states,
        [
            silent(State::Down),
            silent(State::Up),
            silent(State::Down),
            (State::Up, Some(TOOK))
        ]
    );
    assert_eq!((targets.stats().up, targets.stats().down), (2, 2));
}

#[test]
fn silence_is_judged_by_the_horizon() {
    let (mut targets, mut out) = targets(vec![tcp("a"), tcp("b")]);
    let dials = pass(&mut targets, &mut out, 1, 5);
    let failure = Failure::NoRoom;
    targets.fate(
        at(6),
        dials[1].1,
        Fate::Ended {
            failure,
            took: TOOK,
        },
        &mut out,
    );
    for ms in 7..9_000 {
        targets.tick(at(2_000).now, at(ms), &mut out);
    }
    assert!(told(&mut out).is_empty());
    targets.tick(at(4_000).now, at(9_002), &mut out);
    assert_eq!(told(&mut out), ["down"]);
}

#[test]
fn concurrent_probes_are_bounded() {
    let many = (0..REACH_PROBES_MAX + 10).map(|n| tcp(&n.to_string()));
    let (mut targets, mut out) = targets(many.collect());
    let mut turn = |ms| {
        targets.tick(at(ms).now, at(ms), &mut out);
        let dials = out
            .acts
            .iter()
            .filter(|act| matches!(act, Act::Dial { .. }));
        let count = dials.count();
        out.acts.clear();
        count
    };
    assert_eq!(turn(2), DIALS_PER_TURN_MAX);
    let rest: usize = (3..200).map(&mut turn).sum();
    assert_eq!(rest, REACH_PROBES_MAX - DIALS_PER_TURN_MAX);
    let late: usize = (200..4_000).map(&mut turn).sum();
    assert_eq!(late, 10);
}

#[test]
fn states_are_written_and_removed() {
    let (mut targets, mut out) = targets(vec![tcp("a"), tcp("b")]);
    let mut ops = Vec::new();
    targets.pull(at(1), Some(1), &mut ops);
    let [Op::Outside(op)] = &ops[..] else {
        panic!("{ops:?}")
    };
    assert!(op.whole && op.set.is_empty(), "nothing is known");
    ops.clear();
    let dials = pass(&mut targets, &mut out, 1, 5);
    for (_, link) in dials {
        targets.fate(at(5), link, Fate::Connected { took: TOOK }, &mut out);
    }
    targets.pull(at(6), Some(1), &mut ops);
    assert!(ops.is_empty(), "it is gathered for a moment");
    targets.pull(at(300), Some(1), &mut ops);
    let [Op::Outside(op)] = &ops[..] else {
        panic!("{ops:?}")
    };
    assert!(!op.whole);
    let json = r#"{"at":1000005,"rtt_ms":1.5,"since":1000005,"state":"up"}"#;
    assert_eq!(
        op.set,
        [
            ("a".to_owned(), json.to_owned()),
            ("b".to_owned(), json.to_owned())
        ]
    );
    targets.set(at(300), PERIOD, vec![tcp("b")], &mut out);
    ops.clear();
    targets.pull(at(600), Some(1), &mut ops);
    let [Op::Outside(op)] = &ops[..] else {
        panic!("{ops:?}")
    };
    assert_eq!((&op.removed[..], op.set.len()), (&["a".to_owned()][..], 0));
}

#[test]
fn every_changing_target_is_written() {
    const MANY: usize = 4 * OUTSIDE_OPS_MAX;
    let all = (0..MANY).map(|n| tcp(&n.to_string())).collect();
    let (mut targets, mut out) = targets(all);
    let mut written = std::collections::BTreeSet::new();
    targets.pull(at(0), Some(1), &mut Vec::new());
    for ms in 1..1_000 {
        for (_, link) in pass(&mut targets, &mut out, ms, ms) {
            targets.fate(at(ms), link, Fate::Connected { took: TOOK }, &mut out);
        }
        let changed = 0..MANY as u32;
        changed.for_each(|slot| targets.pen.changed(slot, at(ms).now));
        let mut ops = Vec::new();
        targets.pull(at(ms), Some(1), &mut ops);
        for op in ops {
            let Op::Outside(op) = op else {
                panic!("{op:?}")
            };
            assert!(op.set.len() <= OUTSIDE_OPS_MAX);
            written.extend(op.set.into_iter().map(|(target, _)| target));
        }
    }
    assert_eq!(written.len(), MANY);
}

#[test]
fn a_shorter_period_holds_at_once() {
    let (mut targets, mut out) = targets(vec![tcp("a")]);
    let dials = pass(&mut targets, &mut out, 1, 5);
    targets.fate(at(5), dials[0].1, Fate::Connected { took: TOOK }, &mut out);
    targets.set(at(10), Span::from_millis(100), vec![tcp("a")], &mut out);
    assert_eq!(pass(&mut targets, &mut out, 11, 120).len(), 1);
}
