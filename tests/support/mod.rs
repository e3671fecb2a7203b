//! A stage for calls on a virtual clock: phones that send and keep what they get, time that is stepped by hand, and
//! ears that find tones again.
#![allow(dead_code, reason = "every test uses its own part of the stage")]

pub mod network;
pub mod oracle;
pub mod tones;

use sotto::call::ears::Ears;
use sotto::call::{
    Ack, Audience, Call, CallOptions, CallView, ClipSpec, Command, LegMedia, LegSpec, Output, Port, Refusal, Shape,
    Speaker, Supervising,
};
use sotto::event::{Actor, Event, Mode, Place, Role, What};
use sotto::id::{ClipId, LegId};
use sotto::media::codec::{Codec, Decoder, Encoder, MAX_DECODED, OpusWish};
use sotto::media::pcm::Rate;
use sotto::media::rtp::{Header, Packet};
use sotto::time::{MediaTime, Samples};
use std::collections::BTreeMap;
use std::net::SocketAddr;

/// A sample for each number, at the rate of the codec of who speaks.
pub type Sound = Box<dyn FnMut(u64) -> i16 + Send>;

/// A packet a phone got.
#[derive(Clone, Debug)]
pub struct Got {
    pub at: MediaTime,
    pub header: Header,
    pub payload: Vec<u8>,
}

/// What lies between a phone and the call, where a test puts something there.
pub trait Wire {
    /// What the phone sends, as the call gets it; nothing, if it is lost on the way.
    fn to_call(&mut self, packet: Vec<u8>) -> Option<Vec<u8>>;
    /// What the call sends, as the phone gets it.
    fn to_phone(&mut self, packet: &[u8]) -> Option<Vec<u8>>;
}

/// One party: sends its sound every `ptime` and keeps what it gets.
pub struct Phone {
    pub leg: LegId,
    pub media: LegMedia,
    pub from: SocketAddr,
    pub sound: Sound,
    pub encoder: Encoder,
    pub speaks: bool,
    pub ptime: i64,
    pub header: Header,
    pub spoken: u64,
    pub due: MediaTime,
    pub got: Vec<Got>,
    pub reports: Vec<Vec<u8>>,
    pub sent: Vec<Vec<u8>>,
    pub network: network::Network,
    pub wire: Option<Box<dyn Wire>>,
}

/// A frame of recording.
pub struct Recorded {
    pub at: MediaTime,
    pub rate: Rate,
    pub customer: Vec<i16>,
    pub agent: Vec<i16>,
}

pub struct Stage {
    pub call: Call,
    pub now: MediaTime,
    pub phones: BTreeMap<LegId, Phone>,
    pub events: Vec<Event>,
    pub recorded: Vec<Recorded>,
    pub recorded_alone: BTreeMap<LegId, Vec<(MediaTime, Vec<i16>)>>,
    pub heard: BTreeMap<LegId, Vec<(MediaTime, Vec<i16>, bool)>>,
}

pub fn media(codec: Codec, port: u16) -> LegMedia {
    let remote: SocketAddr = ([127, 0, 0, 1], port).into();
    let payload_type = match codec {
        Codec::Pcmu => 0,
        Codec::Pcma => 8,
        Codec::G722 => 9,
        Codec::Opus => 111,
        Codec::L16 => 96,
    };
    let remote_rtcp = ([127, 0, 0, 1], port + 1).into();
    let dtmf_clock = if codec == Codec::Opus { 48_000 } else { 8_000 };
    let shape = Shape { dtmf_clock, ..Shape::default() };
    LegMedia { codec, payload_type, dtmf: Some(101), shape, remote, remote_rtcp, send: true }
}

pub fn options(seed: u64) -> CallOptions {
    CallOptions {
        seed,
        caller: "a".into(),
        called: "b".into(),
        code: None,
        listen: true,
        record: true,
        ears: Default::default(),
    }
}

impl Stage {
    pub fn new(seed: u64) -> Self {
        Stage::of(options(seed))
    }

    /// A call that is kind to ears.
    pub fn with(ears: Ears) -> Self {
        Stage::of(CallOptions { ears, ..options(1) })
    }

    fn of(options: CallOptions) -> Self {
        let mut stage = Stage {
            call: Call::new(options),
            now: MediaTime::from_millis(3),
            phones: BTreeMap::new(),
            events: Vec::new(),
            recorded: Vec::new(),
            recorded_alone: BTreeMap::new(),
            heard: BTreeMap::new(),
        };
        stage.drain();
        stage
    }

