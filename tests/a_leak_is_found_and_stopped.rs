//! Fixture speech is whispered to an agent whose loudspeaker plays it back into their own line through
//! a synthetic room, -6 to -30 dB and 20 to 250 ms late, through a whole call on a virtual clock. And agents who talk
//! under whispers that do not leak. Prints tables:
//!
//!     SOTTO_MINUTES=60 cargo test --release --test a_leak_is_found_and_stopped -- --nocapture --test-threads 1
//!
//! `SOTTO_MINUTES`: of double talk. `SOTTO_SEED`: another beginning.

mod support;

use sotto::call::ears::{Ears, LeakGuard};
use sotto::call::{Audience, Speaker};
use sotto::event::{Mode, Place, Role, What};
use sotto::id::LegId;
use sotto::media::codec::g711::Law;
use sotto::media::codec::{Codec, Decoder, MAX_DECODED};
use sotto::media::seed::Seed;
use sotto::time::MediaTime;
use std::sync::{Arc, Mutex};
use support::Stage;
use support::network::Network;

const FRAME: usize = 160;
const DELAYS_MS: [usize; 5] = [20, 60, 120, 180, 250];
const LEVELS_DB: [f32; 4] = [-6.0, -12.0, -20.0, -30.0];
/// Voices of three makes, since those of one make share more than a language: espeak's their recorded consonants, and
/// those that flite renders from statistics (awb, rms, slt) the noise they breathe with, sample by sample.
const WHISPERS: [(&str, &str); 6] = [
    ("utt03_competitor", "flite"),
    ("utt12_story", "flite"),
    ("utt15_buying", "espeak"),
    ("utt21_next", "flite"),
    ("utt26_novel", "espeak"),
    ("utt27_novel", "espeak"),
];
/// Those who talk meanwhile. The same word, or breath, of the same make would be an echo.
const TALKERS: [(&str, &str); 12] = [
    ("call1_cold_competitor_agent", "flite"),
    ("call1_cold_competitor_customer", "espeak"),
    ("call2_price_close_agent", "flite"),
    ("call2_price_close_customer", "espeak"),
    ("call3_cancel_agent", "flite"),
    ("call3_cancel_customer", "kal16"),
    ("call4_discovery_agent", "espeak"),
    ("call4_discovery_customer", "flite"),
    ("call5_timing_agent", "espeak"),
    ("call5_timing_customer", "flite"),
    ("call6_upsell_agent", "kal16"),
    ("call6_upsell_customer", "espeak"),
];
/// -62 dBFS: a quiet office.
const NOISE: f32 = 26.0;
/// An echo this loud in 20 ms (-55 dBFS) is exposed when it passes,
const AUDIBLE: f32 = 58.0;
/// What is left on average where an echo of -30 dB is no more than 30 dB above it: nobody hears that.
const INAUDIBLE_DBFS: f32 = -66.0;
/// unless what the agent says in the same 20 ms is 15 dB louder (the tables give both).
const MASKED: f32 = 0.178;

fn wav(name: &str) -> Vec<f32> {
    let path = format!("{}/fixtures/speech/samples/{name}.wav", env!("CARGO_MANIFEST_DIR"));
    hound::WavReader::open(path).unwrap().samples::<i16>().map(|s| f32::from(s.unwrap())).collect()
}

/// Somebody who talks while this voice whispers.
fn talker(voice: &str, number: usize) -> Vec<f32> {
    let others: Vec<_> = TALKERS.iter().filter(|(_, of)| *of != voice).collect();
    wav(others[number % others.len()].0)
}

fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().and_then(|v| v.parse().ok()).unwrap_or(otherwise)
}

/// From -1 to 1.
fn even(seed: &mut Seed) -> f32 {
    seed.below(1 << 24) as f32 / (1 << 23) as f32 - 1.0
}

fn rms(samples: &[f32]) -> f32 {
    (samples.iter().map(|s| s * s).sum::<f32>() / samples.len().max(1) as f32).sqrt()
}

/// An agent's room: a loudspeaker, a microphone, and the agent. Places are samples of the call's clock at 8 kHz.
struct Room {
    /// What the loudspeaker played.
    played: Vec<f32>,
    /// Where the first packet was put, by its timestamp.
    first: Option<(usize, u32)>,
    /// What the phone speaks; samples of its rate for one of the room's.
    codec: Codec,
    decoder: Decoder,
    ratio: usize,
    /// What its microphone heard last, and how much faster its clock is than the call's, in millionths.
    last: i16,
    drift: i64,
    /// Delay and gain of every way from the loudspeaker to the microphone.
    ways: Vec<(usize, f32)>,
    /// What the agent says, over and over, `from` a sample on.
    near: Vec<f32>,
    from: usize,
    noise: f32,
    seed: Seed,
    /// The place of the first sample of the microphone.
    begin: i64,
    echo: Vec<f32>,
    own: Vec<f32>,
}

