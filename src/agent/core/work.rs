//! Work: accepts keys and commands, fetches books, and runs one command at a time. Each step is
//! written to the journal before it has an effect.

use log::Level;

use super::link::Link;
use super::{AgentCore, Effect, Finished, KILLED, Moment, REFUSED, note};
use crate::agent::memory::{Record, Report, Task, command_code, is_command};
use crate::codec::message::{Book, Message, Phase, ResultCode, Word};
use crate::ids::TaskKey;
use crate::limits::{
    AGENT_COMMAND_RESUME_S_MAX, AGENT_REPORTS_WAITING_MAX, AGENT_TASKS_WAITING_MAX,
    DATAGRAM_BYTES_MAX,
};
use crate::time::Span;

/// Prefix of a datagram with a task key.
const KEY_PREFIX: &str = "AC";

/// Queued work.
#[derive(Debug)]
pub(super) enum Item {
    /// A task, or a command with an id, by its name in the memory.
    Known(String),
    /// A console line without an id: its result is dropped.
    Line(String),
}

/// The running command.
#[derive(Debug)]
pub(super) enum Running {
    /// A command of a task, or a command with an id.
    Known { code: String, index: usize },
    /// A console line.
    Line,
}

impl AgentCore {
    /// Handles a datagram. Task keys are accepted from every sender, since the book comes from the
    /// server. Commands are accepted from the server only. An agent with a key or TLS drops bare
    /// datagrams: a sender's address proves nothing.
    pub fn datagram(
        &mut self,
        at: Moment,
        from: std::net::IpAddr,
        bytes: &[u8],
        fx: &mut Vec<Effect>,
    ) {
        if self.keyed.is_some() {
            return self.signed_datagram(at, bytes, fx);
        }
        if self.settings.tls {
            let reason = "this agent uses TLS";
            let text = format!("a bare datagram of {from} is dropped: {reason}");
            return note(
                Level::Warn,
                &[("from", &from), ("reason", &reason)],
                text,
                fx,
            );
        }
        let is_server = self.server == Some(from.to_canonical());
        let is_key = |text| TaskKey::parse(text, KEY_PREFIX).is_some();
        let text = str::from_utf8(bytes).ok();
        let text = text.filter(|text| text.len() <= DATAGRAM_BYTES_MAX);
        match text {
            Some("") => {}
            Some(key) if key.starts_with(KEY_PREFIX) && (is_server || is_key(key)) => {
                self.accept_key(at, key, fx);
            }
            _ if !is_server => {
                let reason = "its sender is not the server";
                let text = format!("a datagram of {from} is dropped: {reason}");
                note(
                    Level::Warn,
                    &[("from", &from), ("reason", &reason)],
                    text,
                    fx,
                );
            }
            Some(line) => self.accept_line(at, line, fx),
            None => {
                let text = format!("a datagram of {from} is not valid UTF-8, or too long");
                note(Level::Warn, &[("from", &from)], text, fx);
                self.answer(at, ResultCode::Damaged, None, fx);
            }
        }
    }

    /// Accepts a task once, and answers every copy.
    pub(super) fn accept_key(&mut self, at: Moment, text: &str, fx: &mut Vec<Effect>) {
        let Some(key) = TaskKey::parse(text, "") else {
            let why = format!("{text:?} is no task key");
            note(Level::Warn, &[("reason", &why)], why.as_str(), fx);
            return self.answer(at, ResultCode::Damaged, None, fx);
        };
        let code = key.as_str().to_owned();
        if self.memory.task(&code).is_some() {
            return self.answer(at, ResultCode::Received, Some(code), fx);
        }
        if !self.has_room(&code, fx) {
            return;
        }
        let task = Task {
            at: at.wall,
            ..Task::default()
        };
        note(
            Level::Info,
            &[("key", &code)],
            format!("task {code} is accepted"),
            fx,
        );
        self.take(code.clone(), task, fx);
        self.answer(at, ResultCode::Received, Some(code.clone()), fx);
        self.ask_for_book(code, fx);
    }

