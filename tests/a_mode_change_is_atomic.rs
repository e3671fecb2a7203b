//! DESIGN §2.1, §2.2: a mode holds for every listener from one moment on, and the acknowledgement says from which
//! timestamp of theirs; a widening mutes the supervisor for 200 ms, and no sample is heard in a wider mode than it was
//! received in.

mod support;

use sotto::call::{Refusal, Speaker};
use sotto::event::{Actor, Mode, Place, Role, What};
use sotto::id::LegId;
use sotto::media::codec::Codec;
use sotto::media::codec::g711::Law;
use support::{Stage, tones};

const VOICE: f64 = 1100.0;

/// Customer, agent, an earpiece or none, and a supervisor who speaks.
fn scene(seed: u64) -> (Stage, Vec<LegId>, LegId) {
    let mut stage = Stage::new(seed);
    let mut legs = vec![stage.join(Role::Customer), stage.join(Role::Agent)];
    // One who gathers three ticks in a packet.
    let mut media = support::media(Codec::Pcma, 4100);
    media.shape.ptime = 60;
    legs.push(stage.join_with(Role::Agent, Place::InConversation, Mode::Spy, media));
    let supervisor = stage.join(Role::Supervisor);
    stage.phone(supervisor).sound = tones::tone(VOICE);
    stage.run(500);
    (stage, legs, supervisor)
}

/// What a leg was sent with timestamps from `since` on, as it sounds.
fn from(stage: &Stage, leg: LegId, since: u32) -> Vec<i16> {
    let phone = &stage.phones[&leg];
    let later = phone.got.iter().filter(|g| (g.header.timestamp.wrapping_sub(since) as i32) >= 0);
    later.flat_map(|g| g.payload.iter().map(|b| phone.media.codec.law().unwrap().decode(*b))).collect()
}

#[test]
fn a_narrower_mode_holds_from_the_timestamp_that_was_acknowledged() {
    for (offset, to) in [(0, Mode::Whisper), (3, Mode::Spy), (7, Mode::Whisper), (11, Mode::Spy), (19, Mode::Whisper)] {
        let (mut stage, legs, supervisor) = scene(offset);
        stage.set_mode(Speaker::Leg(supervisor), Mode::Barge).unwrap();
        stage.run(600 + offset as i64);
        for leg in &legs {
            assert!(tones::hears(&stage.sounds(*leg, 200), VOICE));
        }
        let effective = stage.set_mode(Speaker::Leg(supervisor), to).unwrap();
        let sent: Vec<_> = legs.iter().map(|l| stage.phones[l].got.len()).collect();
        assert_eq!(effective.len(), 4);
        stage.run(400);
        for (n, leg) in legs.iter().enumerate() {
            let phone = &stage.phones[leg];
            let reached = n > 0 && to == Mode::Whisper;
            let beyond = from(&stage, *leg, effective[leg]);
            assert!(beyond.len() > 2000);
            assert_eq!(tones::hears(&beyond, VOICE), reached);
            let quiet = beyond.iter().all(|s| s.abs() < 16);
            assert_eq!(quiet, !reached, "not one sample of it");
            // No sample sent before lies beyond the timestamp, none sent after lies before it.
            let beyond = |g: &support::Got| g.header.timestamp.wrapping_sub(effective[leg]) as i32;
            assert!(phone.got[..sent[n]].iter().all(|g| beyond(g) + g.payload.len() as i32 <= 0));
            assert!(phone.got[sent[n]..].iter().all(|g| beyond(g) >= 0));
        }
    }
}

#[test]
fn widening_mutes_for_200_ms_and_lets_out_nothing_said_before() {
    for (before, after) in [(Mode::Spy, Mode::Whisper), (Mode::Spy, Mode::Barge), (Mode::Whisper, Mode::Barge)] {
        let (mut stage, legs, supervisor) = scene(2);
        stage.set_mode(Speaker::Leg(supervisor), before).unwrap();
        stage.run(500);
        stage.set_mode(Speaker::Leg(supervisor), after).unwrap();
        let marks: Vec<_> = legs.iter().map(|l| stage.phones[l].got.len()).collect();
        stage.run(199);
        for (leg, mark) in legs.iter().zip(marks) {
            let phone = &stage.phones[leg];
            let all = phone.got[mark..].iter().flat_map(|g| &g.payload);
            assert!(
                all.map(|b| phone.media.codec.law().unwrap().decode(*b)).all(|s| s.abs() < 16),
                "{before:?} → {after:?}"
            );
        }
        stage.run(500);
        assert_eq!(tones::hears(&stage.sounds(legs[0], 200), VOICE), after == Mode::Barge);
        assert!(tones::hears(&stage.sounds(legs[1], 200), VOICE));
    }
}

#[test]
fn the_event_says_what_the_answer_says() {
    let (mut stage, _, supervisor) = scene(3);
    let effective = stage.set_mode(Speaker::Leg(supervisor), Mode::Whisper).unwrap();
    let event = stage.told("mode.changed").pop().unwrap().clone();
    assert_eq!(event.leg, Some(supervisor));
    assert_eq!(event.what, What::ModeChanged { from: Mode::Spy, to: Mode::Whisper, by: Actor::Person, effective });
    stage.set_mode(Speaker::Leg(supervisor), Mode::Whisper).unwrap();
    assert_eq!(stage.told("mode.changed").len(), 1, "the same mode again is no change");
}

#[test]
fn only_supervisors_have_modes() {
    let (mut stage, legs, _) = scene(4);
    assert_eq!(stage.set_mode(Speaker::Leg(legs[0]), Mode::Barge), Err(Refusal::NotASupervisor(legs[0])));
    assert_eq!(stage.set_mode(Speaker::Leg(LegId(99)), Mode::Barge), Err(Refusal::NoSuchLeg(LegId(99))));
}

/// To and fro faster than the mute: whoever is muted stays so.
#[test]
fn a_mute_is_not_shortened_by_changing_again() {
    let (mut stage, legs, supervisor) = scene(5);
    let mark = stage.phones[&legs[0]].got.len();
    for mode in [Mode::Barge, Mode::Whisper, Mode::Barge, Mode::Whisper, Mode::Barge] {
        stage.set_mode(Speaker::Leg(supervisor), mode).unwrap();
        stage.run(50);
    }
    stage.run(140);
    let heard = stage.phones[&legs[0]].got[mark..].iter().flat_map(|g| &g.payload);
    assert!(heard.map(|b| Law::Mu.decode(*b)).all(|s| s.abs() < 16));
}
