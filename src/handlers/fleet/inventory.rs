//! Inventories of hosts. A new report replaces the older one. It is written as long as the
//! connection that sent it is still the host's.

use std::borrow::Cow;

use crate::codec::message::{Flag, Inventory, ReplyRequest, Word};
use crate::handlers::context::Ctx;
use crate::handlers::fleet::Fleet;
use crate::handlers::fleet::host::Rest;
use crate::ids::{ConnId, HostRef};
use crate::limits::{INVENTORY_ASKS_MAX, INVENTORY_BYTES_MAX};
use crate::store::op::{self, Origin};

impl Fleet {
    /// Takes the inventory of a host. Returns whether it is newly waiting to be written.
    pub(crate) fn take_inventory(
        &mut self,
        cx: &mut Ctx<'_>,
        conn: ConnId,
        slot: u32,
        inventory: &Inventory<'_>,
        ask: ReplyRequest,
    ) -> bool {
        let values = inventory.values.iter().chain(&inventory.addresses);
        if values.map(|value| value.len()).sum::<usize>() > INVENTORY_BYTES_MAX {
            if ask.reply {
                let why = Word::Refused(format!("more than {INVENTORY_BYTES_MAX} bytes of text"));
                cx.reply(conn, Flag::Inventory, ask.seq, why);
            }
            return false;
        }
        let Some(host) = self.hosts.get_mut(slot) else {
            return false;
        };
        let rest = host.rest_or_new();
        let own = |list: &[Cow<'_, str>]| list.iter().map(|text| text.to_string()).collect();
        rest.hostname = inventory.hostname.as_deref().map(str::to_owned);
        rest.mac = inventory.mac.as_deref().map(str::to_owned);
        rest.values = own(&inventory.values);
        rest.addresses = own(&inventory.addresses);
        rest.inventory_from = Some(conn);
        let mut superseded = None;
        if ask.reply {
            if rest.inventory_asks.len() == INVENTORY_ASKS_MAX {
                superseded = Some(rest.inventory_asks.remove(0));
            }
            rest.inventory_asks.push(Origin {
                conn,
                flag: Flag::Inventory,
                ask,
                bytes: 0,
            });
        }
        let was_behind = std::mem::replace(&mut rest.inventory_behind, true);
        if let Some(origin) = superseded {
            let why = Word::Refused("a later report has taken its place".to_owned());
            cx.reply(origin.conn, Flag::Inventory, origin.ask.seq, why);
        }
        !was_behind
    }

    /// The inventory of a host, if it is still to be written and the connection it came by is still
    /// the host's.
    pub(crate) fn inventory_to_write(&mut self, slot: u32) -> Option<op::Inventory> {
        let ticket = self.hosts.reference(slot)?;
        let host = self.hosts.get_mut(slot)?;
        let name = host.id();
        let rest = host.rest_mut()?;
        let session = self.sessions.get(rest.inventory_from?);
        let own = session.is_some_and(|session| session.host() == Some(slot));
        if !std::mem::take(&mut rest.inventory_behind) || !own {
            return None;
        }
        Some(op::Inventory {
            origins: rest.inventory_asks.clone(),
            ticket,
            host: name,
            hostname: rest.hostname.clone(),
            mac: rest.mac.clone(),
            values: rest.values.clone(),
            addresses: rest.addresses.clone(),
        })
    }

    /// Settles an inventory: it is written, or never will be.
    pub(crate) fn inventory_settled(
        &mut self,
        cx: &mut Ctx<'_>,
        ticket: HostRef,
        origins: Vec<Origin>,
        result: Result<(), String>,
    ) {
        let word = match result {
            Ok(()) => Word::RogerThat,
            Err(why) => {
                let host = self
                    .hosts
                    .resolve(ticket)
                    .and_then(|slot| self.hosts.get(slot));
                let who = host.map_or_else(|| "a host".to_owned(), |host| host.id().to_string());
                let text = format!("what it says of itself is not written: {why}");
                cx.log(log::Level::Error, "store", who, text);
                Word::Refused(why)
            }
        };
        let slot = self.hosts.resolve(ticket);
        let rest = slot.and_then(|slot| self.hosts.get_mut(slot)?.rest_mut());
        let Some(owed) = rest.map(|rest| &mut rest.inventory_asks) else {
            return;
        };
        // An earlier operation of the host may have answered some of them already.
        let mut answered = Vec::new();
        for origin in origins {
            if let Some(place) = owed.iter().position(|ask| *ask == origin) {
                answered.push(owed.remove(place));
            }
        }
        self.answer_inventories(cx, answered, &word);
    }

    /// The connection of a host's report has ended before the write: the report is dropped, and
    /// waiting requests for a reply are refused.
    pub(crate) fn inventory_orphaned(&mut self, cx: &mut Ctx<'_>, conn: ConnId, slot: u32) {
        let host = self.hosts.get_mut(slot);
        let rest = host.and_then(|host| host.rest_mut());
        let its = |rest: &&mut Rest| rest.inventory_behind && rest.inventory_from == Some(conn);
        let Some(rest) = rest.filter(its) else { return };
        rest.inventory_behind = false;
        let owed = std::mem::take(&mut rest.inventory_asks);
        let why = "a later report took its place and was given up by its connection".to_owned();
        self.answer_inventories(cx, owed, &Word::Refused(why));
    }

    fn answer_inventories(&mut self, cx: &mut Ctx<'_>, owed: Vec<Origin>, word: &Word) {
        for origin in owed {
            if self.sessions.get(origin.conn).is_some() {
                let (conn, seq) = (origin.conn, origin.ask.seq);
                cx.reply(conn, Flag::Inventory, seq, word.clone());
            }
        }
    }
}
