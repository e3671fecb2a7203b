//! Which source address a leg's packets are taken from (DESIGN §5): the one its SDP named, else, behind NAT, the one
//! that has sent five consistent packets. An SDP exchange opens the latch anew.

use std::net::SocketAddr;

/// Consistent packets that make a source address count: a stray packet or a guess does not.
const ENOUGH: u8 = 5;
/// How far apart the numbers of consistent packets may be.
const NEAR: u16 = 16;

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It counts.
    Accepted,
    /// It counts, and comes from another address than those before.
    Moved,
    /// It is none of ours.
    Dropped,
}

#[derive(Clone, Copy, Debug)]
struct Candidate {
    from: SocketAddr,
    ssrc: u32,
    sequence: u16,
    count: u8,
}

/// One leg's latch.
#[derive(Clone, Debug)]
pub struct Latch {
    named: SocketAddr,
    named_spoke: bool,
    source: Option<SocketAddr>,
    candidate: Option<Candidate>,
}

impl Latch {
    /// `named`: where the peer's SDP says it receives.
    pub fn new(named: SocketAddr) -> Self {
        Latch { named, named_spoke: false, source: None, candidate: None }
    }

    /// Another SDP exchange: the last source is remembered only to tell a moved far end.
    pub fn reopen(&mut self, named: SocketAddr) {
        self.named = named;
        self.named_spoke = false;
        self.candidate = None;
        self.source = self.source.filter(|s| *s == named);
    }

    /// Where to send: to the source heard, else as the SDP says.
    pub fn target(&self) -> SocketAddr {
        self.source.unwrap_or(self.named)
    }

    /// The source heard, if it is not the one the SDP named.
    pub fn elsewhere(&self) -> Option<SocketAddr> {
        self.source.filter(|s| *s != self.named)
    }

    /// A packet came.
    pub fn judge(&mut self, from: SocketAddr, ssrc: u32, sequence: u16) -> Verdict {
        if from == self.named {
            self.named_spoke = true;
            return self.settle(from);
        }
        if self.named_spoke {
            return Verdict::Dropped;
        }
        match self.source {
            Some(source) if source == from => Verdict::Accepted,
            Some(_) => Verdict::Dropped,
            None => self.consider(from, ssrc, sequence),
        }
    }

    fn settle(&mut self, from: SocketAddr) -> Verdict {
        match self.source.replace(from) {
            Some(before) if before != from => Verdict::Moved,
            Some(_) | None => Verdict::Accepted,
        }
    }

    fn consider(&mut self, from: SocketAddr, ssrc: u32, sequence: u16) -> Verdict {
        let known = self
            .candidate
            .filter(|c| c.from == from && c.ssrc == ssrc && (1..=NEAR).contains(&sequence.wrapping_sub(c.sequence)));
        let count = known.map_or(1, |c| c.count + 1);
        if count < ENOUGH {
            self.candidate = Some(Candidate { from, ssrc, sequence, count });
            return Verdict::Dropped;
        }
        self.candidate = None;
        self.settle(from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(port: u16) -> SocketAddr {
        ([192, 0, 2, 1], port).into()
    }

    /// Each row: packets (port, ssrc, sequence) and how many of them count.
    #[test]
    fn who_is_listened_to() {
        let five = |port, ssrc| (0..5).map(move |i| (port, ssrc, i as u16)).collect::<Vec<_>>();
        let join = |a: Vec<(u16, u32, u16)>, b: Vec<(u16, u32, u16)>| [a, b].concat();
        let rows = [
            ("the named address at once", five(4000, 1), 5),
            ("a stranger from the fifth", five(5000, 1), 1),
            ("a stranger never after the named", join(five(4000, 1), five(5000, 1)), 5),
            ("the named even after a stranger", join(five(5000, 1), five(4000, 1)), 6),
            ("a second stranger never", join(five(5000, 1), five(6000, 1)), 1),
            ("changing SSRCs never", (0..9).map(|i| (5000, i, i as u16)).collect(), 0),
            ("wild numbers never", (0..9).map(|i| (5000, 1, i * 1000)).collect(), 0),
        ];
        for (name, packets, expected) in rows {
            let mut latch = Latch::new(address(4000));
            let counted = packets
                .into_iter()
                .filter(|(port, ssrc, seq)| latch.judge(address(*port), *ssrc, *seq) != Verdict::Dropped)
                .count();
            assert_eq!(counted, expected, "{name}");
        }
    }

    #[test]
    fn an_exchange_opens_it_anew() {
        let mut latch = Latch::new(address(4000));
        latch.judge(address(4000), 1, 1);
        latch.reopen(address(4002));
        assert_eq!((latch.target(), latch.judge(address(4000), 1, 2)), (address(4002), Verdict::Dropped));
        assert_eq!(latch.judge(address(4002), 1, 3), Verdict::Accepted);
    }

    #[test]
    fn the_named_address_after_a_stranger_has_moved() {
        let mut latch = Latch::new(address(4000));
        for i in 0..5 {
            latch.judge(address(5000), 1, i);
        }
        assert_eq!(latch.elsewhere(), Some(address(5000)));
        assert_eq!(latch.judge(address(4000), 1, 6), Verdict::Moved);
        assert_eq!(latch.elsewhere(), None);
    }
}
