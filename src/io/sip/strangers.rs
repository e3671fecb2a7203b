//! Sources that asked in vain: after a few tries they hear nothing for a while, so that who guesses passwords or looks
//! for a way in learns no more, and is answered no more.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// What tries may weigh together until there is silence.
const PATIENCE: u32 = 100;
/// How long tries are remembered, and how long silence lasts after the last of them.
const WHILE: Duration = Duration::from_secs(60);
/// How long a proof speaks for the address it came from: a telephone that calls once an hour begins anew.
const PROVEN: Duration = Duration::from_secs(600);
/// Sources remembered at once; above it those of a flood from everywhere are answered like new ones.
const MOST: usize = 10_000;

/// What was in vain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Try {
    /// A wrong proof, or a request of nobody we know: ten of them.
    Wrong,
    /// A request without a proof where there could be one: a hundred of them.
    Asked,
}

impl Try {
    fn weight(self) -> u32 {
        match self {
            Try::Wrong => 10,
            Try::Asked => 1,
        }
    }
}

/// The table. Addresses of trunks that need no password are never in it, so that nobody can silence them with a source
/// address that is not theirs.
#[derive(Default)]
pub struct Strangers {
    tries: Mutex<HashMap<IpAddr, (u32, Instant)>>,
    /// Who has proven who they are, and when. Bounded by [`MOST`]; when it is full others are not remembered.
    proven: Mutex<HashMap<IpAddr, Instant>>,
}

impl Strangers {
    /// A request from `ip` was in vain.
    pub fn tried(&self, ip: IpAddr, how: Try, now: Instant) {
        let mut table = self.tries.lock().unwrap_or_else(PoisonError::into_inner);
        if table.len() >= MOST && !table.contains_key(&ip) {
            table.retain(|_, (_, last)| now.saturating_duration_since(*last) < WHILE);
            if table.len() >= MOST {
                return;
            }
        }
        let (tries, last) = table.entry(ip).or_insert((0, now));
        let before = if now.saturating_duration_since(*last) < WHILE { *tries } else { 0 };
        *tries = before.saturating_add(how.weight());
        *last = now;
    }

    /// Whether `ip` gets no answers now.
    pub fn is_silenced(&self, ip: IpAddr, now: Instant) -> bool {
        let table = self.tries.lock().unwrap_or_else(PoisonError::into_inner);
        table.get(&ip).is_some_and(|(tries, last)| *tries >= PATIENCE && now.saturating_duration_since(*last) < WHILE)
    }

    /// A request from `ip` was right after all.
    pub fn welcome(&self, ip: IpAddr, now: Instant) {
        self.tries.lock().unwrap_or_else(PoisonError::into_inner).remove(&ip);
        let mut proven = self.proven.lock().unwrap_or_else(PoisonError::into_inner);
        if proven.len() >= MOST && !proven.contains_key(&ip) {
            proven.retain(|_, last| now.saturating_duration_since(*last) < PROVEN);
        }
        if proven.len() < MOST || proven.contains_key(&ip) {
            proven.insert(ip, now);
        }
    }

    /// Whether somebody at `ip` has proven lately who they are.
    pub fn is_welcome(&self, ip: IpAddr, now: Instant) -> bool {
        let proven = self.proven.lock().unwrap_or_else(PoisonError::into_inner);
        proven.get(&ip).is_some_and(|last| now.saturating_duration_since(*last) < PROVEN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::clock;

    #[test]
    fn after_a_few_tries_there_is_silence_for_a_while() {
        let (strangers, now) = (Strangers::default(), clock::now());
        let [a, b]: [IpAddr; 2] = ["192.0.2.1", "192.0.2.2"].map(|ip| ip.parse().unwrap());
        for how in [Try::Wrong; 9].into_iter().chain([Try::Asked; 10]) {
            assert!(!strangers.is_silenced(a, now));
            strangers.tried(a, how, now);
        }
        assert!(strangers.is_silenced(a, now) && !strangers.is_silenced(b, now));
        assert!(!strangers.is_silenced(a, now + WHILE));
        strangers.tried(a, Try::Wrong, now + WHILE);
        assert!(!strangers.is_silenced(a, now + WHILE), "it begins anew");
        (0..10).for_each(|_| strangers.tried(b, Try::Wrong, now));
        strangers.welcome(b, now);
        assert!(!strangers.is_silenced(b, now) && strangers.is_welcome(b, now) && !strangers.is_welcome(a, now));
        assert!(!strangers.is_welcome(b, now + PROVEN));
    }

    #[test]
    fn a_flood_from_everywhere_fills_no_memory() {
        let (strangers, now) = (Strangers::default(), clock::now());
        for n in 0..MOST as u32 + 500 {
            strangers.tried(IpAddr::from(n.to_be_bytes()), Try::Wrong, now);
        }
        assert_eq!(strangers.tries.lock().unwrap().len(), MOST);
        strangers.tried("2001:db8::1".parse().unwrap(), Try::Wrong, now + WHILE);
        assert_eq!(strangers.tries.lock().unwrap().len(), 1);
    }
}
