//! What the parties of the demo say to each other: turns cut from recordings, with the silence before each.

use crate::event::Role;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// The rate of everything on a G.711 call.
pub(super) const RATE: u32 = 8000;

/// A conversation to be spoken.
pub struct Script {
    /// In order.
    pub turns: Vec<Turn>,
}

/// A party of the conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Who {
    /// Calls.
    Customer,
    /// Is called, and coached.
    Agent,
}

impl From<Who> for Role {
    fn from(who: Who) -> Role {
        match who {
            Who::Customer => Role::Customer,
            Who::Agent => Role::Agent,
        }
    }
}

/// One sentence of one party.
#[derive(Clone)]
pub struct Turn {
    /// Who says it.
    pub who: Who,
    /// Silence since the end of the turn before.
    pub pause: Duration,
    /// What is said.
    pub text: String,
    /// Mono 8 kHz, from the first sample of the sentence to its last.
    pub pcm: Arc<[i16]>,
    /// How many of those samples there are up to the last voiced one: the end of speech that delays are measured from.
    pub voiced: usize,
}

/// Why there is no script.
#[derive(Debug, thiserror::Error)]
pub enum ScriptError {
    /// A file is missing or cannot be read.
    #[error("{0}: {1}")]
    Read(PathBuf, std::io::Error),
    /// The script is not as it should be.
    #[error("{0}: {1}")]
    Malformed(PathBuf, toml::de::Error),
    /// A recording is no WAV file.
    #[error("{0}: {1}")]
    Recording(PathBuf, hound::Error),
    /// A recording is something else than 16-bit mono at 8 kHz.
    #[error("{0} is not 16-bit mono at 8,000 Hz")]
    Format(PathBuf),
    /// A turn lies outside its recording.
    #[error("{0} has no {1} s to {2} s")]
    Outside(PathBuf, f64, f64),
}

/// The script as written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    turn: Vec<RawTurn>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawTurn {
    who: Who,
    file: String,
    start_s: f64,
    end_s: f64,
    pause_s: f64,
    text: String,
}

impl Script {
    /// Reads the script at `path`, whose recordings are in `samples`.
    pub fn load(path: &Path, samples: &Path) -> Result<Script, ScriptError> {
        let text = std::fs::read_to_string(path).map_err(|e| ScriptError::Read(path.to_owned(), e))?;
        let raw: Raw = toml::from_str(&text).map_err(|e| ScriptError::Malformed(path.to_owned(), e))?;
        let turn = |raw: RawTurn| {
            let pcm: Arc<[i16]> = cut(&samples.join(&raw.file), raw.start_s, raw.end_s)?.into();
            let voiced = voiced(&pcm);
            let pause = Duration::from_secs_f64(raw.pause_s.clamp(0.0, 60.0));
            Ok(Turn { who: raw.who, pause, text: raw.text, pcm, voiced })
        };
        Ok(Script { turns: raw.turn.into_iter().map(turn).collect::<Result<_, _>>()? })
    }

    /// How long it takes to say.
    pub fn length(&self) -> Duration {
        self.turns.iter().map(|t| t.pause + Duration::from_secs_f64(t.pcm.len() as f64 / f64::from(RATE))).sum()
    }
}

fn cut(path: &Path, start_s: f64, end_s: f64) -> Result<Vec<i16>, ScriptError> {
    let failed = |e| ScriptError::Recording(path.to_owned(), e);
    let mut wav = hound::WavReader::open(path).map_err(failed)?;
    let spec = wav.spec();
    if (spec.channels, spec.sample_rate, spec.bits_per_sample) != (1, RATE, 16) {
        return Err(ScriptError::Format(path.to_owned()));
    }
    let pcm = wav.samples().collect::<Result<Vec<i16>, _>>().map_err(failed)?;
    // A float beyond the range of usize saturates, and is then outside the recording.
    let at = |seconds: f64| (seconds * f64::from(RATE)) as usize;
    let outside = || ScriptError::Outside(path.to_owned(), start_s, end_s);
    Ok(pcm.get(at(start_s)..at(end_s)).filter(|pcm| !pcm.is_empty()).ok_or_else(outside)?.to_vec())
}

/// Where the last 10 ms end that are within 35 dB of the loudest: what a listener takes for the end of the words.
fn voiced(pcm: &[i16]) -> usize {
    let energy: Vec<f64> = pcm.chunks(80).map(|c| c.iter().map(|s| f64::from(*s).powi(2)).sum()).collect();
    let threshold = energy.iter().copied().fold(0.0, f64::max) / 10f64.powf(3.5);
    let last = energy.iter().rposition(|e| *e > threshold);
    last.map_or(pcm.len(), |chunk| (chunk * 80 + 80).min(pcm.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_conversation_of_the_demo_can_be_spoken_within_a_minute() {
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures");
        let script = Script::load(&fixtures.join("demo/conversation.toml"), &fixtures.join("speech/samples")).unwrap();
        assert!(script.length() < Duration::from_secs(60), "{:?}", script.length());
        for Turn { text, pcm, voiced, .. } in &script.turns {
            assert!(pcm.len() - voiced < 1600, "{text:?} ends in 200 ms of silence");
        }
    }
}
