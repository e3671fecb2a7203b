//! While a supervisor whispers or barges, the parties hear each other without any delay of ours, and the supervisor's
//! voice goes with the next of their packets that pass: every sample once, in order, whatever the phase between the two
//! and however long their packets are. After a stall of the whole server it is in time again within 2 s. Who says
//! nothing changes no byte.
//!
//! The table: `cargo test --test under_a_whisper_nobody_waits -- --nocapture`.

mod support;

use sotto::call::Speaker;
use sotto::event::{Mode, Place, Role};
use sotto::id::LegId;
use sotto::media::codec::Codec;
use sotto::media::codec::g711::Law;
use sotto::media::seed::Seed;
use sotto::time::{MediaTime, Samples};
use std::f64::consts::TAU;
use support::network::Network;
use support::{Got, Stage};

/// A voice that tells in every millisecond which one it is, by two levels of μ-law, of so many each.
const LEVELS: i64 = 50;
const PERIOD: i64 = LEVELS * LEVELS;
/// The first level: well above silence. The last is where nothing is limited yet.
const FIRST: i64 = 10;
const PTIMES: [i64; 5] = [10, 20, 30, 40, 60];
/// After this long a voice is where it stays.
const SETTLED_MS: i64 = 3000;

fn level(n: i64) -> i16 {
    Law::Mu.decode((0xFF - FIRST - n) as u8)
}

fn telling(n: u64) -> i16 {
    let ms = n as i64 / 8;
    if n % 8 < 4 { level(ms % LEVELS) } else { level(LEVELS + ms / LEVELS % LEVELS) }
}

/// A millisecond of the supervisor's voice in somebody's ear.
#[derive(Clone, Copy, Debug)]
struct Piece {
    /// Which one, modulo `PERIOD`.
    which: i64,
    /// When it left.
    at: MediaTime,
}

/// Those that `leg` was sent since `since`, whole ones alone.
fn pieces(stage: &Stage, leg: LegId, since: MediaTime) -> Vec<Piece> {
    let got = stage.phones[&leg].got.iter().filter(|g| g.at >= since);
    let heard: Vec<_> = got.flat_map(|g| g.payload.iter().map(|b| (Law::Mu.decode(*b), g.at))).collect();
    let of = |sample: i16| (0..2 * LEVELS).find(|n| level(*n) == sample);
    let mut pieces = Vec::new();
    for piece in heard.windows(8) {
        let even = |half: &[(i16, MediaTime)]| half.iter().all(|s| s.0 == half[0].0).then(|| of(half[0].0)).flatten();
        if let (Some(low @ 0..LEVELS), Some(high @ LEVELS..)) = (even(&piece[..4]), even(&piece[4..])) {
            pieces.push(Piece { which: (high - LEVELS) * LEVELS + low, at: piece[0].1 });
        }
    }
    pieces
}

/// Customer and agent with packets of one length, a supervisor with packets of another who begins `phase` ms later.
struct Scene {
    stage: Stage,
    parties: [LegId; 2],
    supervisor: LegId,
    /// When the supervisor's first packet came, and how long it was.
    first: MediaTime,
    ptime: i64,
}

impl Scene {
    fn new(mode: Mode, party_ms: i64, supervisor_ms: i64, phase: i64, first: bool) -> Scene {
        let mut stage = Stage::new(1);
        let join = |stage: &mut Stage, role| stage.join_as(role, Place::InConversation, Mode::Spy, Codec::Pcmu);
        let early = first.then(|| join(&mut stage, Role::Supervisor));
        let parties = [Role::Customer, Role::Agent].map(|role| join(&mut stage, role));
        let supervisor = early.unwrap_or_else(|| join(&mut stage, Role::Supervisor));
        let due = stage.now + Samples::from_millis(5);
        for leg in parties {
            (stage.phone(leg).ptime, stage.phone(leg).due) = (party_ms, due);
        }
        stage.set_mode(Speaker::Leg(supervisor), mode).unwrap();
        let phone = stage.phone(supervisor);
        (phone.ptime, phone.due, phone.speaks) = (supervisor_ms, due + Samples::from_millis(phase), false);
        stage.run(400);
        let phone = stage.phone(supervisor);
        (phone.speaks, phone.sound, phone.spoken) = (true, Box::new(telling), 0);
        let first = phone.due;
        Scene { stage, parties, supervisor, first, ptime: supervisor_ms }
    }

