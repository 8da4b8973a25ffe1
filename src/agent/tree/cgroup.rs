//! The cgroup of a command.

use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};

use super::process::{Process, own_pid};

/// Prefix of the names of our cgroups.
const GROUP: &str = "anthill-";

/// A cgroup (version 2) with the processes of a command. Dropping it removes it if it is empty.
#[derive(Debug)]
pub(in crate::agent) struct Cgroup {
    dir: PathBuf,
}

impl Cgroup {
    /// Creates a group below this process's group, and opens the file by which a process joins it.
    /// `None` without a writable cgroup v2.
    pub(in crate::agent) fn make(number: u64) -> Option<(Self, File)> {
        let base = own_cgroup()?;
        let dir = base.join(format!("{GROUP}{}-{number}", own_pid()));
        fs::create_dir(&dir).ok()?;
        let cgroup = Self { dir };
        let procs = cgroup.dir.join("cgroup.procs");
        let procs = OpenOptions::new().write(true).open(procs).ok()?;
        Some((cgroup, procs))
    }

    /// A group that an earlier agent has made, if it is still there.
    pub(super) fn left(dir: &Path) -> Option<Self> {
        let name = dir.file_name()?.to_str()?;
        let is_one = name.starts_with(GROUP) && dir.join("cgroup.procs").exists();
        is_one.then(|| Self {
            dir: dir.to_owned(),
        })
    }

    /// Directory of the cgroup.
    pub(in crate::agent) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(super) fn pids(&self) -> Vec<i32> {
        let mut pids = Vec::new();
        collect_pids(&self.dir, &mut pids, 0);
        pids
    }

    pub(super) fn kill(&self) {
        // Older kernels have no such file; then the processes are signalled one by one.
        let _ = fs::write(self.dir.join("cgroup.kill"), "1");
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        remove_groups(&self.dir, 0);
    }
}

/// Groups within groups that are looked at.
const DEPTH_MAX: usize = 8;

fn groups_below(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let is_dir = |entry: &fs::DirEntry| entry.file_type().is_ok_and(|kind| kind.is_dir());
    entries.filter(is_dir).map(|entry| entry.path()).collect()
}

fn collect_pids(dir: &Path, pids: &mut Vec<i32>, depth: usize) {
    let text = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
    pids.extend(text.lines().filter_map(|line| line.parse::<i32>().ok()));
    if depth < DEPTH_MAX {
        for below in groups_below(dir) {
            collect_pids(&below, pids, depth + 1);
        }
    }
}

fn remove_groups(dir: &Path, depth: usize) {
    if depth < DEPTH_MAX {
        for below in groups_below(dir) {
            remove_groups(&below, depth + 1);
        }
    }
    // Only an empty one can be removed.
    let _ = fs::remove_dir(dir);
}

/// Mount point of our own cgroup v2.
fn own_cgroup() -> Option<PathBuf> {
    let own = fs::read_to_string("/proc/self/cgroup").ok()?;
    let own = own.lines().find_map(|line| line.strip_prefix("0::"))?;
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    mounts.lines().find_map(|line| cgroup_at(line, own))
}

/// Path of `own` according to one line of `mountinfo`, if that is a mount of cgroup v2.
fn cgroup_at(line: &str, own: &str) -> Option<PathBuf> {
    let (mount, kind) = line.split_once(" - ")?;
    kind.starts_with("cgroup2 ").then_some(())?;
    let mut fields = mount.split(' ').skip(3);
    let (root, point) = (fields.next()?, fields.next()?);
    let below = match root {
        "/" => own,
        root => own.strip_prefix(root)?,
    };
    // A mount with escaped characters in its path is ignored.
    (!point.contains('\\')).then(|| Path::new(point).join(below.trim_start_matches('/')))
}

/// Removes empty groups of agents that have ended.
pub(in crate::agent) fn remove_empty_groups() {
    let Some(base) = own_cgroup() else {
        return;
    };
    for dir in groups_below(&base) {
        let name = dir.file_name().and_then(|name| name.to_str()).unwrap_or("");
        let of = name
            .strip_prefix(GROUP)
            .and_then(|rest| rest.split_once('-'));
        let pid = of.and_then(|(pid, _)| pid.parse().ok());
        if pid.is_some_and(|pid| Process::of(pid).is_none()) {
            remove_groups(&dir, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cgroup_is_found_by_its_mount() {
        let line = |root: &str| {
            format!("31 23 0:26 {root} /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw")
        };
        let at = |root: &str, own: &str| cgroup_at(&line(root), own);
        assert_eq!(at("/", "/"), Some("/sys/fs/cgroup/".into()));
        assert_eq!(
            at("/", "/system.slice/a.service"),
            Some("/sys/fs/cgroup/system.slice/a.service".into())
        );
        assert_eq!(
            at("/docker/x", "/docker/x/y"),
            Some("/sys/fs/cgroup/y".into())
        );
        assert_eq!(at("/docker/x", "/"), None);
        assert_eq!(cgroup_at("31 23 0:26 / /proc rw - proc proc rw", "/"), None);
    }
}
