//! The guard on an agent's line: what was whispered to them is compared with what comes from them, and what leaks is
//! attenuated, or cancelled, before anybody hears it.
//!
//! ```text
//!   whispers (clips, supervisors) ─► told ─────────────┐
//!                                                      ▼
//!   the agent's packet ─► decode ─► (cancel) ─► guard: look, attenuate ─► encode ─┐
//!        └──────────────── nothing to do ─────────────────────────────────────────┴─► everyone who hears the agent
//! ```
//!
//! It is awake from a whisper's first audible sample until its echo is over; else packets pass as they are. Both sides
//! are compared on one line of places at 8 kHz: those of the whisper are when it was sent, those of the line follow
//! its timestamps from when its first packet came, so that jitter does not move an echo.

use crate::call::LegMedia;
use crate::call::clip::{Clip, Read};
use crate::call::ears::LeakGuard;
use crate::call::engine::Call;
use crate::call::leg::Leg;
use crate::call::ticks::whispers;
use crate::event::{Role, What};
use crate::id::LegId;
use crate::media::FRAME;
use crate::media::blend::Blend;
use crate::media::cancel::Canceller;
use crate::media::codec::{Codec, Decoder, Encoder, MAX_DECODED};
use crate::media::leak::{Guard, Profile};
use crate::media::pcm::Rate;
use crate::media::resample::Resampler;
use crate::media::rtp::{Header, Packet};
use crate::time::{MediaTime, Samples};

/// After the last whispered sample its echo may take 300 ms, and the room 500 to die away.
const ECHOES: Samples = Samples::from_millis(800);
/// Where it is known how long the echo takes: the room is 36 dB down, if it needs 500 ms for 60.
const ROOM: Samples = Samples::from_millis(300);
/// And the canceller goes on for 500 ms.
const CANCELLED: Samples = Samples::from_millis(500);
/// 10 ms at 8 kHz.
const PIECE: usize = FRAME / 2;
/// Whispered samples smaller than this are silence: a clip's dither.
const SILENT: i16 = 16;
/// What was whispered is remembered this long, in samples at 8 kHz: packets of the line may come 300 ms late.
const TOLD: usize = 8192;
/// A whisper whose packets leave within this of where its last samples were put goes on there.
const TOGETHER: i64 = 480;
/// A line whose places are further than this from its packets' arrival begins anew: 250 ms.
const ASTRAY: i64 = 2000;
/// Searches that a tick pays for, and how many may be saved up: a burst of packets costs no more than this.
const SEARCHES: u8 = 2;
const SAVED: u8 = 6;

/// Who whispers.
#[derive(Debug)]
pub(crate) enum Whisperer<'a> {
    /// In packets as they come, which the far end plays one after the other.
    Coach,
    /// A supervisor, in packets too: where they go on.
    Beside(&'a mut i64),
    /// A supervisor, by the clock.
    Mixed,
}

/// One line's guard.
pub(crate) struct Watch {
    codec: Codec,
    decoder: Decoder,
    encoder: Encoder,
    down: Option<Resampler>,
    whispered: Whispered,
    line: Heard,
    guard: Guard,
    canceller: Option<Box<Canceller>>,
    /// Whether the canceller is measured to take out what comes back.
    trusted: bool,
    told: Told,
    /// When something was last whispered.
    last: MediaTime,
    /// Until when what was played to find out whether it comes back may do so.
    measuring: MediaTime,
    /// Whether what was whispered may come back.
    watching: bool,
    searches: u8,
    pcm: Box<[i16; MAX_DECODED]>,
    narrow: Box<[i16; MAX_DECODED]>,
    payload: Vec<u8>,
}

/// What became of a packet.
enum Passed {
    AsItIs,
    Changed,
}

impl Watch {
    /// Allocates.
    fn new(media: &LegMedia) -> Self {
        let codec = media.codec;
        Watch {
            codec,
            decoder: Decoder::new(codec),
            encoder: Encoder::new(codec, media.shape.opus),
            down: (codec.rate() != Rate::Narrow).then(|| Resampler::new(codec.rate(), Rate::Narrow)),
            whispered: Whispered::default(),
            line: Heard::default(),
            guard: Guard::default(),
            canceller: None,
            trusted: false,
            told: Told::default(),
            last: MediaTime::ZERO,
            measuring: MediaTime::ZERO,
            watching: false,
            searches: SAVED,
            pcm: Box::new([0; MAX_DECODED]),
            narrow: Box::new([0; MAX_DECODED]),
            payload: Vec::with_capacity(2 * MAX_DECODED),
        }
    }

