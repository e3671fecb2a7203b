//! The ear on one leg: 20 ms frames with their media time in, edges of speech and whole utterances out. Keeps no more
//! audio than the utterance being said, at most 8.5 s.
//!
//! Inside, audio has a position: samples at 8 kHz since the ear opened, whatever the leg's rate. A position becomes media time through the last
//! frame's time stamp, so that times stay right whatever happened before.

use super::endpoint::{Endpoint, Mark};
use super::firewall;
use crate::media::pcm::Rate;
use crate::media::resample::{Upsampler, to_16k};
use crate::time::{MediaTime, Samples};
use std::collections::VecDeque;
use std::sync::Arc;

/// Samples at 16 kHz the voice detector takes at a time: 16 ms.
const VAD_FRAME: usize = 256;

/// The same at 8 kHz.
const VAD_STEP: i64 = 128;

/// How long after a voice ends the detector says so: the median over the sample calls, nine in ten within 26 ms of it.
/// A beginning is noticed at once (nine in ten within 12 ms). Positions at 8 kHz.
const END_LAG: i64 = 94 * 8;

/// Audio before the first voiced sample and after the last that goes with an utterance: the detector may miss a weak
/// beginning, and the recogniser was trained with margins. Between 200 and 250 ms each, word errors on the sample calls
/// vary by three words of 615, without a trend.
const BEFORE: i64 = 250 * 8;
const AFTER: i64 = 250 * 8;

/// Audio kept while nobody speaks: the margin before, and the time until the detector may be sure.
const KEPT: i64 = BEFORE + 16 * VAD_STEP;

/// Room kept for audio between utterances: one second. More is given back.
const ROOM: usize = 8_000;

/// A frame that comes within this of its expected time follows the one before.
const TOLERANCE: Samples = Samples::from_millis(10);

/// A hole in media time up to this is filled with silence; after a longer one the ear begins anew.
const LONGEST_HOLE: i64 = 400;

/// What an ear noticed.
pub enum Noticed {
    /// The leg began to speak.
    Began(MediaTime),
    /// It stopped.
    Stopped(MediaTime),
    /// It said something.
    Said {
        /// First voiced sample.
        start: MediaTime,
        /// Last voiced sample.
        end: MediaTime,
        /// Mono, 16 kHz, −1 to 1, with margins.
        pcm: Arc<[f32]>,
    },
}

/// The ear on one leg.
pub struct Ear {
    rate: Rate,
    // Samples in a position: 1 or 2.
    scale: usize,
    // To the 16 kHz of the detector, for legs of 8.
    upsampler: Option<Upsampler>,
    detector: Box<earshot::Detector>,
    endpoint: Endpoint,
    // 16 kHz samples that do not fill a frame of the detector yet.
    partial: [f32; VAD_FRAME],
    filled: usize,
    // The audio from position `kept_from` on.
    kept: VecDeque<i16>,
    kept_from: i64,
    // Audio before this belongs to an utterance that was given out.
    given: i64,
    // Media time of the sample at a position.
    anchor: Option<(i64, MediaTime)>,
    // Drained by `poll` after every frame; a frame gives three entries at most (an end and its utterance, twice in a
    // hole), so it needs no bound of its own.
    noticed: VecDeque<Noticed>,
}

impl Ear {
    /// An ear that has heard nothing, for frames of 8 or 16 kHz.
    pub fn new(rate: Rate) -> Self {
        let scale = rate.frame() / Rate::Narrow.frame();
        Ear {
            rate,
            scale,
            upsampler: (rate == Rate::Narrow).then(Upsampler::new),
            detector: earshot::Detector::default_boxed(),
            endpoint: Endpoint::new(0),
            partial: [0.0; VAD_FRAME],
            filled: 0,
            kept: VecDeque::with_capacity(ROOM * scale),
            kept_from: 0,
            given: 0,
            anchor: None,
            noticed: VecDeque::with_capacity(4),
        }
    }

    /// The rate of the frames it hears.
    pub fn rate(&self) -> Rate {
        self.rate
    }

    /// The next 20 ms. A hole in media time is heard as silence; a frame from the past is ignored.
    pub fn hear(&mut self, at: MediaTime, frame: &[i16]) {
        let Some(expected) = self.anchor.map(|_| self.time(self.end())) else {
            self.anchor = Some((self.end(), at));
            return self.take(frame);
        };
        if expected - at > TOLERANCE {
            return;
        }
        if at - expected > TOLERANCE {
            self.fill(at - expected);
            self.anchor = Some((self.end(), at));
        }
        self.take(frame);
    }

    /// Nothing more will come: what is being said ends here.
    pub fn flush(&mut self) {
        if let Some(Mark::Ended { first, end }) = self.endpoint.flush() {
            // Whether the last sound had ended already, the detector would have told only later.
            let (start, end) = (self.start_of(first), self.position(end).min(self.end()));
            self.stopped(start, end);
        }
    }

