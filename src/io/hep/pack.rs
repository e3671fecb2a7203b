//! A captured message as a HEP3 packet: chunks, each with vendor, type and length.

use super::Path;
use crate::config::{Secret, Transport};
use std::net::IpAddr;
use std::time::Duration;

/// Chunks of the generic vendor.
mod chunk {
    pub const FAMILY: u16 = 0x0001;
    pub const PROTOCOL: u16 = 0x0002;
    pub const FROM_V4: u16 = 0x0003;
    pub const TO_V4: u16 = 0x0004;
    pub const FROM_V6: u16 = 0x0005;
    pub const TO_V6: u16 = 0x0006;
    pub const FROM_PORT: u16 = 0x0007;
    pub const TO_PORT: u16 = 0x0008;
    pub const SECONDS: u16 = 0x0009;
    pub const MICROSECONDS: u16 = 0x000a;
    pub const KIND: u16 = 0x000b;
    pub const AGENT: u16 = 0x000c;
    pub const PASSWORD: u16 = 0x000e;
    pub const PAYLOAD: u16 = 0x000f;
    pub const CORRELATION: u16 = 0x0011;
}

/// `AF_INET` and `AF_INET6` as Linux numbers them; capture servers expect these.
const FAMILIES: (u8, u8) = (2, 10);
/// The kind of payload: SIP.
const SIP: u8 = 1;
/// What fits into one UDP datagram over IPv4.
const MOST: usize = 65_507;

/// A message on its way to the capture server.
pub struct Captured {
    pub path: Path,
    /// When, since 1970 UTC.
    pub at: Duration,
    /// What, with secrets masked.
    pub message: Vec<u8>,
}

/// The packet. A message too long for one datagram loses its end.
pub fn pack(captured: &Captured, id: u32, password: Option<&Secret>) -> Vec<u8> {
    let Captured { path: Path { transport, from, to }, at, message } = captured;
    let mut packet = Packet(Vec::with_capacity(message.len().saturating_add(200)));
    packet.0.extend_from_slice(b"HEP3\0\0");
    // A socket of both families may have IPv4 peers.
    let (source, target) = (from.ip().to_canonical(), to.ip().to_canonical());
    match (source, target) {
        (IpAddr::V4(source), IpAddr::V4(target)) => {
            packet.add(chunk::FAMILY, &[FAMILIES.0]);
            packet.add(chunk::FROM_V4, &source.octets());
            packet.add(chunk::TO_V4, &target.octets());
        }
        (source, target) => {
            let six = |ip: IpAddr| match ip {
                IpAddr::V4(ip) => ip.to_ipv6_mapped(),
                IpAddr::V6(ip) => ip,
            };
            packet.add(chunk::FAMILY, &[FAMILIES.1]);
            packet.add(chunk::FROM_V6, &six(source).octets());
            packet.add(chunk::TO_V6, &six(target).octets());
        }
    }
    packet.add(chunk::PROTOCOL, &[protocol(*transport)]);
    packet.add(chunk::FROM_PORT, &from.port().to_be_bytes());
    packet.add(chunk::TO_PORT, &to.port().to_be_bytes());
    packet.add(chunk::SECONDS, &(at.as_secs() as u32).to_be_bytes());
    packet.add(chunk::MICROSECONDS, &at.subsec_micros().to_be_bytes());
    packet.add(chunk::KIND, &[SIP]);
    packet.add(chunk::AGENT, &id.to_be_bytes());
    if let Some(password) = password {
        packet.add(chunk::PASSWORD, password.reveal().as_bytes());
    }
    if let Some(call_id) = call_id(message) {
        packet.add(chunk::CORRELATION, call_id);
    }
    let room = MOST.saturating_sub(packet.0.len()).saturating_sub(6);
    packet.add(chunk::PAYLOAD, message.get(..room).unwrap_or(message));
    packet.whole()
}

/// The protocol below SIP, as IP numbers it; TLS and WebSockets are over TCP, and the payload here is in clear.
fn protocol(transport: Transport) -> u8 {
    match transport {
        Transport::Udp => 17,
        Transport::Tcp | Transport::Tls | Transport::Ws | Transport::Wss => 6,
    }
}

/// The Call-ID of a message: the two sides of a dialog are correlated by it.
fn call_id(message: &[u8]) -> Option<&[u8]> {
    let lines = message.split(|b| *b == b'\n').map(<[u8]>::trim_ascii_end).take_while(|line| !line.is_empty());
    let value = |line: &'_ [u8]| -> Option<usize> {
        let colon = line.iter().position(|b| *b == b':')?;
        let name = line.get(..colon)?.trim_ascii();
        (name.eq_ignore_ascii_case(b"call-id") || name.eq_ignore_ascii_case(b"i")).then_some(colon.saturating_add(1))
    };
    // What no Call-ID can be as long as (it would not fit its chunk) is no name for anything.
    let found = lines.skip(1).find_map(|line| line.get(value(line)?..))?.trim_ascii();
    (!found.is_empty() && found.len() <= 1_024).then_some(found)
}

struct Packet(Vec<u8>);

impl Packet {
    fn add(&mut self, kind: u16, value: &[u8]) {
        let length = u16::try_from(value.len().saturating_add(6)).unwrap_or(u16::MAX);
        self.0.extend_from_slice(&[0, 0]);
        self.0.extend_from_slice(&kind.to_be_bytes());
        self.0.extend_from_slice(&length.to_be_bytes());
        self.0.extend_from_slice(value);
    }

    /// With its length in the header.
    fn whole(mut self) -> Vec<u8> {
        let length = u16::try_from(self.0.len()).unwrap_or(u16::MAX).to_be_bytes();
        if let Some(place) = self.0.get_mut(4..6) {
            place.copy_from_slice(&length);
        }
        self.0
    }
}
