//! A reader of a line at somebody else's pace: as many samples at a time as the packet has that they go along with, and
//! whenever that passes. What lays one voice over the packets of another.
//!
//! ```text
//!   line ──► spare: how much has come beyond what is read now ──► least of late ──► step nearer, or back
//! ```
//!
//! It knows no clock that it could be in or out of phase with. It goes on where it was, and what it could be nearer by is
//! what was to spare at every read of the last 2 s. What is late it waits for where it is, and has more to spare after.

use crate::media::line::Line;
use crate::media::pcm::Rate;
use crate::media::plc::Concealer;
use crate::media::reader::MOST;
use crate::media::shift::{self, Steps};

/// The samples read in a bucket, in milliseconds.
const BUCKET_MS: i64 = 200;
/// Buckets remembered: 2 s. A packet that is lost on the other voice leaves what should have gone with it to spare; so
/// long it is late for that.
const BUCKETS: usize = 10;
/// One bucket in eight may have less to spare than is kept: a lone stall keeps nobody waiting.
const FORGIVEN: usize = 8;

/// The newest packet of a line.
#[derive(Clone, Copy, Debug)]
pub struct Newest {
    /// When it came, in samples.
    pub came: i64,
    /// The place of its first sample.
    pub at: i64,
    /// The place after its last.
    pub end: i64,
}

/// One reader.
#[derive(Clone, Debug)]
pub struct Alongside {
    rate: Rate,
    /// What came before is not for it.
    since: i64,
    /// The next sample's place; `None` before a packet came.
    at: Option<i64>,
    /// Samples made up since one was there: it waits.
    waited: i64,
    spare: Spare,
    /// What is to spare now.
    now: i64,
    steps: Steps,
    concealer: Concealer,
    /// Of what was heard last.
    marks: u8,
}

impl Alongside {
    /// A reader for what comes from `since` on, in samples.
    pub fn new(rate: Rate, since: i64) -> Self {
        let (spare, steps, concealer) = (Spare::default(), Steps::default(), Concealer::new(rate));
        Alongside { rate, since, at: None, waited: 0, spare, now: 0, steps, concealer, marks: 0 }
    }

    /// A packet passes at `now`, and `length` samples go with it: `next` reads them.
    pub fn begin(&mut self, now: i64, line: &Line, newest: Option<Newest>, length: usize) {
        let Some(newest) = newest.filter(|newest| newest.came >= self.since) else { return };
        let (length, packet) = (length as i64, newest.end - newest.at);
        let waited = self.waited > 0;
        let at = match self.at {
            Some(at) => self.go_on(at, line, length),
            None => newest.end - length.max(packet),
        };
        // Who begins anew was not late.
        let late = waited && self.spare.filled > 0;
        let at = self.not_too_far(at, line.end() - length);
        self.at = Some(at);
        if self.waited > 0 {
            return;
        }
        self.now = line.end() - at - length;
        // What came only just may come too late next time: nobody goes nearer for it, and nobody goes back for a doubt.
        let just = now - newest.came < self.rate.frame() as i64 / 40 && newest.end == line.end();
        let sure = self.now - if just { packet } else { 0 };
        let spare = if late { self.now.min(0) } else { self.now.min(sure.max(0)) };
        self.spare.saw(spare, length, now, self.bucket());
    }

    /// The next samples, a frame at most; answers the marks of all they are made of.
    pub fn next(&mut self, line: &Line, out: &mut [i16]) -> u8 {
        let Some(at) = self.at else {
            out.fill(0);
            return 0;
        };
        match self.step(line, at, out.len()) {
            Some(by) => self.take_step(line, at, by, out),
            None => self.fill(line, at, out),
        }
    }

    /// Where it reads after it may have waited: what was made up stands for what is missing before the next sample.
    fn go_on(&mut self, at: i64, line: &Line, length: i64) -> i64 {
        let Some(gap) = line.next(at).filter(|_| self.waited > 0) else { return at };
        let waited = std::mem::take(&mut self.waited);
        if gap > 0 && !self.concealer.sounds() {
            // The voice was silent, and begins anew.
            self.spare = Spare::default();
            return (at + gap).min(line.end() - length).max(at);
        }
        let missing = gap.min(waited);
        self.spare.moved(missing);
        at + missing
    }

    fn not_too_far(&mut self, at: i64, nearest: i64) -> i64 {
        let furthest = nearest - MOST.at_rate(self.rate.hz());
        if at >= furthest {
            return at;
        }
        self.concealer.cut();
        self.spare.moved(furthest - at);
        furthest
    }

