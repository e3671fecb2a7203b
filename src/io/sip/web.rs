//! WebSockets that carry SIP (RFC 7118): one message of SIP in each of theirs, either way.
//!
//! In come connections, ours or others'; out come flows like those of TCP. Who is on a page of the World Wide Web says of
//! which (`Origin`), and only pages that the configuration names are let in: a browser lends its user's network to
//! any page. A peer that answers no ping is gone.

use crate::io::sip::door::Origin;
use crate::io::sip::exchange::Exchange;
use crate::io::sip::flow::{BACKLOG, CHUNK, Flow, Outlet, Over};
use crate::io::sip::frame::{MAX_BODY, MAX_HEAD};
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use rsipstack::transport::connection::TransportEvent;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::http::{HeaderValue, StatusCode, header};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Bytes, Error, Message};
use tokio_tungstenite::{WebSocketStream, accept_hdr_async_with_config, client_async_with_config};

/// What is spoken inside (RFC 7118 §4.1).
const SUBPROTOCOL: &str = "sip";
/// Pings that may go without any sign of the peer.
const PINGS: u32 = 3;

/// Takes a WebSocket that a client asks for; `origins` are the pages that may.
pub async fn accept<S>(stream: S, origins: &[String]) -> io::Result<WebSocketStream<S>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    #[allow(clippy::result_large_err, reason = "the crate's signature")]
    let greet = |request: &Request, mut response: Response| match refusal(request, origins) {
        None => {
            response.headers_mut().insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(SUBPROTOCOL));
            Ok(response)
        }
        Some((status, why)) => {
            let mut refused = ErrorResponse::new(Some(why.to_owned()));
            *refused.status_mut() = status;
            Err(refused)
        }
    };
    accept_hdr_async_with_config(stream, greet, Some(bounds())).await.map_err(io::Error::other)
}

/// Asks `address` for a WebSocket.
pub async fn connect<S>(stream: S, address: SocketAddr, secure: bool) -> io::Result<WebSocketStream<S>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let scheme = if secure { "wss" } else { "ws" };
    let mut request = format!("{scheme}://{address}/").into_client_request().map_err(io::Error::other)?;
    request.headers_mut().insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(SUBPROTOCOL));
    let (socket, _) = client_async_with_config(request, stream, Some(bounds())).await.map_err(io::Error::other)?;
    Ok(socket)
}

/// Why a client does not get its WebSocket.
fn refusal(request: &Request, origins: &[String]) -> Option<(StatusCode, &'static str)> {
    let offered = request.headers().get_all(header::SEC_WEBSOCKET_PROTOCOL).iter();
    let mut offered = offered.filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','));
    if !offered.any(|name| name.trim().eq_ignore_ascii_case(SUBPROTOCOL)) {
        return Some((StatusCode::BAD_REQUEST, "the subprotocol spoken here is sip"));
    }
    let page = request.headers().get(header::ORIGIN)?;
    let may = |allowed: &String| allowed == "*" || page.to_str().is_ok_and(|page| page.eq_ignore_ascii_case(allowed));
    (!origins.iter().any(may)).then_some((StatusCode::FORBIDDEN, "this page may not connect: see ws_origins"))
}

/// Nothing longer than a message of SIP may be is read, and no more is kept than on any other connection.
fn bounds() -> WebSocketConfig {
    let most = MAX_HEAD + MAX_BODY;
    WebSocketConfig::default()
        .read_buffer_size(CHUNK)
        .write_buffer_size(0)
        .max_write_buffer_size(BACKLOG)
        .max_message_size(Some(most))
        .max_frame_size(Some(most))
}

/// Takes a WebSocket over, from now to its end. `dialled` is the name we called, where it was us who called.
pub async fn open<S>(
    socket: WebSocketStream<S>,
    origin: Origin,
    dialled: Option<&str>,
    exchange: &Arc<Exchange>,
) -> rsipstack::Result<Arc<Flow>>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (flow, outlet) = Flow::begin(origin, dialled, exchange).await?;
    let (sink, stream) = socket.split();
    let (reading, writing, exchange) = (flow.clone(), flow.clone(), exchange.clone());
    let (stall, every) = (exchange.timers.whole(), exchange.timers.ping());
    tokio::spawn(async move {
        let over = reading.gone.run_until_cancelled(read(&reading, stream, &exchange)).await;
        reading.end(over, &exchange);
    });
    tokio::spawn(async move {
        let over = writing.gone.run_until_cancelled(Writer::new(sink, stall, every).run(outlet)).await;
        writing.written(over);
    });
    Ok(flow)
}

