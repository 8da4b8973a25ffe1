//! Results in transit: the bytes received on each connection, the connections that wait for room, and the total.
//! Memory is allocated as bytes arrive, never for an announced size.
//!
//! A result begins when there is room for all of it, so that each begun result can be completed.
//! One address has a share of the room. A result that stalls while connections wait for room is
//! refused: its bytes are dropped, but its connection stays open.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::net::{IpAddr, Ipv6Addr};

use sha2::{Digest as _, Sha256};

use crate::codec::message::{ReplyRequest, ResultHeader};
use crate::ids::{ConnId, Numbered};
use crate::limits::{
    RESULT_BYTES_ADDRESS_MAX, RESULT_BYTES_HELD_MAX, RESULT_LOOK_MS, RESULT_PROGRESS_BYTES,
    RESULT_STALLED_S,
};
use crate::time::{Instant, Span};

/// The received part of a result.
#[derive(Debug)]
pub struct Payload {
    /// The slot of the host.
    pub slot: u32,
    /// The task's key, or the id of a console command.
    pub code: String,
    /// The command.
    pub command: String,
    /// Its exit status.
    pub exit: i32,
    /// Run time in seconds.
    pub seconds: f64,
    /// Bytes of it in all.
    pub size: u64,
    /// Expected SHA-256.
    pub sha256: [u8; 32],
    /// The command's output was longer.
    pub truncated: bool,
    /// The requested reply.
    pub ask: ReplyRequest,
    /// Reason of its refusal; its bytes are then dropped as they arrive.
    pub refusal: Option<&'static str>,
    /// Its sender's address.
    pub address: IpAddr,
    /// The bytes so far.
    pub bytes: Vec<u8>,
    /// Their digest so far.
    pub digest: Sha256,
    /// Number of bytes received.
    pub came: u64,
    /// Position in the order of their starts.
    number: u64,
    /// Time of its start, or of its latest complete [`RESULT_PROGRESS_BYTES`].
    progress_at: Instant,
    /// Bytes since then.
    progressed: usize,
}

impl Payload {
    /// A result without bytes yet, with this `header`, from `address`.
    #[must_use]
    pub fn new(header: &ResultHeader<'_>, slot: u32, address: IpAddr, ask: ReplyRequest) -> Self {
        Self {
            slot,
            code: header.code.to_string(),
            command: header.command.to_string(),
            exit: header.exit,
            seconds: header.seconds,
            size: header.size,
            sha256: header.sha256,
            truncated: header.truncated,
            ask,
            refusal: None,
            address: network(address),
            bytes: Vec::new(),
            digest: Sha256::new(),
            came: 0,
            number: 0,
            progress_at: Instant::ZERO,
            progressed: 0,
        }
    }

    /// Returns whether it is stored.
    #[must_use]
    pub const fn is_wanted(&self) -> bool {
        self.refusal.is_none()
    }
}

/// The network that counts as one address: an IPv6 machine has many addresses.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
    }
}

/// A connection that is not read until there is room.
#[derive(Debug)]
struct Waiting {
    conn: ConnId,
    slot: u32,
    address: IpAddr,
    bytes: usize,
    deadline: Instant,
}

/// All results in transit.
#[derive(Debug, Default)]
pub struct Payloads {
    arriving: Numbered<ConnId, Payload>,
    /// Connection whose payload is being received for each host: one at a time is stored.
    sending: Numbered<u32, ConnId>,
    held: usize,
    /// Memory of the stored results when they are complete.
    reserved: usize,
    /// The same by address.
    reserved_by: HashMap<IpAddr, usize>,
    /// Stored results, in the order in which they began.
    order: BTreeSet<(u64, ConnId)>,
    next_number: u64,
    /// Waiting connections, first come first served, so the first deadline is the earliest.
    waiting: VecDeque<Waiting>,
    /// Connections that have waited too long: their next result is refused.
    overdue: HashSet<ConnId>,
    /// Time of the next search for stalled results; only while connections wait.
    look_at: Option<Instant>,
}

impl Payloads {
    /// Connections that wait for room.
    #[cfg(any(test, fuzzing, debug_assertions))]
    pub fn waiting(&self) -> impl Iterator<Item = ConnId> {
        self.waiting.iter().map(|wait| wait.conn)
    }

    /// Bytes held.
    #[must_use]
    pub fn held(&self) -> usize {
        self.held
    }

    /// The payload that this connection is sending.
    #[must_use]
    pub fn get(&self, conn: ConnId) -> Option<&Payload> {
        self.arriving.get(&conn)
    }

    /// Returns whether a payload of `bytes` by the host in `slot` at `address` has room.
    #[must_use]
    pub fn has_room(&self, slot: u32, address: IpAddr, bytes: usize) -> bool {
        self.fits(slot, network(address), bytes, (0, 0))
    }

    /// The same with additional reservations, in all and for its address.
    fn fits(&self, slot: u32, network: IpAddr, bytes: usize, (all, by): (usize, usize)) -> bool {
        let reserved = self.reserved + all;
        let reserved_by = self.reserved_by.get(&network).map_or(0, |bytes| *bytes) + by;
        // A single result always has room.
        let has_room = reserved == 0
            || reserved + bytes <= RESULT_BYTES_HELD_MAX
                && (reserved_by == 0 || reserved_by + bytes <= RESULT_BYTES_ADDRESS_MAX);
        has_room && !self.sending.contains_key(&slot)
    }

