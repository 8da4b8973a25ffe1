//! A build without TLS: there are no channels, which the compiler knows.

use mio::net::TcpStream;

use super::connection::{Flushed, Got};
use super::read_budget::ReadBudget;
use crate::ids::ConnId;
use crate::time::UnixMs;

/// Without the feature there are no settings.
#[derive(Clone, Debug)]
pub enum TlsSettings {}

/// Without the feature there is no table.
#[derive(Debug)]
pub enum Tls {}

impl Tls {
    /// Of no settings.
    #[must_use]
    pub fn new(settings: TlsSettings) -> Self {
        match settings {}
    }

    /// Never called.
    pub fn set(&mut self, settings: TlsSettings) {
        match settings {}
    }

    /// Never called.
    pub fn begin(&mut self) {
        match *self {}
    }

    /// Never called.
    pub fn open(&mut self, _conn: ConnId) -> bool {
        match *self {}
    }

    /// Never called.
    pub fn forget(&mut self, _conn: ConnId) {
        match *self {}
    }

    /// Never called.
    pub fn read(
        &mut self,
        _conn: ConnId,
        _stream: &mut TcpStream,
        _into: &mut [u8],
        _budget: &mut ReadBudget,
    ) -> Got {
        match *self {}
    }

    /// Never called.
    pub fn take(&mut self, _conn: ConnId, _plain: &[u8]) -> usize {
        match *self {}
    }

    /// Never called.
    pub fn send(&mut self, _conn: ConnId, _stream: &mut TcpStream, _sent: &mut u64) -> Flushed {
        match *self {}
    }

    /// Never called.
    #[must_use]
    pub fn has_unsent(&self, _conn: ConnId) -> bool {
        match *self {}
    }

    /// Never called.
    #[must_use]
    pub fn has_begun(&self, _conn: ConnId) -> bool {
        match *self {}
    }

    /// Never called.
    pub fn end(&mut self, _conn: ConnId, _stream: &mut TcpStream) {
        match *self {}
    }

    /// Never called.
    pub fn name(&mut self, _conn: ConnId, _wall: UnixMs) -> Option<Result<String, String>> {
        match *self {}
    }

    /// Never called.
    pub fn check(&mut self, _wall: UnixMs) -> Vec<(ConnId, String)> {
        match *self {}
    }

    /// Never called.
    #[must_use]
    pub fn check_due(&self) -> Option<UnixMs> {
        match *self {}
    }
}