    /// A party joins in conversation, silent until told otherwise.
    pub fn join(&mut self, role: Role) -> LegId {
        self.join_as(role, Place::InConversation, Mode::Spy, Codec::Pcmu)
    }

    pub fn join_as(&mut self, role: Role, place: Place, mode: Mode, codec: Codec) -> LegId {
        let port = 4000 + 2 * self.phones.len() as u16;
        self.join_with(role, place, mode, media(codec, port))
    }

    pub fn join_with(&mut self, role: Role, place: Place, mode: Mode, media: LegMedia) -> LegId {
        self.join_by(Command::AddLeg(LegSpec { role, place, mode, address: "x".into(), media }), media)
    }

    pub fn join_supervisor(&mut self, supervising: Supervising) -> LegId {
        let media = supervising.media;
        self.join_by(Command::Supervise(supervising), media)
    }

    fn join_by(&mut self, command: Command, media: LegMedia) -> LegId {
        let port = media.remote.port();
        let Ok(Ack::Leg(leg)) = self.command(command) else { panic!("the leg was refused") };
        let header = Header {
            marker: false,
            payload_type: media.payload_type,
            sequence: 1000,
            timestamp: 5000,
            ssrc: 77 + u32::from(port),
        };
        let phone = Phone {
            leg,
            media,
            from: media.remote,
            sound: Box::new(|_| 0),
            encoder: Encoder::new(media.codec, OpusWish::default()),
            speaks: true,
            ptime: 20,
            header,
            spoken: 0,
            due: self.now + Samples::from_millis(1 + self.phones.len() as i64 * 3),
            got: Vec::new(),
            reports: Vec::new(),
            sent: Vec::new(),
            network: network::Network::perfect(),
            wire: None,
        };
        self.phones.insert(leg, phone);
        leg
    }

    pub fn phone(&mut self, leg: LegId) -> &mut Phone {
        self.phones.get_mut(&leg).expect("a phone of this stage")
    }

    pub fn command(&mut self, command: Command) -> Result<Ack, Refusal> {
        let ack = self.call.command(self.now, command);
        self.drain();
        ack
    }

    pub fn set_mode(&mut self, speaker: Speaker, mode: Mode) -> Result<BTreeMap<LegId, u32>, Refusal> {
        match self.command(Command::SetMode { speaker, mode, by: Actor::Person })? {
            Ack::Mode { effective, .. } => Ok(effective),
            other => panic!("{other:?}"),
        }
    }

    pub fn play(&mut self, pcm: Vec<i16>, audience: Audience) -> Result<ClipId, Refusal> {
        match self.command(Command::Play(ClipSpec { pcm: pcm.into(), audience, looped: false, text: None }))? {
            Ack::Clip(clip) => Ok(clip),
            other => panic!("{other:?}"),
        }
    }

    pub fn view(&mut self) -> CallView {
        match self.command(Command::Describe) {
            Ok(Ack::View(view)) => view,
            other => panic!("{other:?}"),
        }
    }

    /// Time passes, a millisecond at a time.
    pub fn run(&mut self, ms: i64) {
        for _ in 0..ms {
            self.now = self.now + Samples::from_millis(1);
            self.speak();
            if self.call.poll_timeout().is_some_and(|due| due <= self.now) {
                self.call.tick(self.now);
                self.drain();
            }
        }
    }

    /// The server stands still: nothing is received or sent, and then everything at once, one phone's after the other's.
    pub fn stall(&mut self, ms: i64) {
        for _ in 0..ms {
            self.now = self.now + Samples::from_millis(1);
            let now = self.now;
            self.phones.values_mut().filter(|p| p.due <= now).for_each(|p| p.say(now));
        }
        self.deliver();
        self.run(0);
    }

    /// One packet now, as this phone would send it, with this payload.
    pub fn send(&mut self, leg: LegId, payload: &[u8]) {
        let now = self.now;
        let phone = self.phone(leg);
        phone.emit(now, payload);
        self.deliver();
    }

    fn speak(&mut self) {
        let now = self.now;
        for phone in self.phones.values_mut() {
            while phone.due <= now {
                phone.say(now);
            }
        }
        self.deliver();
    }

