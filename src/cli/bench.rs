//! `anthill bench`: what a server makes of many hosts.

use std::io::{self, IsTerminal, Write};
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::thread::available_parallelism;
use std::time::{SystemTime, UNIX_EPOCH};

use anthill::bench::plan::Sources;
use anthill::bench::report::{
    Dispatched, Floored, Latency, Left, Ratio, Report, Round, ServerUse, Shown, Stride,
};
use anthill::bench::{self, BenchError, Mode, Plan, Post, Progress, Watch};
use anthill::text;
use rustix::thread::{CpuSet, sched_setaffinity};
use serde_json::{Map, Value, json};

use super::api::Api;
use super::args::{BenchArgs, BenchMode, FloorArgs};
use super::{Failure, agent, print, remark};

/// Characters of a bar.
const BAR: u64 = 30;
/// Where stderr is no terminal, a line each so many tenths of a second.
const PLAIN_EVERY: u32 = 50;

/// Runs it, and shows what it has shown.
///
/// # Errors
/// Wrong usage, status 2; no server, or one that loses connections or answers, status 1.
pub fn run(args: &BenchArgs) -> Result<(), Failure> {
    let plan = plan(args)?;
    if let Some(cpu) = args.cpu {
        stay_on(cpu)?;
    }
    let mut bar = Bar::new();
    let ran = bench::run(&plan, &mut bar);
    bar.clear();
    let report = ran.map_err(failure)?;
    if args.json {
        let text = serde_json::to_string_pretty(&report).map_err(Failure::failed)?;
        print(&format!("{text}\n"))?;
    } else {
        print(&in_words(&report))?;
    }
    match report.trouble() {
        None => Ok(()),
        Some(trouble) => Err(Failure::failed(format!("not all went well: {trouble}"))),
    }
}

/// Is the floor that a bench compares a server with, until stdin ends.
///
/// # Errors
/// What the system refuses, status 1.
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
    if mode == Mode::Dispatch {
        let pushed = args.plain && !args.datagrams;
        refuse(
            pushed,
            "--plain",
            "such hosts take tasks by --datagrams only",
        )?;
        refuse(args.floor, "--floor", "a floor dispatches nothing")?;
    } else {
        refuse(args.datagrams, "--datagrams", "it is for dispatch")?;
    }
    if args.apart > 0 {
        let dispatch = mode == Mode::Dispatch;
        refuse(!dispatch, "--apart", "it is for dispatch")?;
        refuse(args.apart >= args.hosts, "--apart", "somebody has to work")?;
    }
    if args.leave > 0 {
        let steady = mode == Mode::Steady;
        refuse(!steady, "--leave", "it is for steady")?;
        refuse(args.leave >= args.hosts, "--leave", "somebody has to stay")?;
    }
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
    Ok(Plan {
        key,
        commands,
        post,
        mode,
        server,
        hosts,
        rate: args.rate.unwrap_or(hosts as f64),
        together: args.together,
        hold: args.hold,
        seconds: args.seconds,
        idle: args.idle,
        connect_rate: args.connect_rate.unwrap_or(match mode {
            Mode::Churn => 500.0,
            _ => 5_000.0,
        }),
        connecting: args.connecting as usize,
        replies,
        pipeline: args.pipeline as usize,
        identified: !args.plain,
        datagrams: args.datagrams.then_some(match args.plain {
            true => args.agent_port,
            false => 0,
        }),
        leave: args.leave as usize,
        apart: args.apart as usize,
        sources,
        pairs: if args.floor { args.pairs } else { 0 },
        // Asked before this program is bound to one of them.
        spins: available_parallelism().is_ok_and(|count| count.get() > 1),
        seed: args.seed,
    })
}

fn refuse(given: bool, flag: &str, why: &str) -> Result<(), Failure> {
    match given {
        true => Err(Failure::usage(format!(
            "{flag} cannot be used with this load: {why}"
        ))),
        false => Ok(()),
    }
}

/// A key no other run has.
fn own_key() -> String {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    format!("AC-bench-{:x}-{:x}", now.as_millis(), std::process::id())
}

/// Posts a task with these commands to all hosts of the run, and to nobody else.
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

/// Hosts of a loopback server come from loopback addresses: without ids from one each, else from as
/// many as their ports take.
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

/// The flag for which each host has to have an address of its own, if one is given.
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

/// What a run is at, on stderr: a bar where that is a terminal, else a line now and then.
struct Bar {
    terminal: bool,
    drawn: bool,
    told: u32,
}

