//! What a call does when it is told to.

use crate::call::engine::Call;
use crate::call::leg::Leg;
use crate::call::mode::{self, Party, Source};
use crate::call::record::Track;
use crate::call::supervise::{Manner, Onward, Supervision};
use crate::call::{Ack, Audience, CallState, CallView, ClipSpec, Command, LegMedia, LegSpec, Refusal, Speaker};
use crate::event::{Actor, Address, Mode, Place, Role, What};
use crate::id::{ClipId, LegId};
use crate::time::{MediaTime, Samples};
use std::net::SocketAddr;

/// Legs at most.
pub(super) const MAX_LEGS: usize = 16;
/// DESIGN §2.1: long enough that the tail of a word meant for fewer ears is over.
const MUTE: Samples = Samples::from_millis(200);

impl Call {
    pub(super) fn carry_out(&mut self, command: Command) -> Result<Ack, Refusal> {
        if self.state == CallState::Ended && !matches!(command, Command::Describe) {
            return Err(Refusal::Ended);
        }
        match command {
            Command::AddLeg(spec) => self.add_leg(spec),
            Command::Supervise(supervising) => self.supervise(supervising),
            Command::MoveOn { leg, reason } => self.move_on(leg, reason),
            Command::TakeIn { spec, onward } => self.add(spec, None, Some(onward)),
            Command::TakeOver { leg } => self.take_over(leg),
            Command::GiveBack { leg } => self.give_back(leg),
            Command::Tell { leg, pcm, text } => self.tell_leg(leg, pcm, text),
            Command::SetMedia { leg, media } => self.with_leg(leg, |call, at| call.set_media(at, media)),
            Command::SetPlace { leg, place } => self.with_leg(leg, |call, at| call.set_place(at, place)),
            Command::SetHeld { leg, place } => self.with_leg(leg, |call, at| call.set_held(at, place)),
            Command::SetRole { leg, role } => self.with_leg(leg, |call, at| {
                call.come_back(at);
                call.set_role(at, role);
            }),
            Command::FarEndChanged { leg } => self.with_leg(leg, |call, at| {
                call.far_end_changed(at);
                call.suspend(at);
            }),
            Command::Vouch { leg, by } => self.vouch(leg, by),
            Command::SetAddress { leg, address } => self.with_leg(leg, |call, at| call.set_address(at, address)),
            Command::RemoveLeg { leg, reason } => self.with_leg(leg, |call, at| call.remove_leg(at, reason)),
            Command::SetMode { speaker: Speaker::Coach, mode, by } => self.set_coach(mode, by),
            Command::SetMode { speaker: Speaker::Leg(leg), mode, by } => self.set_supervisor(leg, mode, by),
            Command::Pair { leg, code } => self.pair(leg, code),
            Command::KeyIn { leg, digit } => self.keyed(leg, digit),
            Command::Dial { leg, digit } => self.dial(leg, digit),
            Command::Prove(proven) => {
                self.prove(proven);
                Ok(Ack::Done)
            }
            Command::SetVolume { leg, volume } => self.with_leg(leg, |call, at| call.set_volume(at, volume)),
            Command::Press { leg, key } => self.press(leg, key),
            Command::Play(spec) => self.play(spec),
            Command::Cut { clip, reason } => self.cut(clip, reason),
            Command::Pause => self.pause(),
            Command::Resume => self.resume(),
            Command::Close => Ok(self.close()),
            Command::SetConsent { consent } => {
                self.set_consent(consent);
                Ok(Ack::Done)
            }
            Command::Describe => Ok(Ack::View(self.view())),
            Command::End { reason } => Ok(self.end(reason)),
        }
    }

    fn with_leg(&mut self, leg: LegId, act: impl FnOnce(&mut Self, usize)) -> Result<Ack, Refusal> {
        let at = self.place_of(leg).ok_or(Refusal::NoSuchLeg(leg))?;
        act(self, at);
        Ok(Ack::Done)
    }

    fn add_leg(&mut self, spec: LegSpec) -> Result<Ack, Refusal> {
        let supervision = (spec.role == Role::Supervisor).then(|| Supervision::without_rules(self.agents(), self.now));
        self.add(spec, supervision, None)
    }

