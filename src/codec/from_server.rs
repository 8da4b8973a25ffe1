//! Parser for messages from a server, for the other end: replies and dispatches, always JSON.
//!
//! ```text
//! body ─▶ members ─▶ flag ─ ADH44 ─▶ Push
//!                      └─ else ─▶ ACK ─▶ Reply
//! ```

use super::error::DecodeError;
use super::json::{Members, Name};
use super::message::{Datagram, Flag, FromServer, Push, Reply, Word};
use super::value::{list, number, text};
use super::{Abnormal, json};

/// Hexadecimal digits of a console command's id.
const CID_DIGITS: usize = 32;

/// Parses the body of a frame from a server.
///
/// # Errors
/// When it is abnormal data; offsets count from the body's first byte.
pub(super) fn decode_body(body: &[u8]) -> Result<FromServer<'_>, DecodeError> {
    let body = str::from_utf8(body)
        .map_err(|error| DecodeError::new(Abnormal::Utf8, error.valid_up_to()))?;
    let members = json::Members::read(body)?;
    match members.flag()? {
        Flag::Dispatch => push(&members).map(FromServer::Push),
        Flag::Cancel => {
            let key = members.text(Name::TaskId)?;
            Ok(FromServer::Push(Push::Cancel(key)))
        }
        flag => reply(flag, &members).map(FromServer::Reply),
    }
}

/// Parses a JSON datagram from a server: an ADH44.
///
/// # Errors
/// When it is abnormal data; offsets count from the body's first byte.
pub fn decode_push(body: &[u8]) -> Result<Datagram<'_, Push<'_>>, DecodeError> {
    let body = str::from_utf8(body)
        .map_err(|error| DecodeError::new(Abnormal::Utf8, error.valid_up_to()))?;
    let members = json::Members::read(body)?;
    let flag = members.flag()?;
    if flag != Flag::Dispatch {
        return Err(DecodeError::new(Abnormal::OutOfPlace("this code"), 0));
    }
    let content = push(&members)?;
    let signature = members.signature(flag)?;
    Ok(Datagram { content, signature })
}

/// An ADH44: a task or a command, never both.
fn push<'a>(members: &Members<'a>) -> Result<Push<'a>, DecodeError> {
    if members.get(Name::Command).is_none() {
        return members.text(Name::TaskId).map(Push::Task);
    }
    if members.get(Name::TaskId).is_some() {
        return Err(members.wrong(Name::TaskId, "absent where there is a `command`"));
    }
    let cid = members.text(Name::Cid)?;
    if cid.len() != CID_DIGITS || !cid.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(members.wrong(Name::Cid, "32 hexadecimal digits"));
    }
    let text = members.text(Name::Command)?;
    Ok(Push::Command { text, cid })
}

fn reply(flag: Flag, members: &Members<'_>) -> Result<Reply, DecodeError> {
    let word = members.get(Name::Ack).and_then(text);
    let word = match (word.as_deref(), flag) {
        (Some("keepAlive"), Flag::Heartbeat) => Word::Alive,
        (Some("keepRogerThat"), Flag::Inventory) => Word::RogerThat,
        (Some("keepGotIt"), Flag::Progress | Flag::Answer | Flag::Result) => Word::GotIt,
        (Some("keepChallenge"), Flag::Hello) => Word::Challenge(members.nonce()?),
        (Some("keepGotIt"), Flag::Hello) if members.get(Name::Proof).is_some() => Word::Proven {
            proof: members.proof()?,
            interval_s: members.seconds(Name::IntervalS)?,
        },
        (Some("keepGotIt"), Flag::Hello) => Word::Welcome {
            interval_s: members.seconds(Name::IntervalS)?,
        },
        (Some("keepGotIt"), Flag::Book) => Word::Book {
            task: members.text(Name::TaskId)?.into_owned(),
            commands: commands(members)?,
        },
        (Some("keepRefused"), _) => Word::Refused(members.text(Name::Error)?.into_owned()),
        _ => return Err(members.wrong(Name::Ack, "a word that answers this code")),
    };
    let seq = members.seq()?;
    Ok(Reply { flag, seq, word })
}

/// A task book: each command with its priority.
fn commands(members: &Members<'_>) -> Result<Vec<(String, f64)>, DecodeError> {
    let pairs = members.get(Name::Tasks).and_then(list);
    let pair = |value| match list(value)?.as_slice() {
        [command, priority] => Some((text(command)?.into_owned(), number(priority)?)),
        _ => None,
    };
    let commands = pairs.and_then(|pairs| pairs.into_iter().map(pair).collect());
    commands.ok_or_else(|| members.wrong(Name::Tasks, "a list of commands, each with a number"))
}
