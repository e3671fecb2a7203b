//! Recorded speech goes in frame by frame on a virtual clock, a scripted recogniser answers a third of a second later,
//! and advice comes out where it belongs.

#[path = "support/samples.rs"]
mod samples;
#[path = "scene/mod.rs"]
mod scene;

use samples::Sentence;
use scene::{leg, line, shipped};
use sotto::coach::Sensitivity;
use sotto::event::{Event, Mode, Role, What};
use sotto::id::{ClipId, PromptId};
use sotto::session::{Conversation, Input, Options, Output};
use sotto::speech::{Job, Recognised, Text};
use sotto::time::{MediaTime, Samples};

const FRAME: usize = 160;
/// How long the scripted recogniser takes.
const RECOGNITION: Samples = Samples::from_millis(300);
/// How long a whisper lasts.
const WHISPER: Samples = Samples::from_millis(2_500);

/// One of the sample calls with a conversation that listens to it.
struct Stage {
    conversation: Conversation,
    now: MediaTime,
    legs: [(Role, Vec<i16>, Vec<Sentence>); 2],
    /// What the recogniser will answer, and when.
    answers: Vec<(MediaTime, Recognised)>,
    /// Clips that play, and when they end.
    clips: Vec<(MediaTime, ClipId)>,
    clips_made: u32,
    /// What the call says to a whisper.
    accepts: Result<(), String>,
    /// By the edges told so far.
    agent_speaks: bool,
    /// Whether the recogniser has no words.
    fails: bool,
    spoken: Vec<(MediaTime, PromptId, String)>,
    events: Vec<Event>,
}

impl Stage {
    fn new(call: &str, ceiling: Mode) -> Self {
        let options = Options { playbook: shipped(), ceiling, sensitivity: Sensitivity::Standard };
        let manifest = samples::manifest();
        let part = |role: Role, name: &str| {
            let file = format!("{call}_{name}.wav");
            (role, samples::audio(&file), manifest.iter().filter(|s| s.file == file).cloned().collect())
        };
        let mut stage = Stage {
            conversation: Conversation::new(options),
            now: MediaTime::ZERO,
            legs: [part(Role::Customer, "customer"), part(Role::Agent, "agent")],
            answers: Vec::new(),
            clips: Vec::new(),
            clips_made: 0,
            accepts: Ok(()),
            agent_speaks: false,
            fails: false,
            spoken: Vec::new(),
            events: Vec::new(),
        };
        for role in [Role::Customer, Role::Agent] {
            stage.happens(Some(role), What::LegJoined { role, address: "sip:x@127.0.0.1".into() });
        }
        stage.happens(None, What::CallConnected {});
        stage
    }

    fn happens(&mut self, role: Option<Role>, what: What) {
        let event = Event { at: self.now, leg: role.map(leg), what };
        self.put(Input::Event(&event));
    }

    fn put(&mut self, input: Input<'_>) {
        self.conversation.handle(self.now, input);
        while let Some(output) = self.conversation.poll() {
            match output {
                Output::Event(event) => {
                    if let What::SpeechEdge { speaking, .. } = event.what
                        && event.leg == Some(leg(Role::Agent))
                    {
                        self.agent_speaks = speaking;
                    }
                    self.events.push(event);
                }
                Output::Recognise(job) => self.answers.push((self.now + RECOGNITION, self.recognise(&job))),
                Output::Prepare { prompt, .. } => {
                    self.conversation.handle(self.now, Input::Prepared { prompt, result: Ok(()) });
                }
                Output::Cut { .. } => panic!("a clip is cut"),
                Output::Speak { prompt, text, mode } => {
                    assert_eq!(mode, Mode::Whisper);
                    assert!(!self.agent_speaks, "nothing is whispered over the agent's words");
                    self.spoken.push((self.now, prompt, text.0.to_string()));
                }
            }
        }
    }

