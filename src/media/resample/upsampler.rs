//! 8 kHz to 16 kHz for the detector of speech, frame by frame: long and steep, for what is above the telephone band moves
//! the edges that it finds. Nobody hears this, so that its 10 ms matter to nobody.

use rubato::audioadapter_buffers::direct::InterleavedSlice;
use rubato::{Fft, FixedSync, Resampler, WindowFunction};

/// Samples of one 20 ms frame at 8 kHz.
const NARROW: usize = 160;
/// Samples of the same frame at 16 kHz.
const WIDE: usize = 320;

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
