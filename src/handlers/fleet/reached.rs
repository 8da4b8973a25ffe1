//! Hosts by the address and port at which datagrams reach them.

use std::net::{IpAddr, SocketAddr};

use crate::handlers::context::Ctx;
use crate::handlers::fleet::Fleet;
use crate::handlers::fleet::host::Host;
use crate::ids::HostId;

impl Fleet {
    /// The only host at this address, or the only one there with this port.
    pub(crate) fn only_one_at(&self, cx: &Ctx<'_>, from: SocketAddr) -> Option<u32> {
        let ip = from.ip().to_canonical();
        let plain = self.plain_at(ip);
        let mut all = plain.into_iter().chain(self.addresses.behind(ip));
        if self.addresses.count(ip) + plain.iter().len() == 1 {
            return all.next();
        }
        let mut same = self.reached_at(cx, ip, from.port());
        let first = same.next()?;
        same.next().is_none().then_some(first)
    }

    /// The online host whose id is this address.
    fn plain_at(&self, ip: IpAddr) -> Option<u32> {
        let slot = self.hosts.find(&HostId::of_address(ip))?;
        let host = self.hosts.get(slot)?;
        host.presence.is_online().then_some(slot)
    }

    /// Online hosts that datagrams reach at this address and port, including hosts that take pushes
    /// instead.
    pub(crate) fn reached_at(
        &self,
        cx: &Ctx<'_>,
        ip: IpAddr,
        port: u16,
    ) -> impl Iterator<Item = u32> {
        let port_of = |host: &Host| match host.udp() {
            0 => cx.rules.agent_port,
            port => port,
        };
        let plain = self.plain_at(ip);
        let plain = plain.filter(|slot| self.hosts.get(*slot).map(port_of) == Some(port));
        let silent = (port == cx.rules.agent_port).then(|| self.addresses.at(ip, 0));
        let named = self.addresses.at(ip, port);
        plain
            .into_iter()
            .chain(silent.into_iter().flatten())
            .chain(named)
    }

    /// Returns whether a host with an id is behind this address.
    pub(crate) fn has_named_at(&self, ip: IpAddr) -> bool {
        self.addresses.has(ip)
    }
}
