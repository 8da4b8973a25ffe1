//! The bytes to and from a Redis server: a socket, optional TLS over it, and the library's parser.
//!
//! The socket is our own because of interruptions. SIGSTOP and SIGCONT, a debugger or a suspended
//! machine interrupt a wait with a timeout, also in the middle of a reply. Here the wait continues
//! below the parser, which stays in step.

use std::io::{self, Read, Write};
use std::net::ToSocketAddrs;
use std::time::Duration;

use redis::{Parser, RedisResult, Value};
use rustix::net::RecvFlags;
use socket2::{Domain, Protocol, SockAddr, Socket, TcpKeepalive, Type};

#[cfg(feature = "tls")]
use super::tls::{self, Tls};
#[cfg(feature = "tls")]
use crate::certificates::stream_error_in_words;
use crate::limits::REDIS_TLS_READS_MAX;
use crate::store::address::RedisPlace;

/// Seconds of idleness before the kernel probes the server's machine.
const KEEPALIVE_S: u64 = 30;
/// First received bytes that are kept, to recognize another protocol.
const FIRST_BYTES: usize = 8;
/// Interruptions of one wait after which it counts as timed out.
const INTERRUPTIONS_MAX: usize = 64;

/// A connection, and its parser.
pub(super) struct Wire {
    stream: Stream,
    parser: Parser,
}

enum Stream {
    Plain(Steady),
    #[cfg(feature = "tls")]
    Tls(Box<Tls>),
}

impl Wire {
    /// Connects. No wait, here or later, is longer than `timeout`.
    ///
    /// # Errors
    /// When it cannot connect.
    pub(super) fn connect(place: &RedisPlace, timeout: Duration) -> io::Result<Self> {
        let stream = match place {
            RedisPlace::Tcp { host, port } => Stream::Plain(tcp(host, *port, timeout)?),
            RedisPlace::Unix(path) => Stream::Plain(unix(path, timeout)?),
            #[cfg(feature = "tls")]
            RedisPlace::Tls { host, port, ca } => {
                let settings = tls::settings(ca.as_deref())?;
                let socket = tcp(host, *port, timeout)?;
                Stream::Tls(Box::new(tls::over(socket, settings, host)?))
            }
            #[cfg(not(feature = "tls"))]
            RedisPlace::Tls { .. } => return Err(io::ErrorKind::Unsupported.into()),
            RedisPlace::Sentinel { .. } | RedisPlace::Cluster(_) => {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidInput,
                    "no single server",
                ));
            }
        };
        Ok(Self {
            stream,
            parser: Parser::new(),
        })
    }

    /// Sets the time limit of each wait.
    ///
    /// # Errors
    /// When the system refuses it.
    pub(super) fn set_timeout(&self, timeout: Duration) -> io::Result<()> {
        let socket = self.socket();
        socket.set_read_timeout(Some(timeout))?;
        socket.set_write_timeout(Some(timeout))
    }

    fn socket(&self) -> &Socket {
        match &self.stream {
            Stream::Plain(stream) => &stream.socket,
            #[cfg(feature = "tls")]
            Stream::Tls(stream) => &stream.sock.socket,
        }
    }

    /// Sends all of `bytes`.
    ///
    /// # Errors
    /// When the connection failed. The number of sent bytes is unknown then.
    pub(super) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.stream {
            Stream::Plain(stream) => stream.write_all(bytes),
            #[cfg(feature = "tls")]
            Stream::Tls(stream) => {
                stream.sock.renew();
                let sent = stream.write_all(bytes).and_then(|()| stream.flush());
                sent.map_err(stream_error_in_words)
            }
        }
    }

    /// The next reply.
    ///
    /// # Errors
    /// When the connection failed. It must be dropped then.
    pub(super) fn reply(&mut self) -> RedisResult<Value> {
        match &mut self.stream {
            Stream::Plain(stream) => self.parser.parse_value(Fresh(stream)),
            #[cfg(feature = "tls")]
            Stream::Tls(stream) => self.parser.parse_value(Fresh(&mut **stream)),
        }
    }

    /// Description of the server's protocol, if it is another one.
    pub(super) fn foreign_protocol(&self) -> Option<&'static str> {
        match &self.stream {
            Stream::Plain(stream) => other_protocol(&stream.first),
            #[cfg(feature = "tls")]
            Stream::Tls(stream) => match stream.sock.first.first() {
                Some(0x14..=0x17) | None => None,
                Some(_) => Some("it does not speak TLS: the URL begins with redis:// then"),
            },
        }
    }

    /// Checks that the server has not closed the connection. Does not wait, and reads nothing.
    ///
    /// # Errors
    /// When it was closed.
    pub(super) fn look(&self) -> io::Result<()> {
        let socket = self.socket();
        let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
        match rustix::net::recv(socket, &mut [0_u8; 1], flags) {
            Ok((0, _)) => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) | Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

/// A socket whose waits go on after an interruption, each with its whole timeout. It is read at
/// most [`REDIS_TLS_READS_MAX`] times for the next bytes of data, since a record of TLS need not
/// hold any.
pub(super) struct Steady {
    socket: Socket,
    reads_left: usize,
    /// The first bytes that came.
    first: Vec<u8>,
}

impl Steady {
    fn new(socket: Socket, timeout: Duration) -> io::Result<Self> {
        socket.set_read_timeout(Some(timeout))?;
        socket.set_write_timeout(Some(timeout))?;
        Ok(Self {
            socket,
            reads_left: REDIS_TLS_READS_MAX,
            first: Vec::with_capacity(FIRST_BYTES),
        })
    }

    /// The next bytes of data are wanted.
    fn renew(&mut self) {
        self.reads_left = REDIS_TLS_READS_MAX;
    }
}

/// Protocol of a server with these first bytes, if it is known and not Redis.
fn other_protocol(first: &[u8]) -> Option<&'static str> {
    match first {
        [b'H', b'T', b'T', b'P', ..] => Some("an HTTP server answers there, not Redis"),
        // An alert or a handshake, version 3.
        [0x15 | 0x16, 3, ..] => Some("it speaks TLS: the URL begins with rediss:// then"),
        [
            b'+' | b'-' | b':' | b'$' | b'*' | b'_' | b'#' | b',' | b'(' | b'!' | b'=' | b'%'
            | b'~' | b'>' | b'|',
            ..,
        ]
        | [] => None,
        _ => Some("what answers there is no Redis"),
    }
}

