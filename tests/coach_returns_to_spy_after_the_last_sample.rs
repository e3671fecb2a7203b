//! What the machine says of its own accord it says in a mode it borrows: from its first sample to its last sent one.

mod support;

use sotto::call::{Audience, Command, Refusal, Speaker};
use sotto::event::{Actor, Mode, Role, What};
use sotto::id::LegId;
use support::{Stage, tones};

fn scene() -> (Stage, LegId, LegId) {
    let mut stage = Stage::new(1);
    let legs = (stage.join(Role::Customer), stage.join(Role::Agent));
    stage.run(300);
    (stage, legs.0, legs.1)
}

/// The coach's modes and the clips' events, in order.
fn story(stage: &Stage) -> Vec<String> {
    let line = |what: &What| match what {
        What::ModeChanged { from, to, by, .. } => Some(format!("{from:?}→{to:?} by {by:?}")),
        What::ClipStarted { clip, .. } => Some(format!("{clip} started")),
        What::ClipEnded { clip } => Some(format!("{clip} ended")),
        What::ClipCut { clip, .. } => Some(format!("{clip} cut")),
        _ => None,
    };
    stage.events.iter().filter_map(|e| line(&e.what)).collect()
}

#[test]
fn it_is_back_when_the_last_sample_was_sent_not_before() {
    let (mut stage, _, agent) = scene();
    let pcm = vec![6000; 8 * 730];
    stage.play(pcm.clone(), Audience::Own(Mode::Whisper)).unwrap();
    let mut sent_when_back = None;
    for _ in 0..2000 {
        stage.run(1);
        if sent_when_back.is_none() && story(&stage).contains(&"Whisper→Spy by Coach".into()) {
            let loud = stage.phones[&agent].got.iter().flat_map(|g| &g.payload).filter(|b| **b != 0xFF).count();
            sent_when_back = Some(loud);
        }
    }
    assert_eq!(sent_when_back, Some(pcm.len()));
    assert_eq!(story(&stage), ["Spy→Whisper by Coach", "clip-1 started", "clip-1 ended", "Whisper→Spy by Coach"]);
}

#[test]
fn two_of_its_own_are_two_visits() {
    let (mut stage, ..) = scene();
    stage.play(tones::beep(900.0, 200), Audience::Own(Mode::Whisper)).unwrap();
    stage.play(tones::beep(900.0, 200), Audience::Own(Mode::Barge)).unwrap();
    stage.run(1000);
    assert_eq!(
        story(&stage),
        [
            "Spy→Whisper by Coach",
            "clip-1 started",
            "clip-1 ended",
            "Whisper→Spy by Coach",
            "Spy→Barge by Coach",
            "clip-2 started",
            "clip-2 ended",
            "Barge→Spy by Coach",
        ]
    );
}

#[test]
fn what_a_person_sets_meanwhile_stays() {
    let (mut stage, ..) = scene();
    stage.play(tones::beep(900.0, 400), Audience::Own(Mode::Whisper)).unwrap();
    stage.run(100);
    stage.set_mode(Speaker::Coach, Mode::Barge).unwrap();
    stage.run(1000);
    assert_eq!(story(&stage), ["Spy→Whisper by Coach", "clip-1 started", "Whisper→Barge by Person", "clip-1 ended"]);
    assert_eq!(stage.view().mode, Mode::Barge);
}

#[test]
fn in_a_mode_that_people_gave_it_nothing_is_borrowed() {
    let (mut stage, customer, agent) = scene();
    stage.set_mode(Speaker::Coach, Mode::Barge).unwrap();
    let clip = stage.play(tones::beep(900.0, 400), Audience::Own(Mode::Whisper)).unwrap();
    stage.run(200);
    assert_eq!(stage.started(clip), Some(vec![agent]));
    assert!(!tones::hears(&stage.sounds(customer, 100), 900.0));
    stage.run(800);
    assert_eq!(story(&stage), ["Spy→Barge by Person", "clip-1 started", "clip-1 ended"]);
}

/// A borrowed mode is the machine's alone: people's words still need one that people chose.
#[test]
fn people_cannot_speak_in_what_it_borrowed() {
    let (mut stage, ..) = scene();
    stage.play(tones::beep(900.0, 400), Audience::Own(Mode::Barge)).unwrap();
    stage.run(100);
    assert_eq!(stage.play(vec![1; 100], Audience::Mode), Err(Refusal::Spying));
}

#[test]
fn it_is_back_as_well_when_its_clip_is_cut() {
    let (mut stage, ..) = scene();
    let clip = stage.play(tones::beep(900.0, 400), Audience::Own(Mode::Whisper)).unwrap();
    stage.run(100);
    stage.command(Command::Cut { clip, reason: "enough".into() }).unwrap();
    assert_eq!(story(&stage), ["Spy→Whisper by Coach", "clip-1 started", "clip-1 cut", "Whisper→Spy by Coach"]);
    let clip = stage.play(tones::beep(900.0, 400), Audience::Own(Mode::Whisper)).unwrap();
    stage.run(100);
    stage.command(Command::Close).unwrap();
    assert!(stage.started(clip).is_some());
    assert_eq!(stage.view().mode, Mode::Spy);
    let by = stage.events.iter().rev().find_map(|e| match e.what {
        What::ModeChanged { by, .. } => Some(by),
        _ => None,
    });
    assert_eq!(by, Some(Actor::Coach));
}

/// The end of something else is not the end of what it says.
#[test]
fn it_stays_while_another_clip_ends() {
    let (mut stage, customer, _) = scene();
    stage.play(tones::beep(900.0, 400), Audience::Own(Mode::Whisper)).unwrap();
    stage.play(tones::beep(900.0, 100), Audience::Legs(vec![customer])).unwrap();
    stage.run(1000);
    let whole = story(&stage);
    assert_eq!(whole[3..], ["clip-2 ended", "clip-1 ended", "Whisper→Spy by Coach"], "{whole:?}");
}
