//! Utterances that wait for their words. What was said is never forgotten: each ends as words, as nothing (it was no
//! speech) or as a gap with the reason.

use super::firewall;
use super::{Heard, Recognised};
use crate::event::{Role, Words};
use crate::id::{LegId, UtteranceId};
use crate::time::MediaTime;
use std::collections::BTreeMap;

/// Utterances of one call that may wait for words. One more becomes a gap at once: a recogniser that is a minute of
/// talk behind would only fall further back.
const WAITING: usize = 32;

/// Who said something, and when.
#[derive(Clone, Copy, Debug)]
pub struct Said {
    /// Who.
    pub leg: LegId,
    /// As what.
    pub role: Role,
    /// First voiced sample.
    pub start: MediaTime,
    /// Last voiced sample.
    pub end: MediaTime,
}

/// One call's utterances without words.
#[derive(Default)]
pub struct Transcript {
    waiting: BTreeMap<UtteranceId, Said>,
    named: u32,
}

impl Transcript {
    /// Names an utterance and waits for its words; none when too many wait already.
    pub fn open(&mut self, said: Said) -> Option<UtteranceId> {
        if self.waiting.len() >= WAITING {
            return None;
        }
        self.named = self.named.checked_add(1)?;
        let utterance = UtteranceId(self.named);
        self.waiting.insert(utterance, said);
        Some(utterance)
    }

    /// What a recogniser made of an utterance; none where it was no speech, or is not waited for.
    pub fn close(&mut self, recognised: Recognised) -> Option<Heard> {
        let utterance = recognised.utterance;
        let Said { leg, role, start, end } = self.waiting.remove(&utterance)?;
        match recognised.result {
            Err(reason) => Some(Heard::Gap { leg, start, end, reason }),
            Ok(text) => {
                let words = Words::from(firewall::words(&text.text)?);
                Some(Heard::Final { utterance, leg, role, start, end, text: words, confidence: text.confidence })
            }
        }
    }

    /// How many utterances wait.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }
}
