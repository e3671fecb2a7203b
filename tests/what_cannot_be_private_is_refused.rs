//! DESIGN §2.4: a whisper that others would hear, or nobody it is for, is refused with the reason, and nothing plays.

mod support;

use sotto::call::{Audience, Command, LegMedia, Refusal, Shape, Speaker};
use sotto::event::{Mode, Place, Role};
use sotto::media::codec::Codec;
use support::{Stage, media, tones};

const CLIP: f64 = 2500.0;

fn scene(others: &[(Role, Place)]) -> Stage {
    let mut stage = Stage::new(1);
    stage.join(Role::Customer);
    for (role, place) in others {
        stage.join_as(*role, *place, Mode::Spy, Codec::Pcmu);
    }
    stage.run(100);
    stage
}

#[test]
fn where_a_whisper_can_be_private() {
    use Place::*;
    use Role::*;
    type Row = (&'static str, &'static [(Role, Place)], Option<&'static str>);
    let rows: [Row; 8] = [
        ("an agent", &[(Agent, InConversation)], None),
        ("an agent and a bridge", &[(Agent, InConversation), (Bridge, InConversation)], None),
        ("a bridge and an earpiece", &[(Bridge, InConversation), (Earpiece, InConversation)], None),
        ("a bridge", &[(Bridge, InConversation)], Some("shared bridge")),
        ("a bridge, the agent aside", &[(Bridge, InConversation), (Agent, Aside)], Some("shared bridge")),
        ("nobody", &[], Some("no agent")),
        ("the agent aside", &[(Agent, Aside)], Some("aside")),
        ("a supervisor", &[(Supervisor, InConversation)], Some("no agent")),
    ];
    for (name, others, expected) in rows {
        let mut stage = scene(others);
        let supervisor = stage.join(Role::Supervisor);
        stage.phone(supervisor).sound = tones::tone(1100.0);
        let answers = [
            stage.play(tones::beep(CLIP, 300), Audience::Own(Mode::Whisper)).err(),
            stage.set_mode(Speaker::Coach, Mode::Whisper).err(),
            stage.set_mode(Speaker::Leg(supervisor), Mode::Whisper).err(),
        ];
        for answer in answers {
            match (expected, answer) {
                (None, None) => {}
                (Some(reason), Some(Refusal::NotPrivate(why))) => assert!(why.contains(reason), "{name}: {why}"),
                (_, other) => panic!("{name}: {other:?}"),
            }
        }
        stage.run(600);
        for leg in stage.phones.keys().copied().collect::<Vec<_>>() {
            let private = [Role::Agent, Role::Earpiece, Role::Supervisor];
            let view = stage.view();
            let role = view.legs.iter().find(|l| l.id == leg).unwrap().role;
            let heard = tones::hears(&stage.sounds(leg, 500), CLIP) || tones::hears(&stage.sounds(leg, 200), 1100.0);
            assert!(!heard || expected.is_none() && private.contains(&role), "{name}: {role:?}");
        }
        assert_eq!(stage.told("clip.started").len(), usize::from(expected.is_none()), "{name}");
    }
}

#[test]
fn spy_says_nothing_unless_it_is_told_to_whom() {
    let mut stage = scene(&[(Role::Agent, Place::InConversation)]);
    let customer = *stage.phones.keys().next().unwrap();
    assert_eq!(stage.play(vec![1; 100], Audience::Mode), Err(Refusal::Spying));
    assert_eq!(stage.play(vec![1; 100], Audience::Own(Mode::Spy)), Err(Refusal::Spying));
    assert_eq!(stage.play(vec![1; 100], Audience::Legs(vec![])), Err(Refusal::NobodyListens));
    assert!(stage.play(vec![1; 100], Audience::Legs(vec![customer])).is_ok());
}

/// The agent goes between the command and the clip's turn: it never begins.
#[test]
fn what_stops_being_private_while_it_waits_is_not_played() {
    let mut stage = scene(&[(Role::Agent, Place::InConversation)]);
    let legs: Vec<_> = stage.phones.keys().copied().collect();
    stage.play(tones::beep(440.0, 500), Audience::Legs(legs.clone())).unwrap();
    let waiting = stage.play(tones::beep(CLIP, 300), Audience::Own(Mode::Whisper)).unwrap();
    stage.run(100);
    stage.command(Command::SetPlace { leg: legs[1], place: Place::Aside }).unwrap();
    stage.join(Role::Bridge);
    stage.run(1000);
    assert_eq!(stage.started(waiting), None);
    assert_eq!(stage.told("clip.cut").len(), 1);
}

/// To be heard by fewer is never refused: it would leave the speaker heard by all.
#[test]
fn from_barge_a_whisper_is_always_taken() {
    let mut stage = scene(&[(Role::Bridge, Place::InConversation)]);
    let supervisor = stage.join(Role::Supervisor);
    stage.phone(supervisor).sound = tones::tone(1100.0);
    stage.set_mode(Speaker::Leg(supervisor), Mode::Barge).unwrap();
    stage.set_mode(Speaker::Coach, Mode::Barge).unwrap();
    stage.run(500);
    stage.set_mode(Speaker::Leg(supervisor), Mode::Whisper).unwrap();
    stage.set_mode(Speaker::Coach, Mode::Whisper).unwrap();
    stage.run(500);
    for leg in stage.phones.keys().copied().filter(|l| *l != supervisor).collect::<Vec<_>>() {
        assert!(!tones::hears(&stage.sounds(leg, 400), 1100.0));
    }
    assert!(matches!(stage.play(vec![1; 10], Audience::Mode), Err(Refusal::NotPrivate(_))));
}

#[test]
fn a_closed_coach_and_an_ended_call_take_no_orders() {
    let mut stage = scene(&[(Role::Agent, Place::InConversation)]);
    stage.command(Command::Close).unwrap();
    assert_eq!(stage.play(vec![1; 10], Audience::Own(Mode::Barge)), Err(Refusal::Closed));
    assert_eq!(stage.set_mode(Speaker::Coach, Mode::Barge), Err(Refusal::Closed));
    stage.command(Command::End { reason: "over".into() }).unwrap();
    assert_eq!(stage.set_mode(Speaker::Coach, Mode::Barge), Err(Refusal::Ended));
    assert_eq!(stage.call.poll_timeout(), None);
}

/// SIPREC: what is forked to us has no way back.
#[test]
fn no_mode_and_no_clip_reaches_a_forked_leg() {
    let mut stage = Stage::new(1);
    let mut forked = |role, port, hz| {
        let plain = media(Codec::Pcmu, port);
        // Whatever else was agreed on: nothing is sent.
        let media = LegMedia { send: true, shape: Shape { forked: true, ..plain.shape }, ..plain };
        let leg = stage.join_with(role, Place::InConversation, Mode::Spy, media);
        stage.phone(leg).sound = tones::tone(hz);
        leg
    };
    let (customer, agent) = (forked(Role::Customer, 5000, 500.0), forked(Role::Agent, 5002, 700.0));
    let supervisor = stage.join(Role::Supervisor);
    stage.phone(supervisor).sound = tones::tone(1100.0);
    let beep = || tones::beep(CLIP, 300);
    for mode in [Mode::Whisper, Mode::Barge] {
        assert_eq!(stage.set_mode(Speaker::Coach, mode), Err(Refusal::NoWayBack), "{mode:?}");
        assert_eq!(stage.set_mode(Speaker::Leg(supervisor), mode), Err(Refusal::NoWayBack), "{mode:?}");
        assert_eq!(stage.play(beep(), Audience::Own(mode)), Err(Refusal::NoWayBack), "{mode:?}");
    }
    for audience in [Audience::Mode, Audience::Legs(vec![agent]), Audience::Legs(vec![customer, agent])] {
        assert_eq!(stage.play(beep(), audience.clone()), Err(Refusal::NoWayBack), "{audience:?}");
    }
    let named = stage.play(beep(), Audience::Legs(vec![supervisor, agent])).unwrap();
    stage.run(1_000);
    let heard = stage.sounds(supervisor, 400);
    assert!(tones::hears(&heard, 500.0) && tones::hears(&heard, 700.0), "a supervisor hears both");
    for leg in [customer, agent] {
        assert_eq!(stage.phones[&leg].got.len(), 0, "{leg}: nothing is sent to it");
    }
    assert_eq!(stage.started(named), Some(vec![supervisor]), "a clip's audience has nobody who cannot hear it");
    assert!(stage.heard.contains_key(&customer) && stage.heard.contains_key(&agent), "both are listened to");
    // With a private line to the agent they can be whispered to.
    let private = stage.join(Role::Earpiece);
    assert!(stage.set_mode(Speaker::Coach, Mode::Whisper).is_ok());
    assert_eq!(
        stage.set_mode(Speaker::Coach, Mode::Barge),
        Err(Refusal::NoWayBack),
        "there is still nobody to speak to"
    );
    let clip = stage.play(beep(), Audience::Mode).unwrap();
    stage.run(600);
    assert!(tones::hears(&stage.sounds(private, 600), CLIP));
    assert_eq!(stage.started(clip), Some(vec![supervisor, private]));
    assert!([customer, agent].iter().all(|leg| stage.phones[leg].got.is_empty()));
}
