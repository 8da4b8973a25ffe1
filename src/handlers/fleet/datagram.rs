//! Datagrams from hosts: a heartbeat or an answer, accepted only from the address of a host that is
//! online already. They bring no host online and are never answered.

use crate::handlers::context::Ctx;
use crate::handlers::fleet::Fleet;
use std::net::{IpAddr, SocketAddr};

use crate::codec::message::{Incoming, Message, Signature};
use crate::ids::{ConnId, HostId};

use crate::handlers::Flow;
use crate::handlers::fleet::host::Host;
use crate::handlers::step::Step;

/// The connection of what came by none.
pub(crate) const NO_CONNECTION: ConnId = ConnId {
    slot: u32::MAX,
    generation: u32::MAX,
};

impl Fleet {
    /// The host at this address: the only one there, or the only one there with that port.
    pub(crate) fn only_one_at(&self, cx: &Ctx<'_>, from: SocketAddr) -> Option<u32> {
        let ip = from.ip().to_canonical();
        let plain = self.plain_at(ip);
        let mut all = plain.into_iter().chain(self.addresses.behind(ip));
        if self.addresses.behind(ip).len() + plain.iter().len() == 1 {
            return all.next();
        }
        let mut same = self.reached_at(cx, ip, from.port());
        let first = same.next()?;
        same.next().is_none().then_some(first)
    }

    /// The host online that has this address for its name.
    pub(crate) fn plain_at(&self, ip: IpAddr) -> Option<u32> {
        let slot = self.hosts.find(&HostId::of_address(ip))?;
        let host = self.hosts.get(slot)?;
        host.presence.is_online().then_some(slot)
    }

    /// The hosts online that are reached by datagram at this address and port, or would be if they did not want
    /// pushes.
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
}

impl Step<'_> {
    /// A datagram has come.
    pub(crate) fn datagram(&mut self, from: SocketAddr, incoming: &Incoming<'_>) {
        if self.cx.stopping {
            return;
        }
        match self.sender(from) {
            Some(slot) => self.take_datagram(slot, incoming),
            None => self.cx.stats.datagrams_refused += 1,
        }
    }

    /// A datagram has come that says whose it is.
    pub(crate) fn signed_datagram(
        &mut self,
        from: SocketAddr,
        incoming: &Incoming<'_>,
        signature: &Signature<'_>,
    ) {
        if self.cx.stopping {
            return;
        }
        let Some(slot) = self.signer(from.ip(), signature) else {
            return;
        };
        match self.names(slot, &incoming.message) {
            Some(false) => self.cx.stats.datagrams_refused += 1,
            Some(true) | None => self.take_datagram(slot, incoming),
        }
    }

    fn take_datagram(&mut self, slot: u32, incoming: &Incoming<'_>) {
        let flag = incoming.message.flag();
        let nothing_back = crate::codec::message::Ask::default();
        let flow = match &incoming.message {
            Message::Heartbeat => Flow::Taken,
            Message::Answer(answer) => self.answer(NO_CONNECTION, slot, answer, nothing_back),
            // Without room for its report an answer is lost, as datagrams are: it comes again.
            _ => Flow::Wait,
        };
        if flow != Flow::Taken {
            self.cx.stats.datagrams_refused += 1;
            return;
        }
        if let Some(host) = self.fleet.host_mut(slot) {
            host.set_datagram(self.cx.at.now);
            host.seen = host.seen.max(self.cx.at.wall);
        }
        self.cx.count(flag);
    }

    /// The host that sends from this address without a signature: one that may.
    fn sender(&self, from: SocketAddr) -> Option<u32> {
        let slot = self.fleet.only_one_at(&self.cx, from)?;
        self.is_plain(self.fleet.host(slot)?).then_some(slot)
    }
}
