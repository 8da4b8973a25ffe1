//! Crowds of misbehaving hosts beside a good one: it is answered as before, memory stays within its
//! bound, no thread spins, and no other host is affected.
//!
//! These tests measure, so they run one after the other.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, Rlimit, Signal, prlimit};

use serde_json::json;

use super::support::pace::{self, Pace};
use super::support::process::{memory, processor_share};
use super::support::{
    BEAT, BEAT_ASKING, EndWhenDropped, Home, Host, Server, little, need_descriptors, until,
    until_so,
};

static ONE_BY_ONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    // A failed test does not affect the next one.
    ONE_BY_ONE.lock().unwrap_or_else(|error| error.into_inner())
}

/// Allowed additional latency of the good host.
const LATER: Duration = Duration::from_millis(10);
/// Memory of a connection that has sent nothing, in bytes.
const SILENT_BYTES: u64 = 1_024;
/// Memory of a connection that has sent half a frame of this size or less.
const HALF_BYTES: u64 = 4_096;
/// Memory of a connection that does not read its replies: waiting replies, bytes that it sends
/// meanwhile, and as much again for buffers that have grown.
const UNREAD_BYTES: u64 = 2 * (64 + 4) * 1024 + HALF_BYTES;
/// Memory that may be used once: buffers of all connections, and the allocator's own.
const ONCE_BYTES: u64 = 4 * 1024 * 1024;

/// One of many addresses of this machine.
fn source(number: usize) -> String {
    format!("127.0.{}.{}", 64 + number / 250, 1 + number % 250)
}

/// A server and a good host, and the latency and memory before the crowd.
struct Calm {
    home: Home,
    server: Server,
    good: Host,
    pace: Pace,
    memory: u64,
}

impl Calm {
    fn of(mut home: Home) -> Self {
        home.set("log.level", "warn");
        let server = home.start();
        let mut good = Host::online(server.tcp, "127.0.60.1");
        let pace = pace::best(&mut good);
        let memory = memory(server.pid());
        Self {
            home,
            server,
            good,
            pace,
            memory,
        }
    }

    /// Checks that the good host is answered as before, and that memory has grown by `bytes` at
    /// most.
    #[track_caller]
    fn is_kept(&mut self, what: &str, bytes: u64) {
        let pace = pace::keeps(&mut self.good, self.pace, LATER);
        let memory = memory(self.server.pid());
        eprintln!(
            "{what}: p99 {:?} before, {:?} now; memory {} KiB before, {} KiB now, {} KiB allowed",
            self.pace.p99,
            pace.p99,
            self.memory / 1024,
            memory / 1024,
            (self.memory + bytes) / 1024
        );
        assert!(
            memory <= self.memory + bytes,
            "{what}: {} bytes were {} before, and {bytes} more are allowed",
            memory,
            self.memory
        );
    }

    /// Checks that the server uses less than a fifth of a processor during a second.
    #[track_caller]
    fn does_not_spin(&self, what: &str) {
        let share = processor_share(self.server.pid(), Duration::from_secs(1));
        eprintln!("{what}: {share:.3} of a processor while idle");
        assert!(share < 0.2, "{what}: {share:.3} of a processor");
    }
}

