//! Arguments of `bench` and `bench-floor`.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::ApiArgs;
use crate::program::parse::{bench_seconds, connect_rate, ip_and_port, rate, whole};

/// The loads of `bench`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum BenchMode {
    /// Heartbeats evenly spread over time
    Steady,
    /// Heartbeats as fast as the server answers or accepts them
    Flood,
    /// Connections opened and closed at --connect-rate
    Churn,
    /// All hosts connect and send a heartbeat at once, repeatedly
    Storm,
    /// A task for all hosts, answered and completed
    Dispatch,
}

/// Options of `bench`.
#[derive(Args)]
pub struct BenchArgs {
    /// Kind of load
    #[arg(value_name = "LOAD", default_value = "steady")]
    pub mode: BenchMode,
    /// Server: HOST:PORT, or HOST for port 11451
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:11451")]
    pub server: String,
    /// Number of hosts, each with its own connection
    #[arg(long, value_name = "N", default_value = "1000", value_parser = whole::<u32>(1..=1_000_000))]
    pub hosts: u32,
    /// Heartbeats per second of all hosts together; 0: hosts only stay connected [default: one for each host]
    #[arg(long, value_name = "R", value_parser = rate, allow_negative_numbers = true)]
    pub rate: Option<f64>,
    /// All hosts send their heartbeats at the same moment, which makes the fullest batches
    #[arg(long)]
    pub together: bool,
    /// With --together: stop the server's process on this machine meanwhile, so that it reads them all at once
    #[arg(long)]
    pub hold: bool,
    /// Silence before and after the load, in seconds; memory is measured at its end
    #[arg(long, value_name = "S", default_value = "0", value_parser = bench_seconds, allow_negative_numbers = true)]
    pub idle: f64,
    /// Duration of the load in seconds, once all hosts are connected
    #[arg(long, value_name = "S", default_value = "10", value_parser = bench_seconds, allow_negative_numbers = true)]
    pub seconds: f64,
    /// Connections begun per second [default: 5000; churn: 500]
    #[arg(long, value_name = "R", value_parser = connect_rate, allow_negative_numbers = true)]
    pub connect_rate: Option<f64>,
    /// With dispatch: number of commands in the task
    #[arg(long, value_name = "N", default_value = "2", value_parser = whole::<u32>(1..=1_000))]
    pub commands: u32,
    /// With dispatch: key of the task [default: a new key for each run]
    #[arg(long, value_name = "KEY")]
    pub key: Option<String>,
    /// Limit of connection attempts in progress
    #[arg(long, value_name = "N", default_value = "256", value_parser = whole::<u32>(1..=65_536))]
    pub connecting: u32,
    /// Do not request replies, like hosts of the old fleet; then no latency is measured
    #[arg(long)]
    pub no_replies: bool,
    /// With flood: unanswered heartbeats on each connection
    #[arg(long, value_name = "N", default_value = "16", value_parser = whole::<u32>(1..=256))]
    pub pipeline: u32,
    /// Hosts send no id and are identified by their addresses, like those of the old fleet
    #[arg(long)]
    pub plain: bool,
    /// With dispatch: receive the task by datagram, at one address per host
    #[arg(long)]
    pub datagrams: bool,
    /// With --plain: port for the datagrams (dispatch.agent_port)
    #[arg(long, value_name = "PORT", default_value = "6655", value_parser = whole::<u16>(1..=65_535))]
    pub agent_port: u16,
    /// With dispatch: number of hosts without the task, which only send heartbeats
    #[arg(long, value_name = "N", default_value = "0", value_parser = whole::<u32>(0..=1_000_000))]
    pub apart: u32,
    /// With steady: number of hosts that disconnect at once in the middle of the load
    #[arg(long, value_name = "N", default_value = "0", value_parser = whole::<u32>(0..=1_000_000))]
    pub leave: u32,
    /// IPv4 addresses of this machine to connect from, such as 127.0.0.0/8
    #[arg(long, value_name = "NETWORK")]
    pub source: Option<String>,
    /// Seed of the random generator: the same seed repeats order and times
    #[arg(long, value_name = "N", default_value = "1", value_parser = whole::<u64>(0..=u64::MAX))]
    pub seed: u64,
    /// Number of the CPU on which this program runs
    #[arg(long, value_name = "N", value_parser = whole::<usize>(0..=u64::from(u32::MAX)))]
    pub cpu: Option<usize>,
    #[command(flatten)]
    pub api: ApiArgs,
    /// Connect by TLS; --ca names the authorities of the server's certificate [default: those of the
    /// system]
    #[arg(long, conflicts_with = "datagrams")]
    pub tls: bool,
    /// File with a key that the server derives the hosts' keys from, KEY_ID HEX: each host proves its own
    #[arg(long, value_name = "FILE", conflicts_with_all = ["plain", "datagrams"])]
    pub key_file: Option<PathBuf>,
    /// Run the same load in turn against a bare epoll loop, and report the ratios
    #[arg(long)]
    pub floor: bool,
    /// Number of pairs with --floor
    #[arg(long, value_name = "N", default_value = "3", value_parser = whole::<u32>(1..=100))]
    pub pairs: u32,
    /// Print the report as JSON
    #[arg(long)]
    pub json: bool,
    /// Options given on the command line.
    #[arg(skip)]
    pub given: Vec<String>,
}

/// Options of `bench-floor`, which `bench --floor` starts.
#[derive(Args)]
pub struct FloorArgs {
    /// Echo the input
    #[arg(long)]
    pub replies: bool,
    /// Send datagrams instead, to this address and the following ones
    #[arg(long, value_name = "ADDR", requires_all = ["count", "bytes"], value_parser = ip_and_port)]
    pub sendto: Option<SocketAddr>,
    /// Number of datagrams
    #[arg(long, value_name = "N", value_parser = whole::<u32>(0..=u64::from(u32::MAX)))]
    pub count: Option<u32>,
    /// Size of a datagram in bytes
    #[arg(long, value_name = "N", value_parser = whole::<usize>(0..=u64::from(u32::MAX)))]
    pub bytes: Option<usize>,
}
