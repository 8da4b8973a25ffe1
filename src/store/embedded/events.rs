//! Entries of the event stream.

use crate::store::events::StreamEvent;
use crate::store::schema;

use super::Context;
use super::keyspace::{Fault, Kind, Space};

/// Refuses an operation with an event if the stream's key has another type.
pub(super) fn check(space: &Space<'_>) -> Result<(), Fault> {
    space.check(schema::EVENTS, Kind::Stream).map(drop)
}

/// Appends an event.
pub(super) fn append(
    space: &mut Space<'_>,
    context: &Context<'_>,
    event: &StreamEvent<'_>,
) -> Result<(), Fault> {
    let fields: Vec<_> = event.fields(context.node).collect();
    let fields: Vec<_> = fields
        .iter()
        .map(|(name, value)| (*name, &**value))
        .collect();
    space.stream_add(schema::EVENTS, &fields)
}
