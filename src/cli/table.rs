//! Tables of plain columns, which read the same on a screen, in a pipe and in a mail. On a terminal
//! a table has as many columns as fit, elsewhere all of them.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::time::SystemTime;

use crate::escape;
use comfy_table::{ColumnConstraint, ContentArrangement, Table, presets};

use super::hosts::Host;

const HEADER: [&str; 10] = [
    "ID",
    "STATE",
    "NODE",
    "REASON",
    "SINCE",
    "LAST SEEN",
    "IP",
    "HOSTNAME",
    "MAC",
    "LABELS",
];

/// Columns that are always shown, wrapped if necessary.
const COLUMNS_MIN: usize = 4;
/// Blanks between two columns.
const GAP: u16 = 2;

/// Lines of the table of hosts, the header first. Ages are counted from `now`. `width` limits the
/// characters of a line.
pub fn lines(hosts: &[Host], now: SystemTime, width: Option<u16>) -> Vec<String> {
    // A fleet of one node has no use for its name, nor one without labels for them.
    let nodes: BTreeSet<&String> = hosts.iter().filter_map(|host| host.node.as_ref()).collect();
    let has_labels = hosts.iter().any(|host| !host.labels.is_empty());
    let is_shown = |column: usize| match HEADER[column] {
        "NODE" => nodes.len() > 1,
        "LABELS" => has_labels,
        _ => true,
    };
    let shown: Vec<usize> = (0..HEADER.len()).filter(|at| is_shown(*at)).collect();
    let header: Vec<&str> = shown.iter().map(|at| HEADER[*at]).collect();
    let rows = hosts.iter().map(|host| {
        let mut cells = row(host, now);
        shown
            .iter()
            .map(|at| std::mem::take(&mut cells[*at]))
            .collect::<Vec<_>>()
    });
    columns(&header, rows, width)
}

/// Lines of a table. The cells must be escaped before.
pub fn columns<'a, R: IntoIterator<Item = Cow<'a, str>>>(
    header: &[&str],
    rows: impl Iterator<Item = R>,
    width: Option<u16>,
) -> Vec<String> {
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_header(header.to_vec());
    for row in rows {
        table.add_row(row.into_iter().collect::<Vec<_>>());
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, GAP));
    }
    let left_out = match width {
        Some(width) => fit(&mut table, width),
        None => 0,
    };
    let mut lines: Vec<String> = table
        .lines()
        .map(|line| line.trim_end().to_owned())
        .collect();
    if let Some(header) = lines.first_mut().filter(|_| left_out > 0) {
        // The width was reduced to leave room for the mark.
        let _ = write!(header, " …+{left_out}");
    }
    lines
}

/// Hides columns from the right until the rest fits or is wrapped. Returns the number of hidden
/// columns, for the mark in the header.
fn fit(table: &mut Table, width: u16) -> usize {
    table
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_width(width);
    let widths = table.column_max_content_widths();
    let mut shown = widths.len();
    let wide = |shown: usize| -> u64 {
        widths[..shown]
            .iter()
            .map(|width| u64::from(*width) + u64::from(GAP))
            .sum()
    };
    while shown > COLUMNS_MIN && wide(shown) + mark_width(widths.len() - shown) > u64::from(width) {
        shown -= 1;
    }
    let left_out = widths.len().saturating_sub(shown);
    if left_out > 0 {
        let mark = u16::try_from(mark_width(left_out)).unwrap_or(u16::MAX);
        table.set_width(width.saturating_sub(mark));
    }
    for column in table.column_iter_mut().skip(shown) {
        column.set_constraint(ColumnConstraint::Hidden);
    }
    left_out
}

/// Width of the mark for hidden columns: ` …+4`.
const fn mark_width(left_out: usize) -> u64 {
    match left_out {
        0 => 0,
        1..10 => 4,
        _ => 5,
    }
}

fn row(host: &Host, now: SystemTime) -> [Cow<'_, str>; 10] {
    let labels = host
        .labels
        .iter()
        .map(|(key, value)| format!("{key}={value}"));
    let labels: Vec<String> = labels.collect();
    [
        escape::escape(&host.id),
        escape::escape(&host.state),
        known(&host.node),
        known(&host.reason),
        age(&host.since, now),
        age(&host.last_seen, now),
        known(&host.ip),
        known(&host.hostname),
        known(&host.mac),
        known(&Some(labels.join(","))).into_owned().into(),
    ]
}

/// A text that may be missing.
pub fn known(text: &Option<String>) -> Cow<'_, str> {
    match text.as_deref() {
        None | Some("") => Cow::Borrowed("-"),
        Some(text) => escape::escape(text),
    }
}

