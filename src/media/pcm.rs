//! 20 ms of sound at one of the rates PCM has in the core.

use std::ops::{Deref, DerefMut};

/// Samples a second. Never more than some listener needs: a G.711 call stays at 8 kHz (DESIGN §5).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rate {
    /// 8 kHz: G.711.
    #[default]
    Narrow,
    /// 16 kHz: G.722, L16, recognisers.
    Wide,
    /// 48 kHz: Opus.
    Full,
}

impl Rate {
    /// In Hertz.
    pub const fn hz(self) -> u32 {
        match self {
            Rate::Narrow => 8_000,
            Rate::Wide => 16_000,
            Rate::Full => 48_000,
        }
    }
    /// All three, the lowest first.
    pub const ALL: [Rate; 3] = [Rate::Narrow, Rate::Wide, Rate::Full];

    /// Samples of a 20 ms frame.
    pub const fn frame(self) -> usize {
        self.hz() as usize / 50
    }
    /// Ticks of the 48 kHz media clock in one sample.
    pub const fn clock_per_sample(self) -> i64 {
        48_000 / self.hz() as i64
    }
}

/// One 20 ms frame, mono. A slice of as many samples as its rate has in 20 ms.
#[derive(Clone, Debug)]
pub struct Pcm {
    rate: Rate,
    samples: [i16; Rate::Full.frame()],
}

impl Pcm {
    /// 20 ms of digital silence.
    pub const fn silence(rate: Rate) -> Self {
        Pcm { rate, samples: [0; Rate::Full.frame()] }
    }
    /// Silence at `rate` from now on.
    pub fn become_silence(&mut self, rate: Rate) {
        self.rate = rate;
        self.fill(0);
    }
    /// Its rate.
    pub fn rate(&self) -> Rate {
        self.rate
    }
}

impl Default for Pcm {
    fn default() -> Self {
        Pcm::silence(Rate::Narrow)
    }
}

impl Deref for Pcm {
    type Target = [i16];
    fn deref(&self) -> &[i16] {
        &self.samples[..self.rate.frame()]
    }
}

impl DerefMut for Pcm {
    fn deref_mut(&mut self) -> &mut [i16] {
        &mut self.samples[..self.rate.frame()]
    }
}
