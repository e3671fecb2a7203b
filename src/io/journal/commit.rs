//! Commits numbered events in batches and publishes how far it got.
//!
//! A commit begins half the promised 100 ms after the first event it holds was received, which leaves the other half
//! to the disk. A commit that fails is repeated until it succeeds; meanwhile events gather in the queue before it.

use super::{Pending, Published};
use crate::event::Recorded;
use crate::id::CallId;
use crate::io::clock;
use crate::io::metrics::Metrics;
use crate::io::sqlite::Appender;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::{broadcast, mpsc, oneshot};
use tokio::time::timeout_at;

/// From the first event of a batch to the start of its commit.
const GATHER: Duration = Duration::from_millis(50);

/// Events in one transaction at most: some tens of milliseconds of work, so that the watermark moves on.
const BATCH: usize = 2_048;

/// The first wait after a failed commit; each further one is twice as long, up to the last.
const FIRST_RETRY: Duration = Duration::from_millis(100);
const LAST_RETRY: Duration = Duration::from_secs(5);

/// Owns the writing half of the database.
pub(super) struct Committer {
    appender: Appender,
    published: broadcast::Sender<Published>,
    writable: Arc<AtomicBool>,
    metrics: Arc<Metrics>,
}

/// What one transaction takes, and who waits for it.
#[derive(Default)]
struct Batch {
    events: Vec<Arc<Recorded>>,
    received: Option<Instant>,
    flushes: Vec<oneshot::Sender<()>>,
}

impl Committer {
    pub(super) fn new(
        appender: Appender,
        published: broadcast::Sender<Published>,
        writable: Arc<AtomicBool>,
        metrics: Arc<Metrics>,
    ) -> Self {
        Committer { appender, published, writable, metrics }
    }

    /// Until the numberer is gone and everything is committed.
    pub(super) async fn run(mut self, mut pending: mpsc::Receiver<Pending>) {
        while let Some(first) = pending.recv().await {
            let batch = gather(first, &mut pending).await;
            self.commit(&batch).await;
            self.tell(batch);
        }
        if let Err(error) = self.appender.close().await {
            tracing::warn!(%error, "the journal's database did not close cleanly; nothing is lost");
        }
    }

    /// Until it succeeds.
    async fn commit(&mut self, batch: &Batch) {
        let mut wait = FIRST_RETRY;
        if batch.events.is_empty() {
            return;
        }
        while let Err(error) = self.appender.append(&batch.events).await {
            self.writable.store(false, Ordering::Relaxed);
            self.metrics.journal.commit_failures.inc();
            tracing::error!(%error, events = batch.events.len(), ?wait, "a commit failed and will be repeated");
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(LAST_RETRY);
        }
        self.writable.store(true, Ordering::Relaxed);
    }

    fn tell(&self, batch: Batch) {
        for committed in watermarks(&batch.events) {
            // An error means that nobody listens.
            let _ = self.published.send(committed);
        }
        let journal = &self.metrics.journal;
        if let Some(received) = batch.received {
            journal.commits.inc();
            journal.commit_seconds.observe(clock::now().duration_since(received).as_secs_f64());
        }
        journal.events_pending.dec_by(batch.events.len() as i64);
        for done in batch.flushes {
            // An error means that the asker gave up.
            let _ = done.send(());
        }
    }
}

/// What arrives until the batch is due, full, or somebody asks for a flush.
async fn gather(first: Pending, pending: &mut mpsc::Receiver<Pending>) -> Batch {
    let mut batch = Batch::default();
    batch.take(first);
    while let Some(received) = batch.received
        && batch.flushes.is_empty()
        && batch.events.len() < BATCH
        && let Ok(Some(next)) = timeout_at((received + GATHER).into(), pending.recv()).await
    {
        batch.take(next);
    }
    batch
}

impl Batch {
    fn take(&mut self, pending: Pending) {
        match pending {
            Pending::Event { recorded, received } => {
                self.received.get_or_insert(received);
                self.events.push(recorded);
            }
            Pending::Flush(done) => self.flushes.push(done),
        }
    }
}

/// The last number of each call and epoch.
fn watermarks(events: &[Arc<Recorded>]) -> impl Iterator<Item = Published> {
    let mut last: BTreeMap<(CallId, u32), &Recorded> = BTreeMap::new();
    for recorded in events {
        last.insert((recorded.id.call, recorded.id.epoch), recorded);
    }
    last.into_values().map(|r| Published::Committed {
        tenant: r.tenant.clone(),
        call: r.id.call,
        epoch: r.id.epoch,
        seq: r.id.seq,
    })
}
