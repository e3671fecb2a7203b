//! Writes recordings, off the media thread: of each call two channels, customer left and agent right, and, where that is
//! wished, of each customer and agent one of their own.
//!
//! ```text
//! media threads ─► queue ─► writer ─► recording: its place on the media clock ─► WAV or Opus in Ogg ─► kernel
//!                               └──► recording.started, .failed, .gap, .ended ─► journal
//! ```
//!
//! In come frames of 20 ms from the shards; out go files at [`path`], exact on the call's media clock from time 0. What is
//! taken from the queue reaches the kernel at once, so that a file plays to within 100 ms of its end however the process
//! dies. A disk that refuses or is slow costs the recording what it did not take, told as `recording.gap`, and the call
//! nothing. Knows nothing of modes: what a channel may hold was decided before.

mod opus;
mod playback;
mod recording;
mod recovery;
mod tail;
mod wav;
mod writer;

pub use playback::Playback;
pub use recording::TOO_SLOW;
pub use recovery::recover;
pub use wav::{HEADER, Shape};

use crate::call::FRAME;
use crate::config::{self, Format};
use crate::id::{CallId, LegId, Tenant};
use crate::io::journal::Journal;
use crate::io::metrics::Metrics;
use crate::media::pcm::Rate;
use crate::time::{MediaTime, Samples};
use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender, TrySendError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use writer::Writer;

/// Frames of 8 kHz, or pieces as long, that wait for the disk: 11 MB, a third of a second of a thousand calls, half of it
/// with legs by themselves. When full, a frame is dropped, counted, and silence in its recording, which is told.
const QUEUE: usize = 16_384;

/// A call's frames are told to be lost at most this often.
const TOLD: Samples = Samples::from_millis(1_000);

/// The way to the recorder's thread.
#[derive(Clone)]
pub struct Recorder {
    queue: SyncSender<Input>,
    shared: Arc<Shared>,
    legs: bool,
    metrics: Arc<Metrics>,
}

/// What goes another way than the queue.
#[derive(Default)]
struct Shared {
    /// Calls whose `finish` found the queue full, and how far they went: bounded by the number of calls.
    left_over: Mutex<Vec<(CallId, MediaTime)>>,
    /// How many pieces found the queue full.
    lost: AtomicU64,
    /// The thread is to end.
    closing: AtomicBool,
}

/// What goes through the queue, in order. Nearly all are frames, and a box would have the media thread allocate.
/// `lost`: how many pieces the queue had lost when this one was put into it.
#[allow(clippy::large_enum_variant)]
enum Input {
    Piece { call: CallId, at: MediaTime, rate: Rate, lost: u64, customer: [i16; FRAME], agent: [i16; FRAME] },
    Leg { call: CallId, leg: LegId, at: MediaTime, rate: Rate, lost: u64, pcm: [i16; FRAME] },
    Finish { call: CallId, until: MediaTime },
}

/// What a media thread keeps of a call's recording.
#[derive(Clone, Copy, Debug, Default)]
pub struct Line {
    /// Up to where it was handed over, or lost on the way.
    pub until: MediaTime,
    lost: Option<MediaTime>,
}

impl Line {
    /// A frame that begins at `at` was handed over whole, or not. True if a loss is news.
    pub fn handed_over(&mut self, at: MediaTime, whole: bool) -> bool {
        self.until = at + Samples::FRAME;
        if whole {
            return false;
        }
        let before = self.lost.replace(at);
        before.is_none_or(|before| at - before > TOLD)
    }
}

/// Where the recording of a call is, or that of one of its legs, below the store's folder.
pub fn path(store: &Path, tenant: &Tenant, call: CallId, leg: Option<LegId>, format: Format) -> PathBuf {
    let leg = leg.map_or_else(String::new, |leg| format!(".{leg}"));
    let ending = match format {
        Format::Wav => "wav",
        Format::Opus => "opus",
    };
    store.join("recordings").join(file_name(&tenant.0)).join(format!("{call}{leg}.{ending}"))
}

