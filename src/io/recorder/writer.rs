//! The recorder's thread: takes what waits, writes it out, and tells the journal what became of it.
//!
//! What comes is written as soon as nothing more waits, so that a death costs no more than what was being written. The
//! thread steps back for media: a recording may be late, a packet may not.

use super::recording::{Recording, Spec};
use super::{Input, Shared, path};
use crate::config;
use crate::event::Event;
use crate::id::{CallId, LegId, Tenant};
use crate::io::clock;
use crate::io::journal::Journal;
use crate::io::metrics::Metrics;
use crate::media::pcm::Rate;
use crate::time::MediaTime;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

/// How long the thread waits for something to come before it looks whether it is to end.
const LOOK: Duration = Duration::from_millis(20);

/// Pieces taken at most before what they made is written out.
const BATCH: usize = 128;

/// How much the thread steps back for media (`nice`).
const NICENESS: i32 = 5;

/// A recording's name: a call, and one of its legs or the whole.
type Key = (CallId, Option<LegId>);

/// The thread's own.
pub(super) struct Writer {
    pub(super) store: PathBuf,
    pub(super) tenant: Tenant,
    pub(super) setting: config::Recording,
    pub(super) journal: Journal,
    pub(super) metrics: Arc<Metrics>,
    pub(super) shared: Arc<Shared>,
    pub(super) recordings: HashMap<Key, Recording>,
    /// Recordings with something that has not reached the kernel.
    pub(super) dirty: Vec<Key>,
}

impl Writer {
    /// Until told to stop, or until nobody is left who could send anything.
    pub(super) fn run(mut self, inputs: &Receiver<Input>) {
        if let Err(error) = rustix::process::nice(NICENESS) {
            tracing::debug!(%error, "the recorder runs as eagerly as everything else");
        }
        loop {
            match inputs.recv_timeout(LOOK) {
                Ok(first) => {
                    self.take(first);
                    inputs.try_iter().take(BATCH).for_each(|input| self.take(input));
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            self.write_out();
            self.finish_left_over(inputs);
            if self.shared.closing.load(Ordering::Relaxed) {
                inputs.try_iter().for_each(|input| self.take(input));
                break;
            }
        }
        self.finish_all();
    }

    fn take(&mut self, input: Input) {
        match input {
            Input::Piece { call, at, rate, lost, customer, agent } => {
                let mut pcm = [0; 2 * super::FRAME];
                for (pair, both) in pcm.chunks_exact_mut(2).zip(customer.iter().zip(&agent)) {
                    pair.copy_from_slice(&[*both.0, *both.1]);
                }
                self.piece((call, None), at, rate, lost, &pcm);
            }
            Input::Leg { call, leg, at, rate, lost, pcm } => self.piece((call, Some(leg)), at, rate, lost, &pcm),
            Input::Finish { call, until } => self.finish_call(call, until, "the call ended"),
        }
    }

    /// `pcm`: samples of all channels in turn, two for a whole call and one for a leg.
    fn piece(&mut self, key: Key, at: MediaTime, rate: Rate, lost: u64, pcm: &[i16]) {
        let recording = match self.recordings.entry(key) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => {
                let (call, leg) = key;
                let format = self.setting.format;
                let spec = Spec {
                    path: path(&self.store, &self.tenant, call, leg, format),
                    format,
                    bitrate: self.setting.bitrate,
                    rate,
                    channels: if leg.is_some() { 1 } else { 2 },
                    leg,
                    serial: clock::random() as u32,
                };
                entry.insert(Recording::new(spec, at, lost))
            }
        };
        let begun = recording.is_begun();
        if recording.write(clock::now(), at, lost, pcm) {
            self.dirty.push(key);
        } else {
            self.metrics.ears.record_frames_dropped.inc();
        }
        if recording.is_begun() != begun {
            self.metrics.recordings.live.inc();
        }
        tell(&self.journal, key, recording);
    }

    /// Everything taken so far reaches the kernel.
    fn write_out(&mut self) {
        let now = clock::now();
        for key in self.dirty.drain(..) {
            if let Some(recording) = self.recordings.get_mut(&key) {
                recording.write_out(now);
                tell(&self.journal, key, recording);
            }
        }
    }

    /// Completes the calls whose `finish` found the queue full. Their last frames may still be in it: as much as it can
    /// hold is dealt with first.
    fn finish_left_over(&mut self, inputs: &Receiver<Input>) {
        let calls = std::mem::take(&mut *self.shared.left_over.lock().unwrap_or_else(PoisonError::into_inner));
        if calls.is_empty() {
            return;
        }
        inputs.try_iter().take(super::QUEUE).for_each(|input| self.take(input));
        for (call, until) in calls {
            self.finish_call(call, until, "the call ended");
        }
    }

    fn finish_all(&mut self) {
        let keys: Vec<Key> = self.recordings.keys().copied().collect();
        for key in keys {
            self.finish(key, MediaTime::ZERO, "the server stopped");
        }
    }

    /// The call as a whole, which went on until `until`, and its legs, each of which went on for as long as it did.
    fn finish_call(&mut self, call: CallId, until: MediaTime, reason: &str) {
        let mut keys: Vec<Key> = self.recordings.keys().copied().filter(|(of, _)| *of == call).collect();
        keys.sort_unstable();
        for key @ (_, leg) in keys {
            let until = if leg.is_some() { MediaTime::ZERO } else { until };
            self.finish(key, until, reason);
        }
    }

    fn finish(&mut self, key: Key, until: MediaTime, reason: &str) {
        let Some(mut recording) = self.recordings.remove(&key) else { return };
        let whole = recording.finish(until, reason);
        if recording.is_begun() {
            self.metrics.recordings.live.dec();
        }
        if whole {
            self.metrics.recordings.completed.inc();
        }
        tell(&self.journal, key, &mut recording);
    }
}

fn tell(journal: &Journal, (call, _): Key, recording: &mut Recording) {
    for event in recording.news() {
        log(call, &event);
        journal.record(call, event);
    }
}

/// What an operator should look at.
fn log(call: CallId, Event { at, leg, what }: &Event) {
    use crate::event::What::{RecordingFailed, RecordingGap};
    if let RecordingFailed { reason } = what {
        tracing::error!(%call, ?leg, %at, reason, "a recording cannot be written; the call goes on without");
    } else if let RecordingGap { start, end, reason } = what {
        tracing::warn!(%call, ?leg, %start, %end, reason, "a recording has a hole");
    }
}
