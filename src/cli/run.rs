//! `anthill run COMMAND [TARGET]`: one command on some hosts, its output and exit status on each.
//!
//! It is an ordinary task with a generated key, followed to its end.

use std::time::Instant;

use serde_json::json;

use super::api::Api;
use super::args::RunArgs;
use super::dispatch::{Order, check_ended, follow};
use super::output::{self, line_shown};
use super::recipients::{self, Health, UNNAMED_MAX};
use super::task::Task;
use super::{Failure, color, confirm, print, print_json, print_note};

/// Runs the command.
///
/// # Errors
/// Wrong usage; a server that refuses it; a host on which it failed.
pub fn run(args: &RunArgs) -> Result<(), Failure> {
    if args.command.trim().is_empty() {
        return Err(Failure::usage(
            "COMMAND is empty: it may be a command line, such as uptime",
        ));
    }
    let target = recipients::parse("TARGET", args.target.as_deref())?;
    let api = Api::new(&args.api)?;
    let pass = (!args.allow_unknown).then_some(" (--allow-unknown sends it all the same)");
    let hosts = (target.as_ref(), &*args.host);
    let hosts = recipients::chosen(&api, hosts, &args.command, args.yes, pass)?;
    if hosts.is_none() {
        check_unnamed(&api, args)?;
    }
    let order = Order {
        key: None,
        // With one command the priority has no meaning.
        commands: json!({ args.command.as_str(): 1 }),
        hosts,
        queue: false,
        options: serde_json::Map::new(),
    };
    let (key, _) = order.send(&api)?;
    let deadline = args
        .wait
        .and_then(|limit| Instant::now().checked_add(limit));
    let mut task = follow(&api, &key, deadline)?;
    if args.json {
        print_json(&task.json())?;
    } else {
        task.learn_sizes(&api, &key);
        show(&api, &key, &task, args.lines)?;
    }
    check_ended(&key, &task)?;
    print_note(&format!("{key}: {}", task.tally().in_words()));
    Ok(())
}

/// Asks for a confirmation if many hosts are online, since all of them get the command.
fn check_unnamed(api: &Api, args: &RunArgs) -> Result<(), Failure> {
    let online = Health::fetch(api)?.hosts_online;
    let many = online > UNNAMED_MAX as u64;
    let hosts = format!("all {online} hosts online");
    match many {
        true => confirm::ask(&confirm::sending(&args.command, &hosts), args.yes),
        false => Ok(()),
    }
}

/// Prints the output of each host, failed hosts first.
fn show(api: &Api, key: &str, task: &Task, by_line: bool) -> Result<(), Failure> {
    for (id, host) in &task.hosts {
        let results = task.results(host);
        if results.is_empty() {
            let line = format!(
                "{}: {}",
                crate::escape::escape(id),
                color::state(&host.state)
            );
            print(&format!("{line}\n"))?;
        }
        for (command, outcome) in results {
            let whole = match outcome.is_partial() {
                true => {
                    String::from_utf8_lossy(&output::fetch(api, key, id, command)?).into_owned()
                }
                false => outcome.output().to_owned(),
            };
            let mut text = String::new();
            let indent = match by_line {
                true if outcome.exit == 0 => format!("{}: ", crate::escape::escape(id)),
                true => {
                    print_note(&outcome.head(id, command));
                    format!("{}: ", crate::escape::escape(id))
                }
                false => {
                    text.push_str(&outcome.head(id, command));
                    text.push('\n');
                    "    ".to_owned()
                }
            };
            for line in whole.lines() {
                text.push_str(&indent);
                text.push_str(&line_shown(line));
                text.push('\n');
            }
            print(&text)?;
        }
    }
    Ok(())
}
