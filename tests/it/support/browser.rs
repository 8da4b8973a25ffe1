//! A Chromium, driven over WebDriver.

use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::{Value, json};

use super::until;

/// A browser with one window. Dropped, it is ended with all its processes; after a failure it first
/// leaves a picture of the window.
pub struct Browser {
    driver: std::process::Child,
    /// URL of the session.
    session: String,
    agent: ureq::Agent,
    /// Name of the picture.
    name: &'static str,
    _profile: tempfile::TempDir,
}

/// Time of a script that waits for frames. A busy machine draws some in a second.
const SCRIPT_MS: u64 = 150_000;

/// A key of the keyboard, as WebDriver names it.
pub const ENTER: &str = "\u{e007}";
pub const ESCAPE: &str = "\u{e00c}";
pub const DOWN: &str = "\u{e015}";

impl Browser {
    /// Starts a browser. `scripts/test` installs it.
    #[track_caller]
    pub fn start(name: &'static str) -> Self {
        let profile = tempfile::tempdir().unwrap();
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = port.local_addr().unwrap();
        drop(port);
        let driver = Command::new("chromedriver")
            .arg(format!("--port={}", address.port()))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .unwrap_or_else(|error| {
                panic!("chromium and chromedriver are needed, scripts/test installs them: {error}")
            });
        let config = ureq::Agent::config_builder()
            .timeout_global(Some(Duration::from_millis(SCRIPT_MS + 30_000)))
            .http_status_as_error(false)
            .proxy(None)
            .build();
        let mut browser = Self {
            driver,
            session: format!("http://{address}"),
            agent: config.into(),
            name,
            _profile: profile,
        };
        let profile = format!("--user-data-dir={}", browser._profile.path().display());
        let arguments = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--disable-dev-shm-usage",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            profile.as_str(),
        ];
        let wish = json!({"capabilities": {"alwaysMatch": {
            "browserName": "chrome",
            "timeouts": {"script": SCRIPT_MS},
            "goog:chromeOptions": {"args": arguments},
            "goog:loggingPrefs": {"browser": "ALL"},
        }}});
        let session = until("a browser", || {
            let session = browser.try_ask("POST", "/session", &wish).ok()?;
            session["sessionId"].as_str().map(str::to_owned)
        });
        browser.session += &format!("/session/{session}");
        browser.resize(1280, 800);
        browser
    }

    fn try_ask(&self, method: &str, path: &str, body: &Value) -> Result<Value, String> {
        let url = format!("{}{path}", self.session);
        let answer = match method {
            "GET" => self.agent.get(&url).call(),
            "DELETE" => self.agent.delete(&url).call(),
            _ => self.agent.post(&url).send(body.to_string()),
        };
        let mut answer = answer.map_err(|error| error.to_string())?;
        let text = answer.body_mut().read_to_string();
        let text = text.map_err(|error| error.to_string())?;
        let mut json: Value = serde_json::from_str(&text).map_err(|error| error.to_string())?;
        match answer.status().is_success() {
            true => Ok(json["value"].take()),
            false => Err(json["value"]["message"].to_string()),
        }
    }

    #[track_caller]
    fn ask(&self, method: &str, path: &str, body: Value) -> Value {
        self.try_ask(method, path, &body)
            .unwrap_or_else(|error| panic!("{method} {path}: {error}"))
    }

    /// Opens a page.
    #[track_caller]
    pub fn open(&self, url: &str) {
        self.ask("POST", "/url", json!({ "url": url }));
    }

    /// The address of the page.
    #[track_caller]
    pub fn url(&self) -> String {
        self.ask("GET", "/url", Value::Null)
            .as_str()
            .unwrap()
            .to_owned()
    }

    /// Gives the window's content this size.
    #[track_caller]
    pub fn resize(&self, width: u32, height: u32) {
        let size =
            json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false});
        self.devtools("Emulation.setDeviceMetricsOverride", size);
    }

    fn devtools(&self, command: &str, parameters: Value) -> Value {
        let body = json!({"cmd": command, "params": parameters});
        self.ask("POST", "/goog/cdp/execute", body)
    }

    /// Result of a script.
    #[track_caller]
    pub fn script(&self, script: &str) -> Value {
        self.ask(
            "POST",
            "/execute/sync",
            json!({"script": script, "args": []}),
        )
    }

    /// Waits until a script has called its first argument.
    #[track_caller]
    pub fn script_until_done(&self, script: &str) -> Value {
        self.ask(
            "POST",
            "/execute/async",
            json!({"script": script, "args": []}),
        )
    }

    /// Runs a script in each later page before the page's own.
    pub fn before_each_page(&self, script: &str) {
        let command = "Page.addScriptToEvaluateOnNewDocument";
        self.devtools(command, json!({ "source": script }));
    }

    /// The text that is visible.
    #[track_caller]
    pub fn text(&self) -> String {
        let text = self.script("return document.body.innerText");
        text.as_str().unwrap_or_default().to_owned()
    }

    /// Waits for a text.
    #[track_caller]
    pub fn until_text(&self, wanted: &str) {
        let mut last = String::new();
        let seen = testkit::until_or(|| {
            last = self.text();
            last.contains(wanted).then_some(())
        });
        assert!(seen.is_some(), "waited in vain for {wanted:?} in:\n{last}");
    }

    /// Waits until a script returns true.
    #[track_caller]
    pub fn until(&self, what: &str, script: &str) {
        until(what, || (self.script(script) == true).then_some(()));
    }

    /// Clicks the first visible link or button with this text.
    #[track_caller]
    pub fn click(&self, text: &str) {
        let script = format!(
            "const found = [...document.querySelectorAll('a, button, summary')].find((e) => e.innerText.trim() === {text:?});
             found?.click(); return !!found"
        );
        until(&format!("something to click: {text}"), || {
            (self.script(&script) == true).then_some(())
        });
    }

    /// Presses and releases the keys of `text`, one after another.
    #[track_caller]
    pub fn keys(&self, text: &str) {
        let press = |key: char| [("keyDown", key), ("keyUp", key)];
        let actions = text.chars().flat_map(press);
        let actions: Vec<Value> = actions
            .map(|(kind, key)| json!({"type": kind, "value": key.to_string()}))
            .collect();
        let keyboard = json!({"type": "key", "id": "keyboard", "actions": actions});
        self.ask("POST", "/actions", json!({"actions": [keyboard]}));
    }

    /// Errors and warnings of the console since the last call, violations of the policy included.
    #[track_caller]
    pub fn complaints(&self) -> Vec<String> {
        let log = self.ask("POST", "/se/log", json!({"type": "browser"}));
        let lines = log.as_array().expect("a log").iter();
        let lines = lines.filter(|line| line["level"] != "DEBUG");
        lines.map(|line| line["message"].to_string()).collect()
    }

    /// Keeps a picture of the window; its path.
    fn picture(&self) -> Option<PathBuf> {
        let picture = self.try_ask("GET", "/screenshot", &Value::Null).ok()?;
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{}.png", self.name));
        let bytes = STANDARD.decode(picture.as_str()?).ok()?;
        std::fs::write(&path, bytes).ok()?;
        Some(path)
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        if thread::panicking()
            && let Some(path) = self.picture()
        {
            eprintln!("the window: {}", path.display());
        }
        // Its end takes the browser's processes along; what is left goes with the group.
        let _ = self.try_ask("DELETE", "", &Value::Null);
        let _ = kill_process_group(Pid::from_child(&self.driver), Signal::KILL);
        let _ = self.driver.wait();
    }
}
