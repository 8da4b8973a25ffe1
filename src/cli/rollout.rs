//! `anthill plan`, `cancel`, `pause` and `resume`, and the options of a rollout.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::api::{Api, ApiError};
use super::args::{KeyArgs, PlanArgs, RolloutArgs};
use super::groups::counted;
use super::pages::percent_encoded;
use super::{Failure, print_json, print_lines, print_note, recipients};
use crate::escape::escape;

/// Hosts above which a target is confirmed.
const UNCONFIRMED_MAX: u64 = 100;
/// Characters of a folded list that a line shows.
const FOLDED_CHARS_MAX: usize = 200;

/// A plan of the server.
#[derive(Deserialize)]
pub struct Plan {
    hosts: u64,
    offline: u64,
    waves: Vec<Wave>,
}

#[derive(Deserialize)]
struct Wave {
    hosts: u64,
    offline: u64,
    folded: String,
}

impl RolloutArgs {
    /// Returns whether the task goes to its hosts in waves.
    pub fn has_waves(&self) -> bool {
        self.batch.is_some() || self.canary.is_some()
    }

    /// Adds the options to a request.
    ///
    /// # Errors
    /// A pause that is neither a number nor `ask`.
    pub fn add_to(&self, request: &mut Map<String, Value>) -> Result<(), Failure> {
        let mut add = |name: &str, value: Option<Value>| {
            if let Some(value) = value {
                request.insert(name.to_owned(), value);
            }
        };
        let pause = match self.pause.as_deref() {
            None => None,
            Some("ask") => Some(json!("ask")),
            Some(text) => match text.parse::<f64>() {
                Ok(seconds) if seconds.is_finite() && seconds >= 0.0 => Some(Value::from(seconds)),
                _ => {
                    let text = escape(text);
                    return Err(Failure::usage(format!(
                        "--pause is '{text}': it may be a number of seconds, or ask"
                    )));
                }
            },
        };
        if self.wave_timeout.is_some_and(|time| time.is_zero()) {
            return Err(Failure::usage(
                "--wave-timeout is 0: no wave would end in time",
            ));
        }
        add("batch", self.batch.as_ref().map(|text| json!(text)));
        add("canary", self.canary.map(Value::from));
        add("max_fail", self.max_fail.as_ref().map(|text| json!(text)));
        add("pause_s", pause);
        let timeout = self
            .wave_timeout
            .map(|timeout| json!(timeout.as_secs_f64()));
        add("wave_timeout_s", timeout);
        add("offline", self.offline.as_ref().map(|text| json!(text)));
        add("expect", self.expect.map(Value::from));
        Ok(())
    }
}

/// Asks the server for a plan, and returns its JSON, too.
///
/// # Errors
/// Status 2 for a target or options that the server calls wrong; no valid answer.
pub fn fetch(api: &Api, target: &str, rollout: &RolloutArgs) -> Result<(Plan, Value), Failure> {
    let mut request = Map::new();
    request.insert("target".to_owned(), json!(target));
    rollout.add_to(&mut request)?;
    let answer: Result<Value, ApiError> = api.post("/v1/plan", &Value::Object(request));
    let answer = answer.map_err(ApiError::of_target)?;
    let plan = Plan::deserialize(&answer).map_err(|error| api.foreign(error))?;
    Ok((plan, answer))
}

/// Returns whether other nodes may hold hosts.
pub fn has_other_nodes(api: &Api) -> bool {
    #[derive(Deserialize)]
    struct Nodes {
        nodes: Vec<Node>,
    }
    #[derive(Deserialize)]
    struct Node {
        state: String,
    }
    // An older server, or one without its store, knows of none.
    let nodes = api.get::<Nodes>("/v1/nodes");
    nodes.is_ok_and(|all| all.nodes.iter().filter(|node| node.state != "dead").count() > 1)
}

impl Plan {
    /// Number of hosts.
    pub fn hosts(&self) -> u64 {
        self.hosts
    }

