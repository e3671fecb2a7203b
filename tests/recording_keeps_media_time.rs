//! A recording is exact on the call's media clock, as WAV and as Opus: what was not said, or was lost, is silence of the
//! right length, and what comes after it is in its place.

#[path = "support/playing.rs"]
mod playing;

use playing::{Played, play};
use sotto::call::FRAME;
use sotto::config::{Format, Recording};
use sotto::event::What;
use sotto::id::{CallId, LegId, Tenant};
use sotto::io::clock;
use sotto::io::journal::Journal;
use sotto::io::metrics::Metrics;
use sotto::io::recorder::{self, Recorder};
use sotto::media::pcm::Rate;
use sotto::time::MediaTime;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;

const BOTH: [Format; 2] = [Format::Wav, Format::Opus];

struct Bench {
    dir: PathBuf,
    journal: Journal,
    recorder: Recorder,
    thread: std::thread::JoinHandle<()>,
    metrics: Arc<Metrics>,
    call: CallId,
    format: Format,
}

impl Bench {
    async fn new(format: Format) -> Self {
        let dir = std::env::temp_dir().join(format!("sotto-recording-{:016x}", clock::random()));
        let metrics = Arc::new(Metrics::default());
        let (journal, _task) = Journal::start(&dir, Tenant::default(), metrics.clone()).await.unwrap();
        let setting = Recording { format, legs: true, ..Recording::default() };
        let (recorder, thread) =
            Recorder::start_with(setting, &dir, Tenant::default(), journal.clone(), metrics.clone()).unwrap();
        let call = CallId::new(clock::wall_ms() as u64, 1, 1, clock::random());
        Bench { dir, journal, recorder, thread, metrics, call, format }
    }

    fn frame(&self, ms: i64, customer: i16, agent: i16) {
        self.recorder.frame(self.call, MediaTime::from_millis(ms), Rate::Narrow, &[customer; FRAME], &[agent; FRAME]);
    }

    fn path(&self) -> PathBuf {
        recorder::path(&self.dir, &Tenant::default(), self.call, None, self.format)
    }

    /// Until the recorder has taken and written everything so far.
    async fn taken(&self, events: usize) {
        while self.recorded().await.len() < events {
            tokio::task::yield_now().await;
        }
    }

    async fn recorded(&self) -> Vec<(i64, What)> {
        self.journal.flush().await.unwrap();
        let events = self.journal.events(self.call, 0, 100).await.unwrap();
        events.into_iter().map(|r| (r.event.at.as_millis(), r.event.what)).collect()
    }

    /// The finished recording, and the recording's events with their times.
    async fn finish(self, until: i64) -> (Option<Played>, Vec<(i64, What)>, Arc<Metrics>) {
        self.recorder.finish(self.call, MediaTime::from_millis(until));
        self.recorder.close();
        while !self.thread.is_finished() {
            tokio::task::yield_now().await;
        }
        let events = self.recorded().await;
        let path = self.path();
        let played = path.is_file().then(|| play(&path, self.format));
        std::fs::remove_dir_all(&self.dir).unwrap();
        (played, events, self.metrics)
    }
}

fn ended(reason: &str) -> What {
    What::RecordingEnded { reason: reason.into() }
}

fn gap(start: i64, end: i64, reason: &str) -> What {
    let (start, end) = (MediaTime::from_millis(start), MediaTime::from_millis(end));
    What::RecordingGap { start, end, reason: reason.into() }
}

const STOOD_STILL: &str = "nothing came from the call: the server stood still";

#[tokio::test]
async fn gaps_become_silence_and_both_ends_are_told() {
    let bench = Bench::new(Format::Wav).await;
    bench.frame(40, 1, -1);
    bench.frame(60, 2, -2);
    bench.frame(1_000, 3, -3);
    let (played, events, metrics) = bench.finish(1_020).await;
    let played = played.unwrap();
    assert_eq!(played.length(), 1_020 * 8);
    let at = |ms: usize| [played.channels[0][ms * 8], played.channels[1][ms * 8]];
    assert_eq!([at(0), at(39), at(40), at(59), at(60), at(79)], [[0, 0], [0, 0], [1, -1], [1, -1], [2, -2], [2, -2]]);
    assert_eq!([at(80), at(999), at(1_000), at(1_019)], [[0, 0], [0, 0], [3, -3], [3, -3]]);
    let gap = (1_000, gap(80, 1_000, STOOD_STILL));
    assert_eq!(events, [(40, What::RecordingStarted {}), gap, (1_020, ended("the call ended"))]);
    assert_eq!((metrics.recordings.completed.get(), metrics.recordings.live.get()), (1, 0));
    assert_eq!((metrics.recordings.failed.get(), metrics.recordings.gaps.get()), (0, 1));
}

