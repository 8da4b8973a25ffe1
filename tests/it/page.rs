//! The page, in a browser.

use rustix::process::Signal;

use super::support::browser::{Browser, DOWN, ENTER, ESCAPE};
use super::support::{Home, Host, Redis, Server, http, need_descriptors, until_so};

const VIEWS: [&str; 7] = [
    "Overview", "Map", "Hosts", "Tasks", "Dispatch", "Devices", "Targets",
];

fn address(server: &Server) -> String {
    format!("http://{}/", server.http)
}

/// Waits until the overview shows this number under `label`.
#[track_caller]
fn until_tile(browser: &Browser, label: &str, value: &str) {
    let script = format!(
        "return [...document.querySelectorAll('.tile')].some((tile) => tile.children[0].innerText === {label:?}
           && tile.children[1].innerText.trim() === {value:?})"
    );
    browser.until(&format!("{label} {value}"), &script);
}

#[track_caller]
fn until_title(browser: &Browser, title: &str) {
    browser.until(
        &format!("the view {title}"),
        &format!("return document.querySelector('h1')?.innerText === {title:?}"),
    );
}

#[track_caller]
fn assert_no_complaints(browser: &Browser) {
    assert_eq!(browser.complaints(), Vec::<String>::new());
}

#[test]
fn the_page_follows_the_fleet() {
    let home = Home::embedded();
    let server = home.start();
    let browser = Browser::start("the_page_follows_the_fleet");
    browser.open(&address(&server));
    browser.until_text("No host has connected yet");
    let mut hosts: Vec<Host> = ["web-1", "web-2", "web-3"]
        .map(|id| Host::named(server.tcp, "127.0.7.1", id))
        .into();
    until_tile(&browser, "Online", "3");
    browser.until_text("127.0.7.0/24");
    drop(hosts.pop());
    until_tile(&browser, "Online", "2");
    until_tile(&browser, "Offline", "1");
    browser.until_text("web-3 is offline: it closed its connection");

    for view in VIEWS {
        browser.click(view);
        until_title(&browser, view);
    }
    browser.click("Hosts");
    browser.until_text("3 hosts.");
    browser.until_text("offline, closed");
    drop(hosts.pop());
    browser.until(
        "web-2 offline in the list",
        "return [...document.querySelectorAll('tr')].some((row) => /web-2\\s+offline/.test(row.innerText))",
    );
    browser.click("web-2");
    until_title(&browser, "web-2");
    browser.until_text("127.0.7.1");

    // A phone: nothing is wider than the window.
    browser.resize(400, 800);
    for view in VIEWS {
        browser.click(view);
        until_title(&browser, view);
        let wide = browser.script(
            "const most = innerWidth; return [...document.querySelectorAll('body *')].filter((e) =>
               e.getBoundingClientRect().right > most + 1 && !e.closest('.grid, .card, .hidden')).map((e) => e.outerHTML.slice(0, 99))
             .concat(document.documentElement.scrollWidth > most ? [`${document.documentElement.scrollWidth}`] : [])",
        );
        assert_eq!(wide, serde_json::json!([]), "{view}");
    }
    assert_no_complaints(&browser);
}

#[test]
fn hostile_names_are_shown_as_text() {
    let home = Home::embedded();
    let server = home.start();
    let mut host = Host::named(server.tcp, "127.0.7.2", "web-1");
    let hostile = "<img src=x onerror=alert(1)>\u{202e}gnp";
    let report = format!(
        r#"{{"flag":"ADH56","ACK":"keepRogerThat","reply":true,"systemInfoTask":{{"hostname":"{hostile}","MACAddress":"00:16","localAddrsIPV4":[]}}}}"#
    );
    host.ask(report.as_bytes());
    let shown = || {
        server
            .host("web-1")
            .is_some_and(|host| host["hostname"].is_string())
    };
    until_so("the report is shown", shown);
    let browser = Browser::start("hostile_names_are_shown_as_text");
    browser.open(&format!("{}#/host/web-1", address(&server)));
    browser.until_text("<img src=x onerror=alert(1)>\\u{202e}gnp");
    let images = browser.script("return document.querySelectorAll('main img').length");
    assert_eq!(images, 0);
    // A hostile address of a view is text as well.
    browser.open(&format!("{}#/task/%3Cb%3E%E2%80%AE", address(&server)));
    until_title(&browser, "<b>\\u{202e}");
    browser.until_text("No such task");
    let refused = "the server responded with a status of 404";
    let complaints = browser.complaints();
    assert!(
        complaints.iter().all(|line| line.contains(refused)),
        "{complaints:?}"
    );
}

