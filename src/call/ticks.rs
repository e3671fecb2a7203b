//! What a call does every 20 ms: read what each leg said, hand it to ears and recording, feed the legs that are fed by
//! the clock, and report.

use crate::call::beside::was_for;
use crate::call::engine::{Call, ears_rate, hears};
use crate::call::leg::{Leg, Path, is_somewhere};
use crate::call::line;
use crate::call::packets::Written;
use crate::call::pairing;
use crate::call::pause::Pause;
use crate::call::permission::{Permits, Purpose, allowed};
use crate::call::voice::silence;
use crate::call::watch::Whisperer;
use crate::call::workbench::Workbench;
use crate::call::{CallState, Port};
use crate::event::{Mode, Role, What};
use crate::media::jitter::{DELAY, Ear, Made};
use crate::media::pcm::Rate;
use crate::media::rtcp;
use crate::time::{MediaTime, Samples};

/// Late ticks are made up for, but no far end gets more than this at once.
const BURST: Samples = Samples::from_millis(100);
/// A process that slept longer than this leaves a hole in what was heard.
const MADE_UP: Samples = Samples::from_millis(1000);
/// A line that is fed further ahead than this sits out a tick: half a frame.
const AHEAD: Samples = Samples::from_millis(10);

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
        self.read(at);
        self.tap(at);
        if send {
            self.beep();
            self.measure();
            self.drop_vain_clips();
            self.press_on(at);
            for to in 0..self.legs.len() {
                self.feed(at, to);
            }
        }
        self.watch_on();
        self.listen_for_echoes();
        self.put_down();
        self.settle();
        self.report();
    }

    /// What was received and is not read yet reaches ears and recording before the call ends.
    pub(super) fn hear_out(&mut self) {
        let tapped = self.legs.iter().filter(|l| l.tapped);
        let behind = tapped.map(|l| l.voice.jitter.delay(Ear::Tap).0).fold(DELAY.0, i64::max);
        for _ in 0..behind / Samples::FRAME.0 {
            let at = self.next_tick;
            self.next_tick = at + Samples::FRAME;
            self.read(at);
            self.tap(at);
            self.put_down();
        }
    }

    fn read(&mut self, at: MediaTime) {
        let ready = &mut self.bench.on().frames;
        self.legs.iter_mut().for_each(|leg| leg.read(at, ready));
    }
    fn put_down(&mut self) {
        let ready = &mut self.bench.on().frames;
        self.legs.iter_mut().for_each(|leg| leg.voice.put_down(ready));
    }

    /// Ears and recording hear those in conversation; the media time is that of reception.
    fn tap(&mut self, at: MediaTime) {
        let at = at - DELAY;
        if at < MediaTime::ZERO {
            return;
        }
        if self.transcribing() {
            let permits = self.permits();
            for leg in self.legs.iter().filter(|l| is_heard(l.party.role)) {
                let rate = ears_rate(leg);
                let (pcm, made) = voice_of(leg, (at, rate), Purpose::Transcribing, permits, &self.pause);
                self.bench.on().outbox.heard(leg.id(), leg.party.role, at, (rate, pcm), made == Made::Concealed);
            }
        }
        // A call that nobody has answered has nothing to record; a pause is recorded as silence.
        if self.options.record && !self.closed && self.state != CallState::Pending {
            self.record(at);
        }
    }

    fn record(&mut self, at: MediaTime) {
        let (permits, rate) = (self.permits(), self.record_rate);
        let Workbench { outbox, sum, mixed, .. } = self.bench.on();
        let Some(tracks) = &mut self.tracks else { return };
        for ((role, track), side) in [Role::Customer, Role::Agent].into_iter().zip(tracks).zip(&mut *mixed) {
            sum.begin(rate);
            for leg in self.legs.iter().filter(|l| l.party.role == role) {
                let (voice, _) = voice_of(leg, (at, rate), Purpose::Recording, permits, &self.pause);
                outbox.record_leg(leg.id(), at, rate, voice);
                sum.add(voice);
            }
            track.collect(at, sum);
            sum.frame(|s| track.limiter.sample(s), side);
        }
        let [customer, agent] = mixed;
        outbox.record(at, rate, customer, agent);
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
        let leg = &self.legs[to];
        if leg.is_forked() || leg.pressing.is_some() {
            return;
        }
        let ahead = AHEAD.at_rate(leg.media.codec.clock());
        if !self.is_fed_by_the_clock(at, to) || !leg.line.is_gathering() && leg.sender.ahead(at) > ahead {
            return;
        }
        self.begin_clips(to);
        let leg = &self.legs[to];
        if leg.path != Path::Mix && !self.is_laid_over(leg) {
            return self.flush(to);
        }
        let rate = leg.rate();
        self.add_voices(to);
        let count = self.lay(at, to, rate.frame());
        self.add_whispers(at, to);
        let Workbench { sum, spoken, .. } = self.bench.on();
        sum.add(&spoken[..count]);
        match self.legs[to].can_be_sent_to() {
            true => self.say(at, to),
            false => self.legs[to].line.drop_gathered(),
        }
    }

    /// Sends the sum to a leg, or gathers it for a longer packet; a clip's last samples do not wait.
    fn say(&mut self, at: MediaTime, to: usize) {
        let Call { bench, legs, pairings, .. } = self;
        let Workbench { outbox, sum, mixed: [pcm, _], .. } = bench.on();
        let leg = &mut legs[to];
        sum.fade(&mut leg.fader, leg.volume);
        sum.frame(|s| leg.blend.limit(s), pcm);
        pairing::told(pairings, leg, pcm);
        let (id, target, named) = (leg.id(), leg.target(), leg.media.payload_type);
        let mut written = Written::default();
        leg.line.say(at, pcm, &mut leg.sender, |encoder, stamp, pcm| {
            outbox.send(id, Port::Rtp, target, |out| written.add(line::write(encoder, stamp, named, pcm, out)));
        });
        written.tell(leg);
        if self.clips.any_begun() && !self.is_laid_over(&self.legs[to]) {
            self.flush(to);
        }
    }

    /// Whether something is laid over what a leg hears, if there is anything.
    fn is_laid_over(&self, leg: &Leg) -> bool {
        !leg.beside.is_empty() || self.clips.playing_to(leg.party)
    }

    fn is_fed_by_the_clock(&self, at: MediaTime, to: usize) -> bool {
        match self.legs[to].path {
            Path::Mix => true,
            Path::Relay(from) | Path::Overlay(from) => {
                let laid_over = self.clips.any_waiting() || self.is_laid_over(&self.legs[to]);
                laid_over && self.legs.iter().any(|l| l.id() == from && l.is_silent(at))
            }
        }
    }

    /// Begins the sum with what the others say to a leg that is mixed for, whispers apart.
    fn add_voices(&mut self, to: usize) {
        let permits = self.permits();
        let Call { legs, bench, now, .. } = self;
        let sum = &mut bench.on().sum;
        let listener = &legs[to];
        let rate = listener.rate();
        sum.begin(rate);
        if listener.path == Path::Mix {
            for source in legs.iter().filter(|s| hears(*now, permits, listener, s) && was_mixed_for(listener, s)) {
                if !whispers(*now, source) {
                    sum.add(source.voice.at(Ear::Mix, rate).0);
                }
            }
        }
    }

    /// Adds what supervisors whisper to a leg; an agent's other voices go down under it.
    fn add_whispers(&mut self, at: MediaTime, to: usize) {
        let (permits, now) = (self.permits(), self.now);
        let Call { legs, bench, .. } = self;
        let sum = &mut bench.on().sum;
        let (mut blend, mut watch) = (legs[to].blend, legs[to].watch.take());
        let (listener, rate) = (&legs[to], legs[to].rate());
        let heard = |s: &&Leg| hears(now, permits, listener, s) && was_mixed_for(listener, s) && whispers(now, s);
        let live = || legs.iter().filter(heard).filter(|_| listener.path == Path::Mix);
        if listener.party.role == Role::Agent {
            live().for_each(|s| blend.cover(s.voice.at(Ear::Mix, rate).0));
        }
        sum.change(|voices| blend.duck(voices));
        for source in live() {
            sum.add(source.voice.at(Ear::Mix, rate).0);
            if let Some(watch) = &mut watch {
                watch.told(at, Whisperer::Mixed, source.voice.at(Ear::Mix, Rate::Narrow).0.iter().copied());
            }
        }
        (legs[to].blend, legs[to].watch) = (blend, watch);
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
        self.bench.on().outbox.send(id, Port::Rtcp, target, |out| leg.write_report(now, leaving, out));
    }
}