    /// What it noticed, until none.
    pub fn poll(&mut self) -> Option<Noticed> {
        self.noticed.pop_front()
    }

    /// Whether the leg speaks, or seems to begin.
    pub fn is_speaking(&self) -> bool {
        self.endpoint.is_speaking()
    }

    fn fill(&mut self, hole: Samples) {
        let missing = hole.as_millis().min(LONGEST_HOLE) / 20;
        for _ in 0..missing {
            self.take(&[0; Rate::Wide.frame()][..self.rate.frame()]);
        }
        if hole.as_millis() > LONGEST_HOLE {
            self.flush();
        }
    }

    fn take(&mut self, frame: &[i16]) {
        self.kept.extend(frame);
        let mut wide = [0.0; Rate::Wide.frame()];
        match (&mut self.upsampler, frame.as_array()) {
            (Some(upsampler), Some(frame)) => wide = *upsampler.process(frame),
            _ => wide.iter_mut().zip(frame).for_each(|(to, from)| *to = f32::from(*from) / 32_768.0),
        }
        let mut rest = wide.as_slice();
        while !rest.is_empty() {
            let (now, later) = rest.split_at(rest.len().min(VAD_FRAME - self.filled));
            self.partial[self.filled..self.filled + now.len()].copy_from_slice(now);
            self.filled += now.len();
            rest = later;
            if self.filled == VAD_FRAME {
                self.filled = 0;
                self.judge();
            }
        }
        self.forget();
    }

    /// A frame of the detector is full.
    fn judge(&mut self) {
        let probability = self.detector.predict_f32(&self.partial);
        let power = self.partial.iter().map(|s| s * s).sum();
        let mark = self.endpoint.step(probability, power);
        self.mark(mark);
    }

    fn mark(&mut self, mark: Option<Mark>) {
        match mark {
            None => {}
            Some(Mark::Began { first }) => {
                let start = self.time(self.start_of(first));
                self.noticed.push_back(Noticed::Began(start));
            }
            Some(Mark::Cut { first, at }) => {
                let cut = self.position(at);
                self.give_out(self.start_of(first), cut, cut);
            }
            Some(Mark::Ended { first, end }) => {
                let start = self.start_of(first);
                self.stopped(start, (self.position(end) - END_LAG).max(start));
            }
        }
    }

    fn stopped(&mut self, start: i64, end: i64) {
        self.noticed.push_back(Noticed::Stopped(self.time(end)));
        self.give_out(start, end, end + AFTER);
        self.kept.shrink_to(ROOM * self.scale);
    }

    /// Where the voice that the detector noticed at frame `first` began; after a cut, exactly there.
    fn start_of(&self, first: u64) -> i64 {
        self.position(first).max(self.given)
    }

    fn give_out(&mut self, start: i64, end: i64, until: i64) {
        let from = (start - BEFORE).max(self.given).max(self.kept_from);
        self.given = end;
        let (scale, length) = (self.scale, self.kept.len());
        let offset = |position: i64| (usize::try_from(position - self.kept_from).unwrap_or(0) * scale).min(length);
        let (first, voice_end, last) = (offset(from), offset(end), offset(until));
        let (voice_start, start, end) = (offset(start), self.time(start), self.time(end));
        let kept = self.kept.make_contiguous();
        if firewall::is_audible(kept.get(voice_start..voice_end).unwrap_or_default()) {
            let said = kept.get(first..last).unwrap_or_default();
            let pcm = match self.rate {
                Rate::Narrow => to_16k(said).into(),
                Rate::Wide | Rate::Full => said.iter().map(|s| f32::from(*s) / 32_768.0).collect(),
            };
            self.noticed.push_back(Noticed::Said { start, end, pcm });
        }
    }

    /// Lets go of audio that no utterance can want any more.
    fn forget(&mut self) {
        let wanted = match self.endpoint.first() {
            Some(first) => self.position(first) - BEFORE,
            None => self.end() - KEPT,
        };
        let old = usize::try_from(wanted - self.kept_from).unwrap_or(0).min(self.kept.len() / self.scale);
        self.kept.drain(..old * self.scale);
        self.kept_from += old as i64;
    }

    /// The position after the last sample heard.
    fn end(&self) -> i64 {
        self.kept_from + (self.kept.len() / self.scale) as i64
    }

    fn time(&self, position: i64) -> MediaTime {
        let (anchor, at) = self.anchor.unwrap_or((0, MediaTime::ZERO));
        // 48 kHz of media time to 8 kHz of position.
        at + Samples((position - anchor) * 6)
    }

    /// Where a frame of the detector begins: the upsampler is a little late.
    fn position(&self, frame: u64) -> i64 {
        let late = if self.upsampler.is_some() { Upsampler::DELAY as i64 } else { 0 };
        frame as i64 * VAD_STEP - late
    }
}
