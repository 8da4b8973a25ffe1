//! Requests of handles and of HTTP, and work on requests with many hosts.

use crate::handlers::ask::Ask;
use crate::handlers::directory::Directory;
use crate::handlers::step::Step;
use crate::handlers::tasks::console::NewCommand;
use crate::handlers::tasks::dispatch::not_now;

impl Step<'_> {
    /// Handles a request.
    pub(super) fn ask(&mut self, requester: u64, ask: Ask) {
        if self.cx.stopping {
            let why = not_now("the server is stopping");
            return self.cx.respond(requester, why.into());
        }
        let hosts = Directory::new(self.fleet, self.auth);
        let (tasks, cx) = (&mut *self.tasks, &mut self.cx);
        let begun = match ask {
            Ask::Dispatch(task) => tasks.dispatch(cx, hosts, requester, task),
            Ask::Command {
                text,
                cid,
                hosts: names,
            } => tasks.command(cx, hosts, requester, NewCommand { text, cid }, names),
            Ask::Tasks { cursor, limit } => {
                return cx.respond(requester, tasks.list_tasks(cursor, limit));
            }
            Ask::Task { key, cursor, limit } => {
                return tasks.ask_task(cx, requester, &key, cursor, limit);
            }
            Ask::Output { key, host, command } => {
                return tasks.ask_output(cx, requester, key, host, command);
            }
            Ask::CommandStatus { cid } => return tasks.command_status(cx, hosts, requester, &cid),
            Ask::Forget { host } => return self.ask_forget(requester, &host),
        };
        if let Err(refusal) = begun {
            self.cx.respond(requester, refusal.into());
        }
    }

    /// Goes on with requests and tasks that have many hosts: at most `max` of them.
    pub(crate) fn go_on(&mut self, max: usize) {
        let hosts = Directory::new(self.fleet, self.auth);
        self.tasks.go_on(&mut self.cx, hosts, max);
    }

    /// Resumes the tasks that the store knows, at its first connection.
    pub(super) fn resume_tasks(&mut self) {
        let hosts = Directory::new(self.fleet, self.auth);
        self.tasks.resume_tasks(&mut self.cx, hosts);
    }
}
