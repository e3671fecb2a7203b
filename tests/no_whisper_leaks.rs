//! A million random commands, and not one whisper in a wrong ear.
//!
//! Time is cut so that every voice and every clip owns one sample in eighty at 8 kHz: a source sends a click on its own
//! place and digital silence on all others. Everything in the engine moves sound by whole multiples of eighty samples,
//! but for what is resampled, which comes sixteen later. What is made up repeats a period of the clicks, or, where only
//! one was heard yet, the longest there is, 160 samples. So a click found in the decoded bytes that leave for a leg
//! names its source exactly, however many are mixed: legs speak μ-law, A-law, or L16 at 16 kHz, where every other sample
//! is looked at (the samples of the lower rate pass a resampler exactly; what is between them is smeared). A voice
//! takes a new place whenever its role, place or mode changes, so that a click also tells in which mode it was
//! received. What may be heard is decided by `support::oracle`, which shares nothing with the code under test.
//!
//! `SOTTO_COMMANDS` sets another number of commands, `SOTTO_SEED` another beginning.

mod support;

use sotto::call::ears::Ears;
use sotto::call::{
    Ack, Audience, Call, CallOptions, ClipSpec, Command, LegMedia, LegSpec, Output, Port, Refusal, Sound,
    Speaker as Who, Volume,
};
use sotto::event::{Actor, Event, Mode, Place, Role, What};
use sotto::id::{ClipId, LegId};
use sotto::media::codec::{Codec, Decoder, Encoder, MAX_DECODED, OpusWish};
use sotto::media::resample::DELAY;
use sotto::media::rtp::{Header, Packet};
use sotto::media::seed::Seed;
use sotto::time::{MediaTime, Samples};
use std::collections::{BTreeMap, VecDeque};
use support::oracle::{Known, KnownClip, Oracle, Voice, named};

/// Samples in which every place comes once: 10 ms at 8 kHz.
const SLOTS: usize = 80;
/// What is resampled comes so much later; places are those of which that is none.
const LATE: usize = DELAY;
/// Everything happens on this grid, so that sound moves by whole slots.
const GRID: i64 = 10;
/// A place is free again when nothing of its last owner can be left in any buffer.
const QUARANTINE: i64 = 400;
const CLICK: i16 = 8000;
/// Concealment fades; what is fainter than this is not looked for, nor is A-law's silence.
const LOUD: u16 = 400;
const FRAME: usize = 160;
/// After this long without commands or loss, everything that should be heard is.
const SETTLED: i64 = 400;
const WIDENING_MUTE: i64 = 200;
/// Within this of what a far end agreed on, another stream is the one it agreed on.
const AGREED: i64 = 2000;
const MODES: [Mode; 3] = [Mode::Spy, Mode::Whisper, Mode::Barge];

#[derive(Clone, Copy, PartialEq, Debug)]
enum Owner {
    Nobody,
    Voice(Voice),
    Clip(ClipId),
}

struct Speaker {
    media: LegMedia,
    header: Header,
    due: i64,
    ptime: i64,
    /// Its place, what it was when it took it, and how many packets it has sent from there.
    slot: Option<usize>,
    voice: Option<Voice>,
    steady: u32,
    /// Packets it will not send.
    pausing: u32,
    /// A packet that comes one later than it should.
    held: Option<Header>,
    /// Since when everything it sent came, in time and from one place.
    whole_since: i64,
    /// Whether it could be sent to all its life.
    always_sent_to: bool,
    highest: Option<u16>,
}

#[derive(Default, Debug)]
struct Counts {
    commands: u64,
    refused: u64,
    calls: u64,
    packets: u64,
    checked: u64,
    relayed: u64,
    clips: u64,
    mixed: u64,
    recorded: u64,
    taken_over: u64,
}

struct World {
    call: Call,
    oracle: Oracle,
    seed: Seed,
    now: i64,
    speakers: BTreeMap<LegId, Speaker>,
    owners: [Owner; SLOTS],
    free_at: [i64; SLOTS],
    quiet_since: i64,
    ports: u16,
    /// Legs at most in this call: most calls are small.
    most: usize,
    trace: VecDeque<String>,
    events: Vec<Event>,
    /// Packets that left since the last input.
    left: Vec<(LegId, Header, Vec<u8>)>,
    /// Legs that went through a far end's change since the last input.
    strangers: Vec<LegId>,
}

#[test]
fn nothing_is_heard_that_should_not_be() {
    let commands = number("SOTTO_COMMANDS", 1_000_000);
    let mut seed = Seed::new(number("SOTTO_SEED", 1));
    let mut counts = Counts::default();
    #[allow(clippy::disallowed_methods, reason = "the rate that is printed is this machine's")]
    let began = std::time::Instant::now();
    while counts.commands < commands {
        let mut world = World::new(seed.bits());
        counts.calls += 1;
        let length = 200 + seed.below(800);
        let mut done = 0;
        while done < length && counts.commands < commands {
            world.random_command(&mut counts);
            let steps = if world.seed.below(60) == 0 { 60 } else { world.seed.below(3) };
            (0..=steps).for_each(|_| world.step(&mut counts));
            done += 1;
            counts.commands += 1;
        }
        world.carry(Command::End { reason: "over".into() }, &mut counts).unwrap();
    }
    let took = began.elapsed();
    println!("{counts:?}");
    println!("{:.0} commands a second", counts.commands as f64 / took.as_secs_f64());
    // A test that never saw the thing it guards proves nothing.
    assert!(counts.relayed > commands / 8 && counts.mixed > commands / 10 && counts.clips > commands / 50);
    assert!(counts.taken_over > commands / 2000);
}

fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().and_then(|v| v.parse().ok()).unwrap_or(otherwise)
}

impl World {
    fn new(seed: u64) -> Self {
        // In half of the calls voices go down under a whisper. Clicks stay clicks.
        let duck = Volume::decibels(if seed & 8 == 0 { -12 } else { 0 }).unwrap();
        let ears = Ears { duck, ..Ears::default() };
        let call = Call::new(CallOptions { ears, ..support::options(seed) });
        let now = call.poll_timeout().unwrap().as_millis();
        World {
            call,
            oracle: Oracle::new(),
            seed: Seed::new(seed ^ 0xC0FF_EE00),
            now,
            speakers: BTreeMap::new(),
            owners: [Owner::Nobody; SLOTS],
            free_at: [0; SLOTS],
            quiet_since: now,
            ports: 4000,
            most: [2, 3, 3, 4, 5, 8][(seed % 6) as usize],
            trace: VecDeque::new(),
            events: Vec::new(),
            left: Vec::new(),
            strangers: Vec::new(),
        }
    }

    fn time(&self) -> MediaTime {
        MediaTime::from_millis(self.now)
    }

    #[track_caller]
    fn fail(&self, what: &str) -> ! {
        let trace: Vec<_> = self.trace.iter().cloned().collect();
        panic!(
            "{what}\nat {} ms\nlegs {:?}\ncoach {:?}{}\nclips {:?}\nlast:\n{}",
            self.now,
            self.oracle.legs,
            self.oracle.coach,
            if self.oracle.borrowed { " (borrowed)" } else { "" },
            self.oracle.clips,
            trace.join("\n")
        );
    }

    #[track_caller]
    fn check(&self, holds: bool, what: impl FnOnce() -> String) {
        if !holds {
            self.fail(&what());
        }
    }

    // ---- time and packets

    fn step(&mut self, counts: &mut Counts) {
        self.now += GRID;
        self.oracle.now = self.now;
        let mut due: Vec<LegId> = self.speakers.iter().filter(|(_, s)| s.due <= self.now).map(|(l, _)| *l).collect();
        if self.seed.below(2) == 0 {
            due.reverse();
        }
        let tick_first = self.seed.below(2) == 0;
        if tick_first {
            self.tick(counts);
        }
        for leg in due {
            self.speak(leg, counts);
        }
        if !tick_first {
            self.tick(counts);
        }
    }

    fn tick(&mut self, counts: &mut Counts) {
        if self.call.poll_timeout().is_none_or(|due| due > self.time()) {
            return;
        }
        self.call.tick(self.time());
        self.drain(counts);
        if self.now - self.quiet_since < SETTLED {
            return;
        }
        // Nothing has changed for a while: whoever is mixed for hears all that the table gives them.
        for (to, header, payload) in std::mem::take(&mut self.left) {
            let sources = self.oracle.sources(to, self.now);
            if sources.len() < 2 || header.payload_type != self.speakers[&to].media.payload_type {
                continue;
            }
            let clicks = self.clicks(to, &payload);
            for source in sources {
                self.check_mixed(to, source, &clicks, counts);
            }
        }
    }

    fn check_mixed(&self, to: LegId, source: LegId, clicks: &[usize; SLOTS], counts: &mut Counts) {
        let s = &self.speakers[&source];
        if let Some(slot) = s.slot.filter(|_| self.now - s.whole_since >= SETTLED) {
            counts.mixed += 1;
            self.check(clicks[slot] > 0, || format!("{to} should hear {source} among others"));
        }
    }

    /// The next packet of a speaker: lost, held back, or delivered.
    fn speak(&mut self, leg: LegId, counts: &mut Counts) {
        let (luck, now) = (self.seed.below(100), self.now);
        let s = self.speakers.get_mut(&leg).unwrap();
        s.due += s.ptime;
        let header = s.header;
        s.header.sequence = s.header.sequence.wrapping_add(1);
        s.tell_time();
        // Loss makes the engine repeat what it had: only from one place can that be told from another voice.
        let may_miss = s.steady >= 4 && s.held.is_none();
        if s.pausing > 0 || may_miss && luck < 2 {
            s.pausing = s.pausing.saturating_sub(1);
            s.whole_since = now;
            return;
        }
        if may_miss && luck < 4 && s.ptime == 20 {
            s.held = Some(header);
            s.whole_since = now;
            return;
        }
        let held = s.held.take();
        self.deliver(leg, header, counts);
        if let Some(held) = held {
            self.deliver(leg, held, counts);
        }
    }

    fn deliver(&mut self, leg: LegId, header: Header, counts: &mut Counts) {
        self.take_slot(leg);
        let s = self.speakers.get_mut(&leg).unwrap();
        let (slot, codec, from) = (s.slot, s.media.codec, s.media.remote);
        let payload = clicking(codec, s.ptime, slot);
        let in_order = s.highest.is_none_or(|h| (header.sequence.wrapping_sub(h) as i16) > 0);
        let fresh = s.highest.is_none_or(|h| header.sequence == h.wrapping_add(1));
        if in_order {
            s.highest = Some(header.sequence);
        }
        if !fresh {
            s.whole_since = self.now;
        }
        let mut bytes = header.bytes().to_vec();
        bytes.extend_from_slice(&payload);
        let expected = self.expectations(leg, in_order);
        self.call.packet(self.time(), leg, Port::Rtp, from, &bytes);
        self.drain(counts);
        counts.packets += 1;
        for (to, path) in expected {
            self.check_path(leg, to, path, &payload, counts);
        }
        self.left.clear();
    }