    /// This is whispered now, at 8 kHz.
    pub fn told(&mut self, now: MediaTime, who: Whisperer<'_>, samples: impl IntoIterator<Item = i16>) {
        if self.whispered.write(now, who, samples) {
            self.last = now;
            if !std::mem::replace(&mut self.watching, true) && !self.trusted {
                self.guard.expect();
            }
        }
    }

    /// This is played now, at 8 kHz, to find out whether it comes back.
    fn measures(&mut self, now: MediaTime, samples: impl IntoIterator<Item = i16>) {
        if self.whispered.write(now, Whisperer::Coach, samples) {
            self.measuring = now + ECHOES;
        }
    }

    /// The far end may be another: what is known of it does not hold.
    pub fn forget(&mut self) {
        self.guard.forget();
        self.trusted = false;
        self.canceller.iter_mut().for_each(|c| c.doubt());
    }

    /// Whether a packet has to be looked at.
    fn is_awake(&self, now: MediaTime) -> bool {
        self.watching || self.is_measuring(now) || self.is_cancelling(now) || !self.guard.is_open()
    }

    /// Until when what was whispered last may come back.
    fn echo_until(&self) -> MediaTime {
        match self.guard.profile() {
            Some(profile) => self.last + Samples::from_millis(i64::from(profile.delay_ms())) + ROOM,
            None => self.last + ECHOES,
        }
    }

    /// A packet of the line: what it is now is in `payload`, if it was changed. Answers a leak's lag, if one was found.
    fn take(&mut self, now: MediaTime, packet: &Packet<'_>) -> (Passed, Option<usize>) {
        if !self.is_awake(now) {
            return (Passed::AsItIs, None);
        }
        let count = self.decoder.decode(packet.payload, &mut self.pcm[..]);
        if self.trusted && self.is_cancelling(now) && self.line.breaks(&packet.header, self.codec.clock()) {
            self.distrust();
        }
        let place = self.line.place(now, &packet.header, self.codec.clock(), count / self.ratio());
        // The echo is looked for in what would pass: before the canceller while that is not trusted.
        let early = if self.trusted { None } else { self.compare(now, &packet.header, count) };
        let cancelled = self.is_cancelling(now) && self.cancel(place, count);
        let late = if self.trusted { self.compare(now, &packet.header, count) } else { None };
        self.trust(late.is_some());
        let found = early.or(late);
        if self.guard.is_open() && !cancelled {
            return (Passed::AsItIs, found);
        }
        let pcm = &mut self.pcm[..count];
        self.guard.attenuate(self.codec.rate().hz(), pcm);
        self.payload.clear();
        self.encoder.encode(pcm, &mut self.payload);
        (Passed::Changed, found)
    }

    fn is_measuring(&self, now: MediaTime) -> bool {
        now < self.measuring
    }

    fn is_cancelling(&self, now: MediaTime) -> bool {
        self.canceller.is_some() && now < self.last + CANCELLED
    }

    /// A canceller that was given something else than the line's next samples has to prove itself again: until then the
    /// line is held, if it is known to leak.
    fn distrust(&mut self) {
        self.trusted = false;
        self.canceller.iter_mut().for_each(|c| c.doubt());
        self.guard.expect();
    }

    /// The canceller takes over once it is measured to take the echo out, and no longer when any of it is found behind it.
    fn trust(&mut self, failed: bool) {
        let Some(canceller) = &mut self.canceller else { return };
        if failed {
            self.trusted = false;
            canceller.doubt();
        }
        if !self.trusted && canceller.is_proven() {
            self.trusted = true;
            self.guard.release();
        }
    }

    /// Samples of the line in one at 8 kHz.
    fn ratio(&self) -> usize {
        self.codec.rate().frame() / FRAME
    }

    /// Takes the whisper out of the packet in hand, or everything, where that comes too late. Answers whether it did: not
    /// while others watch over the line.
    fn cancel(&mut self, place: Option<i64>, count: usize) -> bool {
        let ratio = self.ratio();
        let (Some(canceller), Some(place)) = (&mut self.canceller, place) else {
            self.pcm[..count].fill(0);
            return self.trusted;
        };
        let whispered = &self.whispered;
        let pieces = self.pcm[..count].chunks_mut(canceller.piece());
        for (n, piece) in pieces.enumerate() {
            match piece.len() == PIECE * ratio {
                true => canceller.cancel(&whispered.read(place + (n * PIECE) as i64)[..PIECE], piece),
                // No packet of ours to understand: nothing of it may leak.
                false => piece.fill(0),
            }
        }
        true
    }