    fn step(&mut self, line: &Line, at: i64, length: usize) -> Option<i64> {
        if self.waited > 0 {
            return None;
        }
        let wanted = self.spare.least().min(self.now.max(0));
        self.steps.find(line, at, wanted, 1, length, self.rate)
    }

    fn take_step(&mut self, line: &Line, at: i64, by: i64, out: &mut [i16]) -> u8 {
        let mark = shift::take(line, at, by, out, self.rate);
        self.at = Some(at + by + out.len() as i64);
        self.now -= by;
        self.spare.moved(by);
        self.heard(out, mark, true)
    }

    fn fill(&mut self, line: &Line, mut at: i64, out: &mut [i16]) -> u8 {
        let (mut left, mut marks) = (out, 0);
        while !left.is_empty() {
            let there = line.run(at, left.len());
            let gap = if there > 0 { Some(0) } else { line.next(at) };
            let length = match gap {
                Some(0) => there,
                Some(gap) => left.len().min(gap as usize),
                None => left.len(),
            };
            let (now, later) = left.split_at_mut(length);
            marks |= match there {
                0 => self.concealer.conceal(now),
                _ => {
                    let own = line.read(at, now);
                    self.heard(now, own, line.is_even(at, length))
                }
            };
            match gap {
                Some(_) => at += length as i64,
                None => {
                    self.waited += length as i64;
                    self.spare.moved(-(length as i64));
                }
            }
            left = later;
        }
        self.at = Some(at);
        marks
    }

    /// Nothing is made up, nor blended, across two marks.
    fn heard(&mut self, pcm: &mut [i16], marks: u8, even: bool) -> u8 {
        if !even || marks != self.marks {
            self.concealer.forget();
        }
        let joined = self.concealer.heard(pcm, marks);
        if !even {
            self.concealer.forget();
        }
        self.marks = marks;
        joined
    }

    fn bucket(&self) -> i64 {
        BUCKET_MS * i64::from(self.rate.hz()) / 1000
    }
}

/// What was to spare of late, as if it had always been read where it is read now.
#[derive(Clone, Debug, Default)]
struct Spare {
    /// The least of each bucket.
    least: [i64; BUCKETS],
    filled: usize,
    current: usize,
    /// Samples read in the present bucket, and when the first of them were.
    read: i64,
    since: i64,
}

impl Spare {
    /// What comes all at once after a stall is one bucket however much it is: a lone stall is forgiven.
    fn saw(&mut self, spare: i64, length: i64, now: i64, bucket: i64) {
        if self.read == 0 {
            self.least[self.current] = i64::MAX;
            self.since = now;
        }
        self.filled = self.filled.max(self.current + 1);
        let least = &mut self.least[self.current];
        *least = spare.min(*least);
        self.read += length;
        if self.read >= bucket && now - self.since >= bucket / 2 {
            self.read = 0;
            self.current = (self.current + 1) % BUCKETS;
        }
    }

    /// It is read so much nearer.
    fn moved(&mut self, by: i64) {
        self.least.iter_mut().for_each(|least| *least = least.saturating_sub(by));
    }