    /// What every other leg is to be sent because of a packet that is in order.
    fn expectations(&self, leg: LegId, in_order: bool) -> Vec<(LegId, Expected)> {
        let others = self.speakers.iter().filter(|(to, s)| **to != leg && s.media.send && in_order);
        others
            .map(|(to, s)| {
                let carries = self.oracle.carrier(*to, self.now) == Some(leg);
                let alone = self.oracle.sources(*to, self.now) == [leg];
                let same = s.media.codec == self.speakers[&leg].media.codec;
                let begins = self
                    .oracle
                    .clips
                    .values()
                    .any(|c| c.audience.is_none() && self.oracle.audience(&c.rule).contains(to));
                let path = match (carries, alone && same && !self.oracle.clip_playing_to(*to), begins) {
                    (true, true, false) => Expected::Relay,
                    (true, true, true) | (true, false, _) => Expected::Overlay,
                    (false, _, _) => Expected::Nothing,
                };
                (*to, path)
            })
            .collect()
    }

    fn check_path(&self, leg: LegId, to: LegId, path: Expected, payload: &[u8], counts: &mut Counts) {
        let sent: Vec<_> = self.left.iter().filter(|(l, _, _)| *l == to).collect();
        match path {
            Expected::Nothing => self.check(sent.is_empty(), || format!("{to} was sent something because of {leg}")),
            Expected::Relay => {
                counts.relayed += 1;
                let same = sent.len() == 1 && sent[0].2 == payload;
                self.check(same, || format!("{to} should have {leg}'s own packet, has {}", sent.len()));
            }
            Expected::Overlay => {
                let ms = |codec: Codec, payload: &[u8]| codec.ticks(payload) as usize * 1000 / codec.clock() as usize;
                let (codec, length) = (self.speakers[&to].media.codec, ms(self.speakers[&leg].media.codec, payload));
                let whole = sent.iter().map(|(_, _, p)| ms(codec, p)).sum::<usize>() == length;
                // 60 ms of L16 are two packets.
                let few = sent.len() == 1 || codec == Codec::L16 && length > 40 && sent.len() == 2;
                self.check(whole && few, || format!("{to} should have one packet for {leg}'s"));
                if let Some(slot) = self.speakers[&leg].slot {
                    let clicks: usize = sent.iter().map(|(_, _, p)| self.clicks(to, p)[slot]).sum();
                    let all = length * 8 / SLOTS;
                    self.check(clicks == all, || {
                        format!("{to} has {clicks} clicks of {leg} in {length} ms under what is laid over")
                    });
                }
                // A packet of 10 ms need not hold a click of everybody.
                if self.now - self.quiet_since >= SETTLED && length >= 20 {
                    for other in self.oracle.sources(to, self.now).into_iter().filter(|other| *other != leg) {
                        let clicks: [usize; SLOTS] = self.clicks(to, &sent[0].2);
                        self.check_mixed(to, other, &clicks, counts);
                    }
                }
            }
        }
    }

    // ---- what leaves

    fn drain(&mut self, counts: &mut Counts) {
        self.left.clear();
        self.strangers.clear();
        let mut out = Vec::new();
        while let Some(output) = self.call.poll() {
            out.push(match output {
                Output::Send { leg, port: Port::Rtp, bytes, .. } => {
                    let packet = Packet::parse(bytes).unwrap();
                    Left::Packet(leg, packet.header, packet.payload.to_vec())
                }
                Output::Record { customer, agent, .. } => Left::Record([customer.to_vec(), agent.to_vec()]),
                Output::RecordLeg { leg, pcm, .. } => Left::RecordLeg(leg, pcm.to_vec()),
                Output::Event(event) => Left::Event(event),
                Output::Heard { .. } => Left::Heard,
                Output::Send { .. } => continue,
            });
        }
        for left in out {
            match left {
                Left::Packet(leg, header, payload) => {
                    counts.checked += 1;
                    self.check_packet(leg, &payload);
                    self.left.push((leg, header, payload));
                }
                Left::Record(channels) => {
                    counts.recorded += 1;
                    self.check(!self.oracle.closed, || "recorded after the coach has left".into());
                    self.check_record(&channels);
                }
                Left::RecordLeg(leg, pcm) => self.check_record_alone(leg, &pcm),
                Left::Heard => self.check(!self.oracle.closed, || "listened after the coach has left".into()),
                Left::Event(event) => self.event(event, counts),
            }
        }
    }

    fn clicks(&self, to: LegId, payload: &[u8]) -> [usize; SLOTS] {
        let codec = self.speakers[&to].media.codec;
        let mut pcm = [0; MAX_DECODED];
        let count = Decoder::new(codec).decode(payload, &mut pcm);
        let mut clicks = [0; SLOTS];
        for (n, sample) in pcm[..count].iter().step_by(codec.rate().frame() / FRAME).enumerate() {
            if sample.unsigned_abs() > LOUD {
                clicks[place(n)] += 1;
            }
        }
        clicks
    }

