//! Samples made a stream's payloads.

use super::g711::Law;
use super::{Codec, OpusWish};
use audio_codec::Encoder as _;
use audio_codec::g722::G722Encoder;

/// The longest packet libopus makes of one frame (RFC 6716 §3.2.1).
const OPUS_MOST: usize = 1_275;
/// Bits a second for a voice in full band where the peer asks for no less (RFC 7587 §3.1.1: 28 to 40 kbit/s).
const OPUS_BITRATE: i32 = 32_000;
/// What libopus can make, bits a second (RFC 7587 §6.1).
const OPUS_BITRATES: std::ops::RangeInclusive<u32> = 6_000..=510_000;
/// The loss the encoder arms itself against where the peer can use FEC, in per cent. Without loss there is no FEC.
const EXPECTED_LOSS: i32 = 10;
/// Of 10; twice as dear above for a difference few hear in a voice.
const COMPLEXITY: i32 = 5;

/// One stream's encoder.
pub enum Encoder {
    /// A table.
    G711(Law),
    /// Bytes in another order.
    L16,
    /// Two adaptive predictors.
    G722(Box<G722Encoder>),
    /// libopus.
    Opus(Box<opus::Encoder>),
}

impl Encoder {
    /// An encoder that has said nothing. Allocates: not for a packet's path.
    pub fn new(codec: Codec, wish: OpusWish) -> Self {
        match codec {
            Codec::Pcmu => Encoder::G711(Law::Mu),
            Codec::Pcma => Encoder::G711(Law::A),
            Codec::L16 => Encoder::L16,
            Codec::G722 => Encoder::G722(Box::new(G722Encoder::new())),
            Codec::Opus => {
                let encoder = opus::Encoder::new(48_000, opus::Channels::Mono, opus::Application::Voip);
                let mut encoder = encoder.expect("libopus has 48 kHz mono, and memory");
                set(&mut encoder, wish).expect("libopus knows these settings");
                Encoder::Opus(Box::new(encoder))
            }
        }
    }

    /// Appends one packet's payload. `pcm` is as long as [`Codec::piece`] says.
    pub fn encode(&mut self, pcm: &[i16], out: &mut Vec<u8>) {
        match self {
            // One loop for each law: the choice is not made anew for every sample.
            Encoder::G711(Law::Mu) => out.extend(pcm.iter().map(|s| Law::Mu.encode(*s))),
            Encoder::G711(Law::A) => out.extend(pcm.iter().map(|s| Law::A.encode(*s))),
            Encoder::L16 => out.extend(pcm.iter().flat_map(|s| s.to_be_bytes())),
            Encoder::G722(encoder) => {
                append(out, pcm.len() / 2 + 1, |bytes| encoder.encode_into(pcm, bytes).unwrap_or(0));
            }
            Encoder::Opus(encoder) => append(out, OPUS_MOST, |bytes| encoder.encode(pcm, bytes).unwrap_or(0)),
        }
    }
}

fn set(encoder: &mut opus::Encoder, wish: OpusWish) -> opus::Result<()> {
    let most = wish.bitrate.map_or(OPUS_BITRATE, |b| b.clamp(*OPUS_BITRATES.start(), *OPUS_BITRATES.end()) as i32);
    encoder.set_bitrate(opus::Bitrate::Bits(most.min(OPUS_BITRATE)))?;
    encoder.set_complexity(COMPLEXITY)?;
    encoder.set_inband_fec(wish.fec)?;
    encoder.set_packet_loss_perc(if wish.fec { EXPECTED_LOSS } else { 0 })
}

/// Gives `write` room at the end of `out` and keeps what it wrote.
fn append(out: &mut Vec<u8>, most: usize, write: impl FnOnce(&mut [u8]) -> usize) {
    let from = out.len();
    out.resize(from + most, 0);
    let written = write(&mut out[from..]).min(most);
    out.truncate(from + written);
}
