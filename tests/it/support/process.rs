//! Memory and CPU time of a process, as the kernel reports them.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

/// The memory a process has in use, in bytes.
pub fn memory(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("a running process");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|line| line.trim().strip_suffix(" kB"));
    kilobytes.expect("VmRSS").parse::<u64>().expect("a number") * 1024
}

/// The time a process has been running on a processor, of all its threads, in the kernel too.
pub fn processor_time(pid: u32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("a running process");
    // The name, in parentheses, may hold anything.
    let (_, fields) = stat.rsplit_once(") ").expect("a name");
    let ticks = |field: usize| -> u64 {
        let word = fields.split(' ').nth(field).expect("a field");
        word.parse().expect("a number")
    };
    // utime and stime, in hundredths of a second on every Linux that this runs on.
    Duration::from_millis((ticks(11) + ticks(12)) * 10)
}

/// The share of one processor that a process takes for so long, of all its threads.
pub fn processor_share(pid: u32, time: Duration) -> f64 {
    let (before, start) = (processor_time(pid), Instant::now());
    thread::sleep(time);
    (processor_time(pid) - before).as_secs_f64() / start.elapsed().as_secs_f64()
}
