//! What arrives on a leg: which stream it is, its order, its losses and its jitter (RFC 3550 A.1, A.3, A.8).
//! Duplicates and impossible jumps are sorted out here, before anyone decides what to do with a packet.

use crate::media::rtp::Header;
use crate::media::tally::Tally;
use crate::media::xr::{Bursts, Summary};
use crate::time::MediaTime;

/// Media time's samples a second.
const CLOCK: i64 = 48_000;

/// RFC 3550 A.1: a larger step forward is a restart, not loss.
const MAX_DROPOUT: u16 = 3000;
/// RFC 3550 A.1: an older packet than this is no reordering. Also what the duplicate window can see.
const MAX_MISORDER: u16 = 100;

/// What became of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// The stream goes on.
    Next,
    /// The first packet of the leg.
    First,
    /// The same stream starts anew after a jump.
    Restarted,
    /// Another SSRC: the far end is somebody else.
    Stranger,
    /// A duplicate, or the first packet after a jump, of which nobody knows yet whether it is one.
    Dropped,
}

/// What a report says about reception (RFC 3550 §6.4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    /// Of whom.
    pub ssrc: u32,
    /// Lost since the last report, of 256.
    pub fraction: u8,
    /// Lost since the beginning.
    pub lost: i64,
    /// Highest sequence number with its wraps.
    pub highest: u32,
    /// Interarrival jitter in timestamp units.
    pub jitter: u32,
}

/// One leg's reception.
#[derive(Clone, Debug)]
pub struct Reception {
    clock_hz: u32,
    stream: Option<Stream>,
    generation: u32,
    received: u64,
    lost_before: i64,
    /// Of the present stream, where somebody asked for it.
    tally: Option<Box<Tally>>,
}

#[derive(Clone, Debug)]
struct Stream {
    ssrc: u32,
    base: u32,
    highest: u32,
    /// Bit n: the packet n before the highest has come.
    seen: u128,
    /// The number that would confirm a jump.
    expected_after_jump: Option<u16>,
    received: u64,
    expected_prior: i64,
    received_prior: u64,
    transit: Option<i64>,
    /// Scaled by 16, as in A.8.
    jitter: u64,
}

impl Default for Reception {
    fn default() -> Self {
        Reception::new(8000)
    }
}

impl Reception {
    /// Of streams whose timestamps count at `clock_hz`.
    pub fn new(clock_hz: u32) -> Self {
        Reception { clock_hz: clock_hz.max(1), stream: None, generation: 0, received: 0, lost_before: 0, tally: None }
    }

    /// Whether to count what extended reports tell. Allocates.
    pub fn count(&mut self, wanted: bool) {
        match wanted {
            true => drop(self.tally.get_or_insert_default()),
            false => self.tally = None,
        }
    }

    /// Another codec from now on.
    pub fn set_clock(&mut self, clock_hz: u32) {
        if let Some(stream) = self.stream.as_mut().filter(|_| self.clock_hz != clock_hz) {
            stream.transit = None;
        }
        self.clock_hz = clock_hz.max(1);
    }

    /// A packet came that the latch let through.
    pub fn take(&mut self, now: MediaTime, header: &Header) -> Arrival {
        let arrival = match &mut self.stream {
            None => self.open(header, Arrival::First),
            Some(stream) if stream.ssrc != header.ssrc => self.open(header, Arrival::Stranger),
            Some(stream) => match stream.order(header.sequence, self.tally.as_deref_mut()) {
                Order::Fine => Arrival::Next,
                Order::Duplicate | Order::Jump => return Arrival::Dropped,
                Order::Restart => self.open(header, Arrival::Restarted),
            },
        };
        self.received += 1;
        if let Some(stream) = &mut self.stream {
            stream.received += 1;
            stream.measure(now, self.clock_hz, header.timestamp, self.tally.as_deref_mut());
        }
        arrival
    }

    /// Which of the leg's streams this is; another after each restart.
    pub fn generation(&self) -> u32 {
        self.generation
    }
    /// Packets that counted.
    pub fn received(&self) -> u64 {
        self.received
    }
    /// Cumulative loss over all streams of the leg.
    pub fn lost(&self) -> i64 {
        self.lost_before + self.stream.as_ref().map_or(0, Stream::lost)
    }
    /// Interarrival jitter in milliseconds.
    pub fn jitter_ms(&self) -> f32 {
        self.stream.as_ref().map_or(0.0, |s| s.jitter as f32 / 16.0 * 1000.0 / self.clock_hz as f32)
    }

