//! Reads events, notices moments, decides on advice. Sees events, never audio; says what should be done and
//! does none of it.
//!
//! ```text
//! speech.final ─► detect ─► moment.detected ─► arbiter ─┬─► prompt.offered ─► delivery ─► Speak, prompt.spoken, prompt.shown
//!                                                       └─► prompt.suppressed, with the reason
//! ```
//!
//! What people say is matched against the playbook's phrases and nothing else: no words on a call instruct the coach.

pub mod arbiter;
pub mod delivery;
pub mod detect;
pub mod people;
pub mod playbook;

pub use playbook::{Playbook, Sensitivity};

use crate::event::{Delivery as Way, Event, Mode, Role, What, Words};
use crate::id::{ClipId, LegId, MomentId, PromptId, UtteranceId};
use crate::time::MediaTime;
use arbiter::{Arbiter, Candidate, Reason};
use delivery::{Act, Delivery, Prompt};
use detect::Detectors;
use detect::disclosure::{Disclosures, Voice};
use detect::words::Spoken;
use people::People;
use playbook::Rule;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// What the coach wants done.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// Tell everyone.
    Event(Event),
    /// Make a voice for this; answer with [`Coach::prepared`].
    Prepare {
        /// Which prompt.
        prompt: PromptId,
        /// The line.
        text: Words,
    },
    /// This clip is not to be heard (any more).
    Cut {
        /// Which.
        clip: ClipId,
        /// Why.
        reason: &'static str,
    },
    /// Whisper this now; answer with [`Coach::spoken_as`].
    Speak {
        /// Which prompt.
        prompt: PromptId,
        /// The line.
        text: Words,
        /// Who may hear it.
        mode: Mode,
    },
}

/// Whether the coach still has something to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Duty {
    /// Listens and advises.
    On,
    /// Was taken away: notices nothing.
    Closed,
    /// The call is over: last words are still noticed, advised on no more.
    Over,
}

/// The coach of one call.
#[derive(Debug)]
pub struct Coach {
    playbook: Arc<Playbook>,
    ceiling: Mode,
    sensitivity: Sensitivity,
    duty: Duty,
    /// Since when the call is paused, if it is.
    paused: Option<MediaTime>,
    people: People,
    detectors: Detectors,
    disclosures: Disclosures,
    arbiter: Arbiter,
    delivery: Delivery,
    moments: u32,
    prompts: u32,
    /// How often each kind was advised on, to vary the line.
    advised: BTreeMap<Arc<str>, usize>,
    /// Drained by `poll` after every call: holds what one event leads to, a handful.
    outputs: VecDeque<Output>,
}

/// A moment as it is found.
struct Moment {
    kind: Arc<str>,
    leg: Option<LegId>,
    utterance: Option<UtteranceId>,
    evidence: Words,
    competitor: Option<Arc<str>>,
    /// From when its usefulness counts.
    since: MediaTime,
}

impl Coach {
    /// A coach that does no more of its own accord than `ceiling`.
    pub fn new(playbook: Arc<Playbook>, ceiling: Mode, sensitivity: Sensitivity) -> Self {
        Coach {
            disclosures: Disclosures::new(&playbook),
            playbook,
            ceiling,
            sensitivity,
            duty: Duty::On,
            paused: None,
            people: People::default(),
            detectors: Detectors::default(),
            arbiter: Arbiter::new(sensitivity),
            delivery: Delivery::default(),
            moments: 0,
            prompts: 0,
            advised: BTreeMap::new(),
            outputs: VecDeque::new(),
        }
    }

    /// Another playbook from now on. What was said and advised before counts on.
    pub fn use_playbook(&mut self, now: MediaTime, playbook: Arc<Playbook>) {
        self.disclosures = self.disclosures.under(&playbook);
        self.detectors = Detectors::default();
        self.playbook = playbook;
        self.opened(now);
    }

    /// The journal is told by what the coach goes.
    fn opened(&mut self, now: MediaTime) {
        let what = What::CoachOpened {
            playbook: self.playbook.name.to_string(),
            digest: self.playbook.digest.to_string(),
            ceiling: self.ceiling,
            sensitivity: self.sensitivity.name().into(),
        };
        self.outputs.push_back(Output::Event(Event { at: now, leg: None, what }));
    }

