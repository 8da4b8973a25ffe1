//! Devices and targets as they are shown.

use serde::Serialize;

use super::{Map, Time};
use crate::handlers::ak::{self, DeviceView, FieldValues};
use crate::handlers::reach::TargetView;

/// A device.
#[derive(Debug, Serialize)]
pub struct Device<'a> {
    /// Its name.
    pub name: &'a str,
    /// Address of the device.
    pub addr: String,
    /// `up`, `down` or `stale`.
    pub state: &'static str,
    /// Reason for not being up.
    pub reason: Option<&'a str>,
    /// Time of the last change.
    pub since: Time,
    /// The error status of its last reply, 0 to 9.
    pub error_status: u8,
    /// Time of the last good reply.
    pub last_good: Time,
    /// Command → last answer, in the order they are asked.
    pub values: Map<String, Value<'a>>,
}

/// The last answer to a command.
#[derive(Debug, Serialize)]
pub struct Value<'a> {
    /// Its data, or their beginning.
    pub data: &'a str,
    /// The word by which it refuses.
    pub refused: Option<&'static str>,
    /// Time of the value.
    pub at: Time,
    /// Its words by name, where they have names and all of the data is shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fields: Option<&'a FieldValues>,
}

impl<'a> Device<'a> {
    /// `view` as it is shown, with at most `shown` bytes of each value's data.
    #[must_use]
    pub fn of(view: &DeviceView<'a>, shown: usize) -> Self {
        let values = view.values();
        Self {
            name: view.name().as_str(),
            addr: view.addr().to_string(),
            state: view.state().as_str(),
            reason: view.reason(),
            since: Time(view.since()),
            error_status: view.error_status(),
            last_good: Time(view.last_good()),
            values: Map(values
                .map(|(code, value)| (code.to_string(), Value::of(value, shown)))
                .collect()),
        }
    }
}

impl<'a> Value<'a> {
    fn of(value: &'a ak::Value, shown: usize) -> Self {
        let data = &value.data[..value.data.floor_char_boundary(shown)];
        let is_whole = data.len() == value.data.len();
        Self {
            data,
            refused: value.refused.map(|refused| refused.as_str()),
            at: Time(value.at),
            fields: value.fields.as_ref().filter(|_| is_whole),
        }
    }
}

/// All devices.
#[derive(Debug, Serialize)]
pub struct Devices<'a> {
    /// In the order of the configuration.
    pub devices: Vec<Device<'a>>,
}

/// A target.
#[derive(Debug, Serialize)]
pub struct Target<'a> {
    /// As it is written in the configuration.
    pub target: &'a str,
    /// `up`, `refused` or `down`.
    pub state: &'static str,
    /// Round-trip time of the last answer in milliseconds, if there was one.
    pub rtt_ms: Option<f64>,
    /// Time of the last change.
    pub since: Time,
    /// End of the last try.
    pub at: Time,
}

impl<'a> Target<'a> {
    /// `view` as it is shown.
    #[must_use]
    pub fn of(view: &TargetView<'a>) -> Self {
        Self {
            target: view.target,
            state: view.state.as_str(),
            rtt_ms: view.rtt.map(|rtt| rtt.as_nanos() as f64 / 1e6),
            since: Time(view.since),
            at: Time(view.at),
        }
    }
}

/// All targets.
#[derive(Debug, Serialize)]
pub struct Targets<'a> {
    /// In the order of the configuration.
    pub targets: Vec<Target<'a>>,
}
