//! Concealment of lost audio: the last pitch period over and over, fading to silence within 100 ms, and a blend back
//! into what comes next. In go the samples that are heard and the gaps between them; out come gaps filled. What is made
//! up has the marks of what it is made from.

use crate::media::likeness::{Search, alike};
use crate::media::pcm::Rate;
use crate::media::shift::blend;

/// Remembered: two of the longest periods.
const MEMORY_MS: usize = 40;
/// 400 Hz to 50 Hz: where voices are. In tenths of a millisecond.
const PERIODS_MS10: [usize; 2] = [25, 200];
/// As it was for so long; from there it fades evenly.
const WHOLE_MS: usize = 20;
/// After which nothing of the past is heard. Longer repetition sounds like a machine, shorter like a stammer.
const FADE_MS: usize = 100;
/// Two periods that are less alike than this are none.
const PERIODIC: f32 = 0.5;
/// What is like nothing goes on by so much: a gap is heard more than a weaker noise.
const LEAST_GAIN: f32 = 0.4;
/// What comes after a gap is blended in over this.
const BLEND_MS: usize = 5;

/// One reader's memory for concealment.
#[derive(Clone, Debug)]
pub struct Concealer {
    rate: Rate,
    /// Gone round: what is heard next goes where the oldest is.
    past: Box<[i16]>,
    oldest: usize,
    /// The period that is repeated, smoothed where its end meets its beginning: the first `period` samples.
    cycle: Box<[i16]>,
    period: usize,
    /// What the first repeated sample lacks to go on where the last heard one was; gone after a quarter of a period.
    step: i32,
    /// How loud it goes on, in 256ths: the less one period is like the one before, the less the next will be like it.
    gain: i32,
    /// Samples made up since the last that was heard; `None` if too little was ever heard to tell its period.
    made: Option<usize>,
    /// Samples of the past that were heard.
    known: usize,
    marks: Marks,
    off: bool,
}

/// The marks of all that is remembered, and perhaps of a little more.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Marks {
    before: u8,
    now: u8,
    samples: usize,
}

impl Concealer {
    /// One that has heard nothing.
    pub fn new(rate: Rate) -> Self {
        let memory = ms(rate, MEMORY_MS);
        let (past, cycle) = (vec![0; memory].into(), vec![0; memory / 2].into());
        Concealer {
            rate,
            past,
            oldest: 0,
            cycle,
            period: 1,
            step: 0,
            gain: 256,
            made: None,
            known: 0,
            marks: Marks::default(),
            off: false,
        }
    }

    /// From now on gaps are silent: to measure what concealment is worth.
    pub fn turn_off(&mut self) {
        self.off = true;
    }

    /// Nothing of the past is to be heard any more.
    pub fn forget(&mut self) {
        self.past.fill(0);
        (self.made, self.known) = (None, 0);
        self.marks = Marks::default();
    }

    /// Samples that came, and their marks. After a gap their beginning is blended with what was made up; answers the
    /// marks of what they are then.
    pub fn heard(&mut self, pcm: &mut [i16], marks: u8) -> u8 {
        let mut joined = marks;
        if self.made.is_some_and(|made| made > 0) {
            joined |= self.blend_in(pcm);
        }
        self.marks.add(joined, pcm.len(), self.past.len());
        self.remember(pcm);
        self.known = (self.known + pcm.len()).min(self.past.len());
        self.made = (self.known == self.past.len()).then_some(0);
        joined
    }

    fn remember(&mut self, pcm: &[i16]) {
        let kept = &pcm[pcm.len().saturating_sub(self.past.len())..];
        let (head, tail) = kept.split_at(kept.len().min(self.past.len() - self.oldest));
        self.past[self.oldest..][..head.len()].copy_from_slice(head);
        self.past[..tail.len()].copy_from_slice(tail);
        self.oldest = (self.oldest + kept.len()) % self.past.len();
    }

    /// Samples for some that did not come, and their marks. Silence, which has none, when all has faded.
    pub fn conceal(&mut self, pcm: &mut [i16]) -> u8 {
        if self.made == Some(0) {
            self.begin();
        }
        let marks = self.sounding();
        for sample in pcm {
            *sample = self.next();
        }
        marks
    }

