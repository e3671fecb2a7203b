//! Decides which moments lead to advice: few, timely, and never two at once.
//!
//! In goes a candidate; out comes yes, or the reason why not. Knows no words and no voice.

use super::playbook::{Limits, Sensitivity, Urgency};
use crate::id::PromptId;
use crate::time::{MediaTime, Samples};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A moment that asks for a prompt.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// Its kind.
    pub kind: Arc<str>,
    /// How pressing it is.
    pub urgency: Urgency,
    /// Until its kind may lead to a prompt again.
    pub cooldown: Samples,
    /// From when on the advice is of no use.
    pub useful_until: MediaTime,
}

/// Why advice is held back.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// The coach has gone.
    #[error("the coach was taken away")]
    Closed,
    /// Nothing is advised in a pause.
    #[error("the call is paused")]
    Paused,
    /// There is nobody left to advise.
    #[error("the call is over")]
    Over,
    /// Its words came too late.
    #[error("stale: the moment had passed {0:?} before its words were there")]
    Stale(Samples),
    /// Not pressing enough.
    #[error("sensitivity {0} lets only more urgent moments through")]
    Sensitivity(&'static str),
    /// Enough is enough.
    #[error("cap: this call has had its {0} prompts")]
    Cap(u32),
    /// One at a time.
    #[error("busy: {0} is on its way")]
    Busy(PromptId),
    /// The same moment, too soon.
    #[error("repeat: this kind was advised on; again in {0:?}")]
    Repeat(Samples),
    /// Any moment, too soon.
    #[error("cooldown: the last prompt was a moment ago; the next in {0:?}")]
    Cooldown(Samples),
}

/// What was advised in this call.
#[derive(Debug)]
pub struct Arbiter {
    sensitivity: Sensitivity,
    given: u32,
    last_done: Option<MediaTime>,
    last_of: BTreeMap<Arc<str>, MediaTime>,
}

impl Arbiter {
    /// For one call.
    pub fn new(sensitivity: Sensitivity) -> Self {
        Arbiter { sensitivity, given: 0, last_done: None, last_of: BTreeMap::new() }
    }

    /// Whether the candidate may become a prompt now. `busy`: the prompt under way.
    pub fn decide(
        &self,
        now: MediaTime,
        candidate: &Candidate,
        limits: Limits,
        busy: Option<PromptId>,
    ) -> Result<(), Reason> {
        if now >= candidate.useful_until {
            return Err(Reason::Stale(now - candidate.useful_until));
        }
        if !self.sensitivity.admits(candidate.urgency) {
            return Err(Reason::Sensitivity(self.sensitivity.name()));
        }
        if self.given >= limits.max_prompts {
            return Err(Reason::Cap(limits.max_prompts));
        }
        if let Some(prompt) = busy {
            return Err(Reason::Busy(prompt));
        }
        let last = self.last_of.get(&candidate.kind).copied();
        if let Some(left) = left(now, last, candidate.cooldown) {
            return Err(Reason::Repeat(left));
        }
        match left(now, self.last_done, limits.cooldown) {
            // What is urgent is worth a second voice soon after the first.
            Some(left) if candidate.urgency < Urgency::Urgent => Err(Reason::Cooldown(left)),
            Some(_) | None => Ok(()),
        }
    }

    /// A prompt of this kind was offered. Its own cooldown runs from here.
    pub fn offered(&mut self, now: MediaTime, kind: Arc<str>) {
        self.given = self.given.saturating_add(1);
        self.last_of.insert(kind, now);
    }

    /// The prompt under way reached the agent, one way or the other. The cooldown between prompts runs from here.
    pub fn done(&mut self, now: MediaTime) {
        self.last_done = Some(now);
    }
}

/// What is left of `wait` since `last`.
fn left(now: MediaTime, last: Option<MediaTime>, wait: Samples) -> Option<Samples> {
    let until = last? + wait;
    (until > now).then(|| until - now)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { cooldown: Samples::from_millis(20_000), max_prompts: 3 };

    fn at(seconds: i64) -> MediaTime {
        MediaTime::from_millis(seconds * 1000)
    }

    fn candidate(kind: &str, urgency: Urgency, now: i64) -> Candidate {
        Candidate { kind: kind.into(), urgency, cooldown: Samples::from_millis(60_000), useful_until: at(now + 10) }
    }

    #[test]
    fn one_after_the_other_and_not_too_many() {
        use Urgency::*;
        let mut arbiter = Arbiter::new(Sensitivity::Standard);
        let seconds = |s: i64| Samples::from_millis(s * 1000);
        // (when, kind, urgency, the prompt under way, what is decided)
        let cases = [
            (0, "a", Low, None, Err(Reason::Sensitivity("standard"))),
            (0, "a", Normal, None, Ok(())),
            (1, "b", Normal, Some(PromptId(1)), Err(Reason::Busy(PromptId(1)))),
            (2, "b", Normal, None, Err(Reason::Cooldown(seconds(20)))),
            (3, "a", Urgent, None, Err(Reason::Repeat(seconds(57)))),
            (5, "c", Urgent, None, Ok(())),
            (26, "a", Normal, None, Err(Reason::Repeat(seconds(34)))),
            (60, "a", Normal, None, Ok(())),
            (200, "d", Urgent, None, Err(Reason::Cap(3))),
        ];
        for (now, kind, urgency, busy, expected) in cases {
            let candidate = candidate(kind, urgency, now);
            let decided = arbiter.decide(at(now), &candidate, LIMITS, busy);
            assert_eq!(decided, expected, "{kind} at {now} s");
            if decided.is_ok() {
                arbiter.offered(at(now), candidate.kind);
                arbiter.done(at(now + 2));
            }
        }
    }

    #[test]
    fn late_words_lead_to_nothing() {
        let arbiter = Arbiter::new(Sensitivity::Training);
        let late = candidate("a", Urgency::Urgent, 0);
        assert_eq!(arbiter.decide(at(12), &late, LIMITS, None), Err(Reason::Stale(Samples::from_millis(2000))));
    }

    #[test]
    fn sensitivity_admits_by_urgency() {
        use Sensitivity::*;
        use Urgency::*;
        for (sensitivity, urgency, admitted) in [
            (Minimal, Normal, false),
            (Minimal, Urgent, true),
            (Standard, Low, false),
            (Standard, Normal, true),
            (Training, Low, true),
        ] {
            let decided = Arbiter::new(sensitivity).decide(at(0), &candidate("a", urgency, 0), LIMITS, None);
            assert_eq!(decided.is_ok(), admitted, "{sensitivity:?} {urgency:?}");
        }
    }
}
