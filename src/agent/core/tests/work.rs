//! Tasks and commands: accepted, run and reported, and never started twice.

use super::*;

#[test]
fn each_step_is_journaled_before_its_effect() {
    let mut talk = agent().live();
    talk.datagram("10.9.9.9", b"AC1");
    assert_eq!(talk.did(), ["write taken", "send", "send"]);
    let mut talk = agent().live();
    talk.datagram(SERVER, b"AC1");
    talk.book("AC1", &["a", "x", "b"]);
    assert_eq!(
        talk.did(),
        [
            "write taken",
            "write book",
            "write phase 0",
            "send",
            "write starting 0",
            "write phase 1",
            "send",
            "run a"
        ]
    );
    talk.finishes(3, "out\n");
    let did = talk.did();
    assert_eq!(
        did[..9],
        [
            "keep 2 4",
            "write result 2",
            "send",
            "output 2 4",
            "write phase 3",
            "send",
            "write starting 1",
            "write phase 4",
            "send"
        ],
        "the next command is refused"
    );
    assert_eq!(did.last().unwrap(), "run b");
}

#[test]
fn each_step_of_a_book_is_reported() {
    let mut talk = agent().live();
    talk.pushes(&Push::Task("AC1".into()));
    talk.book("AC1", &["a", "x"]);
    talk.finishes(3, "");
    let refused = "anthill: refused: this host's allow file does not name it\n".len();
    assert_eq!(
        talk.messages(),
        [
            "AC1 Received -||a,x",
            "AC1 Began a||a,x",
            "result AC1 a 3 0",
            "AC1 Ended -|a|x",
            "AC1 Began x|a|x",
            &format!("result AC1 x 126 {refused}"),
            "AC1 Ended -|a,x|"
        ]
    );
    talk.wait(Span::from_secs(20));
    assert_eq!(talk.messages(), ["beat"]);
}

#[test]
fn a_key_is_run_once_however_often_it_comes() {
    let mut talk = agent().live();
    talk.pushes(&Push::Task("AC1".into()));
    talk.book("AC1", &["a"]);
    talk.datagram(SERVER, b"AC1");
    talk.finishes(0, "");
    talk.messages();
    talk.did();
    for _ in 0..10 {
        talk.datagram(SERVER, b"AC1");
    }
    assert_eq!(talk.messages(), vec!["Received AC1"; 10]);
    assert!(talk.did().is_empty(), "nothing is run or asked for");
    let mut talk = talk.crashes().live();
    talk.datagram(SERVER, b"AC1");
    assert_eq!(talk.messages(), ["Received AC1"]);
    assert!(talk.did().is_empty());
}

#[test]
fn unacknowledged_reports_are_sent_again() {
    let mut talk = agent().live();
    talk.pushes(&Push::Task("AC1".into()));
    talk.book("AC1", &["a"]);
    talk.replies(Flag::Progress, 0, Word::GotIt);
    talk.with(|core, at, fx| core.disconnected(at, "reset", fx));
    talk.finishes(0, "out");
    assert!(talk.did().contains(&"drop 0".to_owned()));
    talk.is_welcome();
    let told = ["AC1 Began a||a", "result AC1 a 0 3", "AC1 Ended -|a|"];
    assert_eq!(talk.messages()[1..4], told);
    let mut talk = talk.crashes();
    talk.is_welcome();
    assert_eq!(talk.messages()[1..4], told, "a new process sends them");
    for (flag, seq) in [(Flag::Progress, 1), (Flag::Progress, 3)] {
        talk.replies(flag, seq, Word::GotIt);
    }
    talk.replies(Flag::Result, 2, Word::Refused("nobody asked".into()));
    assert_eq!(talk.core.memory().reports(), 0);
    let mut talk = talk.crashes();
    talk.is_welcome();
    assert_eq!(talk.messages(), ["hello web-1", "inventory"]);
}

#[test]
fn reports_in_flight_are_bounded() {
    let mut talk = agent().live();
    talk.pushes(&Push::Task("AC1".into()));
    let names: Vec<String> = (0..100).map(|n| format!("x{n}")).collect();
    talk.book("AC1", &names.iter().map(String::as_str).collect::<Vec<_>>());
    let mut seen = 0;
    loop {
        let sent = talk.sent();
        assert!(sent.len() <= crate::limits::AGENT_REPORTS_IN_FLIGHT_MAX);
        if sent.is_empty() {
            break;
        }
        for (said, seq) in sent {
            assert_eq!(seq, Some(seen), "in order");
            seen += 1;
            let is_result = said.starts_with("result");
            let flag = if is_result {
                Flag::Result
            } else {
                Flag::Progress
            };
            talk.replies(flag, seq.unwrap(), Word::GotIt);
        }
    }
    assert_eq!(seen, 301, "one for the book, three for each command");
}

