//! What a call does for the ears of those in it, as it was configured. By default nothing: what is said is what is heard.

use crate::media::volume::Volume;
use serde::{Deserialize, Serialize};

/// The kindnesses of a call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Ears {
    /// What becomes of the other voices in an agent's ear under a whisper. 0 dB: nothing.
    pub duck: Volume,
    /// What is done about a whisper that comes back over the agent's line.
    pub leak_guard: LeakGuard,
    /// Whether agents hear a short tone when they come into the conversation, by whose echo a leak is known before
    /// anything is whispered.
    pub leak_tone: bool,
    /// Whether what the coach says is brought to the loudness of the call.
    pub level: bool,
    /// Whether a barge is preceded by a short tone.
    pub barge_tone: bool,
    /// Whether people are reminded that somebody listens.
    pub beep: Option<Beep>,
}

/// What is done about an agent's loudspeaker that sends a whisper back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LeakGuard {
    /// Nothing.
    #[default]
    Off,
    /// It is looked for, and the agent's line turned down once it is found, until the whisper is over. From then on it
    /// is turned down under every whisper, from its first frame to the last of its echo.
    Detect,
    /// The agent's line passes an echo canceller from the whisper's first frame to 500 ms after its last. What still gets
    /// through is looked for, and turned down as by `Detect` until the canceller is measured to take it out.
    Cancel,
    /// `Detect` until an echo was found, of the tone (`Ears::leak_tone`) or of whatever the agent was told alone, before
    /// they were connected or after; from then on `Cancel`.
    Auto,
}

/// A beep every so often while somebody listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Beep {
    /// Who hears it.
    pub to: Beeped,
    /// Seconds from one to the next.
    pub every_s: u16,
    /// How loud, against a beep of -20 dBFS.
    pub volume: Volume,
}

/// Who is reminded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Beeped {
    /// Agents.
    Agent,
    /// Customers.
    Customer,
    /// Both.
    Both,
}
