//! G.711 (ITU-T): a byte for a sample, by two laws.

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Law {
    /// μ-law: North America and Japan.
    Mu,
    /// A-law: everywhere else.
    A,
}

impl Law {
    /// The sample a byte stands for.
    pub fn decode(self, byte: u8) -> i16 {
        self.table()[byte as usize]
    }
    /// The byte that stands for a sample.
    pub fn encode(self, sample: i16) -> u8 {
        match self {
            Law::Mu => ulaw(sample),
            Law::A => alaw(sample),
        }
    }
    /// Decodes as many bytes as `pcm` has room for; answers how many.
    pub fn decode_into(self, bytes: &[u8], pcm: &mut [i16]) -> usize {
        let table = self.table();
        for (sample, byte) in pcm.iter_mut().zip(bytes) {
            *sample = table[*byte as usize];
        }
        bytes.len().min(pcm.len())
    }

    fn table(self) -> &'static [i16; 256] {
        match self {
            Law::Mu => &ULAW,
            Law::A => &ALAW,
        }
    }
}

static ULAW: [i16; 256] = table(Law::Mu);
static ALAW: [i16; 256] = table(Law::A);

const fn table(law: Law) -> [i16; 256] {
    let mut t = [0i16; 256];
    let mut byte = 0;
    while byte < 256 {
        t[byte] = match law {
            Law::Mu => ulaw_value(byte as u8),
            Law::A => alaw_value(byte as u8),
        };
        byte += 1;
    }
    t
}

/// The offset that makes every μ-law segment twice as wide as the one below: 33 in G.711's 14 bits.
const BIAS: i32 = 33 << 2;
/// The largest magnitude whose biased value still has 15 bits.
const CLIP: i32 = 32_635;

const fn ulaw_value(byte: u8) -> i16 {
    let bits = !byte;
    let (segment, step) = ((bits >> 4) & 7, (bits & 15) as i32);
    let magnitude = (((step << 3) + BIAS) << segment) - BIAS;
    if bits & 0x80 != 0 { -magnitude as i16 } else { magnitude as i16 }
}

const fn alaw_value(byte: u8) -> i16 {
    // G.711 inverts every other bit on the line.
    let bits = byte ^ 0x55;
    let (segment, step) = ((bits >> 4) & 7, (bits & 15) as i32);
    let magnitude = match segment {
        0 => (step << 4) + 8,
        _ => ((step << 4) + 0x108) << (segment - 1),
    };
    if bits & 0x80 != 0 { magnitude as i16 } else { -magnitude as i16 }
}

fn ulaw(sample: i16) -> u8 {
    let sign = if sample < 0 { 0x80 } else { 0 };
    let biased = (i32::from(sample).abs().min(CLIP) + BIAS) as u32;
    // Biased values have 8 to 15 bits: the number of bits above 8 is the segment.
    let segment = 24 - biased.leading_zeros();
    let step = (biased >> (segment + 3)) & 15;
    !(sign | (segment << 4) as u8 | step as u8)
}

fn alaw(sample: i16) -> u8 {
    // A-law has no zero: −1 is the mirror of 0, so the negative half is the complement of the positive.
    let (sign, magnitude) = if sample < 0 { (0, !sample as u32) } else { (0x80, sample as u32) };
    let segment = 24u32.saturating_sub(magnitude.leading_zeros());
    let step = match segment {
        0 => magnitude >> 4,
        _ => magnitude >> (segment + 3),
    } & 15;
    (sign | (segment << 4) as u8 | step as u8) ^ 0x55
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_survives_a_round_trip() {
        for byte in 0..=255u8 {
            // μ-law has two zeros; the negative one comes back as the positive one.
            let expected = if byte == 0x7F { 0xFF } else { byte };
            assert_eq!(Law::Mu.encode(Law::Mu.decode(byte)), expected);
            assert_eq!(Law::A.encode(Law::A.decode(byte)), byte);
        }
    }

    /// G.711 tables 1 and 2: no sample is further from its code's value than half that segment's step.
    #[test]
    fn every_sample_is_within_half_a_step() {
        for sample in i16::MIN..=i16::MAX {
            let u = Law::Mu.decode(Law::Mu.encode(sample));
            let half = 4i32 << ((!Law::Mu.encode(sample) >> 4) & 7);
            let clipped = i32::from(sample).clamp(-CLIP, CLIP);
            assert!((i32::from(u) - clipped).abs() <= half, "μ {sample} → {u}");

            let a = Law::A.decode(Law::A.encode(sample));
            let half = 8i32 << ((((Law::A.encode(sample) ^ 0x55) >> 4) & 7).max(1) - 1);
            assert!((i32::from(a) - i32::from(sample)).abs() <= half, "A {sample} → {a}");
        }
    }

    #[test]
    fn louder_never_sounds_quieter() {
        for law in [Law::Mu, Law::A] {
            let heard = |s: i16| law.decode(law.encode(s));
            assert!((i16::MIN..i16::MAX).all(|s| heard(s) <= heard(s + 1)));
        }
    }

    /// Anchors from G.711's tables: digital silence, the ends of the range, the first steps.
    #[test]
    fn known_codes() {
        for (sample, byte) in [(0, 0xFF), (8, 0xFE), (-8, 0x7E), (32_124, 0x80), (-32_124, 0x00), (132, 0xEF)] {
            assert_eq!((Law::Mu.encode(sample), Law::Mu.decode(byte)), (byte, sample));
        }
        for (sample, byte) in [(8, 0xD5), (-8, 0x55), (32_256, 0xAA), (-32_256, 0x2A), (264, 0xC5)] {
            assert_eq!((Law::A.encode(sample), Law::A.decode(byte)), (byte, sample));
        }
    }
}
