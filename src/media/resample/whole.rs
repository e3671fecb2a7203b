//! A whole buffer at any rate made one at any other. Nothing is delayed: sample 0 stays sample 0.

use super::kernel::{dot, kernel, sample};

/// Rates a whole buffer may have. Below 4 kHz nothing of speech is left; above 192 kHz nobody records.
const RATES: std::ops::RangeInclusive<u32> = 4_000..=192_000;
/// Samples of the lower rate the filter has to each side: twice the stream's, for delay costs nothing here.
const HALF: usize = 32;

/// A sample rate nothing can be made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("audio of {0} samples a second cannot be used: 4,000 to 192,000 can")]
pub struct UnusableRate(pub u32);

/// A whole buffer of `from` samples a second, made `to`.
pub fn convert(pcm: &[i16], from: u32, to: u32) -> Result<Vec<i16>, UnusableRate> {
    if let Some(unusable) = [from, to].into_iter().find(|rate| !RATES.contains(rate)) {
        return Err(UnusableRate(unusable));
    }
    if from == to {
        return Ok(pcm.to_vec());
    }
    Ok(computed(pcm, from, to).map(sample).collect())
}

/// A whole buffer of 8 kHz, made 16 kHz, −1 to 1.
pub fn to_16k(pcm: &[i16]) -> Vec<f32> {
    computed(pcm, 8_000, 16_000).map(|s| (s / 32_768.0).clamp(-1.0, 1.0)).collect()
}

fn computed(pcm: &[i16], from: u32, to: u32) -> impl Iterator<Item = f32> {
    let common = gcd(from, to);
    let (up, down) = ((to / common) as usize, (from / common) as usize);
    let lower = f64::from(from.min(to)) / f64::from(from);
    // Input samples to each side of an output sample.
    let side = (HALF as f64 / lower).ceil() as usize;
    let mut padded = vec![0f32; side];
    padded.extend(pcm.iter().map(|s| f32::from(*s)));
    padded.resize(padded.len() + side + 1, 0.0);
    let mut rows: Vec<Option<Vec<f32>>> = vec![None; up];
    let length = (pcm.len() * up).div_ceil(down);
    (0..length).map(move |n| {
        let (at, phase) = (n * down / up, n * down % up);
        let row = rows[phase].get_or_insert_with(|| {
            let distance = |j: usize| j as f64 - side as f64 - phase as f64 / up as f64;
            (0..=2 * side).map(|j| (lower * kernel(distance(j) * lower, HALF as f64)) as f32).collect()
        });
        dot(row, &padded[at..at + 2 * side + 1])
    })
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use std::f64::consts::TAU;

    pub fn tone(hz: f64, rate: u32, samples: usize) -> Vec<i16> {
        (0..samples).map(|n| (10_000.0 * (TAU * hz * n as f64 / f64::from(rate)).sin()).round() as i16).collect()
    }

    /// Power in decibels.
    pub fn level(pcm: &[i16]) -> f64 {
        10.0 * (pcm.iter().map(|s| f64::from(*s).powi(2)).sum::<f64>() / pcm.len() as f64).max(1e-3).log10()
    }

    /// The power of what is not a tone of `hz`: it is fitted and subtracted.
    pub fn rest(pcm: &[i16], hz: f64, rate: u32) -> f64 {
        let phase = |n: usize| TAU * hz * n as f64 / f64::from(rate);
        let (mut s, mut c) = (0.0, 0.0);
        for (n, x) in pcm.iter().enumerate() {
            s += f64::from(*x) * phase(n).sin() * 2.0 / pcm.len() as f64;
            c += f64::from(*x) * phase(n).cos() * 2.0 / pcm.len() as f64;
        }
        let left = |(n, x): (usize, &i16)| (f64::from(*x) - s * phase(n).sin() - c * phase(n).cos()).powi(2);
        10.0 * (pcm.iter().enumerate().map(left).sum::<f64>() / pcm.len() as f64).max(1e-3).log10()
    }

    #[test]
    fn whole_buffers_keep_length_level_and_time() {
        for from in [8_000, 11_025, 16_000, 22_050, 24_000, 44_100, 48_000] {
            for to in [8_000, 16_000, 48_000] {
                let made = convert(&tone(1_000.0, from, from as usize * 2), from, to).unwrap();
                assert_eq!(made.len(), to as usize * 2, "{from}");
                let wanted = tone(1_000.0, to, to as usize * 2);
                let inner = to as usize / 20..to as usize * 2 - to as usize / 20;
                let error: Vec<i16> = inner.map(|n| made[n] - wanted[n]).collect();
                assert!(level(&error) < 77.0 - 60.0, "{from} {to}: {:.1} dB", level(&error));
            }
        }
    }

    #[test]
    fn what_8_khz_cannot_hold_is_removed() {
        let narrow = convert(&tone(4_400.0, 22_050, 22_050), 22_050, 8_000).unwrap();
        assert!(level(&narrow[400..7_600]) < 77.0 - 60.0, "{:.1} dB", level(&narrow[400..7_600]));
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
    fn hostile_rates_are_refused() {
        for rate in [0, 1, 3_999, 192_001, u32::MAX] {
            assert_eq!(convert(&[1, 2, 3], rate, 8_000), Err(UnusableRate(rate)));
        }
        assert_eq!(convert(&[], 22_050, 8_000), Ok(vec![]));
        // Rates without a common divisor cost a filter for every sample, no more.
        assert_eq!(convert(&[7; 50], 44_101, 8_000).unwrap().len(), 10);
    }
}
