//! A call told by its events, on a virtual clock, for a coach to listen to.
#![allow(dead_code, reason = "every test uses its own part")]

use sotto::coach::{Coach, Output, Playbook, Sensitivity};
use sotto::config::Config;
use sotto::event::{Event, Mode, Role, What};
use sotto::id::{ClipId, LegId, PromptId, UtteranceId};
use sotto::time::{MediaTime, Samples};
use std::path::Path;
use std::sync::Arc;

/// The playbook that is shipped.
pub fn shipped() -> Arc<Playbook> {
    let config = Config::load(Path::new("config/sotto.toml"), std::iter::empty());
    config.unwrap_or_else(|errors| panic!("{errors}")).playbooks["sales-discovery"].clone()
}

/// Each role's leg.
pub fn leg(role: Role) -> LegId {
    LegId(role as u32 + 1)
}

/// A coach, the time, and everything it said so far.
pub struct Scene {
    pub coach: Coach,
    pub now: MediaTime,
    pub events: Vec<Event>,
    pub whispers: Vec<(PromptId, String)>,
    utterances: u32,
}

impl Scene {
    /// A call that is just connected, under the shipped playbook.
    pub fn shipped() -> Self {
        Scene::new(shipped(), Mode::Whisper, Sensitivity::Standard)
    }

    pub fn new(playbook: Arc<Playbook>, ceiling: Mode, sensitivity: Sensitivity) -> Self {
        let mut scene = Scene {
            coach: Coach::new(playbook, ceiling, sensitivity),
            now: MediaTime::ZERO,
            events: Vec::new(),
            whispers: Vec::new(),
            utterances: 0,
        };
        for role in [Role::Customer, Role::Agent] {
            let what = What::LegJoined { role, address: "sip:x@127.0.0.1".into() };
            scene.tell(Some(leg(role)), what);
        }
        scene.tell(None, What::CallConnected {});
        scene
    }

    /// Something happens now.
    pub fn tell(&mut self, leg: Option<LegId>, what: What) {
        self.coach.handle(self.now, &Event { at: self.now, leg, what });
        self.drain();
    }

    /// A role begins or stops speaking.
    pub fn speaking(&mut self, role: Role, speaking: bool) {
        self.tell(Some(leg(role)), What::SpeechEdge { speaking, known: self.now });
    }

    /// A role speaks for a second; the words are there a quarter of a second later.
    pub fn says(&mut self, role: Role, text: &str) {
        self.speaking(role, true);
        self.wait(1000);
        self.speaking(role, false);
        let end = self.now;
        self.wait(250);
        self.words(role, text, end);
    }

    /// The words of something said until `end` arrive.
    pub fn words(&mut self, role: Role, text: &str, end: MediaTime) {
        self.utterances += 1;
        let what = What::SpeechFinal {
            utterance: UtteranceId(self.utterances),
            role,
            start: end - Samples::from_millis(1000),
            end,
            text: text.into(),
            confidence: 0.9,
        };
        self.tell(Some(leg(role)), what);
    }

    /// Time passes; the coach wakes exactly when it asked to.
    pub fn wait(&mut self, millis: i64) {
        let until = self.now + Samples::from_millis(millis);
        while let Some(due) = self.coach.poll_timeout().filter(|due| *due <= until) {
            assert!(due > self.now || self.now == due, "a timeout lies in the past");
            self.now = due.max(self.now);
            self.coach.tick(self.now);
            self.drain();
            assert!(self.coach.poll_timeout() != Some(due), "a timeout that is dealt with moves on");
        }
        self.now = until;
    }

    /// The call takes a prompt as a clip, or refuses it.
    pub fn accepts(&mut self, prompt: PromptId, result: Result<ClipId, &str>) {
        self.coach.spoken_as(self.now, prompt, result.map_err(str::to_owned));
        self.drain();
    }

    /// The last whisper is taken as `clip` and heard to its end.
    pub fn hears_whisper(&mut self, clip: u32) {
        let prompt = self.whispers.last().expect("something is whispered").0;
        self.accepts(prompt, Ok(ClipId(clip)));
        self.wait(1500);
        self.tell(None, What::ClipEnded { clip: ClipId(clip) });
    }

    fn drain(&mut self) {
        while let Some(output) = self.coach.poll() {
            match output {
                Output::Prepare { prompt, .. } => self.coach.prepared(self.now, prompt, Ok(())),
                Output::Cut { .. } => panic!("a clip is cut"),
                Output::Event(event) => self.events.push(event),
                Output::Speak { prompt, text, mode } => {
                    assert_eq!(mode, Mode::Whisper);
                    self.whispers.push((prompt, text.0.to_string()));
                }
            }
        }
    }

    /// What was told since the last time, one line each.
    pub fn told(&mut self) -> Vec<String> {
        std::mem::take(&mut self.events).iter().map(line).collect()
    }
}

/// An event as a line.
pub fn line(event: &Event) -> String {
    let rest = match &event.what {
        What::MomentDetected { moment, kind, evidence, .. } => format!("{moment} {kind} {:?}", &*evidence.0),
        What::PromptOffered { prompt, moment, text, delivery } => {
            format!("{prompt} for {moment} {:?} {delivery:?}", &*text.0)
        }
        What::PromptSuppressed { moment, reason, .. } => format!("{moment}: {reason}"),
        What::PromptShown { prompt, reason, .. } => format!("{prompt}: {}", reason.as_deref().unwrap_or("-")),
        What::PromptSpoken { prompt, clip } => format!("{prompt} {clip}"),
        other => format!("{other:?}"),
    };
    format!("{} {} {rest}", event.at, event.what.name())
}
