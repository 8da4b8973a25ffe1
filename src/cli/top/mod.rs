//! `anthill top`: the fleet in a terminal, refreshed every second.
//!
//! ```text
//!  thread "top": target ──▶ requests ──▶ channel ─┐
//!                                                 ├──▶ Screen ──▶ draw
//!  keys, resizes, SIGTERM ────────────────────────┘
//! ```
//!
//! A server that does not answer delays no key. The terminal is restored at the end, after a panic,
//! and at a signal that ends it.

mod draw;

use std::io::{self, IsTerminal};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use ratatui::widgets::TableState;
use serde::Deserialize;
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};

use super::api::{Api, ApiError};
use super::args::TopArgs;
use super::pages::percent_encoded;
use super::{Failure, print, rollout, terminal};
use crate::codec::target::Target;

/// Pause between two requests.
const PERIOD: Duration = Duration::from_secs(1);
/// Longest wait for a key before the screen looks at the channel and the signals.
const KEY_WAIT: Duration = Duration::from_millis(100);
/// Tasks that are requested.
const TASKS: usize = 200;
/// Size of the frame of `--once` where stdout is no terminal.
const FRAME: terminal::Size = terminal::Size {
    columns: 80,
    rows: 24,
};

/// Shows the fleet until `q`, or one frame of it.
///
/// # Errors
/// Wrong usage, no terminal, or no good answer from a server at the start.
pub fn run(args: &TopArgs) -> Result<(), Failure> {
    if let Some(target) = &args.target {
        Target::parse(target).map_err(Failure::usage)?;
    }
    let api = Api::new(&args.api)?;
    let target = args.target.clone().unwrap_or_default();
    if args.once {
        return once(&api, &target);
    }
    if !io::stdout().is_terminal() {
        return Err(Failure::usage(
            "stdout is no terminal: --once prints one frame anywhere",
        ));
    }
    // A wrong address, token or target is an error before the screen is taken.
    let mut screen = Screen::new(target.clone());
    screen.take(Facts::fetch(&api, &target)?);
    let signals = Arc::new(AtomicBool::new(false));
    for signal in [SIGTERM, SIGHUP, SIGINT, SIGQUIT] {
        signal_hook::flag::register(signal, Arc::clone(&signals)).map_err(Failure::failed)?;
    }
    let (wishes, wished) = channel();
    let (facts, fetched) = channel();
    let thread = thread::Builder::new().name("top".to_owned());
    let ask = move || fetch_on(&api, target, &wished, &facts);
    thread.spawn(ask).map_err(Failure::failed)?;
    let mut terminal = ratatui::try_init().map_err(Failure::failed)?;
    let end = watch(&mut terminal, &mut screen, &signals, &wishes, &fetched);
    ratatui::restore();
    end.map_err(Failure::failed)
}

/// Prints one frame. Rates need two samples of the server.
fn once(api: &Api, target: &str) -> Result<(), Failure> {
    let mut screen = Screen::new(target.to_owned());
    screen.take(Facts::fetch(api, target)?);
    thread::sleep(PERIOD);
    screen.take(Facts::fetch(api, target)?);
    let terminal::Size { columns, rows } = terminal::size().unwrap_or(FRAME);
    print(&screen.frame(columns, rows))
}

/// Draws and handles keys until the end.
fn watch(
    terminal: &mut ratatui::DefaultTerminal,
    screen: &mut Screen,
    signals: &AtomicBool,
    wishes: &Sender<String>,
    fetched: &Receiver<Fetched>,
) -> io::Result<()> {
    loop {
        terminal.draw(|frame| draw::draw(frame, screen))?;
        // On a closed terminal the library would read without end.
        if !terminal::wait_for_input(KEY_WAIT) {
            return Ok(());
        }
        while event::poll(Duration::ZERO)? {
            match event::read()? {
                Event::Key(key) if key.kind != KeyEventKind::Release => match screen.key(key) {
                    Step::Stay => {}
                    Step::Quit => return Ok(()),
                    Step::Target(target) => {
                        let _ = wishes.send(target);
                    }
                },
                _ => {}
            }
        }
        if signals.load(Ordering::Relaxed) {
            return Ok(());
        }
        while let Ok((target, facts)) = fetched.try_recv() {
            // An answer for an earlier target is dropped.
            if target == screen.target {
                match facts {
                    Ok(facts) => screen.take(facts),
                    Err(error) => screen.miss(&error),
                }
            }
        }
    }
}

/// An answer, with the target of its request.
type Fetched = (String, Result<Facts, ApiError>);

