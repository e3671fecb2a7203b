//! One leg of a call: what it is, where its packets come from and go to, and how it is fed.

use crate::call::beside::Beside;
use crate::call::far_end::FarEnd;
use crate::call::keys::{Digit, Key, Keypad, Way};
use crate::call::line::Line;
use crate::call::mode::Party;
use crate::call::pressing::Pressing;
use crate::call::supervise::{Onward, Supervision};
use crate::call::voice::{Frames, Voice, Wanted};
use crate::call::watch::Watch;
use crate::call::{LegMedia, LegSpec, LegView};
use crate::event::{Address, Mode, Place, Role};
use crate::id::LegId;
use crate::media::blend::Blend;
use crate::media::jitter::{Ear, MOST};
use crate::media::latch::{Latch, Verdict};
use crate::media::level::Level;
use crate::media::pcm::Rate;
use crate::media::reception::{Arrival, Reception};
use crate::media::rtcp;
use crate::media::rtp::Packet;
use crate::media::seed::Seed;
use crate::media::sender::{Origin, Sender};
use crate::media::volume::{Fader, Volume};
use crate::media::{MAX_PAYLOAD, dtmf, xr};
use crate::time::{MediaTime, Samples};
use std::net::SocketAddr;

/// A source that has sent nothing for this long beyond its own packet's length is silent: half a frame of lateness,
const SILENT_AFTER: Samples = Samples::from_millis(10);
/// and so many times the jitter of its packets, which is the mean of a third of their range. What is only late and taken
/// for silence would come out after what was put in its place: a delay that stays.
const JITTERS: f32 = 3.0;

/// A stream that is another one so soon after the far end has agreed on something is the one it agreed on: its telephone
/// begins to send when it has our answer, and a round trip takes half a second at most.
const AGREED: Samples = Samples::from_millis(2000);

/// How what a leg hears is made. Always exactly one of the three.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Path {
    /// One source of the same codec and no clip: its packets pass as they are.
    Relay(LegId),
    /// One party of the call, and a clip or supervisors to lay over it, or a codec to change: on arrival.
    Overlay(LegId),
    /// Nobody, or several: by the clock.
    Mix,
}

/// What a packet that counts is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Audio in the leg's codec.
    Voice,
    /// A telephone event.
    Digit,
    /// Comfort noise: for those who read its samples, not for passing on.
    Noise,
    /// A type nobody agreed on.
    Other,
}

pub(crate) struct Leg {
    /// `place` of it is what counts now: where it is while it holds, else where it was put.
    pub party: Party,
    pub place: Place,
    pub held: Option<Place>,
    pub media: LegMedia,
    pub path: Path,
    pub address: Address,
    /// Whether anyone needs what it says by the clock.
    pub listened: bool,
    /// Whether ears or recording do.
    pub tapped: bool,
    /// Whether a leg that is mixed for does.
    pub mixed: bool,
    /// Who needs its samples, and at which rates.
    pub wanted: Wanted,
    pub sender: Sender,
    /// What it says.
    pub voice: Voice,
    /// What is said to it.
    pub line: Line,
    /// The supervisors it hears beside the source of its overlay.
    pub beside: Vec<Beside>,
    /// How loud it speaks, if it is listened to.
    pub level: Level,
    /// How what it hears is put together.
    pub blend: Blend,
    /// The guard on what it says, once something was whispered to it.
    pub watch: Option<Box<Watch>>,
    /// It was found out whether its line leaks, or that is under way.
    pub measured: bool,
    pub report_due: MediaTime,
    /// How loud it hears.
    pub volume: Volume,
    pub fader: Fader,
    /// Whether its far end has become another, and nobody has said that it is still the agent: nothing is whispered to it.
    pub suspended: bool,
    /// Whether that came from another address than before, of which signalling knows nothing.
    pub strayed: bool,
    agreed: MediaTime,
    /// Of a supervisor, and of an agent who was one a moment ago.
    pub supervision: Option<Box<Supervision>>,
    keypad: Keypad,
    /// The key that we press on it.
    pub pressing: Option<Pressing>,
    last_sound: Option<MediaTime>,
    mode: Mode,
    muted_until: MediaTime,
    latch: Latch,
    reception: Reception,
    last_voice: Option<(MediaTime, Samples)>,
    name: rtcp::Name,
    far_clock: Option<rtcp::Heard>,
    round_trip: Option<Samples>,
    /// The last reference time that came, to be echoed (RFC 3611 §4.5).
    reference: Option<xr::Reference>,
    far_end: FarEnd,
    /// Packets sent at the last report and at the one before.
    reported: [u64; 2],
    dropped: u64,
}

