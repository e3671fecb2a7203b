//! Adding voices, without overflow.

use crate::media::FRAME;

/// A sum of frames that remembers more than 16 bits until it is read.
pub struct Sum([i32; FRAME]);

impl Default for Sum {
    fn default() -> Self {
        Sum([0; FRAME])
    }
}

impl Sum {
    /// Adds a frame.
    pub fn add(&mut self, frame: &[i16]) {
        for (sum, sample) in self.0.iter_mut().zip(frame) {
            *sum = sum.saturating_add(i32::from(*sample));
        }
    }
    /// The samples, limited to 16 bits.
    pub fn samples(&self) -> impl Iterator<Item = i16> + '_ {
        self.0.iter().map(|s| (*s).clamp(i32::from(i16::MIN), i32::from(i16::MAX)) as i16)
    }
    /// The samples as a frame.
    pub fn frame(&self) -> [i16; FRAME] {
        let mut out = [0; FRAME];
        for (to, from) in out.iter_mut().zip(self.samples()) {
            *to = from;
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loud_voices_are_limited_not_wrapped() {
        let mut sum = Sum::default();
        sum.add(&[30_000; FRAME]);
        sum.add(&[30_000; FRAME]);
        assert_eq!(sum.frame(), [i16::MAX; FRAME]);
        sum.add(&[-30_000; FRAME]);
        assert_eq!(sum.frame(), [30_000; FRAME]);
    }
}
