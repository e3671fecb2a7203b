//! The header of everything that leaves for one leg: one SSRC, one sequence, one clock, whatever feeds it.
//!
//! While a leg follows a stream (relay, overlay), what leaves is what came plus an offset, so that loss and reordering
//! stay visible to the far end. Where the stream counts time in other units than the leg, its timestamps are scaled from
//! the point where the leg began to follow. When the feed changes, the sequence goes on at the last number + 1 and the
//! timestamp where the clock is. All lengths are in units of the leg's own clock. Knows nothing of payloads.

use crate::id::LegId;
use crate::media::rtp::Header;
use crate::media::seed::Seed;
use crate::time::{MediaTime, Samples};

/// How far the rebase point may lie behind before it is moved along: half of what a 16-bit comparison can tell apart.
const FLOOR_REACH: i16 = 0x4000;

/// By how much the point is moved from which timestamps are scaled: a multiple of every ratio of two clocks.
const STRIDE: u32 = 6 << 26;

/// A stream that a leg can follow. A leg's stream has another generation after every restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    /// Whose.
    pub leg: LegId,
    /// Which of that leg's streams.
    pub generation: u32,
    /// Its timestamp units a second.
    pub clock: u32,
}

/// What the header of an outgoing packet says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// Ours, for good.
    pub ssrc: u32,
    /// The sequence number.
    pub sequence: u16,
    /// Of the first sample.
    pub timestamp: u32,
    /// The line starts anew here.
    pub marker: bool,
    /// Sent after a packet with a higher number.
    pub late: bool,
}

impl Stamp {
    /// The header with a payload type.
    pub fn header(&self, payload_type: u8) -> Header {
        Header {
            marker: self.marker,
            payload_type,
            sequence: self.sequence,
            timestamp: self.timestamp,
            ssrc: self.ssrc,
        }
    }
}

/// What a line is between two calls: the next packet of the second goes on from the last of the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct SenderLine {
    clock: u32,
    ssrc: u32,
    sequence: u16,
    timestamp: u32,
    packets: u64,
    octets: u64,
}

impl SenderLine {
    /// The same line so much later.
    pub fn after(self, passed: Samples) -> Self {
        let passed = passed.at_rate(self.clock).max(0) as u32;
        SenderLine { timestamp: self.timestamp.wrapping_add(passed), ..self }
    }
}

/// Where the line stood when a packet last left.
#[derive(Clone, Copy, Debug)]
struct Last {
    timestamp: u32,
    samples: u32,
    at: MediaTime,
}

/// The stream followed now.
#[derive(Clone, Copy, Debug)]
struct Bound {
    origin: Origin,
    sequence: u16,
    /// A timestamp of theirs, and what it is on this line.
    theirs: u32,
    ours: u32,
    /// Packets before this one are older than the rebase point: their numbers are used.
    floor: u16,
    /// A packet was swallowed: the next number is not its own plus the offset.
    renumber: bool,
}

/// The last digit that passed.
#[derive(Clone, Copy, Debug)]
struct Digit {
    origin: Origin,
    theirs: u32,
    ours: u32,
}

/// One leg's outgoing line.
#[derive(Clone, Debug)]
pub struct Sender {
    /// Timestamp units a second.
    clock: u32,
    ssrc: u32,
    next: u16,
    first_timestamp: u32,
    last: Option<Last>,
    bound: Option<Bound>,
    digit: Option<Digit>,
    packets: u64,
    octets: u64,
}

impl Sender {
    /// SSRC, first sequence number and first timestamp come from the seed (RFC 3550 §5.1). The number is of the lower half,
    /// so that a receiver that misses the first packets does not miss the end of the sixteen bits (RFC 3711 §3.3.1).
    pub fn new(seed: &mut Seed, clock: u32) -> Self {
        Sender {
            clock,
            ssrc: seed.bits() as u32,
            next: seed.bits() as u16 & 0x7FFF,
            first_timestamp: seed.bits() as u32,
            last: None,
            bound: None,
            digit: None,
            packets: 0,
            octets: 0,
        }
    }