impl Read for Steady {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let Some(left) = self.reads_left.checked_sub(1) else {
            let why = format!("{REDIS_TLS_READS_MAX} reads of TLS without any data");
            return Err(io::Error::new(io::ErrorKind::InvalidData, why));
        };
        self.reads_left = left;
        let count = through_interruptions(|| self.socket.read(into))?;
        let room = FIRST_BYTES - self.first.len();
        self.first.extend_from_slice(&into[..count.min(room)]);
        Ok(count)
    }
}

/// A stream whose reads each have a fresh budget of socket reads.
struct Fresh<'a, S>(&'a mut S);

impl Read for Fresh<'_, Steady> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.0.renew();
        self.0.read(into)
    }
}

#[cfg(feature = "tls")]
impl Read for Fresh<'_, Tls> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.0.sock.renew();
        self.0.read(into).map_err(stream_error_in_words)
    }
}

impl Write for Steady {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        through_interruptions(|| self.socket.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn through_interruptions(mut call: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    for _ in 0..INTERRUPTIONS_MAX {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            done => return done,
        }
    }
    Err(io::ErrorKind::TimedOut.into())
}

/// Connects to the first address of a name that answers.
fn tcp(host: &str, port: u16, timeout: Duration) -> io::Result<Steady> {
    let mut failed = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in (host, port).to_socket_addrs()? {
        let domain = Domain::for_address(address);
        let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
        match socket.connect_timeout(&SockAddr::from(address), timeout) {
            Ok(()) => {
                let keepalive = TcpKeepalive::new().with_time(Duration::from_secs(KEEPALIVE_S));
                socket.set_tcp_keepalive(&keepalive)?;
                socket.set_tcp_nodelay(true)?;
                return Steady::new(socket, timeout);
            }
            Err(error) => failed = error,
        }
    }
    Err(failed)
}

/// Connects without waiting: a hung server with a full queue would block without a bound.
fn unix(path: &std::path::Path, timeout: Duration) -> io::Result<Steady> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.connect(&SockAddr::unix(path)?)?;
    socket.set_nonblocking(false)?;
    Steady::new(socket, timeout)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    #[test]
    fn interruptions_of_a_wait_are_bounded() {
        let mut left = 3;
        let done = through_interruptions(|| match left {
            0 => Ok(7),
            _ => {
                left -= 1;
                Err(io::ErrorKind::Interrupted.into())
            }
        });
        assert_eq!((done.unwrap(), left), (7, 0));
        let never = through_interruptions(|| Err(io::ErrorKind::Interrupted.into()));
        assert_eq!(never.unwrap_err().kind(), io::ErrorKind::TimedOut);
        let other = through_interruptions(|| Err(io::ErrorKind::WouldBlock.into()));
        assert_eq!(other.unwrap_err().kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn reads_without_data_are_bounded() {
        let (ours, mut server) = std::os::unix::net::UnixStream::pair().unwrap();
        let socket = Socket::from(std::os::fd::OwnedFd::from(ours));
        let mut steady = Steady::new(socket, Duration::from_secs(20)).unwrap();
        // As TLS reads: a byte of a record at a time, and the record never ends.
        server.write_all(&[0; REDIS_TLS_READS_MAX + 2]).unwrap();
        for _ in 0..REDIS_TLS_READS_MAX {
            assert_eq!(steady.read(&mut [0]).unwrap(), 1);
        }
        let error = steady.read(&mut [0]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        // As the parser reads: each read is for data.
        for _ in 0..2 {
            assert_eq!(Fresh(&mut steady).read(&mut [0]).unwrap(), 1);
        }
    }

    #[test]
    fn a_look_notices_the_end_and_reads_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let listener = UnixListener::bind(&path).unwrap();
        let place = RedisPlace::Unix(path);
        let mut wire = Wire::connect(&place, Duration::from_secs(20)).unwrap();
        let (mut server, _) = listener.accept().unwrap();
        wire.look().unwrap();
        server.write_all(b"+PO").unwrap();
        wire.look().unwrap();
        server.write_all(b"NG\r\n:7\r\n").unwrap();
        assert_eq!(wire.reply().unwrap(), Value::SimpleString("PONG".into()));
        assert_eq!(wire.reply().unwrap(), Value::Int(7));
        wire.look().unwrap();
        drop(server);
        wire.look().unwrap_err();
        assert!(wire.reply().unwrap_err().is_connection_dropped());
    }
}
