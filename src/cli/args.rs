//! Arguments of the command line. The doc comments are the texts of `--help`.

mod bench;

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use clap::builder::{NonEmptyStringValueParser, PossibleValuesParser};
use clap::parser::ValueSource;
use clap::{
    ArgAction, ArgGroup, Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum,
};
use clap::{ArgMatches, Id};

use crate::config::{Overrides, flag_help};
use crate::control::events::EVENT_NAMES;
use crate::keys::Role;
use crate::program::parse::{ip_and_port, moment, seconds};
use crate::program::{AgentArgs, Failure, usage};
pub use bench::{BenchArgs, BenchMode, FloorArgs};

/// Tracks which hosts of a fleet are online, and runs commands on them.
#[derive(Parser)]
#[command(
    name = "anthill",
    version,
    propagate_version = true,
    args_conflicts_with_subcommands = true,
    after_help = "Without a subcommand the server runs. Exit status: 0 success, 1 failure, \
                  2 wrong usage or configuration."
)]
struct Line {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: ServeArgs,
}

/// A job to do.
#[derive(Subcommand)]
pub enum Command {
    /// Run the server until SIGTERM or SIGINT; SIGHUP reloads the configuration
    Serve(ServeArgs),
    /// List the hosts of a running server
    Hosts(HostsArgs),
    /// Show one host
    Host(HostArgs),
    /// Set or remove labels of hosts
    Label(LabelArgs),
    /// Show what is known of a host's presence: its facts, its last transitions and events
    Why(HostArgs),
    /// Forget hosts that are offline
    Forget(ForgetArgs),
    /// Run a command on hosts, and show its output and exit status on each
    Run(RunArgs),
    /// Send a task to hosts; with --wait, wait until it is done
    Dispatch(Box<DispatchArgs>),
    /// Show the hosts and waves of a target; nothing is sent
    Plan(PlanArgs),
    /// Cancel a task: hosts that have not begun it do not get it
    Cancel(KeyArgs),
    /// Pause the rollout of a task: no further wave begins
    Pause(KeyArgs),
    /// Resume the rollout of a task
    Resume(KeyArgs),
    /// List the tasks of a running server
    Tasks(TasksArgs),
    /// Show one task: its commands, its hosts and their results
    Task(TaskArgs),
    /// Print the whole output of a task on a host
    Output(OutputArgs),
    /// Show the latest events; with --follow, new events as they happen
    Events(EventsArgs),
    /// List the nodes that share the store
    Nodes(NodesArgs),
    /// Watch the fleet on the whole terminal: counts, losses, silences, open tasks
    Top(TopArgs),
    /// Send commands to hosts from a prompt, and show their answers
    Console(ConsoleArgs),
    /// Run the agent of a host: send heartbeats, and run commands that the allow file names
    Agent(Box<AgentArgs>),
    /// Load a server with many simulated hosts, and report its performance
    Bench(Box<BenchArgs>),
    #[command(name = "bench-floor", hide = true)]
    BenchFloor(FloorArgs),
    /// Show the AK devices that a running server polls, or one of them with its values
    Ak(AkArgs),
    /// Simulate an AK device, to test a configuration
    AkSim(AkSimArgs),
    /// Show the targets that a running server probes
    Reach(ReachArgs),
    /// Check this machine, the configuration, the store and a running server; name what mends them
    Doctor(DoctorArgs),
    /// Ask a running server for its health: exit status 0 while its loop turns, else 1
    Health(HealthArgs),
    /// Check the configuration, and print the values in force
    CheckConfig(ConfigArgs),
    /// Print a new key; with --for, the key derived for a host
    Keygen(KeygenArgs),
    /// Print a new token of the HTTP API, and its line for the file of tokens (server.http_tokens)
    Token(TokenArgs),
    /// Print the completion script of a shell
    Completions(CompletionsArgs),
    /// Write the manual pages into a directory
    Man(ManArgs),
}