    /// Makes a canceller where one is wanted. Allocates.
    fn arm(&mut self, rule: LeakGuard) {
        let wanted = match rule {
            LeakGuard::Off | LeakGuard::Detect => false,
            LeakGuard::Cancel => true,
            LeakGuard::Auto => self.guard.profile().is_some(),
        };
        if wanted && self.canceller.is_none() {
            self.canceller = Some(Box::new(Canceller::new(self.codec.rate())));
        }
    }

    /// Looks for an echo. Answers the lag of one that is a leak, once.
    fn compare(&mut self, now: MediaTime, header: &Header, count: usize) -> Option<usize> {
        let narrow = match &mut self.down {
            None => &self.pcm[..count],
            Some(down) => {
                let made = down.process(&self.pcm[..count], &mut self.narrow[..]);
                &self.narrow[..made]
            }
        };
        let measuring = self.is_measuring(now);
        let Watch { line, whispered, guard, searches, watching, told, .. } = self;
        let mut found = None;
        line.take(now, header, self.codec.clock(), narrow, |place, heard| {
            if !*watching && !measuring {
                return;
            }
            let look = *searches > 0;
            *searches -= u8::from(look);
            let played = whispered.read(place);
            match *watching {
                true => found = found.or(guard.hear(&played, heard, look)),
                false => told.measured = guard.measure(&played, heard, look).or(told.measured),
            }
        });
        found
    }

    fn tick(&mut self, now: MediaTime) {
        self.searches = (self.searches + SEARCHES).min(SAVED);
        if self.watching && now >= self.echo_until() {
            self.watching = false;
            self.guard.rest();
        }
        if !self.watching && !self.is_measuring(now) && !self.is_cancelling(now) {
            self.line = Heard::default();
        }
    }
}

/// What everyone was told of it and is not over yet.
#[derive(Default)]
struct Told {
    leak: bool,
    cancelling: bool,
    /// The lag that was measured, and is to be told.
    measured: Option<usize>,
}

/// What was whispered, on its line of places.
struct Whispered {
    samples: Box<[i16; TOLD]>,
    /// Everything before this place was written, or is silence.
    end: i64,
    /// Where the coach goes on.
    next: i64,
}

impl Default for Whispered {
    fn default() -> Self {
        Whispered { samples: Box::new([0; TOLD]), end: 0, next: i64::MIN / 2 }
    }
}

impl Whispered {
    /// Answers whether any of it can be heard.
    fn write(&mut self, now: MediaTime, who: Whisperer<'_>, samples: impl IntoIterator<Item = i16>) -> bool {
        let here = Samples(now.0).at_rate(Rate::Narrow.hz());
        let next = match &who {
            Whisperer::Coach => Some(self.next),
            Whisperer::Beside(next) => Some(**next),
            Whisperer::Mixed => None,
        };
        let mut at = next.filter(|next| (next - here).abs() <= TOGETHER).unwrap_or(here);
        self.end = self.end.max(at - TOLD as i64);
        let mut sounds = false;
        for sample in samples {
            while self.end <= at {
                self.samples[slot(self.end)] = 0;
                self.end += 1;
            }
            let there = &mut self.samples[slot(at)];
            *there = there.saturating_add(sample);
            sounds |= sample.saturating_abs() >= SILENT;
            at += 1;
        }
        match who {
            Whisperer::Coach => self.next = at,
            Whisperer::Beside(next) => *next = at,
            Whisperer::Mixed => {}
        }
        sounds
    }

    fn read(&self, place: i64) -> [i16; FRAME] {
        let known = self.end - TOLD as i64..self.end;
        std::array::from_fn(|n| {
            let at = place + n as i64;
            if known.contains(&at) { self.samples[slot(at)] } else { 0 }
        })
    }
}

fn slot(place: i64) -> usize {
    place.rem_euclid(TOLD as i64) as usize
}

/// What the line brought, cut into frames on the same line of places.
struct Heard {
    map: Option<Map>,
    frame: [i16; FRAME],
    filled: usize,
}

