//! A step forward or back in a stream that is not heard: from one pitch period into another that is like it, or
//! anywhere in silence. What absorbs drift and changes of delay (WSOLA: Verhelst and Roelands, 1993).

use crate::media::likeness::{QUIET, Search};
use crate::media::line::Line;
use crate::media::pcm::Rate;

/// The shortest step inside sound: 400 Hz, above the pitch of voices.
const LEAST_MS10: usize = 25;
/// The longest step: 67 Hz, and two or three periods of most.
const MOST_MS10: usize = 150;
/// Back it may be so far where less is wanted: a period of a low voice. Too far is no harm, too short is.
const PERIOD_MS10: usize = 100;
/// What is compared: 10 ms.
const COMPARED_MS10: usize = 100;
/// Less than this is chance.
const UNLIKE: f32 = 0.5;
/// Samples looked at, at most: a frame and the longest step on either side, at 48 kHz.
const VIEW: usize = 960 + 720;

/// From here on one hurries: a step in every other frame (about a quarter faster in speech) instead of every fourth, so
/// that 200 ms too many are gone well within 2 s.
const HURRY_MS: i64 = 40;
/// How like the places of a step must be at first, in hundredths, and how much less each frame asks for that finds none, so
/// that every delay ends. Above 90 a step is not heard; the last resort, a fair likeness, is still blended.
const ALIKE: [u16; 2] = [92, 2];
const ALIKE_HURRIED: [u16; 2] = [75, 25];
/// After so many frames it may be made where nothing is like anything: in noise no step is heard.
const NOISE_AFTER: u16 = 4;

/// When a reader makes steps: no more often, and between no places less alike, than its way is long.
#[derive(Clone, Copy, Debug, Default)]
pub struct Steps {
    under_way: bool,
    /// Samples to be read before the next.
    rest: usize,
    tried: u16,
}

impl Steps {
    /// The step to make in the next `length` samples from `at` on, a frame at most, if one is wanted and found. `wanted`:
    /// samples forward; `slack`: how many are put up with.
    pub fn find(&mut self, line: &Line, at: i64, wanted: i64, slack: i64, length: usize, rate: Rate) -> Option<i64> {
        self.under_way = wanted != 0 && (self.under_way || wanted.abs() >= slack);
        self.rest = self.rest.saturating_sub(length);
        // A step takes the time of the shortest.
        if !self.under_way || self.rest > 0 || length < least(rate) as usize {
            return None;
        }
        let hurried = wanted.abs() > HURRY_MS * i64::from(rate.hz()) / 1000;
        let [asked, less] = if hurried { ALIKE_HURRIED } else { ALIKE };
        let step = find(line, at, wanted, rate)?;
        let noise = step.likeness < UNLIKE && self.tried >= NOISE_AFTER;
        if !noise && step.likeness * 100.0 < f32::from(asked.saturating_sub(less.saturating_mul(self.tried))) {
            self.tried += 1;
            return None;
        }
        let rest = rate.frame() * if hurried { 2 } else { 4 };
        *self = Steps { under_way: wanted.abs() > least(rate), rest, tried: 0 };
        Some(step.by)
    }
}

/// A step found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    /// Samples forward; negative: back.
    pub by: i64,
    /// How alike the two places are, up to 1.
    pub likeness: f32,
}

/// The shortest step that can be found where there is sound, in samples.
pub fn least(rate: Rate) -> i64 {
    samples(rate, LEAST_MS10) as i64
}

/// The best step from `at`: forward no further than `wanted`, or where that is negative back, by a whole period if one
/// is more than that. `None` where the samples for it are not all there with
/// one mark, or none is short enough.
pub fn find(line: &Line, at: i64, wanted: i64, rate: Rate) -> Option<Step> {
    let (shortest, longest) = (samples(rate, LEAST_MS10), samples(rate, MOST_MS10));
    let back = wanted < 0;
    let exact = wanted.clamp(-(longest as i64), longest as i64);
    let limit = (exact.unsigned_abs() as usize).max(if back { samples(rate, PERIOD_MS10) } else { 0 });
    let length = rate.frame() + limit;
    let from = if back { at - limit as i64 } else { at };
    if limit == 0 || !line.is_even(from, length) {
        return None;
    }
    let mut view = [0; VIEW];
    let view = view.get_mut(..length)?;
    line.read(from, view);
    if view.iter().map(|s| i64::from(*s).pow(2)).sum::<i64>() < QUIET * length as i64 {
        return Some(Step { by: exact, likeness: 1.0 });
    }
    let compared = samples(rate, COMPARED_MS10);
    let here = if back { limit } else { 0 };
    let search = Search { here, length: compared, shortest, longest: limit, forward: !back };
    let best = search.best(view, rate)?;
    let by = if back { -(best.lag as i64) } else { best.lag as i64 };
    let step = Step { by, likeness: best.is };
    // Where nothing is like anything, the right distance is as good as any other.
    let unlike = step.likeness < UNLIKE && exact.unsigned_abs() as usize >= shortest;
    Some(if unlike { Step { by: exact, likeness: step.likeness } } else { step })
}