#[test]
fn ten_thousand_silent_or_half_frames() {
    const CROWD: usize = 10_000;
    let _alone = alone();
    need_descriptors(CROWD);
    let mut home = Home::embedded();
    home.set("heartbeat.first_message_s", 600);
    let mut calm = Calm::of(home);
    let half = &little(&[b'{'; 1_000])[..500];
    let mut crowd = Vec::new();
    for number in 0..CROWD / 2 {
        crowd.push(Host::connect(calm.server.tcp, &source(number)));
    }
    let connections = |count: usize| {
        let connections = calm.server.metric("anthill_connections");
        connections == count as u64 + 1
    };
    until_so("half of them are in", || connections(CROWD / 2));
    let silent = CROWD as u64 / 2 * SILENT_BYTES;
    calm.is_kept("silent", silent + ONCE_BYTES);
    for number in 0..CROWD / 2 {
        let mut host = Host::connect(calm.server.tcp, &source(number));
        host.send(half);
        crowd.push(host);
    }
    until_so("all of them are in", || {
        calm.server.metric("anthill_connections") == CROWD as u64 + 1
    });
    calm.does_not_spin("10,000 silent ones");
    let halves = CROWD as u64 / 2 * HALF_BYTES;
    calm.is_kept("silent and half a frame", silent + halves + ONCE_BYTES);

    // Their time for a message is over, and they are closed.
    calm.home
        .set("heartbeat.first_message_s", 0.5)
        .write_config();
    calm.server.signal(Signal::HUP);
    until_so("all of them are closed", || {
        calm.good.ask(BEAT_ASKING);
        calm.server.metric("anthill_connections") == 1
    });
    assert_eq!(calm.server.metric("anthill_speechless_total"), CROWD as u64);
    assert_eq!(calm.server.metric("anthill_onlines_total"), 1);
}

/// The kinds of bad clients.
#[derive(Clone, Copy, Debug)]
enum Bad {
    Silent,
    HalfFrame,
    Trickle,
    NeverReads,
    Abnormal,
    /// One heartbeat, then invalid data.
    AbnormalLater,
    HugeLength,
    /// All with the same id.
    SameId,
}

impl Bad {
    const ALL: [Self; 8] = [
        Self::Silent,
        Self::HalfFrame,
        Self::Trickle,
        Self::NeverReads,
        Self::Abnormal,
        Self::AbnormalLater,
        Self::HugeLength,
        Self::SameId,
    ];

    fn enter(self, server: SocketAddr, number: usize) -> io::Result<Host> {
        let host = match self {
            Self::NeverReads => Host::never_reading(server, &source(number))?,
            _ => Host::try_connect(server, &source(number))?,
        };
        host.stream.set_nonblocking(true)?;
        Ok(host)
    }