    /// The block for the next report; begins a new interval.
    pub fn report(&mut self) -> Option<Block> {
        let stream = self.stream.as_mut()?;
        Some(Block {
            ssrc: stream.ssrc,
            fraction: stream.fraction(),
            lost: stream.lost(),
            highest: stream.highest,
            jitter: (stream.jitter >> 4) as u32,
        })
    }

    /// The present stream since the last summary; begins a new interval. `None` where nothing is counted.
    pub fn summary(&mut self) -> Option<Summary> {
        let (stream, tally) = (self.stream.as_ref()?, self.tally.as_mut()?);
        Some(tally.summary(stream.ssrc, stream.base, stream.highest, stream.received))
    }

    /// Whose the present stream is, and how it was lost, if a packet lasts so many milliseconds.
    pub fn bursts(&self, packet_ms: u64) -> Option<(u32, Bursts)> {
        Some((self.stream.as_ref()?.ssrc, self.tally.as_ref()?.bursts(packet_ms)))
    }

    fn open(&mut self, header: &Header, arrival: Arrival) -> Arrival {
        self.lost_before = self.lost();
        if let Some(tally) = &mut self.tally {
            **tally = Tally::default();
        }
        // The first number of a restart confirmed a jump, so the stream began one earlier; that packet was dropped.
        self.stream = Some(Stream {
            ssrc: header.ssrc,
            base: u32::from(header.sequence),
            highest: u32::from(header.sequence),
            seen: 1,
            expected_after_jump: None,
            received: 0,
            expected_prior: 0,
            received_prior: 0,
            transit: None,
            jitter: 0,
        });
        self.generation = self.generation.wrapping_add(1);
        arrival
    }
}

enum Order {
    Fine,
    Duplicate,
    Jump,
    Restart,
}

impl Stream {
    fn order(&mut self, sequence: u16, tally: Option<&mut Tally>) -> Order {
        let ahead = sequence.wrapping_sub(self.highest as u16);
        if (1..MAX_DROPOUT).contains(&ahead) {
            if let Some(tally) = tally {
                tally.ahead(self.highest.wrapping_sub(self.base).saturating_add(1), self.seen, u32::from(ahead));
            }
            self.highest = self.highest.wrapping_add(u32::from(ahead));
            self.seen = self.seen.checked_shl(u32::from(ahead)).unwrap_or(0) | 1;
            self.expected_after_jump = None;
            return Order::Fine;
        }
        let behind = ahead.wrapping_neg();
        if behind < MAX_MISORDER {
            let bit = 1u128 << behind;
            let duplicate = self.seen & bit != 0;
            self.seen |= bit;
            match (duplicate, tally) {
                (true, Some(tally)) => tally.duplicate(),
                (false, Some(tally)) => tally.behind(behind),
                (_, None) => {}
            }
            return if duplicate { Order::Duplicate } else { Order::Fine };
        }
        if self.expected_after_jump == Some(sequence) {
            return Order::Restart;
        }
        self.expected_after_jump = Some(sequence.wrapping_add(1));
        Order::Jump
    }

    /// RFC 3550 A.8, with both clocks in timestamp units.
    fn measure(&mut self, now: MediaTime, clock_hz: u32, timestamp: u32, tally: Option<&mut Tally>) {
        let here = i128::from(now.0) * i128::from(clock_hz) / i128::from(CLOCK);
        let transit = (here as i64).wrapping_sub(i64::from(timestamp));
        if let Some(before) = self.transit.replace(transit) {
            // Differences are taken modulo 2³², as the timestamps are.
            let step = (transit.wrapping_sub(before) as i32).unsigned_abs();
            self.jitter = self.jitter + u64::from(step) - ((self.jitter + 8) >> 4);
            if let Some(tally) = tally {
                tally.jitter(step);
            }
        }
    }

    fn expected(&self) -> i64 {
        i64::from(self.highest.wrapping_sub(self.base)) + 1
    }
    fn lost(&self) -> i64 {
        self.expected() - self.received as i64
    }

