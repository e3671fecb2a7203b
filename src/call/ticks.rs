//! What a call does every 20 ms: read what each leg said, hand it to ears and recording, feed the legs that are fed by
//! the clock, and report.

use crate::call::engine::Call;
use crate::call::leg::{Leg, Path, is_somewhere};
use crate::call::mode::{self, Source};
use crate::call::packets::{mark, send};
use crate::call::permission::Purpose;
use crate::call::{CallState, FRAME, Port};
use crate::event::{Mode, Role, What};
use crate::media::jitter::{DELAY, Made};
use crate::media::mix::Sum;
use crate::media::rtcp;
use crate::time::{MediaTime, Samples};

/// Late ticks are made up for, but no far end gets more than this at once.
const BURST: Samples = Samples::from_millis(100);
/// A process that slept longer than this leaves a hole in what was heard.
const MADE_UP: Samples = Samples::from_millis(1000);
/// A line that is fed further ahead than this sits out a tick: half a frame.
const AHEAD: i64 = FRAME as i64 / 2;

impl Call {
    pub(super) fn catch_up(&mut self, now: MediaTime) {
        if self.state == CallState::Ended {
            return;
        }
        let hole = (now - self.next_tick).0 - MADE_UP.0;
        if hole > 0 {
            self.next_tick = self.next_tick + Samples(hole - hole % Samples::FRAME.0);
        }
        while self.next_tick <= now {
            let at = self.next_tick;
            self.next_tick = at + Samples::FRAME;
            self.round(at, (now - at).0 <= BURST.0);
        }
    }

    fn round(&mut self, at: MediaTime, send: bool) {
        for leg in self.legs.iter_mut().filter(|l| l.listened) {
            leg.jitter.pull(at, &mut leg.frame);
        }
        self.tap(at);
        if send {
            self.drop_vain_clips();
            for to in 0..self.legs.len() {
                self.feed(at, to);
            }
        }
        self.settle();
        self.report();
    }

    /// What was received and is not read yet reaches ears and recording before the call ends.
    pub(super) fn hear_out(&mut self) {
        for _ in 0..DELAY.0 / Samples::FRAME.0 {
            let at = self.next_tick;
            self.next_tick = at + Samples::FRAME;
            for leg in self.legs.iter_mut().filter(|l| l.listened) {
                leg.jitter.pull(at, &mut leg.frame);
            }
            self.tap(at);
        }
    }

    /// Ears and recording hear those in conversation; the media time is that of reception.
    fn tap(&mut self, at: MediaTime) {
        let at = at - DELAY;
        if at < MediaTime::ZERO {
            return;
        }
        if self.transcribing() {
            for leg in self.legs.iter().filter(|l| is_side(l.party.role)) {
                let (pcm, made) = self.voice_of(leg, at, Purpose::Transcribing);
                self.outbox.heard(leg.id(), leg.party.role, at, pcm, made == Made::Concealed);
            }
        }
        // A call that nobody has answered has nothing to record.
        if self.options.record && !self.closed && self.state != CallState::Pending {
            let [customer, agent] = [Role::Customer, Role::Agent].map(|role| self.side(role, at));
            let [mut left, mut right] = [customer, agent];
            self.tracks[0].collect(at, &mut left);
            self.tracks[1].collect(at, &mut right);
            self.outbox.record(at, &left.frame(), &right.frame());
        }
    }

    fn side(&self, role: Role, at: MediaTime) -> Sum {
        let mut sum = Sum::default();
        for leg in self.legs.iter().filter(|l| l.party.role == role) {
            sum.add(self.voice_of(leg, at, Purpose::Recording).0);
        }
        sum
    }

