//! The one place that reads the clocks and the random source.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The monotonic clock.
#[allow(clippy::disallowed_methods)]
pub fn now() -> Instant {
    Instant::now()
}

/// Wall clock, milliseconds since 1970 UTC.
pub fn wall_ms() -> i64 {
    wall().as_millis() as i64
}

/// Wall clock since 1970 UTC: the one by which the kernel stamps datagrams.
#[allow(clippy::disallowed_methods)]
pub fn wall() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// Sixty-four random bits from the operating system's generator.
#[allow(clippy::disallowed_methods)]
pub fn random() -> u64 {
    rand::random()
}
