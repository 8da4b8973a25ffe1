//! The spool: full, on a full disk, damaged, deleted, not writable. Acknowledged reports are stored
//! in Redis afterwards. Reports without room are not acknowledged, and not lost either.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use super::support::process::processor_time;
use super::support::reports::{Report, acknowledged, dispatch_for_results, missing};
use super::support::server::run;
use super::support::{BEAT_ASKING, Home, Host, Server, little, until, until_so};

fn name(number: usize) -> String {
    format!("127.0.41.{number}")
}

/// Reports of sixty kilobytes from one host, sent without waiting and acknowledged in their order.
struct Reporter {
    name: String,
    sent: Arc<AtomicU64>,
    acknowledged: Arc<AtomicU64>,
    threads: Vec<thread::JoinHandle<()>>,
}

impl Reporter {
    const COUNT: u64 = 300;

    fn start(server: &Server, name: String) -> Self {
        let mut writing = Host::online(server.tcp, &name);
        let stream = writing.stream.try_clone().unwrap();
        // What it has sent is to be with the server, not in its own kernel.
        let socket = socket2::SockRef::from(&stream);
        socket.set_send_buffer_size(64 * 1024).unwrap();
        // It may have to wait for as long as the test does.
        stream.set_write_timeout(None).unwrap();
        let mut reading = Host { stream };
        let (sent, acknowledged) = (Arc::<AtomicU64>::default(), Arc::<AtomicU64>::default());
        let (written, count) = (Arc::clone(&sent), Arc::clone(&acknowledged));
        let writer = thread::spawn(move || {
            for number in 0..Self::COUNT {
                writing.send(&Self::bytes(number));
                written.fetch_add(1, Ordering::SeqCst);
            }
        });
        let reader = thread::spawn(move || {
            for number in 0..Self::COUNT {
                let reply = reading.reply();
                assert_eq!(reply["ACK"], "keepGotIt", "{reply}");
                assert_eq!(reply["seq"], number, "in their order");
                count.fetch_add(1, Ordering::SeqCst);
            }
        });
        Self {
            name,
            sent,
            acknowledged,
            threads: vec![writer, reader],
        }
    }

    fn bytes(number: u64) -> Vec<u8> {
        let commands: Vec<String> = (0..60).map(|n| format!("{n}{}", "x".repeat(990))).collect();
        let body = json!({"flag": "ADH27", "code": format!("ACbig{number}"), "phase": 1,
            "working": null, "complete": [], "oncall": commands, "reply": true, "seq": number});
        little(body.to_string().as_bytes())
    }

    /// Number of reports sent, and of those acknowledged.
    fn so_far(&self) -> (u64, u64) {
        let acknowledged = self.acknowledged.load(Ordering::SeqCst);
        (self.sent.load(Ordering::SeqCst), acknowledged)
    }
}

