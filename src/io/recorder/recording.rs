//! One recording, from its first frame to its last: every sample in its place on the media clock, whatever the disk does.
//!
//! In come frames in order and the time; out come a file and the [`Event`]s that tell of it. What is missing between two
//! frames is silence of its length. When the disk refuses, what it has not taken waits, what comes is dropped, and after a
//! while it is tried again: then everything goes on in its place. Knows nothing of threads, queues or the journal.

use super::opus::Opus;
use super::wav::{Shape, Wav};
use crate::config::Format;
use crate::event::{Event, What};
use crate::id::LegId;
use crate::media::pcm::Rate;
use crate::time::{MediaTime, Samples};
use std::io::{self, ErrorKind};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// How long a disk that refused is left alone.
const PATIENCE: Duration = Duration::from_secs(1);

/// Holes nearer to each other than this are told as one: a disk at its limit must not become a flood of events.
const NEAR: Samples = Samples::from_millis(1_000);

/// The longest silence a frame may leave behind it. A frame further ahead is taken for a mistake.
const LONGEST_GAP: Samples = Samples::from_millis(4 * 3_600 * 1_000);

/// Why there is a hole, where no disk refused.
pub const TOO_SLOW: &str = "the disk is too slow: the recorder's queue was full";
const STOOD_STILL: &str = "nothing came from the call: the server stood still";

/// What a recording is to be.
#[derive(Clone, Debug)]
pub(super) struct Spec {
    pub(super) path: PathBuf,
    pub(super) format: Format,
    /// Bits a second for each channel of Opus.
    pub(super) bitrate: u32,
    pub(super) rate: Rate,
    pub(super) channels: u8,
    /// Whose it is; none means the whole call's.
    pub(super) leg: Option<LegId>,
    /// What tells its pages from those of others.
    pub(super) serial: u32,
}

/// A recording that has not ended.
pub(super) struct Recording {
    spec: Spec,
    /// None until the file could be made.
    form: Option<Form>,
    /// Whether anything was written to it.
    begun: bool,
    /// After the last frame that was written; before the first, where that begins.
    end: MediaTime,
    refused: Option<Refused>,
    /// A hole that was not told of yet.
    hole: Option<Hole>,
    /// How many pieces the queue had lost when the last one came.
    lost: u64,
    /// What is to be told.
    news: Vec<Event>,
}

struct Refused {
    /// When it is tried again. None: never.
    again: Option<Instant>,
    why: String,
}

struct Hole {
    start: MediaTime,
    end: MediaTime,
    why: String,
}

/// What a recording is written as.
enum Form {
    Wav(Wav),
    Opus(Box<Opus>),
}

impl Recording {
    /// One whose first frame begins at `began`. Its file is made when that is written.
    pub(super) fn new(spec: Spec, began: MediaTime, lost: u64) -> Self {
        Recording { spec, form: None, begun: false, end: began, refused: None, hole: None, lost, news: Vec::new() }
    }

