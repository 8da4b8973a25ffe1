//! A task for every host: posted, received, answered and worked through, while heartbeats go on.
//!
//! ```text
//!  posted ─▶ ADH44, or a datagram ─▶ ADH33 RCC 1 ─▶ ADH27 phase 1 ─▶ ( phase 2 ─▶ phase 3 )… ─▶ done
//!                                  each when the one before it has been acknowledged
//! ```

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::time::Instant as Clock;

use super::BenchError;
use super::bare::{self, Sender};
use super::fleet::FleetEvent;
use super::pacer::Pacer;
use super::report::{Datagrams, DispatchReport, StepTimes};
use super::tally::Times;
use super::trial::{PROGRESS_INTERVAL, Stage};
use crate::codec::message::{Answer, Incoming, Message, Phase, Progress, ReplyRequest, ResultCode};
use crate::limits::BENCH_WAIT_S_MAX;
use crate::time::{Instant, Span};

/// Posts the plan's task to the server and waits for the answer; an error is text. Called on its
/// own thread, once per trial.
pub type Post = Arc<dyn Fn() -> Result<(), String> + Send + Sync>;

/// Interval at which the server's answer is polled.
const STEP: Span = Span::from_millis(5);

/// The server's answer to the post and its arrival time, taken on the posting thread.
type Posted = (Clock, Result<(), String>);

/// Progress of a host: the number of its acknowledged messages, once it has the task.
type Step = Option<usize>;

/// Interval from the first to the last of some arrivals, by the wall clock.
#[derive(Clone, Copy, Debug, Default)]
struct Stretch {
    first: Span,
    last: Span,
    count: u64,
}

impl Stretch {
    fn add(&mut self, at: Span) {
        // Arrivals are read socket by socket, not in order.
        let earlier = self.count == 0 || at.as_nanos() < self.first.as_nanos();
        if earlier {
            self.first = at;
        }
        if at.as_nanos() > self.last.as_nanos() {
            self.last = at;
        }
        self.count += 1;
    }

    /// Length of the interval in milliseconds, if there are two arrivals.
    fn ms(self) -> Option<f64> {
        let ns = self.last.as_nanos().saturating_sub(self.first.as_nanos());
        (self.count > 1).then(|| ns as f64 / 1e6)
    }
}

/// `ours` divided by the mean of the other two.
fn ratio(ours: Option<f64>, [before, after]: [Option<f64>; 2]) -> Option<f64> {
    let ratio = ours? * 2.0 / (before? + after?);
    ratio.is_finite().then_some(ratio)
}

/// A task in progress.
struct Work<'a> {
    key: &'a str,
    commands: &'a [String],
    posted: Instant,
    steps: Vec<Step>,
    received: Times,
    answered: Times,
    done: Times,
    counts: [u64; 3],
    received_again: u64,
    /// Acknowledged reports of progress.
    reports: u64,
    /// Time of the first arrival.
    began: Option<Instant>,
    /// Interval from the first datagram of a host to the last.
    stretch: Stretch,
    /// Time of the last progress of any host.
    moved: Instant,
}

