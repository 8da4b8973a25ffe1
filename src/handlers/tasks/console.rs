//! Console commands: one line to many hosts, stored nowhere. A host that takes pushes is sent the
//! command until it answers, and runs it once. Any other host is sent it once.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet, VecDeque};
use std::net::SocketAddr;

use crate::codec::message::Push;
use crate::ids::HostId;
use crate::limits::{
    BELL_HOPS_MAX, DATAGRAM_BYTES_MAX, DATAGRAM_SIGNED_BYTES_MAX, PAGE_TASK_HOSTS_MAX,
};
use crate::store::op::{CommandRecord, CommandState, Found, FoundHost, Question};
use crate::time::Instant;

use crate::handlers::auth::{Way, over};
use crate::handlers::context::Ctx;
use crate::handlers::directory::Directory;
use crate::handlers::request::{CommandView, ErrorKind, Response};
use crate::handlers::tasks::Tasks;
use crate::handlers::tasks::commands::{Command, CommandHost};
use crate::handlers::tasks::dispatch::{Refusal, not_now, wrong};
use crate::handlers::tasks::jobs::{Job, Named, Purpose, Whom};
use crate::handlers::tasks::peers::CommandBell;
use crate::handlers::tasks::reads::{Reading, unknown};
use crate::handlers::tasks::sends::Outgoing;

/// Requester of a command of another node: no response reaches it.
const NO_REQUESTER: u64 = u64::MAX;
/// Hexadecimal digits of a command's id.
const CID_DIGITS: usize = 32;

/// Returns whether a command fits a signed datagram, with the longest number.
fn fits_signed(text: &str, cid: &str) -> bool {
    let (text, cid) = (Cow::Borrowed(text), Cow::Borrowed(cid));
    let push = Push::Command { text, cid };
    let longest = crate::codec::signed(&over(&push), None, u64::MAX, &[0; 32]);
    longest.len() <= DATAGRAM_SIGNED_BYTES_MAX
}

/// A console command that is being shown.
#[derive(Debug)]
pub(crate) struct Showing {
    pub(crate) requester: u64,
    pub(crate) view: CommandView,
    /// Number of its hosts.
    pub(crate) count: usize,
    /// Outputs of hosts, by name.
    found: VecDeque<(HostId, FoundHost)>,
    /// Hosts of a command that the store has for all nodes, by name.
    stored: Option<VecDeque<(HostId, CommandState)>>,
}

fn not_new() -> Refusal {
    wrong("the command's id must be new, 32 hex digits".to_owned())
}

/// A console command whose text has been checked, but not its hosts.
#[derive(Debug)]
pub(crate) struct NewCommand {
    pub(crate) text: String,
    pub(crate) cid: String,
}

/// A console command whose ways to its hosts are being looked up.
#[derive(Debug)]
pub(crate) struct Commanding {
    requester: u64,
    command: NewCommand,
    /// It fits a signed datagram; `None` before the check.
    fits_signed: Option<bool>,
    named: Named,
    addresses: HashSet<SocketAddr>,
    /// Places among the entries that it is sent to.
    sends: Vec<usize>,
    entries: Vec<CommandHost>,
    told: Vec<(HostId, bool)>,
    /// Hosts that were never seen, by name.
    unknown: Vec<HostId>,
    /// Another node was asked to send it, and has rung this one.
    is_part: bool,
}

impl Commanding {
    /// The command of this requester, to these hosts.
    pub(crate) fn new(requester: u64, command: NewCommand, named: Named) -> Self {
        Self {
            requester,
            command,
            fits_signed: None,
            named,
            addresses: HashSet::new(),
            sends: Vec::new(),
            entries: Vec::new(),
            told: Vec::new(),
            unknown: Vec::new(),
            is_part: false,
        }
    }

    /// The command of another node, to these hosts of this one.
    fn part(command: NewCommand, hosts: Vec<HostId>) -> Self {
        let mut named = Named::default();
        for (place, host) in hosts.into_iter().enumerate() {
            named.places.insert(host, place as u32);
        }
        Self {
            is_part: true,
            ..Self::new(NO_REQUESTER, command, named)
        }
    }

    /// The requester.
    pub(crate) fn requester(&self) -> u64 {
        self.requester
    }

