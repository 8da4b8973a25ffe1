//! The paths there are, and the methods each may be asked with.

/// The resource that a path names. Parts of it are still escaped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place<'a> {
    /// `/healthz`
    Health,
    /// `/readyz`
    Ready,
    /// `/metrics`
    Metrics,
    /// `/v1/hosts`
    Hosts,
    /// `/v1/hosts/HOST`
    Host(&'a str),
    /// `/v1/tasks`
    Tasks,
    /// `/v1/tasks/KEY`
    Task(&'a str),
    /// `/v1/tasks/KEY/hosts/HOST/output`
    Output {
        /// The task.
        key: &'a str,
        /// The host.
        host: &'a str,
    },
    /// `/v1/commands`
    Commands,
    /// `/v1/commands/CID`
    Command(&'a str),
    /// `/v1/ak`
    Devices,
    /// `/v1/ak/DEVICE`
    Device(&'a str),
    /// `/v1/reach`
    Reach,
    /// `/v1/events`
    Events,
    /// `/v1/events/recent`
    RecentEvents,
}

impl<'a> Place<'a> {
    /// Parses `path`.
    #[must_use]
    pub fn of(path: &'a str) -> Option<Self> {
        let place = match path {
            "/healthz" => Self::Health,
            "/readyz" => Self::Ready,
            "/metrics" => Self::Metrics,
            "/v1/hosts" => Self::Hosts,
            "/v1/tasks" => Self::Tasks,
            "/v1/commands" => Self::Commands,
            "/v1/events" => Self::Events,
            "/v1/events/recent" => Self::RecentEvents,
            "/v1/ak" => Self::Devices,
            "/v1/reach" => Self::Reach,
            _ => {
                let parts: Vec<&str> = path.strip_prefix("/v1/")?.splitn(6, '/').collect();
                match parts[..] {
                    [_, ""] => return None,
                    ["hosts", host] => Self::Host(host),
                    ["tasks", key] => Self::Task(key),
                    ["tasks", key, "hosts", host, "output"] => Self::Output { key, host },
                    ["commands", cid] => Self::Command(cid),
                    ["ak", device] => Self::Device(device),
                    _ => return None,
                }
            }
        };
        Some(place)
    }

    /// The methods it may be asked with, as `Allow` lists them.
    #[must_use]
    pub const fn methods(&self) -> &'static str {
        match self {
            Self::Tasks => "GET, HEAD, POST",
            Self::Commands => "POST",
            Self::Host(_) => "GET, HEAD, DELETE",
            // It has no end, so there is no length that HEAD could tell.
            Self::Events => "GET",
            _ => "GET, HEAD",
        }
    }

    /// Returns whether `method` is allowed.
    #[must_use]
    pub fn takes(&self, method: &str) -> bool {
        self.methods().split(", ").any(|known| known == method)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_names_one_place_or_none() {
        let output = Place::Output {
            key: "AC%31",
            host: "h",
        };
        let cases = [
            ("/v1/tasks", Some(Place::Tasks)),
            ("/v1/tasks/AC1", Some(Place::Task("AC1"))),
            ("/v1/tasks/AC%31/hosts/h/output", Some(output)),
            ("/v1/commands", Some(Place::Commands)),
            ("/v1/commands/0f", Some(Place::Command("0f"))),
            ("/v1/events", Some(Place::Events)),
            ("/v1/events/recent", Some(Place::RecentEvents)),
            ("/v1/hosts/h", Some(Place::Host("h"))),
            ("/v1/ak", Some(Place::Devices)),
            ("/v1/ak/d", Some(Place::Device("d"))),
            ("/v1/reach", Some(Place::Reach)),
            ("/v1/ak/", None),
            ("/v1/ak/d/x", None),
            ("/v1/reach/x", None),
            ("/v1/hosts/", None),
            ("/v1/tasks/", None),
            ("/v1/tasks/AC1/", None),
            ("/v1/tasks/AC1/hosts", None),
            ("/v1/tasks/AC1/hosts/h", None),
            ("/v1/tasks/AC1/hosts/h/output/", None),
            ("/v1/events/", None),
            ("/v1/events/1", None),
            ("/v1", None),
            ("/v1/", None),
            ("/", None),
        ];
        for (path, place) in cases {
            assert_eq!(Place::of(path), place, "{path}");
        }
    }

    #[test]
    fn what_orders_something_is_no_get() {
        assert!(Place::Tasks.takes("POST") && Place::Tasks.takes("GET"));
        assert!(Place::Commands.takes("POST") && !Place::Commands.takes("GET"));
        assert!(Place::Events.takes("GET") && !Place::Events.takes("HEAD"));
        for place in [Place::Task("a"), Place::Command("a"), Place::Hosts] {
            assert!(place.takes("HEAD") && !place.takes("POST") && !place.takes("get"));
        }
    }
}
