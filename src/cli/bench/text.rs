//! A report as lines to read.

use crate::bench::Mode;
use crate::bench::report::{
    Disconnected, DispatchReport, FloorReport, Heartbeats, Latency, Pair, Ratio, Report, Round,
    ServerUse, StepTimes, TrialReport,
};
use crate::bench::turns::TurnTimes;
use crate::escape;

/// A number with commas between its thousands.
pub fn grouped(number: u64) -> String {
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

/// A rate, to the next whole number.
fn whole(number: f64) -> String {
    // `as` saturates, and turns NaN into 0.
    grouped(number.round() as u64)
}

/// Formats a time in a suitable unit.
fn time(us: f64) -> String {
    match us {
        us if us < 1_000.0 => format!("{us:.0} µs"),
        us if us < 1_000_000.0 => format!("{:.2} ms", us / 1e3),
        us => format!("{:.2} s", us / 1e6),
    }
}

/// A report as lines to read.
pub fn of(report: &Report) -> String {
    let asked = &report.asked;
    let mut lines = vec![format!(
        "{}: {} hosts at {}",
        report.mode.as_str(),
        grouped(asked.hosts as u64),
        report.server
    )];
    if report.floor.is_some() {
        lines.push("  the server, in the first pair:".to_owned());
    }
    lines.extend(shown_text(report));
    if let Some(floored) = report
        .floor
        .as_ref()
        .filter(|floor| !floor.pairs.is_empty())
    {
        lines.extend(floored_text(floored));
    }
    lines.extend(
        report
            .ended_early
            .iter()
            .map(|why| format!("  ended early: {why}")),
    );
    let mut text = String::new();
    for line in &lines {
        text.push_str(&escape::escape(line));
        text.push('\n');
    }
    text
}

fn shown_text(report: &Report) -> Vec<String> {
    let shown = &report.shown;
    let (connections, beats) = (&shown.connections, &shown.heartbeats);
    let mut lines = vec![
        format!(
            "  connections  {} made in {:.2} s ({}/s), {} failed, {} lost",
            grouped(connections.made),
            connections.seconds,
            whole(connections.made_per_s),
            grouped(connections.failed),
            grouped(connections.lost)
        ),
        heartbeats_text(beats),
    ];
    if connections.not_begun > 0 {
        lines.push(format!(
            "  not begun    {}: requested {}/s, achieved {}/s",
            grouped(connections.not_begun),
            whole(report.asked.connect_rate_per_s),
            whole(connections.made_per_s)
        ));
    }
    if beats.not_sent > 0 {
        lines.push(format!(
            "  not sent     {}: requested {}/s, achieved {}/s",
            grouped(beats.not_sent),
            whole(report.asked.rate_per_s),
            whole(beats.sent_per_s)
        ));
    }
    if let Some(latency) = &beats.latency {
        let words = latency_text(latency);
        let missing = match beats.unanswered {
            None | Some(0) => String::new(),
            Some(some) => format!(", {} that never came among them", grouped(some)),
        };
        lines.push(format!(
            "  replies      {words} from when they were due{missing}"
        ));
    }
    lines.extend(rounds_text(&shown.storm_rounds));
    lines.extend(shown.dispatch.iter().flat_map(dispatch_text));
    lines.extend(shown.left.iter().map(left_text));
    lines.extend(client_text(report));
    match (&shown.server_process, &shown.server_process_unknown) {
        (Some(used), _) => lines.extend(server_text(used, report.mode)),
        (None, Some(why)) => lines.push(format!("  server       CPU and memory not known: {why}")),
        (None, None) => {}
    }
    lines.extend(shown.turns.iter().map(turns_text));
    lines
}

fn heartbeats_text(beats: &Heartbeats) -> String {
    let mut line = format!("  heartbeats   {} sent", grouped(beats.sent));
    if beats.sent > 0 {
        line.push_str(&format!(" ({}/s)", whole(beats.sent_per_s)));
    }
    if let (Some(answered), Some(a_second), Some(unanswered), 1..) = (
        beats.answered,
        beats.answered_per_s,
        beats.unanswered,
        beats.sent,
    ) {
        line.push_str(&format!(
            ", {} answered ({}/s), {} unanswered",
            grouped(answered),
            whole(a_second),
            grouped(unanswered)
        ));
    }
    line
}

/// CPU and lateness of the load generator, which are part of the figures.
fn client_text(report: &Report) -> Option<String> {
    let client = &report.shown.client;
    let cpu = client.cpu_s.map(|cpu| format!("{cpu:.2} s of CPU"));
    let late = client.late.as_ref().map(|late| {
        let part = match report.shown.heartbeats.latency {
            _ if !report.mode.connects_first() => " in beginning connections",
            Some(_) => " (part of the replies' times)",
            None => "",
        };
        format!("late by {} at p99{part}", time(late.p99_us))
    });
    let parts: Vec<String> = [cpu, late].into_iter().flatten().collect();
    (!parts.is_empty()).then(|| format!("  this client  {}", parts.join(", ")))
}

fn rounds_text(rounds: &[Round]) -> Option<String> {
    let connected = rounds.iter().map(|round| round.connected_ms);
    let connected = connected.fold(0.0, f64::max);
    let answered: Option<Vec<f64>> = rounds.iter().map(|round| round.answered_ms).collect();
    let answered = answered.map(|all| all.into_iter().fold(0.0, f64::max));
    (!rounds.is_empty()).then(|| {
        format!(
            "  storms       {}: all connected within {}{}",
            rounds.len(),
            time(connected * 1e3),
            answered.map_or(String::new(), |ms| format!(
                ", all answered of within {}",
                time(ms * 1e3)
            ))
        )
    })
}

fn dispatch_text(task: &DispatchReport) -> Vec<String> {
    let stride = |what: &str, stride: &StepTimes| {
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
            "  task         {} of {} commands{}",
            task.key,
            task.commands,
            task.stored_ms.map_or(String::new(), |ms| format!(
                "; that it is stored was answered after {}",
                time(ms * 1e3)
            ))
        ),
        stride("received it", &task.received),
        stride("answered, acknowledged", &task.answered),
        stride("done, acknowledged", &task.done),
    ];
    lines.extend(task.reports_per_s.map(|a_second| {
        let count = grouped(task.reports);
        format!(
            "  reports      {count} acknowledged ({}/s)",
            whole(a_second)
        )
    }));
    lines.extend(task.apart.as_ref().map(|latency| {
        let words = latency_text(latency);
        format!("  others       replies {words}")
    }));
    lines.extend(task.datagrams.as_ref().map(|sent| {
        let [before, after] = sent.bare_first_to_last_ms;
        let ms = |ms: Option<f64>| ms.map_or("not known".to_owned(), |ms| time(ms * 1e3));
        let ratio = sent.ratio.map(|ratio| format!("{ratio:.2} times that of "));
        format!(
            "  datagrams    {}, first to last {}: {}bare sendto ({}, {})",
            grouped(sent.hosts),
            ms(sent.first_to_last_ms),
            ratio.as_deref().unwrap_or("beside "),
            ms(before),
            ms(after)
        )
    }));
    lines
}

