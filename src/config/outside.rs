//! Configuration of outbound connections: `ak.devices` and `reach.targets`.

use std::collections::HashSet;
use std::net::SocketAddr;

use serde_json::{Value as Json, json};

use super::error::ConfigError;
use super::show::seconds;
use super::tree::Node;
use super::value::{Section, Value, address};
use crate::codec::ak::Code;
use crate::ids::HostId;
use crate::limits::{AK_COMMANDS_MAX, AK_DEVICES_MAX, REACH_TARGET_BYTES_MAX, REACH_TARGETS_MAX};
use crate::time::Span;

const DAY_S: f64 = 86_400.0;
/// A field's name or unit, in characters.
const WORD_CHARS_MAX: usize = 64;

/// One entry of `ak.devices`.
#[derive(Clone, Debug, PartialEq)]
pub struct Device {
    /// `name`: 1 to 64 characters of a host id; unique.
    pub name: HostId,
    /// `addr`: its address, `ip:port`.
    pub addr: SocketAddr,
    /// `channel` of the requests, 0 to 99999. Default: 0.
    pub channel: u32,
    /// `allowed_cmd`: polled codes in order, 1 to 32, none twice.
    pub allowed: Vec<Code>,
    /// `period_s`: interval of each code, 0.01 s to a day. Default: 1.
    pub period: Span,
    /// `timeout_ms`: timeout of an answer, 10 ms to 10 minutes. Default: 1000.
    pub timeout: Span,
    /// `stale_s`: longest time without a valid answer, 0.1 s to a day. Default: 10, or three
    /// periods if those are longer.
    pub stale: Span,
    /// `filler`: the byte after STX, one ASCII character. Default: a blank.
    pub filler: u8,
    /// `control`: permits codes that change the device. Default: false.
    pub control: bool,
    /// `fields`: names of the words of an answer, by code.
    pub fields: Vec<(Code, Vec<Field>)>,
}

/// Name of a word in a reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// `name`: 1 to 64 characters, none of them a control.
    pub name: String,
    /// `unit`: likewise; may be left out.
    pub unit: Option<String>,
    /// `type`: `number` (the default) or `text`.
    pub is_text: bool,
}

/// One entry of `reach.targets`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Text in the file.
    pub text: String,
    /// Address of the target.
    pub addr: SocketAddr,
    /// The target has the prefix `udp://` and is tried by a datagram.
    pub is_udp: bool,
    /// The target has the suffix `?answer`: silence counts as a failure.
    pub wants_answer: bool,
}

const DEVICE_KEYS: [&str; 10] = [
    "name",
    "addr",
    "channel",
    "allowed_cmd",
    "period_s",
    "timeout_ms",
    "stale_s",
    "filler",
    "control",
    "fields",
];

/// Reads `ak.devices`.
pub(super) fn devices(v: &Value<'_>) -> Result<Vec<Device>, ConfigError> {
    let mut devices: Vec<Device> = Vec::new();
    let mut names = HashSet::new();
    for entry in v.list(AK_DEVICES_MAX)? {
        let device = device(&entry)?;
        if !names.insert(device.name.clone()) {
            let name = entry.member("name", entry.node);
            return Err(name.error(format!("\"{}\" is another device's name too", device.name)));
        }
        devices.push(device);
    }
    Ok(devices)
}

