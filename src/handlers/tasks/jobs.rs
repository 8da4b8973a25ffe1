//! Requests with many hosts. Each step handles a few hosts, so that heartbeats are not delayed.
//!
//! ```text
//!   Request ─▶ Naming: every name checked, once, with its state ─┬─▶ pending, Op::Dispatch ─▶ Stored ─▶ Entering ─▶ answer
//!                                                            └─▶ Commanding ─▶ answer
//! ```
//!
//! A step handles a bounded number of hosts. The first step of a job runs at once, so a request
//! with few hosts needs no other. Further steps run in later turns, alternating between jobs.

use crate::handlers::context::Ctx;
use crate::handlers::directory::Directory;
use crate::handlers::tasks::Tasks;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::vec;

use crate::codec::target::Facts as _;
use crate::ids::HostId;
use crate::limits::{DELIVERIES_MAX, DISPATCHES_WAITING_MAX, HOSTS_PER_STEP_MAX, LISTINGS_MAX};
use crate::store::op::TaskState;

use crate::handlers::request::{Response, Within};
use crate::handlers::tasks::console::{Commanding, NewCommand, Showing};
use crate::handlers::tasks::dispatch::{CheckedTask, Entering, Refusal, not_now, wrong};
use crate::handlers::tasks::keepers::Following;
use crate::handlers::tasks::lifetime::Expiring;
use crate::handlers::tasks::locate::{Located, needs_locating};
use crate::handlers::tasks::peers::{Merging, Rounding};
use crate::handlers::tasks::resolve::{Listing, Resolution};
use crate::handlers::tasks::restore::Restoring;
use crate::handlers::tasks::resume::{Holding, Resuming};
use crate::handlers::tasks::rollout::RolloutOptions;
use crate::handlers::tasks::scope::Scope;
use crate::handlers::tasks::waves::{
    Admitting, Cancelling, Planning, Waving, answer_plan, check_expected,
};

/// Work that may take more than one step.
#[derive(Debug)]
pub(crate) enum Job {
    /// The hosts of a request are looked up.
    Naming(Box<Naming>),
    /// A stored task is entered into the tables and sent.
    Entering(Box<Entering>),
    /// A console command is sent.
    Commanding(Box<Commanding>),
    /// The answers to a console command are collected.
    Showing(Box<Showing>),
    /// The hosts of a target are listed.
    Listing(Box<Listing>),
    /// The hosts of a request are planned.
    Planning(Box<Planning>),
    /// A wave goes out to its hosts.
    Waving(Waving),
    /// The hosts of a task are compared with the target of a token.
    Admitting(Box<Admitting>),
    /// A task is cancelled.
    Cancelling(Box<Cancelling>),
    /// The hosts of an expired task are ended.
    Expiring(Expiring),
    /// The hosts of a stored task go into the tables.
    Holding(Box<Holding>),
    /// Stored tasks are resumed.
    Resuming(Box<Resuming>),
    /// The hosts of a task that the store has lost are listed.
    Restoring(Box<Restoring>),
    /// What the store says of some hosts of a task goes into the tables.
    Merging(Box<Merging>),
    /// Hosts and tasks that are to be looked up in the store are collected.
    Rounding(Box<Rounding>),
    /// A task that another node keeps now is dropped, but for the hosts of this node.
    Following(Following),
}

/// The jobs in progress, the next first.
#[derive(Debug, Default)]
pub(crate) struct Jobs {
    line: VecDeque<Job>,
}

/// Purpose of the looked-up hosts.
#[derive(Debug)]
pub(crate) enum Purpose {
    /// A task.
    Task(CheckedTask),
    /// A console command.
    Command(NewCommand),
    /// A plan.
    Plan(Box<RolloutOptions>),
}

/// The lookup of the hosts of a request.
#[derive(Debug)]
pub(crate) struct Naming {
    requester: u64,
    purpose: Purpose,
    names: Names,
    /// Target of the requester's token.
    scope: Option<Scope>,
    /// Number of names, or entries of the table, in all.
    count: usize,
    named: Named,
}

/// Hosts of a request as it names them: some, those of a target, or all that are online.
#[derive(Debug, Default)]
pub(crate) struct Whom {
    pub(crate) names: Option<Vec<String>>,
    pub(crate) target: Option<String>,
    /// Target of the requester's token.
    pub(crate) within: Option<Within>,
}

/// Names still to be looked up.
#[derive(Debug)]
enum Names {
    /// The names in the request.
    Listed(vec::IntoIter<String>),
    /// All online hosts, from this slot on.
    Online(u32),
    /// Hosts of a target.
    Target(Box<Resolution>),
}

