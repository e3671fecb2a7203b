//! The keys of a supervisor's telephone: `4` spy, `5` whisper, `6` barge, `7` take over and give back, `*` next call, `#`
//! volume, `0` leave (DESIGN §6).
//!
//! In come telephone events (RFC 4733) and keys told by INFO; what they mean is carried out here. A key counts once,
//! however many packets tell of it, and only the supervisor learns that one was refused: by a short low tone. What was
//! pressed is never told to anyone; what came of it is.

use crate::call::engine::Call;
use crate::call::{Ack, Audience, ClipSpec, Refusal, Sound};
use crate::event::{Actor, Mode, What};
use crate::id::LegId;
use crate::media::rtp::Header;
use crate::time::{MediaTime, Samples};
use serde::{Deserialize, Serialize};
use std::sync::LazyLock;

/// A packet of an event that began this many timestamp units or less before the last one is late: 1 s at 48 kHz, 6 s
/// at 8 kHz.
const LATE: u32 = 48_000;
/// RFC 4733 §2.5.1.3: an event that lasts longer goes on under a timestamp that is later by this.
const SEGMENT: u32 = 0xFFFF;
/// A phone that tells of a key by RTP and by INFO does so within this time.
const BOTH_WAYS: Samples = Samples::from_millis(1000);

/// A key as it was told (RFC 4733 §3.2): 0 to 9, 10 `*`, 11 `#`, 12 to 15 `A` to `D`. Without `Debug`: it reaches no log.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Digit(u8);

impl Digit {
    /// Of a telephone event.
    pub fn of_event(event: u8) -> Option<Digit> {
        (event <= 15).then_some(Digit(event))
    }
    /// As it is written on a key.
    pub fn of_char(c: char) -> Option<Digit> {
        let place = "0123456789*#ABCD".chars().position(|key| key == c.to_ascii_uppercase())?;
        Some(Digit(place as u8))
    }
    /// The telephone event.
    pub fn event(self) -> u8 {
        self.0
    }
    /// As it is written on a key.
    pub fn as_char(self) -> char {
        char::from(b"0123456789*#ABCD"[usize::from(self.0 & 15)])
    }
}

/// What a key means. Not its digit: that is known to nobody beyond this file and the one that reads INFO.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Key {
    /// Be in this mode.
    Mode(Mode),
    /// The next step of the volume's round.
    Volume,
    /// Become the agent, or be a supervisor again.
    TakeOver,
    /// Hang up.
    Leave,
    /// The next call of those they may hear.
    Next,
}

impl Key {
    /// The meaning of a telephone event (RFC 4733 §3.2: 0 to 9, 10 `*`, 11 `#`), if it has one here.
    pub fn of_event(event: u8) -> Option<Key> {
        Key::of(Digit::of_event(event)?)
    }
    /// The meaning of a key.
    pub fn of(digit: Digit) -> Option<Key> {
        match digit.0 {
            0 => Some(Key::Leave),
            4 => Some(Key::Mode(Mode::Spy)),
            5 => Some(Key::Mode(Mode::Whisper)),
            6 => Some(Key::Mode(Mode::Barge)),
            7 => Some(Key::TakeOver),
            10 => Some(Key::Next),
            11 => Some(Key::Volume),
            _ => None,
        }
    }
}

/// How a key was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Way {
    /// Telephone events.
    Rtp,
    /// INFO.
    Signalling,
}

/// What is known of a leg's keypad.
#[derive(Default)]
pub(crate) struct Keypad {
    event: Option<Event>,
    pressed: Option<(MediaTime, Key, Way)>,
    keyed: Option<(MediaTime, Digit, Way)>,
}

/// The last telephone event: one SSRC and timestamp, one press (RFC 4733 §2.2.1).
struct Event {
    ssrc: u32,
    timestamp: u32,
    /// None where it was pressed in another call.
    code: Option<u8>,
}

/// What a keypad was doing when its telephone left for another call: without the key, which nobody is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Held {
    event: Option<(u32, u32)>,
    asked: Option<Way>,
}

impl Keypad {
    /// A packet of telephone events: the key, at the first packet of its event. Of a packet with several events the
    /// first counts.
    pub fn digit(&mut self, header: &Header, payload: &[u8]) -> Option<Digit> {
        let &code = payload.first()?;
        let (ssrc, timestamp) = (header.ssrc, header.timestamp);
        if let Some(last) = self.event.as_mut().filter(|last| last.ssrc == ssrc) {
            if last.timestamp.wrapping_sub(timestamp) <= LATE {
                return None;
            }
            if last.code == Some(code) && timestamp == last.timestamp.wrapping_add(SEGMENT) {
                last.timestamp = timestamp;
                return None;
            }
        }
        self.event = Some(Event { ssrc, timestamp, code: Some(code) });
        Digit::of_event(code)
    }

    /// The rest of a press belongs to the call it was meant for.
    pub fn held(&self) -> Held {
        let asked = self.pressed.filter(|(_, key, _)| *key == Key::Next).map(|(.., way)| way);
        Held { event: self.event.as_ref().map(|e| (e.ssrc, e.timestamp)), asked }
    }

    /// A telephone that comes from another call.
    pub fn resume(now: MediaTime, held: Held) -> Keypad {
        let event = held.event.map(|(ssrc, timestamp)| Event { ssrc, timestamp, code: None });
        Keypad { event, pressed: held.asked.map(|way| (now, Key::Next, way)), keyed: None }
    }

    /// Whether a press is one of its own: not that which was told the other way a moment ago.
    pub fn counts(&mut self, now: MediaTime, key: Key, way: Way) -> bool {
        let told = self.pressed.is_some_and(|(at, k, w)| k == key && w != way && (now - at).0 <= BOTH_WAYS.0);
        if told {
            return false;
        }
        self.pressed = Some((now, key, way));
        true
    }

