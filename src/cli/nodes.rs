//! `anthill nodes`: the nodes that share the store of a running server.

use std::borrow::Cow;
use std::time::SystemTime;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::api::Api;
use super::args::NodesArgs;
use super::{Failure, did_you_mean, print_json, print_lines, table, terminal};
use crate::escape;

/// Shows the nodes.
///
/// # Errors
/// Wrong usage, or no good answer from a server.
pub fn run(args: &NodesArgs) -> Result<(), Failure> {
    let api = Api::new(&args.api)?;
    let raw: Box<RawValue> = api.get("/v1/nodes")?;
    if args.json {
        return print_json(raw.get());
    }
    let nodes: Nodes = serde_json::from_str(raw.get()).map_err(|error| api.misread(&error))?;
    print_lines(&nodes.lines(SystemTime::now(), terminal::width()))
}

/// Checks the name of a node, where the server knows its nodes at present.
///
/// # Errors
/// No node has that name, status 2.
pub fn check(api: &Api, name: &str) -> Result<(), Failure> {
    let Ok(Nodes { nodes }) = api.get::<Nodes>("/v1/nodes") else {
        return Ok(());
    };
    let names = || nodes.iter().map(|node| node.name.as_str());
    if name == "self" || names().any(|known| known == name) {
        return Ok(());
    }
    let known: Vec<Cow<'_, str>> = names().map(escape::escape).collect();
    Err(Failure::usage(format!(
        "--node is '{}'{}: it may be {}",
        escape::escape(name),
        did_you_mean(name, names()),
        known.join(", ")
    )))
}

#[derive(Deserialize)]
struct Nodes {
    nodes: Vec<Node>,
}

/// A node as the server shows it. Omitted members are unknown.
#[derive(Deserialize)]
struct Node {
    name: String,
    state: String,
    #[serde(default)]
    hosts: u64,
    #[serde(default)]
    inbox: u64,
    #[serde(default)]
    version: Option<String>,
    #[serde(default)]
    http: Option<String>,
    #[serde(default)]
    since: Option<String>,
}

impl Nodes {
    fn lines(&self, now: SystemTime, width: Option<u16>) -> Vec<String> {
        let header = [
            "NODE", "STATE", "HOSTS", "SINCE", "INBOX", "VERSION", "HTTP",
        ];
        let rows = self.nodes.iter().map(|node| {
            [
                escape::escape(&node.name),
                escape::escape(&node.state),
                Cow::Owned(node.hosts.to_string()),
                table::age(&node.since, now),
                Cow::Owned(node.inbox.to_string()),
                table::known(&node.version),
                table::known(&node.http),
            ]
        });
        table::columns(&header, rows, width)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_are_a_table_with_their_state() {
        let nodes: Nodes = serde_json::from_str(
            r#"{"nodes":[
                {"name":"n1","state":"up","hosts":3,"inbox":0,"version":"1.0","http":"127.0.0.1:1",
                 "since":"2026-11-21T10:00:00Z"},
                {"name":"n\u001b2","state":"dead"}]}"#,
        )
        .unwrap();
        let now = humantime::parse_rfc3339("2026-11-21T10:03:10Z").unwrap();
        assert_eq!(
            nodes.lines(now, None),
            [
                "NODE      STATE  HOSTS  SINCE   INBOX  VERSION  HTTP",
                "n1        up     3      3m ago  0      1.0      127.0.0.1:1",
                r"n\u{1b}2  dead   0      -       0      -        -",
            ]
        );
    }
}
