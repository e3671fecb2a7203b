//! The six sample calls, both legs, after G.711, in 20 ms frames on a virtual clock, through the ears and the real
//! recogniser: what is written down is within two points of word error rate of the same model given each sentence
//! by itself, cut out by hand.
//!
//! Figures: `cargo test --test speech_hears_the_samples -- --nocapture`.

#[path = "support/samples.rs"]
mod samples;
#[path = "support/wer.rs"]
mod wer;

use samples::Sentence;
use sotto::event::Role;
use sotto::id::{LegId, UtteranceId};
use sotto::io::stt::{Options, Recogniser};
use sotto::media::pcm::Rate;
use sotto::media::resample::to_16k;
use sotto::speech::{Heard, Job, Listening, Recognised};
use sotto::time::{MediaTime, Samples};
use std::path::Path;
use tokio::task::JoinSet;
use wer::Errors;

const LEGS: [(LegId, Role, &str); 2] = [(LegId(1), Role::Customer, "customer"), (LegId(2), Role::Agent, "agent")];

/// One leg of one call, as it is and as it was heard.
struct Leg {
    file: String,
    role: Role,
    sentences: Vec<Sentence>,
    /// Utterances: start, end, text.
    heard: Vec<(MediaTime, MediaTime, String)>,
    /// The same sentences, each cut out and given to the recogniser by itself.
    direct: Vec<String>,
}

#[derive(Default)]
struct Figures {
    through_ears: Errors,
    direct: Errors,
    wrong_splits: usize,
    joined: usize,
    invented_speech: usize,
    // Milliseconds.
    start_error: Vec<i64>,
    end_error: Vec<i64>,
    end_to_job: Vec<i64>,
}

async fn recogniser() -> Recogniser {
    let program = Some(Path::new(env!("CARGO_BIN_EXE_sotto")).into());
    // A busy machine may take its time; this test is about words.
    let patience = std::time::Duration::from_secs(60);
    let options = Options { program, patience, longest: 2 * patience, ..Options::new(2, &samples::model()) };
    Recogniser::start_with(options).await.unwrap()
}

fn legs(call: &str) -> Vec<Leg> {
    let manifest = samples::manifest();
    let leg = |(_, role, name): (LegId, Role, &str)| {
        let file = format!("{call}_{name}.wav");
        let sentences: Vec<Sentence> = manifest.iter().filter(|s| s.file == file).cloned().collect();
        assert!(!sentences.is_empty());
        Leg { file, role, sentences, heard: vec![], direct: vec![] }
    };
    LEGS.map(leg).into()
}

/// Plays both legs to the ears at once. Every job goes to the recogniser; times of jobs go into `figures`.
async fn listen(recogniser: &Recogniser, legs: &mut [Leg], line: Line, figures: &mut Figures) {
    let audio: Vec<Vec<i16>> =
        legs.iter().map(|leg| samples::through_g711(&line(&samples::audio(&leg.file)))).collect();
    let mut listening = Listening::new();
    let mut answers = JoinSet::new();
    let frames = audio.iter().map(Vec::len).max().unwrap() / 160;
    for n in 0..frames {
        let at = MediaTime::ZERO + Samples(Samples::FRAME.0 * n as i64);
        for (pcm, (leg, role, _)) in audio.iter().zip(LEGS) {
            if let Some(frame) = pcm.get(n * 160..(n + 1) * 160) {
                listening.heard(leg, role, at, Rate::Narrow, frame);
            }
        }
        collect(&mut listening, recogniser, &mut answers, legs, Some(at + Samples::FRAME), figures);
    }
    listening.flush_all(MediaTime::ZERO + Samples(Samples::FRAME.0 * frames as i64));
    collect(&mut listening, recogniser, &mut answers, legs, None, figures);
    while let Some(answer) = answers.join_next().await {
        listening.recognised(answer.unwrap());
    }
    assert_eq!(listening.pending(), 0, "nothing said is forgotten");
    collect(&mut listening, recogniser, &mut answers, legs, None, figures);
    legs.iter_mut().for_each(|leg| leg.heard.sort_by_key(|(start, ..)| *start));
}

