//! `anthill bench`: a load of simulated hosts, and its report.

mod bar;
mod document;
mod signals;
pub mod text;
mod validate;

use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::thread::available_parallelism;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::bench::fleet::FleetKey;
use crate::bench::plan::Sources;
use crate::bench::report::{Options, Report};
use crate::bench::secure::TlsSettings;
use crate::bench::turns::ReadMetrics;
use crate::bench::{self, BenchError, Mode, Plan, Post};
use crate::config::read_key_file;
use rustix::thread::{CpuSet, sched_setaffinity};
use serde_json::{Map, Value, json};

use super::api::Api;
use super::args::{BenchArgs, BenchMode, FloorArgs};
use super::{Failure, agent, forget, print, print_note};
use bar::Bar;
use signals::EndSignals;

/// Runs the load and prints the report. After an early end the report covers the part that ran.
///
/// # Errors
/// Wrong usage, status 2; no server, or lost connections or answers, status 1; a signal, 128 plus
/// its number.
pub fn run(args: &BenchArgs) -> Result<(), Failure> {
    let signals = EndSignals::catch()
        .map_err(|error| Failure::failed(format!("cannot catch signals: {error}")))?;
    let measured = measure(args, signals.clone());
    let report = match measured {
        Ok(report) => {
            forget_hosts(args, true);
            report
        }
        Err(failure) => {
            if args.json {
                let document = json!({"bench": 1, "error": failure.why()});
                print(&format!("{document:#}\n"))?;
            }
            return Err(failure);
        }
    };
    if args.json {
        print(&document::of(&report).map_err(Failure::failed)?)?;
    } else {
        print(&text::of(&report))?;
    }
    match (report.trouble(), signals.received()) {
        (None, _) => Ok(()),
        (Some(trouble), Some(signal)) => Err(Failure::ended(signal.status(), trouble)),
        (Some(trouble), None) => Err(Failure::failed(format!("not all went well: {trouble}"))),
    }
}

/// Longest wait of the end of a run for a server that refuses to forget its hosts.
const FORGETTING_MAX: Duration = Duration::from_secs(10);

/// Deletes the hosts of the run at the server, and says which are left. `has_run`: hosts have
/// connected for certain, so those of a server without HTTP are left as well.
fn forget_hosts(args: &BenchArgs, has_run: bool) {
    if args.plain {
        // Their ids are addresses, which may also be the ids of real hosts.
        return;
    }
    let Ok(api) = Api::new(&args.api) else {
        return;
    };
    let ids = (0..args.hosts as usize).map(bench::fleet::id);
    let swept = forget::sweep(&api, ids, FORGETTING_MAX);
    match swept.why {
        Some(error) if has_run || !error.is_unreachable() => {
            print_note(&format!(
                "{} hosts of the run may be left at the server: {error}; \
                 anthill forget 'bench-*' deletes them",
                swept.left
            ));
        }
        _ => {}
    }
}

fn measure(args: &BenchArgs, signals: EndSignals) -> Result<Report, Failure> {
    let plan = plan(args)?;
    if let Some(cpu) = args.cpu {
        stay_on(cpu)?;
    }
    let mut bar = Bar::new(signals);
    let ran = bench::run(&plan, &mut bar);
    bar.clear();
    ran.map_err(|error| {
        if !error.is_usage() {
            forget_hosts(args, false);
        }
        failure(error)
    })
}

/// Runs the floor, the baseline of a comparison, until stdin ends.
///
/// # Errors
/// A refusal of the system, status 1.
pub fn floor(args: &FloorArgs) -> Result<(), Failure> {
    let served = match (args.sendto, args.count, args.bytes) {
        (Some(first), Some(count), Some(bytes)) => bench::bare::send(first, count, bytes),
        _ => bench::floor::serve(args.replies),
    };
    served.map_err(|error| Failure::failed(format!("the floor: {error}")))
}

fn failure(error: BenchError) -> Failure {
    if error.is_usage() {
        Failure::usage(error)
    } else {
        Failure::failed(error)
    }
}

