//! Telephone events (RFC 4733): told apart from noise before they are passed on. Sotto never reads a digit here.

/// Whether a payload holds at least one whole event block (§2.3: event, flags and volume, 16-bit duration).
pub fn is_event(payload: &[u8]) -> bool {
    !payload.is_empty() && payload.len().is_multiple_of(4) && payload.len() <= 64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_blocks_are_events() {
        assert!(is_event(&[5, 0x0A, 0, 160]));
        assert!(is_event(&[0; 8]));
        assert!(![&[][..], &[5], &[5, 0, 0], &[0; 5], &[0; 68]].iter().any(|p| is_event(p)));
    }
}
