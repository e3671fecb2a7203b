//! Events as they happen, over a WebSocket: one text frame a CloudEvent, watermarks (`journal.committed`) among them.
//!
//! A reader that cannot keep up is told so and closed (1013): it can fetch what it missed from `/v1/calls/{id}/events`.

use super::AppState;
use super::cloud_event::CloudEvent;
use super::problem::Problem;
use super::request::Asked;
use crate::id::CallId;
use crate::io::clock;
use crate::io::journal::Published;
use axum::extract::State;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code};
use axum::response::Response;
use serde::Deserialize;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::{interval, timeout};

/// How often a silent reader is asked whether it is there, and when it is taken for gone.
const PING: Duration = Duration::from_secs(20);
const GONE: Duration = Duration::from_secs(65);

/// How long one frame may wait for the reader's window to open.
const SEND: Duration = Duration::from_secs(10);

/// What a reader may send: control frames and small talk, which is ignored.
const INCOMING: usize = 4 * 1024;

/// Readers at once.
const READERS: i64 = 512;

/// Which events.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Filter {
    call: Option<CallId>,
}

/// One reader.
struct Reader {
    socket: WebSocket,
    filter: Filter,
    heard: Instant,
}

/// Why a reader is done with.
enum Done {
    /// It left, or its connection broke.
    Left,
    /// It has not read for so long that it cannot even be told.
    Stuck,
    /// It is told why.
    Closed(u16, String),
}

pub(super) async fn events(
    State(api): State<Arc<AppState>>,
    Asked(filter): Asked<Filter>,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, Problem> {
    let upgrade = upgrade.map_err(|_| Problem::websocket_expected())?;
    if api.metrics.http.sockets_live.get() >= READERS {
        return Err(Problem::too_many_readers());
    }
    // From here on nothing is missed, however long the upgrade takes.
    let published = api.journal.subscribe();
    let upgrade = upgrade.max_message_size(INCOMING).max_frame_size(INCOMING).write_buffer_size(0);
    Ok(upgrade.on_upgrade(move |socket| async move {
        api.metrics.http.sockets_live.inc();
        Reader { socket, filter, heard: clock::now() }.run(&api, published).await;
        api.metrics.http.sockets_live.dec();
    }))
}

impl Reader {
    async fn run(mut self, api: &AppState, mut published: Receiver<Published>) {
        let mut pings = interval(PING);
        let done = loop {
            let step = tokio::select! {
                incoming = self.socket.recv() => self.incoming(incoming),
                happened = published.recv() => self.happened(api, happened).await,
                _ = pings.tick() => self.ping().await,
                () = api.shutdown.cancelled() => Err(Done::Closed(close_code::AWAY, "the server stops".into())),
            };
            if let Err(done) = step {
                break done;
            }
        };
        match done {
            Done::Left => {}
            Done::Stuck => drop(api.metrics.http.sockets_too_slow.inc()),
            Done::Closed(code, reason) => {
                // The reader may be gone: then it is not told.
                let _ = self.send(Message::Close(Some(CloseFrame { code, reason: reason.into() }))).await;
            }
        }
    }

    fn incoming(&mut self, incoming: Option<Result<Message, axum::Error>>) -> Result<(), Done> {
        match incoming {
            None | Some(Err(_) | Ok(Message::Close(_))) => Err(Done::Left),
            Some(Ok(Message::Text(_) | Message::Binary(_) | Message::Ping(_) | Message::Pong(_))) => {
                self.heard = clock::now();
                Ok(())
            }
        }
    }

    async fn happened(&mut self, api: &AppState, happened: Result<Published, RecvError>) -> Result<(), Done> {
        match happened {
            Ok(published) if self.filter.wants(&published) => self.event(&published).await,
            Ok(_) => Ok(()),
            Err(RecvError::Closed) => Err(Done::Closed(close_code::AWAY, "the journal has stopped".into())),
            Err(RecvError::Lagged(missed)) => {
                api.metrics.http.sockets_too_slow.inc();
                let next = "read on from /v1/calls/{id}/events?after=";
                Err(Done::Closed(close_code::AGAIN, format!("too slow: {missed} events missed; {next}")))
            }
        }
    }

    async fn event(&mut self, published: &Published) -> Result<(), Done> {
        match serde_json::to_string(&CloudEvent::from(published)) {
            Ok(text) => self.send(Message::Text(text.into())).await,
            Err(error) => Err(Done::Closed(close_code::ERROR, error.to_string())),
        }
    }

    async fn ping(&mut self) -> Result<(), Done> {
        if clock::now().duration_since(self.heard) > GONE {
            return Err(Done::Left);
        }
        self.send(Message::Ping(Default::default())).await
    }

    async fn send(&mut self, message: Message) -> Result<(), Done> {
        match timeout(SEND, self.socket.send(message)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(Done::Left),
            Err(_) => Err(Done::Stuck),
        }
    }
}

impl Filter {
    fn wants(&self, published: &Published) -> bool {
        let of = match published {
            Published::Event(recorded) => recorded.id.call,
            Published::Committed { call, .. } => *call,
        };
        self.call.is_none_or(|call| call == of)
    }
}
