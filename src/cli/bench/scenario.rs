//! What kinds of calls are measured.

use crate::call::sdp::Suite;
use crate::event::{Mode, Role};
use crate::media::codec::Codec;
use serde::Serialize;

/// One kind of call. Each is two or three legs that all send and receive a packet every 20 ms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Scenario {
    /// Customer and agent, PCMU: relayed, nobody else listens.
    Plain,
    /// The same; both are decoded and buffered, and what they say is handed on every 20 ms to nobody.
    Tapped,
    /// Tapped, with a supervisor in spy.
    Spied,
    /// Tapped, with a supervisor in whisper.
    Whispered,
    /// Tapped, with a supervisor in barge.
    Barged,
    /// The customer on PCMU, the agent on Opus: every packet is decoded, resampled and encoded.
    Opus,
    /// Plain, but every packet is sealed and opened: AES_CM_128_HMAC_SHA1_80 (RFC 4568 §6.2), on both legs.
    Srtp,
}

impl Scenario {
    /// Whether the coach's ears are open.
    pub fn is_tapped(self) -> bool {
        match self {
            Scenario::Plain | Scenario::Opus | Scenario::Srtp => false,
            Scenario::Tapped | Scenario::Spied | Scenario::Whispered | Scenario::Barged => true,
        }
    }

    /// Its legs, in the order in which they join.
    pub fn legs(self) -> Vec<(Role, Codec)> {
        let agent = match self {
            Scenario::Opus => Codec::Opus,
            Scenario::Plain
            | Scenario::Tapped
            | Scenario::Spied
            | Scenario::Whispered
            | Scenario::Barged
            | Scenario::Srtp => Codec::Pcmu,
        };
        let supervisor = self.mode().map(|_| (Role::Supervisor, Codec::Pcmu));
        [(Role::Customer, Codec::Pcmu), (Role::Agent, agent)].into_iter().chain(supervisor).collect()
    }

    /// How its packets are protected.
    pub fn suite(self) -> Option<Suite> {
        match self {
            Scenario::Srtp => Some(Suite::Counter80),
            Scenario::Plain
            | Scenario::Tapped
            | Scenario::Spied
            | Scenario::Whispered
            | Scenario::Barged
            | Scenario::Opus => None,
        }
    }

    /// The supervisor's mode, where there is one.
    pub fn mode(self) -> Option<Mode> {
        match self {
            Scenario::Plain | Scenario::Tapped | Scenario::Opus | Scenario::Srtp => None,
            Scenario::Spied => Some(Mode::Spy),
            Scenario::Whispered => Some(Mode::Whisper),
            Scenario::Barged => Some(Mode::Barge),
        }
    }
}
