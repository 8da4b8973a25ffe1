//! The loop over real sockets, turned by the test, with a store that answers on request.

mod batches;
mod crowd;
mod traffic;

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant as SystemInstant};

use crossbeam_channel::{Receiver, Sender, bounded};

use super::connection::Flags;
use super::outbound::OutboundRules;
use super::proxy::ProxyRules;
use super::*;
use crate::codec::{Abnormal, ByteOrder, Framing};
use crate::control::HttpRules;
use crate::handlers::Rules;
use crate::handlers::request::Datagram;
use crate::ids::HostId;
use crate::limits::{
    FRAME_BYTES_MAX, FRAMES_PER_TURN_MAX, REPORTS_WAITING_MAX, SHUTDOWN_S_MAX, UNPROVEN_MIN,
    UNPROVEN_SILENT_MS,
};
use crate::store::op::{Batch, HeldHost, Op, Outcome, Reason, Settled};
use crate::time::UnixMs;

/// Time limit of every condition.
const TIMEOUT: Duration = Duration::from_secs(60);

const BEAT: &str = r#"{"flag":"ADH18","phase":1,"ACK":"keepAlive"}"#;
/// The length of the reply to [`BEAT_ASKING`], its header included.
const REPLY_BYTES: usize = 4 + r#"{"flag":"ADH18","ACK":"keepAlive"}"#.len();
const BEAT_ASKING: &str = r#"{"flag":"ADH18","phase":1,"ACK":"keepAlive","reply":true}"#;

/// A loop without a thread, and the far ends of its channels.
struct Rig {
    reactor: Reactor,
    bound: Bound,
    requests: Sender<HandleRequest>,
    batches: Receiver<Batch>,
    outcomes: Sender<Vec<Outcome>>,
}

impl Rig {
    fn new() -> Self {
        Self::with(|_, _| {})
    }

    fn with(change: impl FnOnce(&mut Settings, &mut Rules)) -> Self {
        let any = "127.0.0.1:0".parse().unwrap();
        let mut settings = Settings {
            tcp: any,
            udp: any,
            keepalive: Span::from_secs(30),
            connections: Some(100),
            connections_per_ip: None,
            tls: None,
            proxy: ProxyRules {
                from: Vec::new(),
                wait: Span::from_secs(10),
            },
            outside: OutboundRules::default(),
            tuning: Tuning {
                framing: Framing {
                    order: ByteOrder::Auto,
                    limit: FRAME_BYTES_MAX,
                },
                coalesce: Span::ZERO,
                turn_budget: None,
                offline_on_shutdown: false,
            },
        };
        let mut rules = Rules {
            timeout: Span::from_secs(600),
            first_message: Span::from_secs(600),
            keep: Span::from_secs(3_600),
            seed: 7,
            ..Rules::default()
        };
        change(&mut settings, &mut rules);
        let web = Web::bind(any, HttpRules::default(), None).unwrap();
        let (requests, waiting) = bounded(8);
        let core = Core::new(rules, 1);
        let (mut reactor, bound) = Reactor::new(
            &settings,
            super::Sockets::bind(&settings, &mut Default::default()).unwrap(),
            core,
            web,
            waiting,
        )
        .unwrap();
        let (to_store, batches) = bounded(1_000);
        let (outcomes, from_store) = bounded(1_000);
        let ends = StoreEnds {
            batches: to_store,
            outcomes: from_store,
        };
        reactor.attach_store(ends, Box::new(()));
        let rig = Self {
            reactor,
            bound,
            requests,
            batches,
            outcomes,
        };
        rig.tell(vec![Outcome::Available {
            session: 1,
            lease_clear: true,
            lost_data: false,
        }]);
        rig
    }

    fn tell(&self, outcomes: Vec<Outcome>) {
        self.outcomes.send(outcomes).unwrap();
        self.reactor.wake().ring();
    }

    fn request(&self, request: HandleRequest) {
        self.requests.send(request).unwrap();
        self.reactor.wake().ring();
    }

    /// Answers all operations like a healthy store.
    fn settle(&self) {
        for batch in self.batches.try_iter() {
            let outcomes = batch.ops.into_iter().filter_map(settled).collect();
            self.tell(outcomes);
        }
    }

    fn turn(&mut self) -> bool {
        self.reactor.turn(Some(Duration::from_millis(5))).unwrap()
    }

