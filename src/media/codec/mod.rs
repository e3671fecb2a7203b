//! What a leg speaks on the wire: which codecs there are, and how their packets count time. Bytes become samples in
//! [`Decoder`], samples bytes in [`Encoder`].

mod decoder;
mod encoder;
pub mod g711;
mod opus_packet;

pub use decoder::{Decoder, MAX_DECODED};
pub use encoder::Encoder;
use g711::Law;

use crate::media::pcm::Rate;

/// A codec.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Codec {
    /// G.711 μ-law, static payload type 0 (RFC 3551 §4.5.14).
    #[serde(rename = "PCMU")]
    Pcmu,
    /// G.711 A-law, static payload type 8.
    #[serde(rename = "PCMA")]
    Pcma,
    /// G.722 at 64 kbit/s, static payload type 9 (RFC 3551 §4.5.2).
    #[serde(rename = "G722")]
    G722,
    /// Opus (RFC 6716, RFC 7587), always mono here.
    #[serde(rename = "opus")]
    Opus,
    /// Uncompressed 16-bit samples, most significant byte first (RFC 3551 §4.5.11), mono, 16 kHz.
    #[serde(rename = "L16")]
    L16,
}

impl Codec {
    /// All, the best sounding first that is not wasteful.
    pub const ALL: [Codec; 5] = [Codec::Opus, Codec::G722, Codec::Pcmu, Codec::Pcma, Codec::L16];

    /// The rate of its samples.
    pub const fn rate(self) -> Rate {
        match self {
            Codec::Pcmu | Codec::Pcma => Rate::Narrow,
            Codec::G722 | Codec::L16 => Rate::Wide,
            Codec::Opus => Rate::Full,
        }
    }
    /// Timestamp units a second. G.722's are half its samples, by an old mistake (RFC 3551 §4.5.2).
    pub const fn clock(self) -> u32 {
        match self {
            Codec::Pcmu | Codec::Pcma | Codec::G722 => 8_000,
            Codec::L16 => 16_000,
            Codec::Opus => 48_000,
        }
    }
    /// Its law, if it is G.711.
    pub const fn law(self) -> Option<Law> {
        match self {
            Codec::Pcmu => Some(Law::Mu),
            Codec::Pcma => Some(Law::A),
            Codec::G722 | Codec::Opus | Codec::L16 => None,
        }
    }
    /// How long a payload plays, in timestamp units; 0 if it is none of this codec.
    pub fn ticks(self, payload: &[u8]) -> u32 {
        let bytes = payload.len() as u32;
        match self {
            Codec::Pcmu | Codec::Pcma | Codec::G722 => bytes,
            Codec::L16 => bytes / 2,
            Codec::Opus => opus_packet::samples(payload),
        }
    }
    /// Timestamp units of so many samples.
    pub const fn ticks_of(self, samples: usize) -> u32 {
        (samples as u64 * self.clock() as u64 / self.rate().hz() as u64) as u32
    }
    /// How many of `rest` samples the next packet takes, `most` at most. 0 if they are too few for any packet.
    pub fn piece(self, rest: usize, most: usize) -> usize {
        let room = rest.min(most);
        match self {
            Codec::Pcmu | Codec::Pcma => room,
            // A byte for two samples.
            Codec::G722 => room & !1,
            // 40 ms are 1,280 bytes: more does not fit an Ethernet frame.
            Codec::L16 => room.min(640),
            // RFC 6716 §2.1.4.
            Codec::Opus => [2880, 1920, 960, 480, 240, 120].into_iter().find(|s| *s <= room).unwrap_or(0),
        }
    }
}

