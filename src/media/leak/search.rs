//! Looks for what was sent to a leg in what comes back from it: one generalised cross-correlation with phase transform
//! (Knapp and Carter, 1976) each 20 ms, over lags of 0 to 416 ms. Two voices that have nothing to do with each other
//! have random phases towards each other, whatever their loudness and pitch, so the height of a peak over the
//! correlation's own noise says how likely it is chance. Each frequency counts by how loud the whisper is against all
//! that was heard there: an echo shows in the gaps of a voice. All at 8 kHz; no allocation after `new`.

use std::sync::{Arc, LazyLock};

use realfft::num_complex::Complex32;
use realfft::{ComplexToReal, RealFftPlanner, RealToComplex};

use crate::media::FRAME;

/// 128 ms: less than the 150 ms a leak may last, enough for a room's echo to stand out.
const WINDOW: usize = 1024;
/// A window and as much silence, so that the correlation does not wrap.
const SIZE: usize = 2 * WINDOW;
/// Pieces of the past the window is compared with, each half a window further back.
const PIECES: usize = 7;
const STEP: usize = WINDOW / 2;
/// What is remembered of what was sent.
const PAST: usize = WINDOW + (PIECES - 1) * STEP;
/// The lags each piece answers for: half a step to either side.
const REACH: usize = STEP / 2;
/// Lags in samples, all pieces together; the first is -REACH, which nothing real has.
pub const LAGS: usize = PIECES * STEP;
/// Lags to either side of one that say how much of it is chance: 16 ms.
const NEAR: usize = 128;
/// 250 Hz to 3,500 Hz, in bins: what a telephone carries.
const BAND: std::ops::Range<usize> = 64..896;
/// A piece quieter than this (about -66 dBFS) has nothing that could be recognised.
const QUIET: f32 = 16.0 * 16.0 * WINDOW as f32;
/// And who hears less than this (about -63 dBFS) hears nothing that was whispered.
const INAUDIBLE: f32 = 24.0 * 24.0 * WINDOW as f32;
/// Each 20 ms the remembered correlation keeps this share of itself: about 300 ms.
const KEPT: f32 = 0.94;
/// What chance makes of it: 1 / sqrt(1 - KEPT²), were the windows of two frames different ones.
const BY_CHANCE: f32 = 2.93;
/// What is 30 dB softer than the loudest frequency counts less and less: what the window smears of a tone's beginning, and
/// a codec's noise, have phases too, and they agree with those of any other tone.
const SMEARED: f32 = 0.03;
/// Bins to either side by which what is heard at a frequency is smoothed: 16 Hz.
const SMOOTH: usize = 2;

/// Twiddle factors, for all searches.
static PLANS: LazyLock<Plans> = LazyLock::new(|| {
    let mut planner = RealFftPlanner::new();
    (planner.plan_fft_forward(SIZE), planner.plan_fft_inverse(SIZE))
});
type Plans = (Arc<dyn RealToComplex<f32>>, Arc<dyn ComplexToReal<f32>>);

/// The likeliest lag of an echo.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Peak {
    /// Samples at 8 kHz between what was sent and its return.
    pub lag: usize,
    /// How far the peak stands out of the last 128 ms: standard deviations of a correlation by chance.
    pub height: f32,
    /// The likeliest lag over the last 300 ms or so, and its height.
    pub slow_lag: usize,
    /// As `height`, for `slow_lag`.
    pub slow_height: f32,
}

/// The last half second sent and the last 128 ms heard.
pub struct Search {
    forward: Arc<dyn RealToComplex<f32>>,
    back: Arc<dyn ComplexToReal<f32>>,
    sent: [f32; PAST],
    heard: [f32; WINDOW],
    shape: [f32; WINDOW],
    time: Vec<f32>,
    spectrum: Vec<Complex32>,
    /// How loud what was heard is at each frequency, and the sum of powers up to it.
    loud: Vec<f32>,
    up_to: Vec<f32>,
    cross: Vec<Complex32>,
    scratch: Vec<Complex32>,
    now: Vec<f32>,
    slow: Vec<f32>,
}

impl Default for Search {
    fn default() -> Self {
        let (forward, back) = PLANS.clone();
        let scratch = forward.get_scratch_len().max(back.get_scratch_len());
        let turn = |n: usize| (n as f32 + 0.5) * std::f32::consts::PI / WINDOW as f32;
        Search {
            sent: [0.0; PAST],
            heard: [0.0; WINDOW],
            shape: std::array::from_fn(|n| turn(n).sin().sqrt()),
            time: forward.make_input_vec(),
            spectrum: forward.make_output_vec(),
            loud: vec![0.0; SIZE / 2 + 1],
            up_to: vec![0.0; SIZE / 2 + 2],
            cross: forward.make_output_vec(),
            scratch: vec![Complex32::ZERO; scratch],
            now: vec![0.0; LAGS],
            slow: vec![0.0; LAGS],
            forward,
            back,
        }
    }
}

impl Search {
    /// 20 ms of what was sent to the leg and, of the same instant, what came from it. Shorter slices are taken as
    /// followed by silence.
    pub fn take(&mut self, sent: &[i16], heard: &[i16]) {
        push(&mut self.sent, sent);
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
        self.slow.fill(0.0);
    }

