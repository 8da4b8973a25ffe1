//! A server on a thread of its own, and a task for every host that is online.
//!
//!     cargo run --example embed
//!
//! The first line shows its ports. `cargo run --example client -- ADDRESS web-1` is a host for it.

use std::error::Error;
use std::thread;
use std::time::Duration;

use anthill::{Config, DispatchSource, Filter, Overrides, Server};

/// Time for hosts to connect.
const WAIT: Duration = Duration::from_secs(20);
/// Time without an event after which the task is left alone.
const SILENCE: Duration = Duration::from_secs(5);

/// Two commands for all hosts that are online.
struct Disks {
    key: String,
}

impl DispatchSource for Disks {
    fn ip_list(&self) -> Option<Vec<String>> {
        None
    }

    fn dis_commands(&self) -> Vec<(String, f64)> {
        vec![("uptime".to_owned(), 2.0), ("df -h".to_owned(), 1.0)]
    }

    fn key(&self) -> String {
        self.key.clone()
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let config = Config::load(None, &Overrides::default())?;
    let server = Server::bind(config)?;
    println!("{}", server.ready());
    let handle = server.handle();
    let running = thread::spawn(move || server.run());

    thread::sleep(WAIT);
    for host in handle.hosts(Filter::Online)? {
        println!("{host:?}");
    }
    let events = handle.events();
    // A key is used once, so it has the number of this process.
    let key = format!("AC{}", std::process::id());
    match handle.dispatch(&Disks { key }) {
        Ok(hosts) => hosts
            .iter()
            .for_each(|(host, state)| println!("{host}: {}", state.as_str())),
        Err(error) => println!("no dispatch: {error}"),
    }
    while let Some(event) = events.recv_timeout(SILENCE)? {
        println!("{:?}", event.kind);
    }

    handle.shutdown();
    running.join().expect("the server does not panic")?;
    Ok(())
}