    /// The heart: every click in what leaves for a leg is of somebody that leg may hear.
    fn check_packet(&mut self, to: LegId, payload: &[u8]) {
        let clicks = self.clicks(to, payload);
        for slot in (0..SLOTS).filter(|s| clicks[*s] > 0) {
            match self.owners[slot] {
                Owner::Nobody => self.fail(&format!("{to} hears place {slot}, which is nobody's")),
                Owner::Voice(voice) => {
                    let allowed = self.oracle.may_hear(to, voice, self.now);
                    self.check(allowed, || format!("{to} hears {voice:?}, which is not for it"));
                }
                Owner::Clip(clip) => self.count_clip(to, clip, clicks[slot]),
            }
        }
    }

    fn count_clip(&mut self, to: LegId, clip: ClipId, clicks: usize) {
        let Some(known) = self.oracle.clips.get_mut(&clip) else {
            self.fail(&format!("{to} hears {clip}, which is over"));
        };
        let got = known.got.entry(to).or_default();
        *got += clicks;
        let (got, pulses, looped) = (*got, known.pulses, known.looped);
        let heard_by = known.audience.clone().unwrap_or_default();
        self.check(heard_by.contains(&to), || format!("{to} hears {clip}, whose audience is {heard_by:?}"));
        self.check(looped || got <= pulses, || format!("{to} got samples of {clip} twice"));
    }

    fn check_record(&self, channels: &[Vec<i16>; 2]) {
        for (channel, role) in channels.iter().zip([Role::Customer, Role::Agent]) {
            for (n, sample) in channel.iter().step_by(channel.len() / FRAME).enumerate() {
                if sample.unsigned_abs() <= LOUD {
                    continue;
                }
                let fits = match self.owners[place(n)] {
                    Owner::Nobody => false,
                    Owner::Voice(voice) => voice.role == role && voice.place == Place::InConversation,
                    // A clip that is over may still be on its way into the recording.
                    Owner::Clip(clip) => self.oracle.clips.get(&clip).is_none_or(|c| c.roles.contains(&role)),
                };
                self.check(fits, || format!("the channel of {role:?} holds {:?}", self.owners[place(n)]));
            }
        }
    }

    /// A leg by itself is nobody else, and no clip.
    fn check_record_alone(&self, leg: LegId, pcm: &[i16]) {
        for (n, sample) in pcm.iter().step_by(pcm.len() / FRAME).enumerate() {
            if sample.unsigned_abs() > LOUD {
                let own = matches!(self.owners[place(n)], Owner::Voice(voice)
                    if voice.leg == leg && voice.place == Place::InConversation);
                self.check(own, || format!("the recording of {leg} holds {:?}", self.owners[place(n)]));
            }
        }
    }

    fn event(&mut self, event: Event, counts: &mut Counts) {
        match &event.what {
            What::ClipStarted { clip, audience, .. } => self.started(*clip, audience),
            What::ClipEnded { clip } => {
                counts.clips += 1;
                self.ended(*clip);
            }
            What::ClipCut { clip, .. } => self.over(*clip),
            What::ModeChanged { from, to, by: Actor::Coach, .. } => self.coach_moved(*from, *to),
            What::LegChanged { changed } if changed == "far_end" => self.strangers.extend(event.leg),
            _ => {}
        }
        self.events.push(event);
    }

    fn started(&mut self, clip: ClipId, audience: &[LegId]) {
        let rule = self.oracle.clips[&clip].rule.clone();
        // In its own words the coach has borrowed the mode just before: the audience is that mode's.
        let mut expected = self.oracle.audience(&rule);
        let mut got = audience.to_vec();
        expected.sort();
        got.sort();
        self.check(expected == got, || format!("{clip} should be for {expected:?}, is for {got:?}"));
        let private = !matches!(rule, Audience::Own(Mode::Whisper)) || self.oracle.private();
        self.check(private, || format!("{clip} whispers where it cannot be private"));
        let roles = got.iter().map(|l| self.oracle.legs[l].role).collect();
        // Who could not be sent to has heard what cannot be counted here.
        let busy = got.iter().find(|l| self.speakers[l].always_sent_to && self.oracle.clip_playing_to(**l));
        self.check(busy.is_none(), || format!("{clip} begins while {busy:?} hears another"));
        let known = self.oracle.clips.get_mut(&clip).unwrap();
        known.audience = Some(got);
        known.roles = roles;
    }

    fn ended(&mut self, clip: ClipId) {
        let Some(known) = self.oracle.clips.get(&clip) else { self.fail("an unknown clip ended") };
        for leg in known.audience.clone().unwrap_or_default() {
            let whole = known.got.get(&leg) == Some(&known.pulses) || !self.speakers[&leg].always_sent_to;
            self.check(whole, || format!("{clip} ended, but {leg} got {:?} of {}", known.got.get(&leg), known.pulses));
        }
        self.over(clip);
    }

    fn over(&mut self, clip: ClipId) {
        let Some(known) = self.oracle.clips.remove(&clip) else { self.fail("an unknown clip was cut") };
        self.free_at[known.slot] = self.now + QUARANTINE;
    }

    fn coach_moved(&mut self, from: Mode, to: Mode) {
        self.check(from == self.oracle.coach, || format!("the coach was in {from:?}"));
        let fits = match to {
            Mode::Spy => self.oracle.borrowed && !self.oracle.own_playing(),
            Mode::Whisper | Mode::Barge => from == Mode::Spy,
        };
        self.check(fits, || format!("the coach goes to {to:?} of its own accord"));
        self.oracle.coach = to;
        self.oracle.borrowed = to != Mode::Spy;
    }

    // ---- places for clicks

