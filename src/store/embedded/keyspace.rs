//! The key space of Redis over three tables of bytes, inside one write transaction.
//!
//! ```text
//!  keys   key                             →  type, expiry        the keys
//!  rows   length of key ‖ key ‖ member    →  value               their members, a row each
//!  due    expiry ‖ key                    →                      the expiries, in order
//! ```
//!
//! A member of a set, a field of a hash, an entry of a sorted set or of a stream is one row, so
//! that adding one to a set of a million rewrites no other. A string or a list is one row with an
//! empty member. The length in front separates keys of which one is a prefix of another.
//!
//! An expired key counts as missing at once; its rows are deleted when it is written again or
//! swept. An empty set, hash or list is no key, as in Redis.

use redb::{ReadableTable, StorageError, Table, TableDefinition, TableError, WriteTransaction};

use crate::time::UnixMs;

const KEYS: TableDefinition<&str, &[u8]> = TableDefinition::new("keys");
const ROWS: TableDefinition<&[u8], &[u8]> = TableDefinition::new("rows");
const DUE: TableDefinition<&[u8], &[u8]> = TableDefinition::new("due");

/// The member of the only row of a string or a list.
pub(super) const WHOLE: &[u8] = b"";

/// Type of a key's value. The numbers are on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Text = 1,
    List = 2,
    Set = 3,
    Hash = 4,
    Sorted = 5,
    Stream = 6,
}

impl Kind {
    fn of(code: u8) -> Option<Self> {
        use Kind::{Hash, List, Set, Sorted, Stream, Text};
        [Text, List, Set, Hash, Sorted, Stream]
            .into_iter()
            .find(|kind| *kind as u8 == code)
    }
}

/// Error of a read or a write.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    /// A key has another type: the operation must not be written.
    #[error("key {0:?} holds a value of another kind")]
    Kind(String),
    /// An error of the file or the disk: the transaction is lost.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

impl From<TableError> for Fault {
    fn from(error: TableError) -> Self {
        match error {
            TableError::Storage(error) => Self::Storage(error),
            other => Self::Storage(StorageError::Corrupted(other.to_string())),
        }
    }
}

/// A member and its value.
pub(super) type Row = (Vec<u8>, Vec<u8>);

/// A row of the table of keys.
struct Meta {
    kind: Kind,
    /// Time of expiry; 0: never.
    expires: u64,
}

/// The key space as one transaction sees it.
pub(super) struct Space<'t> {
    keys: Table<'t, &'static str, &'static [u8]>,
    rows: Table<'t, &'static [u8], &'static [u8]>,
    due: Table<'t, &'static [u8], &'static [u8]>,
    now: UnixMs,
    written: bool,
}

impl<'t> Space<'t> {
    /// Opens the tables, and creates missing ones. `now` decides which keys have expired.
    pub(super) fn open(transaction: &'t WriteTransaction, now: UnixMs) -> Result<Self, Fault> {
        Ok(Self {
            keys: transaction.open_table(KEYS)?,
            rows: transaction.open_table(ROWS)?,
            due: transaction.open_table(DUE)?,
            now,
            written: false,
        })
    }

    /// Time of the transaction.
    pub(super) fn now(&self) -> UnixMs {
        self.now
    }

    /// Returns whether anything has been written; if not, no commit is needed.
    pub(super) fn written(&self) -> bool {
        self.written
    }

    // --- keys ---------------------------------------------------------------------------------

    fn meta(&self, key: &str) -> Result<Option<Meta>, Fault> {
        let Some(row) = self.keys.get(key)? else {
            return Ok(None);
        };
        let read = |bytes: &[u8]| {
            let (code, expires) = bytes.split_first()?;
            let expires = u64::from_be_bytes(expires.try_into().ok()?);
            Kind::of(*code).map(|kind| Meta { kind, expires })
        };
        let meta = read(row.value());
        let damaged = || StorageError::Corrupted(format!("the entry of key {key:?}"));
        Ok(Some(meta.ok_or_else(damaged)?))
    }

    fn set_meta(&mut self, key: &str, kind: Kind, expires: u64) -> Result<(), Fault> {
        let mut bytes = [kind as u8; 9];
        bytes[1..].copy_from_slice(&expires.to_be_bytes());
        self.keys.insert(key, &bytes[..])?;
        self.written = true;
        Ok(())
    }

