//! The conformance suite over the embedded store, and its file, lock and disk.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::file::FILE_NAME;
use super::*;
use crate::ids::{HostId, HostRef};
use crate::store::op::{Online, Stamp};
use crate::store::tests::conformance::{Case, RawKeys, Subject, conformance_tests};

conformance_tests!(fresh);

/// Runs a case over an empty directory.
fn fresh(case: Case) {
    let dir = tempfile::tempdir().unwrap();
    case(&mut |settings| -> Box<dyn Subject> {
        Box::new(EmbeddedStore::open(dir.path(), settings).unwrap())
    });
}

mod in_memory {
    use super::*;

    conformance_tests!(fresh);

    /// Runs a case over empty memory.
    fn fresh(case: Case) {
        let memory = Memory::default();
        case(&mut |settings| -> Box<dyn Subject> {
            let random = fastrand::u64(..);
            let mut store =
                EmbeddedStore::in_memory(memory.clone(), settings, Arc::new(wall_clock), random);
            store.open().unwrap();
            Box::new(store)
        });
    }
}

impl RawKeys for EmbeddedStore {
    fn dump(&mut self, key: &str) -> Result<Option<Dump>, StoreError> {
        Self::dump(self, key)
    }

    fn seed(&mut self, key: &str, value: Dump) {
        let put = self.transact(wall_clock(), |space, _| {
            space.delete(key)?;
            match value {
                Dump::Text(text) => space.text_set(key, &text)?,
                Dump::List(list) => space.list_set(key, &list)?,
                Dump::Set(members) => {
                    for member in members {
                        space.set_add(key, &member)?;
                    }
                }
                Dump::Hash(fields) => {
                    for (field, value) in fields {
                        space.hash_set(key, &field, &value)?;
                    }
                }
                Dump::Sorted(entries) => {
                    space.raise_scores(key, entries.iter().map(|(m, s)| (&**m, *s)))?;
                }
                Dump::Stream(entries) => {
                    for entry in entries {
                        let fields: Vec<_> = entry.iter().map(|(n, v)| (&**n, &**v)).collect();
                        space.stream_add(key, &fields)?;
                    }
                }
            }
            Ok(())
        });
        put.unwrap();
    }
}

fn settings() -> Settings {
    Settings {
        node: "n1".into(),
        delete_fields: Vec::new(),
        clear_on_done: false,
        keep: Span::from_secs(3600),
        timeout: Span::from_secs(1),
        wait_replicas: 0,
        info: crate::store::NodeInfo::default(),
    }
}

fn online(name: &str, seq: u64) -> Op {
    Op::Online(Box::new(Online {
        history: Vec::new(),
        ticket: HostRef {
            slot: 0,
            generation: 0,
        },
        host: HostId::checked(name).unwrap(),
        peer: "10.0.0.1:1".parse().unwrap(),
        keyed: false,
        since: UnixMs(1),
        hold: crate::store::op::Hold::Claim {
            boot: None,
            silent_ms: 0,
        },
        event: Some(Stamp { at: UnixMs(1), seq }),
    }))
}

fn onlines(from: usize, count: usize) -> Vec<Op> {
    let one = |n: usize| online(&format!("host-{n}"), n as u64);
    (from..from + count).map(one).collect()
}

fn members(store: &mut EmbeddedStore, key: &str) -> usize {
    match store.dump(key).unwrap() {
        Some(Dump::Set(members)) => members.len(),
        None => 0,
        other => panic!("{key} is no set: {other:?}"),
    }
}

#[test]
fn the_directory_is_private() {
    let dir = tempfile::tempdir().unwrap();
    let inner = dir.path().join("a/b");
    let _store = EmbeddedStore::open(&inner, settings()).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&inner), 0o700);
    assert_eq!(mode(&inner.join(FILE_NAME)), 0o600);
}

#[test]
fn a_second_open_is_refused_with_a_reason() {
    let dir = tempfile::tempdir().unwrap();
    let mut first = EmbeddedStore::open(dir.path(), settings()).unwrap();
    let second = EmbeddedStore::open(dir.path(), settings()).err().unwrap();
    assert!(matches!(second, OpenError::InUse { .. }));
    assert!(second.to_string().contains("in use by another process"));
    // The first store still works.
    let ran = first.run(&onlines(0, 1), &mut Vec::new());
    assert_eq!(ran.error, None);
    drop(first);
    assert!(EmbeddedStore::open(dir.path(), settings()).is_ok());
}

