//! Media time: samples at 48 kHz since the call began. The core knows no other clock.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::ops::{Add, Sub};
use std::time::Duration;

/// Samples of media time in one millisecond.
const PER_MS: i64 = 48;

/// A moment of a call: samples at 48 kHz since it began, on its shard's monotonic clock.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MediaTime(pub i64);

/// A length of media time, in samples at 48 kHz.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Samples(pub i64);

impl MediaTime {
    /// The moment the call began.
    pub const ZERO: MediaTime = MediaTime(0);

    /// `ms` milliseconds after the call began.
    pub const fn from_millis(ms: i64) -> Self {
        MediaTime(ms.saturating_mul(PER_MS))
    }
    /// Milliseconds since the call began.
    pub const fn as_millis(self) -> i64 {
        self.0 / PER_MS
    }
    /// The time that `elapsed` of the monotonic clock after the call's start is.
    pub fn after(elapsed: Duration) -> Self {
        MediaTime((elapsed.as_micros() as i64).saturating_mul(PER_MS) / 1000)
    }
    /// How long after the call's start this is, on the monotonic clock.
    pub fn since_start(self) -> Duration {
        Duration::from_micros((self.0.max(0) * 1000 / PER_MS) as u64)
    }
}

impl Samples {
    /// One frame: 20 ms.
    pub const FRAME: Samples = Samples::from_millis(20);

    /// `ms` milliseconds.
    pub const fn from_millis(ms: i64) -> Self {
        Samples(ms.saturating_mul(PER_MS))
    }
    /// Milliseconds, rounded towards zero.
    pub const fn as_millis(self) -> i64 {
        self.0 / PER_MS
    }
    /// The same length counted at `rate` samples a second.
    pub const fn at_rate(self, rate: u32) -> i64 {
        self.0 * rate as i64 / 48_000
    }
}

impl Add<Samples> for MediaTime {
    type Output = MediaTime;
    fn add(self, d: Samples) -> MediaTime {
        MediaTime(self.0.saturating_add(d.0))
    }
}
impl Sub<Samples> for MediaTime {
    type Output = MediaTime;
    fn sub(self, d: Samples) -> MediaTime {
        MediaTime(self.0.saturating_sub(d.0))
    }
}
impl Sub for MediaTime {
    type Output = Samples;
    fn sub(self, other: MediaTime) -> Samples {
        Samples(self.0.saturating_sub(other.0))
    }
}
impl fmt::Debug for MediaTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:03}s", self.as_millis() / 1000, self.as_millis().rem_euclid(1000))
    }
}
impl fmt::Display for MediaTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}
impl fmt::Debug for Samples {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}ms", self.as_millis())
    }
}
