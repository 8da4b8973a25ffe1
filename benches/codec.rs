//! Cost of a message before its meaning is known: parsing the frame and its body, and writing a
//! reply.

use std::hint::black_box;

use anthill::codec::message::{Flag, Reply, Word};
use anthill::codec::{ByteOrder, Framing, Order, Step, decode, emit};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

const FRAMING: Framing = Framing {
    order: ByteOrder::Auto,
    limit: 65_535,
};

/// Bodies as hosts of each kind send them.
const BODIES: &[(&str, &str)] = &[
    (
        "heartbeat, json",
        r#"{"flag": "ADH18", "phase": 1, "ACK": "keepAlive"}"#,
    ),
    ("heartbeat, slash", "ADH18/keepAlive"),
    (
        "progress, json",
        r#"{"flag": "ADH27", "code": "AC132", "phase": 3, "working": null, "complete": ["echo one", "echo two"], "oncall": ["echo three"]}"#,
    ),
    (
        "progress, slash",
        "ADH27III/keepGotIt/AC132/None/['echo one', 'echo two']/['echo three']",
    ),
];

fn read(c: &mut Criterion) {
    let mut group = c.benchmark_group("decode");
    for (name, body) in BODIES {
        let length = i32::try_from(body.len()).expect("bodies are short");
        let frame = [&length.to_le_bytes(), body.as_bytes()].concat();
        group.throughput(Throughput::Bytes(frame.len() as u64));
        group.bench_function(*name, |b| {
            b.iter(|| {
                let step = decode(FRAMING, &mut Order::Unknown, black_box(&frame));
                assert!(matches!(step, Ok(Step::Got { used, .. }) if used == frame.len()));
            });
        });
    }
    group.finish();
}

fn write(c: &mut Criterion) {
    let reply = Reply {
        flag: Flag::Heartbeat,
        seq: Some(123_456),
        word: Word::Alive,
    };
    let mut out = Vec::with_capacity(128);
    c.bench_function("emit/reply", |b| {
        b.iter(|| {
            out.clear();
            emit(black_box(&reply), Order::Little, &mut out);
            black_box(&out);
        });
    });
}

criterion_group!(benches, read, write);
criterion_main!(benches);
