//! Outputs of a task, each distinct one once: `task KEY -b`, `--diff`, `-L`, and the same of
//! `dispatch --wait`.

use serde::Deserialize;

use super::api::Api;
use super::args::Grouped;
use super::output::line_shown;
use super::pages::percent_encoded;
use super::task::Task;
use super::{Failure, color, output, print, print_note};
use crate::escape;
use crate::limits::{DIFF_LINES_MAX, GROUP_OUTPUT_BYTES_MAX};

/// Hosts of a task, grouped by the result of one command.
#[derive(Debug, Deserialize)]
struct Groups {
    groups: Vec<Group>,
    #[serde(default)]
    without: Vec<Without>,
}

/// Hosts with the same exit status and output.
#[derive(Debug, Deserialize)]
struct Group {
    exit: i64,
    hosts: u64,
    folded: String,
    #[serde(default)]
    size: u64,
    output: Option<String>,
}

/// Hosts without a result.
#[derive(Debug, Deserialize)]
struct Without {
    state: String,
    hosts: u64,
    folded: String,
}

/// Prints the outputs of a task in the form that the flags ask for. The first line says how many
/// hosts agree.
///
/// # Errors
/// No valid answer of the server.
pub fn show(api: &Api, key: &str, task: &Task, form: &Grouped) -> Result<(), Failure> {
    if form.lines {
        return by_line(api, key, task);
    }
    let several = task.commands() > 1;
    for command in task.command_names() {
        let path = format!(
            "/v1/tasks/{}/groups?command={}",
            percent_encoded(key),
            percent_encoded(command)
        );
        let groups: Groups = api.get(&path)?;
        let mut text = String::new();
        if several {
            text.push_str(&format!("{}:\n", escape::escape(command)));
        }
        text.push_str(&groups.text(form.diff));
        print(&text)?;
    }
    Ok(())
}

/// Prints each line of output behind the name of its host.
fn by_line(api: &Api, key: &str, task: &Task) -> Result<(), Failure> {
    for (id, host) in &task.hosts {
        for (command, outcome) in task.results(host) {
            let whole = match outcome.is_partial() {
                true => {
                    String::from_utf8_lossy(&output::fetch(api, key, id, command)?).into_owned()
                }
                false => outcome.output().to_owned(),
            };
            if outcome.exit != 0 {
                print_note(&outcome.head(id, command));
            }
            let name = escape::escape(id);
            let lines = whole
                .lines()
                .map(|line| format!("{name}: {}\n", line_shown(line)));
            print(&lines.collect::<String>())?;
        }
    }
    Ok(())
}

impl Groups {
    /// `97 agree, 2 differ`, then the groups. With `diff` the later ones are shown by their
    /// differences from the first.
    fn text(&self, diff: bool) -> String {
        let agree = self.groups.first().map_or(0, |group| group.hosts);
        let differ: u64 = self.groups.iter().skip(1).map(|group| group.hosts).sum();
        let missing: u64 = self.without.iter().map(|one| one.hosts).sum();
        let mut text = format!("{agree} agree, {differ} differ");
        if missing > 0 {
            text.push_str(&format!(", {missing} without output"));
        }
        text.push('\n');
        let majority = self
            .groups
            .first()
            .and_then(|group| group.output.as_deref());
        for (number, group) in self.groups.iter().enumerate() {
            text.push_str(&group.head());
            let differences = match (diff && number > 0, majority, group.output.as_deref()) {
                (true, Some(majority), Some(own)) => differences(majority, own),
                _ => None,
            };
            let lines = differences.unwrap_or_else(|| group.lines());
            lines
                .iter()
                .for_each(|line| text.push_str(&format!("    {line}\n")));
        }
        for one in &self.without {
            let state = color::state(&escape::escape(&one.state));
            let folded = escape::escape(&one.folded);
            let hosts = counted(one.hosts);
            text.push_str(&format!("{folded} ({hosts}): {state}\n"));
        }
        text
    }
}

/// `1 host`, `2 hosts`.
pub fn counted(hosts: u64) -> String {
    match hosts {
        1 => "1 host".to_owned(),
        many => format!("{many} hosts"),
    }
}

impl Group {
    fn head(&self) -> String {
        let hosts = counted(self.hosts);
        let head = format!(
            "{} ({hosts}): exit {}",
            escape::escape(&self.folded),
            self.exit
        );
        format!("{}\n", color::outcome(head, self.exit != 0))
    }

