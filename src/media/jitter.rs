//! The jitter buffer of one leg: packets in as they come, 20 ms out at every tick, in order and without a gap, for as
//! many ears as there are.
//!
//! ```text
//!   packet ──► place in the stream ──► line ──┬──► mix: as soon as the network allows
//!                     └──► arrivals ──────────┴──► ears: 80 ms after reception, on the media clock
//! ```
//!
//! Every ear reads the same samples at its own delay (`reader`); the delay follows how late packets come (`arrivals`)
//! and the drift between the clocks of the two ends. Every sample carries the mark it was given at reception; the
//! buffer does not know what marks mean.

use crate::media::alongside::{Alongside, Newest};
use crate::media::arrivals::Arrivals;
use crate::media::line::Line;
use crate::media::pcm::Rate;
use crate::media::reader::{Aim, Reader};
pub use crate::media::reader::{Frame, MOST, Made};
use crate::time::{MediaTime, Samples};

/// How old the first sample of a frame for the ears is when it is read, and so what its media time is reckoned with:
/// 40 ms for jitter, 20 for a packet, 20 for the tick. A recording is at most this, and a tick, behind the call, so that
/// a killed server loses less than 100 ms of it. On a network that jitters more the ears hear later, by what is needed.
pub const DELAY: Samples = Samples::from_millis(80);

/// A packet this much later or earlier than the best of late is on another clock, not on a bad network. What is late by
/// more than a reader waits is of no use to anyone.
const BEHIND: Samples = MOST;
const AHEAD: Samples = Samples::from_millis(240);
/// That many such packets in a row, over more than that long, set the clock anew; what was held up somewhere comes all
/// at once.
const ASTRAY: u8 = 3;
const ASTRAY_FOR: Samples = Samples::from_millis(30);

/// What is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ear {
    /// For the ears of the machine and the recording: on the media clock, complete.
    Tap,
    /// For people: as soon as may be.
    Mix,
}

/// Nothing beyond what the network asks for: a packet that came before the tick goes out at the tick.
const MIX: Aim = Aim { behind: Samples(0), slack: Samples(0) };
/// On the media clock to 10 ms: better than a syllable, and rarer than a step for every millisecond of drift.
const TAP: Aim = Aim { behind: DELAY, slack: Samples::from_millis(10) };

/// One leg's buffer.
#[derive(Clone, Debug)]
pub struct Jitter {
    rate: Rate,
    clock_hz: u32,
    line: Line,
    arrivals: Arrivals,
    map: Option<Map>,
    astray: Option<Astray>,
    newest: Option<Newest>,
    tap: Reader,
    mix: Reader,
}

/// Where a stream's timestamps lie on the line.
#[derive(Clone, Copy, Debug)]
struct Map {
    timestamp: u32,
    place: i64,
}

/// Packets in a row that lie elsewhere.
#[derive(Clone, Copy, Debug)]
struct Astray {
    since: MediaTime,
    packets: u8,
}

impl Jitter {
    /// For samples at `rate`, whose RTP timestamps count at `clock_hz` (8,000 for G.722: RFC 3551 §4.5.2).
    pub fn new(rate: Rate, clock_hz: u32) -> Self {
        Jitter {
            rate,
            clock_hz: clock_hz.max(1),
            line: Line::new(rate),
            arrivals: Arrivals::new(rate.frame()),
            map: None,
            astray: None,
            newest: None,
            tap: Reader::new(rate, TAP),
            mix: Reader::new(rate, MIX),
        }
    }

    /// One whose gaps are silent: to measure what concealment is worth.
    pub fn without_concealment(mut self) -> Self {
        self.tap.without_concealment();
        self.mix.without_concealment();
        self
    }

