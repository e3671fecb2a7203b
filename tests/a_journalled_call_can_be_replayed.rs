//! The journal holds what a replay needs: from its commands and its seed a call sends the same packets again, and from
//! its events alone the coach finds the same moments and says the same lines at the same times.

#[path = "support/samples.rs"]
mod samples;
#[path = "scene/mod.rs"]
mod scene;

use samples::Sentence;
use scene::shipped;
use sotto::call::{Audience, Call, CallOptions, ClipSpec, Command, LegMedia, LegSpec, Port, Shape, Speaker};
use sotto::coach::Sensitivity;
use sotto::event::{Actor, Event, Given, Mode, Place, Role, What};
use sotto::id::{ClipId, LegId, PromptId};
use sotto::media::codec::Codec;
use sotto::media::codec::g711::Law;
use sotto::media::rtp::Header;
use sotto::session::joined::{Output, Session};
use sotto::session::{self, Conversation, Input, Options};
use sotto::speech::{Job, Recognised, Text};
use sotto::time::{MediaTime, Samples};
use std::net::SocketAddr;

const CALL: &str = "call2_price_close";
const FRAME: usize = 160;
const CUSTOMER: LegId = LegId(1);
const AGENT: LegId = LegId(2);
/// How long the scripted recogniser and the scripted voice take.
const RECOGNITION: Samples = Samples::from_millis(310);
const VOICE: Samples = Samples::from_millis(45);

fn coach() -> Options {
    Options { playbook: shipped(), ceiling: Mode::Whisper, sensitivity: Sensitivity::Standard }
}

fn media(port: u16) -> LegMedia {
    let remote = SocketAddr::from(([127, 0, 0, 1], port));
    let shape = Shape::default();
    LegMedia { codec: Codec::Pcmu, payload_type: 0, dtmf: None, shape, remote, remote_rtcp: remote, send: true }
}

/// The two people of a sample call: when which of them sends which packet.
struct People {
    legs: [(LegId, Role, Vec<i16>, Vec<Sentence>); 2],
}

impl People {
    fn new() -> Self {
        let manifest = samples::manifest();
        let part = |leg, role, name: &str| {
            let file = format!("{CALL}_{name}.wav");
            let said = manifest.iter().filter(|s| s.file == file).cloned().collect();
            (leg, role, samples::audio(&file), said)
        };
        People { legs: [part(CUSTOMER, Role::Customer, "customer"), part(AGENT, Role::Agent, "agent")] }
    }

    fn frames(&self) -> usize {
        self.legs.iter().map(|(_, _, pcm, _)| pcm.len() / FRAME).max().unwrap()
    }

    /// Both packets of a frame: each leaves at a time of its own within the 20 ms.
    fn packets(&self, frame: usize) -> Vec<(MediaTime, LegId, Vec<u8>)> {
        let packet = |(leg, _, pcm, _): &(LegId, Role, Vec<i16>, Vec<Sentence>)| {
            let header = Header {
                marker: frame == 0,
                payload_type: 0,
                sequence: frame as u16,
                timestamp: (frame * FRAME) as u32,
                ssrc: leg.0,
            };
            let mut bytes = header.bytes().to_vec();
            let there = pcm.get(frame * FRAME..(frame + 1) * FRAME).unwrap_or(&[0; FRAME]);
            bytes.extend(there.iter().map(|s| Law::Mu.encode(*s)));
            (MediaTime::from_millis(20 * frame as i64 + 5 * i64::from(leg.0)), *leg, bytes)
        };
        self.legs.iter().map(packet).collect()
    }

    /// The sentences whose middle lies in the job.
    fn recognise(&self, job: &Job) -> Recognised {
        let (start, end) = (job.start.as_millis(), job.end.as_millis());
        let sentences = self.legs.iter().filter(|(_, role, ..)| *role == job.role).flat_map(|(.., s)| s);
        let said = sentences.filter(|s| (start..end).contains(&((s.start + s.end) / 2)));
        let text = said.map(|s| s.text.as_str()).collect::<Vec<_>>().join(" ");
        Recognised { utterance: job.utterance, result: Ok(Text { text, confidence: 0.9 }) }
    }
}

fn port(leg: LegId) -> u16 {
    4000 + 2 * leg.0 as u16
}

/// A datagram as it left: when, for whom, and its bytes.
type Sent = (MediaTime, LegId, Port, Vec<u8>);

/// What is to happen later: the recogniser's answers, and the voice of a prompt.
enum Later {
    Words(Recognised),
    Voice(PromptId),
    Person(Command),
}

/// The call as it was.
struct Live {
    session: Session,
    people: People,
    now: MediaTime,
    later: Vec<(MediaTime, Later)>,
    events: Vec<Event>,
    sent: Vec<Sent>,
}

