//! The bytes of a store in memory instead of a file, for simulations that rewind them.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use redb::{Database, StorageBackend};

use super::file::Opened;
use crate::limits::EMBEDDED_CACHE_BYTES;
use crate::store::StoreError;

/// The bytes. A clone is another handle to the same.
#[derive(Clone, Debug, Default)]
pub struct Memory(Arc<Mutex<Vec<u8>>>);

impl Memory {
    /// The bytes as they are now.
    #[must_use]
    pub fn snapshot(&self) -> Vec<u8> {
        self.bytes().clone()
    }

    /// Replaces the bytes by those of an earlier [`snapshot`](Self::snapshot), or by none. No store
    /// may have them open.
    pub fn restore(&self, bytes: Vec<u8>) {
        *self.bytes() = bytes;
    }

    fn bytes(&self) -> MutexGuard<'_, Vec<u8>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn open(&self) -> Result<Opened, StoreError> {
        let mut builder = Database::builder();
        builder.set_cache_size(EMBEDDED_CACHE_BYTES);
        let database = builder.create_with_backend(self.clone());
        let database = database.map_err(|error| StoreError::Unavailable(error.to_string()))?;
        Ok(Opened::in_memory(database))
    }
}

impl StorageBackend for Memory {
    fn len(&self) -> io::Result<u64> {
        Ok(self.bytes().len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let bytes = self.bytes();
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let found = bytes.get(start..start.saturating_add(out.len()));
        out.copy_from_slice(found.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let len = usize::try_from(len).map_err(io::Error::other)?;
        self.bytes().resize(len, 0);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut bytes = self.bytes();
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let place = bytes.get_mut(start..start.saturating_add(data.len()));
        place
            .ok_or(io::ErrorKind::UnexpectedEof)?
            .copy_from_slice(data);
        Ok(())
    }
}
