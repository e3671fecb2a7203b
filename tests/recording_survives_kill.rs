//! A recording, WAV or Opus, plays to within 100 ms of its end after the process that wrote it was killed with SIGKILL, and
//! the next start finds out where that is and tells it.
//!
//! The test starts itself again as the process that records, at the pace of real calls, and kills it at a random moment.

#[path = "support/playing.rs"]
mod playing;

use playing::play;
use sotto::call::FRAME;
use sotto::config::{Format, Recording};
use sotto::event::{Event, What};
use sotto::id::{CallId, LegId, Tenant};
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
const AS_OPUS: &str = "SOTTO_TEST_RECORDING_OPUS";
const ROUNDS: usize = 10;
/// Calls that are recorded at once; each begins this much later on its media clock than the one before.
const CALLS: i64 = 5;
const STAGGER_MS: i64 = 35;

#[test]
fn a_recording_plays_to_its_end_after_kill_9() {
    if let Some(dir) = std::env::var_os(CHILD) {
        let format = if std::env::var_os(AS_OPUS).is_some() { Format::Opus } else { Format::Wav };
        return record_until_killed(Path::new(&dir), format);
    }
    for format in [Format::Wav, Format::Opus] {
        kill_recorders(format);
    }
}

fn kill_recorders(format: Format) {
    let dir = std::env::temp_dir().join(format!("sotto-recording-{:016x}", clock::random()));
    let mut worst = 0;
    for round in 0..ROUNDS {
        let dir = dir.join(round.to_string());
        let handed_over = kill_a_recorder(&dir, format, Duration::from_millis(100 + clock::random() % 600));
        for (call, end) in handed_over {
            let path = recorder::path(&dir, &Tenant::default(), call, None, format);
            let heard = check(&path, format);
            assert_eq!(told_at_the_next_start(&dir, call), [heard], "the recording's end is told");
            let missing = end.as_millis() - heard.as_millis();
            assert!(missing <= 100, "round {round}: the last {missing} ms are missing");
            worst = worst.max(missing);
        }
    }
    println!("{format:?}: {ROUNDS} recorders killed, at worst the last {worst} ms missing");
    std::fs::remove_dir_all(&dir).unwrap();
}

/// The child: records at the pace of real calls, and prints up to where each was handed over.
#[tokio::main]
async fn record_until_killed(dir: &Path, format: Format) {
    let metrics = Arc::new(Metrics::default());
    let (journal, _task) = Journal::start(dir, Tenant::default(), metrics.clone()).await.unwrap();
    let setting = Recording { format, ..Recording::default() };
    let (recorder, _thread) = Recorder::start_with(setting, dir, Tenant::default(), journal, metrics).unwrap();
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
fn kill_a_recorder(dir: &Path, format: Format, life: Duration) -> BTreeMap<CallId, MediaTime> {
    let mut command = Command::new(std::env::current_exe().unwrap());
    if format == Format::Opus {
        command.env(AS_OPUS, "1");
    }
    let mut child = command
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

/// A recording that was still being completed when its call had ended already: told after the end, and only once.
#[tokio::test]
async fn a_recording_without_an_end_is_ended_after_its_call() {
    let dir = std::env::temp_dir().join(format!("sotto-recording-{:016x}", clock::random()));
    let call = CallId::new(clock::wall_ms() as u64, 1, 1, clock::random());
    let leg = Some(LegId(2));
    let mut ends = Vec::new();
    for start in 0..3 {
        let (journal, task) = Journal::start(&dir, Tenant::default(), Arc::new(Metrics::default())).await.unwrap();
        if start == 0 {
            for (ms, leg, what) in [
                (20, leg, What::RecordingStarted {}),
                (30, None, What::RecordingStarted {}),
                (900, None, What::RecordingEnded { reason: "the call ended".into() }),
                (900, None, What::CallEnded { reason: "the customer hung up".into() }),
            ] {
                journal.record(call, Event { at: MediaTime::from_millis(ms), leg, what });
            }
        }
        journal.flush().await.unwrap();
        let events = journal.events(call, 0, 100).await.unwrap();
        ends = events.into_iter().skip(4).map(|r| (r.id.epoch, r.id.seq, r.event)).collect();
        drop(journal);
        task.await.unwrap();
    }
    let what = What::RecordingEnded { reason: "the server stopped unexpectedly".into() };
    assert_eq!(ends, [(1, 1, Event { at: MediaTime::from_millis(20), leg, what })], "its file is gone: where it began");
    std::fs::remove_dir_all(&dir).unwrap();
}

/// What the journal says of the recording's end once the server has started again. Every start ends what is open, and only
/// once.
#[tokio::main]
async fn told_at_the_next_start(dir: &Path, call: CallId) -> Vec<MediaTime> {
    let (journal, task) = Journal::start(dir, Tenant::default(), Arc::new(Metrics::default())).await.unwrap();
    let events = journal.events(call, 0, 100).await.unwrap();
    drop(journal);
    task.await.unwrap();
    let ended = events.iter().filter(|r| matches!(r.event.what, What::RecordingEnded { .. }));
    ended.map(|r| r.event.at).collect()
}

/// Plays the file, holds it against what was said, and answers how far it goes.
fn check(path: &Path, format: Format) -> MediaTime {
    let played = play(path, format);
    assert_eq!((played.channels.len(), played.hz), (2, 8_000));
    let silence = played.channels[0].iter().take_while(|s| **s == 0).count() as i64;
    match format {
        Format::Wav => {
            assert_eq!(silence * 6 % MediaTime::from_millis(STAGGER_MS).0, 0, "the beginning is on the media clock");
            for index in silence..played.length() as i64 {
                let pair = [0, 1].map(|channel| played.channels[channel][index as usize]);
                assert_eq!(pair, [sample(index), -sample(index)], "at sample {index}");
            }
        }
        Format::Opus => assert!(!played.ended, "nobody has completed it"),
    }
    MediaTime(played.length() as i64 * 6)
}
