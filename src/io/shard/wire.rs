//! A leg's end of the wire: its sockets, whether RTCP shares RTP's (RFC 5761), and what protects both (SRTP).
//!
//! Between the kernel's door and the call: what comes is opened before any call sees it, what goes is sealed after every
//! call, the relay of a failed one included. Knows nothing of what packets mean.

use crate::call::sdp::Keys;
use crate::call::{LegMedia, Port};
use crate::id::LegId;
use crate::io::srtp::{GROWTH, Session};
use crate::io::udp::{DATAGRAM, Key};
use std::io::ErrorKind;
use std::net::UdpSocket;

/// Where a packet is sealed.
pub(super) type Room = [u8; DATAGRAM];

/// A leg's sockets and what was agreed on about them.
pub(super) struct LegIo {
    pub leg: LegId,
    /// RTP, RTCP.
    pub sockets: [Key; 2],
    mux: bool,
    srtp: Option<Box<Session>>,
}

/// The same without a call: sockets that nobody reads, and what protects what goes through them, with all its counts.
pub(super) struct Loose {
    sockets: [UdpSocket; 2],
    wire: Bare,
}

/// What there is of a wire beside its sockets.
pub(super) struct Bare {
    mux: bool,
    srtp: Option<Box<Session>>,
}

/// Datagrams thrown away at most: more than a second of them, and a flood does not keep the thread.
const WAITING: usize = 256;

impl Loose {
    /// What has come for nobody is for nobody.
    pub fn forget_what_waits(&self) {
        let mut room = [0; 1];
        for socket in &self.sockets {
            // They do not block: an error is an empty queue, or an ICMP error that is told once.
            for _ in 0..WAITING {
                match socket.recv(&mut room) {
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Ok(_) | Err(_) => {}
                }
            }
        }
    }

    pub fn split(self) -> ([UdpSocket; 2], Bare) {
        (self.sockets, self.wire)
    }
}

impl Bare {
    /// In a call again.
    pub fn on(self, leg: LegId, sockets: [Key; 2]) -> LegIo {
        LegIo { leg, sockets, mux: self.mux, srtp: self.srtp }
    }
}

impl LegIo {
    /// Out of its call.
    pub fn loose(self, sockets: [UdpSocket; 2]) -> Loose {
        Loose { sockets, wire: Bare { mux: self.mux, srtp: self.srtp } }
    }

    pub fn new(leg: LegId, sockets: [Key; 2], media: &LegMedia, keys: Option<Keys>) -> Self {
        LegIo { leg, sockets, mux: shares(media), srtp: keys.map(|keys| Box::new(Session::new(keys))) }
    }

    /// What was agreed on anew.
    pub fn agree(&mut self, media: &LegMedia, keys: Option<Keys>) {
        self.mux = shares(media);
        match (&mut self.srtp, keys) {
            (Some(session), Some(keys)) => session.rekey(keys),
            (srtp, keys) => *srtp = keys.map(|keys| Box::new(Session::new(keys))),
        }
    }

    /// What came: for which port it is meant, and the packet, opened where it lies. `None` if it is not to be believed.
    pub fn open<'a>(&mut self, port: Port, datagram: &'a mut [u8]) -> Option<(Port, &'a [u8])> {
        let port = if self.mux && is_report(datagram) { Port::Rtcp } else { port };
        let length = match &mut self.srtp {
            None => datagram.len(),
            Some(session) => session.open(port, datagram)?,
        };
        Some((port, datagram.get(..length)?))
    }

    /// What goes: by which socket, and the datagram. `None` if it cannot be protected.
    pub fn seal<'a>(&mut self, port: Port, packet: &'a [u8], room: &'a mut Room) -> Option<(Key, &'a [u8])> {
        let socket = match port {
            Port::Rtcp if !self.mux => self.sockets[1],
            Port::Rtp | Port::Rtcp => self.sockets[0],
        };
        let Some(session) = &mut self.srtp else { return Some((socket, packet)) };
        room.get_mut(..packet.len())?.copy_from_slice(packet);
        // No more than what was written and what may be added: the rest of the room holds older packets.
        let end = DATAGRAM.min(packet.len() + GROWTH);
        let length = session.seal(port, room.get_mut(..end)?, packet.len())?;
        Some((socket, room.get(..length)?))
    }
}

/// SDP says it by one address for both.
fn shares(media: &LegMedia) -> bool {
    media.remote == media.remote_rtcp
}

/// RFC 5761 §4: what is RTCP where both come to one port.
fn is_report(datagram: &[u8]) -> bool {
    datagram.get(1).is_some_and(|kind| (192..=223).contains(kind))
}