/// Reads a frame from `at` that steps by `by` on its way: from `at + by + frame` the stream goes on. Both places are
/// there, as `find` saw. Answers the marks of both.
pub fn take(line: &Line, at: i64, by: i64, out: &mut [i16], rate: Rate) -> u8 {
    let mut before = [0; Rate::Full.frame()];
    let fade = (by.unsigned_abs() as usize).clamp(samples(rate, LEAST_MS10), out.len());
    let marks = line.read(at, &mut before[..fade]) | line.read(at + by, out);
    for (i, (to, from)) in out.iter_mut().zip(&before[..fade]).enumerate() {
        *to = blend(*from, *to, i, fade);
    }
    marks
}

/// The `i`-th of `length` samples on the way from one sound to another.
pub(crate) fn blend(from: i16, to: i16, i: usize, length: usize) -> i16 {
    let (i, length) = (i as i32 + 1, length as i32 + 1);
    ((i32::from(from) * (length - i) + i32::from(to) * i) / length) as i16
}

fn samples(rate: Rate, ms10: usize) -> usize {
    rate.hz() as usize * ms10 / 10_000
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::f64::consts::TAU;

    const RATES: [Rate; 3] = [Rate::Narrow, Rate::Wide, Rate::Full];

    fn line(rate: Rate, hz: f64, level: f64) -> Line {
        let mut line = Line::new(rate);
        let tone = |n: usize| (level * (TAU * hz * n as f64 / f64::from(rate.hz())).sin()) as i16;
        let pcm: Vec<i16> = (0..line.len()).map(tone).collect();
        line.write(0, &pcm, 1);
        line
    }

    #[test]
    fn a_step_is_a_whole_period_and_is_not_heard() {
        for rate in RATES {
            let period = f64::from(rate.hz()) / 160.0;
            let ms = i64::from(rate.hz()) / 1000;
            for wanted in [14 * ms, -14 * ms, 7 * ms] {
                let line = line(rate, 160.0, 8000.0);
                let at = 100 * ms;
                let step = find(&line, at, wanted, rate).unwrap();
                let periods = step.by.unsigned_abs() as f64 / period;
                assert!((periods - periods.round()).abs() < 0.03 && step.likeness > 0.99, "{rate:?} {step:?}");
                assert!(step.by.signum() == wanted.signum() && step.by.abs() <= wanted.abs().max(10 * ms));
                let mut out = vec![0; rate.frame() + 1];
                take(&line, at, step.by, &mut out, rate);
                // No difference is greater than the tone's own steepest.
                let steepest = 8000.0 * TAU * 160.0 / f64::from(rate.hz());
                let apart = out.windows(2).map(|w| (i32::from(w[1]) - i32::from(w[0])).abs()).max().unwrap();
                assert!(f64::from(apart) < 1.1 * steepest + 2.0, "{rate:?}: {apart} of {steepest}");
            }
        }
    }

    #[test]
    fn no_step_leads_from_one_mark_to_another() {
        let mut line = line(Rate::Narrow, 160.0, 8000.0);
        assert!(find(&line, 800, 100, Rate::Narrow).is_some());
        line.write(900, &[0; 160], 2);
        assert_eq!(find(&line, 800, 100, Rate::Narrow), None);
    }

    #[test]
    fn in_silence_any_step_will_do_and_in_sound_none_that_is_too_short() {
        for rate in RATES {
            let quiet = line(rate, 160.0, 20.0);
            assert_eq!(find(&quiet, 2000, 7, rate), Some(Step { by: 7, likeness: 1.0 }));
            assert_eq!(find(&quiet, 2000, -7, rate).unwrap().by, -7);
            assert_eq!(find(&line(rate, 160.0, 8000.0), 2000, least(rate) - 1, rate), None);
            assert_eq!(find(&quiet, quiet.len() as i64 - 300, 7, rate).is_some(), rate == Rate::Narrow);
        }
    }
}