impl Leg {
    pub fn new(id: LegId, spec: LegSpec, duck: Volume, now: MediaTime, seed: &mut Seed) -> Self {
        let mut reception = Reception::new(spec.media.codec.clock());
        reception.count(counts(&spec.media));
        Leg {
            party: Party { leg: id, role: spec.role, place: spec.place },
            place: spec.place,
            held: None,
            media: spec.media,
            path: Path::Mix,
            address: spec.address,
            listened: false,
            tapped: false,
            mixed: false,
            wanted: Wanted::default(),
            sender: Sender::new(seed, spec.media.codec.clock()),
            voice: Voice::new(spec.media.codec),
            line: Line::new(&spec.media),
            beside: Vec::new(),
            level: Level::default(),
            blend: Blend::new(spec.media.codec.rate().hz(), duck),
            watch: None,
            measured: false,
            report_due: rtcp::due(now, seed, true),
            volume: Volume::default(),
            fader: Fader::default(),
            suspended: false,
            strayed: false,
            agreed: now,
            supervision: None,
            keypad: Keypad::default(),
            pressing: None,
            last_sound: None,
            mode: spec.mode,
            muted_until: MediaTime::ZERO,
            latch: Latch::new(now, spec.media.remote),
            reception,
            last_voice: None,
            name: rtcp::Name::new(seed),
            far_clock: None,
            round_trip: None,
            reference: None,
            far_end: FarEnd::default(),
            reported: [0; 2],
            dropped: 0,
        }
    }

    pub fn id(&self) -> LegId {
        self.party.leg
    }
    pub fn in_conversation(&self) -> bool {
        self.party.place == Place::InConversation
    }
    /// Reads what it said for those who hear it at this tick.
    pub fn read(&mut self, at: MediaTime, ready: &mut Frames) {
        if self.listened {
            self.voice.jitter.tick(at);
        }
        if self.tapped {
            self.voice.pull(Ear::Tap, at, ready);
            let frame = self.voice.at(Ear::Tap, self.rate()).0;
            if self.level.heard(frame) {
                self.last_sound = Some(at);
            }
        }
        if self.mixed {
            self.voice.pull(Ear::Mix, at, ready);
        }
    }
    /// Whether it is a supervisor who has taken over.
    pub fn stands_in(&self) -> bool {
        self.supervision.as_ref().is_some_and(|s| s.stands_in())
    }
    /// Whether its keys steer us: a supervisor's, whatever they are just now.
    pub fn steers(&self) -> bool {
        self.party.role == Role::Supervisor || self.stands_in()
    }
    /// As those whom it might hear see it: an agent whose far end nobody vouches for hears what a customer does (DESIGN §2.6),
    /// and their private line nothing.
    pub fn ear(&self) -> Party {
        match self.party.role {
            Role::Agent if self.suspended => Party { role: Role::Customer, ..self.party },
            Role::Earpiece if self.suspended => Party { place: Place::Aside, ..self.party },
            Role::Customer | Role::Agent | Role::Supervisor | Role::Bridge | Role::Earpiece => self.party,
        }
    }
    /// Whether whispers may be meant for it: whoever is there must be known then.
    pub fn is_confided_in(&self) -> bool {
        matches!(self.party.role, Role::Agent | Role::Earpiece)
    }
    /// Its far end has just agreed on something.
    pub fn has_agreed(&mut self, now: MediaTime) {
        self.agreed = now;
    }
    /// Whether another stream is the one that it has just agreed on.
    pub fn is_agreed(&self, now: MediaTime) -> bool {
        now - self.agreed < AGREED
    }
    /// Whether its packets come from where it says that it is, or, behind NAT, from where they always came.
    pub fn is_where_it_says(&self) -> bool {
        !self.strayed || self.latch.elsewhere().is_none()
    }
    /// As those who might hear it see it. Who was a supervisor a moment ago is muted: what they whispered last is not let
    /// out.
    pub fn live_party(&self, now: MediaTime) -> Party {
        let muted = self.party.role != Role::Supervisor && now < self.muted_until;
        Party { place: if muted { Place::Aside } else { self.party.place }, ..self.party }
    }
    /// The line goes on where it was in another call.
    pub fn resume(&mut self, now: MediaTime, onward: &Onward) {
        self.sender.resume(now, onward.line);
        self.keypad = Keypad::resume(now, onward.held);
        self.volume = onward.volume;
    }
    /// What the next call goes on from.
    pub fn onward(&self, now: MediaTime) -> Onward {
        Onward { line: self.sender.line(now), held: self.keypad.held(), volume: self.volume }
    }

