//! Two channels for the recording: what each side said, and what the coach said to them, on the media clock.
//!
//! Voices come out of the jitter buffers `DELAY` after they were received; what the coach says is known when it is
//! sent. So clips wait here until the voices of the same moment are due.

use crate::media::limit::Limiter;
use crate::media::mix::Sum;
use crate::media::pcm::Rate;
use crate::time::{MediaTime, Samples};

/// Samples of clips held at 8 kHz: 256 ms, of which the voices' delay is used and the rest is for packets that come in
/// bursts.
const RING: usize = 2048;
/// A clip whose packets leave within this of where its last samples were put goes on there.
const TOGETHER: Samples = Samples::from_millis(60);

/// One channel: what was said to one side.
#[derive(Clone)]
pub(crate) struct Track {
    rate: Rate,
    /// A power of two long.
    clip: Box<[i16]>,
    written: i64,
    read: i64,
    pub limiter: Limiter,
}

impl Track {
    /// An empty channel at the recording's rate. Allocates.
    pub fn new(rate: Rate) -> Self {
        let ring = RING * (rate.frame() / Rate::Narrow.frame()).next_power_of_two();
        Track { rate, clip: vec![0; ring].into(), written: i64::MIN, read: i64::MIN, limiter: Limiter::new(rate.hz()) }
    }

    fn samples_in(&self, length: Samples) -> i64 {
        length.at_rate(self.rate.hz())
    }
    fn slot(&self, at: i64) -> usize {
        (at & (self.clip.len() as i64 - 1)) as usize
    }

    /// Samples of a clip left at `now` for someone on this side.
    pub fn said(&mut self, now: MediaTime, samples: impl Iterator<Item = i16>) {
        let here = self.samples_in(Samples(now.0));
        let near = self.written.saturating_sub(here).saturating_abs() <= self.samples_in(TOGETHER);
        let mut at = if near { self.written } else { here };
        for sample in samples {
            if at >= self.read && at < here + self.clip.len() as i64 / 2 {
                let slot = self.slot(at);
                self.clip[slot] = self.clip[slot].saturating_add(sample);
            }
            at += 1;
        }
        self.written = at;
    }

    /// Adds what the coach said from `at` on to the voices of that moment, and frees its place.
    pub fn collect(&mut self, at: MediaTime, voices: &mut Sum) {
        let first = self.samples_in(Samples(at.0));
        let until = first + self.rate.frame() as i64;
        // A frame lies in one piece or in two.
        let (from, to) = (self.slot(first), self.slot(until));
        let (before, wrapped) = if to > from || to == 0 {
            (from..if to == 0 { self.clip.len() } else { to }, 0..0)
        } else {
            (from..self.clip.len(), 0..to)
        };
        voices.add(&self.clip[before.clone()]);
        voices.add_from(before.len(), &self.clip[wrapped.clone()]);
        self.clip[before].fill(0);
        self.clip[wrapped].fill(0);
        self.read = until;
    }

    /// Nothing that was said is to be recorded any more.
    pub fn clear(&mut self) {
        self.clip.fill(0);
    }
}
