//! Concealment of lost audio: the last pitch period over and over, fading to silence within 60 ms.

use crate::media::FRAME;

/// Samples remembered: two of the longest periods.
const MEMORY: usize = 320;
/// 200 Hz to 50 Hz at 8 kHz: where voices are.
const PERIODS: std::ops::RangeInclusive<usize> = 40..=160;
/// 60 ms, after which nothing of the past is heard.
const FADE: usize = 480;

/// One leg's memory for concealment.
#[derive(Clone, Debug)]
pub struct Concealer {
    past: [i16; MEMORY],
    period: usize,
    made: usize,
}

impl Default for Concealer {
    fn default() -> Self {
        Concealer { past: [0; MEMORY], period: 0, made: FADE }
    }
}

impl Concealer {
    /// A frame that came.
    pub fn heard(&mut self, frame: &[i16; FRAME]) {
        self.past.copy_within(FRAME.., 0);
        self.past[MEMORY - FRAME..].copy_from_slice(frame);
        self.made = 0;
    }

    /// A frame for one that did not. Silence when 60 ms have been made up already.
    pub fn conceal(&mut self, frame: &mut [i16; FRAME]) {
        if self.made >= FADE {
            frame.fill(0);
            return;
        }
        if self.made == 0 {
            self.period = pitch(&self.past);
        }
        for sample in frame.iter_mut() {
            let left = FADE.saturating_sub(self.made) as i32;
            let source = self.past[MEMORY - self.period + self.made % self.period];
            *sample = (i32::from(source) * left / FADE as i32) as i16;
            self.made += 1;
        }
    }

    /// Whether what `conceal` makes now is still made of the past.
    pub fn sounds(&self) -> bool {
        self.made < FADE
    }
}

/// The lag at which the last 20 ms most resemble what was before them.
fn pitch(past: &[i16; MEMORY]) -> usize {
    let recent = &past[MEMORY - FRAME..];
    let likeness = |lag: usize| {
        let before = &past[MEMORY - FRAME - lag..MEMORY - lag];
        let (mut product, mut energy) = (0i64, 1i64);
        for (a, b) in recent.iter().zip(before) {
            product += i64::from(*a) * i64::from(*b);
            energy += i64::from(*b) * i64::from(*b);
        }
        product as f64 / (energy as f64).sqrt()
    };
    PERIODS.max_by(|a, b| likeness(*a).total_cmp(&likeness(*b))).unwrap_or(FRAME)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tone_goes_on_and_is_gone_after_60_ms() {
        let tone = |n: usize| (8000.0 * (n as f64 * std::f64::consts::TAU / 50.0).sin()) as i16;
        let mut concealer = Concealer::default();
        for f in 0..4 {
            concealer.heard(&std::array::from_fn(|i| tone(f * FRAME + i)));
        }
        let mut frame = [0; FRAME];
        concealer.conceal(&mut frame);
        let apart = (0..40).map(|i| (i32::from(frame[i]) - i32::from(tone(640 + i))).abs()).max().unwrap();
        assert!(apart < 1000, "goes on in phase: {apart}");
        for _ in 0..2 {
            concealer.conceal(&mut frame);
        }
        assert!(frame[FRAME - 1].abs() < 50);
        concealer.conceal(&mut frame);
        assert_eq!(frame, [0; FRAME]);
    }

    #[test]
    fn nothing_is_made_of_nothing() {
        let mut frame = [1; FRAME];
        Concealer::default().conceal(&mut frame);
        assert_eq!(frame, [0; FRAME]);
    }
}
