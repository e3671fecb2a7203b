//! DESIGN §2 once more, written from its prose and sharing nothing with the code under test: who may hear whom, who
//! a clip is for, and what must be refused. A call is mirrored here command by command.

use sotto::call::{Audience, Refusal};
use sotto::event::{Mode, Place, Role};
use sotto::id::{ClipId, LegId};
use std::collections::BTreeMap;

/// The table as printed, `listener: customer agent spy whisper barge`. "Bridge" is heard as the agent is.
const TABLE: &str = "
    customer:   yes yes no  no  yes
    agent:      yes yes no  yes yes
    supervisor: yes yes no  yes yes
    bridge:     yes yes no  no  yes
    earpiece:   no  no  no  yes no
";

/// The cells of `TABLE`: listener by row, source by column.
pub struct Cells([[bool; 5]; 5]);

impl Cells {
    pub fn read() -> Self {
        let rows: Vec<[bool; 5]> = TABLE
            .trim()
            .lines()
            .map(|line| {
                let cells: Vec<bool> = line.split_whitespace().skip(1).map(|w| w == "yes").collect();
                cells.try_into().unwrap()
            })
            .collect();
        Cells(rows.try_into().unwrap())
    }
    fn cell(&self, listener: Role, source: Role, mode: Mode) -> bool {
        let row = match listener {
            Role::Customer => 0,
            Role::Agent => 1,
            Role::Supervisor => 2,
            Role::Bridge => 3,
            Role::Earpiece => 4,
        };
        match (source, mode) {
            (Role::Customer, _) => self.0[row][0],
            (Role::Agent | Role::Bridge, _) => self.0[row][1],
            (Role::Supervisor, Mode::Spy) => self.0[row][2],
            (Role::Supervisor, Mode::Whisper) => self.0[row][3],
            (Role::Supervisor, Mode::Barge) => self.0[row][4],
            (Role::Earpiece, _) => false,
        }
    }
}

/// What is known of a leg.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known {
    pub role: Role,
    /// Where it is now.
    pub place: Place,
    /// Where it is when nobody holds.
    pub own: Place,
    /// Where it is while somebody holds.
    pub held: Option<Place>,
    pub mode: Mode,
    /// Until when (ms) it is muted after a widening.
    pub muted_until: i64,
    /// Whether its far end may be anybody.
    pub suspended: bool,
    /// When (ms) its far end agreed on something last.
    pub agreed: i64,
}

impl Known {
    /// As what it hears: an agent who may be anybody hears what a customer does, their private line nothing.
    pub fn ear(&self) -> Option<Role> {
        match self.role {
            Role::Agent if self.suspended => Some(Role::Customer),
            Role::Earpiece if self.suspended => None,
            role => Some(role),
        }
    }

    /// Its far end is somebody else.
    pub fn suspend(&mut self) {
        self.suspended = matches!(self.role, Role::Agent | Role::Earpiece);
    }
}

/// What a voice was when it was received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Voice {
    pub leg: LegId,
    pub role: Role,
    pub place: Place,
    pub mode: Mode,
}

/// What is known of a clip.
#[derive(Clone, Debug)]
pub struct KnownClip {
    pub rule: Audience,
    pub slot: usize,
    pub pulses: usize,
    pub looped: bool,
    /// Who may hear it; none before it has begun.
    pub audience: Option<Vec<LegId>>,
    /// Roles of its audience at its first sample.
    pub roles: Vec<Role>,
    /// Pulses each has got.
    pub got: BTreeMap<LegId, usize>,
}

/// The call, mirrored.
pub struct Oracle {
    cells: Cells,
    pub legs: BTreeMap<LegId, Known>,
    pub coach: Mode,
    pub borrowed: bool,
    pub closed: bool,
    pub clips: BTreeMap<ClipId, KnownClip>,
    /// Who has taken over, and from whom.
    pub stands_in: BTreeMap<LegId, Vec<LegId>>,
    /// The present time, ms.
    pub now: i64,
}

impl Oracle {
    pub fn new() -> Self {
        Oracle {
            cells: Cells::read(),
            legs: BTreeMap::new(),
            coach: Mode::Spy,
            borrowed: false,
            closed: false,
            clips: BTreeMap::new(),
            stands_in: BTreeMap::new(),
            now: 0,
        }
    }

    /// What a packet of `leg` received now is.
    pub fn voice(&self, leg: LegId, now: i64) -> Voice {
        let k = self.legs[&leg];
        let muted = now < k.muted_until;
        let mode = if k.role == Role::Supervisor && !muted { k.mode } else { Mode::Spy };
        // Who has just stopped being a supervisor takes part in nothing until what they whispered last is over.
        let place = if k.role != Role::Supervisor && muted { Place::Aside } else { k.place };
        Voice { leg, role: k.role, place, mode }
    }