    /// Describes the hosts: `37 hosts (web-[1-37])`.
    pub fn counted(&self) -> String {
        let folded: Vec<&str> = self.waves.iter().map(|wave| wave.folded.as_str()).collect();
        let word = if self.hosts == 1 { "host" } else { "hosts" };
        format!("{} {word} ({})", self.hosts, shortened(&folded.join(",")))
    }

    /// Returns whether so many hosts are confirmed first.
    pub fn is_large(&self) -> bool {
        self.hosts > UNCONFIRMED_MAX
    }

    /// One line for each wave, and one for all.
    pub fn lines(&self) -> Vec<String> {
        let line = |(number, wave): (usize, &Wave)| {
            let offline = match wave.offline {
                0 => String::new(),
                count => format!(", {count} offline"),
            };
            let word = if wave.hosts == 1 { "host" } else { "hosts" };
            let folded = escape(&wave.folded);
            format!(
                "wave {}: {} {word}{offline}: {folded}",
                number + 1,
                wave.hosts
            )
        };
        self.waves.iter().enumerate().map(line).collect()
    }

    /// Counts of all waves.
    pub fn in_words(&self) -> String {
        let (hosts, offline, waves) = (self.hosts, self.offline, self.waves.len());
        let words = if waves == 1 { "wave" } else { "waves" };
        format!(
            "{} in {waves} {words}, {offline} offline; nothing is sent",
            counted(hosts)
        )
    }
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(FOLDED_CHARS_MAX) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}

/// Shows a plan.
///
/// # Errors
/// As [`fetch`].
pub fn plan(args: &PlanArgs) -> Result<(), Failure> {
    recipients::parse("TARGET", Some(&args.target))?;
    let api = Api::new(&args.api)?;
    let (plan, document) = fetch(&api, &args.target, &args.rollout)?;
    show(&plan, &document, args.json)
}

/// Prints a plan.
///
/// # Errors
/// Stdout cannot be written.
pub fn show(plan: &Plan, document: &Value, as_json: bool) -> Result<(), Failure> {
    if as_json {
        return print_json(&document.to_string());
    }
    print_lines(&plan.lines())?;
    print_note(&plan.in_words());
    Ok(())
}

fn ask(args: &KeyArgs, what: &str) -> Result<Map<String, Value>, Failure> {
    let api = Api::new(&args.api)?;
    let path = format!("/v1/tasks/{}/{what}", percent_encoded(&args.key));
    let answer: Map<String, Value> = api.post(&path, &json!({}))?;
    Ok(answer)
}

/// Cancels a task.
///
/// # Errors
/// No such task, or no good answer from a server; status 1 where hosts cannot be stopped.
pub fn cancel(args: &KeyArgs) -> Result<(), Failure> {
    let answer = ask(args, "cancel")?;
    let count = |name: &str| answer.get(name).and_then(Value::as_u64).unwrap_or(0);
    let cannot = answer.get("cannot").and_then(Value::as_array);
    let cannot: Vec<&str> = cannot
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    if args.json {
        print_json(&Value::Object(answer.clone()).to_string())?;
    }
    let words = format!(
        "{}: {} cancelled, {} asked to stop",
        args.key,
        count("cancelled"),
        count("asked")
    );
    if cannot.is_empty() {
        print_note(&words);
        return Ok(());
    }
    let folded = shortened(&crate::codec::target::fold(cannot.iter().copied()));
    Err(Failure::failed(format!(
        "{words}; {} cannot be stopped: {folded}",
        cannot.len()
    )))
}

/// Pauses or resumes a rollout.
///
/// # Errors
/// No such task, a rollout in another state, or no good answer from a server.
pub fn control(args: &KeyArgs, what: &str) -> Result<(), Failure> {
    let answer = ask(args, what)?;
    if args.json {
        return print_json(&Value::Object(answer).to_string());
    }
    let rollout = answer.get("rollout");
    let of = |name: &str| rollout.and_then(|rollout| rollout.get(name));
    let number = |name: &str| of(name).and_then(Value::as_u64).unwrap_or(0);
    let state = of("state").and_then(Value::as_str).unwrap_or("?");
    let (wave, waves) = (number("wave"), number("waves"));
    print_note(&format!("{}: {state}, wave {wave} of {waves}", args.key));
    Ok(())
}
