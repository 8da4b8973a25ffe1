//! Cases of results, and of questions.

use super::*;
use crate::limits::OUTPUT_SHOWN_BYTES_MAX;
use crate::store::op::{Found, FoundHost, FoundResult, Question, Read, TaskResult};

/// The SHA-256 that the results of these cases are given.
const DIGEST: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// A result without output.
pub(super) fn result(code: &str, name: &str, command: &str, exit: i32) -> Op {
    put_out(code, name, command, exit, b"")
}

fn put_out(code: &str, name: &str, command: &str, exit: i32, output: &[u8]) -> Op {
    use base64::Engine;
    Op::Result(Box::new(TaskResult {
        origin: None,
        host: host(name),
        code: code.into(),
        command: command.into(),
        exit,
        seconds: 1.5,
        sha256: DIGEST.into(),
        truncated: exit != 0,
        output: base64::engine::general_purpose::STANDARD.encode(output),
        size: output.len() as u64,
        lifetime: Default::default(),
        stamp: stamp(9),
    }))
}

fn found_result(command: &str, exit: i32, size: u64, output: &[u8]) -> FoundResult {
    FoundResult {
        command: command.into(),
        exit,
        seconds: 1.5,
        size,
        sha256: DIGEST.into(),
        truncated: exit != 0,
        output: output.to_vec(),
    }
}

fn ask(s: &mut Box<dyn Subject>, question: Question) -> Found {
    let read = Read {
        ticket: 17,
        question,
    };
    match run(s, &[Op::Read(Box::new(read))]).pop() {
        Some(Outcome::Read { ticket: 17, found }) => found,
        other => panic!("not answered: {other:?}"),
    }
}

fn ask_task(s: &mut Box<dyn Subject>, code: &str, hosts: &[&str]) -> Found {
    let hosts = hosts.iter().map(|name| host(name)).collect();
    let question = match code.strip_prefix("AC") {
        Some(_) => Question::Task {
            key: TaskKey::parse(code, "AC").unwrap(),
            hosts,
        },
        None => Question::Command {
            cid: code.into(),
            hosts,
        },
    };
    ask(s, question)
}

fn ask_output(s: &mut Box<dyn Subject>, code: &str, name: &str, command: &str) -> Found {
    ask(
        s,
        Question::Output {
            code: code.into(),
            host: host(name),
            command: command.into(),
        },
    )
}

pub fn a_result_is_stored_and_replaces_itself(open: &mut Factory<'_>) {
    let mut s = open(settings());
    store_all(&mut s, &[put_out("AC1", "h", "df -h", 1, b"old")]);
    store_all(
        &mut s,
        &[
            put_out("AC1", "h", "df -h", 0, b"\xff\x00new"),
            put_out("AC1", "h", "uptime", -9, b""),
        ],
    );
    let df = format!(
        r#"{{"exit":0,"seconds":1.5,"size":5,"sha256":"{DIGEST}","truncated":false,"output":"/wBuZXc="}}"#
    );
    let up = format!(
        r#"{{"exit":-9,"seconds":1.5,"size":0,"sha256":"{DIGEST}","truncated":true,"output":""}}"#
    );
    let name = "anthill:task:AC1:result:h";
    assert_eq!(key(&mut s, name), hash(&[("df -h", &df), ("uptime", &up)]));
    assert_eq!(
        last_event(&mut s, &["event", "host", "key", "command", "state", "seq"]),
        ["result", "h", "AC1", "uptime", "-", "9"]
    );
    s.seed(name, Dump::Text("spoilt".into()));
    let outcomes = run(
        &mut s,
        &[result("AC1", "h", "a", 0), result("AC1", "i", "a", 0)],
    );
    let refused: Vec<bool> = outcomes.iter().map(|o| refusal(o).is_some()).collect();
    assert_eq!(refused, [true, false]);
}

