//! One stream in another codec, packet by packet, for a relay that is left alone: no clip, no mix.

use crate::media::codec::{Codec, Decoder, Encoder, MAX_DECODED, OpusWish};
use crate::media::resample::Resampler;

/// From one codec to another. Loss stays loss; of what one packet of the other codec cannot hold, the rest is lost.
pub struct Translator {
    from: Codec,
    to: Codec,
    decoder: Decoder,
    resampler: Resampler,
    encoder: Encoder,
    decoded: Vec<i16>,
    samples: Vec<i16>,
}

impl Translator {
    /// A translator that has heard nothing. Allocates.
    pub fn new(from: Codec, to: Codec, wish: OpusWish) -> Self {
        Translator {
            from,
            to,
            decoder: Decoder::new(from),
            resampler: Resampler::new(from.rate(), to.rate()),
            encoder: Encoder::new(to, wish),
            decoded: vec![0; MAX_DECODED],
            samples: vec![0; to.rate().frame() * 9],
        }
    }

    /// Whether it is of this pair.
    pub fn is_for(&self, from: Codec, to: Codec) -> bool {
        (self.from, self.to) == (from, to)
    }

    /// Takes in a payload; answers how many samples, at the other codec's rate, the packet made of it will have.
    pub fn take(&mut self, payload: &[u8]) -> usize {
        let decoded = self.decoder.decode(payload, &mut self.decoded);
        let count = self.resampler.process(&self.decoded[..decoded], &mut self.samples);
        self.to.piece(count, self.to.rate().frame() * 3)
    }

    /// Appends the payload made of the first `count` samples taken in.
    pub fn write(&mut self, count: usize, out: &mut Vec<u8>) {
        self.encoder.encode(&self.samples[..count.min(self.samples.len())], out);
    }
}
