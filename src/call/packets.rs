//! What a call does with a packet: judge it, keep its samples for who needs them, and send it on at once.

use crate::call::Port;
use crate::call::engine::Call;
use crate::call::leg::{Kind, Leg, Path};
use crate::call::line;
use crate::call::outbox::Outbox;
use crate::call::workbench::Workbench;
use crate::event::{Mode, Role};
use crate::media::codec::g711::Law;
use crate::media::dtmf;
use crate::media::overlay::lay_over;
use crate::media::rtp::Packet;
use crate::media::sender::{Origin, Stamp};
use crate::time::MediaTime;
use std::net::SocketAddr;

/// The mark a supervisor's samples get at reception, one bit a mode. Never 0: that is no sample.
pub(super) fn mark(mode: Mode) -> u8 {
    match mode {
        Mode::Spy => 1,
        Mode::Whisper => 2,
        Mode::Barge => 4,
    }
}

impl Call {
    pub(super) fn rtp(&mut self, at: usize, from: SocketAddr, bytes: &[u8]) {
        let now = self.now;
        let leg = &mut self.legs[at];
        let Ok(packet) = Packet::parse(bytes) else {
            leg.drop_packet::<()>();
            return;
        };
        let (reachable, before) = (leg.can_be_sent_to(), leg.target());
        let Some((kind, stranger)) = leg.receive(now, from, &packet) else { return };
        if stranger {
            self.stream_changed(at, before);
        } else if reachable != leg.can_be_sent_to() {
            self.reroute();
        }
        match kind {
            Kind::Voice => self.guarded(at, &packet),
            Kind::Digit => self.digit(at, &packet),
            Kind::Noise => {
                self.legs[at].voice.take_noise(packet.payload);
                self.swallow(at);
            }
            Kind::Other => self.swallow(at),
        }
    }

    pub(super) fn voice(&mut self, at: usize, packet: &Packet<'_>) {
        for to in 0..self.legs.len() {
            if follows(&self.legs[to], &self.legs[at]) {
                self.begin_clips(to);
            }
        }
        self.keep(at, packet);
        let (source, origin) = (self.legs[at].id(), self.legs[at].origin());
        for to in 0..self.legs.len() {
            match self.legs[to].path {
                Path::Relay(from) if from == source => self.relay(at, to, packet),
                Path::Overlay(from) if from == source => self.overlay(at, to, packet),
                // Where the line comes back to this stream before anything else has left, no number is missing.
                Path::Relay(_) | Path::Overlay(_) | Path::Mix => self.legs[to].sender.swallow(origin),
            }
        }
    }

    /// Decodes a packet once, if anyone needs its samples, and marks them with the mode they were received in.
    fn keep(&mut self, at: usize, packet: &Packet<'_>) {
        let now = self.now;
        let leg = &mut self.legs[at];
        let mark = mark(leg.live_mode(now)) | self.pause.mark();
        leg.voice.take(now, packet, leg.listened.then_some(mark), &mut self.bench.on().passing);
    }

    fn relay(&mut self, at: usize, to: usize, packet: &Packet<'_>) {
        let Some(stamp) = self.follow(at, to, packet) else { return };
        send(&mut self.bench.on().outbox, &mut self.legs[to], stamp, |out| out.extend_from_slice(packet.payload));
    }

    fn overlay(&mut self, at: usize, to: usize, packet: &Packet<'_>) {
        match (self.legs[at].media.codec.law(), self.legs[to].media.codec.law()) {
            (Some(from), Some(law)) => self.lay_over(at, to, packet, from, law),
            (Some(_), None) | (None, Some(_)) | (None, None) => self.encode_anew(at, to, packet),
        }
    }

    /// G.711 to G.711: byte by byte, so that what no clip touches stays as it is.
    fn lay_over(&mut self, at: usize, to: usize, packet: &Packet<'_>, from: Law, law: Law) {
        let Some(stamp) = self.follow(at, to, packet) else { return };
        // A late packet lies before what of the clip has left already: it passes without.
        let count = if stamp.late { 0 } else { self.lay(self.now, to, packet.payload.len()) };
        let Workbench { outbox, spoken, .. } = self.bench.on();
        let (clip, leg) = (&spoken[..count], &mut self.legs[to]);
        if count == 0 && !stamp.late {
            leg.blend.rest();
        }
        let mut blend = leg.blend;
        send(outbox, leg, stamp, |out| lay_over(packet.payload, [from, law], clip, &mut blend, out));
        self.legs[to].blend = blend;
    }

