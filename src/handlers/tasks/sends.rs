//! Sending to hosts: pulled by the reactor, with a budget per turn, so that ten thousand hosts do not stop the loop.
//!
//! ```text
//!   queue ─▶ host online? ─▶ wants pushes, and is connected ─▶ Effect::Push
//!                  │ no              └─▶ Datagram to (address, its port)
//!                  └─▶ the try is counted all the same
//! ```

use std::borrow::Cow;
use std::net::SocketAddr;

use crate::codec::message::Push;
use crate::ids::HostId;
use crate::store::op::TaskState;

use crate::handlers::ask::Datagram;
use crate::handlers::auth::Way;
use crate::handlers::effect::Effect;
use crate::handlers::fleet::host::{Host, Marks, Presence};
use crate::handlers::step::Step;

/// Something to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outgoing {
    /// A task to a host.
    Delivery(u32),
    /// A console command to a host of it.
    Command {
        /// The number of the command.
        number: u64,
        /// Index of the recipient.
        index: usize,
    },
}

impl Step<'_> {
    /// Takes what is to be sent to hosts: pushes go into `self.cx.fx`, datagrams into `datagrams`; at most `max` in
    /// all. Whether there is more.
    pub(crate) fn take_sends(&mut self, max: usize, datagrams: &mut Vec<Datagram>) {
        if self.cx.stopping {
            self.tasks.sends.clear();
        }
        for _ in 0..max {
            match self.tasks.sends.pop_front() {
                None => break,
                Some(Outgoing::Delivery(slot)) => self.send_delivery(slot, datagrams),
                Some(Outgoing::Command { number, index }) => {
                    self.send_command(number, index, datagrams);
                }
            }
        }
    }

    /// One try of a delivery. It counts whether or not the host can be reached now.
    fn send_delivery(&mut self, slot: u32, datagrams: &mut Vec<Datagram>) {
        let Some(delivery) = self.tasks.table.delivery_mut(slot) else {
            return;
        };
        if !std::mem::take(&mut delivery.to_send) || delivery.state != TaskState::Sent {
            return;
        }
        let (before, recipient) = (delivery.tries, delivery.recipient);
        let at_once = std::mem::take(&mut delivery.at_once);
        if before > 0 && !at_once && self.tasks.waits_for_host(&self.cx, slot, recipient) {
            return;
        }
        let tries = before + 1;
        let due = self.cx.at.now + self.tasks.interval(&self.cx, tries);
        self.tasks.arm_delivery(slot, due);
        // A name is looked up once: of ten thousand hosts every look is somewhere else in memory.
        let place = self.tasks.table.names_of(slot);
        let place = place.and_then(|(host, _)| self.fleet.find(host));
        if place.is_some_and(|place| self.waits_for_its_session(place)) {
            return;
        }
        if let Some(delivery) = self.tasks.table.delivery_mut(slot) {
            delivery.tries = tries;
        }
        let Some((place, way)) =
            place.and_then(|place| Some((place, self.way_of(self.fleet.host(place)?)?)))
        else {
            return;
        };
        if let Some(host) = self.fleet.host_mut(place) {
            host.set(Marks::ASKED, true);
        }
        self.cx.stats.sends += 1;
        self.cx.stats.resends += u64::from(tries > 1);
        let Some(text) = self
            .tasks
            .table
            .names_of(slot)
            .map(|(_, key)| key.to_text())
        else {
            return;
        };
        match way {
            Way::Push(conn) => {
                let push = Push::Task(Cow::Owned(text.into()));
                self.cx.fx.push(Effect::Push { conn, push });
            }
            Way::Datagram(to) => {
                self.share_try((slot, place), to, tries, due);
                datagrams.push(Datagram { to, text });
            }
            Way::Signed(to, conn) => {
                let text = self.auth.sign(conn, &Push::Task(Cow::Owned(text.into())));
                datagrams.extend(text.map(|text| Datagram {
                    to,
                    text: text.into(),
                }));
            }
        }
    }

    /// Returns whether the host is held over a restart and can be sent to only in its session; its
    /// tries then wait.
    fn waits_for_its_session(&self, place: u32) -> bool {
        let host = self.fleet.host(place);
        host.is_some_and(|host| {
            host.presence == Presence::Inherited && !self.auth.is_plain(self.cx.rules, host)
        })
    }

    /// The same task is on its way to this address: its other hosts there have had this try too.
    fn share_try(
        &mut self,
        sent: (u32, u32),
        to: SocketAddr,
        tries: u32,
        due: crate::time::Instant,
    ) {
        let mates = self.mates(sent, to);
        for mate in mates {
            let Some(delivery) = self.tasks.table.delivery_mut(mate) else {
                continue;
            };
            if delivery.state == TaskState::Sent && delivery.tries < tries {
                delivery.tries = tries;
                delivery.to_send = false;
                self.tasks.arm_delivery(mate, due);
            }
        }
    }

    /// Other deliveries of the same task than this one to the host in this place, whose hosts are reached by datagram
    /// at the same address.
    fn mates(&self, (slot, place): (u32, u32), to: SocketAddr) -> Vec<u32> {
        let Some((_, key)) = self.tasks.table.names_of(slot) else {
            return Vec::new();
        };
        let own = self.fleet.host(place);
        if own.is_some_and(|host| host.is_named_by(to.ip())) && !self.fleet.has_named_at(to.ip()) {
            // The plain host with that address is the only one there.
            return Vec::new();
        }
        let there = self.fleet.reached_at(&self.cx, to.ip(), to.port());
        let there = there.filter(|host| *host != place).filter_map(|host| {
            let host = self.fleet.host(host)?;
            let same = self.way_of(host) == Some(Way::Datagram(to));
            let mate = same.then(|| self.tasks.table.delivery_of(key, &host.id()))??;
            (mate != slot).then_some(mate)
        });
        there.collect()
    }

    /// Way to reach a host now; `None` if it is offline.
    pub(crate) fn way_to(&self, host: &HostId) -> Option<Way> {
        self.way_of(self.fleet.host(self.fleet.find(host)?)?)
    }

    fn way_of(&self, host: &Host) -> Option<Way> {
        self.auth.way_to(self.cx.rules, host)
    }
}
