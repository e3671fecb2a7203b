//! Speech through networks as they are: how much is made up, how long it takes, and how near it comes to what was
//! said, with concealment and without.
//!
//! The table: `cargo test --test a_bad_network_is_heard_well -- --nocapture`.

#[path = "support/samples.rs"]
mod samples;

use sotto::media::jitter::{Ear, Frame, Jitter, MOST, Made};
use sotto::media::pcm::Rate;
use sotto::media::seed::Seed;
use sotto::time::MediaTime;

const FRAME: usize = 160;
/// Media time of a packet and a tick.
const TICK: i64 = 960;
/// Speech: above −45 dB of full scale in 20 ms.
const SPEECH: f64 = 184.0 * 184.0 * FRAME as f64;
/// Each segment counts for no less and no more than this (Hansen and Pellom, 1998).
const SEGMENT_DB: [f64; 2] = [-10.0, 35.0];
/// How far from where it should be a frame that came is looked for, in samples.
const ASTRAY: i64 = 40;

#[derive(Clone, Copy, Default)]
struct Network {
    loss: u64,
    jitter_ms: u64,
    ppm: i64,
    reordered: u64,
}

/// What one ear made of it.
struct Heard {
    /// Of the frames with speech, in percent.
    concealed: f64,
    delay_ms: f64,
    delay_p95: f64,
    snr: f64,
}

impl Network {
    /// When packet `n` comes, if it comes.
    fn arrival(&self, n: i64, seed: &mut Seed) -> Option<i64> {
        let sent = (n + 1) * TICK * (1_000_000 - self.ppm) / 1_000_000;
        let late = seed.below(self.jitter_ms * 48 + 1) as i64;
        let behind = if seed.below(100) < self.reordered { 25 * 48 } else { 0 };
        (seed.below(100) >= self.loss).then_some(sent + late + behind)
    }

    fn hear(&self, ear: Ear, speech: &[i16], conceal: bool) -> Heard {
        let mut jitter = Jitter::new(Rate::Narrow, 8000);
        if !conceal {
            jitter = jitter.without_concealment();
        }
        let mut seed = Seed::new(7);
        let packets = speech.as_chunks::<FRAME>().0;
        let mut coming: Vec<(i64, usize)> =
            (0..packets.len()).filter_map(|n| Some((self.arrival(n as i64, &mut seed)?, n))).collect();
        coming.sort();
        let (mut coming, mut frame, mut score) = (coming.into_iter().peekable(), Frame::default(), Score::default());
        for tick in 1..packets.len() as i64 {
            // Ticks lie 7 ms after packets of a perfect network.
            let tick = tick * TICK + 336;
            while let Some((at, n)) = coming.next_if(|(at, _)| *at <= tick) {
                jitter.push(MediaTime(at), (n * FRAME) as u32, &packets[n], 1);
            }
            let before = jitter.delay(ear);
            jitter.pull(ear, MediaTime(tick), &mut frame);
            // What the sender's clock said when what is heard now left it; what was late or lost had its place before.
            let delay = if frame.made == Made::Heard { jitter.delay(ear) } else { before };
            let place = ((tick - delay.0) as f64 / 6.0 * (1.0 + self.ppm as f64 / 1e6)).round() as i64;
            score.add(speech, place, &frame, delay.0 as f64 / 48.0);
        }
        score.heard()
    }
}

#[derive(Default)]
struct Score {
    /// How far the last frame that came was from where it should be: the delay is known to a millisecond or two.
    off: i64,
    concealed: usize,
    segments: Vec<f64>,
    delays: Vec<f64>,
}

impl Score {
    fn add(&mut self, speech: &[i16], place: i64, frame: &Frame, delay: f64) {
        let said = |at: i64| speech.get(at.max(0) as usize..).and_then(|s| s.get(..FRAME));
        if said(place).is_none_or(|pcm| energy(pcm) < SPEECH) {
            return;
        }
        self.delays.push(delay);
        self.concealed += usize::from(frame.made != Made::Heard);
        let at = |by: i64| said(place + by).map_or(SEGMENT_DB[0], |pcm| snr(pcm, &frame.pcm));
        if frame.made == Made::Heard && at(self.off) < SEGMENT_DB[1] {
            self.off = (-ASTRAY..=ASTRAY).max_by(|a, b| at(*a).total_cmp(&at(*b))).unwrap_or(0);
        }
        self.segments.push(at(self.off));
    }

