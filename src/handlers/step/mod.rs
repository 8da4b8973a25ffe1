//! One step of the core: routes an input to the parts, and carries facts between them.

mod foreign;
mod history;
mod identity;
mod labels;
mod nodes;
mod presence;
mod reports;
mod requests;
mod results;
mod sends;
mod store;

pub(crate) use self::identity::NO_SUCH_TASK;

use std::net::{IpAddr, SocketAddr};

use crate::codec::message::{Incoming, Message, ReplyRequest, Word};
use crate::codec::{Abnormal, DecodeError};
use crate::ids::{ConnId, HostId};
use crate::store::op::{Outcome, Reason};
use crate::time::Instant;

use crate::handlers::auth::{Auth, Barred};
use crate::handlers::context::Ctx;
use crate::handlers::directory::Directory;
use crate::handlers::effect::Effect;
use crate::handlers::fleet::Fleet;
use crate::handlers::fleet::host::Host;
use crate::handlers::fleet::session::Session;
use crate::handlers::outbox::Outbox;
use crate::handlers::stats::LATENESS_BOUNDS;
use crate::handlers::survey::Surveys;
use crate::handlers::tasks::Tasks;
use crate::handlers::tasks::peers::Peers;
use crate::handlers::{End, Flow, Input};

/// The core during one step: its parts, and the context of the step.
#[derive(Debug)]
pub(crate) struct Step<'a> {
    pub(crate) fleet: &'a mut Fleet,
    pub(crate) tasks: &'a mut Tasks,
    pub(crate) outbox: &'a mut Outbox,
    pub(crate) auth: &'a mut Auth,
    pub(crate) surveys: &'a mut Surveys,
    pub(crate) cx: Ctx<'a>,
}

/// Connections whose rows are prefetched together when their deadlines have come.
const LOOKED_AT_TOGETHER: usize = 32;