    /// Does what it does once more, having sent so many bytes before. How many more they are now; an error when its
    /// connection is over.
    fn act(self, host: &mut Host, sent: usize) -> io::Result<usize> {
        let half = little(&[b'{'; 60_000]);
        let written = match self {
            Self::Silent => return Ok(0),
            Self::HalfFrame => host.stream.write(&half[sent.min(2_000)..2_000]),
            Self::Trickle => host.stream.write(&half[sent..=sent]),
            Self::NeverReads => ask_without_reading(host, sent),
            Self::Abnormal => {
                let abnormal = little(br#"{"flag":"ADH99","what":[1,2,3]}"#);
                host.stream.write(&abnormal.repeat(20))
            }
            Self::AbnormalLater if sent == 0 => host.stream.write(&little(BEAT)),
            Self::AbnormalLater => host
                .stream
                .write(&little(br#"{"flag":"ADH99"}"#).repeat(20)),
            Self::SameId if sent > 0 => return has_ended(host).map(|()| 0),
            Self::SameId => {
                let hello = br#"{"flag":"ADH40","id":"many","reply":true}"#;
                host.stream.write(&little(hello))
            }
            Self::HugeLength => host.stream.write(&i32::MAX.to_le_bytes()),
        };
        match written {
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(0),
            written => written,
        }
    }
}

/// Reads the arrived bytes; an error at the end of the connection.
fn has_ended(host: &mut Host) -> io::Result<()> {
    match host.stream.read(&mut [0; 1_024]) {
        Ok(0) => Err(ErrorKind::UnexpectedEof.into()),
        Err(error) if error.kind() != ErrorKind::WouldBlock => Err(error),
        _ => Ok(()),
    }
}

/// Asks for the task book a hundred times: two megabytes of answers.
fn ask_without_reading(host: &mut Host, sent: usize) -> io::Result<usize> {
    let questions = little(br#"{"flag":"ADH41","taskId":"ACbook"}"#).repeat(100);
    host.stream.write(&questions[sent..])
}

/// A task with a book of some twenty kilobytes, for all hosts of a crowd.
fn dispatch_book(server: &Server, crowd: usize) {
    let commands: serde_json::Map<_, _> = (0..40)
        .map(|number| (format!("{number}{}", "x".repeat(500)), number.into()))
        .collect();
    let hosts: Vec<String> = (0..crowd).map(source).collect();
    server.dispatch(&json!({"key": "ACbook", "commands": commands, "hosts": hosts}));
}

#[test]
fn bad_clients_of_every_kind_beside_a_good_one() {
    const CROWD: usize = 2_400;
    let _alone = alone();
    need_descriptors(CROWD);
    let mut calm = Calm::of(Home::embedded());
    dispatch_book(&calm.server, CROWD);
    let over = AtomicBool::new(false);
    let tcp = calm.server.tcp;
    let crowd = |first: usize| {
        let mut hosts: Vec<(usize, usize, Option<Host>)> = (first..CROWD)
            .step_by(2)
            .map(|index| (index, 0, None))
            .collect();
        while !over.load(Ordering::SeqCst) {
            for (index, sent, host) in &mut hosts {
                let kind = Bad::ALL[*index / 2 % Bad::ALL.len()];
                match host {
                    None => (*sent, *host) = (0, kind.enter(tcp, *index).ok()),
                    Some(open) => match kind.act(open, *sent) {
                        Ok(more) => *sent += more,
                        // At once, again and again.
                        Err(_) => (*sent, *host) = (0, kind.enter(tcp, *index).ok()),
                    },
                }
            }
            thread::sleep(Duration::from_millis(100));
        }
    };
    thread::scope(|scope| {
        scope.spawn(|| crowd(0));
        scope.spawn(|| crowd(1));
        // Whatever fails in here, the crowd ends.
        let end = EndWhenDropped(&over);
        until_so("they are all at it", || {
            calm.good.ask(BEAT_ASKING);
            let seen = [
                "anthill_abnormal_total{kind=\"length\"}",
                "anthill_abnormal_total{kind=\"flag\"}",
                "anthill_read_paused_total",
                "anthill_connections",
            ]
            .map(|sample| calm.server.metric(sample));
            let wanted = [1_200, 1_200, CROWD as u64 / 8, 1_000];
            seen.iter()
                .zip(wanted)
                .all(|(seen, wanted)| *seen >= wanted)
        });
        let kind = CROWD as u64 / 8;
        let bytes = kind * (3 * SILENT_BYTES + 4 * HALF_BYTES + UNREAD_BYTES) + 2 * ONCE_BYTES;
        calm.is_kept("2,400 bad ones", bytes);
        drop(end);
    });
    // They have gone; nothing of them stays.
    until_so("only the good one is left", || {
        calm.good.ask(BEAT_ASKING);
        calm.server.metric("anthill_connections") == 1
    });
    assert!(calm.server.is_online("127.0.60.1"));
    assert_eq!(calm.server.metric("anthill_panics_total"), 0);
}

#[test]
fn peers_that_never_read_stay_in_their_bound() {
    const CROWD: usize = 100;
    let _alone = alone();
    let mut calm = Calm::of(Home::embedded());
    dispatch_book(&calm.server, CROWD);
    let enter = |number| {
        let host = Bad::NeverReads.enter(calm.server.tcp, number);
        (host.expect("a connection"), 0)
    };
    let mut crowd: Vec<(Host, usize)> = (0..CROWD).map(enter).collect();
    until_so("none of them is read any more", || {
        for (host, sent) in &mut crowd {
            *sent += Bad::NeverReads.act(host, *sent).expect("open");
        }
        calm.server.metric("anthill_read_paused_total") >= CROWD as u64
    });
    calm.does_not_spin("100 that never read");
    let bytes = CROWD as u64 * UNREAD_BYTES + ONCE_BYTES;
    calm.is_kept("never read", bytes);
}

#[test]
fn a_thousand_clients_with_the_same_id() {
    const CROWD: usize = 1_000;
    let _alone = alone();
    need_descriptors(CROWD);
    let mut calm = Calm::of(Home::redis());
    let mut others: Vec<Host> = (1..=10)
        .map(|n| Host::named(calm.server.tcp, "127.0.60.2", &format!("other-{n}")))
        .collect();
    let mut taken = 0;
    let mut crowd: Vec<Host> = Vec::new();
    for number in 0..CROWD {
        let mut host = Host::connect(calm.server.tcp, &source(number));
        match host.hello("web-1")["ACK"].as_str() {
            Some("keepGotIt") => taken += 1,
            Some("keepRefused") => drop(host.until_closed()),
            answer => panic!("{answer:?}"),
        }
        crowd.push(host);
    }
    assert_eq!(taken, 1 + 15, "the first, and fifteen replacements");
    assert_eq!(calm.server.metric("anthill_replacements_total"), 15);
    let refused = calm.server.metric("anthill_hellos_refused_total");
    assert_eq!(refused, CROWD as u64 - 16);
    assert_eq!(calm.server.metric("anthill_ids_contested"), 1);
    // The connection that had the id keeps it, and the log names both addresses.
    let holder = &mut crowd[15];
    assert_eq!(holder.ask(BEAT_ASKING)["ACK"], "keepAlive");
    let host = calm.server.host("web-1").expect("known");
    assert_eq!(host["ip"], source(15).as_str());
    calm.server
        .logged(&["quarantine", "web-1", &source(15), &source(16)]);
    for other in &mut others {
        assert_eq!(other.ask(BEAT_ASKING)["ACK"], "keepAlive");
    }
    let redis = calm.home.store();
    until_so("all is told", || redis.exists().len() == 12);
    assert_eq!(redis.story("web-1"), ["online"], "never offline");
    let quarantine = |event: &&super::support::redis::Event| event.field("event") == "quarantine";
    assert_eq!(redis.events().iter().filter(quarantine).count(), 1);
    for number in 1..=10 {
        assert_eq!(redis.story(&format!("other-{number}")), ["online"]);
    }
    calm.is_kept("one id", CROWD as u64 * SILENT_BYTES + ONCE_BYTES);
}

#[test]
fn more_connections_than_are_allowed() {
    let _alone = alone();
    let mut home = Home::embedded();
    home.set("limits.connections", 50)
        .set("limits.connections_per_ip", 10);
    let mut calm = Calm::of(home);
    let shed = |server: &Server, cause: &str| {
        server.metric(&format!(
            "anthill_connections_shed_total{{cause=\"{cause}\"}}"
        ))
    };
    // Eleven of one address.
    let mut of_one: Vec<Host> = (0..10)
        .map(|_| Host::online(calm.server.tcp, "127.0.60.3"))
        .collect();
    for _ in 0..20 {
        let mut host = Host::connect(calm.server.tcp, "127.0.60.3");
        assert_eq!(host.until_closed(), b"", "told at once");
    }
    assert_eq!(shed(&calm.server, "per_ip"), 20);
    // Others fill what is left, and as many again knock.
    let mut others: Vec<Host> = (0..39)
        .map(|number| Host::online(calm.server.tcp, &source(number)))
        .collect();
    for number in 0..39 {
        let mut host = Host::connect(calm.server.tcp, &source(100 + number));
        assert_eq!(host.until_closed(), b"", "told at once");
    }
    assert_eq!(shed(&calm.server, "full"), 39);
    assert_eq!(calm.server.metric("anthill_connections"), 50);
    calm.is_kept("full", ONCE_BYTES);
    calm.does_not_spin("full");
    for host in of_one.iter_mut().chain(&mut others) {
        assert_eq!(host.ask(BEAT_ASKING)["ACK"], "keepAlive");
    }
    // One goes, and there is room for one.
    drop(of_one.pop());
    let mut back = until("room", || {
        let mut host = Host::connect(calm.server.tcp, "127.0.60.3");
        host.send(&little(BEAT_ASKING));
        let answered = host.stream.peek(&mut [0; 1]).is_ok_and(|bytes| bytes == 1);
        answered.then_some(host)
    });
    assert_eq!(back.reply()["ACK"], "keepAlive");
}

#[test]
fn more_connections_than_there_are_descriptors() {
    const DESCRIPTORS: u64 = 120;
    let _alone = alone();
    let mut calm = Calm::of(Home::embedded());
    let pid = Pid::from_raw(i32::try_from(calm.server.pid()).unwrap());
    let limit = |descriptors: u64| {
        let limit = Rlimit {
            current: Some(descriptors),
            maximum: Some(20_000),
        };
        prlimit(pid, Resource::Nofile, limit).expect("of a child")
    };
    let before = limit(DESCRIPTORS);
    let mut crowd: Vec<Host> = (0..300)
        .map(|number| {
            let mut host = Host::connect(calm.server.tcp, &source(number));
            host.say(BEAT_ASKING);
            host
        })
        .collect();
    // HTTP cannot be reached now, so the check uses the hosts' view.
    calm.is_kept("no descriptor", 300 * HALF_BYTES + ONCE_BYTES);
    calm.does_not_spin("no descriptor");
    let answered = |host: &mut Host| {
        host.stream.set_nonblocking(true).unwrap();
        let seen = match host.stream.peek(&mut [0; 1]) {
            Ok(1) => Some(true),
            Ok(_) => Some(false),
            Err(error) if error.kind() == ErrorKind::WouldBlock => None,
            Err(_) => Some(false),
        };
        host.stream.set_nonblocking(false).unwrap();
        seen
    };
    let served = crowd.iter_mut().filter_map(answered).filter(|&it| it);
    let served = served.count();
    assert!(served < DESCRIPTORS as usize, "{served} served");
    assert!(served > 50, "{served} served");

    // With descriptors again everyone who was not told is served.
    limit(before.current.unwrap_or(20_000));
    for host in &mut crowd {
        let told = until("an answer or an end", || answered(host));
        if told {
            assert_eq!(host.reply()["ACK"], "keepAlive");
        }
    }
    assert_eq!(calm.server.get("/healthz").0, 200);
    let causes = "anthill_connections_shed_total{cause=\"descriptors\"}";
    assert!(calm.server.metric(causes) > 0);
    assert!(calm.server.metric("anthill_accept_errors_total") > 0);
}

#[test]
fn connections_half_open_in_each_direction() {
    let _alone = alone();
    let mut home = Home::redis();
    home.set("heartbeat.timeout_s", 1.5);
    let server = home.start();
    // It says no more, and still hears its answer.
    let mut mute = Host::connect(server.tcp, "127.0.60.4");
    mute.say(BEAT_ASKING);
    mute.stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(mute.reply()["ACK"], "keepAlive");
    assert_eq!(mute.until_closed(), b"");
    assert_eq!(server.until_offline("127.0.60.4")["reason"], "closed");
    // It hears no more, and goes on beating: it is alive.
    let mut deaf = Host::online(server.tcp, "127.0.60.5");
    deaf.stream.shutdown(Shutdown::Read).unwrap();
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(2) {
        deaf.beat();
        thread::sleep(Duration::from_millis(50));
    }
    assert!(server.is_online("127.0.60.5"));
    drop(deaf);
    server.until_offline("127.0.60.5");
    let redis = home.store();
    until_so("both are told", || {
        redis.story("127.0.60.5").len() == 2 && redis.story("127.0.60.4").len() == 2
    });
    assert!(
        !redis
            .story("127.0.60.5")
            .contains(&"offline timeout".into())
    );
}