    /// The mode it was set to. Counts for supervisors alone.
    pub fn mode(&self) -> Mode {
        self.mode
    }
    /// The mode in which it is heard: spy while it is muted.
    pub fn live_mode(&self, now: MediaTime) -> Mode {
        if now < self.muted_until { Mode::Spy } else { self.mode }
    }
    /// When its mute ends, if it is muted.
    pub fn muted_until(&self, now: MediaTime) -> Option<MediaTime> {
        (now < self.muted_until).then_some(self.muted_until)
    }
    pub fn set_mode(&mut self, mode: Mode, muted_until: MediaTime) {
        self.mode = mode;
        self.mute(muted_until);
    }
    /// Heard by nobody until then.
    pub fn mute(&mut self, muted_until: MediaTime) {
        self.muted_until = self.muted_until.max(muted_until);
    }

    /// The key that a telephone event of this leg means, if it steers us: a supervisor's, and the first of its packets.
    pub fn key(&mut self, now: MediaTime, packet: &Packet<'_>) -> Option<Key> {
        let digit = self.keypad.digit(&packet.header, packet.payload)?;
        self.pressed(now, Key::of(digit)?, Way::Rtp)
    }
    /// The same of an earpiece: a digit of its code.
    pub fn digit(&mut self, now: MediaTime, packet: &Packet<'_>) -> Option<Digit> {
        let digit = self.keypad.digit(&packet.header, packet.payload)?;
        self.keyed(now, digit, Way::Rtp).then_some(digit)
    }
    /// A digit that somebody keys in at an earpiece.
    pub fn keyed(&mut self, now: MediaTime, digit: Digit, way: Way) -> bool {
        self.party.role == Role::Earpiece && self.keypad.counts_digit(now, digit, way)
    }
    /// The same for a key told otherwise.
    pub fn pressed(&mut self, now: MediaTime, key: Key, way: Way) -> Option<Key> {
        (self.steers() && self.keypad.counts(now, key, way)).then_some(key)
    }

    /// Of the samples it speaks and hears.
    pub fn rate(&self) -> Rate {
        self.media.codec.rate()
    }
    /// Whether a clip is laid over this source's packets byte by byte: both are G.711.
    pub fn is_laid_over(&self, source: &Leg) -> bool {
        self.media.codec.law().is_some() && source.media.codec.law().is_some()
    }

