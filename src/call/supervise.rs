//! A supervisor in a call: what they may do, how long they listened in which way, taking over from the agent and giving
//! back, and going on to another call with the same line.

use crate::call::engine::{Call, UNPROVEN};
use crate::call::keys::Held;
use crate::call::leg::Leg;
use crate::call::{Ack, Audience, ClipSpec, LegMedia, LegSpec, Refusal, Sound, Volume};
use crate::event::{Actor, Address, Consent, Listened, Mode, Place, Role, What, Words};
use crate::id::LegId;
use crate::media::sender::SenderLine;
use crate::time::{MediaTime, Samples};
use serde::{Deserialize, Serialize};

/// What a supervisor may do beyond hearing. What is not said is not allowed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct May {
    /// To be heard by the agent.
    pub whisper: bool,
    /// To be heard by all.
    pub barge: bool,
    /// To become the agent.
    pub take_over: bool,
}

impl May {
    /// Everything.
    pub const ALL: May = May { whisper: true, barge: true, take_over: true };

    /// Whether this mode is among it. To hear is what a supervisor is let in for.
    pub fn be_in(self, mode: Mode) -> bool {
        match mode {
            Mode::Spy => true,
            Mode::Whisper => self.whisper,
            Mode::Barge => self.barge,
        }
    }

    /// What either allows.
    pub fn or(self, other: May) -> May {
        May {
            whisper: self.whisper || other.whisper,
            barge: self.barge || other.barge,
            take_over: self.take_over || other.take_over,
        }
    }
}

/// What is left of a supervisor's rights while the customer has not agreed to be listened to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unagreed {
    /// All of them: nobody's consent is asked for.
    #[default]
    All,
    /// These.
    Only(May),
    /// None: not even to hear.
    Nothing,
}

/// What a supervisor may do in a call, whatever its customer says about being listened to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rights {
    /// Beyond hearing, where the customer has agreed.
    pub may: May,
    /// Where they have not.
    #[serde(default)]
    pub unagreed: Unagreed,
}

impl Rights {
    /// Everything, and nobody is asked.
    pub const ALL: Rights = Rights { may: May::ALL, unagreed: Unagreed::All };

    /// What holds under this consent; none: not even to hear.
    pub fn under(self, consent: Consent) -> Option<May> {
        match (consent, self.unagreed) {
            (Consent::Given, _) | (_, Unagreed::All) => Some(self.may),
            (Consent::Unknown | Consent::Refused, Unagreed::Only(may)) => Some(may),
            (Consent::Unknown | Consent::Refused, Unagreed::Nothing) => None,
        }
    }
}

/// A supervisor who joins.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Supervising {
    /// Who, for events.
    pub address: Address,
    /// In which mode they begin.
    pub mode: Mode,
    /// What they may do.
    #[serde(flatten)]
    pub rights: Rights,
    /// What SDP settled.
    pub media: LegMedia,
    /// The line they had in another call, if they come from one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub onward: Option<Onward>,
}

/// A line between two calls: its numbers, its volume, and the rest of the press that brought them here.
/// Nothing of what was said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Onward {
    pub(super) line: SenderLine,
    pub(super) held: Held,
    pub(super) volume: Volume,
}

impl Onward {
    /// The same line so much later.
    pub fn after(self, passed: Samples) -> Self {
        Onward { line: self.line.after(passed), ..self }
    }
}

/// How a supervisor is there.
#[derive(Clone, Debug)]
pub(super) enum Manner {
    /// In a mode.
    In(Mode),
    /// As the agent, in the stead of these.
    StandsIn(Vec<LegId>),
}

/// What a call knows of a supervisor beside their leg.
#[derive(Clone)]
pub(crate) struct Supervision {
    rights: Rights,
    /// What they allow as things are.
    may: May,
    /// The agents they hear.
    pub(super) whom: Vec<Address>,
    manner: Manner,
    since: MediaTime,
    listened: Listened,
}

impl Supervision {
    pub fn new(rights: Rights, may: May, whom: Vec<Address>, now: MediaTime) -> Self {
        Supervision { rights, may, whom, manner: Manner::In(Mode::Spy), since: now, listened: Listened::default() }
    }

    /// Whoever was made a supervisor without rules.
    pub fn without_rules(whom: Vec<Address>, now: MediaTime) -> Self {
        Supervision::new(Rights::ALL, May::ALL, whom, now)
    }

    /// Whether they are the agent now.
    pub fn stands_in(&self) -> bool {
        match self.manner {
            Manner::In(_) => false,
            Manner::StandsIn(_) => true,
        }
    }