fn turns_text(turns: &TurnTimes) -> String {
    let bound = |us: Option<f64>| us.map_or("above all buckets".to_owned(), time);
    format!(
        "  turns        {}: half within {}, 99.99 % within {}, all within {}",
        grouped(turns.count),
        bound(turns.p50_us_at_most),
        bound(turns.p9999_us_at_most),
        bound(turns.max_us_at_most)
    )
}

fn left_text(left: &Disconnected) -> String {
    let replies = left.replies.as_ref().map(latency_text);
    format!(
        "  left         {} hosts within {}; the others' replies meanwhile: {}",
        grouped(left.hosts as u64),
        time(left.closing_ms * 1e3),
        replies.unwrap_or_else(|| "none".to_owned())
    )
}

/// A figure of one side of a pair.
type Figure = fn(&ServerUse) -> Option<f64>;

fn floored_text(floored: &FloorReport) -> Vec<String> {
    let pairs = &floored.pairs;
    let mut lines = vec![format!(
        "  compared with a bare epoll drain, {} pairs: the median, and the spread",
        pairs.len()
    )];
    let middle = |side: fn(&Pair) -> &TrialReport, figure: Figure| {
        let figures = pairs
            .iter()
            .filter_map(|pair| figure(side(pair).server_process.as_ref()?));
        Some(Ratio::of(figures.collect())?.median)
    };
    let beat: Figure = |used| used.cpu_us_per_heartbeat;
    let connection: Figure = |used| used.cpu_us_per_connection;
    let loop_beat: Figure = |used| used.loop_cpu_us_per_heartbeat;
    let loop_connection: Figure = |used| used.loop_cpu_us_per_connection;
    for (what, ratio, ours, theirs) in [
        (
            "CPU a heartbeat, loop thread",
            floored.loop_cpu_per_heartbeat_ratio,
            loop_beat,
            beat,
        ),
        (
            "CPU a heartbeat, all threads",
            floored.cpu_per_heartbeat_ratio,
            beat,
            beat,
        ),
        (
            "CPU a connection, loop thread",
            floored.loop_cpu_per_connection_ratio,
            loop_connection,
            connection,
        ),
        (
            "CPU a connection, all threads",
            floored.cpu_per_connection_ratio,
            connection,
            connection,
        ),
    ] {
        let ours = middle(|pair| &pair.server, ours);
        let theirs = middle(|pair| &pair.floor, theirs);
        if let (Some(Ratio { median, min, max }), Some(ours), Some(theirs)) = (ratio, ours, theirs)
        {
            lines.push(format!(
                "    {what:<32} {median:.2} times the floor's ({min:.2} to {max:.2}): \
                 {ours:.2} µs beside {theirs:.2} µs"
            ));
        }
    }
    // With few hosts the rest of the process dominates the figure.
    let beyond = floored.memory_bytes_per_connection_beyond;
    if let Some(Ratio { median, min, max }) = beyond.filter(|beyond| beyond.min >= 0.0) {
        let what = "memory a connection";
        lines.push(format!(
            "    {what:<32} {} bytes more than the floor's ({} to {})",
            whole(median),
            whole(min),
            whole(max)
        ));
    }
    lines
}

