//! Who is in the call as the coach knows it: which leg is what, and who is speaking.

use super::detect::disclosure::Voice;
use crate::event::Role;
use crate::id::LegId;
use crate::time::MediaTime;
use std::collections::BTreeMap;

/// The legs of a call. No more than the call itself has.
#[derive(Debug, Default)]
pub struct People {
    legs: BTreeMap<LegId, Person>,
}

#[derive(Debug)]
struct Person {
    role: Role,
    voice: Voice,
}

impl People {
    /// A leg is there, or is something else now.
    pub fn is(&mut self, leg: LegId, role: Role) {
        self.legs.entry(leg).or_insert(Person { role, voice: Voice::Unheard }).role = role;
    }

    /// A leg is gone.
    pub fn left(&mut self, leg: LegId) {
        self.legs.remove(&leg);
    }

    /// A leg began or stopped speaking.
    pub fn speaking(&mut self, leg: LegId, speaking: bool, at: MediaTime) {
        if let Some(person) = self.legs.get_mut(&leg) {
            person.voice = if speaking { Voice::Speaking } else { Voice::Silent(at) };
        }
    }

    /// What a leg is.
    pub fn role(&self, leg: LegId) -> Option<Role> {
        self.legs.get(&leg).map(|person| person.role)
    }

    /// The first leg of a role.
    pub fn leg(&self, role: Role) -> Option<LegId> {
        self.legs.iter().find(|(_, person)| person.role == role).map(|(leg, _)| *leg)
    }

    /// The agents' voice: speaking if one of them is, else since the last of them stopped.
    pub fn agent(&self) -> Voice {
        let agents = self.legs.values().filter(|person| person.role == Role::Agent);
        agents.map(|person| person.voice).fold(Voice::Unheard, |all, one| match (all, one) {
            (Voice::Speaking, _) | (_, Voice::Speaking) => Voice::Speaking,
            (Voice::Silent(a), Voice::Silent(b)) => Voice::Silent(a.max(b)),
            (Voice::Unheard, other) | (other, Voice::Unheard) => other,
        })
    }
}
