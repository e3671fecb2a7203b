//! A network as bad as asked for: loss, jitter, reordering, duplicates, from a seed.

use sotto::media::seed::Seed;
use sotto::time::{MediaTime, Samples};

pub struct Network {
    /// Of a thousand packets, how many are lost.
    pub loss: u64,
    /// Of a thousand, how many come twice.
    pub twice: u64,
    /// A packet is up to that much late, in milliseconds.
    pub jitter: u64,
    seed: Seed,
    under_way: Vec<(MediaTime, Vec<u8>)>,
}

impl Network {
    pub fn perfect() -> Self {
        Network::bad(0, 0, 0, 0)
    }
    pub fn bad(seed: u64, loss: u64, twice: u64, jitter: u64) -> Self {
        Network { loss, twice, jitter, seed: Seed::new(seed), under_way: Vec::new() }
    }
    pub fn put(&mut self, now: MediaTime, bytes: Vec<u8>) {
        if self.seed.below(1000) < self.loss {
            return;
        }
        let copies = 1 + u64::from(self.seed.below(1000) < self.twice);
        for _ in 0..copies {
            let late = Samples::from_millis(self.seed.below(self.jitter + 1) as i64);
            self.under_way.push((now + late, bytes.clone()));
        }
    }
    /// What has come by `now`, in order of its coming.
    pub fn arrived(&mut self, now: MediaTime) -> Vec<Vec<u8>> {
        let (mut here, still): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.under_way).into_iter().partition(|(at, _)| *at <= now);
        self.under_way = still;
        here.sort_by_key(|(at, _)| *at);
        here.into_iter().map(|(_, bytes)| bytes).collect()
    }
}
