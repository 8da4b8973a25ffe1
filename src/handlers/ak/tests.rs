//! Conversations with simulated devices, with their times.

use super::*;
use crate::codec::ak::emit_reply;
use crate::handlers::outside::{Failure, News};
use crate::limits::{
    AK_CONNECT_MS_MAX, AK_DEVICES_MAX, AK_DIAL_EVERY_MS, AK_LISTEN_MS, AK_RETRY_MS_MAX,
    OUTSIDE_AGAIN_S, OUTSIDE_ALL_S, OUTSIDE_OPS_MAX, OUTSIDE_PACE_MS,
};
use crate::store::op::{Op, Outside, Place};
use proptest::prelude::*;

fn rules(name: &str, commands: &[&str]) -> DeviceRules {
    let command = |code: &&str| Command {
        code: Code::parse(code).unwrap(),
        fields: Vec::new(),
    };
    DeviceRules {
        name: HostId::checked(name).unwrap(),
        addr: "127.0.0.1:9883".parse().unwrap(),
        channel: 0,
        commands: commands.iter().map(command).collect(),
        period: Span::from_secs(1),
        timeout: Span::from_millis(500),
        stale: Span::from_secs(10),
        filler: b' ',
    }
}

/// Devices, and a clock that the test advances.
struct Rig {
    devices: Devices,
    out: Wishes,
    ms: u64,
    /// Distance of the horizon behind the clock.
    lag: u64,
    link: Option<Link>,
}

impl Rig {
    fn new(rules: Vec<DeviceRules>) -> Self {
        let mut rig = Self {
            devices: Devices::default(),
            out: Wishes::default(),
            ms: 1_000,
            lag: 0,
            link: None,
        };
        rig.set(rules);
        rig
    }

    fn set(&mut self, rules: Vec<DeviceRules>) {
        let at = self.at();
        self.devices.set(at, rules, &mut self.out);
    }

    fn at(&self) -> Moment {
        Moment {
            now: Instant::ZERO + Span::from_millis(self.ms),
            wall: UnixMs(1_000_000 + self.ms),
        }
    }

    /// Actions since the last call, as text.
    fn acts(&mut self) -> Vec<String> {
        let acts = std::mem::take(&mut self.out.acts);
        let words = acts.into_iter().map(|act| match act {
            Act::Dial { link, .. } => {
                self.link = Some(link);
                "dial".to_owned()
            }
            Act::Send { bytes, .. } => {
                let text = String::from_utf8(bytes).unwrap();
                text.trim_matches(['\x02', '\x03', ' ']).to_owned()
            }
            Act::Hang { .. } => "hang".to_owned(),
        });
        words.collect()
    }

    /// Events since the last call.
    fn news(&mut self) -> Vec<String> {
        let news = std::mem::take(&mut self.out.news).into_iter();
        let words = news.map(|news| match news {
            News::Device { state, reason, .. } => match reason {
                Some(reason) => format!("{state}: {reason}"),
                None => state.to_owned(),
            },
            News::Target { .. } => panic!("there is no target"),
        });
        words.collect()
    }

    /// Lets `ms` pass, a millisecond at a time, and returns the requests.
    fn pass(&mut self, ms: u64) -> Vec<String> {
        let mut acts = Vec::new();
        for _ in 0..ms {
            self.ms += 1;
            acts.extend(self.tick());
        }
        acts
    }

    fn tick(&mut self) -> Vec<String> {
        let at = self.at();
        let judge = at.now - Span::from_millis(self.lag);
        self.devices.tick(judge, at, &mut self.out);
        self.acts()
    }

    fn fate(&mut self, fate: Fate<'_>) -> Vec<String> {
        let (at, link) = (self.at(), self.link.expect("it was dialled"));
        self.devices.fate(at, link, fate, &mut self.out);
        self.acts()
    }

    fn connect(&mut self) -> Vec<String> {
        let took = Span::ZERO;
        let acts = self.fate(Fate::Connected { took });
        assert!(acts.is_empty(), "it is listened to first: {acts:?}");
        self.pass(AK_LISTEN_MS + 2)
    }

    /// Delivers bytes that are found when a request is about to be sent.
    fn early(&mut self, bytes: &[u8]) -> Vec<String> {
        self.fate(Fate::Early { bytes })
    }

    fn hear(&mut self, bytes: &[u8]) -> Vec<String> {
        let took = Span::ZERO;
        self.fate(Fate::Bytes { bytes, took })
    }