    /// Begins a payload after its header.
    pub fn begin(&mut self, conn: ConnId, mut payload: Payload, now: Instant) {
        payload.progress_at = now;
        if payload.is_wanted() {
            payload.number = self.next_number;
            self.next_number += 1;
            self.order.insert((payload.number, conn));
            self.reserved += payload.size as usize;
            *self.reserved_by.entry(payload.address).or_default() += payload.size as usize;
            self.sending.insert(payload.slot, conn);
        }
        self.arriving.insert(conn, payload);
    }

    /// Takes the next bytes. Returns the number of received bytes.
    pub fn take(&mut self, conn: ConnId, bytes: &[u8], now: Instant) -> u64 {
        let Some(payload) = self.arriving.get_mut(&conn) else {
            return 0;
        };
        payload.came += bytes.len() as u64;
        payload.progressed += bytes.len();
        if payload.progressed >= RESULT_PROGRESS_BYTES {
            (payload.progress_at, payload.progressed) = (now, 0);
        }
        if payload.is_wanted() {
            payload.bytes.extend_from_slice(bytes);
            payload.digest.update(bytes);
            self.held += bytes.len();
        }
        payload.came
    }

    /// Ends a payload: it is complete, or its connection has ended.
    pub fn remove(&mut self, conn: ConnId) -> Option<Payload> {
        let payload = self.arriving.remove(&conn)?;
        if payload.is_wanted() {
            self.release(conn, &payload);
        }
        Some(payload)
    }

    /// Releases the room of a stored payload.
    fn release(&mut self, conn: ConnId, payload: &Payload) {
        let size = payload.size as usize;
        self.held -= payload.bytes.len();
        self.reserved -= size;
        if let Some(reserved) = self.reserved_by.get_mut(&payload.address) {
            *reserved -= size;
            if *reserved == 0 {
                self.reserved_by.remove(&payload.address);
            }
        }
        self.order.remove(&(payload.number, conn));
        self.sending.remove(&payload.slot);
    }

    /// Marks the next result of this connection to be refused.
    pub fn mark(&mut self, conn: ConnId) {
        self.overdue.insert(conn);
    }

    /// Drops a connection's payload, including bytes that are still to arrive. It is refused when
    /// it is complete.
    pub fn give_up(&mut self, conn: ConnId, why: &'static str) {
        let Some(mut payload) = self.arriving.remove(&conn) else {
            return;
        };
        if payload.is_wanted() {
            self.release(conn, &payload);
            payload.bytes = Vec::new();
            payload.refusal = Some(why);
        }
        self.arriving.insert(conn, payload);
    }

    /// Returns whether the next result of this connection must be refused because it has waited too
    /// long.
    pub fn take_mark(&mut self, conn: ConnId) -> bool {
        !self.overdue.is_empty() && self.overdue.remove(&conn)
    }

    /// Payloads that have stalled while connections wait for room; `None` before it is time to look.
    pub fn take_stalled(&mut self, now: Instant) -> Option<Vec<ConnId>> {
        self.look_at.filter(|at| *at <= now)?;
        let again = now + Span::from_millis(RESULT_LOOK_MS);
        self.look_at = (!self.waiting.is_empty()).then_some(again);
        self.look_at?;
        let stalled = |conn: &ConnId| {
            let payload = self.arriving.get(conn);
            let since = payload.map_or(now, |payload| payload.progress_at);
            since + Span::from_secs(RESULT_STALLED_S) <= now
        };
        let kept = self.order.iter().map(|(_, conn)| *conn);
        Some(kept.filter(stalled).collect())
    }

    /// Adds a connection that waits from `now` on for room for `bytes` of its host.
    pub fn wait(
        &mut self,
        conn: ConnId,
        (slot, address): (u32, IpAddr),
        bytes: usize,
        now: Instant,
        deadline: Instant,
    ) {
        self.waiting.push_back(Waiting {
            conn,
            slot,
            address: network(address),
            bytes,
            deadline,
        });
        // Search at once: results may have stalled long ago.
        self.look_at.get_or_insert(now);
    }

    /// Takes the waiting connections that have room now, all together.
    pub fn take_resumable(&mut self) -> Vec<ConnId> {
        let mut all = 0;
        let mut by: HashMap<IpAddr, usize> = HashMap::new();
        let mut resumed = Vec::new();
        let mut waiting = std::mem::take(&mut self.waiting);
        waiting.retain(|wait| {
            let more = by.get(&wait.address).map_or(0, |bytes| *bytes);
            let fits = self.fits(wait.slot, wait.address, wait.bytes, (all, more));
            if fits {
                all += wait.bytes;
                *by.entry(wait.address).or_default() += wait.bytes;
                resumed.push(wait.conn);
            }
            !fits
        });
        self.waiting = waiting;
        resumed
    }

    /// Time at which the next connection has waited long enough, or results are searched.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        let first = self.waiting.front().map(|wait| wait.deadline);
        [first, self.look_at].into_iter().flatten().min()
    }

    /// Takes a connection that has waited too long.
    pub fn take_overdue(&mut self, now: Instant) -> Option<ConnId> {
        let first = self.waiting.front()?;
        let wait = (first.deadline <= now).then(|| self.waiting.pop_front())??;
        Some(wait.conn)
    }

    /// Handles the end of a connection: its payload and its wait are dropped.
    pub fn forget(&mut self, conn: ConnId) -> bool {
        self.waiting.retain(|wait| wait.conn != conn);
        self.take_mark(conn);
        !self.arriving.is_empty() && self.remove(conn).is_some()
    }
}
