//! Anthill as a library for C. `include/anthill.h` documents each function.

use std::cell::RefCell;
use std::ffi::{CStr, CString, c_char, c_int};
use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;
use std::thread;
use std::time::Duration;

use anthill::{Config, DispatchSource, Events, Handle, Overrides, Server};

/// A server and the texts that it lends to the program.
pub struct AnthillServer {
    server: Server,
    handle: Handle,
    events: Events,
    node: String,
    ready: CString,
    error: CString,
    event: CString,
}

thread_local! {
    static BIND_ERROR: RefCell<CString> = RefCell::default();
}

/// Text for C: a NUL, which none should have, becomes a blank.
fn text(text: &str) -> CString {
    CString::new(text.replace('\0', " ")).unwrap_or_default()
}

/// # Safety
/// `pointer` is a text with a NUL at its end, or NULL.
unsafe fn given<'a>(pointer: *const c_char) -> Option<&'a str> {
    if pointer.is_null() {
        return None;
    }
    // SAFETY: the caller's.
    unsafe { CStr::from_ptr(pointer) }.to_str().ok()
}

/// # Safety
/// `pointer` has `count` texts, or is NULL.
unsafe fn texts(pointer: *const *const c_char, count: usize) -> Option<Vec<String>> {
    if pointer.is_null() {
        return None;
    }
    // SAFETY: the caller's.
    let pointers = unsafe { std::slice::from_raw_parts(pointer, count) };
    // SAFETY: the caller's.
    let all = pointers.iter().map(|it| unsafe { given(*it) });
    all.map(|it| it.map(str::to_owned)).collect()
}

/// Version of the library.
#[unsafe(no_mangle)]
pub extern "C" fn anthill_version() -> *const c_char {
    concat!(env!("CARGO_PKG_VERSION"), "\0").as_ptr().cast()
}

/// Binds a server.
///
/// # Safety
/// `config` is a text or NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn anthill_bind(config: *const c_char) -> *mut AnthillServer {
    // SAFETY: the caller's.
    let path = unsafe { given(config) };
    match bind(path.map(Path::new)) {
        Ok(server) => Box::into_raw(Box::new(server)),
        Err(why) => {
            BIND_ERROR.with(|error| *error.borrow_mut() = text(&why));
            std::ptr::null_mut()
        }
    }
}

fn bind(path: Option<&Path>) -> Result<AnthillServer, String> {
    let config = Config::load(path, &Overrides::default()).map_err(|error| error.to_string())?;
    let node = config.server.name.clone();
    let server = Server::bind(config).map_err(|error| error.to_string())?;
    let handle = server.handle();
    Ok(AnthillServer {
        ready: text(&server.ready().to_string()),
        events: handle.events(),
        handle,
        server,
        node,
        error: CString::default(),
        event: CString::default(),
    })
}

/// Reason of the last failure to bind on this thread.
#[unsafe(no_mangle)]
pub extern "C" fn anthill_bind_error() -> *const c_char {
    BIND_ERROR.with(|error| error.borrow().as_ptr())
}

/// The ready line.
///
/// # Safety
/// `server` is of [`anthill_bind`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn anthill_ready(server: *const AnthillServer) -> *const c_char {
    // SAFETY: the caller's.
    unsafe { &*server }.ready.as_ptr()
}

/// Descriptor to wait on.
///
/// # Safety
/// `server` is of [`anthill_bind`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn anthill_fd(server: *const AnthillServer) -> c_int {
    // SAFETY: the caller's.
    unsafe { &*server }.server.as_fd().as_raw_fd()
}

/// Time until a turn is due, in milliseconds.
///
/// # Safety
/// `server` is of [`anthill_bind`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn anthill_next_turn_ms(server: *const AnthillServer) -> c_int {
    // SAFETY: the caller's.
    match unsafe { &*server }.server.next_turn() {
        None => -1,
        // Rounded up, or a turn would come too early and find nothing to do.
        Some(wait) => c_int::try_from(wait.as_micros().div_ceil(1_000)).unwrap_or(c_int::MAX),
    }
}

/// Runs one turn.
///
/// # Safety
/// `server` is of [`anthill_bind`], and no other thread uses it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn anthill_turn(server: *mut AnthillServer, max_us: i64) -> c_int {
    // SAFETY: the caller's.
    let server = unsafe { &mut *server };
    let max = u64::try_from(max_us).ok().map(Duration::from_micros);
    match server.server.turn(max) {
        Ok(goes_on) => c_int::from(goes_on),
        Err(error) => server.failed(&error.to_string()),
    }
}

impl AnthillServer {
    fn failed(&mut self, why: &str) -> c_int {
        self.error = text(why);
        -1
    }

