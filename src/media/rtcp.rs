//! Reports to and from the far end of a leg (RFC 3550 §6): written by hand into a buffer, read with rtc-rtcp.
//!
//! The core has no wall clock. §4 lets the NTP timestamp be any clock that is the same throughout the session, so it
//! is media time, counted from the beginning of the call.

use crate::media::reception::Block;
use crate::media::seed::Seed;
use crate::time::{MediaTime, Samples};
use rtc_rtcp::receiver_report::ReceiverReport;
use rtc_rtcp::sender_report::SenderReport;

/// §6.2: the least interval between reports.
const INTERVAL: Samples = Samples::from_millis(5000);
/// What an Ethernet frame carries; a larger datagram is no report to us.
const MAX_REPORT: usize = 1472;
/// Packets in one datagram; each is at least 4 bytes, so a hostile one could hold 368.
const MAX_PACKETS: usize = 16;
/// Media time in one unit of NTP's middle 32 bits (1/65536 s).
const CLOCK: i128 = 48_000;

/// The longest round trip believed, 30 s, and how far rounding may take one below nothing, in 1/65536 s.
const LONGEST: i32 = 30 << 16;
const EARLY: i32 = 66;

const SENDER_REPORT: u8 = 200;
const RECEIVER_REPORT: u8 = 201;
const DESCRIPTION: u8 = 202;
const GOODBYE: u8 = 203;

/// What the far end told of its clock, for our next block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heard {
    ssrc: u32,
    /// The middle 32 bits of its NTP timestamp.
    middle: u32,
    at: MediaTime,
}

/// What the report says about us.
#[derive(Clone, Copy, Debug)]
pub struct Sent {
    /// Our SSRC.
    pub ssrc: u32,
    /// Whether anything was sent since the last report but one: a sender report, else a receiver report (§6.4).
    pub active: bool,
    /// The timestamp a packet sent now would carry.
    pub timestamp: u32,
    /// Packets and payload bytes sent since the beginning.
    pub packets: u64,
    /// Payload bytes.
    pub octets: u64,
}

/// §6.3.1: when the next report is due, between half and one and a half intervals from now; half of that for the first.
pub fn due(now: MediaTime, seed: &mut Seed, first: bool) -> MediaTime {
    let spread = INTERVAL.0 / 2 + seed.below(INTERVAL.0 as u64) as i64;
    now + Samples(if first { spread / 2 } else { spread })
}

/// The canonical name of a leg (§6.5.1, RFC 7022 §4.2): the same throughout, tells nothing.
#[derive(Clone, Copy, Debug)]
pub struct Name([u8; 16]);

impl Name {
    /// Sixteen hexadecimal digits from the seed.
    pub fn new(seed: &mut Seed) -> Self {
        let bits = seed.bits();
        Name(std::array::from_fn(|i| b"0123456789abcdef"[(bits >> (4 * i)) as usize & 15]))
    }
}

/// Writes a compound report to the end of `out`: SR or RR, and SDES.
pub fn write(now: MediaTime, sent: Sent, name: Name, block: Option<(Block, Option<Heard>)>, out: &mut Vec<u8>) {
    let blocks = u16::from(block.is_some());
    if sent.active {
        head(out, blocks as u8, SENDER_REPORT, 6 + 6 * blocks);
        out.extend_from_slice(&sent.ssrc.to_be_bytes());
        out.extend_from_slice(&ntp(now).to_be_bytes());
        out.extend_from_slice(&sent.timestamp.to_be_bytes());
        out.extend_from_slice(&(sent.packets as u32).to_be_bytes());
        out.extend_from_slice(&(sent.octets as u32).to_be_bytes());
    } else {
        head(out, blocks as u8, RECEIVER_REPORT, 1 + 6 * blocks);
        out.extend_from_slice(&sent.ssrc.to_be_bytes());
    }
    if let Some((block, heard)) = block {
        write_block(now, block, heard, out);
    }
    describe(sent.ssrc, name, out);
}

/// Writes a BYE to the end of a compound: the stream is over, and nothing comes after it (§6.1).
pub fn write_goodbye(ssrc: u32, out: &mut Vec<u8>) {
    head(out, 1, GOODBYE, 1);
    out.extend_from_slice(&ssrc.to_be_bytes());
}

/// What a datagram tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// The far end's clock, from its last sender report.
    pub clock: Option<Heard>,
    /// How the far end receives us, from the last block that is of us.
    pub of_us: Option<OfUs>,
}

/// How the far end receives what we send (§6.4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OfUs {
    /// Lost since its report before, of 256.
    pub fraction: u8,
    /// Jitter in timestamp units.
    pub jitter: u32,
    /// From here to there and back, without the time it kept our report; `None` before it had one.
    pub round_trip: Option<Samples>,
}

