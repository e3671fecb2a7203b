//! A recording plays to within 100 ms of its end after the process that wrote it was killed with SIGKILL.
//!
//! The test starts itself again as the process that records, at the pace of real calls, and kills it at a random moment.

use sotto::call::FRAME;
use sotto::id::{CallId, Tenant};
use sotto::io::clock;
use sotto::io::journal::Journal;
use sotto::io::metrics::Metrics;
use sotto::io::recorder::{self, Recorder};
use sotto::media::pcm::Rate;
use sotto::time::MediaTime;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

const CHILD: &str = "SOTTO_TEST_RECORDING_DIR";
const ROUNDS: usize = 10;
/// Calls that are recorded at once; each begins this much later on its media clock than the one before.
const CALLS: i64 = 5;
const STAGGER_MS: i64 = 35;

#[test]
fn a_recording_plays_to_its_end_after_kill_9() {
    if let Some(dir) = std::env::var_os(CHILD) {
        return record_until_killed(Path::new(&dir));
    }
    let dir = std::env::temp_dir().join(format!("sotto-recording-{:016x}", clock::random()));
    let mut worst = 0;
    for round in 0..ROUNDS {
        let dir = dir.join(round.to_string());
        let handed_over = kill_a_recorder(&dir, Duration::from_millis(100 + clock::random() % 600));
        for (call, end) in handed_over {
            let heard = check(&recorder::path(&dir, &Tenant::default(), call));
            let missing = end.as_millis() - heard.as_millis();
            assert!(missing <= 100, "round {round}: the last {missing} ms are missing");
            worst = worst.max(missing);
        }
    }
    println!("{ROUNDS} recorders killed, at worst the last {worst} ms missing");
    std::fs::remove_dir_all(&dir).unwrap();
}

/// The child: records at the pace of real calls, and prints up to where each was handed over.
#[tokio::main]
async fn record_until_killed(dir: &Path) {
    let metrics = Arc::new(Metrics::default());
    let (journal, _task) = Journal::start(dir, Tenant::default(), metrics.clone()).await.unwrap();
    let (recorder, _thread) = Recorder::start(dir, Tenant::default(), journal, metrics).unwrap();
    let calls: Vec<_> = (0..CALLS).map(|_| CallId::new(clock::wall_ms() as u64, 1, 1, clock::random())).collect();
    let mut frames = tokio::time::interval(Duration::from_millis(20));
    for n in 0.. {
        frames.tick().await;
        for (late, call) in (0..).zip(&calls) {
            let at = MediaTime::from_millis(n * 20 + late * STAGGER_MS);
            recorder.frame(*call, at, Rate::Narrow, &frame(at, 1), &frame(at, -1));
            println!("recorded {call} {}", at.0 + 960);
        }
        std::io::stdout().flush().unwrap();
    }
}

/// What is said at `at`: a count that differs from sample to sample, and between the channels by its sign.
fn frame(at: MediaTime, sign: i16) -> [i16; FRAME] {
    std::array::from_fn(|i| sign * sample(at.0 / 6 + i as i64))
}

fn sample(index: i64) -> i16 {
    (index % 30_000 + 1) as i16
}

/// Starts a recorder, kills it `life` after its first frame, and answers up to where each call was handed over.
fn kill_a_recorder(dir: &Path, life: Duration) -> BTreeMap<CallId, MediaTime> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "a_recording_plays_to_its_end_after_kill_9", "--nocapture"])
        .env(CHILD, dir)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut handed_over = BTreeMap::new();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut read = |handed_over: &mut BTreeMap<CallId, MediaTime>| -> bool {
        let Some(Ok(line)) = lines.next() else { return false };
        if let ["recorded", call, end] = line.split(' ').collect::<Vec<_>>()[..] {
            handed_over.insert(call.parse().unwrap(), MediaTime(end.parse().unwrap()));
        }
        true
    };
    while handed_over.len() < CALLS as usize {
        assert!(read(&mut handed_over), "the recorder ended by itself");
    }
    std::thread::sleep(life);
    child.kill().unwrap();
    while read(&mut handed_over) {}
    assert!(!child.wait().unwrap().success());
    handed_over
}

/// Plays the file, holds it against what was said, and answers how far it goes.
fn check(path: &Path) -> MediaTime {
    let mut wav = hound::WavReader::open(path).unwrap();
    assert_eq!((wav.spec().channels, wav.spec().sample_rate, wav.spec().bits_per_sample), (2, 8_000, 16));
    let samples: Vec<i16> = wav.samples().collect::<Result<_, _>>().unwrap();
    let silence = samples.iter().take_while(|s| **s == 0).count();
    assert_eq!(silence as i64 / 2 * 6 % MediaTime::from_millis(STAGGER_MS).0, 0, "the beginning is on the media clock");
    for (index, pair) in (0..).zip(samples.chunks(2)).skip(silence / 2) {
        assert_eq!(pair, [sample(index), -sample(index)], "at sample {index}");
    }
    MediaTime(samples.len() as i64 / 2 * 6)
}
