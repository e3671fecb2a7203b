//! The one place where events get their numbers.
//!
//! In come events in the order of the queue; out go numbered events: to the subscribers at once, to the committer if
//! it has room. Never waits for the committer.

use super::{Input, Pending, Published};
use crate::event::{Event, EventId, Recorded, What};
use crate::id::{CallId, Tenant};
use crate::io::clock;
use crate::io::metrics::Metrics;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use tokio::sync::{broadcast, mpsc};

/// Ended calls whose numbers are kept, for what is told after the end (the last words, the recording). The oldest
/// goes first: by then tens of thousands of calls have ended since.
const ENDED: usize = 65_536;

/// Numbers, stamps and publishes.
pub(super) struct Numberer {
    tenant: Tenant,
    numbers: Numbers,
    published: broadcast::Sender<Published>,
    pending: mpsc::Sender<Pending>,
    metrics: Arc<Metrics>,
    overflowing: bool,
}

impl Numberer {
    pub(super) fn new(
        tenant: Tenant,
        published: broadcast::Sender<Published>,
        pending: mpsc::Sender<Pending>,
        metrics: Arc<Metrics>,
    ) -> Self {
        Numberer { tenant, numbers: Numbers::default(), published, pending, metrics, overflowing: false }
    }

    /// Until every handle of the journal is dropped.
    pub(super) async fn run(mut self, mut queue: mpsc::Receiver<Input>) {
        while let Some(input) = queue.recv().await {
            match input {
                Input::Event { call, event, received } => self.event(call, event, received),
                // With no room the asker is told by the dropped answer.
                Input::Flush(done) => drop(self.pending.try_send(Pending::Flush(done))),
            }
        }
    }

    fn event(&mut self, call: CallId, event: Event, received: std::time::Instant) {
        let room = self.pending.try_reserve();
        let id = self.numbers.next(call, room.is_ok());
        if matches!(event.what, What::CallEnded { .. }) {
            self.numbers.ended(call);
        }
        let recorded = Arc::new(Recorded { tenant: self.tenant.clone(), id, wall_ms: clock::wall_ms(), event });
        self.metrics.journal.events_recorded.inc();
        self.metrics.saw(&recorded.event.what);
        // An error means that nobody listens.
        let _ = self.published.send(Published::Event(recorded.clone()));
        let kept = room.map(|room| room.send(Pending::Event { recorded, received })).is_ok();
        self.account(kept);
    }

    fn account(&mut self, kept: bool) {
        if kept {
            self.metrics.journal.events_pending.inc();
        } else {
            self.metrics.journal.events_lost.inc();
        }
        if !kept && !self.overflowing {
            tracing::error!("the database has failed for so long that events are lost to it; they are still published");
        }
        self.overflowing = !kept;
    }
}

/// The last number of each call.
#[derive(Default)]
struct Numbers {
    calls: HashMap<CallId, Last>,
    ended: VecDeque<CallId>,
}

#[derive(Default)]
struct Last {
    epoch: u32,
    seq: u64,
    /// An event of this epoch was lost to the database: the next that is not opens a new epoch.
    torn: bool,
}

impl Numbers {
    /// The next number of `call`; `kept` if the event will be offered to the database.
    fn next(&mut self, call: CallId, kept: bool) -> EventId {
        let last = self.calls.entry(call).or_default();
        if kept && last.torn {
            *last = Last { epoch: last.epoch.saturating_add(1), seq: 0, torn: false };
        }
        last.torn |= !kept;
        last.seq += 1;
        EventId { call, epoch: last.epoch, seq: last.seq }
    }

    fn ended(&mut self, call: CallId) {
        self.ended.push_back(call);
        if self.ended.len() > ENDED
            && let Some(oldest) = self.ended.pop_front()
        {
            self.calls.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(n: u64) -> CallId {
        CallId::new(1_790_000_000_000 + n, 1, 1, 0)
    }

    #[test]
    fn each_call_counts_for_itself() {
        let mut numbers = Numbers::default();
        let ids = [call(1), call(2), call(1), call(1)].map(|c| numbers.next(c, true).seq);
        assert_eq!(ids, [1, 1, 2, 3]);
    }

    #[test]
    fn what_is_kept_after_a_loss_begins_a_new_epoch() {
        let mut numbers = Numbers::default();
        let places = [true, true, false, false, true, true].map(|kept| {
            let id = numbers.next(call(1), kept);
            (id.epoch, id.seq)
        });
        assert_eq!(places, [(0, 1), (0, 2), (0, 3), (0, 4), (1, 1), (1, 2)]);
    }

    #[test]
    fn a_call_counts_on_after_its_end_and_is_forgotten_in_time() {
        let mut numbers = Numbers::default();
        numbers.next(call(0), true);
        numbers.ended(call(0));
        assert_eq!(numbers.next(call(0), true).seq, 2);
        for n in 1..=ENDED as u64 {
            numbers.next(call(n), true);
            numbers.ended(call(n));
        }
        assert_eq!(numbers.calls.len(), ENDED);
        assert!(!numbers.calls.contains_key(&call(0)));
    }
}
