//! Extended reports (RFC 3611): round trips for those who send nothing, by receiver reference times (§4.4) and their
//! echoes (§4.5), a summary of what was received (§4.6), and what it is like to listen to (§4.7). Each block goes to
//! whoever asked for it (§5.1). Bytes in, values out, and back.

use crate::media::rtcp::{first, ntp, round_trip};
use crate::media::tally::GMIN;
use crate::time::{MediaTime, Samples};
use serde::{Deserialize, Serialize};

const EXTENDED: u8 = 207;
const REFERENCE: u8 = 4;
const ECHO: u8 = 5;
const SUMMARY: u8 = 6;
const METRICS: u8 = 7;
/// Media time in a second, of which 1/65536 is one unit of an echo's delay.
const CLOCK: i128 = 48_000;
/// §4.6: losses, duplicates and jitter are told; times to live are not.
const SUMMED: u8 = 0b1110_0000;
/// §4.7.3 and §4.7.5: not known.
const UNKNOWN: u8 = 127;

/// Which extended reports an end wants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Wish {
    /// Reference times and their echoes (`rcvr-rtt`).
    pub round_trip: bool,
    /// The summary of what was received (`stat-summary`).
    pub summary: bool,
    /// What it is like to listen to (`voip-metrics`).
    pub metrics: bool,
}

impl Wish {
    /// All that we know.
    pub const ALL: Wish = Wish { round_trip: true, summary: true, metrics: true };

    /// Whether there is anything to send.
    pub fn any(self) -> bool {
        self.round_trip || self.summary || self.metrics
    }
}

/// A reference time that came, to be echoed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reference {
    ssrc: u32,
    middle: u32,
    at: MediaTime,
}

/// The packets of one stream in an interval (§4.6). Jitter is in timestamp units.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Whose packets.
    pub of: u32,
    /// The first number.
    pub begin: u16,
    /// The number after the last.
    pub end: u16,
    /// Never came.
    pub lost: u32,
    /// Came twice.
    pub duplicates: u32,
    /// The smallest difference of two transit times, and so on.
    pub least: u32,
    /// The largest.
    pub most: u32,
    /// Their mean.
    pub mean: u32,
    /// Their standard deviation.
    pub deviation: u32,
}

/// Losses since the beginning, in bursts and in the gaps between them (§4.7.1, §4.7.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Bursts {
    /// Never came.
    pub lost_percent: f32,
    /// Came too late.
    pub discarded_percent: f32,
    /// Either, within bursts.
    pub burst_lost_percent: f32,
    /// Either, between them.
    pub gap_lost_percent: f32,
    /// The mean length of a burst.
    pub burst_ms: u16,
    /// The mean length of a gap.
    pub gap_ms: u16,
}

/// What it is like to listen to a stream (§4.7).
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Metrics {
    /// Whose.
    #[serde(skip)]
    pub of: u32,
    /// How it was lost.
    #[serde(flatten)]
    pub bursts: Bursts,
    /// From here to there and back.
    pub round_trip_ms: u16,
    /// What the jitter buffer adds now.
    pub buffer_ms: u16,
    /// What it adds at most.
    pub most_buffer_ms: u16,
    /// Mean opinion score for listening, 1 to 5, where the far end reckons one.
    pub mos_listening: Option<f32>,
    /// The same for talking with each other.
    pub mos_conversing: Option<f32>,
}

/// What one extended report of ours tells. What is not there is left out.
#[derive(Clone, Copy, Debug, Default)]
pub struct Report {
    /// Our time, and the echo of the last that came.
    pub reference: Option<Option<Reference>>,
    /// The summary.
    pub summary: Option<Summary>,
    /// The metrics.
    pub metrics: Option<Metrics>,
}

/// What a datagram's extended reports tell.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Told {
    /// The far end's time.
    pub reference: Option<Reference>,
    /// The round trip, from an echo of ours.
    pub round_trip: Option<Samples>,
    /// What the far end received of us.
    pub summary: Option<Summary>,
    /// What we are like to listen to.
    pub metrics: Option<Metrics>,
}

