//! Addresses, secrets and disks that the configuration names.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::{Finding, quoted, size};
use crate::config::{Auth, Config, DEFAULT_FILE};
use crate::store::address::StoreUrl;

pub fn check(config: &Config, file: Option<&Path>) -> Vec<Finding> {
    let mut findings = addresses(config);
    findings.extend(secrets(config, file));
    findings.extend(disks(config));
    findings
}

fn addresses(config: &Config) -> Vec<Finding> {
    let server = &config.server;
    let mut findings = Vec::new();
    for (key, addr) in [("server.tcp", server.tcp), ("server.udp", server.udp)] {
        if !addr.ip().is_loopback() && matches!(config.auth, Auth::Unset | Auth::None) {
            let by_certificate = config.tls.as_ref().is_some_and(|it| it.client_ca.is_some());
            if !by_certificate {
                findings.push(Finding::wrong(
                    "addresses",
                    format!("{key} is {addr}, and hosts prove nothing: every machine that reaches it can play any host"),
                    "anthill keygen, and \"auth\": {\"keys_file\": …} (docs/security.md)",
                ));
            }
        }
    }
    if !server.http.ip().is_loopback() && server.http_token.is_some() {
        findings.push(Finding::note(
            "addresses",
            format!(
                "server.http is {}: unless TLS protects it, its token travels in the clear",
                server.http
            ),
            "put a TLS proxy in front of it, or set server.http to 127.0.0.1:11480",
        ));
    }
    if findings.is_empty() {
        findings.push(Finding::ok(
            "addresses",
            "nothing is open to others without a proof",
        ));
    }
    findings
}

/// Files with a secret that others can read. The server refuses such a keys file itself.
fn secrets(config: &Config, file: Option<&Path>) -> Vec<Finding> {
    let mut secret: Vec<(&str, PathBuf)> = Vec::new();
    let has_password = match &config.store.url {
        StoreUrl::Redis(address) => address.password.is_some(),
        StoreUrl::Embedded(_) => false,
    };
    if has_password {
        let file = file.unwrap_or(Path::new(DEFAULT_FILE));
        secret.push((
            "the configuration has the password of the store",
            file.to_path_buf(),
        ));
    }
    if let Some(token) = &config.server.http_token_file {
        secret.push(("it holds the token of the API", token.clone()));
    }
    let mut findings = Vec::new();
    for (what, path) in secret {
        let Ok(found) = path.metadata() else {
            continue;
        };
        if found.permissions().mode() & 0o007 != 0 {
            let text = format!("every user can read {}: {what}", path.display());
            let fix = format!("chmod o= {}", quoted(&path.to_string_lossy()));
            findings.push(Finding::wrong("secrets", text, fix));
        }
    }
    if findings.is_empty() {
        findings.push(Finding::ok(
            "secrets",
            "no file with a secret is readable by others",
        ));
    }
    findings
}

fn disks(config: &Config) -> Vec<Finding> {
    let mut dirs = vec![("store.spool", &config.store.spool, config.store.spool_bytes)];
    if let StoreUrl::Embedded(dir) = &config.store.url {
        // Room for a rewrite of a small store.
        dirs.push(("store.url", dir, 256 << 20));
    }
    dirs.iter()
        .filter_map(|(key, dir, wanted)| disk(key, dir, *wanted))
        .collect()
}

fn disk(key: &str, dir: &Path, wanted: u64) -> Option<Finding> {
    let existing = dir.ancestors().find(|it| it.exists());
    let existing = existing.filter(|it| !it.as_os_str().is_empty());
    let existing = existing.unwrap_or(Path::new("."));
    let stat = rustix::fs::statvfs(existing).ok()?;
    let free = stat.f_bavail.saturating_mul(stat.f_frsize);
    let (dir, free_text) = (dir.display(), size(free));
    Some(match free < wanted {
        false => Finding::ok("disk", format!("{free_text} free for {key} ({dir})")),
        true => Finding::wrong(
            "disk",
            format!(
                "{free_text} free for {key} ({dir}), which may take {}: make room, or set store.spool_mb lower",
                size(wanted)
            ),
            format!("df -h {}", quoted(&existing.to_string_lossy())),
        ),
    })
}
