//! What a clip sounds like, rendered ahead at every rate a leg may have: nothing is resampled while it plays.

use crate::media::level::Level;
use crate::media::pcm::Rate;
use crate::media::resample::{UnusableRate, convert};
use crate::media::volume::Volume;
use std::sync::Arc;

/// A piece of sound, mono. Cheap to clone.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sound {
    renderings: [Arc<[i16]>; 3],
    level: Level,
    peak: u16,
}

impl Sound {
    /// Renders samples of `hz` a second at all three rates. Takes 0.5 ms for a second of sound, and memory of 144 kB: not
    /// for a media thread.
    pub fn new(pcm: &[i16], hz: u32) -> Result<Sound, UnusableRate> {
        let narrow = convert(pcm, hz, Rate::Narrow.hz())?;
        let render = |rate: Rate| -> Result<Arc<[i16]>, UnusableRate> {
            let mut made = convert(pcm, hz, rate.hz())?;
            // Rounding of the length must not move one rendering against another.
            made.resize(narrow.len() * (rate.frame() / Rate::Narrow.frame()), 0);
            Ok(made.into())
        };
        Ok(Sound::weighed([render(Rate::Narrow)?, render(Rate::Wide)?, render(Rate::Full)?]))
    }

    /// Renderings made elsewhere, of one length, the lowest rate first.
    pub fn rendered(renderings: [Arc<[i16]>; 3]) -> Option<Sound> {
        let [narrow, wide, full] = &renderings;
        let agree = wide.len() == 2 * narrow.len() && full.len() == 6 * narrow.len();
        agree.then(|| Sound::weighed(renderings))
    }

    fn weighed(renderings: [Arc<[i16]>; 3]) -> Sound {
        let [narrow, ..] = &renderings;
        let mut level = Level::default();
        narrow.chunks(Rate::Narrow.frame()).for_each(|frame| {
            level.heard(frame);
        });
        let peak = narrow.iter().map(|s| s.unsigned_abs()).max().unwrap_or(0);
        Sound { renderings, level, peak }
    }

    /// What brings it to the loudness of `voices`, where both are known and it does not clip.
    pub fn towards(&self, voices: &Level) -> Volume {
        let room = 20.0 * (f32::from(i16::MAX) / f32::from(self.peak.max(1))).log10();
        self.level.towards(voices).at_most(room)
    }

    /// Its samples at a rate.
    pub fn at(&self, rate: Rate) -> &[i16] {
        &self.renderings[rate as usize]
    }
    /// Its length in samples at 8 kHz.
    pub fn len(&self) -> usize {
        self.renderings[Rate::Narrow as usize].len()
    }
    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Samples of all renderings together.
    pub fn samples(&self) -> usize {
        self.renderings.iter().map(|r| r.len()).sum()
    }
}

/// Samples at 8 kHz.
impl From<Vec<i16>> for Sound {
    fn from(narrow: Vec<i16>) -> Self {
        // 8 kHz is a rate like any other.
        Sound::new(&narrow, Rate::Narrow.hz()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renderings_are_of_one_length_and_8_khz_is_untouched() {
        let pcm: Vec<i16> = (0..1001).map(|n| (n * 31 % 2000) as i16 - 1000).collect();
        let sound = Sound::from(pcm.clone());
        assert_eq!((sound.at(Rate::Narrow), sound.len()), (&pcm[..], 1001));
        assert_eq!((sound.at(Rate::Wide).len(), sound.at(Rate::Full).len()), (2002, 6006));
        assert!(pcm.iter().zip(sound.at(Rate::Full).iter().step_by(6)).all(|(a, b)| a == b));
        let odd = Sound::new(&pcm, 22_050).unwrap();
        assert_eq!((odd.at(Rate::Wide).len(), odd.at(Rate::Full).len()), (2 * odd.len(), 6 * odd.len()));
        assert!(Sound::new(&pcm, 1).is_err() && Sound::from(Vec::new()).is_empty());
        assert_eq!(Sound::rendered(sound.renderings.clone()), Some(sound));
        assert_eq!(Sound::rendered([3, 6, 17].map(|n| vec![0; n].into())), None);
        assert!(Sound::from(vec![0; 500]).at(Rate::Full).iter().all(|s| *s == 0));
    }
}
