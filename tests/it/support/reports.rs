//! Reports of hosts, and the places in Redis where acknowledged ones must be.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{Host, Keys, Server, little};

/// The task that results are reported for.
pub const TASK: &str = "ACresults";

/// One of the three kinds of report, told apart by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Report(pub u64);

impl Report {
    /// Its bytes: ADH27, ADH33 and ADH43 in turn.
    pub fn bytes(self) -> Vec<u8> {
        let number = self.0;
        match number % 3 {
            0 => little(
                json!({"flag": "ADH27", "code": self.key(), "phase": 1, "working": null,
                    "complete": [], "oncall": ["a", "b"], "reply": true, "seq": number})
                .to_string()
                .as_bytes(),
            ),
            1 => little(
                json!({"flag": "ADH33", "RCC": 1, "taskId": self.key(), "answerTime": 1,
                    "reply": true, "seq": number})
                .to_string()
                .as_bytes(),
            ),
            _ => result_with(TASK, &self.key(), number),
        }
    }

    /// Its key, or the command of a result.
    pub fn key(self) -> String {
        format!("AC{}", self.0)
    }

    /// Before it is sent: what it will change.
    pub fn expect(self, redis: &impl Keys, host: &str) {
        if self.0 % 3 == 1 {
            let _: u64 = redis.on_key(&["SADD", &format!("{}_response", self.key()), host]);
        }
    }

    /// Returns whether it is in Redis.
    pub fn is_stored(self, redis: &impl Keys, host: &str) -> bool {
        let key = self.key();
        match self.0 % 3 {
            0 => redis.on_key::<u64>(&["LLEN", &format!("{key}_{host}_oncall")]) == 2,
            1 => !redis.on_key::<bool>(&["SISMEMBER", &format!("{key}_response"), host]),
            _ => {
                let hash = format!("anthill:task:{TASK}:result:{host}");
                redis.on_key::<bool>(&["HEXISTS", &hash, &key])
            }
        }
    }
}

/// The result of a command of a task, which asks to be acknowledged.
pub fn result(key: &str, command: &str) -> Vec<u8> {
    result_with(key, command, 0)
}

fn result_with(key: &str, command: &str, seq: u64) -> Vec<u8> {
    let output = format!("output of {command}");
    let digest = Sha256::digest(output.as_bytes());
    let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    let header = json!({"flag": "ADH43", "code": key, "task": command, "exit": 0, "seconds": 1,
        "total_size": output.len(), "sha256": digest, "truncated": false, "reply": true,
        "seq": seq});
    let header = little(header.to_string().as_bytes());
    [&header[..], output.as_bytes()].concat()
}

/// Numbers of reports whose results are of commands of the task: a host may send few others.
const NUMBERS: std::ops::Range<u64> = 0..1_600;

/// Dispatches the task that results are reported for, to hosts that are online.
#[track_caller]
pub fn dispatch_for_results(server: &Server, hosts: &[String]) {
    let results = NUMBERS.filter(|number| number % 3 == 2);
    let mut commands: serde_json::Map<String, Value> = results
        .map(|number| (Report(number).key(), number.into()))
        .collect();
    commands.insert("a".to_owned(), 1.into());
    server.dispatch(&json!({"key": TASK, "commands": commands, "hosts": hosts}));
}

/// Takes the acknowledgements that have come to a host: the numbers, in their order.
#[track_caller]
pub fn acknowledged(host: &mut Host, count: usize) -> Vec<Report> {
    let number = |reply: Value| {
        assert_eq!(reply["ACK"], "keepGotIt", "{reply}");
        Report(reply["seq"].as_u64().expect("a number"))
    };
    (0..count).map(|_| number(host.reply())).collect()
}

/// Those that were acknowledged to a host and are not in Redis.
pub fn missing(redis: &impl Keys, host: &str, acknowledged: &BTreeSet<Report>) -> Vec<Report> {
    let missing = |report: &&Report| !report.is_stored(redis, host);
    acknowledged.iter().filter(missing).copied().collect()
}
