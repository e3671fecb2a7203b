//! Beside a conference whispers are heard on the agent's private line alone, and there only once the code said on it was keyed in
//! on it, for as long as nothing said on it comes back from the conference (DESIGN §2.4).

mod support;

use sotto::call::{Ack, Audience, Code, Command, Digit, LegMedia, Refusal, Speaker};
use sotto::event::{Mode, Place, Role};
use sotto::id::LegId;
use sotto::media::codec::Codec;
use support::{Stage, media, tones};

const WHISPER: f64 = 1100.0;

struct Scene {
    stage: Stage,
    bridge: LegId,
    ear: LegId,
    supervisor: LegId,
}

fn scene() -> Scene {
    let mut stage = Stage::new(7);
    let bridge = stage.join_as(Role::Bridge, Place::InConversation, Mode::Spy, Codec::Pcmu);
    let ear = stage.join_as(Role::Earpiece, Place::Aside, Mode::Spy, Codec::Pcmu);
    let supervisor = stage.join(Role::Supervisor);
    stage.phone(supervisor).sound = tones::tone(WHISPER);
    stage.run(200);
    Scene { stage, bridge, ear, supervisor }
}

impl Scene {
    fn ask(&mut self, code: &str) -> Result<Ack, Refusal> {
        let command = Command::Pair { leg: self.ear, code: Code::read(code).unwrap() };
        self.stage.command(command)
    }
    /// By telephone events and by INFO in turn, as telephones differ.
    fn key(&mut self, leg: LegId, digits: &str) {
        for (n, digit) in digits.chars().enumerate() {
            let digit = Digit::of_char(digit).unwrap();
            match n % 2 {
                0 => self.press(leg, digit.event()),
                _ => drop(self.stage.command(Command::KeyIn { leg, digit }).unwrap()),
            }
            self.stage.run(100);
        }
    }
    fn press(&mut self, leg: LegId, event: u8) {
        let voice = self.stage.phones[&leg].header;
        self.stage.phone(leg).speaks = false;
        for n in 1..=6u16 {
            let header = &mut self.stage.phone(leg).header;
            (header.payload_type, header.marker, header.timestamp) = (101, n == 1, voice.timestamp);
            let [high, low] = (n * 160).to_be_bytes();
            self.stage.send(leg, &[event, if n > 3 { 0x8A } else { 0x0A }, high, low]);
            self.stage.run(20);
        }
        let phone = self.stage.phone(leg);
        (phone.header.payload_type, phone.header.marker) = (voice.payload_type, false);
        phone.header.timestamp = voice.timestamp.wrapping_add(960);
        phone.speaks = true;
    }
    fn whispers(&mut self) -> Result<(), Refusal> {
        self.stage.set_mode(Speaker::Leg(self.supervisor), Mode::Spy).unwrap();
        self.stage.set_mode(Speaker::Leg(self.supervisor), Mode::Whisper).map(drop)
    }
    fn hears(&mut self, leg: LegId) -> bool {
        self.stage.run(600);
        tones::hears(&self.stage.sounds(leg, 300), WHISPER)
    }
    fn place(&mut self) -> Place {
        let ear = self.ear;
        self.stage.view().legs.iter().find(|l| l.id == ear).unwrap().place
    }
}

/// Three seconds of noise that comes and goes as syllables do.
fn speech() -> Vec<i16> {
    let mut state = 1u32;
    let noise = |n: usize| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let loud = (n as f32 * std::f32::consts::TAU * 4.0 / 8_000.0).sin().max(0.0);
        ((state >> 16) as i16 as f32 * 0.2 * loud) as i16
    };
    (0..24_000).map(noise).collect()
}

fn unverified() -> Refusal {
    Refusal::NotPrivate("the agent's private line is not verified")
}

#[test]
fn nothing_is_whispered_until_the_right_code_came_from_that_line() {
    let mut scene = scene();
    assert_eq!(scene.whispers(), Err(unverified()));
    scene.ask("4711").unwrap();
    assert_eq!(scene.whispers(), Err(unverified()));
    let (bridge, ear) = (scene.bridge, scene.ear);
    scene.key(bridge, "4711");
    assert_eq!((scene.place(), scene.whispers()), (Place::Aside, Err(unverified())), "the conference keyed it in");
    scene.key(ear, "471");
    assert_eq!(scene.place(), Place::Aside);
    scene.key(ear, "2");
    assert_eq!(scene.stage.told("earpiece.refused").len(), 1);
    scene.key(ear, "4711");
    assert_eq!(scene.place(), Place::Aside, "one try for each question");
    scene.ask("0815").unwrap();
    scene.key(ear, "0815");
    assert_eq!((scene.place(), scene.whispers()), (Place::InConversation, Ok(())));
    assert_eq!(scene.stage.told("earpiece.verified").len(), 1);
    assert!(scene.hears(ear) && !scene.hears(bridge));
    let events = format!("{:?}", scene.stage.told("command.given"));
    assert!(!events.contains("0815") && !events.contains("4711"));
}

/// DESIGN §2.6: whoever is at that line now has not been asked.
#[test]
fn another_far_end_is_asked_anew() {
    let mut scene = scene();
    scene.ask("0815").unwrap();
    let ear = scene.ear;
    scene.key(ear, "0815");
    scene.whispers().unwrap();
    assert!(scene.hears(ear));
    let moved = LegMedia { ..media(Codec::Pcmu, 9_200) };
    scene.stage.command(Command::SetMedia { leg: ear, media: moved }).unwrap();
    (scene.stage.phone(ear).media, scene.stage.phone(ear).from) = (moved, moved.remote);
    assert_eq!(scene.place(), Place::Aside);
    assert_eq!(scene.stage.told("earpiece.refused").len(), 1);
    assert!(!scene.hears(ear));
    scene.ask("1234").unwrap();
    scene.key(ear, "1234");
    assert!(scene.hears(ear), "the whisper goes on when it is proven again");
}

