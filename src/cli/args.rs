//! Arguments of the command line. The doc comments are the texts of `--help`.

use std::ffi::OsString;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::NonEmptyStringValueParser;
use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{
    ArgAction, ArgGroup, Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum,
};
use clap::{ArgMatches, Id};

use super::{Failure, usage};
use crate::config::{Overrides, flag_help};

/// Knows which machines of a fleet are alive, and gets work done on them.
#[derive(Parser)]
#[command(
    name = "anthill",
    version,
    propagate_version = true,
    args_conflicts_with_subcommands = true,
    after_help = "Without a subcommand it serves. Exit status: 0 done, 1 it did not succeed, \
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
    /// Run the server, until SIGTERM or SIGINT; SIGHUP reads the configuration again
    Serve(ServeArgs),
    /// Show the hosts that a running server knows
    Hosts(HostsArgs),
    /// Show all that is known of one host
    Host(HostArgs),
    /// Forget hosts that are offline
    Forget(ForgetArgs),
    /// Run a command on hosts, and show its output and exit status on each
    Run(RunArgs),
    /// Send a task to hosts, and with --wait see it done
    Dispatch(DispatchArgs),
    /// Show the tasks that a running server knows
    Tasks(TasksArgs),
    /// Show one task: its commands, its hosts, and what came back
    Task(TaskArgs),
    /// Print all that a command of a task put out on a host
    Output(OutputArgs),
    /// Show the last events, and with --follow those to come
    Events(EventsArgs),
    /// Send commands to hosts from a prompt, and see what comes back
    Console(ConsoleArgs),
    /// Be a host of a server: beat, and run what the allow file names
    Agent(Box<AgentArgs>),
    /// Be many hosts of a server, and show what it makes of them
    Bench(Box<BenchArgs>),
    #[command(name = "bench-floor", hide = true)]
    BenchFloor(FloorArgs),
    /// Show the AK devices that a running server asks, or one of them with its values
    Ak(AkArgs),
    /// Be an AK device, to try a configuration against
    AkSim(AkSimArgs),
    /// Show the targets that a running server tries to reach
    Reach(ReachArgs),
    /// Read the configuration as the server would, and print what is in force
    CheckConfig(ConfigArgs),
    /// Print a new key, or with --for the own key of a host
    Keygen(KeygenArgs),
    /// Print the completions for a shell
    Completions(CompletionsArgs),
}