    /// What could be done without; nothing before a first bucket is full.
    fn least(&self) -> i64 {
        let mut least = self.least;
        let seen = &mut least[..self.filled];
        seen.sort_unstable();
        let full = self.filled > 1 || self.read == 0;
        seen.get(seen.len() / FORGIVEN).copied().filter(|_| full).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::jitter::Jitter;
    use crate::media::seed::Seed;
    use crate::time::MediaTime;

    const FRAME: usize = Rate::Narrow.frame();

    /// A voice of 160 Hz with its overtones.
    fn voice(n: i64) -> i16 {
        let phase = (n % 50) as f64 * std::f64::consts::TAU / 50.0;
        [1.0, 2.0, 3.0].iter().map(|k| 3000.0 / k * (k * phase + k).sin()).sum::<f64>() as i16
    }

    /// The voice in packets of 20 ms whose clock is `ppm` fast, each up to `jitter` ms late, read at the packets of
    /// another, `jitter` ms late as well: what is heard, and how far each read lies behind what has come, in ms.
    fn hear(seconds: i64, ppm: i64, jitter: u64) -> (Vec<i16>, Vec<i64>) {
        let (mut seed, mut from) = (Seed::new(4), Jitter::new(Rate::Narrow, 8000));
        let mut reader = from.alongside(MediaTime::ZERO);
        let mut late = |n: i64, ppm: i64| n * 960 * (1_000_000 - ppm) / 1_000_000 + seed.below(jitter * 48 + 1) as i64;
        let mut inputs: Vec<(i64, i64)> = (0..seconds * 50).map(|n| (late(n, ppm), n)).collect();
        inputs.extend((0..seconds * 50).map(|n| (300 + late(n, 0), -1)));
        inputs.sort();
        let (mut heard, mut behind) = (Vec::new(), Vec::new());
        for (at, n) in inputs {
            if n >= 0 {
                let pcm: [i16; FRAME] = std::array::from_fn(|i| voice(n * FRAME as i64 + i as i64));
                from.push(MediaTime(at), (n * FRAME as i64) as u32, &pcm, 1);
                continue;
            }
            let mut out = [0; FRAME];
            from.begin(&mut reader, MediaTime(at), FRAME);
            from.read(&mut reader, &mut out);
            heard.extend(out);
            behind.push(reader.now.max(0) / 8);
        }
        (heard, behind)
    }

    /// The largest difference between neighbours after the first 200 ms, of what the voice itself has at most.
    fn click(heard: &[i16]) -> f64 {
        let largest = |pcm: &[i16]| pcm.windows(2).map(|w| (i32::from(w[1]) - i32::from(w[0])).abs()).max().unwrap();
        let own: Vec<i16> = (0..1000).map(voice).collect();
        f64::from(largest(&heard[1600..])) / f64::from(largest(&own))
    }

    #[test]
    fn clocks_that_drift_are_followed_without_a_click() {
        for ppm in [-300, -50, 50, 300] {
            let (heard, behind) = hear(300, ppm, 0);
            let most = behind[100..].iter().max().unwrap();
            assert!(click(&heard) < 1.15 && *most <= 28, "{ppm} ppm: {} {most} ms", click(&heard));
        }
    }

    #[test]
    fn jitter_is_waited_for_and_no_longer_than_it_lasts() {
        for (jitter, usual) in [(5, 20), (20, 40), (60, 90)] {
            let (heard, behind) = hear(60, 0, jitter);
            let mean = behind[200..].iter().sum::<i64>() / behind[200..].len() as i64;
            assert!(click(&heard) < 1.5 && mean <= usual, "{jitter} ms: {} {mean} ms", click(&heard));
        }
    }

    #[test]
    fn what_came_before_it_is_not_for_it() {
        let mut from = Jitter::new(Rate::Narrow, 8000);
        from.push(MediaTime::ZERO, 0, &[5000; FRAME], 1);
        let mut reader = from.alongside(MediaTime::from_millis(1));
        let mut out = [1; FRAME];
        for ms in [1, 21] {
            from.begin(&mut reader, MediaTime::from_millis(ms), FRAME);
            assert_eq!((from.read(&mut reader, &mut out), out), (0, [0; FRAME]));
        }
        from.push(MediaTime::from_millis(22), 160, &[6000; FRAME], 2);
        from.begin(&mut reader, MediaTime::from_millis(25), FRAME);
        assert_eq!((from.read(&mut reader, &mut out), out), (2, [6000; FRAME]));
    }

    /// What is late is made up from one mark alone: not a sample of a whisper comes back under another mode.
    #[test]
    fn nothing_is_made_up_across_two_marks() {
        for marks in [[1, 1], [1, 2]] {
            let mut from = Jitter::new(Rate::Narrow, 8000);
            let mut reader = from.alongside(MediaTime::ZERO);
            let mut out = [0; FRAME];
            for n in 0..8i64 {
                if n < 7 {
                    let pcm: [i16; FRAME] = std::array::from_fn(|i| voice(n * FRAME as i64 + i as i64));
                    from.push(MediaTime::from_millis(20 * n), n as u32 * 160, &pcm, marks[usize::from(n == 6)]);
                }
                from.begin(&mut reader, MediaTime::from_millis(20 * n + 5), FRAME);
                from.read(&mut reader, &mut out);
            }
            assert_eq!(out.iter().any(|s| *s != 0), marks == [1, 1]);
        }
    }

    #[test]
    fn hostile_streams_never_panic() {
        let mut seed = Seed::new(6);
        let mut from = Jitter::new(Rate::Narrow, 8000);
        let mut reader = from.alongside(MediaTime::ZERO);
        let mut now = 0;
        for _ in 0..50_000 {
            now += seed.below(2000) as i64;
            let pcm = vec![seed.bits() as i16; seed.below(1500) as usize];
            let timestamp = if seed.below(2) == 0 { seed.bits() as u32 } else { (now / 6) as u32 };
            from.push(MediaTime(now), timestamp, &pcm, 1 + seed.below(2) as u8);
            let length = seed.below(1441) as usize;
            from.begin(&mut reader, MediaTime(now), length);
            for piece in vec![0; length].chunks_mut(FRAME) {
                from.read(&mut reader, piece);
            }
            if seed.below(50) == 0 {
                from.forget();
            }
        }
    }
}
