//! The HTTP API (DESIGN §6): what calls are doing, what they did, and what they are told to do.
//!
//! In come requests, each with the bearer token; out go JSON, CloudEvents, recordings, and problems (RFC 9457) that say
//! what to do next. Whether the server lives, is ready and how it is doing is told to everyone who can reach it.
//! Knows calls by [`Calls`] and [`Journal`] only.

mod auth;
mod calls;
pub mod cloud_event;
mod health;
mod history;
mod live;
mod problem;
mod range;
mod recording;
mod request;
mod serve;
mod supervisors;

pub use health::Readiness;
pub use serve::serve;

use crate::config::Secret;
use crate::id::Tenant;
use crate::io::calls::Calls;
use crate::io::journal::Journal;
use crate::io::metrics::Metrics;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{HeaderValue, header};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::Response;
use axum::routing::{get, patch, post};
use axum::{Router, body::Body};
use problem::Problem;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// What a request may carry: every body here is a few sentences of JSON.
const BODY: usize = 64 * 1024;

/// How long an answer may take, the request's body included. Synthesis is the slowest thing done for one.
const ANSWER: Duration = Duration::from_secs(20);

/// What the API works on.
#[derive(Clone)]
pub struct AppState {
    /// The calls of this node.
    pub calls: Calls,
    /// What happened in them.
    pub journal: Journal,
    /// The store's folder, which holds the recordings.
    pub store: PathBuf,
    /// Whose calls these are.
    pub tenant: Tenant,
    /// What a request must carry.
    pub token: Secret,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Whether there is SIP, and whether there are ears.
    pub readiness: Arc<Readiness>,
    /// Ends WebSockets and the acceptance of connections.
    pub shutdown: CancellationToken,
}

/// The API's routes.
pub fn router(state: AppState) -> Router {
    let state = Arc::new(state);
    Router::new()
        .route("/v1/calls", get(calls::list).post(calls::originate))
        .route("/v1/calls/{id}", get(calls::show).delete(calls::hangup))
        .route("/v1/calls/{id}/spy", post(calls::spy))
        .route("/v1/calls/{id}/whisper", post(calls::whisper))
        .route("/v1/calls/{id}/barge", post(calls::barge))
        .route("/v1/calls/{id}/say", post(calls::say))
        .route("/v1/calls/{id}/consent", post(calls::consent))
        .route("/v1/calls/{id}/pause", post(calls::pause))
        .route("/v1/calls/{id}/resume", post(calls::resume))
        .route("/v1/calls/{id}/close", post(calls::close))
        .route("/v1/calls/{id}/supervisors", post(supervisors::summon))
        .route("/v1/calls/{id}/legs/{leg}/vouch", post(supervisors::vouch))
        .route("/v1/calls/{id}/supervisors/{leg}", patch(supervisors::change).delete(supervisors::remove))
        .route("/v1/calls/{id}/transcript", get(history::transcript))
        .route("/v1/calls/{id}/events", get(history::events))
        .route("/v1/calls/{id}/recording", get(recording::download))
        .route("/v1/calls/{id}/recording.wav", get(recording::wav))
        .route("/v1/events", get(live::events))
        .route("/healthz", get(health::alive))
        .route("/readyz", get(health::ready))
        .route("/metrics", get(health::metrics))
        .fallback(|| async { Problem::no_such_path() })
        .method_not_allowed_fallback(|| async { Problem::method_not_allowed() })
        .layer(DefaultBodyLimit::max(BODY))
        .layer(from_fn(in_time))
        .layer(from_fn_with_state(state.clone(), auth::check))
        .layer(from_fn_with_state(state.clone(), count))
        .with_state(state)
}

/// Counts the answer, and keeps what people said out of caches.
async fn count(State(state): State<Arc<AppState>>, request: Request<Body>, next: Next) -> Response {
    let mut response = next.run(request).await;
    state.metrics.http.requests.inc();
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

async fn in_time(request: Request<Body>, next: Next) -> Result<Response, Problem> {
    tokio::time::timeout(ANSWER, next.run(request)).await.map_err(|_| Problem::timeout())
}
