//! Many datagrams in one system call, with the structures of the system.

use std::io;
use std::os::fd::AsRawFd;

use socket2::SockAddr;

use crate::handlers::request::Datagram;

/// Datagrams per call: enough to make it inexpensive, and few enough for the cache. A thousand
/// would take 200 KB, allocated and freed each time.
const PER_CALL: usize = 64;

/// Sends `datagrams` in order and returns their number, at least one. Those beyond one call are
/// left for the next.
///
/// # Errors
/// When the first was not sent. An error of a later one is reported when that is the first.
pub fn send(socket: &impl AsRawFd, datagrams: &[Datagram]) -> io::Result<usize> {
    let datagrams = &datagrams[..datagrams.len().min(PER_CALL)];
    let addresses: Vec<SockAddr> = datagrams.iter().map(|d| d.to.into()).collect();
    let mut texts: Vec<libc::iovec> = datagrams.iter().map(text_of).collect();
    let mut headers: Vec<libc::mmsghdr> = addresses
        .iter()
        .zip(&mut texts)
        .map(|(address, text)| header(address, text))
        .collect();
    let count = libc::c_uint::try_from(headers.len()).unwrap_or(libc::c_uint::MAX);
    // SAFETY: `headers` has at least `count` entries. Each points to an address and a text, which
    // point to their bytes; `addresses`, `texts` and `datagrams` own these until after the call and
    // are not moved. The system writes only the lengths in `headers`.
    let sent = unsafe { libc::sendmmsg(socket.as_raw_fd(), headers.as_mut_ptr(), count, 0) };
    usize::try_from(sent).map_err(|_| io::Error::last_os_error())
}

/// The bytes of a datagram. They are only read; the structure also serves for receiving.
fn text_of(datagram: &Datagram) -> libc::iovec {
    libc::iovec {
        iov_base: datagram.text.as_ptr().cast_mut().cast(),
        iov_len: datagram.text.len(),
    }
}

/// Header of a message in one piece to `address`.
fn header(address: &SockAddr, text: &mut libc::iovec) -> libc::mmsghdr {
    // SAFETY: both structures are plain numbers and pointers, for which all zeros means "none".
    let mut header: libc::mmsghdr = unsafe { std::mem::zeroed() };
    header.msg_hdr.msg_name = address.as_ptr().cast_mut().cast();
    header.msg_hdr.msg_namelen = address.len();
    header.msg_hdr.msg_iov = text;
    header.msg_hdr.msg_iovlen = 1;
    header
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;
    use std::time::Duration;

    #[test]
    fn each_goes_to_its_own_address_with_its_own_text() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let peers: Vec<_> = (0..20)
            .map(|_| UdpSocket::bind("127.0.0.1:0").unwrap())
            .collect();
        let datagrams: Vec<_> = (0..)
            .zip(&peers)
            .map(|(number, peer)| Datagram {
                to: peer.local_addr().unwrap(),
                text: "x".repeat(number).into(),
            })
            .collect();
        assert_eq!(send(&socket, &datagrams).unwrap(), 20);
        for (number, peer) in (0..).zip(&peers) {
            peer.set_read_timeout(Some(Duration::from_secs(60)))
                .unwrap();
            assert_eq!(peer.recv(&mut [0; 64]).unwrap(), number);
        }
    }

    #[test]
    fn what_fits_no_call_is_left_for_the_next() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
        let datagram = Datagram {
            to: peer.local_addr().unwrap(),
            text: "x".into(),
        };
        let datagrams = vec![datagram; PER_CALL + 1];
        assert_eq!(send(&socket, &datagrams).unwrap(), PER_CALL);
        assert_eq!(send(&socket, &datagrams[PER_CALL..]).unwrap(), 1);
    }

    #[test]
    fn sending_stops_at_a_bad_datagram() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
        let to = |to, text: &str| Datagram {
            to,
            text: text.into(),
        };
        let nowhere = "127.0.0.1:0".parse().unwrap();
        let datagrams = [
            to(peer.local_addr().unwrap(), "good"),
            to(nowhere, "bad"),
            to(peer.local_addr().unwrap(), "good"),
        ];
        assert_eq!(send(&socket, &datagrams).unwrap(), 1);
        assert_eq!(
            send(&socket, &datagrams[1..]).unwrap_err().raw_os_error(),
            Some(libc::EINVAL)
        );
    }
}
