//! Sending to hosts.
//!
//! ```text
//!   send queue ─▶ host online? ─▶ wants pushes, and is connected ─▶ Effect::Push
//!                  │ no              └─▶ datagram to (address, its port)
//!                  └─▶ the try is counted all the same
//! ```

use std::borrow::Cow;
use std::net::SocketAddr;

use compact_str::CompactString;

use crate::codec::message::Push;
use crate::handlers::auth::Way;
use crate::handlers::directory::Directory;
use crate::handlers::effect::Effect;
use crate::handlers::fleet::host::{Marks, Presence};
use crate::handlers::request::Datagram;
use crate::handlers::step::Step;
use crate::handlers::tasks::sends::Outgoing;
use crate::ids::HostId;

impl Step<'_> {
    /// Takes entries of the send queue, at most `max`: pushes become effects, others go into
    /// `datagrams`.
    pub(crate) fn take_sends(&mut self, max: usize, datagrams: &mut Vec<Datagram>) {
        if self.cx.stopping {
            self.tasks.clear_sends();
        }
        for _ in 0..max {
            match self.tasks.next_send() {
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
        let Some(attempt) = self.tasks.begin_try(&self.cx, slot) else {
            return;
        };
        // A name is looked up once: of ten thousand hosts each is somewhere else in memory.
        let place = self.fleet.find(&attempt.host);
        let host = place.and_then(|place| self.fleet.host(place));
        let waits_for_session = host.is_some_and(|host| {
            host.presence == Presence::Inherited && !self.auth.is_plain(self.cx.rules, host)
        });
        if waits_for_session {
            // A host held over a restart can be sent to only in its session.
            return;
        }
        self.tasks.count_try(&attempt);
        let way = host.and_then(|host| self.auth.way_to(self.cx.rules, host));
        let Some((place, way)) = place.zip(way) else {
            return;
        };
        if let Some(host) = self.fleet.host_mut(place) {
            host.set(Marks::ASKED, true);
        }
        let Some(text) = self.tasks.text_of(&mut self.cx, &attempt) else {
            return;
        };
        if let Way::Datagram(to) = way {
            let mates = mates(self, place, to);
            self.tasks.share_try(&attempt, mates.into_iter());
        }
        self.transmit(way, text, None, datagrams);
    }

    /// Sends a text: a task's key, or the command `cid`.
    fn transmit(
        &mut self,
        way: Way,
        text: CompactString,
        cid: Option<String>,
        datagrams: &mut Vec<Datagram>,
    ) {
        let push = |text: CompactString| match cid {
            None => Push::Task(Cow::Owned(text.into())),
            Some(cid) => Push::Command {
                text: Cow::Owned(text.into()),
                cid: Cow::Owned(cid),
            },
        };
        match way {
            Way::Push(conn) => {
                let push = push(text);
                self.cx.fx.push(Effect::Push { conn, push });
            }
            Way::Datagram(to) => datagrams.push(Datagram { to, text }),
            Way::Signed(to, conn) => {
                let text = self.auth.sign(conn, &push(text));
                datagrams.extend(text.map(|text| Datagram {
                    to,
                    text: text.into(),
                }));
            }
        }
    }

    /// Sends a console command to one of its hosts.
    fn send_command(&mut self, number: u64, index: usize, datagrams: &mut Vec<Datagram>) {
        let Some((host, text, cid, tries)) = self.tasks.command_to_send(number, index) else {
            return;
        };
        let hosts = Directory::new(self.fleet, self.auth);
        let way = hosts.way_to(&self.cx, &host);
        let is_bare = matches!(way, Some(Way::Datagram(_)));
        if tries > 1 && is_bare {
            // It took pushes before, and does not now: by datagram it might run the command twice.
            return;
        }
        if let Some(way) = way {
            self.transmit(way, text.into(), Some(cid), datagrams);
            self.cx.stats.sends += 1;
            self.cx.stats.resends += u64::from(tries > 1);
        }
        self.tasks
            .command_sent(&self.cx, (number, index), tries, !is_bare);
    }
}

/// The other hosts that datagrams to the address of the host in `place` reach.
fn mates(step: &Step<'_>, place: u32, to: SocketAddr) -> Vec<HostId> {
    let own = step.fleet.host(place);
    if own.is_some_and(|host| host.is_named_by(to.ip())) && !step.fleet.has_named_at(to.ip()) {
        // The plain host with that address is the only one there.
        return Vec::new();
    }
    let there = step.fleet.reached_at(&step.cx, to.ip(), to.port());
    let there = there.filter(|host| *host != place).filter_map(|host| {
        let host = step.fleet.host(host)?;
        let way = step.auth.way_to(step.cx.rules, host);
        (way == Some(Way::Datagram(to))).then(|| host.id())
    });
    there.collect()
}
