//! The jitter buffer: what a leg said, put in order on the media clock and read gap-free 20 ms at a time.
//!
//! In go decoded packets with the time they came; out comes, on every tick, the frame that is 80 ms old: a packet of
//! 20 ms may come 40 ms late and is still in time (20 ms for its own length, up to 20 more for the tick). A sample's
//! place is the time it was received, so what is read is stamped with reception, not playout. Every sample carries the
//! mark it was given at reception; the buffer does not know what marks mean.

use crate::media::pcm::{Pcm, Rate};
use crate::media::plc::Concealer;
use crate::time::{MediaTime, Samples};

/// How old a frame's first sample is when it is read. A recording is at most this, and a tick, behind the call, so that
/// a killed server loses less than 100 ms of it.
pub const DELAY: Samples = Samples::from_millis(80);

/// Samples held at 8 kHz: 512 ms. What does not fit is dropped.
const RING: usize = 4096;
/// A packet later than this is on another clock, not on a bad network.
const BEHIND: Samples = Samples::from_millis(-100);
/// The longest packet, and a frame: what lies further ahead does not fit.
const RESERVE: Samples = Samples::from_millis(200);
/// That many such packets in a row set the clock anew.
const ASTRAY: u8 = 3;
/// Packets over which the level is watched: two seconds of the usual 20 ms.
const WINDOW: u16 = 100;
/// Late packets in a window that call for more room.
const TOO_LATE: u16 = 3;
/// The most room ever given beyond the fixed 40 ms, in frames.
const MOST_ROOM: i64 = 3;

/// What a frame is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Made {
    /// All of it came.
    Heard,
    /// Some of it is made up.
    Concealed,
    /// There is nothing: the leg does not send.
    Silent,
}

/// A frame read. `marks` holds every mark of its samples, joined by `|`; a concealed frame has those of the last heard.
#[derive(Clone, Debug)]
pub struct Frame {
    /// The samples.
    pub pcm: Pcm,
    /// How it was made.
    pub made: Made,
    /// The marks given at reception.
    pub marks: u8,
}

impl Default for Frame {
    fn default() -> Self {
        Frame { pcm: Pcm::default(), made: Made::Silent, marks: 0 }
    }
}

/// Where a stream's timestamps lie on the media clock.
#[derive(Clone, Copy, Debug)]
struct Map {
    timestamp: u32,
    position: i64,
}

/// One leg's buffer.
#[derive(Clone, Debug)]
pub struct Jitter {
    rate: Rate,
    /// Samples in a timestamp unit, as a ratio.
    per_unit: (i64, i64),
    samples: Box<[i16]>,
    /// 0: no sample here.
    marks: Box<[u8]>,
    map: Option<Map>,
    read: i64,
    astray: u8,
    level: Level,
    concealer: Concealer,
    last_marks: u8,
}

/// How early packets come, over one window.
#[derive(Clone, Copy, Debug)]
struct Level {
    packets: u16,
    late: u16,
    least: i64,
}

const UNWATCHED: Level = Level { packets: 0, late: 0, least: i64::MAX };

impl Jitter {
    /// A buffer of samples at `rate`, whose timestamps count `clock_hz` units a second. Allocates.
    pub fn new(rate: Rate, clock_hz: u32) -> Self {
        let ring = RING * (rate.frame() / Rate::Narrow.frame()).next_power_of_two();
        Jitter {
            rate,
            per_unit: (i64::from(rate.hz()), i64::from(clock_hz.max(1))),
            samples: vec![0; ring].into(),
            marks: vec![0; ring].into(),
            map: None,
            read: i64::MIN,
            astray: 0,
            level: UNWATCHED,
            concealer: Concealer::new(rate),
            last_marks: 0,
        }
    }

    /// How old the first sample of a frame is when it is read.
    pub fn delay(&self) -> Samples {
        DELAY
    }

    /// A packet's samples came. `mark` is not 0.
    pub fn push(&mut self, now: MediaTime, timestamp: u32, pcm: &[i16], mark: u8) {
        let length = pcm.len() as i64;
        let lag = self.samples_in(DELAY);
        let oldest = self.samples_in(Samples(now.0)) - lag;
        // The last sample of a packet was received now; the others before it.
        let anchor = Map { timestamp, position: oldest + lag - length };
        let mut position = self.map.map_or(anchor.position, |map| map.place(timestamp, self.per_unit));
        let ahead = self.samples.len() as i64 - self.samples_in(RESERVE);
        if !(self.samples_in(BEHIND)..ahead).contains(&(position - oldest)) {
            self.astray += 1;
            if self.astray < ASTRAY {
                return;
            }
            (position, self.level) = (anchor.position, UNWATCHED);
        }
        self.astray = 0;
        let moved = self.stray(position - oldest, lag - length);
        self.map = Some(Map { timestamp, position: position + moved });
        self.write(position, pcm, mark);
    }