/// Where the next sample of the line lies, and what its timestamp will be.
#[derive(Clone, Copy)]
struct Map {
    timestamp: u32,
    place: i64,
}

impl Map {
    /// How many samples are missing before a packet; fewer than none where it is late.
    fn ahead(self, header: &Header, clock: u32) -> i64 {
        i64::from(header.timestamp.wrapping_sub(self.timestamp) as i32) * 8000 / i64::from(clock.max(1))
    }
}

impl Default for Heard {
    fn default() -> Self {
        Heard { map: None, frame: [0; FRAME], filled: 0 }
    }
}

impl Heard {
    /// Whether a packet is not the one after the last. Whoever was silent and begins to talk says so.
    fn breaks(&self, header: &Header, clock: u32) -> bool {
        !header.marker && self.map.is_some_and(|map| map.ahead(header, clock) != 0)
    }

    /// Where a packet of so many samples lies; `None` where it is late.
    fn place(&self, now: MediaTime, header: &Header, clock: u32, length: usize) -> Option<i64> {
        let (map, _) = self.map(now, header, clock, length);
        let ahead = map.ahead(header, clock);
        (ahead >= 0).then_some(map.place + ahead)
    }

    /// The map that holds for a packet, and whether it is a new one.
    fn map(&self, now: MediaTime, header: &Header, clock: u32, length: usize) -> (Map, bool) {
        let usual = Samples(now.0).at_rate(Rate::Narrow.hz()) - length as i64;
        match self.map {
            Some(map) if (map.place + map.ahead(header, clock) - usual).abs() <= ASTRAY => (map, false),
            Some(_) | None => (Map { timestamp: header.timestamp, place: usual }, true),
        }
    }

    /// Hands on whole frames with their places. What is late is left out, what is missing is silence.
    fn take(
        &mut self,
        now: MediaTime,
        header: &Header,
        clock: u32,
        pcm: &[i16],
        mut frame: impl FnMut(i64, &[i16; FRAME]),
    ) {
        let length = pcm.len() as i64;
        let (map, begins) = self.map(now, header, clock, pcm.len());
        let missing = map.ahead(header, clock);
        self.map = Some(map);
        self.filled = if begins { 0 } else { self.filled };
        if missing < 0 {
            return;
        }
        let mut at = map.place;
        for sample in std::iter::repeat_n(0, missing as usize).chain(pcm.iter().copied()) {
            self.frame[self.filled] = sample;
            self.filled += 1;
            at += 1;
            if self.filled == FRAME {
                frame(at - FRAME as i64, &self.frame);
                self.filled = 0;
            }
        }
        let units = (length * i64::from(clock) / 8000) as u32;
        self.map = Some(Map { timestamp: header.timestamp.wrapping_add(units), place: at });
    }
}

impl Call {
    /// A guard for every agent who is whispered to. Allocates: not for a packet's path.
    pub(super) fn arm(&mut self) {
        if self.options.ears.leak_guard == LeakGuard::Off {
            return;
        }
        for at in 0..self.legs.len() {
            let leg = &self.legs[at];
            let near = |l: &&Leg| l.id() == leg.id() || l.party.role == Role::Earpiece;
            if leg.party.role == Role::Agent && self.legs.iter().filter(near).any(|l| self.is_whispered_to(l)) {
                let leg = &mut self.legs[at];
                leg.watch.get_or_insert_with(|| Box::new(Watch::new(&leg.media))).arm(self.options.ears.leak_guard);
            }
        }
    }

    fn is_whispered_to(&self, listener: &Leg) -> bool {
        self.clips.iter().any(|c| c.reaches(listener.party) && (c.measures || self.is_whisper(c)))
            || self.legs.iter().any(|s| whispers(self.now, s) && self.hears(listener, s))
    }

    /// Whether a clip that plays says something that is to be kept from anybody: signals and what is played over and over
    /// (ringback, music) do not.
    fn is_whisper(&self, clip: &Clip) -> bool {
        clip.signal.is_none() && !clip.spec.looped && self.is_private(clip.audience())
    }

    /// Whether nobody hears it from whom it is to be kept.
    pub(super) fn is_private(&self, audience: &[LegId]) -> bool {
        self.legs.iter().filter(|l| audience.contains(&l.id())).all(|l| match l.party.role {
            Role::Customer | Role::Bridge => false,
            Role::Agent | Role::Supervisor | Role::Earpiece => true,
        })
    }

