//! Taking over: the agent is aside, the supervisor is the agent until they give back, and nothing that was whispered
//! before reaches the customer; the customer's line never stops. Every way of listening is told with its length.

mod support;

use sotto::call::{Ack, Audience, Command, Key, LegSpec, May, Refusal, Rights, Speaker, Supervising, Unagreed};
use sotto::event::{Event, Listened, Mode, Place, Role, What};
use sotto::id::LegId;
use sotto::media::codec::Codec;
use support::{Stage, tones};

const CUSTOMER: f64 = 500.0;
const AGENT: f64 = 700.0;
const FIRST: f64 = 1100.0;
const SECOND: f64 = 1500.0;
const CLIP: f64 = 2500.0;
/// What a refused key is answered with.
const LOW: f64 = 250.0;

struct Scene {
    stage: Stage,
    customer: LegId,
    agent: LegId,
    first: LegId,
    second: LegId,
}

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
    fn press(&mut self, leg: LegId, event: u8) {
        self.stage.command(Command::Press { leg, key: Key::of_event(event).unwrap() }).unwrap();
    }

    /// Who hears whom now: customer, agent, first, second.
    fn hear(&mut self) -> [String; 4] {
        self.stage.run(700);
        [self.customer, self.agent, self.first, self.second].map(|leg| {
            let sound = self.stage.sounds(leg, 300);
            let tones = [(CUSTOMER, 'c'), (AGENT, 'a'), (FIRST, '1'), (SECOND, '2'), (LOW, '!')];
            tones.iter().filter(|(hz, _)| tones::hears(&sound, *hz)).map(|(_, name)| *name).collect()
        })
    }

    fn left(&self) -> Vec<&What> {
        let left = |e: &&Event| matches!(e.what, What::SupervisorLeft { .. });
        self.stage.events.iter().filter(left).map(|e| &e.what).collect()
    }
}

#[test]
fn the_supervisor_is_the_agent_until_they_give_back() {
    let mut scene = scene();
    let (agent, first, second) = (scene.agent, scene.first, scene.second);
    assert_eq!(scene.hear(), ["a", "c", "ca", "ca"]);
    scene.press(second, 5);
    assert_eq!(scene.hear(), ["a", "c2", "ca2", "ca"]);
    scene.press(first, 7);
    // The second whispers to whoever is the agent.
    assert_eq!(scene.hear(), ["1", "", "c2", "c1"]);
    let took = scene.stage.told("supervisor.took_over");
    assert!(matches!(&took[..], [Event { leg: Some(l), what: What::SupervisorTookOver { aside }, .. }]
        if *l == first && *aside == [agent]));
    // Somebody stands in already; modes are for supervisors; nobody leaves the customer for the next call.
    for (leg, key) in [(second, 7), (first, 6), (first, 10)] {
        scene.press(leg, key);
        scene.stage.run(250);
        assert!(tones::hears(&scene.stage.sounds(leg, 150), LOW), "{leg} pressed {key}");
    }
    assert!(scene.stage.told("supervisor.asked").is_empty());
    star(&mut scene.stage, first, None);
    assert_eq!(scene.hear(), ["1", "", "c2", "c1"]);
    let digits = |leg| scene.stage.phones[&leg].got.iter().filter(|g| g.header.payload_type == 101).count();
    assert_eq!((digits(scene.customer), digits(agent)), (0, 0), "a supervisor's keys dial nothing");
    scene.press(first, 7);
    assert_eq!(scene.hear(), ["a", "c2", "ca2", "ca"]);
    let back = scene.stage.told("supervisor.gave_back");
    assert!(matches!(&back[..], [Event { leg: Some(l), what: What::SupervisorGaveBack { back }, .. }]
        if *l == first && *back == [agent]));
}

