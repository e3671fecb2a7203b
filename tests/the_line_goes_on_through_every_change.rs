//! A million switches among relay, overlay (a clip's, a supervisor's) and mix: one SSRC, every number once, no timestamp twice and no hole, a
//! marker only where the line begins anew. Under a clip of digital silence G.711 leaves bit for bit as it came.
//!
//! `SOTTO_SWITCHES` sets another number of switches, `SOTTO_SEED` another beginning.

mod support;

use sotto::call::{Ack, Audience, Call, ClipSpec, Command, LegMedia, LegSpec, Output, Port, Shape, Sound};
use sotto::event::{Mode, Place, Role};
use sotto::id::{ClipId, LegId};
use sotto::media::codec::{Codec, Encoder, OpusWish};
use sotto::media::rtp::{Header, Packet};
use sotto::media::seed::Seed;
use sotto::time::MediaTime;

/// Everything happens on this grid, in milliseconds.
const GRID: i64 = 10;
/// A frame: what a line that begins anew may be further on than its clock, beside what was gathered for it.
const SLACK_MS: u32 = 20;

/// What feeds the customer's line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Feed {
    Relay,
    /// Under digital silence.
    Silence,
    /// Under a tone.
    Tone,
    /// Under a supervisor's voice, by the clock where the party pauses.
    Beside,
    Mix,
}

#[derive(Default, Debug)]
struct Counts {
    switches: u64,
    /// Switches to or from a clip of digital silence, with the packet after each the same bit for bit.
    silent: u64,
    same: u64,
    packets: u64,
    /// While a supervisor is heard.
    pauses: u64,
}

struct Speaker {
    leg: LegId,
    media: LegMedia,
    header: Header,
    encoder: Encoder,
    ptime: i64,
    due: i64,
    /// What is sent to it: the last packet, whether a change of feed was since, and how many were
    /// that no marker told of.
    last: Option<(Header, u32, i64)>,
    changed: bool,
    anew: u32,
}

struct World {
    call: Call,
    seed: Seed,
    now: i64,
    /// Customer, agent, a second agent and a supervisor who come and go.
    speakers: Vec<Speaker>,
    feed: Feed,
    clip: Option<ClipId>,
    sounds: [Sound; 2],
    counts: Counts,
}

#[test]
fn a_million_switches() {
    let wanted = number("SOTTO_SWITCHES", 1_000_000);
    let mut seed = Seed::new(number("SOTTO_SEED", 1));
    let mut tone = support::tones::tone(500.0);
    let tone: Vec<i16> = (0..8_000).map(&mut *tone).collect();
    let sounds = [Sound::from(vec![0; 8_000]), Sound::from(tone)];
    let mut all = Counts::default();
    while all.switches < wanted {
        let mut world = World::new(seed.bits(), sounds.clone());
        while world.counts.switches < 2_000.min(wanted - all.switches) {
            world.switch();
            (0..=world.seed.below(3)).for_each(|_| world.step());
        }
        let counts = world.counts;
        all.switches += counts.switches;
        all.silent += counts.silent;
        all.same += counts.same;
        all.packets += counts.packets;
        all.pauses += counts.pauses;
    }
    println!("{all:?}");
    assert!(all.silent >= 1_000.min(wanted / 20), "{all:?}");
}

fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().and_then(|v| v.parse().ok()).unwrap_or(otherwise)
}