    /// Accepts a command once, and answers every copy with its id.
    pub(super) fn accept_command(
        &mut self,
        at: Moment,
        text: &str,
        cid: &str,
        fx: &mut Vec<Effect>,
    ) {
        let code = command_code(cid);
        if self.memory.task(&code).is_some() {
            return self.answer(at, ResultCode::Received, Some(cid.to_owned()), fx);
        }
        if !self.has_room(&code, fx) {
            return;
        }
        let task = Task {
            at: at.wall,
            commands: Some(vec![text.to_owned()]),
            ..Task::default()
        };
        self.take(code, task, fx);
        self.answer(at, ResultCode::Received, Some(cid.to_owned()), fx);
        self.work(fx);
    }

    fn accept_line(&mut self, at: Moment, line: &str, fx: &mut Vec<Effect>) {
        if self.has_room(line, fx) {
            self.answer(at, ResultCode::Received, Some(line.to_owned()), fx);
            self.queue.push_back(Item::Line(line.to_owned()));
            self.work(fx);
        }
    }

    fn take(&mut self, code: String, task: Task, fx: &mut Vec<Effect>) {
        let record = Record::Task {
            code: code.clone(),
            task,
        };
        self.write(record, fx);
        self.queue.push_back(Item::Known(code));
    }

    /// Returns whether there is room for another task. Without an answer the server sends the
    /// dispatch again.
    fn has_room(&self, what: &str, fx: &mut Vec<Effect>) -> bool {
        let why = if !self.settings.takes_work {
            "the journal cannot be written"
        } else if self.queue.len() >= AGENT_TASKS_WAITING_MAX {
            "too many tasks are queued"
        } else if self.memory.reports() >= AGENT_REPORTS_WAITING_MAX {
            "too many reports are queued for the server"
        } else {
            return true;
        };
        let text = format!("{what:?} is not accepted: {why}");
        note(Level::Warn, &[("key", &what), ("reason", &why)], text, fx);
        false
    }

    /// Requests all missing books. Requests are lost with their connection.
    pub(super) fn ask_for_books(&mut self, fx: &mut Vec<Effect>) {
        let queued = self.queue.iter().filter_map(|item| match item {
            Item::Known(code) => Some(code),
            Item::Line(_) => None,
        });
        let is_wanted = |code: &&String| {
            self.unconfirmed.contains(*code) || self.memory.task(code).is_some_and(Task::wants_book)
        };
        let wanted: Vec<String> = queued.filter(is_wanted).cloned().collect();
        for code in wanted {
            self.ask_for_book(code, fx);
        }
    }

    fn ask_for_book(&mut self, code: String, fx: &mut Vec<Effect>) {
        if let Link::Live(live) = &mut self.link {
            let seq = live.number();
            live.requested_books.push((seq, code.clone()));
            let task = code.into();
            self.say(Message::Book(Book { task }), Some(seq), fx);
        }
    }

    /// Handles the reply to a request for a book.
    pub(super) fn on_book(
        &mut self,
        at: Moment,
        seq: Option<u64>,
        word: Word,
        fx: &mut Vec<Effect>,
    ) {
        let Link::Live(live) = &mut self.link else {
            return;
        };
        let Some(place) = live
            .requested_books
            .iter()
            .position(|(asked, _)| Some(*asked) == seq)
        else {
            return;
        };
        let (_, code) = live.requested_books.swap_remove(place);
        match word {
            Word::Book { task, mut commands } if task == code => {
                // The highest priority first, equal ones as given.
                commands.sort_by(|(_, one), (_, other)| other.total_cmp(one));
                let commands = commands.into_iter().map(|(command, _)| command).collect();
                self.begin(code, commands, fx);
            }
            Word::Refused(why) if self.unconfirmed.remove(&code) => {
                let text = format!("task {code} is not started after a restart: {why}");
                note(Level::Warn, &[("key", &code), ("reason", &why)], text, fx);
                self.report_phase(code, Phase::Ended, 0, true, fx);
                self.work(fx);
            }
            Word::Refused(why) => {
                let text = format!("there is no book for {code}: {why}");
                note(Level::Warn, &[("key", &code), ("reason", &why)], text, fx);
                self.forget(&code, fx);
                self.answer(at, ResultCode::NoBook, Some(code), fx);
            }
            _ => {
                let text =
                    format!("the server answers the request for book {code} with something else");
                note(Level::Error, &[("key", &code)], text, fx);
            }
        }
    }