fn plan(args: &BenchArgs) -> Result<Plan, Failure> {
    let server = address(&args.server)?;
    let mode = mode(args.mode);
    let hosts = args.hosts as usize;
    let replies = !args.no_replies;
    validate::check(args, mode)?;
    let pushed = mode == Mode::Dispatch && args.plain && !args.datagrams;
    refuse(
        pushed,
        "--plain",
        "such hosts take tasks by --datagrams only",
    )?;
    refuse(
        args.apart >= args.hosts,
        "--apart",
        "at least one host must have the task",
    )?;
    refuse(
        args.leave >= args.hosts,
        "--leave",
        "at least one host must stay",
    )?;
    let sources = sources(args, server)?;
    let key = args.key.clone().unwrap_or_else(own_key);
    let commands: Vec<String> = (1..=args.commands).map(|n| format!("bench-{n}")).collect();
    let post = match mode {
        Mode::Dispatch => {
            let names = |index: usize| match sources {
                Some(sources) if args.plain => sources.at(index as u64).to_string(),
                _ => bench::fleet::id(index),
            };
            let named = hosts - args.apart as usize;
            let names = (0..named).map(names).collect();
            Some(post(Api::new(&args.api)?, &key, &commands, names))
        }
        _ => None,
    };
    let pairs = if args.floor { args.pairs } else { 0 };
    Ok(Plan {
        mode,
        server,
        asked: Options {
            hosts,
            rate_per_s: args.rate.unwrap_or(hosts as f64),
            together: args.together,
            hold: args.hold,
            seconds: args.seconds,
            idle_s: args.idle,
            connect_rate_per_s: args.connect_rate.unwrap_or(match mode {
                Mode::Churn => 500.0,
                _ => 5_000.0,
            }),
            replies,
            pipeline: args.pipeline as usize,
            connecting: args.connecting as usize,
            source: args.source.clone(),
            cpu: args.cpu,
            commands: (mode == Mode::Dispatch).then_some(commands.len()),
            agent_port: (args.datagrams && args.plain).then_some(args.agent_port),
            floor: pairs > 0,
            pairs: (pairs > 0).then_some(pairs),
            identified: !args.plain,
            keyed: args.key_file.is_some(),
            tls: args.tls,
            leave: args.leave as usize,
            apart: args.apart as usize,
            datagrams: args.datagrams,
            seed: args.seed,
        },
        datagrams: args.datagrams.then_some(match args.plain {
            true => args.agent_port,
            false => 0,
        }),
        sources,
        fleet_key: fleet_key(args)?,
        tls: tls(args)?,
        key,
        commands,
        post,
        metrics: metrics(args),
        pairs,
        // Read before this program is bound to one CPU.
        spins: available_parallelism().is_ok_and(|count| count.get() > 1),
    })
}

/// TLS of the hosts.
#[cfg(feature = "tls")]
fn tls(args: &BenchArgs) -> Result<Option<TlsSettings>, Failure> {
    use crate::certificates::{PemFile, authorities_of_the_system};
    if !args.tls {
        return Ok(None);
    }
    let authorities = match &args.api.ca {
        Some(file) => PemFile::open(file)
            .and_then(|file| file.authorities())
            .map_err(|error| Failure::usage(format!("--ca: {error}")))?,
        None => authorities_of_the_system().map_err(Failure::failed)?,
    };
    let server = agent::server(&args.server)?;
    let host = server.rsplit_once(':').map_or(&*server, |(host, _)| host);
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let settings = TlsSettings::new(host, authorities);
    settings
        .map(Some)
        .map_err(|why| Failure::usage(format!("--server: {why}")))
}

#[cfg(not(feature = "tls"))]
fn tls(args: &BenchArgs) -> Result<Option<TlsSettings>, Failure> {
    match args.tls {
        true => Err(Failure::usage("--tls: this build has no TLS")),
        false => Ok(None),
    }
}

/// Reads the key from which each host has its own.
fn fleet_key(args: &BenchArgs) -> Result<Option<FleetKey>, Failure> {
    let Some(file) = &args.key_file else {
        return Ok(None);
    };
    let wrong = |why| Failure::usage(format!("--key-file is '{}': it {why}", file.display()));
    let (name, key) = read_key_file(file).map_err(wrong)?;
    Ok(Some(FleetKey { name, key }))
}

fn refuse(given: bool, flag: &str, why: &str) -> Result<(), Failure> {
    match given {
        true => Err(Failure::usage(format!(
            "{flag} cannot be used with this load: {why}"
        ))),
        false => Ok(()),
    }
}

/// Returns a key that is unique to this run.
fn own_key() -> String {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    format!("AC-bench-{:x}-{:x}", now.as_millis(), std::process::id())
}

