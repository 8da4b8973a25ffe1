//! A sender of bare datagrams, one after another: the kernel's own cost of addressing every host.
//! It runs as a process of its own, on the CPUs of the server that it is compared with.

use std::io::{self, BufRead, Write};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::process::{Child, Command, Stdio};

use rustix::process::Pid;
use rustix::thread::{CpuSet, sched_setaffinity};

use super::floor;

/// First byte of a bare datagram; no task key begins with it.
pub const TEXT: u8 = b'#';

/// A running sender.
#[derive(Debug)]
pub struct Sender(Child);

impl Sender {
    /// Starts a sender of `count` datagrams of `bytes` bytes to the addresses from `first` on, on
    /// the given CPUs.
    ///
    /// # Errors
    /// When the process cannot be started.
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
        // From here on the child ends when this value is dropped.
        let mut sender = Self(child);
        if let Some(cpus) = cpus {
            sched_setaffinity(Some(Pid::from_child(&sender.0)), cpus)?;
        }
        // The child waits for this line, so that it begins on the right CPU.
        if let Some(mut stdin) = sender.0.stdin.take() {
            stdin.write_all(b"\n")?;
        }
        Ok(sender)
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        // An error means that it has already ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs as the child: sends all datagrams when a line arrives on stdin.
///
/// # Errors
/// The system's refusal.
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