#[test]
fn other_files_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "x").unwrap();
    let error = EmbeddedStore::open(&file, settings()).err().unwrap();
    assert!(matches!(error, OpenError::Directory { .. }), "{error}");

    let text = b"somebody's own text, no store at all".repeat(100);
    fs::write(dir.path().join(FILE_NAME), &text).unwrap();
    let error = EmbeddedStore::open(dir.path(), settings()).err().unwrap();
    assert!(error.to_string().contains(FILE_NAME), "{error}");
    assert_eq!(
        fs::read(dir.path().join(FILE_NAME)).unwrap(),
        text,
        "left alone"
    );
}

#[test]
fn a_half_created_file_is_created_again() {
    for length in [1, 8, 1 << 20] {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(FILE_NAME), vec![0; length]).unwrap();
        let mut store = EmbeddedStore::open(dir.path(), settings()).unwrap();
        assert_eq!(store.run(&onlines(0, 1), &mut Vec::new()).error, None);
    }
}

#[test]
fn the_copy_of_a_live_store_has_all_commits() {
    let (dir, copy) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut store = EmbeddedStore::open(dir.path(), settings()).unwrap();
    for batch in 0..5 {
        let ran = store.run(&onlines(batch * 100, 100), &mut Vec::new());
        assert_eq!((ran.done, ran.error), (100, None));
    }
    // Like a killed process: never closed.
    fs::copy(dir.path().join(FILE_NAME), copy.path().join(FILE_NAME)).unwrap();
    let mut found = EmbeddedStore::open(copy.path(), settings()).unwrap();
    assert_eq!(members(&mut found, "exists"), 500);
    assert_eq!(members(&mut found, "anthill:node:n1:hosts"), 500);
    assert_eq!(found.run(&onlines(500, 1), &mut Vec::new()).error, None);
    assert_eq!(members(&mut found, "exists"), 501);
    assert_eq!(members(&mut store, "exists"), 500);
}

#[test]
fn a_disconnected_store_is_unavailable() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = EmbeddedStore::open(dir.path(), settings()).unwrap();
    store.disconnect();
    let mut outcomes = Vec::new();
    let ran = store.run(&onlines(0, 2), &mut outcomes);
    assert!(matches!(ran.error, Some(StoreError::Unavailable(_))));
    assert_eq!((ran.done, outcomes.len()), (0, 0));
    assert!(matches!(
        store.lease(false),
        Err(StoreError::Unavailable(_))
    ));
    Backend::open(&mut store).unwrap();
    assert_eq!(store.run(&onlines(0, 2), &mut outcomes).error, None);
    assert_eq!(outcomes.len(), 2);
}

/// Runs this test again in a process with a limit of file sizes, like on a full disk.
#[test]
fn a_full_disk_loses_nothing_acknowledged() {
    const DIR: &str = "ANTHILL_TEST_FULL_DISK";
    if let Some(dir) = std::env::var_os(DIR) {
        return fill_the_disk(Path::new(&dir));
    }
    let dir = tempfile::tempdir().unwrap();
    let name = "store::embedded::tests::a_full_disk_loses_nothing_acknowledged";
    // SIGXFSZ is ignored, so that the write fails instead.
    let output = std::process::Command::new("sh")
        .args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\""])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", name])
        .env(DIR, dir.path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("1 passed"), "{said}");
}

fn fill_the_disk(dir: &Path) {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let mut store = EmbeddedStore::open(dir, settings()).unwrap();
    let unlimited = getrlimit(Resource::Fsize);
    let now = fs::metadata(dir.join(FILE_NAME)).unwrap().len();
    let full = Rlimit {
        current: Some(now + (1 << 16)),
        maximum: unlimited.maximum,
    };
    setrlimit(Resource::Fsize, full).unwrap();

    let mut outcomes = Vec::new();
    let mut acknowledged = 0;
    let error = loop {
        assert!(acknowledged < 1_000_000, "the limit is never reached");
        let ran = store.run(&onlines(acknowledged, 1_000), &mut outcomes);
        acknowledged += ran.done;
        assert_eq!(outcomes.len(), acknowledged);
        if let Some(error) = ran.error {
            break error;
        }
    };
    assert!(matches!(error, StoreError::Unavailable(_)), "{error}");
    // Without room it is unavailable, or takes what still fits.
    for _ in 0..3 {
        if Backend::open(&mut store).is_ok() {
            acknowledged += store.run(&onlines(acknowledged, 1_000), &mut outcomes).done;
            assert_eq!(outcomes.len(), acknowledged);
        }
    }

    setrlimit(Resource::Fsize, unlimited).unwrap();
    Backend::open(&mut store).unwrap();
    assert_eq!(members(&mut store, "exists"), acknowledged);
    let ran = store.run(&onlines(acknowledged, 1_000), &mut outcomes);
    assert_eq!((ran.done, ran.error), (1_000, None));
    drop(store);
    let mut store = EmbeddedStore::open(dir, settings()).unwrap();
    assert_eq!(members(&mut store, "exists"), acknowledged + 1_000);
}

