//! The whole life of tasks with clients of the older fleet, unmodified: the built program between
//! them and a real Redis, looked at after every step. The test plays the dispatcher.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::net::Ipv4Addr;

use serde_json::json;
use testkit::{Redis, until_or};

use crate::client::{OldClient, answer, progress};
use crate::support::{Anthill, HEARTBEAT, Keys, Stored, all_before_is_stored, frame, until_keys};

const ONE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
const TWO: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 3);

/// A task as the dispatcher writes it: its key, and its commands in the order they will be run.
struct Task {
    key: &'static str,
    commands: Vec<String>,
}

/// Expected state of one host in the keys of a task.
#[derive(Clone, Copy, Default)]
struct Told {
    awaited: bool,
    /// The book has been received, and not been finished.
    under_way: bool,
    /// Commands done, of those still listed.
    done: usize,
    working: bool,
}

impl Task {
    fn new(key: &'static str, commands: &[&str]) -> Self {
        let commands = commands.iter().map(|&command| command.to_owned()).collect();
        Self { key, commands }
    }

    /// Stores it for these hosts. The caller notifies them.
    fn store(&self, redis: &Redis, hosts: &[Ipv4Addr]) {
        for (command, priority) in self.commands.iter().rev().zip(1..) {
            let _: i64 = redis.say(&["ZADD", self.key, &format!("{}", 10 * priority), command]);
        }
        for host in hosts {
            let response = format!("{}_response", self.key);
            let _: i64 = redis.say(&["SADD", &response, &host.to_string()]);
        }
    }

