//! Rate at which the store thread writes presence changes to Redis, beside the rate of `redis-benchmark`
//! with the same commands. Redis runs on one core, its clients on another.
//!
//!     cargo bench --bench comings
//!
//! The commands are those that Redis reports for one host (`MONITOR`), with a random host name each time.
//! Commands that serve many hosts do so here too.

mod support;

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::process::Command;
use std::time::{Duration, Instant};

use anthill::ids::{HostId, HostRef};
use anthill::limits::{REDIS_MEMBERS_MAX, STORE_RUN_OPS_MAX};
use anthill::store::Backend;
use anthill::store::op::{Offline, Online, Op, Outcome, Reason, Settled, Stamp};
use anthill::store::redis::RedisStore;
use anthill::time::UnixMs;
use rustix::process::Pid;
use rustix::thread::{CpuSet, sched_setaffinity};
use support::connect;
use testkit::Redis;

const AT: UnixMs = UnixMs(1_800_000_000_000);
const HOSTS: u32 = 100_000;
const PIPELINE: &str = "1000";
/// The placeholder that `redis-benchmark` replaces by a number of twelve digits.
const NUMBER: &str = "__rand_int__";
/// Number of alternating runs.
const ROUNDS: usize = 3;

fn host(number: u32) -> HostId {
    HostId::checked(&format!("{number:012}")).expect("digits may name a host")
}

fn stamp(seq: u64) -> Option<Stamp> {
    Some(Stamp { at: AT, seq })
}

/// Keeps a process, or this one, on one core, if there are two.
fn stay(process: Option<Pid>, cpu: usize) {
    let mut set = CpuSet::new();
    set.set(cpu);
    // On a machine with one core both are on it.
    let _ = sched_setaffinity(process, &set);
}

/// Starts a Redis that stays on the first core.
fn start() -> Redis {
    let redis = Redis::start(&[]);
    let pid = Pid::from_raw(redis.pid() as i32);
    stay(pid, 0);
    redis
}

/// Commands that Redis receives during `work`, from `MONITOR`.
fn monitor(redis: &Redis, work: impl FnOnce()) -> Vec<Vec<String>> {
    let connect = || TcpStream::connect(("127.0.0.1", redis.port())).expect("it is up");
    let mut stream = connect();
    stream.write_all(b"MONITOR\r\n").expect("it listens");
    let mut lines = BufReader::new(stream.try_clone().expect("a copy")).lines();
    assert_eq!(lines.next().expect("a line").expect("of text"), "+OK");
    work();
    // What scripts call is not sent.
    let words = |line: String| {
        let sent = !line.contains(" lua] ");
        let words = line.split('"').skip(1).step_by(2).map(str::to_owned);
        sent.then(|| words.collect::<Vec<_>>())
    };
    let mut end = connect();
    end.write_all(b"ECHO end\r\n").expect("it listens");
    lines
        .map(|line| line.expect("of text"))
        .take_while(|line| !line.contains("\"end\""))
        .filter_map(words)
        .collect()
}

/// Time that `redis-benchmark` takes for the same command, for all hosts.
fn benchmark(redis: &Redis, command: &[String]) -> Duration {
    // Of those that are shared there are too few for a pipeline, and drawing a thousand names takes longer than
    // adding them: one at a time, on one connection.
    let (requests, how) = match shared(command) {
        true => (HOSTS as usize / REDIS_MEMBERS_MAX, ["-P", "1", "-c", "1"]),
        false => (HOSTS as usize, ["-P", PIPELINE, "-c", "50"]),
    };
    let output = Command::new("redis-benchmark")
        .args(["-p", &redis.port().to_string(), "-q", "--csv"])
        .args(how)
        .args(["-n", &requests.to_string(), "-r", &HOSTS.to_string()])
        .args(of_many(command))
        .output()
        .expect("redis-benchmark is installed");
    let said = String::from_utf8_lossy(&output.stdout);
    let last = said.lines().last().unwrap_or_default();
    let rate = last
        .split('"')
        .nth(3)
        .and_then(|rate| rate.parse::<f64>().ok());
    let rate = rate.unwrap_or_else(|| panic!("no rate for {command:?}: {said}"));
    Duration::from_secs_f64(requests as f64 / rate)
}

/// Returns whether a command serves many hosts.
fn shared(command: &[String]) -> bool {
    matches!(command[0].as_str(), "SADD" | "SREM" | "ZADD")
}