#[test]
fn a_found_lease_is_taken_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = EmbeddedStore::open(dir.path(), settings()).unwrap();
    assert_eq!(store.lease(false), Ok(Lease::Taken));
    drop(store);
    let mut store = EmbeddedStore::open(dir.path(), settings()).unwrap();
    assert_eq!(
        store.lease(false),
        Ok(Lease::Taken),
        "at once, without a wait"
    );
    assert_eq!(store.lease(false), Ok(Lease::Ours));
}

#[test]
fn the_stream_keeps_its_newest_entries() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = EmbeddedStore::open(dir.path(), settings()).unwrap();
    for batch in 0..3 {
        store.run(&onlines(batch * 10, 10), &mut Vec::new());
        store
            .transact(wall_clock(), |space, _| {
                space.stream_trim(schema::EVENTS, 15)
            })
            .unwrap();
    }
    let Some(Dump::Stream(entries)) = store.dump(schema::EVENTS).unwrap() else {
        panic!("there is a stream")
    };
    let seq = |entry: &Vec<(String, String)>| {
        let found = entry.iter().find(|(name, _)| name == "seq").unwrap();
        found.1.parse::<u64>().unwrap()
    };
    let seqs: Vec<u64> = entries.iter().map(seq).collect();
    assert_eq!(seqs, (15..30).collect::<Vec<_>>());
}

#[test]
fn a_key_and_its_prefix_are_separate() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = EmbeddedStore::open(dir.path(), settings()).unwrap();
    for (key, member) in [("a", "bc"), ("ab", "c"), ("", "abc"), ("ab", "")] {
        let add = |space: &mut Space<'_>, _: &Context<'_>| space.set_add(key, member);
        store.transact(wall_clock(), add).unwrap();
    }
    let set = |members: &[&str]| {
        let own = members.iter().map(|m| (*m).to_owned()).collect();
        Some(Dump::Set(own))
    };
    assert_eq!(store.dump("a").unwrap(), set(&["bc"]));
    assert_eq!(store.dump("ab").unwrap(), set(&["", "c"]));
    store
        .transact(wall_clock(), |space, _| space.delete("a"))
        .unwrap();
    assert_eq!(store.dump("a").unwrap(), None);
    assert_eq!(store.dump("ab").unwrap(), set(&["", "c"]));
    assert_eq!(store.dump("").unwrap(), set(&["abc"]));
}

#[test]
fn a_sweep_deletes_all_rows_of_expired_keys() {
    use redb::{ReadableDatabase, ReadableTableMetadata, TableDefinition};
    let dir = tempfile::tempdir().unwrap();
    let mut store = EmbeddedStore::open(dir.path(), settings()).unwrap();
    let write = |space: &mut Space<'_>, _: &Context<'_>| {
        for member in ["a", "b", "c"] {
            space.set_add("over", member)?;
            space.set_add("stays", member)?;
        }
        space.expire("over", UnixMs(1_000))?;
        space.expire("over", UnixMs(2_000))?;
        space.expire("stays", UnixMs(1_000))?;
        space.persist("stays")
    };
    store.transact(UnixMs(1), write).unwrap();
    let rows = |store: &EmbeddedStore| {
        let read = store
            .opened
            .as_ref()
            .unwrap()
            .database
            .begin_read()
            .unwrap();
        let bytes = |name| TableDefinition::<&[u8], &[u8]>::new(name);
        let keys = TableDefinition::<&str, &[u8]>::new("keys");
        (
            read.open_table(keys).unwrap().len().unwrap(),
            read.open_table(bytes("rows")).unwrap().len().unwrap(),
            read.open_table(bytes("due")).unwrap().len().unwrap(),
        )
    };
    store.sweep(UnixMs(1_999)).unwrap();
    assert_eq!(rows(&store), (2, 6, 1));
    store.sweep(UnixMs(2_000)).unwrap();
    assert_eq!(rows(&store), (1, 3, 0));
    let set = Dump::Set(["a", "b", "c"].map(str::to_owned).to_vec());
    assert_eq!(store.dump("stays").unwrap(), Some(set));
}

