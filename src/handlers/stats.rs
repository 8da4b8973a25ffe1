//! Counters and gauges of the core. Plain numbers, so that tests see every drop.

use crate::codec::Abnormal;
use crate::codec::message::Flag;
use crate::store::op::Reason;

/// Counters and gauges.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Hosts online now.
    pub hosts_online: u64,
    /// Hosts in the table, offline ones included.
    pub hosts_known: u64,
    /// Hosts held from before a restart that have not come back yet.
    pub hosts_inherited: u64,
    /// Hosts at work on something.
    pub hosts_at_work: u64,
    /// Ids replaced within the last minute or so.
    pub ids_contested: u64,
    /// Connections open now, as far as the core knows.
    pub sessions: u64,
    /// Valid messages, by code, in the order of [`Flag::ALL`].
    pub messages: [u64; Flag::ALL.len()],
    /// Abnormal data, by kind, in the order of [`Abnormal::LABELS`].
    pub abnormal: [u64; Abnormal::LABELS.len()],
    /// Hosts that came online.
    pub onlines: u64,
    /// Hosts that went offline, in the order of [`Reason::ALL`].
    pub offlines: [u64; Reason::ALL.len()],
    /// Sessions replaced by a newer one of the same id.
    pub replacements: u64,
    /// Hellos refused (id, quarantine, table full).
    pub refused_hellos: u64,
    /// Connections refused whose network brought too many new ids.
    pub new_ids_refused: u64,
    /// Reports refused for their number, on keys that this server never stored.
    pub strays_refused: u64,
    /// Proofs of keys that were not accepted.
    pub proofs_refused: u64,
    /// Connections that have been asked to prove their key and have not yet.
    pub challenges: u64,
    /// Sessions that are proved by a key.
    pub keyed_sessions: u64,
    /// Connections closed because no valid message came in time.
    pub speechless: u64,
    /// Reports accepted and not yet settled by the store.
    pub reports_waiting: u64,
    /// The same in bytes.
    pub report_bytes_waiting: u64,
    /// Reports settled for good.
    pub reports_stored: u64,
    /// Reports refused for good.
    pub reports_refused: u64,
    /// Times a connection had to wait for room.
    pub waits: u64,
    /// Presence changes not yet handed to the store.
    pub presence_behind: u64,
    /// Events of the fleet dropped for want of room.
    pub notices_dropped: u64,
    /// Comings-up of the store.
    pub store_sessions: u64,
    /// Tasks in the tables of which something is still awaited.
    pub tasks_open: u64,
    /// Hosts in those tasks of which something is still awaited.
    pub deliveries_open: u64,
    /// Tasks that had to go from the tables to make room for newer ones.
    pub tasks_let_go: u64,
    /// Dispatches under way with the store.
    pub dispatches_waiting: u64,
    /// Datagrams and pushes sent.
    pub sends: u64,
    /// Those of them that were sent before.
    pub resends: u64,
    /// Reports of hosts that were taken for lost, or to be without an answer.
    pub late_answers: u64,
    /// Datagrams not taken.
    pub datagrams_refused: u64,
    /// Signed datagrams whose mac was wrong, or whose host has no session there.
    pub datagrams_forged: u64,
    /// Signed datagrams that had come before.
    pub datagrams_replayed: u64,
    /// Signed datagrams that came too late to know.
    pub datagrams_stale: u64,
    /// Bytes of results held while they arrive.
    pub result_bytes_held: u64,
    /// Results not stored: not requested, or with a wrong digest.
    pub results_refused: u64,
}

impl Stats {
    /// Counts a valid message.
    pub(crate) fn count(&mut self, flag: Flag) {
        if let Some(place) = Flag::ALL.iter().position(|known| *known == flag) {
            self.messages[place] += 1;
        }
    }

    /// Valid messages, each count with its code.
    pub fn messages_by_code(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let codes = Flag::ALL.iter().map(|flag| flag.as_str());
        codes.zip(self.messages)
    }

    /// Abnormal data, each count with its kind.
    pub fn abnormal_by_kind(&self) -> impl Iterator<Item = (&'static str, u64)> {
        Abnormal::LABELS.into_iter().zip(self.abnormal)
    }

    /// Hosts that went offline, each count with its reason.
    pub fn offlines_by_reason(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let reasons = Reason::ALL.iter().map(|reason| reason.as_str());
        reasons.zip(self.offlines)
    }
}
