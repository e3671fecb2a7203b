//! DESIGN §2, cell by cell, in the bytes that leave: each party sends a tone of its own, and every other party's
//! decoded packets are searched for it.

mod support;

use sotto::call::{Audience, Speaker};
use sotto::event::{Mode, Place, Role};
use sotto::id::LegId;
use sotto::media::codec::Codec;
use support::{Stage, tones};

/// Whole periods in 40 ms, so that no tone leaks into another's bin.
const TONES: [f64; 6] = [400.0, 600.0, 850.0, 1100.0, 1450.0, 1900.0];
const CLIP: f64 = 2500.0;

const ROLES: [Role; 5] = [Role::Customer, Role::Agent, Role::Supervisor, Role::Bridge, Role::Earpiece];
const MODES: [Mode; 3] = [Mode::Spy, Mode::Whisper, Mode::Barge];

/// The table as it is printed in the design: rows are listeners, columns customer, agent, supervisor in spy, whisper,
/// barge. Bridges are heard as agents are; an earpiece is heard by none.
const TABLE: [(Role, [bool; 5]); 5] = [
    (Role::Customer, [true, true, false, false, true]),
    (Role::Agent, [true, true, false, true, true]),
    (Role::Supervisor, [true, true, false, true, true]),
    (Role::Bridge, [true, true, false, false, true]),
    (Role::Earpiece, [false, false, false, true, false]),
];

fn expected(listener: Role, source: Role, mode: Mode) -> bool {
    let row = TABLE.iter().find(|(role, _)| *role == listener).unwrap().1;
    match (source, mode) {
        (Role::Customer, _) => row[0],
        (Role::Agent | Role::Bridge, _) => row[1],
        (Role::Supervisor, Mode::Spy) => row[2],
        (Role::Supervisor, Mode::Whisper) => row[3],
        (Role::Supervisor, Mode::Barge) => row[4],
        (Role::Earpiece, _) => false,
    }
}

fn join(stage: &mut Stage, role: Role, place: Place, mode: Mode, hz: f64, codec: Codec) -> LegId {
    // Who comes to whisper where there is no agent is sent away; who whispers after a barge may stay.
    let whispers = (role, mode) == (Role::Supervisor, Mode::Whisper);
    let leg = stage.join_as(role, place, if whispers { Mode::Barge } else { mode }, codec);
    if whispers {
        stage.set_mode(Speaker::Leg(leg), Mode::Whisper).expect("fewer ears are never refused");
    }
    stage.phone(leg).sound = tones::tone(hz);
    leg
}

/// Two legs alone: the listener is in relay where it hears, and in mix (silence) where it does not.
#[test]
fn every_cell_between_two_legs() {
    for listener in ROLES {
        for source in ROLES {
            for mode in MODES {
                for (codec, places) in [
                    (Codec::Pcmu, [Place::InConversation, Place::InConversation]),
                    (Codec::Pcma, [Place::InConversation, Place::InConversation]),
                    (Codec::Pcmu, [Place::Aside, Place::InConversation]),
                    (Codec::Pcmu, [Place::InConversation, Place::Aside]),
                ] {
                    let mut stage = Stage::new(1);
                    let l = join(&mut stage, listener, places[0], Mode::Spy, TONES[0], Codec::Pcmu);
                    join(&mut stage, source, places[1], mode, TONES[1], codec);
                    stage.run(600);
                    let both = places == [Place::InConversation; 2];
                    let heard = tones::hears(&stage.sounds(l, 300), TONES[1]);
                    assert_eq!(
                        heard,
                        both && expected(listener, source, mode),
                        "{listener:?} ← {source:?} {mode:?} {places:?}"
                    );
                    assert!(!tones::hears(&stage.sounds(l, 300), TONES[0]), "{listener:?} hears itself");
                }
            }
        }
    }
}