/// Requests the facts of the latest target each second, until the screen is gone.
fn fetch_on(api: &Api, mut target: String, wished: &Receiver<String>, facts: &Sender<Fetched>) {
    loop {
        match wished.recv_timeout(PERIOD) {
            Ok(wish) => target = wished.try_iter().last().unwrap_or(wish),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        let found = Facts::fetch(api, &target);
        if facts.send((target.clone(), found)).is_err() {
            return;
        }
    }
}

/// Answers of the server at one moment.
struct Facts {
    summary: Summary,
    tasks: Vec<Task>,
    health: Health,
    at: Instant,
}

impl Facts {
    fn fetch(api: &Api, target: &str) -> Result<Self, ApiError> {
        let path = match target {
            "" => "/v1/summary".to_owned(),
            target => format!("/v1/summary?target={}", percent_encoded(target)),
        };
        let summary = api.get(&path)?;
        let tasks: Tasks = api.get(&format!("/v1/tasks?limit={TASKS}"))?;
        Ok(Self {
            summary,
            tasks: tasks.tasks,
            health: api.get("/healthz")?,
            at: Instant::now(),
        })
    }
}

#[derive(Default, Deserialize)]
struct Summary {
    hosts: u64,
    online: u64,
    offline: Counts,
    lost_1h: u64,
    timeout_s: f64,
    offlines_total: Counts,
    groups: Vec<Group>,
    silent: Vec<Silent>,
    rest: Option<Rest>,
}

/// Counts by name, in the server's order.
#[derive(Default)]
struct Counts(Vec<(String, u64)>);

impl<'de> Deserialize<'de> for Counts {
    fn deserialize<D: serde::Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Counts;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("counts by name")
            }

            fn visit_map<M: serde::de::MapAccess<'de>>(
                self,
                mut map: M,
            ) -> Result<Counts, M::Error> {
                let mut counts = Vec::new();
                while let Some(count) = map.next_entry()? {
                    counts.push(count);
                }
                Ok(Counts(counts))
            }
        }
        input.deserialize_map(Visitor)
    }
}

#[derive(Deserialize)]
struct Group {
    name: String,
    online: u64,
    offline: u64,
}

/// Sum of the groups that are not listed.
#[derive(Deserialize)]
struct Rest {
    groups: u64,
    online: u64,
    offline: u64,
}

#[derive(Deserialize)]
struct Silent {
    id: String,
    silence_s: u64,
}

#[derive(Deserialize)]
struct Tasks {
    tasks: Vec<Task>,
}

#[derive(Deserialize)]
struct Task {
    key: String,
    created: Option<String>,
    hosts: Counts,
    rollout: Option<rollout::State>,
}

/// States of a host that has not finished its task.
const OPEN: [&str; 5] = ["held", "queued", "sent", "answered", "working"];

impl Task {
    fn total(&self) -> u64 {
        self.hosts.0.iter().map(|(_, count)| count).sum()
    }

    fn open(&self) -> u64 {
        let open = |(state, _): &&(String, u64)| OPEN.contains(&state.as_str());
        self.hosts
            .0
            .iter()
            .filter(open)
            .map(|(_, count)| count)
            .sum()
    }
}

#[derive(Default, Deserialize)]
struct Health {
    store: String,
    uptime_s: f64,
}

/// Effect of a key on the program.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    Stay,
    Quit,
    Target(String),
}

/// State of the screen.
struct Screen {
    target: String,
    /// The text that is being typed after `/`.
    typed: Option<String>,
    /// Syntax error of the typed target, until the next key.
    refused: Option<String>,
    facts: Option<Facts>,
    /// Losses a second by reason, over the last period.
    rates: Vec<(String, f64)>,
    /// The last error, until an answer comes.
    problem: Option<String>,
    groups: TableState,
}

impl Screen {
    fn new(target: String) -> Self {
        Self {
            target,
            typed: None,
            refused: None,
            facts: None,
            rates: Vec::new(),
            problem: None,
            groups: TableState::default(),
        }
    }

    fn take(&mut self, facts: Facts) {
        let before = self.facts.as_ref();
        let elapsed = before.map_or(0.0, |before| (facts.at - before.at).as_secs_f64());
        let counts = facts.summary.offlines_total.0.iter();
        self.rates = counts
            .map(|(reason, count)| {
                let totals = before.map(|before| &before.summary.offlines_total.0);
                let old = totals
                    .into_iter()
                    .flatten()
                    .find(|(name, _)| name == reason);
                // A server that was restarted counts from zero.
                let more = old.map_or(0, |(_, old)| count.saturating_sub(*old));
                let rate = if elapsed > 0.0 {
                    more as f64 / elapsed
                } else {
                    0.0
                };
                (reason.clone(), rate)
            })
            .collect();
        let last = facts.summary.groups.len().saturating_sub(1);
        if let Some(selected) = self.groups.selected() {
            self.groups.select(Some(selected.min(last)));
        }
        self.facts = Some(facts);
        self.problem = None;
    }

