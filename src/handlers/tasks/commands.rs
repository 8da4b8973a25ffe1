//! The table of console commands: recipients, answers and retransmissions.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::ids::HostId;
use crate::limits::{COMMAND_HOSTS_MAX, COMMAND_RESULTS_MAX, COMMANDS_MAX};
use crate::time::{Instant, UnixMs};

/// One command.
#[derive(Debug)]
pub struct Command {
    /// Its id.
    pub cid: String,
    /// Its text.
    pub text: String,
    /// Time of the command.
    pub created: UnixMs,
    /// The hosts, by name.
    pub hosts: Vec<CommandHost>,
    /// The store has it for all nodes.
    pub is_shared: bool,
    /// Another node was asked to send it: these are some of its hosts.
    pub is_part: bool,
}

/// A host of a command.
#[derive(Clone, Debug)]
pub struct CommandHost {
    /// Its name.
    pub id: HostId,
    /// The host was online, so the command was sent.
    pub sent: bool,
    /// The host has answered.
    pub answered: bool,
    /// Number of results that have arrived.
    pub results: u8,
    /// Number of sends.
    pub tries: u32,
}

/// The table.
#[derive(Debug, Default)]
pub struct Commands {
    commands: BTreeMap<u64, Command>,
    /// The numbers of each id: one, or one for each part.
    ids: HashMap<String, Vec<u64>>,
    hosts: usize,
    next: u64,
    /// Pending retransmissions, by time.
    due: BTreeSet<(Instant, u64, usize)>,
}

impl Commands {
    /// Returns whether there is a command with this id.
    #[must_use]
    pub fn has(&self, cid: &str) -> bool {
        self.ids.contains_key(cid)
    }

    /// The command of this id, if this node has all its hosts.
    #[must_use]
    pub fn of(&self, cid: &str) -> Option<&Command> {
        let command = self.commands.get(self.ids.get(cid)?.first()?);
        command.filter(|command| !command.is_part)
    }

    /// The command of this id that was sent to this host.
    fn number_of(&self, cid: &str, host: &HostId) -> Option<u64> {
        let mut numbers = self.ids.get(cid)?.iter().copied();
        numbers.find(|number| {
            let command = self.commands.get(number);
            command.is_some_and(|command| command.place(host).is_some())
        })
    }

    /// The command of this number.
    #[must_use]
    pub fn get(&self, number: u64) -> Option<&Command> {
        self.commands.get(&number)
    }

    /// Enters a command and evicts the oldest if necessary. `None` if it has more hosts than there
    /// is room for at all. The caller has sorted the hosts by name.
    pub fn insert(&mut self, command: Command) -> Option<u64> {
        if command.hosts.len() > COMMAND_HOSTS_MAX {
            return None;
        }
        while self.commands.len() >= COMMANDS_MAX
            || self.hosts + command.hosts.len() > COMMAND_HOSTS_MAX
        {
            let (_, oldest) = self.commands.pop_first()?;
            if let Some(numbers) = self.ids.get_mut(&oldest.cid) {
                numbers.retain(|number| self.commands.contains_key(number));
                if numbers.is_empty() {
                    self.ids.remove(&oldest.cid);
                }
            }
            self.hosts -= oldest.hosts.len();
        }
        let number = self.next;
        self.next += 1;
        self.hosts += command.hosts.len();
        let numbers = self.ids.entry(command.cid.clone()).or_default();
        numbers.push(number);
        self.commands.insert(number, command);
        Some(number)
    }

    /// One host of a command.
    pub fn host_mut(&mut self, number: u64, index: usize) -> Option<&mut CommandHost> {
        self.commands.get_mut(&number)?.hosts.get_mut(index)
    }