    /// How many milliseconds after their packets came the cracks of the voice left for the agent since then.
    fn cracks(&self, since: MediaTime) -> Vec<i64> {
        let got = self.stage.phones[&self.parties[1]].got.iter().filter(|g| g.at >= since);
        let cracks = |g: &&Got| g.payload.iter().any(|b| Law::Mu.decode(*b) == level(2 * LEVELS - 1));
        // Packets begin with whole seconds.
        got.filter(cracks).map(|g| (g.at - self.first).as_millis() % 1000).collect()
    }

    /// How many milliseconds after its packet came each piece left for `leg` since then.
    fn delays(&self, leg: LegId, since: MediaTime) -> Vec<i64> {
        let delay = |p: &Piece| {
            let began = (p.at - self.first).as_millis();
            // The latest one of this name that can have been said by then.
            let which = p.which + (began + self.ptime - p.which).div_euclid(PERIOD) * PERIOD;
            began - which / self.ptime * self.ptime
        };
        pieces(&self.stage, leg, since).iter().map(delay).collect()
    }
}

fn percentile(mut of: Vec<i64>, percent: usize) -> i64 {
    of.sort();
    of[(of.len() * percent / 100).min(of.len() - 1)]
}

/// The parties' packets leave in the millisecond in which they came; every sample of the supervisor's leaves once, with
/// the first of them that it can.
#[test]
fn whatever_the_phase_and_the_length_of_packets() {
    println!(
        "packets of the parties, of the supervisor (ms): delay p50, p99, most, over all phases; before settled, most"
    );
    for mode in [Mode::Whisper, Mode::Barge] {
        for (party_ms, supervisor_ms) in PTIMES.into_iter().flat_map(|a| PTIMES.map(|b| (a, b))) {
            let (mut all, mut early) = (Vec::new(), Vec::new());
            for phase in [0, 1, 3, 7, 10, 13, 17, 19] {
                let mut scene = Scene::new(mode, party_ms, supervisor_ms, phase, phase % 2 == 0);
                let [customer, agent] = scene.parties;
                let name = format!("{mode:?} {party_ms} {supervisor_ms} {phase}");
                scene.stage.run(6_000);
                for (from, to) in [(customer, agent), (agent, customer)] {
                    let sent = scene.stage.phones[&from].sent.len();
                    let got = &scene.stage.phones[&to].got;
                    assert!(got.len() + 1 >= sent, "{name}: {} of {sent} packets passed", got.len());
                    // Of the time before the other has spoken there may be a packet by the clock.
                    let passed = &got[got.len() - sent + 1..];
                    let due = scene.stage.phones[&from].due;
                    let in_time = |n: usize| due - Samples::from_millis(party_ms * (passed.len() - n) as i64);
                    assert!(passed.iter().enumerate().all(|(n, g)| g.at == in_time(n)), "{name}: a party waited");
                }
                let ears: &[LegId] = if mode == Mode::Whisper { &[agent] } else { &scene.parties };
                for ear in ears {
                    let settled = scene.first + Samples::from_millis(SETTLED_MS);
                    early.extend(scene.delays(*ear, MediaTime::ZERO));
                    all.extend(scene.delays(*ear, settled));
                    let heard = pieces(&scene.stage, *ear, settled);
                    assert!(heard.len() as i64 > 6_000 - 480 - SETTLED_MS - 200, "{name}: {}", heard.len());
                    let goes_on = heard.windows(2).all(|w| (w[0].which + 1) % PERIOD == w[1].which);
                    assert!(goes_on, "{name}: something is lost or comes twice");
                }
                if mode == Mode::Whisper {
                    assert!(
                        pieces(&scene.stage, customer, MediaTime::ZERO).is_empty(),
                        "{name}: the customer hears it"
                    );
                }
            }
            let most = *all.iter().max().unwrap();
            let [median, p99] = [50, 99].map(|p| percentile(all.clone(), p));
            let begun = early.iter().max().unwrap();
            println!("{mode:?} {party_ms:2} {supervisor_ms:2}: {median:2} {p99:2} {most:2}; {begun:2}");
            assert!(most <= party_ms.max(20) + supervisor_ms.max(20), "{mode:?} {party_ms} {supervisor_ms}: {most}");
            assert!((party_ms, supervisor_ms) != (20, 20) || p99 < 21 && *begun < 21, "{p99} ms, {begun} at first");
        }
    }
}