    fn miss(&mut self, error: &ApiError) {
        self.problem = Some(error.to_string());
    }

    /// Handles a key.
    fn key(&mut self, key: KeyEvent) -> Step {
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        if control && key.code == KeyCode::Char('c') {
            return Step::Quit;
        }
        self.refused = None;
        if let Some(typed) = &mut self.typed {
            match key.code {
                KeyCode::Enter => {
                    let target = typed.trim().to_owned();
                    match Target::parse(&target) {
                        Err(error) if !target.is_empty() => self.refused = Some(error.to_string()),
                        _ => {
                            self.typed = None;
                            return self.select(target);
                        }
                    }
                }
                KeyCode::Esc => self.typed = None,
                KeyCode::Backspace => drop(typed.pop()),
                KeyCode::Char('u') if control => typed.clear(),
                KeyCode::Char(c) if !control => typed.push(c),
                _ => {}
            }
            return Step::Stay;
        }
        match key.code {
            KeyCode::Char('q') => return Step::Quit,
            KeyCode::Char('/') => self.typed = Some(self.target.clone()),
            KeyCode::Esc if !self.target.is_empty() => return self.select(String::new()),
            KeyCode::Esc => self.groups.select(None),
            KeyCode::Down | KeyCode::Char('j') => self.step(1),
            KeyCode::Up | KeyCode::Char('k') => self.step(-1),
            KeyCode::PageDown => self.step(10),
            KeyCode::PageUp => self.step(-10),
            KeyCode::Home => self.step(isize::MIN / 2),
            KeyCode::End => self.step(isize::MAX / 2),
            KeyCode::Enter => {
                let groups = self.facts.as_ref().map_or(&[][..], |f| &f.summary.groups);
                let group = self.groups.selected().and_then(|at| groups.get(at));
                if let Some(group) = group.filter(|group| !group.name.is_empty()) {
                    let target = group.name.clone();
                    return self.select(target);
                }
            }
            _ => {}
        }
        Step::Stay
    }

    fn select(&mut self, target: String) -> Step {
        if target == self.target {
            return Step::Stay;
        }
        self.target.clone_from(&target);
        self.groups.select(None);
        Step::Target(target)
    }

    /// Moves in the table of groups.
    fn step(&mut self, by: isize) {
        let count = self.facts.as_ref().map_or(0, |f| f.summary.groups.len());
        if count > 0 {
            let from = self.groups.selected().map_or(-1, |at| at as isize);
            let to = from.saturating_add(by).clamp(0, count as isize - 1);
            self.groups.select(Some(to as usize));
        }
    }

