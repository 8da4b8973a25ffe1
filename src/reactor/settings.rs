//! Settings of the reactor, those of a reload, and the sockets of the hosts.

use std::net::SocketAddr;

use super::descriptors;
use super::error::BindError;
use super::inherited::Inherited;
use super::listener::Listener;
use super::outbound::OutboundRules;
use super::proxy::ProxyRules;
use super::tls::TlsSettings;
use super::udp::Udp;
use crate::codec::Framing;
use crate::control::HttpRules;
use crate::handlers::{LabelRules, Rules};
use crate::keys::Access;
use crate::time::Span;

/// Settings that hold for the life of the reactor, and the first values of others.
#[derive(Clone, Debug)]
pub struct Settings {
    /// TCP address for hosts.
    pub tcp: SocketAddr,
    /// UDP address for hosts.
    pub udp: SocketAddr,
    /// Idle time after which a connection is probed.
    pub keepalive: Span,
    /// Bound of all connections; `None`: as many as descriptors allow.
    pub connections: Option<usize>,
    /// Bound of the connections of one address.
    pub connections_per_ip: Option<usize>,
    /// TLS on the TCP address.
    pub tls: Option<TlsSettings>,
    pub outside: OutboundRules,
    pub proxy: ProxyRules,
    /// Settings that a reload changes.
    pub tuning: Tuning,
}

/// Settings of the reactor itself that a reload changes.
#[derive(Clone, Copy, Debug)]
pub struct Tuning {
    pub framing: Framing,
    /// Longest nap under dense traffic.
    pub coalesce: Span,
    /// Longest time of a turn, its wait excluded.
    pub turn_budget: Option<Span>,
    /// All hosts go offline at a planned stop.
    pub offline_on_shutdown: bool,
}

/// Settings that need no restart.
#[derive(Clone, Debug)]
pub struct Reload {
    /// Rules of the core.
    pub rules: Rules,
    pub access: Access,
    /// Labels and groups.
    pub labels: LabelRules,
    /// Rules of the HTTP API.
    pub http: HttpRules,
    pub outside: OutboundRules,
    pub proxy: ProxyRules,
    /// Settings of the reactor itself.
    pub tuning: Tuning,
    /// TLS for later connections, where TLS is spoken.
    pub tls: Option<TlsSettings>,
    /// TLS of the HTTP API.
    pub http_tls: Option<TlsSettings>,
}

/// Addresses and capacity of a bound reactor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bound {
    /// TCP address for hosts.
    pub tcp: SocketAddr,
    /// UDP address for hosts.
    pub udp: SocketAddr,
    /// Bound of all connections.
    pub connections: usize,
}

/// Bound sockets of the hosts.
#[derive(Debug)]
pub struct Sockets {
    pub(super) connections: usize,
    pub(super) listener: Listener,
    pub(super) udp: Udp,
}

impl Sockets {
    /// Binds the sockets that are not inherited, and raises the limit of descriptors.
    ///
    /// # Errors
    /// When a socket cannot be bound, or the system allows too few descriptors.
    pub fn bind(settings: &Settings, inherited: &mut Inherited) -> Result<Self, BindError> {
        let connections = descriptors::raise(settings.connections, settings.outside.descriptors())?;
        let (key, addr) = ("server.tcp", settings.tcp);
        let listener = Listener::bind(addr, settings.keepalive, inherited.tcp.take())
            .map_err(|source| BindError::Socket { key, addr, source })?;
        let (key, addr) = ("server.udp", settings.udp);
        let udp = Udp::bind(addr, inherited.udp.take()).map_err(|source| BindError::Socket {
            key,
            addr,
            source,
        })?;
        Ok(Self {
            connections,
            listener,
            udp,
        })
    }
}
