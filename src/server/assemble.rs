//! The values that each room receives from the configuration. No room receives the `Config`.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::codec::Framing;
use crate::codec::ak::Code;
use crate::config::{self, Auth, Config, Device, HttpWrite, OnDone, OnShutdown};
use crate::control::HttpRules;
use crate::handlers::LabelRules;
use crate::handlers::Nonces;
use crate::handlers::Rules;
use crate::handlers::ak::{Command, DeviceRules, Field, FieldKind};
use crate::handlers::outside::Way;
use crate::handlers::reach::TargetRules;
use crate::keys::Access;
use crate::limits::{HOSTS_MAX, STORE_RETRY_MS_MAX};
use crate::reactor::clock::Clock;
use crate::reactor::error::BindError;
use crate::reactor::outbound::OutboundRules;
use crate::reactor::proxy::ProxyRules;
use crate::reactor::tls::TlsSettings;
use crate::reactor::{self, Reload, Tuning};
use crate::store::address::StoreUrl;
#[cfg(feature = "embedded")]
use crate::store::embedded::EmbeddedStore;
use crate::store::redis::RedisStore;
use crate::store::worker::{Make, Plan};
use crate::store::{NodeInfo, Settings};
use crate::time::{Span, UnixMs};

/// Rules of the core.
pub fn rules(config: &Config) -> Rules {
    Rules {
        timeout: config.heartbeat.timeout,
        first_message: config.heartbeat.first_message,
        working_timeout: config.heartbeat.working_timeout,
        key_prefix: config.dispatch.key_prefix.clone(),
        keep: config.dispatch.keep,
        hosts_max: HOSTS_MAX,
        agent_port: config.dispatch.agent_port,
        rto: config.dispatch.rto,
        tries: config.dispatch.tries,
        result_bytes: config.limits.result_bytes as u64,
        certificates: config
            .tls
            .as_ref()
            .is_some_and(|tls| tls.client_ca.is_some()),
        seed: fastrand::u64(..),
    }
}

/// Admission rules of a configuration.
pub fn access(config: &Config) -> Access {
    match &config.auth {
        Auth::Unset | Auth::None => Access::Open,
        Auth::Keys(keys) => Access::Keys {
            ring: keys.ring.clone(),
            plain_from: keys.plain_from.clone(),
        },
    }
}

/// Nonces from the system's random generator.
pub fn nonces() -> Nonces {
    Box::new(|| {
        let mut random = [0; 16];
        getrandom::fill(&mut random).ok().map(|()| random)
    })
}

/// Number of the first event, by the wall clock: above those of earlier runs of this node, if they
/// raised fewer than a thousand events a millisecond. The spool corrects it after the clock was set
/// back.
pub fn first_seq(now: UnixMs) -> u64 {
    now.0.saturating_mul(1_000)
}

/// Labels and groups.
pub fn label_rules(config: &Config) -> LabelRules {
    let rules = config.labels.iter();
    LabelRules {
        rules: rules
            .map(|rule| (rule.hosts.clone(), rule.set.clone()))
            .collect(),
        groups: config.groups.clone(),
        node: config.server.name.clone(),
    }
}

/// Rules of the HTTP API.
pub fn http_rules(config: &Config) -> HttpRules {
    HttpRules {
        names: config.server.http_names.clone(),
        // A single token that is among the others already is no error here.
        tokens: (config.server.all_tokens())
            .unwrap_or_else(|_| config.server.tokens.clone())
            .map(Arc::new),
        write_needs_token: config.server.http_write == HttpWrite::Token,
        instructions: config.instructions.clone(),
        node: config.server.name.clone(),
        is_tls: config.server.http_tls.is_some(),
    }
}

/// Settings of the reactor.
pub fn settings(config: &Config) -> reactor::Settings {
    reactor::Settings {
        tcp: config.server.tcp,
        udp: config.server.udp,
        keepalive: config.heartbeat.tcp_keepalive,
        connections: config.limits.connections,
        connections_per_ip: config.limits.connections_per_ip,
        tls: tls(&config.tls),
        outside: outside(config),
        proxy: proxy(config),
        tuning: tuning(config),
    }
}

/// Rules for connections from load balancers.
fn proxy(config: &Config) -> ProxyRules {
    ProxyRules {
        from: config.server.proxy_from.clone(),
        wait: config.heartbeat.first_message,
    }
}

/// Parts of a new configuration that need no restart.
pub fn reload(config: &Config) -> Reload {
    Reload {
        rules: rules(config),
        access: access(config),
        labels: label_rules(config),
        http: http_rules(config),
        outside: outside(config),
        proxy: proxy(config),
        tuning: tuning(config),
        tls: tls(&config.tls),
        http_tls: http_tls(config),
    }
}

/// TLS of the HTTP API.
pub fn http_tls(config: &Config) -> Option<TlsSettings> {
    tls(&config.server.http_tls)
}

#[cfg(feature = "tls")]
fn tls(tls: &Option<config::Tls>) -> Option<TlsSettings> {
    tls.as_ref().map(|tls| TlsSettings {
        config: Arc::clone(&tls.acceptor.config),
        clients: tls.acceptor.clients.clone(),
    })
}

/// A build without TLS takes no configuration that asks for it.
#[cfg(not(feature = "tls"))]
fn tls(_tls: &Option<config::Tls>) -> Option<TlsSettings> {
    None
}

/// Rules of devices and targets.
fn outside(config: &Config) -> OutboundRules {
    let targets = config.reach.targets.iter().map(|target| TargetRules {
        text: target.text.clone(),
        way: if target.is_udp { Way::Udp } else { Way::Tcp },
        addr: target.addr,
        wants_answer: target.wants_answer,
    });
    OutboundRules {
        devices: config.ak.devices.iter().map(device).collect(),
        period: config.reach.period,
        targets: targets.collect(),
        is_shared: matches!(config.store.url, StoreUrl::Redis(_)),
    }
}

