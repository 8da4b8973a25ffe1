//! Tokens: the subject of an event as a number.
//!
//! ```text
//!  bit 63        62      61     60 … 29          28 … 0
//!  closing | HTTP | host | generation (32) | slot (29)      or, with none of the three: 0 to 4
//! ```
//!
//! A closing connection with bit 59 waits for its PROXY header instead. The token of an outbound connection has only bit 60 of the upper four, then its generation (32
//! bits) and its index (16).
//!
//! A host's connection carries its generation, so an event for one that was closed earlier in the
//! same batch is dropped even when its slot is taken again.

use mio::Token;

use crate::ids::ConnId;

/// The TCP listener of the hosts.
pub const LISTENER: Token = Token(0);
pub const UDP: Token = Token(1);
pub const WAKER: Token = Token(2);
pub const HTTP_LISTENER: Token = Token(3);
/// The timer of the next deadline.
pub const TIMERFD: Token = Token(4);
/// Bit of the tokens of HTTP connections. `web` assigns the lower bits.
pub const HTTP_BIT: usize = 1 << 62;

const OUTBOUND_BIT: usize = 1 << 60;
const OUTBOUND_PLACE_BITS: u32 = 16;
const CLOSING_BIT: usize = 1 << 63;
/// Bit beside [`CLOSING_BIT`] of a connection that waits for its PROXY header, above its generation
/// (32 bits) and its place (16).
const PROXIED_BIT: usize = 1 << 59;
const PROXIED_PLACE_BITS: u32 = 16;
const HOST_BIT: usize = 1 << 61;
const SLOT_BITS: u32 = 29;
const SLOT_MASK: usize = (1 << SLOT_BITS) - 1;

const _: () = assert!(usize::BITS == 64, "a token holds a slot and its generation");
const _: () = assert!(
    crate::limits::CONNECTIONS_MAX <= SLOT_MASK,
    "every slot fits a token"
);

/// The subject of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum About {
    /// The listening socket: connections wait.
    Listener,
    Udp,
    /// The mailbox: another thread has sent something.
    Waker,
    /// A deadline has come.
    Timerfd,
    /// The HTTP listener, or one of its connections.
    Web,
    Host(ConnId),
    /// An outbound connection.
    Outbound,
    /// The closing connection at this place.
    Closing(usize),
    /// A connection that waits for its PROXY header.
    Proxied,
}

impl About {
    /// The owner of `token`.
    pub fn of(token: Token) -> Self {
        match token {
            LISTENER => Self::Listener,
            UDP => Self::Udp,
            WAKER => Self::Waker,
            HTTP_LISTENER => Self::Web,
            TIMERFD => Self::Timerfd,
            Token(bits) if bits & CLOSING_BIT != 0 && bits & PROXIED_BIT != 0 => Self::Proxied,
            Token(bits) if bits & CLOSING_BIT != 0 => Self::Closing(bits & !CLOSING_BIT),
            Token(bits) if bits & HTTP_BIT != 0 => Self::Web,
            Token(bits) if bits & HOST_BIT == 0 => Self::Outbound,
            // The casts lose nothing: the masks leave 29 and 32 bits.
            Token(bits) => Self::Host(ConnId {
                slot: (bits & SLOT_MASK) as u32,
                generation: ((bits & !HOST_BIT) >> SLOT_BITS) as u32,
            }),
        }
    }
}

const _: () = assert!(
    crate::limits::AK_DEVICES_MAX + crate::limits::REACH_PROBES_MAX < 1 << OUTBOUND_PLACE_BITS,
    "every place fits a token"
);

/// Token of an outbound connection.
#[must_use]
pub const fn outbound(generation: u32, place: usize) -> Token {
    Token(OUTBOUND_BIT | (generation as usize) << OUTBOUND_PLACE_BITS | place)
}

/// Place in the token of an outbound connection.
#[must_use]
pub const fn outbound_place(token: Token) -> usize {
    token.0 & ((1 << OUTBOUND_PLACE_BITS) - 1)
}

/// The token of a host's connection.
#[must_use]
pub fn host(conn: ConnId) -> Token {
    Token(HOST_BIT | ((conn.generation as usize) << SLOT_BITS) | (conn.slot as usize & SLOT_MASK))
}

const _: () = assert!(
    crate::limits::PROXY_WAITING_MAX < 1 << PROXIED_PLACE_BITS,
    "every place fits a token"
);

/// The token of a connection that waits for its PROXY header.
#[must_use]
pub const fn proxied(generation: u32, place: usize) -> Token {
    Token(CLOSING_BIT | PROXIED_BIT | (generation as usize) << PROXIED_PLACE_BITS | place)
}

/// Generation and place of a connection that waits for its PROXY header.
#[must_use]
pub const fn proxied_parts(token: Token) -> (u32, usize) {
    // The cast drops the bits above the generation.
    let generation = (token.0 >> PROXIED_PLACE_BITS) as u32;
    (generation, token.0 & ((1 << PROXIED_PLACE_BITS) - 1))
}

/// The token of the closing connection at `place`.
#[must_use]
pub fn closing(place: usize) -> Token {
    Token(CLOSING_BIT | place)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_connection_survives_the_way_through_its_token(
            slot in 0..=(SLOT_MASK as u32),
            generation: u32,
        ) {
            let conn = ConnId { slot, generation };
            prop_assert_eq!(About::of(host(conn)), About::Host(conn));
        }
    }

    #[test]
    fn the_fixed_tokens_differ() {
        assert_eq!(About::of(LISTENER), About::Listener);
        assert_eq!(About::of(UDP), About::Udp);
        assert_eq!(About::of(WAKER), About::Waker);
        assert_eq!(About::of(HTTP_LISTENER), About::Web);
        assert_eq!(About::of(TIMERFD), About::Timerfd);
        assert_eq!(About::of(Token(HTTP_BIT | 7)), About::Web);
        assert_eq!(About::of(closing(7)), About::Closing(7));
        for parts in [(0, 0), (u32::MAX, 1_023)] {
            let token = proxied(parts.0, parts.1);
            assert_eq!(About::of(token), About::Proxied);
            assert_eq!(proxied_parts(token), parts);
        }
    }
}