/// More reports than the spool has room for, while Redis is unavailable.
fn more_than_there_is_room_for(mut home: Home, says: &str) {
    home.set("store.timeout_ms", 500)
        .set("heartbeat.timeout_s", 3);
    let server = home.start();
    let mut beating = Host::online(server.tcp, &name(9));
    home.store_mut().kill();
    server.until_ready(false);
    let reporters: Vec<Reporter> = (1..=4).map(|n| Reporter::start(&server, name(n))).collect();

    // Each of them is no longer read, whatever the server turns.
    until_so("all reporters wait", || {
        assert_eq!(beating.ask(BEAT_ASKING)["ACK"], "keepAlive");
        server.metric("anthill_read_waited_total") >= 4
    });
    let still = |beating: &mut Host| {
        let start = Instant::now();
        while start.elapsed() < Duration::from_millis(300) {
            assert_eq!(beating.ask(BEAT_ASKING)["ACK"], "keepAlive");
        }
        reporters.iter().map(Reporter::so_far).collect::<Vec<_>>()
    };
    let mut seen = still(&mut beating);
    until("nothing moves any more", || {
        let before = std::mem::replace(&mut seen, still(&mut beating));
        (before == seen).then_some(())
    });
    assert!(
        seen.iter().all(|(sent, _)| *sent < Reporter::COUNT),
        "{seen:?}"
    );
    let held: u64 = seen.iter().map(|(_, acknowledged)| acknowledged).sum();
    assert_eq!(
        server.metric("anthill_spool_records_waiting"),
        held,
        "what was acknowledged is on disk"
    );
    assert!(server.metric("anthill_spool_bytes") <= 1024 * 1024);
    assert!(server.metric("anthill_reports_waiting_bytes") <= 16 * 1024 * 1024);
    assert_eq!(server.get("/readyz").0, 503);
    server.logged(&["reports wait unacknowledged", says]);
    // To wait is not to be silent, and others come and go.
    // On a busy machine work from before may go on for a while; a loop without a wait never ends.
    until("a time without work", || {
        let (spent, start) = (processor_time(server.pid()), Instant::now());
        while start.elapsed() < Duration::from_millis(3_500) {
            assert_eq!(beating.ask(BEAT_ASKING)["ACK"], "keepAlive");
            thread::sleep(Duration::from_millis(20));
        }
        let spent = processor_time(server.pid()) - spent;
        (spent < start.elapsed() / 3).then_some(())
    });
    drop(Host::online(server.tcp, &name(8)));
    server.until_offline(&name(8));
    let offlines = server.metric("anthill_offlines_total{reason=\"timeout\"}");
    assert_eq!(offlines, 0, "nobody is accused");

    home.store_mut().restart();
    server.until_ready(true);
    for reporter in reporters {
        for thread in reporter.threads {
            thread.join().expect("all is sent and acknowledged");
        }
        let redis = home.store();
        for number in 0..Reporter::COUNT {
            let list = format!("ACbig{number}_{}_oncall", reporter.name);
            assert_eq!(redis.say::<u64>(&["LLEN", &list]), 60, "{list}");
        }
    }
    until_so("the spool is empty", || {
        server.metric("anthill_spool_records_waiting") == 0
    });
    assert_eq!(server.metric("anthill_store_rejected_total"), 0);
}

#[test]
fn a_full_spool_stops_only_reports() {
    let mut home = Home::redis();
    home.set("store.spool_mb", 1);
    more_than_there_is_room_for(home, "the spool is full");
}

/// A disk of one megabyte.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// None where this process may not mount one, which is said.
    fn mount(at: &Path) -> Option<Self> {
        fs::create_dir(at).unwrap();
        let mount = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=1m", "none"])
            .arg(at)
            .output();
        let mounted = mount.is_ok_and(|mount| mount.status.success());
        if !mounted {
            // Said even where the output of tests that pass is kept back.
            use std::io::Write;
            let _ = writeln!(
                std::io::stderr(),
                "NOT TESTED: a full disk (mounting a small one needs root)"
            );
        }
        mounted.then(|| Self(at.to_owned()))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // What still uses it ends before its directory goes; if it stays, so does a line in `mount`.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn a_full_disk_stops_only_reports() {
    let dir = tempfile::tempdir().unwrap();
    let Some(disk) = SmallDisk::mount(&dir.path().join("disk")) else {
        return;
    };
    let mut home = Home::redis();
    home.set("store.spool", disk.0.join("spool").to_str().unwrap());
    more_than_there_is_room_for(home, "No space left on device");
}