/// Reads a datagram in which `ours` is our SSRC. Whatever else it holds changes nothing here.
pub fn read(now: MediaTime, ours: u32, bytes: &[u8]) -> Option<Told> {
    if bytes.len() > MAX_REPORT || packets_in(bytes)? > MAX_PACKETS {
        return None;
    }
    let (mut told, mut rest) = (Told::default(), bytes);
    while let Some((kind, packet, later)) = first(rest) {
        if kind == SENDER_REPORT || kind == RECEIVER_REPORT {
            read_report(now, ours, packet, &mut told)?;
        }
        rest = later;
    }
    Some(told)
}

fn read_report(now: MediaTime, ours: u32, packet: &[u8], told: &mut Told) -> Option<()> {
    for packet in rtc_rtcp::packet::unmarshal(&mut &packet[..]).ok()? {
        let any = packet.as_any();
        let blocks = if let Some(report) = any.downcast_ref::<SenderReport>() {
            told.clock = Some(Heard { ssrc: report.ssrc, middle: (report.ntp_time >> 16) as u32, at: now });
            &report.reports
        } else if let Some(report) = any.downcast_ref::<ReceiverReport>() {
            &report.reports
        } else {
            continue;
        };
        if let Some(block) = blocks.iter().rev().find(|block| block.ssrc == ours) {
            let round_trip = round_trip(now, block.last_sender_report, block.delay);
            told.of_us = Some(OfUs { fraction: block.fraction_lost, jitter: block.jitter, round_trip });
        }
    }
    Some(())
}

/// §6.4.1: now, less our report's time, less how long it was kept, all in 1/65536 s modulo 2³². What cannot be is none.
pub(crate) fn round_trip(now: MediaTime, last_report: u32, kept: u32) -> Option<Samples> {
    let took = middle(now).wrapping_sub(last_report).wrapping_sub(kept) as i32;
    let possible = last_report != 0 && (-EARLY..=LONGEST).contains(&took);
    possible.then(|| Samples(i64::from(took.max(0)) * CLOCK as i64 / 65_536))
}

/// How many packets a datagram says it holds; `None` if their lengths do not fit it (§A.2).
fn packets_in(mut bytes: &[u8]) -> Option<usize> {
    let mut count = 0;
    while let Some((_, _, rest)) = first(bytes) {
        bytes = rest;
        count += 1;
    }
    (bytes.is_empty() && count > 0).then_some(count)
}

/// The first packet of a datagram: its type, all of it, and what follows. `None` at the end, and where its length does
/// not fit.
pub(crate) fn first(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let [flags, kind, l0, l1, ..] = bytes else { return None };
    let (packet, rest) = bytes.split_at_checked(4 * (usize::from(u16::from_be_bytes([*l0, *l1])) + 1))?;
    (flags >> 6 == 2).then_some((*kind, packet, rest))
}

fn head(out: &mut Vec<u8>, count: u8, kind: u8, words: u16) {
    out.extend_from_slice(&[0x80 | count, kind]);
    out.extend_from_slice(&words.to_be_bytes());
}

fn write_block(now: MediaTime, block: Block, heard: Option<Heard>, out: &mut Vec<u8>) {
    let heard = heard.filter(|h| h.ssrc == block.ssrc);
    let since = heard.map_or(0, |h| (i128::from((now - h.at).0) * 65_536 / CLOCK) as u32);
    // 24 bits, signed (§6.4.1): clamped, as A.3 says.
    let lost = block.lost.clamp(-0x80_0000, 0x7F_FFFF) as i32;
    out.extend_from_slice(&block.ssrc.to_be_bytes());
    out.push(block.fraction);
    out.extend_from_slice(&lost.to_be_bytes()[1..]);
    out.extend_from_slice(&block.highest.to_be_bytes());
    out.extend_from_slice(&block.jitter.to_be_bytes());
    out.extend_from_slice(&heard.map_or(0, |h| h.middle).to_be_bytes());
    out.extend_from_slice(&since.to_be_bytes());
}

/// §6.5: one chunk, one CNAME, padded with zeros to a whole word of which at least one byte ends the list.
fn describe(ssrc: u32, Name(name): Name, out: &mut Vec<u8>) {
    head(out, 1, DESCRIPTION, 6);
    out.extend_from_slice(&ssrc.to_be_bytes());
    out.extend_from_slice(&[1, name.len() as u8]);
    out.extend_from_slice(&name);
    out.extend_from_slice(&[0; 2]);
}

/// The middle 32 bits of the time now.
fn middle(now: MediaTime) -> u32 {
    (ntp(now) >> 16) as u32
}

