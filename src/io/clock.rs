//! The one place that reads the clocks and the random source.

use rand::TryRng;
use rand::rngs::SysRng;
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

/// Octets for a key, straight from the operating system's generator. Panics where that has none to give: a key that can be
/// guessed must not be used.
pub fn secret<const N: usize>() -> [u8; N] {
    let mut octets = [0; N];
    SysRng.try_fill_bytes(&mut octets).expect("the operating system gives random octets");
    octets
}
