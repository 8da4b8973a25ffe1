//! A source address whose port is chosen when the connection is made. The one place of this room that
//! speaks to the system in its own structures.

use std::io;
use std::os::fd::AsRawFd;

/// Lets the system choose the port of `socket`, which is then bound to an address, only when it connects:
/// then a port need be free for that one peer, where otherwise it must be free for all, and finding one
/// takes the longer the more there are in use.
///
/// # Errors
/// What the system refuses.
pub fn choose(socket: &impl AsRawFd) -> io::Result<()> {
    let on: libc::c_int = 1;
    // SAFETY: the option is a number of this size, which the system reads and does not keep.
    let set = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_IP,
            libc::IP_BIND_ADDRESS_NO_PORT,
            (&raw const on).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if set == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
