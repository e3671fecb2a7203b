//! DESIGN §2.1: whoever joins, changes role or changes their far end is never in the audience of a clip begun; a wider
//! mode does not widen it; every sample is sent once to each who stays, and the clip ends when the last has it.

mod support;

use sotto::call::{Audience, ClipSpec, Command, Refusal, Speaker};
use sotto::event::{Mode, Place, Role, What};
use sotto::id::{ClipId, LegId};
use sotto::media::codec::g711::Law;
use sotto::media::codec::{Codec, Decoder};
use support::network::Network;
use support::{Stage, tones};

const CLIP: f64 = 2500.0;

struct Scene {
    stage: Stage,
    customer: LegId,
    agent: LegId,
}

fn scene(seed: u64) -> Scene {
    let mut stage = Stage::new(seed);
    let customer = stage.join(Role::Customer);
    let agent = stage.join(Role::Agent);
    stage.phone(customer).sound = tones::tone(400.0);
    stage.phone(agent).sound = tones::tone(600.0);
    stage.run(200);
    Scene { stage, customer, agent }
}

fn cut(stage: &Stage, clip: ClipId) -> Option<String> {
    stage.events.iter().find_map(|e| match &e.what {
        What::ClipCut { clip: c, reason } if *c == clip => Some(reason.clone()),
        _ => None,
    })
}
fn ended(stage: &Stage, clip: ClipId) -> bool {
    stage.events.iter().any(|e| e.what == What::ClipEnded { clip })
}

#[test]
fn who_joins_does_not_hear_it() {
    let Scene { mut stage, customer, agent } = scene(1);
    stage.set_mode(Speaker::Coach, Mode::Barge).unwrap();
    let clip = stage.play(tones::beep(CLIP, 2000), Audience::Mode).unwrap();
    stage.run(300);
    assert_eq!(stage.started(clip), Some(vec![customer, agent]));
    let late = stage.join(Role::Agent);
    stage.run(500);
    assert!(!tones::hears(&stage.sounds(late, 400), CLIP));
    assert!(tones::hears(&stage.sounds(agent, 400), CLIP));
}

#[test]
fn a_wider_mode_does_not_widen_it() {
    let Scene { mut stage, customer, agent } = scene(2);
    stage.set_mode(Speaker::Coach, Mode::Whisper).unwrap();
    stage.play(tones::beep(CLIP, 2000), Audience::Mode).unwrap();
    stage.run(300);
    stage.set_mode(Speaker::Coach, Mode::Barge).unwrap();
    stage.run(500);
    assert!(!tones::hears(&stage.sounds(customer, 700), CLIP));
    assert!(tones::hears(&stage.sounds(agent, 400), CLIP));
}

#[test]
fn a_narrower_mode_holds_for_what_is_being_said() {
    let Scene { mut stage, customer, agent } = scene(3);
    stage.set_mode(Speaker::Coach, Mode::Barge).unwrap();
    let clip = stage.play(tones::beep(CLIP, 3000), Audience::Mode).unwrap();
    stage.run(300);
    stage.set_mode(Speaker::Coach, Mode::Whisper).unwrap();
    stage.run(400);
    assert!(!tones::hears(&stage.sounds(customer, 400), CLIP));
    assert!(tones::hears(&stage.sounds(agent, 400), CLIP));
    stage.set_mode(Speaker::Coach, Mode::Spy).unwrap();
    assert!(cut(&stage, clip).is_some());
    stage.run(400);
    assert!(!tones::hears(&stage.sounds(agent, 400), CLIP));
}

/// Each change of who a leg is takes it out, and out of an audience of one the clip is cut.
#[test]
fn whoever_becomes_somebody_else_hears_no_more() {
    type Change = fn(&mut Stage, LegId);
    let changes: [(&str, Change); 6] = [
        ("role", |s, leg| drop(s.command(Command::SetRole { leg, role: Role::Customer }))),
        ("far end", |s, leg| drop(s.command(Command::FarEndChanged { leg }))),
        ("removed", |s, leg| drop(s.command(Command::RemoveLeg { leg, reason: "bye".into() }))),
        ("aside", |s, leg| drop(s.command(Command::SetPlace { leg, place: Place::Aside }))),
        ("new ssrc", |s, leg| s.phone(leg).header.ssrc ^= 1),
        ("new address", |s, leg| {
            let media = support::media(Codec::Pcmu, 7000);
            drop(s.command(Command::SetMedia { leg, media }));
        }),
    ];
    for (name, change) in changes {
        let Scene { mut stage, agent, .. } = scene(4);
        stage.set_mode(Speaker::Coach, Mode::Whisper).unwrap();
        let clip = stage.play(tones::beep(CLIP, 3000), Audience::Mode).unwrap();
        stage.run(300);
        assert!(tones::hears(&stage.sounds(agent, 200), CLIP), "{name}");
        change(&mut stage, agent);
        stage.run(300);
        assert!(!tones::hears(&stage.sounds(agent, 200), CLIP), "{name}");
        assert_eq!(cut(&stage, clip).as_deref(), Some("nobody of its audience is left"), "{name}");
    }
}

