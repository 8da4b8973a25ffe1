//! `anthill health`: one line on a running server's health, for health checks of containers and
//! supervisors.

use serde::Deserialize;

use super::api::Api;
use super::args::HealthArgs;
use super::groups::counted;
use super::{Failure, print};

/// The used parts of `/healthz`.
#[derive(Deserialize)]
struct Health {
    status: String,
    store: String,
    hosts_online: u64,
}

/// Asks for the health. A server whose store is unavailable is `degraded`, and counts as healthy:
/// a restart would not help.
///
/// # Errors
/// Wrong usage, or no good answer from a server.
pub fn run(args: &HealthArgs) -> Result<(), Failure> {
    let api = Api::new(&args.api)?;
    let health: Health = api.get("/healthz")?;
    let Health {
        status,
        store,
        hosts_online,
    } = health;
    let hosts = counted(hosts_online);
    let line = format!("{status}: store {store}, {hosts} online");
    print(&format!("{}\n", crate::escape::escape(&line)))
}