/// Formats a distribution. A quantile is left out if there are too few measurements for it.
fn latency_text(latency: &Latency) -> String {
    let mut parts = vec![format!("p50 {}", time(latency.p50_us))];
    if latency.count >= 100 {
        parts.push(format!("p99 {}", time(latency.p99_us)));
    }
    if latency.count >= 1_000 {
        parts.push(format!("p99.9 {}", time(latency.p999_us)));
    }
    parts.push(format!("max {}", time(latency.max_us)));
    if latency.count < 1_000 {
        parts.push(format!("of {}", latency.count));
    }
    parts.join(", ")
}

fn server_text(used: &ServerUse, mode: Mode) -> Vec<String> {
    let us = |value: Option<f64>| value.map_or("-".to_owned(), |us| format!("{us:.2} µs"));
    let per = |what: &str, all: Option<f64>, of_loop, of_store| {
        let (of_loop, of_store) = (us(of_loop), us(of_store));
        all.map(|all| format!("{all:.2} µs of CPU a {what} (loop {of_loop}, store {of_store})"))
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
    let memory = mode.connects_first().then(|| memory_text(used));
    let rested = match used.rested {
        true => None,
        false => Some("it did not come to rest: other work is in these figures".to_owned()),
    };
    let mut parts = [heartbeat, connection, memory, rested]
        .into_iter()
        .flatten();
    let first = parts.next().unwrap_or_else(|| "nothing to tell".to_owned());
    let mut lines = vec![format!("  server       process {}: {first}", used.pid)];
    lines.extend(parts.map(|part| format!("               {part}")));
    lines
}

fn memory_text(used: &ServerUse) -> String {
    let mb = |bytes: u64| format!("{:.1} MB", bytes as f64 / 1e6);
    let bytes = |bytes: f64| format!("{} bytes", whole(bytes));
    let a_connection = match (
        used.memory_bytes_per_connection,
        used.memory_bytes_per_connection_after,
    ) {
        (Some(connected), Some(after)) => format!(
            "{} a connection, {} at the end",
            bytes(connected),
            whole(after)
        ),
        (Some(connected), None) => format!("{} a connection", bytes(connected)),
        // The memory held before had room for them.
        (None, _) => "memory a connection not known, start it anew".to_owned(),
    };
    format!(
        "{a_connection} ({} before, {} connected, {} after)",
        mb(used.resident_bytes_before),
        mb(used.resident_bytes_connected),
        mb(used.resident_bytes_after)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_times_read_well() {
        assert_eq!(grouped(7), "7");
        assert_eq!(grouped(1_234_567), "1,234,567");
        assert_eq!(whole(49_999.6), "50,000");
        assert_eq!(time(12.4), "12 µs");
        assert_eq!(time(1_500.0), "1.50 ms");
        assert_eq!(time(2_500_000.0), "2.50 s");
    }

    #[test]
    fn quantiles_need_enough_measurements() {
        let of = |count| {
            latency_text(&Latency {
                count,
                mean_us: 1.0,
                p50_us: 1.0,
                p90_us: 2.0,
                p99_us: 3.0,
                p999_us: 4.0,
                max_us: 5.0,
            })
        };
        assert_eq!(of(5), "p50 1 µs, max 5 µs, of 5");
        assert_eq!(of(100), "p50 1 µs, p99 3 µs, max 5 µs, of 100");
        assert_eq!(of(1_000), "p50 1 µs, p99 3 µs, p99.9 4 µs, max 5 µs");
    }

    #[test]
    fn unknown_facts_are_omitted() {
        let used = ServerUse {
            pid: 7,
            loop_cpu_us_per_heartbeat: None,
            store_cpu_us_per_heartbeat: None,
            cpu_us_per_heartbeat: None,
            loop_cpu_us_per_connection: Some(1.0),
            store_cpu_us_per_connection: Some(2.0),
            cpu_us_per_connection: Some(3.0),
            resident_bytes_before: 2_000_000,
            resident_bytes_connected: 1_000_000,
            resident_bytes_after: 3_000_000,
            memory_bytes_per_connection: None,
            memory_bytes_per_connection_after: Some(9.0),
            rested: false,
            threads: Vec::new(),
        };
        assert_eq!(
            server_text(&used, Mode::Churn),
            [
                "  server       process 7: 3.00 µs of CPU a connection (loop 1.00 µs, store 2.00 µs)",
                "               it did not come to rest: other work is in these figures",
            ]
        );
        let lines = server_text(&used, Mode::Steady).join("\n");
        assert!(lines.contains("not known, start it anew"), "{lines}");
        let known = ServerUse {
            memory_bytes_per_connection: Some(1_954.4),
            ..used
        };
        let lines = server_text(&known, Mode::Steady).join("\n");
        assert!(
            lines.contains("1,954 bytes a connection, 9 at the end"),
            "{lines}"
        );
        let beats = Heartbeats {
            sent: 7,
            seconds: 1.0,
            sent_per_s: 6.9,
            not_sent: 0,
            answered: None,
            answered_per_s: None,
            unanswered: None,
            latency: None,
        };
        assert_eq!(heartbeats_text(&beats), "  heartbeats   7 sent (7/s)");
    }
}