/// A tenant's name as one path component: whatever could mean something to a path is written as its number.
fn file_name(tenant: &str) -> String {
    tenant.bytes().fold(String::new(), |mut name, byte| {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => name.push(char::from(byte)),
            _ => name.push_str(&format!("%{byte:02x}")),
        }
        name
    })
}

impl Recorder {
    /// Starts the thread that writes below `store`, as `config::Recording` has it where nothing is configured. It ends,
    /// with every file completed, after `close` or when the last clone is dropped.
    pub fn start(
        store: &Path,
        tenant: Tenant,
        journal: Journal,
        metrics: Arc<Metrics>,
    ) -> io::Result<(Recorder, JoinHandle<()>)> {
        Recorder::start_with(config::Recording::default(), store, tenant, journal, metrics)
    }

    /// The same with another format, or legs by themselves.
    pub fn start_with(
        setting: config::Recording,
        store: &Path,
        tenant: Tenant,
        journal: Journal,
        metrics: Arc<Metrics>,
    ) -> io::Result<(Recorder, JoinHandle<()>)> {
        let (recorder, writer, inputs) = Recorder::assemble(setting, store, tenant, journal, metrics);
        let thread = std::thread::Builder::new().name("recorder".into()).spawn(move || writer.run(&inputs))?;
        Ok((recorder, thread))
    }

    fn assemble(
        setting: config::Recording,
        store: &Path,
        tenant: Tenant,
        journal: Journal,
        metrics: Arc<Metrics>,
    ) -> (Recorder, Writer, Receiver<Input>) {
        let (queue, inputs) = mpsc::sync_channel(QUEUE);
        let shared = Arc::<Shared>::default();
        let recorder = Recorder { queue, shared: shared.clone(), legs: setting.legs, metrics: metrics.clone() };
        let (store, recordings, dirty) = (store.to_path_buf(), HashMap::new(), Vec::new());
        let writer = Writer { store, tenant, setting, journal, metrics, shared, recordings, dirty };
        (recorder, writer, inputs)
    }

    /// 20 ms of both channels at a rate, cut into pieces as long as a frame at 8 kHz. Never blocks: a full queue drops a
    /// piece, which is counted and becomes silence; false then. The first frame of a call opens its file, at its rate.
    pub fn frame(&self, call: CallId, at: MediaTime, rate: Rate, customer: &[i16], agent: &[i16]) -> bool {
        let pieces = customer.as_chunks().0.iter().zip(agent.as_chunks().0);
        pieces.zip(places(at, rate)).fold(true, |whole, ((customer, agent), at)| {
            let lost = self.shared.lost.load(Ordering::Relaxed);
            self.put(Input::Piece { call, at, rate, lost, customer: *customer, agent: *agent }) && whole
        })
    }

    /// The same of one leg alone; dropped where legs are not recorded by themselves.
    pub fn leg(&self, call: CallId, leg: LegId, at: MediaTime, rate: Rate, pcm: &[i16]) {
        if self.legs {
            for (pcm, at) in pcm.as_chunks().0.iter().zip(places(at, rate)) {
                let lost = self.shared.lost.load(Ordering::Relaxed);
                self.put(Input::Leg { call, leg, at, rate, lost, pcm: *pcm });
            }
        }
    }

    fn put(&self, piece: Input) -> bool {
        let taken = self.queue.try_send(piece).is_ok();
        if !taken {
            self.shared.lost.fetch_add(1, Ordering::Relaxed);
            self.metrics.ears.record_frames_dropped.inc();
        }
        taken
    }

