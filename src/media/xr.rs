//! Extended reports (RFC 3611): round trips for those who send nothing, by receiver reference times (§4.4) and their
//! echoes (§4.5). To be sent only where `a=rtcp-xr:rcvr-rtt` was agreed (§5.1). Bytes in, values out, and back.

use crate::media::rtcp::{ntp, round_trip};
use crate::time::{MediaTime, Samples};

const EXTENDED: u8 = 207;
const REFERENCE: u8 = 4;
const ECHO: u8 = 5;
/// Media time in a second, of which 1/65536 is one unit of an echo's delay.
const CLOCK: i128 = 48_000;

/// A reference time that came, to be echoed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reference {
    ssrc: u32,
    middle: u32,
    at: MediaTime,
}

/// What a datagram's extended reports tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// The far end's time.
    pub reference: Option<Reference>,
    /// The round trip, from an echo of ours.
    pub round_trip: Option<Samples>,
}

/// Writes one extended report from `ours` to the end of `out`, for a compound that began with SR or RR (§2): our time,
/// and the echo of the last that came.
pub fn write(now: MediaTime, ours: u32, echo: Option<Reference>, out: &mut Vec<u8>) {
    let words: u16 = if echo.is_some() { 8 } else { 4 };
    out.extend_from_slice(&[0x80, EXTENDED]);
    out.extend_from_slice(&words.to_be_bytes());
    out.extend_from_slice(&ours.to_be_bytes());
    out.extend_from_slice(&[REFERENCE, 0, 0, 2]);
    out.extend_from_slice(&ntp(now).to_be_bytes());
    if let Some(reference) = echo {
        let kept = i128::from((now - reference.at).0.max(0)) * 65_536 / CLOCK;
        out.extend_from_slice(&[ECHO, 0, 0, 3]);
        out.extend_from_slice(&reference.ssrc.to_be_bytes());
        out.extend_from_slice(&reference.middle.to_be_bytes());
        out.extend_from_slice(&(kept.min(i128::from(u32::MAX)) as u32).to_be_bytes());
    }
}

/// Reads the extended reports of a datagram in which `ours` is our SSRC. What does not fit its own length ends it.
pub fn read(now: MediaTime, ours: u32, mut bytes: &[u8]) -> Told {
    let mut told = Told::default();
    while let Some((kind, body, rest)) = packet(bytes) {
        if let (EXTENDED, Some((ssrc, blocks))) = (kind, body.split_first_chunk()) {
            read_blocks(now, ours, u32::from_be_bytes(*ssrc), blocks, &mut told);
        }
        bytes = rest;
    }
    told
}

fn read_blocks(now: MediaTime, ours: u32, ssrc: u32, mut bytes: &[u8], told: &mut Told) {
    while let Some(([kind, _, l0, l1], rest)) = bytes.split_first_chunk() {
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
            // Blocks we have no use for (§3: to be ignored).
            _ => {}
        }
        bytes = rest;
    }
}

/// The next RTCP packet of a datagram: its type, what follows its first word, and the rest.
fn packet(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let ([flags, kind, l0, l1], rest) = bytes.split_first_chunk()?;
    let (body, rest) = rest.split_at_checked(4 * usize::from(u16::from_be_bytes([*l0, *l1])))?;
    (flags >> 6 == 2).then_some((*kind, body, rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::seed::Seed;
    use rtc_rtcp::extended_report::{DLRRReportBlock, ExtendedReport, ReceiverReferenceTimeReportBlock};

    fn written(now: MediaTime, ours: u32, echo: Option<Reference>) -> Vec<u8> {
        // A receiver report before it, as a compound begins.
        let mut out = vec![0x80, 201, 0, 1, 0, 0, 0, 7];
        write(now, ours, echo, &mut out);
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
        let bytes = written(MediaTime::from_millis(2500), 7, Some(echo));
        let packets = rtc_rtcp::packet::unmarshal(&mut &bytes[..]).unwrap();
        let report = packets[1].as_any().downcast_ref::<ExtendedReport>().unwrap();
        let reference = report.reports[0].as_any().downcast_ref::<ReceiverReferenceTimeReportBlock>().unwrap();
        assert_eq!((report.sender_ssrc, reference.ntp_timestamp), (7, (5 << 32) / 2));
        let echo = &report.reports[1].as_any().downcast_ref::<DLRRReportBlock>().unwrap().reports[0];
        assert_eq!((echo.ssrc, echo.last_rr, echo.dlrr), (9, 0xABCD, 2 << 16));
    }

    #[test]
    fn garbage_never_panics() {
        let mut seed = Seed::new(2);
        let echo = Reference { ssrc: 9, middle: 1, at: MediaTime::ZERO };
        let good = written(MediaTime::from_millis(2500), 7, Some(echo));
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
