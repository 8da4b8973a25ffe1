//! Hints for the allocator of glibc. Other allocators get none.

/// Configures the allocator: large blocks are mapped one by one, so that growing a table copies
/// nothing and freeing one returns its memory at once. A program calls this once, before it starts
/// a thread.
pub fn set_up() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        const LARGE_BYTES: libc::c_int = 128 * 1024;
        // SAFETY: `mallopt` takes plain numbers. Setting either of the first two also disables
        // their automatic adjustment, which would keep more and more memory.
        unsafe {
            libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE_BYTES);
            libc::mallopt(libc::M_TRIM_THRESHOLD, LARGE_BYTES);
            // One heap for all threads: blocks that one thread allocates and another frees can be
            // reused by both, and no thread keeps half-empty pages after a storm.
            libc::mallopt(libc::M_ARENA_MAX, 1);
        }
    }
}

/// Reads the program's own code from disk and maps it, so that later first calls never wait for the
/// disk. A program calls this once. A system that cannot do this is left as it is.
pub fn bring_in_code() {
    #[cfg(target_os = "linux")]
    for (start, length) in code() {
        // SAFETY: the call populates pages of a readable, executable mapping and changes nothing.
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

/// Returns free pages to the system. It takes about 0.1 ms for each megabyte.
pub fn give_back() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        // SAFETY: `malloc_trim` takes a plain number and does its own locking.
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
