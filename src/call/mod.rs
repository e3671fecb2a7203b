//! A call: its legs, their places, who hears whom, and every packet between them.
//!
//! In come commands, packets and the time; out come packets, what the ears heard, and events. A [`Call`] knows no
//! socket, no clock and nothing of coaching. It is driven by `command`, `packet` and `tick`, and drained with `poll`
//! after each; `poll_timeout` says when `tick` is due.

mod beside;
mod clip;
mod commands;
pub mod ears;
mod engine;
pub mod fallback;
mod far_end;
mod given;
pub mod keys;
mod leg;
mod line;
pub mod mode;
mod outbox;
mod packets;
mod pairing;
mod pause;
pub mod permission;
mod pressing;
mod proven;
mod record;
mod shape;
mod signal;
mod sound;
mod supervise;
mod ticks;
mod voice;
mod watch;
mod workbench;

pub use crate::media::volume::Volume;
pub use engine::Call;
pub use far_end::{FarEnd, FarSummary};
pub use keys::{Digit, Key};
pub use pairing::Code;
pub use proven::Proven;
pub use shape::Shape;
pub use sound::Sound;
pub use supervise::{May, Onward, Rights, Supervising, Unagreed};
pub use workbench::Workbench;
pub mod sdp;

use crate::event::{Actor, Address, Consent, Event, Mode, Place, Role};
use crate::id::{CallCode, ClipId, LegId};
use crate::media::codec::Codec;
use crate::media::pcm::Rate;
use crate::time::MediaTime;
use std::collections::BTreeMap;
use std::net::SocketAddr;

/// Samples in a frame at 8 kHz: 20 ms.
pub const FRAME: usize = crate::media::FRAME;

/// What a call is told when it is made.
#[derive(Clone, Debug)]
pub struct CallOptions {
    /// Seeds SSRCs and first sequence numbers (RFC 3550 §5.1 wants them random).
    pub seed: u64,
    /// Who calls, for the first event.
    pub caller: Address,
    /// What they dialled, for the first event.
    pub called: Address,
    /// What the call is called on the phone, for the first event.
    pub code: Option<CallCode>,
    /// Whether the coach's ears are open: `Output::Heard` for customer and agent, until `Command::Close`.
    pub listen: bool,
    /// Whether `Output::Record` is wanted, until `Command::Close`.
    pub record: bool,
    /// What is done for people's ears.
    pub ears: ears::Ears,
}

/// What SDP settled for a leg.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct LegMedia {
    /// Both directions.
    pub codec: Codec,
    /// The codec's payload type on this leg, both directions.
    pub payload_type: u8,
    /// The payload type of telephone-event (RFC 4733), where offered.
    pub dtmf: Option<u8>,
    /// How the peer wants its packets.
    pub shape: Shape,
    /// Where the peer's SDP says it receives RTP.
    pub remote: SocketAddr,
    /// Where it says it receives RTCP: the port above, unless `a=rtcp` (RFC 3605) said otherwise; the same where both share
    /// one port (RFC 5761).
    pub remote_rtcp: SocketAddr,
    /// Whether we may send to the peer (it answered or offered `sendrecv` or `recvonly`).
    pub send: bool,
}

/// A leg that joins.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub struct LegSpec {
    /// What it is to the call.
    pub role: Role,
    /// Whether it takes part at once.
    pub place: Place,
    /// Its mode, if it is a supervisor.
    pub mode: Mode,
    /// Its address, for events.
    pub address: Address,
    /// What SDP settled.
    pub media: LegMedia,
}

/// Who speaks: the machine, or a supervisor's leg.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Speaker {
    /// The machine itself.
    Coach,
    /// A supervisor.
    Leg(LegId),
}

/// For whom a clip is.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Audience {
    /// Those the coach's mode reaches when the first sample is sent (what people have the coach say).
    Mode,
    /// Those `mode` reaches. If the coach is in spy it is in `mode` for the length of the clip, and back in spy when
    /// the last sample has been sent (what the machine says of its own accord).
    Own(Mode),
    /// These legs, wherever they are (a greeting, a briefing, ringback).
    Legs(Vec<LegId>),
}

/// Audio the coach is to play.
#[derive(Clone, serde::Serialize, serde::Deserialize)]
pub struct ClipSpec {
    /// At every rate a leg may have. The journal keeps its length alone: a replay plays as much silence.
    #[serde(rename = "samples", with = "given::length")]
    pub pcm: Sound,
    /// For whom.
    pub audience: Audience,
    /// Played over and over until cut (ringback).
    pub looped: bool,
    /// What it says, for the event.
    pub text: Option<crate::event::Words>,
}

