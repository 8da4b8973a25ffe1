//! Check for enough file descriptors, before anything is opened.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::BenchError;
use super::plan::Plan;
use super::report::Descriptors;
use crate::limits::BENCH_DESCRIPTORS_RESERVED;

/// Raises the soft limit to the hard one and compares it with the plan's need.
///
/// # Errors
/// When the plan needs more.
pub fn check(plan: &Plan) -> Result<Descriptors, BenchError> {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    // Some sandboxes refuse: then the present limit has to do.
    let limit = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(_) => limit.current,
    };
    within(limit, plan.asked.hosts)
}

fn within(limit: Option<u64>, hosts: usize) -> Result<Descriptors, BenchError> {
    let needed = hosts as u64 + BENCH_DESCRIPTORS_RESERVED;
    match limit {
        Some(limit) if limit < needed => Err(BenchError::Descriptors {
            hosts,
            needed,
            limit,
            room: limit.saturating_sub(BENCH_DESCRIPTORS_RESERVED),
        }),
        limit => Ok(Descriptors { needed, limit }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_few_descriptors_are_an_error() {
        assert!(within(None, 1_000_000).is_ok());
        assert_eq!(within(Some(1_064), 1_000).unwrap().needed, 1_064);
        let error = within(Some(1_063), 1_000).unwrap_err();
        assert!(error.is_usage());
        let line = error.to_string();
        for word in ["--hosts 1000", "1064", "1063", "at most --hosts 999"] {
            assert!(line.contains(word), "{word}: {line}");
        }
    }
}
