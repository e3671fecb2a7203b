//! Sounds that are found again wherever they are heard, and where they were found.

use crate::cli::demo::party::{Capture, Spoken};
use crate::cli::demo::proof::best_match;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A marker is so many bursts of a tone, each of a pitch of its own: a voice's band and rhythm, which codecs, conferences and
/// echo cancellers let pass, and unlike every other marker.
const BURSTS: usize = 16;
const BURST: usize = 560;
/// From 350 to 3,000 Hz, -17 dBFS.
const PITCHES: std::ops::Range<f32> = 350.0..3_000.0;
const AMPLITUDE: f32 = 6_500.0;
/// What is more like a marker than this is one: by chance it is 0.15 at most, and a copy 50 dB down is still 0.5.
const FOUND: f64 = 0.3;
/// How much later than it was said it may be heard.
const LATEST: Duration = Duration::from_millis(1_800);

/// A sound of its own for each `seed`, a little more than a second.
pub fn marker(seed: u64) -> Arc<[i16]> {
    let mut random = StdRng::seed_from_u64(seed);
    let burst = |hz: f32| {
        (0..BURST).map(move |n| {
            let soft = (n.min(BURST - 1 - n) as f32 / 40.0).min(1.0);
            (AMPLITUDE * soft * (std::f32::consts::TAU * hz * n as f32 / 8_000.0).sin()) as i16
        })
    };
    let pitches: Vec<f32> = (0..BURSTS).map(|_| random.random_range(PITCHES)).collect();
    pitches.into_iter().flat_map(burst).collect()
}

/// How a marker was heard.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub struct Heard {
    /// Whether it was.
    pub heard: bool,
    /// How like it what was heard is, 0 to 1.
    pub likeness: f64,
    /// From its first sample's packet to that of its copy, milliseconds; none where it was not heard.
    pub delay_ms: Option<u64>,
}

/// Looks for what was said at `spoken` in what came to somebody.
pub fn find(capture: &Capture, marker: &[i16], spoken: Spoken) -> Heard {
    let until = spoken.last + LATEST;
    let near = capture.received.iter().filter(|p| p.at >= spoken.first && p.at <= until);
    let (mut pcm, mut times): (Vec<i16>, Vec<(usize, Instant)>) = (Vec::new(), Vec::new());
    for packet in near {
        times.push((pcm.len(), packet.at));
        pcm.extend(capture.decode(&packet.payload));
    }
    let (at, likeness) = best_match(&pcm, marker);
    let heard = likeness >= FOUND;
    let came = times.iter().rev().find(|(from, _)| *from <= at).map(|(_, came)| *came);
    let delay_ms = came.filter(|_| heard).map(|came| (came - spoken.first).as_millis() as u64);
    Heard { heard, likeness: (likeness * 100.0).round() / 100.0, delay_ms }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::demo::party::Received;
    use crate::io::clock;
    use crate::media::codec::g711::Law;

    fn capture(start: Instant, pcm: &[i16]) -> Capture {
        let packet = |(n, frame): (usize, &[i16])| Received {
            at: start + Duration::from_millis(20 * n as u64),
            sequence: n as u16,
            timestamp: 160 * n as u32,
            ssrc: 1,
            payload_type: 0,
            payload: frame.iter().map(|s| Law::Mu.encode(*s)).collect(),
        };
        Capture { codec: Law::Mu, sent: Vec::new(), received: pcm.chunks(160).enumerate().map(packet).collect() }
    }

    #[test]
    fn a_marker_is_found_with_its_delay_however_quiet_and_no_other_is() {
        let start = clock::now();
        let said = marker(1);
        let spoken = Spoken { first: start, last: start + Duration::from_millis(1_100) };
        for loudness in [1, 8, 60] {
            let mut pcm = vec![0i16; 20_000];
            pcm.iter_mut().skip(1_600).zip(said.iter()).for_each(|(to, from)| *to = from / loudness);
            let found = find(&capture(start, &pcm), &said, spoken);
            assert_eq!((found.heard, found.delay_ms), (true, Some(200)), "{loudness}: {found:?}");
            for other in 2..12 {
                let other = find(&capture(start, &pcm), &marker(other), spoken);
                assert!(!other.heard && other.delay_ms.is_none(), "{other:?}");
            }
        }
        assert!(!find(&capture(start, &[]), &said, spoken).heard);
    }
}
