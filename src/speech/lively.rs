//! Whether a sound lives: speech changes its loudness all the time, tones and noise do not. Voice detectors take dial
//! tones, hum and strong noise for voice; this does not.

/// A change of loudness counts from this ratio on: 1.5 dB from one frame to the next, over three frames' mean. White
/// noise keeps within 0.8 dB; the beat of two call-progress tones (40 Hz and up) vanishes in three frames of 16 ms.
const CHANGE: f32 = 1.413;

/// Changes count only while the sound is within 20 dB of its loudest: a tone's last echo is no life.
const WITHIN: f32 = 100.0;

/// How fast the loudest sound is forgotten, a frame: by half in half a second.
const FORGETS: f32 = 0.98;

/// Below this mean square of a frame's 256 samples, −60 dBFS, loudness is all the same.
const FLOOR: f32 = 256.0 * 1e-6;

/// Follows the loudness of one leg.
#[derive(Default)]
pub struct Lively {
    last: [f32; 3],
    mean: f32,
    loudest: f32,
}

impl Lively {
    /// The energy of the next frame (the sum of 256 squares, of full scale). Answers whether the loudness changed.
    pub fn changed(&mut self, energy: f32) -> bool {
        let [_, b, c] = self.last;
        self.last = [b, c, energy];
        let before = self.mean.max(FLOOR);
        self.mean = (b + c + energy) / 3.0;
        self.loudest = (self.loudest * FORGETS).max(energy);
        let now = self.mean.max(FLOOR);
        energy * WITHIN > self.loudest && energy > FLOOR && (now > before * CHANGE || before > now * CHANGE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changes(energies: impl IntoIterator<Item = f32>) -> usize {
        let mut lively = Lively::default();
        energies.into_iter().filter(|e| lively.changed(*e)).count()
    }

    #[test]
    fn a_tone_changes_only_where_it_begins_and_ends() {
        let tone = [vec![0.0; 10], vec![1.0; 100], vec![0.3], vec![0.0; 10]].concat();
        assert!(changes(tone) <= 4);
        assert_eq!(changes(vec![0.0; 100]), 0);
    }

    #[test]
    fn syllables_change_again_and_again() {
        let syllables = [0.1, 0.5, 1.0, 1.0, 0.6, 0.1].repeat(10);
        assert!(changes(syllables) > 20);
    }
}
