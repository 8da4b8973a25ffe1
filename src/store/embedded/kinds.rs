//! The types of Redis as rows of the key space: strings, lists, sets, hashes, sorted sets and the
//! stream, with the commands that the operations need.

use redb::StorageError;

use super::keyspace::{Fault, Kind, Space, WHOLE};

impl Space<'_> {
    /// Adds `member` to the set.
    pub(super) fn set_add(&mut self, key: &str, member: &str) -> Result<(), Fault> {
        self.put(key, Kind::Set, member.as_bytes(), b"")
    }

    /// Removes `member` from the set.
    pub(super) fn set_remove(&mut self, key: &str, member: &str) -> Result<(), Fault> {
        self.take(key, Kind::Set, member.as_bytes())
    }

    /// Returns whether the set has `member`.
    pub(super) fn set_has(&self, key: &str, member: &str) -> Result<bool, Fault> {
        Ok(self.get(key, Kind::Set, member.as_bytes())?.is_some())
    }

    /// A field of the hash.
    pub(super) fn hash_get(&self, key: &str, field: &str) -> Result<Option<String>, Fault> {
        let value = self.get(key, Kind::Hash, field.as_bytes())?;
        Ok(value.map(|v| text(&v)))
    }

    /// Sets a field of the hash.
    pub(super) fn hash_set(&mut self, key: &str, field: &str, value: &str) -> Result<(), Fault> {
        self.put(key, Kind::Hash, field.as_bytes(), value.as_bytes())
    }

    /// Sets a field of the hash, or removes it.
    pub(super) fn hash_put(
        &mut self,
        key: &str,
        field: &str,
        value: Option<&str>,
    ) -> Result<(), Fault> {
        match value {
            Some(value) => self.hash_set(key, field, value),
            None => self.take(key, Kind::Hash, field.as_bytes()),
        }
    }

    /// The whole hash.
    pub(super) fn hash_all(&self, key: &str) -> Result<Vec<(String, String)>, Fault> {
        let rows = self.page(key, Kind::Hash, None, usize::MAX)?;
        Ok(rows.iter().map(|(f, v)| (text(f), text(v))).collect())
    }

    /// The string.
    pub(super) fn text_get(&self, key: &str) -> Result<Option<String>, Fault> {
        Ok(self.get(key, Kind::Text, WHOLE)?.map(|v| text(&v)))
    }

    /// Sets the string, and keeps its time to live.
    pub(super) fn text_set(&mut self, key: &str, value: &str) -> Result<(), Fault> {
        self.put(key, Kind::Text, WHOLE, value.as_bytes())
    }

    /// The list, if there is one.
    pub(super) fn list_get(&self, key: &str) -> Result<Option<Vec<String>>, Fault> {
        let whole = self.get(key, Kind::List, WHOLE)?;
        whole.map(|bytes| unpack(&bytes, key)).transpose()
    }

    /// Sets the list. An empty one is deleted.
    pub(super) fn list_set(&mut self, key: &str, list: &[String]) -> Result<(), Fault> {
        if list.is_empty() {
            self.check(key, Kind::List)?;
            return self.delete(key);
        }
        self.put(key, Kind::List, WHOLE, &pack(list.iter().map(|s| &**s)))
    }

    /// The score of `member` in the sorted set.
    pub(super) fn score(&self, key: &str, member: &str) -> Result<Option<f64>, Fault> {
        let value = self.get(key, Kind::Sorted, member.as_bytes())?;
        value.map(|bytes| score_of(&bytes, key)).transpose()
    }

    /// Removes `member` from the sorted set.
    pub(super) fn sorted_remove(&mut self, key: &str, member: &str) -> Result<(), Fault> {
        self.take(key, Kind::Sorted, member.as_bytes())
    }

    /// Raises the scores of members of the sorted set to at least these.
    pub(super) fn raise_scores<'a>(
        &mut self,
        key: &str,
        scores: impl Iterator<Item = (&'a str, f64)>,
    ) -> Result<(), Fault> {
        let mut scores = scores.peekable();
        if scores.peek().is_none() {
            return Ok(());
        }
        self.make(key, Kind::Sorted)?;
        for (member, score) in scores {
            let value = score.to_be_bytes();
            // A damaged old score is replaced.
            let stays = |old: &[u8]| score_of(old, key).is_ok_and(|old| old >= score);
            self.replace_unless(key, member.as_bytes(), &value, stays)?;
        }
        Ok(())
    }

    /// Appends an entry to the stream.
    pub(super) fn stream_add(&mut self, key: &str, fields: &[(&str, &str)]) -> Result<(), Fault> {
        self.make(key, Kind::Stream)?;
        let last = self.stream_ends(key)?.map_or(0, |(_, last)| last);
        let entry = pack(fields.iter().flat_map(|(name, value)| [*name, *value]));
        self.put(key, Kind::Stream, &(last + 1).to_be_bytes(), &entry)
    }

    /// Deletes all but the newest `keep` entries of the stream.
    pub(super) fn stream_trim(&mut self, key: &str, keep: u64) -> Result<(), Fault> {
        if !self.check(key, Kind::Stream)? {
            return Ok(());
        }
        if let Some((first, last)) = self.stream_ends(key)?
            && last - first >= keep
        {
            self.take_before(key, &(last + 1 - keep).to_be_bytes())?;
        }
        Ok(())
    }

    /// The numbers of the first and the last entry of a stream.
    fn stream_ends(&self, key: &str) -> Result<Option<(u64, u64)>, Fault> {
        let Some([first, last]) = self.ends(key)? else {
            return Ok(None);
        };
        match (first.try_into(), last.try_into()) {
            (Ok(first), Ok(last)) => {
                Ok(Some((u64::from_be_bytes(first), u64::from_be_bytes(last))))
            }
            _ => Err(StorageError::Corrupted(format!("the entries of {key:?}")).into()),
        }
    }
}

/// Packs texts, each after its length.
fn pack<'a>(texts: impl Iterator<Item = &'a str>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for text in texts {
        bytes.extend_from_slice(&(text.len() as u64).to_be_bytes());
        bytes.extend_from_slice(text.as_bytes());
    }
    bytes
}

/// The texts that [`pack`] packed. `key` is for the error.
pub(super) fn unpack(mut bytes: &[u8], key: &str) -> Result<Vec<String>, Fault> {
    let mut texts = Vec::new();
    while let Some((length, rest)) = bytes.split_first_chunk() {
        let length = usize::try_from(u64::from_be_bytes(*length)).ok();
        let Some((one, rest)) = length.and_then(|length| rest.split_at_checked(length)) else {
            return Err(StorageError::Corrupted(format!("the texts of {key:?}")).into());
        };
        texts.push(text(one));
        bytes = rest;
    }
    Ok(texts)
}

/// Parses the score in a row. `key` is for the error.
pub(super) fn score_of(bytes: &[u8], key: &str) -> Result<f64, Fault> {
    let damaged = || StorageError::Corrupted(format!("a score of {key:?}"));
    let bytes = bytes.try_into().map_err(|_| damaged())?;
    Ok(f64::from_be_bytes(bytes))
}

/// Text from bytes that were written as text.
pub(super) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
