//! Signals blocked while their handlers are installed. One of the modules that use system
//! structures directly.

use std::io;
use std::mem::MaybeUninit;
use std::ptr;

/// Calls `install` while `signals` are blocked in this thread. Those that arrive meanwhile are
/// delivered afterwards, to the handlers it installed.
///
/// `signal_hook` sets the handler first and records its action second. A signal between the two
/// would have no effect.
///
/// The mask is that of the calling thread: another thread that does not block them can still
/// receive the signals.
///
/// # Errors
/// An error of the system or of `install`.
pub fn held_while<T>(
    signals: &[libc::c_int],
    install: impl FnOnce() -> io::Result<T>,
) -> io::Result<T> {
    let mut blocked = MaybeUninit::<libc::sigset_t>::uninit();
    let mut before = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: `sigemptyset` initializes the set before anything reads it; the system keeps no pointer.
    let refused = unsafe {
        libc::sigemptyset(blocked.as_mut_ptr());
        for &signal in signals {
            libc::sigaddset(blocked.as_mut_ptr(), signal);
        }
        libc::pthread_sigmask(libc::SIG_BLOCK, blocked.as_ptr(), before.as_mut_ptr())
    };
    if refused != 0 {
        return Err(io::Error::from_raw_os_error(refused));
    }
    let installed = install();
    // SAFETY: the call above succeeded, so it wrote the mask of before.
    let refused =
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, before.as_ptr(), ptr::null_mut()) };
    match refused {
        0 => installed,
        _ => Err(io::Error::from_raw_os_error(refused)),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use signal_hook::consts::SIGUSR2;

    use super::held_while;

    /// Without the mask the signal's default action ends the test program.
    #[test]
    fn a_signal_during_the_installation_reaches_the_handler() {
        let arrived = Arc::new(AtomicBool::new(false));
        held_while(&[SIGUSR2], || {
            signal_hook::low_level::raise(SIGUSR2)?;
            signal_hook::flag::register(SIGUSR2, Arc::clone(&arrived))
        })
        .unwrap();
        assert!(arrived.load(Ordering::SeqCst));
    }
}
