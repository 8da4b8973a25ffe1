//! Counters and gauges of the core. Plain numbers, so that tests see every drop.

use crate::codec::Abnormal;
use crate::codec::message::Flag;
use crate::metrics::{Bounds, Histogram, Measured, Metric};
use crate::store::op::Reason;

/// Bounds of the times from a task's sending to a host's answer: 1 ms to 5 minutes.
pub(crate) const ANSWER_BOUNDS: Bounds = [
    1_000_000,
    5_000_000,
    10_000_000,
    50_000_000,
    100_000_000,
    500_000_000,
    1_000_000_000,
    5_000_000_000,
    10_000_000_000,
    30_000_000_000,
    60_000_000_000,
    300_000_000_000,
];

/// Bounds of the silence of hosts, as a part of `heartbeat.timeout_s`. A host that sends three
/// heartbeats in that time is silent for at most 0.35 of it.
pub(crate) const LATENESS_BOUNDS: Bounds = [
    100_000_000,
    200_000_000,
    300_000_000,
    350_000_000,
    400_000_000,
    500_000_000,
    600_000_000,
    700_000_000,
    800_000_000,
    900_000_000,
    950_000_000,
    999_999_999,
];

/// Counters and gauges of the core. The table `METRICS` describes them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    pub hosts_online: u64,
    pub hosts_known: u64,
    pub hosts_inherited: u64,
    pub hosts_at_work: u64,
    pub ids_contested: u64,
    pub sessions: u64,
    /// In the order of [`Flag::ALL`].
    pub messages: [u64; Flag::ALL.len()],
    /// In the order of [`Abnormal::LABELS`].
    pub abnormal: [u64; Abnormal::LABELS.len()],
    pub onlines: u64,
    /// In the order of [`Reason::ALL`].
    pub offlines: [u64; Reason::ALL.len()],
    pub hosts_taken: u64,
    pub hosts_moved: u64,
    pub replacements: u64,
    pub refused_hellos: u64,
    pub new_ids_refused: u64,
    pub strays_refused: u64,
    pub proofs_refused: u64,
    pub challenges: u64,
    pub keyed_sessions: u64,
    pub speechless: u64,
    pub reports_waiting: u64,
    pub report_bytes_waiting: u64,
    pub reports_stored: u64,
    pub reports_refused: u64,
    pub waits: u64,
    pub presence_behind: u64,
    pub notices_dropped: u64,
    pub store_sessions: u64,
    pub tasks_open: u64,
    pub deliveries_open: u64,
    pub tasks_let_go: u64,
    pub dispatches_waiting: u64,
    pub sends: u64,
    pub resends: u64,
    pub late_answers: u64,
    pub answer_times: Histogram,
    pub lateness: Histogram,
    pub datagrams_refused: u64,
    pub datagrams_forged: u64,
    pub datagrams_replayed: u64,
    pub datagrams_stale: u64,
    pub result_bytes_held: u64,
    pub results_refused: u64,
}

