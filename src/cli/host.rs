//! `anthill host NAME`: one host.

use std::borrow::Cow;
use std::time::SystemTime;

use crate::escape;
use serde_json::value::RawValue;

use super::api::Api;
use super::args::HostArgs;
use super::hosts::{Filter, Fleet, Host};
use super::pages::percent_encoded;
use super::{Failure, color, did_you_mean, print_json, print_lines, table};

/// Shows the host.
///
/// # Errors
/// Wrong usage, an unknown host, or no valid answer of a server.
pub fn run(args: &HostArgs) -> Result<(), Failure> {
    let api = Api::new(&args.api)?;
    show(&api, &args.name, args.json)
}

/// Prints the host of this name.
///
/// # Errors
/// An unknown host, with the nearest name, or no valid answer of the server.
pub fn show(api: &Api, name: &str, json: bool) -> Result<(), Failure> {
    let raw = fetch(api, name)?;
    if json {
        return print_json(raw.get());
    }
    print_lines(&lines_of(api, &raw)?)
}

/// Requests a host.
///
/// # Errors
/// An unknown host, with the nearest name, or no valid answer of the server.
pub fn fetch(api: &Api, name: &str) -> Result<Box<RawValue>, Failure> {
    match api.get(&format!("/v1/hosts/{}", percent_encoded(name))) {
        Ok(raw) => Ok(raw),
        Err(error) if error.is_unknown() => Err(unknown(api, name)),
        Err(error) => Err(error.into()),
    }
}

/// Lines about a host.
///
/// # Errors
/// No valid answer of the server.
pub fn lines_of(api: &Api, raw: &RawValue) -> Result<Vec<String>, Failure> {
    let host: Host = serde_json::from_str(raw.get()).map_err(|error| api.misread(&error))?;
    Ok(lines(&host, SystemTime::now()))
}

fn unknown(api: &Api, name: &str) -> Failure {
    let fleet = Fleet::fetch(api, Filter::All).ok();
    let known = fleet.iter().flat_map(|fleet| &fleet.hosts);
    let hint = did_you_mean(name, known.map(|host| host.id.as_str()));
    Failure::failed(format!("no host '{name}' is known{hint}"))
}

fn lines(host: &Host, now: SystemTime) -> Vec<String> {
    let time = |time: &Option<String>| match time {
        Some(moment) => format!("{} ({})", table::age(time, now), escape::escape(moment)),
        None => "-".to_owned(),
    };
    let addresses = match host.ipv4.as_slice() {
        [] => Cow::Borrowed("-"),
        all => Cow::Owned(escape::escape(&all.join(", ")).into_owned()),
    };
    let labels: Vec<String> = host
        .labels
        .iter()
        .map(|(key, value)| match host.label_sources.get(key) {
            Some(source) => format!("{key}={value} ({source})"),
            None => format!("{key}={value}"),
        })
        .collect();
    let labels = match labels.as_slice() {
        [] => Cow::Borrowed("-"),
        all => Cow::Owned(escape::escape(&all.join(", ")).into_owned()),
    };
    let rows: [(&str, Cow<'_, str>); 11] = [
        ("ID", escape::escape(&host.id)),
        ("STATE", color::state(&escape::escape(&host.state)).into()),
        ("NODE", table::known(&host.node)),
        ("REASON", table::known(&host.reason)),
        ("SINCE", time(&host.since).into()),
        ("LAST SEEN", time(&host.last_seen).into()),
        ("IP", table::known(&host.ip)),
        ("HOSTNAME", table::known(&host.hostname)),
        ("MAC", table::known(&host.mac)),
        ("IPV4", addresses),
        ("LABELS", labels),
    ];
    rows.iter()
        .map(|(name, value)| format!("{name:<9}  {value}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_shown_line_by_line() {
        let host: Host = serde_json::from_str(
            r#"{"id":"web-1","state":"offline","reason":"timeout","since":"2026-11-21T10:00:00Z",
                "hostname":"x\u001b[2J","ipv4":["10.0.0.1","10.0.0.2"],
                "labels":{"dc":"fra\u001b","role":"web"},"label_sources":{"role":"host"}}"#,
        )
        .unwrap();
        let now = humantime::parse_rfc3339("2026-11-21T10:03:10Z").unwrap();
        assert_eq!(
            lines(&host, now),
            [
                "ID         web-1",
                "STATE      offline",
                "NODE       -",
                "REASON     timeout",
                "SINCE      3m ago (2026-11-21T10:00:00Z)",
                "LAST SEEN  -",
                "IP         -",
                r"HOSTNAME   x\u{1b}[2J",
                "MAC        -",
                "IPV4       10.0.0.1, 10.0.0.2",
                r"LABELS     dc=fra\u{1b}, role=web (host)",
            ]
        );
    }
}
