//! The time at which presence changes go to the store thread.

use super::super::flush_delay::FlushDelay;
use super::*;

/// A rig that has just sent a batch, so that the next one waits for the whole test.
fn waiting() -> (Rig, Peer) {
    let mut rig = Rig::new();
    rig.until(|rig| rig.reactor.driver.core().stats().store_sessions == 1);
    rig.settle();
    let later = rig.reactor.poller.now() + Span::from_secs(3_600);
    rig.reactor.mailbox.flush_delay().gone(later);
    let mut peer = rig.connect();
    peer.send(&frame(BEAT));
    rig.until(|rig| rig.reactor.stats.frames == 1);
    (rig, peer)
}

fn onlines(rig: &Rig) -> usize {
    let batches = rig.batches.try_iter();
    let ops = batches.flat_map(|batch| batch.ops);
    ops.filter(|op| matches!(op, Op::Online(_))).count()
}

#[test]
fn a_second_online_host_waits_for_the_batch() {
    let (mut rig, _peer) = waiting();
    assert!(rig.reactor.mailbox.flush_due().is_some());
    assert_eq!(onlines(&rig), 0);
    *rig.reactor.mailbox.flush_delay() = FlushDelay::default();
    rig.turn();
    assert_eq!(onlines(&rig), 1);
    assert_eq!(rig.reactor.mailbox.flush_due(), None);
}

#[test]
fn an_obsolete_batch_does_not_wake_the_loop() {
    let (mut rig, _peer) = waiting();
    assert!(rig.reactor.mailbox.flush_due().is_some());
    rig.tell(vec![Outcome::Unavailable("gone".to_owned())]);
    rig.until(|rig| !rig.reactor.driver.core().has_work());
    assert_eq!(
        rig.reactor.mailbox.flush_due(),
        None,
        "else it would never wait again"
    );
    assert_eq!(onlines(&rig), 0);
}

#[test]
fn a_report_takes_along_what_has_gathered() {
    let (mut rig, mut peer) = waiting();
    let report =
        r#"{"flag":"ADH27","code":"AC1","phase":1,"working":null,"complete":[],"oncall":["a"]}"#;
    peer.send(&frame(report));
    rig.until(|rig| rig.reactor.stats.frames == 2);
    assert_eq!(onlines(&rig), 1);
}