    fn free_slot(&mut self) -> Option<usize> {
        let from = self.seed.below(SLOTS as u64) as usize;
        (0..SLOTS).map(|i| (from + i) % SLOTS).find(|s| is_place(*s) && self.free_at[*s] <= self.now)
    }

    /// A voice that is not what it was speaks from another place.
    fn take_slot(&mut self, leg: LegId) {
        let voice = self.oracle.voice(leg, self.now);
        let s = &self.speakers[&leg];
        let (known, slot) = (s.voice, s.slot);
        if known == Some(voice) && slot.is_some() {
            self.speakers.get_mut(&leg).unwrap().steady += 1;
            return;
        }
        if let Some(slot) = slot {
            self.free_at[slot] = self.now + QUARANTINE;
        }
        let slot = self.free_slot();
        if let Some(slot) = slot {
            self.owners[slot] = Owner::Voice(voice);
            self.free_at[slot] = i64::MAX;
        }
        let now = self.now;
        let s = self.speakers.get_mut(&leg).unwrap();
        (s.voice, s.slot, s.steady, s.whole_since) = (Some(voice), slot, 0, now);
    }

    // ---- commands

    fn carry(&mut self, command: Command, counts: &mut Counts) -> Result<Ack, Refusal> {
        self.quiet_since = self.now;
        let ack = self.call.command(self.time(), command);
        self.drain(counts);
        ack
    }

    fn note(&mut self, what: String) {
        if self.trace.len() > 25 {
            self.trace.pop_front();
        }
        self.trace.push_back(format!("{} ms {what}", self.now));
    }

    fn some_leg(&mut self) -> Option<LegId> {
        let count = self.speakers.len() as u64;
        let at = self.seed.below(count) as usize;
        self.speakers.keys().nth(at).copied()
    }
    fn some_role(&mut self) -> Role {
        use Role::*;
        [Customer, Customer, Agent, Agent, Supervisor, Supervisor, Bridge, Earpiece][self.seed.below(8) as usize]
    }
    fn some_mode(&mut self) -> Mode {
        MODES[self.seed.below(3) as usize]
    }
    fn some_place(&mut self) -> Place {
        if self.seed.below(4) == 0 { Place::Aside } else { Place::InConversation }
    }

    fn random_command(&mut self, counts: &mut Counts) {
        let choice = self.seed.below(100);
        if self.speakers.len() < 2 || choice < 12 && self.speakers.len() < self.most {
            return self.add(counts);
        }
        let leg = self.some_leg().unwrap();
        match choice {
            0..10 => self.remove(leg, counts),
            10..24 => self.place(leg, counts),
            24..31 => self.role(leg, counts),
            31..35 => self.far_end(leg, counts),
            35..38 => self.new_ssrc(leg),
            38..42 => self.media(leg, counts),
            42..54 => self.supervisor(counts),
            54..58 => self.take_over(counts),
            58..68 => self.coach(counts),
            68..94 => self.play(counts),
            94 => self.cut(counts),
            95 => self.vouch(leg, counts),
            96 => self.pause(leg),
            97 => self.told(leg, counts),
            98 if self.seed.below(20) == 0 => self.close(counts),
            _ => self.stray(leg, counts),
        }
    }

    fn add(&mut self, counts: &mut Counts) {
        self.ports += 2;
        let (role, place, mode) = (self.some_role(), self.some_place(), self.some_mode());
        let codec = [Codec::Pcmu, Codec::Pcmu, Codec::Pcmu, Codec::Pcma, Codec::L16][self.seed.below(5) as usize];
        let media = support::media(codec, self.ports);
        let spec = LegSpec { role, place, mode, address: "x".into(), media };
        let refused = role == Role::Supervisor && mode == Mode::Whisper && !self.oracle.private();
        let leg = match self.carry(Command::AddLeg(spec), counts) {
            Ok(Ack::Leg(leg)) if !refused => leg,
            Err(Refusal::NotPrivate(_)) if refused => return,
            other => self.fail(&format!("a leg: {other:?}, to be refused: {refused}")),
        };
        self.note(format!("add {leg} {role:?} {place:?} {mode:?}"));
        self.oracle.legs.insert(
            leg,
            Known { role, place, own: place, held: None, mode, muted_until: 0, suspended: false, agreed: self.now },
        );
        let header = Header {
            marker: false,
            payload_type: media.payload_type,
            sequence: self.seed.bits() as u16,
            timestamp: self.seed.bits() as u32,
            ssrc: self.seed.bits() as u32,
        };
        let ptime = longest([10, 20, 20, 20, 20, 30, 40, 60][self.seed.below(8) as usize], codec);
        let due = self.now + GRID * self.seed.below(4) as i64;
        let speaker = Speaker {
            media,
            header,
            due,
            ptime,
            slot: None,
            voice: None,
            steady: 0,
            pausing: 0,
            held: None,
            whole_since: self.now,
            always_sent_to: true,
            highest: None,
        };
        self.speakers.insert(leg, speaker);
    }

    fn remove(&mut self, leg: LegId, counts: &mut Counts) {
        self.note(format!("remove {leg}"));
        self.oracle.come_back(leg);
        self.oracle.stranger(leg);
        if let Some(slot) = self.speakers[&leg].slot {
            self.free_at[slot] = self.now + QUARANTINE;
        }
        self.oracle.legs.remove(&leg);
        self.carry(Command::RemoveLeg { leg, reason: "gone".into() }, counts).unwrap();
        self.speakers.remove(&leg);
        self.no_clip_without_audience();
    }