    /// From now on they are there in this manner.
    pub fn is(&mut self, now: MediaTime, manner: Manner) {
        (self.listened, self.since) = (self.listened(now), now);
        self.manner = manner;
    }

    /// How long they listened, in which way.
    fn listened(&self, now: MediaTime) -> Listened {
        let (mut listened, passed) = (self.listened, (now - self.since).as_millis());
        *match self.manner {
            Manner::In(Mode::Spy) => &mut listened.spy_ms,
            Manner::In(Mode::Whisper) => &mut listened.whisper_ms,
            Manner::In(Mode::Barge) => &mut listened.barge_ms,
            Manner::StandsIn(_) => &mut listened.took_over_ms,
        } += passed;
        listened
    }
}

impl Leg {
    /// Whether the rules let this supervisor be in `mode`.
    pub(super) fn may(&self, mode: Mode) -> Result<(), Refusal> {
        let allowed = self.supervision.as_ref().is_none_or(|s| s.may.be_in(mode));
        let what = match mode {
            Mode::Spy => "listen",
            Mode::Whisper => "whisper",
            Mode::Barge => "be heard by all",
        };
        if allowed { Ok(()) } else { Err(Refusal::NotPermitted(what)) }
    }

    /// What is told of a supervisor who is gone.
    pub(super) fn supervisor_left(&self, now: MediaTime, mode: Mode, reason: String) -> What {
        let known = self.supervision.as_ref();
        let whom = known.map(|s| s.whom.clone()).unwrap_or_default();
        let listened = known.map(|s| s.listened(now)).unwrap_or_default();
        What::SupervisorLeft { who: self.address.clone(), mode, reason, whom, listened }
    }
}

impl Call {
    /// The addresses of the call's agents.
    pub(super) fn agents(&self) -> Vec<Address> {
        self.legs.iter().filter(|l| l.party.role == Role::Agent).map(|l| l.address.clone()).collect()
    }

    pub(super) fn supervise(&mut self, supervising: Supervising) -> Result<Ack, Refusal> {
        let Supervising { address, mode, rights, media, onward } = supervising;
        // Asked before the first frame, whatever was known when they dialled.
        let may =
            rights.under(self.consent).ok_or(Refusal::NotPermitted("listen: the customer has not agreed to it"))?;
        if !may.be_in(mode) {
            return Err(Refusal::NotPermitted("join in this mode"));
        }
        let spec = LegSpec { role: Role::Supervisor, place: Place::InConversation, mode, address, media };
        let supervision = Supervision::new(rights, may, self.agents(), self.now);
        self.add(spec, Some(supervision), onward)
    }

    /// What the customer says about being listened to holds at once: whoever may not hear any more is gone, and whoever may
    /// not speak as they do is in spy. Nobody's mode is widened by it.
    pub(super) fn set_consent(&mut self, consent: Consent) {
        if self.consent == consent {
            return;
        }
        self.consent = consent;
        self.tell(None, What::ConsentChanged { consent });
        let supervisors: Vec<LegId> = self.legs.iter().filter(|l| l.supervision.is_some()).map(Leg::id).collect();
        supervisors.into_iter().for_each(|leg| self.keep_to_rights(leg));
    }

    fn keep_to_rights(&mut self, leg: LegId) {
        let Some(at) = self.place_of(leg) else { return };
        let Some(supervision) = self.legs[at].supervision.as_mut() else { return };
        let allowed = supervision.rights.under(self.consent);
        supervision.may = allowed.unwrap_or_default();
        if self.legs[at].stands_in() && !allowed.is_some_and(|may| may.take_over) && self.give_back(leg).is_err() {
            // No agent is left to give back to: they are the one whom the customer talks to.
            return;
        }
        let Some(may) = allowed else {
            return self.remove_leg(at, "the customer does not agree to be listened to".into());
        };
        if !may.be_in(self.legs[at].mode()) {
            let _ = self.set_supervisor(leg, Mode::Spy, Actor::Guard);
        }
    }

    /// Takes the leg out without a word to its far end: the line is kept up.
    pub(super) fn move_on(&mut self, leg: LegId, reason: String) -> Result<Ack, Refusal> {
        let at = self.place_of(leg).ok_or(Refusal::NoSuchLeg(leg))?;
        match self.legs[at].party.role {
            Role::Customer | Role::Agent | Role::Supervisor if !self.legs[at].stands_in() => {}
            Role::Customer | Role::Agent | Role::Supervisor => {
                return Err(Refusal::NotNow("this supervisor has taken over"));
            }
            Role::Bridge | Role::Earpiece => return Err(Refusal::NotNow("this line belongs to its call")),
        }
        let onward = self.legs[at].onward(self.now);
        self.take_out(at, reason);
        Ok(Ack::Onward(onward))
    }