    /// Forgets a task without a book. Nothing of it was done, so its key may come again.
    fn forget(&mut self, code: &str, fx: &mut Vec<Effect>) {
        self.queue
            .retain(|item| !matches!(item, Item::Known(known) if known == code));
        let code = code.to_owned();
        self.write(Record::Forgotten { code }, fx);
    }

    fn begin(&mut self, code: String, commands: Vec<String>, fx: &mut Vec<Effect>) {
        if self.unconfirmed.remove(&code) {
            // The book is known and reported; the server has confirmed that the task is still open.
            return self.work(fx);
        }
        let book = Record::Book {
            code: code.clone(),
            commands,
        };
        self.write(book, fx);
        self.report_phase(code, Phase::Received, 0, false, fx);
        self.work(fx);
    }

    fn report_phase(
        &mut self,
        code: String,
        phase: Phase,
        done: usize,
        lost: bool,
        fx: &mut Vec<Effect>,
    ) {
        let report = Report::Phase {
            code,
            phase,
            done,
            lost,
            cancelled: false,
        };
        self.report(report, fx);
    }

    /// Ends a task: its running command is ended, and no other one begins.
    pub(super) fn cancel(&mut self, code: &str, fx: &mut Vec<Effect>) {
        let open = self.memory.task(code).filter(|task| !task.ended);
        let Some((done, wants_book)) = open.map(|task| (task.done, task.wants_book())) else {
            return;
        };
        let text = format!("task {code} is cancelled");
        note(Level::Info, &[("key", &code)], text, fx);
        if matches!(&self.running, Some(Running::Known { code: running, .. }) if running == code) {
            if !std::mem::replace(&mut self.is_cancelling, true) {
                fx.push(Effect::EndRunning);
            }
            return;
        }
        let code = code.to_owned();
        self.unconfirmed.remove(&code);
        if let Link::Live(live) = &mut self.link {
            live.requested_books.retain(|(_, asked)| *asked != code);
        }
        if wants_book {
            // A report refers to the commands of its task.
            let book = Record::Book {
                code: code.clone(),
                commands: Vec::new(),
            };
            self.write(book, fx);
        }
        self.report_cancelled(code, done, fx);
        self.work(fx);
    }

    fn report_cancelled(&mut self, code: String, done: usize, fx: &mut Vec<Effect>) {
        let report = Report::Phase {
            code,
            phase: Phase::Ended,
            done,
            lost: false,
            cancelled: true,
        };
        self.report(report, fx);
    }

    /// Starts the next work, if no command is running.
    fn work(&mut self, fx: &mut Vec<Effect>) {
        while self.running.is_none() {
            // A task that waits for its book does not block the others.
            let is_ready = |item: &Item| match item {
                Item::Known(code) => self.memory.task(code).is_some_and(|task| {
                    let has_book = task.commands.is_some() && !self.unconfirmed.contains(code);
                    task.ended || has_book
                }),
                Item::Line(_) => true,
            };
            let Some(place) = self.queue.iter().position(is_ready) else {
                return;
            };
            match &self.queue[place] {
                Item::Line(_) => {
                    if let Some(Item::Line(line)) = self.queue.remove(place) {
                        self.running = Some(Running::Line);
                        self.run(&line, fx);
                    }
                }
                Item::Known(code) => {
                    let code = code.clone();
                    match self.next_of(&code) {
                        Some((index, command)) => self.start(code, index, &command, fx),
                        None => drop(self.queue.remove(place)),
                    }
                }
            }
        }
    }

