//! What the kernel and the media threads say, as differences between two looks (proc(5)).
//!
//! A thread's `schedstat` has the nanoseconds it ran, and those it was ready and had no core: the one thing that tells how
//! busy the machine is *for us*, whatever else runs on it and at whatever priority.

use super::judge::Sample;
use crate::io::metrics::Lateness;
use crate::io::shard::Shard;
use std::time::{Duration, Instant};

/// Of `utime` and `stime`: the same on every Linux we run on (getconf CLK_TCK).
const TICKS_A_SECOND: f64 = 100.0;
/// From when on a tick is late: ears do not notice less.
const LATE: Duration = Duration::from_millis(5);
/// Ticks in a sample below which a share of them says nothing: those of five calls in 200 ms.
const ENOUGH: u64 = 50;

/// Looks, and remembers the look before.
pub struct Sampler {
    shards: Vec<Shard>,
    lateness: Lateness,
    cores: f32,
    last: Option<Look>,
}

/// What is counted, at one moment.
struct Look {
    at: Instant,
    /// Seconds the process has used.
    cpu: f64,
    /// Seconds each media thread has run, and waited.
    threads: Vec<(f64, f64)>,
    ticks: u64,
    late: u64,
}

impl Sampler {
    /// Of these threads. `lateness`: of all their ticks.
    pub fn new(shards: Vec<Shard>, lateness: Lateness) -> Self {
        // What we may use, by affinity and control group.
        let cores = std::thread::available_parallelism().map_or(1, usize::from) as f32;
        Sampler { shards, lateness, cores, last: None }
    }

    /// What happened since the last one. `lag`: by how much the one who asks was late.
    pub fn sample(&mut self, now: Instant, lag: Duration) -> Sample {
        let look = Look {
            at: now,
            cpu: process().unwrap_or(0.0),
            threads: self.shards.iter().map(|shard| thread(shard.thread()).unwrap_or_default()).collect(),
            ticks: self.lateness.beyond(Duration::ZERO),
            late: self.lateness.beyond(LATE),
        };
        let calls = self.shards.iter().map(Shard::load).sum();
        let sample = match &self.last {
            None => Sample { calls, ..Sample::default() },
            Some(last) => Sample { calls, lag: lag.as_secs_f32(), ..look.since(last, self.cores) },
        };
        self.last = Some(look);
        sample
    }
}

impl Look {
    fn since(&self, last: &Look, cores: f32) -> Sample {
        let seconds = self.at.saturating_duration_since(last.at).as_secs_f32().max(0.001);
        let threads = || self.threads.iter().zip(&last.threads);
        let most = |share: f64, other: f64| share.max(other);
        let ran = threads().map(|(now, then)| now.0 - then.0).fold(0.0, most);
        let waited = threads().map(|(now, then)| now.1 - then.1).fold(0.0, most);
        let (ticks, late) = (self.ticks.saturating_sub(last.ticks), self.late.saturating_sub(last.late));
        Sample {
            cpu: (self.cpu - last.cpu) as f32 / seconds / cores,
            media: ran as f32 / seconds,
            waiting: waited as f32 / seconds,
            late: if ticks < ENOUGH { 0.0 } else { late as f32 / ticks as f32 },
            ..Sample::default()
        }
    }
}

/// Seconds the process has used.
fn process() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // After the name, which may hold anything: utime and stime are the twelfth and thirteenth from there.
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<u64>().ok();
    Some(ticks()?.saturating_add(ticks()?) as f64 / TICKS_A_SECOND)
}

/// Seconds a thread has run, and waited for a core.
fn thread(id: i32) -> Option<(f64, f64)> {
    let text = std::fs::read_to_string(format!("/proc/self/task/{id}/schedstat")).ok()?;
    let mut seconds = text.split_ascii_whitespace().map_while(|field| field.parse::<f64>().ok()).map(|ns| ns / 1e9);
    Some((seconds.next()?, seconds.next()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::clock;

    #[test]
    fn the_kernel_tells_what_was_used() {
        let own = rustix::thread::gettid().as_raw_nonzero().get();
        let (before, began) = (thread(own).unwrap(), clock::now());
        let whole = process().unwrap();
        // The kernel counts the process in hundredths of a second.
        while process().unwrap() <= whole {
            assert!(began.elapsed() < Duration::from_secs(30), "no time passes");
        }
        let after = thread(own).unwrap();
        assert!(after.0 > before.0 && after.1 >= before.1, "{before:?} {after:?}");
    }

    #[test]
    fn shares_are_of_the_time_between_two_looks() {
        let then = Look { at: clock::now(), cpu: 1.0, threads: vec![(1.0, 0.5), (2.0, 0.0)], ticks: 1_000, late: 5 };
        let now = Look {
            at: then.at + Duration::from_secs(1),
            cpu: 2.0,
            threads: vec![(1.5, 0.75), (2.25, 0.0)],
            ticks: 1_100,
            late: 10,
        };
        let sample = now.since(&then, 2.0);
        assert_eq!((sample.cpu, sample.media, sample.waiting, sample.late), (0.5, 0.5, 0.25, 0.05));
        let few = Look { ticks: 1_049, ..now };
        assert_eq!(few.since(&then, 2.0).late, 0.0);
    }
}
