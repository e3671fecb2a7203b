//! Everything that can happen in a call, in the past tense, and the words shared by all who tell of it.
//!
//! The core makes an [`Event`]; the journal gives it its number and its wall time and makes a [`Recorded`] of it.

use crate::id::{CallCode, CallId, ClipId, LegId, MomentId, PromptId, Tenant, UtteranceId};
use crate::time::MediaTime;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// What a leg is to the call (DESIGN §1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// The one who must never hear a whisper.
    Customer,
    /// The one who is coached.
    Agent,
    /// A person who listens in and may speak.
    Supervisor,
    /// Somebody else's conference, where everyone hears everything.
    Bridge,
    /// A private second line to the agent: hears whispers only, is heard by none.
    Earpiece,
}

/// Who hears a supervisor, or the coach.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Hears all, is heard by none.
    #[default]
    Spy,
    /// Is heard by the agent alone (and by other supervisors).
    Whisper,
    /// Is heard by all.
    Barge,
}

/// Whether a leg takes part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Place {
    /// Takes part.
    InConversation,
    /// Nobody is there, but its line plays something: music on hold, ringing, an announcement before the answer. Those
    /// who take part or wait hear that; it hears only clips addressed to it.
    Playing,
    /// Not answered yet: hears what lines play meanwhile, and clips addressed to it, and is heard by none.
    Waiting,
    /// Ringing, on hold, being briefed, taken over: hears only clips addressed to it.
    Aside,
}

/// Who caused something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Actor {
    /// A person, through the API or a keypad.
    Person,
    /// The machine, of its own accord.
    Coach,
    /// The dialplan.
    Route,
    /// Sotto itself, to protect somebody.
    Guard,
}

/// How long a supervisor listened, mode by mode, in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Listened {
    /// Heard by none.
    pub spy_ms: i64,
    /// Heard by the agent.
    pub whisper_ms: i64,
    /// Heard by all.
    pub barge_ms: i64,
    /// In the agent's stead.
    pub took_over_ms: i64,
}

/// Whether a customer has agreed to be listened to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Consent {
    /// Nobody has asked.
    #[default]
    Unknown,
    /// They have.
    Given,
    /// They have not.
    Refused,
}

/// How a prompt reaches the agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Delivery {
    /// A line on the agent's screen.
    Screen,
    /// A voice in the agent's ear alone.
    Whisper,
    /// A voice to everyone.
    Barge,
}

/// Somebody in another's conference (RFC 4575).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Present {
    /// Their address there.
    pub entity: Address,
    /// What they are called there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<Address>,
    /// As the conference says: `connected`, `on-hold`, `muted-via-focus`, …; none where it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
}

/// One thing that happened in a call.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// When, on the call's media clock.
    pub at: MediaTime,
    /// The leg it is about, where there is one.
    pub leg: Option<LegId>,
    /// What happened.
    pub what: What,
}

/// Text that people said or are to hear. `Debug` shows its length only: transcripts never reach a log.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Words(pub Arc<str>);

impl fmt::Debug for Words {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<{} chars>", self.0.chars().count())
    }
}
impl From<&str> for Words {
    fn from(s: &str) -> Self {
        Words(s.into())
    }
}
impl From<String> for Words {
    fn from(s: String) -> Self {
        Words(s.into())
    }
}

/// A phone number or SIP address. `Debug` shows nothing of it: numbers never reach a log.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Address(pub Arc<str>);

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<address>")
    }
}
impl From<&str> for Address {
    fn from(s: &str) -> Self {
        Address(s.into())
    }
}
impl From<String> for Address {
    fn from(s: String) -> Self {
        Address(s.into())
    }
}

/// A command as the call took it, with all that a replay needs of it. `Debug` shows nothing of it: it may hold numbers
/// and words.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Given(pub serde_json::Value);

impl fmt::Debug for Given {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<command>")
    }
}

