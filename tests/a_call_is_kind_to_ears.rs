//! Voices go down under a whisper and come back, sums are limited and not clipped, the coach speaks as loudly as the
//! call, a barge is announced, and those who want it are reminded that somebody listens.

mod support;

use sotto::call::ears::{Beep, Beeped, Ears};
use sotto::call::{Audience, ClipSpec, Command, Speaker, Volume};
use sotto::event::{Mode, Place, Role};
use sotto::id::LegId;
use sotto::media::codec::Codec;
use support::{Stage, tones};

const DUCKED: Ears = Ears { duck: db(-12), ..NOTHING };
const NOTHING: Ears = Ears {
    duck: db(0),
    leak_guard: sotto::call::ears::LeakGuard::Off,
    leak_tone: false,
    level: false,
    barge_tone: false,
    beep: None,
};

const fn db(db: i8) -> Volume {
    match Volume::decibels(db) {
        Some(volume) => volume,
        None => panic!("no volume"),
    }
}

fn scene(ears: Ears, codec: Codec) -> (Stage, LegId, LegId) {
    let mut stage = Stage::with(ears);
    let customer = stage.join(Role::Customer);
    let agent = stage.join_as(Role::Agent, Place::InConversation, Mode::Spy, codec);
    stage.phone(customer).sound = tones::tone(400.0);
    stage.run(500);
    (stage, customer, agent)
}

/// The customer's 400 Hz as the agent hears it in the last `ms`.
fn customers_voice(stage: &Stage, agent: LegId, ms: i64) -> f64 {
    let rate = stage.phones[&agent].media.codec.rate();
    tones::amplitude_at(&stage.sounds(agent, ms), 400.0, rate)
}

#[test]
fn the_customer_goes_down_under_a_clip_and_comes_back_before_it_ends() {
    for codec in [Codec::Pcmu, Codec::Pcma, Codec::L16] {
        let (mut stage, _, agent) = scene(DUCKED, codec);
        stage.play(tones::beep(1000.0, 1000), Audience::Own(Mode::Whisper)).unwrap();
        stage.run(600);
        let under = customers_voice(&stage, agent, 400);
        assert!((950.0..1060.0).contains(&under), "{codec:?}: {under}");
        stage.run(500);
        let (mut last, heard) = (0.0f64, stage.sounds(agent, 500));
        for piece in heard.chunks_exact(heard.len() / 12) {
            let now = tones::amplitude_at(piece, 400.0, codec.rate());
            assert!(now > last - 400.0, "{codec:?}: it only rises: {last} then {now}");
            last = now;
        }
        assert!(customers_voice(&stage, agent, 80) > 3900.0, "{codec:?}");
    }
}

#[test]
fn the_customer_goes_down_under_a_supervisors_whisper_and_not_in_other_ears() {
    let (mut stage, _, agent) = scene(DUCKED, Codec::Pcmu);
    let supervisor = stage.join(Role::Supervisor);
    stage.set_mode(Speaker::Leg(supervisor), Mode::Whisper).unwrap();
    stage.run(600);
    assert!(customers_voice(&stage, agent, 300) > 3900.0, "who says nothing covers nothing");
    stage.phone(supervisor).sound = tones::tone(1000.0);
    stage.run(600);
    assert!((950.0..1060.0).contains(&customers_voice(&stage, agent, 300)));
    assert!(customers_voice(&stage, supervisor, 300) > 3900.0, "the supervisor hears the customer as they are");
    let recorded: Vec<i16> = stage.recorded.iter().rev().take(10).rev().flat_map(|r| r.customer.clone()).collect();
    assert!(tones::amplitude(&recorded, 400.0) > 3900.0, "and so does the recording");
}

/// Nothing is clipped: the loudest sum keeps its shape.
#[test]
fn two_loud_voices_are_limited() {
    for codec in [Codec::Pcmu, Codec::L16] {
        let (mut stage, _, agent) = scene(NOTHING, codec);
        let loud = |n: u64, hz: f64| (24_000.0 * (n as f64 * hz * std::f64::consts::TAU / 8000.0).sin()) as i16;
        stage.phones.values_mut().for_each(|p| p.sound = Box::new(move |n| loud(n, 400.0)));
        stage.play((0..8000).map(|n| loud(n, 700.0)).collect(), Audience::Own(Mode::Whisper)).unwrap();
        stage.run(800);
        let heard = stage.sounds(agent, 500);
        let top = heard.iter().map(|s| s.unsigned_abs()).max().unwrap();
        let flat = heard.windows(3).filter(|w| w[0].unsigned_abs() >= 32_000 && w[0] == w[1] && w[1] == w[2]).count();
        assert!(top > 24_000 && flat < heard.len() / 100, "{codec:?}: {top}, {flat} samples flat");
        let both = [400.0, 700.0].map(|hz| tones::amplitude_at(&heard, hz, codec.rate()));
        assert!(both.iter().all(|a| *a > 8000.0), "{both:?}");
    }
}