    /// A leg is this now; for those who know before an event says so.
    pub fn knows(&mut self, leg: LegId, role: Role) {
        self.people.is(leg, role);
    }

    /// Something happened.
    pub fn handle(&mut self, now: MediaTime, event: &Event) {
        match &event.what {
            What::LegJoined { role, .. } => self.with_leg(event, |people, leg| people.is(leg, *role)),
            What::LegLeft { .. } => self.with_leg(event, People::left),
            What::SpeechEdge { speaking, .. } => {
                self.with_leg(event, |people, leg| people.speaking(leg, *speaking, event.at));
            }
            What::CallConnected {} => self.disclosures.connected(event.at),
            What::CallEnded { .. } => self.end(now),
            What::ClipStarted { clip, audience, text } => {
                self.delivery.clip_started(*clip);
                self.announced(now, audience, text.as_ref());
            }
            What::ClipEnded { clip } => self.clip_over(now, *clip, Ok(())),
            What::ClipCut { clip, reason } => self.clip_over(now, *clip, Err(reason.clone())),
            What::SpeechFinal { utterance, role, end, text, .. } => {
                let heard = Heard { leg: event.leg, role: *role, utterance: *utterance, end: *end };
                self.heard(now, heard, text);
            }
            What::CallPending { .. } => self.opened(now),
            What::RecordingPaused {} => self.pause(now, event.at),
            What::RecordingResumed {} => self.resume(event.at),
            What::CommandGiven { .. }
            | What::CommandRefused { .. }
            | What::CoachOpened { .. }
            | What::CallAnswered {}
            | What::LegChanged { .. }
            | What::LegHeld {}
            | What::LegResumed {}
            | What::ModeChanged { .. }
            | What::SupervisorJoined { .. }
            | What::SupervisorLeft { .. }
            | What::ConsentChanged { .. }
            | What::SupervisorMissed { .. }
            | What::EarpieceVerified {}
            | What::EarpieceRefused { .. }
            | What::ConferenceChanged { .. }
            | What::SupervisorAsked {}
            | What::SupervisorTookOver { .. }
            | What::SupervisorGaveBack { .. }
            | What::SpeechGap { .. }
            | What::MomentDetected { .. }
            | What::PromptOffered { .. }
            | What::PromptSuppressed { .. }
            | What::PromptShown { .. }
            | What::PromptSpoken { .. }
            | What::LeakDetected { .. }
            | What::LeakMeasured { .. }
            | What::LeakExpected { .. }
            | What::LeakCleared {}
            | What::CancellingStarted {}
            | What::CancellingEnded {}
            | What::RecordingStarted {}
            | What::RecordingFailed { .. }
            | What::RecordingGap { .. }
            | What::RecordingEnded { .. } => {}
        }
        self.tick(now);
    }

    /// Time has passed.
    pub fn tick(&mut self, now: MediaTime) {
        if self.duty != Duty::On || self.paused.is_some() {
            return;
        }
        for rule in self.disclosures.overdue(now, self.people.agent()) {
            self.missing(now, rule);
        }
        let speaks = self.people.agent() == Voice::Speaking;
        let act = self.delivery.advance(now, speaks);
        self.act(now, act);
    }

    /// The voice of a prompt is there, or cannot be had.
    pub fn prepared(&mut self, now: MediaTime, prompt: PromptId, result: Result<(), String>) {
        let act = self.delivery.prepared(prompt, result);
        self.act(now, act);
        self.tick(now);
    }

    /// The call took the prompt as this clip, or refused it.
    pub fn spoken_as(&mut self, now: MediaTime, prompt: PromptId, result: Result<ClipId, String>) {
        let act = self.delivery.answered(now, prompt, result);
        self.act(now, act);
    }

    /// The coach is taken away; the people go on.
    pub fn close(&mut self, now: MediaTime) {
        let act = self.delivery.abandon("the coach was taken away");
        self.act(now, act);
        self.duty = Duty::Closed;
    }

