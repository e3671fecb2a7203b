//! What one leg said, each sample at its place in the stream, for as long as a reader may still want it.
//!
//! Places are samples counted by the sender's clock, unrolled to 64 bits. Packets are written in any order; readers
//! read where they like and take nothing away, so that several can read the same. Knows no time and no network.

use crate::media::pcm::Rate;
use memchr::memchr;
use std::ops::Range;

/// Milliseconds held: the oldest a reader may be behind (240), and a packet of 60 ms twice early.
const HELD_MS: usize = 400;
/// A line on which nothing came yet ends here: before every place, and far from overflow.
const NEVER: i64 = i64::MIN / 4;

/// The samples of one stream.
#[derive(Clone, Debug)]
pub struct Line {
    samples: Box<[i16]>,
    /// 0: no sample here.
    marks: Box<[u8]>,
    end: i64,
}

impl Line {
    /// An empty line.
    pub fn new(rate: Rate) -> Self {
        let held = HELD_MS * rate.hz() as usize / 1000;
        Line { samples: vec![0; held].into(), marks: vec![0; held].into(), end: NEVER }
    }

    /// Samples held at most.
    pub fn len(&self) -> usize {
        self.samples.len()
    }

    /// The place after the last sample that was written.
    pub fn end(&self) -> i64 {
        self.end
    }

    /// Whether nothing was ever written.
    pub fn is_empty(&self) -> bool {
        self.end == NEVER
    }

    /// Puts samples at their place; `mark` is not 0. What is older than the line is long is dropped.
    pub fn write(&mut self, at: i64, pcm: &[i16], mark: u8) {
        let end = at + pcm.len() as i64;
        if end > self.end {
            let from = self.end.max(end - self.len() as i64);
            self.unmark(from, end);
            self.end = end;
        }
        let too_old = (self.oldest() - at).clamp(0, pcm.len() as i64);
        let kept = pcm.get(too_old as usize..).unwrap_or(&[]);
        let (first, again) = self.places(at + too_old, kept.len());
        let (head, tail) = kept.split_at(first.len());
        self.samples[first.clone()].copy_from_slice(head);
        self.samples[again.clone()].copy_from_slice(tail);
        self.marks[first].fill(mark);
        self.marks[again].fill(mark);
    }

    /// How many samples are there from `at` on without a hole, up to `most`.
    pub fn run(&self, at: i64, most: usize) -> usize {
        if at < self.oldest() {
            return 0;
        }
        let most = most.min((self.end - at).max(0) as usize);
        let (first, again) = self.places(at, most);
        let there = |places: Range<usize>| memchr(0, &self.marks[places.clone()]).unwrap_or(places.len());
        match there(first.clone()) {
            all if all == first.len() => all + there(again),
            some => some,
        }
    }

    /// Whether `length` samples from `at` on are all there, with one mark.
    pub fn is_even(&self, at: i64, length: usize) -> bool {
        let first = self.marks[self.slot(at)];
        self.run(at, length) == length
            && slots(self.slot(at), self.len()).take(length).all(|slot| self.marks[slot] == first)
    }

    /// How far after `at` the next sample is; `None` if there is none.
    pub fn next(&self, at: i64) -> Option<i64> {
        let from = at.max(self.oldest());
        let left = (self.end - from).max(0) as usize;
        let hole = slots(self.slot(from), self.len()).take(left).position(|slot| self.marks[slot] != 0)?;
        Some(from - at + hole as i64)
    }

    /// Copies what is there from `at` on, without a hole as `run` said; answers the marks, joined.
    pub fn read(&self, at: i64, out: &mut [i16]) -> u8 {
        let (first, again) = self.places(at, out.len());
        let (head, tail) = out.split_at_mut(first.len());
        head.copy_from_slice(&self.samples[first.clone()]);
        tail.copy_from_slice(&self.samples[again.clone()]);
        let joined = |places: Range<usize>| self.marks[places].iter().fold(0, |all, mark| all | mark);
        joined(first) | joined(again)
    }

    /// Nothing written until now is there any more.
    pub fn clear(&mut self) {
        self.marks.fill(0);
    }

    fn oldest(&self) -> i64 {
        self.end - self.len() as i64
    }
    fn slot(&self, at: i64) -> usize {
        at.rem_euclid(self.len() as i64) as usize
    }
    fn unmark(&mut self, from: i64, to: i64) {
        let (first, again) = self.places(from, (to - from).max(0) as usize);
        self.marks[first].fill(0);
        self.marks[again].fill(0);
    }
    /// The slots of `length` samples from `at` on, at most once round: those up to the end, and those from the beginning.
    fn places(&self, at: i64, length: usize) -> (Range<usize>, Range<usize>) {
        let (from, length) = (self.slot(at), length.min(self.len()));
        let first = length.min(self.len() - from);
        (from..from + first, 0..length - first)
    }
}

/// The slots of a ring from one on, once round.
fn slots(from: usize, len: usize) -> impl Iterator<Item = usize> {
    (from..len).chain(0..from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_where_they_were_put_and_nowhere_else() {
        let mut line = Line::new(Rate::Narrow);
        assert!(line.is_empty() && line.next(0).is_none());
        line.write(-100, &[1; 160], 1);
        line.write(220, &[2; 160], 2);
        assert_eq!([line.run(-100, 999), line.run(0, 999), line.run(60, 999), line.run(220, 50)], [160, 60, 0, 50]);
        assert_eq!(
            [line.next(-500), line.next(0), line.next(60), line.next(380)],
            [Some(400), Some(0), Some(160), None]
        );
        let mut out = [0; 70];
        assert_eq!((line.read(310, &mut out), out), (2, [2; 70]));
        line.write(60, &[3; 160], 3);
        assert_eq!([line.is_even(-100, 160), line.is_even(-100, 161), line.is_even(220, 161)], [true, false, false]);
    }

    #[test]
    fn what_is_older_than_the_line_is_long_is_gone() {
        let mut line = Line::new(Rate::Narrow);
        line.write(0, &[1; 160], 1);
        line.write(3300, &[2; 160], 1);
        assert_eq!((line.run(0, 10), line.next(0)), (0, Some(3300)), "the beginning's place is used anew");
        line.write(200, &[3; 160], 1);
        assert_eq!((line.run(259, 10), line.run(260, 999)), (0, 100), "what is too old is dropped, the rest kept");
        line.write(1_000_000, &[4; 160], 1);
        assert_eq!((line.next(0), line.run(1_000_000, 999)), (Some(1_000_000), 160));
        line.clear();
        assert_eq!(line.next(0), None);
    }
}