#[rustfmt::skip] // A table: name, meaning, value.
impl Measured for Stats {
    const METRICS: &'static [Metric<Self>] = &[
        Metric::new("anthill_hosts_online", "Hosts online now.", |s| s.hosts_online),
        Metric::new("anthill_hosts_known", "Hosts in the table, offline ones included.", |s| s.hosts_known),
        Metric::new("anthill_hosts_inherited", "Hosts that were online before a restart and have not returned yet.", |s| s.hosts_inherited),
        Metric::new("anthill_hosts_at_work", "Hosts that run a command.", |s| s.hosts_at_work),
        Metric::new("anthill_ids_contested", "Ids whose session was replaced within the last minute or so.", |s| s.ids_contested),
        Metric::new("anthill_sessions", "Connections of hosts open now.", |s| s.sessions),
        Metric::new("anthill_challenges", "Connections that have still to prove their key.", |s| s.challenges),
        Metric::new("anthill_keyed_sessions", "Sessions proved by a key.", |s| s.keyed_sessions),
        Metric::new("anthill_reports_waiting", "Reports accepted and not yet settled by the store.", |s| s.reports_waiting),
        Metric::new("anthill_reports_waiting_bytes", "Text of the reports not yet settled by the store.", |s| s.report_bytes_waiting),
        Metric::new("anthill_presence_behind", "Presence changes not yet passed to the store.", |s| s.presence_behind),
        Metric::new("anthill_tasks_open", "Tasks with a delivery that has not ended.", |s| s.tasks_open),
        Metric::new("anthill_deliveries_open", "Deliveries of tasks that have not ended.", |s| s.deliveries_open),
        Metric::new("anthill_dispatches_waiting", "Dispatches that the store has not answered yet.", |s| s.dispatches_waiting),
        Metric::new("anthill_result_held_bytes", "Bytes of results that are still arriving.", |s| s.result_bytes_held),
        Metric::by("code", "anthill_messages_total", "Valid messages, by code.", |s| s.messages_by_code()),
        Metric::by("kind", "anthill_abnormal_total", "Abnormal data, by kind.", |s| Abnormal::LABELS.into_iter().zip(s.abnormal).collect()),
        Metric::by("reason", "anthill_offlines_total", "Hosts that went offline, by reason.", |s| s.offlines_by_reason()),
        Metric::new("anthill_onlines_total", "Hosts that came online.", |s| s.onlines),
        Metric::new("anthill_hosts_taken_total", "Hosts that connected here while another node held them.", |s| s.hosts_taken),
        Metric::new("anthill_hosts_moved_total", "Hosts held here that turned out to belong to another node.", |s| s.hosts_moved),
        Metric::new("anthill_replacements_total", "Sessions replaced by a newer one of the same id.", |s| s.replacements),
        Metric::new("anthill_hellos_refused_total", "Hellos refused for their id, a quarantine or a full table.", |s| s.refused_hellos),
        Metric::new("anthill_new_ids_refused_total", "Connections refused because their address brought too many new ids within a minute.", |s| s.new_ids_refused),
        Metric::new("anthill_unknown_keys_refused_total", "Reports refused for their number, on keys that this server never stored.", |s| s.strays_refused),
        Metric::new("anthill_speechless_total", "Connections closed because no valid message came in time.", |s| s.speechless),
        Metric::new("anthill_reports_stored_total", "Reports that the store has written.", |s| s.reports_stored),
        Metric::new("anthill_reports_refused_total", "Reports that the store has refused.", |s| s.reports_refused),
        Metric::new("anthill_report_waits_total", "Times that a connection was paused until there was room for its report.", |s| s.waits),
        Metric::new("anthill_notices_dropped_total", "Events of the fleet dropped because their queue was full.", |s| s.notices_dropped),
        Metric::new("anthill_store_sessions_total", "Connections to the store.", |s| s.store_sessions),
        Metric::new("anthill_tasks_let_go_total", "Tasks evicted from memory for newer ones.", |s| s.tasks_let_go),
        Metric::new("anthill_sends_total", "Datagrams and pushes sent.", |s| s.sends),
        Metric::new("anthill_resends_total", "Datagrams and pushes sent again.", |s| s.resends),
        Metric::histogram("anthill_answer_seconds", "Time from the first sending of a task to a host until its answer.", &ANSWER_BOUNDS, |s| s.answer_times),
        Metric::histogram("anthill_heartbeat_lateness_ratio", "Silence of a host as a part of heartbeat.timeout_s, when its deadline is checked: about once in that time. At 1 it is offline.", &LATENESS_BOUNDS, |s| s.lateness),
        Metric::new("anthill_late_answers_total", "Reports of hosts that were counted as lost or as not answering.", |s| s.late_answers),
        Metric::new("anthill_datagrams_refused_total", "Datagrams refused.", |s| s.datagrams_refused),
        Metric::new("anthill_datagrams_forged_total", "Signed datagrams with a wrong MAC, or of a host without a session there.", |s| s.datagrams_forged),
        Metric::new("anthill_datagrams_replayed_total", "Signed datagrams that had arrived before.", |s| s.datagrams_replayed),
        Metric::new("anthill_datagrams_stale_total", "Signed datagrams that arrived too late to be distinguished from replays.", |s| s.datagrams_stale),
        Metric::new("anthill_proofs_refused_total", "Proofs of keys that were not accepted.", |s| s.proofs_refused),
        Metric::new("anthill_results_refused_total", "Results that were not requested, or had a wrong digest.", |s| s.results_refused),
    ];
}

impl Stats {
    /// Counts a valid message.
    pub(crate) fn count(&mut self, flag: Flag) {
        if let Some(place) = Flag::ALL.iter().position(|known| *known == flag) {
            self.messages[place] += 1;
        }
    }

    fn messages_by_code(&self) -> Vec<(&'static str, u64)> {
        let codes = Flag::ALL.iter().map(|flag| flag.as_str());
        codes.zip(self.messages).collect()
    }

    fn offlines_by_reason(&self) -> Vec<(&'static str, u64)> {
        let reasons = Reason::ALL.iter().map(|reason| reason.as_str());
        reasons.zip(self.offlines).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Source;

    #[test]
    fn every_number_is_on_the_page_once() {
        let stats = Stats {
            hosts_online: 1001,
            hosts_known: 1002,
            hosts_inherited: 1003,
            sessions: 1004,
            hosts_at_work: 1036,
            ids_contested: 1037,
            messages: [1005, 1006, 1007, 1008, 1009, 1038, 1039, 1040, 1140],
            abnormal: [
                1010, 1011, 1012, 1013, 1014, 1015, 1016, 1017, 1018, 1099, 1051,
            ],
            onlines: 1019,
            offlines: [1020, 1021, 1022, 1023, 1024],
            replacements: 1025,
            hosts_taken: 1100,
            hosts_moved: 1101,
            refused_hellos: 1026,
            speechless: 1027,
            reports_waiting: 1028,
            report_bytes_waiting: 1029,
            reports_stored: 1030,
            reports_refused: 1031,
            waits: 1032,
            presence_behind: 1033,
            notices_dropped: 1034,
            store_sessions: 1035,
            tasks_open: 1041,
            deliveries_open: 1042,
            tasks_let_go: 1043,
            dispatches_waiting: 1044,
            sends: 1045,
            resends: 1046,
            late_answers: 1047,
            datagrams_refused: 1048,
            result_bytes_held: 1049,
            results_refused: 1050,
            proofs_refused: 1052,
            challenges: 1053,
            keyed_sessions: 1054,
            datagrams_forged: 1055,
            datagrams_replayed: 1056,
            datagrams_stale: 1057,
            new_ids_refused: 1058,
            strays_refused: 1059,
            ..Stats::default()
        };
        let mut text = String::new();
        stats.collect(&mut text);
        for number in 1001..=1059 {
            let needle = format!(" {number}\n");
            assert_eq!(text.matches(&needle).count(), 1, "{number}");
        }
    }
}
