//! Calls that nobody dialled here: a customer and an agent who are both called, or somebody else's conference that is dialled
//! into, asked for through the API.
//!
//! ```text
//!   order ─► checked (addresses, trunk, PIN) ─► task ─┬─ agent, then customer: joined as they answer
//!                                                     └─ bridge: PIN ─► in conversation ─► announce ─► until alone
//!                                                           └─ earpiece: code ─► whispers are heard there
//! ```
//!
//! The answer to who asked is given before anything rings; events tell the rest, and `call.ended` why nobody came.

mod alone;
mod callee;
mod conference;
mod earpiece;
mod party;
mod pin;
mod roster;

pub use roster::Conference;

use crate::call::{CallOptions, Code, Command, Speaker};
use crate::event::{Actor, Address, Mode, Place, Role};
use crate::id::{CallId, LegId};
use crate::io::load::Why;
use crate::io::shard::Shard;
use crate::io::sip::audio;
use crate::io::sip::controller::{End, wished};
use crate::io::sip::outward::callee::Callee;
use crate::io::sip::outward::party::{Gone, Parties, Reached};
use crate::io::sip::registry::{Entry, Handle};
use crate::io::sip::switchboard::{Live, Switchboard};
use crate::io::{clock, probes};
use crate::media::codec::Codec;
use pin::{Pin, Way};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tracing::Instrument;

/// What one is offered whom nobody has to be relayed to.
const CODECS: [Codec; 2] = [Codec::Pcmu, Codec::Pcma];

/// What is asked for, as it was written.
#[derive(Clone, Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Order {
    /// The customer's address, with `agent`.
    pub customer: Option<String>,
    /// The agent's.
    pub agent: Option<String>,
    /// The address of a conference.
    pub bridge: Option<String>,
    /// What is keyed in there: digits, `*`, `#`, and `,` for each pause.
    pub pin: Option<crate::config::Secret>,
    /// How: `rfc4733`, `inband` or `info`. None: telephone events where they were agreed on, else tones.
    pub keys: Option<Way>,
    /// Seconds of a `,`: 2, as modems have it.
    pub pause: Option<f32>,
    /// A sentence said to the conference. None: we are silent.
    pub announce: Option<String>,
    /// Seconds after which we leave when nobody else is there: 60.
    pub alone: Option<u32>,
    /// The agent's private line.
    pub earpiece: Option<Earpiece>,
    /// The coach's mode once it is possible: spy.
    #[serde(default)]
    pub mode: Mode,
    /// The playbook; else the configured one.
    pub playbook: Option<String>,
    /// The trunk that leads there, where its address does not tell.
    pub trunk: Option<String>,
    /// Seconds it may ring: 60.
    pub ring: Option<u32>,
}

/// An agent's private line.
#[derive(Clone, Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Earpiece {
    /// Its address.
    pub to: String,
    /// A code that the agent was shown otherwise. None: one is drawn, and said on that line.
    pub code: Option<crate::config::Secret>,
}