    pub fn origin(&self) -> Origin {
        Origin { leg: self.id(), generation: self.reception.generation(), clock: self.media.codec.clock() }
    }
    pub fn target(&self) -> SocketAddr {
        self.latch.target()
    }
    /// Whether it is a copy made for us, without a way back.
    pub fn is_forked(&self) -> bool {
        self.media.shape.forked
    }
    /// Whether there is somewhere to send to: the SDP of a phone on hold may name nobody (RFC 2543's 0.0.0.0).
    pub fn can_be_sent_to(&self) -> bool {
        self.media.send && !self.is_forked() && is_somewhere(self.target())
    }
    /// Where RTP goes if RTCP shares its port (RFC 5761). Else, behind NAT, the port above is the best guess there is.
    pub fn report_target(&self) -> SocketAddr {
        if self.media.remote_rtcp == self.media.remote {
            return self.target();
        }
        self.latch.elsewhere().map_or(self.media.remote_rtcp, |mut source| {
            source.set_port(source.port().saturating_add(1));
            source
        })
    }

    /// Judges a packet. Answers what it is and whether the far end is somebody else; `None` if it does not count.
    pub fn receive(&mut self, now: MediaTime, from: SocketAddr, packet: &Packet<'_>) -> Option<(Kind, bool)> {
        let header = &packet.header;
        let moved = match self.latch.judge(now, from, header.ssrc, header.sequence) {
            Verdict::Accepted => false,
            Verdict::Moved => true,
            Verdict::Dropped => return self.drop_packet(),
        };
        let arrival = self.reception.take(now, header);
        match arrival {
            Arrival::Dropped => return self.drop_packet(),
            Arrival::Restarted | Arrival::Stranger => self.voice.restart(),
            Arrival::First | Arrival::Next => {}
        }
        let kind = self.kind(packet);
        if kind == Kind::Voice {
            self.last_voice = Some((now, self.length(self.media.codec.ticks(packet.payload))));
        }
        Some((kind, moved || arrival == Arrival::Stranger))
    }

    /// Counts a packet that is none.
    pub fn drop_packet<T>(&mut self) -> Option<T> {
        self.dropped += 1;
        None
    }

    /// Whether nothing came for longer than its own packets last.
    pub fn is_silent(&self, now: MediaTime) -> bool {
        self.last_voice.is_none_or(|(at, length)| {
            let usual = length.0.max(Samples::FRAME.0);
            let late = SILENT_AFTER.0 + (JITTERS * self.reception.jitter_ms() * 48.0) as i64;
            (now - at).0 > usual + late
        })
    }

    /// Media time of so many of its timestamp units.
    fn length(&self, ticks: u32) -> Samples {
        Samples(i64::from(ticks) * 48_000 / i64::from(self.media.codec.clock()))
    }

    pub fn set_media(&mut self, now: MediaTime, media: LegMedia) {
        self.latch.reopen(now, media.remote);
        self.has_agreed(now);
        if media.codec != self.media.codec {
            self.sender.set_clock(media.codec.clock());
            self.reception.set_clock(media.codec.clock());
            // Its buffers are of another rate.
            self.voice = Voice::new(media.codec);
            self.wanted = Wanted::default();
            self.blend = self.blend.at(media.codec.rate().hz());
        }
        if (media.codec, media.shape) != (self.media.codec, self.media.shape) {
            self.line = Line::new(&media);
        }
        self.reception.count(counts(&media));
        self.media = media;
    }

    pub fn take_report(&mut self, now: MediaTime, from: SocketAddr, bytes: &[u8]) {
        // Reports tell nobody's secrets, but anybody could fill them with nonsense. NAT gives them a port of its own.
        let translated = self.latch.elsewhere().is_some_and(|source| source.ip() == from.ip());
        if from != self.media.remote_rtcp && from != self.target() && !translated {
            self.dropped += 1;
            return;
        }
        if let Some(told) = rtcp::read(now, self.sender.ssrc(), bytes) {
            self.far_clock = told.clock.or(self.far_clock);
            self.round_trip = told.of_us.and_then(|of_us| of_us.round_trip).or(self.round_trip);
            if let Some(of_us) = told.of_us {
                self.far_end.report(of_us, self.media.codec.clock());
            }
        }
        let told = xr::read(now, self.sender.ssrc(), bytes);
        self.reference = told.reference.or(self.reference);
        self.round_trip = told.round_trip.or(self.round_trip);
        self.far_end.extend(told.summary, told.metrics, self.media.codec.clock());
    }