    /// Any codec to any: the packet's samples, with the clip added, in as few packets as the listener takes them.
    fn encode_anew(&mut self, at: usize, to: usize, packet: &Packet<'_>) {
        let (codec, rate, most) = (self.legs[to].media.codec, self.legs[to].rate(), self.legs[to].line.most());
        let length = self.legs[at].voice.passing(rate, &mut self.bench.on().passing).len();
        let mut from = 0;
        loop {
            let piece = codec.piece(length - from, most);
            if piece == 0 {
                return;
            }
            let ticks = codec.ticks_of(piece);
            let stamp = match from {
                0 => self.follow_for(at, to, packet, ticks),
                _ => Some(self.legs[to].sender.more(ticks)),
            };
            // An encoder goes forward only: what came late is lost to it.
            let Some(stamp) = stamp.filter(|s| !s.late) else { return };
            let count = self.lay(self.now, to, piece);
            let Workbench { outbox, passing, spoken, .. } = self.bench.on();
            let under = passing.get(rate).get(from..from + piece).unwrap_or_default();
            let leg = &mut self.legs[to];
            if count == 0 {
                leg.blend.rest();
            }
            for (n, (sample, under)) in spoken.iter_mut().zip(under).enumerate() {
                *sample = leg.blend.sample(*under, if n < count { *sample } else { 0 });
            }
            let (id, target, named) = (leg.id(), leg.target(), leg.media.payload_type);
            let (line, sender, pcm) = (&mut leg.line, &mut leg.sender, &spoken[..piece]);
            outbox.send(id, Port::Rtp, target, |out| sender.count(line.write(stamp, named, pcm, out)));
            from += piece;
        }
    }

    /// Puts the next `length` samples of what is laid over what `to` hears into `spoken`: a clip, and supervisors. Answers
    /// how many there are.
    pub(super) fn lay(&mut self, at: MediaTime, to: usize, length: usize) -> usize {
        let count = self.speak(at, to, length);
        if self.legs[to].beside.is_empty() {
            return count;
        }
        let Call { legs, bench, now, .. } = self;
        let Some(spoken) = bench.on().spoken.get_mut(..length) else { return count };
        spoken[count..].fill(0);
        let mut beside = std::mem::take(&mut legs[to].beside);
        let (party, ear, mut blend, mut watch) =
            (legs[to].party, legs[to].ear(), legs[to].blend, legs[to].watch.take());
        for beside in &mut beside {
            let Some(source) = legs.iter().find(|l| l.id() == beside.source()) else { continue };
            beside.add(*now, &source.voice.jitter, ear, spoken, |whisper| {
                if party.role == Role::Agent {
                    blend.cover(whisper.pcm);
                }
                if let Some(watch) = &mut watch {
                    watch.told(at, whisper.who, whisper.narrow.iter().copied());
                }
            });
        }
        (legs[to].beside, legs[to].blend, legs[to].watch) = (beside, blend, watch);
        length
    }

    /// Puts the next `length` samples of the clip that `to` hears into `spoken`; answers how many there are.
    fn speak(&mut self, at: MediaTime, to: usize, length: usize) -> usize {
        let (party, rate) = (self.legs[to].party, self.legs[to].rate());
        let spoken = &mut self.bench.on().spoken;
        let length = length.min(spoken.len());
        let Some((clip, read)) = self.clips.read(party, rate, &mut spoken[..length]) else { return 0 };
        self.whisper(at, to, clip, read);
        let recording = self.recording();
        let (Some(tracks), Some(clip), true) = (&mut self.tracks, self.clips.get(clip), recording) else {
            return read.count;
        };
        for (track, role) in tracks.iter_mut().zip([Role::Customer, Role::Agent]) {
            // Several of one side hear the same: the first of them is enough.
            let first =
                clip.audience().iter().find(|l| self.legs.iter().any(|o| o.id() == **l && o.party.role == role));
            if first == Some(&party.leg) {
                let length = read.count * rate.clock_per_sample() as usize;
                track.said(at, clip.told(self.record_rate, read.began, length));
            }
        }
        read.count
    }

    fn follow(&mut self, at: usize, to: usize, packet: &Packet<'_>) -> Option<Stamp> {
        let (codec, line) = (self.legs[at].media.codec, self.legs[to].media.codec);
        let ticks = u64::from(codec.ticks(packet.payload)) * u64::from(line.clock()) / u64::from(codec.clock());
        self.follow_for(at, to, packet, ticks as u32)
    }