/// What was on its way when the key was pressed was for the agent's ear; the customer's line goes on meanwhile.
#[test]
fn the_tail_of_a_whisper_is_not_let_out_and_the_customer_hears_no_gap() {
    let mut scene = scene();
    let (first, customer) = (scene.first, scene.customer);
    scene.stage.set_mode(Speaker::Leg(first), Mode::Whisper).unwrap();
    scene.stage.set_mode(Speaker::Coach, Mode::Whisper).unwrap();
    scene.stage.run(600);
    scene.stage.play(tones::beep(CLIP, 3000), Audience::Mode).unwrap();
    scene.stage.run(400);
    let before = scene.stage.phones[&customer].got.len();
    scene.press(first, 7);
    scene.stage.run(200);
    assert!(!tones::hears(&scene.stage.sounds(customer, 180), FIRST), "muted for 200 ms");
    scene.stage.run(600);
    assert!(tones::hears(&scene.stage.sounds(customer, 300), FIRST));
    // The coach's whisper was for those it was begun for: neither the customer nor the new agent hears the rest of it.
    for leg in [customer, first, scene.agent] {
        assert!(!tones::hears(&scene.stage.sounds(leg, 300), CLIP), "{leg}");
    }
    assert!(tones::hears(&scene.stage.sounds(scene.second, 300), CLIP), "a supervisor heard it from its beginning");
    let got = &scene.stage.phones[&customer].got[before..];
    assert!(got.len() >= 38, "{} packets in 800 ms", got.len());
    for pair in got.windows(2) {
        assert_eq!(pair[1].header.sequence, pair[0].header.sequence.wrapping_add(1));
        assert!((pair[1].at - pair[0].at).as_millis() <= 45, "a hole of {:?}", pair[1].at - pair[0].at);
    }
}

/// The one who talks to the customer is the agent in the recording and in the transcript.
#[test]
fn what_the_stand_in_says_is_the_agents_side() {
    let mut scene = scene();
    let first = scene.first;
    scene.press(first, 7);
    scene.stage.run(800);
    let said: Vec<i16> = scene.stage.recorded.iter().rev().take(15).flat_map(|r| r.agent.iter().copied()).collect();
    assert!(tones::hears(&said, FIRST) && !tones::hears(&said, AGENT));
    assert!(scene.stage.heard[&first].len() > 10, "the ears hear them");
    let heard = scene.stage.heard[&first].len();
    scene.press(first, 7);
    scene.stage.run(800);
    assert!(scene.stage.heard[&first].len() <= heard + 1, "a supervisor is not listened to");
}

#[test]
fn whoever_leaves_having_taken_over_has_given_back() {
    let mut scene = scene();
    let first = scene.first;
    scene.press(first, 7);
    scene.stage.run(1000);
    scene.press(first, 0);
    let told: Vec<_> = scene.stage.events.iter().rev().take(6).map(|e| e.what.name()).collect();
    assert!(told.contains(&"supervisor.gave_back") && told.contains(&"supervisor.left"), "{told:?}");
    let (customer, agent) = (scene.customer, scene.agent);
    scene.stage.run(700);
    assert!(tones::hears(&scene.stage.sounds(customer, 300), AGENT));
    assert!(tones::hears(&scene.stage.sounds(agent, 300), CUSTOMER));
}

#[test]
fn without_an_agent_there_is_nothing_to_take_over_or_give_back() {
    let mut scene = scene();
    let (agent, first) = (scene.agent, scene.first);
    assert!(matches!(scene.stage.command(Command::GiveBack { leg: first }), Err(Refusal::NotNow(_))));
    assert_eq!(scene.stage.command(Command::TakeOver { leg: agent }), Err(Refusal::NotASupervisor(agent)));
    scene.stage.command(Command::TakeOver { leg: first }).unwrap();
    scene.stage.command(Command::RemoveLeg { leg: agent, reason: "hung up".into() }).unwrap();
    assert!(matches!(scene.stage.command(Command::GiveBack { leg: first }), Err(Refusal::NotNow(_))));
    assert_eq!(scene.hear()[0], "1", "the customer is not left alone");
    let mut stage = Stage::new(1);
    let supervisor = stage.join(Role::Supervisor);
    assert!(matches!(stage.command(Command::TakeOver { leg: supervisor }), Err(Refusal::NotNow(_))));
}

