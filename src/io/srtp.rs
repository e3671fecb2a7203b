//! SRTP (RFC 3711, and RFC 7714 for GCM): what lies between the wire and a leg that agreed on keys.
//!
//! In come datagrams and are opened in place: what was forged, or came before, is `None`. Out go packets of the call,
//! sealed in place. One [`Session`] serves a leg, both directions, RTP and RTCP. Nothing here allocates for a packet, but
//! for the first of a stream that is one too many for the room made at the start. Where keys come from it does not know.

mod cipher;
mod streams;

use crate::call::Port;
use crate::call::sdp::{Keys, MasterKey};
use crate::media::rtp::HEADER;
use cipher::{Cipher, Kind, Place, TAG};
use streams::Streams;

/// Octets by which a sealed packet may be longer than a plain one: the longest tag, and RTCP's index.
pub const GROWTH: usize = TAG + INDEX;
/// Octets of an RTCP header with the sender's SSRC: what of RTCP is never encrypted (RFC 3711 §3.4).
const RTCP_HEAD: usize = 8;
/// Octets of the index of RTCP with the bit that says "encrypted".
const INDEX: usize = 4;
/// That bit.
const ENCRYPTED: u32 = 1 << 31;

/// What protects one leg.
pub struct Session {
    keys: Keys,
    inward: Inward,
    /// By the key before: a peer that changes its key goes on with the old one until it has our answer.
    before: Option<Inward>,
    outward: Outward,
}

impl Session {
    /// With these keys nothing came and nothing went yet.
    pub fn new(keys: Keys) -> Self {
        Session { keys, inward: Inward::new(&keys.theirs), before: None, outward: Outward::new(&keys.ours) }
    }

    /// What was agreed on anew. A key that stays keeps its counts: to begin them again would repeat what it has encrypted,
    /// and take what was replayed.
    pub fn rekey(&mut self, keys: Keys) {
        if keys.theirs != self.keys.theirs {
            self.before = Some(std::mem::replace(&mut self.inward, Inward::new(&keys.theirs)));
        }
        if keys.ours != self.keys.ours {
            self.outward = Outward::new(&keys.ours);
        }
        self.keys = keys;
    }

    /// Opens a datagram in place: how long the packet is that now stands at its beginning. `None` for what was not sealed
    /// with the peer's key, or came before; it is as it was.
    pub fn open(&mut self, port: Port, datagram: &mut [u8]) -> Option<usize> {
        if let Some(length) = self.inward.open(port, datagram) {
            if port == Port::Rtp {
                self.before = None;
            }
            return Some(length);
        }
        self.before.as_mut()?.open(port, datagram)
    }

    /// Seals the packet in the first `length` octets of `room` in place: how long it is now. `None` if it is no packet, has
    /// a number that was used before, or does not fit.
    pub fn seal(&mut self, port: Port, room: &mut [u8], length: usize) -> Option<usize> {
        match port {
            Port::Rtp => self.outward.rtp(room, length),
            Port::Rtcp => self.outward.rtcp(room, length),
        }
    }
}

/// What comes from the peer.
struct Inward {
    rtp: Cipher,
    rtcp: Cipher,
    streams: Streams,
    reports: Streams,
}

impl Inward {
    fn new(key: &MasterKey) -> Self {
        let (rtp, rtcp) = (Cipher::new(key, Kind::Rtp), Cipher::new(key, Kind::Rtcp));
        Inward { rtp, rtcp, streams: Streams::default(), reports: Streams::default() }
    }

    fn open(&mut self, port: Port, datagram: &mut [u8]) -> Option<usize> {
        match port {
            Port::Rtp => self.rtp(datagram),
            Port::Rtcp => self.rtcp(datagram),
        }
    }

    fn rtp(&mut self, datagram: &mut [u8]) -> Option<usize> {
        let Head { length: head, sequence, ssrc } = Head::of(datagram)?;
        let end = datagram.len().checked_sub(self.rtp.tag())?;
        let (packet, tag) = datagram.split_at_mut_checked(end)?;
        let (head, body) = packet.split_at_mut_checked(head)?;
        let index = self.streams.index(ssrc, sequence)?;
        let place = Place { ssrc, index, more: rollover(index) };
        self.rtp.open(place, head, body, tag)?;
        // Only now: what is not from the peer moves nothing.
        self.streams.count(ssrc, index)?;
        Some(end)
    }