    /// Where the line stands, for the call it goes on in.
    pub fn line(&self, now: MediaTime) -> SenderLine {
        let (ssrc, sequence, timestamp) = (self.ssrc, self.next, self.timestamp_at(now));
        SenderLine { clock: self.clock, ssrc, sequence, timestamp, packets: self.packets, octets: self.octets }
    }

    /// Goes on where the line stood in another call, whose clock began at another time.
    pub fn resume(&mut self, now: MediaTime, line: SenderLine) {
        if line.clock == self.clock {
            let last = Last { timestamp: line.timestamp, samples: 0, at: now };
            (self.ssrc, self.next, self.last) = (line.ssrc, line.sequence, Some(last));
            (self.packets, self.octets) = (line.packets, line.octets);
        }
    }

    /// Another codec from now on: the line goes on in other units.
    pub fn set_clock(&mut self, clock: u32) {
        if self.clock != clock {
            self.clock = clock;
            self.bound = None;
            self.digit = None;
        }
    }
    fn length(&self, units: u32) -> Samples {
        Samples(i64::from(units) * 48_000 / i64::from(self.clock.max(1)))
    }
    fn units(&self, length: Samples) -> i64 {
        length.at_rate(self.clock)
    }

    /// Our SSRC on this leg.
    pub fn ssrc(&self) -> u32 {
        self.ssrc
    }
    /// Packets sent.
    pub fn packets(&self) -> u64 {
        self.packets
    }
    /// Payload bytes sent.
    pub fn octets(&self) -> u64 {
        self.octets
    }
    /// A packet with this much payload has left.
    pub fn count(&mut self, payload: usize) {
        self.count_many(1, payload);
    }
    /// So many packets have left, with so much payload together.
    pub fn count_many(&mut self, packets: u64, payload: usize) {
        self.packets += packets;
        self.octets += payload as u64;
    }

    /// The timestamp of the first sample that can still leave at `now`: beyond everything sent, and on the clock.
    pub fn timestamp_at(&self, now: MediaTime) -> u32 {
        let Some(last) = self.last else { return self.first_timestamp };
        let elapsed = self.units(now - last.at).max(0) as u32;
        last.timestamp.wrapping_add(elapsed.max(last.samples))
    }

    /// How far the line is fed beyond `now`, in timestamp units: positive while the last packet still plays.
    pub fn ahead(&self, now: MediaTime) -> i64 {
        self.last.map_or(i64::MIN, |l| i64::from(l.samples) - self.units(now - l.at))
    }

    /// The stamp of a packet of `samples` that follows one that came. `None`: it is older than the rebase point.
    pub fn follow(&mut self, now: MediaTime, origin: Origin, came: &Header, samples: u32) -> Option<Stamp> {
        let rebased = self.bound.is_none_or(|b| b.origin != origin);
        let bound = self.bind(now, origin, came)?;
        let sequence = came.sequence.wrapping_add(bound.sequence);
        let timestamp = bound.timestamp(came.timestamp, self.clock);
        let late = (sequence.wrapping_sub(self.next) as i16) < 0;
        if !late {
            self.next = sequence.wrapping_add(1);
            self.advance(now, timestamp, samples);
        }
        let marker = (came.marker || rebased) && !late;
        Some(Stamp { ssrc: self.ssrc, sequence, timestamp, marker, late })
    }

    /// The stamp of another packet made of what came in the one that was followed last.
    pub fn more(&mut self, samples: u32) -> Stamp {
        let (at, timestamp) = match self.last {
            Some(last) => (last.at + self.length(last.samples), last.timestamp.wrapping_add(last.samples)),
            None => (MediaTime::ZERO, self.first_timestamp),
        };
        let sequence = self.next;
        self.next = sequence.wrapping_add(1);
        self.last = Some(Last { timestamp, samples, at });
        if let Some(bound) = &mut self.bound {
            // What came next has a number one higher, and nothing that came before fits in any more.
            bound.sequence = bound.sequence.wrapping_add(1);
            bound.floor = sequence.wrapping_sub(bound.sequence).wrapping_add(1);
        }
        Stamp { ssrc: self.ssrc, sequence, timestamp, marker: false, late: false }
    }

