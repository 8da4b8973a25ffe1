//! `anthill ak`: the AK devices of a running server, or one of them with its values.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;
use std::time::SystemTime;

use crate::escape;
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::api::Api;
use super::args::AkArgs;
use super::pages::percent_encoded;
use super::{Failure, print_json, print_lines, table, terminal};

/// Shows the devices, or one of them.
///
/// # Errors
/// Wrong usage, an unknown device, or no valid answer of a server.
pub fn run(args: &AkArgs) -> Result<(), Failure> {
    let api = Api::new(&args.api)?;
    let path = match &args.device {
        Some(device) => format!("/v1/ak/{}", percent_encoded(device)),
        None => "/v1/ak".to_owned(),
    };
    let raw: Box<RawValue> = api.get(&path)?;
    if args.json {
        return print_json(raw.get());
    }
    let lines = match &args.device {
        Some(_) => one(&read(&api, &raw)?),
        None => all(&read::<Devices>(&api, &raw)?.devices),
    };
    print_lines(&lines)
}

fn read<'a, T: Deserialize<'a>>(api: &Api, raw: &'a RawValue) -> Result<T, Failure> {
    let read = serde_json::from_str(raw.get());
    read.map_err(|error| api.misread(&error).into())
}

#[derive(Deserialize)]
struct Devices {
    devices: Vec<Device>,
}

#[derive(Deserialize)]
struct Device {
    name: String,
    state: String,
    #[serde(default)]
    addr: Option<String>,
    #[serde(default)]
    reason: Option<String>,
    #[serde(default)]
    since: Option<String>,
    error_status: u8,
    last_good: Option<String>,
    values: InOrder<Value>,
}

/// Object whose members keep their order: values as in `allowed_cmd`, fields as in the
/// configuration.
struct InOrder<T>(Vec<(String, T)>);

#[derive(Deserialize)]
struct Value {
    data: String,
    refused: Option<String>,
    #[serde(default)]
    at: Option<String>,
    #[serde(default)]
    fields: Option<InOrder<Field>>,
}

#[derive(Deserialize)]
struct Field {
    value: serde_json::Value,
    #[serde(default)]
    unit: Option<String>,
    valid: bool,
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for InOrder<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Entries<T> {
            type Value = InOrder<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<InOrder<T>, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(InOrder(entries))
            }
        }

        deserializer.deserialize_map(Entries(PhantomData))
    }
}

/// Formats fields: `co 1.25 ppm, hc #9999`. An invalid value keeps the `#` of the device.
fn words(fields: &InOrder<Field>) -> String {
    let words = fields.0.iter().map(|(name, field)| {
        let value = match &field.value {
            serde_json::Value::Null => return format!("{name} -"),
            serde_json::Value::String(text) => text.clone(),
            value => number(value),
        };
        let mark = if field.valid { "" } else { "#" };
        match &field.unit {
            Some(unit) => format!("{name} {mark}{value} {unit}"),
            None => format!("{name} {mark}{value}"),
        }
    });
    words.collect::<Vec<_>>().join(", ")
}

/// Formats a number like a device does: a whole number without `.0`.
fn number(value: &serde_json::Value) -> String {
    let text = value.to_string();
    text.strip_suffix(".0").map(str::to_owned).unwrap_or(text)
}

const DEVICES: [&str; 7] = [
    "NAME",
    "STATE",
    "STATUS",
    "LAST GOOD",
    "SINCE",
    "REASON",
    "ADDRESS",
];

fn all(devices: &[Device]) -> Vec<String> {
    let now = SystemTime::now();
    let rows = devices.iter().map(|device| {
        [
            escape::escape(&device.name),
            escape::escape(&device.state),
            Cow::Owned(device.error_status.to_string()),
            table::age(&device.last_good, now),
            table::age(&device.since, now),
            table::known(&device.reason),
            table::known(&device.addr),
        ]
    });
    table::columns(&DEVICES, rows, terminal::width())
}

fn one(device: &Device) -> Vec<String> {
    let now = SystemTime::now();
    let mut lines = all(std::slice::from_ref(device));
    let rows = device.values.0.iter().map(|(command, value)| {
        let fields = value.fields.as_ref().map(words);
        [
            escape::escape(command),
            table::age(&value.at, now),
            table::known(&value.refused),
            escape::escape(&value.data),
            owned(table::known(&fields)),
        ]
    });
    lines.push(String::new());
    let header = ["COMMAND", "WHEN", "REFUSED", "DATA", "FIELDS"];
    lines.extend(table::columns(&header, rows, terminal::width()));
    lines
}

fn owned(text: Cow<'_, str>) -> Cow<'static, str> {
    Cow::Owned(text.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_fields_are_shown_unchanged() {
        let fields = serde_json::from_str(
            r#"{"co":{"value":1.25,"unit":"ppm","valid":true},"hc":{"value":9999.0,"valid":false},
                "no":{"value":-3.0,"valid":true},"mode":{"value":"2.0","valid":true},"gone":{"value":null,"valid":false}}"#,
        );
        assert_eq!(
            words(&fields.unwrap()),
            "co 1.25 ppm, hc #9999, no -3, mode 2.0, gone -"
        );
    }
}
