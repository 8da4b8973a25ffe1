//! The spool over real files.

use std::fs;
use std::path::{Path, PathBuf};

use super::*;
use crate::store::tests::reports::{name, report};

const ROOM: u64 = 1 << 30;

fn fill(spool: &mut Spool, numbers: impl IntoIterator<Item = u64>) {
    for n in numbers {
        spool.append(&[&report(n)]).unwrap();
    }
    spool.sync().unwrap();
}

/// Replays the spool, `at_once` records at a time.
fn drain(spool: &mut Spool, at_once: usize) -> Vec<u64> {
    let mut seen = Vec::new();
    loop {
        let count = spool.next(at_once, usize::MAX).unwrap().len();
        if count == 0 {
            assert!(spool.is_empty());
            assert_eq!((spool.records(), spool.bytes()), (0, 0));
            return seen;
        }
        seen.extend(spool.settled(count).iter().map(name));
    }
}

fn files(dir: &Path, suffix: &str) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.to_string_lossy().ends_with(suffix))
        .collect();
    found.sort();
    found
}

#[test]
fn reports_are_replayed_in_order_over_many_segments() {
    let dir = tempfile::tempdir().unwrap();
    let mut spool = Spool::open(dir.path(), ROOM).unwrap();
    spool.segment_bytes = 1_000;
    fill(&mut spool, 0..100);
    assert!(files(dir.path(), ".seg").len() > 10);
    assert_eq!(spool.records(), 100);
    assert_eq!(drain(&mut spool, 7), (0..100).collect::<Vec<_>>());
    assert_eq!(files(dir.path(), ".seg"), Vec::<PathBuf>::new());
}

#[test]
fn reports_are_appended_during_the_replay() {
    let dir = tempfile::tempdir().unwrap();
    let mut spool = Spool::open(dir.path(), ROOM).unwrap();
    fill(&mut spool, 0..10);
    assert_eq!(spool.next(4, usize::MAX).unwrap().len(), 4);
    fill(&mut spool, 10..20);
    assert_eq!(spool.settled(3).len(), 3);
    assert_eq!(spool.records(), 17);
    assert_eq!(drain(&mut spool, 4), (3..20).collect::<Vec<_>>());
}

#[test]
fn a_batch_is_bounded_in_bytes_too() {
    let dir = tempfile::tempdir().unwrap();
    let mut spool = Spool::open(dir.path(), ROOM).unwrap();
    fill(&mut spool, 0..10);
    assert_eq!(spool.next(100, 1).unwrap().len(), 1);
    assert_eq!(drain(&mut spool, 100).len(), 10);
}

#[test]
fn a_second_process_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let spool = Spool::open(dir.path(), ROOM).unwrap();
    let error = Spool::open(dir.path(), ROOM).unwrap_err();
    assert!(matches!(error, SpoolError::Locked(_)));
    assert!(error.to_string().contains(dir.path().to_str().unwrap()));
    drop(spool);
    assert!(Spool::open(dir.path(), ROOM).is_ok());
}

#[test]
fn a_reopened_spool_has_all_reports() {
    let dir = tempfile::tempdir().unwrap();
    for n in 0..5 {
        let mut spool = Spool::open(dir.path(), ROOM).unwrap();
        assert_eq!(spool.records(), n * 10);
        fill(&mut spool, n * 10..n * 10 + 10);
    }
    let mut spool = Spool::open(dir.path(), ROOM).unwrap();
    assert_eq!(drain(&mut spool, 1_000), (0..50).collect::<Vec<_>>());
}

#[test]
fn a_tail_torn_at_any_byte_is_cut_off() {
    let dir = tempfile::tempdir().unwrap();
    let mut spool = Spool::open(dir.path(), ROOM).unwrap();
    fill(&mut spool, 0..2);
    let whole_two = spool.bytes() as usize;
    fill(&mut spool, 2..3);
    drop(spool);
    let path = files(dir.path(), ".seg").remove(0);
    let bytes = fs::read(&path).unwrap();
    for cut in whole_two..bytes.len() {
        fs::write(&path, &bytes[..cut]).unwrap();
        let mut spool = Spool::open(dir.path(), ROOM).unwrap();
        assert_eq!(spool.records(), 2, "cut at {cut}");
        assert_eq!(spool.bytes() as usize, whole_two);
        assert_eq!(fs::metadata(&path).unwrap().len() as usize, whole_two);
        assert_eq!(spool.damaged(), 0);
        assert_eq!(drain(&mut spool, 10), [0, 1]);
    }
    // A tail of zeros, as a file system may leave it after the power failed.
    let mut zeros = bytes[..whole_two].to_vec();
    zeros.resize(bytes.len() + 4096, 0);
    fs::write(&path, &zeros).unwrap();
    let mut spool = Spool::open(dir.path(), ROOM).unwrap();
    assert_eq!(drain(&mut spool, 10), [0, 1]);
}

