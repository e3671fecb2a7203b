//! What was heard, held against what was said: packet by packet, and by correlation.

use super::party::{FRAME, Received, Sent};
use std::collections::HashMap;

/// One party's packets as sent, held against what the other received.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Comparison {
    /// Packets that arrived and stand where a sent one should be.
    pub packets_compared: usize,
    /// Bytes of those that are not as they were sent; a missing or added byte counts.
    pub differing_bytes: usize,
    /// Packets that were sent between two that arrived and did not arrive themselves.
    pub not_delivered: usize,
    /// Packets that arrived once more, or behind a later one.
    pub out_of_order: usize,
    /// Packets that arrived before the first of the other party's (ringback, a greeting).
    pub before_the_first: usize,
}

/// Walks through what arrived in order of arrival, from the first packet that the other party sent. No two packets
/// of a party are alike, so each that arrives unchanged has one place; one that has none was changed on the way.
pub fn compare(sent: &[Sent], received: &[Received]) -> Comparison {
    let place: HashMap<&[u8], usize> = sent.iter().enumerate().map(|(i, p)| (&p.payload[..], i)).collect();
    let mut result = Comparison::default();
    let mut next = None;
    for packet in received {
        let found = place.get(packet.payload.as_slice()).copied();
        let Some(expected) = next.or(found) else {
            result.before_the_first += 1;
            continue;
        };
        match found {
            Some(i) if i < expected => result.out_of_order += 1,
            Some(i) => {
                result.packets_compared += 1;
                result.not_delivered += i - expected;
                next = Some(i + 1);
            }
            None => {
                result.packets_compared += 1;
                result.differing_bytes += sent.get(expected).map_or(FRAME, |s| differing(&s.payload, &packet.payload));
                next = Some(expected + 1);
            }
        }
    }
    result
}

fn differing(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).filter(|(a, b)| a != b).count() + a.len().abs_diff(b.len())
}

/// How well `clip` is found anywhere in `heard`: the highest normalised cross-correlation, 1 for a perfect copy at
/// any loudness, near 0 for something else. 0 if it is longer than what was heard, or silent.
pub fn correlation_peak(heard: &[i16], clip: &[i16]) -> f64 {
    best_match(heard, clip).1
}

/// The same, and from which sample on.
pub fn best_match(heard: &[i16], clip: &[i16]) -> (usize, f64) {
    let clip_energy = energy(clip.iter());
    if clip.is_empty() || heard.len() < clip.len() || clip_energy == 0.0 {
        return (0, 0.0);
    }
    let products = correlate(heard, clip);
    let mut window = energy(heard.iter().take(clip.len()));
    let mut best = (0, 0.0);
    for (lag, product) in products.iter().enumerate() {
        // Below one unit a sample there is nothing but rounding.
        if window > clip.len() as f64 {
            let likeness = product / (clip_energy * window).sqrt();
            if likeness > best.1 {
                best = (lag, likeness);
            }
        }
        let leaves = heard.get(lag).map_or(0.0, |s| f64::from(*s).powi(2));
        let enters = heard.get(lag + clip.len()).map_or(0.0, |s| f64::from(*s).powi(2));
        window += enters - leaves;
    }
    best
}

fn energy<'a>(samples: impl Iterator<Item = &'a i16>) -> f64 {
    samples.map(|s| f64::from(*s).powi(2)).sum()
}

/// The sum of products of `clip` and `heard` at each lag at which the clip lies within it.
fn correlate(heard: &[i16], clip: &[i16]) -> Vec<f64> {
    let size = (heard.len() + clip.len()).next_power_of_two();
    let (heard_bins, clip_bins) = (fourier(samples(heard, size)), fourier(samples(clip, size)));
    // The conjugate turns convolution into correlation. A transform of the product's conjugate is the inverse one,
    // conjugated, and what comes out is real.
    let product =
        heard_bins.iter().zip(clip_bins).map(|(h, c)| (h.0 * c.0 + h.1 * c.1, h.0 * c.1 - h.1 * c.0)).collect();
    let lags = heard.len() - clip.len() + 1;
    fourier(product).iter().take(lags).map(|sum| sum.0 / size as f64).collect()
}

fn samples(pcm: &[i16], size: usize) -> Vec<Bin> {
    let mut bins: Vec<Bin> = pcm.iter().map(|s| (f64::from(*s), 0.0)).collect();
    bins.resize(size, (0.0, 0.0));
    bins
}

