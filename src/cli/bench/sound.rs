//! What the legs of a benchmark say: a second of quiet noise with one short pulse in it, over and over. Who hears the
//! pulse, and when, tells what was passed on and how late.

use crate::media::codec::{Codec, Decoder, Encoder, MAX_DECODED, OpusWish};
use crate::media::seed::Seed;
use std::time::Duration;

/// Packets of 20 ms in the second that is repeated.
pub const BEATS: usize = 50;
/// Samples beyond this are of a pulse: twenty times the noise, half of the pulse.
const LOUD: u16 = 6_000;
const PULSE: i16 = 14_000;
const NOISE: u64 = 300;

/// The second, as payloads.
pub struct Second {
    /// One for each beat; the first begins with the pulse.
    payloads: Vec<Vec<u8>>,
}

impl Second {
    /// In this codec.
    pub fn new(codec: Codec) -> Second {
        let (mut encoder, mut seed) = (Encoder::new(codec, OpusWish::default()), Seed::new(1));
        let encode = |beat: usize| {
            let pcm: Vec<i16> = (0..codec.rate().frame()).map(|n| sample(codec, beat, n, &mut seed)).collect();
            let mut payload = Vec::new();
            encoder.encode(&pcm, &mut payload);
            payload
        };
        Second { payloads: (0..BEATS).map(encode).collect() }
    }

    /// What is sent at a beat, and whether it has the pulse.
    pub fn at(&self, beat: usize) -> (&[u8], bool) {
        let beat = beat % BEATS;
        (self.payloads.get(beat).map_or(&[], Vec::as_slice), beat == 0)
    }
}

/// Noise, and 4 ms of a square wave of 1 kHz at the beginning of the first beat.
fn sample(codec: Codec, beat: usize, n: usize, seed: &mut Seed) -> i16 {
    let half = codec.rate().hz() as usize / 2_000;
    match (beat, n / half) {
        (0, turn) if turn < 8 => [PULSE, -PULSE][turn % 2],
        (_, _) => seed.below(2 * NOISE + 1) as i16 - NOISE as i16,
    }
}

/// Finds pulses in what is received.
pub struct Ear {
    codec: Codec,
    decoder: Decoder,
    pcm: Box<[i16; MAX_DECODED]>,
}

impl Ear {
    /// For one stream.
    pub fn new(codec: Codec) -> Ear {
        Ear { codec, decoder: Decoder::new(codec), pcm: Box::new([0; MAX_DECODED]) }
    }

    /// How far into a packet's sound a pulse is first heard.
    pub fn find(&mut self, payload: &[u8]) -> Option<Duration> {
        let count = self.decoder.decode(payload, &mut self.pcm[..]);
        let at = self.pcm.iter().take(count).position(|s| s.unsigned_abs() > LOUD)?;
        Some(Duration::from_nanos(at as u64 * 1_000_000_000 / u64::from(self.codec.rate().hz())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pulse_is_heard_once_a_second_in_every_codec() {
        for codec in Codec::ALL {
            let (second, mut ear) = (Second::new(codec), Ear::new(codec));
            let heard: Vec<usize> = (0..3 * BEATS).filter(|n| ear.find(second.at(*n).0).is_some()).collect();
            assert_eq!(heard, [0, BEATS, 2 * BEATS], "{codec:?}");
        }
    }
}
