//! A handmade client of a host: it writes bytes and reads bytes.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};

use serde_json::Value;
use socket2::{Domain, SockAddr, Socket, Type};

use crate::PATIENCE;

/// A heartbeat.
pub const BEAT: &[u8] = br#"{"flag":"ADH18","phase":1,"ACK":"keepAlive"}"#;
/// One that asks to be answered.
pub const BEAT_ASKING: &[u8] = br#"{"flag":"ADH18","phase":1,"ACK":"keepAlive","reply":true}"#;

/// A frame as old clients send it.
pub fn little(body: &[u8]) -> Vec<u8> {
    [&length(body).to_le_bytes(), body].concat()
}

/// The same in the other byte order.
pub fn big(body: &[u8]) -> Vec<u8> {
    [&length(body).to_be_bytes(), body].concat()
}

fn length(body: &[u8]) -> i32 {
    i32::try_from(body.len()).expect("a frame")
}

/// A connection of a host.
pub struct Host {
    /// The connection itself.
    pub stream: TcpStream,
}

impl Host {
    /// Connects from any address of this machine.
    #[track_caller]
    pub fn connect(server: SocketAddr, source: &str) -> Self {
        Self::try_connect(server, source).expect("a connection")
    }

    /// The same where it may fail.
    pub fn try_connect(server: SocketAddr, source: &str) -> io::Result<Self> {
        Self::over(
            Socket::new(Domain::for_address(server), Type::STREAM, None)?,
            server,
            source,
        )
    }

    /// The same for one whose kernel takes hardly anything that it does not read.
    pub fn never_reading(server: SocketAddr, source: &str) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(server), Type::STREAM, None)?;
        socket.set_recv_buffer_size(2_048)?;
        Self::over(socket, server, source)
    }

    fn over(socket: Socket, server: SocketAddr, source: &str) -> io::Result<Self> {
        let source: IpAddr = source.parse().expect("an address");
        socket.bind(&SockAddr::from(SocketAddr::new(source, 0)))?;
        socket.connect(&SockAddr::from(server))?;
        let stream = TcpStream::from(socket);
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self { stream })
    }

    /// Connects and has its first heartbeat answered: it is online.
    #[track_caller]
    pub fn online(server: SocketAddr, source: &str) -> Self {
        let mut host = Self::connect(server, source);
        host.ask(BEAT_ASKING);
        host
    }

    /// Connects and gives a name, which is taken.
    #[track_caller]
    pub fn named(server: SocketAddr, source: &str, id: &str) -> Self {
        let mut host = Self::connect(server, source);
        let reply = host.hello(id);
        assert_eq!(reply["ACK"], "keepGotIt", "{reply}");
        host
    }

    /// Gives a name and returns the answer.
    #[track_caller]
    pub fn hello(&mut self, id: &str) -> Value {
        self.ask(format!(r#"{{"flag":"ADH40","id":"{id}"}}"#).as_bytes())
    }

    /// Sends bytes as they are.
    #[track_caller]
    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("sent");
    }

    /// Sends a message.
    #[track_caller]
    pub fn say(&mut self, body: &[u8]) {
        self.send(&little(body));
    }

    /// Sends a heartbeat.
    #[track_caller]
    pub fn beat(&mut self) {
        self.say(BEAT);
    }

    /// Sends a message and reads the answer.
    #[track_caller]
    pub fn ask(&mut self, body: &[u8]) -> Value {
        self.say(body);
        self.reply()
    }

    /// Reads an answer.
    #[track_caller]
    pub fn reply(&mut self) -> Value {
        self.read(i32::from_le_bytes)
    }

    /// Reads one with the other byte order.
    #[track_caller]
    pub fn big_reply(&mut self) -> Value {
        self.read(i32::from_be_bytes)
    }

    /// Reads the body of a frame.
    #[track_caller]
    pub fn frame(&mut self) -> Vec<u8> {
        self.body(i32::from_le_bytes)
    }

    #[track_caller]
    fn read(&mut self, order: fn([u8; 4]) -> i32) -> Value {
        serde_json::from_slice(&self.body(order)).expect("JSON")
    }

    #[track_caller]
    fn body(&mut self, order: fn([u8; 4]) -> i32) -> Vec<u8> {
        let mut header = [0; 4];
        self.stream.read_exact(&mut header).expect("a reply");
        let length = usize::try_from(order(header)).expect("a length");
        assert!(length <= 65_535, "a length in the other byte order");
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).expect("a reply");
        body
    }

    /// Waits until the server has ended the connection; returns what it sent before.
    #[track_caller]
    pub fn until_closed(&mut self) -> Vec<u8> {
        let mut sent = Vec::new();
        match self.stream.read_to_end(&mut sent) {
            Ok(_) => sent,
            Err(error) if error.kind() == ErrorKind::ConnectionReset => sent,
            Err(error) => panic!("not closed: {error}"),
        }
    }

    /// Ends it with a reset.
    pub fn reset(self) {
        let socket = Socket::from(self.stream);
        socket.set_linger(Some(std::time::Duration::ZERO)).unwrap();
    }
}
