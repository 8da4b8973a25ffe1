//! Turn about: the server, the floor, the server, the floor …, so that what changes on the machine
//! meanwhile changes for both.

use rustix::thread::CpuSet;

use super::BenchError;
use super::floor::Floor;
use super::plan::Plan;
use super::proc::Observed;
use super::report::{Floored, Pair, Shown};
use super::trial::{self, Other, Trial};
use super::watch::Watch;

/// The trials, and the ratios of the two.
///
/// Where the server goes away, or the end is wanted, the pairs that are finished are compared.
///
/// # Errors
/// As of the first trial; and when the server cannot be looked into, since then there is nothing to compare.
pub fn run(
    plan: &Plan,
    observed: Result<Observed, String>,
    watch: &mut dyn Watch,
) -> Result<(Trial, Floored), BenchError> {
    let server = observed.map_err(BenchError::Unseen)?;
    let cpus = server.cpus().ok();
    let mut first: Option<Trial> = None;
    let mut ended_early = None;
    let mut pairs = Vec::new();
    for number in 1..=plan.pairs {
        watch.note(&format!(
            "pair {number} of {}: server, then floor",
            plan.pairs
        ));
        let ours = trial::run(plan, Ok(server.clone()), Other::Server, watch);
        let mut ours = match (ours, &first) {
            // It was there before.
            (Err(BenchError::Unreachable { server, why }), Some(_)) => {
                ended_early = Some(format!("the server at {server} went away: {why}"));
                break;
            }
            (Err(error), Some(_)) => {
                ended_early = Some(error.to_string());
                break;
            }
            (ours, _) => ours?,
        };
        if ours.ended_early.is_some() {
            ended_early = ours.ended_early.take();
            first.get_or_insert(ours);
            break;
        }
        // What the first trial's connections left allocated is not to flatter the next.
        if let (Some(first), Ok(used)) = (&first, &mut ours.server)
            && let Ok(earliest) = &first.server
        {
            used.measure_from(earliest.resident_bytes_before, ours.tally.made);
        }
        let mut theirs = match of_floor(plan, cpus.as_ref(), watch) {
            Ok(theirs) => theirs,
            Err(error) => {
                ended_early = Some(error.to_string());
                first.get_or_insert(ours);
                break;
            }
        };
        if theirs.ended_early.is_some() {
            ended_early = theirs.ended_early.take();
            first.get_or_insert(ours);
            break;
        }
        pairs.push(Pair {
            server: Shown::of(&ours),
            floor: Shown::of(&theirs),
        });
        first.get_or_insert(ours);
    }
    let mut first = first.ok_or_else(|| BenchError::Unseen("there is no pair".to_owned()))?;
    first.ended_early = ended_early.map(|why| {
        let (done, of) = (pairs.len(), plan.pairs);
        format!("{why} (of {of} pairs {done} are finished)")
    });
    Ok((first, Floored::of(pairs)))
}

/// The same load against a floor of its own.
fn of_floor(
    plan: &Plan,
    cpus: Option<&CpuSet>,
    watch: &mut dyn Watch,
) -> Result<Trial, BenchError> {
    let floor = Floor::start(plan.replies, cpus)?;
    let plan = Plan {
        server: floor.address,
        ..plan.clone()
    };
    trial::run(&plan, Ok(floor.observed()), Other::Floor, watch)
}
