//! ADH18: the host is alive. A heartbeat writes when its connection was last heard of and nothing
//! else; the deadline looks again when it comes.

use crate::codec::message::{Ask, Flag, Word};
use crate::ids::ConnId;

use crate::handlers::core::Core;
use crate::handlers::effect::Effects;

impl Core {
    /// A heartbeat, answered at once where an answer is wanted.
    pub(super) fn heartbeat(&mut self, conn: ConnId, ask: Ask, fx: &mut Effects) {
        if ask.reply {
            self.reply(conn, Flag::Heartbeat, ask.seq, Word::Alive, fx);
        }
    }
}
