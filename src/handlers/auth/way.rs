//! The way to a host: its connection, a datagram, or a signed datagram.

use std::net::{IpAddr, SocketAddr};

use crate::handlers::auth::Auth;
use crate::handlers::core::Rules;
use crate::handlers::fleet::host::{Host, Marks, Peer};
use crate::ids::ConnId;

/// Way to reach a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// Over its connection.
    Push(ConnId),
    /// By datagram.
    Datagram(SocketAddr),
    /// By a datagram signed in the session of this connection.
    Signed(SocketAddr, ConnId),
}

impl Auth {
    /// Way to reach a host now; `None` if it is offline.
    pub(crate) fn way_to(&self, rules: &Rules, host: &Host) -> Option<Way> {
        if !host.presence.is_online() {
            return None;
        }
        let keyed = self.keyed_conn(host);
        let by_connection = host.has(Marks::PUSH) || (rules.certificates && keyed.is_none());
        if let Some(conn) = host.identified().filter(|_| by_connection) {
            return Some(Way::Push(conn));
        }
        if keyed.is_none() && !self.is_plain(rules, host) {
            return None;
        }
        let ip: IpAddr = if host.peer() == Peer::UNKNOWN {
            // Left behind by an older server, which knew hosts by their addresses only.
            host.id().as_str().parse().ok()?
        } else {
            host.peer().ip()
        };
        let port = match host.udp() {
            0 => rules.agent_port,
            port => port,
        };
        let to = SocketAddr::new(ip, port);
        Some(match keyed {
            Some(conn) => Way::Signed(to, conn),
            None => Way::Datagram(to),
        })
    }
}