    /// Turns until `done`, or fails the test.
    #[track_caller]
    fn until(&mut self, mut done: impl FnMut(&mut Self) -> bool) {
        let start = SystemInstant::now();
        while !done(self) {
            assert!(start.elapsed() < TIMEOUT, "{:?}", self.reactor.stats);
            self.turn();
        }
    }

    fn connect(&self) -> Peer {
        Peer::new(self.bound.tcp)
    }

    fn offlines(&self, reason: Reason) -> u64 {
        let of = Reason::ALL.iter().position(|r| *r == reason).unwrap();
        self.reactor.driver.core().stats().offlines[of]
    }

    fn abnormal(&self, kind: &Abnormal) -> u64 {
        let of = Abnormal::LABELS.iter().position(|l| *l == kind.label());
        self.reactor.driver.core().stats().abnormal[of.unwrap()]
    }

    /// Returns whether the first connection in that slot is still a newcomer.
    fn is_unproven(&mut self, slot: u32) -> bool {
        let generation = 0;
        let conn = ConnId { slot, generation };
        let entry = self.reactor.connections.table.get_mut(conn);
        entry.unwrap().flags.has(Flags::UNPROVEN)
    }

    fn online(&self) -> u64 {
        self.reactor.driver.core().stats().hosts_online
    }
}

fn settled(op: Op) -> Option<Outcome> {
    Some(match op {
        Op::Online(op) => Outcome::Presence {
            ticket: op.ticket,
            settled: Settled::claimed(1),
        },
        Op::Offline(op) => Outcome::Presence {
            ticket: op.ticket,
            settled: Settled::Released,
        },
        Op::Inventory(op) => Outcome::Inventory {
            origins: op.origins,
            ticket: op.ticket,
            result: Ok(()),
        },
        Op::Progress(op) => Outcome::Report {
            origin: op.origin,
            result: Ok(()),
        },
        Op::Answer(op) => Outcome::Report {
            origin: op.origin,
            result: Ok(()),
        },
        Op::Labels(op) => Outcome::Labels {
            ticket: op.ticket,
            place: op.place,
            result: Ok(()),
        },
        Op::Seen(_) => Outcome::Seen,
        Op::Audit(_) => Outcome::Audited,
        Op::TaskStates(_) => Outcome::StatesWritten,
        Op::Result(_) | Op::Dispatch(_) | Op::Restore(_) | Op::Read(_) => {
            return None;
        }
        Op::Rollout(op) => Outcome::Rollout {
            key: op.key.clone(),
            is_ours: true,
        },
        Op::Notice(_) | Op::Outside(_) | Op::Forget(_) | Op::History(_) => return None,
        Op::Ring(_) | Op::Command(_) | Op::Rung(_) | Op::Polls(_) => return None,
    })
}

/// The far end of a connection. It never blocks: the loop turns on the same thread.
struct Peer {
    stream: TcpStream,
    got: Vec<u8>,
}

impl Peer {
    fn new(addr: SocketAddr) -> Self {
        let stream = TcpStream::connect(addr).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_nonblocking(true).unwrap();
        Self {
            stream,
            got: Vec::new(),
        }
    }

    fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    /// Takes all arrived bytes, and the end of the stream if it has arrived.
    fn take(&mut self) -> Option<std::io::Result<()>> {
        let mut chunk = [0; 4_096];
        loop {
            match self.stream.read(&mut chunk) {
                Ok(0) => return Some(Ok(())),
                Ok(bytes) => self.got.extend_from_slice(&chunk[..bytes]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return None,
                Err(error) => return Some(Err(error)),
            }
        }
    }

    /// Turns until the server has closed this connection in good order.
    #[track_caller]
    fn wait_for_close(&mut self, rig: &mut Rig) {
        rig.until(|_| self.take().is_some_and(|end| end.is_ok()));
    }

    fn replies(&self) -> usize {
        let (mut rest, mut count) = (self.got.as_slice(), 0);
        while let Some((header, behind)) = rest.split_first_chunk() {
            let length = usize::try_from(i32::from_le_bytes(*header)).unwrap();
            let Some((body, next)) = behind.split_at_checked(length) else {
                break;
            };
            count += usize::from(body == br#"{"flag":"ADH18","ACK":"keepAlive"}"#);
            rest = next;
        }
        count
    }
}

fn frame(body: &str) -> Vec<u8> {
    let mut frame = i32::try_from(body.len()).unwrap().to_le_bytes().to_vec();
    frame.extend_from_slice(body.as_bytes());
    frame
}

fn answer(number: usize) -> Vec<u8> {
    frame(&format!(
        r#"{{"flag":"ADH33","RCC":1,"taskId":"AC{number}","answerTime":1.5}}"#
    ))
}

#[test]
fn any_cut_of_a_heartbeat_brings_a_host_online() {
    let mut rig = Rig::new();
    let mut peer = rig.connect();
    let bytes = frame(BEAT_ASKING);
    for cut in 1..bytes.len() {
        let before = rig.reactor.stats.bytes_in;
        peer.send(&bytes[..cut]);
        rig.until(|rig| rig.reactor.stats.bytes_in == before + cut as u64);
        peer.send(&bytes[cut..]);
        rig.until(|rig| rig.reactor.stats.bytes_in == before + bytes.len() as u64);
    }
    rig.until(|_| {
        assert!(peer.take().is_none(), "nobody closes");
        peer.replies() == bytes.len() - 1
    });
    assert_eq!(rig.online(), 1);
    assert_eq!(rig.reactor.stats.frames, bytes.len() as u64 - 1);
}

#[test]
fn only_half_a_frame_keeps_a_buffer() {
    let mut rig = Rig::new();
    let mut peer = rig.connect();
    let bytes = frame(BEAT);
    peer.send(&bytes[..10]);
    rig.until(|rig| rig.reactor.stats.bytes_in == 10);
    let conn = ConnId {
        slot: 0,
        generation: 0,
    };
    let (kept, need) = rig
        .reactor
        .connections
        .table
        .get_mut(conn)
        .unwrap()
        .take_input();
    assert_eq!((kept.as_slice(), need), (&bytes[..10], bytes.len()));
    let pool = &mut rig.reactor.connections.pool;
    let entry = rig.reactor.connections.table.get_mut(conn).unwrap();
    entry.keep_input(kept, need, pool);
    peer.send(&bytes[10..]);
    rig.until(|rig| rig.reactor.stats.frames == 1);
    let entry = rig.reactor.connections.table.get_mut(conn).unwrap();
    assert!(!entry.has_buffer());
}

#[test]
fn a_burst_takes_several_turns() {
    let mut rig = Rig::new();
    let mut peer = rig.connect();
    let burst = 3 * FRAMES_PER_TURN_MAX + 7;
    let bytes: Vec<u8> = (0..burst).flat_map(|_| frame(BEAT)).collect();
    peer.send(&bytes);
    let mut before = 0;
    rig.until(|rig| {
        let frames = rig.reactor.stats.frames;
        assert!(frames - before <= FRAMES_PER_TURN_MAX as u64);
        before = frames;
        frames == burst as u64
    });
    assert!(rig.reactor.stats.busy_turns >= 2, "the rest did not wait");
}

#[test]
fn frames_before_a_close_are_handled() {
    let mut rig = Rig::new();
    let mut peer = rig.connect();
    // All bytes and the end have arrived before the first read: one event and no second.
    peer.send(&frame(BEAT));
    peer.send(&frame(BEAT)[..7]);
    peer.stream.shutdown(Shutdown::Write).unwrap();
    rig.until(|rig| rig.offlines(Reason::Closed) == 1);
    assert_eq!(rig.reactor.stats.frames, 1);
    assert!(rig.reactor.connections.table.len() == 0);
}

#[test]
fn the_answer_to_a_last_question_is_still_sent() {
    let mut rig = Rig::new();
    let mut peer = rig.connect();
    // It sends no more, and waits for the answer.
    peer.send(&frame(BEAT_ASKING));
    peer.stream.shutdown(Shutdown::Write).unwrap();
    peer.wait_for_close(&mut rig);
    assert_eq!(peer.got.len(), REPLY_BYTES);
}

#[test]
fn a_reset_differs_from_a_close() {
    let mut rig = Rig::new();
    let mut peer = rig.connect();
    peer.send(&frame(BEAT));
    rig.until(|rig| rig.online() == 1);
    socket2::SockRef::from(&peer.stream)
        .set_linger(Some(Duration::ZERO))
        .unwrap();
    drop(peer);
    rig.until(|rig| rig.offlines(Reason::Reset) == 1);
}

#[test]
fn abnormal_data_ends_its_own_connection_only() {
    let mut rig = Rig::new();
    let (mut good, mut bad) = (rig.connect(), rig.connect());
    good.send(&frame(BEAT));
    bad.send(&frame(r#"{"flag":"ADH99"}"#));
    // Data after invalid data is not read.
    bad.send(&frame(BEAT_ASKING));
    rig.until(|_| bad.take().is_some());
    assert_eq!(rig.abnormal(&Abnormal::Flag(String::new())), 1);
    assert_eq!(rig.reactor.connections.table.len(), 1);
    good.send(&frame(BEAT_ASKING));
    rig.until(|_| good.take().is_none() && good.replies() == 1);
    assert!(bad.got.is_empty());
}

#[test]
fn a_panic_ends_one_connection() {
    let mut rig = Rig::new();
    let (mut good, mut bad) = (rig.connect(), rig.connect());
    good.send(&frame(BEAT));
    bad.send(&frame(
        r#"{"flag":"ADH18","ACK":"keepAlive","note":"fail-here"}"#,
    ));
    rig.until(|_| bad.take().is_some());
    assert_eq!(rig.reactor.driver.panics(), 1);
    assert_eq!(rig.abnormal(&Abnormal::Internal), 1);
    good.send(&frame(BEAT_ASKING));
    rig.until(|_| good.take().is_none() && good.replies() == 1);
    let mut again = rig.connect();
    again.send(&frame(BEAT_ASKING));
    rig.until(|_| again.take().is_none() && again.replies() == 1);
}

#[test]
fn unread_replies_pause_reading_and_arrive_later() {
    let mut rig = Rig::new();
    let mut peer = rig.connect();
    let bytes: Vec<u8> = (0..500).flat_map(|_| frame(BEAT_ASKING)).collect();
    let (mut sent, mut asked) = (0, 0);
    rig.until(|rig| {
        match peer.stream.write(&bytes[sent..]) {
            Ok(wrote) => {
                sent += wrote;
                if sent == bytes.len() {
                    (sent, asked) = (0, asked + 500);
                }
            }
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
        }
        rig.reactor.stats.read_paused > 0
    });
    let rest = bytes[sent..].to_vec();
    let mut rest = rest.as_slice();
    rig.until(|_| {
        if let Ok(wrote) = peer.stream.write(rest) {
            rest = &rest[wrote..];
        }
        peer.take().is_none() && rest.is_empty()
    });
    // By their length: searching megabytes in every turn would take too long.
    let all = (asked + 500) * REPLY_BYTES;
    rig.until(|_| peer.take().is_none() && peer.got.len() >= all);
    assert_eq!(peer.replies(), asked + 500);
}

#[test]
fn a_refusal_is_readable_by_a_talking_peer() {
    let mut rig = Rig::new();
    let mut peer = rig.connect();
    let mut bytes = frame(r#"{"flag":"ADH40","id":"no good","reply":true}"#);
    bytes.extend((0..1_000).flat_map(|_| frame(BEAT)));
    peer.send(&bytes);
    rig.until(|rig| rig.reactor.connections.table.len() == 0 && rig.reactor.stats.accepted == 1);
    // More data arrives after the close. It must not cause a reset that destroys the refusal.
    peer.send(&frame(BEAT));
    peer.wait_for_close(&mut rig);
    assert!(String::from_utf8_lossy(&peer.got).contains("keepRefused"));
}

#[test]
fn reports_without_room_wait_and_are_not_lost() {
    let mut rig = Rig::new();
    let mut peer = rig.connect();
    let reports = REPORTS_WAITING_MAX + 500;
    let bytes: Vec<u8> = (0..reports).flat_map(answer).collect();
    let mut rest = bytes.as_slice();
    rig.until(|rig| {
        if let Ok(wrote) = peer.stream.write(rest) {
            rest = &rest[wrote..];
        }
        rig.reactor.stats.read_waited > 0
    });
    assert_eq!(
        rig.reactor.driver.core().stats().reports_waiting,
        REPORTS_WAITING_MAX as u64
    );
    let frames = rig.reactor.stats.frames;
    for _ in 0..3 {
        rig.turn();
    }
    assert_eq!(
        rig.reactor.stats.frames, frames,
        "nothing is taken meanwhile"
    );
    rig.until(|rig| {
        if let Ok(wrote) = peer.stream.write(rest) {
            rest = &rest[wrote..];
        }
        rig.settle();
        rig.reactor.driver.core().stats().reports_stored == reports as u64
    });
}

#[test]
fn connections_without_room_are_closed() {
    let mut rig = Rig::with(|settings, _| {
        settings.connections = Some(3);
        settings.connections_per_ip = Some(2);
    });
    let mut peers: Vec<_> = (0..2).map(|_| proved(&mut rig)).collect();
    let mut last = rig.connect();
    rig.until(|rig| rig.reactor.stats.shed_per_ip == 1);
    last.wait_for_close(&mut rig);
    // A freed place is given again.
    drop(peers.pop());
    rig.until(|rig| rig.reactor.connections.table.len() == 1);
    let mut next = rig.connect();
    next.send(&frame(BEAT_ASKING));
    rig.until(|_| next.take().is_none() && next.replies() == 1);

    let mut full = Rig::with(|settings, _| settings.connections = Some(1));
    let _first = proved(&mut full);
    let mut second = full.connect();
    second.wait_for_close(&mut full);
    assert_eq!(full.reactor.stats.shed_full, 1);
    assert_eq!(full.reactor.stats.shed_unproven, 0);
}

/// A peer that has sent a message.
fn proved(rig: &mut Rig) -> Peer {
    let frames = rig.reactor.stats.frames;
    let mut peer = rig.connect();
    peer.send(&frame(BEAT));
    rig.until(|rig| rig.reactor.stats.frames > frames);
    peer
}

/// Waits until a silent connection makes room for a new one.
fn pass_silence() {
    std::thread::sleep(Duration::from_millis(UNPROVEN_SILENT_MS));
}

#[test]
fn silent_connections_make_room_the_oldest_first() {
    let mut rig = Rig::with(|settings, _| settings.connections = Some(3));
    let _host = proved(&mut rig);
    let mut silent: Vec<_> = Vec::new();
    for number in 1..=5 {
        pass_silence();
        silent.push(rig.connect());
        rig.until(|rig| rig.reactor.stats.accepted == 1 + number);
    }
    pass_silence();
    assert_eq!(rig.reactor.stats.shed_unproven, 3);
    for peer in &mut silent[..3] {
        rig.until(|_| peer.take().is_some());
    }
    assert!(silent[3].take().is_none() && silent[4].take().is_none());
    // Connections with a message stay.
    let _second = proved(&mut rig);
    let _third = proved(&mut rig);
    assert_eq!(rig.reactor.stats.shed_unproven, 5);
    assert_eq!(rig.reactor.connections.table.len(), 3);
    let mut more = rig.connect();
    more.wait_for_close(&mut rig);
    assert_eq!(rig.reactor.stats.shed_full, 1);
}

#[test]
fn silence_of_one_address_fills_a_quarter() {
    let mut rig = Rig::with(|settings, _| settings.connections = Some(2 * UNPROVEN_MIN));
    let count = UNPROVEN_MIN as u64;
    let mut silent: Vec<_> = (0..count).map(|_| rig.connect()).collect();
    rig.until(|rig| rig.reactor.stats.accepted == count);
    pass_silence();
    silent.extend((0..3).map(|_| rig.connect()));
    rig.until(|rig| rig.reactor.stats.accepted == count + 3);
    assert_eq!(rig.reactor.stats.shed_unproven, 3);
    assert_eq!(rig.reactor.connections.table.len(), UNPROVEN_MIN);
    rig.until(|_| silent[2].take().is_some());
    assert!(silent[3].take().is_none());
}

#[test]
fn silence_does_not_use_up_the_address_limit() {
    let mut rig = Rig::with(|settings, _| settings.connections_per_ip = Some(4));
    let _silent: Vec<_> = (0..4).map(|_| rig.connect()).collect();
    rig.until(|rig| rig.reactor.stats.accepted == 4);
    pass_silence();
    let _hosts: Vec<_> = (0..4).map(|_| proved(&mut rig)).collect();
    assert_eq!(rig.reactor.stats.shed_unproven, 4);
    let mut more = rig.connect();
    more.wait_for_close(&mut rig);
    assert_eq!(rig.reactor.stats.shed_per_ip, 1);
}

#[test]
fn a_loop_that_was_stopped_reads_before_it_judges() {
    let timeout = Duration::from_secs(2);
    let mut rig = Rig::with(|_, rules| rules.timeout = timeout.into());
    let mut peers: Vec<_> = (0..20).map(|_| rig.connect()).collect();
    peers.iter_mut().for_each(|peer| peer.send(&frame(BEAT)));
    rig.until(|rig| rig.reactor.stats.frames == 20);
    // The loop does not turn; the hosts send heartbeats, and a new one connects.
    peers.push(rig.connect());
    peers.iter_mut().for_each(|peer| peer.send(&frame(BEAT)));
    std::thread::sleep(timeout + timeout / 4);
    rig.until(|rig| rig.reactor.stats.frames == 41);
    assert_eq!(rig.offlines(Reason::Timeout), 0);
    // From here on the host is silent, and is judged for that.
    rig.until(|rig| rig.offlines(Reason::Timeout) == 1);
}

#[test]
fn a_loop_with_nothing_to_do_waits() {
    let mut rig = Rig::new();
    let mut peer = rig.connect();
    peer.send(&frame(BEAT));
    rig.until(|rig| {
        rig.settle();
        rig.online() == 1
    });
    // Two seconds of the core's own rounds: each takes a few turns, and the rest is waiting.
    let (start, before) = (SystemInstant::now(), rig.reactor.stats.turns);
    while start.elapsed() < Duration::from_secs(2) {
        rig.settle();
        rig.reactor.turn(Some(Duration::from_secs(1))).unwrap();
    }
    let turns = rig.reactor.stats.turns - before;
    assert!(turns < 50, "{turns} turns: {:?}", rig.reactor.stats);
}

#[test]
fn handles_are_answered_between_turns() {
    let mut rig = Rig::new();
    let mut peer = rig.connect();
    peer.send(&frame(BEAT));
    rig.until(|rig| rig.online() == 1);
    let (reply, alive) = bounded(1);
    let hosts = ["127.0.0.1", "10.0.0.1"];
    let hosts = hosts
        .map(|host| crate::ids::HostId::checked(host).ok())
        .to_vec();
    rig.request(HandleRequest::Alive { hosts, reply });
    rig.until(|_| {
        let alive = alive.try_recv();
        alive.is_ok_and(|alive| alive.online == [true, false] && !alive.has_foreign)
    });
}

#[test]
fn a_stop_waits_for_outstanding_writes() {
    let mut rig = Rig::new();
    let mut peer = rig.connect();
    peer.send(&frame(BEAT));
    rig.until(|rig| rig.online() == 1);
    rig.reactor.wake().ask_stop();
    assert!(rig.turn(), "the store has not settled yet");
    assert!(
        TcpStream::connect(rig.bound.tcp).is_err(),
        "nobody is let in"
    );
    let start = SystemInstant::now();
    loop {
        rig.settle();
        if !rig.turn() {
            break;
        }
        assert!(start.elapsed() < TIMEOUT);
    }
    assert!(start.elapsed() < Duration::from_secs(SHUTDOWN_S_MAX));
}

#[test]
fn a_missing_store_thread_ends_the_loop() {
    let mut rig = Rig::new();
    rig.turn();
    drop(rig.outcomes);
    rig.reactor.wake().ring();
    let ended = (0..100).find_map(|_| rig.reactor.turn(Some(Duration::ZERO)).err());
    assert_eq!(ended.unwrap().status, 1);
}

#[test]
fn a_sweep_continues_without_an_event() {
    let mut rig = Rig::with(|_, rules| rules.hosts_max = 100_000);
    let held = |number: u32, ours| HeldHost {
        host: HostId::checked(&format!("h-{number}")).unwrap(),
        ours,
        epoch: 1,
        peer: None,
        keyed: false,
        since: UnixMs(1),
        seen: UnixMs(1),
        reason: None,
        hostname: None,
        mac: None,
        addresses: Vec::new(),
        admin_labels: None,
        host_labels: None,
    };
    let mut hosts: Vec<HeldHost> = (0..50_000).map(|number| held(number, false)).collect();
    hosts.push(held(50_000, true));
    // The rig has come up already, so this one is ended, once the walk has come to it.
    rig.until(|rig| rig.reactor.driver.core().stats().store_sessions == 1);
    let outcomes = vec![
        Outcome::Held(hosts),
        Outcome::Available {
            session: 2,
            lease_clear: true,
            lost_data: false,
        },
    ];
    rig.tell(outcomes);
    rig.until(|rig| rig.reactor.driver.core().stats().store_sessions == 2);
    // Other writes after a reconnection do not matter here.
    let is_ended = |rig: &Rig| {
        let ended = |op: &Op| matches!(op, Op::Offline(_));
        rig.batches
            .try_iter()
            .any(|batch| batch.ops.iter().any(ended))
    };
    let mut busy = 0;
    while !is_ended(&rig) {
        let now = rig.reactor.poller.now();
        assert_eq!(rig.reactor.poll_timeout(now, None), Some(Span::ZERO));
        rig.turn();
        busy += 1;
    }
    assert!(busy > 0, "it takes more than one turn");
}