    /// What was just read of a clip for a leg is a whisper, or not. An agent's other voices are back when it ends.
    pub(super) fn whisper(&mut self, at: MediaTime, to: usize, clip: usize, read: Read) {
        let Some(clip) = self.clips.get(clip).filter(|c| c.measures || self.is_whisper(c)) else {
            return;
        };
        let leg = &mut self.legs[to];
        let length = read.count * leg.media.codec.rate().clock_per_sample() as usize;
        if clip.measures {
            leg.watch.iter_mut().for_each(|w| w.measures(at, clip.told(Rate::Narrow, read.began, length)));
            return;
        }
        if leg.party.role == Role::Earpiece {
            // The private line lies by the agent's microphone. Who hears the clip twice is told of it once.
            for agent in self.legs.iter_mut().filter(|l| !clip.audience().contains(&l.id())) {
                if let Some(watch) = &mut agent.watch {
                    watch.told(at, Whisperer::Coach, clip.told(Rate::Narrow, read.began, length));
                }
            }
            return;
        }
        if leg.party.role == Role::Agent {
            match read.left > Blend::RELEASE_MS as usize * 48 {
                true => leg.blend.cover(&self.bench.on().spoken[..read.count]),
                false => leg.blend.uncover(),
            }
        }
        if let Some(watch) = &mut leg.watch {
            watch.told(at, Whisperer::Coach, clip.told(Rate::Narrow, read.began, length));
        }
    }

    /// A line's packets are of another kind from now on.
    pub(super) fn unwatch(&mut self, at: usize) {
        let leg = self.legs[at].id();
        let told = self.legs[at].watch.take().map_or(Told::default(), |watch| watch.told);
        self.tell_if(told.leak, leg, What::LeakCleared {});
        self.tell_if(told.cancelling, leg, What::CancellingEnded {});
    }

    fn tell_if(&mut self, so: bool, leg: LegId, what: What) {
        if so {
            self.tell(Some(leg), what);
        }
    }

    /// A voice on its way in, past the guard of its line.
    pub(super) fn guarded(&mut self, at: usize, packet: &Packet<'_>) {
        let (now, leg) = (self.now, self.legs[at].id());
        let Some(watch) = &mut self.legs[at].watch else { return self.voice(at, packet) };
        let (passed, found) = watch.take(now, packet);
        let begins = watch.is_cancelling(now) && !std::mem::replace(&mut watch.told.cancelling, true);
        let leak = found.filter(|_| !std::mem::replace(&mut watch.told.leak, true));
        match passed {
            Passed::AsItIs => self.voice(at, packet),
            Passed::Changed if watch.payload.is_empty() => self.swallow(at),
            Passed::Changed => {
                let payload = std::mem::take(&mut watch.payload);
                self.voice(at, &Packet { header: packet.header, payload: &payload });
                if let Some(watch) = &mut self.legs[at].watch {
                    watch.payload = payload;
                }
            }
        }
        self.tell_if(begins, leg, What::CancellingStarted {});
        if let Some(lag) = leak {
            self.tell(Some(leg), What::LeakDetected { delay_ms: Profile { lag }.delay_ms() });
        }
    }

    /// What was whispered may be over, echo and all.
    pub(super) fn watch_on(&mut self) {
        for at in 0..self.legs.len() {
            let (now, leg) = (self.now, self.legs[at].id());
            let Some(watch) = &mut self.legs[at].watch else { continue };
            watch.tick(now);
            let held = watch.guard.is_holding();
            let expected = watch.guard.profile().filter(|_| held && !watch.told.leak);
            let cleared = watch.told.leak && !held;
            let ended = watch.told.cancelling && !watch.is_cancelling(now);
            watch.told.leak = held;
            let measured = watch.told.measured.take();
            watch.told.cancelling &= !ended;
            if let Some(lag) = measured {
                self.tell(Some(leg), What::LeakMeasured { delay_ms: Profile { lag }.delay_ms() });
            }
            if let Some(profile) = expected {
                self.tell(Some(leg), What::LeakExpected { delay_ms: profile.delay_ms() });
            }
            self.tell_if(cleared, leg, What::LeakCleared {});
            self.tell_if(ended, leg, What::CancellingEnded {});
        }
        if self.legs.iter().any(|l| l.watch.as_ref().is_some_and(|w| w.told.leak)) {
            // What was just found to leak may be cancelled from now on.
            self.arm();
        }
    }
}