    fn reply(&mut self, code: &str, status: u8, data: &str) -> Vec<String> {
        let code: [u8; 4] = code.as_bytes().try_into().unwrap();
        let mut bytes = Vec::new();
        emit_reply(b' ', code, status, data.as_bytes(), &mut bytes);
        self.hear(&bytes)
    }

    fn end(&mut self, failure: Failure) -> Vec<String> {
        let took = Span::ZERO;
        self.fate(Fate::Ended { failure, took })
    }

    fn state(&self) -> State {
        self.devices.iter().next().unwrap().state()
    }

    /// Operations for the store now, on its connection number `session`.
    fn written(&mut self, session: u32) -> Vec<Outside> {
        let (at, mut ops) = (self.at(), Vec::new());
        self.devices.pull(at, Some(session), &mut ops);
        let ops = ops.into_iter().map(|op| match op {
            Op::Outside(op) => *op,
            other => panic!("{other:?}"),
        });
        ops.collect()
    }
}

/// A rig with one connected device and its first request.
fn asked(commands: &[&str]) -> Rig {
    let mut rig = Rig::new(vec![rules("d", commands)]);
    assert_eq!(rig.pass(2), ["dial"]);
    assert_eq!(rig.connect(), [format!("{} K0", commands[0])]);
    rig
}

#[test]
fn a_round_sends_each_command_once_in_order() {
    let mut rig = asked(&["ASTZ", "AKON"]);
    let none: [&str; 0] = [];
    assert_eq!(rig.pass(100), none, "one question at a time");
    assert_eq!(rig.reply("ASTZ", 0, "SREM STBY"), ["AKON K0"]);
    assert_eq!(rig.pass(100), none);
    assert_eq!(rig.reply("AKON", 0, "1.5"), none);
    assert_eq!(rig.news(), ["up"]);
    assert_eq!(rig.pass(797), none, "the period began with the round");
    assert_eq!(rig.pass(5), ["ASTZ K0"]);
    let view = rig.devices.get("d").unwrap();
    let values: Vec<_> = view
        .values()
        .map(|(code, value)| (code.to_string(), value.data.clone()))
        .collect();
    assert_eq!(
        values,
        [
            ("ASTZ".into(), "SREM STBY".into()),
            ("AKON".into(), "1.5".into())
        ]
    );
    assert_eq!(view.last_good(), UnixMs(1_001_204 + AK_LISTEN_MS));
}

#[test]
fn a_long_round_is_followed_at_once() {
    let mut rules = rules("d", &["ASTZ"]);
    rules.timeout = Span::from_secs(30);
    let mut rig = Rig::new(vec![rules]);
    rig.pass(2);
    rig.connect();
    rig.pass(3_500);
    assert_eq!(rig.reply("ASTZ", 0, ""), ["ASTZ K0"]);
    assert!(rig.reply("ASTZ", 0, "").is_empty(), "it is not made up for");
    assert!(rig.pass(990).is_empty());
    assert_eq!(rig.pass(20), ["ASTZ K0"]);
}

#[test]
fn a_timeout_ends_the_connection() {
    let mut rig = asked(&["ASTZ"]);
    let link = rig.link;
    assert!(rig.pass(498).is_empty());
    assert_eq!(rig.pass(5), ["hang"]);
    assert_eq!(rig.news(), ["down: no answer in time"]);
    assert!(rig.reply("ASTZ", 0, "late").is_empty());
    assert!(rig.devices.get("d").unwrap().values().next().is_none());
    assert!(rig.pass(980).is_empty(), "it rests for a second");
    assert_eq!(rig.pass(40), ["dial"]);
    assert_ne!(rig.link, link);
    rig.connect();
    rig.link = link;
    assert!(rig.reply("ASTZ", 0, "of the first connection").is_empty());
    assert_eq!(rig.state(), State::Down);
}

#[test]
fn silence_is_judged_by_the_horizon() {
    let mut rig = asked(&["ASTZ"]);
    rig.lag = 2_000;
    assert!(
        rig.pass(2_400).is_empty(),
        "what has arrived may not be read yet"
    );
    assert!(rig.news().is_empty());
    assert_eq!(rig.pass(200), ["hang"]);
}

