//! A stream's payloads made samples. Stateful codecs want every packet once, in the order of the stream.

use super::Codec;
use super::g711::Law;
use audio_codec::Decoder as _;
use audio_codec::g722::G722Decoder;

/// Samples a packet has at most: 120 ms of Opus at 48 kHz (RFC 6716 §3.2.5).
pub const MAX_DECODED: usize = 5_760;

/// One stream's decoder.
pub enum Decoder {
    /// A table.
    G711(Law),
    /// Bytes in another order.
    L16,
    /// Two adaptive predictors.
    G722(Box<G722Decoder>),
    /// libopus.
    Opus(Box<opus::Decoder>),
}

impl Decoder {
    /// A decoder that has heard nothing. Allocates: not for a packet's path.
    pub fn new(codec: Codec) -> Self {
        match codec {
            Codec::Pcmu => Decoder::G711(Law::Mu),
            Codec::Pcma => Decoder::G711(Law::A),
            Codec::L16 => Decoder::L16,
            Codec::G722 => Decoder::G722(Box::new(G722Decoder::new())),
            Codec::Opus => {
                let decoder = opus::Decoder::new(48_000, opus::Channels::Mono);
                Decoder::Opus(Box::new(decoder.expect("libopus has 48 kHz mono, and memory")))
            }
        }
    }

    /// Forgets what it has heard.
    pub fn reset(&mut self) {
        match self {
            Decoder::G711(_) | Decoder::L16 => {}
            Decoder::G722(decoder) => **decoder = G722Decoder::new(),
            // Fails for a null pointer alone (opus_decoder_ctl).
            Decoder::Opus(decoder) => drop(decoder.reset_state()),
        }
    }

    /// A packet's samples. Answers how many; none if the payload is not of this codec.
    pub fn decode(&mut self, payload: &[u8], pcm: &mut [i16]) -> usize {
        match self {
            Decoder::G711(law) => law.decode_into(payload, pcm),
            Decoder::L16 => {
                let pairs = payload.as_chunks::<2>().0;
                pcm.iter_mut().zip(pairs).for_each(|(sample, bytes)| *sample = i16::from_be_bytes(*bytes));
                pairs.len().min(pcm.len())
            }
            Decoder::G722(decoder) => {
                let fits = payload.get(..payload.len().min(pcm.len() / 2)).unwrap_or_default();
                decoder.decode_into(fits, pcm).unwrap_or(0)
            }
            Decoder::Opus(_) if payload.is_empty() => 0,
            Decoder::Opus(decoder) => decoder.decode(payload, pcm, false).unwrap_or(0),
        }
    }

    /// What `payload` says of the lost packet before it, `pcm.len()` samples long, where a codec says that: Opus'
    /// in-band FEC (RFC 6716 §2.1.7), or else what libopus makes up. To be called before `decode` of the same payload.
    pub fn recover(&mut self, payload: &[u8], pcm: &mut [i16]) -> usize {
        match self {
            Decoder::G711(_) | Decoder::L16 | Decoder::G722(_) => 0,
            Decoder::Opus(_) if payload.is_empty() => 0,
            Decoder::Opus(decoder) => decoder.decode(payload, pcm, true).unwrap_or(0),
        }
    }
}
