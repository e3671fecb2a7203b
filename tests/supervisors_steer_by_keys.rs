//! A supervisor's keys: the mode, the volume, leaving; each press once, for them alone, and none is told of.

mod support;

use sotto::call::{Audience, Command, Key, Refusal, Speaker, Volume};
use sotto::event::{Event, Mode, Place, Role, What};
use sotto::id::LegId;
use support::{Stage, tones};

const CUSTOMER: f64 = 500.0;
const AGENT: f64 = 700.0;
const FIRST: f64 = 1100.0;
const SECOND: f64 = 1500.0;
/// What a refused key is answered with.
const LOW: f64 = 250.0;

/// Telephone events (RFC 4733 §3.2).
const HASH: u8 = 11;

/// One key as a phone sends it: `packets` with one timestamp, the last three marked as the end.
fn press(stage: &mut Stage, leg: LegId, key: u8, packets: u16) {
    let named = stage.phones[&leg].media.dtmf.unwrap();
    let voice = stage.phones[&leg].header;
    stage.phone(leg).speaks = false;
    for n in 1..=packets {
        let phone = stage.phone(leg);
        (phone.header.payload_type, phone.header.marker, phone.header.timestamp) = (named, n == 1, voice.timestamp);
        let end = if n + 3 > packets { 0x80 } else { 0 };
        let [high, low] = (n * 160).to_be_bytes();
        stage.send(leg, &[key, end | 10, high, low]);
        stage.run(20);
    }
    let phone = stage.phone(leg);
    (phone.header.payload_type, phone.header.marker) = (voice.payload_type, false);
    phone.header.timestamp = voice.timestamp.wrapping_add(u32::from(packets) * 160);
    phone.speaks = true;
}

struct Scene {
    stage: Stage,
    customer: LegId,
    agent: LegId,
    first: LegId,
    second: LegId,
}

/// Customer, agent and two supervisors in spy, each with a tone of their own.
fn scene() -> Scene {
    let mut stage = Stage::new(3);
    let [customer, agent] = [Role::Customer, Role::Agent].map(|role| stage.join(role));
    let [first, second] = [Role::Supervisor; 2].map(|role| stage.join(role));
    for (leg, hz) in [(customer, CUSTOMER), (agent, AGENT), (first, FIRST), (second, SECOND)] {
        stage.phone(leg).sound = tones::tone(hz);
    }
    stage.run(500);
    Scene { stage, customer, agent, first, second }
}

impl Scene {
    /// Who hears whom now, a line each: customer, agent, first, second.
    fn hear(&mut self) -> [String; 4] {
        self.stage.run(700);
        [self.customer, self.agent, self.first, self.second].map(|leg| {
            let sound = self.stage.sounds(leg, 300);
            let tones = [(CUSTOMER, 'c'), (AGENT, 'a'), (FIRST, '1'), (SECOND, '2')];
            tones.iter().filter(|(hz, _)| tones::hears(&sound, *hz)).map(|(_, name)| *name).collect()
        })
    }

    fn volume(&mut self) -> i64 {
        let first = self.first;
        let view = serde_json::to_value(self.stage.view()).unwrap();
        let legs = view["legs"].as_array().unwrap();
        legs.iter().find(|l| l["id"] == first.to_string()).unwrap()["volume"].as_i64().unwrap()
    }
}

#[test]
fn each_mode_is_a_key_and_each_supervisor_has_their_own() {
    let mut scene = scene();
    let (first, second) = (scene.first, scene.second);
    assert_eq!(scene.hear(), ["a", "c", "ca", "ca"]);
    for (who, key, expected) in [
        (first, 5, ["a", "c1", "ca", "ca1"]),
        (second, 6, ["a2", "c12", "ca2", "ca1"]),
        (first, 6, ["a12", "c12", "ca2", "ca1"]),
        (second, 5, ["a1", "c12", "ca2", "ca1"]),
        (first, 4, ["a", "c2", "ca2", "ca"]),
        (second, 4, ["a", "c", "ca", "ca"]),
    ] {
        press(&mut scene.stage, who, key, 9);
        assert_eq!(scene.hear(), expected, "{who} pressed {key}");
    }
    let changed: Vec<_> = scene.stage.told("mode.changed").iter().map(|e| e.leg).collect();
    assert_eq!(changed, [first, second, first, second, first, second].map(Some), "nine packets are one press");
}

