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
        // What came only just may come too late next time: it is as good as not there.
        let just = now - newest.came < self.rate.frame() as i64 / 40 && newest.end == line.end();
        let doubtful = if just { packet } else { 0 };
        let late = self.waited > 0;
        let at = match self.at {
            Some(at) => self.go_on(at, line, length),
            None => newest.end - doubtful - length.max(packet),
        };
        let at = self.not_too_far(at, line.end() - length);
        self.at = Some(at);
        if self.waited > 0 {
            return;
        }
        self.now = line.end() - at - length;
        let spare = self.now - doubtful;
        self.spare.saw(if late { spare.min(0) } else { spare }, length, self.bucket());
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
    /// Samples read in the present bucket.
    read: i64,
}

impl Spare {
    fn saw(&mut self, spare: i64, length: i64, bucket: i64) {
        if self.read == 0 {
            self.least[self.current] = i64::MAX;
        }
        self.filled = self.filled.max(self.current + 1);
        let least = &mut self.least[self.current];
        *least = spare.min(*least);
        self.read += length;
        if self.read >= bucket {
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