/// Place of the configuration.
#[derive(Args)]
pub struct ConfigArgs {
    /// Configuration file [default: ./config.json if it exists, else the built-in defaults]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// Options of `serve`. A flag overrides the file.
#[derive(Args)]
pub struct ServeArgs {
    #[command(flatten)]
    pub file: ConfigArgs,
    /// Store: embedded:DIR, redis://…, redis+unix://…, redis+sentinel://…, redis+cluster://…
    /// (store.url)
    #[arg(long, value_name = "URL")]
    store: Option<String>,
    #[arg(long, help = flag_help("server.tcp"), value_name = "ADDR")]
    tcp: Option<String>,
    #[arg(long, help = flag_help("server.udp"), value_name = "ADDR")]
    udp: Option<String>,
    #[arg(long, help = flag_help("server.http"), value_name = "ADDR")]
    http: Option<String>,
    /// Accept hosts without a key from other machines (auth)
    #[arg(long, value_name = "WORD", value_parser = ["none"])]
    auth: Option<String>,
    #[arg(long, help = flag_help("log.level"), value_name = "LEVEL", value_parser = ["off", "error", "warn", "info", "debug", "trace"])]
    log_level: Option<String>,
}

impl ServeArgs {
    /// The flags, to be applied over the file.
    pub fn overrides(&self) -> Overrides {
        Overrides {
            store: self.store.clone(),
            tcp: self.tcp.clone(),
            udp: self.udp.clone(),
            http: self.http.clone(),
            auth: self.auth.clone(),
            log_level: self.log_level.clone(),
        }
    }
}

/// Options of `keygen`.
#[derive(Args)]
pub struct KeygenArgs {
    /// Host for which a key is derived
    #[arg(long = "for", value_name = "ID", requires = "key_file")]
    pub host: Option<String>,
    /// File with the key from which it is derived: KEY_ID HEX, or the server's keys file
    #[arg(long, value_name = "FILE", requires = "host")]
    pub key_file: Option<PathBuf>,
}

/// Options of `token`.
#[derive(Args)]
pub struct TokenArgs {
    /// Name of the token, which stands for it in the log and in events
    #[arg(value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
    pub name: String,
    /// Its rights: read sees, dispatch also sends to hosts, admin does everything
    #[arg(long, value_name = "ROLE")]
    pub role: TokenRole,
    /// With --role dispatch: the hosts that it may send to, by names and networks [default: all]
    #[arg(long, value_name = "TARGET")]
    pub target: Option<String>,
}

/// Rights of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum TokenRole {
    /// Requests that change nothing
    Read,
    /// Also tasks and commands to hosts
    Dispatch,
    /// All requests
    Admin,
}

impl TokenRole {
    /// Its word in the file.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => Role::Read,
            Self::Dispatch => Role::Dispatch,
            Self::Admin => Role::Admin,
        }
        .as_str()
    }
}

/// Address and token of a running server.
#[derive(Args)]
pub struct ApiArgs {
    /// HTTP address of the server, http:// or https:// [default: ANTHILL_API, else http://127.0.0.1:11480]
    #[arg(long, value_name = "URL")]
    pub api: Option<String>,
    /// File with the server's token [default: the file that ANTHILL_TOKEN_FILE names]
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// With an https:// address: PEM file with the authorities that may sign the server's
    /// certificate [default: those of the system]
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// Use of colour
    #[arg(long, value_name = "WHEN", default_value = "auto")]
    pub color: Color,
}

/// Use of colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Color {
    /// On a terminal, unless NO_COLOR is set
    Auto,
    /// Also in files and pipes
    Always,
    /// Never
    Never,
}

/// Options of `host`.
#[derive(Args)]
pub struct HostArgs {
    /// Name of the host
    #[arg(value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
    pub name: String,
    /// Print the server's JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub api: ApiArgs,
}

/// Options of `label`.
#[derive(Args)]
pub struct LabelArgs {
    /// Hosts: names, globs (* ?), ranges (web-[1-9]), networks, labels (role=web), @groups, !excluded
    #[arg(value_name = "TARGET")]
    pub target: String,
    /// KEY=VALUE sets a label, KEY- removes it
    #[arg(value_name = "KEY=VALUE|KEY-", required = true)]
    pub changes: Vec<String>,
    /// Do not ask for confirmation
    #[arg(long)]
    pub yes: bool,
    #[command(flatten)]
    pub api: ApiArgs,
}

/// Options of `forget`.
#[derive(Args)]
#[command(group(ArgGroup::new("which").required(true).args(["target", "offline_for"])))]
pub struct ForgetArgs {
    /// Hosts: names, globs (* ?), ranges (web-[1-9]), networks, labels (role=web), @groups, !excluded, all
    #[arg(value_name = "TARGET")]
    pub target: Option<String>,
    /// All hosts that have been offline for this time, such as 12h or 1d
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    pub offline_for: Option<Duration>,
    /// Do not ask for confirmation
    #[arg(long)]
    pub yes: bool,
    #[command(flatten)]
    pub api: ApiArgs,
}

