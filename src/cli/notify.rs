//! Notifications: events of the server to commands and webhooks.
//!
//! ```text
//!  Handle::events ──▶ thread "notify": one Digest per receiver ──▶ bounded queue ──▶ a thread per
//!                       lasting for for_s, grouped by group_s         full: dropped   receiver: deliver
//! ```
//!
//! The loop only fills the queue of a subscriber, as for every other. A receiver that hangs delays
//! its own messages, and the oldest that wait are kept. When the server stops, what has been
//! gathered is passed on at once, and [`Threads::finish`] waits for the receivers for a moment.

mod deliver;
mod digest;

use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};

use crate::config;
use crate::handlers::effect::Event;
use crate::limits::{NOTIFY_BATCH_MAX, NOTIFY_END_MS, NOTIFY_WAITING_MAX};
use crate::server::{Events, Handle, HandleError};

use super::Failure;
use digest::{Digest, host_of};

const LOG: &str = "notify";

/// Threads of the receivers.
pub struct Threads {
    /// Dropped when the server stops: pauses between tries then end.
    stop: Sender<()>,
    /// One for each receiver, disconnected when its last message is delivered or dropped.
    running: Vec<Receiver<()>>,
}

/// Starts the threads, if there are receivers.
///
/// # Errors
/// When the system refuses a thread.
pub fn start(
    receivers: &[config::Receiver],
    node: &str,
    handle: &Handle,
) -> Result<Option<Threads>, Failure> {
    if receivers.is_empty() {
        return Ok(None);
    }
    let (stop, stopping) = bounded::<()>(0);
    let mut outlets = Vec::new();
    let mut running = Vec::new();
    for (number, receiver) in receivers.iter().enumerate() {
        let (messages, waiting) = bounded::<String>(NOTIFY_WAITING_MAX);
        let (runs, ended) = bounded::<()>(0);
        let (channel, stopping) = (receiver.channel.clone(), stopping.clone());
        spawn(move || {
            deliver::run(&channel, number, &waiting, &stopping);
            drop(runs);
        })?;
        running.push(ended);
        outlets.push(Outlet {
            digest: Digest::new(receiver.clone(), node),
            messages,
            number,
        });
    }
    let events = handle.events();
    let handle = handle.clone();
    spawn(move || watch(&events, &handle, &mut outlets))?;
    Ok(Some(Threads { stop, running }))
}

impl Threads {
    /// Waits until the last messages are delivered, or their time is over. The server has ended.
    pub fn finish(self) {
        drop(self.stop);
        let deadline = Instant::now() + Duration::from_millis(NOTIFY_END_MS);
        for (number, running) in self.running.iter().enumerate() {
            // Nothing is ever sent: an error other than the time-out is the end of the thread.
            if running
                .recv_deadline(deadline)
                .is_err_and(|error| error.is_timeout())
            {
                log::error!(
                    target: LOG,
                    "notify[{number}]: the receiver has not taken its last messages; they are dropped"
                );
            }
        }
    }
}

fn spawn(run: impl FnOnce() + Send + 'static) -> Result<(), Failure> {
    let spawned = thread::Builder::new().name("notify".to_owned()).spawn(run);
    match spawned {
        Ok(_) => Ok(()),
        Err(error) => Err(Failure::failed(format!("cannot start a thread: {error}"))),
    }
}

/// A receiver: its messages, and the queue to its thread.
struct Outlet {
    digest: Digest,
    messages: Sender<String>,
    number: usize,
}

/// Follows the events to the end of the server.
fn watch(events: &Events, handle: &Handle, outlets: &mut [Outlet]) {
    let mut missed = 0;
    loop {
        let now = Instant::now();
        let due = outlets.iter().filter_map(|it| it.digest.due()).min();
        let wait = due.map_or(Duration::from_secs(60), |due| {
            due.saturating_duration_since(now)
        });
        let Ok(first) = events.recv_timeout(wait) else {
            break;
        };
        let mut batch: Vec<Event> = first.into_iter().collect();
        while !batch.is_empty()
            && batch.len() < NOTIFY_BATCH_MAX
            && let Ok(Some(event)) = events.try_recv()
        {
            batch.push(event);
        }
        if events.missed() > missed {
            log::warn!(target: LOG, "{} events came too fast and are not reported", events.missed() - missed);
            missed = events.missed();
        }
        let now = Instant::now();
        for outlet in &mut *outlets {
            outlet.take(&batch, handle, now);
            if let Some(message) = outlet.digest.message(now) {
                outlet.pass_on(message);
            }
        }
    }
    for outlet in outlets {
        if let Some(message) = outlet.digest.rest() {
            outlet.pass_on(message);
        }
    }
}

impl Outlet {
    /// Takes the events of a batch that are of its target, or of no host.
    fn take(&mut self, batch: &[Event], handle: &Handle, now: Instant) {
        let hosts = batch.iter().filter_map(|event| host_of(&event.kind));
        let matching = match self.digest.target() {
            Some(target) if hosts.clone().next().is_some() => {
                let hosts: Vec<_> = hosts.cloned().collect();
                let count = hosts.len();
                match handle.matching(target, hosts) {
                    Ok(matching) => Some(matching),
                    // The labels are gone: hosts that the stop itself took offline are left out.
                    Err(HandleError::Ended) => Some(vec![false; count]),
                    // Without an answer, too much is reported rather than too little.
                    Err(_) => None,
                }
            }
            _ => None,
        };
        let mut matching = matching.map(Vec::into_iter);
        for event in batch {
            let answer = match (&mut matching, host_of(&event.kind)) {
                (Some(answers), Some(_)) => answers.next(),
                _ => None,
            };
            if answer.unwrap_or(true) {
                self.digest.event(event, now);
            }
        }
    }

    fn pass_on(&self, message: String) {
        if let Err(TrySendError::Full(_)) = self.messages.try_send(message) {
            log::warn!(
                target: LOG,
                "notify[{}]: {NOTIFY_WAITING_MAX} messages wait, and a further one is dropped",
                self.number
            );
        }
    }
}