    /// Whether `listener` may hear `voice` now: as it was received, and as its leg is now.
    pub fn may_hear(&self, listener: LegId, voice: Voice, now: i64) -> bool {
        let (Some(l), true) = (self.legs.get(&listener), self.legs.contains_key(&voice.leg)) else { return false };
        let passes = |v: &Voice| match (l.place, v.place) {
            (Place::InConversation, Place::InConversation) => true,
            // What the line of a party who holds plays, for those who talk and those who wait: nobody supervises music.
            (Place::InConversation | Place::Waiting, Place::Playing) => {
                l.role != Role::Supervisor && [Role::Customer, Role::Agent, Role::Bridge].contains(&v.role)
            }
            _ => false,
        };
        listener != voice.leg
            && [voice, self.voice(voice.leg, now)]
                .iter()
                .all(|v| passes(v) && l.ear().is_some_and(|ear| self.cells.cell(ear, v.role, v.mode)))
    }

    /// Everyone `listener` hears live now.
    pub fn sources(&self, listener: LegId, now: i64) -> Vec<LegId> {
        self.legs.keys().copied().filter(|s| self.may_hear(listener, self.voice(*s, now), now)).collect()
    }

    /// The one with whose packets all that `listener` hears goes: the only party, or else the only supervisor.
    pub fn carrier(&self, listener: LegId, now: i64) -> Option<LegId> {
        let sources = self.sources(listener, now);
        let (supervisors, parties): (Vec<_>, Vec<_>) =
            sources.into_iter().partition(|s| self.legs[s].role == Role::Supervisor);
        match (&parties[..], &supervisors[..]) {
            ([_], [_, ..]) if self.legs[&listener].role == Role::Supervisor => None,
            ([only], _) | ([], [only]) => Some(*only),
            _ => None,
        }
    }

    /// Whether somebody of the call would hear the second mode who does not hear the first.
    pub fn widens(&self, speaker: LegId, from: Mode, to: Mode) -> bool {
        self.legs.iter().any(|(l, k)| {
            let hears = |mode| self.cells.cell(k.ear().unwrap_or(k.role), Role::Supervisor, mode);
            *l != speaker && hears(to) && !hears(from)
        })
    }

    fn present(&self, role: Role) -> bool {
        self.legs.values().any(|k| k.ear() == Some(role) && k.place == Place::InConversation)
    }

    /// Whether a whisper stays private: somebody of the agent's side is in conversation on a line of their own.
    pub fn private(&self) -> bool {
        self.present(Role::Agent) || self.present(Role::Earpiece)
    }

    /// The mode people gave the coach.
    pub fn given(&self) -> Mode {
        if self.borrowed { Mode::Spy } else { self.coach }
    }

    /// Those the coach reaches in a mode.
    pub fn reached(&self, mode: Mode) -> Vec<LegId> {
        let hears = |role| match mode {
            Mode::Spy => false,
            Mode::Whisper => [Role::Agent, Role::Earpiece, Role::Supervisor].contains(&role),
            Mode::Barge => role != Role::Earpiece,
        };
        self.legs
            .iter()
            .filter(|(_, k)| k.place == Place::InConversation && k.ear().is_some_and(hears))
            .map(|(l, _)| *l)
            .collect()
    }

    /// For whom a clip is that begins now.
    pub fn audience(&self, rule: &Audience) -> Vec<LegId> {
        match rule {
            Audience::Mode => self.reached(self.given()),
            Audience::Own(mode) => self.reached(*mode),
            Audience::Legs(legs) => {
                self.legs.iter().filter(|(l, k)| legs.contains(l) && !k.suspended).map(|(l, _)| *l).collect()
            }
        }
    }