fn collect(
    listening: &mut Listening,
    recogniser: &Recogniser,
    answers: &mut JoinSet<Recognised>,
    legs: &mut [Leg],
    now: Option<MediaTime>,
    figures: &mut Figures,
) {
    while let Some(heard) = listening.poll() {
        match heard {
            Heard::Edge { .. } => {}
            Heard::Gap { leg, start, reason, .. } => panic!("{leg} at {start}: {reason}"),
            Heard::Final { role, start, end, text, .. } => {
                let leg = legs.iter_mut().find(|l| l.role == role).unwrap();
                leg.heard.push((start, end, text.0.to_string()));
            }
            Heard::Job(job) => {
                let leg = legs.iter().find(|l| l.role == job.role).unwrap();
                time_job(leg, &job, now, figures);
                let recogniser = recogniser.clone();
                answers.spawn(async move { recogniser.recognise(job).await });
            }
        }
    }
}

/// How well a job's times fit the sentences it covers, and how long after the last of them it came.
fn time_job(leg: &Leg, job: &Job, now: Option<MediaTime>, figures: &mut Figures) {
    let (start, end) = (job.start.as_millis(), job.end.as_millis());
    let inside = |t: i64| leg.sentences.iter().any(|s| s.start + 120 < t && t < s.end - 120);
    figures.wrong_splits += usize::from(inside(end));
    let covered: Vec<&Sentence> =
        leg.sentences.iter().filter(|s| start < (s.start + s.end) / 2 && (s.start + s.end) / 2 < end).collect();
    let (Some(first), Some(last)) = (covered.first(), covered.last()) else {
        // A part of a sentence without its middle, or no sentence at all.
        figures.invented_speech += usize::from(!leg.sentences.iter().any(|s| s.start < end && start < s.end));
        return;
    };
    figures.joined += covered.len() - 1;
    figures.start_error.push(start - first.start);
    figures.end_error.push(end - last.end);
    figures.end_to_job.extend(now.map(|now| now.as_millis() - last.end));
}

/// Each sentence by itself, cut out with the margins the model was measured with.
async fn directly(recogniser: &Recogniser, leg: &mut Leg) {
    let pcm = samples::audio(&leg.file);
    for (n, sentence) in leg.sentences.iter().enumerate() {
        let position = |ms: i64| ((ms * 8).max(0) as usize).min(pcm.len());
        let cut = &pcm[position(sentence.start - 200)..position(sentence.end + 250)];
        let job = Job {
            utterance: UtteranceId(n as u32),
            leg: LegId(0),
            role: leg.role,
            start: MediaTime::from_millis(sentence.start),
            end: MediaTime::from_millis(sentence.end),
            pcm: to_16k(&samples::through_g711(cut)).into(),
        };
        leg.direct.push(recogniser.recognise(job).await.result.unwrap().text);
    }
}

fn report(leg: &Leg, figures: &mut Figures) {
    let reference = leg.sentences.iter().map(|s| s.text.as_str()).collect::<Vec<_>>().join(" ");
    let heard = leg.heard.iter().map(|(.., text)| text.as_str()).collect::<Vec<_>>().join(" ");
    let through_ears = Errors::between(&reference, &heard);
    let mut direct = Errors::default();
    for (sentence, text) in leg.sentences.iter().zip(&leg.direct) {
        direct += Errors::between(&sentence.text, text);
    }
    println!(
        "{:42} {:3} words   ears {:5.2} %   each sentence by itself {:5.2} %",
        leg.file,
        through_ears.words,
        through_ears.percent(),
        direct.percent()
    );
    figures.through_ears += through_ears;
    figures.direct += direct;
}

/// The value below which `percent` of the values lie.
fn percentile(values: &mut [i64], percent: usize) -> i64 {
    values.sort_unstable();
    values[(values.len() - 1) * percent / 100]
}

