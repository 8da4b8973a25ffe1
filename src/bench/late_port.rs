//! Source addresses whose port is chosen at connect time. One of the modules that use system
//! structures directly.

use std::io;
use std::os::fd::AsRawFd;

/// Makes the kernel choose the port of `socket` when it connects, not when it binds. The port then
/// has to be free for that peer only. Otherwise it has to be free for all peers, and the search
/// slows down with the number of ports in use.
///
/// # Errors
/// The system's refusal.
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