/// Options of `run`.
#[derive(Args)]
pub struct RunArgs {
    /// Command line, as one argument
    #[arg(value_name = "COMMAND", value_parser = NonEmptyStringValueParser::new())]
    pub command: String,
    /// Hosts: names, globs (* ?), ranges (web-[1-9]), networks, labels (role=web), @groups, !excluded, all [default: all that are online]
    #[arg(value_name = "TARGET")]
    pub target: Option<String>,
    /// Host that runs it; may be repeated
    #[arg(long, value_name = "HOST", value_parser = NonEmptyStringValueParser::new(), conflicts_with = "target")]
    pub host: Vec<String>,
    /// Longest wait [default: until every host has finished]
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub wait: Option<Duration>,
    /// Begin each line of output with the name of its host
    #[arg(short = 'L', conflicts_with = "json")]
    pub lines: bool,
    /// Print the server's JSON of the finished task
    #[arg(long)]
    pub json: bool,
    /// Accept hosts that the server has never seen
    #[arg(long)]
    pub allow_unknown: bool,
    /// Do not ask for confirmation
    #[arg(long)]
    pub yes: bool,
    #[command(flatten)]
    pub api: ApiArgs,
}

/// Options of `console`.
#[derive(Args)]
pub struct ConsoleArgs {
    /// Longest wait for the answers to a command
    #[arg(long, value_name = "SECONDS", default_value = "5", value_parser = seconds)]
    pub wait: Duration,
    /// Do not ask for confirmation
    #[arg(long)]
    pub yes: bool,
    #[command(flatten)]
    pub api: ApiArgs,
}

/// Options of `events`.
#[derive(Args)]
pub struct EventsArgs {
    /// Show new events until interrupted
    #[arg(long)]
    pub follow: bool,
    /// Only events of this name, such as offline; may be repeated
    #[arg(long, value_name = "NAME", value_parser = PossibleValuesParser::new(EVENT_NAMES), hide_possible_values = true)]
    pub event: Vec<String>,
    /// Print the server's JSON; with --follow, one line per event
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub api: ApiArgs,
}

/// Options of `output`.
#[derive(Args)]
pub struct OutputArgs {
    /// Key of the task
    #[arg(value_name = "KEY", value_parser = NonEmptyStringValueParser::new())]
    pub key: String,
    /// Host
    #[arg(value_name = "HOST", value_parser = NonEmptyStringValueParser::new())]
    pub host: String,
    /// Command [default: all commands of the task, in order]
    #[arg(value_name = "COMMAND", value_parser = NonEmptyStringValueParser::new())]
    pub command: Option<String>,
    #[command(flatten)]
    pub api: ApiArgs,
}

/// Options of `hosts`.
#[derive(Args)]
pub struct HostsArgs {
    /// Hosts: names, globs (* ?), ranges (web-[1-9]), networks, labels (role=web), @groups, !excluded [default: all]
    #[arg(value_name = "TARGET")]
    pub targets: Vec<String>,
    /// Only hosts that are online
    #[arg(long, action = ArgAction::SetTrue, conflicts_with = "offline")]
    pub online: bool,
    /// Only hosts that are offline
    #[arg(long, action = ArgAction::SetTrue)]
    pub offline: bool,
    /// Only hosts that this node holds; self: what the server has in memory
    #[arg(long, value_name = "NAME", conflicts_with = "at", value_parser = NonEmptyStringValueParser::new())]
    pub node: Option<String>,
    /// Print the server's JSON; with --watch, one line per change
    #[arg(long)]
    pub json: bool,
    /// Refresh every second until interrupted
    #[arg(long)]
    pub watch: bool,
    /// States at this time, such as 2026-11-21T10:00:00Z
    #[arg(long, value_name = "TIME", conflicts_with = "watch", value_parser = moment)]
    pub at: Option<SystemTime>,
    #[command(flatten)]
    pub api: ApiArgs,
}

