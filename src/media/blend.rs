//! What one listener hears: voices, and what is laid over them. The voices go down under a whisper, in straight lines,
//! without a click; the sum is limited, not clipped. Where nothing is laid over, every voice is as it was.

use crate::media::limit::Limiter;
use crate::media::volume::Volume;

/// The voices are down 30 ms after a whisper began,
const ATTACK_MS: u32 = 30;
/// and back in 250 ms.
const RELEASE_MS: u32 = 250;
/// Pauses between words that are shorter than this change nothing.
const HELD_MS: u32 = 300;
/// Whispered samples smaller than this are silence: a clip's dither.
const SILENT: i16 = 16;

/// One listener's.
#[derive(Clone, Copy, Debug)]
pub struct Blend {
    per_ms: u32,
    depth: f32,
    gain: f32,
    /// Samples for which the voices stay down.
    held: u32,
    limiter: Limiter,
}

impl Blend {
    /// How long before its end a whisper lets the voices come back, in milliseconds: they are back when it is over.
    pub const RELEASE_MS: u32 = RELEASE_MS;

    /// For samples of `hz` a second; `duck` is what becomes of the voices under a whisper, 0 dB at most.
    pub fn new(hz: u32, duck: Volume) -> Self {
        let depth = duck.factor().min(1.0);
        Blend { per_ms: (hz / 1000).max(1), depth, gain: 1.0, held: 0, limiter: Limiter::new(hz) }
    }

    /// The same for samples of another rate.
    pub fn at(&self, hz: u32) -> Self {
        Blend { per_ms: (hz / 1000).max(1), limiter: Limiter::new(hz), held: 0, gain: 1.0, ..*self }
    }

    /// This is whispered next. Silence is no whisper.
    pub fn cover(&mut self, whisper: &[i16]) {
        if whisper.iter().any(|s| s.saturating_abs() >= SILENT) {
            self.held = self.per_ms * HELD_MS;
        }
    }

    /// The whisper is about to end.
    pub fn uncover(&mut self) {
        self.held = 0;
    }

    /// Nothing is laid over any more: voices are as they were, at once.
    pub fn rest(&mut self) {
        (self.gain, self.held) = (1.0, 0);
        self.limiter.rest();
    }

    /// One sample of the voices as they are to be heard.
    pub fn duck(&mut self, voices: i32) -> i32 {
        if self.held == 0 && self.gain >= 1.0 {
            return voices;
        }
        let step = |ms: u32| (1.0 - self.depth) / (self.per_ms * ms) as f32;
        self.gain = match self.held {
            0 => (self.gain + step(RELEASE_MS)).min(1.0),
            _ => (self.gain - step(ATTACK_MS)).max(self.depth),
        };
        self.held = self.held.saturating_sub(1);
        (voices as f32 * self.gain).round() as i32
    }

    /// One sample of the sum, in 16 bits.
    pub fn limit(&mut self, sum: i32) -> i16 {
        self.limiter.sample(sum)
    }

    /// One sample of a voice with what is laid over it. A voice alone, however loud, has room.
    pub fn sample(&mut self, voice: i16, over: i16) -> i16 {
        let voice = self.duck(i32::from(voice));
        match over {
            0 => self.limiter.alone(voice as i16),
            _ => self.limit(voice + i32::from(over)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blend() -> Blend {
        Blend::new(8000, Volume::decibels(-12).unwrap())
    }

    #[test]
    fn voices_go_down_in_30_ms_stay_and_come_back_in_250_without_a_click() {
        let mut blend = blend();
        let mut before = 10_000;
        let mut widest = 0;
        let mut run = |blend: &mut Blend, samples: usize| {
            for _ in 0..samples {
                let now = blend.sample(10_000, 0);
                widest = widest.max((now - before).abs());
                before = now;
            }
            before
        };
        blend.cover(&[0, 500]);
        assert_eq!(run(&mut blend, 241), 2512);
        assert_eq!(run(&mut blend, 2100), 2512, "a pause between words");
        blend.uncover();
        assert!(run(&mut blend, 1900) < 10_000);
        assert_eq!(run(&mut blend, 110), 10_000);
        assert!(widest < 40, "{widest}");
    }

    #[test]
    fn without_a_whisper_no_sample_changes() {
        let mut blend = blend();
        blend.cover(&[0; 160]);
        blend.cover(&[15, -15]);
        for voice in i16::MIN..=i16::MAX {
            assert_eq!(blend.sample(voice, 0), voice);
        }
    }

    #[test]
    fn two_loud_voices_are_limited() {
        let mut blend = Blend::new(8000, Volume::default());
        let loud: Vec<i16> = (0..800).map(|n| blend.sample(20_000 - n % 7, 20_000)).collect();
        assert!(loud.iter().all(|s| (23_000..i16::MAX).contains(s)));
    }
}
