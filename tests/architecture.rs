//! The arrows of ARCHITECTURE.md, held against the sources: each room may name the rooms it is
//! given here and no others, and the pure rooms name no socket, thread, channel, file or clock.
//!
//! Sources are read as text. Test modules are read like all else: what a room's tests need of
//! another room belongs in `tests/`.

use std::fs;
use std::path::{Path, PathBuf};

/// A room: the paths that make it up, and what they may name of the crate.
struct Room {
    paths: &'static [&'static str],
    may_name: &'static [&'static str],
    /// It owns no socket, no thread, no clock.
    pure: bool,
}

/// Modules that every room may name.
const BASE: &[&str] = &[
    "escape", "ids", "limits", "metrics", "prefetch", "rng", "syntax", "time",
];

const ROOMS: &[Room] = &[
    Room {
        paths: &[
            "escape", "ids", "limits", "metrics", "prefetch", "rng", "syntax", "time",
        ],
        may_name: &[],
        pure: true,
    },
    Room {
        paths: &["keys"],
        may_name: &["keys"],
        pure: true,
    },
    Room {
        paths: &["files"],
        may_name: &[],
        pure: false,
    },
    Room {
        paths: &["certificates"],
        may_name: &["files"],
        pure: false,
    },
    Room {
        paths: &["wheel"],
        may_name: &[],
        pure: true,
    },
    Room {
        paths: &["codec"],
        may_name: &["codec", "keys"],
        pure: true,
    },
    Room {
        paths: &["store/op"],
        may_name: &["codec::message"],
        pure: true,
    },
    Room {
        paths: &["store/address"],
        may_name: &["store::address"],
        pure: true,
    },
    Room {
        paths: &["store/progress", "store/schema"],
        may_name: &["store", "codec::message"],
        pure: true,
    },
    Room {
        paths: &["handlers"],
        may_name: &["handlers", "codec", "keys", "store::op", "wheel"],
        pure: true,
    },
    Room {
        paths: &["handlers/ak", "handlers/reach", "handlers/outside"],
        may_name: &[
            "handlers::Moment",
            "handlers::ak",
            "handlers::effect::Note",
            "handlers::outside",
            "handlers::reach",
            "codec::ak",
            "store::op",
            "wheel",
        ],
        pure: true,
    },
    Room {
        paths: &["control"],
        may_name: &["control", "codec::target", "handlers", "keys", "store::op"],
        pure: true,
    },
    Room {
        paths: &["agent/core", "agent/allow", "agent/memory"],
        may_name: &["agent", "codec", "keys"],
        pure: true,
    },
    Room {
        paths: &["agent"],
        may_name: &["agent", "certificates", "codec::message", "files", "keys"],
        pure: false,
    },
    Room {
        paths: &[
            "bench/plan",
            "bench/schedule",
            "bench/tally",
            "bench/report",
            "bench/proc/text",
            "bench/watch",
        ],
        may_name: &["bench"],
        pure: true,
    },
    Room {
        paths: &["bench"],
        may_name: &["bench", "certificates", "codec", "keys"],
        pure: false,
    },
    Room {
        paths: &["store"],
        may_name: &["store", "certificates", "codec::message", "files"],
        pure: false,
    },
    Room {
        paths: &["config"],
        may_name: &[
            "config",
            "certificates",
            "codec",
            "files",
            "keys",
            "store::address",
        ],
        pure: false,
    },
    Room {
        paths: &["logging"],
        may_name: &["logging", "config", "files"],
        pure: false,
    },
    Room {
        paths: &["program"],
        may_name: &[
            "program",
            "agent",
            "certificates",
            "codec::target",
            "config",
            "files",
            "keys",
            "logging",
        ],
        pure: false,
    },
    Room {
        paths: &["reactor"],
        may_name: &[
            "reactor",
            "certificates",
            "codec",
            "handlers",
            "control",
            "keys",
            "store::op",
        ],
        pure: false,
    },
    Room {
        paths: &["fuzzing"],
        may_name: &[
            "fuzzing", "codec", "handlers", "control", "keys", "store", "config",
        ],
        pure: false,
    },
    Room {
        paths: &["server"],
        may_name: &[
            "server", "reactor", "codec", "handlers", "control", "keys", "store", "config", "files",
        ],
        pure: false,
    },
];