fn supervising(may: May, mode: Mode, port: u16) -> Command {
    let (address, media) = ("4711".into(), support::media(Codec::Pcmu, port));
    Command::Supervise(Supervising {
        address,
        mode,
        rights: Rights { may, unagreed: Unagreed::All },
        media,
        onward: None,
    })
}

/// Who may only listen is told so by a tone, and goes on listening.
#[test]
fn what_the_rules_forbid_is_refused_with_a_tone() {
    let mut stage = Stage::new(5);
    let [_customer, _agent] = [Role::Customer, Role::Agent].map(|role| stage.join(role));
    let none = May::default();
    for mode in [Mode::Whisper, Mode::Barge] {
        assert!(matches!(stage.command(supervising(none, mode, 4100)), Err(Refusal::NotPermitted(_))));
    }
    let Ok(Ack::Leg(leg)) = stage.command(supervising(none, Mode::Spy, 4100)) else { panic!("refused") };
    for (command, what) in [
        (Command::TakeOver { leg }, "take over"),
        (
            Command::SetMode { speaker: Speaker::Leg(leg), mode: Mode::Barge, by: sotto::event::Actor::Person },
            "be heard by all",
        ),
    ] {
        assert_eq!(stage.command(command), Err(Refusal::NotPermitted(what)));
    }
    for key in [5, 6, 7] {
        stage.run(2000);
        stage.command(Command::Press { leg, key: Key::of_event(key).unwrap() }).unwrap();
        stage.run(20);
        let tone = stage.told("clip.started").len();
        assert!(tone > 0, "{key}");
    }
    assert_eq!(stage.told("clip.started").len(), 3);
    assert!(stage.told("mode.changed").is_empty() && stage.told("supervisor.left").is_empty());
}

/// Who listened to whom, and for how long in each way.
#[test]
fn the_length_of_every_way_of_listening_is_told() {
    let mut stage = Stage::new(6);
    let media = support::media(Codec::Pcmu, 4000);
    let spec = |role, address: &str, port| LegSpec {
        role,
        place: Place::InConversation,
        mode: Mode::Spy,
        address: address.into(),
        media: support::media(media.codec, port),
    };
    stage.command(Command::AddLeg(spec(Role::Customer, "customer", 4000))).unwrap();
    stage.command(Command::AddLeg(spec(Role::Agent, "sip:anna@pbx", 4002))).unwrap();
    let Ok(Ack::Leg(leg)) = stage.command(supervising(May::ALL, Mode::Spy, 4004)) else { panic!("refused") };
    for (key, ms) in [(5, 1000), (6, 2000), (7, 400), (7, 3000), (4, 500)] {
        stage.run(ms);
        stage.command(Command::Press { leg, key: Key::of_event(key).unwrap() }).unwrap();
    }
    stage.run(100);
    stage.command(Command::Press { leg, key: Key::Leave }).unwrap();
    let joined = stage.told("supervisor.joined");
    assert!(matches!(&joined[..], [Event { what: What::SupervisorJoined { who, whom, .. }, .. }]
        if *who == "4711".into() && *whom == ["sip:anna@pbx".into()]));
    let scene = Scene { stage, customer: leg, agent: leg, first: leg, second: leg };
    let [What::SupervisorLeft { who, whom, listened, .. }] = &scene.left()[..] else { panic!("{:?}", scene.left()) };
    assert_eq!((who, &whom[..]), (&"4711".into(), &["sip:anna@pbx".into()][..]));
    let expected = Listened { spy_ms: 1600, whisper_ms: 2000, barge_ms: 400, took_over_ms: 3000 };
    assert_eq!(*listened, expected);
    let text = serde_json::to_value(scene.left()[0]).unwrap();
    assert_eq!(text["data"]["listened"]["took_over_ms"], 3000);
}

