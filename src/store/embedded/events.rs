//! Entries of the event stream: all fields as text, without those that do not apply.

use crate::store::op::{Notice, Stamp};
use crate::store::schema::{self, event};

use super::Context;
use super::keyspace::{Fault, Kind, Space};

/// Fields of an event, except its time and number.
#[derive(Clone, Copy, Default)]
pub(super) struct Told<'a> {
    /// Its name.
    pub(super) event: &'a str,
    /// The host it is about; empty for one of the whole fleet.
    pub(super) host: &'a str,
    pub(super) reason: Option<&'a str>,
    pub(super) key: Option<&'a str>,
    pub(super) command: Option<&'a str>,
    pub(super) state: Option<&'a str>,
    pub(super) count: Option<&'a str>,
}

/// Refuses an operation that has an event to tell where no stream can be.
pub(super) fn check(space: &Space<'_>) -> Result<(), Fault> {
    space.check(schema::EVENTS, Kind::Stream).map(drop)
}

/// Appends an event.
pub(super) fn tell(
    space: &mut Space<'_>,
    context: &Context<'_>,
    stamp: Stamp,
    told: Told<'_>,
) -> Result<(), Fault> {
    let (at, seq) = (stamp.at.0.to_string(), stamp.seq.to_string());
    let mut fields = vec![
        (event::EVENT, told.event),
        (event::HOST, told.host),
        (event::AT, &at),
        (event::NODE, context.node),
        (event::SEQ, &seq),
    ];
    let optional = [
        (event::REASON, told.reason),
        (event::KEY, told.key),
        (event::COMMAND, told.command),
        (event::STATE, told.state),
        (event::COUNT, told.count),
    ];
    fields.extend(
        optional
            .into_iter()
            .filter_map(|(name, value)| Some((name, value?))),
    );
    space.stream_add(schema::EVENTS, &fields)
}

/// An event of the fleet itself.
pub(super) fn notice(
    space: &mut Space<'_>,
    context: &Context<'_>,
    op: &Notice,
) -> Result<(), Fault> {
    check(space)?;
    let count = op.count.map(|count| count.to_string());
    let told = Told {
        event: op.event,
        host: op.about.as_deref().unwrap_or_default(),
        state: op.state,
        reason: op.reason.as_deref(),
        count: count.as_deref(),
        ..Told::default()
    };
    tell(space, context, op.stamp, told)
}
