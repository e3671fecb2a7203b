//! What a conversation needs from the rest of the house, and the house that gives it.

use crate::call::{Ack, Audience, ClipSpec, Command, Refusal};
use crate::event::{Event, Mode, Words};
use crate::id::{CallId, ClipId};
use crate::io::journal::Journal;
use crate::io::sip::Registry;
use crate::io::stt::Recogniser;
use crate::io::tts::Synthesiser;
use crate::speech::{Job, Recognised};
use async_trait::async_trait;

/// What a conversation needs.
#[async_trait]
pub trait Surroundings: Send + Sync + 'static {
    /// Turns audio into words, or says why there are none. Always answers.
    async fn recognise(&self, job: Job) -> Recognised;
    /// Has the coach say something in this mode, prepared or not. Answers when the call took it.
    async fn speak(&self, call: CallId, text: Words, mode: Mode) -> Result<ClipId, String>;
    /// Gets ready to say this soon. Says so where it will not be possible.
    async fn prepare(&self, text: Words) -> Result<(), String>;
    /// A clip is not to be heard (any more). It may be over already.
    async fn cut(&self, call: CallId, clip: ClipId, reason: &'static str);
    /// Tells the journal and everyone who listens. Never blocks.
    fn record(&self, call: CallId, event: Event);
}

/// The real ones.
pub struct Engines {
    /// Ears.
    pub recogniser: Recogniser,
    /// Voice.
    pub synthesiser: Synthesiser,
    /// Where the calls are.
    pub registry: Registry,
    /// Who remembers.
    pub journal: Journal,
}

#[async_trait]
impl Surroundings for Engines {
    async fn recognise(&self, job: Job) -> Recognised {
        self.recogniser.recognise(job).await
    }

    async fn speak(&self, call: CallId, text: Words, mode: Mode) -> Result<ClipId, String> {
        let pcm = self.synthesiser.speak(&text.0, None).await.map_err(|error| error.to_string())?;
        let shard = self.registry.get(call).ok_or_else(|| Refusal::Ended.to_string())?.shard;
        let clip = ClipSpec { pcm, audience: Audience::Own(mode), looped: false, text: Some(text) };
        match shard.command(call, Command::Play(clip)).await {
            Ok(Ack::Clip(clip)) => Ok(clip),
            Ok(Ack::Done | Ack::Leg(_) | Ack::Mode { .. } | Ack::View(_) | Ack::Onward(_)) => {
                Err(Refusal::Ended.to_string())
            }
            Err(refusal) => Err(refusal.to_string()),
        }
    }

    async fn prepare(&self, text: Words) -> Result<(), String> {
        // What is rendered once is kept by the synthesiser.
        self.synthesiser.speak(&text.0, None).await.map(drop).map_err(|error| error.to_string())
    }

    async fn cut(&self, call: CallId, clip: ClipId, reason: &'static str) {
        if let Some(entry) = self.registry.get(call) {
            let _ = entry.shard.command(call, Command::Cut { clip, reason: reason.into() }).await;
        }
    }

    fn record(&self, call: CallId, event: Event) {
        // A full journal counts what it loses.
        self.journal.record(call, event);
    }
}
