//! Requests of handles and of HTTP, and work on requests with many hosts.

use crate::handlers::directory::Directory;
use crate::handlers::request::{OutsideWhat, Request};
use crate::handlers::step::Step;
use crate::handlers::tasks::console::NewCommand;
use crate::handlers::tasks::dispatch::not_now;
use crate::handlers::tasks::jobs::Whom;
use crate::handlers::tasks::reads::Reading;
use crate::handlers::tasks::waves::Control;
use crate::handlers::view::PageStart;
use crate::ids::HostId;
use crate::limits::HOSTS_PER_STEP_MAX;
use crate::store::op::Question;

impl Step<'_> {
    /// Handles a request.
    pub(super) fn request(&mut self, requester: u64, request: Request) {
        if self.cx.stopping {
            let why = not_now("the server is stopping");
            return self.cx.respond(requester, why.into());
        }
        let Some(request) = self.with_foreign(requester, request) else {
            return;
        };
        self.serve(requester, request);
    }

    /// Begins a request that has the hosts it needs.
    pub(super) fn serve(&mut self, requester: u64, request: Request) {
        let hosts = Directory::new(self.fleet, self.auth);
        let (tasks, cx) = (&mut *self.tasks, &mut self.cx);
        let (within, request) = match request {
            Request::Within(within, request) => (Some(within), *request),
            request => (None, request),
        };
        let begun = match request {
            Request::Within(..) => return,
            Request::Dispatch(task) => tasks.dispatch(cx, hosts, requester, task, within),
            Request::Command {
                text,
                cid,
                hosts: names,
                target,
            } => {
                let command = NewCommand { text, cid };
                let whom = Whom {
                    names,
                    target,
                    within,
                };
                tasks.command(cx, hosts, requester, command, whom)
            }
            Request::Plan {
                hosts: names,
                options,
            } => tasks.plan(cx, hosts, requester, (names, options)),
            Request::Cancel { key } => {
                tasks.control(cx, hosts, requester, (key, Control::Cancel), within)
            }
            Request::Pause { key } => {
                tasks.control(cx, hosts, requester, (key, Control::Pause), within)
            }
            Request::Resume { key } => {
                tasks.control(cx, hosts, requester, (key, Control::Resume), within)
            }
            Request::Tasks { cursor, limit } => {
                return cx.respond(requester, tasks.list_tasks(cursor, limit));
            }
            Request::Task { key, cursor, limit } => {
                return tasks.ask_task(cx, requester, &key, cursor, limit);
            }
            Request::Output { key, host, command } => {
                return tasks.ask_output(cx, requester, key, host, command);
            }
            Request::CommandStatus { cid } => {
                return tasks.command_status(cx, hosts, requester, &cid);
            }
            Request::Survey(survey) => {
                let max = HOSTS_PER_STEP_MAX;
                self.surveys.begin(cx, hosts, requester, survey, max)
            }
            Request::Forget { host } => return self.ask_forget(requester, &host),
            Request::Label { host, changes } => {
                return self.ask_label(requester, &host, &changes);
            }
            Request::Named { hosts } => return self.ask_records(requester, hosts),
            Request::Hosts {
                target: Some(target),
                node,
                filter,
                start,
                limit,
            } => {
                let cursor = match start {
                    PageStart::Slot(cursor) => cursor,
                    PageStart::Scan(_) => 0,
                };
                let which = (&*target, node);
                tasks.list_hosts(cx, hosts, requester, which, (filter, cursor, limit))
            }
            Request::Hosts {
                target: None,
                node,
                filter,
                start,
                limit,
            } => return self.ask_page(requester, node, (filter, start, limit)),
            Request::Groups { key, command } => {
                return tasks.ask_groups(cx, requester, &key, command);
            }
            Request::Outside(request) => {
                let stands_by = request.rows.iter().filter(|row| row.stands_by);
                let devices = match request.what {
                    OutsideWhat::Targets => Vec::new(),
                    _ => stands_by
                        .filter_map(|row| HostId::checked(&row.name).ok())
                        .collect(),
                };
                let question = Question::Outside { devices };
                return tasks.read(cx, requester, Reading::Outside(request), question);
            }
            Request::Nodes => {
                return tasks.read(cx, requester, Reading::Nodes, Question::Nodes);
            }
            Request::History(request) => return self.ask_history(requester, request),
        };
        if let Err(refusal) = begun {
            self.cx.respond(requester, refusal.into());
        }
    }

    /// Continues a request or task that has many hosts, and a survey: at most `max` hosts each.
    pub(crate) fn go_on(&mut self, max: usize) {
        if self.fleet.labels().is_walking() {
            return self.fleet.walk_labels(max);
        }
        let hosts = Directory::new(self.fleet, self.auth);
        self.tasks.go_on(&mut self.cx, hosts, max);
        self.surveys.step(&mut self.cx, hosts, max);
        self.resume_settled();
    }

    /// Resumes the tasks that the store knows, at its first connection.
    pub(super) fn resume_tasks(&mut self) {
        let hosts = Directory::new(self.fleet, self.auth);
        self.tasks.resume_tasks(&mut self.cx, hosts);
    }
}