    /// One frame as text.
    fn frame(&mut self, columns: u16, rows: u16) -> String {
        // This backend cannot fail.
        let Ok(mut terminal) = Terminal::new(TestBackend::new(columns, rows));
        let Ok(_) = terminal.draw(|frame| draw::draw(frame, self));
        let buffer = terminal.backend().buffer();
        let mut text = String::new();
        for row in 0..rows {
            let line: String = (0..columns).map(|x| buffer[(x, row)].symbol()).collect();
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(lost: u64) -> Facts {
        let summary = serde_json::json!({
            "at": "2026-11-30T16:00:00.000Z", "hosts": 1_234, "online": 1_200,
            "offline": {"unknown": 0, "closed": 30, "reset": 0, "timeout": 4, "abnormal": 0, "lost": 0},
            "lost_1h": 34, "timeout_s": 60.0,
            "offlines_total": {"closed": 30 + lost, "timeout": 4},
            "groups": (0..40).map(|n| serde_json::json!(
                {"name": format!("10.0.{n}.0/24"), "online": 30, "offline": n % 3})).collect::<Vec<_>>(),
            "rest": {"groups": 7, "online": 6, "offline": 5},
            "silent": [{"id": "web-7\u{202e}", "silence_s": 41}, {"id": "db-1", "silence_s": 3}],
        });
        let tasks = serde_json::json!({"tasks": [
            {"key": "AC1", "created": "2026-11-30T15:59:00.000Z", "hosts": {"done": 75, "working": 25}},
            {"key": "AC0", "created": null, "hosts": {"done": 10}},
            {"key": "AC-rollout-of-the-weekly-upgrade", "created": null, "hosts": {"held": 9},
             "rollout": {"state": "paused", "wave": 1, "waves": 2, "why": null}},
        ]});
        let health = serde_json::json!({"store": "up", "uptime_s": 7_260.0});
        let tasks: Tasks = serde_json::from_value(tasks).unwrap();
        Facts {
            summary: serde_json::from_value(summary).unwrap(),
            tasks: tasks.tasks,
            health: serde_json::from_value(health).unwrap(),
            at: Instant::now(),
        }
    }

    fn screen() -> Screen {
        let mut screen = Screen::new(String::new());
        let mut first = facts(0);
        first.at -= Duration::from_secs(2);
        let at = first.at;
        screen.take(first);
        let mut second = facts(7);
        second.at = at + Duration::from_secs(2);
        screen.take(second);
        screen
    }

    fn press(screen: &mut Screen, code: KeyCode) -> Step {
        screen.key(KeyEvent::new(code, KeyModifiers::NONE))
    }

    #[test]
    fn a_frame_has_all_parts_at_both_sizes() {
        for (columns, rows) in [(80, 24), (200, 60)] {
            let text = screen().frame(columns, rows);
            for part in [
                "1,200 online",
                "34 offline",
                "34 lost in the last hour",
                "30 closed",
                "3.5/s",
                "10.0.0.0/24",
                "web-7\\u{202e}",
                "41 s",
                "AC1",
                "75/100",
                "25 working",
                "paused, 9 held",
                "store up",
                "q quit",
            ] {
                assert!(text.contains(part), "{part} at {columns}:\n{text}");
            }
            assert!(!text.contains("AC0"), "it has ended:\n{text}");
            let key = match columns {
                80 => "AC-rollout-of-the-wee ",
                _ => "AC-rollout-of-the-weekly-upgrade ",
            };
            assert!(text.contains(key), "{text}");
            let widest = text.lines().map(|line| line.chars().count()).max();
            assert!(widest <= Some(usize::from(columns)));
            assert_eq!(text.lines().count(), usize::from(rows));
        }
    }

    #[test]
    fn small_terminals_are_drawn_without_a_panic() {
        for columns in [1, 5, 20, 39, 80] {
            for rows in [1, 2, 5, 9, 13] {
                let text = screen().frame(columns, rows);
                assert_eq!(text.lines().count(), usize::from(rows));
            }
        }
        let mut empty = Screen::new("web-*".to_owned());
        assert!(empty.frame(80, 24).contains("web-*"));
    }

    #[test]
    fn a_slash_types_a_target() {
        let mut screen = screen();
        press(&mut screen, KeyCode::Char('/'));
        for c in "web-*q".chars() {
            assert_eq!(press(&mut screen, KeyCode::Char(c)), Step::Stay);
        }
        press(&mut screen, KeyCode::Backspace);
        assert!(screen.frame(80, 24).contains("/web-*"));
        let target = "web-*".to_owned();
        assert_eq!(press(&mut screen, KeyCode::Enter), Step::Target(target));
        assert_eq!(
            press(&mut screen, KeyCode::Esc),
            Step::Target(String::new())
        );
        press(&mut screen, KeyCode::Char('/'));
        for c in "a,,b".chars() {
            press(&mut screen, KeyCode::Char(c));
        }
        assert_eq!(press(&mut screen, KeyCode::Enter), Step::Stay);
        screen.take(facts(9));
        let frame = screen.frame(80, 24);
        assert!(frame.contains("/a,,b█  "), "{frame}");
        assert!(frame.contains("empty term"), "an answer keeps it:\n{frame}");
        press(&mut screen, KeyCode::Backspace);
        assert!(!screen.frame(80, 24).contains("empty term"));
        press(&mut screen, KeyCode::Esc);
        assert_eq!(press(&mut screen, KeyCode::Char('q')), Step::Quit);
    }

    #[test]
    fn arrows_select_a_group() {
        let mut screen = screen();
        press(&mut screen, KeyCode::Down);
        press(&mut screen, KeyCode::Down);
        let target = "10.0.1.0/24".to_owned();
        assert_eq!(press(&mut screen, KeyCode::Enter), Step::Target(target));
        press(&mut screen, KeyCode::End);
        assert_eq!(screen.groups.selected(), Some(39));
        assert!(screen.frame(80, 24).contains("10.0.39.0/24"), "it scrolls");
        assert!(screen.frame(80, 60).contains("7 more"));
        press(&mut screen, KeyCode::Home);
        assert_eq!(screen.groups.selected(), Some(0));
    }
}
