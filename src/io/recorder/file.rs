//! One recording: a WAV file of 8, 16 or 48 kHz, 16 bit, customer left and agent right, whose first sample is media time 0.
//!
//! In come frames in order; gaps between them become silence. Data reaches the kernel before the header that tells of
//! it, so that the file is playable at every moment.

use crate::call::FRAME;
use crate::media::pcm::Rate;
use crate::time::{MediaTime, Samples};
use hound::{SampleFormat, WavSpec, WavWriter};
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::BufWriter;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

/// The longest silence a frame may leave behind it. A frame further ahead is taken for a mistake.
const LONGEST_GAP: Samples = Samples::from_millis(4 * 3600 * 1000);

/// The longest recording in samples: 2.8 GB, a day at 8 kHz. WAV counts bytes in 32 bits.
const LONGEST: i64 = 24 * 3600 * 8_000;

/// Why a frame was not written.
#[derive(Debug, thiserror::Error)]
pub(super) enum WriteError {
    /// Before what is written already, or too far ahead.
    #[error("the frame is before what is written already, or too far ahead of it")]
    Misplaced,
    /// The environment.
    #[error(transparent)]
    Disk(#[from] hound::Error),
}

/// A file that is being written.
pub(super) struct Recording {
    rate: Rate,
    wav: WavWriter<BufWriter<File>>,
    /// Samples in each channel so far.
    length: i64,
    /// Whether something has not reached the kernel yet.
    dirty: bool,
}

impl Recording {
    /// Makes the file, which must not be there yet, and the folders above it, for the owner alone.
    pub(super) fn create(path: &Path, rate: Rate) -> Result<Self, hound::Error> {
        if let Some(folder) = path.parent() {
            DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        }
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        let spec =
            WavSpec { channels: 2, sample_rate: rate.hz(), bits_per_sample: 16, sample_format: SampleFormat::Int };
        let wav = WavWriter::new(BufWriter::new(file), spec)?;
        Ok(Recording { rate, wav, length: 0, dirty: true })
    }

    /// Appends a frame whose first sample is at `at`, after as much silence as that takes. Of a frame that begins
    /// before what is written already, the rest is written.
    pub(super) fn write(
        &mut self,
        at: MediaTime,
        customer: &[i16; FRAME],
        agent: &[i16; FRAME],
    ) -> Result<(), WriteError> {
        let start = at.0 / self.rate.clock_per_sample();
        let gap = start - self.length;
        if at.0 < 0
            || gap <= -(FRAME as i64)
            || gap > LONGEST_GAP.at_rate(self.rate.hz())
            || start + FRAME as i64 > LONGEST
        {
            return Err(WriteError::Misplaced);
        }
        self.dirty = true;
        for _ in 0..gap {
            self.sample(0, 0)?;
        }
        let written = usize::try_from(-gap).unwrap_or(0);
        for (left, right) in customer.iter().zip(agent).skip(written) {
            self.sample(*left, *right)?;
        }
        Ok(())
    }

    fn sample(&mut self, left: i16, right: i16) -> Result<(), hound::Error> {
        self.wav.write_sample(left)?;
        self.wav.write_sample(right)?;
        self.length += 1;
        Ok(())
    }

    /// Everything written so far reaches the kernel.
    pub(super) fn flush(&mut self) -> Result<(), hound::Error> {
        if std::mem::take(&mut self.dirty) { self.wav.flush() } else { Ok(()) }
    }

    /// The media time after the last sample.
    pub(super) fn end(&self) -> MediaTime {
        MediaTime(self.length * self.rate.clock_per_sample())
    }

    /// Writes what is left and closes the file.
    pub(super) fn complete(self) -> Result<(), hound::Error> {
        self.wav.finalize()
    }
}
