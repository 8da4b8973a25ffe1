//! Arguments of the agent. The doc comments are the texts of `--help`.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::Args;

use super::parse::{beat_seconds, ip, port};

/// Options of `agent`.
#[derive(Args, Clone)]
pub struct AgentArgs {
    /// Server: HOST:PORT, or HOST for port 11451
    #[arg(long, value_name = "ADDR")]
    pub server: String,
    /// Id of this host at the server [default: the address that it connects from]
    #[arg(long, value_name = "ID")]
    pub id: Option<String>,
    /// Local address for the connection and for datagrams
    #[arg(long, value_name = "IP", value_parser = ip)]
    pub source: Option<IpAddr>,
    /// Port for datagrams [default: 6655; with --push none]
    #[arg(long, value_name = "PORT", value_parser = port)]
    pub udp: Option<u16>,
    /// Receive tasks over the connection to the server, as a host behind NAT needs
    #[arg(long)]
    pub push: bool,
    /// Seconds between two heartbeats [default: the server's interval]
    #[arg(long, value_name = "SECONDS", value_parser = beat_seconds, allow_negative_numbers = true)]
    pub interval: Option<f64>,
    /// Label that this host claims, such as dc=fra; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    pub label: Vec<String>,
    /// File that names the permitted commands; SIGHUP reloads it [default: no command is permitted]
    #[arg(long, value_name = "FILE")]
    pub allow: Option<PathBuf>,
    /// File with the key of this host, KEY_ID HEX; others must not be able to read it
    #[arg(long, value_name = "FILE")]
    pub key_file: Option<PathBuf>,
    /// Directory of the journal
    #[arg(long, value_name = "DIR", default_value = "./anthill-agent")]
    pub state: PathBuf,
    /// Use TLS; SIGHUP reloads the files
    #[arg(long)]
    pub tls: bool,
    /// PEM file with the authorities that may sign the server's certificate [default: those of the system]
    #[arg(long, value_name = "FILE", requires = "tls")]
    pub ca: Option<PathBuf>,
    /// PEM file with the certificate of this host: its name is the host's id; implies --push
    #[arg(long, value_name = "FILE", requires = "tls", requires = "key")]
    pub cert: Option<PathBuf>,
    /// PEM file with the private key of --cert; others must not be able to read it
    #[arg(long, value_name = "FILE", requires = "cert")]
    pub key: Option<PathBuf>,
}