    /// The call is over and its last words are there: what was never said is missed now.
    pub fn finish(&mut self, now: MediaTime) {
        if self.duty == Duty::Over {
            for rule in self.disclosures.over() {
                self.missing(now, rule);
            }
        }
    }

    /// The next thing to do.
    pub fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When `tick` is due.
    pub fn poll_timeout(&self) -> Option<MediaTime> {
        if self.duty != Duty::On || self.paused.is_some() {
            return None;
        }
        let deadlines = [self.delivery.timeout(), self.disclosures.timeout(self.people.agent())];
        deadlines.into_iter().flatten().min()
    }

    fn with_leg(&mut self, event: &Event, tell: impl FnOnce(&mut People, LegId)) {
        if let Some(leg) = event.leg {
            tell(&mut self.people, leg);
        }
    }

    /// Nothing is advised in a pause: the prompt under way is a line on the screen.
    fn pause(&mut self, now: MediaTime, at: MediaTime) {
        self.paused.get_or_insert(at);
        let act = self.delivery.abandon("the call is paused");
        self.act(now, act);
    }

    /// Deadlines are put off by what the pause took.
    fn resume(&mut self, at: MediaTime) {
        if let Some(since) = self.paused.take() {
            self.disclosures.paused(since, at);
        }
    }

    fn end(&mut self, now: MediaTime) {
        let act = self.delivery.abandon("the call is over");
        self.act(now, act);
        if self.duty == Duty::On {
            self.duty = Duty::Over;
        }
    }

    /// Somebody said something: is it a moment?
    fn heard(&mut self, now: MediaTime, heard: Heard, text: &Words) {
        if let Some(leg) = heard.leg {
            self.people.is(leg, heard.role);
        }
        if self.duty == Duty::Closed {
            return;
        }
        let (playbook, spoken) = (self.playbook.clone(), Spoken::new(&text.0));
        for hit in self.detectors.hear(&playbook, heard.role, &spoken) {
            let Some(rule) = playbook.rules.get(hit.rule) else { continue };
            self.notice(now, rule, heard.moment(rule.kind.name(), hit.evidence, hit.competitor));
        }
        if heard.role == Role::Agent {
            for evidence in self.disclosures.said(&playbook, &spoken) {
                self.detected(now, &heard.moment(MET, evidence, None));
            }
        }
    }

    /// A clip begins: what the machine says to a customer need not be said by the agent.
    fn announced(&mut self, now: MediaTime, audience: &[LegId], text: Option<&Words>) {
        let to_customer = audience.iter().any(|leg| self.people.role(*leg) == Some(Role::Customer));
        let Some(text) = text.filter(|_| to_customer && self.duty == Duty::On) else { return };
        let playbook = self.playbook.clone();
        for evidence in self.disclosures.said(&playbook, &Spoken::new(&text.0)) {
            self.detected(now, &unspoken(MET, None, evidence, now));
        }
    }

    /// A required statement was not made in time.
    fn missing(&mut self, now: MediaTime, rule: usize) {
        let playbook = self.playbook.clone();
        let Some(about) = playbook.rules.get(rule) else { return };
        let moment = unspoken(about.kind.name(), self.people.leg(Role::Agent), "".into(), now);
        self.notice(now, about, moment);
    }

    /// A moment: told, and advised on or not.
    fn notice(&mut self, now: MediaTime, rule: &Rule, moment: Moment) {
        let id = self.detected(now, &moment);
        let candidate = Candidate {
            kind: moment.kind.clone(),
            urgency: rule.urgency,
            cooldown: rule.cooldown,
            useful_until: moment.since + rule.useful,
        };
        match self.decide(now, &candidate) {
            Ok(()) => self.offer(now, id, rule, &moment, candidate),
            Err(reason) => {
                let kind = moment.kind.to_string();
                self.tell(now, moment.leg, What::PromptSuppressed { moment: id, kind, reason: reason.to_string() });
            }
        }
    }