/// Redis loses all its data, and the server is killed with a full disk. Afterwards the reports that
/// Redis confirmed and those in the spool are stored.
#[test]
fn a_full_disk_and_a_kill_lose_nothing() {
    const CONFIRMED: u64 = 6;
    let dir = tempfile::tempdir().unwrap();
    let Some(disk) = SmallDisk::mount(&dir.path().join("disk")) else {
        return;
    };
    let mut home = Home::redis();
    home.set("store.timeout_ms", 500)
        .set("store.spool", disk.0.join("spool").to_str().unwrap());
    let server = home.start();
    let mut host = Host::online(server.tcp, &name(1));
    for number in 0..CONFIRMED {
        host.send(&Reporter::bytes(number));
        assert_eq!(host.reply()["ACK"], "keepGotIt");
    }
    home.store_mut().kill();
    server.until_ready(false);
    // One after the other, until no more are acknowledged.
    let mut acknowledged = CONFIRMED;
    let full = |server: &Server| {
        server
            .log()
            .iter()
            .any(|line| line.contains("No space left"))
    };
    while !full(&server) {
        host.send(&Reporter::bytes(acknowledged));
        let stream = &host.stream;
        stream.set_nonblocking(true).unwrap();
        until_so("an answer, or a full disk", || {
            stream.peek(&mut [0]).is_ok() || full(&server)
        });
        stream.set_nonblocking(false).unwrap();
        if full(&server) {
            break;
        }
        assert_eq!(host.reply()["ACK"], "keepGotIt");
        acknowledged += 1;
    }
    assert!(acknowledged > CONFIRMED + 2, "{acknowledged}");
    server.kill();
    home.store_mut().restart();
    let server = home.start();
    server.until_ready(true);
    for number in 0..acknowledged {
        let list = format!("ACbig{number}_{}_oncall", name(1));
        assert_eq!(home.store().say::<u64>(&["LLEN", &list]), 60, "{list}");
    }
    until_so("nothing is left", || {
        server.metric("anthill_spool_bytes") == 0
    });
}

/// Sends twenty reports of one host, which the spool acknowledges. Then the server is killed, and
/// `harm` changes the only segment. Returns the home, with Redis still unavailable, and the
/// acknowledged reports.
fn spooled_and_harmed(harm: impl FnOnce(&Path)) -> (Home, BTreeSet<Report>) {
    let mut home = Home::redis_with(&["--appendonly", "yes"]);
    home.set("store.timeout_ms", 500);
    let server = home.start();
    let mut host = Host::online(server.tcp, &name(1));
    dispatch_for_results(&server, &[name(1)]);
    (0..21).for_each(|number| Report(number).expect(home.store(), &name(1)));
    home.store_mut().kill();
    server.until_ready(false);
    let mut stored = BTreeSet::new();
    for number in 0..21 {
        host.send(&Report(number).bytes());
        stored.extend(acknowledged(&mut host, 1));
    }
    assert_eq!(server.metric("anthill_spool_records_waiting"), 21);
    server.kill();
    let segments: Vec<PathBuf> = fs::read_dir(home.path().join("spool"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|end| end == "seg"))
        .collect();
    assert_eq!(segments.len(), 1, "{segments:?}");
    harm(&segments[0]);
    (home, stored)
}

/// Starts the server, then Redis. Returns the missing reports.
fn never_stored(home: &mut Home, stored: &BTreeSet<Report>) -> (Server, Vec<Report>) {
    let server = home.start();
    home.store_mut().restart();
    server.until_ready(true);
    until_so("the spool is empty", || {
        server.metric("anthill_spool_records_waiting") == 0
    });
    let missing = missing(home.store(), &name(1), stored);
    (server, missing)
}

#[test]
fn a_torn_last_record_is_cut_off() {
    // The beginning of a record more: a power cut in the middle of a write.
    let (mut home, stored) = spooled_and_harmed(|segment| {
        let mut bytes = fs::read(segment).unwrap();
        bytes.extend_from_within(..30);
        fs::write(segment, bytes).unwrap();
    });
    let (server, missing) = never_stored(&mut home, &stored);
    assert_eq!(missing, [], "all that was acknowledged is there");
    server.logged(&["WARN", "last 30 bytes are cut off"]);
    assert_eq!(server.metric("anthill_spool_damaged_total"), 0);

    // The same where the disk lost the end of one that it had said was safe: that one is gone.
    let (mut home, stored) = spooled_and_harmed(|segment| {
        let bytes = fs::read(segment).unwrap();
        fs::write(segment, &bytes[..bytes.len() - 5]).unwrap();
    });
    let (server, missing) = never_stored(&mut home, &stored);
    assert_eq!(missing, [Report(20)]);
    server.logged(&["WARN", "are cut off"]);
}

