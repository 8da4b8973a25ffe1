//! The note about the running command.

use std::collections::HashSet;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use super::{Cgroup, Process, Tree};
use crate::files;

/// Note about the running command. If this agent is killed, the next one uses it to end the
/// command.
#[derive(Debug, Default)]
pub(in crate::agent) struct Note {
    dir: Option<PathBuf>,
    written: String,
}

/// Its name in the state directory.
const NOTE: &str = "running";

impl Note {
    /// Creates a note in `dir`; without a directory nothing is written.
    pub(in crate::agent) const fn new(dir: Option<PathBuf>) -> Self {
        Self {
            dir,
            written: String::new(),
        }
    }

    /// Writes the note. An error of the disk does not stop the command.
    pub(in crate::agent) fn write(&mut self, cgroup: Option<&Path>, processes: &HashSet<Process>) {
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
            let mut file = files::open_own(&aside, &crate::agent::journal::truncating())?;
            file.write_all(text.as_bytes())?;
            // Not synced: after a crash of the machine no process is left.
            fs::rename(&aside, dir.join(NOTE))
        };
        if write().is_ok() {
            self.written = text;
        }
    }

    /// Removes the note after the command.
    pub(in crate::agent) fn clear(&mut self) {
        self.written.clear();
        if let Some(dir) = &self.dir {
            let _ = fs::remove_file(dir.join(NOTE));
        }
    }

    /// Processes that a killed agent has left running.
    pub(in crate::agent) fn left(&self) -> Option<Tree> {
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
    use crate::agent::tree::process::own_pid;

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