/// A telephone system that plays the private line to the conference.
#[test]
fn a_line_that_the_conference_hears_is_no_earpiece() {
    for delay in [3usize, 9, 14, 30] {
        let mut scene = scene();
        let (bridge, ear) = (scene.bridge, scene.ear);
        scene.ask("0815").unwrap();
        scene.stage.play(speech(), Audience::Legs(vec![ear])).unwrap();
        let mut line: std::collections::VecDeque<Vec<i16>> = (0..delay).map(|_| vec![0; 160]).collect();
        for _ in 0..220 {
            scene.stage.run(20);
            line.push_back(scene.stage.sounds(ear, 20));
            let late: Vec<i16> = line.pop_front().unwrap_or_default().iter().map(|s| s / 2).collect();
            scene.stage.phone(bridge).sound = Box::new(move |n| late.get((n % 160) as usize).copied().unwrap_or(0));
        }
        let reasons = format!("{:?}", scene.stage.told("earpiece.refused"));
        assert!(reasons.contains("is heard in the conversation"), "{delay}: {reasons}");
        scene.key(ear, "0815");
        assert_eq!(scene.place(), Place::Aside);
        assert!(matches!(scene.ask("0815"), Err(Refusal::NotPrivate(_))), "and it never will be");
    }
}

/// A PIN goes out as telephone events whose packets a conference takes for one press each (RFC 4733 §2.5).
#[test]
fn keys_that_are_pressed_are_whole_events() {
    let mut scene = scene();
    let bridge = scene.bridge;
    let before = scene.stage.phones[&bridge].got.len();
    for digit in ['4', '#'] {
        let digit = Digit::of_char(digit).unwrap();
        scene.stage.command(Command::Dial { leg: bridge, digit }).unwrap();
        assert!(scene.stage.command(Command::Dial { leg: bridge, digit }).is_err(), "one at a time");
        scene.stage.run(240);
    }
    let got = &scene.stage.phones[&bridge].got[before..];
    let events: Vec<_> = got.iter().filter(|g| g.header.payload_type == 101).collect();
    for (n, code) in [4, 11].into_iter().enumerate() {
        let press = &events[n * 7..(n + 1) * 7];
        assert!(press.iter().all(|g| g.payload[0] == code && g.header.timestamp == press[0].header.timestamp));
        let marks: Vec<bool> = press.iter().map(|g| g.header.marker).collect();
        assert_eq!(marks, [true, false, false, false, false, false, false]);
        let told: Vec<_> =
            press.iter().map(|g| (g.payload[1] >> 7, u16::from_be_bytes([g.payload[2], g.payload[3]]))).collect();
        assert_eq!(told, [(0, 160), (0, 320), (0, 480), (0, 640), (1, 800), (1, 800), (1, 800)]);
    }
    assert_eq!(events.len(), 14);
    let sequence: Vec<u16> = got.windows(2).map(|g| g[1].header.sequence.wrapping_sub(g[0].header.sequence)).collect();
    assert!(sequence.iter().all(|step| *step == 1), "no number is used twice or missing: {sequence:?}");
    let ear = scene.ear;
    scene.stage.phone(ear).media.dtmf = None;
    let moved = LegMedia { dtmf: None, ..media(Codec::Pcmu, 9_300) };
    scene.stage.command(Command::SetMedia { leg: ear, media: moved }).unwrap();
    let digit = Digit::of_char('1').unwrap();
    assert!(matches!(scene.stage.command(Command::Dial { leg: ear, digit }), Err(Refusal::NotNow(_))));
}

/// What comes over the bridge is written down as one voice, and a trunk that offers only what was proven keeps to it.
#[test]
fn a_bridge_is_listened_to_and_proven_modes_alone_are_offered() {
    let mut scene = scene();
    let bridge = scene.bridge;
    scene.stage.phone(bridge).sound = tones::tone(700.0);
    scene.stage.run(1_000);
    let heard: Vec<i16> = scene.stage.heard[&bridge].iter().flat_map(|(_, pcm, _)| pcm.clone()).collect();
    assert!(tones::hears(&heard[heard.len() - 2_000..], 700.0));
    assert!(scene.stage.view().legs[0].last_sound.is_some_and(|at| (scene.stage.now - at).as_millis() < 200));
    assert_eq!(scene.stage.told("call.connected").len(), 1, "a bridge stands for everyone in it");
    let proven = sotto::call::Proven { whisper: Some("never probed".into()), barge: None };
    scene.stage.command(Command::Prove(proven)).unwrap();
    assert_eq!(scene.whispers(), Err(Refusal::Unproven("never probed".into())));
    assert!(scene.stage.set_mode(Speaker::Leg(scene.supervisor), Mode::Barge).is_ok());
    let none = sotto::call::Proven { whisper: None, barge: Some("nor this".into()) };
    scene.stage.command(Command::Prove(none)).unwrap();
    assert_eq!(scene.stage.set_mode(Speaker::Coach, Mode::Barge), Err(Refusal::Unproven("nor this".into())));
    assert!(scene.whispers().is_err(), "a further trunk never widens it");
}