    /// A leg joins; `onward`: with a line that another call has left off.
    pub(super) fn add(
        &mut self,
        spec: LegSpec,
        supervision: Option<Supervision>,
        onward: Option<Onward>,
    ) -> Result<Ack, Refusal> {
        if self.legs.len() >= MAX_LEGS {
            return Err(Refusal::Limit("a call may have 16 legs at most"));
        }
        let (supervises, barges) = (spec.role == Role::Supervisor, spec.mode == Mode::Barge);
        if supervises {
            self.is_proven(spec.mode)?;
        }
        if supervises && spec.mode == Mode::Whisper {
            self.whisper_is_private()?;
        }
        if supervises && barges {
            self.can_be_told()?;
        }
        self.named_legs += 1;
        let id = LegId(self.named_legs);
        let joined = What::LegJoined { role: spec.role, address: spec.address.clone() };
        let (who, mode) = (spec.address.clone(), spec.mode);
        let mut leg = Leg::new(id, spec, self.options.ears.duck, self.now, &mut self.seed);
        onward.iter().for_each(|onward| leg.resume(self.now, onward));
        self.legs.push(leg);
        self.tell(Some(id), joined);
        if let Some(mut supervision) = supervision {
            supervision.is(self.now, Manner::In(mode));
            let whom = supervision.whom.clone();
            self.legs
                .iter_mut()
                .filter(|l| l.id() == id)
                .for_each(|l| l.supervision = Some(supervision.clone().into()));
            self.tell(Some(id), What::SupervisorJoined { who, mode, whom });
            if barges {
                self.announce_barge();
            }
        }
        self.regroup();
        Ok(Ack::Leg(id))
    }

    /// Another address is another far end; the same one after a hold is not.
    fn set_media(&mut self, at: usize, media: LegMedia) {
        let moved = self.legs[at].media.remote != media.remote;
        if self.legs[at].media.codec != media.codec {
            self.unwatch(at);
        }
        self.legs[at].set_media(self.now, media);
        self.changed(at, "media");
        if moved {
            self.far_end_changed(at);
            self.suspend(at);
        }
        self.regroup();
    }

    /// Another stream, or another source. Who has just agreed on something may send another; otherwise nobody has said who
    /// that is.
    pub(super) fn stream_changed(&mut self, at: usize, before: SocketAddr) {
        self.far_end_changed(at);
        if !self.legs[at].is_agreed(self.now) {
            self.legs[at].strayed |= self.legs[at].target() != before;
            self.suspend(at);
        }
    }

    /// Nothing is whispered to a far end that may be anybody's, until somebody vouches for it.
    fn suspend(&mut self, at: usize) {
        if self.legs[at].is_confided_in() && !std::mem::replace(&mut self.legs[at].suspended, true) {
            self.changed(at, "suspended");
            self.reroute();
        }
    }

    /// The far end of a leg is whom it is taken for. Signalling can say so only of who sends from where it says that it is.
    fn vouch(&mut self, leg: LegId, by: Actor) -> Result<Ack, Refusal> {
        let at = self.place_of(leg).ok_or(Refusal::NoSuchLeg(leg))?;
        if by != Actor::Person && !self.legs[at].is_where_it_says() {
            return Err(Refusal::NotNow("its packets come from elsewhere than its signalling says"));
        }
        self.legs[at].strayed = false;
        if std::mem::replace(&mut self.legs[at].suspended, false) {
            self.changed(at, "vouched");
            self.reroute();
        }
        Ok(Ack::Done)
    }

    /// What was said before a leg took part, or after it stepped aside, is for nobody: while it is aside it is not listened
    /// to, and `reroute` forgets what waits in its buffer.
    pub(super) fn set_place(&mut self, at: usize, place: Place) {
        if self.legs[at].place == place {
            return;
        }
        self.legs[at].place = place;
        self.legs[at].has_agreed(self.now);
        self.moved(at);
        self.changed(at, "place");
        self.regroup();
    }

    /// A hold ends where it began: whoever was put aside meanwhile stays aside.
    fn set_held(&mut self, at: usize, place: Option<Place>) {
        let leg = &mut self.legs[at];
        if leg.held == place {
            return;
        }
        let (id, before) = (leg.id(), std::mem::replace(&mut leg.held, place));
        self.moved(at);
        match (before, place) {
            (None, _) => self.tell(Some(id), What::LegHeld {}),
            (_, None) => self.tell(Some(id), What::LegResumed {}),
            // From one way of holding to another.
            (Some(_), Some(_)) => {}
        }
        self.regroup();
    }

    fn moved(&mut self, at: usize) {
        let leg = &mut self.legs[at];
        let (id, place) = (leg.id(), leg.held.unwrap_or(leg.place));
        if leg.party.place != place {
            // What a line plays while its party holds is not to be kept as what they say when they are back.
            leg.voice.forget();
        }
        leg.party.place = place;
        match place {
            // Who steps aside hears only what is addressed to them by name.
            Place::Aside | Place::Playing | Place::Waiting => self.clips.lose(id, |clip| clip.by_mode()),
            Place::InConversation => {}
        }
    }

