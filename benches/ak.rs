//! Cost of AK devices for the loop, without their sockets: a request, its reply and the tick
//! between, with five hundred devices polled ten times a second.

use std::hint::black_box;
use std::net::{Ipv4Addr, SocketAddr};

use anthill::codec::ak::{Code, emit_reply};
use anthill::handlers::Moment;
use anthill::handlers::ak::{Command, DeviceRules, Devices};
use anthill::handlers::outside::{Act, Fate, Link, Wishes};
use anthill::ids::HostId;
use anthill::time::{Instant, Span, UnixMs};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

const DEVICES: u64 = 500;
const PERIOD_MS: u64 = 100;

fn rules(number: u64) -> DeviceRules {
    DeviceRules {
        name: HostId::checked(&format!("bench-{number}")).expect("of the alphabet"),
        addr: SocketAddr::from((Ipv4Addr::LOCALHOST, 9_883)),
        channel: 0,
        commands: vec![Command {
            code: Code::parse("AKON").expect("a code"),
            fields: Vec::new(),
        }],
        period: Span::from_millis(PERIOD_MS),
        timeout: Span::from_secs(1),
        stale: Span::from_secs(10),
        filler: b' ',
    }
}

struct World {
    devices: Devices,
    out: Wishes,
    ms: u64,
    reply: Vec<u8>,
    open: Vec<Link>,
}

impl World {
    fn new() -> Self {
        let mut reply = Vec::new();
        emit_reply(b' ', *b"AKON", 0, b"1.25 #9999 3E-2", &mut reply);
        let mut world = Self {
            devices: Devices::default(),
            out: Wishes::default(),
            ms: 1,
            reply,
            open: Vec::new(),
        };
        let rules = (0..DEVICES).map(rules).collect();
        world.devices.set(world.at(), rules, &mut world.out);
        for _ in 0..1_000 {
            world.step();
        }
        world
    }

    fn at(&self) -> Moment {
        Moment {
            now: Instant::ZERO + Span::from_millis(self.ms),
            wall: UnixMs(1_800_000_000_000 + self.ms),
        }
    }

    /// Advances a millisecond; every dial and request is answered.
    fn step(&mut self) {
        self.ms += 1;
        let (at, took) = (self.at(), Span::ZERO);
        self.devices.tick(at.now, at, &mut self.out);
        while !self.out.acts.is_empty() {
            self.open.clear();
            for act in std::mem::take(&mut self.out.acts) {
                match act {
                    Act::Dial { link, .. } => {
                        let fate = Fate::Connected { took };
                        self.devices.fate(at, link, fate, &mut self.out);
                    }
                    Act::Send { link, .. } => self.open.push(link),
                    Act::Hang { .. } => panic!("nobody did wrong"),
                }
            }
            for link in std::mem::take(&mut self.open) {
                let bytes = &self.reply[..];
                let fate = Fate::Bytes { bytes, took };
                self.devices.fate(at, link, fate, &mut self.out);
            }
        }
        self.out.news.clear();
        self.out.notes.clear();
        self.devices.pull(at, Some(1), &mut Vec::new());
    }
}

fn questions(c: &mut Criterion) {
    let mut group = c.benchmark_group("ak");
    let mut world = World::new();
    group.throughput(Throughput::Elements(DEVICES));
    group.bench_function("a question each of 500 devices, answered", |b| {
        b.iter(|| {
            for _ in 0..PERIOD_MS {
                world.step();
            }
            black_box(world.devices.stats().good);
        });
    });
    group.finish();
}

criterion_group!(benches, questions);
criterion_main!(benches);
