//! Notifications: events of the server to commands and webhooks.
//!
//! ```text
//!  Handle::events ──▶ thread "notify": one Digest per receiver ──▶ bounded queue ──▶ a thread per
//!                       lasting for for_s, grouped by group_s         full: dropped   receiver: deliver
//! ```
//!
//! The loop only fills the queue of a subscriber, as for every other. A receiver that hangs delays
//! its own messages, and the oldest that wait are kept.

mod deliver;
mod digest;

use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Sender, TrySendError, bounded};

use crate::config::Receiver;
use crate::limits::NOTIFY_WAITING_MAX;
use crate::server::{Events, Handle};

use super::Failure;
use digest::Digest;

const LOG: &str = "notify";

/// Starts the threads, if there are receivers. They end with the process.
///
/// # Errors
/// When the system refuses a thread.
pub fn start(receivers: &[Receiver], node: &str, handle: &Handle) -> Result<(), Failure> {
    if receivers.is_empty() {
        return Ok(());
    }
    let mut outlets = Vec::new();
    for (number, receiver) in receivers.iter().enumerate() {
        let (messages, waiting) = bounded::<String>(NOTIFY_WAITING_MAX);
        let channel = receiver.channel.clone();
        spawn(move || deliver::run(&channel, number, &waiting))?;
        outlets.push(Outlet {
            digest: Digest::new(receiver.clone(), node),
            messages,
            number,
        });
    }
    let events = handle.events();
    spawn(move || watch(&events, &mut outlets))
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
fn watch(events: &Events, outlets: &mut [Outlet]) {
    let mut missed = 0;
    loop {
        let now = Instant::now();
        let due = outlets.iter().filter_map(|it| it.digest.due()).min();
        let wait = due.map_or(Duration::from_secs(60), |due| {
            due.saturating_duration_since(now)
        });
        let Ok(event) = events.recv_timeout(wait) else {
            return;
        };
        let now = Instant::now();
        if events.missed() > missed {
            log::warn!(target: LOG, "{} events came too fast and are not reported", events.missed() - missed);
            missed = events.missed();
        }
        for outlet in &mut *outlets {
            if let Some(event) = &event {
                outlet.digest.event(event, now);
            }
            if let Some(message) = outlet.digest.message(now) {
                outlet.pass_on(message);
            }
        }
    }
}

impl Outlet {
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