#[test]
fn a_wrong_or_unsolicited_reply_ends_the_connection() {
    for (answer, why) in [
        (
            &b"\x02 AKON 0 1\x03"[..],
            "down: an answer to AKON where ASTZ was asked",
        ),
        (
            b"\x02 broken\x03",
            "down: what stands between STX and ETX is no reply",
        ),
    ] {
        let mut rig = asked(&["ASTZ", "AKON"]);
        assert_eq!(rig.hear(answer), ["hang"]);
        assert_eq!(rig.news(), [why]);
        assert_eq!(rig.devices.stats().abnormal, 1);
    }
    let mut rig = asked(&["ASTZ", "AKON"]);
    let glued = b"\x02 ASTZ 0 1\x03\x02 ASTZ 0 2\x03";
    assert_eq!(rig.hear(glued), ["hang"]);
    assert_eq!(rig.news(), ["up"], "its question was answered");
    let view = rig.devices.get("d").unwrap();
    assert_eq!(view.values().next().unwrap().1.data, "1");
}

#[test]
fn a_reply_must_begin_after_its_request() {
    let mut rig = asked(&["ASTZ"]);
    assert!(rig.hear(b"\x02 ASTZ 0 1\x03\x02 AST").is_empty());
    assert_eq!(rig.pass(1_005), ["ASTZ K0"]);
    assert_eq!(rig.hear(b"Z 0 2\x03"), ["hang"]);
    assert_eq!(
        rig.news(),
        [
            "up",
            "down: an answer to ASTZ that began before ASTZ was asked"
        ]
    );
}

#[test]
fn bytes_before_a_request_are_no_reply() {
    // Directly after the connect, as from a converter that still holds a reply to the previous
    // connection.
    let mut rig = Rig::new(vec![rules("d", &["ASTZ"])]);
    rig.pass(2);
    let took = Span::ZERO;
    assert!(rig.fate(Fate::Connected { took }).is_empty());
    assert!(rig.hear(b"\xffnoise\r\n").is_empty(), "noise is none");
    rig.pass(10);
    assert_eq!(rig.reply("ASTZ", 0, "late"), ["hang"]);
    assert_eq!(rig.news(), ["down: an answer to ASTZ, which was not asked"]);
    rig.pass(1_010);
    assert_eq!(rig.connect(), ["ASTZ K0"]);
    // And while they wait to be read.
    assert!(rig.reply("ASTZ", 0, "1").is_empty());
    assert_eq!(rig.pass(1_005), ["ASTZ K0"]);
    assert!(rig.early(b"\r\n\x02 AST").is_empty());
    assert_eq!(rig.hear(b"Z 0 half\x03"), ["hang"], "it began before");
    rig.pass(2_010);
    rig.connect();
    rig.reply("ASTZ", 0, "1");
    assert_eq!(rig.pass(1_005), ["ASTZ K0"]);
    assert!(rig.early(b"\r").is_empty());
    assert!(rig.reply("ASTZ", 0, "2").is_empty());
    assert_eq!(rig.pass(1_005), ["ASTZ K0"]);
    let asked = rig.devices.stats().asked;
    rig.news();
    assert_eq!(rig.early(b"\x02 ASTZ 0 unasked\x03"), ["hang"]);
    assert!(rig.news().is_empty(), "it was not asked and answers");
    assert_eq!(rig.devices.stats().asked, asked - 1);
    let view = rig.devices.get("d").unwrap();
    assert_eq!(view.values().next().unwrap().1.data, "2");
    rig.pass(1_010);
    assert_eq!(rig.connect(), ["ASTZ K0"], "it is asked now");
}

#[test]
fn noise_pieces_and_returns_are_parsed() {
    let mut rig = asked(&["ASTZ", "AKON"]);
    for byte in b"\xffnoise\x03\x02 half\x02 ASTZ 0 a\r\nb" {
        assert!(rig.hear(&[*byte]).is_empty());
    }
    assert_eq!(rig.hear(b"\x03\r"), ["AKON K0"]);
    assert!(rig.hear(b"\r\n\x02 AKON 0 1\x03\r\n").is_empty());
    let view = rig.devices.get("d").unwrap();
    assert_eq!(view.values().next().unwrap().1.data, "a\r\nb");
    assert_eq!(rig.news(), ["up"]);
}

