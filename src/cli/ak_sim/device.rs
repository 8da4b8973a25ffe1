//! Replies of the simulated device. Invalid replies take turns, with a valid one between any two.

use std::time::Duration;

use crate::codec::ak::{Request, UNKNOWN, emit_reply};

/// The actions for one request, in order.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// Bytes to send.
    Say(Vec<u8>),
    /// Time to let pass.
    Wait(Duration),
    /// The end of the connection.
    Close,
}

/// A pause above the default `timeout_ms`.
const SLOW: Duration = Duration::from_millis(1_500);
const A_MOMENT: Duration = Duration::from_millis(30);

/// A kind of invalid reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Habit {
    Noise,
    BreakInside,
    ReturnBehind,
    Pieces,
    Busy,
    NotUnderstood,
    StatusChange,
    Slow,
    WrongEcho,
    Glued,
    Mute,
    Close,
}

impl Habit {
    const ALL: [Self; 12] = [
        Self::Noise,
        Self::BreakInside,
        Self::ReturnBehind,
        Self::Pieces,
        Self::Busy,
        Self::NotUnderstood,
        Self::StatusChange,
        Self::Slow,
        Self::WrongEcho,
        Self::Glued,
        Self::Mute,
        Self::Close,
    ];
}

/// The next habit. The sequence continues over connections, since some habits end theirs.
#[derive(Debug, Default)]
pub struct Habits {
    asked: usize,
}

impl Habits {
    /// Returns the next habit; `None` every second time.
    pub fn next(&mut self) -> Option<Habit> {
        let asked = self.asked;
        self.asked = asked.wrapping_add(1);
        (asked % 2 == 1).then(|| Habit::ALL[asked / 2 % Habit::ALL.len()])
    }
}

/// One device.
#[derive(Debug)]
pub struct Device {
    is_remote: bool,
    status: u8,
    asked: u32,
}

impl Default for Device {
    fn default() -> Self {
        Self {
            is_remote: true,
            status: 0,
            asked: 0,
        }
    }
}

impl Device {
    /// Returns the actions for the bytes between STX and ETX.
    pub fn answer(&mut self, frame: &[u8], habit: Option<Habit>) -> Vec<Step> {
        self.asked = self.asked.wrapping_add(1);
        if habit == Some(Habit::StatusChange) {
            self.status = self.status % 9 + 1;
        }
        let Some(request) = Request::parse(frame) else {
            return vec![Step::Say(self.reply(UNKNOWN, ""))];
        };
        let good = match self.data(&request) {
            Some(data) => self.reply(request.code, &data),
            None => self.reply(UNKNOWN, ""),
        };
        let said = |bytes: Vec<u8>| vec![Step::Say(bytes)];
        match habit {
            None | Some(Habit::StatusChange) => said(good),
            Some(Habit::Noise) => said([&b"\xff\x00\x03noise\r\n\x02 half"[..], &good].concat()),
            Some(Habit::BreakInside) => said(self.reply(request.code, "1.0\r\n2.0\r\n3.0")),
            Some(Habit::ReturnBehind) => said([&good[..], b"\r"].concat()),
            Some(Habit::Pieces) => good
                .chunks(3)
                .flat_map(|piece| [Step::Say(piece.to_vec()), Step::Wait(A_MOMENT)])
                .collect(),
            Some(Habit::Busy) => said(self.reply(request.code, "BS")),
            Some(Habit::NotUnderstood) => said(self.reply(UNKNOWN, "")),
            Some(Habit::Slow) => vec![Step::Wait(SLOW), Step::Say(good)],
            Some(Habit::WrongEcho) => said(self.reply(*b"AXXX", "1.0")),
            Some(Habit::Glued) => said([&good[..], &good].concat()),
            Some(Habit::Mute) => Vec::new(),
            Some(Habit::Close) => vec![Step::Close],
        }
    }

    fn reply(&self, code: [u8; 4], data: &str) -> Vec<u8> {
        let mut bytes = Vec::new();
        emit_reply(b' ', code, self.status, data.as_bytes(), &mut bytes);
        bytes
    }

    /// Data of a reply; `None` for an unknown code.
    fn data(&mut self, request: &Request<'_>) -> Option<String> {
        if request.channel.iter().any(|digit| *digit != b'0') {
            return Some("NA".to_owned());
        }
        let drift = f64::from(self.asked % 100) / 100.0;
        let mode = if self.is_remote { "SREM" } else { "SMAN" };
        let data = match &request.code {
            b"ASTZ" => format!("{mode} STBY"),
            b"ASTF" if self.status == 0 => String::new(),
            b"ASTF" => format!("{}", 100 + u32::from(self.status)),
            b"AKON" => format!("{:.2} #9999 3E-2", 1.25 + drift),
            b"AKEN" => "ANTHILL SIM 1".to_owned(),
            b"AVFI" => "0.8".to_owned(),
            b"ATEM" => format!("{:.1} 191.0", 21.0 + drift),
            b"ADRU" => "1013.2".to_owned(),
            b"SREM" | b"SMAN" => {
                self.is_remote = request.code == *b"SREM";
                String::new()
            }
            b"STBY" | b"SMGA" | b"SPAU" if self.is_remote => String::new(),
            b"STBY" | b"SMGA" | b"SPAU" => "OF".to_owned(),
            _ => return None,
        };
        Some(data)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(device: &mut Device, frame: &str, habit: Option<Habit>) -> Vec<u8> {
        let steps = device.answer(frame.as_bytes(), habit);
        let bytes = steps.into_iter().filter_map(|step| match step {
            Step::Say(bytes) => Some(bytes),
            _ => None,
        });
        bytes.flatten().collect()
    }

    #[test]
    fn the_simulated_device_answers() {
        let mut device = Device::default();
        assert_eq!(
            said(&mut device, " ASTZ K0", None),
            b"\x02 ASTZ 0 SREM STBY\x03"
        );
        assert_eq!(said(&mut device, " ASTZ K1", None), b"\x02 ASTZ 0 NA\x03");
        assert_eq!(said(&mut device, " SMAN K0", None), b"\x02 SMAN 0\x03");
        assert_eq!(said(&mut device, " STBY K0", None), b"\x02 STBY 0 OF\x03");
        assert_eq!(said(&mut device, " AZZZ K0", None), b"\x02 ???? 0\x03");
        assert_eq!(said(&mut device, "damaged", None), b"\x02 ???? 0\x03");
    }

    #[test]
    fn every_habit_does_what_it_says() {
        let mut device = Device::default();
        let mut with = |habit| said(&mut device, " AVFI K0", Some(habit));
        assert!(with(Habit::Noise).ends_with(b"\x02 half\x02 AVFI 0 0.8\x03"));
        assert_eq!(with(Habit::ReturnBehind), b"\x02 AVFI 0 0.8\x03\r");
        assert_eq!(with(Habit::Pieces), b"\x02 AVFI 0 0.8\x03");
        assert_eq!(with(Habit::Busy), b"\x02 AVFI 0 BS\x03");
        assert_eq!(with(Habit::StatusChange), b"\x02 AVFI 1 0.8\x03");
        assert_eq!(with(Habit::Glued).len(), 2 * b"\x02 AVFI 1 0.8\x03".len());
        assert_eq!(with(Habit::WrongEcho), b"\x02 AXXX 1 1.0\x03");
        assert_eq!(with(Habit::Mute), b"");
        let closes = device.answer(b" AVFI K0", Some(Habit::Close));
        assert_eq!(closes, [Step::Close]);
    }
}
