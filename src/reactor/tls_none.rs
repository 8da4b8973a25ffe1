//! A build without TLS: there are no channels, which the compiler knows.

use mio::net::TcpStream;

use super::connection::{Flushed, Got};
use super::read_budget::ReadBudget;
use crate::ids::ConnId;
use crate::time::UnixMs;

/// Without the feature there are no settings.
#[derive(Clone, Debug)]
pub enum TlsSettings {}

/// Without the feature there are no sessions.
#[derive(Debug)]
pub enum Session {}

impl Session {
    pub fn new(settings: &TlsSettings) -> Option<Self> {
        match *settings {}
    }

    pub fn read(&mut self, _stream: &mut TcpStream, _into: &mut [u8], _steps: &mut usize) -> Got {
        match *self {}
    }

    pub fn take(&mut self, _plain: &[u8]) -> usize {
        match *self {}
    }

    pub fn send(&mut self, _stream: &mut TcpStream) -> Flushed {
        match *self {}
    }

    pub fn end(&mut self, _stream: &mut TcpStream) {
        match *self {}
    }
}

/// Without the feature there is no table.
#[derive(Debug)]
pub enum Tls {}

impl Tls {
    pub fn new(settings: TlsSettings) -> Self {
        match settings {}
    }

    pub fn set(&mut self, settings: TlsSettings) {
        match settings {}
    }

    pub fn begin(&mut self) {
        match *self {}
    }

    pub fn open(&mut self, _conn: ConnId) -> bool {
        match *self {}
    }

    pub fn forget(&mut self, _conn: ConnId) {
        match *self {}
    }

    pub fn read(
        &mut self,
        _conn: ConnId,
        _stream: &mut TcpStream,
        _into: &mut [u8],
        _budget: &mut ReadBudget,
    ) -> Got {
        match *self {}
    }

    pub fn take(&mut self, _conn: ConnId, _plain: &[u8]) -> usize {
        match *self {}
    }

    pub fn send(&mut self, _conn: ConnId, _stream: &mut TcpStream, _sent: &mut u64) -> Flushed {
        match *self {}
    }

    pub fn has_unsent(&self, _conn: ConnId) -> bool {
        match *self {}
    }

    pub fn has_handshake_begun(&self, _conn: ConnId) -> bool {
        match *self {}
    }

    pub fn end(&mut self, _conn: ConnId, _stream: &mut TcpStream) {
        match *self {}
    }

    pub fn name(&mut self, _conn: ConnId, _wall: UnixMs) -> Option<Result<String, String>> {
        match *self {}
    }

    pub fn check(&mut self, _wall: UnixMs) -> Vec<(ConnId, String)> {
        match *self {}
    }

    pub fn check_due(&self) -> Option<UnixMs> {
        match *self {}
    }
}