    /// The keys, with these hosts online.
    fn keys(&self, hosts: &[(Ipv4Addr, Told)]) -> Keys {
        let (key, mut keys) = (self.key, Keys::new());
        let book = self.commands.iter().rev().cloned();
        let scores = (1..).map(|priority| f64::from(10 * priority));
        keys.insert(key.to_owned(), Stored::Zset(book.zip(scores).collect()));
        let names = hosts.iter().map(|(host, _)| host.to_string()).collect();
        keys.insert("exists".to_owned(), Stored::Set(names));
        let mut awaited = BTreeSet::new();
        let (mut working, mut complete, mut oncall) =
            (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        for (host, told) in hosts {
            if told.awaited {
                awaited.insert(host.to_string());
            }
            let (done, left) = self.commands.split_at(told.done);
            if told.working {
                working.insert(host.to_string(), left[0].clone());
            }
            let lists = [
                ("complete", done.to_vec(), &mut complete, !done.is_empty()),
                (
                    "oncall",
                    left.iter().rev().cloned().collect(),
                    &mut oncall,
                    told.under_way,
                ),
            ];
            for (what, list, names, is_there) in lists {
                let name = format!("{key}_{host}_{what}");
                if told.done > 0 && is_there {
                    names.insert(host.to_string(), name.clone());
                }
                if is_there {
                    keys.insert(name, Stored::List(list));
                }
            }
        }
        if !awaited.is_empty() {
            keys.insert(format!("{key}_response"), Stored::Set(awaited));
        }
        for (what, hash) in [
            ("working", working),
            ("complete", complete),
            ("oncall", oncall),
        ] {
            if !hash.is_empty() {
                keys.insert(format!("{key}_{what}"), Stored::Hash(hash));
            }
        }
        keys
    }
}

/// Hosts that went offline, in the order of their events.
fn offline_events(redis: &Redis) -> Vec<String> {
    let events = redis.events().into_iter();
    let offline = events.filter(|event| event.field("event") == "offline");
    offline
        .map(|event| format!("{} {}", event.field("host"), event.field("reason")))
        .collect()
}

/// Waits until the events report these hosts as offline, and no others. The event is the last of the
/// writes.
#[track_caller]
fn until_offline(redis: &Redis, expected: &[&str]) {
    let so = until_or(|| (offline_events(redis) == expected).then_some(()));
    assert!(
        so.is_some(),
        "{:?}, not {expected:?}",
        offline_events(redis)
    );
}

const AWAITED: Told = Told {
    awaited: true,
    under_way: false,
    done: 0,
    working: false,
};
const NOTHING: Told = Told {
    awaited: false,
    ..AWAITED
};
const RECEIVED: Told = Told {
    under_way: true,
    ..NOTHING
};

/// Remaining state of a host that has finished `commands` of them.
fn finished(on_done: &str, commands: usize) -> Told {
    Told {
        done: if on_done == "keep" { commands } else { 0 },
        ..NOTHING
    }
}

fn serve(redis: &Redis, on_done: &str) -> Anthill {
    let settings = [
        ("dispatch.on_done", json!(on_done)),
        ("heartbeat.timeout_s", json!(3)),
    ];
    Anthill::serve(redis, &settings)
}

#[test]
fn a_task_runs_from_key_to_end() {
    for on_done in ["keep", "clear"] {
        let redis = Redis::start(&[]);
        let anthill = serve(&redis, on_done);
        let client = OldClient::start(ONE, &anthill, &redis);
        let task = Task::new("AC132", &["echo one", "ls /tmp", "echo 蚂蚁"]);
        task.store(&redis, &[ONE]);
        let becomes = |what, told| until_keys(&redis, what, &task.keys(&[(ONE, told)]));
        becomes("stored", AWAITED);
        client.datagram(b"AC132");

        client.go(1);
        becomes("answered", NOTHING);
        client.go(1);
        becomes("received", RECEIVED);
        for done in 0..task.commands.len() {
            client.go(1);
            let before = Told { done, ..RECEIVED };
            let working = true;
            becomes("begun", Told { working, ..before });
            client.go(1);
            let done = done + 1;
            if done < task.commands.len() {
                becomes("ended", Told { done, ..RECEIVED });
            }
        }
        becomes("the last ended", finished(on_done, 3));
        client.is_stored("afterwards");
        becomes("afterwards", finished(on_done, 3));
        assert_eq!(offline_events(&redis), [""; 0]);

        drop(client);
        let mut gone = task.keys(&[(ONE, finished(on_done, 3))]);
        gone.remove("exists");
        until_keys(&redis, "gone", &gone);
        until_offline(&redis, &["127.0.0.2 closed"]);
    }
}

#[test]
fn two_clients_keep_separate_keys() {
    for on_done in ["keep", "clear"] {
        let redis = Redis::start(&[]);
        let anthill = serve(&redis, on_done);
        let (one, two) = (
            OldClient::start(ONE, &anthill, &redis),
            OldClient::start(TWO, &anthill, &redis),
        );
        let task = Task::new("AC201", &["echo a", "echo b"]);
        task.store(&redis, &[ONE, TWO]);
        let becomes = |what, first, second| {
            until_keys(&redis, what, &task.keys(&[(ONE, first), (TWO, second)]));
        };
        becomes("stored", AWAITED, AWAITED);
        one.datagram(b"AC201");
        two.datagram(b"AC201");

        let working = Told {
            working: true,
            ..RECEIVED
        };
        let half = Told {
            done: 1,
            ..RECEIVED
        };
        let second = Told {
            working: true,
            ..half
        };
        let end = finished(on_done, 2);
        two.go(1);
        becomes("the second answers", AWAITED, NOTHING);
        one.go(2);
        becomes("the first has received it", RECEIVED, NOTHING);
        two.go(2);
        becomes("the second has begun", RECEIVED, working);
        one.go(1);
        becomes("both have begun", working, working);
        two.go(1);
        becomes("the second has done one", working, half);
        one.go(1);
        becomes("both have done one", half, half);
        one.go(2);
        becomes("the first is done", end, half);
        two.go(1);
        becomes("the second has begun again", end, second);
        two.go(1);
        becomes("both are done", end, end);
        assert_eq!(offline_events(&redis), [""; 0]);
        drop((one, two));
    }
}

#[test]
fn a_busy_client_runs_a_key_once_for_each_copy() {
    for on_done in ["keep", "clear"] {
        let redis = Redis::start(&[]);
        let anthill = serve(&redis, on_done);
        let client = OldClient::start(ONE, &anthill, &redis);
        let task = Task::new("AC231", &["echo y", "echo z"]);
        task.store(&redis, &[ONE]);
        let half = Told {
            done: 1,
            ..RECEIVED
        };
        let end = finished(on_done, 2);
        for copy in 0..3 {
            client.datagram(b"AC231");
            // What is done stays done while it is kept; once cleared, it begins anew.
            let again = copy > 0 && on_done == "keep";
            for told in [RECEIVED, half, end] {
                client.go(2);
                client.is_stored("a copy");
                let told = if again { end } else { told };
                until_keys(&redis, "a copy", &task.keys(&[(ONE, told)]));
            }
        }
    }
}

#[test]
fn a_busy_host_may_be_silent() {
    let redis = Redis::start(&[]);
    let anthill = serve(&redis, "clear");
    let client = OldClient::start(ONE, &anthill, &redis);
    let task = Task::new("AC240", &["sleep 66"]);
    task.store(&redis, &[ONE]);
    client.datagram(b"AC240");
    client.go(3);
    let under_way = task.keys(&[(ONE, RECEIVED)]);
    until_keys(&redis, "received", &under_way);

    // Another host falls silent after it, and is not at work.
    let beats = client.beats();
    let mut idle = anthill.connect(TWO);
    idle.write_all(&frame(HEARTBEAT)).unwrap();
    let both = task.keys(&[(ONE, RECEIVED), (TWO, NOTHING)]);
    until_keys(&redis, "both online", &both);
    until_keys(&redis, "the idle one is out", &under_way);
    until_offline(&redis, &["127.0.0.3 timeout"]);
    assert_eq!(client.beats(), beats, "it is silent");

    // Phase 2, a heartbeat and phase 3 in one burst.
    client.go(1);
    client.is_stored("the end");
    until_keys(&redis, "the end", &task.keys(&[(ONE, NOTHING)]));
    until_offline(&redis, &["127.0.0.3 timeout"]);
}

#[test]
fn a_host_without_a_book_is_no_longer_at_work() {
    let redis = Redis::start(&[]);
    let anthill = serve(&redis, "keep");
    let client = OldClient::start(ONE, &anthill, &redis);
    let awaited = |hosts: &[&str]| {
        let set = |names: &[&str]| Stored::Set(names.iter().map(|&name| name.to_owned()).collect());
        Keys::from([
            ("exists".to_owned(), set(&["127.0.0.2"])),
            ("AC999_response".to_owned(), set(hosts)),
        ])
    };
    for host in ["127.0.0.2", "127.0.0.9"] {
        let _: i64 = redis.say(&["SADD", "AC999_response", host]);
    }
    until_keys(&redis, "awaited", &awaited(&["127.0.0.2", "127.0.0.9"]));
    client.datagram(b"AC999");
    client.go(1);
    until_keys(&redis, "answered", &awaited(&["127.0.0.9"]));
    // RCC 2 names no key: it means the one that was answered.
    client.go(1);
    client.is_stored("no book");
    until_keys(&redis, "no book", &awaited(&["127.0.0.9"]));

    // So its silence is an outage. The question of a moment ago has put it to work as well, for a
    // key of that name, until it says that there is no such book.
    let mut line = client.hold();
    line.write_all(&frame(&answer(2, Some("ACnothing"))))
        .unwrap();
    let mut gone = awaited(&["127.0.0.9"]);
    gone.remove("exists");
    until_keys(&redis, "silent", &gone);
    until_offline(&redis, &["127.0.0.2 timeout"]);
}

#[test]
fn console_lines_and_damage_change_nothing() {
    let redis = Redis::start(&[]);
    let anthill = serve(&redis, "keep");
    let client = OldClient::start(ONE, &anthill, &redis);
    let task = Task::new("AC220", &["echo keepAlive"]);
    task.store(&redis, &[ONE, TWO]);
    let line = "echo good_response";
    let _: i64 = redis.say(&["SADD", line, "127.0.0.2"]);
    let becomes = |what, told| {
        let mut keys = task.keys(&[(ONE, told)]);
        let response = keys.entry("AC220_response".to_owned());
        if let Stored::Set(hosts) = response.or_insert(Stored::Set(BTreeSet::new())) {
            hosts.insert(TWO.to_string());
        }
        keys.insert(
            line.to_owned(),
            Stored::Set(BTreeSet::from([ONE.to_string()])),
        );
        until_keys(&redis, what, &keys);
    };
    becomes("stored", AWAITED);
    client.datagram("echo good".as_bytes());
    client.go(1);
    // An unreadable datagram is reported with the text of the one before, which then runs again.
    client.datagram(&[0xff, 0xfe]);
    client.go(2);
    client.is_stored("damaged");
    becomes("damaged", AWAITED);

    // The same with a key before it: the book runs, and then runs again.
    for (bytes, steps) in [(&b"AC220"[..], 4), (&[0xff, 0xfe], 5)] {
        client.datagram(bytes);
        client.go(steps);
        client.is_stored("run");
        becomes("run", finished("keep", 1));
    }
    assert_eq!(offline_events(&redis), [""; 0]);
}

#[test]
fn a_burst_in_one_segment_is_three_messages() {
    let redis = Redis::start(&[]);
    let anthill = serve(&redis, "keep");
    let task = Task::new("AC241", &["sleep 66", "echo keepAlive"]);
    task.store(&redis, &[]);
    let mut stream = anthill.connect(ONE);
    let all = task.commands.as_slice();
    // A frame that holds the heartbeat's word anywhere is sent again with every beat.
    let received = frame(&progress("AC241", 1, None, &[], all));
    for _beat in 0..3 {
        stream.write_all(&received).unwrap();
    }
    until_keys(&redis, "received", &task.keys(&[(ONE, RECEIVED)]));
    let burst = [
        frame(&progress("AC241", 2, Some(&all[0]), &[], all)),
        frame(HEARTBEAT),
        frame(&progress("AC241", 3, None, &all[..1], &all[1..])),
    ];
    stream.write_all(&burst.concat()).unwrap();
    all_before_is_stored(&mut stream, "burst");
    let half = Told {
        done: 1,
        ..RECEIVED
    };
    until_keys(&redis, "burst", &task.keys(&[(ONE, half)]));
}
