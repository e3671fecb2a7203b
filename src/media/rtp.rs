//! RTP headers (RFC 3550 §5.1): bytes of a peer in, header and payload out; and a header written.
//! Whatever a peer sends is either a packet or an error.

/// Bytes of a header without contributing sources or extension.
pub const HEADER: usize = 12;

/// The header fields Sotto uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// First packet of a talkspurt or of a digit.
    pub marker: bool,
    /// What the payload is, 0–127.
    pub payload_type: u8,
    /// Counts packets.
    pub sequence: u16,
    /// Counts samples; of the payload's first.
    pub timestamp: u32,
    /// Names the stream.
    pub ssrc: u32,
}

/// A packet as it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet<'a> {
    /// Its header.
    pub header: Header,
    /// Its payload, without padding.
    pub payload: &'a [u8],
}

/// A datagram that is no RTP packet: the peer's fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Less than its own header says.
    #[error("the datagram is shorter than its header")]
    Short,
    /// Not version 2.
    #[error("RTP version {0}, not 2")]
    Version(u8),
    /// RFC 5761 §4: the types 64–95 with the marker are RTCP's.
    #[error("RTCP on the port of RTP")]
    Rtcp,
    /// The padding is longer than the packet, or zero.
    #[error("the padding does not fit")]
    Padding,
}

impl<'a> Packet<'a> {
    /// Reads a datagram.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let (fixed, rest) = bytes.split_first_chunk::<HEADER>().ok_or(Malformed::Short)?;
        let [flags, kind, s0, s1, t0, t1, t2, t3, c0, c1, c2, c3] = *fixed;
        if flags >> 6 != 2 {
            return Err(Malformed::Version(flags >> 6));
        }
        if (192..=223).contains(&kind) {
            return Err(Malformed::Rtcp);
        }
        let header = Header {
            marker: kind & 0x80 != 0,
            payload_type: kind & 0x7F,
            sequence: u16::from_be_bytes([s0, s1]),
            timestamp: u32::from_be_bytes([t0, t1, t2, t3]),
            ssrc: u32::from_be_bytes([c0, c1, c2, c3]),
        };
        let rest = rest.get(usize::from(flags & 15) * 4..).ok_or(Malformed::Short)?;
        let rest = if flags & 0x10 != 0 { after_extension(rest)? } else { rest };
        let payload = if flags & 0x20 != 0 { without_padding(rest)? } else { rest };
        Ok(Packet { header, payload })
    }
}

/// RFC 3550 §5.3.1: a 16-bit profile, then the length in 32-bit words.
fn after_extension(bytes: &[u8]) -> Result<&[u8], Malformed> {
    let ([_, _, l0, l1], rest) = bytes.split_first_chunk::<4>().ok_or(Malformed::Short)?;
    rest.get(usize::from(u16::from_be_bytes([*l0, *l1])) * 4..).ok_or(Malformed::Short)
}

/// The last byte counts the padding, itself included.
fn without_padding(bytes: &[u8]) -> Result<&[u8], Malformed> {
    let padding = usize::from(*bytes.last().ok_or(Malformed::Padding)?);
    let end = bytes.len().checked_sub(padding).ok_or(Malformed::Padding)?;
    if padding == 0 {
        return Err(Malformed::Padding);
    }
    bytes.get(..end).ok_or(Malformed::Padding)
}

impl Header {
    /// The header as bytes: version 2, no padding, no extension, no contributing sources.
    pub fn bytes(&self) -> [u8; HEADER] {
        let mut out = [0; HEADER];
        out[0] = 0x80;
        out[1] = self.payload_type & 0x7F | if self.marker { 0x80 } else { 0 };
        out[2..4].copy_from_slice(&self.sequence.to_be_bytes());
        out[4..8].copy_from_slice(&self.timestamp.to_be_bytes());
        out[8..].copy_from_slice(&self.ssrc.to_be_bytes());
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::seed::Seed;

    const HEAD: Header =
        Header { marker: true, payload_type: 8, sequence: 0xFFFE, timestamp: 0x0102_0304, ssrc: 0xDEAD_BEEF };

    fn packet(flags: u8, rest: &[u8]) -> Vec<u8> {
        let mut bytes = HEAD.bytes().to_vec();
        bytes[0] |= flags;
        bytes.extend_from_slice(rest);
        bytes
    }

    #[test]
    fn reads_what_it_writes() {
        let bytes = packet(0, b"voice");
        assert_eq!(Packet::parse(&bytes), Ok(Packet { header: HEAD, payload: b"voice" }));
    }

    #[test]
    fn every_part_of_a_header_is_stepped_over() {
        type Case = (u8, &'static [u8], Result<&'static [u8], Malformed>);
        let cases: [Case; 12] = [
            (0, b"", Ok(b"")),
            (2, b"CSRCcsrcvoice", Ok(b"voice")),
            (2, b"CSRCcsr", Err(Malformed::Short)),
            (0x10, b"\0\0\0\x01extsvoice", Ok(b"voice")),
            (0x10, b"\0\0\0\0voice", Ok(b"voice")),
            (0x10, b"\0\0\xFF\xFFvoice", Err(Malformed::Short)),
            (0x10, b"\0\0\0", Err(Malformed::Short)),
            (0x20, b"voice\0\0\x03", Ok(b"voice")),
            (0x20, b"\x01", Ok(b"")),
            (0x20, b"voice\0", Err(Malformed::Padding)),
            (0x20, b"voice\x07", Err(Malformed::Padding)),
            (0x31, b"CSRC\0\0\0\x01extsvoice\0\x02", Ok(b"voice")),
        ];
        for (flags, rest, expected) in cases {
            assert_eq!(Packet::parse(&packet(flags, rest)).map(|p| p.payload), expected, "{flags:#x} {rest:?}");
        }
    }

    #[test]
    fn what_is_not_rtp_is_refused() {
        assert_eq!(Packet::parse(&[0x80; 11]), Err(Malformed::Short));
        assert_eq!(Packet::parse(b"INVITE sip:x SIP/2.0"), Err(Malformed::Version(1)));
        let mut rtcp = packet(0, b"");
        rtcp[1] = 200;
        assert_eq!(Packet::parse(&rtcp), Err(Malformed::Rtcp));
    }

    #[test]
    fn garbage_never_panics() {
        let mut seed = Seed::new(1);
        for _ in 0..200_000 {
            let mut bytes: Vec<u8> = (0..seed.below(40)).map(|_| seed.bits() as u8).collect();
            if let Some(first) = bytes.first_mut() {
                *first = *first & 0x3F | 0x80;
            }
            let _ = Packet::parse(&bytes);
        }
    }
}