    /// What a leg said in the frame that begins at `at`: nothing where that may not be used, or any of it is of a pause.
    fn voice_of<'a>(&self, leg: &'a Leg, at: MediaTime, purpose: Purpose) -> (&'a [i16; FRAME], Made) {
        const SILENCE: [i16; FRAME] = [0; FRAME];
        if leg.listened && self.allows(leg.party, purpose) && !self.pause.touches(at, leg.frame.marks) {
            (&leg.frame.pcm, leg.frame.made)
        } else {
            (&SILENCE, Made::Silent)
        }
    }

    /// A clip that cannot begin any more is not kept waiting for a turn that would let out what was meant otherwise.
    fn drop_vain_clips(&mut self) {
        if !self.clips.any_waiting() {
            return;
        }
        let vain = |call: &Call| {
            call.clips
                .iter()
                .enumerate()
                .filter(|(_, c)| !c.begun())
                .find_map(|(at, c)| call.may_play(&c.spec.audience).err().map(|refusal| (at, refusal)))
        };
        while let Some((at, refusal)) = vain(self) {
            let clip = self.clips.remove(at).id;
            self.tell(None, What::ClipCut { clip, reason: refusal.to_string() });
        }
    }

    /// A leg without exactly one source is fed by the clock; so is one whose source is silent while a clip plays.
    fn feed(&mut self, at: MediaTime, to: usize) {
        if !self.is_fed_by_the_clock(at, to) || self.legs[to].sender.ahead(at) > AHEAD {
            return;
        }
        self.begin_clips(to);
        let leg = &self.legs[to];
        if leg.path != Path::Mix && !self.clips.playing_to(leg.party) {
            return;
        }
        let mut sum = self.voices(to);
        let count = self.speak(at, to, FRAME);
        sum.add(&self.spoken[..count]);
        if !self.legs[to].can_be_sent_to() {
            return;
        }
        let stamp = self.legs[to].sender.next(at, FRAME as u32);
        send(&mut self.outbox, &mut self.legs[to], stamp, |codec, out| {
            out.extend(sum.samples().map(|s| codec.encode(s)));
        });
    }

    fn is_fed_by_the_clock(&self, at: MediaTime, to: usize) -> bool {
        match self.legs[to].path {
            Path::Mix => true,
            Path::Relay(from) | Path::Overlay(from) => {
                let clip = self.clips.any_waiting() || self.clips.playing_to(self.legs[to].party);
                clip && self.legs.iter().any(|l| l.id() == from && l.is_silent(at))
            }
        }
    }

    /// What the others say to a leg that is mixed for.
    fn voices(&self, to: usize) -> Sum {
        let mut sum = Sum::default();
        let listener = &self.legs[to];
        if listener.path == Path::Mix {
            for source in self.legs.iter().filter(|s| self.hears(listener, s) && was_for(listener, s)) {
                sum.add(&source.frame.pcm);
            }
        }
        sum
    }

    fn report(&mut self) {
        for at in 0..self.legs.len() {
            if self.legs[at].report_due <= self.now {
                self.send_report(at, false);
                self.legs[at].report_due = rtcp::due(self.now, &mut self.seed, false);
            }
        }
    }

    pub(super) fn send_report(&mut self, at: usize, leaving: bool) {
        let now = self.now;
        let leg = &mut self.legs[at];
        let (id, target) = (leg.id(), leg.report_target());
        if !is_somewhere(target) {
            return;
        }
        self.outbox.send(id, Port::Rtcp, target, |out| leg.write_report(now, leaving, out));
    }
}

/// Whether every sample of the source's present frame was received in a mode in which `listener` hears it.
fn was_for(listener: &Leg, source: &Leg) -> bool {
    [Mode::Spy, Mode::Whisper, Mode::Barge]
        .into_iter()
        .filter(|m| source.frame.marks & mark(*m) != 0)
        .all(|mode| mode::gain(listener.party, Source::Leg { party: source.party, mode }).is_heard())
}