/// The hosts of a request, each once.
#[derive(Debug, Default)]
pub(crate) struct Named {
    /// In the order of the request, each with its first state in the task.
    pub(crate) hosts: Arc<Vec<(HostId, TaskState)>>,
    /// Index in `hosts`, by name.
    pub(crate) places: BTreeMap<HostId, u32>,
    /// Hosts that neither the store nor this server has ever seen. The table has all hosts that the
    /// store had at the start, and all later ones.
    pub(crate) unknown: Vec<HostId>,
    /// Number of hosts that are sent to.
    pub(crate) sent: usize,
    /// Number of hosts that are queued for.
    pub(crate) queued: usize,
    /// Hosts that other nodes hold, by node.
    pub(crate) rings: BTreeMap<String, Vec<HostId>>,
}

impl Jobs {
    /// Returns whether there is no job.
    pub(crate) fn is_empty(&self) -> bool {
        self.line.is_empty()
    }

    /// Adds a job whose first step has been taken.
    pub(crate) fn push(&mut self, job: Job) {
        self.line.push_back(job);
    }

    /// Returns whether stored tasks are still to be entered or resumed.
    pub(super) fn is_resuming(&self) -> bool {
        let mut line = self.line.iter();
        line.any(|job| matches!(job, Job::Holding(_) | Job::Resuming(_) | Job::Merging(_)))
    }

    /// Returns whether a wave of the task of this number goes out.
    pub(super) fn is_waving(&self, number: u64) -> bool {
        let mut line = self.line.iter();
        line.any(|job| matches!(job, Job::Waving(waving) if waving.number() == number))
    }

    /// Returns whether hosts of a task are still to expire.
    #[cfg(test)]
    pub(crate) fn is_expiring(&self) -> bool {
        let mut line = self.line.iter();
        line.any(|job| matches!(job, Job::Expiring(_)))
    }

    /// Returns whether a request with `count` more hosts has room beside the others.
    fn has_room(&self, count: usize) -> bool {
        let hosts = self.line.iter().map(|job| match job {
            Job::Naming(naming) => naming.count,
            Job::Showing(showing) => showing.count,
            Job::Entering(_)
            | Job::Commanding(_)
            | Job::Expiring(_)
            | Job::Holding(_)
            | Job::Listing(_)
            | Job::Restoring(_)
            | Job::Merging(_)
            | Job::Rounding(_)
            | Job::Following(_)
            | Job::Planning(_)
            | Job::Waving(_)
            | Job::Admitting(_)
            | Job::Cancelling(_)
            | Job::Resuming(_) => 0,
        });
        self.line.is_empty()
            || (self.line.len() < DISPATCHES_WAITING_MAX
                && hosts.sum::<usize>() + count <= DELIVERIES_MAX)
    }
}

impl Tasks {
    /// Ends all jobs: work that has not been passed on to the store or to a host is dropped.
    pub(crate) fn refuse_jobs(&mut self, cx: &mut Ctx<'_>) {
        self.refuse_locating(cx, "the server is stopping");
        self.forget_letters(cx, "the server is stopping");
        let line = std::mem::take(&mut self.jobs.line);
        for job in line {
            let requester = match &job {
                Job::Naming(naming) => naming.requester,
                Job::Commanding(commanding) => commanding.requester(),
                Job::Showing(showing) => showing.requester,
                Job::Listing(listing) => listing.requester,
                Job::Planning(planning) => planning.requester,
                Job::Admitting(admitting) => admitting.requester,
                Job::Cancelling(cancelling) => match cancelling.requester {
                    Some(requester) => requester,
                    None => continue,
                },
                // A start goes on with a wave.
                Job::Waving(_) => continue,
                Job::Expiring(_) | Job::Holding(_) | Job::Resuming(_) | Job::Restoring(_) => {
                    continue;
                }
                Job::Merging(_) | Job::Rounding(_) | Job::Following(_) => continue,
                Job::Entering(_) => {
                    self.jobs.line.push_back(job);
                    continue;
                }
            };
            cx.respond(requester, not_now("the server is stopping").into());
        }
    }
}

impl Tasks {
    /// Ends the long reads of a requester that is gone. What changes something goes on.
    pub(crate) fn withdraw(&mut self, requester: u64) {
        self.jobs.line.retain(|job| match job {
            Job::Listing(listing) => listing.requester != requester,
            Job::Showing(showing) => showing.requester != requester,
            Job::Planning(planning) => planning.requester != requester,
            Job::Naming(naming) => {
                naming.requester != requester || !matches!(naming.purpose, Purpose::Plan(_))
            }
            _ => true,
        });
        self.forget_reads_of(requester);
    }
}