async fn read<S>(flow: &Flow, mut stream: SplitStream<WebSocketStream<S>>, exchange: &Exchange) -> Over
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let opened = Instant::now();
    loop {
        let patience = match flow.is_proven() {
            true => Instant::now() + exchange.timers.ping().saturating_mul(PINGS),
            false => opened + exchange.timers.unproven(),
        };
        let came = match tokio::time::timeout_at(patience, stream.next()).await {
            Err(_) => return Over::Silent,
            Ok(None | Some(Ok(Message::Close(_)))) => return Over::Closed,
            Ok(Some(Err(error))) => return Over::Web(Box::new(error)),
            Ok(Some(Ok(Message::Text(text)))) => Bytes::from(text),
            Ok(Some(Ok(Message::Binary(bytes)))) => bytes,
            // The crate answers pings.
            Ok(Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_)))) => continue,
        };
        let taken = match came.iter().all(u8::is_ascii_whitespace) {
            // The keep-alive of streams (RFC 5626 §3.5.1), which some clients send here too.
            true if came.len() >= 4 => flow.answer(b"\r\n".to_vec()).await,
            true => Ok(()),
            false => flow.judged(&came, exchange).await,
        };
        if let Err(over) = taken {
            return over;
        }
    }
}

/// What goes to the peer.
struct Writer<S> {
    sink: SplitSink<WebSocketStream<S>, Message>,
    waiting: VecDeque<Message>,
    /// Bytes of what waits.
    size: usize,
    unflushed: bool,
    /// When something last moved, or had no need to.
    moved: Instant,
    stall: Duration,
    every: Duration,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Writer<S> {
    fn new(sink: SplitSink<WebSocketStream<S>, Message>, stall: Duration, every: Duration) -> Self {
        Writer { sink, waiting: VecDeque::new(), size: 0, unflushed: false, moved: Instant::now(), stall, every }
    }

    /// In the order in which it is told, of which something must move within `stall`; and a ping `every` so often.
    async fn run(mut self, outlet: Outlet) -> Over {
        let Outlet { mut answers, mut messages, copies, path } = outlet;
        let mut ping = tokio::time::interval_at(Instant::now() + self.every, self.every);
        loop {
            let idle = self.waiting.is_empty() && !self.unflushed;
            let due = self.moved + self.stall;
            tokio::select! {
                event = messages.recv() => match event {
                    None => return Over::Closed,
                    Some(TransportEvent::Incoming(message, ..)) => {
                        let bytes = message.to_bytes();
                        copies.copy(path, &bytes);
                        self.push(written(bytes.to_vec()));
                    }
                    Some(TransportEvent::New(_) | TransportEvent::Closed(_)) => {}
                },
                Some(bytes) = answers.recv(), if self.size < CHUNK => self.push(written(bytes)),
                _ = ping.tick() => self.push(Message::Ping(Bytes::new())),
                wrote = tokio::time::timeout_at(due, self.step()), if !idle => match wrote {
                    Err(_) => return Over::Stalled,
                    Ok(Err(error)) => return Over::Web(Box::new(error)),
                    Ok(Ok(())) => self.moved = Instant::now(),
                },
            }
            if idle {
                self.moved = Instant::now();
            }
            if self.size > BACKLOG {
                return Over::Stalled;
            }
        }
    }

    fn push(&mut self, message: Message) {
        self.size = self.size.saturating_add(message.len());
        self.waiting.push_back(message);
    }

    /// Writes the first of what waits, or, where nothing does, makes sure that what was written is on its way. Nothing is
    /// lost where it is given up between its awaits.
    async fn step(&mut self) -> Result<(), Error> {
        let sink = &mut self.sink;
        if self.waiting.is_empty() {
            poll_fn(|context| sink.poll_flush_unpin(context)).await?;
            self.unflushed = false;
            return Ok(());
        }
        poll_fn(|context| sink.poll_ready_unpin(context)).await?;
        if let Some(message) = self.waiting.pop_front() {
            self.size = self.size.saturating_sub(message.len());
            self.unflushed = true;
            self.sink.start_send_unpin(message)?;
        }
        Ok(())
    }
}

/// As text where it is text (RFC 7118 §5: either will do).
fn written(bytes: Vec<u8>) -> Message {
    match String::from_utf8(bytes) {
        Ok(text) => Message::Text(text.into()),
        Err(other) => Message::Binary(other.into_bytes().into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(protocol: &str, page: Option<&str>, origins: &[&str]) -> Option<u16> {
        let request = Request::builder().header(header::SEC_WEBSOCKET_PROTOCOL, protocol);
        let request = page.into_iter().fold(request, |request, page| request.header(header::ORIGIN, page));
        let origins: Vec<String> = origins.iter().map(|origin| (*origin).to_owned()).collect();
        refusal(&request.body(()).unwrap(), &origins).map(|(status, _)| status.as_u16())
    }

    #[test]
    fn only_sip_is_spoken_and_only_to_pages_that_are_named() {
        let desk = "https://desk.example";
        for (protocol, page, origins, status) in [
            ("sip", None, &[][..], None),
            ("msrp, SIP", None, &[], None),
            ("msrp", None, &["*"], Some(400)),
            ("xsip", None, &[], Some(400)),
            ("sip", Some(desk), &[], Some(403)),
            ("sip", Some(desk), &["https://other.example", desk], None),
            ("sip", Some("https://desk.example.evil"), &[desk], Some(403)),
            ("sip", Some("null"), &[desk], Some(403)),
            ("sip", Some("null"), &["*"], None),
        ] {
            assert_eq!(refused(protocol, page, origins), status, "{protocol} {page:?} {origins:?}");
        }
    }
}
