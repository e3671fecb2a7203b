//! Which packets of which stream have been: the full number of a packet from the sixteen bits it carries, and the window
//! in which none counts twice (RFC 3711 §3.3.1, §3.3.2).

/// Streams remembered under one key. None is ever forgotten, or its packets could be replayed: who sends under more SSRCs
/// than that is not heard under the next, until another key is agreed on.
const MOST: usize = 256;
/// Streams for which there is room from the start.
const USUAL: usize = 4;
/// Packets behind the latest that can still be told apart; RFC 3711 §3.3.2 asks for 64.
const WINDOW: u64 = 128;
/// Packet numbers have 48 bits; no key outlives them.
const LAST: u64 = (1 << 48) - 1;

/// The streams under one key, in one direction.
pub(super) struct Streams(Vec<Stream>);

struct Stream {
    ssrc: u32,
    highest: u64,
    /// Bit n: the packet n before the highest has been.
    seen: u128,
}

impl Default for Streams {
    fn default() -> Self {
        Streams(Vec::with_capacity(USUAL))
    }
}

impl Streams {
    /// The number of a packet, if it is not one that has been, or is too old to know. A stream begins in its first round:
    /// that is what both sides take for granted.
    pub fn index(&self, ssrc: u32, sequence: u16) -> Option<u64> {
        let Some(stream) = self.find(ssrc) else { return Some(sequence.into()) };
        // The number nearest to the highest; before the first round there is none, so it is of this one.
        let step = i64::from(sequence.wrapping_sub(stream.highest as u16) as i16);
        let near = stream.highest.checked_add_signed(step).unwrap_or(sequence.into());
        (near <= LAST && stream.is_new(near)).then_some(near)
    }

    /// Whether a packet with this number has not been.
    pub fn is_new(&self, ssrc: u32, index: u64) -> bool {
        self.find(ssrc).is_none_or(|stream| stream.is_new(index))
    }

    /// This packet has been. `None` if there is no room for its stream.
    pub fn count(&mut self, ssrc: u32, index: u64) -> Option<()> {
        let full = self.0.len() >= MOST;
        match self.0.iter_mut().find(|s| s.ssrc == ssrc) {
            Some(stream) => stream.count(index),
            None if full => return None,
            None => self.0.push(Stream { ssrc, highest: index, seen: 1 }),
        }
        Some(())
    }

    fn find(&self, ssrc: u32) -> Option<&Stream> {
        self.0.iter().find(|s| s.ssrc == ssrc)
    }
}

impl Stream {
    fn is_new(&self, index: u64) -> bool {
        match self.highest.checked_sub(index) {
            None => true,
            Some(behind) => behind < WINDOW && self.seen & (1 << behind) == 0,
        }
    }

    fn count(&mut self, index: u64) {
        match index.checked_sub(self.highest) {
            Some(ahead) => {
                self.seen = u32::try_from(ahead).ok().and_then(|n| self.seen.checked_shl(n)).unwrap_or(0) | 1;
                self.highest = index;
            }
            None => {
                let behind = self.highest - index;
                self.seen |= if behind < WINDOW { 1 << behind } else { 0 };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The numbers given to a stream's packets as they come; `None` where one is refused.
    fn numbered(sequences: &[u16]) -> Vec<Option<u64>> {
        let mut streams = Streams::default();
        let number = |sequence: &u16| {
            let index = streams.index(9, *sequence)?;
            streams.count(9, index).map(|()| index)
        };
        sequences.iter().map(number).collect()
    }

    #[test]
    fn numbers_go_on_where_sixteen_bits_end() {
        let round = 1 << 16;
        let rows: [(&[u16], &[Option<u64>]); 7] = [
            (&[5, 6, 8, 7], &[Some(5), Some(6), Some(8), Some(7)]),
            (&[5, 6, 6, 5], &[Some(5), Some(6), None, None]),
            (&[65_534, 65_535, 0, 1], &[Some(65_534), Some(65_535), Some(round), Some(round + 1)]),
            // Late ones of the round before, once each.
            (&[65_534, 1, 65_535, 65_535, 0], &[Some(65_534), Some(round + 1), Some(65_535), None, Some(round)]),
            // Nothing is before the first round.
            (&[3, 65_000], &[Some(3), Some(65_000)]),
            (&[500, 373, 372], &[Some(500), Some(373), None]),
            (&[1, 30_000, 60_000, 20_000, 2], &[Some(1), Some(30_000), Some(60_000), Some(round + 20_000), None]),
        ];
        for (sequences, expected) in rows {
            assert_eq!(numbered(sequences), expected, "{sequences:?}");
        }
    }

    #[test]
    fn no_number_counts_twice_however_they_come() {
        let mut seed = crate::media::seed::Seed::new(1);
        let (mut streams, mut been) = (Streams::default(), std::collections::BTreeSet::new());
        let mut at = 65_000u64;
        for _ in 0..200_000 {
            at += seed.below(3);
            let sent = at - seed.below(140).min(at);
            if let Some(index) = streams.index(1, sent as u16) {
                assert_eq!(index, sent);
                assert!(been.insert(index), "{index} twice");
                streams.count(1, index).unwrap();
            }
        }
        assert!(been.len() > 100_000);
    }

    #[test]
    fn streams_are_apart_and_none_is_forgotten() {
        let mut streams = Streams::default();
        for ssrc in 0..MOST as u32 {
            assert_eq!(streams.index(ssrc, 7), Some(7));
            streams.count(ssrc, 7).unwrap();
        }
        assert!((0..MOST as u32).all(|ssrc| streams.index(ssrc, 7).is_none()));
        assert_eq!(streams.count(MOST as u32, 7), None, "one stream too many");
    }
}
