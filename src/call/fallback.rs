//! What goes on when a call's logic has failed (DESIGN §2.5): customer and agent hear each other, and nobody else is
//! heard or hears anything. Total, small, and without a clock of its own.

use crate::call::engine::Call;
use crate::call::leg::{Leg, is_somewhere};
use crate::call::{LegMedia, Port};
use crate::event::{Actor, Event, Mode, Role, What};
use crate::id::LegId;
use crate::media::latch::{Latch, Verdict};
use crate::media::reception::{Arrival, Reception};
use crate::media::rtp::Packet;
use crate::media::sender::{Origin, Sender};
use crate::media::translate::Translator;
use crate::media::{MAX_PAYLOAD, dtmf};
use crate::time::MediaTime;
use std::net::SocketAddr;

/// The relay that is left of a call; by default, nothing.
#[derive(Default)]
pub struct Fallback {
    ends: Vec<End>,
    out: Vec<u8>,
    told: Vec<Event>,
}

/// A customer, or the agent or bridge they talk to, in conversation.
struct End {
    leg: LegId,
    customer: bool,
    media: LegMedia,
    latch: Latch,
    reception: Reception,
    sender: Sender,
    /// Puts what is said to it into its codec; made when first needed.
    translator: Option<Box<Translator>>,
}

/// A datagram for a leg.
#[derive(Debug, PartialEq, Eq)]
pub struct Relayed<'a> {
    /// Whose socket.
    pub leg: LegId,
    /// Which of the two; always RTP.
    pub port: Port,
    /// Where to.
    pub to: SocketAddr,
    /// What.
    pub bytes: &'a [u8],
}

impl Call {
    /// What is left of a call whose logic has failed. Its mode is spy, its clips are cut.
    pub fn into_fallback(self) -> Fallback {
        let told = self.last_words();
        let ends = self.legs.into_iter().filter_map(End::of).collect();
        Fallback { ends, out: Vec::with_capacity(MAX_PAYLOAD + 64), told }
    }

    fn last_words(&self) -> Vec<Event> {
        let event = |leg, what| Event { at: self.now, leg, what };
        let cut =
            |c: &crate::call::clip::Clip| event(None, What::ClipCut { clip: c.id, reason: "an internal error".into() });
        let spy = |leg, from| {
            let effective = Default::default();
            (from != Mode::Spy)
                .then(|| event(leg, What::ModeChanged { from, to: Mode::Spy, by: Actor::Guard, effective }))
        };
        let supervisors = self.legs.iter().filter(|l| l.party.role == Role::Supervisor);
        self.clips
            .iter()
            .map(cut)
            .chain(spy(None, self.mode))
            .chain(supervisors.clone().filter_map(|l| spy(Some(l.id()), l.mode())))
            .chain(supervisors.flat_map(|l| {
                let (role, reason) = (Role::Supervisor, "an internal error");
                let left = l.supervisor_left(self.now, Mode::Spy, reason.into());
                [What::LegLeft { role, reason: reason.into() }, left].map(|what| event(Some(l.id()), what))
            }))
            .collect()
    }
}

impl End {
    fn of(leg: Leg) -> Option<End> {
        let customer = match leg.party.role {
            Role::Customer => true,
            Role::Agent | Role::Bridge => false,
            Role::Supervisor | Role::Earpiece => return None,
        };
        let (party, media) = (leg.party, leg.media);
        let in_conversation = leg.in_conversation();
        let (latch, reception, sender) = leg.into_line();
        in_conversation.then_some(End { leg: party.leg, customer, media, latch, reception, sender, translator: None })
    }
}

