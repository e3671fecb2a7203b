//! What must not count as speech: invented text for silence and noise, and audio with nothing in it. Recognisers of
//! Whisper's kind answer non-speech with a stage direction, `[BLANK_AUDIO]` or `(music)`, never with silence.

/// Audio quieter than this, in dB below full scale (RMS), is line noise. G.711's idle noise lies at −72; a telephone
/// voice 30 dB below the usual −20 is still 10 dB above.
const QUIETEST: f32 = -60.0;

/// Whether there is enough in this audio (8 kHz or any rate) to be somebody's voice.
pub fn is_audible<'a>(pcm: impl IntoIterator<Item = &'a i16>) -> bool {
    let (mut sum, mut samples) = (0.0f64, 0u32);
    for sample in pcm {
        sum += f64::from(*sample).powi(2);
        samples += 1;
    }
    let full_scale = 32_768.0f64.powi(2);
    samples > 0 && 10.0 * (sum / f64::from(samples) / full_scale).log10() >= f64::from(QUIETEST)
}

/// The words of a recogniser's text, without stage directions; none if nothing was said.
pub fn words(text: &str) -> Option<String> {
    let mut kept = String::with_capacity(text.len());
    // What closes the direction we are in. One left open takes the rest with it: the decoder stopped in the middle.
    let mut closing = None;
    for c in text.chars() {
        match (closing, c) {
            (Some(end), _) if c == end => closing = None,
            (Some(_), _) => {}
            (None, '[') => closing = Some(']'),
            (None, '(') => closing = Some(')'),
            (None, '*') => closing = Some('*'),
            (None, '♪') => {}
            (None, _) => kept.push(c),
        }
    }
    let words = kept.split_whitespace().collect::<Vec<_>>().join(" ");
    words.chars().any(char::is_alphanumeric).then_some(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stage_directions_are_no_words() {
        for text in [
            "",
            "  ",
            "[BLANK_AUDIO]",
            " [ Silence ]",
            "(music)",
            "(coughs) [NOISE]",
            "*sighs*",
            "...",
            "♪ ♪",
            "[BLANK_",
        ] {
            assert_eq!(words(text), None, "{text:?}");
        }
    }

    #[test]
    fn words_beside_them_stay() {
        assert_eq!(words(" Hello there. [BLANK_AUDIO]").as_deref(), Some("Hello there."));
        assert_eq!(words("It is (laughs) $499, 15% off.").as_deref(), Some("It is $499, 15% off."));
        assert_eq!(words("7").as_deref(), Some("7"));
    }

    #[test]
    fn line_noise_is_inaudible_and_a_quiet_voice_is_not() {
        assert!(!is_audible(&[0i16; 800]));
        assert!(!is_audible(&[8i16; 800]));
        assert!(!is_audible(&[]));
        assert!(is_audible(&[100i16, -100].repeat(400)));
    }
}
