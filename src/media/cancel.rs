//! An echo canceller (sonora: WebRTC's AEC3) for one line: what was whispered to its owner is taken out of what they say.
//!
//! 10 ms of both in, 10 ms out. A line at 8 kHz is cancelled at 16, which makes it 4 ms late. The canceller allocates as
//! it works, some thirty times in 10 ms: it runs only while something is whispered and 500 ms longer.

mod proof;

use crate::media::pcm::Rate;
use crate::media::resample::Resampler;
use proof::{Proof, power};
use sonora::config::EchoCanceller;
use sonora::{AudioProcessing, Config, StreamConfig};

/// Samples of 10 ms at the highest rate.
const MOST: usize = Rate::Full.frame() / 2;

/// One line's canceller.
pub struct Canceller {
    process: AudioProcessing,
    line: Rate,
    /// What it works at.
    work: Rate,
    whispers: Resampler,
    up: Resampler,
    down: Resampler,
    whispered: [i16; MOST],
    heard: [i16; MOST],
    cancelled: [i16; MOST],
    proof: Proof,
}

impl Canceller {
    /// For a line at this rate. Allocates 1 MB.
    pub fn new(line: Rate) -> Self {
        let work = line.max(Rate::Wide);
        let stream = StreamConfig::new(work.hz(), 1);
        let config = Config { echo_canceller: Some(EchoCanceller::default()), ..Config::default() };
        let process = AudioProcessing::builder().config(config).capture_config(stream).render_config(stream).build();
        Canceller {
            process,
            line,
            work,
            whispers: Resampler::new(Rate::Narrow, work),
            up: Resampler::new(line, work),
            down: Resampler::new(work, line),
            whispered: [0; MOST],
            heard: [0; MOST],
            cancelled: [0; MOST],
            proof: Proof::default(),
        }
    }

    /// Samples of the line in 10 ms.
    pub fn piece(&self) -> usize {
        self.line.frame() / 2
    }

    /// 10 ms of the line, and of the same instant 10 ms at 8 kHz of what was whispered. What cannot be cancelled is
    /// silence.
    pub fn cancel(&mut self, whispered: &[i16], line: &mut [i16]) {
        let length = self.work.frame() / 2;
        self.whispers.process(whispered, &mut self.whispered[..length]);
        self.up.process(line, &mut self.heard[..length]);
        // What comes back of the whispers is what went in.
        let render = self.process.process_render_i16(&self.whispered[..length], &mut self.cancelled[..length]);
        let capture = self.process.process_capture_i16(&self.heard[..length], &mut self.cancelled[..length]);
        if render.is_err() || capture.is_err() {
            self.cancelled.fill(0);
        }
        let came = power(line);
        self.down.process(&self.cancelled[..length], line);
        self.proof.weigh(power(whispered), came, power(line));
    }

    /// Whether it takes out what comes back: 30 dB, or to the noise of the line, for 2 s in which something came.
    pub fn is_proven(&self) -> bool {
        self.proof.holds()
    }

    /// What was measured does not hold any more.
    pub fn doubt(&mut self) {
        self.proof.forget();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::seed::Seed;

    /// Noise that comes back 60 ms late and 12 dB softer is gone after a second, and a voice that begins then is not.
    #[test]
    fn an_echo_goes_and_a_voice_stays() {
        for rate in Rate::ALL {
            let mut canceller = Canceller::new(rate);
            let (mut seed, mut loudspeaker) = (Seed::new(1), Resampler::new(Rate::Narrow, rate));
            let ratio = rate.hz() as usize / 8000;
            let whispered: Vec<i16> = (0..16_000).map(|_| (seed.bits() as i16) / 8).collect();
            let power = |pcm: &[i16]| f64::from(power(pcm));
            let (mut came, mut left, mut voiced) = (0.0, 0.0, 0.0);
            for (n, piece) in whispered.chunks_exact(80).enumerate() {
                let played: Vec<i16> = (0..80).map(|at| whispered[(n * 80 + at).saturating_sub(480)] / 4).collect();
                let mut echo = vec![0; canceller.piece()];
                loudspeaker.process(&played, &mut echo);
                let voice = |at: usize| match n > 150 {
                    true => (4000.0 * ((n * 80 * ratio + at) as f64 * 0.3 / ratio as f64).sin()) as i16,
                    false => 0,
                };
                let mut line: Vec<i16> = (0..canceller.piece()).map(|at| echo[at] + voice(at)).collect();
                let before = power(&line);
                canceller.cancel(piece, &mut line);
                if (100..150).contains(&n) {
                    (came, left) = (came + before, left + power(&line));
                }
                voiced += if n > 160 { power(&line) } else { 0.0 };
            }
            let db = 10.0 * (came / left.max(1.0)).log10();
            assert!(db > 25.0, "{rate:?}: {db:.1} dB");
            assert!(!canceller.is_proven(), "{rate:?}: while somebody talks nothing is proven");
            assert!(voiced / 39.0 > 1e6, "{rate:?}: a voice of 8e6 is {:.1e}", voiced / 39.0);
        }
    }
}