/// The command with a host's name drawn for each; one that is shared with as many hosts as it is in use.
fn of_many(command: &[String]) -> Vec<String> {
    let name = host(0).to_string();
    let words = command.iter().map(|word| word.replace(&name, NUMBER));
    match shared(command) {
        false => words.collect(),
        true => {
            let words: Vec<String> = words.collect();
            // The first member, with its score where there is one, stands for all.
            let first = words.iter().position(|word| word == NUMBER);
            let first = first.expect("a member") + 1;
            let from = if command[0] == "ZADD" {
                first - 2
            } else {
                first - 1
            };
            let mut all = words[..from].to_vec();
            for _ in 0..REDIS_MEMBERS_MAX {
                all.extend_from_slice(&words[from..first]);
            }
            all
        }
    }
}

fn run(store: &mut RedisStore, ops: &[Op]) -> Vec<Outcome> {
    let mut outcomes = Vec::with_capacity(ops.len());
    // As the store thread runs them.
    for batch in ops.chunks(STORE_RUN_OPS_MAX) {
        let ran = store.run(batch, &mut outcomes);
        assert!(ran.done == batch.len() && ran.error.is_none(), "{ran:?}");
    }
    outcomes
}

fn ticket(number: u32) -> HostRef {
    HostRef {
        slot: number,
        generation: 1,
    }
}

fn comings(hosts: u32) -> Vec<Op> {
    let online = |number| {
        Op::Online(Box::new(Online {
            history: Vec::new(),
            ticket: ticket(number),
            host: host(number),
            peer: ([127, 0, 0, 1], 40_000).into(),
            keyed: false,
            hold: anthill::store::op::Hold::Claim {
                boot: None,
                silent_ms: 0,
            },
            since: AT,
            event: stamp(1),
        }))
    };
    (0..hosts).map(online).collect()
}

fn goings(claimed: &[Outcome]) -> Vec<Op> {
    let offline = |(number, outcome): (u32, &Outcome)| {
        let Outcome::Presence {
            settled: Settled::Claimed { epoch, .. },
            ..
        } = outcome
        else {
            panic!("no claim: {outcome:?}");
        };
        Op::Offline(Box::new(Offline {
            history: Vec::new(),
            ticket: ticket(number),
            host: host(number),
            epoch: *epoch,
            reason: Reason::Closed,
            since: AT,
            event: stamp(2),
        }))
    };
    (0..).zip(claimed).map(offline).collect()
}

/// All hosts come online and go offline; returns both times.
fn store(redis: &Redis, hosts: u32) -> [Duration; 2] {
    let mut store = connect(redis);
    let come = comings(hosts);
    let start = Instant::now();
    let claimed = run(&mut store, &come);
    let came = start.elapsed();
    let go = goings(&claimed);
    let start = Instant::now();
    run(&mut store, &go);
    [came, start.elapsed()]
}

fn main() {
    let measuring = std::env::args().any(|argument| argument == "--bench");
    let mut version = Command::new("redis-benchmark");
    let is_installed = version.arg("--version").output().is_ok() && Redis::is_installed();
    if !measuring || !is_installed {
        eprintln!("it takes --bench, a redis-server and a redis-benchmark: left out");
        return;
    }
    stay(None, 1);
    let mut ratios = Vec::new();
    for round in 1..=ROUNDS {
        let redis = start();
        let (mut came, mut went) = (Vec::new(), Vec::new());
        let mut one = connect(&redis);
        came.extend(monitor(&redis, || drop(run(&mut one, &comings(1)))));
        let again = run(&mut one, &comings(1));
        went.extend(monitor(&redis, || drop(run(&mut one, &goings(&again)))));
        drop(one);
        let mut theirs = [Duration::ZERO; 2];
        for (took, commands) in theirs.iter_mut().zip([&came, &went]) {
            let _: () = redis.say(&["FLUSHDB"]);
            // Those who go have come.
            if std::ptr::eq(commands, &raw const went) {
                run(&mut connect(&redis), &comings(HOSTS));
            }
            for command in commands {
                let one = benchmark(&redis, command);
                if round == 1 {
                    println!(
                        "  {:9.1} ms  {}",
                        one.as_secs_f64() * 1e3,
                        command[..2].join(" ")
                    );
                }
                *took += one;
            }
        }
        let _: () = redis.say(&["FLUSHDB"]);
        let ours = store(&redis, HOSTS);
        let seconds = |took: [Duration; 2]| (took[0] + took[1]).as_secs_f64();
        let ratio = seconds(theirs) / seconds(ours);
        println!(
            "{HOSTS} hosts come in {:.2} s and go in {:.2} s; redis-benchmark -P {PIPELINE}: {:.2} s and {:.2} s: {ratio:.2} times its rate",
            ours[0].as_secs_f64(),
            ours[1].as_secs_f64(),
            theirs[0].as_secs_f64(),
            theirs[1].as_secs_f64(),
        );
        ratios.push(ratio);
    }
    ratios.sort_by(f64::total_cmp);
    println!("median: {:.2} times its rate", ratios[ROUNDS / 2]);
}