#[test]
fn refusals_are_replies_without_fresh_data() {
    let mut rig = asked(&["ASTZ", "AKON"]);
    assert_eq!(rig.reply("ASTZ", 0, "BS"), ["AKON K0"]);
    assert!(rig.reply("????", 0, "").is_empty());
    assert_eq!(
        (rig.state(), rig.news()),
        (State::Up, vec!["up".to_owned()])
    );
    for _ in 0..9 {
        rig.pass(1_005);
        rig.reply("ASTZ", 0, "NA");
        rig.reply("AKON", 0, "OF");
    }
    assert!(rig.news().is_empty());
    rig.pass(990);
    assert_eq!(rig.news(), ["stale: no good answer for 10 s"]);
    assert_eq!(rig.state(), State::Stale);
    rig.pass(10);
    assert_eq!(rig.reply("ASTZ", 0, "SREM"), ["AKON K0"]);
    assert_eq!(
        (rig.state(), rig.news()),
        (State::Up, vec!["up".to_owned()])
    );
    let refused: Vec<_> = rig
        .devices
        .get("d")
        .unwrap()
        .values()
        .map(|(_, value)| value.refused)
        .collect();
    assert_eq!(refused, [None, Some(Refusal::Offline)]);
}

#[test]
fn a_glued_refusal_keeps_the_connection() {
    let mut rig = asked(&["ASTZ", "AKON"]);
    assert_eq!(rig.hear(b"\x02 ASTZ 0BS\x03"), ["AKON K0"]);
    assert!(rig.reply("AKON", 4, "1.5").is_empty());
    assert_eq!(rig.pass(1_000), ["ASTZ K0"]);
    assert_eq!(rig.hear(b"\x02 ASTZ K0BS\x03"), ["AKON K0"]);
    assert!(rig.hear(b"\x02 AKONOF\x03").is_empty());
    let stats = rig.devices.stats();
    assert_eq!((stats.refused, stats.good, stats.abnormal), (3, 1, 0));
    let view = rig.devices.get("d").unwrap();
    let status = view.error_status();
    assert_eq!(status, 4, "a refusal without a status changes none");
}

#[test]
fn a_changed_status_requests_the_errors() {
    let mut rig = asked(&["ASTZ", "AKON", "ASTF"]);
    assert_eq!(rig.reply("ASTZ", 3, ""), ["ASTF K0"]);
    assert_eq!(rig.news(), ["up", "up: error status 3, was 0"]);
    assert_eq!(
        rig.reply("ASTF", 4, "102"),
        ["AKON K0"],
        "its own answer asks for no other"
    );
    assert_eq!(rig.news(), ["up: error status 4, was 3"]);
    assert_eq!(rig.reply("AKON", 4, ""), ["ASTF K0"], "in its turn");
    assert!(rig.reply("ASTF", 0, "").is_empty());
    assert_eq!(rig.news(), ["up: error status 0, was 4"]);
    let mut rig = asked(&["ASTZ", "AKON"]);
    assert_eq!(rig.reply("ASTZ", 3, ""), ["AKON K0"], "ASTF is not allowed");
    assert_eq!(rig.news().len(), 2);
}

#[test]
fn rests_grow_until_a_good_reply() {
    let mut rig = Rig::new(vec![rules("d", &["ASTZ"])]);
    let mut rests = Vec::new();
    assert_eq!(rig.pass(2), ["dial"]);
    for _ in 0..5 {
        rig.end(Failure::Refused);
        let begun = rig.ms;
        while rig.pass(1).is_empty() {}
        rests.push((rig.ms - begun) / 100);
    }
    assert_eq!(rests, [10, 20, 40, 50, 50]);
    let news = rig.news();
    assert_eq!(news.len(), 2, "each told once: {news:?}");
    assert_eq!(news[0], "down: refused");
    rig.connect();
    rig.reply("ASTZ", 0, "");
    assert!(rig.end(Failure::Closed).is_empty());
    assert_eq!(rig.news(), ["up"], "nothing was expected of it");
    assert!(rig.pass(990).is_empty());
    assert_eq!(rig.pass(20), ["dial"]);
}