    /// Returns whether the command with this id was sent to this host, and further results of it
    /// are accepted. One is expected; a host may repeat it.
    #[must_use]
    pub fn takes_result(&self, cid: &str, host: &HostId) -> bool {
        let number = self.number_of(cid, host);
        let command = number.and_then(|number| self.commands.get(&number));
        let host = command.and_then(|command| command.hosts.get(command.place(host)?));
        host.is_some_and(|host| host.results < COMMAND_RESULTS_MAX)
    }

    /// Records the answer of a host to the command with this id, or to the newest unanswered one
    /// with this text. Returns that command.
    pub fn answered(&mut self, text: &str, host: &HostId) -> Option<&Command> {
        let number = self.number_of(text, host);
        let number = number.or_else(|| {
            let open = |command: &Command| {
                let place = command.place(host);
                place.is_some_and(|place| !command.hosts[place].answered)
            };
            let newest_first = self.commands.iter().rev();
            let found = newest_first.filter(|(_, command)| command.text == text && open(command));
            found.map(|(number, _)| *number).next()
        });
        let number = number?;
        self.find_mut(number, host)?.answered = true;
        self.commands.get(&number)
    }

    /// Records a result of the command with this id, which also counts as an answer.
    /// Returns that command.
    pub fn has_result(&mut self, cid: &str, host: &HostId) -> Option<&Command> {
        let number = self.number_of(cid, host)?;
        let found = self.find_mut(number, host)?;
        found.answered = true;
        found.results = found.results.saturating_add(1);
        self.commands.get(&number)
    }

    fn find_mut(&mut self, number: u64, host: &HostId) -> Option<&mut CommandHost> {
        let command = self.commands.get_mut(&number)?;
        let place = command.place(host)?;
        command.hosts.get_mut(place)
    }

    /// Queues a retransmission to one of its hosts.
    pub fn arm(&mut self, number: u64, index: usize, due: Instant) {
        self.due.insert((due, number, index));
    }

    /// Time of the next retransmission.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.due.first().map(|(due, ..)| *due)
    }

    /// Takes a retransmission that is due by `now`.
    pub fn take_due(&mut self, now: Instant) -> Option<(u64, usize)> {
        if self.deadline()? > now {
            return None;
        }
        let (_, number, index) = self.due.pop_first()?;
        Some((number, index))
    }
}

impl Command {
    /// Index of a recipient among its hosts.
    fn place(&self, host: &HostId) -> Option<usize> {
        let place = self.hosts.binary_search_by(|held| held.id.cmp(host)).ok()?;
        self.hosts[place].sent.then_some(place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(cid: &str, text: &str) -> Command {
        let host = |name: &str, sent| CommandHost {
            id: HostId::checked(name).unwrap(),
            sent,
            answered: false,
            results: 0,
            tries: 0,
        };
        Command {
            cid: cid.to_owned(),
            text: text.to_owned(),
            created: UnixMs(1),
            hosts: vec![host("a", true), host("b", false)],
            is_shared: false,
            is_part: false,
        }
    }

    #[test]
    fn a_text_answers_the_newest_command_that_is_not_answered_yet() {
        let mut commands = Commands::default();
        commands.insert(command("1", "uptime"));
        commands.insert(command("2", "uptime"));
        let host = HostId::checked("a").unwrap();
        assert!(commands.answered("uptime", &host).is_some());
        assert!(commands.of("2").unwrap().hosts[0].answered);
        assert!(!commands.of("1").unwrap().hosts[0].answered);
        assert!(commands.answered("1", &host).is_some());
        assert!(commands.answered("uptime", &host).is_none());
        let offline = HostId::checked("b").unwrap();
        assert!(commands.answered("1", &offline).is_none());
        assert!(!commands.takes_result("1", &offline));
    }

    #[test]
    fn the_oldest_command_is_evicted() {
        let mut commands = Commands::default();
        for number in 0..=COMMANDS_MAX {
            commands.insert(command(&number.to_string(), "x"));
        }
        assert!(!commands.has("0") && commands.has("1"));
        assert_eq!(commands.hosts, 2 * COMMANDS_MAX);
    }
}
