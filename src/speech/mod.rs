//! From what the ears heard to utterances with words. No engine lives here: a [`Job`] goes out, a [`Recognised`]
//! comes back.
//!
//! ```text
//! Output::Heard ─► listening ─► ear: 16 kHz ─► voice activity ─► endpoint ─┬─► edges
//!                                                                          └─► Job ─► (recogniser)
//!                          words ◄── firewall ◄── transcript ◄──────────────────────────────┘
//! ```

mod ear;
mod endpoint;
mod firewall;
mod listening;
mod lively;
mod transcript;

pub use listening::{Heard, Listening};

use crate::event::Role;
use crate::id::{LegId, UtteranceId};
use crate::time::MediaTime;
use std::sync::Arc;

/// Audio to be turned into words by a recogniser.
#[derive(Clone)]
pub struct Job {
    /// Names the answer.
    pub utterance: UtteranceId,
    /// Who said it.
    pub leg: LegId,
    /// As what.
    pub role: Role,
    /// First voiced sample.
    pub start: MediaTime,
    /// Last voiced sample.
    pub end: MediaTime,
    /// Mono, 16 kHz, −1 to 1, with some margin on both sides.
    pub pcm: Arc<[f32]>,
}

/// What a recogniser made of a job.
#[derive(Clone, Debug)]
pub struct Recognised {
    /// Names the job.
    pub utterance: UtteranceId,
    /// The words, or why there are none.
    pub result: Result<Text, String>,
}

/// Words and how sure the recogniser is. `Debug` shows their length only: transcripts never reach a log.
#[derive(Clone, PartialEq)]
pub struct Text {
    /// As the recogniser wrote it, trimmed; empty for non-speech.
    pub text: String,
    /// Mean token probability, 0 to 1.
    pub confidence: f32,
}

impl std::fmt::Debug for Text {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "<{} chars, {:.2}>", self.text.chars().count(), self.confidence)
    }
}