    /// The same for a digit that is keyed in.
    pub fn counts_digit(&mut self, now: MediaTime, digit: Digit, way: Way) -> bool {
        let told = self.keyed.is_some_and(|(at, d, w)| d == digit && w != way && (now - at).0 <= BOTH_WAYS.0);
        if !told {
            self.keyed = Some((now, digit, way));
        }
        !told
    }
}

impl Call {
    /// A key that was told by INFO.
    pub(super) fn press(&mut self, leg: LegId, key: Key) -> Result<Ack, Refusal> {
        let at = self.place_of(leg).ok_or(Refusal::NoSuchLeg(leg))?;
        let now = self.now;
        if let Some(key) = self.legs[at].pressed(now, key, Way::Signalling) {
            self.obey(at, key);
        }
        Ok(Ack::Done)
    }

    /// Does what the supervisor at `at` wants.
    pub(super) fn obey(&mut self, at: usize, key: Key) {
        let leg = &self.legs[at];
        let (id, volume, stands_in) = (leg.id(), leg.volume.next(), leg.stands_in());
        self.cut_what_is_told(id);
        let done = match key {
            Key::Mode(mode) => self.set_supervisor(id, mode, Actor::Person).map(drop),
            Key::TakeOver if stands_in => self.give_back(id).map(drop),
            Key::TakeOver => self.take_over(id).map(drop),
            // Nobody leaves a customer alone by a slip of the finger.
            Key::Next if stands_in => Err(Refusal::NotNow("whoever has taken over gives back first")),
            // Those they may hear are not known to a call.
            Key::Next => {
                self.tell(Some(id), What::SupervisorAsked {});
                Ok(())
            }
            Key::Volume => {
                self.set_volume(at, volume);
                Ok(())
            }
            Key::Leave => {
                self.remove_leg(at, "supervisor left".into());
                Ok(())
            }
        };
        if done.is_err() {
            self.say_no(id);
        }
    }

    pub(super) fn set_volume(&mut self, at: usize, volume: crate::call::Volume) {
        self.legs[at].volume = volume;
        self.changed(at, "volume");
        self.reroute();
    }

    /// The tone of refusal, in one ear. Where too many clips wait there is none: more of them would say nothing.
    fn say_no(&mut self, leg: LegId) {
        static TONE: LazyLock<Sound> = LazyLock::new(|| low_tone().into());
        let audience = Audience::Legs(vec![leg]);
        let _ = self.clips.add(ClipSpec { pcm: TONE.clone(), audience, looped: false, text: None });
    }
}

/// 300 ms of 250 Hz at −17 dBFS, 8 kHz, whose ends are soft: low enough to be unlike any tone of a telephone exchange.
fn low_tone() -> Vec<i16> {
    const RATE: f32 = 8_000.0;
    const LENGTH: usize = 2_400;
    const EDGE: f32 = 80.0;
    let sample = |n: usize| {
        let soft = (n.min(LENGTH - 1 - n) as f32 / EDGE).min(1.0);
        (4_600.0 * soft * (std::f32::consts::TAU * 250.0 * n as f32 / RATE).sin()) as i16
    };
    (0..LENGTH).map(sample).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(ssrc: u32, timestamp: u32) -> Header {
        Header { marker: false, payload_type: 101, sequence: 0, timestamp, ssrc }
    }
    /// SSRC, timestamp, event.
    type Came = (u32, u32, u8);

    fn presses(packets: &[Came]) -> usize {
        let mut keypad = Keypad::default();
        packets
            .iter()
            .filter(|(ssrc, t, code)| {
                keypad.digit(&header(*ssrc, *t), &[*code, 10, 0, 160]).and_then(Key::of).is_some()
            })
            .count()
    }

    #[test]
    fn an_event_counts_once_whatever_becomes_of_its_packets() {
        let rows: [(&[Came], usize, &str); 8] = [
            (&[(1, 800, 11); 9], 1, "nine packets"),
            (&[(1, 800, 11), (1, 2400, 11)], 2, "the same key twice"),
            (&[(1, 800, 5), (1, 2400, 6), (1, 800, 5)], 2, "a packet that was overtaken"),
            (&[(1, 800, 5), (1, 800 + 0xFFFF, 5), (1, 800 + 2 * 0xFFFF, 5)], 1, "held for 20 seconds"),
            (&[(1, 800, 5), (1, 800 + 0xFFFF, 6)], 2, "another key, exactly then"),
            (&[(1, u32::MAX - 100, 4), (1, u32::MAX - 100, 4), (1, 700, 4)], 2, "across the wrap"),
            (&[(1, 800, 4), (2, 800, 4)], 2, "another stream"),
            (&[(1, 800, 1), (1, 2400, 15), (1, 4000, 200)], 0, "keys without a meaning"),
        ];
        for (packets, expected, what) in rows {
            assert_eq!(presses(packets), expected, "{what}");
        }
        assert!(Keypad::default().digit(&header(1, 1), &[]).is_none());
    }

    #[test]
    fn a_press_told_both_ways_counts_once() {
        let mut keypad = Keypad::default();
        let mut counts = |ms, way| keypad.counts(MediaTime::from_millis(ms), Key::Volume, way);
        assert!(counts(0, Way::Rtp) && !counts(30, Way::Signalling));
        assert!(counts(300, Way::Rtp) && !counts(320, Way::Signalling));
        assert!(counts(2000, Way::Signalling), "long after: another press");
        assert!(counts(2100, Way::Signalling), "the same way: another press");
    }
}