#[test]
fn the_page_outlives_a_restart_of_the_server() {
    let mut home = Home::embedded();
    std::fs::write(home.path().join("token"), "sesame-sesame-sesame").unwrap();
    use std::os::unix::fs::PermissionsExt;
    let private = std::fs::Permissions::from_mode(0o600);
    std::fs::set_permissions(home.path().join("token"), private).unwrap();
    home.set("server.http_token_file", "token");
    let server = home.start();
    home.set("server.http", server.http.to_string());
    home.set("server.tcp", server.tcp.to_string());
    let _host = Host::named(server.tcp, "127.0.7.3", "web-1");

    let browser = Browser::start("the_page_outlives_a_restart_of_the_server");
    browser.open(&address(&server));
    browser.until_text("This server asks for a token");
    browser.keys(&format!("wrong-wrong-wrong-{ENTER}"));
    browser.until_text("the token is wrong");
    browser.keys(&format!("sesame-sesame-sesame{ENTER}"));
    until_tile(&browser, "Online", "1");
    browser.until_text("Live · as of");
    assert!(
        browser.url().ends_with('/') || browser.url().contains("#/"),
        "{}",
        browser.url()
    );
    // A reload of this tab needs no token again.
    browser.open(&address(&server));
    until_tile(&browser, "Online", "1");
    let refused = "the server responded with a status of 401";
    let complaints = browser.complaints();
    assert!(
        complaints.iter().all(|line| line.contains(refused)),
        "{complaints:?}"
    );

    // A token that is changed. Refusals of the old one still arrive while the new one is typed.
    std::fs::write(home.path().join("token"), "another-another-another").unwrap();
    browser.open(&address(&server));
    until_tile(&browser, "Online", "1");
    server.signal(Signal::HUP);
    browser.until_text("This server asks for a token");
    browser.keys(&format!("another-another-another{ENTER}"));
    until_tile(&browser, "Online", "1");
    browser.until_text("Live · as of");

    let tcp = server.tcp;
    server.stop();
    browser.until_text("The server does not answer since");
    browser.until(
        "no green",
        "return document.body.classList.contains('stale')",
    );
    let _server = home.start();
    let _other = Host::named(tcp, "127.0.7.3", "web-2");
    browser.until_text("Live · as of");
    until_tile(&browser, "Online", "2");
    let banner = browser.script("return document.getElementById('banner').innerText");
    assert_eq!(banner, "");
}

#[test]
fn a_task_is_sent_by_keyboard_after_its_plan() {
    let home = Home::embedded();
    let server = home.start();
    let _hosts = ["web-1", "web-2", "db-1"].map(|id| Host::named(server.tcp, "127.0.7.4", id));
    let browser = Browser::start("a_task_is_sent_by_keyboard_after_its_plan");
    browser.open(&address(&server));
    until_tile(&browser, "Online", "3");
    // A host, from the list.
    browser.keys("/");
    until_title(&browser, "Hosts");
    browser.until(
        "the search",
        "return document.activeElement.type === 'search'",
    );
    browser.keys("web-*");
    browser.until_text("2 hosts.");
    assert!(
        browser.url().ends_with("#/hosts?target=web-*"),
        "{}",
        browser.url()
    );
    // From the field into the list, and from nowhere.
    browser.keys(DOWN);
    browser.until("the list", "return document.activeElement.matches('.grid')");
    browser.keys(DOWN);
    browser.keys(ENTER);
    until_title(&browser, "web-2");
    browser.keys(ESCAPE);
    until_title(&browser, "Hosts");
    browser.until_text("2 hosts.");
    browser.keys(DOWN);
    browser.until("the list", "return document.activeElement.matches('.grid')");
    // A shared link shows the same hosts.
    browser.open(&format!(
        "{}?view=shared#/hosts?target=web-*",
        address(&server)
    ));
    browser.until_text("2 hosts.");
    browser.open(&format!(
        "{}?view=wrong#/hosts?target=wbe-1",
        address(&server)
    ));
    browser.until_text("wbe-1");
    browser.until_text("web-1");

    // A task: nothing is sent before the plan is confirmed.
    browser.keys("5");
    browser.keys(ESCAPE);
    browser.open(&format!("{}?view=dispatch#/dispatch", address(&server)));
    until_title(&browser, "Dispatch");
    browser.until(
        "the target",
        "return document.activeElement.type === 'search'",
    );
    browser.keys("web-*");
    browser.script("document.querySelector('fieldset input').focus()");
    browser.keys(&format!("uptime{ENTER}"));
    browser.until_text("web-[1-2]");
    browser.until_text("Send to 2 hosts");
    let tasks = http::get(server.http, "/v1/tasks").body;
    assert_eq!(tasks, "{\"tasks\":[],\"next\":null}");
    browser.until(
        "the button",
        "return document.activeElement.innerText === 'Send to 2 hosts'",
    );
    browser.keys(ENTER);
    browser.until("the task", "return location.hash.startsWith('#/task/AC')");
    browser.until_text("2 sent");
}