impl Room {
    /// The direct sound, six early reflections and a tail of 150, of energy 1 together, `level` dB and `delay` ms late.
    fn new(seed: u64, level: f32, delay: usize, near: Vec<f32>) -> Self {
        let mut seed = Seed::new(seed);
        let rt60 = 8000.0 * (0.2 + 0.15 * (even(&mut seed) + 1.0));
        let mut ways = vec![(0, 1.0)];
        ways.extend((0..6).map(|_| (8 + seed.below(200) as usize, 0.4 * even(&mut seed))));
        ways.extend((0..150).map(|_| {
            let at = seed.below(rt60 as u64) as f32;
            (at as usize, 0.12 * even(&mut seed) * 10f32.powf(-3.0 * at / rt60))
        }));
        let energy = ways.iter().map(|(_, gain)| gain * gain).sum::<f32>().sqrt();
        let gain = 10f32.powf(level / 20.0) / energy;
        let ways = ways.into_iter().map(|(at, way)| (at + delay * 8, way * gain)).collect();
        let from = if near.is_empty() { 0 } else { seed.below(near.len() as u64) as usize };
        let (echo, own) = (Vec::new(), Vec::new());
        let (codec, decoder) = (Codec::Pcmu, Decoder::new(Codec::Pcmu));
        let played = Vec::new();
        let (ratio, last, drift, noise, begin) = (1, 0, 0, NOISE, 0);
        Room {
            played,
            first: None,
            codec,
            decoder,
            ratio,
            last,
            drift,
            ways,
            near,
            from,
            noise,
            seed,
            begin,
            echo,
            own,
        }
    }

    /// One in which nothing leaks.
    fn dry(seed: u64, near: Vec<f32>) -> Self {
        let mut room = Room::new(seed, 0.0, 0, near);
        room.ways.clear();
        room
    }

    /// One without noise: all that comes out of it is echo.
    fn quiet(self) -> Self {
        Room { noise: 0.0, ..self }
    }

    /// The phone plays packets one after the other.
    fn play(&mut self, at_ms: i64, timestamp: u32, payload: &[u8]) {
        let (first, began) = *self.first.get_or_insert((at_ms as usize * 8, timestamp));
        let place = first + timestamp.wrapping_sub(began) as usize * 8000 / self.codec.clock() as usize;
        let mut pcm = [0; MAX_DECODED];
        let count = self.decoder.decode(payload, &mut pcm);
        let narrow =
            pcm[..count].chunks(self.ratio).map(|c| c.iter().map(|s| f32::from(*s)).sum::<f32>() / c.len() as f32);
        self.played.resize(self.played.len().max(place + count / self.ratio), 0.0);
        self.played[place..].iter_mut().zip(narrow).for_each(|(to, from)| *to = from);
    }

    /// The microphone's next sample, at the phone's rate.
    fn say(&mut self, n: u64) -> i16 {
        if n.is_multiple_of(self.ratio as u64) {
            self.last = self.hear(n / self.ratio as u64);
        }
        self.last
    }

    /// The microphone's next sample.
    fn hear(&mut self, n: u64) -> i16 {
        let at = self.begin + n as i64 + n as i64 * self.drift / 1_000_000;
        let place = |ago: usize| usize::try_from(at - ago as i64).ok();
        let played = |ago: usize| place(ago).and_then(|at| self.played.get(at)).copied().unwrap_or(0.0);
        let echo: f32 = self.ways.iter().map(|(ago, gain)| gain * played(*ago)).sum();
        let own = self.near.get((self.from + n as usize) % self.near.len().max(1)).copied().unwrap_or(0.0);
        self.echo.push(echo);
        self.own.push(own);
        (echo + own + self.noise * 1.7 * even(&mut self.seed)).round() as i16
    }
}

/// A call with an agent in a room.
struct Scene {
    stage: Stage,
    customer: LegId,
    agent: LegId,
    room: Arc<Mutex<Room>>,
    /// Whose packets the loudspeaker plays.
    loudspeaker: LegId,
    played: usize,
}

impl Scene {
    fn new(guard: LeakGuard, room: Room) -> Self {
        Scene::with(Ears { leak_guard: guard, ..Ears::default() }, Codec::Pcmu, room)
    }

    fn with(ears: Ears, codec: Codec, mut room: Room) -> Self {
        let mut stage = Stage::with(ears);
        let customer = stage.join(Role::Customer);
        let agent = stage.join_as(Role::Agent, Place::InConversation, Mode::Spy, codec);
        (room.codec, room.decoder, room.ratio) = (codec, Decoder::new(codec), codec.rate().hz() as usize / 8000);
        let room = Arc::new(Mutex::new(room));
        let phone = stage.phone(agent);
        // What a packet holds was said before it leaves.
        room.lock().unwrap().begin = (phone.due.as_millis() - 20) * 8;
        let microphone = room.clone();
        phone.sound = Box::new(move |n| microphone.lock().unwrap().say(n));
        Scene { stage, customer, agent, room, loudspeaker: agent, played: 0 }
    }

