//! Frame of `anthill top`.

use std::time::SystemTime;

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style, Stylize};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Borders, Cell, Gauge, Paragraph, Row, Table};

use super::{Facts, Screen, Summary};
use crate::cli::bench::text::grouped;
use crate::cli::{color, rollout, table};
use crate::escape::escape;

/// Lines of the table of losses: border, and five reasons.
const LOSSES_LINES: u16 = 6;
/// Lines of the table of tasks at most, its border included.
const TASKS_LINES_MAX: u16 = 12;
/// Columns of the key of a task at least; a longer key takes a quarter of the terminal at most.
const KEY_COLUMNS: u16 = 21;
/// Number of columns from which all three tables are shown side by side.
const WIDE: u16 = 120;

/// Draws everything.
pub(super) fn draw(frame: &mut Frame<'_>, screen: &mut Screen) {
    let [title, counts, body, foot] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(2),
        Constraint::Fill(1),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    draw_title(frame, title, screen);
    draw_foot(frame, foot, screen);
    let Some(facts) = &screen.facts else {
        return;
    };
    draw_counts(frame, counts, &facts.summary);
    let open = facts.tasks.iter().filter(|task| task.open() > 0).count();
    let tasks_lines = u16::try_from(open.max(1)).unwrap_or(TASKS_LINES_MAX) + 1;
    let [upper, tasks] = Layout::vertical([
        Constraint::Fill(1),
        Constraint::Length(tasks_lines.min(TASKS_LINES_MAX).min(body.height / 3)),
    ])
    .areas(body);
    let (groups, losses, silent) = if upper.width >= WIDE {
        let [groups, losses, silent] = Layout::horizontal([
            Constraint::Fill(2),
            Constraint::Fill(1),
            Constraint::Fill(1),
        ])
        .spacing(2)
        .areas(upper);
        (groups, losses, silent)
    } else {
        let [groups, right] = Layout::horizontal([Constraint::Fill(5), Constraint::Fill(4)])
            .spacing(2)
            .areas(upper);
        let [losses, silent] =
            Layout::vertical([Constraint::Length(LOSSES_LINES), Constraint::Fill(1)]).areas(right);
        (groups, losses, silent)
    };
    draw_losses(frame, losses, screen);
    draw_silent(frame, silent, &facts.summary);
    draw_tasks(frame, tasks, facts);
    draw_groups(frame, groups, screen);
}

fn coloured(of: Color) -> Style {
    match color::is_on() {
        true => Style::new().fg(of),
        false => Style::new(),
    }
}

fn span(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} d", seconds / 86_400),
    }
}

fn draw_title(frame: &mut Frame<'_>, area: Rect, screen: &Screen) {
    let mut left = vec![Span::from("anthill top").bold()];
    if !screen.target.is_empty() {
        left.push(Span::from(format!("  {}", escape(&screen.target))).style(coloured(Color::Cyan)));
    }
    frame.render_widget(Line::from(left), area);
    if let Some(facts) = &screen.facts {
        let health = &facts.health;
        let up = span(health.uptime_s as u64);
        let text = format!("store {}, up {up}", escape(&health.store));
        frame.render_widget(Line::from(text).right_aligned(), area);
    }
}

fn draw_foot(frame: &mut Frame<'_>, area: Rect, screen: &Screen) {
    let bad = |text: &str| {
        let text = escape(text).into_owned();
        Span::from(text).style(coloured(Color::Red)).bold()
    };
    let line = match (&screen.typed, &screen.problem) {
        (Some(typed), _) => {
            let mut parts = vec![Span::from(format!("/{}█", escape(typed)))];
            if let Some(refused) = &screen.refused {
                parts.extend([Span::from("  "), bad(refused)]);
            }
            Line::from(parts)
        }
        (None, Some(problem)) => Line::from(bad(problem)),
        (None, None) if screen.facts.is_none() => Line::from("waiting for the server"),
        (None, None) => Line::from("q quit  / target  ↑↓ group  Enter narrow  Esc all").dim(),
    };
    frame.render_widget(line, area);
}

fn draw_counts(frame: &mut Frame<'_>, area: Rect, summary: &Summary) {
    let [text, bar] = Layout::vertical([Constraint::Length(1), Constraint::Length(1)]).areas(area);
    let offline = summary.hosts.saturating_sub(summary.online);
    let mut parts = vec![
        Span::from(format!("{} online", grouped(summary.online)))
            .style(coloured(Color::Green))
            .bold(),
        Span::from(format!("  {} offline", grouped(offline))).bold(),
    ];
    let lost = grouped(summary.lost_1h);
    parts.push(Span::from(format!("  {lost} lost in the last hour")));
    let reasons = summary.offline.0.iter().filter(|(_, count)| *count > 0);
    let reasons: Vec<String> = reasons
        .map(|(reason, count)| format!("{} {}", grouped(*count), escape(reason)))
        .collect();
    if !reasons.is_empty() {
        parts.push(Span::from(format!("  ({})", reasons.join(", "))));
    }
    frame.render_widget(Line::from(parts), text);
    let share = match summary.hosts {
        0 => 0.0,
        hosts => (summary.online as f64 / hosts as f64).clamp(0.0, 1.0),
    };
    let label = match summary.hosts {
        0 => "no host is known".to_owned(),
        hosts => format!(
            "{:.1} % of {}",
            (share * 1_000.0).floor() / 10.0,
            grouped(hosts)
        ),
    };
    let style = coloured(Color::Green).add_modifier(Modifier::DIM);
    let gauge = Gauge::default()
        .ratio(share)
        .label(label)
        .gauge_style(style);
    frame.render_widget(gauge.use_unicode(true), bar);
}

