//! Laying a clip over a packet of G.711 as it passes: decode, add, encode. What the clip leaves alone passes bit for bit.

use crate::media::codec::g711::Law;

/// Writes `payload` with `clip` added (silence where the clip is shorter) to the end of `out`.
pub fn lay_over(payload: &[u8], from: Law, to: Law, clip: &[i16], out: &mut Vec<u8>) {
    let (under, rest) = payload.split_at(payload.len().min(clip.len()));
    out.extend(under.iter().zip(clip).map(|(byte, add)| match (from == to, *add) {
        (true, 0) => *byte,
        (true, add) | (false, add) => to.encode(from.decode(*byte).saturating_add(add)),
    }));
    match from == to {
        true => out.extend_from_slice(rest),
        false => out.extend(rest.iter().map(|byte| to.encode(from.decode(*byte)))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_laid_over_leaves_every_byte() {
        let all: Vec<u8> = (0..=255).collect();
        for law in [Law::Mu, Law::A] {
            let mut out = Vec::new();
            lay_over(&all, law, law, &[0; 100], &mut out);
            assert_eq!(out, all);
        }
    }

    #[test]
    fn a_clip_is_added_and_the_codec_changed() {
        let mut out = Vec::new();
        lay_over(&[Law::Mu.encode(1000); 3], Law::Mu, Law::A, &[2000, i16::MAX], &mut out);
        let heard: Vec<i16> = out.iter().map(|b| Law::A.decode(*b)).collect();
        assert!((heard[0] - 3000).abs() < 130 && heard[1] > 31_000 && (heard[2] - 1000).abs() < 40, "{heard:?}");
    }
}
