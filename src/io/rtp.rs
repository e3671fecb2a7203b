//! The sockets of a leg: an even port for RTP, the odd one above it for RTCP (RFC 3550 §11).

use crate::call::sdp::Keys;
use crate::io::clock;
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::ops::RangeInclusive;

/// A leg's two sockets, non-blocking, and what protects what goes through them.
pub struct LegSockets {
    /// RTP.
    pub rtp: UdpSocket,
    /// RTCP.
    pub rtcp: UdpSocket,
    /// Where RTP is received.
    pub local: SocketAddr,
    /// The keys agreed on; none: packets are plain.
    pub srtp: Option<Keys>,
}

/// Binds a free pair on `address` within `ports`, starting at a random place.
/// Fails with `AddrInUse` when none is free.
pub fn open(address: IpAddr, ports: &RangeInclusive<u16>) -> io::Result<LegSockets> {
    let first = ports.start().next_multiple_of(2);
    let pairs = (u32::from(*ports.end()) + 1).saturating_sub(u32::from(first)) / 2;
    let start = clock::random();
    for i in 0..pairs {
        let port = first + ((start.wrapping_add(u64::from(i)) % u64::from(pairs)) as u16) * 2;
        let (Ok(rtp), Ok(rtcp)) = (UdpSocket::bind((address, port)), UdpSocket::bind((address, port + 1))) else {
            continue;
        };
        rtp.set_nonblocking(true)?;
        rtcp.set_nonblocking(true)?;
        return Ok(LegSockets { local: rtp.local_addr()?, rtp, rtcp, srtp: None });
    }
    Err(io::Error::new(
        io::ErrorKind::AddrInUse,
        format!("no free pair of ports on {address} in [media] ports {}-{}", ports.start(), ports.end()),
    ))
}
