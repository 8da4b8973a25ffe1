//! A model of the store that answers at once and checks every transition of states.

use super::*;

/// A model of the store's content: enough of it to check presence.
#[derive(Debug, Default)]
pub(super) struct Model {
    pub(super) exists: BTreeSet<String>,
    pub(super) claims: BTreeMap<String, (u64, bool)>,
    /// Hosts stored as having proved a key.
    pub(super) keyed: BTreeSet<String>,
    pub(super) events: Vec<String>,
    pub(super) reports: usize,
    pub(super) inventories: Vec<String>,
    pub(super) labels: Vec<String>,
    pub(super) seen: BTreeMap<String, u64>,
    pub(super) tasks: BTreeMap<String, ModelTask>,
    pub(super) results: Vec<TaskResult>,
    /// A key has the wrong type: presence is partly written, and refused.
    pub(super) spoilt: bool,
    /// Hosts whose end began the lifetime of a task anew, by `TaskStates`.
    pub(super) renewed: usize,
    /// Tasks written again, those that were still there included.
    pub(super) restored: usize,
}

/// A task in the store.
#[derive(Clone, Debug)]
pub(super) struct ModelTask {
    pub(super) created: UnixMs,
    pub(super) request: u64,
    pub(super) commands: Vec<(String, f64)>,
    pub(super) states: BTreeMap<HostId, TaskState>,
    pub(super) rollout: Option<String>,
}