/// Options of `dispatch`.
#[derive(Args)]
#[command(group(ArgGroup::new("book").required(true).args(["task", "tasks", "retry"])))]
pub struct DispatchArgs {
    /// Key of the task, such as AC131; each key is used once [default: a new key]
    #[arg(value_name = "KEY", value_parser = NonEmptyStringValueParser::new())]
    pub key: Option<String>,
    /// Command; may be repeated. A number after the last '=' is its priority. The highest
    /// priority runs first; commands without a priority run before them, in the given order
    #[arg(long, value_name = "COMMAND[=PRIORITY]")]
    pub task: Vec<String>,
    /// File with the commands: a JSON object COMMAND -> PRIORITY, a JSON list, or one command per line
    #[arg(long, value_name = "FILE")]
    pub tasks: Option<PathBuf>,
    /// Host that gets it; may be repeated [default: all that are online]
    #[arg(long, value_name = "HOST", value_parser = NonEmptyStringValueParser::new())]
    pub host: Vec<String>,
    /// Hosts: names, globs (* ?), ranges (web-[1-9]), networks, labels (role=web), @groups, !excluded, all
    #[arg(long, value_name = "TARGET", conflicts_with = "host")]
    pub target: Option<String>,
    #[command(flatten)]
    pub rollout: Box<RolloutArgs>,
    /// Show the plan, and send nothing
    #[arg(long, requires = "target")]
    pub dry_run: bool,
    /// Send it to hosts that are offline when they connect
    #[arg(long)]
    pub queue: bool,
    /// Accept hosts that the server has never seen
    #[arg(long)]
    pub allow_unknown: bool,
    /// Task whose commands are sent once more, to those of its hosts that --states names
    #[arg(long, value_name = "OLDKEY", conflicts_with_all = ["host", "target"])]
    pub retry: Option<String>,
    /// States of these hosts [default: failed,lost,unanswered]
    #[arg(
        long,
        value_name = "STATE,…",
        requires = "retry",
        value_delimiter = ','
    )]
    pub states: Vec<String>,
    /// With --target: do not ask for confirmation
    #[arg(long)]
    pub yes: bool,
    /// Wait until every host has finished, or for this time; exit status 0 only if every host is 'done'
    #[arg(long, value_name = "SECONDS", require_equals = true, num_args = 0..=1, value_parser = seconds)]
    pub wait: Option<Option<Duration>>,
    /// Print the server's JSON; with --wait, that of the finished task
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub form: Grouped,
    #[command(flatten)]
    pub api: ApiArgs,
}

/// Form in which the outputs of a task are shown.
#[derive(Args, Clone, Debug, Default)]
pub struct Grouped {
    /// Show each distinct output once, under the hosts that have it, the most frequent first
    #[arg(short = 'b', conflicts_with_all = ["lines", "json"])]
    pub grouped: bool,
    /// Show each distinct output by its differences from the most frequent one
    #[arg(long, conflicts_with_all = ["lines", "json"])]
    pub diff: bool,
    /// Begin each line of output with the name of its host
    #[arg(short = 'L', conflicts_with = "json")]
    pub lines: bool,
}

impl Grouped {
    /// Returns whether one of the forms is asked for.
    pub fn is_wanted(&self) -> bool {
        self.grouped || self.diff || self.lines
    }
}

/// Options of a rollout.
#[derive(Args, Default)]
pub struct RolloutArgs {
    /// Waves: cumulative numbers of hosts or shares, such as 1,10%,100%; a single one repeats
    #[arg(long, value_name = "N|P%,…")]
    pub batch: Option<String>,
    /// Hosts of the first wave
    #[arg(long, value_name = "N")]
    pub canary: Option<u64>,
    /// Failures over the whole rollout above which it pauses [default: 0 with waves]
    #[arg(long, value_name = "N|P%")]
    pub max_fail: Option<String>,
    /// Seconds between two waves, or 'ask': wait for 'anthill resume'
    #[arg(long, value_name = "SECONDS|ask")]
    pub pause: Option<String>,
    /// Longest time of a wave, after which the rollout pauses
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub wave_timeout: Option<Duration>,
    /// Hosts of a wave that are offline [default: skip]
    #[arg(long, value_name = "WHAT", value_parser = ["skip", "fail", "queue"])]
    pub offline: Option<String>,
    /// Send nothing unless it is this number of hosts
    #[arg(long, value_name = "N")]
    pub expect: Option<u64>,
}

/// Options of `plan`.
#[derive(Args)]
pub struct PlanArgs {
    /// Hosts: names, globs (* ?), ranges (web-[1-9]), networks, labels (role=web), @groups, !excluded
    #[arg(value_name = "TARGET")]
    pub target: String,
    #[command(flatten)]
    pub rollout: Box<RolloutArgs>,
    /// Print the server's JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub api: ApiArgs,
}