/// What happened. The names on the wire are DESIGN §6's without `sotto.`; payloads only grow.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", content = "data")]
pub enum What {
    /// An INVITE was accepted for handling.
    #[serde(rename = "call.pending")]
    CallPending {
        /// Who calls.
        caller: Address,
        /// What they dialled.
        called: Address,
        /// What the call is called on the phone. None in journals older than codes.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        code: Option<CallCode>,
    },
    /// The call was told to do something, and what follows is what came of it. The first of a call is `open`.
    #[serde(rename = "command.given")]
    CommandGiven {
        /// `{"do": …}`: with the same commands and the same packets at the same times a call does the same again.
        command: Given,
    },
    /// The command before was refused: nothing was changed and nothing played.
    #[serde(rename = "command.refused")]
    CommandRefused {
        /// Why.
        reason: String,
    },
    /// The first leg was answered.
    #[serde(rename = "call.answered")]
    CallAnswered {},
    /// Customer and agent (or a bridge) are in conversation.
    #[serde(rename = "call.connected")]
    CallConnected {},
    /// The call is over.
    #[serde(rename = "call.ended")]
    CallEnded {
        /// Why, in a few words (`customer hung up`, `agent busy`).
        reason: String,
    },
    /// A leg has media.
    #[serde(rename = "leg.joined")]
    LegJoined {
        /// What it is to the call.
        role: Role,
        /// Its address.
        address: Address,
    },
    /// A leg is gone.
    #[serde(rename = "leg.left")]
    LegLeft {
        /// What it was.
        role: Role,
        /// Why.
        reason: String,
    },
    /// A leg was renegotiated, changed its far end, its role or its place.
    #[serde(rename = "leg.changed")]
    LegChanged {
        /// What changed: `place`, `role`, `far_end`, `media`, `volume`, `address`; `suspended`: nothing is whispered to it, as
        /// its far end may be somebody else, until `vouched`.
        changed: String,
    },
    /// A party put us on hold: nobody listens there, and nothing of it is written down.
    #[serde(rename = "leg.held")]
    LegHeld {},
    /// A party is back from a hold.
    #[serde(rename = "leg.resumed")]
    LegResumed {},
    /// The coach or a supervisor changed mode; `leg` names the supervisor, none means the coach.
    #[serde(rename = "mode.changed")]
    ModeChanged {
        /// Before.
        from: Mode,
        /// Now.
        to: Mode,
        /// Who wanted it.
        by: Actor,
        /// From which outgoing RTP timestamp on, leg by leg.
        effective: BTreeMap<LegId, u32>,
    },
    /// Whether the customer agrees to be listened to is known, or is another than it was.
    #[serde(rename = "consent.changed")]
    ConsentChanged {
        /// What they say.
        consent: Consent,
    },
    /// A supervisor listens in; `leg` names them.
    #[serde(rename = "supervisor.joined")]
    SupervisorJoined {
        /// Their address.
        who: Address,
        /// The mode they begin in.
        mode: Mode,
        /// The agents whom they hear. None in journals older than this.
        #[serde(default)]
        whom: Vec<Address>,
    },
    /// A supervisor who was called does not come.
    #[serde(rename = "supervisor.missed")]
    SupervisorMissed {
        /// Their address.
        who: Address,
        /// Why.
        reason: String,
    },
    /// A supervisor wants the next call of those they may hear; `leg` names them. Where there is one, they leave for it.
    #[serde(rename = "supervisor.asked")]
    SupervisorAsked {},
    /// A supervisor is the agent from here on; `leg` names them.
    #[serde(rename = "supervisor.took_over")]
    SupervisorTookOver {
        /// The agents who were put aside.
        aside: Vec<LegId>,
    },
    /// The supervisor who had taken over is one again, in spy.
    #[serde(rename = "supervisor.gave_back")]
    SupervisorGaveBack {
        /// The agents who are back in conversation.
        back: Vec<LegId>,
    },
    /// A supervisor listens no more.
    #[serde(rename = "supervisor.left")]
    SupervisorLeft {
        /// Their address.
        who: Address,
        /// The mode they were in.
        mode: Mode,
        /// Why.
        reason: String,
        /// The agents whom they heard. None in journals older than this.
        #[serde(default)]
        whom: Vec<Address>,
        /// For how long, mode by mode.
        #[serde(default)]
        listened: Listened,
    },
    /// An agent's private line was proven to be one: whispers are heard there from here on. `leg` names it.
    #[serde(rename = "earpiece.verified")]
    EarpieceVerified {},
    /// It was not, or is not any more: no whisper is heard there. `leg` names it, where there is one.
    #[serde(rename = "earpiece.refused")]
    EarpieceRefused {
        /// Why.
        reason: String,
    },
    /// Who is in a conference, as its own telephone system tells. `leg` names the line to it.
    #[serde(rename = "conference.changed")]
    ConferenceChanged {
        /// How many, as it says; else as many as it names.
        count: u32,
        /// Those it names.
        people: Vec<Present>,
    },
    /// The first sample of a clip was sent.
    #[serde(rename = "clip.started")]
    ClipStarted {
        /// Which.
        clip: ClipId,
        /// Exactly who hears it.
        audience: Vec<LegId>,
        /// What it says, where it is speech.
        text: Option<Words>,
    },
    /// The last sample of a clip was sent.
    #[serde(rename = "clip.ended")]
    ClipEnded {
        /// Which.
        clip: ClipId,
    },
    /// A clip stopped before its end, or never began.
    #[serde(rename = "clip.cut")]
    ClipCut {
        /// Which.
        clip: ClipId,
        /// Why.
        reason: String,
    },
    /// The coach listens by this playbook from now on.
    #[serde(rename = "coach.opened")]
    CoachOpened {
        /// Its name.
        playbook: String,
        /// `sha256:` and the digest of its text, by which a replay knows whether it has the same.
        digest: String,
        /// What the machine may do of its own accord, at most.
        ceiling: Mode,
        /// How readily it speaks up: `minimal`, `standard`, `training`.
        sensitivity: String,
    },
    /// A leg began or stopped speaking, as voice activity sees it.
    #[serde(rename = "speech.edge")]
    SpeechEdge {
        /// True: began.
        speaking: bool,
        /// When that was known: later than when it was, by the buffer and by what voice activity takes to be sure.
        #[serde(default)]
        known: MediaTime,
    },
    /// What a leg said between two silences.
    #[serde(rename = "speech.final")]
    SpeechFinal {
        /// Which.
        utterance: UtteranceId,
        /// Whose.
        role: Role,
        /// First voiced sample.
        start: MediaTime,
        /// Last voiced sample.
        end: MediaTime,
        /// The words.
        text: Words,
        /// Mean probability of the text's tokens, 0 to 1.
        confidence: f32,
    },
    /// Speech whose words could not be had.
    #[serde(rename = "speech.gap")]
    SpeechGap {
        /// First voiced sample.
        start: MediaTime,
        /// Last voiced sample.
        end: MediaTime,
        /// Why.
        reason: String,
    },
    /// Something in the conversation mattered.
    #[serde(rename = "moment.detected")]
    MomentDetected {
        /// Which.
        moment: MomentId,
        /// A kind of DESIGN §6 (`objection.price`).
        kind: String,
        /// The utterance at whose end it was known.
        utterance: Option<UtteranceId>,
        /// The words it rests on.
        evidence: Words,
    },
    /// The arbiter let a moment's advice through.
    #[serde(rename = "prompt.offered")]
    PromptOffered {
        /// Which.
        prompt: PromptId,
        /// What it answers.
        moment: MomentId,
        /// The line.
        text: Words,
        /// The way it is to go.
        delivery: Delivery,
    },
    /// The arbiter held a moment's advice back.
    #[serde(rename = "prompt.suppressed")]
    PromptSuppressed {
        /// Of which moment.
        moment: MomentId,
        /// Its kind.
        kind: String,
        /// Why.
        reason: String,
    },
    /// The prompt is a line on the agent's screen.
    #[serde(rename = "prompt.shown")]
    PromptShown {
        /// Which.
        prompt: PromptId,
        /// The line.
        text: Words,
        /// Why it is not spoken, if it was to be.
        reason: Option<String>,
    },
    /// The prompt was spoken to its last sample.
    #[serde(rename = "prompt.spoken")]
    PromptSpoken {
        /// Which.
        prompt: PromptId,
        /// By which clip.
        clip: ClipId,
    },
    /// What was whispered comes back over a line; it is attenuated from here on. `leg` names the line.
    #[serde(rename = "leak.detected")]
    LeakDetected {
        /// Milliseconds from whispering to its return.
        delay_ms: u32,
    },
    /// The tone that measures a line came back over it: whispers will, too. `leg` names the line.
    #[serde(rename = "leak.measured")]
    LeakMeasured {
        /// Milliseconds from playing to its return.
        delay_ms: u32,
    },
    /// A whisper begins on a line over which something came back before: its owner is turned down to everyone from here
    /// on, while an echo may come, whether they speak or not. `leg` names the line.
    #[serde(rename = "leak.expected")]
    LeakExpected {
        /// Milliseconds from whispering to its return.
        delay_ms: u32,
    },
    /// The whisper and its echo are over, or the canceller is measured to take it out, or nothing came back for 3 s: the
    /// line is not turned down any more.
    #[serde(rename = "leak.cleared")]
    LeakCleared {},
    /// A line passes the echo canceller from here on: what it says is not passed bit for bit.
    #[serde(rename = "cancelling.started")]
    CancellingStarted {},
    /// The line passes as it is again.
    #[serde(rename = "cancelling.ended")]
    CancellingEnded {},
    /// A recording began. `leg` names whose it is; none means the whole call's.
    #[serde(rename = "recording.started")]
    RecordingStarted {},
    /// Nothing is recorded, transcribed or coached from here on, until `recording.resumed`.
    #[serde(rename = "recording.paused")]
    RecordingPaused {},
    /// The pause is over.
    #[serde(rename = "recording.resumed")]
    RecordingResumed {},
    /// The disk refused, or was too slow: what comes now is not recorded, until it takes something again and
    /// `recording.gap` tells what is missing. `leg` names whose recording it is; none means the whole call's.
    #[serde(rename = "recording.failed")]
    RecordingFailed {
        /// Why.
        reason: String,
    },
    /// Something is missing in the recording: silence lies there instead, and all else is in its place.
    #[serde(rename = "recording.gap")]
    RecordingGap {
        /// The first sample that is missing.
        start: MediaTime,
        /// The first that is there again.
        end: MediaTime,
        /// Why.
        reason: String,
    },
    /// A recording is complete. `leg` names whose it is; none means the whole call's.
    #[serde(rename = "recording.ended")]
    RecordingEnded {
        /// Why it ended.
        reason: String,
    },
}