    /// The agents step aside first, so that at no time somebody hears what was not meant for them.
    pub(super) fn take_over(&mut self, leg: LegId) -> Result<Ack, Refusal> {
        let at = self.place_of(leg).ok_or(Refusal::NoSuchLeg(leg))?;
        if self.legs[at].party.role != Role::Supervisor {
            return Err(Refusal::NotASupervisor(leg));
        }
        if self.legs[at].supervision.as_ref().is_some_and(|s| !s.may.take_over) {
            return Err(Refusal::NotPermitted("take over"));
        }
        if self.legs.iter().any(Leg::stands_in) {
            return Err(Refusal::NotNow("somebody has taken over already"));
        }
        let agent = |l: &&Leg| l.party.role == Role::Agent && l.in_conversation();
        let aside: Vec<LegId> = self.legs.iter().filter(agent).map(Leg::id).collect();
        if aside.is_empty() || !self.legs[at].in_conversation() {
            return Err(Refusal::NotNow("there is no agent to take over from"));
        }
        self.move_agents(&aside, Place::Aside);
        self.set_role(at, Role::Agent);
        let (now, whom) = (self.now, Vec::new());
        let supervision = self.legs[at].supervision.get_or_insert_with(|| Supervision::without_rules(whom, now).into());
        supervision.is(now, Manner::StandsIn(aside.clone()));
        self.announce_barge();
        self.tell(Some(leg), What::SupervisorTookOver { aside });
        Ok(Ack::Done)
    }

    pub(super) fn give_back(&mut self, leg: LegId) -> Result<Ack, Refusal> {
        let at = self.place_of(leg).ok_or(Refusal::NoSuchLeg(leg))?;
        let Some(aside) = self.legs[at].set_aside() else {
            return Err(Refusal::NotNow("this supervisor has not taken over"));
        };
        if !aside.iter().any(|l| self.place_of(*l).is_some()) {
            return Err(Refusal::NotNow("there is no agent left to give back to"));
        }
        self.come_back(at);
        Ok(Ack::Done)
    }

    /// Whoever has taken over is a supervisor again, before the agents are back.
    pub(super) fn come_back(&mut self, at: usize) {
        let Some(mut back) = self.legs[at].set_aside() else { return };
        let (now, leg) = (self.now, self.legs[at].id());
        self.legs[at].supervision.iter_mut().for_each(|s| s.is(now, Manner::In(Mode::Spy)));
        self.set_role(at, Role::Supervisor);
        back.retain(|l| self.place_of(*l).is_some());
        // What they were told while they waited is over, however far it was.
        back.iter().for_each(|agent| self.cut_what_is_told(*agent));
        self.move_agents(&back, Place::InConversation);
        self.tell(Some(leg), What::SupervisorGaveBack { back });
    }

    fn move_agents(&mut self, agents: &[LegId], place: Place) {
        for agent in agents {
            if let Some(at) = self.place_of(*agent) {
                self.set_place(at, place);
            }
        }
    }

    /// Says something to one leg alone.
    pub(super) fn tell_leg(&mut self, leg: LegId, pcm: Sound, text: Words) -> Result<Ack, Refusal> {
        let at = self.place_of(leg).ok_or(Refusal::NoSuchLeg(leg))?;
        if self.legs[at].suspended {
            return Err(Refusal::NotPrivate(UNPROVEN));
        }
        let spec = ClipSpec { pcm, audience: Audience::Legs(vec![leg]), looped: false, text: Some(text) };
        self.clips.add_told(spec, leg).map(Ack::Clip)
    }

    /// Who presses a key, or is back in the call, has heard enough of what is being told to them.
    pub(super) fn cut_what_is_told(&mut self, leg: LegId) {
        let told = |call: &Call| call.clips.iter().find(|c| c.told == Some(leg)).map(|c| c.id);
        while told(self).is_some_and(|clip| self.cut(clip, "enough was heard".into()).is_ok()) {}
    }
}

impl Leg {
    /// Those for whom it stands in, if it does.
    fn set_aside(&self) -> Option<Vec<LegId>> {
        match &self.supervision.as_ref()?.manner {
            Manner::In(_) => None,
            Manner::StandsIn(aside) => Some(aside.clone()),
        }
    }
}