#[test]
fn a_flipped_bit_costs_one_record() {
    let dir = tempfile::tempdir().unwrap();
    let mut spool = Spool::open(dir.path(), ROOM).unwrap();
    fill(&mut spool, 0..3);
    drop(spool);
    let path = files(dir.path(), ".seg").remove(0);
    let bytes = fs::read(&path).unwrap();
    for at in 0..bytes.len() {
        let mut bad = bytes.clone();
        bad[at] ^= 1 << (at % 8);
        fs::write(&path, &bad).unwrap();
        let mut spool = Spool::open(dir.path(), ROOM).unwrap();
        let hit = (at * 3 / bytes.len()) as u64;
        let left: Vec<u64> = (0..3).filter(|&n| n != hit).collect();
        assert_eq!(spool.records(), 2, "byte {at}");
        assert_eq!(drain(&mut spool, 10), left, "byte {at}");
        let kept = files(dir.path(), ".damaged");
        // A damaged last record is a torn tail; any other is copied with the bytes behind it.
        assert_eq!(spool.damaged(), u64::from(hit < 2));
        for path in kept {
            assert!(hit < 2);
            let begin = hit as usize * bytes.len() / 3;
            assert_eq!(fs::read(&path).unwrap(), bad[begin..]);
            fs::remove_file(path).unwrap();
        }
    }
}

#[test]
fn damage_during_use_is_found_at_the_replay() {
    let dir = tempfile::tempdir().unwrap();
    let mut spool = Spool::open(dir.path(), ROOM).unwrap();
    fill(&mut spool, 0..3);
    let path = files(dir.path(), ".seg").remove(0);
    let mut bytes = fs::read(&path).unwrap();
    bytes[20] ^= 1;
    fs::write(&path, bytes).unwrap();
    assert_eq!(drain(&mut spool, 10), [1, 2]);
    assert_eq!(spool.damaged(), 1);
    assert_eq!(files(dir.path(), ".damaged").len(), 1);
}

#[test]
fn a_deleted_segment_does_not_stop_the_others() {
    let dir = tempfile::tempdir().unwrap();
    let mut spool = Spool::open(dir.path(), ROOM).unwrap();
    spool.segment_bytes = 1;
    fill(&mut spool, 0..3);
    fs::remove_file(&files(dir.path(), ".seg")[1]).unwrap();
    assert_eq!(drain(&mut spool, 10), [0, 2]);
    assert_eq!(spool.damaged(), 1);
}

#[test]
fn a_replay_frees_room() {
    let dir = tempfile::tempdir().unwrap();
    let mut spool = Spool::open(dir.path(), 4_000).unwrap();
    let mut stored = 0;
    let refused = loop {
        match spool.append(&[&report(stored)]) {
            Ok(()) => stored += 1,
            Err(error) => break error,
        }
        spool.sync().unwrap();
    };
    assert!(matches!(refused, SpoolError::Full { .. }));
    assert!(spool.bytes() <= 4_000 && stored > 5);
    let count = spool.next(100, usize::MAX).unwrap().len();
    spool.settled(count);
    fill(&mut spool, [stored]);
    let left: Vec<u64> = (count as u64..=stored).collect();
    assert_eq!(drain(&mut spool, 100), left);
}

#[test]
fn a_batch_with_state_is_refused_completely() {
    let dir = tempfile::tempdir().unwrap();
    let mut spool = Spool::open(dir.path(), ROOM).unwrap();
    let state = Op::Audit(Vec::new());
    let error = spool.append(&[&report(1), &state]).unwrap_err();
    assert!(matches!(error, SpoolError::Record(_)));
    assert!(spool.is_empty());
}

#[test]
fn an_interrupted_replay_continues_near_its_position() {
    let dir = tempfile::tempdir().unwrap();
    let mut spool = Spool::open(dir.path(), ROOM).unwrap();
    let many: Vec<Op> = (0..20_000).map(report).collect();
    spool.append(&many.iter().collect::<Vec<_>>()).unwrap();
    spool.sync().unwrap();
    for _ in 0..15 {
        let count = spool.next(1_000, usize::MAX).unwrap().len();
        spool.settled(count);
    }
    drop(spool);
    let mut spool = Spool::open(dir.path(), ROOM).unwrap();
    let left = drain(&mut spool, 1_000);
    assert!(left[0] > 0 && left[0] <= 15_000, "from {}", left[0]);
    assert_eq!(left, (left[0]..20_000).collect::<Vec<_>>());
    // The note is of no use to the next segment, even under the same number.
    drop(spool);
    let mut spool = Spool::open(dir.path(), ROOM).unwrap();
    let many: Vec<Op> = (20_000..40_000).map(report).collect();
    spool.append(&many.iter().collect::<Vec<_>>()).unwrap();
    spool.sync().unwrap();
    drop(spool);
    let mut spool = Spool::open(dir.path(), ROOM).unwrap();
    assert_eq!(spool.records(), 20_000);
    assert_eq!(drain(&mut spool, 1_000)[0], 20_000);
}