    /// The sentences whose middle lies in the job, as the script has them.
    fn recognise(&self, job: &Job) -> Recognised {
        let sentences = self.legs.iter().filter(|(role, ..)| *role == job.role).flat_map(|(.., s)| s);
        let (start, end) = (job.start.as_millis(), job.end.as_millis());
        let said = sentences.filter(|s| (start..end).contains(&((s.start + s.end) / 2)));
        let text = said.map(|s| s.text.as_str()).collect::<Vec<_>>().join(" ");
        let result = if self.fails { Err("it died".into()) } else { Ok(Text { text, confidence: 0.9 }) };
        Recognised { utterance: job.utterance, result }
    }

    /// The whole call, 20 ms after 20 ms.
    fn plays(&mut self) {
        let frames = self.legs.iter().map(|(_, pcm, _)| pcm.len() / FRAME).max().unwrap();
        for frame in 0..frames {
            self.step(frame);
        }
    }

    fn step(&mut self, frame: usize) {
        let at = MediaTime::from_millis(20 * frame as i64);
        self.now = at + Samples::FRAME;
        for i in 0..2 {
            let (role, pcm, _) = &self.legs[i];
            let (role, mut samples) = (*role, [0; FRAME]);
            let there = pcm.get(frame * FRAME..).unwrap_or_default();
            samples.iter_mut().zip(there).for_each(|(to, from)| *to = *from);
            self.put(Input::Heard { leg: leg(role), role, at, rate: sotto::media::pcm::Rate::Narrow, pcm: &samples });
        }
        if self.conversation.poll_timeout().is_some_and(|due| due <= self.now) {
            self.put(Input::Tick);
        }
        self.answer();
    }

    /// What recogniser and call have to say by now.
    fn answer(&mut self) {
        while let Some(place) = self.answers.iter().position(|(due, _)| *due <= self.now) {
            let (_, recognised) = self.answers.remove(place);
            self.put(Input::Recognised(recognised));
        }
        while let Some(place) = self.clips.iter().position(|(due, _)| *due <= self.now) {
            let (_, clip) = self.clips.remove(place);
            self.happens(None, What::ClipEnded { clip });
        }
        if let Some((_, prompt, _)) = self.spoken.get(self.clips_made as usize).cloned() {
            self.clips_made += 1;
            let clip = ClipId(self.clips_made);
            let result = self.accepts.clone().map(|()| clip);
            if result.is_ok() {
                self.clips.push((self.now + WHISPER, clip));
            }
            self.put(Input::Speaking { prompt, result });
        }
    }

    /// The call ends; the last words arrive.
    fn ends(&mut self) {
        self.happens(None, What::CallEnded { reason: "customer hung up".into() });
        while !self.answers.is_empty() {
            assert!(!self.conversation.is_idle(), "words are still to come");
            self.now = self.now + Samples::FRAME;
            self.answer();
        }
        assert!(self.conversation.is_idle());
        assert_eq!(self.conversation.poll_timeout(), None);
    }

    /// Moments and prompts as lines without their times.
    fn coaching(&self) -> Vec<String> {
        let ours = self.events.iter().filter(|e| !e.what.name().starts_with("speech."));
        ours.map(|e| line(e).split_once(' ').unwrap().1.to_owned()).collect()
    }

    fn transcript(&self, wanted: Role) -> String {
        let finals = self.events.iter().filter_map(|e| match &e.what {
            What::SpeechFinal { role, text, .. } if *role == wanted => Some(text.0.to_string()),
            _ => None,
        });
        finals.collect::<Vec<_>>().join(" ")
    }
}

