//! One call's listening: an ear on each leg, and a transcript. In come frames and what recognisers answered; out come
//! edges of speech, jobs for a recogniser, and words. Driven by its inputs and drained with `poll` after each.

use super::ear::{Ear, Noticed};
use super::transcript::{Said, Transcript};
use super::{Job, Recognised};
use crate::event::{Role, Words};
use crate::id::{LegId, UtteranceId};
use crate::media::pcm::Rate;
use crate::time::MediaTime;
use std::collections::{BTreeMap, VecDeque};

/// Legs with an ear; a call has no more legs than this. Frames of a leg beyond it are not heard.
const LEGS: usize = 16;

/// What listening leads to.
#[derive(Clone)]
pub enum Heard {
    /// A leg began or stopped speaking.
    Edge {
        /// Which.
        leg: LegId,
        /// What it is to the call.
        role: Role,
        /// True: began.
        speaking: bool,
        /// When: the first or the last voiced sample.
        at: MediaTime,
    },
    /// Audio that a recogniser is to turn into words; the answer goes to [`Listening::recognised`].
    Job(Job),
    /// What a leg said. Comes when its words are known: the reader orders by `start`.
    Final {
        /// Which utterance.
        utterance: UtteranceId,
        /// Whose.
        leg: LegId,
        /// What they are to the call.
        role: Role,
        /// First voiced sample.
        start: MediaTime,
        /// Last voiced sample.
        end: MediaTime,
        /// The words, never empty.
        text: Words,
        /// Mean probability of the text's tokens, 0 to 1.
        confidence: f32,
    },
    /// Speech whose words could not be had.
    Gap {
        /// Whose.
        leg: LegId,
        /// First voiced sample.
        start: MediaTime,
        /// Last voiced sample.
        end: MediaTime,
        /// Why.
        reason: String,
    },
}

/// One call's ears and transcript.
#[derive(Default)]
pub struct Listening {
    ears: BTreeMap<LegId, (Role, Ear)>,
    transcript: Transcript,
    // Drained by `poll` after each input; an input gives a few entries a leg.
    out: VecDeque<Heard>,
}

impl Listening {
    /// Hears nobody yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// 20 ms of a leg, 8 or 16 kHz. `at` is the first sample's time. Anything but a whole frame is not heard. A leg of
    /// another rate than before has another ear.
    pub fn heard(&mut self, leg: LegId, role: Role, at: MediaTime, rate: Rate, pcm: &[i16]) {
        if pcm.len() != rate.frame() || rate > Rate::Wide {
            return;
        }
        if self.ears.get(&leg).is_some_and(|(_, ear)| ear.rate() != rate) {
            self.leg_left(leg, at);
        }
        if !self.ears.contains_key(&leg) {
            if self.ears.len() >= LEGS {
                return;
            }
            self.ears.insert(leg, (role, Ear::new(rate)));
        }
        let Some((known, ear)) = self.ears.get_mut(&leg) else { return };
        *known = role;
        ear.hear(at, pcm);
        self.drain(leg);
    }

    /// A recogniser answered.
    pub fn recognised(&mut self, recognised: Recognised) {
        self.out.extend(self.transcript.close(recognised));
    }

    /// A leg is gone: what it was saying is an utterance, and its ear closes. `at` may lie after its last frame.
    pub fn leg_left(&mut self, leg: LegId, _at: MediaTime) {
        if let Some((_, ear)) = self.ears.get_mut(&leg) {
            ear.flush();
            self.drain(leg);
            self.ears.remove(&leg);
        }
    }

    /// The call is over, or the coach leaves: whatever is being said is an utterance now.
    pub fn flush_all(&mut self, at: MediaTime) {
        let legs: Vec<LegId> = self.ears.keys().copied().collect();
        for leg in legs {
            self.leg_left(leg, at);
        }
    }

    /// What came of it, until none.
    pub fn poll(&mut self) -> Option<Heard> {
        self.out.pop_front()
    }

    /// Whether anyone of this role speaks, or seems to begin.
    pub fn is_speaking(&self, role: Role) -> bool {
        self.ears.values().any(|(known, ear)| *known == role && ear.is_speaking())
    }

    /// How many utterances wait for their words.
    pub fn pending(&self) -> usize {
        self.transcript.waiting()
    }

    fn drain(&mut self, leg: LegId) {
        let Some((role, ear)) = self.ears.get_mut(&leg) else { return };
        let role = *role;
        while let Some(noticed) = ear.poll() {
            self.out.push_back(match noticed {
                Noticed::Began(at) => Heard::Edge { leg, role, speaking: true, at },
                Noticed::Stopped(at) => Heard::Edge { leg, role, speaking: false, at },
                Noticed::Said { start, end, pcm } => match self.transcript.open(Said { leg, role, start, end }) {
                    Some(utterance) => Heard::Job(Job { utterance, leg, role, start, end, pcm }),
                    None => Heard::Gap { leg, start, end, reason: "the recogniser is too far behind".into() },
                },
            });
        }
    }
}
