//! What extended reports tell of reception beyond RFC 3550: losses in bursts and in the gaps between them (RFC 3611
//! §4.7.2), duplicates, and how jitter was spread (§4.6). Counted only for those who asked for it.

use crate::media::xr::{Bursts, Summary};

/// So many packets received in a row end a burst (§4.7.2 recommends it).
pub const GMIN: u8 = 16;
/// A packet counts as lost when this many later ones have come: 240 ms of packets of 20 ms, as long as any ear waits.
const SETTLED: u32 = 12;

/// The counts of one stream.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    gaps: Gaps,
    /// Came after they had been counted as lost.
    late: u64,
    interval: Interval,
}

/// Since the last summary.
#[derive(Clone, Copy, Debug, Default)]
struct Interval {
    /// The highest number and the packets received when it began.
    since: Option<(u32, u64)>,
    duplicates: u32,
    jitter: Spread,
}

impl Tally {
    /// A packet came twice.
    pub fn duplicate(&mut self) {
        self.interval.duplicates = self.interval.duplicates.saturating_add(1);
    }

    /// A transit time differed by so many timestamp units from that of the packet before.
    pub fn jitter(&mut self, step: u32) {
        self.interval.jitter.add(step);
    }

    /// A packet came out of order, so many before the highest.
    pub fn behind(&mut self, behind: u16) {
        self.late += u64::from(u32::from(behind) >= SETTLED);
    }

    /// The highest number goes on by `steps`: what now lies far enough behind it is settled. Before that step `known`
    /// packets had come or been missed, and bit n of `seen` is the one n before the highest.
    pub fn ahead(&mut self, known: u32, seen: u128, steps: u32) {
        for depth in (SETTLED.saturating_sub(steps)..SETTLED.min(known)).rev() {
            match seen >> depth & 1 {
                0 => self.gaps.lose(1),
                _ => self.gaps.receive(),
            }
        }
        // Of a long step, what lies in it itself.
        self.gaps.lose(u64::from(steps.saturating_sub(SETTLED)));
    }

    /// What is told of bursts and gaps, when a packet lasts so many milliseconds.
    pub fn bursts(&self, packet_ms: u64) -> Bursts {
        let gaps = self.gaps.closed();
        let milliseconds = |packets: u64, count: u64| (packets * packet_ms / count).try_into().unwrap_or(u16::MAX);
        let quiet = gaps.settled - gaps.in_bursts;
        let late = self.late.min(gaps.lost);
        Bursts {
            lost_percent: percent(gaps.lost - late, gaps.settled),
            discarded_percent: percent(late, gaps.settled),
            burst_lost_percent: percent(gaps.lost_in_bursts, gaps.in_bursts),
            gap_lost_percent: percent(gaps.lost - gaps.lost_in_bursts, quiet),
            burst_ms: milliseconds(gaps.in_bursts, gaps.bursts.max(1)),
            gap_ms: milliseconds(quiet, gaps.bursts + 1),
        }
    }

    /// What is told of the stream `of` since the last summary: it began with number `base`, and so many packets of it
    /// were received. Begins a new interval.
    pub fn summary(&mut self, of: u32, base: u32, highest: u32, received: u64) -> Summary {
        let (before, received_before) = self.interval.since.unwrap_or((base.wrapping_sub(1), 0));
        let expected = u64::from(highest.wrapping_sub(before));
        let Interval { duplicates, jitter, .. } = self.interval;
        self.interval = Interval { since: Some((highest, received)), ..Interval::default() };
        let came = received.saturating_sub(received_before);
        Summary {
            of,
            begin: before.wrapping_add(1) as u16,
            end: highest.wrapping_add(1) as u16,
            lost: expected.saturating_sub(came).try_into().unwrap_or(u32::MAX),
            duplicates,
            least: jitter.least,
            most: jitter.most,
            mean: jitter.mean() as u32,
            deviation: jitter.deviation() as u32,
        }
    }
}

fn percent(part: u64, of: u64) -> f32 {
    100.0 * part as f32 / of.max(1) as f32
}

#[derive(Clone, Copy, Debug, Default)]
struct Spread {
    count: u64,
    sum: u64,
    squares: u128,
    least: u32,
    most: u32,
}

impl Spread {
    fn add(&mut self, value: u32) {
        self.least = if self.count == 0 { value } else { self.least.min(value) };
        self.most = self.most.max(value);
        self.count += 1;
        self.sum += u64::from(value);
        self.squares += u128::from(value) * u128::from(value);
    }
    fn mean(&self) -> f64 {
        self.sum as f64 / self.count.max(1) as f64
    }
    fn deviation(&self) -> f64 {
        (self.squares as f64 / self.count.max(1) as f64 - self.mean().powi(2)).max(0.0).sqrt()
    }
}

