//! The running server: its health, and the versions of its agents.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::Finding;
use crate::cli::api::Api;
use crate::cli::pages::{self, Cursor};
use crate::limits::{API_PAGES_MAX, PAGE_HOSTS_MAX};

#[derive(Deserialize)]
struct Health {
    status: String,
    store: String,
    version: String,
}

#[derive(Deserialize)]
struct Page {
    hosts: Vec<Host>,
    next: Option<Cursor>,
}

#[derive(Deserialize)]
struct Host {
    #[serde(default)]
    labels: BTreeMap<String, String>,
}

pub fn check(api: &Api) -> Vec<Finding> {
    let health: Health = match api.get("/healthz") {
        Ok(health) => health,
        Err(error) if error.is_unreachable() => {
            let fix = "systemctl start anthill; or say where it is by --api";
            return vec![Finding::note("server", error.to_string(), fix)];
        }
        Err(error) => {
            return vec![Finding::wrong(
                "server",
                error.to_string(),
                "see --api and --token-file",
            )];
        }
    };
    let Health {
        status,
        store,
        version,
    } = health;
    let text = format!("version {version}, {status}, the store is {store}");
    let mut findings = vec![match status.as_str() {
        "ok" => Finding::ok("server", text),
        _ => Finding::wrong("server", text, "see the log: journalctl -u anthill"),
    }];
    if version != env!("CARGO_PKG_VERSION") {
        findings.push(Finding::note(
            "server version",
            format!(
                "this program is {}, the server is {version}",
                env!("CARGO_PKG_VERSION")
            ),
            "systemctl restart anthill",
        ));
    }
    findings.extend(agents(api, &version));
    findings
}

/// Agents of another version than the server.
fn agents(api: &Api, version: &str) -> Option<Finding> {
    let mut hosts: Vec<Host> = Vec::new();
    let first = format!("/v1/hosts?state=online&limit={PAGE_HOSTS_MAX}");
    let fetched = pages::fetch(api, &first, API_PAGES_MAX, |page: Page| {
        hosts.extend(page.hosts);
        Ok(page.next)
    });
    if let Err(error) = fetched {
        let text = format!("the hosts cannot be asked for: {error}");
        return Some(Finding::note("agents", text, "see --token-file"));
    }
    let mut versions: BTreeMap<&str, usize> = BTreeMap::new();
    for host in &hosts {
        if let Some(version) = host.labels.get("sys.version") {
            *versions.entry(version).or_default() += 1;
        }
    }
    let counted = versions
        .iter()
        .map(|(it, count)| format!("{count} of {it}"));
    let counted = counted.collect::<Vec<_>>().join(", ");
    match versions.keys().any(|it| *it != version) {
        _ if versions.is_empty() => None,
        true => Some(Finding::note(
            "agents",
            format!("{counted}; the server is {version}: install its version on the others"),
            format!("anthill hosts 'sys.version!={version}'"),
        )),
        false => Some(Finding::ok("agents", counted)),
    }
}
