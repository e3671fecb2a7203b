//! A histogram for media threads: atomics alone, for the one of the metrics crate locks.

use prometheus_client::encoding::{EncodeMetric, MetricEncoder};
use prometheus_client::metrics::MetricType;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Upper bounds in microseconds: the pace of a media thread, the 5 ms that ears do not notice, a frame, and beyond.
const BOUNDS: [u64; 8] = [500, 1_000, 2_000, 5_000, 10_000, 20_000, 100_000, 1_000_000];

/// How late something came, counted by size.
#[derive(Clone, Debug, Default)]
pub struct Lateness(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    /// One for each bound, and one for what is beyond.
    buckets: [AtomicU64; BOUNDS.len() + 1],
    /// Microseconds in all.
    sum: AtomicU64,
}

impl Lateness {
    /// Something came this late. Neither locks nor allocates.
    pub fn observe(&self, late: Duration) {
        let micros = late.as_micros().try_into().unwrap_or(u64::MAX);
        let at = BOUNDS.iter().position(|bound| micros <= *bound).unwrap_or(BOUNDS.len());
        if let Some(bucket) = self.0.buckets.get(at) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
        self.0.sum.fetch_add(micros, Ordering::Relaxed);
    }

    /// How many came more than `bound` late; exact for the bounds of the histogram, else for the next above.
    pub fn beyond(&self, bound: Duration) -> u64 {
        let counts = BOUNDS.iter().chain([&u64::MAX]).zip(&self.0.buckets);
        counts.filter(|(b, _)| u128::from(**b) > bound.as_micros()).map(|(_, n)| n.load(Ordering::Relaxed)).sum()
    }
}

impl EncodeMetric for Lateness {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        let bounds = BOUNDS.iter().map(|micros| *micros as f64 / 1e6).chain([f64::MAX]);
        let buckets: Vec<_> = bounds.zip(self.0.buckets.iter().map(|n| n.load(Ordering::Relaxed))).collect();
        let count = buckets.iter().map(|(_, n)| n).sum();
        let sum = self.0.sum.load(Ordering::Relaxed) as f64 / 1e6;
        encoder.encode_histogram::<prometheus_client::encoding::NoLabelSet>(sum, count, &buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Histogram
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::metrics::Metrics;

    #[test]
    fn what_was_late_is_counted_by_how_much() {
        let metrics = Metrics::default();
        for micros in [0, 500, 501, 6_000, 5_000_000] {
            metrics.media.tick_lateness.observe(Duration::from_micros(micros));
        }
        assert_eq!(metrics.media.tick_lateness.beyond(Duration::from_millis(5)), 2);
        let text = metrics.encode().unwrap();
        for line in [
            "sotto_tick_lateness_seconds_count 5",
            "sotto_tick_lateness_seconds_bucket{le=\"0.0005\"} 2",
            "sotto_tick_lateness_seconds_bucket{le=\"0.005\"} 3",
            "sotto_tick_lateness_seconds_bucket{le=\"+Inf\"} 5",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is missing from\n{text}");
        }
    }
}
