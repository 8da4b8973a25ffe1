//! A server inside the loop of another program, without a thread for it.
//!
//!     cargo run --example embed_turn
//!
//! It ends after 30 seconds.

use std::error::Error;
use std::time::{Duration, Instant};

use anthill::{Config, Overrides, Server};

/// Time that the program has for the server in each round.
const SHARE: Duration = Duration::from_millis(5);
const RUN_TIME: Duration = Duration::from_secs(30);

fn main() -> Result<(), Box<dyn Error>> {
    let config = Config::load(None, &Overrides::default())?;
    let mut server = Server::bind(config)?;
    println!("{}", server.ready());
    let handle = server.handle();
    let events = handle.events();
    let start = Instant::now();
    // A turn waits for at most `SHARE` and returns false when the shutdown is complete.
    while server.turn(Some(SHARE))? {
        // The other work of the program belongs here. It delays heartbeats by its own duration.
        while let Some(event) = events.try_recv()? {
            println!("{:?}", event.kind);
        }
        if start.elapsed() > RUN_TIME {
            handle.shutdown();
        }
    }
    Ok(())
}
