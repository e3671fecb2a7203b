//! What 20 ms of one leg cost in each part of the media path, in nanoseconds: decoding, encoding, the jitter buffer with
//! its reader, resampling, the sum of voices.
//!
//!     cargo bench --bench frames
//!
//! Sound is noise under a loud sweep, so that no codec finds it easy. Figures: docs/performance.md.

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use sotto::media::codec::{Codec, Decoder, Encoder, MAX_DECODED, OpusWish};
use sotto::media::jitter::{Ear, Frame, Jitter};
use sotto::media::limit::Limiter;
use sotto::media::mix::Sum;
use sotto::media::pcm::{Pcm, Rate};
use sotto::media::resample::Resampler;
use sotto::media::seed::Seed;
use sotto::time::{MediaTime, Samples};
use std::hint::black_box;

/// Frames of sound that are gone round.
const FRAMES: usize = 50;

/// A second at a rate, in frames.
fn sound(rate: Rate) -> Vec<Vec<i16>> {
    let mut seed = Seed::new(1);
    let sample = |n: usize| {
        let t = n as f64 / f64::from(rate.hz());
        let sweep = 8_000.0 * (t * (200.0 + 1_500.0 * t) * std::f64::consts::TAU).sin();
        sweep as i16 + seed.below(601) as i16 - 300
    };
    let samples: Vec<i16> = (0..rate.frame() * FRAMES).map(sample).collect();
    samples.chunks_exact(rate.frame()).map(<[i16]>::to_vec).collect()
}

fn encoded(codec: Codec, wish: OpusWish) -> Vec<Vec<u8>> {
    let mut encoder = Encoder::new(codec, wish);
    let encode = |pcm: Vec<i16>| {
        let mut payload = Vec::new();
        encoder.encode(&pcm, &mut payload);
        payload
    };
    sound(codec.rate()).into_iter().map(encode).collect()
}

fn codecs(c: &mut Criterion) {
    let mut group = c.benchmark_group("decode");
    for codec in Codec::ALL {
        let (payloads, mut decoder, mut pcm) =
            (encoded(codec, OpusWish::default()), Decoder::new(codec), [0; MAX_DECODED]);
        let mut next = payloads.iter().cycle();
        group.bench_function(BenchmarkId::from_parameter(format!("{codec:?}")), |b| {
            b.iter(|| next.next().map(|payload| decoder.decode(black_box(payload), &mut pcm)));
        });
    }
    group.finish();
    let mut group = c.benchmark_group("encode");
    let fec = OpusWish { fec: true, ..OpusWish::default() };
    let usual = Codec::ALL.map(|codec| (codec, OpusWish::default(), format!("{codec:?}")));
    for (codec, wish, name) in usual.into_iter().chain([(Codec::Opus, fec, "Opus with FEC".to_owned())]) {
        let (frames, mut encoder, mut out) = (sound(codec.rate()), Encoder::new(codec, wish), Vec::with_capacity(4096));
        let mut next = frames.iter().cycle();
        group.bench_function(BenchmarkId::from_parameter(name), |b| {
            b.iter(|| {
                out.clear();
                next.next().map(|frame| encoder.encode(black_box(frame), &mut out))
            });
        });
    }
    group.finish();
}

/// A packet in and the frame of a tick out, on a good line and on one that loses each twentieth and jitters by 40 ms.
fn jitter(c: &mut Criterion) {
    let mut group = c.benchmark_group("jitter");
    for (name, lost, late) in [("good line", 0, 0), ("5 % lost, 40 ms late", 50, 40)] {
        for ears in [&[Ear::Mix][..], &[Ear::Mix, Ear::Tap]] {
            let mut line = Line::new(lost, late);
            group.bench_function(BenchmarkId::new(name, format!("{} readers", ears.len())), |b| {
                b.iter(|| line.turn(ears));
            });
        }
    }
    group.finish();
}

struct Line {
    jitter: Jitter,
    frames: Vec<Vec<i16>>,
    frame: Frame,
    seed: Seed,
    lost: u64,
    late: u64,
    count: i64,
    under_way: Vec<(i64, i64)>,
}

impl Line {
    fn new(lost: u64, late: u64) -> Line {
        let (jitter, frames) = (Jitter::new(Rate::Narrow, 8_000), sound(Rate::Narrow));
        let (frame, seed) = (Frame::default(), Seed::new(2));
        Line { jitter, frames, frame, seed, lost, late, count: 0, under_way: Vec::with_capacity(16) }
    }

    /// 20 ms.
    fn turn(&mut self, ears: &[Ear]) {
        let (number, now) = (self.count, self.count * 20);
        self.count += 1;
        if self.seed.below(1000) >= self.lost {
            self.under_way.push((now + self.seed.below(self.late + 1) as i64, number));
        }
        let Line { jitter, frames, under_way, .. } = self;
        under_way.retain(|(at, number)| {
            let here = *at < now + 20;
            if here {
                let pcm = &frames[*number as usize % FRAMES];
                jitter.push(MediaTime::from_millis(*at), (*number * 160) as u32, black_box(pcm), 1);
            }
            !here
        });
        let tick = MediaTime::from_millis(now) + Samples::FRAME;
        for ear in ears {
            self.jitter.pull(*ear, tick, &mut self.frame);
            black_box(&self.frame);
        }
    }
}

fn resampling(c: &mut Criterion) {
    let mut group = c.benchmark_group("resample");
    for (from, to) in Rate::ALL.into_iter().flat_map(|from| Rate::ALL.map(|to| (from, to))).filter(|(a, b)| a != b) {
        let (frames, mut resampler, mut out) = (sound(from), Resampler::new(from, to), vec![0; to.frame()]);
        let mut next = frames.iter().cycle();
        group.bench_function(
            BenchmarkId::from_parameter(format!("{} to {} kHz", from.hz() / 1000, to.hz() / 1000)),
            |b| {
                b.iter(|| next.next().map(|frame| resampler.process(black_box(frame), &mut out)));
            },
        );
    }
    group.finish();
}

/// The sum for one listener of two voices and a clip.
fn mix(c: &mut Criterion) {
    let mut group = c.benchmark_group("mix");
    for rate in Rate::ALL {
        let (frames, mut sum, mut out) = (sound(rate), Sum::default(), Pcm::default());
        let mut limiter = Limiter::new(rate.hz());
        group.bench_function(BenchmarkId::from_parameter(format!("three at {} kHz", rate.hz() / 1000)), |b| {
            b.iter(|| {
                sum.begin(rate);
                frames.iter().take(3).for_each(|frame| sum.add(black_box(frame)));
                sum.frame(|sample| limiter.sample(sample), &mut out);
                black_box(&out);
            });
        });
    }
    group.finish();
}

criterion_group!(frames, mix, jitter, codecs, resampling);
criterion_main!(frames);
