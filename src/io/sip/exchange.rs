//! The connections of one listening address: those that are made to it, and those that it makes.
//!
//! The stack sends every request that belongs to no connection to one place, ours; here it is decided which connection
//! carries it, or one is made. Thus no connection of the stack's own exists, and nothing comes in unguarded.

use crate::config::Listen;
use crate::io::hep::Mirror;
use crate::io::sip::door::{Door, Origin};
use crate::io::sip::flow::{Flow, sip_address};
use crate::io::sip::message::parameter;
use crate::io::sip::office::Timers;
use crate::io::sip::switchboard::Switchboard;
use crate::io::sip::threshold::Threshold;
use crate::io::sip::tls::Certificates;
use crate::io::sip::web;
use rsipstack::sip::prelude::HeadersExt;
use rsipstack::sip::{Method, Request, SipMessage, StatusCode};
use rsipstack::transaction::endpoint::EndpointInner;
use rsipstack::transport::channel::ChannelConnection;
use rsipstack::transport::connection::{TransportEvent, TransportReceiver, TransportSender};
use rsipstack::transport::{SipConnection, TransportLayer};
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Connections at once.
const MAX_FLOWS: usize = 2048;
/// Connections at once from one address; a proxy opens a few, and many telephones can be behind one.
const MAX_OF_ONE: usize = 256;
/// The same from an address that belongs to no trunk.
const MAX_OF_STRANGER: usize = 32;
/// How long a connection may take to be made, TLS included.
const CONNECT: Duration = Duration::from_secs(5);
/// Until the next attempt when the kernel has no room for a connection.
const BREATHER: Duration = Duration::from_millis(100);

/// The connections of one listening address.
pub struct Exchange {
    /// Where it listens, as bound.
    pub listen: Listen,
    /// Judges what comes.
    pub door: Door,
    /// The calls.
    pub board: Weak<Switchboard>,
    /// Ends every connection.
    pub stop: CancellationToken,
    /// How long peers may take.
    pub timers: Timers,
    /// What lies before the stack.
    pub threshold: Threshold,
    /// Where copies of messages go.
    pub copies: Mirror,
    certificates: Option<Arc<Certificates>>,
    hub: ChannelConnection,
    events: TransportSender,
    endpoint: OnceLock<Weak<EndpointInner>>,
    flows: Mutex<Flows>,
    /// Connections being made, so that a burst of calls to one place makes one.
    dialling: Mutex<HashMap<Place, Arc<tokio::sync::Mutex<()>>>>,
    /// The connections of calls that are being made, by Call-ID: until their first answer nothing else tells it.
    steered: Mutex<HashMap<String, SipConnection>>,
}

/// While it is there, requests of a Call-ID go by the connection that was chosen for them.
pub struct Steered {
    exchange: Arc<Exchange>,
    call_id: String,
}

impl Drop for Steered {
    fn drop(&mut self) {
        self.exchange.steered.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.call_id);
    }
}

/// Whom a connection was made to: its address, and the name it was known by.
type Place = (SocketAddr, String);

#[derive(Default)]
struct Flows {
    accepted: HashMap<SocketAddr, Arc<Flow>>,
    dialled: HashMap<Place, Arc<Flow>>,
    /// Connections accepted from each address, from before their TLS on.
    seats: HashMap<IpAddr, usize>,
}

/// A connection's place among those from its address; given back when dropped.
struct Seat {
    exchange: Arc<Exchange>,
    ip: IpAddr,
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut flows = self.exchange.flows();
        if let Some(count) = flows.seats.get_mut(&self.ip) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                flows.seats.remove(&self.ip);
            }
        }
    }
}

impl Exchange {
    /// An exchange whose Via names `advertised`, with the stack's transport layer over it.
    pub async fn open(
        listen: Listen,
        advertised: SocketAddr,
        board: &Arc<Switchboard>,
        certificates: Option<Arc<Certificates>>,
        timers: Timers,
        threshold: Threshold,
        stop: &CancellationToken,
    ) -> rsipstack::Result<(Arc<Exchange>, TransportLayer)> {
        let (events, told) = mpsc::unbounded_channel();
        let (to_us, requests) = mpsc::unbounded_channel();
        let address = sip_address(listen.transport, advertised);
        let hub = ChannelConnection::create_connection(told, to_us, address.clone(), None).await?;
        let mut layer = TransportLayer::new(stop.child_token());
        layer.outbound = Some(address);
        layer.add_transport(hub.clone().into());
        layer.add_connection(hub.clone().into());
        let exchange = Arc::new(Exchange {
            listen,
            door: Door::new(Arc::downgrade(board)).for_streams(listen.transport.is_secure()),
            board: Arc::downgrade(board),
            stop: stop.child_token(),
            timers,
            threshold,
            copies: board.host.mirror.clone(),
            certificates,
            hub,
            events,
            endpoint: OnceLock::new(),
            flows: Mutex::default(),
            dialling: Mutex::default(),
            steered: Mutex::default(),
        });
        tokio::spawn(exchange.clone().dispatch(requests));
        Ok((exchange, layer))
    }

