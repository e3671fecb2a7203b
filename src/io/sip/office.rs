//! One listening address: a SIP stack of its own, so that its Via and Contact always name the address that a peer
//! reached (the stack below advertises a single address each).

use crate::io::sip::USER_AGENT;
use crate::io::sip::cloakroom::Cloakroom;
use crate::io::sip::door::Door;
use crate::io::sip::reliable::Hide;
use crate::io::sip::switchboard::Switchboard;
use crate::io::sip::timer::Policy;
use rsipstack::EndpointBuilder;
use rsipstack::dialog::dialog_layer::DialogLayer;
use rsipstack::sip::{Auth, Scheme, Uri};
use rsipstack::transaction::endpoint::{EndpointInnerRef, EndpointOption};
use rsipstack::transaction::{Endpoint, TransactionReceiver};
use rsipstack::transport::TransportLayer;
use rsipstack::transport::udp::UdpConnection;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Enough for a burst of some thousand requests while the machine is busy elsewhere.
const RECEIVE_BUFFER: usize = 4 << 20;

/// The timers of RFC 3261 §17.1.1.1 that all others follow from.
#[derive(Clone, Copy, Debug)]
pub struct Timers {
    /// The round trip that is reckoned with; requests are given up after 64 of them.
    pub t1: Duration,
    /// What session timers (RFC 4028) count in; a test has shorter seconds than a telephone.
    pub second: Duration,
}

impl Default for Timers {
    fn default() -> Self {
        Timers { t1: Duration::from_millis(500), second: Duration::from_secs(1) }
    }
}

impl Timers {
    /// How long a request or a 2xx is repeated (64 × T1).
    pub fn patience(&self) -> Duration {
        self.t1.saturating_mul(64)
    }
}

/// One listening address.
pub struct Office {
    /// The stack.
    pub endpoint: EndpointInnerRef,
    /// Its dialogs.
    pub dialogs: Arc<DialogLayer>,
    /// Where it listens.
    pub local: SocketAddr,
    /// Its timers.
    pub timers: Timers,
    /// What its lines want of session timers.
    pub policy: Policy,
    external: Option<IpAddr>,
}

impl Office {
    /// Binds `listen` and makes a stack for it. What arrives comes out of the receiver once the endpoint is served.
    pub async fn open(
        listen: SocketAddr,
        board: &Arc<Switchboard>,
        timers: Timers,
        stop: &CancellationToken,
    ) -> io::Result<(Arc<Office>, Endpoint, TransactionReceiver)> {
        let socket = bind(listen)?;
        let local = socket.local_addr()?;
        let external = board.config.sip.external_address.filter(|ip| ip.is_ipv4() == local.is_ipv4());
        let bodies = Cloakroom::default();
        let door = Arc::new(Door::new(socket, Arc::downgrade(board), bodies.clone()));
        let advertised = external.map(|ip| SocketAddr::new(ip, local.port()));
        let layer = TransportLayer::new(stop.child_token());
        let udp = UdpConnection::from_socket(door.clone(), advertised, Some(stop.child_token())).await;
        layer.add_transport(udp.map_err(io::Error::other)?.into());
        let endpoint = EndpointBuilder::new()
            .with_cancel_token(stop.clone())
            .with_transport_layer(layer)
            .with_user_agent(USER_AGENT)
            .with_inspector(Box::new(bodies))
            .with_option(options(timers))
            .with_inspector(Box::new(Hide))
            .build();
        let inner = endpoint.inner.clone();
        door.attach(Arc::downgrade(&inner));
        let incoming = endpoint.incoming_transactions().map_err(io::Error::other)?;
        let policy = Policy::from(&board.config.sip);
        let dialogs = Arc::new(DialogLayer::new(inner.clone()));
        Ok((Arc::new(Office { endpoint: inner, dialogs, local, timers, policy, external }), endpoint, incoming))
    }

    /// The address at which `peer` reaches us, for SDP and Contact.
    pub fn address_for(&self, peer: IpAddr) -> IpAddr {
        self.external.unwrap_or_else(|| match self.local.ip() {
            ip if ip.is_unspecified() => route_to(peer).unwrap_or(ip),
            ip => ip,
        })
    }

    /// Our Contact for `peer`.
    pub fn contact_for(&self, peer: IpAddr) -> Uri {
        Uri {
            scheme: Some(Scheme::Sip),
            auth: Some(Auth { user: "sotto".into(), password: None }),
            host_with_port: SocketAddr::new(self.address_for(peer), self.local.port()).into(),
            ..Uri::default()
        }
    }
}

fn options(timers: Timers) -> EndpointOption {
    EndpointOption {
        t1: timers.t1,
        t1x64: timers.patience(),
        // Call-IDs carry no host name of ours.
        callid_suffix: Some("sotto".into()),
        ..EndpointOption::default()
    }
}

fn bind(listen: SocketAddr) -> io::Result<tokio::net::UdpSocket> {
    let domain = if listen.is_ipv4() { socket2::Domain::IPV4 } else { socket2::Domain::IPV6 };
    let socket = socket2::Socket::new(domain, socket2::Type::DGRAM, None)?;
    socket.set_nonblocking(true)?;
    // A smaller buffer than wished for works too.
    let _ = socket.set_recv_buffer_size(RECEIVE_BUFFER);
    socket.bind(&listen.into())?;
    tokio::net::UdpSocket::from_std(socket.into())
}

/// The address the kernel would send from. Connecting a UDP socket sends nothing.
fn route_to(peer: IpAddr) -> Option<IpAddr> {
    let any: IpAddr = if peer.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = std::net::UdpSocket::bind((any, 0)).ok()?;
    socket.connect((peer, 9)).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

/// Of `offices`, the one that can reach `peer`: `near` where it can, else the first of the same address family.
pub fn able_to_reach(offices: &[Arc<Office>], near: &Arc<Office>, peer: Option<IpAddr>) -> Option<Arc<Office>> {
    let Some(peer) = peer else { return Some(near.clone()) };
    let able = |o: &&Arc<Office>| o.local.is_ipv4() == peer.is_ipv4();
    [near].into_iter().chain(offices).find(able).cloned()
}