impl Step<'_> {
    /// Handles an input.
    pub(super) fn handle(&mut self, input: Input<'_>) -> Flow {
        match input {
            Input::Opened { conn, peer } => self.opened(conn, peer),
            Input::Certified { conn, name } => self.certified(conn, name),
            Input::Revoked { conn, why } => self.revoked(conn, why),
            Input::Message { conn, incoming } => return self.message(conn, incoming),
            Input::Abnormal { conn, error } => self.abnormal(conn, &error),
            Input::Ended { conn, end } => self.ended(conn, end),
            Input::Outcome(outcome) => self.outcome(outcome),
            Input::Raw { conn, bytes } => return self.raw(conn, bytes),
            Input::Datagram { from, incoming } => self.datagram(from, &incoming),
            Input::Signed {
                from,
                incoming,
                signature,
            } => self.signed_datagram(from, &incoming, &signature),
            Input::Request { requester, request } => self.request(requester, request),
        }
        Flow::Taken
    }

    /// Does what is due at `judge`.
    pub(super) fn tick(&mut self, judge: Instant) {
        let due = self.fleet.expire(judge);
        for together in due.chunks(LOOKED_AT_TOGETHER) {
            self.fleet.prefetch(together);
            for slot in together {
                self.on_deadline(*slot, judge);
            }
        }
        self.fleet.recycle(due);
        self.judge_inherited(judge);
        self.tasks.look_at_deliveries(&mut self.cx, judge);
        self.tasks.look_at_tasks(&mut self.cx, judge);
        self.tasks.look_at_commands(judge);
        self.tasks.look_at_rollouts(judge);
        self.tasks.hurry_dispatches(&mut self.cx, judge);
        self.tasks.hurry_reads(&mut self.cx, judge);
        let hosts = Directory::new(self.fleet, self.auth);
        self.tasks.look_at_peers(&mut self.cx, hosts, judge);
        self.hurry_results(judge);
        self.rounds(judge);
        self.resume_if_plenty();
    }

    fn opened(&mut self, conn: ConnId, peer: SocketAddr) {
        self.fleet.open(&self.cx, conn, peer);
        self.narrow_unproven(conn);
    }

    fn message(&mut self, conn: ConnId, incoming: Incoming<'_>) -> Flow {
        if self.cx.stopping || !self.fleet.is_open(conn) {
            return Flow::Taken;
        }
        let Incoming { message, ask } = incoming;
        let flag = message.flag();
        let is_fresh = self.fleet.session(conn).is_none_or(|s| s.host().is_none());
        let ip = self.fleet.peer(conn).ip();
        match (self.auth.gate(conn, &message, is_fresh, ip), &message) {
            (Err(Barred::OutOfPlace(what)), _) => self.out_of_place(conn, what),
            (Err(Barred::Refused(why)), _) => self.refuse_hello(conn, ask, why),
            (Ok(()), Message::KeyedHello(hello)) => self.challenge(conn, hello, ask),
            (Ok(()), Message::Proof(proof)) => self.proof(conn, proof, ask),
            (Ok(()), Message::Hello(hello)) => {
                self.hello(conn, hello, ask);
                self.cx.count(flag);
            }
            (Ok(()), _) => return self.host_message(conn, message, ask),
        }
        Flow::Taken
    }

    /// Handles a message that is no hello.
    fn host_message(&mut self, conn: ConnId, message: Message<'_>, ask: ReplyRequest) -> Flow {
        let flag = message.flag();
        let Some(slot) = self.resolve_host(conn) else {
            return Flow::Taken;
        };
        let is_report = matches!(message, Message::Progress(_) | Message::Answer(_));
        let barred = if !is_report {
            None
        } else if self.auth.is_proven(conn) {
            self.keep_to_own(conn, slot, &message, ask)
        } else if self.cx.is_starting() && self.auth.has_keys() {
            // The store has not reported yet which hosts have proved a key.
            Some(self.hold(conn, slot, 0))
        } else {
            None
        };
        let barred = barred.or_else(|| self.wait_for_tasks(conn, slot, &message));
        let flow = match (barred, message) {
            (Some(flow), _) => flow,
            (None, Message::Heartbeat) => {
                if ask.reply {
                    self.cx.reply(conn, flag, ask.seq, Word::Alive);
                }
                self.counted_beat(conn, slot);
                Flow::Taken
            }
            (None, Message::Progress(progress)) => self.progress(conn, slot, &progress, ask),
            (None, Message::Answer(answer)) => self.answer(conn, slot, &answer, ask),
            (None, Message::Inventory(inventory)) => {
                let is_due = self
                    .fleet
                    .take_inventory(&mut self.cx, conn, slot, &inventory, ask);
                if is_due {
                    self.outbox.queue_inventory(slot);
                }
                Flow::Taken
            }
            (None, Message::Book(book)) => self.book(conn, slot, &book, ask),
            (None, Message::Result(header)) => self.result(conn, slot, &header, ask),
            (None, Message::Hello(_) | Message::KeyedHello(_) | Message::Proof(_)) => Flow::Taken,
        };
        if flow != Flow::Wait && self.touch(conn) {
            self.cx.count(flag);
        }
        flow
    }

    /// Has a message about a task wait, if its host has just connected beside other nodes: the task
    /// may be one that another node sent.
    fn wait_for_tasks(&mut self, conn: ConnId, slot: u32, message: &Message<'_>) -> Option<Flow> {
        let is_about_task = matches!(
            message,
            Message::Progress(_) | Message::Answer(_) | Message::Book(_) | Message::Result(_)
        );
        if !is_about_task || !self.cx.has_other_nodes() {
            return None;
        }
        let host = self.fleet.id(slot)?;
        (self.tasks.is_unsettled(&host)).then(|| self.hold(conn, slot, 0))
    }

    /// Returns whether a message about a task that is not known here has to wait: another node may
    /// have sent it.
    pub(super) fn looks_up(&mut self, slot: u32, code: &str) -> bool {
        self.cx.has_other_nodes()
            && self.cx.is_store_up()
            && self
                .fleet
                .id(slot)
                .is_some_and(|host| self.tasks.look_up(&self.cx, &host, code))
    }

    /// Resumes connections whose hosts' tasks are known by now.
    pub(super) fn resume_settled(&mut self) {
        if self.tasks.take_settled() {
            self.resume_results();
        }
    }

    /// Notes that a connection has sent a valid message. Returns whether it is still open.
    pub(crate) fn touch(&mut self, conn: ConnId) -> bool {
        let is_open = self.fleet.touch(conn, self.cx.at.now);
        if is_open {
            self.outbox.note_seen(conn.slot, self.cx.at.now);
        }
        is_open
    }

    /// Ends a connection for abnormal data.
    pub(super) fn abnormal(&mut self, conn: ConnId, error: &DecodeError) {
        let label = error.kind.label();
        if let Some(place) = Abnormal::LABELS.iter().position(|known| *known == label) {
            self.cx.stats.abnormal[place] += 1;
        }
        if self.fleet.session(conn).is_none() {
            return;
        }
        let who = self.fleet.name_of(conn);
        let peer = self.fleet.peer(conn).address();
        let text = format!("{error} ({label}), from {peer}");
        self.cx.log(log::Level::Warn, "abnormal", who, text);
        self.close(conn, Reason::Abnormal);
    }

    fn ended(&mut self, conn: ConnId, end: End) {
        if self.cx.stopping {
            return;
        }
        let reason = match end {
            End::Closed => Reason::Closed,
            End::Reset => Reason::Reset,
            End::Dead => Reason::Timeout,
        };
        self.end_session(conn, reason);
    }

    fn outcome(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Held(held) => self.held(held),
            Outcome::Available {
                lease_clear,
                lost_data,
                ..
            } => self.store_up(lease_clear, lost_data),
            Outcome::Nodes { are_several } => self.nodes_changed(are_several),
            // The state machines of devices and targets take it.
            Outcome::Polls(_) => {}
            Outcome::LeaseClear => self.fleet.clear_lease(),
            Outcome::NameTaken => self.cx.fx.push(Effect::Stop {
                status: 1,
                why: "another living server has this server.name and holds its hosts".to_owned(),
            }),
            Outcome::Refused(why) => self.store_unusable(2, format!("store.url: {why}")),
            Outcome::Damaged(why) => self.store_unusable(1, why),
            Outcome::Unavailable(why) => self.store_away(why),
            Outcome::Presence { ticket, settled } => self.presence_settled(ticket, settled),
            Outcome::Inventory {
                origins,
                ticket,
                result,
            } => {
                self.fleet
                    .inventory_settled(&mut self.cx, ticket, origins, result);
            }
            Outcome::Labels {
                ticket,
                place,
                result,
            } => self.labels_written(ticket, place, result),
            Outcome::Seen => self.outbox.seen_settled(),
            Outcome::Audited => self.outbox.audit_settled(),
            Outcome::StatesWritten if self.cx.is_store_up() => {
                self.tasks.states_written(self.cx.at.now);
            }
            Outcome::StatesWritten => {}
            Outcome::Rollout { key, is_ours } => self.tasks.rollout_written(&key, is_ours),
            Outcome::Tasks(held) => {
                let hosts = Directory::new(self.fleet, self.auth);
                self.tasks.hold_tasks(&mut self.cx, hosts, held, false);
            }
            Outcome::Bells(bells) => {
                let hosts = Directory::new(self.fleet, self.auth);
                self.tasks.take_bells(&mut self.cx, hosts, bells);
            }
            Outcome::Ended(hosts) => self.hosts_ended(hosts),
            Outcome::InheritedTasks(held) => {
                let hosts = Directory::new(self.fleet, self.auth);
                self.tasks.hold_tasks(&mut self.cx, hosts, held, true);
            }
            Outcome::Dispatched { request, stored } => {
                let hosts = Directory::new(self.fleet, self.auth);
                self.tasks.dispatched(&mut self.cx, hosts, request, stored);
            }
            Outcome::Restored { key, stored } => self.tasks.restored(&mut self.cx, &key, &stored),
            Outcome::Read { ticket, found } => {
                self.tasks.read_answered(ticket);
                if let Some((requester, reading)) = self.tasks.take_hosts(ticket) {
                    return self.hosts_read(requester, reading, found);
                }
                if let Some((requester, reading)) = self.tasks.take_history(ticket) {
                    return self.history_read(requester, reading, found);
                }
                let hosts = Directory::new(self.fleet, self.auth);
                if Peers::is_look(ticket) {
                    self.tasks.look_settled(&mut self.cx, hosts, ticket, found);
                    return self.resume_settled();
                }
                self.tasks.read_settled(&mut self.cx, hosts, ticket, found);
            }
            Outcome::Report { origin, result } => {
                self.report_settled(origin, result);
            }
        }
    }

    /// Judges the connection in `slot`, whose deadline has come: it is silent, or has sent something
    /// since.
    fn on_deadline(&mut self, slot: u32, judge: Instant) {
        let Some(due) = self.fleet.due(&self.cx, slot, judge) else {
            return;
        };
        let plain = due.host.filter(|_| due.is_plain);
        let busy = plain.and_then(|host| self.may_be_silent_until(due.conn, host));
        if due.host.is_some() && busy.is_none() {
            let timeout = self.cx.rules.timeout.as_nanos();
            let silence = (judge + self.cx.rules.timeout).since(due.silent).as_nanos();
            let part = u128::from(silence) * 1_000_000_000 / u128::from(timeout.max(1));
            let part = u64::try_from(part).unwrap_or(u64::MAX);
            self.cx.stats.lateness.record(&LATENESS_BOUNDS, part);
        }
        let deadline = match busy {
            // Examined again within a timeout: work may end long before its limit.
            Some(until) if until > due.silent && judge >= due.silent => {
                until.min(judge + self.cx.rules.timeout)
            }
            _ => due.silent,
        };
        if deadline > judge {
            return self.fleet.arm(due.conn, deadline);
        }
        if due.host.is_none() {
            let peer = self.fleet.peer(due.conn).address();
            self.cx.stats.speechless += 1;
            let text = format!("no valid message in time, from {peer}");
            self.cx.log(log::Level::Info, "speechless", peer.ip(), text);
        }
        self.close(due.conn, Reason::Timeout);
    }

    /// Handles a heartbeat of a connection whose heartbeats are counted.
    fn counted_beat(&mut self, conn: ConnId, slot: u32) {
        let is_plain = self.fleet.is_plain(slot);
        let Some(host) = self.fleet.host(slot).map(Host::id) else {
            return;
        };
        if !self.tasks.counted_beat(&mut self.cx, conn, &host, is_plain) {
            self.fleet.watch(conn, false);
        }
    }

    /// Notes that a host has made a report. Returns whether it is a plain one; its heartbeats are
    /// counted from now on.
    pub(crate) fn note_plain_report(
        &mut self,
        conn: ConnId,
        slot: u32,
        host: &HostId,
        leaves_nothing: bool,
    ) -> bool {
        let is_plain = self.fleet.is_plain(slot);
        if is_plain {
            self.tasks
                .sequence_begins(&self.cx, conn, host, leaves_nothing);
            self.fleet.watch(conn, true);
        }
        is_plain
    }

    /// A plain connection has become one of a host's.
    pub(crate) fn connected_anew(&mut self, conn: ConnId, slot: u32) {
        if !self.tasks.has_busy_hosts() {
            return;
        }
        let host = self.fleet.host(slot).map(Host::id);
        if host.is_some_and(|host| self.tasks.connected_anew(&self.cx, &host)) {
            self.fleet.watch(conn, true);
        }
    }

    /// Time until which a host counts as busy, regardless of its heartbeats.
    fn working_until(&self, slot: u32) -> Option<Instant> {
        if !self.tasks.has_busy_hosts() {
            return None;
        }
        let host = self.fleet.host(slot)?.id();
        self.tasks.working_until(&self.cx, &host)
    }

    /// Starts to count the heartbeats of busy plain hosts: the tasks of before the restart are
    /// known.
    pub(crate) fn watch_busy_hosts(&mut self) {
        let plain = |(conn, session): (ConnId, &Session)| {
            let host = session.host().filter(|_| !session.identified)?;
            Some((conn, host))
        };
        let all: Vec<(ConnId, u32)> = self.fleet.sessions().filter_map(plain).collect();
        for (conn, slot) in all {
            if self.working_until(slot).is_some() {
                self.fleet.watch(conn, true);
            }
        }
    }

    /// Time until which the host of a plain connection may be silent.
    fn may_be_silent_until(&mut self, conn: ConnId, slot: u32) -> Option<Instant> {
        let until = self.working_until(slot);
        let until = until.filter(|until| *until > self.cx.at.now)?;
        if self.tasks.is_idle(conn) {
            return None;
        }
        // The host may have answered by datagram, or over another connection.
        self.fleet.watch(conn, true);
        Some(until)
    }

    /// Returns whether a host held over a restart has more time to reconnect: a plain host in the
    /// middle of a command notices the restart only after its command.
    pub(crate) fn may_come_back_late(&self, slot: u32) -> bool {
        // Only a host's own address can be an id with the form of an address.
        let is_plain = |host: &Host| host.id().as_str().parse::<IpAddr>().is_ok();
        let until = self.working_until(slot);
        self.fleet.host(slot).is_some_and(is_plain)
            && until.is_some_and(|until| until > self.cx.at.now)
    }
}