/// Returns a function that posts a task with these commands to the hosts of the run only.
fn post(api: Api, key: &str, commands: &[String], hosts: Vec<String>) -> Post {
    let priorities = (1..=commands.len()).rev();
    let commands: Map<String, Value> = commands
        .iter()
        .cloned()
        .zip(priorities.map(Value::from))
        .collect();
    let body = json!({"key": key, "commands": commands, "hosts": hosts, "queue": false});
    Arc::new(move || {
        let answer = api.post::<Value>("/v1/tasks", &body);
        answer.map(|_| ()).map_err(|error| error.to_string())
    })
}

/// Returns a function that reads the metrics of the server at `--api`.
fn metrics(args: &BenchArgs) -> ReadMetrics {
    let api =
        Api::new(&args.api).map_err(|failure| failure.why().unwrap_or("wrong options").to_owned());
    Arc::new(move || {
        let api = api.as_ref().map_err(Clone::clone)?;
        let page = api.get_bytes("/metrics");
        let page = page.map_err(|error| error.to_string())?;
        Ok(String::from_utf8_lossy(&page).into_owned())
    })
}

const fn mode(mode: BenchMode) -> Mode {
    match mode {
        BenchMode::Steady => Mode::Steady,
        BenchMode::Flood => Mode::Flood,
        BenchMode::Churn => Mode::Churn,
        BenchMode::Storm => Mode::Storm,
        BenchMode::Dispatch => Mode::Dispatch,
    }
}

fn address(text: &str) -> Result<SocketAddr, Failure> {
    let server = agent::server(text)?;
    let mut found = server
        .to_socket_addrs()
        .map_err(|error| Failure::failed(format!("--server is '{text}': {error}")))?;
    found
        .next()
        .ok_or_else(|| Failure::failed(format!("--server is '{text}': it has no address")))
}

/// Chooses the source addresses. For a loopback server they are loopback addresses: one per host
/// without ids, else as many as the ports require.
fn sources(args: &BenchArgs, server: SocketAddr) -> Result<Option<Sources>, Failure> {
    let given = args.source.as_deref().map(|text| {
        Sources::parse(text).map_err(|why| Failure::usage(format!("--source is '{text}': {why}")))
    });
    let loopback = server.is_ipv4() && server.ip().is_loopback();
    let sources = match given {
        Some(sources) => Some(sources?),
        None if loopback => Some(Sources::loopback()),
        None => None,
    };
    let Some(sources) = sources else {
        return match each_an_address(args).filter(|_| args.hosts > 1) {
            Some(flag) => Err(Failure::usage(format!(
                "{flag}: such hosts are told apart by their addresses: \
                 give a network of addresses of this machine by --source"
            ))),
            None => Ok(None),
        };
    };
    if !server.is_ipv4() {
        return Err(Failure::usage(format!(
            "--source: {server} is no IPv4 address, and only those can be connected to from one"
        )));
    }
    match each_an_address(args) {
        Some(flag) if sources.count() < args.hosts => Err(Failure::usage(format!(
            "--source holds {} addresses: {flag} needs one for each of --hosts {}",
            sources.count(),
            args.hosts
        ))),
        _ => Ok(Some(sources)),
    }
}

/// Returns the given flag that requires one address per host.
fn each_an_address(args: &BenchArgs) -> Option<&'static str> {
    let flags = [(args.plain, "--plain"), (args.datagrams, "--datagrams")];
    flags
        .into_iter()
        .find_map(|(given, flag)| given.then_some(flag))
}

fn stay_on(cpu: usize) -> Result<(), Failure> {
    let refused = |why: &dyn std::fmt::Display| {
        let allowed = rustix::thread::sched_getaffinity(None);
        let allowed = allowed.map_or(String::new(), |set| {
            let numbers = (0..CpuSet::MAX_CPU).filter(|cpu| set.is_set(*cpu));
            numbers
                .map(|cpu| cpu.to_string())
                .collect::<Vec<_>>()
                .join(", ")
        });
        Failure::usage(format!("--cpu is '{cpu}': {why}: it may be {allowed}"))
    };
    if cpu >= CpuSet::MAX_CPU {
        return Err(refused(&"there is none of that number"));
    }
    let mut set = CpuSet::new();
    set.set(cpu);
    sched_setaffinity(None, &set).map_err(|error| refused(&error))
}
