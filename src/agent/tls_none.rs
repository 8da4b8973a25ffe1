//! A build without TLS: the types of this module have no values.

use std::io;

use mio::net::TcpStream;

/// Settings: no values in a build without TLS.
#[derive(Clone, Debug)]
pub enum TlsSettings {}

/// Channel: no values in a build without TLS.
#[derive(Debug)]
pub(super) enum Channel {}

impl Channel {
    pub(super) fn new(settings: &TlsSettings) -> io::Result<Self> {
        match *settings {}
    }

    pub(super) fn handshake(
        &mut self,
        _stream: &mut TcpStream,
        _left: &mut usize,
    ) -> io::Result<bool> {
        match *self {}
    }

    pub(super) fn read(
        &mut self,
        _stream: &mut TcpStream,
        _into: &mut [u8],
        _left: &mut usize,
    ) -> io::Result<usize> {
        match *self {}
    }

    pub(super) fn write(
        &mut self,
        _stream: &mut TcpStream,
        _out: &mut Vec<u8>,
    ) -> io::Result<bool> {
        match *self {}
    }

    pub(super) fn end(&mut self, _stream: &mut TcpStream) {
        match *self {}
    }
}
