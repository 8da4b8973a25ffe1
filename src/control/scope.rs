//! Requests of a token that may send to the hosts of a target only: their hosts are compared with the
//! target, some at a time.

use std::net::IpAddr;

use super::HttpContext;
use super::response::{HttpResponse, Reply};
use crate::codec::target::{Facts, Groups, Selection, Target};
use crate::handlers::request::{NewTask, Request};
use crate::ids::HostId;

/// A request whose hosts are being compared.
#[derive(Debug)]
pub(super) struct Scope {
    request: Request,
    selection: Selection,
    /// Hosts that have been compared.
    compared: usize,
    token: String,
    target: String,
}

/// Progress of a comparison.
#[derive(Debug)]
pub(super) enum Compared {
    /// It goes on.
    More(Box<Scope>),
    /// The request goes to the core, or is refused.
    Done(Reply),
}

/// A host as far as a target of names and networks may ask.
struct Named<'a> {
    id: &'a HostId,
    ip: Option<IpAddr>,
}

impl Facts for Named<'_> {
    fn id(&self) -> &str {
        self.id.as_str()
    }

    fn ip(&self) -> Option<IpAddr> {
        self.ip
    }

    fn label(&self, _: &str, _: &mut dyn FnMut(&str)) {}

    fn labels(&self, _: &mut dyn FnMut(&str, &str)) {}
}

impl Scope {
    /// Begins the comparison of a request with the target of its token.
    ///
    /// # Errors
    /// 403 for a request that names no hosts, or sends nothing.
    pub(super) fn begin(
        (token, target): (&str, &str),
        request: Request,
    ) -> Result<Box<Self>, HttpResponse> {
        let refused = |why: &str| {
            let why = format!("the token {token} sends to hosts of {target} only: {why}");
            HttpResponse::error(403, &why)
        };
        if hosts_of(&request).is_none() {
            return Err(refused("name the hosts, under hosts"));
        }
        // It was parsed with the configuration.
        let parsed = Target::parse(target).ok();
        let selection = parsed.and_then(|target| Selection::new(&target, &Groups::new()).ok());
        let selection = selection.ok_or_else(|| refused("its target cannot be read"))?;
        Ok(Box::new(Self {
            selection,
            compared: 0,
            token: token.to_owned(),
            target: target.to_owned(),
            request,
        }))
    }

    /// Compares at most `max` more hosts.
    pub(super) fn step(mut self: Box<Self>, context: &HttpContext<'_>, max: usize) -> Compared {
        let names = hosts_of(&self.request).unwrap_or_default();
        let next = names.iter().skip(self.compared).take(max);
        for name in next {
            let id = HostId::named(name).ok();
            let is_inside = id.is_some_and(|id| {
                let ip = context.fleet.host(&id).and_then(|view| view.ip);
                self.selection.takes(&Named { id: &id, ip })
            });
            if !is_inside {
                let (token, target) = (&self.token, &self.target);
                let name: String = name.chars().take(64).collect();
                let why = format!(
                    "the token {token} sends to hosts of {target} only, and {name:?} is none"
                );
                return Compared::Done(Reply::Now(HttpResponse::error(403, &why)));
            }
            self.compared += 1;
        }
        match self.compared < names.len() {
            true => Compared::More(self),
            false => Compared::Done(Reply::Ask(self.request)),
        }
    }
}

/// The named hosts of a request that sends to hosts; none if it names none.
fn hosts_of(request: &Request) -> Option<&[String]> {
    match request {
        Request::Dispatch(NewTask { hosts, .. }) | Request::Command { hosts, .. } => {
            hosts.as_deref()
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::testing::{Ants, context};

    /// Status of the answer to a task for these hosts, 0 if it goes to the core; and the steps.
    fn status(target: &str, hosts: Option<&[&str]>) -> (u16, usize) {
        let hosts = hosts.map(|hosts| hosts.iter().map(|host| (*host).to_owned()).collect());
        let request = Request::Dispatch(NewTask {
            hosts,
            ..NewTask::default()
        });
        let ants = Ants::with_hosts(4);
        let mut scope = match Scope::begin(("ops", target), request) {
            Ok(scope) => scope,
            Err(refusal) => return (refusal.status, 0),
        };
        for steps in 1.. {
            match scope.step(&context(&ants), 2) {
                Compared::More(rest) => scope = rest,
                Compared::Done(Reply::Now(refusal)) => return (refusal.status, steps),
                Compared::Done(_) => return (0, steps),
            }
        }
        unreachable!()
    }

    #[test]
    fn every_host_must_be_one_of_the_target() {
        // h-0 is 10.0.0.0, and so on.
        let cases: [(&str, &[&str], u16); 8] = [
            ("h-*", &["h-0", "h-1", "h-2", "h-3"], 0),
            ("h-[0-1]", &["h-0", "h-1"], 0),
            ("h-[0-1]", &["h-0", "h-2"], 403),
            ("all,!h-3", &["h-0", "h-3"], 403),
            ("10.0.0.0/31", &["h-0", "h-1"], 0),
            ("10.0.0.0/31", &["h-2"], 403),
            ("h-9", &["h-9"], 0),
            ("h-*", &["a b"], 403),
        ];
        for (target, hosts, expected) in cases {
            assert_eq!(
                status(target, Some(hosts)).0,
                expected,
                "{target} {hosts:?}"
            );
        }
        assert_eq!(status("all", Some(&["h-0", "h-1", "h-2"])), (0, 2));
    }

    #[test]
    fn requests_without_named_hosts_are_refused() {
        assert_eq!(status("all", None), (403, 0));
        let forget = Request::Forget {
            host: HostId::checked("h-1").unwrap(),
        };
        assert_eq!(
            Scope::begin(("ops", "all"), forget).unwrap_err().status,
            403
        );
    }
}