    fn detected(&mut self, now: MediaTime, moment: &Moment) -> MomentId {
        self.moments = self.moments.saturating_add(1);
        let id = MomentId(self.moments);
        let what = What::MomentDetected {
            moment: id,
            kind: moment.kind.to_string(),
            utterance: moment.utterance,
            evidence: moment.evidence.clone(),
        };
        self.tell(now, moment.leg, what);
        id
    }

    fn decide(&self, now: MediaTime, candidate: &Candidate) -> Result<(), Reason> {
        match self.duty {
            Duty::On if self.paused.is_some() => Err(Reason::Paused),
            Duty::On => self.arbiter.decide(now, candidate, self.playbook.limits, self.delivery.busy()),
            Duty::Closed => Err(Reason::Closed),
            Duty::Over => Err(Reason::Over),
        }
    }

    fn offer(&mut self, now: MediaTime, moment: MomentId, rule: &Rule, about: &Moment, candidate: Candidate) {
        let turn = self.advised.entry(candidate.kind.clone()).or_default();
        let line = rule.prompts.get(*turn % rule.prompts.len().max(1)).map_or("", |line| line);
        *turn = turn.wrapping_add(1);
        let text: Words = line.replace(playbook::SLOT, about.competitor.as_deref().unwrap_or("them")).into();
        self.prompts = self.prompts.saturating_add(1);
        let prompt = PromptId(self.prompts);
        self.arbiter.offered(now, candidate.kind);
        let way = match self.ceiling {
            Mode::Spy => Way::Screen,
            // The machine never speaks to everyone of its own accord on one moment alone.
            Mode::Whisper | Mode::Barge => Way::Whisper,
        };
        self.tell(now, about.leg, What::PromptOffered { prompt, moment, text: text.clone(), delivery: way });
        match way {
            Way::Screen => {
                let reason = "the ceiling is spy: nothing is spoken".into();
                self.act(now, Some(Act::Show { prompt, text, reason }));
            }
            Way::Whisper | Way::Barge => {
                let act = self.delivery.begin(Prompt { id: prompt, text, useful_until: candidate.useful_until });
                self.act(now, Some(act));
            }
        }
    }

    fn clip_over(&mut self, now: MediaTime, clip: ClipId, end: Result<(), String>) {
        let act = self.delivery.clip_over(clip, end);
        self.act(now, act);
    }

    fn act(&mut self, now: MediaTime, act: Option<Act>) {
        match act {
            None => {}
            Some(Act::Prepare { prompt, text }) => self.outputs.push_back(Output::Prepare { prompt, text }),
            Some(Act::Cut { clip, reason }) => self.outputs.push_back(Output::Cut { clip, reason }),
            Some(Act::Whisper { prompt, text }) => {
                self.outputs.push_back(Output::Speak { prompt, text, mode: Mode::Whisper });
            }
            Some(Act::Show { prompt, text, reason }) => {
                self.arbiter.done(now);
                self.tell(now, None, What::PromptShown { prompt, text, reason: Some(reason) });
            }
            Some(Act::Spoken { prompt, clip }) => {
                self.arbiter.done(now);
                self.tell(now, None, What::PromptSpoken { prompt, clip });
            }
        }
    }

    fn tell(&mut self, now: MediaTime, leg: Option<LegId>, what: What) {
        self.outputs.push_back(Output::Event(Event { at: now, leg, what }));
    }
}

/// The kind of a required statement that was made.
const MET: &str = "compliance.met";

/// Who said what when.
struct Heard {
    leg: Option<LegId>,
    role: Role,
    utterance: UtteranceId,
    end: MediaTime,
}

impl Heard {
    fn moment(&self, kind: &str, evidence: Words, competitor: Option<Arc<str>>) -> Moment {
        Moment {
            kind: kind.into(),
            leg: self.leg,
            utterance: Some(self.utterance),
            evidence,
            competitor,
            since: self.end,
        }
    }
}

/// A moment that rests on no utterance.
fn unspoken(kind: &str, leg: Option<LegId>, evidence: Words, now: MediaTime) -> Moment {
    Moment { kind: kind.into(), leg, utterance: None, evidence, competitor: None, since: now }
}
