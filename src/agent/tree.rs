//! All processes of a command. A command may leave its process group, its session and its parent,
//! and must still end at its time limit.
//!
//! ```text
//!  cgroup v2 writable ─▶ a group of its own: found and killed as one
//!  always             ─▶ children of children, its session, its process group
//!  agent is subreaper ─▶ orphans too: they become the agent's children
//! ```
//!
//! A process is identified by its number and its start time, so that a reused number is never
//! signalled.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, kill_process, pidfd_open, pidfd_send_signal,
    waitid,
};

use crate::files;

/// Prefix of the names of our cgroups.
const GROUP: &str = "anthill-";

/// Readings of the list of children in a row.
const CHILDREN_ROUNDS_MAX: usize = 1_000;

/// A process, distinguished from others that have the same number at other times.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Process {
    pid: i32,
    /// In clock ticks since the machine started.
    started: u64,
}

impl Process {
    /// The process that has this number now.
    pub(super) fn of(pid: i32) -> Option<Self> {
        Entry::read(pid).map(|entry| entry.process)
    }

    /// A process as it was [written down](std::fmt::Display).
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (pid, started) = text.split_once(' ')?;
        let pid = pid.parse().ok().filter(|pid| *pid > 1)?;
        let started = started.parse().ok()?;
        Some(Self { pid, started })
    }

    /// Sends a signal to this process only. One that has ended, or may not be signalled, gets none.
    fn signal(self, signal: Signal) {
        let Some(pid) = Pid::from_raw(self.pid) else {
            return;
        };
        match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(process) => {
                // The descriptor refers to the process that had the number when it was opened.
                if Self::of(self.pid) == Some(self) {
                    let _ = pidfd_send_signal(process, signal);
                }
            }
            Err(rustix::io::Errno::SRCH) => {}
            Err(_) => {
                if Self::of(self.pid) == Some(self) {
                    let _ = kill_process(pid, signal);
                }
            }
        }
    }
}

/// Waits until one of these processes has ended, for `most` at the longest. Processes can join a command at any
/// moment, so that a caller looks again after a short time.
pub(super) fn wait_for_end(running: &[Process], most: Duration) {
    let first = running
        .first()
        .and_then(|process| Pid::from_raw(process.pid));
    let end = first.and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
    // Without a descriptor this only waits.
    let mut polled = Vec::from_iter(end.iter().map(|end| PollFd::new(end, PollFlags::IN)));
    let most = Timespec::try_from(most).ok();
    // After an interruption the caller looks earlier.
    let _ = poll(&mut polled, most.as_ref());
}

impl std::fmt::Display for Process {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.pid, self.started)
    }
}

/// A row of the process table.
#[derive(Clone, Copy, Debug)]
struct Entry {
    process: Process,
    parent: i32,
    group: i32,
    session: i32,
    is_zombie: bool,
}

