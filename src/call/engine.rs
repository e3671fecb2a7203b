//! The call itself: its state, and what all its inputs share. Commands, packets and ticks are each a file of their own.

use crate::call::beside::Beside;
use crate::call::clip::{Clips, Over};
use crate::call::leg::{Leg, Path};
use crate::call::mode::{self, Party, Source};
use crate::call::pairing::Pairing;
use crate::call::pause::Pause;
use crate::call::permission::{Permits, Purpose, allowed};
use crate::call::proven::Proven;
use crate::call::record::Track;
use crate::call::signal::Signals;
use crate::call::ticks::whispers;
use crate::call::voice::Wanted;
use crate::call::workbench::{Bench, Workbench};
use crate::call::{Ack, Audience};
use crate::call::{CallOptions, CallState, Command, Output, Port, Refusal};
use crate::event::{Actor, Consent, Event, Mode, Place, Role, What};
use crate::id::LegId;
use crate::media::pcm::Rate;
use crate::media::seed::Seed;
use crate::time::{MediaTime, Samples};
use std::collections::BTreeMap;
use std::net::SocketAddr;

/// Why nothing is whispered to an agent who may be somebody else.
pub(super) const UNPROVEN: &str = "the agent's far end has changed, and nobody has vouched for it";

/// One supervised conversation.
pub struct Call {
    pub(super) options: CallOptions,
    pub(super) state: CallState,
    pub(super) legs: Vec<Leg>,
    pub(super) named_legs: u32,
    /// The coach's mode.
    pub(super) mode: Mode,
    /// The coach is not in spy only for the length of a clip of its own.
    pub(super) borrowed: bool,
    /// What the customer says about being listened to.
    pub(super) consent: Consent,
    pub(super) closed: bool,
    pub(super) pause: Pause,
    /// The earpieces that are proven by a code.
    pub(super) pairings: Vec<Pairing>,
    /// What may be offered here; none: everything.
    pub(super) proven: Option<Proven>,
    pub(super) clips: Clips,
    /// What the coach said to customers and to agents, for the recording.
    pub(super) tracks: Option<[Track; 2]>,
    /// The recording's rate: that of the first answered leg.
    pub(super) record_rate: Rate,
    pub(super) signals: Signals,
    pub(super) seed: Seed,
    pub(super) next_tick: MediaTime,
    /// The present time; it never goes back.
    pub(super) now: MediaTime,
    /// When the next mute ends: who hears whom changes without a command.
    pub(super) reroute_at: Option<MediaTime>,
    pub(super) bench: Bench,
    /// The next input panics: how tests see what becomes of a call whose logic fails.
    #[cfg(test)]
    pub(crate) broken: bool,
}

impl Call {
    /// A call without legs; its first event is `call.pending`.
    pub fn new(options: CallOptions) -> Self {
        Self::on(options, &mut None)
    }

    /// The same, on a bench that is lent: what it has to say at once lies there.
    pub fn on(options: CallOptions, lent: &mut Option<Box<Workbench>>) -> Self {
        let mut seed = Seed::new(options.seed);
        // Whole milliseconds, so that a timer that counts microseconds hits the tick exactly.
        let phase = seed.below(Samples::FRAME.as_millis() as u64) as i64;
        let (caller, called) = (options.caller.clone(), options.called.clone());
        let pending = What::CallPending { caller, called, code: options.code };
        let mut call = Call {
            options,
            state: CallState::Pending,
            legs: Vec::new(),
            named_legs: 0,
            mode: Mode::Spy,
            borrowed: false,
            consent: Consent::Unknown,
            closed: false,
            pause: Pause::default(),
            pairings: Vec::new(),
            proven: None,
            clips: Clips::default(),
            tracks: None,
            record_rate: Rate::Narrow,
            signals: Signals::ready(),
            seed,
            next_tick: MediaTime::from_millis(phase),
            now: MediaTime::ZERO,
            reroute_at: None,
            bench: Bench::default(),
            #[cfg(test)]
            broken: false,
        };
        call.lend_bench(lent);
        let opened = call.options.given();
        call.tell(None, pending);
        call.tell(None, What::CommandGiven { command: opened });
        call
    }

