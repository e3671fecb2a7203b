//! One listening address: a SIP stack of its own, so that its Via and Contact always name the address that a peer
//! reached (the stack below advertises a single address each).

use crate::config::{Listen, Transport};
use crate::io::sip::USER_AGENT;
use crate::io::sip::cloakroom::Cloakroom;
use crate::io::sip::datagrams::Datagrams;
use crate::io::sip::door::{Door, Origin};
use crate::io::sip::exchange::Exchange;
use crate::io::sip::flow::stack_transport;
use crate::io::sip::inspectors::Inspectors;
use crate::io::sip::switchboard::Switchboard;
use crate::io::sip::threshold::Threshold;
use crate::io::sip::timer::Policy;
use crate::io::sip::tls::Certificates;
use rsipstack::EndpointBuilder;
use rsipstack::dialog::dialog_layer::DialogLayer;
use rsipstack::sip::uri::ParamsExt;
use rsipstack::sip::{Auth, Host, Param, Scheme, Uri};
use rsipstack::transaction::endpoint::{EndpointInnerRef, EndpointOption};
use rsipstack::transaction::{Endpoint, TransactionReceiver};
use rsipstack::transport::TransportLayer;
use rsipstack::transport::udp::UdpConnection;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
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

    /// How long a connection may take over one message, in either direction: 10 s.
    pub fn whole(&self) -> Duration {
        self.t1.saturating_mul(20)
    }

    /// How long a nonce can be used: a minute.
    pub fn nonce_life(&self) -> Duration {
        self.t1.saturating_mul(120)
    }

    /// How long a connection stays on which nothing that we serve has come: 30 s.
    pub fn unproven(&self) -> Duration {
        self.t1.saturating_mul(60)
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
    /// How its messages travel.
    pub transport: Transport,
    /// Its timers.
    pub timers: Timers,
    /// What its lines want of session timers.
    pub policy: Policy,
    external: Option<IpAddr>,
    carrier: Carrier,
}

/// What carries the messages of an office.
enum Carrier {
    Datagrams(Arc<Door>),
    Connections(Arc<Exchange>),
}

/// What an office stands on.
struct Ground {
    local: SocketAddr,
    layer: TransportLayer,
    carrier: Carrier,
}

impl Ground {
    async fn of_datagrams(
        listen: Listen,
        board: &Arc<Switchboard>,
        bodies: Cloakroom,
        threshold: Threshold,
        stop: &CancellationToken,
    ) -> io::Result<Ground> {
        let socket = bind(listen.address)?;
        let local = socket.local_addr()?;
        let advertised = external(board, local).map(|ip| SocketAddr::new(ip, local.port()));
        let door = Arc::new(Door::new(Arc::downgrade(board)));
        let layer = TransportLayer::new(stop.child_token());
        let copies = board.host.mirror.clone();
        let datagrams = Arc::new(Datagrams::new(socket, local, door.clone(), bodies, threshold, copies));
        let udp = UdpConnection::from_socket(datagrams, advertised, Some(stop.child_token())).await;
        layer.add_transport(udp.map_err(io::Error::other)?.into());
        Ok(Ground { local, layer, carrier: Carrier::Datagrams(door) })
    }

    async fn of_connections(
        listen: Listen,
        board: &Arc<Switchboard>,
        certificates: Option<Arc<Certificates>>,
        timers: Timers,
        threshold: Threshold,
        stop: &CancellationToken,
    ) -> io::Result<Ground> {
        let listener = TcpListener::bind(listen.address).await?;
        let local = listener.local_addr()?;
        let advertised = SocketAddr::new(external(board, local).unwrap_or(local.ip()), local.port());
        let bound = Listen { address: local, ..listen };
        let opened = Exchange::open(bound, advertised, board, certificates, timers, threshold, stop).await;
        let (exchange, layer) = opened.map_err(io::Error::other)?;
        tokio::spawn(exchange.clone().accept(listener));
        Ok(Ground { local, layer, carrier: Carrier::Connections(exchange) })
    }
}

