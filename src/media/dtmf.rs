//! Telephone events (RFC 4733): told apart from noise before they are passed on. Sotto never reads a digit here.

/// Whether a payload holds at least one whole event block (§2.3: event, flags and volume, 16-bit duration).
pub fn is_event(payload: &[u8]) -> bool {
    !payload.is_empty() && payload.len().is_multiple_of(4) && payload.len() <= 64
}

/// Appends an event block counted in `from` units a second as one counted in `to`. A duration that does not fit any more
/// is the longest (§2.5.1.3 has long events go on in segments; no key is held for a second and a half at 48 kHz).
pub fn scaled(payload: &[u8], from: u32, to: u32, out: &mut Vec<u8>) {
    for block in payload.as_chunks::<4>().0 {
        let [event, volume, d0, d1] = *block;
        let duration = u64::from(u16::from_be_bytes([d0, d1])) * u64::from(to) / u64::from(from.max(1));
        out.extend_from_slice(&[event, volume]);
        out.extend_from_slice(&(duration.min(0xFFFF) as u16).to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_those_of_the_other_clock() {
        for (duration, from, to, expected) in
            [(160u16, 8_000, 48_000, 960u16), (960, 48_000, 8_000, 160), (20_000, 8_000, 48_000, 0xFFFF)]
        {
            let [d0, d1] = duration.to_be_bytes();
            let mut out = Vec::new();
            scaled(&[5, 0x8A, d0, d1], from, to, &mut out);
            assert_eq!((out[..2].to_vec(), u16::from_be_bytes([out[2], out[3]])), (vec![5, 0x8A], expected));
        }
    }

    #[test]
    fn only_whole_blocks_are_events() {
        assert!(is_event(&[5, 0x0A, 0, 160]));
        assert!(is_event(&[0; 8]));
        assert!(![&[][..], &[5], &[5, 0, 0], &[0; 5], &[0; 68]].iter().any(|p| is_event(p)));
    }
}
