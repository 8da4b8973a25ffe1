//! Scheduling attributes of the loop's thread.

#[cfg(target_os = "linux")]
use crate::limits::LOOP_SLICE_US;

/// Requests short time slices for the calling thread, so that it runs soon after a wake-up, before
/// a thread with a longer slice, such as the store thread on a single processor. Its share of the
/// processor stays the same. A program calls this on the thread of its loop after it has started
/// other threads, which would inherit it. It needs Linux 6.12 and the default scheduling policy;
/// otherwise it does nothing.
pub fn ask_for_short_slices() {
    #[cfg(target_os = "linux")]
    if let Some(mut attributes) = attributes()
        && attributes.sched_policy == libc::SCHED_OTHER as u32
    {
        attributes.sched_runtime = LOOP_SLICE_US * 1_000;
        // SAFETY: the kernel reads as many bytes of `attributes` as its `size` says.
        unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) };
    }
}

/// Attributes of the calling thread.
#[cfg(target_os = "linux")]
fn attributes() -> Option<libc::sched_attr> {
    // Members of `sched_attr` in its first version; later versions append members.
    let mut attributes = libc::sched_attr {
        size: size_of::<libc::sched_attr>() as u32,
        sched_policy: 0,
        sched_flags: 0,
        sched_nice: 0,
        sched_priority: 0,
        sched_runtime: 0,
        sched_deadline: 0,
        sched_period: 0,
    };
    let size = attributes.size;
    // SAFETY: the kernel writes at most `size` bytes, the size of the value.
    let got = unsafe { libc::syscall(libc::SYS_sched_getattr, 0, &raw mut attributes, size, 0) };
    (got == 0).then_some(attributes)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn slices_are_short_and_nothing_else_changes() {
        let asks = || {
            let before = attributes().unwrap();
            ask_for_short_slices();
            (before, attributes().unwrap())
        };
        let (before, after) = std::thread::spawn(asks).join().unwrap();
        assert_eq!(before.sched_policy, after.sched_policy);
        assert_eq!(before.sched_nice, after.sched_nice);
        // An older kernel reports no slices.
        if before.sched_runtime > 0 {
            assert_eq!(after.sched_runtime, LOOP_SLICE_US * 1_000);
        }
    }
}