    fn place(&mut self, leg: LegId, counts: &mut Counts) {
        if self.seed.below(3) == 0 {
            return self.hold(leg, counts);
        }
        let place = self.some_place();
        self.note(format!("place {leg} {place:?}"));
        self.oracle.put(leg, place);
        self.carry(Command::SetPlace { leg, place }, counts).unwrap();
        self.no_clip_without_audience();
    }

    /// A party holds in one way or another, or is back.
    fn hold(&mut self, leg: LegId, counts: &mut Counts) {
        let ways = [None, None, Some(Place::Playing), Some(Place::Waiting), Some(Place::Aside)];
        let place = ways[self.seed.below(ways.len() as u64) as usize];
        self.note(format!("hold {leg} {place:?}"));
        self.oracle.hold(leg, place);
        self.carry(Command::SetHeld { leg, place }, counts).unwrap();
        self.no_clip_without_audience();
    }

    fn role(&mut self, leg: LegId, counts: &mut Counts) {
        let role = self.some_role();
        self.note(format!("role {leg} {role:?}"));
        self.oracle.come_back(leg);
        self.oracle.becomes(leg, role, self.now + WIDENING_MUTE);
        self.carry(Command::SetRole { leg, role }, counts).unwrap();
        self.no_clip_without_audience();
    }

    fn far_end(&mut self, leg: LegId, counts: &mut Counts) {
        self.note(format!("far end {leg}"));
        self.oracle.stranger(leg);
        self.suspended(leg);
        self.carry(Command::FarEndChanged { leg }, counts).unwrap();
        self.check(self.strangers == [leg], || "a changed far end was not told of".into());
        self.no_clip_without_audience();
    }

    /// Nothing is whispered to a far end that may be anybody's.
    fn suspended(&mut self, leg: LegId) {
        self.oracle.legs.get_mut(&leg).unwrap().suspend();
    }

    /// Somebody knows who is there.
    fn vouch(&mut self, leg: LegId, counts: &mut Counts) {
        self.note(format!("vouch {leg}"));
        self.oracle.legs.get_mut(&leg).unwrap().suspended = false;
        self.carry(Command::Vouch { leg, by: Actor::Person }, counts).unwrap();
    }

    /// The next packet of a leg comes from somebody else.
    fn new_ssrc(&mut self, leg: LegId) {
        let (ssrc, sequence) = (self.seed.bits() as u32, self.seed.bits() as u16);
        let s = self.speakers.get_mut(&leg).unwrap();
        if s.highest.is_none() || s.held.is_some() {
            return;
        }
        (s.header.ssrc, s.header.sequence, s.highest) = (ssrc, sequence, None);
        s.pausing = 0;
        let header = s.header;
        s.header.sequence = sequence.wrapping_add(1);
        s.tell_time();
        s.due = self.now + s.ptime;
        self.note(format!("new ssrc {leg}"));
        self.oracle.stranger(leg);
        if self.now - self.oracle.legs[&leg].agreed >= AGREED {
            self.suspended(leg);
        }
        self.quiet_since = self.now;
        let mut counts = Counts::default();
        self.deliver(leg, header, &mut counts);
        self.check(self.strangers == [leg], || "a new SSRC was not told of".into());
        self.no_clip_without_audience();
    }

    fn media(&mut self, leg: LegId, counts: &mut Counts) {
        let s = &self.speakers[&leg];
        let (mut media, luck) = (s.media, self.seed.below(3));
        match luck {
            0 => media.send = !media.send,
            1 => {
                self.ports += 2;
                media.remote = ([127, 0, 0, 1], self.ports).into();
                self.oracle.stranger(leg);
                self.suspended(leg);
            }
            _ => {
                media = LegMedia { remote: media.remote, send: media.send, ..support::media(other(media.codec), 9) };
            }
        }
        self.note(format!("media {leg} {media:?}"));
        let now = self.now;
        self.oracle.legs.get_mut(&leg).unwrap().agreed = now;
        let s = self.speakers.get_mut(&leg).unwrap();
        s.media = media;
        s.ptime = longest(s.ptime, media.codec);
        s.header.payload_type = media.payload_type;
        s.held = None;
        s.always_sent_to &= media.send;
        s.whole_since = now;
        self.carry(Command::SetMedia { leg, media }, counts).unwrap();
        self.no_clip_without_audience();
    }

    fn supervisor(&mut self, counts: &mut Counts) {
        let Some(leg) = self.some_leg() else { return };
        let others: Vec<_> =
            self.oracle.legs.iter().filter(|(_, k)| k.role == Role::Supervisor).map(|(l, _)| *l).collect();
        let leg = if others.is_empty() { leg } else { others[self.seed.below(others.len() as u64) as usize] };
        let mode = self.some_mode();
        self.note(format!("mode {leg} {mode:?}"));
        let known = self.oracle.legs[&leg];
        let refused = match (known.role, known.mode, mode) {
            (Role::Supervisor, Mode::Spy, Mode::Whisper) if !self.oracle.private() => Some("not private"),
            (Role::Supervisor, _, _) => None,
            _ => Some("no supervisor"),
        };
        if refused.is_none() {
            let widens = self.oracle.widens(leg, known.mode, mode);
            let known = self.oracle.legs.get_mut(&leg).unwrap();
            known.mode = mode;
            if widens {
                known.muted_until = known.muted_until.max(self.now + WIDENING_MUTE);
            }
        }
        let ack = self.carry(Command::SetMode { speaker: Who::Leg(leg), mode, by: Actor::Person }, counts);
        self.check_answer(ack, refused, counts);
    }

