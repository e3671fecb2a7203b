//! How alike two stretches of sound are, and where a sound is most like itself: what steps and concealment look for.
//! Of a high rate every few samples are enough.

use crate::media::pcm::Rate;

/// Below this mean square nobody hears a step: −60 dB of full scale, the noise of an idle line.
pub(crate) const QUIET: i64 = 33 * 33;
/// Samples searched at most, at 8 kHz: 40 ms.
const VIEW: usize = 320;
/// Products summed side by side.
const LANES: usize = 8;

/// A distance at which a sound is like itself.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Likeness {
    /// In samples.
    pub lag: usize,
    /// −1 to 1.
    pub is: f32,
}

/// A place in a sound, and the distances from it at which to look for the like.
pub(crate) struct Search {
    /// The first sample of what is compared.
    pub here: usize,
    /// Samples compared.
    pub length: usize,
    pub shortest: usize,
    pub longest: usize,
    /// Towards what is later, or what is before.
    pub forward: bool,
}

impl Search {
    /// The best distance, first among those that are whole steps at 8 kHz, then near it. `None` where none lies in the
    /// sound.
    pub fn best(&self, sound: &[i16], rate: Rate) -> Option<Likeness> {
        let stride = stride(rate);
        let coarse = self.coarse(sound, stride)?;
        let near =
            coarse.lag.saturating_sub(stride - 1).max(self.shortest)..=(coarse.lag + stride - 1).min(self.longest);
        let fine = near.filter(|lag| *lag != coarse.lag).filter_map(|lag| {
            let there = self.there(self.here, lag)?;
            let is = alike(sound.get(self.here..)?.get(..self.length)?, sound.get(there..)?.get(..self.length)?, rate);
            Some(Likeness { lag, is })
        });
        Some(fine.fold(coarse, better))
    }

    fn coarse(&self, sound: &[i16], stride: usize) -> Option<Likeness> {
        let phase = self.here % stride;
        let mut view = [0.0; VIEW];
        let mut energy = [0.0; VIEW + 1];
        let mut seen = 0;
        for (to, sample) in view.iter_mut().zip(sound.get(phase..)?.iter().step_by(stride)) {
            *to = f32::from(*sample);
            energy[seen + 1] = energy[seen] + f64::from(*sample).powi(2);
            seen += 1;
        }
        let (view, here, length) = (&view[..seen], self.here / stride, self.length / stride);
        let of = |at: usize| Some((view.get(at..at + length)?, energy[at + length] - energy[at]));
        let own = of(here)?;
        let lags = self.shortest.div_ceil(stride)..=self.longest / stride;
        let found = lags.filter_map(|lag| {
            let other = of(self.there(here, lag)?)?;
            Some(Likeness { lag: lag * stride, is: compare(dot(own.0, other.0), own.1, other.1, length) })
        });
        found.reduce(better)
    }

    fn there(&self, here: usize, lag: usize) -> Option<usize> {
        if self.forward { here.checked_add(lag) } else { here.checked_sub(lag) }
    }
}

/// The later of equals.
fn better(one: Likeness, other: Likeness) -> Likeness {
    if other.is >= one.is { other } else { one }
}

/// Correlation of two stretches of sound, −1 to 1. Silence is like silence and like nothing else.
pub(crate) fn alike(a: &[i16], b: &[i16], rate: Rate) -> f32 {
    let (mut product, mut energy_a, mut energy_b) = (0i64, 0i64, 0i64);
    for (a, b) in a.iter().zip(b).step_by(stride(rate)) {
        let (a, b) = (i64::from(*a), i64::from(*b));
        product += a * b;
        energy_a += a * a;
        energy_b += b * b;
    }
    compare(product as f64, energy_a as f64, energy_b as f64, a.len() / stride(rate))
}

fn compare(product: f64, energy_a: f64, energy_b: f64, length: usize) -> f32 {
    let quiet = QUIET as f64 * length as f64;
    match (energy_a < quiet, energy_b < quiet) {
        (true, true) => 1.0,
        // A-law's zero is 8: one sample of it next to a loud one would pass for a likeness.
        (true, false) | (false, true) => 0.0,
        (false, false) => (product / (energy_a * energy_b).sqrt()) as f32,
    }
}

/// In lanes, which a compiler may sum side by side.
fn dot(a: &[f32], b: &[f32]) -> f64 {
    let (a, b) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let rest: f32 = a.remainder().iter().zip(b.remainder()).map(|(a, b)| a * b).sum();
    let mut lanes = [0.0f32; LANES];
    for (a, b) in a.zip(b) {
        for ((lane, a), b) in lanes.iter_mut().zip(a).zip(b) {
            *lane += a * b;
        }
    }
    f64::from(lanes.iter().sum::<f32>() + rest)
}

/// Samples for one at 8 kHz.
pub(crate) fn stride(rate: Rate) -> usize {
    rate.hz() as usize / 8000
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The search finds what comparing everything with everything finds, in either direction and at every rate.
    #[test]
    fn the_best_is_the_best_of_all() {
        let mut seed = crate::media::seed::Seed::new(3);
        for rate in Rate::ALL {
            let stride = stride(rate);
            for forward in [true, false] {
                let sound: Vec<i16> = (0..280 * stride)
                    .map(|n| {
                        let t = n as f64 / f64::from(rate.hz());
                        (6_000.0 * (t * 1_050.0).sin() + 3_000.0 * (t * 2_400.0).cos()) as i16 + seed.below(500) as i16
                    })
                    .collect();
                let (shortest, longest, length) = (20 * stride, 150 * stride, 80 * stride);
                let here = if forward { 0 } else { longest + 5 };
                let found = Search { here, length, shortest, longest, forward }.best(&sound, rate).unwrap();
                let likeness = |lag: usize| {
                    let there = if forward { here + lag } else { here - lag };
                    alike(&sound[here..][..length], &sound[there..][..length], rate)
                };
                let best = (shortest..=longest).map(likeness).fold(f32::MIN, f32::max);
                assert!((likeness(found.lag) - found.is).abs() < 1e-4, "{rate:?} {found:?}");
                assert!(found.is > best - 0.02, "{rate:?} {forward}: {found:?} of {best}");
            }
        }
    }

    #[test]
    fn nothing_is_found_where_there_is_nothing() {
        let search = |shortest, longest| Search { here: 0, length: 80, shortest, longest, forward: true };
        assert_eq!(search(20, 120).best(&[5; 90], Rate::Narrow), None);
        assert_eq!(search(20, 10).best(&[5; 200], Rate::Narrow), None);
        assert_eq!(search(20, 120).best(&[5; 200], Rate::Narrow), Some(Likeness { lag: 120, is: 1.0 }), "silence");
    }
}