    /// The frame that is `DELAY` old at `tick`. Ticks go forward, 20 ms each.
    pub fn pull(&mut self, tick: MediaTime, frame: &mut Frame) {
        let size = self.rate.frame();
        let first = self.samples_in(Samples(tick.0)) - self.samples_in(DELAY);
        self.read = first + size as i64;
        if frame.pcm.rate() != self.rate {
            frame.pcm.become_silence(self.rate);
        }
        let mut there = 0;
        let mut marks = 0;
        for (i, sample) in frame.pcm.iter_mut().enumerate() {
            let slot = self.slot(first + i as i64);
            let mark = std::mem::take(&mut self.marks[slot]);
            *sample = if mark == 0 { 0 } else { self.samples[slot] };
            there += usize::from(mark != 0);
            marks |= mark;
        }
        match there {
            0 => self.missing(frame),
            _ if there == size => self.heard(frame, Made::Heard, marks),
            _ => self.heard(frame, Made::Concealed, marks),
        }
    }

    /// Nothing that was received until now is to be heard any more, nor made up from.
    pub fn forget(&mut self) {
        self.marks.fill(0);
        self.concealer.forget();
        self.last_marks = 0;
    }

    /// Another stream, on another clock.
    pub fn restart(&mut self) {
        self.map = None;
        self.astray = 0;
        self.level = UNWATCHED;
    }

    fn heard(&mut self, frame: &mut Frame, made: Made, marks: u8) {
        self.concealer.heard(&frame.pcm);
        self.last_marks = marks;
        (frame.made, frame.marks) = (made, marks);
    }

    fn missing(&mut self, frame: &mut Frame) {
        let sounds = self.concealer.sounds();
        self.concealer.conceal(&mut frame.pcm);
        frame.made = if sounds { Made::Concealed } else { Made::Silent };
        frame.marks = self.last_marks;
    }

    fn samples_in(&self, length: Samples) -> i64 {
        length.at_rate(self.rate.hz())
    }
    /// The ring is a power of two long.
    fn slot(&self, position: i64) -> usize {
        (position & (self.samples.len() as i64 - 1)) as usize
    }

    fn write(&mut self, position: i64, pcm: &[i16], mark: u8) {
        for (at, sample) in (position..).zip(pcm) {
            if at < self.read {
                continue;
            }
            let slot = self.slot(at);
            self.samples[slot] = *sample;
            self.marks[slot] = mark;
        }
    }

    /// Watches how early packets come (`lead`, of which `usual` is what a perfect network gives) and answers by how
    /// much the stream is to be moved: clocks drift, and the first packet may have been an early or a late one.
    fn stray(&mut self, lead: i64, usual: i64) -> i64 {
        let frame = self.rate.frame() as i64;
        let level = &mut self.level;
        level.packets += 1;
        level.least = level.least.min(lead);
        level.late += u16::from(lead < frame);
        if level.packets < WINDOW {
            return 0;
        }
        let seen = std::mem::replace(level, UNWATCHED);
        if seen.least > usual + frame {
            -frame
        } else if seen.late >= TOO_LATE && lead < usual + MOST_ROOM * frame {
            frame
        } else {
            0
        }
    }
}