    fn run(&mut self, ms: i64) {
        for _ in 0..ms {
            self.stage.run(1);
            let got = &self.stage.phones[&self.loudspeaker].got;
            let mut room = self.room.lock().unwrap();
            for packet in &got[self.played..] {
                room.play(packet.at.as_millis(), packet.header.timestamp, &packet.payload);
            }
            self.played = got.len();
        }
    }

    fn whisper(&mut self, clip: &[f32]) {
        let pcm = clip.iter().map(|s| *s as i16).collect();
        self.stage.play(pcm, Audience::Own(Mode::Whisper)).unwrap();
    }

    fn detected(&self) -> Vec<i64> {
        self.stage.told("leak.detected").iter().map(|e| e.at.as_millis()).collect()
    }

    /// From packet `from` on: what the agent's phone sent and what the customer got in its place, as samples.
    fn passed(&self, from: usize) -> Vec<(Vec<f32>, Vec<f32>)> {
        let decode = |payload: &[u8]| payload.iter().map(|b| f32::from(Law::Mu.decode(*b))).collect::<Vec<f32>>();
        let (sent, got) = (&self.stage.phones[&self.agent].sent, &self.stage.phones[&self.customer].got);
        // The last packet sent is the last packet got: nothing is between them.
        let missing = sent.len() - got.len();
        (from..sent.len()).map(|n| (decode(&sent[n]), decode(&got[n - missing].payload))).collect()
    }
}

impl Scene {
    /// From packet `from` on, where nothing but echo is in the line: milliseconds that could be heard, the echo that came
    /// and what passed of it (sums of squares), and packets in which any came.
    fn echo_passed(&self, from: usize) -> (usize, f32, f32, usize) {
        let room = self.room.lock().unwrap();
        let (mut ms, mut came, mut left, mut packets) = (0, 0.0, 0.0, 0);
        for (k, (_, got)) in self.passed(from).iter().enumerate() {
            let echo = rms(&room.echo[(from + k) * FRAME..(from + k + 1) * FRAME]);
            let passed = rms(got);
            ms += 20 * usize::from(echo >= AUDIBLE && passed >= AUDIBLE);
            (came, left) = (came + echo * echo, left + passed * passed);
            packets += usize::from(echo >= 1.0);
        }
        (ms, came, left, packets.max(1))
    }

    /// For how long anything can be heard by the customer of a room without noise whose owner says nothing.
    fn heard_ms(&self, since: MediaTime) -> usize {
        let got = self.stage.phones[&self.customer].got.iter().filter(|g| g.at > since);
        let loud = |payload: &[u8]| rms(&payload.iter().map(|b| f32::from(Law::Mu.decode(*b))).collect::<Vec<_>>());
        20 * got.filter(|g| loud(&g.payload) >= AUDIBLE).count()
    }

    /// Whispers, and waits until all of it is over; answers for how long it could be heard.
    fn whisper_out(&mut self, clip: &[f32]) -> usize {
        let since = self.stage.now;
        self.whisper(clip);
        self.run(clip.len() as i64 / 8 + 1500);
        self.heard_ms(since)
    }

    /// For how long the line was turned down since packet `from`, by what was told.
    fn held_ms(&self, from: usize) -> i64 {
        let since = from as i64 * 20;
        let at = |name: &str| -> i64 {
            let times = self.stage.told(name).into_iter().map(|e| e.at.as_millis());
            times.filter(|at| *at >= since).sum()
        };
        at("leak.cleared") - at("leak.detected") - at("leak.expected")
    }
}

/// What came of one whisper.
struct Case {
    exposed_ms: usize,
    unmasked_ms: usize,
    /// What is left of the echo after it was found, in decibels below what came.
    left_db: Option<f32>,
    found: bool,
}

fn leak(guard: LeakGuard, name: &str, level: f32, delay: usize, near: Vec<f32>) -> Case {
    let seed = number("SOTTO_SEED", 1) * 7919 + delay as u64 * 31 + name.len() as u64 + u64::from(level.to_bits());
    let mut scene = Scene::new(guard, Room::new(seed, level, delay, near));
    scene.run(1000);
    let from = scene.stage.phones[&scene.agent].sent.len();
    let clip = wav(name);
    scene.whisper(&clip);
    scene.run(clip.len() as i64 / 8 + 1200);
    let found = !scene.detected().is_empty();
    assert_eq!(scene.stage.told("leak.cleared").len(), scene.detected().len(), "what was found is told to be over");
    assert!(scene.stage.told("leak.expected").is_empty(), "nothing was known of the line");
    let room = scene.room.lock().unwrap();
    let (mut exposed_ms, mut unmasked_ms, mut before, mut after, mut down) = (0, 0, 0.0, 0.0, 0);
    let until = (scene.stage.told("leak.cleared").last().map_or(0, |e| e.at.as_millis()) / 20) as usize;
    for (n, (sent, got)) in scene.passed(from).iter().enumerate() {
        let piece = |of: &[f32]| rms(&of[(from + n) * FRAME..(from + n + 1) * FRAME]);
        // The guard's gain is the same for echo and voice.
        let gain = rms(got) / rms(sent).max(1.0);
        let (echo, own) = (piece(&room.echo), piece(&room.own));
        let exposed = echo * gain >= AUDIBLE;
        exposed_ms += 20 * usize::from(exposed);
        unmasked_ms += 20 * usize::from(exposed && echo > own * MASKED);
        down += u32::from(gain < 0.5);
        // Afterwards: from the frame after the one in which it was turned down, until it is turned up again.
        if down > 1 && from + n + 2 < until {
            before += echo * echo;
            after += echo * echo * gain * gain;
        }
    }
    let left_db = (after > 0.0).then(|| 10.0 * f32::log10(before / after));
    Case { exposed_ms, unmasked_ms, left_db, found }
}