    /// A supervisor becomes the agent, or one who did gives back; half of the time whoever cannot.
    fn take_over(&mut self, counts: &mut Counts) {
        let Some(some) = self.some_leg() else { return };
        let apt = |(l, k): &(&LegId, &Known)| k.role == Role::Supervisor || self.oracle.stands_in.contains_key(*l);
        let apt: Vec<LegId> = self.oracle.legs.iter().filter(apt).map(|(l, _)| *l).collect();
        let leg = if apt.is_empty() { some } else { apt[self.seed.below(apt.len() as u64) as usize] };
        let refused = if let Some(back) = self.oracle.stands_in.get(&leg).cloned() {
            self.note(format!("give back {leg}"));
            let left = back.iter().any(|l| self.oracle.legs.contains_key(l));
            if left {
                self.oracle.come_back(leg);
            }
            let ack = self.carry(Command::GiveBack { leg }, counts);
            return self.check_answer(ack, (!left).then_some("not now"), counts);
        } else {
            self.note(format!("take over {leg}"));
            self.oracle.takes_over(leg)
        };
        if let Ok(aside) = &refused {
            counts.taken_over += 1;
            for agent in aside {
                self.oracle.put(*agent, Place::Aside);
            }
            self.oracle.becomes(leg, Role::Agent, self.now + WIDENING_MUTE);
            self.oracle.stands_in.insert(leg, aside.clone());
        }
        let ack = self.carry(Command::TakeOver { leg }, counts);
        self.check_answer(ack, refused.err(), counts);
        self.no_clip_without_audience();
    }

    /// Something is said to one leg alone, wherever it is.
    fn told(&mut self, leg: LegId, counts: &mut Counts) {
        let Some(slot) = self.free_slot() else { return };
        let pulses = 1 + self.seed.below(60) as usize;
        self.note(format!("tell {leg} {pulses} pulses, place {slot}"));
        let rule = Audience::Legs(vec![leg]);
        let many = (self.oracle.clips.len() >= 8).then_some("too many");
        let refused = self.oracle.legs[&leg].suspended.then_some("not private").or(many);
        let ack = self.carry(Command::Tell { leg, pcm: pulsing(pulses, slot), text: "".into() }, counts);
        self.begin(&ack, rule, (slot, pulses, false));
        self.check_answer(ack, refused, counts);
    }

    fn begin(&mut self, ack: &Result<Ack, Refusal>, rule: Audience, (slot, pulses, looped): (usize, usize, bool)) {
        if let Ok(Ack::Clip(clip)) = ack {
            self.owners[slot] = Owner::Clip(*clip);
            self.free_at[slot] = i64::MAX;
            let known =
                KnownClip { rule, slot, pulses, looped, audience: None, roles: Vec::new(), got: BTreeMap::new() };
            self.oracle.clips.insert(*clip, known);
        }
    }

    fn coach(&mut self, counts: &mut Counts) {
        let mode = self.some_mode();
        self.note(format!("coach {mode:?}"));
        let refused = if self.oracle.closed {
            Some("closed")
        } else if mode == Mode::Whisper && self.oracle.coach == Mode::Spy && !self.oracle.private() {
            Some("not private")
        } else {
            None
        };
        if refused.is_none() {
            (self.oracle.coach, self.oracle.borrowed) = (mode, false);
            let reached = self.oracle.reached(mode);
            let gone: Vec<_> = self.oracle.legs.keys().copied().filter(|l| !reached.contains(l)).collect();
            self.oracle.narrow(&gone);
        }
        let ack = self.carry(Command::SetMode { speaker: Who::Coach, mode, by: Actor::Person }, counts);
        self.check_answer(ack, refused, counts);
        self.no_clip_without_audience();
    }

    fn check_answer(&mut self, ack: Result<Ack, Refusal>, refused: Option<&str>, counts: &mut Counts) {
        let answer = ack.as_ref().err().map(named);
        counts.refused += u64::from(answer.is_some());
        self.check(answer == refused, || format!("answered {answer:?}, should {refused:?}"));
    }

    fn play(&mut self, counts: &mut Counts) {
        let rule = match self.seed.below(10) {
            0..4 => Audience::Mode,
            4..8 => Audience::Own(self.some_mode()),
            _ => {
                let count = self.seed.below(3);
                let mut legs: Vec<_> = (0..count).filter_map(|_| self.some_leg()).collect();
                legs.dedup();
                if self.seed.below(20) == 0 {
                    legs.push(LegId(9999));
                }
                Audience::Legs(legs)
            }
        };
        let Some(slot) = self.free_slot() else { return };
        let pulses = 1 + self.seed.below(60) as usize;
        let looped = self.seed.below(12) == 0;
        self.note(format!("play {rule:?} {pulses} pulses, place {slot}, looped {looped}"));
        let refused = match self.oracle.refusal(&rule) {
            None if self.oracle.clips.len() >= 8 => Some("too many"),
            refusal => refusal,
        };
        let spec = ClipSpec { pcm: pulsing(pulses, slot), audience: rule.clone(), looped, text: None };
        let ack = self.carry(Command::Play(spec), counts);
        self.begin(&ack, rule, (slot, pulses, looped));
        self.check_answer(ack, refused, counts);
    }

