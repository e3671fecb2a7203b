//! Recognisers die, hang, and are overloaded: every utterance is answered all the same, and no process is left over.

#[path = "support/samples.rs"]
mod samples;

use sotto::event::Role;
use sotto::id::{LegId, UtteranceId};
use sotto::io::stt::{Options, Recogniser, StartError};
use sotto::media::resample::to_16k;
use sotto::speech::{Job, Recognised};
use sotto::time::MediaTime;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tokio::task::JoinSet;

const SPOKEN: &str = "I like the quote.";

fn options(workers: usize) -> Options {
    Options {
        program: Some(env!("CARGO_BIN_EXE_sotto").into()),
        // This is about what happens, not how soon.
        longest: Duration::from_secs(120),
        patience: Duration::from_secs(60),
        ..Options::new(workers, &samples::model())
    }
}

/// A job that says [`SPOKEN`].
fn job(n: u32) -> Job {
    let pcm = samples::through_g711(&samples::audio("utt01_buying.wav"));
    job_of(n, &to_16k(&pcm))
}

fn job_of(n: u32, pcm: &[f32]) -> Job {
    Job {
        utterance: UtteranceId(n),
        leg: LegId(1),
        role: Role::Customer,
        start: MediaTime::ZERO,
        end: MediaTime::ZERO,
        pcm: pcm.into(),
    }
}

fn signal(pid: u32, name: &str) {
    assert!(Command::new("kill").args([name, &pid.to_string()]).status().unwrap().success());
}

fn exists(pid: u32) -> bool {
    // A zombie is gone as far as we care; its parent has yet to notice.
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z"))
}

/// Waits for something that must come true, and fails the test when it does not within a minute.
async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..6_000 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("never came true: {what}");
}

fn the_words(recognised: &Recognised) -> &str {
    recognised.result.as_ref().map(|text| text.text.as_str()).unwrap()
}

#[tokio::test]
async fn a_recogniser_killed_in_the_middle_of_a_job_costs_a_retry() {
    let recogniser = Recogniser::start_with(options(1)).await.unwrap();
    let pid = recogniser.pids()[0];
    // Stopped, it cannot have finished when it is killed.
    signal(pid, "-STOP");
    let answer = tokio::spawn({
        let recogniser = recogniser.clone();
        async move { recogniser.recognise(job(1)).await }
    });
    until("the job is taken", || recogniser.counts().jobs == 1 && recogniser.counts().waiting == 0).await;
    signal(pid, "-KILL");
    let recognised = answer.await.unwrap();
    assert_eq!((recognised.utterance, the_words(&recognised)), (UtteranceId(1), SPOKEN));
    assert!(recognised.result.unwrap().confidence > 0.8);
    assert_ne!(recogniser.pids(), [pid]);
    assert!(!exists(pid));
    let counts = recogniser.counts();
    assert_eq!((counts.jobs, counts.failures, counts.restarts, counts.running), (1, 0, 1, 1));
}

#[tokio::test]
async fn an_idle_recogniser_that_is_killed_is_back_before_it_is_needed() {
    let recogniser = Recogniser::start_with(options(2)).await.unwrap();
    until("both run", || recogniser.pids().len() == 2).await;
    for pid in recogniser.pids() {
        signal(pid, "-KILL");
    }
    until("both are replaced", || recogniser.counts().restarts == 2 && recogniser.pids().len() == 2).await;
    assert_eq!(the_words(&recogniser.recognise(job(1)).await), SPOKEN);
}

#[tokio::test]
async fn a_recogniser_that_hangs_is_replaced() {
    let patience = Duration::from_secs(2);
    let recogniser = Recogniser::start_with(Options { patience, ..options(1) }).await.unwrap();
    let pid = recogniser.pids()[0];
    signal(pid, "-STOP");
    assert_eq!(the_words(&recogniser.recognise(job(1)).await), SPOKEN);
    assert!(!exists(pid), "the one that hung is gone");
    assert_eq!(recogniser.counts().restarts, 1);
}

#[tokio::test]
async fn a_job_that_no_recogniser_survives_is_given_up_and_the_next_is_not() {
    // Without any patience every recogniser seems to hang over a job without audio.
    let options = Options { patience: Duration::ZERO, ..options(1) };
    let recogniser = Recogniser::start_with(options).await.unwrap();
    let given_up = recogniser.recognise(job_of(1, &[])).await;
    assert_eq!(given_up.result.unwrap_err(), "2 recognisers were lost over this utterance");
    assert_eq!(recogniser.counts().failures, 1);
    until("there is a recogniser again", || !recogniser.pids().is_empty()).await;
}

