//! How the server is: alive, ready, and in figures. Tells nothing of calls or people, and needs no token.

use super::AppState;
use super::problem::Problem;
use crate::io::metrics;
use crate::io::sip::Registrations;
use crate::io::stt::Recogniser;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

/// What the parts of the server say of themselves.
#[derive(Default)]
pub struct Readiness {
    sip: AtomicBool,
    recogniser: OnceLock<Recogniser>,
    registrations: OnceLock<Registrations>,
}

/// Whether speech is heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Ears {
    /// There is no model: the server runs without ears, as configured or for want of one.
    None,
    /// There is a model, and no recogniser runs at the moment.
    Starting,
    /// A recogniser runs.
    Ready,
}

impl Readiness {
    /// SIP is listened to, or no longer.
    pub fn set_sip(&self, up: bool) {
        self.sip.store(up, Ordering::Relaxed);
    }

    /// There are ears.
    pub fn set_recogniser(&self, recogniser: Recogniser) {
        // There is one for the life of the server.
        let _ = self.recogniser.set(recogniser);
    }

    /// Where the server is registered.
    pub fn set_registrations(&self, registrations: Registrations) {
        // They are there for the life of the server.
        let _ = self.registrations.set(registrations);
    }

    fn ears(&self) -> Ears {
        match self.recogniser.get().map(|r| r.counts().running) {
            None => Ears::None,
            Some(0) => Ears::Starting,
            Some(_) => Ears::Ready,
        }
    }
}

#[derive(Serialize)]
struct Alive {
    status: &'static str,
    version: &'static str,
}

#[derive(Serialize)]
struct Ready {
    ready: bool,
    journal: &'static str,
    sip: &'static str,
    ears: Ears,
    /// Only where some are configured.
    #[serde(skip_serializing_if = "Option::is_none")]
    registrations: Option<Registered>,
    /// Why no further call is taken, only where none is.
    #[serde(skip_serializing_if = "Option::is_none")]
    refusing: Option<Refusing>,
}

/// Why no further call is taken.
#[derive(Serialize)]
struct Refusing {
    code: &'static str,
    detail: String,
    /// Calls that go on.
    calls: usize,
}

/// Extensions of other telephone systems that the server is to be, and those that it is now.
#[derive(Serialize)]
struct Registered {
    configured: usize,
    registered: usize,
}

pub(super) async fn alive() -> Response {
    axum::Json(Alive { status: "ok", version: env!("CARGO_PKG_VERSION") }).into_response()
}

/// 200 where another call can be taken now, and kept. Ears are told of and not needed: calls go on without.
pub(super) async fn ready(State(api): State<Arc<AppState>>) -> Response {
    let (journal, sip) = (api.journal.is_writable(), api.readiness.sip.load(Ordering::Relaxed));
    let refusing = api.calls.room().err();
    let ready = journal && sip && refusing.is_none() && !api.shutdown.is_cancelled();
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let registrations = api.readiness.registrations.get().map(Registrations::counts);
    let body = Ready {
        registrations: registrations
            .filter(|(configured, _)| *configured > 0)
            .map(|(configured, registered)| Registered { configured, registered }),
        ready,
        journal: if journal { "writable" } else { "failing" },
        sip: if sip { "up" } else { "down" },
        ears: api.readiness.ears(),
        refusing: refusing.map(|why| Refusing { code: why.word(), detail: why.to_string(), calls: api.calls.count() }),
    };
    (status, axum::Json(body)).into_response()
}

pub(super) async fn metrics(State(api): State<Arc<AppState>>) -> Result<Response, Problem> {
    if let Some(recogniser) = api.readiness.recogniser.get() {
        api.metrics.speech.follow(recogniser.counts());
    }
    let process = &api.metrics.process;
    process.tasks.set(tokio::runtime::Handle::current().metrics().num_alive_tasks() as i64);
    if let Ok(files) = std::fs::read_dir("/proc/self/fd") {
        process.open_files.set(files.count() as i64);
    }
    let text = api.metrics.encode().map_err(|e| Problem::internal(&e))?;
    Ok(([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response())
}
