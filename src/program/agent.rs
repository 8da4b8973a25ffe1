//! `anthill agent`: the agent of a host.

mod tls;

use std::net::IpAddr;
use std::path::Path;
use std::thread;
use std::time::Duration;

use crate::agent::{Agent, Allow, Handle, Setup, adopt_orphans};
use crate::codec::target::is_label_text;
use crate::config::{Config, read_key_file};
use crate::escape::escape;
use crate::files::{Guard, read_text};
use crate::ids::HostId;
use crate::keys::Key;
use crate::limits::{
    AGENT_ALLOW_BYTES_MAX, AGENT_LOG_LINES_WAITING_MAX, AGENT_STOP_MS_MAX, LABEL_BYTES_KEYED_MAX,
    LABELS_MAX,
};
use crate::logging;
use crate::time::Span;

use super::Failure;
use super::args::AgentArgs;
use super::signals::{self, Caught, Watch};

/// Default port of the server for hosts.
const SERVER_PORT: u16 = 11451;
/// Default UDP port of a host.
const AGENT_PORT: u16 = 6655;
/// Limit of the warnings about allow entries that never match.
const COVERED_TOLD_MAX: usize = 10;

/// Runs the agent until a signal ends it. `caught` holds the signals since the start of the
/// process.
///
/// # Errors
/// Wrong usage or a wrong allow file, status 2; an unusable state directory or port, status 1.
pub fn run(args: &AgentArgs, caught: Option<Caught>) -> Result<(), Failure> {
    let watch = signals::watch(caught)?;
    // A blocked start must end in time, too.
    watch.on_stop(end_in_time);
    let setup = setup(args)?;
    let _logging = logging::start(&Config::default().log, AGENT_LOG_LINES_WAITING_MAX)
        .map_err(Failure::usage)?;
    let (server, path) = (&setup.server, setup.state.display());
    log::info!(
        target: "agent", server = server.as_str(), path:% = path;
        "for the server {server}, with its state in {path}"
    );
    warn(&setup.allow);
    if setup.tls.is_some() && setup.key.is_none() && setup.udp.is_some() {
        log::warn!(
            target: "agent",
            "--udp is ignored: with --tls and without --key-file, tasks come over the connection only"
        );
    }
    let given = Given {
        args: args.clone(),
        server: setup.server.clone(),
        id: setup.id.clone(),
    };
    if !watch.stop_requested() {
        serve(setup, given, &watch)?;
    }
    log::info!(target: "agent", "stopped");
    Ok(())
}

fn serve(setup: Setup, given: Given, watch: &Watch) -> Result<(), Failure> {
    if let Err(error) = adopt_orphans() {
        log::warn!(
            target: "agent", error:% = error;
            "detached processes of a command may outlive it: {error}"
        );
    }
    let agent = Agent::start(setup).map_err(Failure::failed)?;
    let handle = agent.handle();
    watch.on_stop(move || {
        log::info!(target: "agent", "stopping");
        handle.stop();
        end_in_time();
    });
    let (handle, reloads) = (agent.handle(), watch.reloads());
    thread::Builder::new()
        .name("reload".to_owned())
        .spawn(move || {
            for () in reloads {
                read_again(&handle, &given);
            }
        })
        .map_err(|error| Failure::failed(format!("cannot start a thread: {error}")))?;
    agent.run().map_err(Failure::failed)
}

/// Ends the process if its clean stop takes too long, as when a disk or a name lookup hangs.
fn end_in_time() {
    let end = || {
        // Not a wait for a condition: a clean stop ends the process, and this thread with it.
        thread::sleep(Duration::from_millis(AGENT_STOP_MS_MAX));
        log::error!(target: "agent", "the clean stop takes too long: the process ends now");
        // Time for the log thread to write the line. It is not waited for, since stderr may block.
        thread::sleep(Duration::from_millis(100));
        std::process::exit(1);
    };
    // Without a thread the clean stop has no bound; a second signal still ends the process.
    let _ = thread::Builder::new().name("stop".to_owned()).spawn(end);
}

/// Options that reloaded files must fit.
struct Given {
    args: AgentArgs,
    server: String,
    id: Option<String>,
}

/// Reloads the allow file and the TLS files.
fn read_again(handle: &Handle, given: &Given) {
    read_allow_again(handle, given.args.allow.as_deref());
    if given.args.tls {
        read_tls_again(handle, given);
    }
}