/// Something a call is told to do. Its serialised form is what the journal keeps (`command.given`).
#[derive(serde::Serialize, serde::Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
pub enum Command {
    /// A leg joins. Answers `Ack::Leg`.
    AddLeg(LegSpec),
    /// A supervisor joins, in conversation. Answers `Ack::Leg`.
    Supervise(Supervising),
    /// A supervisor, customer or agent goes on to another call: the leg leaves this one, and its line is to be kept up.
    /// Answers `Ack::Onward`.
    MoveOn { leg: LegId, reason: String },
    /// A customer or agent comes from another call, with their line. Answers `Ack::Leg`.
    TakeIn { spec: LegSpec, onward: Onward },
    /// A supervisor becomes the agent, and the agents are aside until it is one again.
    TakeOver { leg: LegId },
    /// The supervisor who took over is one again, in spy, and the agents are back.
    GiveBack { leg: LegId },
    /// Said to one leg alone, wherever it is; the first key of that leg cuts it short. Answers `Ack::Clip`.
    Tell {
        leg: LegId,
        /// As for `ClipSpec`.
        #[serde(rename = "samples", with = "given::length")]
        pcm: Sound,
        text: crate::event::Words,
    },
    /// A leg was renegotiated: latching opens anew (DESIGN §5).
    SetMedia { leg: LegId, media: LegMedia },
    /// A leg takes part, or steps aside.
    SetPlace { leg: LegId, place: Place },
    /// A party put us on hold, and takes this place until it is back (none): as the place it has otherwise stays.
    SetHeld { leg: LegId, place: Option<Place> },
    /// A leg is something else now: it leaves the audience of every clip begun.
    SetRole { leg: LegId, role: Role },
    /// The far end of a leg is, or may be, somebody else: it leaves the audience of every clip begun, and nothing is whispered
    /// to it until somebody vouches for it.
    FarEndChanged { leg: LegId },
    /// The far end of a leg is whom it is taken for, says a person, or its signalling: whispers reach it again.
    Vouch { leg: LegId, by: Actor },
    /// Whose a leg is has become known.
    SetAddress { leg: LegId, address: Address },
    /// A leg is gone.
    RemoveLeg { leg: LegId, reason: String },
    /// Atomic for every listener. Answers `Ack::Mode`.
    SetMode { speaker: Speaker, mode: Mode, by: Actor },
    /// How loud a leg hears everything, in decibels. At 0 what it is sent is not touched.
    SetVolume { leg: LegId, volume: Volume },
    /// A supervisor pressed a key that was told otherwise than by RTP (RFC 6086 INFO).
    #[serde(skip)]
    Press { leg: LegId, key: Key },
    /// An earpiece is asked for a code: whoever keys it in there, once, is in conversation; `earpiece.verified` or
    /// `earpiece.refused` tells.
    #[serde(skip)]
    Pair { leg: LegId, code: Code },
    /// The same as a telephone event of this leg, told otherwise.
    #[serde(skip)]
    KeyIn { leg: LegId, digit: Digit },
    /// Presses a key on a leg for 100 ms, by telephone events (RFC 4733).
    #[serde(skip)]
    Dial { leg: LegId, digit: Digit },
    /// Only what was proven may be offered from here on.
    Prove(Proven),
    /// Speak. Answers `Ack::Clip`. A clip waits while anyone in its audience hears another.
    Play(ClipSpec),
    /// Stop a clip, begun or not.
    Cut { clip: ClipId, reason: String },
    /// Nothing is recorded, transcribed or coached until `Resume`, and what buffers hold is forgotten. The people go on, and
    /// supervisors hear them. Changes nothing where the call is paused already.
    Pause,
    /// The end of a pause. What was said in it is nowhere. Changes nothing where the call is not paused.
    Resume,
    /// The coach goes: ears close, clips are cut, the people go on.
    Close,
    /// Whether the customer agrees to be listened to is known: supervisors keep to it at once.
    SetConsent { consent: Consent },
    /// Describe the call. Answers `Ack::View`.
    Describe,
    /// The call is over.
    End { reason: String },
}

/// The answer to a command that was carried out.
#[derive(Clone, Debug, PartialEq)]
pub enum Ack {
    /// Done.
    Done,
    /// The new leg's id.
    Leg(LegId),
    /// The new clip's id.
    Clip(ClipId),
    /// The mode holds on each outgoing leg from this RTP timestamp on.
    Mode { mode: Mode, effective: BTreeMap<LegId, u32> },
    /// The call as it is.
    View(CallView),
    /// What the next call goes on from.
    Onward(Onward),
}