/// What a line does to audio before G.711.
type Line = fn(&[i16]) -> Vec<i16>;

#[tokio::test(flavor = "multi_thread")]
async fn the_sample_calls_are_written_down() {
    written_down("a silent line", |pcm| pcm.to_vec(), 60).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sample_calls_are_written_down_from_an_idle_line_with_its_noise() {
    // Noise hides the weak sounds that many words begin with.
    written_down("a line with its noise", samples::on_a_line, 200).await;
}

/// `vague`: how far off a beginning may be, in milliseconds.
async fn written_down(name: &str, line: Line, vague: i64) {
    println!("-- {name}");
    let recogniser = recogniser().await;
    let mut figures = Figures::default();
    for call in samples::calls() {
        let mut legs = legs(&call);
        listen(&recogniser, &mut legs, line, &mut figures).await;
        for leg in &mut legs {
            directly(&recogniser, leg).await;
            report(leg, &mut figures);
        }
    }
    let Figures { through_ears, direct, wrong_splits, joined, invented_speech, .. } = figures;
    println!("total through the ears {:.2} % ({through_ears:?})", through_ears.percent());
    println!("total each by itself   {:.2} % ({direct:?})", direct.percent());
    let counts = recogniser.counts();
    println!(
        "{} jobs, mean {} ms from job to words (a call's jobs all at once, two processes); restarts {}",
        counts.jobs,
        counts.waited_ms / counts.jobs,
        counts.restarts
    );
    println!("sentences split {wrong_splits}, joined {joined}, speech where there is none {invented_speech}");
    for (name, values) in [
        ("start, against the manifest", &mut figures.start_error),
        ("end, against the manifest", &mut figures.end_error),
        ("end of speech to job, media clock", &mut figures.end_to_job),
    ] {
        let [p5, p50, p95, max] = [5, 50, 95, 100].map(|p| percentile(values, p));
        println!("{name}: p5 {p5} p50 {p50} p95 {p95} max {max} ms");
    }
    assert!(through_ears.words > 500);
    assert!(through_ears.percent() <= direct.percent() + 2.0, "the ears cost more than two points");
    assert!(wrong_splits + joined <= 3, "endpoints are off");
    assert_eq!(invented_speech, 0);
    for (errors, most) in [(&mut figures.start_error, vague), (&mut figures.end_error, 60)] {
        assert!(percentile(errors, 0) >= -most && percentile(errors, 100) <= most, "{errors:?}");
    }
    assert!(percentile(&mut figures.end_to_job, 100) <= 400, "speech ends too late");
}

#[tokio::test]
async fn keyed_digits_become_no_words() {
    // They come and go like syllables, so they reach the recogniser; it and the firewall have the last word.
    let recogniser = recogniser().await;
    let mut listening = Listening::new();
    let tone = |n: usize, hz: f64| (std::f64::consts::TAU * hz * n as f64 / 8_000.0).sin();
    let digits: Vec<i16> = (0..24_000)
        .map(|n| if n % 1_280 < 640 { (5_000.0 * (tone(n, 770.0) + tone(n, 1_336.0))) as i16 } else { 0 })
        .collect();
    for (n, frame) in samples::through_g711(&digits).as_chunks::<160>().0.iter().enumerate() {
        listening.heard(LegId(1), Role::Customer, MediaTime::from_millis(20 * n as i64), Rate::Narrow, frame);
    }
    listening.flush_all(MediaTime::from_millis(3_000));
    let mut jobs = 0;
    while let Some(heard) = listening.poll() {
        match heard {
            Heard::Edge { .. } => {}
            Heard::Job(job) => {
                jobs += 1;
                listening.recognised(recogniser.recognise(job).await);
            }
            Heard::Final { .. } | Heard::Gap { .. } => panic!("words were made of tones"),
        }
    }
    assert_eq!((jobs, listening.pending()), (1, 0));
}
