//! Numbers every event of every call, stamps it with the wall clock, publishes it at once and commits it soon after.
//!
//! In come events from any thread; out go [`Published`] events and watermarks to whoever subscribed, and rows to the
//! database. Two tasks share the work, so that a slow disk delays nothing but the watermark:
//!
//! ```text
//! record ─► queue ─► number, stamp, publish ─► pending ─► commit in batches ─► publish the watermark
//! ```
//!
//! Within an epoch of a call the numbers that reach the database have no gaps. A recovery after a crash opens a new
//! epoch, and so does a loss. Knows nothing of what the events mean, but for `call.ended`.

mod commit;
mod number;

use crate::event::{Address, Event, EventId, Recorded, Role, What, Words};
use crate::id::{CallId, LegId, Tenant, UtteranceId};
use crate::io::metrics::Metrics;
use crate::io::recorder;
use crate::io::sqlite::{self, Appender, OpenCall, OpenRecording, Reader, StoreError};
use crate::io::{clock, journal::commit::Committer, journal::number::Numberer};
use crate::time::MediaTime;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::{broadcast, mpsc, oneshot};
use tokio::task::JoinHandle;

/// Events recorded and not yet numbered. Full only when the runtime is starved: the event is then lost and counted.
const QUEUE: usize = 65_536;

/// Events numbered and not yet taken up by a commit, for a database that is slow or fails: some minutes of a busy
/// server. When full, events are still published, but never committed: counted, and the call opens a new epoch.
const PENDING: usize = 262_144;

/// What a subscriber may be behind. One that is further behind is told so (`RecvError::Lagged`) and goes on from the
/// oldest that is kept.
const PUBLISHED: usize = 4_096;

/// How long `flush` waits for the database.
const FLUSH: Duration = Duration::from_secs(5);

/// The most utterances a transcript shows: days of talk.
const TRANSCRIPT: u32 = 100_000;

/// The reason given for calls that a dead process left open.
const CRASHED: &str = "the server stopped unexpectedly";

/// What the journal publishes.
#[derive(Clone, Debug)]
pub enum Published {
    /// Something happened.
    Event(Arc<Recorded>),
    /// Everything of this call up to `seq` is on disk: the only meaning of acknowledged.
    Committed {
        /// Whose.
        tenant: Tenant,
        /// Of which call.
        call: CallId,
        /// In which epoch of it.
        epoch: u32,
        /// The last number that is safe.
        seq: u64,
    },
}

/// A place in a call's events: after everything of earlier epochs, and after `seq` in this one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// The epoch.
    pub epoch: u32,
    /// The number in it; 0 is before the first.
    pub seq: u64,
}

impl From<u64> for Position {
    /// A place in the first epoch: the only one of a call that was never recovered.
    fn from(seq: u64) -> Self {
        Position { epoch: 0, seq }
    }
}

/// What one leg said between two silences, as the transcript shows it.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Spoken {
    /// Which utterance.
    pub utterance: UtteranceId,
    /// Whose.
    pub leg: Option<LegId>,
    /// As what.
    pub role: Role,
    /// First voiced sample.
    pub start: MediaTime,
    /// Last voiced sample.
    pub end: MediaTime,
    /// The words.
    pub text: Words,
    /// 0 to 1.
    pub confidence: f32,
}

/// What the journal knows of a call as a whole.
#[derive(Clone, Debug, PartialEq)]
pub struct PastCall {
    /// Which.
    pub id: CallId,
    /// Who called, where the call got as far as to say.
    pub caller: Option<Address>,
    /// What they dialled.
    pub called: Option<Address>,
    /// Wall clock of its first event, milliseconds since 1970 UTC.
    pub began_ms: i64,
    /// When and why it ended, once that is committed.
    pub ended: Option<Ending>,
}

/// How a call ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Ending {
    /// Wall clock, milliseconds since 1970 UTC.
    pub wall_ms: i64,
    /// Its length.
    pub at: MediaTime,
    /// Why, in a few words.
    pub reason: String,
}

/// Why a flush did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum FlushError {
    /// The environment: the database does not take what is pending.
    #[error(
        "the journal could not be flushed within {FLUSH:?}: events are pending and the database is slow or failing"
    )]
    Slow,
    /// Us: the journal's tasks are gone.
    #[error("the journal has stopped")]
    Stopped,
}

/// The way into the journal, and to all who listen to it. When the last clone is dropped, what is pending is
/// committed and the journal's tasks end.
#[derive(Clone)]
pub struct Journal {
    queue: mpsc::Sender<Input>,
    published: broadcast::Sender<Published>,
    reader: Reader,
    writable: Arc<AtomicBool>,
    metrics: Arc<Metrics>,
}

/// What goes through the queue, in order.
enum Input {
    Event { call: CallId, event: Event, received: Instant },
    Flush(oneshot::Sender<()>),
}

/// What waits to be committed, in order.
enum Pending {
    Event { recorded: Arc<Recorded>, received: Instant },
    Flush(oneshot::Sender<()>),
}

impl Journal {
    /// Opens the journal in `dir` for `tenant`, makes it where there is none, and ends the calls a dead process left
    /// open. The task ends once every clone of the journal is dropped and everything is committed.
    pub async fn start(
        dir: &Path,
        tenant: Tenant,
        metrics: Arc<Metrics>,
    ) -> Result<(Journal, JoinHandle<()>), StoreError> {
        let (mut appender, reader) = sqlite::open(dir, &tenant).await?;
        recover(&mut appender, dir, &metrics).await?;
        let (queue, from_queue) = mpsc::channel(QUEUE);
        let (pending, from_pending) = mpsc::channel(PENDING);
        let published = broadcast::Sender::new(PUBLISHED);
        let writable = Arc::new(AtomicBool::new(true));
        let numberer = Numberer::new(tenant, published.clone(), pending, metrics.clone());
        let committer = Committer::new(appender, published.clone(), writable.clone(), metrics.clone());
        tokio::spawn(numberer.run(from_queue));
        let task = tokio::spawn(committer.run(from_pending));
        Ok((Journal { queue, published, reader, writable, metrics }, task))
    }

