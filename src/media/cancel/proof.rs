//! Whether a canceller does what it is for: how much came in on the line, and how much it let through, over the last 2 s in
//! which something could be heard. While the line's owner talks it lets them through, so nothing is proven then.

/// Pieces of 10 ms that count: a canceller that has just begun suppresses more than it goes on to cancel.
const PIECES: usize = 200;
/// 30 dB.
const ENOUGH: f32 = 1e-3;
/// -58 dBFS: what nobody hears, whatever the noise.
const INAUDIBLE: f32 = 40.0 * 40.0;
/// -40 dBFS: what is louder is no noise of a line.
const NOISY: f32 = 330.0 * 330.0;
/// A piece has something in it when it is 6 dB above the noise.
const ABOVE: f32 = 4.0;
/// A whisper softer than this is silence: a clip's dither.
const SILENT: f32 = 16.0 * 16.0;
/// 350 ms after a whisper what comes is the line's own noise: echo and room are over.
const OVER: u32 = 35;

/// What was measured.
#[derive(Clone, Debug)]
pub struct Proof {
    /// Power of what came and of what was left, piece by piece.
    pieces: [(f32, f32); PIECES],
    at: usize,
    count: usize,
    /// The softest silence heard so far.
    noise: Option<f32>,
    /// Pieces since something was whispered.
    silent: u32,
}

impl Default for Proof {
    fn default() -> Self {
        Proof { pieces: [(0.0, 0.0); PIECES], at: 0, count: 0, noise: None, silent: 0 }
    }
}

impl Proof {
    /// 10 ms: power of what was whispered, of what came, and of what is left of it.
    pub fn weigh(&mut self, whispered: f32, came: f32, left: f32) {
        self.silent = if whispered < SILENT { self.silent.saturating_add(1) } else { 0 };
        if self.silent > OVER {
            self.noise = Some(self.noise.map_or(came, |noise| noise.min(came)));
        } else if came > self.noise().max(INAUDIBLE) * ABOVE {
            self.pieces[self.at] = (came, left);
            self.at = (self.at + 1) % PIECES;
            self.count = (self.count + 1).min(PIECES);
        }
    }

    /// Whether it is enough.
    pub fn holds(&self) -> bool {
        let (came, left) = self.pieces.iter().fold((0.0, 0.0), |sum, piece| (sum.0 + piece.0, sum.1 + piece.1));
        let inaudible = (2.0 * self.noise()).max(INAUDIBLE) * PIECES as f32;
        self.count == PIECES && (left <= came * ENOUGH || left <= inaudible)
    }

    /// Begins anew; the noise stays what it is.
    pub fn forget(&mut self) {
        self.count = 0;
    }

    fn noise(&self) -> f32 {
        self.noise.unwrap_or(0.0).min(NOISY)
    }
}

/// Of some samples, on average.
pub fn power(pcm: &[i16]) -> f32 {
    pcm.iter().map(|s| f32::from(*s).powi(2)).sum::<f32>() / pcm.len().max(1) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOUD: f32 = 1e6;

    fn proof(pieces: usize, came: f32, left: f32) -> Proof {
        let mut proof = Proof::default();
        (0..pieces).for_each(|_| proof.weigh(LOUD, came, left));
        proof
    }

    #[test]
    fn thirty_decibels_for_2_s_are_proof() {
        assert!(proof(PIECES, LOUD * 10.0, LOUD / 101.0).holds());
        assert!(!proof(PIECES - 1, LOUD * 10.0, LOUD / 101.0).holds());
        assert!(!proof(PIECES, LOUD * 10.0, LOUD / 99.0).holds());
        assert!(proof(PIECES, 4.1 * INAUDIBLE, 0.9 * INAUDIBLE).holds(), "nobody hears what is left");
    }

    #[test]
    fn what_is_not_heard_proves_nothing() {
        assert!(!proof(1000, 3.9 * INAUDIBLE, 0.0).holds());
        let mut proof = proof(PIECES, LOUD, 0.0);
        proof.forget();
        proof.weigh(LOUD, LOUD, 0.0);
        assert!(!proof.holds());
    }

    /// Down to a noise of -46 dBFS is enough; what is as loud as a voice is no noise.
    #[test]
    fn an_echo_goes_down_to_the_noise() {
        for (noise, holds) in [(165.0f32 * 165.0, true), (LOUD * 4.0, false)] {
            let mut proof = Proof::default();
            (0..60).for_each(|_| proof.weigh(0.0, noise, noise));
            (0..PIECES).for_each(|_| proof.weigh(LOUD, LOUD * 20.0, noise * 1.9));
            assert_eq!(proof.holds(), holds, "{noise}");
        }
    }
}
