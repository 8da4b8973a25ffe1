//! The replay buffer on disk while the store is unavailable. A store that dies with its last seconds receives
//! them again; this copy serves a server that is killed before it could do so.
//!
//! ```text
//!  the store goes away ──▶ recent.new ──synced, renamed──▶ recent
//!  the next start, if there is one before the store is back ──▶ all of it, as if it had just been confirmed
//!  all of it replayed ──▶ deleted
//! ```
//!
//! One file of records, oldest first. It is rewritten as a whole, so a store that comes and goes does not
//! make it grow. It is deleted before anything newer is written to the store, so its content is never
//! older than the store's. It counts towards the spool's bound, and takes at most half of the room: the
//! rest is for new reports. Once written it stays, also when the spool is full: its content is
//! acknowledged, waiting reports are not.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use super::record::{self, Piece};
use super::segment::create_file;
use super::{Spool, SpoolError};
use crate::files;
use crate::limits::RECENT_FILE_BYTES_MAX;
use crate::store::op::Op;

fn file(dir: &Path) -> PathBuf {
    dir.join("recent")
}

fn fresh(dir: &Path) -> PathBuf {
    dir.join("recent.new")
}

/// The length of what an earlier process left in `dir`; what it could not finish goes.
pub(super) fn found(dir: &Path) -> u64 {
    // A missing file is usual, and one that remains is overwritten.
    let _ = fs::remove_file(fresh(dir));
    fs::metadata(file(dir)).map_or(0, |found| found.len())
}

impl Spool {
    /// Keeps what the store confirmed lately, `ops`, in the place of what was kept before: of the newest as many
    /// as there is room for. Returns how many that are. It is safe then.
    ///
    /// # Errors
    /// When the disk is full, or fails: nothing new is kept.
    pub fn keep_recent(&mut self, ops: &[Op]) -> Result<usize, SpoolError> {
        let room = self.max_bytes.saturating_sub(self.queue_bytes());
        let half = room.min(self.free_bytes()) / 2;
        let kept = newest(ops, half.min(RECENT_FILE_BYTES_MAX));
        if kept.is_empty() {
            self.forget_recent();
            return Ok(0);
        }
        self.recent_bytes = self.replace(kept).map_err(|error| {
            // It may be what fills the disk.
            let _ = fs::remove_file(fresh(&self.dir));
            SpoolError::Disk {
                dir: self.dir.clone(),
                error,
            }
        })?;
        Ok(kept.len())
    }

    /// Free space of the disk; unlimited if the system does not report it.
    fn free_bytes(&self) -> u64 {
        rustix::fs::fstatvfs(&self.dir_file)
            .map_or(u64::MAX, |disk| disk.f_bavail.saturating_mul(disk.f_frsize))
    }

    fn replace(&mut self, ops: &[Op]) -> io::Result<u64> {
        self.stay_in_place()?;
        let fresh = fresh(&self.dir);
        let bytes = write(&fresh, ops)?;
        fs::rename(&fresh, file(&self.dir))?;
        self.dir_file.sync_all()?;
        Ok(bytes)
    }

    /// Records that an earlier process stored, oldest first.
    pub fn recent(&mut self) -> Vec<Op> {
        if self.recent_bytes == 0 {
            return Vec::new();
        }
        let path = file(&self.dir);
        match files::read_own(&path) {
            Ok(bytes) => {
                let (ops, damage) = read(&bytes);
                if let Some(at) = damage {
                    self.damaged += 1;
                    log::error!("spool: {} is damaged at byte {at}", path.display());
                }
                ops
            }
            Err(error) => {
                self.damaged += 1;
                log::error!("spool: {} cannot be read: {error}", path.display());
                Vec::new()
            }
        }
    }

    /// Deletes the stored records.
    pub fn forget_recent(&mut self) {
        if self.recent_bytes == 0 {
            return;
        }
        self.recent_bytes = 0;
        let path = file(&self.dir);
        let removed = fs::remove_file(&path).and_then(|()| self.dir_file.sync_all());
        if let Err(error) = removed
            && error.kind() != io::ErrorKind::NotFound
        {
            log::warn!("spool: {} cannot be removed: {error}", path.display());
        }
    }
}

/// The newest of `ops` that come to `room` bytes at most.
fn newest(ops: &[Op], room: u64) -> &[Op] {
    let mut record = Vec::new();
    let mut left = room;
    let fits = |op: &&Op| {
        record.clear();
        // An operation that cannot be a record was never confirmed; it is left out.
        let _ = record::encode(op, &mut record);
        let rest = left.checked_sub(record.len() as u64);
        left = rest.unwrap_or(0);
        rest.is_some()
    };
    let count = ops.iter().rev().take_while(fits).count();
    &ops[ops.len() - count..]
}

/// Writes `ops` to a new file and syncs it. Returns its length.
fn write(path: &Path, ops: &[Op]) -> io::Result<u64> {
    let mut out = BufWriter::new(create_file(path)?);
    let mut record = Vec::new();
    let mut bytes = 0;
    for op in ops {
        record.clear();
        if record::encode(op, &mut record).is_ok() {
            out.write_all(&record)?;
            bytes += record.len() as u64;
        }
    }
    let file: File = out.into_inner().map_err(|error| error.into_error())?;
    file.sync_all()?;
    Ok(bytes)
}