impl Naming {
    /// Looks up at most `max` more names. Returns whether these were the last.
    fn step(&mut self, hosts: Directory<'_>, max: usize) -> Result<bool, Refusal> {
        let waits = match &self.purpose {
            Purpose::Task(task) if task.queue => TaskState::Queued,
            Purpose::Task(_) | Purpose::Command(_) | Purpose::Plan(_) => TaskState::Offline,
        };
        if let Names::Target(resolution) = &mut self.names {
            let (named, scope) = (&mut self.named, &mut self.scope);
            let hosts = hosts.everywhere();
            let is_plan = matches!(self.purpose, Purpose::Plan(_));
            let mut inside = Ok(());
            let is_over = resolution.step(hosts, max, |_, facts| {
                if let (Ok(()), Some(scope)) = (&inside, &mut *scope) {
                    inside = scope.check_at(&facts.id, facts.ip());
                }
                // The node of a host that is not connected here is looked up before it is sent to.
                let state = match is_plan {
                    true if facts.is_online() => TaskState::Sent,
                    false if hosts.is_online(&facts.id) => TaskState::Sent,
                    _ => waits,
                };
                named.add(facts.id, |_| (state, false));
            });
            return inside.and(is_over);
        }
        for _ in 0..max {
            let is_listed = matches!(self.names, Names::Listed(_));
            let host = match &mut self.names {
                Names::Listed(names) => {
                    let Some(name) = names.next() else {
                        return Ok(true);
                    };
                    HostId::named(&name)
                        .map_err(|error| wrong(format!("{name:?} is no host: {error}")))?
                }
                Names::Online(slot) => {
                    if *slot as usize >= hosts.slots() {
                        return Ok(true);
                    }
                    let host = hosts.online_at(*slot);
                    *slot += 1;
                    match host {
                        Some(host) => host,
                        None => continue,
                    }
                }
                Names::Target(_) => return Ok(true),
            };
            if let Some(scope) = &mut self.scope {
                scope.check(hosts, &host)?;
            }
            self.named.add(host, |host| {
                let unknown = is_listed && !hosts.is_known(host);
                match hosts.is_online(host) {
                    true => (TaskState::Sent, unknown),
                    false => (waits, unknown),
                }
            });
        }
        Ok(false)
    }
}

impl Tasks {
    /// Continues a request or task that has many hosts: at most `max` of them. Removed tasks go
    /// first, so that they take no room from new ones.
    pub(crate) fn go_on(&mut self, cx: &mut Ctx<'_>, hosts: Directory<'_>, max: usize) {
        if self.table.has_going() {
            self.table.remove_some(max);
        } else if self.has_ready_rollouts() {
            self.advance_rollout(cx);
        } else if let Some(job) = self.jobs.line.pop_front() {
            self.step(cx, hosts, job, max);
        }
    }

    /// Begins a job, and runs its first step at once.
    pub(super) fn begin_job(&mut self, cx: &mut Ctx<'_>, hosts: Directory<'_>, job: Job) {
        self.step(cx, hosts, job, HOSTS_PER_STEP_MAX);
    }

    /// Begins a listing, if there is room for it beside the other jobs.
    pub(super) fn begin_showing(
        &mut self,
        cx: &mut Ctx<'_>,
        hosts: Directory<'_>,
        showing: Showing,
    ) {
        match self.jobs.has_room(showing.count) {
            true => self.begin_job(cx, hosts, Job::Showing(Box::new(showing))),
            false => cx.respond(showing.requester, too_many().into()),
        }
    }