/// Every step of the round is heard, comes once a press, and alters what nobody else hears.
#[test]
fn the_volume_goes_round() {
    let mut scene = scene();
    let (first, second, agent) = (scene.first, scene.second, scene.agent);
    let mut levels = Vec::new();
    for decibels in [0, 6, 12, -12, -6, 0] {
        assert_eq!(scene.volume(), decibels);
        scene.stage.run(400);
        let heard = |leg| tones::amplitude(&scene.stage.sounds(leg, 300), CUSTOMER);
        assert!((heard(second) - 4000.0).abs() < 200.0 && (heard(agent) - 4000.0).abs() < 200.0);
        levels.push(20.0 * (heard(first) / 4000.0).log10());
        press(&mut scene.stage, first, HASH, 9);
    }
    for (level, decibels) in levels.iter().zip([0.0, 6.0, 12.0, -12.0, -6.0, 0.0]) {
        // At +12 dB two tones of −18 dBFS are just within full scale.
        assert!((level - decibels).abs() < 1.0, "{levels:?}");
    }
    let volume = |e: &&Event| matches!(&e.what, What::LegChanged { changed } if changed == "volume");
    assert_eq!(scene.stage.events.iter().filter(volume).count(), 6);
}

/// Somebody who hears one source at 0 dB gets its own packets again.
#[test]
fn zero_decibels_is_relay() {
    let mut scene = scene();
    let agent = scene.agent;
    let path = |scene: &mut Scene| scene.stage.view().legs[1].path;
    assert_eq!(path(&mut scene), "relay");
    for (decibels, expected) in [(-6, "mix"), (0, "relay")] {
        let volume = Volume::decibels(decibels).unwrap();
        scene.stage.command(Command::SetVolume { leg: agent, volume }).unwrap();
        scene.stage.run(200);
        assert_eq!(path(&mut scene), expected);
    }
    scene.stage.run(200);
    let got = &scene.stage.phones[&agent].got;
    let last: Vec<_> = got[got.len() - 5..].iter().map(|g| g.payload.clone()).collect();
    let said = &scene.stage.phones[&scene.customer].sent;
    assert!(last.iter().all(|p| said.contains(p)), "byte by byte");
}

#[test]
fn a_refused_whisper_is_a_low_tone_in_their_ear_alone() {
    let mut scene = scene();
    let (agent, first) = (scene.agent, scene.first);
    scene.stage.command(Command::SetPlace { leg: agent, place: Place::Aside }).unwrap();
    scene.stage.run(400);
    press(&mut scene.stage, first, 5, 9);
    scene.stage.run(250);
    for leg in [scene.customer, agent, scene.second] {
        assert!(tones::amplitude(&scene.stage.sounds(leg, 300), LOW) < 100.0, "{leg}");
    }
    assert!(tones::amplitude(&scene.stage.sounds(first, 300), LOW) > 1500.0);
    assert_eq!(scene.stage.view().legs[2].mode, Some(Mode::Spy));
    let started = scene.stage.told("clip.started");
    assert!(matches!(&started[..], [Event { what: What::ClipStarted { audience, .. }, .. }] if audience == &[first]));
    scene.stage.run(300);
    assert_eq!(scene.stage.told("clip.ended").len(), 1);
    assert!(scene.stage.told("mode.changed").is_empty());
}

#[test]
fn zero_leaves_at_once_and_ends_nothing_else() {
    let mut scene = scene();
    let (first, second) = (scene.first, scene.second);
    press(&mut scene.stage, second, 6, 9);
    press(&mut scene.stage, first, 0, 9);
    scene.stage.phone(first).speaks = false;
    let before = scene.stage.phones[&first].got.len();
    assert_eq!(scene.hear(), ["a2", "c2", "", "ca"]);
    assert_eq!(scene.stage.phones[&first].got.len(), before, "nothing is sent to them any more");
    let left = |e: &&Event| matches!(&e.what, What::SupervisorLeft { reason, .. } if reason == "supervisor left");
    assert_eq!(scene.stage.events.iter().filter(left).map(|e| e.leg).collect::<Vec<_>>(), [Some(first)]);
    assert!(scene.stage.told("call.ended").is_empty());
}