    /// Names the stack whose transactions count.
    pub fn attach(&self, endpoint: Weak<EndpointInner>) {
        let _ = self.endpoint.set(endpoint.clone());
        self.door.attach(endpoint);
    }

    /// Tells the stack.
    pub fn tell(&self, event: TransportEvent) {
        // The stack is gone only when everything is.
        let _ = self.events.send(event);
    }

    /// Connections that stand.
    pub fn connections(&self) -> usize {
        let flows = self.flows();
        flows.accepted.len().saturating_add(flows.dialled.len())
    }

    /// Whose connection has this far end.
    pub fn origin(&self, address: SocketAddr) -> Option<Origin> {
        let flows = self.flows();
        let dialled = || flows.dialled.iter().find(|((to, _), _)| *to == address).map(|(_, flow)| flow);
        flows.accepted.get(&address).or_else(dialled).map(|flow| flow.origin)
    }

    /// A connection begins; `dialled` is the name we called.
    pub fn remember(&self, flow: &Arc<Flow>, dialled: Option<&str>) {
        let (mut flows, address) = (self.flows(), flow.origin.address);
        match dialled {
            Some(name) => drop(flows.dialled.insert((address, name.to_owned()), flow.clone())),
            None => drop(flows.accepted.insert(address, flow.clone())),
        }
    }

    /// A connection is over.
    pub fn forget(&self, flow: &Flow) {
        let ended = |other: &Arc<Flow>| std::ptr::eq(Arc::as_ptr(other), flow);
        let mut flows = self.flows();
        flows.accepted.retain(|_, other| !ended(other));
        flows.dialled.retain(|_, other| !ended(other));
    }

    fn flows(&self) -> MutexGuard<'_, Flows> {
        self.flows.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes connections until everything stops.
    pub async fn accept(self: Arc<Self>, listener: TcpListener) {
        while let Some(accepted) = self.stop.run_until_cancelled(listener.accept()).await {
            match accepted {
                Ok((stream, from)) => {
                    if let Some(seat) = self.seat(from.ip()) {
                        tokio::spawn(self.clone().greet(stream, from, seat));
                    }
                }
                Err(error) => {
                    tracing::warn!(listen = %self.listen, %error, "a connection could not be taken");
                    tokio::time::sleep(BREATHER).await;
                }
            }
        }
    }

    /// A place for a connection from `ip`. None: there are enough.
    fn seat(self: &Arc<Self>, ip: IpAddr) -> Option<Seat> {
        let known = self.board.upgrade().is_some_and(|board| board.trunk(ip).is_some());
        let most = if known { MAX_OF_ONE } else { MAX_OF_STRANGER };
        let mut flows = self.flows();
        if flows.seats.values().sum::<usize>() >= MAX_FLOWS {
            tracing::warn!(listen = %self.listen, "a SIP connection is refused: there are {MAX_FLOWS}");
            return None;
        }
        let count = flows.seats.entry(ip).or_default();
        if *count >= most {
            return None;
        }
        *count += 1;
        drop(flows);
        Some(Seat { exchange: self.clone(), ip })
    }

    async fn greet(self: Arc<Self>, stream: TcpStream, from: SocketAddr, seat: Seat) {
        let Ok(opened) = tokio::time::timeout(CONNECT, self.accepted(stream, from)).await else {
            return tracing::info!(peer = %from, "a SIP connection did not come about in time");
        };
        match opened {
            Ok(flow) => flow.over().await,
            Err(error) => tracing::info!(peer = %from, %error, "a SIP connection did not come about"),
        }
        drop(seat);
    }

    async fn accepted(self: &Arc<Self>, stream: TcpStream, from: SocketAddr) -> io::Result<Arc<Flow>> {
        prepare(&stream)?;
        match &self.certificates {
            None => self.serve(stream, Origin { address: from, certified: None }).await,
            Some(certificates) => {
                let (stream, certified) = certificates.accept(stream).await?;
                self.serve(stream, Origin { address: from, certified }).await
            }
        }
    }

    /// Serves what is inside of a connection that was made to us.
    async fn serve<S: Stream>(self: &Arc<Self>, stream: S, origin: Origin) -> io::Result<Arc<Flow>> {
        if !self.listen.transport.is_web() {
            return Flow::open(stream, origin, None, self).await.map_err(io::Error::other);
        }
        let pages = self.board.upgrade().map(|board| board.config.sip.reach.origins.clone());
        let socket = web::accept(stream, &pages.unwrap_or_default()).await?;
        web::open(socket, origin, None, self).await.map_err(io::Error::other)
    }

    /// What the stack sends without naming a connection.
    async fn dispatch(self: Arc<Self>, mut requests: TransportReceiver) {
        while let Some(event) = requests.recv().await {
            let TransportEvent::Incoming(SipMessage::Request(request), ..) = event else { continue };
            if let Some(connection) = self.led(&request)
                && connection.send(request.clone().into(), None).await.is_ok()
            {
                continue;
            }
            tokio::spawn(self.clone().deliver(request));
        }
    }