#[test]
fn a_deleted_file_is_created_again() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("data");
    let mut store = EmbeddedStore::open(&dir, settings()).unwrap();
    assert_eq!(store.lease(false), Ok(Lease::Taken));
    assert_eq!(store.lease(false), Ok(Lease::Ours));
    fs::remove_dir_all(&dir).unwrap();
    assert!(matches!(
        store.lease(false),
        Err(StoreError::Unavailable(_))
    ));
    store.open().unwrap();
    assert_eq!(store.lease(false), Ok(Lease::Taken), "it came back empty");
    assert!(dir.join(FILE_NAME).exists());
}

/// Runs all reads of a start, and a write: each works, or fails as damaged.
fn use_all(store: &mut EmbeddedStore) -> Result<(), StoreError> {
    store.lease(false)?;
    let (mut cursor, mut hosts) = (HeldCursor::Start, Vec::new());
    while cursor != HeldCursor::End {
        store.held(true, &mut cursor, &mut hosts)?;
    }
    let (mut cursor, mut tasks) = (HeldCursor::Start, Vec::new());
    while cursor != HeldCursor::End {
        store.tasks(&mut cursor, &mut tasks)?;
    }
    let ran = store.run(&onlines(0, 300), &mut Vec::new());
    ran.error.map_or(Ok(()), Err)?;
    store.sweep(UnixMs(u64::MAX / 2))
}

#[test]
fn a_damaged_file_is_an_error_with_a_remedy() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = EmbeddedStore::open(dir.path(), settings()).unwrap();
    for batch in 0..4 {
        store.run(&onlines(batch * 100, 100), &mut Vec::new());
    }
    drop(store);
    let sound = fs::read(dir.path().join(FILE_NAME)).unwrap();
    let random = fastrand::Rng::with_seed(17);
    let mut refused = 0;
    for round in 0..120 {
        let mut random = random.clone();
        random.seed(round);
        let mut bytes = sound.clone();
        match round % 4 {
            0 => bytes.truncate(random.usize(1..sound.len())),
            // Near the beginning, and anywhere.
            1 => (0..8).for_each(|_| bytes[random.usize(0..4_096)] ^= 1 << random.u8(0..8)),
            2 => (0..64).for_each(|_| bytes[random.usize(0..sound.len())] ^= 0x55),
            _ => {
                let page = random.usize(0..sound.len() / 4_096) * 4_096;
                bytes[page..page + 4_096].fill(random.u8(..));
            }
        }
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(FILE_NAME), bytes).unwrap();
        let told = match EmbeddedStore::open(dir.path(), settings()) {
            Ok(mut store) => use_all(&mut store).err().map(|error| error.to_string()),
            Err(error) => Some(error.to_string()),
        };
        if let Some(told) = told {
            refused += 1;
            assert!(
                told.contains(FILE_NAME) && told.contains("mv "),
                "{round}: {told}"
            );
            assert!(!told.contains('\n'), "{told}");
        }
    }
    assert!(refused > 30, "{refused}");
}

#[test]
fn a_directory_in_its_place_is_named() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join(FILE_NAME)).unwrap();
    let error = EmbeddedStore::open(dir.path(), settings()).err().unwrap();
    assert!(error.to_string().contains("a directory"), "{error}");
}

#[test]
fn an_idle_store_writes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = EmbeddedStore::open(dir.path(), settings()).unwrap();
    store.lease(false).unwrap();
    let file = dir.path().join(FILE_NAME);
    let before = fs::read(&file).unwrap();
    let touched = || fs::metadata(&file).unwrap().modified().unwrap();
    let then = touched();
    for _ in 0..20 {
        Backend::open(&mut store).unwrap();
        assert_eq!(store.lease(false), Ok(Lease::Ours));
        store.sweep(wall_clock()).unwrap();
    }
    assert!(fs::read(&file).unwrap() == before);
    assert_eq!(touched(), then);
}
