//! One connection that carries SIP: TCP, or what is inside of TLS. What a WebSocket makes of one is `web`.
//!
//! ```text
//! peer ─► read: framed, judged at the door ─┬─► stack
//!                                            └─► refused, pong ─┐
//! peer ◄─ write: a backlog with a bound ◄────── stack ◄─────────┘
//! ```
//!
//! Reading and writing are tasks of their own, and neither holds anybody else: who sends and never reads waits for
//! itself, until its backlog is full or nothing moves any more, and then its connection goes.

use crate::config::Transport;
use crate::io::hep::{Mirror, Path};
use crate::io::sip::door::{Origin, Verdict};
use crate::io::sip::exchange::Exchange;
use crate::io::sip::frame::{Frame, Framer};
use bytes::{Buf, BytesMut};
use rsipstack::sip::prelude::HeadersExt;
use rsipstack::sip::{HostWithPort, SipMessage};
use rsipstack::transport::channel::ChannelConnection;
use rsipstack::transport::connection::{TransportEvent, TransportReceiver};
use rsipstack::transport::{SipAddr, SipConnection};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// How long a connection stays on which nothing comes any more. What is lost with a dead peer the kernel notices
/// earlier; RFC 5923 leaves the rest to us, and a call may say nothing for an hour.
const IDLE: Duration = Duration::from_secs(2 * 3600);
/// Bytes that may wait to be written: some hundred messages.
pub(super) const BACKLOG: usize = 256 * 1024;
/// Answers of the door that wait to be written. When it is full the connection is not read.
const ANSWERS: usize = 16;
/// Bytes read at once.
pub(super) const CHUNK: usize = 16 * 1024;

/// One connection.
pub struct Flow {
    /// Whose it is.
    pub origin: Origin,
    channel: ChannelConnection,
    answers: mpsc::Sender<Vec<u8>>,
    pub(super) gone: CancellationToken,
    /// Whether something came on it that we serve.
    proven: AtomicBool,
}

/// What is to be written on a connection.
pub(super) struct Outlet {
    /// The door's answers.
    pub answers: mpsc::Receiver<Vec<u8>>,
    /// The stack's messages. There is no bound: the writer takes all that comes at once and keeps the bound.
    pub messages: TransportReceiver,
    /// Who gets a copy of the stack's, and on which way they are.
    pub copies: Mirror,
    pub path: Path,
}

