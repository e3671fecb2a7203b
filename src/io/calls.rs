//! The calls of this node, for everyone who acts on them from outside: the API today, the keypad later.

use crate::call::{Ack, Audience, CallView, ClipSpec, Command, Refusal, Speaker, Volume};
use crate::event::{Actor, Address, Consent, Mode, Role};
use crate::id::{CallCode, CallId, ClipId, LegId};
use crate::io::conversation::Conversations;
use crate::io::load::Why;
use crate::io::sip::registry::{Entry, Registry};
use crate::io::sip::{Conference, Order, Unbegun};
use crate::io::tts::Synthesiser;
use std::collections::BTreeMap;

/// Who a spoken text is for, in the API's words.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum SayTo {
    /// Those the coach's mode reaches.
    #[default]
    Mode,
    /// Every leg of these roles or ids.
    Legs(Vec<LegId>),
    /// Every customer leg.
    Customer,
    /// Every agent leg.
    Agent,
}

/// A call with its name.
#[derive(Clone, Debug, serde::Serialize)]
pub struct NamedCall {
    /// Which.
    pub id: CallId,
    /// What it is called on the phone.
    pub code: CallCode,
    /// Who calls.
    pub caller: Address,
    /// What they dialled.
    pub called: Address,
    /// When it began, milliseconds since 1970 UTC.
    pub began_ms: i64,
    /// Who is in somebody else's conference, where that tells.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub conference: Option<Conference>,
    /// As it is.
    #[serde(flatten)]
    pub view: CallView,
}

