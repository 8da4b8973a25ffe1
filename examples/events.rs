//! A subscriber: prints the hosts that come online and go offline, and the progress of tasks.
//!
//!     cargo run --example events
//!
//! It ends after 30 seconds without an event.

use std::error::Error;
use std::thread;
use std::time::Duration;

use anthill::{Config, EventKind, Overrides, Server};

/// Time without an event after which the program ends.
const SILENCE: Duration = Duration::from_secs(30);

fn main() -> Result<(), Box<dyn Error>> {
    let config = Config::load(None, &Overrides::default())?;
    let server = Server::bind(config)?;
    println!("{}", server.ready());
    let handle = server.handle();
    let events = handle.events();
    let running = thread::spawn(move || server.run());
    while let Some(event) = events.recv_timeout(SILENCE)? {
        match event.kind {
            EventKind::Online { host, from } => println!("{host} is online, from {from}"),
            EventKind::Offline { host, reason } => println!("{host} is offline: {reason:?}"),
            EventKind::Progress {
                host, key, state, ..
            } => println!("{host} in task {key}: {}", state.as_str()),
            other => println!("{other:?}"),
        }
        // A subscriber that is too slow misses events. The server never waits for it.
        if events.missed() > 0 {
            println!("{} events missed", events.missed());
        }
    }
    handle.shutdown();
    running.join().expect("the server does not panic")?;
    Ok(())
}