/// A tiny file system of its own; `None` where mounting is not allowed.
struct Tiny(tempfile::TempDir);

impl Tiny {
    fn mount() -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let done = std::process::Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=64k", "tmpfs"])
            .arg(dir.path())
            .output();
        done.is_ok_and(|output| output.status.success())
            .then_some(Self(dir))
    }
}

impl Drop for Tiny {
    fn drop(&mut self) {
        let done = std::process::Command::new("umount")
            .arg(self.0.path())
            .status();
        assert!(done.is_ok_and(|status| status.success()));
    }
}

#[test]
fn a_full_disk_refuses_a_whole_batch() {
    let Some(disk) = Tiny::mount() else {
        eprintln!("no mount allowed here: a full disk is not tried");
        return;
    };
    let mut spool = Spool::open(disk.0.path(), ROOM).unwrap();
    let mut stored = 0;
    loop {
        let batch: Vec<Op> = (stored..stored + 50).map(report).collect();
        let refs: Vec<&Op> = batch.iter().collect();
        match spool.append(&refs).and_then(|()| spool.sync()) {
            Ok(()) => stored += 50,
            Err(SpoolError::Disk { .. }) => break,
            Err(other) => panic!("{other}"),
        }
    }
    assert!(stored > 0);
    assert_eq!(spool.records(), stored);
    // Again, while it is still full.
    let more: Vec<Op> = (stored..stored + 200).map(report).collect();
    assert!(spool.append(&more.iter().collect::<Vec<_>>()).is_err());
    let all: Vec<u64> = (0..stored).collect();
    assert_eq!(drain(&mut spool, 1_000), all);
    fill(&mut spool, [7]);
    assert_eq!(drain(&mut spool, 1_000), [7]);
}

#[test]
fn a_deleted_directory_is_created_again() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("spool");
    let mut spool = Spool::open(&dir, ROOM).unwrap();
    fill(&mut spool, 0..3);
    fs::remove_dir_all(&dir).unwrap();
    spool.append(&[&report(3)]).unwrap();
    assert!(matches!(spool.sync(), Err(SpoolError::Disk { .. })));
    fill(&mut spool, 4..6);
    assert!(matches!(
        Spool::open(&dir, ROOM),
        Err(SpoolError::Locked(_))
    ));
    drop(spool);
    let mut spool = Spool::open(&dir, ROOM).unwrap();
    assert_eq!(drain(&mut spool, 10), [4, 5]);
}

#[test]
fn no_damage_to_any_file_of_the_spool_panics() {
    let whole = tempfile::tempdir().unwrap();
    let mut spool = Spool::open(whole.path(), ROOM).unwrap();
    let _ = (spool.first_seq(7), spool.note_node("n1"));
    fill(&mut spool, 0..20);
    spool.save_recent(&[report(1), report(2)]).unwrap();
    // Until the position of the replay is noted.
    super::position::save(
        whole.path(),
        super::position::Position {
            number: 1,
            first: [0; HEADER_BYTES],
            offset: 40,
        },
    );
    drop(spool);
    let names: Vec<_> = fs::read_dir(whole.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert!(names.len() >= 5, "{names:?}");
    let mut random = fastrand::Rng::with_seed(17);
    for (damaged, way) in names
        .iter()
        .flat_map(|name| (0..8).map(move |way| (name, way)))
    {
        let dir = tempfile::tempdir().unwrap();
        for name in &names {
            fs::copy(whole.path().join(name), dir.path().join(name)).unwrap();
        }
        let path = dir.path().join(damaged);
        let mut bytes = fs::read(&path).unwrap();
        let length = bytes.len();
        match way {
            0 => bytes.clear(),
            1 => bytes.truncate(length / 2),
            2 => bytes.truncate(length.saturating_sub(1)),
            3 => bytes.extend([0xff; 64]),
            _ => bytes.iter_mut().for_each(|byte| {
                if random.u8(0..8) == 0 {
                    *byte = random.u8(..);
                }
            }),
        }
        fs::remove_file(&path).unwrap();
        match way {
            7 => fs::create_dir(&path).unwrap(),
            _ => fs::write(&path, bytes).unwrap(),
        }
        // It may be refused with a message. It never panics, and the rest can be used.
        let mut spool = match Spool::open(dir.path(), ROOM) {
            Ok(spool) => spool,
            Err(error) => {
                assert!(!error.to_string().is_empty());
                continue;
            }
        };
        let _ = (spool.recent(), spool.first_seq(7), spool.note_node("n2"));
        while !spool.is_empty() {
            let Ok(ops) = spool.next(7, usize::MAX) else {
                break;
            };
            let count = ops.len();
            spool.settled(count);
        }
    }
}
