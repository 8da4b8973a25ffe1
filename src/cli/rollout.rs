//! `anthill plan`, `cancel`, `pause` and `resume`, and the options of a rollout.

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::api::{Api, ApiError};
use super::args::{KeyArgs, PlanArgs, RolloutArgs};
use super::groups::counted;
use super::pages::percent_encoded;
use super::{Failure, print_json, print_lines, print_note, recipients};
use crate::escape::escape;
use crate::handlers::tasks_options::{Amount, RolloutOptions};

/// Longest time between two waves, and of a wave.
const SECONDS_MAX: Duration = Duration::from_secs(30 * 86_400);
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

    /// Checks the values that the server would refuse, and names the options.
    ///
    /// # Errors
    /// Status 2 for the first wrong value.
    fn check(&self) -> Result<(), Failure> {
        let wrong = |option: &str, text: &str, may: &str| {
            let text = escape(text);
            Failure::usage(format!("{option} is '{text}': {may}"))
        };
        if let Some(text) = &self.batch {
            let steps = text.split(',').map(Amount::parse);
            let steps: Option<Vec<Amount>> = steps.collect();
            let steps = steps.filter(|steps| steps.iter().all(|step| !step.is_none()));
            let may = "it may be numbers of hosts and shares above 0, such as 1,10%,100%";
            let batch = steps.ok_or_else(|| wrong("--batch", text, may))?;
            let canary = self.canary;
            let options = RolloutOptions {
                batch,
                canary,
                ..RolloutOptions::default()
            };
            options
                .check_steps()
                .map_err(|why| wrong("--batch", text, &why))?;
        }
        if self.canary == Some(0) {
            return Err(wrong("--canary", "0", "it may be a number above 0"));
        }
        if let Some(text) = &self.max_fail
            && Amount::parse(text).is_none()
        {
            let may = "it may be a number of hosts, or a share such as 5%";
            return Err(wrong("--max-fail", text, may));
        }
        if self.wave_timeout.is_some_and(|time| time.is_zero()) {
            let why = "no wave would end in time";
            return Err(wrong("--wave-timeout", "0", why));
        }
        if self.wave_timeout.is_some_and(|time| time > SECONDS_MAX) {
            let may = "it may be up to 2592000 seconds, 30 days";
            return Err(Failure::usage(format!("--wave-timeout is too long: {may}")));
        }
        Ok(())
    }

    /// Adds the options to a request.
    ///
    /// # Errors
    /// Status 2 for a wrong value.
    pub fn add_to(&self, request: &mut Map<String, Value>) -> Result<(), Failure> {
        self.check()?;
        let mut add = |name: &str, value: Option<Value>| {
            if let Some(value) = value {
                request.insert(name.to_owned(), value);
            }
        };
        let pause = match self.pause.as_deref() {
            None => None,
            Some("ask") => Some(json!("ask")),
            Some(text) => match text.parse::<f64>() {
                Ok(seconds) if (0.0..=SECONDS_MAX.as_secs_f64()).contains(&seconds) => {
                    Some(Value::from(seconds))
                }
                _ => {
                    let text = escape(text);
                    return Err(Failure::usage(format!(
                        "--pause is '{text}': it may be a number of seconds, up to 2592000, or ask"
                    )));
                }
            },
        };
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
    let plan = Plan::deserialize(&answer).map_err(|error| api.misread(&error))?;
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
        let hosts = counted(self.hosts);
        format!("{hosts} ({})", shortened(&folded.join(",")))
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
            let (hosts, folded) = (counted(wave.hosts), escape(&wave.folded));
            format!("wave {}: {hosts}{offline}: {folded}", number + 1)
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
        let has_ended = count("cancelled") + count("asked") == 0;
        print_note(&match has_ended {
            true => format!(
                "{}: all its hosts had ended: nothing is cancelled",
                args.key
            ),
            false => words,
        });
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
    let mut state = State::of(&answer);
    if what == "resume" {
        // The server has looked at the rollout since: the next wave has begun, or it has paused
        // again.
        let api = Api::new(&args.api)?;
        let path = format!("/v1/tasks/{}?limit=1", percent_encoded(&args.key));
        let now: Result<Map<String, Value>, ApiError> = api.get(&path);
        state = now.ok().and_then(|task| State::of(&task)).or(state);
    }
    if args.json {
        print_json(&Value::Object(answer).to_string())?;
    }
    let Some(state) = state else {
        return Ok(());
    };
    match what == "resume" && state.is_paused() {
        // A reason for a pause is still there.
        true => Err(Failure::ended(
            3,
            format!("{}: pauses again at once: {state}", args.key),
        )),
        false => {
            print_note(&format!("{}: {state}", args.key));
            Ok(())
        }
    }
}

/// State of a rollout, as the server shows it.
#[derive(Debug, Deserialize)]
pub struct State {
    state: String,
    wave: u64,
    waves: u64,
    #[serde(default)]
    why: Option<String>,
}

impl State {
    /// The member `rollout` of a task, if it has one.
    pub fn of(task: &Map<String, Value>) -> Option<Self> {
        Self::deserialize(task.get("rollout")?).ok()
    }

    /// Returns whether no wave begins before someone resumes the rollout.
    pub fn is_paused(&self) -> bool {
        self.state == "paused"
    }

    /// The commands that an operator may type next, if there are any.
    pub fn next(&self, key: &str) -> Option<String> {
        match self.state.as_str() {
            "paused" => Some(format!(
                "anthill resume {key} goes on, anthill cancel {key} ends it"
            )),
            "running" if self.wave < self.waves => Some(format!(
                "anthill pause {key} holds the waves to come, anthill cancel {key} ends it"
            )),
            _ => None,
        }
    }
}

impl std::fmt::Display for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            state,
            wave,
            waves,
            why,
        } = self;
        write!(f, "{state}, wave {wave} of {waves}")?;
        match why {
            Some(why) => write!(f, ": {why}"),
            None => Ok(()),
        }
    }
}