    pub(super) fn set_role(&mut self, at: usize, role: Role) {
        if self.legs[at].party.role == role {
            return;
        }
        let now = self.now;
        let leg = &mut self.legs[at];
        if leg.party.role == Role::Supervisor {
            // What they whispered last is not to be heard by those who hear them now.
            leg.mute(now + MUTE);
        }
        leg.party.role = role;
        leg.suspended = false;
        leg.voice.forget();
        // Whoever becomes a supervisor is heard by nobody until somebody says otherwise.
        leg.set_mode(Mode::Spy, MediaTime::ZERO);
        if role == Role::Supervisor && leg.supervision.is_none() {
            leg.supervision = Some(Supervision::without_rules(Vec::new(), now).into());
        }
        let id = leg.id();
        self.clips.lose(id, |_| true);
        self.changed(at, "role");
        self.regroup();
    }

    fn set_address(&mut self, at: usize, address: Address) {
        self.legs[at].address = address;
        self.changed(at, "address");
    }

    /// DESIGN §2.6: who answers now is a stranger to everything that has begun.
    pub(super) fn far_end_changed(&mut self, at: usize) {
        let leg = &mut self.legs[at];
        leg.voice.forget();
        leg.voice.restart();
        leg.line.forget();
        leg.beside.clear();
        leg.watch.iter_mut().for_each(|w| w.forget());
        let id = leg.id();
        self.legs.iter_mut().for_each(|l| l.beside.retain(|b| b.source() != id));
        self.clips.lose(id, |_| true);
        self.changed(at, "far_end");
        self.reroute();
        self.unpair(at, "somebody else may have answered there");
    }

    pub(super) fn remove_leg(&mut self, at: usize, reason: String) {
        self.come_back(at);
        self.send_report(at, true);
        self.take_out(at, reason);
    }

    /// The leg is gone; its line may go on elsewhere.
    pub(super) fn take_out(&mut self, at: usize, reason: String) {
        let leg = self.legs.remove(at);
        self.clips.lose(leg.id(), |_| true);
        self.pairings.retain(|p| p.leg() != leg.id());
        self.tell(Some(leg.id()), What::LegLeft { role: leg.party.role, reason: reason.clone() });
        if leg.party.role == Role::Supervisor {
            self.tell(Some(leg.id()), leg.supervisor_left(self.now, leg.mode(), reason));
        }
        self.regroup();
    }

    pub(super) fn changed(&mut self, at: usize, what: &str) {
        let leg = self.legs[at].id();
        self.tell(Some(leg), What::LegChanged { changed: what.into() });
    }

    /// Legs, roles or places are others now.
    fn regroup(&mut self) {
        self.reroute();
        // Neither one who only listens nor what is heard before the answer makes it an answered call.
        let answered =
            |l: &&Leg| l.party.role != Role::Supervisor && !matches!(l.place, Place::Playing | Place::Waiting);
        let party = self.legs.iter().find(answered);
        if let (CallState::Pending, Some(party)) = (self.state, party) {
            self.state = CallState::Answered;
            self.record_rate = party.rate();
            self.tracks = self.options.record.then(|| [(); 2].map(|()| Track::new(self.record_rate)));
            self.tell(None, What::CallAnswered {});
            // The ears of the recording are known only now.
            self.reroute();
        }
        let there = |roles: &[Role]| self.legs.iter().any(|l| l.in_conversation() && roles.contains(&l.party.role));
        // A bridge stands for everyone who talks there.
        let both = there(&[Role::Customer]) && there(&[Role::Agent]);
        if self.state == CallState::Answered && (both || there(&[Role::Bridge])) {
            self.state = CallState::Connected;
            self.tell(None, What::CallConnected {});
        }
    }

    fn set_coach(&mut self, mode: Mode, by: Actor) -> Result<Ack, Refusal> {
        if self.closed {
            return Err(Refusal::Closed);
        }
        self.is_proven(mode)?;
        if mode == Mode::Whisper && self.mode == Mode::Spy {
            self.whisper_is_private()?;
        }
        if mode == Mode::Barge {
            self.can_be_told()?;
        }
        self.borrowed = false;
        self.change_coach(mode, by);
        self.narrow_clips(mode);
        self.reroute();
        Ok(Ack::Mode { mode, effective: self.effective() })
    }