    /// Whether anything was sent of late that could have come back.
    pub fn could_be_found(&self) -> bool {
        self.sent[PAST - 2 * WINDOW..].iter().map(|s| s * s).sum::<f32>() >= QUIET
    }

    /// The likeliest lag within `lags`.
    pub fn peak(&mut self, lags: std::ops::Range<usize>) -> Peak {
        self.slow.iter_mut().for_each(|s| *s *= KEPT);
        self.now.fill(0.0);
        if self.heard.iter().map(|s| s * s).sum::<f32>() < INAUDIBLE {
            return Peak::default();
        }
        self.transform_heard();
        for piece in 0..PIECES {
            self.correlate(piece);
        }
        let (lag, height) = self.highest(lags.clone());
        let (slow_lag, slow) = highest(&self.slow, lags.start + REACH..(lags.end + REACH).min(LAGS));
        Peak { lag, height, slow_lag, slow_height: slow / BY_CHANCE }
    }

    /// The highest place of the present correlation within `lags`, and its height.
    pub fn highest(&self, lags: std::ops::Range<usize>) -> (usize, f32) {
        highest(&self.now, lags.start.saturating_add(REACH).min(LAGS)..lags.end.saturating_add(REACH).min(LAGS))
    }

    fn transform_heard(&mut self) {
        fill(&mut self.time, &self.heard, &self.shape);
        let _ = self.forward.process_with_scratch(&mut self.time, &mut self.spectrum, &mut self.scratch);
        let bins = self.spectrum.len();
        let smeared = smeared(&self.spectrum);
        for (at, bin) in self.spectrum.iter_mut().enumerate() {
            self.up_to[at + 1] = self.up_to[at] + bin.norm_sqr();
            *bin /= bin.norm().max(smeared);
        }
        for (at, loud) in self.loud.iter_mut().enumerate() {
            let (from, until) = (at.saturating_sub(SMOOTH), (at + SMOOTH + 1).min(bins));
            let power = (self.up_to[until] - self.up_to[from]).max(0.0) / (until - from) as f32;
            *loud = power.sqrt().max(1.0);
        }
    }

    fn correlate(&mut self, piece: usize) {
        let end = PAST - piece * STEP;
        let sent = &self.sent[end - WINDOW..end];
        if sent.iter().map(|s| s * s).sum::<f32>() < QUIET {
            return;
        }
        fill(&mut self.time, sent, &self.shape);
        let _ = self.forward.process_with_scratch(&mut self.time, &mut self.cross, &mut self.scratch);
        let smeared = smeared(&self.cross);
        for (k, ((to, heard), loud)) in self.cross.iter_mut().zip(&self.spectrum).zip(&self.loud).enumerate() {
            *to = if BAND.contains(&k) { weighted(*to, *loud, smeared).conj() * heard } else { Complex32::ZERO };
        }
        let _ = self.back.process_with_scratch(&mut self.cross, &mut self.time, &mut self.scratch);
        // Where either window holds little more than an onset, what chance makes lies in few lags: the noise of a lag is
        // that of its neighbours.
        let index = |at: usize| (SIZE + at - REACH) % SIZE;
        let square = |time: &[f32], at: usize| time[index(at)].powi(2);
        let mut around: f32 = (0..2 * NEAR).map(|n| self.time[(SIZE + n - REACH - NEAR) % SIZE].powi(2)).sum();
        for at in 0..STEP {
            let gone = self.time[(SIZE + at - REACH - NEAR) % SIZE].powi(2);
            let noise = ((around - square(&self.time, at)).max(0.0) / (2 * NEAR) as f32).sqrt();
            let height = self.time[index(at)] / noise.max(f32::MIN_POSITIVE);
            around += square(&self.time, at + NEAR) - gone;
            let lag = piece * STEP + at;
            self.now[lag] = height;
            self.slow[lag] += height;
        }
    }
}

/// Where the whisper has little of what is heard, the phase heard there is somebody else's.
fn weighted(whispered: Complex32, loud: f32, smeared: f32) -> Complex32 {
    let amplitude = whispered.norm();
    whispered / amplitude.max(smeared) * (amplitude / loud).sqrt()
}

/// The amplitude below which a frequency of this spectrum says little. Never 0.
fn smeared(spectrum: &[Complex32]) -> f32 {
    let loudest = spectrum.iter().take(BAND.end).skip(BAND.start).map(|bin| bin.norm_sqr()).fold(0.0, f32::max);
    (loudest.sqrt() * SMEARED).max(1e-3)
}

fn push<const N: usize>(past: &mut [f32; N], frame: &[i16]) {
    past.copy_within(FRAME.., 0);
    let room = &mut past[N - FRAME..];
    room.fill(0.0);
    room.iter_mut().zip(frame).for_each(|(to, from)| *to = f32::from(*from));
}

fn fill(time: &mut [f32], samples: &[f32], shape: &[f32; WINDOW]) {
    time[WINDOW..].fill(0.0);
    time.iter_mut().zip(samples.iter().zip(shape)).for_each(|(to, (s, w))| *to = s * w);
}

/// The place, as a lag, of the highest value of either sign (a loudspeaker may be wired either way round).
fn highest(values: &[f32], within: std::ops::Range<usize>) -> (usize, f32) {
    let best = within.fold((REACH, 0.0f32), |best, at| match values[at].abs() > best.1 {
        true => (at, values[at].abs()),
        false => best,
    });
    (best.0.saturating_sub(REACH), best.1)
}
