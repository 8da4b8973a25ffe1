//! Protection of files: owner, mode, and every directory and link above them. An error names the
//! remedy.

use std::fs::{self, Metadata};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Component, Path, PathBuf};

use rustix::process::{getegid, geteuid};

use super::{Guard, LINKS_MAX};
use crate::escape::escape;

/// Checks a file's owner and mode, and the directories above it; returns the error and its remedy.
pub(super) fn fault(path: &Path, metadata: &Metadata, guard: Guard) -> Option<String> {
    let kind = metadata.file_type();
    // Devices belong to the system.
    let is_device = kind.is_char_device() || kind.is_block_device() || kind.is_socket();
    let (mode, file) = (metadata.mode() & 0o777, shown(path));
    match guard {
        Guard::None => None,
        Guard::Shared => (mode & 0o002 != 0 && !is_device).then(|| {
            format!(
                "can be changed by every user of this machine (mode {mode:04o}): chmod o-w {file}"
            )
        }),
        Guard::Secret if mode & 0o007 != 0 && !is_device => {
            let go = if mode & 0o020 != 0 { "g-w,o=" } else { "o=" };
            Some(format!(
                "can be read or changed by every user of this machine (mode {mode:04o}): chmod {go} {file}"
            ))
        }
        Guard::Secret | Guard::Trusted => Some(metadata)
            .filter(|_| !is_device)
            .and_then(|metadata| owner_or_mode(path, metadata))
            .or_else(|| fault_on_the_way(path, Groups::Refused)),
    }
}

/// Rule for directories above a file that a group can write.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Groups {
    /// Refused, unless the group is root's or the user's own.
    Refused,
    /// Accepted: `/var/log` often belongs to the group of the system's log.
    Accepted,
}

/// Walks a path from `/` along its links. Returns the first directory or link by which another user
/// could replace the file, with its remedy. The walk ends at a missing component.
pub(super) fn fault_on_the_way(path: &Path, groups: Groups) -> Option<String> {
    let mut at = PathBuf::new();
    let mut rest = std::path::absolute(path).ok()?;
    let mut links = 0;
    loop {
        let mut parts = rest.components();
        match parts.next()? {
            Component::ParentDir => {
                at.pop();
            }
            part => at.push(part),
        }
        let after = parts.as_path().to_path_buf();
        let found = fs::symlink_metadata(&at).ok()?;
        if !found.is_symlink() {
            let is_above = found.is_dir() && after.components().next().is_some();
            if is_above && let Some(why) = directory_fault(&at, &found, groups) {
                return Some(why);
            }
            rest = after;
            continue;
        }
        // `/dev/stdin` and its like lead to an open descriptor, which has no directory. More links
        // than the kernel follows are left to the call that opens the file.
        if at.starts_with("/proc") || links == LINKS_MAX {
            return None;
        }
        if !is_ours(&found) {
            let (uid, link) = (found.uid(), shown(&at));
            return Some(format!(
                "is behind a link of user {uid}, which is not followed: rm {link}"
            ));
        }
        links += 1;
        rest = fs::read_link(&at).ok()?.join(after);
        at.pop();
    }
}

/// Checks that no other user can replace files in a directory; returns the error and its remedy.
fn directory_fault(dir: &Path, metadata: &Metadata, groups: Groups) -> Option<String> {
    if !is_ours(metadata) {
        return Some(format!(
            "can be replaced by user {}, the owner of a directory above it: {}",
            metadata.uid(),
            change_owner(dir)
        ));
    }
    // In a sticky directory only its owner can replace a file.
    if metadata.mode() & 0o1000 != 0 {
        return None;
    }
    let gid = metadata.gid();
    let is_private = gid == 0 || gid == own_user() && gid == getegid().as_raw();
    let by_group = metadata.mode() & 0o020 != 0 && groups == Groups::Refused && !is_private;
    let (by, bits) = match (by_group, metadata.mode() & 0o002 != 0) {
        (false, false) => return None,
        (true, false) => (format!("group {gid}"), "g-w"),
        (false, true) => ("every user of this machine".to_owned(), "o-w"),
        (true, true) => ("every user of this machine".to_owned(), "go-w"),
    };
    let dir = shown(dir);
    Some(format!("can be replaced by {by}: chmod {bits} {dir}"))
}

/// Checks an owner and a mode; returns the error and its remedy.
pub(super) fn owner_or_mode(path: &Path, metadata: &Metadata) -> Option<String> {
    let mode = metadata.mode() & 0o777;
    if !is_ours(metadata) {
        return Some(format!(
            "belongs to user {}, which could change it: {}",
            metadata.uid(),
            change_owner(path)
        ));
    }
    (mode & 0o022 != 0).then(|| {
        let file = shown(path);
        format!("can be changed by other users (mode {mode:04o}): chmod go-w {file}")
    })
}

/// Remedy for a file or directory of another user. Root may have started the service of that user
/// by hand.
fn change_owner(path: &Path) -> String {
    let path = shown(path);
    match own_user() {
        0 => format!("run anthill as that user, or chown root {path}"),
        own => format!("chown {own} {path}"),
    }
}

fn own_user() -> u32 {
    geteuid().as_raw()
}

/// Returns whether it belongs to root or to the user of this process.
pub(super) fn is_ours(metadata: &Metadata) -> bool {
    [0, own_user()].contains(&metadata.uid())
}

/// A path as a shell takes it.
pub(super) fn shown(path: &Path) -> String {
    let text = path.to_string_lossy();
    let quoted = shlex::try_quote(&text).unwrap_or_else(|_| text.clone());
    escape(&quoted).into_owned()
}