    pub fn write_report(&mut self, now: MediaTime, leaving: bool, out: &mut Vec<u8>) {
        let sent = rtcp::Sent {
            ssrc: self.sender.ssrc(),
            active: self.sender.packets() > self.reported[0],
            timestamp: self.sender.timestamp_at(now),
            packets: self.sender.packets(),
            octets: self.sender.octets(),
        };
        self.reported = [self.reported[1], self.sender.packets()];
        let block = self.reception.report().map(|block| (block, self.far_clock));
        rtcp::write(now, sent, self.name, block, out);
        if self.media.shape.reports.any() {
            xr::write(now, sent.ssrc, &self.extended(), out);
        }
        if leaving {
            rtcp::write_goodbye(sent.ssrc, out);
        }
    }

    /// What the far end wants to know beside.
    fn extended(&mut self) -> xr::Report {
        let wanted = self.media.shape.reports;
        xr::Report {
            reference: wanted.round_trip.then_some(self.reference),
            summary: wanted.summary.then(|| self.reception.summary()).flatten(),
            metrics: wanted.metrics.then(|| self.metrics()).flatten(),
        }
    }

    /// What it is like to listen to the far end. Who is only relayed has no buffer here.
    fn metrics(&self) -> Option<xr::Metrics> {
        let milliseconds = |time: Samples| time.as_millis().try_into().unwrap_or(u16::MAX);
        let length = self.last_voice.map_or(Samples::FRAME, |(_, length)| length);
        let (of, bursts) = self.reception.bursts(length.as_millis().unsigned_abs())?;
        let buffer = if self.mixed { self.voice.jitter.delay(Ear::Mix) } else { Samples(0) };
        Some(xr::Metrics {
            of,
            bursts,
            round_trip_ms: self.round_trip.map_or(0, milliseconds),
            buffer_ms: milliseconds(buffer),
            most_buffer_ms: milliseconds(MOST),
            ..xr::Metrics::default()
        })
    }

    /// What is needed to relay without a call.
    pub fn into_line(self) -> (Latch, Reception, Sender) {
        (self.latch, self.reception, self.sender)
    }

    pub fn view(&self) -> LegView {
        LegView {
            id: self.id(),
            role: self.party.role,
            place: self.party.place,
            suspended: self.suspended,
            mode: (self.party.role == Role::Supervisor).then_some(self.mode),
            stands_in: self.stands_in(),
            volume: self.volume,
            address: self.address.clone(),
            codec: self.media.codec,
            path: match self.path {
                Path::Relay(_) => "relay",
                Path::Overlay(_) => "overlay",
                Path::Mix => "mix",
            },
            received: self.reception.received(),
            sent: self.sender.packets(),
            lost: self.reception.lost(),
            dropped: self.dropped,
            jitter_ms: self.reception.jitter_ms(),
            round_trip_ms: self.round_trip.map(|time| time.0 as f32 / 48.0),
            far_end: self.far_end.told(),
            last_sound: self.last_sound.filter(|_| self.party.role == Role::Bridge),
        }
    }

    fn kind(&self, packet: &Packet<'_>) -> Kind {
        let payload = packet.payload;
        let named = packet.header.payload_type;
        if named == self.media.payload_type && !payload.is_empty() && payload.len() <= MAX_PAYLOAD {
            Kind::Voice
        } else if named == self.media.shape.noise && !payload.is_empty() {
            Kind::Noise
        } else if self.media.dtmf == Some(named) && dtmf::is_event(payload) {
            Kind::Digit
        } else {
            Kind::Other
        }
    }
}

/// Whether the far end asked for what is counted only on demand.
fn counts(media: &LegMedia) -> bool {
    media.shape.reports.summary || media.shape.reports.metrics
}

/// Whether a datagram to this address would go anywhere but to ourselves.
pub(crate) fn is_somewhere(address: SocketAddr) -> bool {
    !address.ip().is_unspecified() && address.port() != 0
}
