//! Between sample rates: 8 → 16 kHz frame by frame for the recogniser's ears, and a whole buffer at any rate → 8 kHz
//! for files and synthesised speech. Mono throughout; knows nothing of time beyond its own delay.

use rubato::audioadapter_buffers::direct::InterleavedSlice;
use rubato::{Fft, FixedSync, Resampler, WindowFunction};

/// Samples of one 20 ms frame at 8 kHz.
pub const NARROW: usize = 160;

/// Samples of the same frame at 16 kHz.
pub const WIDE: usize = 320;

/// Rates a whole buffer may have. Below 4 kHz nothing of speech is left; above 192 kHz nobody records.
const RATES: std::ops::RangeInclusive<u32> = 4_000..=192_000;

/// Input samples half a block of the whole-buffer resampler has at least. Long blocks keep the transition band
/// narrow; the delay they cost is trimmed away.
const HALF_BLOCK: u32 = 1_024;

/// 8 kHz to 16 kHz, one 20 ms frame at a time, without allocating.
pub struct Upsampler {
    fft: Fft<f32>,
    input: [f32; NARROW],
    output: [f32; WIDE],
}

impl Upsampler {
    /// What comes out lies this many samples, at 8 kHz, behind what went in: half the FFT block, 10 ms.
    pub const DELAY: usize = NARROW / 2;

    /// A resampler that has heard only silence.
    pub fn new() -> Self {
        // One sub-chunk: two or four would move the filter's edge down to 3.4 kHz and dull the consonants.
        let fft = Fft::new_custom(8_000, 16_000, NARROW, 1, 1, WindowFunction::BlackmanHarris2, FixedSync::Input);
        Upsampler {
            fft: fft.expect("8 to 16 kHz in blocks of 160 is a valid pair of rates"),
            input: [0.0; NARROW],
            output: [0.0; WIDE],
        }
    }

    /// The next 20 ms, −1 to 1, [`Upsampler::DELAY`] late.
    pub fn process(&mut self, frame: &[i16; NARROW]) -> &[f32; WIDE] {
        for (to, from) in self.input.iter_mut().zip(frame) {
            *to = f32::from(*from) / 32_768.0;
        }
        let input = InterleavedSlice::new(&self.input, 1, NARROW);
        let output = InterleavedSlice::new_mut(&mut self.output, 1, WIDE);
        if let (Ok(input), Ok(mut output)) = (input, output) {
            let done = self.fft.process_into_buffer(&input, &mut output, None);
            debug_assert!(matches!(done, Ok((NARROW, WIDE))), "a block in is a block out");
        }
        // The filter rings past full scale on clipped input.
        for sample in &mut self.output {
            *sample = sample.clamp(-1.0, 1.0);
        }
        &self.output
    }

    /// Forgets what it has heard.
    pub fn reset(&mut self) {
        self.fft.reset();
    }
}

impl Default for Upsampler {
    fn default() -> Self {
        Self::new()
    }
}

/// A whole buffer of 8 kHz, made 16 kHz, −1 to 1. Nothing is delayed.
pub fn to_16k(pcm: &[i16]) -> Vec<f32> {
    let mut upsampler = Upsampler::new();
    let mut wide = Vec::with_capacity(2 * pcm.len() + 2 * WIDE);
    let (frames, rest) = pcm.as_chunks::<NARROW>();
    for frame in frames {
        wide.extend_from_slice(upsampler.process(frame));
    }
    let mut last = [0; NARROW];
    last.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
    for frame in [&last, &[0; NARROW]] {
        wide.extend_from_slice(upsampler.process(frame));
    }
    wide.drain(..2 * Upsampler::DELAY);
    wide.truncate(2 * pcm.len());
    wide
}

/// A sample rate nothing can be made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("audio of {0} samples a second cannot be used: 4,000 to 192,000 can")]
pub struct UnusableRate(pub u32);

/// A whole buffer of `rate` samples a second, made 8 kHz. Nothing is delayed: sample 0 stays sample 0.
pub fn to_8k(pcm: &[i16], rate: u32) -> Result<Vec<i16>, UnusableRate> {
    if !RATES.contains(&rate) {
        return Err(UnusableRate(rate));
    }
    if rate == 8_000 || pcm.is_empty() {
        return Ok(pcm.to_vec());
    }
    let wide: Vec<f32> = pcm.iter().map(|s| f32::from(*s)).collect();
    let input = InterleavedSlice::new(&wide, 1, wide.len()).map_err(|_| UnusableRate(rate))?;
    let mut fft = Fft::<f32>::new_custom(
        rate as usize,
        8_000,
        block(rate),
        1,
        1,
        WindowFunction::BlackmanHarris2,
        FixedSync::Input,
    )
    .map_err(|_| UnusableRate(rate))?;
    let output = fft.process_all(&input, wide.len(), None).map_err(|_| UnusableRate(rate))?;
    Ok(output.take_data().into_iter().map(|s| s.round().clamp(-32_768.0, 32_767.0) as i16).collect())
}