/// Why a call cannot be begun.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unbegun {
    /// Neither one thing nor the other.
    #[error("name either customer and agent, or bridge")]
    Whom,
    /// It is no address.
    #[error("{0}: write the address of a telephone as sip:NAME@HOST")]
    Address(&'static str),
    /// Nobody knows what holds there.
    #[error("{0}: no [[trunk]] has this address among its sources: name the one that leads there with \"trunk\"")]
    NoTrunk(&'static str),
    /// There is no such trunk.
    #[error("there is no trunk named {0:?}")]
    Trunk(String),
    /// The trunk's rules.
    #[error("{0}: the trunk's may_be_called does not have this number")]
    NotAllowed(&'static str),
    /// There is no listening address of its family and transport.
    #[error("{0}: no [sip] listen address can reach this address")]
    Family(&'static str),
    /// Something else that was written.
    #[error("{0}")]
    Written(&'static str),
    /// There is no such playbook.
    #[error("there is no playbook named {0:?}")]
    Playbook(String),
    /// DESIGN §2.4.
    #[error(
        "a whisper cannot be private on a bridge, where everyone hears everything: name the agent's private line with \"earpiece\""
    )]
    NotPrivate,
    /// There is no room for another call.
    #[error("the server takes no calls now: {0}")]
    Full(Why),
    /// There is no SIP here, or it is ending.
    #[error("the server takes no calls now: {0}")]
    Closed(&'static str),
}

/// Whom to call, checked.
enum Whom {
    Both { customer: Callee, agent: Callee },
    Bridge { bridge: Callee, earpiece: Option<(Callee, Option<Code>)> },
}

/// A call of ours.
pub(super) struct Outward {
    board: Arc<Switchboard>,
    id: CallId,
    shard: Shard,
    order: Order,
    ring: Duration,
}

/// Begins a call. Answers before anything rings.
pub fn begin(board: Arc<Switchboard>, order: Order) -> Result<CallId, Unbegun> {
    let whom = check(&board, &order)?;
    board.room(0).map_err(|why| {
        board.host.load.refused(why);
        Unbegun::Full(why)
    })?;
    let id = CallId::new(clock::wall_ms().max(0) as u64, 0, 0, clock::random());
    let live = board.begin((id.to_string(), "ours".into(), 0)).ok_or(Unbegun::Closed("try again"))?;
    let shard = board.host.shard_for_next();
    let (handle, wish) = Handle::new();
    let entry = Entry::new(shard.clone(), handle, "sotto".into(), whom.first());
    board.host.registry.insert(id, entry);
    let ring = Duration::from_secs(order.ring.unwrap_or(60).into());
    tokio::spawn(run(Arc::new(Outward { board, id, shard, order, ring }), whom, wish, live));
    Ok(id)
}

fn check(board: &Switchboard, order: &Order) -> Result<Whom, Unbegun> {
    if let Some(name) = order.playbook.as_ref().filter(|name| !board.config.playbooks.contains_key(name.as_str())) {
        return Err(Unbegun::Playbook(name.clone()));
    }
    if !order.pause.is_none_or(|pause| (0.1..=30.0).contains(&pause)) {
        return Err(Unbegun::Written("pause: 0.1 to 30 seconds"));
    }
    if order.ring == Some(0) || order.ring.is_some_and(|ring| ring > 600) {
        return Err(Unbegun::Written("ring: 1 to 600 seconds"));
    }
    if order.alone == Some(0) {
        return Err(Unbegun::Written("alone: 1 second at least"));
    }
    let find = |what, to: &str| Callee::find(board, what, to, order.trunk.as_deref());
    match (&order.customer, &order.agent, &order.bridge) {
        (Some(customer), Some(agent), None) => {
            if order.pin.is_some() || order.announce.is_some() || order.earpiece.is_some() || order.keys.is_some() {
                return Err(Unbegun::Written("pin, keys, announce and earpiece belong to a bridge"));
            }
            Ok(Whom::Both { customer: find("customer", customer)?, agent: find("agent", agent)? })
        }
        (None, None, Some(bridge)) => {
            let bridge = find("bridge", bridge)?;
            if order.pin.as_ref().is_some_and(|pin| Pin::read(pin.reveal()).is_none()) {
                let what = "pin: digits, *, # and A to D, and a comma for each pause; 64 of them at most";
                return Err(Unbegun::Written(what));
            }
            if order.announce.as_ref().is_some_and(|text| text.chars().count() > 500) {
                return Err(Unbegun::Written("announce: 500 characters at most"));
            }
            if order.mode == Mode::Whisper && order.earpiece.is_none() {
                return Err(Unbegun::NotPrivate);
            }
            let earpiece = order.earpiece.as_ref().map(|earpiece| {
                let code = earpiece.code.as_ref().map(|code| Code::read(code.reveal()));
                match code {
                    Some(None) => Err(Unbegun::Written("earpiece.code: 4 to 12 digits")),
                    Some(Some(code)) => Ok((find("earpiece", &earpiece.to)?, Some(code))),
                    None => Ok((find("earpiece", &earpiece.to)?, None)),
                }
            });
            Ok(Whom::Bridge { bridge, earpiece: earpiece.transpose()? })
        }
        _ => Err(Unbegun::Whom),
    }
}

impl Whom {
    fn first(&self) -> Address {
        match self {
            Whom::Both { customer, .. } => customer.to.clone(),
            Whom::Bridge { bridge, .. } => bridge.to.clone(),
        }
    }
}

/// Runs a call from its first INVITE to its last BYE.
async fn run(call: Arc<Outward>, whom: Whom, wish: watch::Receiver<Option<String>>, live: Live) {
    let span = tracing::info_span!("call", id = %call.id);
    let parties = Arc::new(Parties::default());
    let work = conduct(call.clone(), whom, parties.clone(), wish);
    // In a task of its own, so that a panic in it still ends the call properly.
    let work = tokio::spawn(work.instrument(span.clone()));
    let end = work.await.unwrap_or_else(|_| End::new("internal error", 500));
    call.end(&parties, end).instrument(span).await;
    drop(live);
}

async fn conduct(
    call: Arc<Outward>,
    whom: Whom,
    parties: Arc<Parties>,
    mut wish: watch::Receiver<Option<String>>,
) -> End {
    if let Err(end) = call.open(&whom).await {
        return end;
    }
    let work = async {
        let ended = match whom {
            Whom::Both { customer, agent } => call.join_both(customer, agent, &parties).await,
            Whom::Bridge { bridge, earpiece } => conference::run(&call, bridge, earpiece, &parties).await,
        };
        ended.unwrap_or_else(|end| end)
    };
    tokio::select! {
        biased;
        reason = wished(&mut wish) => End::new(reason, 480),
        end = work => end,
    }
}

impl Outward {
    async fn open(&self, whom: &Whom) -> Result<(), End> {
        let config = &self.board.config;
        let entry = self.board.host.registry.get(self.id).ok_or_else(|| End::new("the call is gone", 481))?;
        let options = CallOptions {
            seed: clock::random(),
            caller: entry.caller,
            called: entry.called,
            code: Some(entry.code),
            listen: config.speech.model.is_some() || config.media.tap,
            // What comes over a bridge belongs to neither channel.
            record: config.recording.enabled && matches!(whom, Whom::Both { .. }),
            ears: config.coach.ears,
        };
        if let Some(conversations) = self.board.host.conversations.as_ref().filter(|_| options.listen) {
            let playbook = self.order.playbook.as_ref().unwrap_or(&config.coach.playbook);
            conversations.open(self.id, playbook.as_str().into());
        }
        self.shard.open(self.id, options).await?;
        let (kind, trunks) = match whom {
            Whom::Both { customer, agent } => (probes::Kind::Call, [Some(&customer.trunk), Some(&agent.trunk)]),
            Whom::Bridge { bridge, earpiece } => {
                (probes::Kind::Bridge, [Some(&bridge.trunk), earpiece.as_ref().map(|(callee, _)| &callee.trunk)])
            }
        };
        for trunk in trunks.into_iter().flatten() {
            if let Some(proven) = probes::proven(config, trunk, kind).await {
                self.command(Command::Prove(proven)).await?;
            }
        }
        Ok(())
    }

    /// The agent first: no customer waits for one who does not come.
    async fn join_both(&self, customer: Callee, agent: Callee, parties: &Parties) -> Result<End, End> {
        let (customer, agent) = (Arc::new(customer), Arc::new(agent));
        let reached = party::dial(self, &agent, &CODECS, parties).await?;
        let codec = reached.codec();
        let (agent_leg, mut agent_gone) = self.join(reached, Role::Agent, Place::InConversation, parties).await?;
        self.board.host.registry.has_agent(self.id, agent.to.clone());
        let tone = self.ring(agent_leg).await;
        let mut codecs = vec![codec];
        codecs.extend(CODECS.into_iter().filter(|c| *c != codec));
        let dialled = tokio::select! {
            biased;
            reason = agent_gone.reason() => return Ok(End::new(reason.replacen("called party", "agent", 1), 487)),
            reached = party::dial(self, &customer, &codecs, parties) => reached,
        };
        if let Some(clip) = tone {
            let _ = self.command(Command::Cut { clip, reason: "something else is to be heard".into() }).await;
        }
        let (_, mut customer_gone) = self.join(dialled?, Role::Customer, Place::InConversation, parties).await?;
        self.be_in_mode().await;
        let (who, reason) = tokio::select! {
            biased;
            reason = agent_gone.reason() => ("agent", reason),
            reason = customer_gone.reason() => ("customer", reason),
        };
        Ok(End::new(reason.replacen("called party", who, 1), 487))
    }

    async fn ring(&self, leg: LegId) -> Option<crate::id::ClipId> {
        let audience = crate::call::Audience::Legs(vec![leg]);
        let clip = crate::call::ClipSpec { pcm: audio::ringing(), audience, looped: true, text: None };
        match self.command(Command::Play(clip)).await {
            Ok(crate::call::Ack::Clip(clip)) => Some(clip),
            Ok(_) | Err(_) => None,
        }
    }

    async fn join(&self, reached: Reached, role: Role, place: Place, parties: &Parties) -> Result<(LegId, Gone), End> {
        party::join(self, reached, role, place, parties).await
    }

    /// The mode that was asked for, once it is possible.
    async fn be_in_mode(&self) {
        let mode = self.order.mode;
        if mode != Mode::Spy {
            let set = Command::SetMode { speaker: Speaker::Coach, mode, by: Actor::Person };
            if let Err(refusal) = self.command(set).await {
                tracing::warn!(%refusal, "the mode that was asked for is refused");
            }
        }
    }

    async fn command(&self, command: Command) -> Result<crate::call::Ack, crate::call::Refusal> {
        self.shard.command(self.id, command).await
    }

    /// Ends everything of the call: media first, then all lines side by side.
    async fn end(&self, parties: &Parties, end: End) {
        tracing::info!(reason = %end.reason, "the call ends");
        let _ = self.command(Command::End { reason: end.reason.clone() }).await;
        self.board.host.registry.remove(self.id);
        parties.release(&self.board, &end.reason).await;
    }
}
