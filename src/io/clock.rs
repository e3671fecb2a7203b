//! The one place that reads the clocks and the random source.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// The monotonic clock.
#[allow(clippy::disallowed_methods)]
pub fn now() -> Instant {
    Instant::now()
}

/// Wall clock, milliseconds since 1970 UTC.
#[allow(clippy::disallowed_methods)]
pub fn wall_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as i64)
}

/// Sixty-four random bits from the operating system's generator.
#[allow(clippy::disallowed_methods)]
pub fn random() -> u64 {
    rand::random()
}