impl Bar {
    fn new() -> Self {
        Self {
            terminal: io::stderr().is_terminal(),
            drawn: false,
            told: 0,
        }
    }

    fn clear(&mut self) {
        if self.drawn {
            write("\r\x1b[K");
            self.drawn = false;
        }
    }
}

fn write(text: &str) {
    // Where stderr is gone nobody looks at the progress.
    let _ = io::stderr().write_all(text.as_bytes());
}

impl Watch for Bar {
    fn progress(&mut self, progress: &Progress) {
        let line = progress_line(progress);
        if self.terminal {
            let full = match progress.of {
                0 => 0,
                of => (progress.done * BAR / of).min(BAR),
            };
            let bar: String = (0..BAR)
                .map(|at| if at < full { '#' } else { '.' })
                .collect();
            write(&format!("\r[{bar}] {line}\x1b[K"));
            self.drawn = true;
            return;
        }
        self.told += 1;
        if self.told.is_multiple_of(PLAIN_EVERY) {
            remark(&line);
        }
    }

    fn note(&mut self, line: &str) {
        self.clear();
        remark(line);
    }
}

fn progress_line(progress: &Progress) -> String {
    format!(
        "{} {:.1} s: {} connected, {} sent, {} answered, {} errors",
        progress.doing,
        progress.elapsed.as_secs_f64(),
        grouped(progress.connected),
        grouped(progress.sent),
        grouped(progress.answered),
        grouped(progress.errors)
    )
}

/// A number with commas between its thousands.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A time, in the unit that reads best.
fn time(us: f64) -> String {
    match us {
        us if us < 1_000.0 => format!("{us:.0} µs"),
        us if us < 1_000_000.0 => format!("{:.2} ms", us / 1e3),
        us => format!("{:.2} s", us / 1e6),
    }
}

fn in_words(report: &Report) -> String {
    let asked = &report.asked;
    let mut lines = vec![format!(
        "{}: {} hosts at {}",
        report.mode.as_str(),
        grouped(asked.hosts as u64),
        report.server
    )];
    lines.extend(shown_in_words(&report.shown));
    if let Some(floored) = &report.floor {
        lines.extend(floored_in_words(floored));
    }
    let mut text = String::new();
    for line in &lines {
        text.push_str(&text::escape(line));
        text.push('\n');
    }
    text
}

fn shown_in_words(shown: &Shown) -> Vec<String> {
    let (connections, beats) = (&shown.connections, &shown.heartbeats);
    let mut lines = vec![
        format!(
            "  connections  {} made in {:.2} s ({}/s), {} failed, {} lost",
            grouped(connections.made),
            connections.seconds,
            grouped(connections.made_per_s as u64),
            grouped(connections.failed),
            grouped(connections.lost)
        ),
        format!(
            "  heartbeats   {} sent ({}/s), {} answered ({}/s), {} unanswered",
            grouped(beats.sent),
            grouped(beats.sent_per_s as u64),
            grouped(beats.answered),
            grouped(beats.answered_per_s as u64),
            grouped(beats.unanswered)
        ),
    ];
    if let Some(latency) = &beats.latency {
        let words = latency_in_words(latency);
        lines.push(format!("  replies      {words} from when they were due"));
    }
    lines.extend(rounds_in_words(&shown.storm_rounds));
    lines.extend(shown.dispatch.iter().flat_map(dispatch_in_words));
    lines.extend(shown.left.iter().map(left_in_words));
    if let Some(late) = &shown.client.late {
        lines.push(format!(
            "  this client  {:.2} s of CPU, late by {} at p99 (part of the above)",
            shown.client.cpu_s,
            time(late.p99_us)
        ));
    }
    match (&shown.server_process, &shown.server_process_unknown) {
        (Some(used), _) => lines.extend(server_in_words(used)),
        (None, Some(why)) => lines.push(format!("  server       CPU and memory not known: {why}")),
        (None, None) => {}
    }
    lines
}

fn rounds_in_words(rounds: &[Round]) -> Option<String> {
    let longest = |of: fn(&Round) -> f64| rounds.iter().map(of).fold(0.0, f64::max);
    (!rounds.is_empty()).then(|| {
        format!(
            "  storms       {}: all connected within {}, all heard of within {}",
            rounds.len(),
            time(longest(|round| round.connected_ms) * 1e3),
            time(longest(|round| round.answered_ms) * 1e3)
        )
    })
}

