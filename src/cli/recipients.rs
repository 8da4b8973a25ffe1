//! Resolution of the hosts of a task or a command, before anything is sent.
//!
//! ```text
//!  --host NAME… ──▶ each must be known ──┐
//!  TARGET ──▶ resolved once ─────────────┼──▶ names, or none for all that are online
//!  neither ──────────────────────────────┘
//! ```

use std::collections::HashSet;

use crate::codec::target::Target;
use crate::ids::HostId;
use serde::Deserialize;
use serde_json::Value;

use super::api::{Api, ApiError};
use super::hosts::{Filter, Fleet};
use super::pages::percent_encoded;
use super::{Failure, confirm, did_you_mean};

/// Number of names up to which each is looked up; above it the whole list is requested.
const LOOKUPS_MAX: usize = 16;
/// Number of hosts above which a target is confirmed.
const UNCONFIRMED_MAX: usize = 100;
/// Number of hosts online above which `run` without a target is confirmed.
pub const UNNAMED_MAX: usize = 10;

/// Checks that the server has seen each host. `pass` names the flags that skip this check.
///
/// # Errors
/// Status 2 for unknown hosts, with the nearest name; 1 without a valid answer.
pub fn check_known(api: &Api, names: &[impl AsRef<str>], pass: &str) -> Result<(), Failure> {
    let names = names.iter().map(AsRef::as_ref);
    let unknown = unknown(api, &names.collect::<Vec<&str>>())?;
    let Some(first) = unknown.first() else {
        return Ok(());
    };
    // A server that has not reached its store yet knows no hosts.
    api.get::<Value>("/readyz")?;
    let fleet = Fleet::fetch(api, Filter::All)?;
    let known = fleet.hosts.iter().map(|host| host.id.as_str());
    let hint = did_you_mean(first, known);
    let others = match unknown.len() {
        1 => String::new(),
        count => format!(", and {} more", count - 1),
    };
    Err(Failure::usage(format!(
        "the host '{first}' was never seen{hint}{others}: nothing is sent{pass}"
    )))
}

/// The given names that the server has never seen.
fn unknown<'n>(api: &Api, names: &[&'n str]) -> Result<Vec<&'n str>, ApiError> {
    let mut unknown = Vec::new();
    if names.len() <= LOOKUPS_MAX {
        for name in names {
            match api.get::<Value>(&format!("/v1/hosts/{}", percent_encoded(name))) {
                Ok(_) => {}
                Err(error) if error.is_unknown() => unknown.push(*name),
                Err(error) => return Err(error),
            }
        }
        return Ok(unknown);
    }
    let fleet = Fleet::fetch(api, Filter::All)?;
    let known: HashSet<&str> = fleet.hosts.iter().map(|host| host.id.as_str()).collect();
    unknown.extend(names.iter().copied().filter(|name| {
        let host = HostId::named(name);
        !host.is_ok_and(|host| known.contains(host.as_str()))
    }));
    Ok(unknown)
}

/// Parses the text of a target, given by `source`, if there is one.
///
/// # Errors
/// Status 2 for an invalid target.
pub fn parse(source: &str, text: Option<&str>) -> Result<Option<Target>, Failure> {
    let wrong = |text, why| Failure::usage(format!("{source} is '{text}': {why}"));
    text.map(|text| Target::parse(text).map_err(|why| wrong(text, why)))
        .transpose()
}

/// Returns the hosts of a dispatch of `what`: those of the target, else the named ones, which must
/// be known unless `pass` is `None`. Returns `None` if neither is given.
///
/// # Errors
/// As [`confirmed`] and [`check_known`].
pub fn chosen(
    api: &Api,
    (target, named): (Option<&Target>, &[String]),
    what: &str,
    yes: bool,
    pass: Option<&str>,
) -> Result<Option<Vec<String>>, Failure> {
    if let Some(target) = target {
        return confirmed(api, target, what, yes).map(Some);
    }
    if let Some(pass) = pass.filter(|_| !named.is_empty()) {
        check_known(api, named, pass)?;
    }
    Ok(Some(named.to_vec()).filter(|named| !named.is_empty()))
}

/// The hosts of a target, in order.
///
/// # Errors
/// Status 2 for a term that matches no known host; 1 without a valid answer.
pub fn resolve(api: &Api, target: &str) -> Result<Vec<String>, Failure> {
    let fleet = Fleet::fetch_target(api, Filter::All, target)?;
    if fleet.hosts.is_empty() {
        return Err(Failure::usage("the target leaves no host"));
    }
    Ok(fleet.hosts.into_iter().map(|host| host.id).collect())
}

/// Resolves a target, with a confirmation for many hosts and for `all`.
///
/// # Errors
/// As [`resolve`], or no confirmation.
fn confirmed(api: &Api, target: &Target, what: &str, yes: bool) -> Result<Vec<String>, Failure> {
    let hosts = resolve(api, target.as_str())?;
    if target.names_all() || hosts.len() > UNCONFIRMED_MAX {
        let counted = confirm::counted(hosts.iter().map(String::as_str));
        confirm::ask(&confirm::sending(what, &counted), yes)?;
    }
    Ok(hosts)
}

/// The used parts of `/healthz`.
#[derive(Deserialize)]
pub struct Health {
    /// Hosts that are online.
    pub hosts_online: u64,
    /// Prefix of task keys.
    #[serde(default = "default_prefix")]
    pub key_prefix: String,
}

fn default_prefix() -> String {
    "AC".to_owned()
}

impl Health {
    /// Asks the server.
    ///
    /// # Errors
    /// No valid answer.
    pub fn fetch(api: &Api) -> Result<Self, ApiError> {
        api.get("/healthz")
    }

    /// Generates a key from the time and four random characters.
    pub fn new_key(&self) -> String {
        let now = humantime::format_rfc3339_seconds(std::time::SystemTime::now()).to_string();
        let stamp: String = now
            .chars()
            .filter(char::is_ascii_alphanumeric)
            .skip(2)
            .take(13)
            .collect();
        let tail: String = (0..4).map(|_| fastrand::lowercase()).collect();
        format!("{}{}-{tail}", self.key_prefix, stamp.replace('T', "-"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_made_key_is_a_key_and_another_each_time() {
        let health = Health {
            hosts_online: 0,
            key_prefix: "AC".to_owned(),
        };
        let (one, two) = (health.new_key(), health.new_key());
        assert_ne!(one, two);
        assert!(crate::ids::TaskKey::parse(&one, "AC").is_some(), "{one}");
        assert_eq!(one.len(), 20, "{one}");
    }
}