#[test]
fn a_device_that_closes_after_each_reply_stays_up() {
    let mut rig = asked(&["ASTZ", "AKON", "ASTF"]);
    rig.reply("ASTZ", 0, "");
    for (open, data) in [("AKON", "1"), ("ASTF", "")] {
        assert!(rig.end(Failure::Closed).is_empty());
        assert!(rig.pass(990).is_empty(), "not hammered");
        assert_eq!(rig.pass(20), ["dial"]);
        assert_eq!(rig.connect(), [format!("{open} K0")], "asked again");
        rig.reply(open, 0, data);
    }
    assert_eq!(rig.news(), ["up"]);
    assert_eq!(rig.devices.get("d").unwrap().values().count(), 3);
    // The device is gone: the next connection shows it.
    rig.end(Failure::Reset);
    rig.pass(1_010);
    rig.end(Failure::Refused);
    assert_eq!(rig.news(), ["down: refused"]);
}

#[test]
fn a_dead_request_does_not_block_later_ones() {
    let mut rig = asked(&["ASTZ", "AKON", "AVFI"]);
    assert_eq!(rig.reply("ASTZ", 0, ""), ["AKON K0"]);
    assert_eq!(rig.pass(510), ["hang"]);
    assert_eq!(rig.pass(1_010), ["dial"]);
    assert_eq!(rig.connect(), ["AVFI K0"]);
    assert_eq!(
        rig.reply("AVFI", 0, ""),
        ["ASTZ K0"],
        "the next round is due"
    );
    // A request that ends two connections without a reply is not repeated for ever.
    assert_eq!(rig.reply("ASTZ", 0, ""), ["AKON K0"]);
    rig.end(Failure::Closed);
    rig.pass(1_010);
    assert_eq!(rig.connect(), ["AKON K0"]);
    rig.end(Failure::Closed);
    rig.pass(2_010);
    assert_eq!(rig.connect(), ["AVFI K0"]);
}

#[test]
fn errors_are_requested_on_the_next_connection() {
    let mut rig = asked(&["ASTZ", "AKON", "ASTF"]);
    assert_eq!(rig.reply("ASTZ", 3, ""), ["ASTF K0"]);
    rig.end(Failure::Closed);
    rig.pass(1_010);
    assert_eq!(rig.connect(), ["ASTF K0"]);
    assert_eq!(rig.reply("ASTF", 3, "103"), ["AKON K0"]);
}

#[test]
fn a_standstill_makes_no_data_stale() {
    let mut rig = asked(&["ASTZ"]);
    rig.reply("ASTZ", 0, "");
    rig.pass(500);
    rig.ms += 30_000;
    assert_eq!(rig.tick(), ["ASTZ K0"]);
    rig.pass(100);
    rig.reply("ASTZ", 0, "");
    assert_eq!(rig.news(), ["up"]);
    rig.pass(2);
    rig.ms += 30_000;
    rig.tick();
    rig.end(Failure::Closed);
    rig.pass(1_010);
    rig.connect();
    rig.reply("ASTZ", 0, "BS");
    assert!(rig.news().is_empty(), "it closed meanwhile");
    rig.pass(9_000);
    let is_stale = |news: &String| news.starts_with("stale");
    assert!(rig.news().iter().any(is_stale), "but its time runs on");
}

#[test]
fn a_reply_after_a_standstill_is_not_fresher() {
    let mut rig = asked(&["ASTZ"]);
    rig.reply("ASTZ", 0, "");
    assert_eq!(rig.pass(1_000), ["ASTZ K0"]);
    rig.ms += 3_600_000;
    // Sockets are read before time is judged.
    rig.reply("ASTZ", 0, "");
    rig.tick();
    rig.end(Failure::Closed);
    rig.news();
    rig.pass(10_100);
    let is_stale = |news: &String| news.starts_with("stale");
    assert!(rig.news().iter().any(is_stale));
}

#[test]
fn the_reason_is_that_of_the_current_failure() {
    let mut rig = Rig::new(vec![rules("d", &["ASTZ"])]);
    rig.pass(2);
    rig.end(Failure::Refused);
    rig.pass(1_010);
    rig.connect();
    rig.pass(600);
    let view = rig.devices.get("d").unwrap();
    assert_eq!(view.reason(), Some("no answer in time"));
    assert_eq!(rig.news(), ["down: refused"], "told once");
}

#[test]
fn a_slow_connection_attempt_is_given_up() {
    let mut rig = Rig::new(vec![rules("d", &["ASTZ"])]);
    assert_eq!(rig.pass(2), ["dial"]);
    assert!(rig.pass(1_490).is_empty());
    assert_eq!(rig.pass(20), ["hang"]);
    assert_eq!(rig.news(), ["down: does not take connections"]);
}