#[test]
fn a_running_task_is_lost_in_a_crash() {
    let mut talk = agent().live();
    talk.pushes(&Push::Task("AC1".into()));
    talk.book("AC1", &["a", "b", "c"]);
    talk.finishes(0, "");
    let mut talk = talk.crashes();
    assert!(!talk.did().iter().any(|did| did.starts_with("run")));
    talk.is_welcome();
    let said = talk.messages();
    assert_eq!(
        said.iter().find(|said| said.contains("lost")).unwrap(),
        "AC1 Ended -|a|b,c lost"
    );
    talk.datagram(SERVER, b"AC1");
    assert_eq!(talk.messages(), ["Received AC1"]);
    assert!(!talk.did().iter().any(|did| did.starts_with("run")));
}

#[test]
fn a_restart_loses_only_the_running_task() {
    let mut talk = agent().live();
    talk.pushes(&Push::Task("AC1".into()));
    talk.book("AC1", &["a", "b"]);
    talk.pushes(&Push::Task("AC2".into()));
    talk.book("AC2", &["b"]);
    talk.pushes(&Push::Task("AC3".into()));
    let mut talk = talk.crashes();
    talk.is_welcome();
    let sent = talk.sent();
    let said: Vec<_> = sent.iter().map(|(said, _)| said.as_str()).collect();
    assert!(said.contains(&"AC1 Ended -||a,b lost"), "{said:?}");
    assert!(!said.iter().any(|said| said.starts_with("AC2 Ended")));
    assert_eq!(
        talk.did()
            .iter()
            .filter(|did| did.starts_with("run"))
            .count(),
        0
    );
    let seq = |key: &str| {
        let question = format!("book? {key}");
        let asked = sent.iter().find(|(said, _)| *said == question);
        asked.and_then(|(_, seq)| *seq).expect("it asks")
    };
    let book = |key: &str, command: &str| Word::Book {
        task: key.to_owned(),
        commands: vec![(command.to_owned(), 0.0)],
    };
    talk.replies(Flag::Book, seq("AC2"), book("AC2", "b"));
    assert!(talk.did().contains(&"run b".to_owned()), "the queued one");
    talk.replies(Flag::Book, seq("AC3"), book("AC3", "c"));
    talk.finishes(0, "");
    assert!(talk.did().contains(&"run c".to_owned()), "and the next");
    talk.finishes(0, "");
    assert_eq!(talk.core.memory().open().count(), 0);
}

#[test]
fn a_queued_task_unknown_to_the_server_ends() {
    let mut talk = agent().live();
    talk.pushes(&Push::Task("AC1".into()));
    talk.book("AC1", &["a"]);
    talk.pushes(&Push::Task("AC2".into()));
    talk.book("AC2", &["b"]);
    let mut talk = talk.crashes();
    talk.is_welcome();
    let sent = talk.sent();
    let asked = sent.iter().find(|(said, _)| said == "book? AC2").unwrap();
    talk.replies(
        Flag::Book,
        asked.1.unwrap(),
        Word::Refused("expired".into()),
    );
    assert_eq!(talk.core.memory().open().count(), 0);
    let did = talk.did();
    assert!(!did.iter().any(|did| did.starts_with("run")), "{did:?}");
    let lost = Report::Phase {
        code: "AC2".into(),
        phase: crate::codec::message::Phase::Ended,
        done: 0,
        lost: true,
        cancelled: false,
    };
    let written = talk
        .journal
        .iter()
        .any(|record| matches!(record, Record::Report { report, .. } if *report == lost));
    assert!(written, "it is reported lost");
}

