//! So many datagrams sent one after the other, and nothing else: what the kernel asks for telling every host
//! something. In a process of its own, on the CPUs of the server it is compared with.

use std::io::{self, BufRead, Write};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::process::{Child, Command, Stdio};

use rustix::process::Pid;
use rustix::thread::{CpuSet, sched_setaffinity};

use super::floor;

/// What stands in such a datagram: no task has a key like this.
pub const TEXT: u8 = b'#';

/// One that sends.
#[derive(Debug)]
pub struct Sender(Child);

impl Sender {
    /// Sends a datagram of `bytes` to `count` addresses from `first` on, on the CPUs given.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(
        first: SocketAddr,
        count: usize,
        bytes: usize,
        cpus: Option<&CpuSet>,
    ) -> io::Result<Self> {
        let child = Command::new(std::env::current_exe()?)
            .arg(floor::COMMAND)
            .args(["--sendto", &first.to_string()])
            .args(["--count", &count.to_string()])
            .args(["--bytes", &bytes.to_string()])
            .stdin(Stdio::piped())
            .spawn()?;
        // From here on it ends when we do.
        let mut sender = Self(child);
        if let Some(cpus) = cpus {
            sched_setaffinity(Some(Pid::from_child(&sender.0)), cpus)?;
        }
        // It waits for this line, so that it begins on the right CPU.
        if let Some(mut stdin) = sender.0.stdin.take() {
            stdin.write_all(b"\n")?;
        }
        Ok(sender)
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        // Already ended is ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Is one: sends them all when a line comes on stdin.
///
/// # Errors
/// What the system refuses.
pub fn send(first: SocketAddr, count: u32, bytes: usize) -> io::Result<()> {
    let SocketAddr::V4(first) = first else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    let text = vec![TEXT; bytes];
    io::stdin().lock().read_line(&mut String::new())?;
    for number in 0..count {
        let address = Ipv4Addr::from_bits(first.ip().to_bits() + number);
        socket.send_to(&text, (address, first.port()))?;
    }
    Ok(())
}