/// Tones at odd places of a recording with holes: both formats have them in the same places to within a quarter of a
/// millisecond (libopus does not delay all pitches alike), at the same loudness, and nothing of one channel in the other.
#[tokio::test]
async fn opus_lies_on_the_clock_as_wav_does() {
    for (rate, start) in [(Rate::Narrow, 47), (Rate::Wide, 5), (Rate::Full, 13)] {
        let mut heard = Vec::new();
        for format in BOTH {
            let bench = Bench::new(format).await;
            let hz = rate.hz() as i64;
            let tone = |from: i64, pitch: f64| -> Vec<i16> {
                let place = |n: usize| (from * hz / 1000 + n as i64) as f64 / hz as f64;
                let wave = |n: usize| (place(n) * pitch * std::f64::consts::TAU).sin();
                (0..rate.frame()).map(|n| (wave(n) * 8000.0) as i16).collect()
            };
            let nothing = vec![0; rate.frame()];
            // The customer alone, the agent alone, then a hole of 3 s, then the customer again.
            let mut n = 0;
            for (frames, hole) in [(40, 0), (40, 0), (60, 3_000)] {
                for _ in 0..frames {
                    let ms = start + n * 20 + hole;
                    let agent = n / 40 == 1;
                    let (customer, agent) =
                        if agent { (nothing.clone(), tone(ms, 600.0)) } else { (tone(ms, 400.0), nothing.clone()) };
                    bench.recorder.frame(bench.call, MediaTime::from_millis(ms), rate, &customer, &agent);
                    n += 1;
                }
            }
            let (played, events, _) = bench.finish(start + 5_940).await;
            assert_eq!(events.iter().filter(|(_, what)| matches!(what, What::RecordingGap { .. })).count(), 2);
            heard.push(played.unwrap());
        }
        let [wav, opus] = &heard[..] else { panic!("two formats") };
        assert_eq!((wav.hz, opus.hz), (rate.hz(), rate.hz()));
        assert_eq!((wav.length(), opus.length()), (opus.length(), wav.length()), "at {} Hz", rate.hz());
        assert_eq!(opus.ms(), start + 5_940, "to the sample, also where it is silent at its end");
        assert!(opus.ended);
        for (channel, from, to) in [(0, 0, 800), (1, 800, 1_600), (0, 4_600, 5_800)] {
            let (from, to) = (start + from + 60, start + to - 60);
            let hz = i64::from(wav.hz);
            let (exact, coded) = (wav.piece(channel, from, to), opus.piece(channel, from, to));
            let (shift, likeness) = best_shift(exact, coded);
            assert!(shift.abs() <= hz / 4_000, "{} Hz, channel {channel}: {shift} samples off", rate.hz());
            assert!(likeness > 0.98, "{} Hz, channel {channel}: {likeness}", rate.hz());
            let loudness = rms(coded) / rms(exact);
            assert!((0.9..1.1).contains(&loudness), "{} Hz, channel {channel}: {loudness}", rate.hz());
            assert!(rms(opus.piece(1 - channel, from, to)) <= 1.0, "nothing of it is on the other side");
        }
        assert!(rms(opus.piece(0, start + 1_700, start + 4_500)) <= 1.0, "a hole is silence");
    }
}

fn rms(pcm: &[i16]) -> f64 {
    (pcm.iter().map(|s| f64::from(*s).powi(2)).sum::<f64>() / pcm.len() as f64).sqrt()
}

/// By how many samples the second is later than the first, and how alike they are there.
fn best_shift(exact: &[i16], coded: &[i16]) -> (i64, f64) {
    let likeness = |shift: i64| {
        let margin = 12usize;
        let inner = &exact[margin..exact.len() - margin];
        let other = &coded[(margin as i64 + shift) as usize..][..inner.len()];
        let product: f64 = inner.iter().zip(other).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
        product / inner.len() as f64 / (rms(inner) * rms(other))
    };
    (-12..=12).map(|shift| (shift, likeness(shift))).max_by(|a, b| a.1.total_cmp(&b.1)).unwrap()
}