impl Fallback {
    /// What the call could not tell any more, once.
    pub fn take_events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.told)
    }

    /// A leg is gone.
    pub fn remove(&mut self, leg: LegId) {
        self.ends.retain(|e| e.leg != leg);
    }

    /// A datagram arrived on a leg's socket: what is to be sent on, if anything.
    pub fn packet(
        &mut self,
        now: MediaTime,
        leg: LegId,
        port: Port,
        from: SocketAddr,
        bytes: &[u8],
    ) -> Option<Relayed<'_>> {
        if port == Port::Rtcp {
            return None;
        }
        let packet = Packet::parse(bytes).ok().filter(|p| !p.payload.is_empty() && p.payload.len() <= MAX_PAYLOAD)?;
        let source = self.ends.iter_mut().find(|e| e.leg == leg)?;
        let header = &packet.header;
        if source.latch.judge(now, from, header.ssrc, header.sequence) == Verdict::Dropped
            || source.reception.take(now, header) == Arrival::Dropped
        {
            return None;
        }
        let origin = Origin { leg, generation: source.reception.generation(), clock: source.media.codec.clock() };
        let (customer, came) = (source.customer, source.media);
        let to =
            self.ends.iter_mut().find(|e| e.customer != customer && e.media.send && is_somewhere(e.latch.target()))?;
        let voice = header.payload_type == came.payload_type;
        let digit = came.dtmf == Some(header.payload_type) && dtmf::is_event(packet.payload);
        let named = if voice { Some(to.media.payload_type) } else { to.media.dtmf.filter(|_| digit) };
        let Some(named) = named else {
            to.sender.swallow(origin);
            return None;
        };
        if !voice {
            let stamp = to.sender.digit(now, origin, header)?;
            self.out.clear();
            self.out.extend_from_slice(&stamp.header(named).bytes());
            dtmf::scaled(packet.payload, came.shape.dtmf_clock, to.media.shape.dtmf_clock, &mut self.out);
            return Some(Relayed { leg: to.leg, port: Port::Rtp, to: to.latch.target(), bytes: &self.out });
        }
        let (from, codec) = (came.codec, to.media.codec);
        if from != codec && !to.translator.as_ref().is_some_and(|t| t.is_for(from, codec)) {
            to.translator = Some(Box::new(Translator::new(from, codec, to.media.shape.opus)));
        }
        let mut translator = to.translator.as_mut().filter(|_| from != codec);
        let count = translator.as_mut().map(|t| t.take(packet.payload));
        let ticks = count.map_or_else(|| from.ticks(packet.payload), |count| codec.ticks_of(count));
        let stamp = to.sender.follow(now, origin, header, ticks)?;
        self.out.clear();
        self.out.extend_from_slice(&stamp.header(named).bytes());
        match (translator, count) {
            (Some(translator), Some(count)) => translator.write(count, &mut self.out),
            (Some(_), None) | (None, _) => self.out.extend_from_slice(packet.payload),
        }
        Some(Relayed { leg: to.leg, port: Port::Rtp, to: to.latch.target(), bytes: &self.out })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::{CallOptions, Command, LegSpec};
    use crate::event::Place;
    use crate::media::codec::Codec;
    use crate::media::rtp::Header;
    use std::panic::{AssertUnwindSafe, catch_unwind};

    /// A real panic in the middle of a real input: the next packet passes.
    #[test]
    fn the_packet_after_a_panic_passes() {
        let options = CallOptions {
            seed: 1,
            caller: "a".into(),
            called: "b".into(),
            code: None,
            listen: true,
            record: true,
            ears: Default::default(),
        };
        let mut call = Call::new(options);
        for (role, port) in [(Role::Customer, 4000), (Role::Agent, 4002)] {
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
            let (place, mode) = (Place::InConversation, Mode::Spy);
            let spec = LegSpec { role, place, mode, address: "x".into(), media };
            call.command(MediaTime::ZERO, Command::AddLeg(spec)).unwrap();
        }
        let packet = |sequence| {
            let header = Header { marker: false, payload_type: 0, sequence, timestamp: 160, ssrc: 7 };
            [&header.bytes()[..], &[1; 160]].concat()
        };
        let from: SocketAddr = ([127, 0, 0, 1], 4002).into();
        call.packet(MediaTime::ZERO, LegId(2), Port::Rtp, from, &packet(1));
        call.broken = true;
        let input = || call.packet(MediaTime::ZERO, LegId(2), Port::Rtp, from, &packet(2));
        assert!(catch_unwind(AssertUnwindSafe(input)).is_err());
        let mut fallback = call.into_fallback();
        let out = fallback.packet(MediaTime::from_millis(20), LegId(2), Port::Rtp, from, &packet(3)).unwrap();
        assert_eq!((out.leg, out.bytes.len()), (LegId(1), 172));
    }
}