/// Why a command was not carried out. Nothing was changed and nothing played.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No such leg.
    #[error("the call has no {0}")]
    NoSuchLeg(LegId),
    /// No such clip.
    #[error("the call has no {0}, or it is over")]
    NoSuchClip(ClipId),
    /// Only supervisors and the coach have modes.
    #[error("{0} is no supervisor: it has no mode")]
    NotASupervisor(LegId),
    /// The rules for this supervisor (`[[supervise]]`).
    #[error("this supervisor may not {0}")]
    NotPermitted(&'static str),
    /// Not as things are.
    #[error("{0}")]
    NotNow(&'static str),
    /// DESIGN §2.4.
    #[error("a whisper cannot be private here: {0}")]
    NotPrivate(&'static str),
    /// `proven_only`.
    #[error("{0}")]
    Unproven(String),
    /// Every party is a copy made for us (SIPREC).
    #[error("this call is forked to us and has no way back: it can be listened to, but nobody in it can be spoken to")]
    NoWayBack,
    /// The coach is in spy.
    #[error("the coach is in spy and cannot be heard: choose whisper or barge first, or name the audience")]
    Spying,
    /// Nobody is there to hear it.
    #[error("nobody would hear it: no leg of the audience is in the call")]
    NobodyListens,
    /// Nothing is coached in a pause.
    #[error("the call is paused: the coach does not speak of its own accord until it is resumed")]
    Paused,
    /// The coach was closed.
    #[error("the coach has left this call")]
    Closed,
    /// Too many clips wait.
    #[error("{0} clips wait already; try again when one has ended")]
    TooManyClips(usize),
    /// The call is over.
    #[error("the call has ended")]
    Ended,
    /// An empty or over-long clip (60 s), or too many legs (16).
    #[error("{0}")]
    Limit(&'static str),
}

/// Where a call is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CallState {
    /// No leg has media yet.
    Pending,
    /// Somebody is on the line.
    Answered,
    /// Customer and agent (or a bridge) are in conversation.
    Connected,
    /// Over.
    Ended,
}

/// A call, described.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct CallView {
    /// Where it is in its life.
    pub state: CallState,
    /// The coach's mode.
    pub mode: Mode,
    /// Whether the coach has left.
    pub closed: bool,
    /// Whether recording, transcription and coaching are paused.
    pub paused: bool,
    /// What the customer says about being listened to.
    pub consent: Consent,
    /// Its legs.
    pub legs: Vec<LegView>,
    /// Media time now.
    pub media_time: MediaTime,
}

/// A leg, described.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct LegView {
    /// Which.
    pub id: LegId,
    /// What it is to the call.
    pub role: Role,
    /// Whether it takes part.
    pub place: Place,
    /// Whether nothing is whispered to it, as its far end may be somebody else.
    pub suspended: bool,
    /// Its mode, if it is a supervisor.
    pub mode: Option<Mode>,
    /// Whether it is a supervisor who has taken over from the agent.
    pub stands_in: bool,
    /// How loud it hears, in decibels.
    pub volume: Volume,
    /// Its address.
    pub address: Address,
    /// Its codec.
    pub codec: Codec,
    /// `relay`, `overlay` or `mix`: how what it hears is made now.
    pub path: &'static str,
    /// Packets received that counted.
    pub received: u64,
    /// Packets sent to it.
    pub sent: u64,
    /// Packets lost on the way here (RFC 3550 §6.4.1, cumulative).
    pub lost: i64,
    /// Datagrams that did not count: malformed, from elsewhere, duplicates.
    pub dropped: u64,
    /// Interarrival jitter in milliseconds (RFC 3550 §6.4.1).
    pub jitter_ms: f32,
    /// Round trip in milliseconds (RFC 3550 §6.4.1), once the far end has answered a report.
    pub round_trip_ms: Option<f32>,
    /// How the far end receives what it is sent, once it has reported.
    pub far_end: Option<FarEnd>,
    /// When something louder than a quiet room was last heard of it, of a bridge.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_sound: Option<MediaTime>,
}

/// Which of a leg's two sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Port {
    /// RTP, the even port.
    Rtp,
    /// RTCP, the odd one.
    Rtcp,
}

/// What a call wants done. Borrowed from the call: dealt with before the next `poll`.
#[derive(Debug)]
pub enum Output<'a> {
    /// Send a datagram from a leg's socket.
    Send { leg: LegId, port: Port, to: SocketAddr, bytes: &'a [u8] },
    /// 20 ms of what a customer or agent said, gap-free on the media clock, at the leg's rate but 16 kHz at most. `at`
    /// is the first sample's time; `concealed` if it was made up for a lost packet. None in a pause.
    Heard { leg: LegId, role: Role, at: MediaTime, rate: Rate, pcm: &'a [i16], concealed: bool },
    /// 20 ms of recording: each channel is what that party said and what the coach said to them. All of a call's are at
    /// one rate, that of its first answered leg. Silence in a pause.
    Record { at: MediaTime, rate: Rate, customer: &'a [i16], agent: &'a [i16] },
    /// The same 20 ms of one customer or agent by themselves: their voice alone, at the recording's rate, silence where
    /// it may not be kept.
    RecordLeg { leg: LegId, at: MediaTime, rate: Rate, pcm: &'a [i16] },
    /// Something happened.
    Event(Event),
}