impl Entry {
    fn read(pid: i32) -> Option<Self> {
        Self::parse(pid, &fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    /// Reads `/proc/PID/stat`. The program's name, in parentheses, may hold anything.
    fn parse(pid: i32, stat: &str) -> Option<Self> {
        let (_, rest) = stat.rsplit_once(") ")?;
        let fields: Vec<&str> = rest.split(' ').collect();
        let number = |at: usize| fields.get(at)?.parse().ok();
        Some(Self {
            process: Process {
                pid,
                started: fields.get(19)?.parse().ok()?,
            },
            parent: number(1)?,
            group: number(2)?,
            session: number(3)?,
            is_zombie: matches!(fields.first(), Some(&"Z" | &"X")),
        })
    }
}

/// The process table, as far as it can be read.
fn table() -> Vec<Entry> {
    let Ok(names) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    let pid = |name: fs::DirEntry| name.file_name().to_str()?.parse().ok();
    names
        .flatten()
        .filter_map(pid)
        .filter_map(Entry::read)
        .collect()
}

/// Returns whether orphans of our commands become our children.
fn is_subreaper() -> bool {
    matches!(rustix::process::child_subreaper(), Ok(Some(_)))
}

/// Makes this process the parent of orphans among its descendants, so that a command cannot escape
/// by ending its own parent. For a process that has no other children.
///
/// # Errors
/// The system does not support it.
pub fn adopt_orphans() -> io::Result<()> {
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
    Ok(())
}

/// Processes below this one before a command starts: they belong to earlier commands.
#[derive(Debug, Default)]
pub(super) struct Earlier {
    processes: HashSet<Process>,
    sessions: HashSet<i32>,
}

impl Earlier {
    /// Reads the process table. Empty if orphans are not adopted, since none are searched then.
    pub(super) fn look() -> Self {
        if !is_subreaper() {
            return Self::default();
        }
        let own = own_pid();
        let own_session = Entry::read(own).map(|entry| entry.session);
        let below = descendants(&table(), |entry| entry.parent == own);
        Self {
            sessions: below
                .iter()
                .map(|entry| entry.session)
                .filter(|session| Some(*session) != own_session)
                .collect(),
            processes: below.iter().map(|entry| entry.process).collect(),
        }
    }
}

fn own_pid() -> i32 {
    rustix::process::getpid().as_raw_nonzero().get()
}

/// The entries that `is_root` names, and all below them.
fn descendants(table: &[Entry], is_root: impl Fn(&Entry) -> bool) -> Vec<Entry> {
    let mut children: HashMap<i32, Vec<&Entry>> = HashMap::new();
    for entry in table {
        children.entry(entry.parent).or_default().push(entry);
    }
    let mut found: Vec<Entry> = table
        .iter()
        .filter(|entry| is_root(entry))
        .copied()
        .collect();
    let mut seen: HashSet<i32> = found.iter().map(|entry| entry.process.pid).collect();
    let mut at = 0;
    while at < found.len() {
        for child in children.get(&found[at].process.pid).into_iter().flatten() {
            if seen.insert(child.process.pid) {
                found.push(**child);
            }
        }
        at += 1;
    }
    found
}

/// The processes of one command.
#[derive(Debug)]
pub(super) struct Tree {
    /// The command's own process, while it is not waited for.
    root: Option<Process>,
    earlier: Earlier,
    cgroup: Option<Cgroup>,
    /// Processes found so far. They belong to the command even if their parents end.
    known: HashSet<Process>,
    adopts: bool,
}

impl Tree {
    /// The processes of the command whose first process is `root`.
    pub(super) fn new(root: Option<Process>, earlier: Earlier, cgroup: Option<Cgroup>) -> Self {
        Self {
            root,
            earlier,
            cgroup,
            known: root.into_iter().collect(),
            adopts: is_subreaper(),
        }
    }

    /// The processes that an agent before this one has written down.
    pub(super) fn left(known: HashSet<Process>, cgroup: Option<Cgroup>) -> Self {
        Self {
            root: None,
            earlier: Earlier::default(),
            cgroup,
            known,
            adopts: false,
        }
    }

    /// The processes found so far.
    pub(super) fn known(&self) -> &HashSet<Process> {
        &self.known
    }

    /// The command's cgroup, if it has one.
    pub(super) fn cgroup(&self) -> Option<&Path> {
        self.cgroup.as_ref().map(|cgroup| cgroup.dir.as_path())
    }

    /// Finds the processes of the command and reaps ended orphans. Returns the running ones.
    pub(super) fn look(&mut self) -> Vec<Process> {
        let table = table();
        let own = own_pid();
        let root = self.root.map(|root| root.pid);
        if self.adopts {
            let orphans = table.iter().filter(|entry| {
                entry.parent == own && entry.is_zombie && Some(entry.process.pid) != root
            });
            orphans.for_each(|orphan| reap(orphan.process.pid));
        }
        let in_group: HashSet<i32> = self.cgroup.iter().flat_map(Cgroup::pids).collect();
        let leads = |number: i32| root == Some(number);
        let is_orphan = |entry: &Entry| {
            self.adopts
                && entry.parent == own
                && !self.earlier.processes.contains(&entry.process)
                && !self.earlier.sessions.contains(&entry.session)
        };
        let all = descendants(&table, |entry| {
            self.known.contains(&entry.process)
                || in_group.contains(&entry.process.pid)
                || leads(entry.group)
                || leads(entry.session)
                || is_orphan(entry)
        });
        self.known = all.iter().map(|entry| entry.process).collect();
        let running = all.iter().filter(|entry| !entry.is_zombie);
        let mut running: Vec<Process> = running.map(|entry| entry.process).collect();
        if running.is_empty() {
            // A process that forks and ends at once is easily missed by a scan of the whole table.
            running = self.children();
            self.known.extend(&running);
        }
        running
    }

    /// The running children of this process that belong to the command. While the agent adopts orphans,
    /// every running process of the command is one of these or has one as its ancestor. The kernel's list of
    /// children is short to read. A process that has ended since is waited for, and the list is read
    /// again: its own child has become ours.
    fn children(&self) -> Vec<Process> {
        let mut running = Vec::new();
        let mut has_reaped = self.adopts;
        for _ in 0..CHILDREN_ROUNDS_MAX {
            if !has_reaped || !running.is_empty() {
                break;
            }
            has_reaped = false;
            for entry in children_of_all_threads() {
                let is_earlier = self.earlier.processes.contains(&entry.process)
                    || self.earlier.sessions.contains(&entry.session);
                let is_root = self.root == Some(entry.process);
                match entry.is_zombie {
                    _ if is_earlier => {}
                    false => running.push(entry.process),
                    true if is_root => {}
                    true => {
                        reap(entry.process.pid);
                        has_reaped = true;
                    }
                }
            }
        }
        running
    }

    /// Sends `signal` to all of them.
    pub(super) fn signal(&mut self, signal: Signal) {
        if signal == Signal::KILL
            && let Some(cgroup) = &self.cgroup
        {
            cgroup.kill();
        }
        for process in self.look() {
            process.signal(signal);
        }
        if signal == Signal::KILL {
            self.kill_children();
        }
    }

    /// Kills children until there are none, [`CHILDREN_ROUNDS_MAX`] times at most: each may have forked
    /// between the reading of the list and its signal.
    fn kill_children(&mut self) {
        for _ in 0..CHILDREN_ROUNDS_MAX {
            let children = self.children();
            if children.is_empty() {
                break;
            }
            for process in children {
                process.signal(Signal::KILL);
            }
        }
    }
}

/// The children of this process, by the kernel's list. Empty if the kernel has no such list.
fn children_of_all_threads() -> Vec<Entry> {
    let threads = fs::read_dir("/proc/self/task").into_iter().flatten();
    let lists = threads
        .flatten()
        .filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
    let mut children = Vec::new();
    for list in lists {
        let pids = list.split_whitespace().filter_map(|pid| pid.parse().ok());
        children.extend(pids.filter_map(Entry::read));
    }
    children
}

fn reap(pid: i32) {
    if let Some(pid) = Pid::from_raw(pid) {
        // An error means that it was reaped already.
        let _ = waitid(
            WaitId::Pid(pid),
            WaitIdOptions::EXITED | WaitIdOptions::NOHANG,
        );
    }
}

/// Reaps ended orphans between commands. Returns whether some still run.
pub(super) fn reap_orphans() -> bool {
    if !is_subreaper() {
        return false;
    }
    loop {
        match waitid(WaitId::All, WaitIdOptions::EXITED | WaitIdOptions::NOHANG) {
            Ok(Some(_)) | Err(rustix::io::Errno::INTR) => {}
            Ok(None) => return true,
            Err(_) => return false,
        }
    }
}

/// A cgroup (version 2) with the processes of a command. Dropping it removes it if it is empty.
#[derive(Debug)]
pub(super) struct Cgroup {
    dir: PathBuf,
}

impl Cgroup {
    /// Creates a group below this process's group, and opens the file by which a process joins it.
    /// `None` without a writable cgroup v2.
    pub(super) fn make(number: u64) -> Option<(Self, File)> {
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
    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    fn pids(&self) -> Vec<i32> {
        let mut pids = Vec::new();
        collect_pids(&self.dir, &mut pids, 0);
        pids
    }

    fn kill(&self) {
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
pub(super) fn remove_empty_groups() {
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

/// Note about the running command, by which the next agent ends it if this one is killed.
#[derive(Debug, Default)]
pub(super) struct Note {
    dir: Option<PathBuf>,
    written: String,
}

/// Its name in the state directory.
const NOTE: &str = "running";

impl Note {
    /// Keeps the note in `dir`; without a directory there is none.
    pub(super) const fn new(dir: Option<PathBuf>) -> Self {
        Self {
            dir,
            written: String::new(),
        }
    }

    /// Writes the note. An error of the disk does not stop the command.
    pub(super) fn write(&mut self, cgroup: Option<&Path>, processes: &HashSet<Process>) {
        let Some(dir) = &self.dir else {
            return;
        };
        let mut lines = vec![format!("boot {}", machine_boot())];
        lines.extend(cgroup.map(|dir| format!("cgroup {}", dir.display())));
        let mut processes: Vec<String> = processes
            .iter()
            .map(|one| format!("process {one}"))
            .collect();
        processes.sort_unstable();
        lines.extend(processes);
        let text = lines.join("\n") + "\n";
        if text == self.written {
            return;
        }
        let aside = dir.join(format!("{NOTE}.new"));
        let write = || {
            let mut file = files::open_own(&aside, &super::journal::truncating())?;
            file.write_all(text.as_bytes())?;
            // Not synced: after a crash of the machine no process is left.
            fs::rename(&aside, dir.join(NOTE))
        };
        if write().is_ok() {
            self.written = text;
        }
    }

    /// Removes the note after the command.
    pub(super) fn clear(&mut self) {
        self.written.clear();
        if let Some(dir) = &self.dir {
            let _ = fs::remove_file(dir.join(NOTE));
        }
    }

    /// Processes that a killed agent has left running.
    pub(super) fn left(&self) -> Option<Tree> {
        let text = files::read_own(&self.dir.as_ref()?.join(NOTE)).ok()?;
        let text = files::text_of(text).ok()?;
        let (mut known, mut cgroup) = (HashSet::new(), None);
        let mut is_this_boot = false;
        for line in text.lines() {
            match line.split_once(' ') {
                Some(("boot", boot)) => is_this_boot = boot == machine_boot(),
                Some(("cgroup", dir)) => cgroup = Some(PathBuf::from(dir)),
                Some(("process", process)) => known.extend(Process::parse(process)),
                _ => {}
            }
        }
        // Processes of another boot are gone.
        is_this_boot.then(|| Tree::left(known, cgroup.as_deref().and_then(Cgroup::left)))
    }
}

/// Identifies this boot of the machine.
fn machine_boot() -> String {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    boot.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_program_names_in_the_process_table() {
        let stat = "42 (a) b) (c) S 7 40 30 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 987654 0 0";
        let entry = Entry::parse(42, stat).unwrap();
        assert_eq!((entry.parent, entry.group, entry.session), (7, 40, 30));
        assert_eq!(entry.process.to_string(), "42 987654");
        assert!(!entry.is_zombie);
        assert_eq!(Process::parse("42 987654"), Some(entry.process));
        for wrong in ["", "42", "1 5", "0 5", "-4 5", "a b"] {
            assert_eq!(Process::parse(wrong), None, "{wrong}");
        }
        assert!(Entry::parse(42, "42 (sh) S 7").is_none());
    }

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

    #[test]
    fn a_reused_process_id_gets_no_signal() {
        let own = Process::of(own_pid()).unwrap();
        let other = Process {
            started: own.started + 1,
            ..own
        };
        // It would end the test.
        other.signal(Signal::KILL);
        let mut tree = Tree::left(HashSet::from([other]), None);
        assert_eq!(tree.look(), []);
    }

    #[test]
    fn running_processes_are_found_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let mut note = Note::new(Some(dir.path().to_owned()));
        assert!(note.left().is_none());
        let own = Process::of(own_pid()).unwrap();
        note.write(None, &HashSet::from([own]));
        let left = note.left().unwrap();
        assert_eq!(left.known(), &HashSet::from([own]));
        let path = dir.path().join(NOTE);
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, text.replace("boot ", "boot 0")).unwrap();
        assert!(note.left().is_none(), "another start of the machine");
        note.clear();
        assert!(!path.exists());
    }
}