    /// Asks through the handle on another thread, and turns the server until it has answered.
    fn ask<T: Send>(&mut self, ask: impl FnOnce(&Handle) -> T + Send) -> Result<T, String> {
        let (handle, server) = (&self.handle, &mut self.server);
        thread::scope(|scope| {
            let asking = thread::Builder::new().spawn_scoped(scope, || ask(handle));
            let asking = asking.map_err(|error| error.to_string())?;
            while !asking.is_finished() {
                let turned = server.turn(Some(Duration::from_millis(1)));
                if !matches!(turned, Ok(true)) {
                    break;
                }
            }
            asking.join().map_err(|_| "a panic".to_owned())
        })
    }
}

/// Returns whether a host is online.
///
/// # Safety
/// `server` is of [`anthill_bind`], no other thread uses it, and `host` is a text.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn anthill_alive(server: *mut AnthillServer, host: *const c_char) -> c_int {
    // SAFETY: the caller's.
    let (server, host) = unsafe { (&mut *server, given(host)) };
    let Some(host) = host else {
        return server.failed("the host is no text");
    };
    match server.ask(|handle| handle.alive(&[host])) {
        Ok(Ok(alive)) => c_int::from(alive == [true]),
        Ok(Err(error)) => server.failed(&error.to_string()),
        Err(why) => server.failed(&why),
    }
}

struct Task {
    key: String,
    commands: Vec<(String, f64)>,
    hosts: Option<Vec<String>>,
}

impl DispatchSource for Task {
    fn ip_list(&self) -> Option<Vec<String>> {
        self.hosts.clone()
    }

    fn dis_commands(&self) -> Vec<(String, f64)> {
        self.commands.clone()
    }

    fn key(&self) -> String {
        self.key.clone()
    }
}

/// Stores a task and sends it.
///
/// # Safety
/// `server` is of [`anthill_bind`], no other thread uses it; the arrays have as many elements as
/// their counts say.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn anthill_dispatch(
    server: *mut AnthillServer,
    key: *const c_char,
    commands: *const *const c_char,
    priorities: *const f64,
    commands_count: usize,
    hosts: *const *const c_char,
    hosts_count: usize,
) -> c_int {
    // SAFETY: the caller's.
    let server = unsafe { &mut *server };
    // SAFETY: the caller's.
    let (key, commands) = unsafe { (given(key), texts(commands, commands_count)) };
    let (Some(key), Some(commands), false) = (key, commands, priorities.is_null()) else {
        return server.failed("key and commands must be texts, and each command has a priority");
    };
    // SAFETY: the caller's.
    let priorities = unsafe { std::slice::from_raw_parts(priorities, commands_count) };
    // SAFETY: the caller's.
    let named = unsafe { texts(hosts, hosts_count) };
    if named.is_none() && !hosts.is_null() {
        return server.failed("a host is no text");
    }
    let task = Task {
        key: key.to_owned(),
        commands: commands
            .into_iter()
            .zip(priorities.iter().copied())
            .collect(),
        hosts: named,
    };
    match server.ask(|handle| handle.dispatch(&task)) {
        Ok(Ok(hosts)) => c_int::try_from(hosts.len()).unwrap_or(c_int::MAX),
        Ok(Err(error)) => server.failed(&error.to_string()),
        Err(why) => server.failed(&why),
    }
}

/// Returns the next event as JSON.
///
/// # Safety
/// `server` is of [`anthill_bind`], and no other thread uses it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn anthill_poll_event(server: *mut AnthillServer) -> *const c_char {
    // SAFETY: the caller's.
    let server = unsafe { &mut *server };
    match server.events.try_recv() {
        Ok(Some(event)) => {
            server.event = text(&anthill::event_json(&event, &server.node));
            server.event.as_ptr()
        }
        Ok(None) | Err(_) => std::ptr::null(),
    }
}

/// Reason of the last failure.
///
/// # Safety
/// `server` is of [`anthill_bind`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn anthill_error(server: *const AnthillServer) -> *const c_char {
    // SAFETY: the caller's.
    unsafe { &*server }.error.as_ptr()
}

/// Begins the shutdown.
///
/// # Safety
/// `server` is of [`anthill_bind`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn anthill_shutdown(server: *mut AnthillServer) {
    // SAFETY: the caller's.
    unsafe { &*server }.handle.shutdown();
}

/// Releases the server.
///
/// # Safety
/// `server` is of [`anthill_bind`] and is not used afterwards, or NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn anthill_close(server: *mut AnthillServer) {
    if !server.is_null() {
        // SAFETY: the caller's.
        drop(unsafe { Box::from_raw(server) });
    }
}
