//! Whether there is headroom for another call, measured before those that run could suffer.
//!
//! ```text
//! kernel: time of our threads, and what they waited for a core ─┐
//! media threads: ticks that came late ──────────────────────────┼─► sample ─► judge ─► why calls are refused, if they are
//! runtime: how late our own task woke ──────────────────────────┘
//! ```
//!
//! Out goes one answer, the same for INVITEs, for OPTIONS of those who distribute calls, for the API, `/readyz` and
//! `/metrics`. Calls that run are never touched. Knows no SIP.

mod judge;
mod sample;

use crate::config;
use crate::io::clock;
use crate::io::metrics::Metrics;
use crate::io::shard::Shard;
use judge::Judge;
use sample::Sampler;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

/// Between samples: soon enough that what comes in meanwhile does not use the headroom up.
const EVERY: Duration = Duration::from_millis(200);
/// The least number of seconds after which a refused caller may try again, and how many more, spread over callers, so that
/// they do not come back at the same moment (RFC 3261 §20.33).
const RETRY: (u64, u64) = (5, 10);

/// Why no further calls are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Why {
    /// The server is about to end.
    #[error("the server is going down")]
    Draining,
    /// `[load] calls` are there.
    #[error("too many calls at once")]
    Calls,
    /// A trunk has all the calls it may have.
    #[error("this trunk has all its calls")]
    Trunk,
    /// The SIP stack remembers all it may.
    #[error("too many SIP transactions at once")]
    Transactions,
    /// A source sends faster than it may.
    #[error("too many messages from this address")]
    Messages,
    /// The process uses its share of the cores.
    #[error("the server's processors are busy")]
    Cpu,
    /// A media thread uses its share of a core.
    #[error("a media thread is busy")]
    Media,
    /// Media threads wait for a core that others use.
    #[error("the machine is busy")]
    Machine,
    /// Media comes late.
    #[error("media is late")]
    Late,
    /// Signalling comes late.
    #[error("signalling is late")]
    Signalling,
}

impl Why {
    /// Every reason.
    pub const ALL: [Why; 10] = [
        Why::Draining,
        Why::Calls,
        Why::Trunk,
        Why::Transactions,
        Why::Messages,
        Why::Cpu,
        Why::Media,
        Why::Machine,
        Why::Late,
        Why::Signalling,
    ];

    /// In a word, for `/readyz` and `/metrics`.
    pub fn word(self) -> &'static str {
        match self {
            Why::Draining => "draining",
            Why::Calls => "calls",
            Why::Trunk => "trunk",
            Why::Transactions => "transactions",
            Why::Messages => "messages",
            Why::Cpu => "cpu",
            Why::Media => "media",
            Why::Machine => "machine",
            Why::Late => "late",
            Why::Signalling => "signalling",
        }
    }
}

/// What is measured, and what was made of it.
#[derive(Clone)]
pub struct Load {
    /// The place of the reason in [`Why::ALL`], from 1; 0: there is headroom.
    judged: Arc<AtomicU8>,
    metrics: Arc<Metrics>,
}

impl Load {
    /// Headroom, until something else is measured.
    pub fn new(metrics: Arc<Metrics>) -> Self {
        metrics.load.taking_calls.set(1);
        Load { judged: Arc::default(), metrics }
    }

    /// Why measurements speak against another call, if they do.
    pub fn measured(&self) -> Option<Why> {
        let place = usize::from(self.judged.load(Ordering::Relaxed)).checked_sub(1)?;
        Why::ALL.get(place).copied()
    }

    /// A call was refused.
    pub fn refused(&self, why: Why) {
        self.metrics.load.refused(why.word()).inc();
    }

    /// A message of a source that sends too fast was dropped.
    pub fn dropped(&self) {
        self.metrics.load.messages_dropped.inc();
    }

    /// After how many seconds whoever is refused may try again; the same for the same `whose`.
    pub fn retry_after(whose: u64) -> u64 {
        RETRY.0.saturating_add(whose.checked_rem(RETRY.1).unwrap_or(0))
    }

    /// Measures until it is dropped.
    pub async fn watch(self, limits: config::Load, shards: Vec<Shard>) {
        let mut judge = Judge::new(limits.cpu, limits.late);
        let mut sampler = Sampler::new(shards, self.metrics.media.tick_lateness.clone());
        let mut due = clock::now() + EVERY;
        loop {
            tokio::time::sleep_until(due.into()).await;
            let now = clock::now();
            let sample = sampler.sample(now, now.saturating_duration_since(due));
            due = now + EVERY;
            let before = judge.refuses();
            self.tell(judge.hear(sample), before, &judge);
        }
    }

    fn tell(&self, why: Option<Why>, before: Option<Why>, judge: &Judge) {
        let place = why.and_then(|why| Why::ALL.iter().position(|other| *other == why));
        let place = place.map_or(0, |place| u8::try_from(place.saturating_add(1)).unwrap_or(0));
        self.judged.store(place, Ordering::Relaxed);
        let (load, smooth) = (&self.metrics.load, judge.smooth());
        load.taking_calls.set(i64::from(why.is_none()));
        for (gauge, value) in [
            (&load.cpu, smooth.cpu),
            (&load.media_cpu, smooth.media),
            (&load.media_waiting, smooth.waiting),
            (&load.late_ticks, smooth.late),
            (&load.signalling_lateness, smooth.lag),
        ] {
            gauge.set(f64::from(value));
        }
        match (before, why) {
            (None, Some(why)) => tracing::warn!(why = why.word(), "calls are refused: {why}"),
            (Some(_), None) => tracing::info!("calls are taken again"),
            (Some(_), Some(_)) | (None, None) => {}
        }
    }
}