#[test]
fn a_price_objection_in_recorded_speech_is_whispered_into_the_agents_silence() {
    let mut stage = Stage::new("call2_price_close", Mode::Whisper);
    stage.plays();
    let objection = stage.legs[0].2.iter().find(|s| s.text == "That is too expensive.").unwrap().clone();
    let (when, _, text) = stage.spoken.first().expect("something is whispered").clone();
    assert_eq!(text, "Ask what they compare it with before you talk price.");
    let after = when.as_millis() - objection.end;
    assert!((0..12_000).contains(&after), "{after} ms after the objection");
    stage.ends();
    assert_eq!(
        stage.coaching(),
        [
            "moment.detected moment-1 objection.price \"That is too expensive.\"",
            "prompt.offered prompt-1 for moment-1 \"Ask what they compare it with before you talk price.\" Whisper",
            "prompt.spoken prompt-1 clip-1",
            "moment.detected moment-2 compliance.missing \"\"",
            "prompt.offered prompt-2 for moment-2 \"Tell them now that this call is recorded.\" Whisper",
            "prompt.spoken prompt-2 clip-2",
        ]
    );
    assert!(stage.transcript(Role::Customer).starts_with("How much does the business plan cost?"));
    assert!(stage.transcript(Role::Agent).starts_with("Thank you for calling Bright Line"));
}

#[test]
fn a_rival_named_twice_in_a_row_is_advised_on_once() {
    let mut stage = Stage::new("call1_cold_competitor", Mode::Whisper);
    stage.plays();
    stage.ends();
    assert_eq!(
        stage.coaching(),
        [
            "moment.detected moment-1 compliance.met \"Please note that this call is recorded.\"",
            "moment.detected moment-2 mention.competitor \"We already use Northwind.\"",
            "prompt.offered prompt-1 for moment-2 \"Ask what they like about Northwind, and what they miss.\" Whisper",
            "prompt.spoken prompt-1 clip-1",
        ]
    );
}

#[test]
fn what_the_call_refuses_and_what_the_ceiling_forbids_is_shown() {
    let mut stage = Stage::new("call1_cold_competitor", Mode::Whisper);
    stage.accepts = Err("the coach has left this call".into());
    stage.plays();
    assert_eq!(stage.coaching().last().unwrap(), "prompt.shown prompt-1: the coach has left this call");
    let mut stage = Stage::new("call1_cold_competitor", Mode::Spy);
    stage.plays();
    assert_eq!(stage.coaching().last().unwrap(), "prompt.shown prompt-1: the ceiling is spy: nothing is spoken");
    assert!(stage.spoken.is_empty());
}

#[test]
fn the_same_words_from_the_agent_lead_to_nothing() {
    let mut stage = Stage::new("call2_price_close", Mode::Whisper);
    let [(_, customer, said), (_, agent, answered)] = stage.legs;
    stage.legs = [(Role::Customer, agent, answered), (Role::Agent, customer, said)];
    stage.plays();
    stage.ends();
    assert!(stage.transcript(Role::Agent).contains("That is too expensive."), "it was heard");
    let objections = stage.coaching().iter().filter(|line| line.contains("objection")).count();
    assert_eq!(objections, 0);
}

#[test]
fn a_recogniser_that_fails_leaves_gaps_and_an_end() {
    let mut stage = Stage::new("call2_price_close", Mode::Whisper);
    stage.fails = true;
    for frame in 0..600 {
        stage.step(frame);
    }
    stage.ends();
    let gaps: Vec<_> = stage.events.iter().filter(|e| matches!(e.what, What::SpeechGap { .. })).collect();
    assert!(!gaps.is_empty());
    assert!(stage.transcript(Role::Agent).is_empty());
}

#[test]
fn a_closed_coach_still_writes_down_what_was_said_before() {
    let mut stage = Stage::new("call2_price_close", Mode::Whisper);
    let end = stage.legs[0].2.iter().find(|s| s.text == "That is too expensive.").unwrap().end;
    for frame in 0..(end / 20) as usize {
        stage.step(frame);
    }
    stage.put(Input::Close);
    stage.ends();
    assert!(stage.transcript(Role::Customer).ends_with("That is too expensive."));
    assert!(stage.coaching().is_empty(), "{:?}", stage.coaching());
}
