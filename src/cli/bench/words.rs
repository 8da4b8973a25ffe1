//! A report as lines to read.

use anthill::bench::report::{
    Dispatched, Floored, Latency, Left, Ratio, Report, Round, ServerUse, Shown, Stride,
};
use anthill::text;

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
    // `as` saturates, and makes nothing of what is not a number.
    grouped(number.round() as u64)
}

/// A time, in the unit that reads best.
fn time(us: f64) -> String {
    match us {
        us if us < 1_000.0 => format!("{us:.0} µs"),
        us if us < 1_000_000.0 => format!("{:.2} ms", us / 1e3),
        us => format!("{:.2} s", us / 1e6),
    }
}

/// A report as lines to read.
pub fn in_words(report: &Report) -> String {
    let asked = &report.asked;
    let mut lines = vec![format!(
        "{}: {} hosts at {}",
        report.mode.as_str(),
        grouped(asked.hosts as u64),
        report.server
    )];
    lines.extend(shown_in_words(&report.shown, asked.rate_per_s));
    if let Some(floored) = &report.floor {
        lines.extend(floored_in_words(floored));
    }
    lines.extend(
        report
            .ended_early
            .iter()
            .map(|why| format!("  ended early: {why}")),
    );
    let mut text = String::new();
    for line in &lines {
        text.push_str(&text::escape(line));
        text.push('\n');
    }
    text
}

fn shown_in_words(shown: &Shown, asked_per_s: f64) -> Vec<String> {
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
        format!(
            "  heartbeats   {} sent ({}/s), {} answered ({}/s), {} unanswered",
            grouped(beats.sent),
            whole(beats.sent_per_s),
            grouped(beats.answered),
            whole(beats.answered_per_s),
            grouped(beats.unanswered)
        ),
    ];
    if beats.not_sent > 0 {
        lines.push(format!(
            "  not sent     {}: asked for {}/s, managed {}/s",
            grouped(beats.not_sent),
            whole(asked_per_s),
            whole(beats.sent_per_s)
        ));
    }
    if let Some(latency) = &beats.latency {
        let words = latency_in_words(latency);
        let missing = match beats.unanswered {
            0 => String::new(),
            some => format!(", {} that never came among them", grouped(some)),
        };
        lines.push(format!(
            "  replies      {words} from when they were due{missing}"
        ));
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
    let connected = rounds.iter().map(|round| round.connected_ms);
    let connected = connected.fold(0.0, f64::max);
    let heard: Option<Vec<f64>> = rounds.iter().map(|round| round.answered_ms).collect();
    let heard = heard.map(|all| all.into_iter().fold(0.0, f64::max));
    (!rounds.is_empty()).then(|| {
        format!(
            "  storms       {}: all connected within {}{}",
            rounds.len(),
            time(connected * 1e3),
            heard.map_or(String::new(), |ms| format!(
                ", all heard of within {}",
                time(ms * 1e3)
            ))
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
    let mut lines = vec![
        format!("  server       process {}: {heartbeat}", used.pid),
        format!("               {connection}"),
        format!(
            "               {memory:.0} bytes a connection, {after:.0} at the end ({} before, {} connected, {} after)",
            mb(used.resident_bytes_before),
            mb(used.resident_bytes_connected),
            mb(used.resident_bytes_after)
        ),
    ];
    if !used.rested {
        lines.push(
            "               it did not come to rest: other work is in these figures".to_owned(),
        );
    }
    lines
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
}
