//! What the demo leaves behind: what each side heard, the recording, the transcript, the events, the summary.

use super::listen::Heard;
use super::screen::name;
use super::script::RATE;
use crate::event::{Recorded, What};
use crate::io::web::cloud_event::CloudEvent;
use serde_json::{Value, json};
use std::fmt::Write;
use std::io;
use std::path::{Path, PathBuf};

/// A file that could not be written, or copied.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {source}")]
pub struct KeepError {
    path: PathBuf,
    source: io::Error,
}

/// The folder of `--out`.
pub struct Folder(PathBuf);

impl Folder {
    /// Makes it where it is missing.
    pub fn make(path: &Path) -> Result<Folder, KeepError> {
        std::fs::create_dir_all(path).map_err(|source| KeepError { path: path.to_owned(), source })?;
        Ok(Folder(path.to_owned()))
    }

    /// Mono 8 kHz as a WAV file.
    pub fn wav(&self, file: &str, pcm: &[i16]) -> Result<(), KeepError> {
        self.keep(file, |path| write_wav(path, pcm).map_err(io::Error::other))
    }

    /// A text.
    pub fn text(&self, file: &str, text: &str) -> Result<(), KeepError> {
        self.keep(file, |path| std::fs::write(path, text))
    }

    /// A copy.
    pub fn copy(&self, file: &str, from: &Path) -> Result<(), KeepError> {
        std::fs::copy(from, self.0.join(file)).map_err(|source| KeepError { path: from.to_owned(), source })?;
        Ok(())
    }

    fn keep(&self, file: &str, write: impl FnOnce(&Path) -> io::Result<()>) -> Result<(), KeepError> {
        let path = self.0.join(file);
        write(&path).map_err(|source| KeepError { path, source })
    }
}

fn write_wav(path: &Path, pcm: &[i16]) -> Result<(), hound::Error> {
    let spec =
        hound::WavSpec { channels: 1, sample_rate: RATE, bits_per_sample: 16, sample_format: hound::SampleFormat::Int };
    let mut wav = hound::WavWriter::create(path, spec)?;
    for sample in pcm {
        wav.write_sample(*sample)?;
    }
    wav.finalize()
}

/// Who said what when, in order of speaking, as text and as JSON.
pub fn transcript(heard: &[Heard]) -> (String, Value) {
    let mut finals: Vec<_> = heard
        .iter()
        .filter_map(|h| match &h.event.event.what {
            What::SpeechFinal { role, start, end, text, confidence, .. } => {
                Some((*start, *end, *role, text, *confidence))
            }
            _ => None,
        })
        .collect();
    finals.sort_by_key(|(start, ..)| *start);
    let mut text = String::new();
    let mut turns = Vec::new();
    for (start, end, role, words, confidence) in finals {
        let seconds = start.as_millis() as f64 / 1000.0;
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{seconds:>7.2}  {:<10}{}", name(role), words.0);
        turns.push(json!({
            "leg": role, "start": seconds, "end": end.as_millis() as f64 / 1000.0,
            "text": words, "confidence": confidence,
        }));
    }
    (text, json!({ "turns": turns }))
}

/// A line of `events.jsonl`: the event as the API tells it.
pub fn cloud_event(recorded: &Recorded) -> String {
    // Events are plain data: there is nothing in them that has no JSON.
    format!("{}\n", serde_json::to_string(&CloudEvent::from(recorded)).unwrap_or_default())
}