fn percentile(values: &mut [usize], share: f32) -> usize {
    values.sort_unstable();
    values[((values.len() - 1) as f32 * share).round() as usize]
}

fn share(values: &[usize]) -> usize {
    100 * values.iter().filter(|ms| **ms <= 150).count() / values.len()
}

/// One row a level.
fn table(title: &str, guard: LeakGuard, talking: bool) -> Vec<(f32, Vec<usize>, Vec<usize>, f32)> {
    println!(
        "\n{title}\n  level  found   exposed: p50  p90  max, <= 150 ms   not masked: p50  p90  max, <= 150 ms   least dB"
    );
    let mut rows = Vec::new();
    for level in LEVELS_DB {
        let (mut exposed, mut unmasked, mut least, mut found) = (Vec::new(), Vec::new(), f32::MAX, 0);
        for (n, (name, voice)) in WHISPERS.iter().enumerate() {
            for (m, delay) in DELAYS_MS.into_iter().enumerate() {
                let near = if talking { talker(voice, n + 2 * m) } else { Vec::new() };
                let case = leak(guard, name, level, delay, near);
                exposed.push(case.exposed_ms);
                unmasked.push(case.unmasked_ms);
                least = least.min(case.left_db.unwrap_or(f32::MAX));
                found += usize::from(case.found);
            }
        }
        let of = exposed.len();
        println!(
            "  {level:5}  {found:2}/{of}          {:4} {:4} {:4} {:6} %           {:4} {:4} {:4} {:6} %   {least:9.1}",
            percentile(&mut exposed, 0.5),
            percentile(&mut exposed, 0.9),
            percentile(&mut exposed, 1.0),
            share(&exposed),
            percentile(&mut unmasked, 0.5),
            percentile(&mut unmasked, 0.9),
            percentile(&mut unmasked, 1.0),
            share(&unmasked),
        );
        rows.push((level, exposed, unmasked, least));
    }
    rows
}

#[test]
fn a_leak_under_a_silent_agent_is_exposed_for_150_ms_at_most() {
    for (level, mut exposed, _, least) in table("detect, agent silent", LeakGuard::Detect, false) {
        assert!(least >= 30.0, "{least} dB at {level} dB");
        assert!(percentile(&mut exposed, 1.0) <= 150, "{exposed:?} at {level} dB");
    }
}

#[test]
fn a_leak_under_a_talking_agent_is_found_where_it_can_be_heard() {
    for (level, _, unmasked, least) in table("detect, agent talking", LeakGuard::Detect, true) {
        assert!(least >= 30.0, "{least} dB at {level} dB");
        assert!(share(&unmasked) >= 50, "{unmasked:?} at {level} dB");
    }
}

/// Three whispers one after the other in a room without noise, so that all that passes is echo. The first finds the
/// leak; of the others nothing is exposed, and what is left is 30 dB below what came, or below what anybody hears.
#[test]
fn a_line_that_leaked_exposes_nothing_again() {
    for guard in [LeakGuard::Detect, LeakGuard::Cancel, LeakGuard::Auto] {
        println!(
            "\n{guard:?}, agent silent, no noise\n  level    exposed ms: first, second, third   dB below the echo: second, third (least)   left, dBFS   held ms: second, third"
        );
        for level in LEVELS_DB {
            let (mut exposed, mut least, mut most, mut held) = ([0; 3], [f32::MAX; 3], 0.0f32, [0; 3]);
            for (n, delay) in DELAYS_MS.into_iter().enumerate() {
                let mut scene = Scene::new(guard, Room::new(n as u64 + 77, level, delay, Vec::new()).quiet());
                scene.run(500);
                for whisper in 0..3 {
                    let from = scene.stage.phones[&scene.agent].sent.len();
                    let clip = wav(WHISPERS[(n + whisper) % 6].0);
                    scene.whisper(&clip);
                    scene.run(clip.len() as i64 / 8 + 1500);
                    let (ms, came, left, packets) = scene.echo_passed(from);
                    exposed[whisper] = exposed[whisper].max(ms);
                    least[whisper] = least[whisper].min(10.0 * (came / left.max(1.0)).log10());
                    most = most.max(if whisper > 0 { left / packets as f32 } else { 0.0 });
                    held[whisper] = held[whisper].max(scene.held_ms(from));
                }
                let told = |name: &str| scene.stage.told(name).len();
                assert_eq!(told("cancelling.started"), told("cancelling.ended"));
                assert_eq!(told("cancelling.started") > 0, guard != LeakGuard::Detect, "{guard:?}");
                assert_eq!(told("leak.detected") + told("leak.expected"), told("leak.cleared"), "{guard:?}");
            }
            let dbfs = 10.0 * most.max(1.0).log10() - 90.3;
            println!(
                "  {level:5}   {:9} {:7} {:7} {:22.1} {:6.1} {dbfs:12.1} {:12} {:6}",
                exposed[0], exposed[1], exposed[2], least[1], least[2], held[1], held[2]
            );
            assert!(exposed[0] <= 150 && exposed[1..] == [0, 0], "{guard:?} {level}: {exposed:?}");
            let stopped = least[1..].iter().all(|db| *db >= 30.0) || dbfs <= INAUDIBLE_DBFS;
            assert!(stopped, "{guard:?} {level}: {least:?} dB, {dbfs} dBFS");
        }
    }
}

