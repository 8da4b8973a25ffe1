//! The captured messages of the older fleet, replayed to the built program in front of a real Redis:
//! the same bytes from the same addresses must leave the same keys.
//!
//! `README.md` beside this file explains the cases. Where our rules deliberately differ from the keys that
//! the older server left, [`OURS`] gives the reason and the expected keys.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::thread;

use serde::Deserialize;
use serde_json::json;
use testkit::Redis;

use crate::support::{
    Anthill, HEARTBEAT, Keys, Stored, all_before_is_stored, frame, keys, until_keys,
};

const CASES: &str = include_str!("old_fleet.json");

/// Cases replayed at a time.
const LANES: usize = 4;

/// One step of the older fleet.
#[derive(Debug, Deserialize)]
struct Case {
    name: String,
    verdict: Verdict,
    from: Ipv4Addr,
    step: Step,
    #[serde(default)]
    bytes: Vec<String>,
    before: Keys,
    after: Keys,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    Contract,
    Intended,
    Defect,
    Superseded,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Step {
    Bytes,
    Close,
}

/// Expected end of a case.
#[derive(Clone, Copy, Debug)]
enum End {
    /// The connection stays, and `after` is what is left, but for these keys; `null` is a key that
    /// is not there.
    Keys(&'static str),
    /// As the older server left it.
    Same,
    /// Bad data: the connection is closed, and the host leaves `exists`; else nothing has changed.
    Cut,
    /// The bytes are the beginning of a frame. The rest may come later, and then it counts.
    Waits(&'static str),
}

use End::{Cut, Keys as Left, Same, Waits};

/// Cases that end otherwise than with the older server, or whose keys were wrong there: the case,
/// its expected end, and the reason.
const OURS: &[(&str, End, &str)] = &[
    // Its lists did not move until the last command was done.
    (
        "task3_phase3_cmd1",
        Left(
            r#"{"AC132_127.0.0.2_complete": {"list": ["echo one"]},
                "AC132_127.0.0.2_oncall": {"list": ["echo three", "echo two"]},
                "AC132_complete": {"hash": {"127.0.0.2": "AC132_127.0.0.2_complete"}},
                "AC132_oncall": {"hash": {"127.0.0.2": "AC132_127.0.0.2_oncall"}},
                "AC132_working": null}"#,
        ),
        "each command that ends is recorded, not the last alone",
    ),
    (
        "task3_phase2_cmd2",
        Left(
            r#"{"AC132_127.0.0.2_complete": {"list": ["echo one"]},
                "AC132_127.0.0.2_oncall": {"list": ["echo three", "echo two"]}}"#,
        ),
        "what a message says is done is taken up, whichever phase it is",
    ),
    (
        "task3_phase3_cmd2",
        Left(
            r#"{"AC132_127.0.0.2_complete": {"list": ["echo one", "echo two"]},
                "AC132_127.0.0.2_oncall": {"list": ["echo three"]},
                "AC132_complete": {"hash": {"127.0.0.2": "AC132_127.0.0.2_complete"}},
                "AC132_oncall": {"hash": {"127.0.0.2": "AC132_127.0.0.2_oncall"}},
                "AC132_working": null}"#,
        ),
        "each command that ends is recorded, not the last alone",
    ),
    (
        "task3_phase2_cmd3",
        Left(
            r#"{"AC132_127.0.0.2_complete": {"list": ["echo one", "echo two"]},
                "AC132_127.0.0.2_oncall": {"list": ["echo three"]}}"#,
        ),
        "what a message says is done is taken up, whichever phase it is",
    ),
    (
        "two_hosts_a_phase3_cmd1",
        Left(
            r#"{"AC201_127.0.0.2_complete": {"list": ["echo a"]},
                "AC201_127.0.0.2_oncall": {"list": ["echo b"]},
                "AC201_complete": {"hash": {"127.0.0.2": "AC201_127.0.0.2_complete"}},
                "AC201_oncall": {"hash": {"127.0.0.2": "AC201_127.0.0.2_oncall"}},
                "AC201_working": null}"#,
        ),
        "each command that ends is recorded, not the last alone",
    ),
    (
        "two_hosts_b_phase3_cmd1",
        Left(
            r#"{"AC201_127.0.0.3_complete": {"list": ["echo a"]},
                "AC201_127.0.0.3_oncall": {"list": ["echo b"]},
                "AC201_complete": {"hash": {"127.0.0.3": "AC201_127.0.0.3_complete"}},
                "AC201_oncall": {"hash": {"127.0.0.3": "AC201_127.0.0.3_oncall"}},
                "AC201_working": {"hash": {"127.0.0.2": "echo a"}}}"#,
        ),
        "each command that ends is recorded, not the last alone",
    ),
    (
        "two_hosts_a_phase2_cmd2",
        Left(
            r#"{"AC201_127.0.0.2_complete": {"list": ["echo a"]},
                "AC201_127.0.0.2_oncall": {"list": ["echo b"]}}"#,
        ),
        "what a message says is done is taken up, whichever phase it is",
    ),
    (
        "two_hosts_b_phase2_cmd2",
        Left(
            r#"{"AC201_127.0.0.3_complete": {"list": ["echo a"]},
                "AC201_127.0.0.3_oncall": {"list": ["echo b"]}}"#,
        ),
        "what a message says is done is taken up, whichever phase it is",
    ),
    // The slash server left the command in `working` until the next one began, and cleaned up nothing.
    (
        "slash_task3_a_phase3_cmd1",
        Left(r#"{"AC132_working": null}"#),
        "a command that has ended is not being run",
    ),
    (
        "slash_task3_a_phase3_cmd2",
        Left(r#"{"AC132_working": {"hash": {"127.0.0.3": "echo one"}}}"#),
        "a command that has ended is not being run",
    ),
    (
        "slash_task3_b_phase3_cmd1",
        Left(
            r#"{"AC132_complete": {"hash": {"127.0.0.2": "AC132_127.0.0.2_complete",
                                            "127.0.0.3": "AC132_127.0.0.3_complete"}},
                "AC132_oncall": {"hash": {"127.0.0.2": "AC132_127.0.0.2_oncall",
                                          "127.0.0.3": "AC132_127.0.0.3_oncall"}},
                "AC132_working": {"hash": {"127.0.0.2": "echo one"}}}"#,
        ),
        "the second host has fields of its own",
    ),
    (
        "slash_task3_b_phase3_cmd2",
        Left(
            r#"{"AC132_complete": {"hash": {"127.0.0.2": "AC132_127.0.0.2_complete",
                                            "127.0.0.3": "AC132_127.0.0.3_complete"}},
                "AC132_oncall": {"hash": {"127.0.0.2": "AC132_127.0.0.2_oncall",
                                          "127.0.0.3": "AC132_127.0.0.3_oncall"}},
                "AC132_working": {"hash": {"127.0.0.2": "echo two"}}}"#,
        ),
        "the second host has fields of its own",
    ),
    (
        "slash_task3_a_phase3_cmd3",
        Left(
            r#"{"AC132_127.0.0.2_complete": null, "AC132_complete": null, "AC132_oncall": null,
                "AC132_working": {"hash": {"127.0.0.3": "echo two"}}}"#,
        ),
        "nothing of a host is left behind its last command",
    ),
    (
        "slash_task3_b_phase3_cmd3",
        Left(
            r#"{"AC132_127.0.0.3_complete": null, "AC132_working": {"hash": {"127.0.0.2": "echo three"}}}"#,
        ),
        "nothing of a host is left behind its last command",
    ),
    (
        "slash_solo_phase3",
        Left(
            r#"{"AC133_127.0.0.2_complete": null, "AC133_complete": null, "AC133_oncall": null,
                "AC133_working": null}"#,
        ),
        "nothing of a host is left behind its last command",
    ),
    // Lists.
    (
        "non_ascii_json",
        Left(r#"{"AC160_127.0.0.2_oncall": {"list": ["echo 蚂蚁"]}}"#),
        "where there is no list, phase 2 sets it from the message",
    ),
    (
        "phase1_twice_b",
        Left(r#"{"AC163_127.0.0.2_oncall": {"list": ["echo b", "echo a"]}}"#),
        "phase 1 sets the list, it does not add to it",
    ),
    (
        "phase3_empty_one_oncall",
        Left(r#"{"AC162_127.0.0.2_oncall": null}"#),
        "nothing done and nothing left is the end of the task",
    ),
    (
        "slash_slash_in_command",
        Left(r#"{"AC135_127.0.0.2_oncall": {"list": ["ls /tmp"]}}"#),
        "a command may hold a slash",
    ),
    // What a host is.
    (
        "info_report_json_client_shape",
        Left(
            r#"{"127.0.0.2_systemInfo": {"set": ["02-42-ac-11-00-02", "ant-2"]},
                "127.0.0.2_systemInfoIPV4": {"list": ["192.168.1.7", "10.0.0.5"]}}"#,
        ),
        "`identifier` and `kp` are read as `flag` and `ACK`",
    ),
    (
        "info_report_json_with_flag",
        Left(
            r#"{"127.0.0.2_systemInfo": {"set": ["02-42-ac-11-00-02", "ant-2"]},
                "127.0.0.2_systemInfoIPV4": {"list": ["192.168.1.7", "10.0.0.5"]}}"#,
        ),
        "the report is read in the shape in which it is built",
    ),
    (
        "slash_info_report_again",
        Left(r#"{"127.0.0.2_systemInfoIPV4": {"list": ["192.168.1.7", "10.0.0.5"]}}"#),
        "a new report replaces the older one",
    ),
    (
        "slash_info_non_ascii_short_header",
        Left(r#"{"127.0.0.3_systemInfo": {"set": ["02-42-ac-11-00-04", "蚂蚁-主机"]}}"#),
        "a new report replaces the older one",
    ),
    (
        "slash_info_non_ascii_byte_header",
        Left(
            r#"{"127.0.0.3_systemInfo": {"set": ["02-42-ac-11-00-04", "蚂蚁-主机"]},
                "127.0.0.3_systemInfoIPV4": {"list": ["10.0.0.6"]}}"#,
        ),
        "a new report replaces the older one",
    ),
    // Answers to a console line.
    (
        "console_ack_a",
        Left(r#"{"echo hello world_response": {"set": ["127.0.0.2", "127.0.0.3"]}}"#),
        "a console line is never part of a key",
    ),
    (
        "console_ack_b",
        Left(r#"{"echo hello world_response": {"set": ["127.0.0.3"]}}"#),
        "a console line is never part of a key",
    ),
    (
        "console_non_ascii_ack_a",
        Left(r#"{"echo 蚂蚁_response": {"set": ["127.0.0.2", "127.0.0.3"]}}"#),
        "a console line is never part of a key",
    ),
    (
        "console_non_ascii_ack_b",
        Left(r#"{"echo 蚂蚁_response": {"set": ["127.0.0.3"]}}"#),
        "a console line is never part of a key",
    ),
    (
        "console_key_like_ack",
        Same,
        "only the console may no longer send such a line; the answer is one to a key",
    ),
    ("console_key_like_rcc2", Same, "as above"),
    // Bad data: it cut the connection as well, but left the host in `exists`.
    ("ack_rcc9", Cut, "an unknown RCC is bad data"),
    ("unknown_flag", Cut, "an unknown code is bad data"),
    (
        "adh18_wrong_ack",
        Cut,
        "a heartbeat with another word is bad data",
    ),
    (
        "slash_keepalive_any_code",
        Cut,
        "a heartbeat with another word is bad data",
    ),
    ("slash_no_task_info", Cut, "half a report is bad data"),
    (
        "slash_ack_rcc",
        Cut,
        "there is no ADH33 in slash text: it is bad data",
    ),
    (
        "empty_body",
        Cut,
        "a length of 0 is bad data; it left the socket open",
    ),
    (
        "negative_length",
        Cut,
        "a length of -1 is bad data; it left the socket open",
    ),
    // Both versions of a body, any number of hosts and frames, and any cut of them are served.
    ("not_json", Same, "slash text and JSON are both read"),
    (
        "slash_json_heartbeat",
        Same,
        "slash text and JSON are both read",
    ),
    (
        "pipelined_two_frames",
        Same,
        "frames may follow each other at once",
    ),
    (
        "short_header",
        Waits(
            "00007b22666c6167223a20224144483138222c20227068617365223a20312c202241434b223a20226b656570416c697665227d",
        ),
        "the rest of a header may come later",
    ),
    (
        "one_at_a_time_second",
        Left(r#"{"exists": {"set": ["127.0.0.2", "127.0.0.3"]}}"#),
        "many hosts are served at once",
    ),
    (
        "one_at_a_time_first_leaves",
        Same,
        "the host that leaves is offline, as it was there",
    ),
    (
        "offline_host_comes_online",
        Same,
        "the keys are the same; nothing is sent to the host later",
    ),
];

/// Expected end of a case that differs from the older server's.
fn ours(case: &Case) -> Option<End> {
    let (_, end, _) = OURS.iter().find(|(name, ..)| *name == case.name)?;
    Some(*end)
}

/// The keys that a case leaves with us.
fn expected(case: &Case, end: End) -> Keys {
    match end {
        Same => case.after.clone(),
        Waits(_) => case.before.clone(),
        Cut => {
            let mut keys = case.before.clone();
            if let Some(Stored::Set(exists)) = keys.get_mut("exists") {
                exists.remove(&case.from.to_string());
                if exists.is_empty() {
                    keys.remove("exists");
                }
            }
            keys
        }
        Left(changes) => {
            let mut keys = case.after.clone();
            let changes: BTreeMap<String, Option<Stored>> = serde_json::from_str(changes).unwrap();
            for (key, stored) in changes {
                match stored {
                    Some(stored) => keys.insert(key, stored),
                    None => keys.remove(&key),
                };
            }
            keys
        }
    }
}

fn unhex(hex: &str) -> Vec<u8> {
    let digits = |at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
    (0..hex.len()).step_by(2).map(digits).collect()
}

/// The server closes, and has said nothing.
fn is_closed(stream: &mut TcpStream, case: &Case) {
    match stream.read(&mut [0; 1]) {
        Ok(0) => {}
        Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
        other => panic!("{}: {other:?}", case.name),
    }
}

fn write_keys(redis: &Redis, keys: &Keys) {
    for (key, stored) in keys {
        let mut words = vec![];
        match stored {
            // Hosts come online by themselves.
            Stored::Set(_) if key == "exists" => continue,
            Stored::Set(members) => {
                words.push("SADD".to_owned());
                words.push(key.clone());
                words.extend(members.iter().cloned());
            }
            Stored::List(values) => {
                words.push("RPUSH".to_owned());
                words.push(key.clone());
                words.extend(values.iter().cloned());
            }
            Stored::Hash(fields) => {
                words.push("HSET".to_owned());
                words.push(key.clone());
                words.extend(fields.iter().flat_map(|(f, v)| [f.clone(), v.clone()]));
            }
            Stored::Zset(members) => {
                words.push("ZADD".to_owned());
                words.push(key.clone());
                words.extend(
                    members
                        .iter()
                        .flat_map(|(m, score)| [score.to_string(), m.clone()]),
                );
            }
        }
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let _: i64 = redis.say(&words);
    }
}

fn replay(redis: &Redis, case: &Case) {
    let _: () = redis.say(&["FLUSHALL"]);
    let anthill = Anthill::serve(redis, &[("dispatch.on_done", json!("clear"))]);

    // The state to begin with: hosts online through connections of their own, the rest as it was.
    let mut hosts = BTreeMap::new();
    if let Some(Stored::Set(exists)) = case.before.get("exists") {
        for host in exists {
            let host: Ipv4Addr = host.parse().unwrap();
            let mut stream = anthill.connect(host);
            stream.write_all(&frame(HEARTBEAT)).unwrap();
            hosts.insert(host, stream);
        }
        let online = Keys::from([("exists".to_owned(), Stored::Set(exists.clone()))]);
        until_keys(redis, &case.name, &online);
    }
    write_keys(redis, &case.before);
    assert_eq!(keys(redis), case.before, "{}", case.name);

    let end = ours(case).unwrap_or(Same);
    let expected = expected(case, end);
    let mut stream = hosts
        .remove(&case.from)
        .unwrap_or_else(|| anthill.connect(case.from));
    if case.step == Step::Close {
        drop(stream);
        until_keys(redis, &case.name, &expected);
        return;
    }
    for piece in &case.bytes {
        stream.write_all(&unhex(piece)).unwrap();
    }
    match end {
        Cut => is_closed(&mut stream, case),
        Waits(rest) => {
            stream.write_all(&unhex(rest)).unwrap();
            all_before_is_stored(&mut stream, &case.name);
        }
        Same | Left(_) => all_before_is_stored(&mut stream, &case.name),
    }
    until_keys(redis, &case.name, &expected);
}

fn cases() -> Vec<Case> {
    serde_json::from_str(CASES).unwrap()
}

#[test]
fn captured_messages_leave_the_same_keys() {
    // Each case has a server of its own and begins from nothing, so that they can go side by side.
    let cases = cases();
    thread::scope(|scope| {
        for lane in cases.chunks(cases.len().div_ceil(LANES)) {
            scope.spawn(move || {
                let redis = Redis::start(&[]);
                for case in lane {
                    replay(&redis, case);
                }
            });
        }
    });
}

#[test]
fn each_deviation_is_listed() {
    let cases = cases();
    let names: BTreeSet<&str> = cases.iter().map(|case| case.name.as_str()).collect();
    assert_eq!((cases.len(), names.len()), (118, 118));
    let table: BTreeSet<&str> = OURS.iter().map(|(name, ..)| *name).collect();
    assert_eq!(table.len(), OURS.len(), "a case stands there twice");
    let unknown: Vec<_> = table.difference(&names).collect();
    assert!(unknown.is_empty(), "no such cases: {unknown:?}");
    for case in &cases {
        let ends = ours(case);
        match case.verdict {
            Verdict::Defect | Verdict::Superseded => assert!(ends.is_some(), "{}", case.name),
            Verdict::Intended => assert!(ends.is_none(), "{}", case.name),
            // An exception from the contract says what is left instead, and it is something else.
            Verdict::Contract => {
                if let Some(end) = ends {
                    assert!(matches!(end, Left(_)), "{}", case.name);
                    assert_ne!(expected(case, end), case.after, "{}", case.name);
                }
            }
        }
    }
}