#[test]
fn a_rollout_is_planned_paused_and_cancelled() {
    let home = Home::embedded();
    let server = home.start();
    let _hosts = ["web-1", "web-2", "web-3"].map(|id| Host::named(server.tcp, "127.0.7.6", id));
    let browser = Browser::start("a_rollout_is_planned_paused_and_cancelled");
    browser.open(&format!("{}#/dispatch?target=web-*", address(&server)));
    until_title(&browser, "Dispatch");
    let focus = |label: &str| {
        let script = format!(
            "const label = [...document.querySelectorAll('label')].find((l) => l.innerText.startsWith({label:?}));
             label?.querySelector('input').focus(); return !!label"
        );
        browser.until(label, &script);
    };
    focus("Command");
    browser.keys("uptime");
    focus("Sizes");
    browser.keys(&format!("1,100%{ENTER}"));
    browser.until_text("1. 1 host: web-1");
    browser.until_text("2. 2 hosts: web-[2-3]");
    browser.click("Send to 3 hosts");
    browser.until_text("running, wave 1 of 2");
    browser.until_text("1 sent, 2 held");
    browser.click("Pause");
    browser.until_text("paused, wave 1 of 2");
    browser.click("Resume");
    browser.until_text("running, wave 1 of 2");
    browser.click("Cancel");
    browser.until_text("3 cancelled");
    assert_no_complaints(&browser);
}

/// Answer of `/v1/ak` with one device.
const DEVICE: &str = r#"
    const page = window.fetch, at = new Date().toISOString();
    const fields = { co: { value: 1.25, unit: 'ppm', valid: true }, hc: { value: 9999, valid: false } };
    const device = { name: 'bench-1', addr: '192.0.2.7:9883', state: 'up', reason: null, since: at,
      values: { AKON: { data: '1.25 #9999', refused: null, at, fields } } };
    window.fetch = (path, options) => String(path).endsWith('v1/ak')
      ? Promise.resolve(new Response(JSON.stringify({ devices: [device] }))) : page(path, options);"#;

#[test]
fn values_of_a_device_have_their_units() {
    let home = Home::embedded();
    let server = home.start();
    let browser = Browser::start("values_of_a_device_have_their_units");
    browser.before_each_page(DEVICE);
    browser.open(&format!("{}#/devices", address(&server)));
    browser.until_text("co 1.25 ppm");
    browser.until_text("hc 9999, invalid");
    assert_no_complaints(&browser);
}

#[test]
fn the_overview_names_nodes_and_store() {
    let mut redis = Redis::start(&[]);
    let servers = ["n1", "n2"].map(|name| {
        let mut home = Home::at(&redis.url());
        home.set("server.name", name);
        let server = home.start();
        server.until_ready(true);
        (server, home)
    });
    let [(first, _home), (second, _other)] = servers;
    let _host = Host::named(first.tcp, "127.0.7.5", "web-1");
    let browser = Browser::start("the_overview_names_nodes_and_store");
    browser.open(&address(&first));
    until_tile(&browser, "Nodes", "2");
    browser.until_text("n1: 1 host");
    browser.until_text("n2: 0 hosts");
    second.stop();
    browser.until(
        "n2 is gone",
        "return /n2 is (silent|dead)/.test(document.body.innerText)",
    );
    assert_no_complaints(&browser);
    redis.kill();
    until_tile(&browser, "Store", "away");
}

/// Longest tasks of the page, in milliseconds, are kept by the browser from here on.
const KEEP_LONG_TASKS: &str = "
    window.longTasks = [];
    new PerformanceObserver((list) => window.longTasks.push(...list.getEntries().map((entry) => entry.duration)))
      .observe({ type: 'longtask', buffered: true });";