    /// The next command of a task.
    fn next_of(&self, code: &str) -> Option<(usize, String)> {
        let task = self.memory.task(code).filter(|task| !task.ended)?;
        let command = task.commands.as_ref()?.get(task.done)?;
        Some((task.done, command.clone()))
    }

    fn start(&mut self, code: String, index: usize, command: &str, fx: &mut Vec<Effect>) {
        let starting = Record::Starting {
            code: code.clone(),
            index,
        };
        self.write(starting, fx);
        if !is_command(&code) {
            self.report_phase(code.clone(), Phase::Began, index, false, fx);
        }
        self.running = Some(Running::Known { code, index });
        self.run(command, fx);
    }

    fn run(&mut self, command: &str, fx: &mut Vec<Effect>) {
        match self.allow.job(command) {
            Some(job) => {
                let text = format!("runs {command:?}");
                note(Level::Info, &[("command", &command)], text, fx);
                fx.push(Effect::Run(job));
            }
            None => {
                let why = self.allow.refusal(command);
                let text = format!("{command:?} is {why}");
                note(
                    Level::Warn,
                    &[("command", &command), ("reason", &why)],
                    text,
                    fx,
                );
                self.ended(because(REFUSED, why), fx);
            }
        }
    }

    /// Handles the end of the running command.
    pub fn finished(&mut self, finished: Finished, fx: &mut Vec<Effect>) {
        self.ended(finished, fx);
        self.work(fx);
    }

    fn ended(&mut self, finished: Finished, fx: &mut Vec<Effect>) {
        let is_cancelled = std::mem::take(&mut self.is_cancelling);
        match self.running.take() {
            Some(Running::Known { code, index }) => {
                self.report_outcome(code.clone(), index, finished, fx);
                if is_cancelled {
                    self.report_cancelled(code, index + 1, fx);
                } else if !is_command(&code) {
                    self.report_phase(code, Phase::Ended, index + 1, false, fx);
                }
            }
            Some(Running::Line) => {
                let exit = finished.exit;
                note(
                    Level::Info,
                    &[("exit", &exit)],
                    format!("ended with {exit}"),
                    fx,
                );
            }
            None => {}
        }
    }

    /// Resumes the tasks of an earlier process. Started tasks are reported lost, the others stay
    /// queued.
    pub(super) fn resume(&mut self, at: Moment, fx: &mut Vec<Effect>) {
        let open: Vec<String> = self.memory.open().map(str::to_owned).collect();
        for code in open {
            let Some(task) = self.memory.task(&code).cloned() else {
                continue;
            };
            let all = task.commands.as_ref().map_or(0, Vec::len);
            let has_begun = task.started > 0;
            if is_command(&code) {
                let age = Span::from_millis(at.wall.0.saturating_sub(task.at.0));
                match (
                    has_begun,
                    age <= Span::from_secs(AGENT_COMMAND_RESUME_S_MAX),
                ) {
                    (true, _) => {
                        let why = "lost: the agent ended while it ran";
                        self.report_outcome(code, 0, because(KILLED, why), fx);
                    }
                    (false, true) => self.queue.push_back(Item::Known(code)),
                    (false, false) => {
                        let why = "not run: the agent was away for too long";
                        self.report_outcome(code, 0, because(REFUSED, why), fx);
                    }
                }
            } else if has_begun {
                let text =
                    format!("task {code} was running when the agent ended: it is reported lost");
                note(Level::Warn, &[("key", &code)], text, fx);
                self.report_phase(code, Phase::Ended, task.done, task.done < all, fx);
            } else {
                let text = format!("task {code} is still queued");
                note(Level::Info, &[("key", &code)], text, fx);
                if !task.wants_book() {
                    self.unconfirmed.insert(code.clone());
                }
                self.queue.push_back(Item::Known(code));
            }
        }
        self.work(fx);
    }
}

/// Result of a command that did not run.
fn because(exit: i32, why: &str) -> Finished {
    Finished {
        exit,
        seconds: 0.0,
        output: format!("anthill: {why}\n").into_bytes(),
        truncated: false,
    }
}