fn read_allow_again(handle: &Handle, file: Option<&Path>) {
    match file.map(read_allow) {
        None => log::info!(target: "agent", "there is no allow file to reload"),
        Some(Ok(allow)) => {
            let entries = allow.len();
            log::info!(target: "agent", entries = entries; "the allow file has been reloaded: {entries} entries");
            warn(&allow);
            handle.allow(allow);
        }
        Some(Err(why)) => {
            log::error!(target: "agent", reason = why.as_str(); "{why}; the former allow file stays in force");
        }
    }
}

/// Reloads the certificates for the next connection. The host keeps its id.
fn read_tls_again(handle: &Handle, given: &Given) {
    let read = tls::read(&given.args, &given.server).and_then(|tls| match (&tls.name, &given.id) {
        (Some(name), Some(id)) if name != id => Err(format!(
            "--cert names this host '{}' now, and it is '{id}'",
            escape(name)
        )),
        _ => Ok(tls),
    });
    match read {
        Ok(tls) => {
            log::info!(target: "agent", "the files of TLS have been reloaded for the next connection");
            tls.settings
                .into_iter()
                .for_each(|settings| handle.tls(settings));
        }
        Err(why) => {
            log::error!(target: "agent", reason = why.as_str(); "{why}; the former files stay in force");
        }
    }
}

fn setup(args: &AgentArgs) -> Result<Setup, Failure> {
    let server = server(&args.server)?;
    let tls = tls::read(args, &server).map_err(Failure::usage)?;
    // Over TLS without a key there are no datagrams: tasks come over the connection only.
    let push = args.push || args.tls && args.key_file.is_none();
    Ok(Setup {
        server,
        id: id_beside(id(args.id.as_deref())?, tls.name)?,
        source: args.source,
        udp: args.udp.or((!push).then_some(AGENT_PORT)),
        push,
        interval: interval(args.interval)?,
        allow: allow(args.allow.as_deref())?,
        key: key(args.key_file.as_deref())?,
        state: args.state.clone(),
        labels: labels(args)?,
        tls: tls.settings,
    })
}

/// Labels of the flags.
fn labels(args: &AgentArgs) -> Result<Vec<(String, String)>, Failure> {
    let mut labels: Vec<(String, String)> = Vec::new();
    for text in &args.label {
        let wrong = |why: &str| Failure::usage(format!("--label is '{}': {why}", escape(text)));
        let pair = text.split_once('=').filter(|(key, value)| {
            is_label_text(key) && is_label_text(value) && !key.starts_with("sys.")
        });
        let Some((key, value)) = pair else {
            return Err(wrong(
                "it may be KEY=VALUE, each 1 to 63 of A-Z a-z 0-9 . _ -, the key not below sys.",
            ));
        };
        if labels.iter().any(|(known, _)| known == key) {
            return Err(wrong("this key is given twice"));
        }
        labels.push((key.to_owned(), value.to_owned()));
    }
    let bytes: usize = labels
        .iter()
        .map(|(key, value)| key.len() + value.len() + 6)
        .sum();
    // A hello with a key has at most 512 bytes, because the server does not know the host yet.
    if args.key_file.is_some() && bytes > LABEL_BYTES_KEYED_MAX {
        return Err(Failure::usage(format!(
            "--label: with --key-file all labels have at most {LABEL_BYTES_KEYED_MAX} bytes, and these have {bytes}"
        )));
    }
    match labels.len() > LABELS_MAX {
        true => Err(Failure::usage(format!(
            "--label: a host has at most {LABELS_MAX} labels"
        ))),
        false => Ok(labels),
    }
}

fn key(file: Option<&Path>) -> Result<Option<(String, Key)>, Failure> {
    let Some(file) = file else {
        return Ok(None);
    };
    let wrong = |why| Failure::usage(format!("--key-file is '{}': it {why}", file.display()));
    read_key_file(file).map(Some).map_err(wrong)
}

