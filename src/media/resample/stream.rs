//! A stream at one rate made a stream at another, any number of samples at a time, without allocating.

use super::kernel::{dot, kernel, sample};
use crate::media::pcm::Rate;
use std::sync::LazyLock;

/// What comes out lies this many samples of the lower rate behind what went in: 2 ms at 8 kHz, 1 ms at 16 kHz. The
/// filter has as many to each side: flat to 3.4 of 4 kHz, 60 dB down from 4.6 kHz.
pub const DELAY: usize = 16;

/// Taps a phase.
const TAPS: usize = 2 * DELAY;
/// Samples taken in at once: 20 ms at the highest rate.
const BLOCK: usize = Rate::Full.frame();
/// The longest memory: that of six samples made one.
const MEMORY: usize = TAPS * 6;

/// The taps for each ratio, newest sample last.
static FILTERS: LazyLock<[Filter; 3]> = LazyLock::new(|| [2, 3, 6].map(Filter::new));

struct Filter {
    /// For one sample made many: a row for each phase but the first, which is the sample itself.
    up: Vec<[f32; TAPS]>,
    /// For many made one.
    down: Vec<f32>,
}

impl Filter {
    fn new(ratio: usize) -> Self {
        let at = |i: usize| kernel(i as f64 / ratio as f64 - DELAY as f64, DELAY as f64);
        let row = |phase: usize| std::array::from_fn(|j| at((TAPS - 1 - j) * ratio + phase) as f32);
        let taps = TAPS * ratio;
        let down = (0..taps).map(|j| (at(taps - 1 - j) / ratio as f64) as f32).collect();
        Filter { up: (1..ratio).map(row).collect(), down }
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Way {
    Same,
    Up,
    Down,
}

/// One stream.
pub struct Resampler {
    way: Way,
    ratio: usize,
    /// What was heard last, then the block in hand.
    line: Box<[f32; MEMORY + BLOCK]>,
    /// Samples to come before the next one leaves, on the way down.
    wait: usize,
}

impl Resampler {
    /// A resampler that has heard only silence.
    pub fn new(from: Rate, to: Rate) -> Self {
        let way = match from.cmp(&to) {
            std::cmp::Ordering::Equal => Way::Same,
            std::cmp::Ordering::Less => Way::Up,
            std::cmp::Ordering::Greater => Way::Down,
        };
        let ratio = (from.hz().max(to.hz()) / from.hz().min(to.hz())) as usize;
        // The taps are computed here and not with the first frame.
        LazyLock::force(&FILTERS);
        Resampler { way, ratio, line: Box::new([0.0; MEMORY + BLOCK]), wait: 0 }
    }

    /// The next samples. Answers how many were put into `out`: as many as came, times the rates' ratio. What does not
    /// fit into `out` is lost.
    pub fn process(&mut self, input: &[i16], out: &mut [i16]) -> usize {
        if self.way == Way::Same {
            let count = input.len().min(out.len());
            out[..count].copy_from_slice(&input[..count]);
            return count;
        }
        let mut made = 0;
        for block in input.chunks(BLOCK) {
            for (to, from) in self.line[MEMORY..].iter_mut().zip(block) {
                *to = f32::from(*from);
            }
            let room = out.get_mut(made..).unwrap_or_default();
            made += match self.way {
                Way::Up => self.up(block.len(), room),
                Way::Down => self.down(block.len(), room),
                Way::Same => 0,
            };
            self.line.copy_within(block.len()..block.len() + MEMORY, 0);
        }
        made
    }

    /// Forgets what it has heard.
    pub fn reset(&mut self) {
        self.line.fill(0.0);
        self.wait = 0;
    }

    fn filter(&self) -> &'static Filter {
        match self.ratio {
            2 => &FILTERS[0],
            3 => &FILTERS[1],
            _ => &FILTERS[2],
        }
    }

    fn up(&mut self, count: usize, out: &mut [i16]) -> usize {
        let filter = self.filter();
        let groups = out.chunks_exact_mut(self.ratio).take(count);
        let mut made = 0;
        for (n, group) in groups.enumerate() {
            let heard = &self.line[MEMORY + 1 + n - TAPS..MEMORY + 1 + n];
            let [first, between @ ..] = group else { break };
            *first = heard[TAPS - 1 - DELAY] as i16;
            for (to, row) in between.iter_mut().zip(&filter.up) {
                *to = sample(dot(heard, row));
            }
            made += self.ratio;
        }
        made
    }

    fn down(&mut self, count: usize, out: &mut [i16]) -> usize {
        let filter = self.filter();
        let mut made = 0;
        let mut n = self.wait;
        while n < count {
            let heard = &self.line[MEMORY + 1 + n - filter.down.len()..MEMORY + 1 + n];
            if let Some(to) = out.get_mut(made) {
                *to = sample(dot(heard, &filter.down));
                made += 1;
            }
            n += self.ratio;
        }
        self.wait = n - count;
        made
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::resample::whole::tests::{level, rest, tone};

    const RATES: [Rate; 3] = [Rate::Narrow, Rate::Wide, Rate::Full];

    fn through(pcm: &[i16], from: Rate, to: Rate) -> Vec<i16> {
        let mut resampler = Resampler::new(from, to);
        let (mut all, mut out) = (Vec::new(), vec![0; to.frame()]);
        for frame in pcm.chunks_exact(from.frame()) {
            let count = resampler.process(frame, &mut out);
            assert_eq!(count, to.frame(), "a frame in is a frame out");
            all.extend_from_slice(&out);
        }
        all
    }

    #[test]
    fn what_both_rates_hold_is_flat_and_clean() {
        for from in RATES {
            for to in RATES {
                for part in [0.0125, 0.1, 0.25, 0.4, 0.425] {
                    let hz = f64::from(from.hz().min(to.hz())) * part;
                    let out = through(&tone(hz, from.hz(), from.hz() as usize), from, to);
                    let settled = &out[to.frame()..];
                    let change = level(settled) - level(&tone(hz, to.hz(), to.hz() as usize));
                    assert!(change.abs() < 0.1, "{from:?} {to:?} {hz} Hz changed by {change:.2} dB");
                    let noise = rest(settled, hz, to.hz()) - level(settled);
                    assert!(noise < -60.0, "{from:?} {to:?} {hz} Hz: {noise:.1} dB of other things");
                }
            }
        }
    }

    #[test]
    fn what_the_lower_rate_cannot_hold_is_removed() {
        for (from, to) in [(Rate::Wide, Rate::Narrow), (Rate::Full, Rate::Narrow), (Rate::Full, Rate::Wide)] {
            for part in [0.575, 0.65, 0.8, 0.95] {
                let hz = f64::from(to.hz()) * part;
                let pcm = tone(hz, from.hz(), from.hz() as usize);
                let left = level(&through(&pcm, from, to)[to.frame()..]) - level(&pcm);
                assert!(left < -60.0, "{from:?} {to:?} {hz} Hz: {left:.1} dB");
            }
        }
    }

    /// The samples of the lower rate pass exactly, `DELAY` late.
    #[test]
    fn it_is_as_late_as_it_says() {
        for to in [Rate::Wide, Rate::Full] {
            let ratio = to.frame() / Rate::Narrow.frame();
            let pcm: Vec<i16> = (0..1600).map(|n| ((n * 7919) % 20_000 - 10_000) as i16).collect();
            let out = through(&pcm, Rate::Narrow, to);
            let exact: Vec<i16> = out.iter().copied().step_by(ratio).skip(DELAY).collect();
            assert_eq!(exact, pcm[..1600 - DELAY]);
            let mut click = vec![0; to.frame() * 4];
            click[ratio * 200] = 12_000;
            let narrow = through(&click, to, Rate::Narrow);
            let wanted = (0..narrow.len()).map(|n| if n == 200 + DELAY { 12_000 / ratio as i16 } else { 0 });
            assert!(narrow.iter().zip(wanted).all(|(a, b)| a.abs_diff(b) <= 1));
        }
    }

    /// However a stream is cut, the same comes out.
    #[test]
    fn pieces_of_any_length_make_one_stream() {
        let pcm = tone(700.0, 48_000, 9_600);
        let whole = through(&pcm, Rate::Full, Rate::Narrow);
        let mut resampler = Resampler::new(Rate::Full, Rate::Narrow);
        let (mut all, mut rest, mut length) = (Vec::new(), &pcm[..], 1);
        while !rest.is_empty() {
            let (piece, later) = rest.split_at(length.min(rest.len()));
            let mut out = [0; 1000];
            let count = resampler.process(piece, &mut out);
            all.extend_from_slice(&out[..count]);
            (rest, length) = (later, (length * 7 + 3) % 3_001);
        }
        assert_eq!(all, whole);
    }

    #[test]
    fn clipped_input_is_limited_not_wrapped() {
        let square: Vec<i16> = (0..1600).map(|n| if n / 4 % 2 == 0 { i16::MAX } else { i16::MIN }).collect();
        for pair in through(&square, Rate::Narrow, Rate::Full).windows(2) {
            assert!(pair[0].abs_diff(pair[1]) < 40_000);
        }
    }
}
