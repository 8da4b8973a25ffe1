//! `anthill ak-sim`: a device that speaks AK, to try a configuration against. Every connection is one to the same
//! kind of device, with a state of its own; a thread each.

mod device;

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use anthill::codec::ak::Parser;

use super::args::AkSimArgs;
use super::{Failure, complain, print};
use device::{Device, Step};

/// Connections at once; one more is closed.
const CONNECTIONS_MAX: usize = 2_048;
/// A connection's thread does little.
const STACK_BYTES: usize = 128 * 1024;

/// Answers until it is ended by a signal.
///
/// # Errors
/// When it cannot listen where it is to.
pub fn run(args: &AkSimArgs) -> Result<(), Failure> {
    let listener = TcpListener::bind(args.listen)
        .map_err(|error| Failure::failed(format!("--listen {}: {error}", args.listen)))?;
    let bound = listener.local_addr().map_err(Failure::failed)?;
    print(&format!("anthill ak-sim ready tcp={bound}\n"))?;
    let open = Arc::new(AtomicUsize::new(0));
    for stream in listener.incoming() {
        match stream {
            Ok(stream) => begin(stream, args.bad_habits, &open),
            Err(error) => {
                complain(&format!("accepting: {error}"));
                thread::sleep(Duration::from_millis(100));
            }
        }
    }
    Ok(())
}

/// Counts a connection for as long as it is there.
struct Open(Arc<AtomicUsize>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn begin(stream: TcpStream, bad_habits: bool, open: &Arc<AtomicUsize>) {
    let before = open.fetch_add(1, Ordering::Relaxed);
    let counted = Open(Arc::clone(open));
    if before >= CONNECTIONS_MAX {
        return;
    }
    let begun = thread::Builder::new()
        .stack_size(STACK_BYTES)
        .spawn(move || {
            let _counted = counted;
            // A peer that is gone is nothing to complain of.
            let _ = serve(stream, Device::new(bad_habits));
        });
    if let Err(error) = begun {
        complain(&format!("a thread: {error}"));
    }
}

fn serve(mut stream: TcpStream, mut device: Device) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut parser = Parser::default();
    let mut buffer = [0; 1_024];
    loop {
        let read = stream.read(&mut buffer)?;
        if read == 0 {
            return Ok(());
        }
        let mut input = &buffer[..read];
        while let Some(frame) = parser.next(&mut input).map_err(io::Error::other)? {
            for step in device.answer(frame.bytes) {
                match step {
                    Step::Say(bytes) => stream.write_all(&bytes)?,
                    Step::Wait(span) => thread::sleep(span),
                    Step::Close => return Ok(()),
                }
            }
        }
    }
}