    fn is_expired(&self, meta: &Meta) -> bool {
        meta.expires != 0 && meta.expires <= self.now.0
    }

    /// Type of the value of `key`, if it exists.
    pub(super) fn kind(&self, key: &str) -> Result<Option<Kind>, Fault> {
        let meta = self.meta(key)?;
        Ok(meta.filter(|m| !self.is_expired(m)).map(|m| m.kind))
    }

    /// Returns whether `key` exists. Refuses one of another type than `kind`.
    pub(super) fn check(&self, key: &str, kind: Kind) -> Result<bool, Fault> {
        match self.kind(key)? {
            None => Ok(false),
            Some(found) if found == kind => Ok(true),
            Some(_) => Err(Fault::Kind(key.to_owned())),
        }
    }

    /// Creates `key` as `kind` if it does not exist, without the rows of an expired one.
    pub(super) fn make(&mut self, key: &str, kind: Kind) -> Result<(), Fault> {
        if !self.check(key, kind)? {
            self.delete(key)?;
            self.set_meta(key, kind, 0)?;
        }
        Ok(())
    }

    /// Deletes `key` with its rows.
    pub(super) fn delete(&mut self, key: &str) -> Result<(), Fault> {
        let Some(meta) = self.meta(key)? else {
            return Ok(());
        };
        let (from, to) = (row(key, WHOLE), end_of_rows(key));
        self.rows.retain_in(&from[..]..&to[..], |_, _| false)?;
        self.forget(key, &meta)
    }

    fn forget(&mut self, key: &str, meta: &Meta) -> Result<(), Fault> {
        self.unschedule(key, meta)?;
        self.keys.remove(key)?;
        self.written = true;
        Ok(())
    }

    fn unschedule(&mut self, key: &str, meta: &Meta) -> Result<(), Fault> {
        if meta.expires != 0 {
            self.due.remove(&due(meta.expires, key)[..])?;
        }
        Ok(())
    }

    /// Lets `key` expire at `at`, if it exists.
    pub(super) fn expire(&mut self, key: &str, at: UnixMs) -> Result<(), Fault> {
        self.reschedule(key, at.0.max(1))
    }

    /// Returns whether `key` has a time to live.
    pub(super) fn expires(&self, key: &str) -> Result<bool, Fault> {
        Ok(self.meta(key)?.is_some_and(|meta| meta.expires != 0))
    }

    /// Removes the time to live of `key`.
    pub(super) fn persist(&mut self, key: &str) -> Result<(), Fault> {
        self.reschedule(key, 0)
    }

    fn reschedule(&mut self, key: &str, expires: u64) -> Result<(), Fault> {
        let Some(meta) = self.meta(key)?.filter(|m| !self.is_expired(m)) else {
            return Ok(());
        };
        if meta.expires == expires {
            return Ok(());
        }
        self.unschedule(key, &meta)?;
        if expires != 0 {
            self.due.insert(&due(expires, key)[..], WHOLE)?;
        }
        self.set_meta(key, meta.kind, expires)
    }

    /// Deletes at most `limit` expired keys.
    pub(super) fn sweep(&mut self, limit: usize) -> Result<(), Fault> {
        let mut expired = Vec::new();
        let end = due(self.now.0.saturating_add(1), "");
        for entry in self.due.range::<&[u8]>(..&end[..])?.take(limit) {
            let (at, _) = entry?;
            expired.push(at.value().to_vec());
        }
        for at in expired {
            match at.get(8..).map(std::str::from_utf8) {
                Some(Ok(key)) => self.delete(key)?,
                _ => return Err(StorageError::Corrupted("the order of expiry".into()).into()),
            }
        }
        Ok(())
    }

    // --- rows ---------------------------------------------------------------------------------

    /// The value of `member` in `key`, if both exist.
    pub(super) fn get(
        &self,
        key: &str,
        kind: Kind,
        member: &[u8],
    ) -> Result<Option<Vec<u8>>, Fault> {
        if !self.check(key, kind)? {
            return Ok(None);
        }
        let value = self.rows.get(&row(key, member)[..])?;
        Ok(value.map(|v| v.value().to_vec()))
    }

    /// Sets `member` of `key` to `value`, and creates the key if necessary.
    pub(super) fn put(
        &mut self,
        key: &str,
        kind: Kind,
        member: &[u8],
        value: &[u8],
    ) -> Result<(), Fault> {
        self.make(key, kind)?;
        self.replace_unless(key, member, value, |old| old == value)
    }

