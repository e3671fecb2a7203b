//! A recording is exact on the call's media clock: what was not said, or was lost, is silence of the right length.

use sotto::call::FRAME;
use sotto::event::What;
use sotto::id::{CallId, Tenant};
use sotto::io::clock;
use sotto::io::journal::Journal;
use sotto::io::metrics::Metrics;
use sotto::io::recorder::{self, Recorder};
use sotto::media::pcm::Rate;
use sotto::time::MediaTime;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

struct Bench {
    dir: PathBuf,
    journal: Journal,
    recorder: Recorder,
    thread: std::thread::JoinHandle<()>,
    metrics: Arc<Metrics>,
    call: CallId,
}

impl Bench {
    async fn new() -> Self {
        let dir = std::env::temp_dir().join(format!("sotto-recording-{:016x}", clock::random()));
        let metrics = Arc::new(Metrics::default());
        let (journal, _task) = Journal::start(&dir, Tenant::default(), metrics.clone()).await.unwrap();
        let (recorder, thread) = Recorder::start(&dir, Tenant::default(), journal.clone(), metrics.clone()).unwrap();
        let call = CallId::new(clock::wall_ms() as u64, 1, 1, clock::random());
        Bench { dir, journal, recorder, thread, metrics, call }
    }

    fn frame(&self, ms: i64, customer: i16, agent: i16) {
        self.recorder.frame(self.call, MediaTime::from_millis(ms), Rate::Narrow, &[customer; FRAME], &[agent; FRAME]);
    }

    fn path(&self) -> PathBuf {
        recorder::path(&self.dir, &Tenant::default(), self.call)
    }

    /// The finished recording, and the recording's events with their times.
    async fn finish(self) -> (Vec<[i16; 2]>, Vec<(i64, What)>, Arc<Metrics>) {
        self.recorder.finish(self.call);
        self.recorder.close();
        let path = self.path();
        self.thread.join().unwrap();
        self.journal.flush().await.unwrap();
        let events = self.journal.events(self.call, 0, 100).await.unwrap();
        let events = events.into_iter().map(|r| (r.event.at.as_millis(), r.event.what)).collect();
        let samples = if path.is_file() { play(&path) } else { Vec::new() };
        std::fs::remove_dir_all(&self.dir).unwrap();
        (samples, events, self.metrics)
    }
}

fn play(path: &Path) -> Vec<[i16; 2]> {
    let mut wav = hound::WavReader::open(path).unwrap();
    let samples: Vec<i16> = wav.samples().collect::<Result<_, _>>().unwrap();
    samples.chunks(2).map(|pair| [pair[0], pair[1]]).collect()
}

fn ended(reason: &str) -> What {
    What::RecordingEnded { reason: reason.into() }
}

#[tokio::test]
async fn gaps_become_silence_and_both_ends_are_told() {
    let bench = Bench::new().await;
    bench.frame(40, 1, -1);
    bench.frame(60, 2, -2);
    bench.frame(1_000, 3, -3);
    let (samples, events, metrics) = bench.finish().await;
    assert_eq!(samples.len(), 1_020 * 8);
    let at = |ms: usize| samples[ms * 8];
    assert_eq!([at(0), at(39), at(40), at(59), at(60), at(79)], [[0, 0], [0, 0], [1, -1], [1, -1], [2, -2], [2, -2]]);
    assert_eq!([at(80), at(999), at(1_000), at(1_019)], [[0, 0], [0, 0], [3, -3], [3, -3]]);
    assert_eq!(events, [(40, What::RecordingStarted {}), (1_020, ended("the call ended"))]);
    assert_eq!((metrics.recordings.completed.get(), metrics.recordings.live.get()), (1, 0));
}

#[tokio::test]
async fn frames_that_come_twice_or_from_nowhere_are_dropped() {
    let bench = Bench::new().await;
    bench.frame(-20, 9, 9);
    bench.frame(0, 1, 1);
    bench.frame(0, 9, 9);
    bench.frame(10, 2, 2);
    bench.frame(5 * 3_600_000, 9, 9);
    bench.recorder.frame(bench.call, MediaTime(i64::MAX), Rate::Narrow, &[9; FRAME], &[9; FRAME]);
    bench.recorder.frame(bench.call, MediaTime(i64::MIN), Rate::Narrow, &[9; FRAME], &[9; FRAME]);
    let (samples, _, metrics) = bench.finish().await;
    assert_eq!(samples.len(), 30 * 8, "of a frame that overlaps, the rest is kept");
    assert_eq!([samples[0], samples[159], samples[160], samples[239]], [[1, 1], [1, 1], [2, 2], [2, 2]]);
    assert_eq!(metrics.ears.record_frames_dropped.get(), 5);
}

#[tokio::test]
async fn a_server_that_stops_completes_what_it_records_for_its_owner_alone() {
    let bench = Bench::new().await;
    bench.frame(0, 1, 1);
    bench.recorder.close();
    while !bench.thread.is_finished() {
        tokio::task::yield_now().await;
    }
    for path in [bench.path(), bench.path().parent().unwrap().into()] {
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{}", path.display());
    }
    let (samples, events, _) = bench.finish().await;
    assert_eq!(samples.len(), 160);
    assert_eq!(events.last().unwrap(), &(20, ended("the server stopped")));
}

#[tokio::test]
async fn a_disk_that_refuses_costs_the_recording_only() {
    let bench = Bench::new().await;
    std::fs::write(bench.dir.join("recordings"), "a file where the folder should be").unwrap();
    bench.frame(0, 1, 1);
    bench.frame(20, 1, 1);
    let (samples, events, metrics) = bench.finish().await;
    assert_eq!((samples.len(), events.len()), (0, 0));
    assert_eq!((metrics.recordings.failed.get(), metrics.ears.record_frames_dropped.get()), (1, 2));
}

#[tokio::test]
async fn a_recording_is_never_written_over() {
    let bench = Bench::new().await;
    bench.frame(0, 1, 1);
    bench.recorder.finish(bench.call);
    bench.frame(20, 2, 2);
    let (samples, _, _) = bench.finish().await;
    assert_eq!(samples, vec![[1, 1]; 160]);
}