#[test]
fn a_hello_mentions_tasks_queued_before_a_restart() {
    let resumes = |talk: &mut Talk| {
        talk.connects();
        let sent = talk.fx.iter().find_map(|effect| match effect {
            Effect::Send(bytes) => Some(String::from_utf8_lossy(&bytes[4..]).into_owned()),
            _ => None,
        });
        sent.unwrap().contains(r#""resumes":true"#)
    };
    assert!(!resumes(&mut agent()));
    let mut talk = agent().live();
    talk.pushes(&Push::Task("AC1".into()));
    assert!(resumes(&mut talk.crashes()));
    let mut talk = agent().live();
    talk.pushes(&Push::Task("AC1".into()));
    talk.book("AC1", &["a"]);
    assert!(!resumes(&mut talk.crashes()), "a started task is lost");
}

#[test]
fn recent_console_commands_survive_a_restart() {
    for (age, runs) in [(5_000, true), (7_200_000, false)] {
        let mut talk = agent().live();
        talk.datagram(SERVER, b"a");
        let push = Push::Command {
            text: "b".into(),
            cid: CID.into(),
        };
        talk.pushes(&push);
        for record in &mut talk.journal {
            if let Record::Task { task, .. } = record {
                task.at = UnixMs(10_000_000 - age);
            }
        }
        let mut talk = start_at(settings(), talk.journal, UnixMs(10_000_000));
        let ran = talk.did().contains(&"run b".to_owned());
        assert_eq!(ran, runs, "{age}");
        talk.is_welcome();
        let refused = format!("result {CID} b 126");
        assert_eq!(
            talk.messages()
                .iter()
                .any(|said| said.starts_with(&refused)),
            !runs
        );
    }
}

#[test]
fn no_crash_runs_a_command_twice() {
    let whole = {
        let mut talk = agent().live();
        talk.pushes(&Push::Task("AC1".into()));
        talk.book("AC1", &["a", "b"]);
        talk.finishes(0, "1");
        talk.finishes(0, "2");
        talk.journal
    };
    for cut in 1..=whole.len() {
        let begun = whole[..cut]
            .iter()
            .any(|record| matches!(record, Record::Starting { .. }));
        let mut talk = start(settings(), whole[..cut].to_vec());
        talk.is_welcome();
        let asked: Vec<_> = talk.sent();
        talk.pushes(&Push::Task("AC1".into()));
        if let Some((_, seq)) = asked.iter().find(|(said, _)| said == "book? AC1") {
            let commands = vec![("a".to_owned(), 2.0), ("b".to_owned(), 1.0)];
            let task = "AC1".to_owned();
            talk.replies(Flag::Book, seq.unwrap(), Word::Book { task, commands });
            talk.finishes(0, "1");
            talk.finishes(0, "2");
        }
        let did = talk.did();
        let ran: Vec<_> = did.iter().filter(|did| did.starts_with("run")).collect();
        match begun {
            true => assert!(ran.is_empty(), "cut at {cut}: {did:?}"),
            false => assert_eq!(ran, ["run a", "run b"], "cut at {cut}"),
        }
        assert_eq!(talk.core.memory().open().count(), 0, "cut at {cut}");
    }
}

#[test]
fn a_tls_agent_drops_bare_datagrams() {
    let settings = Settings {
        tls: true,
        ..settings()
    };
    let mut talk = start(settings, Vec::new()).live();
    for bytes in [
        &b"AC1"[..],
        b"a",
        b"{\"flag\":\"ADH44\",\"taskId\":\"AC1\"}",
        b"\xff",
    ] {
        talk.datagram(SERVER, bytes);
        assert!(talk.messages().is_empty(), "{bytes:?}");
        assert!(talk.did().is_empty(), "{bytes:?}");
    }
    talk.pushes(&Push::Task("AC1".into()));
    assert_eq!(talk.messages()[0], "Received AC1", "its connection counts");
}

#[test]
fn a_task_without_a_book_may_come_again() {
    let mut talk = agent().live();
    for _ in 0..2 {
        talk.datagram(SERVER, b"AC1");
        let sent = talk.sent();
        assert_eq!(sent[0].0, "Received AC1");
        let seq = sent[1].1.expect("it asks for the book");
        talk.replies(Flag::Book, seq, Word::Refused("no such task".into()));
        assert_eq!(talk.messages(), ["NoBook AC1"]);
    }
}

#[test]
fn a_book_is_requested_again_after_a_reconnect() {
    let mut talk = agent().live();
    talk.datagram(SERVER, b"AC1");
    talk.with(|core, at, fx| core.disconnected(at, "reset", fx));
    talk.datagram(SERVER, b"AC2");
    talk.messages();
    talk.is_welcome();
    let said = talk.messages();
    assert_eq!(said[1..4], ["Received AC2", "book? AC1", "book? AC2"]);
}

#[test]
fn a_command_with_an_id_runs_once() {
    let mut talk = agent().live();
    let push = Push::Command {
        text: "a".into(),
        cid: CID.into(),
    };
    talk.pushes(&push);
    talk.pushes(&push);
    let did = talk.did();
    assert_eq!(
        did,
        ["write taken", "send", "write starting 0", "run a", "send"]
    );
    talk.finishes(0, "out");
    talk.pushes(&push);
    let answer = format!("Received {CID}");
    assert_eq!(talk.messages(), [format!("result {CID} a 0 3"), answer]);
    // A command that is running when the process ends is not run again, and is reported.
    let cid = CID.replace("00", "ff");
    let cid = cid.as_str();
    talk.pushes(&Push::Command {
        text: "b".into(),
        cid: cid.into(),
    });
    let mut talk = talk.crashes();
    talk.is_welcome();
    let lost = format!("result {cid} b 137");
    assert!(talk.messages().iter().any(|said| said.starts_with(&lost)));
    assert!(!talk.did().iter().any(|did| did.starts_with("run")));
}

#[test]
fn console_lines_need_the_server_and_an_entry() {
    let mut talk = agent().live();
    talk.datagram("10.9.9.9", b"a");
    assert!(talk.did().is_empty(), "a stranger");
    talk.datagram(SERVER, b"a");
    assert_eq!(talk.messages(), ["Received a"]);
    assert_eq!(talk.did(), ["run a"]);
    talk.finishes(0, "out");
    talk.datagram(SERVER, b"rm -rf /");
    assert_eq!(talk.messages(), ["Received rm -rf /"]);
    assert!(talk.did().is_empty(), "refused");
}

#[test]
fn an_invalid_datagram_is_answered_as_damaged() {
    let mut talk = agent().live();
    talk.datagram(SERVER, b"\xff\xfe");
    talk.datagram(SERVER, b"AC_1");
    talk.datagram(SERVER, &[b'a'; 1025]);
    assert_eq!(talk.messages(), vec!["Damaged -"; 3]);
    talk.datagram(SERVER, b"");
    assert!(talk.messages().is_empty());
    assert!(talk.did().is_empty());
}

#[test]
fn the_task_queue_is_bounded() {
    let mut talk = agent().live();
    for number in 0..100 {
        talk.datagram(SERVER, format!("AC{number}").as_bytes());
    }
    let said = talk.messages();
    let answered = said
        .iter()
        .filter(|said| said.starts_with("Received"))
        .count();
    assert_eq!(answered, crate::limits::AGENT_TASKS_WAITING_MAX);
    let mut idle = start(
        Settings {
            takes_work: false,
            ..settings()
        },
        Vec::new(),
    )
    .live();
    idle.datagram(SERVER, b"AC1");
    assert!(idle.messages().is_empty());
}

#[test]
fn a_result_that_breaks_connections_loses_its_output() {
    let mut talk = agent().live();
    let push = Push::Command {
        text: "a".into(),
        cid: CID.into(),
    };
    talk.pushes(&push);
    talk.finishes(7, "much");
    let mut sizes = Vec::new();
    for _ in 0..4 {
        talk.with(|core, at, fx| core.disconnected(at, "closed", fx));
        talk.is_welcome();
        let said = talk.messages();
        let result = said
            .iter()
            .rfind(|said| said.starts_with("result"))
            .unwrap();
        sizes.push(result.rsplit(' ').next().unwrap().to_owned());
    }
    assert_eq!(sizes, ["4", "4", "0", "0"]);
}

/// Completes a hello and returns the reports that are sent right after it.
fn under_way(talk: &mut Talk) -> Vec<String> {
    talk.is_welcome();
    let said = talk.messages();
    said.into_iter()
        .filter(|said| said.starts_with("AC") || said.starts_with("result"))
        .collect()
}

#[test]
fn only_the_result_that_breaks_connections_loses_output() {
    let mut talk = agent().live();
    talk.pushes(&Push::Task("AC1".into()));
    talk.book("AC1", &["a", "b"]);
    talk.finishes(0, "fine");
    talk.finishes(0, "far too long");
    talk.with(|core, at, fx| core.disconnected(at, "closed", fx));
    talk.fx.clear();
    // The server acknowledges every report before the long result.
    let mut hung_up = 0;
    loop {
        let said = under_way(&mut talk);
        assert_eq!(said.len(), 1, "suspects are sent one at a time: {said:?}");
        let mut next = said[0].clone();
        loop {
            if next == "result AC1 b 0 12" {
                hung_up += 1;
                talk.with(|core, at, fx| core.disconnected(at, "closed", fx));
                break;
            }
            assert_ne!(next, "result AC1 a 0 0", "the wrong one is blamed");
            let (seq, _) = talk.core.memory().report_from(0).unwrap();
            let flag = match next.starts_with("result") {
                true => Flag::Result,
                false => Flag::Progress,
            };
            talk.replies(flag, seq, Word::GotIt);
            match talk.messages().first() {
                Some(said) => next = said.clone(),
                None => {
                    assert_eq!(talk.core.memory().reports(), 0);
                    assert_eq!(hung_up, crate::limits::AGENT_RESULT_LOSSES_MAX);
                    return;
                }
            }
        }
    }
}

#[test]
fn an_unordered_book_runs_by_priority() {
    let mut talk = agent().live();
    talk.pushes(&Push::Task("AC1".into()));
    let asked = talk.sent();
    let (_, seq) = asked.iter().find(|(said, _)| said == "book? AC1").unwrap();
    let commands = [("a", 1.0), ("b", 7.0), ("x", 1.0), ("c", 7.0)];
    let commands = commands.map(|(command, priority)| (command.to_owned(), priority));
    let word = Word::Book {
        task: "AC1".into(),
        commands: commands.to_vec(),
    };
    talk.replies(Flag::Book, seq.unwrap(), word);
    assert_eq!(talk.messages()[0], "AC1 Received -||b,c,a,x");
}

#[test]
fn datagrams_of_strangers_get_no_answer() {
    let mut talk = agent().live();
    for bytes in [&b"AC_"[..], b"AC 1", b"\xff", b"uptime"] {
        talk.datagram("10.9.9.9", bytes);
        assert!(talk.did().is_empty(), "{bytes:?}");
    }
    talk.datagram(SERVER, b"AC_");
    assert_eq!(talk.messages(), ["Damaged -"]);
}

#[test]
fn an_answer_keeps_the_time_of_receipt() {
    let mut talk = agent();
    talk.datagram(SERVER, b"AC1");
    talk.at.wall = UnixMs(9_000_000);
    talk.is_welcome();
    let answers = talk.fx.iter().filter_map(|effect| match effect {
        Effect::Send(bytes) => Some(String::from_utf8_lossy(&bytes[4..]).into_owned()),
        _ => None,
    });
    let answer = answers.into_iter().find(|body| body.contains("ADH33"));
    assert_eq!(
        answer.unwrap(),
        r#"{"flag":"ADH33","RCC":1,"taskId":"AC1","answerTime":1000}"#
    );
}

#[test]
fn a_reloaded_allow_file_applies_to_the_next_command() {
    let mut talk = agent().live();
    talk.pushes(&Push::Task("AC1".into()));
    talk.book("AC1", &["a", "b", "new"]);
    let allow = Arc::new(Allow::parse(r#"["new"]"#).unwrap());
    talk.with(|core, _, _| core.set_allow(allow));
    talk.did();
    talk.finishes(0, "");
    let did = talk.did();
    assert!(did.contains(&"run new".to_owned()) && !did.contains(&"run b".to_owned()));
}

fn cancel(talk: &mut Talk, key: &str) {
    talk.pushes(&Push::Cancel(key.into()));
}

#[test]
fn a_cancelled_task_ends_its_command_and_starts_no_other() {
    let mut talk = agent().live();
    talk.pushes(&Push::Task("AC1".into()));
    talk.book("AC1", &["a", "b"]);
    talk.messages();
    talk.did();
    cancel(&mut talk, "AC1");
    cancel(&mut talk, "AC1");
    assert_eq!(talk.did(), ["end"], "once");
    talk.finishes(143, "");
    assert_eq!(
        talk.messages(),
        ["result AC1 a 143 0", "AC1 Ended -|a|b cancelled"]
    );
    assert!(!talk.did().iter().any(|did| did.starts_with("run")));
    assert_eq!(talk.core.memory().open().count(), 0);
    // The next task runs to its end.
    talk.pushes(&Push::Task("AC2".into()));
    talk.book("AC2", &["a"]);
    talk.messages();
    talk.finishes(0, "");
    assert_eq!(talk.messages(), ["result AC2 a 0 0", "AC2 Ended -|a|"]);
}

#[test]
fn a_queued_task_is_cancelled_before_it_runs() {
    let mut talk = agent().live();
    for key in ["AC1", "AC2", "AC3"] {
        talk.pushes(&Push::Task(key.into()));
        if key != "AC3" {
            talk.book(key, &["a"]);
        }
    }
    talk.messages();
    for key in ["AC2", "AC3", "AC4"] {
        cancel(&mut talk, key);
    }
    assert_eq!(
        talk.messages(),
        ["AC2 Ended -||a cancelled", "AC3 Ended -|| cancelled"]
    );
    talk.finishes(0, "");
    assert_eq!(talk.messages(), ["result AC1 a 0 0", "AC1 Ended -|a|"]);
    let ran = talk.did();
    assert_eq!(
        ran.iter().filter(|did| *did == "run a").count(),
        1,
        "{ran:?}"
    );
}