    /// What comes next does not go on where the last ended: it is blended in.
    pub fn cut(&mut self) {
        if self.made == Some(0) {
            self.begin();
            self.made = Some(1);
        }
    }

    /// Whether what `conceal` makes now is still made of the past.
    pub fn sounds(&self) -> bool {
        !self.off && self.made.is_some_and(|made| made < ms(self.rate, FADE_MS))
    }

    fn blend_in(&mut self, pcm: &mut [i16]) -> u8 {
        let marks = self.sounding();
        let length = ms(self.rate, BLEND_MS).min(pcm.len());
        for (i, sample) in pcm.iter_mut().take(length).enumerate() {
            *sample = blend(self.next(), *sample, i, length);
        }
        marks
    }

    fn sounding(&self) -> u8 {
        if self.sounds() { self.marks.all() } else { 0 }
    }

    fn begin(&mut self) {
        let memory = self.past.len();
        self.past.rotate_left(std::mem::take(&mut self.oldest));
        let period = pitch(&self.past, self.rate);
        self.period = period;
        let (last, before) = (memory - period, memory - 2 * period);
        self.cycle[..period].copy_from_slice(&self.past[last..]);
        let smooth = period / 4;
        for i in 0..smooth {
            let at = period - smooth + i;
            self.cycle[at] = blend(self.cycle[at], self.past[before + at], i, smooth);
        }
        // What lies before the period's first sample, against what lies before the gap. In noise there is no such thing.
        let (here, there) = (&self.past[last..], &self.past[before..last]);
        let likeness = alike(here, there, self.rate);
        self.gain = (256.0 * likeness.clamp(LEAST_GAIN, 1.0)) as i32;
        self.step = if likeness > PERIODIC { i32::from(here[period - 1]) - i32::from(there[period - 1]) } else { 0 };
    }

    fn next(&mut self) -> i16 {
        let Some(made) = self.made else { return 0 };
        let (whole, fade) = (ms(self.rate, WHOLE_MS), ms(self.rate, FADE_MS));
        if made >= fade {
            return 0;
        }
        self.made = Some(made + 1);
        if self.off {
            return 0;
        }
        let smooth = (self.period / 4) as i32;
        let step = self.step * (smooth - made as i32).max(0) / smooth.max(1);
        let ramp = ms(self.rate, BLEND_MS);
        let gain = 256 + (self.gain - 256) * made.min(ramp) as i32 / ramp as i32;
        let sample = (i32::from(self.cycle[made % self.period]) + step) * gain / 256;
        let left = (fade - made.max(whole)) as i32;
        (sample * left / (fade - whole) as i32).clamp(-32_768, 32_767) as i16
    }
}

impl Marks {
    /// Of all that is remembered.
    pub fn all(self) -> u8 {
        self.before | self.now
    }
    /// `memory`: how many samples are remembered.
    pub fn add(&mut self, marks: u8, samples: usize, memory: usize) {
        self.now |= marks;
        self.samples += samples;
        if self.samples >= memory {
            *self = Marks { before: self.now, now: 0, samples: 0 };
        }
    }
}

fn ms(rate: Rate, ms: usize) -> usize {
    rate.hz() as usize / 1000 * ms
}

