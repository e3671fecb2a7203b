//! What is not speech never reaches a recogniser, and what is speech is placed where it was said.

#[path = "support/samples.rs"]
mod samples;

use sotto::event::Role;
use sotto::id::LegId;
use sotto::media::pcm::Rate;
use sotto::speech::{Heard, Job, Listening, Recognised, Text};
use sotto::time::MediaTime;
use std::f64::consts::TAU;

const LEG: LegId = LegId(1);

/// What one leg's ears make of 8 kHz audio that begins at `from` milliseconds of media time.
struct Ears {
    listening: Listening,
    now: i64,
    edges: Vec<(bool, i64)>,
    jobs: Vec<Job>,
    others: Vec<Heard>,
}

impl Ears {
    fn new(from: i64) -> Self {
        Ears { listening: Listening::new(), now: from, edges: vec![], jobs: vec![], others: vec![] }
    }

    fn of(pcm: &[i16]) -> Self {
        let mut ears = Ears::new(0);
        ears.hear(pcm);
        ears.silence(1_000);
        ears
    }

    fn hear(&mut self, pcm: &[i16]) {
        for frame in samples::through_g711(pcm).as_chunks::<160>().0 {
            self.listening.heard(LEG, Role::Customer, MediaTime::from_millis(self.now), Rate::Narrow, frame);
            self.now += 20;
            self.drain();
        }
    }

    fn silence(&mut self, ms: usize) {
        self.hear(&vec![0; ms * 8]);
    }

    /// Media time passes and nothing is heard.
    fn hole(&mut self, ms: i64) {
        self.now += ms;
    }

    fn leave(&mut self) {
        self.listening.leg_left(LEG, MediaTime::from_millis(self.now));
        self.drain();
    }

    fn drain(&mut self) {
        while let Some(heard) = self.listening.poll() {
            match heard {
                Heard::Edge { speaking, at, .. } => self.edges.push((speaking, at.as_millis())),
                Heard::Job(job) => self.jobs.push(job),
                other @ (Heard::Final { .. } | Heard::Gap { .. }) => self.others.push(other),
            }
        }
    }

    fn times(&self) -> Vec<(i64, i64)> {
        self.jobs.iter().map(|job| (job.start.as_millis(), job.end.as_millis())).collect()
    }
}

fn tones(hz: &[f64], amplitude: f64, on_ms: usize, off_ms: usize, seconds: usize) -> Vec<i16> {
    let sample = |n: usize| {
        let on = n / 8 % (on_ms + off_ms) < on_ms;
        let sum: f64 = hz.iter().map(|hz| (TAU * hz * n as f64 / 8_000.0).sin()).sum();
        if on { (amplitude * sum / hz.len() as f64) as i16 } else { 0 }
    };
    (0..seconds * 8_000).map(sample).collect()
}

/// White noise from a linear congruential generator, at this RMS level below full scale.
fn noise(decibels: f64, seconds: usize) -> Vec<i16> {
    let amplitude = 32_768.0 * 10f64.powf(decibels / 20.0) * 3f64.sqrt();
    let mut seed = 1u64;
    let mut uniform = || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 40) as f64 / (1u64 << 23) as f64 - 1.0
    };
    (0..seconds * 8_000).map(|_| (amplitude * uniform()) as i16).collect()
}

#[test]
fn what_telephone_lines_sound_like_is_not_speech() {
    let sounds = [
        ("silence", vec![0; 80_000]),
        ("dial tone", tones(&[350.0, 440.0], 8_000.0, 1, 0, 10)),
        ("ringback", tones(&[440.0, 480.0], 8_000.0, 2_000, 4_000, 18)),
        ("European ringback", tones(&[425.0], 8_000.0, 1_000, 4_000, 15)),
        ("busy", tones(&[480.0, 620.0], 8_000.0, 500, 500, 10)),
        ("reorder", tones(&[480.0, 620.0], 8_000.0, 250, 250, 10)),
        ("mains hum", tones(&[50.0, 100.0, 150.0], 3_000.0, 1, 0, 10)),
        ("a test tone", tones(&[1_000.0], 10_000.0, 1, 0, 10)),
        ("a fax answering", tones(&[2_100.0], 8_000.0, 3_000, 500, 7)),
        ("faint noise", noise(-65.0, 10)),
        ("noise", noise(-50.0, 10)),
        ("strong noise", noise(-35.0, 10)),
        ("roaring noise", noise(-20.0, 10)),
        ("knocking", tones(&[300.0], 20_000.0, 30, 300, 5)),
    ];
    for (name, pcm) in sounds {
        let ears = Ears::of(&pcm);
        assert_eq!((ears.times(), ears.edges), (vec![], vec![]), "{name}");
        assert!(!ears.listening.is_speaking(Role::Customer), "{name}");
    }
}

