//! The page of counters and gauges in Prometheus' text format, 0.0.4.
//!
//! Each part with counters implements [`Source`]. No sample is labelled by host: the page has the same
//! length for ten hosts and for a million.

use std::collections::HashSet;
use std::fmt::{Display, Write};

use crate::handlers::stats::Stats;
use crate::handlers::view::StoreView;

use super::HttpContext;

/// The media type of the page.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Something that counts.
pub trait Source {
    /// Writes what it has counted.
    fn collect(&self, page: &mut Exposition);
}

/// Nothing counted.
impl Source for () {
    fn collect(&self, _page: &mut Exposition) {}
}

/// One after the other.
impl Source for [&dyn Source] {
    fn collect(&self, page: &mut Exposition) {
        self.iter().for_each(|source| source.collect(page));
    }
}

impl<const N: usize> Source for [&dyn Source; N] {
    fn collect(&self, page: &mut Exposition) {
        self.as_slice().collect(page);
    }
}

/// The page while it is written. Names are to be of the alphabet `a-z0-9_`; the same name a second
/// time is left out, since a page with it twice would be refused as a whole.
#[derive(Debug, Default)]
pub struct Exposition {
    text: String,
    names: HashSet<&'static str>,
}

impl Exposition {
    /// An empty page.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A number that only grows. Its name ends in `_total`.
    pub fn counter(&mut self, name: &'static str, help: &str, value: u64) {
        if self.begin(name, help, "counter") {
            self.sample(name, None, value);
        }
    }

    /// Numbers that only grow, one for each value of `label`.
    pub fn counters<'v>(
        &mut self,
        name: &'static str,
        help: &str,
        label: &str,
        values: impl IntoIterator<Item = (&'v str, u64)>,
    ) {
        if self.begin(name, help, "counter") {
            for (value, count) in values {
                self.sample(name, Some((label, value)), count);
            }
        }
    }

    /// A number that goes up and down.
    pub fn gauge(&mut self, name: &'static str, help: &str, value: impl Display) {
        if self.begin(name, help, "gauge") {
            self.sample(name, None, value);
        }
    }

    /// Numbers that go up and down, one for each value of `label`.
    pub fn gauges<'v>(
        &mut self,
        name: &'static str,
        help: &str,
        label: &str,
        values: impl IntoIterator<Item = (&'v str, u64)>,
    ) {
        if self.begin(name, help, "gauge") {
            for (value, count) in values {
                self.sample(name, Some((label, value)), count);
            }
        }
    }

    /// A gauge that says something by its label: its value is 1.
    pub fn info(&mut self, name: &'static str, help: &str, label: &str, value: &str) {
        if self.begin(name, help, "gauge") {
            self.sample(name, Some((label, value)), 1);
        }
    }

    /// The page.
    #[must_use]
    pub fn finish(self) -> String {
        self.text
    }

    fn begin(&mut self, name: &'static str, help: &str, kind: &str) -> bool {
        let fresh = self.names.insert(name);
        if fresh {
            let help = help.replace('\\', "\\\\").replace('\n', "\\n");
            self.line(format_args!("# HELP {name} {help}"));
            self.line(format_args!("# TYPE {name} {kind}"));
        }
        fresh
    }

    fn sample(&mut self, name: &str, label: Option<(&str, &str)>, value: impl Display) {
        match label {
            None => self.line(format_args!("{name} {value}")),
            Some((label, text)) => {
                let text = escape(text);
                self.line(format_args!("{name}{{{label}=\"{text}\"}} {value}"));
            }
        }
    }

    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        // Writing to a String cannot fail; only a broken Display could say it has.
        let _ = writeln!(self.text, "{line}");
    }
}

fn escape(text: &str) -> String {
    let text = text.replace('\\', "\\\\").replace('"', "\\\"");
    text.replace('\n', "\\n")
}

/// The whole page.
#[must_use]
pub fn page(context: &HttpContext<'_>) -> String {
    let mut page = Exposition::new();
    page.info(
        "anthill_build_info",
        "Which version this is.",
        "version",
        env!("CARGO_PKG_VERSION"),
    );
    page.gauge(
        "anthill_uptime_seconds",
        "Seconds since the server started.",
        context.at.now.since(context.started).as_secs_f64(),
    );
    page.gauge(
        "anthill_store_up",
        "Whether the store answers.",
        u8::from(context.fleet.store() == StoreView::Up),
    );
    context.fleet.stats().collect(&mut page);
    context.metrics.collect(&mut page);
    page.finish()
}

