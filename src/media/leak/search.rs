//! Looks for what was sent to a leg in what comes back from it: a generalised cross-correlation (Knapp and Carter, 1976)
//! each 20 ms, over lags of up to 310 ms, summed over time.
//!
//! ```text
//!   sent, 350 ms  ─► each frequency equally loud ───────────────────┐
//!                                                                   ├─► correlation ─► memories: 40, 140 and 490 ms
//!   heard, 40 ms  ─► the softer a frequency, the more it counts ────┘
//! ```
//!
//! What was sent is known to the sample, so whatever else is heard is noise that a matched filter must be weighed
//! against: by its power, at each frequency and in each 40 ms by itself. The pauses and gaps of a voice, where an echo can
//! be heard, then count a thousand times as much as its vowels. All at 8 kHz; no allocation after `new`.

use std::sync::{Arc, LazyLock};

use realfft::num_complex::Complex32;
use realfft::{ComplexToReal, RealFftPlanner, RealToComplex};

use crate::media::FRAME;
use crate::media::leak::memory::{Echo, Memory};

/// 40 ms: as long as a voice stays the same.
const WINDOW: usize = 2 * FRAME;
/// Lags in samples: 310 ms, for the echo path (20 to 250 ms), its early reflections, and what a packet's place may be off.
pub const LAGS: usize = 2480;
/// What is remembered of what was sent.
const PAST: usize = WINDOW + LAGS;
/// Both and no more, so that no lag wraps into another.
const SIZE: usize = 4096;
/// 250 Hz to 3,500 Hz, in bins: what a telephone carries.
const BAND: std::ops::Range<usize> = 128..1792;
/// Who hears less than this (about -63 dBFS) hears nothing that was whispered.
const INAUDIBLE: f32 = 24.0 * 24.0 * WINDOW as f32;
/// Less than this of what was sent (about -66 dBFS for 125 ms) has nothing that could be recognised.
const QUIET: f32 = 16.0 * 16.0 * 1000.0;
/// What could come back within 256 ms.
const LATELY: usize = 2048;
/// What is softer than the noise of a quiet office (-61 dBFS) counts no more than that.
const NOISE: f32 = 30.0 * 30.0 * WINDOW as f32 / 2.0;
/// What is 30 dB softer than the loudest frequency counts no more either: what the window smears of a tone's beginning, and
/// a codec's noise, have phases too, and they agree with those of any other tone.
const SMEARED: f32 = 1e-3;
/// Bins to either side over which loudness is taken: 20 Hz of what is heard, which is what its window resolves, and 62 Hz
/// of what was sent, whose harmonics are to stand out as they are.
const HEARD_BINS: usize = 10;
const SENT_BINS: usize = 32;

/// Twiddle factors, for all searches.
static PLANS: LazyLock<Plans> = LazyLock::new(|| {
    let mut planner = RealFftPlanner::new();
    (planner.plan_fft_forward(SIZE), planner.plan_fft_inverse(SIZE))
});
type Plans = (Arc<dyn RealToComplex<f32>>, Arc<dyn ComplexToReal<f32>>);

/// What was sent of late, what is heard, and what came of comparing them until now.
pub struct Search {
    forward: Arc<dyn RealToComplex<f32>>,
    back: Arc<dyn ComplexToReal<f32>>,
    sent: Box<[f32; PAST]>,
    heard: [f32; WINDOW],
    shape: [f32; WINDOW],
    time: Vec<f32>,
    /// Of what was sent, and of what is heard.
    whisper: Vec<Complex32>,
    line: Vec<Complex32>,
    /// The sum of powers up to a bin.
    up_to: Vec<f32>,
    scratch: Vec<Complex32>,
    memories: [Memory; 3],
}

impl Default for Search {
    fn default() -> Self {
        let (forward, back) = PLANS.clone();
        let scratch = forward.get_scratch_len().max(back.get_scratch_len());
        Search {
            sent: Box::new([0.0; PAST]),
            heard: [0.0; WINDOW],
            shape: std::array::from_fn(|n| ((n as f32 + 0.5) * std::f32::consts::PI / WINDOW as f32).sin()),
            time: forward.make_input_vec(),
            whisper: forward.make_output_vec(),
            line: forward.make_output_vec(),
            up_to: vec![0.0; SIZE / 2 + 2],
            scratch: vec![Complex32::ZERO; scratch],
            memories: Memory::all(),
            forward,
            back,
        }
    }
}