fn device(entry: &Value<'_>) -> Result<Device, ConfigError> {
    let of = entry.clone().section(&DEVICE_KEYS)?;
    let control = match of.get("control") {
        None => false,
        Some(v) => boolean(&v)?,
    };
    let mut device = Device {
        name: needed(entry, &of, "name")?.and_then(name)?,
        addr: needed(entry, &of, "addr")?.and_then(peer)?,
        channel: 0,
        allowed: needed(entry, &of, "allowed_cmd")?.and_then(|v| allowed(&v, control))?,
        period: Span::from_secs(1),
        timeout: Span::from_secs(1),
        stale: Span::from_secs(10),
        filler: b' ',
        control,
        fields: Vec::new(),
    };
    of.set("channel", &mut device.channel, |v| {
        v.whole(0..=99_999).map(|channel| channel as u32)
    })?;
    of.set("period_s", &mut device.period, |v| v.seconds(0.01..=DAY_S))?;
    of.set("timeout_ms", &mut device.timeout, |v| {
        v.millis(10..=600_000)
    })?;
    // A device with a period of a minute has no stale data after ten seconds.
    let (three, day) = (device.period.times(3), Span::from_secs_f64(DAY_S));
    device.stale = device.stale.max(three.min(day));
    of.set("stale_s", &mut device.stale, |v| v.seconds(0.1..=DAY_S))?;
    of.set("filler", &mut device.filler, |v| filler(&v))?;
    let codes = &device.allowed;
    of.set("fields", &mut device.fields, |v| fields(&v, codes))?;
    Ok(device)
}

/// A required value.
struct Needed<'a>(Value<'a>);

