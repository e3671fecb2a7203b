//! How long an Opus packet plays, from its first bytes (RFC 6716 §3.1).

/// 120 ms at 48 kHz: no packet is longer (§3.2.5).
const LONGEST: u32 = 5_760;

/// Samples at 48 kHz; 0 if this is no Opus packet.
pub(super) fn samples(packet: &[u8]) -> u32 {
    let Some(toc) = packet.first() else { return 0 };
    let frame = match toc >> 3 {
        config @ 0..12 => [480, 960, 1920, 2880][usize::from(config & 3)],
        config @ 12..16 => [480, 960][usize::from(config & 1)],
        config => [120, 240, 480, 960][usize::from(config & 3)],
    };
    let frames = match toc & 3 {
        0 => 1,
        1 | 2 => 2,
        _ => packet.get(1).map_or(0, |count| u32::from(count & 0x3F)),
    };
    let length = frame * frames;
    if length <= LONGEST { length } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_those_of_the_table() {
        for (packet, expected) in [
            (&[0b0000_0000u8][..], 480),
            (&[0b0001_1001], 5760),
            (&[0b0111_1000], 960),
            (&[0b1000_0000], 120),
            (&[0b1111_1011, 3], 2880),
            (&[0b1111_1011, 7], 0),
            (&[0b1111_1011], 0),
            (&[], 0),
        ] {
            assert_eq!(samples(packet), expected, "{packet:?}");
        }
    }
}