    /// Requests of a Call-ID go by this connection until what is given back is dropped, or their dialog has another.
    pub fn steer(self: &Arc<Self>, call_id: &str, connection: SipConnection) -> Steered {
        let mut steered = self.steered.lock().unwrap_or_else(PoisonError::into_inner);
        steered.insert(call_id.to_owned(), connection);
        Steered { exchange: self.clone(), call_id: call_id.to_owned() }
    }

    /// The connection that the dialog of a request goes by.
    fn led(&self, request: &Request) -> Option<SipConnection> {
        let call_id = request.call_id_header().ok()?.value();
        let tag = parameter(request.from_header().ok()?.value(), "tag")?;
        let of_line = self.board.upgrade()?.line(call_id, tag).and_then(|line| line.flow());
        let steered = || self.steered.lock().unwrap_or_else(PoisonError::into_inner).get(call_id).cloned();
        of_line.or_else(steered)
    }

    /// Takes a request where its first Route or its URI says, the way RFC 3263 §4.3 says.
    async fn deliver(self: Arc<Self>, request: Request) {
        let target = request.destination();
        let host = target.host().to_string();
        let mut why = io::Error::other("its address is of another family than ours, or has none");
        let Some(board) = self.board.upgrade() else { return };
        let found = board.resolver.hops(&target, &[self.listen.transport]).await;
        for hop in found.into_iter().filter(|hop| hop.address.is_ipv4() == self.listen.address.is_ipv4()) {
            match self.reach(hop.address, &host).await {
                Ok(flow) => return drop(flow.connection().send(request.into(), None).await),
                Err(error) => why = error,
            }
        }
        tracing::warn!(peer = %host, error = %why, "a SIP connection could not be made");
        self.refuse(&request);
    }

    /// RFC 3261 §8.1.3.1: what cannot be sent is taken for a 503.
    fn refuse(&self, request: &Request) {
        let endpoint = self.endpoint.get().and_then(Weak::upgrade);
        if let Some(endpoint) = endpoint.filter(|_| request.method != Method::Ack) {
            let response = endpoint.make_response(request, StatusCode::ServiceUnavailable, None);
            let from = sip_address(self.listen.transport, self.listen.address);
            self.tell(TransportEvent::Incoming(response.into(), self.hub.clone().into(), from));
        }
    }

    /// The connection to an address: the one that stands, or a new one.
    pub async fn reach(self: &Arc<Self>, address: SocketAddr, host: &str) -> io::Result<Arc<Flow>> {
        if let Some(flow) = self.standing(address, host) {
            return Ok(flow);
        }
        let place = (address, host.to_owned());
        let turn = {
            let mut dialling = self.dialling.lock().unwrap_or_else(PoisonError::into_inner);
            dialling.retain(|_, turn| Arc::strong_count(turn) > 1);
            dialling.entry(place).or_default().clone()
        };
        let _turn = turn.lock().await;
        if let Some(flow) = self.standing(address, host) {
            return Ok(flow);
        }
        let dialled = tokio::time::timeout(CONNECT, self.dial(address, host)).await;
        dialled.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
    }

    /// A connection to that name at that address. Where only an address is asked for, what was proven under a name
    /// serves as well: the peer named the address within that connection.
    fn standing(&self, address: SocketAddr, host: &str) -> Option<Arc<Flow>> {
        let is_address = host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok();
        let flows = self.flows();
        let mut dialled = flows.dialled.iter().filter(|((to, name), _)| *to == address && (is_address || name == host));
        let accepted = || flows.accepted.get(&address).filter(|_| is_address);
        dialled.next().map(|(_, flow)| flow).or_else(accepted).filter(|flow| flow.is_open()).cloned()
    }

    async fn dial(self: &Arc<Self>, address: SocketAddr, host: &str) -> io::Result<Arc<Flow>> {
        let stream = TcpStream::connect(address).await?;
        prepare(&stream)?;
        match &self.certificates {
            None => self.use_of(stream, Origin { address, certified: None }, host).await,
            Some(certificates) => {
                let (stream, certified) = certificates.connect(stream, host).await?;
                self.use_of(stream, Origin { address, certified }, host).await
            }
        }
    }

    /// Uses what is inside of a connection that we made.
    async fn use_of<S: Stream>(self: &Arc<Self>, stream: S, origin: Origin, host: &str) -> io::Result<Arc<Flow>> {
        if !self.listen.transport.is_web() {
            return Flow::open(stream, origin, Some(host), self).await.map_err(io::Error::other);
        }
        let socket = web::connect(stream, origin.address, self.listen.transport.is_secure()).await?;
        web::open(socket, origin, Some(host), self).await.map_err(io::Error::other)
    }
}

/// What connections are made of, TLS or not.
trait Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> Stream for S {}

/// Small messages go at once, and a peer that is gone without a word is noticed within two minutes.
fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let keepalive = socket2::TcpKeepalive::new().with_time(Duration::from_secs(60));
    let keepalive = keepalive.with_interval(Duration::from_secs(15)).with_retries(4);
    socket2::SockRef::from(stream).set_tcp_keepalive(&keepalive)
}
