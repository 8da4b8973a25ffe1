//! A build without TLS: there are no channels, which the compiler knows.

use std::io;

use mio::net::TcpStream;

/// Without the feature there are no settings.
#[derive(Clone, Debug)]
pub enum TlsSettings {}

/// Without the feature there is no channel.
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