/// Options of `cancel`, `pause` and `resume`.
#[derive(Args)]
pub struct KeyArgs {
    /// Key of the task
    #[arg(value_name = "KEY", value_parser = NonEmptyStringValueParser::new())]
    pub key: String,
    /// Print the server's JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub api: ApiArgs,
}

/// Options of `tasks`.
#[derive(Args)]
pub struct TasksArgs {
    /// Print the server's JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub api: ApiArgs,
}

/// Options of `nodes`.
#[derive(Args)]
pub struct NodesArgs {
    /// Print the server's JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub api: ApiArgs,
}

/// Options of `task`.
#[derive(Args)]
pub struct TaskArgs {
    /// Key of the task
    #[arg(value_name = "KEY", value_parser = NonEmptyStringValueParser::new())]
    pub key: String,
    /// Only hosts that failed
    #[arg(long)]
    pub failed: bool,
    /// Only this host; may be repeated
    #[arg(long, value_name = "HOST", value_parser = NonEmptyStringValueParser::new())]
    pub host: Vec<String>,
    /// Print the server's JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub form: Grouped,
    #[command(flatten)]
    pub api: ApiArgs,
}

/// Options of `ak`.
#[derive(Args)]
pub struct AkArgs {
    /// Name of a device [default: all devices, without their values]
    #[arg(value_name = "DEVICE", value_parser = NonEmptyStringValueParser::new())]
    pub device: Option<String>,
    /// Print the server's JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub api: ApiArgs,
}

/// Options of `ak-sim`.
#[derive(Args)]
pub struct AkSimArgs {
    /// Address to listen on; port 0 is any free port
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:9883", value_parser = ip_and_port)]
    pub listen: SocketAddr,
    /// Make every second answer invalid, in a dozen ways in turn
    #[arg(long)]
    pub bad_habits: bool,
}

/// Options of `top`.
#[derive(Args)]
pub struct TopArgs {
    /// Target: only these hosts, e.g. 'web-*,!web-9' or role=web
    #[arg(value_name = "TARGET")]
    pub target: Option<String>,
    /// Print one frame, of this terminal's size or 80 × 24, and end
    #[arg(long)]
    pub once: bool,
    #[command(flatten)]
    pub api: ApiArgs,
}

/// Options of `reach`.
#[derive(Args)]
pub struct ReachArgs {
    /// Print the server's JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub api: ApiArgs,
}

/// Options of `doctor`.
#[derive(Args)]
pub struct DoctorArgs {
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Store that the server is started with, if a flag names it (store.url)
    #[arg(long, value_name = "URL")]
    pub store: Option<String>,
    /// Print the findings as JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub api: ApiArgs,
}

/// Options of `health`.
#[derive(Args)]
pub struct HealthArgs {
    #[command(flatten)]
    pub api: ApiArgs,
}

/// Options of `completions`.
#[derive(Args)]
pub struct CompletionsArgs {
    /// Shell
    #[arg(value_name = "SHELL")]
    pub shell: clap_complete::Shell,
}

/// Options of `man`.
#[derive(Args)]
pub struct ManArgs {
    /// Directory, which is created if it does not exist
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,
}

/// Result of parsing the arguments.
pub enum Parsed {
    /// A job.
    Run(Command),
    /// Only this text: help, or the version.
    Show(String),
}

/// The command line as clap sees it.
pub fn command() -> clap::Command {
    Line::command()
}

/// Reads the arguments, the program's name in front.
///
/// # Errors
/// Wrong usage, as one line.
pub fn parse(args: &[OsString]) -> Result<Parsed, Failure> {
    let line = command().try_get_matches_from(args).and_then(|matches| {
        let mut line = Line::from_arg_matches(&matches)?;
        if let Some(Command::Bench(bench)) = &mut line.command {
            bench.given = given(&matches);
        }
        Ok(line)
    });
    match line {
        Ok(line) => Ok(Parsed::Run(
            line.command.unwrap_or(Command::Serve(line.serve)),
        )),
        Err(error) => usage::shown(&error, &command(), args).map(Parsed::Show),
    }
}

/// Options of a subcommand that were given, as they are typed.
fn given(matches: &ArgMatches) -> Vec<String> {
    let Some((_, matches)) = matches.subcommand() else {
        return Vec::new();
    };
    let typed = |id: &&Id| matches.value_source(id.as_str()) == Some(ValueSource::CommandLine);
    let names = matches.ids().filter(typed);
    names
        .map(|id| format!("--{}", id.as_str().replace('_', "-")))
        .collect()
}