    /// A packet's samples came. `mark` is not 0.
    pub fn push(&mut self, now: MediaTime, timestamp: u32, pcm: &[i16], mark: u8) {
        // More than half the line at once is no packet of a call.
        let pcm = &pcm[..pcm.len().min(self.line.len() / 2)];
        let (here, length) = (self.at_rate(now), pcm.len() as i64);
        let usual = here + self.arrivals.known().map_or(0, |known| known.best) - length;
        let mut place = self.map.map_or(usual, |map| self.place(map, timestamp));
        if !self.is_near(place - usual) {
            if !self.is_another_clock(now) {
                return;
            }
            place = usual;
        }
        self.astray = None;
        self.map = Some(Map { timestamp, place });
        self.line.write(place, pcm, mark);
        self.newest = Some(Newest { came: here, at: place, end: place + length });
        self.arrivals.came(here, place, place + length);
    }

    /// A tick: what came until now is judged. For those that no ear reads by the clock.
    pub fn tick(&mut self, tick: MediaTime) {
        self.arrivals.tick(self.at_rate(tick));
    }

    /// A reader at another voice's pace, for what comes from now on.
    pub fn alongside(&self, now: MediaTime) -> Alongside {
        Alongside::new(self.rate, self.at_rate(now))
    }

    /// `length` samples are to be read with a packet that passes now.
    pub fn begin(&self, reader: &mut Alongside, now: MediaTime, length: usize) {
        reader.begin(self.at_rate(now), &self.line, self.newest, length);
    }

    /// The next of them, a frame at most; answers their marks.
    pub fn read(&self, reader: &mut Alongside, out: &mut [i16]) -> u8 {
        reader.next(&self.line, out)
    }

    /// The next frame of one ear. Ticks go forward, 20 ms each; after a hole the ear begins anew.
    pub fn pull(&mut self, ear: Ear, tick: MediaTime, frame: &mut Frame) {
        let tick = self.at_rate(tick);
        self.arrivals.tick(tick);
        let known = self.arrivals.known();
        match ear {
            Ear::Tap => self.tap.pull(tick, &self.line, known, frame),
            Ear::Mix => self.mix.pull(tick, &self.line, known, frame),
        }
    }

    /// How far behind its reception is what an ear hears now.
    pub fn delay(&self, ear: Ear) -> Samples {
        match ear {
            Ear::Tap => self.tap.delay(self.arrivals.known()),
            Ear::Mix => self.mix.delay(self.arrivals.known()),
        }
    }

    /// Nothing that was received until now is to be heard any more, nor made up from.
    pub fn forget(&mut self) {
        self.line.clear();
        self.newest = None;
        self.arrivals.forget();
        self.tap.forget();
        self.mix.forget();
    }

    /// Another stream, on another clock. What of the old one is not read yet still is.
    pub fn restart(&mut self) {
        (self.map, self.astray) = (None, None);
    }

    fn place(&self, map: Map, timestamp: u32) -> i64 {
        let ticks = i64::from(timestamp.wrapping_sub(map.timestamp) as i32);
        map.place + ticks * i64::from(self.rate.hz()) / i64::from(self.clock_hz)
    }

    fn is_near(&self, early: i64) -> bool {
        let [behind, ahead] = [BEHIND, AHEAD].map(|time| time.at_rate(self.rate.hz()));
        (-behind..=ahead).contains(&early)
    }

    fn is_another_clock(&mut self, now: MediaTime) -> bool {
        let before = self.astray.unwrap_or(Astray { since: now, packets: 0 });
        let packets = before.packets.saturating_add(1);
        self.astray = Some(Astray { packets, ..before });
        packets >= ASTRAY && (now - before.since).0 > ASTRAY_FOR.0
    }