/// Combines `--id` with the id in the certificate. The server accepts no other id.
fn id_beside(given: Option<String>, certified: Option<String>) -> Result<Option<String>, Failure> {
    let wrong = |why: String| Err(Failure::usage(why));
    match (given, certified) {
        (Some(id), Some(name)) if id != name => wrong(format!(
            "--id is '{id}': the certificate of --cert names this host '{}'; leave --id out",
            escape(&name)
        )),
        (None, Some(name)) if name.parse::<IpAddr>().is_err() => match HostId::checked(&name) {
            Ok(id) => Ok(Some(id.to_string())),
            Err(why) => wrong(format!(
                "--cert names this host '{}', which can be no id: {why}",
                escape(&name)
            )),
        },
        (given, _) => Ok(given),
    }
}

/// Completes the address of a server with the default port.
pub fn server(text: &str) -> Result<String, Failure> {
    let wrong = |why| {
        Failure::usage(format!(
            "--server is '{text}': it {why}; it may be HOST:PORT or HOST"
        ))
    };
    if text
        .parse::<IpAddr>()
        .is_ok_and(|address| address.is_ipv6())
    {
        return Ok(format!("[{text}]:{SERVER_PORT}"));
    }
    let (host, port) = crate::escape::host_and_port(text).map_err(wrong)?;
    let port = port.unwrap_or(SERVER_PORT);
    Ok(match host.contains(':') {
        true => format!("[{host}]:{port}"),
        false => format!("{host}:{port}"),
    })
}

fn id(id: Option<&str>) -> Result<Option<String>, Failure> {
    let Some(id) = id else {
        return Ok(None);
    };
    if id.parse::<IpAddr>().is_ok() {
        return Err(Failure::usage(format!(
            "--id is '{id}', an IP address: it may be a name; without --id a host is known by its address"
        )));
    }
    let checked =
        HostId::checked(id).map_err(|why| Failure::usage(format!("--id is '{id}': {why}")))?;
    Ok(Some(checked.to_string()))
}

fn interval(seconds: Option<f64>) -> Result<Option<Span>, Failure> {
    let Some(seconds) = seconds else {
        return Ok(None);
    };
    if (0.05..=3600.0).contains(&seconds) {
        return Ok(Some(Span::from_secs_f64(seconds)));
    }
    let why = format!("--interval is '{seconds}': it may be from 0.05 to 3600 seconds");
    Err(Failure::usage(why))
}

fn allow(file: Option<&Path>) -> Result<Allow, Failure> {
    file.map_or_else(
        || Ok(Allow::default()),
        |file| read_allow(file).map_err(Failure::usage),
    )
}

/// Reads an allow file. An error is one line that names the file.
fn read_allow(file: &Path) -> Result<Allow, String> {
    let wrong = |why: &dyn std::fmt::Display| format!("--allow is '{}': {why}", file.display());
    let read = read_text(file, AGENT_ALLOW_BYTES_MAX, Guard::Trusted);
    let text = read.map_err(|error| wrong(&format!("it {error}")))?.text;
    Allow::parse(&text).map_err(|error| wrong(&error))
}

fn warn(allow: &Allow) {
    if allow.is_empty() {
        log::info!(target: "agent", "no allow file or an empty one: every command is refused");
    }
    for (entry, by) in allow.covered().into_iter().take(COVERED_TOLD_MAX) {
        log::warn!(
            target: "agent", entry = entry, by = by;
            "entry {entry} of the allow file never matches: entry {by} covers it"
        );
    }
    if allow.has_wildcard() && rustix::process::geteuid().is_root() {
        log::warn!(
            target: "agent",
            "the allow file has a wildcard and the agent is root: a dispatch chooses the words at that place"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_a_host_and_perhaps_a_port() {
        for (text, wanted) in [
            ("web", "web:11451"),
            ("10.0.0.1", "10.0.0.1:11451"),
            ("10.0.0.1:5", "10.0.0.1:5"),
            ("::1", "[::1]:11451"),
            ("[::1]", "[::1]:11451"),
            ("[::1]:5", "[::1]:5"),
        ] {
            assert_eq!(server(text).unwrap(), wanted);
        }
        for wrong in [
            "", ":5", "a:", "a:0", "a:+5", "a:70000", "a b", "http://a", "[a]:5", "a:b:5",
        ] {
            assert!(server(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn an_interval_is_some_time() {
        assert_eq!(interval(Some(0.5)).unwrap(), Some(Span::from_millis(500)));
        for wrong in [0.0, -1.0, f64::NAN, f64::INFINITY, 1e9] {
            assert!(interval(Some(wrong)).is_err(), "{wrong}");
        }
    }
}