/// Input samples a block: an even number of the smallest blocks the two rates allow, so that half a block, which is
/// the delay, is a whole number of output samples.
fn block(rate: u32) -> usize {
    let smallest = rate / gcd(rate, 8_000);
    (2 * smallest * HALF_BLOCK.div_ceil(smallest)) as usize
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::f64::consts::TAU;

    fn tone(hz: f64, rate: u32, samples: usize) -> Vec<i16> {
        (0..samples).map(|n| (10_000.0 * (TAU * hz * n as f64 / f64::from(rate)).sin()) as i16).collect()
    }

    fn level(pcm: impl IntoIterator<Item = f64>) -> f64 {
        let squares: Vec<f64> = pcm.into_iter().map(|s| s * s).collect();
        10.0 * (squares.iter().sum::<f64>() / squares.len() as f64).log10()
    }

    fn upsampled(pcm: &[i16]) -> Vec<f32> {
        let mut upsampler = Upsampler::new();
        pcm.as_chunks().0.iter().flat_map(|frame| *upsampler.process(frame)).collect()
    }

    #[test]
    fn the_telephone_band_is_flat() {
        for hz in [200.0, 300.0, 1_000.0, 2_000.0, 3_000.0, 3_400.0] {
            let wide = upsampled(&tone(hz, 8_000, 8_000));
            let settled = wide[640..].iter().map(|s| f64::from(*s) * 32_768.0);
            let change = level(settled) - level(tone(hz, 8_000, 8_000).into_iter().map(f64::from));
            assert!(change.abs() < 0.3, "{hz} Hz changed by {change:.2} dB");
        }
    }

    #[test]
    fn upsampling_is_as_late_as_it_says() {
        let mut pcm = vec![0i16; 1_600];
        pcm[800] = 20_000;
        let wide = upsampled(&pcm);
        let peak = (0..wide.len()).max_by(|a, b| wide[*a].total_cmp(&wide[*b])).unwrap();
        assert_eq!(peak, 2 * (800 + Upsampler::DELAY));
    }

    #[test]
    fn a_whole_buffer_is_not_delayed() {
        let mut pcm = vec![0i16; 1_003];
        pcm[1_000] = 20_000;
        let wide = to_16k(&pcm);
        let peak = (0..wide.len()).max_by(|a, b| wide[*a].total_cmp(&wide[*b])).unwrap();
        assert_eq!((wide.len(), peak), (2_006, 2_000));
        assert!(to_16k(&[]).is_empty());
    }

    #[test]
    fn images_stay_out_of_the_upper_half() {
        let wide = upsampled(&tone(1_000.0, 8_000, 16_000));
        // What is not the 1 kHz tone: fit and subtract it.
        let (mut s, mut c) = (0.0, 0.0);
        let settled = &wide[640..32_000 - 640];
        for (n, x) in settled.iter().enumerate() {
            let phase = TAU * 1_000.0 * n as f64 / 16_000.0;
            s += f64::from(*x) * phase.sin() * 2.0 / settled.len() as f64;
            c += f64::from(*x) * phase.cos() * 2.0 / settled.len() as f64;
        }
        let rest = settled.iter().enumerate().map(|(n, x)| {
            let phase = TAU * 1_000.0 * n as f64 / 16_000.0;
            f64::from(*x) - s * phase.sin() - c * phase.cos()
        });
        assert!(level(rest) < level(settled.iter().map(|x| f64::from(*x))) - 60.0);
    }

    #[test]
    fn whole_buffers_keep_length_level_and_time() {
        for rate in [11_025, 16_000, 22_050, 24_000, 44_100, 48_000] {
            let seconds_2 = tone(1_000.0, rate, rate as usize * 2);
            let narrow = to_8k(&seconds_2, rate).unwrap();
            assert_eq!(narrow.len(), 16_000, "{rate}");
            let wanted = tone(1_000.0, 8_000, 16_000);
            let error = (400..15_600).map(|n| f64::from(narrow[n]) - f64::from(wanted[n]));
            let off = level(error);
            assert!(off < 77.0 - 50.0, "{rate}: the tone came out different or late ({off:.1} dB)");
        }
    }

    #[test]
    fn what_8_khz_cannot_hold_is_removed() {
        let narrow = to_8k(&tone(5_000.0, 22_050, 22_050), 22_050).unwrap();
        let left = level(narrow[400..7_600].iter().map(|s| f64::from(*s)));
        assert!(left < 77.0 - 60.0, "{left:.1} dB");
    }

    #[test]
    fn hostile_rates_are_refused() {
        for rate in [0, 1, 3_999, 192_001, u32::MAX] {
            assert_eq!(to_8k(&[1, 2, 3], rate), Err(UnusableRate(rate)));
        }
        assert_eq!(to_8k(&[], 22_050), Ok(vec![]));
        // Rates without a common divisor with 8,000 cost a large FFT, no more.
        assert_eq!(to_8k(&[7; 50], 44_101).unwrap().len(), 10);
    }
}
