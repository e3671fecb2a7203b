//! Who puts a call on hold steps out of it: nothing they hear or say counts until they are back, but what their telephone
//! plays meanwhile may be heard by those who wait.

mod support;

use sotto::call::{Audience, Command, Refusal, Speaker};
use sotto::event::{Mode, Place, Role};
use sotto::id::LegId;
use support::{Stage, tones};

const CUSTOMER: f64 = 400.0;
const AGENT: f64 = 600.0;
const SUPERVISOR: f64 = 1100.0;
const CLIP: f64 = 2500.0;

/// A customer, an agent, and a supervisor who barges.
fn scene() -> (Stage, [LegId; 3]) {
    let mut stage = Stage::new(1);
    let legs = [(Role::Customer, CUSTOMER), (Role::Agent, AGENT), (Role::Supervisor, SUPERVISOR)].map(|(role, hz)| {
        let leg = stage.join(role);
        stage.phone(leg).sound = tones::tone(hz);
        leg
    });
    stage.run(300);
    stage.set_mode(Speaker::Leg(legs[2]), Mode::Barge).unwrap();
    stage.run(500);
    (stage, legs)
}

fn hold(stage: &mut Stage, leg: LegId, place: Option<Place>) {
    stage.command(Command::SetHeld { leg, place }).unwrap();
    stage.run(600);
}

/// Which of the voices each of the three hears: customer, agent, supervisor.
fn heard(stage: &Stage, legs: [LegId; 3]) -> [[bool; 3]; 3] {
    legs.map(|leg| [CUSTOMER, AGENT, SUPERVISOR].map(|hz| tones::hears(&stage.sounds(leg, 200), hz)))
}

const ALL: [[bool; 3]; 3] = [[false, true, true], [true, false, true], [true, true, false]];

#[test]
fn a_held_line_that_plays_is_heard_by_the_customer_alone_and_hears_nothing() {
    let (mut stage, legs) = scene();
    assert_eq!(heard(&stage, legs), ALL);
    hold(&mut stage, legs[1], Some(Place::Playing));
    assert_eq!(heard(&stage, legs), [[false, true, true], [false; 3], [true, false, false]]);
    hold(&mut stage, legs[1], None);
    assert_eq!(heard(&stage, legs), ALL);
    assert_eq!((stage.told("leg.held").len(), stage.told("leg.resumed").len()), (1, 1));
}

#[test]
fn a_held_line_that_does_not_play_is_heard_by_none() {
    let (mut stage, legs) = scene();
    hold(&mut stage, legs[1], Some(Place::Aside));
    assert_eq!(heard(&stage, legs), [[false, false, true], [false; 3], [true, false, false]]);
    hold(&mut stage, legs[1], None);
    assert_eq!(heard(&stage, legs), ALL);
}

#[test]
fn what_a_supervisors_telephone_plays_on_hold_is_heard_by_none() {
    let (mut stage, legs) = scene();
    for place in [Place::Playing, Place::Aside] {
        hold(&mut stage, legs[2], Some(place));
        assert_eq!(heard(&stage, legs), [[false, true, false], [true, false, false], [false; 3]], "{place:?}");
    }
}

/// Music is nobody's voice: neither recorded nor listened to.
#[test]
fn what_plays_on_hold_is_neither_recorded_nor_listened_to() {
    let (mut stage, legs) = scene();
    hold(&mut stage, legs[1], Some(Place::Playing));
    let last = |frames: usize| stage.recorded.len() - frames;
    let channel: Vec<i16> = stage.recorded[last(20)..].iter().flat_map(|r| r.agent.clone()).collect();
    assert!(!tones::hears(&channel, AGENT));
    let ear: Vec<i16> = stage.heard[&legs[1]].iter().rev().take(10).flat_map(|(_, pcm, _)| pcm.clone()).collect();
    assert!(!tones::hears(&ear, AGENT));
}

/// A whisper being spoken ends with the hold, for good; a new one is refused until the agent is back.
#[test]
fn nobody_whispers_to_who_holds() {
    for place in [Place::Playing, Place::Aside] {
        let (mut stage, legs) = scene();
        stage.set_mode(Speaker::Coach, Mode::Whisper).unwrap();
        stage.play(tones::beep(CLIP, 3000), Audience::Mode).unwrap();
        stage.run(300);
        assert!(tones::hears(&stage.sounds(legs[1], 200), CLIP));
        hold(&mut stage, legs[1], Some(place));
        assert!(!legs[..2].iter().any(|leg| tones::hears(&stage.sounds(*leg, 400), CLIP)));
        stage.set_mode(Speaker::Coach, Mode::Spy).unwrap();
        let refused = stage.set_mode(Speaker::Coach, Mode::Whisper);
        assert_eq!(refused.unwrap_err(), Refusal::NotPrivate("the agent is aside"), "{place:?}");
        hold(&mut stage, legs[1], None);
        assert!(!legs.iter().any(|leg| tones::hears(&stage.sounds(*leg, 400), CLIP)), "{place:?}: the rest of it");
        stage.set_mode(Speaker::Coach, Mode::Whisper).unwrap();
    }
}

#[test]
fn who_was_put_aside_meanwhile_stays_aside_when_the_hold_ends() {
    let (mut stage, legs) = scene();
    hold(&mut stage, legs[1], Some(Place::Aside));
    stage.command(Command::SetPlace { leg: legs[1], place: Place::Aside }).unwrap();
    hold(&mut stage, legs[1], None);
    assert_eq!(heard(&stage, legs), [[false, false, true], [false; 3], [true, false, false]]);
    stage.command(Command::SetPlace { leg: legs[1], place: Place::InConversation }).unwrap();
    stage.run(600);
    assert_eq!(heard(&stage, legs), ALL);
}

/// Before the answer: the caller who waits hears what is played, is heard by none, and it is no call yet.
#[test]
fn who_waits_hears_what_is_played_and_is_heard_by_none() {
    use sotto::media::codec::Codec;
    let mut stage = Stage::new(2);
    let called = stage.join_as(Role::Agent, Place::Playing, Mode::Spy, Codec::Pcmu);
    let caller = stage.join_as(Role::Customer, Place::Waiting, Mode::Spy, Codec::Pcmu);
    stage.phone(called).sound = tones::tone(AGENT);
    stage.phone(caller).sound = tones::tone(CUSTOMER);
    stage.run(600);
    assert!(tones::hears(&stage.sounds(caller, 200), AGENT));
    assert!(!tones::hears(&stage.sounds(called, 200), CUSTOMER));
    assert!(stage.told("call.answered").is_empty() && stage.recorded.is_empty());
    for leg in [called, caller] {
        stage.command(Command::SetPlace { leg, place: Place::InConversation }).unwrap();
    }
    stage.run(600);
    assert!(tones::hears(&stage.sounds(called, 200), CUSTOMER));
    assert_eq!((stage.told("call.answered").len(), stage.told("call.connected").len()), (1, 1));
}
