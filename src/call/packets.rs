//! What a call does with a packet: judge it, keep its samples for who needs them, and send it on at once.

use crate::call::Port;
use crate::call::engine::Call;
use crate::call::leg::{Kind, Leg, Path};
use crate::call::outbox::Outbox;
use crate::event::{Mode, Role};
use crate::media::codec::Codec;
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
        let reachable = leg.can_be_sent_to();
        let Some((kind, stranger)) = leg.receive(now, from, &packet) else { return };
        if stranger {
            self.far_end_changed(at);
        } else if reachable != leg.can_be_sent_to() {
            self.reroute();
        }
        match kind {
            Kind::Voice => self.voice(at, &packet),
            Kind::Digit => self.digit(at, &packet),
            Kind::Other => self.swallow(at),
        }
    }

    fn voice(&mut self, at: usize, packet: &Packet<'_>) {
        self.keep(at, packet);
        let source = self.legs[at].id();
        for to in 0..self.legs.len() {
            if follows(&self.legs[to], &self.legs[at]) {
                self.begin_clips(to);
            }
            match self.legs[to].path {
                Path::Relay(from) if from == source => self.relay(at, to, packet),
                Path::Overlay(from) if from == source => self.overlay(at, to, packet),
                Path::Relay(_) | Path::Overlay(_) | Path::Mix => {}
            }
        }
    }

    /// Decodes a packet once, if anyone needs its samples, and marks them with the mode they were received in.
    fn keep(&mut self, at: usize, packet: &Packet<'_>) {
        let now = self.now;
        let leg = &mut self.legs[at];
        if !leg.listened {
            return;
        }
        let count = leg.media.codec.decode_into(packet.payload, &mut self.decoded[..]);
        let mark = mark(leg.live_mode(now)) | self.pause.mark();
        leg.jitter.push(now, packet.header.timestamp, &self.decoded[..count], mark);
    }

    fn relay(&mut self, at: usize, to: usize, packet: &Packet<'_>) {
        let Some(stamp) = self.follow(at, to, packet, packet.payload.len() as u32) else { return };
        send(&mut self.outbox, &mut self.legs[to], stamp, |_, out| out.extend_from_slice(packet.payload));
    }

    fn overlay(&mut self, at: usize, to: usize, packet: &Packet<'_>) {
        let Some(stamp) = self.follow(at, to, packet, packet.payload.len() as u32) else { return };
        // A late packet lies before what of the clip has left already: it passes without.
        let count = if stamp.late { 0 } else { self.speak(self.now, to, packet.payload.len()) };
        let from = self.legs[at].media.codec;
        let clip = &self.spoken[..count];
        send(&mut self.outbox, &mut self.legs[to], stamp, |codec, out| {
            lay_over(packet.payload, from, codec, clip, out);
        });
    }

    /// Puts the next `length` samples of the clip that `to` hears into `spoken`; answers how many there are.
    pub(super) fn speak(&mut self, at: MediaTime, to: usize, length: usize) -> usize {
        let party = self.legs[to].party;
        let length = length.min(self.spoken.len());
        let Some((clip, count)) = self.clips.read(party, &mut self.spoken[..length]) else { return 0 };
        if !self.recording() {
            return count;
        }
        for (track, role) in self.tracks.iter_mut().zip([Role::Customer, Role::Agent]) {
            // Several of one side hear the same: the first of them is enough.
            let audience = self.clips.get(clip).map_or(&[][..], |c| c.audience());
            let first = audience.iter().find(|l| self.legs.iter().any(|o| o.id() == **l && o.party.role == role));
            if first == Some(&party.leg) {
                track.said(at, &self.spoken[..count]);
            }
        }
        count
    }

    fn follow(&mut self, at: usize, to: usize, packet: &Packet<'_>, samples: u32) -> Option<Stamp> {
        let origin = self.legs[at].origin();
        self.legs[to].sender.follow(self.now, origin, &packet.header, samples)
    }

    /// A digit passes between the parties of the conversation; a supervisor's is swallowed, and nobody's is sound.
    fn digit(&mut self, at: usize, packet: &Packet<'_>) {
        let origin = self.legs[at].origin();
        for to in 0..self.legs.len() {
            let passes =
                is_party(&self.legs[at]) && is_party(&self.legs[to]) && self.hears(&self.legs[to], &self.legs[at]);
            match self.legs[to].media.dtmf.filter(|_| passes && self.legs[to].can_be_sent_to()) {
                Some(named) => self.pass_digit(origin, to, named, packet),
                None => self.legs[to].sender.swallow(origin),
            }
        }
    }

    fn pass_digit(&mut self, origin: Origin, to: usize, named: u8, packet: &Packet<'_>) {
        let now = self.now;
        let leg = &mut self.legs[to];
        let Some(stamp) = leg.sender.digit(now, origin, &packet.header) else { return };
        leg.sender.count(packet.payload.len());
        self.outbox.send(leg.id(), Port::Rtp, leg.target(), |out| {
            out.extend_from_slice(&stamp.header(named).bytes());
            out.extend_from_slice(packet.payload);
        });
    }

    fn swallow(&mut self, at: usize) {
        let origin = self.legs[at].origin();
        self.legs.iter_mut().for_each(|l| l.sender.swallow(origin));
    }
}

/// One packet to a leg, its payload written in the leg's codec.
pub(super) fn send(outbox: &mut Outbox, leg: &mut Leg, stamp: Stamp, write: impl FnOnce(Codec, &mut Vec<u8>)) {
    let media = leg.media;
    let mut written = 0;
    outbox.send(leg.id(), Port::Rtp, leg.target(), |out| {
        out.extend_from_slice(&stamp.header(media.payload_type).bytes());
        let from = out.len();
        write(media.codec, out);
        written = out.len() - from;
    });
    leg.sender.count(written);
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
        Role::Customer | Role::Agent | Role::Bridge => true,
        Role::Supervisor | Role::Earpiece => false,
    }
}