/// What is told to a supervisor is for them alone, and over with their first key.
#[test]
fn what_is_told_is_cut_by_the_first_key() {
    let mut scene = scene();
    let first = scene.first;
    let tell = |scene: &mut Scene| {
        let pcm = tones::beep(CLIP, 2000).into();
        scene.stage.command(Command::Tell { leg: first, pcm, text: "You hear Anna.".into() }).unwrap();
    };
    tell(&mut scene);
    scene.stage.run(500);
    let hears = |scene: &Scene, leg| tones::hears(&scene.stage.sounds(leg, 200), CLIP);
    assert!(hears(&scene, first));
    let others = [scene.customer, scene.agent, scene.second];
    assert!(others.iter().all(|l| !hears(&scene, *l)));
    let second = scene.second;
    scene.press(second, 11);
    scene.stage.run(300);
    assert!(hears(&scene, first), "somebody else's key");
    scene.press(first, 11);
    scene.stage.run(300);
    assert!(!hears(&scene, first));
    assert_eq!(scene.stage.told("clip.cut").len(), 1);
    // A coach that has left keeps nobody from being told.
    scene.stage.command(Command::Close).unwrap();
    tell(&mut scene);
    scene.stage.run(500);
    assert!(hears(&scene, first));
}

/// Three packets of `*` that began now, or then; answers when.
fn star(stage: &mut Stage, leg: LegId, began: Option<u32>) -> u32 {
    let voice = stage.phone(leg).header;
    let began = began.unwrap_or(voice.timestamp);
    for _ in 0..3 {
        let header = &mut stage.phone(leg).header;
        (header.payload_type, header.timestamp) = (101, began);
        stage.send(leg, &[10, 10, 0, 160]);
    }
    let header = &mut stage.phone(leg).header;
    (header.payload_type, header.timestamp) = (voice.payload_type, voice.timestamp);
    began
}

/// The same line in another call: numbers and time go on, the rest of the press counts in neither, and who arrives is
/// heard by nobody.
#[test]
fn a_line_goes_on_in_the_next_call() {
    let mut scene = scene();
    let first = scene.first;
    let began = star(&mut scene.stage, first, None);
    assert_eq!(scene.stage.told("supervisor.asked").len(), 1);
    scene.stage.set_mode(Speaker::Leg(first), Mode::Barge).unwrap();
    let last = scene.stage.phones[&first].got.last().unwrap().header;
    let moved = scene.stage.command(Command::MoveOn { leg: first, reason: "went on".into() });
    let Ok(Ack::Onward(onward)) = moved else { panic!("{moved:?}") };
    assert!(scene.stage.phones[&first].reports.is_empty(), "no goodbye is sent on a line that goes on");
    assert!(matches!(scene.left()[..], [What::SupervisorLeft { mode: Mode::Barge, .. }]));
    // What the journal keeps of it is enough.
    let kept = serde_json::from_str(&serde_json::to_string(&onward).unwrap()).unwrap();
    assert_eq!(onward, kept);
    let mut next = Stage::new(99);
    next.join(Role::Customer);
    next.join(Role::Agent);
    next.run(5000);
    let media = support::media(Codec::Pcmu, 4004);
    let onward = Some(kept.after(sotto::time::Samples::from_millis(40)));
    let leg =
        next.join_supervisor(Supervising { address: "x".into(), mode: Mode::Spy, rights: Rights::ALL, media, onward });
    star(&mut next, leg, Some(began));
    next.command(Command::Press { leg, key: Key::Next }).unwrap();
    assert!(next.told("supervisor.asked").is_empty(), "the same press");
    star(&mut next, leg, Some(began + 8000));
    assert_eq!(next.told("supervisor.asked").len(), 1, "another");
    next.run(60);
    let got = next.phones[&leg].got.first().unwrap().header;
    assert_eq!((got.ssrc, got.sequence), (last.ssrc, last.sequence.wrapping_add(1)));
    let passed = got.timestamp.wrapping_sub(last.timestamp) / 8;
    assert!((40..=120).contains(&passed), "{passed} ms");
}