/// Writes one extended report from `ours` to the end of `out`, for a compound that began with SR or RR (§2).
pub fn write(now: MediaTime, ours: u32, report: &Report, out: &mut Vec<u8>) {
    let echo = report.reference.flatten();
    let words = |there: bool, words: u16| if there { words } else { 0 };
    let length = 1
        + words(report.reference.is_some(), 3)
        + words(echo.is_some(), 4)
        + words(report.summary.is_some(), 10)
        + words(report.metrics.is_some(), 9);
    out.extend_from_slice(&[0x80, EXTENDED]);
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(&ours.to_be_bytes());
    if report.reference.is_some() {
        out.extend_from_slice(&[REFERENCE, 0, 0, 2]);
        out.extend_from_slice(&ntp(now).to_be_bytes());
    }
    if let Some(reference) = echo {
        let kept = i128::from((now - reference.at).0.max(0)) * 65_536 / CLOCK;
        out.extend_from_slice(&[ECHO, 0, 0, 3]);
        out.extend_from_slice(&reference.ssrc.to_be_bytes());
        out.extend_from_slice(&reference.middle.to_be_bytes());
        out.extend_from_slice(&(kept.min(i128::from(u32::MAX)) as u32).to_be_bytes());
    }
    report.summary.iter().for_each(|s| s.write(out));
    report.metrics.iter().for_each(|m| m.write(out));
}

/// Reads the extended reports of a datagram in which `ours` is our SSRC. What does not fit its own length ends it.
pub fn read(now: MediaTime, ours: u32, mut bytes: &[u8]) -> Told {
    let mut told = Told::default();
    while let Some((kind, packet, rest)) = first(bytes) {
        if let (EXTENDED, Some((_, body))) = (kind, packet.split_first_chunk::<4>())
            && let Some((ssrc, blocks)) = body.split_first_chunk()
        {
            read_blocks(now, ours, u32::from_be_bytes(*ssrc), blocks, &mut told);
        }
        bytes = rest;
    }
    told
}

fn read_blocks(now: MediaTime, ours: u32, ssrc: u32, mut bytes: &[u8], told: &mut Told) {
    while let Some(([kind, flags, l0, l1], rest)) = bytes.split_first_chunk() {
        let Some((body, rest)) = rest.split_at_checked(4 * usize::from(u16::from_be_bytes([*l0, *l1]))) else { return };
        match (*kind, body) {
            (REFERENCE, [_, _, m0, m1, m2, m3, _, _]) => {
                let middle = u32::from_be_bytes([*m0, *m1, *m2, *m3]);
                told.reference = Some(Reference { ssrc, middle, at: now });
            }
            (ECHO, echoes) => {
                for [to, time, kept] in echoes.as_chunks::<4>().0.as_chunks::<3>().0 {
                    if u32::from_be_bytes(*to) == ours {
                        told.round_trip = round_trip(now, u32::from_be_bytes(*time), u32::from_be_bytes(*kept));
                    }
                }
            }
            (SUMMARY, body) => told.summary = Summary::read(*flags, body).filter(|s| s.of == ours).or(told.summary),
            (METRICS, body) => told.metrics = Metrics::read(body).filter(|m| m.of == ours).or(told.metrics),
            // Blocks we have no use for (§3: to be ignored).
            _ => {}
        }
        bytes = rest;
    }
}

impl Summary {
    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&[SUMMARY, SUMMED, 0, 9]);
        out.extend_from_slice(&self.of.to_be_bytes());
        out.extend_from_slice(&self.begin.to_be_bytes());
        out.extend_from_slice(&self.end.to_be_bytes());
        for count in [self.lost, self.duplicates, self.least, self.most, self.mean, self.deviation, 0] {
            out.extend_from_slice(&count.to_be_bytes());
        }
    }

    /// What a flag does not vouch for is 0.
    fn read(flags: u8, body: &[u8]) -> Option<Summary> {
        let (words, []) = body.as_chunks::<4>() else { return None };
        let [of, [b0, b1, e0, e1], counts @ ..] = <&[[u8; 4]; 9]>::try_from(words).ok()?;
        let [lost, duplicates, least, most, mean, deviation, _] = counts.map(u32::from_be_bytes);
        let told = |flag: u8, value: u32| if flags & flag != 0 { value } else { 0 };
        Some(Summary {
            of: u32::from_be_bytes(*of),
            begin: u16::from_be_bytes([*b0, *b1]),
            end: u16::from_be_bytes([*e0, *e1]),
            lost: told(0x80, lost),
            duplicates: told(0x40, duplicates),
            least: told(0x20, least),
            most: told(0x20, most),
            mean: told(0x20, mean),
            deviation: told(0x20, deviation),
        })
    }
}