#[test]
fn a_silent_device_is_down_and_then_stale() {
    let mut rig = asked(&["ASTZ"]);
    rig.pass(12_000);
    assert_eq!(
        rig.news(),
        ["down: no answer in time", "stale: no good answer for 10 s"]
    );
    assert_eq!(rig.state(), State::Down);
}

#[test]
fn concurrent_dials_are_bounded() {
    let many = (0..AK_CONNECTING_MAX + 100)
        .map(|n| rules(&format!("d{n}"), &["ASTZ"]))
        .collect();
    let mut rig = Rig::new(many);
    rig.pass(2);
    let dials = rig.pass(AK_CONNECTING_MAX as u64 / 2).len() as u64;
    assert!(
        dials * AK_DIAL_EVERY_MS <= AK_CONNECTING_MAX as u64 / 2 + 1,
        "{dials}"
    );
    rig.pass(AK_CONNECTING_MAX as u64 * AK_DIAL_EVERY_MS);
    assert_eq!(rig.devices.connecting, AK_CONNECTING_MAX);
    assert!(rig.pass(100).is_empty(), "no more than so many at once");
    rig.end(Failure::Refused);
    assert_eq!(rig.pass(1), ["dial"]);
}

#[test]
fn dead_devices_do_not_block_dials() {
    let patient = |n| DeviceRules {
        timeout: Span::from_secs(60),
        ..rules(&format!("d{n}"), &["ASTZ"])
    };
    let mut rig = Rig::new((0..AK_DEVICES_MAX).map(patient).collect());
    let dialled = |acts: Vec<String>| acts.iter().filter(|act| *act == "dial").count();
    let most = AK_DEVICES_MAX as u64 * AK_DIAL_EVERY_MS + AK_CONNECT_MS_MAX;
    let dials = dialled(rig.pass(most + 10));
    assert!(dials >= AK_DEVICES_MAX, "{dials} dials, none came about");
    // With any time limit of a reply, at most so many wait as rest.
    let cycle = AK_CONNECT_MS_MAX + AK_RETRY_MS_MAX;
    rig.pass(3 * cycle);
    let dials = dialled(rig.pass(cycle + 1_000));
    assert!(dials >= AK_DEVICES_MAX, "{dials} dials in {cycle} ms");
}

#[test]
fn a_device_reached_again_is_polled_at_once() {
    let hourly = DeviceRules {
        period: Span::from_secs(3_600),
        ..rules("d", &["ASTZ", "AKON"])
    };
    let mut rig = Rig::new(vec![hourly]);
    rig.pass(2);
    rig.connect();
    assert_eq!(rig.reply("ASTZ", 0, ""), ["AKON K0"]);
    rig.reply("AKON", 0, "");
    assert_eq!(rig.news(), ["up"]);
    // It closes and is available again. No reply was expected, and the next round is an hour away.
    rig.end(Failure::Closed);
    assert_eq!(rig.pass(1_010), ["dial"]);
    assert!(rig.connect().is_empty());
    // It is switched off and on: down in between, but not for the rest of the hour.
    rig.end(Failure::Reset);
    assert_eq!(rig.pass(2_010), ["dial"]);
    rig.end(Failure::Refused);
    assert_eq!(rig.news(), ["down: refused"]);
    assert_eq!(rig.pass(4_010), ["dial"]);
    assert_eq!(rig.connect(), ["ASTZ K0"]);
    assert_eq!(rig.reply("ASTZ", 0, ""), ["AKON K0"]);
    rig.reply("AKON", 0, "");
    assert_eq!(rig.news(), ["up"]);
    // That was the round: the next one begins a period later.
    assert!(rig.pass(10_000).is_empty());
}

#[test]
fn a_silent_device_is_polled_in_the_next_round() {
    let slow = DeviceRules {
        period: Span::from_secs(30),
        ..rules("d", &["ASTZ"])
    };
    let mut rig = Rig::new(vec![slow]);
    rig.pass(2);
    assert_eq!(rig.connect(), ["ASTZ K0"]);
    assert_eq!(rig.pass(510), ["hang"]);
    assert_eq!(rig.pass(1_010), ["dial"]);
    assert!(rig.connect().is_empty());
    assert!(rig.pass(28_000).is_empty());
    assert_eq!(rig.pass(800), ["ASTZ K0"]);
}