/// Under a canceller the agent who talks is heard by the customer, whisper or not.
#[test]
fn a_canceller_leaves_the_agent_their_words() {
    let near = wav("call1_cold_competitor_agent");
    let mut scene = Scene::new(LeakGuard::Cancel, Room::new(5, -12.0, 90, near));
    scene.run(500);
    let (mut said, mut heard) = (0.0, 0.0);
    for _ in 0..3 {
        let from = scene.stage.phones[&scene.agent].sent.len();
        let clip = wav("utt12_story");
        scene.whisper(&clip);
        scene.run(clip.len() as i64 / 8 + 600);
        let room = scene.room.lock().unwrap();
        for (k, (_, got)) in scene.passed(from).iter().enumerate() {
            said += rms(&room.own[(from + k) * FRAME..(from + k + 1) * FRAME]).powi(2);
            heard += rms(got).powi(2);
        }
    }
    let db = 10.0 * f32::log10(heard / said);
    let held = scene.held_ms(0);
    println!("an agent who talks under three cancelled whispers is {db:.1} dB as loud, and turned down for {held} ms");
    assert!(db > -6.0, "{db} dB");
}

/// Agents talk, at several loudnesses and with noise, while whispers play and none leaks: every packet passes as it is.
#[test]
fn ordinary_double_talk_raises_no_alarm() {
    let minutes = number("SOTTO_MINUTES", 5) as usize;
    let mut seed = Seed::new(number("SOTTO_SEED", 1) ^ 0xD0B1E);
    let clips: Vec<(Vec<f32>, &str)> = WHISPERS.iter().map(|(name, voice)| (wav(name), *voice)).collect();
    let (mut frames, mut changed, mut alarms) = (0, 0, 0);
    while frames < minutes * 60 * 50 {
        let voice = clips[seed.below(clips.len() as u64) as usize].1;
        let clips: Vec<&Vec<f32>> = clips.iter().filter(|(_, of)| *of == voice).map(|(clip, _)| clip).collect();
        let mut near = talker(voice, seed.below(1000) as usize);
        let gain = 10f32.powf((even(&mut seed) * 12.0 - 3.0) / 20.0);
        near.iter_mut().for_each(|s| *s = (*s * gain).clamp(-32_000.0, 32_000.0));
        let mut scene = Scene::new(LeakGuard::Detect, Room::dry(seed.bits(), near));
        scene.run(500);
        for _ in 0..12 {
            let clip = clips[seed.below(clips.len() as u64) as usize];
            scene.whisper(clip);
            scene.run(clip.len() as i64 / 8);
        }
        alarms += scene.detected().len();
        for event in scene.stage.told("leak.detected") {
            println!("false alarm at {} with {:?}, loudness {gain:.2}", event.at, event.what);
        }
        let passed = scene.passed(25);
        frames += passed.len();
        changed += passed.iter().filter(|(sent, got)| sent != got).count();
    }
    println!(
        "\n{} s of double talk under whispers: {alarms} false alarms, {changed} of {frames} packets changed",
        frames / 50
    );
    assert!(alarms <= minutes.div_ceil(60), "{alarms} false alarms");
    assert!(alarms > 0 || changed == 0, "{changed} packets were changed without an alarm");
}

/// Some seconds of what is no voice: frequencies, and for how long they sound and then pause, in milliseconds.
fn tones(hz: &[f32], on: usize, off: usize, seconds: usize) -> Vec<f32> {
    let sample = |n: usize| match n / 8 % (on + off) < on {
        true => hz.iter().map(|f| 3000.0 * (std::f32::consts::TAU * f * (n as f32 / 8000.0)).sin()).sum(),
        false => 0.0,
    };
    (0..seconds * 8000).map(sample).collect()
}