#[test]
fn digits_in_the_audio_become_one_job_at_a_time_and_no_words() {
    // Keyed tones come and go like syllables: here the recogniser has the last word, and says what it heard.
    let mut ears = Ears::of(&tones(&[770.0, 1_336.0], 10_000.0, 80, 80, 5));
    for job in std::mem::take(&mut ears.jobs) {
        let text = Text { text: "[BLANK_AUDIO]".into(), confidence: 0.9 };
        ears.listening.recognised(Recognised { utterance: job.utterance, result: Ok(text) });
    }
    ears.drain();
    assert_eq!((ears.others.len(), ears.listening.pending()), (0, 0));
}

fn within(what: &str, is: i64, truth: i64, ms: i64) {
    assert!((is - truth).abs() <= ms, "{what}: {is} ms, {} from the truth", is - truth);
}

#[test]
fn sentences_are_placed_where_they_were_said() {
    for sentence in samples::manifest().into_iter().filter(|s| s.role == "utterance") {
        let mut ears = Ears::new(5_000);
        ears.hear(&samples::audio(&sentence.file));
        ears.silence(1_000);
        let [(start, end)] = ears.times()[..] else { panic!("{}: {:?}", sentence.file, ears.times()) };
        assert_eq!(ears.edges, [(true, start), (false, end)], "{}", sentence.file);
        within(&sentence.file, end, 5_000 + sentence.end, 60);
        within(&sentence.file, start, 5_000 + sentence.start, 60);
        let margins = ears.jobs[0].pcm.len() as i64 / 16 - (end - start);
        assert!((400..=520).contains(&margins), "{}: {margins} ms of margins", sentence.file);
    }
}

#[test]
fn one_word_is_enough() {
    for voice in ["en-us", "en-gb+f3"] {
        for word in ["Yes.", "No.", "Sure.", "Right.", "Hello?"] {
            let mut ears = Ears::new(0);
            ears.silence(500);
            ears.hear(&spoken(word, voice));
            ears.silence(1_000);
            assert_eq!(ears.jobs.len(), 1, "{voice} {word}");
        }
    }
}

/// A text in one of espeak-ng's voices.
fn spoken(text: &str, voice: &str) -> Vec<i16> {
    let synthesiser = sotto::io::tts::Synthesiser::new(voice).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(synthesiser.speak(text, None)).unwrap().at(Rate::Narrow).to_vec()
}

#[test]
fn speech_is_found_in_noise_and_ends_in_it() {
    let sentence = samples::manifest().into_iter().find(|s| s.file == "utt20_greeting.wav").unwrap();
    let speech = samples::audio(&sentence.file);
    let mut line = noise(-35.0, 15);
    for (to, from) in line[40_000..].iter_mut().zip(&speech) {
        *to = to.saturating_add(*from);
    }
    let ears = Ears::of(&line);
    let (Some((start, _)), Some((_, end))) = (ears.times().first().copied(), ears.times().last().copied()) else {
        panic!("nothing heard");
    };
    within("start", start, 5_000 + sentence.start, 300);
    within("end", end, 5_000 + sentence.end, 300);
    assert!(!ears.listening.is_speaking(Role::Customer));
}

#[test]
fn holes_in_media_time_are_silence() {
    let speech = samples::audio("utt20_greeting.wav");
    let first_second = &speech[..16_000 / 160 * 160];
    let mut ears = Ears::new(0);
    ears.hear(first_second);
    // Long enough to end the sentence, and then an hour.
    ears.hole(300);
    ears.hear(&speech);
    ears.hole(3_600_000);
    ears.hear(&speech);
    ears.silence(1_000);
    let times = ears.times();
    let starts: Vec<i64> = times.iter().map(|(start, _)| *start).collect();
    assert_eq!(times.len(), 3, "{times:?}");
    within("the first", starts[0], 250, 60);
    within("after the short hole", starts[1], 2_300 + 250, 60);
    within("after an hour", starts[2], 2_300 + 3_600_000 + (speech.len() / 160 * 20) as i64 + 250, 60);
}