fn device(device: &Device) -> DeviceRules {
    let command = |code: &Code| {
        let named = device.fields.iter().find(|(named, _)| named == code);
        let fields = named.map_or(&[][..], |(_, fields)| fields).iter();
        Command {
            code: *code,
            fields: fields.map(field).collect(),
        }
    };
    DeviceRules {
        name: device.name.clone(),
        addr: device.addr,
        channel: device.channel,
        commands: device.allowed.iter().map(command).collect(),
        period: device.period,
        timeout: device.timeout,
        stale: device.stale,
        filler: device.filler,
    }
}

fn field(field: &config::Field) -> Field {
    Field {
        name: field.name.clone(),
        unit: field.unit.clone(),
        kind: match field.is_text {
            true => FieldKind::Text,
            false => FieldKind::Number,
        },
    }
}

fn tuning(config: &Config) -> Tuning {
    Tuning {
        framing: Framing {
            order: config.heartbeat.byte_order,
            limit: config.limits.frame_bytes,
        },
        coalesce: Span::from_micros(config.server.coalesce_us),
        turn_budget: config.server.turn_budget_us.map(Span::from_micros),
        offline_on_shutdown: config.heartbeat.on_shutdown == OnShutdown::Offline,
    }
}

/// Settings of the store.
fn store_settings(config: &Config, http: SocketAddr) -> Settings {
    Settings {
        node: config.server.name.clone(),
        delete_fields: config.offline.delete_fields.clone(),
        clear_on_done: config.dispatch.on_done == OnDone::Clear,
        keep: config.dispatch.keep,
        timeout: config.store.timeout,
        wait_replicas: config.store.wait_replicas,
        info: NodeInfo {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            http: http.to_string(),
            started: Clock::wall(),
        },
    }
}

/// Plan of the store thread.
pub fn plan(config: &Config) -> Plan {
    Plan {
        spool_dir: config.store.spool.clone(),
        spool_bytes: config.store.spool_bytes,
        flush: match &config.store.url {
            StoreUrl::Embedded(_) => config.store.flush,
            // No fsync is shared: operations that arrive during a batch are the next one.
            StoreUrl::Redis(_) => Span::ZERO,
        },
        retry: Span::from_millis(STORE_RETRY_MS_MAX),
        grace: config.heartbeat.timeout,
        seed: fastrand::u64(..),
    }
}

/// Factory of the store, called at the start and after each failure. An embedded store is opened
/// here, so that a start fails if it is in use. `http` is the bound address of the HTTP API.
pub fn maker(config: &Config, http: SocketAddr) -> Result<Make, BindError> {
    let settings = store_settings(config, http);
    match &config.store.url {
        StoreUrl::Redis(address) => {
            let model = RedisStore::new(address.clone(), settings);
            Ok(Box::new(move || Box::new(model.again())))
        }
        #[cfg(feature = "embedded")]
        StoreUrl::Embedded(dir) => {
            let opened = EmbeddedStore::open(dir, settings);
            let opened = opened.map_err(|error| BindError::Store(error.to_string()))?;
            let model = opened.again();
            let mut opened = Some(opened);
            Ok(Box::new(move || {
                Box::new(opened.take().unwrap_or_else(|| model.again()))
            }))
        }
        #[cfg(not(feature = "embedded"))]
        StoreUrl::Embedded(_) => Err(super::preflight::lacks_store(&config.store.url)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::Role;

    #[test]
    fn default_rules_are_those_of_a_default_configuration() {
        let configured = Rules {
            hosts_max: 1_000,
            seed: 1,
            ..rules(&Config::default())
        };
        assert_eq!(format!("{configured:?}"), format!("{:?}", Rules::default()));
    }

    #[test]
    fn what_the_configuration_says_reaches_the_rooms() {
        let mut config = Config::default();
        config.heartbeat.timeout = Span::from_secs(7);
        config.heartbeat.on_shutdown = OnShutdown::Offline;
        config.limits.frame_bytes = 100;
        config.limits.connections_per_ip = Some(3);
        config.dispatch.on_done = OnDone::Clear;
        config.server.http_token = Some("a token of sixteen".to_owned());
        assert_eq!(rules(&config).timeout, Span::from_secs(7));
        assert_eq!(settings(&config).connections_per_ip, Some(3));
        assert_eq!(reload(&config).tuning.framing.limit, 100);
        assert!(reload(&config).tuning.offline_on_shutdown);
        let tokens = reload(&config).http.tokens.unwrap();
        assert_eq!(tokens.find("a token of sixteen").unwrap().role, Role::Admin);
        let http = ([127, 0, 0, 1], 1).into();
        assert!(store_settings(&config, http).clear_on_done);
    }

    /// The default store is the embedded one. A library without it gives an error that names it.
    #[cfg(not(feature = "embedded"))]
    #[test]
    fn a_missing_store_feature_is_named() {
        let error = maker(&Config::default(), ([127, 0, 0, 1], 1).into())
            .err()
            .unwrap()
            .to_string();
        assert!(error.contains("feature \"embedded\""), "{error}");
        assert!(error.contains("embedded:anthill-data"), "{error}");
    }

    #[test]
    fn event_numbers_rise_over_restarts() {
        let (then, now) = (UnixMs(1_700_000_000_000), UnixMs(1_700_000_000_001));
        assert_eq!(first_seq(now) - first_seq(then), 1_000);
    }
}