impl What {
    /// The event's type without `sotto.`, as DESIGN §6 lists it.
    pub fn name(&self) -> &'static str {
        match self {
            What::CallPending { .. } => "call.pending",
            What::CommandGiven { .. } => "command.given",
            What::CommandRefused { .. } => "command.refused",
            What::CoachOpened { .. } => "coach.opened",
            What::CallAnswered {} => "call.answered",
            What::CallConnected {} => "call.connected",
            What::CallEnded { .. } => "call.ended",
            What::LegJoined { .. } => "leg.joined",
            What::LegLeft { .. } => "leg.left",
            What::LegChanged { .. } => "leg.changed",
            What::LegHeld {} => "leg.held",
            What::LegResumed {} => "leg.resumed",
            What::ModeChanged { .. } => "mode.changed",
            What::SupervisorJoined { .. } => "supervisor.joined",
            What::SupervisorLeft { .. } => "supervisor.left",
            What::ConsentChanged { .. } => "consent.changed",
            What::SupervisorMissed { .. } => "supervisor.missed",
            What::SupervisorAsked {} => "supervisor.asked",
            What::SupervisorTookOver { .. } => "supervisor.took_over",
            What::SupervisorGaveBack { .. } => "supervisor.gave_back",
            What::EarpieceVerified {} => "earpiece.verified",
            What::EarpieceRefused { .. } => "earpiece.refused",
            What::ConferenceChanged { .. } => "conference.changed",
            What::ClipStarted { .. } => "clip.started",
            What::ClipEnded { .. } => "clip.ended",
            What::ClipCut { .. } => "clip.cut",
            What::SpeechEdge { .. } => "speech.edge",
            What::SpeechFinal { .. } => "speech.final",
            What::SpeechGap { .. } => "speech.gap",
            What::MomentDetected { .. } => "moment.detected",
            What::PromptOffered { .. } => "prompt.offered",
            What::PromptSuppressed { .. } => "prompt.suppressed",
            What::PromptShown { .. } => "prompt.shown",
            What::PromptSpoken { .. } => "prompt.spoken",
            What::LeakDetected { .. } => "leak.detected",
            What::LeakMeasured { .. } => "leak.measured",
            What::LeakExpected { .. } => "leak.expected",
            What::LeakCleared {} => "leak.cleared",
            What::CancellingStarted {} => "cancelling.started",
            What::CancellingEnded {} => "cancelling.ended",
            What::RecordingStarted {} => "recording.started",
            What::RecordingPaused {} => "recording.paused",
            What::RecordingResumed {} => "recording.resumed",
            What::RecordingFailed { .. } => "recording.failed",
            What::RecordingGap { .. } => "recording.gap",
            What::RecordingEnded { .. } => "recording.ended",
        }
    }
}

/// `call:epoch:seq`: where an event stands in its call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EventId {
    /// Of which call.
    pub call: CallId,
    /// Counts the recoveries of that call; sequence numbers start anew in each.
    pub epoch: u32,
    /// From 1, without gaps.
    pub seq: u64,
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.call, self.epoch, self.seq)
    }
}
impl FromStr for EventId {
    type Err = String;
    fn from_str(s: &str) -> Result<Self, Self::Err> {
        let wrong = || format!("{s:?} is not an event id (call:epoch:seq)");
        let mut parts = s.splitn(3, ':');
        let mut next = || parts.next().ok_or_else(wrong);
        Ok(EventId {
            call: next()?.parse().map_err(|_| wrong())?,
            epoch: next()?.parse().map_err(|_| wrong())?,
            seq: next()?.parse().map_err(|_| wrong())?,
        })
    }
}

/// An event with its place in the journal.
#[derive(Clone, Debug, PartialEq)]
pub struct Recorded {
    /// Whose.
    pub tenant: Tenant,
    /// Its number.
    pub id: EventId,
    /// Wall clock, milliseconds since 1970 UTC, stamped by the journal.
    pub wall_ms: i64,
    /// What happened.
    pub event: Event,
}
