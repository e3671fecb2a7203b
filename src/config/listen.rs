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
    /// A WebSocket (RFC 7118).
    Ws,
    /// A WebSocket inside TLS.
    Wss,
}

impl Transport {
    /// Every one, by the name that addresses give it.
    pub const NAMES: [(&'static str, Transport); 5] = [
        ("udp", Transport::Udp),
        ("tcp", Transport::Tcp),
        ("tls", Transport::Tls),
        ("ws", Transport::Ws),
        ("wss", Transport::Wss),
    ];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Transport::Udp => "udp",
            Transport::Tcp => "tcp",
            Transport::Tls => "tls",
            Transport::Ws => "ws",
            Transport::Wss => "wss",
        }
    }

    /// Whether nobody on the way can read it.
    pub fn is_secure(self) -> bool {
        match self {
            Transport::Tls | Transport::Wss => true,
            Transport::Udp | Transport::Tcp | Transport::Ws => false,
        }
    }

    /// Whether messages travel in WebSockets.
    pub fn is_web(self) -> bool {
        match self {
            Transport::Ws | Transport::Wss => true,
            Transport::Udp | Transport::Tcp | Transport::Tls => false,
        }
    }

    /// The port that is meant where none is named (RFC 3261 §19.1.2, RFC 7118 §7).
    pub fn port(self) -> u16 {
        match self {
            Transport::Udp | Transport::Tcp => 5060,
            Transport::Tls => 5061,
            Transport::Ws => 80,
            Transport::Wss => 443,
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
