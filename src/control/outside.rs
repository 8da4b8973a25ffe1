//! Devices and targets as they are shown: from memory, or with those that other nodes poll.

use std::collections::{HashMap, HashSet};

use serde_json::value::RawValue;

use super::HttpContext;
use super::json::{self, Json};
use super::response::{HttpResponse, Reply};
use super::routes::Route;
use crate::handlers::request::{OutsideRequest, OutsideRow, OutsideWhat, Request};
use crate::handlers::view::StoreView;
use crate::ids::HostId;
use crate::limits::AK_DATA_SHOWN_BYTES_MAX;
use crate::store::op::{OutsideFound, device as field};
use crate::time::UnixMs;

const UNKNOWN_DEVICE: &str = "no device has this name";

/// `/v1/ak`.
pub(super) fn devices(_: &Route, context: &HttpContext<'_>) -> Reply {
    if is_whole(context) {
        return Reply::Now(HttpResponse::object(|json| {
            json.list("devices", context.devices.iter(), |json, view| {
                json::device(json, &view, AK_DATA_SHOWN_BYTES_MAX);
            });
        }));
    }
    let rows = device_rows(context, AK_DATA_SHOWN_BYTES_MAX, None);
    ask(OutsideWhat::Devices, rows)
}

/// `/v1/ak/DEVICE`.
pub(super) fn device(route: &Route, context: &HttpContext<'_>) -> Reply {
    let name = route.name(0);
    let view = context.devices.get(name);
    if is_whole(context) || view.is_some_and(|view| !view.stands_by()) {
        return Reply::Now(match view {
            Some(view) => HttpResponse::object(|json| {
                json::device(json, &view, usize::MAX);
                json.optional("node", (!is_whole(context)).then(|| context.fleet.node()));
            }),
            None => HttpResponse::error(404, UNKNOWN_DEVICE),
        });
    }
    let what = OutsideWhat::Device(name.to_owned());
    ask(what, device_rows(context, usize::MAX, Some(name)))
}

/// `/v1/reach`.
pub(super) fn targets(_: &Route, context: &HttpContext<'_>) -> Reply {
    if is_whole(context) {
        return Reply::Now(HttpResponse::object(|json| {
            let targets = context.targets.iter();
            json.list("targets", targets, |json, view| json::target(json, &view));
        }));
    }
    let node = context.fleet.node();
    let rows = context.targets.iter().map(|view| OutsideRow {
        name: view.target.to_owned(),
        stands_by: view.stands_by,
        json: Json::object(|json| {
            json::target(json, &view);
            json.optional("node", (!view.stands_by).then_some(node));
        }),
    });
    ask(OutsideWhat::Targets, rows.collect())
}

/// No other node polls anything, or the store cannot say.
fn is_whole(context: &HttpContext<'_>) -> bool {
    !context.fleet.has_foreign_hosts() || context.fleet.store() != StoreView::Available
}

fn ask(what: OutsideWhat, rows: Vec<OutsideRow>) -> Reply {
    Reply::Ask(Request::Outside(Box::new(OutsideRequest { what, rows })))
}

fn device_rows(context: &HttpContext<'_>, shown: usize, only: Option<&str>) -> Vec<OutsideRow> {
    let node = context.fleet.node();
    let views = context.devices.iter();
    let views = views.filter(|view| only.is_none_or(|only| view.name().as_str() == only));
    let rows = views.map(|view| OutsideRow {
        name: view.name().to_string(),
        stands_by: view.stands_by(),
        json: Json::object(|json| {
            json::device(json, &view, shown);
            json.optional("node", (!view.stands_by()).then_some(node));
        }),
    });
    rows.collect()
}

