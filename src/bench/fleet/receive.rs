//! Input of the hosts: frames of the server, and the events that follow from them.

use std::io::{self, ErrorKind};

use super::{Fleet, FleetEvent, Keyed, frames, id};
use crate::codec::message::{FromServer, Push, Word};
use crate::codec::{ServerStep, decode_from_server, decode_from_server_sealed};
use crate::time::Instant;

impl Fleet {
    pub(super) fn read(&mut self, index: usize, to_the_end: bool) -> io::Result<()> {
        let mut scratch = std::mem::take(&mut self.scratch);
        let read = self.read_into(&mut scratch, index, to_the_end);
        self.scratch = scratch;
        read
    }

    fn read_into(&mut self, scratch: &mut [u8], index: usize, to_the_end: bool) -> io::Result<()> {
        loop {
            let Some(host) = self.hosts[index].as_mut() else {
                return Ok(());
            };
            let kept = host.partial.len();
            scratch[..kept].copy_from_slice(&host.partial);
            let end = match host.read(&mut scratch[kept..]) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(count) => kept + count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            let used = self.take_frames(index, &scratch[..end])?;
            if let Some(host) = self.hosts[index].as_mut() {
                host.partial.clear();
                host.partial.extend_from_slice(&scratch[used..end]);
            }
            // A short read has taken all bytes, unless the end of the stream follows. A record of TLS
            // may be short.
            let whole = end < scratch.len() && !self.setup.has_tls();
            if whole && !to_the_end {
                return Ok(());
            }
        }
    }

    /// Parses whole frames from `bytes`; returns their length.
    fn take_frames(&mut self, index: usize, bytes: &[u8]) -> io::Result<usize> {
        let now = self.now();
        let mut used = 0;
        while let Some(host) = self.hosts[index].as_mut() {
            let rest = &bytes[used..];
            let mut guard = host.keyed.as_deref_mut().and_then(Keyed::guard);
            let (framing, order) = (frames::FRAMING, &mut host.order);
            let decoded = match &guard {
                Some(guard) => decode_from_server_sealed(framing, order, &guard.open, rest),
                None => decode_from_server(framing, order, rest),
            };
            match decoded {
                Ok(ServerStep::Need(_)) => break,
                Ok(ServerStep::Got {
                    content,
                    used: more,
                }) => {
                    if let Some(guard) = &mut guard {
                        guard.open.advance();
                    }
                    self.on_message(now, index, content)?;
                    used += more;
                }
                Err(_) if !self.setup.strict => used += frames::echoed(rest),
                Err(_) => return Err(ErrorKind::InvalidData.into()),
            }
        }
        Ok(used)
    }

    fn on_message(
        &mut self,
        now: Instant,
        index: usize,
        content: FromServer<'_>,
    ) -> io::Result<()> {
        let reply = match content {
            FromServer::Push(Push::Task(key)) => {
                self.emit(FleetEvent::Task(index, key.into_owned()));
                return Ok(());
            }
            FromServer::Push(Push::Command { .. } | Push::Cancel(_)) => return Ok(()),
            FromServer::Reply(reply) => reply,
        };
        match (reply.word, reply.seq) {
            (Word::Alive, Some(seq)) if self.tally.reply(now, seq) => {
                if let Some(host) = self.hosts[index].as_mut()
                    && host.waiting.pop_front().is_some()
                {
                    self.in_flight -= 1;
                }
                if index >= self.setup.apart {
                    self.tally.apart(now, Instant::from_nanos(seq));
                }
                self.emit(FleetEvent::Answered(index));
            }
            (Word::Welcome { .. }, _) => self.welcome(index),
            (Word::GotIt, _) => self.emit(FleetEvent::Acknowledged(index)),
            (word @ (Word::Challenge(_) | Word::Proven { .. }), _) => self.prove(index, &word)?,
            (Word::Refused(why), _) => {
                self.failures.refused(&why);
                return Err(ErrorKind::PermissionDenied.into());
            }
            // A floor echoes every frame.
            _ if !self.setup.strict => {}
            _ => return Err(ErrorKind::InvalidData.into()),
        }
        Ok(())
    }

    /// Goes on with the handshake of a host that has a key.
    fn prove(&mut self, index: usize, word: &Word) -> io::Result<()> {
        self.frame.clear();
        let (Some(key), Some(host)) = (&self.setup.key, self.hosts[index].as_mut()) else {
            return Err(ErrorKind::InvalidData.into());
        };
        let Some(keyed) = host.keyed.as_deref_mut() else {
            return Err(ErrorKind::InvalidData.into());
        };
        let (setup, id) = (&self.setup, id(index));
        if !keyed.hear(setup, key, &id, word, &mut self.frame) {
            return Err(ErrorKind::InvalidData.into());
        }
        if keyed.guard().is_some() {
            self.welcome(index);
            return Ok(());
        }
        host.send(&self.frame).map(|_| ())
    }
}
