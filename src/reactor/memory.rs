//! Hints for the system's allocator; the only code that knows which one it is. An unknown allocator
//! gets none.

/// Large memory is taken from the system piece by piece, so that growing a table copies nothing and
/// freeing it gives it back at once. To be called once, before there is another thread, by a
/// program; a library leaves the allocator to its host.
pub fn set_up() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        const LARGE_BYTES: libc::c_int = 128 * 1024;
        // SAFETY: `mallopt` takes plain numbers. Setting either of the first two also ends the
        // allocator's own adjusting of them, which would keep ever larger memory.
        unsafe {
            libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE_BYTES);
            libc::mallopt(libc::M_TRIM_THRESHOLD, LARGE_BYTES);
            // One heap for all threads: what the loop makes and the store thread frees, and the
            // other way round, is had again by either, and no thread keeps pages of its own half
            // full when a storm is over.
            libc::mallopt(libc::M_ARENA_MAX, 1);
        }
    }
}

/// All of the program's own code is had from the disk now, and in place: what is done for the first
/// time, in a storm or when the disk itself hangs, waits for none of it. To be called once by a
/// program. Where the system cannot do that, all goes on as before.
pub fn bring_in_code() {
    #[cfg(target_os = "linux")]
    for (start, length) in code() {
        // SAFETY: it asks for pages of a mapping to be readable that are mapped to be read and run,
        // and changes nothing.
        unsafe {
            libc::madvise(
                std::ptr::without_provenance_mut(start),
                length,
                libc::MADV_POPULATE_READ,
            );
        }
    }
}

/// Address ranges of the program's own code.
#[cfg(target_os = "linux")]
fn code() -> Vec<(usize, usize)> {
    let program = std::env::current_exe().unwrap_or_default();
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    let code = maps.lines().filter_map(|line| {
        // START-END MODE OFFSET DEVICE INODE PATH
        let mut words = line.split_ascii_whitespace();
        let (start, end) = words.next()?.split_once('-')?;
        let is_code = words.next()? == "r-xp";
        let is_ours = words.nth(3).is_some_and(|path| program.as_os_str() == path);
        let start = usize::from_str_radix(start, 16).ok()?;
        let end = usize::from_str_radix(end, 16).ok()?;
        (is_code && is_ours).then_some((start, end.checked_sub(start)?))
    });
    code.collect()
}

/// Whole pages that are free go back to the system. It takes about a tenth of a millisecond for
/// each megabyte.
pub fn give_back() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        // SAFETY: `malloc_trim` takes a plain number, and locks what it looks at.
        unsafe { libc::malloc_trim(0) };
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn prefetched_code_includes_this_test() {
        let here = code as *const () as usize;
        let within = |&(start, length): &(usize, usize)| (start..start + length).contains(&here);
        assert_eq!(code().iter().filter(|range| within(range)).count(), 1);
        bring_in_code();
    }
}