    /// Whether a clip must be refused now, and how.
    pub fn refusal(&self, rule: &Audience) -> Option<&'static str> {
        if self.closed {
            return Some("closed");
        }
        let mode = match rule {
            Audience::Mode => self.given(),
            Audience::Own(mode) => *mode,
            Audience::Legs(legs) if legs.iter().any(|l| !self.legs.contains_key(l)) => return Some("no such leg"),
            Audience::Legs(legs) if legs.is_empty() => return Some("nobody"),
            Audience::Legs(legs) => return legs.iter().all(|l| self.legs[l].suspended).then_some("not private"),
        };
        match mode {
            Mode::Spy => Some("spying"),
            Mode::Whisper => (!self.private()).then_some("not private"),
            Mode::Barge => self.reached(mode).is_empty().then_some("nobody"),
        }
    }

    /// A leg steps aside, or takes part again.
    pub fn put(&mut self, leg: LegId, place: Place) {
        let (now, known) = (self.now, self.legs.get_mut(&leg).expect("a leg of this call"));
        if std::mem::replace(&mut known.own, place) != place {
            known.agreed = now;
        }
        self.moved(leg);
    }

    /// A party holds, or is back; whoever was put aside meanwhile stays there.
    pub fn hold(&mut self, leg: LegId, held: Option<Place>) {
        self.legs.get_mut(&leg).expect("a leg of this call").held = held;
        self.moved(leg);
    }

    fn moved(&mut self, leg: LegId) {
        let known = self.legs.get_mut(&leg).expect("a leg of this call");
        known.place = known.held.unwrap_or(known.own);
        if known.place != Place::InConversation {
            self.narrow(&[leg]);
        }
    }

    /// A leg is something else. Who was a supervisor is muted until then.
    pub fn becomes(&mut self, leg: LegId, role: Role, muted_until: i64) {
        let known = self.legs.get_mut(&leg).expect("a leg of this call");
        if known.role == role {
            return;
        }
        if known.role == Role::Supervisor {
            known.muted_until = known.muted_until.max(muted_until);
        }
        (known.role, known.mode, known.suspended) = (role, Mode::Spy, false);
        self.stranger(leg);
    }

    /// Why a supervisor cannot take over now, or whose place they take.
    pub fn takes_over(&self, leg: LegId) -> Result<Vec<LegId>, &'static str> {
        if self.legs[&leg].role != Role::Supervisor {
            return Err("no supervisor");
        }
        let takes_part = |k: &Known, role| k.role == role && k.place == Place::InConversation;
        let agents: Vec<LegId> =
            self.legs.iter().filter(|(_, k)| takes_part(k, Role::Agent)).map(|(l, _)| *l).collect();
        let able = self.stands_in.is_empty() && takes_part(&self.legs[&leg], Role::Supervisor) && !agents.is_empty();
        if able { Ok(agents) } else { Err("not now") }
    }

    /// Whoever took over is a supervisor again, and those from whom are back.
    pub fn come_back(&mut self, leg: LegId) {
        let Some(back) = self.stands_in.remove(&leg) else { return };
        self.becomes(leg, Role::Supervisor, 0);
        for agent in back {
            if self.legs.contains_key(&agent) {
                self.put(agent, Place::InConversation);
            }
        }
    }

    /// A leg leaves the audience of every clip begun.
    pub fn stranger(&mut self, leg: LegId) {
        self.shrink(|l, _| l != leg);
    }

    /// The coach's mode is narrower now, or a leg stepped aside: who is out of reach hears no more of what was meant
    /// for those in reach.
    pub fn narrow(&mut self, gone: &[LegId]) {
        self.shrink(|l, clip| matches!(clip.rule, Audience::Legs(_)) || !gone.contains(&l));
    }

    fn shrink(&mut self, keep: impl Fn(LegId, &KnownClip) -> bool) {
        for clip in self.clips.values_mut() {
            if let Some(mut audience) = clip.audience.take() {
                audience.retain(|l| keep(*l, clip));
                clip.audience = Some(audience);
            }
        }
    }

    /// Whether `listener` has samples of a begun clip still to come.
    pub fn clip_playing_to(&self, listener: LegId) -> bool {
        self.clips.values().any(|c| {
            c.audience.as_ref().is_some_and(|a| a.contains(&listener))
                && (c.looped || c.got.get(&listener).copied().unwrap_or(0) < c.pulses)
        })
    }

    pub fn own_playing(&self) -> bool {
        self.clips.values().any(|c| c.audience.is_some() && matches!(c.rule, Audience::Own(_)))
    }
}

/// A refusal in the oracle's words.
pub fn named(refusal: &Refusal) -> &'static str {
    match refusal {
        Refusal::NoSuchLeg(_) => "no such leg",
        Refusal::NoSuchClip(_) => "no such clip",
        Refusal::NotASupervisor(_) => "no supervisor",
        Refusal::NotPrivate(_) => "not private",
        Refusal::NotPermitted(_) => "not permitted",
        Refusal::NotNow(_) => "not now",
        Refusal::Spying => "spying",
        Refusal::NobodyListens => "nobody",
        Refusal::Paused => "paused",
        Refusal::Unproven(_) => "unproven",
        Refusal::Closed => "closed",
        Refusal::TooManyClips(_) => "too many",
        Refusal::Ended => "ended",
        Refusal::NoWayBack => "no way back",
        Refusal::Limit(_) => "limit",
    }
}
