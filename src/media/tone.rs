//! Tones Sotto plays itself: the beep that says a call is monitored, and the one before a barge. Made when a call or a
//! rate asks for it, never on a packet's path.

/// Rises and falls within 5 ms, so that it does not click.
const EDGE_S: f32 = 0.005;

/// A sine.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tone {
    /// In Hertz.
    pub hz: f32,
    /// In milliseconds.
    pub ms: u32,
    /// Of its peak, from 0 to 32,767.
    pub amplitude: i16,
}

/// 1,400 Hz for 200 ms, as recorders have beeped since they had to; about -20 dBFS.
pub const MONITORED: Tone = Tone { hz: 1400.0, ms: 200, amplitude: 4600 };
/// 15 s from beep to beep, in milliseconds.
pub const MONITORED_EVERY_MS: u32 = 15_000;
/// Before a barge: short, and lower than the beep so that nobody takes one for the other.
pub const BARGING: Tone = Tone { hz: 850.0, ms: 120, amplitude: 4600 };

impl Tone {
    /// Its samples at `rate` a second; silence where the rate cannot carry it.
    pub fn samples(self, rate: u32) -> Vec<i16> {
        let count = (u64::from(rate) * u64::from(self.ms) / 1000) as usize;
        if self.hz * 2.0 >= rate as f32 {
            return vec![0; count];
        }
        let edge = (rate as f32 * EDGE_S).max(1.0);
        let sample = |n: usize| {
            let near = n.min(count - 1 - n) as f32;
            let turn = std::f32::consts::TAU * (self.hz * n as f32 / rate as f32).fract();
            (f32::from(self.amplitude) * (near / edge).min(1.0) * turn.sin()).round() as i16
        };
        (0..count).map(sample).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn share_at(samples: &[i16], hz: f32, rate: f32) -> f32 {
        let turn = |n: usize| std::f32::consts::TAU * hz * n as f32 / rate;
        let sum = |f: fn(f32) -> f32| samples.iter().enumerate().map(|(n, s)| f32::from(*s) * f(turn(n))).sum::<f32>();
        let power = samples.iter().map(|s| f32::from(*s) * f32::from(*s)).sum::<f32>();
        2.0 * (sum(f32::sin).powi(2) + sum(f32::cos).powi(2)) / (power * samples.len() as f32)
    }

    #[test]
    fn a_tone_has_its_pitch_length_and_soft_edges_at_every_rate() {
        for rate in [8_000, 16_000, 48_000] {
            for tone in [MONITORED, BARGING] {
                let samples = tone.samples(rate);
                assert_eq!(samples.len() as u32, rate * tone.ms / 1000);
                assert!(share_at(&samples, tone.hz, rate as f32) > 0.9);
                assert!(samples.iter().all(|s| s.abs() <= tone.amplitude));
                assert!(samples[..2].iter().chain(&samples[samples.len() - 2..]).all(|s| s.abs() < 400));
            }
        }
    }

    #[test]
    fn what_a_rate_cannot_carry_is_silence() {
        assert!(Tone { hz: 5000.0, ..BARGING }.samples(8000).iter().all(|s| *s == 0));
        assert!(BARGING.samples(0).is_empty());
    }
}
