//! What a search has found over some time: correlations summed over frames, and whether one lag stands out of them that
//! frame after frame speaks for.
//!
//! An echo's lag stays where it is, so every frame adds to it; two voices that have nothing to do with each other agree
//! about some lag for a frame or two, which share half their samples, and hardly ever for four.

use super::search::LAGS;
use std::ops::Range;

/// Lags below this (10 ms) are no room's: an echo of 20 ms whose packets lie as badly as they can takes 10.
const LEAST: usize = 80;
/// Lags to either side of one that say how much of it is chance: 16 ms.
const NEAR: usize = 128;
/// And nowhere is chance less than a tenth of what it is everywhere: where nothing was sent, nothing is like it.
const NOWHERE: f32 = 0.1;
/// Lags of two frames that count as one: a quarter of a millisecond.
const SAME: usize = 2;
/// Frames that have to speak for a lag, each by itself this many deviations above chance.
const AGREE: u32 = 4;
const SPEAKS: f32 = 2.5;
/// The height of an echo: by figures of `docs/performance.md`.
const ENOUGH: f32 = 7.0;
/// A lag at which a line is known to leak need not stand out by so much: chance has a fifteenth of the places there.
const KNOWN: f32 = 5.0;

/// A lag that stands out.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Echo {
    /// Samples at 8 kHz between what was sent and its return.
    pub lag: usize,
    /// Deviations above chance.
    pub height: f32,
}

/// One memory.
pub struct Memory {
    /// What is left of it after 20 ms.
    keep: f32,
    sum: Box<[f32; LAGS]>,
    /// Where it was highest last, and how many frames running have spoken for it.
    lag: usize,
    agreed: u32,
}

impl Memory {
    /// A short one for an echo under a silent agent, a long one for pauses between words.
    pub fn all() -> [Memory; 3] {
        [0.6, 0.87, 0.96].map(|keep| Memory { keep, sum: Box::new([0.0; LAGS]), lag: 0, agreed: 0 })
    }

    /// 20 ms have passed.
    pub fn fade(&mut self) {
        self.sum.iter_mut().for_each(|sum| *sum *= self.keep);
    }

    /// Nothing is known any more.
    pub fn forget(&mut self) {
        self.sum.fill(0.0);
        self.agreed = 0;
    }

    /// A frame's correlation. Answers the lag that stands out, if enough speaks for it now.
    pub fn add(&mut self, now: &[f32], known: &Range<usize>) -> Option<Echo> {
        self.sum.iter_mut().zip(now).for_each(|(sum, now)| *sum += now);
        let Echo { lag, height } = self.highest();
        let speaks = speaks_for(now, lag, self.sum[lag].signum());
        let before = if lag.abs_diff(self.lag) <= SAME { self.agreed } else { 0 };
        (self.lag, self.agreed) = (lag, before.saturating_add(u32::from(speaks)));
        let enough = if known.contains(&lag) { KNOWN } else { ENOUGH };
        (speaks && self.agreed >= AGREE && height >= enough).then_some(Echo { lag, height })
    }

    /// The lag that stands out most, of either sign: a loudspeaker may be wired either way round.
    fn highest(&self) -> Echo {
        let sum = &self.sum;
        let square = |at: usize| sum.get(at).map_or(0.0, |s| s * s);
        let least = sum.iter().map(|s| s * s).sum::<f32>() / LAGS as f32 * NOWHERE;
        let mut around: f32 = (LEAST.saturating_sub(NEAR)..LEAST + NEAR).map(square).sum();
        let mut best = Echo { lag: LEAST, height: 0.0 };
        for lag in LEAST..LAGS {
            around += square(lag + NEAR);
            let count = (lag + NEAR + 1).min(LAGS) - lag.saturating_sub(NEAR) - 1;
            let chance = ((around - square(lag)) / count as f32).max(least).max(f32::MIN_POSITIVE);
            let height = sum[lag].abs() / chance.sqrt();
            if height > best.height {
                best = Echo { lag, height };
            }
            around -= if lag >= NEAR { square(lag - NEAR) } else { 0.0 };
        }
        best
    }
}

/// Whether a frame by itself is well above its own chance about a lag, with the same sign.
fn speaks_for(now: &[f32], lag: usize, sign: f32) -> bool {
    let around = &now[lag.saturating_sub(NEAR)..(lag + NEAR).min(now.len())];
    let chance = (around.iter().map(|s| s * s).sum::<f32>() / around.len().max(1) as f32).sqrt();
    now[lag.saturating_sub(1)..(lag + 2).min(now.len())].iter().any(|s| s * sign >= SPEAKS * chance)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::seed::Seed;

    fn noise(seed: &mut Seed) -> Vec<f32> {
        let even = |seed: &mut Seed| seed.below(1 << 16) as f32 / 32768.0 - 1.0;
        (0..LAGS).map(|_| even(seed) + even(seed)).collect()
    }

    /// One frame that is all agreement is chance; four that agree are not; and what was forgotten speaks for nothing.
    #[test]
    fn one_frame_is_not_believed() {
        let mut seed = Seed::new(1);
        for mut memory in Memory::all() {
            let mut frame = |lag: usize, height: f32| {
                memory.fade();
                let mut now = noise(&mut seed);
                now[lag] -= height;
                memory.add(&now, &(0..0))
            };
            assert_eq!((frame(700, 50.0), frame(700, 50.0)), (None, None));
            assert_eq!(frame(900, 90.0), None, "another lag begins anew");
            let found: Vec<_> = (0..4).map(|_| frame(1500, 300.0).map(|echo| echo.lag)).collect();
            assert_eq!(found, [None, None, None, Some(1500)]);
            memory.forget();
            memory.fade();
            assert_eq!(memory.add(&noise(&mut seed), &(0..LAGS)), None);
        }
    }
}
