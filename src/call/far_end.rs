//! How the far end of a leg receives what it is sent, as it reports itself.

use crate::media::rtcp::OfUs;
use crate::media::xr::{Metrics, Summary};
use serde::Serialize;

/// The last of each kind of report.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct FarEnd {
    /// Lost since its report before (RFC 3550 §6.4.1).
    pub lost_percent: Option<f32>,
    /// Interarrival jitter there (RFC 3550 §6.4.1).
    pub jitter_ms: Option<f32>,
    /// Since its summary before (RFC 3611 §4.6), where it sends one.
    pub summary: Option<FarSummary>,
    /// What it is like to listen to (RFC 3611 §4.7), where it says so.
    pub metrics: Option<Metrics>,
}

/// What of a far end's summary is shown.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct FarSummary {
    /// Never came.
    pub lost: u32,
    /// Came twice.
    pub duplicates: u32,
    /// The mean difference of two transit times.
    pub jitter_ms: f32,
    /// The largest.
    pub most_jitter_ms: f32,
}

impl FarEnd {
    /// A report came, of a stream whose timestamps count at `clock_hz`.
    pub(super) fn report(&mut self, of_us: OfUs, clock_hz: u32) {
        self.lost_percent = Some(f32::from(of_us.fraction) / 2.56);
        self.jitter_ms = Some(milliseconds(of_us.jitter, clock_hz));
    }

    /// An extended report came; what it does not tell stays.
    pub(super) fn extend(&mut self, summary: Option<Summary>, metrics: Option<Metrics>, clock_hz: u32) {
        let shown = |s: Summary| FarSummary {
            lost: s.lost,
            duplicates: s.duplicates,
            jitter_ms: milliseconds(s.mean, clock_hz),
            most_jitter_ms: milliseconds(s.most, clock_hz),
        };
        self.summary = summary.map(shown).or(self.summary);
        self.metrics = metrics.or(self.metrics);
    }

    /// What there is to show, if it has ever told anything.
    pub(super) fn told(self) -> Option<FarEnd> {
        (self != FarEnd::default()).then_some(self)
    }
}

fn milliseconds(units: u32, clock_hz: u32) -> f32 {
    units as f32 * 1000.0 / clock_hz.max(1) as f32
}