    /// A packet of the followed stream does not leave, and is not to look lost.
    pub fn swallow(&mut self, origin: Origin) {
        if let Some(bound) = self.bound.as_mut().filter(|b| b.origin == origin) {
            bound.renumber = true;
        }
    }

    /// The stamp of the next packet of a line that we feed by the clock.
    pub fn next(&mut self, now: MediaTime, samples: u32) -> Stamp {
        let marker = self.bound.take().is_some() || self.last.is_none();
        let timestamp = self.timestamp_at(now);
        let sequence = self.next;
        self.next = sequence.wrapping_add(1);
        self.last = Some(Last { timestamp, samples, at: now });
        Stamp { ssrc: self.ssrc, sequence, timestamp, marker, late: false }
    }

    /// The stamp of a digit's packet (RFC 4733 §2.2: all packets of a digit carry its first timestamp), whether the line
    /// follows the stream or is fed by the clock, and even if that changes under way.
    pub fn digit(&mut self, now: MediaTime, origin: Origin, came: &Header) -> Option<Stamp> {
        let bound = match self.bound.filter(|b| b.origin == origin) {
            Some(_) => Some(self.bind(now, origin, came)?),
            None => None,
        };
        let known = self.digit.filter(|d| d.origin == origin && d.theirs == came.timestamp);
        let timestamp = match (known, bound) {
            (Some(digit), _) => digit.ours,
            (None, Some(bound)) => bound.timestamp(came.timestamp, self.clock),
            (None, None) => self.timestamp_at(now),
        };
        self.digit = Some(Digit { origin, theirs: came.timestamp, ours: timestamp });
        let sequence = bound.map_or(self.next, |b| came.sequence.wrapping_add(b.sequence));
        let late = (sequence.wrapping_sub(self.next) as i16) < 0;
        if !late {
            self.next = sequence.wrapping_add(1);
        }
        let marker = bound.map_or(known.is_none(), |_| came.marker);
        Some(Stamp { ssrc: self.ssrc, sequence, timestamp, marker, late })
    }

    /// The stamp of a packet of a key that we press: `began` is the timestamp of its first packet (RFC 4733 §2.2.1). The
    /// stream that the line may follow goes on behind it.
    pub fn press(&mut self, now: MediaTime, began: Option<u32>) -> Stamp {
        let timestamp = began.unwrap_or_else(|| self.timestamp_at(now));
        if self.last.is_none() {
            self.last = Some(Last { timestamp, samples: 0, at: now });
        }
        self.bound.iter_mut().for_each(|bound| bound.renumber = true);
        let sequence = self.next;
        self.next = sequence.wrapping_add(1);
        Stamp { ssrc: self.ssrc, sequence, timestamp, marker: began.is_none(), late: false }
    }

    fn bind(&mut self, now: MediaTime, origin: Origin, came: &Header) -> Option<Bound> {
        let fresh = |theirs, ours| Bound {
            origin,
            sequence: self.next.wrapping_sub(came.sequence),
            theirs,
            ours,
            floor: came.sequence,
            renumber: false,
        };
        let bound = match self.bound.filter(|b| b.origin == origin) {
            None => fresh(came.timestamp, self.timestamp_at(now)),
            Some(old) => {
                let above = came.sequence.wrapping_sub(old.floor) as i16;
                match above {
                    i16::MIN..0 => return None,
                    _ if old.renumber => fresh(old.theirs, old.ours),
                    FLOOR_REACH.. => Bound { floor: came.sequence.wrapping_sub(FLOOR_REACH as u16 / 2), ..old },
                    0..FLOOR_REACH => old,
                }
            }
        };
        let bound = bound.near(came.timestamp, self.clock);
        self.bound = Some(bound);
        Some(bound)
    }

