//! Writes recordings: two-channel WAV, customer left, agent right, off the media thread.
//!
//! In come frames of 20 ms from the shards; out go files at [`path`], exact on the call's media clock from time 0, and
//! the events `recording.started` and `recording.ended`. What is written reaches the kernel, header included, every
//! 20 ms, so that a file plays to within 100 ms of its end however the process dies. A disk that refuses costs its
//! recording, never the call. Knows nothing of legs or modes: what a channel may hold was decided before.

mod file;

use crate::call::FRAME;
use crate::event::{Event, What};
use crate::id::{CallId, Tenant};
use crate::io::clock;
use crate::io::journal::Journal;
use crate::io::metrics::Metrics;
use crate::media::pcm::Rate;
use crate::time::{MediaTime, Samples};
use file::{Recording, WriteError};
use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender, TrySendError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// Frames of 8 kHz, or pieces as long, that wait for the disk: 11 MB, a third of a second of a thousand calls. When full, a frame is dropped,
/// counted, and silence in its recording.
const QUEUE: usize = 16_384;

/// How old a frame may get before it reaches the kernel. A death may cost 100 ms in all, and the jitter buffers have had
/// their part of it before a frame comes here.
const FLUSH: Duration = Duration::from_millis(20);

/// The way to the recorder's thread.
#[derive(Clone)]
pub struct Recorder {
    queue: SyncSender<Input>,
    /// Calls whose `finish` found the queue full: bounded by the number of calls.
    left_over: Arc<Mutex<Vec<CallId>>>,
    metrics: Arc<Metrics>,
}

/// What goes through the queue, in order. Nearly all are frames, and a box would have the media thread allocate.
#[allow(clippy::large_enum_variant)]
enum Input {
    Piece { call: CallId, at: MediaTime, rate: Rate, customer: [i16; FRAME], agent: [i16; FRAME] },
    Finish { call: CallId },
    Close,
}

/// Where the recording of a call is, below the store's folder.
pub fn path(store: &Path, tenant: &Tenant, call: CallId) -> PathBuf {
    store.join("recordings").join(file_name(&tenant.0)).join(format!("{call}.wav"))
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
    /// Starts the thread that writes below `store`. It ends, with every file completed, after `close` or when the
    /// last clone is dropped.
    pub fn start(
        store: &Path,
        tenant: Tenant,
        journal: Journal,
        metrics: Arc<Metrics>,
    ) -> io::Result<(Recorder, JoinHandle<()>)> {
        let (recorder, writer, inputs) = Recorder::assemble(store, tenant, journal, metrics);
        let thread = std::thread::Builder::new().name("recorder".into()).spawn(move || writer.run(&inputs))?;
        Ok((recorder, thread))
    }

    fn assemble(
        store: &Path,
        tenant: Tenant,
        journal: Journal,
        metrics: Arc<Metrics>,
    ) -> (Recorder, Writer, Receiver<Input>) {
        let (queue, inputs) = mpsc::sync_channel(QUEUE);
        let left_over = Arc::new(Mutex::default());
        let recorder = Recorder { queue, left_over: Arc::clone(&left_over), metrics: Arc::clone(&metrics) };
        let (store, recordings) = (store.to_path_buf(), HashMap::new());
        (recorder, Writer { store, tenant, journal, metrics, left_over, recordings }, inputs)
    }

    /// 20 ms of both channels at a rate, cut into pieces as long as a frame at 8 kHz. Never blocks: a full queue drops a
    /// piece, which is counted and becomes silence. The first frame of a call opens its file, at its rate.
    pub fn frame(&self, call: CallId, at: MediaTime, rate: Rate, customer: &[i16], agent: &[i16]) {
        let pieces = customer.as_chunks().0.iter().zip(agent.as_chunks().0);
        for (n, (customer, agent)) in pieces.enumerate() {
            let at = at + Samples((n * FRAME) as i64 * rate.clock_per_sample());
            if self.queue.try_send(Input::Piece { call, at, rate, customer: *customer, agent: *agent }).is_err() {
                self.metrics.ears.record_frames_dropped.inc();
            }
        }
    }

    /// The call records no more: the file is completed. Never blocks, but for a moment's lock when the queue is full.
    pub fn finish(&self, call: CallId) {
        if let Err(TrySendError::Full(_)) = self.queue.try_send(Input::Finish { call }) {
            self.left_over.lock().unwrap_or_else(PoisonError::into_inner).push(call);
        }
    }

    /// Completes every file and ends the thread. Waits for room in the queue: not for a media thread.
    pub fn close(&self) {
        // An error means that the thread has ended.
        let _ = self.queue.send(Input::Close);
    }
}

/// The thread's own.
struct Writer {
    store: PathBuf,
    tenant: Tenant,
    journal: Journal,
    metrics: Arc<Metrics>,
    left_over: Arc<Mutex<Vec<CallId>>>,
    recordings: HashMap<CallId, State>,
}

/// A call's recording.
enum State {
    /// Being written.
    Open(Recording),
    /// The disk refused: nothing more is written.
    Stopped,
}

impl Writer {
    fn run(mut self, inputs: &Receiver<Input>) {
        let mut due = clock::now() + FLUSH;
        let mut open = true;
        while open {
            open = match inputs.recv_timeout(due.saturating_duration_since(clock::now())) {
                Ok(input) => self.take(input),
                Err(RecvTimeoutError::Timeout) => true,
                Err(RecvTimeoutError::Disconnected) => false,
            };
            if open && clock::now() >= due {
                self.flush();
                open = self.finish_left_over(inputs);
                due = clock::now() + FLUSH;
            }
        }
        self.finish_all();
    }