    /// Runs one step of a job. An unfinished job goes to the end of the queue.
    fn step(&mut self, cx: &mut Ctx<'_>, hosts: Directory<'_>, mut job: Job, max: usize) {
        let (requester, is_over) = match &mut job {
            Job::Naming(naming) => (
                naming.requester,
                naming.step(hosts, max).map_err(Response::from),
            ),
            Job::Entering(entering) => (0, Ok(self.enter_some(cx, hosts, entering, max))),
            Job::Expiring(expiring) => (0, Ok(self.expire_some(cx, expiring, max))),
            Job::Holding(holding) => (0, Ok(self.hold_some(holding, max))),
            Job::Resuming(resuming) => (0, Ok(self.resume_some(cx, hosts, resuming, max))),
            Job::Restoring(restoring) => (0, Ok(self.list_some(restoring, max))),
            Job::Merging(merging) => (0, Ok(self.merge_some(cx, hosts, merging, max))),
            Job::Rounding(rounding) => (0, Ok(self.round_some(hosts, rounding, max))),
            Job::Following(following) => (0, Ok(self.follow_some(hosts, following, max))),
            Job::Showing(showing) => (showing.requester, self.show_some(showing, max)),
            Job::Planning(planning) => (planning.requester, Ok(planning.step(max))),
            Job::Admitting(admitting) => (
                admitting.requester,
                self.admit_some(hosts, admitting, max)
                    .map_err(Response::from),
            ),
            Job::Waving(waving) => (0, Ok(self.wave_some(cx, hosts, waving, max))),
            Job::Cancelling(cancelling) => (0, Ok(self.cancel_some(cx, hosts, cancelling, max))),
            Job::Listing(listing) => (
                listing.requester,
                listing.step(hosts, max).map_err(Response::from),
            ),
            Job::Commanding(commanding) => (
                commanding.requester(),
                commanding.step(cx, hosts, max).map_err(Response::from),
            ),
        };
        match is_over {
            Err(answer) => return cx.respond(requester, answer),
            Ok(false) if matches!(&job, Job::Listing(listing) if listing.deadline <= cx.at.now) => {
                let refusal = not_now("the listing took too long: the server is busy");
                return cx.respond(requester, refusal.into());
            }
            Ok(false) => return self.jobs.push(job),
            Ok(true) => {}
        }
        match job {
            Job::Naming(naming) => self.named(cx, hosts, *naming),
            Job::Entering(entering) => self.entered(cx, *entering),
            Job::Expiring(expiring) => self.expired(cx, &expiring),
            Job::Holding(holding) => self.held(cx, hosts, &holding),
            Job::Resuming(_) | Job::Rounding(_) => {}
            Job::Merging(merging) => self.merged(cx, hosts, *merging),
            Job::Following(following) => self.followed(cx, following),
            Job::Restoring(restoring) => self.listed(*restoring),
            Job::Commanding(commanding) => self.commanded(cx, *commanding),
            Job::Listing(listing) => self.answer_listing(cx, *listing),
            Job::Planning(planning) => answer_plan(cx, *planning),
            Job::Waving(waving) => self.waved(cx, &waving),
            Job::Admitting(admitting) => self.admitted(cx, hosts, *admitting),
            Job::Cancelling(cancelling) => self.answer_cancel(cx, *cancelling),
            Job::Showing(showing) => {
                let Showing {
                    requester, view, ..
                } = *showing;
                cx.respond(requester, Response::Command(Box::new(view)));
            }
        }
    }

    /// Checks that a request with `count` hosts has room beside the others.
    ///
    /// # Errors
    /// Too many requests.
    pub(super) fn check_room(&self, count: usize) -> Result<(), Refusal> {
        self.jobs.has_room(count).then_some(()).ok_or_else(too_many)
    }

    /// Refuses a further page of a target's hosts while many are in progress.
    pub(super) fn check_listings(&self) -> Result<(), Refusal> {
        let listings = self.jobs.line.iter();
        let listings = listings
            .filter(|job| matches!(job, Job::Listing(_)))
            .count();
        (listings < LISTINGS_MAX).then_some(()).ok_or_else(too_many)
    }

    /// Begins to look up the hosts of a request: those named, or all that are online.
    pub(super) fn name_hosts(
        &mut self,
        cx: &mut Ctx<'_>,
        hosts: Directory<'_>,
        requester: u64,
        purpose: Purpose,
        whom: Whom,
    ) -> Result<(), Refusal> {
        let Whom {
            names,
            target,
            within,
        } = whom;
        if names.is_some() && target.is_some() {
            return Err(wrong("`hosts` and `target` exclude each other".to_owned()));
        }
        let count = names.as_ref().map_or(hosts.slots(), Vec::len);
        if names.is_some() && count == 0 {
            return Err(wrong(
                "`hosts` names no host; leave it out for all that are online".to_owned(),
            ));
        }
        if !self.jobs.has_room(count) {
            return Err(too_many());
        }
        let scope = within.map(Scope::new).transpose()?;
        let names = match (names, target) {
            (Some(names), _) => Names::Listed(names.into_iter()),
            (None, Some(target)) => Names::Target(Box::new(Resolution::new(hosts, &target)?)),
            (None, None) => match &scope {
                Some(scope) => return Err(scope.unnamed()),
                None => Names::Online(0),
            },
        };
        let naming = Naming {
            requester,
            purpose,
            names,
            scope,
            count,
            named: Named::default(),
        };
        self.begin_job(cx, hosts, Job::Naming(Box::new(naming)));
        Ok(())
    }

