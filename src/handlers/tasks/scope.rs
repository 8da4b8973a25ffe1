//! Requests of a token that may send to the hosts of a target only: each of their hosts must be one of
//! them.

use std::net::IpAddr;

use crate::codec::target::{Facts, Groups, Selection, Target};
use crate::handlers::directory::Directory;
use crate::handlers::request::{ErrorKind, Within};
use crate::handlers::tasks::dispatch::Refusal;
use crate::ids::HostId;

/// The target of a token, in comparison with the hosts of a request.
#[derive(Debug)]
pub(crate) struct Scope {
    selection: Box<Selection>,
    within: Within,
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
    /// Prepares the comparison.
    ///
    /// # Errors
    /// The target cannot be read. It was parsed with the configuration.
    pub(crate) fn new(within: Within) -> Result<Self, Refusal> {
        let parsed = Target::parse(&within.target).ok();
        let selection = parsed.and_then(|target| Selection::new(&target, &Groups::new()).ok());
        match selection {
            Some(selection) => Ok(Self {
                selection: Box::new(selection),
                within,
            }),
            None => Err(within.refusal("its target cannot be read")),
        }
    }

    /// Refuses a request that names no hosts.
    pub(crate) fn unnamed(&self) -> Refusal {
        self.within.refusal("name the hosts, or a target")
    }

    /// Compares the next host.
    ///
    /// # Errors
    /// It is outside of the target.
    pub(crate) fn check(&mut self, hosts: Directory<'_>, id: &HostId) -> Result<(), Refusal> {
        self.check_at(id, hosts.ip_of(id))
    }

    /// Compares the next host, which has this address.
    ///
    /// # Errors
    /// It is outside of the target.
    pub(crate) fn check_at(&mut self, id: &HostId, ip: Option<IpAddr>) -> Result<(), Refusal> {
        match self.selection.takes(&Named { id, ip }) {
            true => Ok(()),
            false => Err(self.within.refusal(&format!("{id} is none"))),
        }
    }
}

impl Within {
    fn refusal(&self, why: &str) -> Refusal {
        let Self { token, target } = self;
        let text = format!("the token {token} sends to hosts of {target} only: {why}");
        (ErrorKind::Forbidden, text)
    }
}
