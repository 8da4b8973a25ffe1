//! Hosts without TLS: a build without the feature `tls`.

use std::io;

use mio::net::TcpStream;

/// Settings of TLS, which this build does not have.
#[derive(Clone, Debug)]
pub enum TlsSettings {}

/// Channel of TLS, which this build does not have.
#[derive(Debug)]
pub enum Channel {}

impl Channel {
    pub(super) fn new(settings: &TlsSettings) -> io::Result<Self> {
        match *settings {}
    }

    pub(super) fn handshake(&mut self, _: &mut TcpStream) -> io::Result<bool> {
        match *self {}
    }

    pub(super) fn read(&mut self, _: &mut TcpStream, _: &mut [u8]) -> io::Result<usize> {
        match *self {}
    }

    pub(super) fn write(&mut self, _: &mut TcpStream, _: &[u8]) -> io::Result<usize> {
        match *self {}
    }

    pub(super) fn flush(&mut self, _: &mut TcpStream) -> io::Result<bool> {
        match *self {}
    }

    pub(super) fn has_unsent(&self) -> bool {
        match *self {}
    }
}