#[test]
fn the_coach_speaks_as_loudly_as_the_customer() {
    let (mut stage, _, agent) = scene(Ears { level: true, ..NOTHING }, Codec::Pcmu);
    stage.run(1000);
    let quiet: Vec<i16> = tones::beep(1000.0, 800).iter().map(|s| s / 3).collect();
    for (text, expected) in [(Some("advice".into()), 4000.0), (None, 1333.0)] {
        let clip = ClipSpec { pcm: quiet.clone().into(), audience: Audience::Own(Mode::Whisper), looped: false, text };
        stage.command(Command::Play(clip)).unwrap();
        stage.run(600);
        let heard = tones::amplitude(&stage.sounds(agent, 400), 1000.0);
        assert!((heard / expected - 1.0).abs() < 0.1, "{heard}, not {expected}");
        stage.run(600);
    }
}

/// 850 Hz, and then what was to be said; not again for the next sentence.
#[test]
fn a_barge_is_announced_to_both_sides() {
    let (mut stage, customer, agent) = scene(Ears { barge_tone: true, ..NOTHING }, Codec::Pcmu);
    stage.set_mode(Speaker::Coach, Mode::Barge).unwrap();
    for announced in [true, false] {
        stage.play(tones::beep(1500.0, 400), Audience::Mode).unwrap();
        stage.run(130);
        for leg in [customer, agent] {
            let heard = stage.sounds(leg, 100);
            assert_eq!(tones::amplitude(&heard, 850.0) > 3000.0, announced, "{leg}");
            assert_eq!(tones::amplitude(&heard, 1500.0) < 500.0, announced, "{leg}");
        }
        stage.run(300);
        assert!([customer, agent].iter().all(|l| tones::amplitude(&stage.sounds(*l, 150), 1500.0) > 3000.0));
        stage.run(400);
    }
    assert_eq!(stage.told("clip.ended").len(), 2);
}

#[test]
fn a_supervisor_who_enters_barge_is_announced_before_they_are_heard() {
    let (mut stage, customer, agent) = scene(Ears { barge_tone: true, ..NOTHING }, Codec::Pcmu);
    let supervisor = stage.join(Role::Supervisor);
    stage.phone(supervisor).sound = tones::tone(1500.0);
    stage.run(300);
    stage.set_mode(Speaker::Leg(supervisor), Mode::Barge).unwrap();
    stage.run(150);
    for leg in [customer, agent] {
        let heard = stage.sounds(leg, 100);
        assert!(tones::amplitude(&heard, 850.0) > 3000.0, "{leg} hears the tone");
        assert!(tones::amplitude(&heard, 1500.0) < 300.0, "{leg} does not hear the supervisor yet");
    }
    stage.run(500);
    assert!([customer, agent].iter().all(|l| tones::hears(&stage.sounds(*l, 200), 1500.0)));
    let whispering = stage.set_mode(Speaker::Leg(supervisor), Mode::Whisper);
    whispering.unwrap();
    stage.run(200);
    assert_eq!(stage.told("clip.started").len(), 1, "a whisper is not announced");
}

#[test]
fn those_who_are_to_be_reminded_hear_a_beep_and_nobody_else() {
    for (to, hear) in [(Beeped::Agent, [false, true]), (Beeped::Customer, [true, false]), (Beeped::Both, [true; 2])] {
        let beep = Some(Beep { to, every_s: 2, volume: db(-6) });
        let (mut stage, customer, agent) = scene(Ears { beep, ..NOTHING }, Codec::Pcmu);
        stage.phone(customer).sound = Box::new(|_| 0);
        stage.run(6000);
        for (leg, hears) in [customer, agent].into_iter().zip(hear) {
            let heard = stage.sounds(leg, 6000);
            let beeps = heard.chunks_exact(160).map(|f| tones::amplitude(&[f, f].concat(), 1400.0) > 1000.0);
            let beeps: Vec<bool> = beeps.collect();
            let began = beeps.windows(2).filter(|w| w[1] && !w[0]).count();
            assert_eq!(began, if hears { 3 } else { 0 }, "{to:?} {leg}");
            let top = heard.iter().map(|s| s.unsigned_abs()).max().unwrap();
            assert!(!hears || (2000..2500).contains(&top), "{top}: half of 4,600");
        }
        stage.command(Command::Close).unwrap();
        let before = stage.told("clip.started").len();
        stage.run(5000);
        assert_eq!(stage.told("clip.started").len(), before, "nobody listens any more");
    }
}