    fn deliver(&mut self) {
        let now = self.now;
        let arrived: Vec<_> = self
            .phones
            .values_mut()
            .flat_map(|p| {
                let (leg, from, wire) = (p.leg, p.from, &mut p.wire);
                let passes = |bytes| match wire {
                    Some(wire) => wire.to_call(bytes),
                    None => Some(bytes),
                };
                p.network.arrived(now).into_iter().filter_map(passes).map(move |bytes| (leg, from, bytes))
            })
            .collect();
        for (leg, from, bytes) in arrived {
            self.call.packet(now, leg, Port::Rtp, from, &bytes);
            self.drain();
        }
    }

    pub fn drain(&mut self) {
        while let Some(output) = self.call.poll() {
            match output {
                Output::Send { leg, port: Port::Rtp, bytes, .. } => {
                    if let Some(phone) = self.phones.get_mut(&leg) {
                        let bytes = match &mut phone.wire {
                            Some(wire) => wire.to_phone(bytes).expect("what leaves arrives"),
                            None => bytes.to_vec(),
                        };
                        let packet = Packet::parse(&bytes).expect("what leaves is RTP");
                        phone.got.push(Got { at: self.now, header: packet.header, payload: packet.payload.to_vec() });
                    }
                }
                Output::Send { leg, port: Port::Rtcp, bytes, .. } => {
                    if let Some(phone) = self.phones.get_mut(&leg) {
                        phone.reports.push(bytes.to_vec());
                    }
                }
                Output::Heard { leg, at, pcm, concealed, .. } => {
                    self.heard.entry(leg).or_default().push((at, pcm.to_vec(), concealed));
                }
                Output::Record { at, rate, customer, agent } => {
                    self.recorded.push(Recorded { at, rate, customer: customer.to_vec(), agent: agent.to_vec() });
                }
                Output::RecordLeg { leg, at, pcm, .. } => {
                    self.recorded_alone.entry(leg).or_default().push((at, pcm.to_vec()));
                }
                Output::Event(event) => self.events.push(event),
            }
        }
    }

    /// What a leg was sent in the last `ms`, as it sounds at its codec's rate, in order of arrival.
    pub fn sounds(&self, leg: LegId, ms: i64) -> Vec<i16> {
        let phone = &self.phones[&leg];
        let since = self.now - Samples::from_millis(ms);
        let mut decoder = Decoder::new(phone.media.codec);
        let (mut pcm, mut heard) = ([0; MAX_DECODED], Vec::new());
        for got in phone.got.iter().filter(|g| g.header.payload_type == phone.media.payload_type) {
            let count = decoder.decode(&got.payload, &mut pcm);
            if got.at > since {
                heard.extend_from_slice(&pcm[..count]);
            }
        }
        heard
    }

    /// The events of a kind so far.
    pub fn told(&self, name: &str) -> Vec<&Event> {
        self.events.iter().filter(|e| e.what.name() == name).collect()
    }

    pub fn started(&self, clip: ClipId) -> Option<Vec<LegId>> {
        self.events.iter().find_map(|e| match &e.what {
            What::ClipStarted { clip: c, audience, .. } if *c == clip => Some(audience.clone()),
            _ => None,
        })
    }
}

impl Phone {
    /// The next packet of its sound.
    fn say(&mut self, now: MediaTime) {
        let count = self.ptime as u64 * u64::from(self.media.codec.rate().hz()) / 1000;
        let pcm: Vec<i16> = (0..count).map(|i| (self.sound)(self.spoken + i)).collect();
        let mut payload = Vec::new();
        if self.speaks {
            self.encoder.encode(&pcm, &mut payload);
        }
        self.spoken += count;
        self.due = self.due + Samples::from_millis(self.ptime);
        if self.speaks {
            self.emit(now, &payload);
        } else {
            self.header.timestamp = self.header.timestamp.wrapping_add(self.media.codec.ticks_of(count as usize));
        }
    }

    fn emit(&mut self, now: MediaTime, payload: &[u8]) {
        let mut bytes = self.header.bytes().to_vec();
        bytes.extend_from_slice(payload);
        self.header.sequence = self.header.sequence.wrapping_add(1);
        self.header.timestamp = self.header.timestamp.wrapping_add(self.media.codec.ticks(payload));
        self.sent.push(payload.to_vec());
        self.network.put(now, bytes);
    }
}