/// What a peer wants of the Opus it is sent (RFC 7587 §6.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct OpusWish {
    /// `maxaveragebitrate`, bits a second.
    pub bitrate: Option<u32>,
    /// `useinbandfec`: it can use what a packet says of the one before.
    pub fec: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::f64::consts::TAU;

    fn tone(hz: f64, rate: Rate) -> Vec<i16> {
        let per = f64::from(rate.hz());
        (0..rate.frame() * 50).map(|n| (8000.0 * (n as f64 * hz * TAU / per).sin()) as i16).collect()
    }

    fn amplitude(pcm: &[i16], hz: f64, rate: Rate) -> f64 {
        let w = TAU * hz / f64::from(rate.hz());
        let (mut s, mut c) = (0.0, 0.0);
        for (n, x) in pcm.iter().enumerate() {
            s += f64::from(*x) * (w * n as f64).sin();
            c += f64::from(*x) * (w * n as f64).cos();
        }
        2.0 * (s * s + c * c).sqrt() / pcm.len() as f64
    }

    /// A second of a tone through each codec and back, as loud as it was, and time is counted as its clock does.
    #[test]
    fn every_codec_carries_its_band() {
        for codec in Codec::ALL {
            let rate = codec.rate();
            for hz in [400.0, 1000.0, f64::from(rate.hz().min(16_000)) * 0.4] {
                let (mut encoder, mut decoder) = (Encoder::new(codec, OpusWish::default()), Decoder::new(codec));
                let (mut heard, mut ticks) = (Vec::new(), 0);
                for frame in tone(hz, rate).chunks(rate.frame()) {
                    let mut payload = Vec::new();
                    encoder.encode(frame, &mut payload);
                    ticks += codec.ticks(&payload);
                    let mut pcm = [0; MAX_DECODED];
                    let count = decoder.decode(&payload, &mut pcm);
                    assert_eq!((count, codec.ticks_of(count)), (rate.frame(), codec.clock() / 50), "{codec:?}");
                    heard.extend_from_slice(&pcm[..count]);
                }
                assert_eq!(ticks, codec.clock());
                let a = amplitude(&heard[heard.len() / 2..], hz, rate);
                assert!((6500.0..9500.0).contains(&a), "{codec:?} {hz} Hz: {a}");
            }
        }
    }

    #[test]
    fn a_lost_opus_packet_is_in_the_next() {
        let wish = OpusWish { bitrate: Some(32_000), fec: true };
        let (mut encoder, mut decoder) = (Encoder::new(Codec::Opus, wish), Decoder::new(Codec::Opus));
        // Something like a voice: a tone that comes and goes.
        let voice = |n: usize| {
            let t = n as f64 / 48_000.0;
            (9000.0 * (TAU * 170.0 * t).sin() * (TAU * 3.0 * t).sin() + 3000.0 * (TAU * 510.0 * t).sin()) as i16
        };
        let packets: Vec<Vec<u8>> = (0..50)
            .map(|f| {
                let pcm: Vec<i16> = (0..960).map(|i| voice(f * 960 + i)).collect();
                let mut payload = Vec::new();
                encoder.encode(&pcm, &mut payload);
                payload
            })
            .collect();
        let mut pcm = [0; MAX_DECODED];
        for packet in &packets[..30] {
            decoder.decode(packet, &mut pcm);
        }
        let recovered = decoder.recover(&packets[31], &mut pcm[..960]);
        assert_eq!(recovered, 960);
        let energy = |pcm: &[i16]| pcm.iter().map(|s| f64::from(*s).powi(2)).sum::<f64>();
        assert!(energy(&pcm[..960]) > 1e9, "the lost packet sounds");
        assert_eq!(Decoder::new(Codec::G722).recover(&[0; 160], &mut pcm[..320]), 0);
    }

    #[test]
    fn no_payload_panics() {
        let mut seed = crate::media::seed::Seed::new(4);
        for codec in Codec::ALL {
            let (mut decoder, mut pcm) = (Decoder::new(codec), [0; MAX_DECODED]);
            for _ in 0..20_000 {
                let payload: Vec<u8> = (0..seed.below(80)).map(|_| seed.bits() as u8).collect();
                assert!(decoder.decode(&payload, &mut pcm) <= MAX_DECODED);
                decoder.recover(&payload, &mut pcm[..960]);
                assert!(codec.ticks(&payload) <= 5760);
            }
            let long = vec![7; crate::media::MAX_PAYLOAD];
            assert!(decoder.decode(&long, &mut pcm) <= MAX_DECODED);
        }
    }

    #[test]
    fn pieces_are_packets_the_codec_has() {
        for (codec, rest, most, piece) in [
            (Codec::Pcmu, 240, 480, 240),
            (Codec::G722, 321, 960, 320),
            (Codec::Opus, 1440, 2880, 960),
            (Codec::Opus, 119, 2880, 0),
            (Codec::Opus, 5760, 960, 960),
            (Codec::L16, 960, 960, 640),
        ] {
            assert_eq!(codec.piece(rest, most), piece, "{codec:?}");
        }
    }
}