impl<'a> Needed<'a> {
    fn and_then<T>(
        self,
        read: impl FnOnce(Value<'a>) -> Result<T, ConfigError>,
    ) -> Result<T, ConfigError> {
        read(self.0)
    }
}

fn needed<'a>(entry: &Value<'a>, of: &Section<'a>, key: &str) -> Result<Needed<'a>, ConfigError> {
    let missing = || entry.member(key, entry.node).error("is missing".to_owned());
    of.get(key).map(Needed).ok_or_else(missing)
}

fn boolean(v: &Value<'_>) -> Result<bool, ConfigError> {
    match v.node {
        Node::Bool(value) => Ok(*value),
        _ => Err(v.wrong("is not true or false")),
    }
}

fn name(v: Value<'_>) -> Result<HostId, ConfigError> {
    HostId::checked(v.text()).map_err(|_| v.wrong("is not 1 to 64 of A-Z a-z 0-9 . _ : -"))
}

/// Parses a peer's address, which needs a port.
fn peer(v: Value<'_>) -> Result<SocketAddr, ConfigError> {
    let wanted = "is not an address such as 10.0.0.9:9883 or [::1]:9883; a device has no standard port, so it must be given";
    match address(v.text()) {
        Ok(addr) if addr.port() != 0 && !addr.ip().is_unspecified() => Ok(addr),
        Err(may_be) if may_be.contains("host names") => Err(v.wrong(&may_be)),
        _ => Err(v.wrong(wanted)),
    }
}

fn allowed(v: &Value<'_>, control: bool) -> Result<Vec<Code>, ConfigError> {
    let mut codes = Vec::new();
    for entry in v.list(AK_COMMANDS_MAX)? {
        let code = Code::parse(entry.text()).ok_or_else(|| {
            entry.wrong("is not a code of four: a capital letter, then capital letters or digits")
        })?;
        if code.is_control() && !control {
            return Err(entry.wrong(
                "begins with S or E, and so changes the device; it may be there only with \"control\": true",
            ));
        }
        if codes.contains(&code) {
            return Err(entry.wrong("is there twice"));
        }
        codes.push(code);
    }
    match codes.is_empty() {
        true => Err(v.error("names no command".to_owned())),
        false => Ok(codes),
    }
}

fn filler(v: &Value<'_>) -> Result<u8, ConfigError> {
    match v.text().as_bytes() {
        [byte] if *byte != 0x02 && *byte != 0x03 => Ok(*byte),
        _ => Err(v.wrong("is not one ASCII character other than STX and ETX")),
    }
}

fn fields(v: &Value<'_>, codes: &[Code]) -> Result<Vec<(Code, Vec<Field>)>, ConfigError> {
    let mut fields = Vec::new();
    for (key, node) in v.members()? {
        let entry = v.member(key, node);
        let code = Code::parse(key).filter(|code| codes.contains(code));
        let code = code.ok_or_else(|| entry.error("is not in allowed_cmd".to_owned()))?;
        let mut named = Vec::new();
        let mut names = HashSet::new();
        for one in entry.list(AK_COMMANDS_MAX)? {
            let field = field(&one)?;
            if !names.insert(field.name.clone()) {
                return Err(one
                    .member("name", one.node)
                    .error("is there twice".to_owned()));
            }
            named.push(field);
        }
        fields.push((code, named));
    }
    Ok(fields)
}

fn field(entry: &Value<'_>) -> Result<Field, ConfigError> {
    let of = entry.clone().section(&["name", "unit", "type"])?;
    let mut field = Field {
        name: needed(entry, &of, "name")?.and_then(word)?,
        unit: None,
        is_text: false,
    };
    of.set_or_null("unit", &mut field.unit, word)?;
    of.set("type", &mut field.is_text, |v| {
        v.word(&[("number", false), ("text", true)])
    })?;
    Ok(field)
}

fn word(v: Value<'_>) -> Result<String, ConfigError> {
    let is_not = "is not 1 to 64 characters, none of them a control";
    v.text_of(1..=WORD_CHARS_MAX, |c| !c.is_control(), is_not)
}

/// Reads `reach.targets`.
pub(super) fn targets(v: &Value<'_>) -> Result<Vec<Target>, ConfigError> {
    let mut targets: Vec<Target> = Vec::new();
    let mut seen = HashSet::new();
    for entry in v.list(REACH_TARGETS_MAX)? {
        let target = target(&entry)?;
        if !seen.insert(target.text.clone()) {
            return Err(entry.wrong("is there twice"));
        }
        targets.push(target);
    }
    Ok(targets)
}

fn target(v: &Value<'_>) -> Result<Target, ConfigError> {
    let wrong = || {
        v.wrong("is not a target such as 10.0.0.1:22, [::1]:22, udp://10.0.0.1:53 or udp://10.0.0.1:53?answer")
    };
    let text = v.text();
    let (is_udp, rest) = match text.split_once("://") {
        Some(("udp", rest)) => (true, rest),
        Some(("tcp", rest)) => (false, rest),
        Some(_) => return Err(wrong()),
        None => (false, text),
    };
    let (rest, wants_answer) = match rest.strip_suffix("?answer") {
        Some(rest) if is_udp => (rest, true),
        _ => (rest, false),
    };
    let addr = address(rest).map_err(|may_be| match may_be.contains("host names") {
        true => v.wrong("is not a target such as 10.0.0.1:22 (host names are not looked up: give the IP address)"),
        false => wrong(),
    })?;
    if addr.port() == 0 || addr.ip().is_unspecified() || text.len() > REACH_TARGET_BYTES_MAX {
        return Err(wrong());
    }
    Ok(Target {
        text: text.to_owned(),
        addr,
        is_udp,
        wants_answer,
    })
}

impl Device {
    /// Returns the JSON of the file.
    pub(super) fn to_json(&self) -> Json {
        let codes = self.allowed.iter().map(|code| code.as_str());
        let mut json = json!({
            "name": self.name.as_str(),
            "addr": self.addr.to_string(),
            "channel": self.channel,
            "allowed_cmd": codes.collect::<Vec<_>>(),
            "period_s": seconds(self.period),
            "timeout_ms": self.timeout.as_millis(),
            "stale_s": seconds(self.stale),
            "filler": char::from(self.filler).to_string(),
            "control": self.control,
        });
        if !self.fields.is_empty() {
            let fields = self.fields.iter().map(|(code, fields)| {
                let fields = fields.iter().map(Field::to_json).collect();
                (code.to_string(), Json::Array(fields))
            });
            json["fields"] = Json::Object(fields.collect());
        }
        json
    }
}

impl Field {
    fn to_json(&self) -> Json {
        let kind = if self.is_text { "text" } else { "number" };
        match &self.unit {
            Some(unit) => json!({"name": self.name, "unit": unit, "type": kind}),
            None => json!({"name": self.name, "type": kind}),
        }
    }
}