impl Model {
    pub(super) fn run(&mut self, op: Op) -> Option<Outcome> {
        match op {
            Op::Online(op) => {
                let is_new = !self.claims.contains_key(op.host.as_str());
                let claim = self.claims.entry(op.host.to_string()).or_default();
                *claim = match op.hold {
                    Hold::Renew { epoch } | Hold::Keep { epoch } if claim.1 || is_new => {
                        (claim.0.max(epoch).max(1), true)
                    }
                    _ => (claim.0 + 1, true),
                };
                if op.keyed {
                    self.keyed.insert(op.host.to_string());
                }
                self.exists.insert(op.host.to_string());
                if op.event.is_some() {
                    self.events.push(format!("online {}", op.host));
                }
                let settled = match self.spoilt {
                    true => Settled::Refused("WRONGTYPE".to_owned()),
                    false => Settled::claimed(claim.0),
                };
                Some(Outcome::Presence {
                    ticket: op.ticket,
                    settled,
                })
            }
            Op::Offline(op) => {
                let name = op.host.to_string();
                if self.spoilt {
                    return Some(Outcome::Presence {
                        ticket: op.ticket,
                        settled: Settled::Refused("WRONGTYPE".to_owned()),
                    });
                }
                let claim = self.claims.get(&name).copied().unwrap_or_default();
                let ours = claim.1 && (op.epoch == 0 || op.epoch == claim.0);
                // In `exists` without a holder: the old server left it, or a late audit.
                let adopted = !claim.1 && op.epoch == 0 && self.exists.contains(&name);
                if !ours && !adopted {
                    return Some(Outcome::Presence {
                        ticket: op.ticket,
                        settled: Settled::NotOurs,
                    });
                }
                self.claims.insert(name.clone(), (claim.0, false));
                self.exists.remove(&name);
                if op.event.is_some() {
                    self.events
                        .push(format!("offline {name} {}", op.reason.as_str()));
                }
                Some(Outcome::Presence {
                    ticket: op.ticket,
                    settled: Settled::Released,
                })
            }
            Op::Inventory(op) => {
                self.inventories.push(op.host.to_string());
                let (origins, ticket) = (op.origins, op.ticket);
                Some(Outcome::Inventory {
                    origins,
                    ticket,
                    result: Ok(()),
                })
            }
            Op::Labels(op) => {
                let text = op.text.unwrap_or_default();
                self.labels
                    .push(format!("{:?} {} {text}", op.place, op.host));
                Some(Outcome::Labels {
                    ticket: op.ticket,
                    place: op.place,
                    result: Ok(()),
                })
            }
            Op::Seen(seen) => {
                self.seen
                    .extend(seen.into_iter().map(|(host, at)| (host.to_string(), at.0)));
                Some(Outcome::Seen)
            }
            Op::Forget(host) => {
                let name = host.to_string();
                assert!(
                    !self.exists.contains(&name),
                    "{name} is forgotten and online"
                );
                self.claims.remove(&name);
                self.seen.remove(&name);
                None
            }
            Op::Audit(hosts) => {
                self.exists.extend(hosts.iter().map(HostId::to_string));
                Some(Outcome::Audited)
            }
            Op::Notice(op) => {
                self.events.push(format!("{} {:?}", op.event, op.count));
                None
            }
            Op::Progress(op) => {
                self.reports += 1;
                self.renewed += usize::from(op.lifetime == Lifetime::Over);
                self.become_(&op.key, &op.host, op.state);
                Some(Outcome::Report {
                    origin: op.origin,
                    result: Ok(()),
                })
            }
            Op::Result(op) => {
                self.reports += 1;
                let origin = op.origin;
                self.results.push(*op);
                Some(Outcome::Report {
                    origin,
                    result: Ok(()),
                })
            }
            Op::Outside(op) => panic!("the core knows no {op:?}"),
            Op::Polls(op) => panic!("the core knows no {op:?}"),
            Op::History(_) | Op::Ring(_) | Op::Command(_) | Op::Rung(_) => None,
            Op::Rollout(op) => {
                if let Some(task) = self.tasks.get_mut(op.key.as_str()) {
                    task.rollout = Some(op.text);
                }
                Some(Outcome::Rollout {
                    key: op.key,
                    is_ours: true,
                })
            }
            Op::TaskStates(op) => {
                self.renewed += usize::from(op.over && op.last);
                for (host, state) in &op.states {
                    self.become_(&op.key, host, Some(*state));
                }
                Some(Outcome::StatesWritten)
            }
            Op::Dispatch(op) => {
                let op = *op;
                let request = op.request;
                let is_new = !self.tasks.contains_key(op.key.as_str());
                let stored = if is_new { Stored::Whole } else { Stored::Taken };
                self.tasks
                    .entry(op.key.to_string())
                    .or_insert_with(|| ModelTask {
                        created: op.created,
                        request: op.request,
                        commands: op.commands,
                        states: op.hosts.iter().cloned().collect(),
                        rollout: op.rollout,
                    });
                Some(Outcome::Dispatched { request, stored })
            }
            Op::Restore(op) => {
                let op = *op;
                let key = op.key.clone();
                self.restored += 1;
                self.tasks
                    .entry(op.key.to_string())
                    .or_insert_with(|| ModelTask {
                        created: op.created,
                        request: op.request,
                        commands: op.commands,
                        states: op.hosts.iter().cloned().collect(),
                        rollout: op.rollout,
                    });
                let stored = Stored::Whole;
                Some(Outcome::Restored { key, stored })
            }
            Op::Read(op) => Some(Outcome::Read {
                ticket: op.ticket,
                found: self.read(op.question),
            }),
            Op::Answer(op) => {
                self.reports += 1;
                self.become_(&op.key, &op.host, op.state);
                Some(Outcome::Report {
                    origin: op.origin,
                    result: Ok(()),
                })
            }
        }
    }

    /// A state comes by a report or by itself: always along the arrows, though states that were passed
    /// while the store was away may be left out.
    fn become_(&mut self, key: &TaskKey, host: &HostId, next: Option<TaskState>) {
        let (Some(task), Some(next)) = (self.tasks.get_mut(key.as_str()), next) else {
            return;
        };
        let state = task.states.get_mut(host).expect("a host that is named");
        assert!(
            is_within_reach(*state, next),
            "{key} {host}: {state:?} to {next:?}"
        );
        *state = next;
    }