    /// `ticks`: how long what is sent plays, in the listener's timestamp units.
    fn follow_for(&mut self, at: usize, to: usize, packet: &Packet<'_>, ticks: u32) -> Option<Stamp> {
        self.flush(to);
        let origin = self.legs[at].origin();
        self.legs[to].sender.follow(self.now, origin, &packet.header, ticks)
    }

    /// What was gathered for a leg leaves before anything else does.
    pub(super) fn flush(&mut self, to: usize) {
        let leg = &mut self.legs[to];
        if leg.line.is_gathering() {
            let (id, target, named) = (leg.id(), leg.target(), leg.media.payload_type);
            let (outbox, mut written) = (&mut self.bench.on().outbox, Written::default());
            leg.line.flush(&mut leg.sender, |encoder, stamp, pcm| {
                outbox.send(id, Port::Rtp, target, |out| written.add(line::write(encoder, stamp, named, pcm, out)));
            });
            written.tell(leg);
        }
    }

    /// A digit passes between the parties of the conversation; a supervisor's is swallowed and steers, and nobody's is sound.
    fn digit(&mut self, at: usize, packet: &Packet<'_>) {
        let origin = self.legs[at].origin();
        for to in 0..self.legs.len() {
            let passes =
                is_party(&self.legs[at]) && is_party(&self.legs[to]) && self.hears(&self.legs[to], &self.legs[at]);
            match self.legs[to].media.dtmf.filter(|_| passes && self.legs[to].can_be_sent_to()) {
                Some(named) => self.pass_digit(origin, (at, to), named, packet),
                None => self.legs[to].sender.swallow(origin),
            }
        }
        let now = self.now;
        if self.legs[at].party.role == Role::Earpiece {
            if let Some(digit) = self.legs[at].digit(now, packet) {
                self.key_in(at, digit);
            }
        } else if let Some(key) = self.legs[at].key(now, packet) {
            self.obey(at, key);
        }
    }

    fn pass_digit(&mut self, origin: Origin, (at, to): (usize, usize), named: u8, packet: &Packet<'_>) {
        let (now, clock) = (self.now, self.legs[at].media.shape.dtmf_clock);
        self.flush(to);
        let leg = &mut self.legs[to];
        let Some(stamp) = leg.sender.digit(now, origin, &packet.header) else { return };
        leg.sender.count(packet.payload.len());
        let theirs = leg.media.shape.dtmf_clock;
        self.bench.on().outbox.send(leg.id(), Port::Rtp, leg.target(), |out| {
            out.extend_from_slice(&stamp.header(named).bytes());
            match clock == theirs {
                true => out.extend_from_slice(packet.payload),
                false => dtmf::scaled(packet.payload, clock, theirs, out),
            }
        });
    }

    pub(super) fn swallow(&mut self, at: usize) {
        let origin = self.legs[at].origin();
        self.legs.iter_mut().for_each(|l| l.sender.swallow(origin));
    }
}

/// Packets written, to be counted when the line is free again.
#[derive(Default)]
pub(super) struct Written {
    packets: u64,
    octets: usize,
}

impl Written {
    pub fn add(&mut self, octets: usize) {
        self.packets += 1;
        self.octets += octets;
    }
    pub fn tell(self, leg: &mut Leg) {
        leg.sender.count_many(self.packets, self.octets);
    }
}

/// One packet to a leg.
fn send(outbox: &mut Outbox, leg: &mut Leg, stamp: Stamp, write: impl FnOnce(&mut Vec<u8>)) {
    let (id, target, named) = (leg.id(), leg.target(), leg.media.payload_type);
    let sender = &mut leg.sender;
    outbox.send(id, Port::Rtp, target, |out| {
        out.extend_from_slice(&stamp.header(named).bytes());
        let from = out.len();
        write(out);
        sender.count(out.len() - from);
    });
}

fn follows(listener: &Leg, source: &Leg) -> bool {
    match listener.path {
        Path::Relay(from) | Path::Overlay(from) => from == source.id(),
        Path::Mix => false,
    }
}

/// Customer, agent, or the bridge that stands for one: those whose digits mean something to the other side.
fn is_party(leg: &Leg) -> bool {
    match leg.party.role {
        Role::Customer | Role::Agent | Role::Bridge => !leg.stands_in(),
        Role::Supervisor | Role::Earpiece => false,
    }
}