/// Age of a time, in its largest unit; a time that does not parse is shown unchanged.
pub fn age(time: &Option<String>, now: SystemTime) -> Cow<'_, str> {
    let Some(then) = time
        .as_deref()
        .and_then(|time| humantime::parse_rfc3339(time).ok())
    else {
        return known(time);
    };
    // The server's clock may be ahead of this one: a future time counts as now.
    let seconds = now
        .duration_since(then)
        .map_or(0, |passed| passed.as_secs());
    Cow::Owned(match seconds {
        0 => "now".to_owned(),
        1..=59 => format!("{seconds}s ago"),
        60..=3_599 => format!("{}m ago", seconds / 60),
        3_600..=172_799 => format!("{}h ago", seconds / 3_600),
        _ => format!("{}d ago", seconds / 86_400),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn host(id: &str) -> Host {
        Host {
            id: id.to_owned(),
            state: "offline".to_owned(),
            node: None,
            reason: Some("timeout".to_owned()),
            since: Some("2026-11-21T10:00:00Z".to_owned()),
            last_seen: Some("2026-11-21T09:59:00.250Z".to_owned()),
            ip: Some("10.0.0.7".to_owned()),
            hostname: None,
            mac: Some(String::new()),
            ipv4: Vec::new(),
            labels: [].into(),
            label_sources: [].into(),
        }
    }

    fn at(time: &str) -> SystemTime {
        humantime::parse_rfc3339(time).unwrap()
    }

    #[test]
    fn a_table_is_plain_columns() {
        let lines = lines(&[host("10.0.0.7")], at("2026-11-21T10:03:10Z"), None);
        assert_eq!(
            lines,
            [
                "ID        STATE    REASON   SINCE   LAST SEEN  IP        HOSTNAME  MAC",
                "10.0.0.7  offline  timeout  3m ago  4m ago     10.0.0.7  -         -",
            ]
        );
    }

    #[test]
    fn hosts_of_several_nodes_name_their_node() {
        let hosts = [Some("n1"), Some("n2"), None].map(|node| Host {
            node: node.map(str::to_owned),
            ..host("a")
        });
        let lines = lines(&hosts, at("2026-11-21T10:03:10Z"), None);
        let node = |line: &String| line.split_whitespace().nth(2).map(str::to_owned);
        let shown: Vec<_> = lines.iter().filter_map(node).collect();
        assert_eq!(shown, ["NODE", "n1", "n2", "-"]);
    }

    #[test]
    fn labels_are_shown_where_hosts_have_some() {
        let mut labelled = host("a");
        labelled.labels = [("dc", "fra"), ("role", "web\n")]
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into();
        let lines = lines(&[labelled, host("b")], at("2026-11-21T10:03:10Z"), None);
        assert!(lines[0].ends_with("MAC  LABELS"), "{}", lines[0]);
        assert!(lines[1].ends_with(r"dc=fra,role=web\u{a}"), "{}", lines[1]);
        assert!(lines[2].ends_with("-    -"), "{}", lines[2]);
    }

    #[test]
    fn text_of_hosts_cannot_steer_the_terminal() {
        let mut host = host("a");
        host.hostname = Some("x\u{1b}[2J\n\u{202e}".to_owned());
        let lines = lines(&[host], at("2026-11-21T10:03:10Z"), None);
        assert_eq!(lines.len(), 2);
        assert!(
            lines[1].contains(r"x\u{1b}[2J\u{a}\u{202e}"),
            "{}",
            lines[1]
        );
    }

    #[test]
    fn no_line_is_wider_than_the_terminal() {
        let long = host(&"a".repeat(64));
        for width in [30, 40, 60, 80] {
            let lines = lines(
                std::slice::from_ref(&long),
                SystemTime::UNIX_EPOCH,
                Some(width),
            );
            assert!(lines[0].contains("…+"), "{}", lines[0]);
            for line in lines {
                assert!(line.chars().count() <= usize::from(width), "{line}");
            }
        }
    }

    #[test]
    fn a_narrow_terminal_drops_columns() {
        let hosts = [host("10.0.0.7")];
        let now = at("2026-11-21T10:03:10Z");
        let narrow = lines(&hosts, now, Some(60));
        assert_eq!(
            narrow,
            [
                "ID        STATE    REASON   SINCE   LAST SEEN …+3",
                "10.0.0.7  offline  timeout  3m ago  4m ago",
            ]
        );
        assert_eq!(lines(&hosts, now, Some(200)), lines(&hosts, now, None));
    }

    #[test]
    fn an_age_is_shown_in_its_largest_unit() {
        let now = at("2026-11-21T10:00:00Z");
        for (seconds, text) in [
            (0, "now"),
            (1, "1s ago"),
            (59, "59s ago"),
            (60, "1m ago"),
            (3_600, "1h ago"),
            (172_799, "47h ago"),
            (172_800, "2d ago"),
        ] {
            let then = now - Duration::from_secs(seconds);
            let time = Some(humantime::format_rfc3339_seconds(then).to_string());
            assert_eq!(age(&time, now), text);
        }
        let ahead = Some("2026-11-21T10:00:05Z".to_owned());
        assert_eq!(age(&ahead, now), "now");
        assert_eq!(age(&Some("soon\n".to_owned()), now), r"soon\u{a}");
        assert_eq!(age(&None, now), "-");
    }
}