    /// What is to be told, in order.
    pub(super) fn news(&mut self) -> impl Iterator<Item = Event> + '_ {
        self.news.drain(..)
    }

    /// Whether `recording.started` was told.
    pub(super) fn is_begun(&self) -> bool {
        self.begun
    }

    /// Appends a frame, samples of all channels in turn, whose first is at `at`. `lost`: how many pieces the queue had lost
    /// before it. False if it was dropped. Of a frame that begins before what is written already, the rest is written.
    pub(super) fn write(&mut self, now: Instant, at: MediaTime, lost: u64, pcm: &[i16]) -> bool {
        let slow = std::mem::replace(&mut self.lost, lost) != lost;
        if self.is_left_alone(now) {
            return false;
        }
        match self.place(at, slow, pcm) {
            Ok(written) => written,
            Err(error) => {
                self.refuse(now, at, &error);
                false
            }
        }
    }

    /// Everything written so far reaches the kernel.
    pub(super) fn write_out(&mut self, now: Instant) {
        if self.refused.is_some() {
            return;
        }
        if let Some(form) = &mut self.form
            && let Err(error) = form.write_out()
        {
            self.refuse(now, self.end, &error);
        }
    }

    /// No more comes, and `until` is how far the call went: completes the file, with silence where its end was lost. True if
    /// there is a whole file.
    pub(super) fn finish(&mut self, until: MediaTime, reason: &str) -> bool {
        let refused = self.refused.take().map(|refused| refused.why);
        let failed = self.complete(until).err().map(|error| why(&error));
        if let (Some(why), None) = (&failed, &refused) {
            self.tell(self.end, What::RecordingFailed { reason: why.clone() });
        }
        let why = refused.as_ref().or(failed.as_ref()).map_or(TOO_SLOW, |why| why);
        self.miss(self.end, until, why);
        self.tell_hole();
        if self.begun {
            let end = self.spec.time(self.length());
            self.tell(end, What::RecordingEnded { reason: failed.clone().unwrap_or_else(|| reason.to_owned()) });
        }
        self.begun && failed.is_none()
    }

    fn complete(&mut self, until: MediaTime) -> io::Result<()> {
        let Some(form) = &mut self.form else { return Ok(()) };
        form.write_out()?;
        let until = self.spec.samples(until).min(self.spec.longest());
        form.silence((until - form.length()).max(0))?;
        form.complete()
    }

    fn is_left_alone(&self, now: Instant) -> bool {
        self.refused.as_ref().is_some_and(|refused| refused.again.is_none_or(|again| now < again))
    }

    /// False if the frame is before what is written already, or too far ahead.
    fn place(&mut self, at: MediaTime, slow: bool, pcm: &[i16]) -> io::Result<bool> {
        let (start, channels) = (self.spec.samples(at), usize::from(self.spec.channels));
        let frame = (pcm.len() / channels) as i64;
        let gap = start - self.length();
        if at.0 < 0 || gap <= -frame || gap > LONGEST_GAP.at_rate(self.spec.rate.hz()) {
            return Ok(false);
        }
        if start.saturating_add(frame) > self.spec.longest() {
            return Err(ErrorKind::FileTooLarge.into());
        }
        let form = match &mut self.form {
            Some(form) => form,
            none => none.insert(Form::create(&self.spec, start)?),
        };
        if self.refused.is_some() {
            form.write_out()?;
        }
        form.silence(gap.max(0))?;
        let written = usize::try_from(-gap).unwrap_or(0) * channels;
        form.append(pcm.get(written..).unwrap_or_default())?;
        self.went_on(at, slow, frame);
        Ok(true)
    }

    /// A frame is in its place: what is missing before it, if anything, is known now.
    fn went_on(&mut self, at: MediaTime, slow: bool, frame: i64) {
        if !std::mem::replace(&mut self.begun, true) {
            self.tell(at, What::RecordingStarted {});
        }
        let refused = self.refused.take().map(|refused| refused.why);
        let why = refused.as_deref().unwrap_or(if slow { TOO_SLOW } else { STOOD_STILL });
        self.miss(self.end, at, why);
        self.end = self.end.max(at + Samples(self.spec.time(frame).0));
        if self.hole.as_ref().is_some_and(|hole| at - hole.end > NEAR) {
            self.tell_hole();
        }
    }

    fn miss(&mut self, start: MediaTime, end: MediaTime, why: &str) {
        if end <= start {
            return;
        }
        match &mut self.hole {
            Some(hole) if start - hole.end <= NEAR => hole.end = end,
            _ => {
                self.tell_hole();
                self.hole = Some(Hole { start, end, why: why.to_owned() });
            }
        }
    }

    fn tell_hole(&mut self) {
        if let Some(Hole { start, end, why }) = self.hole.take() {
            self.tell(end, What::RecordingGap { start, end, reason: why });
        }
    }

    fn refuse(&mut self, now: Instant, at: MediaTime, error: &io::Error) {
        // Neither a file of this name nor the limit of a format goes away.
        let for_good = matches!(error.kind(), ErrorKind::AlreadyExists | ErrorKind::FileTooLarge);
        let why = why(error);
        if self.refused.is_none() {
            self.tell(at, What::RecordingFailed { reason: why.clone() });
        }
        self.refused = Some(Refused { again: (!for_good).then(|| now + PATIENCE), why });
    }

    /// Samples of each channel so far.
    fn length(&self) -> i64 {
        self.form.as_ref().map_or(0, Form::length)
    }

    fn tell(&mut self, at: MediaTime, what: What) {
        self.news.push(Event { at, leg: self.spec.leg, what });
    }
}

fn why(error: &io::Error) -> String {
    format!("the disk refused: {error}")
}

impl Spec {
    /// The place of a moment.
    fn samples(&self, at: MediaTime) -> i64 {
        at.0 / self.rate.clock_per_sample()
    }

    /// The moment of a place.
    fn time(&self, samples: i64) -> MediaTime {
        MediaTime(samples * self.rate.clock_per_sample())
    }

    fn shape(&self) -> Shape {
        Shape { channels: self.channels.into(), hz: self.rate.hz() }
    }

    /// Samples of a channel that a file can have.
    fn longest(&self) -> i64 {
        match self.format {
            Format::Wav => self.shape().longest(),
            // Pages are counted in 32 bits (RFC 3533 §6): years.
            Format::Opus => i64::from(i32::MAX) * self.rate.frame() as i64,
        }
    }
}

impl Form {
    fn create(spec: &Spec, start: i64) -> io::Result<Form> {
        Ok(match spec.format {
            Format::Wav => Form::Wav(Wav::create(&spec.path, spec.shape())?),
            Format::Opus => {
                let settings = (spec.bitrate, spec.serial, start);
                Form::Opus(Box::new(Opus::create(&spec.path, spec.rate, spec.channels, settings)?))
            }
        })
    }

    fn length(&self) -> i64 {
        match self {
            Form::Wav(wav) => wav.length(),
            Form::Opus(opus) => opus.length(),
        }
    }

    fn append(&mut self, pcm: &[i16]) -> io::Result<()> {
        match self {
            Form::Wav(wav) => {
                wav.append(pcm);
                Ok(())
            }
            Form::Opus(opus) => opus.append(pcm),
        }
    }

    fn silence(&mut self, samples: i64) -> io::Result<()> {
        match self {
            Form::Wav(wav) if samples > 0 => wav.silence(samples),
            Form::Opus(opus) if samples > 0 => opus.silence(samples),
            Form::Wav(_) | Form::Opus(_) => Ok(()),
        }
    }

    fn write_out(&mut self) -> io::Result<()> {
        match self {
            Form::Wav(wav) => wav.write_out(),
            Form::Opus(opus) => opus.write_out(),
        }
    }

    fn complete(&mut self) -> io::Result<()> {
        match self {
            Form::Wav(wav) => wav.complete(),
            Form::Opus(opus) => opus.complete(),
        }
    }
}