/// Why an action on a call failed.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// No such call here, or it is over.
    #[error("there is no call {0} (any more)")]
    NoSuchCall(CallId),
    /// The call refuses.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Nobody can be called.
    #[error(transparent)]
    Unsummoned(#[from] crate::io::sip::Unsummoned),
    /// There is no voice.
    #[error(transparent)]
    NoVoice(#[from] crate::io::tts::SynthesisError),
}

/// The calls of this node.
#[derive(Clone)]
pub struct Calls {
    registry: Registry,
    synthesiser: Synthesiser,
    conversations: Option<Conversations>,
}

impl Calls {
    /// Acts on what `registry` holds, with the voice of `synthesiser`; `conversations` where there are ears.
    pub fn new(registry: Registry, synthesiser: Synthesiser, conversations: Option<Conversations>) -> Self {
        Calls { registry, synthesiser, conversations }
    }

    /// Every call that has not ended.
    pub async fn list(&self) -> Vec<NamedCall> {
        let mut calls = Vec::new();
        for (id, entry) in self.registry.list() {
            // A call that ends between the two questions is not listed.
            if let Ok(call) = describe(id, entry).await {
                calls.push(call);
            }
        }
        calls
    }

    /// One call.
    pub async fn get(&self, call: CallId) -> Result<NamedCall, CallError> {
        describe(call, self.entry(call)?).await
    }

    /// Change the coach's mode. Answers the mode and from which outgoing RTP timestamp it holds on each leg.
    pub async fn set_mode(&self, call: CallId, mode: Mode) -> Result<(Mode, BTreeMap<LegId, u32>), CallError> {
        self.set_mode_of(call, Speaker::Coach, mode).await
    }

    /// The same for a supervisor.
    pub async fn set_supervisor(
        &self,
        call: CallId,
        leg: LegId,
        mode: Mode,
    ) -> Result<(Mode, BTreeMap<LegId, u32>), CallError> {
        self.set_mode_of(call, Speaker::Leg(leg), mode).await
    }

    /// How loud a supervisor hears: ask first whether the leg is one.
    pub async fn set_volume(&self, call: CallId, leg: LegId, volume: Volume) -> Result<(), CallError> {
        self.command(call, Command::SetVolume { leg, volume }).await.map(drop)
    }

    /// Call a supervisor's telephone and let them in. Answers before it rings.
    pub fn summon(&self, call: CallId, to: &str, mode: Mode) -> Result<(), CallError> {
        Ok(self.registry.summon(call, self.entry(call)?, to, mode)?)
    }

    /// Begin a call that nobody dialled here. Answers before anything rings.
    pub fn originate(&self, order: Order) -> Result<CallId, Unbegun> {
        self.registry.originate(order)
    }

    /// Make a supervisor the agent, or one again.
    pub async fn take_over(&self, call: CallId, leg: LegId, take_over: bool) -> Result<(), CallError> {
        let command = if take_over { Command::TakeOver { leg } } else { Command::GiveBack { leg } };
        self.command(call, command).await.map(drop)
    }

    /// Say that an agent's leg, whose far end had changed, is the agent's: whispers reach it again.
    pub async fn vouch(&self, call: CallId, leg: LegId) -> Result<(), CallError> {
        self.command(call, Command::Vouch { leg, by: Actor::Person }).await.map(drop)
    }

    /// Send a supervisor away; their line is hung up.
    pub async fn remove_supervisor(&self, call: CallId, leg: LegId) -> Result<(), CallError> {
        self.supervisor(call, leg).await?;
        let reason = "removed through the API".into();
        self.command(call, Command::RemoveLeg { leg, reason }).await.map(drop)
    }

    /// Whether the leg is a supervisor's.
    pub async fn supervisor(&self, call: CallId, leg: LegId) -> Result<(), CallError> {
        match self.get(call).await?.view.legs.iter().find(|l| l.id == leg).map(|l| (l.role, l.stands_in)) {
            Some((Role::Supervisor, _) | (_, true)) => Ok(()),
            Some((Role::Customer | Role::Agent | Role::Bridge | Role::Earpiece, false)) => {
                Err(Refusal::NotASupervisor(leg).into())
            }
            None => Err(Refusal::NoSuchLeg(leg).into()),
        }
    }

    async fn set_mode_of(
        &self,
        call: CallId,
        speaker: Speaker,
        mode: Mode,
    ) -> Result<(Mode, BTreeMap<LegId, u32>), CallError> {
        let command = Command::SetMode { speaker, mode, by: Actor::Person };
        match self.command(call, command).await? {
            Ack::Mode { mode, effective } => Ok((mode, effective)),
            Ack::Done | Ack::Leg(_) | Ack::Clip(_) | Ack::View(_) | Ack::Onward(_) => Ok((mode, BTreeMap::new())),
        }
    }

    /// Say something. Answers when the clip was accepted; `clip.ended` tells when its last sample was sent.
    pub async fn say(&self, call: CallId, text: &str, voice: Option<&str>, to: SayTo) -> Result<ClipId, CallError> {
        let view = self.get(call).await?.view;
        let audience = audience(&view, to)?;
        let pcm = self.synthesiser.speak(text, voice).await?;
        let clip = ClipSpec { pcm, audience, looped: false, text: Some(text.into()) };
        match self.command(call, Command::Play(clip)).await? {
            Ack::Clip(clip) => Ok(clip),
            Ack::Done | Ack::Leg(_) | Ack::Mode { .. } | Ack::View(_) | Ack::Onward(_) => Err(Refusal::Ended.into()),
        }
    }

    /// Record, transcribe and coach nothing until `resume`. Once this has answered, nothing more is kept.
    pub async fn pause(&self, call: CallId) -> Result<(), CallError> {
        self.command(call, Command::Pause).await.map(drop)
    }

    /// The end of a pause.
    pub async fn resume(&self, call: CallId) -> Result<(), CallError> {
        self.command(call, Command::Resume).await.map(drop)
    }

    /// What the customer says about being listened to. Who dials from now on is held to it, and who listens already.
    pub async fn set_consent(&self, call: CallId, consent: Consent) -> Result<(), CallError> {
        let shard = self.entry(call)?.shard;
        match self.registry.set_consent(call, &shard, consent).await {
            Err(Refusal::Ended) => Err(CallError::NoSuchCall(call)),
            other => Ok(other?),
        }
    }

    /// Take the coach away; the people go on.
    pub async fn close(&self, call: CallId) -> Result<(), CallError> {
        self.command(call, Command::Close).await?;
        if let Some(conversations) = &self.conversations {
            conversations.close(call);
        }
        Ok(())
    }

    /// Hang up everyone.
    pub async fn hangup(&self, call: CallId) -> Result<(), CallError> {
        self.entry(call)?.handle.hangup("hung up through the API");
        Ok(())
    }

    /// How many calls have not ended.
    pub fn count(&self) -> usize {
        self.registry.len()
    }

    /// Whether another call can be taken.
    pub fn room(&self) -> Result<(), Why> {
        self.registry.room()
    }

    fn entry(&self, call: CallId) -> Result<Entry, CallError> {
        self.registry.get(call).ok_or(CallError::NoSuchCall(call))
    }

    async fn command(&self, call: CallId, command: Command) -> Result<Ack, CallError> {
        match self.entry(call)?.shard.command(call, command).await {
            Err(Refusal::Ended) => Err(CallError::NoSuchCall(call)),
            other => Ok(other?),
        }
    }
}

async fn describe(id: CallId, entry: Entry) -> Result<NamedCall, CallError> {
    match entry.shard.command(id, Command::Describe).await {
        Ok(Ack::View(view)) => {
            let Entry { caller, called, began_ms, code, conference, .. } = entry;
            Ok(NamedCall { id, code, caller, called, began_ms, conference, view })
        }
        Ok(_) | Err(_) => Err(CallError::NoSuchCall(id)),
    }
}

/// The API's words as the call's.
fn audience(view: &CallView, to: SayTo) -> Result<Audience, Refusal> {
    let of_role = |role: Role| view.legs.iter().filter(|l| l.role == role).map(|l| l.id).collect::<Vec<_>>();
    let legs = match to {
        SayTo::Mode => return Ok(Audience::Mode),
        SayTo::Legs(legs) => legs,
        SayTo::Customer => of_role(Role::Customer),
        SayTo::Agent => of_role(Role::Agent),
    };
    if legs.is_empty() { Err(Refusal::NobodyListens) } else { Ok(Audience::Legs(legs)) }
}
