//! How fast a source may send what belongs to no call: a bucket of tokens for each, in a table that has a bound.
//!
//! Messages of calls, and repetitions of what is being answered, need none: whoever pretends to be a peer by its address
//! takes nothing from the calls with it.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Sources remembered at once, some 50 bytes each. When there are as many, those that have been silent long enough to have
/// all their tokens are forgotten; where none has, all that are not in the table share one bucket.
const MOST: usize = 10_000;
/// Seconds of its rate that a source may send at once.
const BURST: f32 = 2.0;
/// Until the table is searched again for who can be forgotten.
const SWEEP: Duration = Duration::from_secs(1);

/// Tokens, which come back with time.
#[derive(Clone, Copy, Debug, Default)]
pub struct Bucket {
    /// How many, and since when; none: it is full.
    left: Option<(f32, Instant)>,
}

impl Bucket {
    /// Takes a token, where there is one. `rate`: how many come back in a second.
    pub fn take(&mut self, rate: f32, now: Instant) -> bool {
        let tokens = self.tokens(rate, now);
        let taken = tokens >= 1.0;
        self.left = Some((if taken { tokens - 1.0 } else { tokens }, now));
        taken
    }

    fn tokens(&self, rate: f32, now: Instant) -> f32 {
        let full = (rate * BURST).max(1.0);
        self.left.map_or(full, |(left, at)| (left + rate * now.saturating_duration_since(at).as_secs_f32()).min(full))
    }

    fn is_full(&self, rate: f32, now: Instant) -> bool {
        self.tokens(rate, now) >= (rate * BURST).max(1.0)
    }
}

/// The table.
#[derive(Default)]
pub struct Sources(Mutex<Table>);

#[derive(Default)]
struct Table {
    /// With the rate of each.
    buckets: HashMap<IpAddr, (Bucket, f32)>,
    others: Bucket,
    swept: Option<Instant>,
}

impl Sources {
    /// Whether a message from `ip` is within `rate`, in messages a second.
    pub fn may_send(&self, ip: IpAddr, rate: f32, now: Instant) -> bool {
        let mut table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let whose = network(ip);
        if !table.buckets.contains_key(&whose) && !table.has_room(now) {
            return table.others.take(rate, now);
        }
        let (bucket, known) = table.buckets.entry(whose).or_insert((Bucket::default(), rate));
        *known = rate;
        bucket.take(rate, now)
    }
}

impl Table {
    fn has_room(&mut self, now: Instant) -> bool {
        let is_due = self.swept.is_none_or(|at| now.saturating_duration_since(at) >= SWEEP);
        if self.buckets.len() >= MOST && is_due {
            self.swept = Some(now);
            self.buckets.retain(|_, (bucket, rate)| !bucket.is_full(*rate, now));
        }
        self.buckets.len() < MOST
    }
}

/// Whoever has one IPv6 address has the 2⁶⁴ of its network.
fn network(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() >> 64 << 64).into(),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::clock;

    #[test]
    fn who_sends_too_fast_waits_and_nobody_else_does() {
        let (sources, now) = (Sources::default(), clock::now());
        let [a, b]: [IpAddr; 2] = ["192.0.2.1", "192.0.2.2"].map(|ip| ip.parse().unwrap());
        let sent = |ip, at| (0..1_000).filter(|_| sources.may_send(ip, 50.0, at)).count();
        assert_eq!(sent(a, now), 100);
        assert_eq!(sent(b, now), 100);
        assert_eq!(sent(a, now + Duration::from_millis(500)), 25);
        assert_eq!(sent(a, now + Duration::from_secs(3600)), 100);
    }

    #[test]
    fn addresses_of_one_network_are_one_source() {
        let (sources, now) = (Sources::default(), clock::now());
        let of = |n: u64| IpAddr::from(Ipv6Addr::from_bits(0x2001_0db8 << 96 | u128::from(n)));
        assert_eq!((0..1_000).filter(|n| sources.may_send(of(*n), 50.0, now)).count(), 100);
    }

    #[test]
    fn a_flood_from_everywhere_fills_no_memory_and_shares_one_bucket() {
        let (sources, now) = (Sources::default(), clock::now());
        let sent =
            (0..MOST as u32 + 5_000).filter(|n| sources.may_send(IpAddr::from(n.to_be_bytes()), 50.0, now)).count();
        assert_eq!(sent, MOST + 100);
        assert_eq!(sources.0.lock().unwrap().buckets.len(), MOST);
        assert!(sources.may_send("192.0.2.1".parse().unwrap(), 50.0, now + SWEEP));
        assert_eq!(sources.0.lock().unwrap().buckets.len(), 1);
    }
}