/// The response with the states of the store: those of this node's memory are newer.
pub(super) fn merged(request: &OutsideRequest, found: &OutsideFound) -> HttpResponse {
    let shown = match request.what {
        OutsideWhat::Device(_) => usize::MAX,
        _ => AK_DATA_SHOWN_BYTES_MAX,
    };
    let stored: Vec<(&str, String)> = match request.what {
        OutsideWhat::Targets => {
            let targets = found.targets.iter();
            let polled = targets.filter(|(_, node, _)| node.is_some());
            let rows = polled.map(|(target, node, text)| {
                let row = Json::object(|json| stored_target(json, target, node.as_deref(), text));
                (&**target, row)
            });
            rows.collect()
        }
        OutsideWhat::Devices | OutsideWhat::Device(_) => {
            let devices = found.devices.iter();
            let polled = devices.filter(|(_, node, fields)| node.is_some() && !fields.is_empty());
            let rows = polled.map(|(name, node, fields)| {
                let node = node.as_deref();
                let row = Json::object(|json| stored_device(json, name, node, fields, shown));
                (name.as_str(), row)
            });
            rows.collect()
        }
    };
    if let OutsideWhat::Device(name) = &request.what {
        let stored = stored.into_iter().find(|(stored, _)| stored == name);
        let row = stored.map(|(_, row)| row);
        let row = row.or_else(|| request.rows.first().map(|row| row.json.clone()));
        return match row {
            Some(row) => HttpResponse::document(row),
            None => HttpResponse::error(404, UNKNOWN_DEVICE),
        };
    }
    let configured: HashSet<&str> = request.rows.iter().map(|row| &*row.name).collect();
    let by_name: HashMap<&str, &String> = stored.iter().map(|(name, row)| (*name, row)).collect();
    let own = request
        .rows
        .iter()
        .map(|row| match by_name.get(&*row.name) {
            Some(stored) if row.stands_by => (*stored).clone(),
            _ => row.json.clone(),
        });
    let others = stored.iter().filter(|(name, _)| !configured.contains(name));
    let rows: Vec<String> = own.chain(others.map(|(_, row)| row.clone())).collect();
    let list = match request.what {
        OutsideWhat::Targets => "targets",
        _ => "devices",
    };
    HttpResponse::document(format!("{{\"{list}\":[{}]}}", rows.join(",")))
}

fn stored_target(json: &mut Json, target: &str, node: Option<&str>, text: &str) {
    let stored: serde_json::Value = serde_json::from_str(text).unwrap_or_default();
    let time = |name: &str| UnixMs(stored[name].as_u64().unwrap_or_default());
    json.member("target", target);
    json.member("state", stored["state"].as_str().unwrap_or("down"));
    json.member("rtt_ms", stored["rtt_ms"].as_f64());
    json.time("since", time("since"));
    json.time("at", time("at"));
    json.optional("node", node);
}

/// Writes a device of another node. The time of a value is that of the last good reply.
fn stored_device(
    json: &mut Json,
    name: &HostId,
    node: Option<&str>,
    fields: &[(String, String)],
    shown: usize,
) {
    let all: HashMap<&str, &str> = fields.iter().map(|(k, v)| (&**k, &**v)).collect();
    let text = |name: &str| all.get(name).copied();
    let number = |name: &str| text(name).and_then(|text| text.parse::<u64>().ok());
    let last_good = UnixMs(number(field::LAST_GOOD).unwrap_or_default());
    json.member("name", name);
    json.member("addr", text(field::ADDR));
    json.member("state", text(field::STATE).unwrap_or("down"));
    json.member("reason", text(field::REASON));
    json.time("since", UnixMs(number(field::SINCE).unwrap_or_default()));
    json.member(
        "error_status",
        number(field::ERROR_STATUS).unwrap_or_default(),
    );
    json.time("last_good", last_good);
    let is_code = |name: &str| {
        let is_of_code = |b: u8| b.is_ascii_uppercase() || b.is_ascii_digit();
        name.len() == 4 && name.bytes().all(is_of_code)
    };
    let mut codes: Vec<&str> = all.keys().copied().filter(|name| is_code(name)).collect();
    codes.sort_unstable();
    json.nested("values", |json| {
        for code in codes {
            let data = text(code).unwrap_or_default();
            let cut = &data[..data.floor_char_boundary(shown)];
            let named = text(&format!("{code}{}", field::FIELDS));
            let named = named.filter(|_| cut.len() == data.len());
            let named = named.and_then(|named| RawValue::from_string(named.to_owned()).ok());
            json.nested(code, |json| {
                json.member("data", cut);
                json.member("refused", text(&format!("{code}{}", field::REFUSED)));
                json.time("at", last_good);
                json.optional("fields", named);
            });
        }
    });
    json.optional("node", node);
}
