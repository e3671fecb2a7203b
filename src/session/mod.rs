//! One call's listening and coaching as a single machine ([`Conversation`]: speech and coach joined), and the whole call
//! with it ([`Session`]).
//!
//! In come what the ears heard, the call's events, recognised text and the time; out come recognition jobs, events
//! and prompts to be spoken. Knows no engine, no socket, no clock.

mod conversation;
pub mod joined;

pub use conversation::{Conversation, Options};
pub use joined::Session;

use crate::event::{Event, Mode, Role, Words};
use crate::id::{ClipId, LegId, PromptId};
use crate::media::pcm::Rate;
use crate::speech::{Job, Recognised};
use crate::time::MediaTime;

/// What a conversation is told.
pub enum Input<'a> {
    /// 20 ms of a leg, mono, 8 or 16 kHz (`Output::Heard` of the call).
    Heard { leg: LegId, role: Role, at: MediaTime, rate: Rate, pcm: &'a [i16] },
    /// Something happened in the call (mode, legs, clips, end). The conversation's own events do not come back.
    Event(&'a Event),
    /// A recogniser answered.
    Recognised(Recognised),
    /// The voice of a prompt is there, or cannot be had.
    Prepared { prompt: PromptId, result: Result<(), String> },
    /// The prompt was handed to the call as this clip, or refused.
    Speaking { prompt: PromptId, result: Result<ClipId, String> },
    /// The coach is taken away: what was said so far still gets its words, and leads to nothing.
    Close,
    /// Time has passed.
    Tick,
}

/// What a conversation wants done.
pub enum Output {
    /// Turn this audio into words; answer with `Input::Recognised`.
    Recognise(Job),
    /// Tell the journal and everyone who listens.
    Event(Event),
    /// Make a voice for this; answer with `Input::Prepared`.
    Prepare { prompt: PromptId, text: Words },
    /// Cut this clip: it is not to be heard (any more).
    Cut { clip: ClipId, reason: &'static str },
    /// Play the voice made for it with `Audience::Own(mode)`; answer with `Input::Speaking`.
    Speak { prompt: PromptId, text: Words, mode: Mode },
}