/// Scrolls the list, or the map, over its whole length in 100 frames.
const SCROLL: &str = "
    const box = document.querySelector('.grid') ?? document.scrollingElement, done = arguments[0];
    let n = 0;
    (function frame() {
      box.scrollTop = (box.scrollHeight - box.clientHeight) * n / 100;
      if (n++ < 100) requestAnimationFrame(frame); else done(true);
    })();";

/// Rounds among which a busy machine must leave one alone: it prolongs any task.
const ROUNDS: u32 = 8;

/// Opens the list and the map, and scrolls them. Asserts of each that no task of the page is longer
/// than `longest` milliseconds in one of some rounds.
#[track_caller]
fn assert_short_tasks(browser: &Browser, address: &str, hosts: &str, longest: u64) {
    for view in ["hosts", "map"] {
        let mut rounds = Vec::new();
        while rounds.last().is_none_or(|ms| *ms > longest) {
            let round = rounds.len() as u32;
            assert!(
                round < ROUNDS,
                "longest tasks of {view} in milliseconds: {rounds:?}"
            );
            browser.open(&format!("{address}?round={round}{view}#/{view}"));
            browser.until_text(&format!("{hosts} hosts"));
            browser.script_until_done(SCROLL);
            let found = browser.script("return Math.round(Math.max(0, ...window.longTasks))");
            rounds.push(found.as_u64().expect("a length"));
        }
        eprintln!("longest tasks of {view} in milliseconds: {rounds:?}");
    }
}

#[test]
fn ten_thousand_hosts_make_no_long_task() {
    let home = Home::embedded();
    let server = home.start();
    let address = address(&server);
    need_descriptors(3_000);
    // A quarter of them stays. A busy machine may take longer for all than the server waits for a
    // first message, so only some come at once, and each speaks as it connects.
    let (all, step) = (10_000, 500);
    let mut staying = Vec::new();
    for first in (0..all).step_by(step) {
        let beating = |n| {
            let source = format!(
                "127.{}.{}.{}",
                100 + n / 2_500,
                n % 2_500 / 250,
                n % 250 + 1
            );
            let mut host = Host::connect(server.tcp, &source);
            host.beat();
            host
        };
        let hosts: Vec<Host> = (first..first + step).map(beating).collect();
        let known = format!("\"hosts\":{}", first + step);
        until_so(&known, || server.get("/v1/summary").1.contains(&known));
        if first < all / 4 {
            staying.extend(hosts);
        }
    }
    let browser = Browser::start("ten_thousand_hosts_make_no_long_task");
    browser.before_each_page(KEEP_LONG_TASKS);
    assert_short_tasks(&browser, &address, "10,000", 200);
    assert_no_complaints(&browser);
    drop(staying);
}

/// Answers of `/v1/fleet` for 100,000 hosts, made in the browser: the server need not know as many.
const MANY_HOSTS: &str = "
    const [page, limit, served] = [window.fetch, 20000, new Map()];
    for (let from = 0; from < 100000; from += limit) {
      const at = Array.from({ length: limit }, (_, i) => from + i), networks = at.filter((n) => n % 250 === 0);
      const groups = networks.map((n) => `10.${n / 250 >> 8}.${n / 250 & 255}.0/24`), group = at.map((n) => Math.floor((n - from) / 250));
      served.set(String(from || ''), JSON.stringify({
        at: new Date().toISOString(), states: ['online', 'offline', 'timeout'], id: at.map((n) => `web-${n}`), state: at.map((n) => n % 9 ? 0 : 2),
        silence_s: at.map((n) => n % 60), groups: [groups], group: [group], next: from + limit < 100000 ? String(from + limit) : null }));
    }
    window.fetch = (path, options) => {
      const url = new URL(path, location.href);
      if (!url.pathname.endsWith('/v1/fleet')) return page(path, options);
      return Promise.resolve(new Response(served.get(url.searchParams.get('cursor') ?? '')));
    };";

#[test]
fn a_hundred_thousand_hosts_make_no_long_task() {
    let home = Home::embedded();
    let server = home.start();
    let browser = Browser::start("a_hundred_thousand_hosts_make_no_long_task");
    // What makes the answers is no task of the page.
    browser.before_each_page(MANY_HOSTS);
    browser.before_each_page(&KEEP_LONG_TASKS.replace("buffered: true", "buffered: false"));
    // A quiet machine stays below 100; other programs of the suite have theirs, too.
    assert_short_tasks(&browser, &address(&server), "100,000", 400);
}
