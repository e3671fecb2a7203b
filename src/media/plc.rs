//! Concealment of lost audio: the last pitch period over and over, fading to silence within 60 ms.

use crate::media::pcm::Rate;

/// Frames remembered: two of the longest periods.
const FRAMES: usize = 2;
/// 200 Hz to 50 Hz in samples at 8 kHz: where voices are.
const PERIODS: std::ops::RangeInclusive<usize> = 40..=160;
/// 60 ms, after which nothing of the past is heard.
const FADE: usize = 3;

/// One leg's memory for concealment.
#[derive(Clone, Debug)]
pub struct Concealer {
    frame: usize,
    past: Box<[i16]>,
    period: usize,
    made: usize,
}

impl Concealer {
    /// A concealer that has heard nothing.
    pub fn new(rate: Rate) -> Self {
        let frame = rate.frame();
        Concealer { frame, past: vec![0; FRAMES * frame].into(), period: 0, made: FADE * frame }
    }

    /// Nothing of the past is used any more.
    pub fn forget(&mut self) {
        self.past.fill(0);
        self.made = FADE * self.frame;
    }

    /// A frame that came.
    pub fn heard(&mut self, frame: &[i16]) {
        self.past.copy_within(self.frame.., 0);
        self.past[self.frame..].copy_from_slice(frame);
        self.made = 0;
    }

    /// A frame for one that did not. Silence when 60 ms have been made up already.
    pub fn conceal(&mut self, frame: &mut [i16]) {
        let fade = FADE * self.frame;
        if self.made >= fade {
            frame.fill(0);
            return;
        }
        if self.made == 0 {
            self.period = pitch(&self.past, self.frame);
        }
        for sample in frame.iter_mut() {
            let left = fade.saturating_sub(self.made) as i32;
            let source = self.past[self.past.len() - self.period + self.made % self.period];
            *sample = (i32::from(source) * left / fade as i32) as i16;
            self.made += 1;
        }
    }

    /// Whether what `conceal` makes now is still made of the past.
    pub fn sounds(&self) -> bool {
        self.made < FADE * self.frame
    }
}

/// The lag at which the last 20 ms most resemble what was before them.
/// Looked for among the samples of 8 kHz: voices repeat no faster.
fn pitch(past: &[i16], frame: usize) -> usize {
    let stride = frame / Rate::Narrow.frame();
    let recent = &past[frame..];
    let likeness = |lag: usize| {
        let before = &past[frame - lag * stride..past.len() - lag * stride];
        let (mut product, mut energy) = (0i64, 1i64);
        for (a, b) in recent.iter().zip(before).step_by(stride) {
            product += i64::from(*a) * i64::from(*b);
            energy += i64::from(*b) * i64::from(*b);
        }
        product as f64 / (energy as f64).sqrt()
    };
    PERIODS.max_by(|a, b| likeness(*a).total_cmp(&likeness(*b))).map_or(frame, |lag| lag * stride)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tone_goes_on_and_is_gone_after_60_ms() {
        for rate in [Rate::Narrow, Rate::Wide, Rate::Full] {
            let (size, step) = (rate.frame(), f64::from(rate.hz()) / 160.0);
            let tone = |n: usize| (8000.0 * (n as f64 * std::f64::consts::TAU / step).sin()) as i16;
            let mut concealer = Concealer::new(rate);
            for f in 0..4 {
                concealer.heard(&(0..size).map(|i| tone(f * size + i)).collect::<Vec<_>>());
            }
            let mut frame = vec![0; size];
            concealer.conceal(&mut frame);
            let apart = (0..size / 4).map(|i| (i32::from(frame[i]) - i32::from(tone(4 * size + i))).abs()).max();
            assert!(apart < Some(1000), "{rate:?} goes on in phase: {apart:?}");
            for _ in 0..2 {
                concealer.conceal(&mut frame);
            }
            assert!(frame[size - 1].abs() < 50);
            concealer.conceal(&mut frame);
            assert_eq!(frame, vec![0; size]);
        }
    }

    #[test]
    fn nothing_is_made_of_nothing() {
        let mut frame = [1; 160];
        Concealer::new(Rate::Narrow).conceal(&mut frame);
        assert_eq!(frame, [0; 160]);
    }
}
