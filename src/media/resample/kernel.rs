//! The filter behind both resamplers: a sinc under a Kaiser window, cut off at half the lower rate. Its zeros lie on
//! the samples of the lower rate, so that those pass exactly and only what is between them is computed.

use std::f64::consts::PI;

/// Kaiser's β for 70 dB (Oppenheim and Schafer, §7.5.3): 0.1102 (A − 8.7).
const BETA: f64 = 6.755;

/// The kernel at `x` samples of the lower rate from its middle, of `half` such samples to each side.
pub(super) fn kernel(x: f64, half: f64) -> f64 {
    let edge = x / half;
    if edge.abs() >= 1.0 {
        return 0.0;
    }
    let sinc = if x == 0.0 { 1.0 } else { (PI * x).sin() / (PI * x) };
    sinc * bessel(BETA * (1.0 - edge * edge).sqrt()) / bessel(BETA)
}

/// The modified Bessel function of the first kind and order 0, by its series.
fn bessel(x: f64) -> f64 {
    let (mut sum, mut term) = (1.0, 1.0);
    for k in 1..40 {
        term *= (x / (2.0 * f64::from(k))).powi(2);
        sum += term;
    }
    sum
}

/// The sum of products, in eight lanes that compilers make vectors of. Both as long as the shorter.
pub(super) fn dot(a: &[f32], b: &[f32]) -> f32 {
    let (a8, a_rest) = a.as_chunks::<8>();
    let (b8, b_rest) = b.as_chunks::<8>();
    let mut lanes = [0f32; 8];
    for (x, y) in a8.iter().zip(b8) {
        for (lane, (x, y)) in lanes.iter_mut().zip(x.iter().zip(y)) {
            *lane += x * y;
        }
    }
    lanes.iter().sum::<f32>() + a_rest.iter().zip(b_rest).map(|(x, y)| x * y).sum::<f32>()
}

/// To 16 bits, limited: the filter rings past full scale on clipped input.
pub(super) fn sample(x: f32) -> i16 {
    x.round().clamp(-32_768.0, 32_767.0) as i16
}