    /// A narrower mode holds at once, for what is being said too; a wider one does not widen it.
    fn narrow_clips(&mut self, mode: Mode) {
        for leg in self.legs.iter().filter(|l| !mode::coach_reaches(l.ear(), mode)) {
            self.clips.lose(leg.id(), |clip| clip.by_mode());
        }
    }

    /// From spy, a whisper that cannot be private is refused. From barge it is fewer ears, and never refused: whoever
    /// presses the key to be heard by fewer must not go on being heard by all.
    pub(super) fn set_supervisor(&mut self, leg: LegId, mode: Mode, by: Actor) -> Result<Ack, Refusal> {
        let at = self.place_of(leg).ok_or(Refusal::NoSuchLeg(leg))?;
        let (party, from) = (self.legs[at].party, self.legs[at].mode());
        if party.role != Role::Supervisor {
            return Err(Refusal::NotASupervisor(leg));
        }
        self.legs[at].may(mode)?;
        self.is_proven(mode)?;
        if mode == Mode::Whisper && from == Mode::Spy {
            self.whisper_is_private()?;
        }
        if mode == Mode::Barge {
            self.can_be_told()?;
        }
        let until = if self.widens(party, from, mode) { self.now + MUTE } else { MediaTime::ZERO };
        self.legs[at].set_mode(mode, until);
        let now = self.now;
        self.legs[at].supervision.iter_mut().for_each(|s| s.is(now, Manner::In(mode)));
        if mode == Mode::Barge && from != mode {
            self.announce_barge();
        }
        self.reroute();
        let effective = self.effective();
        if from != mode {
            self.tell(Some(leg), What::ModeChanged { from, to: mode, by, effective: effective.clone() });
        }
        Ok(Ack::Mode { mode, effective })
    }

    /// Whether somebody of this call, wherever they are now, would hear `to` who did not hear `from`.
    fn widens(&self, speaker: Party, from: Mode, to: Mode) -> bool {
        let speaker = Party { place: Place::InConversation, ..speaker };
        self.legs.iter().any(|l| {
            let listener = Party { place: Place::InConversation, ..l.ear() };
            let hears = |mode| mode::gain(listener, Source::Leg { party: speaker, mode }).is_heard();
            hears(to) && !hears(from)
        })
    }

    fn play(&mut self, spec: ClipSpec) -> Result<Ack, Refusal> {
        if self.closed {
            return Err(Refusal::Closed);
        }
        let named: &[LegId] = match &spec.audience {
            Audience::Legs(legs) => legs,
            Audience::Mode | Audience::Own(_) => &[],
        };
        if let Some(unknown) = named.iter().find(|l| self.place_of(**l).is_none()) {
            return Err(Refusal::NoSuchLeg(*unknown));
        }
        if self.pause.is_on() && matches!(spec.audience, Audience::Own(_)) {
            return Err(Refusal::Paused);
        }
        self.may_play(&spec.audience)?;
        self.clips.add(spec).map(Ack::Clip)
    }

    pub(super) fn cut(&mut self, clip: ClipId, reason: String) -> Result<Ack, Refusal> {
        let at = self.clips.find(clip).ok_or(Refusal::NoSuchClip(clip))?;
        self.clips.remove(at);
        self.tell(None, What::ClipCut { clip, reason });
        self.give_back_mode();
        self.reroute();
        Ok(Ack::Done)
    }

    fn cut_all(&mut self, reason: &str) {
        while self.clips.get(0).is_some() {
            let clip = self.clips.remove(0).id;
            self.tell(None, What::ClipCut { clip, reason: reason.into() });
        }
    }

    fn close(&mut self) -> Ack {
        self.cut_all("the coach has left");
        self.give_back_mode();
        self.change_coach(Mode::Spy, Actor::Guard);
        self.closed = true;
        self.tracks.iter_mut().flatten().for_each(|t| t.clear());
        self.reroute();
        Ack::Done
    }

    fn end(&mut self, reason: String) -> Ack {
        self.cut_all("the call has ended");
        self.give_back_mode();
        self.hear_out();
        while !self.legs.is_empty() {
            self.remove_leg(0, reason.clone());
        }
        self.state = CallState::Ended;
        self.tell(None, What::CallEnded { reason });
        Ack::Done
    }

    fn view(&self) -> CallView {
        CallView {
            state: self.state,
            mode: self.mode,
            closed: self.closed,
            paused: self.pause.is_on(),
            consent: self.consent,
            legs: self.legs.iter().map(Leg::view).collect(),
            media_time: self.now,
        }
    }
}
