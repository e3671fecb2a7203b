//! A stage for calls on a virtual clock: phones that send and keep what they get, time that is stepped by hand, and
//! ears that find tones again.
#![allow(dead_code, reason = "every test uses its own part of the stage")]

pub mod network;
pub mod oracle;
pub mod tones;

use sotto::call::{
    Ack, Audience, Call, CallOptions, CallView, ClipSpec, Command, FRAME, LegMedia, LegSpec, Output, Port, Refusal,
    Speaker,
};
use sotto::event::{Actor, Event, Mode, Place, Role, What};
use sotto::id::{ClipId, LegId};
use sotto::media::codec::Codec;
use sotto::media::rtp::{Header, Packet};
use sotto::time::{MediaTime, Samples};
use std::collections::BTreeMap;
use std::net::SocketAddr;

pub type Sound = Box<dyn FnMut(u64) -> i16 + Send>;

/// A packet a phone got.
#[derive(Clone, Debug)]
pub struct Got {
    pub at: MediaTime,
    pub header: Header,
    pub payload: Vec<u8>,
}

/// One party: sends its sound every `ptime` and keeps what it gets.
pub struct Phone {
    pub leg: LegId,
    pub media: LegMedia,
    pub from: SocketAddr,
    pub sound: Sound,
    pub speaks: bool,
    pub ptime: i64,
    pub header: Header,
    pub spoken: u64,
    pub due: MediaTime,
    pub got: Vec<Got>,
    pub reports: Vec<Vec<u8>>,
    pub sent: Vec<Vec<u8>>,
    pub network: network::Network,
}

/// A frame of recording.
pub struct Recorded {
    pub at: MediaTime,
    pub customer: [i16; FRAME],
    pub agent: [i16; FRAME],
}

pub struct Stage {
    pub call: Call,
    pub now: MediaTime,
    pub phones: BTreeMap<LegId, Phone>,
    pub events: Vec<Event>,
    pub recorded: Vec<Recorded>,
    pub heard: BTreeMap<LegId, Vec<(MediaTime, [i16; FRAME], bool)>>,
}

pub fn media(codec: Codec, port: u16) -> LegMedia {
    let remote: SocketAddr = ([127, 0, 0, 1], port).into();
    let payload_type = match codec {
        Codec::Pcmu => 0,
        Codec::Pcma => 8,
    };
    let remote_rtcp = ([127, 0, 0, 1], port + 1).into();
    LegMedia { codec, payload_type, dtmf: Some(101), remote, remote_rtcp, send: true }
}

pub fn options(seed: u64) -> CallOptions {
    CallOptions { seed, caller: "a".into(), called: "b".into(), code: None, listen: true, record: true }
}

impl Stage {
    pub fn new(seed: u64) -> Self {
        let mut stage = Stage {
            call: Call::new(options(seed)),
            now: MediaTime::from_millis(3),
            phones: BTreeMap::new(),
            events: Vec::new(),
            recorded: Vec::new(),
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
        let media = media(codec, port);
        let spec = LegSpec { role, place, mode, address: "x".into(), media };
        let Ok(Ack::Leg(leg)) = self.command(Command::AddLeg(spec)) else { panic!("the leg was refused") };
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
            speaks: true,
            ptime: 20,
            header,
            spoken: 0,
            due: self.now + Samples::from_millis(1 + self.phones.len() as i64 * 3),
            got: Vec::new(),
            reports: Vec::new(),
            sent: Vec::new(),
            network: network::Network::perfect(),
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
                let (leg, from) = (p.leg, p.from);
                p.network.arrived(now).into_iter().map(move |bytes| (leg, from, bytes))
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
                    let packet = Packet::parse(bytes).expect("what leaves is RTP");
                    if let Some(phone) = self.phones.get_mut(&leg) {
                        phone.got.push(Got { at: self.now, header: packet.header, payload: packet.payload.to_vec() });
                    }
                }
                Output::Send { leg, port: Port::Rtcp, bytes, .. } => {
                    if let Some(phone) = self.phones.get_mut(&leg) {
                        phone.reports.push(bytes.to_vec());
                    }
                }
                Output::Heard { leg, at, pcm, concealed, .. } => {
                    self.heard.entry(leg).or_default().push((at, *pcm, concealed));
                }
                Output::Record { at, customer, agent } => {
                    self.recorded.push(Recorded { at, customer: *customer, agent: *agent });
                }
                Output::Event(event) => self.events.push(event),
            }
        }
    }

    /// What a leg was sent in the last `ms`, as it sounds, in order of arrival.
    pub fn sounds(&self, leg: LegId, ms: i64) -> Vec<i16> {
        let phone = &self.phones[&leg];
        let since = self.now - Samples::from_millis(ms);
        phone
            .got
            .iter()
            .filter(|g| g.at > since && g.header.payload_type == phone.media.payload_type)
            .flat_map(|g| g.payload.iter().map(|b| phone.media.codec.decode(*b)))
            .collect()
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
        let count = self.ptime as u64 * 8;
        let codec = self.media.codec;
        let payload: Vec<u8> = (0..count).map(|i| codec.encode((self.sound)(self.spoken + i))).collect();
        self.spoken += count;
        self.due = self.due + Samples::from_millis(self.ptime);
        if self.speaks {
            self.emit(now, &payload);
        } else {
            self.header.timestamp = self.header.timestamp.wrapping_add(count as u32);
        }
    }

    fn emit(&mut self, now: MediaTime, payload: &[u8]) {
        let mut bytes = self.header.bytes().to_vec();
        bytes.extend_from_slice(payload);
        self.header.sequence = self.header.sequence.wrapping_add(1);
        self.header.timestamp = self.header.timestamp.wrapping_add(payload.len() as u32);
        self.sent.push(payload.to_vec());
        self.network.put(now, bytes);
    }
}
