//! What is said in a pause is neither recorded nor heard by the machine, at neither edge, however the network shuffles
//! it; what is said before and after is, and the recording stays on the media clock.

mod support;

use sotto::call::{Audience, Command, Refusal, Speaker};
use sotto::event::{Mode, Role};
use sotto::id::LegId;
use sotto::time::Samples;
use support::network::Network;
use support::{Stage, tones};

/// What is said otherwise, and what is said in a pause; between them no codec errs.
const OPEN: i16 = 500;
const SECRET: i16 = 12_000;
const LEAKED: i16 = 4_000;

fn stage(seed: u64) -> (Stage, [LegId; 2]) {
    let mut stage = Stage::new(seed);
    let legs = [Role::Customer, Role::Agent].map(|role| stage.join(role));
    (stage, legs)
}

fn say(stage: &mut Stage, legs: [LegId; 2], value: i16) {
    legs.iter().for_each(|leg| stage.phone(*leg).sound = Box::new(move |_| value));
}

/// The loudest sample that recording and ears were given so far.
fn loudest(stage: &Stage) -> i16 {
    let recorded = stage.recorded.iter().flat_map(|r| r.customer.iter().chain(&r.agent));
    let heard = stage.heard.values().flatten().flat_map(|(_, pcm, _)| pcm);
    let alone = stage.recorded_alone.values().flatten().flat_map(|(_, pcm)| pcm);
    recorded.chain(heard).chain(alone).map(|s| s.saturating_abs()).max().unwrap()
}

#[test]
fn samples_sent_in_a_pause_appear_nowhere() {
    for seed in 0..60 {
        let (mut stage, legs) = stage(seed);
        // With a supervisor the buffers are read throughout the pause, without one they are not.
        let supervisor = (seed % 2 == 0).then(|| stage.join(Role::Supervisor));
        let late = if seed % 3 == 0 { 40 } else { 0 };
        if late > 0 {
            legs.iter().for_each(|leg| stage.phone(*leg).network = Network::bad(seed, 50, 10, late));
        }
        say(&mut stage, legs, OPEN);
        stage.run(400 + seed as i64 * 7 % 41);
        for round in 0..3 {
            say(&mut stage, legs, SECRET);
            stage.command(Command::Pause).unwrap();
            stage.run(30 + seed as i64 * 13 % 300 + round * 11);
            if let Some(supervisor) = supervisor.filter(|_| round == 2 && late == 0) {
                stage.run(300);
                assert!(stage.sounds(supervisor, 60).iter().any(|s| *s > LEAKED), "people listening hear on");
            }
            say(&mut stage, legs, OPEN);
            // What the network holds back is received later, and is only then the call's.
            stage.run(late as i64);
            stage.command(Command::Resume).unwrap();
            stage.run(400 + round * 3);
            assert!(loudest(&stage) < LEAKED, "seed {seed}, round {round}");
            assert!(stage.recorded.last().unwrap().customer.iter().any(|s| *s > OPEN / 2), "recorded again");
        }
        stage.command(Command::Pause).unwrap();
        say(&mut stage, legs, SECRET);
        stage.run(100);
        stage.command(Command::End { reason: "over".into() }).unwrap();
        assert!(loudest(&stage) < LEAKED, "seed {seed}: nor does the end let it out");
        assert!(stage.recorded.windows(2).all(|w| w[1].at - w[0].at == Samples::FRAME), "a pause is silence");
    }
}

#[test]
fn once_a_pause_is_answered_nothing_more_is_handed_out() {
    let (mut stage, legs) = stage(1);
    say(&mut stage, legs, OPEN);
    stage.run(500);
    stage.command(Command::Pause).unwrap();
    let (recorded, heard) = (stage.recorded.len(), stage.heard[&legs[0]].len());
    stage.run(500);
    assert_eq!(stage.heard[&legs[0]].len(), heard);
    assert!(stage.recorded.len() >= recorded + 24);
    assert!(stage.recorded[recorded..].iter().all(|r| r.customer == [0; 160] && r.agent == [0; 160]));
    assert!(stage.view().paused);
}

#[test]
fn the_coach_is_cut_and_refused_while_people_are_not() {
    let (mut stage, [_, agent]) = stage(2);
    stage.run(300);
    let own = stage.play(tones::beep(2500.0, 2000), Audience::Own(Mode::Whisper)).unwrap();
    stage.run(200);
    stage.command(Command::Pause).unwrap();
    assert_eq!(stage.told("clip.cut").len(), 1, "{own}");
    assert_eq!(stage.view().mode, Mode::Spy, "what the coach had borrowed is given back");
    assert_eq!(stage.play(vec![1; 10], Audience::Own(Mode::Whisper)), Err(Refusal::Paused));
    stage.set_mode(Speaker::Coach, Mode::Whisper).unwrap();
    stage.play(tones::beep(2500.0, 300), Audience::Mode).unwrap();
    stage.run(250);
    assert!(tones::hears(&stage.sounds(agent, 150), 2500.0));
    stage.run(300);
    stage.command(Command::Resume).unwrap();
    stage.run(300);
    let after: Vec<i16> = stage.recorded.iter().rev().take(12).flat_map(|r| r.agent.clone()).collect();
    assert!(!tones::hears(&after, 2500.0), "what was played in the pause is not recorded after it");
}

#[test]
fn twice_is_once_and_a_call_without_its_coach_has_nothing_to_pause() {
    let (mut stage, _) = stage(3);
    stage.run(100);
    for command in [Command::Resume, Command::Pause, Command::Pause, Command::Resume, Command::Resume] {
        stage.command(command).unwrap();
    }
    assert_eq!((stage.told("recording.paused").len(), stage.told("recording.resumed").len()), (1, 1));
    stage.command(Command::Close).unwrap();
    assert_eq!(stage.command(Command::Pause), Err(Refusal::Closed));
    assert_eq!(stage.command(Command::Resume), Err(Refusal::Closed));
}
