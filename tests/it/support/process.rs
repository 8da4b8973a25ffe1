//! What the kernel says of a process: its memory.

use std::fs;

/// The memory a process has in use, in bytes.
pub fn memory(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("a running process");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|line| line.trim().strip_suffix(" kB"));
    kilobytes.expect("VmRSS").parse::<u64>().expect("a number") * 1024
}