    fn cut(&mut self, counts: &mut Counts) {
        let Some(clip) = self.oracle.clips.keys().next().copied() else { return };
        self.note(format!("cut {clip}"));
        self.carry(Command::Cut { clip, reason: "enough".into() }, counts).unwrap();
        self.check(!self.oracle.clips.contains_key(&clip), || "a cut clip was not told of".into());
    }

    fn pause(&mut self, leg: LegId) {
        let count = 1 + self.seed.below(20) as u32;
        let s = self.speakers.get_mut(&leg).unwrap();
        if s.steady >= 4 && s.held.is_none() {
            s.pausing = count;
            self.note(format!("pause {leg}"));
        }
    }

    fn close(&mut self, counts: &mut Counts) {
        self.note("close".into());
        self.carry(Command::Close, counts).unwrap();
        (self.oracle.closed, self.oracle.coach, self.oracle.borrowed) = (true, Mode::Spy, false);
        self.check(self.oracle.clips.is_empty(), || "a clip outlived the coach".into());
    }

    /// Garbage, or a packet from an address that has no say.
    fn stray(&mut self, leg: LegId, counts: &mut Counts) {
        let bytes: Vec<u8> = (0..self.seed.below(200)).map(|_| self.seed.bits() as u8).collect();
        let s = &self.speakers[&leg];
        let mut forged = Header { sequence: s.header.sequence.wrapping_add(3), ..s.header }.bytes().to_vec();
        forged.extend_from_slice(&clicking(s.media.codec, 20, Some(0)));
        let (named, heard) = (s.media.remote, s.highest.is_some());
        for (from, bytes) in [(named, bytes), (([10, 0, 0, 1], 9).into(), forged)] {
            if from == named && Packet::parse(&bytes).is_ok() || !heard {
                continue;
            }
            self.call.packet(self.time(), leg, Port::Rtp, from, &bytes);
            self.drain(counts);
            self.check(self.left.is_empty(), || "a stray packet was let through".into());
        }
    }

    fn no_clip_without_audience(&self) {
        let lonely = self.oracle.clips.iter().find(|(_, c)| c.audience.as_ref().is_some_and(Vec::is_empty));
        self.check(lonely.is_none(), || format!("{lonely:?} goes on with nobody to hear it"));
    }
}

#[derive(Clone, Copy, Debug)]
enum Expected {
    Nothing,
    Relay,
    Overlay,
}

enum Left {
    Packet(LegId, Header, Vec<u8>),
    Record([Vec<i16>; 2]),
    RecordLeg(LegId, Vec<i16>),
    Event(Event),
    Heard,
}

fn other(codec: Codec) -> Codec {
    match codec {
        Codec::Pcmu => Codec::Pcma,
        Codec::Pcma => Codec::L16,
        Codec::L16 | Codec::G722 | Codec::Opus => Codec::Pcmu,
    }
}

/// What does not fit an Ethernet frame is no packet.
fn longest(ptime: i64, codec: Codec) -> i64 {
    if codec == Codec::L16 { ptime.min(40) } else { ptime }
}

/// A packet with a click on one place. At 16 kHz it is twice as loud, for half of it is left at 8 kHz.
fn clicking(codec: Codec, ms: i64, slot: Option<usize>) -> Vec<u8> {
    let ratio = codec.rate().frame() / FRAME;
    let mut pcm = vec![0; ms as usize * 8 * ratio];
    if let Some(slot) = slot {
        pcm.iter_mut().skip(slot * ratio).step_by(SLOTS * ratio).for_each(|s| *s = CLICK * ratio as i16);
    }
    let mut payload = Vec::new();
    Encoder::new(codec, OpusWish::default()).encode(&pcm, &mut payload);
    payload
}

/// A clip with a click on one place.
fn pulsing(pulses: usize, slot: usize) -> Sound {
    let pcm = [1, 2, 6].map(|ratio| {
        let mut pcm = vec![0i16; pulses * SLOTS * ratio];
        pcm.iter_mut().skip(slot * ratio).step_by(SLOTS * ratio).for_each(|s| *s = CLICK);
        pcm.into()
    });
    Sound::rendered(pcm).unwrap()
}

/// Whether a source may have this place: neither it nor where it comes when resampled is another's.
fn is_place(n: usize) -> bool {
    n % (2 * LATE) < LATE && n + LATE < SLOTS
}

/// Whose place the sample `n` of a packet or frame is, in samples at 8 kHz, resampled or not.
fn place(n: usize) -> usize {
    let n = n % SLOTS;
    if n % (2 * LATE) < LATE { n } else { n - LATE }
}

impl Speaker {
    /// Its clock goes on by a packet.
    fn tell_time(&mut self) {
        let ticks = self.ptime as u32 * (self.media.codec.clock() / 1000);
        self.header.timestamp = self.header.timestamp.wrapping_add(ticks);
    }
}

/// The grid must divide the frame, or a click could not be told from another's.
#[test]
fn places_divide_a_frame() {
    assert_eq!(FRAME % SLOTS, 0);
    assert_eq!(GRID * 8, SLOTS as i64);
    // A place and where it comes when resampled do not meet another's.
    let all: Vec<usize> = (0..SLOTS).filter(|n| is_place(*n)).flat_map(|n| [n, n + LATE]).collect();
    assert!(all.iter().all(|n| *n < SLOTS && all.iter().filter(|m| *m == n).count() == 1));
    assert_eq!(Samples::FRAME.as_millis() % GRID, 0);
}