/// A hold and its end, at the same address, is nobody new.
#[test]
fn the_same_address_again_is_nobody_new() {
    let Scene { mut stage, agent, .. } = scene(5);
    stage.set_mode(Speaker::Coach, Mode::Whisper).unwrap();
    let clip = stage.play(tones::beep(CLIP, 1000), Audience::Mode).unwrap();
    stage.run(100);
    let media = stage.phones[&agent].media;
    stage.command(Command::SetMedia { leg: agent, media }).unwrap();
    stage.run(1100);
    assert!(ended(&stage, clip));
}

/// Over a bad network too: what each listener gets of the clip is the clip, once, in order.
#[test]
fn every_sample_is_sent_once_to_each() {
    let Scene { mut stage, customer, agent } = scene(6);
    // Digital silence under the clip: what is heard is the clip alone.
    stage.phone(customer).sound = Box::new(|_| 0);
    stage.phone(agent).sound = Box::new(|_| 0);
    stage.phone(customer).network = Network::bad(1, 100, 20, 50);
    stage.phone(agent).network = Network::bad(2, 100, 20, 50);
    let third = stage.join(Role::Supervisor);
    stage.run(300);
    // Every sample has a value of its own, as far as G.711 goes; none is silence.
    let pcm: Vec<i16> = (0..8000i32).map(|n| 500 + ((n * 37) % 9000) as i16).collect();
    stage.set_mode(Speaker::Coach, Mode::Barge).unwrap();
    let before: Vec<_> = [customer, agent, third].map(|l| stage.phones[&l].got.len()).into();
    let clip = stage.play(pcm.clone(), Audience::Mode).unwrap();
    stage.run(2500);
    assert!(ended(&stage, clip));
    for (leg, from) in [customer, agent, third].into_iter().zip(before) {
        let heard: Vec<u8> =
            stage.phones[&leg].got[from..].iter().flat_map(|g| g.payload.clone()).filter(|b| *b != 0xFF).collect();
        let wanted: Vec<u8> = pcm.iter().map(|s| Law::Mu.encode(*s)).collect();
        assert!(heard == wanted, "{leg} heard {} samples of {}", heard.len(), wanted.len());
        let mut numbers: Vec<u16> = stage.phones[&leg].got.iter().map(|g| g.header.sequence).collect();
        numbers.sort_unstable();
        let all = numbers.len();
        numbers.dedup();
        assert_eq!(numbers.len(), all, "no number was used twice");
    }
}

/// A packet that comes late lies before samples that have left already: it passes, without the clip.
#[test]
fn in_order_of_time_a_clip_is_whole_even_when_packets_overtake() {
    let Scene { mut stage, customer, agent } = scene(7);
    stage.phone(customer).speaks = false;
    stage.run(100);
    let pcm: Vec<i16> = (1..=1600).map(|n| n * 10).collect();
    stage.play(pcm.clone(), Audience::Legs(vec![agent])).unwrap();
    let from = stage.phones[&agent].got.len();
    for order in [[0u16, 2, 1], [3, 5, 4], [6, 8, 7]] {
        let base = stage.phones[&customer].header;
        for n in order {
            let phone = stage.phone(customer);
            phone.header.sequence = base.sequence.wrapping_add(n % 3);
            phone.header.timestamp = base.timestamp.wrapping_add(160 * u32::from(n % 3));
            stage.send(customer, &[0xFF; 160]);
            stage.run(20);
        }
        let phone = stage.phone(customer);
        phone.header.sequence = base.sequence.wrapping_add(3);
        phone.header.timestamp = base.timestamp.wrapping_add(480);
    }
    let mut got: Vec<_> = stage.phones[&agent].got[from..].to_vec();
    got.sort_by_key(|g| g.header.sequence.wrapping_sub(stage.phones[&agent].got[from].header.sequence));
    let heard: Vec<u8> = got.iter().flat_map(|g| g.payload.clone()).filter(|b| *b != 0xFF).collect();
    let wanted: Vec<u8> = pcm.iter().map(|s| Law::Mu.encode(*s)).filter(|b| *b != 0xFF).collect();
    assert_eq!(heard[..], wanted[..heard.len()]);
    assert!(heard.len() > 900);
}