impl Live {
    fn new(seed: u64) -> Self {
        let options = CallOptions {
            seed,
            caller: "a".into(),
            called: "b".into(),
            code: None,
            listen: true,
            record: true,
            ears: Default::default(),
        };
        let mut live = Live {
            session: Session::new(options, coach()),
            people: People::new(),
            now: MediaTime::ZERO,
            later: Vec::new(),
            events: Vec::new(),
            sent: Vec::new(),
        };
        live.drain();
        for role in [Role::Customer, Role::Agent] {
            let leg = LegId(if role == Role::Customer { 1 } else { 2 });
            let place = Place::InConversation;
            let spec = LegSpec { role, place, mode: Mode::Spy, address: "x".into(), media: media(port(leg)) };
            live.person(Command::AddLeg(spec));
        }
        live
    }

    fn person(&mut self, command: Command) {
        // What is refused is journalled too.
        let _ = self.session.command(self.now, command);
        self.drain();
    }

    fn drain(&mut self) {
        let (now, people, later) = (self.now, &self.people, &mut self.later);
        self.session.drain(now, |output| match output {
            Output::Send { leg, port, bytes, .. } => self.sent.push((now, leg, port, bytes.to_vec())),
            Output::Record { .. } => {}
            Output::Event(event) => self.events.push(event),
            Output::Recognise(job) => later.push((now + RECOGNITION, Later::Words(people.recognise(&job)))),
            Output::Voice { prompt, .. } => later.push((now + VOICE, Later::Voice(prompt))),
        });
    }

    fn until(&mut self, until: MediaTime) {
        while self.now < until {
            self.now = self.now + Samples::from_millis(1);
            while let Some(at) = self.later.iter().position(|(due, _)| *due <= self.now) {
                match self.later.remove(at).1 {
                    Later::Words(words) => self.session.recognised(self.now, words),
                    Later::Voice(prompt) => {
                        let pcm: Vec<i16> = (0..8000).map(|n| if n % 20 < 10 { 4000 } else { -4000 }).collect();
                        self.session.voiced(self.now, prompt, Ok(pcm.into()));
                    }
                    Later::Person(command) => drop(self.session.command(self.now, command)),
                }
                self.drain();
            }
            self.session.tick(self.now);
            self.drain();
        }
    }

    fn plays(&mut self) {
        for frame in 0..self.people.frames() {
            for (at, leg, bytes) in self.people.packets(frame) {
                self.until(at);
                self.session.packet(self.now, leg, Port::Rtp, ([127, 0, 0, 1], port(leg)).into(), &bytes);
                self.drain();
            }
        }
        self.until(self.now + Samples::from_millis(1));
        self.person(Command::End { reason: "customer hung up".into() });
        self.until(self.now + Samples::from_millis(1000));
        assert!(self.session.is_idle());
    }
}

/// What a person does meanwhile: some of it is refused.
fn people_act(live: &mut Live) {
    let coach = Speaker::Coach;
    let say = |audience| {
        Command::Play(ClipSpec { pcm: vec![900; 4000].into(), audience, looped: false, text: Some("hello".into()) })
    };
    let acts = [
        (1_000, say(Audience::Mode)),
        (2_500, Command::SetMode { speaker: coach, mode: Mode::Barge, by: Actor::Person }),
        (2_600, say(Audience::Mode)),
        (4_000, Command::SetMode { speaker: coach, mode: Mode::Spy, by: Actor::Person }),
        (5_000, say(Audience::Legs(vec![AGENT]))),
        (6_000, Command::SetPlace { leg: CUSTOMER, place: Place::Aside }),
        (6_200, Command::SetPlace { leg: CUSTOMER, place: Place::InConversation }),
        (7_000, Command::RemoveLeg { leg: LegId(9), reason: "nobody".into() }),
    ];
    live.later.extend(acts.map(|(ms, act)| (MediaTime::from_millis(ms), Later::Person(act))));
}

/// Journal and back: what is kept is text.
fn journalled(events: &[Event]) -> Vec<Event> {
    let kept = |event: &Event| serde_json::from_str(&serde_json::to_string(&event.what).unwrap()).unwrap();
    events.iter().map(|e| Event { at: e.at, leg: e.leg, what: kept(e) }).collect()
}

fn given(event: &Event) -> Option<&Given> {
    match &event.what {
        What::CommandGiven { command } => Some(command),
        _ => None,
    }
}

fn is_of_the_conversation(event: &Event) -> bool {
    let kind = event.what.name().split('.').next().unwrap_or_default();
    ["speech", "moment", "prompt", "coach"].contains(&kind)
}

#[test]
fn the_same_commands_and_packets_make_the_same_call() {
    let mut live = Live::new(0xFFFF_0123_4567_89AB);
    people_act(&mut live);
    live.plays();
    let journal = journalled(&live.events);

    let mut orders = journal.iter().filter_map(|e| Some((e.at, given(e)?)));
    let (_, open) = orders.next().unwrap();
    let options = CallOptions::from_given(open, &journal[0].what).unwrap();
    assert_eq!(options.seed, 0xFFFF_0123_4567_89AB);
    let commands: Vec<_> = orders.map(|(at, order)| (at, Command::from_given(order).unwrap())).collect();
    assert!(commands.len() >= 13, "legs, acts, whispers and the end: {}", commands.len());
    let (events, sent) = again(options, commands, &live.people);

    let of_the_call: Vec<_> = journal.into_iter().filter(|e| !is_of_the_conversation(e)).collect();
    assert_eq!(events, of_the_call);
    // Clips are journalled by their length alone: where one plays the headers are the same, the sound is not.
    let headers = |sent: &[Sent]| -> Vec<Sent> {
        sent.iter().map(|(at, leg, port, bytes)| (*at, *leg, *port, bytes[..12].to_vec())).collect()
    };
    for (now, then) in headers(&sent).iter().zip(&headers(&live.sent)) {
        assert_eq!(now, then);
    }
    assert_eq!(sent.len(), live.sent.len());
    let same = sent.iter().zip(&live.sent).filter(|(again, was)| again == was).count();
    assert!(same < sent.len() && same > sent.len() * 3 / 5, "{same} of {}", sent.len());
}