    fn lines(&self) -> Vec<String> {
        let Some(output) = &self.output else {
            return vec![format!("({} bytes, not shown: too many differ)", self.size)];
        };
        let mut lines: Vec<String> = output.lines().map(line_shown).collect();
        if self.size > GROUP_OUTPUT_BYTES_MAX as u64 {
            lines.push(format!("… ({} bytes in all)", self.size));
        }
        lines
    }
}

/// Lines of `own` that the majority has not (`+`), and the reverse (`-`), with a line of both around
/// them. None if they are too long to be compared.
fn differences(majority: &str, own: &str) -> Option<Vec<String>> {
    let (old, new): (Vec<&str>, Vec<&str>) = (majority.lines().collect(), own.lines().collect());
    if old.len().max(new.len()) > DIFF_LINES_MAX {
        return None;
    }
    let same = common(&old, &new);
    let mut lines = Vec::new();
    let (mut left, mut right, mut last_both) = (0, 0, None);
    for (at_old, at_new) in same.into_iter().chain([(old.len(), new.len())]) {
        let changed = left < at_old || right < at_new;
        if changed {
            if let Some(both) = last_both {
                lines.push(format!("  {}", line_shown(both)));
            }
            let gone = old[left..at_old]
                .iter()
                .map(|line| format!("- {}", line_shown(line)));
            let added = new[right..at_new]
                .iter()
                .map(|line| format!("+ {}", line_shown(line)));
            lines.extend(gone.chain(added));
            if let Some(both) = old.get(at_old) {
                lines.push(format!("  {}", line_shown(both)));
            }
            last_both = None;
        } else {
            last_both = old.get(at_old).copied();
        }
        (left, right) = (at_old + 1, at_new + 1);
    }
    Some(lines)
}

/// Places of the lines of a longest common subsequence.
fn common(old: &[&str], new: &[&str]) -> Vec<(usize, usize)> {
    let width = new.len() + 1;
    let mut lengths = vec![0u32; (old.len() + 1) * width];
    for i in (0..old.len()).rev() {
        for j in (0..new.len()).rev() {
            lengths[i * width + j] = match old[i] == new[j] {
                true => lengths[(i + 1) * width + j + 1] + 1,
                false => lengths[(i + 1) * width + j].max(lengths[i * width + j + 1]),
            };
        }
    }
    let (mut i, mut j, mut pairs) = (0, 0, Vec::new());
    while i < old.len() && j < new.len() {
        if old[i] == new[j] {
            pairs.push((i, j));
            (i, j) = (i + 1, j + 1);
        } else if lengths[(i + 1) * width + j] >= lengths[i * width + j + 1] {
            i += 1;
        } else {
            j += 1;
        }
    }
    pairs
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn groups() -> Groups {
        Groups::deserialize(json!({
            "groups": [
                {"exit": 0, "sha256": "a", "hosts": 97, "folded": "web-[1-97]", "size": 8, "output": "a\nb\nc\nd\n"},
                {"exit": 1, "sha256": "b", "hosts": 2, "folded": "web-[98-99]", "size": 8, "output": "a\nb\nx\u{1b}[2J\nd\n"},
            ],
            "without": [{"state": "lost", "hosts": 1, "folded": "web-100"}],
        }))
        .unwrap()
    }

    #[test]
    fn the_majority_comes_first_and_once() {
        assert_eq!(
            groups().text(false),
            "97 agree, 2 differ, 1 without output\n\
             web-[1-97] (97 hosts): exit 0\n    a\n    b\n    c\n    d\n\
             web-[98-99] (2 hosts): exit 1\n    a\n    b\n    x\\u{1b}[2J\n    d\n\
             web-100 (1 host): lost\n"
        );
    }

    #[test]
    fn others_are_shown_by_their_differences() {
        let text = groups().text(true);
        let of_two = text.split("exit 1\n").nth(1).unwrap();
        assert!(
            of_two.starts_with("      b\n    - c\n    + x\\u{1b}[2J\n      d\nweb-100"),
            "{text}"
        );
    }

    #[test]
    fn a_difference_leads_from_one_to_the_other() {
        let texts = ["", "a", "a\nb", "b\na", "a\nc\nb", "x\ny\nz\na\nb"];
        for old in texts {
            for new in texts {
                let lines = differences(old, new).unwrap();
                let marked =
                    |mark: &str| lines.iter().filter(|line| line.starts_with(mark)).count();
                let kept = old.lines().count() - marked("- ");
                assert_eq!(new.lines().count(), kept + marked("+ "), "{old:?} {new:?}");
                assert_eq!(lines.is_empty(), old == new);
            }
        }
        let long = "x\n".repeat(DIFF_LINES_MAX + 1);
        assert_eq!(differences(&long, "x"), None);
    }
}
