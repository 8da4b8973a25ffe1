//! Requests for the history: of one host, of all hosts at a time, and of the fleet.
//!
//! ```text
//!  request ─▶ transitions of the store ─▶ counts and runs of the store ─▶ with those in memory: response
//! ```
//!
//! While the store is unavailable the response has only data in memory, and says so.

use std::collections::HashMap;

use crate::handlers::fleet::host::Marks;
use crate::handlers::request::{ErrorKind, HistoryRequest, HistoryView, Response};
use crate::handlers::step::Step;
use crate::handlers::tasks::reads::{HistoryReading, HostsReading, Reading, unknown};
use crate::ids::HostId;
use crate::limits::{CLOCKS_APART_MS_MAX, PAGE_HOSTS_MAX, PAGE_SCAN_MAX};
use crate::store::op::history::{Run, merged, minute_of};
use crate::store::op::{FleetHistory, Found, HostRecord, Question, Transition, Was};
use crate::time::UnixMs;

impl Step<'_> {
    /// Handles a request for the history.
    pub(super) fn ask_history(&mut self, requester: u64, request: HistoryRequest) {
        let mut reading = HistoryReading {
            request,
            hosts: Vec::new(),
            next: None,
            asked: Vec::new(),
            stored: Vec::new(),
            record: None,
        };
        match &reading.request {
            HistoryRequest::Host { host } => {
                if *self.cx.had_others && self.cx.is_store_up() && !self.fleet.is_online(host) {
                    // Where it is by now, the store says.
                    let hosts = vec![host.clone()];
                    let reading = Reading::Hosts(HostsReading::History(host.clone()));
                    let question = Question::Hosts { hosts };
                    return self.tasks.read(&mut self.cx, requester, reading, question);
                }
                if self.fleet.find(host).is_none() {
                    let response = unknown("no host of this name is known");
                    return self.cx.respond(requester, response);
                }
                reading.asked = vec![host.clone()];
            }
            HistoryRequest::At { at, cursor, limit } => {
                let (at, cursor, limit) = (*at, *cursor, *limit);
                if at.0 > self.cx.at.wall.0 + CLOCKS_APART_MS_MAX {
                    let response = Response::Error {
                        kind: ErrorKind::Wrong,
                        text: "at is in the future: nothing is known of it yet".to_owned(),
                    };
                    return self.cx.respond(requester, response);
                }
                self.page_at(&mut reading, at, cursor, limit);
            }
            HistoryRequest::Fleet { .. } => {}
        }
        if !self.cx.is_store_up() {
            let response = self.history_view(&reading, None);
            return self.cx.respond(requester, response);
        }
        match reading.asked.is_empty() {
            true => self.ask_runs(requester, reading),
            false => {
                let hosts = reading.asked.clone();
                let reading = Reading::History(Box::new(reading));
                let question = Question::Transitions { hosts };
                self.tasks.read(&mut self.cx, requester, reading, question);
            }
        }
    }

    /// Continues with the history of a host that is not online here.
    pub(super) fn ask_history_of(
        &mut self,
        requester: u64,
        host: HostId,
        record: Option<HostRecord>,
    ) {
        if record.is_none() {
            let response = unknown("no host of this name is known");
            return self.cx.respond(requester, response);
        }
        let question = Question::Transitions {
            hosts: vec![host.clone()],
        };
        let reading = HistoryReading {
            asked: vec![host.clone()],
            request: HistoryRequest::Host { host },
            hosts: Vec::new(),
            next: None,
            stored: Vec::new(),
            record,
        };
        let reading = Reading::History(Box::new(reading));
        self.tasks.read(&mut self.cx, requester, reading, question);
    }

    /// The store has answered a question about the history.
    pub(super) fn history_read(
        &mut self,
        requester: u64,
        mut reading: HistoryReading,
        found: Found,
    ) {
        match found {
            Found::Transitions(stored) => {
                reading.stored = stored;
                self.ask_runs(requester, reading);
            }
            Found::FleetHistory(fleet) => {
                let response = self.history_view(&reading, Some(*fleet));
                self.cx.respond(requester, response);
            }
            _ => {
                let response = self.history_view(&reading, None);
                self.cx.respond(requester, response);
            }
        }
    }

    fn ask_runs(&mut self, requester: u64, reading: HistoryReading) {
        let from = match reading.request {
            HistoryRequest::Fleet { minutes } => first_minute(self.cx.at.wall, minutes) / 60,
            // The runs alone.
            HistoryRequest::Host { .. } | HistoryRequest::At { .. } => u64::MAX,
        };
        let reading = Reading::History(Box::new(reading));
        let question = Question::FleetHistory { from };
        self.tasks.read(&mut self.cx, requester, reading, question);
    }

    /// The hosts of a page, and those among them that have changed since the time.
    fn page_at(&self, reading: &mut HistoryReading, at: UnixMs, cursor: u64, limit: usize) {
        let slots = self.fleet.slots() as u64;
        let end = slots.min(cursor.saturating_add(PAGE_SCAN_MAX as u64));
        let limit = limit.clamp(1, PAGE_HOSTS_MAX);
        let mut slot = cursor;
        while slot < end && reading.hosts.len() < limit {
            if let Some(host) = self.fleet.id(slot as u32) {
                let present = self.fleet.present(slot as u32);
                if present.is_some_and(|present| present.at() > at) {
                    reading.asked.push(host.clone());
                }
                reading.hosts.push(host);
            }
            slot += 1;
        }
        reading.next = (slot < slots).then_some(slot);
    }

    /// Transitions of a host that are stored or in memory, the present state last.
    fn transitions(&self, host: &HostId, stored: &[Transition]) -> Vec<Transition> {
        let Some(slot) = self.fleet.find(host) else {
            return stored.to_vec();
        };
        let mut known = self.fleet.past(slot).to_vec();
        known.extend(self.fleet.present(slot));
        merged(stored, &known)
    }

    fn history_view(&self, reading: &HistoryReading, fleet: Option<FleetHistory>) -> Response {
        let now = self.cx.at.wall;
        let complete = fleet.is_some();
        let mut fleet = fleet.unwrap_or_default();
        self.outbox
            .minutes
            .rows()
            .for_each(|row| fleet.add_own(row));
        let stored = |at: usize| reading.stored.get(at).map_or(&[][..], Vec::as_slice);
        let view = match &reading.request {
            HistoryRequest::Host { host } if reading.record.is_some() => {
                let Some(record) = &reading.record else {
                    return unknown("no host of this name is known");
                };
                let was = match record.is_online {
                    true => Was::Online,
                    false => Was::Offline(record.held.reason),
                };
                let present = Transition::new(record.held.since, was);
                let transitions = merged(stored(0), &[present]);
                let first = transitions.first().map_or(now, |first| first.at());
                HistoryView::Host {
                    host: host.clone(),
                    connections: u32::from(record.is_online),
                    keyed: record.held.keyed,
                    push: false,
                    away: fleet.away(first, now),
                    transitions,
                    complete,
                }
            }
            HistoryRequest::Host { host } => {
                let slot = self.fleet.find(host);
                let Some(row) = slot.and_then(|slot| self.fleet.host(slot)) else {
                    return unknown("no host of this name is known");
                };
                let transitions = self.transitions(host, stored(0));
                let first = transitions.first().map_or(now, |first| first.at());
                HistoryView::Host {
                    host: host.clone(),
                    connections: row.sessions,
                    keyed: row.has(Marks::KEYED),
                    push: row.has(Marks::PUSH),
                    away: fleet.away(first, now),
                    transitions,
                    complete,
                }
            }
            HistoryRequest::At { at, .. } => {
                let places = reading.asked.iter().enumerate();
                let places: HashMap<&HostId, usize> =
                    places.map(|(place, host)| (host, place)).collect();
                let mut away = fleet.away(UnixMs(0), now).into_iter();
                let away = away.rfind(|gap| gap.from <= *at && *at < gap.to);
                let state = |host: &HostId| {
                    let stored = places.get(host).map_or(&[][..], |place| stored(*place));
                    was_at(&self.transitions(host, stored), *at, away)
                };
                let hosts = reading.hosts.iter();
                HistoryView::At {
                    at: *at,
                    away,
                    hosts: hosts.map(|host| (host.clone(), state(host))).collect(),
                    next: reading.next,
                    complete,
                }
            }
            HistoryRequest::Fleet { minutes } => {
                let from = first_minute(now, *minutes);
                HistoryView::Fleet {
                    from,
                    online: fleet.online_from(from, *minutes),
                    away: fleet.away(UnixMs(from * 60_000), now),
                    complete,
                }
            }
        };
        Response::History(Box::new(view))
    }
}

/// The first of the given number of minutes, of which the last is the current one.
fn first_minute(now: UnixMs, minutes: u64) -> u64 {
    (minute_of(now) + 1).saturating_sub(minutes)
}

/// State at a time: none before the first known transition, and none while no server ran.
fn was_at(transitions: &[Transition], at: UnixMs, away: Option<Run>) -> Option<Was> {
    if away.is_some() {
        return None;
    }
    let before = transitions.iter().rfind(|one| one.at() <= at)?;
    Some(before.to())
}
