//! The process that listens at an address of this machine: CPU use of its threads and its memory,
//! read from `/proc`, from outside, as `top` does.

pub mod text;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use rustix::process::Pid;
use rustix::thread::{CpuSet, sched_getaffinity};

use crate::limits::BENCH_PROC_BYTES_MAX;
use crate::time::Span;

/// A measured process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observed {
    pid: u32,
}

/// One of its threads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Thread {
    /// Its name.
    pub name: String,
    /// CPU time.
    pub cpu: Span,
}

/// Resources used up to a moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sample {
    /// Threads by number; the one with the process id runs the loop.
    pub threads: BTreeMap<u32, Thread>,
    /// Resident memory, in bytes.
    pub resident: u64,
}

impl Sample {
    /// CPU time of all threads.
    #[must_use]
    pub fn cpu(&self) -> Span {
        self.threads
            .values()
            .fold(Span::ZERO, |sum, thread| sum + thread.cpu)
    }
}

impl Observed {
    /// Finds the process that listens at `server`.
    ///
    /// # Errors
    /// The reason as text.
    pub fn find(server: SocketAddr) -> Result<Self, String> {
        let tables = ["/proc/net/tcp", "/proc/net/tcp6"];
        let listener = tables.iter().find_map(|table| {
            let table = read(Path::new(table)).ok()?;
            text::listener(&table, server)
        });
        let Some(inode) = listener else {
            return Err(format!("nothing on this machine listens at {server}"));
        };
        let wanted = PathBuf::from(format!("socket:[{inode}]"));
        let holds = |process: &PathBuf| {
            let entries = fs::read_dir(process.join("fd"))
                .into_iter()
                .flatten()
                .flatten();
            entries
                .map(|entry| fs::read_link(entry.path()))
                .any(|link| link.is_ok_and(|link| link == wanted))
        };
        numbered(Path::new("/proc"))
            .map_err(|error| format!("/proc cannot be read: {error}"))?
            .into_iter()
            .find(|(_, path)| holds(path))
            .map(|(pid, _)| Self { pid })
            .ok_or_else(|| {
                format!("the process that listens at {server} cannot be measured: run as its user")
            })
    }

    /// The process with this id.
    #[must_use]
    pub const fn of(pid: u32) -> Self {
        Self { pid }
    }

    /// Its process id.
    #[must_use]
    pub const fn pid(&self) -> u32 {
        self.pid
    }

    /// The CPUs on which it may run.
    ///
    /// # Errors
    /// When it has ended, or may not be asked.
    pub fn cpus(&self) -> io::Result<CpuSet> {
        let pid = i32::try_from(self.pid).ok().and_then(Pid::from_raw);
        Ok(sched_getaffinity(pid)?)
    }

    /// Measures the resources used so far.
    ///
    /// # Errors
    /// When it has ended, or may not be measured.
    pub fn sample(&self) -> io::Result<Sample> {
        let base = PathBuf::from(format!("/proc/{}", self.pid));
        let mut threads = BTreeMap::new();
        for (id, path) in numbered(&base.join("task"))? {
            // A thread may end during the measurement.
            if let Ok(thread) = thread(&path) {
                threads.insert(id, thread);
            }
        }
        if threads.is_empty() {
            return Err(io::Error::from(io::ErrorKind::NotFound));
        }
        let resident = resident(&base)?;
        Ok(Sample { threads, resident })
    }
}

/// Directory entries whose names are numbers.
fn numbered(directory: &Path) -> io::Result<Vec<(u32, PathBuf)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if let Some(number) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
        {
            found.push((number, entry.path()));
        }
    }
    Ok(found)
}

fn thread(path: &Path) -> io::Result<Thread> {
    let name = read(&path.join("comm"))?.trim_end().to_owned();
    let exact = read(&path.join("schedstat")).ok();
    let cpu = match exact.as_deref().and_then(text::run_time) {
        Some(cpu) => cpu,
        None => in_ticks(&read(&path.join("stat"))?)?,
    };
    Ok(Thread { name, cpu })
}

/// CPU time from `stat`, for kernels without exact times: to a hundredth of a second.
fn in_ticks(stat: &str) -> io::Result<Span> {
    let ticks = text::ticks(stat).ok_or(io::ErrorKind::InvalidData)?;
    let a_second = rustix::param::clock_ticks_per_second().max(1);
    Ok(Span::from_secs(1).part(a_second).times(ticks))
}

fn resident(base: &Path) -> io::Result<u64> {
    let exact = read(&base.join("smaps_rollup")).ok();
    if let Some(bytes) = exact.as_deref().and_then(text::resident) {
        return Ok(bytes);
    }
    let statm = read(&base.join("statm"))?;
    let pages = text::resident_pages(&statm).ok_or(io::ErrorKind::InvalidData)?;
    Ok(pages * rustix::param::page_size() as u64)
}

fn read(path: &Path) -> io::Result<String> {
    let mut bytes = Vec::new();
    File::open(path)?
        .take(BENCH_PROC_BYTES_MAX)
        .read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn a_process_is_found_by_its_listener() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let found = Observed::find(listener.local_addr().unwrap()).unwrap();
        assert_eq!(found.pid(), std::process::id());
        let sample = found.sample().unwrap();
        assert!(sample.threads.contains_key(&found.pid()));
        assert!(sample.resident > 64 * 1024, "{sample:?}");
        assert!(found.cpus().unwrap().count() > 0);
    }

    #[test]
    fn a_closed_port_is_an_error() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let why = Observed::find(address).unwrap_err();
        assert!(why.contains("nothing on this machine listens"), "{why}");
    }
}
