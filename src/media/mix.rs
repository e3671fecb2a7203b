//! Adding voices, without overflow.

use crate::media::pcm::{Pcm, Rate};

/// A sum of frames that remembers more than 16 bits until it is read. One is used over and over.
pub struct Sum {
    rate: Rate,
    samples: [i32; Rate::Full.frame()],
}

impl Default for Sum {
    fn default() -> Self {
        Sum { rate: Rate::Narrow, samples: [0; Rate::Full.frame()] }
    }
}

impl Sum {
    /// Silence, 20 ms at `rate`.
    pub fn begin(&mut self, rate: Rate) {
        self.rate = rate;
        self.samples[..rate.frame()].fill(0);
    }
    /// Adds samples from the frame's beginning.
    pub fn add(&mut self, samples: &[i16]) {
        self.add_from(0, samples);
    }
    /// Adds samples from the frame's `first` sample on.
    pub fn add_from(&mut self, first: usize, samples: &[i16]) {
        let frame = self.rate.frame();
        for (sum, sample) in self.samples[..frame].iter_mut().skip(first).zip(samples) {
            *sum = sum.saturating_add(i32::from(*sample));
        }
    }
    /// The samples, limited to 16 bits, as a frame.
    pub fn frame(&self, out: &mut Pcm) {
        out.become_silence(self.rate);
        for (to, from) in out.iter_mut().zip(&self.samples) {
            *to = (*from).clamp(i32::from(i16::MIN), i32::from(i16::MAX)) as i16;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loud_voices_are_limited_not_wrapped() {
        for rate in [Rate::Narrow, Rate::Wide, Rate::Full] {
            let (mut sum, mut out) = (Sum::default(), Pcm::default());
            sum.begin(rate);
            sum.add(&vec![30_000; rate.frame()]);
            sum.add(&vec![30_000; rate.frame()]);
            sum.frame(&mut out);
            assert_eq!(&out[..], vec![i16::MAX; rate.frame()]);
            sum.add(&vec![-30_000; rate.frame()]);
            sum.frame(&mut out);
            assert_eq!(&out[..], vec![30_000; rate.frame()]);
            sum.begin(rate);
            sum.frame(&mut out);
            assert_eq!(&out[..], vec![0; rate.frame()]);
        }
    }
}