    /// Timestamps that go back, as a far end's may, do not move the line back.
    fn advance(&mut self, now: MediaTime, timestamp: u32, samples: u32) {
        if self.last.is_none_or(|l| (timestamp.wrapping_sub(l.timestamp) as i32) > 0) {
            self.last = Some(Last { timestamp, samples, at: now });
        }
    }
}

impl Bound {
    /// What a timestamp of theirs is on a line of `clock` units a second.
    fn timestamp(&self, theirs: u32, clock: u32) -> u32 {
        let passed = theirs.wrapping_sub(self.theirs);
        if clock == self.origin.clock {
            return self.ours.wrapping_add(passed);
        }
        let scaled = i64::from(passed as i32) * i64::from(clock);
        self.ours.wrapping_add(scaled.div_euclid(i64::from(self.origin.clock.max(1))) as u32)
    }

    /// Moved along before a difference of timestamps could be taken for one in the other direction.
    fn near(self, theirs: u32, clock: u32) -> Bound {
        if (theirs.wrapping_sub(self.theirs) as i32) < 2 * STRIDE as i32 {
            return self;
        }
        let theirs = self.theirs.wrapping_add(STRIDE);
        Bound { theirs, ours: self.timestamp(theirs, clock), ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Origin = Origin { leg: LegId(1), generation: 0, clock: 8_000 };
    const B: Origin = Origin { leg: LegId(2), generation: 0, clock: 8_000 };

    fn at(ms: i64) -> MediaTime {
        MediaTime::from_millis(ms)
    }
    fn header(sequence: u16, timestamp: u32) -> Header {
        Header { marker: false, payload_type: 0, sequence, timestamp, ssrc: 9 }
    }
    fn sender() -> Sender {
        Sender::new(&mut Seed::new(3), 8_000)
    }

    #[test]
    fn a_followed_stream_keeps_its_loss_and_its_order_across_the_wrap() {
        let mut s = sender();
        let first = s.follow(at(0), A, &header(65_533, 0xFFFF_FF00), 160).unwrap();
        assert!(first.marker);
        for (i, seq) in [65_534u16, 65_535, 1, 0, 3].into_iter().enumerate() {
            let step = seq.wrapping_sub(65_533);
            let came = header(seq, 0xFFFF_FF00u32.wrapping_add(160 * u32::from(step)));
            let stamp = s.follow(at(20 * i as i64), A, &came, 160).unwrap();
            assert_eq!(stamp.sequence, first.sequence.wrapping_add(step));
            assert_eq!(stamp.timestamp, first.timestamp.wrapping_add(160 * u32::from(step)));
            assert_eq!((stamp.marker, stamp.late), (false, seq == 0));
        }
    }

    #[test]
    fn every_change_of_feed_goes_on_at_the_next_number_and_on_the_clock() {
        let mut s = sender();
        let a = s.follow(at(0), A, &header(100, 5_000), 160).unwrap();
        let a = s.follow(at(20), A, &header(101, 5_160), 160).map(|n| (a, n)).unwrap().1;
        let mixed = s.next(at(60), 160);
        assert_eq!(mixed.sequence, a.sequence.wrapping_add(1));
        assert_eq!(mixed.timestamp, a.timestamp.wrapping_add(320));
        assert!(mixed.marker);
        let more = s.next(at(80), 160);
        assert_eq!((more.sequence, more.marker), (mixed.sequence.wrapping_add(1), false));
        let b = s.follow(at(90), B, &header(7, 77), 160).unwrap();
        assert_eq!(b.sequence, more.sequence.wrapping_add(1));
        assert_eq!(b.timestamp, more.timestamp.wrapping_add(160), "never over what was sent");
        assert!(b.marker);
        let again = s.follow(at(200), A, &header(109, 6_440), 160).unwrap();
        assert_eq!(again.sequence, b.sequence.wrapping_add(1));
        assert_eq!(again.timestamp, b.timestamp.wrapping_add(110 * 8));
    }

    /// A packet made into three, and streams of another clock: timestamps go on without a hole, numbers one by one.
    #[test]
    fn a_packet_in_pieces_and_a_stream_of_another_clock_leave_no_hole() {
        let mut s = Sender::new(&mut Seed::new(3), 48_000);
        let mut expected = None;
        for i in 0..200_000u32 {
            let came = header(i as u16, 0xFFF0_0000u32.wrapping_add(i.wrapping_mul(480)));
            let now = at(60 * i64::from(i));
            let first = s.follow(now, A, &came, 960).unwrap();
            for stamp in [first, s.more(960), s.more(960)] {
                let (sequence, timestamp) = expected.unwrap_or((stamp.sequence, stamp.timestamp));
                assert_eq!((stamp.sequence, stamp.timestamp), (sequence, timestamp), "{i}");
                expected = Some((sequence.wrapping_add(1), timestamp.wrapping_add(960)));
            }
        }
        let (sequence, timestamp) = expected.unwrap();
        let next = s.next(at(60 * 200_000), 960);
        assert_eq!((next.sequence, next.timestamp), (sequence, timestamp));
        assert_eq!(s.more(960).timestamp, timestamp.wrapping_add(960));
        assert_eq!(s.next(at(60 * 200_000 + 40), 960).timestamp, timestamp.wrapping_add(1920));
    }

    #[test]
    fn nothing_older_than_the_rebase_point_leaves() {
        let mut s = sender();
        s.follow(at(0), A, &header(10, 0), 160).unwrap();
        s.next(at(20), 160);
        s.follow(at(40), A, &header(12, 320), 160).unwrap();
        assert_eq!(s.follow(at(41), A, &header(11, 160), 160), None);
        assert!(s.follow(at(60), A, &header(13, 480), 160).is_some());
    }

    #[test]
    fn no_number_is_used_twice_over_three_wraps_of_the_sequence() {
        let mut s = sender();
        let mut previous = None;
        for i in 0..200_000u32 {
            let stamp = s.follow(at(20 * i64::from(i)), A, &header(i as u16, i.wrapping_mul(160)), 160).unwrap();
            assert!(previous.is_none_or(|p: u16| stamp.sequence == p.wrapping_add(1)), "{i}");
            previous = Some(stamp.sequence);
        }
    }

    #[test]
    fn a_swallowed_packet_leaves_no_gap_and_keeps_the_clock() {
        let mut s = sender();
        let a = s.follow(at(0), A, &header(10, 0), 160).unwrap();
        s.swallow(A);
        let b = s.follow(at(40), A, &header(12, 320), 160).unwrap();
        assert_eq!((b.sequence, b.timestamp), (a.sequence.wrapping_add(1), a.timestamp.wrapping_add(320)));
        assert!(!b.marker);
        assert_eq!(s.follow(at(41), A, &header(11, 160), 160), None);
    }

    #[test]
    fn a_digit_keeps_its_timestamp_while_the_line_goes_on() {
        let mut s = sender();
        let voice = s.next(at(0), 160);
        let d1 = s.digit(at(5), A, &header(50, 900)).unwrap();
        let more = s.next(at(20), 160);
        let d2 = s.digit(at(25), A, &header(51, 900)).unwrap();
        assert_eq!((d1.timestamp, d1.marker, d2.marker), (d2.timestamp, true, false));
        assert_eq!(more.timestamp, voice.timestamp.wrapping_add(160));
        let order = [voice, d1, more, d2].map(|s| s.sequence);
        assert!(order.windows(2).all(|w| w[1] == w[0].wrapping_add(1)));
        assert_ne!(s.digit(at(500), A, &header(60, 4_000)).unwrap().timestamp, d2.timestamp);
    }
}
