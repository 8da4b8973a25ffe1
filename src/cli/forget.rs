//! `anthill forget`: deletes hosts that are offline.

use std::thread;
use std::time::{Duration, Instant, SystemTime};

use super::api::{Api, ApiError};
use super::args::ForgetArgs;
use super::hosts::{Filter, Fleet, Host};
use super::pages::percent_encoded;
use super::{Failure, confirm, print_error, print_note, recipients};

/// Number of hosts above which the action is confirmed.
const UNCONFIRMED_MAX: usize = 10;
/// Longest wait while the server still writes that a host is offline.
const BUSY_MAX: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(50);

/// Forgets the hosts.
///
/// # Errors
/// Wrong usage, a host that is online, or no good answer from a server.
pub fn run(args: &ForgetArgs) -> Result<(), Failure> {
    let target = recipients::parse("TARGET", args.target.as_deref())?;
    let api = Api::new(&args.api)?;
    let hosts = match (&target, args.offline_for) {
        (Some(target), _) => recipients::resolve(&api, target.as_str())?,
        (None, limit) => offline_for(&api, limit.unwrap_or_default())?,
    };
    if hosts.len() > UNCONFIRMED_MAX {
        let counted = confirm::counted(hosts.iter().map(String::as_str));
        confirm::ask(&format!("forget {counted}"), args.yes)?;
    }
    let (gone, kept) = all(&api, hosts.into_iter())?;
    let words = format!("{gone} forgotten");
    match kept {
        0 => {
            print_note(&words);
            Ok(())
        }
        kept => Err(Failure::failed(format!("{words}, {kept} kept"))),
    }
}

/// Deletes hosts. Returns how many were deleted and how many were kept; each kept host is printed.
///
/// # Errors
/// No good answer from the server.
pub fn all(api: &Api, hosts: impl Iterator<Item = String>) -> Result<(usize, usize), ApiError> {
    let (mut gone, mut kept) = (0, 0);
    for host in hosts {
        match one(api, &host) {
            Ok(()) => gone += 1,
            Err(error) if error.is_unknown() => {}
            Err(error) if error.is_conflict() => {
                kept += 1;
                print_error(&error.to_string());
            }
            Err(error) => return Err(error),
        }
    }
    Ok((gone, kept))
}

/// Deletes one host. While the server still writes its last state, the request is repeated.
fn one(api: &Api, host: &str) -> Result<(), ApiError> {
    let begun = Instant::now();
    loop {
        match api.delete(&format!("/v1/hosts/{}", percent_encoded(host))) {
            Err(error) if error.is_not_now() && begun.elapsed() < BUSY_MAX => thread::sleep(PAUSE),
            done => return done,
        }
    }
}

/// Hosts that have been offline for at least `limit`.
fn offline_for(api: &Api, limit: Duration) -> Result<Vec<String>, Failure> {
    let fleet = Fleet::fetch(api, Filter::Offline)?;
    let now = SystemTime::now();
    let old = fleet
        .hosts
        .into_iter()
        .filter(|host| is_old(host, now, limit));
    Ok(old.map(|host| host.id).collect())
}

fn is_old(host: &Host, now: SystemTime, limit: Duration) -> bool {
    let since = host.since.as_deref();
    let since = since.and_then(|text| humantime::parse_rfc3339(text).ok());
    // A host without a time of its last change is kept.
    let passed = since.and_then(|since| now.duration_since(since).ok());
    host.state == "offline" && passed.is_some_and(|passed| passed >= limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_hosts_that_are_offline_for_long_are_old() {
        let now = humantime::parse_rfc3339("2026-11-21T10:00:00Z").unwrap();
        for (state, since, old) in [
            ("offline", r#""2026-11-20T10:00:00Z""#, true),
            ("offline", r#""2026-11-20T10:00:01Z""#, false),
            ("offline", r#""2026-11-22T10:00:00Z""#, false),
            ("offline", "null", false),
            ("online", r#""2026-11-20T10:00:00Z""#, false),
        ] {
            let json = format!(r#"{{"id":"a","state":"{state}","since":{since}}}"#);
            let host: Host = serde_json::from_str(&json).unwrap();
            assert_eq!(
                is_old(&host, now, Duration::from_secs(86_400)),
                old,
                "{json}"
            );
        }
    }
}