impl Source for Stats {
    fn collect(&self, page: &mut Exposition) {
        self.collect_gauges(page);
        self.collect_counters(page);
    }
}

impl Stats {
    fn collect_gauges(&self, page: &mut Exposition) {
        let gauges = [
            (
                "anthill_hosts_online",
                "Hosts online now.",
                self.hosts_online,
            ),
            (
                "anthill_hosts_known",
                "Hosts in the table, offline ones included.",
                self.hosts_known,
            ),
            (
                "anthill_hosts_inherited",
                "Hosts held from before a restart that have not come back yet.",
                self.hosts_inherited,
            ),
            (
                "anthill_hosts_at_work",
                "Hosts at work on something.",
                self.hosts_at_work,
            ),
            (
                "anthill_ids_contested",
                "Ids replaced within the last minute or so.",
                self.ids_contested,
            ),
            (
                "anthill_sessions",
                "Connections of hosts open now.",
                self.sessions,
            ),
            (
                "anthill_hosts_at_work",
                "Hosts at work on something.",
                self.hosts_at_work,
            ),
            (
                "anthill_ids_contested",
                "Ids replaced within the last minute or so.",
                self.ids_contested,
            ),
            (
                "anthill_challenges",
                "Connections that have still to prove their key.",
                self.challenges,
            ),
            (
                "anthill_keyed_sessions",
                "Sessions proved by a key.",
                self.keyed_sessions,
            ),
            (
                "anthill_reports_waiting",
                "Reports accepted and not yet settled by the store.",
                self.reports_waiting,
            ),
            (
                "anthill_reports_waiting_bytes",
                "Text of the reports not yet settled by the store.",
                self.report_bytes_waiting,
            ),
            (
                "anthill_presence_behind",
                "Presence changes not yet handed to the store.",
                self.presence_behind,
            ),
            (
                "anthill_tasks_open",
                "Tasks of which something is still awaited.",
                self.tasks_open,
            ),
            (
                "anthill_deliveries_open",
                "Hosts in tasks of which something is still awaited.",
                self.deliveries_open,
            ),
            (
                "anthill_dispatches_waiting",
                "Dispatches under way with the store.",
                self.dispatches_waiting,
            ),
            (
                "anthill_result_held_bytes",
                "Bytes of results held while they arrive.",
                self.result_bytes_held,
            ),
        ];
        for (name, help, value) in gauges {
            page.gauge(name, help, value);
        }
    }

