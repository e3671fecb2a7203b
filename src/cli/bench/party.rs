//! The far end of one leg: what it says, and what it hears of the others.

use super::sound::{BEATS, Ear, Second};
use super::stamped::Stamped;
use crate::call::Port;
use crate::call::sdp::Keys;
use crate::event::Role;
use crate::io::clock;
use crate::io::srtp::Session;
use crate::media::codec::Codec;
use crate::media::rtp::{HEADER, Header, Packet};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// The largest datagram looked at.
const DATAGRAM: usize = 1500;
/// A pulse lies in two packets at most; what is loud within this is the same one.
const ONCE: Duration = Duration::from_millis(100);

/// What is to be known of a leg before its far end can be made.
#[derive(Clone)]
pub struct Cast {
    /// Which call.
    pub call: usize,
    /// As what.
    pub role: Role,
    /// In which codec it speaks and hears.
    pub codec: Codec,
    /// Names its stream.
    pub ssrc: u32,
    /// What it says.
    pub says: Arc<Second>,
    /// As the server has them.
    pub keys: Option<Keys>,
}

/// One far end.
pub struct Party {
    cast: Cast,
    socket: Stamped,
    to: SocketAddr,
    header: Header,
    srtp: Option<Session>,
    ear: Ear,
    /// The last sequence number that came, since counting began.
    last: Option<u16>,
    /// When a pulse was last heard.
    heard: Duration,
    /// What was counted.
    pub counts: Counts,
}

/// Packets of one leg.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    /// Sent to the server.
    pub sent: u64,
    /// Received from it.
    pub received: u64,
    /// Numbers that should have come between the first and the last.
    pub expected: u64,
}

/// A pulse that was sent or heard.
#[derive(Clone, Copy, Debug)]
pub struct Pulse {
    /// In which call.
    pub call: usize,
    /// By whom.
    pub role: Role,
    /// When, on the wall clock: just before it was sent, or when its sound begins at whoever hears it.
    pub at: Duration,
}

impl Party {
    /// With a socket of its own; it sends to nobody yet.
    pub fn new(cast: Cast) -> io::Result<Party> {
        let socket = Stamped::bind()?;
        let header = Header {
            marker: true,
            payload_type: payload_type(cast.codec),
            sequence: cast.ssrc as u16,
            timestamp: cast.ssrc.wrapping_mul(160),
            ssrc: cast.ssrc,
        };
        let (to, ear) = (socket.address()?, Ear::new(cast.codec));
        let (heard, counts) = (Duration::ZERO, Counts::default());
        let srtp = cast.keys.map(|server| Session::new(Keys { ours: server.theirs, theirs: server.ours }));
        Ok(Party { cast, socket, to, header, srtp, ear, last: None, heard, counts })
    }

    /// What it was made of.
    pub fn cast(&self) -> &Cast {
        &self.cast
    }
    /// Its socket, to wait for.
    pub fn socket(&self) -> &Stamped {
        &self.socket
    }
    /// It sends there from now on.
    pub fn call(&mut self, server: SocketAddr) {
        self.to = server;
    }

    /// Counts from now on.
    pub fn count_anew(&mut self) {
        self.counts = Counts::default();
        self.last = None;
    }

    /// Sends the packet of a beat; answers the pulse that is in it.
    pub fn say(&mut self, beat: usize) -> io::Result<Option<Pulse>> {
        // Pulses of a call lie a third of a second apart, those of different calls anywhere.
        let beat = beat + self.cast.call + BEATS / 3 * place(self.cast.role);
        let (payload, pulse) = self.cast.says.at(beat);
        let mut datagram = [0; DATAGRAM];
        let length = HEADER + payload.len();
        datagram[..HEADER].copy_from_slice(&self.header.bytes());
        datagram[HEADER..length].copy_from_slice(payload);
        self.header.marker = false;
        self.header.sequence = self.header.sequence.wrapping_add(1);
        self.header.timestamp = self.header.timestamp.wrapping_add(self.cast.codec.clock() / 50);
        let length = match &mut self.srtp {
            Some(srtp) => srtp.seal(Port::Rtp, &mut datagram, length).ok_or_else(|| io::Error::other("SRTP"))?,
            None => length,
        };
        let at = clock::wall();
        match self.socket.send(self.to, &datagram[..length]) {
            Ok(_) => self.counts.sent += 1,
            Err(error) if is_loss(&error) => return Ok(None),
            Err(error) => return Err(error),
        }
        Ok(pulse.then_some(Pulse { call: self.cast.call, role: self.cast.role, at }))
    }

    /// Takes a datagram that waits; answers the pulse that begins in it.
    pub fn hear(&mut self) -> io::Result<Option<Pulse>> {
        let mut datagram = [0; DATAGRAM];
        let (length, at) = match self.socket.receive(&mut datagram) {
            Ok(received) => received,
            Err(error) if is_loss(&error) => return Ok(None),
            Err(error) => return Err(error),
        };
        let length = match &mut self.srtp {
            Some(srtp) => srtp.open(Port::Rtp, &mut datagram[..length]).unwrap_or(0),
            None => length,
        };
        let Ok(packet) = Packet::parse(&datagram[..length]) else { return Ok(None) };
        self.count(packet.header.sequence);
        let Some(into) = self.ear.find(packet.payload) else { return Ok(None) };
        let at = at + into;
        let again = at.saturating_sub(self.heard) < ONCE;
        self.heard = at;
        Ok((!again).then_some(Pulse { call: self.cast.call, role: self.cast.role, at }))
    }

    fn count(&mut self, sequence: u16) {
        self.counts.received += 1;
        let step = self.last.map_or(1, |last| sequence.wrapping_sub(last) as i16);
        if step > 0 {
            self.counts.expected += step as u64;
            self.last = Some(sequence);
        }
    }
}

/// No room, nothing there, or word by ICMP that nobody listens: a packet less, as networks have it.
fn is_loss(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::ConnectionRefused)
}

/// Its payload type, here and in the server.
pub fn payload_type(codec: Codec) -> u8 {
    match codec {
        Codec::Pcmu => 0,
        Codec::Pcma => 8,
        Codec::G722 => 9,
        Codec::Opus => 111,
        Codec::L16 => 96,
    }
}

/// A role's number.
pub fn place(role: Role) -> usize {
    match role {
        Role::Customer => 0,
        Role::Agent => 1,
        Role::Supervisor | Role::Bridge | Role::Earpiece => 2,
    }
}