    fn read(&self, question: Question) -> Found {
        let of = |code: &str, host: &HostId| {
            let own = |result: &&TaskResult| result.code == code && result.host == *host;
            let results = self.results.iter().filter(own);
            let results = results.map(|result| FoundResult {
                command: result.command.clone(),
                exit: result.exit,
                seconds: result.seconds,
                size: result.size,
                sha256: result.sha256.clone(),
                truncated: result.truncated,
                output: result.output.clone().into_bytes(),
            });
            results.collect::<Vec<_>>()
        };
        let found = |code: &str, hosts: &[HostId]| {
            let found = hosts.iter().map(|host| FoundHost {
                results: of(code, host),
                ..FoundHost::default()
            });
            Found::Task(found.collect())
        };
        match question {
            Question::Task { key, hosts } => found(key.as_str(), &hosts),
            Question::Command { cid, hosts } => found(&cid, &hosts),
            Question::Whole { key } => {
                let task = self.held_tasks().into_iter().find(|task| task.key == key);
                Found::Whole(task.map(Box::new))
            }
            Question::Results {
                key,
                command,
                hosts,
            } => {
                let result = |host: &HostId| {
                    let mut own = of(key.as_str(), host).into_iter();
                    own.find(|result| result.command == command)
                };
                Found::Results(hosts.iter().map(result).collect())
            }
            Question::Transitions { hosts } => {
                Found::Transitions(hosts.iter().map(|_| Vec::new()).collect())
            }
            Question::Nodes => Found::Nodes(Vec::new()),
            Question::Outside { .. } => Found::Outside(Box::default()),
            Question::Hosts { .. } | Question::Scan(_) => Found::Nothing(String::new()),
            Question::Part { .. }
            | Question::Open { .. }
            | Question::Holders { .. }
            | Question::Keepers { .. }
            | Question::CommandRecord { .. }
            | Question::TakeCommand { .. }
            | Question::Others { .. } => Found::Nothing("one node".to_owned()),
            Question::FleetHistory { .. } => Found::FleetHistory(Box::default()),
            Question::Output {
                code,
                host,
                command,
            } => {
                let mut found = of(&code, &host).into_iter();
                let found = found.find(|result| result.command == command);
                Found::Output(found.map(|result| result.output))
            }
        }
    }

    pub(super) fn held_tasks(&self) -> Vec<HeldTask> {
        let failed = |key: &str, host: &HostId| {
            let mut results = self.results.iter();
            results.any(|r| r.code == key && r.host == *host && r.exit != 0)
        };
        let held = |(key, task): (&String, &ModelTask)| HeldTask {
            epoch: 0,
            key: TaskKey::parse(key, "AC").unwrap(),
            created: task.created,
            queue: false,
            request: task.request,
            commands: task.commands.clone(),
            hosts: task
                .states
                .iter()
                .map(|(host, state)| (host.clone(), *state, failed(key, host)))
                .collect(),
            expires: true,
            rollout: task.rollout.clone(),
        };
        self.tasks.iter().map(held).collect()
    }

    pub(super) fn held(&self) -> Vec<HeldHost> {
        let ours = |(name, (epoch, ours)): (&String, &(u64, bool))| HeldHost {
            host: HostId::checked(name).unwrap(),
            ours: *ours,
            epoch: *epoch,
            peer: format!("{name}:4000").parse().ok(),
            keyed: self.keyed.contains(name),
            since: UnixMs(WALL - 5_000),
            seen: UnixMs(WALL - 1_000),
            reason: (!ours).then_some(Reason::Closed),
            hostname: None,
            mac: None,
            addresses: Vec::new(),
            admin_labels: None,
            host_labels: None,
        };
        self.claims.iter().map(ours).collect()
    }
}

/// Returns whether `state` can become `next` in any number of steps.
fn is_within_reach(state: TaskState, next: TaskState) -> bool {
    let mut reached = vec![state];
    let mut looked_at = 0;
    while let Some(state) = reached.get(looked_at).copied() {
        looked_at += 1;
        let new = |other: &TaskState| state.may_become(*other) && !reached.contains(other);
        let new: Vec<TaskState> = TaskState::ALL.into_iter().filter(new).collect();
        reached.extend(new);
    }
    reached.contains(&next)
}
