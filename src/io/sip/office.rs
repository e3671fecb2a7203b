//! One listening address: a SIP stack of its own, so that its Via and Contact always name the address that a peer
//! reached (the stack below advertises a single address each).

use crate::config::{Listen, Network, Transport};
use crate::io::sip::USER_AGENT;
use crate::io::sip::cloakroom::Cloakroom;
use crate::io::sip::datagrams::Datagrams;
use crate::io::sip::door::{Door, Origin};
use crate::io::sip::exchange::Exchange;
use crate::io::sip::flow::stack_transport;
use crate::io::sip::inspectors::Inspectors;
use crate::io::sip::message::parameter;
use crate::io::sip::resolve::Names;
use crate::io::sip::switchboard::Switchboard;
use crate::io::sip::threshold::Threshold;
use crate::io::sip::timer::Policy;
use crate::io::sip::tls::Certificates;
use rsipstack::EndpointBuilder;
use rsipstack::dialog::dialog_layer::DialogLayer;
use rsipstack::sip::prelude::HeadersExt;
use rsipstack::sip::{Auth, Host, Param, Response, Scheme, Uri};
use rsipstack::transaction::endpoint::{EndpointInnerRef, EndpointOption};
use rsipstack::transaction::{Endpoint, TransactionReceiver};
use rsipstack::transport::TransportLayer;
use rsipstack::transport::udp::UdpConnection;
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// Enough for a burst of some thousand requests while the machine is busy elsewhere.
const RECEIVE_BUFFER: usize = 4 << 20;
/// Peers of which we remember where they saw us; registrars and trunks, not telephones.
const MOST_SEEN: usize = 1024;

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

    /// How often a WebSocket is asked whether it stands: every 30 s, before NATs forget it.
    pub fn ping(&self) -> Duration {
        self.t1.saturating_mul(60)
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
    /// Peers that reach us by the address that we listen on.
    inside: Vec<Network>,
    /// Where peers that answered us saw us, by their address: behind a NAT that is not where we are.
    seen: Mutex<HashMap<IpAddr, SocketAddr>>,
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
        let names = Names { resolver: board.resolver.clone(), transport: Transport::Udp, ipv4: local.is_ipv4() };
        let layer = TransportLayer::new_with_domain_resolver(stop.child_token(), Box::new(names));
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
            Transport::Tcp | Transport::Ws => {
                Ground::of_connections(listen, board, None, timers, threshold.clone(), stop).await?
            }
            Transport::Tls | Transport::Wss => {
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
        let office = Office {
            endpoint: inner,
            dialogs,
            local: ground.local,
            transport: listen.transport,
            timers,
            policy,
            external,
            inside: board.config.sip.reach.local_networks.clone(),
            seen: Mutex::default(),
            carrier: ground.carrier,
        };
        Ok((Arc::new(office), endpoint, incoming))
    }

    /// Connections that stand.
    pub fn connections(&self) -> usize {
        match &self.carrier {
            Carrier::Datagrams(_) => 0,
            Carrier::Connections(exchange) => exchange.connections(),
        }
    }

    /// Its connections, where it has any.
    pub fn exchange(&self) -> Option<&Arc<Exchange>> {
        match &self.carrier {
            Carrier::Datagrams(_) => None,
            Carrier::Connections(exchange) => Some(exchange),
        }
    }

    /// A peer's answer tells where it saw us (RFC 3581 §4); whether that is news. Only what it is told itself depends on it.
    /// Connections go by their own way back.
    pub fn learn(&self, peer: IpAddr, response: &Response) -> bool {
        if self.transport != Transport::Udp {
            return false;
        }
        let Some(seen) = response.via_header().ok().and_then(|via| seen(via.value(), self.local)) else { return false };
        let mut all = self.seen();
        let known = all.get(&peer).copied().unwrap_or(self.local);
        if known == seen || (all.len() >= MOST_SEEN && !all.contains_key(&peer)) {
            return false;
        }
        all.insert(peer, seen);
        true
    }

    fn seen(&self) -> MutexGuard<'_, HashMap<IpAddr, SocketAddr>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where a request came from.
    pub fn origin(&self, address: SocketAddr) -> Origin {
        let of_connection = match &self.carrier {
            Carrier::Datagrams(_) => None,
            Carrier::Connections(exchange) => exchange.origin(address),
        };
        of_connection.unwrap_or(Origin { address, certified: None })
    }

    /// The address at which `peer` reaches us, for SDP.
    pub fn address_for(&self, peer: IpAddr) -> IpAddr {
        self.place_for(peer).ip()
    }

    /// Where `peer` reaches us: as the configuration has it, as the peer itself has seen it, or where we are.
    fn place_for(&self, peer: IpAddr) -> SocketAddr {
        let port = self.local.port();
        let external = self.external.filter(|_| !self.inside.iter().any(|network| network.contains(peer)));
        if let Some(ip) = external {
            return SocketAddr::new(ip, port);
        }
        if self.external.is_none()
            && let Some(seen) = self.seen().get(&peer)
        {
            return *seen;
        }
        match self.local.ip() {
            ip if ip.is_unspecified() => SocketAddr::new(route_to(peer).unwrap_or(ip), port),
            ip => SocketAddr::new(ip, port),
        }
    }

    /// Whether an address of SIP is this one.
    pub fn is_at(&self, uri: &Uri) -> bool {
        let Host::IpAddr(ip) = uri.host() else { return false };
        let usual = self.transport.port();
        let port = uri.host_with_port.port.map_or(usual, |port| port.0);
        let listens = self.local.ip() == *ip || self.local.ip().is_unspecified() && route_to(*ip) == Some(*ip);
        port == self.local.port() && (listens || self.external == Some(*ip))
    }

    /// Our Contact for `peer`.
    pub fn contact_for(&self, peer: IpAddr) -> Uri {
        Uri {
            scheme: Some(Scheme::Sip),
            auth: Some(Auth { user: "sotto".into(), password: None }),
            host_with_port: self.place_for(peer).into(),
            // RFC 3261 §19.1.1: without it UDP is meant.
            params: match self.transport {
                Transport::Udp => Vec::new(),
                Transport::Tcp | Transport::Tls => vec![Param::Transport(stack_transport(self.transport))],
                // RFC 7118 §5.3: one name for both.
                Transport::Ws | Transport::Wss => vec![Param::Transport(stack_transport(Transport::Ws))],
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

/// Where the peer saw us that answered with this Via, if it says so; `local` fills in what it leaves out.
fn seen(via: &str, local: SocketAddr) -> Option<SocketAddr> {
    let received = parameter(via, "received").and_then(|ip| ip.trim_matches(['[', ']']).parse::<IpAddr>().ok());
    let port = parameter(via, "rport").and_then(|port| port.parse::<u16>().ok()).filter(|port| *port != 0);
    let ip = received.unwrap_or(local.ip());
    let usable = !ip.is_unspecified() && ip.is_ipv4() == local.is_ipv4() && (received.is_some() || port.is_some());
    usable.then(|| SocketAddr::new(ip, port.unwrap_or(local.port())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_via_tells_where_we_were_seen() {
        let local: SocketAddr = "192.168.1.5:5060".parse().unwrap();
        for (parameters, place) in [
            (";received=203.0.113.9;rport=40000", Some("203.0.113.9:40000")),
            (";received=203.0.113.9;rport", Some("203.0.113.9:5060")),
            (";rport=5060", Some("192.168.1.5:5060")),
            (";rport", None),
            ("", None),
            (";received=0.0.0.0;rport=1", None),
            (";received=2001:db8::1;rport=1", None),
            (";received=nonsense;rport=0", None),
        ] {
            let via = format!("SIP/2.0/UDP 192.168.1.5:5060;branch=z9hG4bK1{parameters}");
            assert_eq!(seen(&via, local), place.map(|place| place.parse().unwrap()), "{parameters}");
        }
    }
}
