//! How loud somebody speaks, pauses left out, and the gain that brings another voice to the same loudness.
//! The root mean square of frames above a gate, after ITU-T P.56's active level, simplified.

use crate::media::volume::Volume;

/// -45 dBFS: what is softer is no speech on a telephone line.
const GATE: f32 = 184.0 * 184.0;
/// Frames are weighed as an average over the last four seconds of speech, all alike until then.
const LONG: f32 = 200.0;
/// 300 ms of speech, before which nothing is claimed.
const ENOUGH: f32 = 15.0;
/// Levelling changes a voice by no more, in decibels.
const MOST: f32 = 12.0;

/// The active level of one voice.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Level {
    power: f32,
    frames: f32,
}

impl Level {
    /// 20 ms of the voice, at any rate. Pauses change nothing. Answers whether it was none.
    pub fn heard(&mut self, frame: &[i16]) -> bool {
        let power = frame.iter().map(|s| f32::from(*s) * f32::from(*s)).sum::<f32>() / frame.len().max(1) as f32;
        if power < GATE {
            return false;
        }
        self.frames = (self.frames + 1.0).min(LONG);
        self.power += (power - self.power) / self.frames;
        true
    }
    /// That of several together, of whom enough is known.
    pub fn of(voices: impl Iterator<Item = Level>) -> Level {
        let (power, count) = voices
            .filter(|v| v.frames >= ENOUGH)
            .fold((0.0, 0.0f32), |(power, count), v| (power + v.power, count + 1.0));
        Level { power: power / count.max(1.0), frames: if count > 0.0 { ENOUGH } else { 0.0 } }
    }
    /// In decibels below a full-scale square wave; nothing before 300 ms of speech were heard.
    pub fn dbfs(&self) -> Option<f32> {
        (self.frames >= ENOUGH).then(|| 10.0 * (self.power / (32_768.0 * 32_768.0)).log10())
    }
    /// What brings this voice to `target`, to half a decibel: from -12 to +12 dB; nothing where either is not known.
    pub fn towards(&self, target: &Level) -> Volume {
        match (self.dbfs(), target.dbfs()) {
            (Some(own), Some(wanted)) => {
                Volume::decibels((wanted - own).clamp(-MOST, MOST).round() as i8).unwrap_or_default()
            }
            (None, _) | (_, None) => Volume::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn voice(amplitude: f32) -> Level {
        let mut level = Level::default();
        for frame in 0..100 {
            let at = if frame % 2 == 0 { amplitude } else { 0.0 };
            let sine = |n: usize| (at * (n as f32 * std::f32::consts::TAU / 16.0).sin()) as i16;
            assert_eq!(level.heard(&std::array::from_fn::<i16, 160, _>(sine)), at > 0.0);
        }
        level
    }

    #[test]
    fn pauses_do_not_make_a_voice_softer() {
        let dbfs = voice(32_767.0).dbfs().unwrap();
        assert!((dbfs + 3.01).abs() < 0.05, "a full-scale sine: {dbfs}");
    }

    #[test]
    fn a_clip_is_brought_to_the_calls_loudness_within_bounds() {
        let gain = |own, call| voice(own).towards(&voice(call));
        let db = |db| Volume::decibels(db).unwrap();
        assert_eq!(gain(4000.0, 2000.0), db(-6));
        assert_eq!(gain(2000.0, 4000.0), db(6));
        assert_eq!(gain(20_000.0, 600.0), db(-12));
        assert_eq!(gain(600.0, 20_000.0), db(12));
    }

    #[test]
    fn nothing_is_done_before_enough_was_heard() {
        let mut short = Level::default();
        (0..14).for_each(|_| assert!(short.heard(&[1000; 160])));
        assert_eq!(short.dbfs(), None);
        assert_eq!(voice(1000.0).towards(&short), Volume::default());
        assert!(!short.heard(&[]));
        assert_eq!(short.dbfs(), None);
    }
}