#[test]
fn values_are_written_again_after_a_reconnect() {
    let mut rig = asked(&["ASTZ"]);
    let at = rig.at();
    rig.devices.pull(at, None, &mut Vec::new());
    let [first] = &rig.written(1)[..] else {
        panic!("one device")
    };
    assert!(first.whole, "an earlier process may have left more there");
    assert!(rig.written(1).is_empty());
    rig.reply("ASTZ", 2, "BS");
    assert!(rig.written(1).is_empty(), "it is gathered for a moment");
    rig.pass(250);
    let [op] = &rig.written(1)[..] else {
        panic!("one device")
    };
    let field = |name: &str| {
        op.set
            .iter()
            .find(|(field, _)| field == name)
            .map(|(_, text)| text.as_str())
    };
    assert_eq!(op.place, Place::Device(HostId::checked("d").unwrap()));
    assert_eq!(
        (field("ASTZ"), field("ASTZ.refused")),
        (Some("BS"), Some("BS"))
    );
    assert_eq!(
        (field("state"), field("error_status")),
        (Some("up"), Some("2"))
    );
    assert_eq!(op.removed, ["ASTZ.fields", "reason"]);
    let [again] = &rig.written(2)[..] else {
        panic!("all of it")
    };
    assert!(again.whole && !op.whole);
    assert_eq!(again.set, op.set);
    assert_eq!(again.removed, ["ASTZ.fields", "last_good", "reason"]);
    rig.pass(4_000);
    rig.written(2);
    rig.pass(1_001);
    assert_eq!(rig.written(2).len(), 1, "and once more after five seconds");
}

#[test]
fn many_devices_are_written_in_parts() {
    let many = 2 * OUTSIDE_OPS_MAX + 1;
    let all = (0..many).map(|n| rules(&format!("d{n}"), &["ASTZ"]));
    let mut rig = Rig::new(all.collect());
    let mut batches = Vec::new();
    for _ in 0..3 * OUTSIDE_PACE_MS {
        let ops = rig.written(1);
        assert!(ops.iter().all(|op| op.whole));
        let next = rig.devices.write_due(rig.at().now);
        if !ops.is_empty() {
            batches.push(ops.len());
            assert!(next.is_some(), "it wakes for the rest");
        }
        rig.pass(1);
    }
    assert_eq!(batches, [OUTSIDE_OPS_MAX, OUTSIDE_OPS_MAX, 1]);
}

#[test]
fn changes_are_written_and_all_from_time_to_time() {
    let mut rig = asked(&["ASTZ", "AKON"]);
    rig.written(1);
    let mut round = |status, data: &str| {
        rig.reply("ASTZ", status, "SREM");
        rig.reply("AKON", status, data);
        rig.pass(1_005);
        let mut ops = rig.written(1);
        assert!(ops.len() <= 1);
        let op = ops.pop().expect("something");
        let set: Vec<_> = op.set.into_iter().map(|(field, _)| field).collect();
        (set.join(" "), op.removed.join(" "))
    };
    let (set, removed) = round(0, "1");
    assert_eq!(set, "ASTZ AKON last_good state since error_status");
    assert_eq!(
        removed,
        "ASTZ.refused ASTZ.fields AKON.refused AKON.fields reason"
    );
    let written = |set: &str, removed: &str| (set.to_owned(), removed.to_owned());
    // After the second full write.
    for _ in 0..OUTSIDE_AGAIN_S {
        round(0, "1");
    }
    assert_eq!(round(0, "1"), written("last_good", ""));
    assert_eq!(round(0, "2"), written("AKON last_good", ""));
    assert_eq!(
        round(0, "BS"),
        written("AKON AKON.refused last_good", "AKON.fields")
    );
    assert_eq!(
        round(1, "BS"),
        written("last_good state since error_status", "reason")
    );
    let all = (0..OUTSIDE_ALL_S).filter(|_| round(1, "BS").0.starts_with("ASTZ AKON "));
    assert_eq!(all.count(), 1, "somebody may have taken it away");
}