    fn at_rate(&self, time: MediaTime) -> i64 {
        time.0.div_euclid(self.rate.clock_per_sample())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::seed::Seed;

    const TICK: i64 = 20;
    const FRAME: usize = Rate::Narrow.frame();

    /// Packets as (arrival in ms, timestamp in packets of 20 ms), read by one ear for `ticks`; each frame as (value,
    /// made). A packet's samples all have the value 100 × (its place + 1).
    fn play(ear: Ear, packets: &[(i64, i64)], ticks: i64) -> Vec<(i16, Made)> {
        let mut jitter = Jitter::new(Rate::Narrow, 8000);
        let mut frame = Frame::default();
        let mut out = Vec::new();
        for tick in 1..=ticks {
            let until = tick * TICK;
            for (at, place) in packets.iter().filter(|(at, _)| (until - TICK..until).contains(at)) {
                let timestamp = 0xFFFF_FE00u32.wrapping_add((place * FRAME as i64) as u32);
                let value = 100 * (place + 1) as i16;
                jitter.push(MediaTime::from_millis(*at), timestamp, &[value; FRAME], 1);
            }
            jitter.pull(ear, MediaTime::from_millis(until), &mut frame);
            out.push((frame.pcm[FRAME / 2], frame.made));
        }
        out
    }
    fn heard(frames: &[(i16, Made)]) -> Vec<i64> {
        frames.iter().filter(|(_, made)| *made == Made::Heard).map(|(v, _)| i64::from(*v) / 100 - 1).collect()
    }
    fn steady(count: i64) -> Vec<(i64, i64)> {
        (0..count).map(|n| (n * TICK, n)).collect()
    }

    #[test]
    fn frames_come_out_in_order_and_once() {
        type Row = (&'static str, Vec<(i64, i64)>, Vec<i64>, Vec<i64>);
        let rows: [Row; 6] = [
            ("in time", steady(6), vec![0, 1, 2, 3, 4, 5], vec![0, 1, 2, 3, 4, 5]),
            ("reordered", vec![(0, 0), (40, 2), (45, 1), (60, 3)], vec![0, 1, 2, 3], vec![0, 1, 2, 3]),
            ("twice", vec![(0, 0), (20, 1), (21, 1), (40, 2)], vec![0, 1, 2], vec![0, 1, 2]),
            ("40 ms late", vec![(0, 0), (20, 1), (80, 2), (81, 3), (82, 4)], vec![0, 1, 2, 3, 4], vec![0, 1, 2, 3, 4]),
            (
                "later yet",
                vec![(0, 0), (20, 1), (110, 2), (111, 3), (112, 4)],
                vec![0, 1, 2, 3, 4],
                vec![0, 1, 2, 3, 4],
            ),
            ("lost", vec![(0, 0), (40, 2), (60, 3)], vec![0, 2, 3], vec![0, 2, 3]),
        ];
        for (name, packets, tap, mix) in rows {
            assert_eq!(heard(&play(Ear::Tap, &packets, 20)), tap, "{name}");
            assert_eq!(heard(&play(Ear::Mix, &packets, 20)), mix, "{name}");
        }
    }

    /// A packet that came before the tick goes out at the tick, whatever its phase; the ears' frames are 80 ms old.
    #[test]
    fn a_good_line_is_not_delayed() {
        for phase in [0, 1, 10, 19] {
            let packets: Vec<_> = (0..50).map(|n| (n * TICK + phase, n)).collect();
            for (n, (value, made)) in play(Ear::Mix, &packets, 50).into_iter().enumerate() {
                assert_eq!((value, made), (100 * (n + 1) as i16, Made::Heard), "phase {phase}");
            }
        }
        let mut jitter = Jitter::new(Rate::Narrow, 8000);
        let mut frame = Frame::default();
        for n in 0..50i64 {
            let pcm: [i16; FRAME] = std::array::from_fn(|i| (n as usize * FRAME + i) as i16);
            // The last sample was received at 7 ms after the tick.
            jitter.push(MediaTime::from_millis(n * TICK + 7), n as u32 * 160, &pcm, 1);
            jitter.pull(Ear::Tap, MediaTime::from_millis((n + 1) * TICK), &mut frame);
            if n > 10 {
                let received = (n + 1) * 160 - 640;
                assert_eq!((i64::from(frame.pcm[0]), frame.made), (received + 160 - 56, Made::Heard));
                assert_eq!(jitter.delay(Ear::Tap), DELAY);
            }
        }
    }

    #[test]
    fn a_gap_is_concealed_for_100_ms_and_then_silent() {
        let mut packets = steady(5);
        packets.extend([(300, 15), (320, 16)]);
        use Made::*;
        for (ear, first) in [(Ear::Tap, 0), (Ear::Mix, 0)] {
            let made: Vec<Made> = play(ear, &packets, 30)
                .iter()
                .map(|f| f.1)
                .skip(first)
                .take(if ear == Ear::Mix { 17 } else { 15 })
                .collect();
            let expected = [[Heard; 5].as_slice(), &[Concealed; 5], &[Silent; 5], &[Heard; 2]].concat();
            if ear == Ear::Mix {
                assert_eq!(made, expected);
            }
            assert_eq!(made.iter().filter(|m| **m == Concealed).count(), 5, "{ear:?} {made:?}");
        }
    }

    /// A leg that nobody listened to for a while is heard at once, and as lately as its network asks for.
    #[test]
    fn what_was_forgotten_delays_nobody() {
        let mut jitter = Jitter::new(Rate::Narrow, 8000);
        let mut frame = Frame::default();
        let push = |jitter: &mut Jitter, ms: i64| {
            jitter.push(MediaTime::from_millis(ms), ms as u32 * 8, &[500; FRAME], 1);
        };
        push(&mut jitter, 5);
        jitter.forget();
        for ms in (1000..1100).step_by(20) {
            push(&mut jitter, ms + 5);
            jitter.pull(Ear::Mix, MediaTime::from_millis(ms + 20), &mut frame);
            assert_eq!((frame.made, jitter.delay(Ear::Mix).as_millis()), (Made::Heard, 35));
        }
    }

    /// An ear that did not listen for a while does not make up what it missed from what it heard before.
    #[test]
    fn nothing_is_made_up_across_a_hole() {
        let mut jitter = Jitter::new(Rate::Narrow, 8000);
        let mut frame = Frame::default();
        for n in 0..5 {
            jitter.push(MediaTime::from_millis(n * TICK), n as u32 * 160, &[500; FRAME], 1);
            jitter.pull(Ear::Mix, MediaTime::from_millis((n + 1) * TICK), &mut frame);
        }
        jitter.pull(Ear::Mix, MediaTime::from_millis(1000), &mut frame);
        assert_eq!((frame.made, frame.marks), (Made::Silent, 0));
    }

    #[test]
    fn another_clock_is_followed_after_three_packets() {
        let mut packets = steady(5);
        packets.extend((0..6).map(|n| (100 + n * TICK, 90_000 + n)));
        let mut jitter = Jitter::new(Rate::Narrow, 8000);
        for (at, place) in packets {
            jitter.push(MediaTime::from_millis(at), (place * 160) as u32, &[500; FRAME], 1);
        }
        let map = jitter.map.unwrap();
        assert_eq!(map.timestamp, (90_005i64 * 160) as u32);
        assert_eq!(map.place, 200 * 8 - 160, "the last packet came at 200 ms");
    }

    /// Every length of packet gives the same gap-free stream, and marks are kept sample by sample.
    #[test]
    fn packets_of_10_to_60_ms_at_every_rate() {
        for (rate, clock) in [(Rate::Narrow, 8000), (Rate::Wide, 8000), (Rate::Wide, 16_000), (Rate::Full, 48_000)] {
            for ms in [10, 20, 30, 40, 60] {
                for ear in [Ear::Tap, Ear::Mix] {
                    let mut jitter = Jitter::new(rate, clock);
                    let mut frame = Frame::default();
                    let (mut marks, mut count) = (Vec::new(), 0);
                    for now in 0..2000i64 {
                        if now % ms == 0 && now < 1200 {
                            let pcm = vec![77; (ms * i64::from(rate.hz()) / 1000) as usize];
                            let mark = if now < 600 { 1 } else { 2 };
                            jitter.push(MediaTime::from_millis(now), (now as u32) * (clock / 1000), &pcm, mark);
                        }
                        if now % TICK == 0 {
                            jitter.pull(ear, MediaTime::from_millis(now), &mut frame);
                            count += frame.pcm.iter().filter(|s| **s == 77).count();
                            marks.push(frame.marks);
                        }
                    }
                    // What is still concealed at the end is of the same value for 20 ms.
                    let all = 1200 * rate.hz() as usize / 1000;
                    assert!((all..all + rate.frame() * 2).contains(&count), "{rate:?} {ear:?} {ms} ms: {count}");
                    marks.dedup();
                    marks.pop_if(|m| *m == 0);
                    assert!([vec![0, 1, 2], vec![0, 1, 3, 2], vec![1, 2], vec![1, 3, 2]].contains(&marks), "{marks:?}");
                }
            }
        }
    }

    /// A voice of 160 Hz with its overtones, on one line for `seconds`, through a network that delays packet `n` by
    /// `late(n)` ms, from a sender whose clock is `ppm` fast. Answers, for each tick, the frame and the delay in ms.
    fn speak(ear: Ear, seconds: i64, ppm: i64, late: impl Fn(i64) -> i64) -> (Vec<i16>, Vec<i64>, usize) {
        let mut jitter = Jitter::new(Rate::Narrow, 8000);
        let mut frame = Frame::default();
        let (mut sent, mut heard, mut delays, mut concealed) = (0i64, Vec::new(), Vec::new(), 0);
        let mut under_way: Vec<(i64, i64)> = Vec::new();
        for tick in 1..=seconds * 50 {
            let tick = tick * 960 + 300;
            while (sent + 1) * 960 * (1_000_000 - ppm) / 1_000_000 <= tick {
                under_way.push(((sent + 1) * 960 * (1_000_000 - ppm) / 1_000_000 + late(sent) * 48, sent));
                sent += 1;
            }
            under_way.sort();
            for (at, n) in under_way.extract_if(.., |(at, _)| *at <= tick) {
                let pcm: [i16; FRAME] = std::array::from_fn(|i| voice(n * FRAME as i64 + i as i64));
                jitter.push(MediaTime(at), (n * 160) as u32, &pcm, 1);
            }
            jitter.pull(ear, MediaTime(tick), &mut frame);
            heard.extend_from_slice(&frame.pcm);
            delays.push(jitter.delay(ear).as_millis());
            concealed += usize::from(frame.made == Made::Concealed);
        }
        (heard, delays, concealed)
    }
    fn voice(n: i64) -> i16 {
        let phase = (n % 50) as f64 * std::f64::consts::TAU / 50.0;
        [1.0, 2.0, 3.0].iter().map(|k| 3000.0 / k * (k * phase + k).sin()).sum::<f64>() as i16
    }
    /// The largest difference between neighbours, of what the voice itself has at most.
    fn click(heard: &[i16]) -> f64 {
        let largest = |pcm: &[i16]| pcm.windows(2).map(|w| (i32::from(w[1]) - i32::from(w[0])).abs()).max().unwrap();
        let own: Vec<i16> = (0..1000).map(voice).collect();
        // The first 200 ms hold the beginning, which is one.
        f64::from(largest(&heard[1600..])) / f64::from(largest(&own))
    }

    /// Ten minutes with a clock 300 ppm fast or slow: no click, and a bounded delay.
    #[test]
    fn clocks_that_drift_are_followed_without_a_click() {
        for ppm in [-300i64, 300] {
            for (ear, least, most) in [(Ear::Mix, 19, 48), (Ear::Tap, 68, 94)] {
                let (heard, delays, concealed) = speak(ear, 600, ppm, |_| 0);
                assert!(click(&heard) < 1.15, "{ppm} ppm: {}", click(&heard));
                let settled = &delays[50..];
                let (low, high) = (settled.iter().min().unwrap(), settled.iter().max().unwrap());
                assert!(*low >= least && *high <= most, "{ppm} ppm {ear:?}: {low} to {high} ms");
                assert!(concealed <= 2, "{ppm} ppm {ear:?}: {concealed} frames were made up");
            }
        }
    }

    /// 300 ms in which nothing comes, then everything at once.
    #[test]
    fn after_a_stall_the_delay_is_normal_within_two_seconds() {
        for ear in [Ear::Mix, Ear::Tap] {
            let stall = |n: i64| if (250..265).contains(&n) { (265 - n) * 20 } else { 0 };
            let (heard, delays, _) = speak(ear, 10, 0, stall);
            let normal = delays[240];
            assert!(
                delays[266] > normal + 100,
                "{ear:?}: what was said in the stall is heard: {:?}",
                &delays[245..280]
            );
            assert!(delays[266..].iter().all(|d| *d <= MOST.as_millis()), "{ear:?}: {:?}", &delays[260..280]);
            let back = delays[266..].iter().position(|d| *d <= normal + 6).unwrap() as i64 * TICK;
            assert!(back < 1500, "{ear:?}: {back} ms {:?}", &delays[245..345]);
            assert!(click(&heard) < 1.5, "{ear:?}: {}", click(&heard));
        }
    }

    #[test]
    fn jitter_is_waited_for_and_no_longer_than_it_lasts() {
        for most in [20, 60, 120] {
            let shake = |n: i64| if n < 1000 { (n * 7919) % most } else { 0 };
            let (heard, delays, concealed) = speak(Ear::Mix, 40, 0, shake);
            assert!(concealed < 25, "{most} ms: {concealed} frames of 2000");
            let (shaken, calm) = (delays[900], delays[1999]);
            assert!((most..most + 50).contains(&shaken) && calm < 45, "{most} ms: {shaken}, then {calm}");
            assert!(click(&heard) < 1.5, "{most} ms: {}", click(&heard));
        }
    }

    #[test]
    fn what_is_forgotten_is_not_made_up_from_either() {
        for ear in [Ear::Tap, Ear::Mix] {
            let mut jitter = Jitter::new(Rate::Narrow, 8000);
            let mut frame = Frame::default();
            for n in 0..10i64 {
                jitter.push(MediaTime::from_millis(n * TICK), n as u32 * 160, &[5000; FRAME], 1);
                jitter.pull(ear, MediaTime::from_millis((n + 1) * TICK), &mut frame);
            }
            assert_eq!(frame.pcm[0], 5000);
            jitter.forget();
            for n in 11..20 {
                jitter.pull(ear, MediaTime::from_millis(n * TICK), &mut frame);
                assert!(frame.pcm.iter().all(|s| *s == 0) && frame.made == Made::Silent && frame.marks == 0);
            }
        }
    }

    #[test]
    fn a_stream_in_the_place_of_another_goes_on_at_once() {
        let mut jitter = Jitter::new(Rate::Narrow, 8000);
        let mut frame = Frame::default();
        for n in 0..40i64 {
            if n == 20 {
                jitter.restart();
            }
            let timestamp = if n < 20 { n as u32 * 160 } else { 0xDEAD_0000u32.wrapping_add(n as u32 * 160) };
            jitter.push(MediaTime::from_millis(n * TICK), timestamp, &[(n + 1) as i16; FRAME], 1);
            jitter.pull(Ear::Mix, MediaTime::from_millis((n + 1) * TICK), &mut frame);
            assert_eq!((frame.pcm[80], frame.made), ((n + 1) as i16, Made::Heard));
        }
    }

    #[test]
    fn hostile_streams_never_panic_nor_hold_more() {
        let mut seed = Seed::new(5);
        for rate in [Rate::Narrow, Rate::Full] {
            let mut jitter = Jitter::new(rate, [1, 8000, u32::MAX][seed.below(3) as usize]);
            let (mut now, mut frame) = (0, Frame::default());
            for _ in 0..50_000 {
                let pcm = vec![seed.bits() as i16; seed.below(5000) as usize];
                let timestamp = if seed.below(2) == 0 { seed.bits() as u32 } else { (now / 6) as u32 };
                jitter.push(MediaTime(now), timestamp, &pcm, 1);
                now += seed.below(2000) as i64;
                if seed.below(9) == 0 {
                    jitter.pull(if seed.below(2) == 0 { Ear::Mix } else { Ear::Tap }, MediaTime(now), &mut frame);
                    assert!(jitter.delay(Ear::Mix) <= MOST && frame.pcm.rate() == rate);
                }
            }
        }
    }
}