    /// The index and the tag behind a report; GCM has them the other way round (RFC 7714 §9).
    fn rtcp(&mut self, datagram: &mut [u8]) -> Option<usize> {
        let ssrc = rtcp_ssrc(datagram)?;
        let end = datagram.len().checked_sub(self.rtcp.tag() + INDEX)?;
        let (packet, trailer) = datagram.split_at_mut_checked(end)?;
        let (word, tag) = match self.rtcp.tag_is_last() {
            true => trailer.split_at_checked(INDEX)?,
            false => {
                let (tag, word) = trailer.split_at_checked(self.rtcp.tag())?;
                (word, tag)
            }
        };
        let more: [u8; INDEX] = *word.first_chunk()?;
        let word = u32::from_be_bytes(more);
        // Reports that are not encrypted were never agreed on.
        let index = u64::from(word & !ENCRYPTED);
        if word & ENCRYPTED == 0 || !self.reports.is_new(ssrc, index) {
            return None;
        }
        let (head, body) = packet.split_at_mut_checked(RTCP_HEAD)?;
        self.rtcp.open(Place { ssrc, index, more }, head, body, tag)?;
        self.reports.count(ssrc, index)?;
        Some(end)
    }
}

/// What goes to the peer.
struct Outward {
    rtp: Cipher,
    rtcp: Cipher,
    streams: Streams,
    /// Reports so far.
    reports: u32,
}

impl Outward {
    fn new(key: &MasterKey) -> Self {
        let (rtp, rtcp) = (Cipher::new(key, Kind::Rtp), Cipher::new(key, Kind::Rtcp));
        Outward { rtp, rtcp, streams: Streams::default(), reports: 0 }
    }

    fn rtp(&mut self, room: &mut [u8], length: usize) -> Option<usize> {
        let end = length.checked_add(self.rtp.tag())?;
        let (packet, tag) = room.get_mut(..end)?.split_at_mut_checked(length)?;
        let Head { length: head, sequence, ssrc } = Head::of(packet)?;
        let (head, body) = packet.split_at_mut_checked(head)?;
        let index = self.streams.index(ssrc, sequence)?;
        self.streams.count(ssrc, index)?;
        self.rtp.seal(Place { ssrc, index, more: rollover(index) }, head, body, tag)?;
        Some(end)
    }

    fn rtcp(&mut self, room: &mut [u8], length: usize) -> Option<usize> {
        let end = length.checked_add(self.rtcp.tag() + INDEX)?;
        let (packet, trailer) = room.get_mut(..end)?.split_at_mut_checked(length)?;
        let ssrc = rtcp_ssrc(packet)?;
        // 2³¹ reports are for ever (RFC 3711 §9.2); none is sent beyond.
        let index = self.reports.checked_add(1).filter(|next| next & ENCRYPTED == 0)?;
        let more = (index | ENCRYPTED).to_be_bytes();
        let (word, tag) = match self.rtcp.tag_is_last() {
            true => trailer.split_at_mut_checked(INDEX)?,
            false => {
                let (tag, word) = trailer.split_at_mut_checked(self.rtcp.tag())?;
                (word, tag)
            }
        };
        word.copy_from_slice(&more);
        let (head, body) = packet.split_at_mut_checked(RTCP_HEAD)?;
        self.rtcp.seal(Place { ssrc, index: index.into(), more }, head, body, tag)?;
        self.reports = index;
        Some(end)
    }
}

/// The count of how often the sequence number began anew: the part of the index that packets do not carry.
fn rollover(index: u64) -> [u8; 4] {
    ((index >> 16) as u32).to_be_bytes()
}

/// What of an RTP packet is in the clear: how long its header is with contributing sources and extension, its number and
/// its stream.
struct Head {
    length: usize,
    sequence: u16,
    ssrc: u32,
}

impl Head {
    fn of(packet: &[u8]) -> Option<Head> {
        let [flags, _, s0, s1, _, _, _, _, c0, c1, c2, c3] = *packet.first_chunk::<HEADER>()?;
        if flags >> 6 != 2 {
            return None;
        }
        let mut length = HEADER + usize::from(flags & 15) * 4;
        if flags & 0x10 != 0 {
            let [_, _, l0, l1] = *packet.get(length..)?.first_chunk::<4>()?;
            length += 4 + usize::from(u16::from_be_bytes([l0, l1])) * 4;
        }
        Some(Head { length, sequence: u16::from_be_bytes([s0, s1]), ssrc: u32::from_be_bytes([c0, c1, c2, c3]) })
    }
}

fn rtcp_ssrc(packet: &[u8]) -> Option<u32> {
    let [flags, _, _, _, c0, c1, c2, c3] = *packet.first_chunk::<RTCP_HEAD>()?;
    (flags >> 6 == 2).then_some(u32::from_be_bytes([c0, c1, c2, c3]))
}

#[cfg(test)]
mod tests;