#[test]
fn a_reload_keeps_unchanged_devices() {
    let mut rig = asked(&["ASTZ"]);
    rig.reply("ASTZ", 0, "kept");
    rig.written(1);
    rig.set(vec![rules("e", &["ASTZ"]), rules("d", &["ASTZ"])]);
    assert!(rig.acts().is_empty(), "its connection stays");
    let names: Vec<_> = rig
        .devices
        .iter()
        .map(|view| view.name().to_string())
        .collect();
    assert_eq!(names, ["e", "d"]);
    assert_eq!(
        rig.devices
            .get("d")
            .unwrap()
            .values()
            .next()
            .unwrap()
            .1
            .data,
        "kept"
    );
    rig.set(vec![rules("d", &["AKON"])]);
    assert_eq!(rig.acts(), ["hang"]);
    rig.pass(300);
    let written = rig.written(1);
    let gone: Vec<_> = written
        .iter()
        .filter(|op| op.whole && op.set.is_empty())
        .map(|op| op.place.as_str())
        .collect();
    assert_eq!(
        gone,
        ["e", "d"],
        "the old values of one that changed go too"
    );
    assert_eq!(written.last().unwrap().place.as_str(), "d");
    rig.set(Vec::new());
    assert_eq!(rig.devices.iter().count(), 0);
    rig.pass(3_000);
    assert_eq!(rig.devices.connecting, 0);
}

#[test]
fn a_changed_device_rests_before_its_dial() {
    let mut rig = asked(&["ASTZ"]);
    rig.reply("ASTZ", 0, "");
    // Another name at another address is independent.
    let mut other = rules("e", &["ASTZ"]);
    other.addr.set_port(9_884);
    rig.set(vec![rules("d", &["AKON"]), other]);
    assert_eq!(rig.acts(), ["hang"]);
    assert_eq!(rig.pass(990), ["dial"], "the other one");
    assert_eq!(rig.pass(20), ["dial"]);
    // With repeated reloads the end of the last connection counts.
    for command in ["AVFI", "AKEN", "ASTZ"] {
        rig.set(vec![rules("d", &[command])]);
        assert!(rig.acts().iter().all(|act| act == "hang"));
        assert!(rig.pass(300).is_empty());
    }
    assert!(rig.pass(90).is_empty());
    assert_eq!(rig.pass(20), ["dial"]);
}

#[test]
fn a_device_removed_and_added_again_rests() {
    let mut rig = asked(&["ASTZ"]);
    rig.reply("ASTZ", 0, "");
    rig.set(Vec::new());
    assert_eq!(rig.acts(), ["hang"]);
    rig.pass(300);
    rig.set(vec![rules("d", &["ASTZ"])]);
    rig.pass(100);
    rig.set(Vec::new());
    rig.set(vec![rules("d", &["ASTZ"])]);
    assert!(rig.pass(590).is_empty());
    assert_eq!(rig.pass(20), ["dial"]);
    rig.set(Vec::new());
    rig.pass(1_000);
    rig.set(vec![rules("d", &["ASTZ"])]);
    assert_eq!(rig.pass(2), ["dial"], "that was long enough");
    assert!(rig.devices.left.is_empty(), "and is forgotten");
}

proptest! {
    /// For any behaviour of devices and any times: only allowed commands are sent, and none while
    /// another request is open.
    #[test]
    fn nothing_but_what_is_allowed_is_ever_asked(
        steps in prop::collection::vec((0_u8..9, 1_u64..700), 1..200)
    ) {
        let allowed = ["ASTZ", "AKON", "ASTF"];
        let mut rig = Rig::new(vec![rules("d", &allowed)]);
        let mut open: Option<String> = None;
        for (step, ms) in steps {
            let said = rig.link.is_some();
            let acts = match step {
                0 if said => rig.connect(),
                1..=3 if said => {
                    let code = open.clone().unwrap_or_else(|| "ASTZ".into());
                    open = None;
                    rig.reply(&code, step, "1.5")
                }
                4 if said => { open = None; rig.reply("????", 0, "") }
                5 if said => { open = None; rig.reply("AXXX", 0, "") }
                6 if said => { open = None; rig.end(Failure::Reset) }
                7 if said => rig.hear(b"\x02 AS\x02"),
                _ => rig.pass(ms),
            };
            for act in acts {
                match act.as_str() {
                    "dial" | "hang" => open = None,
                    question => {
                        let code = &question[..4];
                        prop_assert!(allowed.contains(&code) && question.ends_with(" K0"));
                        prop_assert!(open.is_none(), "{question} while {open:?} is open");
                        open = Some(code.to_owned());
                    }
                }
            }
            prop_assert!(rig.devices.wheel.len() < 20, "{}", rig.devices.wheel.len());
            prop_assert!(rig.devices.connecting <= 1);
        }
    }
}