/// Place of the configuration.
#[derive(Args)]
pub struct ConfigArgs {
    /// Configuration file [default: ./config.json, or the built-in defaults where there is none]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// Options of `serve`. A flag beats the file.
#[derive(Args)]
pub struct ServeArgs {
    #[command(flatten)]
    pub file: ConfigArgs,
    /// Store: embedded:DIR, redis://…, redis+unix://… (store.url)
    #[arg(long, value_name = "URL")]
    store: Option<String>,
    #[arg(long, help = flag_help("server.tcp"), value_name = "ADDR")]
    tcp: Option<String>,
    #[arg(long, help = flag_help("server.udp"), value_name = "ADDR")]
    udp: Option<String>,
    #[arg(long, help = flag_help("server.http"), value_name = "ADDR")]
    http: Option<String>,
    /// Listen beyond this machine although hosts need no key (auth)
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

/// Options of `agent`.
#[derive(Args, Clone)]
pub struct AgentArgs {
    /// The server: HOST:PORT, or HOST for port 11451
    #[arg(long, value_name = "ADDR")]
    pub server: String,
    /// Id of this host at the server [default: the address it connects from]
    #[arg(long, value_name = "ID")]
    pub id: Option<String>,
    /// Address to connect from, and to take datagrams at
    #[arg(long, value_name = "IP", value_parser = ip)]
    pub source: Option<IpAddr>,
    /// Port to take datagrams at [default: 6655; with --push none]
    #[arg(long, value_name = "PORT", value_parser = port)]
    pub udp: Option<u16>,
    /// Take dispatches over the connection to the server, for a host behind NAT
    #[arg(long)]
    pub push: bool,
    /// Seconds between two heartbeats [default: what the server says]
    #[arg(long, value_name = "SECONDS", value_parser = beat_seconds, allow_negative_numbers = true)]
    pub interval: Option<f64>,
    /// File that names the commands it may run; read again on SIGHUP [default: it runs none]
    #[arg(long, value_name = "FILE")]
    pub allow: Option<PathBuf>,
    /// File with its key, KEY_ID HEX, which others must not be able to read
    #[arg(long, value_name = "FILE")]
    pub key_file: Option<PathBuf>,
    /// Directory where it remembers what it has done
    #[arg(long, value_name = "DIR", default_value = "./anthill-agent")]
    pub state: PathBuf,
    /// Speak TLS to the server; the files are read again on SIGHUP
    #[arg(long)]
    pub tls: bool,
    /// Certificate of who signed the server's, as PEM [default: those the system believes]
    #[arg(long, value_name = "FILE", requires = "tls")]
    pub ca: Option<PathBuf>,
    /// Certificate to show, as PEM: its name is this host's id, and --push is understood
    #[arg(long, value_name = "FILE", requires = "tls", requires = "key")]
    pub cert: Option<PathBuf>,
    /// Its private key, as PEM; others must not be able to read the file
    #[arg(long, value_name = "FILE", requires = "cert")]
    pub key: Option<PathBuf>,
}

/// Options of `keygen`.
#[derive(Args)]
pub struct KeygenArgs {
    /// The host whose own key is derived
    #[arg(long = "for", value_name = "ID", requires = "key_file")]
    pub host: Option<String>,
    /// File with the key it is derived from: KEY_ID HEX, or the server's keys file
    #[arg(long, value_name = "FILE", requires = "host")]
    pub key_file: Option<PathBuf>,
}

/// Address and token of a running server.
#[derive(Args)]
pub struct ApiArgs {
    /// The server's HTTP address, http:// or https:// [default: ANTHILL_API, else http://127.0.0.1:11480]
    #[arg(long, value_name = "URL")]
    pub api: Option<String>,
    /// File with the token the server wants [default: the file that ANTHILL_TOKEN_FILE names]
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// With an https:// address: PEM file with the authorities that may have signed the server's
    /// certificate [default: those of the system]
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// Colour: auto is on a terminal, unless NO_COLOR is set
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
    /// The host's name
    #[arg(value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
    pub name: String,
    /// Print all there is as JSON, as the server gives it
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub api: ApiArgs,
}

/// Options of `forget`.
#[derive(Args)]
#[command(group(ArgGroup::new("which").required(true).args(["target", "offline_for"])))]
pub struct ForgetArgs {
    /// Hosts: names, globs (* ?) and ranges (web-[1-9]), ! takes away, all
    #[arg(value_name = "TARGET")]
    pub target: Option<String>,
    /// All hosts that have been offline for so long, such as 12h or 1d
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    pub offline_for: Option<Duration>,
    /// Ask for no confirmation, however many hosts there are
    #[arg(long)]
    pub yes: bool,
    #[command(flatten)]
    pub api: ApiArgs,
}

/// Options of `run`.
#[derive(Args)]
pub struct RunArgs {
    /// The command line, as one word
    #[arg(value_name = "COMMAND", value_parser = NonEmptyStringValueParser::new())]
    pub command: String,
    /// Hosts: names, globs (* ?) and ranges (web-[1-9]), ! takes away, all [default: all online]
    #[arg(value_name = "TARGET")]
    pub target: Option<String>,
    /// A host to run it on, several times if need be
    #[arg(long, value_name = "HOST", value_parser = NonEmptyStringValueParser::new(), conflicts_with = "target")]
    pub host: Vec<String>,
    /// Wait so long at most [default: until every host has ended]
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub wait: Option<Duration>,
    /// Print each line of output behind the name of its host
    #[arg(short = 'L', conflicts_with = "json")]
    pub lines: bool,
    /// Print the task as it ended as JSON, as the server gives it
    #[arg(long)]
    pub json: bool,
    /// Send it also to hosts that the server has never seen
    #[arg(long)]
    pub allow_unknown: bool,
    /// Ask for no confirmation, however many hosts there are
    #[arg(long)]
    pub yes: bool,
    #[command(flatten)]
    pub api: ApiArgs,
}

/// Options of `console`.
#[derive(Args)]
pub struct ConsoleArgs {
    /// Wait so long for answers to a command
    #[arg(long, value_name = "SECONDS", default_value = "5", value_parser = seconds)]
    pub wait: Duration,
    /// Ask for no confirmation, however many hosts there are
    #[arg(long)]
    pub yes: bool,
    #[command(flatten)]
    pub api: ApiArgs,
}

/// Options of `events`.
#[derive(Args)]
pub struct EventsArgs {
    /// Show the events from now on, until interrupted
    #[arg(long)]
    pub follow: bool,
    /// Only events of this name, such as offline; several times if need be
    #[arg(long, value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
    pub event: Vec<String>,
    /// Print JSON, as the server gives it; with --follow one line an event
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub api: ApiArgs,
}

/// Options of `output`.
#[derive(Args)]
pub struct OutputArgs {
    /// The task's key
    #[arg(value_name = "KEY", value_parser = NonEmptyStringValueParser::new())]
    pub key: String,
    /// The host
    #[arg(value_name = "HOST", value_parser = NonEmptyStringValueParser::new())]
    pub host: String,
    /// The command [default: all of the task, in order]
    #[arg(value_name = "COMMAND", value_parser = NonEmptyStringValueParser::new())]
    pub command: Option<String>,
    #[command(flatten)]
    pub api: ApiArgs,
}

/// Options of `hosts`.
#[derive(Args)]
pub struct HostsArgs {
    /// Hosts: names, globs (* ?) and ranges (web-[1-9]), ! takes away [default: all]
    #[arg(value_name = "TARGET")]
    pub targets: Vec<String>,
    /// Only those online
    #[arg(long, action = ArgAction::SetTrue, conflicts_with = "offline")]
    pub online: bool,
    /// Only those offline
    #[arg(long, action = ArgAction::SetTrue)]
    pub offline: bool,
    /// Print all there is as JSON, as the server gives it; with --watch one line a change
    #[arg(long)]
    pub json: bool,
    /// Look again every second, until interrupted
    #[arg(long)]
    pub watch: bool,
    #[command(flatten)]
    pub api: ApiArgs,
}

/// Options of `dispatch`.
#[derive(Args)]
#[command(group(ArgGroup::new("book").required(true).args(["task", "tasks"])))]
pub struct DispatchArgs {
    /// The task's key, such as AC131; each may be used once [default: a new one]
    #[arg(value_name = "KEY", value_parser = NonEmptyStringValueParser::new())]
    pub key: Option<String>,
    /// A command, several times if need be, split at the last '=' if a number follows. The highest
    /// priority runs first; commands without one run in the order given, before those that have one
    #[arg(long, value_name = "COMMAND[=PRIORITY]")]
    pub task: Vec<String>,
    /// File with the commands: a JSON object COMMAND -> PRIORITY, a JSON list, or one command a line
    #[arg(long, value_name = "FILE")]
    pub tasks: Option<PathBuf>,
    /// A host to send it to, several times if need be [default: all that are online]
    #[arg(long, value_name = "HOST", value_parser = NonEmptyStringValueParser::new())]
    pub host: Vec<String>,
    /// Hosts: names, globs (* ?) and ranges (web-[1-9]), ! takes away, all
    #[arg(long, value_name = "TARGET", conflicts_with = "host")]
    pub target: Option<String>,
    /// Send it to hosts that are offline when they come
    #[arg(long)]
    pub queue: bool,
    /// Send it also to hosts that the server has never seen
    #[arg(long)]
    pub allow_unknown: bool,
    /// With --target: ask for no confirmation, however many hosts there are
    #[arg(long)]
    pub yes: bool,
    /// Wait until every host has ended, or for so long; 0 only if every host ended 'done'
    #[arg(long, value_name = "SECONDS", require_equals = true, num_args = 0..=1, value_parser = seconds)]
    pub wait: Option<Option<Duration>>,
    /// Print the answer as JSON, as the server gives it; with --wait the task as it ended
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub api: ApiArgs,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let wrong = || "it may be a number of seconds, 0 or more".to_owned();
    let seconds: f64 = text.parse().map_err(|_| wrong())?;
    Duration::try_from_secs_f64(seconds).map_err(|_| wrong())
}

/// Options of `tasks`.
#[derive(Args)]
pub struct TasksArgs {
    /// Print all there is as JSON, as the server gives it
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub api: ApiArgs,
}

/// Options of `task`.
#[derive(Args)]
pub struct TaskArgs {
    /// The task's key
    #[arg(value_name = "KEY", value_parser = NonEmptyStringValueParser::new())]
    pub key: String,
    /// Only the hosts that failed
    #[arg(long)]
    pub failed: bool,
    /// Only this host, several times if need be
    #[arg(long, value_name = "HOST", value_parser = NonEmptyStringValueParser::new())]
    pub host: Vec<String>,
    /// Print all there is as JSON, as the server gives it
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub api: ApiArgs,
}

/// The loads of `bench`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum BenchMode {
    /// Heartbeats evenly spread over time
    Steady,
    /// Heartbeats as fast as they are answered, or taken
    Flood,
    /// Connections that come and go, at --connect-rate
    Churn,
    /// All hosts connect and send a heartbeat at once, again and again
    Storm,
    /// A task for all hosts, answered and worked through
    Dispatch,
}

/// Options of `bench`.
#[derive(Args)]
pub struct BenchArgs {
    /// The load
    #[arg(value_name = "LOAD", default_value = "steady")]
    pub mode: BenchMode,
    /// The server: HOST:PORT, or HOST for port 11451
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:11451")]
    pub server: String,
    /// Hosts, each with a connection of its own
    #[arg(long, value_name = "N", default_value = "1000", value_parser = whole::<u32>(1..=1_000_000))]
    pub hosts: u32,
    /// Heartbeats a second, of all hosts together; 0: they only stay connected [default: one for each host]
    #[arg(long, value_name = "R", value_parser = rate, allow_negative_numbers = true)]
    pub rate: Option<f64>,
    /// All hosts beat at the same moment, instead of spread over time: the fullest batches there can be
    #[arg(long)]
    pub together: bool,
    /// With --together: the server, on this machine, is stopped while they do, and finds them all at once
    #[arg(long)]
    pub hold: bool,
    /// For how long they say nothing before the load and after it, in seconds: memory is looked at then
    #[arg(long, value_name = "S", default_value = "0", value_parser = bench_seconds, allow_negative_numbers = true)]
    pub idle: f64,
    /// For how long, in seconds, once all are connected
    #[arg(long, value_name = "S", default_value = "10", value_parser = bench_seconds, allow_negative_numbers = true)]
    pub seconds: f64,
    /// Connections begun a second [default: 5000; churn: 500]
    #[arg(long, value_name = "R", value_parser = connect_rate, allow_negative_numbers = true)]
    pub connect_rate: Option<f64>,
    /// Commands in the task of a dispatch
    #[arg(long, value_name = "N", default_value = "2", value_parser = whole::<u32>(1..=1_000))]
    pub commands: u32,
    /// The key of that task [default: one of its own for each run]
    #[arg(long, value_name = "KEY")]
    pub key: Option<String>,
    /// Connections under way at once, at most
    #[arg(long, value_name = "N", default_value = "256", value_parser = whole::<u32>(1..=65_536))]
    pub connecting: u32,
    /// Ask for no replies, as hosts of the old fleet do: there is then no latency to tell
    #[arg(long)]
    pub no_replies: bool,
    /// Heartbeats on their way at once on each connection of a flood with replies
    #[arg(long, value_name = "N", default_value = "16", value_parser = whole::<u32>(1..=256))]
    pub pipeline: u32,
    /// Hosts give no id and are known by their addresses, like those of the old fleet
    #[arg(long)]
    pub plain: bool,
    /// The task of a dispatch goes out by datagram, to an address for each host
    #[arg(long)]
    pub datagrams: bool,
    /// The port where hosts of --plain take them (dispatch.agent_port)
    #[arg(long, value_name = "PORT", default_value = "6655", value_parser = whole::<u16>(1..=65_535))]
    pub agent_port: u16,
    /// Number of hosts that the task of a dispatch does not name: they only send heartbeats
    #[arg(long, value_name = "N", default_value = "0", value_parser = whole::<u32>(0..=1_000_000))]
    pub apart: u32,
    /// Number of hosts that disconnect at once, in the middle of a steady load
    #[arg(long, value_name = "N", default_value = "0", value_parser = whole::<u32>(0..=1_000_000))]
    pub leave: u32,
    /// IPv4 addresses of this machine to connect from, such as 127.0.0.0/8
    #[arg(long, value_name = "NETWORK")]
    pub source: Option<String>,
    /// Seed of the random generator: the same seed gives the same order and moments
    #[arg(long, value_name = "N", default_value = "1", value_parser = whole::<u64>(0..=u64::MAX))]
    pub seed: u64,
    /// The CPU this program is to stay on, by its number
    #[arg(long, value_name = "N", value_parser = whole::<usize>(0..=u64::from(u32::MAX)))]
    pub cpu: Option<usize>,
    #[command(flatten)]
    pub api: ApiArgs,
    /// Run the same load against a bare epoll drain too, turn about, and show the ratios of the two
    #[arg(long)]
    pub floor: bool,
    /// Number of pairs with --floor
    #[arg(long, value_name = "N", default_value = "3", value_parser = whole::<u32>(1..=100))]
    pub pairs: u32,
    /// Print all there is as JSON
    #[arg(long)]
    pub json: bool,
    /// The options that stand on the command line.
    #[arg(skip)]
    pub given: Vec<String>,
}

/// Options of `bench-floor`, which `bench --floor` starts.
#[derive(Args)]
pub struct FloorArgs {
    /// Send back what was read
    #[arg(long)]
    pub replies: bool,
    /// Send datagrams instead, to this address and the ones behind it
    #[arg(long, value_name = "ADDR", requires_all = ["count", "bytes"], value_parser = ip_and_port)]
    pub sendto: Option<SocketAddr>,
    /// Number of datagrams
    #[arg(long, value_name = "N", value_parser = whole::<u32>(0..=u64::from(u32::MAX)))]
    pub count: Option<u32>,
    /// Each so long
    #[arg(long, value_name = "N", value_parser = whole::<usize>(0..=u64::from(u32::MAX)))]
    pub bytes: Option<usize>,
}

fn ip(text: &str) -> Result<IpAddr, String> {
    let wrong = || "it may be an IP address such as 10.0.0.7 or 2001:db8::7".to_owned();
    text.parse().map_err(|_| wrong())
}

fn ip_and_port(text: &str) -> Result<SocketAddr, String> {
    let wrong = || "it may be an IP address and a port, such as 127.0.0.1:9883 or [::1]:9883";
    text.parse().map_err(|_| wrong().to_owned())
}

fn port(text: &str) -> Result<u16, String> {
    text.parse()
        .map_err(|_| "it may be a port, 0 to 65535".to_owned())
}

/// A whole number within `range`, which `T` holds.
fn whole<T: TryFrom<u64>>(
    range: RangeInclusive<u64>,
) -> impl Fn(&str) -> Result<T, String> + Clone {
    move |text| {
        let number = text.parse().ok().filter(|number| range.contains(number));
        let number = number.and_then(|number| T::try_from(number).ok());
        number.ok_or_else(|| {
            let (least, most) = (range.start(), range.end());
            format!("it may be a whole number from {least} to {most}")
        })
    }
}

fn beat_seconds(text: &str) -> Result<f64, String> {
    number_within(text, 0.05, 3_600.0, "seconds")
}

fn number_within(text: &str, least: f64, most: f64, what: &str) -> Result<f64, String> {
    let number = text
        .parse()
        .ok()
        .filter(|number| (least..=most).contains(number));
    number.ok_or_else(|| format!("it may be a number of {what} from {least} to {most}"))
}

fn rate(text: &str) -> Result<f64, String> {
    number_within(text, 0.0, 1e8, "heartbeats a second")
}

fn connect_rate(text: &str) -> Result<f64, String> {
    number_within(text, 0.1, 1e7, "connections a second")
}

fn bench_seconds(text: &str) -> Result<f64, String> {
    number_within(text, 0.0, 86_400.0, "seconds")
}

/// Options of `ak`.
#[derive(Args)]
pub struct AkArgs {
    /// A device's name [default: all devices, without their values]
    #[arg(value_name = "DEVICE", value_parser = NonEmptyStringValueParser::new())]
    pub device: Option<String>,
    /// Print all there is as JSON, as the server gives it
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub api: ApiArgs,
}

/// Options of `ak-sim`.
#[derive(Args)]
pub struct AkSimArgs {
    /// Address to listen on; port 0 is any free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:9883", value_parser = ip_and_port)]
    pub listen: SocketAddr,
    /// Answer badly every other time, in a dozen ways one after the other
    #[arg(long)]
    pub bad_habits: bool,
}

/// Options of `reach`.
#[derive(Args)]
pub struct ReachArgs {
    /// Print all there is as JSON, as the server gives it
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub api: ApiArgs,
}

/// Options of `completions`.
#[derive(Args)]
pub struct CompletionsArgs {
    /// The shell
    #[arg(value_name = "SHELL")]
    pub shell: clap_complete::Shell,
}

/// Result of parsing the arguments.
pub enum Asked {
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
pub fn parse(args: &[OsString]) -> Result<Asked, Failure> {
    let line = command().try_get_matches_from(args).and_then(|matches| {
        let mut line = Line::from_arg_matches(&matches)?;
        if let Some(Command::Bench(bench)) = &mut line.command {
            bench.given = given(&matches);
        }
        Ok(line)
    });
    match line {
        Ok(line) => Ok(Asked::Run(
            line.command.unwrap_or(Command::Serve(line.serve)),
        )),
        Err(error) => match error.kind() {
            ErrorKind::DisplayVersion => Ok(Asked::Show(format!(
                "anthill {}\n",
                env!("CARGO_PKG_VERSION")
            ))),
            ErrorKind::DisplayHelp => Ok(Asked::Show(error.render().to_string())),
            _ => Err(Failure::usage(usage::one_line(&error, args))),
        },
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