/// A complex number.
type Bin = (f64, f64);

/// The discrete Fourier transform of a power of two of samples, by halves (Cooley and Tukey). Written here because it
/// runs four times a demo, while a crate's generic code would be compiled into every build of this one.
fn fourier(samples: Vec<Bin>) -> Vec<Bin> {
    if samples.len() < 2 {
        return samples;
    }
    let half = samples.len() / 2;
    let every_second = |first| fourier(samples.iter().copied().skip(first).step_by(2).collect());
    let (even, odd): (Vec<Bin>, Vec<Bin>) = (every_second(0), every_second(1));
    let mut bins = even.clone();
    bins.extend(even);
    for (k, odd) in odd.into_iter().enumerate() {
        let (sin, cos) = (-std::f64::consts::PI * k as f64 / half as f64).sin_cos();
        let turned = (odd.0 * cos - odd.1 * sin, odd.0 * sin + odd.1 * cos);
        for (bin, sign) in [(k, 1.0), (k + half, -1.0)] {
            if let Some(bin) = bins.get_mut(bin) {
                *bin = (bin.0 + sign * turned.0, bin.1 + sign * turned.1);
            }
        }
    }
    bins
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::clock;
    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};

    fn sent(count: usize) -> Vec<Sent> {
        let mut random = StdRng::seed_from_u64(1);
        (0..count)
            .map(|_| Sent { at: clock::now(), payload: [0; FRAME].map(|_| random.random()), lost: false })
            .collect()
    }

    fn arrived(payload: &[u8]) -> Received {
        Received { at: clock::now(), sequence: 0, timestamp: 0, ssrc: 0, payload_type: 0, payload: payload.to_vec() }
    }

    #[test]
    fn an_untouched_stream_has_no_difference() {
        let sent = sent(10);
        let ringback = arrived(&[7; FRAME]);
        let received: Vec<_> = [ringback].into_iter().chain(sent[2..].iter().map(|p| arrived(&p.payload))).collect();
        let expected = Comparison { packets_compared: 8, before_the_first: 1, ..Comparison::default() };
        assert_eq!(compare(&sent, &received), expected);
    }

    #[test]
    fn one_changed_byte_a_lost_and_a_repeated_packet_are_found() {
        let sent = sent(10);
        let mut received: Vec<_> = sent.iter().map(|p| arrived(&p.payload)).collect();
        received[4].payload[100] ^= 1;
        received.remove(7);
        received.push(received[0].clone());
        let expected = Comparison {
            packets_compared: 9,
            differing_bytes: 1,
            not_delivered: 1,
            out_of_order: 1,
            before_the_first: 0,
        };
        assert_eq!(compare(&sent, &received), expected);
    }

    #[test]
    fn a_stream_that_something_was_mixed_into_differs_everywhere() {
        let sent = sent(10);
        let mixed = |p: &Sent| arrived(&p.payload.map(|b| b.wrapping_add(3)));
        let received: Vec<_> = [arrived(&sent[0].payload)].into_iter().chain(sent[1..].iter().map(mixed)).collect();
        assert_eq!(compare(&sent, &received).differing_bytes, 9 * FRAME);
    }

    fn noise(seed: u64, length: usize, loudness: i16) -> Vec<i16> {
        let mut random = StdRng::seed_from_u64(seed);
        (0..length).map(|_| random.random_range(-loudness..=loudness)).collect()
    }

    #[test]
    fn a_quiet_copy_is_found_and_a_stranger_is_not() {
        let clip = noise(1, 4000, 8000);
        let mut heard = noise(2, 40_000, 200);
        for (sample, clip) in heard[20_000..].iter_mut().zip(&clip) {
            *sample += clip / 8;
        }
        assert!(correlation_peak(&heard, &clip) > 0.95);
        assert!(correlation_peak(&heard, &noise(3, 4000, 8000)) < 0.1);
    }

    #[test]
    fn silence_is_found_nowhere_and_nothing_in_silence() {
        assert_eq!(correlation_peak(&noise(1, 1000, 9), &[0; 100]), 0.0);
        assert_eq!(correlation_peak(&[0; 1000], &noise(1, 100, 9)), 0.0);
        assert_eq!(correlation_peak(&[], &[]), 0.0);
    }
}
