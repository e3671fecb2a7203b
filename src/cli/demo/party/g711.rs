//! G.711 by its formulas (ITU-T G.711; the segments of table 2), for parties that share no code with the server.

use crate::media::codec::g711::Law;

/// A sample as one byte.
pub(super) fn encode(codec: Law, sample: i16) -> u8 {
    match codec {
        Law::Mu => encode_mu(sample),
        Law::A => encode_a(sample),
    }
}

/// One byte as a sample.
pub(super) fn decode(codec: Law, byte: u8) -> i16 {
    match codec {
        Law::Mu => decode_mu(byte),
        Law::A => decode_a(byte),
    }
}

/// Shifts the 14-bit magnitude so that every segment begins at a power of two.
const BIAS: i32 = 0x84;

fn encode_mu(sample: i16) -> u8 {
    let sign = if sample < 0 { 0x80 } else { 0 };
    let magnitude = (i32::from(sample).abs() + BIAS).min(0x7fff);
    let segment = (magnitude >> 7).ilog2();
    let step = magnitude >> (segment + 3) & 0x0f;
    !(sign | (segment as u8) << 4 | step as u8)
}

fn decode_mu(byte: u8) -> i16 {
    let byte = !byte;
    let magnitude = (((i32::from(byte & 0x0f) << 3) + BIAS) << (byte >> 4 & 7)) - BIAS;
    (if byte & 0x80 != 0 { -magnitude } else { magnitude }) as i16
}

fn encode_a(sample: i16) -> u8 {
    // Negative samples are mirrored by one's complement, so that both signs have the same 2,048 steps.
    let (sign, magnitude) = if sample < 0 { (0, !sample >> 4) } else { (0x80, sample >> 4) };
    let byte = match magnitude {
        0..32 => magnitude,
        _ => {
            let segment = magnitude.ilog2() as i16 - 3;
            segment << 4 | magnitude >> (segment - 1) & 0x0f
        }
    };
    (sign | byte as u8) ^ 0x55
}

fn decode_a(byte: u8) -> i16 {
    let byte = byte ^ 0x55;
    let step = i32::from(byte & 0x0f) << 4;
    let magnitude = match byte >> 4 & 7 {
        0 => step + 8,
        segment => (step + 0x108) << (segment - 1),
    };
    (if byte & 0x80 != 0 { magnitude } else { -magnitude }) as i16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_survives_decoding_and_encoding() {
        for byte in 0..=255 {
            assert_eq!(encode(Law::A, decode(Law::A, byte)), byte);
            // μ-law has two zeros; the negative one comes back as the positive one.
            let expected = if byte == 0x7f { 0xff } else { byte };
            assert_eq!(encode(Law::Mu, decode(Law::Mu, byte)), expected);
        }
    }

    #[test]
    fn no_sample_is_further_off_than_half_a_step() {
        for sample in i16::MIN..=i16::MAX {
            let loud = i32::from(sample).abs();
            // Steps double from segment to segment; μ-law's begin after its bias, and it ends at 32,124.
            let half_a_step = 8.max((loud + BIAS) / 32) + 1;
            for codec in [Law::Mu, Law::A] {
                let back = i32::from(decode(codec, encode(codec, sample)));
                let error = (back - i32::from(sample)).abs();
                assert!(error <= half_a_step || loud > 32_124, "{codec:?} {sample} came back as {back}");
            }
        }
    }

    #[test]
    fn known_values_of_the_standard() {
        assert_eq!((encode(Law::Mu, 0), encode(Law::Mu, i16::MAX), encode(Law::Mu, i16::MIN)), (0xff, 0x80, 0));
        assert_eq!((encode(Law::A, 0), encode(Law::A, i16::MAX), encode(Law::A, i16::MIN)), (0xd5, 0xaa, 0x2a));
        assert_eq!((decode(Law::Mu, 0x80), decode(Law::A, 0xaa)), (32_124, 32_256));
    }
}