impl Metrics {
    fn write(&self, out: &mut Vec<u8>) {
        let Bursts { lost_percent, discarded_percent, burst_lost_percent, gap_lost_percent, .. } = self.bursts;
        let part = |percent: f32| (percent * 2.56) as u8;
        let score = |mos: Option<f32>| mos.map_or(UNKNOWN, |mos| (mos * 10.0) as u8);
        out.extend_from_slice(&[METRICS, 0, 0, 8]);
        out.extend_from_slice(&self.of.to_be_bytes());
        out.extend_from_slice(&[lost_percent, discarded_percent, burst_lost_percent, gap_lost_percent].map(part));
        for ms in [self.bursts.burst_ms, self.bursts.gap_ms, self.round_trip_ms, 0] {
            out.extend_from_slice(&ms.to_be_bytes());
        }
        out.extend_from_slice(&[UNKNOWN, UNKNOWN, UNKNOWN, GMIN]);
        out.extend_from_slice(&[UNKNOWN, UNKNOWN, score(self.mos_listening), score(self.mos_conversing)]);
        // §4.7.6: losses are concealed better than by silence, and the buffer adapts.
        out.extend_from_slice(&[0b1011_0000, 0]);
        for ms in [self.buffer_ms, self.most_buffer_ms, self.most_buffer_ms] {
            out.extend_from_slice(&ms.to_be_bytes());
        }
    }