/// Everyone at once: the same table out of the mix, for every mode of the supervisor who speaks.
#[test]
fn every_cell_in_a_full_call() {
    for mode in MODES {
        let mut stage = Stage::new(2);
        let roles = [Role::Customer, Role::Agent, Role::Supervisor, Role::Bridge, Role::Earpiece, Role::Supervisor];
        let legs: Vec<_> = roles
            .iter()
            .zip(TONES)
            .map(|(role, hz)| join(&mut stage, *role, Place::InConversation, mode, hz, Codec::Pcmu))
            .collect();
        stage.run(800);
        for (l, listener) in roles.iter().enumerate() {
            let sound = stage.sounds(legs[l], 400);
            for (s, source) in roles.iter().enumerate() {
                let wanted = l != s && expected(*listener, *source, mode);
                assert_eq!(tones::hears(&sound, TONES[s]), wanted, "{listener:?} ← {source:?} in {mode:?}");
            }
        }
    }
}

/// What the coach says: nobody in spy, the agent's side in whisper, everyone but the earpiece in barge.
#[test]
fn every_cell_of_a_clip() {
    for mode in [Mode::Whisper, Mode::Barge] {
        for aside in [false, true] {
            let mut stage = Stage::new(3);
            let legs: Vec<_> = ROLES
                .iter()
                .zip(TONES)
                .map(|(role, hz)| join(&mut stage, *role, Place::InConversation, Mode::Spy, hz, Codec::Pcmu))
                .collect();
            let extra = join(
                &mut stage,
                Role::Agent,
                if aside { Place::Aside } else { Place::InConversation },
                Mode::Spy,
                TONES[5],
                Codec::Pcma,
            );
            stage.set_mode(Speaker::Coach, mode).unwrap();
            stage.play(tones::beep(CLIP, 700), Audience::Mode).unwrap();
            stage.run(600);
            for (leg, role) in legs.iter().zip(ROLES) {
                let agents_side = [Role::Agent, Role::Supervisor, Role::Earpiece].contains(&role);
                let wanted = if mode == Mode::Whisper { agents_side } else { role != Role::Earpiece };
                assert_eq!(tones::hears(&stage.sounds(*leg, 400), CLIP), wanted, "{role:?} in {mode:?}");
            }
            assert_eq!(tones::hears(&stage.sounds(extra, 400), CLIP), !aside);
        }
    }
}

/// A clip by name reaches exactly those named, aside or not.
#[test]
fn a_named_audience_is_exactly_who_hears() {
    let mut stage = Stage::new(4);
    let customer = join(&mut stage, Role::Customer, Place::InConversation, Mode::Spy, TONES[0], Codec::Pcmu);
    let agent = join(&mut stage, Role::Agent, Place::Aside, Mode::Spy, TONES[1], Codec::Pcmu);
    stage.play(tones::beep(CLIP, 500), Audience::Legs(vec![agent])).unwrap();
    stage.run(400);
    assert!(tones::hears(&stage.sounds(agent, 200), CLIP));
    assert!(!tones::hears(&stage.sounds(customer, 200), CLIP));
}

/// Two supervisors hear one another unless spying, whatever mode the listener is in; everyone else by each one's own mode.
#[test]
fn two_supervisors_in_every_pair_of_modes() {
    for first in MODES {
        for second in MODES {
            let mut stage = Stage::new(5);
            let roles = [
                (Role::Customer, Mode::Spy),
                (Role::Agent, Mode::Spy),
                (Role::Supervisor, first),
                (Role::Supervisor, second),
                (Role::Earpiece, Mode::Spy),
            ];
            let joined = roles.iter().zip(TONES);
            let legs: Vec<_> = joined
                .map(|((role, mode), hz)| join(&mut stage, *role, Place::InConversation, *mode, hz, Codec::Pcmu))
                .collect();
            stage.run(800);
            for (l, (listener, _)) in roles.iter().enumerate() {
                let sound = stage.sounds(legs[l], 400);
                for (s, (source, mode)) in roles.iter().enumerate().filter(|(s, _)| *s != l) {
                    let wanted = expected(*listener, *source, *mode);
                    let heard = tones::hears(&sound, TONES[s]);
                    assert_eq!(heard, wanted, "{listener:?} ← {source:?}, supervisors in {first:?} and {second:?}");
                }
            }
        }
    }
}
