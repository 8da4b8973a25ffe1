//! What the system's allocator is told: the only code that knows which one it is. Where it is none
//! that we know, nothing is told, and it does as it pleases.

/// Large memory is taken from the system piece by piece, so that growing a table copies nothing and
/// freeing it gives it back at once. To be called once, before there is another thread, by a program; a
/// library leaves the allocator to its host.
pub fn set_up() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        const LARGE_BYTES: libc::c_int = 128 * 1024;
        // SAFETY: `mallopt` takes plain numbers. Setting either of the first two also ends the allocator's own
        // adjusting of them, which would keep ever larger memory.
        unsafe {
            libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE_BYTES);
            libc::mallopt(libc::M_TRIM_THRESHOLD, LARGE_BYTES);
            // One heap for all threads: what the loop makes and the store thread frees, and the other way round, is
            // had again by either, and no thread keeps pages of its own half full when a storm is over.
            libc::mallopt(libc::M_ARENA_MAX, 1);
        }
    }
}

/// Whole pages that are free go back to the system. It takes about a tenth of a millisecond for each
/// megabyte.
pub fn give_back() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        // SAFETY: `malloc_trim` takes a plain number, and locks what it looks at.
        unsafe { libc::malloc_trim(0) };
    }
}