/// Why a connection ended; peers are not to blame for the first.
#[derive(Debug, thiserror::Error)]
pub(super) enum Over {
    #[error("closed")]
    Closed,
    #[error("nothing came in time")]
    Silent,
    #[error("{0}")]
    Failed(#[from] std::io::Error),
    #[error("{0}")]
    Broken(#[from] crate::io::sip::frame::Broken),
    #[error("what came is no SIP")]
    Noise,
    #[error("what we write is not read")]
    Stalled,
    #[error("{0}")]
    Web(Box<tokio_tungstenite::tungstenite::Error>),
}

impl Flow {
    /// Takes a connection over, from now to its end. `dialled` is the name we called, where it was us who called.
    pub async fn open<S>(
        stream: S,
        origin: Origin,
        dialled: Option<&str>,
        exchange: &Arc<Exchange>,
    ) -> rsipstack::Result<Arc<Flow>>
    where
        S: AsyncRead + AsyncWrite + Send + 'static,
    {
        let (flow, outlet) = Flow::begin(origin, dialled, exchange).await?;
        let (reader, writer) = tokio::io::split(stream);
        let (reading, writing, exchange) = (flow.clone(), flow.clone(), exchange.clone());
        let stall = exchange.timers.whole();
        tokio::spawn(async move {
            let over = reading.gone.run_until_cancelled(reading.read(reader, &exchange)).await;
            reading.end(over, &exchange);
        });
        tokio::spawn(async move {
            let over = writing.gone.run_until_cancelled(write(writer, outlet, stall)).await;
            writing.written(over);
        });
        Ok(flow)
    }

    /// A connection that nobody reads or writes yet.
    pub(super) async fn begin(
        origin: Origin,
        dialled: Option<&str>,
        exchange: &Arc<Exchange>,
    ) -> rsipstack::Result<(Arc<Flow>, Outlet)> {
        let (answers, answered) = mpsc::channel(ANSWERS);
        let (to_peer, messages) = mpsc::unbounded_channel();
        let (_, nothing) = mpsc::unbounded_channel();
        let gone = exchange.stop.child_token();
        let address = sip_address(exchange.listen.transport, origin.address);
        let channel = ChannelConnection::create_connection(nothing, to_peer, address, Some(gone.clone())).await?;
        let flow = Arc::new(Flow { origin, channel, answers, gone, proven: AtomicBool::new(false) });
        // Before anything is read of it: what comes is asked for its origin at once.
        exchange.remember(&flow, dialled);
        let (copies, path) = (exchange.copies.clone(), path_to(exchange, flow.origin.address));
        Ok((flow, Outlet { answers: answered, messages, copies, path }))
    }

    /// The stack's name for it.
    pub fn connection(&self) -> SipConnection {
        SipConnection::Channel(self.channel.clone())
    }

    /// Whether it still stands.
    pub fn is_open(&self) -> bool {
        !self.gone.is_cancelled()
    }

    /// Waits for its end.
    pub async fn over(&self) {
        self.gone.cancelled().await;
    }

    /// Whether something came on it that we serve.
    pub(super) fn is_proven(&self) -> bool {
        self.proven.load(Ordering::Relaxed)
    }

    /// Nothing is written on it any more.
    pub(super) fn written(&self, over: Option<Over>) {
        if let Some(Over::Stalled) = over {
            tracing::warn!(peer = %self.origin.address, "a SIP connection is closed: what we write is not read");
        }
        self.gone.cancel();
    }

    /// Nothing is read of it any more.
    pub(super) fn end(&self, over: Option<Over>, exchange: &Exchange) {
        self.gone.cancel();
        exchange.forget(self);
        let peer = self.origin.address;
        match over {
            None | Some(Over::Closed) => tracing::debug!(%peer, "a SIP connection is closed"),
            Some(why) => tracing::info!(%peer, %why, "a SIP connection is closed"),
        }
    }

    async fn read<S: AsyncRead>(&self, mut reader: ReadHalf<S>, exchange: &Exchange) -> Over {
        let opened = Instant::now();
        let (mut framer, mut began) = (Framer::default(), None);
        let mut chunk = vec![0; CHUNK];
        loop {
            let patience = match began {
                Some(began) => began + exchange.timers.whole(),
                None if self.is_proven() => Instant::now() + IDLE,
                None => opened + exchange.timers.unproven(),
            };
            match tokio::time::timeout_at(patience, reader.read(&mut chunk)).await {
                Err(_) => return Over::Silent,
                Ok(Ok(0)) => return Over::Closed,
                Ok(Err(error)) => return Over::Failed(error),
                Ok(Ok(count)) => framer.push(chunk.get(..count).unwrap_or_default()),
            }
            let mut whole = false;
            loop {
                match framer.next() {
                    Ok(Some(frame)) => {
                        whole = true;
                        if let Err(over) = self.take(frame, exchange).await {
                            return over;
                        }
                    }
                    Ok(None) => break,
                    Err(broken) => return broken.into(),
                }
            }
            began = match (framer.is_partial(), began, whole) {
                (false, _, _) => None,
                (true, Some(began), false) => Some(began),
                (true, _, _) => Some(Instant::now()),
            };
        }
    }

    async fn take(&self, frame: Frame, exchange: &Exchange) -> Result<(), Over> {
        match frame {
            Frame::Ping => self.answer(b"\r\n".to_vec()).await,
            Frame::Message(bytes) => self.judged(&bytes, exchange).await,
        }
    }

    /// A message that came.
    pub(super) async fn judged(&self, bytes: &[u8], exchange: &Exchange) -> Result<(), Over> {
        let (verdict, path) = (exchange.door.judge(bytes, &self.origin), path_to(exchange, self.origin.address));
        if !matches!(verdict, Verdict::Noise) {
            exchange.copies.copy(path.back(), bytes);
        }
        match verdict {
            Verdict::Noise => Err(Over::Noise),
            Verdict::Drop => Ok(()),
            Verdict::Answer(head, fault) => {
                let (answer, _) = exchange.door.response(&head, &fault, self.origin.address);
                exchange.copies.copy(path, &answer);
                self.answer(answer).await
            }
            Verdict::Pass => self.pass(bytes, exchange).await,
        }
    }

    pub(super) async fn answer(&self, bytes: Vec<u8>) -> Result<(), Over> {
        self.answers.send(bytes).await.map_err(|_| Over::Closed)
    }

    async fn pass(&self, bytes: &[u8], exchange: &Exchange) -> Result<(), Over> {
        let message = SipMessage::try_from(bytes).map_err(|_| Over::Noise)?;
        let transport = stack_transport(exchange.listen.transport);
        let message =
            SipConnection::update_msg_received(message, self.origin.address, transport).map_err(|_| Over::Noise)?;
        self.proven.store(true, Ordering::Relaxed);
        self.lead(&message, exchange);
        let from = sip_address(exchange.listen.transport, self.origin.address);
        exchange.threshold.step_on().await;
        exchange.tell(TransportEvent::Incoming(message, self.connection(), from));
        Ok(())
    }

    /// Requests of ours in the dialog of this message go by this connection from now on (RFC 5626 §5.3).
    fn lead(&self, message: &SipMessage, exchange: &Exchange) {
        let call_id = message.call_id_header().map(|id| id.value()).unwrap_or_default();
        let own = match message {
            SipMessage::Request(_) => message.to_header().ok().map(|to| to.value()),
            SipMessage::Response(_) => message.from_header().ok().map(|from| from.value()),
        };
        let tag = own.and_then(|own| crate::io::sip::message::parameter(own, "tag"));
        if let (Some(tag), Some(board)) = (tag, exchange.board.upgrade())
            && let Some(line) = board.line(call_id, tag)
        {
            line.came_by(self.connection());
        }
    }
}

/// What goes to the peer, in the order in which it is told; of which something must move within `stall`.
async fn write<S: AsyncWrite>(mut writer: WriteHalf<S>, outlet: Outlet, stall: Duration) -> Over {
    let Outlet { mut answers, messages: mut from_stack, copies, path } = outlet;
    let (mut backlog, mut moved, mut unflushed) = (BytesMut::new(), Instant::now(), false);
    loop {
        let idle = backlog.is_empty() && !unflushed;
        tokio::select! {
            event = from_stack.recv() => match event {
                None => return Over::Closed,
                Some(TransportEvent::Incoming(message, ..)) => {
                    let bytes = message.to_bytes();
                    copies.copy(path, &bytes);
                    backlog.extend_from_slice(&bytes);
                }
                Some(TransportEvent::New(_) | TransportEvent::Closed(_)) => {}
            },
            Some(bytes) = answers.recv(), if backlog.len() < CHUNK => backlog.extend_from_slice(&bytes),
            wrote = tokio::time::timeout_at(moved + stall, step(&mut writer, &backlog)), if !idle => match wrote {
                Err(_) => return Over::Stalled,
                Ok(Err(error)) => return Over::Failed(error),
                Ok(Ok(count)) => {
                    unflushed = !backlog.is_empty();
                    backlog.advance(count);
                    moved = Instant::now();
                }
            },
        }
        if idle {
            moved = Instant::now();
        }
        if backlog.len() > BACKLOG {
            return Over::Stalled;
        }
    }
}

/// Writes some of what waits, or, where nothing does, makes sure that what was written is on its way.
async fn step<S: AsyncWrite>(writer: &mut WriteHalf<S>, backlog: &[u8]) -> std::io::Result<usize> {
    if backlog.is_empty() {
        return writer.flush().await.map(|()| 0);
    }
    match writer.write(backlog).await? {
        0 => Err(std::io::ErrorKind::WriteZero.into()),
        count => Ok(count),
    }
}

/// From us to a peer, for copies: we are known by where we listen, whoever made the connection.
fn path_to(exchange: &Exchange, peer: SocketAddr) -> Path {
    Path { transport: exchange.listen.transport, from: exchange.listen.address, to: peer }
}

/// The stack's name for a transport.
pub fn stack_transport(transport: Transport) -> rsipstack::sip::Transport {
    match transport {
        Transport::Udp => rsipstack::sip::Transport::Udp,
        Transport::Tcp => rsipstack::sip::Transport::Tcp,
        Transport::Tls => rsipstack::sip::Transport::Tls,
        Transport::Ws => rsipstack::sip::Transport::Ws,
        Transport::Wss => rsipstack::sip::Transport::Wss,
    }
}

/// The stack's name for an address.
pub fn sip_address(transport: Transport, address: SocketAddr) -> SipAddr {
    SipAddr { r#type: Some(stack_transport(transport)), addr: HostWithPort::from(address) }
}
