//! A conversation under attack: parties that keep all they send and get, spoofers who want to take their place, and
//! whoever throws rubbish at every port.

pub mod party;
pub mod rubbish;
pub mod spoofer;

use std::time::{Duration, Instant};

/// Sleeps until a moment; not at all if it is over.
pub fn sleep_until(at: Instant) {
    std::thread::sleep(at.saturating_duration_since(sotto::io::clock::now()));
}

/// A packet of a telephone: header, then payload.
pub fn rtp(kind: u8, sequence: u16, timestamp: u32, ssrc: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0x80, kind];
    bytes.extend(sequence.to_be_bytes());
    bytes.extend(timestamp.to_be_bytes());
    bytes.extend(ssrc.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// A report of a telephone: its first words are SSRCs and numbers as the kind has them.
pub fn rtcp(kind: u8, count: u8, words: &[u32]) -> Vec<u8> {
    let mut bytes = vec![0x80 | count, kind];
    bytes.extend((words.len() as u16).to_be_bytes());
    bytes.extend(words.iter().flat_map(|w| w.to_be_bytes()));
    bytes
}

/// 20 ms: how often a telephone sends.
pub const FRAME: Duration = Duration::from_millis(20);