    /// The call records no more: its files are completed. `until`: how far it went, so that an end that the queue lost is
    /// silence too. Never blocks, but for a moment's lock when the queue is full.
    pub fn finish(&self, call: CallId, until: MediaTime) {
        if let Err(TrySendError::Full(_)) = self.queue.try_send(Input::Finish { call, until }) {
            self.shared.left_over.lock().unwrap_or_else(PoisonError::into_inner).push((call, until));
        }
    }

    /// Has every file completed and the thread end, once it has dealt with what is in the queue. Never blocks.
    pub fn close(&self) {
        self.shared.closing.store(true, Ordering::Relaxed);
    }
}

/// Where the pieces of a frame begin.
fn places(at: MediaTime, rate: Rate) -> impl Iterator<Item = MediaTime> {
    (0..).map(move |n| at + Samples(n * FRAME as i64 * rate.clock_per_sample()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::What;
    use crate::io::clock;
    use crate::io::journal::Published;

    #[test]
    fn a_tenant_cannot_leave_its_folder() {
        let call = CallId::new(1_790_000_000_000, 1, 1, 7);
        let path = |tenant: &str, leg| {
            path(Path::new("/store"), &Tenant(tenant.into()), call, leg, Format::Wav).display().to_string()
        };
        assert_eq!(path("default", None), format!("/store/recordings/default/{call}.wav"));
        assert_eq!(path("../a b", Some(LegId(2))), format!("/store/recordings/%2e%2e%2fa%20b/{call}.leg-2.wav"));
    }

    /// The thread does not run until the queue has overflown: a disk that hangs.
    #[tokio::test]
    async fn what_a_full_queue_loses_is_silence_and_told() {
        let store = std::env::temp_dir().join(format!("sotto-recorder-{:016x}", clock::random()));
        let metrics = Arc::new(Metrics::default());
        let (journal, _task) = Journal::start(&store, Tenant::default(), metrics.clone()).await.unwrap();
        let mut published = journal.subscribe();
        let tenant = Tenant::default();
        let setting = config::Recording::default();
        let (recorder, writer, inputs) = Recorder::assemble(setting, &store, tenant.clone(), journal, metrics.clone());
        let call = CallId::new(1_790_000_000_000, 1, 1, 7);
        let (ms, mut line) = (MediaTime::from_millis, Line::default());
        let mut frame = |n: i64| {
            let whole = recorder.frame(call, ms(n * 20), Rate::Narrow, &[1; FRAME], &[2; FRAME]);
            line.handed_over(ms(n * 20), whole)
        };
        let (room, lost) = (QUEUE as i64, 60);
        let news = (0..room + lost).filter(|n| frame(*n)).count();
        assert_eq!((news, line.until), (1, ms((room + lost) * 20)), "a loss that goes on is told once");
        recorder.finish(call, line.until);
        assert_eq!(metrics.ears.record_frames_dropped.get(), lost as u64);
        let thread = std::thread::spawn(move || writer.run(&inputs));
        let mut told = Vec::new();
        while !matches!(told.last(), Some((_, What::RecordingEnded { .. }))) {
            if let Published::Event(recorded) = published.recv().await.unwrap() {
                told.push((recorded.event.at, recorded.event.what.clone()));
            }
        }
        let end = ms((room + lost) * 20);
        let gap = What::RecordingGap { start: ms(room * 20), end, reason: TOO_SLOW.into() };
        let ended = What::RecordingEnded { reason: "the call ended".into() };
        assert_eq!(told, [(ms(0), What::RecordingStarted {}), (end, gap), (end, ended)]);
        recorder.close();
        thread.join().unwrap();
        let wav = hound::WavReader::open(path(&store, &tenant, call, None, Format::Wav)).unwrap();
        assert_eq!(wav.duration() as i64, (room + lost) * FRAME as i64);
        let loud = wav.into_samples::<i16>().map(Result::unwrap).filter(|s| *s != 0).count();
        assert_eq!(loud as i64, room * 2 * FRAME as i64);
        std::fs::remove_dir_all(&store).unwrap();
    }
}
