//! Comfort noise (RFC 3389): a far end that is silent says how loud its silence is, and we fill it. Only the level is
//! used; its spectrum is what any line noise has. Never sent by us.

use crate::media::seed::Seed;

/// Noise of one level.
#[derive(Clone, Debug)]
pub struct Noise {
    seed: Seed,
    /// The largest sample.
    peak: u64,
}

impl Noise {
    /// From a payload: its first byte is the level in dB below full scale (§3). `None` if it is empty.
    pub fn read(payload: &[u8]) -> Option<Noise> {
        payload.first().map(|level| Noise::of(-f64::from(level & 0x7F)))
    }

    /// As loud as these samples.
    pub fn like(pcm: &[i16]) -> Noise {
        let power = pcm.iter().map(|s| f64::from(*s).powi(2)).sum::<f64>() / pcm.len().max(1) as f64;
        Noise::of(10.0 * (power / 32_768f64.powi(2)).max(1e-13).log10())
    }

    /// Of a level in dB below full scale, −30 at most: what is louder is no silence.
    fn of(level: f64) -> Noise {
        // Evenly spread samples have a peak √3 times their RMS.
        let peak = 3f64.sqrt() * 32_768.0 * 10f64.powf(level.min(-30.0) / 20.0);
        Noise { seed: Seed::new(0x5EED), peak: peak as u64 }
    }

    /// The next samples.
    pub fn fill(&mut self, pcm: &mut [i16]) {
        for sample in pcm {
            *sample = (self.seed.below(2 * self.peak + 1) as i64 - self.peak as i64) as i16;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_has_the_level_it_was_told() {
        for (level, expected) in [(40u8, -40.0), (60, -60.0), (0, -30.0)] {
            let mut pcm = [0; 16_000];
            Noise::read(&[level, 1, 2]).unwrap().fill(&mut pcm);
            let power = pcm.iter().map(|s| f64::from(*s).powi(2)).sum::<f64>() / 16_000.0;
            let heard = 10.0 * (power / 32_768f64.powi(2)).log10();
            assert!((heard - expected).abs() < 0.5, "{level}: {heard}");
        }
        let mut pcm = [1; 160];
        Noise::read(&[127]).unwrap().fill(&mut pcm);
        assert_eq!(pcm, [0; 160]);
        assert!(Noise::read(&[]).is_none());
    }
}
