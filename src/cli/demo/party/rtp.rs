//! The twelve bytes before the audio (RFC 3550 §5.1), as a party writes and reads them.

/// Samples in a packet: 20 ms at 8 kHz.
pub const FRAME: usize = 160;

/// The fixed header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) marker: bool,
    pub(super) payload_type: u8,
    pub(super) sequence: u16,
    pub(super) timestamp: u32,
    pub(super) ssrc: u32,
}

/// Header and payload as a datagram.
pub(super) fn write(header: Header, payload: &[u8]) -> Vec<u8> {
    let mut packet = Vec::with_capacity(12 + payload.len());
    packet.push(0x80);
    packet.push(u8::from(header.marker) << 7 | header.payload_type & 0x7f);
    packet.extend(header.sequence.to_be_bytes());
    packet.extend(header.timestamp.to_be_bytes());
    packet.extend(header.ssrc.to_be_bytes());
    packet.extend(payload);
    packet
}

/// Header and payload of a datagram, or none if it is no RTP packet. Contributing sources, the extension and the
/// padding are skipped.
pub(super) fn read(packet: &[u8]) -> Option<(Header, &[u8])> {
    let (&[flags, kind, s0, s1, t0, t1, t2, t3, c0, c1, c2, c3], rest) = packet.split_first_chunk::<12>()?;
    if flags >> 6 != 2 {
        return None;
    }
    let mut payload = rest.get(usize::from(flags & 0x0f) * 4..)?;
    if flags & 0x10 != 0 {
        let (&[_, _, high, low], after) = payload.split_first_chunk::<4>()?;
        payload = after.get(usize::from(u16::from_be_bytes([high, low])) * 4..)?;
    }
    if flags & 0x20 != 0 {
        let padding = usize::from(*payload.last()?);
        payload = payload.get(..payload.len().checked_sub(padding)?)?;
    }
    let header = Header {
        marker: kind & 0x80 != 0,
        payload_type: kind & 0x7f,
        sequence: u16::from_be_bytes([s0, s1]),
        timestamp: u32::from_be_bytes([t0, t1, t2, t3]),
        ssrc: u32::from_be_bytes([c0, c1, c2, c3]),
    };
    Some((header, payload))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: Header =
        Header { marker: true, payload_type: 8, sequence: 65_535, timestamp: 0xfedc_ba98, ssrc: 0x0102_0304 };

    #[test]
    fn what_is_written_can_be_read() {
        let packet = write(HEADER, &[1, 2, 3]);
        assert_eq!(read(&packet), Some((HEADER, &[1, 2, 3][..])));
    }

    #[test]
    fn extension_sources_and_padding_are_skipped() {
        let mut packet = write(HEADER, &[]);
        packet[0] = 0x80 | 0x20 | 0x10 | 1;
        packet.extend([9; 4]);
        packet.extend([0xbe, 0xde, 0, 1, 7, 7, 7, 7]);
        packet.extend([1, 2, 0, 2]);
        assert_eq!(read(&packet), Some((HEADER, &[1, 2][..])));
    }

    #[test]
    fn what_is_cut_short_is_no_packet() {
        let packet = write(HEADER, &[]);
        for end in 0..packet.len() {
            assert_eq!(read(&packet[..end]), None);
        }
        let padding_longer_than_the_packet = [&[0xa0][..], &packet[1..], &[200]].concat();
        assert_eq!(read(&padding_longer_than_the_packet), None);
    }
}