impl Stage<'_> {
    /// Posts the task and simulates all hosts until every host is done, or no host makes progress.
    pub(super) fn dispatch(
        &mut self,
        start: Instant,
    ) -> Result<Option<DispatchReport>, BenchError> {
        self.fleet.gathers = true;
        let plan = self.plan;
        let named = plan.asked.hosts - plan.asked.apart;
        let before = self.bare()?;
        if self.is_over() {
            return Ok(None);
        }
        let start = self.fleet.now().max(start);
        let answer = post(plan.post.clone())?;
        let mut work = Work::new(named, &plan.key, &plan.commands, start);
        let mut pacer = Pacer::new(plan, start, f64::from(u32::MAX), None);
        let (mut stored, mut news) = (None, Vec::new());
        let patience = Span::from_secs(BENCH_WAIT_S_MAX);
        loop {
            let now = self.fleet.now();
            if stored.is_none() {
                match stored_by(&answer) {
                    Ok(when) => stored = when.map(|when| self.fleet.at(when)),
                    Err(why) => {
                        self.over = Some(format!("the task is not dispatched: {why}"));
                        return Ok(None);
                    }
                }
            }
            let still = now.since(work.moved) > patience;
            let all = self.fleet.live().saturating_sub(plan.asked.apart);
            if (stored.is_some() && work.is_done(all)) || still || self.is_over() {
                break;
            }
            let wait = if stored.is_none() {
                STEP
            } else {
                PROGRESS_INTERVAL
            };
            let until = pacer.send(&mut self.fleet, now + wait);
            self.turn(until)?;
            self.fleet.take_events(&mut news);
            for item in news.drain(..) {
                self.go_on(&mut work, item);
            }
            let done = work.counts[2];
            self.report_progress("dispatching", start, done, named as u64);
        }
        let now = self.fleet.now();
        self.fleet.tally.gave_up(pacer.given_up(now));
        let after = self.bare()?;
        let datagrams = before.zip(after).map(|(before, after)| {
            let (bare, ours) = ([before.ms(), after.ms()], work.stretch.ms());
            Datagrams {
                hosts: work.stretch.count,
                first_to_last_ms: ours,
                bare_first_to_last_ms: bare,
                ratio: ratio(ours, bare),
            }
        });
        Ok(Some(self.report(work, stored, datagrams)))
    }

    /// Sends as many bare datagrams as there are hosts, if the task also goes out by datagram.
    fn bare(&mut self) -> Result<Option<Stretch>, BenchError> {
        let plan = self.plan;
        let (Some(port), Some(sources)) = (self.fleet.port(), plan.sources) else {
            return Ok(None);
        };
        let observed = self.observed.as_ref().ok();
        let cpus = observed.and_then(|observed| observed.cpus().ok());
        let hosts = plan.asked.hosts - plan.asked.apart;
        let first = (sources.at(0), port).into();
        let sender = Sender::start(first, hosts, plan.key.len(), cpus.as_ref());
        let _sender = sender.map_err(BenchError::system("cannot send datagrams"))?;
        let (mut stretch, mut news) = (Stretch::default(), Vec::new());
        let start = self.fleet.now();
        while stretch.count < hosts as u64 {
            let now = self.fleet.now();
            if self.is_over() {
                return Ok(None);
            }
            if now.since(start) > Span::from_secs(BENCH_WAIT_S_MAX) {
                self.fleet.tally.error("bare_datagrams_lost");
                break;
            }
            self.turn(now + PROGRESS_INTERVAL)?;
            self.fleet.take_events(&mut news);
            for item in &news {
                if let FleetEvent::Datagram(_, text, at) = item
                    && text.as_bytes().first() == Some(&bare::TEXT)
                {
                    stretch.add(*at);
                }
            }
            self.report_progress("sending bare datagrams", start, stretch.count, hosts as u64);
        }
        Ok(Some(stretch))
    }

    /// Sends a host's next message after the task arrived or its last message was acknowledged.
    fn go_on(&mut self, work: &mut Work<'_>, item: FleetEvent) {
        let now = self.fleet.now();
        let (index, next) = match item {
            FleetEvent::Task(index, key) if key == work.key => (index, work.receive(index, now)),
            FleetEvent::Datagram(index, key, at) if key == work.key => {
                let next = work.receive(index, now);
                if next.is_some() {
                    work.stretch.add(at);
                }
                (index, next)
            }
            FleetEvent::Acknowledged(index) => (index, work.acknowledge(index, now)),
            _ => return,
        };
        if let Some(message) = next.and_then(|step| work.message(step)) {
            let reply = ReplyRequest {
                reply: true,
                seq: None,
            };
            let incoming = Incoming {
                message,
                ask: reply,
            };
            self.fleet.send(index, &incoming);
        }
    }

    fn report(
        &mut self,
        work: Work<'_>,
        stored: Option<Instant>,
        datagrams: Option<Datagrams>,
    ) -> DispatchReport {
        let hosts = (self.plan.asked.hosts - self.plan.asked.apart) as u64;
        let kinds = ["task_not_received", "task_not_answered", "task_not_done"];
        for (kind, count) in kinds.into_iter().zip(work.counts) {
            // After an early end the missing replies were not waited for.
            if !self.is_over() {
                self.fleet.tally.errors(kind, hosts.saturating_sub(count));
            }
        }
        let stride = |hosts, times: &Times| StepTimes {
            hosts,
            latency: times.summary(),
        };
        let posted = work.posted;
        let stored = stored.map(|stored| stored.since(posted).as_secs_f64() * 1e3);
        DispatchReport {
            key: work.key.to_owned(),
            commands: work.commands.len(),
            stored_ms: stored,
            received: stride(work.counts[0], &work.received),
            answered: stride(work.counts[1], &work.answered),
            done: stride(work.counts[2], &work.done),
            received_again: work.received_again,
            reports: work.reports,
            reports_per_s: work.reports_per_s(),
            datagrams,
            apart: None,
        }
    }
}

/// Posts the task on a thread of its own and returns the receiver of its answer.
fn post(post: Option<Post>) -> Result<Receiver<Posted>, BenchError> {
    let (tell, answer) = channel();
    let thread = std::thread::Builder::new().name("post".to_owned());
    thread
        .spawn(move || {
            let posted = post.map_or_else(
                || Err("the plan has no way to post it".to_owned()),
                |post| post(),
            );
            // The receiver is gone if the run has ended.
            let _ = tell.send((Clock::now(), posted));
        })
        .map_err(BenchError::system("cannot start a thread"))?;
    Ok(answer)
}

/// Time at which the server confirmed that the task is stored.
fn stored_by(answer: &Receiver<Posted>) -> Result<Option<Clock>, String> {
    match answer.try_recv() {
        Ok((at, Ok(()))) => Ok(Some(at)),
        Ok((_, Err(why))) => Err(why),
        Err(TryRecvError::Empty) => Ok(None),
        Err(TryRecvError::Disconnected) => Err("it gave no answer".to_owned()),
    }
}