    /// Handles the end of the lookup of a request's hosts.
    fn named(&mut self, cx: &mut Ctx<'_>, hosts: Directory<'_>, naming: Naming) {
        let Naming {
            requester,
            purpose,
            named,
            names,
            ..
        } = naming;
        if let Purpose::Plan(options) = purpose {
            if let Err(refusal) = check_expected(&options, &named) {
                return cx.respond(requester, refusal.into());
            }
            let planning = Planning::new(requester, &options, named);
            return self.begin_job(cx, hosts, Job::Planning(Box::new(planning)));
        }
        let everyone = matches!(names, Names::Online(_));
        let purpose = match purpose {
            Purpose::Task(task) if needs_locating(cx, &named, everyone) => {
                return self.locate(cx, requester, Located::Task(task), named, everyone);
            }
            Purpose::Command(command) if needs_locating(cx, &named, everyone) => {
                return self.locate(cx, requester, Located::Command(command), named, everyone);
            }
            purpose => purpose,
        };
        if named.hosts.is_empty() {
            let text = match names {
                Names::Target(_) => "the target leaves no host",
                Names::Listed(_) | Names::Online(_) => "no host is online",
            };
            return cx.respond(requester, wrong(text.to_owned()).into());
        }
        match purpose {
            Purpose::Plan(_) => {}
            Purpose::Task(task) => {
                if let Err(refusal) = self.store_task(cx, requester, task, named) {
                    cx.respond(requester, refusal.into());
                }
            }
            Purpose::Command(command) => {
                let commanding = Commanding::new(requester, command, named);
                self.begin_job(cx, hosts, Job::Commanding(Box::new(commanding)));
            }
        }
    }
}

fn too_many() -> Refusal {
    not_now("too many requests with many hosts are under way")
}

impl Named {
    /// Holds the hosts from the `first`-th on, in the order of their names.
    pub(crate) fn hold_from(&mut self, first: usize) {
        let hosts = Arc::make_mut(&mut self.hosts);
        for place in self.places.values().skip(first) {
            let (_, state) = &mut hosts[*place as usize];
            match state {
                TaskState::Sent => self.sent -= 1,
                TaskState::Queued => self.queued -= 1,
                _ => {}
            }
            *state = TaskState::Held;
        }
        // Their nodes are looked up when their wave begins.
        if let Some(held) = self.places.keys().nth(first) {
            self.rings.retain(|_, hosts| {
                hosts.retain(|host| host < held);
                !hosts.is_empty()
            });
        }
    }

    /// One more host that another node holds.
    pub(super) fn add_elsewhere(&mut self, host: HostId, node: &str) {
        let count = self.hosts.len();
        self.add(host.clone(), |_| (TaskState::Sent, false));
        if self.hosts.len() > count {
            self.ring(node, host);
        }
    }

    /// The host in this place, which is offline here, is held by another node.
    pub(super) fn found_elsewhere(&mut self, place: usize, node: &str) {
        let hosts = Arc::make_mut(&mut self.hosts);
        let Some((host, state)) = hosts.get_mut(place) else {
            return;
        };
        self.queued -= usize::from(*state == TaskState::Queued);
        self.sent += usize::from(*state != TaskState::Sent);
        *state = TaskState::Sent;
        let host = host.clone();
        self.unknown.retain(|unknown| *unknown != host);
        self.ring(node, host);
    }

    /// Returns whether a host was found at another node, once the rings are sorted.
    pub(super) fn is_elsewhere(&self, host: &HostId) -> bool {
        let mut rings = self.rings.values();
        rings.any(|hosts| hosts.binary_search(host).is_ok())
    }

    /// All hosts have been found: sorts the rings.
    pub(super) fn sort_rings(&mut self) {
        self.rings.values_mut().for_each(|hosts| hosts.sort());
    }

    fn ring(&mut self, node: &str, host: HostId) {
        match self.rings.get_mut(node) {
            Some(hosts) => hosts.push(host),
            None => {
                self.rings.insert(node.to_owned(), vec![host]);
            }
        }
    }

    /// Adds a host once; `look` finds its state, and whether it is unknown.
    fn add(&mut self, host: HostId, look: impl FnOnce(&HostId) -> (TaskState, bool)) {
        let std::collections::btree_map::Entry::Vacant(place) = self.places.entry(host) else {
            return;
        };
        let host = place.key().clone();
        place.insert(self.hosts.len() as u32);
        let (state, is_unknown) = look(&host);
        if is_unknown {
            self.unknown.push(host.clone());
        }
        self.sent += usize::from(state == TaskState::Sent);
        self.queued += usize::from(state == TaskState::Queued);
        // Not shared yet, so nothing is cloned.
        Arc::make_mut(&mut self.hosts).push((host, state));
    }
}