/// Packets in order of their numbers. A burst begins and ends with a loss, has at least two, and no [`GMIN`] packets
/// received in a row; everything else is of gaps.
#[derive(Clone, Copy, Debug, Default)]
struct Gaps {
    settled: u64,
    lost: u64,
    bursts: u64,
    in_bursts: u64,
    lost_in_bursts: u64,
    /// What may be a burst: its packets until its last loss, its losses, and what was received since.
    packets: u64,
    losses: u64,
    since: u64,
}

impl Gaps {
    fn receive(&mut self) {
        self.settled += 1;
        self.since += 1;
        if self.since == u64::from(GMIN) {
            *self = self.closed();
        }
    }

    /// So many in a row.
    fn lose(&mut self, count: u64) {
        if count == 0 {
            return;
        }
        self.settled += count;
        self.lost += count;
        self.packets += count + if self.losses > 0 { self.since } else { 0 };
        self.losses += count;
        self.since = 0;
    }

    /// As if what may be a burst were over.
    fn closed(self) -> Gaps {
        let mut gaps = Gaps { packets: 0, losses: 0, ..self };
        if self.losses > 1 {
            gaps.bursts += 1;
            gaps.in_bursts += self.packets;
            gaps.lost_in_bursts += self.losses;
        }
        gaps
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each packet as it is settled: received or not.
    fn gaps(packets: &str) -> Tally {
        let mut tally = Tally::default();
        for packet in packets.chars() {
            match packet {
                '.' => tally.gaps.receive(),
                _ => tally.gaps.lose(1),
            }
        }
        tally
    }

    #[test]
    fn losses_close_together_are_a_burst_and_lone_ones_are_not() {
        let quiet = ".".repeat(20);
        for (packets, lost_in_bursts, in_bursts, bursts) in [
            (format!("{quiet}x{quiet}x{quiet}"), 0, 0, 0),
            (format!("{quiet}xx{quiet}"), 2, 2, 1),
            (format!("{quiet}x..x.x{quiet}x{quiet}"), 3, 6, 1),
            (format!("x{}x{}x", ".".repeat(15), ".".repeat(16)), 2, 17, 1),
            (format!("xx{quiet}xxx"), 5, 5, 2),
            (quiet.clone(), 0, 0, 0),
            (String::new(), 0, 0, 0),
        ] {
            let found = gaps(&packets).gaps.closed();
            assert_eq!(
                (found.lost_in_bursts, found.in_bursts, found.bursts),
                (lost_in_bursts, in_bursts, bursts),
                "{packets}"
            );
            assert_eq!((found.settled, found.lost), (packets.len() as u64, packets.matches('x').count() as u64));
        }
    }

    #[test]
    fn bursts_are_told_in_percent_and_milliseconds() {
        let quiet = ".".repeat(45);
        let told = gaps(&format!("{quiet}x..xx..x{quiet}x.")).bursts(20);
        assert_eq!((told.lost_percent, told.burst_lost_percent), (5.0, 50.0));
        assert_eq!((told.burst_ms, told.gap_ms), (160, 920));
        assert!((told.gap_lost_percent - 100.0 / 92.0).abs() < 1e-4);
        assert_eq!(Tally::default().bursts(20), Bursts::default());
    }

    /// A packet that overtakes others is no loss; one that comes when nobody waits for it any more is thrown away.
    #[test]
    fn what_is_late_is_not_lost_until_nobody_waits() {
        let play = |order: &[u32]| {
            let (mut tally, mut highest, mut seen) = (Tally::default(), order[0], 1u128);
            for number in &order[1..] {
                if *number > highest {
                    let steps = number - highest;
                    tally.ahead(highest - order[0] + 1, seen, steps);
                    seen = seen.checked_shl(steps).unwrap_or(0) | 1;
                    highest = *number;
                } else {
                    seen |= 1 << (highest - number);
                    tally.behind((highest - number) as u16);
                }
            }
            (tally.gaps.settled, tally.gaps.lost, tally.late)
        };
        let until = |n: u32| (0..n).collect::<Vec<_>>();
        assert_eq!(play(&until(40)), (28, 0, 0));
        assert_eq!(play(&[until(10), vec![11, 10], (12..40).collect()].concat()), (28, 0, 0));
        assert_eq!(play(&[until(10), (11..40).collect()].concat()), (28, 1, 0));
        assert_eq!(play(&[until(10), (11..35).collect(), vec![10], (35..40).collect()].concat()), (28, 1, 1));
        assert_eq!(play(&[until(10), (500..540).collect()].concat()), (528, 490, 0));
    }

    #[test]
    fn a_summary_is_of_its_interval() {
        let mut tally = Tally::default();
        for step in [10, 20, 60] {
            tally.jitter(step);
        }
        tally.duplicate();
        let first = tally.summary(9, 100, 149, 48);
        assert_eq!((first.of, first.begin, first.end, first.lost, first.duplicates), (9, 100, 150, 2, 1));
        assert_eq!((first.least, first.most, first.mean, first.deviation), (10, 60, 30, 21));
        let second = tally.summary(9, 100, 199, 98);
        assert_eq!((second.begin, second.end, second.lost, second.duplicates, second.most), (150, 200, 0, 0, 0));
    }
}
