//! How late packets come: what a reader's delay is chosen by.
//!
//! A packet's lateness is seen by the tick: its first sample's place, less the time of the first tick after it came. A
//! reader that reads from the smallest such difference on never waits in vain and never more than it must: on a line
//! without jitter a packet goes out at the first tick after it came. Drift of the clocks moves the differences, and
//! the readers with them. Everything is in samples.

use std::cmp::{max, min};

/// Ticks with packets in a bucket: 200 ms of 20 ms packets.
const TICKS: u8 = 10;
/// Buckets remembered: 4 s, long enough to know a network, short enough to follow drift within a sample or two.
const BUCKETS: usize = 20;
/// One bucket in eight may be worse than what is waited for: one late packet or one stall within two seconds is no
/// reason to keep everybody waiting. Of packets that is about one in a hundred.
const FORGIVEN: usize = 8;

/// A few ticks' packets.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    /// The latest first sample, less its tick.
    least: i64,
    /// The earliest last sample, less its arrival.
    most: i64,
}

const EMPTY: Bucket = Bucket { least: i64::MAX, most: i64::MIN };

/// What came since the last tick.
#[derive(Clone, Copy, Debug)]
struct Fresh {
    first: i64,
    most: i64,
    last: i64,
    last_came: i64,
}

/// One stream's arrivals.
#[derive(Clone, Debug)]
pub struct Arrivals {
    buckets: [Bucket; BUCKETS],
    filled: usize,
    current: usize,
    ticks: u8,
    fresh: Option<Fresh>,
    known: Option<Known>,
    /// A packet nearer to its tick than this counts as the next one's: half a millisecond, so that a slow clock is
    /// met by stretching and not by running dry.
    margin: i64,
    frame: i64,
}

/// What follows from the arrivals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known {
    /// Where to read, relative to the tick, so that all but the forgiven are there.
    pub there: i64,
    /// Where the sample is that a perfect network would deliver now, relative to now.
    pub best: i64,
}

impl Arrivals {
    /// Nothing came yet. `frame`: samples between two ticks.
    pub fn new(frame: usize) -> Self {
        let frame = frame as i64;
        let buckets = [EMPTY; BUCKETS];
        Arrivals { buckets, filled: 0, current: 0, ticks: 0, fresh: None, known: None, margin: frame / 40, frame }
    }

    /// Samples from `at` to `end` came at `now`.
    pub fn came(&mut self, now: i64, at: i64, end: i64) {
        let most = end - now;
        let before = self.fresh.unwrap_or(Fresh { first: at, most, last: at, last_came: now });
        self.fresh =
            Some(Fresh { first: min(before.first, at), most: max(before.most, most), last: at, last_came: now });
    }

    /// What came since the last tick will not be read: the next tick, which may be long after, does not judge it.
    pub fn forget(&mut self) {
        self.fresh = None;
    }

    /// A tick: what came until now is judged. Twice at the same tick is once.
    pub fn tick(&mut self, tick: i64) {
        let Some(fresh) = self.fresh.take() else { return };
        let near = if tick - fresh.last_came < self.margin { fresh.last - tick - self.frame } else { i64::MAX };
        let least = min(fresh.first - tick, near);
        self.filled = max(self.filled, self.current + 1);
        let bucket = &mut self.buckets[self.current];
        let news = least < bucket.least || fresh.most > bucket.most;
        *bucket = Bucket { least: min(bucket.least, least), most: max(bucket.most, fresh.most) };
        if news {
            self.known = Some(self.judge());
        }
        self.ticks += 1;
        if self.ticks == TICKS {
            self.ticks = 0;
            self.current = (self.current + 1) % BUCKETS;
            self.buckets[self.current] = EMPTY;
        }
    }

    /// What is known; `None` before the first packet's tick.
    pub fn known(&self) -> Option<Known> {
        self.known
    }

    fn judge(&self) -> Known {
        let mut least = [i64::MAX; BUCKETS];
        let filled = self.buckets.iter().take(self.filled).filter(|b| b.least != i64::MAX);
        let mut count = 0;
        for (to, bucket) in least.iter_mut().zip(filled) {
            *to = bucket.least;
            count += 1;
        }
        least.sort_unstable();
        let best = self.buckets.iter().map(|b| b.most).max().unwrap_or_default();
        Known { there: least[count / FORGIVEN], best }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 20 ms packets at 8 kHz, each `late` samples after its last sample was spoken, ticks every 160; what is known then.
    fn after(late: impl Fn(i64) -> i64, packets: i64) -> Known {
        let mut arrivals = Arrivals::new(160);
        let mut under_way: Vec<(i64, i64)> = (0..packets).map(|n| ((n + 1) * 160 + late(n), n * 160)).collect();
        under_way.sort();
        for tick in (100..(packets + 2) * 160).step_by(160) {
            for (came, at) in under_way.extract_if(.., |(came, _)| *came <= tick) {
                arrivals.came(came, at, at + 160);
            }
            arrivals.tick(tick);
        }
        arrivals.known().unwrap()
    }

    #[test]
    fn a_packet_on_a_good_line_is_read_at_the_next_tick() {
        // The packet 0–160 came at 160, the tick after it is at 260.
        assert_eq!(after(|_| 0, 300), Known { there: -260, best: 0 });
        assert_eq!(after(|_| 0, 1), Known { there: -260, best: 0 });
        // Two samples before the tick is as good as after it.
        assert_eq!(after(|_| 98, 300).there, -260 - 160);
    }

    #[test]
    fn jitter_is_waited_for_and_a_lone_stall_is_not() {
        assert_eq!(after(|n| if n % 7 == 3 { 480 } else { 0 }, 300).there, -260 - 480);
        assert_eq!(after(|n| if (150..165).contains(&n) { (165 - n) * 160 } else { 0 }, 300).there, -260);
    }

    #[test]
    fn another_delay_is_known_after_four_seconds() {
        assert_eq!(after(|n| if n < 300 { 800 } else { 0 }, 510), Known { there: -260, best: 0 });
        assert_eq!(after(|n| if n < 300 { 0 } else { 800 }, 500).there, -260 - 800);
    }
}
