//! Operations that the store refuses for good, kept for inspection, one line of JSON each.
//!
//! Two files at most, `rejected` and the older `rejected.1`.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::files;
use crate::limits::REJECTED_BYTES_MAX;
use crate::store::op::Op;
use crate::time::UnixMs;

/// The file of rejected operations.
#[derive(Debug)]
pub struct Rejected {
    path: PathBuf,
    max_bytes: u64,
}

impl Rejected {
    /// The file in `dir`, which is opened only to write.
    #[must_use]
    pub fn in_dir(dir: &Path) -> Self {
        Self {
            path: dir.join("rejected"),
            max_bytes: REJECTED_BYTES_MAX,
        }
    }

    /// Appends operations with their reasons, and syncs once.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write(&self, at: UnixMs, refused: &[(&Op, &str)]) -> io::Result<()> {
        let mut lines = Vec::new();
        for (op, error) in refused {
            let (kind, record) = show(op);
            let line = json!({"at": at.0, "error": error, "kind": kind, "record": record});
            writeln!(lines, "{line}")?;
        }
        let mut file = self.open(lines.len() as u64)?;
        file.write_all(&lines)?;
        file.sync_data()
    }

    /// The file, with room for `more` bytes, or empty.
    fn open(&self, more: u64) -> io::Result<File> {
        let mut options = OpenOptions::new();
        options.append(true).create(true).mode(0o600);
        let file = files::open_own(&self.path, &options)?;
        let bytes = file.metadata()?.len();
        if bytes == 0 || bytes.saturating_add(more) <= self.max_bytes {
            return Ok(file);
        }
        fs::rename(&self.path, self.path.with_extension("1"))?;
        files::open_own(&self.path, &options)
    }
}

/// Kind and text of an operation.
fn show(op: &Op) -> (&'static str, Value) {
    let written = match op {
        Op::Progress(report) => ("progress", serde_json::to_value(report)),
        Op::Answer(report) => ("answer", serde_json::to_value(report)),
        Op::Result(report) => ("result", serde_json::to_value(report)),
        Op::Dispatch(dispatch) | Op::Restore(dispatch) => {
            ("dispatch", Ok(Value::String(format!("{dispatch:?}"))))
        }
        state => ("state", Ok(Value::String(format!("{state:?}")))),
    };
    let (kind, record) = written;
    (
        kind,
        record.unwrap_or_else(|error| error.to_string().into()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::tests::reports::report;

    #[test]
    fn a_line_has_time_reason_and_record() {
        let dir = tempfile::tempdir().unwrap();
        let rejected = Rejected::in_dir(dir.path());
        let op = report(3);
        rejected
            .write(UnixMs(17), &[(&op, "WRONGTYPE"), (&op, "again")])
            .unwrap();
        let text = fs::read_to_string(dir.path().join("rejected")).unwrap();
        let lines: Vec<Value> = text
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[0]["at"], 17);
        assert_eq!(lines[0]["error"], "WRONGTYPE");
        assert_eq!(lines[0]["kind"], "progress");
        assert_eq!(lines[0]["record"]["key"], "AC3");
    }

    #[test]
    fn the_files_are_bounded() {
        let dir = tempfile::tempdir().unwrap();
        let mut rejected = Rejected::in_dir(dir.path());
        rejected.max_bytes = 1_000;
        for n in 0..50 {
            rejected.write(UnixMs(n), &[(&report(n), "no")]).unwrap();
        }
        let size = |name: &str| fs::metadata(dir.path().join(name)).unwrap().len();
        assert!(size("rejected") <= 1_000 && size("rejected.1") <= 1_000);
        let text = fs::read_to_string(dir.path().join("rejected")).unwrap();
        assert!(text.lines().last().unwrap().contains("\"at\":49"));
    }
}
