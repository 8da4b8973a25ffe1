//! Datagrams with their destination address and arrival time, as the kernel reports them.
//! One of the modules that use system structures directly.

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::AsRawFd;
use std::ptr::null_mut;

use crate::time::Span;

/// Size of the buffer for a datagram's control data: an address, a time and their headers. The unit
/// is eight bytes, for the alignment of the headers.
const BESIDE: usize = 16;

/// A received datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// The address it was sent to.
    pub to: Ipv4Addr,
    /// Time at which the kernel took it, by the wall clock. A late reader does not change it.
    pub at: Span,
    /// Number of bytes read.
    pub length: usize,
}

/// Makes the kernel report the destination address and arrival time of each datagram.
///
/// # Errors
/// The kernel's refusal.
pub fn enable(socket: &impl AsRawFd) -> io::Result<()> {
    for (level, option) in [
        (libc::IPPROTO_IP, libc::IP_PKTINFO),
        (libc::SOL_SOCKET, libc::SO_TIMESTAMPNS),
    ] {
        let on: libc::c_int = 1;
        // SAFETY: the option is a number of this size, which the system reads and does not keep.
        let set = unsafe {
            libc::setsockopt(
                socket.as_raw_fd(),
                level,
                option,
                (&raw const on).cast(),
                size_of::<libc::c_int>() as libc::socklen_t,
            )
        };
        if set != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// Reads one datagram into `text`.
///
/// # Errors
/// The kernel's error; `WouldBlock` if no datagram waits.
pub fn receive(socket: &impl AsRawFd, text: &mut [u8]) -> io::Result<Arrival> {
    let mut beside = [0_u64; BESIDE];
    let mut piece = libc::iovec {
        iov_base: text.as_mut_ptr().cast(),
        iov_len: text.len(),
    };
    // SAFETY: the structure is plain numbers and pointers, for which all zeros means "none".
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    header.msg_name = null_mut();
    header.msg_iov = &raw mut piece;
    header.msg_iovlen = 1;
    header.msg_control = beside.as_mut_ptr().cast();
    header.msg_controllen = size_of_val(&beside);
    let taken =
        // SAFETY: `header` points to `piece` and `beside`, and `piece` to `text`, each with its
        // length. All of them outlive the call.
        unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut header, libc::MSG_DONTWAIT) };
    let length = usize::try_from(taken).map_err(|_| io::Error::last_os_error())?;
    let (mut to, mut at) = (Ipv4Addr::UNSPECIFIED, Span::ZERO);
    // SAFETY: the kernel has written `header` and the used part of `beside`; the iteration stays
    // within it.
    let mut next = unsafe { libc::CMSG_FIRSTHDR(&raw const header) };
    while !next.is_null() {
        // SAFETY: `next` is a header within `beside`, which begins where such a header may.
        let (level, kind, data) =
            unsafe { ((*next).cmsg_level, (*next).cmsg_type, libc::CMSG_DATA(next)) };
        match (level, kind) {
            (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                // SAFETY: a header of this kind is followed by this structure.
                let info: libc::in_pktinfo =
                    unsafe { data.cast::<libc::in_pktinfo>().read_unaligned() };
                to = Ipv4Addr::from_bits(u32::from_be(info.ipi_addr.s_addr));
            }
            (libc::SOL_SOCKET, libc::SCM_TIMESTAMPNS) => {
                // SAFETY: as above.
                let time: libc::timespec =
                    unsafe { data.cast::<libc::timespec>().read_unaligned() };
                let seconds = Span::from_secs(u64::try_from(time.tv_sec).unwrap_or_default());
                at = seconds + Span::from_nanos(u64::try_from(time.tv_nsec).unwrap_or_default());
            }
            _ => {}
        }
        // SAFETY: as for the first.
        next = unsafe { libc::CMSG_NXTHDR(&raw const header, next) };
    }
    Ok(Arrival { to, at, length })
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::time::{SystemTime, UNIX_EPOCH};

    use super::*;

    #[test]
    fn a_datagram_has_its_destination_and_time() {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        enable(&socket).unwrap();
        let mut text = [0; 16];
        let nothing = receive(&socket, &mut text).unwrap_err();
        assert_eq!(nothing.kind(), io::ErrorKind::WouldBlock);
        let port = socket.local_addr().unwrap().port();
        let wall = || Span::from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap());
        let before = wall();
        let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
        peer.send_to(b"AC131", ("127.1.2.3", port)).unwrap();
        // Over the loopback a sent datagram has arrived.
        let arrival = receive(&socket, &mut text).unwrap();
        assert_eq!(arrival.to, Ipv4Addr::new(127, 1, 2, 3));
        assert_eq!(&text[..arrival.length], b"AC131");
        assert!(before <= arrival.at && arrival.at <= wall(), "{arrival:?}");
    }
}