/// A voice of 160 Hz with overtones, as long as a phrase, a pause, and so on; once a second it cracks.
fn speaking(n: u64) -> i16 {
    if n % 8000 < 8 {
        return level(2 * LEVELS - 1);
    }
    let phase = (n % 50) as f64 * TAU / 50.0;
    let voice = [1.0, 2.0, 3.0].iter().map(|k| 2000.0 / k * (k * phase + k).sin()).sum::<f64>();
    if n % 16_000 < 12_000 { voice as i16 } else { 0 }
}

/// A rush in which no moment is like another, with the same cracks.
fn rushing(n: u64) -> i16 {
    if n % 8000 < 8 { level(2 * LEVELS - 1) } else { Seed::new(n).bits() as i8 as i16 * 8 }
}

/// 300 ms in which nothing comes or goes, then everything at once, whoever's packets are read first.
#[test]
fn in_time_again_after_a_stall() {
    let voices: [fn(u64) -> i16; 2] = [speaking, rushing];
    for (phase, voice) in [0, 1, 7, 13, 19].into_iter().flat_map(|phase| voices.map(|voice| (phase, voice))) {
        for first in [false, true] {
            let mut scene = Scene::new(Mode::Whisper, 20, 20, phase, first);
            let supervisor = scene.supervisor;
            scene.stage.phone(supervisor).sound = Box::new(voice);
            scene.stage.run(6000);
            let normal = scene.cracks(scene.first);
            scene.stage.stall(300);
            let stalled = scene.stage.now;
            scene.stage.run(6000);
            let after = scene.cracks(stalled + Samples::from_millis(2000));
            println!("phase {phase}, supervisor first {first}: {normal:?}, from 2 s after the stall {after:?}");
            assert!(normal.len() == 6 && normal.iter().all(|d| *d < 21), "{normal:?}");
            // A step may lie on one of the cracks.
            assert!(after.len() >= 3 && after.iter().all(|d| *d < 21), "{after:?}");
        }
    }
}

/// Promise 3 of DESIGN §2, further than it goes: a supervisor who may be heard and says nothing.
#[test]
fn who_says_nothing_changes_no_byte() {
    for (law, codec) in [(Law::Mu, Codec::Pcmu), (Law::A, Codec::Pcma)] {
        for theirs in [Codec::Pcmu, Codec::Pcma, Codec::G722, Codec::L16] {
            let mut stage = Stage::new(3);
            let parties = [Role::Customer, Role::Agent].map(|role| {
                let leg = stage.join_as(role, Place::InConversation, Mode::Spy, codec);
                let mut seed = Seed::new(9);
                stage.phone(leg).sound = Box::new(move |_| law.decode(seed.bits() as u8));
                leg
            });
            let supervisor = stage.join_as(Role::Supervisor, Place::InConversation, Mode::Spy, theirs);
            stage.set_mode(Speaker::Leg(supervisor), Mode::Barge).unwrap();
            stage.run(3000);
            assert!(stage.view().legs[..2].iter().all(|l| l.path == "overlay"));
            for (from, to) in [(parties[0], parties[1]), (parties[1], parties[0])] {
                let (sent, got) = (&stage.phones[&from].sent, &stage.phones[&to].got);
                let passed = got.iter().rev().map(|g| &g.payload).zip(sent.iter().rev());
                // Before that a G.722 encoder wakes up, which is not quite silent.
                assert!(passed.take(100).all(|(got, sent)| got == sent), "{codec:?} under {theirs:?}");
            }
        }
    }
}

/// Packets that come late are no silence: nothing is put between them that would come out as delay at the other end.
#[test]
fn what_is_only_late_is_waited_for() {
    for jitter in [0, 20, 40, 80] {
        let mut scene = Scene::new(Mode::Whisper, 20, 20, 7, false);
        let [customer, agent] = scene.parties;
        scene.stage.phone(customer).network = Network::bad(5, 0, 0, jitter);
        scene.stage.run(2_000);
        let lead = |scene: &Scene| {
            let got = scene.stage.phones[&agent].got.iter().map(|g| g.header.timestamp.wrapping_sub(5000) as i32 / 8);
            got.max().unwrap() as i64 - scene.stage.now.as_millis()
        };
        let (before, from) = (lead(&scene), scene.stage.now);
        scene.stage.run(30_000);
        let heard = pieces(&scene.stage, agent, from).len();
        println!("jitter {jitter} ms: {} ms ahead after 30 s, {heard} ms heard", lead(&scene) - before);
        // A packet that comes after its successor carries nothing: beyond 20 ms there are many.
        let least = if jitter <= 20 { 29_000 } else { 15_000 };
        assert!((lead(&scene) - before).abs() <= jitter as i64 + 20 && heard > least, "{jitter} ms");
    }
}