impl World {
    fn new(seed: u64, sounds: [Sound; 2]) -> Self {
        let mut seed = Seed::new(seed);
        let mut call = Call::new(support::options(seed.bits()));
        let now = call.poll_timeout().unwrap().as_millis();
        let mut speakers = Vec::new();
        let same = seed.below(2) == 0;
        let first = codec(&mut seed);
        for (n, role) in [Role::Customer, Role::Agent, Role::Agent, Role::Supervisor].into_iter().enumerate() {
            let codec = if same { first } else { codec(&mut seed) };
            let ptime = [10, 20, 20, 20, 30, 40][seed.below(6) as usize];
            let ptime = if codec == Codec::Opus && ptime == 30 { 20 } else { ptime };
            let shape = Shape { ptime: [10, 20, 20, 20, 40, 60][seed.below(6) as usize], ..Shape::default() };
            let media = LegMedia { shape, ..support::media(codec, 4000 + 2 * n as u16) };
            let place = if n >= 2 { Place::Aside } else { Place::InConversation };
            let spec = LegSpec { role, place, mode: Mode::Barge, address: "x".into(), media };
            let Ok(Ack::Leg(leg)) = call.command(MediaTime::from_millis(now), Command::AddLeg(spec)) else {
                panic!("a leg was refused");
            };
            let header = Header {
                marker: false,
                payload_type: media.payload_type,
                sequence: seed.bits() as u16,
                timestamp: seed.bits() as u32,
                ssrc: seed.bits() as u32,
            };
            let encoder = Encoder::new(codec, OpusWish::default());
            let due = now + GRID * (1 + n as i64);
            speakers.push(Speaker { leg, media, header, encoder, ptime, due, last: None, changed: true, anew: 1 });
        }
        let mut world =
            World { call, seed, now, speakers, feed: Feed::Relay, clip: None, sounds, counts: Counts::default() };
        world.drain();
        // Until everyone has spoken.
        (0..20).for_each(|_| {
            world.speakers.iter_mut().for_each(|s| (s.changed, s.anew) = (true, s.anew + 1));
            world.step();
        });
        world
    }

    fn command(&mut self, command: Command) -> Ack {
        let ack = self.call.command(MediaTime::from_millis(self.now), command).unwrap();
        self.drain();
        ack
    }

    fn switch(&mut self) {
        let feeds = [Feed::Relay, Feed::Silence, Feed::Tone, Feed::Beside, Feed::Mix];
        let to = feeds[self.seed.below(5) as usize];
        if to == self.feed {
            return;
        }
        self.speakers.iter_mut().for_each(|s| (s.changed, s.anew) = (true, s.anew + 1));
        if let Some(clip) = self.clip.take() {
            self.command(Command::Cut { clip, reason: "enough".into() });
        }
        for (at, feed) in [(2, Feed::Mix), (3, Feed::Beside)] {
            let place = if to == feed { Place::InConversation } else { Place::Aside };
            self.command(Command::SetPlace { leg: self.speakers[at].leg, place });
        }
        let sound = match to {
            Feed::Silence => Some(0),
            Feed::Tone => Some(1),
            Feed::Relay | Feed::Beside | Feed::Mix => None,
        };
        if let Some(sound) = sound {
            let (pcm, audience) = (self.sounds[sound].clone(), Audience::Own(Mode::Barge));
            let spec = ClipSpec { pcm, audience, looped: true, text: None };
            let Ack::Clip(clip) = self.command(Command::Play(spec)) else { panic!("no clip") };
            self.clip = Some(clip);
        }
        // What was gathered has left with the commands, and was not the first of the new feed.
        self.speakers.iter_mut().for_each(|s| s.changed = true);
        self.counts.switches += 1;
        self.counts.silent += u64::from(to == Feed::Silence || self.feed == Feed::Silence);
        self.feed = to;
    }

    fn step(&mut self) {
        self.now += GRID;
        let tick_first = self.seed.below(2) == 0;
        if tick_first {
            self.tick();
        }
        for at in 0..4 {
            if self.speakers[at].due <= self.now {
                self.speak(at);
            }
        }
        if !tick_first {
            self.tick();
        }
    }

    fn tick(&mut self) {
        if self.call.poll_timeout().is_some_and(|due| due.as_millis() <= self.now) {
            self.call.tick(MediaTime::from_millis(self.now));
            self.drain();
        }
    }

    /// A party says nothing for a while: the other's line is fed by the clock, and by their packets again.
    fn pause(&mut self, at: usize) {
        let s = &mut self.speakers[at];
        let packets = 80 / s.ptime;
        s.due += packets * s.ptime;
        let length = s.media.codec.rate().frame() * s.ptime as usize / 20;
        s.header.timestamp = s.header.timestamp.wrapping_add(packets as u32 * s.media.codec.ticks_of(length));
        let other = &mut self.speakers[1 - at];
        (other.changed, other.anew) = (true, other.anew + 2);
        self.counts.pauses += 1;
    }