/// The lag at which the last 20 ms most resemble what was before them; the longest where they resemble nothing, for a
/// short piece of noise over and over is a buzz.
fn pitch(past: &[i16], rate: Rate) -> usize {
    let [shortest, longest] = PERIODS_MS10.map(|period| period * rate.hz() as usize / 10_000);
    let (here, length) = (past.len() - rate.frame(), rate.frame());
    let best = Search { here, length, shortest, longest, forward: false }.best(past, rate);
    best.filter(|best| best.is > PERIODIC).map_or(longest, |best| best.lag)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATES: [Rate; 3] = [Rate::Narrow, Rate::Wide, Rate::Full];

    fn tone(rate: Rate, n: usize) -> i16 {
        (8000.0 * (n as f64 * std::f64::consts::TAU * 160.0 / f64::from(rate.hz())).sin()) as i16
    }
    fn largest_step(pcm: &[i16]) -> i32 {
        pcm.windows(2).map(|w| (i32::from(w[1]) - i32::from(w[0])).abs()).max().unwrap()
    }

    #[test]
    fn a_tone_goes_on_in_phase_and_is_gone_after_100_ms() {
        for rate in RATES {
            let frame = rate.frame();
            let mut concealer = Concealer::new(rate);
            for f in 0..4 {
                concealer.heard(&mut (0..frame).map(|i| tone(rate, f * frame + i)).collect::<Vec<_>>(), 1);
            }
            let mut made = vec![0; 6 * frame];
            let (first, rest) = made.split_at_mut(frame);
            concealer.conceal(first);
            let apart = (0..frame).map(|i| (i32::from(first[i]) - i32::from(tone(rate, 4 * frame + i))).abs()).max();
            assert!(apart.unwrap() < 700, "{rate:?} goes on in phase: {apart:?}");
            assert!(concealer.sounds());
            concealer.conceal(rest);
            assert!(!concealer.sounds());
            assert!(made[frame..4 * frame].iter().any(|s| *s > 1500), "{rate:?}: it fades, it does not stop");
            assert!(made[5 * frame..].iter().all(|s| *s == 0));
        }
    }

    #[test]
    fn what_comes_after_a_gap_is_blended_in() {
        for rate in RATES {
            let frame = rate.frame();
            for gap in [frame / 2, frame, 3 * frame, 10 * frame] {
                let mut concealer = Concealer::new(rate);
                let mut heard: Vec<i16> = (0..4 * frame).map(|n| tone(rate, n)).collect();
                concealer.heard(&mut heard, 1);
                let mut made = vec![0; gap];
                concealer.conceal(&mut made);
                // The tone comes back in the worst phase: at its top, going down.
                let mut back: Vec<i16> = (0..frame).map(|n| tone(rate, n + rate.hz() as usize / 640)).collect();
                concealer.heard(&mut back, 1);
                heard.extend(made);
                heard.extend(back);
                let own = 8000.0 * std::f64::consts::TAU * 160.0 / f64::from(rate.hz());
                let blend = 16_000.0 / ms(rate, BLEND_MS) as f64;
                assert!(
                    f64::from(largest_step(&heard)) < 1.2 * (own + blend),
                    "{rate:?} {gap}: {}",
                    largest_step(&heard)
                );
            }
        }
    }

    /// DESIGN §2.1: not a sample of a whisper, made up or blended, under another mark.
    #[test]
    fn what_is_made_up_has_the_marks_of_what_it_is_made_from() {
        let mut concealer = Concealer::new(Rate::Narrow);
        let mut frame = [1000; 160];
        assert_eq!(concealer.conceal(&mut frame), 0);
        assert_eq!([concealer.heard(&mut frame, 2), concealer.heard(&mut frame, 4)], [2, 4]);
        assert_eq!(concealer.conceal(&mut frame[..20]), 2 | 4, "a period may reach back 40 ms");
        assert_eq!(concealer.heard(&mut frame[..20], 4), 2 | 4, "it is blended");
        for _ in 0..5 {
            assert_eq!(concealer.heard(&mut frame, 4), 4);
        }
        assert_eq!(concealer.conceal(&mut [0; 800]), 4);
        assert_eq!([concealer.conceal(&mut frame), concealer.heard(&mut frame, 2)], [0, 2], "all has faded");
    }

    /// A click that has only just come has no period: none is found in how A-law's zeros lie before it.
    #[test]
    fn silence_is_no_period() {
        let mut concealer = Concealer::new(Rate::Narrow);
        let mut begun = [8; 40];
        begun[37] = 8000;
        concealer.heard(&mut begun, 1);
        let mut made = [0; 160];
        concealer.conceal(&mut made);
        assert!(made.iter().all(|s| s.abs() < 400), "the click is repeated as a buzz: {made:?}");
    }

    #[test]
    fn nothing_is_made_of_nothing() {
        let mut frame = [1; 160];
        Concealer::new(Rate::Narrow).conceal(&mut frame);
        assert_eq!(frame, [0; 160]);
    }
}