    fn heard(mut self) -> Heard {
        self.delays.sort_by(f64::total_cmp);
        let count = self.segments.len() as f64;
        Heard {
            concealed: 100.0 * self.concealed as f64 / count,
            delay_ms: self.delays.iter().sum::<f64>() / count,
            delay_p95: self.delays[self.delays.len() * 95 / 100],
            snr: self.segments.iter().sum::<f64>() / count,
        }
    }
}

fn energy(pcm: &[i16]) -> f64 {
    pcm.iter().map(|s| f64::from(*s).powi(2)).sum()
}

fn snr(said: &[i16], heard: &[i16]) -> f64 {
    let noise: f64 = said.iter().zip(heard).map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2)).sum();
    (10.0 * (energy(said) / noise.max(1.0)).log10()).clamp(SEGMENT_DB[0], SEGMENT_DB[1])
}

fn networks() -> Vec<Network> {
    let of = |loss, jitter_ms, ppm, reordered| Network { loss, jitter_ms, ppm, reordered };
    let mut all = vec![of(0, 0, 0, 0)];
    all.extend([1, 5, 10, 20].map(|loss| of(loss, 0, 0, 0)));
    all.extend([20, 40, 60, 90, 120].map(|jitter| of(0, jitter, 0, 0)));
    all.extend([-300, 300].map(|ppm| of(0, 0, ppm, 0)));
    all.extend([2, 10].map(|reordered| of(0, 0, 0, reordered)));
    all.extend([of(1, 20, 100, 1), of(5, 60, -300, 2), of(10, 90, 300, 5), of(20, 120, 300, 10)]);
    all
}

#[test]
fn speech_comes_through() {
    let speech: Vec<i16> = samples::calls()
        .iter()
        .take(3)
        .flat_map(|call| {
            ["agent", "customer"].map(|leg| samples::through_g711(&samples::audio(&format!("{call}_{leg}.wav"))))
        })
        .flatten()
        .collect();
    println!(
        "| loss % | jitter ms | drift ppm | late by one % | concealed % | delay ms | p95 | SNR dB | off: SNR dB | ears: concealed % | delay ms | SNR dB |"
    );
    println!("|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|");
    for network in networks() {
        let mix = network.hear(Ear::Mix, &speech, true);
        let off = network.hear(Ear::Mix, &speech, false);
        let tap = network.hear(Ear::Tap, &speech, true);
        let Network { loss, jitter_ms, ppm, reordered } = network;
        println!(
            "| {loss} | {jitter_ms} | {ppm} | {reordered} | {:.1} | {:.0} | {:.0} | {:.1} | {:.1} | {:.1} | {:.0} | {:.1} |",
            mix.concealed, mix.delay_ms, mix.delay_p95, mix.snr, off.snr, tap.concealed, tap.delay_ms, tap.snr
        );
        let name = format!("loss {loss} % jitter {jitter_ms} ms drift {ppm} ppm late {reordered} %");
        // A packet lost is one frame made up, or parts of two; of the rest one in fifty may come too late.
        let most = 2.0 * loss as f64 + if jitter_ms + reordered > 0 { 3.0 } else { 0.5 };
        assert!(
            mix.concealed <= most && tap.concealed <= most,
            "{name}: {:.1} %, {:.1} %",
            mix.concealed,
            tap.concealed
        );
        // What is waited for is the jitter, beside packet and tick and half a frame for what the clocks do.
        let needed = 27.0 + 10.0 + jitter_ms as f64 + if reordered > 0 { 30.0 } else { 0.0 };
        assert!(mix.delay_ms <= needed.min(MOST.as_millis() as f64), "{name}: {:.0} ms", mix.delay_ms);
        // Silence counts as 0 dB in a segment, a period that is a little off as less: so near is a draw.
        assert!(mix.snr >= off.snr - 0.25, "{name}: concealment makes it worse: {:.2} from {:.2} dB", mix.snr, off.snr);
        if (loss, jitter_ms, ppm, reordered) == (0, 0, 0, 0) {
            assert!(mix.snr > 34.9 && tap.snr > 34.9 && mix.delay_ms < 28.0, "a good line is left as it is");
        }
    }
}