#[tokio::test]
async fn when_too_many_wait_the_oldest_make_room_and_say_so() {
    let recogniser = Recogniser::start_with(options(1)).await.unwrap();
    let pid = recogniser.pids()[0];
    signal(pid, "-STOP");
    let mut answers = JoinSet::new();
    let mut submit = |n| {
        let recogniser = recogniser.clone();
        answers.spawn(async move { recogniser.recognise(job(n)).await });
    };
    submit(0);
    until("the first is in work", || recogniser.counts().jobs == 1 && recogniser.counts().waiting == 0).await;
    (1..=67).for_each(&mut submit);
    until("the queue is full", || recogniser.counts().jobs == 68 && recogniser.counts().waiting == 64).await;
    signal(pid, "-CONT");
    let answers = answers.join_all().await;
    let lost: Vec<&Recognised> = answers.iter().filter(|a| a.result.is_err()).collect();
    assert!(lost.iter().all(|a| a.result.as_ref().is_err_and(|why| why == "the recogniser is overloaded")));
    assert_eq!(lost.len(), 3);
    assert!(lost.iter().all(|a| (1..=3).contains(&a.utterance.0)), "the oldest of those that waited");
    assert!(answers.iter().filter(|a| a.result.is_ok()).all(|a| the_words(a) == SPOKEN));
    assert_eq!((recogniser.counts().overloaded, recogniser.counts().restarts), (3, 0));
}

#[tokio::test]
async fn no_process_outlives_its_recogniser() {
    let recogniser = Recogniser::start_with(options(2)).await.unwrap();
    until("both run", || recogniser.pids().len() == 2).await;
    let pids = recogniser.pids();
    drop(recogniser.clone());
    assert!(pids.iter().all(|pid| exists(*pid)), "one clone of two is left");
    drop(recogniser);
    until("both are gone", || !pids.iter().any(|pid| exists(*pid))).await;
}

/// A file in a folder of its own, which goes with it.
struct Damaged(PathBuf);

impl Damaged {
    fn new(name: &str, bytes: &[u8]) -> Self {
        let folder = std::env::temp_dir().join(format!("sotto-models-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join(name);
        std::fs::write(&path, bytes).unwrap();
        Damaged(path)
    }
}

impl Drop for Damaged {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
        let _ = self.0.parent().map(std::fs::remove_dir);
    }
}

async fn refusal(model: &Path) -> StartError {
    match Recogniser::start_with(Options { model: model.into(), ..options(1) }).await {
        Ok(_) => panic!("{} was accepted", model.display()),
        Err(error) => error,
    }
}

#[tokio::test]
async fn a_model_that_cannot_be_used_is_named_with_the_reason() {
    let whole = std::fs::read(samples::model()).unwrap();
    let damaged = [
        Damaged::new("empty.bin", &[]),
        Damaged::new("text.bin", b"Not a model, but a text about one."),
        Damaged::new("header.bin", &whole[..100_000]),
        Damaged::new("half.bin", &whole[..whole.len() / 2]),
    ];
    for model in &damaged {
        let error = refusal(&model.0).await;
        assert!(matches!(error, StartError::Unusable { .. }), "{error}");
        let text = error.to_string();
        assert!(text.contains(&model.0.display().to_string()) && text.contains("damaged"), "{text}");
    }
    let missing = refusal(Path::new("/nowhere/base.en.bin")).await;
    assert!(matches!(missing, StartError::Unreadable { .. }));
    assert!(missing.to_string().contains("/nowhere/base.en.bin"), "{missing}");
    let folder = refusal(&std::env::temp_dir()).await;
    assert!(matches!(folder, StartError::Unreadable { .. }), "{folder}");
}

/// A recogniser process by itself, as the server starts it.
fn worker() -> Child {
    let mut worker = Command::new(env!("CARGO_BIN_EXE_sotto"))
        .arg("speech-worker")
        .arg(samples::model())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut ready = [0; 5];
    worker.stdout.as_mut().unwrap().read_exact(&mut ready).unwrap();
    assert_eq!(ready, [1, 0, 0, 0, 0]);
    worker
}

#[test]
fn a_process_ends_with_its_input_even_in_the_middle_of_a_job() {
    let mut worker = worker();
    let mut input = worker.stdin.take().unwrap();
    let samples = 30 * 16_000;
    input.write_all(&(4 + samples * 4u32).to_le_bytes()).unwrap();
    input.write_all(&vec![0; 4 + samples as usize * 4]).unwrap();
    // The server is gone: the kernel closes its pipes, however it died.
    drop(input);
    let ended = worker.wait_with_output().unwrap();
    assert!(ended.status.success());
    assert!(ended.stderr.is_empty(), "{}", String::from_utf8_lossy(&ended.stderr));
}

#[test]
fn a_process_that_is_told_nonsense_ends() {
    let frames: [&[u8]; 4] = [
        &[255, 255, 255, 255],
        &[2, 0, 0, 0, 1, 2],
        &[7, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7],
        &[8, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0xC0, 0x7F],
    ];
    for frame in frames {
        let mut worker = worker();
        worker.stdin.as_mut().unwrap().write_all(frame).unwrap();
        let status = worker.wait().unwrap();
        assert_eq!(status.code(), Some(1), "{frame:?}");
    }
}