pub fn a_question_is_answered_from_lists_and_results(open: &mut Factory<'_>) {
    let mut s = open(settings());
    let long: Vec<u8> = (0..3 * OUTPUT_SHOWN_BYTES_MAX).map(|n| n as u8).collect();
    store_all(
        &mut s,
        &[
            progress("h", 1, None, &[], &["a", "b", "c"]),
            put_out("AC1", "h", "a", 0, &long),
            progress("h", 3, None, &["a"], &["b", "c"]),
            progress("h", 2, Some("b"), &["a"], &["b", "c"]),
            put_out("AC1", "h", "\"b\" {\"output\":\"", 2, b"short"),
        ],
    );
    let told = ask_task(&mut s, "AC1", &["stranger", "h"]);
    let h = FoundHost {
        working: Some("b".into()),
        complete: owned(&["a"]),
        oncall: owned(&["b", "c"]),
        results: vec![
            found_result("\"b\" {\"output\":\"", 2, 5, b"short"),
            found_result("a", 0, long.len() as u64, &long[..OUTPUT_SHOWN_BYTES_MAX]),
        ],
    };
    assert_eq!(told, Found::Task(vec![FoundHost::default(), h]));
    assert_eq!(
        ask_output(&mut s, "AC1", "h", "a"),
        Found::Output(Some(long))
    );
    assert_eq!(ask_output(&mut s, "AC1", "h", "none"), Found::Output(None));
    assert_eq!(ask_output(&mut s, "AC2", "h", "a"), Found::Output(None));
    assert_eq!(ask_task(&mut s, "AC1", &[]), Found::Task(Vec::new()));
}

pub fn a_console_command_has_only_results(open: &mut Factory<'_>) {
    let mut s = open(settings());
    let cid = "0123456789abcdef0123456789abcdef";
    store_all(&mut s, &[put_out(cid, "h", "reboot", 0, b"bye")]);
    let h = FoundHost {
        results: vec![found_result("reboot", 0, 3, b"bye")],
        ..FoundHost::default()
    };
    assert_eq!(ask_task(&mut s, cid, &["h"]), Found::Task(vec![h]));
    assert_eq!(
        ask_output(&mut s, cid, "h", "reboot"),
        Found::Output(Some(b"bye".to_vec()))
    );
    drop(s);
    let mut s = open(Settings {
        keep: Span::from_millis(50),
        ..settings()
    });
    store_all(&mut s, &[put_out(cid, "h", "reboot", 0, b"bye")]);
    until_gone(&mut s, &format!("anthill:task:{cid}:result:h"));
}

pub fn a_question_about_a_key_of_another_type_fails(open: &mut Factory<'_>) {
    let mut s = open(settings());
    store_all(&mut s, &[put_out("AC1", "h", "a", 0, b"x")]);
    let field = |text: &str| hash(&[("a", text), ("b", r#"{"exit":1"#)]).unwrap();
    let Some(Dump::Hash(stored)) = key(&mut s, "anthill:task:AC1:result:h") else {
        panic!("there is a result");
    };
    // What is no result is left out, and hides no other.
    s.seed("anthill:task:AC1:result:h", field(&stored[0].1));
    let h = FoundHost {
        results: vec![found_result("a", 0, 1, b"x")],
        ..FoundHost::default()
    };
    assert_eq!(ask_task(&mut s, "AC1", &["h"]), Found::Task(vec![h]));
    assert!(matches!(
        ask_output(&mut s, "AC1", "h", "b"),
        Found::Nothing(_)
    ));
    s.seed("AC1_working", Dump::Text("spoilt".into()));
    assert!(matches!(ask_task(&mut s, "AC1", &["h"]), Found::Nothing(_)));
    s.seed("anthill:task:AC1:result:h", Dump::Text("spoilt".into()));
    assert!(matches!(
        ask_output(&mut s, "AC1", "h", "a"),
        Found::Nothing(_)
    ));
}

pub fn a_question_keeps_the_order_of_its_hosts(open: &mut Factory<'_>) {
    let mut s = open(settings());
    let names: Vec<String> = (0..100).rev().map(|n| format!("h{n}")).collect();
    let ops: Vec<Op> = names
        .iter()
        .map(|name| put_out("AC1", name, name, 0, name.as_bytes()))
        .collect();
    store_all(&mut s, &ops);
    // Asked in the batch that writes: what was before is seen.
    let read = Read {
        ticket: 3,
        question: Question::Task {
            key: TaskKey::parse("AC1", "AC").unwrap(),
            hosts: names.iter().map(|name| host(name)).collect(),
        },
    };
    let late = put_out("AC1", "h0", "late", 0, b"");
    let Some(Outcome::Read {
        found: Found::Task(told),
        ..
    }) = run(&mut s, &[late, Op::Read(Box::new(read))]).pop()
    else {
        panic!("not answered");
    };
    for (name, host) in names.iter().zip(&told) {
        assert_eq!(host.results[0].output, name.as_bytes());
    }
    assert_eq!(told[99].results.len(), 2);
}