    /// Removes `member` from `key`, and the key with its last member.
    pub(super) fn take(&mut self, key: &str, kind: Kind, member: &[u8]) -> Result<(), Fault> {
        if !self.check(key, kind)? || self.rows.remove(&row(key, member)[..])?.is_none() {
            return Ok(());
        }
        self.written = true;
        let (from, to) = (row(key, WHOLE), end_of_rows(key));
        let empty = self.rows.range(&from[..]..&to[..])?.next().is_none();
        match self.meta(key)? {
            Some(meta) if empty => self.forget(key, &meta),
            _ => Ok(()),
        }
    }

    /// At most `limit` members of `key` with their values, in the order of their bytes: those after
    /// `after`, or from the first on.
    pub(super) fn page(
        &self,
        key: &str,
        kind: Kind,
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<Row>, Fault> {
        if !self.check(key, kind)? {
            return Ok(Vec::new());
        }
        let mut from = row(key, after.unwrap_or(WHOLE));
        if after.is_some() {
            // The least member greater than `after`.
            from.push(0);
        }
        let (head, to) = (row(key, WHOLE).len(), end_of_rows(key));
        let mut page = Vec::new();
        for entry in self.rows.range(&from[..]..&to[..])?.take(limit) {
            let (at, value) = entry?;
            let member = at.value().get(head..).unwrap_or_default();
            page.push((member.to_vec(), value.value().to_vec()));
        }
        Ok(page)
    }

    /// Number of members of `key`.
    pub(super) fn count(&self, key: &str, kind: Kind) -> Result<usize, Fault> {
        if !self.check(key, kind)? {
            return Ok(0);
        }
        let (from, to) = (row(key, WHOLE), end_of_rows(key));
        let mut count = 0;
        for entry in self.rows.range(&from[..]..&to[..])? {
            entry?;
            count += 1;
        }
        Ok(count)
    }

    /// The first and the last member of `key`.
    pub(super) fn ends(&self, key: &str) -> Result<Option<[Vec<u8>; 2]>, Fault> {
        let (from, to) = (row(key, WHOLE), end_of_rows(key));
        let mut range = self.rows.range(&from[..]..&to[..])?;
        let Some(first) = range.next().transpose()? else {
            return Ok(None);
        };
        let first = first.0.value().to_vec();
        let last = range.next_back().transpose()?;
        let last = last.map_or_else(|| first.clone(), |(at, _)| at.value().to_vec());
        Ok(Some([first, last].map(|at| at[from.len()..].to_vec())))
    }

    /// Removes all members of `key` before `member`, in the order of their bytes. At least one must
    /// remain.
    pub(super) fn take_before(&mut self, key: &str, member: &[u8]) -> Result<(), Fault> {
        let (from, to) = (row(key, WHOLE), row(key, member));
        self.rows.retain_in(&from[..]..&to[..], |_, _| false)?;
        self.written = true;
        Ok(())
    }

    /// Sets `member` of the existing `key` to `value`, unless `stays` says that the old value
    /// stays.
    pub(super) fn replace_unless(
        &mut self,
        key: &str,
        member: &[u8],
        value: &[u8],
        stays: impl FnOnce(&[u8]) -> bool,
    ) -> Result<(), Fault> {
        let at = row(key, member);
        let stays = match self.rows.get(&at[..])? {
            Some(old) => stays(old.value()),
            None => false,
        };
        if !stays {
            self.rows.insert(&at[..], value)?;
            self.written = true;
        }
        Ok(())
    }
}

/// Key of the row of `member` in `key`.
fn row(key: &str, member: &[u8]) -> Vec<u8> {
    let mut at = Vec::with_capacity(8 + key.len() + member.len() + 1);
    at.extend_from_slice(&(key.len() as u64).to_be_bytes());
    at.extend_from_slice(key.as_bytes());
    at.extend_from_slice(member);
    at
}

/// A bound above all rows of `key`, and below those of the next key.
fn end_of_rows(key: &str) -> Vec<u8> {
    let mut end = row(key, WHOLE);
    // The last byte is one of UTF-8 or, where the key is empty, of a length of zero: never 255.
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    end
}

fn due(expires: u64, key: &str) -> Vec<u8> {
    let mut at = expires.to_be_bytes().to_vec();
    at.extend_from_slice(key.as_bytes());
    at
}
