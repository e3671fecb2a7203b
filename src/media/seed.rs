//! Numbers that look random and come from a seed: the core has no random source of its own.

/// A SplitMix64 sequence: small, and good enough for SSRCs, first sequence numbers and timer jitter.
#[derive(Clone, Debug)]
pub struct Seed(u64);

impl Seed {
    /// The sequence that begins at `seed`.
    pub fn new(seed: u64) -> Self {
        Seed(seed)
    }
    /// A seed as text: sixteen hexadecimal digits.
    pub fn written(seed: u64) -> String {
        format!("{seed:016x}")
    }
    /// A seed from its text.
    pub fn read(text: &str) -> Option<u64> {
        u64::from_str_radix(text, 16).ok()
    }
    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
    /// A number below `n`; 0 if `n` is 0.
    pub fn below(&mut self, n: u64) -> u64 {
        ((u128::from(self.bits()) * u128::from(n)) >> 64) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_numbers_within_bounds() {
        let (mut a, mut b) = (Seed::new(7), Seed::new(7));
        for _ in 0..1000 {
            assert_eq!(a.below(10), b.below(10));
            assert!(a.below(10) < 10);
            b.below(10);
        }
        assert_eq!(a.below(0), 0);
        assert_ne!(Seed::new(1).bits(), Seed::new(2).bits());
    }
}