    fn read(body: &[u8]) -> Option<Metrics> {
        let (words, []) = body.as_chunks::<4>() else { return None };
        let [
            of,
            [lost, discarded, burst, gap],
            lengths,
            delays,
            _,
            [_, _, listening, conversing],
            [_, _, b0, b1],
            [m0, m1, _, _],
        ] = <&[[u8; 4]; 8]>::try_from(words).ok()?;
        let percent = |part: &u8| f32::from(*part) / 2.56;
        // §4.7.5: 10 to 50, else not known.
        let score = |tenths: &u8| (10..=50).contains(tenths).then(|| f32::from(*tenths) / 10.0);
        Some(Metrics {
            of: u32::from_be_bytes(*of),
            bursts: Bursts {
                lost_percent: percent(lost),
                discarded_percent: percent(discarded),
                burst_lost_percent: percent(burst),
                gap_lost_percent: percent(gap),
                burst_ms: u16::from_be_bytes([lengths[0], lengths[1]]),
                gap_ms: u16::from_be_bytes([lengths[2], lengths[3]]),
            },
            round_trip_ms: u16::from_be_bytes([delays[0], delays[1]]),
            buffer_ms: u16::from_be_bytes([*b0, *b1]),
            most_buffer_ms: u16::from_be_bytes([*m0, *m1]),
            mos_listening: score(listening),
            mos_conversing: score(conversing),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::seed::Seed;
    use rtc_rtcp::extended_report::{
        DLRRReportBlock, ExtendedReport, ReceiverReferenceTimeReportBlock, StatisticsSummaryReportBlock,
        VoIPMetricsReportBlock,
    };

    const TOLD: Summary =
        Summary { of: 9, begin: 65_530, end: 4, lost: 2, duplicates: 1, least: 3, most: 60, mean: 20, deviation: 11 };
    const LIKE: Metrics = Metrics {
        of: 9,
        bursts: Bursts {
            lost_percent: 25.0,
            discarded_percent: 0.0,
            burst_lost_percent: 50.0,
            gap_lost_percent: 12.5,
            burst_ms: 160,
            gap_ms: 920,
        },
        round_trip_ms: 150,
        buffer_ms: 40,
        most_buffer_ms: 240,
        mos_listening: None,
        mos_conversing: None,
    };

    fn written(now: MediaTime, ours: u32, echo: Option<Reference>) -> Vec<u8> {
        // A receiver report before it, as a compound begins.
        let mut out = vec![0x80, 201, 0, 1, 0, 0, 0, 7];
        write(now, ours, &Report { reference: Some(echo), ..Report::default() }, &mut out);
        out
    }

    fn whole(echo: Reference) -> Vec<u8> {
        let report = Report { reference: Some(Some(echo)), summary: Some(TOLD), metrics: Some(LIKE) };
        let mut out = vec![0x80, 201, 0, 1, 0, 0, 0, 7];
        write(MediaTime::from_millis(2500), 7, &report, &mut out);
        out
    }

    /// 60 ms there, kept for two seconds, 90 ms back, between clocks that have nothing in common.
    #[test]
    fn who_sends_nothing_knows_the_round_trip_too() {
        let far = |ms: i64| MediaTime::from_millis(ms + 777_777);
        let there = read(far(10_060), 9, &written(MediaTime::from_millis(10_000), 7, None));
        assert_eq!(there.round_trip, None);
        let back = written(far(12_060), 9, there.reference);
        let told = read(MediaTime::from_millis(12_150), 7, &back);
        assert!((149..=150).contains(&told.round_trip.unwrap().as_millis()), "{told:?}");
        assert_eq!(read(MediaTime::from_millis(12_150), 8, &back).round_trip, None, "an echo for somebody else");
    }

    #[test]
    fn another_parser_reads_our_reports() {
        let echo = Reference { ssrc: 9, middle: 0xABCD, at: MediaTime::from_millis(500) };
        let bytes = whole(echo);
        let packets = rtc_rtcp::packet::unmarshal(&mut &bytes[..]).unwrap();
        let report = packets[1].as_any().downcast_ref::<ExtendedReport>().unwrap();
        let reference = report.reports[0].as_any().downcast_ref::<ReceiverReferenceTimeReportBlock>().unwrap();
        assert_eq!((report.sender_ssrc, reference.ntp_timestamp), (7, (5 << 32) / 2));
        let echo = &report.reports[1].as_any().downcast_ref::<DLRRReportBlock>().unwrap().reports[0];
        assert_eq!((echo.ssrc, echo.last_rr, echo.dlrr), (9, 0xABCD, 2 << 16));
        let summary = report.reports[2].as_any().downcast_ref::<StatisticsSummaryReportBlock>().unwrap();
        assert!(summary.loss_reports && summary.duplicate_reports && summary.jitter_reports);
        assert_eq!((summary.ssrc, summary.begin_seq, summary.end_seq), (9, 65_530, 4));
        assert_eq!((summary.lost_packets, summary.dup_packets), (2, 1));
        assert_eq!((summary.min_jitter, summary.max_jitter), (3, 60));
        assert_eq!((summary.mean_jitter, summary.dev_jitter), (20, 11));
        let metrics = report.reports[3].as_any().downcast_ref::<VoIPMetricsReportBlock>().unwrap();
        assert_eq!((metrics.ssrc, metrics.loss_rate, metrics.discard_rate), (9, 64, 0));
        assert_eq!((metrics.burst_density, metrics.gap_density), (128, 32));
        assert_eq!((metrics.burst_duration, metrics.gap_duration, metrics.round_trip_delay), (160, 920, 150));
        assert_eq!((metrics.gmin, metrics.mos_lq, metrics.rfactor), (16, 127, 127));
        assert_eq!((metrics.rx_config, metrics.jb_nominal, metrics.jb_abs_max), (0xB0, 40, 240));
    }

    #[test]
    fn what_is_told_of_us_is_read_and_of_others_is_not() {
        let bytes = whole(Reference { ssrc: 9, middle: 1, at: MediaTime::ZERO });
        let told = read(MediaTime::ZERO, 9, &bytes);
        assert_eq!((told.summary, told.metrics), (Some(TOLD), Some(LIKE)));
        let told = read(MediaTime::ZERO, 8, &bytes);
        assert_eq!((told.summary, told.metrics), (None, None));
    }

    #[test]
    fn garbage_never_panics() {
        let mut seed = Seed::new(2);
        let echo = Reference { ssrc: 9, middle: 1, at: MediaTime::ZERO };
        let good = whole(echo);
        for _ in 0..100_000 {
            let mut bytes = good.clone();
            for _ in 0..=seed.below(4) {
                let at = seed.below(bytes.len() as u64) as usize;
                bytes[at] = seed.bits() as u8;
            }
            bytes.truncate(seed.below(bytes.len() as u64 + 1) as usize);
            read(MediaTime::ZERO, 7, &bytes);
        }
    }
}