/// One after the other, in the order of commands, where audiences meet; at once where they do not.
#[test]
fn clips_wait_for_those_before_them() {
    let Scene { mut stage, customer, agent } = scene(8);
    let supervisor = stage.join(Role::Supervisor);
    stage.run(100);
    let first = stage.play(tones::beep(CLIP, 500), Audience::Legs(vec![customer])).unwrap();
    let second = stage.play(tones::beep(CLIP, 500), Audience::Legs(vec![customer, agent])).unwrap();
    let third = stage.play(tones::beep(CLIP, 100), Audience::Legs(vec![agent])).unwrap();
    let apart = stage.play(tones::beep(CLIP, 100), Audience::Legs(vec![supervisor])).unwrap();
    stage.run(100);
    assert!(stage.started(first).is_some() && stage.started(apart).is_some());
    assert!(stage.started(second).is_none() && stage.started(third).is_none());
    stage.run(550);
    assert!(ended(&stage, first) && stage.started(second).is_some() && stage.started(third).is_none());
    stage.run(800);
    assert!(ended(&stage, second) && ended(&stage, third));
}

#[test]
fn the_queue_has_an_end() {
    let Scene { mut stage, customer, .. } = scene(9);
    let to = || Audience::Legs(vec![customer]);
    let ringback = ClipSpec { pcm: tones::beep(440.0, 100).into(), audience: to(), looped: true, text: None };
    stage.command(Command::Play(ringback)).unwrap();
    for _ in 0..7 {
        stage.play(vec![1; 10], to()).unwrap();
    }
    assert_eq!(stage.play(vec![1; 10], to()), Err(Refusal::TooManyClips(8)));
    assert!(matches!(stage.play(vec![], to()), Err(Refusal::Limit(_))));
    assert!(matches!(stage.play(vec![1; 480_001], to()), Err(Refusal::Limit(_))));
    stage.run(2000);
    assert!(tones::hears(&stage.sounds(customer, 400), 440.0), "what is looped goes on");
}

/// A clip goes on by the clock when the one it is laid over falls silent.
#[test]
fn a_clip_does_not_wait_for_who_is_silent() {
    let Scene { mut stage, customer, agent } = scene(10);
    stage.phone(customer).speaks = false;
    stage.run(200);
    let clip = stage.play(tones::beep(CLIP, 500), Audience::Legs(vec![agent])).unwrap();
    stage.run(400);
    assert!(tones::hears(&stage.sounds(agent, 200), CLIP));
    stage.phone(customer).speaks = true;
    stage.run(250);
    assert!(ended(&stage, clip));
    stage.run(200);
    assert!(tones::hears(&stage.sounds(agent, 150), 400.0));
    assert_eq!(stage.view().legs[1].path, "relay");
}

/// Words that wait to fill a longer packet are not for whoever is there when it is full, nor what the encoder remembers.
#[test]
fn what_was_gathered_for_one_does_not_reach_another() {
    for codec in [Codec::Pcmu, Codec::G722, Codec::Opus] {
        for moment in (0..60).step_by(10) {
            let mut stage = Stage::new(8);
            let customer = stage.join(Role::Customer);
            let mut media = support::media(codec, 4010);
            media.shape.ptime = 60;
            let agent = stage.join_with(Role::Agent, Place::InConversation, Mode::Spy, media);
            stage.phones.values_mut().for_each(|p| p.speaks = false);
            stage.phone(agent).speaks = true;
            stage.set_mode(Speaker::Coach, Mode::Whisper).unwrap();
            stage.play(tones::beep(CLIP, 3000), Audience::Mode).unwrap();
            stage.run(400 + moment);
            assert!(tones::hears_at(&stage.sounds(agent, 200), CLIP, codec.rate()), "{codec:?}");
            stage.phone(agent).header.ssrc ^= 1;
            let changed = |stage: &Stage| stage.told("leg.changed").len();
            while changed(&stage) == 0 {
                stage.run(5);
            }
            stage.phone(agent).got.clear();
            // What comes next would take along what waits.
            stage.phone(customer).speaks = true;
            stage.run(300);
            assert!(stage.phones[&agent].got.len() > 5);
            let (mut decoder, mut pcm) = (Decoder::new(codec), [0; 2880]);
            for got in &stage.phones[&agent].got {
                let count = decoder.decode(&got.payload, &mut pcm);
                let loudest = pcm[..count].iter().map(|s| s.unsigned_abs()).max().unwrap_or(0);
                assert!(loudest < 50, "{codec:?} at {moment} ms: {loudest}");
            }
        }
    }
}