    /// Looks up the way to at most `max` more hosts. Returns whether these were the last.
    pub(crate) fn step(
        &mut self,
        cx: &Ctx<'_>,
        hosts: Directory<'_>,
        max: usize,
    ) -> Result<bool, Refusal> {
        for _ in 0..max {
            let Some((id, _)) = self.named.places.pop_first() else {
                break;
            };
            let sent = hosts.is_online(&id) || self.named.is_elsewhere(&id);
            match hosts.way_to(cx, &id) {
                // Another host at this address gets the same datagram.
                Some(Way::Datagram(to)) if !self.addresses.insert(to) => {}
                Some(Way::Signed(..)) if !self.fits_signed() => {
                    return Err(wrong(format!(
                        "the command is longer than {DATAGRAM_SIGNED_BYTES_MAX} bytes when signed"
                    )));
                }
                Some(_) => self.sends.push(self.entries.len()),
                None => {}
            }
            if !self.named.unknown.is_empty() && !hosts.is_known(&id) {
                self.unknown.push(id.clone());
            }
            self.told.push((id.clone(), sent));
            self.entries.push(CommandHost {
                id,
                sent,
                answered: false,
                results: 0,
                tries: 0,
            });
        }
        Ok(self.named.places.is_empty())
    }

    fn fits_signed(&mut self) -> bool {
        let NewCommand { text, cid } = &self.command;
        *self
            .fits_signed
            .get_or_insert_with(|| fits_signed(text, cid))
    }
}

impl Tasks {
    /// Sends a command after the ways to all its hosts are known.
    pub(crate) fn commanded(&mut self, cx: &mut Ctx<'_>, commanding: Commanding) {
        let (requester, is_part) = (commanding.requester, commanding.is_part);
        let rings = commanding.named.rings.clone();
        let cid = commanding.command.cid.clone();
        let answer = self.send_out_command(cx, commanding);
        if is_part {
            return;
        }
        match answer {
            Ok(answer) if !rings.is_empty() => {
                for (node, hosts) in rings {
                    self.peers.ring_command(&node, &cid, &hosts, 0);
                }
                self.confirm_command(cx, requester, cid, answer);
            }
            answer => cx.respond(requester, answer.unwrap_or_else(Response::from)),
        }
    }

    fn send_out_command(
        &mut self,
        cx: &Ctx<'_>,
        commanding: Commanding,
    ) -> Result<Response, Refusal> {
        let Commanding {
            command: NewCommand { text, cid },
            unknown,
            sends,
            entries,
            told,
            is_part,
            named,
            ..
        } = commanding;
        let has_rings = !named.rings.is_empty();
        if self.commands.has(&cid) && !is_part {
            return Err(not_new());
        }
        let is_shared = is_part || has_rings || cx.has_other_nodes();
        let record = (is_shared && !is_part).then(|| CommandRecord {
            cid: cid.clone(),
            text: Some((text.clone(), cx.at.wall)),
            hosts: entries
                .iter()
                .map(|host| {
                    let state = match host.sent {
                        true => CommandState::Sent,
                        false => CommandState::Offline,
                    };
                    (host.id.clone(), state)
                })
                .collect(),
        });
        let number = self.commands.insert(Command {
            cid: cid.clone(),
            text,
            created: cx.at.wall,
            hosts: entries,
            is_shared,
            is_part,
        });
        if let Some(record) = record.filter(|_| number.is_some()) {
            self.peers.record(record);
        }
        let number = number.ok_or_else(|| not_now("a command cannot go to so many hosts"))?;
        let sends = sends.into_iter();
        self.sends
            .extend(sends.map(|index| Outgoing::Command { number, index }));
        Ok(Response::Commanded {
            cid,
            hosts: told,
            unknown,
        })
    }

    /// Sends unanswered commands again.
    pub(crate) fn look_at_commands(&mut self, judge: Instant) {
        while let Some((number, index)) = self.commands.take_due(judge) {
            let host = self.commands.host_mut(number, index);
            if host.is_some_and(|host| !host.answered) {
                self.sends.push_back(Outgoing::Command { number, index });
            }
        }
    }

    /// Shows at most `max` more hosts of a command. Returns whether these were the last.
    ///
    /// # Errors
    /// The answer if the command has been evicted meanwhile.
    pub(crate) fn show_some(&self, showing: &mut Showing, max: usize) -> Result<bool, Response> {
        let Showing {
            view,
            found,
            stored,
            ..
        } = showing;
        if let Some(stored) = stored {
            let count = stored.len().min(max);
            for (id, state) in stored.drain(..count) {
                let own = found.pop_front_if(|(host, _)| *host == id);
                let own = own.map(|(_, found)| found).unwrap_or_default();
                let is_sent = state != CommandState::Offline;
                let has_answered = state == CommandState::Answered;
                view.hosts.push((id, is_sent, has_answered, own));
            }
            return Ok(stored.is_empty());
        }
        let command = self.commands.of(&view.cid).ok_or_else(gone)?;
        let rest = &command.hosts[view.hosts.len()..];
        for host in rest.iter().take(max) {
            let own = found.pop_front_if(|(id, _)| *id == host.id);
            let found = own.map(|(_, found)| found).unwrap_or_default();
            let shown = (host.id.clone(), host.sent, host.answered, found);
            view.hosts.push(shown);
        }
        Ok(view.hosts.len() == command.hosts.len())
    }
}

