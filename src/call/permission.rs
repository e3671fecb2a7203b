//! Whether somebody's voice may be used for something: the one question that recording, transcribing and listening in
//! each ask before the first frame, and again whenever an answer may have changed (DESIGN §5).

use crate::call::mode::Party;
use crate::event::{Place, Role};

/// What a voice is wanted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// To keep it.
    Recording,
    /// To write down what it says.
    Transcribing,
    /// For a supervisor to hear it.
    Listening,
}

/// What is permitted in a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Permits {
    /// To keep voices.
    pub recording: bool,
    /// To write down what they say.
    pub transcribing: bool,
    /// For supervisors to hear them.
    pub listening: bool,
}

/// Whether this party's voice may be used for this.
///
/// A party aside is no part of the conversation, and nothing of theirs is used. Customers, agents and what comes over a
/// bridge are transcribed; supervisors speak in confidence. Only customers and agents are recorded: what comes over a bridge
/// belongs to neither side's channel.
pub fn allowed(party: Party, purpose: Purpose, permits: Permits) -> bool {
    let takes_part = party.place == Place::InConversation;
    let (is_side, is_heard) = match party.role {
        Role::Customer | Role::Agent => (true, true),
        Role::Bridge => (false, true),
        Role::Supervisor | Role::Earpiece => (false, false),
    };
    takes_part
        && match purpose {
            Purpose::Recording => is_side && permits.recording,
            Purpose::Transcribing => is_heard && permits.transcribing,
            Purpose::Listening => permits.listening,
        }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::LegId;

    const ALL: Permits = Permits { recording: true, transcribing: true, listening: true };
    const ROLES: [Role; 5] = [Role::Customer, Role::Agent, Role::Supervisor, Role::Bridge, Role::Earpiece];

    fn party(role: Role, place: Place) -> Party {
        Party { leg: LegId(1), role, place }
    }

    #[test]
    fn what_is_not_permitted_is_allowed_for_nobody() {
        let none = |purpose| match purpose {
            Purpose::Recording => Permits { recording: false, ..ALL },
            Purpose::Transcribing => Permits { transcribing: false, ..ALL },
            Purpose::Listening => Permits { listening: false, ..ALL },
        };
        for purpose in [Purpose::Recording, Purpose::Transcribing, Purpose::Listening] {
            for role in ROLES {
                assert!(!allowed(party(role, Place::InConversation), purpose, none(purpose)), "{role:?} {purpose:?}");
                assert!(!allowed(party(role, Place::Aside), purpose, ALL), "{role:?} aside {purpose:?}");
            }
        }
    }

    #[test]
    fn customers_and_agents_are_recorded_and_with_bridges_transcribed_nobody_else() {
        for (purpose, bridge) in [(Purpose::Recording, false), (Purpose::Transcribing, true)] {
            let who = ROLES.map(|role| allowed(party(role, Place::InConversation), purpose, ALL));
            assert_eq!(who, [true, true, false, bridge, false]);
        }
        assert!(ROLES.iter().all(|r| allowed(party(*r, Place::InConversation), Purpose::Listening, ALL)));
    }
}
