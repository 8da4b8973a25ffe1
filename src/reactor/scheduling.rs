//! Scheduling attributes of the loop's thread.

#[cfg(target_os = "linux")]
use crate::limits::LOOP_SLICE_US;

/// The calling thread wants the processor for a moment at a time, and soon: woken, it goes before
/// another that has it for its longer turn, as the store thread may where there is one processor.
/// It gets no more of it in all. To be called by a program on the thread of its loop, once its
/// other threads run, for they would inherit it. Nothing happens where the system knows no such
/// thing (Linux does since 6.12), or where the thread is scheduled by other rules.
pub fn ask_for_short_slices() {
    #[cfg(target_os = "linux")]
    if let Some(mut attributes) = attributes()
        && attributes.sched_policy == libc::SCHED_OTHER as u32
    {
        attributes.sched_runtime = LOOP_SLICE_US * 1_000;
        // SAFETY: the kernel reads as much of `attributes` as they say they are long, and they are
        // a live value.
        unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) };
    }
}

/// Attributes of the calling thread.
#[cfg(target_os = "linux")]
fn attributes() -> Option<libc::sched_attr> {
    // All numbers of what the first Linux that had it calls `sched_attr`: those of later ones lie
    // behind them.
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
    // SAFETY: the kernel writes no more than `size` bytes, which is what there is.
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
        // An older kernel says nothing of slices.
        if before.sched_runtime > 0 {
            assert_eq!(after.sched_runtime, LOOP_SLICE_US * 1_000);
        }
    }
}