impl Search {
    /// 20 ms of what was sent to the leg and, of the same instant, what came from it. Shorter slices are taken as
    /// followed by silence.
    pub fn take(&mut self, sent: &[i16], heard: &[i16]) {
        push(&mut self.sent[..], sent);
        push(&mut self.heard, heard);
    }

    /// Forgets all that was taken.
    pub fn forget(&mut self) {
        self.sent.fill(0.0);
        self.forget_heard();
    }

    /// Forgets what was heard, and keeps what was sent: something new is between them.
    pub fn forget_heard(&mut self) {
        self.heard.fill(0.0);
        self.memories.iter_mut().for_each(Memory::forget);
    }

    /// Whether anything was sent of late that could have come back.
    pub fn could_be_found(&self) -> bool {
        energy(&self.sent[PAST - LATELY..]) >= QUIET
    }

    /// Looks at what was taken last. Answers an echo, if there is one; less is asked of one within `known` lags.
    pub fn look(&mut self, known: std::ops::Range<usize>) -> Option<Echo> {
        self.memories.iter_mut().for_each(Memory::fade);
        if energy(&self.heard) < INAUDIBLE || energy(&self.sent[..]) < QUIET {
            return None;
        }
        self.correlate();
        let Search { memories, time, .. } = self;
        let now = &time[..LAGS];
        memories
            .iter_mut()
            .filter_map(|memory| memory.add(now, &known))
            .reduce(|a, b| if b.height > a.height { b } else { a })
    }

    /// Leaves in `time` how like what is heard is to what was sent so many samples before.
    fn correlate(&mut self) {
        self.time.fill(0.0);
        let place = self.time[LAGS..].iter_mut();
        place.zip(self.heard.iter().zip(&self.shape)).for_each(|(to, (s, w))| *to = s * w);
        let _ = self.forward.process_with_scratch(&mut self.time, &mut self.line, &mut self.scratch);
        weigh(&mut self.line, &mut self.up_to, HEARD_BINS, NOISE, |power| power.recip());
        self.time.fill(0.0);
        self.time[..PAST].copy_from_slice(&self.sent[..]);
        let _ = self.forward.process_with_scratch(&mut self.time, &mut self.whisper, &mut self.scratch);
        weigh(&mut self.whisper, &mut self.up_to, SENT_BINS, 1.0, |power| power.sqrt().recip());
        for (to, heard) in self.whisper.iter_mut().zip(&self.line) {
            *to = to.conj() * heard;
        }
        let _ = self.back.process_with_scratch(&mut self.whisper, &mut self.time, &mut self.scratch);
    }
}

/// Scales each bin by what its power, over some to either side, is worth; nothing is left outside the band.
fn weigh(spectrum: &mut [Complex32], up_to: &mut [f32], half: usize, least: f32, worth: impl Fn(f32) -> f32) {
    let mut loudest = 0.0f32;
    for (at, bin) in spectrum.iter().enumerate() {
        up_to[at + 1] = up_to[at] + bin.norm_sqr();
        loudest = loudest.max(if BAND.contains(&at) { bin.norm_sqr() } else { 0.0 });
    }
    let least = least.max(loudest * SMEARED);
    let bins = spectrum.len();
    for (at, bin) in spectrum.iter_mut().enumerate() {
        let (from, until) = (at.saturating_sub(half), (at + half + 1).min(bins));
        let power = ((up_to[until] - up_to[from]) / (until - from) as f32).max(0.0);
        *bin *= if BAND.contains(&at) { worth(power + least) } else { 0.0 };
    }
}

fn energy(samples: &[f32]) -> f32 {
    samples.iter().map(|s| s * s).sum()
}

fn push(past: &mut [f32], frame: &[i16]) {
    past.copy_within(FRAME.., 0);
    let from = past.len() - FRAME;
    let room = &mut past[from..];
    room.fill(0.0);
    room.iter_mut().zip(frame).for_each(|(to, from)| *to = f32::from(*from));
}