    /// Never blocks: safe on a media thread. False if the queue was full and the event was lost (counted).
    pub fn record(&self, call: CallId, event: Event) -> bool {
        let kept = self.queue.try_send(Input::Event { call, event, received: clock::now() }).is_ok();
        if !kept {
            self.metrics.journal.events_lost.inc();
        }
        kept
    }

    /// Everything published from now on. Bounded: a reader that falls behind gets `RecvError::Lagged`.
    pub fn subscribe(&self) -> broadcast::Receiver<Published> {
        self.published.subscribe()
    }

    /// Whether the database took what it was last given.
    pub fn is_writable(&self) -> bool {
        self.writable.load(Ordering::Relaxed) && !self.queue.is_closed()
    }

    /// Commits everything recorded before this and answers when that is done. Waits 5 s at most.
    pub async fn flush(&self) -> Result<(), FlushError> {
        let (done, answer) = oneshot::channel();
        let flushed = async {
            self.queue.send(Input::Flush(done)).await.map_err(|_| FlushError::Stopped)?;
            answer.await.map_err(|_| FlushError::Stopped)
        };
        tokio::time::timeout(FLUSH, flushed).await.unwrap_or(Err(FlushError::Slow))
    }

    /// The committed events of a call after a place in it, in order. A plain number is a place in the first epoch.
    pub async fn events(
        &self,
        call: CallId,
        after: impl Into<Position>,
        limit: u32,
    ) -> Result<Vec<Recorded>, StoreError> {
        let after = after.into();
        self.reader.events(call, (after.epoch, after.seq), limit).await
    }

    /// What was said in a call, as far as it is committed, in the order in which it was begun.
    pub async fn transcript(&self, call: CallId) -> Result<Vec<Spoken>, StoreError> {
        let finals = self.reader.events_of_type(call, "speech.final", TRANSCRIPT).await?;
        let mut spoken: Vec<Spoken> = finals.into_iter().filter_map(spoken).collect();
        spoken.sort_by_key(|s| (s.start, s.utterance));
        Ok(spoken)
    }

    /// A call as a whole. None where nothing of it is committed.
    pub async fn call(&self, call: CallId) -> Result<Option<PastCall>, StoreError> {
        let Some(first) = self.reader.events(call, (0, 0), 1).await?.pop() else { return Ok(None) };
        let ended = self.reader.events_of_type(call, "call.ended", 1).await?.pop().and_then(ending);
        let (caller, called) = match first.event.what {
            What::CallPending { caller, called, .. } => (Some(caller), Some(called)),
            _ => (None, None),
        };
        Ok(Some(PastCall { id: call, caller, called, began_ms: first.wall_ms, ended }))
    }
}

/// Ends, in a new epoch, every call that a dead process left open, and before it its recordings.
async fn recover(appender: &mut Appender, dir: &Path, metrics: &Metrics) -> Result<(), StoreError> {
    let (calls, recordings) = (appender.open_calls().await?, appender.open_recordings().await?);
    let mut ends = Ends::default();
    for OpenRecording { tenant, call, leg, epoch, began } in recordings {
        let at = recorder::recover(dir, &tenant, call, leg).unwrap_or(began);
        ends.tell((tenant, call, epoch), Event { at, leg, what: What::RecordingEnded { reason: CRASHED.into() } });
    }
    for OpenCall { tenant, call, epoch, last } in &calls {
        // A recording may know that a call went on for longer than its events do.
        let at = ends.latest(*call).map_or(*last, |at| at.max(*last));
        let what = What::CallEnded { reason: CRASHED.into() };
        ends.tell((tenant.clone(), *call, *epoch), Event { at, leg: None, what });
    }
    if ends.0.is_empty() {
        return Ok(());
    }
    appender.append(&ends.0).await?;
    metrics.journal.calls_recovered.inc_by(calls.len() as u64);
    tracing::warn!(calls = calls.len(), "ended calls that were open when the server stopped unexpectedly");
    Ok(())
}

/// What is told of calls in the epoch after their last.
#[derive(Default)]
struct Ends(Vec<Arc<Recorded>>);

impl Ends {
    fn tell(&mut self, (tenant, call, epoch): (Tenant, CallId, u32), event: Event) {
        let seq = 1 + self.0.iter().filter(|told| told.id.call == call).count() as u64;
        let id = EventId { call, epoch: epoch.saturating_add(1), seq };
        self.0.push(Arc::new(Recorded { tenant, id, wall_ms: clock::wall_ms(), event }));
    }

    fn latest(&self, call: CallId) -> Option<MediaTime> {
        self.0.iter().filter(|told| told.id.call == call).map(|told| told.event.at).max()
    }
}

fn spoken(recorded: Recorded) -> Option<Spoken> {
    let leg = recorded.event.leg;
    let What::SpeechFinal { utterance, role, start, end, text, confidence } = recorded.event.what else { return None };
    Some(Spoken { utterance, leg, role, start, end, text, confidence })
}

fn ending(recorded: Recorded) -> Option<Ending> {
    let What::CallEnded { reason } = recorded.event.what else { return None };
    Some(Ending { wall_ms: recorded.wall_ms, at: recorded.event.at, reason })
}