    /// False when it was the last.
    fn take(&mut self, input: Input) -> bool {
        match input {
            Input::Piece { call, at, rate, customer, agent } => self.frame(call, (at, rate), &customer, &agent),
            Input::Finish { call } => self.finish(call, "the call ended"),
            Input::Close => return false,
        }
        true
    }

    fn frame(&mut self, call: CallId, (at, rate): (MediaTime, Rate), customer: &[i16; FRAME], agent: &[i16; FRAME]) {
        let state = self.recordings.entry(call).or_insert_with(|| {
            match Recording::create(&path(&self.store, &self.tenant, call), rate) {
                Ok(recording) => {
                    self.journal.record(call, Event { at, leg: None, what: What::RecordingStarted {} });
                    self.metrics.recordings.live.inc();
                    State::Open(recording)
                }
                Err(error) => {
                    tracing::error!(%call, %error, "a recording could not be begun; the call goes on without");
                    self.metrics.recordings.failed.inc();
                    State::Stopped
                }
            }
        });
        match state {
            State::Stopped => drop(self.metrics.ears.record_frames_dropped.inc()),
            State::Open(recording) => match recording.write(at, customer, agent) {
                Ok(()) => {}
                Err(WriteError::Misplaced) => drop(self.metrics.ears.record_frames_dropped.inc()),
                Err(WriteError::Disk(error)) => self.stop(call, &error),
            },
        }
    }

    /// Everything written so far reaches the kernel.
    fn flush(&mut self) {
        let failed: Vec<_> = self
            .recordings
            .iter_mut()
            .filter_map(|(call, state)| match state {
                State::Open(recording) => recording.flush().err().map(|error| (*call, error)),
                State::Stopped => None,
            })
            .collect();
        for (call, error) in failed {
            self.stop(call, &error);
        }
    }

    /// Completes the calls whose `finish` found the queue full. Their last frames may still be in it: as much as it can
    /// hold is dealt with first. False when the last input was among that.
    fn finish_left_over(&mut self, inputs: &Receiver<Input>) -> bool {
        let calls = std::mem::take(&mut *self.left_over.lock().unwrap_or_else(PoisonError::into_inner));
        if calls.is_empty() {
            return true;
        }
        let open = inputs.try_iter().take(QUEUE).all(|input| self.take(input));
        for call in calls {
            self.finish(call, "the call ended");
        }
        open
    }

    fn stop(&mut self, call: CallId, error: &hound::Error) {
        tracing::error!(%call, %error, "a recording stopped; the call goes on without");
        if let Some(State::Open(recording)) = self.recordings.insert(call, State::Stopped) {
            self.metrics.recordings.live.dec();
            self.metrics.recordings.failed.inc();
            self.ended(call, recording.end(), &format!("the disk refused: {error}"));
        }
    }

    fn finish(&mut self, call: CallId, reason: &str) {
        let Some(State::Open(recording)) = self.recordings.remove(&call) else { return };
        let end = recording.end();
        self.metrics.recordings.live.dec();
        match recording.complete() {
            Ok(()) => {
                self.metrics.recordings.completed.inc();
                self.ended(call, end, reason);
            }
            Err(error) => {
                tracing::error!(%call, %error, "a recording could not be completed");
                self.metrics.recordings.failed.inc();
                self.ended(call, end, &format!("the disk refused: {error}"));
            }
        }
    }

    fn finish_all(&mut self) {
        let calls: Vec<_> = self.recordings.keys().copied().collect();
        for call in calls {
            self.finish(call, "the server stopped");
        }
    }

    fn ended(&self, call: CallId, at: MediaTime, reason: &str) {
        self.journal.record(call, Event { at, leg: None, what: What::RecordingEnded { reason: reason.to_owned() } });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenant_cannot_leave_its_folder() {
        let call = CallId::new(1_790_000_000_000, 1, 1, 7);
        let path = |tenant: &str| path(Path::new("/store"), &Tenant(tenant.into()), call).display().to_string();
        assert_eq!(path("default"), format!("/store/recordings/default/{call}.wav"));
        assert_eq!(path("../a b"), format!("/store/recordings/%2e%2e%2fa%20b/{call}.wav"));
    }
    #[tokio::test]
    async fn a_call_that_ends_while_the_queue_is_full_is_completed_with_all_that_was_in_it() {
        use crate::io::journal::Published;
        let store = std::env::temp_dir().join(format!("sotto-recorder-{:016x}", clock::random()));
        let metrics = Arc::new(Metrics::default());
        let (journal, _task) = Journal::start(&store, Tenant::default(), metrics.clone()).await.unwrap();
        let mut published = journal.subscribe();
        let (recorder, writer, inputs) = Recorder::assemble(&store, Tenant::default(), journal, metrics.clone());
        let call = CallId::new(1_790_000_000_000, 1, 1, 7);
        for n in 0..=QUEUE as i64 {
            recorder.frame(call, MediaTime::from_millis(n * 20), Rate::Narrow, &[1; FRAME], &[2; FRAME]);
        }
        recorder.finish(call);
        assert_eq!(metrics.ears.record_frames_dropped.get(), 1);
        let thread = std::thread::spawn(move || writer.run(&inputs));
        let (at, reason) = loop {
            let Published::Event(recorded) = published.recv().await.unwrap() else { continue };
            if let What::RecordingEnded { reason } = recorded.event.what.clone() {
                break (recorded.event.at, reason);
            }
        };
        assert_eq!((at, &*reason), (MediaTime::from_millis(QUEUE as i64 * 20), "the call ended"));
        recorder.close();
        thread.join().unwrap();
        std::fs::remove_dir_all(&store).unwrap();
    }
}
