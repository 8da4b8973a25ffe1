//! The copy of the replay buffer on the disk while the store is unavailable, for a server that is
//! killed before it could replay the buffer.
//!
//! ```text
//!  store unavailable        ──▶ recent.new ──synced, renamed──▶ recent
//!  start during the outage  ──▶ read, as if just confirmed
//!  all of it replayed       ──▶ deleted
//! ```
//!
//! It is one file of records, oldest first. It is always rewritten as a whole, so repeated outages
//! do not make it grow. It is deleted before anything newer is written to the store, so it is never
//! older than the store. It counts towards the bound of the spool, and takes at most half of the
//! room; the rest is for new reports. It also stays when the spool is full: its operations are
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

/// Length of the copy that an earlier process left in `dir`. An unfinished one is deleted.
pub(super) fn found(dir: &Path) -> u64 {
    // A missing file is usual, and a remaining one is overwritten.
    let _ = fs::remove_file(fresh(dir));
    fs::metadata(file(dir)).map_or(0, |found| found.len())
}

impl Spool {
    /// Writes and syncs the copy: as many of the newest `ops` as have room. Returns their number.
    ///
    /// # Errors
    /// When the disk is full or fails. The earlier copy stays.
    pub fn save_recent(&mut self, ops: &[Op]) -> Result<usize, SpoolError> {
        let room = self.max_bytes.saturating_sub(self.queue_bytes());
        let half = room.min(self.free_bytes()) / 2;
        let copied = newest(ops, half.min(RECENT_FILE_BYTES_MAX));
        if copied.is_empty() {
            self.delete_recent();
            return Ok(0);
        }
        self.recent_bytes = self.replace(copied).map_err(|error| {
            // The unfinished copy may fill the disk.
            let _ = fs::remove_file(fresh(&self.dir));
            SpoolError::Disk {
                dir: self.dir.clone(),
                error,
            }
        })?;
        Ok(copied.len())
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

    /// The operations of the copy, oldest first.
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
                    let file = path.display();
                    log::error!(file:% = file, byte = at; "spool: {file} is damaged at byte {at}");
                }
                ops
            }
            Err(error) => {
                self.damaged += 1;
                let file = path.display();
                log::error!(file:% = file, error:% = error; "spool: {file} cannot be read: {error}");
                Vec::new()
            }
        }
    }

    /// Deletes the copy.
    pub fn delete_recent(&mut self) {
        if self.recent_bytes == 0 {
            return;
        }
        self.recent_bytes = 0;
        let path = file(&self.dir);
        let removed = fs::remove_file(&path).and_then(|()| self.dir_file.sync_all());
        if let Err(error) = removed
            && error.kind() != io::ErrorKind::NotFound
        {
            let file = path.display();
            log::warn!(file:% = file, error:% = error; "spool: {file} cannot be deleted: {error}");
        }
    }
}

/// The newest of `ops` whose records fit into `room` bytes.
fn newest(ops: &[Op], room: u64) -> &[Op] {
    let mut record = Vec::new();
    let mut left = room;
    let fits = |op: &&Op| {
        record.clear();
        // An operation that cannot be a record is left out.
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

/// The operations in the bytes of the file, and the position of the first damage.
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
    fn the_copy_is_read_at_the_next_start() {
        let dir = tempfile::tempdir().unwrap();
        let mut spool = Spool::open(dir.path(), ROOM).unwrap();
        assert_eq!(spool.save_recent(&reports(0..5)).unwrap(), 5);
        assert!(spool.is_empty() && spool.records() == 0 && spool.bytes() > 0);
        // The copy is replaced, not appended to.
        let five = spool.bytes();
        for _ in 0..10 {
            assert_eq!(spool.save_recent(&reports(0..5)).unwrap(), 5);
        }
        assert_eq!(spool.bytes(), five);
        drop(spool);
        assert_eq!(reopened(dir.path(), ROOM), [0, 1, 2, 3, 4]);
        let mut spool = Spool::open(dir.path(), ROOM).unwrap();
        assert_eq!(spool.bytes(), five);
        spool.delete_recent();
        assert_eq!(spool.bytes(), 0);
        drop(spool);
        assert!(reopened(dir.path(), ROOM).is_empty());
    }

    #[test]
    fn a_dispatch_is_copied_and_never_spooled() {
        let dir = tempfile::tempdir().unwrap();
        let mut spool = Spool::open(dir.path(), ROOM).unwrap();
        let dispatch = Dispatch {
            request: u64::MAX,
            rollout: None,
            key: TaskKey::parse("AC1", "AC").unwrap(),
            created: UnixMs(17),
            queue: true,
            commands: vec![("a \" b".to_owned(), 0.1), ("c".to_owned(), -3.0)],
            hosts: vec![(HostId::checked("h").unwrap(), TaskState::Sent)].into(),
            rings: Vec::new(),
            epoch: 0,
            stamp: Stamp {
                at: UnixMs(18),
                seq: 4,
            },
        };
        let op = Op::Dispatch(Box::new(dispatch.clone()));
        assert!(matches!(spool.append(&[&op]), Err(SpoolError::Record(_))));
        spool.save_recent(&[op]).unwrap();
        drop(spool);
        let found = Spool::open(dir.path(), ROOM).unwrap().recent();
        let [Op::Dispatch(found)] = &found[..] else {
            panic!("{found:?}");
        };
        assert_eq!(format!("{found:?}"), format!("{:?}", Box::new(dispatch)));
    }

    #[test]
    fn the_copy_takes_half_of_the_room() {
        let dir = tempfile::tempdir().unwrap();
        let mut spool = Spool::open(dir.path(), 4_000).unwrap();
        let copied = spool.save_recent(&reports(0..100)).unwrap();
        assert!((2..20).contains(&copied), "{copied}");
        assert!((1_000..=2_000).contains(&spool.bytes()));
        drop(spool);
        let last = 100 - copied as u64..100;
        assert_eq!(reopened(dir.path(), 4_000), last.collect::<Vec<_>>());
        // The queue takes the other half and no more.
        let mut spool = Spool::open(dir.path(), 4_000).unwrap();
        let mut taken = 0;
        while spool.append(&[&report(taken)]).is_ok() {
            taken += 1;
        }
        spool.sync().unwrap();
        assert!(taken >= copied as u64 && spool.bytes() <= 4_000, "{taken}");
        drop(spool);
        assert_eq!(reopened(dir.path(), 4_000).len(), copied);
        // And this takes half of what the queue leaves.
        let mut spool = Spool::open(dir.path(), 6_000).unwrap();
        spool.delete_recent();
        spool.save_recent(&reports(0..100)).unwrap();
        assert!(spool.bytes() <= 6_000 - (6_000 - spool.queue_bytes()) / 2);
    }

    #[test]
    fn damage_costs_one_record() {
        let dir = tempfile::tempdir().unwrap();
        let mut spool = Spool::open(dir.path(), ROOM).unwrap();
        spool.save_recent(&reports(0..3)).unwrap();
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
