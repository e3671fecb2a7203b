//! A gain in decibels: how loud one listener hears, how far a voice goes down under another, what brings a clip to the
//! loudness of a call.
//!
//! At 0 dB nothing is touched. A listener's change is spread over one frame, so that it makes no click.

use serde::{Deserialize, Serialize};

/// A gain in decibels, from −24 to +24.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Volume(i8);

impl Volume {
    /// Quieter is silence to a caller on a telephone; louder is noise.
    const MOST: i8 = 24;
    /// What one key goes through, round and round. Each step is 6 dB or more: half or twice the amplitude.
    const ROUND: [i8; 5] = [0, 6, 12, -12, -6];

    /// None beyond ±24 dB.
    pub const fn decibels(db: i8) -> Option<Self> {
        if db >= -Self::MOST && db <= Self::MOST { Some(Volume(db)) } else { None }
    }

    /// Whether nothing is to be done.
    pub fn is_unity(self) -> bool {
        self.0 == 0
    }

    /// The next of the round: 0, +6, +12, −12, −6 dB. From any other it begins anew.
    pub fn next(self) -> Self {
        let at = Self::ROUND.iter().position(|db| *db == self.0);
        let next = at.and_then(|at| Self::ROUND.get(at + 1)).copied();
        Volume(next.unwrap_or(0))
    }

    /// No more than so many decibels, rounded down.
    pub fn at_most(self, db: f32) -> Self {
        Volume(self.0.min(db.floor().clamp(-f32::from(Volume::MOST), f32::from(Volume::MOST)) as i8))
    }

    /// The factor for amplitudes; exactly 1 for 0 dB.
    pub fn factor(self) -> f32 {
        if self.is_unity() { 1.0 } else { 10f32.powf(f32::from(self.0) / 20.0) }
    }
}

impl<'de> Deserialize<'de> for Volume {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let db = i8::deserialize(d)?;
        Volume::decibels(db).ok_or_else(|| serde::de::Error::custom("a volume is from -24 to 24 decibels"))
    }
}

/// Brings sums of voices to a volume, from where the frame before was. What is too loud then is the limiter's business.
#[derive(Clone, Copy, Debug)]
pub struct Fader {
    factor: f32,
}

impl Default for Fader {
    fn default() -> Self {
        Fader { factor: 1.0 }
    }
}

impl Fader {
    /// One frame, before it is limited.
    pub fn fade(&mut self, to: Volume, frame: &mut [i32]) {
        let (from, to) = (self.factor, to.factor());
        self.factor = to;
        if from == 1.0 && to == 1.0 {
            return;
        }
        let step = (to - from) / frame.len().max(1) as f32;
        for (n, sample) in frame.iter_mut().enumerate() {
            // A conversion from a float saturates.
            *sample = (*sample as f32 * (from + step * (n + 1) as f32)).round() as i32;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_round_goes_through_five_steps_that_all_differ_by_6_db_or_more() {
        let mut round = vec![Volume::default()];
        for _ in 0..5 {
            round.push(round[round.len() - 1].next());
        }
        assert_eq!(round.iter().map(|v| v.0).collect::<Vec<_>>(), [0, 6, 12, -12, -6, 0]);
        assert_eq!(Volume::decibels(-20).unwrap().next(), Volume::default());
    }

    #[test]
    fn a_level_is_what_its_decibels_say() {
        for (db, expected) in [(6, 1995), (12, 3981), (-6, 501), (-12, 251), (24, 15_849), (-24, 63)] {
            let mut fader = Fader::default();
            let volume = Volume::decibels(db).unwrap();
            fader.fade(volume, &mut [1000; 160]);
            let mut frame = [1000; 160];
            fader.fade(volume, &mut frame);
            assert_eq!(frame, [expected; 160], "{db} dB");
        }
        assert_eq!((Volume::decibels(25), Volume::decibels(-25), Volume::decibels(i8::MIN)), (None, None, None));
    }

    #[test]
    fn a_change_is_spread_over_a_frame_and_nothing_is_touched_at_0_db() {
        let mut fader = Fader::default();
        let mut frame = [1000; 160];
        fader.fade(Volume::decibels(6).unwrap(), &mut frame);
        assert!(frame.windows(2).all(|w| (0..=7).contains(&(w[1] - w[0]))), "no step is heard");
        assert_eq!(frame[159], 1995);
        fader.fade(Volume::default(), &mut [1000; 160]);
        let mut frame = [i32::MIN, i32::MAX, 1, -1];
        fader.fade(Volume::default(), &mut frame);
        assert_eq!(frame, [i32::MIN, i32::MAX, 1, -1]);
    }
}
