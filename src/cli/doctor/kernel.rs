//! Limits of the kernel, and the clock.

use std::fs;

use rustix::process::{Resource, getrlimit};

use super::Finding;
use crate::limits::{BACKLOG_MAX, DESCRIPTORS_RESERVED};

/// Descriptors below which even a small fleet meets the limit.
const DESCRIPTORS_FEW: u64 = 4_096;

pub fn check() -> Vec<Finding> {
    vec![descriptors(), backlog(), tracked_connections(), clock()]
}

fn descriptors() -> Finding {
    let hard = getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX);
    let hosts = hard.saturating_sub(DESCRIPTORS_RESERVED as u64);
    let text = format!("the hard limit of this shell allows {hosts} connections");
    match hard < DESCRIPTORS_FEW {
        false => Finding::ok("descriptors", text),
        true => Finding::wrong(
            "descriptors",
            text + "; root may raise it, and a service has LimitNOFILE of its unit",
            "ulimit -Hn 262144",
        ),
    }
}

fn number(path: &str) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

fn backlog() -> Finding {
    let wanted = BACKLOG_MAX as u64;
    match number("/proc/sys/net/core/somaxconn") {
        Some(allowed) if allowed < wanted => Finding::wrong(
            "somaxconn",
            format!("{allowed} connections may wait to be accepted; the server asks for {wanted}"),
            format!("sysctl -w net.core.somaxconn={wanted}"),
        ),
        Some(allowed) => Finding::ok("somaxconn", format!("{allowed}")),
        None => Finding::ok("somaxconn", "unknown here"),
    }
}

fn tracked_connections() -> Finding {
    let of = |name: &str| number(&format!("/proc/sys/net/netfilter/nf_conntrack_{name}"));
    match (of("count"), of("max")) {
        (Some(count), Some(max)) if count > max / 5 * 4 => Finding::wrong(
            "conntrack",
            format!("the firewall remembers {count} of at most {max} connections"),
            format!(
                "sysctl -w net.netfilter.nf_conntrack_max={}",
                max.saturating_mul(2)
            ),
        ),
        (Some(count), Some(max)) => {
            Finding::ok("conntrack", format!("{count} of at most {max} connections"))
        }
        _ => Finding::ok("conntrack", "no firewall tracks connections"),
    }
}

/// The clock matters for times that are shown; presence has the monotonic one.
fn clock() -> Finding {
    // SAFETY: all bytes of the value may be zero; with `modes` zero the call only reads.
    let mut state: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel writes to the value that lives here.
    let result = unsafe { libc::adjtimex(&raw mut state) };
    match result {
        libc::TIME_ERROR => Finding::note(
            "clock",
            "it is not synchronized: times that are shown may be wrong",
            "timedatectl set-ntp true",
        ),
        _ => Finding::ok("clock", "it is synchronized"),
    }
}
