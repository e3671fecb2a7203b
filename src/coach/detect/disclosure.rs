//! Words that must be said: whether they were, and when it is too late.
//!
//! In come the connection, what agents (or the machine, to the customer) say, and the time; out comes what was met or
//! missed, once each.

use super::words::Spoken;
use super::{phrases, sentence_of};
use crate::coach::playbook::{Kind, Playbook, Rule};
use crate::event::Words;
use crate::time::{MediaTime, Samples};

/// The words of a sentence come this long after its end at most; until then it may be the one that was due.
const WORDS_COME: Samples = Samples::from_millis(2_000);
/// A speaking agent is waited for no longer than this.
const PATIENCE: Samples = Samples::from_millis(8_000);

/// Every required statement of a playbook.
#[derive(Debug, Default)]
pub struct Disclosures {
    connected: Option<MediaTime>,
    required: Vec<Required>,
}

#[derive(Debug)]
struct Required {
    rule: usize,
    within: Samples,
    met: bool,
    missed: bool,
}

/// When the agent last spoke, as far as a deadline cares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Voice {
    /// Is speaking.
    Speaking,
    /// Stopped then.
    Silent(MediaTime),
    /// Has not spoken.
    Unheard,
}

impl Disclosures {
    /// What the playbook requires.
    pub fn new(playbook: &Playbook) -> Self {
        let required = playbook.rules.iter().enumerate().filter_map(|(rule, r)| match r.kind {
            Kind::Missing { within } => Some(Required { rule, within, met: false, missed: false }),
            Kind::Said(_) => None,
        });
        Disclosures { connected: None, required: required.collect() }
    }

    /// The same call under another playbook: what is done and the time already run count.
    pub fn under(&self, playbook: &Playbook) -> Self {
        let mut next = Disclosures { connected: self.connected, ..Disclosures::new(playbook) };
        let met = !self.required.is_empty() && self.required.iter().all(|r| r.met);
        next.required.iter_mut().for_each(|r| r.met = met);
        next
    }

    /// Customer and agent are together: the time runs.
    pub fn connected(&mut self, at: MediaTime) {
        self.connected.get_or_insert(at);
    }

    /// Nothing was heard in between: that time does not count.
    pub fn paused(&mut self, since: MediaTime, until: MediaTime) {
        if let Some(connected) = &mut self.connected {
            *connected = *connected + (until - since.max(*connected));
        }
    }

    /// Something was said to the customer. Answers the sentence for each rule met for the first time.
    pub fn said(&mut self, playbook: &Playbook, spoken: &Spoken) -> Vec<Words> {
        let mut met = Vec::new();
        for required in self.required.iter_mut().filter(|r| !r.met) {
            let Some(rule) = playbook.rules.get(required.rule) else { continue };
            let Some(sentence) = sentence_with(rule, spoken, playbook) else { continue };
            required.met = true;
            met.push(sentence);
        }
        met
    }

    /// The rules whose time has run out now.
    pub fn overdue(&mut self, now: MediaTime, agent: Voice) -> Vec<usize> {
        let Some(connected) = self.connected else { return Vec::new() };
        let late = |r: &Required| now >= deadline(connected + r.within, agent);
        self.miss(late)
    }

    /// The rules that are missed because the call is over.
    pub fn over(&mut self) -> Vec<usize> {
        if self.connected.is_none() { Vec::new() } else { self.miss(|_| true) }
    }

    fn miss(&mut self, late: impl Fn(&Required) -> bool) -> Vec<usize> {
        let open = self.required.iter_mut().filter(|r| !r.met && !r.missed);
        let missed = open.filter(|r| late(r)).map(|r| {
            r.missed = true;
            r.rule
        });
        missed.collect()
    }

    /// When something may be overdue.
    pub fn timeout(&self, agent: Voice) -> Option<MediaTime> {
        let connected = self.connected?;
        let open = self.required.iter().filter(|r| !r.met && !r.missed);
        open.map(|r| deadline(connected + r.within, agent)).min()
    }
}

/// The deadline, put off while the agent may just be saying it.
fn deadline(due: MediaTime, agent: Voice) -> MediaTime {
    let patient = due + PATIENCE;
    match agent {
        Voice::Speaking => patient,
        Voice::Silent(since) => due.max(since + WORDS_COME).min(patient),
        Voice::Unheard => due,
    }
}

fn sentence_with(rule: &Rule, spoken: &Spoken, playbook: &Playbook) -> Option<Words> {
    let found = phrases(rule, spoken, &playbook.competitors);
    found.first().map(|f| spoken.sentence(sentence_of(spoken, f)).into())
}