#[test]
fn a_damaged_record_takes_no_other_with_it() {
    let (mut home, stored) = spooled_and_harmed(|segment| {
        let mut bytes = fs::read(segment).unwrap();
        let key = b"\"AC9\"";
        let at = bytes.windows(5).position(|window| window == key).unwrap();
        bytes[at + 1] ^= 1;
        fs::write(segment, bytes).unwrap();
    });
    let (server, missing) = never_stored(&mut home, &stored);
    assert_eq!(missing, [Report(9)]);
    server.logged(&["ERROR", "is damaged at byte", "copied to"]);
    assert_eq!(server.metric("anthill_spool_damaged_total"), 1);
    let kept = fs::read_dir(home.path().join("spool"))
        .unwrap()
        .any(|entry| {
            entry
                .unwrap()
                .path()
                .extension()
                .is_some_and(|end| end == "damaged")
        });
    assert!(kept, "for a person to look at");
}

#[test]
fn a_deleted_spool_is_created_again() {
    let mut home = Home::redis();
    home.set("store.timeout_ms", 500);
    let server = home.start();
    let mut host = Host::online(server.tcp, &name(1));
    dispatch_for_results(&server, &[name(1)]);
    (0..20).for_each(|number| Report(number).expect(home.store(), &name(1)));
    home.store().stop();
    for round in 0..2 {
        let numbers = round * 10..round * 10 + 10;
        for number in numbers {
            host.send(&Report(number).bytes());
            acknowledged(&mut host, 1);
        }
        if round == 0 {
            fs::remove_dir_all(home.path().join("spool")).unwrap();
        }
    }
    home.store().go_on();
    server.until_ready(true);
    let after: BTreeSet<Report> = (10..20).map(Report).collect();
    until_so("what came after is stored", || {
        missing(home.store(), &name(1), &after).is_empty()
    });
    // Its content is gone, and that is counted.
    assert!(server.metric("anthill_spool_damaged_total") >= 1);
    server.logged(&["ERROR", "spool", "cannot be read"]);
}

#[test]
fn an_unwritable_spool_acknowledges_nothing() {
    let mut home = Home::redis();
    home.set("store.timeout_ms", 500);
    let server = home.start();
    let mut host = Host::online(server.tcp, &name(1));
    let mut beating = Host::online(server.tcp, &name(2));
    let (dir, aside) = (home.path().join("spool"), home.path().join("aside"));
    fs::rename(&dir, &aside).unwrap();
    fs::write(&dir, "in the way").unwrap();
    home.store_mut().kill();
    host.send(&Report(0).bytes());
    server.logged(&["reports wait unacknowledged"]);
    assert_eq!(server.get("/readyz").0, 503);
    for _ in 0..20 {
        assert_eq!(beating.ask(BEAT_ASKING)["ACK"], "keepAlive");
    }
    host.stream.set_nonblocking(true).unwrap();
    assert!(
        host.stream.peek(&mut [0; 1]).is_err(),
        "nothing has been said of it"
    );
    host.stream.set_nonblocking(false).unwrap();

    // The disk is mended before Redis is: now it is safe.
    fs::remove_file(&dir).unwrap();
    fs::rename(&aside, &dir).unwrap();
    assert_eq!(acknowledged(&mut host, 1), [Report(0)]);
    assert_eq!(server.metric("anthill_spool_records_waiting"), 1);
    home.store_mut().restart();
    until_so("it is stored", || {
        Report(0).is_stored(home.store(), &name(1))
    });

    // At a start it is an error that says so.
    server.stop();
    fs::remove_dir_all(&dir).unwrap();
    fs::write(&dir, "in the way").unwrap();
    home.set("log.level", "off").write_config();
    let ended = run(home.path(), &[]);
    assert_ne!(ended.status, Some(0));
    assert_eq!(ended.stderr.lines().count(), 1, "{}", ended.stderr);
    assert!(ended.stderr.contains("spool"), "{}", ended.stderr);
}
