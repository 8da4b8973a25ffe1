//! The order in which a turn reads connections.

use std::cell::RefCell;
use std::rc::Rc;

use super::super::test_double::test_double;
use super::*;
use crate::limits::{TURN_SLICE_FEW, TURN_SLICE_US};

/// Admitted connections without a message.
fn newcomers(rig: &mut Rig, count: usize) -> Vec<Peer> {
    let before = rig.reactor.connections.table.len();
    let peers = (0..count).map(|_| rig.connect()).collect();
    rig.until(|rig| rig.reactor.connections.table.len() == before + count);
    peers
}

#[test]
fn known_hosts_are_read_before_newcomers() {
    let mut rig = Rig::new();
    let mut known = newcomers(&mut rig, 1).remove(0);
    known.send(&frame(BEAT));
    rig.until(|rig| rig.reactor.stats.frames == 1);
    let mut others = newcomers(&mut rig, 3);
    let order = Rc::new(RefCell::new(Vec::new()));
    let seen = Rc::clone(&order);
    let _stand_in = test_double(move |input, _| {
        if let Input::Message { conn, .. } = input {
            seen.borrow_mut().push(conn.slot);
        }
        None
    });
    for peer in &mut others {
        peer.send(&frame(BEAT));
    }
    known.send(&frame(BEAT_ASKING));
    rig.until(|rig| rig.reactor.stats.frames == 5);
    assert_eq!(order.borrow()[0], 0, "{order:?}");
    rig.until(|_| {
        assert!(known.take().is_none());
        known.replies() == 1
    });
    // They have sent a message, so they are no newcomers any more.
    for peer in others.iter_mut().chain([&mut known]).rev() {
        peer.send(&frame(BEAT));
    }
    rig.until(|rig| rig.reactor.stats.frames == 9);
    assert!(!rig.reactor.connections.has_ready());
}

#[test]
fn ending_connections_are_read_last() {
    const COUNT: u64 = 4;
    let mut rig = Rig::new();
    let mut peers = newcomers(&mut rig, COUNT as usize);
    for peer in &mut peers {
        peer.send(&frame(BEAT));
    }
    rig.until(|rig| rig.reactor.stats.frames == COUNT);
    let order = Rc::new(RefCell::new(Vec::new()));
    let seen = Rc::clone(&order);
    let _stand_in = test_double(move |input, _| {
        match input {
            Input::Message { conn, .. } => seen.borrow_mut().push(("beats", conn.slot)),
            Input::Ended { conn, .. } => seen.borrow_mut().push(("goes", conn.slot)),
            _ => {}
        }
        None
    });
    let mut stays = peers.pop().unwrap();
    drop(peers);
    stays.send(&frame(BEAT));
    rig.until(|rig| rig.reactor.connections.table.len() == 1);
    let order = order.borrow();
    assert_eq!(order[0], ("beats", 3), "{order:?}");
    assert_eq!(order.len() as u64, COUNT, "{order:?}");
}

#[test]
fn newcomers_beyond_a_slice_wait_a_turn() {
    const COUNT: usize = 60;
    let mut rig = Rig::new();
    let mut peers = newcomers(&mut rig, COUNT);
    // Each of them alone takes longer than a slice.
    let _stand_in = test_double(|input, _| {
        if let Input::Message { .. } = input {
            std::thread::sleep(Duration::from_micros(TURN_SLICE_US));
        }
        None
    });
    for peer in &mut peers {
        peer.send(&frame(BEAT));
    }
    let reached = rig.reactor.schedule.reached();
    let mut before = 0;
    rig.until(|rig| {
        let frames = rig.reactor.stats.frames;
        assert!(frames - before <= u64::from(TURN_SLICE_FEW));
        before = frames;
        let left = rig.reactor.connections.has_ready();
        assert!(!left || rig.reactor.schedule.reached() == reached);
        frames == COUNT as u64
    });
}

#[test]
fn a_turn_ends_with_its_budget() {
    const COUNT: usize = 60;
    let turns = |budget: Option<Span>| {
        let mut rig = Rig::with(|settings, _| settings.tuning.turn_budget = budget);
        let mut peers = newcomers(&mut rig, COUNT);
        let mut sent = 0;
        let mut most = 0;
        // The second round comes from hosts that are known.
        for _ in 0..2 {
            for peer in &mut peers {
                peer.send(&frame(BEAT));
            }
            sent += COUNT as u64;
            let mut before = rig.reactor.stats.frames;
            rig.until(|rig| {
                let frames = rig.reactor.stats.frames;
                most = most.max(frames - before);
                before = frames;
                frames == sent
            });
        }
        most
    };
    // The limit of a microsecond is over before the second connection: each part serves its
    // minimum.
    let queues = ReadQueue::ALL.len() as u64;
    let limited = turns(Some(Span::from_micros(1)));
    assert!(
        limited <= 1 + queues * u64::from(TURN_SLICE_FEW),
        "{limited}"
    );
    assert!(turns(None) > limited);
}

#[test]
fn half_a_message_proves_nothing() {
    let mut rig = Rig::new();
    let mut peers = newcomers(&mut rig, 2);
    let bytes = frame(BEAT);
    for byte in &bytes[..bytes.len() - 1] {
        let before = rig.reactor.stats.bytes_in;
        peers[0].send(&[*byte]);
        rig.until(|rig| rig.reactor.stats.bytes_in == before + 1);
    }
    let slots: Vec<bool> = (0..2).map(|slot| rig.is_unproven(slot)).collect();
    assert_eq!(slots, [true, true]);
    peers[0].send(&bytes[bytes.len() - 1..]);
    rig.until(|rig| rig.reactor.stats.frames == 1);
    let slots: Vec<bool> = (0..2).map(|slot| rig.is_unproven(slot)).collect();
    assert_eq!(slots, [false, true]);
}