/// The keys of the others mean nothing here, whatever they press, and a supervisor's reach nobody.
#[test]
fn only_a_supervisors_keys_steer() {
    let mut scene = scene();
    let (customer, agent, first) = (scene.customer, scene.agent, scene.first);
    let before = scene.hear();
    for leg in [customer, agent] {
        for key in [0, 4, 5, 6, 10, HASH] {
            press(&mut scene.stage, leg, key, 9);
        }
    }
    assert_eq!(scene.stage.command(Command::Press { leg: agent, key: Key::Leave }).map(drop), Ok(()));
    assert_eq!(scene.hear(), before);
    assert_eq!(scene.stage.view().legs.len(), 4);
    let digits = |scene: &Scene, leg| {
        let phone = &scene.stage.phones[&leg];
        phone.got.iter().filter(|g| Some(g.header.payload_type) == phone.media.dtmf).count()
    };
    assert_eq!((digits(&scene, customer), digits(&scene, agent)), (54, 54), "each other's, all of them");
    for key in [5, 6, HASH, 10, 1, 15] {
        press(&mut scene.stage, first, key, 9);
    }
    assert_eq!((digits(&scene, customer), digits(&scene, agent)), (54, 54), "a supervisor's, none");
    assert_eq!((digits(&scene, first), digits(&scene, scene.second)), (0, 0));
    assert_eq!(scene.volume(), 6);
}

/// What is told is what came of a key.
#[test]
fn no_key_is_told_of() {
    let mut scene = scene();
    let first = scene.first;
    let known = scene.stage.events.len();
    for key in [HASH, 10, 1, 6, 4, 0] {
        press(&mut scene.stage, first, key, 9);
    }
    let told: Vec<_> = scene.stage.events[known..].iter().map(|e| e.what.name()).collect();
    assert_eq!(
        told,
        ["leg.changed", "supervisor.asked", "mode.changed", "mode.changed", "leg.left", "supervisor.left"]
    );
    let told = format!("{:?}", &scene.stage.events[known..]).to_lowercase();
    assert!(!["digit", "dtmf", "key", "press"].iter().any(|word| told.contains(word)), "{told}");
}

/// A phone that tells of a key by RTP and by INFO pressed it once.
#[test]
fn a_key_told_by_info_too_counts_once() {
    let mut scene = scene();
    let first = scene.first;
    press(&mut scene.stage, first, HASH, 3);
    scene.stage.command(Command::Press { leg: first, key: Key::Volume }).unwrap();
    assert_eq!(scene.volume(), 6);
    scene.stage.run(1500);
    scene.stage.command(Command::Press { leg: first, key: Key::Volume }).unwrap();
    assert_eq!(scene.volume(), 12);
}

#[test]
fn who_joins_is_told_with_their_mode_and_a_whisper_to_nobody_is_refused() {
    let mut stage = Stage::new(4);
    let media = support::media(sotto::media::codec::Codec::Pcmu, 4000);
    let spec = sotto::call::LegSpec {
        role: Role::Supervisor,
        place: Place::InConversation,
        mode: Mode::Whisper,
        address: "4711".into(),
        media,
    };
    assert!(matches!(stage.command(Command::AddLeg(spec)), Err(Refusal::NotPrivate(_))));
    assert!(stage.told("leg.joined").is_empty() && stage.told("call.answered").is_empty());
    stage.join_as(Role::Supervisor, Place::InConversation, Mode::Barge, sotto::media::codec::Codec::Pcma);
    assert!(stage.told("call.answered").is_empty(), "a listener answers nothing");
    let joined = stage.told("supervisor.joined");
    assert!(matches!(
        &joined[..],
        [Event { what: What::SupervisorJoined { mode: Mode::Barge, .. }, leg: Some(_), .. }]
    ));
    let speaker = Speaker::Leg(LegId(1));
    assert_eq!(stage.set_mode(speaker, Mode::Whisper).map(drop), Ok(()), "narrower is never refused");
    let audience = Audience::Legs(vec![LegId(1)]);
    assert!(stage.play(tones::beep(900.0, 100), audience).is_ok());
}
