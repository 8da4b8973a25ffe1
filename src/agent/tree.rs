//! Finds all processes of a command. A command may leave its process group, its session and its
//! parent, and must still end at its time limit.
//!
//! ```text
//!  cgroup v2 writable ─▶ a group of its own: found and killed as one
//!  always             ─▶ children of children, its session, its process group
//!  agent is subreaper ─▶ orphans too: they become the agent's children
//! ```
//!
//! A process is identified by its number and its start time, so that a reused number is never
//! signalled.

mod cgroup;
mod note;
mod process;

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io;
use std::path::Path;

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, waitid};

pub(super) use cgroup::{Cgroup, remove_empty_groups};
pub(super) use note::Note;
use process::{Entry, own_pid, table};
pub(super) use process::{Process, wait_for_end};

/// Bound of repeated readings of the list of children.
const CHILDREN_ROUNDS_MAX: usize = 1_000;

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

/// The entries that `is_root` selects, and all their descendants.
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
    /// The command's own process, until it is waited for.
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

    /// The processes in the note of an earlier agent.
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
        self.cgroup.as_ref().map(Cgroup::dir)
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

    /// The running children of this process that belong to the command. While the agent adopts
    /// orphans, every running process of the command is one of these or has one as its ancestor.
    /// The kernel's list of children is short to read. A process that has ended since is waited
    /// for, and the list is read again: its own child has become ours.
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

    /// Kills children until the list is empty, at most [`CHILDREN_ROUNDS_MAX`] times: each child
    /// may fork between the reading of the list and its signal.
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

#[cfg(test)]
mod tests {
    use super::*;

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
}