impl Tasks {
    /// Handles a console command.
    ///
    /// # Errors
    /// When it is refused at once.
    pub(crate) fn command(
        &mut self,
        cx: &mut Ctx<'_>,
        hosts: Directory<'_>,
        requester: u64,
        command: NewCommand,
        whom: Whom,
    ) -> Result<(), Refusal> {
        let NewCommand { text, cid } = &command;
        check_command(text, &cx.rules.key_prefix)?;
        let is_cid = cid.len() == CID_DIGITS && cid.bytes().all(|b| b.is_ascii_hexdigit());
        if !is_cid || self.commands.has(cid) {
            return Err(not_new());
        }
        self.name_hosts(cx, hosts, requester, Purpose::Command(command), whom)
    }

    /// Handles a request for the answers to a command.
    pub(crate) fn command_status(
        &mut self,
        cx: &mut Ctx<'_>,
        hosts: Directory<'_>,
        requester: u64,
        cid: &str,
    ) {
        let command = self.commands.of(cid);
        let Some(command) = command.filter(|command| !command.is_shared) else {
            let is_cid = cid.len() == CID_DIGITS && cid.bytes().all(|b| b.is_ascii_hexdigit());
            if !is_cid || !cx.may_have_other_nodes() {
                return cx.respond(requester, unknown("no such command"));
            }
            let cid = cid.to_owned();
            let question = Question::CommandRecord { cid };
            return self.read(cx, requester, Reading::CommandRecord, question);
        };
        let with_results = command.hosts.iter().filter(|host| host.results > 0);
        let with_results: Vec<HostId> = with_results
            .take(PAGE_TASK_HOSTS_MAX)
            .map(|host| host.id.clone())
            .collect();
        if with_results.is_empty() {
            let cid = cid.to_owned();
            return self.show_command(cx, hosts, requester, (cid, Vec::new(), None), Vec::new());
        }
        self.read_outputs(cx, requester, (cid.to_owned(), with_results), None);
    }

    fn read_outputs(
        &mut self,
        cx: &mut Ctx<'_>,
        requester: u64,
        (cid, hosts): (String, Vec<HostId>),
        stored: Option<Box<CommandRecord>>,
    ) {
        let question = Question::Command {
            cid: cid.clone(),
            hosts: hosts.clone(),
        };
        let reading = Reading::Command { cid, hosts, stored };
        self.read(cx, requester, reading, question);
    }

    /// A command that the store has for all nodes was read for its status.
    pub(super) fn record_read(
        &mut self,
        cx: &mut Ctx<'_>,
        requester: u64,
        record: Option<Box<CommandRecord>>,
    ) {
        let Some(record) = record else {
            return cx.respond(requester, unknown("no such command"));
        };
        let answered = record.hosts.iter();
        let answered = answered.filter(|(_, state)| *state == CommandState::Answered);
        let hosts: Vec<HostId> = answered
            .take(PAGE_TASK_HOSTS_MAX)
            .map(|(host, _)| host.clone())
            .collect();
        self.read_outputs(cx, requester, (record.cid.clone(), hosts), Some(record));
    }

    /// A command with the outputs of its hosts that were found.
    pub(crate) fn show_command(
        &mut self,
        cx: &mut Ctx<'_>,
        hosts: Directory<'_>,
        requester: u64,
        (cid, asked, stored): (String, Vec<HostId>, Option<Box<CommandRecord>>),
        found: Vec<FoundHost>,
    ) {
        let (text, created, count, stored) = match (stored, self.commands.of(&cid)) {
            (Some(record), _) => {
                let (text, created) = record.text.unwrap_or_default();
                let count = record.hosts.len();
                (text, created, count, Some(VecDeque::from(record.hosts)))
            }
            (None, Some(command)) => {
                let count = command.hosts.len();
                (command.text.clone(), command.created, count, None)
            }
            (None, None) => return cx.respond(requester, gone()),
        };
        let view = CommandView {
            cid,
            text,
            created,
            hosts: Vec::new(),
        };
        let found = asked.into_iter().zip(found).collect();
        let showing = Showing {
            requester,
            view,
            count,
            found,
            stored,
        };
        self.begin_showing(cx, hosts, showing);
    }
}