/// Whether a leg's voice is a whisper now.
pub(super) fn whispers(now: MediaTime, source: &Leg) -> bool {
    source.party.role == Role::Supervisor && source.live_mode(now) == Mode::Whisper
}

/// Whether every sample of the source's present frame was received in a mode in which `listener` hears it.
fn was_mixed_for(listener: &Leg, source: &Leg) -> bool {
    was_for(listener.ear(), source.party, source.voice.at(Ear::Mix, listener.rate()).1)
}

/// Whom the ears listen to: the two sides of a conversation, or the bridge that stands for both.
fn is_heard(role: Role) -> bool {
    match role {
        Role::Customer | Role::Agent | Role::Bridge => true,
        Role::Supervisor | Role::Earpiece => false,
    }
}

/// What a leg said in the frame that begins at `at`: nothing where that may not be used, or any of it is of a pause.
fn voice_of<'a>(
    leg: &'a Leg,
    (at, rate): (MediaTime, Rate),
    purpose: Purpose,
    permits: Permits,
    pause: &Pause,
) -> (&'a [i16], Made) {
    let (pcm, marks) = leg.voice.at(Ear::Tap, rate);
    if leg.tapped && allowed(leg.party, purpose, permits) && !pause.touches(at, marks) {
        (pcm, leg.voice.made(Ear::Tap))
    } else {
        (silence(rate), Made::Silent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::packets::mark;
    use crate::call::{Ack, CallOptions, Command, LegMedia, LegSpec, Speaker};
    use crate::event::{Actor, Mode, Place};
    use crate::id::LegId;
    use crate::media::codec::Codec;
    use crate::media::rtp::Header;

    fn join(call: &mut Call, role: Role, mode: Mode, port: u16) -> LegId {
        let remote = ([127, 0, 0, 1], port).into();
        let media = LegMedia {
            codec: Codec::Pcmu,
            payload_type: 0,
            dtmf: None,
            shape: Default::default(),
            remote,
            remote_rtcp: remote,
            send: true,
        };
        let spec = LegSpec { role, place: Place::InConversation, mode, address: "x".into(), media };
        match call.command(MediaTime::ZERO, Command::AddLeg(spec)) {
            Ok(Ack::Leg(leg)) => leg,
            other => panic!("{other:?}"),
        }
    }

    fn call() -> Call {
        let options = CallOptions {
            seed: 1,
            caller: "a".into(),
            called: "b".into(),
            code: None,
            listen: false,
            record: false,
            ears: Default::default(),
        };
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
            call.legs[at].voice.mark_mix(marks);
            let marks = call.legs[at].voice.at(Ear::Mix, Rate::Narrow).1;
            legs.map(|l| was_for(call.legs[call.place_of(l).unwrap()].party, call.legs[at].party, marks))
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
        join(&mut call, Role::Customer, Mode::Spy, 4008);
        join(&mut call, Role::Agent, Mode::Spy, 4002);
        let supervisor = join(&mut call, Role::Supervisor, Mode::Whisper, 4004);
        let header = Header { marker: false, payload_type: 0, sequence: 1, timestamp: 0, ssrc: 9 };
        let mut bytes = header.bytes().to_vec();
        bytes.extend_from_slice(&[0x80; 160]);
        call.packet(MediaTime::ZERO, supervisor, Port::Rtp, ([127, 0, 0, 1], 4004).into(), &bytes);
        let at = call.place_of(supervisor).unwrap();
        assert!(call.legs[at].listened, "the agent hears two customers and the supervisor: a mix");
        let by = Actor::Person;
        let wider = Command::SetMode { speaker: Speaker::Leg(supervisor), mode: Mode::Barge, by };
        call.command(MediaTime::ZERO, wider).unwrap();
        assert_eq!(call.legs[at].live_mode(MediaTime::from_millis(199)), Mode::Spy);
        assert_eq!(call.legs[at].live_mode(MediaTime::from_millis(200)), Mode::Barge);
        assert!(!call.legs[at].listened, "muted: nobody needs its samples, and what was there is forgotten");

        let mut call = self::call();
        join(&mut call, Role::Customer, Mode::Spy, 4000);
        join(&mut call, Role::Customer, Mode::Spy, 4008);
        join(&mut call, Role::Agent, Mode::Spy, 4002);
        let supervisor = join(&mut call, Role::Supervisor, Mode::Whisper, 4004);
        call.packet(MediaTime::ZERO, supervisor, Port::Rtp, ([127, 0, 0, 1], 4004).into(), &bytes);
        let at = call.place_of(supervisor).unwrap();
        let mut marks = 0;
        for ms in (0..=120).step_by(20) {
            let leg = &mut call.legs[at];
            leg.voice.pull(Ear::Mix, MediaTime::from_millis(ms), &mut Vec::new());
            marks |= leg.voice.at(Ear::Mix, Rate::Narrow).1;
        }
        assert_eq!(marks, mark(Mode::Whisper));
    }

    /// Ears lag behind: what waited for them when a leg stepped aside is not heard when it is back.
    #[test]
    fn what_waited_when_a_leg_stepped_aside_is_never_heard() {
        let mut call = call();
        call.options.listen = true;
        let customer = join(&mut call, Role::Customer, Mode::Spy, 4000);
        let mut heard = 0;
        for n in 0..20u16 {
            let now = call.now + Samples::from_millis(20);
            if n < 10 {
                let header =
                    Header { marker: false, payload_type: 0, sequence: n, timestamp: u32::from(n) * 160, ssrc: 9 };
                let mut bytes = header.bytes().to_vec();
                bytes.extend_from_slice(&[0x80; 160]);
                call.packet(now, customer, Port::Rtp, ([127, 0, 0, 1], 4000).into(), &bytes);
            }
            if n == 10 {
                for place in [Place::Aside, Place::InConversation] {
                    call.command(now, Command::SetPlace { leg: customer, place }).unwrap();
                }
            }
            call.tick(now);
            while let Some(output) = call.poll() {
                if let crate::call::Output::Heard { pcm, .. } = output {
                    heard += i32::from(n >= 10 && pcm.iter().any(|s| s.unsigned_abs() > 20_000));
                }
            }
        }
        assert_eq!(heard, 0);
    }
}
