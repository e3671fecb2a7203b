//! Nonces of our challenges: made without being remembered, so that no stranger can fill a memory, and counted from
//! their first right answer on, so that none can be replayed.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Nonces in use at once. Above it the oldest are told as stale, and their users get fresh ones.
const MOST: usize = 10_000;
/// Hexadecimal digits of each part of a nonce: when it was made, chance, and what nobody else can make.
const PARTS: [usize; 3] = [16, 16, 32];

/// What a nonce is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Worth {
    /// It is ours, and of age to be used.
    Fresh,
    /// It was ours: its user gets another (RFC 7616 §3.3).
    Stale,
    /// It never was ours.
    Forged,
}

/// The nonces.
pub struct Nonces {
    key: [u8; 32],
    life: Duration,
    /// By nonce: when it was made, and the highest count that was used.
    used: Mutex<HashMap<String, (u64, u32)>>,
}

impl Nonces {
    /// Nonces that are signed with `key` and hold for `life`.
    pub fn new(key: [u8; 32], life: Duration) -> Self {
        Nonces { key, life, used: Mutex::default() }
    }

    /// A new one. `now` is in milliseconds.
    pub fn issue(&self, now: u64, chance: u64) -> String {
        let head = format!("{now:016x}{chance:016x}");
        let seal = self.seal(&head);
        head + &seal
    }

    fn seal(&self, head: &str) -> String {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.key).expect("a key of any length will do");
        mac.update(head.as_bytes());
        mac.finalize()
            .into_bytes()
            .iter()
            .take(PARTS[2] / 2)
            .fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"))
    }

    /// When a nonce of ours was made.
    fn made(&self, nonce: &str) -> Option<u64> {
        let (head, seal) = nonce.split_at_checked(PARTS[0] + PARTS[1])?;
        let ours = crate::config::Secret::new(self.seal(head)).matches(seal);
        u64::from_str_radix(head.get(..PARTS[0])?, 16).ok().filter(|_| ours)
    }

    /// What a nonce is worth at `now`.
    pub fn worth(&self, nonce: &str, now: u64) -> Worth {
        match self.made(nonce) {
            None => Worth::Forged,
            Some(made) if now.saturating_sub(made) > self.life.as_millis() as u64 => Worth::Stale,
            Some(_) => Worth::Fresh,
        }
    }

    /// Uses a nonce of ours for the `count`th time; false where that was done already. Called for right answers alone.
    pub fn spend(&self, nonce: &str, count: u32, now: u64) -> bool {
        let Some(made) = self.made(nonce) else { return false };
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, highest)) = used.get_mut(nonce) {
            let later = count > *highest;
            *highest = count.max(*highest);
            return later;
        }
        if used.len() >= MOST {
            used.retain(|nonce, _| self.worth(nonce, now) == Worth::Fresh);
        }
        if used.len() >= MOST {
            return false;
        }
        used.insert(nonce.to_owned(), (made, count));
        count > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nonce_is_ours_holds_for_a_while_and_counts_up() {
        let nonces = Nonces::new([7; 32], Duration::from_secs(60));
        let nonce = nonces.issue(1_000, 5);
        assert_eq!(nonces.worth(&nonce, 61_000), Worth::Fresh);
        assert_eq!(nonces.worth(&nonce, 61_001), Worth::Stale);
        for forged in
            [nonce.replace('5', "6"), Nonces::new([8; 32], nonces.life).issue(1_000, 5), "é".repeat(40), String::new()]
        {
            assert_eq!(nonces.worth(&forged, 1_000), Worth::Forged, "{forged}");
            assert!(!nonces.spend(&forged, 1, 1_000));
        }
        let spent: Vec<bool> = [1, 1, 2, 16, 9, 17].iter().map(|n| nonces.spend(&nonce, *n, 2_000)).collect();
        assert_eq!(spent, [true, false, true, true, false, true]);
    }

    #[test]
    fn a_full_memory_forgets_what_is_stale_and_nothing_else() {
        let nonces = Nonces::new([7; 32], Duration::from_secs(60));
        for chance in 0..MOST as u64 {
            assert!(nonces.spend(&nonces.issue(1_000, chance), 1, 1_000));
        }
        let later = nonces.issue(61_000, 1);
        assert!(!nonces.spend(&later, 1, 61_000), "the first are fresh still, and their counts are kept");
        assert!(!nonces.spend(&nonces.issue(1_000, 3), 1, 61_000));
        assert!(nonces.spend(&later, 1, 61_001));
    }
}
