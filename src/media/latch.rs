//! Which source address a leg's packets are taken from (DESIGN §5): the one its SDP named, else one that has sent five
//! consistent packets.
//!
//! Whoever guesses a port sends faster than any phone, so being first is no proof. Another source than the named one has
//! to wait until the leg has been silent for a second; only a phone that names an address which cannot be reached from
//! where its packets come is behind NAT for certain, and does not wait. What was learnt is kept until another address
//! is named: a re-INVITE is no occasion to take somebody's place.

use crate::time::{MediaTime, Samples};
use std::net::{IpAddr, SocketAddr};

/// Consistent packets that make a source address count: a stray packet or a guess does not.
const ENOUGH: u8 = 5;
/// How far apart the numbers of consistent packets may be.
const NEAR: u16 = 16;
/// The silence in which another source may take over. The far end of a round trip of half a second, which begins to send
/// when it has our answer, is still in time.
const SILENCE: Samples = Samples::from_millis(1000);
/// A source that is being considered and sends nothing for this long gives way to the next: three packets of 60 ms.
const GONE: Samples = Samples::from_millis(180);

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
    heard: MediaTime,
}

/// One leg's latch.
#[derive(Clone, Debug)]
pub struct Latch {
    named: SocketAddr,
    source: Option<SocketAddr>,
    /// Whether `source` has been heard since the last SDP exchange: nobody else counts then.
    closed: bool,
    /// When the leg was last heard, or the last exchange was.
    heard: MediaTime,
    candidate: Option<Candidate>,
}

impl Latch {
    /// `named`: where the peer's SDP says it receives.
    pub fn new(now: MediaTime, named: SocketAddr) -> Self {
        Latch { named, source: None, closed: false, heard: now, candidate: None }
    }

    /// Another SDP exchange. It opens the latch anew, but not for a phone that holds, which falls silent: one that still
    /// names the address it was heard from (it is behind no NAT), or none at all (RFC 3264 §8.4).
    pub fn reopen(&mut self, now: MediaTime, named: SocketAddr) {
        if named.ip().is_unspecified() {
            self.named = named;
            return;
        }
        if named != self.named {
            // Heard from where it now says that it is: it has not moved.
            self.source = self.source.filter(|s| *s == named);
            self.named = named;
        }
        self.closed = self.source == Some(named);
        self.heard = now;
        self.candidate = None;
    }

    /// Where to send: to the source heard, else as the SDP says; nowhere if it names nobody.
    pub fn target(&self) -> SocketAddr {
        self.elsewhere().unwrap_or(self.named)
    }

    /// The source heard, if it is not the one the SDP named.
    pub fn elsewhere(&self) -> Option<SocketAddr> {
        self.source.filter(|s| *s != self.named && !self.named.ip().is_unspecified())
    }

    /// A packet came.
    pub fn judge(&mut self, now: MediaTime, from: SocketAddr, ssrc: u32, sequence: u16) -> Verdict {
        if from == self.named || self.source == Some(from) {
            return self.settle(now, from);
        }
        if self.closed || !self.consider(now, from, ssrc, sequence) {
            return Verdict::Dropped;
        }
        self.settle(now, from)
    }

    fn settle(&mut self, now: MediaTime, from: SocketAddr) -> Verdict {
        (self.closed, self.heard, self.candidate) = (true, now, None);
        match self.source.replace(from) {
            Some(before) if before != from => Verdict::Moved,
            Some(_) | None => Verdict::Accepted,
        }
    }

    /// Whether this packet makes its source count. One at a time is considered, so that nobody keeps a phone from being
    /// heard by sending in between.
    fn consider(&mut self, now: MediaTime, from: SocketAddr, ssrc: u32, sequence: u16) -> bool {
        let fresh = Candidate { from, ssrc, sequence, count: 1, heard: now };
        let Some(candidate) = self.candidate.filter(|c| c.from == from || now - c.heard < GONE) else {
            self.candidate = Some(fresh);
            return false;
        };
        if candidate.from != from {
            return false;
        }
        let step = sequence.wrapping_sub(candidate.sequence);
        if candidate.ssrc != ssrc || !(1..=NEAR).contains(&step) {
            self.candidate = None;
            return false;
        }
        let count = candidate.count.saturating_add(1);
        self.candidate = Some(Candidate { count, ..fresh });
        let free = now - self.heard >= SILENCE || self.source.is_none() && is_translated(self.named, from);
        count >= ENOUGH && free
    }
}

/// Whether who names `named` and sends from `from` is behind NAT: nothing that is sent to `named` would come there.
/// Some telephones name an IPv6 address in a call over IPv4.
fn is_translated(named: SocketAddr, from: SocketAddr) -> bool {
    let (named, from) = (named.ip().to_canonical(), from.ip().to_canonical());
    named.is_ipv4() != from.is_ipv4() || is_local(named) && !is_local(from)
}