    fn speak(&mut self, at: usize) {
        if at < 2 && self.feed == Feed::Beside && self.seed.below(20) == 0 {
            return self.pause(at);
        }
        let s = &mut self.speakers[at];
        let (rate, codec) = (s.media.codec.rate(), s.media.codec);
        let pcm: Vec<i16> = (0..rate.frame() * s.ptime as usize / 20).map(|_| (self.seed.bits() as i16) / 4).collect();
        let mut payload = Vec::new();
        s.encoder.encode(&pcm, &mut payload);
        let mut bytes = s.header.bytes().to_vec();
        bytes.extend_from_slice(&payload);
        s.header.sequence = s.header.sequence.wrapping_add(1);
        s.header.timestamp = s.header.timestamp.wrapping_add(codec.ticks(&payload));
        s.due += s.ptime;
        let (leg, from) = (s.leg, s.media.remote);
        self.call.packet(MediaTime::from_millis(self.now), leg, Port::Rtp, from, &bytes);
        let sent = self.drain();
        let other = 1 - at.min(1);
        if at >= 2 || self.feed == Feed::Mix {
            return;
        }
        let to = &self.speakers[other];
        let got: Vec<_> = sent.iter().filter(|(leg, _)| *leg == to.leg).collect();
        assert!(!got.is_empty(), "{:?}: nothing left for a packet", self.feed);
        let same = to.media.codec == codec
            && (self.feed == Feed::Relay || codec.law().is_some() && self.feed == Feed::Silence);
        if same {
            self.counts.same += 1;
            assert!(got.last().unwrap().1 == payload, "{:?} {codec:?}: not the packet that came", self.feed);
            // Before it, at most what had been gathered by the clock.
            assert!(got.len() == 1 || to.media.shape.ptime > 20, "{:?} {codec:?}", self.feed);
        }
    }

    /// What left, every header checked against the one before.
    fn drain(&mut self) -> Vec<(LegId, Vec<u8>)> {
        let mut sent = Vec::new();
        while let Some(output) = self.call.poll() {
            let Output::Send { leg, port: Port::Rtp, bytes, .. } = output else { continue };
            let packet = Packet::parse(bytes).unwrap();
            let s = self.speakers.iter_mut().find(|s| s.leg == leg).unwrap();
            let codec = s.media.codec;
            let ticks = codec.ticks(packet.payload);
            assert!(ticks > 0, "an empty packet");
            if let Some((before, played, at)) = s.last {
                let now = packet.header;
                assert_eq!((now.ssrc, now.sequence), (before.ssrc, before.sequence.wrapping_add(1)));
                let hole = now.timestamp.wrapping_sub(before.timestamp.wrapping_add(played));
                // Of a change that is, no more time is left out than has passed.
                let units = codec.clock() / 1000;
                let most = (self.now - at - i64::from(played / units)).max(0) as u32
                    + SLACK_MS
                    + u32::from(s.media.shape.ptime);
                let most = if s.changed || now.marker { most * units } else { 0 };
                assert!(hole <= most, "{leg} {codec:?} {:?}: a hole of {} units", self.feed, hole as i32);
                assert!(
                    !now.marker || s.anew > 0,
                    "{leg} {codec:?} {:?} {:?} {}: a marker in the middle of the line",
                    self.feed,
                    s.media.shape,
                    self.now
                );
                s.anew -= u32::from(now.marker);
            }
            s.last = Some((packet.header, ticks, self.now));
            self.counts.packets += 1;
            s.changed = false;
            sent.push((leg, packet.payload.to_vec()));
        }
        sent
    }
}

/// Opus seldom: it costs a hundred times the others.
fn codec(seed: &mut Seed) -> Codec {
    match seed.below(200) {
        0..60 => Codec::Pcmu,
        60..120 => Codec::Pcma,
        120..160 => Codec::L16,
        160..199 => Codec::G722,
        _ => Codec::Opus,
    }
}
