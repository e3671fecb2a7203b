//! Gain in decibels, and ramps from one gain to another: what makes a voice softer or louder without a click.

/// A gain in decibels; 0 changes nothing. Finite, from -96 (inaudible in 16 bits) to +24.
#[derive(Clone, Copy, Debug, Default, PartialEq, PartialOrd)]
pub struct Decibels(f32);

impl Decibels {
    /// No change.
    pub const UNITY: Decibels = Decibels(0.0);
    /// How far the customer goes down in the agent's ear under a whisper, unless configured otherwise.
    pub const DUCKED: Decibels = Decibels(-12.0);

    /// A gain, brought into range; what is not a number is 0 dB.
    pub fn new(db: f32) -> Self {
        if db.is_nan() { Decibels::UNITY } else { Decibels(db.clamp(-96.0, 24.0)) }
    }
    /// In decibels.
    pub fn db(self) -> f32 {
        self.0
    }
    /// The factor for amplitudes; exactly 1 for 0 dB.
    pub fn factor(self) -> f32 {
        if self.0 == 0.0 { 1.0 } else { 10f32.powf(self.0 / 20.0) }
    }
}

/// A gain that moves in a straight line: `down` and `up` are what a whole step from the resting gain to the ducked one
/// takes. At rest it leaves every sample as it is.
#[derive(Clone, Copy, Debug)]
pub struct Duck {
    depth: f32,
    down: f32,
    up: f32,
    gain: f32,
}

impl Duck {
    /// 30 ms.
    pub const ATTACK_MS: u32 = 30;
    /// 250 ms.
    pub const RELEASE_MS: u32 = 250;

    /// A duck to `depth` (at most 0 dB) for samples of `hz` a second.
    pub fn new(depth: Decibels, hz: u32) -> Self {
        let depth = depth.factor().min(1.0);
        let step = |ms: u32| (1.0 - depth) / (hz.max(1) as f32 * ms as f32 / 1000.0);
        Duck { depth, down: step(Self::ATTACK_MS), up: step(Self::RELEASE_MS), gain: 1.0 }
    }
    /// Whether samples pass as they are.
    pub fn at_rest(&self) -> bool {
        self.gain >= 1.0
    }
    /// One sample of the voice that goes down, while the other one sounds or not.
    pub fn sample(&mut self, voice: i16, under: bool) -> i16 {
        self.gain = match under {
            true => (self.gain - self.down).max(self.depth),
            false => (self.gain + self.up).min(1.0),
        };
        if self.at_rest() { voice } else { (f32::from(voice) * self.gain).round() as i16 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gain_is_always_usable() {
        assert_eq!(Decibels::new(f32::NAN), Decibels::UNITY);
        assert_eq!(Decibels::new(f32::INFINITY).db(), 24.0);
        assert_eq!(Decibels::UNITY.factor(), 1.0);
        assert!((Decibels::new(-6.0206).factor() - 0.5).abs() < 1e-4);
    }

    #[test]
    fn a_voice_goes_down_in_30_ms_and_back_in_250_without_a_click() {
        let mut duck = Duck::new(Decibels::DUCKED, 8000);
        let mut before = duck.sample(10_000, false);
        assert_eq!(before, 10_000);
        let mut widest = 0;
        let mut run = |under: bool, samples: usize| {
            for _ in 0..samples {
                let now = duck.sample(10_000, under);
                widest = widest.max((now - before).abs());
                before = now;
            }
            before
        };
        assert_eq!(run(true, 241), 2512);
        assert!(run(false, 1900) < 10_000);
        assert_eq!(run(false, 110), 10_000);
        assert!(widest < 40, "{widest}");
        assert!(duck.at_rest());
    }

    #[test]
    fn silence_over_a_voice_changes_no_sample() {
        let mut duck = Duck::new(Decibels::DUCKED, 8000);
        for voice in i16::MIN..=i16::MAX {
            assert_eq!(duck.sample(voice, false), voice);
        }
    }
}
