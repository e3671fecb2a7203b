//! Limits a sum of voices to 16 bits without clipping: nothing changes below the threshold, above it the gain falls at
//! once (no look-ahead, no delay) and rises again slowly.

/// -3 dBFS: louder than any single voice at telephone levels.
const THRESHOLD: f32 = 23_197.0;
/// What is left above it, approached and never reached.
const ROOM: f32 = 32_767.0 - THRESHOLD;
/// The gain recovers with this time constant.
const RELEASE_S: f32 = 0.08;
/// From here up (0.009 dB) the gain counts as 1 again.
const RECOVERED: f32 = 0.999;

/// One sum's limiter.
#[derive(Clone, Copy, Debug)]
pub struct Limiter {
    gain: f32,
    release: f32,
}

impl Limiter {
    /// For `hz` samples a second.
    pub fn new(hz: u32) -> Self {
        Limiter { gain: 1.0, release: 1.0 - (-1.0 / (RELEASE_S * hz.max(1) as f32)).exp() }
    }

    /// Nothing is being limited any more.
    pub fn rest(&mut self) {
        self.gain = 1.0;
    }

    /// One sample of a single voice, which has room however loud it is: the gain recovers.
    pub fn alone(&mut self, voice: i16) -> i16 {
        if self.gain == 1.0 {
            return voice;
        }
        self.gain += (1.0 - self.gain) * self.release;
        self.heard(i32::from(voice))
    }

    /// One sample of the sum.
    pub fn sample(&mut self, sum: i32) -> i16 {
        let loud = sum.unsigned_abs() as f32;
        if self.gain == 1.0 && loud <= THRESHOLD {
            return sum as i16;
        }
        let recovering = self.gain + (1.0 - self.gain) * self.release;
        let loud = loud.max(1.0);
        self.gain = recovering.min(knee(loud) / loud);
        self.heard(sum)
    }

    fn heard(&mut self, sum: i32) -> i16 {
        let limited = (sum as f32 * self.gain).round();
        if self.gain > RECOVERED {
            self.gain = 1.0;
        }
        limited as i16
    }
}

/// The magnitude that stands for `loud`: itself up to the threshold, from there bent towards full scale.
fn knee(loud: f32) -> f32 {
    let over = (loud - THRESHOLD).max(0.0);
    loud.min(THRESHOLD) + ROOM * over / (over + ROOM)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Silence between two loud samples is nothing to be limited.
    #[test]
    fn a_sum_that_passes_zero_goes_on() {
        let mut limiter = Limiter::new(8000);
        let loud: Vec<i16> = [40_000, 0, -40_000, 0].into_iter().cycle().take(400).map(|s| limiter.sample(s)).collect();
        assert!(loud.iter().step_by(2).all(|s| s.unsigned_abs() > 24_000), "{loud:?}");
    }

    #[test]
    fn a_single_voice_passes_as_it_is() {
        let mut limiter = Limiter::new(8000);
        for sample in -23_000..=23_000 {
            assert_eq!(i32::from(limiter.sample(sample)), sample);
        }
    }

    #[test]
    fn a_loud_sum_keeps_its_shape_and_its_sign() {
        let mut limiter = Limiter::new(8000);
        let mut last = 0;
        for n in 0..8000 {
            let sum = (60_000.0 * (n as f32 * 0.05).sin()) as i32;
            let out = limiter.sample(sum);
            assert!(i32::from(out) * sum.signum() >= 0 && out > i16::MIN);
            // A clipped sine would lie flat at full scale for two thirds of its time.
            last += i32::from(out.unsigned_abs() >= 32_767);
        }
        assert_eq!(last, 0, "samples at full scale");
        for sum in [i32::MIN, i32::MAX] {
            assert_eq!(i32::from(limiter.sample(sum)).signum(), sum.signum());
        }
    }

    #[test]
    fn after_a_shout_samples_pass_as_they_are_again() {
        let mut limiter = Limiter::new(8000);
        limiter.sample(100_000);
        assert!(limiter.sample(20_000) < 10_000);
        for _ in 0..8000 {
            limiter.sample(1000);
        }
        assert_eq!(limiter.sample(20_000), 20_000);
    }
}