    /// RFC 3550 A.3.
    fn fraction(&mut self) -> u8 {
        let expected = self.expected() - self.expected_prior;
        let received = (self.received - self.received_prior) as i64;
        self.expected_prior += expected;
        self.received_prior = self.received;
        let lost = expected - received;
        if expected <= 0 || lost <= 0 { 0 } else { ((lost << 8) / expected).min(255) as u8 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(sequence: u16, timestamp: u32, ssrc: u32) -> Header {
        Header { marker: false, payload_type: 0, sequence, timestamp, ssrc }
    }
    fn feed(sequences: &[u16]) -> (Reception, Vec<Arrival>) {
        let mut reception = Reception::default();
        let arrivals =
            sequences.iter().map(|s| reception.take(MediaTime::ZERO, &header(*s, u32::from(*s) * 160, 1))).collect();
        (reception, arrivals)
    }

    #[test]
    fn the_order_of_packets() {
        use Arrival::*;
        let rows: [(&[u16], &[Arrival], i64); 7] = [
            (&[5, 6, 7], &[First, Next, Next], 0),
            (&[5, 7, 6], &[First, Next, Next], 0),
            (&[5, 6, 6, 5], &[First, Next, Dropped, Dropped], 0),
            (&[5, 9], &[First, Next], 3),
            (&[65_534, 65_535, 0, 2], &[First, Next, Next, Next], 1),
            (&[5, 20_000, 6], &[First, Dropped, Next], 0),
            (&[5, 20_000, 20_001, 20_002], &[First, Dropped, Restarted, Next], 0),
        ];
        for (sequences, expected, lost) in rows {
            let (reception, arrivals) = feed(sequences);
            assert_eq!(arrivals, expected, "{sequences:?}");
            assert_eq!(reception.lost(), lost, "{sequences:?}");
        }
    }

    /// What extended reports tell is counted only where somebody wants it, and of each stream anew.
    #[test]
    fn bursts_and_summaries_are_of_the_present_stream() {
        let (reception, _) = feed(&[1, 2]);
        assert_eq!((reception.clone().summary(), reception.bursts(20)), (None, None));
        let mut reception = reception;
        reception.count(true);
        let numbers: Vec<u16> = (0..100).filter(|n| ![50, 52].contains(n)).chain([99]).collect();
        for number in &numbers {
            reception.take(MediaTime::ZERO, &header(*number, 0, 2));
        }
        let summary = reception.summary().unwrap();
        assert_eq!((summary.of, summary.begin, summary.end, summary.lost, summary.duplicates), (2, 0, 100, 2, 1));
        let (of, bursts) = reception.bursts(20).unwrap();
        assert_eq!((of, bursts.burst_ms), (2, 60));
        reception.take(MediaTime::ZERO, &header(7, 0, 3));
        assert_eq!(reception.bursts(20), Some((3, Bursts::default())));
    }

    #[test]
    fn another_ssrc_is_a_stranger_and_another_generation() {
        let (mut reception, _) = feed(&[1, 2]);
        let before = reception.generation();
        assert_eq!(reception.take(MediaTime::ZERO, &header(900, 7, 2)), Arrival::Stranger);
        assert_ne!(reception.generation(), before);
        assert_eq!(reception.received(), 3);
    }

    /// RFC 3550 A.3: the fraction is of the interval, the cumulative count of the whole.
    #[test]
    fn loss_is_counted_by_interval_and_in_all() {
        let (mut reception, _) = feed(&[0, 1, 4, 5, 6, 7]);
        let block = reception.report().unwrap();
        assert_eq!((block.lost, block.fraction), (2, 64));
        for s in 8..16 {
            reception.take(MediaTime::ZERO, &header(s, 0, 1));
        }
        let block = reception.report().unwrap();
        assert_eq!((block.lost, block.fraction, block.highest), (2, 0, 15));
    }

    /// A.8: packets alternately 10 ms early and late settle at 20 ms, whatever the clock.
    #[test]
    fn jitter_settles_at_the_mean_deviation() {
        for clock_hz in [8000, 16_000, 48_000] {
            let mut reception = Reception::new(clock_hz);
            for i in 0..500u32 {
                let shift = if i % 2 == 0 { 0 } else { 20 };
                let now = MediaTime::from_millis(i64::from(i) * 20 + shift);
                reception.take(now, &header(i as u16, i * (clock_hz / 50), 1));
            }
            assert!((reception.jitter_ms() - 20.0).abs() < 0.3, "{clock_hz}: {}", reception.jitter_ms());
            assert!(reception.report().unwrap().jitter.abs_diff(clock_hz / 50) < clock_hz / 2000);
        }
    }
}
