//! Golden bytes, and properties of each when it is split or damaged.
//!
//! They are in `tests/vectors/frames.txt`, with their meaning. The older ones were captured from
//! the older Python client.

use super::super::fuzzing::{self, read_in_pieces};
use super::super::*;
use super::{AUTO, step};

const GOLDEN: &str = include_str!("../../../tests/vectors/frames.txt");

/// One case of the golden bytes.
#[derive(Default)]
struct Case {
    name: &'static str,
    stream: Vec<u8>,
    messages: Vec<&'static str>,
    end: Option<&'static str>,
}

fn golden() -> Vec<Case> {
    let mut cases = vec![Case::default()];
    for line in GOLDEN.lines() {
        let (mark, text) = line.split_at(line.len().min(2));
        let last = cases.last_mut().expect("there is always one");
        match mark {
            "# " => {
                let name = text;
                cases.push(Case {
                    name,
                    ..Case::default()
                });
            }
            "< " => last.stream = bytes(text),
            "> " => last.messages.push(text),
            "! " | "? " => last.end = Some(line),
            _ => assert!(line.is_empty(), "{line}"),
        }
    }
    cases.retain(|case| !case.stream.is_empty());
    assert!(cases.len() > 90, "the golden bytes were read");
    cases
}

fn bytes(hex: &str) -> Vec<u8> {
    let digits = hex.as_bytes().chunks(2);
    digits
        .map(|pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

#[test]
fn golden_bytes_have_their_meaning() {
    for case in golden() {
        let (mut order, mut rest) = (Order::Unknown, &case.stream[..]);
        let mut messages = Vec::new();
        let end = loop {
            match decode(AUTO, &mut order, rest) {
                Ok(Step::Got { incoming, used }) => {
                    let mut emitted = Vec::new();
                    encode(&incoming, order, &mut emitted).unwrap();
                    messages.push(String::from_utf8(emitted.split_off(4)).unwrap());
                    rest = &rest[used..];
                }
                Ok(Step::Need(_)) if rest.is_empty() => break None,
                Ok(Step::Need(_)) => break Some(format!("? {}", rest.len())),
                Err(error) => break Some(format!("! {} {}", error.kind.label(), error.offset)),
            }
        };
        assert_eq!(messages, case.messages, "{}", case.name);
        assert_eq!(end.as_deref(), case.end, "{}", case.name);
    }
}

#[test]
fn any_split_of_golden_bytes_is_equal() {
    for case in golden() {
        let whole = read_in_pieces(AUTO, &case.stream, &[]);
        let length = case.stream.len();
        for cut in 1..length {
            let pieces = [cut, length];
            assert_eq!(
                read_in_pieces(AUTO, &case.stream, &pieces),
                whole,
                "{}",
                case.name
            );
        }
        assert_eq!(
            read_in_pieces(AUTO, &case.stream, &[1]),
            whole,
            "{}",
            case.name
        );
    }
}

#[test]
fn needs_are_minimal_and_errors_are_final() {
    for case in golden() {
        let mut said = None;
        let total = match step(&case.stream) {
            Ok(Step::Got { used, .. }) => used,
            _ => case.stream.len(),
        };
        for end in 0..=total {
            match step(&case.stream[..end]) {
                Ok(Step::Need(bytes)) => {
                    assert!(said.is_none(), "{}: an error went away", case.name);
                    assert!(bytes > end, "{}", case.name);
                    if matches!(step(&case.stream), Ok(Step::Got { .. })) {
                        assert!(bytes <= total, "{}: needs {bytes} of {total}", case.name);
                    }
                }
                Ok(Step::Got { used, .. }) => assert_eq!((used, end), (total, total)),
                Err(error) => assert_eq!(*said.get_or_insert(error.clone()), error),
            }
        }
    }
}

#[test]
fn a_flipped_bit_or_a_missing_end_never_panics() {
    for case in golden() {
        for bit in 0..case.stream.len() * 8 {
            let mut flipped = case.stream.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            read_in_pieces(AUTO, &flipped, &[]);
        }
        for end in 0..case.stream.len() {
            read_in_pieces(AUTO, &case.stream[..end], &[]);
        }
    }
}

#[test]
fn the_fuzz_targets_hold_over_the_golden_bytes() {
    for case in golden() {
        for how in [2, 0x82, 0, 1] {
            let mut data = vec![how, 7];
            data.extend_from_slice(&case.stream);
            fuzzing::frames(&data);
        }
        fuzzing::body(case.stream.get(4..).unwrap_or_default());
    }
}
