//! DESIGN §2.7: left is what customers said and what the coach said to them, right the same for agents; a whisper is
//! never on the left, supervisors on neither; and both lie on the media clock.

mod support;

use sotto::call::{Audience, Command, Speaker};
use sotto::event::{Mode, Place, Role};
use sotto::id::LegId;
use sotto::time::{MediaTime, Samples};
use support::network::Network;
use support::{Stage, tones};

const CUSTOMER: f64 = 400.0;
const AGENT: f64 = 600.0;
const SUPERVISOR: f64 = 1100.0;
const CLIP: f64 = 2500.0;

fn scene() -> (Stage, LegId, LegId) {
    let mut stage = Stage::new(1);
    let customer = stage.join(Role::Customer);
    let agent = stage.join(Role::Agent);
    let supervisor = stage.join(Role::Supervisor);
    stage.phone(customer).sound = tones::tone(CUSTOMER);
    stage.phone(agent).sound = tones::tone(AGENT);
    stage.phone(supervisor).sound = tones::tone(SUPERVISOR);
    stage.run(300);
    stage.set_mode(Speaker::Leg(supervisor), Mode::Barge).unwrap();
    stage.run(500);
    (stage, customer, agent)
}

/// What of the tones each channel holds since `since` records ago: customer, agent, supervisor, clip.
fn holds(stage: &Stage, since: usize) -> [[bool; 4]; 2] {
    let records = &stage.recorded[stage.recorded.len() - since..];
    let left: Vec<i16> = records.iter().flat_map(|r| r.customer.clone()).collect();
    let right: Vec<i16> = records.iter().flat_map(|r| r.agent.clone()).collect();
    [left, right].map(|c| [CUSTOMER, AGENT, SUPERVISOR, CLIP].map(|hz| tones::hears(&c, hz)))
}

#[test]
fn each_channel_is_one_side() {
    let (mut stage, customer, agent) = scene();
    assert_eq!(holds(&stage, 20), [[true, false, false, false], [false, true, false, false]]);
    for (audience, left, right) in [
        (Audience::Own(Mode::Whisper), false, true),
        (Audience::Own(Mode::Barge), true, true),
        (Audience::Legs(vec![customer]), true, false),
        (Audience::Legs(vec![agent]), false, true),
    ] {
        stage.play(tones::beep(CLIP, 600), audience.clone()).unwrap();
        stage.run(600);
        assert_eq!(holds(&stage, 20), [[true, false, false, left], [false, true, false, right]], "{audience:?}");
        stage.run(400);
        assert_eq!(holds(&stage, 5), [[true, false, false, false], [false, true, false, false]]);
    }
}

/// A leg's own recording holds its voice and nothing else, whoever whispers, and a supervisor has none.
#[test]
fn a_leg_by_itself_is_its_voice_alone() {
    let (mut stage, customer, agent) = scene();
    stage.play(tones::beep(CLIP, 600), Audience::Own(Mode::Barge)).unwrap();
    stage.run(600);
    let alone = |stage: &Stage, leg: LegId| {
        let frames = stage.recorded_alone[&leg].iter().rev().take(20).rev();
        let pcm: Vec<i16> = frames.flat_map(|(_, pcm)| pcm.clone()).collect();
        [CUSTOMER, AGENT, SUPERVISOR, CLIP].map(|hz| tones::hears(&pcm, hz))
    };
    assert_eq!(alone(&stage, customer), [true, false, false, false]);
    assert_eq!(alone(&stage, agent), [false, true, false, false]);
    assert_eq!(stage.recorded_alone.keys().collect::<Vec<_>>(), [&customer, &agent], "supervisors are not recorded");
    stage.command(Command::SetPlace { leg: agent, place: Place::Aside }).unwrap();
    stage.run(500);
    assert_eq!(alone(&stage, agent), [false; 4]);
    for frames in stage.recorded_alone.values() {
        assert!(frames.windows(2).all(|w| w[1].0 - w[0].0 == Samples::FRAME));
        assert_eq!(frames.last().unwrap().0, stage.recorded.last().unwrap().at, "on one clock");
    }
}

#[test]
fn who_is_aside_is_not_recorded() {
    let (mut stage, customer, _) = scene();
    stage.command(Command::SetPlace { leg: customer, place: Place::Aside }).unwrap();
    stage.run(500);
    assert_eq!(holds(&stage, 20), [[false; 4], [false, true, false, false]]);
    let heard: Vec<i16> = stage.heard[&customer].iter().rev().take(20).flat_map(|(_, pcm, _)| pcm.clone()).collect();
    assert_eq!(heard, vec![0; 3200]);
}

#[test]
fn frames_follow_each_other_and_close_ends_them() {
    let (mut stage, customer, _) = scene();
    stage.phone(customer).network = Network::bad(4, 50, 10, 40);
    stage.run(5000);
    assert!(stage.recorded.windows(2).all(|w| w[1].at - w[0].at == Samples::FRAME));
    for frames in stage.heard.values() {
        assert!(frames.windows(2).all(|w| w[1].0 - w[0].0 == Samples::FRAME));
    }
    stage.command(Command::Close).unwrap();
    let (recorded, heard) = (stage.recorded.len(), stage.heard[&customer].len());
    stage.run(500);
    assert_eq!((recorded, heard), (stage.recorded.len(), stage.heard[&customer].len()));
    assert!(tones::hears(&stage.sounds(customer, 300), AGENT), "the people go on");
}

/// A click is where it was received, a clip where it was sent, to within a frame.
#[test]
fn the_recording_lies_on_the_media_clock() {
    let (mut stage, customer, agent) = scene();
    for leg in [customer, agent] {
        stage.phone(leg).sound = Box::new(|_| 0);
    }
    stage.run(500);
    let spoken = stage.phones[&customer].spoken;
    let at = stage.phones[&customer].due;
    stage.phone(customer).sound = Box::new(move |n| if n == spoken + 80 { 9000 } else { 0 });
    stage.play(vec![5000; 8], Audience::Legs(vec![agent])).unwrap();
    let asked = stage.now;
    stage.run(400);
    let place = |channel: fn(&support::Recorded) -> &[i16]| -> MediaTime {
        let mut lately = stage.recorded.iter().filter(|r| r.at > at - Samples::from_millis(100));
        let (frame, n) = lately.find_map(|r| channel(r).iter().position(|s| *s > 3000).map(|n| (r.at, n))).unwrap();
        frame + Samples(n as i64 * 6)
    };
    let click = place(|r| &r.customer) - at;
    assert!(click.0.abs() <= Samples::FRAME.0, "{click:?}");
    let clip = place(|r| &r.agent) - asked;
    assert!((0..=2 * Samples::FRAME.0).contains(&clip.0), "{clip:?}");
}

#[test]
fn what_was_said_last_is_heard_and_recorded() {
    let (mut stage, customer, _) = scene();
    stage.command(Command::End { reason: "over".into() }).unwrap();
    let end = stage.recorded.last().unwrap().at + Samples::FRAME;
    assert!(stage.now - end < Samples::from_millis(21), "recorded until {end} of {}", stage.now);
    let (at, ..) = stage.heard[&customer].last().unwrap();
    assert_eq!(*at + Samples::FRAME, end);
    assert_eq!(holds(&stage, 4), [[true, false, false, false], [false, true, false, false]]);
}
