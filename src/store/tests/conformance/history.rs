//! Cases of the history: transitions of hosts, and counts by minute.

use super::*;
use crate::store::op::history::{Counts, HOUR_MINUTES, Run};
use crate::store::op::{Found, HistoryRow, Question, Read, Transition, Was};

fn ask(s: &mut Box<dyn Subject>, question: Question) -> Found {
    let read = Read {
        ticket: 3,
        question,
    };
    match run(s, &[Op::Read(Box::new(read))]).pop() {
        Some(Outcome::Read { found, .. }) => found,
        other => panic!("not answered: {other:?}"),
    }
}

fn transitions(s: &mut Box<dyn Subject>, name: &str) -> Vec<u64> {
    let hosts = vec![host(name), host("nobody")];
    let Found::Transitions(found) = ask(s, Question::Transitions { hosts }) else {
        panic!("not transitions");
    };
    assert!(found[1].is_empty());
    found[0].iter().map(|one| one.at().0).collect()
}

fn past(times: impl IntoIterator<Item = u64>) -> Vec<Transition> {
    let one = |ms| Transition::new(UnixMs(ms), Was::Online);
    times.into_iter().map(one).collect()
}

fn with_past(op: Op, times: impl IntoIterator<Item = u64>) -> Op {
    match op {
        Op::Online(op) => Op::Online(Box::new(Online {
            history: past(times),
            ..*op
        })),
        Op::Offline(op) => Op::Offline(Box::new(Offline {
            history: past(times),
            ..*op
        })),
        other => other,
    }
}

pub fn transitions_are_added_once(open: &mut Factory<'_>) {
    let mut s = open(settings());
    run(&mut s, &[online("a", Some(1))]);
    assert_eq!(key(&mut s, "anthill:history:a"), None, "nothing was before");
    for _ in 0..2 {
        run(&mut s, &[with_past(online("a", None), [20, 10])]);
        assert_eq!(transitions(&mut s, "a"), [10, 20]);
    }
    let epoch = match settle(&mut s, online("a", None)) {
        Settled::Claimed { epoch, .. } => epoch,
        other => panic!("{other:?}"),
    };
    run(&mut s, &[with_past(offline("a", epoch, Some(2)), [20, 30])]);
    assert_eq!(transitions(&mut s, "a"), [10, 20, 30]);
    // The oldest make room, and the whole goes with the host.
    run(&mut s, &[with_past(online("a", Some(3)), 31..70)]);
    let kept = transitions(&mut s, "a");
    assert_eq!((kept.len(), kept[0], kept[31]), (32, 38, 69));
    let epoch = match settle(&mut s, online("a", None)) {
        Settled::Claimed { epoch, .. } => epoch,
        other => panic!("{other:?}"),
    };
    run(
        &mut s,
        &[offline("a", epoch, Some(4)), Op::Forget(host("a"))],
    );
    assert!(transitions(&mut s, "a").is_empty());
}

pub fn counts_by_minute_are_merged(open: &mut Factory<'_>) {
    let mut s = open(settings());
    let row = |hour: u64, counts: &[(usize, u32)], from: u64, to: u64| {
        let mut all: Counts = [None; HOUR_MINUTES];
        counts
            .iter()
            .for_each(|(minute, count)| all[*minute] = Some(*count));
        Op::History(Box::new(HistoryRow {
            hour,
            counts: Box::new(all),
            run: Run {
                from: UnixMs(from),
                to: UnixMs(to),
            },
        }))
    };
    let ops = [
        row(700, &[(0, 7)], 10, 20),
        row(1_000, &[(0, 1), (1, 2)], 10, 100),
        row(1_000, &[(1, 3)], 10, 110),
        // Another run in the same hour.
        row(1_000, &[(2, 4)], 200, 210),
    ];
    for _ in 0..2 {
        assert!(run(&mut s, &ops).is_empty(), "it has no outcome");
    }
    let Found::FleetHistory(history) = ask(&mut s, Question::FleetHistory { from: 0 }) else {
        panic!("no history");
    };
    let counts = history.online_from(60_000, 4);
    assert_eq!(counts, [Some(1), Some(3), Some(4), None]);
    let gaps = history.away(UnixMs(0), UnixMs(1_000));
    let gaps: Vec<_> = gaps.iter().map(|gap| (gap.from.0, gap.to.0)).collect();
    assert_eq!(gaps, [(110, 200)]);
    // Rows that are too old go with the first count of an hour.
    run(&mut s, &[row(1_421, &[(5, 5)], 200, 300)]);
    let fields = fields(&mut s, "anthill:history");
    let names: Vec<&str> = fields.keys().map(String::as_str).collect();
    assert_eq!(names, ["n1:1000", "n1:1421", "n1:runs"]);
}
