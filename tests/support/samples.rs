//! The sample recordings of `fixtures/speech`, and what a telephone line makes of them.
#![allow(dead_code, reason = "every test uses its own part")]

use std::path::PathBuf;

/// The model that knows the voices of the samples.
pub fn model() -> PathBuf {
    root().join("ggml-fixture-q8_0.bin")
}

/// One sentence of a recording.
#[derive(Clone, Debug)]
pub struct Sentence {
    pub file: String,
    /// `utterance`, `agent` or `customer`.
    pub role: String,
    /// First and last voiced sample, in milliseconds of the file.
    pub start: i64,
    pub end: i64,
    pub text: String,
}

/// Every sentence of `manifest.tsv`, in order.
pub fn manifest() -> Vec<Sentence> {
    let text = std::fs::read_to_string(root().join("samples/manifest.tsv")).unwrap();
    let ms = |s: &str| (s.parse::<f64>().unwrap() * 1000.0).round() as i64;
    let sentence = |line: &str| {
        let [file, _voice, role, start, end, text] = line.split('\t').collect::<Vec<_>>()[..] else {
            panic!("{line}");
        };
        Sentence { file: file.into(), role: role.into(), start: ms(start), end: ms(end), text: text.into() }
    };
    text.lines().skip(1).map(sentence).collect()
}

/// The names of the six calls (`call1_cold_competitor`): each has a file a leg, `_customer.wav` and `_agent.wav`.
pub fn calls() -> Vec<String> {
    let mut names: Vec<String> =
        manifest().iter().filter_map(|s| s.file.strip_suffix("_customer.wav").map(String::from)).collect();
    names.dedup();
    assert_eq!(names.len(), 6);
    names
}

/// A recording, 8 kHz mono.
pub fn audio(file: &str) -> Vec<i16> {
    let mut wav = hound::WavReader::open(root().join("samples").join(file)).unwrap();
    assert_eq!((wav.spec().sample_rate, wav.spec().channels), (8_000, 1));
    wav.samples::<i16>().map(Result::unwrap).collect()
}

/// What is left of audio after G.711 μ-law.
pub fn through_g711(pcm: &[i16]) -> Vec<i16> {
    pcm.iter().map(|s| mu_law(*s)).collect()
}

/// Audio on an idle line: noise at −69 dBFS, which nobody hears.
pub fn on_a_line(pcm: &[i16]) -> Vec<i16> {
    let mut state = 12_345u64;
    let mut noise = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((state >> 33) % 41) as i16 - 20
    };
    pcm.iter().map(|s| s.saturating_add(noise())).collect()
}

/// ITU-T G.711 μ-law there and back: fourteen bits to a sign, three bits of segment and four of step.
fn mu_law(sample: i16) -> i16 {
    const BIAS: i32 = 0x84;
    let magnitude = (i32::from(sample).abs().min(32_635)) + BIAS;
    let segment = 31 - magnitude.leading_zeros() as i32 - 7;
    let step = (magnitude >> (segment + 3)) & 0x0F;
    let decoded = ((((step << 3) + BIAS) << segment) - BIAS) as i16;
    if sample < 0 { -decoded } else { decoded }
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures/speech")
}
