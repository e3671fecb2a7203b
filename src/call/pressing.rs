//! Keys that we press: a conference's PIN, as telephone events (RFC 4733). One key at a time; whoever dials makes the pauses.

use crate::call::engine::Call;
use crate::call::keys::Digit;
use crate::call::{Ack, Port, Refusal};
use crate::id::LegId;
use crate::time::MediaTime;

/// Packets of 20 ms while a key is down: 100 ms, which every gateway takes for a press.
const HELD: u16 = 5;
/// The last packet is sent so many times (§2.5.1.4).
const ENDS: u16 = 3;
/// -10 dBm0, as telephones say of their keys (§2.3.3).
const VOLUME: u8 = 10;
/// The bit that says that the key is up.
const END: u8 = 0x80;

/// A key that is down, or was a moment ago.
pub(crate) struct Pressing {
    digit: Digit,
    began: Option<u32>,
    packets: u16,
}

impl Call {
    pub(super) fn dial(&mut self, leg: LegId, digit: Digit) -> Result<Ack, Refusal> {
        let at = self.place_of(leg).ok_or(Refusal::NoSuchLeg(leg))?;
        let leg = &mut self.legs[at];
        if leg.media.dtmf.is_none() {
            return Err(Refusal::NotNow("this line takes no telephone events"));
        }
        if leg.pressing.is_some() {
            return Err(Refusal::NotNow("a key is being pressed"));
        }
        leg.pressing = Some(Pressing { digit, began: None, packets: 0 });
        Ok(Ack::Done)
    }

    /// The next packet of every key that is down.
    pub(super) fn press_on(&mut self, at: MediaTime) {
        for to in 0..self.legs.len() {
            self.press_next(at, to);
        }
    }

    fn press_next(&mut self, at: MediaTime, to: usize) {
        let leg = &mut self.legs[to];
        let (named, reachable) = (leg.media.dtmf, leg.can_be_sent_to());
        let Some(mut pressing) = leg.pressing.take() else { return };
        let Some(named) = named.filter(|_| reachable) else { return };
        self.flush(to);
        let leg = &mut self.legs[to];
        let stamp = leg.sender.press(at, pressing.began);
        pressing.began = Some(stamp.timestamp);
        pressing.packets += 1;
        let end = if pressing.packets >= HELD { END } else { 0 };
        let units = leg.media.shape.dtmf_clock / 50;
        let duration = u32::from(pressing.packets.min(HELD)).saturating_mul(units).min(0xFFFF) as u16;
        let [d0, d1] = duration.to_be_bytes();
        leg.sender.count(4);
        self.bench.on().outbox.send(leg.id(), Port::Rtp, leg.target(), |out| {
            out.extend_from_slice(&stamp.header(named).bytes());
            out.extend_from_slice(&[pressing.digit.event(), end | VOLUME, d0, d1]);
        });
        if pressing.packets < HELD + ENDS - 1 {
            leg.pressing = Some(pressing);
        }
    }
}