/// Console commands to hosts of other nodes.
///
/// ```text
///   n1: hosts located ─▶ Op::Command: text, states ─▶ Op::Ring ─▶ inbox of n2 ─▶ 202
///   n2: TakeCommand: the entry is deleted, then the text is read ─▶ sent ─▶ answers: Op::Command
/// ```
///
/// The entry is deleted first, since a host without pushes runs each copy of a command.
impl Tasks {
    /// An entry of the inbox with a command is deleted: sends it to the hosts that are connected here.
    pub(super) fn command_taken(
        &mut self,
        cx: &mut Ctx<'_>,
        hosts: Directory<'_>,
        mut bell: CommandBell,
        found: Found,
    ) {
        let Found::CommandRecord(Some(record)) = found else {
            // Deleted before, or older than the store keeps it.
            return self.peers.done_with(bell.entry);
        };
        let text = record.text.map(|(text, _)| text).unwrap_or_default();
        let named = std::mem::take(&mut bell.hosts);
        let (own, moved) = named.into_iter().partition(|host| hosts.is_online(host));
        bell.hosts = moved;
        let cid = bell.cid.clone();
        match bell.hosts.is_empty() {
            true => self.peers.done_with(bell.entry),
            false => self.peers.look_at_moved(bell),
        }
        let own: Vec<HostId> = own;
        if !own.is_empty() && check_command(&text, &cx.rules.key_prefix).is_ok() {
            let commanding = Commanding::part(NewCommand { text, cid }, own);
            self.begin_job(cx, hosts, Job::Commanding(Box::new(commanding)));
        }
    }

    /// The nodes that hold hosts of a command are known, which are not at this node: rings them.
    pub(super) fn command_moved(&mut self, hosts: Directory<'_>, bell: CommandBell, found: Found) {
        let holders = match found {
            Found::Holders(holders) if bell.entry.hops < BELL_HOPS_MAX => *holders,
            _ => Default::default(),
        };
        let mut rings: BTreeMap<&str, Vec<HostId>> = BTreeMap::new();
        let mut unheld = Vec::new();
        let places = holders.of.iter().copied().chain(std::iter::repeat(None));
        for (host, of) in bell.hosts.into_iter().zip(places) {
            match of.and_then(|of| holders.nodes.get(of)) {
                Some((node, _)) => rings.entry(node).or_default().push(host),
                // It has come here since.
                None if hosts.is_online(&host) => {
                    rings.entry(hosts.node()).or_default().push(host);
                }
                None => unheld.push((host, CommandState::Offline)),
            }
        }
        for (node, hosts) in rings {
            self.peers
                .ring_command(node, &bell.cid, &hosts, bell.entry.hops + 1);
        }
        self.record_states(bell.cid, unheld);
        self.peers.done_with(bell.entry);
    }

    /// An entry with a command has waited for too long: its hosts are not sent it.
    pub(super) fn drop_command(&mut self, bell: CommandBell) {
        let hosts = bell.hosts.into_iter();
        let hosts = hosts.map(|host| (host, CommandState::Offline)).collect();
        self.record_states(bell.cid, hosts);
        self.peers.done_with(bell.entry);
    }

    fn record_states(&mut self, cid: String, hosts: Vec<(HostId, CommandState)>) {
        if !hosts.is_empty() {
            let text = None;
            self.peers.record(CommandRecord { cid, text, hosts });
        }
    }

    /// A host has answered a command that the store has for all nodes.
    pub(super) fn record_answer(&mut self, cid: String, host: &HostId) {
        self.record_states(cid, vec![(host.clone(), CommandState::Answered)]);
    }
}

impl Tasks {
    /// A command for one of its hosts: the host, the text, the id, and the number of this try.
    pub(crate) fn command_to_send(
        &self,
        number: u64,
        index: usize,
    ) -> Option<(HostId, String, String, u32)> {
        let command = self.commands.get(number)?;
        let host = command.hosts.get(index).filter(|host| !host.answered)?;
        let (text, cid) = (command.text.clone(), command.cid.clone());
        Some((host.id.clone(), text, cid, host.tries + 1))
    }

    /// Records that a command was sent to one of its hosts, `tries` times so far. It `repeats` if
    /// the host runs it once for any number of copies.
    pub(crate) fn command_sent(
        &mut self,
        cx: &Ctx<'_>,
        (number, index): (u64, usize),
        tries: u32,
        repeats: bool,
    ) {
        if let Some(host) = self.commands.host_mut(number, index) {
            host.tries = tries;
        }
        if tries < cx.rules.tries && repeats {
            let due = cx.at.now + self.interval(cx, tries);
            self.commands.arm(number, index, due);
        }
    }
}

fn check_command(text: &str, prefix: &str) -> Result<(), Refusal> {
    let why = if text.trim().is_empty() {
        "the command is empty".to_owned()
    } else if text.chars().any(char::is_control) {
        "the command has a control character".to_owned()
    } else if text.starts_with(prefix) {
        format!("the command begins with {prefix}, as task keys do")
    } else if text.len() > DATAGRAM_BYTES_MAX {
        format!("the command is longer than {DATAGRAM_BYTES_MAX} bytes")
    } else {
        return Ok(());
    };
    Err(wrong(why))
}

fn gone() -> Response {
    Response::Error {
        kind: ErrorKind::Unknown,
        text: "the command has made room for newer ones".to_owned(),
    }
}