/// A call of its own: commands at their times, and the same packets.
fn again(options: CallOptions, commands: Vec<(MediaTime, Command)>, people: &People) -> (Vec<Event>, Vec<Sent>) {
    let (mut call, mut events, mut sent) = (Call::new(options), Vec::new(), Vec::new());
    let mut drain = |call: &mut Call, now: MediaTime| {
        while let Some(output) = call.poll() {
            match output {
                sotto::call::Output::Send { leg, port, bytes, .. } => sent.push((now, leg, port, bytes.to_vec())),
                sotto::call::Output::Event(event) => events.push(event),
                sotto::call::Output::Heard { .. }
                | sotto::call::Output::Record { .. }
                | sotto::call::Output::RecordLeg { .. } => {}
            }
        }
    };
    let mut packets = (0..people.frames()).flat_map(|frame| people.packets(frame)).peekable();
    let mut commands = commands.into_iter().peekable();
    let mut now = MediaTime::ZERO;
    while commands.peek().is_some() {
        // In the order in which the live call had them: what was due, the tick, then what arrived.
        while let Some((_, command)) = commands.next_if(|(at, _)| *at <= now) {
            let _ = call.command(now, command);
            drain(&mut call, now);
        }
        if call.poll_timeout().is_some_and(|due| due <= now) {
            call.tick(now);
            drain(&mut call, now);
        }
        while let Some((_, leg, bytes)) = packets.next_if(|(at, ..)| *at <= now) {
            call.packet(now, leg, Port::Rtp, ([127, 0, 0, 1], port(leg)).into(), &bytes);
            drain(&mut call, now);
        }
        now = now + Samples::from_millis(1);
    }
    (events, sent)
}

#[test]
fn the_journal_alone_leads_to_the_same_advice() {
    let mut live = Live::new(7);
    live.plays();
    let journal = journalled(&live.events);
    let opened = journal.iter().find(|e| e.what.name() == "coach.opened").unwrap();
    let What::CoachOpened { playbook, digest, .. } = &opened.what else { unreachable!() };
    assert_eq!((playbook.as_str(), digest.as_str()), ("sales-discovery", &*shipped().digest));
    assert!(digest.len() == 71 && digest.starts_with("sha256:"), "{digest}");

    let mut told = Vec::new();
    let mut conversation = Conversation::new(coach());
    let (mut now, mut speaks, mut clips) = (MediaTime::ZERO, None, 0);
    for event in &journal {
        let due = match event.what {
            What::SpeechEdge { known, .. } => known,
            _ => event.at,
        };
        while let Some(tick) = conversation.poll_timeout().filter(|tick| *tick < due) {
            now = now.max(tick);
            conversation.handle(now, Input::Tick);
            drain(now, &mut conversation, &mut told, &mut speaks);
        }
        now = now.max(due);
        if given(event).is_some_and(|g| g.0["do"] == "play") {
            clips += 1;
            let prompt = speaks.take().expect("the replay has come to say it too");
            conversation.handle(now, Input::Speaking { prompt, result: Ok(ClipId(clips)) });
        }
        match event.what.name().split('.').next().unwrap() {
            // These are what the replay is to find.
            "moment" | "prompt" | "coach" => {}
            _ => conversation.handle(now, Input::Event(event)),
        }
        drain(now, &mut conversation, &mut told, &mut speaks);
    }
    let advice = journal.into_iter().filter(is_of_the_conversation);
    let advice: Vec<_> = advice.filter(|e| !e.what.name().starts_with("speech.")).collect();
    assert!(advice.iter().filter(|e| e.what.name() == "prompt.spoken").count() >= 2);
    assert_eq!(told, advice);
}

fn drain(now: MediaTime, conversation: &mut Conversation, told: &mut Vec<Event>, speaks: &mut Option<PromptId>) {
    while let Some(output) = conversation.poll() {
        match output {
            session::Output::Event(event) => told.push(event),
            session::Output::Speak { prompt, .. } => *speaks = Some(prompt),
            session::Output::Recognise(_) => panic!("no audio went in"),
            session::Output::Cut { .. } => panic!("nothing is cut"),
            session::Output::Prepare { prompt, .. } => {
                let result = Ok(());
                conversation.handle(now, Input::Prepared { prompt, result });
            }
        }
    }
}
