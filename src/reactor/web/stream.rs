//! The stream of one HTTP connection: a socket, with TLS if the API has it.

use std::io::{self, Read, Write};
use std::net::Shutdown;

use mio::net::TcpStream;

use crate::limits::TLS_HANDSHAKES_PER_TURN_MAX;
use crate::reactor::connection::{Flushed, Got};
use crate::reactor::tls::{Session, TlsSettings};

/// A socket, and its TLS session if it has one.
#[derive(Debug)]
pub(super) struct Stream {
    socket: TcpStream,
    tls: Option<Box<Session>>,
}

/// Result of a read.
#[derive(Debug)]
pub(super) enum Took {
    /// A number of plain bytes.
    Bytes(usize),
    /// Nothing has come.
    Nothing,
    /// More has come than the budget of a turn allows.
    Later,
    /// The peer has ended.
    End,
}

impl Stream {
    /// Wraps a socket. Returns `None` if a TLS session cannot be made.
    pub(super) fn new(socket: TcpStream, tls: Option<&TlsSettings>) -> Option<Self> {
        let tls = match tls {
            None => None,
            Some(settings) => Some(Box::new(Session::new(settings)?)),
        };
        Some(Self { socket, tls })
    }

    /// Reads plain bytes into `scratch`.
    ///
    /// # Errors
    /// A broken connection, or bytes that are no TLS.
    pub(super) fn read(&mut self, scratch: &mut [u8]) -> io::Result<Took> {
        if let Some(tls) = &mut self.tls {
            let mut steps = TLS_HANDSHAKES_PER_TURN_MAX;
            let got = tls.read(&mut self.socket, scratch, &mut steps);
            // What the handshake has to say, or an answer to an update of keys.
            if tls.send(&mut self.socket) == Flushed::Broken {
                return Err(io::ErrorKind::ConnectionReset.into());
            }
            return match got {
                Got::Bytes(count) => Ok(Took::Bytes(count)),
                Got::Nothing => Ok(Took::Nothing),
                Got::Later => Ok(Took::Later),
                Got::End(_) => Ok(Took::End),
                Got::Failed(why) => Err(io::Error::new(io::ErrorKind::InvalidData, why)),
            };
        }
        loop {
            match self.socket.read(scratch) {
                Ok(0) => return Ok(Took::End),
                Ok(count) => return Ok(Took::Bytes(count)),
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock => return Ok(Took::Nothing),
                    io::ErrorKind::Interrupted => {}
                    _ => return Err(error),
                },
            }
        }
    }

    /// Writes some of `plain`. Returns its length, which is 0 if the peer takes no more now.
    ///
    /// # Errors
    /// A broken connection.
    pub(super) fn write(&mut self, plain: &[u8]) -> io::Result<usize> {
        if let Some(tls) = &mut self.tls {
            let count = tls.take(plain);
            return match tls.send(&mut self.socket) {
                Flushed::All | Flushed::Blocked => Ok(count),
                Flushed::Broken => Err(io::ErrorKind::ConnectionReset.into()),
            };
        }
        loop {
            match self.socket.write(plain) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => return Ok(count),
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock => return Ok(0),
                    io::ErrorKind::Interrupted => {}
                    _ => return Err(error),
                },
            }
        }
    }

    /// Sends what is encrypted already. Returns whether the kernel has taken all of it.
    ///
    /// # Errors
    /// A broken connection.
    pub(super) fn flush(&mut self) -> io::Result<bool> {
        match self.tls.as_mut().map(|tls| tls.send(&mut self.socket)) {
            None | Some(Flushed::All) => Ok(true),
            Some(Flushed::Blocked) => Ok(false),
            Some(Flushed::Broken) => Err(io::ErrorKind::ConnectionReset.into()),
        }
    }

    /// Ends the sending side.
    ///
    /// # Errors
    /// A broken connection.
    pub(super) fn shut_down(&mut self) -> io::Result<()> {
        if let Some(tls) = &mut self.tls {
            tls.end(&mut self.socket);
        }
        self.socket.shutdown(Shutdown::Write)
    }
}
