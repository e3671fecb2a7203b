//! Adding voices, without overflow, and what becomes of a sum before it is sent: ducked, faded, limited.

use crate::media::pcm::{Pcm, Rate};
use crate::media::volume::{Fader, Volume};

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
    /// Each sample of what was added so far becomes another.
    pub fn change(&mut self, mut to: impl FnMut(i32) -> i32) {
        let frame = self.rate.frame();
        self.samples[..frame].iter_mut().for_each(|sample| *sample = to(*sample));
    }
    /// Brings what was added so far to a volume.
    pub fn fade(&mut self, fader: &mut Fader, to: Volume) {
        fader.fade(to, &mut self.samples[..self.rate.frame()]);
    }
    /// The samples in 16 bits, as a frame.
    pub fn frame(&self, mut limit: impl FnMut(i32) -> i16, out: &mut Pcm) {
        out.become_silence(self.rate);
        for (to, from) in out.iter_mut().zip(&self.samples) {
            *to = limit(*from);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::limit::Limiter;

    #[test]
    fn loud_voices_are_limited_not_wrapped_nor_clipped() {
        for rate in [Rate::Narrow, Rate::Wide, Rate::Full] {
            let (mut sum, mut out) = (Sum::default(), Pcm::default());
            let mut limiter = Limiter::new(rate.hz());
            sum.begin(rate);
            sum.add(&vec![30_000; rate.frame()]);
            sum.add(&vec![30_000; rate.frame()]);
            sum.frame(|s| limiter.sample(s), &mut out);
            assert!(out.iter().all(|s| (30_000..i16::MAX).contains(s)), "{rate:?}");
            sum.begin(rate);
            sum.add(&vec![-30_000; rate.frame()]);
            sum.add(&vec![10_000; rate.frame()]);
            let mut limiter = Limiter::new(rate.hz());
            sum.frame(|s| limiter.sample(s), &mut out);
            assert_eq!(&out[..], vec![-20_000; rate.frame()]);
            sum.begin(rate);
            sum.frame(|s| limiter.sample(s), &mut out);
            assert_eq!(&out[..], vec![0; rate.frame()]);
        }
    }

    #[test]
    fn what_was_added_can_be_changed_before_more_is() {
        let (mut sum, mut out) = (Sum::default(), Pcm::default());
        sum.begin(Rate::Narrow);
        sum.add(&[1000; 160]);
        sum.change(|voice| voice / 4);
        sum.add_from(80, &[70; 80]);
        sum.frame(|s| s as i16, &mut out);
        assert_eq!((&out[..80], &out[80..]), (&[250; 80][..], &[320; 80][..]));
    }
}
