//! Who hears whom. One total, pure function decides, and nothing else may.

use crate::event::{Mode, Place, Role};
use crate::id::LegId;

/// How loud a source is to a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gain {
    /// Not at all: no sample of the source may reach the listener.
    Silent,
    /// As it is.
    Unity,
}

impl Gain {
    /// Whether anything of the source reaches the listener.
    pub fn is_heard(self) -> bool {
        self == Gain::Unity
    }
}

/// One leg as the rule sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Party {
    /// Which leg.
    pub leg: LegId,
    /// What it is to the call.
    pub role: Role,
    /// Whether it takes part.
    pub place: Place,
}

/// Something that can be heard.
#[derive(Clone, Copy, Debug)]
pub enum Source<'a> {
    /// A leg's own voice. `mode` counts for supervisors alone.
    Leg {
        /// Who speaks.
        party: Party,
        /// In which mode.
        mode: Mode,
    },
    /// A clip, heard by exactly its audience.
    Clip {
        /// The legs fixed at the clip's first sample.
        audience: &'a [LegId],
    },
}

/// DESIGN §2: whether `listener` hears `source`.
pub fn gain(listener: Party, source: Source<'_>) -> Gain {
    let heard = match source {
        Source::Clip { audience } => audience.contains(&listener.leg),
        Source::Leg { party, mode } => {
            listener.leg != party.leg
                && between(listener.place, party)
                && voice_reaches(listener.role, party.role, mode)
        }
    };
    if heard { Gain::Unity } else { Gain::Silent }
}

/// Whether where they are lets anything pass. What a line plays while nobody is there is for people alone to hear, and no
/// supervisor is heard that way.
fn between(listener: Place, source: Party) -> bool {
    let plays = match source.role {
        Role::Customer | Role::Agent | Role::Bridge => true,
        Role::Supervisor | Role::Earpiece => false,
    };
    match (listener, source.place) {
        (Place::InConversation, Place::InConversation) => true,
        (Place::InConversation | Place::Waiting, Place::Playing) => plays,
        (Place::Waiting, Place::InConversation) | (Place::Playing | Place::Aside, _) => false,
        (_, Place::Waiting | Place::Aside) => false,
    }
}

/// The table of DESIGN §2, for two different legs in conversation.
fn voice_reaches(listener: Role, source: Role, mode: Mode) -> bool {
    use Role::*;
    match (listener, source) {
        (_, Earpiece) => false,
        (Earpiece, Supervisor) => mode == Mode::Whisper,
        (Earpiece, Customer | Agent | Bridge) => false,
        (Customer | Bridge, Supervisor) => mode == Mode::Barge,
        (Agent | Supervisor, Supervisor) => mode != Mode::Spy,
        (Customer | Agent | Supervisor | Bridge, Customer | Agent | Bridge) => true,
    }
}

