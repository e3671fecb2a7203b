//! Tones, one a speaker, and finding them again.

use super::Sound;
use sotto::media::pcm::Rate;
use std::f64::consts::TAU;

/// A tone of `hz` that never ends, at 8 kHz.
pub fn tone(hz: f64) -> Sound {
    tone_at(hz, Rate::Narrow)
}

/// The same at any rate.
pub fn tone_at(hz: f64, rate: Rate) -> Sound {
    let per = f64::from(rate.hz());
    Box::new(move |n| (4000.0 * (n as f64 * hz * TAU / per).sin()) as i16)
}

/// `ms` milliseconds of a tone.
pub fn beep(hz: f64, ms: usize) -> Vec<i16> {
    (0..ms as u64 * 8).map(|n| sample(hz, n)).collect()
}

fn sample(hz: f64, n: u64) -> i16 {
    (4000.0 * (n as f64 * hz * TAU / 8000.0).sin()) as i16
}

/// The amplitude of `hz` in a sound (Goertzel), as the mean over pieces of 40 ms, so that a jump in phase where packets
/// meet does not cancel it.
pub fn amplitude(sound: &[i16], hz: f64) -> f64 {
    amplitude_at(sound, hz, Rate::Narrow)
}

/// The same of a sound at any rate.
pub fn amplitude_at(sound: &[i16], hz: f64, rate: Rate) -> f64 {
    let pieces = sound.chunks_exact(2 * rate.frame());
    let count = pieces.len().max(1) as f64;
    pieces.map(|p| goertzel(p, hz / f64::from(rate.hz()))).sum::<f64>() / count
}

/// Whether the tone is there: half of what a speaker sends is, a hundredth is not.
pub fn hears(sound: &[i16], hz: f64) -> bool {
    hears_at(sound, hz, Rate::Narrow)
}

/// The same of a sound at any rate.
pub fn hears_at(sound: &[i16], hz: f64, rate: Rate) -> bool {
    let a = amplitude_at(sound, hz, rate);
    assert!(!(200.0..1500.0).contains(&a), "{hz} Hz is neither there nor not: {a}");
    a >= 1500.0
}

/// `turns`: of the tone, in a sample.
fn goertzel(piece: &[i16], turns: f64) -> f64 {
    let turn = 2.0 * (turns * TAU).cos();
    let (mut a, mut b) = (0.0, 0.0);
    for s in piece {
        (a, b) = (f64::from(*s) + turn * a - b, a);
    }
    let power = a * a + b * b - turn * a * b;
    2.0 * power.max(0.0).sqrt() / piece.len() as f64
}