impl Map {
    fn place(&self, timestamp: u32, (samples, units): (i64, i64)) -> i64 {
        self.position + i64::from(timestamp.wrapping_sub(self.timestamp) as i32) * samples / units
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::FRAME;

    const TICK: i64 = 20;

    /// Packets as (arrival in ms, timestamp in packets of 20 ms, mark), read for `ticks`; each frame as (value, made).
    /// A packet's samples all have the value 100 × (its place + 1).
    fn play(packets: &[(i64, i64)], ticks: i64) -> Vec<(i16, Made)> {
        let mut jitter = Jitter::new(Rate::Narrow, 8_000);
        let mut out = Vec::new();
        for tick in 1..=ticks {
            let until = tick * TICK;
            for (at, place) in packets.iter().filter(|(at, _)| (until - TICK..until).contains(at)) {
                let timestamp = 0xFFFF_FE00u32.wrapping_add((place * FRAME as i64) as u32);
                let value = 100 * (place + 1) as i16;
                jitter.push(MediaTime::from_millis(*at), timestamp, &[value; FRAME], 1);
            }
            let mut frame = Frame::default();
            jitter.pull(MediaTime::from_millis(until), &mut frame);
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
        type Row = (&'static str, Vec<(i64, i64)>, Vec<i64>);
        let rows: [Row; 6] = [
            ("in time", steady(6), vec![0, 1, 2, 3, 4, 5]),
            ("reordered", vec![(0, 0), (40, 2), (45, 1), (60, 3)], vec![0, 1, 2, 3]),
            ("twice", vec![(0, 0), (20, 1), (21, 1), (40, 2)], vec![0, 1, 2]),
            ("40 ms late", vec![(0, 0), (20, 1), (80, 2), (81, 3), (82, 4)], vec![0, 1, 2, 3, 4]),
            ("too late", vec![(0, 0), (20, 1), (110, 2), (111, 3), (112, 4)], vec![0, 1, 3, 4]),
            ("lost", vec![(0, 0), (40, 2), (60, 3)], vec![0, 2, 3]),
        ];
        for (name, packets, expected) in rows {
            assert_eq!(heard(&play(&packets, 20)), expected, "{name}");
        }
    }

    #[test]
    fn a_gap_is_concealed_for_60_ms_and_then_silent() {
        let mut packets = steady(5);
        packets.extend([(200, 10), (220, 11)]);
        let frames = play(&packets, 20);
        let made: Vec<Made> = frames.iter().map(|f| f.1).skip_while(|m| *m == Made::Silent).take(12).collect();
        use Made::*;
        assert_eq!(
            made,
            [Heard, Heard, Heard, Heard, Heard, Concealed, Concealed, Concealed, Silent, Silent, Heard, Heard]
        );
    }

    #[test]
    fn another_clock_is_followed_after_three_packets() {
        let mut packets = steady(5);
        packets.extend((0..6).map(|n| (100 + n * TICK, 90_000 + n)));
        let mut jitter = Jitter::new(Rate::Narrow, 8_000);
        for (at, place) in packets {
            jitter.push(MediaTime::from_millis(at), (place * 160) as u32, &[500; FRAME], 1);
        }
        let first = jitter.map.unwrap();
        assert_eq!(first.timestamp, (90_005i64 * 160) as u32);
        assert_eq!(first.position, 200 * 8 - 160, "the last packet came at 200 ms");
    }

    /// Every length of packet gives the same gap-free stream, and marks are kept sample by sample.
    #[test]
    fn packets_of_10_to_60_ms() {
        for ms in [10, 20, 30, 40, 60] {
            let mut jitter = Jitter::new(Rate::Narrow, 8_000);
            let (mut marks, mut count) = (Vec::new(), 0);
            for now in 0..2000 {
                if now % ms == 0 && now < 1200 {
                    let pcm = vec![77; ms as usize * 8];
                    let mark = if now < 600 { 1 } else { 2 };
                    jitter.push(MediaTime::from_millis(now), (now * 8) as u32, &pcm, mark);
                }
                if now % TICK == 0 {
                    let mut frame = Frame::default();
                    jitter.pull(MediaTime::from_millis(now), &mut frame);
                    count += frame.pcm.iter().filter(|s| **s == 77).count();
                    marks.push(frame.marks);
                }
            }
            assert!(count >= 1200 * 8, "{ms} ms: {count}");
            marks.dedup();
            assert!([vec![0, 1, 2], vec![0, 1, 3, 2]].contains(&marks), "{ms} ms: {marks:?}");
        }
    }

    /// Ten minutes with a clock 200 ppm fast or slow: a frame now and then is dropped or put in, no more.
    #[test]
    fn clocks_that_drift_are_followed() {
        for ppm in [-200i64, 200] {
            let mut jitter = Jitter::new(Rate::Narrow, 8_000);
            let (mut sent, mut missing) = (0i64, 0);
            for tick in 0..30_000i64 {
                let now = MediaTime::from_millis(tick * TICK);
                while sent * 960 * (1_000_000 - ppm) / 1_000_000 <= now.0 {
                    jitter.push(now, (sent * 160) as u32, &[9; FRAME], 1);
                    sent += 1;
                }
                let mut frame = Frame::default();
                jitter.pull(now, &mut frame);
                missing += i32::from(frame.made != Made::Heard);
            }
            // 200 ppm of ten minutes are 120 ms: six frames, and the start.
            assert!(missing <= 5 + 20, "{ppm} ppm: {missing} frames were not there");
        }
    }

    #[test]
    fn what_is_forgotten_is_not_made_up_from_either() {
        let mut jitter = Jitter::new(Rate::Narrow, 8_000);
        let mut frame = Frame::default();
        for n in 0..10i64 {
            jitter.push(MediaTime::from_millis(n * TICK), n as u32 * 160, &[5000; FRAME], 1);
            jitter.pull(MediaTime::from_millis((n + 1) * TICK), &mut frame);
        }
        assert_eq!(frame.pcm[0], 5000);
        jitter.forget();
        for n in 11..20 {
            jitter.pull(MediaTime::from_millis(n * TICK), &mut frame);
            assert_eq!((&frame.pcm[..], frame.made), (&[0; FRAME][..], Made::Silent));
        }
    }
}
