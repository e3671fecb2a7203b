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

/// A chirp of 225 ms that measures a line, as loud as the others: four quick rises, no two alike, so that what comes back
/// of it is known for an echo and for how late, whoever talks.
pub const MEASURING: [Sweep; 4] = [rise(400.0, 60), rise(500.0, 50), rise(350.0, 70), rise(600.0, 45)];

const fn rise(from_hz: f32, ms: u32) -> Sweep {
    Sweep { from_hz, to_hz: 3300.0, ms, amplitude: 4600 }
}

/// A tone that rises by as much of itself in every instant.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sweep {
    /// In Hertz, at its beginning.
    pub from_hz: f32,
    /// In Hertz, at its end.
    pub to_hz: f32,
    /// In milliseconds.
    pub ms: u32,
    /// Of its peak, from 0 to 32,767.
    pub amplitude: i16,
}

impl Sweep {
    /// Its samples at `rate` a second, which has to be more than twice its highest frequency.
    pub fn samples(self, rate: u32) -> Vec<i16> {
        let count = (u64::from(rate) * u64::from(self.ms) / 1000) as usize;
        let edge = (rate as f32 * EDGE_S).max(1.0);
        let rise = (self.to_hz / self.from_hz).ln();
        let sample = |n: usize| {
            let near = n.min(count - 1 - n) as f32;
            let turns = self.from_hz * self.ms as f32 / 1000.0 * ((rise * n as f32 / count as f32).exp() - 1.0) / rise;
            let turn = std::f32::consts::TAU * turns.fract();
            (f32::from(self.amplitude) * (near / edge).min(1.0) * turn.sin()).round() as i16
        };
        (0..count).map(sample).collect()
    }
}

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

    /// It lasts as long at every rate, and crosses the band: of a second's waves as many as the mean of its pitches.
    #[test]
    fn a_sweep_rises() {
        for rate in [8_000, 16_000, 48_000] {
            for sweep in MEASURING {
                let samples = sweep.samples(rate);
                assert_eq!(samples.len() as u32, rate * sweep.ms / 1000);
                assert!(samples.iter().all(|s| s.abs() <= sweep.amplitude));
                let waves = |piece: &[i16]| piece.windows(2).filter(|w| w[0] < 0 && w[1] >= 0).count() as f32;
                let (first, last) = samples.split_at(samples.len() / 2);
                let seconds = sweep.ms as f32 / 1000.0;
                let mean = (sweep.to_hz - sweep.from_hz) / (sweep.to_hz / sweep.from_hz).ln();
                assert!((waves(&samples) - mean * seconds).abs() < 3.0, "{rate}: {}", waves(&samples));
                assert!(waves(last) > 1.5 * waves(first));
            }
        }
    }

    #[test]
    fn what_a_rate_cannot_carry_is_silence() {
        assert!(Tone { hz: 5000.0, ..BARGING }.samples(8000).iter().all(|s| *s == 0));
        assert!(BARGING.samples(0).is_empty());
    }
}