/// What peers reach an address by, where that is not the address itself.
fn external(board: &Switchboard, local: SocketAddr) -> Option<IpAddr> {
    board.config.sip.external_address.filter(|ip| ip.is_ipv4() == local.is_ipv4())
}

impl Office {
    /// Binds `listen` and makes a stack for it. What arrives comes out of the receiver once the endpoint is served.
    pub async fn open(
        listen: Listen,
        board: &Arc<Switchboard>,
        certificates: Option<Arc<Certificates>>,
        timers: Timers,
        stop: &CancellationToken,
    ) -> io::Result<(Arc<Office>, Endpoint, TransactionReceiver)> {
        let (bodies, threshold) = (Cloakroom::default(), Threshold::default());
        let ground = match listen.transport {
            Transport::Udp => Ground::of_datagrams(listen, board, bodies.clone(), threshold.clone(), stop).await?,
            Transport::Tcp => Ground::of_connections(listen, board, None, timers, threshold.clone(), stop).await?,
            Transport::Tls => {
                Ground::of_connections(listen, board, certificates, timers, threshold.clone(), stop).await?
            }
        };
        let endpoint = EndpointBuilder::new()
            .with_cancel_token(stop.clone())
            .with_transport_layer(ground.layer)
            .with_transport_inspector(Box::new(threshold))
            .with_inspector(Box::new(Inspectors::new(bodies)))
            .with_user_agent(USER_AGENT)
            .with_option(options(timers))
            .build();
        let inner = endpoint.inner.clone();
        match &ground.carrier {
            Carrier::Datagrams(door) => door.attach(Arc::downgrade(&inner)),
            Carrier::Connections(exchange) => exchange.attach(Arc::downgrade(&inner)),
        }
        let incoming = endpoint.incoming_transactions().map_err(io::Error::other)?;
        let dialogs = Arc::new(DialogLayer::new(inner.clone()));
        let external = external(board, ground.local);
        let policy = Policy::from(&board.config.sip);
        let (transport, local, carrier) = (listen.transport, ground.local, ground.carrier);
        Ok((
            Arc::new(Office { endpoint: inner, dialogs, transport, local, timers, policy, external, carrier }),
            endpoint,
            incoming,
        ))
    }

    /// Connections that stand.
    pub fn connections(&self) -> usize {
        match &self.carrier {
            Carrier::Datagrams(_) => 0,
            Carrier::Connections(exchange) => exchange.connections(),
        }
    }

    /// Where a request came from.
    pub fn origin(&self, address: SocketAddr) -> Origin {
        let of_connection = match &self.carrier {
            Carrier::Datagrams(_) => None,
            Carrier::Connections(exchange) => exchange.origin(address),
        };
        of_connection.unwrap_or(Origin { address, certified: None })
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
            // RFC 3261 §19.1.1: without it UDP is meant.
            params: match self.transport {
                Transport::Udp => Vec::new(),
                Transport::Tcp | Transport::Tls => vec![Param::Transport(stack_transport(self.transport))],
            },
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

/// Of `offices`, the one that can reach `target`: `near` where it can, else the first of the same address family and
/// transport. A target that names no transport is reached by UDP (RFC 3263 §4.1), or, without that, as `near` is.
pub fn able_to_reach(offices: &[Arc<Office>], near: &Arc<Office>, target: &Uri) -> Option<Arc<Office>> {
    let family = |o: &Arc<Office>| match target.host() {
        Host::IpAddr(ip) => o.local.is_ipv4() == ip.is_ipv4(),
        Host::Domain(_) => true,
    };
    let all = || [near].into_iter().chain(offices).filter(|o| family(o));
    match target.transport() {
        Some(asked) => all().find(|o| stack_transport(o.transport) == *asked).cloned(),
        None => all().find(|o| o.transport == Transport::Udp).or_else(|| all().next()).cloned(),
    }
}
