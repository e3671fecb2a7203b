//! Laying a clip over a packet of G.711 as it passes: decode, blend, encode. What stays as it is passes bit for bit.

use crate::media::blend::Blend;
use crate::media::codec::g711::Law;

/// Writes `payload` with `clip` over it (silence where the clip is shorter) to the end of `out`.
pub fn lay_over(payload: &[u8], [from, to]: [Law; 2], clip: &[i16], blend: &mut Blend, out: &mut Vec<u8>) {
    let over = clip.iter().copied().chain(std::iter::repeat(0));
    out.extend(payload.iter().zip(over).map(|(byte, add)| {
        let voice = from.decode(*byte);
        let heard = blend.sample(voice, add);
        if from == to && heard == voice { *byte } else { to.encode(heard) }
    }));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::volume::Volume;

    fn blend() -> Blend {
        Blend::new(8000, Volume::default())
    }

    #[test]
    fn silence_laid_over_leaves_every_byte() {
        let all: Vec<u8> = (0..=255).collect();
        for law in [Law::Mu, Law::A] {
            let mut out = Vec::new();
            lay_over(&all, [law; 2], &[0; 100], &mut blend(), &mut out);
            assert_eq!(out, all);
        }
    }

    #[test]
    fn a_clip_is_added_and_the_codec_changed() {
        let mut out = Vec::new();
        lay_over(&[Law::Mu.encode(1000); 3], [Law::Mu, Law::A], &[2000, i16::MAX], &mut blend(), &mut out);
        let heard: Vec<i16> = out.iter().map(|b| Law::A.decode(*b)).collect();
        assert!((heard[0] - 3000).abs() < 130 && heard[1] > 27_000 && (700..1000).contains(&heard[2]), "{heard:?}");
    }
}
