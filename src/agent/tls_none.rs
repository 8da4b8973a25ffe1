//! A build without TLS: the types of this module have no values.

use std::io;

use mio::net::TcpStream;

/// Settings, of which a build without TLS has none.
#[derive(Clone, Debug)]
pub enum TlsSettings {}

/// Channel, of which a build without TLS has none.
#[derive(Debug)]
pub(super) enum Channel {}

impl Channel {
    /// Of no settings.
    pub(super) fn new(settings: &TlsSettings) -> io::Result<Self> {
        match *settings {}
    }

    /// Never called.
    pub(super) fn shake_hands(
        &mut self,
        _stream: &mut TcpStream,
        _left: &mut usize,
    ) -> io::Result<bool> {
        match *self {}
    }

    /// Never called.
    pub(super) fn read(
        &mut self,
        _stream: &mut TcpStream,
        _into: &mut [u8],
        _left: &mut usize,
    ) -> io::Result<usize> {
        match *self {}
    }

    /// Never called.
    pub(super) fn write(
        &mut self,
        _stream: &mut TcpStream,
        _out: &mut Vec<u8>,
    ) -> io::Result<bool> {
        match *self {}
    }

    /// Never called.
    pub(super) fn end(&mut self, _stream: &mut TcpStream) {
        match *self {}
    }
}
