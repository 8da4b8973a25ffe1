//! Console commands.

use super::*;
use crate::limits::DATAGRAM_BYTES_MAX;

const CID: &str = "0123456789abcdef0123456789abcdef";

fn command(text: &str, hosts: &[&str]) -> request::Request {
    let hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
    request::Request::Command {
        text: text.to_owned(),
        hosts: (!hosts.is_empty()).then_some(hosts),
        target: None,
        cid: CID.to_owned(),
    }
}

fn status(world: &mut World) -> Vec<(String, bool, bool, usize)> {
    let ask = request::Request::CommandStatus {
        cid: CID.to_owned(),
    };
    let request::Response::Command(view) = world.asked(ask) else {
        panic!("a command is shown");
    };
    let hosts = view.hosts.into_iter();
    hosts
        .map(|(host, sent, answered, found)| {
            (host.to_string(), sent, answered, found.results.len())
        })
        .collect()
}

#[test]
fn pushes_repeat_and_datagrams_are_sent_once() {
    let mut world = World::new();
    let plain = world.plain("10.0.0.1");
    let push = world.open("10.0.0.2:1");
    world.hello_with(push, "nat", None, None, true);
    let answer = world.asked(command("reboot", &["10.0.0.1", "nat", "10.0.0.9"]));
    let request::Response::Commanded {
        cid,
        hosts,
        unknown,
    } = answer
    else {
        panic!("it is sent");
    };
    let sent: Vec<bool> = hosts.iter().map(|host| host.1).collect();
    assert_eq!((cid.as_str(), sent), (CID, vec![true, false, true]));
    let unknown: Vec<&str> = unknown.iter().map(HostId::as_str).collect();
    assert_eq!(unknown, ["10.0.0.9"]);
    let expected = [
        "10.0.0.1:6655 reboot".to_owned(),
        format!("push {} reboot {CID}", push.slot),
    ];
    let mut sent = world.sent_to();
    sent.sort();
    assert_eq!(sent, expected);
    world.pass_beating(10_500, &[plain, push]);
    let again = world.sent();
    assert!(again.len() == 2 && again.iter().all(|sent| sent.1.starts_with("push")));
    world.rcc(push, ResultCode::Damaged, Some(CID));
    assert!(!status(&mut world)[2].2, "damaged is no answer");
    world.rcc(push, ResultCode::Received, Some(CID));
    world.rcc(plain, ResultCode::Received, Some("reboot"));
    world.pass_beating(200_000, &[plain, push]);
    assert!(world.sent().is_empty());
    let of = |host: &str, sent, answered| (host.to_owned(), sent, answered, 0);
    let expected = [
        of("10.0.0.1", true, true),
        of("10.0.0.9", false, false),
        of("nat", true, true),
    ];
    assert_eq!(status(&mut world), expected);
}

#[test]
fn unanswered_commands_have_the_tries_of_a_task() {
    let mut world = World::new();
    let push = world.open("10.0.0.2:1");
    world.hello_with(push, "nat", None, None, true);
    let _ = world.asked(command("reboot", &[]));
    world.pass_beating(400_000, &[push]);
    assert_eq!(world.sent().len(), 5);
}

#[test]
fn its_result_is_stored_under_its_id_and_is_an_answer() {
    let mut world = World::new();
    let push = world.open("10.0.0.2:1");
    world.hello_with(push, "nat", None, None, true);
    let _ = world.asked(command("uptime", &[]));
    results::send(&mut world, push, CID, "uptime", b"up", 0);
    assert_eq!(world.store.results[0].code, CID);
    assert_eq!(status(&mut world), [("nat".to_owned(), true, true, 1)]);
    world.sent();
    world.pass_beating(100_000, &[push]);
    assert!(world.sent().is_empty());
}

#[test]
fn a_line_that_cannot_be_one_is_refused() {
    let mut world = World::new();
    assert_eq!(
        error(world.asked(command("uptime", &[]))).0,
        ErrorKind::Wrong
    );
    world.plain("10.0.0.1");
    let long = "x".repeat(DATAGRAM_BYTES_MAX + 1);
    for text in ["", "  ", "AC1", "a\nb", "a\u{7f}", &long] {
        assert_eq!(
            error(world.asked(command(text, &[]))).0,
            ErrorKind::Wrong,
            "{text:?}"
        );
    }
    assert!(world.sent().is_empty());
    let _ = world.asked(command(&long[1..], &[]));
    assert_eq!(world.sent().len(), 1);
    assert_eq!(
        error(world.asked(command("again", &[]))).0,
        ErrorKind::Wrong,
        "the id is used"
    );
    let ask = request::Request::CommandStatus {
        cid: "f".repeat(32),
    };
    assert_eq!(error(world.asked(ask)).0, ErrorKind::Unknown);
}

#[test]
fn two_hosts_at_one_address_get_one_line() {
    let mut world = World::new();
    world.plain("10.0.0.1");
    let conn = world.open("10.0.0.1:2");
    world.hello(conn, "a", None);
    let _ = world.asked(command("uptime", &[]));
    assert_eq!(world.sent_to(), ["10.0.0.1:6655 uptime"]);
}