/// Words that a pure room must not contain.
const IMPURE: &[&str] = &[
    "std::net::Tcp",
    "std::net::Udp",
    "std::thread",
    "std::fs",
    "std::io::stdin",
    "std::time::Instant",
    "SystemTime",
    "mio::",
    "socket2::",
    "crossbeam_channel",
    "redis::",
    "redb::",
    "fastrand::",
    "getrandom::",
];

fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).expect("the sources are there") {
        let path = entry.expect("the sources can be read").path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The room of a file, by the most particular of the rooms' paths.
fn room_of(file: &str) -> Option<&'static Room> {
    let matches = |path: &&str| {
        file.strip_prefix(*path)
            .is_some_and(|rest| rest.starts_with('/') || rest == ".rs")
    };
    let length = |room: &&Room| {
        room.paths
            .iter()
            .filter(|path| matches(path))
            .map(|p| p.len())
            .max()
    };
    ROOMS
        .iter()
        .filter(|room| length(room).is_some())
        .max_by_key(length)
}

/// Modules of the crate that a line names: `store::op`, `ids`, …, with braces opened once.
fn named(line: &str) -> Vec<String> {
    let mut names = Vec::new();
    for (at, _) in line.match_indices("crate::") {
        let before = line[..at].chars().next_back();
        if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == '$') {
            continue;
        }
        let path = &line[at + "crate::".len()..];
        if let Some(group) = path.strip_prefix('{') {
            let group = group.split('}').next().unwrap_or_default();
            names.extend(group.split(',').map(|name| name.trim().to_owned()));
            continue;
        }
        let end = path.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':'));
        names.push(
            path[..end.unwrap_or(path.len())]
                .trim_end_matches(':')
                .to_owned(),
        );
    }
    names
}

fn may_name(room: &Room, name: &str) -> bool {
    let under = |allowed: &&&str| {
        name.strip_prefix(**allowed)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
    };
    room.may_name
        .iter()
        .chain(BASE)
        .any(|allowed| under(&allowed))
}

/// The code of a line: what stands before a comment.
fn code(line: &str) -> &str {
    line.split("//").next().unwrap_or_default()
}

#[test]
fn no_arrow_points_up() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    let (mut wrong, mut arrows) = (Vec::new(), 0);
    for path in &files {
        let file = path
            .strip_prefix(&root)
            .expect("below the sources")
            .to_string_lossy();
        if file.starts_with("cli/") || file == "main.rs" || file == "lib.rs" {
            continue;
        }
        let Some(room) = room_of(&file) else {
            wrong.push(format!(
                "{file} is in no room: name it here and in ARCHITECTURE.md"
            ));
            continue;
        };
        let text = fs::read_to_string(path).expect("sources are text");
        for (number, line) in (1..).zip(text.lines()) {
            for name in named(code(line)) {
                arrows += 1;
                if !may_name(room, &name) {
                    wrong.push(format!("{file}:{number} names {name}"));
                }
            }
            let spelled = |word: &&&str| room.pure && code(line).contains(**word);
            if let Some(word) = IMPURE.iter().find(spelled) {
                wrong.push(format!("{file}:{number} is to be pure and spells {word}"));
            }
        }
    }
    assert!(
        arrows > 100,
        "only {arrows} arrows seen: the reading is broken"
    );
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_reader_finds_names_and_rooms() {
    assert_eq!(named("use crate::store::op::{Op, Outcome};"), ["store::op"]);
    assert_eq!(named("use crate::{ids, reactor};"), ["ids", "reactor"]);
    assert_eq!(
        named("    at: crate::time::UnixMs, $crate::codec::x"),
        ["time::UnixMs"]
    );
    let handlers = room_of("handlers/core.rs").unwrap();
    assert!(may_name(handlers, "store::op") && !may_name(handlers, "store::worker"));
    assert!(!may_name(handlers, "store") && !may_name(handlers, "reactor"));
    assert!(room_of("store/op.rs").unwrap().pure && !room_of("store/worker/mod.rs").unwrap().pure);
    assert!(room_of("storehouse.rs").is_none());
}
