//! Trials in turn: the server, the floor, the server, the floor …, so that a change of the machine
//! affects both.

use rustix::thread::CpuSet;

use super::BenchError;
use super::floor::Floor;
use super::plan::Plan;
use super::proc::Observed;
use super::report::{FloorReport, Pair, TrialReport};
use super::trial::{self, Peer, Trial};
use super::watch::Watch;

/// Runs the trials and computes the ratios.
///
/// If the server goes away or the run is ended, the finished pairs are compared.
///
/// # Errors
/// Those of the first trial, and a server that cannot be measured: the comparison would be empty.
pub fn run(
    plan: &Plan,
    observed: Result<Observed, String>,
    watch: &mut dyn Watch,
) -> Result<(Trial, FloorReport), BenchError> {
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
        let ours = trial::run(plan, Ok(server.clone()), Peer::Server, watch);
        let mut ours = match (ours, &first) {
            // The server was reachable in an earlier pair.
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
        // Memory that the first trial's connections left allocated must not flatter the next.
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
            server: TrialReport::of(&ours),
            floor: TrialReport::of(&theirs),
        });
        first.get_or_insert(ours);
    }
    let mut first = first.ok_or_else(|| BenchError::Unseen("there is no pair".to_owned()))?;
    first.ended_early = ended_early.map(|why| {
        let (done, of) = (pairs.len(), plan.pairs);
        format!("{why} (of {of} pairs {done} are finished)")
    });
    Ok((first, FloorReport::of(pairs)))
}

/// Runs the same load against a floor of its own.
fn of_floor(
    plan: &Plan,
    cpus: Option<&CpuSet>,
    watch: &mut dyn Watch,
) -> Result<Trial, BenchError> {
    let floor = Floor::start(plan.asked.replies, cpus)?;
    let plan = Plan {
        server: floor.address,
        ..plan.clone()
    };
    trial::run(&plan, Ok(floor.observed()), Peer::Floor, watch)
}
