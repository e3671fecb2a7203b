//! Two channels for the recording: what each side said, and what the coach said to them, on the media clock.
//!
//! Voices come out of the jitter buffers `DELAY` after they were received; what the coach says is known when it is
//! sent. So clips wait here until the voices of the same moment are due.

use crate::call::FRAME;
use crate::media::CLOCK_PER_SAMPLE;
use crate::media::mix::Sum;
use crate::time::MediaTime;

/// Samples of clips held: 256 ms, of which `DELAY` are used and the rest is for packets that come in bursts.
const RING: usize = 2048;
const MASK: i64 = RING as i64 - 1;
/// A clip whose packets leave within this of where its last samples were put goes on there: 60 ms.
const TOGETHER: i64 = 480;

/// One channel: what was said to one side.
#[derive(Clone)]
pub(crate) struct Track {
    clip: Box<[i16; RING]>,
    written: i64,
    read: i64,
}

impl Default for Track {
    fn default() -> Self {
        Track { clip: Box::new([0; RING]), written: i64::MIN, read: i64::MIN }
    }
}

impl Track {
    /// Samples of a clip left at `now` for someone on this side.
    pub fn said(&mut self, now: MediaTime, samples: &[i16]) {
        let here = now.0 / CLOCK_PER_SAMPLE;
        let from = if self.written.saturating_sub(here).saturating_abs() <= TOGETHER { self.written } else { here };
        for (at, sample) in (from..).zip(samples) {
            if at >= self.read && at < here + RING as i64 / 2 {
                let slot = &mut self.clip[(at & MASK) as usize];
                *slot = slot.saturating_add(*sample);
            }
        }
        self.written = from + samples.len() as i64;
    }

    /// Adds what the coach said from `at` on to the voices of that moment, and frees its place.
    pub fn collect(&mut self, at: MediaTime, voices: &mut Sum) {
        let first = at.0 / CLOCK_PER_SAMPLE;
        let mut frame = [0; FRAME];
        for (i, sample) in (first..).zip(frame.iter_mut()) {
            *sample = std::mem::take(&mut self.clip[(i & MASK) as usize]);
        }
        self.read = first + FRAME as i64;
        voices.add(&frame);
    }

    /// Nothing that was said is to be recorded any more.
    pub fn clear(&mut self) {
        self.clip.fill(0);
    }
}