#[test]
fn frames_from_the_past_or_of_another_size_are_not_heard() {
    let mut ears = Ears::new(10_000);
    let speech = samples::audio("utt20_greeting.wav");
    ears.hear(&speech);
    ears.now = 0;
    ears.hear(&speech);
    for odd in [0, 1, 159, 161, 320] {
        ears.listening.heard(LEG, Role::Customer, MediaTime::from_millis(20_000), Rate::Narrow, &vec![9_000; odd]);
    }
    ears.now = 14_500;
    ears.silence(1_000);
    assert_eq!(ears.jobs.len(), 1);
}

#[test]
fn a_leg_that_leaves_in_the_middle_of_a_word_has_said_it() {
    let mut ears = Ears::new(0);
    ears.hear(&samples::audio("utt20_greeting.wav")[..16_000]);
    assert!(ears.listening.is_speaking(Role::Customer) && !ears.listening.is_speaking(Role::Agent));
    ears.leave();
    assert_eq!((ears.jobs.len(), ears.listening.pending()), (1, 1));
    let [(true, _), (false, stopped)] = ears.edges[..] else { panic!("{:?}", ears.edges) };
    within("the end", stopped, 2_000, 100);
    assert!(!ears.listening.is_speaking(Role::Customer));
    // Its words come after it has gone.
    let text = Text { text: " Good afternoon. ".into(), confidence: 0.5 };
    ears.listening.recognised(Recognised { utterance: ears.jobs[0].utterance, result: Ok(text) });
    ears.drain();
    assert!(
        matches!(&ears.others[..], [Heard::Final { text, role: Role::Customer, .. }] if &*text.0 == "Good afternoon.")
    );
}

#[test]
fn what_no_recogniser_answers_is_a_gap_and_what_is_not_waited_for_is_nothing() {
    let mut ears = Ears::of(&samples::audio("utt01_buying.wav"));
    let utterance = ears.jobs[0].utterance;
    let failed = || Recognised { utterance, result: Err("the recogniser is overloaded".into()) };
    ears.listening.recognised(failed());
    ears.listening.recognised(failed());
    ears.drain();
    let [Heard::Gap { leg: LEG, start, end, reason }] = &ears.others[..] else { panic!("{}", ears.others.len()) };
    assert_eq!((start, end, reason.as_str()), (&ears.jobs[0].start, &ears.jobs[0].end, "the recogniser is overloaded"));
}

#[test]
fn talk_without_end_is_cut_and_loses_nothing() {
    let mut ears = Ears::new(0);
    let sentences: Vec<i16> = ["utt20_greeting.wav", "utt25_novel.wav", "utt23_novel.wav", "utt28_novel.wav"]
        .iter()
        .flat_map(|file| {
            let pcm = samples::audio(file);
            pcm[2_000..pcm.len() - 2_000].to_vec()
        })
        .collect();
    for _ in 0..4 {
        ears.hear(&sentences[..sentences.len() / 160 * 160]);
    }
    ears.silence(1_000);
    let times = ears.times();
    assert!(times.len() > 5);
    for (job, (start, end)) in ears.jobs.iter().zip(&times) {
        assert!(end - start <= 8_000, "{start} to {end}");
        assert!(job.pcm.len() <= 16 * 8_500);
    }
    let cuts = times.windows(2).filter(|pair| pair[0].1 == pair[1].0).count();
    assert!(cuts > 2, "{times:?}");
    assert!(times.windows(2).all(|pair| pair[0].1 <= pair[1].0), "{times:?}");
    let said: i64 = times.iter().map(|(start, end)| end - start).sum();
    let lasted = sentences.len() as i64 * 4 / 8;
    assert!(said > lasted * 9 / 10, "{said} of {lasted} ms");
    assert_eq!(ears.edges.iter().filter(|(speaking, _)| *speaking).count() * 2, ears.edges.len());
}

#[test]
fn a_call_that_no_recogniser_serves_stays_bounded() {
    let mut ears = Ears::new(0);
    let speech = samples::audio("utt01_buying.wav");
    for _ in 0..40 {
        ears.hear(&speech[..speech.len() / 160 * 160]);
        ears.silence(500);
    }
    assert_eq!((ears.jobs.len(), ears.others.len(), ears.listening.pending()), (32, 8, 32));
    assert!(ears.others.iter().all(|other| matches!(other, Heard::Gap { .. })));
}