    fn collect_counters(&self, page: &mut Exposition) {
        page.counters(
            "anthill_messages_total",
            "Valid messages, by code.",
            "code",
            self.messages_by_code(),
        );
        page.counters(
            "anthill_abnormal_total",
            "Abnormal data, by kind.",
            "kind",
            self.abnormal_by_kind(),
        );
        page.counters(
            "anthill_offlines_total",
            "Hosts that went offline, by reason.",
            "reason",
            self.offlines_by_reason(),
        );
        let counters = [
            (
                "anthill_onlines_total",
                "Hosts that came online.",
                self.onlines,
            ),
            (
                "anthill_replacements_total",
                "Sessions replaced by a newer one of the same id.",
                self.replacements,
            ),
            (
                "anthill_hellos_refused_total",
                "Hellos refused.",
                self.refused_hellos,
            ),
            (
                "anthill_new_ids_refused_total",
                "Connections refused because their address brought too many new ids within a minute.",
                self.new_ids_refused,
            ),
            (
                "anthill_unknown_keys_refused_total",
                "Reports refused for their number, on keys that this server never stored.",
                self.strays_refused,
            ),
            (
                "anthill_speechless_total",
                "Connections closed because no valid message came in time.",
                self.speechless,
            ),
            (
                "anthill_reports_stored_total",
                "Reports settled for good.",
                self.reports_stored,
            ),
            (
                "anthill_reports_refused_total",
                "Reports refused for good.",
                self.reports_refused,
            ),
            (
                "anthill_report_waits_total",
                "Times a connection had to wait for room.",
                self.waits,
            ),
            (
                "anthill_notices_dropped_total",
                "Events of the fleet dropped for want of room.",
                self.notices_dropped,
            ),
            (
                "anthill_store_sessions_total",
                "Comings-up of the store.",
                self.store_sessions,
            ),
            (
                "anthill_tasks_let_go_total",
                "Tasks that made room for newer ones.",
                self.tasks_let_go,
            ),
            (
                "anthill_sends_total",
                "Datagrams and pushes sent.",
                self.sends,
            ),
            (
                "anthill_resends_total",
                "Datagrams and pushes that had been sent before.",
                self.resends,
            ),
            (
                "anthill_late_answers_total",
                "Reports of hosts taken for lost, or to be without an answer.",
                self.late_answers,
            ),
            (
                "anthill_datagrams_refused_total",
                "Datagrams not taken.",
                self.datagrams_refused,
            ),
            (
                "anthill_datagrams_forged_total",
                "Signed datagrams with a wrong mac, or of nobody who has a session.",
                self.datagrams_forged,
            ),
            (
                "anthill_datagrams_replayed_total",
                "Signed datagrams that had come before.",
                self.datagrams_replayed,
            ),
            (
                "anthill_datagrams_stale_total",
                "Signed datagrams that came too late to know.",
                self.datagrams_stale,
            ),
            (
                "anthill_proofs_refused_total",
                "Proofs of keys that were not accepted.",
                self.proofs_refused,
            ),
            (
                "anthill_results_refused_total",
                "Results that nobody had asked for, or with a wrong digest.",
                self.results_refused,
            ),
        ];
        for (name, help, value) in counters {
            page.counter(name, help, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::testing::{Ants, context, metrics_of};

    #[test]
    fn the_page_is_what_a_scraper_reads() {
        let mut ants = Ants::with_hosts(3);
        ants.stats.messages = [1, 2, 3, 4, 5, 6, 7, 8];
        ants.stats.offlines[2] = 7;
        let families = metrics_of(&page(&context(&ants)));
        let value = |name: &str, sample: &str| families[name].samples[sample].clone();
        assert_eq!(value("anthill_hosts_online", ""), "3");
        assert_eq!(value("anthill_store_up", ""), "1");
        assert_eq!(value("anthill_uptime_seconds", ""), "90.5");
        assert_eq!(value("anthill_messages_total", "code=\"ADH33\""), "3");
        assert_eq!(value("anthill_offlines_total", "reason=\"timeout\""), "7");
        let kinds = ants.stats.abnormal.len();
        assert_eq!(families["anthill_abnormal_total"].samples.len(), kinds);
        for (name, family) in &families {
            assert_eq!(family.kind == "counter", name.ends_with("_total"), "{name}");
        }
    }

    /// Every number of [`Stats`] has its place on the page: what is set in one place only shows
    /// exactly once.
    #[test]
    fn every_number_is_on_the_page() {
        let mut ants = Ants::with_hosts(0);
        ants.stats = Stats {
            hosts_online: 1001,
            hosts_known: 1002,
            hosts_inherited: 1003,
            sessions: 1004,
            hosts_at_work: 1036,
            ids_contested: 1037,
            messages: [1005, 1006, 1007, 1008, 1009, 1038, 1039, 1040],
            abnormal: [
                1010, 1011, 1012, 1013, 1014, 1015, 1016, 1017, 1018, 1099, 1051,
            ],
            onlines: 1019,
            offlines: [1020, 1021, 1022, 1023, 1024],
            replacements: 1025,
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
        };
        let text = page(&context(&ants));
        for number in 1001..=1059 {
            let needle = format!(" {number}\n");
            assert_eq!(text.matches(&needle).count(), 1, "{number}");
        }
    }

    #[test]
    fn labels_and_help_are_escaped_and_names_come_once() {
        let mut page = Exposition::new();
        page.counters("a_total", "x\\y\nz", "l", [("q\"\\\n", 1), ("r", 2)]);
        page.counter("a_total", "again", 3);
        let text = page.finish();
        assert_eq!(
            text,
            "# HELP a_total x\\\\y\\nz\n# TYPE a_total counter\n\
             a_total{l=\"q\\\"\\\\\\n\"} 1\na_total{l=\"r\"} 2\n"
        );
        assert_eq!(metrics_of(&text)["a_total"].samples.len(), 2);
    }

    #[test]
    fn sources_follow_one_another() {
        struct One(&'static str);
        impl Source for One {
            fn collect(&self, page: &mut Exposition) {
                page.gauge(self.0, "One.", 0.5);
            }
        }
        let mut page = Exposition::new();
        let sources: [&dyn Source; 3] = [&One("a"), &(), &One("b")];
        sources.collect(&mut page);
        let families = metrics_of(&page.finish());
        assert_eq!(families["a"].samples[""], "0.5");
        assert_eq!(families["b"].kind, "gauge");
    }
}