/// A border above a table, with its title.
fn titled(title: &str) -> Block<'_> {
    Block::new()
        .borders(Borders::TOP)
        .title(Line::from(title).bold())
}

fn right(text: String) -> Cell<'static> {
    Cell::from(Line::from(text).right_aligned())
}

fn draw_groups(frame: &mut Frame<'_>, area: Rect, screen: &mut Screen) {
    let Some(facts) = &screen.facts else {
        return;
    };
    let rows = facts.summary.groups.iter().map(|group| {
        let name = match group.name.as_str() {
            "" => "(none)".into(),
            name => escape(name),
        };
        let offline = match group.offline {
            0 => right("-".to_owned()),
            count => right(grouped(count)).style(coloured(Color::Red)),
        };
        Row::new([
            Cell::from(name.into_owned()),
            right(grouped(group.online)),
            offline,
        ])
    });
    let widths = [
        Constraint::Fill(1),
        Constraint::Length(9),
        Constraint::Length(9),
    ];
    let head = Row::new([
        Cell::from("GROUP"),
        right("ONLINE".to_owned()),
        right("OFFLINE".to_owned()),
    ]);
    let rest = facts.summary.rest.as_ref().map(|rest| {
        Row::new([
            Cell::from(format!("{} more", grouped(rest.groups))),
            right(grouped(rest.online)),
            right(grouped(rest.offline)),
        ])
        .dim()
    });
    let table = Table::new(rows.chain(rest), widths)
        .header(head.dim())
        .block(titled("Groups "))
        .row_highlight_style(Style::new().add_modifier(Modifier::REVERSED));
    frame.render_stateful_widget(table, area, &mut screen.groups);
}

fn draw_losses(frame: &mut Frame<'_>, area: Rect, screen: &Screen) {
    let rows = screen.rates.iter().map(|(reason, rate)| {
        let style = if *rate > 0.0 {
            coloured(Color::Red)
        } else {
            Style::new()
        };
        Row::new([
            Cell::from(escape(reason).into_owned()),
            right(format!("{rate:.1}/s")),
        ])
        .style(style)
    });
    let widths = [Constraint::Fill(1), Constraint::Length(10)];
    let table = Table::new(rows, widths).block(titled("Losses "));
    frame.render_widget(table, area);
}

fn draw_silent(frame: &mut Frame<'_>, area: Rect, summary: &Summary) {
    let rows = summary.silent.iter().map(|silent| {
        let is_late = silent.silence_s as f64 > summary.timeout_s / 2.0;
        let style = if is_late {
            coloured(Color::Yellow)
        } else {
            Style::new()
        };
        Row::new([
            Cell::from(escape(&silent.id).into_owned()),
            right(span(silent.silence_s)),
        ])
        .style(style)
    });
    let widths = [Constraint::Fill(1), Constraint::Length(8)];
    let table = Table::new(rows, widths).block(titled("Longest silence "));
    frame.render_widget(table, area);
}

fn draw_tasks(frame: &mut Frame<'_>, area: Rect, facts: &Facts) {
    let now = SystemTime::now();
    let open: Vec<_> = facts.tasks.iter().filter(|task| task.open() > 0).collect();
    if open.is_empty() {
        let none = Paragraph::new("no task is open").dim();
        return frame.render_widget(none.block(titled("Open tasks ")), area);
    }
    let longest = open.iter().map(|task| escape(&task.key).chars().count());
    let key = longest.max().and_then(|most| u16::try_from(most).ok());
    let key = key.map_or(KEY_COLUMNS, |most| {
        most.clamp(KEY_COLUMNS, KEY_COLUMNS.max(area.width / 4))
    });
    let rows = open.iter().map(|task| {
        let (total, left) = (task.total(), task.open());
        let states = task.hosts.0.iter();
        let mut states: Vec<String> = states
            .map(|(state, count)| format!("{} {}", grouped(*count), escape(state)))
            .collect();
        if task.rollout.as_ref().is_some_and(rollout::State::is_paused) {
            states.insert(0, "paused".to_owned());
        }
        let done = total - left;
        let full = (done * 10 / total.max(1)) as usize;
        let bar = format!("{}{}", "█".repeat(full), "░".repeat(10 - full));
        Row::new([
            Cell::from(escape(&task.key).into_owned()),
            Cell::from(table::age(&task.created, now).into_owned()),
            Cell::from(bar),
            right(format!("{}/{}", grouped(done), grouped(total))),
            Cell::from(states.join(", ")),
        ])
    });
    let widths = [
        Constraint::Length(key),
        Constraint::Length(8),
        Constraint::Length(10),
        Constraint::Length(13),
        Constraint::Fill(1),
    ];
    let table = Table::new(rows, widths).block(titled("Open tasks "));
    frame.render_widget(table, area);
}