/// The two sides of a conversation.
fn is_side(role: Role) -> bool {
    match role {
        Role::Customer | Role::Agent => true,
        Role::Supervisor | Role::Bridge | Role::Earpiece => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::{Ack, CallOptions, Command, LegMedia, LegSpec, Speaker};
    use crate::event::{Actor, Place};
    use crate::id::LegId;
    use crate::media::codec::Codec;
    use crate::media::rtp::Header;

    fn join(call: &mut Call, role: Role, mode: Mode, port: u16) -> LegId {
        let remote = ([127, 0, 0, 1], port).into();
        let media =
            LegMedia { codec: Codec::Pcmu, payload_type: 0, dtmf: None, remote, remote_rtcp: remote, send: true };
        let spec = LegSpec { role, place: Place::InConversation, mode, address: "x".into(), media };
        match call.command(MediaTime::ZERO, Command::AddLeg(spec)) {
            Ok(Ack::Leg(leg)) => leg,
            other => panic!("{other:?}"),
        }
    }

    fn call() -> Call {
        let options = CallOptions { seed: 1, caller: "a".into(), called: "b".into(), listen: false, record: false };
        Call::new(options)
    }

    /// DESIGN §2.1, second line of defence: even where nothing is muted and the present mode allows, a frame that was
    /// received in another is for those alone who hear both.
    #[test]
    fn a_frame_keeps_the_mode_it_was_received_in() {
        let mut call = call();
        let roles = [Role::Customer, Role::Agent, Role::Earpiece];
        let legs = roles.map(|role| join(&mut call, role, Mode::Spy, 4000));
        let supervisor = join(&mut call, Role::Supervisor, Mode::Barge, 4006);
        let heard = |marks: u8, call: &mut Call| {
            let at = call.place_of(supervisor).unwrap();
            call.legs[at].frame.marks = marks;
            legs.map(|l| was_for(&call.legs[call.place_of(l).unwrap()], &call.legs[at]))
        };
        let [spy, whisper, barge] = [Mode::Spy, Mode::Whisper, Mode::Barge].map(mark);
        assert_eq!(heard(spy, &mut call), [false, false, false]);
        assert_eq!(heard(whisper, &mut call), [false, true, true]);
        assert_eq!(heard(barge, &mut call), [true, true, false]);
        assert_eq!(heard(whisper | barge, &mut call), [false, true, false]);
        assert_eq!(heard(spy | barge, &mut call), [false, false, false]);
    }

    /// And the mark is that of the instant of reception, mute included, through the buffer and out again.
    #[test]
    fn a_packet_is_marked_with_the_mode_in_force() {
        let mut call = call();
        join(&mut call, Role::Customer, Mode::Spy, 4000);
        join(&mut call, Role::Agent, Mode::Spy, 4002);
        let supervisor = join(&mut call, Role::Supervisor, Mode::Whisper, 4004);
        let header = Header { marker: false, payload_type: 0, sequence: 1, timestamp: 0, ssrc: 9 };
        let mut bytes = header.bytes().to_vec();
        bytes.extend_from_slice(&[0x80; FRAME]);
        call.packet(MediaTime::ZERO, supervisor, Port::Rtp, ([127, 0, 0, 1], 4004).into(), &bytes);
        let at = call.place_of(supervisor).unwrap();
        assert!(call.legs[at].listened, "the agent hears the customer and the supervisor: a mix");
        let by = Actor::Person;
        let wider = Command::SetMode { speaker: Speaker::Leg(supervisor), mode: Mode::Barge, by };
        call.command(MediaTime::ZERO, wider).unwrap();
        assert_eq!(call.legs[at].live_mode(MediaTime::from_millis(199)), Mode::Spy);
        assert_eq!(call.legs[at].live_mode(MediaTime::from_millis(200)), Mode::Barge);
        assert!(!call.legs[at].listened, "muted: nobody needs its samples, and what was there is forgotten");

        let mut call = self::call();
        join(&mut call, Role::Customer, Mode::Spy, 4000);
        join(&mut call, Role::Agent, Mode::Spy, 4002);
        let supervisor = join(&mut call, Role::Supervisor, Mode::Whisper, 4004);
        call.packet(MediaTime::ZERO, supervisor, Port::Rtp, ([127, 0, 0, 1], 4004).into(), &bytes);
        let at = call.place_of(supervisor).unwrap();
        let mut marks = 0;
        for ms in (0..=120).step_by(20) {
            let leg = &mut call.legs[at];
            leg.jitter.pull(MediaTime::from_millis(ms), &mut leg.frame);
            marks |= leg.frame.marks;
        }
        assert_eq!(marks, mark(Mode::Whisper));
    }
}
