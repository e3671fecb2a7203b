//! Where SIP is spoken: a transport and an address.

use std::fmt;
use std::net::SocketAddr;

/// How SIP messages travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Transport {
    /// A datagram for each message.
    Udp,
    /// A stream (RFC 3261 §18).
    Tcp,
    /// A stream inside TLS (RFC 3261 §26.2.1).
    Tls,
}

impl Transport {
    /// Every one, by the name that addresses and URIs give it.
    pub const NAMES: [(&'static str, Transport); 3] =
        [("udp", Transport::Udp), ("tcp", Transport::Tcp), ("tls", Transport::Tls)];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Transport::Udp => "udp",
            Transport::Tcp => "tcp",
            Transport::Tls => "tls",
        }
    }
}

/// One entry of `[sip] listen`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listen {
    /// How messages travel.
    pub transport: Transport,
    /// Where it is bound; port 0 picks one.
    pub address: SocketAddr,
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.transport.name(), self.address)
    }
}
