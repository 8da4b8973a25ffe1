//! ADH41: a host asks for the book of a task, so that it needs no store of its own.

use crate::codec::message::{Ask, Book, Flag, Word};
use crate::ids::{ConnId, TaskKey};

use crate::handlers::Flow;
use crate::handlers::step::Step;

/// In the same words whether there is no such task or it does not name the host: neither is for it to
/// know.
pub(crate) const NO_SUCH_TASK: &str = "no such task for this host";

impl Step<'_> {
    /// The book of a task of the tables that names the host. A question in itself, answered whether or
    /// not a reply was asked for. Waits while the store has not told yet which tasks there are.
    pub(crate) fn book(&mut self, conn: ConnId, slot: u32, book: &Book<'_>, ask: Ask) -> Flow {
        if self.cx.is_starting() {
            return self.hold(conn, slot, 0);
        }
        let word = self.book_of(slot, &book.task);
        let word = word.unwrap_or_else(|| Word::Refused(NO_SUCH_TASK.to_owned()));
        self.cx.reply(conn, Flag::Book, ask.seq, word);
        Flow::Taken
    }

    fn book_of(&self, slot: u32, text: &str) -> Option<Word> {
        let key = TaskKey::parse(text, &self.cx.rules.key_prefix)?;
        let host = &self.fleet.host(slot)?.id();
        let delivery = self
            .tasks
            .table
            .delivery(self.tasks.table.delivery_of(&key, host)?)?;
        let commands = self.tasks.table.task(delivery.task)?.commands.clone();
        let task = key.to_string();
        Some(Word::Book { task, commands })
    }
}
