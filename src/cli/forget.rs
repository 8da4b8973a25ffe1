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

/// What has become of the hosts of a run that is over.
#[derive(Debug)]
pub struct Swept {
    /// Hosts that were deleted.
    pub gone: usize,
    /// Hosts that the server may still have.
    pub left: usize,
    /// Reason for the first of these.
    pub why: Option<ApiError>,
}

/// Deletes hosts of which the server may have some. A refusal that may pass is followed by further
/// attempts, until there has been no success for `patience`: the server may be busy, restart, or
/// still take a host for online.
pub fn sweep(api: &Api, hosts: impl ExactSizeIterator<Item = String>, patience: Duration) -> Swept {
    let mut swept = Swept {
        gone: 0,
        left: hosts.len(),
        why: None,
    };
    let mut last = Instant::now();
    let mut was_there = false;
    for host in hosts {
        let deleted = loop {
            match api.delete(&format!("/v1/hosts/{}", percent_encoded(&host))) {
                Err(error) if error.is_unknown() => break Ok(0),
                Err(error)
                    if (error.is_conflict() || error.may_pass())
                        && (was_there || !error.is_unreachable())
                        && last.elapsed() < patience =>
                {
                    thread::sleep(PAUSE);
                }
                Err(error) => break Err(error),
                Ok(()) => break Ok(1),
            }
        };
        match deleted {
            Ok(count) => {
                swept.gone += count;
                swept.left -= 1;
                was_there = true;
                last = Instant::now();
            }
            Err(error) => {
                let is_only_its_own = error.is_conflict();
                swept.why.get_or_insert(error);
                if !is_only_its_own {
                    break;
                }
            }
        }
    }
    swept
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
    use std::io::{BufRead, BufReader, Write};
    use std::net::TcpListener;

    use super::super::args::{ApiArgs, Color};
    use super::*;

    /// A server that answers these statuses in turn, and then is gone. Returns the requests.
    fn answering(statuses: &'static [u16]) -> (Api, std::thread::JoinHandle<Vec<String>>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let api = Api::new(&ApiArgs {
            api: Some(format!("http://{}", listener.local_addr().unwrap())),
            token_file: None,
            ca: None,
            color: Color::Never,
        });
        let serve = move || {
            let mut requests = Vec::new();
            for status in statuses {
                let (mut peer, _) = listener.accept().unwrap();
                let lines = BufReader::new(&peer).lines().map(Result::unwrap);
                let head: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
                requests.push(head[0].clone());
                let answer = format!(
                    "HTTP/1.1 {status} Status\r\nConnection: close\r\nContent-Length: 14\r\n\r\n{{\"error\":\"no\"}}"
                );
                peer.write_all(answer.as_bytes()).unwrap();
            }
            requests
        };
        (api.ok().unwrap(), std::thread::spawn(serve))
    }

    fn hosts(names: &[&str]) -> std::vec::IntoIter<String> {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        names.into_iter()
    }

    #[test]
    fn a_busy_server_is_asked_again() {
        let (api, server) = answering(&[503, 503, 200, 409, 200, 404]);
        let swept = sweep(&api, hosts(&["a", "b", "c"]), Duration::from_secs(60));
        assert_eq!((swept.gone, swept.left), (2, 0), "{swept:?}");
        let requests = server.join().unwrap();
        let asked: Vec<_> = requests.iter().map(|line| &line[..18]).collect();
        let of = |host: &str| format!("DELETE /v1/hosts/{host}");
        assert_eq!(asked, ["a", "a", "a", "b", "b", "c"].map(of));
    }

    #[test]
    fn hosts_that_are_left_are_counted() {
        // Without patience each refusal counts; a conflict is that of one host.
        let (api, server) = answering(&[409, 200, 503]);
        let swept = sweep(&api, hosts(&["a", "b", "c", "d"]), Duration::ZERO);
        assert_eq!((swept.gone, swept.left), (1, 3), "{swept:?}");
        assert!(swept.why.is_some_and(|why| why.is_conflict()));
        server.join().unwrap();
        // No server at all is not waited for.
        let swept = sweep(&api, hosts(&["a"]), Duration::from_secs(3_600));
        assert_eq!((swept.gone, swept.left), (0, 1), "{swept:?}");
        assert!(swept.why.is_some_and(|why| why.is_unreachable()));
    }

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