    /// Carry out a command.
    pub fn command(&mut self, now: MediaTime, command: Command) -> Result<Ack, Refusal> {
        self.enter(now);
        if let Some(command) = command.given().filter(|_| self.state != CallState::Ended) {
            self.tell(None, What::CommandGiven { command });
        }
        self.flush_all();
        let ack = self.carry_out(command);
        if let Err(refusal) = &ack
            && self.state != CallState::Ended
        {
            self.tell(None, What::CommandRefused { reason: refusal.to_string() });
        }
        self.settle();
        ack
    }

    /// A datagram arrived on a leg's socket.
    pub fn packet(&mut self, now: MediaTime, leg: LegId, port: Port, from: SocketAddr, bytes: &[u8]) {
        self.enter(now);
        let Some(at) = self.place_of(leg).filter(|_| self.state != CallState::Ended) else { return };
        match port {
            Port::Rtp => self.rtp(at, from, bytes),
            Port::Rtcp => self.legs[at].take_report(self.now, from, bytes),
        }
        self.settle();
    }

    /// Time has passed.
    pub fn tick(&mut self, now: MediaTime) {
        self.enter(now);
        self.catch_up(now);
    }

    /// The next thing to do, until `None`.
    pub fn poll(&mut self) -> Option<Output<'_>> {
        let outbox = &mut self.bench.on().outbox;
        outbox.reuse();
        outbox.take()
    }

    /// Lends the call a bench for what it is to do next; without, it works on one of its own.
    pub fn lend_bench(&mut self, bench: &mut Option<Box<Workbench>>) {
        self.bench.take(bench);
    }

    /// Takes the bench back, when `poll` has nothing more: what still lies on it is lost.
    pub fn take_bench(&mut self, bench: &mut Option<Box<Workbench>>) {
        self.bench.give_back(bench);
    }

    /// When `tick` is due; `None` once ended.
    pub fn poll_timeout(&self) -> Option<MediaTime> {
        (self.state != CallState::Ended).then_some(self.next_tick)
    }

    fn enter(&mut self, now: MediaTime) {
        #[cfg(test)]
        assert!(!self.broken, "broken by a test");
        self.bench.on().outbox.reuse();
        self.now = self.now.max(now);
        if self.reroute_at.is_some_and(|at| at <= self.now) {
            self.reroute();
        }
    }

    pub(super) fn place_of(&self, leg: LegId) -> Option<usize> {
        self.legs.iter().position(|l| l.id() == leg)
    }

    pub(super) fn tell(&mut self, leg: Option<LegId>, what: What) {
        self.bench.on().outbox.event(Event { at: self.now, leg, what });
    }

    /// From which timestamp on what is decided now holds on each leg.
    pub(super) fn effective(&self) -> BTreeMap<LegId, u32> {
        self.legs.iter().map(|l| (l.id(), l.sender.timestamp_at(self.now))).collect()
    }

    /// Whether a party's voice may be used for something now.
    pub(super) fn allows(&self, party: Party, purpose: Purpose) -> bool {
        allowed(party, purpose, self.permits())
    }
    pub(super) fn permits(&self) -> Permits {
        Permits { recording: self.recording(), transcribing: self.transcribing(), listening: true }
    }
    /// Whether the coach writes down what is said.
    pub(super) fn transcribing(&self) -> bool {
        self.options.listen && !self.closed && !self.pause.is_on()
    }
    /// Whether what is said is kept.
    pub(super) fn recording(&self) -> bool {
        self.options.record && !self.closed && !self.pause.is_on()
    }

    /// Whether `listener` hears `source` live now.
    pub(super) fn hears(&self, listener: &Leg, source: &Leg) -> bool {
        hears(self.now, self.permits(), listener, source)
    }

    /// Decides anew how every leg is fed, and whose samples are needed. After everything that may change it.
    pub(super) fn reroute(&mut self) {
        for at in 0..self.legs.len() {
            self.legs[at].path = self.path(&self.legs[at]);
        }
        for at in 0..self.legs.len() {
            let (tapped, mixed) = (self.is_tapped(&self.legs[at]), self.is_mixed(&self.legs[at]));
            let listened = tapped || mixed || self.is_laid_over_another(&self.legs[at]);
            let leg = &mut self.legs[at];
            if leg.listened && !listened {
                // What was said when nobody was to hear it is not to be heard later.
                leg.voice.forget();
            }
            (leg.listened, leg.tapped, leg.mixed) = (listened, tapped, mixed);
        }
        self.arm();
        self.prepare();
        self.reroute_at = self.legs.iter().filter_map(|l| l.muted_until(self.now)).min();
    }

    /// What was gathered for longer packets was decided before what comes now, and leaves before it.
    fn flush_all(&mut self) {
        for at in 0..self.legs.len() {
            self.flush(at);
        }
    }

    fn path(&self, listener: &Leg) -> Path {
        if self.pairings.iter().any(|p| p.leg() == listener.id()) {
            // All that is said to it is put together in one place, and compared with what comes back.
            return Path::Mix;
        }
        let heard = self.legs.iter().filter(|s| self.hears(listener, s)).count();
        let ready = listener.can_be_sent_to() && listener.volume.is_unity();
        let Some(source) = self.carrier(listener).filter(|_| ready) else { return Path::Mix };
        let laid_over = heard > 1 || self.clips.playing_to(listener.party);
        if source.media.codec == listener.media.codec && !laid_over {
            Path::Relay(source.id())
        } else {
            Path::Overlay(source.id())
        }
    }

    /// The one with whose packets all that `listener` hears can go: its only party, or where there is none its only source.
    fn carrier(&self, listener: &Leg) -> Option<&Leg> {
        let heard = |beside| self.legs.iter().filter(move |s| is_beside(s) == beside && self.hears(listener, s));
        let party = heard(false).next().is_some();
        if party && is_beside(listener) && heard(true).next().is_some() {
            return None;
        }
        let mut sources = heard(!party);
        sources.next().filter(|_| sources.next().is_none())
    }

    fn is_tapped(&self, leg: &Leg) -> bool {
        self.is_watched(leg)
            || [Purpose::Transcribing, Purpose::Recording].into_iter().any(|p| self.allows(leg.live_party(self.now), p))
    }

    fn is_mixed(&self, leg: &Leg) -> bool {
        self.legs.iter().any(|l| l.path == Path::Mix && self.hears(l, leg))
    }

    fn is_laid_over_another(&self, leg: &Leg) -> bool {
        self.legs.iter().any(|l| is_beside_of(l, leg) && self.hears(l, leg))
    }

    /// Decoders, encoders and resamplers for those who need them from now on: packets and ticks find them made.
    fn prepare(&mut self) {
        for at in 0..self.legs.len() {
            let wanted = self.wanted(&self.legs[at]);
            let leg = &mut self.legs[at];
            if leg.wanted != wanted {
                leg.wanted = wanted;
                leg.voice.prepare(wanted);
            }
            match leg.path {
                Path::Relay(_) => {}
                Path::Overlay(_) | Path::Mix if leg.is_forked() => {}
                Path::Overlay(_) | Path::Mix => leg.line.prepare(),
            }
            self.prepare_beside(at);
        }
    }

    fn prepare_beside(&mut self, to: usize) {
        let mut beside = std::mem::take(&mut self.legs[to].beside);
        let (listener, rate) = (&self.legs[to], self.legs[to].rate());
        let heard = |source: &Leg| is_beside_of(listener, source) && self.hears(listener, source);
        beside.retain(|b| self.legs.iter().any(|s| heard(s) && b.fits(s.party, s.media.codec, rate)));
        for source in self.legs.iter().filter(|s| heard(s)) {
            if beside.iter().all(|b| b.source() != source.id()) {
                beside.push(Beside::new(self.now, source.party, source.media.codec, &source.voice.jitter, rate));
            }
        }
        self.legs[to].beside = beside;
    }

    fn wanted(&self, leg: &Leg) -> Wanted {
        let mut wanted = Wanted::default();
        if leg.tapped {
            wanted.tap[leg.rate() as usize] = true;
            wanted.tap[ears_rate(leg) as usize] |= self.transcribing();
            wanted.tap[self.record_rate as usize] |= self.recording();
            wanted.tap[Rate::Narrow as usize] |= self.is_watched(leg);
        }
        if leg.mixed {
            wanted.mix[leg.rate() as usize] = true;
        }
        for listener in self.legs.iter().filter(|l| self.hears(l, leg)) {
            let rate = listener.rate() as usize;
            match listener.path {
                Path::Mix => {
                    wanted.mix[rate] |= leg.mixed;
                    wanted.mix[Rate::Narrow as usize] |=
                        leg.mixed && listener.watch.is_some() && whispers(self.now, leg);
                }
                Path::Overlay(_) if is_beside_of(listener, leg) => wanted.packets[leg.rate() as usize] = true,
                Path::Overlay(_) if listener.is_laid_over(leg) => {}
                Path::Overlay(_) => wanted.packets[rate] = true,
                Path::Relay(_) => {}
            }
        }
        wanted
    }

    /// Clips that are over are told of, and the coach goes back to spy after its own last sample.
    pub(super) fn settle(&mut self) {
        while let Some((at, over)) = self.clips.over() {
            let clip = self.clips.remove(at).id;
            self.tell(
                None,
                match over {
                    Over::Ended => What::ClipEnded { clip },
                    Over::Deserted => What::ClipCut { clip, reason: "nobody of its audience is left".into() },
                },
            );
            self.give_back_mode();
            self.reroute();
        }
    }

    pub(super) fn give_back_mode(&mut self) {
        if self.borrowed && !self.clips.own_playing() {
            self.borrowed = false;
            self.change_coach(Mode::Spy, Actor::Coach);
        }
    }

    pub(super) fn change_coach(&mut self, to: Mode, by: Actor) {
        let from = std::mem::replace(&mut self.mode, to);
        if from != to {
            let effective = self.effective();
            self.tell(None, What::ModeChanged { from, to, by, effective });
        }
    }

    /// The mode in which people have the coach speak: what it borrows for its own words does not count.
    pub(super) fn given_mode(&self) -> Mode {
        if self.borrowed { Mode::Spy } else { self.mode }
    }

    /// Whether a clip that begins now is for `listener`.
    pub(super) fn is_for(&self, audience: &Audience, listener: &Leg) -> bool {
        !listener.is_forked()
            && match audience {
                Audience::Mode => mode::coach_reaches(listener.ear(), self.given_mode()),
                Audience::Own(mode) => mode::coach_reaches(listener.ear(), *mode),
                Audience::Legs(legs) => legs.contains(&listener.id()) && !listener.suspended,
            }
    }

    /// Begins the clips that `carrier`, who is about to be sent samples, is to hear from now on.
    pub(super) fn begin_clips(&mut self, carrier: usize) {
        if !self.clips.any_waiting() {
            return;
        }
        let mut at = 0;
        while let Some(clip) = self.clips.get(at) {
            if !clip.begun() && self.is_for(&clip.spec.audience, &self.legs[carrier]) && self.is_free(at) {
                self.begin(at);
            }
            at += 1;
        }
    }

    /// Whether nobody for whom the clip is hears another, or waits for an earlier one.
    fn is_free(&self, at: usize) -> bool {
        let Some(clip) = self.clips.get(at) else { return false };
        self.legs.iter().filter(|l| self.is_for(&clip.spec.audience, l)).all(|l| {
            !self.clips.playing_to(l.party)
                && !self.clips.iter().take(at).any(|c| !c.begun() && self.is_for(&c.spec.audience, l))
        })
    }

    fn begin(&mut self, at: usize) {
        let Some(clip) = self.clips.get(at) else { return };
        if self.may_play(&clip.spec.audience).is_err() {
            return;
        }
        let (id, text, rule) = (clip.id, clip.spec.text.clone(), clip.spec.audience.clone());
        let audience: Vec<LegId> = self.legs.iter().filter(|l| self.is_for(&rule, l)).map(Leg::id).collect();
        let manner = self.manner(at, &audience);
        self.clips.begin(at, audience.clone(), manner);
        if let (Audience::Own(own), Mode::Spy) = (rule, self.mode) {
            self.borrowed = true;
            self.change_coach(own, Actor::Coach);
        }
        self.tell(None, What::ClipStarted { clip: id, audience, text });
        self.reroute();
    }

    /// Why a clip for `audience` cannot be played now.
    pub(super) fn may_play(&self, audience: &Audience) -> Result<(), Refusal> {
        let mode = match audience {
            Audience::Mode => self.given_mode(),
            Audience::Own(mode) => *mode,
            Audience::Legs(legs) => {
                self.may_be_told_alone(legs)?;
                let there = || self.legs.iter().filter(|l| legs.contains(&l.id()));
                return match (
                    there().next(),
                    there().all(|l| l.is_forked()),
                    there().all(|l| l.is_forked() || l.suspended),
                ) {
                    (None, ..) => Err(Refusal::NobodyListens),
                    (Some(_), true, _) => Err(Refusal::NoWayBack),
                    (Some(_), false, true) => Err(Refusal::NotPrivate(UNPROVEN)),
                    (Some(_), false, false) => Ok(()),
                };
            }
        };
        self.is_proven(mode)?;
        match mode {
            Mode::Spy if self.is_forked() => Err(Refusal::NoWayBack),
            Mode::Spy => Err(Refusal::Spying),
            Mode::Whisper => self.whisper_is_private(),
            Mode::Barge => {
                self.can_be_told()?;
                let heard = self.legs.iter().any(|l| mode::coach_reaches(l.ear(), mode));
                if heard { Ok(()) } else { Err(Refusal::NobodyListens) }
            }
        }
    }

    /// DESIGN §2.4: a whisper needs an agent, or an earpiece of theirs, in conversation.
    pub(super) fn whisper_is_private(&self) -> Result<(), Refusal> {
        let hears = |l: &Leg, role| l.ear().role == role && l.ear().place == Place::InConversation && !l.is_forked();
        let there = |role: Role| self.legs.iter().any(|l| hears(l, role));
        if there(Role::Agent) || there(Role::Earpiece) {
            return Ok(());
        }
        self.can_be_told()?;
        if self.legs.iter().any(|l| l.suspended && l.in_conversation()) {
            return Err(Refusal::NotPrivate(UNPROVEN));
        }
        let is_known = |role: Role| self.legs.iter().any(|l| l.party.role == role);
        if is_known(Role::Earpiece) {
            return Err(Refusal::NotPrivate("the agent's private line is not verified"));
        }
        Err(Refusal::NotPrivate(match (is_known(Role::Bridge), is_known(Role::Agent)) {
            (true, true) | (true, false) => "the agent is reached over a shared bridge, where everyone hears it",
            (false, true) => "the agent is aside",
            (false, false) => "no agent is in the call",
        }))
    }
}