pub(crate) fn ntp(now: MediaTime) -> u64 {
    ((i128::from(now.0) << 32) / CLOCK) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use rtc_rtcp::goodbye::Goodbye;
    use rtc_rtcp::source_description::SourceDescription;

    const SENT: Sent = Sent { ssrc: 7, active: true, timestamp: 1600, packets: 10, octets: 1600 };
    const BLOCK: Block = Block { ssrc: 9, fraction: 64, lost: -2, highest: 70_000, jitter: 12 };

    fn written(active: bool, block: Option<(Block, Option<Heard>)>, leaving: bool) -> Vec<u8> {
        let mut out = Vec::new();
        let name = Name::new(&mut Seed::new(1));
        write(MediaTime::from_millis(2500), Sent { active, ..SENT }, name, block, &mut out);
        if leaving {
            write_goodbye(SENT.ssrc, &mut out);
        }
        out
    }

    /// Our writing is read by somebody else's parser.
    #[test]
    fn another_parser_reads_our_reports() {
        let heard = Heard { ssrc: 9, middle: 0xABCD, at: MediaTime::from_millis(500) };
        let bytes = written(true, Some((BLOCK, Some(heard))), true);
        let packets = rtc_rtcp::packet::unmarshal(&mut &bytes[..]).unwrap();
        let report = packets[0].as_any().downcast_ref::<SenderReport>().unwrap();
        assert_eq!((report.ssrc, report.rtp_time, report.packet_count, report.octet_count), (7, 1600, 10, 1600));
        assert_eq!(report.ntp_time, (5 << 32) / 2);
        let block = &report.reports[0];
        assert_eq!((block.ssrc, block.fraction_lost, block.total_lost), (9, 64, 0xFF_FFFE));
        assert_eq!((block.last_sequence_number, block.jitter), (70_000, 12));
        assert_eq!((block.last_sender_report, block.delay), (0xABCD, 2 << 16));
        let description = packets[1].as_any().downcast_ref::<SourceDescription>().unwrap();
        assert_eq!((description.chunks[0].source, description.chunks[0].items[0].text.len()), (7, 16));
        assert_eq!(packets[2].as_any().downcast_ref::<Goodbye>().unwrap().sources, [7]);
    }

    #[test]
    fn who_sends_nothing_makes_a_receiver_report() {
        for block in [None, Some((BLOCK, None))] {
            let bytes = written(false, block, false);
            let packets = rtc_rtcp::packet::unmarshal(&mut &bytes[..]).unwrap();
            let report = packets[0].as_any().downcast_ref::<ReceiverReport>().unwrap();
            assert_eq!((report.ssrc, report.reports.len()), (7, usize::from(block.is_some())));
            assert_eq!(packets.len(), 2);
        }
    }

    #[test]
    fn a_sender_report_is_read_and_nothing_else_matters() {
        let clock = |bytes: &[u8]| read(MediaTime::ZERO, 1, bytes).and_then(|told| told.clock);
        assert_eq!(clock(&written(true, None, true)).map(|h| (h.ssrc, h.middle)), Some((7, 0x2_8000)));
        assert_eq!(read(MediaTime::ZERO, 1, &written(false, None, false)), Some(Told::default()));
        assert_eq!(read(MediaTime::ZERO, 1, &[0x80; 2000]), None);
        assert_eq!(read(MediaTime::ZERO, 1, &[0x80, 203, 0, 0].repeat(17)), None);
    }

    /// Two ends whose clocks have nothing in common: 60 ms there, kept for two seconds, 90 ms back.
    #[test]
    fn the_round_trip_is_what_the_network_took() {
        let (mut out, name) = (Vec::new(), Name::new(&mut Seed::new(1)));
        write(MediaTime::from_millis(10_000), SENT, name, None, &mut out);
        let far = |ms: i64| MediaTime::from_millis(ms + 777_777);
        let heard = read(far(10_060), 0, &out).unwrap().clock;
        for active in [true, false] {
            let mut back = Vec::new();
            let block = Block { ssrc: SENT.ssrc, ..BLOCK };
            write(far(12_060), Sent { ssrc: 9, active, ..SENT }, name, Some((block, heard)), &mut back);
            let now = MediaTime::from_millis(12_150);
            let of_us = read(now, SENT.ssrc, &back).unwrap().of_us.unwrap();
            assert_eq!((of_us.fraction, of_us.jitter), (64, 12));
            assert!((149..=150).contains(&of_us.round_trip.unwrap().as_millis()), "{of_us:?}");
            assert_eq!(read(now, 8, &back).unwrap().of_us, None, "of somebody else");
            // Before it left, or an hour ago: not a round trip.
            let of_us = |ms| read(MediaTime::from_millis(ms), SENT.ssrc, &back).unwrap().of_us.unwrap();
            assert_eq!([of_us(11_900).round_trip, of_us(3_600_000).round_trip], [None, None]);
        }
    }

    #[test]
    fn garbage_never_panics() {
        let mut seed = Seed::new(2);
        let good = written(true, Some((BLOCK, None)), true);
        for _ in 0..100_000 {
            let mut bytes = good.clone();
            for _ in 0..=seed.below(4) {
                let at = seed.below(bytes.len() as u64) as usize;
                bytes[at] = seed.bits() as u8;
            }
            bytes.truncate(seed.below(bytes.len() as u64 + 1) as usize);
            read(MediaTime::ZERO, 9, &bytes);
        }
    }

    #[test]
    fn reports_are_spread_between_half_and_one_and_a_half_intervals() {
        let mut seed = Seed::new(3);
        for _ in 0..1000 {
            let ms = due(MediaTime::ZERO, &mut seed, false).as_millis();
            assert!((2500..7500).contains(&ms));
        }
    }
}
