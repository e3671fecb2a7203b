//! Sound that routes play: files, and the tone that says a telephone rings.

use crate::call::Sound;
use crate::media::resample::UnusableRate;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

/// What the ringing tone is made at.
const RATE: u32 = 8_000;
/// A call plays clips of at most a minute.
const MAX_SECONDS: u64 = 60;

/// Why a file cannot be played.
#[derive(Debug, thiserror::Error)]
pub enum PlayError {
    /// It cannot be read, or is no WAV.
    #[error("{0}: {1}")]
    Unreadable(PathBuf, hound::Error),
    /// It is too long, empty, or of an impossible rate.
    #[error("{0}: {1}")]
    Unfit(PathBuf, &'static str),
    /// Nothing can be made of its rate.
    #[error("{0}: {1}")]
    Rate(PathBuf, UnusableRate),
    /// The thread that reads died.
    #[error(transparent)]
    Thread(#[from] tokio::task::JoinError),
}

/// A WAV file of any rate, depth and number of channels, as mono. Read off the signalling threads.
pub async fn file(path: &Path) -> Result<Sound, PlayError> {
    let path = path.to_owned();
    tokio::task::spawn_blocking(move || load(&path)).await?
}

fn load(path: &Path) -> Result<Sound, PlayError> {
    let unreadable = |e| PlayError::Unreadable(path.to_owned(), e);
    let unfit = |why| PlayError::Unfit(path.to_owned(), why);
    let reader = hound::WavReader::open(path).map_err(unreadable)?;
    let spec = reader.spec();
    if spec.channels == 0 || !(4_000..=192_000).contains(&spec.sample_rate) {
        return Err(unfit("its header makes no sense"));
    }
    if u64::from(reader.duration()) > MAX_SECONDS * u64::from(spec.sample_rate) {
        return Err(unfit("it is longer than a minute"));
    }
    let samples = read(reader, spec).map_err(unreadable)?;
    let mono: Vec<f32> =
        samples.chunks_exact(spec.channels.into()).map(|c| c.iter().sum::<f32>() / c.len() as f32).collect();
    if mono.is_empty() {
        return Err(unfit("it is empty"));
    }
    let pcm: Vec<i16> = mono.iter().map(|s| (s * 32_767.0).round().clamp(-32_768.0, 32_767.0) as i16).collect();
    Sound::new(&pcm, spec.sample_rate).map_err(|e| PlayError::Rate(path.to_owned(), e))
}

fn read<R: io::Read>(mut reader: hound::WavReader<R>, spec: hound::WavSpec) -> hound::Result<Vec<f32>> {
    match spec.sample_format {
        hound::SampleFormat::Float => reader.samples::<f32>().collect(),
        hound::SampleFormat::Int => {
            let full = (1u64 << (spec.bits_per_sample.clamp(1, 32) - 1)) as f32;
            reader.samples::<i32>().map(|s| Ok(s? as f32 / full)).collect()
        }
    }
}

/// One turn of the North American ringing tone (ITU-T E.180 Supplement 2): 440 and 480 Hz at −19 dBm0 each, two
/// seconds on, four off. Played over and over it has no seam.
pub fn ringing() -> Sound {
    static RINGING: LazyLock<Sound> = LazyLock::new(|| Sound::from(one_turn()));
    RINGING.clone()
}

fn one_turn() -> Vec<i16> {
    const ON: usize = 2 * RATE as usize;
    const OFF: usize = 4 * RATE as usize;
    // −19 dBm0 against a full scale of +3.17 dBm0.
    let amplitude = 32_767.0 * 10f64.powf((-19.0 - 3.17) / 20.0);
    let tone = |hz: f64, n: usize| (std::f64::consts::TAU * hz * n as f64 / f64::from(RATE)).sin();
    let on = (0..ON).map(|n| (amplitude * (tone(440.0, n) + tone(480.0, n))) as i16);
    on.chain(std::iter::repeat_n(0, OFF)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::pcm::Rate;

    fn power(pcm: &[i16], hz: f64) -> f64 {
        let w = std::f64::consts::TAU * hz / f64::from(RATE);
        let (re, im) = pcm.iter().enumerate().fold((0.0, 0.0), |(re, im), (n, s)| {
            let (sin, cos) = (w * n as f64).sin_cos();
            (re + f64::from(*s) * cos, im + f64::from(*s) * sin)
        });
        2.0 * (re * re + im * im).sqrt() / pcm.len() as f64
    }

    fn written(rate: u32, channels: u16, hz: f64) -> PathBuf {
        let path = std::env::temp_dir().join(format!("sotto-play-{}-{rate}-{channels}.wav", std::process::id()));
        let spec = hound::WavSpec {
            channels,
            sample_rate: rate,
            bits_per_sample: 16,
            sample_format: hound::SampleFormat::Int,
        };
        let mut writer = hound::WavWriter::create(&path, spec).unwrap();
        for n in 0..rate {
            let s = 8_000.0 * (std::f64::consts::TAU * hz * f64::from(n) / f64::from(rate)).sin();
            (0..channels).for_each(|_| writer.write_sample(s as i16).unwrap());
        }
        writer.finalize().unwrap();
        path
    }

    #[test]
    fn files_of_any_rate_keep_their_length_and_level() {
        for (rate, channels) in [(8_000, 1), (16_000, 1), (44_100, 2), (48_000, 2)] {
            let path = written(rate, channels, 1_000.0);
            let sound = load(&path).unwrap();
            let pcm = sound.at(Rate::Narrow);
            std::fs::remove_file(&path).unwrap();
            assert!(pcm.len().abs_diff(8_000) <= 2, "{rate}: {}", pcm.len());
            let level = power(&pcm[1_000..7_000], 1_000.0);
            assert!((level - 8_000.0).abs() < 100.0, "{rate}: {level}");
        }
    }

    #[test]
    fn what_8_khz_cannot_carry_does_not_fold_back() {
        let path = written(48_000, 1, 5_000.0);
        let sound = load(&path).unwrap();
        let pcm = sound.at(Rate::Narrow);
        std::fs::remove_file(&path).unwrap();
        // 5 kHz would fold to 3 kHz.
        assert!(power(&pcm[1_000..7_000], 3_000.0) < 80.0, "40 dB down at least");
    }

    #[test]
    fn a_file_that_is_no_wav_is_named() {
        let error = load(Path::new("/nonexistent/greeting.wav")).unwrap_err();
        assert!(error.to_string().starts_with("/nonexistent/greeting.wav: "), "{error}");
    }

    #[test]
    fn the_ringing_tone_is_440_and_480_hz_two_seconds_in_six() {
        let tone = ringing();
        assert_eq!(tone.len(), 48_000);
        let (on, off) = tone.at(Rate::Narrow).split_at(16_000);
        for hz in [440.0, 480.0] {
            let dbm0 = 20.0 * (power(on, hz) / 32_767.0).log10() + 3.17;
            assert!((dbm0 + 19.0).abs() < 0.5, "{hz}: {dbm0}");
        }
        assert!(off.iter().all(|s| *s == 0));
    }
}