#[tokio::test]
async fn frames_that_come_twice_or_from_nowhere_are_dropped() {
    let bench = Bench::new(Format::Wav).await;
    bench.frame(-20, 9, 9);
    bench.frame(0, 1, 1);
    bench.frame(0, 9, 9);
    bench.frame(10, 2, 2);
    bench.frame(5 * 3_600_000, 9, 9);
    bench.recorder.frame(bench.call, MediaTime(i64::MAX), Rate::Narrow, &[9; FRAME], &[9; FRAME]);
    bench.recorder.frame(bench.call, MediaTime(i64::MIN), Rate::Narrow, &[9; FRAME], &[9; FRAME]);
    let (played, _, metrics) = bench.finish(30).await;
    let played = played.unwrap();
    assert_eq!(played.length(), 30 * 8, "of a frame that overlaps, the rest is kept");
    let at = |n: usize| [played.channels[0][n], played.channels[1][n]];
    assert_eq!([at(0), at(159), at(160), at(239)], [[1, 1], [1, 1], [2, 2], [2, 2]]);
    assert_eq!(metrics.ears.record_frames_dropped.get(), 5);
}

#[tokio::test]
async fn a_leg_by_itself_lies_on_the_clock_of_its_call() {
    for format in BOTH {
        let bench = Bench::new(format).await;
        let leg = LegId(2);
        let tone: [i16; FRAME] = std::array::from_fn(|n| if n % 16 < 8 { 4_000 } else { -4_000 });
        for n in 0..100 {
            bench.frame(n * 20, 1, 1);
            if n >= 50 {
                bench.recorder.leg(bench.call, leg, MediaTime::from_millis(n * 20), Rate::Narrow, &tone);
            }
        }
        bench.taken(2).await;
        let path = recorder::path(&bench.dir, &Tenant::default(), bench.call, Some(leg), format);
        bench.recorder.finish(bench.call, MediaTime::from_millis(2_000));
        bench.taken(4).await;
        let alone = play(&path, format);
        assert_eq!((alone.channels.len(), alone.ms()), (1, 2_000));
        assert!(rms(alone.piece(0, 0, 980)) <= 1.0 && rms(alone.piece(0, 1_000, 1_100)) > 1_000.0);
        let (_, events, metrics) = bench.finish(2_000).await;
        assert_eq!(events.len(), 4, "{events:?}");
        assert_eq!((metrics.recordings.completed.get(), metrics.recordings.live.get()), (2, 0));
    }
}

#[tokio::test]
async fn a_server_that_stops_completes_what_it_records_for_its_owner_alone() {
    for format in BOTH {
        let bench = Bench::new(format).await;
        bench.frame(0, 1, 1);
        bench.recorder.close();
        while !bench.thread.is_finished() {
            tokio::task::yield_now().await;
        }
        for path in [bench.path(), bench.path().parent().unwrap().into()] {
            let mode = std::fs::metadata(&path).unwrap().permissions().mode();
            assert_eq!(mode & 0o077, 0, "{}", path.display());
        }
        let (played, events, _) = bench.finish(20).await;
        let played = played.unwrap();
        assert_eq!((played.length(), played.ended), (160, true));
        assert_eq!(events.last().unwrap(), &(20, ended("the server stopped")));
    }
}

#[tokio::test]
async fn a_disk_that_refuses_costs_the_recording_only() {
    let bench = Bench::new(Format::Wav).await;
    std::fs::write(bench.dir.join("recordings"), "a file where the folder should be").unwrap();
    bench.frame(0, 1, 1);
    bench.frame(20, 1, 1);
    let (played, events, metrics) = bench.finish(40).await;
    assert!(played.is_none());
    let why = "the disk refused: Not a directory (os error 20)";
    assert_eq!(events, [(0, What::RecordingFailed { reason: why.into() }), (40, gap(0, 40, why))]);
    assert_eq!((metrics.recordings.failed.get(), metrics.ears.record_frames_dropped.get()), (1, 2));
}

#[tokio::test]
async fn a_recording_is_never_written_over() {
    let bench = Bench::new(Format::Wav).await;
    bench.frame(0, 1, 1);
    bench.recorder.finish(bench.call, MediaTime::from_millis(20));
    bench.frame(20, 2, 2);
    let (played, ..) = bench.finish(40).await;
    assert_eq!(played.unwrap().channels, vec![vec![1; 160]; 2]);
}