impl<'a> Work<'a> {
    fn new(hosts: usize, key: &'a str, commands: &'a [String], posted: Instant) -> Self {
        Self {
            key,
            commands,
            posted,
            steps: vec![None; hosts],
            received: Times::default(),
            answered: Times::default(),
            done: Times::default(),
            counts: [0; 3],
            received_again: 0,
            reports: 0,
            began: None,
            stretch: Stretch::default(),
            moved: posted,
        }
    }

    /// Reports acknowledged a second.
    fn reports_per_s(&self) -> Option<f64> {
        let seconds = self.moved.since(self.began?).as_secs_f64();
        (seconds > 0.0).then(|| self.reports as f64 / seconds)
    }

    /// Messages of one host in all: the answer, phase 1, and two per command.
    const fn messages(&self) -> usize {
        2 + 2 * self.commands.len()
    }

    const fn is_done(&self, hosts: usize) -> bool {
        self.counts[2] >= hosts as u64
    }

    /// Marks the task as received; returns the next message if it was not received before.
    fn receive(&mut self, index: usize, now: Instant) -> Step {
        if self.steps[index].is_some() {
            self.received_again += 1;
            return None;
        }
        self.steps[index] = Some(0);
        self.moved = now;
        self.began.get_or_insert(now);
        self.counts[0] += 1;
        self.received.record(now.since(self.posted));
        Some(0)
    }

    /// Marks a message as acknowledged; returns the next message.
    fn acknowledge(&mut self, index: usize, now: Instant) -> Step {
        let step = self.steps[index]? + 1;
        self.steps[index] = Some(step);
        self.moved = now;
        // The first message is the answer to the dispatch.
        self.reports += u64::from(step > 1);
        if step == 1 {
            self.counts[1] += 1;
            self.answered.record(now.since(self.posted));
        }
        if step == self.messages() {
            self.counts[2] += 1;
            self.done.record(now.since(self.posted));
        }
        Some(step)
    }

    /// Returns the message at this position of the sequence.
    fn message(&self, step: usize) -> Option<Message<'a>> {
        let key = Cow::Borrowed(self.key);
        if step == 0 {
            return Some(Message::Answer(Answer {
                code: ResultCode::Received,
                task: Some(key),
            }));
        }
        let commands = self.commands;
        let names = |list: &'a [String]| list.iter().map(|name| name.as_str().into()).collect();
        let (phase, working, complete) = match step - 1 {
            0 => (Phase::Received, None, 0),
            at if at > 2 * commands.len() => return None,
            at if at % 2 == 1 => (Phase::Began, commands.get(at / 2), at / 2),
            at => (Phase::Ended, None, at / 2),
        };
        Some(Message::Progress(Progress {
            code: key,
            phase,
            working: working.map(|name| name.as_str().into()),
            complete: names(&commands[..complete]),
            oncall: names(&commands[complete..]),
            lost: false,
            cancelled: false,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_datagram_gives_no_interval() {
        let mut stretch = Stretch::default();
        assert_eq!(stretch.ms(), None);
        stretch.add(Span::from_millis(7));
        assert_eq!(stretch.ms(), None);
        stretch.add(Span::from_millis(4));
        assert_eq!(stretch.ms(), Some(3.0));
        let bare = [Some(1.0), Some(2.0)];
        assert_eq!(ratio(Some(3.0), bare), Some(2.0));
        assert_eq!(ratio(None, bare), None);
        assert_eq!(ratio(Some(3.0), [None, Some(2.0)]), None);
        assert_eq!(ratio(Some(0.0), [Some(0.0); 2]), None);
    }

    #[test]
    fn a_simulated_host_reports_every_phase() {
        let commands = ["a".to_owned(), "b".to_owned()];
        let mut work = Work::new(1, "AC1", &commands, Instant::ZERO);
        let at = Instant::from_nanos(5);
        let mut step = work.receive(0, at);
        assert_eq!(work.receive(0, at), None);
        assert_eq!(work.received_again, 1);
        let mut seen = Vec::new();
        while let Some(message) = step.and_then(|step| work.message(step)) {
            seen.push(match message {
                Message::Answer(answer) => format!("{:?}", answer.code),
                Message::Progress(Progress {
                    phase,
                    working,
                    complete,
                    oncall,
                    ..
                }) => format!(
                    "{phase:?} {working:?} {} {}",
                    complete.join("+"),
                    oncall.join("+")
                ),
                _ => unreachable!("a host sends nothing else"),
            });
            assert!(!work.is_done(1));
            step = work.acknowledge(0, at);
        }
        assert!(work.is_done(1));
        assert_eq!((work.reports, work.reports_per_s()), (5, None));
        assert_eq!(
            seen,
            [
                "Received",
                "Received None  a+b",
                "Began Some(\"a\")  a+b",
                "Ended None a b",
                "Began Some(\"b\") a b",
                "Ended None a+b "
            ]
        );
    }
}