/// Whether a leg's voice can be laid over another's packets: those who come to a conversation and go again.
fn is_beside(source: &Leg) -> bool {
    match source.party.role {
        Role::Supervisor => true,
        Role::Customer | Role::Agent | Role::Bridge | Role::Earpiece => false,
    }
}

/// Whether a source that `listener` hears is laid over the packets of another.
fn is_beside_of(listener: &Leg, source: &Leg) -> bool {
    match listener.path {
        Path::Overlay(from) => from != source.id(),
        Path::Relay(_) | Path::Mix => false,
    }
}

impl Call {
    /// Whether every party is a copy made for us: none of them can be told anything.
    fn is_forked(&self) -> bool {
        let is_party = |l: &&Leg| match l.party.role {
            Role::Customer | Role::Agent | Role::Bridge => true,
            Role::Supervisor | Role::Earpiece => false,
        };
        let mut parties = self.legs.iter().filter(is_party).peekable();
        parties.peek().is_some() && parties.all(Leg::is_forked)
    }

    /// Refuses to speak to all where none of them would hear it.
    pub(super) fn can_be_told(&self) -> Result<(), Refusal> {
        if self.is_forked() { Err(Refusal::NoWayBack) } else { Ok(()) }
    }
}

/// Whether `listener` hears `source` live at `now`. A copy made for us hears nobody, whatever the rule would allow.
pub(super) fn hears(now: MediaTime, permits: Permits, listener: &Leg, source: &Leg) -> bool {
    let supervises = listener.party.role == Role::Supervisor;
    let permitted = !supervises || allowed(source.party, Purpose::Listening, permits);
    let source = Source::Leg { party: source.live_party(now), mode: source.live_mode(now) };
    permitted && !listener.is_forked() && mode::gain(listener.ear(), source).is_heard()
}

/// Ears want no more than a recogniser does: 16 kHz.
pub(super) fn ears_rate(leg: &Leg) -> Rate {
    leg.rate().min(Rate::Wide)
}