/// The operations in the bytes of the file, and where the first damage is, if there is any.
fn read(bytes: &[u8]) -> (Vec<Op>, Option<usize>) {
    let (mut ops, mut damage, mut at) = (Vec::new(), None, 0);
    while let Some(piece) = record::piece(bytes, at) {
        let next = match piece {
            Piece::Record { payload } => {
                let end = payload.end;
                match record::decode(&bytes[payload]) {
                    Ok(op) => ops.push(op),
                    Err(_) => damage = damage.or(Some(at)),
                }
                end
            }
            Piece::Damaged { resume } => {
                damage = damage.or(Some(at));
                resume
            }
            Piece::Torn => {
                damage = damage.or(Some(at));
                bytes.len()
            }
        };
        at = next;
    }
    (ops, damage)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{HostId, TaskKey};
    use crate::store::op::{Dispatch, Stamp, TaskState};
    use crate::store::tests::reports::{name, report};
    use crate::time::UnixMs;

    const ROOM: u64 = 1 << 20;

    fn names(ops: &[Op]) -> Vec<u64> {
        ops.iter().map(name).collect()
    }

    fn reports(numbers: std::ops::Range<u64>) -> Vec<Op> {
        numbers.map(report).collect()
    }

    fn reopened(dir: &Path, max_bytes: u64) -> Vec<u64> {
        names(&Spool::open(dir, max_bytes).unwrap().recent())
    }

    #[test]
    fn what_is_kept_is_there_at_the_next_start_and_no_part_of_the_queue() {
        let dir = tempfile::tempdir().unwrap();
        let mut spool = Spool::open(dir.path(), ROOM).unwrap();
        assert_eq!(spool.keep_recent(&reports(0..5)).unwrap(), 5);
        assert!(spool.is_empty() && spool.records() == 0 && spool.bytes() > 0);
        // Written anew, not behind what is there.
        let five = spool.bytes();
        for _ in 0..10 {
            assert_eq!(spool.keep_recent(&reports(0..5)).unwrap(), 5);
        }
        assert_eq!(spool.bytes(), five);
        drop(spool);
        assert_eq!(reopened(dir.path(), ROOM), [0, 1, 2, 3, 4]);
        let mut spool = Spool::open(dir.path(), ROOM).unwrap();
        assert_eq!(spool.bytes(), five);
        spool.forget_recent();
        assert_eq!(spool.bytes(), 0);
        drop(spool);
        assert!(reopened(dir.path(), ROOM).is_empty());
    }

    #[test]
    fn a_dispatch_is_kept_and_never_spooled() {
        let dir = tempfile::tempdir().unwrap();
        let mut spool = Spool::open(dir.path(), ROOM).unwrap();
        let dispatch = Dispatch {
            request: u64::MAX,
            key: TaskKey::parse("AC1", "AC").unwrap(),
            created: UnixMs(17),
            queue: true,
            commands: vec![("a \" b".to_owned(), 0.1), ("c".to_owned(), -3.0)],
            hosts: vec![(HostId::checked("h").unwrap(), TaskState::Sent)],
            stamp: Stamp {
                at: UnixMs(18),
                seq: 4,
            },
        };
        let op = Op::Dispatch(Box::new(dispatch.clone()));
        assert!(matches!(spool.append(&[&op]), Err(SpoolError::Record(_))));
        spool.keep_recent(&[op]).unwrap();
        drop(spool);
        let found = Spool::open(dir.path(), ROOM).unwrap().recent();
        let [Op::Dispatch(found)] = &found[..] else {
            panic!("{found:?}");
        };
        assert_eq!(format!("{found:?}"), format!("{:?}", Box::new(dispatch)));
    }

    #[test]
    fn the_newest_are_kept_and_half_of_the_room_is_left() {
        let dir = tempfile::tempdir().unwrap();
        let mut spool = Spool::open(dir.path(), 4_000).unwrap();
        let kept = spool.keep_recent(&reports(0..100)).unwrap();
        assert!((2..20).contains(&kept), "{kept}");
        assert!((1_000..=2_000).contains(&spool.bytes()));
        drop(spool);
        let last = 100 - kept as u64..100;
        assert_eq!(reopened(dir.path(), 4_000), last.collect::<Vec<_>>());
        // The queue takes the other half and no more.
        let mut spool = Spool::open(dir.path(), 4_000).unwrap();
        let mut taken = 0;
        while spool.append(&[&report(taken)]).is_ok() {
            taken += 1;
        }
        spool.sync().unwrap();
        assert!(taken >= kept as u64 && spool.bytes() <= 4_000, "{taken}");
        drop(spool);
        assert_eq!(reopened(dir.path(), 4_000).len(), kept);
        // And this takes half of what the queue leaves.
        let mut spool = Spool::open(dir.path(), 6_000).unwrap();
        spool.forget_recent();
        spool.keep_recent(&reports(0..100)).unwrap();
        assert!(spool.bytes() <= 6_000 - (6_000 - spool.queue_bytes()) / 2);
    }

    #[test]
    fn damage_takes_no_other_record_with_it_and_what_was_never_finished_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let mut spool = Spool::open(dir.path(), ROOM).unwrap();
        spool.keep_recent(&reports(0..3)).unwrap();
        drop(spool);
        let path = file(dir.path());
        let whole = fs::read(&path).unwrap();
        let mut spoilt = whole.clone();
        spoilt[whole.len() / 2] ^= 1;
        fs::write(&path, &spoilt).unwrap();
        let mut spool = Spool::open(dir.path(), ROOM).unwrap();
        assert_eq!(names(&spool.recent()), [0, 2]);
        assert_eq!(spool.damaged(), 1);
        drop(spool);
        for cut in 0..whole.len() {
            assert!(read(&whole[..cut]).0.len() < 3, "cut at {cut}");
        }
        fs::rename(&path, fresh(dir.path())).unwrap();
        assert!(reopened(dir.path(), ROOM).is_empty());
        assert!(!fresh(dir.path()).exists());
    }
}
