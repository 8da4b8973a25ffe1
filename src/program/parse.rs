//! Values of arguments. An error names the allowed values.

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::time::{Duration, SystemTime};

pub fn seconds(text: &str) -> Result<Duration, String> {
    let wrong = || "it may be a number of seconds, 0 or more".to_owned();
    let seconds: f64 = text.parse().map_err(|_| wrong())?;
    Duration::try_from_secs_f64(seconds).map_err(|_| wrong())
}

pub fn ip(text: &str) -> Result<IpAddr, String> {
    let wrong = || "it may be an IP address such as 10.0.0.7 or 2001:db8::7".to_owned();
    text.parse().map_err(|_| wrong())
}

pub fn ip_and_port(text: &str) -> Result<SocketAddr, String> {
    let wrong = || "it may be an IP address and a port, such as 127.0.0.1:9883 or [::1]:9883";
    text.parse().map_err(|_| wrong().to_owned())
}

pub fn port(text: &str) -> Result<u16, String> {
    text.parse()
        .map_err(|_| "it may be a port, 0 to 65535".to_owned())
}

/// A whole number within `range`.
pub fn whole<T: TryFrom<u64>>(
    range: RangeInclusive<u64>,
) -> impl Fn(&str) -> Result<T, String> + Clone {
    move |text| {
        let number = text.parse().ok().filter(|number| range.contains(number));
        let number = number.and_then(|number| T::try_from(number).ok());
        number.ok_or_else(|| {
            let (least, most) = (range.start(), range.end());
            format!("it may be a whole number from {least} to {most}")
        })
    }
}

pub fn beat_seconds(text: &str) -> Result<f64, String> {
    number_within(text, 0.05, 3_600.0, "seconds")
}

fn number_within(text: &str, least: f64, most: f64, what: &str) -> Result<f64, String> {
    let number = text
        .parse()
        .ok()
        .filter(|number| (least..=most).contains(number));
    number.ok_or_else(|| format!("it may be a number of {what} from {least} to {most}"))
}

pub fn rate(text: &str) -> Result<f64, String> {
    number_within(text, 0.0, 1e8, "heartbeats a second")
}

pub fn connect_rate(text: &str) -> Result<f64, String> {
    number_within(text, 0.1, 1e7, "connections a second")
}

pub fn bench_seconds(text: &str) -> Result<f64, String> {
    number_within(text, 0.0, 86_400.0, "seconds")
}
/// A time in UTC.
pub fn moment(text: &str) -> Result<SystemTime, String> {
    humantime::parse_rfc3339_weak(text)
        .map_err(|_| "it may be a time in UTC, such as 2026-11-21T10:00:00Z".to_owned())
}
