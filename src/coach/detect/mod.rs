//! Finds moments in what was said: the right person's words, meant, and not the same point over again.
//!
//! In goes one utterance after the other with its role; out comes which rules of the playbook it meets. Knows nothing
//! of advice.

pub mod disclosure;
pub mod guard;
pub mod pattern;
pub mod words;

use super::playbook::{Kind, Playbook, Rule};
use crate::event::{Role, Words};
use pattern::Found;
use std::sync::Arc;
use words::Spoken;

/// A rule that was met.
#[derive(Clone, Debug, PartialEq)]
pub struct Hit {
    /// Its place in the playbook.
    pub rule: usize,
    /// The sentence it rests on.
    pub evidence: Words,
    /// The company named in it.
    pub competitor: Option<Arc<str>>,
}

/// Remembers whose turn it is and what was noticed in it.
#[derive(Debug, Default)]
pub struct Detectors {
    last: Option<Role>,
    customer_turns: u32,
    agent_turns: u32,
    /// Beside each rule of the playbook.
    noticed: Vec<Option<Noticed>>,
}

/// When a rule was met last, and the names in it.
#[derive(Debug)]
struct Noticed {
    turn: u32,
    names: Vec<Arc<str>>,
}

impl Detectors {
    /// What an utterance meets. Rules about words that must be said are [`disclosure`]'s.
    pub fn hear(&mut self, playbook: &Playbook, role: Role, spoken: &Spoken) -> Vec<Hit> {
        let Some(turn) = self.turn(role) else { return Vec::new() };
        self.noticed.resize_with(playbook.rules.len(), || None);
        let rules = playbook.rules.iter().enumerate();
        rules
            .filter(|(_, rule)| rule.role == role && matches!(rule.kind, Kind::Said(_)))
            .filter_map(|(place, rule)| {
                let found = phrases(rule, spoken, &playbook.competitors);
                let first = found.first()?;
                let hit = Hit {
                    rule: place,
                    evidence: spoken.sentence(sentence_of(spoken, first)).into(),
                    competitor: first.competitor.clone(),
                };
                self.is_new(place, turn, &found).then_some(hit)
            })
            .collect()
    }

    /// Counts the turns of customer and agent; others have none.
    fn turn(&mut self, role: Role) -> Option<u32> {
        let turns = match role {
            Role::Customer => &mut self.customer_turns,
            Role::Agent => &mut self.agent_turns,
            Role::Supervisor | Role::Bridge | Role::Earpiece => return None,
        };
        if self.last != Some(role) {
            *turns = turns.saturating_add(1);
            self.last = Some(role);
        }
        Some(*turns)
    }

    /// Whether it is more than the same point, in the same turn or carried on in the next one.
    fn is_new(&mut self, place: usize, turn: u32, found: &[Found]) -> bool {
        let Some(slot) = self.noticed.get_mut(place) else { return true };
        let names: Vec<Arc<str>> = found.iter().filter_map(|f| f.competitor.clone()).collect();
        let is_new = match slot {
            None => true,
            Some(before) if before.turn == turn => false,
            Some(before) if before.turn + 1 == turn => names.iter().any(|name| !before.names.contains(name)),
            Some(_) => true,
        };
        let names = match slot.take() {
            Some(before) if !is_new => [before.names, names].concat(),
            Some(_) | None => names,
        };
        *slot = Some(Noticed { turn, names });
        is_new
    }
}

/// Every phrase of a rule that is in what was said, and meant.
pub fn phrases(rule: &Rule, spoken: &Spoken, competitors: &[Arc<str>]) -> Vec<Found> {
    let last = spoken.words.last().map_or(0, |w| w.sentence);
    (0..=last).flat_map(|sentence| in_sentence(rule, spoken, sentence, competitors)).collect()
}

fn in_sentence(rule: &Rule, spoken: &Spoken, sentence: usize, competitors: &[Arc<str>]) -> Vec<Found> {
    let places = spoken.places(sentence);
    let excused = || rule.unless.iter().any(|p| p.find(spoken, places.clone(), competitors).is_some());
    let asked = || rule.kind.name().starts_with("objection.") && guard::is_plain_question(spoken, sentence);
    let mut found = Vec::new();
    for pattern in &rule.patterns {
        let mut rest = places.clone();
        while let Some(phrase) = pattern.find(spoken, rest.clone(), competitors) {
            rest.start = phrase.places.start + 1;
            if is_meant(rule, spoken, &phrase) {
                found.push(phrase);
            }
        }
    }
    if found.is_empty() || asked() || excused() || guard::is_to_a_machine(spoken, sentence) {
        return Vec::new();
    }
    found
}

fn is_meant(rule: &Rule, spoken: &Spoken, phrase: &Found) -> bool {
    if rule.even_negated {
        return true;
    }
    // "Do you mind if I record this call?" is said all the same.
    let supposed = match rule.kind {
        Kind::Said(_) => guard::is_supposed(spoken, &phrase.places),
        Kind::Missing { .. } => false,
    };
    !supposed && !guard::is_negated(spoken, &phrase.places)
}

fn sentence_of(spoken: &Spoken, found: &Found) -> usize {
    spoken.words.get(found.places.start).map_or(0, |w| w.sentence)
}