/// Addresses that mean something in their own network only (RFC 1918, 6598, 3927, 4193, 4291).
fn is_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => {
            let [a, b, ..] = ip.octets();
            ip.is_private() || ip.is_loopback() || ip.is_link_local() || (a == 100 && (64..128).contains(&b))
        }
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(port: u16) -> SocketAddr {
        ([192, 0, 2, 1], port).into()
    }
    fn at(ms: i64) -> MediaTime {
        MediaTime::from_millis(ms)
    }
    /// How many of the packets count, one every 20 ms beginning at `from`: of each port, SSRC and sequence number.
    fn counted(latch: &mut Latch, from: i64, packets: &[(u16, u32, u16)]) -> usize {
        let judged = packets
            .iter()
            .enumerate()
            .map(|(n, (port, ssrc, sequence))| latch.judge(at(from + 20 * n as i64), address(*port), *ssrc, *sequence));
        judged.filter(|v| *v != Verdict::Dropped).count()
    }
    fn row(port: u16, count: u16) -> Vec<(u16, u32, u16)> {
        (0..count).map(|i| (port, 1, i)).collect()
    }

    /// Each row: when the first packet comes, the packets, and how many of them count.
    #[test]
    fn who_is_listened_to() {
        let join = |a: &[(u16, u32, u16)], b: &[(u16, u32, u16)]| [a, b].concat();
        let (named, stranger) = (row(4000, 5), row(5000, 5));
        let mixed: Vec<_> = (0..40).map(|i| (5000 + i % 2, 1, i / 2)).collect();
        let rows = [
            ("the named address at once", 0, named.clone(), 5),
            ("a stranger not while the named may still come", 0, row(5000, 50), 0),
            ("and then at once", 0, row(5000, 60), 10),
            ("a stranger from the fifth in silence", 1000, stranger.clone(), 1),
            ("a stranger never after the named", 1000, join(&named, &row(5000, 200)), 5),
            ("the named even after a stranger", 1000, join(&stranger, &named), 6),
            ("a second stranger never", 1000, join(&stranger, &row(6000, 200)), 1),
            ("nobody keeps another out by sending in between", 1000, mixed, 16),
            ("a second stranger when the first gave up", 1000, join(&row(5000, 4), &row(6000, 20)), 8),
            ("changing SSRCs never", 1000, (0..9).map(|i| (5000, i, i as u16)).collect(), 0),
            ("wild numbers never", 1000, (0..9).map(|i| (5000, 1, i * 1000)).collect(), 0),
        ];
        for (name, from, packets, expected) in rows {
            let mut latch = Latch::new(at(0), address(4000));
            assert_eq!(counted(&mut latch, from, &packets), expected, "{name}");
        }
    }

    /// Who names an address that cannot be reached from where they send is behind NAT, and is not made to wait.
    #[test]
    fn behind_nat_five_packets_are_enough() {
        for (named, from, expected) in [
            ("10.0.0.5:4000", "192.0.2.1:5000", 1),
            ("100.64.0.5:4000", "192.0.2.1:5000", 1),
            ("[fd00::5]:4000", "[2001:db8::1]:5000", 1),
            ("[::ffff:10.0.0.5]:4000", "192.0.2.1:5000", 1),
            ("[fd00::5]:4000", "127.0.0.1:5000", 1),
            ("192.0.2.5:4000", "192.0.2.1:5000", 0),
            ("10.0.0.5:4000", "10.0.0.6:5000", 0),
            ("127.0.0.1:4000", "127.0.0.2:4000", 0),
            ("192.0.2.5:4000", "[::ffff:192.0.2.1]:5000", 0),
            ("[2001:db8::5]:4000", "[2001:db8::1]:5000", 0),
        ] {
            let mut latch = Latch::new(at(0), named.parse().unwrap());
            let verdicts = (0..5).map(|n| latch.judge(at(20 * n), from.parse().unwrap(), 1, n as u16));
            assert_eq!(verdicts.filter(|v| *v == Verdict::Accepted).count(), expected, "{named} {from}");
        }
    }

    #[test]
    fn another_address_opens_it_anew() {
        let mut latch = Latch::new(at(0), address(4000));
        latch.judge(at(0), address(4000), 1, 1);
        latch.reopen(at(20), address(4002));
        assert_eq!((latch.target(), latch.judge(at(20), address(4000), 1, 2)), (address(4002), Verdict::Dropped));
        assert_eq!(latch.judge(at(40), address(4002), 1, 3), Verdict::Accepted);
    }

    /// Hold and resume: the phone is silent for long, and its place is its own.
    #[test]
    fn the_same_address_keeps_what_was_learnt() {
        let mut latch = Latch::new(at(0), address(4000));
        counted(&mut latch, 0, &row(4000, 5));
        latch.reopen(at(100), address(4000));
        assert_eq!(counted(&mut latch, 5000, &row(5000, 60)), 0);
        assert_eq!(latch.target(), address(4000));
        for (named, strangers) in [("0.0.0.0:4000", 0), ("192.0.2.1:4000", 0), ("192.0.2.1:4002", 10)] {
            latch.reopen(at(10_000), named.parse().unwrap());
            assert_eq!(counted(&mut latch, 10_000, &row(5000, 60)), strangers, "{named}");
        }
        // Behind NAT the way back is kept, and lost only to one who comes when it has died.
        let mut latch = Latch::new(at(0), address(4000));
        counted(&mut latch, 1000, &row(5000, 5));
        latch.reopen(at(1100), address(4000));
        assert_eq!(latch.target(), address(5000));
        assert_eq!(counted(&mut latch, 1100, &row(6000, 20)), 0);
        assert_eq!(latch.judge(at(1500), address(5000), 1, 9), Verdict::Accepted);
        latch.reopen(at(1600), address(4000));
        assert_eq!(counted(&mut latch, 2600, &row(6000, 5)), 1);
        assert_eq!(latch.target(), address(6000));
    }

    #[test]
    fn the_named_address_after_a_stranger_has_moved() {
        let mut latch = Latch::new(at(0), address(4000));
        counted(&mut latch, 1000, &row(5000, 5));
        assert_eq!(latch.elsewhere(), Some(address(5000)));
        assert_eq!(latch.judge(at(1100), address(4000), 1, 6), Verdict::Moved);
        assert_eq!(latch.elsewhere(), None);
    }
}
