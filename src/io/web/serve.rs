//! Accepts connections and speaks HTTP/1.1 on them, within limits a stranger cannot exceed.

use super::{AppState, router};
use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Connections at once. When all are taken, further ones wait in the kernel's queue.
const CONNECTIONS: usize = 1_024;

/// How long a client may take over the head of a request, and be idle between two.
const HEAD: Duration = Duration::from_secs(15);

/// Header lines of a request, and what its head may take in memory.
const HEADERS: usize = 64;
const HEAD_BYTES: usize = 32 * 1024;

/// How long requests in work may go on once the server stops.
const DRAIN: Duration = Duration::from_secs(5);

/// Serves until `state.shutdown` is cancelled; then lets requests in work end, for 5 s at most.
pub async fn serve(listener: TcpListener, state: AppState) {
    let shutdown = state.shutdown.clone();
    let router = router(state);
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    let connections = TaskTracker::new();
    let _ = shutdown.run_until_cancelled(accept(&listener, &router, &room, &connections, &shutdown)).await;
    drop(listener);
    connections.close();
    // Whoever is not done by then is cut off when the runtime ends.
    let _ = timeout(DRAIN, connections.wait()).await;
}

async fn accept(
    listener: &TcpListener,
    router: &Router,
    room: &Arc<Semaphore>,
    connections: &TaskTracker,
    shutdown: &CancellationToken,
) {
    // The semaphore is never closed.
    while let Ok(place) = room.clone().acquire_owned().await {
        match listener.accept().await {
            Ok((stream, _)) => drop(connections.spawn(connection(stream, router.clone(), place, shutdown.clone()))),
            Err(error) => {
                // Out of file descriptors, or a client that left before it was accepted: neither ends the server.
                tracing::warn!(%error, "a connection could not be accepted");
                sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

/// One connection, from its first byte to its last; a WebSocket lives on in a task of its own.
async fn connection(stream: TcpStream, router: Router, _place: OwnedSemaphorePermit, shutdown: CancellationToken) {
    let _ = stream.set_nodelay(true);
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_headers(HEADERS)
        .max_buf_size(HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router))
        .with_upgrades();
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended badly");
    }
}