/// Chords that are struck twice a second and fade, with overtones: music on hold.
fn music(seconds: usize) -> Vec<f32> {
    let chords = [[220.0, 277.2, 329.6], [246.9, 311.1, 370.0], [196.0, 246.9, 293.7], [261.6, 329.6, 392.0]];
    let note =
        |hz: f32, at: f32| (1..6).map(|k| (std::f32::consts::TAU * hz * k as f32 * at).sin() / k as f32).sum::<f32>();
    let sample = |n: usize| {
        let at = (n % 4000) as f32 / 8000.0;
        let chord = chords[n / 4000 % 4];
        chord.iter().map(|hz| note(*hz, at)).sum::<f32>() * 1500.0 * (-4.0 * at).exp()
    };
    (0..seconds * 8000).map(sample).collect()
}

/// Tones and music are alike wherever they come from, and begin abruptly: under a whisper, or under one another, they are
/// no leak. (The same ones on both sides, or keys in one rhythm, beginning alike, cannot be told from an echo: that is
/// counted, and no more.)
#[test]
fn tones_and_music_raise_no_alarm() {
    let sounds: [(&str, Vec<f32>); 9] = [
        ("ringback", tones(&[440.0, 480.0], 2000, 4000, 12)),
        ("ringback, Europe", tones(&[425.0], 1000, 4000, 10)),
        ("busy", tones(&[480.0, 620.0], 500, 500, 6)),
        ("keys", tones(&[770.0, 1336.0], 80, 80, 6)),
        ("other keys", tones(&[941.0, 1477.0], 100, 60, 6)),
        ("a beep", tones(&[1400.0], 200, 1800, 6)),
        ("fax", tones(&[1100.0], 500, 3000, 7)),
        ("a tone", tones(&[1000.0], 1000, 0, 6)),
        ("music", music(8)),
    ];
    let (mut seconds, mut alike, mut wrong) = (0, 0, Vec::new());
    for (under, near) in &sounds {
        let speech = [("speech", wav("utt03_competitor")), ("more speech", wav("utt27_novel"))];
        for (over, clip) in sounds.iter().chain(&speech) {
            // Two keypads in one rhythm, 160 ms from key to key, begin and end alike too.
            let same = over == under || over.ends_with("keys") && under.ends_with("keys");
            for (late, gain) in [(0, 1.0), (1234, 0.3)] {
                let near = near.iter().map(|s| s * gain).cycle().skip(late).take(near.len()).collect();
                let mut scene = Scene::new(LeakGuard::Detect, Room::dry(late as u64, near));
                scene.run(500);
                scene.whisper(clip);
                scene.run(clip.len() as i64 / 8 + 300);
                seconds += clip.len() / 8000;
                let found = scene.detected();
                alike += if same { found.len() } else { 0 };
                wrong.extend(found.iter().filter(|_| !same).map(|at| format!("{over} over {under} {late}: {at} ms")));
            }
        }
    }
    println!("{} false alarms in {seconds} s of tones and music, {alike} more where both are the same", wrong.len());
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// A line that leaked is held down from the next whisper's first frame, and said to be; when nothing has come back for
/// 3 s of whispering, it is a line like any other.
#[test]
fn a_line_is_known_to_leak_until_it_does_not() {
    let mut scene = Scene::new(LeakGuard::Detect, Room::new(3, -12.0, 90, Vec::new()));
    scene.run(500);
    let clip = wav(WHISPERS[0].0);
    let whisper = |scene: &mut Scene| {
        let (from, told) = (scene.stage.phones[&scene.agent].sent.len(), scene.stage.told("leak.expected").len());
        scene.whisper(&clip);
        scene.run(clip.len() as i64 / 8 + 1000);
        (scene.held_ms(from), scene.stage.told("leak.expected").len() - told)
    };
    assert_eq!(whisper(&mut scene).1, 0, "it was found in the first");
    let (held, expected) = whisper(&mut scene);
    let length = clip.len() as i64 / 8;
    // The recording begins and ends with silence.
    assert!(expected == 1 && (length - 400..length + 500).contains(&held), "{held} of {length} ms");
    // They take the handset.
    scene.room.lock().unwrap().ways.clear();
    let held: Vec<i64> = (0..4).map(|_| whisper(&mut scene).0).collect();
    assert!(held[0] > 1000 && held[3] == 0, "{held:?}");
    // Three seconds since it was found last, which was before the end of the whisper before.
    assert!((2500..4500).contains(&held.iter().sum::<i64>()), "{held:?}");
}

/// What is said into the agent's private line alone can come back over their other one.
#[test]
fn an_earpieces_echo_is_found_too() {
    let mut scene = Scene::new(LeakGuard::Detect, Room::new(3, -12.0, 90, Vec::new()));
    let earpiece = scene.stage.join(Role::Earpiece);
    scene.loudspeaker = earpiece;
    scene.run(500);
    let clip = wav(WHISPERS[0].0);
    let pcm = clip.iter().map(|s| *s as i16).collect();
    scene.stage.play(pcm, Audience::Legs(vec![earpiece])).unwrap();
    scene.run(clip.len() as i64 / 8 + 1000);
    let [found] = scene.stage.told("leak.detected")[..] else { panic!("{:?}", scene.stage.events) };
    assert_eq!(found.leg, Some(scene.agent));
}

/// What is found is told, and so is its end; afterwards the customer gets the agent's own packets again.
#[test]
fn a_leak_is_told_and_over_when_the_whisper_is() {
    let mut scene = Scene::new(LeakGuard::Detect, Room::new(3, -12.0, 90, Vec::new()));
    scene.run(500);
    let clip = wav(WHISPERS[0].0);
    scene.whisper(&clip);
    scene.run(clip.len() as i64 / 8 + 1500);
    let [found] = scene.stage.told("leak.detected")[..] else { panic!("{:?}", scene.stage.events) };
    assert_eq!(found.leg, Some(scene.agent));
    let What::LeakDetected { delay_ms } = found.what else { panic!("{found:?}") };
    // Each way may be off by a packet's place.
    assert!((80..=125).contains(&delay_ms), "{delay_ms}");
    assert_eq!(scene.stage.told("leak.cleared").len(), 1);
    let passed = scene.passed(0);
    let again = &passed[passed.len() - 10..];
    assert!(again.iter().all(|(sent, got)| sent == got), "the line is as before");
}

/// A chirp of 225 ms, played to an agent who comes into the conversation, measures the line before anything is whispered:
/// of the first whisper nothing is exposed. Meanwhile the agent's packets pass as they are, and the customer hears no tone.
#[test]
fn a_tone_finds_a_leak_before_the_first_whisper() {
    println!("\na tone   level   found: agent silent, agent talking   exposed by the first whisper at most, ms");
    let ears = Ears { leak_guard: LeakGuard::Detect, leak_tone: true, ..Ears::default() };
    let clip = wav(WHISPERS[0].0);
    for level in LEVELS_DB {
        let (mut silent, mut talking, mut exposed) = (0, 0, 0);
        for (n, delay) in DELAYS_MS.into_iter().enumerate() {
            let mut scene = Scene::with(ears, Codec::Pcmu, Room::new(n as u64 + 5, level, delay, Vec::new()).quiet());
            scene.run(1500);
            let measured: Vec<u32> =
                scene.stage.told("leak.measured").iter().filter_map(|e| measured(&e.what)).collect();
            assert!(
                measured.iter().all(|ms| (delay as u32 - 5..delay as u32 + 35).contains(ms)),
                "{measured:?} of {delay}"
            );
            assert!(scene.passed(0).iter().all(|(sent, got)| sent == got), "{level} {delay}: a packet was changed");
            silent += measured.len();
            exposed = exposed.max(scene.whisper_out(&clip));
            assert_eq!(scene.stage.told("leak.expected").len(), measured.len());
            let near = talker(WHISPERS[0].1, n);
            let mut scene = Scene::with(ears, Codec::Pcmu, Room::new(n as u64 + 5, level, delay, near));
            scene.run(1500);
            talking += scene.stage.told("leak.measured").len();
        }
        let of = DELAYS_MS.len();
        println!("         {level:5}   {silent}/{of} {talking:15}/{of} {exposed:30}");
        assert!(silent == of && talking + 1 >= of && exposed == 0, "{level}");
    }
}

fn measured(what: &What) -> Option<u32> {
    if let What::LeakMeasured { delay_ms } = what { Some(*delay_ms) } else { None }
}

/// Who hears the tone with a handset at their ear, talking or not, is not taken for a loudspeaker; it is heard once, by
/// them alone; and where it is not wanted there is none.
#[test]
fn a_tone_is_for_the_agent_alone_and_finds_nothing_that_is_not_there() {
    let ears = |leak_tone, leak_guard| Ears { leak_guard, leak_tone, ..Ears::default() };
    for (n, (name, _)) in TALKERS.iter().enumerate() {
        let mut scene = Scene::with(ears(true, LeakGuard::Detect), Codec::Pcmu, Room::dry(n as u64, wav(name)));
        scene.run(2000);
        assert!(scene.stage.told("leak.measured").is_empty(), "{name}: {:?}", scene.stage.told("leak.measured"));
        assert!(scene.passed(0).iter().all(|(sent, got)| sent == got), "{name}");
        let played =
            |from: i64, until: i64| rms(&scene.room.lock().unwrap().played[from as usize * 8..until as usize * 8]);
        assert!(
            played(0, 400) > 1000.0 && played(500, 1900) < 20.0,
            "{name}: {} {}",
            played(0, 400),
            played(500, 1900)
        );
    }
    for off in [ears(false, LeakGuard::Detect), ears(true, LeakGuard::Off)] {
        let mut scene = Scene::with(off, Codec::Pcmu, Room::new(3, -12.0, 90, Vec::new()).quiet());
        scene.run(1000);
        assert!(rms(&scene.room.lock().unwrap().played) < 20.0 && scene.stage.told("clip.started").is_empty());
    }
}

/// A wideband phone's line is guarded as any other.
#[test]
fn every_codec_is_guarded() {
    println!("\ncodec, guard: exposed ms: first, second, third whisper");
    for codec in Codec::ALL {
        for guard in [LeakGuard::Detect, LeakGuard::Auto] {
            let ears = Ears { leak_guard: guard, ..Ears::default() };
            let mut scene = Scene::with(ears, codec, Room::new(8, -12.0, 90, Vec::new()).quiet());
            scene.run(500);
            let exposed: Vec<usize> = (0..3).map(|n| scene.whisper_out(&wav(WHISPERS[n].0))).collect();
            println!("{codec:?} {guard:?}: {exposed:?}");
            assert!(exposed[0] <= 150 && exposed[1..] == [0, 0], "{codec:?} {guard:?}: {exposed:?}");
        }
    }
}

/// A supervisor who whispers by themselves, and goes on to: once it leaked, nothing more is heard.
#[test]
fn a_supervisors_echo_is_held_too() {
    for guard in [LeakGuard::Detect, LeakGuard::Cancel, LeakGuard::Auto] {
        let mut scene = Scene::new(guard, Room::new(4, -12.0, 90, Vec::new()).quiet());
        let supervisor = scene.stage.join(Role::Supervisor);
        scene.stage.set_mode(Speaker::Leg(supervisor), Mode::Whisper).unwrap();
        let clip = wav("utt12_story");
        // 2 s of silence after each sentence.
        let sentence = clip.len() + 16_000;
        scene.stage.phone(supervisor).sound =
            Box::new(move |n| clip.get(n as usize % sentence).map_or(0, |s| *s as i16));
        let exposed: Vec<usize> = (0..3)
            .map(|_| {
                let since = scene.stage.now;
                scene.run(sentence as i64 / 8);
                scene.heard_ms(since)
            })
            .collect();
        println!("a supervisor's whisper, {guard:?}: exposed {exposed:?} ms");
        assert!(exposed[0] <= 150 && exposed[1..] == [0, 0], "{guard:?}: {exposed:?}");
    }
}

/// The far end's clock is off by a ten-thousandth, either way: echoes are found as on a good one. What a
/// canceller that was trusted lets out when the echo has moved is found and held at once.
#[test]
fn a_far_ends_clock_may_drift() {
    for drift in [-100, 100] {
        for guard in [LeakGuard::Detect, LeakGuard::Auto] {
            let mut scene = Scene::new(guard, Room { drift, ..Room::new(6, -12.0, 60, Vec::new()).quiet() });
            scene.run(500);
            let exposed: Vec<usize> = (0..4).map(|n| scene.whisper_out(&wav(WHISPERS[n].0))).collect();
            println!("{drift} ppm, {guard:?}: exposed {exposed:?} ms");
            let again = if guard == LeakGuard::Detect { 0 } else { 60 };
            assert!(exposed[0] <= 150 && exposed[1..].iter().all(|ms| *ms <= again), "{drift} {guard:?}: {exposed:?}");
        }
    }
}

/// The agent moves about while something is whispered: what a held line sends back stays unheard, and a canceller that was
/// trusted is not for longer than a leak may last.
#[test]
fn a_room_may_change_under_a_whisper() {
    for guard in [LeakGuard::Detect, LeakGuard::Auto] {
        let mut scene = Scene::new(guard, Room::new(6, -12.0, 60, Vec::new()).quiet());
        scene.run(500);
        let clip = wav("utt12_story");
        for _ in 0..3 {
            scene.whisper_out(&clip);
        }
        let since = scene.stage.now;
        scene.whisper(&clip);
        scene.run(clip.len() as i64 / 16);
        scene.room.lock().unwrap().ways = Room::new(99, -9.0, 110, Vec::new()).ways;
        scene.run(clip.len() as i64 / 16 + 1500);
        let exposed = scene.heard_ms(since);
        println!("another room in the middle of a whisper, {guard:?}: exposed {exposed} ms");
        assert!(exposed <= if guard == LeakGuard::Detect { 0 } else { 150 }, "{guard:?}: {exposed}");
    }
}

/// Packets of the line that are lost, late or doubled, when a canceller is trusted with it.
#[test]
fn a_bad_network_does_not_get_past_a_canceller() {
    for seed in 1..=4 {
        let mut scene = Scene::new(LeakGuard::Auto, Room::new(6, -12.0, 60, Vec::new()).quiet());
        scene.run(500);
        let clip = wav("utt12_story");
        for _ in 0..3 {
            scene.whisper_out(&clip);
        }
        scene.stage.phone(scene.agent).network = Network::bad(seed, 30, 10, 50);
        let exposed = [(); 2].map(|()| scene.whisper_out(&clip));
        println!("3 % lost, 1 % doubled, up to 50 ms late, cancelling: exposed {exposed:?} ms");
        assert!(exposed.iter().all(|ms| *ms <= 150), "{exposed:?}");
    }
}