fn dispatch_in_words(task: &Dispatched) -> Vec<String> {
    let stride = |what: &str, stride: &Stride| {
        let times = stride.latency.as_ref();
        format!(
            "               {} {what}: half within {}, all within {}",
            grouped(stride.hosts),
            times.map_or("-".to_owned(), |times| time(times.p50_us)),
            times.map_or("-".to_owned(), |times| time(times.max_us))
        )
    };
    let mut lines = vec![
        format!(
            "  task         {} of {} commands, stored within {}",
            task.key,
            task.commands,
            time(task.stored_ms * 1e3)
        ),
        stride("received it", &task.received),
        stride("answered, acknowledged", &task.answered),
        stride("done, acknowledged", &task.done),
    ];
    lines.extend(task.apart.as_ref().map(|latency| {
        let words = latency_in_words(latency);
        format!("  others       replies {words}")
    }));
    lines.extend(task.datagrams.as_ref().map(|sent| {
        let [before, after] = sent.bare_first_to_last_ms;
        format!(
            "  datagrams    {}, first to last {}: {:.2} times that of bare sendto ({}, {})",
            grouped(sent.hosts),
            time(sent.first_to_last_ms * 1e3),
            sent.ratio,
            time(before * 1e3),
            time(after * 1e3)
        )
    }));
    lines
}

fn left_in_words(left: &Left) -> String {
    let replies = left.replies.as_ref().map(latency_in_words);
    format!(
        "  left         {} hosts within {}; the others' replies meanwhile: {}",
        grouped(left.hosts as u64),
        time(left.closing_ms * 1e3),
        replies.unwrap_or_else(|| "none".to_owned())
    )
}

fn floored_in_words(floored: &Floored) -> Vec<String> {
    let mut lines = vec![format!(
        "  compared with a bare epoll drain, {} pairs: the median, and the spread",
        floored.pairs.len()
    )];
    let mut line = |what: &str, ratio: Option<Ratio>, unit: &str| {
        let Some(Ratio { median, min, max }) = ratio else {
            return;
        };
        lines.push(format!(
            "    {what:<32} {median:.2} {unit} ({min:.2} to {max:.2})"
        ));
    };
    let times = "times the floor's";
    line(
        "CPU a heartbeat, loop thread",
        floored.loop_cpu_per_heartbeat_ratio,
        times,
    );
    line(
        "CPU a heartbeat, all threads",
        floored.cpu_per_heartbeat_ratio,
        times,
    );
    line(
        "CPU a connection, loop thread",
        floored.loop_cpu_per_connection_ratio,
        times,
    );
    line(
        "CPU a connection, all threads",
        floored.cpu_per_connection_ratio,
        times,
    );
    let beyond = floored.memory_bytes_per_connection_beyond;
    line("memory a connection", beyond, "bytes more than the floor's");
    lines
}

fn latency_in_words(latency: &Latency) -> String {
    format!(
        "p50 {}, p99 {}, p99.9 {}, max {}",
        time(latency.p50_us),
        time(latency.p99_us),
        time(latency.p999_us),
        time(latency.max_us)
    )
}

fn server_in_words(used: &ServerUse) -> Vec<String> {
    let us = |value: Option<f64>| value.map_or("-".to_owned(), |us| format!("{us:.2} µs"));
    let per = |what: &str, all, of_loop, of_store| {
        format!(
            "{} of CPU a {what} (loop {}, store {})",
            us(all),
            us(of_loop),
            us(of_store)
        )
    };
    let heartbeat = per(
        "heartbeat",
        used.cpu_us_per_heartbeat,
        used.loop_cpu_us_per_heartbeat,
        used.store_cpu_us_per_heartbeat,
    );
    let connection = per(
        "connection",
        used.cpu_us_per_connection,
        used.loop_cpu_us_per_connection,
        used.store_cpu_us_per_connection,
    );
    let memory = used.memory_bytes_per_connection.unwrap_or_default();
    let after = used.memory_bytes_per_connection_after.unwrap_or_default();
    let mb = |bytes: u64| format!("{:.1} MB", bytes as f64 / 1e6);
    vec![
        format!("  server       process {}: {heartbeat}", used.pid),
        format!("               {connection}"),
        format!(
            "               {memory:.0} bytes a connection, {after:.0} at the end ({} before, {} connected, {} after)",
            mb(used.resident_bytes_before),
            mb(used.resident_bytes_connected),
            mb(used.resident_bytes_after)
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_times_read_well() {
        assert_eq!(grouped(7), "7");
        assert_eq!(grouped(1_234_567), "1,234,567");
        assert_eq!(time(12.4), "12 µs");
        assert_eq!(time(1_500.0), "1.50 ms");
        assert_eq!(time(2_500_000.0), "2.50 s");
    }
}