/// Whether what the coach says in `mode` is for `listener`: the audience of DESIGN §2 for a clip that begins now.
pub fn coach_reaches(listener: Party, mode: Mode) -> bool {
    listener.place == Place::InConversation
        && match mode {
            Mode::Spy => false,
            Mode::Whisper => matches!(listener.role, Role::Agent | Role::Earpiece | Role::Supervisor),
            Mode::Barge => listener.role != Role::Earpiece,
        }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROLES: [Role; 5] = [Role::Customer, Role::Agent, Role::Supervisor, Role::Bridge, Role::Earpiece];
    const MODES: [Mode; 3] = [Mode::Spy, Mode::Whisper, Mode::Barge];

    fn party(leg: u32, role: Role, place: Place) -> Party {
        Party { leg: LegId(leg), role, place }
    }

    /// DESIGN §2's rows; columns are customer, agent, bridge, supervisor in spy, whisper and barge, earpiece.
    #[test]
    fn every_cell() {
        let table = [
            (Role::Customer, "xxx--x-"),
            (Role::Agent, "xxx-xx-"),
            (Role::Supervisor, "xxx-xx-"),
            (Role::Bridge, "xxx--x-"),
            (Role::Earpiece, "----x--"),
        ];
        let columns = [
            (Role::Customer, Mode::Spy),
            (Role::Agent, Mode::Spy),
            (Role::Bridge, Mode::Spy),
            (Role::Supervisor, Mode::Spy),
            (Role::Supervisor, Mode::Whisper),
            (Role::Supervisor, Mode::Barge),
            (Role::Earpiece, Mode::Barge),
        ];
        for (listener, row) in table {
            for ((source, mode), cell) in columns.into_iter().zip(row.chars()) {
                for places in [
                    [Place::InConversation, Place::InConversation],
                    [Place::Aside, Place::InConversation],
                    [Place::InConversation, Place::Aside],
                ] {
                    let source = Source::Leg { party: party(2, source, places[1]), mode };
                    let expected = cell == 'x' && places == [Place::InConversation; 2];
                    assert_eq!(
                        gain(party(1, listener, places[0]), source).is_heard(),
                        expected,
                        "{listener:?} {source:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn nobody_hears_themselves() {
        for role in ROLES {
            for mode in MODES {
                let me = party(1, role, Place::InConversation);
                assert_eq!(gain(me, Source::Leg { party: me, mode }), Gain::Silent);
            }
        }
    }

    #[test]
    fn a_line_that_plays_is_heard_and_hears_nobody() {
        let hears =
            |listener, source: Party| gain(listener, Source::Leg { party: source, mode: Mode::Barge }).is_heard();
        let (there, playing) = (Place::InConversation, Place::Playing);
        for role in ROLES {
            let source = |place| party(2, role, place);
            let plays = matches!(role, Role::Customer | Role::Agent | Role::Bridge);
            for listener in [Role::Customer, Role::Agent] {
                assert_eq!(hears(party(1, listener, there), source(playing)), plays, "{role:?}");
                assert_eq!(hears(party(1, listener, Place::Waiting), source(playing)), plays, "{role:?}");
                assert!(!hears(party(1, listener, playing), source(playing)), "{role:?}");
                let waiting = [there, playing, Place::Waiting, Place::Aside];
                assert!(!waiting.iter().any(|place| hears(party(1, listener, *place), source(Place::Waiting))));
                assert!(!hears(party(1, listener, Place::Waiting), source(there)), "{role:?}");
                assert!(!hears(party(1, listener, playing), source(there)), "{role:?}");
                assert!(!hears(party(1, listener, Place::Aside), source(playing)), "{role:?}");
                assert!(!hears(party(1, listener, playing), source(Place::Aside)), "{role:?}");
            }
            for place in [playing, Place::Waiting] {
                assert!(MODES.iter().all(|mode| !coach_reaches(party(1, role, place), *mode)));
            }
        }
    }

    /// Role and place do not matter for a clip: those in its audience are, and nobody else.
    #[test]
    fn a_clip_is_heard_by_exactly_its_audience() {
        for role in ROLES {
            for place in [Place::InConversation, Place::Aside] {
                let heard = |audience: &[LegId]| gain(party(1, role, place), Source::Clip { audience }).is_heard();
                assert!(heard(&[LegId(2), LegId(1)]) && !heard(&[LegId(2)]) && !heard(&[]));
            }
        }
    }

    #[test]
    fn whom_the_coach_reaches() {
        for (mode, row) in [(Mode::Spy, "-----"), (Mode::Whisper, "-xx-x"), (Mode::Barge, "xxxx-")] {
            for (role, cell) in ROLES.into_iter().zip(row.chars()) {
                assert_eq!(
                    coach_reaches(party(1, role, Place::InConversation), mode),
                    cell == 'x',
                    "{role:?} {mode:?}"
                );
                assert!(!coach_reaches(party(1, role, Place::Aside), mode));
            }
        }
    }
}
